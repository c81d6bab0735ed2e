//! `--wait`: until what a verb is for can be seen in `state.json`.
//!
//! Woken when that file is replaced or the supervisor leaves; must never poll on a clock.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::out;
use super::verbs::NOBODY;
use crate::pure::name::ModuleName;
use crate::pure::state::{State, StateName};
use crate::pure::time::Moment;
use crate::unix::client::{self, Line, Watched, Watcher};
use crate::unix::clock;
use crate::unix::home::file;

/// What a verb is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goal {
    /// It runs, and is ready.
    Up,
    /// The same, or it waits for others.
    Coming,
    /// It runs as another process than before, and is ready.
    Restarted,
    /// Nothing of it runs.
    Down,
    /// It was started once more, and may have ended again.
    Once,
    /// The process that ran before has ended.
    Ended,
    /// The program is paused, or is not.
    Paused(bool),
    /// Its alarms are on, or are not.
    Alarms(bool),
    /// Nobody supervises it any more.
    Left,
    /// The letter is in the FIFO.
    Delivered,
}

/// Whether a goal is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Reached {
    Yes,
    NotYet,
    Never(String),
}

/// How a module was before it was told anything.
#[derive(Debug)]
pub struct Before {
    home: PathBuf,
    state: State,
    watched: Watched,
}

struct Told {
    name: ModuleName,
    line: Line,
    before: Before,
}

/// All modules that are waited for.
pub struct Waiting {
    goal: Goal,
    patience: Duration,
    deadline: Moment,
    /// None when nothing is waited for.
    watcher: Option<Watcher>,
    told: Vec<Told>,
}

impl Waiting {
    /// Nothing yet; nothing ever if `patience` is zero. The time counts from now, for all modules together.
    ///
    /// # Errors
    /// The system has no watcher for us.
    pub fn new(goal: Goal, patience: Duration) -> io::Result<Waiting> {
        let idle = patience.is_zero() || goal == Goal::Delivered;
        Ok(Waiting {
            goal,
            patience,
            deadline: clock::moment().plus(patience),
            watcher: if idle { None } else { Some(Watcher::new()?) },
            told: Vec::new(),
        })
    }

    /// To be called before a module is told: watches it, and reads how it is.
    ///
    /// # Errors
    /// In words, what kept us from it.
    pub fn prepare(&self, home: &Path) -> Result<Option<Before>, String> {
        let Some(watcher) = &self.watcher else { return Ok(None) };
        let watched = watcher.add(home).map_err(|error| format!("waiting: {}", out::cause(&error)))?;
        let bytes = client::read(&home.join(file::STATE)).map_err(|error| unreadable(&error))?;
        Ok(Some(Before { home: home.to_owned(), state: State::decode(&bytes)?, watched }))
    }

    /// To be called once it was told.
    pub fn add(&mut self, name: &ModuleName, line: Line, before: Option<Before>) {
        if let Some(before) = before {
            self.told.push(Told { name: name.clone(), line, before });
        }
    }

    /// Waits until each module has reached the goal or cannot; says of each that has not, why.
    pub fn wait(self, mut failed: impl FnMut(&ModuleName, String)) {
        let Some(watcher) = self.watcher else { return };
        let mut waiting = self.told;
        let mut due: Vec<usize> = (0..waiting.len()).collect();
        loop {
            // From the end, so that what stays keeps its place.
            for index in due.into_iter().rev() {
                match waiting[index].look(self.goal) {
                    Reached::NotYet => continue,
                    Reached::Yes => {}
                    Reached::Never(why) => failed(&waiting[index].name, why),
                }
                waiting.swap_remove(index);
            }
            let lines: Vec<_> = waiting.iter().map(|told| (told.before.watched, &told.line)).collect();
            if lines.is_empty() {
                return;
            }
            let (woken, why) = match watcher.wait(&lines, Some(self.deadline)) {
                Ok(woken) => (woken, format!("not done after {} s", self.patience.as_secs_f64())),
                Err(error) => (Vec::new(), format!("waiting: {}", out::cause(&error))),
            };
            if woken.is_empty() {
                for told in &waiting {
                    failed(&told.name, format!("{why}: {}", told.standing()));
                }
                return;
            }
            due = woken;
        }
    }
}

impl Told {
    fn look(&self, goal: Goal) -> Reached {
        // Asked first: what a supervisor wrote before it left is then read for certain.
        let lost = self.line.lost();
        if goal == Goal::Left && lost {
            return Reached::Yes;
        }
        match self.state() {
            Ok(Some(state)) => match reached(goal, &self.before.state, &state) {
                Reached::NotYet if lost => Reached::Never(NOBODY.to_owned()),
                reached => reached,
            },
            Ok(None) => retired(goal),
            Err(why) => Reached::Never(why),
        }
    }

    /// None when its directory is gone.
    fn state(&self) -> Result<Option<State>, String> {
        match client::read(&self.before.home.join(file::STATE)) {
            Ok(bytes) => State::decode(&bytes).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(unreadable(&error)),
        }
    }

    /// In words, how it is.
    fn standing(&self) -> String {
        match self.state() {
            Ok(Some(state)) => {
                let pid = state.pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default();
                let reason = state.reason.map(|reason| format!(", {reason}")).unwrap_or_default();
                format!("{}{pid}{reason}", state.state.name())
            }
            Ok(None) => "retired".to_owned(),
            Err(why) => why,
        }
    }
}

fn unreadable(error: &io::Error) -> String {
    format!("{}: {}", file::STATE, out::cause(error))
}

/// A status directory is removed only once nothing of its module runs.
fn retired(goal: Goal) -> Reached {
    match goal {
        Goal::Down | Goal::Ended | Goal::Left | Goal::Delivered => Reached::Yes,
        Goal::Up | Goal::Coming | Goal::Restarted | Goal::Once | Goal::Paused(_) | Goal::Alarms(_) => {
            Reached::Never("it was retired".to_owned())
        }
    }
}

/// Whether `now` is what the verb is for, in a module that was as `before` says.
fn reached(goal: Goal, before: &State, now: &State) -> Reached {
    let ready = matches!(now.state, StateName::Up | StateName::Ready);
    let same_pid = now.pid == before.pid;
    let exited = now.exits_total != before.exits_total;
    // A job that others need is ready once it is done.
    let job_done = now.state == StateName::Down && now.ready && exited;
    let done = match goal {
        Goal::Up => ready || job_done,
        Goal::Coming => ready || job_done || (now.state == StateName::Waiting && now.next_start.is_none()),
        Goal::Restarted => (ready && !same_pid) || job_done,
        Goal::Down => matches!(now.state, StateName::Down | StateName::Failed) && now.pid.is_none(),
        // One that runs already is not started again: then `once` only changes what is wanted.
        Goal::Once => now.want == "once" && (now.pid.is_some() || exited),
        Goal::Ended => before.pid.is_none() || !same_pid,
        Goal::Paused(paused) => now.pid.is_none() || now.paused == paused,
        Goal::Alarms(alarms) => now.alarms == alarms,
        Goal::Left => false,
        Goal::Delivered => true,
    };
    let wants_start = matches!(goal, Goal::Up | Goal::Coming | Goal::Restarted | Goal::Once);
    // A failure that was there before says nothing about this start.
    let failed_anew = before.state != StateName::Failed || exited || now.reason != before.reason;
    match now.state {
        _ if done => Reached::Yes,
        StateName::Failed if wants_start && failed_anew => Reached::Never(match &now.reason {
            Some(reason) => format!("failed: {reason}"),
            None => "failed".to_owned(),
        }),
        StateName::Rejected | StateName::Incomplete if wants_start => Reached::Never(now.state.name().to_owned()),
        StateName::Down
        | StateName::Starting
        | StateName::Up
        | StateName::Ready
        | StateName::Stopping
        | StateName::Finishing
        | StateName::Waiting
        | StateName::Failed
        | StateName::Incomplete
        | StateName::Rejected => Reached::NotYet,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(state: StateName, pid: Option<i32>) -> State {
        State { state, pid, alarms: true, ..State::default() }
    }

    #[test]
    fn up_and_restarted() {
        let up = state(StateName::Up, Some(7));
        let again = state(StateName::Ready, Some(8));
        let down = state(StateName::Down, None);
        let starting = state(StateName::Starting, Some(8));
        assert_eq!(reached(Goal::Up, &up, &up), Reached::Yes);
        assert_eq!(reached(Goal::Up, &down, &starting), Reached::NotYet);
        assert_eq!(reached(Goal::Restarted, &up, &up), Reached::NotYet);
        assert_eq!(reached(Goal::Restarted, &up, &again), Reached::Yes);
        assert_eq!(reached(Goal::Restarted, &down, &up), Reached::Yes);
    }

    #[test]
    fn a_job_is_up_once_it_is_done_anew() {
        let starting = state(StateName::Starting, Some(7));
        let done = State { ready: true, exits_total: 1, ..state(StateName::Down, None) };
        let again = State { exits_total: 2, ..done.clone() };
        for goal in [Goal::Up, Goal::Restarted] {
            assert_eq!(reached(goal, &starting, &done), Reached::Yes);
            assert_eq!(reached(goal, &done, &done), Reached::NotYet);
            assert_eq!(reached(goal, &done, &State { ready: false, ..again.clone() }), Reached::NotYet);
            assert_eq!(reached(goal, &done, &again), Reached::Yes);
        }
    }

    #[test]
    fn a_new_failure_ends_the_waiting_and_an_old_one_does_not() {
        let up = state(StateName::Up, Some(7));
        let failed = State { reason: Some("3 exits in 60s".into()), ..state(StateName::Failed, None) };
        assert_eq!(reached(Goal::Up, &up, &failed), Reached::Never("failed: 3 exits in 60s".into()));
        assert_eq!(reached(Goal::Up, &failed, &failed), Reached::NotYet);
        let more = State { exits_total: 9, ..failed.clone() };
        assert!(matches!(reached(Goal::Restarted, &failed, &more), Reached::Never(_)));
        assert_eq!(reached(Goal::Down, &up, &failed), Reached::Yes);
    }

    #[test]
    fn down_is_down_with_nothing_left() {
        let up = state(StateName::Up, Some(7));
        assert_eq!(reached(Goal::Down, &up, &state(StateName::Stopping, Some(7))), Reached::NotYet);
        assert_eq!(reached(Goal::Down, &up, &state(StateName::Finishing, None)), Reached::NotYet);
        assert_eq!(reached(Goal::Down, &up, &state(StateName::Down, None)), Reached::Yes);
    }

    #[test]
    fn once_was_started_or_has_exited_again() {
        let down = State { want: "once".into(), exits_total: 3, ..state(StateName::Down, None) };
        let up = State { want: "once".into(), exits_total: 3, ..state(StateName::Up, Some(7)) };
        let ended = State { exits_total: 4, ..down.clone() };
        assert_eq!(reached(Goal::Once, &down, &down), Reached::NotYet);
        assert_eq!(reached(Goal::Once, &down, &up), Reached::Yes);
        assert_eq!(reached(Goal::Once, &down, &ended), Reached::Yes);
    }

    #[test]
    fn signals_pauses_and_alarms() {
        let up = state(StateName::Up, Some(7));
        let down = state(StateName::Down, None);
        let paused = State { paused: true, alarms: false, ..up.clone() };
        assert_eq!(reached(Goal::Ended, &up, &up), Reached::NotYet);
        assert_eq!(reached(Goal::Ended, &up, &down), Reached::Yes);
        assert_eq!(reached(Goal::Ended, &down, &down), Reached::Yes);
        assert_eq!(reached(Goal::Paused(true), &up, &up), Reached::NotYet);
        assert_eq!(reached(Goal::Paused(true), &up, &paused), Reached::Yes);
        assert_eq!(reached(Goal::Paused(true), &down, &down), Reached::Yes);
        assert_eq!(reached(Goal::Alarms(false), &up, &paused), Reached::Yes);
        assert_eq!(reached(Goal::Left, &up, &down), Reached::NotYet);
    }
}
