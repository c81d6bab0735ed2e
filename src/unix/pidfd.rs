//! The one place for pidfds and for the way a process ended: open, peek, reap. Must never keep a bare pid.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{PidfdFlags, WaitId, WaitIdOptions, WaitIdStatus, getpid, pidfd_open, waitid};

use super::{clock, raw};
use crate::pure::exit::{How, Pid, Signal};

/// Opens a pidfd; close-on-exec, readable once the process has ended.
///
/// # Errors
/// `ESRCH` when there is no such process, others where pidfds cannot be had.
pub fn open(pid: Pid) -> io::Result<OwnedFd> {
    Ok(pidfd_open(kernel_pid(pid), PidfdFlags::empty())?)
}

/// Whether the process of a pidfd has ended, all its threads with it.
#[must_use]
pub fn is_readable(pidfd: BorrowedFd<'_>) -> bool {
    let mut polled = [PollFd::from_borrowed_fd(pidfd, PollFlags::IN)];
    poll(&mut polled, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).is_ok_and(|ready| ready > 0)
}

/// Waits until the process of a pidfd has ended, but no longer than this; says whether it has. Blocks.
#[must_use]
pub fn ends_within(pidfd: BorrowedFd<'_>, limit: Duration) -> bool {
    let deadline = clock::moment().plus(limit);
    loop {
        let left = deadline.since(clock::moment());
        let mut polled = [PollFd::from_borrowed_fd(pidfd, PollFlags::IN)];
        match poll(&mut polled, Timespec::try_from(left).ok().as_ref()) {
            Ok(0) if left.is_zero() => return false,
            Ok(0) | Err(rustix::io::Errno::INTR) => {}
            Ok(_) => return true,
            Err(_) => return false,
        }
    }
}

/// How a child ended, without reaping it; `None` while it runs.
///
/// # Errors
/// `ECHILD` when it is no child of this process.
pub fn peek(pid: Pid) -> io::Result<Option<How>> {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    Ok(waitid(WaitId::Pid(kernel_pid(pid)), options)?.map(|status| how(&status)))
}

/// How a process that is no child ended, where the kernel tells: by its pidfd once its parent has collected it, else as
/// long as it is a zombie. It is known by `pidfd` that it has ended.
#[must_use]
pub fn how_of_another(pid: Pid, pidfd: BorrowedFd<'_>) -> Option<How> {
    let status = raw::exit_status(pidfd).or_else(|| {
        // Of a zombie, and of this one: once it is collected the pidfd tells.
        let stat = super::remains::stat(pid).ok().flatten()?;
        (stat.state == b'Z' && stat.status != 0 && raw::exit_status(pidfd).is_none()).then_some(stat.status)
    })?;
    Some(match status & 0x7f {
        0 => How::Exited((status >> 8) & 0xff),
        signal => How::Killed { signal: Signal(signal), core: status & 0x80 != 0 },
    })
}

/// Waits until a child has ended, without reaping it; blocks.
pub fn wait(pid: Pid) {
    while let Err(rustix::io::Errno::INTR) =
        waitid(WaitId::Pid(kernel_pid(pid)), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT)
    {}
}

/// Collects a child that has ended.
pub fn reap(pid: Pid) {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
    // A child that is not there any more is as collected as can be.
    let _ = waitid(WaitId::Pid(kernel_pid(pid)), options);
    release(pid);
}

/// Collects the child of a pidfd, if it has ended and nobody else has collected it; whichever thread is its parent.
pub fn collect(pidfd: BorrowedFd<'_>) {
    let _ = waitid(WaitId::PidFd(pidfd), WaitIdOptions::EXITED | WaitIdOptions::NOHANG);
}

/// Programs that the kernel gave to the main thread, which must leave them to the threads that supervise them: those whose
/// thread has gone, and those that put themselves in the background.
static CLAIMED: Mutex<BTreeSet<Pid>> = Mutex::new(BTreeSet::new());

fn claims<T>(look: impl FnOnce(&mut BTreeSet<Pid>) -> T) -> T {
    look(&mut CLAIMED.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Keeps the reaper from collecting this process.
pub fn claim(pid: Pid) {
    claims(|claimed| claimed.insert(pid));
}

/// Whoever collects strangers may have it again.
pub fn release(pid: Pid) {
    if claims(|claimed| claimed.remove(&pid)) {
        wake_reaper();
    }
}

/// The reaper stopped at what was claimed: it is to look again.
fn wake_reaper() {
    if let Some(own) = Pid::new(getpid().as_raw_nonzero().get()) {
        let _ = raw::kill(own, Signal(libc::SIGCHLD));
    }
}

/// All programs that are kept so.
#[must_use]
pub fn claimed() -> Vec<Pid> {
    claims(|claimed| claimed.iter().copied().collect())
}

/// Whether all of these are kept so: pids as the kernel lists them, with a blank behind each.
#[must_use]
pub fn all_claimed(list: &[u8]) -> bool {
    let pids = list.split(|byte| *byte == b' ').filter(|pid| !pid.is_empty());
    let number = |pid: &[u8]| Pid::new(std::str::from_utf8(pid).ok()?.trim_end().parse().ok()?);
    claims(|claimed| pids.into_iter().all(|pid| number(pid).is_some_and(|pid| claimed.contains(&pid))))
}

/// Collects what this very thread is the parent of and nobody supervises: orphans that the kernel gave to svtree.
///
/// Programs are children of their modules' threads, and `__WNOTHREAD` passes them over; so nothing is ever collected
/// here that a supervise thread waits for. To be called by the main thread, to which orphans come.
pub fn reap_orphans() {
    while let Some(pid) = raw::peek_own_thread() {
        // Under the lock: one that is claimed now is either collected already or never collected here.
        let collected = claims(|claimed| {
            let collects = !claimed.contains(&pid);
            if collects {
                let _ = waitid(WaitId::Pid(kernel_pid(pid)), WaitIdOptions::EXITED | WaitIdOptions::NOHANG);
            }
            collects
        });
        if !collected {
            return;
        }
    }
}

fn how(status: &WaitIdStatus) -> How {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => How::Exited(code),
        (None, Some(signal)) => How::Killed { signal: Signal(signal), core: status.dumped() },
        (None, None) => How::Unknown,
    }
}

fn kernel_pid(pid: Pid) -> rustix::process::Pid {
    match rustix::process::Pid::from_raw(pid.get()) {
        Some(pid) => pid,
        // A `Pid` is positive.
        None => rustix::process::Pid::INIT,
    }
}
