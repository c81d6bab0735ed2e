//! `state.json`: everything a program may want to know of a module, and what a successor needs.
//!
//! The schema is only ever added to. Must never open a file.

use serde::{Deserialize, Serialize};

use super::alarm::Alarm;
use super::config::Stop;
use super::exit::{Exit, How, Pid, Signal};
use super::name::printable;
use super::reconcile::Id;
use super::status::Want;
use super::time::Wall;

/// The names of `state`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StateName {
    /// Nothing runs.
    #[default]
    Down,
    /// It runs, and is not ready yet.
    Starting,
    /// It runs, and nothing says when it is ready: it counts as ready.
    Up,
    /// It runs, and said that it is ready.
    Ready,
    /// It was told to stop and something of it still runs.
    Stopping,
    /// `finish` runs.
    Finishing,
    /// It will be started again at `next_start`.
    Waiting,
    /// It was given up.
    Failed,
    /// The directory holds no `run` and no `service.toml` yet.
    Incomplete,
    /// The directory has a mistake.
    Rejected,
}

impl StateName {
    /// The word as it stands in the file.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            StateName::Down => "down",
            StateName::Starting => "starting",
            StateName::Up => "up",
            StateName::Ready => "ready",
            StateName::Stopping => "stopping",
            StateName::Finishing => "finishing",
            StateName::Waiting => "waiting",
            StateName::Failed => "failed",
            StateName::Incomplete => "incomplete",
            StateName::Rejected => "rejected",
        }
    }
}

/// One element of `exits`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExitEntry {
    /// RFC 3339.
    pub at: String,
    /// The pid it had.
    pub pid: i32,
    /// The exit code, if it exited by itself.
    pub code: Option<i32>,
    /// The number of the signal that ended it.
    pub signal: Option<i32>,
    /// Whether it left a core dump.
    pub core: bool,
    /// Whether it was killed for want of the memory that its module may have; only if it was.
    #[serde(default, skip_serializing_if = "is_false")]
    pub oom: bool,
    /// Seconds it had run, with three decimals.
    pub uptime: f64,
    /// What it said last: in the file of the last exit only, of the others where somebody asks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub last_lines: Vec<String>,
}

impl ExitEntry {
    /// The entry of one exit.
    #[must_use]
    pub fn new(exit: &Exit) -> ExitEntry {
        let (code, signal, core) = match exit.how {
            How::Exited(code) => (Some(code), None, false),
            How::Killed { signal, core } => (None, Some(signal.0), core),
            How::Unknown => (None, None, false),
        };
        ExitEntry {
            at: exit.at.rfc3339(),
            pid: exit.pid.get(),
            code,
            signal,
            core,
            oom: exit.oom,
            uptime: seconds(exit.uptime),
            last_lines: Vec::new(),
        }
    }

    /// The exit of an entry; `None` for one that no exit makes.
    #[must_use]
    pub fn exit(&self) -> Option<Exit> {
        Some(Exit {
            at: Wall::from_rfc3339(&self.at)?,
            pid: Pid::new(self.pid)?,
            how: match (self.code, self.signal) {
                (Some(code @ 0..=255), None) => How::Exited(code),
                (None, Some(signal @ 1..=64)) => How::Killed { signal: Signal(signal), core: self.core },
                (None, None) => How::Unknown,
                (Some(_), _) | (None, Some(_)) => return None,
            },
            oom: self.oom,
            uptime: std::time::Duration::try_from_secs_f64(self.uptime).ok()?,
        })
    }
}

/// A duration in seconds with three decimals, as `state.json` has them.
#[must_use]
pub fn seconds(duration: std::time::Duration) -> f64 {
    // Milliseconds of any uptime fit a double exactly.
    #[expect(clippy::cast_precision_loss, reason = "exact below 285,000 years")]
    let millis = duration.as_millis() as f64;
    millis / 1000.0
}

/// What a successor needs to take the module over; meaningless under another boot id.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Record {
    /// The boot id of the kernel under which this was written.
    pub boot_id: String,
    /// Device and inode of the service directory,
    pub directory: [u64; 2],
    /// and the number of the instance, where that is several modules.
    #[serde(skip_serializing_if = "is_zero")]
    pub instance: u32,
    /// The pid of the program, if there is one.
    pub pid: Option<i32>,
    /// Whether that pid is of its `finish`.
    pub finishing: bool,
    /// Between these two readings of `CLOCK_BOOTTIME`, in nanoseconds, the program was cloned.
    pub started: [u64; 2],
    /// `CLOCK_BOOTTIME` in nanoseconds at `since`.
    pub since: u64,
    /// `CLOCK_MONOTONIC` in nanoseconds at the last start, whether it worked or not.
    pub last_start: Option<u64>,
    /// The same of the next start.
    pub until: Option<u64>,
    /// The same of the exits that count towards `max_tries`; true if it dumped core.
    pub counted: Vec<(u64, bool)>,
    /// Exits since the last run of `restart.interval`.
    pub streak: u32,
    /// Whether it was given up.
    pub failed: bool,
    /// The session that the program is in, if it is not one that svtree made for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<i32>,
    /// The cgroup that it was started in, below the mount of the hierarchy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<String>,
    /// How it is stopped, if not as by default: its files may be gone by the time that it is to be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop: Option<Stop>,
    /// Whether it was no svtree that wrote this, but a supervise alone: its directory is none of a tree's business.
    #[serde(skip_serializing_if = "is_false")]
    pub alone: bool,
    /// The directory of the control group whose memory is limited, and how many had been killed in it for want of memory
    /// before the program was started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<(String, u64)>,
    /// Whether the program was told to end.
    #[serde(skip_serializing_if = "is_false")]
    pub told: bool,
    /// Whether `d` or the end of the tree was the last word.
    #[serde(skip_serializing_if = "is_false")]
    pub ending: bool,
    /// Whether it is to be started once it has stopped.
    #[serde(skip_serializing_if = "is_false")]
    pub asked: bool,
    /// Whether it is to leave once nothing runs.
    #[serde(skip_serializing_if = "is_false")]
    pub leaving: bool,
    /// While it is being stopped: `CLOCK_MONOTONIC` in nanoseconds when KILL follows, and whether it was sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stopping: Option<(Option<u64>, bool)>,
    /// Whether that is since the program said that it ends.
    #[serde(skip_serializing_if = "is_false")]
    pub itself: bool,
    /// Whether that is since what it needs, or its group, is started again or failed.
    #[serde(skip_serializing_if = "is_false")]
    pub of_tree: bool,
    /// What was told of it, at times of `CLOCK_MONOTONIC`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alarms: Option<Alarm>,
    /// Why, if that is since it is not well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unwell: Option<String>,
    /// Whether it is not ready yet.
    #[serde(skip_serializing_if = "is_false")]
    pub awaited: bool,
    /// `CLOCK_MONOTONIC` in nanoseconds when it became ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready: Option<u64>,
    /// The same by when it is to be ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready_by: Option<u64>,
    /// How often it is to say that it is well, in nanoseconds, and by when next.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub watchdog: Option<(u64, Option<u64>)>,
    /// When it is asked next whether it is well, as all the above, and how many bad answers came last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<(Option<u64>, u32)>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
fn is_false(value: &bool) -> bool {
    !value
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_zero(value: &u32) -> bool {
    *value == 0
}

impl Record {
    /// Which directory, and which of its instances.
    #[must_use]
    pub fn id(&self) -> Id {
        let [device, inode] = self.directory;
        Id { device, inode, instance: self.instance }
    }

    /// The process that was recorded; `None` for a number that no program of ours has: nobody, a group, PID 1.
    #[must_use]
    pub fn process(&self) -> Option<Pid> {
        self.pid.and_then(Pid::new).filter(|pid| pid.get() > 1)
    }
}

/// The file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct State {
    /// The module, escaped as [`super::name::escaped`] does.
    pub name: String,
    /// What is true.
    pub state: StateName,
    /// What was asked: `up`, `down`, `once`.
    pub want: String,
    /// The program's pid.
    pub pid: Option<i32>,
    /// RFC 3339, the last change of pid.
    pub since: String,
    /// Seconds since then; only where it is computed when asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uptime: Option<f64>,
    /// Whether it counts as ready.
    pub ready: bool,
    /// RFC 3339, when it was said to be ready.
    pub ready_since: Option<String>,
    /// Whether the program says that it reads its configuration again.
    pub reloading: bool,
    /// What the program says that it does.
    pub status: Option<String>,
    /// The number of the error that the program says it has met.
    pub errno: Option<i32>,
    /// Whether it is stopped by `p`.
    pub paused: bool,
    /// Whether alarms are on.
    pub alarms: bool,
    /// Whether its files say something else than what it was started with.
    pub changed: bool,
    /// Whether the program was started by another svtree and taken over.
    pub adopted: bool,
    /// Whether the program put itself in the background and was followed there.
    pub followed: bool,
    /// Starts after the first one.
    pub restarts: u64,
    /// RFC 3339, when it will be started.
    pub next_start: Option<String>,
    /// Why it is as it is.
    pub reason: Option<String>,
    /// What is wrong with its files as they are now, or with what they name; what was in force before stays in force.
    pub rejected: Option<String>,
    /// The last exits, the newest first.
    pub exits: Vec<ExitEntry>,
    /// All exits since it was supervised first.
    pub exits_total: u64,
    /// Whether it is started when svtree starts: no file `down`, and `enabled` not false.
    pub enabled: bool,
    /// The names of what it needs, as its files have them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub needs: Vec<String>,
    /// The same of what it only comes after.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<String>,
    /// The service directory, absolute, escaped as the name.
    pub directory: String,
    /// For the successor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub record: Option<Record>,
}

impl State {
    /// The contents of the file: one line of JSON.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        // No map with keys other than strings, so serialisation cannot fail.
        let mut bytes = serde_json::to_vec(self).unwrap_or_default();
        bytes.push(b'\n');
        bytes
    }

    /// Reads the file, of this version or another: unknown fields are passed over, missing ones have defaults.
    ///
    /// # Errors
    /// It is no JSON object of this kind; in one line, whatever stands in the file.
    pub fn decode(bytes: &[u8]) -> Result<State, String> {
        serde_json::from_slice(bytes).map_err(|error| printable(error.to_string().as_bytes()))
    }

    /// What was asked; `up` if the file says nothing known.
    #[must_use]
    pub fn want(&self) -> Want {
        Want::from_name(&self.want).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip_and_what_is_missing() {
        let state = State {
            name: "web".into(),
            state: StateName::Up,
            want: "up".into(),
            pid: Some(7),
            record: Some(Record { pid: Some(7), counted: vec![(5, true)], ..Record::default() }),
            ..State::default()
        };
        assert_eq!(State::decode(&state.encode()), Ok(state));
        assert_eq!(State::decode(b"{}"), Ok(State::default()));
        assert!(State::decode(b"[1]").is_err());
        assert!(State::decode(b"\xff").is_err());
    }
}
