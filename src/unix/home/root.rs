//! The status root: its lock, and the status directories in it that no supervise thread holds.
//!
//! Must never touch what is not ours: the root may have been named by mistake.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, openat, statat};
use rustix::io::Errno;

use super::files::{DIRECTORY, DISPLACED, LOCK_PATIENCE, lock, make_directories, replace};
use super::{NotOpened, OWN, file};
use crate::pure::name::{ModuleName, escaped};
use crate::pure::state::State;

/// The lock of a status root, which one svscan holds.
#[derive(Debug)]
pub struct Root {
    path: PathBuf,
    _lock: OwnedFd,
}

impl Root {
    /// Makes the status root if it is missing, and takes its lock.
    ///
    /// # Errors
    /// Another svscan has it, or it cannot be made.
    pub fn open(root: &Path) -> Result<Root, NotOpened> {
        let failed = |error: io::Error| NotOpened::Failed(root.to_path_buf(), error);
        match fs::DirBuilder::new().mode(0o755).recursive(true).create(root) {
            Ok(()) => {}
            Err(error) => return Err(failed(error)),
        }
        let directory =
            openat(rustix::fs::CWD, root, DIRECTORY, Mode::empty()).map_err(|errno| failed(errno.into()))?;
        let lock = lock(directory.as_fd(), Path::new(file::ROOT_LOCK), root, LOCK_PATIENCE)?;
        let pid = format!("{}\n", std::process::id());
        rustix::fs::ftruncate(&lock, 0).map_err(|errno| failed(errno.into()))?;
        rustix::io::pwrite(&lock, pid.as_bytes(), 0).map_err(|errno| failed(errno.into()))?;
        Ok(Root { path: root.join(file::ROOT_LOCK), _lock: lock })
    }

    /// Removes the lock file of a root that nothing is left in.
    pub fn close(self) {
        // While it is still locked: whoever waits for it finds that it is not there any more, and makes its own.
        let _ = fs::remove_file(&self.path);
    }
}

/// Writes the `state.json` of a directory that is no module (yet): all its status directory holds.
///
/// # Errors
/// It cannot be written.
pub fn publish_state(root: &Path, name: &ModuleName, state: &[u8]) -> Result<(), NotOpened> {
    let path = root.join(name.as_os_str());
    let failed = |error: io::Error| NotOpened::Failed(path.clone(), error);
    make_directories(root, name).map_err(failed)?;
    let directory = openat(rustix::fs::CWD, &path, DIRECTORY | OFlags::NOFOLLOW, Mode::empty())
        .map_err(|errno| failed(errno.into()))?;
    replace(directory.as_fd(), Path::new(file::STATE), state).map_err(failed)
}

/// Takes back what [`publish_state`] wrote.
pub fn unpublish_state(root: &Path, name: &ModuleName) {
    // What cannot be removed is replaced by the next one that stands there.
    let _ = fs::remove_file(root.join(name.as_os_str()).join(file::STATE));
    remove_empty(root, Some(name.clone()));
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
        let own = is_ours(&entry.file_name());
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
    remove_empty(root, Some(name.clone()));
    Ok(())
}

/// Whether a name in a status directory is one of a file of svtree.
fn is_ours(name: &OsStr) -> bool {
    let name = name.as_encoded_bytes();
    OWN.iter()
        .filter_map(|own| name.strip_prefix(own.as_bytes()))
        .any(|rest| [b"".as_slice(), b".new", b".old"].contains(&rest) || rest.starts_with(DISPLACED.as_bytes()))
}

fn is_displaced(name: &OsStr) -> bool {
    OWN.iter().any(|own| {
        name.as_encoded_bytes().strip_prefix(own.as_bytes()).is_some_and(|rest| rest.starts_with(DISPLACED.as_bytes()))
    })
}

/// Whether a directory was made by the supervision of the module of that name: its `state.json` says so, or there is
/// none yet, and nothing but a FIFO and other files of ours.
fn is_left(path: &Path, name: &ModuleName, names: &[OsString]) -> bool {
    match fs::read(path.join(file::STATE)) {
        Ok(bytes) => State::decode(&bytes).is_ok_and(|state| state.name == escaped(name.as_bytes())),
        Err(_) => {
            names.iter().all(|name| is_ours(name))
                && fs::symlink_metadata(path.join(file::SVCONTROL)).is_ok_and(|file| file.file_type().is_fifo())
        }
    }
}

/// Every directory below the status root that a module's supervision has left something in.
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
        let mut names = Vec::new();
        for entry in entries.flatten() {
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
            && names.iter().any(|name| is_ours(name))
            && is_left(&path, &name, &names)
        {
            found.push(name);
        }
    }
    Ok(found)
}

pub(super) fn remove_empty(root: &Path, mut name: Option<ModuleName>) {
    while let Some(empty) = name {
        if fs::remove_dir(root.join(empty.as_os_str())).is_err() {
            break;
        }
        name = empty.parent();
    }
}
