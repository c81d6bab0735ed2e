//! One module: waits for a letter, an exit, mail or a deadline, asks the machine, and carries out what it says.
//!
//! Must never know of siblings, and must never decide.

mod alarms;
mod alone;
mod care;
mod checks;
mod child;
mod configured;
mod crowd;
mod ended;
mod handover;
mod helper;
mod left;
mod letters;
mod limited;
mod logger;
mod notified;
mod program;
mod records;
mod rights;
mod route;
mod scripts;
mod standing;
mod takeover;
mod terms;
mod thread;

use std::collections::VecDeque;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

use self::alarms::Alarms;
use self::care::Care;
use self::checks::{Asked, Check};
use self::child::Child;
pub use self::crowd::Starting;
pub use self::handover::{Beginning, HandOver, Handed};
use self::left::{Candidate, Sweep};
use self::limited::{InForce, Memory};
use self::logger::Draining;
use self::notified::Notify;
use self::program::{Origin, Unknown};
use self::rights::Names;
pub use self::route::Logging;
use self::route::Told;
use self::standing::Bond;
pub use self::terms::{Loaded, Mail, Report, Task, Why};
pub use self::thread::{Reports, keep_spare, start};
use crate::pure::config::Program;
use crate::pure::exit::Pid;
use crate::pure::machine::{Action, Event, Machine, NotStarted, Phase};
use crate::pure::restart::Tally;
use crate::pure::time::Moment;
use crate::unix::cgroup::Cgroup;
use crate::unix::clock;
use crate::unix::home::{Home, Level, NotOpened};
use crate::unix::inbox::{Inbox, Ready};
use crate::unix::prints::{Glance, Prints};
use crate::unix::raw;
use crate::unix::remains::{Executable, Remaining};
use crate::unix::report::Repeated;

/// Supervises a module until it is told to leave; runs in a thread of its own.
#[must_use]
pub fn run(task: Box<Task>, beginning: Beginning, inbox: &Inbox<Mail>, starting: Starting) -> Why {
    let opened = open(task, beginning);
    drop(starting);
    match opened {
        Ok(supervise) => supervise.run(inbox),
        Err(error) => Why::NotOpened(error.to_string()),
    }
}

/// Makes everything on the heap, and not inlined: what a thread that waits for days has on its stack is kept small.
#[inline(never)]
fn open(task: Box<Task>, beginning: Beginning) -> Result<Box<Supervise>, NotOpened> {
    match beginning {
        Beginning::Directory(service, read_at) => {
            let home = Home::open(&task.place, service, task.view)?;
            let mut supervise = Box::new(Supervise::new(task, home));
            if supervise.task.loaded.policy.control_group.is_some() {
                // A start looks again.
                let _ = supervise.look_up();
            }
            supervise.open_channel()?;
            supervise.hold_said()?;
            supervise.read_at = read_at;
            supervise.begin();
            supervise.read_at = None;
            supervise.let_logger_go();
            supervise.home.is_in_use();
            Ok(supervise)
        }
        Beginning::Inherited(inherited) => Ok(Supervise::inherit(task, *inherited)),
    }
}

/// What can wait waits for so long a quiet,
const REST_AFTER: Duration = Duration::from_millis(5);
/// and for more than a tick of the clock by which files are dated,
const PREPARE_AFTER: Duration = Duration::from_millis(12);
/// but never so many lines.
const LINES: usize = 64;
/// So many reads empty a FIFO that is full.
const FIFO_READS: usize = 65_536 / 64;

struct Supervise {
    task: Box<Task>,
    home: Home,
    machine: Machine,
    /// What the service directory held.
    glance: Glance,
    /// When its files were read, while it begins.
    read_at: Option<Moment>,
    child: Option<Child>,
    /// Of the child that has ended: closing it takes longer than a restart has to wait.
    spent: Option<OwnedFd>,
    /// `None` for an adopted program.
    origin: Option<Origin>,
    /// When the process that the record names was started.
    between: [u64; 2],
    /// The session of the program, if it is not one of its own.
    session: Option<Pid>,
    /// The process that ended last, whose session that is.
    leader: Option<Pid>,
    /// What the program runs, once that was looked at.
    executable: Option<Executable>,
    /// Its control group, and whether its program was started in it.
    cgroup: Option<Cgroup>,
    grouped: bool,
    /// Held where there are few modules, for the next start.
    group_held: Option<OwnedFd>,
    /// The program was a predecessor's: what it leaves need not come to us.
    inherited: bool,
    /// What may be the program from now on.
    candidate: Option<Candidate>,
    /// What ended without saying how.
    unknown: Option<Unknown>,
    sweep: Option<Sweep>,
    remains: Vec<Remaining>,
    /// Those that were in the session of the program when it had ended, and when each was started.
    met: Vec<(Pid, u64)>,
    /// The exits, for a script that is told of them.
    tally: Tally,
    /// When the home is looked at, if nobody else does.
    look_at: Option<Moment>,
    /// What was seen then.
    seen: Option<alone::Seen>,
    /// Those of `control/` that run.
    scripts: Vec<scripts::Script>,
    /// What is awaited of the program that runs, where anything is.
    care: Option<Box<Care>>,
    /// Programs that are asked about it.
    checks: Vec<Check>,
    /// A server is being asked about it.
    asking_health: Option<Asked>,
    /// Where it speaks, if it is to.
    notify: Option<Box<Notify>>,
    /// Programs that said that another process is the program, and still run.
    formers: Vec<Child>,
    /// Who is told what of it, where anybody is.
    alarms: Option<Box<Alarms>>,
    /// Why the last start failed, for a failure that repeats.
    not_started: Option<NotStarted>,
    names: Names,
    /// Where others have to do with it.
    bond: Option<Bond>,
    /// Where its memory is limited.
    memory: Option<Memory>,
    /// What was limited for the last program.
    limits: Option<Box<InForce>>,
    /// The prints that the parent was told of.
    stale: Option<Box<Prints>>,
    /// Letters that were read and not obeyed yet.
    letters: VecDeque<u8>,
    /// An `r` was passed on: what follows it waits for what the parent reads.
    rereading: bool,
    publish_failed: bool,
    /// What the records are to say waits for a quiet moment, or until then at the latest,
    unpublished: Option<Moment>,
    /// and so does whoever they still name.
    unreaped: Vec<Pid>,
    healing: Repeated,
    why: Option<Why>,
    /// A logger whose module is gone.
    draining: Option<Draining>,
    /// What the tree's logger was told.
    told: Told,
    retired: bool,
    /// Nothing of the status directory is to stay.
    removes: bool,
    lines: Vec<(Level, String)>,
}

impl Supervise {
    fn new(task: Box<Task>, home: Home) -> Supervise {
        let policy = &task.loaded.policy;
        let mut machine = Machine::new(policy.rules(), policy.enabled, clock::stamp());
        machine.begin_mistaken(task.loaded.mistake.clone());
        let bond = task.word.clone().map(|(gate, number)| {
            machine.stand_before(gate);
            Bond::new(number)
        });
        let look_at = task.alone.then(alone::first_look);
        let glance = match policy.program {
            Program::Typed(_) | Program::Own(_) => Glance::blind(),
            Program::Run | Program::Argv(_) => Glance::default(),
        };
        let alarms = Alarms::of(&task.loaded);
        Supervise {
            task,
            home,
            machine,
            glance,
            read_at: None,
            child: None,
            spent: None,
            origin: None,
            between: [0; 2],
            session: None,
            leader: None,
            executable: None,
            cgroup: None,
            grouped: false,
            group_held: None,
            inherited: false,
            candidate: None,
            unknown: None,
            sweep: None,
            remains: Vec::new(),
            met: Vec::new(),
            tally: Tally::default(),
            look_at,
            seen: None,
            scripts: Vec::new(),
            care: None,
            checks: Vec::new(),
            asking_health: None,
            notify: None,
            formers: Vec::new(),
            alarms,
            not_started: None,
            names: Names::default(),
            bond,
            memory: None,
            limits: None,
            stale: None,
            letters: VecDeque::new(),
            rereading: false,
            publish_failed: false,
            unpublished: None,
            unreaped: Vec::new(),
            healing: Repeated::default(),
            why: None,
            draining: None,
            told: Told::default(),
            retired: false,
            removes: false,
            lines: Vec::new(),
        }
    }

    /// A thread waits for days in what this calls, so its frame and theirs are small: see [`raw::trim_stack`].
    #[inline(never)]
    fn run(mut self: Box<Self>, inbox: &Inbox<Mail>) -> Why {
        self.report(Report::Begun(self.task.name.clone()));
        self.look_for_last_words();
        while self.why.is_none() {
            if !self.turn_soon(inbox) {
                self.rest();
                if !self.has_to_tell() && !self.prepare(inbox) {
                    self.turn(inbox);
                }
            }
        }
        self.end()
    }

    #[inline(never)]
    fn end(mut self: Box<Self>) -> Why {
        self.end_scripts();
        self.drop_checks();
        self.end_alarms();
        if self.unpublished.is_some() {
            let _ = self.publish();
        }
        self.reap();
        if !self.is_going() {
            self.write_lines();
        }
        self.remove_groups();
        match self.why.take().unwrap_or(Why::Left) {
            Why::Retired { .. } => Why::Retired { removed: self.removes && self.home.remove(&self.task.place) },
            why => why,
        }
    }

    /// Waits for a moment, and does what is to be done; says whether there was anything.
    #[inline(never)]
    fn turn_soon(&mut self, inbox: &Inbox<Mail>) -> bool {
        if self.lines.len() > LINES {
            self.write_lines();
        }
        if self.is_late_to_tell() {
            self.tell();
        }
        if self.unpublished.is_some_and(|latest| latest <= clock::moment()) {
            self.feed(Event::Heal);
            // Should the machine have nothing to say yet, it is asked again as soon.
            self.unpublished = self.unpublished.map(|_| clock::moment().plus(REST_AFTER));
        }
        let soon = self.unpublished.unwrap_or_else(|| clock::moment().plus(REST_AFTER));
        self.turn_until(inbox, soon)
    }

    /// The same, until then.
    fn turn_until(&mut self, inbox: &Inbox<Mail>, soon: Moment) -> bool {
        let deadline = self.deadline();
        let ready = inbox.wait(&self.descriptors(), Some(deadline.map_or(soon, |deadline| deadline.min(soon))));
        let is_due = deadline.is_some_and(|deadline| deadline <= clock::moment());
        if !is_due && !ready.mail && !ready.descriptors.contains(&true) {
            return false;
        }
        self.act(inbox, &ready);
        true
    }

    /// What can wait is done once nothing has come for a moment: lines for the log, so that no restart waits for them,
    /// and giving back the stack, which must be faulted in again; where there are few threads it costs too little for that.
    #[inline(never)]
    fn rest(&mut self) {
        if self.unpublished.is_some() {
            self.feed(Event::Heal);
        }
        if self.has_to_tell() {
            self.tell();
        }
        self.nudge_again();
        self.write_lines();
        if !raw::are_few() {
            self.keep_no_groups();
            raw::trim_stack();
        }
    }

    /// Looks at the service directory, once it has been quiet for a moment, so that the next start has less to look for;
    /// says whether something came before. Many have no time for that.
    fn prepare(&mut self, inbox: &Inbox<Mail>) -> bool {
        if !raw::are_few() || self.glance.is_prepared() {
            return false;
        }
        let came = self.turn_until(inbox, clock::moment().plus(PREPARE_AFTER));
        if !came {
            self.glance.prepare(self.home.service());
        }
        came
    }

    /// Waits until something is to be done, and does it.
    fn turn(&mut self, inbox: &Inbox<Mail>) {
        let ready = inbox.wait(&self.descriptors(), self.deadline());
        self.act(inbox, &ready);
    }

    /// All that is waited for: the FIFOs, the child, and the others.
    #[inline(never)]
    fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        let mut descriptors: Vec<BorrowedFd<'_>> = Vec::with_capacity(4);
        descriptors.extend(self.controls());
        descriptors.extend(self.child.iter().filter_map(Child::ended));
        descriptors.extend(self.remains.iter().filter_map(Remaining::ended));
        descriptors.extend(self.scripts.iter().filter_map(scripts::Script::ended));
        descriptors.extend(self.checks.iter().filter_map(Check::ended));
        descriptors.extend(self.care.iter().flat_map(|care| care.descriptors()));
        descriptors.extend(self.notify.iter().filter_map(|notify| notify.descriptor()));
        descriptors.extend(self.formers.iter().filter_map(Child::ended));
        descriptors.extend(self.alarms.iter().flat_map(|alarms| alarms.descriptors()));
        descriptors
    }

    #[inline(never)]
    fn act(&mut self, inbox: &Inbox<Mail>, ready: &Ready) {
        let is_ready = |index: usize| ready.descriptors.get(index) == Some(&true);
        let controls = self.controls().count();
        if self.care.is_some() {
            self.hear();
        }
        if self.notify.is_some() {
            self.hear_notify();
        }
        // Exits come before all that can wait: their latency is what a restart costs. A child without a pidfd sends mail.
        let polled = self.child.as_ref().is_some_and(|child| child.ended().is_some());
        if self.child.is_some() && (!polled || is_ready(controls)) {
            // But what was written before it ended is obeyed before its end is judged: it may have written that itself.
            (0..controls).for_each(|control| _ = self.read_letters(control));
            self.obey_letters();
            self.look_at_child();
        }
        if self.sweep.is_some() {
            self.look_at_remains();
        }
        if !self.scripts.is_empty() {
            self.look_at_scripts();
        }
        if !self.checks.is_empty() {
            self.look_at_checks();
        }
        if self.asking_health.is_some() {
            self.look_at_health();
        }
        if !self.formers.is_empty() {
            self.look_at_formers();
        }
        self.look_at_unknown();
        for control in (0..controls).filter(|control| is_ready(*control)) {
            self.read_letters(control);
        }
        self.obey_letters();
        if ready.mail {
            for mail in inbox.take() {
                self.mail(mail);
            }
        }
        if self.machine.deadline().is_some_and(|deadline| deadline <= clock::moment()) {
            self.feed(Event::Tick);
        }
        if self.draining.is_some() {
            self.go_on_draining();
        }
        self.look_when_due();
        self.look_at_last_words();
        // Those that were read before the home was put right meanwhile.
        self.obey_letters();
        if self.care.is_some() {
            self.attend();
        }
        if self.alarms.is_some() {
            self.look_at_alarms();
        }
    }

    /// What the kernel does not tell of is looked at once a second.
    fn deadline(&self) -> Option<Moment> {
        let blind = self.child.iter().any(|child| child.withheld || (child.pidfd.is_none() && !child.own))
            || (self.sweep.is_some() && self.remains.is_empty())
            || self.remains.iter().any(|remaining| remaining.ended().is_none());
        let look = blind.then(|| clock::moment().plus(Duration::from_secs(1)));
        let scripts = self.scripts.iter().filter_map(scripts::Script::deadline).min();
        let unknown = self.unknown.as_ref().map(|unknown| unknown.look_at);
        let checks = self.checks.iter().filter_map(Check::deadline).min();
        let (care, alarms) = (self.care_deadline(), self.alarms_deadline());
        let health = self.asking_health.as_ref().and_then(Asked::deadline);
        let notify = self.notify.as_ref().and_then(|notify| notify.deadline());
        let (draining, words) = (self.draining.as_ref().map(Draining::deadline), self.words_deadline());
        let machine = self.machine.deadline();
        [machine, look, scripts, unknown, checks, care, health, alarms, draining, notify, words, self.look_at]
            .into_iter()
            .flatten()
            .min()
    }

    fn mail(&mut self, mail: Mail) {
        match mail {
            Mail::Retire(within) => {
                self.retired = true;
                self.removes = true;
                self.draining = None;
                self.feed(Event::Retire(within));
            }
            Mail::Drain(within) => self.drain(within),
            Mail::Release => {
                self.retired = true;
                self.removes = false;
                self.feed(Event::Release);
            }
            Mail::Interrupt => {
                self.retired = true;
                self.interrupt();
            }
            Mail::Configured(loaded, at_once) => {
                self.configured(loaded, at_once);
                if at_once {
                    self.rereading = false;
                    self.obey_letters();
                }
            }
            Mail::Health(answer) => self.health_is_told(answer),
            Mail::Look => {
                self.hear_names();
                self.heal();
            }
            Mail::HandOver(order) => self.hand_over(&order),
            Mail::Gate(gate, number) => self.gate(gate, number),
            Mail::Sample => self.sample(),
            // What follows every turn.
            Mail::Rest => {}
        }
    }

    /// Hands an event to the machine and carries out what it says, until nothing is left to do.
    fn feed(&mut self, event: Event) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            let failed_before = matches!(self.machine.phase(), Phase::Failed);
            let (before, now) = (self.before(&event), clock::stamp());
            let mut actions = VecDeque::from(self.machine.handle(now, event));
            if let Some(before) = before {
                self.note(before, now);
            }
            while let Some(action) = actions.pop_front() {
                match self.perform(action) {
                    // Without a script the signal is sent before anything is written.
                    Some(answer @ Event::Controlled { .. }) => {
                        let orders = self.machine.handle(clock::stamp(), answer);
                        orders.into_iter().rev().for_each(|order| actions.push_front(order));
                    }
                    Some(answer) => events.push_back(answer),
                    None => {}
                }
            }
            if let (Phase::Failed, false, Some(why)) = (self.machine.phase(), failed_before, self.machine.reason()) {
                self.lines.push((Level::Warning, format!("failed: {why}")));
                events.extend(self.after_giving_up());
            }
        }
        self.tell_end();
        self.tell_standing();
    }

    /// Writes what there is to say in `supervise.log`.
    fn write_lines(&mut self) {
        if !self.lines.is_empty() {
            self.home.log(&std::mem::take(&mut self.lines));
        }
    }

    fn perform(&mut self, action: Action) -> Option<Event> {
        match action {
            Action::Spawn => Some(self.spawn()),
            Action::SpawnFinish(how) => Some(self.spawn_finish(how)),
            Action::Control(command, pid) => self.control(command, pid),
            Action::Signal(pid, signal) => {
                self.signal(pid, signal);
                None
            }
            Action::Follow(pid) => {
                self.follow(pid);
                None
            }
            Action::Look => Some(Event::Left(self.has_left())),
            Action::Sweep { leader, signal, whole } => self.sweep(leader, signal, whole).then_some(Event::Swept),
            Action::Publish => self.publish(),
            Action::Reap(pid) => {
                self.unreaped.push(pid);
                if self.unpublished.is_none() {
                    self.reap();
                }
                None
            }
            Action::Reload => {
                self.rereading = true;
                self.report(Report::Reread(self.task.name.clone()));
                None
            }
            Action::Leave => {
                self.why = Some(if self.retired { Why::Retired { removed: false } } else { Why::Left });
                self.lines.push((Level::Notice, "leaves".to_owned()));
                None
            }
        }
    }

    fn report(&self, report: Report) {
        self.task.reports.send(report);
    }
}
