//! `svtree plan`: what would happen if a prepared tree, or the services directory as it stands, were in force.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::harness::{Ran, SLEEPER, Tree, alive, eventually, write};

/// A prepared tree that is a copy of the services directory.
fn prepared(tree: &Tree) -> PathBuf {
    let dir = tree.path("prepared");
    let services = tree.path("services");
    tree.ran(["cp".as_ref(), "-a".as_ref(), services.as_os_str(), dir.as_os_str()]).ok();
    dir
}

fn plan(tree: &Tree, dir: &Path) -> Ran {
    tree.svtree(["plan".as_ref(), dir.as_os_str()])
}

/// `ACTION NAME` of each line, and the exit code.
fn steps(ran: &Ran) -> (Vec<String>, Option<i32>) {
    assert_eq!(ran.err, "");
    let step = |line: &str| line.split_whitespace().take(2).collect::<Vec<_>>().join(" ");
    (ran.out.lines().map(step).collect(), ran.code)
}

#[test]
fn without_a_running_svtree_everything_would_start_that_is_not_normally_down() {
    let tree = Tree::new();
    tree.sleeper("web");
    tree.service("db").run(SLEEPER).script("log/run", SLEEPER).moved_in();
    tree.service("job").run(SLEEPER).file("down", "").moved_in();
    fs::create_dir(tree.entry("unfinished")).expect("a directory");
    let ran = tree.svtree(["plan"]);
    assert_eq!(steps(&ran).0, ["start db/log", "start db", "add job", "start web"], "{}", ran.out);
    assert_eq!(ran.code, Some(2));
    assert!(ran.out.contains("svtree does not run; the next one starts it"), "{}", ran.out);
}

#[test]
fn what_runs_as_it_stands_has_nothing_to_do() {
    let tree = Tree::running();
    tree.sleeper("web");
    tree.service("job").run(SLEEPER).file("down", "").moved_in();
    tree.up("web");
    tree.becomes("job", "down");
    write(&tree.entry("web/data.db"), "of the program", 0o644);
    for ran in [tree.svtree(["plan"]), plan(&tree, &prepared(&tree))] {
        assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (Some(0), "nothing to do\n", ""));
    }
    assert_eq!(tree.svtree(["plan", "--json"]).ok(), "[\n]\n");
}

#[test]
fn a_prepared_tree_is_compared_module_by_module_and_nothing_is_touched() {
    let tree = Tree::running();
    for name in ["same", "edited", "goes", "moves"] {
        tree.sleeper(name);
        tree.up(name);
    }
    tree.service("rests").run(SLEEPER).file("down", "").moved_in();
    tree.becomes("rests", "down");
    let pids = ["same", "edited", "goes", "moves"].map(|name| tree.up(name));
    let dir = prepared(&tree);
    write(&dir.join("edited/run"), "#!/bin/sh\nexec sleep 999\n", 0o755);
    write(&dir.join("edited/conf/extra"), "x", 0o644);
    for gone in ["goes", "rests"] {
        fs::remove_dir_all(dir.join(gone)).expect("removed");
    }
    fs::rename(dir.join("moves"), tree.path("elsewhere/moves")).expect("moved");
    symlink(tree.path("elsewhere/moves"), dir.join("moves")).expect("a link");
    write(&dir.join("new/run"), SLEEPER, 0o755);
    write(&dir.join("new/down"), "", 0o644);
    let ran = plan(&tree, &dir);
    let expected = ["remove rests", "stop goes", "change edited", "restart moves", "add new"];
    let (mut found, code) = steps(&ran);
    found[..2].sort();
    assert_eq!((found, code), (expected.map(str::to_owned).into(), Some(2)), "{}", ran.out);
    assert!(ran.out.contains("conf, conf/extra, run: what is new holds from its next start on\n"), "{}", ran.out);

    let json = tree.svtree(["plan".as_ref(), "--json".as_ref(), dir.as_os_str()]);
    assert_eq!(json.code, Some(2));
    let value: Value = serde_json::from_str(&json.out).expect("JSON");
    let edited = value.as_array().expect("an array").iter().find(|step| step["name"] == "edited").expect("a step");
    assert_eq!(edited["action"], "change");
    assert_eq!(edited["files"], serde_json::json!(["conf", "conf/extra", "run"]));
    assert_eq!(["same", "edited", "goes", "moves"].map(|name| tree.up(name)), pids);
}

#[test]
fn a_mistake_is_rejected_with_its_place_and_what_runs_of_it_stays() {
    let tree = Tree::running();
    tree.sleeper("web");
    let pid = tree.up("web");
    let dir = prepared(&tree);
    write(&dir.join("web/service.toml"), "umask = \"022\"\ncomand = \"x\"\n", 0o644);
    write(&dir.join("late/run"), SLEEPER, 0o644);
    write(&dir.join("shop/group.toml"), "nosuch = 1\n", 0o644);
    write(&dir.join("other/run"), "#!/nosuch/interpreter\n", 0o755);
    let ran = plan(&tree, &dir);
    assert_eq!(ran.code, Some(111));
    let rejected = steps(&ran).0;
    for name in ["web", "late", "shop", "other"] {
        assert!(rejected.contains(&format!("reject {name}")), "{}", ran.out);
    }
    for says in [
        "web: service.toml: line 2, column 1: unknown key `comand`, did you mean `command`?",
        "late: incomplete: run is not executable",
        "shop: group.toml: line 1, column 1: unknown key `nosuch`",
        "its interpreter /nosuch/interpreter is not there",
    ] {
        assert!(ran.out.contains(says), "{says}: {}", ran.out);
    }
    assert!(!rejected.iter().any(|step| step.starts_with("stop")) && alive(pid));
    // The same where the services directory itself has it.
    write(&tree.entry("web/service.toml"), "comand = \"x\"\n", 0o644);
    assert_eq!(steps(&tree.svtree(["plan"])), (vec!["reject web".to_owned()], Some(111)));
}

#[test]
fn an_edit_in_place_is_shown_until_it_is_in_force() {
    let tree = Tree::running();
    tree.sleeper("web");
    tree.up("web");
    write(&tree.entry("web/run"), "#!/bin/sh\nexec sleep 999\n", 0o755);
    eventually("it to be changed", || tree.state("web")["changed"] == true);
    assert_eq!(steps(&tree.svtree(["plan"])), (vec!["change web".to_owned()], Some(2)));
    tree.svtree(["restart", "web", "--wait", "10"]).ok();
    assert_eq!(tree.svtree(["plan"]).ok(), "nothing to do\n");
}

#[test]
fn what_reload_has_hold_at_once_is_told_from_what_takes_a_start() {
    let tree = Tree::running();
    tree.service("web").run(SLEEPER).toml("umask = \"022\"\n").moved_in();
    tree.up("web");
    let dir = prepared(&tree);
    write(&dir.join("web/service.toml"), "umask = \"022\"\n[restart]\ndelay = \"3s\"\n", 0o644);
    assert!(plan(&tree, &dir).out.contains("service.toml: what is new holds from its next start on, or at once with"));
    write(&dir.join("web/service.toml"), "umask = \"027\"\n", 0o644);
    assert!(plan(&tree, &dir).out.ends_with("service.toml: what is new holds from its next start on\n"));
}

#[test]
fn what_was_told_to_be_down_or_has_left_stays_so() {
    let tree = Tree::running();
    for name in ["told", "left"] {
        tree.sleeper(name);
        tree.up(name);
    }
    tree.svtree(["down", "told", "--wait", "10"]).ok();
    tree.letter("left", "dx");
    tree.becomes("left", "down");
    eventually("it to have left", || tree.called("svok", ["left"]).code == Some(100));
    assert_eq!(tree.svtree(["plan"]).ok(), "nothing to do\n");
}

#[test]
fn what_runs_on_without_svtree_is_not_started_again() {
    let tree = Tree::running();
    for name in ["web", "rests", "ends"] {
        tree.sleeper(name);
    }
    let (web, ends) = (tree.up("web"), tree.up("ends"));
    tree.up("rests");
    tree.svtree(["down", "rests", "--wait", "10"]).ok();
    tree.kill_svtree();
    crate::harness::signal_pid(ends, rustix::process::Signal::KILL);
    eventually("it to end", || !alive(ends));
    let ran = tree.svtree(["plan"]);
    assert_eq!(steps(&ran), (vec!["start ends".to_owned()], Some(2)), "{}", ran.out);
    assert!(alive(web));
    tree.start();
    tree.up_again("ends", ends);
}

#[test]
fn groups_and_links_to_the_same_are_the_same() {
    let tree = Tree::running();
    tree.service("shop").file("group.toml", "").script("web/run", SLEEPER).script("web/log/run", SLEEPER).moved_in();
    tree.service("far").run(SLEEPER).linked_in();
    for name in ["shop/web", "shop/web/log", "far"] {
        tree.up(name);
    }
    let dir = prepared(&tree);
    assert_eq!(plan(&tree, &dir).ok(), "nothing to do\n");
    write(&dir.join("shop/web/log/run"), "#!/bin/sh\nexec cat\n", 0o755);
    assert_eq!(steps(&plan(&tree, &dir)).0, ["change shop/web/log"]);
    fs::remove_file(dir.join("shop/group.toml")).expect("removed");
    let (found, _) = steps(&plan(&tree, &dir));
    assert!(found.contains(&"stop shop/web".to_owned()), "{found:?}");
}

#[test]
fn instances_are_modules_of_their_own_and_another_number_starts_or_stops_the_last_ones() {
    let tree = Tree::running();
    let toml = |number: u32| format!("instances = {number}\n");
    tree.service("job").run(SLEEPER).script("log/run", "#!/bin/sh\nexec cat > /dev/null\n").toml(&toml(2)).moved_in();
    let all = ["job@1", "job@2", "job@1/log", "job@2/log"];
    let pids = all.map(|name| tree.up(name));
    let dir = prepared(&tree);
    assert_eq!(plan(&tree, &dir).ok(), "nothing to do\n");
    assert_eq!(tree.svtree(["plan"]).ok(), "nothing to do\n");
    write(&dir.join("job/service.toml"), &toml(3), 0o644);
    let ran = tree.svtree(["apply".as_ref(), dir.as_os_str()]);
    let changes = ["start job@3/log", "start job@3"];
    assert_eq!(steps(&ran), (changes.map(str::to_owned).into(), Some(0)), "{}", ran.out);
    tree.up("job@3");
    write(&dir.join("job/service.toml"), &toml(1), 0o644);
    let found = steps(&plan(&tree, &dir)).0;
    let stops = ["stop job@3", "stop job@2", "stop job@3/log", "stop job@2/log"];
    assert!(stops.iter().all(|stop| found.contains(&(*stop).to_owned())) && found.len() == 4, "{found:?}");
    write(&dir.join("job/service.toml"), "nosuch = 1\n", 0o644);
    assert_eq!(steps(&plan(&tree, &dir)), (vec!["reject job".to_owned()], Some(111)));
    write(&dir.join("job/service.toml"), &toml(2), 0o644);
    write(&dir.join("job@2/run"), SLEEPER, 0o755);
    assert!(plan(&tree, &dir).out.contains("job@2 is an instance: give it another name"));
    assert_eq!(all.map(|name| tree.up(name)), pids);
}

#[test]
fn what_needs_others_starts_after_them_and_stops_before_them() {
    let tree = Tree::new();
    tree.service("api").run(SLEEPER).toml("needs = [\"db\"]\n").moved_in();
    tree.service("web").run(SLEEPER).toml("needs = [\"api\"]\n").script("log/run", SLEEPER).moved_in();
    tree.sleeper("db");
    let ran = tree.svtree(["plan"]);
    let starts = ["db", "api", "web/log", "web"].map(|name| format!("start {name}"));
    assert_eq!(steps(&ran), (starts.into(), Some(2)), "{}", ran.out);
    tree.start();
    for name in ["db", "api", "web/log", "web"] {
        tree.up(name);
    }
    fs::create_dir(tree.path("nothing")).expect("a directory");
    let ran = plan(&tree, &tree.path("nothing"));
    let stops = ["web", "web/log", "api", "db"].map(|name| format!("stop {name}"));
    assert_eq!(steps(&ran), (stops.into(), Some(2)), "{}", ran.out);
}

#[test]
fn a_need_that_is_missing_and_a_circle_are_rejected_with_their_lines() {
    let tree = Tree::new();
    tree.service("web").run(SLEEPER).toml("umask = \"022\"\nneeds = [\"nosuch\"]\n").moved_in();
    tree.service("egg").run(SLEEPER).toml("needs = [\"hen\"]\n").moved_in();
    tree.service("hen").run(SLEEPER).toml("needs = [\"egg\"]\n").moved_in();
    let ran = tree.svtree(["plan"]);
    assert_eq!(ran.code, Some(111));
    assert!(ran.out.contains("web: service.toml: line 2, column 9: needs: nosuch: no such module\n"), "{}", ran.out);
    assert!(ran.out.contains("it waits for itself: egg needs hen, hen needs egg\n"), "{}", ran.out);
}

#[test]
fn what_is_no_tree_is_said() {
    let tree = Tree::new();
    assert!(tree.svtree(["plan", "nosuch"]).failed(111).starts_with("svtree: plan: nosuch: No such file"));
    write(&tree.path("elsewhere/file"), "", 0o644);
    assert!(tree.svtree(["plan", "elsewhere/file"]).failed(111).contains("Not a directory"));
    tree.svtree(["plan", "a", "b"]).failed(100);
}
