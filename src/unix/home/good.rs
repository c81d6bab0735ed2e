//! What is in force of a module while its files are rejected, kept for an svtree that comes after a death of this one.
//!
//! It may hold secrets of the environment. Must never be readable by anybody but svtree's user.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Mode, unlinkat};
use rustix::io::Errno;

use super::files::{read, replace_as};
use super::{Home, file};
use crate::pure::name::ModuleName;

/// Longer than any that was written.
const LONGEST: usize = 4 << 20;

impl Home {
    /// Keeps it, or nothing.
    ///
    /// # Errors
    /// It cannot be written or removed.
    pub fn keep_good(&self, good: Option<&[u8]>) -> io::Result<()> {
        if let Some(good) = good {
            return replace_as(self.directory.as_fd(), Path::new(file::GOOD), good, Mode::from_raw_mode(0o600));
        }
        match unlinkat(&self.directory, file::GOOD, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }
}

/// What was kept of a module, if anything was.
#[must_use]
pub fn good(root: &Path, name: &ModuleName) -> Option<Vec<u8>> {
    read(CWD, &root.join(name.as_os_str()).join(file::GOOD), LONGEST).ok()
}
