//! `supervise` alone: `-F CONF`, and what happens when tries run out.

use std::fs;

use rustix::process::Signal;

use crate::harness::{Alone, eventually, signal_pid, stays, write};

const CRASH: &str = "#!/bin/sh\necho start >>\"$SVTREE_IT/notes/starts\"\nexit 1\n";

fn conf(alone: &Alone, text: &str) {
    write(&alone.path("conf"), text, 0o644);
}

#[test]
fn more_than_max_tries_exits_and_it_leaves_with_its_files_and_pid_0() {
    let alone = Alone::new();
    alone.script("crash", CRASH);
    conf(&alone, "[global]\nmax_tries : 2\nalarm_interval : 60\n");
    assert_eq!(alone.supervise(&["-p", "status/web", "-f", "./crash", "-F", "conf"]).ok(), "");
    eventually("it to be tried", || !alone.notes("starts").is_empty());
    alone.left();
    assert_eq!(alone.notes("starts").len(), 3);
    assert!(alone.log().contains("gave up after 3 exits") && alone.log().ends_with(" leaves\n"), "{}", alone.log());
    assert_eq!(alone.status("web").expect("it stays")[16..], [0; 4]);
    // Another one begins anew.
    assert_eq!(alone.supervise(&["-F", "conf", "-u", "status/web", "./crash"]).ok(), "");
    eventually("three more", || alone.notes("starts").len() == 6);
    alone.left();
}

#[test]
fn it_exits_0_when_its_tries_run_out() {
    let alone = Alone::new();
    conf(&alone, "[web]\nmax_tries : 1\n");
    let ran = alone.supervise(&["-F", "conf", "status/web", "false"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
}

#[test]
fn a_section_of_its_name_before_global_stands_alone() {
    let alone = Alone::new();
    conf(&alone, "[web]\n[global]\nmax_tries : 1\n");
    let mut pid = alone.start("sleep 1000", &["-F", "conf"]);
    for _ in 0..3 {
        signal_pid(pid, Signal::KILL);
        pid = alone.up_again("web", pid);
    }
}

#[test]
fn without_f_it_is_supervise_conf_of_the_directory_if_that_is_there() {
    let alone = Alone::new();
    let pid = alone.start("sleep 1000", &[]);
    assert_eq!(alone.warnings(), "", "it need not be there");
    alone.letter("web", "dx");
    alone.left();
    write(&alone.path("supervise.conf"), "[global]\nmax_tries : 1\n", 0o644);
    let pid = {
        let next = alone.start("sleep 1000", &[]);
        assert_ne!(next, pid);
        next
    };
    signal_pid(pid, Signal::KILL);
    let next = alone.up_again("web", pid);
    signal_pid(next, Signal::KILL);
    alone.left();
}

#[test]
fn a_missing_file_and_a_line_that_cannot_be_read_are_warnings() {
    let alone = Alone::new();
    alone.start("sleep 1000", &["-F", "nowhere/conf"]);
    assert!(alone.warnings().contains("[WARNING] ") && alone.warnings().contains("reading nowhere/conf: "));
    alone.letter("web", "dx");
    alone.left();
    conf(&alone, "[global]\nmax_tires : 2\nmax_tries : 1\n");
    let pid = alone.start("sleep 1000", &["-F", "conf"]);
    assert!(alone.warnings().contains("reading conf: line 2: "), "{}", alone.warnings());
    signal_pid(pid, Signal::KILL);
    let next = alone.up_again("web", pid);
    signal_pid(next, Signal::KILL);
    alone.left();
}

#[test]
fn r_reads_it_again() {
    let alone = Alone::new();
    conf(&alone, "[global]\n");
    let pid = alone.start("sleep 1000", &["-F", "conf"]);
    conf(&alone, "[global]\nmax_tries : 1\n");
    alone.letter("web", "r");
    eventually("it to be read", || alone.log().matches("read conf").count() == 2);
    // What is missing for a while changes nothing.
    fs::remove_file(alone.path("conf")).expect("removed");
    alone.letter("web", "r");
    eventually("a warning", || alone.warnings().contains("reading conf: "));
    signal_pid(pid, Signal::KILL);
    let next = alone.up_again("web", pid);
    signal_pid(next, Signal::KILL);
    alone.left();
}

#[test]
fn settings_are_found_from_wherever_the_program_is_started() {
    let alone = Alone::new();
    conf(&alone, "[global]\nalarm_interval : 0\nmax_tries : 1\n");
    let mut pid = alone.start("sleep 1000", &["-F", "./conf"]);
    for _ in 0..2 {
        signal_pid(pid, Signal::KILL);
        pid = alone.up_again("web", pid);
    }
    stays(std::time::Duration::from_millis(100), "an interval of 0 limits nothing", || alone.pid("web") == Some(pid));
}
