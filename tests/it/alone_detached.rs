//! `supervise` alone, detached: from whatever it was started, it goes on by itself.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;

use rustix::process::Signal;

use crate::harness::{
    Alone, alive, children, environment, eventually, has_open, is_root, parent, process_field, program, ran,
    signal_pid, skip, stat, stays,
};

/// A shell script in the directory of the test, which is told the name of a supervise.
fn sh(alone: &Alone, script: &str) -> crate::harness::Ran {
    let link = alone.link("supervise.web");
    alone.ran(["sh".into(), "-c".into(), script.into(), "sh".into(), link.into_os_string()])
}

#[test]
fn the_program_is_its_child_and_there_is_nothing_between() {
    let alone = Alone::new();
    let pid = alone.start("sleep 1000", &[]);
    let supervisor = alone.supervisor();
    assert_eq!(parent(pid), supervisor);
    assert_eq!(children(supervisor), [pid]);
    assert_eq!(alone.everybody(), [supervisor], "one process");
}

#[test]
fn it_has_a_session_of_its_own_and_dev_null_as_standard_streams() {
    let alone = Alone::new();
    alone.start("sleep 1000", &[]);
    let supervisor = alone.supervisor();
    let stat = stat(supervisor).expect("it runs");
    // The fourth field is the group and the fifth the session; the sixth the terminal, of which there is none.
    assert_eq!(stat[2..5], [supervisor.to_string(), supervisor.to_string(), "0".to_owned()]);
    for stream in 0..3 {
        let file = fs::read_link(format!("/proc/{supervisor}/fd/{stream}")).expect("open");
        assert_eq!(file, Path::new("/dev/null"));
    }
}

#[test]
fn the_directory_of_the_caller_is_kept_for_both() {
    let alone = Alone::new();
    let pid = alone.start("sleep 1000", &[]);
    let here = fs::canonicalize(alone.path("")).expect("the directory");
    for pid in [pid, alone.supervisor()] {
        assert_eq!(fs::read_link(format!("/proc/{pid}/cwd")).expect("a directory"), here);
    }
}

#[test]
fn what_the_program_is_started_with_is_what_any_module_gets() {
    let alone = Alone::new();
    let pid = alone.start("sleep 1000", &[]);
    let stat = stat(pid).expect("it runs");
    assert_eq!(stat[2..4], [pid.to_string(), pid.to_string()], "a session of its own");
    for mask in ["SigBlk", "SigIgn", "SigCgt"] {
        assert_eq!(process_field(pid, mask).trim_start_matches('0'), "", "{mask}");
    }
    has_open(pid, &[0, 1, 2]);
    assert!(environment(pid).contains(&"SVTREE_MODULE=web".to_owned()));
}

#[test]
fn the_logs_are_there_when_the_caller_goes_on() {
    for round in 0..20 {
        let alone = Alone::new();
        let logs = "[ -f status/web/supervise.log ] && [ -f status/web/supervise.log.wf ]";
        let ran = sh(&alone, &format!("\"$1\" -p status/web -f 'sleep 1000' && {logs}"));
        assert_eq!(ran.code, Some(0), "round {round}: {ran:?}");
    }
}

#[test]
fn the_caller_reads_the_end_of_its_output_at_once() {
    let alone = Alone::new();
    // As in a command substitution: who keeps the pipe open keeps the caller waiting.
    let ran = sh(&alone, "out=$(\"$1\" -p status/web -f 'sleep 1000' 2>&1 3>&1); echo \"<$out>\"");
    assert_eq!((ran.code, ran.out.as_str()), (Some(0), "<>\n"));
    alone.up("web");
}

#[test]
fn a_lock_of_the_callers_script_is_not_kept() {
    let Some(_) = program("flock") else { return };
    let alone = Alone::new();
    let ran = sh(&alone, "exec 9>lock; flock 9; \"$1\" -p status/web -f 'sleep 1000'");
    assert_eq!(ran.code, Some(0), "{ran:?}");
    alone.up("web");
    assert_eq!(sh(&alone, "flock -n lock true").code, Some(0), "it is free");
}

#[test]
fn a_script_that_ends_at_any_failure_goes_on() {
    let alone = Alone::new();
    let ran =
        sh(&alone, "set -e; \"$1\" -p status/web -f 'sleep 1000'; \"$1\" -p status/web -f 'sleep 1000'; echo done");
    assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (Some(0), "done\n", ""));
    alone.up("web");
}

#[test]
fn closed_standard_streams_change_nothing() {
    let alone = Alone::new();
    let ran = sh(&alone, "\"$1\" -p status/web -f 'sleep 1000' <&- >&- 2>&-");
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let pid = alone.up("web");
    for pid in [pid, alone.supervisor()] {
        for stream in 0..3 {
            let file = fs::read_link(format!("/proc/{pid}/fd/{stream}")).expect("open");
            assert_eq!(file, Path::new("/dev/null"));
        }
    }
}

#[test]
fn it_is_started_in_the_background_of_a_shell_and_by_setsid() {
    for start in ["\"$1\" -p status/web -f 'sleep 1000' & wait $!", "setsid \"$1\" -p status/web -f 'sleep 1000'"] {
        let alone = Alone::new();
        assert_eq!(sh(&alone, start).code, Some(0), "{start}");
        let pid = alone.up("web");
        assert_eq!(parent(pid), alone.supervisor());
    }
}

#[test]
fn it_is_started_by_su() {
    if !is_root() || program("su").is_none() {
        return skip("su needs root");
    }
    let alone = Alone::new();
    let (here, link) = (alone.path(""), alone.link("supervise.web"));
    let line = format!("cd {} && {} -p status/web -f 'sleep 1000'", here.display(), link.display());
    let ran = alone.ran(["su", "-m", "-s", "/bin/sh", "root", "-c", line.as_str()]);
    if ran.code != Some(0) {
        return skip("su is not allowed here");
    }
    let pid = alone.up("web");
    stays(std::time::Duration::from_millis(300), "it runs on when su has ended", || alive(pid));
}

#[test]
fn term_ends_it_also_where_it_was_started_with_term_blocked_or_ignored() {
    for prefix in [
        &[
            "python3",
            "-c",
            "import os,signal,sys; signal.pthread_sigmask(0,range(1,65)); os.execv(sys.argv[1],sys.argv[1:])",
        ][..],
        &["sh", "-c", "trap '' TERM HUP INT QUIT; exec \"$0\" \"$@\""],
    ] {
        if program(prefix[0]).is_none() {
            continue;
        }
        let alone = Alone::new();
        let link = alone.link("supervise.web").display().to_string();
        let words = prefix.iter().copied().chain([link.as_str(), "-p", "status/web", "-f", "sleep 1000"]);
        assert_eq!(alone.ran(words).code, Some(0));
        let pid = alone.up("web");
        assert_eq!(process_field(pid, "SigBlk").trim_start_matches('0'), "");
        assert_eq!(process_field(pid, "SigIgn").trim_start_matches('0'), "");
        let supervisor = alone.supervisor();
        signal_pid(supervisor, Signal::TERM);
        eventually("it to end", || !alive(supervisor));
        assert!(alive(pid), "its program runs on");
    }
}

#[test]
fn hup_is_ignored_by_it_and_at_its_default_in_the_program() {
    let alone = Alone::new();
    let pid = alone.start("sleep 1000", &[]);
    let supervisor = alone.supervisor();
    signal_pid(supervisor, Signal::HUP);
    stays(std::time::Duration::from_millis(200), "it and its program run", || alive(supervisor) && alive(pid));
    signal_pid(pid, Signal::HUP);
    alone.up_again("web", pid);
    assert_eq!(alone.supervisor(), supervisor);
}

#[test]
fn of_two_that_are_started_at_once_one_runs_and_both_callers_have_0() {
    for round in 0..20 {
        let alone = Alone::new();
        let start = "\"$1\" -p status/web -f 'sleep 1000'";
        let ran = sh(&alone, &format!("{start} & one=$!; {start} & wait $one && wait $!"));
        assert_eq!(ran.code, Some(0), "round {round}: {ran:?}");
        let pid = alone.up("web");
        eventually("one to have given up", || alone.everybody().len() == 1);
        assert_eq!(alone.pid("web"), Some(pid), "round {round}");
        assert!(alone.warnings().contains("[FATAL] "), "round {round}: {}", alone.warnings());
    }
}

#[test]
fn a_lock_that_is_taken_is_named_in_a_fatal_line_and_its_holder_is_not_disturbed() {
    let alone = Alone::new();
    let pid = alone.start("sleep 1000", &[]);
    let supervisor = alone.supervisor();
    let before = (alone.status("web"), alone.state("web"));
    assert_eq!(alone.supervise(&["-p", "status/web", "-f", "sleep 2000"]).ok(), "");
    eventually("a fatal line", || alone.warnings().contains("[FATAL] "));
    let line = alone.warnings();
    assert!(line.contains("status/web/lock") && line.contains(&supervisor.to_string()), "{line}");
    eventually("it to have ended", || alone.everybody() == [supervisor]);
    assert_eq!((alone.status("web"), alone.state("web")), before);
    assert!(alive(pid));
}

#[test]
fn its_log_lines_have_level_and_local_time() {
    let alone = Alone::new();
    alone.start("sleep 1000", &[]);
    eventually("a line", || !alone.log().is_empty());
    let line = alone.log();
    let stamp = line.strip_prefix("[NOTICE] ").expect("its level").as_bytes();
    let shape: Vec<u8> = stamp[..20].iter().map(|byte| if byte.is_ascii_digit() { b'0' } else { *byte }).collect();
    assert_eq!(shape, b"0000-00-00 00:00:00 ", "{line}");
}

#[test]
fn it_is_no_child_of_the_caller() {
    let alone = Alone::new();
    let mut command = alone.command([alone.link("supervise.web").into_os_string()]);
    command.args(["-u", "status/web", "sleep", "1000"]).process_group(0);
    assert_eq!(ran(&mut command).code, Some(0));
    alone.up("web");
    let own = i32::try_from(std::process::id()).expect("a pid");
    assert_ne!(parent(alone.supervisor()), own);
}
