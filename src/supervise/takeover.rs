//! What one supervise thread leaves for the next, and how that one goes on from there.
//!
//! Must never start a program: where nothing runs any more, the machine is told to begin.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;

use super::limited::Memory;
use super::{Child, Supervise};
use crate::pure::command::Command;
use crate::pure::config::{Awaits, Stop};
use crate::pure::exit::{Exit, Pid};
use crate::pure::machine::{Cause, Ended, Event, Left, Phase, Readiness, Stopping, Taken};
use crate::pure::restart::History;
use crate::pure::state::{ExitEntry, Record, State};
use crate::pure::status::Want;
use crate::pure::time::{Moment, Stamp, Wall};
use crate::pure::vitals::Terms;
use crate::unix::adopt::{self, Found};
use crate::unix::home::{Level, Place};
use crate::unix::{clock, pidfd};

impl Supervise {
    /// Takes over what a predecessor left, or starts.
    pub(super) fn begin(&mut self) {
        let recorded = self.home.recorded().and_then(|bytes| State::decode(&bytes).ok());
        // Without one, as after a death during the first start, what the configuration says holds.
        let mut recorded = recorded.unwrap_or_else(|| self.machine.state(clock::stamp()));
        let record = recorded.record.clone().unwrap_or_default();
        let (mut record, want) = adopt::latest(record, self.home.spawned().as_deref());
        if want.is_some() {
            // Started a moment before the death: it cannot have said anything yet that was written down.
            record.awaited = self.task.loaded.policy.rules().awaits != Awaits::Nothing;
        }
        if let Some(want) = want {
            // Somebody asked for this start, and nobody lived to say so.
            want.name().clone_into(&mut recorded.want);
        }
        // A thread of this very process that panicked: its program is known better than from any file.
        if let Some(pid) = Pid::new(self.task.program.load(Ordering::SeqCst)) {
            return self.take_back(pid, &recorded, &record);
        }
        let exits: VecDeque<_> = recorded.exits.iter().filter_map(ExitEntry::exit).collect();
        let valid = record.boot_id == adopt::boot_id() && !record.boot_id.is_empty();
        let found = if valid { adopt::find(&record) } else { Found::Nothing };
        if valid {
            // Also where nothing runs: else the mark of that start would be younger than the next record.
            self.between = record.started;
        }
        if self.task.alone {
            let (record, found) = self.lost(&record).unwrap_or((record, found));
            return self.begin_alone(&recorded, &record, found, exits);
        }
        let alive = matches!(found, Found::Alive(..));
        if !valid || (self.task.anew && !alive) {
            self.machine.take_over(self.fresh(&recorded, exits));
            return self.feed(Event::Begin);
        }
        self.recall(&record);
        let replaced = record.id() != self.task.id;
        if self.task.anew || (replaced && !alive) {
            record = Record { started: record.started, ..Record::default() };
            let fresh = self.fresh(&recorded, exits);
            // What is left of one whose directory is gone is ended first, all of it.
            let asked = !alive && fresh.want == Want::Up;
            self.machine.take_over(Taken { ending: !alive, asked, ..fresh });
        } else {
            self.machine.take_over(taken(&recorded, &record, exits));
            self.recall_alarms(record.alarms.as_ref(), Vec::new());
        }
        match found {
            Found::Nothing => self.feed(Event::Begin),
            Found::Ended(pid, how, vacant) if !record.finishing => {
                let oom = self.was_killed_for_memory(how);
                self.lines.push((Level::Warning, format!("pid {pid} of a predecessor {} meanwhile", how.told(oom))));
                // Without a group a pid that is another's leads astray.
                let left = if vacant || self.grouped { self.left_by(pid, false, vacant) } else { Left::default() };
                let finish = self.glance.has_finish(self.home.service());
                self.feed(Event::Lost(Ended { pid, how, oom, left, finish }));
                self.drop_candidate();
            }
            Found::Ended(..) => self.feed(Event::Begin),
            Found::Alive(pid, held) if record.finishing => {
                self.child = Some(Child::adopted(pid, held));
                self.feed(Event::AdoptedFinish(pid));
            }
            Found::Alive(pid, held) => {
                self.child = Some(Child::adopted(pid, held));
                self.task.program.store(pid.get(), Ordering::SeqCst);
                self.lines.push((Level::Notice, format!("took over pid {pid}")));
                let is_ready = self.recall_care(&recorded, &record);
                self.feed(Event::Adopted { pid, paused: recorded.paused });
                if is_ready {
                    self.is_ready();
                }
                if replaced {
                    // It belongs to a directory that is no longer there.
                    self.feed(Event::Command(Command::Down));
                    self.feed(Event::Command(Command::Up));
                }
            }
        }
    }

    /// Nothing but the exits of what was recorded counts.
    pub(super) fn fresh(&self, recorded: &State, exits: VecDeque<Exit>) -> Taken {
        Taken {
            want: self.machine.want(),
            exits,
            exits_total: recorded.exits_total,
            since: clock::stamp(),
            ..Taken::default()
        }
    }

    /// Goes on where a panicked thread of this process was.
    fn take_back(&mut self, pid: Pid, recorded: &State, record: &Record) {
        let exits = recorded.exits.iter().filter_map(ExitEntry::exit).collect();
        self.machine.take_over(taken(recorded, record, exits));
        self.recall_alarms(record.alarms.as_ref(), Vec::new());
        self.recall(record);
        self.between = record.started;
        self.child = Some(Child::adopted(pid, pidfd::open(pid).ok()));
        self.lines.push((Level::Warning, format!("took pid {pid} back after a defect of svtree")));
        let is_ready = self.recall_care(recorded, record);
        self.feed(Event::Adopted { pid, paused: recorded.paused });
        if is_ready {
            self.is_ready();
        }
        self.look_at_child();
    }

    /// Where what the program left is found.
    pub(super) fn recall(&mut self, record: &Record) {
        self.session = record.session.and_then(Pid::new);
        let groups = self.task.cgroups.as_ref();
        self.cgroup = groups.and_then(|groups| groups.left(record.cgroup.as_deref(), record.id()));
        self.grouped = self.cgroup.is_some();
        self.recall_memory(record.memory.as_ref());
        self.inherited = record.process().is_none_or(|pid| pidfd::peek(pid).is_err());
    }

    pub(super) fn record(&self, now: Stamp) -> Record {
        let history = self.machine.history();
        let age = now.moment.since(self.machine.since().moment);
        // The leader of what is being swept stands for its session.
        let (process, finishing) = match self.machine.phase() {
            Phase::Up { pid, .. } | Phase::Stopping { pid, .. } => (Some(pid.get()), false),
            Phase::Sweeping { pid, .. } => (pid.map(Pid::get), false),
            Phase::Finishing { pid, .. } => (Some(pid.get()), true),
            Phase::Down | Phase::Failed | Phase::Waiting { .. } | Phase::Held | Phase::Starting => (None, false),
            Phase::StartingFinish | Phase::Looking { .. } | Phase::Gone => (None, false),
        };
        let [told, ending, asked, leaving] = self.machine.mind();
        let stop = self.origin.as_ref().map_or(self.task.loaded.policy.stop, |origin| origin.rules().stop);
        let terms = self.care.as_ref().map_or_else(Terms::default, |care| care.terms(now.moment));
        Record {
            boot_id: adopt::boot_id().to_owned(),
            directory: [self.task.id.device, self.task.id.inode],
            instance: self.task.id.instance,
            stop: Some(stop).filter(|stop| *stop != Stop::default()),
            pid: process,
            finishing,
            started: self.between,
            since: clock::boottime().saturating_sub(u64::try_from(age.as_nanos()).unwrap_or(u64::MAX)),
            last_start: history.last_start.map(|moment| moment.0),
            until: self.machine.until().map(|until| until.0),
            counted: history.counted.iter().map(|(moment, core)| (moment.0, *core)).collect(),
            streak: history.streak,
            failed: matches!(self.machine.phase(), Phase::Failed),
            session: self.session.map(Pid::get),
            cgroup: self.cgroup.as_ref().filter(|_| self.grouped).map(|group| group.path().to_owned()),
            memory: self.memory.as_ref().and_then(Memory::recorded),
            alone: matches!(self.task.place, Place::Named(_)),
            told,
            ending,
            asked,
            leaving,
            stopping: match self.machine.phase() {
                Phase::Stopping { kill_at, killed, .. } => Some((kill_at.map(|at| at.0), *killed)),
                Phase::Sweeping { kill_at: Some(at), whole: true, .. } | Phase::Finishing { kill_at: Some(at), .. } => {
                    Some((Some(at.0), false))
                }
                Phase::Down
                | Phase::Failed
                | Phase::Waiting { .. }
                | Phase::Held
                | Phase::Starting
                | Phase::Up { .. } => None,
                Phase::Sweeping { .. } | Phase::Looking { .. } | Phase::StartingFinish => None,
                Phase::Finishing { .. } | Phase::Gone => None,
            },
            itself: self.machine.cause() == &Cause::Itself,
            of_tree: self.machine.cause() == &Cause::Tree,
            alarms: self.alarms.as_ref().and_then(|alarms| alarms.told()),
            unwell: match self.machine.cause() {
                Cause::Asked | Cause::Itself | Cause::Tree => None,
                Cause::Unwell(why) => Some(why.clone()),
            },
            awaited: self.machine.readiness() == Readiness::Awaited,
            ready: match self.machine.readiness() {
                Readiness::Since(since) => Some(since.moment.0),
                Readiness::Unasked | Readiness::Awaited => None,
            },
            ready_by: terms.ready_by.map(|moment| moment.0),
            watchdog: terms.watchdog.map(|every| {
                let every = u64::try_from(every.as_nanos()).unwrap_or(u64::MAX);
                (every, terms.watchdog_by.map(|moment| moment.0))
            }),
            health: (terms.health_at.is_some() || terms.failed > 0)
                .then(|| (terms.health_at.map(|moment| moment.0), terms.failed)),
        }
    }
}

/// What a record says, for the machine.
pub(super) fn taken(state: &State, record: &Record, exits: VecDeque<Exit>) -> Taken {
    let age = clock::boottime().saturating_sub(record.since);
    Taken {
        want: state.want(),
        until: record.until.map(Moment),
        silenced: !state.alarms,
        failed: record.failed,
        reason: state.reason.clone(),
        since: Stamp {
            moment: Moment(clock::moment().0.saturating_sub(age)),
            wall: Wall::from_rfc3339(&state.since).unwrap_or_else(clock::wall),
        },
        history: History {
            last_start: record.last_start.map(Moment),
            counted: record.counted.iter().map(|(moment, core)| (Moment(*moment), *core)).collect(),
            streak: record.streak,
        },
        exits,
        exits_total: state.exits_total,
        restarts: state.restarts,
        followed: state.followed,
        told: record.told,
        ending: record.ending,
        asked: record.asked,
        leaving: record.leaving,
        was_adopted: None,
        stopping: record.stopping.map(|(kill_at, killed)| Stopping { kill_at: kill_at.map(Moment), killed }),
        cause: match &record.unwell {
            Some(why) => Cause::Unwell(why.clone()),
            None if record.itself => Cause::Itself,
            None if record.of_tree => Cause::Tree,
            None => Cause::Asked,
        },
        readiness: readiness(state, record),
    }
}

/// Whether the program could be relied on.
pub(super) fn readiness(state: &State, record: &Record) -> Readiness {
    match (record.awaited, record.ready) {
        (true, _) => Readiness::Awaited,
        (false, None) => Readiness::Unasked,
        (false, Some(moment)) => Readiness::Since(Stamp {
            moment: Moment(moment),
            wall: state.ready_since.as_deref().and_then(Wall::from_rfc3339).unwrap_or_else(clock::wall),
        }),
    }
}
