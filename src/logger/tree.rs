//! The logger of a tree: one process that reads what all modules say, and writes it where each of them asks for.
//!
//! It is supervised as a module, and may be killed, stopped or replaced at any time. Must never know more of a module than
//! its route and its pipe.

use std::collections::BTreeMap;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::Builder;
use std::time::Duration;

use crossbeam_channel::bounded;

use super::worker::{Mail, Worker};
use crate::pure::log::{Route, To};
use crate::pure::name::{ModuleName, unescaped};
use crate::unix::inbox::{self, Mailbox};
use crate::unix::listener::{Heard, Listener};
use crate::unix::log::{Nudge, Nudges, Spools, output, routed, unremembered};
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
    Logger { status: status.to_owned(), spools, nudges, signals, workers: BTreeMap::new(), places: BTreeMap::new() }
        .run();
    Ok(())
}

struct Logger {
    status: PathBuf,
    spools: Arc<Spools>,
    nudges: Nudges,
    signals: Listener,
    workers: BTreeMap<Place, Mailbox<Mail>>,
    /// Where each module is logged.
    places: BTreeMap<ModuleName, Place>,
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
                    Heard::Rotate => self.workers.values().for_each(|worker| worker.send(Mail::Rotate)),
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
                        let worker = self.places.get(&name).and_then(|place| self.workers.get(place));
                        if let Some(worker) = worker {
                            worker.send(Mail::Died(name, pid, at, reach));
                        }
                    }
                }
            }
        }
    }

    /// Reads what the module says from now on, where it has to say something.
    fn look_at(&mut self, name: ModuleName) {
        let Some((route, pipe)) = output(&self.status, &name) else { return };
        let place = match place(&route) {
            Ok(place) => place,
            Err(error) => {
                line(&format!("logging {name}: {}", plain(&error)));
                // A thread of its own tries on.
                Place::Own(route.directory.clone())
            }
        };
        if let Some(before) = self.places.get(&name)
            && *before != place
            && let Some(worker) = self.workers.get(before)
        {
            worker.send(Mail::Close(name.clone()));
        }
        match self.worker(&place) {
            Ok(worker) => {
                worker.send(Mail::Open(name.clone(), route, pipe));
                if let Some((pid, at, reach)) = unremembered(&self.status, &name) {
                    worker.send(Mail::Died(name.clone(), pid, at, reach));
                }
                self.places.insert(name, place);
            }
            Err(error) => line(&format!("logging {name}: starting a thread: {}", plain(&error))),
        }
    }

    fn worker(&mut self, place: &Place) -> io::Result<Mailbox<Mail>> {
        if let Some(worker) = self.workers.get(place) {
            return Ok(worker.clone());
        }
        let (mailbox, inbox) = inbox::pair()?;
        let worker = Worker::new(self.status.clone(), Arc::clone(&self.spools))?;
        let name = match place {
            Place::Shown => "shown",
            Place::Device(_) | Place::Own(_) => "disk",
        };
        Builder::new().name(name.to_owned()).stack_size(256 * 1024).spawn(move || worker.run(&inbox))?;
        self.workers.insert(place.clone(), mailbox.clone());
        Ok(mailbox)
    }

    /// All threads at once: one whose disk does not answer holds up no other.
    fn finish(&self) {
        let (done, finished) = bounded(self.workers.len());
        self.workers.values().for_each(|worker| worker.send(Mail::Finish(done.clone())));
        drop(done);
        let deadline = crate::unix::clock::moment().plus(FINISH);
        for _ in &self.workers {
            if finished.recv_timeout(deadline.since(crate::unix::clock::moment())).is_err() {
                return;
            }
        }
    }
}

/// Where a route leads; its directory is made.
fn place(route: &Route) -> io::Result<Place> {
    match route.to {
        To::Inherit => Ok(Place::Shown),
        // It may be on a disk that does not answer.
        To::File | To::None if route.own => Ok(Place::Own(route.directory.clone())),
        To::File | To::None => {
            let path = PathBuf::from(std::ffi::OsString::from_vec(unescaped(&route.directory)));
            DirBuilder::new().recursive(true).mode(0o750).create(&path)?;
            Ok(Place::Device(std::fs::metadata(&path)?.dev()))
        }
    }
}
