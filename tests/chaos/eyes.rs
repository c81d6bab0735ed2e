//! The look that is taken all the time: what must hold at every moment, whatever is being done.
//!
//! Must never ask the model. What takes the supervisor a moment is a suspicion first, and wrong only once it lasts.

use std::collections::HashMap;
use std::fs;
use std::hash::Hash;
use std::time::{Duration, Instant};

use super::processes::{self, Process};
use super::records::{self, Record};
use super::world::World;

/// A dead program stands in the record until what it left has ended: `stop.timeout` and some more.
const STALE: Duration = Duration::from_secs(8);
/// The record of a program that lives names it within this time.
const UNRECORDED: Duration = Duration::from_secs(6);
/// What ended is collected within this time,
const ZOMBIE: Duration = Duration::from_secs(5);
/// unless it stands in a record, or would if that were whole.
const ZOMBIE_RECORDED: Duration = STALE;
/// What others damaged is whole again within 5 s of their last blow; this machine is busy.
pub const HEALING: Duration = Duration::from_secs(10);

/// What is suspected, since when, and how often it was seen.
struct Suspicions<K>(HashMap<K, (Instant, u32)>);

impl<K: Eq + Hash + Clone> Suspicions<K> {
    fn new() -> Suspicions<K> {
        Suspicions(HashMap::new())
    }

    /// Whether this has lasted longer than that. One that was looked at only a few times says more of the machine.
    fn lasts(&mut self, key: &K, limit: Duration) -> bool {
        let (since, times) = self.0.entry(key.clone()).or_insert((Instant::now(), 0));
        *times += 1;
        since.elapsed() > limit && *times > 5
    }

    /// Forgets those that this look did not see.
    fn keep(&mut self, seen: &[K]) {
        self.0.retain(|key, _| seen.contains(key));
    }
}

/// Looks until the world ends or is wrong; says how often it looked.
pub struct Eyes<'a> {
    world: &'a World,
    zombies: Suspicions<(i32, u64)>,
    unrecorded: Suspicions<(i32, u64)>,
    stale: Suspicions<(usize, i32)>,
    modules: HashMap<(i32, u64), String>,
    /// How often everything was looked at.
    pub looks: u64,
}

impl Eyes<'_> {
    /// Eyes that have seen nothing.
    pub fn new(world: &World) -> Eyes<'_> {
        Eyes {
            world,
            zombies: Suspicions::new(),
            unrecorded: Suspicions::new(),
            stale: Suspicions::new(),
            modules: HashMap::new(),
            looks: 0,
        }
    }

    /// One look at everything.
    pub fn look(&mut self) {
        self.looks += 1;
        if !self.world.svscan_lives() {
            self.world.violation(None, "svscan has ended");
            return;
        }
        let recorded = self.look_at_files();
        self.look_at_processes(&recorded);
    }

    /// The pid in each record.
    fn look_at_files(&mut self) -> Vec<i32> {
        let mut stale = Vec::new();
        let mut recorded = Vec::new();
        for at in 0..self.world.names.len() {
            let wrong = |what: String| self.world.violation(Some(at), &what);
            if let Err(what) = records::state(&self.world.home(at).join("state.json")) {
                wrong(format!("state.json: {what}"));
            }
            if let Err(what) = records::view(&self.world.service(at).join("supervise/status")) {
                wrong(format!("supervise/status: {what}"));
            }
            match records::status(&self.world.home(at).join("status")) {
                Err(what) => wrong(format!("status: {what}")),
                Ok(None) => {}
                Ok(Some(record)) if record.pid == 0 => {}
                Ok(Some(record)) => {
                    recorded.push(record.pid);
                    match self.look_at_recorded(at, &record) {
                        Ok(true) => {}
                        Ok(false) => {
                            stale.push((at, record.pid));
                            if self.stale.lasts(&(at, record.pid), STALE) && !self.world.damaged_within(at, HEALING) {
                                wrong(format!("pid {} stands in status for {STALE:?} and is dead", record.pid));
                            }
                        }
                        Err(what) => wrong(what),
                    }
                }
            }
        }
        self.stale.keep(&stale);
        recorded
    }

    /// Whether the process that a record names lives.
    fn look_at_recorded(&self, at: usize, record: &Record) -> Result<bool, String> {
        let Some(process) = Process::of(record.pid) else { return Ok(false) };
        if !process.is_alive() {
            return Ok(false);
        }
        let name = &self.world.names[at];
        // In the middle of its exec a process has no environment.
        let own = process.module().is_none_or(|module| module == *name);
        let right = process.parent == self.world.svscan() && own;
        if right || !process.still_lives() {
            return Ok(right);
        }
        // Unless the record was replaced meanwhile, it names a process that is not of this module.
        match records::status(&self.world.home(at).join("status")) {
            Ok(Some(again)) if again.bytes == record.bytes && process.still_lives() => {
                Err(format!("status names what is no program of {name}: {}", process.describe()))
            }
            Ok(_) | Err(_) => Ok(true),
        }
    }

    fn look_at_processes(&mut self, recorded: &[i32]) {
        let world = self.world;
        let children = processes::children(world.svscan());
        let key = |process: &Process| (process.pid, process.started);
        let (living, dead): (Vec<&Process>, Vec<&Process>) = children.iter().partition(|process| process.is_alive());

        for zombie in &dead {
            let module = self.modules.get(&key(zombie)).map(String::as_str);
            let at = module.and_then(|module| world.names.iter().position(|name| name == module));
            let unseen = at.is_some_and(|at| world.damaged_within(at, HEALING));
            let limit = if recorded.contains(&zombie.pid) || unseen { ZOMBIE_RECORDED } else { ZOMBIE };
            if self.zombies.lasts(&key(zombie), limit) {
                world.violation(at, &format!("a zombie for {limit:?}: {zombie:?} of {module:?}"));
            }
        }
        self.zombies.keep(&dead.iter().map(|zombie| key(zombie)).collect::<Vec<_>>());

        let mut programs: HashMap<usize, &Process> = HashMap::new();
        // What svtree has made and has not become the program yet is in svtree's session, or has svtree's environment.
        for process in living.iter().filter(|process| process.session == process.pid) {
            let known = self.modules.get(&key(process)).cloned().or_else(|| process.module());
            let Some(module) = known else { continue };
            self.modules.insert(key(process), module.clone());
            let Some(at) = world.names.iter().position(|name| *name == module) else {
                world.violation(None, &format!("a program of an unknown module: {}", process.describe()));
                continue;
            };
            if let Some(other) = programs.insert(at, process)
                && other.still_lives()
                && process.still_lives()
                && other.still_lives()
            {
                let both = format!("{}\n{}", other.describe(), process.describe());
                world.violation(Some(at), &format!("two programs at the same time:\n{both}"));
            }
            self.look_at_program(at, process);
        }
        let keys: Vec<_> = children.iter().map(key).collect();
        self.unrecorded.keep(&keys);
        self.modules.retain(|process, _| keys.contains(process));
    }

    /// Each program that lives stands in its record.
    fn look_at_program(&mut self, at: usize, process: &Process) {
        let home = self.world.home(at);
        let stands = |pid| matches!(records::status(&home.join("status")), Ok(Some(record)) if record.pid == pid);
        if stands(process.pid) || !process.still_lives() {
            self.unrecorded.0.remove(&(process.pid, process.started));
        } else if self.unrecorded.lasts(&(process.pid, process.started), UNRECORDED)
            && !self.world.damaged_within(at, HEALING)
        {
            let there = if fs::exists(&home).unwrap_or(true) { "its record" } else { "its status directory" };
            self.world.violation(Some(at), &format!("{} lives, and {there} says nothing of it", process.describe()));
        }
    }
}
