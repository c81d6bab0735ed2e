//! `svtree enable` and `disable`: for good, by the file `down`; what runs is touched only with `--now`.

use std::fs;
use std::os::unix::fs::symlink;
use std::time::Duration;

use crate::harness::{NOTING, SLEEPER, Tree, alive, eventually, stays, write};

const SOON: Duration = Duration::from_millis(400);

#[test]
fn a_module_that_is_disabled_is_not_started_by_the_next_svtree_and_one_that_is_enabled_is() {
    let tree = Tree::new();
    tree.sleeper("web");
    tree.service("job").run(SLEEPER).file("down", "").moved_in();
    // Nothing runs yet.
    tree.svtree(["disable", "web"]).ok();
    tree.svtree(["enable", "job"]).ok();
    assert!(tree.entry("web/down").is_file() && !tree.entry("job/down").exists());
    tree.start();
    tree.up("job");
    tree.becomes("web", "down");
    assert_eq!(tree.state("web")["enabled"], false);
}

#[test]
fn what_runs_stays_and_only_what_is_normal_changes() {
    let tree = Tree::running();
    tree.sleeper("web");
    tree.service("job").run(NOTING).file("down", "").moved_in();
    let pid = tree.up("web");
    tree.becomes("job", "down");
    tree.svtree(["disable", "web"]).ok();
    tree.svtree(["enable", "job"]).ok();
    eventually("web to be normally down", || tree.state("web")["enabled"] == false);
    eventually("job to be normally up", || tree.state("job")["enabled"] == true);
    assert!(tree.called("svstat", ["web"]).ok().ends_with(", normally down\n"));
    assert!(tree.called("svstat", ["job"]).ok().ends_with(", normally up\n"));
    stays(SOON, "neither starts nor stops", || tree.notes("job").is_empty() && alive(pid));
    // For now and for good are two things.
    tree.svtree(["down", "web", "--wait", "10"]).ok();
    tree.svtree(["enable", "web"]).ok();
    stays(SOON, "web is down", || tree.pid("web").is_none());
}

#[test]
fn with_now_they_start_and_stop_as_well_and_wait() {
    let tree = Tree::running();
    tree.service("job").run(SLEEPER).file("down", "").moved_in();
    tree.becomes("job", "down");
    tree.svtree(["enable", "--now", "--wait", "10", "job"]).ok();
    let pid = tree.up("job");
    tree.svtree(["disable", "--now", "job", "--wait", "10"]).ok();
    assert!(!alive(pid) && tree.entry("job/down").is_file());
    tree.svtree(["enable", "--wait", "1", "job"]).failed(100);
}

#[test]
fn with_now_and_nothing_running_it_is_done_for_good_and_says_so_of_the_rest() {
    let tree = Tree::new();
    tree.service("job").run(SLEEPER).file("down", "").moved_in();
    let line = tree.svtree(["enable", "--now", "job"]).failed(111);
    assert_eq!(line, "svtree: up job: supervise not running\n");
    assert!(!tree.entry("job/down").exists());
}

#[test]
fn asking_again_changes_nothing() {
    let tree = Tree::new();
    let entry = tree.sleeper("web");
    tree.svtree(["enable", "web"]).ok();
    tree.svtree(["disable", "web"]).ok();
    write(&entry.join("down"), "because", 0o644);
    tree.svtree(["disable", "web"]).ok();
    assert_eq!(fs::read_to_string(entry.join("down")).expect("a file"), "because");
}

#[test]
fn what_service_toml_says_is_not_overridden_and_the_line_is_named() {
    let tree = Tree::new();
    tree.service("web").run(SLEEPER).toml("umask = \"022\"\n  enabled  =  false\n").file("down", "").moved_in();
    tree.sleeper("other");
    tree.svtree(["disable", "other"]).ok();
    let ran = tree.svtree(["enable", "web", "other"]);
    assert_eq!(ran.code, Some(111));
    let line = format!(
        "svtree: enable web: {}: line 2, column 15: enabled = false keeps it down; remove that\n",
        tree.entry("web/service.toml").display()
    );
    assert_eq!(ran.err, line);
    assert!(tree.entry("web/down").exists(), "nothing was done by half");
    assert!(!tree.entry("other/down").exists(), "the others are done");
    tree.svtree(["disable", "web"]).ok();
}

#[test]
fn groups_patterns_paths_and_links_mean_their_modules() {
    let tree = Tree::new();
    tree.service("shop")
        .file("group.toml", "")
        .script("db/run", SLEEPER)
        .script("db/log/run", SLEEPER)
        .script("web/run", SLEEPER)
        .moved_in();
    let linked = tree.service("far").run(SLEEPER).linked_in();
    tree.svtree(["disable", "shop"]).ok();
    let down = |name: &str| tree.entry(name).join("down").exists();
    assert!(down("shop/db") && down("shop/web") && !down("shop") && !down("shop/db/log"));
    tree.svtree(["enable", "shop/d*", "services/shop/web"]).ok();
    assert!(!down("shop/db") && !down("shop/web"));
    tree.svtree(["disable", "shop/db/log", linked.to_str().expect("UTF-8")]).ok();
    assert!(down("shop/db/log") && linked.join("down").exists());
}

#[test]
fn what_is_no_module_is_said_and_nothing_outside_is_touched() {
    let tree = Tree::new();
    tree.sleeper("web");
    let outside = tree.service("outside").run(SLEEPER).dir();
    fs::create_dir(tree.entry("unfinished")).expect("a directory");
    for (name, says) in [
        ("wbe", "did you mean `web`?"),
        ("unfinished", "incomplete: it holds no run and no service.toml"),
        ("../elsewhere", "no such module in"),
        (outside.to_str().expect("UTF-8"), "no such module in"),
        ("nothing*", "no module matches"),
    ] {
        let line = tree.svtree(["disable", name]).failed(111);
        assert!(line.contains(says), "{line}");
    }
    assert!(!outside.join("down").exists());
    fs::remove_dir_all(tree.path("services")).expect("removed");
    assert!(tree.svtree(["enable", "web"]).failed(111).contains("services: No such file or directory"));
}

#[test]
fn what_cannot_be_made_or_removed_is_named() {
    let tree = Tree::new();
    let entry = tree.sleeper("web");
    fs::create_dir(entry.join("down")).expect("a directory");
    let line = tree.svtree(["enable", "web"]).failed(111);
    assert!(line.contains("web/down: Is a directory"), "{line}");
    fs::remove_dir(entry.join("down")).expect("removed");
    symlink("nowhere", entry.join("down")).expect("a link");
    assert!(tree.svtree(["disable", "web"]).failed(111).contains("web/down: a link to nothing; remove it"));
    tree.svtree(["enable", "web"]).ok();
    assert!(entry.join("down").symlink_metadata().is_err());
}
