//! A program that runs beside the module's own for a limited time, in a session of its own, and is never waited for.
//!
//! Must never know what it is for.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Child;
use crate::pure::exit::{How, Pid, Signal};
use crate::pure::time::Moment;
use crate::unix::raw::{self, Started};
use crate::unix::{clock, pidfd, remains};

/// What was killed ends at once, unless the kernel keeps it.
const AFTER_KILL: Duration = Duration::from_secs(10);

/// One that runs, or has ended and was not collected.
#[derive(Debug)]
pub(super) struct Helper {
    child: Child,
    /// When it is killed; `None` once it was.
    kill_at: Option<Moment>,
    /// What it leaves in its session ends with it.
    whole: bool,
}

/// How a helper is when it is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// It runs.
    Runs,
    /// It has run for too long, and was killed just now.
    TooLong,
    /// It has ended and was collected.
    Ended(How),
}

impl Helper {
    /// One that was started now and has so long.
    pub(super) fn new(started: Started, limit: Duration, whole: bool) -> Helper {
        Helper { child: Child::new(started.pid, started.pidfd), kill_at: Some(clock::moment().plus(limit)), whole }
    }

    pub(super) fn child(&self) -> &Child {
        &self.child
    }

    pub(super) fn pid(&self) -> Pid {
        self.child.pid
    }

    /// Readable once it has ended.
    pub(super) fn ended(&self) -> Option<BorrowedFd<'_>> {
        self.child.ended()
    }

    /// When it must be looked at.
    pub(super) fn deadline(&self) -> Option<Moment> {
        // One without a pidfd sends mail when it ends; one that is traced sends nothing.
        let look = self.child.withheld.then(|| clock::moment().plus(Duration::from_secs(1)));
        [self.kill_at, look].into_iter().flatten().min()
    }

    /// Looks at it: one that has ended is collected, one whose time is up is killed.
    pub(super) fn look(&mut self, now: Moment) -> Seen {
        match pidfd::peek(self.child.pid) {
            Ok(None) => {
                self.child.withheld = self.child.pidfd.as_ref().is_some_and(|pidfd| pidfd::is_readable(pidfd.as_fd()));
                if self.kill_at.is_none_or(|at| at > now) {
                    return Seen::Runs;
                }
                self.kill();
                Seen::TooLong
            }
            Ok(Some(how)) => self.collect(how),
            Err(_) => self.collect(How::Unknown),
        }
    }

    fn collect(&self, how: How) -> Seen {
        if self.whole && remains::may_exist() {
            self.kill_session();
        }
        pidfd::reap(self.child.pid);
        Seen::Ended(how)
    }

    /// Ends it, with its session.
    pub(super) fn kill(&mut self) {
        self.kill_at = None;
        let _ = match &self.child.pidfd {
            Some(pidfd) => raw::kill_by_pidfd(pidfd.as_fd(), Signal::KILL),
            None => raw::kill(self.child.pid, Signal::KILL),
        };
        self.kill_session();
    }

    /// It is not collected yet, so its session can be nobody else's.
    fn kill_session(&self) {
        for member in remains::of_session(self.child.pid).unwrap_or_default() {
            member.signal(Signal::KILL);
        }
    }

    /// Waits until it has ended, ends it when its time is up, and collects it; blocks. For one whose thread ends: if it ended
    /// before that thread has, nobody else would hear of it.
    pub(super) fn outlast(mut self) {
        let left = self.kill_at.map_or(Duration::ZERO, |at| at.since(clock::moment()));
        if !self.ends_within(left) {
            self.kill();
            // One that even KILL does not end is left to whoever collects strangers.
            let _ = self.ends_within(AFTER_KILL);
        }
        if let Some(pidfd) = &self.child.pidfd {
            pidfd::collect(pidfd.as_fd());
        }
    }

    fn ends_within(&self, limit: Duration) -> bool {
        self.child.pidfd.as_ref().is_none_or(|pidfd| pidfd::ends_within(pidfd.as_fd(), limit))
    }

    pub(super) fn handed(&self) -> HandedHelper {
        HandedHelper { pid: self.child.pid.get(), kill_at: self.kill_at }
    }

    /// The helper again; `None` if it cannot be one.
    pub(super) fn handed_down(handed: &HandedHelper, whole: bool) -> Option<Helper> {
        let pid = handed.pid()?;
        Some(Helper { child: Child::adopted(pid, pidfd::open(pid).ok()), kill_at: handed.kill_at, whole })
    }
}

/// A helper as it is handed down to the next svtree.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct HandedHelper {
    pid: i32,
    kill_at: Option<Moment>,
}

impl HandedHelper {
    pub(super) fn pid(&self) -> Option<Pid> {
        Pid::new(self.pid)
    }
}
