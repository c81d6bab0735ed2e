//! Between a module and its logger: when either opens the FIFO, and how each lets go of it.
//!
//! Must never read from it or write into it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Report, Supervise};
use crate::pure::command::Command;
use crate::pure::machine::{Event, Phase};
use crate::pure::status::Want;
use crate::pure::time::Moment;
use crate::unix::clock;
use crate::unix::home::{Channel, Level, NotOpened, file};

/// A logger whose module is gone: it reads what is left until it is told that there is no more.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Draining {
    /// It is told to end then; `None`: it has all the time.
    pub(super) until: Option<Moment>,
    /// The longest that may take then.
    within: Option<Duration>,
    /// It is told when the last writer is gone.
    closed: bool,
    /// When it is looked at whether it has read everything,
    look_at: Moment,
    /// and until when it may take to end by itself, once it has.
    ends_by: Option<Moment>,
    /// How often it is started again, if it ends before it has read everything.
    starts: u32,
}

/// A logger that ends again and again will not read what is left either.
const STARTS: u32 = 3;

/// How often it is looked at whether everything was read.
const LOOK: Duration = Duration::from_millis(100);

/// One that has read everything and was told so ends by itself, or never.
const GRACE: Duration = Duration::from_secs(3);

impl Draining {
    /// When something is to be done, if nothing happens.
    pub(super) fn deadline(&self) -> Moment {
        self.until.map_or(self.look_at, |until| until.min(self.look_at))
    }
}

impl Supervise {
    /// Opens the FIFO if there is to be one; it stays open as long as this module is supervised, so that what is in it
    /// stays whoever else ends.
    pub(super) fn open_channel(&mut self) -> Result<(), NotOpened> {
        match &self.task.reads {
            Some(module) => self.home.open_channel(self.task.place.root(), module.clone()),
            None if self.task.loaded.logged => self.home.open_channel(self.task.place.root(), self.task.name.clone()),
            None => Ok(()),
        }
    }

    /// The FIFO is its program's user's, to whom `/dev/stdout` is to open.
    pub(super) fn give_channel(&mut self, user: Option<u32>) -> Result<(), NotOpened> {
        let is_writer = self.task.reads.is_none();
        self.home.channel_mut().filter(|_| is_writer).map_or(Ok(()), |channel| channel.give(user))
    }

    /// Where the logger was taken away: once nothing that runs writes to it any more, it may go.
    #[inline(never)]
    pub(super) fn let_logger_go(&mut self) {
        if self.task.loaded.logged || self.task.reads.is_some() {
            return;
        }
        // A predecessor's program may still write there.
        if self.home.has(file::OUTPUT)
            && self.home.open_channel(self.task.place.root(), self.task.name.clone()).is_err()
        {
            return;
        }
        let writes = |pid| self.home.channel().is_some_and(|channel| channel.is_output_of(pid));
        if self.child.as_ref().is_some_and(|child| writes(child.pid)) {
            return;
        }
        if self.home.channel().is_some() || self.home.has(file::LOGGER) {
            self.home.remove_channel();
            self.report(Report::NeedsNoLogger(self.task.name.clone()));
        }
    }

    /// The module is gone, and all that it has said is in the FIFO.
    pub(super) fn drain(&mut self, within: Option<Duration>) {
        // Of what time there is, half is for what a signal takes.
        let half = within.map(|within| within / 2);
        if self.retired && self.draining.is_none() {
            // It has been told to end already.
            return self.feed(Event::Retire(half));
        }
        self.retired = true;
        self.removes = true;
        let timeout = [self.task.loaded.policy.stop.timeout, half].into_iter().flatten().min();
        let now = clock::moment();
        let until = timeout.map(|timeout| now.plus(timeout));
        let earlier = |one: Option<_>, other: Option<_>| one.into_iter().chain(other).min();
        self.draining = Some(match self.draining {
            // There is less time than there was.
            Some(draining) => {
                let within = draining.within.into_iter().chain(half).min();
                Draining { until: earlier(draining.until, until), within, ..draining }
            }
            None => Draining { until, within: half, closed: false, look_at: now, ends_by: None, starts: STARTS },
        });
        self.go_on_draining();
    }

    /// Lets it read until it is told that nobody writes any more; by that it ends, as it would behind a pipe.
    #[inline(never)]
    pub(super) fn go_on_draining(&mut self) {
        while let Some(mut draining) = self.draining {
            let now = clock::moment();
            draining.look_at = now.plus(LOOK);
            if draining.closed && self.home.channel().is_none_or(Channel::is_over) {
                draining.ends_by.get_or_insert(now.plus(GRACE));
            }
            let is_late = draining.until.into_iter().chain(draining.ends_by).any(|until| until <= now);
            let rests =
                matches!(self.machine.phase(), Phase::Down | Phase::Failed | Phase::Waiting { .. } | Phase::Held);
            let is_empty = || self.home.channel().is_none_or(Channel::is_empty);
            // What it is not to read is not read.
            if self.machine.want() == Want::Down || is_late || (rests && (draining.starts == 0 || is_empty())) {
                self.draining = None;
                return self.feed(Event::Retire(draining.within));
            }
            if rests {
                draining.starts -= 1;
                self.draining = Some(draining);
                self.feed(Event::Command(Command::Once));
                continue;
            }
            if !draining.closed && matches!(self.machine.phase(), Phase::Up { .. }) {
                draining.closed = true;
                self.lines.push((Level::Notice, "its module is gone: it reads what is left".to_owned()));
                // Its end is the end of it.
                self.feed(Event::Command(Command::Once));
                self.home.close_channel();
            }
            self.draining = Some(draining);
            return;
        }
    }
}
