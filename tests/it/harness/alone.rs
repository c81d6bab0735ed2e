//! A `supervise` alone, started as deployments do: detached, by a link of any name, with its status beside it.
//!
//! Must never leave one running: each is killed with the test, and its program with it.

use std::fs;
use std::ops::Deref;
use std::path::PathBuf;

use rustix::process::Signal;

use super::{Ran, Tree, alive, eventually, runs, signal_pid, text, wait_for};

/// A directory in which supervises run, and no svtree.
pub struct Alone(Tree);

impl Deref for Alone {
    type Target = Tree;

    fn deref(&self) -> &Tree {
        &self.0
    }
}

impl Alone {
    /// With nothing but an empty `status/`.
    pub fn new() -> Alone {
        Alone(Tree::new())
    }

    /// With a variable in the environment of all that is started here.
    pub fn env(name: &str, value: &str) -> Alone {
        Alone(Tree::new().env(name, value))
    }

    /// Runs `supervise ARGS…` to its end, which for a detached one is at once.
    pub fn supervise(&self, args: &[&str]) -> Ran {
        self.called("supervise.web", args.iter().copied())
    }

    /// Starts `supervise -p status/web -f COMMAND`, with more options; returns the pid of its program.
    #[track_caller]
    pub fn start(&self, command: &str, options: &[&str]) -> i32 {
        let before = self.pid("web").unwrap_or(0);
        let mut args = vec!["-p", "status/web", "-f", command];
        args.extend(options);
        assert_eq!(self.supervise(&args).ok(), "");
        self.supervisor();
        self.up_again("web", if alive(before) { 0 } else { before })
    }

    /// The process that holds the lock of `status/web`, once there is one.
    #[track_caller]
    pub fn supervisor(&self) -> i32 {
        wait_for("a supervise that has the lock", || self.supervisors().into_iter().next())
    }

    /// Every process that holds the lock of `status/web`.
    pub fn supervisors(&self) -> Vec<i32> {
        let Ok(lock) = fs::canonicalize(self.home("web").join("lock")) else { return Vec::new() };
        let held = |pid: i32| {
            let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
            descriptors.into_iter().any(|entry| fs::read_link(entry.path()).is_ok_and(|file| file == lock))
        };
        self.everybody().into_iter().filter(|pid| held(*pid)).collect()
    }

    /// Every supervise that was started here and has not ended.
    pub fn everybody(&self) -> Vec<i32> {
        let exe = fs::canonicalize(super::SVTREE).expect("the executable");
        let mut found = self.processes();
        found.retain(|pid| runs(*pid).as_ref() == Some(&exe));
        found
    }

    /// Waits until no supervise runs any more.
    #[track_caller]
    pub fn left(&self) {
        eventually("every supervise to have left", || self.everybody().is_empty());
    }

    /// Waits until one supervise runs, and no other one.
    #[track_caller]
    pub fn left_but_one(&self) {
        eventually("one supervise to run", || self.everybody().len() == 1 && self.supervisors().len() == 1);
    }

    /// The tree around it, whose svtree may be started, too.
    pub fn tree(&self) -> &Tree {
        &self.0
    }

    /// What `supervise.log` of `status/web` says.
    pub fn log(&self) -> String {
        text(&self.home("web").join("supervise.log"))
    }

    /// What `supervise.log.wf` says.
    pub fn warnings(&self) -> String {
        text(&self.home("web").join("supervise.log.wf"))
    }

    /// An executable script in the directory that supervises are started in.
    pub fn script(&self, name: &str, contents: &str) -> PathBuf {
        let path = self.path(name);
        super::write(&path, contents, 0o755);
        path
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        // They are told by nobody to end their programs.
        self.0.killed.set(true);
        for pid in self.everybody() {
            signal_pid(pid, Signal::KILL);
        }
        if std::thread::panicking() {
            eprintln!("--- supervise.log\n{}", self.log());
        }
    }
}
