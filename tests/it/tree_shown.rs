//! `svtree tree`: groups and modules drawn as they hang together, out of files, whether svtree runs or not.

use serde_json::Value;

use crate::harness::{SLEEPER, Tree, eventually};

/// A database, and a group of two that need it, of which one has a logger.
fn shop() -> Tree {
    let tree = Tree::new();
    tree.sleeper("db");
    tree.service("shop")
        .file(
            "group.toml",
            "strategy = \"rest_for_one\"\nintensity = 5\norder = [\"web\", \"api\"]\nneeds = [\"db\"]\n",
        )
        .script("api/run", SLEEPER)
        .file("api/service.toml", "needs = [\"web\"]\nafter = [\"mail\"]\n")
        .script("web/run", SLEEPER)
        .script("web/log/run", "#!/bin/sh\nexec cat > /dev/null\n")
        .moved_in();
    tree.service("job").run(SLEEPER).file("down", "").moved_in();
    tree.start();
    for name in ["db", "shop/web", "shop/web/log", "shop/api"] {
        tree.up(name);
    }
    tree.becomes("job", "down");
    tree
}

fn drawn(tree: &Tree) -> Vec<String> {
    tree.svtree(["tree"]).ok().lines().map(str::to_owned).collect()
}

#[test]
fn groups_are_drawn_with_strategy_and_budget_and_modules_with_state_and_needs() {
    let tree = shop();
    let pid = tree.pid_of_svtree();
    let expected = [
        format!("{}  svtree, pid {pid}", tree.path("services").display()),
        "├── db          up".to_owned(),
        "├── job         down  normally down".to_owned(),
        "└── shop        up    rest_for_one, 0 of 5 restarts in 60 s used, on failure stop, needs db".to_owned(),
        "    ├── web     up".to_owned(),
        "    │   └── log  up".to_owned(),
        "    └── api     up    needs web, after mail (not there)".to_owned(),
    ];
    // The root is the widest, so the columns are not compared.
    let words = |lines: &[String]| -> Vec<String> {
        lines.iter().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
    };
    eventually("the group to be up", || words(&drawn(&tree)) == words(&expected));
    let branches = |line: &String| line.chars().take_while(|letter| "├└│─ ".contains(*letter)).collect::<String>();
    assert_eq!(
        drawn(&tree).iter().map(branches).collect::<Vec<_>>(),
        ["", "├── ", "├── ", "└── ", "    ├── ", "    │   └── ", "    └── "]
    );
}

#[test]
fn a_restart_that_counts_is_told_and_what_waits_says_for_what() {
    let tree = shop();
    tree.svtree(["kill", "shop/web"]).ok();
    eventually("a restart that counts", || {
        drawn(&tree).iter().any(|line| line.contains("1 of 5 restarts in 60 s used"))
    });
    tree.up("shop/api");
    tree.service("late").run(SLEEPER).toml("needs = [\"nosuch\"]\n").moved_in();
    eventually("it to wait", || {
        drawn(&tree).iter().any(|line| line.contains("late") && line.contains("waiting  needs nosuch (not there)"))
    });
}

#[test]
fn as_json_it_is_nested_with_full_names() {
    let tree = shop();
    let read = || -> Value { serde_json::from_str(&tree.svtree(["tree", "--json"]).ok()).expect("JSON") };
    eventually("the group to be up", || read()[2]["state"] == "up");
    let all = read();
    assert_eq!((&all[0]["name"], &all[0]["kind"]), (&Value::from("db"), &Value::from("module")));
    let shop = &all[2];
    assert_eq!((&shop["kind"], &shop["strategy"]), (&Value::from("group"), &Value::from("rest_for_one")));
    assert_eq!(shop["budget"], serde_json::json!({"used": 0, "intensity": 5, "period": 60.0}));
    assert_eq!(shop["members"][0]["members"][0]["name"], "shop/web/log");
    assert_eq!(shop["members"][1]["needs"], serde_json::json!(["db", "shop/web"]));
}

#[test]
fn without_svtree_it_says_so_and_draws_what_was_left() {
    let tree = Tree::running();
    tree.sleeper("web");
    let pid = tree.up("web");
    tree.kill_svtree();
    let lines = drawn(&tree);
    assert!(lines[0].ends_with("  no svtree runs"), "{lines:?}");
    assert!(lines[1].contains("unsupervised  supervise not running, last known: up"), "{lines:?}");
    assert!(lines[1].contains(&pid.to_string()), "{lines:?}");
    let line = tree.svtree(["tree", "--status", "nosuch"]).failed(111);
    assert!(line.contains("nosuch: no such directory: nothing runs from here"), "{line}");
}
