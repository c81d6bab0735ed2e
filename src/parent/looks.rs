//! When and where the parent looks: at all, at what the kernel told of, at what is due.
//!
//! Must never trust a hint for more than "look again", and never start or stop anything.

use std::collections::BTreeSet;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Parent;
use super::wanted::Watching;
use crate::pure::name::ModuleName;
use crate::pure::reconcile::{Actual, Wishes};
use crate::supervise::Mail;
use crate::unix::report::plain;
use crate::unix::watch::{Place, Watch};
use crate::unix::{clock, scan};

/// Everything is looked at this often while the kernel tells of changes,
pub(super) const LOOK: Duration = Duration::from_mins(1);
/// while it cannot,
const LOOK_UNWATCHED: Duration = Duration::from_secs(5);
/// and while the services directory is missing.
const LOOK_MISSING: Duration = Duration::from_secs(1);

impl Parent {
    pub(super) fn look(&mut self, arrived: &[PathBuf]) {
        let now = clock::stamp();
        if self.watch.is_none() && self.watched.is_some() {
            self.watch_services();
        }
        match self.wanted.look(arrived, now) {
            Ok(id) => {
                self.services_trouble.worked(&format!("reading {}: it is back", self.services.display()));
                let period = if self.watch.is_some() { LOOK } else { LOOK_UNWATCHED };
                self.look_at = now.moment.plus(period);
                // Another directory stands there, or the same one is back: the old watch is of no use, and what
                // happened before there is a new one is seen by another look.
                if self.watched.replace(id) != Some(id) {
                    self.watch_services();
                    self.look_at = now.moment;
                }
                if self.watch.is_none() {
                    self.suspect_all();
                }
                self.sample();
            }
            Err(error) => {
                self.watched = None;
                let line = format!(
                    "reading {}: {}; everything runs on, and it is looked for every second",
                    self.services.display(),
                    plain(&error)
                );
                self.services_trouble.failed(line);
                self.look_at = now.moment.plus(LOOK_MISSING);
            }
        }
    }

    /// What a program runs that was there at the last look already is remembered once: another one that runs the same may
    /// take its place one day. Done here, where the tree is awake anyway.
    fn sample(&mut self) {
        if clock::moment().since(self.sampled_at) < LOOK / 2 {
            return;
        }
        self.sampled_at = clock::moment();
        for (name, thread) in &mut self.threads {
            let pid = self.programs.get(name).map_or(0, |program| program.load(Ordering::SeqCst));
            if pid != thread.seen.0 {
                thread.seen = (pid, false);
            } else if pid != 0 && !thread.seen.1 {
                thread.seen.1 = true;
                thread.mailbox.send(Mail::Sample);
            }
        }
    }

    pub(super) fn look_at_what_is_due(&mut self) {
        let now = clock::stamp();
        let hints = self.watch.as_ref().map(Watch::take).unwrap_or_default();
        let (mut tops, mut arrived) = (BTreeSet::new(), Vec::new());
        for (entry, paths) in hints.entries {
            if let Ok(name) = ModuleName::new(entry.as_bytes()) {
                tops.insert(name);
                arrived.extend(paths);
            }
        }
        if hints.everything || now.moment >= self.look_at {
            self.look(&arrived);
        } else if self.watched.is_some() && !tops.is_empty() {
            self.wanted.look_at(&tops, &arrived, now);
        }
        // What is new is watched before what is due is looked at: that look sees what happened in between.
        self.update_watches();
        if self.watch.is_some() {
            self.watch_trouble.worked("watching works again");
        }
        self.wanted.look_at_due(now);
        self.heal(&hints.damage, hints.root);
        for name in self.wanted.dropped() {
            // One that had left by `x` is wanted again.
            if let Some(Actual::Left(_)) = self.actual.get(&name) {
                self.actual.insert(name, Actual::Ended);
            }
        }
        for (name, at_once) in self.wanted.changed() {
            self.configure(&name, at_once);
        }
    }

    /// Gives a thread what its module's files say, unless it has that already and waits for no answer.
    pub(super) fn configure(&mut self, name: &ModuleName, at_once: bool) {
        let Some(thread) = self.threads.get_mut(name) else { return };
        let id = self.wanted.wish(name).map(|desired| desired.id);
        let is_same = id.is_some_and(|id| self.actual.get(name) == Some(&Actual::Running(id)));
        let wish = self.wanted.module(name).filter(|_| is_same);
        // One that is being retired keeps what it has, but may wait for an answer.
        if let Some(loaded) = wish.and_then(|wish| wish.loaded.as_ref())
            && !Arc::ptr_eq(loaded, &thread.source.loaded)
        {
            thread.source.loaded = Arc::clone(loaded);
        } else if !at_once {
            return;
        }
        let loaded = Arc::clone(&thread.source.loaded);
        thread.mailbox.send(Mail::Configured(Arc::clone(&loaded), at_once));
        if thread.reads.is_none() {
            self.want_logger_for(&loaded);
        }
    }

    fn watch_services(&mut self) {
        match Watch::new(&self.services, &scan::FILES) {
            Ok(watch) => {
                self.watch = Some(watch);
                // What runs is more urgent: the directories follow.
                self.wanted.watch_again();
                self.root_at = Some(clock::moment());
                let names: Vec<ModuleName> = self.threads.keys().cloned().collect();
                names.iter().for_each(|name| self.watch_home(name));
            }
            Err(why) => self.unwatched(&self.services.clone(), &why),
        }
    }

    pub(super) fn update_watches(&mut self) {
        let changes = self.wanted.watching();
        if !changes.is_empty() && self.closing.is_none() {
            self.watch_directories(changes);
        }
    }

    pub(super) fn watch_directories(&mut self, changes: Vec<Watching>) {
        for change in changes {
            let Some(watch) = &mut self.watch else { return };
            match change {
                Watching::No(place) => watch.remove(&place),
                Watching::Yes(place) => {
                    let path = place.path().to_path_buf();
                    match place {
                        Place::Group(_) | Place::Incomplete(_) => self.wanted.look_again(&path, clock::moment()),
                        Place::Module(_) | Place::Root(_) => {}
                    }
                    // One that is gone already is another hint's.
                    if let Err(why) = watch.add(place)
                        && path.exists()
                    {
                        self.unwatched(&path, &why);
                    }
                }
            }
        }
    }

    pub(super) fn unwatched(&mut self, path: &Path, why: &str) {
        self.watch = None;
        let every = LOOK_UNWATCHED.as_secs();
        self.watch_trouble
            .failed(format!("watching {}: {why}; everything is looked at every {every} s instead", path.display()));
        self.look_at = self.look_at.min(clock::moment().plus(LOOK_UNWATCHED));
    }
}
