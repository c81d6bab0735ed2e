//! `svtree up`, `down`, `restart` and their like: letters to modules of this tree, and what `--wait` waits for.
//!
//! Must never stop at the first module that fails.

use std::ffi::OsString;
use std::fmt::Display;
use std::io;
use std::path::Path;
use std::time::Duration;

use super::names::Tree;
use super::roots::Roots;
use super::wait::{Goal, Waiting};
use super::{ordered, out};
use crate::pure::command::{Command, LETTERS};
use crate::pure::exit::Signal;
use crate::pure::name::ModuleName;
use crate::pure::state::{State, StateName};
use crate::unix::client::{self, Line};
use crate::unix::home::file;

/// How long a FIFO may be full before that is an error: its reader is stopped or stuck.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// A verb of the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verb {
    /// As it is typed.
    pub name: &'static str,
    /// One line for `--help`.
    pub help: &'static str,
    /// What is written to the module.
    pub letters: Vec<u8>,
    /// What `--wait` waits for.
    pub goal: Goal,
}

impl Verb {
    /// The rows of the table of letters, and the verbs that are made of several.
    pub fn all() -> impl Iterator<Item = Verb> {
        let restart = Verb {
            name: "restart",
            help: "`down`, then `up`; starts one that is down",
            letters: b"du".to_vec(),
            goal: Goal::Restarted,
        };
        let table = LETTERS.iter().map(|letter| Verb {
            name: letter.verb,
            help: letter.help,
            letters: vec![letter.byte],
            goal: goal(letter.command),
        });
        table.chain(std::iter::once(restart))
    }
}

fn goal(command: Command) -> Goal {
    match command {
        Command::Up => Goal::Up,
        Command::Down => Goal::Down,
        Command::Once => Goal::Once,
        Command::Signal(Signal::STOP) => Goal::Paused(true),
        Command::Signal(Signal::CONT) => Goal::Paused(false),
        Command::Signal(Signal::KILL | Signal::TERM | Signal::INT | Signal::QUIT) => Goal::Ended,
        // What other signals do is the program's own affair, and so is what a new configuration changes.
        Command::Signal(_) | Command::Reload => Goal::Delivered,
        Command::Exit => Goal::Left,
        Command::Silence => Goal::Alarms(false),
        Command::Alarms => Goal::Alarms(true),
    }
}

/// Tells all modules that were named, waits for all of them together, and returns the exit code.
#[must_use]
pub fn run(verb: &Verb, typed: &[OsString], patience: Duration, roots: &Roots) -> u8 {
    let selected = Tree::new(roots).select(typed);
    for (what, why) in &selected.wrong {
        out::complain("svtree", format!("{} {what}: {why}", verb.name));
    }
    let code = if selected.wrong.is_empty() { out::DONE } else { out::FAILED };
    let members = match selected.members {
        none if none.is_empty() => out::DONE,
        members => ordered::send(verb, members, patience, roots),
    };
    code.max(members).max(send(verb, selected.names, patience, roots))
}

/// Tells these modules, waits for all of them together, and returns the exit code.
#[must_use]
pub fn send(verb: &Verb, names: Vec<ModuleName>, patience: Duration, roots: &Roots) -> u8 {
    let mut code = out::DONE;
    let mut failed = |what: &dyn Display, why: String| {
        out::complain("svtree", format!("{} {what}: {why}", verb.name));
        code = out::FAILED;
    };
    let mut waiting = match Waiting::new(verb.goal, patience) {
        Ok(waiting) => waiting,
        Err(error) => {
            out::complain("svtree", format!("{}: waiting: {}", verb.name, out::cause(&error)));
            return out::FAILED;
        }
    };
    for name in names {
        if let Err(why) = tell(verb, &name, &roots.status.join(name.as_os_str()), &mut waiting) {
            failed(&name, why);
        }
    }
    waiting.wait(|name, why| failed(name, why));
    code
}

/// Writes the letters to one module.
fn tell(verb: &Verb, name: &ModuleName, home: &Path, waiting: &mut Waiting) -> Result<(), String> {
    let line = match Line::open(&home.join(file::SVCONTROL)) {
        Ok(Some(line)) => line,
        Ok(None) => return Err(NOBODY.to_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(why_no_fifo(home)),
        Err(error) => return Err(out::cause(&error)),
    };
    // Watched and read before the letters are written, so that nothing they change is missed.
    let before = waiting.prepare(home)?;
    match line.send(&verb.letters, PATIENCE) {
        Ok(true) => {}
        Ok(false) => return Err(NOBODY.to_owned()),
        Err(error) if error.kind() == io::ErrorKind::TimedOut => {
            return Err(format!("nothing was read from its FIFO for {} s", PATIENCE.as_secs()));
        }
        Err(error) => return Err(out::cause(&error)),
    }
    waiting.add(name, line, before);
    Ok(())
}

/// What is said when no process reads the FIFO.
pub const NOBODY: &str = "supervise not running";

/// A module that never started has a state, but no FIFO.
fn why_no_fifo(home: &Path) -> String {
    let state = client::read(&home.join(file::STATE)).map_err(|error| out::cause(&error));
    match state.and_then(|bytes| State::decode(&bytes)) {
        Ok(State { state: state @ (StateName::Incomplete | StateName::Rejected), reason, .. }) => match reason {
            Some(reason) => format!("{}: {reason}", state.name()),
            None => state.name().to_owned(),
        },
        Ok(_) | Err(_) => NOBODY.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verbs_are_the_letters_and_restart() {
        let names: Vec<_> = Verb::all().map(|verb| verb.name).collect();
        assert_eq!(names.len(), LETTERS.len() + 1);
        assert!(Verb::all().all(|verb| !verb.letters.is_empty() && !verb.help.is_empty()));
        let restart = Verb::all().find(|verb| verb.name == "restart").map(|verb| verb.letters);
        assert_eq!(restart.as_deref(), Some(&b"du"[..]));
    }
}
