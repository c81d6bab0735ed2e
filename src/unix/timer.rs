//! A timer that another thread waits for: set and stopped without waking anybody.
//!
//! Must never know what it is for.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};

/// A timer.
#[derive(Debug)]
pub struct Timer(OwnedFd);

impl Timer {
    /// One that is stopped.
    ///
    /// # Errors
    /// There is no descriptor for it.
    pub fn new() -> io::Result<Timer> {
        Ok(Timer(timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC)?))
    }

    /// Lets it pass once, so long from now.
    pub fn set(&self, after: Duration) {
        // Zero would stop it.
        let nanos = after.subsec_nanos().max(u32::from(after.is_zero()));
        self.arm(i64::try_from(after.as_secs()).unwrap_or(i64::MAX), nanos);
    }

    /// Stops it.
    pub fn stop(&self) {
        self.arm(0, 0);
    }

    /// Waits until it passes.
    pub fn wait(&self) {
        let mut count = [0; 8];
        // Nothing but a signal can end this earlier, and who waits looks at the time anyway.
        let _ = rustix::io::read(&self.0, &mut count);
    }

    fn arm(&self, seconds: i64, nanos: u32) {
        let value = Timespec { tv_sec: seconds, tv_nsec: nanos.into() };
        let once = Itimerspec { it_interval: Timespec::default(), it_value: value };
        // The time is a valid one, and nothing else can be refused.
        let _ = timerfd_settime(&self.0, TimerfdTimerFlags::empty(), &once);
    }
}
