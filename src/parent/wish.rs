//! A module that is asked for: what its files say, what of it is in force, and what is wrong with it.
//!
//! Must never look at more than its own directory.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::changes::Candidate;
use super::conf::ConfFile;
use crate::pure::config::{Needs, Policy};
use crate::pure::name::ModuleName;
use crate::pure::reconcile::Id;
use crate::pure::supervise_conf::Settings;
use crate::pure::time::{Moment, Stamp, Wall};
use crate::supervise::Loaded;
use crate::unix::prints::{self, Print, Prints};
use crate::unix::report::Repeated;
use crate::unix::scan::{self, Module};

/// A module that is asked for.
#[derive(Debug)]
pub struct Wish {
    /// Its directory.
    pub path: PathBuf,
    /// Which directory that is.
    pub id: Id,
    /// What it asks for; `None` until it is complete.
    pub loaded: Option<Arc<Loaded>>,
    pub(super) settled_at: Moment,
    /// When the files were looked at of which it says what they ask for.
    pub(super) read_at: Option<Moment>,
    /// It came as a whole: by a rename, or as a link.
    pub(super) arrived: bool,
    seen: (Prints, Wall),
    seen_at: Moment,
    /// Since when its files are missing, or something else stands in their place, which is the second case.
    missing: Option<(Moment, bool)>,
    /// They are to be read again, though they look as they did.
    pub(super) doubted: bool,
    trouble: Repeated,
    exposed: Repeated,
    /// What `enabled` in its file says.
    pub(super) asks_enabled: bool,
    /// What the `supervise.conf` asks of it, where there is one; boxed, since mostly there is none.
    pub(super) settings: Option<Box<Settings>>,
    /// That says something new, which is to hold at once.
    pub(super) urgent: bool,
    /// Its output may go to a logger.
    pub(super) logged: bool,
    /// What its files ask for, while that is not in force.
    pub(super) candidate: Option<Box<Candidate>>,
}

/// The files of a module as a look found them, as far as they make a difference to what is in force.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Files {
    prints: Prints,
    finish: Option<Print>,
    logged: bool,
    normally_up: bool,
}

impl Files {
    pub(super) fn of(module: &Module) -> Files {
        let Module { prints, finish, logged, normally_up, .. } = *module;
        Files { prints, finish, logged, normally_up }
    }

    /// When the youngest of them was changed last.
    fn changed(&self) -> Wall {
        self.prints.changed().max(self.finish.map_or(Wall::default(), |finish| finish.changed()))
    }
}

/// What was asked for last: most modules of a tree ask for nothing, and they share that.
#[derive(Debug, Default)]
pub struct Alike(Option<Arc<Policy>>);

impl Alike {
    fn shared(&mut self, policy: Policy) -> Arc<Policy> {
        match &self.0 {
            Some(last) if **last == policy => Arc::clone(last),
            Some(_) | None => Arc::clone(self.0.insert(Arc::new(policy))),
        }
    }
}

impl Wish {
    /// One that was found.
    pub(super) fn new(path: PathBuf, module: &Module, settings: Option<Box<Settings>>, now: Moment) -> Wish {
        let seen = (module.prints, module.changed);
        Wish { arrived: module.linked, settings, ..Wish::with(path, module.id, None, seen, now) }
    }

    /// One that something is known of.
    pub(super) fn known(path: PathBuf, id: Id, loaded: Loaded, now: Moment) -> Wish {
        let seen = (loaded.prints, Wall::default());
        // What was wrong with it may have been elsewhere than in its files.
        let doubted = loaded.mistake.is_some();
        Wish { doubted, ..Wish::with(path, id, Some(Arc::new(loaded)), seen, now) }
    }

    fn with(path: PathBuf, id: Id, loaded: Option<Arc<Loaded>>, seen: (Prints, Wall), now: Moment) -> Wish {
        Wish {
            path,
            id,
            loaded,
            settled_at: now,
            read_at: None,
            arrived: false,
            seen,
            seen_at: now,
            missing: None,
            doubted: false,
            trouble: Repeated::default(),
            exposed: Repeated::default(),
            asks_enabled: true,
            settings: None,
            urgent: false,
            logged: true,
            candidate: None,
        }
    }

    /// A look found its files.
    pub(super) fn found(&mut self, module: &Module, whole: bool, now: Moment) {
        self.missing = None;
        self.arrived |= whole;
        if self.seen != (module.prints, module.changed) {
            self.seen = (module.prints, module.changed);
            self.seen_at = now;
        }
    }

    /// A look found its directory and no module in it; says since when that is so.
    pub(super) fn missed(&mut self, is_mistake: bool, now: Moment) -> Moment {
        match self.missing {
            Some((since, case)) if case == is_mistake => since,
            Some(_) | None => {
                self.missing = Some((now, is_mistake));
                now
            }
        }
    }

    /// Whether there is nothing new in these files.
    pub(super) fn knows(&self, files: Files) -> bool {
        if self.urgent || self.doubted {
            return false;
        }
        if let Some(candidate) = &self.candidate {
            return candidate.files == files;
        }
        self.loaded.as_ref().is_some_and(|loaded| {
            (loaded.prints, loaded.finish, loaded.logged) == (files.prints, files.finish, files.logged)
                && loaded.policy.enabled == (files.normally_up && self.asks_enabled)
        })
    }

    /// When these files were written to last.
    pub(super) fn changed_at(&self, module: &Module, now: Stamp) -> Moment {
        // A running program may write in its directory; only a module that has not begun must be all quiet.
        let (changed, lost) = match &self.loaded {
            Some(loaded) => (Files::of(module).changed(), loaded.prints.has_lost(&module.prints)),
            None => (module.changed, false),
        };
        let age = prints::age(changed, now.wall).filter(|_| !lost).unwrap_or(Duration::ZERO);
        now.moment.minus(age.max(now.moment.since(self.seen_at)))
    }

    /// Whether what its program says goes to a logger, as its files are now.
    pub(super) fn is_logged(&self) -> bool {
        self.loaded.as_ref().is_some_and(|loaded| loaded.logged)
    }

    /// Whether no good files of it are known.
    pub(super) fn is_unknown(&self) -> bool {
        self.loaded.as_ref().is_some_and(|loaded| loaded.unknown)
    }

    /// What it waits for.
    pub(super) fn needs(&self) -> Option<&Needs> {
        self.loaded.as_ref().and_then(|loaded| loaded.policy.needs.as_deref())
    }

    /// What it would wait for if what its files ask for were in force, unless something is wrong with that.
    pub(super) fn next_needs(&self) -> Option<&Needs> {
        match &self.candidate {
            Some(candidate) if candidate.is_likely() => candidate.policy.needs.as_deref(),
            Some(_) | None => self.needs(),
        }
    }

    /// Takes what the `supervise.conf` asks of it now.
    pub(super) fn ask(&mut self, name: &ModuleName, conf: Option<&mut ConfFile>) {
        let settings = conf.map(|conf| Box::new(conf.settings(name)));
        self.urgent |= self.settings != settings;
        self.settings = settings;
    }

    /// What its files ask for.
    pub(super) fn read(&mut self, module: &Module, strict: bool) -> Result<Policy, String> {
        self.logged |= module.logged;
        self.doubted = false;
        let mut elsewhere = Policy::default();
        if let Some(settings) = &self.settings {
            settings.apply(&mut elsewhere);
        }
        if let Some(exposed) = &module.exposed {
            if strict {
                // What makes it so is not in the files alone.
                self.doubted = true;
                return Err(format!("{exposed}, and --strict is given"));
            }
            self.exposed.failed(format!("reading {}: {exposed}", self.path.display()));
        }
        scan::policy(&self.path, module, elsewhere)
    }

    /// This is in force from now on.
    pub(super) fn accept(&mut self, mut policy: Policy, files: Files, run: Option<u64>, alike: &mut Alike) {
        self.trouble.worked(&format!("reading {}: it is in order again", self.path.display()));
        self.candidate = None;
        self.asks_enabled = policy.enabled;
        policy.enabled &= files.normally_up;
        let policy = alike.shared(policy);
        let Files { prints, finish, logged, .. } = files;
        self.loaded = Some(Arc::new(Loaded { policy, prints, mistake: None, logged, unknown: false, finish, run }));
    }

    /// Whether these files are, in effect, those that are in force.
    pub(super) fn is_same(&self, policy: &Policy, files: Files, run: Option<u64>) -> bool {
        self.loaded.as_ref().is_some_and(|loaded| {
            let enabled = policy.enabled && files.normally_up;
            let as_before = Policy { enabled, ..policy.clone() } == *loaded.policy;
            let as_before = as_before && loaded.finish == files.finish;
            loaded.mistake.is_none() && as_before && (loaded.prints.run == files.prints.run || loaded.is_run(run))
        })
    }

    /// An instance of what runs on, though its files are wrong, runs as well. Says whether it is such a module.
    pub(super) fn keep_instance(&mut self, instance: u32) -> bool {
        let Some(loaded) = self.loaded.as_mut().filter(|loaded| loaded.mistake.is_some()) else { return false };
        if loaded.unknown {
            let instances = &mut Arc::make_mut(&mut Arc::make_mut(loaded).policy).instances;
            *instances = (*instances).max((instance > 0).then_some(instance));
        }
        true
    }

    /// The last good one stays in force. Says whether there is one.
    pub(super) fn reject(&mut self, why: &str, files: Option<(Files, Option<u64>)>) -> bool {
        let Some(good) = &self.loaded else { return false };
        let mut loaded = Loaded { mistake: Some(why.to_owned()), ..(**good).clone() };
        if let Some((Files { prints, finish, logged, normally_up }, run)) = files {
            let enabled = self.asks_enabled && normally_up;
            if loaded.policy.enabled != enabled {
                Arc::make_mut(&mut loaded.policy).enabled = enabled;
            }
            loaded = Loaded { prints, logged, finish, run, ..loaded };
        }
        self.trouble.failed(format!("reading {}: {why}; the last good one stays in force", self.path.display()));
        if **good != loaded {
            self.loaded = Some(Arc::new(loaded));
        }
        true
    }
}
