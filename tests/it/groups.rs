//! Section: groups, which are a tree of names.

use std::fs;
use std::time::Duration;

use crate::harness::{
    NOTING, ONE_COPY, SLEEPER, Tree, alive, environment, eventually, remove, replace, stays, write, write_fifo,
};

#[test]
fn the_modules_of_a_group_are_called_by_both_names() {
    let tree = Tree::running();
    tree.service("shop").file("group.toml", "").script("db/run", SLEEPER).script("web/run", SLEEPER).moved_in();
    let pid = tree.up("shop/web");
    tree.up("shop/db");
    assert!(tree.home("shop/web/svcontrol").exists());
    assert!(environment(pid).contains(&"SVTREE_MODULE=shop/web".to_owned()));
    assert!(tree.called("svstat", ["shop/web"]).ok().starts_with(&format!("shop/web: up (pid {pid})")));
    assert!(tree.svtree(["status"]).ok().contains("shop/web"));
    eventually("its name", || tree.state("shop/web")["name"] == "shop/web");
    tree.svtree(["kill", "shop/web"]).ok();
    tree.up_again("shop/web", pid);
}

#[test]
fn groups_stand_in_groups() {
    let tree = Tree::running();
    tree.service("a").file("group.toml", "").file("b/group.toml", "").script("b/c/run", SLEEPER).moved_in();
    tree.up("a/b/c");
}

#[test]
fn a_linked_group_is_a_group() {
    let tree = Tree::running();
    tree.service("shop").file("group.toml", "").script("web/run", SLEEPER).linked_in();
    tree.up("shop/web");
}

#[test]
fn a_module_dropped_into_a_group_starts_at_once() {
    let tree = Tree::new().options(["--log", "none", "--settle", "10m"]);
    tree.start();
    fs::create_dir(tree.entry("first")).expect("mkdir");
    tree.becomes("first", "incomplete");
    tree.service("shop").file("group.toml", "").script("web/run", SLEEPER).moved_in();
    tree.up("shop/web");
    tree.service("shop/db").run(SLEEPER).moved_in();
    tree.up("shop/db");
}

#[test]
fn a_module_removed_from_a_group_is_retired_alone() {
    let tree = Tree::running();
    tree.service("shop").file("group.toml", "").script("db/run", SLEEPER).script("web/run", SLEEPER).moved_in();
    let (db, web) = (tree.up("shop/db"), tree.up("shop/web"));
    remove(&tree.entry("shop/db"));
    tree.goes("shop/db");
    assert!(!alive(db));
    assert_eq!(tree.pid("shop/web"), Some(web));
}

#[test]
fn a_removed_group_is_retired_whole() {
    let tree = Tree::running();
    tree.service("shop").file("group.toml", "").script("db/run", SLEEPER).script("web/run", SLEEPER).moved_in();
    let pids = [tree.up("shop/db"), tree.up("shop/web")];
    tree.move_out("shop");
    tree.goes("shop");
    assert!(!pids.into_iter().any(alive));
}

#[test]
fn a_group_that_loses_group_toml_is_retired() {
    let tree = Tree::running();
    tree.service("shop").file("group.toml", "").script("web/run", SLEEPER).moved_in();
    let pid = tree.up("shop/web");
    fs::remove_file(tree.entry("shop/group.toml")).expect("removed");
    eventually("its module to end", || !alive(pid));
    write(&tree.entry("shop/group.toml"), "", 0o644);
    tree.up_again("shop/web", pid);
}

#[test]
fn a_directory_in_a_module_is_no_module() {
    let tree = Tree::running();
    tree.service("web").run(SLEEPER).script("inner/run", NOTING).moved_in();
    tree.up("web");
    stays(Duration::from_millis(400), "only web", || tree.pid("web/inner").is_none() && tree.notes("web").is_empty());
}

#[test]
fn a_mistake_in_group_toml_is_named_with_its_line() {
    let tree = Tree::running();
    tree.service("shop").file("group.toml", "\nnosuch = 1\n").script("web/run", SLEEPER).moved_in();
    eventually("the mistake", || {
        let told = tree.told("shop");
        told.contains("group.toml") && told.contains("line 2") && told.contains("nosuch")
    });
}

#[test]
fn dot_names_in_a_group_are_passed_over() {
    let tree = Tree::running();
    tree.service("shop").file("group.toml", "").script(".git/run", NOTING).script("web/run", SLEEPER).moved_in();
    tree.up("shop/web");
    stays(Duration::from_millis(300), "only web", || !tree.home("shop/.git").exists());
}

#[test]
fn modules_of_a_group_may_be_called_as_files_of_svtree_are() {
    let tree = Tree::running();
    let names = ["shop/status", "shop/lock", "shop/state.json", "shop/status.displaced.1"];
    let mut shop = tree.service("shop").file("group.toml", "");
    for name in names {
        shop = shop.script(&format!("{}/run", &name["shop/".len()..]), ONE_COPY);
    }
    // They note themselves by their whole names.
    fs::create_dir(tree.path("notes/shop")).expect("mkdir");
    let entry = shop.moved_in();
    let pids = names.map(|name| tree.up(name));
    names.iter().for_each(|name| tree.becomes(name, "up"));
    replace(&entry.join("group.toml"), "bad = 1", 0o644);
    eventually("the mistake", || tree.told("shop").contains("bad"));
    tree.kill_svtree();
    tree.start();
    eventually("the mistake again", || tree.stderr().matches("bad").count() > 1);
    for name in names {
        eventually(format!("{name} to be taken over"), || tree.state(name)["adopted"] == true);
    }
    assert!(pids.into_iter().all(alive));
    tree.kill_svtree();
    replace(&entry.join("group.toml"), "", 0o644);
    tree.start();
    for (name, pid) in names.into_iter().zip(pids) {
        eventually(format!("{name} to be supervised"), || write_fifo(&tree.home(name).join("svcontrol")).is_ok());
        assert_eq!(tree.state(name)["adopted"], true);
        assert_eq!(tree.pid(name), Some(pid));
        assert_eq!(tree.notes(name), [pid.to_string()]);
    }
    assert_eq!(tree.notes("twice"), [""; 0]);
    tree.svtree(["down", "shop/*", "--wait", "15"]).ok();
    assert!(!pids.into_iter().any(alive));
}
