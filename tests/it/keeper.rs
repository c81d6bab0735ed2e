//! What ends svtree and what does not: the keeper in front of svscan (`--keep`), and the module whose end is the end of
//! all (`--exit-with`).

use std::time::Duration;

use rustix::process::Signal;

use crate::harness::{
    NOTING, SLEEPER, SVTREE, Tree, alive, arguments, children, eventually, process_state, ran, replace, signal_pid,
    stays, wait_for, within, zombies,
};

/// The svscan behind a keeper.
pub fn svscan(keeper: i32) -> i32 {
    svscan_after(keeper, 0)
}

/// Another svscan behind a keeper than this one.
pub fn svscan_after(keeper: i32, before: i32) -> i32 {
    wait_for("svscan", || {
        children(keeper)
            .into_iter()
            .find(|pid| *pid != before && arguments(*pid).get(1).is_some_and(|word| word.starts_with("--kept=")))
    })
}

/// A tree behind a keeper, with two modules that run.
fn kept() -> (Tree, i32) {
    let tree = Tree::new().options(["--log", "none", "--keep"]);
    tree.service("a").run(NOTING).moved_in();
    tree.service("b").run(NOTING).moved_in();
    tree.start();
    let keeper = tree.pid_of_svtree();
    (tree, keeper)
}

#[test]
fn svscan_that_is_killed_is_back_and_no_program_noticed() {
    let (tree, keeper) = kept();
    let pids = ["a", "b"].map(|name| tree.up(name));
    let mut before = 0;
    for _ in 0..3 {
        before = svscan_after(keeper, before);
        eventually("it to supervise", || tree.called("svok", ["a"]).code == Some(0));
        signal_pid(before, Signal::KILL);
    }
    svscan_after(keeper, before);
    within(Duration::from_secs(10), "a letter to be obeyed", || {
        tree.letter("a", "p");
        tree.state("a")["paused"] == true
    });
    tree.letter("a", "c");
    assert_eq!(["a", "b"].map(|name| tree.pid(name)), pids.map(Some));
    assert!(["a", "b"].iter().all(|name| tree.notes(name).len() == 1));
    assert!(tree.stderr().contains("was killed by SIGKILL; it is started again"), "{}", tree.stderr());
    assert_eq!(tree.stop().code(), Some(0));
    assert!(!pids.iter().any(|pid| alive(*pid)));
}

#[test]
fn what_came_to_the_keeper_is_reaped_at_once_when_it_ends_and_is_started_again() {
    let (tree, keeper) = kept();
    let (a, b) = (tree.up("a"), tree.up("b"));
    let dead = svscan(keeper);
    signal_pid(dead, Signal::KILL);
    svscan_after(keeper, dead);
    signal_pid(a, Signal::KILL);
    tree.up_again("a", a);
    eventually("no zombie", || zombies(keeper).is_empty());
    assert_eq!(tree.pid("b"), Some(b));
}

#[test]
fn signals_to_the_keeper_reach_svscan() {
    let (tree, keeper) = kept();
    tree.up("a");
    signal_pid(keeper, Signal::USR1);
    eventually("what it knows", || tree.stderr().contains("a: supervised, pid "));
    for signal in [Signal::WINCH, Signal::TSTP, Signal::PIPE] {
        signal_pid(keeper, signal);
    }
    signal_pid(keeper, Signal::POWER);
    assert_eq!(tree.ended().code(), Some(0));
    assert!(tree.processes().is_empty());
}

#[test]
fn what_podman_sends_an_init_ends_it() {
    let (tree, keeper) = kept();
    tree.up("a");
    // SIGRTMIN+3 of the C library.
    tree.ran(["sh", "-c", &format!("kill -37 {keeper}")]).ok();
    assert_eq!(tree.ended().code(), Some(0));
}

#[test]
fn shutdown_ends_the_keeper_too() {
    let (tree, _) = kept();
    tree.up("a");
    tree.svtree(["shutdown"]).ok();
    assert_eq!(tree.ended().code(), Some(0));
}

#[test]
fn leave_ends_the_keeper_too_and_every_program_runs_on() {
    let (tree, keeper) = kept();
    let pids = ["a", "b"].map(|name| tree.up(name));
    tree.svtree(["leave"]).ok();
    assert_eq!(tree.ended().code(), Some(0));
    assert!(!alive(keeper) && pids.iter().all(|pid| alive(*pid)));
    tree.start();
    eventually("them to be taken over", || tree.state("a")["adopted"] == true && tree.state("b")["adopted"] == true);
    assert_eq!(["a", "b"].map(|name| tree.pid(name)), pids.map(Some));
}

#[test]
fn an_order_to_end_outlives_the_svscan_that_died_over_it() {
    let (tree, keeper) = kept();
    let pids = ["a", "b"].map(|name| tree.up(name));
    let dead = svscan(keeper);
    signal_pid(dead, Signal::STOP);
    signal_pid(keeper, Signal::TERM);
    signal_pid(dead, Signal::KILL);
    assert_eq!(tree.ended().code(), Some(0));
    assert!(!pids.iter().any(|pid| alive(*pid)));
}

#[test]
fn what_cannot_run_at_all_is_told_once_and_ends_with_111() {
    let tree = Tree::new();
    let line = ran(&mut tree.command([SVTREE, "run", "--keep", "nosuch"])).failed(111);
    assert!(line.contains("reading nosuch"), "{line}");
    ran(&mut tree.command([SVTREE, "run", "--keep", "--nosuch"])).failed(100);
}

#[test]
fn what_cannot_run_after_it_ran_is_tried_until_it_can() {
    let (tree, keeper) = kept();
    let pids = ["a", "b"].map(|name| tree.up(name));
    let dead = svscan(keeper);
    let away = tree.path("services.away");
    std::fs::rename(tree.path("services"), &away).expect("moved");
    signal_pid(dead, Signal::KILL);
    eventually("one that fails", || tree.stderr().contains("reading services"));
    std::fs::rename(&away, tree.path("services")).expect("moved back");
    eventually("it to be supervised", || tree.called("svok", ["a"]).code == Some(0));
    assert_eq!(["a", "b"].map(|name| tree.pid(name)), pids.map(Some));
}

#[test]
fn a_keeper_that_dies_leaves_svscan_alone() {
    let (tree, keeper) = kept();
    let pid = tree.up("a");
    let svscan = svscan(keeper);
    tree.kill_svtree();
    tree.letter("a", "p");
    eventually("a letter to be obeyed", || tree.state("a")["paused"] == true);
    assert_eq!(tree.pid("a"), Some(pid));
    tree.svtree(["shutdown"]).ok();
    eventually("all to end", || !alive(svscan) && tree.processes().is_empty());
}

/// A tree with a module that sleeps beside `main`, whose end is the end of all.
fn ends_with_main(toml: &str, run: &str) -> Tree {
    let tree = Tree::new().options(["--log", "none", "--exit-with", "main"]);
    tree.sleeper("beside");
    tree.service("main").toml(toml).run(run).moved_in();
    tree.start();
    tree
}

/// A `run` that ends once it is told to, with this line.
fn once_told(end: &str) -> String {
    format!("#!/bin/sh\nuntil [ -e \"$SVTREE_IT/notes/end\" ]; do sleep 0.01; done\n{end}\n")
}

const NEVER: &str = "[restart]\nwhen = \"never\"\n";

#[test]
fn the_end_of_the_module_is_the_end_of_all_with_its_code_or_128_and_its_signal() {
    for (end, code) in [("exit 7", 7), ("exit 0", 0), ("exit 111", 111), ("kill -KILL $$", 137)] {
        let tree = ends_with_main(NEVER, &once_told(end));
        let beside = tree.up("beside");
        tree.up("main");
        replace(&tree.path("notes/end"), "", 0o644);
        assert_eq!(tree.ended().code(), Some(code), "{end}");
        assert!(!alive(beside), "{end}");
        assert!(tree.stderr().contains("--exit-with names it"), "{}", tree.stderr());
    }
}

#[test]
fn a_module_that_is_restarted_has_not_ended_until_it_is_given_up() {
    let toml = "[restart]\ndelay = \"0s\"\nmax_tries = 3\n";
    let tree = ends_with_main(toml, &NOTING.replace("exec sleep 1000", "exit 5"));
    assert_eq!(tree.ended().code(), Some(5));
    assert_eq!(tree.notes("main").len(), 4);
}

#[test]
fn down_exit_and_taken_away_are_ends_too() {
    for end in ["d", "xt", ""] {
        let tree = ends_with_main("", SLEEPER);
        tree.up("main");
        match end {
            "" => drop(tree.move_out("main")),
            letters => tree.letter("main", letters),
        }
        assert_eq!(tree.ended().code(), Some(143), "{end}");
    }
}

#[test]
fn restarted_or_replaced_it_has_not_ended() {
    let tree = ends_with_main("", SLEEPER);
    let mut pid = tree.up("main");
    for letters in ["k", "du"] {
        tree.letter("main", letters);
        pid = tree.up_again("main", pid);
    }
    let stands = tree.entry("main");
    let new = tree.service("main").run(NOTING).dir();
    let (old, new) = (std::fs::File::open(stands.parent().expect("above")), new);
    let services = old.expect("the services");
    let flags = rustix::fs::RenameFlags::EXCHANGE;
    rustix::fs::renameat_with(rustix::fs::CWD, &new, &services, "main", flags).expect("exchanged");
    tree.up_again("main", pid);
    eventually("the new one", || tree.notes("main").len() == 1);
    assert_eq!(tree.stop().code(), Some(0));
}

#[test]
fn a_module_that_is_not_there_yet_is_waited_for() {
    let tree = Tree::new().options(["--log", "none", "--exit-with", "main"]);
    tree.start();
    eventually("it to be said", || tree.stderr().contains("--exit-with main: no such module"));
    tree.service("main").toml(NEVER).run("#!/bin/sh\nexit 6\n").moved_in();
    assert_eq!(tree.ended().code(), Some(6));
    ran(&mut tree.command([SVTREE, "run", "services", "--exit-with", ".."])).failed(100);
}

#[test]
fn one_that_is_down_from_the_beginning_has_not_ended() {
    let tree = ends_with_main("enabled = false\n", SLEEPER);
    tree.becomes("main", "down");
    stays(Duration::from_millis(300), "running", || tree.is_running());
    tree.letter("main", "o");
    tree.up("main");
    tree.letter("main", "t");
    assert_eq!(tree.ended().code(), Some(143));
}

#[test]
fn behind_a_keeper_the_code_is_final_whatever_it_is_and_an_end_that_nobody_saw_counts() {
    let tree = Tree::new().options(["--log", "none", "--keep", "--exit-with", "main"]);
    tree.service("main").toml(NEVER).run(&once_told("exit 111")).moved_in();
    tree.start();
    tree.up("main");
    replace(&tree.path("notes/end"), "", 0o644);
    assert_eq!(tree.ended().code(), Some(111));
    std::fs::remove_file(tree.path("notes/end")).expect("removed");
    tree.start();
    let main = tree.up("main");
    let keeper = tree.pid_of_svtree();
    let svscan = svscan(keeper);
    signal_pid(svscan, Signal::STOP);
    eventually("it to stop", || process_state(svscan) == Some('T'));
    signal_pid(main, Signal::KILL);
    eventually("its end", || !alive(main));
    signal_pid(svscan, Signal::KILL);
    // Who reaped it was not svscan: where the kernel does not tell, the code is not known.
    let code = tree.ended().code();
    assert!(matches!(code, Some(137 | 111)), "{code:?}");
}
