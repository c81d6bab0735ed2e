//! The `supervise/` directory of a service directory, for clients of daemontools and runit.
//!
//! Must never keep a module from running: where it cannot be made, there is none.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, Mode, mkdirat, statat};
use rustix::io::Errno;

use super::files::{LOCK_PATIENCE, fifo, lock, replace, same_fifo, stands};
use super::{NotOpened, file};
use crate::pure::status::{LENGTH, Status};

/// The `supervise/` directory of a service directory.
#[derive(Debug)]
pub(super) struct View {
    lock: OwnedFd,
    pub(super) control: OwnedFd,
    stat: Option<&'static str>,
    /// What `pid` says; `None` when that is not known.
    pid: Option<String>,
    published: Option<[u8; LENGTH]>,
}

impl View {
    /// Makes `supervise/`; `None` where the service directory cannot be written.
    pub(super) fn open(service: BorrowedFd<'_>, home: &Path) -> Result<Option<View>, NotOpened> {
        let inside = |name: &str| Path::new(file::SUPERVISE).join(name);
        match mkdirat(service, file::SUPERVISE, Mode::from_raw_mode(0o755)) {
            Ok(()) => {}
            Err(Errno::EXIST) => {
                // A link whose target is missing is followed, and its target made.
                if statat(service, file::SUPERVISE, AtFlags::empty()).is_err()
                    && let Ok(target) = rustix::fs::readlinkat(service, file::SUPERVISE, Vec::new())
                {
                    let _ = make_target(service, Path::new(OsStr::from_bytes(target.as_bytes())));
                }
            }
            Err(_) => return Ok(None),
        }
        let lock = match lock(service, &inside(file::LOCK), home, LOCK_PATIENCE) {
            Ok(lock) => lock,
            Err(locked @ NotOpened::Locked(..)) => return Err(locked),
            Err(NotOpened::Failed(..)) => return Ok(None),
        };
        let opened = fifo(service, &inside(file::CONTROL)).and_then(|control| {
            same_fifo(service, &inside(file::OK), &inside(file::CONTROL))?;
            Ok(control)
        });
        // A directory that turned read-only meanwhile, or a full one: the module runs without the view.
        Ok(opened.ok().map(|control| View { lock, control, stat: None, pid: None, published: None }))
    }

    /// Whether its files are still the ones that are held. A service directory that is gone has no view to put right.
    pub(super) fn is_whole(&self, service: BorrowedFd<'_>) -> bool {
        let inside = |name: &str| Path::new(file::SUPERVISE).join(name);
        let gone = statat(service, "run", AtFlags::SYMLINK_NOFOLLOW).is_err();
        gone || (stands(service, &inside(file::LOCK), self.lock.as_fd())
            && stands(service, &inside(file::CONTROL), self.control.as_fd())
            && stands(service, &inside(file::OK), self.control.as_fd()))
    }

    pub(super) fn publish(
        &mut self,
        service: BorrowedFd<'_>,
        status: &Status,
    ) -> Result<(), (&'static str, io::Error)> {
        let inside = |name: &str| Path::new(file::SUPERVISE).join(name);
        let write = |name: &'static str, bytes: &[u8]| match replace(service, &inside(name), bytes) {
            Ok(()) => Ok(()),
            // The service directory is being removed, or was replaced by a read-only one: there is no view to keep.
            Err(error)
                if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EROFS | libc::EACCES | libc::ENOTDIR)) =>
            {
                Ok(())
            }
            Err(error) => Err((name, error)),
        };
        let bytes = status.to_runit();
        if self.published == Some(bytes) {
            return Ok(());
        }
        self.published = None;
        write(file::STATUS, &bytes)?;
        let pid = status.pid.map_or_else(String::new, |pid| format!("{pid}\n"));
        if self.pid.as_ref() != Some(&pid) {
            write(file::PID, pid.as_bytes())?;
            self.pid = Some(pid);
        }
        // Its time of change is read as the uptime, so it is written only when it says something else.
        if self.stat != Some(status.stat()) {
            write(file::STAT, status.stat().as_bytes())?;
            self.stat = Some(status.stat());
        }
        self.published = Some(bytes);
        Ok(())
    }
}

/// Makes the directory a dangling `supervise` link points to.
fn make_target(service: BorrowedFd<'_>, target: &Path) -> rustix::io::Result<()> {
    let mut ancestors: Vec<&Path> = target.ancestors().filter(|path| !path.as_os_str().is_empty()).collect();
    ancestors.reverse();
    for path in ancestors {
        match mkdirat(service, path, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}
