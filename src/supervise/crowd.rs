//! How many modules are about to start their programs at this moment: of a thousand at once, every program comes before
//! what was to be written of the first.
//!
//! Must never hold up a start, and never be why a record is not written.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// They are waiting for a processor, or in the midst of it.
static STARTING: AtomicUsize = AtomicUsize::new(0);

/// So many have no reason to let each other pass.
const FEW: usize = 16;

/// The share of each in what the last of them waits for, about what a start takes,
const EACH: Duration = Duration::from_micros(500);

/// and the most that anybody waits because of them.
const LONGEST: Duration = Duration::from_millis(500);

/// One that is about to start its program, or some of which each will be.
#[derive(Debug)]
pub struct Starting(usize);

impl Starting {
    /// One.
    #[must_use]
    pub fn one() -> Starting {
        Starting::many(1)
    }

    /// As many as a look has found.
    #[must_use]
    pub fn many(count: usize) -> Starting {
        STARTING.fetch_add(count, Ordering::Relaxed);
        Starting(count)
    }

    /// One of them has its turn: it counts for itself, or does not start.
    pub fn next(&mut self) {
        let counted = self.0.min(1);
        self.0 -= counted;
        STARTING.fetch_sub(counted, Ordering::Relaxed);
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        STARTING.fetch_sub(self.0, Ordering::Relaxed);
    }
}

/// Whether there are so many that what can wait lets them pass.
pub(super) fn is_there() -> bool {
    STARTING.load(Ordering::Relaxed) > FEW
}

/// How long they take, about.
pub(super) fn patience() -> Duration {
    let count = STARTING.load(Ordering::Relaxed).saturating_sub(FEW);
    EACH.saturating_mul(u32::try_from(count).unwrap_or(u32::MAX)).min(LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crowd_is_counted_until_the_last_has_started() {
        // Other tests of this process start nothing that counts for long.
        let mut all = Starting::many(1000);
        assert!(is_there() && patience() >= Duration::from_millis(100));
        let one = Starting::one();
        all.next();
        drop(one);
        (0..2000).for_each(|_| all.next());
        assert_eq!(all.0, 0);
        drop(all);
        assert!(patience() < Duration::from_millis(100));
    }
}
