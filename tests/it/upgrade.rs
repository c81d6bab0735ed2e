//! Section: upgrade in place: what goes over to the next svtree, and what is refused.
//!
//! The next svtree is the executable under test again, through a link in the tree that a test may replace.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::harness::{
    CRASHING, DEAF, NOTING, ONE_COPY, Ran, SLEEPER, SVTREE, Tree, alive, arguments, descriptors, environment,
    eventually, has_open, process_field, remove, signal_pid, spawn, stays, text, write, zombies,
};
use crate::keeper::{svscan, svscan_after};

/// A tree whose svtree was started as `./svtree`, a link in the tree's directory.
fn linked() -> Tree {
    let tree = Tree::new().through(["sh", "-c", "shift; exec ./svtree \"$@\"", "sh"]);
    symlink(SVTREE, tree.path("svtree")).expect("a link");
    tree
}

/// Puts something else at the path that svtree was started by.
fn replaced(tree: &Tree, script: &str, mode: u32) {
    let new = tree.path("svtree.new");
    write(&new, script, mode);
    fs::rename(new, tree.path("svtree")).expect("replaced");
}

fn upgrade(tree: &Tree) -> Ran {
    tree.svtree(["upgrade"])
}

/// `svtree upgrade`, not waited for.
fn upgrading(tree: &Tree) -> Child {
    let status = tree.path("status");
    let mut command = tree.command([SVTREE.into(), "--status".into(), status.into_os_string(), "upgrade".into()]);
    spawn(command.stdout(Stdio::null()).stderr(Stdio::null())).expect("a client")
}

fn parent(pid: i32) -> String {
    process_field(pid, "PPid")
}

#[test]
fn every_pid_lock_and_record_is_the_same_afterwards() {
    let tree = Tree::running();
    tree.service("web").run(SLEEPER).moved_in();
    tree.service("group").file("group.toml", "").script("db/run", SLEEPER).moved_in();
    let svtree = tree.pid_of_svtree();
    let before = [tree.up("web"), tree.up("group/db")];
    let stat = tree.entry("web/supervise/stat");
    let records = || (tree.status("web"), tree.view("web"), stat.metadata().map(|stat| stat.mtime_nsec()).ok());
    let (was, called) = (records(), arguments(svtree));
    upgrade(&tree).ok();
    assert_eq!([tree.up("web"), tree.up("group/db")], before);
    assert_eq!(tree.pid_of_svtree(), svtree);
    assert!(before.iter().all(|pid| parent(*pid) == svtree.to_string()), "children stay children");
    assert_eq!(arguments(svtree), called);
    assert_eq!(records(), was);
    let locks = tree.ran(["fuser".into(), tree.home("web/lock").into_os_string()]);
    assert!(locks.code != Some(0) || locks.out.trim() == svtree.to_string(), "{locks:?}");
    assert_eq!(tree.state("web")["restarts"], 0);
    eventually("it to be told", || tree.stderr().contains("upgraded to version"));
    // It hears and acts as before.
    tree.letter("web", "k");
    tree.up_again("web", before[0]);
    tree.sleeper("later");
    tree.up("later");
}

#[test]
fn no_lock_is_ever_free() {
    let tree = Tree::running();
    tree.sleeper("web");
    tree.up("web");
    let try_locks = "while [ ! -e stop ]; do for lock in status/.lock status/web/lock services/web/supervise/lock; do \
         flock -n $lock echo $lock >> notes/free; done; done; :";
    let mut trying = spawn(&mut tree.command(["sh", "-c", try_locks])).expect("a shell");
    for _ in 0..20 {
        upgrade(&tree).ok();
    }
    write(&tree.path("stop"), "", 0o644);
    assert!(trying.wait().expect("its end").success());
    assert_eq!(tree.notes("free"), [""; 0]);
}

#[test]
fn every_letter_that_is_written_meanwhile_is_obeyed() {
    const LETTERS: usize = 500;
    let tree = Tree::running();
    tree.sleeper("web");
    tree.up("web");
    let fifo = tree.home("web/svcontrol");
    let writer = thread::spawn(move || {
        for _ in 0..LETTERS {
            let line = fs::OpenOptions::new().write(true).open(&fifo).expect("the FIFO");
            std::io::Write::write_all(&mut &line, b"s").expect("written");
        }
    });
    while !writer.is_finished() {
        upgrade(&tree).ok();
    }
    writer.join().expect("all written");
    let obeyed = || text(&tree.home("web/supervise.log")).matches("command s\n").count();
    eventually("all to be obeyed", || obeyed() == LETTERS);
    upgrade(&tree).ok();
    assert_eq!(obeyed(), LETTERS);
}

#[test]
fn a_program_that_dies_meanwhile_is_started_once_and_how_it_ended_is_known() {
    const DEATHS: usize = 15;
    let tree = Tree::running();
    tree.service("web").run(NOTING).toml("[restart]\ndelay = '10ms'").moved_in();
    let mut pid = tree.up("web");
    for _ in 0..DEATHS {
        let mut client = upgrading(&tree);
        signal_pid(pid, Signal::KILL);
        pid = tree.up_again("web", pid);
        assert!(client.wait().expect("its end").success());
    }
    eventually("all to be counted", || tree.state("web")["exits_total"] == DEATHS);
    let exits = tree.state("web")["exits"].as_array().cloned().unwrap_or_default();
    assert!(exits.iter().all(|exit| exit["signal"] == 9), "{exits:?}");
    eventually("the last one to begin", || tree.notes("web").len() > DEATHS);
    assert_eq!(tree.notes("web").len(), DEATHS + 1);
    assert_eq!(tree.state("web")["restarts"], DEATHS);
}

#[test]
fn what_was_asked_of_each_module_still_holds() {
    let tree = Tree::running();
    for name in ["paused", "down", "once", "left", "silent"] {
        tree.service(name).run(NOTING).moved_in();
        tree.up(name);
    }
    tree.service("failed").run(CRASHING).toml("[restart]\nmax_tries = 1\ndelay = '10ms'").moved_in();
    tree.becomes("failed", "failed");
    let pids = ["paused", "silent"].map(|name| tree.up(name));
    tree.letter("paused", "p");
    eventually("it to be paused", || tree.state("paused")["paused"] == true);
    tree.letter("silent", "s");
    eventually("it to be silent", || tree.state("silent")["alarms"] == false);
    tree.letter("down", "d");
    tree.letter("once", "dod");
    tree.letter("left", "dx");
    for name in ["down", "once", "left"] {
        tree.becomes(name, "down");
    }
    eventually("it to have left", || fs::File::open(tree.home("left/lock")).is_ok_and(|lock| lock.try_lock().is_ok()));
    let notes = || ["paused", "down", "once", "left", "silent", "failed"].map(|name| tree.notes(name).len());
    let before = notes();
    for _ in 0..2 {
        upgrade(&tree).ok();
    }
    stays(Duration::from_millis(300), "nothing is started", || notes() == before);
    assert_eq!(["paused", "silent"].map(|name| tree.up(name)), pids);
    assert_eq!(tree.state("paused")["paused"], true);
    assert_eq!(tree.state("silent")["alarms"], false);
    assert_eq!(tree.state("failed")["state"], "failed");
    assert_eq!((&tree.state("down")["want"], &tree.state("left")["pid"]), (&"down".into(), &().into()));
    // One that left comes back as it always does.
    tree.signal_svtree(Signal::HUP);
    tree.up("left");
}

#[test]
fn a_pause_before_a_restart_goes_on() {
    let tree = Tree::running();
    tree.service("web").run(CRASHING).toml("[restart]\ndelay = '1h'").moved_in();
    tree.becomes("web", "waiting");
    let next = || {
        let state = tree.state("web");
        // Its milliseconds are told by another clock.
        state["next_start"].as_str().map(|time| time[..18].to_owned())
    };
    let before = next();
    for _ in 0..2 {
        upgrade(&tree).ok();
    }
    assert_eq!(tree.state("web")["state"], "waiting");
    assert_eq!(next(), before);
    assert_eq!(tree.notes("web").len(), 1);
}

#[test]
fn kill_comes_when_it_would_have_come() {
    let tree = Tree::running();
    tree.service("deaf").run(DEAF).toml("[stop]\ntimeout = '2s'").moved_in();
    let pid = tree.up("deaf");
    eventually("it to be deaf", || !tree.notes("deaf").is_empty());
    let asked = Instant::now();
    tree.letter("deaf", "d");
    tree.becomes("deaf", "stopping");
    // Each time would begin anew with each of these.
    eventually("it to be killed", || {
        upgrade(&tree).ok();
        !alive(pid)
    });
    assert!(asked.elapsed() >= Duration::from_millis(1900), "{:?}", asked.elapsed());
    tree.becomes("deaf", "down");
    assert_eq!(tree.state("deaf")["exits"][0]["signal"], 9);
}

#[test]
fn a_module_that_is_being_retired_is_retired() {
    let tree = Tree::running();
    tree.service("deaf").run(DEAF).toml("[stop]\ntimeout = '1s'").moved_in();
    let pid = tree.up("deaf");
    eventually("it to be deaf", || !tree.notes("deaf").is_empty());
    tree.move_out("deaf");
    eventually("it to be stopped", || tree.state("deaf")["want"] == "down");
    upgrade(&tree).ok();
    tree.goes("deaf");
    assert!(!alive(pid));
}

#[test]
fn a_finish_that_runs_meanwhile_runs_once_and_to_its_end() {
    let tree = Tree::running();
    let finish = "#!/bin/sh\necho begun >> \"$SVTREE_IT/notes/finish\"\n\
        while [ ! -e \"$SVTREE_IT/go\" ]; do sleep 0.05; done\necho ended >> \"$SVTREE_IT/notes/finish\"\n";
    tree.service("web").run(NOTING).script("finish", finish).moved_in();
    let pid = tree.noted_pids("web", 1)[0];
    tree.up("web");
    signal_pid(pid, Signal::KILL);
    eventually("finish to run", || tree.notes("finish") == ["begun"]);
    upgrade(&tree).ok();
    assert_eq!(tree.notes("web").len(), 1, "nothing is started beside it");
    write(&tree.path("go"), "", 0o644);
    tree.up_again("web", pid);
    assert_eq!(tree.notes("finish"), ["begun", "ended"]);
    eventually("the next one to begin", || tree.notes("web").len() > 1);
    assert_eq!(tree.notes("web").len(), 2);
}

#[test]
fn a_finish_that_hangs_is_killed_when_it_would_have_been() {
    let tree = Tree::running();
    let finish = "#!/bin/sh\necho $$ >> \"$SVTREE_IT/notes/finish\"\nexec sleep 1000\n";
    tree.service("web").run(NOTING).script("finish", finish).file("timeout-finish", "2000").moved_in();
    let pid = tree.up("web");
    signal_pid(pid, Signal::KILL);
    let hangs = tree.noted_pids("finish", 1)[0];
    let begun = Instant::now();
    // Each time would begin anew with each of these.
    eventually("it to be killed", || {
        upgrade(&tree).ok();
        !alive(hangs)
    });
    assert!(begun.elapsed() >= Duration::from_millis(1500), "{:?}", begun.elapsed());
    tree.up_again("web", pid);
}

#[test]
fn svscan_behind_a_keeper_is_upgraded_and_kept() {
    let tree = Tree::new().options(["--log", "none", "--keep"]);
    tree.service("web").run(NOTING).moved_in();
    tree.start();
    let (keeper, pid) = (tree.pid_of_svtree(), tree.up("web"));
    let before = svscan(keeper);
    upgrade(&tree).ok();
    assert_eq!(svscan(keeper), before);
    signal_pid(before, Signal::KILL);
    svscan_after(keeper, before);
    eventually("it to be supervised again", || tree.called("svok", ["web"]).code == Some(0));
    assert_eq!(tree.pid("web"), Some(pid));
    assert_eq!(tree.notes("web").len(), 1);
    assert_eq!(tree.stop().code(), Some(0));
    assert!(!alive(pid));
}

#[test]
fn a_script_that_stands_for_a_signal_still_does() {
    let tree = Tree::running();
    let script = "#!/bin/sh\necho asked >> \"$SVTREE_IT/notes/script\"\n\
        while [ ! -e \"$SVTREE_IT/go\" ]; do sleep 0.05; done\n";
    tree.service("web").run(NOTING).script("control/1", script).moved_in();
    let pid = tree.up("web");
    tree.letter("web", "1");
    eventually("the script to run", || tree.notes("script") == ["asked"]);
    upgrade(&tree).ok();
    write(&tree.path("go"), "", 0o644);
    eventually("it to be heard", || text(&tree.home("web/supervise.log")).contains("control/1 exited 0"));
    assert!(alive(pid), "the script stood for the signal");
    eventually("no zombie to be left", || zombies(tree.pid_of_svtree()).is_empty());
}

#[test]
fn files_that_are_broken_or_away_stop_nothing() {
    let tree = Tree::running();
    let web = tree.service("web").run(NOTING).toml("nice = 0").moved_in();
    let pid = tree.up("web");
    write(&web.join("service.toml"), "nice = 'twenty'", 0o644);
    eventually("the mistake to be told", || tree.told("web").contains("last good one"));
    upgrade(&tree).ok();
    assert_eq!(tree.up("web"), pid);
    fs::rename(tree.path("services"), tree.path("away")).expect("moved away");
    upgrade(&tree).ok();
    stays(Duration::from_millis(500), "it runs on", || tree.up("web") == pid);
    fs::rename(tree.path("away"), tree.path("services")).expect("moved back");
    tree.letter("web", "k");
    tree.up_again("web", pid);
}

#[test]
fn what_a_program_was_not_started_with_is_still_told() {
    let tree = Tree::running();
    let web = tree.service("web").run(NOTING).toml("nice = 0").moved_in();
    tree.up("web");
    write(&web.join("service.toml"), "nice = 1", 0o644);
    eventually("the change to be told", || tree.state("web")["changed"] == true);
    for _ in 0..2 {
        upgrade(&tree).ok();
        eventually("the change to be told", || tree.state("web")["changed"] == true);
    }
}

#[test]
fn what_cannot_take_over_is_refused_and_all_stays_as_it_was() {
    let tree = linked();
    tree.start();
    tree.sleeper("web");
    let (svtree, pid) = (tree.pid_of_svtree(), tree.up("web"));
    for (script, mode, why) in [
        ("#!/bin/sh\n", 0o644, "Permission denied"),
        ("#!/bin/sh\nexit 1\n", 0o755, "exited 1"),
        ("#!/bin/sh\nexit 0\n", 0o755, "does not say"),
        ("#!/bin/sh\nkill -SEGV $$\n", 0o755, "killed by"),
        ("#!/bin/sh\necho svtree takes over from version 999\n", 0o755, "does not say"),
        ("#!/bin/sh\nhead -c 100000 /dev/zero\n", 0o755, "take over"),
        ("garbage", 0o755, "Exec format error"),
    ] {
        replaced(&tree, script, mode);
        let told = upgrade(&tree).failed(111);
        assert!(told.contains(why) && told.contains("/svtree: "), "{script:?}: {told}");
        let is_told = |line: &str| line.contains(why) && line.ends_with("the old one goes on");
        eventually("it to be told", || tree.stderr().lines().last().is_some_and(is_told));
    }
    fs::remove_file(tree.path("svtree")).expect("removed");
    assert!(upgrade(&tree).failed(111).contains("No such file"));
    assert_eq!((tree.pid_of_svtree(), tree.up("web")), (svtree, pid));
    assert!(zombies(svtree).is_empty());
    tree.letter("web", "k");
    tree.up_again("web", pid);
    symlink(SVTREE, tree.path("svtree")).expect("a link");
    upgrade(&tree).ok();
    assert_eq!(tree.pid_of_svtree(), svtree);
}

#[test]
fn one_that_hangs_is_refused_within_5_seconds_and_holds_up_nobody() {
    let tree = linked();
    tree.start();
    tree.sleeper("web");
    let pid = tree.up("web");
    replaced(&tree, "#!/bin/sh\necho $$ > notes/hangs\nsleep 1000\n", 0o755);
    let asked = Instant::now();
    let mut client = upgrading(&tree);
    eventually("it to hang", || !tree.notes("hangs").is_empty());
    tree.sleeper("meanwhile");
    tree.up("meanwhile");
    assert_eq!(client.wait().expect("its end").code(), Some(111));
    assert!(asked.elapsed() < Duration::from_secs(8), "{:?}", asked.elapsed());
    let hung: i32 = tree.notes("hangs")[0].parse().expect("a pid");
    assert!(!alive(hung));
    assert_eq!(tree.up("web"), pid);
    // Nothing of it is left, nor of what it started.
    let own = [tree.pid_of_svtree(), pid, tree.up("meanwhile")];
    eventually("the rest to go", || tree.processes().iter().all(|pid| own.contains(pid)));
}

#[test]
fn an_exec_that_fails_after_all_puts_everything_back() {
    let tree = linked();
    tree.start();
    tree.service("web").run(NOTING).moved_in();
    tree.service("deaf").run(DEAF).toml("[stop]\ntimeout = '2s'").moved_in();
    let (svtree, pid, deaf) = (tree.pid_of_svtree(), tree.up("web"), tree.up("deaf"));
    eventually("it to be deaf", || !tree.notes("deaf").is_empty());
    tree.letter("deaf", "d");
    let before = descriptors(svtree).len();
    let script = "#!/bin/sh\nrm \"$0\"\nmkdir \"$0\"\necho svtree takes over from version 1\n";
    replaced(&tree, script, 0o755);
    assert!(upgrade(&tree).failed(111).contains("Permission denied"));
    assert_eq!((tree.pid_of_svtree(), tree.up("web")), (svtree, pid));
    eventually("it to be killed in time", || !alive(deaf));
    tree.letter("web", "k");
    let pid = tree.up_again("web", pid);
    has_open(pid, &[0, 1, 2]);
    eventually("nothing to be left open", || descriptors(svtree).len() <= before);
    assert_eq!(tree.stop().code(), Some(0));
}

#[test]
fn twenty_upgrades_leave_nothing_behind() {
    let tree = Tree::running();
    for name in ["a", "b", "c"] {
        tree.sleeper(name);
        tree.up(name);
    }
    let svtree = tree.pid_of_svtree();
    upgrade(&tree).ok();
    let open = || descriptors(svtree).len();
    let mapped = || text(&PathBuf::from(format!("/proc/{svtree}/maps"))).lines().count();
    let mut before = (0, 0);
    stays(Duration::from_millis(500), "the most there is", || {
        before = (before.0.max(open()), before.1.max(mapped()));
        true
    });
    for _ in 0..20 {
        upgrade(&tree).ok();
    }
    eventually("no more to be open", || open() <= before.0);
    eventually("no more to be mapped", || mapped() <= before.1 + 8);
    assert!(zombies(svtree).is_empty());
}

#[test]
fn a_program_that_is_started_afterwards_sees_nothing_of_it() {
    let tree = Tree::new().through(["sh", "-c", "ulimit -Sn 256; exec \"$@\"", "sh"]);
    tree.start();
    tree.sleeper("before");
    let before = tree.up("before");
    for _ in 0..2 {
        upgrade(&tree).ok();
    }
    tree.sleeper("after");
    let after = tree.up("after");
    let seen = |pid: i32| -> Vec<String> {
        environment(pid)
            .into_iter()
            .filter(|variable| !["SVTREE_MODULE=", "PWD="].iter().any(|own| variable.starts_with(own)))
            .collect()
    };
    // The shell has made room for the program.
    eventually("both to be executed", || [before, after].iter().all(|pid| arguments(*pid)[..1] == ["sleep"]));
    let (after_it, before_it) = (seen(after), seen(before));
    let differ = |these: &[String], those: &[String]| -> Vec<String> {
        these.iter().filter(|variable| !those.contains(variable)).cloned().collect()
    };
    assert_eq!(differ(&after_it, &before_it), [""; 0]);
    assert_eq!(differ(&before_it, &after_it), [""; 0]);
    let limits = |pid: i32| text(&PathBuf::from(format!("/proc/{pid}/limits")));
    assert_eq!(limits(after), limits(before));
    has_open(after, &[0, 1, 2]);
    for field in ["SigBlk", "SigIgn", "Umask"] {
        assert_eq!(process_field(after, field), process_field(before, field), "{field}");
    }
}

#[test]
fn a_signal_that_comes_meanwhile_is_obeyed() {
    for _ in 0..5 {
        let tree = Tree::running();
        tree.sleeper("web");
        let pid = tree.up("web");
        tree.signal_svtree(Signal::USR2);
        tree.signal_svtree(Signal::TERM);
        assert_eq!(tree.ended().code(), Some(0));
        assert!(!alive(pid));
    }
    let tree = Tree::running();
    tree.sleeper("web");
    tree.up("web");
    for _ in 0..10 {
        tree.signal_svtree(Signal::USR2);
        let before = tree.stderr().matches(" modules in ").count();
        tree.signal_svtree(Signal::USR1);
        eventually("it to be described", || tree.stderr().matches(" modules in ").count() > before);
    }
}

#[test]
fn a_tree_that_was_started_as_svscan_goes_on_as_svscan() {
    let tree = Tree::new().through(["sh", "-c", "shift 2; PATH=\"$PWD/links:$PATH\"; exec svscan \"$@\"", "sh"]);
    tree.link("svscan");
    tree.start();
    tree.sleeper("web");
    let pid = tree.up("web");
    upgrade(&tree).ok();
    assert_eq!(tree.up("web"), pid);
    eventually("it to be told", || tree.stderr().contains("svscan: upgraded"));
    assert_eq!(arguments(tree.pid_of_svtree())[0], "svscan");
}

#[test]
fn modules_that_come_go_and_die_meanwhile_end_in_the_true_set() {
    let tree = Tree::running();
    let names: Vec<String> = (0..50).map(|number| format!("m{number}")).collect();
    let drop_in = |name: &String| tree.service(name).run(ONE_COPY).toml("[restart]\ndelay = '10ms'").moved_in();
    for name in &names {
        drop_in(name);
    }
    for name in &names {
        tree.up(name);
    }
    for round in 0..50 {
        let mut client = upgrading(&tree);
        let [killed, moved, told] = [1, 4, 7].map(|offset| &names[(round * 3 + offset) % names.len()]);
        if let Some(pid) = tree.pid(killed) {
            signal_pid(pid, Signal::KILL);
        }
        if tree.entry(moved).exists() {
            tree.move_out(moved);
        } else {
            drop_in(moved);
        }
        // One that is away just now hears nothing.
        if tree.entry(told).exists() && tree.pid(told).is_some() {
            tree.letter(told, "du");
        }
        assert!(client.wait().expect("its end").success());
    }
    for name in &names {
        if tree.entry(name).exists() {
            tree.up(name);
        } else {
            tree.goes(name);
        }
    }
    assert_eq!(tree.notes("twice"), [""; 0]);
    eventually("no zombie to be left", || zombies(tree.pid_of_svtree()).is_empty());
    let running = names.iter().filter(|name| tree.entry(name).exists()).count();
    eventually("nothing else to run", || tree.processes().len() == running + 1);
}

#[test]
fn a_plain_user_upgrades_as_well() {
    let Some(tree) = Tree::new().for_nobody() else { return };
    tree.start();
    tree.sleeper("web");
    let pid = tree.up("web");
    upgrade(&tree).ok();
    assert_eq!(tree.up("web"), pid);
    tree.letter("web", "k");
    tree.up_again("web", pid);
}

#[test]
fn a_copy_that_is_put_in_the_place_of_a_link_is_what_runs_then() {
    let tree = linked();
    tree.start();
    tree.sleeper("web");
    let (svtree, pid) = (tree.pid_of_svtree(), tree.up("web"));
    fs::copy(SVTREE, tree.path("svtree.new")).expect("a copy");
    fs::rename(tree.path("svtree.new"), tree.path("svtree")).expect("in its place");
    upgrade(&tree).ok();
    let runs = fs::read_link(format!("/proc/{svtree}/exe")).expect("its executable");
    assert_eq!(runs, fs::canonicalize(tree.path("svtree")).expect("a path"));
    assert_eq!(tree.up("web"), pid);
    signal_pid(svtree, Signal::TERM);
    assert_eq!(tree.ended().code(), Some(0));
}

#[test]
fn without_svscan_there_is_nothing_to_upgrade() {
    let tree = Tree::new();
    assert!(upgrade(&tree).failed(111).contains("no svtree runs"));
    tree.start();
    tree.sleeper("web");
    tree.up("web");
    upgrade(&tree).ok();
    assert!(tree.path("status/.upgrade").exists());
    assert_eq!(tree.stop().code(), Some(0));
    assert!(!tree.path("status/.upgrade").exists());
    remove(&tree.path("status"));
}
