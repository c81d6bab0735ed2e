//! When what happens to a module is told to somebody: what was told, and what is to be told now.
//!
//! It is told of what happened and says what is to be sent. Must never know how alarms are sent, and never change how
//! deaths are counted: that is the machine's.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::exit::How;
use super::status::Want;
use super::time::Moment;

/// What an alarm is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Kind {
    /// The program ended, or could not be started, and nobody had asked for that.
    Exit,
    /// The module was given up.
    Failed,
    /// It has been up for an interval after an alarm.
    Recovered,
}

impl Kind {
    /// All of them, in the order in which they come.
    pub const ALL: [Kind; 3] = [Kind::Exit, Kind::Failed, Kind::Recovered];

    /// The word that users write and read.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Kind::Exit => "exit",
            Kind::Failed => "failed",
            Kind::Recovered => "recovered",
        }
    }
}

/// What a module asks for, as far as it decides what is sent.
#[derive(Clone, Copy, Debug)]
pub struct Terms<'a> {
    /// What is told at all.
    pub on: &'a [Kind],
    /// At most one of a kind is told in it.
    pub interval: Duration,
    /// Nothing is told for now.
    pub silenced: bool,
}

/// What becomes of one thing that happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is told; so many of them have happened since it was told last, this one included.
    Told(u32),
    /// It is not: it was told so long ago.
    Repeats(Duration),
    /// It is not: alarms are silenced.
    Silenced,
    /// It is not: nobody asked for it.
    Unasked,
}

/// What was told of a module.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct Alarm {
    /// When an exit was told last, and when that it was given up.
    exit: Option<Moment>,
    failed: Option<Moment>,
    /// Exits since then that were not told.
    untold: u32,
    /// When that began which was told and is not over.
    trouble: Option<Moment>,
}

impl Alarm {
    /// The program ended, or could not be started, and nobody had asked for that.
    pub fn died(&mut self, now: Moment, terms: Terms<'_>) -> Verdict {
        self.untold = self.untold.saturating_add(1);
        let verdict = self.judge(Kind::Exit, self.exit, now, terms);
        if let Verdict::Told(_) = verdict {
            self.exit = Some(now);
            self.untold = 0;
        }
        verdict
    }

    /// It was given up.
    pub fn gave_up(&mut self, now: Moment, terms: Terms<'_>) -> Verdict {
        let verdict = self.judge(Kind::Failed, self.failed, now, terms);
        if let Verdict::Told(_) = verdict {
            self.failed = Some(now);
        }
        verdict
    }

    fn judge(&mut self, kind: Kind, last: Option<Moment>, now: Moment, terms: Terms<'_>) -> Verdict {
        if !terms.on.contains(&kind) {
            return Verdict::Unasked;
        }
        if terms.silenced {
            return Verdict::Silenced;
        }
        if let Some(ago) = last.map(|last| now.since(last)).filter(|ago| *ago < terms.interval) {
            return Verdict::Repeats(ago);
        }
        self.trouble.get_or_insert(now);
        Verdict::Told(self.untold.max(1))
    }

    /// When to look whether it has recovered, if its program runs since `up`.
    #[must_use]
    pub fn deadline(&self, up: Option<Moment>, terms: Terms<'_>) -> Option<Moment> {
        self.trouble?;
        up.map(|up| up.plus(terms.interval))
    }

    /// Whether it has recovered, and how long it took until it was up. Nobody hears later that it has if alarms are
    /// silenced now.
    pub fn recovered(&mut self, up: Option<Moment>, now: Moment, terms: Terms<'_>) -> Option<(Verdict, Duration)> {
        self.deadline(up, terms).filter(|due| *due <= now)?;
        let downtime = up?.since(self.trouble.take()?);
        let verdict = match (terms.on.contains(&Kind::Recovered), terms.silenced) {
            (false, _) => Verdict::Unasked,
            (true, true) => Verdict::Silenced,
            (true, false) => Verdict::Told(1),
        };
        Some((verdict, downtime))
    }
}

/// Whether somebody had asked for the end of a program that ended so: `stopping` if it was being stopped, with what was
/// wanted before and after its end. A letter that only sends a signal asks for no end: what dies of it has died.
#[must_use]
pub fn was_asked_for(stopping: bool, before: Want, how: How, after: Want) -> bool {
    match before {
        _ if stopping => true,
        Want::Down => true,
        // What was to run once, or until it is done, and is.
        Want::Once => how.success(),
        Want::Up => how.success() && after == Want::Down,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(3);

    fn at(seconds: u64) -> Moment {
        Moment(seconds * 1_000_000_000)
    }

    fn terms(silenced: bool) -> Terms<'static> {
        Terms { on: &Kind::ALL, interval: INTERVAL, silenced }
    }

    #[test]
    fn the_first_exit_of_an_interval_is_told_with_those_that_were_not() {
        let mut alarm = Alarm::default();
        assert_eq!(alarm.died(at(10), terms(false)), Verdict::Told(1));
        assert_eq!(alarm.died(at(11), terms(false)), Verdict::Repeats(Duration::from_secs(1)));
        assert_eq!(alarm.died(at(12), terms(false)), Verdict::Repeats(Duration::from_secs(2)));
        assert_eq!(alarm.gave_up(at(12), terms(false)), Verdict::Told(2));
        assert_eq!(alarm.died(at(13), terms(false)), Verdict::Told(3));
        assert_eq!(alarm.gave_up(at(13), terms(false)), Verdict::Repeats(Duration::from_secs(1)));
    }

    #[test]
    fn what_is_silenced_is_not_told_later_and_holds_up_nothing() {
        let mut alarm = Alarm::default();
        assert_eq!(alarm.died(at(10), terms(true)), Verdict::Silenced);
        assert_eq!(alarm.recovered(Some(at(10)), at(20), terms(false)), None);
        assert_eq!(alarm.died(at(20), terms(false)), Verdict::Told(2));
        let downtime = Duration::from_secs(1);
        assert_eq!(alarm.recovered(Some(at(21)), at(24), terms(true)), Some((Verdict::Silenced, downtime)));
        assert_eq!(alarm.recovered(Some(at(21)), at(25), terms(false)), None);
    }

    #[test]
    fn it_has_recovered_once_it_was_up_for_an_interval() {
        let mut alarm = Alarm::default();
        assert_eq!(alarm.deadline(Some(at(1)), terms(false)), None);
        alarm.died(at(10), terms(false));
        alarm.died(at(11), terms(false));
        assert_eq!(alarm.deadline(None, terms(false)), None);
        assert_eq!(alarm.deadline(Some(at(12)), terms(false)), Some(at(15)));
        assert_eq!(alarm.recovered(Some(at(12)), at(14), terms(false)), None);
        assert_eq!(alarm.recovered(None, at(15), terms(false)), None);
        let downtime = Duration::from_secs(2);
        assert_eq!(alarm.recovered(Some(at(12)), at(15), terms(false)), Some((Verdict::Told(1), downtime)));
        assert_eq!(alarm.recovered(Some(at(12)), at(16), terms(false)), None);
    }

    #[test]
    fn only_what_is_asked_for_is_told() {
        let mut alarm = Alarm::default();
        let terms = Terms { on: &[Kind::Failed], ..terms(false) };
        assert_eq!(alarm.died(at(1), terms), Verdict::Unasked);
        assert_eq!(alarm.gave_up(at(2), terms), Verdict::Told(1));
        assert_eq!(alarm.recovered(Some(at(3)), at(6), terms), Some((Verdict::Unasked, Duration::from_secs(1))));
    }

    #[test]
    fn an_end_that_was_asked_for() {
        let (done, crashed) = (How::Exited(0), How::Exited(1));
        assert!(was_asked_for(true, Want::Up, crashed, Want::Up));
        assert!(was_asked_for(true, Want::Down, crashed, Want::Down));
        assert!(was_asked_for(false, Want::Once, done, Want::Once));
        assert!(was_asked_for(false, Want::Up, done, Want::Down));
        for (before, how) in [(Want::Up, done), (Want::Up, crashed), (Want::Once, crashed), (Want::Once, How::Unknown)]
        {
            assert!(!was_asked_for(false, before, how, before), "{before:?} {how}");
        }
    }

    /// Every order of seven steps, against what was told before.
    #[test]
    fn in_any_order_no_kind_is_told_twice_in_an_interval_and_silence_changes_nothing_else() {
        #[derive(Clone, Default)]
        struct World {
            alarm: Alarm,
            now: u64,
            silenced: bool,
            up: Option<u64>,
            told: [Option<u64>; 2],
            trouble: bool,
        }
        fn step(mut world: World, step: u8) -> World {
            let terms = terms(world.silenced);
            let now = at(world.now);
            match step {
                0 | 1 => {
                    world.up = None;
                    let verdict =
                        if step == 0 { world.alarm.died(now, terms) } else { world.alarm.gave_up(now, terms) };
                    let last = &mut world.told[usize::from(step)];
                    let quiet = last.is_none_or(|last| at(world.now).since(at(last)) >= INTERVAL);
                    assert_eq!(matches!(verdict, Verdict::Told(_)), quiet && !world.silenced);
                    if let Verdict::Told(_) = verdict {
                        *last = Some(world.now);
                        world.trouble = true;
                    }
                }
                2 => world.up = world.up.or(Some(world.now)),
                3 => world.silenced = !world.silenced,
                _ => world.now += 2,
            }
            let due = world.trouble && world.up.is_some_and(|up| at(world.now).since(at(up)) >= INTERVAL);
            let (up, now, silenced) = (world.up.map(at), at(world.now), world.silenced);
            let recovered = world.alarm.recovered(up, now, Terms { silenced, ..terms });
            assert_eq!(recovered.is_some(), due);
            if let Some((verdict, _)) = recovered {
                assert_eq!(verdict == Verdict::Told(1), !silenced);
                world.trouble = false;
            }
            world
        }
        let mut worlds = vec![World { now: 10, ..World::default() }];
        for _ in 0..7 {
            worlds = worlds.iter().flat_map(|world| (0..5).map(|next| step(world.clone(), next))).collect();
        }
    }
}
