//! Upgrade in place: another svtree is executed in the place of this one, under the same pid, with all that is open.
//!
//! Until that call everything is only asked and told: whatever fails before it, or in it, every thread goes on as if
//! nothing had been. Must never let go of a lock or a FIFO, and never lose a signal.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::ffi::OsString;
use std::io;
use std::os::fd::RawFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::Builder;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded, never, select, unbounded};
use serde::{Deserialize, Serialize};

use super::wanted::HandedWish;
use super::{Parent, Source};
use crate::pure::config::GroupPolicy;
use crate::pure::exit::Pid;
use crate::pure::handover::{Answer, VERSION};
use crate::pure::name::{ModuleName, escaped, unescaped};
use crate::pure::reconcile::{Actual, Id};
use crate::supervise::{HandOver, Handed, Loaded, Mail, Report};
use crate::unix::home::Root;
use crate::unix::probe::{self, Interest};
use crate::unix::raw::{self, Descriptors, OpenFiles};
use crate::unix::report::{self, Repeated, plain};
use crate::unix::signals::{self, Told};
use crate::unix::{clock, executable, handover, pidfd};

/// Every thread tells what it has within this time: it is in the midst of no more than a start or a write.
const PATIENCE: Duration = Duration::from_secs(5);

/// A module that cannot go on is begun anew after this time.
const RETRY: Duration = Duration::from_secs(1);

/// What upgrades take.
pub(super) struct Upgrade {
    /// The path that svtree was started by.
    executable: PathBuf,
    /// How many were tried.
    count: u64,
    /// What the executable says when it is asked.
    asked: Option<(Receiver<Result<(), String>>, Interest)>,
    gate: Sender<Halt>,
}

/// Says that the main thread takes no signal, and what it does instead.
struct Halt {
    /// Closed as soon as it takes none.
    reached: Sender<Infallible>,
    /// What it is to execute; closed when it is to go on.
    orders: Receiver<Execute>,
}

/// What is executed in the place of this program.
struct Execute {
    executable: PathBuf,
    bytes: Vec<u8>,
    descriptors: Vec<RawFd>,
    /// Says why it could not be.
    failed: Sender<io::Error>,
}

/// What the main thread passes between two signals.
pub(super) struct Gate(Receiver<Halt>);

impl Gate {
    /// It is this thread that executes the other one: any other would leave the process without a first thread for a
    /// moment, and nobody could find it then.
    pub(super) fn pass(&self) {
        if let Ok(Halt { reached, orders }) = self.0.try_recv() {
            drop(reached);
            for Execute { executable, bytes, descriptors, failed } in orders {
                raw::give_way_no_more();
                let error = handover::exec(&executable, &bytes, &descriptors);
                raw::give_way();
                let _ = failed.send(error);
            }
        }
    }
}

impl Upgrade {
    /// For a svtree that was started, or that took over.
    pub(super) fn new(inheritance: Option<&Inheritance>) -> (Upgrade, Gate) {
        let (gate, halts) = unbounded();
        let called = || std::env::args_os().next().unwrap_or_default();
        let (executable, count) = match inheritance {
            Some(Inheritance { estate, .. }) => (path(&estate.executable), estate.count + 1),
            None => (executable::path(&called()), 0),
        };
        (Upgrade { executable, count, asked: None, gate }, Gate(halts))
    }
    /// What is said when the executable has been asked.
    pub(super) fn answers(&self) -> Receiver<Result<(), String>> {
        self.asked.as_ref().map_or_else(never, |(answer, _)| answer.clone())
    }
}

/// Everything that is handed down, as JSON.
#[derive(Debug, Serialize, Deserialize)]
struct Estate {
    version: u32,
    count: u64,
    executable: String,
    services: String,
    status: String,
    open_files: OpenFiles,
    /// The lock of the status root.
    root: RawFd,
    modules: Vec<Module>,
    /// Modules without a thread.
    #[serde(default)]
    absent: Vec<(String, Actual)>,
    #[serde(default)]
    wishes: Vec<HandedWish>,
    /// What the groups ask for.
    #[serde(default)]
    groups: Vec<(String, GroupPolicy)>,
    #[serde(default)]
    anew: Vec<String>,
    #[serde(default)]
    published: Vec<(String, String)>,
    /// What was reported and has not ended.
    #[serde(default)]
    troubles: Vec<(String, String)>,
    /// Programs whose thread has gone.
    #[serde(default)]
    claimed: Vec<i32>,
}

/// A module with a thread.
#[derive(Debug, Serialize, Deserialize)]
struct Module {
    name: String,
    id: Id,
    #[serde(default)]
    retiring: bool,
    path: String,
    /// If it is not what its files say.
    #[serde(default)]
    loaded: Option<Loaded>,
    handed: Handed,
}

/// What a predecessor handed down.
#[derive(Debug)]
pub(super) struct Inheritance {
    estate: Estate,
    descriptors: Descriptors,
}

/// What was handed down to this svtree, if it was not started in any other way. To be called before anything else.
pub(super) fn received() -> Option<Inheritance> {
    let bytes = handover::received()?;
    let inheritance = read(&bytes);
    if let Err(why) = &inheritance {
        // All that is left is what every successor of a dead svtree has: the files. Locks that nobody knows are in its way.
        raw::close_all();
        report::line(&format!("upgrading: what was handed down: {why}; every program is taken over by its record"));
    }
    inheritance.ok()
}

fn read(bytes: &[u8]) -> Result<Inheritance, String> {
    let estate: Estate = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    if estate.version != VERSION {
        return Err(format!("version {}", estate.version));
    }
    let descriptors = Descriptors::own(estate.descriptors()).map_err(|error| plain(&error))?;
    Ok(Inheritance { estate, descriptors })
}

impl Estate {
    fn descriptors(&self) -> Vec<RawFd> {
        let modules = self.modules.iter().flat_map(|module| module.handed.descriptors());
        modules.chain([self.root]).collect()
    }
}

impl Inheritance {
    /// To be called before there is another thread: limits are those that the first svtree was started with, and no program
    /// is collected by anybody but its thread.
    pub(super) fn prepare_process(&self) {
        raw::prepare_process_again(self.estate.open_files);
        let claimed = self.estate.claimed.iter().copied().filter_map(Pid::new);
        let children = self.estate.modules.iter().flat_map(|module| module.handed.children());
        claimed.chain(children).for_each(pidfd::claim);
    }

    /// The services directory and the status root, absolute.
    pub(super) fn roots(&self) -> (PathBuf, PathBuf) {
        (path(&self.estate.services), path(&self.estate.status))
    }

    /// How many modules there are.
    pub(super) fn modules(&self) -> usize {
        self.estate.modules.len()
    }

    /// The status root, locked; `None` if its descriptor is missing.
    pub(super) fn root(&mut self) -> Option<Root> {
        Some(Root::handed_down(&path(&self.estate.status), self.descriptors.take(self.estate.root)?))
    }
}

impl Parent {
    /// Asks the executable whether it can take over.
    pub(super) fn upgrade(&mut self) {
        if self.upgrade.asked.is_some() {
            return;
        }
        let (answer, asked) = bounded(1);
        let executable = self.upgrade.executable.clone();
        let asking = probe::interest().and_then(|(interest, interested)| {
            Builder::new().name("upgrade".to_owned()).stack_size(256 * 1024).spawn(move || {
                let _ = answer.send(probe::ask(&executable, std::env::args_os(), &interested));
            })?;
            Ok(interest)
        });
        match asking {
            Ok(interest) => self.upgrade.asked = Some((asked, interest)),
            Err(error) => self.refuse(&format!("starting a thread: {}", plain(&error))),
        }
    }

    /// Nobody is left to hear what the executable says; what was started to ask it ends.
    pub(super) fn ask_no_more(&mut self) {
        if let Some((answer, interest)) = self.upgrade.asked.take() {
            drop(interest);
            let _ = answer.recv_timeout(PATIENCE);
        }
    }

    /// Hears what it says, and hands everything over if it can; returns only if that cannot be.
    pub(super) fn answered(&mut self, answer: Result<(), String>, told: &Receiver<Told>) {
        self.upgrade.asked = None;
        let why = match answer {
            Err(why) => why,
            Ok(()) if self.closing.is_some() => "everything is being stopped".to_owned(),
            Ok(()) => self.hand_over(told),
        };
        self.refuse(&why);
    }

    /// Says why there is no upgrade.
    pub(super) fn refuse(&mut self, why: &str) {
        report::line(&format!("upgrading: {}: {why}; the old one goes on", self.upgrade.executable.display()));
        self.upgrade.count += 1;
        self.answer(Some(format!("{}: {why}", self.upgrade.executable.display())));
    }

    fn answer(&self, reason: Option<String>) {
        let answer = Answer {
            count: self.upgrade.count,
            upgraded: reason.is_none(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            reason,
            at: clock::wall().rfc3339(),
        };
        if let Err(error) = self.root.answer(&answer) {
            report::line(&format!("writing {error}"));
        }
    }

    /// Executes the other one. Returns, with the reason, only if that cannot be.
    fn hand_over(&mut self, told: &Receiver<Told>) -> String {
        let mut reports = Vec::new();
        // Whatever becomes of this: when `go_on` is dropped everybody who waits goes on.
        let (go_on, resume) = bounded(0);
        let (main, orders) = bounded(1);
        let failed = match self.halt(&resume, orders, &mut reports) {
            Ok(handed) => {
                // What the main thread has taken and nobody has obeyed is told again to whoever comes then.
                while let Ok(signal) = told.try_recv() {
                    if signal != Told::Upgrade {
                        signal.give_back();
                    }
                }
                self.execute(handed, &main)
            }
            Err(why) => why,
        };
        drop((go_on, main));
        for report in reports {
            self.hear(report);
        }
        failed
    }

    /// Halts every thread, the main thread last, and has each module told; what else they say is kept.
    fn halt(
        &mut self,
        resume: &Receiver<Infallible>,
        orders: Receiver<Execute>,
        others: &mut Vec<Report>,
    ) -> Result<Vec<(ModuleName, Box<Handed>)>, String> {
        let (answer, answers) = unbounded();
        let order = Mail::HandOver(HandOver { answer, resume: resume.clone() });
        let mut waiting: BTreeSet<ModuleName> = self.threads.keys().cloned().collect();
        self.threads.values().for_each(|thread| thread.mailbox.send(order.clone()));
        let mut handed = Vec::with_capacity(waiting.len());
        let deadline = clock::moment().plus(PATIENCE);
        while let Some(one) = waiting.first() {
            select! {
                recv(answers) -> answer => if let Ok((name, module)) = answer {
                    waiting.remove(&name);
                    handed.push((name, module));
                },
                recv(self.reports) -> report => match report {
                    Ok(Report::Gone(name, why)) => {
                        waiting.remove(&name);
                        self.gone(name.clone(), why);
                        // Another one may have taken its place, to retire what it left.
                        if let Some(thread) = self.threads.get(&name) {
                            thread.mailbox.send(order.clone());
                            waiting.insert(name);
                        }
                    }
                    Ok(report) => others.push(report),
                    // There is always one sender: our own.
                    Err(_) => {}
                },
                default(deadline.since(clock::moment())) => {
                    return Err(format!("{one} is busy for longer than {} s", PATIENCE.as_secs()));
                }
            }
        }
        let (reached, is_reached) = bounded(0);
        let _ = self.upgrade.gate.send(Halt { reached, orders });
        signals::call_between();
        match is_reached.recv_timeout(PATIENCE) {
            Err(RecvTimeoutError::Timeout) => Err("the main thread does not halt".to_owned()),
            Err(RecvTimeoutError::Disconnected) => Ok(handed),
            Ok(never) => match never {},
        }
    }

    fn execute(&mut self, handed: Vec<(ModuleName, Box<Handed>)>, main: &Sender<Execute>) -> String {
        let Some(estate) = self.estate(handed) else { return "the limit of open files is not known".to_owned() };
        let bytes = match serde_json::to_vec(&estate) {
            Ok(bytes) => bytes,
            Err(error) => return error.to_string(),
        };
        // What is still to be written is the business of this one.
        report::flush(Duration::from_millis(100));
        let (failed, failure) = bounded(1);
        let (executable, descriptors) = (self.upgrade.executable.clone(), estate.descriptors());
        let _ = main.send(Execute { executable, bytes, descriptors, failed });
        failure.recv().map_or_else(|_| "the main thread is gone".to_owned(), |error| plain(&error))
    }

    fn estate(&mut self, handed: Vec<(ModuleName, Box<Handed>)>) -> Option<Estate> {
        let mut modules = Vec::with_capacity(handed.len());
        for (name, handed) in handed {
            let source = &self.threads.get(&name)?.source;
            let (id, retiring) = match self.actual.get(&name)? {
                Actual::Beginning(id) | Actual::Running(id) => (*id, false),
                Actual::Retiring(id) => (*id, true),
                Actual::Left(_) | Actual::Refused(..) | Actual::Ended => return None,
            };
            let wish = self.wanted.module(&name).and_then(|wish| wish.loaded.as_ref());
            let is_same = wish.is_some_and(|loaded| Arc::ptr_eq(loaded, &source.loaded));
            modules.push(Module {
                name: escaped(name.as_bytes()),
                id,
                retiring,
                path: written(&source.path),
                loaded: (!is_same).then(|| (*source.loaded).clone()),
                handed: *handed,
            });
        }
        let text = |name: &ModuleName| escaped(name.as_bytes());
        let absent = self.actual.iter().filter(|(name, _)| !self.threads.contains_key(*name));
        Some(Estate {
            version: VERSION,
            count: self.upgrade.count,
            executable: written(&self.upgrade.executable),
            services: written(&self.services),
            status: written(&self.status),
            open_files: raw::open_files()?,
            root: self.root.number(),
            modules,
            absent: absent.map(|(name, actual)| (text(name), *actual)).collect(),
            wishes: self.wanted.handed(),
            groups: self.wanted.policies().iter().map(|(name, policy)| (text(name), policy.clone())).collect(),
            anew: self.anew.iter().map(text).collect(),
            published: (self.published.iter())
                .map(|(name, state)| (text(name), String::from_utf8_lossy(state).into_owned()))
                .collect(),
            troubles: (self.troubles.iter())
                .filter_map(|(name, trouble)| Some((text(name), trouble.text()?.to_owned())))
                .collect(),
            claimed: pidfd::claimed().into_iter().map(Pid::get).collect(),
        })
    }

    /// Goes on where the predecessor was.
    pub(super) fn go_on(&mut self, inheritance: Inheritance) {
        let Inheritance { estate, mut descriptors } = inheritance;
        self.wanted.inherit(estate.wishes, clock::moment());
        let groups = estate.groups.into_iter();
        self.wanted.inherit_groups(groups.filter_map(|(text, policy)| Some((name(&text)?, policy))));
        self.replant();
        self.anew.extend(estate.anew.iter().filter_map(|text| name(text)));
        let published = estate.published.into_iter();
        self.published.extend(published.filter_map(|(text, state)| Some((name(&text)?, state.into_bytes()))));
        let troubles = estate.troubles.into_iter();
        self.troubles.extend(troubles.filter_map(|(text, line)| Some((name(&text)?, Repeated::reported(line)))));
        self.actual.extend(estate.absent.into_iter().filter_map(|(text, actual)| Some((name(&text)?, actual))));
        for Module { name: text, id, retiring, path: directory, loaded, handed } in estate.modules {
            let Some(name) = name(&text) else { continue };
            if name.is_own_logger() {
                // No file asks for it, and how it is started is this svtree's to say.
                self.want_logger();
            }
            let wish = self.wanted.module(&name).and_then(|wish| wish.loaded.clone());
            let loaded = loaded.filter(|_| !name.is_own_logger()).map(Arc::new).or(wish).unwrap_or_default();
            let source = Source { path: path(&directory), loaded };
            let reads = handed.reads(&name);
            let beginning = handed.inherit(&self.status, &name, &mut descriptors);
            let started = beginning
                .ok_or_else(|| "a descriptor of it is missing".to_owned())
                .and_then(|beginning| self.start_thread(&name, id, source.clone(), beginning, reads, false));
            match started {
                Ok(()) if retiring => {
                    self.actual.insert(name, Actual::Retiring(id));
                }
                Ok(()) => {}
                Err(why) => {
                    report::line(&format!("going on with {name}: {why}; it is tried again"));
                    self.defective.insert(name.clone(), (id, source));
                    self.actual.insert(name, Actual::Refused(id, clock::moment().plus(RETRY)));
                }
            }
        }
        let version = env!("CARGO_PKG_VERSION");
        report::line(&format!("upgraded to version {version}, with {} modules", self.threads.len()));
        self.answer(None);
    }
}

fn written(path: &Path) -> String {
    escaped(path.as_os_str().as_bytes())
}

fn path(text: &str) -> PathBuf {
    OsString::from_vec(unescaped(text)).into()
}

fn name(text: &str) -> Option<ModuleName> {
    ModuleName::recorded(&unescaped(text)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_svtree_hands_down_is_not_taken() {
        let estate = |version: u32, descriptor: i32| {
            format!(
                r#"{{"version": {version}, "count": 0, "executable": "/bin/svtree", "services": "/a", "status": "/b",
                "open_files": {{"soft": 1, "hard": 2}}, "root": {descriptor}, "modules": [], "later": true}}"#
            )
        };
        for wrong in ["", "{}", "[]", &estate(VERSION + 1, 1), &estate(VERSION, 0), &estate(VERSION, i32::MAX)] {
            assert!(read(wrong.as_bytes()).is_err(), "{wrong}");
        }
        let root = std::fs::File::open("/").expect("the root");
        let number = std::os::fd::IntoRawFd::into_raw_fd(root);
        let mut inheritance = read(estate(VERSION, number).as_bytes()).expect("what is unknown is passed over");
        assert!(inheritance.root().is_some());
    }
}
