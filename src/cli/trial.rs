//! `svtree try DIR`: hands a service directory to the trial, and says how that ended.
//!
//! Must never decide how the program is run.

use std::path::{Path, PathBuf};

use clap::Args;

use super::names::Tree;
use super::out;
use super::place::Place;
use super::roots::Roots;
use crate::pure::name::ModuleName;
use crate::trial;

/// What `svtree try` takes.
#[derive(Args)]
#[command(after_help = AFTER)]
pub struct TrialArgs {
    /// A service directory, wherever it stands
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

const AFTER: &str = "The program gets the environment, user, limits, directory and sandbox that it would have in a tree, \
    and standard input from /dev/null; what it writes comes here. Ctrl-C and TERM stop it as `down` does, a second one and \
    QUIT kill it at once. Exits with the program's code, or 128 and the signal that killed it; 111 where it could not be \
    started. A `log/run`, [alarm] and restarts are left out.";

/// Runs it to its end.
#[must_use]
pub fn run(args: &TrialArgs, roots: &Roots) -> u8 {
    let directory = &args.directory;
    let tree = Tree::new(roots);
    let Some(name) = tree.at(directory).or_else(|| own_name(directory)) else {
        out::complain("svtree", format!("try {}: not the name of a module", directory.display()));
        return out::FAILED;
    };
    if let Some(pid) = supervised(&tree, directory) {
        let warning = format!("try {name}: it is up under a supervisor, pid {pid}: now there are two of it");
        out::complain("svtree", warning);
    }
    match trial::run(directory, &name) {
        Ok(outcome) => {
            if let Some(why) = outcome.why {
                out::complain("svtree", format!("try {name}: {why}"));
            }
            outcome.code
        }
        Err(why) => {
            out::complain("svtree", format!("try {name}: {why}"));
            out::FAILED
        }
    }
}

/// The name that the directory would have in a services directory.
fn own_name(directory: &Path) -> Option<ModuleName> {
    let last = directory.file_name().map(ToOwned::to_owned);
    let last = last.or_else(|| directory.canonicalize().ok()?.file_name().map(ToOwned::to_owned))?;
    ModuleName::new(last.as_encoded_bytes()).ok()
}

/// The pid of the program of this very directory, if one is supervised: in this tree, or by whoever has its `supervise/`.
fn supervised(tree: &Tree<'_>, directory: &Path) -> Option<i32> {
    // A path, and no name of a module.
    let place = Place::find(tree, Path::new(".").join(directory).as_os_str()).ok()?;
    let is_supervised = place.supervised.as_ref().is_ok_and(|supervised| *supervised);
    let pid = place.status().ok()?.ok()?.pid?;
    is_supervised.then(|| pid.get())
}
