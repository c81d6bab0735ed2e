//! The module's processes: how they are started, signalled, and seen to end, with what they leave.
//!
//! Must never reap: the record that names a pid is replaced first.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::Builder;
use std::time::Duration;

use super::{Child, Mail, Origin, Report, Supervise};
use crate::pure::exit::{How, Pid, Signal};
use crate::pure::machine::{Ended, Event, NotStarted, Phase};
use crate::pure::name::printable;
use crate::pure::time::Moment;
use crate::unix::home::Level;
use crate::unix::mark::Mark;
use crate::unix::prints::{self, Prints};
use crate::unix::raw::{self, Started};
use crate::unix::remains::{self, Remaining};
use crate::unix::spawn::{self, Service};
use crate::unix::{adopt, clock, pidfd, report};

impl Supervise {
    pub(super) fn signal(&mut self, pid: Pid, signal: Signal) {
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

    pub(super) fn service(&self) -> Service<'_> {
        Service {
            name: &self.task.name,
            directory: self.home.service(),
            path: &self.task.path,
            output: self.task.output,
            home: self.home.directory(),
        }
    }

    pub(super) fn spawn(&mut self) -> Event {
        let prints = self.glance.prints(self.home.service());
        if prints != self.task.loaded.prints
            && let Some(until) = self.unsettled(prints)
        {
            return Event::Deferred(until);
        }
        let mark = Mark::new(adopt::boot_id(), self.directory(), self.machine.want());
        match spawn::program(self.service(), &self.task.loaded.policy, mark) {
            Ok(started) => {
                self.not_started = None;
                self.lines.push((Level::Notice, format!("started pid {}", started.pid)));
                let loaded = Arc::clone(&self.task.loaded);
                self.origin = Some(Origin { rules: loaded.policy.rules(), loaded, run: prints.run });
                self.machine_takes_policy();
                Event::Spawned(self.started(started))
            }
            Err(error) => {
                let why = error.to_string();
                if self.not_started.as_ref() != Some(&why) {
                    self.lines.push((Level::Warning, why.clone()));
                    self.not_started = Some(why.clone());
                }
                Event::SpawnFailed(NotStarted { why, shortage: error.is_shortage() })
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
        if !found.ask_as(&self.task.loaded.prints) && self.stale != Some(found) {
            self.stale = Some(found);
            self.report(Report::Stale(self.task.name.clone()));
            return Some(now.moment.plus(Duration::from_secs(1)));
        }
        None
    }

    /// From this start on, what was read holds.
    fn machine_takes_policy(&mut self) {
        self.machine.adjust(self.task.loaded.policy.rules());
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
    pub(super) fn wait_elsewhere(&self, pid: Pid) {
        let mailbox = self.task.mailbox.clone();
        let waiter = Builder::new().name(format!("wait {pid}")).stack_size(64 * 1024).spawn(move || {
            pidfd::wait(pid);
            mailbox.send(Mail::Look);
        });
        if let Err(error) = waiter {
            self.home.log(Level::Warning, &format!("waiting for pid {pid}: {}", report::plain(&error)));
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
            (child.pid, How::Unknown)
        } else {
            return;
        };
        let finishing = matches!(self.machine.phase(), Phase::Finishing { .. });
        let own = child.own;
        self.spent = self.child.take().and_then(|child| child.pidfd);
        // What somebody else's child leaves does not come to us.
        let left_something =
            (!own || remains::may_exist()) && remains::of_session(pid).map_or(true, |left| !left.is_empty());
        let finish = !finishing && self.glance.has_finish(self.home.service());
        if !finishing {
            self.lines.push((Level::Notice, format!("pid {pid} {how}")));
        }
        self.feed(Event::Exited(Ended { pid, how, remains: left_something, finish }));
    }

    pub(super) fn look_at_remains(&mut self) {
        if self.sweep_up() {
            self.feed(Event::Swept);
        }
    }

    /// Signals what was left and was not signalled yet; says whether nothing is left.
    pub(super) fn sweep_up(&mut self) -> bool {
        let Some((leader, signal)) = self.sweep else { return false };
        // Members are looked for again rather than counted down: what was left may have made more.
        let Ok(now) = remains::of_session(leader) else {
            // Nothing is known; it is looked at again in a second.
            self.remains.clear();
            return false;
        };
        let known: Vec<Pid> = self.remains.iter().map(|remaining| remaining.pid).collect();
        for new in now.iter().filter(|remaining| !known.contains(&remaining.pid)) {
            self.send_to_remaining(new, signal);
        }
        self.remains = now;
        if self.remains.is_empty() {
            self.sweep = None;
        }
        self.remains.is_empty()
    }

    pub(super) fn send_to_remaining(&self, remaining: &Remaining, signal: Signal) {
        remaining.signal(signal);
        remaining.signal(Signal::CONT);
        if signal == Signal::KILL {
            let text =
                format!("killed what was left: pid {} ({})", remaining.pid, printable(remaining.command.as_bytes()));
            self.home.log(Level::Warning, &text);
        }
    }
}
