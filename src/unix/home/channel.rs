//! The FIFO that carries what a module's program says to its logger: `output` in the status directory of that module.
//!
//! Whoever has it open keeps what it holds: the program, the logger, and svtree for either. A name that is lost loses
//! nothing either: the program goes on with what it has open, and so does its logger, also one that is started meanwhile;
//! the next program and its logger meet at the new one. Must never read from it or write into it.

use std::ffi::{CString, OsStr};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags, Uid, fchown, fstat, openat};
use rustix::io::Errno;

use super::NotOpened;
use super::file;
use super::files::{DIRECTORY, make_directories, stands, stream};
use crate::pure::exit::Pid;
use crate::pure::name::ModuleName;
use crate::pure::reconcile::Id;
use crate::unix::prints;
use crate::unix::raw::Fifo;

/// One end's hold on the FIFO.
#[derive(Debug)]
pub struct Channel {
    /// Whose output it carries.
    module: ModuleName,
    /// Its name in the status directory of that module.
    file: &'static str,
    path: CString,
    id: Id,
    held: OwnedFd,
    /// Whose it is to be, if not svtree's own user's.
    user: Option<u32>,
    /// Of the reading end: the one that lost its name and that a program still writes to, held to read.
    former: Option<OwnedFd>,
    /// It is held to read alone: nothing more is to come.
    closed: bool,
}

impl Channel {
    /// Opens the FIFO of this name for what `module` says, made if it is not there; what it holds is kept.
    ///
    /// # Errors
    /// It cannot be made or opened.
    pub fn open(root: &Path, module: ModuleName, file: &'static str) -> Result<Channel, NotOpened> {
        let path = place(root, &module, file);
        let failed = |error: io::Error| NotOpened::Failed(path.clone(), error);
        hold(root, &module, file).and_then(|held| Channel::of(root, module, file, held)).map_err(failed)
    }

    /// Its descriptor, and that of the one that lost its name; they stay its own.
    pub(super) fn numbers(&self) -> (RawFd, Option<RawFd>) {
        (self.held.as_raw_fd(), self.former.as_ref().map(AsRawFd::as_raw_fd))
    }

    /// That of a predecessor.
    pub(super) fn handed_down(
        root: &Path,
        module: ModuleName,
        held: OwnedFd,
        former: Option<OwnedFd>,
    ) -> io::Result<Channel> {
        let closed = !rustix::fs::fcntl_getfl(&held)?.contains(OFlags::RDWR);
        Ok(Channel { former, closed, ..Channel::of(root, module, file::OUTPUT, held)? })
    }

    /// One that is open already.
    pub(super) fn of(root: &Path, module: ModuleName, file: &'static str, held: OwnedFd) -> io::Result<Channel> {
        let path = CString::new(place(root, &module, file).as_os_str().as_bytes())?;
        let id = prints::id(&fstat(&held)?);
        Ok(Channel { module, file, path, id, held, user: None, former: None, closed: false })
    }

    /// Whose output it carries.
    pub(super) fn module(&self) -> &ModuleName {
        &self.module
    }

    /// For a child that is to open it.
    #[must_use]
    pub fn fifo(&self) -> Fifo<'_> {
        Fifo { path: &self.path, id: self.id }
    }

    /// Gives it to the user of the program that writes to it; `None`: to svtree's own.
    ///
    /// # Errors
    /// It cannot be given.
    pub fn give(&mut self, user: Option<u32>) -> Result<(), NotOpened> {
        let failed = |errno: Errno| NotOpened::Failed(OsStr::from_bytes(self.path.to_bytes()).into(), errno.into());
        let uid = user.map_or_else(rustix::process::geteuid, Uid::from_raw);
        if fstat(&self.held).map_err(failed)?.st_uid != uid.as_raw() {
            match fchown(&self.held, Some(uid), None) {
                // Whoever may not do that may hardly start a program under that user: the start says what that takes.
                Ok(()) | Err(Errno::PERM) => {}
                Err(errno) => return Err(failed(errno)),
            }
        }
        self.user = user;
        Ok(())
    }

    /// Makes it stand at its name again if it does not; says whether it did not. `reads` says which end this is.
    ///
    /// # Errors
    /// It cannot be made or opened.
    pub fn heal(&mut self, root: &Path, reads: bool) -> Result<bool, NotOpened> {
        let path = place(root, &self.module, self.file);
        // One that is only read has no name any more, and needs none.
        if self.closed || stands(rustix::fs::CWD, &path, self.held.as_fd()) {
            return Ok(false);
        }
        let new = hold(root, &self.module, self.file)
            .and_then(|held| Channel::of(root, self.module.clone(), self.file, held));
        let mut lost = std::mem::replace(self, new.map_err(|error| NotOpened::Failed(path, error))?);
        let former = lost.former.take();
        self.give(lost.user)?;
        if reads && lost.only_read().is_ok() {
            self.former = former.into_iter().chain([lost.held]).find(|fifo| !is_over(fifo.as_fd()));
        }
        Ok(true)
    }

    /// For a logger that is started while a program still writes to the FIFO that lost its name: that one, opened anew.
    pub fn lost(&mut self) -> Option<OwnedFd> {
        self.former.take_if(|fifo| is_over(fifo.as_fd()));
        reopened(self.former.as_ref()?.as_fd(), OFlags::empty()).ok()
    }

    /// Whether the standard output of a process is this FIFO.
    #[must_use]
    pub fn is_output_of(&self, pid: Pid) -> bool {
        rustix::fs::stat(format!("/proc/{pid}/fd/1")).is_ok_and(|stat| prints::id(&stat) == self.id)
    }

    /// Lets go of the writing end: when the last writer has gone whoever reads it is told so. What it holds is kept.
    ///
    /// # Errors
    /// It cannot be opened anew.
    pub fn only_read(&mut self) -> io::Result<()> {
        self.held = reopened(self.held.as_fd(), OFlags::NONBLOCK)?;
        self.closed = true;
        Ok(())
    }

    /// Removes what the logger of a module that is gone has made in its home. No other one begins there meanwhile: it
    /// would wait for a logger of its own.
    pub(super) fn remove_without_module(self, root: &Path) {
        let path = place(root, &self.module, self.file);
        if !path.with_file_name(file::LOCK).exists() {
            // It is not there most of the time.
            let _ = std::fs::remove_file(path);
        }
    }

    /// Whether nothing waits in it, and nothing comes: nobody has it open to write.
    #[must_use]
    pub fn is_over(&self) -> bool {
        is_over(self.held.as_fd())
    }

    /// Whether nothing waits in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        is_empty(self.held.as_fd())
    }
}

/// The FIFO again, to be read alone; by the descriptor, since its name may be gone.
fn reopened(fifo: BorrowedFd<'_>, flags: OFlags) -> io::Result<OwnedFd> {
    let path = format!("/proc/self/fd/{}", fifo.as_raw_fd());
    Ok(openat(rustix::fs::CWD, path.as_str(), flags | OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?)
}

fn is_over(fifo: BorrowedFd<'_>) -> bool {
    let mut polled = [PollFd::from_borrowed_fd(fifo, PollFlags::empty())];
    let told = poll(&mut polled, Some(&Timespec::default()));
    is_empty(fifo) && told.is_ok() && polled[0].revents().contains(PollFlags::HUP)
}

fn is_empty(fifo: BorrowedFd<'_>) -> bool {
    rustix::io::ioctl_fionread(fifo).is_ok_and(|waiting| waiting == 0)
}

/// Where the FIFO stands.
fn place(root: &Path, module: &ModuleName, file: &str) -> PathBuf {
    root.join(module.as_os_str()).join(file)
}

fn hold(root: &Path, module: &ModuleName, file: &str) -> io::Result<OwnedFd> {
    make_directories(root, module)?;
    let home = root.join(module.as_os_str());
    let home = openat(rustix::fs::CWD, home, DIRECTORY | OFlags::NOFOLLOW, Mode::empty())?;
    stream(home.as_fd(), Path::new(file))
}
