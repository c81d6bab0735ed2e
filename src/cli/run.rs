//! `svtree run`, which is `svscan`: hands its options to the parent, or first of all itself to a keeper.
//!
//! The only client file that may name the parent. Must never decide how the tree is run.

use std::ffi::OsString;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::out;
use super::roots::Roots;
use crate::keeper::{self, Kept};
use crate::parent::{self, Options};
use crate::pure::config::parse_duration;
use crate::pure::log::To;
use crate::pure::name::ModuleName;
use crate::unix::{executable, ward};

/// What `svtree run` and `svscan` take.
#[derive(Args, Clone, Debug)]
pub struct RunArgs {
    /// The directory of the services
    #[arg(value_name = "SERVICES", conflicts_with = "services")]
    directory: Option<PathBuf>,
    /// Where the programs' output goes
    ///
    /// For modules that do not say. Without it: `inherit` where standard output is a terminal, else `file`.
    #[arg(long, value_name = "WHERE")]
    log: Option<LogArg>,
    /// Refuse modules that others can write
    #[arg(long)]
    strict: bool,
    /// How long a directory that is filled in place must be quiet before it starts
    #[arg(long, value_name = "TIME", default_value = "100ms", value_parser = parse_duration)]
    settle: Duration,
    /// At shutdown no stop takes longer than this
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    stop_within: Option<Duration>,
    /// End everything when module NAME has ended for good, and exit with its code, or 128 and its signal
    ///
    /// It has ended for good when it ended and is not to be restarted, was given up, told to be down, left by `x`, or
    /// taken away. A module that is not there yet is waited for. Where its code is not known svtree exits 111.
    #[arg(long, value_name = "NAME", value_parser = module)]
    exit_with: Option<ModuleName>,
    /// End everything and exit with 1 when a module or a group at the top of the tree has failed
    #[arg(long)]
    exit_on_failure: bool,
    /// Limits and alarms of modules, in a file such as Baidu's supervise reads
    #[arg(long, value_name = "FILE")]
    supervise_conf: Option<PathBuf>,
    /// Stand in front of svscan as a small process that starts it again when it dies; always so as PID 1
    #[arg(long)]
    keep: bool,
}

fn module(text: &str) -> Result<ModuleName, String> {
    ModuleName::new(text.as_bytes()).map_err(|_| "expected the name of a module, such as web or group/web".to_owned())
}

/// Which svscan of its keeper this is; what the keeper says in front of the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Turn {
    /// The first: it may find that it cannot run at all.
    First,
    /// One after another that died: programs run, so it never gives up.
    Again,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LogArg {
    /// Into files below the log root, one directory for each module
    File,
    /// To svtree's own standard output, each line with the name of its module
    Inherit,
    /// Nowhere
    None,
}

/// Runs the tree until it is told to end.
#[must_use]
pub fn run(program: &str, args: RunArgs, kept: Option<Turn>, roots: Roots) -> u8 {
    let result = match kept {
        None if args.keep || ward::is_first() => keep(program),
        Some(_) | None => tree(program, args, kept, roots),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            out::complain(program, error);
            if kept == Some(Turn::Again) {
                ward::die();
            }
            out::FAILED
        }
    }
}

fn tree(program: &str, args: RunArgs, kept: Option<Turn>, roots: Roots) -> Result<u8, String> {
    parent::run(Options {
        program: program.to_owned(),
        services: args.directory.unwrap_or(roots.services),
        status: roots.status,
        logs: roots.logs,
        log: match args.log {
            Some(LogArg::File) => To::File,
            Some(LogArg::Inherit) => To::Inherit,
            Some(LogArg::None) => To::None,
            None if std::io::stdout().is_terminal() => To::Inherit,
            None => To::File,
        },
        settle: args.settle,
        stop_within: args.stop_within,
        strict: args.strict,
        exit_with: args.exit_with,
        exit_on_failure: args.exit_on_failure,
        supervise_conf: args.supervise_conf,
        kept: kept.is_some(),
    })
}

/// Starts this very command line again behind a keeper.
fn keep(program: &str) -> Result<u8, String> {
    let mut arguments = std::env::args_os();
    let called = arguments.next().unwrap_or_default();
    let others: Vec<OsString> = arguments.collect();
    let with = |turn: &str| [OsString::from(turn)].into_iter().chain(others.iter().cloned()).collect();
    keeper::run(Kept {
        program: program.to_owned(),
        executable: executable::path(&called),
        first: with("--kept=first"),
        again: with("--kept=again"),
        called,
    })
}
