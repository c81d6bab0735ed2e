//! Section: `service.toml` and the files beside it: what is in force, when, and what is said of a mistake.

use std::fs;
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;

use crate::harness::{
    DEAF, NOTING, SLEEPER, Tree, arguments, chmod, environment, eventually, replace, stays, text, wait_for, within,
    write,
};

/// Waits for the arguments of the module's program.
fn runs(tree: &Tree, name: &str, expected: &[&str]) -> i32 {
    wait_for(format!("{name} to run {expected:?}"), || tree.pid(name).filter(|pid| arguments(*pid) == expected))
}

#[test]
fn command_is_an_array_or_a_string_split_as_a_shell_splits_words() {
    let tree = Tree::running();
    tree.service("array").toml("command = ['sleep', '1000']").moved_in();
    tree.service("string").toml("command = 'sleep 1000'").moved_in();
    runs(&tree, "array", &["sleep", "1000"]);
    runs(&tree, "string", &["sleep", "1000"]);
    let quoted = r#"command = "sh -c 'exec sleep \"$1\"' 'a b' 10\\00 '$HOME'""#;
    tree.service("quoted").toml(quoted).moved_in();
    runs(&tree, "quoted", &["sleep", "1000"]);
    tree.service("plain").toml("command = 'sh -c \"sleep 1000; :\" $HOME * a|b'").moved_in();
    runs(&tree, "plain", &["sh", "-c", "sleep 1000; :", "$HOME", "*", "a|b"]);
}

#[test]
fn a_command_with_a_slash_is_relative_to_the_service_directory_else_from_path() {
    let tree = Tree::running();
    tree.service("slash").toml("command = ['bin/mine', 'x']").script("bin/mine", NOTING).moved_in();
    eventually("the one in the directory to run", || tree.notes("slash").len() == 1);
    // A program of that name in the directory is not the one in PATH.
    tree.service("path").toml("command = 'sleep 1000'").script("sleep", "#!/bin/sh\nexit 1\n").moved_in();
    runs(&tree, "path", &["sleep", "1000"]);
    tree.service("absolute").toml("command = '/bin/sh -c \"sleep 1000; :\"'").moved_in();
    runs(&tree, "absolute", &["/bin/sh", "-c", "sleep 1000; :"]);
}

#[test]
fn without_command_it_is_run() {
    let tree = Tree::running();
    tree.service("web").toml("# all defaults\n").run(NOTING).moved_in();
    tree.up("web");
    eventually("run to run", || tree.notes("web").len() == 1);
}

#[test]
fn command_wins_over_run() {
    let tree = Tree::running();
    tree.service("web").toml("command = 'sleep 999'").run(NOTING).moved_in();
    runs(&tree, "web", &["sleep", "999"]);
    assert!(tree.notes("web").is_empty());
}

#[test]
fn directory_is_the_working_directory_relative_to_the_service_directory() {
    let tree = Tree::running();
    let toml = "command = './bin/mine'\ndirectory = 'data/dir'";
    let script = "#!/bin/sh\npwd -P >> \"$SVTREE_IT/notes/web\"\nexec sleep 1000\n";
    let service = tree.service("web").toml(toml).script("bin/mine", script).file("data/dir/file", "");
    let entry = service.moved_in();
    eventually("its directory", || !tree.notes("web").is_empty());
    let expected = fs::canonicalize(entry.join("data/dir")).expect("the directory");
    assert_eq!(tree.notes("web"), [expected.display().to_string()]);
}

#[test]
fn environment_is_added_to_svtrees_own() {
    let tree = Tree::new().env("MODE", "from svtree").env("KEPT", "kept");
    tree.service("web").toml("command = 'sleep 1000'\nenvironment = { MODE = 'live', EMPTY = '' }").moved_in();
    tree.start();
    let pid = runs(&tree, "web", &["sleep", "1000"]);
    let environment = environment(pid);
    for variable in ["MODE=live", "EMPTY=", "KEPT=kept", "SVTREE_MODULE=web"] {
        assert_eq!(environment.iter().filter(|found| *found == variable).count(), 1, "{variable} in {environment:?}");
    }
    assert!(!environment.contains(&"MODE=from svtree".to_owned()));
}

#[test]
fn enabled_false_and_the_file_down_keep_it_from_starting() {
    let tree = Tree::running();
    tree.service("down").run(NOTING).file("down", "").moved_in();
    tree.service("disabled").run(NOTING).toml("enabled = false").moved_in();
    for name in ["down", "disabled"] {
        tree.becomes(name, "down");
        assert_eq!(tree.state(name)["want"], "down");
        assert_eq!(tree.status(name).expect("status")[13], b'd');
    }
    tree.signal_svtree(Signal::HUP);
    stays(Duration::from_millis(500), "neither starts", || {
        tree.notes("down").is_empty() && tree.notes("disabled").is_empty()
    });
    tree.letter("down", "u");
    tree.letter("disabled", "u");
    tree.up("down");
    tree.up("disabled");
}

#[test]
fn a_file_down_that_comes_later_does_not_stop_it() {
    let tree = Tree::running();
    let entry = tree.sleeper("web");
    let pid = tree.up("web");
    write(&entry.join("down"), "", 0o644);
    stays(Duration::from_millis(500), "it runs on", || tree.pid("web") == Some(pid));
}

#[test]
fn a_mistake_is_named_with_file_line_column_and_the_nearest_key() {
    let tree = Tree::running();
    tree.service("web").run(NOTING).toml("# a comment\nenabld = true\n").moved_in();
    tree.becomes("web", "rejected");
    let reason = tree.state("web")["reason"].as_str().expect("a reason").to_owned();
    for part in ["service.toml", "line 2", "column 1", "enabld", "`enabled`"] {
        assert!(reason.contains(part), "{part} in {reason}");
    }
    eventually("a line on standard error", || tree.stderr().contains("web") && tree.stderr().contains("line 2"));
    assert!(tree.status("web").is_none(), "it has only state.json");
    assert!(tree.notes("web").is_empty());
    assert!(tree.svtree(["status"]).ok().contains("line 2"));
}

#[test]
fn a_rejected_module_starts_once_it_is_mended() {
    let tree = Tree::running();
    let entry = tree.service("web").run(NOTING).toml("enabled = 'yes'").moved_in();
    tree.becomes("web", "rejected");
    replace(&entry.join("service.toml"), "enabled = true", 0o644);
    tree.up("web");
    assert!(tree.state("web")["reason"].is_null(), "{}", tree.state("web"));
}

#[test]
fn wrong_values_are_mistakes() {
    let wrong = [
        ("command = []", "command"),
        ("command = 'a \"b'", "command"),
        ("[restart]\ndelay = 5", "delay"),
        ("[restart]\nwhen = 'sometimes'", "when"),
        ("[restart]\nmax_tries = -1", "max_tries"),
        ("[stop]\nsignal = 'NOSUCH'", "signal"),
        ("[stop]\nscope = 'all'", "scope"),
        ("stop = 5", "stop"),
        ("environment = { 'A=B' = 'x' }", "A=B"),
        ("command = 'unclosed", "line 1"),
    ];
    let tree = Tree::new();
    for (number, (toml, _)) in wrong.iter().enumerate() {
        tree.service(format!("m{number}")).run(NOTING).toml(toml).moved_in();
    }
    tree.start();
    for (number, (toml, part)) in wrong.iter().enumerate() {
        let name = format!("m{number}");
        tree.becomes(&name, "rejected");
        let reason = tree.state(&name)["reason"].as_str().expect("a reason").to_owned();
        assert!(reason.contains(part) && reason.contains("line "), "{toml}: {reason}");
    }
}

#[test]
fn a_changed_run_restarts_nothing_shows_changed_and_is_used_next() {
    let tree = Tree::running();
    let entry = tree.service("web").run(NOTING).moved_in();
    let pid = tree.up("web");
    replace(&entry.join("run"), "#!/bin/sh\nexec sleep 999\n", 0o755);
    eventually("changed", || tree.state("web")["changed"] == true);
    assert_eq!(tree.pid("web"), Some(pid));
    assert!(tree.svtree(["status", "web"]).ok().contains("changed"));
    tree.letter("web", "k");
    runs(&tree, "web", &["sleep", "999"]);
    eventually("no longer changed", || tree.state("web")["changed"] == false);
}

#[test]
fn a_changed_service_toml_restarts_nothing_shows_changed_and_is_used_next() {
    let tree = Tree::running();
    let entry = tree.service("web").toml("command = 'sleep 1000'").moved_in();
    let pid = runs(&tree, "web", &["sleep", "1000"]);
    replace(&entry.join("service.toml"), "command = 'sleep 999'", 0o644);
    eventually("changed", || tree.state("web")["changed"] == true);
    assert_eq!(tree.pid("web"), Some(pid));
    tree.svtree(["restart", "web"]).ok();
    runs(&tree, "web", &["sleep", "999"]);
    eventually("no longer changed", || tree.state("web")["changed"] == false);
}

#[test]
fn a_change_that_is_taken_back_is_no_change() {
    let tree = Tree::running();
    let entry = tree.service("web").toml("command = 'sleep 1000'").moved_in();
    let pid = tree.up("web");
    let toml = entry.join("service.toml");
    replace(&toml, "command = 'sleep 999'", 0o644);
    eventually("changed", || tree.state("web")["changed"] == true);
    replace(&toml, "command = 'sleep 1000'", 0o644);
    eventually("no longer changed", || tree.state("web")["changed"] == false);
    assert_eq!(tree.pid("web"), Some(pid));
}

#[test]
fn while_a_changed_service_toml_has_a_mistake_the_last_good_one_is_in_force() {
    let tree = Tree::running();
    let entry = tree.service("web").toml("command = 'sleep 1000'").moved_in();
    let pid = runs(&tree, "web", &["sleep", "1000"]);
    let toml = entry.join("service.toml");
    replace(&toml, "\n\ncomand = 'sleep 999'", 0o644);
    eventually("the mistake with its line", || tree.told("web").contains("line 3"));
    assert_eq!(tree.pid("web"), Some(pid));
    tree.letter("web", "k");
    let pid = tree.up_again("web", pid);
    runs(&tree, "web", &["sleep", "1000"]);
    tree.letter("web", "du");
    let pid = tree.up_again("web", pid);
    runs(&tree, "web", &["sleep", "1000"]);
    replace(&toml, "command = 'sleep 999'", 0o644);
    eventually("changed", || tree.state("web")["changed"] == true);
    tree.letter("web", "k");
    tree.up_again("web", pid);
    runs(&tree, "web", &["sleep", "999"]);
}

#[test]
fn stop_and_restart_are_in_force_at_once_after_a_rescan() {
    let tree = Tree::running();
    let toml = "command = 'false'\n[restart]\ndelay = '10m'";
    let entry = tree.service("web").toml(toml).moved_in();
    tree.becomes("web", "waiting");
    replace(&entry.join("service.toml"), "command = 'sleep 1000'\n[restart]\ndelay = '100ms'", 0o644);
    tree.svtree(["rescan"]).ok();
    tree.letter("web", "r");
    tree.letter("web", "u");
    let pid = runs(&tree, "web", &["sleep", "1000"]);
    tree.letter("web", "k");
    within(Duration::from_secs(5), "the new delay to hold", || tree.pid("web").is_some_and(|now| now != pid));
}

#[test]
fn what_cannot_be_executed_is_a_reason_and_starts_when_it_is_mended() {
    let tree = Tree::running();
    let bad = tree.service("bad").run("#!/no/such/interpreter\n").moved_in();
    let gone = tree.service("gone").toml("command = 'bin/mine'").moved_in();
    let mode = tree.service("mode").toml("command = './mine'").file("mine", SLEEPER).moved_in();
    let nopath = tree.service("nopath").toml("command = 'no-such-program-in-path'").moved_in();
    for name in ["bad", "gone", "mode", "nopath"] {
        tree.becomes(name, "waiting");
        assert!(tree.state(name)["reason"].is_string(), "{name}: {}", tree.state(name));
    }
    assert!(tree.told("gone").contains("bin/mine"), "{}", tree.told("gone"));
    assert!(tree.told("nopath").contains("no-such-program-in-path"), "{}", tree.told("nopath"));
    replace(&bad.join("run"), SLEEPER, 0o755);
    write(&gone.join("bin/mine"), SLEEPER, 0o755);
    chmod(&mode.join("mine"), 0o755);
    replace(&nopath.join("service.toml"), "command = 'sleep 1000'", 0o644);
    within(Duration::from_secs(5), "all to start after the fix", || {
        ["bad", "gone", "mode", "nopath"].iter().all(|name| tree.pid(name).is_some())
    });
    eventually("no reason to be left", || tree.state("gone")["reason"].is_null());
}

#[test]
fn a_half_written_service_toml_is_not_used_after_an_r_that_found_nothing_new() {
    let tree = Tree::new().options(["--log", "none", "--settle", "1s"]);
    let quick = "[restart]\ndelay = '1ms'\n";
    // What stands in between means `./run`.
    let entry = tree.service("web").run(NOTING).toml(&format!("command = 'sleep 1000'\n{quick}")).moved_in();
    tree.start();
    runs(&tree, "web", &["sleep", "1000"]);
    tree.letter("web", "r");
    eventually("r to be obeyed", || text(&tree.home("web").join("supervise.log")).contains("command r"));
    let toml = entry.join("service.toml");
    write(&toml, "", 0o644);
    stays(Duration::from_millis(30), "it runs", || tree.pid("web").is_some());
    tree.letter("web", "k");
    stays(Duration::from_millis(100), "not used", || tree.notes("web").is_empty());
    write(&toml, &format!("command = 'sleep 999'\n{quick}"), 0o644);
    runs(&tree, "web", &["sleep", "999"]);
    assert_eq!(tree.notes("web"), [""; 0]);
}

#[test]
fn a_start_that_fails_again_and_again_is_told_when_it_begins_and_when_it_ends() {
    let tree = Tree::running();
    let entry = tree.service("web").toml("command = './missing'\n[restart]\ndelay = '100ms'").moved_in();
    tree.becomes("web", "waiting");
    let lines = || text(&tree.home("web").join("supervise.log.wf")).lines().count();
    eventually("a warning", || lines() > 0);
    stays(Duration::from_secs(3), "told once", || lines() < 3);
    write(&entry.join("missing"), SLEEPER, 0o755);
    tree.up("web");
}

#[test]
fn the_stop_signal_is_what_d_sends() {
    let tree = Tree::running();
    tree.service("web").run(SLEEPER).toml("[stop]\nsignal = 'INT'").moved_in();
    tree.up("web");
    tree.letter("web", "d");
    tree.becomes("web", "down");
    assert_eq!(tree.state("web")["exits"][0]["signal"], 2);
}

#[test]
fn a_service_toml_that_is_no_text_or_no_file_is_rejected() {
    let tree = Tree::running();
    let bytes = tree.service("bytes").run(NOTING).dir();
    fs::write(bytes.join("service.toml"), b"command = '\xff'").expect("written");
    fs::rename(&bytes, tree.entry("bytes")).expect("moved in");
    let dir = tree.service("dir").run(NOTING).file("service.toml/within", "").dir();
    fs::rename(&dir, tree.entry("dir")).expect("moved in");
    tree.becomes("bytes", "rejected");
    tree.becomes("dir", "rejected");
    assert!(Path::new(&tree.entry("dir")).exists() && tree.notes("bytes").is_empty());
}

#[test]
fn another_stop_timeout_holds_at_once_also_for_a_stop_that_has_begun() {
    let tree = Tree::running();
    let entry = tree.service("web").run(DEAF).toml("[stop]\ntimeout = 'never'\n").moved_in();
    tree.up("web");
    eventually("it to be deaf", || !tree.notes("web").is_empty());
    tree.letter("web", "d");
    tree.becomes("web", "stopping");
    write(&entry.join("service.toml"), "[stop]\ntimeout = '200ms'\n", 0o644);
    tree.letter("web", "r");
    tree.becomes("web", "down");
    assert_eq!(tree.state("web")["exits"][0]["signal"], 9);
}
