//! `svtree links DIR`: the other names of the executable, as symbolic links.
//!
//! Must never replace anything that is not a link.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use super::out;

const NAMES: [&str; 5] = ["svscan", "svc", "svstat", "svok", "supervise"];

/// Makes all links in a directory, and returns the exit code.
#[must_use]
pub fn run(directory: &Path) -> u8 {
    // Made if it is missing: where the links are to be is what was said.
    let target = match fs::create_dir_all(directory).and_then(|()| target(directory)) {
        Ok(target) => target,
        Err(error) => {
            out::complain("svtree", format!("links: {}: {}", directory.display(), out::cause(&error)));
            return out::FAILED;
        }
    };
    let mut code = out::DONE;
    for name in NAMES {
        let place = directory.join(name);
        if let Err(error) = link(&target, &place) {
            let why = match error.kind() {
                io::ErrorKind::AlreadyExists => "it is there and no link; move it away".to_owned(),
                _ => out::cause(&error),
            };
            out::complain("svtree", format!("links: {}: {why}", place.display()));
            code = out::FAILED;
        }
    }
    code
}

/// Where the links point: the running executable, by its bare name if it is in the same directory, so that the
/// directory can be moved as a whole.
fn target(directory: &Path) -> io::Result<PathBuf> {
    let executable = std::env::current_exe()?;
    // When it was replaced by an update, the kernel knows it only as `svtree (deleted)`.
    fs::metadata(&executable)?;
    let beside = executable.parent().zip(fs::canonicalize(directory).ok());
    match (beside, executable.file_name()) {
        (Some((parent, directory)), Some(name)) if parent == directory => Ok(name.into()),
        _ => Ok(executable),
    }
}

/// Puts a link in place in one step, so that the name is never missing.
fn link(target: &Path, place: &Path) -> io::Result<()> {
    match symlink(target, place) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        done => return done,
    }
    if !fs::symlink_metadata(place)?.is_symlink() {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    let new = place.with_extension(format!("new.{}", std::process::id()));
    symlink(target, &new)?;
    fs::rename(&new, place).inspect_err(|_| {
        let _ = fs::remove_file(&new);
    })
}
