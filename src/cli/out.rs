//! What a client says: data on standard output, one line for each error on standard error; and its exit codes.
//!
//! Must never panic when nobody listens, and never hide that data could not be written.

use std::fmt::Display;
use std::io::{self, Write};

pub use crate::unix::report::plain as cause;

/// Everything that was asked was done.
pub const DONE: u8 = 0;

/// The command line is wrong, or, from `svok`, nobody supervises.
pub const USAGE: u8 = 100;

/// Something else went wrong.
pub const FAILED: u8 = 111;

/// One line on standard error: the program, and what went wrong.
pub fn complain(program: &str, text: impl Display) {
    // In one write, so that lines of many clients do not mix; when even this fails there is nobody left to tell.
    let _ = io::stderr().write_all(format!("{program}: {text}\n").as_bytes());
}

/// Writes data to standard output and returns the exit code.
#[must_use]
pub fn print(program: &str, data: &[u8]) -> u8 {
    let mut out = io::stdout().lock();
    match out.write_all(data).and_then(|()| out.flush()) {
        Ok(()) => DONE,
        // As in `svtree status | head -1`: the reader has what it wanted.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => DONE,
        Err(error) => {
            complain(program, format!("writing to standard output: {}", cause(&error)));
            FAILED
        }
    }
}
