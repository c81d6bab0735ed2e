//! Hears that others were at the files of homes, and says which homes are to be looked at.
//!
//! Our own work makes events as well, some fifteen for a restart. So they are left to gather, are read by a thread that
//! gets in nobody's way, and what is ours is passed over. Must never look at a file: an event says no more than that
//! somebody may have been there.

use std::collections::{BTreeSet, HashMap};
use std::ffi::CStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::Builder;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};

use super::file;
use super::files::NEW;
use crate::pure::name::ModuleName;
use crate::unix::raw;

/// So long events gather. The kernel keeps 16,384 of them: of a thousand restarts at once none is lost.
const GATHER: Timespec = Timespec { tv_sec: 0, tv_nsec: 250_000_000 };

/// A modification without a close is one too: `truncate` opens nothing, and a writer may stay.
const HEARD: WatchFlags = WatchFlags::MODIFY
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::ONLYDIR);

/// Files whose bytes we wrote,
const RECORDS: [&str; 4] = [file::STATUS, file::STATE, file::PID, file::STAT];
/// and those that have only to be there. Logs are not: they may be taken away, as by logrotate.
const HELD: [&str; 6] = [file::LOCK, file::SVCONTROL, file::CONTROL, file::OK, file::OUTPUT, file::NOTIFY];

/// What others may have damaged.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Damage {
    /// Events were lost: it may be any home.
    pub anywhere: bool,
    /// These homes, and those in them.
    pub homes: BTreeSet<ModuleName>,
}

impl Damage {
    /// Adds what was heard later.
    pub fn merge(&mut self, mut later: Damage) {
        self.anywhere |= later.anywhere;
        self.homes.append(&mut later.homes);
    }

    /// Whether this home is to be looked at.
    #[must_use]
    pub fn concerns(&self, name: &ModuleName) -> bool {
        let within = || std::iter::successors(Some(name.clone()), ModuleName::parent).any(|n| self.homes.contains(&n));
        self.anywhere || (!self.homes.is_empty() && within())
    }
}

/// Which directory of a module is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Its status directory, or that of a group: what moves a group moves every home in it.
    Home,
    /// Its `supervise/`.
    View,
}

/// What is watched, by what the kernel calls it, and by module.
#[derive(Debug, Default)]
struct Watched {
    by_watch: HashMap<i32, ModuleName>,
    by_name: HashMap<ModuleName, [Option<i32>; 2]>,
}

/// What the owner shares with the thread that listens.
#[derive(Debug)]
struct Shared {
    inotify: OwnedFd,
    watched: Mutex<Watched>,
    /// Readable once the thread is to end.
    end: OwnedFd,
}

/// The watch over all homes.
#[derive(Debug)]
pub struct Homes(Arc<Shared>);

impl Homes {
    /// Watches nothing yet; `tell` is called by another thread, some time after damage was done.
    ///
    /// # Errors
    /// No inotify or no thread can be had.
    pub fn new(tell: impl Fn(Damage) + Send + 'static) -> io::Result<Homes> {
        let shared = Arc::new(Shared {
            inotify: inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?,
            watched: Mutex::default(),
            end: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
        });
        let heard = Arc::clone(&shared);
        Builder::new().name("homes".to_owned()).stack_size(128 * 1024).spawn(move || heard.listen(&tell))?;
        Ok(Homes(shared))
    }

    /// Watches a directory of a module; says whether it is another one than before, in which anything may have
    /// happened until now.
    ///
    /// # Errors
    /// It is not there, or the kernel gives no more watches.
    pub fn add(&self, name: &ModuleName, part: Part, path: &Path) -> io::Result<bool> {
        let mut watched = self.0.watched();
        let watch = inotify::add_watch(&self.0.inotify, path, HEARD)?;
        let before = watched.by_name.entry(name.clone()).or_default()[part as usize].replace(watch);
        if before == Some(watch) {
            return Ok(false);
        }
        watched.by_watch.insert(watch, name.clone());
        self.0.forget(&mut watched, before);
        Ok(true)
    }

    /// Watches nothing of a module any more.
    pub fn remove(&self, name: &ModuleName) {
        let mut watched = self.0.watched();
        for watch in watched.by_name.remove(name).into_iter().flatten() {
            self.0.forget(&mut watched, watch);
        }
    }
}

impl Drop for Homes {
    fn drop(&mut self) {
        let _ = rustix::io::write(&self.0.end, &1u64.to_ne_bytes());
    }
}

impl Shared {
    fn watched(&self) -> MutexGuard<'_, Watched> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn forget(&self, watched: &mut Watched, watch: Option<i32>) {
        if let Some(watch) = watch
            && watched.by_watch.remove(&watch).is_some()
        {
            // The kernel has removed it already if the directory is gone.
            let _ = inotify::remove_watch(&self.inotify, watch);
        }
    }

    fn listen(&self, tell: &impl Fn(Damage)) {
        raw::give_way();
        let mut buffer = vec![MaybeUninit::uninit(); 8192];
        loop {
            let mut polled =
                [self.inotify.as_fd(), self.end.as_fd()].map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
            if poll(&mut polled, None).is_err() {
                continue;
            }
            // Nobody waits on the inotify meanwhile: what happens then wakes up nobody.
            if matches!(poll(&mut polled[1..], Some(&GATHER)), Ok(1..)) {
                return;
            }
            let mut batch = Batch::default();
            let mut reader = Reader::new(&self.inotify, &mut buffer);
            while let Ok(event) = reader.next() {
                batch.add(event.wd(), event.events(), event.cookie(), event.file_name().map(CStr::to_bytes));
            }
            let damage = self.damage(batch);
            if damage != Damage::default() {
                tell(damage);
            }
        }
    }

    fn damage(&self, batch: Batch) -> Damage {
        let mut watched = self.watched();
        let homes = batch.damaged.iter().filter_map(|watch| watched.by_watch.get(watch).cloned()).collect();
        for watch in batch.ended {
            watched.by_watch.remove(&watch);
        }
        Damage { anywhere: batch.lost, homes }
    }
}

/// What events say that were read at once.
#[derive(Debug, Default, PartialEq, Eq)]
struct Batch {
    lost: bool,
    damaged: BTreeSet<i32>,
    /// Watches that the kernel has ended.
    ended: Vec<i32>,
    /// Renames of ours whose second half is still to come: the cookie, and the watch.
    renames: Vec<(u32, i32)>,
}

impl Batch {
    fn add(&mut self, watch: i32, flags: ReadFlags, cookie: u32, name: Option<&[u8]>) {
        if flags.contains(ReadFlags::QUEUE_OVERFLOW) {
            self.lost = true;
        } else if flags.contains(ReadFlags::IGNORED) {
            self.ended.push(watch);
        } else if self.is_damage(watch, flags, cookie, name) {
            self.damaged.insert(watch);
        }
    }

    fn is_damage(&mut self, watch: i32, flags: ReadFlags, cookie: u32, name: Option<&[u8]>) -> bool {
        // The directory itself: it is gone, or can be written again.
        let Some(name) = name else { return true };
        let is_of = |names: &[&str]| names.iter().any(|other| other.as_bytes() == name);
        if flags.contains(ReadFlags::MOVED_FROM) && name.ends_with(NEW.as_bytes()) {
            self.renames.push((cookie, watch));
        }
        if flags.contains(ReadFlags::MOVED_TO)
            // Both halves stand together, but for those of other threads between them.
            && let Some(index) = self.renames.iter().rposition(|rename| *rename == (cookie, watch))
        {
            self.renames.swap_remove(index);
            return false;
        }
        if flags.intersects(ReadFlags::DELETE | ReadFlags::MOVED_FROM | ReadFlags::MOVED_TO) {
            is_of(&RECORDS) || is_of(&HELD)
        } else {
            flags.contains(ReadFlags::MODIFY) && is_of(&RECORDS)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: [i32; 0] = [];

    type Told = (i32, ReadFlags, u32, Option<&'static str>);

    /// The watches that these events make somebody look at.
    fn damaged(events: &[Told]) -> Vec<i32> {
        let mut batch = Batch::default();
        for (watch, flags, cookie, name) in events {
            batch.add(*watch, *flags, *cookie, name.map(str::as_bytes));
        }
        batch.damaged.into_iter().collect()
    }

    /// What the kernel tells of a record that is replaced by a rename.
    fn replaced(watch: i32, cookie: u32) -> [Told; 3] {
        [
            (watch, ReadFlags::MODIFY, 0, Some("status.new")),
            (watch, ReadFlags::MOVED_FROM, cookie, Some("status.new")),
            (watch, ReadFlags::MOVED_TO, cookie, Some("status")),
        ]
    }

    #[test]
    fn own_work_is_no_damage() {
        assert_eq!(damaged(&replaced(1, 7)), NONE);
        let [modified, from, to] = replaced(1, 7);
        let [_, other_from, other_to] = replaced(2, 8);
        assert_eq!(damaged(&[modified, from, other_from, to, other_to]), NONE, "two threads at once");
        for name in [file::LOG, file::LOG_WF, file::SPAWNED, file::SVCONTROL, file::LOCK] {
            assert_eq!(damaged(&[(1, ReadFlags::MODIFY, 0, Some(name))]), NONE, "{name} is written");
        }
        let rotated = [
            (1, ReadFlags::MOVED_FROM, 7, Some("supervise.log")),
            (1, ReadFlags::MOVED_TO, 7, Some("supervise.log.old")),
        ];
        assert_eq!(damaged(&rotated), NONE);
    }

    #[test]
    fn what_others_do_is_damage() {
        for name in RECORDS.into_iter().chain(HELD) {
            for flags in [ReadFlags::DELETE, ReadFlags::MOVED_FROM, ReadFlags::MOVED_TO] {
                assert_eq!(damaged(&[(1, flags, 7, Some(name))]), [1], "{name}: {flags:?}");
            }
        }
        for name in RECORDS {
            assert_eq!(damaged(&[(1, ReadFlags::MODIFY, 0, Some(name))]), [1], "{name} is written");
        }
        for flags in [ReadFlags::DELETE_SELF, ReadFlags::MOVE_SELF, ReadFlags::UNMOUNT, ReadFlags::ATTRIB] {
            assert_eq!(damaged(&[(1, flags, 0, None)]), [1]);
        }
    }

    #[test]
    fn damage_between_own_work_is_seen() {
        let [modified, from, to] = replaced(1, 7);
        assert_eq!(damaged(&[modified, from, (1, ReadFlags::MOVED_TO, 8, Some("status")), to]), [1]);
        // Somebody takes what is new to another home.
        assert_eq!(damaged(&[modified, from, (2, ReadFlags::MOVED_TO, 7, Some("status"))]), [2]);
        // One rename is ours once.
        assert_eq!(damaged(&[modified, from, to, to]), [1]);
    }

    #[test]
    fn lost_events_and_ended_watches_are_told() {
        let mut batch = Batch::default();
        batch.add(-1, ReadFlags::QUEUE_OVERFLOW, 0, None);
        batch.add(3, ReadFlags::IGNORED, 0, None);
        assert_eq!(batch, Batch { lost: true, ended: vec![3], ..Batch::default() });
    }
}
