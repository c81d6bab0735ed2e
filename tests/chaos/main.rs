//! Chaos: a tree whose modules are killed, commanded, dropped, removed, renamed, edited and damaged at random, and a
//! checker that reads only the files and `/proc`.
//!
//! Shares no code with the program. Some threads do things, each of which is told to a model of what the contract asks
//! then; one thread looks all the time at what must hold at every moment; and every few seconds all stop, and
//! everything must soon be as the model says.
//!
//! In a second tree everything hangs together, by needs and in groups with strategies: programs die, alone and several at
//! once, letters come, files change, svtree dies or is replaced; and another checker knows the rules that then hold.
//!
//! - `SVTREE_CHAOS_SECONDS`: how long; 20 without it, and 15 for the second one.
//! - `SVTREE_CHAOS_MODULES`: how many names; 60 without it.
//! - `SVTREE_CHAOS_TREES`: how many times 19 modules in 9 groups; 1 without it.
//! - `SVTREE_CHAOS_SEED`: what is done, but for its timing, as in a run that printed this seed.
//!
//! When something is wrong, what and the last things done to that module are printed, and the tree's directory is kept.

#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    clippy::cast_possible_truncation,
    reason = "an outsider reads clocks, starts programs, prints and fails; the rules are for the supervisor"
)]

mod damage;
mod eyes;
mod forest;
mod grove;
mod load;
mod model;
mod natures;
mod processes;
mod quiet;
mod random;
mod records;
mod rules;
mod world;

use std::str::FromStr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tempfile::TempDir;

use self::eyes::Eyes;
use self::forest::Forest;
use self::load::{Load, Pool};
use self::random::Random;
use self::world::World;

/// So many threads do things.
const THREADS: u64 = 3;
/// Each does one thing in this time, on average.
const GAP: Duration = Duration::from_millis(25);
/// Things are done for so long; then it is quiet.
const ROUND: Duration = Duration::from_secs(4);
/// Everything is looked at so often.
const LOOK: Duration = Duration::from_millis(100);
/// svtree ends within this time after TERM.
const END: Duration = Duration::from_secs(30);

#[test]
fn no_state_that_the_contract_does_not_allow() {
    let time = Duration::from_secs(variable("SVTREE_CHAOS_SECONDS", 20));
    let names = variable("SVTREE_CHAOS_MODULES", 60);
    let seed = variable("SVTREE_CHAOS_SEED", u64::from(std::process::id()) ^ since_1970().as_millis() as u64);
    println!("chaos for {time:?} on {names} names, SVTREE_CHAOS_SEED={seed}");
    let dir = tempfile::Builder::new().prefix("svtree-chaos-").tempdir().expect("a temporary directory");
    let world = World::start(dir.path(), names);
    let rounds = run(&world, time, seed);
    if let Err(wrong) = close(&world, &rounds, seed, dir) {
        panic!("{wrong}");
    }
}

#[test]
fn what_hangs_together_keeps_its_rules_whatever_dies() {
    let time = Duration::from_secs(variable("SVTREE_CHAOS_SECONDS", 15));
    let seed = variable("SVTREE_CHAOS_SEED", u64::from(std::process::id()) ^ since_1970().as_millis() as u64);
    let forest = Forest::grown(variable("SVTREE_CHAOS_TREES", 1));
    println!("chaos for {time:?} on {} modules that hang together, SVTREE_CHAOS_SEED={seed}", forest.modules.len());
    let dir = tempfile::Builder::new().prefix("svtree-chaos-").tempdir().expect("a temporary directory");
    forest::prepare(dir.path());
    forest.write(dir.path());
    let world = World::with(dir.path(), forest.names());
    let rounds = grove::run(&world, &forest, time, seed, LOOK);
    if let Err(wrong) = close(&world, &rounds, seed, dir) {
        panic!("{wrong}");
    }
}

/// The end of a tree, and what was wrong with it.
fn close(world: &World, rounds: &str, seed: u64, dir: TempDir) -> Result<(), String> {
    if world.wrong().is_none() {
        end(world);
    }
    println!("{rounds}");
    match world.wrong() {
        Some(wrong) => Err(format!("SVTREE_CHAOS_SEED={seed}, in {}: {wrong}", dir.keep().display())),
        None => Ok(()),
    }
}

/// All of it but the end; says how much it was.
fn run(world: &World, time: Duration, seed: u64) -> String {
    let threads = world.poll(END, || settled_threads(world));
    let Some(threads) = threads else {
        world.violation(None, "svtree did not begin");
        return String::new();
    };
    let (actions, pool, over) = (AtomicU64::new(0), Pool::default(), AtomicBool::new(false));
    let eyes = Mutex::new(Eyes::new(world));
    let mut rounds = 0;
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut eyes = world::lock(&eyes);
            // A thread that fails must fail the test, not only end.
            let _watched = Watched(world);
            while !over.load(Ordering::Relaxed) && world.pause(LOOK) {
                eyes.look();
            }
        });
        let mut loads: Vec<Load<'_>> = (0..THREADS)
            .map(|thread| Load {
                world,
                pool: &pool,
                random: Random::new(seed.wrapping_add(thread)),
                actions: &actions,
            })
            .collect();
        loads[0].fill();
        let end = Instant::now() + time;
        while Instant::now() < end && world.wrong().is_none() {
            let quiet = (Instant::now() + ROUND).min(end);
            thread::scope(|scope| {
                for load in &mut loads {
                    scope.spawn(move || {
                        let _watched = Watched(world);
                        load.run(quiet, GAP);
                    });
                }
            });
            quiet::look(world, threads);
            rounds += 1;
        }
        over.store(true, Ordering::Relaxed);
    });
    let looks = world::lock(&eyes).looks;
    format!("{} actions, {looks} looks at everything, {rounds} quiet points", actions.load(Ordering::Relaxed))
}

/// TERM: everything is gone, and so are the status directories.
fn end(world: &World) {
    world.signal_svscan(Signal::TERM);
    let Some(status) = world.ended(END) else {
        return world.violation(None, &format!("svtree did not end within {END:?} after TERM"));
    };
    if !status.success() {
        world.violation(None, &format!("after TERM svtree ended with {status}"));
    }
    let left: Vec<String> = world.processes().iter().map(processes::Process::describe).collect();
    if !left.is_empty() {
        world.violation(None, &format!("after TERM these are left: {left:#?}"));
    }
    if let Some(at) = (0..world.names.len()).find(|at| world.home(*at).exists()) {
        world.violation(Some(at), "after TERM its status directory is left");
    }
}

/// How many threads svtree has without modules, once it has begun: the same in two looks.
fn settled_threads(world: &World) -> Option<usize> {
    let count = || processes::count(world.svscan(), "task");
    let before = count();
    world.pause(Duration::from_secs(1));
    let begun = world.dir.join("status/.lock").exists();
    (begun && before == count()).then_some(before)
}

/// Reports when its thread fails.
struct Watched<'a>(&'a World);

impl Drop for Watched<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.violation(None, "the test itself failed");
        }
    }
}

fn variable<T: FromStr>(name: &str, default: T) -> T {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

fn since_1970() -> Duration {
    std::time::UNIX_EPOCH.elapsed().expect("a clock after 1970")
}
