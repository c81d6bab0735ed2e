//! Section: `svtree run --supervise-conf FILE`: the limits that Baidu's supervise.conf sets for modules by their names.

use std::fs;
use std::time::Duration;

use rustix::process::Signal;

use crate::harness::{CRASHING, Tree, eventually, signal_pid, stays, write};

/// So that it crashes often, and otherwise as it is.
const FAST: &str = "[restart]\ndelay = '20ms'\n";

/// A tree with this `supervise.conf`, not yet running.
fn tree(conf: &str) -> Tree {
    let tree = Tree::new().options(["--log", "none", "--supervise-conf", "supervise.conf"]);
    write(&tree.path("supervise.conf"), conf, 0o644);
    tree
}

/// Waits until a module is given up, and says how often it was started.
fn starts(tree: &Tree, name: &str) -> u64 {
    tree.becomes(name, "failed");
    tree.state(name)["exits_total"].as_u64().expect("a number")
}

/// That a module is started again and again.
fn goes_on(tree: &Tree, name: &str) {
    let exits = || tree.state(name)["exits_total"].as_u64().unwrap_or_default();
    let before = exits();
    eventually(format!("{name} to be started again"), || exits() >= before + 12);
    assert_ne!(tree.state(name)["state"], "failed");
}

#[test]
fn each_module_has_the_section_of_its_name_and_what_is_global_behind_no_section_of_its_own() {
    let tree = tree("[alone]\nmax_tries : 1\n[global]\nmax_tries : 3\n[more]\nmax_tries : 5\n[free]\nmax_tries : 0\n");
    for name in ["alone", "more", "free", "other"] {
        tree.service(name).run(CRASHING).toml(FAST).moved_in();
    }
    tree.start();
    assert_eq!(["alone", "more", "free", "other"].map(|name| starts(&tree, name)), [2, 6, 4, 4]);
    let reason = tree.state("other")["reason"].as_str().expect("a reason").to_owned();
    assert!(reason.starts_with("gave up after 4 exits within 60s"), "{reason}");
}

#[test]
fn a_section_before_global_has_nothing_of_it() {
    let tree = tree("[alone]\nalarm_interval : 60\n[global]\nmax_tries : 1\n");
    tree.service("alone").run(CRASHING).toml(FAST).moved_in();
    tree.service("other").run(CRASHING).toml(FAST).moved_in();
    tree.start();
    assert_eq!(starts(&tree, "other"), 2);
    goes_on(&tree, "alone");
}

#[test]
fn an_interval_below_a_minute_is_a_minute_and_none_at_all_switches_the_limits_off() {
    let tree = tree("[short]\nalarm_interval : 1\nmax_tries : 1\n[off]\nalarm_interval : 0\nmax_tries : 1\n");
    tree.service("short").run(CRASHING).toml(FAST).moved_in();
    tree.service("off").run(CRASHING).toml(FAST).moved_in();
    tree.start();
    tree.becomes("short", "failed");
    assert!(tree.told("short").contains("within 60s"), "{}", tree.told("short"));
    goes_on(&tree, "off");
}

#[test]
fn service_toml_wins_over_it() {
    let tree = tree("[global]\nmax_tries : 1\n");
    tree.service("web").run(CRASHING).toml(&format!("{FAST}max_tries = 4")).moved_in();
    tree.start();
    assert_eq!(starts(&tree, "web"), 5);
}

#[test]
fn a_module_in_a_group_has_the_section_of_its_whole_name() {
    let tree = tree("[group/web]\nmax_tries : 2\n[web]\nmax_tries : 1\n");
    fs::create_dir(tree.entry("group")).expect("a group");
    write(&tree.entry("group/group.toml"), "", 0o644);
    tree.service("group/web").run(CRASHING).toml(FAST).moved_in();
    tree.start();
    assert_eq!(starts(&tree, "group/web"), 3);
}

#[test]
fn a_line_that_cannot_be_read_is_told_with_its_number_and_the_rest_holds() {
    let tree = tree("[global]\nmax_tries = 1\nalarm_mial : ops\nmax_tries : 2\n");
    tree.service("web").run(CRASHING).toml(FAST).moved_in();
    tree.start();
    assert_eq!(starts(&tree, "web"), 3);
    for part in ["supervise.conf: line 2: ", "max_tries = 1", "supervise.conf: line 3: ", "`alarm_mail`"] {
        assert!(tree.stderr().contains(part), "{part} in {}", tree.stderr());
    }
}

#[test]
fn a_missing_file_is_a_warning_and_hup_reads_it_once_it_is_there() {
    let tree = Tree::new().options(["--log", "none", "--supervise-conf", "supervise.conf"]);
    tree.service("web").run(CRASHING).toml(FAST).moved_in();
    tree.start();
    goes_on(&tree, "web");
    assert!(tree.stderr().contains("reading supervise.conf: No such file"), "{}", tree.stderr());
    write(&tree.path("supervise.conf"), "[web]\nmax_tries : 1\n", 0o644);
    tree.signal_svtree(Signal::HUP);
    tree.becomes("web", "failed");
}

#[test]
fn r_reads_it_again_for_that_module_and_hup_for_all() {
    let tree = tree("");
    for name in ["one", "two"] {
        tree.service(name).run(CRASHING).toml(FAST).moved_in();
    }
    tree.start();
    goes_on(&tree, "one");
    write(&tree.path("supervise.conf"), "[global]\nmax_tries : 1\n", 0o644);
    tree.letter("one", "r");
    tree.becomes("one", "failed");
    goes_on(&tree, "two");
    tree.signal_svtree(Signal::HUP);
    tree.becomes("two", "failed");
}

#[test]
fn what_was_read_holds_when_the_file_goes_and_a_module_that_comes_has_what_is_there_then() {
    let tree = tree("[global]\nmax_tries : 2\n");
    tree.sleeper("first");
    tree.start();
    tree.up("first");
    fs::remove_file(tree.path("supervise.conf")).expect("removed");
    tree.service("old").run(CRASHING).toml(FAST).moved_in();
    assert_eq!(starts(&tree, "old"), 3);
    assert!(tree.stderr().contains("what was read of it before holds"), "{}", tree.stderr());
    write(&tree.path("supervise.conf"), "[global]\nmax_tries : 1\n", 0o644);
    tree.service("new").run(CRASHING).toml(FAST).moved_in();
    assert_eq!(starts(&tree, "new"), 2);
}

#[test]
fn it_holds_after_an_upgrade_and_for_a_program_that_is_taken_over() {
    let tree = tree("[global]\nmax_tries : 1\n");
    tree.sleeper("web");
    tree.start();
    let pid = tree.up("web");
    tree.svtree(["upgrade"]).ok();
    tree.kill_svtree();
    tree.start();
    eventually("web to be taken over", || tree.state("web")["adopted"] == true);
    assert_eq!(tree.pid("web"), Some(pid));
    for _ in 0..2 {
        let pid = tree.up("web");
        signal_pid(pid, Signal::KILL);
        eventually("it to have ended", || tree.pid("web") != Some(pid));
    }
    tree.becomes("web", "failed");
    stays(Duration::from_millis(300), "it stays down", || tree.pid("web").is_none());
}
