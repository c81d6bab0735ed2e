//! Section: how a module is stopped, and what of it is ended.

use std::time::Duration;

use rustix::process::Signal;

use crate::harness::{
    DEAF, ONE_COPY, SLEEPER, Tree, alive, descriptors, eventually, limit_descriptors, process_state, signal_pid, stays,
};

#[test]
fn d_sends_term_then_cont() {
    let tree = Tree::running();
    let script = "#!/bin/sh\ntrap 'echo cont >> \"$SVTREE_IT/notes/web\"' CONT\n\
        trap 'echo term >> \"$SVTREE_IT/notes/web\"; end=1' TERM\n\
        echo ready >> \"$SVTREE_IT/notes/web\"\nwhile [ -z \"$end\" ]; do sleep 0.05; done\nsleep 0.3\n";
    tree.service("web").run(script).moved_in();
    tree.up("web");
    eventually("its traps to be set", || tree.notes("web") == ["ready"]);
    tree.letter("web", "d");
    tree.becomes("web", "down");
    let mut noted = tree.notes("web");
    noted.sort();
    assert_eq!(noted, ["cont", "ready", "term"]);
}

#[test]
fn d_ends_what_is_paused() {
    let tree = Tree::running();
    tree.sleeper("web");
    let pid = tree.up("web");
    tree.letter("web", "p");
    eventually("it to be paused", || process_state(pid) == Some('T'));
    tree.letter("web", "d");
    tree.becomes("web", "down");
    assert_eq!(tree.state("web")["exits"][0]["signal"], 15);
    assert_eq!(tree.state("web")["paused"], false);
}

#[test]
fn what_was_stopped_by_a_stranger_ends_too() {
    let tree = Tree::running();
    tree.sleeper("web");
    let pid = tree.up("web");
    signal_pid(pid, Signal::STOP);
    eventually("it to be stopped", || process_state(pid) == Some('T'));
    tree.letter("web", "d");
    tree.becomes("web", "down");
}

#[test]
fn what_does_not_end_on_term_is_killed_after_the_timeout() {
    let tree = Tree::running();
    tree.service("web").run(DEAF).toml("[stop]\ntimeout = '1s'").moved_in();
    let pid = tree.up("web");
    eventually("it to be deaf", || !tree.notes("web").is_empty());
    tree.letter("web", "d");
    tree.becomes("web", "stopping");
    stays(Duration::from_millis(700), "not before the time-out", || alive(pid));
    tree.becomes("web", "down");
    assert_eq!(tree.state("web")["exits"][0]["signal"], 9);
    assert_eq!(tree.state("web")["want"], "down");
}

#[test]
fn timeout_never_waits_for_ever() {
    let tree = Tree::running();
    tree.service("web").run(DEAF).toml("[stop]\ntimeout = 'never'").moved_in();
    let pid = tree.up("web");
    eventually("it to be deaf", || !tree.notes("web").is_empty());
    tree.letter("web", "d");
    tree.becomes("web", "stopping");
    stays(Duration::from_secs(2), "not killed", || alive(pid));
    tree.letter("web", "k");
    tree.becomes("web", "down");
}

#[test]
fn a_second_d_does_not_put_off_the_kill() {
    let tree = Tree::running();
    tree.service("web").run(DEAF).toml("[stop]\ntimeout = '1s'").moved_in();
    tree.up("web");
    eventually("it to be deaf", || !tree.notes("web").is_empty());
    eventually("down, with a `d` every few milliseconds", || {
        tree.letter("web", "d");
        tree.state("web")["state"] == "down"
    });
}

#[test]
fn nothing_of_a_pipeline_is_left_when_it_is_down() {
    let tree = Tree::running();
    let script = "#!/bin/sh\nsh -c 'echo $$ >> \"$SVTREE_IT/notes/web\"; exec sleep 999' | \
        sh -c 'echo $$ >> \"$SVTREE_IT/notes/web\"; trap \"\" TERM; cat' &\nwait\n";
    tree.service("web").run(script).toml("[stop]\ntimeout = '500ms'").moved_in();
    tree.up("web");
    let pids = tree.noted_pids("web", 2);
    tree.letter("web", "d");
    tree.becomes("web", "down");
    assert!(!pids.into_iter().any(alive), "none is left");
}

#[test]
fn what_ignores_term_beside_a_program_that_ended_is_killed_after_the_timeout() {
    let tree = Tree::running();
    let script =
        "#!/bin/sh\nsh -c 'trap \"\" TERM; echo $$ >> \"$SVTREE_IT/notes/web\"; sleep 1000' &\nexec sleep 1000\n";
    tree.service("web").run(script).toml("[stop]\ntimeout = '700ms'").moved_in();
    let pid = tree.up("web");
    let left = tree.noted_pids("web", 1);
    tree.letter("web", "d");
    eventually("the program itself to end", || !alive(pid));
    tree.becomes("web", "down");
    assert!(!alive(left[0]));
}

#[test]
fn what_a_program_left_in_its_session_is_ended_before_a_restart() {
    let tree = Tree::running();
    let script = "#!/bin/sh\nsleep 1000 &\necho $! >> \"$SVTREE_IT/notes/web\"\nexec sleep 1000\n";
    tree.service("web").run(script).toml("[restart]\ndelay = '10ms'").moved_in();
    let mut pid = tree.up("web");
    for round in 1..=5 {
        let left = tree.noted_pids("web", round);
        tree.letter("web", "k");
        pid = tree.up_again("web", pid);
        assert!(!alive(left[round - 1]), "round {round}");
    }
}

#[test]
fn a_process_in_another_group_of_the_session_ends_with_it() {
    let tree = Tree::running();
    // Job control gives each background job a group of its own, in the same session.
    let script = "#!/bin/sh\nset -m 2>/dev/null\nsleep 1000 &\necho $! >> \"$SVTREE_IT/notes/web\"\nwait\n";
    tree.service("web").run(script).moved_in();
    tree.up("web");
    let left = tree.noted_pids("web", 1);
    tree.letter("web", "d");
    tree.becomes("web", "down");
    assert!(!alive(left[0]));
}

#[test]
fn scope_main_leaves_what_the_program_started() {
    let tree = Tree::running();
    let script = "#!/bin/sh\nsleep 1000 &\necho $! >> \"$SVTREE_IT/notes/web\"\nexec sleep 1000\n";
    tree.service("web").run(script).toml("[stop]\nscope = 'main'").moved_in();
    tree.up("web");
    let left = tree.noted_pids("web", 1);
    tree.letter("web", "d");
    tree.becomes("web", "down");
    stays(Duration::from_millis(300), "it is left", || alive(left[0]));
    signal_pid(left[0], Signal::KILL);
    eventually("its end", || !alive(left[0]));
}

#[test]
fn k_and_t_reach_the_program_alone() {
    let tree = Tree::running();
    let script = "#!/bin/sh\nsleep 1000 &\necho $! >> \"$SVTREE_IT/notes/web\"\ntrap 'echo term >> \"$SVTREE_IT/notes/term\"' TERM\n\
        echo ready >> \"$SVTREE_IT/notes/term\"\nwhile kill -0 $!; do wait $!; done\n";
    tree.service("web").run(script).toml("[stop]\ntimeout = '200ms'").moved_in();
    tree.up("web");
    let beside = tree.noted_pids("web", 1);
    eventually("its trap to be set", || tree.notes("term") == ["ready"]);
    tree.letter("web", "t");
    eventually("the program to have had it", || tree.notes("term") == ["ready", "term"]);
    assert!(alive(beside[0]), "its child has not");
}

#[test]
fn a_module_that_ends_by_itself_while_it_stops_is_down() {
    let tree = Tree::running();
    tree.service("web").run("#!/bin/sh\nexit 0\n").toml("enabled = false\n[restart]\ndelay = '1ms'").moved_in();
    let restarts = || tree.state("web")["restarts"].as_u64();
    for _ in 0..20 {
        tree.becomes("web", "down");
        let before = restarts();
        tree.letter("web", "u");
        eventually("it to flap", || restarts() > before.map(|count| count + 3));
        tree.letter("web", "d");
        tree.becomes("web", "down");
        assert_eq!(tree.pid("web"), None);
    }
}

#[test]
fn stopping_is_told_while_it_lasts() {
    let tree = Tree::running();
    tree.service("web").run(DEAF).toml("[stop]\ntimeout = '2s'").moved_in();
    let pid = tree.up("web");
    eventually("it to be deaf", || !tree.notes("web").is_empty());
    tree.letter("web", "d");
    tree.becomes("web", "stopping");
    let state = tree.state("web");
    assert!(state["pid"] == pid && state["want"] == "down", "{state}");
    assert_eq!(tree.status("web").expect("status")[13], b'd');
    tree.sleeper("other");
    tree.up("other");
}

#[test]
fn a_sleeper_dies_at_once() {
    let tree = Tree::running();
    tree.service("web").run(SLEEPER).moved_in();
    tree.up("web");
    let asked = std::time::Instant::now();
    tree.letter("web", "d");
    tree.becomes("web", "down");
    assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
}

#[test]
fn while_what_a_program_left_cannot_be_looked_for_it_is_not_started_again() {
    let tree = Tree::running();
    // The lock is with the child that is left.
    let script = ONE_COPY.replace("exec sleep 1000", "sleep 1000 &\nwait");
    tree.service("web").run(&script).toml("[restart]\ndelay = '10ms'").moved_in();
    let pid = tree.up("web");
    tree.noted_pids("web", 1);
    tree.becomes("web", "up");
    // No directory can be opened any more; what is open stays open.
    let svtree = tree.pid_of_svtree();
    let open = descriptors(svtree);
    let free = (0..i32::MAX).find(|number| !open.contains(number)).expect("a number");
    let before = limit_descriptors(svtree, u64::from(free.cast_unsigned()));
    signal_pid(pid, Signal::KILL);
    stays(Duration::from_millis(1500), "no second copy", || tree.notes("twice").is_empty());
    limit_descriptors(svtree, before);
    tree.up_again("web", pid);
    tree.noted_pids("web", 2);
    assert_eq!(tree.notes("twice"), [""; 0]);
    eventually("nothing of the first to be left", || tree.processes().len() == 3);
}
