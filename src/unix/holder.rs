//! The process that holds a status root, found so that no other one can be mistaken for it.
//!
//! Must never hold the lock for longer than the question lasts, and never decide which signal is sent.

use std::fs;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::event::{PollFd, PollFlags};
use rustix::fs::FlockOperation;
use rustix::io::Errno;

use super::client::poll_until;
use super::home::file;
use super::pidfd;
use crate::pure::exit::{Pid, Signal};
use crate::pure::time::Moment;

/// The svscan that holds a status root: a process that cannot be mistaken for another one.
#[derive(Debug)]
pub struct Holder {
    /// Its pid.
    pub pid: Pid,
    process: OwnedFd,
}

/// Why there is no [`Holder`].
#[derive(Debug)]
pub enum NoHolder {
    /// Nobody holds the root.
    Nobody,
    /// Somebody does, but not the process that the lock names: it is still starting, or lives in another pid namespace.
    Unproven,
    /// The system refused.
    Failed(io::Error),
}

impl<E: Into<io::Error>> From<E> for NoHolder {
    fn from(error: E) -> NoHolder {
        NoHolder::Failed(error.into())
    }
}

impl Holder {
    /// Finds the process that holds a status root.
    ///
    /// The pid in the file alone proves nothing: it may be a dead one's, used again, or one of another pid namespace.
    /// So the process is pinned first, and must then be seen with the lock file open while the lock is taken.
    ///
    /// # Errors
    /// See [`NoHolder`].
    pub fn find(status_root: &Path) -> Result<Holder, NoHolder> {
        let lock = match fs::File::open(status_root.join(file::ROOT_LOCK)) {
            Ok(lock) => lock,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(NoHolder::Nobody),
            Err(error) => return Err(error.into()),
        };
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockShared) {
            Ok(()) => return Err(NoHolder::Nobody),
            Err(Errno::WOULDBLOCK) => {}
            Err(error) => return Err(error.into()),
        }
        let mut text = String::new();
        (&lock).take(32).read_to_string(&mut text)?;
        let pid = text.trim().parse().ok().and_then(Pid::new).ok_or(NoHolder::Unproven)?;
        let process = match pidfd::open(pid) {
            Ok(process) => process,
            Err(error) if error.raw_os_error() == Some(Errno::SRCH.raw_os_error()) => return Err(NoHolder::Unproven),
            Err(error) => return Err(error.into()),
        };
        let of_lock = lock.metadata()?;
        let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else {
            return Err(NoHolder::Unproven);
        };
        let open = descriptors.flatten().any(|entry| {
            fs::metadata(entry.path()).is_ok_and(|open| (open.dev(), open.ino()) == (of_lock.dev(), of_lock.ino()))
        });
        let holder = Holder { pid, process };
        if !open {
            return Err(NoHolder::Unproven);
        }
        // If the pinned one lives still, it had the pid all the while, and what was seen in /proc was its own.
        if holder.wait(Some(Moment::default()))? {
            return Err(NoHolder::Nobody);
        }
        Ok(holder)
    }

    /// Sends it a signal; nothing happens if it has ended.
    ///
    /// # Errors
    /// It is not ours to signal.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        let signal = rustix::process::Signal::from_named_raw(signal.0).ok_or(Errno::INVAL)?;
        match rustix::process::pidfd_send_signal(&self.process, signal) {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Readable once it has ended.
    #[must_use]
    pub fn ended(&self) -> BorrowedFd<'_> {
        self.process.as_fd()
    }

    /// Waits until it has ended, and says whether it did so before the deadline.
    ///
    /// # Errors
    /// The system refuses to wait.
    pub fn wait(&self, deadline: Option<Moment>) -> io::Result<bool> {
        poll_until(&mut [PollFd::new(&self.process, PollFlags::IN)], deadline)
    }
}
