//! `supervise` alone: letters, exits, and what a deployment's scripts do with them.

use std::time::Duration;

use rustix::process::Signal;

use crate::harness::{Alone, alive, eventually, executable, runs, signal_pid, stays, wait_for, write_fifo};

#[test]
fn d_never_ends_in_kill() {
    let alone = Alone::new();
    alone.script("deaf", "#!/bin/sh\ntrap '' TERM\necho deaf >>\"$SVTREE_IT/notes/deaf\"\nexec sleep 1000\n");
    let pid = alone.start("./deaf", &[]);
    eventually("it to be deaf", || !alone.notes("deaf").is_empty());
    alone.letter("web", "d");
    alone.becomes("web", "stopping");
    let state: serde_json::Value = alone.state("web");
    assert!(state["record"]["stopping"][0].is_null(), "no time is set: {state}");
    stays(Duration::from_secs(2), "it runs", || alive(pid));
    alone.letter("web", "k");
    alone.becomes("web", "down");
}

#[test]
fn dx_in_one_write_and_in_two_ends_both() {
    for letters in [&["dx"][..], &["d", "x"], &["d\n", "x\n"], &["x", "d"]] {
        let alone = Alone::new();
        let pid = alone.start("sleep 1000", &[]);
        for letter in letters {
            // The first one may have ended everything.
            if let Ok(mut fifo) = write_fifo(&alone.home("web").join("svcontrol")) {
                std::io::Write::write_all(&mut fifo, letter.as_bytes()).expect("written");
            }
        }
        alone.left();
        assert!(!alive(pid) && alone.pid("web").is_none(), "{letters:?}");
    }
}

#[test]
fn a_program_that_writes_dx_to_its_own_supervisor_and_exits_is_not_started_again() {
    for round in 0..20 {
        let alone = Alone::new();
        let script = "#!/bin/sh\necho $$ >>\"$SVTREE_IT/notes/starts\"\nprintf dx >status/web/svcontrol\n";
        alone.script("leave", script);
        assert_eq!(alone.supervise(&["-u", "status/web", "./leave"]).ok(), "");
        eventually("it to have run", || !alone.notes("starts").is_empty());
        alone.left();
        assert_eq!(alone.notes("starts").len(), 1, "round {round}");
    }
}

#[test]
fn a_program_that_exits_is_started_again_and_its_exit_is_told() {
    let alone = Alone::new();
    let pid = alone.start("sleep 1000", &[]);
    signal_pid(pid, Signal::KILL);
    alone.up_again("web", pid);
    let exit = alone.state("web")["exits"][0].clone();
    assert_eq!((exit["pid"].as_i64(), exit["signal"].as_i64()), (Some(pid.into()), Some(9)));
}

#[test]
fn a_core_dump_is_told_in_exits() {
    use std::os::unix::process::ExitStatusExt;
    let alone = Alone::new();
    alone.script("dump", "#!/bin/sh\nulimit -c unlimited 2>/dev/null\nkill -SEGV $$\n");
    // What the kernel does here depends on its settings: the same program, waited for by this test, says what is to be seen.
    let mut command = alone.command([alone.path("dump").into_os_string()]);
    let status = crate::harness::spawn(&mut command).and_then(|mut child| child.wait()).expect("run");
    assert_eq!(status.signal(), Some(11));
    assert_eq!(alone.supervise(&["-u", "status/web", "./dump"]).ok(), "");
    let exit = wait_for("an exit", || alone.state("web")["exits"][0].as_object().cloned());
    assert_eq!(exit["signal"], 11);
    assert_eq!(exit["core"], status.core_dumped());
    assert!(exit["code"].is_null());
}

#[test]
fn a_program_that_is_not_there_is_tried_every_second_and_started_once_it_is() {
    let alone = Alone::new();
    assert_eq!(alone.supervise(&["-u", "status/web", "./later"]).ok(), "");
    alone.becomes("web", "waiting");
    assert!(alone.told("web").contains("executing ./later: "), "{}", alone.told("web"));
    alone.script("later", "#!/bin/sh\nexec sleep 1000\n");
    alone.up("web");
}

#[test]
fn files_of_the_directory_it_is_started_in_mean_nothing() {
    let alone = Alone::new();
    let note = "#!/bin/sh\necho \"$0\" >>\"$SVTREE_IT/notes/meant\"\n";
    for file in ["run", "finish", "control/t", "control/d", "check"] {
        assert!(executable(&alone.script(file, note)));
    }
    alone.script("down", "");
    alone.script("service.toml", "command = 'false'\n");
    let pid = alone.start("sleep 1000", &[]);
    alone.letter("web", "t");
    let next = alone.up_again("web", pid);
    assert!(runs(next).is_some());
    assert!(alone.notes("meant").is_empty());
    assert!(!alone.path("supervise").exists());
}

#[test]
fn clients_reach_it_by_its_status_directory() {
    let alone = Alone::new();
    let pid = alone.start("sleep 1000", &[]);
    let line = alone.called("svstat", ["status/web"]).ok();
    assert!(line.starts_with(&format!("status/web: up (pid {pid}) ")), "{line}");
    assert_eq!(alone.called("svok", ["status/web"]).code, Some(0));
    assert_eq!(alone.called("svc", ["-d", "status/web"]).ok(), "");
    alone.becomes("web", "down");
    assert_eq!(alone.called("svc", ["-x", "status/web"]).ok(), "");
    alone.left();
    assert_eq!(alone.called("svok", ["status/web"]).code, Some(100));
}
