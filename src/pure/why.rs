//! Why a module is as it is, in sentences: what is wanted and who asked, what came of it, what follows.
//!
//! Must never look at a file or a clock: it is told what there is.

use std::time::Duration;

use serde::Serialize;

use super::exit::Exit;
use super::name::printable;
use super::state::{State, StateName};
use super::status::Want;
use super::time::{Wall, human};

/// What is known of one module.
#[derive(Clone, Debug)]
pub struct Facts<'a> {
    /// How it is called.
    pub name: &'a str,
    /// What its `state.json` says, with what was said before its exits.
    pub state: &'a State,
    /// How long that has been so.
    pub uptime: Duration,
    /// The time of day.
    pub now: Wall,
    /// Who looks after it.
    pub supervisor: Supervisor,
    /// When somebody last wrote a letter that says what is wanted, and which.
    pub last_word: Option<(&'a str, char)>,
    /// What in its service directory says that it is normally down.
    pub keeps_down: Option<String>,
}

/// Who looks after a module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Supervisor {
    /// A thread of svtree.
    There,
    /// Nobody, while svtree runs.
    Left,
    /// Nobody, and there is no svtree; whether its program runs on.
    Nobody(bool),
    /// Somebody else, who has its lock.
    Another(i32),
}

/// A module or a group, and what makes it be as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Cause {
    /// Its name.
    pub name: String,
    /// Its state, in one word.
    pub state: String,
    /// What is to be said of it.
    pub says: Vec<String>,
    /// What it waits for, or who of it keeps it as it is.
    pub because: Vec<Cause>,
}

impl Cause {
    /// All of it as text: what a module waits for stands further to the right.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Each with how deep it stands; the next one is the last.
        let mut todo = vec![(self, 0)];
        while let Some((cause, depth)) = todo.pop() {
            for sentence in &cause.says {
                text.push_str(&"  ".repeat(depth));
                text.push_str(sentence);
                text.push('\n');
            }
            todo.extend(cause.because.iter().rev().map(|cause| (cause, depth + 1)));
        }
        text
    }
}

/// So many exits are told,
const EXITS: usize = 3;
/// and so many lines of what was said before the last one.
const LINES: usize = 10;

/// The sentences about one module, the most pressing first.
#[must_use]
pub fn says(facts: &Facts<'_>) -> Vec<String> {
    let state = facts.state;
    let mut says = vec![format!("{} {}.", facts.name, is(facts))];
    if matches!(state.state, StateName::Incomplete | StateName::Rejected) {
        return says;
    }
    says.push(wanted(facts));
    // Whatever else there is, it says nothing about a module that is left alone.
    if let Some(rejected) = &state.rejected {
        // What it asks for and cannot have is no edit, and was said.
        if state.reason.as_ref() != Some(rejected) {
            says.push(format!("An edit of it was rejected: {}. What was in force before still is.", plain(rejected)));
        }
    } else if state.changed {
        says.push("Its files were edited since it was started; the next start uses them.".to_owned());
    }
    if let Some(next) = &state.next_start {
        let left = Wall::from_rfc3339(next).map(|next| next.since(facts.now)).unwrap_or_default();
        says.push(format!("It is started again in {}, at {next}.", human(left)));
    }
    if state.paused {
        says.push("It is paused: its program was stopped by `p`, and goes on with `c`.".to_owned());
    }
    says.extend(state.status.iter().map(|status| format!("It says of itself: {}.", plain(status))));
    if !state.alarms && !state.name.is_empty() {
        says.push("Its alarms are silenced.".to_owned());
    }
    says.extend(exits(facts));
    says
}

/// What is true of it.
fn is(facts: &Facts<'_>) -> String {
    let state = facts.state;
    let pid = state.pid.map(|pid| format!(", pid {pid},")).unwrap_or_default();
    let because = state.reason.as_deref().map(|reason| format!(": {}", plain(reason))).unwrap_or_default();
    match facts.supervisor {
        Supervisor::There => {}
        Supervisor::Left => {
            return "is supervised by nobody: it has left by `x`, until its directory is dropped again or svtree \
            is told to `rescan`"
                .to_owned();
        }
        Supervisor::Nobody(true) => {
            return format!("is supervised by nobody, since no svtree runs; its program{pid} runs on");
        }
        Supervisor::Nobody(false) => {
            return "is supervised by nobody, since no svtree runs, and does not run".to_owned();
        }
        Supervisor::Another(other) => return format!("cannot be supervised by svtree: pid {other} holds its lock"),
    }
    let since = human(facts.uptime);
    match state.state {
        StateName::Up => format!("is up{pid} for {since}{because}"),
        StateName::Ready if state.pid.is_none() => "has done what it is there for, and counts as ready".to_owned(),
        StateName::Ready => format!("is up{pid} for {since}, and has said that it is ready{because}"),
        StateName::Starting => format!("was started{pid} {since} ago, and is not ready yet{because}"),
        StateName::Stopping => format!("is being stopped{because}"),
        StateName::Finishing => format!("has ended, and its finish runs{because}"),
        StateName::Waiting if state.next_start.is_some() => format!("is down, and will be started again{because}"),
        StateName::Waiting => format!("is down, and waits{because}"),
        StateName::Failed => format!("was given up{because}; `svtree up {}` begins anew", facts.name),
        StateName::Down => format!("is down for {since}{because}"),
        StateName::Incomplete => format!("is no module yet{because}"),
        StateName::Rejected => format!("is rejected{because}"),
    }
}

/// What is wanted, and who asked.
fn wanted(facts: &Facts<'_>) -> String {
    let state = facts.state;
    // The last word may have been one of this want or, where svtree itself has changed its mind, of another.
    let said = |letters: &str| match facts.last_word {
        Some((at, letter)) if letters.contains(letter) => format!("somebody sent `{letter}` at {at}"),
        Some(_) | None => "somebody has said so".to_owned(),
    };
    let ended_well = state.exits.first().is_some_and(|exit| exit.code == Some(0));
    let told = state.record.as_ref().is_some_and(|record| record.ending);
    match (state.want(), state.enabled) {
        (Want::Up, true) => "It is wanted up, as it normally is.".to_owned(),
        (Want::Up, false) => format!("It is wanted up, though it is normally down: {}.", said("uo")),
        (Want::Once, _) => format!("It is wanted to run once: {}.", said("o")),
        (Want::Down, true) if ended_well && !told => {
            "It is wanted no longer: it exited 0, and is not to be restarted after that.".to_owned()
        }
        (Want::Down, true) => format!("It is wanted down: {}.", said("d")),
        (Want::Down, false) => {
            let keeps = facts.keeps_down.as_deref().unwrap_or("its service directory says so");
            format!("It is wanted down, as it normally is: {keeps}.")
        }
    }
}

fn exits(facts: &Facts<'_>) -> Vec<String> {
    let state = facts.state;
    let mut says = Vec::new();
    let told = |exit: &Exit| {
        format!("{} after {}, {} ago", exit.how.told(exit.oom), human(exit.uptime), human(facts.now.since(exit.at)))
    };
    for (index, entry) in state.exits.iter().take(EXITS).enumerate() {
        let Some(exit) = entry.exit() else { continue };
        let lead = match (index, state.exits_total) {
            (0, 0 | 1) => "It has ended once".to_owned(),
            (0, total) => format!("It has ended {total} times; the last time"),
            (_, _) => "Before that".to_owned(),
        };
        let lines = &entry.last_lines;
        let colon = if lines.is_empty() { "." } else { "; it had said:" };
        says.push(format!("{lead}: pid {} {}{colon}", entry.pid, told(&exit)));
        if index == 0 {
            let last = lines.iter().skip(lines.len().saturating_sub(LINES));
            says.extend(last.map(|line| format!("  | {}", printable(line.as_bytes()))));
        }
    }
    says
}

/// Nothing that another program wrote may move the cursor or break the line.
fn plain(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { '\u{fffd}' } else { letter }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pure::state::{ExitEntry, Record};

    fn told(state: &State, supervisor: Supervisor) -> Vec<String> {
        says(&Facts {
            name: "web",
            state,
            uptime: Duration::from_secs(42),
            now: Wall { seconds: 1_795_341_600, nanos: 0 },
            supervisor,
            last_word: Some(("2026-11-22 09:59:00", 'd')),
            keeps_down: Some("there is /s/web/down".to_owned()),
        })
    }

    fn state(name: StateName, want: &str) -> State {
        State {
            name: "web".into(),
            state: name,
            want: want.into(),
            alarms: true,
            enabled: true,
            pid: (name == StateName::Up).then_some(7),
            ..State::default()
        }
    }

    #[test]
    fn what_is_wanted_and_who_asked() {
        let there = |state: &State| told(state, Supervisor::There);
        assert_eq!(
            there(&state(StateName::Up, "up")),
            ["web is up, pid 7, for 42 s.", "It is wanted up, as it normally is."]
        );
        let down = |enabled| State { enabled, ..state(StateName::Down, "down") };
        assert_eq!(there(&down(true))[1], "It is wanted down: somebody sent `d` at 2026-11-22 09:59:00.");
        assert_eq!(there(&down(false))[1], "It is wanted down, as it normally is: there is /s/web/down.");
        let up = State { enabled: false, ..state(StateName::Up, "up") };
        assert_eq!(there(&up)[1], "It is wanted up, though it is normally down: somebody has said so.");
    }

    #[test]
    fn what_came_of_it_and_what_follows() {
        let exit = |pid, code, lines: &[&str]| ExitEntry {
            at: "2026-11-22T09:59:00Z".into(),
            pid,
            code: Some(code),
            signal: None,
            core: false,
            oom: false,
            uptime: 0.5,
            last_lines: lines.iter().map(ToString::to_string).collect(),
        };
        let waiting = State {
            reason: Some("exited 1 after 0.5 s".into()),
            next_start: Some("2026-11-22T10:00:04Z".into()),
            rejected: Some("service.toml: line 1, column 1: wrong\x1b".into()),
            exits: vec![exit(9, 1, &["bad \x1b[2J", "end"]), exit(8, 0, &[])],
            exits_total: 5,
            ..state(StateName::Waiting, "up")
        };
        assert_eq!(
            told(&waiting, Supervisor::There),
            [
                "web is down, and will be started again: exited 1 after 0.5 s.",
                "It is wanted up, as it normally is.",
                "An edit of it was rejected: service.toml: line 1, column 1: wrong\u{fffd}. What was in force before still is.",
                "It is started again in 4.0 s, at 2026-11-22T10:00:04Z.",
                "It has ended 5 times; the last time: pid 9 exited 1 after 0.5 s, 60 s ago; it had said:",
                "  | bad \\x1b[2J",
                "  | end",
                "Before that: pid 8 exited 0 after 0.5 s, 60 s ago.",
            ]
        );
        let done = State { exits: vec![exit(9, 0, &[])], ..state(StateName::Down, "down") };
        assert!(told(&done, Supervisor::There)[1].contains("it exited 0, and is not to be restarted"));
        let ending = Some(Record { ending: true, ..Record::default() });
        assert!(told(&State { record: ending, ..done }, Supervisor::There)[1].contains("somebody sent `d`"));
    }

    #[test]
    fn who_looks_after_it_comes_first() {
        let up = state(StateName::Up, "up");
        assert!(told(&up, Supervisor::Nobody(true))[0].ends_with("no svtree runs; its program, pid 7, runs on."));
        assert!(told(&up, Supervisor::Another(812))[0].contains("pid 812 holds its lock"));
        assert!(told(&state(StateName::Down, "down"), Supervisor::Left)[0].contains("it has left by `x`"));
        assert_eq!(told(&state(StateName::Rejected, "up"), Supervisor::There), ["web is rejected."]);
    }

    #[test]
    fn what_is_waited_for_stands_below() {
        let cause = |name: &str, because| Cause {
            name: name.to_owned(),
            state: "waiting".to_owned(),
            says: vec![format!("{name} waits."), "So it is.".to_owned()],
            because,
        };
        let all = cause("web", vec![cause("api", vec![cause("db", Vec::new())]), cause("mail", Vec::new())]);
        let text = "web waits.\nSo it is.\n  api waits.\n  So it is.\n    db waits.\n    So it is.\n  mail waits.\n  So it is.\n";
        assert_eq!(all.text(), text);
    }
}
