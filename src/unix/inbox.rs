//! What a supervise thread waits on: its FIFOs, its program, and mail from the parent. One `poll` with a deadline.
//!
//! Must never interpret what comes.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, unbounded};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

use super::clock;
use crate::pure::time::Moment;

/// The receiving end.
#[derive(Debug)]
pub struct Inbox<M> {
    wake: Arc<OwnedFd>,
    mail: Receiver<M>,
}

/// The sending end; it never blocks.
#[derive(Clone, Debug)]
pub struct Mailbox<M> {
    wake: Arc<OwnedFd>,
    mail: Sender<M>,
}

/// Makes both ends.
///
/// # Errors
/// No descriptor can be had.
pub fn pair<M>() -> io::Result<(Mailbox<M>, Inbox<M>)> {
    let wake = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
    let (sender, receiver) = unbounded();
    Ok((Mailbox { wake: Arc::clone(&wake), mail: sender }, Inbox { wake, mail: receiver }))
}

impl<M> Mailbox<M> {
    /// Sends; a thread that is gone misses nothing.
    pub fn send(&self, mail: M) {
        if self.mail.send(mail).is_ok() {
            // Full means that it is readable already.
            let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
        }
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
        polled.push(PollFd::from_borrowed_fd(self.wake.as_fd(), PollFlags::IN));
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

    /// The next piece of mail, if there is one.
    #[must_use]
    pub fn take(&self) -> Option<M> {
        // Emptied first: mail that comes after this makes it readable again.
        let mut count = [0; 8];
        let _ = rustix::io::read(&self.wake, &mut count);
        self.mail.try_recv().ok()
    }
}
