//! Faults of the services directory: storms while svtree cannot look, directories that go and come, very many modules.

use std::fs;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::harness::{ONE_COPY, Tree, alive, eventually, remove, stays, ticks, wait_for, within};

/// The directories of the status root.
fn homes(tree: &Tree) -> Vec<String> {
    let entries = fs::read_dir(tree.path("status")).expect("the status root").flatten();
    let mut names: Vec<_> = entries
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn after_30_000_changes_while_it_was_stopped_it_has_the_exact_set() {
    let tree = Tree::running();
    for name in ["kept", "removed", "replaced", "changed"] {
        tree.service(name).run(ONE_COPY).moved_in();
    }
    let before = ["kept", "removed", "replaced"].map(|name| tree.up(name));
    tree.up("changed");
    tree.signal_svtree(Signal::STOP);
    // The queue of events holds 16,384.
    for round in 0..15_000 {
        let path = tree.entry(format!("n{}", round % 500));
        fs::create_dir(&path).expect("mkdir");
        fs::remove_dir(&path).expect("rmdir");
    }
    let removed = tree.move_out("removed");
    tree.service("replaced").run(&ONE_COPY.replace("exec", "# another\nexec")).moved_in();
    crate::harness::append(&tree.entry("changed").join("run"), "# another\n");
    tree.service("added").run(ONE_COPY).moved_in();
    tree.signal_svtree(Signal::CONT);
    within(Duration::from_secs(10), "the exact set", || {
        homes(&tree) == ["added", "changed", "kept", "replaced"]
            && tree.pid("added").is_some()
            && tree.pid("replaced").is_some_and(|pid| pid != before[2])
            && tree.state("changed")["changed"] == true
    });
    assert_eq!(tree.pid("kept"), Some(before[0]));
    assert!(!alive(before[1]) && !alive(before[2]) && removed.exists());
    assert_eq!(tree.notes("twice"), [""; 0], "never two copies");
}

#[test]
fn a_services_directory_that_goes_and_comes_twenty_times_stops_nothing() {
    let tree = Tree::running();
    for name in ["a", "b"] {
        tree.service(name).run(ONE_COPY).moved_in();
    }
    let pids = ["a", "b"].map(|name| tree.up(name));
    for round in 0..20 {
        fs::rename(tree.path("services"), tree.path("away")).expect("moved away");
        stays(Duration::from_millis(round * 5), "svtree runs", || tree.is_running());
        fs::rename(tree.path("away"), tree.path("services")).expect("moved back");
    }
    tree.sleeper("new");
    tree.up("new");
    assert_eq!(["a", "b"].map(|name| tree.pid(name)), pids.map(Some));
    assert_eq!(tree.notes("a").len() + tree.notes("b").len(), 2);
    remove(&tree.entry("new"));
    tree.goes("new");
}

#[test]
fn a_module_renamed_twenty_times_is_never_there_twice() {
    let tree = Tree::running();
    // All its names share one lock.
    tree.service("n0").run(&ONE_COPY.replace("$SVTREE_MODULE.lock", "shared.lock")).moved_in();
    tree.up("n0");
    for round in 0..20 {
        fs::rename(tree.entry(format!("n{round}")), tree.entry(format!("n{}", round + 1))).expect("renamed");
        if round % 2 == 1 {
            // Every other one is renamed again while it is on its way.
            tree.up(format!("n{}", round + 1));
        }
    }
    let pid = tree.up("n20");
    eventually("no other", || homes(&tree) == ["n20"]);
    stays(Duration::from_millis(300), "it runs on", || tree.pid("n20") == Some(pid));
    assert_eq!(tree.notes("twice"), [""; 0], "never two copies");
}

#[test]
fn two_links_to_one_directory_run_once_and_the_second_is_refused_by_name() {
    let tree = Tree::running();
    let dir = tree.service("first").run(&ONE_COPY.replace("$SVTREE_MODULE.lock", "shared.lock")).linked_in();
    let pid = tree.up("first");
    std::os::unix::fs::symlink(&dir, tree.entry("second")).expect("a link");
    tree.becomes("second", "rejected");
    assert!(tree.state("second")["reason"].as_str().is_some_and(|why| why.contains("first")));
    eventually("it to be named", || tree.stderr().contains("second") && tree.stderr().contains("first"));
    assert_eq!(tree.pid("first"), Some(pid));
    fs::remove_file(tree.entry("first")).expect("removed");
    tree.up_again("second", pid);
    tree.goes("first");
    assert_eq!(tree.notes("twice"), [""; 0], "never two copies");
}

#[test]
fn a_running_module_removed_twenty_times_leaves_nothing() {
    let tree = Tree::running();
    for round in 0..20 {
        let entry = tree.service("web").run(ONE_COPY).moved_in();
        let pid = tree.up("web");
        if round % 2 == 0 {
            remove(&entry);
        } else {
            tree.move_out("web");
        }
        tree.goes("web");
        assert!(!alive(pid), "round {round}");
    }
    assert_eq!(homes(&tree), [""; 0]);
    assert_eq!(tree.notes("twice"), [""; 0], "never two copies");
}

#[test]
fn fifteen_hundred_modules_run_within_30_s_and_cost_nothing_then() {
    let tree = Tree::new();
    let names: Vec<String> = (0..1500).map(|number| format!("m{number}")).collect();
    for name in &names {
        let dir = tree.service(name).dir();
        fs::write(dir.join("service.toml"), "command = ['sleep', '1000']").expect("written");
        fs::rename(&dir, tree.entry(name)).expect("moved in");
    }
    let started = Instant::now();
    tree.start();
    let mut rest: Vec<&String> = names.iter().collect();
    wait_for("the first", || tree.pid("m0"));
    while !rest.is_empty() {
        rest.retain(|name| tree.pid(name).is_none());
        assert!(started.elapsed() < Duration::from_secs(30), "{} not up after 30 s", rest.len());
    }
    tree.sleeper("one-more");
    tree.up("one-more");
    // What came with the start settles first.
    let pid = tree.pid_of_svtree();
    let mut before = ticks(pid);
    wait_for("a second of rest", || {
        stays(Duration::from_secs(1), "it runs", || tree.is_running());
        let used = ticks(pid) - std::mem::replace(&mut before, ticks(pid));
        (used < 2).then_some(())
    });
    before = ticks(pid);
    stays(Duration::from_secs(3), "it runs", || tree.is_running());
    let used = ticks(pid) - before;
    assert!(used < 4, "{used} ticks of 1/100 s in 3 s");
    assert_eq!(tree.complaints(), "");
}
