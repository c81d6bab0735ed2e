//! Two directories of files, compared and copied: contents, modes, owners and links.
//!
//! Must never change what it reads from, and never follow a link.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::home::file;
use super::prints::RUN;
use super::scan;

/// What stands at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Directory,
    /// A file of so many bytes.
    File(u64),
    /// A link, and where it leads.
    Link(PathBuf),
    /// A FIFO, a socket or a device.
    Other,
}

/// One name below a directory.
#[derive(Clone, Debug)]
pub struct Item {
    /// What it is.
    pub kind: Kind,
    mode: u32,
    owner: (u32, u32),
}

impl Item {
    /// What stands at this path itself; `None` if nothing does.
    ///
    /// # Errors
    /// It cannot be looked at.
    pub fn at(path: &Path) -> io::Result<Option<Item>> {
        match fs::symlink_metadata(path) {
            Ok(metadata) => Item::of(path, &metadata).map(Some),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn of(path: &Path, metadata: &Metadata) -> io::Result<Item> {
        let kind = match metadata.file_type() {
            kind if kind.is_dir() => Kind::Directory,
            kind if kind.is_file() => Kind::File(metadata.len()),
            kind if kind.is_symlink() => Kind::Link(fs::read_link(path)?),
            _ => Kind::Other,
        };
        Ok(Item { kind, mode: metadata.permissions().mode() & 0o7777, owner: (metadata.uid(), metadata.gid()) })
    }

    /// Whether a copy of it would be the same, but for what is in it.
    fn is_as(&self, other: &Item) -> bool {
        // Only root can give a file away.
        let owned = !rustix::process::geteuid().is_root() || self.owner == other.owner;
        let moded = self.mode == other.mode || matches!(self.kind, Kind::Link(_));
        self.kind == other.kind && moded && owned
    }
}

/// What begins so was made by whoever copies, and is gone when that is done.
pub const STAGED: &str = ".svtree-apply.";

/// Whether a name in a directory is svtree's own: `supervise` beside a `run`, and what is staged.
fn is_own(directory: &Path, name: &OsStr) -> bool {
    (name == file::SUPERVISE && directory.join(RUN).exists()) || name.as_bytes().starts_with(STAGED.as_bytes())
}

/// All that is below a service directory or a group, but what svtree itself makes there; a directory stands before what is
/// in it. Of a directory for which `into` says no, only itself.
///
/// # Errors
/// The path of what could not be read, and why.
pub fn list(directory: &Path, into: impl Fn(&Path) -> bool) -> Result<BTreeMap<PathBuf, Item>, (PathBuf, io::Error)> {
    let mut items = BTreeMap::new();
    let mut todo = vec![PathBuf::new()];
    while let Some(below) = todo.pop() {
        let here = directory.join(&below);
        for entry in fs::read_dir(&here).map_err(|error| (here.clone(), error))? {
            let entry = entry.map_err(|error| (here.clone(), error))?;
            let path = below.join(entry.file_name());
            if is_own(&here, &entry.file_name()) {
                continue;
            }
            let full = entry.path();
            // What has gone meanwhile was a program's.
            let Some(item) = Item::at(&full).map_err(|error| (full, error))? else { continue };
            if item.kind == Kind::Directory && into(&path) {
                todo.push(path.clone());
            }
            items.insert(path, item);
        }
    }
    Ok(items)
}

/// What has to be done to one directory so that it is as another one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// What is another one or not there yet: what is in a directory stands behind it.
    pub put: Vec<PathBuf>,
    /// What is there and is not to be: what is in a directory stands before it.
    pub gone: Vec<PathBuf>,
}

impl Difference {
    /// Whether there is none.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.put.is_empty() && self.gone.is_empty()
    }

    /// All of it, for people.
    #[must_use]
    pub fn files(&self) -> Vec<String> {
        let all: BTreeSet<&PathBuf> = self.put.iter().chain(&self.gone).collect();
        let own = |path: &Path| if path == Path::new("") { ".".to_owned() } else { scan::shown(path) };
        all.into_iter().map(|path| own(path)).collect()
    }
}

/// How `there` differs from `here`, both service directories or groups; an empty path is the directory itself. What is only
/// there is a program's own, and not to go, unless it is one of `ours`.
///
/// # Errors
/// The path of what could not be read, and why.
pub fn difference(
    here: &Path,
    there: &Path,
    ours: impl Fn(&Path) -> bool,
    into: impl Fn(&Path) -> bool,
) -> Result<Difference, (PathBuf, io::Error)> {
    let (wanted, found) = (list(here, &into)?, list(there, &into)?);
    let mut difference = Difference::default();
    let itself = |path: &Path| Item::at(path).map_err(|error| (path.to_owned(), error));
    if let (Some(one), Some(other)) = (itself(here)?, itself(there)?)
        && !one.is_as(&other)
    {
        difference.put.push(PathBuf::new());
    }
    for (path, item) in &wanted {
        let same = match found.get(path) {
            Some(other) if item.is_as(other) => match item.kind {
                Kind::File(_) => same_contents(&here.join(path), &there.join(path))?,
                Kind::Directory | Kind::Link(_) | Kind::Other => true,
            },
            Some(_) | None => false,
        };
        if !same {
            difference.put.push(path.clone());
        }
    }
    let is_gone = |path: &&PathBuf| !wanted.contains_key(*path) && ours(path);
    difference.gone = found.keys().rev().filter(is_gone).cloned().collect();
    Ok(difference)
}

/// Whether svtree itself looks for a file of this name in a service directory. Not `down`: an operator may have made that.
#[must_use]
pub fn means_something(path: &Path) -> bool {
    let path = path.strip_prefix(file::LOGGER).unwrap_or(path);
    let is_plain = path.components().count() == 1;
    let of_control = path.parent() == Some(Path::new("control"));
    let known = |name: &&str| ![file::DOWN, file::LOGGER].contains(name) && path == Path::new(name);
    of_control || (is_plain && scan::FILES.iter().any(known))
}

fn same_contents(one: &Path, other: &Path) -> Result<bool, (PathBuf, io::Error)> {
    let open = |path: &Path| File::open(path).map_err(|error| (path.to_owned(), error));
    let (mut first, mut second) = (open(one)?, open(other)?);
    let (mut here, mut there) = (vec![0; PIECE], vec![0; PIECE]);
    loop {
        let count = fill(&mut first, &mut here).map_err(|error| (one.to_owned(), error))?;
        let others = fill(&mut second, &mut there).map_err(|error| (other.to_owned(), error))?;
        if here[..count] != there[..others] {
            return Ok(false);
        }
        if count < PIECE {
            return Ok(true);
        }
    }
}

/// Files are compared and copied so many bytes at a time.
const PIECE: usize = 1 << 16;

/// Reads until the buffer is full or the file has ended.
fn fill(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut count = 0;
    while count < buffer.len() {
        match file.read(&mut buffer[count..]) {
            Ok(0) => break,
            Ok(more) => count += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn tree(files: &[(&str, &str, u32)]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().expect("a directory");
        for (name, text, mode) in files {
            let path = directory.path().join(name);
            fs::create_dir_all(path.parent().expect("above")).expect("directories");
            fs::write(&path, text).expect("written");
            fs::set_permissions(&path, fs::Permissions::from_mode(*mode)).expect("changed");
        }
        directory
    }

    fn compared(here: &tempfile::TempDir, there: &tempfile::TempDir, ours: &[&str]) -> (String, String) {
        let is_ours = |path: &Path| means_something(path) || ours.iter().any(|name| path == Path::new(name));
        let found = difference(here.path(), there.path(), is_ours, |_| true).expect("read");
        let shown = |paths: &[PathBuf]| paths.iter().map(|path| scan::shown(path)).collect::<Vec<_>>().join(" ");
        (shown(&found.put), shown(&found.gone))
    }

    #[test]
    fn contents_modes_links_and_what_is_missing_count() {
        let here = tree(&[("run", "1", 0o755), ("same", "x", 0o644), ("mode", "x", 0o600), ("new/deep", "", 0o644)]);
        let there = tree(&[("run", "2", 0o755), ("same", "x", 0o644), ("mode", "x", 0o644)]);
        symlink("one", here.path().join("link")).expect("a link");
        symlink("other", there.path().join("link")).expect("a link");
        assert_eq!(compared(&here, &there, &[]), ("link mode new new/deep run".into(), String::new()));
        assert_eq!(compared(&here, &here, &[]), (String::new(), String::new()));
    }

    #[test]
    fn what_a_program_wrote_stays_and_what_svtree_reads_does_not() {
        let here = tree(&[("run", "", 0o755)]);
        let there = tree(&[
            ("run", "", 0o755),
            ("down", "", 0o644),
            ("finish", "", 0o755),
            ("log/run", "", 0o755),
            ("log/main/current", "", 0o644),
            ("control/d", "", 0o755),
            ("data.db", "", 0o644),
            ("old/conf", "", 0o644),
            ("supervise/lock", "", 0o600),
            (".svtree-apply.1", "", 0o600),
        ]);
        let gone = "old/conf log/run finish control/d";
        assert_eq!(compared(&here, &there, &["old/conf"]), (String::new(), gone.into()));
    }

    #[test]
    fn long_files_are_compared_to_their_ends() {
        let long = "x".repeat(PIECE * 2);
        let here = tree(&[("a", &format!("{long}1"), 0o644), ("b", &long, 0o644)]);
        let there = tree(&[("a", &format!("{long}2"), 0o644), ("b", &long, 0o644)]);
        assert_eq!(compared(&here, &there, &[]).0, "a");
    }
}
