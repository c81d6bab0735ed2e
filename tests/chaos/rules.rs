//! The rules of a tree whose modules hang together, and whether what is seen keeps them: from what the programs note, from
//! the files and from `/proc`.
//!
//! Must never share code with the program, nor forgive what lasts.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::forest::{Forest, Module};
use super::processes::{self, Process};
use super::records;
use super::world::World;

/// What needs another module is started while that is ready. The word of its death goes to three threads before the last
/// start that it is too late for, and this machine is busy.
const SLACK: Duration = Duration::from_secs(10);
/// The same for one that has begun again and is not ready yet, in seconds.
const SLACK_OF_STARTS: f64 = 3.0;

/// The last program of a module that made itself heard.
struct Life {
    pid: i32,
    /// The line of the notes in which it did, and its time.
    line: u64,
    at: f64,
    ready: bool,
    /// When one that was ready was seen last.
    seen: Option<Instant>,
}

/// The checker.
pub struct Rules<'a> {
    world: &'a World,
    forest: &'a Forest,
    notes: File,
    /// What was read of the last line.
    rest: String,
    /// How many lines the programs wrote.
    pub lines: u64,
    lives: BTreeMap<String, Life>,
    /// The modules of processes that are known.
    modules: BTreeMap<(i32, u64), String>,
    /// What was edited in this round, modules and groups: what they need is not what it was.
    pub edited: BTreeSet<String>,
    /// The line that this round began with.
    began: u64,
    /// How often everything was looked at.
    pub looks: u64,
}

impl<'a> Rules<'a> {
    /// Rules that have seen nothing.
    pub fn new(world: &'a World, forest: &'a Forest) -> Rules<'a> {
        Rules {
            world,
            forest,
            notes: File::open(world.dir.join("notes")).expect("the notes"),
            rest: String::new(),
            lines: 0,
            lives: BTreeMap::new(),
            modules: BTreeMap::new(),
            edited: BTreeSet::new(),
            began: 0,
            looks: 0,
        }
    }

    /// A round begins in which nothing was edited yet.
    pub fn begin(&mut self) {
        self.began = self.lines;
        self.edited.clear();
    }

    /// One look at everything.
    pub fn look(&mut self) {
        self.looks += 1;
        for life in self.lives.values_mut().filter(|life| life.ready) {
            if Process::of(life.pid).is_some_and(|process| process.is_alive()) {
                life.seen = Some(Instant::now());
            }
        }
        // To look at all processes takes its time; a second copy would stay.
        if self.looks % 4 == 1 {
            self.one_of_each();
        }
        self.read();
    }

    /// Of each module there is one program.
    fn one_of_each(&mut self) {
        let mut programs: BTreeMap<String, Process> = BTreeMap::new();
        let leaders: Vec<Process> =
            processes::all().filter(|process| process.session == process.pid && process.is_alive()).collect();
        let known: BTreeSet<(i32, u64)> = leaders.iter().map(|process| (process.pid, process.started)).collect();
        self.modules.retain(|process, _| known.contains(process));
        for process in leaders {
            let key = (process.pid, process.started);
            if !self.modules.contains_key(&key) {
                let own = processes::variable(process.pid, "SVTREE_CHAOS").map(std::path::PathBuf::from);
                let Some(module) = process.module().filter(|_| own.as_ref() == Some(&self.world.dir)) else { continue };
                self.modules.insert(key, module);
            }
            let module = self.modules[&key].clone();
            if let Some(other) = programs.insert(module.clone(), process.clone())
                && other.still_lives()
                && process.still_lives()
                && other.still_lives()
            {
                let both = format!("{}\n{}", other.describe(), process.describe());
                self.wrong(&module, &format!("two programs at the same time:\n{both}"));
            }
        }
    }

    /// Reads on in the notes.
    fn read(&mut self) {
        let mut bytes = Vec::new();
        self.notes.read_to_end(&mut bytes).expect("the notes");
        self.rest += &String::from_utf8_lossy(&bytes);
        while let Some((line, rest)) = self.rest.split_once('\n') {
            let (line, rest) = (line.to_owned(), rest.to_owned());
            self.rest = rest;
            self.lines += 1;
            let words: Vec<&str> = line.split(' ').collect();
            match (words.as_slice(), words.get(2).map(|pid| pid.parse()), words.get(3).map(|at| at.parse())) {
                ([module, "starts", ..], Some(Ok(pid)), Some(Ok(at))) => self.started(module, pid, at),
                ([module, "ready", ..], Some(Ok(pid)), _) => {
                    if let Some(life) = self.lives.get_mut(*module).filter(|life| life.pid == pid) {
                        (life.ready, life.seen) = (true, Some(Instant::now()));
                    }
                }
                ([module, "twice", ..], ..) => self.wrong(module, "found another one of it alive when it started"),
                _ => self.world.violation(None, &format!("the notes say {line:?}")),
            }
        }
    }

    fn started(&mut self, name: &str, pid: i32, at: f64) {
        let forest = self.forest;
        let Some(module) = forest.modules.iter().find(|module| module.name == name) else {
            return self.world.violation(None, &format!("{name} started, and nobody knows it"));
        };
        if !self.is_edited(module) {
            for need in &module.needs {
                if let Some(what) = self.not_ready(need, at) {
                    self.wrong(name, &format!("it started, and {need}, which it needs, {what}"));
                }
            }
        }
        let seen = self.lives.get(name).and_then(|life| life.seen);
        self.lives.insert(name.to_owned(), Life { pid, line: self.lines, at, ready: false, seen });
    }

    /// What is wrong with a module that another one needs which started then.
    fn not_ready(&self, need: &str, at: f64) -> Option<String> {
        let Some(life) = self.lives.get(need) else { return Some("had never started".to_owned()) };
        match life.seen {
            None => Some("was never ready".to_owned()),
            Some(_) if !life.ready && at - life.at > SLACK_OF_STARTS => {
                Some(format!("had begun {:.2} s before and was not ready", at - life.at))
            }
            Some(seen) if seen.elapsed() > SLACK => Some(format!("was not ready for {:?}", seen.elapsed())),
            Some(_) => None,
        }
    }

    /// Whether what a module needs, or what it stands in, may have been edited.
    fn is_edited(&self, module: &Module) -> bool {
        let within = |edited: &String| {
            module.directory == *edited
                || module.directory.strip_prefix(edited).is_some_and(|rest| rest.starts_with('/'))
        };
        self.edited.iter().any(within)
    }

    fn wrong(&self, name: &str, what: &str) {
        let at = self.world.names.iter().position(|other| other == name);
        self.world.violation(at, &format!("{name}: {what}"));
    }

    /// Whether everything has come to rest: what is wanted is ready, down, has failed, or waits for what will not come.
    pub fn at_rest(&self, out: &BTreeSet<String>) -> Result<BTreeMap<String, Value>, String> {
        let mut states = BTreeMap::new();
        for (at, module) in self.forest.modules.iter().enumerate() {
            let home = self.world.home(at);
            let gone = out.iter().any(|out| self.forest.within(out).contains(&module.name));
            let state = records::state(&home.join("state.json"))?;
            match state {
                None if gone => {}
                Some(_) if gone => return Err(format!("{} was taken away, and is still there", module.name)),
                None => return Err(format!("{} has no state", module.name)),
                Some(state) => {
                    rests(&state).map_err(|why| format!("{} {why}: {state}", module.name))?;
                    states.insert(module.name.clone(), state);
                }
            }
        }
        Ok(states)
    }

    /// In groups whose members are started again together, and are all ready, each of them started after those before it, if only
    /// deaths were the cause of starts in this round.
    pub fn in_order(&self) -> Result<(), String> {
        let states = self.at_rest(&BTreeSet::new())?;
        let is_ready = |name: &String| states.get(name).is_some_and(|state| state["state"] == "ready");
        let whole = |units: &[Vec<String>]| units.iter().flatten().all(is_ready);
        for (group, units) in self.forest.together.iter().filter(|(_, units)| whole(units)) {
            for (at, unit) in units.iter().enumerate() {
                // What happens within a group is its own.
                let [name] = unit.as_slice() else { continue };
                let Some(life) = self.lives.get(name).filter(|life| life.line > self.began) else { continue };
                let earlier = |later: &&String| self.lives.get(*later).is_none_or(|later| later.line < life.line);
                if let Some(later) = units[at + 1..].iter().flatten().find(earlier) {
                    return Err(format!("in {group} {name} was started again, and not {later} after it"));
                }
            }
        }
        Ok(())
    }

    /// Whether every module is ready, once and by its own word.
    pub fn all_ready(&self) -> Result<(), String> {
        for (at, module) in self.forest.modules.iter().enumerate() {
            let state = records::state(&self.world.home(at).join("state.json"))?.unwrap_or_default();
            let life = self.lives.get(&module.name);
            let right = state["state"] == "ready"
                && life.is_some_and(|life| life.ready && state["pid"] == life.pid && Process::of(life.pid).is_some());
            if !right {
                return Err(format!("{} is not ready: {state}", module.name));
            }
        }
        Ok(())
    }
}

/// Whether a module that says this of itself has come to rest.
fn rests(state: &Value) -> Result<(), String> {
    let word = state["state"].as_str().unwrap_or_default();
    let reason = state["reason"].as_str().unwrap_or_default();
    match word {
        "ready" | "failed" => Ok(()),
        "down" if state["want"] != "up" => Ok(()),
        "down" => Err("is down, is wanted up, and waits for nothing".to_owned()),
        "waiting" if state["next_start"].is_null() && LASTING.iter().any(|lasts| reason.contains(lasts)) => Ok(()),
        _ => Err(format!("is {word}")),
    }
}

/// What does not change by itself.
const LASTING: [&str; 6] = [
    "which is down",
    "which has failed",
    "which is not there",
    "which is rejected",
    "waits for itself",
    "not complete",
];

/// The group that a reason says has failed for too many restarts, and how many it bears.
pub fn too_many(reason: &str) -> Option<(&str, usize)> {
    let (_, last) = reason.rsplit_once("group ")?;
    let (group, why) = last.split_once(" has failed: more than ")?;
    Some((group, why.split(' ').next()?.parse().ok()?))
}
