//! The only reader of the clocks. Must never wait.

use rustix::time::{ClockId, clock_gettime};

use crate::pure::time::{Moment, Stamp, Wall};

/// Now, on `CLOCK_MONOTONIC`.
#[must_use]
pub fn moment() -> Moment {
    Moment(nanos(ClockId::Monotonic))
}

/// Now, on the wall clock.
#[must_use]
pub fn wall() -> Wall {
    let time = clock_gettime(ClockId::Realtime);
    Wall { seconds: time.tv_sec, nanos: u32::try_from(time.tv_nsec).unwrap_or(0) }
}

/// Now, on both.
#[must_use]
pub fn stamp() -> Stamp {
    Stamp { moment: moment(), wall: wall() }
}

/// Now, on `CLOCK_BOOTTIME` in nanoseconds: the clock of `/proc/PID/stat`.
#[must_use]
pub fn boottime() -> u64 {
    nanos(ClockId::Boottime)
}

fn nanos(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000) + u64::try_from(time.tv_nsec).unwrap_or(0)
}
