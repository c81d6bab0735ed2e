//! The signals of a logger, heard between two writes.
//!
//! Must never let one of them interrupt what is being written.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags};

use super::client::poll_until;
use crate::pure::time::Moment;

/// What a logger is told by a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// TERM, INT: finish the line and end.
    End,
    /// ALRM: begin another file.
    Rotate,
}

/// Hears the signals of this process.
#[derive(Debug)]
pub struct Listener(SignalFd);

impl Listener {
    /// To be called before there is another thread. HUP is taken, too, and means nothing.
    ///
    /// # Errors
    /// There is no descriptor for it.
    pub fn new() -> io::Result<Listener> {
        let mut set = SigSet::empty();
        [Signal::SIGTERM, Signal::SIGINT, Signal::SIGALRM, Signal::SIGHUP]
            .into_iter()
            .for_each(|signal| set.add(signal));
        set.thread_block()?;
        Ok(Listener(SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?))
    }

    /// Waits until there is something in `input`, a signal, or the time is over; says which signals came.
    #[must_use]
    pub fn wait(&self, input: Option<BorrowedFd<'_>>, deadline: Option<Moment>) -> Vec<Heard> {
        let mut ends: Vec<PollFd<'_>> = [Some(self.0.as_fd()), input]
            .into_iter()
            .flatten()
            .map(|end| PollFd::from_borrowed_fd(end, PollFlags::IN))
            .collect();
        // Refused for want of memory: then what is there is looked at.
        let woken = poll_until(&mut ends, deadline);
        if !woken.is_ok_and(|woken| woken) || ends[0].revents().is_empty() {
            return Vec::new();
        }
        self.take()
    }

    fn take(&self) -> Vec<Heard> {
        let mut heard = Vec::new();
        while let Ok(Some(signal)) = self.0.read_signal() {
            match i32::try_from(signal.ssi_signo).ok().and_then(|number| Signal::try_from(number).ok()) {
                Some(Signal::SIGTERM | Signal::SIGINT) => heard.push(Heard::End),
                Some(Signal::SIGALRM) => heard.push(Heard::Rotate),
                Some(_) | None => {}
            }
        }
        heard
    }
}
