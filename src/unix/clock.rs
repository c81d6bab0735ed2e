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

/// Now, on the clock that file systems take their times from, which goes on from tick to tick; `None` where that is another
/// one.
#[must_use]
pub fn coarse_wall() -> Option<Wall> {
    #[cfg(target_os = "linux")]
    {
        let time = clock_gettime(ClockId::RealtimeCoarse);
        Some(Wall { seconds: time.tv_sec, nanos: u32::try_from(time.tv_nsec).unwrap_or(0) })
    }
    #[cfg(not(target_os = "linux"))]
    None
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
