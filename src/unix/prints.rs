//! The files of a service directory as they were: what a start asks for, looked at again and again, as cheaply as can be.
//!
//! Must never read what is in them.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{Access, AtFlags, FileType, Stat, accessat, fstat, fstatfs, statat};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::clock;
use crate::pure::family;
use crate::pure::reconcile::Id;
use crate::pure::time::Wall;

/// What a module runs,
pub const RUN: &str = "run";
/// what it asks for,
pub const SERVICE: &str = "service.toml";
/// and what runs once its program has ended.
pub const FINISH: &str = "finish";

/// What may stand for a signal is in here.
const CONTROL: &str = "control";

/// A file as it was: another print means that it was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Print {
    /// Of device, inode, size and both times: each module has several of these.
    digest: u64,
    changed: Wall,
}

impl Print {
    /// Of an open file, or one that was looked at.
    #[must_use]
    pub fn of(stat: &Stat) -> Print {
        let mut digest = DefaultHasher::new();
        (stat.st_dev, stat.st_ino, stat.st_size, changed(stat), modified(stat)).hash(&mut digest);
        Print { digest: digest.finish(), changed: changed(stat) }
    }

    /// Of the file at a path; `None` when there is none.
    #[must_use]
    pub fn at(path: &Path) -> Option<Print> {
        statat(rustix::fs::CWD, path, AtFlags::empty()).ok().map(|stat| Print::of(&stat))
    }

    /// When it was changed last, contents or mode.
    #[must_use]
    pub fn changed(&self) -> Wall {
        self.changed
    }
}

/// Which file or directory.
#[must_use]
pub fn id(stat: &Stat) -> Id {
    Id::of(stat.st_dev, stat.st_ino)
}

/// When it was changed last: contents, mode or, of a directory, names in it.
fn changed(stat: &Stat) -> Wall {
    Wall { seconds: stat.st_ctime, nanos: u32::try_from(stat.st_ctime_nsec).unwrap_or(0) }
}

/// When its contents were changed last; of a directory, the names in it.
#[must_use]
pub fn modified(stat: &Stat) -> Wall {
    Wall { seconds: stat.st_mtime, nanos: u32::try_from(stat.st_mtime_nsec).unwrap_or(0) }
}

/// How long ago a file was changed; `None` when its time is in the future, as after the clock was set.
#[must_use]
pub fn age(changed: Wall, now: Wall) -> Option<Duration> {
    let nanos =
        i128::from(now.seconds - changed.seconds) * 1_000_000_000 + i128::from(now.nanos) - i128::from(changed.nanos);
    u64::try_from(nanos).ok().map(Duration::from_nanos)
}

/// The prints of the files that decide what is started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prints {
    /// Of `run`.
    pub run: Option<Print>,
    /// Of `service.toml`.
    pub service: Option<Print>,
    /// Of the small files of the family.
    pub small: Option<Small>,
}

/// One print of all the small files of the family: each module has several of these, and hardly any has such a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Small {
    /// Of the names and the prints of those that are there.
    digest: u64,
    /// When the youngest was changed last.
    changed: Wall,
}

impl Prints {
    /// Reads them from a service directory.
    #[must_use]
    pub fn read(directory: BorrowedFd<'_>) -> Prints {
        Glance::default().prints(directory)
    }

    /// The same, where those two were looked at a moment ago.
    #[must_use]
    pub fn read_with(directory: BorrowedFd<'_>, run: Option<&Stat>, service: Option<&Stat>) -> Prints {
        let small = Glance::default().small(directory);
        Prints { run: run.map(Print::of), service: service.map(Print::of), small }
    }

    /// Whether what a policy is read from is the same.
    #[must_use]
    pub fn ask_as(&self, other: &Prints) -> bool {
        (self.service, self.small) == (other.service, other.small)
    }

    /// Whether a file that was there is missing in `later`: no time of those that are left tells since when.
    #[must_use]
    pub fn has_lost(&self, later: &Prints) -> bool {
        let small = match (self.small, later.small) {
            (Some(before), Some(now)) => before != now && now.changed <= before.changed,
            (before, now) => before.is_some() && now.is_none(),
        };
        small || (self.run.is_some() && later.run.is_none()) || (self.service.is_some() && later.service.is_none())
    }

    /// When the youngest of them was changed last.
    #[must_use]
    pub fn changed(&self) -> Wall {
        let changed = |print: Option<Print>| print.map_or(Wall::default(), |print| print.changed());
        let small = self.small.map_or(Wall::default(), |small| small.changed);
        changed(self.run).max(changed(self.service)).max(small)
    }
}

/// Looks at one service directory again and again, and asks the kernel only for what may be there.
///
/// A name comes into a directory only with a new change time of the directory itself. What was not there is therefore
/// still not there as long as that time is the same; what was there is looked at each time.
#[derive(Debug, Default)]
pub struct Glance {
    /// The change time of the directory when it was looked at last.
    changed: Option<Wall>,
    /// That time is so long ago that another change would have made another one.
    settled: bool,
    /// Which of [`ASKED`] were not there, a bit for each.
    absent: u16,
    /// Nothing that is there means anything.
    blind: bool,
}

/// What is looked at; their places are the bits.
const ASKED: [&str; 10] = {
    let [a, b, c, d, e] = &family::FILES;
    [RUN, SERVICE, FINISH, CONTROL, a.name, b.name, c.name, d.name, e.name, family::CHECK]
};

/// The coarsest change times there are, FAT's.
const COARSEST: Duration = Duration::from_secs(2);

/// File systems that take the time of this machine's coarse clock, as statfs(2) calls them: tmpfs, ext4, XFS, Btrfs, and
/// overlays of them.
const TICKING: [u32; 5] = [0x0102_1994, 0xEF53, 0x5846_5342, 0x9123_683E, 0x794C_7630];

/// Whether a directory that had this change time a moment ago will have another one by its next change.
fn is_settled(directory: BorrowedFd<'_>, then: Wall) -> bool {
    let is_ticking = || {
        let kind = fstatfs(directory).ok().and_then(|stat| u32::try_from(stat.f_type).ok());
        kind.is_some_and(|kind| TICKING.contains(&kind))
    };
    // A time of whole seconds may be all that there is room for, as in small inodes of ext4.
    let has_ticked = || then.nanos != 0 && clock::coarse_wall().is_some_and(|now| now > then);
    age(then, clock::wall()).is_some_and(|age| age > COARSEST) || (has_ticked() && is_ticking())
}

impl Glance {
    /// For a directory in which a program only runs.
    #[must_use]
    pub fn blind() -> Glance {
        Glance { absent: u16::MAX, settled: true, blind: true, ..Glance::default() }
    }

    /// Whether it knows what is not there, as long as the directory does not change.
    #[must_use]
    pub fn is_prepared(&self) -> bool {
        self.settled && self.absent != 0
    }

    /// Looks once, so that the next look, which a start waits for, asks for what is there alone.
    pub fn prepare(&mut self, directory: BorrowedFd<'_>) {
        self.renew(directory);
        if self.settled && self.absent == 0 {
            ASKED.iter().for_each(|name| _ = self.stat(directory, name));
        }
    }

    /// The prints of the files as they are now.
    #[must_use]
    pub fn prints(&mut self, directory: BorrowedFd<'_>) -> Prints {
        self.renew(directory);
        let (run, service) = (self.print(directory, RUN), self.print(directory, SERVICE));
        Prints { run, service, small: self.small(directory) }
    }

    /// The same, where all of them were looked at a moment ago: `run` and `service.toml` may be being written.
    #[must_use]
    pub fn prints_again(&mut self, directory: BorrowedFd<'_>, before: Prints) -> Prints {
        self.renew(directory);
        Prints { run: self.print(directory, RUN), service: self.print(directory, SERVICE), small: before.small }
    }

    fn small(&mut self, directory: BorrowedFd<'_>) -> Option<Small> {
        let mut small: Option<(DefaultHasher, Wall)> = None;
        for name in family::FILES.iter().map(|file| file.name).chain([family::CHECK]) {
            if let Some(print) = self.print(directory, name) {
                let (mut digest, youngest) = small.unwrap_or_default();
                (name, print).hash(&mut digest);
                small = Some((digest, youngest.max(print.changed())));
            }
        }
        small.map(|(digest, changed)| Small { digest: digest.finish(), changed })
    }

    fn print(&mut self, directory: BorrowedFd<'_>, name: &str) -> Option<Print> {
        self.stat(directory, name).map(|stat| Print::of(&stat))
    }

    /// Whether there is an executable `finish`.
    #[must_use]
    pub fn has_finish(&mut self, directory: BorrowedFd<'_>) -> bool {
        self.renew(directory);
        self.stat(directory, FINISH).is_some() && is_executable(directory, FINISH.as_bytes())
    }

    /// Whether there is an executable `control/LETTER`.
    #[must_use]
    pub fn has_control(&mut self, directory: BorrowedFd<'_>, letter: u8) -> bool {
        self.renew(directory);
        self.stat(directory, CONTROL).is_some()
            && is_executable(directory, &[CONTROL.as_bytes(), b"/", &[letter]].concat())
    }

    fn renew(&mut self, directory: BorrowedFd<'_>) {
        if self.blind {
            return;
        }
        let now = fstat(directory).ok().map(|stat| changed(&stat));
        if now.is_none() || now != self.changed {
            *self = Glance { changed: now, settled: false, absent: 0, blind: false };
        }
        if !self.settled {
            // What was asked before that is forgotten: a name may have come within the same tick.
            self.absent = 0;
            self.settled = now.is_some_and(|then| is_settled(directory, then));
        }
    }

    fn stat(&mut self, directory: BorrowedFd<'_>, name: &str) -> Option<Stat> {
        let bit = ASKED.iter().position(|asked| *asked == name).map_or(0, |place| 1 << place);
        if self.absent & bit != 0 {
            return None;
        }
        match statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink => {
                statat(directory, name, AtFlags::empty()).ok()
            }
            Ok(stat) => Some(stat),
            Err(errno) => {
                if errno == Errno::NOENT && self.settled {
                    self.absent |= bit;
                }
                None
            }
        }
    }
}

/// Whether it is there and may be executed.
#[must_use]
pub fn is_executable(directory: BorrowedFd<'_>, path: &[u8]) -> bool {
    accessat(directory, path, Access::EXEC_OK, AtFlags::EACCESS).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File};
    use std::os::fd::AsFd;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn what_comes_is_seen_also_by_one_that_remembers() {
        let directory = tempfile::tempdir().expect("a directory");
        let held = File::open(directory.path()).expect("the directory");
        let mut glance = Glance::default();
        assert!(!glance.has_finish(held.as_fd()));
        // As if it had been long ago.
        glance.settled = true;
        assert!(!glance.has_finish(held.as_fd()) && glance.prints(held.as_fd()).run.is_none());
        assert_ne!(glance.absent, 0);
        let other = directory.path().join("other");
        while fstat(&held).is_ok_and(|stat| Some(changed(&stat)) == glance.changed) {
            fs::write(&other, "").expect("written");
            fs::remove_file(&other).expect("removed");
        }
        fs::write(directory.path().join(FINISH), "").expect("written");
        assert!(!glance.has_finish(held.as_fd()), "not executable");
        fs::set_permissions(directory.path().join(FINISH), fs::Permissions::from_mode(0o755)).expect("changed");
        fs::write(directory.path().join(RUN), "").expect("written");
        assert!(glance.has_finish(held.as_fd()) && glance.prints(held.as_fd()).run.is_some());
    }

    #[test]
    fn what_is_not_there_is_known_once_the_directory_is_quiet_and_what_comes_then_is_seen() {
        let directory = tempfile::tempdir().expect("a directory");
        let held = File::open(directory.path()).expect("the directory");
        let mut glance = Glance::default();
        let begun = clock::moment();
        while !glance.is_prepared() {
            assert!(clock::moment().since(begun) < 2 * COARSEST, "still not");
            glance.prepare(held.as_fd());
        }
        fs::write(directory.path().join(RUN), "").expect("written");
        assert!(glance.prints(held.as_fd()).run.is_some());
    }

    #[test]
    fn a_time_of_whole_seconds_is_trusted_only_once_it_is_long_ago() {
        let directory = tempfile::tempdir().expect("a directory");
        let held = File::open(directory.path()).expect("the directory");
        let now = clock::wall();
        let settled = |ago, nanos| is_settled(held.as_fd(), Wall { seconds: now.seconds - ago, nanos });
        assert_eq!([settled(1, 0), settled(3, 0), settled(-1, 5), settled(3, 5)], [false, true, false, true]);
    }

    #[test]
    fn a_directory_that_changed_just_now_is_asked_for_everything() {
        let directory = tempfile::tempdir().expect("a directory");
        let held = File::open(directory.path()).expect("the directory");
        let mut glance = Glance::default();
        let _ = glance.prints(held.as_fd());
        assert_eq!((glance.settled, glance.absent), (false, 0));
    }
}
