//! File-system events to nudges: "look at these again". The contents of an event are thrown away, but for one thing:
//! that an entry arrived whole, by a rename or as a link.
//!
//! The services directory and groups are watched by the crate `notify`; the directories in them, of which there may be
//! thousands and in which programs may write without end, by an inotify that is told only of names that come and go
//! and of files that were closed. The status root is with them, because another svtree may come for its lock; the homes
//! in it are another thread's. Must never be believed: the look is the truth.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::Builder;

use crossbeam_channel::{Receiver, Sender, bounded};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};
use notify::event::{CreateKind, ModifyKind, RenameMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};

use super::home::{Damage, Homes, file};
use super::raw;
use crate::pure::name::ModuleName;

/// With more names than this, everything is looked at.
const MOST_HINTS: usize = 1000;

/// What to look at.
#[derive(Debug, Default)]
pub struct Hints {
    /// Everything: events were lost, or the services directory itself changed.
    pub everything: bool,
    /// These entries of the services directory, and of each the paths that arrived whole.
    pub entries: BTreeMap<OsString, Vec<PathBuf>>,
    /// What others may have done to homes.
    pub damage: Damage,
    /// The status root or its lock is gone or was changed.
    pub root: bool,
}

impl Hints {
    /// Whether there is anything to look at.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.everything && self.entries.is_empty() && !self.root && self.damage == Damage::default()
    }

    fn all(&mut self) {
        self.everything = true;
        self.entries.clear();
    }
}

/// What the threads that hear of events share with the owner of the watch.
#[derive(Debug)]
struct Shared {
    /// The services directory.
    root: PathBuf,
    hints: Mutex<Hints>,
    nudge: Sender<()>,
}

impl Shared {
    fn hint(&self, hint: impl FnOnce(&mut Hints)) {
        let mut hints = self.hints.lock().unwrap_or_else(PoisonError::into_inner);
        hint(&mut hints);
        let is_empty = hints.is_empty();
        // Whoever is nudged takes them at once.
        drop(hints);
        if !is_empty {
            // Full: the parent has been nudged and has not looked yet.
            let _ = self.nudge.try_send(());
        }
    }

    /// Something happened at a path below the services directory.
    fn changed(&self, hints: &mut Hints, path: &Path, arrived: bool) {
        let Ok(below) = path.strip_prefix(&self.root) else { return hints.all() };
        let Some(top) = below.components().next() else { return hints.all() };
        let top = top.as_os_str();
        if hints.everything || top.as_bytes().starts_with(b".") {
            return;
        }
        let seen = hints.entries.entry(top.to_owned()).or_default();
        if arrived && !seen.iter().any(|other| other == path) {
            seen.push(path.to_path_buf());
        }
        if hints.entries.len() > MOST_HINTS {
            hints.all();
        }
    }
}

/// What is watched besides the services directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A group: as the services directory.
    Group(PathBuf),
    /// The directory of a module: only some names count.
    Module(PathBuf),
    /// A directory that is to become something: every name counts.
    Incomplete(PathBuf),
    /// The status root, or its lock: whether it stays.
    Root(PathBuf),
}

impl Place {
    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self {
            Place::Group(path) | Place::Module(path) | Place::Incomplete(path) | Place::Root(path) => path,
        }
    }
}

/// The watch over the services directory and the directories in it.
pub struct Watch {
    watcher: RecommendedWatcher,
    near: Near,
    homes: Homes,
    shared: Arc<Shared>,
    nudges: Receiver<()>,
}

impl Watch {
    /// Starts to watch the services directory. In the directories of modules only changes of `relevant` names count.
    ///
    /// # Errors
    /// The kernel gives no watch, in words.
    pub fn new(services: &Path, relevant: &'static [&'static str]) -> Result<Watch, String> {
        let (nudge, nudges) = bounded(1);
        let shared = Arc::new(Shared { root: services.to_path_buf(), hints: Mutex::default(), nudge });
        let near = Near::new(Arc::clone(&shared), relevant).map_err(|error| super::report::plain(&error))?;
        let heard = Arc::clone(&shared);
        let homes = Homes::new(move |damage| heard.hint(|hints| hints.damage.merge(damage)))
            .map_err(|error| super::report::plain(&error))?;
        let heard = Arc::clone(&shared);
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<Event>| hear(&heard, event))
            .map_err(|error| error.to_string())?;
        watcher.watch(services, RecursiveMode::NonRecursive).map_err(|error| error.to_string())?;
        Ok(Watch { watcher, near, homes, shared, nudges })
    }

    /// Watches one more place.
    ///
    /// # Errors
    /// The kernel gives no more watches, in words.
    pub fn add(&mut self, place: Place) -> Result<(), String> {
        match place {
            Place::Group(path) => {
                self.watcher.watch(&path, RecursiveMode::NonRecursive).map_err(|error| error.to_string())
            }
            Place::Module(_) | Place::Incomplete(_) | Place::Root(_) => {
                self.near.add(place).map_err(|errno| super::report::plain(&errno.into()))
            }
        }
    }

    /// Ends the watch over a place; one that is gone has none.
    pub fn remove(&mut self, place: &Place) {
        match place {
            Place::Group(path) => {
                let _ = self.watcher.unwatch(path);
            }
            Place::Module(_) | Place::Incomplete(_) | Place::Root(_) => self.near.remove(place.path()),
        }
    }

    /// The watch over homes.
    #[must_use]
    pub fn homes(&self) -> &Homes {
        &self.homes
    }

    /// Says when there are hints.
    #[must_use]
    pub fn nudges(&self) -> &Receiver<()> {
        &self.nudges
    }

    /// Takes what has been collected.
    #[must_use]
    pub fn take(&self) -> Hints {
        std::mem::take(&mut *self.shared.hints.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Hears what `notify` tells.
fn hear(shared: &Shared, event: notify::Result<Event>) {
    match event {
        Err(_) => shared.hint(Hints::all),
        Ok(event) if event.need_rescan() => shared.hint(Hints::all),
        // Our own looks are accesses. A rename within the directory is told a second time with both names.
        Ok(Event { kind: EventKind::Access(_) | EventKind::Modify(ModifyKind::Name(RenameMode::Both)), .. }) => {}
        Ok(event) => {
            let arrived = matches!(
                event.kind,
                EventKind::Create(CreateKind::File) | EventKind::Modify(ModifyKind::Name(RenameMode::To))
            );
            shared.hint(|hints| event.paths.iter().for_each(|path| shared.changed(hints, path, arrived)));
        }
    }
}

/// An inotify for many directories, with a thread that reads it.
struct Near {
    inotify: Arc<Inotify>,
    places: Arc<Mutex<Places>>,
    /// Readable once the thread is to end.
    end: Arc<OwnedFd>,
}

#[derive(Debug, Default)]
struct Places {
    by_path: HashMap<PathBuf, WatchDescriptor>,
    by_watch: HashMap<WatchDescriptor, Place>,
}

impl Near {
    fn new(shared: Arc<Shared>, relevant: &'static [&'static str]) -> io::Result<Near> {
        let inotify = Arc::new(Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?);
        let places = Arc::new(Mutex::new(Places::default()));
        let end = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let reader = Reader {
            inotify: Arc::clone(&inotify),
            places: Arc::clone(&places),
            end: Arc::clone(&end),
            shared,
            relevant,
        };
        Builder::new().name("inotify".to_owned()).stack_size(128 * 1024).spawn(move || {
            // The first thing that a module makes in its directory tells this thread, which is not to come before it.
            raw::give_way();
            reader.run();
        })?;
        Ok(Near { inotify, places, end })
    }

    fn add(&self, place: Place) -> nix::Result<()> {
        let comes_and_goes = AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_MOVE
            | AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_ATTRIB
            | AddWatchFlags::IN_ONLYDIR;
        let flags = match place {
            // A file that is held open has lost its name with a change of its count of links. Of what comes and goes in the
            // status root nothing is told.
            Place::Root(_) => {
                AddWatchFlags::IN_MODIFY
                    | AddWatchFlags::IN_ATTRIB
                    | AddWatchFlags::IN_DELETE_SELF
                    | AddWatchFlags::IN_MOVE_SELF
            }
            Place::Group(_) | Place::Module(_) | Place::Incomplete(_) => comes_and_goes,
        };
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let watch = self.inotify.add_watch(place.path(), flags)?;
        if let Some(before) = places.by_path.insert(place.path().to_path_buf(), watch)
            && before != watch
        {
            places.by_watch.remove(&before);
            let _ = self.inotify.rm_watch(before);
        }
        places.by_watch.insert(watch, place);
        Ok(())
    }

    fn remove(&self, path: &Path) {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(watch) = places.by_path.remove(path) {
            places.by_watch.remove(&watch);
            // The kernel has removed it already if the directory is gone.
            let _ = self.inotify.rm_watch(watch);
        }
    }
}

impl Drop for Near {
    fn drop(&mut self) {
        let _ = rustix::io::write(&self.end, &1u64.to_ne_bytes());
    }
}

/// The thread of a [`Near`].
struct Reader {
    inotify: Arc<Inotify>,
    places: Arc<Mutex<Places>>,
    end: Arc<OwnedFd>,
    shared: Arc<Shared>,
    relevant: &'static [&'static str],
}

impl Reader {
    fn run(&self) {
        loop {
            let mut polled = [
                PollFd::from_borrowed_fd(self.inotify.as_fd(), PollFlags::IN),
                PollFd::from_borrowed_fd(self.end.as_fd(), PollFlags::IN),
            ];
            if poll(&mut polled, None).is_err() {
                continue;
            }
            if !polled[1].revents().is_empty() {
                return;
            }
            let Ok(events) = self.inotify.read_events() else { continue };
            let places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
            for event in events {
                if event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
                    self.shared.hint(|hints| {
                        hints.all();
                        (hints.root, hints.damage.anywhere) = (true, true);
                    });
                    continue;
                }
                let Some(place) = places.by_watch.get(&event.wd) else { continue };
                let counts = |name: &OsString| self.relevant.iter().any(|other| name == *other);
                match (place, event.name) {
                    (Place::Root(_), Some(_)) => {}
                    (Place::Root(_), None) => self.shared.hint(|hints| hints.root = true),
                    (Place::Module(path), Some(name)) if name == file::SUPERVISE => {
                        let gone = event.mask.intersects(AddWatchFlags::IN_DELETE | AddWatchFlags::IN_MOVE);
                        let below = path.strip_prefix(&self.shared.root).ok();
                        let module = below.and_then(|path| ModuleName::new(path.as_os_str().as_bytes()).ok());
                        if gone && let Some(module) = module {
                            self.shared.hint(|hints| {
                                hints.damage.homes.insert(module);
                            });
                        }
                    }
                    (Place::Module(_), Some(name)) if !counts(&name) => {}
                    (Place::Module(path) | Place::Incomplete(path) | Place::Group(path), name) => {
                        let path = name.map_or_else(|| path.clone(), |name| path.join(name));
                        self.shared.hint(|hints| self.shared.changed(hints, &path, false));
                    }
                }
            }
        }
    }
}
