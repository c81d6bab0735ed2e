//! When files that are written in place count as complete: once they, and what is written beside them, are quiet.
//!
//! Must never know which files these are.

use std::time::Duration;

use super::time::Moment;

/// So many settle times an entry waits at most for others that are written on and on.
const LONGEST: u32 = 20;

/// What is written in place at one time, as by `git checkout`, `rsync` or `cp -r`: one change.
#[derive(Clone, Copy, Debug, Default)]
pub struct Burst {
    last: Moment,
}

impl Burst {
    /// Something was written then.
    pub fn stir(&mut self, at: Moment) {
        self.last = self.last.max(at);
    }

    /// When an entry counts as complete that was written to last at `changed`.
    #[must_use]
    pub fn settles(&self, changed: Moment, settle: Duration) -> Moment {
        let together = self.last.max(changed).plus(settle);
        together.min(changed.plus(settle.saturating_mul(LONGEST)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTLE: Duration = Duration::from_nanos(100);

    #[test]
    fn what_is_written_at_one_time_settles_together() {
        let mut burst = Burst::default();
        for at in [1000, 1090, 1180] {
            burst.stir(Moment(at));
        }
        let settles = [1000, 1090, 1180].map(|at| burst.settles(Moment(at), SETTLE));
        assert_eq!(settles, [Moment(1280); 3]);
    }

    #[test]
    fn what_was_written_long_before_waits_for_nothing() {
        let mut burst = Burst::default();
        burst.stir(Moment(10_000));
        assert!(burst.settles(Moment(1000), SETTLE) <= Moment(10_000));
    }

    #[test]
    fn nobody_waits_for_ever_for_what_is_never_quiet() {
        let mut burst = Burst::default();
        for at in (1000..100_000).step_by(50) {
            burst.stir(Moment(at));
        }
        assert_eq!(burst.settles(Moment(1000), SETTLE), Moment(3000));
    }
}
