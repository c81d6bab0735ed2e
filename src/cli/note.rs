//! One row of the status table: what a person is told about a module, and in which colour.
//!
//! Must never read a clock or a file.

use std::time::Duration;

use anstyle::{AnsiColor, Style};

use super::table::Row;
use super::verbs::NOBODY;
use crate::pure::name::ModuleName;
use crate::pure::state::{State, StateName};
use crate::pure::status::Want;
use crate::pure::time::Wall;

/// What a state alone does not tell.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// The time of day.
    pub wall: Wall,
    /// Whether a supervisor is there.
    pub supervised: bool,
}

/// The row of a module; its `uptime` must be filled in.
#[must_use]
pub fn row(name: &ModuleName, state: &State, now: Now) -> Row {
    let pid = state.pid.filter(|_| now.supervised);
    let uptime = pid.map(|_| duration(uptime(state)));
    let (word, style) = if now.supervised {
        (state.state.name(), style(state.state))
    } else {
        // Nobody minds a module that was down when its supervisor left it.
        ("unsupervised", if state.pid.is_some() { RED } else { style(StateName::Down) })
    };
    Row {
        name: name.to_string(),
        state: word,
        style,
        pid: pid.map(|pid| pid.to_string()),
        uptime,
        restarts: state.restarts.to_string(),
        note: note(state, now),
    }
}

const RED: Style = AnsiColor::Red.on_default();

/// The colour of a state.
#[must_use]
pub fn style(state: StateName) -> Style {
    match state {
        StateName::Up | StateName::Ready => AnsiColor::Green.on_default(),
        StateName::Starting | StateName::Waiting | StateName::Stopping | StateName::Finishing => {
            AnsiColor::Yellow.on_default()
        }
        StateName::Failed | StateName::Rejected => RED,
        StateName::Down | StateName::Incomplete => Style::new().dimmed(),
    }
}

fn uptime(state: &State) -> Duration {
    Duration::try_from_secs_f64(state.uptime.unwrap_or_default()).unwrap_or_default()
}

/// Everything that one may need to know beside the state, the most pressing first.
fn note(state: &State, now: Now) -> String {
    // Without a supervisor the rest of the file is history.
    if !now.supervised {
        let pid = state.pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default();
        return format!("{NOBODY}, last known: {}{pid}", state.state.name());
    }
    let exit = last_exit(state, now.wall);
    // What led to the start of a program is of no interest any more once it has run for long.
    let runs = matches!(state.state, StateName::Up | StateName::Ready) && uptime(state) >= NEWS;
    let rejected = state.rejected.as_deref().filter(|_| state.state != StateName::Rejected);
    let rejected = rejected.map(|why| one_line(&format!("rejected: {why}")));
    let said = |reason: &str| rejected.as_ref().is_some_and(|rejected| rejected.ends_with(reason));
    let reason = state.reason.as_deref().map(one_line).filter(|reason| !runs && !said(reason));
    let exit = exit.filter(|_| state.reason.is_none() || state.pid.is_some());
    let mut parts: Vec<String> = rejected.iter().cloned().chain(reason.or(exit)).collect();
    if let Some(next) = state.next_start.as_deref().and_then(Wall::from_rfc3339) {
        // Rounded up: what is still to come is never now.
        let left = between(now.wall, next).as_millis().div_ceil(1000);
        parts.push(match u64::try_from(left) {
            Ok(0) => "next start now".to_owned(),
            left => format!("next start in {}", duration(Duration::from_secs(left.unwrap_or(u64::MAX)))),
        });
    }
    parts.extend(wanted(state).map(str::to_owned));
    parts.extend(state.status.as_deref().map(one_line));
    parts.extend(state.errno.map(|errno| format!("errno {errno}")));
    let flags = [
        (state.reloading, "reloading"),
        (state.paused, "paused"),
        (state.changed, "changed"),
        (state.adopted && state.pid.is_some(), "adopted"),
        // Only a whole state says so: a file without the field says nothing.
        (!state.alarms && !state.name.is_empty(), "alarms silenced"),
    ];
    parts.extend(flags.into_iter().filter(|(holds, _)| *holds).map(|(_, word)| word.to_owned()));
    parts.join(", ")
}

/// What is wanted, where the state does not say as much.
fn wanted(state: &State) -> Option<&'static str> {
    match (state.state, state.want()) {
        (StateName::Starting | StateName::Up | StateName::Ready | StateName::Waiting, Want::Down) => Some("want down"),
        (StateName::Starting | StateName::Up | StateName::Ready, Want::Once) => Some("once"),
        (StateName::Stopping | StateName::Finishing | StateName::Down, Want::Up) => Some("want up"),
        (StateName::Down, Want::Down | Want::Once) if !state.enabled => Some("normally down"),
        (
            StateName::Starting
            | StateName::Up
            | StateName::Ready
            | StateName::Stopping
            | StateName::Finishing
            | StateName::Waiting
            | StateName::Down
            | StateName::Failed
            | StateName::Incomplete
            | StateName::Rejected,
            Want::Up | Want::Down | Want::Once,
        ) => None,
    }
}

/// How it ended last, if that explains anything about how it is now.
fn last_exit(state: &State, now: Wall) -> Option<String> {
    let exit = state.exits.first()?.exit()?;
    let ago = duration(between(exit.at, now));
    match state.state {
        StateName::Down | StateName::Failed => Some(format!("{} ({ago} ago)", exit.how)),
        StateName::Waiting | StateName::Finishing => Some(exit.how.to_string()),
        StateName::Up | StateName::Ready | StateName::Starting if uptime(state) < NEWS => {
            Some(format!("last exit: {}", exit.how))
        }
        StateName::Up
        | StateName::Ready
        | StateName::Starting
        | StateName::Stopping
        | StateName::Incomplete
        | StateName::Rejected => None,
    }
}

/// As long as this after a restart its cause is worth a word.
const NEWS: Duration = Duration::from_hours(1);

/// From one time to a later one; nothing if it is not later.
#[must_use]
pub fn between(from: Wall, to: Wall) -> Duration {
    to.since(from)
}

/// A duration as people say it: its two largest units, of which the smaller may be missing.
#[must_use]
pub fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let units = [("d", 86400), ("h", 3600), ("m", 60), ("s", 1)];
    let Some(first) = units.iter().position(|(_, length)| seconds >= *length) else {
        return "0s".to_owned();
    };
    let mut rest = seconds;
    let mut words = Vec::new();
    for (unit, length) in units.iter().skip(first).take(2) {
        let count = rest / length;
        rest %= length;
        if count > 0 {
            words.push(format!("{count}{unit}"));
        }
    }
    words.join(" ")
}

/// Nothing that another program wrote may move the cursor or break the line.
fn one_line(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { '\u{fffd}' } else { letter }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pure::state::ExitEntry;

    const NOW: Now = Now { wall: Wall { seconds: 1_795_341_600, nanos: 0 }, supervised: true };

    fn state(name: StateName) -> State {
        State { name: "web".into(), state: name, want: "up".into(), alarms: true, enabled: true, ..State::default() }
    }

    fn exit(code: i32) -> ExitEntry {
        ExitEntry {
            at: "2026-11-22T09:57:55Z".into(),
            pid: 9,
            code: Some(code),
            signal: None,
            core: false,
            oom: false,
            uptime: 0.5,
            last_lines: Vec::new(),
        }
    }

    #[test]
    fn durations_for_people() {
        for (seconds, words) in [
            (0, "0s"),
            (59, "59s"),
            (60, "1m"),
            (125, "2m 5s"),
            (3600, "1h"),
            (3605, "1h"),
            (7260, "2h 1m"),
            (273_600, "3d 4h"),
            (86_460, "1d"),
            (40_000_000, "462d 23h"),
        ] {
            assert_eq!(duration(Duration::from_secs(seconds)), words);
        }
        assert_eq!(duration(Duration::MAX), "213503982334601d 7h");
    }

    #[test]
    fn notes_say_what_one_needs() {
        let waiting = State {
            exits: vec![exit(1)],
            next_start: Some("2026-11-22T10:00:04Z".into()),
            ..state(StateName::Waiting)
        };
        assert_eq!(note(&waiting, NOW), "exited 1, next start in 4s");
        let failed = State { reason: Some("5 exits in 60s".into()), ..state(StateName::Failed) };
        assert_eq!(note(&failed, NOW), "5 exits in 60s");
        let down = State { want: "down".into(), exits: vec![exit(0)], ..state(StateName::Down) };
        assert_eq!(note(&down, NOW), "exited 0 (2m 5s ago)");
        let kept = State { want: "down".into(), enabled: false, ..state(StateName::Down) };
        assert_eq!(note(&kept, NOW), "normally down");
        let flags =
            State { paused: true, changed: true, adopted: true, alarms: false, pid: Some(7), ..state(StateName::Up) };
        assert_eq!(note(&flags, NOW), "paused, changed, adopted, alarms silenced");
        assert_eq!(note(&state(StateName::Up), NOW), "");
        let why = Some("run: not executable".to_owned());
        let reason = Some("rejected: run: not executable".to_owned());
        let rejected =
            State { rejected: why.clone(), reason, uptime: Some(1e6), changed: true, ..state(StateName::Up) };
        assert_eq!(note(&rejected, NOW), "rejected: run: not executable, changed");
        let twice =
            State { rejected: why.clone(), reason: why.clone(), exits: vec![exit(1)], ..state(StateName::Waiting) };
        assert_eq!(note(&twice, NOW), "rejected: run: not executable");
        assert_eq!(
            note(&State { reason: why.clone(), rejected: why, ..state(StateName::Rejected) }, NOW),
            "run: not executable"
        );
        let evil = State { reason: Some("\x1b[2J\n".into()), ..state(StateName::Failed) };
        assert_eq!(note(&evil, NOW), "\u{fffd}[2J\u{fffd}");
    }

    #[test]
    fn what_nobody_supervises_is_not_called_up() {
        let name = ModuleName::new(b"web").expect("a name");
        let up = State { pid: Some(412), ..state(StateName::Up) };
        let row = row(&name, &up, Now { supervised: false, ..NOW });
        assert_eq!((row.state, row.pid), ("unsupervised", None));
        assert_eq!(row.note, "supervise not running, last known: up (pid 412)");
    }
}
