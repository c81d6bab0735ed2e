//! Control groups of version 2, one for each module, so that nothing of it escapes: below svtree's own, by number.
//!
//! Whether something of them is limited is asked elsewhere. Must never touch a group that svtree did not make.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{AtFlags, Mode, OFlags, mkdirat, openat, unlinkat};

use super::{aside, pseudo, raw};
use crate::pure::exit::Pid;
use crate::pure::reconcile::Id;

/// The groups of one tree.
#[derive(Debug)]
pub struct Cgroups {
    mount: PathBuf,
    /// The group of the tree, below the mount.
    own: String,
    /// The same, held: to walk there takes as long as to make a group.
    held: OwnedFd,
    /// Whether processes can be born in a group.
    births: bool,
    /// One group is removed at a time. The kernel sees to that too, but whoever has to wait there goes to sleep, and everybody
    /// after him: at the end of a thousand that took a sixth of the whole time.
    removing: Mutex<()>,
}

impl Cgroups {
    /// The groups of the tree with this number, below the group that this process is in.
    ///
    /// # Errors
    /// There is no hierarchy of version 2 here, or svtree may not make groups in it.
    pub fn open(number: &str) -> io::Result<Cgroups> {
        let mount = mount()?;
        let own = fs::read_to_string("/proc/self/cgroup")?;
        let own = own.lines().find_map(|line| line.strip_prefix("0::"));
        let own = own.ok_or_else(|| io::Error::other("this process is in no group of version 2"))?;
        let tree = format!("svtree-{number}");
        // It may have gone there to have controllers in the groups of its modules.
        let own = own.strip_suffix(&format!("/{tree}/{}", aside::SELF)).unwrap_or(own);
        // Nothing that only root may do is tried.
        rustix::fs::access(below(&mount, own), rustix::fs::Access::WRITE_OK)?;
        let own = format!("{}/{tree}", own.trim_end_matches('/'));
        let directory = below(&mount, &own);
        make(&directory)?;
        // In one of its own: that of the tree may have been there before.
        let trial =
            Cgroup { path: String::new(), directory: directory.join("trial"), fresh: true, old: false, gone: false };
        trial.remove();
        make(&trial.directory)?;
        let births = hold(rustix::fs::CWD, &trial.directory).is_ok_and(|held| raw::can_be_born_in(held.as_fd()));
        trial.remove();
        let held = hold(rustix::fs::CWD, &directory)?;
        Ok(Cgroups { mount, own, held, births, removing: Mutex::new(()) })
    }

    /// The group of the module with this service directory, by device, inode and instance, made if it is not there; and
    /// held, for a clone into it.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn module(&self, id: Id) -> io::Result<(Cgroup, OwnedFd)> {
        let number = number(id);
        let path = format!("{}/{number}", self.own);
        let directory = below(&self.mount, &path);
        let make_new = || mkdirat(&self.held, number.as_str(), Mode::from_raw_mode(0o777)).is_ok();
        let mut fresh = make_new();
        if !fresh {
            // A new one, if nothing is in it: one that everything was killed in kills what is born in it.
            remove(&directory);
            fresh = make_new();
        }
        if !fresh {
            make(&directory)?;
        }
        let held = hold(self.held.as_fd(), Path::new(&number))?;
        Ok((Cgroup { path, directory, fresh: fresh && self.births, old: !fresh, gone: false }, held))
    }

    /// Holds the group of a module, for a clone into it.
    ///
    /// # Errors
    /// It is gone, or none of this tree.
    pub fn hold(&self, group: &Cgroup) -> io::Result<OwnedFd> {
        hold(self.held.as_fd(), self.name(group).ok_or(io::ErrorKind::NotFound)?)
    }

    /// Removes the group of a module that is to have none any more, unless something is in it; says whether it is gone, and so
    /// whether nothing was left in it, which to ask first would take twice as long.
    pub fn remove_empty(&self, group: &mut Cgroup) -> bool {
        if let Some(name) = self.name(group) {
            let _alone = self.removing.lock().unwrap_or_else(PoisonError::into_inner);
            group.gone |= unlinkat(&self.held, name, AtFlags::REMOVEDIR).is_ok();
        }
        group.fresh &= !group.gone;
        group.gone
    }

    /// Removes the group of a module that is to have none any more, as far as nothing is in it, with all that a predecessor had
    /// where it was.
    pub fn abandon(&self, group: &Cgroup) {
        group.remove();
        if !self.has(group)
            && let Some(tree) = group.directory.parent()
        {
            aside::clear_after(tree);
        }
    }

    /// The name of a module's group in that of the tree, if it is one of this tree.
    fn name<'a>(&self, group: &'a Cgroup) -> Option<&'a Path> {
        group.directory.file_name().filter(|_| self.has(group)).map(Path::new)
    }

    /// Has a controller in the groups of modules.
    ///
    /// # Errors
    /// It is not there, or cannot be had in groups below the one that svtree is in.
    pub fn control(&self, controller: &str) -> io::Result<()> {
        let tree = below(&self.mount, &self.own);
        aside::enable(tree.parent().unwrap_or(&self.mount), &tree, controller)
    }

    /// Whether a module's group is one of this tree: a predecessor may have been in another one.
    #[must_use]
    pub fn has(&self, group: &Cgroup) -> bool {
        group.path.rsplit_once('/').is_some_and(|(tree, _)| tree == self.own)
    }

    /// The group that a predecessor started a program in: as it recorded that, or, if it did not live to, by the service
    /// directory.
    #[must_use]
    pub fn left(&self, recorded: Option<&str>, id: Id) -> Option<Cgroup> {
        match recorded {
            Some(path) => self.recorded(path),
            None => self.recorded(&format!("{}/{}", self.own, number(id))),
        }
    }

    /// A group that a predecessor recorded, if it is one that svtree made and is there.
    fn recorded(&self, path: &str) -> Option<Cgroup> {
        let parts: Vec<&str> = path.split('/').collect();
        let made = matches!(parts.as_slice(), ["", .., tree, _] if tree.starts_with("svtree-"));
        let directory = below(&self.mount, path);
        (made && !parts.contains(&"..") && directory.is_dir()).then(|| Cgroup {
            path: path.to_owned(),
            directory,
            fresh: false,
            old: true,
            gone: false,
        })
    }

    /// Removes the group of the tree and those in it that hold nothing; what was changed for them in the group above is as it
    /// was before.
    pub fn close(&self) {
        let tree = below(&self.mount, &self.own);
        if let Some(own) = tree.parent() {
            aside::step_back(own, &tree);
        }
        remove(&tree);
    }
}

/// The path of the module's group beside one that was recorded, perhaps of another service directory.
#[must_use]
pub fn beside(recorded: &str, id: Id) -> Option<String> {
    let (tree, _) = recorded.rsplit_once('/')?;
    Some(format!("{tree}/{}", number(id)))
}

/// Names may hold what no group's name can.
pub(super) fn number(id: Id) -> String {
    match id {
        Id { device, inode, instance: 0 } => format!("{device}-{inode}"),
        Id { device, inode, instance } => format!("{device}-{inode}-{instance}"),
    }
}

pub(super) fn below(mount: &Path, path: &str) -> PathBuf {
    mount.join(path.trim_start_matches('/'))
}

pub(super) fn make(directory: &Path) -> io::Result<()> {
    match fs::create_dir(directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// Where the hierarchy of version 2 is mounted: as the only one, or bare beside those of version 1.
fn mount() -> io::Result<PathBuf> {
    // Field 5 of proc_pid_mountinfo(5) is the place, field 4 what of the hierarchy is seen there; the type follows `-`.
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    let found = mounts.lines().find_map(|line| {
        let (place, kind) = line.split_once(" - ")?;
        let mut fields = place.split(' ');
        let (root, place) = (fields.nth(3)?, fields.next()?);
        (kind.starts_with("cgroup2 ") && root == "/").then(|| place.to_owned())
    });
    let found = found.ok_or_else(|| io::Error::other("no hierarchy of version 2 is mounted"))?;
    Ok(PathBuf::from(std::ffi::OsStr::from_bytes(&unoctal(found.as_bytes()))))
}

/// Blanks and the like stand as `\040` in that file.
pub(super) fn unoctal(text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        let digits = after.get(..3).filter(|_| byte == b'\\').and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(meant) => {
                bytes.push(meant);
                rest = after.get(3..).unwrap_or_default();
            }
            None => {
                bytes.push(byte);
                rest = after;
            }
        }
    }
    bytes
}

/// The group of one module.
#[derive(Debug)]
pub struct Cgroup {
    /// Below the mount, as it is recorded.
    path: String,
    directory: PathBuf,
    /// Processes can be born in it: it was made for this, and nothing was killed in it.
    fresh: bool,
    /// It was there before.
    old: bool,
    /// It was removed: nothing was left in it.
    gone: bool,
}

impl Cgroup {
    /// Below the mount, as it is recorded.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Where its files are.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Whether it was there before, and may have limits that nobody here has set.
    #[must_use]
    pub fn is_old(&self) -> bool {
        self.old
    }

    /// Whether processes can be born in it; else they have to move there.
    #[must_use]
    pub fn is_fresh(&self) -> bool {
        self.fresh
    }

    /// The processes in it and in the groups below it.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn members(&self) -> io::Result<Vec<Pid>> {
        let mut found = Vec::new();
        if !self.gone {
            collect(&self.directory, &mut found)?;
        }
        Ok(found)
    }

    /// Whether the kernel calls it, or a group below it, by this number.
    #[must_use]
    pub fn is_number(&self, number: u64) -> bool {
        is_number(&self.directory, number)
    }

    /// Whether a process is in it, or in a group below it.
    ///
    /// # Errors
    /// It cannot be told.
    pub fn holds(&self, pid: Pid) -> io::Result<bool> {
        let groups = match pseudo::text(format!("/proc/{pid}/cgroup")) {
            Ok(groups) => groups,
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH)) => return Ok(false),
            Err(error) => return Err(error),
        };
        let group = groups.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or_default();
        let rest = group.strip_prefix(self.path.as_str());
        Ok(rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
    }

    /// Ends everything in it at once, also what is being forked at this moment; false where the kernel cannot.
    #[must_use]
    pub fn kill(&mut self) -> bool {
        self.fresh = false;
        fs::write(self.directory.join("cgroup.kill"), "1").is_ok()
    }

    /// Removes it, with the groups below it that are empty; one that holds something stays.
    pub fn remove(&self) {
        if !self.gone {
            remove(&self.directory);
        }
    }
}

fn hold(at: BorrowedFd<'_>, directory: &Path) -> io::Result<OwnedFd> {
    Ok(openat(at, directory, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

fn collect(directory: &Path, found: &mut Vec<Pid>) -> io::Result<()> {
    match pseudo::text(directory.join("cgroup.procs")) {
        Ok(text) => found.extend(text.lines().filter_map(|pid| Pid::new(pid.parse().ok()?))),
        // A group below that went away meanwhile; or its own, which somebody removed, with nothing in it then.
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENODEV)) => return Ok(()),
        // A threaded group: its processes stand in the group above.
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {}
        Err(error) => return Err(error),
    }
    // Only programs that make groups of their own have any; the count of links says so without a look.
    for entry in groups_in(directory) {
        collect(&entry, found)?;
    }
    Ok(())
}

fn is_number(directory: &Path, number: u64) -> bool {
    fs::metadata(directory).is_ok_and(|stat| stat.ino() == number)
        || groups_in(directory).iter().any(|below| is_number(below, number))
}

pub(super) fn groups_in(directory: &Path) -> Vec<PathBuf> {
    if fs::metadata(directory).is_ok_and(|stat| stat.nlink() == 2) {
        return Vec::new();
    }
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path()).collect()
}

pub(super) fn remove(directory: &Path) {
    match fs::remove_dir(directory) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        // One that has groups in it, or processes.
        Err(_) => {
            groups_in(directory).iter().for_each(|group| remove(group));
            let _ = fs::remove_dir(directory);
        }
    }
}
