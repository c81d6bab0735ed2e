//! `svtree why`: the chain of causes in sentences, out of files, whether svtree runs or not.

use std::fs::{self, File};

use serde_json::Value;

use crate::harness::{NOTING, SLEEPER, Tree, eventually, write};

fn why(tree: &Tree, name: &str) -> String {
    tree.svtree(["why", name]).ok()
}

#[test]
fn what_runs_is_up_as_it_normally_is() {
    let tree = Tree::running();
    tree.sleeper("web");
    let pid = tree.up("web");
    let said = why(&tree, "web");
    assert!(said.starts_with(&format!("web is up, pid {pid}, for ")), "{said}");
    assert!(said.ends_with("It is wanted up, as it normally is.\n"), "{said}");
}

#[test]
fn who_asked_for_it_to_be_down_is_told_by_letter_file_or_line() {
    let tree = Tree::running();
    tree.sleeper("letter");
    tree.service("file").run(SLEEPER).file("down", "").moved_in();
    tree.service("line").run(SLEEPER).toml("umask = \"022\"\nenabled = false\n").moved_in();
    tree.up("letter");
    tree.svtree(["down", "letter", "--wait", "10"]).ok();
    eventually("the letter to be logged", || {
        why(&tree, "letter").contains("It is wanted down: somebody sent `d` at 2")
    });
    tree.becomes("file", "down");
    let down = tree.entry("file/down");
    assert!(why(&tree, "file").contains(&format!("as it normally is: there is {}.", down.display())));
    tree.becomes("line", "down");
    let line = format!("{}: line 2, column 11: enabled = false.", tree.entry("line/service.toml").display());
    assert!(why(&tree, "line").contains(&line), "{}", why(&tree, "line"));
    tree.svtree(["up", "file", "--wait", "10"]).ok();
    eventually("the letter to be logged", || {
        why(&tree, "file").contains("It is wanted up, though it is normally down: somebody sent `u` at 2")
    });
}

#[test]
fn what_was_given_up_says_why_and_what_it_said_last() {
    let tree = Tree::new().options(["--log", "file"]);
    let run = "#!/bin/sh\necho no database here\nexit 3\n";
    tree.service("web").run(run).toml("[restart]\nmax_tries = 1\ndelay = \"10ms\"\n").moved_in();
    tree.start();
    tree.becomes("web", "failed");
    eventually("its last lines", || why(&tree, "web").contains("  | no database here\n"));
    let said = why(&tree, "web");
    assert!(said.starts_with("web was given up: "), "{said}");
    assert!(said.contains("; `svtree up web` begins anew.\n"), "{said}");
    assert!(said.contains("It has ended 2 times; the last time: pid "), "{said}");
    assert!(said.contains("exited 3 after 0."), "{said}");
}

#[test]
fn the_chain_of_what_is_waited_for_is_told_down_to_its_end() {
    let tree = Tree::running();
    tree.service("db").run("#!/bin/sh\nexit 1\n").toml("[restart]\nmax_tries = 1\ndelay = \"10ms\"\n").moved_in();
    tree.becomes("db", "failed");
    tree.service("api").run(SLEEPER).toml("needs = [\"db\"]\n").moved_in();
    tree.service("web").run(SLEEPER).toml("needs = [\"api\", \"nosuch\"]\n").moved_in();
    tree.becomes("web", "waiting");
    tree.becomes("api", "waiting");
    let said = why(&tree, "web");
    let at = |text: &str| said.find(text).unwrap_or_else(|| panic!("{text}: {said}"));
    assert!(at("web is down, and waits: ") < at("It needs api, which is not ready.\n"));
    assert!(at("It needs nosuch, and there is no such module.\n") < at("\n  api is down, and waits: "));
    assert!(at("\n  It needs db, which is not ready.\n") < at("\n    db was given up: "));
    let json: Value = serde_json::from_str(&tree.svtree(["why", "--json", "web"]).ok()).expect("JSON");
    assert_eq!(json[0]["because"][0]["because"][0]["name"], "db");
    assert_eq!(json[0]["because"][0]["because"][0]["state"], "failed");
    assert!(json[0]["says"][0].as_str().is_some_and(|says| says.starts_with("web is down")));
}

#[test]
fn an_edit_that_was_rejected_and_one_that_waits_for_a_start_are_told() {
    let tree = Tree::running();
    let entry = tree.sleeper("web");
    tree.up("web");
    write(&entry.join("run"), "#!/bin/sh\nexec sleep 999\n", 0o755);
    eventually("the edit", || why(&tree, "web").contains("Its files were edited since it was started"));
    write(&entry.join("service.toml"), "comand = \"x\"\n", 0o644);
    let line = "An edit of it was rejected: service.toml: line 1, column 1: unknown key";
    eventually("the mistake", || why(&tree, "web").contains(line));
}

#[test]
fn what_it_asks_for_and_cannot_have_is_said_once_and_is_no_edit() {
    let tree = Tree::running();
    tree.service("web").run(NOTING).toml("user = \"nosuchuser\"").moved_in();
    tree.becomes("web", "waiting");
    let said = why(&tree, "web");
    assert!(said.matches("nosuchuser").count() == 1 && !said.contains("edit"), "{said}");
}

#[test]
fn without_svtree_it_says_whether_the_program_runs_on() {
    let tree = Tree::running();
    tree.sleeper("web");
    let pid = tree.up("web");
    tree.kill_svtree();
    let said = why(&tree, "web");
    let first = format!("web is supervised by nobody, since no svtree runs; its program, pid {pid}, runs on.\n");
    assert!(said.starts_with(&first), "{said}");
    tree.start();
    eventually("it to be taken over", || why(&tree, "web").starts_with(&format!("web is up, pid {pid}, for ")));
}

#[test]
fn who_holds_the_lock_is_named_and_what_has_left_has_left() {
    let tree = Tree::running();
    tree.service("web").run(NOTING).moved_in();
    tree.up("web");
    tree.letter("web", "dx");
    eventually("it to have left", || why(&tree, "web").starts_with("web is supervised by nobody: it has left by `x`"));
    let lock = File::open(tree.home("web/lock")).expect("the lock");
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).expect("held");
    let holder = format!("web cannot be supervised by svtree: pid {} holds its lock.\n", std::process::id());
    let said = why(&tree, "web");
    assert!(said.starts_with(&holder), "{said}");
}

#[test]
fn of_a_group_it_is_told_first_how_it_is_itself() {
    let tree = Tree::running();
    tree.service("shop")
        .file("group.toml", "strategy = \"one_for_all\"\nintensity = 5\n")
        .script("db/run", SLEEPER)
        .script("web/run", SLEEPER)
        .moved_in();
    tree.up("shop/db");
    tree.up("shop/web");
    let strategy = "It is one_for_all; with more than 5 restarts in 60 s it fails, and on_failure is stop.\n";
    let all = format!("shop is up.\n{strategy}All in it that are wanted up are ready.\n");
    eventually("the group to be up", || why(&tree, "shop").starts_with(&all));
    tree.service("bare").file("group.toml", "").script("one/run", SLEEPER).moved_in();
    tree.up("bare/one");
    assert!(why(&tree, "bare").starts_with("bare is a group that asks for nothing.\n"));
}

#[test]
fn what_is_no_module_is_said() {
    let tree = Tree::running();
    tree.sleeper("web");
    tree.up("web");
    fs::create_dir(tree.entry("unfinished")).expect("a directory");
    tree.becomes("unfinished", "incomplete");
    assert_eq!(why(&tree, "unfinished"), "unfinished is no module yet: it holds no run and no service.toml.\n");
    assert!(tree.svtree(["why", "wbe"]).failed(111).contains("did you mean `web`?"));
    assert_eq!(tree.svtree(["why"]).code, Some(100));
}

#[test]
fn a_group_is_all_that_is_in_it() {
    let tree = Tree::running();
    tree.service("shop").file("group.toml", "").script("db/run", SLEEPER).script("web/run", SLEEPER).moved_in();
    tree.up("shop/db");
    tree.up("shop/web");
    let said = why(&tree, "shop");
    assert!(said.contains("shop/db is up, pid ") && said.contains("\nshop/web is up, pid "), "{said}");
}
