//! `supervise` alone: how it ends, and how the next one goes on from what it left.

use std::fs;
use std::time::Duration;

use rustix::process::Signal;

use crate::harness::{Alone, alive, children, eventually, parent, signal_pid, skip, stays, ticks, zombies};

#[test]
fn term_and_kill_end_it_at_once_and_leave_the_program_alone() {
    for signal in [Signal::TERM, Signal::KILL] {
        let alone = Alone::new();
        let pid = alone.start("sleep 1000", &[]);
        let status = alone.status("web");
        signal_pid(alone.supervisor(), signal);
        alone.left();
        stays(Duration::from_millis(300), "the program runs on alone", || alive(pid));
        assert_eq!(alone.status("web"), status);
    }
}

#[test]
fn killed_with_its_program_named_first_or_last_it_starts_nothing() {
    for signal in [Signal::TERM, Signal::KILL] {
        for round in 0..20 {
            let alone = Alone::new();
            alone.script("count", "#!/bin/sh\necho $$ >>\"$SVTREE_IT/notes/starts\"\nexec sleep 1000\n");
            let pid = alone.start("./count", &[]);
            assert_eq!(alone.noted_pids("starts", 1), [pid]);
            let supervisor = alone.supervisor();
            let order = if round % 2 == 0 { [pid, supervisor] } else { [supervisor, pid] };
            order.into_iter().for_each(|pid| signal_pid(pid, signal));
            alone.left();
            eventually("the program to end", || !alive(pid));
            // Started within a second of the last start it would have had to wait.
            assert_eq!(alone.notes("starts").len(), 1, "{signal:?}, round {round}");
            assert!(alone.processes().is_empty(), "{signal:?}, round {round}");
        }
    }
}

#[test]
fn a_new_one_takes_over_a_program_of_the_same_command() {
    for signal in [Signal::TERM, Signal::KILL] {
        let alone = Alone::new();
        let pid = alone.start("sleep 1000", &[]);
        let old = alone.supervisor();
        signal_pid(old, signal);
        alone.left();
        assert_eq!(alone.start("sleep 1000", &[]), pid);
        let new = alone.supervisor();
        assert_ne!(new, old);
        eventually("it to say so", || alone.log().contains(&format!("took over pid {pid}")));
        assert_eq!(alone.state("web")["adopted"], true);
        // And it is supervised.
        signal_pid(pid, Signal::KILL);
        let next = alone.up_again("web", pid);
        assert_eq!(parent(next), new);
    }
}

#[test]
fn a_new_one_can_start_at_once_after_a_kill_twenty_times() {
    let alone = Alone::new();
    let pid = alone.start("sleep 1000", &[]);
    for round in 0..20 {
        signal_pid(alone.supervisor(), Signal::KILL);
        assert_eq!(alone.supervise(&["-p", "status/web", "-f", "sleep 1000"]).ok(), "", "round {round}");
        alone.left_but_one();
        assert_eq!(alone.up("web"), pid, "round {round}");
    }
    assert_eq!(alone.processes().len(), 2, "one supervise and one program");
}

#[test]
fn a_program_of_another_command_is_ended_first() {
    let alone = Alone::new();
    let pid = alone.start("sleep 1000", &[]);
    signal_pid(alone.supervisor(), Signal::KILL);
    alone.left();
    assert_eq!(alone.supervise(&["-p", "status/web", "-f", "sleep 2000"]).ok(), "");
    let other = alone.up_again("web", pid);
    assert!(!alive(pid));
    assert_eq!(children(alone.supervisor()), [other]);
}

#[test]
fn what_a_dead_program_left_is_ended_before_a_new_one_starts() {
    let alone = Alone::new();
    alone.script("two", "#!/bin/sh\nsleep 1000 & echo $! >>\"$SVTREE_IT/notes/inner\"\nwait\n");
    let pid = alone.start("./two", &[]);
    let inner = alone.noted_pids("inner", 1)[0];
    signal_pid(alone.supervisor(), Signal::KILL);
    alone.left();
    signal_pid(pid, Signal::KILL);
    eventually("the program to end", || !alive(pid));
    assert!(alive(inner));
    alone.start("./two", &[]);
    assert_eq!(alone.noted_pids("inner", 2)[0], inner);
    assert!(!alive(inner), "never a second copy");
}

#[test]
fn a_new_one_starts_what_had_been_told_to_be_down() {
    let alone = Alone::new();
    alone.start("sleep 1000", &[]);
    alone.letter("web", "d");
    alone.becomes("web", "down");
    signal_pid(alone.supervisor(), Signal::KILL);
    alone.left();
    alone.start("sleep 1000", &[]);
    assert_eq!(alone.state("web")["want"], "up");
}

#[test]
fn after_x_it_leaves_its_files_with_pid_0_and_a_line_in_the_log() {
    let alone = Alone::new();
    let pid = alone.start("sleep 1000", &[]);
    alone.letter("web", "dx");
    alone.left();
    assert!(!alive(pid));
    assert_eq!(alone.status("web").expect("its status")[16..], [0; 4]);
    assert_eq!(alone.state("web")["state"], "down");
    assert!(alone.log().ends_with(" leaves\n"), "{}", alone.log());
    for file in ["lock", "svcontrol", "control", "ok", "state.json", "supervise.log.wf"] {
        assert!(alone.home("web").join(file).exists(), "{file}");
    }
    // And another one begins anew.
    alone.start("sleep 1000", &[]);
}

#[test]
fn a_program_that_goes_to_the_background_is_followed() {
    let alone = Alone::new();
    // It leaves when the daemon runs: what is in the midst of its exec shows no environment.
    let daemon = "echo $$ >>$SVTREE_IT/notes/pid; : >ready; sleep 1000; :";
    let wait = "while [ ! -e ready ]; do sleep 0.01; done";
    let start = format!("setsid sh -c '{daemon}' </dev/null >/dev/null 2>&1 &");
    alone.script("daemon", &format!("#!/bin/sh\nrm -f ready\n{start}\n{wait}\n"));
    assert_eq!(alone.supervise(&["-u", "status/web", "./daemon"]).ok(), "");
    eventually("the daemon to be followed", || alone.state("web")["followed"] == true);
    let pid = alone.up("web");
    assert_eq!(alone.notes("pid").len(), 1, "started once");
    signal_pid(pid, Signal::KILL);
    eventually("another one", || {
        alone.state("web")["followed"] == true && alone.pid("web").is_some_and(|new| new != pid)
    });
    assert_eq!(alone.notes("pid").len(), 2);
}

#[test]
fn a_svtree_on_the_same_status_root_leaves_it_alone() {
    let alone = Alone::new();
    let pid = alone.start("sleep 1000", &[]);
    signal_pid(alone.supervisor(), Signal::KILL);
    alone.left();
    alone.tree().start();
    alone.sleeper("other");
    alone.up("other");
    assert!(alive(pid) && alone.home("web").join("state.json").exists());
    alone.tree().stop();
    assert!(alive(pid) && alone.home("web").join("state.json").exists());
}

#[test]
fn many_are_stopped_and_started_by_turns_and_never_run_twice() {
    let alone = Alone::new();
    alone.script("once", "#!/bin/sh\nexec 9>>\"$SVTREE_IT/notes/lock\"\nflock -n 9 || echo twice >>\"$SVTREE_IT/notes/twice\"\nexec sleep 1000\n");
    for round in 0..10 {
        alone.start("./once", &[]);
        if round % 2 == 0 {
            alone.letter("web", "dx");
        } else {
            signal_pid(alone.supervisor(), Signal::TERM);
        }
        alone.left();
    }
    assert_eq!(fs::read_to_string(alone.path("notes/twice")).unwrap_or_default(), "");
}

#[test]
fn a_defect_in_it_costs_no_program() {
    if !cfg!(debug_assertions) {
        return skip("only a debug build has the defect");
    }
    let alone = Alone::env("SVTREE_DEFECT", "web");
    let pid = alone.start("sleep 1000", &[]);
    let supervisor = alone.supervisor();
    for count in 1..=2 {
        alone.letter("web", "a");
        eventually("the program to be taken back", || alone.warnings().matches("after a defect").count() == count);
    }
    assert_eq!((alone.up("web"), alone.supervisor()), (pid, supervisor));
    signal_pid(pid, Signal::KILL);
    let next = alone.up_again("web", pid);
    eventually("one child", || children(supervisor) == [next]);
}

#[test]
fn a_supervise_that_was_started_by_a_program_of_another_one_lives_on_when_that_one_ends() {
    let alone = Alone::new();
    let link = alone.link("supervise.inner").display().to_string();
    alone.script("agent", &format!("#!/bin/sh\n{link} -p status/inner -f 'sleep 2000'\nexec sleep 1000\n"));
    alone.start("./agent", &[]);
    let inner = alone.up("inner");
    alone.letter("web", "d");
    alone.becomes("web", "down");
    stays(Duration::from_millis(200), "the inner one and its program run", || {
        alive(inner) && alone.everybody().len() == 2
    });
    alone.letter("web", "x");
    eventually("the outer one to have left", || alone.everybody().len() == 1);
    alone.letter("inner", "dx");
    alone.left();
    assert!(!alive(inner));
}

#[test]
fn orphans_of_its_program_are_collected() {
    let alone = Alone::new();
    alone.script(
        "orphans",
        "#!/bin/sh\ni=0\nwhile [ $i -lt 50 ]; do (setsid true &); i=$((i + 1)); done\nexec sleep 1000\n",
    );
    alone.start("./orphans", &[]);
    let supervisor = alone.supervisor();
    eventually("only the program to be left", || children(supervisor).len() == 1 && zombies(supervisor).is_empty());
}

#[test]
fn it_rests_while_nothing_happens() {
    let alone = Alone::new();
    alone.start("sleep 1000", &[]);
    let supervisor = alone.supervisor();
    let before = ticks(supervisor);
    stays(Duration::from_secs(4), "it runs", || alive(supervisor));
    assert!(ticks(supervisor) - before <= 4, "less than one part in a hundred of a processor");
}
