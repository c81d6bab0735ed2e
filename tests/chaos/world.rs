//! The tree under test, what was done to it, and the first thing that was wrong with it.
//!
//! Must never decide what is right; it keeps the evidence.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::model::Entry;
use super::processes::{self, Process};

/// The executable under test.
pub const SVTREE: &str = env!("CARGO_BIN_EXE_svtree");

/// The variable that marks every process of the tree; its value is the tree's directory.
const MARK: &str = "SVTREE_CHAOS";

/// So many actions are kept for a report.
const KEPT: usize = 20_000;

/// The group that some of the names are in.
const GROUP: &str = "group";

/// The tree, its names, and what was done to them.
pub struct World {
    pub dir: PathBuf,
    pub names: Vec<String>,
    /// One for each name, held while something is done to it.
    pub entries: Vec<Mutex<Entry>>,
    /// When the status directory of each name was damaged last.
    pub damaged: Vec<Mutex<Option<Instant>>>,
    child: Mutex<Child>,
    began: Instant,
    numbers: AtomicU64,
    done: Mutex<VecDeque<(Duration, usize, String)>>,
    wrong: Mutex<Option<String>>,
    bell: Bell,
}

impl World {
    /// Starts svtree on a tree with no modules.
    pub fn start(dir: &Path, names: usize) -> World {
        let group = dir.join("services").join(GROUP);
        fs::create_dir_all(&group).expect("a group");
        File::create(group.join("group.toml")).expect("a file of the group");
        let name = |number| match number % 8 {
            0 => format!("{GROUP}/m{number}"),
            3 => format!("a name {number}"),
            _ => format!("m{number}"),
        };
        World::with(dir, (0..names).map(name).collect())
    }

    /// Starts svtree on the services that are there.
    pub fn with(dir: &Path, names: Vec<String>) -> World {
        for name in ["services", "status", "elsewhere", "links"] {
            fs::create_dir_all(dir.join(name)).expect("a directory of the tree");
        }
        symlink(SVTREE, dir.join("links/svc")).expect("a link");
        World {
            dir: dir.to_path_buf(),
            entries: names.iter().map(|_| Mutex::new(Entry::absent())).collect(),
            damaged: names.iter().map(|_| Mutex::new(None)).collect(),
            names,
            child: Mutex::new(svscan(dir)),
            began: Instant::now(),
            numbers: AtomicU64::new(0),
            done: Mutex::new(VecDeque::new()),
            wrong: Mutex::new(None),
            bell: Bell::default(),
        }
    }

    /// svtree's pid.
    pub fn svscan(&self) -> i32 {
        lock(&self.child).id().cast_signed()
    }

    /// Starts another svtree in the place of one that has ended.
    pub fn start_again(&self) {
        let mut child = lock(&self.child);
        child.wait().expect("wait");
        *child = svscan(&self.dir);
    }

    /// A command as a client of this tree.
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        command(&self.dir, program)
    }

    /// Its place in the services directory.
    pub fn service(&self, at: usize) -> PathBuf {
        self.dir.join("services").join(&self.names[at])
    }

    /// Its status directory.
    pub fn home(&self, at: usize) -> PathBuf {
        self.dir.join("status").join(&self.names[at])
    }

    /// A path beside the tree that nothing stands at.
    pub fn elsewhere(&self) -> PathBuf {
        self.dir.join("elsewhere").join(self.numbers.fetch_add(1, Ordering::Relaxed).to_string())
    }

    /// The name, for whoever does something to it or compares.
    pub fn entry(&self, at: usize) -> MutexGuard<'_, Entry> {
        lock(&self.entries[at])
    }

    /// Whether its status directory was damaged within this time.
    pub fn damaged_within(&self, at: usize, time: Duration) -> bool {
        lock(&self.damaged[at]).is_some_and(|when| when.elapsed() < time)
    }

    /// Notes what is about to be done.
    pub fn note(&self, at: usize, action: String) {
        let mut done = lock(&self.done);
        done.push_back((self.began.elapsed(), at, action));
        if done.len() > KEPT {
            done.pop_front();
        }
    }

    /// Something is not as the contract allows: the first report counts, and all that runs is told to end.
    pub fn violation(&self, at: Option<usize>, what: &str) {
        let mut wrong = lock(&self.wrong);
        if wrong.is_none() {
            *wrong = Some(self.report(at, what));
        }
        self.bell.ring();
    }

    /// What was wrong, once something was.
    pub fn wrong(&self) -> Option<String> {
        lock(&self.wrong).clone()
    }

    /// Waits for so long; says whether to go on.
    pub fn pause(&self, time: Duration) -> bool {
        !self.bell.wait(time)
    }

    /// Whether svtree has not ended.
    pub fn svscan_lives(&self) -> bool {
        lock(&self.child).try_wait().expect("wait").is_none()
    }

    /// Sends svtree a signal.
    pub fn signal_svscan(&self, signal: Signal) {
        if self.svscan_lives() {
            let pid = rustix::process::Pid::from_raw(self.svscan()).expect("a pid");
            rustix::process::kill_process(pid, signal).expect("it is ours");
        }
    }

    /// Waits until svtree has ended; its exit code.
    pub fn ended(&self, limit: Duration) -> Option<std::process::ExitStatus> {
        self.poll(limit, || lock(&self.child).try_wait().expect("wait"))
    }

    /// Looks again and again.
    pub fn poll<T>(&self, limit: Duration, mut probe: impl FnMut() -> Option<T>) -> Option<T> {
        let end = Instant::now() + limit;
        loop {
            if let Some(found) = probe() {
                return Some(found);
            }
            if Instant::now() >= end || !self.pause(Duration::from_millis(20)) {
                return None;
            }
        }
    }

    /// All processes of the tree but svtree itself.
    pub fn processes(&self) -> Vec<Process> {
        let mut found = processes::marked(MARK, &self.dir);
        found.retain(|process| process.pid != self.svscan());
        found
    }

    fn report(&self, at: Option<usize>, what: &str) -> String {
        let mut text = format!("after {:?}: {what}\n", self.began.elapsed());
        let Some(at) = at else {
            text += &self.actions(None);
            return text;
        };
        let _ = writeln!(text, "module {:?}", self.names[at]);
        for (title, dir) in [("status", self.home(at)), ("service", self.service(at))] {
            let _ = writeln!(text, "--- {title} directory");
            describe(&dir, &mut text, 0);
        }
        let _ = writeln!(text, "--- processes of it");
        for process in processes::all().filter(|process| process.module().as_ref() == Some(&self.names[at])) {
            let _ = writeln!(text, "{}", process.describe());
        }
        text + &self.actions(Some(at))
    }

    /// The last actions on a module and on svtree itself, or on all.
    fn actions(&self, of: Option<usize>) -> String {
        let done = lock(&self.done);
        let concerns = |at: usize, action: &str| of.is_none_or(|of| of == at) || action.starts_with("HUP");
        let last: Vec<_> = done.iter().rev().filter(|(_, at, action)| concerns(*at, action)).take(50).collect();
        let mut text = format!("--- what was done last, until {:?}\n", self.began.elapsed());
        for (when, at, action) in last.into_iter().rev() {
            let _ = writeln!(text, "{when:>12.3?} {}: {action}", self.names[*at]);
        }
        text
    }
}

/// Whatever is left of the tree ends with it, also when the test itself fails.
impl Drop for World {
    fn drop(&mut self) {
        self.signal_svscan(Signal::KILL);
        let _ = lock(&self.child).wait();
        // The bell may have been rung already: no pause would last.
        let end = Instant::now() + Duration::from_secs(10);
        loop {
            let left = self.processes();
            if left.is_empty() || Instant::now() > end {
                return;
            }
            for process in left {
                if let Some(module) = process.module() {
                    processes::signal(process.pid, &module, Signal::KILL);
                }
            }
        }
    }
}

fn svscan(dir: &Path) -> Child {
    let output = File::options().create(true).append(true).open(dir.join("stderr")).expect("a file for output");
    let mut command = command(dir, SVTREE);
    command.args(["run", "services", "--log", "none"]).stdout(Stdio::null()).stderr(output);
    command.spawn().expect("svtree starts")
}

fn command(dir: &Path, program: impl AsRef<Path>) -> Command {
    let mut command = Command::new(program.as_ref());
    command.current_dir(dir).stdin(Stdio::null()).env(MARK, dir);
    command.env("SVTREE_STATUS", "status").env("SVTREE_SERVICES", "services").env_remove("SVTREE_LOGS");
    command
}

/// A thread that failed has reported it; what it held is still of use to the others.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn describe(dir: &Path, text: &mut String, depth: usize) {
    let mut entries: Vec<_> = fs::read_dir(dir).into_iter().flatten().flatten().collect();
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        let Ok(metadata) = path.metadata() else { continue };
        let _ = write!(text, "{}: ", path.strip_prefix(dir).unwrap_or(&path).display());
        if metadata.is_dir() {
            text.push('\n');
            if depth < 2 {
                describe(&path, text, depth + 1);
            }
        } else if metadata.is_file() {
            let bytes = fs::read(&path).unwrap_or_default();
            let end = &bytes[bytes.len().saturating_sub(4000)..];
            let _ = match str::from_utf8(end) {
                Ok(end) if bytes.len() != 20 => writeln!(text, "{end}"),
                Ok(_) | Err(_) => writeln!(text, "{bytes:?}"),
            };
        } else {
            let _ = writeln!(text, "{:?}", metadata.file_type());
        }
    }
}

/// Ends pauses early once there is nothing to wait for.
#[derive(Default)]
struct Bell {
    rung: Mutex<bool>,
    rings: Condvar,
}

impl Bell {
    fn ring(&self) {
        *lock(&self.rung) = true;
        self.rings.notify_all();
    }

    /// Waits for so long; says whether it was rung.
    fn wait(&self, time: Duration) -> bool {
        let rung = lock(&self.rung);
        let waited = self.rings.wait_timeout_while(rung, time, |rung| !*rung);
        *waited.unwrap_or_else(std::sync::PoisonError::into_inner).0
    }
}
