//! The logger of a tree: one process that reads what all modules say, and writes it where each of them asks for.
//!
//! It is supervised as a module, and may be killed, stopped or replaced at any time. Must never know more of a module than
//! its route and its pipe.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ffi::OsString;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::thread::Builder;
use std::time::Duration;

use crossbeam_channel::bounded;

use super::relief::Relief;
use super::tap::Tap;
use super::worker::{Mail, Worker};
use crate::pure::log::{Full, Route, To};
use crate::pure::name::{ModuleName, unescaped};
use crate::unix::inbox::{self, Mailbox};
use crate::unix::listener::{Heard, Listener};
use crate::unix::log::{Nudge, Nudges, Spools, identity, output, routed, unremembered};
use crate::unix::raw;
use crate::unix::report::{line, plain};

/// What has a thread of its own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    /// svtree's own output.
    Shown,
    /// A disk.
    Device(u64),
    /// A directory that a module names, and which may be anywhere: also on a disk that does not answer.
    Own(String),
}

/// A disk says within this time which one it is.
const ANSWER: Duration = Duration::from_millis(500);

/// and another one within this, while that one has not.
const SOON: Duration = Duration::from_millis(20);

/// Told to finish, they are waited for so long.
const FINISH: Duration = Duration::from_secs(8);

/// Logs the tree with this status root until TERM.
///
/// # Errors
/// It cannot hear of modules.
pub fn run(status: &Path) -> Result<(), String> {
    // Each module takes five descriptors.
    raw::prepare_process();
    let signals = Listener::new().map_err(|error| format!("listening for signals: {}", plain(&error)))?;
    let failed = |error: io::Error| format!("{}: {}", status.display(), plain(&error));
    let nudges = Nudges::open(status).map_err(failed)?;
    let spools = Arc::new(Spools::open(status).map_err(failed)?);
    Logger {
        status: status.to_owned(),
        spools,
        nudges,
        signals,
        workers: BTreeMap::new(),
        known: BTreeMap::new(),
        unanswered: Arc::default(),
    }
    .run();
    Ok(())
}

/// A thread.
struct Hand {
    mailbox: Mailbox<Mail>,
    relief: Arc<Relief>,
}

/// Where a module is logged, and what is read of it.
struct Known {
    route: Route,
    place: Place,
    tap: Weak<Tap>,
}

struct Logger {
    status: PathBuf,
    spools: Arc<Spools>,
    nudges: Nudges,
    signals: Listener,
    workers: BTreeMap<Place, Hand>,
    known: BTreeMap<ModuleName, Known>,
    /// So many disks were asked which they are and have not answered.
    unanswered: Arc<AtomicUsize>,
}

impl Logger {
    fn run(mut self) {
        for name in routed(&self.status) {
            self.look_at(name);
        }
        loop {
            for heard in self.signals.wait(Some(self.nudges.as_fd()), None) {
                match heard {
                    Heard::End => return self.finish(),
                    Heard::Rotate => self.workers.values().for_each(|hand| hand.mailbox.send(Mail::Rotate)),
                }
            }
            let mut last = None;
            for nudge in self.nudges.take() {
                match nudge {
                    // Told twice in a row, it is looked at once.
                    Nudge::Look(name) if last.as_ref() == Some(&name) => {}
                    Nudge::Look(name) => {
                        last = Some(name.clone());
                        self.look_at(name);
                    }
                    Nudge::Died(name, pid, at, reach) => {
                        let hand = self.known.get(&name).and_then(|known| self.workers.get(&known.place));
                        if let Some(hand) = hand {
                            hand.mailbox.send(Mail::Died(name, pid, at, reach));
                        }
                    }
                }
            }
        }
    }

    /// Reads what the module says from now on, where it has to say something.
    fn look_at(&mut self, name: ModuleName) {
        let Some((route, pipe)) = output(&self.status, &name) else { return };
        let before = self.known.get(&name);
        let known = before.filter(|known| (known.route.to, &known.route.directory) == (route.to, &route.directory));
        let place = known.map_or_else(|| self.place(&name, &route), |known| known.place.clone());
        if let Some(before) = before.filter(|before| before.place != place)
            && let Some(hand) = self.workers.get(&before.place)
        {
            hand.mailbox.send(Mail::Close(name.clone()));
        }
        // What was dropped of a pipe is known to one tap.
        let tap = before.and_then(|before| before.tap.upgrade());
        let tap = tap.filter(|tap| Some(tap.identity()) == identity(pipe.as_fd()));
        let tap = tap.unwrap_or_else(|| Arc::new(Tap::new(pipe)));
        tap.drop_if_late(route.full == Full::Drop && route.to == To::File);
        let unremembered = unremembered(&self.status, &name);
        match self.hand(&place) {
            Ok(hand) => {
                if route.full == Full::Drop
                    && let Err(error) = hand.relief.add(&tap)
                {
                    line(&format!("logging {name}: starting a thread that drops lines: {}", plain(&error)));
                }
                let known = Known { route: route.clone(), place, tap: Arc::downgrade(&tap) };
                hand.mailbox.send(Mail::Open(name.clone(), route, tap));
                if let Some((pid, at, reach)) = unremembered {
                    hand.mailbox.send(Mail::Died(name.clone(), pid, at, reach));
                }
                self.known.insert(name, known);
            }
            Err(error) => line(&format!("logging {name}: starting a thread: {}", plain(&error))),
        }
    }

    fn hand(&mut self, place: &Place) -> io::Result<&Hand> {
        match self.workers.entry(place.clone()) {
            Entry::Occupied(entry) => Ok(entry.into_mut()),
            Entry::Vacant(entry) => {
                let (mailbox, inbox) = inbox::pair()?;
                let relief = Arc::default();
                let worker = Worker::new(self.status.clone(), Arc::clone(&self.spools), Arc::clone(&relief))?;
                let name = match place {
                    Place::Shown => "shown",
                    Place::Device(_) | Place::Own(_) => "disk",
                };
                Builder::new().name(name.to_owned()).stack_size(256 * 1024).spawn(move || worker.run(&inbox))?;
                Ok(entry.insert(Hand { mailbox, relief }))
            }
        }
    }

    /// Where a route leads. A disk that does not answer may be anywhere below the log root, so it is asked by another
    /// thread, which may wait for ever.
    fn place(&self, name: &ModuleName, route: &Route) -> Place {
        let own = Place::Own(route.directory.clone());
        match route.to {
            To::Inherit => return Place::Shown,
            To::File | To::None if route.own => return own,
            To::File | To::None => {}
        }
        let (answer, answered) = bounded(1);
        let (directory, unanswered) = (route.directory.clone(), Arc::clone(&self.unanswered));
        let patience = if unanswered.fetch_add(1, Ordering::Relaxed) == 0 { ANSWER } else { SOON };
        let asked = Builder::new().name("asks".to_owned()).stack_size(64 * 1024).spawn(move || {
            let _ = answer.send(device(&directory));
            unanswered.fetch_sub(1, Ordering::Relaxed);
        });
        let what = match asked.map(|_| answered.recv_timeout(patience)) {
            Ok(Ok(Ok(device))) => return Place::Device(device),
            Ok(Ok(Err(error))) => plain(&error),
            Ok(Err(_)) => "the disk does not answer".to_owned(),
            Err(error) => plain(&error),
        };
        line(&format!("logging {name}: {}: {what}", route.directory));
        // A thread of its own tries on.
        own
    }

    /// All threads at once: one whose disk does not answer holds up no other.
    fn finish(&self) {
        let (done, finished) = bounded(self.workers.len());
        self.workers.values().for_each(|hand| hand.mailbox.send(Mail::Finish(done.clone())));
        drop(done);
        let deadline = crate::unix::clock::moment().plus(FINISH);
        for _ in &self.workers {
            if finished.recv_timeout(deadline.since(crate::unix::clock::moment())).is_err() {
                return;
            }
        }
    }
}

/// The disk that a directory is on, which is made.
fn device(directory: &str) -> io::Result<u64> {
    let path = PathBuf::from(OsString::from_vec(unescaped(directory)));
    DirBuilder::new().recursive(true).mode(0o750).create(&path)?;
    Ok(fs::metadata(&path)?.dev())
}
