//! The FIFO on which a program says that it is ready.
//!
//! Its end is open for reading and writing in the program as well: so whatever becomes of svtree, no write fails, and what
//! was written is there for the next one. Must never read it.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags, openat};
use rustix::io::Errno;

use super::files::{discard, fifo};
use super::{Home, file};

/// Both ends.
#[derive(Debug)]
pub struct Word {
    /// To be read without waiting.
    pub own: OwnedFd,
    /// To be written by the program, which may wait.
    pub program: OwnedFd,
}

impl Home {
    /// Makes the FIFO anew: what an earlier program has left has the old one.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn new_word(&self) -> io::Result<Word> {
        let (directory, name) = (self.directory.as_fd(), Path::new(file::READY));
        discard(directory, name)?;
        let own = fifo(directory, name)?;
        let program = openat(directory, name, OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty())?;
        Ok(Word { own, program })
    }

    /// Removes the socket of a module that asks for none any more.
    pub fn remove_socket(&self) {
        // What stays is removed with the rest.
        let _ = rustix::fs::unlinkat(&self.directory, file::NOTIFY, rustix::fs::AtFlags::empty());
    }

    /// Our end again, of the FIFO that a predecessor made; `None` if no program has its end open any more.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn word_again(&self) -> io::Result<Option<OwnedFd>> {
        let flags = OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        match openat(&self.directory, file::READY, flags | OFlags::WRONLY, Mode::empty()) {
            Ok(_has_reader) => Ok(Some(fifo(self.directory.as_fd(), Path::new(file::READY))?)),
            Err(Errno::NXIO) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }
}
