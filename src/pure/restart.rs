//! When a program that ended is started again: from the policy and the recent past to a moment, or to giving up.
//!
//! Must never know the phases of a module; the machine asks.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use super::config::Restart;
use super::time::Moment;

/// The past that decides over restarts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// The last start, whether it worked or not.
    pub last_start: Option<Moment>,
    /// The exits within the interval that count towards a limit; true if it dumped core.
    pub counted: VecDeque<(Moment, bool)>,
    /// Exits since the last run of `interval`.
    pub streak: u32,
}

/// What follows an exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Start it at this moment, which may be past.
    At(Moment),
    /// Leave it down.
    GiveUp(TooMany),
}

/// Which limit was passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooMany {
    /// How many there were.
    pub exits: usize,
    /// Whether core dumps were counted.
    pub cores: bool,
    /// In which time.
    pub interval: Duration,
}

impl fmt::Display for TooMany {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if self.cores { "core dumps" } else { "exits" };
        write!(f, "gave up after {} {what} within {:?}", self.exits, self.interval)
    }
}

impl History {
    /// It was started, or the attempt was made.
    pub fn started(&mut self, now: Moment) {
        self.last_start = Some(now);
    }

    /// It ended although it was wanted, having been well since then if it ever was: says what follows.
    pub fn exited(&mut self, now: Moment, policy: &Restart, core: bool, well_since: Option<Moment>) -> Next {
        let last_start = self.last_start.unwrap_or(now);
        if well_since.is_some_and(|since| now.since(since) >= policy.interval) {
            self.streak = 0;
        }
        let longest = policy.max_delay.unwrap_or(policy.delay).max(policy.delay);
        let doubled = 2u32.saturating_pow(self.streak);
        let pause = policy.delay.saturating_mul(doubled).min(longest);
        self.streak = self.streak.saturating_add(1);

        if policy.max_tries.is_some() || (core && policy.max_tries_if_coredumped.is_some()) {
            self.counted.push_back((now, core));
        }
        while self.counted.front().is_some_and(|(at, _)| now.since(*at) > policy.interval) {
            self.counted.pop_front();
        }
        let cores = self.counted.iter().filter(|(_, core)| *core).count();
        let too_many = |count: usize, limit: Option<u32>| limit.is_some_and(|limit| count > limit as usize);
        if too_many(cores, policy.max_tries_if_coredumped) {
            return Next::GiveUp(TooMany { exits: cores, cores: true, interval: policy.interval });
        }
        if too_many(self.counted.len(), policy.max_tries) {
            return Next::GiveUp(TooMany { exits: self.counted.len(), cores: false, interval: policy.interval });
        }
        Next::At(last_start.plus(pause))
    }

    /// Somebody asked for it anew: what was counted counts no more.
    pub fn forgive(&mut self) {
        self.counted.clear();
        self.streak = 0;
    }
}

/// The exits that a script is told the number of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    count: u64,
    last: Option<Moment>,
}

impl Tally {
    /// One more; the first one again if the last was longer ago than `apart`.
    pub fn exited(&mut self, now: Moment, apart: Option<Duration>) {
        let anew = apart.is_some_and(|apart| self.last.is_some_and(|last| now.since(last) > apart));
        self.count = if anew { 1 } else { self.count.saturating_add(1) };
        self.last = Some(now);
    }

    /// How many.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn at(seconds: u64) -> Moment {
        Moment(seconds * SECOND)
    }

    fn run(history: &mut History, policy: &Restart, start: u64, end: u64) -> Next {
        history.started(at(start));
        history.exited(at(end), policy, false, Some(at(start)))
    }

    #[test]
    fn paced_from_the_last_start() {
        let mut history = History::default();
        let policy = Restart::default();
        assert_eq!(run(&mut history, &policy, 10, 10), Next::At(at(11)));
        assert_eq!(run(&mut history, &policy, 11, 20), Next::At(at(12)));
    }

    #[test]
    fn the_pause_doubles_up_to_its_limit_and_a_long_run_ends_it() {
        let mut history = History::default();
        let policy = Restart { max_delay: Some(Duration::from_secs(5)), ..Restart::default() };
        let pauses: Vec<Next> = (0..5).map(|_| run(&mut history, &policy, 100, 100)).collect();
        assert_eq!(pauses, [101, 102, 104, 105, 105].map(|second| Next::At(at(second))));
        assert_eq!(run(&mut history, &policy, 100, 160), Next::At(at(101)));
        assert_eq!(run(&mut history, &policy, 200, 200), Next::At(at(202)));
    }

    #[test]
    fn only_health_ends_a_back_off() {
        let mut history = History::default();
        let policy = Restart { max_delay: Some(Duration::from_secs(8)), ..Restart::default() };
        for (well_since, next) in [(None, 101), (None, 102), (Some(at(141)), 104), (Some(at(140)), 101)] {
            history.started(at(100));
            assert_eq!(history.exited(at(200), &policy, false, well_since), Next::At(at(next)));
        }
    }

    #[test]
    fn more_than_max_tries_within_the_interval_is_too_many() {
        let mut history = History::default();
        let policy = Restart { max_tries: Some(2), ..Restart::default() };
        assert!(matches!(run(&mut history, &policy, 0, 0), Next::At(_)));
        assert!(matches!(run(&mut history, &policy, 1, 1), Next::At(_)));
        // The first two are out of the interval by now.
        assert!(matches!(run(&mut history, &policy, 100, 100), Next::At(_)));
        assert!(matches!(run(&mut history, &policy, 101, 101), Next::At(_)));
        assert!(matches!(run(&mut history, &policy, 102, 102), Next::GiveUp(_)));
        history.forgive();
        assert!(matches!(run(&mut history, &policy, 103, 103), Next::At(_)));
    }

    #[test]
    fn exits_further_apart_than_that_are_counted_from_1_again() {
        let counts = |apart| {
            let mut tally = Tally::default();
            [0, 5, 15, 26, 27].map(|second| {
                tally.exited(at(second), apart);
                tally.count()
            })
        };
        assert_eq!(counts(Some(Duration::from_secs(10))), [1, 2, 3, 1, 2]);
        assert_eq!(counts(Some(Duration::ZERO)), [1; 5]);
        assert_eq!(counts(None), [1, 2, 3, 4, 5]);
    }

    #[test]
    fn core_dumps_have_a_limit_of_their_own() {
        let mut history = History::default();
        let policy = Restart { max_tries_if_coredumped: Some(1), ..Restart::default() };
        for second in 0..9 {
            assert!(matches!(run(&mut history, &policy, second, second), Next::At(_)));
        }
        assert!(matches!(history.exited(at(9), &policy, true, None), Next::At(_)));
        let Next::GiveUp(why) = history.exited(at(9), &policy, true, None) else {
            panic!("not given up");
        };
        assert_eq!(why.to_string(), "gave up after 2 core dumps within 60s");
    }
}
