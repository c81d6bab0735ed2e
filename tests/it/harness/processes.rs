//! Processes, as `/proc` tells of them.
//!
//! Must never believe a pid without looking: what is gone answers with nothing.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, Resource, Rlimit, Signal};

use super::{Tree, eventually, text, wait_for};

/// Every pid there is.
pub fn processes() -> impl Iterator<Item = i32> {
    fs::read_dir("/proc").expect("/proc").flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// The fields of `/proc/PID/stat` from the third on, which is the state.
pub fn stat(pid: i32) -> Option<Vec<String>> {
    let line = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the name in parentheses, and may hold anything.
    let (_, fields) = line.rsplit_once(") ")?;
    Some(fields.split_whitespace().map(str::to_owned).collect())
}

/// The letter of its state, such as `S` or `Z`.
pub fn process_state(pid: i32) -> Option<char> {
    stat(pid)?.first()?.chars().next()
}

/// Whether it runs: neither gone nor a zombie.
pub fn alive(pid: i32) -> bool {
    !matches!(process_state(pid), None | Some('Z' | 'X'))
}

/// The children of a process, zombies too.
pub fn children(of: i32) -> Vec<i32> {
    processes().filter(|pid| parent(*pid) == of).collect()
}

/// The parent of a process; 0 when it is gone.
pub fn parent(pid: i32) -> i32 {
    stat(pid).and_then(|fields| fields.get(1)?.parse().ok()).unwrap_or(0)
}

/// All that descends from a process, zombies too.
pub fn descendants(ancestor: i32) -> Vec<i32> {
    let mut found = children(ancestor);
    let mut next = 0;
    while let Some(pid) = found.get(next) {
        found.extend(children(*pid));
        next += 1;
    }
    found
}

/// The file that a process runs; `None` when it is gone, or a zombie.
pub fn runs(pid: i32) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{pid}/exe")).ok()
}

/// The children of a process that have ended and wait to be reaped.
pub fn zombies(parent: i32) -> Vec<i32> {
    let mut found = children(parent);
    found.retain(|pid| process_state(*pid) == Some('Z'));
    found
}

/// The processor time that a process has used, in ticks of 1/100 s.
pub fn ticks(pid: i32) -> u64 {
    let fields = stat(pid).expect("it runs");
    fields[11..13].iter().map(|field| field.parse::<u64>().expect("ticks")).sum()
}

/// A line of `/proc/PID/status`, such as `SigBlk`.
pub fn process_field(pid: i32, name: &str) -> String {
    let text = text(Path::new(&format!("/proc/{pid}/status")));
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_default().trim().to_owned()
}

/// The open descriptors of a process.
pub fn descriptors(pid: i32) -> Vec<i32> {
    let mut found: Vec<i32> = fs::read_dir(format!("/proc/{pid}/fd"))
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    found.sort_unstable();
    found
}

/// Waits until the program of a module is `sleep`, and no longer the shell of its `run`.
pub fn sleeping(tree: &Tree, name: &str) -> i32 {
    wait_for(format!("{name} to sleep"), || {
        tree.pid(name).filter(|pid| arguments(*pid).first().is_some_and(|program| program == "sleep"))
    })
}

/// A process comes to have these descriptors open and no other one. What it inherited stays, while a loader has its
/// libraries open for a moment, and a shell its script.
pub fn has_open(pid: i32, only: &[i32]) {
    eventually(format!("{pid} to have {only:?} open, and no other one"), || descriptors(pid) == only);
}

/// Sets how many descriptors a process may have open, and returns how many it could have.
pub fn limit_descriptors(pid: i32, count: u64) -> u64 {
    let pid = Pid::from_raw(pid);
    let limits = |limit| rustix::process::prlimit(pid, Resource::Nofile, limit).expect("its limit");
    let maximum = rustix::process::getrlimit(Resource::Nofile).maximum;
    limits(Rlimit { current: Some(count), maximum }).current.expect("a number")
}

/// The arguments of a process, the program first.
pub fn arguments(pid: i32) -> Vec<String> {
    let line = text(Path::new(&format!("/proc/{pid}/cmdline")));
    line.split_terminator('\0').map(str::to_owned).collect()
}

/// The environment of a process, in the order of its names. In the midst of its exec a process has none.
pub fn environment(pid: i32) -> Vec<String> {
    let block = || text(Path::new(&format!("/proc/{pid}/environ")));
    eventually("an environment", || !block().is_empty());
    let mut variables: Vec<String> = block().split_terminator('\0').map(str::to_owned).collect();
    variables.sort();
    variables
}

/// Sends a signal; a process that is gone is no mistake.
pub fn signal_pid(pid: i32, signal: Signal) {
    let pid = Pid::from_raw(pid).expect("a pid");
    match rustix::process::kill_process(pid, signal) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => {}
        Err(error) => panic!("signal to {pid:?}: {error}"),
    }
}

/// A process in words: what it executes, of which module it is, and its state and parent.
pub fn describe(pid: i32) -> String {
    let module = environment(pid).into_iter().find(|variable| variable.starts_with("SVTREE_MODULE="));
    let stat = stat(pid).unwrap_or_default();
    let state_and_parent = stat.get(..2).unwrap_or_default().join(" ");
    format!("{pid} ({}) {} {state_and_parent}", arguments(pid).join(" "), module.unwrap_or_default())
}
