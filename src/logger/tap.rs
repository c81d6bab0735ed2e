//! The reading end of what one module says, and what was dropped of it.
//!
//! Two threads may take from it: the one that writes the log and, while that is held up, [`Relief`](super::relief::Relief).
//! Must never know where anything goes.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::pure::log::Dropped;
use crate::unix::log::{identity, waiting};
use crate::unix::pipe;

/// The reading end of a pipe.
#[derive(Debug)]
pub struct Tap {
    pipe: OwnedFd,
    /// What was dropped and is in no note of a spool yet. Who takes from the pipe holds it, so that it is right for what
    /// comes next.
    dropped: Mutex<Dropped>,
    /// What a disk does not take is dropped.
    drops: AtomicBool,
    /// There is no log for it, since that could not be opened.
    unserved: AtomicBool,
}

impl Tap {
    /// Of this pipe.
    #[must_use]
    pub fn new(pipe: OwnedFd) -> Tap {
        Tap { pipe, dropped: Mutex::default(), drops: AtomicBool::new(false), unserved: AtomicBool::new(false) }
    }

    /// The pipe, readable when there is something to take.
    #[must_use]
    pub fn pipe(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }

    /// Which pipe it is.
    #[must_use]
    pub fn identity(&self) -> [u64; 2] {
        identity(self.pipe()).unwrap_or_default()
    }

    /// Nobody else takes from it or drops as long as this is held.
    pub fn dropped(&self) -> MutexGuard<'_, Dropped> {
        self.dropped.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says whether what a disk does not take is dropped.
    pub fn drop_if_late(&self, drops: bool) {
        self.drops.store(drops, Ordering::Relaxed);
    }

    /// Says whether there is no log for it.
    pub fn leave_unserved(&self, unserved: bool) {
        self.unserved.store(unserved, Ordering::Relaxed);
    }

    /// Whether there is no log for it, and something is to be dropped for that.
    #[must_use]
    pub fn is_unserved(&self) -> bool {
        self.unserved.load(Ordering::Relaxed) && self.drops.load(Ordering::Relaxed)
    }

    /// Drops what is in the pipe if its program would have to wait soon; says whether it did.
    pub fn relieve(&self, work: &mut Vec<u8>) -> bool {
        if !self.drops.load(Ordering::Relaxed) {
            return false;
        }
        let waits = usize::try_from(waiting(self.pipe())).unwrap_or(0);
        // Lines do not fill its pages, so one that takes no more is hardly ever filled to the last byte.
        if waits < pipe::size(self.pipe()) / 2 {
            return false;
        }
        // Held by who takes from it, it is not stuck.
        let Ok(mut dropped) = self.dropped.try_lock() else { return false };
        work.resize(waits, 0);
        let count = rustix::io::retry_on_intr(|| rustix::io::read(self.pipe(), &mut *work)).unwrap_or(0);
        dropped.add(&work[..count]);
        count > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::pipe::{PipeFlags, pipe_with};

    #[test]
    fn only_a_pipe_that_is_nearly_full_is_emptied_and_what_was_in_it_counted() {
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).expect("a pipe");
        let tap = Tap::new(reader);
        let mut work = Vec::new();
        assert_eq!(rustix::io::write(&writer, b"a line\n"), Ok(7));
        tap.drop_if_late(true);
        assert!(!tap.relieve(&mut work));
        // No two of these fit one page.
        let line = [vec![b'x'; 2099], b"\n".to_vec()].concat();
        let mut lines = 1;
        while rustix::io::write(&writer, &line).is_ok() {
            lines += 1;
        }
        tap.drop_if_late(false);
        assert!(!tap.relieve(&mut work));
        tap.drop_if_late(true);
        let held = tap.dropped();
        assert!(!tap.relieve(&mut work), "somebody takes from it");
        drop(held);
        assert!(tap.relieve(&mut work));
        assert_eq!(*tap.dropped(), Dropped { lines, within: false });
        assert!(!tap.relieve(&mut work));
    }
}
