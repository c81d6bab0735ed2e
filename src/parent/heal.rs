//! What others do to the status root and to homes: when it is looked at.
//!
//! Must never put a home right: that is its supervise thread's, which alone knows what it holds.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::iter;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use super::Parent;
use crate::pure::name::ModuleName;
use crate::pure::reconcile::Actual;
use crate::pure::time::{Moment, Wall};
use crate::supervise::Mail;
use crate::unix::home::{Damage, Part, file};
use crate::unix::report::{self, plain};
use crate::unix::watch::Place;
use crate::unix::{clock, prints};

/// A home is put right once nobody has changed it for this time: an `rm -r` that is under way is not fought, only
/// followed;
const QUIET: Duration = Duration::from_millis(200);
/// but no later than this: a module that ends again and again changes its home itself.
const LATEST: Duration = Duration::from_secs(3);
/// A home that is watched anew is looked at after this time, since something may have happened before: not at once, or a
/// thousand that are started together would wait for it.
const ANEW: Duration = Duration::from_millis(500);
/// What could not be put right is looked at again after this time.
const AGAIN: Duration = Duration::from_secs(2);

/// A home that others may have damaged.
#[derive(Clone, Copy, Debug)]
struct Suspect {
    /// It is looked at then
    at: Moment,
    /// or, while it changes, later, but not after this.
    latest: Moment,
}

/// Every home that others may have damaged.
#[derive(Debug, Default)]
pub(super) struct Suspects {
    by_name: BTreeMap<ModuleName, Suspect>,
    /// When the first of them is looked at: at a start they are as many as there are modules, and asked for at every turn.
    first: Option<Moment>,
}

impl Suspects {
    /// However often it is heard of: whoever damages a home again and again puts off nothing.
    fn add(&mut self, name: ModuleName, at: Moment) {
        let suspect = self.by_name.entry(name).or_insert(Suspect { at, latest: at.plus(LATEST) });
        suspect.at = suspect.at.min(at);
        self.first = Some(self.first.map_or(at, |first| first.min(at)));
    }

    fn take_due(&mut self, now: Moment) -> Vec<(ModuleName, Suspect)> {
        if self.first.is_none_or(|first| now < first) {
            return Vec::new();
        }
        let due = self.by_name.extract_if(.., |_, suspect| suspect.at <= now).collect();
        self.first = self.by_name.values().map(|suspect| suspect.at).min();
        due
    }

    fn put_off(&mut self, name: ModuleName, suspect: Suspect, at: Moment) {
        self.by_name.insert(name.clone(), Suspect { at, ..suspect });
        self.add(name, at);
    }
}

impl Parent {
    /// When something is to be looked at.
    pub(super) fn heal_at(&self) -> Option<Moment> {
        self.suspects.first.into_iter().chain(self.root_at).min()
    }

    /// Looks at what is due, and notes what was heard.
    pub(super) fn heal(&mut self, damage: &Damage, root: bool) {
        let now = clock::moment();
        if root || self.root_at.is_some_and(|at| at <= now) {
            self.heal_root(now);
        }
        self.suspect(damage, now);
        for (name, suspect) in self.suspects.take_due(now) {
            let (Some(thread), Some(Actual::Running(_))) = (self.threads.get(&name), self.actual.get(&name)) else {
                continue;
            };
            let places = [self.status.join(name.as_os_str()), thread.source.path.join(file::SUPERVISE)];
            if now < suspect.latest && places.iter().any(|place| is_changing(place)) {
                self.suspects.put_off(name, suspect, now.plus(QUIET));
            } else {
                thread.mailbox.send(Mail::Look);
            }
        }
    }

    /// Everything may have been damaged.
    pub(super) fn suspect_all(&mut self) {
        let now = clock::moment();
        self.root_at = Some(now);
        self.suspect(&Damage { anywhere: true, ..Damage::default() }, now);
    }

    fn suspect(&mut self, damage: &Damage, now: Moment) {
        if *damage != Damage::default() {
            for name in self.threads.keys().filter(|name| damage.concerns(name)) {
                self.suspects.add(name.clone(), now.plus(QUIET));
            }
        }
    }

    /// At once: as long as the lock has no name, another svtree could take its place.
    fn heal_root(&mut self, now: Moment) {
        self.root_at = None;
        // Watched first, so that what happens after the look is heard of.
        for path in self.root.paths() {
            if let Some(Err(why)) = self.watch.as_mut().map(|watch| watch.add(Place::Root(path.clone())))
                && path.exists()
            {
                self.unwatched(&path, &why);
            }
        }
        let [root, lock] = self.root.paths();
        match self.root.heal() {
            Ok(healed) => {
                self.root_trouble.worked(&format!("locking {}: it is locked again", lock.display()));
                if healed {
                    report::line(&format!("somebody damaged {}; it is whole again", lock.display()));
                    // What stands there now is watched, and all that was in the root may be gone with it.
                    self.suspect_all();
                    self.published.retain(|name, _| root.join(name.as_os_str()).join(file::STATE).exists());
                }
            }
            Err(error) => {
                self.root_trouble.failed(format!("locking {error}; everything runs on, and it is tried again"));
                self.root_at = Some(now.plus(AGAIN));
            }
        }
    }

    /// The home of a module is there, or there again: what others do to it is to be heard.
    pub(super) fn watch_home(&mut self, name: &ModuleName) {
        let (Some(watch), Some(thread)) = (&self.watch, self.threads.get(name)) else { return };
        let homes = iter::successors(Some(name.clone()), ModuleName::parent).map(|name| {
            let path = self.status.join(name.as_os_str());
            (name, Part::Home, path)
        });
        let view = (name.clone(), Part::View, thread.source.path.join(file::SUPERVISE));
        let mut is_new = false;
        for (name, part, path) in homes.chain([view]) {
            match watch.homes().add(&name, part, &path) {
                Ok(other) => is_new |= other,
                Err(error) if matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::OutOfMemory) => {
                    return self.unwatched(&path, &plain(&error));
                }
                // Not every module has a view. A home that is gone already is seen by the look.
                Err(_) => is_new |= part == Part::Home,
            }
        }
        if is_new {
            self.suspects.add(name.clone(), clock::moment().plus(ANEW));
        }
    }

    /// What is wrong with a home could not be put right.
    pub(super) fn not_healed(&mut self, name: &ModuleName) {
        // What could be may stand in a new directory.
        self.watch_home(name);
        self.suspects.add(name.clone(), clock::moment().plus(AGAIN));
    }
}

/// Whether a name in a directory came or went just now.
fn is_changing(directory: &Path) -> bool {
    let changed = directory.metadata().map(|directory| Wall {
        seconds: directory.mtime(),
        nanos: u32::try_from(directory.mtime_nsec()).unwrap_or(0),
    });
    changed.is_ok_and(|changed| prints::age(changed, clock::wall()).is_some_and(|age| age < QUIET))
}
