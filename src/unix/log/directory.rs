//! The directory of one log: its lock, the current file, and those that have ended.
//!
//! Must never decide when a file ends or how many are kept.

use std::ffi::OsStr;
use std::fs::{DirBuilder, File};
use std::io::{self, BufRead, BufReader, Seek, SeekFrom};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, fstat, openat, renameat, statat, unlinkat};
use rustix::io::Errno;

use super::Syncer;
use crate::pure::log::{CURRENT, is_rotated, name, surplus};
use crate::pure::time::Wall;
pub use crate::unix::home::NotOpened;
use crate::unix::home::files;

/// Held as long as somebody writes there.
const LOCK: &str = "lock";

/// What is kept of a file that has become too long, until it has that one's name.
const SHORTENED: &str = ".shortened";

/// The directory of a log, locked, with its current file.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    held: Arc<OwnedFd>,
    _lock: OwnedFd,
    current: OwnedFd,
    size: u64,
    /// The one that was removed, in whose place this is.
    former: Option<Arc<OwnedFd>>,
}

impl Directory {
    /// Opens a directory, made with those above it if it is not there, and takes its lock, which is tried for so long.
    ///
    /// # Errors
    /// Somebody else writes there, or something cannot be made.
    pub fn open(path: &Path, patience: Duration) -> Result<Directory, NotOpened> {
        let failed = |error: io::Error| NotOpened::Failed(path.to_owned(), error);
        DirBuilder::new().recursive(true).mode(0o750).create(path).map_err(failed)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = openat(rustix::fs::CWD, path, flags, Mode::empty()).map_err(|errno| failed(errno.into()))?;
        let lock = files::lock(directory.as_fd(), Path::new(LOCK), path, patience)?;
        let failed = |error: io::Error| NotOpened::Failed(path.join(CURRENT), error);
        let (current, size) = open_current(directory.as_fd()).map_err(failed)?;
        Ok(Directory { path: path.to_owned(), held: Arc::new(directory), _lock: lock, current, size, former: None })
    }

    /// Where it is, for messages.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The directory itself.
    #[must_use]
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.held.as_fd()
    }

    /// The length of the current file.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// When the current file was written last.
    #[must_use]
    pub fn changed(&self) -> Option<Wall> {
        let stat = fstat(&self.current).ok()?;
        Some(Wall { seconds: stat.st_mtime, nanos: u32::try_from(stat.st_mtime_nsec).ok()? })
    }

    /// Whether the current file ends within a line.
    #[must_use]
    pub fn ends_within_line(&self) -> bool {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let last = || {
            let file = openat(&self.held, CURRENT, flags, Mode::empty()).ok()?;
            let mut byte = [0];
            let count = rustix::io::pread(&file, &mut byte, self.size.checked_sub(1)?).ok()?;
            (count == 1).then_some(byte[0])
        };
        last().is_some_and(|byte| byte != b'\n')
    }

    /// Looks whether the current file is still there and as long as it was: others may have cut it or taken it away. Says
    /// whether it is another one now.
    ///
    /// # Errors
    /// A new one cannot be made.
    pub fn look(&mut self) -> io::Result<bool> {
        let stat = fstat(&self.current)?;
        if stat.st_nlink == 0 {
            self.renew()?;
            return Ok(true);
        }
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        let cut = size < self.size;
        self.size = size;
        Ok(cut)
    }

    /// Appends to the current file, and returns how much of it: less than all of it where the disk is nearly full.
    ///
    /// # Errors
    /// Nothing could be written.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = rustix::io::retry_on_intr(|| rustix::io::write(&self.current, bytes))?;
        self.size += count as u64;
        Ok(count)
    }

    /// Gives the current file its name, removes those that are too many, and begins another one.
    ///
    /// # Errors
    /// The current one is as it was, or there is none and [`Directory::renew`] is to be called.
    pub fn rotate(&mut self, now: Wall, keep: u32, syncer: &Syncer) -> io::Result<()> {
        let mut names = self.names()?;
        let name = name(now, names.iter().map(Vec::as_slice));
        match renameat(&self.held, CURRENT, &self.held, &*name) {
            // Somebody took it away.
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno.into()),
        }
        names.push(name.clone().into_bytes());
        self.remove(surplus(names, keep));
        syncer.sync(&self.held, name);
        self.renew()
    }

    /// Makes a current file where there is none, and the directory itself if that was removed.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn renew(&mut self) -> io::Result<()> {
        match open_current(self.held.as_fd()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let anew =
                    Directory::open(&self.path, Duration::ZERO).map_err(|error| io::Error::other(error.to_string()))?;
                let former = std::mem::replace(self, anew).held;
                self.former = Some(former);
            }
            opened => (self.current, self.size) = opened?,
        }
        Ok(())
    }

    /// What was to be done about the other one is done.
    pub fn forget_former(&mut self) {
        self.former = None;
    }

    /// The directory in whose place this one was made, since it was removed.
    #[must_use]
    pub fn former(&self) -> Option<BorrowedFd<'_>> {
        self.former.as_ref().map(AsFd::as_fd)
    }

    /// Removes those that are more than are to be kept, and of those that are longer than any may be now the beginning.
    ///
    /// # Errors
    /// The directory cannot be read, or there is no room for what is kept of one.
    pub fn prune(&self, keep: u32, longest: u64) -> io::Result<()> {
        let mut names = self.names()?;
        let gone = surplus(names.clone(), keep);
        names.retain(|name| is_rotated(name) && !gone.contains(name));
        self.remove(gone);
        // What a predecessor was about to keep.
        self.remove(vec![SHORTENED.as_bytes().to_vec()]);
        names.iter().try_for_each(|name| self.shorten(OsStr::from_bytes(name), longest))
    }

    fn shorten(&self, name: &OsStr, longest: u64) -> io::Result<()> {
        let stat = statat(&self.held, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile || size <= longest {
            return Ok(());
        }
        let flags = OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let mut long = BufReader::new(File::from(openat(&self.held, name, flags | OFlags::RDONLY, Mode::empty())?));
        // It begins with a line, if there is an end of one.
        long.seek(SeekFrom::Start(size - longest))?;
        let parted = long.skip_until(b'\n')? as u64;
        if parted == longest {
            long.seek(SeekFrom::Start(size - longest))?;
        }
        let flags = flags | OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC;
        let mut short = File::from(openat(&self.held, SHORTENED, flags, Mode::from_raw_mode(0o640))?);
        io::copy(&mut long, &mut short)?;
        short.sync_all()?;
        Ok(renameat(&self.held, SHORTENED, &self.held, name)?)
    }

    fn remove(&self, names: Vec<Vec<u8>>) {
        for name in names {
            // Tried again with the next one that is too many.
            let _ = unlinkat(&self.held, OsStr::from_bytes(&name), AtFlags::empty());
        }
    }

    fn names(&self) -> io::Result<Vec<Vec<u8>>> {
        let entries = Dir::read_from(&self.held)?;
        entries.map(|entry| Ok(entry?.file_name().to_bytes().to_vec())).collect()
    }
}

/// Opens the current file, made if it is not there, and says how long it is.
fn open_current(directory: BorrowedFd<'_>) -> io::Result<(OwnedFd, u64)> {
    // What is no file must not even be opened: a FIFO waits, and a device may act on it.
    let stands = statat(directory, CURRENT, AtFlags::SYMLINK_NOFOLLOW);
    if stands.is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile) {
        return Err(io::Error::other("it is no regular file"));
    }
    let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let current = openat(directory, CURRENT, flags, Mode::from_raw_mode(0o640))?;
    let size = fstat(&current)?.st_size;
    Ok((current, u64::try_from(size).unwrap_or(0)))
}
