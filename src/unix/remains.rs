//! What a program that has ended left behind: processes of its cgroup, or of its session and with its mark.
//!
//! Must never signal a process that it does not hold by a pidfd or that is not a member at that moment.

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::OnceLock;

use super::cgroup::Cgroup;
use super::{environment, pidfd, pseudo, raw};
use crate::pure::exit::{Pid, Signal};
use crate::pure::name::ModuleName;
use crate::pure::reconcile::Id;

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
    /// How it ended, as `wait` tells, once it has; 0 where svtree may not know.
    pub status: i32,
}

/// Reads `/proc/PID/stat`; `None` when there is no such process.
///
/// # Errors
/// It cannot be read, as when there are no descriptors left; nothing is known then.
pub fn stat(pid: Pid) -> io::Result<Option<Stat>> {
    match pseudo::read(format!("/proc/{pid}/stat")) {
        Ok(bytes) => Ok(parse(&bytes)),
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether a process that shows no arguments may be in the midst of an exec: it lives, and runs a file.
#[must_use]
pub fn is_executing(pid: Pid) -> bool {
    stat(pid).is_ok_and(|stat| stat.is_some_and(|stat| !matches!(stat.state, b'Z' | b'X')))
        && fs::symlink_metadata(format!("/proc/{pid}/exe")).is_ok()
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
    // Field 52, which older kernels lack.
    let status = fields.nth(29).and_then(|status| status.parse().ok()).unwrap_or(0);
    Some(Stat { command, state, parent, group, session, started, status })
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
    let mut text = [0; 64];
    match children.as_ref().map(|children| children.read_at(&mut text, 0)) {
        Some(Ok(0)) => false,
        // Programs that were followed, and all of them after an upgrade, are children of that thread, too.
        Some(Ok(count)) if count < text.len() => text.get(..count).is_none_or(|text| !pidfd::all_claimed(text)),
        Some(Ok(_)) => whole(children.as_ref()).is_none_or(|text| !pidfd::all_claimed(&text)),
        // Without that file only the search tells.
        Some(Err(_)) | None => true,
    }
}

/// A long list, in one reading: what is read in two does not fit together.
#[inline(never)]
fn whole(children: Option<&File>) -> Option<Vec<u8>> {
    let mut text = vec![0; 1 << 16];
    let count = children?.read_at(&mut text, 0).ok().filter(|count| *count < text.len())?;
    text.truncate(count);
    Some(text)
}

/// One process that was left.
#[derive(Debug)]
pub struct Remaining {
    /// Its pid.
    pub pid: Pid,
    /// What the kernel says of it.
    pub stat: Stat,
    pidfd: Option<OwnedFd>,
}

impl Remaining {
    /// Readable once it has ended; `None` where there are no pidfds.
    #[must_use]
    pub fn ended(&self) -> Option<BorrowedFd<'_>> {
        self.pidfd.as_ref().map(AsFd::as_fd)
    }

    /// What holds it, where there are pidfds.
    #[must_use]
    pub fn into_pidfd(self) -> Option<OwnedFd> {
        self.pidfd
    }

    /// Whether it is in a session, or in the group of that number.
    #[must_use]
    pub fn is_in(&self, session: Pid) -> bool {
        self.stat.session == session.get() || self.stat.group == session.get()
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

/// The processes of the session, or of the group of that number, that a child of ours had made that is not reaped yet.
///
/// # Errors
/// It cannot be told; there may be some.
pub fn of_session(leader: Pid) -> io::Result<Vec<Remaining>> {
    let is_member = |pid: Pid| {
        Ok::<bool, io::Error>(stat(pid)?.is_some_and(|stat| {
            let leader = leader.get();
            stat.session == leader || stat.group == leader
        }))
    };
    // It may still run, and then they are no orphans yet.
    hold(everybody()?, &[leader], &mut Vec::new(), |pid, _| is_member(pid)).map(|(found, _)| found)
}

/// Whose processes are looked for.
#[derive(Clone, Copy, Debug)]
pub struct Whose<'a> {
    /// The module: svtree's own descendants that have its name in their environment are its.
    pub module: &'a ModuleName,
    /// The session of its program, with those of the group of that number.
    pub session: Option<Pid>,
    /// The cgroup that it was started in: all that is in it is the module's, and nothing else.
    pub cgroup: Option<&'a Cgroup>,
    /// Whether what it leaves is svtree's: so it is unless the program was a predecessor's.
    pub own: bool,
    /// The program that has just ended, if it is known: what runs under its name, and came to svtree from it, is its.
    pub program: Option<&'a Stat>,
    /// Processes of it that run and are children of its own thread, which descend from nobody that came to svtree.
    pub roots: &'a [Pid],
    /// Processes that are known and no remains: the one that ended, a `finish`, scripts.
    pub except: &'a [Pid],
}

/// The processes of a module beside those that are known, held by pidfds.
///
/// # Errors
/// It cannot be told; there may be some.
pub fn of(whose: Whose<'_>) -> io::Result<Vec<Remaining>> {
    let mut zombies = Vec::new();
    for _ in 0..MOST_LOOKS {
        let candidates = match whose.cgroup {
            Some(cgroup) => cgroup.members()?,
            None if whose.own => descendants(whose.roots)?,
            None => everybody()?,
        };
        let (found, passed) = hold(candidates, whose.except, &mut zombies, |pid, found| is_member(pid, whose, found))?;
        // One that ended while it was looked at may have left another one. Of everybody somebody always ends.
        let narrow = whose.cgroup.is_some() || whose.own;
        if !found.is_empty() || !passed || !narrow {
            return Ok(found);
        }
    }
    Err(io::Error::other("it changes faster than it can be looked at"))
}

/// One process, held, if it is a member.
#[must_use]
pub fn one(pid: Pid, is_member: impl Fn() -> bool) -> Option<Remaining> {
    let is_member = |asked: Pid, _: &[Remaining]| Ok(asked == pid && is_member());
    hold(vec![pid], &[], &mut Vec::new(), is_member).ok().and_then(|(found, _)| found.into_iter().next())
}

/// Whether a process is one of the module's: in its cgroup, else in the session of its program, descended from its
/// `roots`, or come to svtree with its name.
///
/// # Errors
/// It cannot be told.
pub fn belongs(pid: Pid, whose: Whose<'_>) -> io::Result<bool> {
    if let Some(cgroup) = whose.cgroup {
        return cgroup.holds(pid);
    }
    let mut at = pid;
    for _ in 0..MOST_ANCESTORS {
        let Some(stat) = stat(at)? else { return Ok(false) };
        if whose.roots.contains(&at) || whose.session.is_some_and(|session| stat.session == session.get()) {
            return Ok(true);
        }
        if u32::try_from(stat.parent).is_ok_and(|parent| parent == std::process::id()) {
            return Ok(environment::mark(at).is_some_and(|mark| mark == whose.module.as_bytes()));
        }
        let Some(parent) = Pid::new(stat.parent) else { return Ok(false) };
        at = parent;
    }
    Ok(false)
}

/// No process has more than these.
pub(super) const MOST_ANCESTORS: usize = 1000;

/// What goes from process to process is met after so many looks, or is looked at again later.
const MOST_LOOKS: usize = 50;

/// Holds those that are members; says too whether there was one that has ended meanwhile. `zombies` are those that had
/// ended before the candidates were listed, and those of now are added: what they left is in the next list.
fn hold(
    candidates: Vec<Pid>,
    except: &[Pid],
    zombies: &mut Vec<Pid>,
    is_member: impl Fn(Pid, &[Remaining]) -> io::Result<bool>,
) -> io::Result<(Vec<Remaining>, bool)> {
    let (mut found, mut passed): (Vec<Remaining>, bool) = (Vec::new(), false);
    for pid in candidates {
        if except.contains(&pid) {
            continue;
        }
        match stat(pid)? {
            // It ended since the list was made; nobody can say whose it was.
            None => {
                passed = true;
                continue;
            }
            Some(stat) if matches!(stat.state, b'Z' | b'X') && has_ended(pid, None) => {
                // Unless it ended before the list was made, what it left may not be in there.
                if !zombies.contains(&pid) {
                    passed = true;
                    zombies.push(pid);
                }
                continue;
            }
            Some(_) => {}
        }
        if !is_member(pid, &found)? {
            // One that has ended by now belongs nowhere any more.
            passed |= stat(pid)?.is_none_or(|stat| matches!(stat.state, b'Z' | b'X'));
            continue;
        }
        // Held first and looked at again: what the pidfd names is a member.
        let pidfd = pidfd::open(pid).ok();
        match stat(pid)? {
            Some(stat) if is_member(pid, &found)? && !has_ended(pid, pidfd.as_ref().map(AsFd::as_fd)) => {
                found.push(Remaining { pid, stat, pidfd });
            }
            Some(_) | None => passed = true,
        }
    }
    Ok((found, passed))
}

fn is_member(pid: Pid, whose: Whose<'_>, found: &[Remaining]) -> io::Result<bool> {
    if let Some(cgroup) = whose.cgroup {
        return cgroup.holds(pid);
    }
    let Some(stat) = stat(pid)? else { return Ok(false) };
    let session = whose.session.map(Pid::get);
    if session.is_some_and(|session| stat.session == session || stat.group == session) {
        return Ok(true);
    }
    // Of those that are not ours the environment says nothing: there may be another tree with a module of that name.
    if !whose.own || found.iter().any(|member| member.pid.get() == stat.parent) {
        return Ok(whose.own);
    }
    Ok(match (environment::mark(pid), whose.program) {
        (Some(mark), _) => mark == whose.module.as_bytes(),
        // A daemon that has made a session of its own and writes its title over its environment.
        (None, Some(program)) => {
            let is_orphan = u32::try_from(stat.parent).is_ok_and(|parent| parent == std::process::id());
            is_orphan && stat.command == program.command && stat.started >= program.started
        }
        (None, None) => false,
    })
}

/// The process that the others descend from, else the oldest.
#[must_use]
pub fn heir(remains: &[Remaining]) -> Option<&Remaining> {
    let parent = |pid: i32| remains.iter().find(|other| other.pid.get() == pid).map(|member| member.stat.parent);
    let is_ancestor = |old: &Remaining, mut pid: i32| {
        // Each step leads to a parent, and no process is its own ancestor; but what was read in turn may disagree.
        for _ in 0..remains.len() {
            if pid == old.pid.get() {
                return true;
            }
            let Some(next) = parent(pid) else { return false };
            pid = next;
        }
        false
    };
    let root = remains.iter().find(|old| remains.iter().all(|other| is_ancestor(old, other.pid.get())));
    root.or_else(|| remains.iter().min_by_key(|member| (member.stat.started, member.pid)))
}

/// svtree's orphans, the roots, and all that descends from either, parents first.
fn descendants(roots: &[Pid]) -> io::Result<Vec<Pid>> {
    let own = std::process::id();
    let file = format!("/proc/self/task/{own}/children");
    let Ok(mut orphans) = pseudo::text(&file) else {
        // A kernel without that file.
        return everybody();
    };
    // It may leave some out while others end: see proc(5).
    orphans.push(' ');
    orphans.push_str(&pseudo::text(&file).unwrap_or_default());
    let pids = |text: &str| text.split_ascii_whitespace().filter_map(|pid| Pid::new(pid.parse().ok()?)).collect();
    let mut found: Vec<Pid> = pids(&orphans);
    found.extend(roots);
    found.sort_unstable();
    found.dedup();
    let mut next = 0;
    while let Some(pid) = found.get(next) {
        for thread in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
            // One that has ended meanwhile has left its children to us: they are looked for again.
            let children: Vec<Pid> = pids(&pseudo::text(thread.path().join("children")).unwrap_or_default());
            found.extend(children.into_iter().filter(|child| child.get() > 1));
        }
        next += 1;
    }
    Ok(found)
}

/// All processes there are, by age as far as pids tell.
fn everybody() -> io::Result<Vec<Pid>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        found.extend(name.to_str().and_then(|name| Pid::new(name.parse().ok()?)));
    }
    Ok(found)
}

/// What a process runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Executable {
    file: Option<Id>,
    path: u64,
}

impl Executable {
    /// Of a process that runs; `None` when it cannot be told.
    #[must_use]
    pub fn of(pid: Pid) -> Option<Executable> {
        let link = format!("/proc/{pid}/exe");
        let target = fs::read_link(&link).ok()?.into_os_string().into_encoded_bytes();
        let path = target.strip_suffix(b" (deleted)").unwrap_or(&target);
        let mut digest = DefaultHasher::new();
        path.hash(&mut digest);
        let file = fs::metadata(&link).ok().map(|file| Id::of(file.dev(), file.ino()));
        Some(Executable { file, path: digest.finish() })
    }

    /// The same file, or another one in its place, as after an upgrade.
    #[must_use]
    pub fn is_same(&self, other: &Executable) -> bool {
        self.path == other.path || (self.file.is_some() && self.file == other.file)
    }
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
