//! Control groups that limit: the memory, the tasks and the processor time of a module as a whole.
//!
//! By version 2 where its controllers can be had, else by the hierarchies of version 1, below the group that svtree itself is
//! in. Nothing is looked for until a module asks. Must never let a module run with less of a limit than it asked for.

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

use rustix::fs::{Mode, OFlags, openat};

use super::cgroup::{Cgroup, Cgroups, below, make, number, remove, unoctal};
use super::report::plain;
use crate::pure::config::Limits;
use crate::pure::reconcile::Id;

/// What the kernel can limit for a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Controller {
    Memory,
    Tasks,
    Cpu,
}

use Controller::{Cpu, Memory, Tasks};

/// In the order of their numbers.
const ALL: [Controller; 3] = [Memory, Tasks, Cpu];

/// Processor time is counted in such periods, in microseconds: the kernel's own default.
const PERIOD: u64 = 100_000;

impl Controller {
    /// As the kernel calls it.
    fn name(self) -> &'static str {
        match self {
            Memory => "memory",
            Tasks => "pids",
            Cpu => "cpu",
        }
    }

    /// As `[limits]` calls it.
    fn key(self) -> &'static str {
        match self {
            Memory => "memory",
            Tasks => "tasks",
            Cpu => "cpu",
        }
    }

    /// How much of it is asked for.
    fn asked(self, limits: &Limits) -> Option<u64> {
        match self {
            Memory => limits.memory,
            Tasks => limits.tasks,
            Cpu => limits.cpu.map(u64::from),
        }
    }

    /// The files that limit it, with what they are to say; in version 2 also without a limit.
    fn files(self, version2: bool, most: Option<u64>) -> Vec<(&'static str, String)> {
        let text = most.map_or("max".to_owned(), |most| most.to_string());
        // In thousandths of a processor.
        let quota = most.map_or("max".to_owned(), |most| (most * PERIOD / 1000).to_string());
        match (self, version2) {
            (Memory, true) => vec![("memory.max", text)],
            (Memory, false) => vec![("memory.limit_in_bytes", text)],
            (Tasks, _) => vec![("pids.max", text)],
            (Cpu, true) => vec![("cpu.max", format!("{quota} {PERIOD}"))],
            (Cpu, false) => vec![("cpu.cfs_period_us", PERIOD.to_string()), ("cpu.cfs_quota_us", quota)],
        }
    }
}

/// Where the groups of a controller are.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    /// In the module's own group of version 2.
    Two,
    /// In the tree's group of this hierarchy of version 1.
    One(PathBuf),
}

/// The controllers of one tree.
#[derive(Debug)]
pub struct Controllers {
    /// The number of the tree, as in its group of version 2.
    tree: String,
    /// Where each is; what could not be had once may be had later.
    places: [OnceLock<Place>; 3],
    /// Held while that is asked: it may take us to another group.
    asking: Mutex<()>,
}

/// What limits one module.
#[derive(Debug, Default)]
pub struct Limited {
    /// The files of version 1 by which its program joins its groups,
    joins: Vec<PathBuf>,
    /// open, in the same order, or none of them.
    open: Vec<OwnedFd>,
    /// Whether it must be in its group of version 2.
    pub grouped: bool,
    /// The group that counts what was killed for want of memory.
    pub memory: Option<PathBuf>,
}

impl Controllers {
    /// Those of the tree with this number.
    #[must_use]
    pub fn new(tree: &str) -> Controllers {
        Controllers { tree: tree.to_owned(), places: Default::default(), asking: Mutex::default() }
    }

    /// Sets the limits of the module with this service directory, whose group of version 2 that is.
    ///
    /// # Errors
    /// What cannot be limited, and why.
    pub fn limit(
        &self,
        groups: Option<&Cgroups>,
        group: Option<&Cgroup>,
        id: Id,
        asked: &Limits,
    ) -> Result<Limited, String> {
        let mut limited = Limited::default();
        for controller in ALL {
            let most = controller.asked(asked);
            let failed = |error: io::Error| format!("limits.{}: {}", controller.key(), plain(&error));
            if most.is_none() {
                self.lift(controller, group).map_err(failed)?;
                continue;
            }
            let place = self.place(controller, groups);
            match place.map_err(|why| format!("limits.{}: {why}", controller.key()))? {
                Place::Two => {
                    let group = group.ok_or_else(|| failed(io::Error::other("it can have no control group")))?;
                    write(group.directory(), &controller.files(true, most)).map_err(failed)?;
                    limited.grouped = true;
                    limited.note_memory(controller, group.directory());
                }
                Place::One(tree) => {
                    let directory = tree.join(number(id));
                    make(tree).and_then(|()| make(&directory)).map_err(failed)?;
                    write(&directory, &controller.files(false, most)).map_err(failed)?;
                    // A task that moves itself takes none of the locks that a process takes that is moved.
                    limited.joins.push(directory.join("tasks"));
                    limited.note_memory(controller, &directory);
                }
            }
        }
        Ok(limited)
    }

    fn place(&self, controller: Controller, groups: Option<&Cgroups>) -> Result<&Place, String> {
        let known = &self.places[controller as usize];
        let _alone = self.asking.lock().unwrap_or_else(PoisonError::into_inner);
        match known.get() {
            Some(place) => Ok(place),
            None => place(controller, groups, &self.tree).map(|place| known.get_or_init(|| place)),
        }
    }

    /// A group of version 2 may have had a limit that is not asked for any more.
    fn lift(&self, controller: Controller, group: Option<&Cgroup>) -> io::Result<()> {
        let used = matches!(self.places[controller as usize].get(), Some(Place::Two));
        let Some(group) = group.filter(|group| used || group.is_old()) else { return Ok(()) };
        let files = controller.files(true, None);
        let is_there = files.iter().all(|(name, _)| group.directory().join(name).exists());
        if is_there { write(group.directory(), &files) } else { Ok(()) }
    }

    /// Removes the groups of version 1 of a module that asked for this, if nothing is in them.
    pub fn remove(&self, groups: Option<&Cgroups>, id: Id, asked: &Limits) {
        // A predecessor may have made them.
        for controller in ALL.into_iter().filter(|controller| controller.asked(asked).is_some()) {
            let _ = self.place(controller, groups);
        }
        self.trees().for_each(|tree| remove(&tree.join(number(id))));
    }

    /// Removes all groups of version 1 in which nothing is, also those that only a predecessor has made.
    pub fn close(&self) {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let (mounts, groups) = (read("/proc/self/mountinfo"), read("/proc/self/cgroup"));
        let trees = ALL.into_iter().filter_map(|controller| of_version_1(&mounts, &groups, controller.name()));
        trees.for_each(|own| remove(&own.join(format!("svtree-{}", self.tree))));
    }

    fn trees(&self) -> impl Iterator<Item = &PathBuf> {
        self.places.iter().filter_map(|place| match place.get() {
            Some(Place::One(tree)) => Some(tree),
            Some(Place::Two) | None => None,
        })
    }
}

impl Limited {
    /// Opens the files by which its program joins its groups, unless they are open: more than half of what that costs.
    ///
    /// # Errors
    /// Which one cannot be, and why.
    pub fn hold(&mut self) -> Result<(), String> {
        if self.open.is_empty() {
            let open = |file: &PathBuf| {
                let flags = OFlags::WRONLY | OFlags::CLOEXEC;
                openat(rustix::fs::CWD, file, flags, Mode::empty())
                    .map_err(|errno| format!("{}: {}", file.display(), plain(&errno.into())))
            };
            self.open = self.joins.iter().map(open).collect::<Result<_, _>>()?;
        }
        Ok(())
    }

    /// They are not kept open for the next start.
    pub fn let_go(&mut self) {
        self.open = Vec::new();
    }

    /// Those files, if they are open.
    #[must_use]
    pub fn joins(&self) -> &[OwnedFd] {
        &self.open
    }

    fn note_memory(&mut self, controller: Controller, directory: &Path) {
        if controller == Memory {
            self.memory = Some(directory.to_path_buf());
        }
    }
}

/// What was killed in a group for want of memory.
#[derive(Debug)]
pub struct Killed {
    group: PathBuf,
    /// What tells of it: to open it takes ten times as long as to read it.
    file: Option<File>,
}

impl Killed {
    /// In this group.
    #[must_use]
    pub fn of(group: PathBuf) -> Killed {
        Killed { group, file: None }
    }

    /// The group.
    #[must_use]
    pub fn group(&self) -> &Path {
        &self.group
    }

    /// How many processes; 0 where that is not told.
    pub fn count(&mut self) -> u64 {
        let count = |file: &File| {
            let mut text = [0; 512];
            let length = file.read_at(&mut text, 0).ok()?;
            let text = str::from_utf8(text.get(..length)?).ok()?;
            text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
        };
        // One that is held may be of a group that is gone, and another one be in its place.
        if let Some(count) = self.file.as_ref().and_then(count) {
            return count;
        }
        let files = ["memory.events", "memory.oom_control"].map(|name| File::open(self.group.join(name)));
        let told = files.into_iter().flatten().find_map(|file| Some((count(&file)?, file)));
        let (count, file) = told.map_or((0, None), |(count, file)| (count, Some(file)));
        self.file = file;
        count
    }

    /// Nothing of it is kept open.
    pub fn let_go(&mut self) {
        self.file = None;
    }
}

fn write(directory: &Path, files: &[(&str, String)]) -> io::Result<()> {
    files.iter().try_for_each(|(name, text)| {
        fs::write(directory.join(name), text)
            .map_err(|error| io::Error::other(format!("{}: {}", directory.join(name).display(), plain(&error))))
    })
}

/// Where a controller can be had: in version 2, if it is there, else in version 1.
fn place(controller: Controller, groups: Option<&Cgroups>, tree: &str) -> Result<Place, String> {
    let name = controller.name();
    let two = match groups {
        Some(groups) => match groups.control(name) {
            Ok(()) => return Ok(Place::Two),
            Err(why) => format!("in version 2 {}", plain(&why)),
        },
        None => "svtree can make no group of version 2".to_owned(),
    };
    let read = |path: &str| fs::read_to_string(path).map_err(|error| format!("{path}: {}", plain(&error)));
    let own = of_version_1(&read("/proc/self/mountinfo")?, &read("/proc/self/cgroup")?, name);
    let own = own.ok_or_else(|| {
        format!("no control group can have the controller {name}: {two}, and no hierarchy of version 1 has it")
    })?;
    rustix::fs::access(&own, rustix::fs::Access::WRITE_OK).map_err(|errno| {
        format!(
            "{two}, and in version 1 {}: {}; it takes root or a delegated group",
            own.display(),
            plain(&errno.into())
        )
    })?;
    Ok(Place::One(own.join(format!("svtree-{tree}"))))
}

/// The directory of our own group in the hierarchy of version 1 that has a controller.
fn of_version_1(mounts: &str, groups: &str, controller: &str) -> Option<PathBuf> {
    let has = |list: &str| list.split(',').any(|name| name == controller);
    let own = groups.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        has(fields.next()?).then(|| fields.next())?
    })?;
    mounts.lines().find_map(|line| {
        let (place, kind) = line.split_once(" - ")?;
        let mut fields = place.split(' ');
        let (root, place) = (fields.nth(3)?, fields.next()?);
        let mut kind = kind.split(' ');
        if kind.next() != Some("cgroup") || !has(kind.nth(1)?) {
            return None;
        }
        let mount = PathBuf::from(std::ffi::OsStr::from_bytes(&unoctal(place.as_bytes())));
        // In a container the mount may show no more than its own part of the hierarchy.
        Some(below(&mount, Path::new(own).strip_prefix(root).ok()?.to_str()?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_group_of_version_1_is_found() {
        let mounts = "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n\
            39 31 0:36 /docker/1 /sys/fs/cgroup/pi\\040ds rw - cgroup cgroup rw,pids\n\
            32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n\
            41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let groups = "8:pids:/docker/1/a\n4:memory:/m\n1:cpu,cpuacct:/\n0::/\n";
        let own = |controller| of_version_1(mounts, groups, controller);
        assert_eq!(own("memory"), Some("/sys/fs/cgroup/memory/m".into()));
        assert_eq!(own("pids"), Some("/sys/fs/cgroup/pi ds/a".into()));
        assert_eq!(own("cpu"), Some("/sys/fs/cgroup/cpu".into()));
        assert_eq!(own("io"), None);
        assert_eq!(of_version_1(mounts, "8:pids:/elsewhere", "pids"), None);
    }

    #[test]
    fn what_the_files_are_to_say() {
        let files = |controller: Controller, two, most| -> Vec<String> {
            controller.files(two, most).into_iter().map(|(name, text)| format!("{name} {text}")).collect()
        };
        assert_eq!(files(Cpu, true, Some(1500)), ["cpu.max 150000 100000"]);
        assert_eq!(files(Cpu, true, None), ["cpu.max max 100000"]);
        assert_eq!(files(Cpu, false, Some(500)), ["cpu.cfs_period_us 100000", "cpu.cfs_quota_us 50000"]);
        assert_eq!(files(Memory, true, Some(4096)), ["memory.max 4096"]);
        assert_eq!(files(Memory, false, Some(4096)), ["memory.limit_in_bytes 4096"]);
        assert_eq!(files(Tasks, true, None), ["pids.max max"]);
    }

    #[test]
    fn the_killed_are_counted_in_either_version() {
        let group = tempfile::tempdir().expect("a directory");
        let count = || Killed::of(group.path().to_path_buf()).count();
        assert_eq!(count(), 0);
        fs::write(group.path().join("memory.oom_control"), "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n")
            .expect("it");
        assert_eq!(count(), 3);
        fs::write(group.path().join("memory.events"), "low 0\nmax 9\noom 2\noom_kill 1\n").expect("it");
        assert_eq!(count(), 1);
        let mut held = Killed::of(group.path().to_path_buf());
        assert_eq!(held.count(), 1);
        fs::write(group.path().join("memory.events"), "oom_kill 2\n").expect("it");
        assert_eq!(held.count(), 2, "what is held is read anew");
        fs::write(group.path().join("memory.events"), "").expect("it");
        assert_eq!(held.count(), 3, "what tells nothing any more is looked for");
    }
}
