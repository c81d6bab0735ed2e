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

/// `struct pidfd_info` of `linux/pidfd.h`, as of its first version.
#[repr(C)]
struct PidfdInfo {
    mask: u64,
    cgroup: u64,
    /// Pid, thread group, parent, then user and group, each real, effective, saved and of the file system.
    ids: [u32; 11],
    exit_code: i32,
}

/// `_IOWR(0xFF, 11, struct pidfd_info)`
const PIDFD_GET_INFO: libc::Ioctl = 0xC040_FF0B_u32 as libc::Ioctl;

/// The control group is there.
const PIDFD_INFO_CGROUPID: u64 = 1 << 2;

/// The exit status is asked for, and there.
const PIDFD_INFO_EXIT: u64 = 1 << 3;

/// How the process of a pidfd ended, as `wait` tells, once its parent has collected it; `None` before, and before Linux 6.15.
#[must_use]
pub fn exit_status(pidfd: BorrowedFd<'_>) -> Option<c_int> {
    let mut info = PidfdInfo { mask: PIDFD_INFO_EXIT, cgroup: 0, ids: [0; 11], exit_code: 0 };
    // SAFETY: the kernel reads and writes this structure, whose size is in the number of the call.
    let result = unsafe { libc::ioctl(pidfd.as_raw_fd(), PIDFD_GET_INFO, &raw mut info) };
    (result == 0 && info.mask & PIDFD_INFO_EXIT != 0).then_some(info.exit_code)
}

/// The control group of version 2 that the process of a pidfd is in, by its number, or was in when its parent collected it;
/// `None` where the kernel does not tell: before Linux 6.13, and of one that was collected before 6.17.
#[must_use]
pub fn cgroup_of(pidfd: BorrowedFd<'_>) -> Option<u64> {
    let mut info = PidfdInfo { mask: PIDFD_INFO_CGROUPID | PIDFD_INFO_EXIT, cgroup: 0, ids: [0; 11], exit_code: 0 };
    // SAFETY: the kernel reads and writes this structure, whose size is in the number of the call.
    let result = unsafe { libc::ioctl(pidfd.as_raw_fd(), PIDFD_GET_INFO, &raw mut info) };
    (result == 0 && info.mask & PIDFD_INFO_CGROUPID != 0 && info.cgroup != 0).then_some(info.cgroup)
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
