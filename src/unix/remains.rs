//! What a program that has ended left behind: processes of its session or group, found through `/proc`.
//!
//! Must never signal a process that it does not hold by a pidfd or that is not a member at that moment.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::OnceLock;

use super::{pidfd, raw};
use crate::pure::exit::{Pid, Signal};

/// The fields of `/proc/PID/stat` that are asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stat {
    /// The name of its executable, shortened by the kernel; never to be trusted.
    pub command: String,
    /// `R`, `S`, `Z`, …
    pub state: u8,
    /// Its parent.
    pub parent: i32,
    /// Its process group.
    pub group: i32,
    /// Its session.
    pub session: i32,
    /// When it was started, in clock ticks since boot.
    pub started: u64,
}

/// Reads `/proc/PID/stat`; `None` when there is no such process.
///
/// # Errors
/// It cannot be read, as when there are no descriptors left; nothing is known then.
pub fn stat(pid: Pid) -> io::Result<Option<Stat>> {
    match fs::read(format!("/proc/{pid}/stat")) {
        Ok(bytes) => Ok(parse(&bytes)),
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether a process has ended, all its threads with it. The state `Z` of its first thread alone does not say so.
#[must_use]
pub fn has_ended(pid: Pid, pidfd: Option<BorrowedFd<'_>>) -> bool {
    if let Some(pidfd) = pidfd {
        return pidfd::is_readable(pidfd);
    }
    match stat(pid) {
        Ok(None) => true,
        Ok(Some(stat)) if matches!(stat.state, b'Z' | b'X') => {
            fs::read_dir(format!("/proc/{pid}/task")).map_or(true, |threads| threads.count() <= 1)
        }
        Ok(Some(_)) | Err(_) => false,
    }
}

/// The fields of a line of `/proc/PID/stat`; `None` when it is none.
#[must_use]
pub fn parse(bytes: &[u8]) -> Option<Stat> {
    // The name stands in parentheses and may hold any byte, a closing one included.
    let open = bytes.iter().position(|byte| *byte == b'(')?;
    let close = bytes.iter().rposition(|byte| *byte == b')')?;
    let command = String::from_utf8_lossy(bytes.get(open + 1..close)?).into_owned();
    let rest = std::str::from_utf8(bytes.get(close + 1..)?).ok()?;
    let mut fields = rest.split_ascii_whitespace();
    let state = *fields.next()?.as_bytes().first()?;
    let parent = fields.next()?.parse().ok()?;
    let group = fields.next()?.parse().ok()?;
    let session = fields.next()?.parse().ok()?;
    // Field 22 of proc(5); field 6 was the last one read.
    let started = fields.nth(15)?.parse().ok()?;
    Some(Stat { command, state, parent, group, session, started })
}

/// Whether svtree has orphans at all. A program's orphans come to svtree's main thread when it ends, so where there
/// are none nothing of it is left, and `/proc` need not be searched.
#[must_use]
pub fn may_exist() -> bool {
    // Held open: each reading from its beginning is made anew by the kernel, and every restart waits for one.
    static CHILDREN: OnceLock<Option<File>> = OnceLock::new();
    let children = CHILDREN.get_or_init(|| {
        let own = std::process::id();
        File::open(format!("/proc/self/task/{own}/children")).ok()
    });
    match children.as_ref().map(|children| children.read_at(&mut [0; 1], 0)) {
        Some(Ok(0)) => false,
        // Without that file only the search tells.
        Some(Ok(_) | Err(_)) | None => true,
    }
}

/// One process that was left.
#[derive(Debug)]
pub struct Remaining {
    /// Its pid.
    pub pid: Pid,
    /// The name of its executable, for the log.
    pub command: String,
    pidfd: Option<OwnedFd>,
}

impl Remaining {
    /// Readable once it has ended; `None` where there are no pidfds.
    #[must_use]
    pub fn ended(&self) -> Option<BorrowedFd<'_>> {
        self.pidfd.as_ref().map(AsFd::as_fd)
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        // One that has ended meanwhile needs none.
        let _ = match &self.pidfd {
            Some(pidfd) => raw::kill_by_pidfd(pidfd.as_fd(), signal),
            None => raw::kill(self.pid, signal),
        };
    }
}

/// The processes of the session or group that `leader`, which has ended, had made.
///
/// # Errors
/// `/proc` cannot be searched; there may be some.
pub fn of_session(leader: Pid) -> io::Result<Vec<Remaining>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()).and_then(Pid::new) else {
            continue;
        };
        if pid == leader || !is_member(pid, leader)? {
            continue;
        }
        // Held first and looked at again: what the pidfd names is a member.
        let pidfd = pidfd::open(pid).ok();
        if let Some(stat) = stat(pid)?
            && is_member(pid, leader)?
            && !has_ended(pid, pidfd.as_ref().map(AsFd::as_fd))
        {
            found.push(Remaining { pid, command: stat.command, pidfd });
        }
    }
    Ok(found)
}

fn is_member(pid: Pid, leader: Pid) -> io::Result<bool> {
    let leader = leader.get();
    Ok(stat(pid)?.is_some_and(|stat| stat.session == leader || stat.group == leader))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_forge_the_fields() {
        let line = b"42 (a) R 1 (b) S 7 8 9 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 123456 99\n";
        let stat = parse(line).expect("parsed");
        assert_eq!(stat.command, "a) R 1 (b");
        assert_eq!((stat.state, stat.parent, stat.group, stat.session), (b'S', 7, 8, 9));
        assert_eq!(stat.started, 123_456);
        assert_eq!(parse(b""), None);
        assert_eq!(parse(b"1 (x"), None);
    }

    #[test]
    fn our_own_stat_is_there() {
        let own = Pid::new(i32::try_from(std::process::id()).expect("a pid")).expect("positive");
        assert!(stat(own).expect("read").is_some());
        assert!(!has_ended(own, None));
    }
}
