//! The child that a process stands in front of, among all that ends under that process.
//!
//! Must never decide what follows an end, and never be used where another thread waits for children.

use std::io;

use rustix::io::Errno;
use rustix::process::{WaitId, WaitIdOptions, getpid, set_child_subreaper, waitid};

use super::{pidfd, raw};
use crate::pure::exit::{How, Pid, Signal};

/// Collects everything that has ended, up to the child itself: how that ended is told, and it stays a zombie, so that its
/// pid and its group can be nobody else's.
#[must_use]
pub fn collect(ward: Option<Pid>) -> Option<How> {
    while let Some(pid) = raw::peek_own_thread() {
        if ward == Some(pid)
            && let Ok(Some(how)) = pidfd::peek(pid)
        {
            return Some(how);
        }
        pidfd::reap(pid);
    }
    None
}

/// Whether a signal has stopped the child since it was asked last.
#[must_use]
pub fn has_stopped(ward: Pid) -> bool {
    let pid = rustix::process::Pid::from_raw(ward.get());
    let stopped = |pid| waitid(WaitId::Pid(pid), WaitIdOptions::STOPPED | WaitIdOptions::NOHANG);
    pid.is_some_and(|pid| matches!(stopped(pid), Ok(Some(_))))
}

/// Whether nothing is left that would end under this process.
#[must_use]
pub fn is_alone() -> bool {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    waitid(WaitId::All, options).is_err_and(|error| error == Errno::CHILD)
}

/// Whether this process is the first of its pid namespace: orphans come to it, and all others end with it.
#[must_use]
pub fn is_first() -> bool {
    getpid().is_init()
}

/// Makes the orphans of all that is started here come here.
///
/// # Errors
/// It is forbidden here.
pub fn become_subreaper() -> io::Result<()> {
    Ok(set_child_subreaper(Some(getpid()))?)
}

/// Ends this process as no exit does, so that whoever stands in front of it starts another one.
pub fn die() {
    raw::raise(Signal::KILL);
}
