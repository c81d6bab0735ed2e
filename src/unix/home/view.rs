//! The `supervise/` directory of a service directory, for clients of daemontools and runit.
//!
//! Must never keep a module from running: where it cannot be made, there is none.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{AtFlags, FileType, Mode, linkat, mkdirat, renameat, statat, unlinkat};
use rustix::io::Errno;

use super::files::{LOCK_PATIENCE, discard, fifo, lock, overwrite, replace, same_fifo, says, stands};
use super::{NotOpened, file};
use crate::pure::status::{LENGTH, Status};

/// What a view is made beside: the home's directory with its lock and its FIFO.
#[derive(Clone, Copy)]
pub(super) struct Beside<'a> {
    /// Its path, for messages.
    pub(super) path: &'a Path,
    pub(super) directory: BorrowedFd<'a>,
    pub(super) lock: BorrowedFd<'a>,
    pub(super) svcontrol: BorrowedFd<'a>,
}

/// The `supervise/` directory of a service directory.
#[derive(Debug)]
pub(super) struct View {
    /// `None`: it is another name of the home's own, as it can be within one file system.
    pub(super) lock: Option<OwnedFd>,
    /// The same.
    pub(super) control: Option<OwnedFd>,
    pub(super) stat: Option<&'static str>,
    /// What `pid` says; `None` when that is not known.
    pub(super) pid: Option<String>,
    pub(super) published: Option<[u8; LENGTH]>,
}

impl View {
    /// Makes `supervise/`; `None` where the service directory cannot be written.
    pub(super) fn open(service: BorrowedFd<'_>, home: Beside<'_>) -> Result<Option<View>, NotOpened> {
        if make(service).is_err() {
            return Ok(None);
        }
        let lock = match take_lock(service, home, LOCK_PATIENCE) {
            Ok(lock) => lock,
            Err(locked @ NotOpened::Locked(..)) => return Err(locked),
            Err(NotOpened::Failed(..)) => return Ok(None),
        };
        let opened = take_fifo(service, home).and_then(|control| {
            same_fifo(service, &inside(file::OK), &inside(file::CONTROL))?;
            Ok(control)
        });
        // A directory that turned read-only meanwhile, or a full one: the module runs without the view.
        Ok(opened.ok().map(|control| View { lock, control, stat: None, pid: None, published: None }))
    }

    /// Puts right what others did to it; says whether there was anything. What a record should say is published after.
    pub(super) fn heal(&mut self, service: BorrowedFd<'_>, home: Beside<'_>) -> Result<bool, NotOpened> {
        if statat(service, "run", AtFlags::SYMLINK_NOFOLLOW).is_err() {
            // The service directory is on its way out, and the view with it.
            return Ok(false);
        }
        match self.heal_files(service, home) {
            Err(NotOpened::Failed(_, error)) if is_out_of_reach(&error) => Ok(false),
            result => result,
        }
    }

    fn heal_files(&mut self, service: BorrowedFd<'_>, home: Beside<'_>) -> Result<bool, NotOpened> {
        let failed =
            |name: &'static str| move |error: io::Error| NotOpened::Failed(home.path.join(inside(name)), error);
        let mut healed = false;
        if !stands(service, &inside(file::LOCK), self.lock.as_ref().map_or(home.lock, AsFd::as_fd)) {
            make(service).map_err(|error| NotOpened::Failed(home.path.join(file::SUPERVISE), error))?;
            self.lock = take_lock(service, home, MOMENT)?;
            healed = true;
        }
        if !stands(service, &inside(file::CONTROL), self.control.as_ref().map_or(home.svcontrol, AsFd::as_fd)) {
            self.control = take_fifo(service, home).map_err(failed(file::CONTROL))?;
            healed = true;
        }
        if !stands(service, &inside(file::OK), self.control.as_ref().map_or(home.svcontrol, AsFd::as_fd)) {
            same_fifo(service, &inside(file::OK), &inside(file::CONTROL)).map_err(failed(file::OK))?;
            healed = true;
        }
        // What has not been published is behind, not damaged.
        let says = |name: &str, bytes: &[u8]| says(service, &inside(name), bytes.len(), |found| found == bytes);
        if self.published.is_some_and(|bytes| !says(file::STATUS, &bytes)) {
            self.published = None;
            healed = true;
        }
        if self.pid.as_ref().is_some_and(|pid| !says(file::PID, pid.as_bytes())) {
            (self.published, self.pid) = (None, None);
            healed = true;
        }
        if self.stat.is_some_and(|stat| !says(file::STAT, stat.as_bytes())) {
            (self.published, self.stat) = (None, None);
            healed = true;
        }
        Ok(healed)
    }

    /// Whether something is still to be said that could not be written.
    pub(super) fn is_behind(&self) -> bool {
        self.published.is_none()
    }

    pub(super) fn publish(
        &mut self,
        service: BorrowedFd<'_>,
        status: &Status,
    ) -> Result<(), (&'static str, io::Error)> {
        match self.publish_files(service, status, replace) {
            // Not tried again on its own account: there may never be a view to keep again. Each change of state and each
            // look does, since nothing counts as published.
            Err((_, error)) if is_out_of_reach(&error) => Ok(()),
            result => result,
        }
    }

    /// Says what is to stay: once it has been said nobody supervises, and no client asks the files any more. Of a thousand that
    /// end together this is in the way of all.
    pub(super) fn publish_last(&mut self, service: BorrowedFd<'_>, status: &Status) {
        // Its service directory may be on its way out as well.
        let _ = self.publish_files(service, status, |service, name, bytes| {
            overwrite(service, name, bytes).or_else(|_| replace(service, name, bytes))
        });
    }

    fn publish_files(
        &mut self,
        service: BorrowedFd<'_>,
        status: &Status,
        write: impl Fn(BorrowedFd<'_>, &Path, &[u8]) -> io::Result<()>,
    ) -> Result<(), (&'static str, io::Error)> {
        let write =
            |name: &'static str, bytes: &[u8]| write(service, &inside(name), bytes).map_err(|error| (name, error));
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

/// Takes `supervise/lock`: within one file system by making it another name of the home's own, so that one descriptor
/// holds both.
fn take_lock(service: BorrowedFd<'_>, home: Beside<'_>, patience: Duration) -> Result<Option<OwnedFd>, NotOpened> {
    let name = inside(file::LOCK);
    let link = |name: &Path| linkat(home.directory, file::LOCK, service, name, AtFlags::empty());
    match link(&name) {
        Ok(()) => return Ok(None),
        Err(Errno::EXIST) if stands(service, &name, home.lock) => return Ok(None),
        Err(_) => {}
    }
    // Another one stands there: while it is held nobody else has it, nor gets it by that name. One that is held by this
    // very process is the lock of another home, which had this directory once: two threads are never given one directory.
    let held = match lock(service, &name, home.path, patience) {
        Err(NotOpened::Locked(_, Some(pid))) if u32::try_from(pid.get()).is_ok_and(|pid| pid == std::process::id()) => {
            None
        }
        held => Some(held?),
    };
    let new = inside(".lock.new");
    let _ = unlinkat(service, &new, AtFlags::empty());
    if link(&new).is_ok() && renameat(service, &new, service, &name).is_ok() {
        return Ok(None);
    }
    match held {
        Some(held) => Ok(Some(held)),
        None => {
            discard(service, &name).map_err(|error| NotOpened::Failed(home.path.join(&name), error))?;
            lock(service, &name, home.path, patience).map(Some)
        }
    }
}

/// Whether a file of a home, which has so many names there, has more of them than it has in this view: in a directory that
/// this home had once, where it would speak for the wrong module.
pub(super) fn is_shared_with_another(
    service: BorrowedFd<'_>,
    held: BorrowedFd<'_>,
    own: usize,
    names: &[&str],
) -> bool {
    let Ok(links) = rustix::fs::fstat(held).map(|stat| stat.st_nlink) else { return false };
    let links = usize::try_from(links).unwrap_or(usize::MAX);
    links > own && links > own + names.iter().filter(|name| stands(service, &inside(name), held)).count()
}

/// Takes `supervise/control`, in the same way.
fn take_fifo(service: BorrowedFd<'_>, home: Beside<'_>) -> io::Result<Option<OwnedFd>> {
    let name = inside(file::CONTROL);
    for _ in 0..3 {
        match linkat(home.directory, file::SVCONTROL, service, &name, AtFlags::empty()) {
            Ok(()) => return Ok(None),
            Err(Errno::EXIST) if stands(service, &name, home.svcontrol) => return Ok(None),
            Err(Errno::EXIST) if is_near(service, home) => discard(service, &name)?,
            Err(_) => break,
        }
    }
    fifo(service, &name).map(Some)
}

/// Whether both are on one file system, so that a link can be made.
fn is_near(service: BorrowedFd<'_>, home: Beside<'_>) -> bool {
    let device = |stat: rustix::io::Result<rustix::fs::Stat>| stat.map(|stat| stat.st_dev);
    matches!(
        (device(statat(service, file::SUPERVISE, AtFlags::empty())), device(rustix::fs::fstat(home.directory))),
        (Ok(view), Ok(home)) if view == home
    )
}

/// A child of a sibling that is not in its exec yet holds what was let go of for a moment.
const MOMENT: Duration = Duration::from_millis(50);

fn inside(name: &str) -> PathBuf {
    Path::new(file::SUPERVISE).join(name)
}

/// The service directory is being removed, or was replaced by a read-only one.
fn is_out_of_reach(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EROFS | libc::EACCES | libc::ENOTDIR))
}

/// Makes `supervise/`, or the directory that it is a link to.
pub(super) fn make(service: BorrowedFd<'_>) -> io::Result<()> {
    let mode = Mode::from_raw_mode(0o755);
    match mkdirat(service, file::SUPERVISE, mode) {
        Ok(()) => return Ok(()),
        Err(Errno::EXIST) => {}
        Err(errno) => return Err(errno.into()),
    }
    let stands = FileType::from_raw_mode(statat(service, file::SUPERVISE, AtFlags::SYMLINK_NOFOLLOW)?.st_mode);
    if stands == FileType::Symlink {
        // One whose target is missing is followed, and its target made.
        if statat(service, file::SUPERVISE, AtFlags::empty()).is_err() {
            let target = rustix::fs::readlinkat(service, file::SUPERVISE, Vec::new())?;
            let _ = make_target(service, Path::new(OsStr::from_bytes(target.as_bytes())));
        }
    } else if stands != FileType::Directory {
        discard(service, Path::new(file::SUPERVISE))?;
        mkdirat(service, file::SUPERVISE, mode)?;
    }
    Ok(())
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
