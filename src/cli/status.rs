//! `svtree status`: how the modules are, as a table for people or as JSON for programs.
//!
//! Must never ask svtree itself: all of it stands in files, also while it is stopped.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::time::Duration;

use anstream::ColorChoice;

use super::names::{Selected, Tree};
use super::note::{self, Now};
use super::out;
use super::roots::Roots;
use super::table;
use crate::pure::log::{Death, LINES, deaths, kept};
use crate::pure::name::{ModuleName, printable, unescaped};
use crate::pure::state::{ExitEntry, State, StateName, seconds};
use crate::pure::time::Wall;
use crate::unix::adopt;
use crate::unix::client::{self, Line};
use crate::unix::clock;
use crate::unix::home::file;
use crate::unix::log::{BESIDE, Reader, last_stamped};

/// A logger of another process stamps a line when it reads it, a little later than that was said.
const LATE: Duration = Duration::from_millis(20);

/// Shows the modules that were named, or all of them, and returns the exit code.
#[must_use]
pub fn run(typed: &[OsString], json: bool, roots: &Roots) -> u8 {
    let tree = Tree::new(roots);
    if typed.is_empty() && !roots.status.exists() {
        let status = roots.status.display();
        out::complain("svtree", format!("status: {status}: no such directory: nothing runs from here, see --status"));
        return if json { out::print("svtree", &as_json(Vec::new())).max(out::FAILED) } else { out::FAILED };
    }
    let Selected { mut names, wrong, members } = if typed.is_empty() { tree.all() } else { tree.select(typed) };
    names.extend(members);
    let mut code = if wrong.is_empty() { out::DONE } else { out::FAILED };
    for (what, why) in wrong {
        out::complain("svtree", format!("status {what}: {why}"));
    }
    let mut shown = Vec::with_capacity(names.len());
    for name in names {
        match read(&tree, &name) {
            Ok(Some(mut state)) => {
                if json || typed.len() == 1 {
                    recall(&tree, &name, &mut state);
                    recall_beside(&mut state);
                }
                shown.push((name, state));
            }
            // It was retired while we looked.
            Ok(None) if typed.is_empty() => {}
            Ok(None) => {
                out::complain("svtree", format!("status {name}: it has no {} (yet)", file::STATE));
                code = out::FAILED;
            }
            Err(why) => {
                out::complain("svtree", format!("status {name}: {}: {why}", file::STATE));
                code = out::FAILED;
            }
        }
    }
    let clocks = Clocks::read();
    for (_, state) in &mut shown {
        state.uptime = Some(seconds(clocks.uptime(state)));
    }
    let data = if json {
        as_json(shown.into_iter().map(|(_, state)| state).collect())
    } else {
        if shown.is_empty() && code == out::DONE {
            out::complain("svtree", format!("status: no modules in {}", roots.status.display()));
        }
        let mut table = as_table(&tree, &shown, clocks.wall);
        if let ([(_, state)], 1) = (shown.as_slice(), typed.len()) {
            table.extend_from_slice(&last_words(state));
        }
        table
    };
    out::print("svtree", &data).max(code)
}

/// None when it is not there.
pub(super) fn read(tree: &Tree<'_>, name: &ModuleName) -> Result<Option<State>, String> {
    match client::read(&tree.home(name).join(file::STATE)) {
        Ok(bytes) => State::decode(&bytes).map(Some),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(out::cause(&error)),
    }
}

/// Adds to each exit what was said before it, where that is kept.
pub(super) fn recall(tree: &Tree<'_>, name: &ModuleName, state: &mut State) {
    let Ok(bytes) = client::read(&tree.home(name).join(file::LAST_LINES)) else { return };
    for Death { pid, at, last_lines } in deaths(&bytes) {
        if let Some(exit) = state.exits.iter_mut().find(|exit| (exit.pid, &exit.at) == (pid, &at)) {
            exit.last_lines = last_lines;
        }
    }
}

/// The same for a module with a `log/run` that writes where the family's examples do: by the stamps of its lines.
pub(super) fn recall_beside(state: &mut State) {
    let directory = PathBuf::from(OsString::from_vec(unescaped(&state.directory))).join(BESIDE);
    let unknown: Vec<&mut ExitEntry> = state.exits.iter_mut().filter(|exit| exit.last_lines.is_empty()).collect();
    if unknown.is_empty() || !Reader::is_log(&directory) {
        return;
    }
    // What is said once the next program runs is that one's.
    let next = state.pid.and(Wall::from_rfc3339(&state.since));
    let until = |exit: &&mut ExitEntry| {
        let late = Wall::from_rfc3339(&exit.at).unwrap_or_default().plus(LATE);
        next.map_or(late, |next| next.min(late))
    };
    let until: Vec<Wall> = unknown.iter().map(until).collect();
    for (exit, lines) in unknown.into_iter().zip(last_stamped(&directory, LINES, &until)) {
        exit.last_lines = lines.iter().map(|line| kept(line)).collect();
    }
}

/// What a module said before its last exit, for people.
fn last_words(state: &State) -> Vec<u8> {
    let Some(exit) = state.exits.first().filter(|exit| !exit.last_lines.is_empty()) else { return Vec::new() };
    let mut text = format!("\nThe last lines of pid {}, until {}:\n", exit.pid, exit.at);
    for line in &exit.last_lines {
        text += "  ";
        text += &printable(line.as_bytes());
        text.push('\n');
    }
    text.into_bytes()
}

/// The clocks, read once for all modules.
pub(super) struct Clocks {
    pub(super) wall: Wall,
    boottime: u64,
    boot_id: String,
}

impl Clocks {
    pub(super) fn read() -> Clocks {
        Clocks { wall: clock::wall(), boottime: clock::boottime(), boot_id: adopt::boot_id().to_owned() }
    }

    /// How long ago the pid changed last. The wall clock may have been set since; the clock of this boot was not.
    pub(super) fn uptime(&self, state: &State) -> Duration {
        match &state.record {
            Some(record) if record.boot_id == self.boot_id && record.since > 0 => {
                Duration::from_nanos(self.boottime.saturating_sub(record.since))
            }
            _ => Wall::from_rfc3339(&state.since).map_or(Duration::ZERO, |since| note::between(since, self.wall)),
        }
    }
}

/// One array, an element a line, in the order of the names.
fn as_json(mut states: Vec<State>) -> Vec<u8> {
    states.sort_by(|one, other| one.name.cmp(&other.name));
    let mut data = b"[".to_vec();
    for (index, mut state) in states.into_iter().enumerate() {
        // What a successor needs is no part of the schema.
        state.record = None;
        data.extend_from_slice(if index == 0 { b"\n" } else { b",\n" });
        data.extend_from_slice(state.encode().trim_ascii_end());
    }
    data.extend_from_slice(b"\n]\n");
    data
}

fn as_table(tree: &Tree<'_>, shown: &[(ModuleName, State)], wall: Wall) -> Vec<u8> {
    let rows: Vec<_> = shown
        .iter()
        .map(|(name, state)| {
            let now = Now { wall, supervised: is_supervised(tree, name, state.state) };
            note::row(name, state, now)
        })
        .collect();
    let coloured = anstream::AutoStream::choice(&io::stdout()) != ColorChoice::Never;
    table::render(&rows, client::columns(), coloured).into_bytes()
}

pub(super) fn is_supervised(tree: &Tree<'_>, name: &ModuleName, state: StateName) -> bool {
    match state {
        // Nothing supervises these, and nothing should.
        StateName::Incomplete | StateName::Rejected => true,
        StateName::Down
        | StateName::Starting
        | StateName::Up
        | StateName::Ready
        | StateName::Stopping
        | StateName::Finishing
        | StateName::Waiting
        | StateName::Failed => match Line::open(&tree.home(name).join(file::OK)) {
            Ok(line) => line.is_some(),
            // Those who may not ask are not told otherwise.
            Err(error) => error.kind() == io::ErrorKind::PermissionDenied,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pure::state::Record;

    #[test]
    fn uptime_by_the_clock_that_is_never_set() {
        let clocks = Clocks {
            wall: Wall { seconds: 1_795_341_600, nanos: 0 },
            boottime: 50_000_000_000,
            boot_id: "this".into(),
        };
        let mut state = State { since: "2026-11-22T09:59:00Z".into(), ..State::default() };
        assert_eq!(clocks.uptime(&state), Duration::from_mins(1));
        state.record = Some(Record { boot_id: "this".into(), since: 48_500_000_000, ..Record::default() });
        assert_eq!(clocks.uptime(&state), Duration::from_millis(1500));
        state.record = Some(Record { boot_id: "other".into(), since: 1, ..Record::default() });
        assert_eq!(clocks.uptime(&state), Duration::from_mins(1));
        state.since = "2027-01-01T00:00:00Z".into();
        assert_eq!(clocks.uptime(&state), Duration::ZERO);
    }

    #[test]
    fn json_is_one_array_in_order_and_without_the_record() {
        let state = |name: &str| State {
            name: name.into(),
            record: Some(Record::default()),
            uptime: Some(1.5),
            ..State::default()
        };
        let data = as_json(vec![state("web"), state("db")]);
        let value: serde_json::Value = serde_json::from_slice(&data).expect("it is JSON");
        assert_eq!(value[0]["name"], "db");
        assert_eq!(value[1]["uptime"], 1.5);
        assert!(value[1].get("record").is_none());
        assert_eq!(serde_json::from_slice::<Vec<State>>(&as_json(Vec::new())).expect("it is JSON"), []);
    }
}
