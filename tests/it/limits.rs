//! Section: `[limits]`: how much of the machine a program may take.

use std::path::Path;

use crate::harness::{NOTING, SLEEPER, Tree, eventually, is_root, process_field, skip, sleeping, text};

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

/// A tree whose modules can be limited as a whole.
fn tree_with_controllers() -> Option<Tree> {
    let tree = Tree::running();
    let own = text(Path::new("/proc/self/cgroup"));
    let has = |name: &str| {
        let one =
            own.lines().any(|line| line.split(':').nth(1).is_some_and(|list| list.split(',').any(|it| it == name)));
        let two = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].iter().any(|mount| {
            let path = own.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
            text(&Path::new(mount).join(path).join("cgroup.controllers")).split_whitespace().any(|it| it == name)
        });
        one || two
    };
    if !is_root() || !["memory", "pids", "cpu"].iter().all(|name| has(name)) {
        skip("to limit a module as a whole needs root, and control groups with memory, pids and cpu");
        return None;
    }
    tree.service("probe").run(SLEEPER).toml("[limits]\nmemory = '64MiB'\ntasks = 10\ncpu = 1.0").moved_in();
    eventually("the probe to start, or not", || {
        tree.state("probe")["state"] == "up" || tree.state("probe")["reason"].is_string()
    });
    if tree.state("probe")["state"] != "up" {
        skip(&format!("nothing can be limited here: {}", tree.state("probe")["reason"]));
        return None;
    }
    tree.move_out("probe");
    tree.goes("probe");
    Some(tree)
}

/// Takes memory without end, in pieces of 1 MiB.
const HOG: &str = "#!/bin/sh\nexec tail /dev/zero\n";

#[test]
fn a_program_that_takes_more_memory_than_it_may_is_ended_and_that_is_told() {
    let Some(tree) = tree_with_controllers() else { return };
    tree.service("other").run(SLEEPER).toml("[limits]\nmemory = '64MiB'").moved_in();
    let other = tree.up("other");
    tree.service("hog").run(HOG).toml("[limits]\nmemory = '24MiB'\n[restart]\nwhen = 'never'").moved_in();
    tree.becomes("hog", "failed");
    let state = tree.state("hog");
    assert_eq!((state["exits"][0]["signal"].as_i64(), state["exits"][0]["oom"].as_bool()), (Some(9), Some(true)));
    let reason = state["reason"].as_str().expect("a reason");
    assert!(reason.starts_with("killed by SIGKILL, out of memory (limits.memory) after"), "{reason}");
    let log = tree.home("hog").join("supervise.log.wf");
    eventually("its line", || text(&log).contains("killed by SIGKILL, out of memory (limits.memory)"));
    assert_eq!(tree.pid("other"), Some(other));
    // One that is killed by somebody is not.
    tree.letter("other", "k");
    tree.up_again("other", other);
    assert!(tree.state("other")["exits"][0]["oom"].is_null(), "{}", tree.state("other"));
}

#[test]
fn another_process_of_the_module_that_is_killed_for_memory_is_told_too() {
    let Some(tree) = tree_with_controllers() else { return };
    let run = "#!/bin/sh\ntail /dev/zero\nexit 7\n";
    tree.service("web").run(run).toml("[limits]\nmemory = '24MiB'\n[restart]\nwhen = 'never'").moved_in();
    tree.becomes("web", "failed");
    assert_eq!(tree.state("web")["exits"][0]["code"], 7);
    let says = "out of memory (limits.memory): 1 killed of what its program had started";
    eventually("its line", || text(&tree.home("web").join("supervise.log.wf")).contains(says));
}

#[test]
fn a_death_for_want_of_memory_while_svtree_was_away_is_told() {
    let Some(tree) = tree_with_controllers() else { return };
    let run =
        "#!/bin/sh\necho $$ >> \"$SVTREE_IT/notes/web\"\nread word < \"$SVTREE_IT/notes/now\"\nexec tail /dev/zero\n";
    let now = tree.path("notes/now");
    tree.ran(["mkfifo".as_ref(), now.as_os_str()]).ok();
    let toml = "[limits]\nmemory = '24MiB'\n[restart]\nwhen = 'never'";
    tree.service("web").run(run).toml(toml).moved_in();
    let pid = tree.noted_pids("web", 1)[0];
    tree.becomes("web", "up");
    tree.kill_svtree();
    std::fs::write(&now, "go\n").expect("it reads");
    eventually("it to be killed", || !crate::harness::alive(pid));
    tree.start();
    tree.becomes("web", "failed");
    let exit = tree.state("web")["exits"][0].clone();
    // How it ended only newer kernels tell whoever was not its parent.
    assert!(exit["signal"].is_null() || exit["oom"] == true, "{exit}");
}

#[test]
fn no_more_tasks_than_it_may_have() {
    let Some(tree) = tree_with_controllers() else { return };
    let run = "#!/bin/sh\nfor n in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 1000 & done\necho done > \"$SVTREE_IT/notes/web\"\nwait\n";
    tree.service("web").run(run).toml("[limits]\ntasks = 6\n[restart]\nwhen = 'never'").moved_in();
    // A shell that cannot fork says so and ends, or goes on.
    eventually("it to have tried", || !tree.notes("web").is_empty() || tree.state("web")["state"] == "failed");
    let children = |pid: i32| crate::harness::descendants(pid).len();
    assert!(tree.pid("web").is_none_or(|pid| children(pid) < 6), "more than it may have");
    tree.letter("web", "d");
    tree.becomes("web", "down");
}

#[test]
fn no_more_processor_than_it_may_have() {
    let Some(tree) = tree_with_controllers() else { return };
    tree.service("web").run("#!/bin/sh\nwhile :; do :; done\n").toml("[limits]\ncpu = 0.1").moved_in();
    let pid = tree.up("web");
    let used = || crate::harness::ticks(pid);
    let (before, begun) = (used(), std::time::Instant::now());
    eventually("2 seconds to pass", || begun.elapsed().as_secs() >= 2);
    // A tenth of it, and no machine makes more of it; without a limit it takes what the others leave.
    let share = f64::from(u32::try_from(used() - before).expect("ticks")) / 100.0 / begun.elapsed().as_secs_f64();
    assert!(share < 0.25, "{share}");
}

#[test]
fn a_limit_that_is_changed_or_taken_away_holds_from_the_next_start() {
    let Some(tree) = tree_with_controllers() else { return };
    let run = "#!/bin/sh\nhead -c 40000000 /dev/zero | tail -c 40000000 > /dev/null && echo done >> \"$SVTREE_IT/notes/web\"\nexec sleep 1000\n";
    let entry = tree.service("web").run(run).toml("[limits]\nmemory = '16MiB'").moved_in();
    let says = "out of memory (limits.memory): 1 killed of what its program had started";
    let pid = sleeping(&tree, "web");
    assert!(tree.notes("web").is_empty());
    crate::harness::replace(&entry.join("service.toml"), "", 0o644);
    tree.letter("web", "k");
    let again = tree.up_again("web", pid);
    eventually("its line", || text(&tree.home("web").join("supervise.log.wf")).contains(says));
    assert!(tree.state("web")["exits"][0]["oom"].is_null(), "it was a letter that killed it: {}", tree.state("web"));
    eventually("it to have what it wants", || tree.notes("web") == ["done"]);
    crate::harness::replace(&entry.join("service.toml"), "[limits]\nmemory = '128MiB'", 0o644);
    tree.letter("web", "k");
    tree.up_again("web", again);
    eventually("it to have what it wants", || tree.notes("web") == ["done", "done"]);
}

#[test]
fn no_group_is_left_when_the_tree_ends() {
    let Some(tree) = tree_with_controllers() else { return };
    tree.service("web").run(SLEEPER).toml("[limits]\nmemory = '64MiB'\ntasks = 10\ncpu = 1.5").moved_in();
    let pid = sleeping(&tree, "web");
    let groups: Vec<_> = text(Path::new(&format!("/proc/{pid}/cgroup")))
        .lines()
        .filter_map(|line| {
            let mut fields = line.splitn(3, ':');
            let (list, path) = (fields.nth(1)?.to_owned(), fields.next()?.trim_start_matches('/').to_owned());
            // Version 2 has no list, and may be all there is.
            let mounts = if list.is_empty() { vec!["unified".to_owned(), String::new()] } else { vec![list] };
            let of_tree = Path::new(&path).parent()?.to_owned();
            path.contains("svtree-")
                .then(|| mounts.into_iter().map(move |it| Path::new("/sys/fs/cgroup").join(it).join(&of_tree)))
        })
        .flatten()
        .filter(|group| group.exists())
        .collect();
    assert!(!groups.is_empty());
    assert_eq!(tree.stop().code(), Some(0));
    for group in groups {
        assert!(!group.exists(), "{}", group.display());
    }
}

#[test]
fn what_cannot_be_limited_does_not_run_and_says_what_is_missing() {
    let Some(tree) = Tree::new().for_nobody() else { return };
    tree.start();
    for key in ["memory = '64MiB'", "tasks = 10", "cpu = 1.5"] {
        let name = key.split(' ').next().expect("a key");
        tree.service(name).run(NOTING).toml(&format!("[limits]\n{key}")).moved_in();
        eventually("the reason, or a start", || {
            tree.state(name)["reason"].is_string() || tree.state(name)["state"] == "up"
        });
        if tree.state(name)["state"] == "up" {
            skip("a plain user has control groups here");
            continue;
        }
        let reason = tree.state(name)["reason"].as_str().expect("a reason").to_owned();
        assert!(reason.starts_with(&format!("limits.{name}: ")), "{reason}");
        assert!(tree.notes(name).is_empty());
        assert_eq!(tree.svtree(["check", &format!("services/{name}")]).code, Some(0), "it cannot know");
    }
}

#[test]
fn groups_that_somebody_removed_are_made_again() {
    let Some(tree) = tree_with_controllers() else { return };
    tree.service("web").run(SLEEPER).toml("[limits]\ntasks = 10\n[restart]\ndelay = '100ms'").moved_in();
    let pid = sleeping(&tree, "web");
    tree.letter("web", "d");
    tree.becomes("web", "down");
    let groups = tree.state("web")["record"]["directory"].clone();
    let name = format!("{}-{}", groups[0], groups[1]);
    for dir in crate::harness::walk(Path::new("/sys/fs/cgroup")).iter().filter(|path| path.ends_with(&name)) {
        std::fs::remove_dir(dir).expect("an empty group");
    }
    tree.letter("web", "u");
    let again = tree.up_again("web", pid);
    let own = text(Path::new(&format!("/proc/{again}/cgroup")));
    assert!(
        own.lines().any(|line| line.contains("pids") && line.ends_with(&name)) || own.lines().count() == 1,
        "{own}"
    );
}
