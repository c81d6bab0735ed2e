//! Section: a defect of svtree in the thread of one module, which a debug build makes when it is asked to.
//!
//! The letter `a` to the module that `SVTREE_DEFECT` names is the defect.

use std::time::Duration;

use crate::harness::{DEAF, NOTING, ONE_COPY, Tree, alive, eventually, signal_pid, skip, stays, text, within, zombies};
use rustix::process::Signal;

/// A tree that runs, in which `bad` has the defect.
fn defective() -> Option<Tree> {
    if !cfg!(debug_assertions) {
        skip("only a debug build has the defect");
        return None;
    }
    let tree = Tree::new().env("SVTREE_DEFECT", "bad");
    tree.start();
    Some(tree)
}

/// How often a thread took the program of another one back.
fn taken_back(tree: &Tree) -> usize {
    text(&tree.home("bad").join("supervise.log.wf")).matches("after a defect").count()
}

#[test]
fn a_defect_costs_nobody_a_program_and_its_own_is_supervised_again() {
    let Some(tree) = defective() else { return };
    let names = ["before", "bad", "other"];
    for name in names {
        tree.service(name).run(ONE_COPY).moved_in();
    }
    let pids = names.map(|name| tree.up(name));
    for round in 1..=20 {
        tree.letter("bad", "a");
        for (name, letter) in [("before", "p"), ("other", "p"), ("before", "c"), ("other", "c")] {
            tree.letter(name, letter);
            let paused = letter == "p";
            within(Duration::from_secs(2), "the others to answer", || tree.state(name)["paused"] == paused);
        }
        within(Duration::from_secs(5), "it to be supervised again", || taken_back(&tree) == round);
        assert_eq!(tree.called("svok", ["bad"]).code, Some(0));
        assert_eq!(names.map(|name| tree.pid(name)), pids.map(Some));
    }
    tree.letter("bad", "p");
    eventually("a letter to be obeyed", || tree.state("bad")["paused"] == true);
    tree.letter("bad", "ck");
    tree.up_again("bad", pids[1]);
    eventually("the true exit", || tree.state("bad")["exits"][0]["signal"] == 9);
    let state = tree.state("bad");
    assert!(state["exits"][0]["pid"] == pids[1] && state["exits_total"] == 1, "{state}");
    assert_eq!(tree.notes("twice"), [""; 0]);
    assert_eq!(zombies(tree.pid_of_svtree()), [0; 0]);
    let said = tree.complaints();
    assert_eq!(said.lines().count(), 20, "one line each: {said}");
    assert!(said.lines().all(|line| line.starts_with("svtree: ") && line.contains("bad")), "{said}");
}

#[test]
fn what_dies_while_nobody_supervises_it_is_reaped_told_and_started_again() {
    let Some(tree) = defective() else { return };
    tree.service("bad").run(ONE_COPY).moved_in();
    let mut pid = tree.up("bad");
    for round in 1..=5 {
        tree.letter("bad", "a");
        // In any order: that it died before the defect is allowed too.
        signal_pid(pid, Signal::KILL);
        let before = pid;
        pid = tree.up_again("bad", pid);
        eventually("its exit to be told", || tree.state("bad")["exits_total"] == round);
        let exit = &tree.state("bad")["exits"][0];
        assert!(exit["pid"] == before && exit["signal"] == 9, "{exit}");
    }
    assert_eq!(tree.notes("twice"), [""; 0]);
    assert_eq!(zombies(tree.pid_of_svtree()), [0; 0]);
}

#[test]
fn a_stop_goes_on_after_a_defect() {
    let Some(tree) = defective() else { return };
    tree.service("bad").run(DEAF).toml("[stop]\ntimeout = '2s'").moved_in();
    let pid = tree.up("bad");
    eventually("it to be deaf", || !tree.notes("bad").is_empty());
    tree.letter("bad", "da");
    tree.becomes("bad", "down");
    assert!(!alive(pid));
    eventually("its exit to be told", || tree.state("bad")["exits"][0]["signal"] == 9);
    assert_eq!(tree.state("bad")["want"], "down");
    stays(Duration::from_millis(1300), "not started again", || tree.notes("bad").len() == 1);
    assert_eq!(zombies(tree.pid_of_svtree()), [0; 0]);
}

#[test]
fn what_is_retired_is_gone_after_a_defect() {
    let Some(tree) = defective() else { return };
    for round in 1..=2 {
        tree.service("bad").run(DEAF).toml("[stop]\ntimeout = '2s'").moved_in();
        let pid = tree.up("bad");
        eventually("it to be deaf", || tree.notes("bad").len() == round);
        // Taken away as a whole: a thread that takes the place of another has what the files said last.
        // The defect while it is being stopped, and before.
        if round == 1 {
            tree.move_out("bad");
            tree.becomes("bad", "stopping");
            tree.letter("bad", "a");
        } else {
            tree.letter("bad", "a");
            tree.move_out("bad");
        }
        tree.goes("bad");
        assert!(!alive(pid), "round {round}");
    }
    assert_eq!(zombies(tree.pid_of_svtree()), [0; 0]);
}

#[test]
fn the_end_of_svtree_ends_all_after_a_defect() {
    for round in 0..2 {
        let Some(tree) = defective() else { return };
        tree.service("bad").run(DEAF).toml("[stop]\ntimeout = '2s'").moved_in();
        tree.service("other").run(NOTING).moved_in();
        let pids = [tree.up("bad"), tree.up("other")];
        eventually("it to be deaf", || !tree.notes("bad").is_empty());
        // The defect before the end, and while it is being stopped.
        if round == 0 {
            tree.letter("bad", "a");
        }
        tree.signal_svtree(Signal::TERM);
        if round == 1 {
            tree.becomes("bad", "stopping");
            tree.letter("bad", "a");
        }
        assert_eq!(tree.ended().code(), Some(0));
        assert!(!pids.into_iter().any(alive));
        assert!(!tree.home("bad").exists());
    }
}
