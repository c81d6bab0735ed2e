//! What a `supervise` alone is to run: from its command line, its `supervise.conf`, or its service directory.
//!
//! Must never start it.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{CWD, Mode, OFlags, openat};

use crate::pure::alone::{Request, What, digest};
use crate::pure::config::{Finish, FinishTimeout, Policy, Program, Scope, Stop};
use crate::pure::name::ModuleName;
use crate::pure::reconcile::Id;
use crate::pure::supervise_conf::{Conf, Settings};
use crate::supervise::Loaded;
use crate::unix::home::{self, Level, Place};
use crate::unix::prints::{Prints, id};
use crate::unix::raw::Output;
use crate::unix::report::plain;
use crate::unix::scan::{self, Entry};

/// A script before a restart is waited for so long.
const SCRIPT: Duration = Duration::from_mins(1);
/// What a program left in its session is killed after this, where the program itself never is.
const LEFT: Duration = Duration::from_secs(30);

/// What is supervised, and how.
pub(super) struct Module {
    pub(super) name: ModuleName,
    pub(super) place: Place,
    /// Where its program is started.
    pub(super) service: OwnedFd,
    pub(super) path: PathBuf,
    pub(super) id: Id,
    pub(super) loaded: Arc<Loaded>,
    pub(super) output: Output<'static>,
    /// `None`: its service directory says everything.
    typed: Option<Typed>,
}

/// What a command line asked for, before any file of settings.
struct Typed {
    policy: Policy,
    conf: ConfFile,
}

/// The `supervise.conf`, as it was read last.
struct ConfFile {
    path: PathBuf,
    /// It may not be missing: somebody named it.
    named: bool,
    settings: Settings,
}

/// Where the original looks for it when it is not told.
const CONF: &str = "supervise.conf";

impl ConfFile {
    fn new(named: Option<Vec<u8>>) -> ConfFile {
        let is_named = named.is_some();
        let path = named.map_or_else(|| CONF.into(), |path| PathBuf::from(OsString::from_vec(path)));
        ConfFile { path, named: is_named, settings: Settings::default() }
    }

    /// Reads it again. What is wrong with it goes to the log in this status directory; while it cannot be read, what was
    /// read last holds.
    fn read(&mut self, module: &ModuleName, home: BorrowedFd<'_>) {
        let shown = scan::shown(&self.path);
        match scan::contents(CWD, &self.path) {
            Ok(bytes) => {
                let conf = Conf::read(&bytes);
                for warning in &conf.warnings {
                    home::log(home, &[(Level::Warning, format!("reading {shown}: {warning}"))]);
                }
                self.settings = conf.settings(module.as_bytes());
                home::log(home, &[(Level::Notice, format!("read {shown}"))]);
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound && !self.named => {}
            Err(error) => home::log(home, &[(Level::Warning, format!("reading {shown}: {}", plain(&error)))]),
        }
    }
}

impl Module {
    pub(super) fn new(request: Request) -> Result<Module, String> {
        let Request { detached, what, before_restart, conf } = request;
        let output = if detached { Output::Null } else { Output::Foreground };
        match what {
            What::Service(directory) => Module::of_service(&PathBuf::from(OsString::from_vec(directory)), output),
            What::Command { status, name, words } => {
                let status: PathBuf = Path::new(&OsString::from_vec(status)).components().collect();
                let service = open(Path::new(".")).map_err(|error| failed(Path::new("."), &error))?;
                let path = std::env::current_dir().map_err(|error| failed(Path::new("."), &error))?;
                let [device, inode] = digest(&words);
                let finish = before_restart.is_some().then_some((Finish::BeforeRestart, Some(SCRIPT)));
                let (finish, limit) = finish.unwrap_or((Finish::Always, None));
                let policy = Policy {
                    program: Program::Typed(words),
                    before_restart,
                    stop: Stop {
                        timeout: None,
                        finish,
                        finish_timeout: FinishTimeout::Own(limit),
                        left_timeout: FinishTimeout::Own(Some(LEFT)),
                        scope: Scope::Session,
                        ..Stop::default()
                    },
                    ..Policy::default()
                };
                Ok(Module {
                    name,
                    place: Place::Named(status),
                    service,
                    path,
                    id: Id::of(device, inode),
                    loaded: Arc::new(Loaded { policy: Arc::new(policy.clone()), ..Loaded::default() }),
                    output,
                    typed: Some(Typed { policy, conf: ConfFile::new(conf) }),
                })
            }
        }
    }

    /// Reads its settings again; what is wrong with them goes to the log in this status directory.
    pub(super) fn configure(&mut self, home: BorrowedFd<'_>) {
        let Some(Typed { policy, conf }) = &mut self.typed else {
            return self.read_service();
        };
        conf.read(&self.name, home);
        let mut policy = policy.clone();
        conf.settings.apply(&mut policy);
        self.loaded = Arc::new(Loaded { policy: policy.into(), ..(*self.loaded).clone() });
    }

    /// A service directory that is broken, or no module any more, keeps its last good settings.
    fn read_service(&mut self) {
        let before = &self.loaded;
        let loaded = match read(&self.path) {
            Ok(Some(Loaded { prints, mistake: Some(mistake), .. })) => {
                Loaded { prints, mistake: Some(mistake), ..(**before).clone() }
            }
            Ok(Some(loaded)) => loaded,
            Ok(None) => Loaded { prints: Prints::read(self.service.as_fd()), ..(**before).clone() },
            Err(mistake) => Loaded { mistake: Some(mistake), ..(**before).clone() },
        };
        self.loaded = Arc::new(loaded);
    }

    fn of_service(directory: &Path, output: Output<'static>) -> Result<Module, String> {
        let service = open(directory).map_err(|error| failed(directory, &error))?;
        let path = std::path::absolute(directory).map_err(|error| failed(directory, &error))?;
        let found = rustix::fs::fstat(&service).map(|stat| id(&stat));
        let real = std::fs::canonicalize(directory).unwrap_or_else(|_| path.clone());
        let name = real.file_name().map(|name| ModuleName::new(name.as_encoded_bytes()));
        let name = name.and_then(Result::ok).ok_or_else(|| format!("{}: not the name of a module", real.display()))?;
        let loaded = read(&path)?.unwrap_or_else(|| {
            // As daemontools' own: it tries every second until there is a run.
            let prints = Prints::read(service.as_fd());
            Loaded { prints, ..Loaded::default() }
        });
        Ok(Module {
            name,
            place: Place::Service(directory.to_path_buf()),
            id: found.map_err(|errno| failed(directory, &errno.into()))?,
            service,
            path,
            loaded: Arc::new(loaded),
            output,
            typed: None,
        })
    }
}

fn open(directory: &Path) -> io::Result<OwnedFd> {
    Ok(openat(CWD, directory, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

/// What a service directory asks for; `None` while it is no module.
fn read(path: &Path) -> Result<Option<Loaded>, String> {
    match scan::look(path).map_err(|error| failed(path, &error))? {
        Entry::Module(module) => {
            let (policy, mistake) = match scan::policy(path, &module, Policy::default()) {
                Ok(policy) if policy.instances.is_some() => {
                    return Err(format!(
                        "{}: service.toml: instances: svtree run starts several, this does not",
                        path.display()
                    ));
                }
                Ok(policy) => (policy, None),
                Err(mistake) => (Policy::default(), Some(mistake)),
            };
            let policy = Policy { enabled: policy.enabled && module.normally_up, ..policy };
            Ok(Some(Loaded { policy: policy.into(), prints: module.prints, mistake, ..Loaded::default() }))
        }
        Entry::Group { .. } => Err(format!("{}: a group, which svtree run runs", path.display())),
        Entry::Rejected(_, why) => Err(format!("{}: {why}", path.display())),
        Entry::Incomplete(..) | Entry::Nothing => Ok(None),
    }
}

/// What went wrong on which file.
pub(super) fn failed(path: &Path, error: &io::Error) -> String {
    format!("{}: {}", path.display(), plain(error))
}
