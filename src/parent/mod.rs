//! svscan: hears of changes, ends and signals; then looks, compares, and starts or retires supervise threads.
//!
//! Must never signal a program or write a module's status: that is its supervise thread's.

mod changes;
mod conf;
mod ending;
mod heal;
mod logger;
mod looks;
mod others;
mod steer;
mod threads;
mod upgrade;
mod wanted;
mod wish;

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::thread::Builder;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, never, select, unbounded};

use self::changes::Verdict;
use self::conf::ConfFile;
use self::heal::Suspects;
use self::looks::LOOK;
use self::upgrade::{Inheritance, Upgrade};
use self::wanted::Wanted;
use crate::pure::log::To;
use crate::pure::name::{ModuleName, printable};
use crate::pure::reconcile::{self, Actual, Id, Step};
use crate::pure::time::Moment;
use crate::pure::tree::Tree;
use crate::supervise::{self, Loaded, Logging, Mail, Report, Starting};
use crate::unix::cgroup::Cgroups;
use crate::unix::controllers::Controllers;
use crate::unix::descriptors::Table;
use crate::unix::home::{self, Root};
use crate::unix::inbox::Mailbox;
use crate::unix::report::{self, Repeated, plain};
use crate::unix::signals::{self, Told};
use crate::unix::watch::Watch;
use crate::unix::{clock, raw, remains, scan, ward};

/// What `svtree run` was asked to do.
#[derive(Clone, Debug)]
pub struct Options {
    /// The name errors begin with: `svtree` or `svscan`.
    pub program: String,
    /// The services directory.
    pub services: PathBuf,
    /// The status root.
    pub status: PathBuf,
    /// The log root.
    pub logs: PathBuf,
    /// Where the programs' output goes.
    pub log: To,
    /// How long a directory that is filled in place must be quiet.
    pub settle: Duration,
    /// Caps every `stop.timeout` at shutdown.
    pub stop_within: Option<Duration>,
    /// Refuse modules that others can write.
    pub strict: bool,
    /// The module whose end is the end of all.
    pub exit_with: Option<ModuleName>,
    /// What fails at the top of the tree ends everything, with 1.
    pub exit_on_failure: bool,
    /// A file that asks for something of each module.
    pub supervise_conf: Option<PathBuf>,
    /// A keeper starts another svscan if this one dies.
    pub kept: bool,
}

/// Runs the tree in the foreground until it is told to end. To be called by the main thread while it is the only one.
///
/// # Errors
/// What kept it from starting; the caller prints it and exits 111.
pub fn run(options: Options) -> Result<u8, String> {
    let mut inheritance = upgrade::received();
    match &inheritance {
        Some(inheritance) => inheritance.prepare_process(),
        None => raw::prepare_process(),
    }
    let absolute =
        |path: &Path| std::path::absolute(path).map_err(|error| format!("{}: {}", path.display(), plain(&error)));
    let (services, status) = match &inheritance {
        Some(inheritance) => inheritance.roots(),
        None => (absolute(&options.services)?, absolute(&options.status)?),
    };
    let modules = match &inheritance {
        // The services directory may not answer; nobody who runs waits for it.
        Some(inheritance) => inheritance.modules(),
        None => match scan::names(&services) {
            Ok((_, names)) => names.len(),
            Err(error) => {
                let (services, why) = (options.services.display(), plain(&error));
                return Err(format!("reading {services}: {why}; make it, or name another"));
            }
        },
    };
    let table = Table::new(threads::descriptors(modules));
    // Opened once, so that the first restart does not wait for it.
    let _ = remains::may_exist();
    report::start(&options.program).map_err(|error| format!("starting a thread: {}", plain(&error)))?;
    // A predecessor has looked.
    if inheritance.is_none()
        && let Some(exposed) = scan::exposed_directory(&services)
    {
        if options.strict {
            return Err(format!("reading {}: {exposed}, and --strict is given", options.services.display()));
        }
        report::line(&format!("reading {}: {exposed}", options.services.display()));
    }
    let root = match inheritance.as_mut().and_then(Inheritance::root) {
        Some(root) => root,
        None => Root::open(&status).map_err(|error| format!("locking {error}"))?,
    };
    panic::set_hook(Box::new(|info| {
        let thread = rustix::thread::name().unwrap_or_default();
        let thread = printable(thread.as_bytes());
        report::line(&format!("a defect in thread {thread}: {info}").replace('\n', " "));
    }));
    // What a program leaves behind becomes ours, so that it can be found and collected.
    if rustix::process::set_child_subreaper(Some(rustix::process::Pid::INIT)).is_err() {
        report::line("becoming a subreaper: not allowed here; processes that outlive their program go to init");
    }
    let kept = options.kept;
    let (tell, told) = unbounded();
    let (upgrade, gate) = Upgrade::new(inheritance.as_ref());
    let parent = Parent::new(options, services, status, root, upgrade, table);
    Builder::new()
        .name("svscan".to_owned())
        .spawn(move || {
            let end = panic::catch_unwind(AssertUnwindSafe(|| parent.run(inheritance, &told)));
            if end.is_err() {
                report::line("ended by a defect; every program runs on, and the next svtree run takes them over");
            }
            report::flush(Duration::from_secs(1));
            if kept && end.is_err() {
                ward::die();
            }
            #[expect(clippy::disallowed_methods, reason = "the main thread waits for signals for ever")]
            std::process::exit(i32::from(end.unwrap_or(111)))
        })
        .map_err(|error| format!("starting a thread: {}", plain(&error)))?;
    let tell = move |signal| {
        // The parent ends the process itself; there is always one to hear.
        let _ = tell.send(signal);
    };
    signals::listen(tell, move || gate.pass())
}

/// The number of the tree with this status root, by which its control groups are called.
fn number(status: &Path) -> String {
    rustix::fs::stat(status).map(|stat| format!("{}-{}", stat.st_dev, stat.st_ino)).unwrap_or_default()
}

/// The control groups of a tree. Without them it is said once what is missed.
fn cgroups(number: &str) -> Option<Arc<Cgroups>> {
    match Cgroups::open(number) {
        Ok(groups) => Some(Arc::new(groups)),
        Err(error) => {
            report::line(&format!(
                "making control groups: {}; what leaves its session is found by its environment",
                plain(&error)
            ));
            None
        }
    }
}

/// The last of many starts was so long ago.
const TRIM_AFTER: Duration = Duration::from_secs(1);

/// A supervise thread.
struct Thread {
    mailbox: Mailbox<Mail>,
    handle: raw::Thread,
    /// What it was made from, for one that has to take its place.
    source: Source,
    /// The module whose output it reads, if it is a logger.
    reads: Option<ModuleName>,
    /// It was one of a few, and may keep more than one of many.
    is_rich: bool,
    /// The program at the last look at everything, and whether its thread was told to remember what it runs.
    seen: (i32, bool),
}

/// What a supervise thread is made from.
#[derive(Clone)]
struct Source {
    path: PathBuf,
    loaded: Arc<Loaded>,
}

/// How the tree ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Closing {
    /// Every module is stopped, with KILL within this time if that is sooner than its own.
    Stop(Option<Duration>),
    /// Every program runs on.
    Leave,
}

struct Parent {
    options: Options,
    services: PathBuf,
    status: PathBuf,
    root: Root,
    wanted: Wanted,
    actual: BTreeMap<ModuleName, Actual>,
    /// What holds for every module that does not say where it is logged.
    logging: Arc<Logging>,
    threads: BTreeMap<ModuleName, Thread>,
    /// How many of them are of loggers.
    loggers: u64,
    /// The programs of all threads, and of those that ended by a defect.
    programs: BTreeMap<ModuleName, Arc<AtomicI32>>,
    /// The control groups, where there are any.
    cgroups: Option<Arc<Cgroups>>,
    /// What limits modules as a whole.
    controllers: Arc<Controllers>,
    /// What the threads that ended by a defect were made from, until others take their place: their programs run.
    defective: BTreeMap<ModuleName, (Id, Source)>,
    /// Modules that begin anew whatever was recorded.
    anew: BTreeSet<ModuleName>,
    /// Modules whose directory is supervised under another name.
    refused: BTreeMap<ModuleName, ModuleName>,
    /// The states of directories that are no modules, as they were published.
    published: BTreeMap<ModuleName, Vec<u8>>,
    troubles: BTreeMap<ModuleName, Repeated>,
    sender: Sender<Report>,
    reports: Receiver<Report>,
    /// For those who look at what changed modules ask for.
    judge: Sender<Verdict>,
    verdicts: Receiver<Verdict>,
    watch: Option<Watch>,
    /// The services directory that is watched; `None` before the first look and while it is missing.
    watched: Option<Id>,
    services_trouble: Repeated,
    watch_trouble: Repeated,
    look_at: Moment,
    /// When it was looked at what programs run.
    sampled_at: Moment,
    closing: Option<Closing>,
    /// When everything is to have been stopped.
    closing_by: Option<Moment>,
    /// What the modules are to each other, and what was published of the groups.
    tree: Tree,
    groups: BTreeMap<ModuleName, Vec<u8>>,
    /// What svtree exits with, once the module that `--exit-with` names has ended.
    code: Option<u8>,
    /// Modules whose home others may have damaged, and when it is looked at.
    suspects: Suspects,
    /// When the code that only starts took is given back.
    trim_at: Option<Moment>,
    /// That time has come, and it is given back before the next wait.
    trims: bool,
    /// When a thread for the next module is made.
    spare_at: Option<Moment>,
    /// When the status root itself is looked at, if it is to be.
    root_at: Option<Moment>,
    root_trouble: Repeated,
    upgrade: Upgrade,
    table: Table,
}

impl Parent {
    fn new(options: Options, services: PathBuf, status: PathBuf, root: Root, upgrade: Upgrade, table: Table) -> Parent {
        let (sender, reports) = unbounded();
        let (judge, verdicts) = unbounded();
        let number = number(&status);
        let logs = std::path::absolute(&options.logs).unwrap_or_else(|_| options.logs.clone());
        let logging = Arc::new(Logging { to: options.log, logs });
        let conf = options.supervise_conf.clone().map(ConfFile::read);
        let tree = Tree::new(options.exit_on_failure);
        Parent {
            wanted: Wanted::new(services.clone(), options.settle, options.strict, conf),
            options,
            services,
            status,
            root,
            actual: BTreeMap::new(),
            logging,
            threads: BTreeMap::new(),
            loggers: 0,
            programs: BTreeMap::new(),
            cgroups: cgroups(&number),
            controllers: Arc::new(Controllers::new(&number)),
            defective: BTreeMap::new(),
            anew: BTreeSet::new(),
            refused: BTreeMap::new(),
            published: BTreeMap::new(),
            troubles: BTreeMap::new(),
            sender,
            reports,
            judge,
            verdicts,
            watch: None,
            watched: None,
            services_trouble: Repeated::default(),
            watch_trouble: Repeated::default(),
            look_at: Moment::default(),
            sampled_at: clock::moment(),
            closing: None,
            closing_by: None,
            tree,
            groups: BTreeMap::new(),
            code: None,
            suspects: Suspects::default(),
            trim_at: None,
            trims: false,
            spare_at: Some(Moment::default()),
            root_at: None,
            root_trouble: Repeated::default(),
            upgrade,
            table,
        }
    }

    fn run(mut self, inheritance: Option<Inheritance>, told: &Receiver<Told>) -> u8 {
        if let Some(inheritance) = inheritance {
            self.go_on(inheritance);
        }
        self.look(&[]);
        self.expect_last();
        self.inherit();
        self.replant();
        // What is there starts first; it is watched then, and looked at again.
        let mut again = self.reconcile();
        let mut changed = true;
        loop {
            if changed {
                if self.closing.is_none() {
                    self.look_at_what_is_due();
                }
                self.replant();
                again = self.reconcile();
                self.look_at_candidates();
            }
            if self.closing.is_some() && self.threads.is_empty() {
                return self.end();
            }
            self.update_watches();
            changed = self.steer() || self.wait(told, again);
        }
    }

    /// Waits until something happens or is due; says whether that can ask for a step.
    fn wait(&mut self, told: &Receiver<Told>, again: Option<Moment>) -> bool {
        let look_at = self.closing.is_none().then_some(self.look_at);
        let due = if self.closing.is_none() { self.wanted.again() } else { None };
        let heal_at = if self.closing.is_none() { self.heal_at() } else { None };
        let deadline = [again, due, look_at, heal_at, self.trim_at, self.spare_at].into_iter().flatten().min();
        let left = deadline.map_or(LOOK, |deadline| deadline.since(clock::moment())).min(LOOK);
        let silent = never();
        let nudges = self.watch.as_ref().map_or(&silent, Watch::nudges).clone();
        if std::mem::take(&mut self.trims) {
            // Last of all: what runs between this and the wait would be there again.
            raw::trim_code();
        }
        let mut changed = true;
        select! {
            recv(self.reports) -> report => {
                // A storm of ends is one change.
                changed = false;
                let mut next = report.ok();
                while let Some(report) = next {
                    changed |= self.hear(report);
                    next = self.reports.try_recv().ok();
                }
            }
            recv(self.verdicts) -> verdict => {
                if let Ok(verdict) = verdict {
                    self.wanted.judged(verdict, clock::moment());
                }
            }
            recv(told) -> signal => {
                if let Ok(signal) = signal {
                    self.told(signal);
                }
            }
            recv(self.upgrade.answers()) -> answer => {
                self.answered(answer.unwrap_or_else(|_| Err("it could not be asked".to_owned())), told);
            }
            recv(nudges) -> nudge => {
                if nudge.is_err() {
                    self.unwatched(&self.services.clone(), "the thread that watches is gone");
                }
            }
            default(left) => {}
        }
        if self.spare_at.take_if(|at| *at <= clock::moment()).is_some() {
            supervise::keep_spare();
            self.table.expect(threads::descriptors(self.threads.len()));
        }
        if self.trim_at.is_some_and(|at| at <= clock::moment()) {
            let mut rich = self.threads.values_mut().filter(|thread| thread.is_rich).peekable();
            // What these do is code, too: it is given back once they have.
            self.trim_at = rich.peek().map(|_| clock::moment().plus(TRIM_AFTER));
            for thread in rich {
                thread.is_rich = false;
                thread.mailbox.send(Mail::Rest);
            }
            self.trims = self.trim_at.is_none();
        }
        changed
    }

    /// Runs until both agree; says when to do so again.
    fn reconcile(&mut self) -> Option<Moment> {
        loop {
            let now = clock::moment();
            let plan = match self.closing {
                Some(_) => reconcile::diff(&BTreeMap::new(), &self.actual, now),
                None => reconcile::diff(&self.wanted, &self.actual, now),
            };
            let mut refused = BTreeMap::new();
            let mut acted = false;
            let mut starting = Starting::many(plan.steps.iter().filter(|step| matches!(step, Step::Start(..))).count());
            for step in plan.steps {
                match step {
                    Step::Start(name, id) => {
                        self.start(&name, id);
                        starting.next();
                        acted = true;
                    }
                    Step::Retire(name) if self.is_held_up(&name) => {}
                    Step::Retire(name) => {
                        self.retire(&name);
                        acted = true;
                    }
                    Step::Remove(name) => {
                        self.remove(&name);
                        acted = true;
                    }
                    Step::Refuse(name, other) => {
                        refused.insert(name, other);
                    }
                }
            }
            self.refused = refused;
            if !acted {
                self.publish_others();
                return plan.again;
            }
        }
    }

    /// Says whether it can ask for a step.
    fn hear(&mut self, report: Report) -> bool {
        match report {
            Report::Reread(name) => {
                self.wanted.reread(&name, clock::stamp());
                if !self.wanted.is_undecided(&name) {
                    self.configure(&name, true);
                }
            }
            Report::Stale(name) => {
                self.wanted.look_at_module(&name, clock::stamp());
                self.configure(&name, false);
            }
            Report::Begun(name) => {
                // Where there are few, to have it at hand is worth more.
                self.trim_at = (!raw::are_few()).then(|| clock::moment().plus(TRIM_AFTER));
                return self.begun(&name);
            }
            Report::NeedsNoLogger(name) => self.wanted.needs_no_logger(&name),
            Report::Damaged(name) => self.not_healed(&name),
            Report::Ended(name, how) => self.ended(&name, how),
            Report::Standing(name, standing) => {
                self.stands(&name, standing);
                return false;
            }
            Report::Gone(name, why) => {
                self.gone(name, why);
                // To reconcile a thousand for each of a thousand would take longer than all else here.
                return self.closing.is_none() || self.has_others_to_retire() || self.threads.is_empty();
            }
        }
        true
    }

    fn told(&mut self, signal: Told) {
        match (signal, self.closing) {
            (Told::Shutdown, None) => self.stop_all(),
            (Told::ShutdownNow, None | Some(Closing::Stop(_))) => {
                if self.close(Closing::Stop(Some(Duration::ZERO))).is_none() {
                    self.inherit_to_stop();
                }
                self.hurry(&Mail::Retire(Some(Duration::ZERO)));
            }
            (Told::Leave, None | Some(Closing::Stop(_))) => {
                self.close(Closing::Leave);
                self.hurry(&Mail::Release);
            }
            (Told::Rescan, None) => self.rescan(),
            (Told::Describe, _) => self.describe(),
            (Told::Upgrade, None) => self.upgrade(),
            (Told::Upgrade, Some(_)) => self.refuse("everything is being stopped"),
            (Told::Shutdown | Told::Rescan, Some(_)) | (Told::ShutdownNow | Told::Leave, Some(Closing::Leave)) => {}
        }
    }

    /// The kernel takes its time to end a watch: it has as much as the modules take to stop.
    fn unwatch(&mut self) {
        let watch = self.watch.take();
        // Where there is no thread for it, it ends with the process.
        let _ = Builder::new().name("unwatch".to_owned()).stack_size(64 * 1024).spawn(move || drop(watch));
    }

    /// Those that are on their way out already hear that it has become urgent.
    fn hurry(&self, mail: &Mail) {
        for (name, thread) in &self.threads {
            if let Some(Actual::Retiring(_)) = self.actual.get(name)
                && !(name.is_own_logger() && matches!(mail, Mail::Retire(_)))
            {
                thread.mailbox.send(mail.clone());
            }
        }
    }

    fn rescan(&mut self) {
        self.look_at = Moment::default();
        self.wanted.read_conf();
        self.suspect_all();
        // What left by `x` begins anew; what could not begin is tried at once.
        let out: Vec<ModuleName> = self
            .actual
            .iter()
            .filter(|(_, actual)| matches!(actual, Actual::Left(_) | Actual::Refused(..)))
            .map(|(name, _)| name.clone())
            .collect();
        for name in out {
            self.actual.insert(name, Actual::Ended);
        }
    }

    fn describe(&self) {
        report::line(&format!("{} modules in {}", self.actual.len(), self.services.display()));
        for (name, actual) in &self.actual {
            let what = match actual {
                Actual::Beginning(_) | Actual::Running(_) => "supervised",
                Actual::Retiring(_) => "being retired",
                Actual::Left(_) => "left by x",
                Actual::Refused(..) => "could not begin",
                Actual::Ended => "ended",
            };
            let pid = self.programs.get(name).map_or(0, |program| program.load(Ordering::SeqCst));
            let program = if pid == 0 { "down".to_owned() } else { format!("pid {pid}") };
            let mistake = self.wanted.module(name).and_then(|wish| wish.loaded.as_ref()?.mistake.as_ref());
            let mistake = mistake.map(|why| format!(", rejected: {why}")).unwrap_or_default();
            report::line(&format!("{name}: {what}, {program}{mistake}"));
        }
        for (name, (_, other)) in self.wanted.others() {
            report::line(&format!("{name}: {}", other.why));
        }
    }

    /// Every thread is gone.
    fn end(mut self) -> u8 {
        self.ask_no_more();
        if self.closing != Some(Closing::Leave) {
            for name in std::mem::take(&mut self.actual).into_keys() {
                self.remove(&name);
            }
            // What had not begun again since a predecessor died, and runs no more.
            for name in home::left(&self.status).unwrap_or_default() {
                if self.left_running(&name).is_none() {
                    let _ = home::remove(&self.status, &name);
                }
            }
            for name in self.published.keys() {
                home::unpublish_state(&self.status, name);
            }
            self.unpublish_groups();
            home::remove_spools(&self.status);
            self.root.close();
            self.controllers.close();
            if let Some(groups) = self.cgroups {
                groups.close();
            }
        }
        self.code.unwrap_or(0)
    }
}
