//! What happens to a module is told to those who asked for it: by a program of theirs, by mail, by telephone.
//!
//! What is to be told waits for a quiet moment, and what tells it runs beside the loop: no restart waits for either. Must
//! never decide what is told, and never change what is counted.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::thread::Builder;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::helper::{HandedHelper, Helper, Seen};
use super::{Child, Loaded, Supervise};
use crate::pure::alarm::{Alarm, Kind, Verdict, was_asked_for};
use crate::pure::exit::{Exit, How, Pid};
use crate::pure::machine::{Cause, Event, Phase, Readiness};
use crate::pure::notice::{Happened, Notice};
use crate::pure::status::Want;
use crate::pure::time::{Moment, Stamp, human};
use crate::unix::home::Level;
use crate::unix::{clock, memory, report, spawn};

/// So many programs of one module tell something at once,
const MOST: usize = 16;

/// and none of them takes longer.
const LONGEST: Duration = Duration::from_secs(30);

/// What is told waits for a quiet moment, but no longer than this.
const SOON: Duration = Duration::from_millis(100);

/// How a program of a predecessor ended is waited for as long as this.
const UNTIL_KNOWN: Duration = Duration::from_secs(1);

/// and what it said last is looked for so often.
const AGAIN: Duration = Duration::from_millis(10);

/// What takes a mail, with the place where it is on machines that do not have it in PATH,
const SENDMAIL: [&str; 2] = ["sendmail", "-t"];
const SENDMAIL_ELSEWHERE: &str = "/usr/sbin/sendmail";

/// and what Baidu's supervise has called for a telephone.
const GSMSEND: &str = "gsmsend-script";

/// The alarms of a module that has any.
#[derive(Debug)]
pub(super) struct Alarms {
    told: Alarm,
    /// With the policy whose alarms are in force.
    loaded: Arc<Loaded>,
    /// The last thing that was noted was a start that failed.
    not_started: bool,
    /// What is to be told, and since when.
    happened: VecDeque<(Moment, Happened)>,
    /// What is told now, by these.
    ways: VecDeque<(Arc<Notice>, Way)>,
    tellers: Vec<Teller>,
}

/// How something is told.
#[derive(Debug)]
enum Way {
    Command(Vec<String>),
    Mail(Vec<String>),
    /// To this number.
    Gsm(String),
}

/// A program that tells something.
#[derive(Debug)]
struct Teller {
    helper: Helper,
    /// What it is, for the log.
    what: String,
}

/// A teller as it is handed down to the next svtree.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct HandedTeller {
    helper: HandedHelper,
    what: String,
}

impl HandedTeller {
    pub(super) fn pid(&self) -> Option<Pid> {
        self.helper.pid()
    }
}

impl Alarms {
    /// Those that its files ask for; `None` where they ask for none.
    pub(super) fn of(loaded: &Arc<Loaded>) -> Option<Box<Alarms>> {
        loaded.policy.alarms.as_ref()?;
        Some(Box::new(Alarms {
            told: Alarm::default(),
            loaded: Arc::clone(loaded),
            not_started: false,
            happened: VecDeque::new(),
            ways: VecDeque::new(),
            tellers: Vec::new(),
        }))
    }

    /// Readable once one of its programs has ended.
    pub(super) fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.tellers.iter().filter_map(|teller| teller.helper.ended())
    }

    /// Its programs, which are no remains of the module's.
    pub(super) fn pids(&self) -> impl Iterator<Item = Pid> {
        self.tellers.iter().map(|teller| teller.helper.pid())
    }

    pub(super) fn children(&self) -> impl Iterator<Item = &Child> {
        self.tellers.iter().map(|teller| teller.helper.child())
    }

    pub(super) fn handed(&self) -> Vec<HandedTeller> {
        let handed = |teller: &Teller| HandedTeller { helper: teller.helper.handed(), what: teller.what.clone() };
        self.tellers.iter().map(handed).collect()
    }

    /// What was told, for a successor; `None` where nothing was.
    pub(super) fn told(&self) -> Option<Alarm> {
        Some(self.told.clone()).filter(|told| *told != Alarm::default())
    }
}

/// A module before an event that something may be told of.
#[derive(Debug)]
pub(super) struct Before {
    /// The end that the event is of.
    end: Option<End>,
    want: Want,
    /// Somebody had asked for its end.
    stopping: bool,
    /// It was being ended for this.
    unwell: Option<String>,
    failed: bool,
    exits: u64,
    since: Moment,
}

/// An end of a program, or its beginning that failed.
#[derive(Debug)]
enum End {
    /// How it ended, and whether that was for want of memory.
    Program(Pid, How, bool),
    NotStarted(String),
}

impl Supervise {
    /// From now on the alarms that its files ask for hold.
    pub(super) fn take_alarms(&mut self) {
        match &mut self.alarms {
            Some(alarms) => alarms.loaded = Arc::clone(&self.task.loaded),
            None => self.alarms = Alarms::of(&self.task.loaded),
        }
    }

    /// Whether its files ask for other alarms than those that are in force.
    pub(super) fn asks_for_other_alarms(&self) -> bool {
        let in_force = self.alarms.as_ref().and_then(|alarms| alarms.loaded.policy.alarms.as_ref());
        in_force != self.task.loaded.policy.alarms.as_ref()
    }

    /// Goes on with what a predecessor told.
    pub(super) fn recall_alarms(&mut self, told: Option<&Alarm>, handed: Vec<HandedTeller>) {
        let Some(alarms) = &mut self.alarms else { return };
        alarms.told = told.cloned().unwrap_or_default();
        let tellers = handed.into_iter().filter_map(|HandedTeller { helper, what }| {
            Helper::handed_down(&helper, false).map(|helper| Teller { helper, what })
        });
        alarms.tellers.extend(tellers);
    }

    /// How the module is before an event; `None` where nobody is told anything.
    pub(super) fn before(&self, event: &Event) -> Option<Before> {
        self.alarms.as_ref()?;
        let end = if let Event::Exited(ended) | Event::Lost(ended) = event {
            Some(End::Program(ended.pid, ended.how, ended.oom))
        } else if let Event::SpawnFailed(failure) = event {
            Some(End::NotStarted(failure.why.clone()))
        } else {
            None
        };
        Some(Before {
            end,
            want: self.machine.want(),
            stopping: self.machine.is_being_stopped(),
            unwell: match self.machine.cause() {
                Cause::Asked | Cause::Itself | Cause::Tree => None,
                Cause::Unwell(why) => Some(why.clone()),
            },
            failed: matches!(self.machine.phase(), Phase::Failed),
            exits: self.machine.exits_total(),
            since: self.machine.since().moment,
        })
    }

    /// Notes what came of the event, for those who are to be told; before the records are written, which hold it.
    pub(super) fn note(&mut self, before: Before, now: Stamp) {
        let Before { end, want, stopping, unwell, failed, exits, since } = before;
        let happened = Happened { kind: Kind::Exit, at: now.wall, count: 1, exit: None, why: None, downtime: None };
        match end {
            Some(End::Program(pid, how, oom)) if self.machine.exits_total() > exits => {
                let exit = Some(Exit { at: now.wall, pid, how, oom, uptime: now.moment.since(since) });
                if !was_asked_for(stopping, want, how, self.machine.want()) {
                    self.note_one(now.moment, false, Happened { exit, why: unwell, ..happened.clone() });
                }
            }
            Some(End::NotStarted(why)) if want != Want::Down => {
                self.note_one(now.moment, true, Happened { why: Some(why), ..happened.clone() });
            }
            Some(_) | None => {}
        }
        if let (Phase::Failed, false) = (self.machine.phase(), failed) {
            let not_started = self.alarms.as_ref().is_some_and(|alarms| alarms.not_started);
            let exit = self.machine.last_exit().filter(|_| !not_started).copied();
            let why = self.machine.reason().map(str::to_owned);
            self.note_one(now.moment, not_started, Happened { kind: Kind::Failed, exit, why, ..happened });
        }
    }

    fn note_one(&mut self, now: Moment, not_started: bool, happened: Happened) {
        let silenced = !self.machine.status().alarms;
        let Some(Alarms { told, loaded, happened: queue, not_started: last, .. }) = self.alarms.as_deref_mut() else {
            return;
        };
        *last = not_started;
        let Some(asked) = loaded.policy.alarms.as_deref() else { return };
        let kind = happened.kind;
        let verdict = match kind {
            Kind::Exit => told.died(now, asked.terms(silenced)),
            Kind::Failed => told.gave_up(now, asked.terms(silenced)),
            // That is no event: see `look_for_recovery`.
            Kind::Recovered => return,
        };
        match verdict {
            Verdict::Told(_) if queue.len() >= MOST => {
                let text = format!("alarm {}: not sent, {MOST} others have not been sent yet", kind.name());
                self.lines.push((Level::Warning, text));
            }
            Verdict::Told(count) => queue.push_back((now, Happened { count, ..happened })),
            Verdict::Repeats(ago) => {
                let text = format!("alarm {}: not sent, the last one was {} ago", kind.name(), human(ago));
                self.lines.push((Level::Notice, text));
            }
            Verdict::Silenced => self.silenced(kind),
            Verdict::Unasked => {}
        }
    }

    fn silenced(&mut self, kind: Kind) {
        self.lines.push((Level::Notice, format!("alarm {}: not sent, alarms are silenced", kind.name())));
    }

    /// How a program ended that something is to be told of was learned.
    pub(super) fn note_learned(&mut self, pid: Pid, how: How) {
        let happened = self.alarms.iter_mut().flat_map(|alarms| alarms.happened.iter_mut());
        for exit in happened.filter_map(|(_, happened)| happened.exit.as_mut()).filter(|exit| exit.pid == pid) {
            exit.how = how;
        }
    }

    /// Since when its program is up; one that is to say when it is ready, since then.
    fn up(&self) -> Option<Moment> {
        if !matches!(self.machine.phase(), Phase::Up { .. }) {
            return None;
        }
        match self.machine.readiness() {
            Readiness::Unasked => Some(self.machine.since().moment),
            Readiness::Awaited => None,
            Readiness::Since(since) => Some(since.moment),
        }
    }

    /// When something of its alarms is due.
    pub(super) fn alarms_deadline(&self) -> Option<Moment> {
        let alarms = self.alarms.as_deref()?;
        let asked = alarms.loaded.policy.alarms.as_deref();
        let recovery = asked.and_then(|asked| alarms.told.deadline(self.up(), asked.terms(false)));
        let awaited = alarms
            .happened
            .front()
            .is_some_and(|(at, happened)| happened.exit.as_ref().is_some_and(|exit| self.awaits_last_words(*at, exit)));
        let again = awaited.then(|| clock::moment().plus(AGAIN));
        alarms.tellers.iter().filter_map(|teller| teller.helper.deadline()).chain(recovery).chain(again).min()
    }

    /// Looks at what tells something, and whether the module has recovered.
    #[inline(never)]
    pub(super) fn look_at_alarms(&mut self) {
        let (stamp, up) = (clock::stamp(), self.up());
        let silenced = !self.machine.status().alarms;
        let Some(alarms) = self.alarms.as_deref_mut() else { return };
        for mut teller in std::mem::take(&mut alarms.tellers) {
            let what = &teller.what;
            match teller.helper.look(stamp.moment) {
                Seen::Runs => {}
                Seen::TooLong => {
                    let text = format!("{what} took longer than {} s and is killed", LONGEST.as_secs());
                    self.lines.push((Level::Warning, text));
                }
                Seen::Ended(how) => {
                    let level = if how.success() { Level::Notice } else { Level::Warning };
                    self.lines.push((level, format!("{what} {how}")));
                    continue;
                }
            }
            alarms.tellers.push(teller);
        }
        let asked = alarms.loaded.policy.alarms.as_deref();
        let recovered = asked.and_then(|asked| alarms.told.recovered(up, stamp.moment, asked.terms(silenced)));
        let Some((verdict, downtime)) = recovered else { return };
        match verdict {
            Verdict::Told(count) => {
                let exit = self.machine.last_exit().copied();
                let (kind, downtime) = (Kind::Recovered, Some(downtime));
                let happened = Happened { kind, at: stamp.wall, count, exit, why: None, downtime };
                alarms.happened.push_back((stamp.moment, happened));
            }
            Verdict::Silenced => self.silenced(Kind::Recovered),
            Verdict::Repeats(_) | Verdict::Unasked => {}
        }
        // The record is to say so.
        self.feed(Event::Heal);
    }

    /// Whether something waits to be told that can be told now.
    pub(super) fn has_to_tell(&self) -> bool {
        self.alarms.as_deref().is_some_and(|alarms| {
            !alarms.ways.is_empty()
                || alarms.happened.front().is_some_and(|(at, happened)| !self.is_held(*at, happened))
        })
    }

    /// The same, and it has waited for long enough.
    pub(super) fn is_late_to_tell(&self) -> bool {
        let late = |(at, _): &(Moment, Happened)| clock::moment().since(*at) >= SOON;
        self.has_to_tell() && self.alarms.iter().any(|alarms| alarms.happened.front().is_none_or(late))
    }

    /// How the program ended, or what it said last, will be known soon.
    fn is_held(&self, at: Moment, happened: &Happened) -> bool {
        let Some(exit) = &happened.exit else { return false };
        let is_unknown = exit.how == How::Unknown;
        (is_unknown && self.unknown.is_some() && clock::moment().since(at) < UNTIL_KNOWN)
            || self.awaits_last_words(at, exit)
    }

    /// Starts one program of those that tell something: each start takes its time, and the module may need the thread.
    #[inline(never)]
    pub(super) fn tell(&mut self) {
        if self.alarms.as_deref().is_some_and(|alarms| alarms.ways.is_empty()) {
            self.compose();
        }
        let Some((notice, way)) = self.alarms.as_deref_mut().and_then(|alarms| alarms.ways.pop_front()) else {
            return;
        };
        let tellers = self.alarms.as_deref().map_or(0, |alarms| alarms.tellers.len());
        let (words, bytes) = match &way {
            Way::Command(words) => (words.clone(), notice.json()),
            Way::Mail(to) => (SENDMAIL.map(str::to_owned).into(), notice.mail(to)),
            Way::Gsm(number) => (vec![GSMSEND.to_owned(), notice.short(number)], Vec::new()),
        };
        let elsewhere = matches!(way, Way::Mail(_)).then_some(SENDMAIL_ELSEWHERE);
        let what = format!("alarm {}: {}", notice.event, words.first().map_or("", String::as_str));
        if tellers >= MOST {
            let text = format!("{what}: not started, {tellers} others have not ended yet");
            return self.lines.push((Level::Warning, text));
        }
        let words: Vec<OsString> = words.into_iter().map(OsString::from).collect();
        let started = match memory::sealed(&bytes) {
            Ok(input) => spawn::alarm(self.service(None), &words, elsewhere, notice.variables(), input.as_fd())
                .map_err(|error| error.to_string()),
            Err(error) => Err(format!("making its input: {}", report::plain(&error))),
        };
        match started {
            Ok(started) => {
                if started.pidfd.is_none() {
                    self.wait_elsewhere(started.pid);
                }
                self.lines.push((Level::Notice, format!("{what}: started as pid {}", started.pid)));
                let teller = Teller { helper: Helper::new(started, LONGEST, false), what };
                if let Some(alarms) = self.alarms.as_deref_mut() {
                    alarms.tellers.push(teller);
                }
            }
            Err(why) => self.lines.push((Level::Warning, format!("alarm {}: {why}", notice.event))),
        }
    }

    /// Says the next thing that happened in all the ways that are asked for.
    fn compose(&mut self) {
        let Some((_, happened)) = self.alarms.as_deref_mut().and_then(|alarms| alarms.happened.pop_front()) else {
            return;
        };
        let (state, host) = (self.machine.state(clock::stamp()), rustix::system::uname());
        let host = host.nodename().to_bytes();
        // The log itself may be on a disk that this thread must not wait for.
        let last_lines = happened.exit.as_ref().and_then(|exit| self.last_words(exit)).unwrap_or_default();
        let notice = Arc::new(Notice::new(&happened, &self.task.name, host, &state, last_lines));
        let Some(alarms) = self.alarms.as_deref_mut() else { return };
        let Some(asked) = alarms.loaded.policy.alarms.as_deref() else { return };
        let command = asked.command.clone().map(Way::Command);
        let mail = Some(asked.mail.clone()).filter(|to| !to.is_empty()).map(Way::Mail);
        let gsm = asked.gsm.iter().cloned().map(Way::Gsm);
        alarms.ways.extend(command.into_iter().chain(mail).chain(gsm).map(|way| (Arc::clone(&notice), way)));
    }

    /// Tells all that waits to be told.
    pub(super) fn tell_all(&mut self) {
        while self.alarms.as_deref().is_some_and(|alarms| !alarms.ways.is_empty() || !alarms.happened.is_empty()) {
            self.tell();
        }
    }

    /// The thread ends: a program that tells something goes on, and somebody else sees to it that it does not hang.
    pub(super) fn end_alarms(&mut self) {
        self.tell_all();
        let Some(tellers) = self.alarms.take().map(|alarms| alarms.tellers).filter(|tellers| !tellers.is_empty())
        else {
            return;
        };
        let waiter = Builder::new().name("alarms".to_owned()).stack_size(64 * 1024).spawn(move || {
            tellers.into_iter().for_each(|teller| teller.helper.outlast());
        });
        if let Err(error) = waiter {
            self.lines.push((Level::Warning, format!("waiting for alarms: {}", report::plain(&error))));
        }
    }
}
