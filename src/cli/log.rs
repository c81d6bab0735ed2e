//! `svtree log`: hands its options to the logger.
//!
//! Must never write a log itself.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use super::out;
use crate::logger::alone::{self, Options};
use crate::logger::tree;
use crate::pure::log::{Keeping, LEAST_SIZE, Timestamps};
use crate::pure::size::parse_size;

/// What `svtree log` takes.
#[derive(Args, Clone, Debug)]
pub struct LogArgs {
    /// Where the files are; made if it is not there
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// No file is longer
    #[arg(long, value_name = "SIZE", default_value = "16MiB", value_parser = size)]
    max_size: u64,
    /// So many files are kept beside `current`
    #[arg(long, value_name = "N", default_value_t = 10)]
    keep: u32,
    /// What stands before each line
    #[arg(long, value_name = "KIND", default_value = "iso")]
    timestamps: Kind,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Kind {
    /// 2026-11-22T10:00:00.000000Z
    Iso,
    /// @400000006aa1f7b40737bc33
    Tai64n,
    /// Nothing
    None,
}

/// A size that the files of a log can have.
fn size(text: &str) -> Result<u64, String> {
    match parse_size(text)? {
        size if size < LEAST_SIZE => Err(format!("a file of a log has at least {LEAST_SIZE} bytes")),
        size => Ok(size),
    }
}

/// Logs standard input to its end.
#[must_use]
pub fn run(args: LogArgs) -> u8 {
    let timestamps = match args.timestamps {
        Kind::Iso => Timestamps::Iso,
        Kind::Tai64n => Timestamps::Tai64n,
        Kind::None => Timestamps::None,
    };
    let keeping = Keeping { max_size: args.max_size, keep: args.keep, timestamps };
    match alone::run(&Options { directory: args.directory, keeping }) {
        Ok(()) => out::DONE,
        Err(why) => {
            out::complain("svtree", format!("log: {why}"));
            out::FAILED
        }
    }
}

/// Logs the tree with this status root.
#[must_use]
pub fn tree(status: &Path) -> u8 {
    // It was executed by another name.
    let _ = rustix::thread::set_name(c"svtree");
    match tree::run(status) {
        Ok(()) => out::DONE,
        Err(why) => {
            out::complain("svtree", format!("log-tree: {why}"));
            out::FAILED
        }
    }
}
