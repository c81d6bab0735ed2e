//! Section: a change of what runs: whole or not at all. What is wrong is rejected, the last good one runs on.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;

use crate::harness::{
    NOTING, SLEEPER, Tree, arguments, chmod, eventually, program, remove, replace, stays, wait_for, within, write,
};

const TEN_MINUTES: &str = "command = 'sleep 600'\n";
const A_THOUSAND: &str = "command = 'sleep 1000'\n";

/// Waits for the arguments of the module's program.
#[track_caller]
fn runs(tree: &Tree, name: &str, expected: &[&str]) -> i32 {
    wait_for(format!("{name} to run {expected:?}"), || {
        tree.pid(name).filter(|pid| arguments(*pid) == expected && tree.state(name)["pid"] == *pid)
    })
}

/// What is wrong with the files of a module that runs on, once that is told.
#[track_caller]
fn rejected(tree: &Tree, name: &str) -> String {
    wait_for(format!("{name} to be rejected"), || tree.state(name)["rejected"].as_str().map(str::to_owned))
}

#[track_caller]
fn is_accepted(tree: &Tree, name: &str) {
    within(Duration::from_secs(10), "it to be accepted", || tree.state(name)["rejected"].is_null());
}

#[test]
fn what_a_changed_file_names_and_is_not_there_is_rejected_with_its_line_and_the_last_good_one_runs_on() {
    let tree = Tree::running();
    let cases = [
        ("user", "user = 'no-such-user'", "user no-such-user: there is no such user"),
        ("group", "user = 0\ngroup = 'no-such-group'", "group no-such-group: there is no such group"),
        ("groups", "groups = ['no-such-group']", "groups: no-such-group: there is no such group"),
        ("control", "control_group = 'no-such-group'", "control_group no-such-group: there is no such group"),
        ("directory", "directory = 'gone'", "directory: gone: there is no such directory"),
        ("variables", "environment_dir = 'gone'", "environment_dir: gone: "),
        ("root", "[sandbox]\nroot = 'gone'", "root: gone: there is no such directory"),
        ("ready", "[ready]\ncheck = './gone'", "ready.check: gone: there is no such file"),
        ("health", "[health]\ncheck = 'no-such-program'", "health.check: no-such-program: not found in PATH"),
        ("key", "usr = 'root'", "unknown key `usr`, did you mean `user`?"),
    ];
    for (name, toml, says) in cases {
        let entry = tree.service(name).toml(A_THOUSAND).moved_in();
        let pid = runs(&tree, name, &["sleep", "1000"]);
        let toml = format!("{TEN_MINUTES}{toml}\n");
        replace(&entry.join("service.toml"), &toml, 0o644);
        let why = rejected(&tree, name);
        let line = toml.lines().count();
        assert!(why.starts_with(&format!("service.toml: line {line}, column ")) && why.contains(says), "{why}");
        let state = tree.state(name);
        assert_eq!((&state["state"], &state["pid"], &state["changed"]), (&"up".into(), &pid.into(), &false.into()));
        assert_eq!(state["reason"], format!("rejected: {why}"));
        let table = tree.svtree(["status", name]).ok();
        assert!(table.contains("up") && table.contains(&format!("rejected: {why}")), "{table}");
        eventually("a warning", || tree.stderr().contains(&format!("{why}; the last good one stays in force")));
        // The next start uses it as well.
        tree.letter(name, "k");
        let pid = tree.up_again(name, pid);
        runs(&tree, name, &["sleep", "1000"]);
        replace(&entry.join("service.toml"), TEN_MINUTES, 0o644);
        is_accepted(&tree, name);
        eventually("changed", || tree.state(name)["changed"] == true);
        assert_eq!(tree.pid(name), Some(pid));
    }
}

#[test]
fn a_program_that_comes_later_than_the_file_that_names_it_is_found() {
    let tree = Tree::running();
    let entry = tree.service("web").toml(A_THOUSAND).moved_in();
    let pid = runs(&tree, "web", &["sleep", "1000"]);
    replace(&entry.join("service.toml"), "command = '../../elsewhere/mine'", 0o644);
    assert!(rejected(&tree, "web").contains("elsewhere/mine: there is no such file"));
    write(&tree.path("elsewhere/mine"), SLEEPER, 0o755);
    is_accepted(&tree, "web");
    eventually("changed", || tree.state("web")["changed"] == true);
    assert_eq!(tree.pid("web"), Some(pid));
}

#[test]
fn a_run_that_cannot_be_executed_is_rejected_and_its_program_runs_on() {
    let tree = Tree::running();
    let spoil = |name: &str, run: &Path| match name {
        "interpreter" => replace(run, "#!/no/such/interpreter\n", 0o755),
        "text" => replace(run, "exec sleep 1000\n", 0o755),
        "mode" => chmod(run, 0o644),
        _ => {
            fs::remove_file(run).expect("removed");
            fs::create_dir(run).expect("made");
        }
    };
    let cases = [
        ("interpreter", "its interpreter /no/such/interpreter is not there"),
        ("text", "no program and no script"),
        ("mode", "run is not executable"),
        ("directory", "run is not executable"),
    ];
    for (name, says) in cases {
        let run = tree.service(name).run(SLEEPER).moved_in().join("run");
        let pid = runs(&tree, name, &["sleep", "1000"]);
        spoil(name, &run);
        let why = rejected(&tree, name);
        assert!(why.contains(says), "{why}");
        stays(Duration::from_millis(300), "it runs on", || tree.pid(name) == Some(pid));
        assert_eq!(tree.state(name)["state"], "up");
        if run.is_dir() {
            fs::remove_dir(&run).expect("removed");
        }
        replace(&run, SLEEPER, 0o755);
        is_accepted(&tree, name);
        assert_eq!((tree.pid(name), &tree.state(name)["changed"]), (Some(pid), &false.into()));
    }
}

#[test]
fn a_finish_that_cannot_be_executed_is_rejected_as_well() {
    let tree = Tree::running();
    let entry = tree.service("web").run(SLEEPER).script("finish", "#!/bin/sh\n").moved_in();
    let pid = tree.up("web");
    replace(&entry.join("finish"), "#!/no/such/interpreter\n", 0o755);
    assert_eq!(rejected(&tree, "web"), "finish: its interpreter /no/such/interpreter is not there");
    tree.signal_svtree(Signal::USR1);
    eventually("USR1 to tell", || tree.stderr().contains(&format!("web: supervised, pid {pid}, rejected: finish: ")));
    fs::remove_file(entry.join("finish")).expect("removed");
    is_accepted(&tree, "web");
    assert_eq!((tree.pid("web"), &tree.state("web")["changed"]), (Some(pid), &false.into()));
}

#[test]
fn a_group_toml_beside_the_run_of_a_running_module_is_rejected_and_stops_nothing() {
    let tree = Tree::running();
    let entry = tree.service("web").run(SLEEPER).moved_in();
    let pid = tree.up("web");
    write(&entry.join("group.toml"), "", 0o644);
    assert!(rejected(&tree, "web").contains("group.toml stands beside run"));
    stays(Duration::from_millis(300), "it runs on", || tree.pid("web") == Some(pid));
    fs::remove_file(entry.join("group.toml")).expect("removed");
    is_accepted(&tree, "web");
    assert_eq!(tree.pid("web"), Some(pid));
}

#[test]
fn what_was_rejected_stays_so_under_the_next_svtree_until_it_is_mended() {
    let tree = Tree::running();
    let entry = tree.service("web").toml(A_THOUSAND).moved_in();
    let pid = runs(&tree, "web", &["sleep", "1000"]);
    replace(&entry.join("service.toml"), "command = './mine'", 0o644);
    rejected(&tree, "web");
    tree.svtree(["upgrade"]).ok();
    stays(Duration::from_millis(500), "rejected still", || tree.state("web")["rejected"].is_string());
    write(&entry.join("mine"), SLEEPER, 0o755);
    is_accepted(&tree, "web");
    assert_eq!(tree.pid("web"), Some(pid));
}

#[test]
fn what_was_rejected_before_svtree_died_is_so_under_the_next_one_and_the_last_good_one_is_in_force() {
    for wrong in ["comand = 'sleep 600'", "command = 'sleep 600'\nuser = 'no-such-user'", "command = './mine'"] {
        let tree = Tree::running();
        let entry = tree.service("web").run(NOTING).toml(A_THOUSAND).moved_in();
        let pid = runs(&tree, "web", &["sleep", "1000"]);
        replace(&entry.join("service.toml"), wrong, 0o644);
        let why = rejected(&tree, "web");
        let kept = tree.home("web").join(".good");
        assert_eq!(fs::metadata(&kept).expect("what is in force").mode() & 0o777, 0o600);
        tree.kill_svtree();
        tree.start();
        eventually("it to be taken over", || tree.state("web")["adopted"] == true);
        assert_eq!(tree.pid("web"), Some(pid));
        eventually("it to be rejected", || tree.state("web")["rejected"] == why.as_str());
        tree.letter("web", "k");
        let pid = tree.up_again("web", pid);
        runs(&tree, "web", &["sleep", "1000"]);
        replace(&entry.join("service.toml"), TEN_MINUTES, 0o644);
        is_accepted(&tree, "web");
        eventually("changed", || tree.state("web")["changed"] == true);
        eventually("nothing to be kept", || !kept.exists());
        tree.letter("web", "k");
        tree.up_again("web", pid);
        runs(&tree, "web", &["sleep", "600"]);
    }
}

#[test]
fn what_was_spoilt_while_no_svtree_ran_runs_on_and_is_not_started_before_it_is_mended() {
    for wrong in ["comand = 'sleep 600'", "user = 'no-such-user'"] {
        let tree = Tree::running();
        // Without its service.toml another program would be run, and as another user.
        let entry = tree.service("web").run(NOTING).toml(A_THOUSAND).moved_in();
        let spoilt = tree.service("run").run(SLEEPER).moved_in().join("run");
        let pids = ["web", "run"].map(|name| runs(&tree, name, &["sleep", "1000"]));
        tree.kill_svtree();
        replace(&entry.join("service.toml"), wrong, 0o644);
        chmod(&spoilt, 0o644);
        tree.start();
        eventually("both to be taken over", || ["web", "run"].iter().all(|name| tree.state(name)["adopted"] == true));
        stays(Duration::from_millis(500), "they run on", || {
            ["web", "run"].map(|name| tree.pid(name)) == pids.map(Some)
        });
        assert!(rejected(&tree, "run").contains("run is not executable"));
        for name in ["web", "run"] {
            tree.letter(name, "k");
            tree.becomes(name, "waiting");
            rejected(&tree, name);
        }
        stays(Duration::from_millis(1500), "neither is started", || tree.notes("web").is_empty());
        replace(&entry.join("service.toml"), TEN_MINUTES, 0o644);
        chmod(&spoilt, 0o755);
        runs(&tree, "web", &["sleep", "600"]);
        tree.up("run");
        ["web", "run"].iter().for_each(|name| is_accepted(&tree, name));
    }
}

#[test]
fn instances_whose_file_is_spoilt_run_on_under_the_next_svtree_too() {
    for rejected_before in [true, false] {
        let tree = Tree::running();
        let toml = entry_of_three(&tree);
        let names = ["web@1", "web@2", "web@3"];
        let pids = names.map(|name| runs(&tree, name, &["sleep", "1000"]));
        if rejected_before {
            replace(&toml, "comand = 'sleep 600'", 0o644);
            names.iter().for_each(|name| _ = rejected(&tree, name));
        }
        tree.kill_svtree();
        replace(&toml, "comand = 'sleep 600'", 0o644);
        tree.start();
        for name in names {
            eventually("it to be taken over", || tree.state(name)["adopted"] == true);
            assert!(rejected(&tree, name).contains("unknown key `comand`"));
        }
        assert_eq!(names.map(|name| tree.pid(name)), pids.map(Some));
        tree.letter("web@2", "k");
        if rejected_before {
            tree.up_again("web@2", pids[1]);
        } else {
            tree.becomes("web@2", "waiting");
        }
        replace(&toml, &format!("instances = 3\n{A_THOUSAND}"), 0o644);
        names.iter().for_each(|name| is_accepted(&tree, name));
        let after = [tree.up("web@1"), tree.up_again("web@2", pids[1]), tree.up("web@3")];
        assert_eq!([after[0], after[2]], [pids[0], pids[2]]);
    }
}

/// The `service.toml` of a module of three instances.
fn entry_of_three(tree: &Tree) -> PathBuf {
    tree.service("web").toml(&format!("instances = 3\n{A_THOUSAND}")).moved_in().join("service.toml")
}

#[test]
fn r_is_obeyed_before_what_follows_it_also_when_what_it_reads_is_looked_at_first() {
    let tree = Tree::running();
    let toml = |delay: &str| format!("command = 'false'\n[restart]\ndelay = '{delay}'\n");
    let entry = tree.service("web").toml(&toml("10m")).moved_in();
    tree.becomes("web", "waiting");
    for _ in 0..20 {
        replace(&entry.join("service.toml"), &(toml("10m") + "[stop]\nsignal = 'HUP'"), 0o644);
        replace(&entry.join("service.toml"), &(TEN_MINUTES.to_owned() + "[stop]\nsignal = 'INT'"), 0o644);
        tree.letter("web", "ru");
        let pid = runs(&tree, "web", &["sleep", "600"]);
        replace(&entry.join("service.toml"), &toml("10m"), 0o644);
        tree.letter("web", "rt");
        eventually("it to end", || tree.pid("web").is_none_or(|now| now != pid));
        tree.becomes("web", "waiting");
    }
}

#[test]
fn files_put_back_unchanged_are_no_change_and_others_are() {
    // Longer than this machine ever takes between two of these steps.
    let tree = Tree::new().options(["--log", "none", "--settle", "2s"]);
    let toml = "[stop]\nsignal = 'INT'\n";
    let entry = tree.service("web").run(NOTING).toml(toml).file("timeout-kill", "5000\n").moved_in();
    tree.start();
    let pid = runs(&tree, "web", &["sleep", "1000"]);
    let files = [("run", NOTING, 0o755), ("service.toml", toml, 0o644), ("timeout-kill", "5000\n", 0o644)];
    for round in 0..3 {
        // All at once, one after the other, by a rename.
        if round == 0 {
            files.iter().for_each(|(file, ..)| fs::remove_file(entry.join(file)).expect("removed"));
        }
        for (file, text, mode) in files {
            match round {
                2 => replace(&entry.join(file), text, mode),
                _ => {
                    let _ = fs::remove_file(entry.join(file));
                    write(&entry.join(file), text, mode);
                }
            }
        }
        stays(Duration::from_millis(2500), "nothing happens", || {
            let state = tree.state("web");
            tree.pid("web") == Some(pid) && state["changed"] == false && state["rejected"].is_null()
        });
    }
    fs::remove_file(entry.join("run")).expect("removed");
    write(&entry.join("run"), "#!/bin/sh\nexec sleep 999\n", 0o755);
    eventually("changed", || tree.state("web")["changed"] == true);
    assert_eq!(tree.pid("web"), Some(pid));
    replace(&entry.join("run"), NOTING, 0o755);
    eventually("no longer changed", || tree.state("web")["changed"] == false);
}

#[test]
fn a_service_toml_that_is_away_for_less_than_the_settle_time_is_never_thought_to_be_gone() {
    let tree = Tree::new().options(["--log", "none", "--settle", "3s"]);
    let toml = format!("{A_THOUSAND}[restart]\ndelay = '10ms'\n");
    // Without it `run` would be run.
    let entry = tree.service("web").run(NOTING).toml(&toml).moved_in();
    tree.start();
    let pid = runs(&tree, "web", &["sleep", "1000"]);
    // Longer ago than the settle time.
    stays(Duration::from_millis(3100), "it runs", || tree.pid("web") == Some(pid));
    fs::remove_file(entry.join("service.toml")).expect("removed");
    stays(Duration::from_secs(1), "nothing changed", || tree.state("web")["changed"] == false);
    write(&entry.join("service.toml"), &toml, 0o644);
    stays(Duration::from_secs(4), "nothing happens", || {
        tree.pid("web") == Some(pid) && tree.state("web")["changed"] == false
    });
    assert_eq!(tree.notes("web"), [""; 0]);
}

#[test]
fn sed_rsync_and_an_editor_that_renames_change_what_runs_next() {
    let tree = Tree::running();
    let entry = tree.service("web").toml(A_THOUSAND).moved_in();
    let pid = runs(&tree, "web", &["sleep", "1000"]);
    let toml = entry.join("service.toml").display().to_string();
    let changed = |argument: &str| {
        eventually("changed", || tree.state("web")["changed"] == true);
        assert_eq!(tree.pid("web").map(|pid| arguments(pid) == ["sleep", argument]), Some(false));
        let before = tree.up("web");
        tree.letter("web", "k");
        tree.up_again("web", before);
        runs(&tree, "web", &["sleep", argument]);
        eventually("changed no more", || tree.state("web")["changed"] == false);
    };
    if program("sed").is_some() {
        tree.ran(["sed", "-i", "s/1000/999/", &toml]).ok();
        changed("999");
    }
    // As vim does: the old one is moved away, the new one is written in its place.
    fs::rename(&toml, format!("{toml}~")).expect("moved away");
    write(Path::new(&toml), "command = 'sleep 998'", 0o644);
    changed("998");
    if program("rsync").is_some() {
        write(&tree.path("elsewhere/new/web/service.toml"), "command = 'sleep 997'", 0o644);
        tree.ran(["rsync", "-a", "elsewhere/new/", "services/"]).ok();
        changed("997");
    }
    assert_ne!(tree.pid("web"), Some(pid));
}

#[test]
fn what_is_copied_in_at_one_time_is_one_change() {
    let tree = Tree::new().options(["--log", "none", "--settle", "1s"]);
    tree.start();
    fs::create_dir(tree.entry("first")).expect("made");
    tree.becomes("first", "incomplete");
    let copy = |name: String| write(&tree.entry(name).join("service.toml"), A_THOUSAND, 0o644);
    copy("a0".to_owned());
    for number in 1..10 {
        // Longer than the settle time in all, and never quiet for so long.
        stays(Duration::from_millis(200), "none starts before the last is there", || {
            (0..number).all(|number| tree.pid(format!("a{number}")).is_none())
        });
        copy(format!("a{number}"));
    }
    (0..10).for_each(|number| _ = tree.up(format!("a{number}")));
}

#[test]
fn what_is_written_on_and_on_keeps_others_waiting_for_no_longer_than_twenty_settle_times() {
    let tree = Tree::new().options(["--log", "none", "--settle", "200ms"]);
    tree.start();
    write(&tree.entry("web/run"), SLEEPER, 0o755);
    let mut lines = 0;
    within(Duration::from_secs(20), "web to start", || {
        lines += 1;
        write(&tree.entry("other/run"), &format!("#!/bin/sh\n# {lines}\nexec sleep 1000\n"), 0o755);
        tree.pid("web").is_some()
    });
}

#[test]
fn a_checkout_of_two_hundred_directories_is_one_change_that_stops_and_starts_only_what_it_must() {
    if program("git").is_none() {
        return;
    }
    let tree = Tree::new();
    let services = tree.path("services").display().to_string();
    let git = |words: &[&str]| {
        let set = ["-c", "user.name=svtree", "-c", "user.email=svtree@localhost", "-c", "core.fsync=none"];
        tree.ran(["git", "-C", &services].into_iter().chain(set).chain(words.iter().copied())).ok()
    };
    git(&["init", "-q", "-b", "old"]);
    let put = |name: String, text: &str| write(&tree.entry(name).join("service.toml"), text, 0o644);
    let names = |kind: &'static str| (0..50).map(move |number| format!("{kind}{number}"));
    for kind in ["same", "changed", "gone", "wrong"] {
        names(kind).for_each(|name| put(name, A_THOUSAND));
    }
    git(&["add", "."]);
    git(&["commit", "-q", "-m", "old"]);
    git(&["checkout", "-q", "-b", "new"]);
    names("changed").for_each(|name| put(name, TEN_MINUTES));
    names("gone").for_each(|name| remove(&tree.entry(name)));
    names("wrong").for_each(|name| put(name, "command = 'sleep 600'\nuser = 'no-such-user'\n"));
    names("new").for_each(|name| put(name, A_THOUSAND));
    git(&["add", "-A", "."]);
    git(&["commit", "-q", "-m", "new"]);
    git(&["checkout", "-q", "old"]);
    tree.start();
    let stay: Vec<String> = names("same").chain(names("changed")).chain(names("wrong")).collect();
    let before: Vec<i32> = stay.iter().map(|name| tree.up(name)).collect();
    names("gone").for_each(|name| _ = tree.up(name));
    git(&["checkout", "-q", "new"]);
    names("new").for_each(|name| _ = tree.up(name));
    names("gone").for_each(|name| tree.goes(name));
    for name in names("wrong") {
        assert!(rejected(&tree, &name).starts_with("service.toml: line 2, column 8: user no-such-user"));
    }
    names("changed").for_each(|name| eventually("changed", || tree.state(&name)["changed"] == true));
    git(&["checkout", "-q", "old"]);
    names("new").for_each(|name| tree.goes(name));
    names("gone").for_each(|name| _ = tree.up(name));
    for name in &stay {
        eventually(format!("{name} to be as it was"), || {
            let state = tree.state(name);
            state["changed"] == false && state["rejected"].is_null()
        });
    }
    let after: Vec<Option<i32>> = stay.iter().map(|name| tree.pid(name)).collect();
    assert_eq!(after, before.into_iter().map(Some).collect::<Vec<_>>(), "nothing that stays was started again");
}

#[test]
fn a_change_by_which_a_module_would_wait_for_itself_is_rejected_with_the_path() {
    let tree = Tree::running();
    let put = |name: &str, toml: &str| replace(&tree.entry(name).join("service.toml"), toml, 0o644);
    tree.service("a").run(SLEEPER).toml("needs = ['b']").moved_in();
    tree.service("b").run(SLEEPER).toml("").moved_in();
    let pids = [tree.up("a"), tree.up("b")];
    put("b", "# it has none yet\nneeds = ['a']\n");
    let why = rejected(&tree, "b");
    assert_eq!(why, "service.toml: line 2, column 9: it would wait for itself: b needs a, a needs b");
    // Nobody waits for it.
    for (name, pid) in ["a", "b"].into_iter().zip(pids) {
        tree.letter(name, "k");
        tree.up_again(name, pid);
    }
    // Both ends at one time are one change.
    put("a", "");
    put("b", "needs = ['a']\n");
    is_accepted(&tree, "b");
    eventually("the need to hold", || tree.state("b")["needs"][0] == "a" && tree.state("a")["needs"].is_null());
    put("b", "");
    put("a", "needs = ['b']\n");
    eventually("the need to hold", || tree.state("a")["needs"][0] == "b" && tree.state("b")["needs"].is_null());
    assert!(["a", "b"].iter().all(|name| tree.state(name)["rejected"].is_null()));
}

#[test]
fn a_change_of_a_group_by_which_its_modules_would_wait_for_themselves_is_rejected() {
    let tree = Tree::running();
    let service = tree.service("shop").file("group.toml", "").script("db/run", SLEEPER).script("web/run", SLEEPER);
    let group = service.file("web/service.toml", "needs = ['db']").moved_in().join("group.toml");
    let pids = [tree.up("shop/db"), tree.up("shop/web")];
    replace(&group, "order = ['web', 'db']\n", 0o644);
    tree.becomes("shop", "rejected");
    let why = tree.state("shop")["reason"].as_str().expect("a reason").to_owned();
    assert!(
        why.contains("group.toml: it would wait for itself: shop/") && why.contains("shop/web needs shop/db"),
        "{why}"
    );
    for (name, pid) in ["shop/db", "shop/web"].into_iter().zip(pids) {
        tree.letter(name, "k");
        tree.up_again(name, pid);
    }
    replace(&group, "order = ['db', 'web']\n", 0o644);
    eventually("it to be accepted", || tree.state("shop")["state"] != "rejected");
}

#[test]
fn a_group_toml_that_is_away_or_half_written_for_less_than_the_settle_time_is_nothing() {
    let tree = Tree::new().options(["--log", "none", "--settle", "2s"]);
    let service = tree.service("shop").file("group.toml", "").script("db/run", SLEEPER).script("web/run", SLEEPER);
    let group = service.moved_in().join("group.toml");
    tree.start();
    let pids = ["shop/db", "shop/web"].map(|name| tree.up(name));
    let run_on = || ["shop/db", "shop/web"].map(|name| tree.pid(name)) == pids.map(Some);
    fs::remove_file(&group).expect("removed");
    stays(Duration::from_secs(1), "they run on", run_on);
    write(&group, "order = ['d", 0o644);
    stays(Duration::from_secs(1), "nothing is said", || run_on() && tree.stderr().is_empty());
    write(&group, "order = ['db']", 0o644);
    stays(Duration::from_secs(3), "they run on", || run_on() && tree.stderr().is_empty());
}

#[test]
fn what_is_in_a_group_whose_file_was_spoilt_while_no_svtree_ran_is_taken_over_all_the_same() {
    let tree = Tree::running();
    let service = tree.service("shop").file("group.toml", "").script("web/run", SLEEPER);
    let group = service.file("web/service.toml", "[stop]\nsignal = 'INT'").moved_in().join("group.toml");
    let pid = runs(&tree, "shop/web", &["sleep", "1000"]);
    tree.kill_svtree();
    write(&group, "strtegy = 'one_for_all'", 0o644);
    tree.start();
    eventually("it to be taken over", || tree.state("shop/web")["adopted"] == true);
    assert_eq!(tree.pid("shop/web"), Some(pid));
    tree.becomes("shop", "rejected");
    tree.letter("shop/web", "t");
    let pid = tree.up_again("shop/web", pid);
    tree.letter("shop/web", "d");
    tree.becomes("shop/web", "down");
    assert_eq!(tree.state("shop/web")["exits"][0]["signal"], 2);
    write(&group, "", 0o644);
    tree.letter("shop/web", "u");
    tree.up_again("shop/web", pid);
    eventually("the group to be in order", || tree.state("shop")["state"] != "rejected");
}

#[test]
fn of_two_mistakes_of_which_neither_ever_ran_the_newer_one_is_told() {
    let tree = Tree::running();
    let entry = tree.service("web").run(SLEEPER).toml("user = 'no-such-user'").moved_in();
    tree.becomes("web", "waiting");
    replace(&entry.join("service.toml"), "user = 'nor-this-one'", 0o644);
    let says = "user nor-this-one: there is no such user";
    eventually("the newer one", || tree.state("web")["reason"] == says && tree.state("web")["rejected"] == says);
}
