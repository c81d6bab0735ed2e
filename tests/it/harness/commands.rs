//! Commands run to their end, and files that svtree may execute at any moment.
//!
//! Every spawn and every write of the suite goes through here, because the two must not meet. Must never wait for ever.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{PoisonError, RwLock};

use super::{PATIENCE, poll};

/// How a command ended and what it said.
#[derive(Debug)]
pub struct Ran {
    /// The exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Ran {
    /// Asserts that it worked and complained of nothing.
    #[track_caller]
    pub fn ok(self) -> String {
        assert!(self.code == Some(0) && self.err.is_empty(), "{self:?}");
        self.out
    }

    /// Asserts that it failed with this code and said so in one line on standard error.
    #[track_caller]
    pub fn failed(self, code: i32) -> String {
        assert_eq!(self.code, Some(code), "{self:?}");
        let line = self.err.strip_suffix('\n').unwrap_or_default();
        assert!(!line.is_empty() && !line.contains('\n'), "one line: {self:?}");
        assert!(!line.contains("panicked") && !line.ends_with('.'), "{self:?}");
        self.err
    }
}

/// A process beside the tree that ends with the test, also with one that fails.
pub struct Bystander(Child);

impl Bystander {
    /// Starts it; it holds nothing of the suite's open.
    pub fn start(command: &mut Command) -> Bystander {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Bystander(spawn(command).unwrap_or_else(|error| panic!("{command:?}: {error}")))
    }

    /// Whether it runs.
    pub fn lives(&mut self) -> bool {
        self.0.try_wait().is_ok_and(|ended| ended.is_none())
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs a command to its end. One that hangs is killed, and the test fails.
#[track_caller]
pub fn ran(command: &mut Command) -> Ran {
    let mut out = tempfile::tempfile().expect("a file for output");
    let mut err = tempfile::tempfile().expect("a file for output");
    command.stdout(out.try_clone().expect("a descriptor")).stderr(err.try_clone().expect("a descriptor"));
    let mut child = spawn(command).unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let Some(status) = poll(PATIENCE, || child.try_wait().expect("wait")) else {
        child.kill().expect("kill");
        child.wait().expect("wait");
        panic!("{command:?} did not end: {} {}", contents(&mut out), contents(&mut err));
    };
    assert!(status.signal().is_none(), "{command:?} ended by {status}: {}", contents(&mut err));
    Ran { code: status.code(), out: contents(&mut out), err: contents(&mut err) }
}

fn contents(file: &mut File) -> String {
    let mut bytes = Vec::new();
    file.rewind().and_then(|()| file.read_to_end(&mut bytes)).expect("output");
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Held to read while an executable is written, to write while a process is spawned.
///
/// Between its fork and its exec a child has all our descriptors, and the kernel refuses to execute a file that anybody
/// has open for writing (`ETXTBSY`): without this, one test's spawn makes another test's new `run` fail to start.
static EXECUTABLES: RwLock<()> = RwLock::new(());

/// Spawns a process; every spawn of the suite goes through here.
pub fn spawn(command: &mut Command) -> std::io::Result<Child> {
    let _nothing_is_written = EXECUTABLES.write().unwrap_or_else(PoisonError::into_inner);
    command.spawn()
}

/// Writes a whole file and gives it its mode, and makes the directories above it.
pub fn write(path: &Path, contents: &str, mode: u32) {
    let _nothing_is_spawned = EXECUTABLES.read().unwrap_or_else(PoisonError::into_inner);
    if let Some(above) = path.parent() {
        fs::create_dir_all(above).expect("a directory");
    }
    fs::write(path, contents).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    chmod(path, mode);
}

/// Appends to a file that svtree may execute at any moment.
pub fn append(path: &Path, contents: &str) {
    let _nothing_is_spawned = EXECUTABLES.read().unwrap_or_else(PoisonError::into_inner);
    let mut file = OpenOptions::new().append(true).open(path).expect("a file");
    file.write_all(contents.as_bytes()).expect("written");
}

/// Writes a new file beside the old one and renames it over, as careful editors do.
pub fn replace(path: &Path, contents: &str, mode: u32) {
    let beside = path.with_extension("new");
    write(&beside, contents, mode);
    fs::rename(&beside, path).expect("renamed");
}

/// Sets the mode of a file.
pub fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("chmod");
}

/// The text of a file; empty if there is none.
pub fn text(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}

/// Opens a FIFO as a client does: to write, and not waiting for a reader.
pub fn write_fifo(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK).open(path)
}

/// A directory and all below it, the outermost first; links are not followed.
pub fn walk(dir: &Path) -> Vec<PathBuf> {
    let mut found = vec![dir.to_owned()];
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(walk(&entry.path()));
        } else {
            found.push(entry.path());
        }
    }
    found
}
