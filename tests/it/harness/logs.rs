//! Loggers and what they have written.
//!
//! Must never read a log in any other order than its names have.

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};

use rustix::fs::{CWD, Mode, mkfifoat};
use rustix::process::Signal;

use super::{SVTREE, Tree, signal_pid, spawn, wait_for};

/// `svtree log` on a FIFO, or on what it is given.
pub struct Logger(Child);

impl Logger {
    /// Starts `svtree log DIR OPTIONS…` in the tree's directory.
    pub fn start(tree: &Tree, input: impl Into<Stdio>, directory: &str, options: &[&str]) -> Logger {
        let mut command = tree.command([SVTREE, "log", directory]);
        let complaints = OpenOptions::new().append(true).create(true).open(tree.path("out/stderr")).expect("a file");
        command.args(options).stdin(input).stderr(complaints);
        Logger(spawn(&mut command).expect("it starts"))
    }

    /// Its pid.
    pub fn pid(&self) -> i32 {
        self.0.id().cast_signed()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        signal_pid(self.pid(), signal);
    }

    /// Waits until it has ended.
    pub fn ended(&mut self) -> ExitStatus {
        wait_for("the logger to end", || self.0.try_wait().expect("wait"))
    }
}

impl Drop for Logger {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Makes a FIFO and opens it as a supervised program has it: to read and to write.
pub fn fifo(path: &Path) -> File {
    mkfifoat(CWD, path, Mode::from_raw_mode(0o600)).expect("a FIFO");
    OpenOptions::new().read(true).write(true).open(path).expect("the FIFO")
}

/// The files of a log that have ended, the oldest first.
pub fn rotated(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut found: Vec<PathBuf> =
        entries.filter(|path| path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"@"))).collect();
    found.sort();
    found
}

/// All that a log holds, the oldest first.
pub fn logged(directory: &Path) -> Vec<u8> {
    let files = rotated(directory).into_iter().chain([directory.join("current")]);
    files.flat_map(|file| fs::read(file).unwrap_or_default()).collect()
}

/// The lines of a log as text.
pub fn logged_lines(directory: &Path) -> Vec<String> {
    String::from_utf8_lossy(&logged(directory)).lines().map(str::to_owned).collect()
}

/// So many bytes all files of a log have.
pub fn logged_size(directory: &Path) -> u64 {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| Some(entry.metadata().ok()?.len())).sum()
}
