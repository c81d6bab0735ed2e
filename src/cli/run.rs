//! `svtree run`, which is `svscan`: hands its options to the parent.
//!
//! The only client file that may name the parent. Must never decide how the tree is run.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::out;
use super::roots::Roots;
use crate::parent::{self, Log, Options};
use crate::pure::config::parse_duration;

/// What `svtree run` and `svscan` take.
#[derive(Args, Clone, Debug)]
pub struct RunArgs {
    /// The directory of the services
    #[arg(value_name = "SERVICES", conflicts_with = "services")]
    directory: Option<PathBuf>,
    /// Where the programs' output goes
    #[arg(long, value_name = "WHERE", default_value = "inherit")]
    log: LogArg,
    /// Refuse modules that others can write
    #[arg(long)]
    strict: bool,
    /// How long a directory that is filled in place must be quiet before it starts
    #[arg(long, value_name = "TIME", default_value = "100ms", value_parser = parse_duration)]
    settle: Duration,
    /// At shutdown no stop takes longer than this
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    stop_within: Option<Duration>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LogArg {
    /// To svtree's own standard output and error
    Inherit,
    /// Nowhere
    None,
}

/// Runs the tree until it is told to end.
#[must_use]
pub fn run(program: &str, args: RunArgs, roots: Roots) -> u8 {
    let options = Options {
        program: program.to_owned(),
        services: args.directory.unwrap_or(roots.services),
        status: roots.status,
        logs: roots.logs,
        log: match args.log {
            LogArg::Inherit => Log::Inherit,
            LogArg::None => Log::None,
        },
        settle: args.settle,
        stop_within: args.stop_within,
        strict: args.strict,
    };
    match parent::run(options) {
        Ok(code) => code,
        Err(error) => {
            out::complain(program, error);
            out::FAILED
        }
    }
}
