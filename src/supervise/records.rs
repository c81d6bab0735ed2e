//! What a module writes of itself, and how its home is put right.
//!
//! Must never decide what is true: the machine says it.

use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::Ordering;

use super::{FIFO_READS, REST_AFTER, Report, Supervise, crowd};
use crate::pure::machine::{Event, NotStarted, Phase};
use crate::pure::name::escaped;
use crate::pure::state::State;
use crate::pure::time::Stamp;
use crate::pure::vitals::Words;
use crate::unix::home::{Level, NotOpened};
use crate::unix::{clock, pidfd, report};

impl Supervise {
    /// Whether the status directory is about to be removed.
    pub(super) fn is_going(&self) -> bool {
        self.removes && matches!(self.machine.phase(), Phase::Gone)
    }

    pub(super) fn heal_home(&mut self) -> Result<bool, NotOpened> {
        // What was written into a FIFO that is gone was written to this module: all that fits into one.
        for control in 0..self.home.controls().count() {
            let _ = (0..FIFO_READS).find(|_| !self.read_letters(control));
        }
        self.home.heal(&self.task.place)
    }

    /// Puts the home right if others damaged it, and says again what it has to say.
    pub(super) fn heal(&mut self) {
        let healed = self.heal_home();
        // Once there is a directory to make it in.
        self.heal_notify();
        match healed {
            Ok(true) => {
                self.heal_notify();
                self.nudge_logger();
                self.lines
                    .push((Level::Warning, "somebody damaged the status directory; it is whole again".to_owned()));
                self.report(Report::Begun(self.task.name.clone()));
                self.healing.worked(&format!("putting {} right: it is whole again", self.task.name));
                self.feed(Event::Heal);
            }
            Ok(false) if self.home.is_behind() => self.feed(Event::Heal),
            Ok(false) => {}
            Err(error) => {
                self.healing.failed(format!("putting {} right: {error}; it is tried again", self.task.name));
                self.report(Report::Damaged(self.task.name.clone()));
                if self.home.is_behind() {
                    self.feed(Event::Heal);
                }
            }
        }
        self.obey_letters();
    }

    /// All that `state.json` says.
    pub(super) fn state(&self, now: Stamp) -> State {
        let mut state = self.machine.state(now);
        state.name = escaped(self.task.name.as_bytes());
        self.add_last_words(&mut state.exits);
        state.directory = escaped(self.task.path.as_os_str().as_bytes());
        if let Some(care) = self.care.as_ref().filter(|_| state.pid.is_some()) {
            let Words { status, errno, reloading } = care.vitals.words.clone();
            (state.status, state.errno, state.reloading) = (status, errno, reloading);
        }
        if let Some(NotStarted { why, shortage: false }) = &self.not_started
            && state.rejected.is_none()
            && state.reason.as_ref() == Some(why)
        {
            // What it asks for cannot be had.
            state.rejected = Some(why.clone());
        }
        if let Some(needs) = &self.task.loaded.policy.needs {
            (state.needs, state.after) = (needs.needs.clone(), needs.after.clone());
        }
        state.record = Some(self.record(now));
        state
    }

    pub(super) fn publish(&mut self) -> Option<Event> {
        // Of a thousand modules that are stopped at once most have ended before anybody could read that they stop; and of a
        // thousand that start, the last is not to wait for what is written of the first.
        let starts = || matches!(self.machine.phase(), Phase::Up { .. }) && crowd::is_there();
        if self.unpublished.is_none() && !self.is_going() && (self.removes || starts()) {
            self.unpublished = Some(clock::moment().plus(REST_AFTER + crowd::patience()));
            return None;
        }
        self.unpublished = None;
        let again = if self.is_going() {
            // Only what stays in the service directory.
            self.home.publish_last(&self.machine.status());
            None
        } else {
            self.publish_now()
        };
        self.reap();
        again
    }

    /// Collects those whom no record names any more.
    pub(super) fn reap(&mut self) {
        for pid in std::mem::take(&mut self.unreaped) {
            pidfd::reap(pid);
            self.spent = None;
            // Unless the next one has taken its place already.
            let _ = self.task.program.compare_exchange(pid.get(), 0, Ordering::SeqCst, Ordering::SeqCst);
        }
    }

    fn publish_now(&mut self) -> Option<Event> {
        let now = clock::stamp();
        let (status, state) = (self.machine.status(), self.state(now).encode());
        let mut result = self.home.publish(&status, &state);
        if result.is_err() && matches!(self.heal_home(), Ok(true)) {
            self.report(Report::Begun(self.task.name.clone()));
            result = self.home.publish(&status, &state);
        }
        match result {
            Ok(()) => {
                if std::mem::take(&mut self.publish_failed) {
                    self.lines.push((Level::Notice, "the status is written again".to_owned()));
                    report::line(&format!("{}: the status is written again", self.task.name));
                }
                None
            }
            Err(error) => {
                if !std::mem::replace(&mut self.publish_failed, true) {
                    self.lines.push((Level::Warning, format!("writing {error}")));
                    // The log stands on the same file system.
                    report::line(&format!("writing {error}; it is tried again"));
                }
                Some(Event::PublishFailed)
            }
        }
    }
}
