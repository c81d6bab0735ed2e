//! File-system events to nudges: "look at these entries again". The contents of an event are thrown away, but for one
//! thing: that an entry arrived whole, by a rename or as a link.
//!
//! Must never be believed: the look is the truth.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crossbeam_channel::{Receiver, Sender, bounded};
use notify::event::{CreateKind, ModifyKind, RenameMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};

/// With more names than this, everything is looked at.
const MOST_HINTS: usize = 1000;

/// What to look at.
#[derive(Debug, Default)]
pub struct Hints {
    /// Everything: events were lost, or the services directory itself changed.
    pub everything: bool,
    /// These entries of the services directory.
    pub entries: BTreeMap<OsString, Vec<PathBuf>>,
}

impl Hints {
    /// Whether there is anything to look at.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.everything && self.entries.is_empty()
    }

    fn all(&mut self) {
        self.everything = true;
        self.entries.clear();
    }
}

/// What the watcher's thread and its owner share.
#[derive(Debug, Default)]
struct Shared {
    hints: Hints,
    /// The directories of modules: a program may write what it likes there, and only these names matter.
    modules: BTreeSet<PathBuf>,
}

/// The watch over the services directory and the directories in it.
pub struct Watch {
    watcher: RecommendedWatcher,
    shared: Arc<Mutex<Shared>>,
    nudges: Receiver<()>,
}

impl Watch {
    /// Starts to watch the services directory. In the directories of modules only changes of `relevant` names count.
    ///
    /// # Errors
    /// The kernel gives no watch, in words.
    pub fn new(services: &Path, relevant: &'static [&'static str]) -> Result<Watch, String> {
        let shared = Arc::new(Mutex::new(Shared::default()));
        let (nudge, nudges) = bounded(1);
        let root = services.to_path_buf();
        let collected = Arc::clone(&shared);
        let handler = move |event: notify::Result<Event>| collect(&root, relevant, event, &collected, &nudge);
        let mut watcher = notify::recommended_watcher(handler).map_err(|error| error.to_string())?;
        watcher.watch(services, RecursiveMode::NonRecursive).map_err(|error| error.to_string())?;
        Ok(Watch { watcher, shared, nudges })
    }

    /// Watches one more directory below the services directory: of a `module`, or one in which every name counts.
    ///
    /// # Errors
    /// The kernel gives no more watches.
    pub fn add(&mut self, directory: &Path, module: bool) -> Result<(), String> {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        if module {
            shared.modules.insert(directory.to_path_buf());
        } else {
            shared.modules.remove(directory);
        }
        drop(shared);
        self.watcher.watch(directory, RecursiveMode::NonRecursive).map_err(|error| error.to_string())
    }

    /// Ends the watch over a directory; one that is gone has none.
    pub fn remove(&mut self, directory: &Path) {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner).modules.remove(directory);
        let _ = self.watcher.unwatch(directory);
    }

    /// Says when there are hints.
    #[must_use]
    pub fn nudges(&self) -> &Receiver<()> {
        &self.nudges
    }

    /// Takes what has been collected.
    #[must_use]
    pub fn take(&self) -> Hints {
        std::mem::take(&mut self.shared.lock().unwrap_or_else(PoisonError::into_inner).hints)
    }
}

fn collect(root: &Path, relevant: &[&str], event: notify::Result<Event>, shared: &Mutex<Shared>, nudge: &Sender<()>) {
    let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
    let Shared { hints, modules } = &mut *shared;
    match event {
        Err(_) => hints.all(),
        Ok(event) if event.need_rescan() => hints.all(),
        // Our own looks are accesses.
        Ok(Event { kind: EventKind::Access(_), .. }) => return,
        Ok(event) => {
            let arrived = matches!(
                event.kind,
                EventKind::Create(CreateKind::File) | EventKind::Modify(ModifyKind::Name(RenameMode::To))
            );
            // A rename within the directory is told a second time with both names.
            let known_already = matches!(event.kind, EventKind::Modify(ModifyKind::Name(RenameMode::Both)));
            if known_already {
                return;
            }
            for path in &event.paths {
                let in_module = path.parent().is_some_and(|directory| modules.contains(directory));
                let counts = path.file_name().is_some_and(|name| relevant.iter().any(|other| name == *other));
                if !in_module || counts {
                    hint(hints, root, path, arrived);
                }
            }
        }
    }
    if !hints.is_empty() {
        // Full: the parent has been nudged and has not looked yet.
        let _ = nudge.try_send(());
    }
}

fn hint(hints: &mut Hints, root: &Path, path: &Path, arrived: bool) {
    let Ok(below) = path.strip_prefix(root) else {
        return hints.all();
    };
    let Some(top) = below.components().next() else {
        return hints.all();
    };
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
