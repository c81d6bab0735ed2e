//! What this machine can do, and what becomes of a test that needs more.
//!
//! Must never pass over a test silently.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{SVTREE, ran};

/// The user that has no right to anything.
pub const NOBODY: u32 = 65534;

/// Whether the suite runs as root.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A command that runs the rest as nobody.
pub const AS_NOBODY: [&str; 4] = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];

/// A command that runs the rest where no cgroups are mounted.
pub const WITHOUT_CGROUPS: [&str; 6] =
    ["unshare", "-m", "sh", "-c", "umount -R -l /sys/fs/cgroup && exec \"$@\"", "without-cgroups"];

/// Whether cgroups can be hidden; says why not.
pub fn can_hide_cgroups() -> bool {
    if program("unshare").is_none() {
        return false;
    }
    let mut command = Command::new(WITHOUT_CGROUPS[0]);
    command.args(&WITHOUT_CGROUPS[1..]).arg("true");
    let can = ran(&mut command).code == Some(0);
    if !can {
        skip("cgroups cannot be hidden: that takes the right to mount");
    }
    can
}

/// Whether nobody can execute svtree; says why not. Only for root.
pub fn nobody_can_execute() -> bool {
    let mut command = Command::new(AS_NOBODY[0]);
    command.args(&AS_NOBODY[1..]).args([SVTREE, "--help"]);
    if program("setpriv").is_none() {
        return false;
    }
    let can = ran(&mut command).code == Some(0);
    if !can {
        skip("nobody cannot execute the program where it was built");
    }
    can
}

/// Says why a test is not run.
pub fn skip(why: &str) {
    eprintln!("skipped: {why}");
}

/// Finds a program in PATH or in the directories of the system's own. When it is not there, says so; and fails where
/// programs are required.
pub fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path)
        .chain(["/usr/sbin", "/usr/bin", "/sbin", "/bin"].map(PathBuf::from))
        .map(|dir| dir.join(name))
        .find(|path| executable(path));
    if found.is_none() {
        missing(&format!("{name} is not installed"));
    }
    found
}

/// Whether a file can be executed.
pub fn executable(path: &Path) -> bool {
    path.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.mode() & 0o111 != 0)
}

/// Skips for want of a program, or fails where programs are required.
pub fn missing(why: &str) {
    let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty() && value != "false");
    assert!(!set("CI") && !set("SVTREE_REQUIRE_PROGRAMS"), "{why}");
    skip(why);
}
