//! Lets programs go on while the disk of their logs does not answer: what fills their pipes is dropped and counted.
//!
//! It watches one thread that writes logs, from a thread of its own, which is there once a module asks for it and sleeps
//! until the other one is late. Must never touch a disk.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::thread::Builder;
use std::time::Duration;

use super::tap::Tap;
use crate::pure::time::Moment;
use crate::unix::timer::Timer;
use crate::unix::{clock, pipe};

/// Who writes for as long as this without coming to an end is held up by a disk.
const LATE: Duration = Duration::from_millis(250);

/// Pipes that fill are looked at so often,
const SOON: Duration = Duration::from_millis(1);

/// and others.
const SELDOM: Duration = Duration::from_millis(100);

/// What stands between a thread that writes logs and the one that watches it.
#[derive(Debug, Default)]
pub struct Relief {
    /// Since when it has not waited for lines; 0 while it does.
    busy: AtomicU64,
    /// There once something is to be dropped.
    timer: OnceLock<Timer>,
    taps: Mutex<Vec<Weak<Tap>>>,
}

impl Relief {
    /// Drops what fills this one, too, whenever the disk is late.
    ///
    /// # Errors
    /// There is no timer or no thread.
    pub fn add(self: &Arc<Relief>, tap: &Arc<Tap>) -> io::Result<()> {
        let mut taps = self.taps();
        taps.retain(|known| known.strong_count() > 0 && !std::ptr::eq(known.as_ptr(), Arc::as_ptr(tap)));
        taps.push(Arc::downgrade(tap));
        drop(taps);
        if self.timer.get().is_none() {
            let timer = Timer::new()?;
            let watched = Arc::clone(self);
            Builder::new().name("relief".to_owned()).stack_size(64 * 1024).spawn(move || watched.watch())?;
            // Only who adds is here.
            let _ = self.timer.set(timer);
        }
        if let Some(timer) = self.timer.get() {
            // It may be late already.
            timer.set(LATE);
        }
        Ok(())
    }

    /// The thread that writes logs begins to, now.
    pub fn begin(&self, now: Moment) {
        self.busy.store(now.0.max(1), Ordering::Relaxed);
        if let Some(timer) = self.timer.get() {
            timer.set(LATE);
        }
    }

    /// It waits for lines; `unserved` says that there are some whose log could not be opened.
    pub fn end(&self, unserved: bool) {
        self.busy.store(0, Ordering::Relaxed);
        if let Some(timer) = self.timer.get() {
            if unserved { timer.set(LATE) } else { timer.stop() }
        }
    }

    fn watch(&self) {
        let mut work = Vec::new();
        // Set behind the start of this thread.
        let timer = self.timer.wait();
        loop {
            timer.wait();
            let mut next = SOON;
            while let Some(dropped) = self.look(&mut work) {
                next = if dropped { SOON } else { SELDOM.min(next * 2) };
                pipe::pause(next);
            }
            // So much is not needed often.
            work = Vec::new();
        }
    }

    /// Drops what is to be dropped, and says whether that was anything; `None` if there is no cause to look again.
    fn look(&self, work: &mut Vec<u8>) -> Option<bool> {
        let taps: Vec<Arc<Tap>> = self.taps().iter().filter_map(Weak::upgrade).collect();
        let (mut cause, mut dropped) = (false, false);
        for tap in taps {
            let busy = self.busy.load(Ordering::Relaxed);
            let late = busy != 0 && clock::moment().since(Moment(busy)) >= LATE;
            cause |= late || tap.is_unserved();
            dropped |= (late || tap.is_unserved()) && tap.relieve(work);
        }
        cause.then_some(dropped)
    }

    fn taps(&self) -> MutexGuard<'_, Vec<Weak<Tap>>> {
        self.taps.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
