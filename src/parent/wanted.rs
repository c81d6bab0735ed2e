//! What the services directory asks for, kept up to date by looks at it.
//!
//! Must never start or stop anything; the parent compares and acts.

mod groups;
mod handed;
mod instances;

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use self::groups::News;
pub use self::handed::HandedWish;
use super::changes::{Candidate, Changes};
use super::conf::ConfFile;
use super::wish::{Alike, Files, Wish};
use crate::pure::config::{GroupPolicy, Needs};
use crate::pure::instances::{Instance, Instances, directory_of};
use crate::pure::name::ModuleName;
use crate::pure::reconcile::{Desired, Id, Wishes};
use crate::pure::settle::Burst;
use crate::pure::time::{Moment, Stamp};
use crate::supervise::Loaded;
use crate::unix::report::Repeated;
use crate::unix::scan::{self, Found, Module, Other};
use crate::unix::watch::Place;

/// A directory that is to be watched, or not any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Watching {
    /// From now on.
    Yes(Place),
    /// No more.
    No(Place),
}

/// How much of the tree a look covers.
#[derive(Clone, Copy, Debug)]
enum Scope<'a> {
    Whole,
    Entries(&'a BTreeSet<ModuleName>),
}

impl Scope<'_> {
    fn covers(self, name: &ModuleName) -> bool {
        match self {
            Scope::Whole => true,
            Scope::Entries(tops) => tops.contains(name.top_bytes()),
        }
    }
}

/// Everything that is asked for.
#[derive(Debug)]
pub struct Wanted {
    services: PathBuf,
    /// Which directory that was when it was looked at.
    id: Option<Id>,
    settle: Duration,
    /// Refuse modules that others can write.
    strict: bool,
    conf: Option<ConfFile>,
    pub(super) alike: Alike,
    /// Boxed: the nodes of a map are half empty.
    pub(super) modules: BTreeMap<ModuleName, Box<Wish>>,
    /// svtree's own logger, once it is needed.
    logger: Option<Box<Wish>>,
    logger_name: ModuleName,
    pub(super) others: BTreeMap<ModuleName, (PathBuf, Other)>,
    groups: BTreeMap<ModuleName, (PathBuf, Id)>,
    /// What they ask for: of the last good files.
    pub(super) policies: BTreeMap<ModuleName, GroupPolicy>,
    /// What was found of them since when, and is not in force yet.
    unsettled: BTreeMap<ModuleName, (News, Moment)>,
    /// Directories of loggers that are none.
    unfinished: BTreeMap<ModuleName, (PathBuf, Id)>,
    /// Entries of the services directory that are to be looked at again, and when.
    again: BTreeMap<ModuleName, Moment>,
    watched: BTreeMap<ModuleName, (Place, Id)>,
    watching: Vec<Watching>,
    /// Modules that are asked for something new, and whether it is to hold at once.
    pub(super) changed: BTreeMap<ModuleName, bool>,
    /// What they are to be asked for, once it is known that it can be had.
    pub(super) changes: Changes,
    /// What is being written.
    burst: Burst,
    unknown: BTreeMap<ModuleName, Repeated>,
    /// Modules whose entry came as a whole.
    dropped: BTreeSet<ModuleName>,
    /// Which of them are several, and how these are called.
    instances: Instances,
    /// Instances whose output goes to no logger any more.
    unlogged: BTreeSet<ModuleName>,
    /// Directories that are called as an instance of another one.
    displaced: BTreeMap<ModuleName, Repeated>,
}

impl Wanted {
    /// Nothing is known yet.
    #[must_use]
    pub fn new(services: PathBuf, settle: Duration, strict: bool, conf: Option<ConfFile>) -> Wanted {
        Wanted {
            services,
            id: None,
            settle,
            strict,
            conf,
            alike: Alike::default(),
            modules: BTreeMap::new(),
            logger: None,
            logger_name: ModuleName::own_logger(),
            others: BTreeMap::new(),
            groups: BTreeMap::new(),
            policies: BTreeMap::new(),
            unsettled: BTreeMap::new(),
            unfinished: BTreeMap::new(),
            again: BTreeMap::new(),
            watched: BTreeMap::new(),
            watching: Vec::new(),
            changed: BTreeMap::new(),
            changes: Changes::default(),
            burst: Burst::default(),
            unknown: BTreeMap::new(),
            dropped: BTreeSet::new(),
            instances: Instances::default(),
            unlogged: BTreeSet::new(),
            displaced: BTreeMap::new(),
        }
    }

    /// The same of groups.
    pub fn inherit_groups(&mut self, groups: impl Iterator<Item = (ModuleName, GroupPolicy)>) {
        self.policies.extend(groups);
    }

    /// What every module waits for.
    pub fn needs(&self) -> impl Iterator<Item = (&ModuleName, Option<&Needs>)> {
        self.needs_with(|_, wish| wish.needs())
    }

    /// What every group asks for.
    #[must_use]
    pub fn policies(&self) -> &BTreeMap<ModuleName, GroupPolicy> {
        &self.policies
    }

    /// Whether any module waits for another, or any group asks for anything.
    #[must_use]
    pub fn hangs_together(&self) -> bool {
        self.policies.values().any(GroupPolicy::is_asking) || self.needs().any(|(_, needs)| needs.is_some())
    }

    /// What the module `name` asks for, if it is asked for itself.
    pub fn module(&self, name: &ModuleName) -> Option<&Wish> {
        if name.is_own_logger() {
            return self.logger.as_deref();
        }
        self.place(name).map(|(_, wish, _)| wish)
    }

    /// A module says that its output goes to no logger; unless one came meanwhile its old one may go.
    pub fn needs_no_logger(&mut self, name: &ModuleName) {
        if self.instances.get(name).is_some() {
            self.unlogged.insert(name.clone());
            self.number();
        } else if let Some(wish) = self.modules.get_mut(name) {
            wish.logged = wish.is_logged();
        }
    }

    /// Whether a module is asked for, or will be.
    #[must_use]
    pub fn has(&self, name: &ModuleName) -> bool {
        self.own_logger(name).is_some() || self.place(name).is_some()
    }

    /// What is no module, and why.
    #[must_use]
    pub fn others(&self) -> &BTreeMap<ModuleName, (PathBuf, Other)> {
        &self.others
    }

    /// Whether nothing is known of a module, because it or a group that it is in could not be looked at.
    #[must_use]
    pub fn is_unknown(&self, name: &ModuleName) -> bool {
        let directory = directory_of(name).map(|of| of.directory);
        let is_within = |outer| name.is_within(outer) || directory.as_ref().is_some_and(|name| name.is_within(outer));
        self.unknown.keys().any(is_within)
            || self.others.iter().any(|(outer, (_, other))| other.rejected && name.is_within(outer) && name != outer)
    }

    /// When an entry is to be looked at again.
    #[must_use]
    pub fn again(&self) -> Option<Moment> {
        self.again.values().copied().chain(self.changes_due()).min()
    }

    pub(super) fn look_at_again(&mut self, name: &ModuleName, at: Moment) {
        let again = self.again.entry(name.top()).or_insert(at);
        *again = at.min(*again);
    }

    /// The directories whose watch changes since this was asked last.
    pub fn watching(&mut self) -> Vec<Watching> {
        std::mem::take(&mut self.watching)
    }

    /// All directories are to be watched anew.
    pub fn watch_again(&mut self) {
        self.watching = self.watched.values().map(|(place, _)| Watching::Yes(place.clone())).collect();
    }

    /// The modules that are asked for something new since this was asked last, and whether it is to hold at once.
    pub fn changed(&mut self) -> BTreeMap<ModuleName, bool> {
        let changed = std::mem::take(&mut self.changed);
        let modules = |(directory, at_once)| self.modules_of(directory).into_iter().map(move |name| (name, at_once));
        changed.into_iter().flat_map(modules).collect()
    }

    /// The modules whose directory was dropped in since this was asked last.
    pub fn dropped(&mut self) -> BTreeSet<ModuleName> {
        let dropped = std::mem::take(&mut self.dropped);
        dropped.into_iter().flat_map(|directory| self.modules_of(directory)).collect()
    }

    /// Looks at everything; says which directory the services directory is. `arrived` are the paths that came as a whole.
    ///
    /// # Errors
    /// It cannot be read; everything stays as it is.
    pub fn look(&mut self, arrived: &[PathBuf], now: Stamp) -> std::io::Result<Id> {
        let (id, found) = Found::whole(&self.services)?;
        self.id = Some(id);
        self.again.clear();
        self.absorb(found, Scope::Whole, arrived, now);
        Ok(id)
    }

    /// Looks at some entries; `arrived` are the paths that came as a whole.
    pub fn look_at(&mut self, tops: &BTreeSet<ModuleName>, arrived: &[PathBuf], now: Stamp) {
        // Another directory in its place, or none, says nothing of these entries; the parent looks at the whole.
        let Some(services) = scan::Services::open(&self.services).ok().filter(|services| Some(services.id) == self.id)
        else {
            self.again.extend(tops.iter().map(|top| (top.clone(), now.moment.plus(RETRY))));
            return;
        };
        let mut found = Found::default();
        for top in tops {
            self.again.remove(top);
            found.add(&services, top.clone());
        }
        self.absorb(found, Scope::Entries(tops), arrived, now);
    }

    /// Looks at the entry that a module stands in.
    pub fn look_at_module(&mut self, name: &ModuleName, now: Stamp) {
        self.look_at(&BTreeSet::from([self.directory(name).top()]), &[], now);
    }

    /// A directory is watched from now on: what happened in it before that is seen by another look.
    pub fn look_again(&mut self, path: &Path, now: Moment) {
        let below = path.strip_prefix(&self.services).ok();
        if let Some(name) = below.and_then(|below| ModuleName::new(below.as_os_str().as_bytes()).ok()) {
            self.again.insert(name.top(), now);
        }
    }

    /// Looks at what is due.
    pub fn look_at_due(&mut self, now: Stamp) {
        self.look_at_changes(now.moment);
        let due: BTreeSet<ModuleName> =
            self.again.iter().filter(|(_, at)| **at <= now.moment).map(|(name, _)| name.clone()).collect();
        if !due.is_empty() {
            self.look_at(&due, &[], now);
        }
    }

    /// Reads the files of one module now, however young they are, and what the `supervise.conf` asks of it.
    pub fn reread(&mut self, name: &ModuleName, now: Stamp) {
        let directory = self.directory(name);
        if let Some(wish) = self.modules.get_mut(&directory) {
            wish.arrived = true;
            wish.ask(&directory, self.conf.as_mut());
        }
        self.doubt(&directory);
        self.look_at(&BTreeSet::from([directory.top()]), &[], now);
    }

    /// Asks the `supervise.conf` anew for every module; a look follows.
    pub fn read_conf(&mut self) {
        for (name, wish) in &mut self.modules {
            wish.ask(name, self.conf.as_mut());
        }
    }

    fn absorb(&mut self, mut found: Found, scope: Scope<'_>, arrived: &[PathBuf], now: Stamp) {
        self.settle_groups(&mut found, scope, now.moment);
        let stays = |name: &ModuleName, found: &Found| {
            let within = |outer: &ModuleName| name.is_within(outer);
            !scope.covers(name)
                || found.unknown.iter().any(|(outer, _)| within(outer))
                || found.kept.iter().any(|outer| within(outer) && outer != name)
        };
        self.others_found(&found, &stays);
        self.policies.retain(|name, _| stays(name, &found) || found.kept.contains(name));
        self.policies.extend(found.policies.iter().cloned());
        self.groups.retain(|name, _| stays(name, &found));
        self.groups.extend(found.groups.iter().map(|(name, path, id)| (name.clone(), (path.clone(), *id))));

        self.unfinished.retain(|name, _| stays(name, &found));
        self.unfinished.extend(found.unfinished.iter().map(|(name, path, id)| (name.clone(), (path.clone(), *id))));

        let present: BTreeSet<&ModuleName> = found.modules.iter().map(|(name, ..)| name).collect();
        let (settle, others, again) = (self.settle, &self.others, &mut self.again);
        let mut wrong = Vec::new();
        self.modules.retain(|name, wish| {
            if present.contains(name) || stays(name, &found) {
                return true;
            }
            // What is still the same directory may have its files put back.
            let is_there = |other: &&(PathBuf, Other)| other.1.id == wish.id && wish.loaded.is_some();
            let Some((_, other)) = others.get(name).filter(is_there) else { return false };
            let until = wish.missed(other.is_mistake, now.moment).plus(settle);
            if now.moment < until {
                let again = again.entry(name.top()).or_insert(until);
                *again = until.min(*again);
            } else if other.is_mistake {
                wrong.push((name.clone(), other.why.clone()));
            }
            now.moment < until || other.is_mistake
        });
        for (name, why) in wrong {
            self.reject(name, &why);
        }

        self.unknown.retain(|name, _| !scope.covers(name) || found.unknown.iter().any(|(other, _)| other == name));
        for (name, why) in found.unknown {
            self.look_at_again(&name, now.moment.plus(RETRY));
            let line = format!("reading {}: {why}; it stays as it is", self.services.join(name.as_os_str()).display());
            self.unknown.entry(name).or_default().failed(line);
        }
        for (name, path, module) in &found.modules {
            let whole = arrived.iter().any(|arrived| arrived == path || path.starts_with(arrived));
            self.module_found(name, path, module, whole, now);
        }
        for (name, _, module) in found.modules {
            self.settle(name, &module, now);
        }
        self.number();
        self.update_watched(scope);
    }

    /// Compares what is to be watched with what is.
    fn update_watched(&mut self, scope: Scope<'_>) {
        let mut wanted: BTreeMap<&ModuleName, (Place, Id)> = BTreeMap::new();
        for (name, (path, other)) in self.others.iter().filter(|(name, _)| scope.covers(name)) {
            wanted.insert(name, (Place::Incomplete(path.clone()), other.id));
        }
        for (name, (path, id)) in self.groups.iter().filter(|(name, _)| scope.covers(name)) {
            wanted.insert(name, (Place::Group(path.clone()), *id));
        }
        for (name, (path, id)) in self.unfinished.iter().filter(|(name, _)| scope.covers(name)) {
            wanted.insert(name, (Place::Incomplete(path.clone()), *id));
        }
        for (name, wish) in self.modules.iter().filter(|(name, _)| scope.covers(name)) {
            // One whose files are missing for a moment is both; then every name in it counts.
            wanted.entry(name).or_insert_with(|| (Place::Module(wish.path.clone()), wish.id));
        }
        self.watched.retain(|name, watched| {
            let same = !scope.covers(name) || wanted.get(name) == Some(watched);
            if !same {
                self.watching.push(Watching::No(watched.0.clone()));
            }
            same
        });
        for (name, (place, id)) in wanted {
            if !self.watched.contains_key(name) {
                self.watching.push(Watching::Yes(place.clone()));
                self.watched.insert(name.clone(), (place, id));
            }
        }
    }

    fn others_found(&mut self, found: &Found, stays: &impl Fn(&ModuleName, &Found) -> bool) {
        // Those that were rejected by their files are found as modules, and judged there.
        self.others.retain(|name, _| stays(name, found));
        for (name, path, other) in &found.others {
            self.others.insert(name.clone(), (path.clone(), other.clone()));
        }
    }

    fn module_found(&mut self, name: &ModuleName, path: &Path, module: &Module, whole: bool, now: Stamp) {
        if self.modules.get(name).is_none_or(|wish| wish.id != module.id) {
            let settings = self.conf.as_mut().map(|conf| Box::new(conf.settings(name)));
            let wish = Wish::new(path.to_path_buf(), module, settings, now.moment);
            self.modules.insert(name.clone(), Box::new(wish));
        }
        let Some(wish) = self.modules.get_mut(name) else { return };
        wish.found(module, whole, now.moment);
        if !wish.arrived && !wish.knows(Files::of(module)) {
            self.burst.stir(wish.changed_at(module, now));
        }
        if whole {
            self.dropped.insert(name.clone());
        }
    }

    /// Reads what is new, once it is quiet.
    fn settle(&mut self, name: ModuleName, module: &Module, now: Stamp) {
        let (files, strict) = (Files::of(module), self.strict);
        let Some(wish) = self.modules.get_mut(&name) else { return };
        if wish.knows(files) {
            wish.arrived = false;
            return;
        }
        let settled_at = self.burst.settles(wish.changed_at(module, now), self.settle);
        if now.moment < settled_at && !wish.arrived {
            wish.settled_at = settled_at;
            return self.look_at_again(&name, settled_at);
        }
        wish.settled_at = now.moment;
        wish.arrived = false;
        let at_once = std::mem::take(&mut wish.urgent);
        let run = scan::digest_of_run(&wish.path, module.prints.run);
        match wish.read(module, strict) {
            Ok(policy) if wish.loaded.is_none() || wish.is_same(&policy, files, run) => {
                self.others.remove(&name);
                wish.accept(policy, files, run, &mut self.alike);
                wish.read_at = Some(now.moment);
            }
            Ok(policy) => return self.propose(&name, Candidate::new(policy, files, run, at_once)),
            Err(why) => {
                wish.candidate = None;
                if !wish.reject(&why, Some((files, run))) {
                    let other = Other { id: module.id, rejected: true, is_mistake: true, why };
                    self.others.insert(name, (wish.path.clone(), other));
                    return;
                }
            }
        }
        *self.changed.entry(name).or_default() |= at_once;
    }

    /// What stands in the place of a module that runs is no module: it runs on.
    fn reject(&mut self, name: ModuleName, why: &str) {
        let Some(wish) = self.modules.get_mut(&name) else { return };
        (wish.candidate, wish.doubted) = (None, true);
        wish.reject(why, None);
        self.others.remove(&name);
        self.changed.entry(name).or_default();
    }
}

impl Wishes for Wanted {
    fn wish(&self, name: &ModuleName) -> Option<Desired> {
        if let Some(logger) = self.own_logger(name) {
            return self.desired(name, name, logger, 0);
        }
        match self.place(name) {
            Some((directory, wish, number)) => self.desired(name, directory, wish, number),
            None => self.unnumbered(name),
        }
    }

    fn wishes(&self) -> impl Iterator<Item = (&ModuleName, Desired)> {
        let logger = self.logger.iter().map(|wish| (&self.logger_name, wish));
        let own = self.modules.iter().filter(|(name, _)| self.instances.leave(name));
        let alone = logger.chain(own).filter_map(|(name, wish)| Some((name, self.desired(name, name, wish, 0)?)));
        alone.chain(self.instances.iter().filter_map(|(name, Instance { directory, number })| {
            Some((name, self.desired(name, directory, self.modules.get(directory)?, *number)?))
        }))
    }
}

impl Wanted {
    /// svtree's own logger is wanted from now on.
    pub fn want_logger(&mut self, path: PathBuf, id: Id, loaded: Loaded, now: Moment) {
        let mut wish = Wish::known(path, id, loaded, now);
        wish.logged = false;
        self.logger = Some(Box::new(wish));
    }

    fn own_logger(&self, name: &ModuleName) -> Option<&Wish> {
        self.logger.as_deref().filter(|_| name.is_own_logger())
    }

    fn desired(&self, name: &ModuleName, directory: &ModuleName, wish: &Wish, number: u32) -> Option<Desired> {
        let (id, logged) = (wish.id.instance(number), wish.logged && !self.unlogged.contains(name));
        match wish.loaded {
            Some(_) => Some(Desired { id, settled_at: wish.settled_at, logged }),
            None if self.others.contains_key(directory) => None,
            // Only a look says that it has settled, and that look is due at `again`.
            None => Some(Desired { id, settled_at: Moment(u64::MAX), logged }),
        }
    }
}

/// What could not be looked at is tried again after this time.
const RETRY: Duration = Duration::from_secs(2);
