//! Puts a prepared tree into a services directory, a unit at a time: a module, a group that is not there yet, or the files
//! that stand between them.
//!
//! What is new is first made whole under a hidden name beside its place, and written to the disk. Nothing that is no copy
//! is ever deleted: what has to go is moved aside. Must never decide what a tree may hold.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FlockOperation, RenameFlags, flock, renameat_with};
use rustix::io::Errno;

use super::home::file;
use super::prints::{RUN, SERVICE};
use super::replica::{self, Difference, Item, Kind, STAGED};
use super::report::plain;
use super::scan::{self, shown};
use crate::pure::manifest::Manifest;

/// In the services directory: what was put there.
pub const APPLIED: &str = ".applied";
/// In the services directory: what was there before, a directory for each run.
pub const REMOVED: &str = ".removed";

/// What is done with one unit; each is the path of an entry relative to the services directory, and of [`Work::Inside`] also
/// a group or the services directory itself.
#[derive(Debug)]
pub enum Work {
    /// It is not to be there.
    Remove(PathBuf),
    /// It stays, with other files.
    Inside(PathBuf, Difference),
    /// Another one takes its place.
    Exchange(PathBuf),
    /// It is new.
    Put(PathBuf),
}

impl Work {
    /// Which unit.
    #[must_use]
    pub fn unit(&self) -> &Path {
        match self {
            Work::Remove(unit) | Work::Inside(unit, _) | Work::Exchange(unit) | Work::Put(unit) => unit,
        }
    }
}

/// One run, which nobody else makes at the same time.
pub struct Deploy {
    prepared: PathBuf,
    services: PathBuf,
    _lock: File,
    before: Manifest,
    after: Manifest,
    /// Where what has to go is moved, once something had to.
    aside: Option<PathBuf>,
    staged: u32,
}

/// What was being done, on which file, and what went wrong.
fn failed(path: &Path) -> impl Fn(io::Error) -> String {
    move |error| format!("{}: {}", shown(path), plain(&error))
}

type Outcome<T> = Result<T, String>;

/// What was put into a services directory by the runs before.
///
/// # Errors
/// It cannot be read.
pub fn manifest(services: &Path) -> Result<Manifest, String> {
    let path = services.join(APPLIED);
    match fs::read(&path) {
        Ok(bytes) => Manifest::decode(&bytes).map_err(|why| format!("{}: {why}", shown(&path))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Manifest::default()),
        Err(error) => Err(failed(&path)(error)),
    }
}

impl Deploy {
    /// Begins: holds the services directory, clears away what a run left that was ended in its midst, and says what is to be
    /// done, in this order. Both directories are without links.
    ///
    /// # Errors
    /// Another one is at work, or something cannot be read.
    pub fn begin(prepared: &Path, services: &Path) -> Outcome<(Deploy, Vec<Work>)> {
        let lock = File::open(services).map_err(failed(services))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Err(format!("{}: another apply is at work there", shown(services))),
            Err(errno) => return Err(failed(services)(errno.into())),
        }
        let before = manifest(services)?;
        let (prepared, services) = (prepared.to_owned(), services.to_owned());
        let after = Manifest::default();
        let mut deploy = Deploy { prepared, services, _lock: lock, before, after, aside: None, staged: 0 };
        deploy.clear(Path::new(""))?;
        let mut work = Vec::new();
        deploy.compare(Path::new(""), &mut work)?;
        // What is needed no more makes room first; what is new may need what was changed.
        work.sort_by_key(|work| match work {
            Work::Remove(_) => 0,
            Work::Inside(..) => 1,
            Work::Exchange(_) => 2,
            Work::Put(_) => 3,
        });
        if !work.is_empty() {
            // From now on either may be there.
            deploy.write(&deploy.before.or(&deploy.after))?;
        }
        Ok((deploy, work))
    }

    /// Does it.
    ///
    /// # Errors
    /// What could not be done; another run goes on from there.
    pub fn carry_out(&mut self, work: &Work) -> Outcome<()> {
        match work {
            Work::Remove(unit) => self.remove(unit),
            Work::Inside(unit, difference) => self.change(unit, difference),
            Work::Exchange(unit) => {
                let staged = self.stage(unit)?;
                self.exchange(&staged, unit)
            }
            Work::Put(unit) => {
                let (staged, there) = (self.stage(unit)?, self.services.join(unit));
                renameat_with(CWD, &staged, CWD, &there, RenameFlags::NOREPLACE)
                    .map_err(|errno| failed(&there)(errno.into()))?;
                keep_names(&there)
            }
        }
    }

    /// All is done.
    ///
    /// # Errors
    /// That could not be written down; another run does it.
    pub fn end(self) -> Outcome<Option<PathBuf>> {
        if self.before != self.after {
            self.write(&self.after)?;
        }
        Ok(self.aside)
    }

    /// What differs in the services directory or a group of this name.
    fn compare(&mut self, below: &Path, work: &mut Vec<Work>) -> Outcome<()> {
        let (here, there) = (self.prepared.join(below), self.services.join(below));
        // What svtree looks at are units of their own, and what it passes over is none of a tree's.
        let is_unit = |path: &Path, root: &Path| root.join(path).is_dir();
        let (into, ours) = (|_: &Path| false, |path: &Path| self.before.has(below.join(path).as_os_str().as_bytes()));
        let mut own = read(replica::difference(&here, &there, ours, into))?;
        own.put.retain(|path| !is_hidden(path) && !is_unit(path, &here));
        own.gone.retain(|path| !is_hidden(path) && !is_unit(path, &there));
        let wanted = read(replica::list(&here, into))?;
        for (path, item) in wanted.iter().filter(|(path, _)| !is_hidden(path)) {
            let unit = below.join(path);
            self.after.add(unit.as_os_str().as_bytes());
            if !is_unit(path, &here) {
                continue;
            }
            if item.kind == Kind::Directory && !self.is_group(&unit) {
                for inside in read(replica::list(&here.join(path), |_| true))?.keys() {
                    self.after.add(unit.join(inside).as_os_str().as_bytes());
                }
            }
            let found = Item::at(&there.join(path)).map_err(failed(&there.join(path)))?;
            match (&item.kind, found.map(|found| found.kind)) {
                (Kind::Directory, Some(Kind::Directory)) => match self.groups(&unit) {
                    (true, true) => self.compare(&unit, work)?,
                    (false, false) => {
                        let ours = |inside: &Path| {
                            let was_put = self.before.has(unit.join(inside).as_os_str().as_bytes());
                            was_put || replica::means_something(inside)
                        };
                        let difference =
                            read(replica::difference(&here.join(path), &there.join(path), ours, |_| true))?;
                        if !difference.is_none() {
                            work.push(Work::Inside(unit, difference));
                        }
                    }
                    (true, false) | (false, true) => {
                        self.note_all(&unit)?;
                        work.push(Work::Exchange(unit));
                    }
                },
                (one, Some(other)) if *one == other => {}
                (_, Some(_)) => {
                    self.note_all(&unit)?;
                    work.push(Work::Exchange(unit));
                }
                (_, None) => {
                    self.note_all(&unit)?;
                    work.push(Work::Put(unit));
                }
            }
        }
        for (path, item) in read(replica::list(&there, into))? {
            let is_entry = matches!(item.kind, Kind::Directory | Kind::Link(_));
            // A link to a file is a file here.
            let is_file = matches!(item.kind, Kind::Link(_)) && there.join(&path).is_file();
            if is_entry && !is_file && !is_hidden(&path) && !wanted.contains_key(&path) {
                work.push(Work::Remove(below.join(path)));
            }
        }
        if !own.is_none() {
            work.push(Work::Inside(below.to_owned(), own));
        }
        Ok(())
    }

    /// All of a unit that is copied as a whole is ours from then on.
    fn note_all(&mut self, unit: &Path) -> Outcome<()> {
        let here = self.prepared.join(unit);
        if fs::symlink_metadata(&here).is_ok_and(|found| found.is_dir()) {
            for inside in read(replica::list(&here, |_| true))?.keys() {
                self.after.add(unit.join(inside).as_os_str().as_bytes());
            }
        }
        Ok(())
    }

    fn is_group(&self, unit: &Path) -> bool {
        self.prepared.join(unit).join(scan::GROUP).exists()
    }

    /// Whether a unit is a group as it is prepared, and as it stands.
    fn groups(&self, unit: &Path) -> (bool, bool) {
        (self.is_group(unit), self.services.join(unit).join(scan::GROUP).exists())
    }

    /// Copies a unit, or a part of one, whole and onto the disk, under a hidden name beside its place.
    fn stage(&mut self, unit: &Path) -> Outcome<PathBuf> {
        self.staged += 1;
        let there = self.services.join(unit);
        let staged = there.with_file_name(format!("{STAGED}{}", self.staged));
        copy(&self.prepared.join(unit), &staged)?;
        Ok(staged)
    }

    /// What was staged takes the place of what stands there, which is moved aside.
    fn exchange(&mut self, staged: &Path, unit: &Path) -> Outcome<()> {
        let there = self.services.join(unit);
        match renameat_with(CWD, staged, CWD, &there, RenameFlags::EXCHANGE) {
            Ok(()) => {
                keep_names(&there)?;
                self.move_aside(staged, unit)
            }
            // A file system that cannot: then the place is empty for a moment.
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
                self.move_aside(&there, unit)?;
                fs::rename(staged, &there).map_err(failed(&there))?;
                keep_names(&there)
            }
            Err(errno) => Err(failed(&there)(errno.into())),
        }
    }

    fn remove(&mut self, unit: &Path) -> Outcome<()> {
        let there = self.services.join(unit);
        self.move_aside(&there, unit)
    }

    /// Whatever it is, it may hold what nobody else has.
    fn move_aside(&mut self, from: &Path, unit: &Path) -> Outcome<()> {
        let is_link = fs::symlink_metadata(from).is_ok_and(|found| !found.is_dir());
        if is_link {
            fs::remove_file(from).map_err(failed(from))?;
            return keep_names(from);
        }
        let aside = match &self.aside {
            Some(aside) => aside.clone(),
            None => self.aside.insert(make_aside(&self.services.join(REMOVED))?).clone(),
        };
        let mut to = aside.join(unit);
        while to.exists() {
            to.as_mut_os_string().push("+");
        }
        if let Some(above) = to.parent() {
            fs::create_dir_all(above).map_err(failed(above))?;
        }
        fs::rename(from, &to).map_err(failed(from))?;
        keep_names(&to)?;
        keep_names(from)
    }

    /// Replaces files inside of a directory that stays. A start waits until what is run and what is asked for have been left
    /// alone for the settle time; so that is touched before, these files come first, and all others close behind.
    fn change(&mut self, unit: &Path, difference: &Difference) -> Outcome<()> {
        let (here, there) = (self.prepared.join(unit), self.services.join(unit));
        let mut staged: Vec<(PathBuf, &Path)> = Vec::new();
        let mut whole: Vec<&Path> = Vec::new();
        let mut modes: Vec<&Path> = Vec::new();
        for path in &difference.put {
            if whole.iter().any(|above| path.starts_with(above)) {
                continue;
            }
            let is_directory = fs::symlink_metadata(here.join(path)).is_ok_and(|found| found.is_dir());
            let stands = fs::symlink_metadata(there.join(path)).is_ok_and(|found| found.is_dir());
            if is_directory && stands {
                modes.push(path);
                continue;
            }
            if is_directory {
                whole.push(path);
            }
            staged.push((self.stage(&unit.join(path))?, path));
        }
        let alone = |path: &Path| [RUN, SERVICE, file::DOWN].iter().any(|name| path == Path::new(name));
        let several = difference.put.len() + difference.gone.len() > 1;
        if several || difference.put.iter().chain(&difference.gone).any(|path| !alone(path)) {
            hold_starts(&there);
        }
        let decides = |path: &Path| path == Path::new(RUN) || path == Path::new(SERVICE);
        staged.sort_by_key(|(_, path)| !decides(path));
        for (staged, path) in &staged {
            let to = there.join(path);
            let found = fs::symlink_metadata(&to).ok();
            let new_is_directory = fs::symlink_metadata(staged).is_ok_and(|found| found.is_dir());
            match found {
                // Only a directory is to be kept; a file is replaced by another one in one step.
                Some(found) if found.is_dir() || new_is_directory => self.exchange(staged, &unit.join(path))?,
                Some(_) | None => fs::rename(staged, &to).map_err(failed(&to))?,
            }
        }
        for path in modes {
            give(&here.join(path), &there.join(path))?;
        }
        for path in &difference.gone {
            let gone = there.join(path);
            let result = match fs::symlink_metadata(&gone) {
                // With something in it that is not ours it stays.
                Ok(found) if found.is_dir() => fs::remove_dir(&gone).or_else(|error| match error.kind() {
                    io::ErrorKind::DirectoryNotEmpty => Ok(()),
                    _ => Err(error),
                }),
                Ok(_) => fs::remove_file(&gone),
                Err(error) => Err(error),
            };
            match result {
                Err(error) if !is_gone(&error) => return Err(failed(&gone)(error)),
                Ok(()) | Err(_) => {}
            }
        }
        difference.put.iter().chain(&difference.gone).try_for_each(|path| keep_names(&there.join(path)))
    }

    /// What was staged by a run that did not come to its end. A directory may be one that was to be moved aside.
    fn clear(&mut self, below: &Path) -> Outcome<()> {
        let mut todo = vec![below.to_owned()];
        while let Some(below) = todo.pop() {
            let directory = self.services.join(&below);
            let entries = match fs::read_dir(&directory) {
                Ok(entries) => entries,
                // A program's own affair.
                Err(_) if below != Path::new("") => continue,
                Err(error) => return Err(failed(&directory)(error)),
            };
            for entry in entries {
                let entry = entry.map_err(failed(&directory))?;
                let (path, name) = (below.join(entry.file_name()), entry.file_name());
                let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
                if name.as_bytes().starts_with(STAGED.as_bytes()) {
                    match is_directory {
                        true => self.move_aside(&entry.path(), &path)?,
                        false => fs::remove_file(entry.path()).map_err(failed(&entry.path()))?,
                    }
                } else if is_directory && (below != Path::new("") || !is_hidden(Path::new(&name))) {
                    todo.push(path);
                }
            }
        }
        Ok(())
    }

    fn write(&self, manifest: &Manifest) -> Outcome<()> {
        let path = self.services.join(APPLIED);
        let staged = self.services.join(format!("{STAGED}0"));
        let write = || {
            fs::write(&staged, manifest.encode())?;
            File::open(&staged)?.sync_all()?;
            fs::rename(&staged, &path)
        };
        write().map_err(failed(&path))?;
        keep_names(&path)
    }
}

/// Has a start in this directory wait for the settle time, by a new change time. One that has looked at the files before
/// is given time to execute what it has seen.
fn hold_starts(directory: &Path) {
    let touch = |name: &str| {
        let path = directory.join(name);
        // Not what a link leads to.
        let found = fs::symlink_metadata(&path).ok().filter(fs::Metadata::is_file);
        found.is_some_and(|found| fs::set_permissions(&path, found.permissions()).is_ok())
    };
    // What is another's, or not there, cannot be held up; each file is whole all the same.
    if touch(RUN) || touch(SERVICE) {
        let _ = rustix::event::poll(&mut [], Some(&UNDER_WAY));
    }
}

/// A start takes a millisecond.
const UNDER_WAY: rustix::event::Timespec = rustix::event::Timespec { tv_sec: 0, tv_nsec: 20_000_000 };

fn read<T>(result: Result<T, (PathBuf, io::Error)>) -> Outcome<T> {
    result.map_err(|(path, error)| failed(&path)(error))
}

/// Also where what it was in is a file by now.
fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn is_hidden(path: &Path) -> bool {
    path.as_os_str().as_bytes().starts_with(b".")
}

/// The first number that no run has had.
fn make_aside(removed: &Path) -> Outcome<PathBuf> {
    match fs::DirBuilder::new().mode(0o700).create(removed) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed(removed)(error)),
        Ok(()) | Err(_) => {}
    }
    let mut number = 1_u32;
    loop {
        let aside = removed.join(number.to_string());
        match fs::create_dir(&aside) {
            Ok(()) => return Ok(aside),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
            Err(error) => return Err(failed(&aside)(error)),
        }
    }
}

/// A copy of all that stands at a path, on the disk when this returns.
fn copy(from: &Path, to: &Path) -> Outcome<()> {
    let metadata = fs::symlink_metadata(from).map_err(failed(from))?;
    if metadata.file_type().is_symlink() {
        let target = fs::read_link(from).map_err(failed(from))?;
        symlink(target, to).map_err(failed(to))?;
        return give(from, to);
    }
    if metadata.is_file() {
        let mut source = File::open(from).map_err(failed(from))?;
        let mut options = fs::OpenOptions::new();
        let mut target = options.write(true).create_new(true).mode(0o600).open(to).map_err(failed(to))?;
        io::copy(&mut source, &mut target).map_err(failed(to))?;
        give(from, to)?;
        return target.sync_all().map_err(failed(to));
    }
    fs::create_dir(to).map_err(failed(to))?;
    let items = read(replica::list(from, |_| true))?;
    for (path, item) in &items {
        match item.kind {
            Kind::Directory => fs::create_dir(to.join(path)).map_err(failed(&to.join(path)))?,
            Kind::File(_) | Kind::Link(_) | Kind::Other => copy(&from.join(path), &to.join(path))?,
        }
    }
    // Rights last, the innermost first: they may forbid to make anything there.
    let directories =
        items.iter().rev().filter(|(_, item)| item.kind == Kind::Directory).map(|(path, _)| path.as_path());
    for path in directories.chain([Path::new("")]) {
        let made = to.join(path);
        let sync = File::open(&made).and_then(|directory| directory.sync_all());
        sync.map_err(failed(&made))?;
        give(&from.join(path), &made)?;
    }
    Ok(())
}

/// The owner, where that can be given, and the mode.
fn give(from: &Path, to: &Path) -> Outcome<()> {
    let metadata = fs::symlink_metadata(from).map_err(failed(from))?;
    if rustix::process::geteuid().is_root() {
        lchown(to, Some(metadata.uid()), Some(metadata.gid())).map_err(failed(to))?;
    }
    if metadata.file_type().is_symlink() {
        return Ok(());
    }
    // After the owner, which takes the bits from it that give somebody's rights.
    fs::set_permissions(to, Permissions::from_mode(metadata.permissions().mode() & 0o7777)).map_err(failed(to))
}

/// A name is on the disk once its directory is.
fn keep_names(path: &Path) -> Outcome<()> {
    let above = path.parent().unwrap_or(Path::new("/"));
    match File::open(above).and_then(|directory| directory.sync_all()) {
        // A file system may know no such thing.
        Err(error) if !is_gone(&error) && error.kind() != io::ErrorKind::InvalidInput => Err(failed(above)(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}
