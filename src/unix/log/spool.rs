//! What was taken from a pipe and may not be in the log yet: a small file with a note at its head.
//!
//! The kernel moves bytes from the pipe into it in one call, which either happened or did not, whoever is killed
//! meanwhile. Must never decide what is in the log; the note says it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags, fstat, ftruncate, openat};
use rustix::io::Errno;
use rustix::pipe::{SpliceFlags, splice};

use crate::pure::log::{HEADER, Note};

/// A spool, open.
#[derive(Debug)]
pub struct Spool {
    file: OwnedFd,
    len: usize,
    /// What it is called in messages.
    shown: String,
}

impl Spool {
    /// Opens the spool of this name, made if it is not there; with what its note says, if it has one. `shown` is what it
    /// is called in messages.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn open(directory: BorrowedFd<'_>, name: &str, shown: String) -> io::Result<(Spool, Option<Note>)> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let file = openat(directory, name, flags, Mode::from_raw_mode(0o600))?;
        let stat = fstat(&file)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(io::Error::other("it is no regular file"));
        }
        let mut head = [0; HEADER];
        let read = rustix::io::pread(&file, &mut head, 0)?;
        let note = Note::decode(&head[..read]);
        let len = match note {
            Some(_) => usize::try_from(stat.st_size).unwrap_or(0).saturating_sub(HEADER),
            None => 0,
        };
        Ok((Spool { file, len, shown }, note))
    }

    /// How many bytes are in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Writes the note.
    ///
    /// # Errors
    /// It is what it was.
    pub fn note(&self, note: &Note) -> io::Result<()> {
        let bytes = note.encode();
        match rustix::io::retry_on_intr(|| rustix::io::pwrite(&self.file, &bytes, 0)) {
            Ok(HEADER) => Ok(()),
            Ok(_) => Err(self.failed(io::ErrorKind::WriteZero)),
            Err(errno) => Err(self.failed(errno)),
        }
    }

    /// Throws away what is in it: all of that is in the log. The note is to be written before anything is taken.
    ///
    /// # Errors
    /// It is what it was.
    pub fn clear(&mut self) -> io::Result<()> {
        ftruncate(&self.file, HEADER as u64).map_err(|errno| self.failed(errno))?;
        self.len = 0;
        Ok(())
    }

    /// Takes what is in the pipe, at most so many bytes; `None` while there is nothing, 0 at its end.
    ///
    /// # Errors
    /// The spool cannot be written; the bytes are still in the pipe.
    pub fn take(&mut self, pipe: BorrowedFd<'_>, most: usize) -> io::Result<Option<usize>> {
        let mut at = (HEADER + self.len) as u64;
        loop {
            match splice(pipe, None, self.file.as_fd(), Some(&mut at), most, SpliceFlags::NONBLOCK) {
                Ok(count) => {
                    self.len += count;
                    return Ok(Some(count));
                }
                Err(Errno::AGAIN) => return Ok(None),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(self.failed(errno)),
            }
        }
    }

    /// Reads what is in it from this byte on into the whole of `bytes`, which is no longer.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn read(&self, from: usize, bytes: &mut [u8]) -> io::Result<()> {
        let mut done = 0;
        while done < bytes.len() {
            let at = (HEADER + from + done) as u64;
            match rustix::io::pread(&self.file, &mut bytes[done..], at) {
                Ok(0) => return Err(self.failed(io::ErrorKind::UnexpectedEof)),
                Ok(count) => done += count,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(self.failed(errno)),
            }
        }
        Ok(())
    }

    /// It is often on another disk than the log that is written.
    fn failed(&self, error: impl Into<io::Error>) -> io::Error {
        let error = error.into();
        io::Error::new(error.kind(), format!("its spool {}: {error}", self.shown))
    }
}

/// Which pipe it is: device and inode; `None` if it is none.
#[must_use]
pub fn identity(pipe: BorrowedFd<'_>) -> Option<[u64; 2]> {
    let stat = fstat(pipe).ok()?;
    let is_pipe = FileType::from_raw_mode(stat.st_mode) == FileType::Fifo;
    is_pipe.then_some([stat.st_dev, stat.st_ino])
}

/// How many bytes wait in a pipe.
#[must_use]
pub fn waiting(pipe: BorrowedFd<'_>) -> u64 {
    rustix::io::ioctl_fionread(pipe).unwrap_or(0)
}
