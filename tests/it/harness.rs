//! The builder that every test stands on: a tree in a directory of its own, and eyes to look at it.
//!
//! Must never use code of the program, and never leave a process or a directory behind. It owns the only `sleep`.

mod alone;
mod commands;
mod disk;
mod logs;
mod machine;
mod processes;
mod service;

use std::cell::{Cell, RefCell};
use std::ffi::{OsStr, OsString};
use std::fmt::Display;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

pub use alone::Alone;
pub use commands::{Bystander, Ran, append, chmod, ran, replace, spawn, text, walk, write, write_fifo};
pub use disk::{Disk, Freezer};
pub use logs::{Logger, fifo, logged, logged_lines, logged_size, rotated};
pub use machine::{AS_NOBODY, executable, is_root, missing, program, skip};
pub use processes::{
    alive, arguments, children, descendants, descriptors, environment, has_open, limit_descriptors, parent,
    process_field, process_state, runs, signal_pid, sleeping, stat, ticks, zombies,
};
pub use service::{CRASHING, DEAF, NOTING, ONE_COPY, SLEEPER, Service};

use machine::{NOBODY, nobody_can_execute};
use processes::{describe, processes};

/// The executable under test.
pub const SVTREE: &str = env!("CARGO_BIN_EXE_svtree");

/// What should take milliseconds may take this long on a slow machine that runs the rest of the suite beside it.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// The variable that marks every process of a tree; its value is the tree's directory.
const MARK: &str = "SVTREE_IT";

/// A tree of services in a directory of its own, and the svtree that runs it.
pub struct Tree {
    dir: TempDir,
    options: Vec<OsString>,
    prefix: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    svtree: RefCell<Option<Child>>,
    killed: Cell<bool>,
    prepared: Cell<u32>,
}

impl Tree {
    /// A tree with no services, not yet running: `services/`, `status/` and `logs/` stand ready.
    pub fn new() -> Tree {
        let dir = tempfile::Builder::new().prefix("svtree-it-").tempdir().expect("a temporary directory");
        for name in ["services", "status", "logs", "notes", "elsewhere", "out"] {
            fs::create_dir(dir.path().join(name)).expect("a directory of the tree");
        }
        Tree {
            dir,
            options: vec!["--log".into(), "none".into()],
            prefix: Vec::new(),
            environment: Vec::new(),
            svtree: RefCell::new(None),
            killed: Cell::new(false),
            prepared: Cell::new(0),
        }
    }

    /// A tree with no services that runs.
    pub fn running() -> Tree {
        let tree = Tree::new();
        tree.start();
        tree
    }

    /// Options for `svtree run`, instead of `--log none`.
    pub fn options<I: IntoIterator<Item = S>, S: Into<OsString>>(mut self, options: I) -> Tree {
        self.options = options.into_iter().map(Into::into).collect();
        self
    }

    /// A command in front of svtree that executes it in its place or waits for it, such as `env -i`.
    pub fn through<I: IntoIterator<Item = S>, S: Into<OsString>>(mut self, prefix: I) -> Tree {
        self.prefix = prefix.into_iter().map(Into::into).collect();
        self
    }

    /// A variable in svtree's environment.
    pub fn env(mut self, name: &str, value: &str) -> Tree {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// svtree runs as nobody, to whom the whole tree then belongs. `None`, with a line that says why, where that cannot be.
    pub fn for_nobody(self) -> Option<Tree> {
        if !is_root() {
            // Whoever runs this is a plain user already.
            return Some(self);
        }
        if !nobody_can_execute() {
            return None;
        }
        for dir in walk(self.dir.path()) {
            std::os::unix::fs::chown(dir, Some(NOBODY), Some(NOBODY)).expect("chown");
        }
        Some(self.through(AS_NOBODY))
    }

    /// svtree sees no cgroups. `None`, with a line that says why, where they cannot be hidden from it.
    pub fn without_cgroups(self) -> Option<Tree> {
        machine::can_hide_cgroups().then(|| self.through(machine::WITHOUT_CGROUPS))
    }

    /// Starts svtree; what it says goes to files beside the tree.
    pub fn start(&self) {
        assert!(self.svtree.borrow().is_none(), "svtree runs already");
        self.killed.set(false);
        let child = spawn(&mut self.run_command()).expect("svtree starts");
        *self.svtree.borrow_mut() = Some(child);
    }

    /// The command that runs the tree, for those who want to start it in their own way.
    pub fn run_command(&self) -> Command {
        let mut words = self.prefix.clone();
        words.push(SVTREE.into());
        words.extend(["run", "services", "--status", "status", "--logs", "logs"].map(Into::into));
        words.extend(self.options.iter().cloned());
        let mut command = self.command(words);
        command.stdout(self.append("out/stdout")).stderr(self.append("out/stderr")).process_group(0);
        command
    }

    fn append(&self, name: &str) -> File {
        OpenOptions::new().append(true).create(true).open(self.path(name)).expect("a file for output")
    }

    /// Any command, in the tree's directory, marked as the tree's, and with nothing of svtree's in its environment.
    pub fn command<I: IntoIterator<Item = S>, S: Into<OsString>>(&self, words: I) -> Command {
        let words: Vec<OsString> = words.into_iter().map(Into::into).collect();
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).current_dir(self.dir.path()).stdin(Stdio::null());
        for name in ["SVTREE_STATUS", "SVTREE_SERVICES", "SVTREE_LOGS", "SVTREE_MODULE"] {
            command.env_remove(name);
        }
        command.env(MARK, self.dir.path());
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs any command to its end, and hands it the tree's roots.
    pub fn ran<I: IntoIterator<Item = S>, S: Into<OsString>>(&self, words: I) -> Ran {
        ran(self.command(words).env("SVTREE_STATUS", self.path("status")).env("SVTREE_SERVICES", self.path("services")))
    }

    /// Runs `svtree ARGS…` as a client of this tree.
    pub fn svtree<I: IntoIterator<Item = S>, S: Into<OsString>>(&self, args: I) -> Ran {
        self.ran([OsString::from(SVTREE)].into_iter().chain(args.into_iter().map(Into::into)))
    }

    /// Runs svtree under another name, such as `svstat`, through a link as `svtree links` makes them.
    pub fn called<I: IntoIterator<Item = S>, S: Into<OsString>>(&self, name: &str, args: I) -> Ran {
        let link = self.link(name);
        self.ran([link.into_os_string()].into_iter().chain(args.into_iter().map(Into::into)))
    }

    /// A link of this name to the executable.
    pub fn link(&self, name: &str) -> PathBuf {
        let link = self.path("links").join(name);
        fs::create_dir_all(self.path("links")).expect("a directory for links");
        match symlink(SVTREE, &link) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            made => made.expect("a link"),
        }
        link
    }

    /// svtree's pid, also behind a prefix that waits for it.
    pub fn pid_of_svtree(&self) -> i32 {
        wait_for("svtree to be executed", || self.find_svtree())
    }

    fn find_svtree(&self) -> Option<i32> {
        let child = self.svtree.borrow().as_ref()?.id().cast_signed();
        let exe = fs::canonicalize(SVTREE).expect("the executable");
        [child]
            .into_iter()
            .chain(children(child))
            .find(|pid| fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|link| link == exe))
    }

    /// Sends svtree a signal.
    pub fn signal_svtree(&self, signal: Signal) {
        signal_pid(self.pid_of_svtree(), signal);
    }

    /// Kills svtree and nothing else; the programs are left to whoever is started next.
    pub fn kill_svtree(&self) {
        self.signal_svtree(Signal::KILL);
        self.killed.set(true);
        self.ended();
    }

    /// Waits until svtree has ended by itself.
    pub fn ended(&self) -> ExitStatus {
        let mut running = self.svtree.borrow_mut();
        let child = running.as_mut().expect("svtree runs");
        let status = wait_for("svtree to end", || child.try_wait().expect("wait"));
        *running = None;
        status
    }

    /// TERM, and the status it ended with.
    pub fn stop(&self) -> ExitStatus {
        self.signal_svtree(Signal::TERM);
        self.ended()
    }

    /// Whether svtree still runs.
    pub fn is_running(&self) -> bool {
        let mut running = self.svtree.borrow_mut();
        running.as_mut().is_some_and(|child| child.try_wait().expect("wait").is_none())
    }

    /// A path in the tree's directory.
    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The module's place in the services directory.
    pub fn entry(&self, name: impl AsRef<Path>) -> PathBuf {
        self.path("services").join(name)
    }

    /// The module's status directory.
    pub fn home(&self, name: impl AsRef<Path>) -> PathBuf {
        self.path("status").join(name)
    }

    /// What svtree said on standard error, all its runs.
    pub fn stderr(&self) -> String {
        text(&self.path("out/stderr"))
    }

    /// The same without the line by which it says, at each start, that it can make no control groups here.
    pub fn complaints(&self) -> String {
        let stderr = self.stderr();
        stderr.split_inclusive('\n').filter(|line| !line.starts_with("svtree: making control groups: ")).collect()
    }

    /// Whether svtree, which runs, can make control groups here; says why that counts where it cannot: what is in a session of
    /// its own and has cleared its environment, or was started under a dead svtree, is found by nothing else.
    pub fn has_cgroups(&self) -> bool {
        self.sleeper("first");
        // By then it has said what it misses.
        self.up("first");
        let has = self.stderr() == self.complaints();
        if !has {
            skip("svtree can make no cgroups here, and nothing else tells whose such a process is");
        }
        has
    }

    /// What svtree and, with `--log inherit`, its programs said on standard output.
    pub fn stdout(&self) -> String {
        text(&self.path("out/stdout"))
    }

    /// What an operator is told about a module: svtree's standard error, `supervise.log.wf`, and the reason in the state.
    pub fn told(&self, name: &str) -> String {
        let reason = self.state(name)["reason"].as_str().unwrap_or_default().to_owned();
        self.stderr() + &text(&self.home(name).join("supervise.log.wf")) + &reason
    }

    /// The lines that programs left in the notes of this name.
    pub fn notes(&self, name: &str) -> Vec<String> {
        text(&self.path("notes").join(name)).lines().map(str::to_owned).collect()
    }

    /// The pids that programs left in the notes of this name, once there are so many.
    #[track_caller]
    pub fn noted_pids(&self, name: &str, count: usize) -> Vec<i32> {
        eventually(format!("{count} pids in {name}"), || self.notes(name).len() == count);
        self.notes(name).iter().map(|line| line.parse().expect("a pid")).collect()
    }

    /// A program in C, compiled beside the tree: for what no shell can do. `None`, with a line that says why, where there
    /// is no compiler.
    pub fn compiled(&self, name: &str, source: &str) -> Option<PathBuf> {
        program("cc")?;
        let path = self.path("elsewhere").join(name);
        let text = path.with_extension("c");
        write(&text, source, 0o644);
        self.ran(["cc".as_ref(), "-pthread".as_ref(), "-o".as_ref(), path.as_os_str(), text.as_os_str()]).ok();
        Some(path)
    }

    /// A service directory, prepared beside the tree.
    pub fn service(&self, name: impl AsRef<OsStr>) -> Service<'_> {
        let number = self.prepared.get();
        self.prepared.set(number + 1);
        let name = PathBuf::from(name.as_ref());
        let last = name.file_name().expect("a name");
        let dir = self.path("elsewhere").join(number.to_string()).join(last);
        fs::create_dir_all(&dir).expect("a service directory");
        Service { tree: self, name, dir }
    }

    /// Moves an entry out of the services directory; returns where it then stands.
    pub fn move_out(&self, name: impl AsRef<Path>) -> PathBuf {
        let number = self.prepared.get();
        self.prepared.set(number + 1);
        let away = self.path("elsewhere").join(format!("out-{number}"));
        fs::rename(self.entry(name), &away).expect("moved out");
        away
    }

    /// A module that sleeps, moved in.
    pub fn sleeper(&self, name: &str) -> PathBuf {
        self.service(name).run(SLEEPER).moved_in()
    }

    /// The bytes of `status/NAME/status`, if it is there.
    pub fn status(&self, name: impl AsRef<Path>) -> Option<Vec<u8>> {
        fs::read(self.home(name).join("status")).ok()
    }

    /// The bytes of `supervise/status` in the service directory, which are runit's; all zero while there are none.
    pub fn view(&self, name: impl AsRef<Path>) -> [u8; 20] {
        let bytes = fs::read(self.entry(name).join("supervise/status")).unwrap_or_default();
        bytes.try_into().unwrap_or([0; 20])
    }

    /// The pid in `status/NAME/status`; `None` while it is 0 or there is no such file.
    pub fn pid(&self, name: impl AsRef<Path>) -> Option<i32> {
        let bytes = self.status(name)?;
        let pid = i32::from_le_bytes(bytes.get(16..20)?.try_into().ok()?);
        (pid != 0).then_some(pid)
    }

    /// `status/NAME/state.json`, or null while there is none.
    pub fn state(&self, name: impl AsRef<Path>) -> Value {
        let bytes = fs::read(self.home(name).join("state.json")).unwrap_or_default();
        serde_json::from_slice(&bytes).unwrap_or_default()
    }

    /// Waits until the module has a program and both files say so, and returns its pid.
    #[track_caller]
    pub fn up(&self, name: impl AsRef<Path>) -> i32 {
        self.up_again(name, 0)
    }

    /// Waits until the module has another program than this one and both files say so, and returns its pid.
    #[track_caller]
    pub fn up_again(&self, name: impl AsRef<Path>, before: i32) -> i32 {
        let name = name.as_ref();
        wait_for(format!("{} to be up", name.display()), || {
            let other = |pid: &i32| *pid != before && alive(*pid) && self.state(name)["pid"] == *pid;
            self.pid(name).filter(other)
        })
    }

    /// Waits until `state.json` says that the module is in this state.
    #[track_caller]
    pub fn becomes(&self, name: impl AsRef<Path>, state: &str) {
        let name = name.as_ref();
        eventually(format!("{} to be {state}", name.display()), || self.state(name)["state"] == state);
    }

    /// Waits until nothing of the module is left in the status root.
    #[track_caller]
    pub fn goes(&self, name: impl AsRef<Path>) {
        let name = name.as_ref();
        eventually(format!("status/{} to go", name.display()), || !self.home(name).exists());
    }

    /// Writes letters into the module's FIFO.
    #[track_caller]
    pub fn letter(&self, name: impl AsRef<Path>, letters: impl AsRef<[u8]>) {
        let fifo = self.home(name).join("svcontrol");
        // Freshly started, it may not listen yet; and the FIFO takes no more than 64 KiB at once.
        let mut open = wait_for("svcontrol to have a reader", || write_fifo(&fifo).ok());
        open.write_all(letters.as_ref()).expect("letters fit the FIFO");
    }

    /// All processes that this tree started, directly or not.
    pub fn processes(&self) -> Vec<i32> {
        let mut mark = OsString::from(format!("{MARK}="));
        mark.push(self.dir.path());
        let mark = mark.into_encoded_bytes();
        processes()
            .filter(|pid| {
                let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
                environment.split(|byte| *byte == 0).any(|variable| variable == mark)
            })
            .collect()
    }

    /// Stops svtree if it runs, and says what was wrong with the end.
    fn close(&self) -> Result<(), String> {
        let mut wrong = Vec::new();
        if let Some(pid) = self.find_svtree() {
            signal_pid(pid, Signal::TERM);
        }
        if let Some(mut child) = self.svtree.borrow_mut().take() {
            match poll(PATIENCE, || child.try_wait().expect("wait")) {
                Some(status) if status.success() => {}
                Some(status) => wrong.push(format!("svtree ended with {status}")),
                None => {
                    wrong.push("svtree did not end on TERM".to_owned());
                    child.kill().expect("kill");
                    child.wait().expect("wait");
                }
            }
        }
        let left = self.processes();
        if !left.is_empty() && !self.killed.get() {
            let lines: Vec<String> = left.iter().map(|pid| describe(*pid)).collect();
            wrong.push(format!("left behind: {}", lines.join("; ")));
        }
        poll(PATIENCE, || {
            let left = self.processes();
            left.iter().for_each(|pid| signal_pid(*pid, Signal::KILL));
            left.is_empty().then_some(())
        });
        if wrong.is_empty() { Ok(()) } else { Err(wrong.join("; ")) }
    }

    /// What there is to see when a test has failed.
    fn describe(&self) {
        eprintln!("--- svtree's standard error\n{}", self.stderr());
        for path in walk(&self.path("status")) {
            let name = path.file_name().unwrap_or_default();
            if (name == "state.json" || name == "supervise.log.wf") && path.is_file() {
                eprintln!("--- {}\n{}", path.display(), text(&path));
            }
        }
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        if thread::panicking() {
            self.describe();
        }
        if let Err(wrong) = self.close() {
            eprintln!("{wrong}");
            // A second panic would abort the whole suite.
            assert!(thread::panicking(), "{wrong}\n{}", self.stderr());
        }
    }
}

/// Removes a directory and all in it, while svtree may be writing its view there: so it is tried until it is gone.
#[track_caller]
pub fn remove(dir: &Path) {
    eventually(format!("{} to be removed", dir.display()), || fs::remove_dir_all(dir).is_ok() || !dir.exists());
}

/// Waits until the probe finds something.
///
/// # Panics
/// When it has not after [`PATIENCE`].
#[track_caller]
pub fn wait_for<T>(what: impl Display, probe: impl FnMut() -> Option<T>) -> T {
    match poll(PATIENCE, probe) {
        Some(found) => found,
        None => panic!("waited {PATIENCE:?} for {what}"),
    }
}

/// Waits until the condition holds.
#[track_caller]
pub fn eventually(what: impl Display, condition: impl FnMut() -> bool) {
    within(PATIENCE, what, condition);
}

/// Waits until the condition holds, where the time it may take is itself what is promised.
#[track_caller]
pub fn within(limit: Duration, what: impl Display, mut condition: impl FnMut() -> bool) {
    assert!(poll(limit, || condition().then_some(())).is_some(), "waited {limit:?} for {what}");
}

/// Watches for this long that the condition holds: the only way to see that something does not happen.
#[track_caller]
pub fn stays(time: Duration, what: impl Display, mut condition: impl FnMut() -> bool) {
    assert!(poll(time, || (!condition()).then_some(())).is_none(), "did not stay so: {what}");
}

/// Looks again and again. Nothing else here or in any test may sleep: a sleep says "by then it will have happened",
/// which a slow machine proves wrong; this one only keeps a condition that is asked for from burning a core.
fn poll<T>(limit: Duration, mut probe: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + limit;
    loop {
        if let Some(found) = probe() {
            return Some(found);
        }
        if Instant::now() >= end {
            return None;
        }
        thread::sleep(Duration::from_millis(4));
    }
}
