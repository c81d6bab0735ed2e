//! Section: svtree killed again and again in the midst of everything, and what is true after the last start.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant, UNIX_EPOCH};

use rustix::process::Signal;

use crate::forking::DAEMON;
use crate::harness::{
    Bystander, ONE_COPY, SLEEPER, Tree, alive, arguments, children, eventually, remove, replace, signal_pid, skip,
    stays, text, zombies,
};

/// Numbers that differ from run to run; the seed is printed, and shown when a test fails.
struct Dice(u64);

impl Dice {
    fn new() -> Dice {
        let given = std::env::var("SVTREE_SEED").ok().and_then(|seed| seed.parse().ok());
        let clock = || UNIX_EPOCH.elapsed().map_or(0, |now| u64::from(now.subsec_nanos()));
        let seed = given.unwrap_or_else(clock);
        eprintln!("SVTREE_SEED={seed}");
        Dice(seed)
    }

    /// Below `limit`: one step of the generator of Numerical Recipes, its upper bits.
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap_or(0) % limit
    }

    /// Below so many milliseconds.
    fn moment(&mut self, limit: usize) -> Duration {
        Duration::from_millis(self.below(limit) as u64)
    }
}

/// How often svtree is killed in the storm.
const KILLS: usize = 50;

const MODULES: usize = 50;

/// What a module runs: a program or a daemon, for good or ending all the time. Every one holds its module's lock while it
/// lives, so that two of a module give each other away.
fn script(number: usize, for_good: bool) -> String {
    let script = if is_daemon(number) { DAEMON } else { ONE_COPY };
    let ends = number % 4 > 1 && !for_good;
    if ends { script.replace("exec sleep 1000", "exec sleep 0.0$(($$ % 9))") } else { script.to_owned() }
}

fn is_daemon(number: usize) -> bool {
    number % 2 == 1
}

/// Whether it is a process of this tree that has become what it is to be, and no longer on the way to the background.
fn is_settled(tree: &Tree, pid: i32) -> bool {
    arguments(pid).first().is_some_and(|program| program == "sleep") && tree.processes().contains(&pid)
}

fn drop_in(tree: &Tree, number: usize) {
    let toml = "[restart]\ndelay = '20ms'\n[stop]\ntimeout = '2s'\n";
    tree.service(format!("m{number}")).run(&script(number, false)).toml(toml).moved_in();
}

#[test]
fn killed_fifty_times_in_a_storm_every_program_runs_once_after_the_last_start() {
    if !Tree::running().has_cgroups() {
        return;
    }
    let mut dice = Dice::new();
    let tree = Tree::new();
    // Strangers that say that they are a module's.
    let stranger = |name: &str| Bystander::start(Command::new("sleep").arg("1000").env("SVTREE_MODULE", name));
    let mut strangers = [stranger("m0"), stranger("m1")];
    let mut inside: BTreeSet<usize> = (0..MODULES).collect();
    inside.iter().for_each(|number| drop_in(&tree, *number));
    for _ in 0..KILLS {
        tree.start();
        for _ in 0..dice.below(30) {
            let number = dice.below(MODULES);
            let name = format!("m{number}");
            match dice.below(4) {
                0 if inside.remove(&number) => drop(tree.move_out(&name)),
                0 | 1 if inside.insert(number) => drop_in(&tree, number),
                _ => {
                    // A daemon that is told to end while it starts is none, and what it left by then is nobody's copy.
                    let most = if is_daemon(number) { 9 } else { 12 };
                    let letters = ["u", "d", "o", "du", "p", "c", "pd", "s", "n", "k", "t", "h"][dice.below(most)];
                    // Nobody listens while it comes or goes.
                    let _ = crate::harness::write_fifo(&tree.home(&name).join("svcontrol"))
                        .and_then(|mut fifo| std::io::Write::write_all(&mut fifo, letters.as_bytes()));
                }
            }
            stays(dice.moment(12), "it runs", || tree.is_running());
        }
        tree.kill_svtree();
        // What dies meanwhile is started again, once.
        if let Some(pid) = tree.pid(format!("m{}", dice.below(MODULES))).filter(|pid| is_settled(&tree, *pid)) {
            signal_pid(pid, Signal::KILL);
        }
    }
    for number in 0..MODULES {
        if inside.insert(number) {
            drop_in(&tree, number);
        }
        replace(&tree.entry(format!("m{number}")).join("run"), &script(number, true), 0o755);
    }
    tree.start();
    let names: Vec<String> = (0..MODULES).map(|number| format!("m{number}")).collect();
    for name in &names {
        // What was paused, down or run once is none of it any more; a letter may come before the module is taken over.
        tree.letter(name, "cnu");
    }
    for name in &names {
        let runs = |pid: i32| alive(pid) && arguments(pid) == ["sleep", "1000"];
        eventually(format!("{name} to run for good"), || {
            let state = tree.state(name);
            let up = state["state"] == "up" && state["want"] == "up" && state["paused"] == false;
            up && tree.pid(name).is_some_and(|pid| runs(pid) && state["pid"] == pid)
        });
    }
    eventually("nothing but svtree and one process of each", || tree.processes().len() == MODULES + 1);
    let theirs: BTreeSet<i32> = names.iter().filter_map(|name| tree.pid(name)).collect();
    let svtree = tree.pid_of_svtree();
    assert!(theirs.len() == MODULES && theirs.iter().all(|pid| tree.processes().contains(pid)));
    assert!(children(svtree).iter().all(|pid| theirs.contains(pid)), "it has no other child");
    assert_eq!(zombies(svtree), [0; 0]);
    assert_eq!(tree.notes("twice"), [""; 0], "never two copies");
    for name in &names {
        assert_eq!(tree.called("svok", [name]).code, Some(0));
        assert_eq!(tree.status(name).map(|status| status[12..15].to_vec()), Some(vec![0, b'u', b'o']), "{name}");
    }
    assert!(strangers.iter_mut().all(Bystander::lives), "strangers are left alone");
    for name in &names {
        remove(&tree.entry(name));
    }
    eventually("all of it to be gone", || tree.processes() == [svtree]);
}

#[test]
fn what_is_taken_away_at_the_moment_of_a_start_is_retired() {
    let mut dice = Dice::new();
    for _ in 0..3 {
        let tree = Tree::running();
        let names: Vec<String> = (0..60).map(|number| format!("m{number}")).collect();
        for name in &names {
            tree.service(name).run(ONE_COPY).moved_in();
        }
        for name in &names {
            tree.up(name);
        }
        tree.kill_svtree();
        tree.start();
        let svtree = tree.pid_of_svtree();
        // Some before it has read its services, some while it takes them over.
        for name in &names {
            stays(dice.moment(5), "it runs", || tree.is_running());
            tree.move_out(name);
        }
        for name in &names {
            tree.goes(name);
        }
        eventually("nothing of them to be left", || tree.processes() == [svtree]);
    }
}

#[test]
fn killed_at_any_moment_of_the_starts_of_daemons_it_leaves_one_copy_of_each() {
    if !Tree::running().has_cgroups() {
        return;
    }
    let mut dice = Dice::new();
    let tree = Tree::new();
    let names: Vec<String> = (0..8).map(|number| format!("m{number}")).collect();
    for (number, name) in names.iter().enumerate() {
        let ends = DAEMON.replace("exec sleep 1000", "exec sleep 0.0$(($$ % 9))");
        let script = if number % 2 == 0 { DAEMON } else { ends.as_str() };
        tree.service(name).run(script).toml("[restart]\ndelay = '5ms'").moved_in();
    }
    for _ in 0..20 {
        tree.start();
        eventually("a start", || names.iter().any(|name| tree.pid(name).is_some()));
        stays(dice.moment(40), "it runs", || tree.is_running());
        tree.kill_svtree();
        for name in &names {
            // Those for good are to be started again, too.
            if let Some(pid) = tree.pid(name).filter(|pid| is_settled(&tree, *pid)) {
                signal_pid(pid, Signal::KILL);
            }
        }
    }
    for name in &names {
        replace(&tree.entry(name).join("run"), DAEMON, 0o755);
    }
    tree.start();
    for name in &names {
        let runs = |pid: i32| alive(pid) && arguments(pid) == ["sleep", "1000"];
        eventually(format!("{name} to run for good"), || tree.pid(name).is_some_and(runs));
    }
    eventually("nothing else to be left", || tree.processes().len() == names.len() + 1);
    assert_eq!(tree.notes("twice"), [""; 0], "never two copies");
}

#[test]
fn how_a_program_ended_that_was_taken_over_is_told_where_the_kernel_tells() {
    let release = text(Path::new("/proc/sys/kernel/osrelease"));
    let mut numbers = release.split(['.', '-']).map_while(|number| number.parse::<u32>().ok());
    if (numbers.next(), numbers.next()) < (Some(6), Some(15)) {
        return skip("before Linux 6.15 the kernel tells nobody but the parent");
    }
    let tree = Tree::running();
    let script = "#!/bin/sh\ntrap 'exit 7' USR1\necho $$ >> \"$SVTREE_IT/notes/web\"\nwhile :; do sleep 0.01; done\n";
    tree.service("web").run(script).toml("[restart]\ndelay = '10ms'").moved_in();
    let first = tree.noted_pids("web", 1)[0];
    tree.up("web");
    tree.kill_svtree();
    tree.start();
    eventually("it to be taken over", || tree.state("web")["adopted"] == true);
    tree.letter("web", "1");
    tree.noted_pids("web", 2);
    eventually("its code to be told, be it later", || {
        let exit = &tree.state("web")["exits"][0];
        exit["pid"] == first && exit["code"] == 7
    });
}

#[test]
fn a_hundred_modules_are_taken_over_at_once() {
    let tree = Tree::new();
    let names: Vec<String> = (0..100).map(|number| format!("m{number}")).collect();
    for name in &names {
        tree.service(name).run(SLEEPER).moved_in();
    }
    tree.start();
    let pids: Vec<i32> = names.iter().map(|name| tree.up(name)).collect();
    tree.kill_svtree();
    let begun = Instant::now();
    tree.start();
    for name in &names {
        eventually(format!("{name} to be taken over"), || tree.state(name)["adopted"] == true);
    }
    let took = begun.elapsed();
    eprintln!("100 modules were taken over in {took:?}");
    // On a quiet machine it is less than 100 ms; here the rest of the suite runs beside it.
    assert!(took < Duration::from_secs(5), "{took:?}");
    let now: Vec<i32> = names.iter().filter_map(|name| tree.pid(name)).collect();
    assert!(now == pids && pids.iter().all(|pid| alive(*pid)), "the same pids");
}
