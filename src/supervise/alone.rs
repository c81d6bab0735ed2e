//! What is different where a module is supervised alone: what of the past counts, when it leaves, and who looks after its
//! home.
//!
//! Must never be asked in a tree.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::takeover::readiness;
use super::{Child, Supervise};
use crate::pure::command::Command;
use crate::pure::config::{Program, Rules, Stop, When};
use crate::pure::exit::{Exit, Signal};
use crate::pure::machine::{Ended, Event, Left};
use crate::pure::state::{Record, State};
use crate::pure::status::Want;
use crate::pure::time::Moment;
use crate::unix::adopt::{self, Found};
use crate::unix::home::{self, Level, Place, file};
use crate::unix::prints::Print;
use crate::unix::raw;
use crate::unix::{clock, lost};

/// A home that nobody watches is looked at so often: a watch of the kernel for each of many processes would leave none for
/// others of the same user.
const LOOK: Duration = Duration::from_secs(3);

/// The files that others may have changed, as they were.
pub(super) type Seen = Box<[Option<Print>; 5]>;

/// When that is looked at first: the start is over by then.
pub(super) fn first_look() -> Moment {
    clock::moment().plus(Duration::from_secs(1))
}

impl Supervise {
    /// Begins as if for the first time, but for what a predecessor left running.
    pub(super) fn begin_alone(&mut self, recorded: &State, record: &Record, found: Found, exits: VecDeque<Exit>) {
        self.recall(record);
        let mut fresh = self.fresh(recorded, exits);
        match found {
            Found::Alive(pid, held) if record.finishing => {
                self.between = record.started;
                self.child = Some(Child::adopted(pid, held));
                self.machine.take_over(fresh);
                // Whoever waited for it is gone.
                self.feed(Event::AdoptedFinish(pid));
                self.feed(Event::Command(Command::Signal(Signal::KILL)));
                self.up_again();
            }
            Found::Alive(pid, held) => {
                let replaced = record.id() != self.task.id;
                if matches!(self.task.place, Place::Service(_)) && !replaced {
                    // It may have been started although there is a file `down`.
                    fresh.want = recorded.want();
                }
                self.between = record.started;
                self.child = Some(Child::adopted(pid, held));
                self.task.program.store(pid.get(), Ordering::SeqCst);
                self.lines.push((Level::Notice, format!("took over pid {pid}")));
                if !replaced {
                    fresh.readiness = readiness(recorded, record);
                }
                self.machine.take_over(fresh);
                let is_ready = self.recall_care(recorded, record);
                self.feed(Event::Adopted { pid, paused: recorded.paused });
                if is_ready {
                    self.is_ready();
                }
                if replaced {
                    self.lines.push((Level::Notice, format!("pid {pid} runs another command, and is ended first")));
                    // However the new one is to be stopped: it waits for this one.
                    self.machine.adjust(Rules { stop: Stop::default(), ..self.task.loaded.policy.rules() });
                    self.feed(Event::Command(Command::Down));
                    self.up_again();
                }
            }
            Found::Ended(pid, how, vacant) => {
                // A pid that is another's by now leads astray.
                let left = if vacant { self.left_by(pid, false, vacant) } else { Left::default() };
                self.machine.take_over(fresh);
                if left == Left::default() {
                    return self.feed(Event::Begin);
                }
                self.lines.push((Level::Notice, format!("pid {pid} of a predecessor has ended and left something")));
                self.feed(Event::Lost(Ended { pid, how, oom: false, left, finish: false }));
                self.drop_candidate();
                self.up_again();
            }
            Found::Nothing => {
                self.machine.take_over(fresh);
                self.feed(Event::Begin);
            }
        }
    }

    /// What a predecessor left running whose records somebody has removed, if it runs the same command.
    pub(super) fn lost(&self, record: &Record) -> Option<(Record, Found)> {
        let Program::Typed(words) = &self.task.loaded.policy.program else { return None };
        if !record.boot_id.is_empty() {
            return None;
        }
        let (pid, stat, held) = lost::find(&self.task.name, self.home.service(), words)?;
        let started = adopt::between(stat.started);
        let record = Record {
            boot_id: adopt::boot_id().to_owned(),
            directory: [self.task.id.device, self.task.id.inode],
            pid: Some(pid.get()),
            started,
            since: started[0],
            ..Record::default()
        };
        Some((record, Found::Alive(pid, Some(held))))
    }

    fn up_again(&mut self) {
        if self.task.loaded.policy.enabled {
            self.feed(Event::Command(Command::Up));
        }
    }

    /// Where its tries have run out, it leaves.
    pub(super) fn after_giving_up(&self) -> Option<Event> {
        let always = self.task.loaded.policy.restart.when == When::Always;
        let leaves = self.task.alone && always && self.machine.want() == Want::Up;
        leaves.then_some(Event::Command(Command::Exit))
    }

    /// Every few seconds: puts the home right, if anything of it has changed since.
    pub(super) fn look_when_due(&mut self) {
        let now = clock::moment();
        if self.look_at.is_some_and(|at| at <= now) {
            self.look_at = Some(now.plus(LOOK));
            if self.seen.is_none() || self.seen != Some(self.see()) {
                self.look();
            }
        }
    }

    #[inline(never)]
    fn look(&mut self) {
        // Seen before: what changes meanwhile is looked at next time, our own changes once in vain.
        let seen = self.see();
        self.heal();
        // Whoever follows one that was taken away finds it again.
        let _ = home::open_logs(self.home.directory());
        self.seen = Some(seen);
        // Whatever made the change is over; a process that rests is small.
        raw::trim_code();
    }

    fn see(&self) -> Seen {
        let home = self.task.place.path();
        let at = |name: &str| Print::at(&home.join(name));
        // The directory itself tells of names that come and go.
        Box::new([at("."), at(file::STATUS), at(file::STATE), at(file::PID), at(file::STAT)])
    }

    /// The word of whoever sits at the terminal: the program gets it, too.
    pub(super) fn interrupt(&mut self) {
        self.feed(Event::Command(Command::Signal(Signal::INT)));
        self.feed(Event::Release);
    }
}
