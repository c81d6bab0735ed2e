//! What a client needs of the system: the FIFO and the files of a state directory, and a wake-up when
//! they change.
//!
//! A client is a stranger: it must never take a lock, make or change a file, or decide what an answer means.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::fs;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::process::Resource;

use super::clock;
use super::home::file;
use crate::pure::name::ModuleName;
use crate::pure::time::Moment;

/// The writing end of a control FIFO that somebody reads.
#[derive(Debug)]
pub struct Line(OwnedFd);

impl Line {
    /// Opens a control FIFO; `None` if nobody reads it.
    ///
    /// # Errors
    /// It is not there, is no FIFO, or is not ours to write.
    pub fn open(fifo: &Path) -> io::Result<Option<Line>> {
        let Some(opened) = write_end(fifo)? else {
            return Ok(None);
        };
        // Letters must never end up in somebody's file.
        if FileType::from_raw_mode(rustix::fs::fstat(&opened)?.st_mode) != FileType::Fifo {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a FIFO"));
        }
        Ok(Some(Line(opened)))
    }

    /// Writes all letters in one write, so that no other client's stand between them; waits for room until `patience`
    /// is over. Returns whether anybody was there to read them.
    ///
    /// # Errors
    /// `TimedOut` if there was no room in time.
    pub fn send(&self, letters: &[u8], patience: Duration) -> io::Result<bool> {
        let deadline = clock::moment().plus(patience);
        loop {
            match rustix::io::write(&self.0, letters) {
                Ok(_) => return Ok(true),
                // The reader has left since the open; SIGPIPE is ignored in every Rust program.
                Err(Errno::PIPE) => return Ok(false),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    if !poll_until(&mut [PollFd::new(&self.0, PollFlags::OUT)], Some(deadline))? {
                        return Err(io::ErrorKind::TimedOut.into());
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Whether the reader has left.
    #[must_use]
    pub fn lost(&self) -> bool {
        let mut end = [PollFd::new(&self.0, PollFlags::empty())];
        let polled = poll(&mut end, Some(&Timespec::default()));
        polled.is_ok() && end[0].revents().contains(PollFlags::ERR)
    }
}

/// Whether anybody reads a FIFO.
///
/// # Errors
/// It is not there, or is not ours to write.
pub fn listens(fifo: &Path) -> io::Result<bool> {
    Ok(write_end(fifo)?.is_some())
}

/// Without NONBLOCK the open would wait for a reader; with it the kernel says ENXIO when there is none.
fn write_end(fifo: &Path) -> io::Result<Option<OwnedFd>> {
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    match rustix::fs::open(fifo, flags, Mode::empty()) {
        Ok(opened) => Ok(Some(opened)),
        Err(Errno::NXIO) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Reads the beginning of a file into `bytes` in one call, and returns what is there of it.
///
/// # Errors
/// It cannot be read.
pub fn read_into<'a>(path: &Path, bytes: &'a mut [u8]) -> io::Result<&'a [u8]> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = rustix::fs::open(path, flags, Mode::empty())?;
    let count = rustix::io::read(&file, &mut *bytes)?;
    Ok(&bytes[..count])
}

/// Reads a small file whole.
///
/// # Errors
/// It cannot be read, or is longer than any file of ours.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = fs::File::from(rustix::fs::open(path, flags, Mode::empty())?);
    let mut bytes = Vec::with_capacity(4096);
    file.take(LARGEST).read_to_end(&mut bytes)?;
    if bytes.len() as u64 == LARGEST {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(bytes)
}

const LARGEST: u64 = 1 << 20;

/// Whether a directory is a module's state directory.
#[must_use]
pub fn is_home(directory: &Path) -> bool {
    [file::STATE, file::SVCONTROL].iter().any(|name| fs::symlink_metadata(directory.join(name)).is_ok())
}

/// Every directory below `root` that holds a `state.json`, as a path relative to `root`, in the order of their names;
/// and what could not be looked into.
#[must_use]
pub fn homes(root: &Path) -> (Vec<PathBuf>, Vec<(PathBuf, io::Error)>) {
    let mut found = Vec::new();
    let mut unread = Vec::new();
    // Directories still to be read, the next one last. A stack of our own, so that no depth can overflow the thread's.
    let mut todo = vec![PathBuf::new()];
    while let Some(below) = todo.pop() {
        let directory = root.join(&below);
        let first = todo.len();
        match entries(&directory) {
            Ok((is_home, names)) => {
                todo.extend(names.into_iter().map(|name| below.join(name)));
                todo[first..].sort_by(|one, other| by_number(other).cmp(&by_number(one)));
                if is_home {
                    found.push(below);
                }
            }
            // It went away while we looked; only the root itself must be there.
            Err(error) if error.kind() == io::ErrorKind::NotFound && first > 0 => {}
            Err(error) => unread.push((directory, error)),
        }
    }
    (found, unread)
}

/// By what one name is put before another in the same directory: instances stand in the order of their numbers.
fn by_number(path: &Path) -> (Cow<'_, OsStr>, u32) {
    let name = path.file_name().unwrap_or_default();
    let may_be_one = name.as_bytes().contains(&b'@');
    let name_of = may_be_one.then(|| ModuleName::new(name.as_bytes()).ok()).flatten();
    match name_of.and_then(|name| name.instance_of()) {
        Some((module, number)) => (Cow::Owned(module.to_os_string()), number),
        None => (Cow::Borrowed(name), 0),
    }
}

/// Whether a directory holds a `state.json`, and the directories in it that are not hidden.
fn entries(directory: &Path) -> io::Result<(bool, Vec<std::ffi::OsString>)> {
    let mut is_home = false;
    let mut directories = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        is_home |= name == file::STATE;
        if !name.as_encoded_bytes().starts_with(b".") && entry.file_type()?.is_dir() {
            directories.push(name);
        }
    }
    Ok((is_home, directories))
}

/// A directory whose `state.json` is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watched(WatchDescriptor);

/// Wakes a client when a `state.json` is replaced or a reader leaves.
#[derive(Debug)]
pub struct Watcher(Inotify);

impl Watcher {
    /// A watcher of nothing yet. Raises our own limit of descriptors as far as it goes: each module costs one.
    ///
    /// # Errors
    /// The user has too many watchers already.
    pub fn new() -> io::Result<Watcher> {
        let mut limit = rustix::process::getrlimit(Resource::Nofile);
        limit.current = limit.maximum;
        // Refused: then the limit stays, and an open that needs more says so itself.
        let _ = rustix::process::setrlimit(Resource::Nofile, limit);
        Ok(Watcher(Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?))
    }

    /// Watches a state directory.
    ///
    /// # Errors
    /// It is not there, or the user watches too much already.
    pub fn add(&self, directory: &Path) -> io::Result<Watched> {
        // Nothing that a reader causes is in the mask, so looking at the files never wakes us again.
        let mask = AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_DELETE_SELF | AddWatchFlags::IN_MOVE_SELF;
        Ok(Watched(self.0.add_watch(directory, mask | AddWatchFlags::IN_ONLYDIR)?))
    }

    /// Waits until something may have changed, and says for which of `lines`; for none at the deadline.
    ///
    /// # Errors
    /// The system refuses to wait.
    pub fn wait(&self, lines: &[(Watched, &Line)], deadline: Option<Moment>) -> io::Result<Vec<usize>> {
        let mut ends: Vec<PollFd<'_>> = std::iter::once(PollFd::from_borrowed_fd(self.0.as_fd(), PollFlags::IN))
            .chain(lines.iter().map(|(_, line)| PollFd::new(&line.0, PollFlags::empty())))
            .collect();
        loop {
            if !poll_until(&mut ends, deadline)? {
                return Ok(Vec::new());
            }
            let mut due: Vec<bool> = ends[1..].iter().map(|end| !end.revents().is_empty()).collect();
            if !ends[0].revents().is_empty() {
                for event in self.0.read_events()? {
                    let of_status = event.name.as_ref().is_some_and(|name| name != file::STATE);
                    for ((watched, _), due) in lines.iter().zip(&mut due) {
                        // An event of no directory says that events were lost: then any may have changed.
                        let concerned = watched.0 == event.wd || event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW);
                        *due |= concerned && !of_status;
                    }
                }
            }
            if due.contains(&true) {
                return Ok((0..due.len()).filter(|index| due[*index]).collect());
            }
        }
    }
}

impl Watcher {
    /// Watches the directory of a log, or one in which such may come.
    ///
    /// # Errors
    /// It is not there, or the user watches too much already.
    pub fn add_log(&self, directory: &Path) -> io::Result<()> {
        let mask = AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO;
        self.0.add_watch(directory, mask | AddWatchFlags::IN_ONLYDIR)?;
        Ok(())
    }

    /// Waits until something happened anywhere.
    ///
    /// # Errors
    /// The system refuses to wait.
    pub fn wait_any(&self) -> io::Result<()> {
        poll_until(&mut [PollFd::from_borrowed_fd(self.0.as_fd(), PollFlags::IN)], None)?;
        self.0.read_events()?;
        Ok(())
    }

    /// Waits until a name came into one of the directories, or the other descriptor is readable; false at the deadline.
    ///
    /// # Errors
    /// The system refuses to wait.
    pub fn wait_or(&self, other: BorrowedFd<'_>, deadline: Option<Moment>) -> io::Result<bool> {
        let mut ends =
            [PollFd::from_borrowed_fd(self.0.as_fd(), PollFlags::IN), PollFd::from_borrowed_fd(other, PollFlags::IN)];
        let woken = poll_until(&mut ends, deadline)?;
        if !ends[0].revents().is_empty() {
            self.0.read_events()?;
        }
        Ok(woken)
    }
}

/// Polls until something is there to be handled; false at the deadline.
pub(super) fn poll_until(ends: &mut [PollFd<'_>], deadline: Option<Moment>) -> io::Result<bool> {
    loop {
        let left = deadline.map(|deadline| {
            let left = deadline.since(clock::moment());
            Timespec { tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX), tv_nsec: left.subsec_nanos().into() }
        });
        match poll(ends, left.as_ref()) {
            Ok(0) => return Ok(false),
            Ok(_) => return Ok(true),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// How many columns standard output has; `None` if it is no terminal.
#[must_use]
pub fn columns() -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(io::stdout()).ok()?;
    (size.ws_col > 0).then_some(size.ws_col.into())
}
