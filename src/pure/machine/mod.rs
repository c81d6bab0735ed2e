//! One module: what is asked of it, what is true of it, and what follows from an event.
//!
//! `Machine::handle` is the whole policy of the supervise thread. It has no effect: orders go out as `Action`s,
//! and what came of them comes back as `Event`s. The life of a module's program:
//!
//! ```text
//!   Down, Failed, Waiting --> Starting --> Up --> (Stopping) --> (Sweeping) --> (Finishing) --> (Looking) --> Down, Failed, Waiting
//! ```
//!
//! A pid lives inside the phases that have one. A program that ended stays unreaped, so that its pid cannot be
//! another's, until the record that names it has been replaced. Whether the program is ready and well is found out
//! elsewhere (`pure/vitals.rs`), and comes in as the events `Ready` and `Unwell`.

mod asked;
mod gate;
mod life;
mod shown;
mod terms;

use std::collections::VecDeque;
use std::time::Duration;

use self::shown::Visible;
pub use self::terms::{
    Action, Cause, Configured, Ended, Event, Heir, Left, NotStarted, Phase, Readiness, Stopping, Taken,
};
use super::config::{Awaits, Forking, Restart, Rules, Stop};
use super::exit::{Exit, How, Pid, Signal};
use super::restart::History;
use super::standing::Gate;
use super::status::{Running, Want};
use super::time::{Moment, Stamp};

/// A record that could not be written is written again after this time.
const REPUBLISH: Duration = Duration::from_secs(1);

/// What follows the end of the program once nothing of it is left, unless a command says otherwise meanwhile.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Verdict {
    /// It stays down.
    Rest,
    /// It is started at this moment.
    Start(Moment),
    /// It is given up.
    GiveUp(String),
}

/// The supervision of one module, without any effect.
#[derive(Clone, Debug)]
pub struct Machine {
    phase: Phase,
    want: Want,
    /// Leave as soon as nothing runs.
    leaving: bool,
    /// A letter asked for a start that could not be made yet.
    asked: bool,
    /// Whether the tree lets it start.
    gate: Gate,
    verdict: Verdict,
    /// Ended and unreaped.
    dead: Option<Pid>,
    alarms: bool,
    changed: bool,
    enabled: bool,
    adopted: bool,
    /// The program is a process that another one left.
    followed: bool,
    /// The program was sent something that ends programs.
    told: bool,
    /// `d`, or the parent, was the last to say what is wanted: nothing that the module started is to stay.
    ending: bool,
    /// Since that was looked for last, nothing was started.
    cleared: bool,
    /// The longest that a stop may take.
    within: Option<Duration>,
    /// How far a predecessor's stop had come.
    stopping: Option<Stopping>,
    /// Why the program is being stopped.
    cause: Cause,
    /// Why the last program was stopped, if it was not well: said of the next one.
    unwell: Option<String>,
    readiness: Readiness,
    /// Handed down by a predecessor that ran as this very process: whether the program was adopted there.
    was_adopted: Option<bool>,
    restart: Restart,
    stop: Stop,
    exits_kept: usize,
    forking: Forking,
    awaits: Awaits,
    since: Stamp,
    history: History,
    /// The last start but one, for a start that is deferred.
    start_before: Option<Moment>,
    starts: u64,
    /// Those of them that this machine made, and the ends after which it was to be started again or was given up.
    spawns: u64,
    deaths: u64,
    reason: Option<String>,
    mistake: Option<String>,
    exits: VecDeque<Exit>,
    exits_total: u64,
    /// What the records say, or were to say when they were written last; `None` when that is not known.
    published: Option<Visible>,
    /// They could not be written, and are written again then or when they say something new.
    republish_at: Option<Moment>,
    /// `Leave` has been ordered.
    left: bool,
}

impl Machine {
    /// A machine that has not begun.
    #[must_use]
    pub fn new(rules: Rules, enabled: bool, now: Stamp) -> Machine {
        Machine {
            phase: Phase::Down,
            want: if enabled { Want::Up } else { Want::Down },
            leaving: false,
            asked: false,
            gate: Gate::Open,
            verdict: Verdict::Rest,
            dead: None,
            alarms: true,
            changed: false,
            enabled,
            adopted: false,
            followed: false,
            told: false,
            ending: false,
            cleared: false,
            within: None,
            stopping: None,
            cause: Cause::Asked,
            unwell: None,
            readiness: Readiness::Unasked,
            was_adopted: None,
            restart: rules.restart,
            stop: rules.stop,
            exits_kept: rules.exits_kept,
            forking: rules.forking,
            awaits: rules.awaits,
            since: now,
            history: History::default(),
            start_before: None,
            starts: 0,
            spawns: 0,
            deaths: 0,
            reason: None,
            mistake: None,
            exits: VecDeque::new(),
            exits_total: 0,
            published: None,
            republish_at: None,
            left: false,
        }
    }

    /// Continues what a predecessor under the same boot recorded; before `Begin` or `Adopted`.
    pub fn take_over(&mut self, taken: Taken) {
        self.want = taken.want;
        self.alarms = !taken.silenced;
        self.since = taken.since;
        self.history = taken.history;
        self.exits = taken.exits;
        self.exits_total = taken.exits_total;
        self.starts = taken.restarts + u64::from(self.history.last_start.is_some());
        self.reason = taken.reason;
        self.followed = taken.followed;
        self.told = taken.told;
        self.ending = taken.ending;
        self.asked = taken.asked;
        self.leaving = taken.leaving;
        self.stopping = taken.stopping;
        self.cause = taken.cause;
        self.readiness = taken.readiness;
        self.was_adopted = taken.was_adopted;
        if taken.failed {
            self.phase = Phase::Failed;
        } else if let Some(until) = taken.until {
            self.phase = Phase::Waiting { until };
        }
    }

    /// The rules as they hold from a start on.
    pub fn adjust(&mut self, rules: Rules) {
        self.adjust_at_once(rules);
        self.forking = rules.forking;
        self.awaits = rules.awaits;
    }

    fn adjust_at_once(&mut self, rules: Rules) {
        let Rules { restart, stop, exits_kept, forking: _, awaits: _ } = rules;
        self.restart = restart;
        self.stop = stop;
        self.exits_kept = exits_kept;
    }

    /// What follows from an event.
    pub fn handle(&mut self, now: Stamp, event: Event) -> Vec<Action> {
        let mut actions = Vec::new();
        if self.left {
            return actions;
        }
        match event {
            Event::Begin => {
                self.begin(now, &mut actions);
                self.meet_gate(now, &mut actions);
            }
            Event::Adopted { pid, paused } => {
                self.adopt(now, pid, paused, &mut actions);
                self.meet_gate(now, &mut actions);
            }
            Event::AdoptedFinish(pid) => {
                self.verdict = match self.history.last_start {
                    Some(start) if self.want == Want::Up => Verdict::Start(start.plus(self.restart.delay)),
                    Some(_) | None => Verdict::Rest,
                };
                let begun = self.stopping.take().and_then(|stopping| stopping.kill_at);
                self.finish_spawned(now, pid);
                // Its time goes on, if it is one that the policy could have given it.
                if let (Phase::Finishing { kill_at: Some(at), .. }, Some(begun)) = (&mut self.phase, begun) {
                    *at = (*at).min(begun);
                }
            }
            Event::Lost(ended) => {
                self.adopted = true;
                self.use_up();
                let pid = ended.pid;
                self.phase = match self.stopping.take() {
                    Some(Stopping { kill_at, killed }) => Phase::Stopping { pid, paused: false, kill_at, killed },
                    // What it left was being ended.
                    None if self.ending => {
                        let kill_at = self.stop.timeout.map(|timeout| now.moment.plus(timeout));
                        Phase::Stopping { pid, paused: false, kill_at, killed: false }
                    }
                    None => Phase::Up { pid, paused: false },
                };
                self.exited(now, ended, &mut actions);
                self.meet_gate(now, &mut actions);
            }
            Event::Command(command) => self.command(now, command, &mut actions),
            Event::Spawned(pid) => self.spawned(now, pid),
            Event::SpawnFailed(failure) => self.spawn_failed(now, failure, &mut actions),
            Event::Deferred(until) => {
                self.history.last_start = self.start_before;
                self.verdict = Verdict::Start(until);
                self.wait_or_rest(now, &mut actions);
            }
            Event::FinishSpawned(pid) => self.finish_spawned(now, pid),
            Event::FinishFailed(why) => self.finish_failed(now, why, &mut actions),
            Event::Exited(ended) => self.exited(now, ended, &mut actions),
            Event::Learned(pid, how) => {
                let unknown = |exit: &&mut Exit| exit.pid == pid && exit.how == How::Unknown;
                if let Some(exit) = self.exits.iter_mut().find(unknown) {
                    exit.how = how;
                    self.published = None;
                }
            }
            Event::Ready => self.is_ready_now(now),
            Event::Unwell(why) => self.not_well(now, why, &mut actions),
            Event::Stopping => self.stops_itself(now),
            Event::Extend(time) => self.extend(now, time),
            Event::MainPid(pid) => self.main_pid(now, pid, &mut actions),
            Event::Swept => self.swept(now, &mut actions),
            Event::Left(any) => self.left_is_known(now, any, &mut actions),
            Event::Controlled { command, pid, done } => self.controlled(command, pid, done, &mut actions),
            Event::Configured(configured) => self.configured(now, configured),
            Event::Gate(gate) => self.gated(now, gate, &mut actions),
            Event::Retire(within) => self.retire(now, within, &mut actions),
            Event::Release => {
                self.left = true;
                actions.push(Action::Leave);
                return actions;
            }
            Event::PublishFailed => {
                self.republish_at = Some(now.moment.plus(REPUBLISH));
                return actions;
            }
            Event::Heal => self.published = None,
            Event::Tick => self.tick(now, &mut actions),
        }
        self.conclude(&mut actions);
        actions
    }

    /// When `Tick` is due; `None`: nothing waits for the clock.
    #[must_use]
    pub fn deadline(&self) -> Option<Moment> {
        if self.left {
            return None;
        }
        let phase = match self.phase {
            Phase::Waiting { until } => Some(until),
            Phase::Stopping { kill_at, .. } | Phase::Sweeping { kill_at, .. } | Phase::Finishing { kill_at, .. } => {
                kill_at
            }
            Phase::Down | Phase::Failed | Phase::Held | Phase::Starting | Phase::Up { .. } | Phase::Looking { .. } => {
                None
            }
            Phase::StartingFinish | Phase::Gone => None,
        };
        [phase, self.republish_at].into_iter().flatten().min()
    }

    /// What is true now.
    #[must_use]
    pub fn phase(&self) -> &Phase {
        &self.phase
    }

    /// What was asked.
    #[must_use]
    pub fn want(&self) -> Want {
        self.want
    }

    /// The process that has ended and must not be reaped yet.
    #[must_use]
    pub fn dead(&self) -> Option<Pid> {
        self.dead
    }

    /// Why it is as it is.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        self.held_for().or(self.reason.as_deref())
    }

    /// Whether its program is being ended since somebody asked for that, or was so when a predecessor recorded it.
    #[must_use]
    pub fn is_being_stopped(&self) -> bool {
        let is_told = matches!(self.phase, Phase::Stopping { .. }) || self.stopping.is_some() || self.ending;
        is_told && matches!(self.cause, Cause::Asked | Cause::Tree)
    }

    /// How often the program has ended.
    #[must_use]
    pub fn exits_total(&self) -> u64 {
        self.exits_total
    }

    /// How it ended last, if that is kept.
    #[must_use]
    pub fn last_exit(&self) -> Option<&Exit> {
        self.exits.front()
    }

    /// What decides over restarts.
    #[must_use]
    pub fn history(&self) -> &History {
        &self.history
    }

    /// What it has in mind beyond its phase and want, in words; two machines that agree in everything that can be asked
    /// behave alike.
    #[must_use]
    pub fn intentions(&self) -> String {
        let verdict = match self.verdict {
            Verdict::Rest => "rest",
            Verdict::Start(_) => "start",
            Verdict::GiveUp(_) => "give up",
        };
        let word = [("leaving", self.leaving), ("asked", self.asked), ("told", self.told), ("ending", self.ending)];
        let more = [("cleared", self.cleared), ("followed", self.followed), ("capped", self.within.is_some())];
        let said: Vec<&str> = word.into_iter().chain(more).filter(|(_, is)| *is).map(|(word, _)| word).collect();
        let ready = match self.readiness {
            Readiness::Unasked => "",
            Readiness::Awaited => ", awaited",
            Readiness::Since(_) => ", ready",
        };
        let cause = match self.cause {
            Cause::Asked => "",
            Cause::Unwell(_) => ", unwell",
            Cause::Itself => ", stops itself",
            Cause::Tree => ", for the tree",
        };
        let gate = match self.gate {
            Gate::Open => "",
            Gate::Once => ", may start once",
            Gate::Closed(_) => ", may not start",
            Gate::Stop(_) => ", is to stop",
            Gate::Fail(_) => ", is to fail",
        };
        format!("{}, verdict {verdict}{ready}{cause}{gate}", said.join(" "))
    }

    /// Whether it can be relied on.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        self.readiness
    }

    /// Why its program is being stopped.
    #[must_use]
    pub fn cause(&self) -> &Cause {
        &self.cause
    }

    /// Whether its program is a process that another one left.
    #[must_use]
    pub fn followed(&self) -> bool {
        self.followed
    }

    /// What a successor has to know beyond what anybody may see: whether the program was told to end, whether all that it
    /// left is to end too, whether a start was asked for, whether it is to leave.
    #[must_use]
    pub fn mind(&self) -> [bool; 4] {
        // A start that was asked for meanwhile waits for the end of all.
        let sweeps = matches!(self.phase, Phase::Sweeping { whole: true, .. });
        [self.told, self.ending || sweeps, self.asked, self.leaving]
    }

    /// When the pid changed last.
    #[must_use]
    pub fn since(&self) -> Stamp {
        self.since
    }

    fn begin(&mut self, now: Stamp, actions: &mut Vec<Action>) {
        if self.ending {
            // Told to end, and perhaps not to the end of it; it is started after that if `u` came meanwhile.
            let asked = self.asked && self.want != Want::Down;
            self.wait_or_rest(now, actions);
            self.asked = asked;
            if asked && self.phase == Phase::Down {
                self.start(now, actions);
            }
            return;
        }
        if self.phase == Phase::Failed || self.want != Want::Up {
            return;
        }
        // After a take-over the pause that was running goes on, if it is one that the policy could have made.
        let longest = now.moment.plus(self.restart.max_delay.unwrap_or(self.restart.delay).max(self.restart.delay));
        match self.phase {
            Phase::Waiting { until } if until > now.moment && until <= longest => {}
            Phase::Down | Phase::Failed | Phase::Waiting { .. } | Phase::Held | Phase::Starting => {
                self.start(now, actions);
            }
            Phase::Up { .. } | Phase::Stopping { .. } | Phase::Looking { .. } | Phase::Sweeping { .. } => {}
            Phase::StartingFinish | Phase::Finishing { .. } | Phase::Gone => {}
        }
    }

    fn adopt(&mut self, now: Stamp, pid: Pid, paused: bool, actions: &mut Vec<Action>) {
        self.adopted = self.was_adopted.take().unwrap_or(true);
        self.phase = Phase::Up { pid, paused };
        self.use_up();
        self.reason = None;
        match self.stopping.take() {
            // Recorded once it was told to end: the stop goes on.
            Some(Stopping { kill_at, killed }) => {
                let longest = self.stop.timeout.map(|timeout| now.moment.plus(timeout));
                let kill_at = if killed { None } else { [kill_at, longest].into_iter().flatten().min() };
                self.phase = Phase::Stopping { pid, paused, kill_at, killed };
            }
            None if self.want == Want::Down => self.stop(now, self.stop.timeout, actions),
            None => {}
        }
    }

    /// What is wrong with its files is known before it begins.
    pub fn begin_mistaken(&mut self, mistake: Option<String>) {
        self.mistake = mistake;
    }

    fn configured(&mut self, now: Stamp, configured: Configured) {
        self.enabled = configured.enabled;
        self.mistake = configured.mistake;
        self.changed = configured.changed && self.status().running == Running::Program;
        let timeout = self.stop.timeout;
        if let Some(rules) = configured.at_once {
            self.adjust_at_once(rules);
        }
        if self.stop.timeout != timeout
            && self.within.is_none()
            && let Phase::Stopping { kill_at, killed: false, .. } | Phase::Sweeping { kill_at, .. } = &mut self.phase
        {
            // From now on: somebody does not want to wait for as long, or wants to wait.
            *kill_at = self.stop.timeout.map(|timeout| now.moment.plus(timeout));
        }
        if let (Phase::Waiting { until }, Some(start)) = (&mut self.phase, self.history.last_start) {
            // Somebody mended something: a pause that had grown is not waited out.
            *until = (*until).min(start.plus(self.restart.delay)).max(now.moment);
        }
    }

    fn tick(&mut self, now: Stamp, actions: &mut Vec<Action>) {
        let due = |at: Option<Moment>| at.is_some_and(|at| at <= now.moment);
        if due(self.republish_at) {
            self.published = None;
        }
        match &mut self.phase {
            Phase::Waiting { until } if *until <= now.moment => self.start(now, actions),
            Phase::Stopping { pid, kill_at, killed, .. } if due(*kill_at) => {
                *kill_at = None;
                *killed = true;
                actions.push(Action::Signal(*pid, Signal::KILL));
            }
            Phase::Sweeping { pid, kill_at, whole, .. } if due(*kill_at) => {
                *kill_at = None;
                actions.push(Action::Sweep { leader: *pid, signal: Signal::KILL, whole: *whole });
            }
            Phase::Finishing { pid, kill_at } if due(*kill_at) => {
                *kill_at = None;
                actions.push(Action::Signal(*pid, Signal::KILL));
            }
            Phase::Waiting { .. } | Phase::Stopping { .. } | Phase::Sweeping { .. } | Phase::Finishing { .. } => {}
            Phase::Down | Phase::Failed | Phase::Held | Phase::Starting | Phase::Up { .. } | Phase::Looking { .. } => {}
            Phase::StartingFinish | Phase::Gone => {}
        }
    }

    /// Once the phase stands: the records first, then the dead, then the end.
    fn conclude(&mut self, actions: &mut Vec<Action>) {
        if matches!(self.phase, Phase::Starting | Phase::StartingFinish | Phase::Looking { .. }) {
            return;
        }
        let visible = self.visible();
        if self.published.as_ref() != Some(&visible) {
            self.published = Some(visible);
            self.republish_at = None;
            actions.push(Action::Publish);
        }
        if !matches!(self.phase, Phase::Sweeping { .. })
            && let Some(pid) = self.dead.take()
        {
            actions.push(Action::Reap(pid));
        }
        if self.phase == Phase::Gone {
            self.left = true;
            actions.push(Action::Leave);
        }
    }
}
