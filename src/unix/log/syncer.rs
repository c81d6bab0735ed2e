//! Files of logs that have ended, put on their disk by a thread of its own.
//!
//! It knows them by their names: one that has been removed meanwhile takes no room, and nothing is written for it. Must
//! never hold up who writes the next one.

use std::os::fd::OwnedFd;
use std::sync::{Arc, OnceLock};
use std::thread::Builder;

use crossbeam_channel::{Receiver, Sender, unbounded};
use rustix::fs::{Mode, OFlags, fsync, openat};

/// The files of one disk; its clones are the same one.
#[derive(Clone, Debug, Default)]
pub struct Syncer(Arc<OnceLock<Option<Sender<Ended>>>>);

#[derive(Debug)]
struct Ended {
    directory: Arc<OwnedFd>,
    name: String,
}

impl Syncer {
    /// Puts the file of this name, and the name, on the disk.
    pub fn sync(&self, directory: &Arc<OwnedFd>, name: String) {
        // Without a thread more the kernel does it, later.
        let sender = self.0.get_or_init(|| {
            let (sender, receiver) = unbounded();
            let started = Builder::new().name("syncs".to_owned()).stack_size(64 * 1024).spawn(move || run(&receiver));
            started.is_ok().then_some(sender)
        });
        if let Some(sender) = sender {
            let _ = sender.send(Ended { directory: Arc::clone(directory), name });
        }
    }
}

fn run(receiver: &Receiver<Ended>) {
    for Ended { directory, name } in receiver {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        if let Ok(file) = openat(&*directory, name, flags, Mode::empty()) {
            // What fails here is a disk that fails: who writes there next says so.
            let _ = fsync(&file);
            let _ = fsync(&*directory);
        }
    }
}
