//! What runs out: descriptors, processes, memory, disks. What can run runs, what cannot is named, and everything
//! recovers by itself when there is room again.

use std::fs;
use std::time::Duration;

use rustix::process::Signal;

use crate::harness::{
    AS_NOBODY, Disk, NOTING, SVTREE, Tree, alive, chmod, eventually, is_root, process_field, program, ran, signal_pid,
    skip, stays, text, within,
};

/// Sets a soft limit of a running svtree, as `prlimit` calls it, by the user whose process it is: nobody else may. Returns
/// the one before.
fn limit(tree: &Tree, resource: &str, most: &str) -> String {
    let user = if is_root() { AS_NOBODY.as_slice() } else { &[] };
    let pid = tree.pid_of_svtree().to_string();
    let prlimit = |rest: &[&str]| tree.ran(user.iter().chain(&["prlimit", "--pid", &pid]).chain(rest)).ok();
    let before = prlimit(&[&format!("--{resource}"), "--output=SOFT", "--noheadings", "--raw"]);
    prlimit(&[&format!("--{resource}={most}:")]);
    before.trim().to_owned()
}

/// Asserts that commands of every kind are answered while the lack lasts.
#[track_caller]
fn assert_answers(tree: &Tree, name: &str) {
    assert!(tree.called("svstat", [name]).ok().contains("up (pid"));
    tree.letter(name, "p");
    eventually("a letter to be obeyed", || tree.state(name)["paused"] == true);
    tree.letter(name, "c");
    eventually("another", || tree.state(name)["paused"] == false);
}

/// A tree whose svtree is not root, to whom limits do not apply.
fn limited() -> Option<Tree> {
    program("prlimit")?;
    let tree = Tree::new().for_nobody()?;
    tree.start();
    Some(tree)
}

#[test]
fn with_64_descriptors_for_60_modules_it_runs_what_it_can_names_the_rest_and_recovers() {
    let Some(tree) = limited() else { return };
    tree.service("first").run(NOTING).moved_in();
    let mut first = tree.up("first");
    let before = limit(&tree, "nofile", "64");
    let names: Vec<String> = (0..60).map(|number| format!("m{number}")).collect();
    for name in &names {
        tree.service(name).run(NOTING).moved_in();
    }
    let named = |name: &str| {
        let said = tree.stderr();
        let line = |line: String| said.contains(&line);
        line(format!("starting {name}: ")) || line(format!("/{name}: ")) || tree.state(name)["reason"].is_string()
    };
    for name in &names {
        eventually(format!("{name} to run or to be named"), || tree.pid(name).is_some() || named(name));
    }
    let up = || names.iter().filter(|name| tree.pid(name).is_some()).count();
    assert!((2..names.len()).contains(&up()), "{} run", up());
    assert_answers(&tree, "first");
    stays(Duration::from_secs(1), "it runs", || tree.is_running());
    // What ended meanwhile comes back at the latest when there is room again.
    signal_pid(first, Signal::KILL);
    limit(&tree, "nofile", &before);
    first = tree.up_again("first", first);
    eventually("all to run", || up() == names.len());
    for name in &names {
        tree.up(name);
        eventually(format!("{name} to have noted itself"), || tree.notes(name).len() == 1);
    }
    tree.letter("first", "k");
    tree.up_again("first", first);
}

#[test]
fn with_no_pids_left_it_answers_and_recovers() {
    let Some(tree) = limited() else { return };
    for name in ["killed", "stays", "scripted"] {
        tree.service(name).run(NOTING).script("control/t", "#!/bin/sh\nexit 1\n").moved_in();
    }
    let pids = ["killed", "stays", "scripted"].map(|name| tree.up(name));
    // The user has at least this one, so it gets no more.
    let before = limit(&tree, "nproc", "1");
    signal_pid(pids[0], Signal::KILL);
    eventually("the lack to be its reason", || {
        let state = tree.state("killed");
        state["state"] == "waiting" && state["reason"].as_str().is_some_and(|why| why.contains("temporarily"))
    });
    // The first one may have the thread that is kept for it, and no program.
    let named = |name: &str| tree.stderr().contains(&format!("starting {name}: "));
    tree.service("new").run(NOTING).moved_in();
    eventually("the new one to lack it, too", || named("new") || tree.state("new")["state"] == "waiting");
    tree.service("newer").run(NOTING).moved_in();
    eventually("the newer one to be named", || named("newer"));
    assert_answers(&tree, "stays");
    tree.letter("scripted", "d");
    eventually("a stop without its script", || !alive(pids[2]));
    stays(Duration::from_secs(2), "nothing starts and svtree runs", || {
        tree.is_running() && ["killed", "new", "newer"].iter().all(|name| tree.pid(name).is_none())
    });
    assert_eq!(tree.notes("killed").len(), 1);
    limit(&tree, "nproc", &before);
    ["killed", "new", "newer"].iter().for_each(|name| _ = tree.up(name));
    tree.letter("scripted", "u");
    tree.up_again("scripted", pids[2]);
    assert_eq!(tree.pid("stays"), Some(pids[1]));
}

#[test]
fn with_no_memory_for_a_thread_the_new_one_is_named_and_runs_later() {
    let Some(tree) = limited() else { return };
    tree.sleeper("web");
    let mut web = tree.up("web");
    let kib: u64 = process_field(tree.pid_of_svtree(), "VmSize").trim_end_matches(" kB").parse().expect("a number");
    // Less than the stack of a thread, and more than the heap asks for at once.
    let before = limit(&tree, "as", &((kib + 100) << 10).to_string());
    let named = |name: &str| tree.stderr().contains(&format!("starting {name}: "));
    // The first one may have the thread that is kept for it.
    tree.sleeper("first");
    eventually("it to run or to be named", || tree.pid("first").is_some() || named("first"));
    for number in 0..5 {
        tree.sleeper(&format!("new{number}"));
    }
    eventually("all to be named", || (0..5).all(|number| named(&format!("new{number}"))));
    for _ in 0..5 {
        assert_answers(&tree, "web");
        tree.letter("web", "k");
        web = tree.up_again("web", web);
    }
    assert!((0..5).all(|number| tree.pid(format!("new{number}")).is_none()));
    limit(&tree, "as", &before);
    for number in 0..5 {
        tree.up(format!("new{number}"));
    }
    assert_eq!(tree.pid("web"), Some(web));
}

#[test]
fn with_the_disk_of_status_full_programs_are_restarted_and_the_status_is_true_5_s_after() {
    let Some(disk) = Disk::new() else { return };
    let tree = Tree::new();
    disk.stands_for(&tree, "status");
    for name in ["killed", "stopped", "stays"] {
        tree.service(name).run(NOTING).moved_in();
    }
    tree.start();
    let pids = ["killed", "stopped", "stays"].map(|name| tree.up(name));
    eventually("all to have noted themselves", || {
        ["killed", "stopped", "stays"].iter().all(|name| !tree.notes(name).is_empty())
    });
    disk.fill();
    let mut last = pids[0];
    for starts in 2..5 {
        signal_pid(last, Signal::KILL);
        last = *tree.noted_pids("killed", starts).last().expect("a pid");
    }
    // No client is left without an answer, and letters are obeyed.
    for name in ["killed", "stopped", "stays"] {
        assert_eq!(tree.called("svstat", [name]).code, Some(0));
    }
    tree.letter("stopped", "d");
    eventually("it to stop", || !alive(pids[1]));
    tree.service("new").run(NOTING).moved_in();
    eventually("the new one to be named", || tree.stderr().contains("new: "));
    disk.free();
    within(Duration::from_secs(5), "the truth", || {
        tree.pid("killed") == Some(last)
            && tree.state("killed")["pid"] == last
            && tree.pid("stopped").is_none()
            && tree.state("stopped")["state"] == "down"
    });
    assert_eq!(tree.pid("stays"), Some(pids[2]));
    tree.up("new");
    eventually("one start of it", || tree.notes("new").len() == 1);
}

#[test]
fn a_status_that_cannot_be_written_is_told_on_standard_error() {
    let Some(disk) = Disk::new() else { return };
    let tree = Tree::new();
    disk.stands_for(&tree, "status");
    tree.service("web").run(NOTING).moved_in();
    tree.start();
    let pid = tree.up("web");
    disk.fill();
    signal_pid(pid, Signal::KILL);
    // Not in a log that stands on the same disk.
    eventually("it to be told", || tree.stderr().contains("web") && tree.stderr().contains("No space"));
    disk.free();
    tree.up_again("web", pid);
}

#[test]
fn what_is_removed_while_the_disk_of_status_is_full_goes() {
    let Some(disk) = Disk::new() else { return };
    let tree = Tree::new();
    disk.stands_for(&tree, "status");
    let entry = tree.service("web").run(NOTING).moved_in();
    tree.start();
    let pid = tree.up("web");
    disk.fill();
    crate::harness::remove(&entry);
    tree.goes("web");
    assert!(!alive(pid));
    assert_eq!(tree.stop().code(), Some(0));
}

#[test]
fn on_a_read_only_disk_of_status_it_does_not_start_and_says_so() {
    let Some(disk) = Disk::new() else { return };
    let tree = Tree::new();
    disk.stands_for(&tree, "status");
    tree.service("web").run(NOTING).moved_in();
    disk.remount("ro");
    let line = ran(&mut tree.command([SVTREE, "run", "services", "--status", "status"])).failed(111);
    assert!(line.contains("status") && line.contains("ead-only"), "{line}");
    assert!(tree.notes("web").is_empty());
    disk.remount("rw");
    tree.start();
    tree.up("web");
}

#[test]
fn a_status_directory_that_takes_no_more_names_is_true_again_5_s_after() {
    // What a file system does that turns read-only beneath files that are open cannot be had by a remount.
    let Some(disk) = Disk::new() else { return };
    let tree = Tree::new();
    disk.stands_for(&tree, "status");
    tree.service("web").run(NOTING).moved_in();
    tree.start();
    let pid = tree.up("web");
    eventually("it to have noted itself", || !tree.notes("web").is_empty());
    if program("chattr").is_none() || tree.ran(["chattr", "+i", "status/web"]).code != Some(0) {
        return skip("no directory can be made immutable here");
    }
    signal_pid(pid, Signal::KILL);
    let next = tree.noted_pids("web", 2)[1];
    eventually("it to be named", || tree.told("web").contains("status"));
    stays(Duration::from_secs(1), "it runs on", || alive(next) && tree.is_running());
    tree.ran(["chattr", "-i", "status/web"]).ok();
    within(Duration::from_secs(5), "the truth", || tree.pid("web") == Some(next) && tree.state("web")["pid"] == next);
}

#[test]
fn on_a_read_only_disk_of_services_everything_runs_without_a_view() {
    let Some(disk) = Disk::new() else { return };
    let tree = Tree::new();
    disk.stands_for(&tree, "services");
    tree.service("web").run(NOTING).copied_in();
    disk.remount("ro");
    tree.start();
    let pid = tree.up("web");
    tree.letter("web", "k");
    tree.up_again("web", pid);
    assert!(!tree.entry("web").join("supervise").exists());
    disk.remount("rw");
    tree.service("new").run(NOTING).copied_in();
    tree.up("new");
}

#[test]
fn a_view_that_could_not_be_written_is_true_once_it_can() {
    let Some(disk) = Disk::new() else { return };
    let tree = Tree::new();
    disk.stands_for(&tree, "services");
    tree.service("web").run(NOTING).copied_in();
    tree.start();
    let pid = tree.up("web");
    eventually("the view", || tree.view("web")[12..16] == pid.to_le_bytes());
    disk.fill();
    tree.letter("web", "k");
    let next = tree.up_again("web", pid);
    assert_eq!(tree.state("web")["state"], "up");
    disk.free();
    within(Duration::from_secs(5), "the view to be true", || tree.view("web")[12..16] == next.to_le_bytes());
    let pid = text(&tree.entry("web").join("supervise/pid"));
    assert_eq!(pid, format!("{next}\n"));
}

#[test]
fn a_view_whose_directory_took_no_more_files_is_true_once_it_does() {
    let Some(tree) = Tree::new().for_nobody() else { return };
    tree.start();
    let dir = tree.service("web").run(NOTING).dir();
    if is_root() {
        tree.ran(["chown".as_ref(), "-R".as_ref(), "65534:65534".as_ref(), dir.as_os_str()]).ok();
    }
    fs::rename(dir, tree.entry("web")).expect("moved in");
    let pid = tree.up("web");
    eventually("the view", || tree.view("web")[12..16] == pid.to_le_bytes());
    let view = tree.entry("web/supervise");
    chmod(&view, 0o555);
    tree.letter("web", "k");
    let next = tree.up_again("web", pid);
    tree.becomes("web", "up");
    chmod(&view, 0o755);
    within(Duration::from_secs(5), "the view to be true", || tree.view("web")[12..16] == next.to_le_bytes());
}

#[test]
fn lines_that_nobody_reads_hold_up_nobody() {
    let tree = Tree::new().through(["sh", "-c", "exec 2<> out/unread; exec \"$0\" \"$@\""]);
    tree.ran(["mkfifo", "out/unread"]).ok();
    let long = "n".repeat(200);
    tree.sleeper(&long);
    tree.start();
    let pid = tree.up(&long);
    // More lines than the pipe has room for.
    for round in 0..500 {
        tree.signal_svtree(Signal::USR1);
        if round % 100 == 0 {
            assert_answers(&tree, &long);
        }
    }
    tree.letter(&long, "k");
    tree.up_again(&long, pid);
    assert_eq!(tree.stop().code(), Some(0));
}
