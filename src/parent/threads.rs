//! The supervise threads: how they are started, retired, inherited, heard to end, and tried again.
//!
//! Must never decide which modules run: that is the reconciler's.

use std::ffi::OsString;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{Mode, OFlags, openat};

use super::changes::LeftBehind;
use super::wanted::Wanted;
use super::{Closing, Parent, Source, Thread};
use crate::pure::config::Policy;
use crate::pure::log::To;
use crate::pure::name::{ModuleName, unescaped};
use crate::pure::reconcile::{Actual, Id, Wishes};
use crate::pure::state::State;
use crate::supervise::{self, Beginning, Loaded, Mail, Reports, Task, Why};
use crate::unix::adopt::{self, Found};
use crate::unix::home::Place;
use crate::unix::prints::Prints;
use crate::unix::raw::{self, Output};
use crate::unix::report::{self, plain};
use crate::unix::scan;
use crate::unix::{client, clock, home, inbox};

/// The next thread is made once no other has been for this time: its program is to have what it needs first.
const SPARE_AFTER: Duration = Duration::from_millis(20);

/// A module that could not begin is tried again after this time.
const RETRY: Duration = Duration::from_secs(2);
/// Many such are tried one after the other, so far apart,
const RETRY_APART: Duration = Duration::from_millis(20);
/// and the last of them together.
const RETRY_SPREAD: u32 = 100;
/// A thread that ended by a defect is replaced after this time.
const RETRY_DEFECT: Duration = Duration::from_secs(1);
/// What a module holds while it is idle: service and status directory, lock, FIFO, its mailbox, and the pidfd of its
/// program,
const MODULE_DESCRIPTORS: u64 = 6;

/// and where its service directory is on another file system than its status, a second lock and a second FIFO.
const FAR_DESCRIPTORS: u64 = 2;

/// Between a module and its logger, a FIFO at either end.
const CHANNEL_DESCRIPTORS: u64 = 2;

/// Where modules are logged by svtree's own logger, the FIFO to it.
const SAID_DESCRIPTORS: u64 = 1;

/// svtree's own logger has at least this time to write what it has read.
const LOGGER_STOP: Duration = Duration::from_secs(2);

/// What svtree itself holds, and what is open for moments.
const OWN_DESCRIPTORS: u64 = 24;

/// What svtree holds with so many modules, at the most but for channels.
pub(super) fn descriptors(modules: usize) -> u64 {
    OWN_DESCRIPTORS + modules as u64 * (MODULE_DESCRIPTORS + FAR_DESCRIPTORS + SAID_DESCRIPTORS)
}

impl Parent {
    pub(super) fn start(&mut self, name: &ModuleName, id: Id) {
        if let Err(why) = self.start_wanted(name, id) {
            self.trouble(name, format!("starting {name}: {why}"));
            self.actual.insert(name.clone(), Actual::Refused(id, clock::moment().plus(self.retry())));
        }
    }

    fn start_wanted(&mut self, name: &ModuleName, id: Id) -> Result<(), String> {
        let wish = self.wanted.module(name).ok_or("it is gone")?;
        let loaded = wish.loaded.clone().ok_or("it is not complete")?;
        let path = wish.path.clone();
        let service = Beginning::Directory(scan::open(&path, id)?, wish.read_at);
        let view = loaded.prints.run.is_some() && id.instance == 0;
        let reads = self.logged_by(name);
        self.start_thread(name, id, Source { path, loaded }, service, reads, view)
    }

    /// The module that this one is the logger of. A module of a group may be called `log` as well.
    fn logged_by(&self, name: &ModuleName) -> Option<ModuleName> {
        name.logged().filter(|module| self.wanted.has(module) || home::is_logged(&self.status, module))
    }

    /// Starts a thread for a module whose directory may be gone, to take over its program and retire it.
    fn start_unwanted(&mut self, name: &ModuleName, id: Id, source: Source) -> Result<(), String> {
        let (service, view) = match scan::open(&source.path, id) {
            Ok(directory) => {
                let view = Prints::read(directory.as_fd()).run.is_some() && id.instance == 0;
                (directory, view)
            }
            // Nothing is executed in it any more; it only has to be a directory.
            Err(_) => (open_directory(&self.status)?, false),
        };
        let reads = self.logged_by(name);
        self.start_thread(name, id, source, Beginning::Directory(service, None), reads, view)
    }

    pub(super) fn start_thread(
        &mut self,
        name: &ModuleName,
        id: Id,
        source: Source,
        beginning: Beginning,
        reads: Option<ModuleName>,
        view: bool,
    ) -> Result<(), String> {
        self.room()?;
        if reads.is_none() && !name.is_own_logger() {
            self.want_logger_for(&source.loaded);
        }
        let word = self.first_word(name);
        let program = Arc::clone(self.programs.entry(name.clone()).or_default());
        let (mailbox, inbox) = inbox::pair().map_err(|error| plain(&error))?;
        let task = Box::new(Task {
            name: name.clone(),
            word,
            path: source.path.clone(),
            id,
            loaded: Arc::clone(&source.loaded),
            view,
            place: Place::Tree(self.status.clone(), name.clone()),
            alone: false,
            output: match self.options.log {
                To::None if !name.is_own_logger() => Output::Null,
                To::None | To::File | To::Inherit => Output::Inherit,
            },
            logging: Some(Arc::clone(&self.logging)),
            reads: reads.clone(),
            settle: self.options.settle,
            anew: self.anew.remove(name),
            ends_all: self.options.exit_with.as_ref() == Some(name),
            cgroups: self.cgroups.clone(),
            controllers: Arc::clone(&self.controllers),
            program,
            mailbox: mailbox.clone(),
            reports: Reports::new(self.sender.clone()),
        });
        let handle = supervise::start(task, beginning, inbox).map_err(|error| plain(&error))?;
        self.spare_at = Some(clock::moment().plus(SPARE_AFTER));
        self.published.remove(name);
        self.defective.remove(name);
        self.loggers += u64::from(reads.is_some());
        let actual = if reads.is_some() { Actual::Beginning(id) } else { Actual::Running(id) };
        let is_rich = raw::are_few();
        self.threads.insert(name.clone(), Thread { mailbox, handle, source, reads, is_rich, seen: (0, false) });
        self.actual.insert(name.clone(), actual);
        Ok(())
    }

    /// Whether there are descriptors for one more module, so that those that run have what a restart or a record takes.
    fn room(&self) -> Result<(), String> {
        let Some(limit) = rustix::process::getrlimit(rustix::process::Resource::Nofile).current else { return Ok(()) };
        let each = MODULE_DESCRIPTORS + if self.options.log == To::None { 0 } else { SAID_DESCRIPTORS };
        let channels = self.loggers * CHANNEL_DESCRIPTORS;
        let most = |each: u64| limit.saturating_sub(OWN_DESCRIPTORS + channels) / each;
        let is_full = |most: &u64| self.threads.len() as u64 >= *most;
        let device = |path: &Path| rustix::fs::stat(path).map(|stat| stat.st_dev);
        let near = || matches!((device(&self.services), device(&self.status)), (Ok(one), Ok(other)) if one == other);
        // It takes a look at the disk to say that it is less.
        let far = Some(most(each + FAR_DESCRIPTORS)).filter(is_full);
        match far.map(|far| if near() { most(each) } else { far }).filter(is_full) {
            Some(most) => Err(format!("too many open files: the limit leaves room for {most} modules")),
            None => Ok(()),
        }
    }

    pub(super) fn retire(&mut self, name: &ModuleName) {
        if let (Some(thread), Some(Actual::Beginning(id) | Actual::Running(id))) =
            (self.threads.get(name), self.actual.get(name))
        {
            let id = *id;
            let is_read_on = || {
                let wanted = self.wanted.has(name) && self.closing.is_none();
                wanted && thread.reads.as_ref().is_some_and(|module| self.threads.contains_key(module))
            };
            // Its own removal is no damage.
            if let Some(watch) = &self.watch {
                watch.homes().remove(name);
            }
            let within = match self.closing {
                // What all others have said is written, however urgent their end was.
                Some(Closing::Stop(within)) if name.is_own_logger() => within.map(|within| within.max(LOGGER_STOP)),
                // What its module said last is read, whatever that took.
                Some(Closing::Stop(within)) if thread.reads.is_some() => within,
                Some(Closing::Stop(within)) => within.map(|within| self.share(within)),
                None | Some(Closing::Leave) => None,
            };
            thread.mailbox.send(match (self.closing, &thread.reads) {
                (Some(Closing::Leave), _) => Mail::Release,
                (_, Some(_)) if !is_read_on() => Mail::Drain(within),
                (_, _) => Mail::Retire(within),
            });
            self.actual.insert(name.clone(), Actual::Retiring(id));
        }
    }

    pub(super) fn remove(&mut self, name: &ModuleName) {
        if let Some((id, source)) = self.defective.remove(name)
            && self.closing != Some(Closing::Leave)
        {
            // Wanted no more before another thread took the place of the one with a defect: its program is to be stopped.
            match self.start_unwanted(name, id, source) {
                Ok(()) => return self.retire(name),
                Err(error) => report::line(&format!("retiring {name}: {error}; its program runs on")),
            }
        }
        // Gone before its thread could begin: a predecessor's program may run.
        if let (Some(Actual::Refused(..)), None) = (self.actual.get(name), self.closing)
            && let Some((id, source)) = self.left_running(name)
        {
            match self.start_unwanted(name, id, source) {
                Ok(()) => return self.retire(name),
                Err(error) => report::line(&format!("retiring {name}: {error}; its program runs on")),
            }
        }
        if self.closing != Some(Closing::Leave)
            && let Err(error) = home::remove(&self.status, name)
        {
            report::line(&format!("removing {error}"));
        }
        self.forget(name);
    }

    /// Nothing is left of it.
    fn forget(&mut self, name: &ModuleName) {
        self.actual.remove(name);
        self.programs.remove(name);
        self.anew.remove(name);
        self.troubles.remove(name);
    }

    /// What a dead svtree left of modules that are not there any more, or not complete: programs that run are taken over
    /// at once, and retired unless their module is wanted; of those that are not there the rest is removed.
    pub(super) fn inherit(&mut self) {
        self.inherit_logger();
        let left = home::left(&self.status).unwrap_or_else(|error| {
            report::line(&format!("reading {}: {}", self.status.display(), plain(&error)));
            Vec::new()
        });
        for name in left {
            let complete = |wanted: &Wanted| wanted.module(&name).is_some_and(|wish| wish.loaded.is_some());
            // Or handed down by a predecessor.
            if self.threads.contains_key(&name) || self.published.contains_key(&name) {
                continue;
            }
            let good = home::good(&self.status, &name).and_then(|good| serde_json::from_slice::<Policy>(&good).ok());
            let left = self.wanted.is_unknown(&name).then(|| self.left_running(&name));
            let is_looked_at =
                left.is_none_or(|left| left.is_some_and(|(id, _)| self.wanted.recall(&name, id, clock::stamp())));
            if !is_looked_at || (complete(&self.wanted) && good.is_none()) {
                continue;
            }
            let running = self.left_running(&name);
            if let Some((id, source)) = &running {
                // A program that runs is not left alone for as long as its files are young.
                self.wanted.reread(&name, clock::stamp());
                let (logged, rejected) = (home::is_logged(&self.status, &name), source.loaded.mistake.clone());
                let left = LeftBehind { id: *id, logged, rejected, good };
                if self.wanted.keep(&name, left, clock::moment()) {
                    continue;
                }
            }
            let taken = if complete(&self.wanted) {
                Ok(())
            } else if let Some((id, source)) = running {
                self.start_unwanted(&name, id, source)
            } else if self.wanted.module(&name).is_some() {
                Ok(())
            } else if self.wanted.wish(&name).is_some() {
                // An instance, if its directory still asks for so many once it has settled.
                self.actual.insert(name.clone(), Actual::Ended);
                Ok(())
            } else {
                home::remove(&self.status, &name).map_err(|error| error.to_string())
            };
            if let Err(why) = taken {
                report::line(&format!("taking over {name}: {why}"));
            }
        }
    }

    /// Everything is to be stopped before all of it has begun: what still waited for its turn and has a program of a dead
    /// svtree is taken over to be stopped, too.
    pub(super) fn inherit_to_stop(&mut self) {
        if self.wanted.wishes().all(|(name, _)| self.threads.contains_key(name)) {
            return;
        }
        for name in home::left(&self.status).unwrap_or_default() {
            if self.threads.contains_key(&name) {
                continue;
            }
            let Some((id, mut source)) = self.left_running(&name) else { continue };
            if let Some(loaded) = self.wanted.module(&name).and_then(|wish| wish.loaded.clone()) {
                source.loaded = loaded;
            }
            if let Err(why) = self.start_unwanted(&name, id, source) {
                report::line(&format!("taking over {name}: {why}; its program runs on"));
            }
        }
    }

    /// What a thread for a module of a dead svtree is made from, if its program runs, or something that it left.
    pub(super) fn left_running(&self, name: &ModuleName) -> Option<(Id, Source)> {
        let file = |file: &str| client::read(&self.status.join(name.as_os_str()).join(file)).ok();
        let state = file(home::file::STATE).and_then(|bytes| State::decode(&bytes).ok()).unwrap_or_default();
        let record = state.record.clone().unwrap_or_default();
        let (record, _) = adopt::latest(record, file(home::file::SPAWNED).as_deref());
        let left = matches!(adopt::find(&record), Found::Alive(..)) || {
            let groups = self.cgroups.as_ref();
            let group = groups.and_then(|groups| groups.left(record.cgroup.as_deref(), record.id()));
            group.is_some_and(|group| group.members().is_ok_and(|members| !members.is_empty()))
        };
        let policy = Policy { stop: record.stop.unwrap_or_default(), ..Policy::default() };
        let loaded = Loaded { mistake: state.rejected, policy: policy.into(), ..Loaded::default() };
        let path = OsString::from_vec(unescaped(&state.directory)).into();
        left.then(|| (record.id(), Source { path, loaded: Arc::new(loaded) }))
    }

    /// Its home is there: what others do to it is to be put right. Says whether that can ask for a step.
    pub(super) fn begun(&mut self, name: &ModuleName) -> bool {
        if let Some(mut trouble) = self.troubles.remove(name) {
            trouble.worked(&format!("starting {name}: it works again"));
        }
        let is_logger = match self.actual.get(name) {
            Some(Actual::Beginning(id)) => {
                let id = *id;
                self.actual.insert(name.clone(), Actual::Running(id));
                // What it was not told meanwhile.
                self.configure(name, false);
                true
            }
            Some(Actual::Running(_) | Actual::Retiring(_) | Actual::Left(_)) => false,
            Some(Actual::Refused(..) | Actual::Ended) | None => false,
        };
        if let (Some(Actual::Running(_)), None) = (self.actual.get(name), self.closing) {
            self.watch_home(name);
        }
        is_logger
    }

    pub(super) fn gone(&mut self, name: ModuleName, why: Why) {
        let Some(thread) = self.threads.remove(&name) else {
            return;
        };
        thread.handle.join();
        self.tree.gone(&name, matches!(why, Why::Left));
        self.loggers -= u64::from(thread.reads.is_some());
        let (id, retiring) = match self.actual.get(&name) {
            Some(Actual::Beginning(id) | Actual::Running(id)) => (*id, false),
            Some(Actual::Retiring(id)) => (*id, true),
            Some(Actual::Left(_) | Actual::Refused(..) | Actual::Ended) | None => return,
        };
        let next = match why {
            Why::Panicked if retiring => {
                // Its program still has to be stopped.
                match self.start_unwanted(&name, id, thread.source) {
                    Ok(()) => return self.retire(&name),
                    Err(error) => {
                        report::line(&format!("retiring {name}: {error}; its program runs on"));
                        Actual::Ended
                    }
                }
            }
            Why::Panicked => {
                self.defective.insert(name.clone(), (id, thread.source));
                Actual::Refused(id, clock::moment().plus(RETRY_DEFECT))
            }
            Why::Retired { removed: true } => return self.forget(&name),
            Why::Retired { removed: false } => Actual::Ended,
            Why::Left | Why::NotOpened(_) if retiring => Actual::Ended,
            Why::Left => Actual::Left(id),
            Why::NotOpened(text) => {
                self.trouble(&name, format!("starting {name}: {text}"));
                Actual::Refused(id, clock::moment().plus(self.retry()))
            }
        };
        if matches!(next, Actual::Left(_) | Actual::Ended) {
            self.programs.remove(&name);
            // Should it be wanted again before its status directory is gone, what that says is of the past.
            self.anew.insert(name.clone());
        }
        self.actual.insert(name, next);
    }

    /// When what could not begin is tried again: one after the other, since what one takes another lacks.
    fn retry(&self) -> Duration {
        let others = self.actual.values().filter(|actual| matches!(actual, Actual::Refused(..))).count();
        RETRY + RETRY_APART * u32::try_from(others).unwrap_or(u32::MAX).min(RETRY_SPREAD)
    }

    pub(super) fn trouble(&mut self, name: &ModuleName, line: String) {
        self.troubles.entry(name.clone()).or_default().failed(line);
    }
}

fn open_directory(path: &Path) -> Result<OwnedFd, String> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat(rustix::fs::CWD, path, flags, Mode::empty()).map_err(|errno| plain(&errno.into()))
}
