//! The executable of many names: it picks the program and hands back its exit code.

use std::process::ExitCode;

use svtree::cli::{self, Program};

fn main() -> ExitCode {
    let mut args = std::env::args_os();
    let program = Program::called(&args.next().unwrap_or_default());
    ExitCode::from(cli::run(program, args.collect()))
}
