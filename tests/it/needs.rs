//! Section: needs and order, who is started after whom and stopped before.

use std::fs;
use std::time::Duration;

use rustix::process::Signal;

use crate::harness::{SLEEPER, Tree, alive, eventually, remove, signal_pid, stays, write};

/// Says in the notes `order` when it starts, and when it is told to stop; ends after that.
const TELLING: &str = "#!/bin/sh
trap 'echo \"$SVTREE_MODULE stops\" >> \"$SVTREE_IT/notes/order\"; exit 0' TERM
echo \"$SVTREE_MODULE starts\" >> \"$SVTREE_IT/notes/order\"
while :; do sleep 0.05; done
";

/// The same, ready once the notes `go` are there.
const READY_LATER: &str = "#!/bin/sh
trap 'echo \"$SVTREE_MODULE stops\" >> \"$SVTREE_IT/notes/order\"; exit 0' TERM
echo \"$SVTREE_MODULE starts\" >> \"$SVTREE_IT/notes/order\"
until test -e \"$SVTREE_IT/notes/go\"; do sleep 0.02; done
echo >&3
while :; do sleep 0.05; done
";

fn go(tree: &Tree) {
    write(&tree.path("notes/go"), "", 0o644);
}

fn order(tree: &Tree, expected: &[&str]) {
    eventually(format!("the notes say {expected:?}"), || tree.notes("order") == expected);
}

fn reason(tree: &Tree, name: &str) -> String {
    tree.state(name)["reason"].as_str().unwrap_or_default().to_owned()
}

fn waits(tree: &Tree, name: &str, why: &str) {
    eventually(format!("{name} waits: {why}"), || {
        tree.state(name)["state"] == "waiting" && reason(tree, name).contains(why)
    });
}

#[test]
fn what_is_needed_comes_first_and_is_ready_before_the_other_starts() {
    let tree = Tree::new();
    tree.service("web").run(TELLING).toml("needs = ['db']").moved_in();
    tree.service("db").run(READY_LATER).toml("[ready]\nfd = 3").moved_in();
    tree.start();
    tree.becomes("db", "starting");
    waits(&tree, "web", "needs db, which is not ready yet");
    assert!(tree.state("web")["next_start"].is_null());
    assert_eq!(tree.pid("web"), None);
    go(&tree);
    tree.up("web");
    order(&tree, &["db starts", "web starts"]);
    assert_eq!(tree.state("web")["needs"][0], "db");
    assert!(tree.state("web")["reason"].is_null());
}

#[test]
fn at_the_end_everything_stops_before_what_it_needs() {
    let tree = Tree::new();
    tree.service("front").run(TELLING).toml("needs = ['web']").moved_in();
    tree.service("web").run(TELLING).toml("needs = ['db']").moved_in();
    tree.service("db").run(TELLING).moved_in();
    tree.start();
    tree.up("front");
    // Each is started once the one before it was; which of their shells comes first is not svtree's to say.
    eventually("all three to be told", || tree.notes("order").len() == 3);
    assert!(tree.stop().success());
    assert_eq!(tree.notes("order").split_off(3), ["front stops", "web stops", "db stops"]);
}

#[test]
fn a_stop_of_all_takes_no_longer_than_it_may_however_many_wait() {
    let deaf = "#!/bin/sh\ntrap '' TERM\nwhile :; do sleep 1; done\n";
    let tree = Tree::new().options(["--log", "none", "--stop-within", "1s"]);
    tree.service("web").run(deaf).toml("needs = ['db']").moved_in();
    tree.service("db").run(deaf).moved_in();
    tree.start();
    tree.up("web");
    let begun = std::time::Instant::now();
    assert!(tree.stop().success());
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
}

#[test]
fn what_is_missing_failed_or_down_is_said_by_name_and_the_rest_runs() {
    let tree = Tree::running();
    tree.service("lost").run(SLEEPER).toml("needs = ['nobody']").moved_in();
    tree.service("job")
        .run("#!/bin/sh\nexit 3\n")
        .toml("[restart]\nwhen = 'never'\n[ready]\non_exit = true")
        .moved_in();
    tree.service("after-job").run(SLEEPER).toml("needs = ['job']").moved_in();
    tree.service("off").run(SLEEPER).file("down", "").moved_in();
    tree.service("after-off").run(SLEEPER).toml("needs = ['off']").moved_in();
    tree.sleeper("free");
    tree.up("free");
    waits(&tree, "lost", "needs nobody, which is not there");
    waits(&tree, "after-job", "needs job, which has failed");
    waits(&tree, "after-off", "needs off, which is down");
    // And each goes on by itself once that has changed.
    tree.sleeper("nobody");
    tree.up("lost");
    tree.svtree(["up", "off"]).ok();
    tree.up("after-off");
}

#[test]
fn a_circle_is_said_with_its_path_and_the_rest_runs() {
    let tree = Tree::new();
    tree.service("a").run(SLEEPER).toml("needs = ['b']").moved_in();
    tree.service("b").run(SLEEPER).toml("needs = ['c']").moved_in();
    tree.service("c").run(SLEEPER).toml("after = ['a']").moved_in();
    tree.service("d").run(SLEEPER).toml("needs = ['a']").moved_in();
    tree.sleeper("free");
    tree.start();
    tree.up("free");
    waits(&tree, "a", "a needs b, b needs c, c comes after a");
    waits(&tree, "d", "needs a, which waits for itself");
    write(&tree.entry("c/service.toml"), "", 0o644);
    tree.up("d");
    assert!(tree.stop().success());
}

#[test]
fn over_the_border_of_a_group_by_full_name_and_within_it_by_the_short_one() {
    let tree = Tree::new();
    tree.service("shop")
        .file("group.toml", "")
        .script("web/run", TELLING)
        .file("web/service.toml", "needs = ['db', 'infra/net']")
        .script("db/run", TELLING)
        .moved_in();
    tree.service("infra").file("group.toml", "").script("net/run", READY_LATER).moved_in();
    write(&tree.entry("infra/net/service.toml"), "[ready]\nfd = 3\n", 0o644);
    tree.service("db").run(TELLING).file("down", "").moved_in();
    tree.start();
    tree.up("shop/db");
    waits(&tree, "shop/web", "needs infra/net, which is not ready yet");
    go(&tree);
    tree.up("shop/web");
}

#[test]
fn a_group_that_is_needed_is_all_that_is_in_it() {
    let tree = Tree::new();
    tree.service("web").run(SLEEPER).toml("needs = ['base']").moved_in();
    tree.service("base")
        .file("group.toml", "")
        .script("quick/run", SLEEPER)
        .script("slow/run", READY_LATER)
        .file("slow/service.toml", "[ready]\nfd = 3")
        .moved_in();
    tree.start();
    tree.up("base/quick");
    waits(&tree, "web", "needs base/slow");
    go(&tree);
    tree.up("web");
}

#[test]
fn after_is_order_and_no_more() {
    let tree = Tree::new();
    tree.service("web").run(TELLING).toml("after = ['cache', 'nobody']").moved_in();
    tree.service("cache").run(READY_LATER).toml("[ready]\nfd = 3").moved_in();
    tree.service("worker").run(SLEEPER).toml("after = ['broken']").moved_in();
    tree.service("broken").run("#!/bin/sh\nexit 1\n").moved_in();
    tree.start();
    waits(&tree, "web", "comes after cache, which is not ready yet");
    tree.up("worker");
    go(&tree);
    tree.up("web");
    order(&tree, &["cache starts", "web starts"]);
}

#[test]
fn a_start_after_a_death_waits_as_well_and_what_runs_runs_on() {
    let tree = Tree::new();
    tree.service("web").run(SLEEPER).toml("needs = ['db']").moved_in();
    tree.sleeper("db");
    tree.start();
    let web = tree.up("web");
    let db = tree.up("db");
    tree.svtree(["down", "--wait", "20", "db"]).ok();
    assert!(!alive(db));
    stays(Duration::from_millis(300), "web runs", || tree.pid("web") == Some(web));
    signal_pid(web, Signal::KILL);
    waits(&tree, "web", "needs db, which is down");
    tree.svtree(["up", "db"]).ok();
    tree.up_again("web", web);
}

#[test]
fn what_is_held_back_can_be_told_to_stay_down_and_is_retired() {
    let tree = Tree::running();
    tree.service("web").run(SLEEPER).toml("needs = ['nobody']").moved_in();
    waits(&tree, "web", "nobody");
    assert!(tree.called("svstat", [tree.entry("web")]).ok().contains("down"));
    tree.svtree(["down", "--wait", "20", "web"]).ok();
    tree.becomes("web", "down");
    tree.svtree(["up", "web"]).ok();
    waits(&tree, "web", "nobody");
    remove(&tree.entry("web"));
    tree.goes("web");
}

#[test]
fn a_restart_of_what_is_needed_takes_along_who_asks_for_that() {
    let tree = Tree::new();
    tree.service("web").run(SLEEPER).toml("needs = ['db']\nneeds_restart = 'restart'").moved_in();
    tree.service("keeps").run(SLEEPER).toml("needs = ['db']").moved_in();
    tree.sleeper("db");
    tree.start();
    let (web, keeps, db) = (tree.up("web"), tree.up("keeps"), tree.up("db"));
    tree.svtree(["kill", "db"]).ok();
    tree.up_again("db", db);
    let again = tree.up_again("web", web);
    assert_eq!(tree.pid("keeps"), Some(keeps));
    assert_eq!(tree.state("web")["restarts"], 1);
    stays(Duration::from_millis(300), "once", || tree.pid("web") == Some(again));
}

#[test]
fn another_svtree_takes_over_and_nobody_is_started_again_for_it() {
    let tree = Tree::new();
    tree.service("web").run(SLEEPER).toml("needs = ['db']\nneeds_restart = 'restart'").moved_in();
    tree.sleeper("db");
    tree.service("lost").run(SLEEPER).toml("needs = ['nobody']").moved_in();
    tree.start();
    let (web, db) = (tree.up("web"), tree.up("db"));
    waits(&tree, "lost", "nobody");
    for upgrades in [false, true] {
        if upgrades {
            tree.svtree(["upgrade"]).ok();
        } else {
            tree.kill_svtree();
            tree.start();
        }
        eventually("both are told of", || tree.state("web")["state"] == "up" && tree.state("db")["state"] == "up");
        waits(&tree, "lost", "nobody");
        stays(Duration::from_millis(300), "nobody is started again", || {
            tree.pid("web") == Some(web) && tree.pid("db") == Some(db)
        });
    }
    tree.svtree(["kill", "db"]).ok();
    tree.up_again("web", web);
}

#[test]
fn what_is_removed_together_stops_in_order_and_what_stays_runs_on() {
    let tree = Tree::new();
    tree.service("shop")
        .file("group.toml", "")
        .script("web/run", TELLING)
        .file("web/service.toml", "needs = ['db']")
        .script("db/run", TELLING)
        .moved_in();
    tree.service("front").run(TELLING).toml("needs = ['shop']").moved_in();
    tree.start();
    let front = tree.up("front");
    eventually("all have begun", || tree.notes("order").len() == 3);
    tree.move_out("shop");
    tree.goes("shop/db");
    let order = tree.notes("order");
    assert_eq!(order[order.len() - 2..], ["shop/web stops", "shop/db stops"]);
    assert_eq!(tree.pid("front"), Some(front));
}

#[test]
fn an_edit_of_needs_holds_at_once() {
    let tree = Tree::running();
    let entry = tree.service("web").run(SLEEPER).toml("needs = ['nobody']").moved_in();
    waits(&tree, "web", "nobody");
    fs::write(entry.join("service.toml"), "needs = []").expect("an edit");
    tree.up("web");
    assert_eq!(tree.state("web")["changed"], false);
}
