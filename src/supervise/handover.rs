//! How one module goes over to the svtree that is executed in the place of this one: what is told of it, and how it goes
//! on there.
//!
//! Nothing is let go of here: a thread that has told waits, and goes on as if nothing had been when there is no other
//! svtree after all. Must never start or signal a program.

use std::convert::Infallible;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crossbeam_channel::{Receiver, Sender};
use serde::{Deserialize, Serialize};

use super::alarms::HandedTeller;
use super::checks::Check;
use super::helper::HandedHelper;
use super::logger::Draining;
use super::scripts::{HandedScript, Script};
use super::takeover::taken;
use super::{Child, Loaded, Origin, Report, Supervise, Task};
use crate::pure::config::Rules;
use crate::pure::exit::Pid;
use crate::pure::machine::{Event, Taken};
use crate::pure::name::ModuleName;
use crate::pure::state::{ExitEntry, Record, State};
use crate::pure::time::{Moment, Stamp};
use crate::unix::home::{Home, Numbers};
use crate::unix::prints::Print;
use crate::unix::raw::Descriptors;
use crate::unix::{clock, pidfd};

/// What the parent says to a thread that is to hand its module over.
#[derive(Clone, Debug)]
pub struct HandOver {
    /// Takes what is told.
    pub answer: Sender<(ModuleName, Box<Handed>)>,
    /// Closed when the thread is to go on.
    pub resume: Receiver<Infallible>,
}

/// A module as it is handed down. All descriptors are the thread's that told of them, and open as long as it waits.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Handed {
    home: Numbers,
    /// With the record that a successor after a death would find.
    state: State,
    /// More exactly than the state has it.
    since: Stamp,
    /// Of its program, which may be no child of svtree.
    #[serde(default)]
    pidfd: Option<RawFd>,
    #[serde(default)]
    letters: Vec<u8>,
    #[serde(default)]
    rereading: bool,
    #[serde(default)]
    retired: bool,
    #[serde(default)]
    removes: bool,
    #[serde(default)]
    draining: Option<Draining>,
    #[serde(default)]
    origin: Option<HandedOrigin>,
    #[serde(default)]
    scripts: Vec<HandedScript>,
    #[serde(default)]
    checks: Vec<HandedHelper>,
    #[serde(default)]
    tellers: Vec<HandedTeller>,
    /// Where the program says that it is ready,
    #[serde(default)]
    word: Option<RawFd>,
    /// and where it says more.
    #[serde(default)]
    socket: Option<RawFd>,
}

/// What the program was started with.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct HandedOrigin {
    /// If it is not what the files say.
    loaded: Option<Loaded>,
    rules: Rules,
    run: Option<Print>,
}

impl Handed {
    /// Every descriptor that must stay open.
    pub fn descriptors(&self) -> impl Iterator<Item = RawFd> {
        self.home.all().chain(self.pidfd).chain(self.word).chain(self.socket)
    }

    /// The module whose output it reads, if it is a logger.
    #[must_use]
    pub fn reads(&self, name: &ModuleName) -> Option<ModuleName> {
        self.home.carries().filter(|module| module != name)
    }

    /// Its processes that are children of svtree, which nobody else must collect.
    pub fn children(&self) -> impl Iterator<Item = Pid> {
        let program = self.state.record.as_ref().and_then(Record::process);
        program
            .into_iter()
            .chain(self.scripts.iter().filter_map(HandedScript::pid))
            .chain(self.checks.iter().filter_map(HandedHelper::pid))
            .chain(self.tellers.iter().filter_map(HandedTeller::pid))
            .filter(|pid| pidfd::peek(*pid).is_ok())
    }

    /// Takes possession of its descriptors; `None` if one is missing.
    pub fn inherit(self, root: &Path, name: &ModuleName, from: &mut Descriptors) -> Option<Beginning> {
        let home = Home::handed_down(root, name, &self.home, from)?;
        let pidfd = from.take_any(self.pidfd)?;
        let word = from.take_any(self.word)?;
        let socket = from.take_any(self.socket)?;
        Some(Beginning::Inherited(Box::new(Inherited { home, pidfd, word, socket, handed: self })))
    }
}

/// What the supervision of a module begins with.
#[derive(Debug)]
pub enum Beginning {
    /// Its directory, held, and when its files were read: all that a dead predecessor left is found in files.
    Directory(OwnedFd, Option<Moment>),
    /// What a predecessor handed down.
    Inherited(Box<Inherited>),
}

/// A module that was handed down, with all that is open of it.
#[derive(Debug)]
pub struct Inherited {
    home: Home,
    pidfd: Option<OwnedFd>,
    word: Option<OwnedFd>,
    socket: Option<OwnedFd>,
    handed: Handed,
}

impl Supervise {
    /// Tells everything and waits: for the end of this very program, unless there is no other one to take over.
    pub(super) fn hand_over(&mut self, order: &HandOver) {
        if self.why.is_some() {
            // The parent hears of this end, and waits for nothing else.
            return;
        }
        self.tell_all();
        self.rest();
        if order.answer.send((self.task.name.clone(), Box::new(self.handed()))).is_ok() {
            let _ = order.resume.recv();
        }
    }

    fn handed(&self) -> Handed {
        let now = clock::stamp();
        let state = self.state(now);
        Handed {
            home: self.home.numbers(),
            state,
            since: self.machine.since(),
            pidfd: self.child.as_ref().and_then(|child| child.pidfd.as_ref()).map(AsRawFd::as_raw_fd),
            letters: self.letters.iter().copied().collect(),
            rereading: self.rereading,
            retired: self.retired,
            removes: self.removes,
            draining: self.draining,
            origin: self.origin.as_ref().map(|origin| HandedOrigin {
                loaded: (origin.loaded != self.task.loaded).then(|| (*origin.loaded).clone()),
                rules: origin.rules(),
                run: origin.run,
            }),
            scripts: self.scripts.iter().map(Script::handed).collect(),
            checks: self.checks.iter().map(Check::handed).collect(),
            word: self.care.as_ref().and_then(|care| care.word()),
            socket: self.notify.as_ref().map(|notify| notify.socket().number()),
            tellers: self.alarms.as_ref().map(|alarms| alarms.handed()).unwrap_or_default(),
        }
    }

    /// Goes on where the thread was that told this.
    pub(super) fn inherit(task: Box<Task>, inherited: Inherited) -> Box<Supervise> {
        let Inherited { home, pidfd, word, socket, handed } = inherited;
        let mut supervise = Box::new(Supervise::new(task, home));
        supervise.go_on(pidfd, [word, socket], handed);
        supervise
    }

    fn go_on(&mut self, pidfd: Option<OwnedFd>, [word, socket]: [Option<OwnedFd>; 2], handed: Handed) {
        let Handed { state, since, letters, rereading, retired, removes, draining, .. } = handed;
        let Handed { origin, scripts, checks, tellers, .. } = handed;
        let record = state.record.clone().unwrap_or_default();
        let exits = state.exits.iter().filter_map(ExitEntry::exit).collect();
        self.letters.extend(letters);
        (self.rereading, self.retired, self.removes, self.draining) = (rereading, retired, removes, draining);
        if let Some(HandedOrigin { loaded, rules, run }) = origin {
            self.machine.adjust(rules);
            let loaded = loaded.map_or_else(|| Arc::clone(&self.task.loaded), Arc::new);
            let adjusted = (rules != loaded.policy.rules()).then(|| Box::new(rules));
            self.origin = Some(Origin { loaded, adjusted, run });
        }
        self.scripts = scripts.into_iter().filter_map(Script::handed_down).collect();
        self.checks = checks.iter().filter_map(Check::handed_down).collect();
        let was_adopted = Some(state.adopted);
        self.machine.take_over(Taken { since, was_adopted, ..taken(&state, &record, exits) });
        self.recall_alarms(record.alarms.as_ref(), tellers);
        self.recall(&record);
        self.between = record.started;
        match record.process() {
            None => self.feed(Event::Begin),
            Some(pid) => {
                self.child = Some(Child::adopted(pid, pidfd));
                if record.finishing {
                    self.feed(Event::AdoptedFinish(pid));
                } else {
                    self.task.program.store(pid.get(), Ordering::SeqCst);
                    let is_ready = self.inherit_care(word, socket, &state, &record);
                    self.feed(Event::Adopted { pid, paused: state.paused });
                    if is_ready {
                        self.is_ready();
                    }
                }
            }
        }
        let children = self.scripts.iter().map(Script::child).chain(self.checks.iter().map(Check::child));
        let tellers = self.alarms.iter().flat_map(|alarms| alarms.children());
        let unheard = self.child.iter().chain(children).chain(tellers);
        let unheard: Vec<Pid> =
            unheard.filter(|child| child.own && child.pidfd.is_none()).map(|child| child.pid).collect();
        unheard.into_iter().for_each(|pid| self.wait_elsewhere(pid));
        if self.child.is_some() && self.origin.is_some() {
            // Whether the files say something else than what it was started with is found again.
            self.configured(Arc::clone(&self.task.loaded), false);
        }
        // It may have ended meanwhile.
        self.look_at_child();
        self.let_logger_go();
        if self.rereading {
            self.report(Report::Reread(self.task.name.clone()));
        }
    }
}
