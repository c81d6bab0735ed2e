//! Section: what a program is started with.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::harness::{
    AS_NOBODY, NOTING, SLEEPER, Tree, alive, arguments, environment, eventually, has_open, is_root, process_field,
    program, ran, sleeping, stat, stays, text, wait_for, zombies,
};

#[test]
fn the_service_directory_is_its_working_directory() {
    let tree = Tree::running();
    let moved = tree.sleeper("moved");
    let linked = tree.service("linked").run(SLEEPER).linked_in();
    for (name, dir) in [("moved", moved), ("linked", linked)] {
        let pid = tree.up(name);
        let cwd = fs::read_link(format!("/proc/{pid}/cwd")).expect("cwd");
        assert_eq!(cwd, fs::canonicalize(dir).expect("the directory"));
    }
}

#[test]
fn standard_input_is_dev_null_and_with_log_none_the_output_too() {
    let tree = Tree::running();
    tree.sleeper("web");
    let pid = sleeping(&tree, "web");
    for descriptor in 0..3 {
        let file = fs::read_link(format!("/proc/{pid}/fd/{descriptor}")).expect("a descriptor");
        assert_eq!(file, Path::new("/dev/null"), "{descriptor}");
    }
}

#[test]
fn with_log_inherit_both_outputs_are_shown_on_svtrees_own() {
    let tree = Tree::new().options(["--log", "inherit"]);
    tree.service("web").run("#!/bin/sh\necho to-out\necho to-err >&2\nexec sleep 1000\n").moved_in();
    tree.start();
    tree.up("web");
    eventually("its output", || tree.stdout() == "web: to-out\nweb: to-err\n");
}

#[test]
fn it_is_the_leader_of_a_session_and_a_group_of_its_own() {
    let tree = Tree::running();
    tree.sleeper("web");
    let pid = sleeping(&tree, "web");
    let fields = stat(pid).expect("it runs");
    // State, parent, group, session, terminal.
    assert_eq!(fields[1], tree.pid_of_svtree().to_string());
    assert_eq!(fields[2..5], [pid.to_string(), pid.to_string(), "0".to_owned()]);
}

fn assert_no_signal_is_blocked_or_ignored(tree: &Tree) {
    let pid = sleeping(tree, "web");
    for field in ["SigBlk", "SigIgn", "SigCgt"] {
        assert_eq!(process_field(pid, field), "0000000000000000", "{field}");
    }
}

#[test]
fn all_signals_are_at_their_default_and_unblocked() {
    let tree = Tree::running();
    tree.service("web").toml("command = 'sleep 1000'").moved_in();
    assert_no_signal_is_blocked_or_ignored(&tree);
}

#[test]
fn all_signals_are_at_their_default_also_when_svtree_itself_was_started_otherwise() {
    let shield = ["env", "--ignore-signal=HUP,PIPE,USR1,CHLD", "--block-signal=TERM,CHLD,RTMIN"];
    let tree = Tree::new().through(shield);
    tree.service("web").toml("command = 'sleep 1000'").moved_in();
    tree.start();
    assert_no_signal_is_blocked_or_ignored(&tree);
    // HUP and TERM still work for svtree itself.
    tree.letter("web", "dx");
    eventually("it to leave", || tree.called("svok", ["web"]).code == Some(100));
    tree.signal_svtree(rustix::process::Signal::HUP);
    tree.up("web");
    assert_eq!(zombies(tree.pid_of_svtree()), [0; 0]);
    assert_eq!(tree.stop().code(), Some(0));
}

#[test]
fn a_pipe_that_breaks_ends_the_writer_silently() {
    let tree = Tree::new().options(["--log", "inherit"]);
    tree.service("web").run("#!/bin/sh\nyes | head -1 > /dev/null\necho done >&2\nexec sleep 1000\n").moved_in();
    tree.start();
    eventually("it to be done", || tree.stdout().contains("done"));
    assert!(!tree.stdout().contains("roken pipe"), "{}", tree.stdout());
}

#[test]
fn no_descriptor_but_0_1_2_is_open_however_many_start_at_once() {
    let tree = Tree::new();
    let names: Vec<String> = (0..50).map(|number| format!("m{number}")).collect();
    for name in &names {
        tree.service(name).toml("command = ['sleep', '1000']\n[restart]\ndelay = '1ms'").moved_in();
    }
    tree.start();
    let mut before = vec![0; names.len()];
    for _ in 0..20 {
        for (name, before) in names.iter().zip(&mut before) {
            let pid = wait_for(format!("{name} to sleep"), || {
                let pid = tree.pid(name).filter(|pid| pid != before)?;
                arguments(pid).first().is_some_and(|program| program == "sleep").then_some(pid)
            });
            has_open(pid, &[0, 1, 2]);
            *before = pid;
        }
        for name in &names {
            tree.letter(name, "k");
        }
    }
}

#[test]
fn its_limits_are_those_that_svtree_was_started_with() {
    let tree =
        Tree::new().through(["sh", "-c", "ulimit -S -n 100; ulimit -S -c 0; ulimit -S -s 1000; exec \"$0\" \"$@\""]);
    tree.sleeper("web");
    tree.start();
    let pid = sleeping(&tree, "web");
    let limits = |pid: i32| text(Path::new(&format!("/proc/{pid}/limits")));
    let line = |text: &str, name: &str| text.lines().find(|line| line.starts_with(name)).map(str::to_owned);
    let mut before =
        tree.command(["sh", "-c", "ulimit -S -n 100; ulimit -S -c 0; ulimit -S -s 1000; exec cat /proc/self/limits"]);
    let before = ran(&mut before).ok();
    let mine = limits(pid);
    for name in ["Max open files", "Max core file size", "Max stack size", "Max processes", "Max locked memory"] {
        assert_eq!(line(&mine, name), line(&before, name));
    }
}

#[test]
fn a_limit_that_was_lowered_meanwhile_keeps_nothing_from_starting() {
    let (Some(tree), Some(prlimit)) = (Tree::new().for_nobody(), program("prlimit")) else { return };
    tree.sleeper("web");
    tree.start();
    let pid = tree.up("web");
    let svtree = tree.pid_of_svtree().to_string();
    // By the user whose process it is: nobody else may.
    let user = if is_root() { AS_NOBODY.as_slice() } else { &[] };
    let lower = [prlimit.as_os_str(), "--pid".as_ref(), svtree.as_ref(), "--nofile=512:512".as_ref()];
    tree.ran(user.iter().map(AsRef::as_ref).chain(lower)).ok();
    tree.letter("web", "k");
    tree.up_again("web", pid);
    tree.becomes("web", "up");
}

#[test]
fn its_environment_is_svtrees_and_the_name_of_the_module() {
    let tree = Tree::new().env("GREETING", "hello world").env("SVTREE_MODULE", "not this one");
    tree.service("web").toml("command = 'sleep 1000'").moved_in();
    tree.service("group").file("group.toml", "").file("db/service.toml", "command = 'sleep 1000'").moved_in();
    tree.start();
    for name in ["web", "group/db"] {
        let program = sleeping(&tree, name);
        let mut expected = environment(tree.pid_of_svtree());
        expected.retain(|variable| !variable.starts_with("SVTREE_MODULE="));
        expected.push(format!("SVTREE_MODULE={name}"));
        expected.sort();
        assert_eq!(environment(program), expected);
    }
}

#[test]
fn an_environment_that_is_too_large_is_a_reason_and_no_crash() {
    let tree = Tree::running();
    let toml = format!("command = 'sleep 1000'\n[environment]\nBIG = '{}'", "x".repeat(200_000));
    tree.service("big").toml(&toml).moved_in();
    tree.becomes("big", "waiting");
    assert!(tree.state("big")["reason"].is_string(), "{}", tree.state("big"));
    tree.sleeper("web");
    tree.up("web");
}

#[test]
fn a_program_that_closes_its_output_costs_nothing() {
    let tree = Tree::new().options(["--log", "inherit"]);
    tree.service("web").run("#!/bin/sh\nexec sleep 1000 >&- 2>&-\n").moved_in();
    tree.start();
    let pid = sleeping(&tree, "web");
    stays(Duration::from_millis(300), "it runs on", || alive(pid));
    has_open(pid, &[0]);
}

#[test]
fn no_program_holds_the_lock_of_another() {
    let tree = Tree::running();
    tree.service("a").run(NOTING).moved_in();
    tree.service("b").run(NOTING).moved_in();
    sleeping(&tree, "a");
    sleeping(&tree, "b");
    tree.letter("a", "dx");
    eventually("the lock of a to be free", || tree.ran(["flock", "-n", "status/a/lock", "true"]).code == Some(0));
}
