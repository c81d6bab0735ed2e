//! What a supervise thread waits on: its FIFOs, its program, and mail from the parent. One `poll` with a deadline.
//!
//! Must never interpret what comes.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

use super::clock;
use crate::pure::time::Moment;

/// What both ends hold. An empty queue takes no memory, and there is one for every module.
#[derive(Debug)]
struct Shared<M> {
    /// Readable while there is mail.
    wake: OwnedFd,
    mail: Mutex<VecDeque<M>>,
}

impl<M> Shared<M> {
    fn mail(&self) -> MutexGuard<'_, VecDeque<M>> {
        self.mail.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The receiving end.
#[derive(Debug)]
pub struct Inbox<M>(Arc<Shared<M>>);

/// The sending end; it never blocks.
#[derive(Debug)]
pub struct Mailbox<M>(Arc<Shared<M>>);

impl<M> Clone for Mailbox<M> {
    fn clone(&self) -> Mailbox<M> {
        Mailbox(Arc::clone(&self.0))
    }
}

/// Makes both ends.
///
/// # Errors
/// No descriptor can be had.
pub fn pair<M>() -> io::Result<(Mailbox<M>, Inbox<M>)> {
    let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
    let shared = Arc::new(Shared { wake, mail: Mutex::default() });
    Ok((Mailbox(Arc::clone(&shared)), Inbox(shared)))
}

impl<M> Mailbox<M> {
    /// Sends; a thread that is gone misses nothing.
    pub fn send(&self, mail: M) {
        self.0.mail().push_back(mail);
        // Full means that it is readable already.
        let _ = rustix::io::write(&self.0.wake, &1u64.to_ne_bytes());
    }
}

/// What can be done without waiting.
#[derive(Debug, Default)]
pub struct Ready {
    /// There is mail, or there was.
    pub mail: bool,
    /// Which of the descriptors given are readable.
    pub descriptors: Vec<bool>,
}

impl<M> Inbox<M> {
    /// Waits until one of `descriptors` is readable, mail comes, or the deadline passes.
    #[must_use]
    pub fn wait(&self, descriptors: &[BorrowedFd<'_>], deadline: Option<Moment>) -> Ready {
        let mut polled: Vec<PollFd<'_>> = Vec::with_capacity(descriptors.len() + 1);
        polled.push(PollFd::from_borrowed_fd(self.0.wake.as_fd(), PollFlags::IN));
        polled.extend(descriptors.iter().map(|descriptor| PollFd::from_borrowed_fd(*descriptor, PollFlags::IN)));
        let timeout = deadline.map(|deadline| {
            let left = deadline.since(clock::moment());
            Timespec { tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX), tv_nsec: left.subsec_nanos().into() }
        });
        if poll(&mut polled, timeout.as_ref()).is_err() {
            // EINTR or ENOMEM: the caller looks at everything and comes back.
            return Ready { mail: true, descriptors: vec![false; descriptors.len()] };
        }
        let mut readable = polled.iter().map(|polled| !polled.revents().is_empty());
        Ready { mail: readable.next().unwrap_or(false), descriptors: readable.collect() }
    }

    /// Readable while there is mail, for who waits for much else.
    #[must_use]
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.wake.as_fd()
    }

    /// All mail that there is, the oldest first.
    #[must_use]
    pub fn take(&self) -> VecDeque<M> {
        // Emptied first: mail that comes after this makes it readable again.
        let mut count = [0; 8];
        let _ = rustix::io::read(&self.0.wake, &mut count);
        std::mem::take(&mut *self.0.mail())
    }
}
