//! What is done to a tree whose modules hang together, in rounds, and the look at the end of each.
//!
//! Must never decide what is right while things are being done: that is up to the rules.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::forest::{Forest, Module};
use super::natures;
use super::processes;
use super::random::Random;
use super::records;
use super::rules::{Rules, too_many};
use super::world::{SVTREE, World, lock};

/// Things are done for so long; then it is quiet.
const ROUND: Duration = Duration::from_secs(3);
/// One in this time, on average.
const GAP: Duration = Duration::from_millis(150);
/// By then everything has come to rest, and by then again all is ready: stops, starts that wait for each other, one restart
/// of a group after the other, on a busy machine.
const DEADLINE: Duration = Duration::from_secs(90);

/// What is done in a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Programs die, and nothing else happens.
    Deaths,
    /// svtree dies, or is replaced, as well.
    Survival,
    /// Letters come as well.
    Letters,
    /// Files change, modules and groups are taken away and come back.
    Changes,
}

const KINDS: [Kind; 4] = [Kind::Deaths, Kind::Survival, Kind::Changes, Kind::Letters];
const VERBS: [&str; 8] = ["up", "down", "down", "once", "kill", "term", "restart", "reload"];
const STRATEGIES: [&str; 3] = ["one_for_one", "one_for_all", "rest_for_one"];

/// The one who does things.
pub struct Grove<'a> {
    pub world: &'a World,
    pub forest: &'a Forest,
    pub rules: &'a Mutex<Rules<'a>>,
    pub random: Random,
    /// The deaths that were brought about in this round and in those before it: four rounds last longer than any period.
    pub deaths: [Vec<String>; 4],
    /// What was taken away, and where it is.
    pub out: Vec<(String, PathBuf)>,
    pub actions: u64,
}

impl<'a> Grove<'a> {
    /// All is ready for the first time, or again: of those that have failed as well, by one word to each.
    pub fn restore(&mut self) {
        for (name, away) in std::mem::take(&mut self.out).into_iter().rev() {
            self.back(&name, &away);
        }
        if self.forest.write(&self.world.dir) {
            self.note("all files are as they were");
        }
        // Who has gone has gone, and who has come has come, before anybody is spoken to.
        self.wait("all to be at rest again", |rules| rules.at_rest(&BTreeSet::new()).map(drop));
        self.verb("up", &self.forest.names());
        self.wait("all to be ready", Rules::all_ready);
    }

    /// One round.
    pub fn round(&mut self, number: u64, end: Instant) {
        let kind = KINDS[(number % KINDS.len() as u64) as usize];
        self.note(&format!("--- round {number}: {kind:?}"));
        lock(self.rules).begin();
        self.deaths.rotate_right(1);
        self.deaths[0].clear();
        while Instant::now() < end && self.world.wrong().is_none() {
            self.act(kind);
            self.actions += 1;
            let pause = self.random.below(2 * GAP.as_micros() as u64);
            self.world.pause(Duration::from_micros(pause));
        }
        let out: BTreeSet<String> = self.out.iter().map(|(name, _)| name.clone()).collect();
        self.wait("all to be at rest", |rules| rules.at_rest(&out).map(drop));
        self.failed_for_cause(&out);
        if kind == Kind::Deaths {
            self.wait("all to have started in order", Rules::in_order);
        }
    }

    fn act(&mut self, kind: Kind) {
        match (kind, self.random.below(10)) {
            (Kind::Survival, 0) => self.upgrade(),
            (Kind::Survival, 1) => self.killed_and_started_again(),
            (Kind::Letters, 0..6) => {
                let (verb, module) = (*self.random.pick(&VERBS), self.module().name.clone());
                self.verb(verb, &[module]);
            }
            (Kind::Changes, 0..2) => self.taken_away(),
            (Kind::Changes, 2) if !self.out.is_empty() => {
                let at = self.random.below(self.out.len() as u64) as usize;
                let (name, away) = self.out[at].clone();
                if self.back(&name, &away) {
                    self.out.remove(at);
                }
            }
            (Kind::Changes, 3..6) => self.edit_needs(),
            (Kind::Changes, 6..8) => self.edit_group(),
            _ => self.deaths(),
        }
    }

    fn module(&mut self) -> &Module {
        self.random.pick(&self.forest.modules)
    }

    /// One program dies, or several at once.
    fn deaths(&mut self) {
        let count = if self.random.one_in(4) { 2 + self.random.below(4) } else { 1 };
        for _ in 0..count {
            let at = self.random.below(self.world.names.len() as u64) as usize;
            let signal = *self.random.pick(&[Signal::KILL, Signal::KILL, Signal::TERM, Signal::SEGV]);
            let pid =
                records::status(&self.world.home(at).join("status")).ok().flatten().map_or(0, |record| record.pid);
            let name = &self.world.names[at];
            if pid != 0 && processes::signal(pid, name, signal) {
                self.world.note(at, format!("{signal:?} to {pid}"));
                self.deaths[0].push(name.clone());
            }
        }
    }

    fn verb(&mut self, verb: &str, names: &[String]) {
        self.note(&format!("svtree {verb} {}", names.join(" ")));
        if ["kill", "term"].contains(&verb) {
            self.deaths[0].extend(names.iter().cloned());
        }
        let output = self.world.command(SVTREE).arg(verb).args(names).output().expect("svtree can be run");
        if !output.status.success() {
            self.note(&format!("it says {}", String::from_utf8_lossy(&output.stderr)));
        }
    }

    fn upgrade(&mut self) {
        self.verb("upgrade", &[]);
    }

    fn killed_and_started_again(&mut self) {
        self.note("svtree is killed");
        self.world.signal_svscan(Signal::KILL);
        if self.random.one_in(2) {
            self.deaths();
        }
        self.world.start_again();
        self.note("svtree is started again");
    }

    fn taken_away(&mut self) {
        let name = if self.random.one_in(3) {
            let groups: Vec<&String> = self.forest.together.keys().collect();
            (*self.random.pick(&groups)).clone()
        } else {
            self.module().directory.clone()
        };
        let (from, away) = (self.world.dir.join("services").join(&name), self.world.elsewhere());
        if fs::rename(from, &away).is_ok() {
            self.note(&format!("{name} is taken away"));
            self.edited(&name);
            self.out.push((name, away));
        }
    }

    /// Says whether it could: the group that it was in may be away itself.
    fn back(&self, name: &str, away: &Path) -> bool {
        let done = fs::rename(away, self.world.dir.join("services").join(name));
        self.note(&format!("{name} comes back: {done:?}"));
        done.is_ok()
    }

    fn edit_needs(&mut self) {
        let (name, directory) = {
            let module = self.module();
            (module.name.clone(), module.directory.clone())
        };
        let path = format!("{directory}/service.toml");
        let lines = self.forest.files[&path].lines().filter(|line| !line.starts_with("needs"));
        let other = self.module().name.clone();
        let needs = match self.random.below(4) {
            0 => String::new(),
            1 => "needs = ['nobody']\n".to_owned(),
            2 => format!("needs = ['{name}']\n"),
            _ => format!("needs = ['{other}']\nneeds_restart = 'restart'\n"),
        };
        let text = needs + &lines.collect::<Vec<_>>().join("\n");
        self.edit(&directory, &path, &text);
    }

    fn edit_group(&mut self) {
        let groups: Vec<String> = self.forest.together.keys().cloned().collect();
        let group = self.random.pick(&groups).clone();
        let strategy = *self.random.pick(&STRATEGIES);
        let (most, failure) = (self.random.below(5) + 1, *self.random.pick(&["stop", "restart", "escalate"]));
        let text = format!("strategy = '{strategy}'\nintensity = {most}\nperiod = '10s'\non_failure = '{failure}'\n");
        let path = format!("{group}/group.toml");
        self.edit(&group, &path, &text);
    }

    fn edit(&mut self, what: &str, path: &str, text: &str) {
        self.edited(what);
        let done = natures::replace(&self.world.dir.join("services").join(path), text, 0o644);
        self.note(&format!("{path} is edited, {done:?}: {text:?}"));
    }

    fn edited(&self, what: &str) {
        lock(self.rules).edited.insert(what.to_owned());
    }

    /// A group has failed only if more died in it than it bears.
    fn failed_for_cause(&self, out: &BTreeSet<String>) {
        let Ok(states) = lock(self.rules).at_rest(out) else { return };
        for (name, state) in states.iter().filter(|(_, state)| state["state"] == "failed") {
            let reason = state["reason"].as_str().unwrap_or_default();
            let Some((group, most)) = too_many(reason) else {
                self.world.violation(None, &format!("{name} has failed, and no group says so: {state}"));
                continue;
            };
            let inner = format!("{group}/");
            let died = self.deaths.iter().flatten().filter(|name| name.starts_with(&inner)).count();
            if died <= most {
                self.world.violation(None, &format!("{reason}, and only {died} died in it"));
            }
        }
    }

    /// Waits until it is so; else it will never be.
    fn wait(&self, what: &str, is: impl Fn(&Rules<'a>) -> Result<(), String>) {
        let mut why = String::new();
        if self.world.poll(DEADLINE, || is(&lock(self.rules)).map_err(|error| why = error).ok()).is_none() {
            self.world.violation(None, &format!("waited {DEADLINE:?} for {what}: {why}"));
        }
    }

    fn note(&self, what: &str) {
        self.world.note(0, what.to_owned());
    }
}

/// Rounds until the time is up; says how much that was.
pub fn run(world: &World, forest: &Forest, time: Duration, seed: u64, look: Duration) -> String {
    let rules = Mutex::new(Rules::new(world, forest));
    let over = AtomicBool::new(false);
    let mut grove = Grove {
        world,
        forest,
        rules: &rules,
        random: Random::new(seed),
        deaths: Default::default(),
        out: Vec::new(),
        actions: 0,
    };
    // Not every run has time for all kinds of rounds.
    let first = seed % KINDS.len() as u64;
    let mut rounds = 0;
    thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) && world.pause(look) {
                lock(&rules).look();
            }
        });
        let end = Instant::now() + time;
        grove.wait("all to be ready", Rules::all_ready);
        while Instant::now() < end && world.wrong().is_none() {
            grove.round(first + rounds, Instant::now() + ROUND);
            grove.restore();
            rounds += 1;
        }
        over.store(true, Ordering::Relaxed);
    });
    let rules = lock(&rules);
    format!("{} actions, {} notes, {} looks, {rounds} rounds", grove.actions, rules.lines, rules.looks)
}
