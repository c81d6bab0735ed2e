//! The module's processes: how they are started, signalled, and seen to end, with what they leave.
//!
//! Must never reap: the record that names a pid is replaced first.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::Builder;
use std::time::Duration;

use super::rights::Found;
use super::{Child, Loaded, Mail, Report, Starting, Supervise};
use crate::pure::accounts::Ids;
use crate::pure::config::Rules;
use crate::pure::exit::{How, Pid, Signal};
use crate::pure::machine::{Ended, Event, Left, NotStarted, Phase};
use crate::pure::time::Moment;
use crate::unix::cgroup::Cgroup;
use crate::unix::controllers::Limited;
use crate::unix::home::{Channel, Level};
use crate::unix::mark::Mark;
use crate::unix::prints::{self, Print, Prints};
use crate::unix::raw::{self, Output, Started};
use crate::unix::remains::{self, Executable};
use crate::unix::spawn::{self, Given, Service};
use crate::unix::{adopt, clock, pidfd, report};

/// What the running program was started with.
#[derive(Debug)]
pub(super) struct Origin {
    pub(super) loaded: Arc<Loaded>,
    /// The part of its policy that is in force, if that is another one: what was changed of it at once is not waited for.
    pub(super) adjusted: Option<Box<Rules>>,
    /// The file itself.
    pub(super) run: Option<Print>,
}

impl Origin {
    /// The part of its policy that is in force.
    pub(super) fn rules(&self) -> Rules {
        self.adjusted.as_deref().copied().unwrap_or_else(|| self.loaded.policy.rules())
    }
}

/// Small files that were read so short a time ago are not looked at again by a module that begins: a thousand that do so at
/// once have their turns within it.
const JUST_NOW: Duration = Duration::from_millis(500);

/// A program that ended, and how is not known yet.
#[derive(Debug)]
pub(super) struct Unknown {
    pid: Pid,
    pidfd: OwnedFd,
    /// When it is asked again,
    pub(super) look_at: Moment,
    /// and how often it was.
    looks: u32,
}

/// Whether a descriptor more for each of a few modules does not count.
fn has_room() -> bool {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    limit.is_none_or(|limit| limit >= 1024)
}

impl Supervise {
    pub(super) fn signal(&mut self, pid: Pid, signal: Signal) {
        // A program that replaces itself when it is told to does so from now on.
        if [Signal::HUP, Signal::USR1, Signal::USR2].contains(&signal) {
            self.sample();
        }
        if signal == Signal::KILL {
            self.about_to_kill();
        }
        let result = match &self.child {
            Some(Child { pid: own, pidfd: Some(pidfd), .. }) if *own == pid => {
                raw::kill_by_pidfd(pidfd.as_fd(), signal)
            }
            // Our own child that is not reaped, or one that was looked at a moment ago.
            Some(child) if child.pid == pid => raw::kill(pid, signal),
            Some(_) | None => return,
        };
        if let Err(error) = result {
            self.lines.push((Level::Warning, format!("{signal} to pid {pid}: {}", report::plain(&error))));
        }
    }

    pub(super) fn service<'a>(&'a self, cgroup: Option<&'a OwnedFd>) -> Service<'a> {
        let fifo = self.home.channel().map(Channel::fifo);
        let plain = self.plain_output();
        let routed = self.routed().is_some();
        let (input, output) = match &self.task.reads {
            Some(_) => (fifo, None),
            None if routed => (None, self.home.said().map(Channel::fifo)),
            None => (None, fifo.filter(|_| self.task.loaded.logged)),
        };
        let output = output.map_or(plain, Output::Fifo);
        Service {
            name: &self.task.name,
            instance: self.task.id.instance,
            directory: self.home.service(),
            path: &self.task.path,
            input,
            output,
            // As in the family a logger of its own has the output alone.
            error: if routed { output } else { plain },
            home: self.home.directory(),
            cgroup: cgroup.map(AsFd::as_fd),
            born_there: self.cgroup.as_ref().is_some_and(Cgroup::is_fresh),
        }
    }

    /// The control group that its processes are started in, made if it is not there; `None` where there can be none.
    pub(super) fn group(&mut self) -> Option<OwnedFd> {
        let groups = self.task.cgroups.clone()?;
        let usable = |group: &&Cgroup| group.is_fresh() && groups.has(group);
        if let Some(group) = self.cgroup.as_ref().filter(usable)
            && let Some(held) = self.group_held.take().or_else(|| groups.hold(group).ok())
        {
            return Some(held);
        }
        self.group_held = None;
        // What a predecessor's program left is found there until something is started in another one.
        let (group, held) = groups.module(self.task.id).ok()?;
        if let Some(before) = self.cgroup.replace(group).filter(|before| !groups.has(before)) {
            groups.abandon(&before);
        }
        self.limit_anew();
        Some(held)
    }

    /// The same for what runs beside the program, or after it. Processes that a predecessor started in a group of its own are
    /// looked for there until the next program is started: nothing else takes the place of that group.
    pub(super) fn group_of_helpers(&mut self) -> Option<OwnedFd> {
        let is_ours = |group: &Cgroup| self.task.cgroups.as_ref().is_some_and(|groups| groups.has(group));
        if self.grouped && self.cgroup.as_ref().is_some_and(|group| !is_ours(group)) {
            return None;
        }
        self.group()
    }

    pub(super) fn spawn(&mut self) -> Event {
        let prints = match self.read_at {
            Some(at) if clock::moment().since(at) < JUST_NOW => {
                self.glance.prints_again(self.home.service(), self.task.loaded.prints)
            }
            Some(_) | None => self.glance.prints(self.home.service()),
        };
        if prints != self.task.loaded.prints
            && let Some(until) = self.unsettled(prints)
        {
            return Event::Deferred(until);
        }
        if let Loaded { unknown: true, mistake: Some(mistake), .. } = &*self.task.loaded {
            return self.not_started(mistake.clone(), false);
        }
        let ids = match self.look_up() {
            Found::Answer(Ok(ids)) => ids,
            Found::Answer(Err(why)) => return self.not_started(why, false),
            Found::Later(until) => return Event::Deferred(until),
        };
        if let Err(error) =
            self.open_channel().and_then(|()| self.give_channel(ids.uid)).and_then(|()| self.open_said(ids.uid))
        {
            return self.not_started(format!("opening {error}"), true);
        }
        self.tell_logger();
        let cgroup = self.group();
        if let Err(why) = self.limit() {
            return self.not_started(why, false);
        }
        let (word, started) = match self.word() {
            Ok(word) => {
                let lost = self.task.reads.as_ref().and_then(|_| self.home.channel_mut()?.lost());
                let lost = lost.as_ref().map(|fifo| (fifo.as_fd(), 0));
                let kept = word.as_ref().map(|(word, number)| (word.program.as_fd(), *number)).or(lost);
                let mut started = self.spawn_program(&ids, cgroup.as_ref(), kept);
                if started.as_ref().is_err_and(spawn::NotStarted::is_of_streams) && self.heal_home().is_ok() {
                    started = self.spawn_program(&ids, cgroup.as_ref(), kept);
                }
                (word, started)
            }
            Err(error) => (None, Err(error)),
        };
        match started {
            Ok(started) => {
                self.session = None;
                self.executable = None;
                self.inherited = false;
                self.grouped = started.grouped;
                // To open it again takes longer than anything else before the clone.
                self.group_held = cgroup.filter(|_| started.grouped);
                if !raw::are_few() || !has_room() {
                    self.keep_no_groups();
                }
                self.not_started = None;
                self.lines.push((Level::Notice, format!("started pid {}", started.pid)));
                let loaded = Arc::clone(&self.task.loaded);
                self.origin = Some(Origin { loaded, adjusted: None, run: prints.run });
                self.machine_takes_policy();
                self.begin_care(word.map(|(word, _)| word.own));
                let pid = self.started(started);
                if !self.task.loaded.logged && self.task.reads.is_none() && self.home.channel().is_some() {
                    self.let_logger_go();
                }
                Event::Spawned(pid)
            }
            Err(error) => self.not_started(error.to_string(), error.is_shortage()),
        }
    }

    fn not_started(&mut self, why: String, shortage: bool) -> Event {
        self.limit_anew();
        if self.not_started.as_ref().is_none_or(|before| before.why != why) {
            self.lines.push((Level::Warning, why.clone()));
        }
        let not_started = NotStarted { why, shortage };
        self.not_started = Some(not_started.clone());
        Event::SpawnFailed(not_started)
    }

    fn spawn_program(
        &self,
        ids: &Ids,
        cgroup: Option<&OwnedFd>,
        kept: Option<(BorrowedFd<'_>, i32)>,
    ) -> Result<Started, spawn::NotStarted> {
        let mark = Mark::new(adopt::boot_id(), self.task.id, self.machine.want());
        let given = Given { kept, socket: self.notify.as_ref().map(|notify| notify.socket().address()) };
        let unlimited = Limited::default();
        let limited = self.limits.as_ref().map_or(&unlimited, |in_force| &in_force.limited);
        spawn::program(self.service(cgroup), &self.task.loaded.policy, (ids, limited), mark, given)
    }

    pub(super) fn spawn_finish(&mut self, how: How) -> Event {
        let cgroup = self.group_of_helpers();
        let (service, policy) = (self.service(cgroup.as_ref()), &self.task.loaded.policy);
        let started = match &policy.before_restart {
            Some(script) => spawn::before_restart(service, policy, script, self.tally.count()),
            None => spawn::finish(service, &self.started_with().policy, how),
        };
        match started {
            Ok(started) => Event::FinishSpawned(self.started(started)),
            Err(error) => {
                self.lines.push((Level::Warning, error.to_string()));
                Event::FinishFailed(error.to_string())
            }
        }
    }

    /// When to try again, if the files must not be used as they stand: they are being written, or not read yet.
    fn unsettled(&mut self, found: Prints) -> Option<Moment> {
        let now = clock::stamp();
        if let Some(age) = prints::age(found.changed(), now.wall)
            && age < self.task.settle
        {
            return Some(now.moment.plus(self.task.settle.saturating_sub(age)));
        }
        if !found.ask_as(&self.task.loaded.prints) && self.stale.as_deref() != Some(&found) {
            self.stale = Some(Box::new(found));
            self.report(Report::Stale(self.task.name.clone()));
            return Some(now.moment.plus(Duration::from_secs(1)));
        }
        None
    }

    /// From this start on, what was read holds.
    fn machine_takes_policy(&mut self) {
        self.machine.adjust(self.task.loaded.policy.rules());
        self.take_alarms();
    }

    pub(super) fn started(&mut self, started: Started) -> Pid {
        self.task.program.store(started.pid.get(), Ordering::SeqCst);
        self.between = started.between;
        if started.pidfd.is_none() {
            self.wait_elsewhere(started.pid);
        }
        self.child = Some(Child::new(started.pid, started.pidfd));
        started.pid
    }

    /// Without a pidfd a thread of its own waits for the exit, without reaping, and sends mail.
    pub(super) fn wait_elsewhere(&mut self, pid: Pid) {
        let mailbox = self.task.mailbox.clone();
        let waiter = Builder::new().name(format!("wait {pid}")).stack_size(64 * 1024).spawn(move || {
            pidfd::wait(pid);
            mailbox.send(Mail::Look);
        });
        if let Err(error) = waiter {
            self.lines.push((Level::Warning, format!("waiting for pid {pid}: {}", report::plain(&error))));
        }
    }

    pub(super) fn look_at_child(&mut self) {
        let Some(child) = &mut self.child else { return };
        let (pid, how) = if child.own {
            match pidfd::peek(child.pid) {
                Ok(None) => {
                    child.withheld = child.pidfd.as_ref().is_some_and(|pidfd| pidfd::is_readable(pidfd.as_fd()));
                    return;
                }
                Ok(Some(how)) => (child.pid, how),
                Err(_) => (child.pid, How::Unknown),
            }
        } else if remains::has_ended(child.pid, child.pidfd.as_ref().map(AsFd::as_fd)) {
            let pidfd = child.pidfd.as_ref().map(AsFd::as_fd);
            (child.pid, pidfd.and_then(|pidfd| pidfd::how_of_another(child.pid, pidfd)).unwrap_or(How::Unknown))
        } else {
            return;
        };
        let finishing = matches!(self.machine.phase(), Phase::Finishing { .. });
        let own = child.own;
        self.spent = self.child.take().and_then(|child| child.pidfd);
        if how == How::Unknown
            && let Some(pidfd) = self.spent.as_ref().and_then(|pidfd| pidfd.try_clone().ok())
        {
            self.unknown = Some(Unknown { pid, pidfd, look_at: clock::moment(), looks: 0 });
        }
        // What somebody else's child leaves does not come to us. A stop is to be whole, and the quick look may miss what goes
        // from process to process.
        let stops = matches!(self.machine.phase(), Phase::Stopping { .. });
        let before_restart = self.task.loaded.policy.before_restart.as_ref().map(|script| script.apart);
        let finish = !finishing && (before_restart.is_some() || self.glance.has_finish(self.home.service()));
        let left = if !own || stops || !self.formers.is_empty() || remains::may_exist() {
            if stops && !finish && self.leaves_no_group() { Left::default() } else { self.left_by(pid, own, true) }
        } else {
            Left::default()
        };
        match before_restart {
            Some(_) if finishing => {
                let count = self.tally.count();
                self.lines.push((Level::Notice, format!("the script before restart {count} {how}")));
            }
            Some(apart) => self.tally.exited(clock::moment(), apart),
            None => {}
        }
        let oom = !finishing && self.was_killed_for_memory(how);
        if !finishing {
            let level = if oom { Level::Warning } else { Level::Notice };
            self.lines.push((level, format!("pid {pid} {}", how.told(oom))));
        }
        if !finishing {
            self.mourn();
        }
        let starting = Starting::one();
        self.feed(Event::Exited(Ended { pid, how, oom, left, finish }));
        drop(starting);
        self.drop_candidate();
        if self.child.is_none() || matches!(self.machine.phase(), Phase::Finishing { .. }) {
            self.end_care();
        }
    }

    /// How a predecessor's program ended may be told once its parent has collected it; nothing waits for that.
    pub(super) fn look_at_unknown(&mut self) {
        let now = clock::moment();
        let Some(unknown) = self.unknown.as_mut().filter(|unknown| unknown.look_at <= now) else { return };
        unknown.looks += 1;
        // Soon most of the time; and not for ever.
        unknown.look_at = now.plus(Duration::from_millis(10 << unknown.looks.min(10)));
        let (pid, over) = (unknown.pid, unknown.looks > 12);
        if let Some(how) =
            raw::exit_status(unknown.pidfd.as_fd()).and(pidfd::how_of_another(pid, unknown.pidfd.as_fd()))
        {
            self.unknown = None;
            self.note_learned(pid, how);
            self.feed(Event::Learned(pid, how));
        } else if over {
            self.unknown = None;
        }
    }

    /// Remembers what the program runs; by that another one in its place is known.
    pub(super) fn sample(&mut self) {
        if self.executable.is_none()
            && let Phase::Up { pid, .. } = self.machine.phase()
        {
            self.executable = Executable::of(*pid);
        }
    }
}
