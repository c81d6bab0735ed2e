//! The file `down` in a service directory: made and removed by name, in a directory that is held.
//!
//! Must never look at what else stands there, and never touch a module that runs.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Mode, OFlags, fsync, openat, statat, unlinkat};
use rustix::io::Errno;

use super::home::file;

/// Makes it, if there is none. It is on the disk when this returns.
///
/// # Errors
/// It cannot be made, or what stands there is a link to nothing, which does not count as one.
pub fn make(service: BorrowedFd<'_>) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    match openat(service, file::DOWN, flags, Mode::from_raw_mode(0o644)) {
        Ok(_) => keep(service),
        Err(Errno::EXIST) => match statat(service, file::DOWN, AtFlags::empty()) {
            Ok(_) => Ok(()),
            Err(Errno::NOENT) => Err(io::Error::other("a link to nothing; remove it")),
            Err(errno) => Err(errno.into()),
        },
        Err(errno) => Err(errno.into()),
    }
}

/// Removes it, if there is one. It is gone from the disk when this returns.
///
/// # Errors
/// It cannot be removed; a directory never is.
pub fn remove(service: BorrowedFd<'_>) -> io::Result<()> {
    match unlinkat(service, file::DOWN, AtFlags::empty()) {
        Ok(()) => keep(service),
        Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// A name is on the disk once its directory is.
fn keep(service: BorrowedFd<'_>) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let readable: OwnedFd = match openat(service, c".", flags, Mode::empty()) {
        Ok(readable) => readable,
        // Who may write a directory need not be allowed to read it; then the kernel writes it when it likes.
        Err(Errno::ACCESS) => return Ok(()),
        Err(errno) => return Err(errno.into()),
    };
    match fsync(&readable) {
        // A file system that knows no such thing.
        Ok(()) | Err(Errno::INVAL) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File};
    use std::os::fd::AsFd;

    #[test]
    fn it_comes_and_goes_and_asking_twice_changes_nothing() {
        let directory = tempfile::tempdir().expect("a directory");
        let held = File::open(directory.path()).expect("the directory");
        let down = directory.path().join(file::DOWN);
        for _ in 0..2 {
            make(held.as_fd()).expect("made");
            assert!(down.is_file());
        }
        for _ in 0..2 {
            remove(held.as_fd()).expect("removed");
            assert!(!down.exists());
        }
    }

    #[test]
    fn what_is_no_file_is_left_alone() {
        let directory = tempfile::tempdir().expect("a directory");
        let held = File::open(directory.path()).expect("the directory");
        let down = directory.path().join(file::DOWN);
        std::os::unix::fs::symlink("nowhere", &down).expect("a link");
        assert!(make(held.as_fd()).is_err_and(|error| error.to_string().contains("a link to nothing")));
        remove(held.as_fd()).expect("a link is removed");
        fs::create_dir(&down).expect("a directory");
        make(held.as_fd()).expect("it counts");
        assert!(remove(held.as_fd()).is_err() && down.is_dir());
    }
}
