//! Section: `instances`: one directory that stands for several modules, each with a number.

use std::fs;
use std::time::Duration;

use rustix::process::Signal;

use crate::harness::{
    NOTING, ONE_COPY, SLEEPER, Tree, alive, environment, eventually, logged_lines, remove, replace, signal_pid, stays,
    write,
};

/// It says its number.
const SAYING: &str = "#!/bin/sh\necho \"I am $SVTREE_INSTANCE\"\nexec sleep 1000\n";

fn several(count: u32) -> String {
    format!("instances = {count}\n")
}

fn names(module: &str, count: u32) -> Vec<String> {
    (1..=count).map(|number| format!("{module}@{number}")).collect()
}

#[track_caller]
fn all_up(tree: &Tree, module: &str, count: u32) -> Vec<i32> {
    names(module, count).iter().map(|name| tree.up(name)).collect()
}

/// Another number, as an editor writes it.
fn number(tree: &Tree, module: &str, toml: &str) {
    replace(&tree.entry(module).join("service.toml"), toml, 0o644);
}

#[test]
fn each_instance_is_a_module_with_its_number_in_its_environment() {
    // svtree may be an instance itself.
    let tree = Tree::new().env("SVTREE_INSTANCE", "77");
    tree.service("worker").run(SLEEPER).toml(&several(4)).moved_in();
    tree.sleeper("single");
    tree.start();
    for (index, pid) in all_up(&tree, "worker", 4).into_iter().enumerate() {
        let (number, name) = (index + 1, format!("worker@{}", index + 1));
        let variables = environment(pid);
        assert!(variables.contains(&format!("SVTREE_MODULE={name}")), "{variables:?}");
        assert!(variables.contains(&format!("SVTREE_INSTANCE={number}")), "{variables:?}");
        assert_eq!(variables.iter().filter(|pair| pair.starts_with("SVTREE_INSTANCE=")).count(), 1);
        assert_eq!(tree.state(&name)["name"], name);
        assert_eq!(fs::read_link(format!("/proc/{pid}/cwd")).expect("a directory"), tree.entry("worker"));
        assert!(tree.home(&name).join("lock").exists() && tree.home(&name).join("svcontrol").exists());
    }
    let single = tree.up("single");
    assert!(!environment(single).iter().any(|pair| pair.starts_with("SVTREE_INSTANCE=")));
    assert!(!tree.home("worker").exists() && !tree.home("worker@5").exists());
    assert!(!tree.entry("worker/supervise").exists(), "it cannot be that of several");
}

#[test]
fn instances_in_a_group_are_called_by_both_names() {
    let tree = Tree::running();
    let group = tree.service("site").file("group.toml", "").script("worker/run", SLEEPER);
    group.file("worker/service.toml", &several(2)).moved_in();
    all_up(&tree, "site/worker", 2);
    assert!(!tree.home("site/worker").exists());
    let table = tree.svtree(["status", "site/worker"]).ok();
    assert!(table.contains("site/worker@1") && table.contains("site/worker@2"), "{table}");
}

#[test]
fn a_changed_number_adds_or_retires_the_last_ones_and_touches_no_other() {
    let tree = Tree::running();
    tree.service("worker").run(NOTING).toml(&several(2)).moved_in();
    let two = all_up(&tree, "worker", 2);
    number(&tree, "worker", &several(5));
    let five = all_up(&tree, "worker", 5);
    assert_eq!(five[..2], two);
    number(&tree, "worker", &several(1));
    names("worker", 5)[1..].iter().for_each(|name| tree.goes(name));
    assert!(!five[1..].iter().any(|pid| alive(*pid)));
    assert_eq!(tree.up("worker@1"), two[0]);
    assert_eq!(tree.notes("worker@1"), [two[0].to_string()]);
    // Nothing that it was started with is another.
    assert_eq!(tree.state("worker@1")["changed"], false);
    number(&tree, "worker", &(several(1) + "nice = 1\n"));
    eventually("another change to be told", || tree.state("worker@1")["changed"] == true);
}

#[test]
fn without_the_key_it_is_one_module_and_with_it_several_again() {
    let tree = Tree::running();
    tree.service("worker").run(SLEEPER).moved_in();
    let one = tree.up("worker");
    assert!(tree.entry("worker/supervise").exists());
    write(&tree.entry("worker/service.toml"), &several(2), 0o644);
    let two = all_up(&tree, "worker", 2);
    tree.goes("worker");
    assert!(!alive(one));
    remove_toml(&tree);
    tree.up("worker");
    names("worker", 2).iter().for_each(|name| tree.goes(name));
    assert!(!two.into_iter().any(alive));
}

fn remove_toml(tree: &Tree) {
    fs::remove_file(tree.entry("worker/service.toml")).expect("removed");
}

#[test]
fn one_module_and_several_of_one_directory_never_run_together() {
    let tree = Tree::running();
    // Slow to end, and each says whom it meets.
    let run = "#!/bin/sh
trap 'sleep 0.3; rm \"$SVTREE_IT/notes/here.$SVTREE_MODULE\"; exit' TERM
others=$(ls \"$SVTREE_IT/notes\" | grep '^here' | grep -v '^here.worker@[0-9]*$')
case $SVTREE_MODULE in *@*) ;; *) others=$(ls \"$SVTREE_IT/notes\" | grep '^here') ;; esac
[ -z \"$others\" ] || echo \"$SVTREE_MODULE beside $others\" >> \"$SVTREE_IT/notes/met\"
touch \"$SVTREE_IT/notes/here.$SVTREE_MODULE\"
while :; do sleep 0.02; done
";
    tree.service("worker").run(run).moved_in();
    tree.up("worker");
    let here = |name: &str| tree.path("notes").join(format!("here.{name}")).exists();
    for _ in 0..3 {
        eventually("it to be at work", || here("worker"));
        write(&tree.entry("worker/service.toml"), &several(3), 0o644);
        names("worker", 3).iter().for_each(|name| eventually(format!("{name} to be at work"), || here(name)));
        remove_toml(&tree);
    }
    eventually("it to be at work", || here("worker"));
    assert_eq!(tree.notes("met"), [""; 0]);
}

#[test]
fn the_name_without_a_number_means_all_of_them() {
    let tree = Tree::running();
    tree.service("worker").run(SLEEPER).toml(&several(3)).moved_in();
    let before = all_up(&tree, "worker", 3);
    tree.svtree(["kill", "worker@2"]).ok();
    tree.up_again("worker@2", before[1]);
    assert_eq!((tree.up("worker@1"), tree.up("worker@3")), (before[0], before[2]));
    tree.svtree(["down", "worker", "--wait", "15"]).ok();
    assert!(names("worker", 3).iter().all(|name| tree.pid(name).is_none()));
    tree.svtree(["up", "worker", "--wait", "15"]).ok();
    let again = all_up(&tree, "worker", 3);
    tree.svtree(["restart", "worker@*", "--wait", "15"]).ok();
    names("worker", 3).iter().zip(again).for_each(|(name, pid)| _ = tree.up_again(name, pid));
    let json = tree.svtree(["status", "worker", "--json"]).ok();
    let listed: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(listed.as_array().map(Vec::len), Some(3), "{json}");
    let pid = tree.up("worker@3");
    assert!(tree.called("svstat", ["worker@3"]).ok().starts_with(&format!("worker@3: up (pid {pid})")));
}

#[test]
fn the_end_of_an_instance_is_the_end_of_nothing_of_another() {
    let tree = Tree::running();
    // Each leaves what has a session of its own: only a control group or its name tells whose it is.
    let run = "#!/bin/sh\nsetsid sleep 1000 &\necho $! >> \"$SVTREE_IT/notes/$SVTREE_MODULE\"\nexec sleep 1000\n";
    tree.service("worker").run(run).toml(&several(2)).moved_in();
    all_up(&tree, "worker", 2);
    let left = names("worker", 2).iter().map(|name| tree.noted_pids(name, 1)[0]).collect::<Vec<_>>();
    eventually("both to have left something", || left.iter().all(|pid| alive(*pid)));
    tree.svtree(["down", "worker@1", "--wait", "15"]).ok();
    eventually("all of the first to end", || !alive(left[0]));
    stays(Duration::from_millis(300), "the second", || alive(left[1]) && tree.pid("worker@2").is_some());
    number(&tree, "worker", &several(1));
    tree.goes("worker@2");
    assert!(!alive(left[1]));
}

#[test]
fn a_removed_directory_is_the_end_of_all_of_them() {
    let tree = Tree::running();
    let entry = tree.service("worker").run(SLEEPER).toml(&several(3)).moved_in();
    let pids = all_up(&tree, "worker", 3);
    remove(&entry);
    names("worker", 3).iter().for_each(|name| tree.goes(name));
    assert!(!pids.into_iter().any(alive));
}

#[test]
fn a_file_down_is_for_all_of_them() {
    let tree = Tree::running();
    tree.service("worker").run(SLEEPER).toml(&several(2)).file("down", "").moved_in();
    names("worker", 2).iter().for_each(|name| tree.becomes(name, "down"));
    tree.svtree(["enable", "worker", "--now", "--wait", "15"]).ok();
    all_up(&tree, "worker", 2);
}

#[test]
fn every_pid_is_taken_over_and_who_was_down_stays_down() {
    let tree = Tree::running();
    tree.service("worker").run(ONE_COPY).toml(&several(3)).moved_in();
    let pids = all_up(&tree, "worker", 3);
    tree.svtree(["down", "worker@2", "--wait", "15"]).ok();
    for round in 0..2 {
        tree.kill_svtree();
        if round == 1 {
            // Too young to be read at once.
            number(&tree, "worker", &several(3));
        }
        tree.start();
        for (name, pid) in [("worker@1", pids[0]), ("worker@3", pids[2])] {
            eventually(format!("{name} to be taken over"), || tree.state(name)["adopted"] == true);
            assert_eq!(tree.up(name), pid);
        }
        eventually("the second to be supervised", || tree.called("svstat", ["worker@2"]).out.contains(": down"));
        assert_eq!((tree.pid("worker@2"), &tree.state("worker@2")["want"]), (None, &"down".into()));
        assert_eq!(tree.notes("worker@1"), [pids[0].to_string()]);
    }
    assert_eq!(tree.notes("twice"), [""; 0]);
}

#[test]
fn a_number_that_changed_while_svtree_was_dead_holds_for_the_next_one() {
    let tree = Tree::running();
    tree.service("worker").run(SLEEPER).toml(&several(3)).moved_in();
    let pids = all_up(&tree, "worker", 3);
    tree.svtree(["down", "worker@2", "--wait", "15"]).ok();
    tree.kill_svtree();
    number(&tree, "worker", &several(1));
    tree.start();
    names("worker", 3)[1..].iter().for_each(|name| tree.goes(name));
    assert!(!alive(pids[2]));
    assert_eq!(tree.up("worker@1"), pids[0]);
}

#[test]
fn an_upgrade_keeps_every_instance() {
    let tree = Tree::running();
    tree.service("worker").run(ONE_COPY).toml(&several(3)).moved_in();
    let pids = all_up(&tree, "worker", 3);
    tree.svtree(["upgrade"]).ok();
    assert_eq!(all_up(&tree, "worker", 3), pids);
    tree.svtree(["kill", "worker@2"]).ok();
    tree.up_again("worker@2", pids[1]);
    number(&tree, "worker", &several(4));
    tree.up("worker@4");
    assert_eq!((tree.up("worker@1"), tree.up("worker@3")), (pids[0], pids[2]));
    number(&tree, "worker", "instances = 0");
    eventually("the mistake", || tree.told("worker@1").contains("instances"));
    tree.svtree(["upgrade"]).ok();
    assert_eq!((tree.up("worker@1"), tree.up("worker@3")), (pids[0], pids[2]), "the last good number holds");
}

#[test]
fn each_instance_has_a_log_of_its_own() {
    let tree = Tree::new().options(["--log", "file"]);
    tree.service("worker").run(SAYING).toml(&several(2)).moved_in();
    tree.start();
    for number in 1..=2 {
        let log = tree.path("logs").join(format!("worker@{number}"));
        let is_said = || logged_lines(&log).iter().any(|line| line.ends_with(&format!("I am {number}")));
        eventually("what it said", is_said);
        assert_eq!(logged_lines(&log).len(), 1);
    }
    let said = tree.svtree(["logs", "worker"]).ok();
    assert!(said.contains("worker@1: ") && said.contains("worker@2: "), "{said}");
}

#[test]
fn in_a_log_directory_that_they_have_together_each_has_one_with_its_number() {
    let tree = Tree::new().options(["--log", "file"]);
    tree.service("worker").run(SAYING).toml(&(several(2) + "[log]\ndirectory = 'said'\n")).moved_in();
    tree.start();
    for number in 1..=2 {
        let log = tree.entry("worker/said").join(number.to_string());
        let is_said = || logged_lines(&log).iter().any(|line| line.ends_with(&format!("I am {number}")));
        eventually("what it said", is_said);
    }
    // Where logs are is told by the homes.
    all_up(&tree, "worker", 2);
    let said = tree.svtree(["logs", "worker"]).ok();
    assert!(said.contains("worker@1: ") && said.contains("worker@2: "), "{said}");
}

#[test]
fn each_instance_has_a_logger_of_its_own_which_is_told_the_number_too() {
    let tree = Tree::running();
    let logger = "#!/bin/sh\nexec cat >> \"$SVTREE_IT/notes/$SVTREE_INSTANCE\"\n";
    tree.service("worker").run(SAYING).script("log/run", logger).toml(&several(2)).moved_in();
    for number in ["1", "2"] {
        let log = tree.up(format!("worker@{number}/log"));
        assert!(environment(log).contains(&format!("SVTREE_MODULE=worker@{number}/log")));
        eventually("what it said", || tree.notes(number) == [format!("I am {number}")]);
    }
    assert!(!tree.home("worker").exists() && !tree.entry("worker/log/supervise").exists());
    assert!(tree.svtree(["status", "worker/log"]).ok().contains("worker@2/log"));
    let pid = tree.up("worker@1");
    number(&tree, "worker", &several(1));
    tree.goes("worker@2");
    assert!(alive(pid) && tree.pid("worker@1/log").is_some());
    // Taken away, it reads on for as long as a program writes to it.
    number(&tree, "worker", &several(2));
    tree.up("worker@2");
    tree.up("worker@2/log");
    tree.move_out("worker/log");
    let is_known = |name: &str| tree.state(name)["changed"] == true;
    eventually("that to be seen", || is_known("worker@1") && is_known("worker@2"));
    tree.svtree(["restart", "worker@2", "--wait", "15"]).ok();
    tree.goes("worker@2/log");
    stays(Duration::from_millis(500), "the other logger", || tree.pid("worker@1/log").is_some());
    tree.svtree(["restart", "worker@1", "--wait", "15"]).ok();
    tree.goes("worker@1/log");
}

#[test]
fn a_directory_that_is_called_as_an_instance_is_rejected_by_name() {
    let tree = Tree::running();
    tree.service("worker").run(SLEEPER).toml(&several(2)).moved_in();
    let pids = all_up(&tree, "worker", 2);
    let other = tree.service("worker@2").run(NOTING).moved_in();
    let line = format!("{}: rejected: worker@2 is an instance of worker: give it another name", other.display());
    eventually("it to be told", || tree.stderr().contains(&line));
    assert_eq!(all_up(&tree, "worker", 2), pids);
    let checked = tree.svtree(["check", "services"]);
    assert!(checked.err.contains("services/worker@2: worker@2 is an instance of worker"), "{checked:?}");
    // The name is free again.
    number(&tree, "worker", &several(1));
    eventually("the other one to run", || tree.notes("worker@2").len() == 1);
    assert!(!alive(pids[1]) && alive(pids[0]));
    eventually("that to be told", || tree.stderr().contains("worker@2: it is in order again"));
    assert_eq!(tree.stderr().matches(&line).count(), 1);
}

#[test]
fn a_mistake_in_the_number_is_named_and_the_last_good_one_stays() {
    let tree = Tree::running();
    tree.service("worker").run(SLEEPER).toml(&several(2)).moved_in();
    let pids = all_up(&tree, "worker", 2);
    number(&tree, "worker", "\ninstances = 0\n");
    eventually("the mistake", || tree.told("worker@2").contains("service.toml: line 2, column 13: instances: none is"));
    stays(Duration::from_millis(300), "both", || pids.iter().all(|pid| alive(*pid)));
    number(&tree, "worker", &several(3));
    tree.up("worker@3");
    assert!(pids.into_iter().all(alive));
    let mistake = |toml: &str| {
        let dir = tree.service("checked").run(SLEEPER).toml(toml).dir();
        tree.svtree(["check".as_ref(), dir.as_os_str()]).err
    };
    assert!(mistake("instances = 1001").contains("instances: expected a whole number from 1 to 1000"));
    let long = "w".repeat(254);
    tree.service(&long).run(SLEEPER).toml(&several(1)).moved_in();
    eventually("a name that is too long", || tree.told(&long).contains("longer than 255 bytes"));
    let logger =
        tree.service("logged").run(SLEEPER).script("log/run", SLEEPER).file("log/service.toml", "instances = 2");
    let checked = tree.svtree(["check".as_ref(), logger.dir().as_os_str()]).err;
    assert!(checked.contains("a logger has as many as its module"), "{checked}");
}

#[test]
fn the_same_directory_under_a_second_name_is_refused() {
    let tree = Tree::running();
    let entry = tree.service("worker").run(SLEEPER).toml(&several(2)).moved_in();
    let pids = all_up(&tree, "worker", 2);
    std::os::unix::fs::symlink(&entry, tree.entry("other")).expect("a link");
    let refused = |number: u32| tree.stderr().contains(&format!("the same directory as worker@{number}"));
    eventually("both to be refused", || refused(1) && refused(2));
    tree.becomes("other@1", "rejected");
    assert_eq!(all_up(&tree, "worker", 2), pids);
}

#[test]
fn of_several_the_first_is_tried() {
    let tree = Tree::new();
    let run = "#!/bin/sh\necho \"$SVTREE_MODULE is $SVTREE_INSTANCE\"\n";
    let dir = tree.service("worker").run(run).toml(&several(2)).dir();
    assert_eq!(tree.svtree(["try".as_ref(), dir.as_os_str()]).ok(), "worker@1 is 1\n");
}

#[test]
fn a_plan_says_which_instances_come_and_go() {
    let tree = Tree::new();
    tree.service("worker").run(SLEEPER).toml(&several(2)).moved_in();
    let steps = |words: &[&str]| {
        let ran = tree.svtree(words);
        let step = |line: &str| line.split_whitespace().take(2).collect::<Vec<_>>().join(" ");
        (ran.out.lines().map(step).collect::<Vec<_>>(), ran.code)
    };
    assert_eq!(steps(&["plan"]), (vec!["start worker@1".to_owned(), "start worker@2".to_owned()], Some(2)));
    tree.start();
    all_up(&tree, "worker", 2);
    assert_eq!(steps(&["plan"]).1, Some(0));
    tree.ran(["cp", "-a", "services", "next"]).ok();
    for (toml, expected) in [
        (several(3), &["start worker@3"][..]),
        (several(1), &["stop worker@2"]),
        (several(2) + "nice = 1\n", &["change worker@1", "change worker@2"]),
        (several(0), &["reject worker"]),
        (String::new(), &["stop worker@2", "stop worker@1", "start worker"]),
    ] {
        write(&tree.path("next/worker/service.toml"), &toml, 0o644);
        assert_eq!(steps(&["plan", "next"]).0, expected, "{toml}");
    }
    write(&tree.path("next/worker/service.toml"), &several(2), 0o644);
    write(&tree.path("next/worker@2/run"), SLEEPER, 0o755);
    assert_eq!(steps(&["plan", "next"]), (vec!["reject worker@2".to_owned()], Some(111)));
}

#[test]
fn a_prepared_tree_with_another_number_is_applied_and_touches_no_other() {
    let tree = Tree::running();
    tree.service("worker").run(SLEEPER).toml(&several(3)).moved_in();
    let pids = all_up(&tree, "worker", 3);
    tree.ran(["cp", "-a", "services", "next"]).ok();
    write(&tree.path("next/worker/service.toml"), &several(1), 0o644);
    let applied = tree.svtree(["apply", "next"]).ok();
    assert!(applied.contains("stop     worker@2") && applied.contains("stop     worker@3"), "{applied}");
    names("worker", 3)[1..].iter().for_each(|name| tree.goes(name));
    assert_eq!(tree.up("worker@1"), pids[0]);
}

#[test]
fn to_need_the_name_is_to_need_every_instance() {
    let tree = Tree::new();
    // Ready once its notes are there.
    let run = "#!/bin/sh
trap 'exit 0' TERM
until test -e \"$SVTREE_IT/notes/go.$SVTREE_INSTANCE\"; do sleep 0.02; done
echo >&3
while :; do sleep 0.05; done
";
    tree.service("worker").run(run).toml(&(several(2) + "[ready]\nfd = 3\n")).moved_in();
    tree.service("web").run(SLEEPER).toml("needs = ['worker']").moved_in();
    tree.start();
    let waits_for = |name: &str| {
        let state = tree.state("web");
        state["state"] == "waiting" && state["reason"].as_str().is_some_and(|reason| reason.contains(name))
    };
    write(&tree.path("notes/go.1"), "", 0o644);
    tree.becomes("worker@1", "ready");
    eventually("the second to be waited for", || waits_for("needs worker@2"));
    write(&tree.path("notes/go.2"), "", 0o644);
    let web = tree.up("web");
    // One more is needed as well, by the next start of what runs.
    number(&tree, "worker", &(several(3) + "[ready]\nfd = 3\n"));
    tree.becomes("worker@3", "starting");
    assert_eq!(tree.up("web"), web);
    tree.svtree(["kill", "web"]).ok();
    eventually("the third to be waited for", || waits_for("needs worker@3"));
}

#[test]
fn whatever_is_run_for_an_instance_is_told_its_number() {
    let tree = Tree::running();
    let noting =
        |who: &str| format!("#!/bin/sh\necho {who} $SVTREE_MODULE $SVTREE_INSTANCE >> \"$SVTREE_IT/notes/all\"\n");
    let service = tree.service("worker").run(SLEEPER).script("finish", &noting("finish"));
    let service = service.script("control/1", &noting("control")).script("check", &noting("check"));
    let alarm = service.script("page", &noting("alarm"));
    alarm.toml("instances = 2\n[alarm]\ncommand = './page'\n[restart]\ndelay = '10ms'\n").moved_in();
    let pids = all_up(&tree, "worker", 2);
    tree.becomes("worker@2", "ready");
    tree.svtree(["usr1", "worker@2"]).ok();
    signal_pid(pids[1], Signal::KILL);
    for who in ["check", "control", "finish", "alarm"] {
        let line = format!("{who} worker@2 2");
        eventually(&line, || tree.notes("all").contains(&line));
    }
}
