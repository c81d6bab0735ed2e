//! Many pipes waited for at once.
//!
//! Nothing that is in it may be held open by anybody else in this process, or it stays in it. Must never interpret what
//! comes.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::event::{Timespec, epoll};

use super::clock;
use crate::pure::time::Moment;

/// What is waited for, each under a number.
#[derive(Debug)]
pub struct Epoll(OwnedFd);

/// So many are told of at once; the others have their turn then.
const EVENTS: usize = 64;

impl Epoll {
    /// One of nothing.
    ///
    /// # Errors
    /// There is no descriptor for it.
    pub fn new() -> io::Result<Epoll> {
        Ok(Epoll(epoll::create(epoll::CreateFlags::CLOEXEC)?))
    }

    /// Waits for input there, too, or for its end.
    ///
    /// # Errors
    /// It cannot be waited for.
    pub fn add(&self, input: BorrowedFd<'_>, key: u64) -> io::Result<()> {
        Ok(epoll::add(&self.0, input, epoll::EventData::new_u64(key), epoll::EventFlags::IN)?)
    }

    /// Waits for it no more.
    pub fn remove(&self, input: BorrowedFd<'_>) {
        // It may not be in it.
        let _ = epoll::delete(&self.0, input);
    }

    /// Waits until there is something, or until then; says where.
    #[must_use]
    pub fn wait(&self, deadline: Option<Moment>) -> Vec<u64> {
        let timeout = deadline.map(|deadline| {
            let left = deadline.since(clock::moment());
            Timespec { tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX), tv_nsec: left.subsec_nanos().into() }
        });
        let mut events = [const { MaybeUninit::uninit() }; EVENTS];
        match epoll::wait(&self.0, &mut events, timeout.as_ref()) {
            Ok((events, _)) => events.iter().map(|event| event.data.u64()).collect(),
            // EINTR: the caller comes back.
            Err(_) => Vec::new(),
        }
    }
}
