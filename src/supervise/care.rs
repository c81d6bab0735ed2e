//! What a program is given to say that it is ready, and how that is heard; there is none of it for a module that does not
//! ask.
//!
//! Must never judge: what is heard goes to `Vitals`, and what that concludes to the machine.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use super::{Loaded, Supervise};
use crate::pure::config::{Ready, ReadyBy};
use crate::pure::machine::{Event, Phase, Readiness};
use crate::pure::state::{Record, State};
use crate::pure::time::Moment;
use crate::pure::vitals::{Due, Terms, Vitals, Words};
use crate::unix::home::{Level, Word};
use crate::unix::spawn::NotStarted;
use crate::unix::{clock, report};

/// So many reads empty the FIFO of a program that writes more than a newline.
const READS: usize = 64;

/// For the program that runs.
#[derive(Debug)]
pub(super) struct Care {
    pub(super) vitals: Vitals,
    /// What it was started with, as far as that is known.
    pub(super) loaded: Arc<Loaded>,
    /// Where it writes its newline. It stays open after that: a program that goes on writing is not to end by it.
    word: Option<OwnedFd>,
    /// Since when it is paused.
    paused_at: Option<Moment>,
    /// What was said of a check last.
    pub(super) told: Option<String>,
}

impl Care {
    fn new(loaded: Arc<Loaded>, word: Option<OwnedFd>, ready: &Ready, awaited: bool) -> Care {
        let vitals = Vitals::begin(clock::moment(), ready, &loaded.policy.health, awaited);
        Care { vitals, loaded, word, paused_at: None, told: None }
    }

    /// Readable once there is something to hear.
    pub(super) fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.word.iter().map(AsFd::as_fd)
    }

    /// What a successor goes on with.
    pub(super) fn terms(&self, now: Moment) -> Terms {
        self.vitals.terms(self.paused_at.map_or(Duration::ZERO, |since| now.since(since)))
    }

    /// The number of the FIFO, for the next svtree.
    pub(super) fn word(&self) -> Option<RawFd> {
        self.word.as_ref().map(AsRawFd::as_raw_fd)
    }
}

impl Supervise {
    /// The FIFO on which the program that is to be started says that it is ready, if it is told to.
    pub(super) fn word(&mut self) -> Result<Option<(Word, i32)>, NotStarted> {
        self.prepare_notify().map_err(|error| NotStarted::unprepared("the socket for its words", error))?;
        let Some(ReadyBy::Descriptor(number)) = self.task.loaded.policy.ready.by else { return Ok(None) };
        match self.home.new_word() {
            Ok(word) => Ok(Some((word, number))),
            Err(error) => Err(NotStarted::unprepared("the FIFO for its readiness", error)),
        }
    }

    /// A program was started.
    #[inline(never)]
    pub(super) fn begin_care(&mut self, word: Option<OwnedFd>) {
        self.end_care();
        let policy = &self.task.loaded.policy;
        if policy.ready.by.is_some() || policy.health.by.is_some() {
            let loaded = Arc::clone(&self.task.loaded);
            let ready = &loaded.policy.ready;
            self.care_for(word, ready, ready.by.is_some());
        }
    }

    fn care_for(&mut self, word: Option<OwnedFd>, ready: &Ready, awaited: bool) {
        let loaded = self.started_with();
        if ready.by.is_some() || loaded.policy.health.by.is_some() {
            self.care = Some(Box::new(Care::new(loaded, word, ready, awaited)));
        }
    }

    /// What the program was started with, as far as that is known: what was changed since holds from the next start on.
    pub(super) fn started_with(&self) -> Arc<Loaded> {
        Arc::clone(self.origin.as_ref().map_or(&self.task.loaded, |origin| &origin.loaded))
    }

    /// `[health]` holds at once.
    pub(super) fn change_health(&mut self) {
        let loaded = Arc::clone(&self.task.loaded);
        let runs = matches!(self.machine.phase(), Phase::Up { .. });
        if let Some(origin) = &mut self.origin
            && origin.loaded.policy.health != loaded.policy.health
        {
            let origin = Arc::make_mut(&mut Arc::make_mut(&mut origin.loaded).policy);
            origin.health = loaded.policy.health.clone();
        }
        match &mut self.care {
            Some(care) => {
                let is_another = care.vitals.change(clock::moment(), &loaded.policy.health);
                if is_another {
                    self.drop_health();
                }
            }
            None if runs => self.care_for(None, &Ready::default(), false),
            None => {}
        }
    }

    /// The program of a predecessor that died is taken over: what is still awaited of it. Before the machine hears of it,
    /// since the record that is written then says all. Says whether it is ready after all.
    #[must_use]
    pub(super) fn recall_care(&mut self, state: &State, record: &Record) -> bool {
        self.recall_notify(None);
        let word = match self.task.loaded.policy.ready.by {
            Some(ReadyBy::Descriptor(_)) => self.home.word_again(),
            Some(ReadyBy::Notify | ReadyBy::Check(_) | ReadyBy::Exit) | None => Ok(None),
        };
        // It has let go of the descriptor while nobody listened, as programs do that have written to it.
        let is_said = matches!((&word, &self.task.loaded.policy.ready.by), (Ok(None), Some(ReadyBy::Descriptor(_))));
        let word = word.unwrap_or_else(|error| {
            let text = format!("opening the FIFO for its readiness: {}", report::plain(&error));
            self.lines.push((Level::Warning, text));
            None
        });
        // What was due in the meantime was missed by svtree and not by the program.
        let is_ready = self.go_on_caring(word, state, |begun| Terms {
            watchdog: record.watchdog.map_or(begun.watchdog, |(every, _)| Some(Duration::from_nanos(every))),
            ..begun
        });
        is_said || is_ready
    }

    /// The same of the program of a predecessor that ran as this very process.
    #[must_use]
    pub(super) fn inherit_care(
        &mut self,
        word: Option<OwnedFd>,
        socket: Option<OwnedFd>,
        state: &State,
        record: &Record,
    ) -> bool {
        self.recall_notify(socket);
        self.go_on_caring(word, state, |_| Terms {
            ready_by: record.ready_by.map(Moment),
            watchdog: record.watchdog.map(|(every, _)| Duration::from_nanos(every)),
            watchdog_by: record.watchdog.and_then(|(_, by)| by).map(Moment),
            health_at: record.health.and_then(|(at, _)| at).map(Moment),
            failed: record.health.map_or(0, |(_, failed)| failed),
        })
    }

    fn go_on_caring(&mut self, word: Option<OwnedFd>, state: &State, terms: impl FnOnce(Terms) -> Terms) -> bool {
        let loaded = self.started_with();
        let unasked = Ready::default();
        let (ready, awaited) = match self.machine.readiness() {
            // It was started without.
            Readiness::Unasked => (&unasked, false),
            Readiness::Awaited => (&loaded.policy.ready, true),
            Readiness::Since(_) => (&loaded.policy.ready, false),
        };
        self.care_for(word, ready, awaited && ready.by.is_some());
        if let Some(care) = &mut self.care {
            care.vitals.resume(clock::moment(), terms(care.vitals.terms(Duration::ZERO)));
            let State { status, errno, reloading, .. } = state;
            care.vitals.words = Words { status: status.clone(), errno: *errno, reloading: *reloading };
        }
        // Without it nothing would ever say so any more.
        awaited && ready.by.is_none()
    }

    /// The program has ended.
    pub(super) fn end_care(&mut self) {
        if self.care.take().is_some() {
            self.drop_checks();
        }
    }

    /// When the clock has to be looked at.
    pub(super) fn care_deadline(&self) -> Option<Moment> {
        let care = self.care.as_ref()?;
        if self.is_cared_for() { care.vitals.deadline() } else { None }
    }

    fn is_cared_for(&self) -> bool {
        matches!(self.machine.phase(), Phase::Up { paused: false, .. })
    }

    /// Hears what the program has said. Before its exit is looked at: it may have said it just before that.
    #[inline(never)]
    pub(super) fn hear(&mut self) {
        let Some(word) = self.care.as_ref().and_then(|care| care.word.as_ref()) else { return };
        let mut bytes = [0; 256];
        let mut is_said = false;
        for _ in 0..READS {
            match rustix::io::read(word, &mut bytes) {
                Ok(count) if count > 0 => is_said |= bytes[..count].contains(&b'\n'),
                Ok(_) | Err(_) => break,
            }
        }
        if is_said {
            self.is_ready();
        }
    }

    /// The program is ready.
    pub(super) fn is_ready(&mut self) {
        if let Some(care) = &mut self.care {
            care.vitals.ready(clock::moment());
        }
        if self.machine.readiness() == Readiness::Awaited {
            self.feed(Event::Ready);
            if self.machine.is_ready() {
                self.lines.push((Level::Notice, "ready".to_owned()));
            }
        }
    }

    /// The program is not well.
    pub(super) fn is_unwell(&mut self, why: String) {
        if matches!(self.machine.phase(), Phase::Up { .. }) {
            self.lines.push((Level::Warning, format!("{why}: it is stopped")));
            self.feed(Event::Unwell(why));
        }
    }

    /// The check of readiness has ended.
    pub(super) fn answered(&mut self, ready: bool) {
        if ready {
            self.is_ready();
        } else if let Some(care) = &mut self.care {
            care.vitals.not_yet(clock::moment());
        }
    }

    /// Does what the clock says.
    #[inline(never)]
    pub(super) fn attend(&mut self) {
        let now = clock::moment();
        let paused = matches!(self.machine.phase(), Phase::Up { paused: true, .. });
        let Some(care) = &mut self.care else { return };
        match (paused, care.paused_at) {
            (true, None) => care.paused_at = Some(now),
            (false, Some(since)) => {
                care.paused_at = None;
                care.vitals.stood_still(now.since(since));
            }
            (true, Some(_)) | (false, None) => {}
        }
        while self.is_cared_for()
            && let Some(due) = self.care.as_mut().and_then(|care| care.vitals.due(now))
        {
            match due {
                Due::Ask => self.check_readiness(),
                Due::AskHealth => self.ask_health(),
                Due::Unwell(why) => self.is_unwell(why),
            }
        }
    }
}
