//! The command line of `svtree` and `svscan`.
//!
//! The verbs come from the table of letters, the rest is declared here. Must never act itself.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand};

use super::apply::{self, ApplyArgs};
use super::enable::{self, EnableArgs, Which};
use super::init::{self, InitArgs};
use super::log::{self, LogArgs};
use super::logs::{self, LogsArgs};
use super::plan::{self, PlanArgs};
use super::roots::{RootArgs, Roots};
use super::run::{self, RunArgs, Turn};
use super::svscan::{self, Order};
use super::tree::{self, TreeArgs};
use super::trial::{self, TrialArgs};
use super::verbs::{self, Verb};
use super::why::{self, WhyArgs};

use super::{Program, check, links, out, status};
use crate::pure::handover;
use crate::pure::log::TREE_LOGGER;
use crate::unix::{accounts, probe};

/// A supervision tree for Unix services: drop a directory in, and its program runs
#[derive(Parser)]
#[command(
    name = "svtree",
    version,
    arg_required_else_help = true,
    subcommand_value_name = "VERB",
    subcommand_help_heading = "Verbs",
    disable_help_subcommand = true
)]
struct Svtree {
    #[command(flatten)]
    roots: RootArgs,
    #[arg(long, hide = true)]
    kept: Option<Turn>,
    #[command(subcommand)]
    verb: Static,
}

/// The verbs that are no letters.
#[derive(Subcommand)]
enum Static {
    /// watch SERVICES and run every module in it
    #[command(display_order = 1)]
    Run(RunArgs),
    /// show how the modules are
    #[command(display_order = 2)]
    Status(StatusArgs),
    /// run one program as a container's first process has to
    #[command(display_order = 3)]
    Init(InitArgs),
    /// show what modules wrote
    #[command(display_order = 3)]
    Logs(LogsArgs),
    /// write standard input into rotated files: a logger for a `log/run`
    #[command(display_order = 4)]
    Log(LogArgs),
    /// have modules started when svtree starts: removes the file `down`
    #[command(display_order = 90, after_help = ENABLE)]
    Enable(EnableArgs),
    /// have modules not started when svtree starts: makes the file `down`
    #[command(display_order = 91, after_help = DISABLE)]
    Disable(EnableArgs),
    /// have svscan look at everything again
    #[command(display_order = 100)]
    Rescan,
    /// have svscan stop every module and exit; waits until it has ended
    #[command(display_order = 101)]
    Shutdown(EndArgs),
    /// have svscan exit and leave every program running; waits until it has ended
    #[command(display_order = 102)]
    Leave(EndArgs),
    /// have svscan replace itself by the executable that is there now; waits until it is known whether that worked
    #[command(display_order = 103)]
    Upgrade(UpgradeArgs),
    /// draw the tree: groups and modules, how they are, and what needs what
    #[command(display_order = 3)]
    Tree(TreeArgs),
    /// say why modules are as they are
    #[command(display_order = 3)]
    Why(WhyArgs),
    /// show what would happen if a prepared tree were in force
    #[command(display_order = 5)]
    Plan(PlanArgs),
    /// put a prepared tree in place of the services directory's contents
    #[command(display_order = 6)]
    Apply(ApplyArgs),
    /// run the program of one service directory here, once, as a tree would
    #[command(display_order = 4)]
    Try(TrialArgs),
    /// report every mistake in service directories; starts nothing
    #[command(display_order = 104)]
    Check(CheckArgs),
    /// make the links svscan, svc, svstat, svok and supervise
    #[command(display_order = 105)]
    Links(LinksArgs),
    /// write what all modules say where each of them asks for
    #[command(name = TREE_LOGGER, hide = true)]
    LogTree,
    /// say from which versions this executable can take over, if it is executed with this command line
    #[command(name = probe::VERB, hide = true)]
    TakeOverVersions(TakeOverArgs),
    /// say what the users and groups are that a module names
    #[command(name = accounts::VERB, hide = true)]
    LookUp(LookUpArgs),
}

const ENABLE: &str = "What runs, and what does not, stays as it is unless --now is given; `svtree up` starts a module for now. \
    A module whose service.toml says `enabled = false` is not enabled by this.";

const DISABLE: &str = "What runs stays as it is unless --now is given; `svtree down` stops a module for now.";

#[derive(Args)]
struct StatusArgs {
    /// Names, paths or patterns of modules; all of them if there are none
    #[arg(value_name = "NAME")]
    names: Vec<OsString>,
    /// One array of JSON objects, for programs
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct EndArgs {
    /// Wait no longer than this for svscan to end
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    wait: Option<Duration>,
}

#[derive(Args)]
struct UpgradeArgs {
    /// Wait no longer than this until it is known [default: 30]
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    wait: Option<Duration>,
}

#[derive(Args)]
struct TakeOverArgs {
    #[arg(last = true, required = true)]
    line: Vec<OsString>,
}

#[derive(Args)]
struct LookUpArgs {
    #[arg(last = true, required = true)]
    asked: OsString,
}

#[derive(Args)]
struct CheckArgs {
    /// Service directories
    #[arg(value_name = "DIR", required = true)]
    directories: Vec<PathBuf>,
}

#[derive(Args)]
struct LinksArgs {
    /// Where the links are made
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

/// What every verb of the table takes.
#[derive(Args)]
struct VerbArgs {
    /// Names, paths or patterns (`'web-*'`) of modules
    #[arg(value_name = "NAME", required = true)]
    names: Vec<OsString>,
    /// Wait so long until it is done
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    wait: Option<Duration>,
}

#[derive(Parser)]
#[command(name = "svscan", version, about = "watch SERVICES and run every module in it, as `svtree run`")]
struct Svscan {
    #[command(flatten)]
    roots: RootArgs,
    #[arg(long, hide = true)]
    kept: Option<Turn>,
    #[command(flatten)]
    run: RunArgs,
}

/// Runs `svtree` and returns its exit code.
#[must_use]
pub fn svtree(arguments: Vec<OsString>) -> u8 {
    match parse(command(), "svtree", arguments).and_then(|matches| dispatch(&matches)) {
        Ok(code) => code,
        Err(error) => usage("svtree", &error),
    }
}

/// The whole command line of `svtree`: what is declared above, and the verbs of the table.
fn command() -> clap::Command {
    Verb::all().enumerate().fold(Svtree::command(), |command, (index, verb)| {
        let letter = VerbArgs::augment_args(clap::Command::new(verb.name));
        command.subcommand(letter.about(verb.help).display_order(10 + index))
    })
}

/// Runs `svscan` and returns its exit code.
#[must_use]
pub fn svscan(arguments: Vec<OsString>) -> u8 {
    let parsed = parse(Svscan::command(), "svscan", arguments).and_then(|matches| Svscan::from_arg_matches(&matches));
    match parsed {
        Ok(Svscan { roots, kept, run }) => run::run("svscan", run, kept, Roots::new(&roots)),
        Err(error) => usage("svscan", &error),
    }
}

fn parse(command: clap::Command, name: &str, arguments: Vec<OsString>) -> Result<ArgMatches, clap::Error> {
    command.try_get_matches_from(std::iter::once(name.into()).chain(arguments))
}

fn dispatch(matches: &ArgMatches) -> Result<u8, clap::Error> {
    if let Some((name, matches)) = matches.subcommand()
        && let Some(verb) = Verb::all().find(|verb| verb.name == name)
    {
        let VerbArgs { names, wait } = VerbArgs::from_arg_matches(matches)?;
        let roots = RootArgs::from_arg_matches(matches)?;
        return Ok(verbs::run(&verb, &names, wait.unwrap_or_default(), &Roots::new(&roots)));
    }
    let Svtree { roots, kept, verb } = Svtree::from_arg_matches(matches)?;
    let roots = Roots::new(&roots);
    Ok(match verb {
        Static::Run(args) => run::run("svtree", args, kept, roots),
        Static::Init(args) => init::run(args),
        Static::Log(args) => log::run(args),
        Static::Logs(args) => logs::run(&args, &roots),
        Static::LogTree => log::tree(&roots.status),
        Static::Status(StatusArgs { names, json }) => status::run(&names, json, &roots),
        Static::Enable(args) => enable::run(Which::Enable, &args, &roots),
        Static::Disable(args) => enable::run(Which::Disable, &args, &roots),
        Static::Rescan => svscan::run(Order::Rescan, &roots.status, None),
        Static::Shutdown(EndArgs { wait }) => svscan::run(Order::Shutdown, &roots.status, wait),
        Static::Leave(EndArgs { wait }) => svscan::run(Order::Leave, &roots.status, wait),
        Static::Upgrade(UpgradeArgs { wait }) => svscan::run(Order::Upgrade, &roots.status, wait),
        Static::TakeOverVersions(TakeOverArgs { line }) => {
            runs(line)?;
            out::print("svtree", handover::offer().as_bytes())
        }
        Static::LookUp(LookUpArgs { asked }) => {
            let said = accounts::said(&asked).ok_or_else(|| clap::Error::new(ErrorKind::InvalidValue))?;
            out::print("svtree", &said)
        }
        Static::Tree(args) => tree::run(&args, &roots),
        Static::Why(args) => why::run(&args, &roots),
        Static::Plan(args) => plan::run(&args, &roots),
        Static::Apply(args) => apply::run(&args, &roots),
        Static::Try(args) => trial::run(&args, &roots),
        Static::Check(CheckArgs { directories }) => check::run(&directories),
        Static::Links(LinksArgs { directory }) => links::run(&directory),
    })
}

/// Whether a whole command line, the program first, is one of svscan.
fn runs(line: Vec<OsString>) -> Result<(), clap::Error> {
    let mut words = line.into_iter();
    let called = words.next().unwrap_or_default();
    let arguments = words.collect();
    let runs = match Program::called(&called) {
        Program::Svscan => parse(Svscan::command(), "svscan", arguments).map(|_| true)?,
        Program::Svtree => parse(command(), "svtree", arguments)?.subcommand_name() == Some("run"),
        Program::Svc | Program::Svstat | Program::Svok | Program::Supervise => false,
    };
    if runs { Ok(()) } else { Err(clap::Error::new(ErrorKind::InvalidSubcommand)) }
}

/// Says what clap has to say: help where that was asked for, else what is wrong, in one line as every error.
fn usage(program: &str, error: &clap::Error) -> u8 {
    if !error.use_stderr() || error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        // When nobody reads it there is nobody to tell.
        let _ = error.print();
    } else {
        out::complain(program, one_line(&error.to_string()));
    }
    if error.use_stderr() { out::USAGE } else { out::DONE }
}

/// What clap writes above the usage, without its line breaks.
fn one_line(text: &str) -> String {
    let text = text.strip_prefix("error: ").unwrap_or(text);
    let above = text.split("\nUsage: ").next().unwrap_or(text);
    let above = above.split("\nFor more information").next().unwrap_or(above);
    let paragraphs = above.split("\n\n").map(|part| part.split_whitespace().collect::<Vec<_>>().join(" "));
    paragraphs.filter(|part| !part.is_empty()).collect::<Vec<_>>().join("; ")
}

/// Seconds, also fractions of one.
pub(super) fn seconds(text: &str) -> Result<Duration, String> {
    text.parse()
        .ok()
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .ok_or_else(|| "expected seconds, such as 10 or 0.5".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_and_nothing_else() {
        assert_eq!(seconds("0"), Ok(Duration::ZERO));
        assert_eq!(seconds("0.25"), Ok(Duration::from_millis(250)));
        for wrong in ["", "-1", "nan", "inf", "1e400", "ten"] {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn clap_agrees_with_both_declarations() {
        command().debug_assert();
        Svscan::command().debug_assert();
    }

    #[test]
    fn wrong_usage_is_one_line() {
        for (arguments, line) in [
            (&["up"][..], "the following required arguments were not provided: <NAME>..."),
            (&["stats"], "unrecognized subcommand 'stats'; tip: a similar subcommand exists: 'status'"),
            (
                &["up", "--wait", "x", "web"],
                "invalid value 'x' for '--wait <SECONDS>': expected seconds, such as 10 or 0.5",
            ),
        ] {
            let parsed = parse(command(), "svtree", arguments.iter().map(OsString::from).collect());
            assert_eq!(parsed.map_err(|error| one_line(&error.to_string())).err().as_deref(), Some(line));
        }
    }

    #[test]
    fn help_is_no_error_and_wrong_usage_is() {
        for (arguments, wrong) in [
            (&["--help"][..], false),
            (&["up", "--help"], false),
            (&["--version"], false),
            (&[], true),
            (&["up"], true),
            (&["nonsense"], true),
            (&["up", "--wait", "-1", "web"], true),
            (&["check"], true),
        ] {
            let parsed = parse(command(), "svtree", arguments.iter().map(OsString::from).collect());
            assert_eq!(parsed.map_err(|error| error.use_stderr()).err(), Some(wrong), "{arguments:?}");
        }
    }
}
