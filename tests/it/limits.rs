//! Section: `[limits]`: how much of the machine a program may take.

use std::path::Path;

use crate::harness::{NOTING, SLEEPER, Tree, arguments, eventually, is_root, process_field, skip, text, wait_for};

/// Waits until the program is `sleep`, and no longer the shell of a script.
fn sleeping(tree: &Tree, name: &str) -> i32 {
    wait_for(format!("{name} to sleep"), || {
        tree.pid(name).filter(|pid| arguments(*pid).first().is_some_and(|program| program == "sleep"))
    })
}

/// The soft and the hard limit of this name, in the kernel's own words.
fn limit(pid: i32, name: &str) -> Vec<String> {
    let limits = text(Path::new(&format!("/proc/{pid}/limits")));
    let line = limits.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    line.split_whitespace().take(2).map(str::to_owned).collect()
}

#[test]
fn every_limit_is_soft_and_hard() {
    let tree = Tree::running();
    let toml = "[limits]\nopen_files = 200\ncore = 0\nprocesses = 1000\nstack = '1MiB'\naddress_space = '1GiB'\n\
                locked_memory = 4096\nfile_size = '64MiB'\ncpu_time = '90s'";
    tree.service("web").run(SLEEPER).toml(toml).moved_in();
    let pid = sleeping(&tree, "web");
    for (name, value) in [
        ("Max open files", "200"),
        ("Max core file size", "0"),
        ("Max processes", "1000"),
        ("Max stack size", "1048576"),
        ("Max address space", "1073741824"),
        ("Max locked memory", "4096"),
        ("Max file size", "67108864"),
        ("Max cpu time", "90"),
    ] {
        assert_eq!(limit(pid, name), [value, value], "{name}");
    }
    // Nobody else has them, svtree least of all.
    assert_ne!(limit(tree.pid_of_svtree(), "Max file size"), ["67108864"; 2]);
    tree.sleeper("other");
    assert_ne!(limit(sleeping(&tree, "other"), "Max file size"), ["67108864"; 2]);
}

#[test]
fn without_a_limit_is_a_limit_too() {
    let tree = Tree::new();
    if tree.ran(["sh", "-c", "ulimit -c 0; ulimit -c unlimited"]).code != Some(0) {
        return skip("nobody here may raise a hard limit");
    }
    let tree = tree.through(["sh", "-c", "ulimit -c 0; ulimit -f 1000000; exec \"$0\" \"$@\""]);
    tree.start();
    tree.service("web").run(SLEEPER).toml("[limits]\ncore = 'unlimited'\nfile_size = 'infinity'").moved_in();
    let pid = sleeping(&tree, "web");
    for name in ["Max core file size", "Max file size"] {
        assert_eq!(limit(pid, name), ["unlimited"; 2], "{name}");
    }
}

#[test]
fn a_limit_holds() {
    let tree = Tree::running();
    let files =
        "#!/bin/sh\nfor n in 10 20 30 40 50 60 70; do eval \"exec $n< /dev/null\" || exit 3; done\nexec sleep 1000\n";
    tree.service("files").run(files).toml("restart = { when = 'never' }\n[limits]\nopen_files = 50").moved_in();
    let size = "#!/bin/sh\nexec head -c 100000 /dev/zero > big\n";
    tree.service("size").run(size).toml("restart = { when = 'never' }\n[limits]\nfile_size = 4096").moved_in();
    let time = "#!/bin/sh\nwhile :; do :; done\n";
    tree.service("time").run(time).toml("restart = { when = 'never' }\n[limits]\ncpu_time = '1s'").moved_in();
    for name in ["files", "size", "time"] {
        tree.becomes(name, "failed");
    }
    let exit = |name: &str| tree.state(name)["exits"][0].clone();
    assert_ne!(exit("files")["code"], 0);
    assert_eq!(exit("size")["signal"], 25, "SIGXFSZ");
    assert!([9, 24].map(Into::into).contains(&exit("time")["signal"]), "{}", exit("time"));
    assert!(tree.entry("size/big").metadata().expect("a file").len() <= 4096);
}

#[test]
fn a_plain_user_is_told_what_a_limit_that_is_raised_would_need() {
    let Some(tree) = Tree::new().for_nobody() else { return };
    let mut prefix = vec!["sh".to_owned(), "-c".to_owned(), "ulimit -n 300; exec \"$@\"".to_owned(), "sh".to_owned()];
    if is_root() {
        prefix.extend(crate::harness::AS_NOBODY.map(str::to_owned));
    }
    let tree = tree.through(prefix);
    tree.start();
    tree.service("more").run(NOTING).toml("[limits]\nopen_files = 301").moved_in();
    let says = "setting limits.open_files for ./run: Operation not permitted; it takes root, or CAP_SYS_RESOURCE, to raise a hard limit";
    eventually("the reason", || tree.state("more")["reason"] == says);
    tree.service("adj").run(NOTING).toml("[limits]\noom_score_adj = -500").moved_in();
    let before = text(Path::new(&format!("/proc/{}/oom_score_adj", tree.pid_of_svtree())));
    assert!(before.trim().parse::<i32>().is_ok_and(|before| before > -500), "the suite itself runs at {before}");
    let says = "setting limits.oom_score_adj for ./run: Permission denied; it takes root, or CAP_SYS_RESOURCE";
    eventually("the reason", || tree.state("adj")["reason"] == says);
    tree.service("less").run(SLEEPER).toml("[limits]\nopen_files = 299\noom_score_adj = 500").moved_in();
    assert_eq!(limit(sleeping(&tree, "less"), "Max open files"), ["299"; 2]);
}

#[test]
fn oom_score_adj_is_the_programs_alone() {
    let tree = Tree::running();
    let own = |pid: i32| text(Path::new(&format!("/proc/{pid}/oom_score_adj"))).trim().to_owned();
    let before = own(tree.pid_of_svtree());
    tree.service("web").run(SLEEPER).toml("[limits]\noom_score_adj = 777").moved_in();
    tree.sleeper("other");
    assert_eq!(own(sleeping(&tree, "web")), "777");
    assert_eq!(own(sleeping(&tree, "other")), before);
    assert_eq!(own(tree.pid_of_svtree()), before);
}

#[test]
fn a_user_that_has_all_the_processes_that_it_may_waits_for_one_to_end() {
    if !is_root() {
        return skip("a user of its own needs root");
    }
    let tree = Tree::running();
    // A number that has no other process on this machine. The kernel lets one more begin than there may be.
    let toml = "user = 4711888\ngroup = 4711888\n[limits]\nprocesses = 1";
    for name in ["first", "second"] {
        tree.service(name).toml(&format!("command = 'sleep 1000'\n{toml}")).moved_in();
        sleeping(&tree, name);
    }
    tree.service("third").toml(&format!("command = 'sleep 1000'\n{toml}")).moved_in();
    eventually("the reason", || {
        tree.state("third")["reason"].as_str().is_some_and(|why| why.contains("Resource temporarily unavailable"))
    });
    tree.letter("first", "d");
    let pid = sleeping(&tree, "third");
    assert!(process_field(pid, "Uid").starts_with("4711888"));
}
