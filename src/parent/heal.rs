//! What others do to the status root and to homes: when it is looked at.
//!
//! Must never put a home right: that is its supervise thread's, which alone knows what it holds.

use std::io::ErrorKind;
use std::iter;
use std::time::Duration;

use super::Parent;
use crate::pure::name::ModuleName;
use crate::pure::reconcile::Actual;
use crate::pure::time::Moment;
use crate::supervise::Mail;
use crate::unix::clock;
use crate::unix::home::{Damage, Part, file};
use crate::unix::report::{self, plain};
use crate::unix::watch::Place;

/// A home is put right after this time: an `rm -r` that is under way is not fought, only followed.
const AFTER: Duration = Duration::from_millis(200);
/// What could not be put right is looked at again after this time, and so is a home that is watched anew: something
/// may have happened before.
const AGAIN: Duration = Duration::from_secs(2);

impl Parent {
    /// When something is to be looked at.
    pub(super) fn heal_at(&self) -> Option<Moment> {
        self.damaged.values().copied().chain(self.root_at).min()
    }

    /// Looks at what is due, and notes what was heard.
    pub(super) fn heal(&mut self, damage: &Damage, root: bool) {
        let now = clock::moment();
        if root || self.root_at.is_some_and(|at| at <= now) {
            self.heal_root(now);
        }
        self.suspect(damage, now);
        let threads = &self.threads;
        for (name, _) in self.damaged.extract_if(.., |_, at| *at <= now) {
            if let (Some(thread), Some(Actual::Running(_))) = (threads.get(&name), self.actual.get(&name)) {
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
        for name in self.threads.keys().filter(|name| damage.concerns(name)) {
            // However often it is heard of: whoever damages it again and again puts off nothing.
            let at = self.damaged.entry(name.clone()).or_insert(now.plus(AFTER));
            *at = now.plus(AFTER).min(*at);
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
            self.look_again_at(name);
        }
    }

    /// Something is to be put right that could not be, or may be.
    pub(super) fn look_again_at(&mut self, name: &ModuleName) {
        self.damaged.entry(name.clone()).or_insert(clock::moment().plus(AGAIN));
    }
}
