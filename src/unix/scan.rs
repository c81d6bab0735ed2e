//! Reads service directories: what an entry is, what it asks for, and when it changed last.
//!
//! Must never compare with what runs, and never write.

use std::ffi::OsString;
use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, Dir, FileType, Mode, OFlags, Stat, accessat, fstat, openat, statat};
use rustix::io::Errno;

use super::home::file;
use super::prints::{self, FINISH, Print, Prints, RUN, SERVICE, id};
use super::report::plain;
use super::share::shared;
use crate::pure::config::{self, GroupPolicy, Mistake, Policy, Program};
use crate::pure::family;
use crate::pure::name::{ModuleName, printable};
use crate::pure::reconcile::Id;
use crate::pure::time::Wall;

/// The names of the files that are looked for in a service directory; a change of others is of no interest.
pub const FILES: [&str; 12] = {
    let [a, b, c, d, e] = &family::FILES;
    let check = family::CHECK;
    [RUN, SERVICE, GROUP, file::DOWN, FINISH, file::LOGGER, a.name, b.name, c.name, d.name, e.name, check]
};

/// What makes a directory a group.
pub const GROUP: &str = "group.toml";

/// Why a directory with nothing but such a `run` is no module.
const NOT_EXECUTABLE: &str = "run is not executable";

/// Groups in groups are followed this deep; more is a loop of links.
const DEEPEST: usize = 16;

/// A `service.toml` of more bytes than this is a mistake.
const LONGEST_FILE: u64 = 1 << 20;

/// A `run` of more bytes than this is a program, and known by its print alone.
const LONGEST_SCRIPT: u64 = 64 << 10;

/// A directory that is, or will be, a module.
#[derive(Debug)]
pub struct Module {
    /// Which directory.
    pub id: Id,
    /// Its files.
    pub prints: Prints,
    /// What runs once its program has ended.
    pub finish: Option<Print>,
    /// When anything of it was changed last.
    pub changed: Wall,
    /// Whether it stands under this name by a symbolic link.
    pub linked: bool,
    /// Whether there is no file `down`.
    pub normally_up: bool,
    /// Who else than svtree's user can write what is executed, if anybody can.
    pub exposed: Option<String>,
    /// What stands in the place of its logger.
    pub logger: Logger,
    /// Whether that is one.
    pub logged: bool,
    /// Whether it stands in the place of another one's logger itself.
    pub is_logger: bool,
}

/// What stands in the place of a module's logger: the directory `log` in its own.
#[derive(Debug)]
pub enum Logger {
    /// Nothing, or no directory.
    None,
    /// A directory without an executable `run`, and when anything of it was changed last.
    Unfinished(Id, Wall),
    /// The logger, a module in all but its place.
    Module(Box<Module>),
}

impl Logger {
    fn changed(&self) -> Wall {
        match self {
            Logger::None => Wall::default(),
            Logger::Unfinished(_, changed) => *changed,
            Logger::Module(module) => module.changed,
        }
    }
}

/// What an entry of a services directory is.
#[derive(Debug)]
pub enum Entry {
    /// It holds an executable `run` or a `service.toml`.
    Module(Box<Module>),
    /// It holds a `group.toml`; the names in it, and the mistakes in its file.
    Group {
        /// Which one.
        id: Id,
        /// The entries of the directory.
        members: Vec<OsString>,
        /// What it asks for, or what is wrong with `group.toml`.
        policy: Result<GroupPolicy, String>,
        /// Held, so that its members are looked for in it wherever it goes.
        held: OwnedFd,
    },
    /// A directory that is neither yet, and why.
    Incomplete(Id, &'static str),
    /// A directory that cannot be either, and why.
    Rejected(Id, &'static str),
    /// Nothing to be looked at: no directory, or gone.
    Nothing,
}

/// The names in a services directory or group that are looked at.
///
/// # Errors
/// It cannot be read.
pub fn names(directory: &Path) -> io::Result<(Id, Vec<OsString>)> {
    let held = openat(rustix::fs::CWD, directory, OPEN, Mode::empty())?;
    let id = id(&fstat(&held)?);
    Ok((id, names_of(&held)?))
}

const OPEN: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// How a directory is opened that is only looked into: with nothing that a watch on it or on its parent would tell of,
/// since our own look would wake us.
#[cfg(target_os = "linux")]
const HOLD: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
#[cfg(not(target_os = "linux"))]
const HOLD: OFlags = OPEN;

fn names_of(directory: &OwnedFd) -> io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        let may_be_directory = matches!(entry.file_type(), FileType::Directory | FileType::Symlink | FileType::Unknown);
        if may_be_directory && !name.starts_with(b".") {
            names.push(std::ffi::OsStr::from_bytes(name).to_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// Looks at the directory `path`, an entry of a services directory or of a group.
///
/// # Errors
/// It is there and cannot be looked at: nothing is known of it.
pub fn look(path: &Path) -> io::Result<Entry> {
    look_in(rustix::fs::CWD, path)
}

fn look_in(at: BorrowedFd<'_>, path: &Path) -> io::Result<Entry> {
    look_into(at, path, false)
}

/// What stands in the place of a logger. A link in its place is no more than that: it comes with its module.
fn logger(service: BorrowedFd<'_>) -> io::Result<Logger> {
    let changed = match statat(service, file::LOGGER, AtFlags::empty()) {
        Ok(stat) => prints::modified(&stat),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(Logger::None),
        Err(errno) => return Err(errno.into()),
    };
    Ok(match look_into(service, Path::new(file::LOGGER), true)? {
        Entry::Module(module) if module.prints.run.is_some() => Logger::Module(module),
        Entry::Module(module) => Logger::Unfinished(module.id, changed),
        Entry::Group { id, .. } | Entry::Incomplete(id, _) | Entry::Rejected(id, _) => Logger::Unfinished(id, changed),
        Entry::Nothing => Logger::None,
    })
}

fn look_into(at: BorrowedFd<'_>, path: &Path, is_logger: bool) -> io::Result<Entry> {
    let directory = match openat(at, path, HOLD, Mode::empty()) {
        Ok(directory) => directory,
        // Gone, no directory, a dangling link, a loop of links.
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(Entry::Nothing),
        Err(errno) => return Err(errno.into()),
    };
    let stat = fstat(&directory)?;
    let there = |name: &str| match statat(&directory, name, AtFlags::empty()) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
        Err(errno) => Err(io::Error::from(errno)),
    };
    let (run, service, group) = (there(RUN)?, there(SERVICE)?, there(GROUP)?);
    if group.is_some() {
        if run.is_some() || service.is_some() {
            return Ok(Entry::Rejected(id(&stat), "group.toml stands beside run or service.toml: remove one of them"));
        }
        let policy = read(&directory, GROUP).and_then(|text| config::group(&text).map_err(|all| first(GROUP, &all)));
        let members = names_of(&openat(&directory, c".", OPEN, Mode::empty())?)?;
        return Ok(Entry::Group { id: id(&stat), members, policy, held: directory });
    }
    let executable = |stat: &Stat| {
        FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
            && stat.st_mode & 0o111 != 0
            && accessat(&directory, RUN, Access::EXEC_OK, AtFlags::EACCESS).is_ok()
    };
    match (&run, &service) {
        (None, None) => return Ok(Entry::Incomplete(id(&stat), "it holds no run and no service.toml")),
        (Some(run), None) if !executable(run) => return Ok(Entry::Incomplete(id(&stat), NOT_EXECUTABLE)),
        (Some(_), _) | (None, Some(_)) => {}
    }
    let finish = there(FINISH)?;
    let owned = [(".", Some(&stat)), (RUN, run.as_ref()), (SERVICE, service.as_ref()), (FINISH, finish.as_ref())];
    let exposed = owned.iter().find_map(|(name, stat)| exposed(name, (*stat)?));
    let prints = Prints::read_with(directory.as_fd(), run.as_ref(), service.as_ref());
    // A logger has none.
    let logger = if is_logger { Logger::None } else { logger(directory.as_fd())? };
    Ok(Entry::Module(Box::new(Module {
        id: id(&stat),
        prints,
        finish: finish.as_ref().map(Print::of),
        changed: prints.changed().max(prints::modified(&stat)).max(logger.changed()),
        linked: statat(at, path, AtFlags::SYMLINK_NOFOLLOW)
            .is_ok_and(|entry| FileType::from_raw_mode(entry.st_mode) == FileType::Symlink),
        normally_up: there(file::DOWN)?.is_none(),
        exposed,
        logged: matches!(logger, Logger::Module(_)),
        logger,
        is_logger,
    })))
}

/// Whoever can write a service directory or a script in it can do what svtree's user can; says so if that is somebody
/// else than root and that user.
fn exposed(name: &str, stat: &Stat) -> Option<String> {
    let what = if name == "." { "the directory" } else { name };
    let own = rustix::process::geteuid().as_raw();
    if stat.st_uid != 0 && stat.st_uid != own {
        return Some(format!("{what} belongs to uid {}, who can do by it what svtree's user can", stat.st_uid));
    }
    let whom = match (stat.st_mode & 0o020 != 0, stat.st_mode & 0o002 != 0) {
        (_, true) => "everybody",
        (true, false) => "its group",
        (false, false) => return None,
    };
    Some(format!("{what} can be written by {whom}, who can do by it what svtree's user can"))
}

/// The same of the services directory itself.
#[must_use]
pub fn exposed_directory(path: &Path) -> Option<String> {
    let stat = statat(rustix::fs::CWD, path, AtFlags::empty()).ok()?;
    exposed(".", &stat)
}

fn read(directory: &OwnedFd, name: &str) -> Result<String, String> {
    String::from_utf8(bytes(directory, name)?).map_err(|error| {
        let good = error.utf8_error().valid_up_to();
        let line = error.as_bytes()[..good].iter().filter(|byte| **byte == b'\n').count() + 1;
        format!("{name}: line {line}: not UTF-8")
    })
}

fn bytes(directory: &OwnedFd, name: &str) -> Result<Vec<u8>, String> {
    contents(directory.as_fd(), Path::new(name)).map_err(|error| format!("{name}: {}", plain(&error)))
}

/// What stands in a file that people write.
///
/// # Errors
/// It is no file, is longer than such files are, or cannot be read.
pub fn contents(directory: BorrowedFd<'_>, name: &Path) -> io::Result<Vec<u8>> {
    let file = File::from(openat(directory, name, OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK, Mode::empty())?);
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("not a file"));
    }
    let mut bytes = Vec::new();
    if file.take(LONGEST_FILE + 1).read_to_end(&mut bytes)? as u64 > LONGEST_FILE {
        return Err(io::Error::other("longer than 1 MiB"));
    }
    Ok(bytes)
}

fn first(name: &str, mistakes: &[Mistake]) -> String {
    match mistakes {
        [] => name.to_owned(),
        [only] => format!("{name}: {only}"),
        [first, rest @ ..] => format!("{name}: {first} (and {} more)", rest.len()),
    }
}

/// Opens a directory, if it is still the one that was looked at.
///
/// # Errors
/// What is wrong, in words.
pub fn open(path: &Path, id: Id) -> Result<OwnedFd, String> {
    let failed = |errno: Errno| plain(&errno.into());
    let directory = openat(rustix::fs::CWD, path, HOLD, Mode::empty()).map_err(failed)?;
    let found = prints::id(&fstat(&directory).map_err(failed)?);
    if found == id.instance(0) { Ok(directory) } else { Err("its directory was replaced".to_owned()) }
}

/// Reads what a module asks for over what is asked of it elsewhere; `path` is its directory.
///
/// # Errors
/// The first mistake of its files, with its place, in one line.
pub fn policy(path: &Path, module: &Module, elsewhere: Policy) -> Result<Policy, String> {
    mistakes(path, module, elsewhere).map_err(|mistakes| in_one_line(&mistakes))
}

/// The first of many mistakes.
#[must_use]
pub fn in_one_line(mistakes: &[String]) -> String {
    match mistakes {
        [first, rest @ ..] if !rest.is_empty() => format!("{first} (and {} more)", rest.len()),
        all => all.concat(),
    }
}

/// A digest of the `run` in the directory `path`, if it is still the file of this print and no more than a script.
#[must_use]
pub fn digest_of_run(path: &Path, print: Option<Print>) -> Option<u64> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = File::from(openat(rustix::fs::CWD, path.join(RUN), flags, Mode::empty()).ok()?);
    let stat = fstat(&file).ok()?;
    let is_script = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
        && u64::try_from(stat.st_size).is_ok_and(|size| size <= LONGEST_SCRIPT);
    if !is_script || print != Some(Print::of(&stat)) {
        return None;
    }
    let mut bytes = Vec::with_capacity(usize::try_from(stat.st_size).ok()? + 1);
    file.take(LONGEST_SCRIPT).read_to_end(&mut bytes).ok()?;
    let mut digest = DefaultHasher::new();
    (stat.st_mode, bytes).hash(&mut digest);
    Some(digest.finish())
}

/// As [`policy`], with every mistake.
///
/// # Errors
/// One line for each.
pub fn mistakes(path: &Path, module: &Module, elsewhere: Policy) -> Result<Policy, Vec<String>> {
    let mut policy = elsewhere;
    let Prints { run, service, small } = module.prints;
    if service.is_none() && small.is_none() {
        return Ok(policy);
    }
    let directory = open(path, module.id).map_err(|error| vec![error])?;
    let mut wrong = Vec::new();
    for file in &family::FILES {
        let there = small.is_some() && statat(&directory, file.name, AtFlags::empty()).is_ok();
        if there && let Err(why) = bytes(&directory, file.name).and_then(|bytes| file.read(&bytes, &mut policy)) {
            wrong.push(why);
        }
    }
    let is_file = |stat: Stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
    if small.is_some()
        && statat(&directory, family::CHECK, AtFlags::empty()).is_ok_and(is_file)
        && prints::is_executable(directory.as_fd(), family::CHECK.as_bytes())
    {
        family::has_check(&mut policy);
    }
    if service.is_some() {
        match read(&directory, SERVICE).map(|text| config::service_over(&text, &mut policy)) {
            Err(error) => wrong.push(error),
            Ok(Err(mistakes)) => wrong.extend(mistakes.iter().map(|mistake| format!("{SERVICE}: {mistake}"))),
            Ok(Ok(())) if policy.program == Program::Run && run.is_none() => {
                wrong.push(format!("{SERVICE}: no command, and there is no run beside it"));
            }
            Ok(Ok(())) => wrong.extend(not_several(path, module, &policy)),
        }
    }
    if wrong.is_empty() { Ok(policy) } else { Err(wrong) }
}

/// Why a directory cannot stand for as many modules as it asks for.
fn not_several(path: &Path, module: &Module, policy: &Policy) -> Option<String> {
    let count = policy.instances?;
    if module.is_logger {
        return Some(format!("{SERVICE}: instances: a logger has as many as its module"));
    }
    let name = ModuleName::new(path.file_name()?.as_bytes()).ok()?;
    let why = name.instance(count).err()?;
    Some(format!("{SERVICE}: instances: {why}: {name}@{count}"))
}

/// What one look at a part of the tree found.
#[derive(Debug, Default)]
pub struct Found {
    /// The modules, and what they are.
    pub modules: Vec<(ModuleName, PathBuf, Module)>,
    /// The groups.
    pub groups: Vec<(ModuleName, PathBuf, Id)>,
    /// What they ask for.
    pub policies: Vec<(ModuleName, GroupPolicy)>,
    /// Directories of loggers that are none.
    pub unfinished: Vec<(ModuleName, PathBuf, Id)>,
    /// What is no module yet, or cannot be one, and why.
    pub others: Vec<(ModuleName, PathBuf, Other)>,
    /// What could not be looked at, and why; everything at and below these names stays as it is.
    pub unknown: Vec<(ModuleName, String)>,
    /// Groups with a mistake; the modules below these names stay as they are.
    pub kept: Vec<ModuleName>,
}

/// A directory that is no module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Other {
    /// Which one.
    pub id: Id,
    /// Whether it has a mistake; else it may become one.
    pub rejected: bool,
    /// Whether something is wrong with it, and not merely missing: a module that stood there runs on.
    pub is_mistake: bool,
    /// Why it is none.
    pub why: String,
}

impl Found {
    /// Looks at the entry `name` of the services directory, which is `held`, and at all below it if it is a group.
    ///
    /// Nothing is looked up by a path: when the services directory is moved away in the midst of a look, its entries are
    /// still there.
    pub fn add(&mut self, services: &Services, name: ModuleName) {
        self.add_from(services.held.as_fd(), &services.path, name);
    }

    fn add_from(&mut self, at: BorrowedFd<'_>, services: &Path, name: ModuleName) {
        let path = services.join(name.as_os_str());
        let depth = name.components().count();
        match look_in(at, Path::new(path.file_name().unwrap_or_default())) {
            Err(error) => self.unknown.push((name, plain(&error))),
            Ok(Entry::Nothing) => {}
            Ok(Entry::Module(module)) => self.add_module(name, path, *module),
            Ok(Entry::Incomplete(id, why)) => {
                let is_mistake = why == NOT_EXECUTABLE;
                self.others.push((name, path, Other { id, rejected: false, is_mistake, why: why.to_owned() }));
            }
            Ok(Entry::Rejected(id, why)) => {
                self.others.push((name, path, Other { id, rejected: true, is_mistake: true, why: why.to_owned() }));
            }
            Ok(Entry::Group { id, policy: Err(why), .. }) => {
                // What ran in it goes on under the last good one.
                self.kept.push(name.clone());
                self.others.push((name, path, Other { id, rejected: true, is_mistake: true, why }));
            }
            Ok(Entry::Group { id, .. }) if depth >= DEEPEST => {
                let why = format!("more than {DEEPEST} groups in each other");
                self.others.push((name, path, Other { id, rejected: true, is_mistake: true, why }));
            }
            Ok(Entry::Group { id, members, policy: Ok(policy), held }) => {
                self.groups.push((name.clone(), path, id));
                self.policies.push((name.clone(), policy));
                for member in members {
                    if let Ok(member) = name.join(member.as_bytes()) {
                        self.add_from(held.as_fd(), services, member);
                    }
                }
            }
        }
    }

    fn add_module(&mut self, name: ModuleName, path: PathBuf, mut module: Module) {
        let (logger, below) = (name.logger(), path.join(file::LOGGER));
        match std::mem::replace(&mut module.logger, Logger::None) {
            Logger::Module(found) => {
                // It came as its module did.
                let found = Module { linked: module.linked, ..*found };
                self.modules.push((logger, below, found));
            }
            Logger::Unfinished(id, _) => self.unfinished.push((logger, below, id)),
            Logger::None => {}
        }
        self.modules.push((name, path, module));
    }

    /// Looks at every entry of the services directory; says which directory that was.
    ///
    /// # Errors
    /// The directory itself cannot be read.
    pub fn whole(services: &Path) -> io::Result<(Id, Found)> {
        let services = Services::hold(services, OPEN)?;
        let names = names_of(&services.held)?;
        let names: Vec<ModuleName> = names.iter().filter_map(|name| ModuleName::new(name.as_bytes()).ok()).collect();
        // Nothing can be started before all are seen.
        let mut found = Found::default();
        shared(&names, |names| Found::each(&services, names)).into_iter().for_each(|theirs| found.append(theirs));
        Ok((services.id, found))
    }

    fn each(services: &Services, names: &[ModuleName]) -> Found {
        let mut found = Found::default();
        names.iter().for_each(|name| found.add(services, name.clone()));
        found
    }

    fn append(&mut self, mut later: Found) {
        self.modules.append(&mut later.modules);
        self.unfinished.append(&mut later.unfinished);
        self.groups.append(&mut later.groups);
        self.policies.append(&mut later.policies);
        self.others.append(&mut later.others);
        self.unknown.append(&mut later.unknown);
        self.kept.append(&mut later.kept);
    }
}

/// A services directory, held.
#[derive(Debug)]
pub struct Services {
    path: PathBuf,
    held: OwnedFd,
    /// Which directory that is.
    pub id: Id,
}

impl Services {
    /// Holds it, to look at some of its entries.
    ///
    /// # Errors
    /// It is not there, or cannot be looked into.
    pub fn open(path: &Path) -> io::Result<Services> {
        Services::hold(path, HOLD)
    }

    fn hold(path: &Path, flags: OFlags) -> io::Result<Services> {
        let held = openat(rustix::fs::CWD, path, flags, Mode::empty())?;
        let id = id(&fstat(&held)?);
        Ok(Services { path: path.to_path_buf(), held, id })
    }
}

/// For a message: a path as it can be shown.
#[must_use]
pub fn shown(path: &Path) -> String {
    printable(path.as_os_str().as_bytes())
}
