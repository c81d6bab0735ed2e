//! Signals by number and by pidfd, and the children of one thread.
//!
//! Must never be given a pid that may be somebody else's by now.

use std::ffi::{c_int, c_void};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

use crate::pure::exit::{Pid, Signal};

/// Sends a signal to a process that the caller knows to be unreaped, or to itself.
///
/// # Errors
/// As `kill`.
pub fn kill(pid: Pid, signal: Signal) -> io::Result<()> {
    // SAFETY: takes numbers.
    check(unsafe { libc::kill(pid.get(), signal.0) })
}

/// Sends a signal to the process of a pidfd.
///
/// # Errors
/// As `pidfd_send_signal`.
pub fn kill_by_pidfd(pidfd: BorrowedFd<'_>, signal: Signal) -> io::Result<()> {
    // SAFETY: a descriptor, two numbers, and NULL for the siginfo.
    let result =
        unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal.0, ptr::null::<c_void>(), 0) };
    check(c_int::try_from(result).unwrap_or(-1))
}

/// The first child of this very thread that has ended, unreaped; children of other threads are passed over.
#[must_use]
pub fn peek_own_thread() -> Option<Pid> {
    // SAFETY: zeroed is a valid `siginfo_t`; `waitid` writes to it alone, and where it returns 0 `si_pid` is set or 0.
    unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT | libc::__WNOTHREAD;
        if libc::waitid(libc::P_ALL, 0, &raw mut info, options) < 0 {
            return None;
        }
        Pid::new(info.si_pid())
    }
}

pub(super) fn check(result: c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
