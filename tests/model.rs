//! Walks every reachable state of the machine, with the environment as the adversary: it may send any letter at any
//! time, let the program exit in any way or not, fail any spawn, lose any record, and let time pass.
//!
//! The invariants are what must hold for any order of events; a fault is reported with the path that leads to it.

#![expect(clippy::panic, reason = "a fault is reported by the walk, which is no test by itself")]

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use svtree::pure::command::Command;
use svtree::pure::config::{Awaits, Forking, Restart, Rules, Scope, Stop, When};
use svtree::pure::exit::{How, Pid, Signal};
use svtree::pure::machine::{
    Action, Cause, Configured, Ended, Event, Heir, Left, Machine, NotStarted, Phase, Readiness,
};
use svtree::pure::standing::{Gate, Stand};
use svtree::pure::state::StateName;
use svtree::pure::status::{Running, Status, Want};
use svtree::pure::time::{Moment, Stamp, Wall};

/// The unit of the model's time; deadlines of the policy are one or two of them.
const UNIT: Duration = Duration::from_secs(1);

/// In which exits are counted.
const INTERVAL: Duration = Duration::from_secs(2);

/// A process that the machine had started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Process {
    Runs,
    Stopped,
    /// It has ended and was not reaped.
    Zombie,
    Reaped,
}

/// The machine with everything around it.
#[derive(Clone)]
struct World {
    machine: Machine,
    now: u64,
    next_pid: i32,
    /// A program that was followed elsewhere, unreaped.
    dead: Option<Pid>,
    program: Option<(Pid, Process)>,
    finish: Option<(Pid, Process)>,
    /// Whether something in the session of the program that ended still runs.
    remains: bool,
    /// Whether something that the module started runs in a session of its own.
    elsewhere: bool,
    /// `d` or the parent was the last to say what is wanted.
    ending: bool,
    /// What is being swept up: all of it, or the session.
    sweeping: Option<bool>,
    /// The program that put itself in the background is followed there.
    follows: bool,
    published: Option<Status>,
    /// What makes the program ready, and what was published of that.
    awaits: Awaits,
    published_ready: (bool, StateName),
    /// It was said to be ready, it was found not to be well.
    said: bool,
    unwell: bool,
    /// It has ended well, untold.
    done: bool,
    stops_itself: bool,
    /// What is said to be the program.
    named: Option<Pid>,
    /// Whether the environment has more than letters, exits and time: a `finish`, remains, pauses, a full disk, edits.
    /// They have nothing to do with the limits of restarts, and both at once are too many states.
    disturbed: bool,
    /// The file system takes no record.
    full: bool,
    /// The files of the module are being written.
    editing: bool,
    /// Whether the module has a `control/LETTER` for each letter, which ends when it likes.
    scripted: bool,
    /// Whether it stands in a tree, which has words for it; whether the last word lets it start; whether it asked for a
    /// stop of what runs.
    gated: bool,
    may_start: bool,
    of_tree: bool,
    /// What they are asked, and about which program.
    asking: Vec<(Command, Pid)>,
    /// What was sent since a script answered last.
    signals: Vec<Signal>,
    last_spawn: Option<u64>,
    /// A letter asked for a start since the last one.
    asked: bool,
    /// A letter that starts what is down was given while it was, and nothing came of it yet.
    owed: bool,
    told_to_leave: bool,
    left: bool,
    killed: bool,
}

/// What the environment does next.
#[derive(Clone, Copy, Debug)]
enum Move {
    Letter(Command),
    Retire,
    RetireNow,
    Exit(How, Remains, bool),
    FinishExits,
    RemainsEnd,
    Time,
    SpawnsFail,
    Edits,
    EditEnds,
    FullDisk,
    Space,
    Reconfigured,
    Ready,
    Unwell,
    /// The program says that it ends, or that another process is the program.
    Stopping,
    MainPid,
    /// A word of the tree.
    Gate(Word),
    /// The first script of those that run ends, and stood for its signal or not.
    Controlled(bool),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Word {
    Open,
    Once,
    Closed,
    Stop,
    Fail,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Remains {
    Nothing,
    /// In its session.
    Something,
    /// In a session of its own.
    Elsewhere,
    /// A process that is the program from now on, if the machine says so.
    Heir,
}

const PAUSES: [Command; 3] =
    [Command::Signal(Signal::STOP), Command::Signal(Signal::CONT), Command::Signal(Signal::KILL)];

const LETTERS: [Command; 4] = [Command::Up, Command::Down, Command::Once, Command::Exit];

impl World {
    fn new(restart: Restart, stop: Stop, enabled: bool) -> World {
        World::awaiting(Awaits::Nothing, restart, stop, enabled)
    }

    fn awaiting(awaits: Awaits, restart: Restart, stop: Stop, enabled: bool) -> World {
        let rules = Rules { restart, stop, exits_kept: 2, forking: Forking::Follow, awaits };
        World {
            machine: Machine::new(rules, enabled, Stamp::default()),
            awaits,
            now: 1000,
            next_pid: 1,
            dead: None,
            program: None,
            finish: None,
            remains: false,
            elsewhere: false,
            ending: false,
            sweeping: None,
            follows: false,
            published: None,
            published_ready: (false, StateName::Down),
            said: false,
            unwell: false,
            done: false,
            stops_itself: false,
            named: None,
            disturbed: false,
            full: false,
            editing: false,
            scripted: false,
            gated: false,
            may_start: true,
            of_tree: false,
            asking: Vec::new(),
            signals: Vec::new(),
            last_spawn: None,
            asked: false,
            owed: false,
            told_to_leave: false,
            left: false,
            killed: false,
        }
    }

    fn stamp(&self) -> Stamp {
        let seconds = i64::try_from(self.now).expect("a small time");
        Stamp {
            moment: Moment(0).plus(UNIT * u32::try_from(self.now).expect("a small time")),
            wall: Wall { seconds, nanos: 0 },
        }
    }

    fn moves(&self) -> Vec<Move> {
        let mut moves: Vec<Move> = LETTERS.map(Move::Letter).into();
        moves.extend([Move::Retire, Move::Time, Move::SpawnsFail]);
        if self.disturbed {
            moves.extend(PAUSES.map(Move::Letter));
            moves.push(Move::RetireNow);
            moves.extend([Move::Reconfigured, if self.full { Move::Space } else { Move::FullDisk }]);
            moves.push(if self.editing { Move::EditEnds } else { Move::Edits });
        }
        if self.gated {
            moves.extend([Word::Open, Word::Once, Word::Closed, Word::Stop, Word::Fail].map(Move::Gate));
        }
        if self.scripted {
            moves.push(Move::Letter(Command::Signal(Signal::STOP)));
        }
        if !self.asking.is_empty() {
            moves.extend([Move::Controlled(true), Move::Controlled(false)]);
        }
        if matches!(self.program, Some((_, Process::Runs | Process::Stopped))) {
            let killed = How::Killed { signal: Signal::KILL, core: true };
            for how in [How::Exited(0), How::Exited(1), killed] {
                moves.push(Move::Exit(how, Remains::Nothing, false));
            }
            if self.disturbed {
                moves.push(Move::Exit(How::Unknown, Remains::Nothing, true));
                moves.push(Move::Exit(How::Exited(1), Remains::Something, true));
            }
        }
        if matches!(self.finish, Some((_, Process::Runs))) {
            moves.push(Move::FinishExits);
        }
        if self.follows && matches!(self.program, Some((_, Process::Runs))) {
            moves.push(Move::Exit(How::Exited(0), Remains::Heir, true));
            moves.push(Move::Exit(How::Exited(1), Remains::Heir, false));
            moves.push(Move::Exit(How::Exited(1), Remains::Elsewhere, false));
            moves.push(Move::Letter(Command::Signal(Signal::TERM)));
        }
        if self.sweeping.is_some() {
            moves.push(Move::RemainsEnd);
        }
        if self.awaits != Awaits::Nothing {
            moves.push(Move::Unwell);
        }
        if self.awaits == Awaits::Word {
            moves.extend([Move::Ready, Move::Stopping, Move::MainPid]);
        }
        moves
    }

    fn make(&mut self, step: Move) -> Result<(), String> {
        match step {
            Move::Letter(command) => {
                let starts = matches!(command, Command::Up | Command::Once);
                self.asked |= starts;
                let down =
                    matches!(self.machine.phase(), Phase::Down | Phase::Failed | Phase::Waiting { .. } | Phase::Held);
                self.owed = (self.owed || (starts && down)) && !matches!(command, Command::Down | Command::Exit);
                self.told_to_leave |= command == Command::Exit;
                self.ending = (self.ending || command == Command::Down) && !starts;
                self.done &= command != Command::Down;
                self.feed(Event::Command(command), true)
            }
            Move::Retire => {
                self.done = false;
                self.owed = false;
                self.ending = true;
                self.told_to_leave = true;
                self.feed(Event::Retire(None), true)
            }
            Move::RetireNow => {
                self.owed = false;
                self.ending = true;
                self.told_to_leave = true;
                self.feed(Event::Retire(Some(Duration::ZERO)), true)
            }
            Move::Exit(how, remains, finish) => self.exit(how, remains, finish),
            Move::FinishExits => {
                let Some((pid, process)) = &mut self.finish else {
                    return Ok(());
                };
                *process = Process::Zombie;
                let ended = Ended { pid: *pid, how: How::Exited(0), oom: false, left: Left::default(), finish: false };
                self.feed(Event::Exited(ended), true)
            }
            Move::RemainsEnd => {
                self.remains = false;
                self.elsewhere &= self.sweeping != Some(true);
                self.sweeping = None;
                self.feed(Event::Swept, true)
            }
            Move::Time => {
                self.now += 1;
                self.feed(Event::Tick, true)
            }
            Move::SpawnsFail => {
                self.now += 1;
                self.feed(Event::Tick, false)
            }
            Move::Edits => {
                self.editing = true;
                Ok(())
            }
            Move::EditEnds => {
                self.editing = false;
                Ok(())
            }
            Move::FullDisk => {
                self.full = true;
                Ok(())
            }
            Move::Space => {
                self.full = false;
                Ok(())
            }
            Move::Ready => {
                let awaited = self.machine.readiness() == Readiness::Awaited;
                self.said |= awaited && matches!(self.machine.phase(), Phase::Up { .. });
                self.feed(Event::Ready, true)
            }
            Move::Stopping => {
                self.stops_itself |= matches!(self.machine.phase(), Phase::Up { .. });
                self.feed(Event::Stopping, true)?;
                self.feed(Event::Extend(UNIT), true)
            }
            Move::MainPid => {
                self.named = Some(self.pid());
                self.feed(Event::MainPid(self.named.expect("just made")), true)?;
                self.named = None;
                Ok(())
            }
            Move::Unwell => {
                let runs = matches!(self.machine.phase(), Phase::Up { .. });
                self.signals.clear();
                self.unwell |= runs;
                self.feed(Event::Unwell("no".to_owned()), true)?;
                if runs && self.signals != [Signal::TERM, Signal::CONT] {
                    return Err(format!("not well, and sent {:?}", self.signals));
                }
                Ok(())
            }
            Move::Gate(word) => self.hear(word),
            Move::Controlled(done) => {
                let (command, pid) = self.asking.remove(0);
                self.controlled(command, pid, done)
            }
            Move::Reconfigured => {
                let configured = Configured { at_once: None, changed: true, enabled: true, mistake: None };
                self.feed(Event::Configured(configured), true)
            }
        }
    }

    fn hear(&mut self, word: Word) -> Result<(), String> {
        let runs = matches!(self.machine.phase(), Phase::Up { .. });
        let stops = matches!(word, Word::Stop | Word::Fail);
        self.of_tree |= runs && stops;
        self.may_start = word == Word::Open || (word == Word::Once && !runs);
        if word == Word::Fail {
            self.owed = false;
        }
        let why = || "no".to_owned();
        self.feed(
            Event::Gate(match word {
                Word::Open => Gate::Open,
                Word::Once => Gate::Once,
                Word::Closed => Gate::Closed(why()),
                Word::Stop => Gate::Stop(why()),
                Word::Fail => Gate::Fail(why()),
            }),
            true,
        )?;
        if stops && matches!(self.machine.phase(), Phase::Up { .. }) {
            return Err("it runs on".to_owned());
        }
        if word == Word::Fail && matches!(self.machine.phase(), Phase::Waiting { .. } | Phase::Held) {
            return Err("it waits on".to_owned());
        }
        Ok(())
    }

    fn exit(&mut self, how: How, remains: Remains, finish: bool) -> Result<(), String> {
        let Some((pid, process)) = &mut self.program else {
            return Ok(());
        };
        let pid = *pid;
        *process = Process::Zombie;
        self.remains = matches!(remains, Remains::Something | Remains::Heir);
        self.elsewhere |= remains == Remains::Elsewhere;
        self.killed = false;
        let heir = match remains {
            Remains::Heir => Some(Heir { pid: self.pid(), same_executable: false, detached: true }),
            Remains::Nothing | Remains::Something | Remains::Elsewhere => None,
        };
        let left = Left { session: self.remains, any: self.remains || self.elsewhere, heir };
        self.done = how.success() && matches!(self.machine.phase(), Phase::Up { .. });
        let unwell = self.unwell && self.machine.want() == Want::Up && !self.told_to_leave;
        self.feed(Event::Exited(Ended { pid, how, oom: false, left, finish }), true)?;
        if (unwell || self.of_tree) && self.machine.want() == Want::Up && matches!(self.machine.phase(), Phase::Down) {
            return Err("what the tree has stopped is forgotten".to_owned());
        }
        if unwell && matches!(self.machine.phase(), Phase::Down) {
            return Err("what was not well is not started again".to_owned());
        }
        Ok(())
    }

    /// A script has answered: the signal follows unless it stood for it, and unless its program is gone.
    fn controlled(&mut self, command: Command, pid: Pid, done: bool) -> Result<(), String> {
        let runs = matches!(self.program, Some((own, Process::Runs | Process::Stopped)) if own == pid);
        self.signals.clear();
        self.feed(Event::Controlled { command, pid, done }, true)?;
        let expected = match command {
            _ if !runs => Vec::new(),
            Command::Down if done => vec![Signal::CONT],
            Command::Down => vec![Signal::TERM, Signal::CONT],
            Command::Signal(signal) if !done => vec![signal],
            _ => Vec::new(),
        };
        if self.signals != expected {
            return Err(format!("{command:?}, stood for: {done}, sends {:?}, not {expected:?}", self.signals));
        }
        Ok(())
    }

    /// Feeds an event and does what the machine orders, checking each order.
    fn feed(&mut self, event: Event, spawns_work: bool) -> Result<(), String> {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            let now = self.stamp();
            let mut actions = VecDeque::from(self.machine.handle(now, event));
            while let Some(action) = actions.pop_front() {
                if self.left {
                    return Err(format!("{action:?} after Leave"));
                }
                match action {
                    Action::Spawn => events.push_back(self.spawn(spawns_work)?),
                    Action::SpawnFinish(_) => events.push_back(self.spawn_finish(spawns_work)?),
                    Action::Control(command, pid) if self.scripted => {
                        // One of a kind at a time; what an older one says of a program that is gone is passed over.
                        self.asking.retain(|(other, _)| *other != command);
                        self.asking.push((command, pid));
                    }
                    Action::Control(command, pid) => {
                        let answer = Event::Controlled { command, pid, done: false };
                        let orders = self.machine.handle(now, answer);
                        orders.into_iter().rev().for_each(|order| actions.push_front(order));
                    }
                    Action::Signal(pid, signal) => {
                        self.signals.push(signal);
                        self.signal(pid, signal)?;
                    }
                    // What was the program goes on beside it, and is no business of the machine's.
                    Action::Follow(pid) if self.named == Some(pid) => self.program = Some((pid, Process::Runs)),
                    Action::Follow(pid) => {
                        if !self.remains || !matches!(self.program, Some((_, Process::Zombie))) {
                            return Err("follows what is not there".to_owned());
                        }
                        // The one that ended is reaped once the record names the other.
                        self.remains = false;
                        self.dead = self.program.map(|(dead, _)| dead);
                        self.program = Some((pid, Process::Runs));
                    }
                    Action::Look => events.push_back(Event::Left(self.remains || self.elsewhere)),
                    Action::Sweep { leader, signal: _, whole } => {
                        if let Some(leader) = leader
                            && self.program != Some((leader, Process::Zombie))
                        {
                            return Err(format!("sweeps after {leader}, which is {:?}", self.program));
                        }
                        self.sweeping = Some(whole || self.sweeping == Some(true));
                        if !self.remains && (!whole || !self.elsewhere) {
                            self.sweeping = None;
                            events.push_back(Event::Swept);
                        }
                    }
                    Action::Publish if self.full => events.push_back(Event::PublishFailed),
                    Action::Publish => {
                        self.published = Some(self.machine.status());
                        self.published_ready = (self.machine.is_ready(), self.machine.state_name());
                    }
                    Action::Reap(pid) => self.reap(pid)?,
                    Action::Reload => {}
                    Action::Leave => self.leave()?,
                }
            }
        }
        self.check()
    }

    fn spawn(&mut self, works: bool) -> Result<Event, String> {
        if matches!(self.program, Some((_, Process::Runs | Process::Stopped))) {
            return Err("starts a second copy".to_owned());
        }
        if matches!(self.finish, Some((_, Process::Runs))) {
            return Err("starts the program while finish runs".to_owned());
        }
        if self.told_to_leave {
            return Err("starts while it is leaving".to_owned());
        }
        if self.remains {
            return Err("starts while something of the last one runs".to_owned());
        }
        if !self.may_start {
            return Err("starts behind a closed gate".to_owned());
        }
        if matches!(self.machine.gate(), Gate::Closed(_)) {
            // The one start is made.
            self.may_start = false;
        }
        if self.last_spawn == Some(self.now) && !self.asked && !self.gated {
            return Err("starts are not paced".to_owned());
        }
        if self.editing {
            // The files are being written: nothing is tried, and what was asked for is still to come.
            return Ok(Event::Deferred(Moment(0).plus(UNIT * u32::try_from(self.now + 1).expect("a small time"))));
        }
        self.last_spawn = Some(self.now);
        self.asked = false;
        self.owed = false;
        if !works {
            return Ok(Event::SpawnFailed(NotStarted { why: "no".to_owned(), shortage: false }));
        }
        (self.said, self.unwell, self.done) = (false, false, false);
        self.of_tree = false;
        self.stops_itself = false;
        // A zombie keeps its pid until it is reaped: the new program gets another one.
        self.killed = false;
        let pid = self.pid();
        self.program = Some((pid, Process::Runs));
        Ok(Event::Spawned(pid))
    }

    fn spawn_finish(&mut self, works: bool) -> Result<Event, String> {
        if !matches!(self.program, Some((_, Process::Zombie))) || self.remains {
            return Err("finish starts before the program has ended".to_owned());
        }
        if !works {
            return Ok(Event::FinishFailed("no".to_owned()));
        }
        let pid = self.pid();
        self.finish = Some((pid, Process::Runs));
        Ok(Event::FinishSpawned(pid))
    }

    fn pid(&mut self) -> Pid {
        let pid = Pid::new(self.next_pid).expect("positive");
        self.next_pid += 1;
        pid
    }

    fn signal(&mut self, pid: Pid, signal: Signal) -> Result<(), String> {
        for (own, process) in [&mut self.program, &mut self.finish].into_iter().flatten() {
            if *own == pid && *process != Process::Reaped {
                if signal == Signal::STOP {
                    *process = Process::Stopped;
                } else if signal == Signal::CONT && *process == Process::Stopped {
                    *process = Process::Runs;
                }
                self.killed |= signal == Signal::KILL;
                return Ok(());
            }
        }
        Err(format!("signals {pid}, which is not ours"))
    }

    fn reap(&mut self, pid: Pid) -> Result<(), String> {
        if self.dead == Some(pid) {
            self.dead = None;
            return self.record_is_true_of_the_reaped(pid);
        }
        for slot in [&mut self.program, &mut self.finish] {
            if let Some((own, process)) = slot
                && *own == pid
            {
                if *process != Process::Zombie {
                    return Err(format!("reaps {pid}, which is {process:?}"));
                }
                *process = Process::Reaped;
                break;
            }
        }
        // Where the program was replaced before the dead one was reaped, the slot is the new one's.
        self.record_is_true_of_the_reaped(pid)
    }

    fn record_is_true_of_the_reaped(&self, pid: Pid) -> Result<(), String> {
        match self.published {
            Some(status) if status.pid == Some(pid) && !self.full => Err(format!("{pid} is reaped, its record stands")),
            Some(_) | None => Ok(()),
        }
    }

    fn leave(&mut self) -> Result<(), String> {
        self.left = true;
        let alive = |slot: Option<(Pid, Process)>| matches!(slot, Some((_, Process::Runs | Process::Stopped)));
        if alive(self.program) || alive(self.finish) || self.remains || (self.ending && self.elsewhere) {
            return Err("leaves something running".to_owned());
        }
        if !self.told_to_leave {
            return Err("leaves untold".to_owned());
        }
        Ok(())
    }

    /// What must hold after every event.
    fn check(&self) -> Result<(), String> {
        let status = self.machine.status();
        if matches!(self.machine.phase(), Phase::Starting | Phase::StartingFinish | Phase::Looking { .. }) {
            return Err("a spawn is not answered".to_owned());
        }
        if !self.full && !self.left && self.published != Some(status) && self.machine.deadline().is_none() {
            return Err(format!("the record says {:?}, true is {status:?}", self.published));
        }
        self.check_readiness()?;
        self.check_standing()?;
        if self.owed && matches!(self.machine.phase(), Phase::Down | Phase::Failed) {
            return Err("a start that was asked for is forgotten".to_owned());
        }
        if self.ending && self.elsewhere && matches!(self.machine.phase(), Phase::Down | Phase::Failed) {
            return Err("counts as down while something of it runs".to_owned());
        }
        if self.dead.is_some() {
            return Err("a program that was followed is not reaped".to_owned());
        }
        let process = match self.machine.phase() {
            Phase::Up { pid, .. } | Phase::Stopping { pid, .. } => Some((*pid, self.program)),
            Phase::Finishing { pid, .. } => Some((*pid, self.finish)),
            Phase::Sweeping { pid: Some(pid), .. } => Some((*pid, self.program)),
            Phase::Sweeping { pid: None, .. } | Phase::Looking { .. } => None,
            Phase::Down | Phase::Failed | Phase::Waiting { .. } | Phase::Held | Phase::Starting => None,
            Phase::StartingFinish | Phase::Gone => None,
        };
        match process {
            Some((pid, Some((own, _)))) if own != pid => Err(format!("phase has {pid}, the world {own}")),
            Some((_, Some((_, Process::Reaped)))) => Err("a phase has a process that was reaped".to_owned()),
            Some((_, None)) => Err("a phase has a process that never was".to_owned()),
            Some((_, Some(_))) => Ok(()),
            None => {
                let runs = |slot: Option<(Pid, Process)>| matches!(slot, Some((_, Process::Runs | Process::Stopped)));
                if runs(self.program) || runs(self.finish) {
                    return Err("a child is left behind".to_owned());
                }
                if matches!(self.program, Some((_, Process::Zombie))) {
                    return Err("a zombie is left behind".to_owned());
                }
                if status.running != Running::Nothing {
                    return Err("nothing runs, and the status says it does".to_owned());
                }
                Ok(())
            }
        }
    }

    /// Whoever needs the module is told the truth.
    fn check_readiness(&self) -> Result<(), String> {
        let ready = self.machine.is_ready();
        let runs = matches!(self.program, Some((_, Process::Runs | Process::Stopped)));
        let up = matches!(self.machine.phase(), Phase::Up { .. });
        let may = match self.awaits {
            Awaits::Nothing => up,
            Awaits::Word => up && self.said,
            Awaits::Exit => self.done && matches!(self.machine.phase(), Phase::Down),
        };
        if ready != may {
            return Err(format!("ready is {ready}, and may be {may}"));
        }
        let published = self.published_ready == (ready, self.machine.state_name());
        if !self.full && !self.left && !published && self.machine.deadline().is_none() {
            return Err(format!("the record says {:?}, and ready is {ready}", self.published_ready));
        }
        if (self.unwell || self.stops_itself) && up {
            return Err("what is not well, or ends, counts as up".to_owned());
        }
        if self.machine.cause() != &Cause::Asked && !((self.unwell || self.stops_itself || self.of_tree) && runs) {
            return Err("a cause without a program".to_owned());
        }
        Ok(())
    }

    /// The tree is told the truth.
    fn check_standing(&self) -> Result<(), String> {
        let standing = self.machine.standing(0);
        let runs = |slot: Option<(Pid, Process)>| matches!(slot, Some((_, Process::Runs | Process::Stopped)));
        if (runs(self.program) || runs(self.finish) || self.remains) && !standing.runs {
            return Err(format!("something runs, and it stands as {standing:?}"));
        }
        let waits = matches!(self.machine.phase(), Phase::Held | Phase::Waiting { .. });
        if waits && matches!(self.machine.gate(), Gate::Fail(_)) {
            return Err("it waits, and was given up".to_owned());
        }
        if standing.may && self.machine.phase() == &Phase::Held {
            return Err("it is held, and the gate is open".to_owned());
        }
        let may_rest = matches!(standing.stand, Stand::Failed | Stand::Ready);
        if standing.wanted && !standing.runs && standing.stand != Stand::Waiting && !may_rest {
            return Err(format!("it is to run, and nothing will come of it: {standing:?}"));
        }
        Ok(())
    }

    /// Everything that the future depends on, with times relative to now and pids by their role.
    fn digest(&self) -> String {
        let relative = |moment: Moment| {
            let ahead = moment.since(self.stamp().moment).as_secs();
            let behind = self.stamp().moment.since(moment).as_secs().min(3);
            (ahead, behind)
        };
        let history = self.machine.history();
        // Those out of the interval are dropped when the next one comes.
        let recent = history.counted.iter().filter(|(at, _)| self.stamp().moment.since(*at) <= INTERVAL);
        let counted: Vec<_> = recent.map(|(at, core)| (relative(*at), *core)).collect();
        let role = |pid: Option<Pid>| {
            pid.map(|pid| (self.program.map(|(own, _)| own == pid), self.finish.map(|(own, _)| own == pid)))
        };
        let phase = match self.machine.phase() {
            Phase::Waiting { until } => format!("waiting {:?}", relative(*until)),
            Phase::Stopping { paused, kill_at, killed, .. } => {
                format!("stopping {paused} {killed} {:?}", kill_at.map(relative))
            }
            Phase::Sweeping { pid, kill_at, finish, whole } => {
                format!("sweeping {} {whole} {finish:?} {:?}", pid.is_some(), kill_at.map(relative))
            }
            Phase::Finishing { kill_at, .. } => format!("finishing {:?}", kill_at.map(relative)),
            Phase::Up { paused, .. } => format!("up {paused}"),
            Phase::Held => "held".to_owned(),
            Phase::Down => "down".to_owned(),
            Phase::Failed => "failed".to_owned(),
            Phase::Gone => "gone".to_owned(),
            Phase::Starting | Phase::StartingFinish | Phase::Looking { .. } => "starting".to_owned(),
        };
        format!(
            "{phase} {:?} {} {:?} {:?} {:?} {:?} {} {} {} {} {:?} {:?} {:?} {}",
            self.machine.want(),
            self.machine.intentions(),
            self.machine.deadline().map(relative),
            history.last_start.map(relative),
            counted,
            history.streak.min(2),
            self.remains,
            self.told_to_leave,
            self.left,
            self.full,
            self.program.map(|(_, process)| process),
            self.finish.map(|(_, process)| process),
            role(self.published.and_then(|status| status.pid)),
            self.last_spawn == Some(self.now),
        ) + &format!(" {} {} {}", self.gated, self.may_start, self.of_tree)
            + &format!(
                " {} {} {} {}",
                self.owed,
                self.editing,
                self.asked,
                self.published == Some(self.machine.status())
            )
            + &format!(" {} {} {:?}", self.elsewhere, self.ending, self.sweeping)
            + &format!(
                " {:?}",
                self.asking.iter().map(|(command, pid)| (*command, role(Some(*pid)))).collect::<Vec<_>>()
            )
    }
}

/// Walks breadth first from a world; returns how many states there are.
fn walk(start: World) -> usize {
    let mut seen: HashSet<String> = HashSet::new();
    let mut worlds: Vec<World> = Vec::new();
    let mut parents: Vec<Option<(usize, Move)>> = Vec::new();
    let mut first = start;
    first.feed(Event::Begin, true).expect("it begins");
    seen.insert(first.digest());
    worlds.push(first);
    parents.push(None);
    let mut at = 0;
    while at < worlds.len() {
        let world = worlds[at].clone();
        let moves = if world.left { Vec::new() } else { world.moves() };
        for step in moves {
            let mut next = world.clone();
            let result = next.make(step);
            if let Err(fault) = result {
                let mut path = vec![format!("{step:?}")];
                let mut here = at;
                while let Some((before, step)) = parents[here] {
                    path.push(format!("{step:?}"));
                    here = before;
                }
                path.reverse();
                panic!("{fault}\n  after: {}\n  in: {:?}", path.join(", "), world.machine);
            }
            if seen.insert(next.digest()) {
                worlds.push(next);
                parents.push(Some((at, step)));
                assert!(worlds.len() < 200_000, "the state space does not close");
            }
        }
        assert!(leaves_when_told(&world), "dx does not lead to Leave from {:?}", world.machine);
        at += 1;
    }
    worlds.len()
}

/// From every state `dx` alone leads to Leave, as long as time passes and a program that was killed ends.
fn leaves_when_told(world: &World) -> bool {
    let mut world = world.clone();
    world.full = false;
    world.editing = false;
    if world.left {
        return true;
    }
    for command in [Command::Down, Command::Exit] {
        world.make(Move::Letter(command)).expect("no fault");
    }
    for _ in 0..20 {
        if world.left {
            return true;
        }
        if world.killed && matches!(world.program, Some((_, Process::Runs | Process::Stopped))) {
            let killed = How::Killed { signal: Signal::KILL, core: false };
            world.exit(killed, Remains::Nothing, false).expect("no fault");
        } else if world.killed && matches!(world.finish, Some((_, Process::Runs))) {
            world.make(Move::FinishExits).expect("no fault");
        } else if world.sweeping.is_some() {
            world.make(Move::RemainsEnd).expect("no fault");
        } else {
            world.make(Move::Time).expect("no fault");
        }
    }
    world.left
}

fn stop(timeout: u32) -> Stop {
    Stop { timeout: Some(UNIT * timeout), scope: Scope::Tree, ..Stop::default() }
}

#[test]
fn every_order_of_events_is_borne() {
    let plain = Restart { delay: UNIT, interval: INTERVAL, ..Restart::default() };
    let states = walk(World { disturbed: true, ..World::new(plain, stop(1), true) });
    assert!(states > 100, "only {states} states were reached");
}

#[test]
fn and_so_it_is_in_a_tree_that_has_words_for_it() {
    let plain = Restart { delay: UNIT, interval: INTERVAL, ..Restart::default() };
    let states = walk(World { gated: true, ..World::new(plain, stop(1), true) });
    assert!(states > 100, "only {states} states were reached");
    walk(World {
        gated: true,
        ..World::awaiting(Awaits::Word, Restart { when: When::Failure, ..plain }, stop(1), true)
    });
}

#[test]
fn and_so_it_is_with_scripts_that_stand_for_signals_or_not() {
    let plain = Restart { delay: UNIT, interval: INTERVAL, ..Restart::default() };
    walk(World { scripted: true, ..World::new(plain, stop(1), true) });
}

#[test]
fn and_so_it_is_with_limits_and_a_growing_pause() {
    let limited = Restart {
        delay: UNIT,
        max_delay: Some(UNIT * 2),
        max_tries: Some(1),
        max_tries_if_coredumped: Some(1),
        interval: INTERVAL,
        when: When::Failure,
    };
    walk(World::new(limited, stop(1), true));
    walk(World::new(Restart { when: When::Never, ..limited }, stop(1), false));
}

#[test]
fn and_so_it_is_with_programs_that_go_to_the_background() {
    let plain = Restart { delay: UNIT, interval: INTERVAL, ..Restart::default() };
    let states = walk(World { follows: true, ..World::new(plain, stop(1), true) });
    assert!(states > 100, "only {states} states were reached");
}

#[test]
fn and_so_it_is_with_programs_that_say_when_they_are_ready_or_are_not_well() {
    let plain = Restart { delay: UNIT, interval: INTERVAL, ..Restart::default() };
    let growing = Restart { max_delay: Some(UNIT * 2), when: When::Failure, ..plain };
    let states = walk(World::awaiting(Awaits::Word, growing, stop(1), true));
    assert!(states > 100, "only {states} states were reached");
    walk(World::awaiting(Awaits::Exit, Restart { when: When::Never, ..plain }, stop(1), true));
}

#[test]
fn a_walk_finds_faults() {
    // The same walk over a world that takes every record for written catches what the machine then misses.
    let mut world = World::new(Restart::default(), stop(1), true);
    world.feed(Event::Begin, true).expect("it begins");
    world.published = None;
    assert!(world.check().is_err());
    world.published = Some(world.machine.status());
    world.program = Some((Pid::new(99).expect("positive"), Process::Runs));
    assert!(world.check().is_err());
    assert_eq!(world.machine.want(), Want::Up);
}
