//! The status root: its lock, and the status directories in it that no supervise thread holds.
//!
//! Must never touch what is not ours: the root may have been named by mistake.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, openat, statat};
use rustix::io::Errno;

use super::files::{DIRECTORY, DISPLACED, LOCK_PATIENCE, NEW, lock, make_directories, replace, stands};
use super::{NotOpened, OWN, file};
use crate::pure::handover::Answer;
use crate::pure::log::HEADER;
use crate::pure::name::{ModuleName, escaped};
use crate::pure::state::State;

/// The lock of a status root, which one svscan holds.
#[derive(Debug)]
pub struct Root {
    root: PathBuf,
    lock: OwnedFd,
}

impl Root {
    /// Makes the status root if it is missing, and takes its lock.
    ///
    /// # Errors
    /// Another svscan has it, or it cannot be made.
    pub fn open(root: &Path) -> Result<Root, NotOpened> {
        let root = Root { root: root.to_path_buf(), lock: take(root, LOCK_PATIENCE)? };
        root.sign()?;
        // What became of the upgrade of a predecessor that died is no answer to anybody who asks this one.
        let _ = fs::remove_file(root.root.join(file::UPGRADE));
        Ok(root)
    }

    /// The root that a predecessor hands down, locked.
    #[must_use]
    pub fn handed_down(root: &Path, lock: OwnedFd) -> Root {
        Root { root: root.to_path_buf(), lock }
    }

    /// The descriptor of the lock, which stays its own.
    #[must_use]
    pub fn number(&self) -> RawFd {
        self.lock.as_raw_fd()
    }

    /// Writes what became of an upgrade.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn answer(&self, answer: &Answer) -> Result<(), NotOpened> {
        let path = self.root.join(file::UPGRADE);
        replace(rustix::fs::CWD, &path, &answer.encode()).map_err(|error| NotOpened::Failed(path, error))
    }

    /// The status root itself, and its lock file: what is to be watched.
    #[must_use]
    pub fn paths(&self) -> [PathBuf; 2] {
        [self.root.clone(), self.root.join(file::ROOT_LOCK)]
    }

    /// Makes the status root and its lock again if others removed, moved or changed them; says whether there was
    /// anything. The old lock is held until there is another one: as long as its file has a name somewhere, whoever
    /// moves it back finds it locked.
    ///
    /// # Errors
    /// Another svscan has the lock by now, or it cannot be made.
    pub fn heal(&mut self) -> Result<bool, NotOpened> {
        let taken = !stands(rustix::fs::CWD, &self.root.join(file::ROOT_LOCK), self.lock.as_fd());
        if taken {
            // Without patience: the parent waits for nobody, and comes back.
            self.lock = take(&self.root, Duration::ZERO)?;
        }
        Ok(self.sign()? || taken)
    }

    /// Writes our pid into the lock file; says whether it was not there.
    fn sign(&self) -> Result<bool, NotOpened> {
        let pid = format!("{}\n", std::process::id());
        let sign = || {
            let mut bytes = [0; 16];
            let length = rustix::io::pread(&self.lock, &mut bytes, 0)?;
            if bytes.get(..length) == Some(pid.as_bytes()) {
                return Ok(false);
            }
            rustix::fs::ftruncate(&self.lock, 0)?;
            rustix::io::pwrite(&self.lock, pid.as_bytes(), 0)?;
            Ok(true)
        };
        sign().map_err(|errno: Errno| NotOpened::Failed(self.root.join(file::ROOT_LOCK), errno.into()))
    }

    /// Removes the lock file of a root that nothing is left in.
    pub fn close(self) {
        let _ = fs::remove_file(self.root.join(file::UPGRADE));
        let path = self.root.join(file::ROOT_LOCK);
        // While it is still locked: whoever waits for it finds that it is not there any more, and makes its own. One
        // that another svscan took when ours was gone is not ours to remove.
        if stands(rustix::fs::CWD, &path, self.lock.as_fd()) {
            let _ = fs::remove_file(path);
        }
    }
}

/// Makes the status root if it is missing, and takes its lock.
fn take(root: &Path, patience: Duration) -> Result<OwnedFd, NotOpened> {
    let failed = |error: io::Error| NotOpened::Failed(root.to_path_buf(), error);
    fs::DirBuilder::new().mode(0o755).recursive(true).create(root).map_err(failed)?;
    let directory = openat(rustix::fs::CWD, root, DIRECTORY, Mode::empty()).map_err(|errno| failed(errno.into()))?;
    lock(directory.as_fd(), Path::new(file::ROOT_LOCK), root, patience)
}

/// Writes the `state.json` of a directory that is no module (yet): all its status directory holds.
///
/// # Errors
/// It cannot be written.
pub fn publish_state(root: &Path, name: &ModuleName, state: &[u8]) -> Result<(), NotOpened> {
    publish(root, name, file::STATE, state)
}

/// Writes the `.group.json` of a group.
///
/// # Errors
/// It cannot be written.
pub fn publish_group(root: &Path, name: &ModuleName, record: &[u8]) -> Result<(), NotOpened> {
    publish(root, name, file::GROUP, record)
}

fn publish(root: &Path, name: &ModuleName, file: &str, contents: &[u8]) -> Result<(), NotOpened> {
    let path = root.join(name.as_os_str());
    let failed = |error: io::Error| NotOpened::Failed(path.clone(), error);
    make_directories(root, name).map_err(failed)?;
    let directory = openat(rustix::fs::CWD, &path, DIRECTORY | OFlags::NOFOLLOW, Mode::empty())
        .map_err(|errno| failed(errno.into()))?;
    replace(directory.as_fd(), Path::new(file), contents).map_err(failed)
}

/// Takes back what [`publish_state`] wrote.
pub fn unpublish_state(root: &Path, name: &ModuleName) {
    // What cannot be removed is replaced by the next one that stands there.
    let _ = fs::remove_file(root.join(name.as_os_str()).join(file::STATE));
    remove_empty(root, name.clone());
}

/// Takes back what [`publish_group`] wrote.
pub fn unpublish_group(root: &Path, name: &ModuleName) {
    let _ = fs::remove_file(root.join(name.as_os_str()).join(file::GROUP));
    remove_empty(root, name.clone());
}

/// Whether a module has, or had until svtree died, a FIFO to a logger.
#[must_use]
pub fn is_logged(root: &Path, name: &ModuleName) -> bool {
    fs::symlink_metadata(root.join(name.as_os_str()).join(file::OUTPUT)).is_ok_and(|file| file.file_type().is_fifo())
}

/// Removes the directory of spools, if nothing is left in them: what is left is written by the next logger.
pub fn remove_spools(root: &Path) {
    let spools = root.join(file::SPOOLS);
    for entry in fs::read_dir(&spools).into_iter().flatten().flatten() {
        if entry.metadata().is_ok_and(|spool| spool.len() <= HEADER as u64) {
            let _ = fs::remove_file(entry.path());
        }
    }
    let _ = fs::remove_dir(&spools);
}

/// Removes a status directory, but for directories of other modules in it, and the directories of groups above it
/// that are empty then.
///
/// # Errors
/// Something in it cannot be removed.
pub fn remove(root: &Path, name: &ModuleName) -> Result<(), NotOpened> {
    let path = root.join(name.as_os_str());
    let failed = |error: io::Error| NotOpened::Failed(path.clone(), error);
    let directory = match openat(rustix::fs::CWD, &path, DIRECTORY | OFlags::NOFOLLOW, Mode::empty()) {
        Ok(directory) => directory,
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(()),
        Err(errno) => return Err(failed(errno.into())),
    };
    // Whoever holds the lock uses the rest.
    let _lock = match statat(&directory, file::LOCK, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile => {
            Some(lock(directory.as_fd(), Path::new(file::LOCK), &path, Duration::ZERO)?)
        }
        // A module of a group may be called so.
        Ok(_) | Err(_) => None,
    };
    for entry in fs::read_dir(&path).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let is_read = || entry.file_name() == file::OUTPUT && path.join(file::LOGGER).is_dir();
        let own = is_ours(&entry.file_name()) && !is_read();
        let result = match entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            true if own && is_displaced(&entry.file_name()) => fs::remove_dir_all(entry.path()),
            // A module of a group may have the name of a file of ours.
            true => Ok(()),
            false if own => fs::remove_file(entry.path()),
            false => Ok(()),
        };
        match result {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            Ok(()) | Err(_) => {}
        }
    }
    if let Some(home) = name.logged().map(|module| root.join(module.as_os_str()))
        && !home.join(file::LOCK).exists()
    {
        // Its module left that to it.
        let _ = fs::remove_file(home.join(file::OUTPUT));
    }
    remove_empty(root, name.clone());
    Ok(())
}

/// Whether a name in a status directory is one of a file of svtree.
fn is_ours(name: &OsStr) -> bool {
    let name = name.as_encoded_bytes();
    OWN.iter()
        .filter_map(|own| name.strip_prefix(own.as_bytes()))
        .any(|rest| [b"".as_slice(), NEW.as_bytes(), b".old"].contains(&rest) || rest.starts_with(DISPLACED.as_bytes()))
}

fn is_displaced(name: &OsStr) -> bool {
    OWN.iter().any(|own| {
        name.as_encoded_bytes().strip_prefix(own.as_bytes()).is_some_and(|rest| rest.starts_with(DISPLACED.as_bytes()))
    })
}

/// Whether a directory was made by the supervision of the module of that name: its `state.json` says so, or there is
/// none yet, and nothing but a FIFO and other files of ours, or the lock, which comes first and goes last.
fn is_left(path: &Path, name: &ModuleName, names: &[OsString]) -> bool {
    match fs::read(path.join(file::STATE)) {
        Ok(bytes) => State::decode(&bytes).is_ok_and(|state| {
            let alone = state.record.is_some_and(|record| record.alone);
            !alone && state.name == escaped(name.as_bytes())
        }),
        Err(_) => {
            let is = |name: &str, is: fn(fs::Metadata) -> bool| fs::symlink_metadata(path.join(name)).is_ok_and(is);
            names.iter().all(|name| is_ours(name))
                && (is(file::GROUP, |file| file.is_file())
                    || is(file::SVCONTROL, |file| file.file_type().is_fifo())
                    || (names.len() == 1 && is(file::LOCK, |file| file.is_file() && file.len() == 0)))
        }
    }
}

/// Every directory below the status root that a module's supervision has left something in, or nothing: it was killed
/// before its first file or after the last one.
///
/// # Errors
/// The root cannot be read.
pub fn left(root: &Path) -> io::Result<Vec<ModuleName>> {
    let mut found = Vec::new();
    // A stack of our own: no depth can overflow the thread's.
    let mut todo: Vec<Option<ModuleName>> = vec![None];
    while let Some(below) = todo.pop() {
        let path = below.as_ref().map_or_else(|| root.to_path_buf(), |name| root.join(name.as_os_str()));
        let entries = match fs::read_dir(&path) {
            Ok(entries) => entries,
            Err(error) if below.is_none() => return Err(error),
            Err(_) => continue,
        };
        let (mut names, mut is_empty) = (Vec::new(), true);
        for entry in entries.flatten() {
            is_empty = false;
            let name = entry.file_name();
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                let inner = match &below {
                    None => ModuleName::new(name.as_bytes()),
                    Some(outer) => outer.join(name.as_bytes()),
                };
                todo.extend(inner.ok().map(Some));
            } else {
                names.push(name);
            }
        }
        if let Some(name) = below
            && (is_empty || (names.iter().any(|name| is_ours(name)) && is_left(&path, &name, &names)))
        {
            found.push(name);
        }
    }
    Ok(found)
}

/// Removes a directory of a module that is empty, and those of groups above it that are then; says whether it could be.
pub(super) fn remove_empty(root: &Path, name: ModuleName) -> bool {
    let mut removed = false;
    let mut name = Some(name);
    while let Some(empty) = name {
        if fs::remove_dir(root.join(empty.as_os_str())).is_err() {
            break;
        }
        removed = true;
        name = empty.parent();
    }
    removed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root() -> (tempfile::TempDir, Root, PathBuf) {
        let directory = tempfile::tempdir().expect("a directory");
        let root = Root::open(&directory.path().join("status")).expect("the root");
        let [_, lock] = root.paths();
        (directory, root, lock)
    }

    fn is_ours(lock: &Path) -> bool {
        let pid = std::process::id();
        fs::read_to_string(lock).is_ok_and(|text| text == format!("{pid}\n"))
            && fs::File::open(lock).is_ok_and(|file| file.try_lock().is_err())
    }

    #[test]
    fn a_root_that_is_whole_is_left_as_it_is() {
        let (_directory, mut root, lock) = root();
        assert!(is_ours(&lock));
        assert!(!root.heal().expect("healed"));
    }

    #[test]
    fn a_damaged_root_is_whole_after_one_look() {
        let damages: [fn(&Path); 5] = [
            |lock| fs::remove_file(lock).expect("removed"),
            |lock| fs::write(lock, "").expect("truncated"),
            |lock| fs::write(lock, "1234567890123456789\n").expect("overwritten"),
            |lock| {
                let root = lock.parent().expect("it");
                fs::rename(root, root.with_extension("away")).expect("moved");
            },
            |lock| fs::remove_dir_all(lock.parent().expect("it")).expect("removed"),
        ];
        for damage in damages {
            let (_directory, mut root, lock) = root();
            damage(&lock);
            assert!(root.heal().expect("healed"));
            assert!(is_ours(&lock));
            assert!(!root.heal().expect("healed"));
        }
    }

    #[test]
    fn a_directory_that_was_hardly_begun_was_left_too() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = |name: &str| directory.path().join(name);
        for name in ["group/empty", "locked", "others"] {
            fs::create_dir_all(path(name)).expect("a directory");
        }
        fs::write(path("locked/lock"), "").expect("a file");
        fs::write(path("others/lock"), "somebody's").expect("a file");
        let mut found = left(directory.path()).expect("read");
        found.sort();
        let name = |name: &str| ModuleName::new(name.as_bytes()).expect("a name");
        assert_eq!(found, [name("group/empty"), name("locked")]);
        remove(directory.path(), &name("group/empty")).expect("removed");
        assert!(!path("group").exists() && path("others").exists());
    }

    #[test]
    fn a_lock_that_another_has_meanwhile_is_neither_taken_nor_removed() {
        let (_directory, mut root, lock) = root();
        fs::remove_file(&lock).expect("removed");
        let other = fs::File::create(&lock).expect("another file");
        other.try_lock().expect("free");
        assert!(matches!(root.heal(), Err(NotOpened::Locked(..))));
        drop(other);
        assert!(root.heal().expect("free again"));
        fs::rename(&lock, lock.with_extension("away")).expect("moved");
        fs::write(&lock, "another").expect("another file");
        root.close();
        assert!(lock.exists());
    }
}
