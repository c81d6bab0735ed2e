//! The life of a module's program, from a start to what follows its end.
//!
//! Must never change what is asked of the module, but for a program that did what it was there for.

use std::time::Duration;

use super::{Action, Cause, Ended, Machine, NotStarted, Phase, Readiness, Verdict};
use crate::pure::config::{Awaits, Finish, Forking, Scope, When};
use crate::pure::exit::{Exit, How, Pid, Signal};
use crate::pure::restart::Next;
use crate::pure::status::Want;
use crate::pure::time::{Moment, Stamp, human};

/// A program that puts itself in the background does so within this time.
const SOON: Duration = Duration::from_mins(1);

/// A program that could not be started is tried again after no less than this.
const SHORTEST_AFTER_FAILURE: Duration = Duration::from_millis(100);

impl Machine {
    pub(super) fn start(&mut self, now: Stamp, actions: &mut Vec<Action>) {
        if !self.passes(now) {
            return;
        }
        self.asked = false;
        self.verdict = Verdict::Rest;
        self.start_before = self.history.last_start;
        self.history.started(now.moment);
        self.phase = Phase::Starting;
        actions.push(Action::Spawn);
    }

    pub(super) fn spawned(&mut self, now: Stamp, pid: Pid) {
        self.phase = Phase::Up { pid, paused: false };
        self.since = now;
        self.starts += 1;
        self.spawns += 1;
        self.adopted = false;
        self.followed = false;
        self.told = false;
        self.ending = false;
        self.cleared = false;
        self.changed = false;
        self.readiness = match self.awaits {
            Awaits::Nothing => Readiness::Unasked,
            Awaits::Word | Awaits::Exit => Readiness::Awaited,
        };
        self.reason = self.unwell.take().map(|why| format!("restarted: {why}"));
    }

    pub(super) fn is_ready_now(&mut self, now: Stamp) {
        if matches!(self.phase, Phase::Up { .. }) && self.readiness == Readiness::Awaited {
            self.readiness = Readiness::Since(now);
        }
    }

    /// As `systemd` does, a program that says that it ends has as long for that as one that is told to.
    pub(super) fn stops_itself(&mut self, now: Stamp) {
        let Phase::Up { pid, paused } = self.phase else { return };
        self.cause = Cause::Itself;
        let kill_at = self.stop.timeout.map(|timeout| now.moment.plus(timeout));
        self.phase = Phase::Stopping { pid, paused, kill_at, killed: false };
    }

    /// Nothing takes longer than the end of the tree allows.
    pub(super) fn extend(&mut self, now: Stamp, time: Duration) {
        if let Phase::Stopping { kill_at: Some(kill_at), .. } = &mut self.phase
            && self.within.is_none()
        {
            *kill_at = (*kill_at).max(now.moment.plus(time));
        }
    }

    /// Another process is the program; the one that was may still run, and is something that the module started.
    pub(super) fn main_pid(&mut self, now: Stamp, pid: Pid, actions: &mut Vec<Action>) {
        let Phase::Up { pid: own, .. } = self.phase else { return };
        if pid != own {
            self.phase = Phase::Up { pid, paused: false };
            self.since = now;
            self.followed = true;
            actions.push(Action::Follow(pid));
        }
    }

    pub(super) fn spawn_failed(&mut self, now: Stamp, failure: NotStarted, actions: &mut Vec<Action>) {
        if self.dead.is_some() {
            self.since = now;
        }
        self.unwell = None;
        self.readiness = Readiness::Unasked;
        self.verdict = match self.want {
            Want::Up if failure.shortage => Verdict::Start(now.moment.plus(self.restart.delay)),
            Want::Up => self.judge(now, None, self.history.last_start, &failure.why),
            Want::Once | Want::Down => Verdict::GiveUp(failure.why.clone()),
        };
        // Even a policy without a pause must not make a busy loop of a program that cannot be started.
        if let Verdict::Start(at) = &mut self.verdict {
            *at = (*at).max(now.moment.plus(SHORTEST_AFTER_FAILURE));
        }
        self.reason = Some(failure.why);
        self.wait_or_rest(now, actions);
    }

    /// A program that put itself in the background: the process that it left is the program, if it exited with 0 untold,
    /// and did so soon after its start, as a daemon does, or left one that runs what it ran, as one does that replaces
    /// itself. An unknown end was such a one if what is left has made a session of its own.
    fn follows(&self, now: Stamp, ended: &Ended) -> Option<Pid> {
        let heir = ended.left.heir.filter(|_| self.forking == Forking::Follow && !self.told)?;
        let untold = ended.how.success() || (ended.how == How::Unknown && heir.detached);
        let soon = self.history.last_start.is_some_and(|start| now.moment.since(start) <= SOON);
        (untold && (soon || heir.same_executable)).then_some(heir.pid)
    }

    pub(super) fn exited(&mut self, now: Stamp, ended: Ended, actions: &mut Vec<Action>) {
        let (kill_at, killed, stopping) = match self.phase {
            Phase::Up { pid, .. } if pid == ended.pid => {
                if let Some(heir) = self.follows(now, &ended) {
                    self.phase = Phase::Up { pid: heir, paused: false };
                    self.since = now;
                    self.followed = true;
                    self.dead = Some(ended.pid);
                    actions.push(Action::Follow(heir));
                    return;
                }
                (None, false, false)
            }
            Phase::Stopping { pid, kill_at, killed, .. } if pid == ended.pid => {
                (kill_at, killed, self.cause == Cause::Asked)
            }
            Phase::Finishing { pid, .. } if pid == ended.pid => {
                self.dead = Some(ended.pid);
                if ended.left.session && self.stop.scope != Scope::Main {
                    // A `finish` has nothing to leave.
                    let leader = Some(pid);
                    actions.push(Action::Sweep { leader, signal: Signal::KILL, whole: false });
                    self.phase = Phase::Sweeping { pid: leader, finish: None, kill_at: None, whole: false };
                } else {
                    self.settle(now, actions);
                }
                return;
            }
            // Not a process of this machine.
            Phase::Up { .. } | Phase::Stopping { .. } | Phase::Finishing { .. } | Phase::Sweeping { .. } => return,
            Phase::Down | Phase::Failed | Phase::Waiting { .. } | Phase::Held | Phase::Starting => return,
            Phase::StartingFinish | Phase::Looking { .. } | Phase::Gone => return,
        };
        let Ended { pid, how, oom, .. } = ended;
        let exit = Exit { at: now.wall, pid, how, oom, uptime: now.moment.since(self.since.moment) };
        // A predecessor that died while it swept up had counted this one.
        if self.exits.front().is_none_or(|last| last.pid != exit.pid || !self.adopted) {
            self.exits.push_front(exit);
            self.exits.truncate(self.exits_kept);
            self.exits_total += 1;
        }
        self.adopted = false;
        self.told = false;
        self.dead = Some(ended.pid);
        let ran = format!("{} after {}", how.told(oom), human(exit.uptime));
        let for_the_tree = self.cause == Cause::Tree;
        let (ran, how) = match std::mem::take(&mut self.cause) {
            Cause::Asked | Cause::Itself | Cause::Tree => (ran, Some(ended.how)),
            // However it has ended, that is a failure.
            Cause::Unwell(why) => {
                let ran = format!("{why}; {ran}");
                self.unwell = Some(why);
                (ran, None)
            }
        };
        let well_since = match std::mem::take(&mut self.readiness) {
            Readiness::Unasked => self.history.last_start,
            Readiness::Awaited => None,
            Readiness::Since(since) => Some(since.moment),
        };
        let success = how.is_some_and(How::success);
        let done = self.awaits == Awaits::Exit && success && !stopping;
        self.verdict = match self.want {
            Want::Up if for_the_tree => self.after_tree_stop(now),
            Want::Up if !stopping => {
                let verdict = self.judge(now, how, well_since, &ran);
                self.reason = Some(ran);
                verdict
            }
            Want::Up | Want::Down => {
                self.reason = None;
                Verdict::Rest
            }
            Want::Once => {
                self.reason = (!success).then_some(ran);
                Verdict::Rest
            }
        };
        if done && self.verdict == Verdict::Rest {
            self.readiness = Readiness::Since(now);
        }
        // Before a restart only what is in its session is in the way: a login, an agent, a multiplexer lives on.
        let sweeps = match (self.stop.scope, self.forking) {
            (Scope::Main, _) => false,
            (Scope::Tree, _) if stopping => ended.left.any,
            (Scope::Session, _) if stopping => ended.left.session,
            (Scope::Tree | Scope::Session, Forking::Follow) => ended.left.session,
            (Scope::Tree | Scope::Session, Forking::Ignore) => false,
        };
        let whole = stopping && self.stop.scope == Scope::Tree;
        self.cleared = stopping && !ended.left.any;
        if sweeps {
            let signal = if killed { Signal::KILL } else { self.stop.signal };
            let limit = || self.stop.left_limit().map(|limit| now.moment.plus(limit));
            let kill_at = if killed { None } else { kill_at.or_else(limit) };
            let leader = Some(ended.pid);
            actions.push(Action::Sweep { leader, signal, whole });
            let finish = ended.finish.then_some(ended.how);
            self.phase = Phase::Sweeping { pid: leader, finish, kill_at, whole };
        } else {
            self.after_program(now, ended.finish.then_some(ended.how), actions);
        }
    }

    pub(super) fn swept(&mut self, now: Stamp, actions: &mut Vec<Action>) {
        if let Phase::Sweeping { finish, whole, .. } = self.phase {
            self.cleared = whole;
            self.after_program(now, finish, actions);
        }
    }

    /// The answer to `Look`.
    pub(super) fn left_is_known(&mut self, now: Stamp, any: bool, actions: &mut Vec<Action>) {
        let Phase::Looking { kill_at } = self.phase else { return };
        if any {
            actions.push(Action::Sweep { leader: None, signal: self.stop.signal, whole: true });
            self.phase = Phase::Sweeping { pid: None, finish: None, kill_at, whole: true };
        } else {
            self.cleared = true;
            self.phase = Phase::Down;
            if self.asked && !self.leaving {
                self.start(now, actions);
            }
            self.leave_if_idle();
        }
    }

    fn after_program(&mut self, now: Stamp, finish: Option<How>, actions: &mut Vec<Action>) {
        let due = match self.stop.finish {
            Finish::Always => true,
            Finish::BeforeRestart => self.is_restarted(),
        };
        match finish.filter(|_| due) {
            Some(how) => {
                self.phase = Phase::StartingFinish;
                actions.push(Action::SpawnFinish(how));
            }
            None => self.settle(now, actions),
        }
    }

    /// Whether another start follows, as far as is known now.
    fn is_restarted(&self) -> bool {
        let starts = match (self.want, &self.verdict) {
            (Want::Down, _) => false,
            (Want::Up, Verdict::Start(_)) => true,
            (Want::Up, Verdict::Rest | Verdict::GiveUp(_)) | (Want::Once, _) => self.asked,
        };
        starts && !self.leaving
    }

    pub(super) fn finish_spawned(&mut self, now: Stamp, pid: Pid) {
        self.since = now;
        // A `finish` may start something, too.
        self.cleared = false;
        let limit = self.capped(self.stop.finish_limit());
        self.phase = Phase::Finishing { pid, kill_at: limit.map(|limit| now.moment.plus(limit)) };
    }

    pub(super) fn finish_failed(&mut self, now: Stamp, why: String, actions: &mut Vec<Action>) {
        self.settle(now, actions);
        self.reason.get_or_insert(why);
    }

    /// Nothing of the program runs any more: start it again, or stay down.
    fn settle(&mut self, now: Stamp, actions: &mut Vec<Action>) {
        if !self.leaving {
            let at_once = match (self.want, &self.verdict) {
                (Want::Down, _) => false,
                (Want::Up | Want::Once, _) if self.asked => true,
                (Want::Up, Verdict::Start(at)) => *at <= now.moment,
                (Want::Up, Verdict::Rest | Verdict::GiveUp(_)) | (Want::Once, _) => false,
            };
            if at_once {
                return self.start(now, actions);
            }
        }
        if self.dead.is_some() {
            self.since = now;
        }
        self.wait_or_rest(now, actions);
    }

    /// Nothing runs and nothing is started now. On `d`, retire and shutdown nothing that the module started is alive when
    /// it counts as down.
    pub(super) fn wait_or_rest(&mut self, now: Stamp, actions: &mut Vec<Action>) {
        self.asked = false;
        if self.ending && !self.cleared && self.stop.scope == Scope::Tree {
            self.verdict = Verdict::Rest;
            let timeout = self.capped(self.stop.timeout);
            self.phase = Phase::Looking { kill_at: timeout.map(|timeout| now.moment.plus(timeout)) };
            actions.push(Action::Look);
            return;
        }
        self.phase = match std::mem::replace(&mut self.verdict, Verdict::Rest) {
            Verdict::GiveUp(why) if self.want != Want::Down => {
                self.reason = Some(why);
                Phase::Failed
            }
            Verdict::Start(until) if self.want != Want::Down => self.wait_unless_failed(until.max(now.moment)),
            Verdict::Rest | Verdict::GiveUp(_) | Verdict::Start(_) => Phase::Down,
        };
        self.leave_if_idle();
    }

    /// What follows an end that nobody asked for; `how` is `None` when that does not matter: the program could not even be
    /// started, or was not well.
    fn judge(&mut self, now: Stamp, how: Option<How>, well_since: Option<Moment>, why: &str) -> Verdict {
        let success = how.is_some_and(How::success);
        let again = match self.restart.when {
            When::Always => true,
            When::Failure => !success,
            When::Never => false,
        };
        if !again {
            if success {
                // It did what it was there for: it is wanted no longer, and nobody is to worry about it.
                self.want = Want::Down;
                return Verdict::Rest;
            }
            self.dies();
            return Verdict::GiveUp(format!("{why}, and restart.when is \"never\""));
        }
        self.dies();
        let core = how.is_some_and(How::dumped_core);
        match self.history.exited(now.moment, &self.restart, core, well_since) {
            Next::At(at) => Verdict::Start(at),
            Next::GiveUp(too_many) => Verdict::GiveUp(format!("{too_many}; last: {why}")),
        }
    }

    /// Those that live and die with it hear of that; one that is to leave once it ends is wanted by nobody.
    fn dies(&mut self) {
        self.deaths += u64::from(!self.leaving);
    }
}
