//! Machines and their tree, joined as the threads and the parent join them: words to a module and standings to the tree
//! keep their order and come when they like.
//!
//! Must never judge: what must hold is in `rules.rs`.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use svtree::pure::command::Command;
use svtree::pure::config::Awaits;
use svtree::pure::exit::{How, Pid, Signal};
use svtree::pure::machine::{Action, Ended, Event, Left, Machine, NotStarted, Phase, Readiness, Stopping, Taken};
use svtree::pure::standing::{Gate, Standing};
use svtree::pure::time::{Moment, Stamp, Wall};
use svtree::pure::tree::Tree;

use crate::law::{Law, Module, Scene};

/// The unit of the model's time.
pub const UNIT: Duration = Duration::from_secs(1);

/// What a thread is told.
#[derive(Clone, Debug)]
pub enum Mail {
    /// It begins, with what is recorded if anything is.
    Begin,
    Gate(Gate, u64),
}

/// What a thread takes over from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heritage {
    /// A thread that had a defect.
    Thread,
    /// Another svtree.
    Svtree,
}

/// What the parent is told.
#[derive(Clone, Copy, Debug)]
pub enum Report {
    Stands(Standing),
    /// The thread has ended; whether it left for good.
    Gone(bool),
}

/// A module with its thread and its program.
#[derive(Clone, Debug)]
pub struct Part {
    pub machine: Machine,
    /// Whether its thread lives.
    pub lives: bool,
    /// Whether the parent knows of a thread, and whether that has left for good.
    pub known: bool,
    pub away: bool,
    pub mail: VecDeque<Mail>,
    pub reports: VecDeque<Report>,
    /// The number of the last word, and the last that was told.
    pub bond: Option<(u64, Option<Standing>)>,
    pub program: Option<Pid>,
    /// How it has ended while no thread was there to see it.
    pub unseen: Option<(Pid, How)>,
    /// Whether it was told to end.
    pub told: bool,
    pub finish: Option<Pid>,
    /// Whether the next start fails.
    pub fails: bool,
    /// What its records say, as its last thread left them.
    record: Option<(Phase, Taken)>,
    heritage: Heritage,

    // What the rules go by.
    /// What the tree has heard last, and said last.
    pub heard: Option<Standing>,
    pub word: Option<(Gate, u64)>,
    /// The word that it has heard; a start that was free and is made is closed.
    pub force: Gate,
    /// What has to be gone when it is started again.
    pub before: Vec<(usize, Pid)>,
    /// When it was started.
    pub started: u64,
}

#[derive(Clone)]
pub struct World {
    pub scene: Rc<Scene>,
    pub law: Rc<Law>,
    pub tree: Tree,
    pub now: u64,
    pub parts: Vec<Part>,
    /// Whether the tree was told something since it was asked for orders.
    pub heard: bool,
    next_pid: i32,
    starts: u64,
    /// Programs that are to be gone in the end.
    pub doomed: Vec<(usize, Pid)>,
    /// Whether nothing has happened that makes svtree forget what it saw.
    pub remembers: bool,
    /// When the restarts of each group were heard of that count.
    pub counted: Vec<Vec<u64>>,
    /// Which groups fail or have failed, and have not been asked for since.
    pub failing: Vec<bool>,
}

/// What happens next.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Move {
    /// A thread reads what it was told, the parent what a thread tells.
    Read(usize),
    Hear(usize),
    /// The parent asks the tree for orders.
    Steer,
    Ready(usize),
    Exit(usize, How),
    FinishEnds(usize),
    Fails(usize),
    Letter(usize, Command),
    Time,
    Vanish(usize),
    /// The parent starts a thread in the place of one that has vanished.
    Begin(usize),
    TakeOver,
    /// Another scene of those that there are.
    Edit(usize),
}

impl Part {
    fn new(module: &Module) -> Part {
        Part {
            machine: Machine::new(module.rules, module.enabled, Stamp::default()),
            lives: false,
            known: false,
            away: false,
            mail: VecDeque::new(),
            reports: VecDeque::new(),
            bond: None,
            program: None,
            unseen: None,
            told: false,
            finish: None,
            fails: false,
            record: None,
            heritage: Heritage::Thread,
            heard: None,
            word: None,
            force: Gate::Open,
            before: Vec::new(),
            started: 0,
        }
    }

    /// What its records say.
    fn taken(&self) -> Taken {
        let machine = &self.machine;
        let [told, ending, asked, leaving] = machine.mind();
        Taken {
            want: machine.want(),
            until: match machine.phase() {
                Phase::Waiting { until } => Some(*until),
                _ => None,
            },
            failed: machine.phase() == &Phase::Failed,
            reason: machine.reason().map(str::to_owned),
            since: machine.since(),
            history: machine.history().clone(),
            told,
            ending,
            asked,
            leaving,
            stopping: match machine.phase() {
                Phase::Stopping { kill_at, killed, .. } => Some(Stopping { kill_at: *kill_at, killed: *killed }),
                _ => None,
            },
            cause: machine.cause().clone(),
            readiness: machine.readiness(),
            ..Taken::default()
        }
    }

    /// Whether its thread has done anything yet.
    pub fn has_begun(&self) -> bool {
        !matches!(self.mail.front(), Some(Mail::Begin))
    }

    /// The one start that was free is made, or not needed.
    pub fn uses_up(&mut self) {
        if self.force == Gate::Once {
            self.force = Gate::Closed("made".to_owned());
        }
    }

    pub fn is_up(&self) -> bool {
        matches!(self.machine.phase(), Phase::Up { .. })
    }
}

impl World {
    /// All of a scene, as svtree begins with it.
    pub fn new(scene: Scene) -> World {
        let law = Rc::new(Law::new(&scene));
        let scene = Rc::new(scene);
        let mut world = World {
            parts: scene.modules.iter().map(Part::new).collect(),
            counted: vec![Vec::new(); law.groups.len()],
            failing: vec![false; law.groups.len()],
            law,
            tree: Tree::new(false),
            now: 1000,
            heard: true,
            next_pid: 1,
            starts: 0,
            doomed: Vec::new(),
            remembers: true,
            scene,
        };
        world.plant();
        (0..world.parts.len()).for_each(|number| world.begin(number, None));
        world
    }

    pub fn stamp(&self) -> Stamp {
        let moment = Moment(self.now * 1_000_000_000);
        Stamp { moment, wall: Wall { seconds: i64::try_from(self.now).unwrap_or_default(), nanos: 0 } }
    }

    fn plant(&mut self) {
        let modules = self.scene.modules.iter().map(|module| (&module.name, module.needs.as_ref()));
        self.tree.plant(modules, &self.scene.groups, &std::collections::BTreeMap::new());
        for (module, _) in self.scene.modules.iter().zip(&self.parts).filter(|(_, part)| part.away) {
            self.tree.gone(&module.name, true);
        }
        self.heard = true;
    }

    /// The parent starts a thread.
    fn begin(&mut self, number: usize, heritage: Option<Heritage>) {
        let word = self.tree.first(&self.scene.modules[number].name);
        let module = &self.scene.modules[number];
        let mut machine = Machine::new(module.rules, module.enabled, self.stamp());
        let part = &mut self.parts[number];
        if let Some(heritage) = heritage
            && part.has_begun()
        {
            part.record = Some((part.machine.phase().clone(), part.taken()));
            part.heritage = heritage;
        }
        if let Some((_, taken)) = &part.record {
            machine.take_over(taken.clone());
        }
        if let Some((gate, _)) = &word {
            machine.stand_before(gate.clone());
        }
        part.machine = machine;
        part.bond = word.as_ref().map(|(_, given)| (*given, None));
        part.force = word.as_ref().map_or(Gate::Open, |(gate, _)| gate.clone());
        part.heard = None;
        part.word = word;
        (part.lives, part.known) = (true, true);
        part.mail = VecDeque::from([Mail::Begin]);
        self.heard = true;
    }

    fn begins(&mut self, number: usize) -> Result<(), String> {
        let part = &mut self.parts[number];
        let left = part.unseen.take();
        let lost = |pid, how| Ended { pid, how, oom: false, left: Left::default(), finish: false };
        match part.record.clone() {
            Some((Phase::Finishing { pid, .. }, _)) if part.finish == Some(pid) => {
                self.feed(number, Event::AdoptedFinish(pid))
            }
            Some((Phase::Up { pid, .. } | Phase::Stopping { pid, .. }, _)) => match left {
                Some((_, how)) if part.heritage == Heritage::Svtree => {
                    part.uses_up();
                    self.feed(number, Event::Lost(lost(pid, how)))
                }
                left => {
                    part.uses_up();
                    self.feed(number, Event::Adopted { pid, paused: false })?;
                    match left {
                        Some((_, how)) => self.feed(number, Event::Exited(lost(pid, how))),
                        None => Ok(()),
                    }
                }
            },
            Some(_) | None => self.feed(number, Event::Begin),
        }
    }

    /// Does what may happen next; what cannot happen now does nothing.
    pub fn make(&mut self, step: Move, scenes: &[Scene]) -> Result<(), String> {
        match step {
            Move::Read(number) => self.read(number),
            Move::Hear(number) => self.hear(number),
            Move::Steer => self.steer(),
            Move::Ready(number) => self.feed(number, Event::Ready),
            Move::Exit(number, how) => self.exit(number, how),
            Move::FinishEnds(number) => {
                let Some(pid) = self.parts[number].finish.take() else { return Ok(()) };
                if !self.parts[number].lives || !self.parts[number].has_begun() {
                    return Ok(());
                }
                let left = Left::default();
                self.feed(number, Event::Exited(Ended { pid, how: How::Exited(0), oom: false, left, finish: false }))
            }
            Move::Fails(number) => {
                self.parts[number].fails = true;
                Ok(())
            }
            Move::Letter(number, command) => {
                if matches!(command, Command::Up | Command::Once) {
                    self.law.chains[number].iter().for_each(|(place, _)| self.failing[*place] = false);
                }
                self.feed(number, Event::Command(command))
            }
            Move::Time => {
                self.now += 1;
                let due = |part: &Part| {
                    part.lives
                        && part.has_begun()
                        && part.machine.deadline().is_some_and(|at| at <= self.stamp().moment)
                };
                let due: Vec<usize> = (0..self.parts.len()).filter(|number| due(&self.parts[*number])).collect();
                due.into_iter().try_for_each(|number| self.feed(number, Event::Tick))
            }
            Move::Vanish(number) => {
                let part = &mut self.parts[number];
                part.lives = false;
                part.mail.clear();
                part.reports.push_back(Report::Gone(false));
                self.remembers = false;
                Ok(())
            }
            Move::Begin(number) => {
                self.begin(number, Some(Heritage::Thread));
                Ok(())
            }
            Move::TakeOver => {
                self.tree = Tree::new(false);
                for part in &mut self.parts {
                    part.mail.retain(|mail| matches!(mail, Mail::Begin));
                    part.reports.clear();
                    part.before.clear();
                    part.known = false;
                    part.away |= !part.lives && part.machine.phase() == &Phase::Gone;
                }
                self.plant();
                self.counted.iter_mut().for_each(Vec::clear);
                self.failing.fill(false);
                self.doomed.clear();
                self.remembers = false;
                for number in 0..self.parts.len() {
                    if !self.parts[number].away {
                        self.begin(number, Some(Heritage::Svtree));
                    }
                }
                Ok(())
            }
            Move::Edit(number) => {
                self.scene = Rc::new(scenes[number].clone());
                self.law = Rc::new(Law::new(&self.scene));
                self.plant();
                self.parts.iter_mut().for_each(|part| part.before.clear());
                self.doomed.clear();
                self.remembers = false;
                self.failing.fill(false);
                self.recount();
                Ok(())
            }
        }
    }

    fn read(&mut self, number: usize) -> Result<(), String> {
        let part = &mut self.parts[number];
        match part.mail.pop_front() {
            None => Ok(()),
            Some(Mail::Begin) => self.begins(number),
            Some(Mail::Gate(gate, given)) => {
                match &mut part.bond {
                    Some((number, _)) => *number = given,
                    None => part.bond = Some((given, None)),
                }
                part.force = gate.clone();
                if part.is_up() {
                    part.uses_up();
                }
                self.feed(number, Event::Gate(gate))
            }
        }
    }

    fn hear(&mut self, number: usize) -> Result<(), String> {
        let name = self.scene.modules[number].name.clone();
        self.heard = true;
        match self.parts[number].reports.pop_front() {
            None => Ok(()),
            Some(Report::Stands(standing)) => {
                let before = self.parts[number].heard.replace(standing);
                self.counts(number, before, standing, |world| {
                    world.tree.heard(&name, standing, world.stamp().moment);
                })
            }
            Some(Report::Gone(left)) => {
                self.tree.gone(&name, left);
                let part = &mut self.parts[number];
                (part.known, part.away) = (false, left);
                (part.heard, part.word) = (None, None);
                Ok(())
            }
        }
    }

    fn steer(&mut self) -> Result<(), String> {
        self.heard = false;
        let known: Vec<_> = self.parts.iter().map(|part| part.known).collect();
        let scene = Rc::clone(&self.scene);
        let place = |name: &_| scene.modules.iter().position(|module| module.name == *name);
        let orders = self.tree.orders(|name| place(name).is_some_and(|number| known[number]));
        let mut stops = Vec::new();
        for (name, gate, given) in orders {
            let Some(number) = place(&name) else { return Err(format!("a word for {name}, which is not there")) };
            let part = &mut self.parts[number];
            if matches!(gate, Gate::Stop(_) | Gate::Fail(_)) && part.heard.is_some_and(|standing| standing.runs) {
                stops.push(number);
            }
            part.word = Some((gate.clone(), given));
            // A thread that has ended reads nothing any more.
            if part.lives {
                part.mail.push_back(Mail::Gate(gate, given));
            }
        }
        self.check_words(&stops)
    }

    fn exit(&mut self, number: usize, how: How) -> Result<(), String> {
        let finish = self.scene.modules[number].finish;
        let part = &mut self.parts[number];
        let Some(pid) = part.program.take() else { return Ok(()) };
        // What is told to end does so by what it was told with.
        let how = if part.told { How::Killed { signal: Signal::TERM, core: false } } else { how };
        if !part.lives || !part.has_begun() {
            part.unseen = Some((pid, how));
            return Ok(());
        }
        self.feed(number, Event::Exited(Ended { pid, how, oom: false, left: Left::default(), finish }))
    }

    /// As a thread does: hands an event to the machine and does what that says, then tells how it stands.
    fn feed(&mut self, number: usize, event: Event) -> Result<(), String> {
        let now = self.stamp();
        let mut events = VecDeque::from([event]);
        let mut leaves = false;
        while let Some(event) = events.pop_front() {
            let deaths = self.deaths(number);
            let mut actions = VecDeque::from(self.parts[number].machine.handle(now, event));
            if self.deaths(number) > deaths {
                self.has_died(number);
            }
            while let Some(action) = actions.pop_front() {
                let part = &mut self.parts[number];
                match action {
                    Action::Spawn => events.push_back(self.spawn(number)?),
                    Action::SpawnFinish(_) => {
                        let pid = self.pid();
                        self.parts[number].finish = Some(pid);
                        events.push_back(Event::FinishSpawned(pid));
                    }
                    Action::Control(command, pid) => {
                        let answer = Event::Controlled { command, pid, done: false };
                        let orders = part.machine.handle(now, answer);
                        orders.into_iter().rev().for_each(|order| actions.push_front(order));
                    }
                    Action::Signal(pid, Signal::TERM | Signal::KILL) if part.program == Some(pid) => part.told = true,
                    Action::Look => events.push_back(Event::Left(false)),
                    Action::Sweep { .. } | Action::Follow(_) => return Err(format!("{action:?} of nothing")),
                    Action::Signal(..) | Action::Publish | Action::Reap(_) | Action::Reload => {}
                    Action::Leave => leaves = true,
                }
            }
        }
        let part = &mut self.parts[number];
        if let Some((given, told)) = &mut part.bond {
            let standing = part.machine.standing(*given);
            if told.replace(standing) != Some(standing) {
                part.reports.push_back(Report::Stands(standing));
            }
        }
        if leaves {
            part.lives = false;
            part.mail.clear();
            part.reports.push_back(Report::Gone(true));
        }
        Ok(())
    }

    pub fn deaths(&self, number: usize) -> u64 {
        self.parts[number].machine.standing(0).deaths
    }

    fn spawn(&mut self, number: usize) -> Result<Event, String> {
        self.check_start(number)?;
        let pid = self.pid();
        self.starts += 1;
        let starts = self.starts;
        let part = &mut self.parts[number];
        if std::mem::take(&mut part.fails) {
            return Ok(Event::SpawnFailed(NotStarted { why: "no".to_owned(), shortage: false }));
        }
        part.program = Some(pid);
        part.started = starts;
        part.told = false;
        Ok(Event::Spawned(pid))
    }

    fn pid(&mut self) -> Pid {
        let pid = Pid::new(self.next_pid).expect("positive");
        self.next_pid += 1;
        pid
    }

    /// What happens if nobody disturbs; `None`: nothing.
    pub fn calm(&self) -> Option<Move> {
        let all = || self.parts.iter().enumerate();
        let find = |is: &dyn Fn(&Part) -> bool| all().find(|(_, part)| is(part)).map(|(number, _)| number);
        let job = |number: &usize| self.scene.modules[*number].rules.awaits == Awaits::Exit;
        if let Some(number) = find(&|part| part.lives && !part.mail.is_empty()) {
            return Some(Move::Read(number));
        }
        if let Some(number) = find(&|part| !part.reports.is_empty()) {
            return Some(Move::Hear(number));
        }
        if self.heard {
            return Some(Move::Steer);
        }
        if let Some(number) = find(&|part| !part.lives && !part.known && !part.away) {
            return Some(Move::Begin(number));
        }
        if let Some(number) = find(&|part| part.program.is_some() && part.told) {
            return Some(Move::Exit(number, How::Exited(0)));
        }
        if let Some(number) = find(&|part| part.finish.is_some()) {
            return Some(Move::FinishEnds(number));
        }
        let coming = |part: &Part| part.is_up() && part.machine.readiness() == Readiness::Awaited;
        if let Some((number, _)) = all().find(|(_, part)| coming(part)) {
            return Some(if job(&number) { Move::Exit(number, How::Exited(0)) } else { Move::Ready(number) });
        }
        find(&|part| part.lives && part.machine.deadline().is_some()).map(|_| Move::Time)
    }

    /// Nobody disturbs from now on; `true` once nothing happens any more.
    pub fn settles(&mut self, steps: usize) -> Result<bool, String> {
        self.parts.iter_mut().for_each(|part| part.fails = false);
        for _ in 0..steps {
            let Some(step) = self.calm() else { return Ok(true) };
            self.make(step, &[])?;
        }
        Ok(false)
    }
}
