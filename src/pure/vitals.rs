//! The vital signs of a program that runs: what it is to show, by when, and what is asked when.
//!
//! A value beside the machine for as long as the program runs; what it concludes goes to the machine as an event. Must
//! never know the phases of a module, and never ask by itself.

use std::time::Duration;

use super::config::{Ready, ReadyBy};
use super::time::Moment;

/// Until a check says that the program is ready it is asked again after this,
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// then after twice as long each time, up to this.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// What follows from the clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Due {
    /// The check of readiness is to be run; `answered` follows.
    Ask,
    /// It has failed, and why.
    Unwell(String),
}

/// What is awaited of one program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vitals {
    /// It is not ready yet, and is a failure at this moment.
    ready_by: Option<Moment>,
    limit: Option<Duration>,
    /// The check of readiness is run then; not while one runs.
    ask_at: Option<Moment>,
    pause: Duration,
}

impl Vitals {
    /// Of a program that was started, or taken over, and is not ready yet.
    #[must_use]
    pub fn begin(now: Moment, ready: &Ready) -> Vitals {
        let limit = ready.limit();
        Vitals {
            ready_by: limit.map(|limit| now.plus(limit)),
            limit,
            ask_at: matches!(ready.by, Some(ReadyBy::Check(_))).then_some(now),
            pause: FIRST_PAUSE,
        }
    }

    /// When something is due.
    #[must_use]
    pub fn deadline(&self) -> Option<Moment> {
        [self.ready_by, self.ask_at].into_iter().flatten().min()
    }

    /// What is due; to be asked until nothing is.
    pub fn due(&mut self, now: Moment) -> Option<Due> {
        if self.ready_by.is_some_and(|by| by <= now) {
            self.ready();
            return Some(Due::Unwell(format!("not ready within {}", seconds(self.limit.unwrap_or_default()))));
        }
        self.ask_at.take_if(|at| *at <= now).map(|_| Due::Ask)
    }

    /// It is ready: nothing more is awaited.
    pub fn ready(&mut self) {
        (self.ready_by, self.ask_at) = (None, None);
    }

    /// The check of readiness has not said so: it is asked again.
    pub fn not_yet(&mut self, now: Moment) {
        self.ask_at = Some(now.plus(self.pause));
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
    }

    /// The program was stopped for so long, and for it time stood still.
    pub fn stood_still(&mut self, time: Duration) {
        for moment in [&mut self.ready_by, &mut self.ask_at].into_iter().flatten() {
            *moment = moment.plus(time);
        }
    }

    /// By when it is to be ready.
    #[must_use]
    pub fn ready_by(&self) -> Option<Moment> {
        self.ready_by
    }

    /// As a predecessor had it.
    pub fn resume(&mut self, ready_by: Option<Moment>) {
        self.ready_by = ready_by.or(self.ready_by);
    }
}

/// A time as it is told: `60s`, `0.5s`.
fn seconds(time: Duration) -> String {
    format!("{}s", time.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pure::config::Limit;

    fn at(millis: u64) -> Moment {
        Moment(0).plus(Duration::from_millis(millis))
    }

    fn awaited(by: ReadyBy, timeout: Option<Limit>) -> Vitals {
        Vitals::begin(at(1000), &Ready { by: Some(by), of_file: false, timeout })
    }

    #[test]
    fn what_is_not_ready_in_time_is_not_well() {
        let mut vitals = awaited(ReadyBy::Descriptor(3), Some(Limit::After(Duration::from_millis(500))));
        assert_eq!(vitals.deadline(), Some(at(1500)));
        assert_eq!(vitals.due(at(1499)), None);
        vitals.stood_still(Duration::from_millis(100));
        assert_eq!(vitals.due(at(1599)), None);
        assert_eq!(vitals.due(at(1600)), Some(Due::Unwell("not ready within 0.5s".into())));
        assert_eq!((vitals.due(at(9999)), vitals.deadline()), (None, None));
        assert_eq!(awaited(ReadyBy::Descriptor(3), None).deadline(), Some(at(61_000)));
        assert_eq!(awaited(ReadyBy::Descriptor(3), Some(Limit::Never)).deadline(), None);
    }

    #[test]
    fn a_check_is_asked_at_once_and_then_less_and_less_often() {
        let mut vitals = awaited(ReadyBy::Check(vec!["./check".into()]), Some(Limit::Never));
        let mut now = 1000;
        for pause in [100, 200, 400, 800, 1000, 1000] {
            assert_eq!(vitals.due(at(now)), Some(Due::Ask));
            assert_eq!((vitals.due(at(now + 5000)), vitals.deadline()), (None, None), "one at a time");
            now += 7;
            vitals.not_yet(at(now));
            assert_eq!(vitals.deadline(), Some(at(now + pause)));
            now += pause;
        }
        vitals.ready();
        assert_eq!((vitals.due(at(now)), vitals.deadline()), (None, None));
    }
}
