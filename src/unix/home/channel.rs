//! The FIFO that carries what a module's program says to its logger: `output` in the status directory of that module.
//!
//! Whoever has it open keeps what it holds: the program, the logger, and svtree for either. A name that is lost loses
//! nothing either: both ends go on with what they have open, and meet again at the new one. Must never read from it or
//! write into it.

use std::ffi::{CString, OsStr};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags, Uid, fchown, fstat, openat};
use rustix::io::Errno;

use super::NotOpened;
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

    /// Its descriptor, which stays its own.
    pub(super) fn number(&self) -> RawFd {
        self.held.as_raw_fd()
    }

    /// One that is open already.
    pub(super) fn of(root: &Path, module: ModuleName, file: &'static str, held: OwnedFd) -> io::Result<Channel> {
        let path = CString::new(place(root, &module, file).as_os_str().as_bytes())?;
        Ok(Channel { module, file, path, id: prints::id(&fstat(&held)?), held, user: None })
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
            fchown(&self.held, Some(uid), None).map_err(failed)?;
        }
        self.user = user;
        Ok(())
    }

    /// Makes it stand at its name again if it does not; says whether it did not.
    ///
    /// # Errors
    /// It cannot be made or opened.
    pub fn heal(&mut self, root: &Path) -> Result<bool, NotOpened> {
        let path = place(root, &self.module, self.file);
        if stands(rustix::fs::CWD, &path, self.held.as_fd()) {
            return Ok(false);
        }
        let held = hold(root, &self.module, self.file)
            .and_then(|held| Channel::of(root, self.module.clone(), self.file, held));
        let user = std::mem::replace(self, held.map_err(|error| NotOpened::Failed(path, error))?).user;
        self.give(user)?;
        Ok(true)
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
        // By the descriptor: its name may be gone with the module.
        let path = format!("/proc/self/fd/{}", self.held.as_raw_fd());
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        self.held = openat(rustix::fs::CWD, path.as_str(), flags, Mode::empty())?;
        Ok(())
    }

    /// Whether nothing waits in it, and nothing comes: nobody has it open to write.
    #[must_use]
    pub fn is_over(&self) -> bool {
        let mut polled = [PollFd::new(&self.held, PollFlags::empty())];
        let told = poll(&mut polled, Some(&Timespec::default()));
        self.is_empty() && told.is_ok() && polled[0].revents().contains(PollFlags::HUP)
    }

    /// Whether nothing waits in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        rustix::io::ioctl_fionread(&self.held).is_ok_and(|waiting| waiting == 0)
    }
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
