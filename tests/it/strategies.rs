//! Section: strategies of groups, what one's death means to the others.

use std::fs;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::{SLEEPER, Service, Tree, eventually, signal_pid, stays, wait_for, within};

/// Says in the notes `order` when it starts, and when it is told to stop.
const TELLING: &str = "#!/bin/sh
trap 'echo \"$SVTREE_MODULE stops\" >> \"$SVTREE_IT/notes/order\"; exit 0' TERM
echo \"$SVTREE_MODULE starts\" >> \"$SVTREE_IT/notes/order\"
while :; do sleep 0.05; done
";

/// The group `g` with the members `a`, `b` and `c`.
fn group<'a>(tree: &'a Tree, policy: &str) -> Service<'a> {
    let service = tree.service("g").file("group.toml", policy);
    service.script("a/run", TELLING).script("b/run", TELLING).script("c/run", TELLING)
}

/// What is in the notes after the first lines.
fn order(tree: &Tree, after: usize, count: usize) -> Vec<String> {
    eventually(format!("{count} more lines in the notes"), || tree.notes("order").len() >= after + count);
    tree.notes("order")[after..].iter().map(|line| line.replace("g/", "")).collect()
}

fn pids(tree: &Tree) -> [i32; 3] {
    ["g/a", "g/b", "g/c"].map(|name| tree.up(name))
}

/// What svtree says of the group.
fn record(tree: &Tree) -> Value {
    wait_for("a record of the group", || {
        let text = fs::read_to_string(tree.home("g/.group.json")).ok()?;
        serde_json::from_str(&text).ok()
    })
}

fn kill(tree: &Tree, name: &str) {
    signal_pid(tree.up(name), Signal::KILL);
}

fn has_failed(tree: &Tree, name: &str, why: &str) {
    eventually(format!("{name} has failed: {why}"), || {
        let state = tree.state(name);
        state["state"] == "failed" && state["reason"].as_str().is_some_and(|reason| reason.contains(why))
    });
}

#[test]
fn one_for_one_starts_again_who_died_and_nobody_else() {
    let tree = Tree::running();
    group(&tree, "strategy = 'one_for_one'").moved_in();
    let before = pids(&tree);
    kill(&tree, "g/b");
    tree.up_again("g/b", before[1]);
    assert_eq!((tree.pid("g/a"), tree.pid("g/c")), (Some(before[0]), Some(before[2])));
}

#[test]
fn one_for_all_stops_the_others_in_reverse_and_starts_all_in_order() {
    let tree = Tree::running();
    group(&tree, "strategy = 'one_for_all'").moved_in();
    pids(&tree);
    assert_eq!(order(&tree, 0, 3), ["a starts", "b starts", "c starts"]);
    kill(&tree, "g/b");
    assert_eq!(order(&tree, 3, 5), ["c stops", "a stops", "a starts", "b starts", "c starts"]);
    pids(&tree);
    stays(Duration::from_millis(300), "that is all", || tree.notes("order").len() == 8);
}

#[test]
fn rest_for_one_leaves_alone_what_comes_before() {
    let tree = Tree::running();
    group(&tree, "strategy = 'rest_for_one'\norder = ['c', 'a']").moved_in();
    let before = pids(&tree);
    assert_eq!(order(&tree, 0, 3), ["c starts", "a starts", "b starts"]);
    kill(&tree, "g/a");
    assert_eq!(order(&tree, 3, 3), ["b stops", "a starts", "b starts"]);
    assert_eq!(tree.pid("g/c"), Some(before[2]));
}

#[test]
fn each_is_started_once_those_before_it_are_ready() {
    let tree = Tree::running();
    group(&tree, "strategy = 'one_for_all'")
        .script(
            "a/run",
            "#!/bin/sh\nuntil test -e \"$SVTREE_IT/notes/go\"; do sleep 0.02; done\necho >&3\nexec sleep 1000\n",
        )
        .file("a/service.toml", "[ready]\nfd = 3")
        .moved_in();
    tree.becomes("g/a", "starting");
    eventually("b waits", || tree.state("g/b")["reason"] == "comes after g/a, which is not ready yet");
    assert_eq!(tree.pid("g/b"), None);
    crate::harness::write(&tree.path("notes/go"), "", 0o644);
    pids(&tree);
}

#[test]
fn deaths_while_all_are_stopped_are_part_of_it() {
    let tree = Tree::running();
    group(&tree, "strategy = 'one_for_all'\nintensity = 1").moved_in();
    let before = pids(&tree);
    before.into_iter().for_each(|pid| signal_pid(pid, Signal::KILL));
    for (name, pid) in ["g/a", "g/b", "g/c"].into_iter().zip(before) {
        tree.up_again(name, pid);
    }
}

#[test]
fn more_restarts_than_are_borne_fail_the_group_and_a_letter_begins_anew() {
    let tree = Tree::running();
    group(&tree, "strategy = 'one_for_all'\nintensity = 1\nperiod = '60s'").moved_in();
    tree.sleeper("free");
    let free = tree.up("free");
    for _ in 0..2 {
        pids(&tree);
        kill(&tree, "g/b");
        eventually("it is down", || tree.pid("g/a").is_none() || tree.pid("g/b").is_none());
    }
    for name in ["g/a", "g/b", "g/c"] {
        has_failed(&tree, name, "group g has failed: more than 1 restart within 60 s, the last of g/b");
    }
    assert_eq!(tree.pid("free"), Some(free));
    stays(Duration::from_millis(300), "it stays so", || tree.pid("g/a").is_none());
    assert_eq!(record(&tree)["state"], "failed");
    tree.svtree(["up", "--wait", "20", "g"]).ok();
    pids(&tree);
    eventually("it counts anew", || record(&tree)["state"] == "up" && record(&tree)["restarts"] == json!([]));
}

#[test]
fn commands_on_a_group_reach_its_members_in_order() {
    let tree = Tree::running();
    group(&tree, "order = ['c']").file("b/service.toml", "needs = ['a']").moved_in();
    pids(&tree);
    assert_eq!(order(&tree, 0, 3), ["c starts", "a starts", "b starts"]);
    tree.svtree(["down", "--wait", "20", "g"]).ok();
    assert_eq!(order(&tree, 3, 3), ["b stops", "a stops", "c stops"]);
    eventually("it is down", || record(&tree)["state"] == "down");
    tree.svtree(["up", "--wait", "20", "g"]).ok();
    assert_eq!(order(&tree, 6, 3), ["c starts", "a starts", "b starts"]);
    tree.svtree(["restart", "--wait", "20", "g"]).ok();
    let expected = ["b stops", "a stops", "c stops", "c starts", "a starts", "b starts"];
    assert_eq!(order(&tree, 9, 6), expected);
    assert_eq!(tree.svtree(["status", "g"]).ok().lines().count(), 4);
}

#[test]
fn a_group_says_what_it_asks_for_and_how_it_is() {
    let tree = Tree::running();
    group(&tree, "strategy = 'rest_for_one'\nintensity = 5\nperiod = '30s'\norder = ['c']").moved_in();
    let before = pids(&tree);
    eventually("it is up", || record(&tree)["state"] == "up");
    kill(&tree, "g/b");
    tree.up_again("g/b", before[1]);
    eventually("one is counted", || record(&tree)["restarts"].as_array().is_some_and(|restarts| restarts.len() == 1));
    let record = record(&tree);
    for (field, value) in [
        ("name", json!("g")),
        ("strategy", json!("rest_for_one")),
        ("intensity", json!(5)),
        ("period", json!(30.0)),
        ("on_failure", json!("stop")),
        ("members", json!(["c", "a", "b"])),
        ("ordered", json!(true)),
    ] {
        assert_eq!(record[field], value, "{field}");
    }
    tree.stop();
    assert!(!tree.home("g").exists());
}

#[test]
fn restarts_of_one_for_one_are_counted_as_well() {
    let tree = Tree::running();
    group(&tree, "intensity = 2\nperiod = '60s'").moved_in();
    for name in ["g/a", "g/b", "g/c"] {
        let pid = tree.up(name);
        kill(&tree, name);
        eventually("it died", || tree.pid(name) != Some(pid));
    }
    has_failed(&tree, "g/a", "more than 2 restarts");
    has_failed(&tree, "g/c", "the last of g/c");
}

#[test]
fn a_member_that_is_down_is_no_part_of_it() {
    let tree = Tree::running();
    group(&tree, "strategy = 'one_for_all'").moved_in();
    pids(&tree);
    tree.svtree(["down", "--wait", "20", "g/b"]).ok();
    assert_eq!(order(&tree, 3, 1), ["b stops"]);
    kill(&tree, "g/a");
    assert_eq!(order(&tree, 4, 3), ["c stops", "a starts", "c starts"]);
    assert_eq!(tree.pid("g/b"), None);
    tree.svtree(["up", "g/b"]).ok();
    tree.up("g/b");
}

#[test]
fn a_member_that_has_done_its_work_is_no_death() {
    let tree = Tree::running();
    group(&tree, "strategy = 'one_for_all'\norder = ['job']")
        .script("job/run", "#!/bin/sh\nexit 0\n")
        .file("job/service.toml", "[restart]\nwhen = 'never'\n[ready]\non_exit = true")
        .moved_in();
    pids(&tree);
    tree.becomes("g/job", "down");
    stays(Duration::from_millis(300), "they run on", || tree.notes("order").len() == 3);
}

#[test]
fn a_group_that_fails_is_started_again_by_the_one_it_is_in() {
    let tree = Tree::running();
    tree.service("g")
        .file("group.toml", "strategy = 'one_for_all'\nintensity = 2")
        .script("a/run", TELLING)
        .file("in/group.toml", "strategy = 'one_for_all'\nintensity = 0\non_failure = 'restart'")
        .file("in/group.toml", "intensity = 1\nperiod = '60s'\non_failure = 'restart'")
        .script("in/b/run", TELLING)
        .moved_in();
    let a = tree.up("g/a");
    for _ in 0..2 {
        let b = tree.up("g/in/b");
        signal_pid(b, Signal::KILL);
        tree.up_again("g/in/b", b);
    }
    tree.up_again("g/a", a);
    tree.up("g/in/b");
}

#[test]
fn what_escalates_takes_the_outer_group_along() {
    let tree = Tree::running();
    tree.service("g")
        .file("group.toml", "")
        .script("a/run", SLEEPER)
        .file("in/group.toml", "intensity = 1\non_failure = 'escalate'")
        .script("in/b/run", SLEEPER)
        .moved_in();
    tree.up("g/a");
    for _ in 0..2 {
        let b = tree.up("g/in/b");
        signal_pid(b, Signal::KILL);
        eventually("it died", || tree.pid("g/in/b") != Some(b));
    }
    has_failed(&tree, "g/a", "group g/in has failed");
    has_failed(&tree, "g/in/b", "more than 1 restart");
}

#[test]
fn what_stops_does_not_reach_the_outer_group() {
    let tree = Tree::running();
    tree.service("g")
        .file("group.toml", "strategy = 'one_for_all'")
        .script("a/run", SLEEPER)
        .file("in/group.toml", "intensity = 1")
        .script("in/b/run", SLEEPER)
        .moved_in();
    let a = tree.up("g/a");
    for _ in 0..2 {
        let b = tree.up("g/in/b");
        signal_pid(b, Signal::KILL);
        eventually("it died", || tree.pid("g/in/b") != Some(b));
    }
    has_failed(&tree, "g/in/b", "more than 1 restart");
    assert_eq!(tree.pid("g/a"), Some(a));
}

#[test]
fn at_the_root_a_failure_ends_everything_if_that_is_asked_for() {
    for policy in ["intensity = 1", "intensity = 1\non_failure = 'escalate'"] {
        let tree = Tree::new().options(["--log", "none", "--exit-on-failure"]);
        group(&tree, policy).moved_in();
        tree.sleeper("free");
        tree.start();
        for _ in 0..2 {
            let pid = tree.up("g/a");
            signal_pid(pid, Signal::KILL);
            eventually("it died", || tree.pid("g/a") != Some(pid) || !tree.is_running());
        }
        assert_eq!(tree.ended().code(), Some(1));
        assert!(tree.stderr().contains("group g has failed: more than 1 restart"), "{}", tree.stderr());
    }
}

#[test]
fn a_module_at_the_root_that_fails_ends_everything_as_well() {
    let tree = Tree::new().options(["--log", "none", "--exit-on-failure"]);
    tree.service("job").run("#!/bin/sh\nexit 3\n").toml("[restart]\nwhen = 'never'").moved_in();
    tree.sleeper("free");
    tree.start();
    assert_eq!(tree.ended().code(), Some(1));
    assert!(tree.stderr().contains("job has failed"), "{}", tree.stderr());
}

#[test]
fn a_group_in_the_midst_of_a_restart_goes_on_under_another_svtree() {
    let slow = TELLING.replace("exit 0", "sleep 1; exit 0");
    for upgrades in [false, true] {
        let tree = Tree::running();
        group(&tree, "strategy = 'one_for_all'").script("c/run", &slow).moved_in();
        pids(&tree);
        kill(&tree, "g/b");
        assert_eq!(order(&tree, 3, 1), ["c stops"]);
        if upgrades {
            tree.svtree(["upgrade"]).ok();
        } else {
            tree.kill_svtree();
            tree.start();
        }
        let started =
            |name: &str| tree.notes("order").iter().filter(|line| **line == format!("g/{name} starts")).count();
        within(Duration::from_secs(20), "all run again", || {
            let up = |name: &str| tree.pid(name).is_some() && tree.state(name)["state"] == "up";
            ["g/a", "g/b", "g/c"].into_iter().all(up) && started("b") >= 2 && started("c") >= 2
        });
        // One that was killed may not have recorded that it had told the last one to end: then its end is another death.
        if upgrades {
            assert_eq!((started("b"), started("c")), (2, 2), "{:?}", tree.notes("order"));
        }
    }
}
