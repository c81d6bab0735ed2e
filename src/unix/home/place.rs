//! Where a home is: how its directory is made, opened, and seen to be still there.
//!
//! Must never know what is in it.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, fstat, mkdirat, openat, statat};
use rustix::io::Errno;

use super::files::{DIRECTORY, make_directories, stands};
use super::{file, view};
use crate::pure::name::ModuleName;
use crate::unix::raw;

/// Where a home is.
#[derive(Clone, Debug)]
pub enum Place {
    /// Below the status root of a tree. No link is followed, and what is no directory there is replaced.
    Tree(PathBuf, ModuleName),
    /// A status directory that somebody named. Links are followed, and only what is missing is made, 0700.
    Named(PathBuf),
    /// The `supervise/` of this service directory: home and view are one.
    Service(PathBuf),
}

impl Place {
    /// The path of the home, for messages too.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        match self {
            Place::Tree(root, name) => root.join(name.as_os_str()),
            Place::Named(path) => path.clone(),
            Place::Service(service) => service.join(file::SUPERVISE),
        }
    }

    /// The status root that it is in; of one that is in none, where it is itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        match self {
            Place::Tree(path, _) | Place::Named(path) | Place::Service(path) => path,
        }
    }

    /// Makes the directory if it is missing, and opens it; says whether it is known to have been made just now.
    ///
    /// # Errors
    /// It cannot be made, or not be opened.
    pub fn open(&self, service: BorrowedFd<'_>) -> io::Result<(OwnedFd, bool)> {
        match self {
            Place::Tree(root, name) => {
                let is_new = make_directories(root, name)?;
                Ok((openat(CWD, self.path(), DIRECTORY | OFlags::NOFOLLOW, Mode::empty())?, is_new))
            }
            Place::Named(path) => {
                make_named(path)?;
                Ok((openat(CWD, path, DIRECTORY, Mode::empty())?, false))
            }
            Place::Service(_) => {
                view::make(service)?;
                Ok((openat(service, file::SUPERVISE, DIRECTORY, Mode::empty())?, false))
            }
        }
    }

    /// Whether a directory that was opened there still stands there.
    pub(super) fn holds(&self, service: BorrowedFd<'_>, directory: BorrowedFd<'_>) -> bool {
        let (at, path) = match self {
            Place::Tree(..) => return stands(CWD, &self.path(), directory),
            Place::Named(path) => (CWD, path.as_path()),
            Place::Service(_) => (service, Path::new(file::SUPERVISE)),
        };
        let same = || {
            let (found, held) = (statat(at, path, AtFlags::empty())?, fstat(directory)?);
            Ok::<bool, Errno>((found.st_dev, found.st_ino) == (held.st_dev, held.st_ino))
        };
        same().unwrap_or(false)
    }
}

/// Makes a directory and those above it that are missing.
fn make_named(path: &Path) -> io::Result<()> {
    let mode = Mode::from_raw_mode(0o700);
    let mut missing: Vec<&Path> = path.ancestors().filter(|above| !above.as_os_str().is_empty()).collect();
    while let Some(directory) = missing.pop() {
        match mkdirat(CWD, directory, mode) {
            Ok(()) if raw::umask() & 0o700 != 0 => {
                std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o700))?;
            }
            Ok(()) => {}
            // One that is there may be where nothing can be made.
            Err(errno) if errno != Errno::EXIST && !directory.is_dir() => return Err(errno.into()),
            Err(_) => {}
        }
    }
    Ok(())
}
