//! `supervise.log` and `supervise.log.wf` of a status directory: a line at a time, bounded, made again when they are gone.
//!
//! Must never keep a log open: whoever takes one away, or cuts it short, does no harm.

use std::io;
use std::os::fd::BorrowedFd;
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags, fchmod, fstat, mknodat, openat, renameat};
use rustix::io::Errno;

use super::file;
use super::files::discard;
use crate::unix::{clock, raw};

/// A log is set aside as `NAME.old` when it is longer than this, in bytes.
const BOUND: u64 = 256 * 1024;

/// How bad a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// What was done.
    Notice,
    /// Something is not as it should be.
    Warning,
    /// It does not go on.
    Fatal,
}

impl Level {
    fn name(self) -> &'static str {
        match self {
            Level::Notice => "NOTICE",
            Level::Warning => "WARNING",
            Level::Fatal => "FATAL",
        }
    }
}

/// Makes both, where they are not there.
///
/// # Errors
/// Which one cannot be, and why.
pub fn open_logs(directory: BorrowedFd<'_>) -> Result<(), (&'static str, io::Error)> {
    [file::LOG, file::LOG_WF].into_iter().try_for_each(|name| make(directory, name).map_err(|error| (name, error)))
}

/// Makes one, where it is not there.
pub(super) fn make(directory: BorrowedFd<'_>, name: &str) -> io::Result<()> {
    let mode = Mode::from_raw_mode(0o644);
    if raw::umask() & mode.as_raw_mode() == 0 && mknodat(directory, name, FileType::RegularFile, mode, 0).is_ok() {
        return Ok(());
    }
    append(directory, name, b"")
}

/// Appends lines to `supervise.log`, and to `supervise.log.wf` those that are a warning or worse.
pub fn log(directory: BorrowedFd<'_>, lines: &[(Level, String)]) {
    let now = jiff::Timestamp::new(clock::wall().seconds, 0).unwrap_or_default();
    let local = now.to_zoned(jiff::tz::TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string();
    let (mut all, mut warnings) = (String::new(), String::new());
    for (level, text) in lines {
        let line = format!("[{}] {local} {text}\n", level.name());
        all += &line;
        if *level != Level::Notice {
            warnings += &line;
        }
    }
    for (name, text) in [(file::LOG, all), (file::LOG_WF, warnings)] {
        if !text.is_empty() {
            // A log that cannot be written has nowhere to say so; the records tell what is true.
            let _ = append(directory, name, text.as_bytes());
        }
    }
}

pub(super) fn append(directory: BorrowedFd<'_>, name: &str, bytes: &[u8]) -> io::Result<()> {
    let flags =
        OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let mode = Mode::from_raw_mode(0o644);
    let file = match openat(directory, name, flags, mode) {
        Err(Errno::LOOP | Errno::NXIO | Errno::ISDIR) => {
            discard(directory, Path::new(name))?;
            openat(directory, name, flags, mode)?
        }
        file => file?,
    };
    let stat = fstat(&file)?;
    if raw::umask() & 0o644 != 0 && stat.st_size == 0 {
        fchmod(&file, mode)?;
    }
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        discard(directory, Path::new(name))?;
    } else if u64::try_from(stat.st_size).unwrap_or(0) > BOUND {
        renameat(directory, name, directory, format!("{name}.old"))?;
    } else {
        if !bytes.is_empty() {
            rustix::io::write(&file, bytes)?;
        }
        return Ok(());
    }
    let file = openat(directory, name, flags, mode)?;
    rustix::io::write(&file, bytes)?;
    Ok(())
}
