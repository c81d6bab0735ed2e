//! The vital signs of a program that runs: what it is to show, by when, what it says of itself, and what is asked when.
//!
//! A value beside the machine for as long as the program runs; what it concludes goes to the machine as an event. Must
//! never know the phases of a module, and never ask by itself.

use std::time::Duration;

use super::config::{Health, Ready, ReadyBy};
use super::exit::Pid;
use super::sd_notify::Said;
use super::time::Moment;

/// Until a check says that the program is ready it is asked again after this,
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// then after twice as long each time, up to this.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// What follows from the clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Due {
    /// The check of readiness is to be run; `ready` or `not_yet` follows.
    Ask,
    /// It is to be asked whether it is well; `told` follows.
    AskHealth,
    /// The program is not well, and why.
    Unwell(String),
}

/// What follows from what the program says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// It is ready, and was not before.
    Ready,
    /// It is not well, and why.
    Unwell(String),
    /// It ends by itself.
    Stopping,
    /// It needs so long from now for what it does.
    Extend(Duration),
    /// This process is the program.
    MainPid(Pid),
}

/// What the program says of itself, for people.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Words {
    /// What it does.
    pub status: Option<String>,
    /// Why it failed.
    pub errno: Option<i32>,
    /// Whether it reads its configuration again.
    pub reloading: bool,
}

/// When something is due of which the program knows: what a successor goes on with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// It is not ready yet, and is a failure at this moment.
    pub ready_by: Option<Moment>,
    /// Once it is ready, how often it is to say that it is well;
    pub watchdog: Option<Duration>,
    /// not having said so by then is a failure.
    pub watchdog_by: Option<Moment>,
    /// When it is asked whether it is well; not while it is being asked,
    pub health_at: Option<Moment>,
    /// and how many bad answers came last.
    pub failed: u32,
}

/// What is awaited of one program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vitals {
    awaited: bool,
    limit: Option<Duration>,
    terms: Terms,
    /// The check of readiness is run then; not while one runs.
    ask_at: Option<Moment>,
    pause: Duration,
    health: Health,
    /// When it was asked last.
    asked_at: Moment,
    /// What it says of itself.
    pub words: Words,
}

impl Vitals {
    /// Of a program that was started, or was taken over from a predecessor that could not say when anything is due: all
    /// time begins now.
    #[must_use]
    pub fn begin(now: Moment, ready: &Ready, health: &Health, awaited: bool) -> Vitals {
        let limit = ready.limit();
        let mut vitals = Vitals {
            awaited: true,
            limit,
            terms: Terms { ready_by: limit.map(|limit| now.plus(limit)), watchdog: ready.watchdog, ..Terms::default() },
            ask_at: matches!(ready.by, Some(ReadyBy::Check(_))).then_some(now),
            pause: FIRST_PAUSE,
            health: health.clone(),
            asked_at: now,
            words: Words::default(),
        };
        if !awaited {
            vitals.ready(now);
        }
        vitals
    }

    /// When something is due.
    #[must_use]
    pub fn deadline(&self) -> Option<Moment> {
        [self.terms.ready_by, self.terms.watchdog_by, self.terms.health_at, self.ask_at].into_iter().flatten().min()
    }

    /// What is due; to be asked until nothing is.
    pub fn due(&mut self, now: Moment) -> Option<Due> {
        let is_past = |at: &mut Moment| *at <= now;
        if self.terms.ready_by.take_if(is_past).is_some() {
            self.ask_at = None;
            return Some(Due::Unwell(format!("not ready within {}", seconds(self.limit))));
        }
        if self.terms.watchdog_by.take_if(is_past).is_some() {
            return Some(Due::Unwell(format!("no WATCHDOG=1 for {}", seconds(self.terms.watchdog))));
        }
        if self.terms.health_at.take_if(is_past).is_some() {
            self.asked_at = now;
            return Some(Due::AskHealth);
        }
        self.ask_at.take_if(is_past).map(|_| Due::Ask)
    }

    /// It is ready.
    pub fn ready(&mut self, now: Moment) {
        self.awaited = false;
        (self.terms.ready_by, self.ask_at) = (None, None);
        self.feed_watchdog(now);
        self.ask_health(now);
    }

    /// It is asked after the interval, if it is asked at all.
    fn ask_health(&mut self, since: Moment) {
        if !self.awaited {
            self.terms.health_at = self.health.by.as_ref().map(|_| since.plus(self.health.interval));
        }
    }

    /// It was asked whether it is well: why it is not, if that was one bad answer too many.
    pub fn told(&mut self, now: Moment, answer: Result<(), String>) -> Option<String> {
        self.ask_health(self.asked_at);
        // However long an answer took, the next one is not asked for before it has come.
        self.terms.health_at = self.terms.health_at.map(|at| at.max(now));
        let Err(why) = answer else {
            self.terms.failed = 0;
            return None;
        };
        self.terms.failed = self.terms.failed.saturating_add(1);
        if self.terms.failed < self.health.failures {
            return None;
        }
        self.terms.health_at = None;
        let count = self.terms.failed;
        Some(if count == 1 { format!("health: {why}") } else { format!("health: {why}, {count} times in a row") })
    }

    /// How many bad answers came last, of how many that are a failure.
    #[must_use]
    pub fn failed(&self) -> (u32, u32) {
        (self.terms.failed, self.health.failures)
    }

    /// It could not be asked, or its answer says nothing: it is asked again after the interval.
    pub fn unasked(&mut self, now: Moment) {
        self.ask_health(now);
    }

    /// How it is asked.
    #[must_use]
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// From now on it is asked so; says whether that is another way.
    pub fn change(&mut self, now: Moment, health: &Health) -> bool {
        let is_another = self.health != *health;
        if is_another {
            self.health = health.clone();
            self.terms.failed = 0;
            self.ask_health(now);
        }
        is_another
    }

    /// The check of readiness has not said so: it is asked again.
    pub fn not_yet(&mut self, now: Moment) {
        if self.awaited {
            self.ask_at = Some(now.plus(self.pause));
            self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// The program has said something.
    pub fn hear(&mut self, now: Moment, said: Said) -> Option<Heard> {
        match said {
            Said::Ready => {
                self.words.reloading = false;
                let was_awaited = self.awaited;
                if was_awaited {
                    self.ready(now);
                }
                return was_awaited.then_some(Heard::Ready);
            }
            Said::Reloading => self.words.reloading = !self.awaited,
            Said::Stopping => return Some(Heard::Stopping),
            Said::Status(text) => self.words.status = Some(text).filter(|text| !text.is_empty()),
            Said::Errno(errno) => self.words.errno = Some(errno).filter(|errno| *errno != 0),
            Said::Extend(time) => {
                self.terms.ready_by = self.terms.ready_by.map(|by| by.max(now.plus(time)));
                // It may be on its way out as well.
                return Some(Heard::Extend(time));
            }
            Said::WatchdogEvery(time) => {
                self.terms.watchdog = Some(time).filter(|time| !time.is_zero());
                self.feed_watchdog(now);
            }
            Said::Watchdog => self.feed_watchdog(now),
            Said::Trigger => return Some(Heard::Unwell("it said WATCHDOG=trigger".to_owned())),
            Said::MainPid(pid) => return Some(Heard::MainPid(pid)),
            Said::Store | Said::Wrong(_) => {}
        }
        None
    }

    fn feed_watchdog(&mut self, now: Moment) {
        if !self.awaited {
            self.terms.watchdog_by = self.terms.watchdog.map(|time| now.plus(time));
        }
    }

    /// The program was stopped for so long, and for it time stood still.
    pub fn stood_still(&mut self, time: Duration) {
        let Terms { ready_by, watchdog_by, health_at, watchdog: _, failed: _ } = &mut self.terms;
        for moment in [ready_by, watchdog_by, health_at, &mut self.ask_at].into_iter().flatten() {
            *moment = moment.plus(time);
        }
    }

    /// What a successor goes on with, if the program has been stopped for so long.
    #[must_use]
    pub fn terms(&self, stopped: Duration) -> Terms {
        let mut now = self.clone();
        now.stood_still(stopped);
        now.terms
    }

    /// As a predecessor had it, which ran as this very process: nothing was missed meanwhile.
    pub fn resume(&mut self, now: Moment, terms: Terms) {
        self.terms = terms;
        // One that was being asked is asked again.
        if terms.health_at.is_none() {
            self.ask_health(now);
        }
    }
}

/// A time as it is told: `60s`, `0.5s`.
fn seconds(time: Option<Duration>) -> String {
    format!("{}s", time.unwrap_or_default().as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pure::config::{HealthBy, Limit};

    fn at(millis: u64) -> Moment {
        Moment(0).plus(Duration::from_millis(millis))
    }

    fn awaited(by: ReadyBy, timeout: Option<Limit>) -> Vitals {
        Vitals::begin(at(1000), &Ready { by: Some(by), timeout, ..Ready::default() }, &Health::default(), true)
    }

    fn watched() -> Vitals {
        let watchdog = Some(Duration::from_millis(300));
        let ready = Ready { by: Some(ReadyBy::Notify), watchdog, ..Ready::default() };
        let mut vitals = Vitals::begin(at(1000), &ready, &Health::default(), true);
        assert_eq!(vitals.hear(at(1000), Said::Watchdog), None);
        assert_eq!(vitals.deadline(), Some(at(61_000)), "before it is ready nothing watches it");
        assert_eq!(vitals.hear(at(2000), Said::Ready), Some(Heard::Ready));
        vitals
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
        vitals.ready(at(now));
        assert_eq!((vitals.due(at(now)), vitals.deadline()), (None, None));
    }

    #[test]
    fn a_watchdog_begins_with_ready_and_is_fed() {
        let mut vitals = watched();
        assert_eq!(vitals.deadline(), Some(at(2300)));
        assert_eq!((vitals.hear(at(2250), Said::Watchdog), vitals.due(at(2549))), (None, None));
        vitals.stood_still(Duration::from_millis(50));
        assert_eq!(vitals.due(at(2600)), Some(Due::Unwell("no WATCHDOG=1 for 0.3s".into())));
        assert_eq!((vitals.due(at(9999)), vitals.deadline()), (None, None), "it is told once");
    }

    #[test]
    fn the_program_can_change_its_watchdog_and_pull_it() {
        let mut vitals = watched();
        vitals.hear(at(2100), Said::WatchdogEvery(Duration::from_secs(5)));
        assert_eq!(vitals.deadline(), Some(at(7100)));
        vitals.hear(at(2200), Said::WatchdogEvery(Duration::ZERO));
        assert_eq!((vitals.deadline(), vitals.hear(at(2200), Said::Watchdog)), (None, None));
        assert_eq!(vitals.deadline(), None);
        assert_eq!(
            vitals.hear(at(2300), Said::Trigger),
            Some(Heard::Unwell("it said WATCHDOG=trigger".into())),
            "also without one"
        );
    }

    #[test]
    fn the_time_to_be_ready_is_only_ever_extended() {
        let mut vitals = awaited(ReadyBy::Notify, Some(Limit::After(Duration::from_secs(10))));
        let told = |seconds| Some(Heard::Extend(Duration::from_secs(seconds)));
        assert_eq!(vitals.hear(at(1000), Said::Extend(Duration::from_secs(1))), told(1));
        assert_eq!(vitals.deadline(), Some(at(11_000)));
        assert_eq!(vitals.hear(at(5000), Said::Extend(Duration::from_secs(20))), told(20));
        assert_eq!(vitals.deadline(), Some(at(25_000)));
        assert_eq!(vitals.hear(at(6000), Said::Ready), Some(Heard::Ready));
        assert_eq!(vitals.hear(at(6000), Said::Extend(Duration::from_secs(3))), told(3));
        assert_eq!(vitals.deadline(), None);
    }

    #[test]
    fn what_it_says_for_people_is_kept() {
        let mut vitals = watched();
        vitals.hear(at(0), Said::Status("reads".into()));
        vitals.hear(at(0), Said::Errno(2));
        vitals.hear(at(0), Said::Reloading);
        assert_eq!(vitals.words, Words { status: Some("reads".into()), errno: Some(2), reloading: true });
        assert_eq!(vitals.hear(at(0), Said::Ready), None, "it was ready");
        vitals.hear(at(0), Said::Status(String::new()));
        vitals.hear(at(0), Said::Errno(0));
        assert_eq!(vitals.words, Words::default());
    }

    fn asked(by: Option<&ReadyBy>) -> Vitals {
        let words = vec!["./check".to_owned()];
        let health = Health { by: Some(HealthBy::Check(words)), interval: Duration::from_secs(1), ..Health::default() };
        let timeout = Some(Limit::Never);
        Vitals::begin(at(0), &Ready { by: by.cloned(), timeout, ..Ready::default() }, &health, by.is_some())
    }

    #[test]
    fn so_many_bad_answers_in_a_row_are_a_failure() {
        let mut vitals = asked(None);
        let no = || Err("no".to_owned());
        let mut ask = |second: u64, answer| {
            assert_eq!(vitals.due(at(second * 1000 - 1)), None);
            assert_eq!(vitals.due(at(second * 1000)), Some(Due::AskHealth));
            assert_eq!(vitals.deadline(), None, "one at a time");
            vitals.told(at(second * 1000 + 300), answer)
        };
        for (second, answer) in (1..).zip([no(), no(), Ok(()), no(), no()]) {
            assert_eq!(ask(second, answer), None, "from the beginning of the last one");
        }
        assert_eq!(ask(6, no()), Some("health: no, 3 times in a row".into()));
        assert_eq!(vitals.deadline(), None);
    }

    #[test]
    fn nobody_is_asked_for_health_before_it_is_ready() {
        let mut vitals = asked(Some(&ReadyBy::Notify));
        assert_eq!(vitals.deadline(), None);
        vitals.hear(at(5000), Said::Ready);
        assert_eq!(vitals.deadline(), Some(at(6000)));
        assert_eq!(vitals.due(at(6000)), Some(Due::AskHealth));
        assert_eq!(vitals.told(at(9000), Ok(())), None);
        assert_eq!(vitals.deadline(), Some(at(9000)), "late, and at once");
        vitals.change(at(9000), &Health::default());
        assert_eq!(vitals.deadline(), None);
    }

    #[test]
    fn one_that_is_being_asked_is_asked_again_by_a_successor() {
        let mut vitals = asked(None);
        assert_eq!(vitals.due(at(1000)), Some(Due::AskHealth));
        let mut next = asked(None);
        next.resume(at(1500), Terms { failed: 2, ..vitals.terms(Duration::ZERO) });
        assert_eq!(next.deadline(), Some(at(2500)));
        assert_eq!(next.due(at(2500)), Some(Due::AskHealth));
        assert!(next.told(at(2500), Err("no".into())).is_some(), "the third one");
    }

    #[test]
    fn what_is_taken_over_ready_is_watched_from_then_on() {
        let ready = Ready { by: Some(ReadyBy::Notify), watchdog: Some(Duration::from_secs(1)), ..Ready::default() };
        let mut vitals = Vitals::begin(at(500), &ready, &Health::default(), false);
        assert_eq!(vitals.deadline(), Some(at(1500)));
        vitals.resume(at(600), Terms { watchdog_by: Some(at(700)), ..vitals.terms(Duration::ZERO) });
        assert_eq!(vitals.due(at(700)), Some(Due::Unwell("no WATCHDOG=1 for 1s".into())));
    }
}
