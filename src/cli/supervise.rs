//! `supervise`: its command line, and what it says when that is wrong; on standard output, as the original.
//!
//! Must never decide how a module is supervised.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use super::out;
use crate::alone;
use crate::pure::alone::{NotRun, parse};

const USAGE: &str = "\
Usage: supervise -p STATUS/NAME -f \"COMMAND\" [-F CONF] [-r SCRIPT] [-t SECONDS]
       supervise [-F CONF] [-r SCRIPT] [-t SECONDS] -u STATUS/NAME COMMAND ARG...
       supervise STATUS/NAME COMMAND ARG...
       supervise DIR
The first two go to the background; the last one runs DIR/run, as daemontools' own.

  -p, -u DIR   the status directory, which is made if it is missing: status/ and a name after it
  -f COMMAND   what is run and kept running: split at blanks and tabs, without a shell
  -F CONF      settings, in [global] and [NAME]; without it supervise.conf, if that is there
  -r SCRIPT    run before each restart, with the count of exits as its argument
  -t SECONDS   exits further apart are counted from 1 again
  -h, -v       this text; the version
";

/// Supervises one module until it is told to leave.
#[must_use]
pub fn run(arguments: Vec<OsString>) -> u8 {
    let arguments: Vec<Vec<u8>> = arguments.into_iter().map(OsString::into_vec).collect();
    let text = match parse(&arguments) {
        Ok(request) => {
            return alone::run(request).unwrap_or_else(|error| {
                out::complain("supervise", error);
                out::FAILED
            });
        }
        Err(NotRun::Help) => USAGE.to_owned(),
        Err(NotRun::Version) => format!("supervise {} (svtree)\n", env!("CARGO_PKG_VERSION")),
        Err(NotRun::Wrong(why)) => format!("supervise: {why}\n{USAGE}"),
    };
    // Whether anybody reads it or not.
    let _ = out::print("supervise", text.as_bytes());
    out::USAGE
}
