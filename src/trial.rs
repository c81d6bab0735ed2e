//! `svtree try`: the program of one service directory, once and in front, as a tree would run it.
//!
//! The supervise thread is that of a tree, in a home that is made for it and goes with it; the main thread collects orphans
//! and hears the terminal. Must never touch a directory of services or a status root.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, unbounded};

use crate::pure::config::Policy;
use crate::pure::exit::{How, Pid, Signal};
use crate::pure::name::ModuleName;
use crate::pure::reconcile::Id;
use crate::pure::state::State;
use crate::pure::time::human;
use crate::supervise::{self, Beginning, Loaded, Mail, Report, Reports, Task, Why};
use crate::unix::cgroup::Cgroups;
use crate::unix::client::{self, Line};
use crate::unix::controllers::Controllers;
use crate::unix::home::{Place, file};
use crate::unix::inbox::{self, Mailbox};
use crate::unix::raw::{self, Output};
use crate::unix::report::{self, plain};
use crate::unix::scan::{self, Entry};
use crate::unix::{pidfd, ward};

/// What ends it, as `d` does: what a terminal says, and what others do.
const ENDING: [Signal; 4] = [Signal::INT, Signal::TERM, Signal::HUP, Signal::QUIT];

/// A start is asked for by a letter; the FIFO of a thread that has begun has room for one.
const PATIENCE: Duration = Duration::from_secs(5);

/// How it ended.
#[derive(Debug)]
pub struct Outcome {
    /// The program's code, or 128 and the signal.
    pub code: u8,
    /// What went wrong, unless somebody asked for it.
    pub why: Option<String>,
}

/// Runs the program of this service directory to its end. To be called while there is one thread.
///
/// # Errors
/// Why it was not started.
pub fn run(directory: &Path, name: &ModuleName) -> Result<Outcome, String> {
    raw::prepare_process_in_front(&ENDING);
    let module = Tried::read(directory, name)?;
    // Where it is forbidden the orphans go to an init, and are not ended here.
    let _ = ward::become_subreaper();
    let root = nix::unistd::mkdtemp(&std::env::temp_dir().join("svtree-try-XXXXXX"))
        .map_err(|errno| format!("making a directory in {}: {}", std::env::temp_dir().display(), errno.desc()))?;
    // The program may be another user's.
    let opened = fs::set_permissions(&root, fs::Permissions::from_mode(0o711));
    let outcome = match opened {
        Ok(()) => Trial::start(module, &root).and_then(|mut trial| trial.keep()),
        Err(error) => Err(format!("{}: {}", root.display(), plain(&error))),
    };
    // Whatever of it is left holds nothing that anybody needs.
    let _ = fs::remove_dir_all(&root);
    outcome
}

/// A service directory, read.
struct Tried {
    name: ModuleName,
    path: PathBuf,
    id: Id,
    module: scan::Module,
    policy: Policy,
}

impl Tried {
    fn read(directory: &Path, name: &ModuleName) -> Result<Tried, String> {
        let failed = |error: &std::io::Error| format!("{}: {}", scan::shown(directory), plain(error));
        let path = std::path::absolute(directory).map_err(|error| failed(&error))?;
        let module = match scan::look(&path).map_err(|error| failed(&error))? {
            Entry::Module(module) => module,
            Entry::Group { .. } => return Err("a group; try one of its modules".to_owned()),
            Entry::Incomplete(_, why) => return Err(format!("incomplete: {why}")),
            Entry::Rejected(_, why) => return Err(why.to_owned()),
            Entry::Nothing => return Err(format!("{}: there is no such directory", scan::shown(directory))),
        };
        let policy = scan::policy(&path, &module, Policy::default())?;
        // It begins when it is told to, and nobody is to be woken by somebody who tries something.
        let policy = Policy { enabled: false, alarms: None, ..policy };
        // Of several the first one is tried.
        let (name, number) = match policy.instances {
            Some(_) => (name.instance(1).map_err(|why| why.to_string())?, 1),
            None => (name.clone(), 0),
        };
        Ok(Tried { name, path, id: module.id.instance(number), module: *module, policy })
    }
}

/// The main thread's part.
struct Trial {
    name: ModuleName,
    home: PathBuf,
    policy: Policy,
    program: Arc<AtomicI32>,
    mailbox: Mailbox<Mail>,
    thread: Option<raw::Thread>,
    reports: Receiver<Report>,
    cgroups: Option<Arc<Cgroups>>,
    controllers: Arc<Controllers>,
    asked: bool,
    /// What was typed first.
    signal: Option<Signal>,
    ended: Option<(How, State)>,
}

impl Trial {
    fn start(tried: Tried, root: &Path) -> Result<Trial, String> {
        let Tried { name, path, id, module, policy } = tried;
        let service = scan::open(&path, id)?;
        // As in a tree: groups of its own, by a number that no tree has.
        let number = fs::metadata(root).map(|found| format!("{}-{}", found.dev(), found.ino()));
        let number = number.map_err(|error| format!("{}: {}", root.display(), plain(&error)))?;
        let cgroups = Cgroups::open(&number).ok().map(Arc::new);
        let controllers = Arc::new(Controllers::new(&number));
        let (sender, reports) = unbounded();
        let program = Arc::<AtomicI32>::default();
        let failed = |error: std::io::Error| format!("starting a thread: {}", plain(&error));
        let (mailbox, inbox) = inbox::pair().map_err(failed)?;
        let loaded = Loaded { policy: Arc::new(policy.clone()), prints: module.prints, ..Loaded::default() };
        let task = Box::new(Task {
            word: None,
            name: name.clone(),
            path,
            id,
            loaded: Arc::new(loaded),
            view: false,
            place: Place::Tree(root.to_owned(), name.clone()),
            alone: false,
            output: Output::Inherit,
            logging: None,
            reads: None,
            settle: Duration::ZERO,
            anew: true,
            ends_all: true,
            cgroups: cgroups.clone(),
            controllers: Arc::clone(&controllers),
            program: Arc::clone(&program),
            mailbox: mailbox.clone(),
            reports: Reports::to_main(sender),
        });
        let thread = supervise::start(task, Beginning::Directory(service, None), inbox).map_err(failed)?;
        Ok(Trial {
            home: root.join(name.as_os_str()),
            name,
            policy,
            program,
            mailbox,
            thread: Some(thread),
            reports,
            cgroups,
            controllers,
            asked: false,
            signal: None,
            ended: None,
        })
    }

    /// Waits until nothing of it runs any more.
    fn keep(&mut self) -> Result<Outcome, String> {
        let waited: Vec<Signal> = ENDING.into_iter().chain([Signal::CHLD]).collect();
        loop {
            while let Ok(report) = self.reports.try_recv() {
                if let Some(why) = self.hear(report)? {
                    return self.end(why);
                }
            }
            pidfd::reap_orphans();
            match raw::next_signal_of(&waited, None) {
                Some(signal) if ENDING.contains(&signal) => self.stop(signal),
                Some(_) | None => {}
            }
        }
    }

    /// Says why the thread is gone, once it is.
    fn hear(&mut self, report: Report) -> Result<Option<Why>, String> {
        match report {
            Report::Begun(_) if !self.asked && self.signal.is_none() => {
                self.asked = true;
                let line = Line::open(&self.home.join(file::SVCONTROL));
                let sent = line.and_then(|line| line.map_or(Ok(false), |line| line.send(b"o", PATIENCE)));
                sent.map_err(|error| format!("{}: {}", self.home.display(), plain(&error)))?;
            }
            Report::Ended(_, how) if self.ended.is_none() => {
                let bytes = client::read(&self.home.join(file::STATE)).unwrap_or_default();
                self.ended = Some((how, State::decode(&bytes).unwrap_or_default()));
                // What it left is not to stay.
                self.mailbox.send(Mail::Retire(None));
            }
            Report::Gone(_, why) => return Ok(Some(why)),
            Report::Begun(_) | Report::Ended(..) | Report::Reread(_) | Report::Stale(_) => {}
            Report::Damaged(_) | Report::NeedsNoLogger(_) | Report::Standing(..) => {}
        }
        Ok(None)
    }

    /// As `d`; the second time, and on QUIT, KILL does not wait.
    fn stop(&mut self, signal: Signal) {
        let again = self.signal.replace(self.signal.unwrap_or(signal)).is_some();
        if again || signal == Signal::QUIT {
            self.mailbox.send(Mail::Retire(Some(Duration::ZERO)));
            return;
        }
        let stop = &self.policy.stop;
        let kill = match stop.timeout {
            Some(timeout) => format!("SIGKILL follows after {}", human(timeout)),
            None => "it has all the time it wants".to_owned(),
        };
        report::line(&format!("try {}: stops it by {}; {kill}; once more kills it at once", self.name, stop.signal));
        self.mailbox.send(Mail::Retire(None));
    }

    fn end(&mut self, why: Why) -> Result<Outcome, String> {
        if let Some(thread) = self.thread.take() {
            thread.join();
        }
        let defect = matches!(why, Why::Panicked);
        if defect && let Some(pid) = Pid::new(self.program.load(Ordering::SeqCst)) {
            // Claimed for this thread, and not collected: nobody else's.
            let _ = raw::kill(pid, Signal::KILL);
        }
        self.controllers.close();
        self.cgroups.iter().for_each(|groups| groups.close());
        match (why, self.ended.take(), self.signal) {
            (Why::NotOpened(text), ..) => Err(text),
            (Why::Panicked, ..) => Err("a defect of svtree; the program was killed".to_owned()),
            // Its start has failed.
            (_, Some((How::Unknown, State { exits, reason: Some(why), .. })), _) if exits.is_empty() => Err(why),
            (_, Some((how, _)), Some(_)) => Ok(Outcome { code: how.code(), why: None }),
            // One that was not well is told to end, and may do so with 0.
            (_, Some((how, State { reason: Some(why), .. })), None) => {
                let code = if how.success() { How::Unknown.code() } else { how.code() };
                Ok(Outcome { code, why: Some(why) })
            }
            (_, Some((how, _)), None) => Ok(Outcome { code: how.code(), why: None }),
            // Before there was anything to end.
            (_, None, signal) => {
                let code = How::Killed { signal: signal.unwrap_or(Signal::TERM), core: false }.code();
                Ok(Outcome { code, why: None })
            }
        }
    }
}
