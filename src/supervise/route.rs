//! Where what a module says goes when it has no logger of its own, and how the tree's logger is told.
//!
//! Must never read or write a byte of it.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

use super::Supervise;
use crate::pure::exit::Exit;
use crate::pure::log::{Death, Log, To, deaths};
use crate::pure::machine::{Event, Phase};
use crate::pure::name::escaped;
use crate::pure::state::ExitEntry;
use crate::pure::time::Moment;
use crate::unix::home::{Level, NotOpened, file};
use crate::unix::log::{Nudge, Reach, nudge};
use crate::unix::raw::Output;
use crate::unix::{clock, report};

/// What was said last is waited for as long as this, where somebody is to be told of it.
const UNTIL_KEPT: Duration = Duration::from_millis(500);

/// The logger keeps it within this time, mostly.
const FIRST_LOOK: Duration = Duration::from_millis(10);

/// What holds for every module that does not say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logging {
    /// Where its output goes.
    pub to: To,
    /// The log root, absolute.
    pub logs: PathBuf,
}

/// What the tree's logger was told of a module.
#[derive(Debug, Default)]
pub(super) struct Told {
    log: Option<Log>,
    /// Nothing could be written where it reads that.
    unwritten: bool,
    /// It is still to be told to look.
    later: bool,
    /// It is to be told that the program has ended; whether something was left to read then.
    death: Option<bool>,
    /// What was said before the last exit is looked for then, and so much later again.
    look: Option<(Moment, Duration)>,
    /// What was said before an exit; of the last one it stands in `state.json`.
    words: Option<Box<Death>>,
}

impl Supervise {
    /// Where the tree's logger is to put what the program says; `None` if that goes elsewhere.
    pub(super) fn routed(&self) -> Option<To> {
        if self.task.reads.is_some() || self.task.loaded.logged || self.task.name.is_own_logger() {
            return None;
        }
        let usual = self.task.logging.as_ref()?.to;
        match self.task.loaded.policy.log.to.unwrap_or(usual) {
            To::None => None,
            to @ (To::File | To::Inherit) => Some(to),
        }
    }

    /// What goes to no logger.
    pub(super) fn plain_output(&self) -> Output<'static> {
        let beside = self.task.reads.is_some() || self.task.loaded.logged || self.task.name.is_own_logger();
        if beside || self.task.logging.is_none() { self.task.output } else { Output::Null }
    }

    /// Holds what a predecessor's program has said, if there may be any, and has it read.
    pub(super) fn hold_said(&mut self) -> Result<(), NotOpened> {
        if self.home.has(file::SAID) {
            self.home.open_said(self.task.place.root(), self.task.name.clone())?;
            // By the route that it was given then.
            self.told.later = nudge(self.task.place.root(), &Nudge::Look(self.task.name.clone())).is_err();
        }
        Ok(())
    }

    /// Opens the FIFO for the program that is started next, if its output goes there, for that user.
    pub(super) fn open_said(&mut self, user: Option<u32>) -> Result<(), NotOpened> {
        if self.routed().is_none() {
            self.home.remove_said();
            self.told = Told::default();
            return Ok(());
        }
        if self.told.log.as_ref().is_some_and(|log| *log != self.task.loaded.policy.log) {
            // What was said before goes where it was to go.
            self.home.remove_said();
        }
        self.home.open_said(self.task.place.root(), self.task.name.clone())?;
        self.home.said_mut().map_or(Ok(()), |said| said.give(user))
    }

    /// Tells the tree's logger what it has to know before a program says anything.
    #[inline(never)]
    pub(super) fn tell_logger(&mut self) {
        let (Some(to), Some(logging)) = (self.routed(), &self.task.logging) else { return };
        let log = &self.task.loaded.policy.log;
        if self.told.log.as_ref() == Some(log) {
            return;
        }
        let directory = match &log.directory {
            Some(directory) => {
                let shared = self.task.path.join(OsStr::from_bytes(directory.as_bytes()));
                match self.task.id.instance {
                    0 => shared,
                    number => shared.join(number.to_string()),
                }
            }
            None => logging.logs.join(self.task.name.as_os_str()),
        };
        let route = log.route(to, escaped(directory.as_os_str().as_bytes()));
        let log = log.clone();
        let written = self.home.write_route(&route.encode());
        let before = std::mem::replace(&mut self.told.unwritten, written.is_err());
        match written {
            Ok(()) => self.told.log = Some(log),
            Err(_) if before => {}
            Err(error) => self.lines.push((Level::Warning, format!("writing its route: {}", report::plain(&error)))),
        }
        self.nudge_logger();
    }

    /// The FIFO may be another one, or the logger is to be told again.
    pub(super) fn nudge_logger(&mut self) {
        if self.routed().is_some() {
            self.told.later = nudge(self.task.place.root(), &Nudge::Look(self.task.name.clone())).is_err();
        }
    }

    /// The program has ended: what it said last is to be kept.
    pub(super) fn mourn(&mut self) {
        self.told.death = self.home.said().map(|said| !said.is_empty());
    }

    /// What was said before the last exit may be there, or is soon.
    pub(super) fn look_for_last_words(&mut self) {
        if self.home.said().is_some() && self.machine.last_exit().is_some() {
            self.told.look = Some((clock::moment().plus(FIRST_LOOK), FIRST_LOOK));
        }
    }

    /// When it is looked for.
    pub(super) fn words_deadline(&self) -> Option<Moment> {
        self.told.look.map(|(at, _)| at)
    }

    /// Looks for it, if it is time.
    pub(super) fn look_at_last_words(&mut self) {
        let Some((at, pause)) = self.told.look else { return };
        let now = clock::moment();
        if now < at {
            return;
        }
        // Where the logger is held up the file tells later what it has kept.
        self.told.look = Some((now.plus(pause * 2), pause * 2)).filter(|_| pause < UNTIL_KEPT);
        let Some(exit) = self.machine.last_exit().copied() else { return };
        if let Some(last_lines) = self.last_words(&exit) {
            self.told.look = None;
            self.told.words = Some(Box::new(Death { pid: exit.pid.get(), at: exit.at.rfc3339(), last_lines }));
            self.feed(Event::Heal);
        }
    }

    /// Adds what was said before the last exit.
    pub(super) fn add_last_words(&self, exits: &mut [ExitEntry]) {
        if let (Some(words), Some(exit)) = (&self.told.words, exits.first_mut())
            && (exit.pid, &exit.at) == (words.pid, &words.at)
        {
            exit.last_lines.clone_from(&words.last_lines);
        }
    }

    /// What was said before an exit, once it is there.
    pub(super) fn last_words(&self, exit: &Exit) -> Option<Vec<String>> {
        let (pid, at) = (exit.pid.get(), exit.at.rfc3339());
        let deaths = deaths(&self.home.last_lines()?);
        deaths.into_iter().find(|death| (death.pid, &death.at) == (pid, &at)).map(|death| death.last_lines)
    }

    /// Whether what was said before this exit will be there soon.
    pub(super) fn awaits_last_words(&self, since: Moment, exit: &Exit) -> bool {
        self.routed().is_some()
            && self.home.said().is_some()
            && clock::moment().since(since) < UNTIL_KEPT
            && self.last_words(exit).is_none()
    }

    #[inline(never)]
    fn tell_death(&mut self, late: bool) {
        let exits = self.machine.state(clock::stamp()).exits;
        if let Some(exit) = exits.first().and_then(ExitEntry::exit) {
            // A logger that is not there looks for it when it starts.
            let reach = match self.machine.phase() {
                Phase::Up { .. } | Phase::Stopping { .. } if late => Reach::Unread,
                Phase::Up { .. } | Phase::Stopping { .. } => Reach::Read,
                Phase::Down
                | Phase::Failed
                | Phase::Waiting { .. }
                | Phase::Held
                | Phase::Starting
                | Phase::Sweeping { .. } => Reach::End,
                Phase::Looking { .. } | Phase::StartingFinish | Phase::Finishing { .. } | Phase::Gone => Reach::End,
            };
            let _ = nudge(self.task.place.root(), &Nudge::Died(self.task.name.clone(), exit.pid, exit.at, reach));
        }
        self.look_for_last_words();
    }

    /// In a quiet moment.
    pub(super) fn nudge_again(&mut self) {
        if self.told.unwritten {
            self.tell_logger();
        } else if self.told.later {
            self.nudge_logger();
        }
        if let Some(late) = self.told.death.take() {
            self.tell_death(late);
        }
    }
}
