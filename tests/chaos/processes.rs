//! Processes, as `/proc` tells of them.
//!
//! Must never believe a pid without looking, and never signal one that was not held first.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// A process at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    pub pid: i32,
    pub state: char,
    pub parent: i32,
    pub session: i32,
    /// Since boot, in ticks: with the pid it names a process once and for all.
    pub started: u64,
}

impl Process {
    /// What there is to see of a pid.
    pub fn of(pid: i32) -> Option<Process> {
        let line = fs::read(format!("/proc/{pid}/stat")).ok()?;
        let line = String::from_utf8_lossy(&line);
        // The second field is the name in parentheses, and may hold anything.
        let fields: Vec<&str> = line.rsplit_once(") ")?.1.split_whitespace().collect();
        Some(Process {
            pid,
            state: fields.first()?.chars().next()?,
            parent: fields.get(1)?.parse().ok()?,
            session: fields.get(3)?.parse().ok()?,
            started: fields.get(19)?.parse().ok()?,
        })
    }

    /// Whether it has not ended.
    pub fn is_alive(&self) -> bool {
        !matches!(self.state, 'Z' | 'X')
    }

    /// Whether this very process is still there and has not ended.
    pub fn still_lives(&self) -> bool {
        Process::of(self.pid).is_some_and(|now| now.started == self.started && now.is_alive())
    }

    /// The module that it says it belongs to.
    pub fn module(&self) -> Option<String> {
        variable(self.pid, "SVTREE_MODULE")
    }

    /// What it is, for a report.
    pub fn describe(&self) -> String {
        let arguments = fs::read(format!("/proc/{}/cmdline", self.pid)).unwrap_or_default();
        format!("{self:?} {:?}", String::from_utf8_lossy(&arguments))
    }
}

/// Every process there is.
pub fn all() -> impl Iterator<Item = Process> {
    let pids = fs::read_dir("/proc").expect("/proc").flatten();
    pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter_map(Process::of)
}

/// The children of a process, zombies too.
pub fn children(parent: i32) -> Vec<Process> {
    all().filter(|process| process.parent == parent).collect()
}

/// The processes that have this variable in their environment.
pub fn marked(name: &str, value: &Path) -> Vec<Process> {
    let value = value.as_os_str().as_bytes();
    all()
        .filter(Process::is_alive)
        .filter(|process| variable(process.pid, name).is_some_and(|found| found.as_bytes() == value))
        .collect()
}

/// A variable of a process's environment.
pub fn variable(pid: i32, name: &str) -> Option<String> {
    let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
    environment.split(|byte| *byte == 0).find_map(|line| {
        let value = line.strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
        OsStr::from_bytes(value).to_str().map(str::to_owned)
    })
}

/// How many entries a directory of `/proc/PID` has: `fd`, `task`.
pub fn count(pid: i32, what: &str) -> usize {
    fs::read_dir(format!("/proc/{pid}/{what}")).map_or(0, Iterator::count)
}

/// Sends a signal to a process if, once it is held, it is found to be the module's.
pub fn signal(pid: i32, module: &str, signal: Signal) -> bool {
    let Some(held) = Pid::from_raw(pid).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok()) else {
        return false;
    };
    let own = Process::of(pid).is_some_and(|process| process.module().as_deref() == Some(module));
    own && pidfd_send_signal(&held, signal).is_ok()
}

/// The inodes that a process holds a `flock` on.
pub fn locks(pid: i32) -> Vec<u64> {
    let pid = pid.to_string();
    let text = fs::read_to_string("/proc/locks").unwrap_or_default();
    text.lines()
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let inode = fields.get(5)?.rsplit(':').next()?.parse().ok()?;
            (fields.get(1) == Some(&"FLOCK") && fields.get(4) == Some(&pid.as_str())).then_some(inode)
        })
        .collect()
}
