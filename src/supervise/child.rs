//! A process that a supervise thread waits for, and how it is held.
//!
//! Must never be reaped here.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::pure::exit::Pid;
use crate::unix::pidfd;

/// A process that is waited for: the program or its `finish`.
#[derive(Debug)]
pub(super) struct Child {
    pub(super) pid: Pid,
    pub(super) pidfd: Option<OwnedFd>,
    /// Whether it is our child; an adopted one is not, and how it ends cannot be told.
    pub(super) own: bool,
    /// It has ended, and the kernel does not say how yet: whoever traces it has not let go of it.
    pub(super) withheld: bool,
}

impl Child {
    pub(super) fn new(pid: Pid, pidfd: Option<OwnedFd>) -> Child {
        Child { pid, pidfd, own: true, withheld: false }
    }

    /// One of a predecessor, or of a thread of this process that is gone.
    pub(super) fn adopted(pid: Pid, pidfd: Option<OwnedFd>) -> Child {
        Child { pid, pidfd, own: pidfd::peek(pid).is_ok(), withheld: false }
    }

    /// Readable once it has ended, where that is of use.
    pub(super) fn ended(&self) -> Option<BorrowedFd<'_>> {
        self.pidfd.as_ref().filter(|_| !self.withheld).map(AsFd::as_fd)
    }
}
