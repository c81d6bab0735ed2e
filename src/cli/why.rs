//! `svtree why NAME…`: the chain of causes, in sentences; what a module waits for stands below it.
//!
//! Must never ask svtree itself: all of it stands in files, also while it is stopped.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use clap::Args;

use super::known::Known;
use super::names::{self, Tree};
use super::out;
use super::roots::Roots;
use super::status::{self, Clocks};
use crate::pure::config;
use crate::pure::exit::Pid;
use crate::pure::name::{ModuleName, printable, unescaped};
use crate::pure::state::{State, StateName};
use crate::pure::status::Want;
use crate::pure::tree::graph::On;
use crate::pure::why::{Cause, Facts, Supervisor, says};
use crate::unix::adopt::{self, Found};
use crate::unix::client::{self, Line};
use crate::unix::holder::{Holder, NoHolder};
use crate::unix::home::{self, file};
use crate::unix::prints::SERVICE;
use crate::unix::scan;

/// What `svtree why` takes.
#[derive(Args)]
pub struct WhyArgs {
    /// Names, paths or patterns of modules, or names of groups
    #[arg(value_name = "NAME", required = true)]
    names: Vec<OsString>,
    /// One array of JSON objects, for programs
    #[arg(long)]
    json: bool,
}

/// Says it of all modules that were named, and returns the exit code.
#[must_use]
pub fn run(args: &WhyArgs, roots: &Roots) -> u8 {
    let tree = Tree::new(roots);
    let selected = tree.select(&args.names);
    let mut code = if selected.wrong.is_empty() { out::DONE } else { out::FAILED };
    for (what, why) in selected.wrong {
        out::complain("svtree", format!("why {what}: {why}"));
    }
    let asked = Asked::read(&tree, roots);
    let mut causes = Vec::new();
    causes.extend(args.names.iter().filter_map(|word| asked.group_cause(&names::name(word)?)));
    for name in selected.names.into_iter().chain(selected.members) {
        match asked.cause(&name, &mut BTreeSet::new()) {
            Some(cause) => causes.push(cause),
            None => {
                out::complain("svtree", format!("why {name}: it has no {} (yet)", file::STATE));
                code = out::FAILED;
            }
        }
    }
    let text = match args.json {
        // No map with keys other than strings, so serialisation cannot fail.
        true => serde_json::to_string_pretty(&causes).unwrap_or_default() + "\n",
        false => causes.iter().map(Cause::text).collect::<Vec<_>>().join("\n"),
    };
    out::print("svtree", text.as_bytes()).max(code)
}

/// All that one look at the status root found.
struct Asked<'a> {
    tree: &'a Tree<'a>,
    known: Known,
    /// Whether svtree runs, and the process that it is, if that can be told.
    runs: bool,
    svscan: Option<i32>,
    clocks: Clocks,
}

impl<'a> Asked<'a> {
    fn read(tree: &'a Tree<'a>, roots: &Roots) -> Asked<'a> {
        let (runs, svscan) = match Holder::find(&roots.status) {
            Ok(holder) => (true, Some(holder.pid.get())),
            Err(NoHolder::Nobody) => (false, None),
            Err(NoHolder::Unproven | NoHolder::Failed(_)) => (true, None),
        };
        Asked { tree, known: Known::read(tree), runs, svscan, clocks: Clocks::read() }
    }

    /// Of this module, and of what it waits for; each once.
    fn cause(&self, name: &ModuleName, told: &mut BTreeSet<ModuleName>) -> Option<Cause> {
        let mut state = self.known.states.get(name)?.clone();
        told.insert(name.clone());
        status::recall(self.tree, name, &mut state);
        let home = self.tree.home(name);
        let log = client::read(&home.join(file::LOG)).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let shown = name.to_string();
        let facts = Facts {
            name: &shown,
            uptime: self.clocks.uptime(&state),
            now: self.clocks.wall,
            supervisor: self.supervisor(name, &state),
            last_word: last_word(&log),
            keeps_down: keeps_down(&state),
            state: &state,
        };
        let (mut says, mut because) = (says(&facts), Vec::new());
        // What runs waits for nobody.
        let waits = state.pid.is_none() && !matches!(state.state, StateName::Ready);
        for wait in self.known.graph.waits(name).iter().filter(|_| waits) {
            let word = if wait.needed { "needs" } else { "comes after" };
            match &wait.on {
                On::Missing if wait.needed => {
                    says.push(format!("It needs {}, and there is no such module.", wait.written));
                }
                On::Missing => {}
                On::Broken(what) => says.push(format!("It {word} {}, which is {what}.", wait.written)),
                On::Modules(modules) => {
                    let others = modules.iter().filter_map(|number| self.known.graph.name(*number));
                    for other in others.filter(|other| self.known.states.get(*other).is_some_and(|state| !state.ready))
                    {
                        says.push(format!("It {word} {other}, which is not ready."));
                        if !told.contains(other) {
                            because.extend(self.cause(other, told));
                        }
                    }
                }
            }
        }
        let mut outer = name.parent();
        while let Some(group) = outer {
            says.extend(self.group(&group).filter(|_| waits || state.state == StateName::Down));
            outer = group.parent();
        }
        says.extend(self.known.graph.cycle(name).map(|path| format!("It waits for itself: {path}.")));
        Some(Cause { name: shown, state: state.state.name().to_owned(), says, because })
    }

    /// Of a group itself.
    fn group_cause(&self, name: &ModuleName) -> Option<Cause> {
        let record = self.known.groups.get(name)?.clone().unwrap_or_default();
        let is_member = |member: &ModuleName| {
            member.is_within(name) && member.logged().is_none_or(|of| !self.known.states.contains_key(&of))
        };
        let waits = |state: &State| !state.ready && state.want() != Want::Down;
        let idle: Vec<&ModuleName> = self
            .known
            .states
            .iter()
            .filter(|(member, state)| is_member(member) && waits(state))
            .map(|(member, _)| member)
            .collect();
        let why =
            record.reason.as_deref().map(|reason| format!(": {}", printable(reason.as_bytes()))).unwrap_or_default();
        let mut says = vec![match record.state.as_str() {
            "" => format!("{name} is a group that asks for nothing."),
            state => format!("{name} is {state}{why}."),
        }];
        if record.intensity > 0 {
            let (strategy, most, failure) = (&record.strategy, record.intensity, &record.on_failure);
            says.push(format!(
                "It is {strategy}; with more than {most} restarts in {} s it fails, and on_failure is {failure}.",
                record.period
            ));
        }
        says.push(match idle.len() {
            0 => "All in it that are wanted up are ready.".to_owned(),
            count => format!("{count} in it are wanted up and not ready."),
        });
        Some(Cause { name: name.to_string(), state: record.state, says, because: Vec::new() })
    }

    /// What is to be said of a group to a module in it that does not run.
    fn group(&self, group: &ModuleName) -> Option<String> {
        let record = self.known.groups.get(group)?.as_ref()?;
        let why =
            record.reason.as_deref().map(|reason| format!(": {}", printable(reason.as_bytes()))).unwrap_or_default();
        (record.state != "up").then(|| format!("Its group {group} is {}{why}.", record.state))
    }

    fn supervisor(&self, name: &ModuleName, state: &State) -> Supervisor {
        // Nothing supervises these, and nothing should.
        if matches!(state.state, StateName::Incomplete | StateName::Rejected) {
            return Supervisor::There;
        }
        let home = self.tree.home(name);
        match Line::open(&home.join(file::OK)) {
            Ok(Some(_)) => return Supervisor::There,
            // Those who may not ask are not told otherwise.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Supervisor::There,
            Ok(None) | Err(_) => {}
        }
        let holder = home::lock_holder(&home.join(file::LOCK)).map(Pid::get);
        let is_another = |holder: &i32| self.runs == self.svscan.is_some() && self.svscan != Some(*holder);
        match holder.filter(is_another) {
            Some(other) => Supervisor::Another(other),
            None if self.runs => Supervisor::Left,
            None => {
                let alive = state.record.as_ref().is_some_and(|record| matches!(adopt::find(record), Found::Alive(..)));
                Supervisor::Nobody(alive)
            }
        }
    }
}

/// When a letter came last that says what is wanted, and which.
fn last_word(log: &str) -> Option<(&str, char)> {
    log.lines().rev().find_map(|line| {
        let (before, letter) = line.rsplit_once(" command ")?;
        let letter = letter.chars().next().filter(|letter| "udox".contains(*letter))?;
        Some((before.strip_prefix("[NOTICE] ")?, letter))
    })
}

/// What in the service directory says that it is normally down.
fn keeps_down(state: &State) -> Option<String> {
    let directory = PathBuf::from(OsString::from_vec(unescaped(&state.directory)));
    let down = directory.join(file::DOWN);
    if down.exists() {
        return Some(format!("there is {}", scan::shown(&down)));
    }
    let service = directory.join(SERVICE);
    let at = config::disabled_at(&std::fs::read_to_string(&service).ok()?)?;
    Some(format!("{}: {at}", scan::shown(&service)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_is_the_last_that_says_what_is_wanted() {
        let log = "[NOTICE] 2026-11-22 10:00:00 command d\n[NOTICE] 2026-11-22 10:00:01 command u\n\
                   [NOTICE] 2026-11-22 10:00:02 command h\n[NOTICE] 2026-11-22 10:00:03 pid 7 exited 0\n";
        assert_eq!(last_word(log), Some(("2026-11-22 10:00:01", 'u')));
        assert_eq!(last_word("[WARNING] 2026-11-22 10:00:00 a command d\n"), None);
        assert_eq!(last_word(""), None);
    }
}
