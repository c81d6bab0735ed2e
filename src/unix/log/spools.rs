//! The spools of the tree's logger: one for each directory that it writes to, named after that.
//!
//! Beside the status of modules, not beside their logs: a disk that is full has no room for them. Must never know whose
//! they are.

use std::fs::DirBuilder;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use rustix::fs::{AtFlags, Mode, OFlags, fstat, openat, unlinkat};

use super::Spool;
use crate::pure::log::Note;
use crate::unix::home::file;

/// Their directory.
#[derive(Debug)]
pub struct Spools(OwnedFd);

impl Spools {
    /// Opens their directory in the status root, made if it is not there.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn open(root: &Path) -> io::Result<Spools> {
        let path = root.join(file::SPOOLS);
        match DirBuilder::new().mode(0o700).create(&path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        Ok(Spools(openat(rustix::fs::CWD, path, flags, Mode::empty())?))
    }

    /// Opens the spool for a directory.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn spool(&self, directory: BorrowedFd<'_>) -> io::Result<(Spool, Option<Note>)> {
        let name = name(directory)?;
        Spool::open(self.0.as_fd(), &name, format!("{}/{name}", file::SPOOLS))
    }

    /// Removes the spool of a directory, in which nothing is left.
    pub fn remove(&self, directory: BorrowedFd<'_>) {
        if let Ok(name) = name(directory) {
            // It is found empty by whoever logs there next.
            let _ = unlinkat(&self.0, name, AtFlags::empty());
        }
    }
}

fn name(directory: BorrowedFd<'_>) -> io::Result<String> {
    let stat = fstat(directory)?;
    Ok(format!("{:x}-{:x}", stat.st_dev, stat.st_ino))
}
