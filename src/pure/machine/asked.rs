//! What follows from what is asked of a module: by a letter, or by the parent that retires it.
//!
//! Must never judge how a program ended: that is `life.rs`.

use std::time::Duration;

use super::{Action, Cause, Machine, Phase, Readiness, Verdict};
use crate::pure::command::Command;
use crate::pure::config::{Finish, Scope};
use crate::pure::exit::{Pid, Signal};
use crate::pure::status::Want;
use crate::pure::time::Stamp;

impl Machine {
    pub(super) fn command(&mut self, now: Stamp, command: Command, actions: &mut Vec<Action>) {
        match command {
            Command::Up => self.want_running(now, Want::Up, actions),
            Command::Once => self.want_running(now, Want::Once, actions),
            Command::Down => self.down(now, self.stop.timeout, actions),
            Command::Signal(signal) => self.signal(signal, actions),
            Command::Exit => {
                self.leaving = true;
                self.abandon_finish(actions);
                self.leave_if_idle();
            }
            Command::Silence => self.alarms = false,
            Command::Alarms => self.alarms = true,
            Command::Reload => actions.push(Action::Reload),
        }
    }

    fn want_running(&mut self, now: Stamp, want: Want, actions: &mut Vec<Action>) {
        self.want = want;
        self.ending = false;
        self.asked_in_spite();
        match self.phase {
            Phase::Down | Phase::Failed | Phase::Waiting { .. } | Phase::Held => {
                self.history.forgive();
                self.unwell = None;
                self.start(now, actions);
            }
            // The stop goes on; `u` wants it started after that, `o` wants no more than what runs.
            Phase::Stopping { .. } | Phase::Sweeping { pid: Some(_), .. } => self.asked = want == Want::Up,
            Phase::Sweeping { pid: None, .. } => self.asked = true,
            Phase::StartingFinish | Phase::Finishing { .. } => self.asked = true,
            Phase::Up { .. } | Phase::Starting | Phase::Looking { .. } | Phase::Gone => {}
        }
    }

    fn down(&mut self, now: Stamp, timeout: Option<Duration>, actions: &mut Vec<Action>) {
        self.want = Want::Down;
        self.asked = false;
        self.ending = true;
        self.cause = Cause::Asked;
        match self.phase {
            Phase::Down | Phase::Failed | Phase::Waiting { .. } | Phase::Held => {
                self.reason = None;
                // What is done counts no more.
                self.readiness = Readiness::Unasked;
                self.verdict = Verdict::Rest;
                return self.wait_or_rest(now, actions);
            }
            Phase::Up { .. } | Phase::Stopping { killed: false, .. } => self.stop(now, timeout, actions),
            // What it left elsewhere is not to stay either.
            Phase::Sweeping { pid, finish, kill_at, whole: false } if self.stop.scope == Scope::Tree => {
                let kill_at = kill_at.or_else(|| timeout.map(|timeout| now.moment.plus(timeout)));
                self.phase = Phase::Sweeping { pid, finish, kill_at, whole: true };
                actions.push(Action::Sweep { leader: pid, signal: self.stop.signal, whole: true });
            }
            Phase::Finishing { .. } => self.abandon_finish(actions),
            Phase::Stopping { .. } | Phase::Sweeping { .. } => {}
            Phase::Starting | Phase::StartingFinish | Phase::Looking { .. } | Phase::Gone => {}
        }
        self.leave_if_idle();
    }

    /// What runs only because the program is to be started again has nothing to run for any more.
    fn abandon_finish(&mut self, actions: &mut Vec<Action>) {
        if let (Finish::BeforeRestart, Phase::Finishing { pid, kill_at }) = (self.stop.finish, &mut self.phase) {
            *kill_at = None;
            actions.push(Action::Signal(*pid, Signal::KILL));
        }
    }

    /// Tells the program to end. One that is told again keeps its deadline.
    pub(super) fn stop(&mut self, now: Stamp, timeout: Option<Duration>, actions: &mut Vec<Action>) {
        let (pid, paused, kill_at) = match self.phase {
            Phase::Up { pid, paused } => (pid, paused, timeout.map(|timeout| now.moment.plus(timeout))),
            Phase::Stopping { pid, paused, kill_at, .. } => (pid, paused, kill_at),
            Phase::Down
            | Phase::Failed
            | Phase::Waiting { .. }
            | Phase::Held
            | Phase::Starting
            | Phase::Sweeping { .. } => return,
            Phase::StartingFinish | Phase::Finishing { .. } | Phase::Looking { .. } | Phase::Gone => return,
        };
        actions.push(Action::Control(Command::Down, pid));
        self.phase = Phase::Stopping { pid, paused, kill_at, killed: false };
    }

    /// The program is stopped as by a letter, with a time limit, and is to be started again.
    pub(super) fn not_well(&mut self, now: Stamp, why: String, actions: &mut Vec<Action>) {
        let Phase::Up { pid, paused } = self.phase else { return };
        self.told = true;
        self.reason = Some(why.clone());
        self.cause = Cause::Unwell(why);
        let kill_at = self.stop.timeout.map(|timeout| now.moment.plus(timeout));
        self.phase = Phase::Stopping { pid, paused, kill_at, killed: false };
        actions.push(Action::Control(Command::Signal(self.stop.signal), pid));
    }

    /// The module's own script has done what a signal is there for, or has not.
    pub(super) fn controlled(&mut self, command: Command, pid: Pid, done: bool, actions: &mut Vec<Action>) {
        let paused = match &mut self.phase {
            Phase::Up { pid: own, paused } | Phase::Stopping { pid: own, paused, .. } if *own == pid => paused,
            // The program that it was asked about has ended meanwhile.
            Phase::Up { .. } | Phase::Stopping { .. } | Phase::Sweeping { .. } | Phase::Finishing { .. } => return,
            Phase::Down | Phase::Failed | Phase::Waiting { .. } | Phase::Held | Phase::Starting => return,
            Phase::StartingFinish | Phase::Looking { .. } | Phase::Gone => return,
        };
        match command {
            Command::Signal(_) if done => {}
            Command::Signal(signal) => {
                actions.push(Action::Signal(pid, signal));
                if signal == Signal::STOP {
                    *paused = true;
                } else if signal == Signal::CONT {
                    *paused = false;
                }
            }
            Command::Down => {
                if !done {
                    actions.push(Action::Signal(pid, self.stop.signal));
                }
                // A program that is stopped cannot act on TERM, nor on what a script has asked of it.
                actions.push(Action::Signal(pid, Signal::CONT));
                *paused = false;
            }
            Command::Up | Command::Once | Command::Exit => {}
            Command::Silence | Command::Alarms | Command::Reload => {}
        }
        // What is stopped since it is not well may be so because somebody has stopped it.
        if matches!(self.cause, Cause::Unwell(_)) && command == Command::Signal(self.stop.signal) {
            actions.push(Action::Signal(pid, Signal::CONT));
            *paused = false;
        }
    }

    fn signal(&mut self, signal: Signal, actions: &mut Vec<Action>) {
        let ends = [Signal::TERM, Signal::KILL, Signal::INT, Signal::QUIT, self.stop.signal];
        match &self.phase {
            Phase::Up { pid, .. } | Phase::Stopping { pid, .. } => {
                self.told |= ends.contains(&signal);
                actions.push(Action::Control(Command::Signal(signal), *pid));
            }
            // The program is gone: KILL is for what it left.
            Phase::Sweeping { pid, whole, .. } if signal == Signal::KILL => {
                actions.push(Action::Sweep { leader: *pid, signal, whole: *whole });
            }
            // As in runit and s6, a `finish` that hangs can be ended; pausing is of programs.
            Phase::Finishing { pid, .. } if signal != Signal::STOP => actions.push(Action::Signal(*pid, signal)),
            Phase::Sweeping { .. } | Phase::Finishing { .. } | Phase::StartingFinish | Phase::Looking { .. } => {}
            Phase::Down | Phase::Failed | Phase::Waiting { .. } | Phase::Held | Phase::Starting | Phase::Gone => {}
        }
    }

    pub(super) fn retire(&mut self, now: Stamp, within: Option<Duration>, actions: &mut Vec<Action>) {
        self.leaving = true;
        self.within = [self.within, within].into_iter().flatten().min();
        let timeout = self.capped(self.stop.timeout);
        let finish_limit = self.capped(self.stop.finish_limit());
        self.down(now, timeout, actions);
        let (kill_at, timeout) = match &mut self.phase {
            Phase::Stopping { kill_at, killed: false, .. } | Phase::Sweeping { kill_at, .. } => (kill_at, timeout),
            Phase::Finishing { kill_at, .. } => (kill_at, finish_limit),
            Phase::Down | Phase::Failed | Phase::Waiting { .. } | Phase::Held | Phase::Starting | Phase::Up { .. } => {
                return;
            }
            Phase::Stopping { .. } | Phase::StartingFinish | Phase::Looking { .. } | Phase::Gone => return,
        };
        // One that was being stopped without a limit has the limit of now.
        let limit = if kill_at.is_none() { timeout } else { within };
        if let Some(limit) = limit {
            let capped = now.moment.plus(limit);
            *kill_at = Some(kill_at.map_or(capped, |at| at.min(capped)));
        }
    }

    /// A time limit, or the one that the end of the tree sets if that is shorter.
    pub(super) fn capped(&self, own: Option<Duration>) -> Option<Duration> {
        match (own, self.within) {
            (Some(own), Some(cap)) => Some(own.min(cap)),
            (own, cap) => own.or(cap),
        }
    }

    pub(super) fn leave_if_idle(&mut self) {
        if !self.leaving {
            return;
        }
        match self.phase {
            Phase::Down | Phase::Failed | Phase::Waiting { .. } | Phase::Held => {
                self.phase = Phase::Gone;
            }
            Phase::Starting | Phase::Up { .. } | Phase::Stopping { .. } | Phase::Sweeping { .. } => {}
            Phase::StartingFinish | Phase::Finishing { .. } | Phase::Looking { .. } | Phase::Gone => {}
        }
    }
}
