//! One module's home: its status directory and the `supervise/` view, through held descriptors.
//!
//! The lock, the FIFOs and their links, the records, each replaced in one rename. The only place that knows these
//! names. Must never decide, and never retry but for the lock.

mod channel;
mod damage;
pub(in crate::unix) mod files;
mod good;
mod handed;
mod log;
mod place;
mod root;
mod view;
mod word;

use std::hash::{DefaultHasher, Hasher};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{AtFlags, Gid, statat, unlinkat};

pub use self::channel::Channel;
pub use self::damage::{Damage, Homes, Part};
pub use self::files::lock_holder;
use self::files::{LOCK_PATIENCE, delegate, discard, fifo, lock, replace, same_fifo, stands};
pub use self::good::good;
pub use self::handed::Numbers;
pub use self::log::{Level, log, open_logs};
pub use self::place::Place;
pub use self::root::{
    Root, is_logged, left, publish_group, publish_state, remove, remove_spools, unpublish_group, unpublish_state,
};
use self::view::{Beside, View, is_shared_with_another};
pub use self::word::Word;
use crate::pure::exit::Pid;
use crate::pure::name::ModuleName;
use crate::pure::status::{LENGTH, Status};

/// The names of the files of a status directory and of a `supervise/` directory.
pub mod file {
    /// Held with an exclusive `flock` as long as the module is supervised.
    pub const LOCK: &str = "lock";
    /// The FIFO of letters.
    pub const SVCONTROL: &str = "svcontrol";
    /// The same FIFO for clients of daemontools and runit.
    pub const CONTROL: &str = "control";
    /// The same FIFO, opened to ask whether anybody listens.
    pub const OK: &str = "ok";
    /// The FIFO that carries what the program says to its logger.
    pub const OUTPUT: &str = "output";
    /// The FIFO that carries what the program says to the tree's logger.
    pub const SAID: &str = ".said";
    /// 20 bytes.
    pub const STATUS: &str = "status";
    /// Everything.
    pub const STATE: &str = "state.json";
    /// What a child writes just before it becomes the program, for a successor of an svtree that died in between.
    pub const SPAWNED: &str = ".spawned";
    /// The FIFO on which a program says that it is ready.
    pub const READY: &str = ".ready";
    /// The socket on which programs speak the protocol of `sd_notify(3)`.
    pub const NOTIFY: &str = ".notify";
    /// Where what the program says goes, for the tree's logger.
    pub const ROUTE: &str = ".route";
    /// What the program said last before each of its deaths.
    pub const LAST_LINES: &str = ".last-lines";
    /// What is in force while its files are rejected, for the next svtree; 0600, since it may hold secrets.
    pub const GOOD: &str = ".good";
    /// In the place of a group: what it asks for and how it is. No module's name begins with a dot.
    pub const GROUP: &str = ".group.json";
    /// In the home of that logger: the FIFO in which it is told of modules.
    pub const NUDGE: &str = "nudge";
    /// In the status root: what that logger has taken and may not have written yet.
    pub const SPOOLS: &str = ".spools";
    /// What supervise did.
    pub const LOG: &str = "supervise.log";
    /// Warnings and failures.
    pub const LOG_WF: &str = "supervise.log.wf";
    /// The directory for clients of daemontools and runit in a service directory.
    pub const SUPERVISE: &str = "supervise";
    /// In it: the pid in decimal.
    pub const PID: &str = "pid";
    /// In it: `run`, `down` or `finish`.
    pub const STAT: &str = "stat";
    /// In a service directory: the directory of its logger, which is the module of that name in it.
    pub const LOGGER: &str = "log";
    /// In a service directory: not started when svtree starts.
    pub const DOWN: &str = "down";
    /// In the status root: held by svscan, its pid inside.
    pub const ROOT_LOCK: &str = ".lock";
    /// In the status root: what became of the last upgrade.
    pub const UPGRADE: &str = ".upgrade";
}

/// No record that is longer is one of ours, in bytes.
const MOST: usize = 1 << 20;

/// Why a home could not be opened.
#[derive(Debug)]
pub enum NotOpened {
    /// Somebody has the lock, by this pid if that can be told.
    Locked(PathBuf, Option<Pid>),
    /// A call failed.
    Failed(PathBuf, io::Error),
}

impl std::fmt::Display for NotOpened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            NotOpened::Locked(path, Some(pid)) => write!(f, "{}: held by pid {pid}", path.display()),
            NotOpened::Locked(path, None) => write!(f, "{}: held by another process", path.display()),
            NotOpened::Failed(path, error) => write!(f, "{}: {}", path.display(), super::report::plain(error)),
        }
    }
}

/// Every file of a status directory.
const OWN: [&str; 18] = [
    file::GROUP,
    file::STATE,
    file::STATUS,
    file::SPAWNED,
    file::ROUTE,
    file::SAID,
    file::LAST_LINES,
    file::GOOD,
    file::NUDGE,
    file::READY,
    file::NOTIFY,
    file::LOG,
    file::LOG_WF,
    file::CONTROL,
    file::OK,
    file::OUTPUT,
    file::SVCONTROL,
    file::LOCK,
];

/// A module's home, open and locked.
#[derive(Debug)]
pub struct Home {
    path: PathBuf,
    directory: OwnedFd,
    lock: OwnedFd,
    svcontrol: OwnedFd,
    service: OwnedFd,
    view: Option<View>,
    /// The group that may write the FIFOs; `None`: nobody but their owner.
    delegated: Option<Gid>,
    /// The FIFO to its logger, or from the module that it is the logger of.
    channel: Option<Box<Channel>>,
    /// The FIFO to the tree's logger.
    said: Option<Box<Channel>>,
    /// Nobody has left anything in it yet.
    is_new: bool,
    /// The view is in the same directory, and `status` is the view's.
    merged: bool,
    /// What `status` says, and
    published: Option<[u8; LENGTH]>,
    /// a hash of what `state.json` says; `None` while it may say anything.
    published_state: Option<u64>,
}

impl Home {
    /// Opens the home of a module, and takes its lock. `service` is its directory, held; a `view` is made in it if it is
    /// asked for.
    ///
    /// # Errors
    /// The lock is held, or something cannot be made; what stood there before is as it was.
    pub fn open(place: &Place, service: OwnedFd, view: bool) -> Result<Home, NotOpened> {
        let path = place.path();
        let failed = |error: io::Error| NotOpened::Failed(path.clone(), error);
        let (directory, is_new) = place.open(service.as_fd()).map_err(failed)?;
        let take = || lock(directory.as_fd(), Path::new(file::LOCK), &path, LOCK_PATIENCE);
        let mut lock = take()?;
        if is_shared_with_another(service.as_fd(), lock.as_fd(), 1, &[file::LOCK]) {
            // Held until the new one is.
            discard(directory.as_fd(), Path::new(file::LOCK)).map_err(failed)?;
            lock = take()?;
        }
        let mut svcontrol = fifo(directory.as_fd(), Path::new(file::SVCONTROL)).map_err(failed)?;
        if is_shared_with_another(service.as_fd(), svcontrol.as_fd(), 3, &[file::CONTROL, file::OK]) {
            discard(directory.as_fd(), Path::new(file::SVCONTROL)).map_err(failed)?;
            svcontrol = fifo(directory.as_fd(), Path::new(file::SVCONTROL)).map_err(failed)?;
        }
        for link in [file::CONTROL, file::OK] {
            same_fifo(directory.as_fd(), Path::new(link), Path::new(file::SVCONTROL)).map_err(failed)?;
        }
        let view = match view {
            true => {
                let (lock, svcontrol) = (lock.as_fd(), svcontrol.as_fd());
                let beside = Beside { path: &path, directory: directory.as_fd(), lock, svcontrol };
                View::open(service.as_fd(), beside)?
            }
            false => None,
        };
        let merged = matches!(place, Place::Service(_));
        let home = Home {
            path,
            directory,
            lock,
            svcontrol,
            service,
            view,
            is_new,
            merged,
            delegated: None,
            channel: None,
            said: None,
            published: None,
            published_state: None,
        };
        // There from the start, so that it can be followed; one that cannot be made is missed by nobody else. The other
        // one has a line soon.
        let _ = log::make(home.directory.as_fd(), file::LOG_WF);
        Ok(home)
    }

    /// From now on what is in it may be anybody's, and is looked for.
    pub fn is_in_use(&mut self) {
        self.is_new = false;
    }

    /// The FIFOs that letters come through.
    pub fn controls(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        std::iter::once(self.svcontrol.as_fd())
            .chain(self.view.as_ref().and_then(|view| view.control.as_ref()).map(AsFd::as_fd))
    }

    /// Lets a group write the FIFOs, or nobody but their owner.
    ///
    /// # Errors
    /// It is not to be had; they are as they were.
    pub fn delegate(&mut self, group: Option<u32>) -> io::Result<()> {
        let group = group.map(Gid::from_raw);
        if self.delegated != group {
            self.controls().try_for_each(|fifo| delegate(fifo, group))?;
            self.delegated = group;
        }
        Ok(())
    }

    /// The service directory.
    #[must_use]
    pub fn service(&self) -> BorrowedFd<'_> {
        self.service.as_fd()
    }

    /// Where it is, for messages.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The `state.json` that a predecessor left, if there is one.
    #[must_use]
    pub fn recorded(&self) -> Option<Vec<u8>> {
        self.read(file::STATE)
    }

    /// The mark of the child that was spawned last, whoever spawned it.
    #[must_use]
    pub fn spawned(&self) -> Option<Vec<u8>> {
        self.read(file::SPAWNED)
    }

    fn read(&self, name: &str) -> Option<Vec<u8>> {
        if self.is_new {
            return None;
        }
        files::read(self.directory.as_fd(), Path::new(name), MOST).ok()
    }

    /// The status directory, in which a child leaves its mark.
    #[must_use]
    pub fn directory(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }

    /// The FIFO to its logger, or from the module that it is the logger of, if there is one.
    #[must_use]
    pub fn channel(&self) -> Option<&Channel> {
        self.channel.as_deref()
    }

    /// The same, to be given to somebody.
    pub fn channel_mut(&mut self) -> Option<&mut Channel> {
        self.channel.as_deref_mut()
    }

    /// Opens the FIFO for what `module` says: this one, or the one that it is the logger of; nothing if it is open.
    ///
    /// # Errors
    /// It cannot be made or opened.
    pub fn open_channel(&mut self, root: &Path, module: ModuleName) -> Result<(), NotOpened> {
        if self.channel.is_none() {
            self.channel = Some(Box::new(Channel::open(root, module, file::OUTPUT)?));
        }
        Ok(())
    }

    /// The FIFO to the tree's logger, if there is one.
    #[must_use]
    pub fn said(&self) -> Option<&Channel> {
        self.said.as_deref()
    }

    /// The same, to be given to somebody.
    pub fn said_mut(&mut self) -> Option<&mut Channel> {
        self.said.as_deref_mut()
    }

    /// Opens the FIFO to the tree's logger; nothing if it is open.
    ///
    /// # Errors
    /// It cannot be made or opened.
    pub fn open_said(&mut self, root: &Path, module: ModuleName) -> Result<(), NotOpened> {
        if self.said.is_none() {
            self.said = Some(Box::new(Channel::open(root, module, file::SAID)?));
        }
        Ok(())
    }

    /// Lets go of it, and removes it: the logger reads what it holds.
    pub fn remove_said(&mut self) {
        if self.said.take().is_some() {
            // What cannot be removed is removed with the rest.
            let _ = unlinkat(&self.directory, file::SAID, AtFlags::empty());
        }
    }

    /// Lets go of the writing end of its FIFO: whoever reads it is told when its last writer is gone.
    pub fn close_channel(&mut self) {
        self.channel.take_if(|channel| channel.only_read().is_err());
    }

    /// Lets go of its FIFO, and removes it.
    pub fn remove_channel(&mut self) {
        if self.channel.take().is_some() {
            // What cannot be removed is removed with the rest.
            let _ = unlinkat(&self.directory, file::OUTPUT, AtFlags::empty());
        }
    }

    /// What the tree's logger has kept of what the program said before its deaths, if it has.
    #[must_use]
    pub fn last_lines(&self) -> Option<Vec<u8>> {
        self.read(file::LAST_LINES)
    }

    /// Says where what the program says goes.
    ///
    /// # Errors
    /// It says what it did.
    pub fn write_route(&self, route: &[u8]) -> io::Result<()> {
        replace(self.directory.as_fd(), Path::new(file::ROUTE), route)
    }

    /// Whether a file or directory of this name is in it.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        !self.is_new && statat(&self.directory, name, AtFlags::SYMLINK_NOFOLLOW).is_ok()
    }

    /// Replaces the records: `status` first, then the view, then `state.json`.
    ///
    /// # Errors
    /// A record of the status directory could not be replaced; it stands as it was.
    pub fn publish(&mut self, status: &Status, state: &[u8]) -> Result<(), NotOpened> {
        let bytes = status.to_original();
        let mut result = Ok(());
        if !self.merged && self.published != Some(bytes) {
            result = self.replace(file::STATUS, &bytes);
            self.published = result.is_ok().then_some(bytes);
        }
        // One that cannot be replaced keeps no other from being true.
        if let Some(view) = &mut self.view {
            let shown = view
                .publish(self.service.as_fd(), status)
                .map_err(|(name, error)| NotOpened::Failed(Path::new(file::SUPERVISE).join(name), error));
            result = result.and(shown);
        }
        // Last: who sees it say so finds the others in order.
        let replaced = self.replace(file::STATE, state);
        self.published_state = replaced.is_ok().then(|| hash(state));
        result.and(replaced)
    }

    /// Writes what stays in the view, and nothing else.
    pub fn publish_last(&mut self, status: &Status) {
        if let Some(view) = &mut self.view {
            view.publish_last(self.service.as_fd(), status);
        }
    }

    /// Puts right what others removed, replaced or overwrote, without letting go of anything that is whole; says whether
    /// there was anything. The records are to be published then. Letters that wait in a FIFO that is replaced are to be
    /// read before.
    ///
    /// # Errors
    /// Something cannot be put right now; the rest has been.
    pub fn heal(&mut self, place: &Place) -> Result<bool, NotOpened> {
        let home = self.heal_home(place);
        let beside = Beside {
            path: &self.path,
            directory: self.directory.as_fd(),
            lock: self.lock.as_fd(),
            svcontrol: self.svcontrol.as_fd(),
        };
        let view = match &mut self.view {
            Some(view) => view.heal(self.service.as_fd(), beside),
            None => Ok(false),
        };
        let reads = |channel: &Channel| matches!(place, Place::Tree(_, name) if channel.module() != name);
        let channel = self.channel.as_mut().map_or(Ok(false), |channel| channel.heal(place.root(), reads(channel)));
        let said = self.said.as_mut().map_or(Ok(false), |said| said.heal(place.root(), false));
        let healed = home? | view? | channel? | said?;
        if healed {
            // One that was made anew is its owner's alone.
            let _ = self.controls().try_for_each(|fifo| delegate(fifo, self.delegated));
            let _ = log::make(self.directory.as_fd(), file::LOG_WF);
        }
        Ok(healed)
    }

    fn heal_home(&mut self, place: &Place) -> Result<bool, NotOpened> {
        let path = self.path.clone();
        let failed = |error: io::Error| NotOpened::Failed(path.clone(), error);
        let mut healed = false;
        if !place.holds(self.service.as_fd(), self.directory.as_fd()) {
            self.directory = place.open(self.service.as_fd()).map_err(failed)?.0;
            (self.published, self.published_state) = (None, None);
            healed = true;
        }
        let directory = self.directory.as_fd();
        let mut locked = Ok(());
        if !stands(directory, Path::new(file::LOCK), self.lock.as_fd()) {
            // Without patience: the module does not wait for whoever has it meanwhile, and the rest neither.
            match lock(directory, Path::new(file::LOCK), &path, Duration::ZERO) {
                Ok(lock) => self.lock = lock,
                Err(error) => locked = Err(error),
            }
            healed = true;
        }
        if !stands(directory, Path::new(file::SVCONTROL), self.svcontrol.as_fd()) {
            self.svcontrol = fifo(directory, Path::new(file::SVCONTROL)).map_err(failed)?;
            healed = true;
        }
        for link in [file::CONTROL, file::OK] {
            healed |= !stands(directory, Path::new(link), self.svcontrol.as_fd());
            same_fifo(directory, Path::new(link), Path::new(file::SVCONTROL)).map_err(failed)?;
        }
        // What has not been published is behind, not damaged.
        let says = |name: &str, most: usize, expected: &dyn Fn(&[u8]) -> bool| {
            files::says(directory, Path::new(name), most, expected)
        };
        if self.published.is_some_and(|bytes| !says(file::STATUS, LENGTH, &|found| found == bytes)) {
            self.published = None;
            healed = true;
        }
        if self.published_state.is_some_and(|said| !says(file::STATE, MOST, &|found| hash(found) == said)) {
            self.published_state = None;
            healed = true;
        }
        locked.map(|()| healed)
    }

    /// Whether a record is behind what was to be published last: it could not be written.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        let published = self.merged || self.published.is_some();
        !published || self.published_state.is_none() || self.view.as_ref().is_some_and(View::is_behind)
    }

    /// Removes what is in the status directory, under its lock, and the directory itself if nothing else is in it; says
    /// whether that is gone.
    #[must_use]
    pub fn remove(mut self, place: &Place) -> bool {
        // Whoever sees the status directory gone finds no reader in the service directory either.
        self.view = None;
        let channel = self.channel.take();
        self.said = None;
        // What it said last is read yet: its logger removes that, and may have to start again with it.
        let goes = |own: &str| own != file::OUTPUT || !self.has(file::LOGGER);
        let there = files::which(&self.directory, &OWN);
        for (own, _) in OWN.iter().zip(there).filter(|(own, there)| *there && goes(own)) {
            let _ = unlinkat(&self.directory, *own, AtFlags::empty());
        }
        let Place::Tree(root, name) = place else { return false };
        if let Some(channel) = channel.filter(|channel| channel.module() != name) {
            channel.remove_without_module(root);
        }
        root::remove_empty(root, name.clone())
    }

    fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), NotOpened> {
        replace(self.directory.as_fd(), Path::new(name), bytes)
            .map_err(|error| NotOpened::Failed(self.path.join(name), error))
    }

    /// Appends a line to `supervise.log`, and to `supervise.log.wf` if it is a warning or worse.
    pub fn log(&self, lines: &[(Level, String)]) {
        log(self.directory.as_fd(), lines);
    }
}

/// Tells one `state.json` from another: the bytes themselves would be kept for every module.
fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::files::DIRECTORY;
    use super::*;
    use rustix::fs::{Mode, openat};

    /// A home with a view, and what has been published in it.
    struct Fixture {
        directory: tempfile::TempDir,
        place: Place,
        home: Home,
    }

    impl Fixture {
        fn new() -> Fixture {
            let directory = tempfile::tempdir().expect("a directory");
            let service = directory.path().join("web");
            std::fs::create_dir(&service).expect("made");
            std::fs::write(service.join("run"), "").expect("written");
            let service = openat(rustix::fs::CWD, &service, DIRECTORY, Mode::empty()).expect("opened");
            let name = ModuleName::new(b"web").expect("a name");
            let root = directory.path().join("status");
            std::fs::create_dir(&root).expect("made");
            let place = Place::Tree(root, name);
            let home = Home::open(&place, service, true).expect("a home");
            let mut fixture = Fixture { directory, place, home };
            fixture.publish();
            fixture
        }

        fn publish(&mut self) {
            let status = Status::from_original(b"@\0\0\0\0\0\0\x0a\0\0\0\0\0dx\0\0\0\0\0").expect("a status");
            self.home.publish(&status, b"{}\n").expect("published");
        }

        fn heal(&mut self) -> bool {
            let healed = self.home.heal(&self.place).expect("healed");
            self.publish();
            healed
        }
    }

    #[test]
    fn a_home_that_is_whole_is_left_as_it_is() {
        let mut fixture = Fixture::new();
        assert!(!fixture.heal() && !fixture.home.is_behind());
    }

    #[test]
    fn every_file_that_is_damaged_is_whole_after_one_look() {
        let damages: [fn(&Path); 4] = [
            |file| std::fs::remove_file(file).expect("removed"),
            |file| std::fs::rename(file, file.with_extension("away")).expect("moved"),
            |file| {
                std::fs::remove_file(file).expect("removed");
                std::fs::write(file, "another").expect("written");
            },
            |file| {
                std::fs::remove_file(file).expect("removed");
                std::fs::create_dir_all(file.join("within")).expect("made");
            },
        ];
        let home = [file::LOCK, file::SVCONTROL, file::CONTROL, file::OK, file::STATUS, file::STATE];
        let view = [file::LOCK, file::CONTROL, file::OK, file::STATUS, file::PID, file::STAT];
        let home = home.iter().map(|name| Path::new("status/web").join(name));
        for file in home.chain(view.iter().map(|name| Path::new("web/supervise").join(name))) {
            for (number, damage) in damages.iter().enumerate() {
                let mut fixture = Fixture::new();
                damage(&fixture.directory.path().join(&file));
                assert!(fixture.heal(), "{}, damage {number}", file.display());
                assert!(!fixture.heal(), "{}, damage {number}: whole", file.display());
            }
        }
    }

    #[test]
    fn a_record_that_waits_where_a_file_should_be_holds_up_nobody() {
        let fixture = Fixture::new();
        let state = fixture.directory.path().join("status/web/state.json");
        std::fs::remove_file(&state).expect("removed");
        rustix::fs::mkfifoat(rustix::fs::CWD, &state, Mode::RWXU).expect("made");
        assert_eq!(fixture.home.recorded(), None);
    }
}
