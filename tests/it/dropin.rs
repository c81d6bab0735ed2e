//! Section: what an entry of the services directory becomes, and when it starts.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::harness::{
    CRASHING, NOTING, PATIENCE, SLEEPER, Tree, append, chmod, eventually, program, remove, replace, skip, stays, text,
    within, write,
};

/// With a settle time beyond all patience, only what starts at once starts at all.
fn unsettled() -> Tree {
    let tree = Tree::new().options(["--log", "none", "--settle", "10m"]);
    fs::create_dir(tree.entry("empty")).expect("an empty directory");
    tree.start();
    // It has had its first look, so what comes now arrives while it watches.
    tree.becomes("empty", "incomplete");
    tree
}

#[test]
fn a_directory_moved_in_starts_at_once() {
    let tree = unsettled();
    tree.service("web").run(SLEEPER).moved_in();
    tree.service("toml").toml("command = 'sleep 1000'").moved_in();
    tree.up("web");
    tree.up("toml");
}

#[test]
fn a_directory_linked_in_starts_at_once() {
    let tree = unsettled();
    tree.service("web").run(SLEEPER).linked_in();
    tree.up("web");
}

#[test]
fn a_directory_moved_in_runs_within_a_second() {
    let tree = Tree::running();
    tree.sleeper("first");
    tree.up("first");
    let service = tree.service("web").run(SLEEPER);
    let dropped = Instant::now();
    service.moved_in();
    tree.up("web");
    assert!(dropped.elapsed() < Duration::from_secs(1), "{:?}", dropped.elapsed());
}

#[test]
fn what_is_there_at_the_start_runs() {
    let tree = Tree::new();
    tree.sleeper("moved");
    tree.service("linked").run(SLEEPER).linked_in();
    tree.service("copied").run(SLEEPER).copied_in();
    tree.start();
    for name in ["moved", "linked", "copied"] {
        tree.up(name);
    }
}

#[test]
fn a_directory_that_is_copied_in_runs_once_it_is_quiet() {
    let tree = Tree::running();
    for round in 0..5 {
        let name = format!("web-{round}");
        tree.service(&name).run(NOTING).file("data", "data").copied_in();
        tree.up(&name);
        eventually("the start to be noted", || tree.notes(&name).len() == 1);
    }
    stays(Duration::from_millis(300), "started once", || {
        (0..5).all(|round| tree.notes(&format!("web-{round}")).len() == 1)
    });
}

#[test]
fn a_slow_copy_does_not_start_early() {
    let tree = Tree::running();
    let entry = tree.entry("web");
    fs::create_dir(&entry).expect("mkdir");
    stays(Duration::from_millis(600), "nothing of web runs", || tree.pid("web").is_none());
    write(&entry.join("run"), SLEEPER, 0o644);
    stays(Duration::from_millis(600), "a run that cannot be executed is not", || tree.pid("web").is_none());
    chmod(&entry.join("run"), 0o755);
    within(Duration::from_secs(2), "web to start after the chmod", || tree.pid("web").is_some());
    tree.becomes("web", "up");
    assert_eq!(tree.state("web")["exits"], serde_json::json!([]), "nothing failed on the way");
}

#[test]
fn a_run_that_is_still_being_written_is_not_executed() {
    let tree = Tree::new().options(["--log", "none", "--settle", "3s"]);
    tree.start();
    tree.service("web").run("#!/bin/sh\necho part >> \"$SVTREE_IT/notes/web\"\n").copied_in();
    let run = tree.entry("web").join("run");
    let mut last = Instant::now();
    let mut parts = 0;
    // For longer than the settle time it is never quiet for so long.
    stays(Duration::from_secs(4), "not executed while it is written", || {
        append(&run, "# more\n");
        parts += 1;
        let quiet = std::mem::replace(&mut last, Instant::now()).elapsed();
        quiet > Duration::from_secs(2) || tree.notes("web").is_empty()
    });
    append(&run, "echo whole >> \"$SVTREE_IT/notes/web\"\nexec sleep 1000\n");
    tree.up("web");
    eventually("the whole of it to run", || tree.notes("web") == ["part", "whole"]);
    assert!(parts > 1);
}

#[test]
fn a_run_that_is_written_anew_while_its_module_begins_is_not_executed() {
    let tree = Tree::new().options(["--log", "none", "--settle", "1s"]);
    tree.start();
    tree.sleeper("other");
    tree.up("other");
    // It waits a moment for its lock, after its files were read.
    write(&tree.home("web/lock"), "", 0o600);
    let lock = fs::File::open(tree.home("web/lock")).expect("opened");
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).expect("held");
    let run = tree.sleeper("web").join("run");
    stays(Duration::from_millis(50), "it cannot begin", || tree.pid("web").is_none());
    write(&run, "#!/bin/sh\necho half >> \"$SVTREE_IT/notes/half\"\n", 0o755);
    drop(lock);
    for _ in 0..20 {
        stays(Duration::from_millis(50), "it is not started", || tree.notes("half").is_empty());
        append(&run, "# more\n");
    }
    append(&run, "echo whole >> \"$SVTREE_IT/notes/half\"\nexec sleep 1000\n");
    eventually("the whole of it", || tree.notes("half") == ["half", "whole"]);
}

#[test]
fn what_is_incomplete_starts_nothing_and_is_no_error() {
    let tree = Tree::running();
    fs::create_dir(tree.entry("web")).expect("mkdir");
    tree.becomes("web", "incomplete");
    assert!(tree.status("web").is_none(), "it has only state.json");
    let warnings = text(&tree.home("web").join("supervise.log.wf"));
    assert_eq!(tree.complaints() + &warnings, "", "nothing is an error");
    write(&tree.entry("web").join("run"), SLEEPER, 0o755);
    tree.up("web");
}

#[test]
fn an_incomplete_directory_is_looked_at_again_when_something_in_it_changes() {
    let tree = Tree::running();
    fs::create_dir(tree.entry("toml")).expect("mkdir");
    fs::create_dir(tree.entry("group")).expect("mkdir");
    tree.becomes("toml", "incomplete");
    tree.becomes("group", "incomplete");
    replace(&tree.entry("toml").join("service.toml"), "command = 'sleep 1000'", 0o644);
    tree.up("toml");
    fs::create_dir(tree.entry("group/web")).expect("mkdir");
    write(&tree.entry("group/web/run"), SLEEPER, 0o755);
    replace(&tree.entry("group/group.toml"), "", 0o644);
    tree.up("group/web");
}

#[test]
fn dot_names_files_and_dangling_links_are_harmless() {
    let tree = Tree::running();
    tree.service(".hidden").run(NOTING).moved_in();
    write(&tree.entry("file"), SLEEPER, 0o755);
    symlink("nowhere", tree.entry("dangling")).expect("a link");
    symlink("loop", tree.entry("loop")).expect("a link");
    symlink("file", tree.entry("to-a-file")).expect("a link");
    tree.sleeper("web");
    let pid = tree.up("web");
    stays(Duration::from_millis(500), "only web runs", || {
        tree.notes(".hidden").is_empty()
            && ["file", "dangling", "loop", "to-a-file", ".hidden"].iter().all(|name| tree.pid(name).is_none())
    });
    assert_eq!(tree.pid("web"), Some(pid));
}

#[test]
fn odd_names_all_run() {
    let long = "n".repeat(240);
    let names: [&[u8]; 8] = [
        b"with blank",
        b"new\nline",
        b"not\xffutf8",
        b"-dash",
        b"back\\slash",
        b"'quote\"",
        "grün".as_bytes(),
        long.as_bytes(),
    ];
    let tree = Tree::running();
    for name in names {
        tree.service(OsStr::from_bytes(name)).run(SLEEPER).moved_in();
    }
    for name in names {
        tree.up(OsStr::from_bytes(name));
    }
    let name = |bytes: &[u8]| {
        let state = tree.state(OsStr::from_bytes(bytes));
        state["name"].as_str().map(str::to_owned)
    };
    eventually("names as the contract writes them", || {
        name(b"back\\slash").as_deref() == Some("back\\\\slash")
            && name(b"new\nline").as_deref() == Some("new\nline")
            && name(b"not\xffutf8").is_some_and(|name| name.eq_ignore_ascii_case("not\\xffutf8"))
    });
    let listed = tree.svtree(["status", "--json"]).ok();
    let listed: serde_json::Value = serde_json::from_str(&listed).expect("JSON");
    assert_eq!(listed.as_array().map(Vec::len), Some(names.len()));
    for bytes in names {
        let name = OsStr::from_bytes(bytes);
        remove(&tree.entry(name));
        tree.goes(name);
    }
}

#[test]
fn a_flood_of_changes_is_reconciled_to_the_exact_set() {
    let tree = Tree::running();
    tree.sleeper("before");
    let pid = tree.up("before");
    tree.signal_svtree(Signal::STOP);
    // More than the queue of events holds.
    for round in 0..10_000 {
        let path = tree.entry(format!("n{}", round % 100));
        fs::create_dir(&path).expect("mkdir");
        fs::remove_dir(&path).expect("rmdir");
    }
    tree.service("after").run(SLEEPER).moved_in();
    tree.signal_svtree(Signal::CONT);
    within(Duration::from_secs(5), "the exact set", || {
        let mut names: Vec<_> = fs::read_dir(tree.path("status"))
            .expect("the status root")
            .flatten()
            .filter(|entry| entry.path().is_dir())
            .map(|entry| entry.file_name())
            .collect();
        names.sort();
        names == ["after", "before"] && tree.pid("after").is_some()
    });
    assert_eq!(tree.pid("before"), Some(pid));
}

#[test]
fn without_a_watch_it_looks_every_5_seconds_and_says_so() {
    // In a user namespace of its own, svtree is allowed no inotify instance at all.
    let script = "echo 0 > /proc/sys/user/max_inotify_instances && exec \"$0\" \"$@\"";
    let tree = Tree::new().through(["unshare", "-Ur", "sh", "-c", script]);
    if program("unshare").is_none() {
        return;
    }
    if tree.ran(["unshare", "-Ur", "sh", "-c", script, "true"]).code != Some(0) {
        return skip("no user namespaces with a limit of their own here");
    }
    tree.sleeper("first");
    tree.start();
    tree.up("first");
    tree.sleeper("web");
    tree.up("web");
    remove(&tree.entry("web"));
    tree.goes("web");
    assert!(tree.stderr().contains("watch"), "{}", tree.stderr());
}

#[test]
fn a_module_that_crashes_does_not_hold_up_another() {
    let tree = Tree::running();
    tree.service("bad").run(CRASHING).moved_in();
    eventually("bad to crash", || !tree.notes("bad").is_empty());
    tree.sleeper("web");
    within(PATIENCE, "web to run", || tree.pid("web").is_some());
}
