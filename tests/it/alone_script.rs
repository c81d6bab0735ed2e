//! `supervise` alone: `-r SCRIPT` before each restart, and what `-t` makes of its count.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::harness::{Alone, alive, eventually, signal_pid, within};

const COUNT: &str = "#!/bin/sh\necho \"$*\" >>\"$SVTREE_IT/notes/counts\"\n";

#[test]
fn the_script_is_run_before_each_restart_with_the_count_of_exits() {
    let alone = Alone::new();
    alone.script("restart", COUNT);
    alone.script("crash", "#!/bin/sh\necho start >>\"$SVTREE_IT/notes/counts\"\nexit 1\n");
    assert_eq!(alone.supervise(&["-p", "status/web", "-f", "./crash", "-r", "./restart", "-t", "60"]).ok(), "");
    eventually("three restarts", || alone.notes("counts").len() >= 7);
    assert_eq!(alone.notes("counts")[..7], ["start", "1", "start", "2", "start", "3", "start"]);
}

#[test]
fn exits_further_apart_than_t_begin_again_at_1() {
    let alone = Alone::new();
    alone.script("restart", COUNT);
    let mut pid = alone.start("sleep 1000", &["-r", "sh restart", "-t", "3"]);
    for (wait, count) in [(0, 1), (0, 2), (4, 1), (0, 2)] {
        let begin = Instant::now();
        eventually("the time between two exits", || begin.elapsed() > Duration::from_secs(wait));
        signal_pid(pid, Signal::KILL);
        pid = alone.up_again("web", pid);
        assert_eq!(alone.notes("counts").last(), Some(&count.to_string()), "{:?}", alone.notes("counts"));
    }
}

#[test]
fn the_restart_waits_for_the_script() {
    let alone = Alone::new();
    alone.script("restart", "#!/bin/sh\nwhile [ ! -e go ]; do sleep 0.05; done\n");
    let pid = alone.start("sleep 1000", &["-r", "./restart"]);
    signal_pid(pid, Signal::KILL);
    alone.becomes("web", "finishing");
    assert_eq!(alone.pid("web"), None);
    alone.script("go", "");
    alone.up_again("web", pid);
}

#[test]
fn letters_are_obeyed_while_the_script_runs() {
    for letters in ["dx", "x"] {
        let alone = Alone::new();
        alone.script("restart", "#!/bin/sh\nexec sleep 1000\n");
        let pid = alone.start("sleep 1000", &["-r", "./restart"]);
        signal_pid(pid, Signal::KILL);
        alone.becomes("web", "finishing");
        alone.letter("web", letters);
        within(Duration::from_secs(10), "it to leave", || alone.everybody().is_empty());
        eventually("nothing to be left of the script", || alone.processes().is_empty());
    }
    let alone = Alone::new();
    alone.script("restart", "#!/bin/sh\nexec sleep 1000\n");
    let pid = alone.start("sleep 1000", &["-r", "./restart"]);
    signal_pid(pid, Signal::KILL);
    alone.becomes("web", "finishing");
    alone.letter("web", "d");
    alone.becomes("web", "down");
    alone.letter("web", "u");
    alone.up_again("web", pid);
}

#[test]
fn no_script_is_run_where_no_restart_follows() {
    let alone = Alone::new();
    alone.script("restart", COUNT);
    let pid = alone.start("sleep 1000", &["-r", "./restart"]);
    alone.letter("web", "d");
    alone.becomes("web", "down");
    assert!(!alive(pid));
    alone.letter("web", "x");
    alone.left();
    assert!(alone.notes("counts").is_empty());
}

#[test]
fn a_script_that_cannot_be_run_or_fails_holds_up_nothing() {
    for (script, told) in [("./nowhere", "executing ./nowhere: "), ("false", "exited 1")] {
        let alone = Alone::new();
        let pid = alone.start("sleep 1000", &["-r", script]);
        signal_pid(pid, Signal::KILL);
        alone.up_again("web", pid);
        eventually("it to be told", || alone.log().contains(told));
    }
}

#[test]
fn a_script_of_a_supervise_that_was_killed_holds_up_no_new_one() {
    let alone = Alone::new();
    alone.script("restart", "#!/bin/sh\necho $$ >>\"$SVTREE_IT/notes/script\"\nexec sleep 1000\n");
    let pid = alone.start("sleep 1000", &["-r", "./restart"]);
    signal_pid(pid, Signal::KILL);
    alone.becomes("web", "finishing");
    let script = alone.noted_pids("script", 1)[0];
    signal_pid(alone.supervisor(), Signal::KILL);
    alone.left();
    alone.start("sleep 1000", &[]);
    assert!(!alive(script));
}
