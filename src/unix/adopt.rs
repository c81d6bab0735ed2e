//! Proves that a recorded process is still the same one: pid, start time and boot id agree.
//!
//! Must never adopt on doubt.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::OnceLock;

use super::mark::{Mark, Marked};
use super::{cgroup, clock, pidfd, remains};
use crate::pure::exit::{How, Pid};
use crate::pure::state::Record;
use crate::pure::status::Want;

/// The boot id of the running kernel; empty where it cannot be read, and then nothing is ever adopted.
#[must_use]
pub fn boot_id() -> &'static str {
    static ID: OnceLock<String> = OnceLock::new();
    ID.get_or_init(|| {
        fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|text| text.trim().to_owned()).unwrap_or_default()
    })
}

/// A record brought up to date by the mark of the child that was spawned last, and what was wanted then: the mark is
/// younger than the record if svtree died before it could write one.
#[must_use]
pub fn latest(record: Record, mark: Option<&[u8]>) -> (Record, Option<Want>) {
    match mark.and_then(Mark::read) {
        Some(mark) if record.boot_id != mark.boot_id || mark.started > record.started => {
            let Marked { boot_id, pid, started, id, want } = mark;
            // What is recorded of the one before it counts as long as it is of the module, not of that program.
            let marked = Record {
                boot_id,
                pid: Some(pid.get()),
                started,
                directory: [id.device, id.inode],
                instance: id.instance,
                since: started[0],
                last_start: Some(monotonic(started[0])),
                counted: record.counted.clone(),
                streak: record.streak,
                cgroup: record.cgroup.as_deref().and_then(|recorded| cgroup::beside(recorded, id)),
                ..Record::default()
            };
            match find(&marked) {
                Found::Alive(..) | Found::Ended(..) => (marked, Some(want)),
                Found::Nothing => (record, None),
            }
        }
        Some(_) | None => (record, None),
    }
}

/// A reading of `CLOCK_BOOTTIME` as one of `CLOCK_MONOTONIC`, both in nanoseconds, if the machine has not slept since.
fn monotonic(boottime: u64) -> u64 {
    clock::moment().0.saturating_sub(clock::boottime().saturating_sub(boottime))
}

/// What became of a recorded program.
#[derive(Debug)]
pub enum Found {
    /// It runs, and is held.
    Alive(Pid, Option<OwnedFd>),
    /// It has ended, and how if that can be told; and whether its pid is still nobody else's, so that what is of a
    /// session or group by that number is of it.
    Ended(Pid, How, bool),
    /// Nothing was recorded, or not under this boot.
    Nothing,
}

/// Looks for the program of a record.
#[must_use]
pub fn find(record: &Record) -> Found {
    if record.boot_id.is_empty() || record.boot_id != boot_id() {
        return Found::Nothing;
    }
    let Some(pid) = record.process() else {
        return Found::Nothing;
    };
    // Held first: what is read after that is of the process that is held, or of none.
    let held = pidfd::open(pid).ok();
    let Ok(stat) = remains::stat(pid) else {
        // Nothing is known but that there is one: to take it for dead would start a second copy.
        return if held.is_some() { Found::Alive(pid, held) } else { Found::Ended(pid, How::Unknown, false) };
    };
    let Some(stat) = stat else {
        return Found::Ended(pid, How::Unknown, true);
    };
    if !started_between(stat.started, record.started) {
        return Found::Ended(pid, How::Unknown, false);
    }
    if remains::has_ended(pid, held.as_ref().map(AsFd::as_fd)) {
        return Found::Ended(pid, pidfd::peek(pid).ok().flatten().unwrap_or(How::Unknown), true);
    }
    Found::Alive(pid, held)
}

/// The readings of the clock between which a process was started, by its start time in ticks.
#[must_use]
pub fn between(ticks: u64) -> [u64; 2] {
    let start = ticks.saturating_mul(TICK);
    [start, start.saturating_add(TICK - 1)]
}

/// In nanoseconds. `USER_HZ` is 100 on every architecture that Rust's standard library runs on.
const TICK: u64 = 10_000_000;

/// Whether a start time in ticks of 1/100 s falls between two readings of the clock in nanoseconds.
fn started_between(ticks: u64, [before, after]: [u64; 2]) -> bool {
    before / TICK <= ticks && ticks <= after / TICK
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_time_must_agree() {
        assert!(started_between(123, [1_230_000_000, 1_230_500_000]));
        assert!(started_between(124, [1_239_999_999, 1_240_000_001]));
        assert!(!started_between(125, [1_239_999_999, 1_240_000_001]));
        assert!(!started_between(122, [1_239_999_999, 1_240_000_001]));
    }

    #[test]
    fn another_boot_or_another_process_is_not_it() {
        let own = i32::try_from(std::process::id()).ok();
        let record = Record { boot_id: "another".into(), pid: own, started: [0, u64::MAX], ..Record::default() };
        assert!(matches!(find(&record), Found::Nothing));
        let record = Record { boot_id: boot_id().into(), started: [0, 0], ..record };
        assert!(matches!(find(&record), Found::Ended(..)));
        let record = Record { started: [0, u64::MAX], ..record };
        assert!(matches!(find(&record), Found::Alive(..)));
    }
}
