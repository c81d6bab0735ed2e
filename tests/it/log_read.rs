//! `svtree logs`, and what is kept of a program's last words.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::sync::mpsc::channel;
use std::thread;

use crate::harness::{PATIENCE, SVTREE, Tree, eventually, spawn};

/// A log as the family writes it.
fn log(tree: &Tree, name: &str, files: &[(&str, &str)]) {
    let dir = tree.path("logs").join(name);
    fs::create_dir_all(&dir).expect("made");
    for (file, text) in files {
        fs::write(dir.join(file), text).expect("written");
    }
}

fn logs(tree: &Tree, words: &[&str]) -> String {
    tree.svtree(["--logs", "logs", "logs"].iter().chain(words).copied()).ok()
}

fn tree() -> Tree {
    let tree = Tree::new();
    log(
        &tree,
        "web",
        &[
            ("@40000000690000000.s", "not a file of a log\n"),
            ("@400000006b02af1d00000000.s", "2026-11-22T09:00:00.000000Z one\n2026-11-22T09:00:02.000000Z three\n"),
            ("current", "2026-11-22T09:00:04.000000Z five\nand more\n2026-11-22T09:00:06.000000Z six"),
        ],
    );
    // svlogd -tt and tai64n.
    log(&tree, "group/db", &[("current", "2026-11-22_09:00:01.00000 two\n@400000006b02af1d00000000 four\n")]);
    tree
}

#[test]
fn many_logs_are_merged_by_time_over_all_files_and_kinds_of_stamps() {
    let tree = tree();
    let lines = logs(&tree, &[]);
    let order: Vec<&str> = lines.lines().map(|line| line.rsplit(' ').next().expect("a word")).collect();
    assert_eq!(order, ["one", "two", "three", "four", "five", "more", "six"], "{lines}");
    assert!(lines.starts_with("web: 2026-11-22T09:00:00.000000Z one\ngroup/db: 2026-11-22_09:00:01.00000 two\n"));
}

#[test]
fn one_log_is_shown_as_it_stands_and_the_last_lines_are_the_last() {
    let tree = tree();
    let web = logs(&tree, &["web"]);
    assert!(web.starts_with("2026-11-22T09:00:00.000000Z one\n") && web.ends_with(" six\n"), "{web}");
    assert_eq!(logs(&tree, &["web", "-n", "3"]).lines().count(), 4, "three lines, and one that has not ended");
    assert_eq!(logs(&tree, &["group/*", "-n", "1"]), "@400000006b02af1d00000000 four\n");
    assert_eq!(logs(&tree, &["-n", "0"]), "");
}

#[test]
fn lines_are_chosen_by_time_and_by_expression() {
    let tree = tree();
    let since = logs(&tree, &["--since", "2026-11-22T09:00:03Z"]);
    assert!(!since.contains("three") && since.contains("four") && since.contains("and more"), "{since}");
    assert_eq!(logs(&tree, &["web", "--grep", "t[h]ree|one"]).lines().count(), 2);
    assert_eq!(logs(&tree, &["web", "--grep", "n", "-n", "1"]), "and more\n");
    let wrong = tree.svtree(["--logs", "logs", "logs", "nobody"]).failed(111);
    assert!(wrong.contains("logs nobody: no log of it in logs"), "{wrong}");
    tree.svtree(["logs", "--grep", "("]).failed(100);
    tree.svtree(["logs", "--since", "soon"]).failed(100);
}

#[test]
fn what_comes_is_shown_over_rotation_and_from_modules_that_come_later() {
    let tree = Tree::new().options(["--log", "file"]);
    tree.start();
    crate::harness::fifo(&tree.path("notes/go"));
    let run = "#!/bin/sh\nexec cat <../../notes/go\n";
    let toml = "[log]\nmax_size = \"4KiB\"\ntimestamps = \"none\"\nkeep = 1000\n";
    tree.service("web").run(run).toml(toml).moved_in();
    tree.up("web");
    let mut go = fs::OpenOptions::new().read(true).write(true).open(tree.path("notes/go")).expect("opened");
    let mut say = |number: usize| {
        std::io::Write::write_all(&mut go, format!("{number:0100}\n").as_bytes()).expect("written");
    };
    say(0);
    eventually("the log", || tree.path("logs/web/current").exists());
    let mut command = tree.command([SVTREE, "--status", "status", "--logs", "logs", "logs", "-f"]);
    let mut child = spawn(command.stdout(Stdio::piped())).expect("it starts");
    let (sender, lines) = channel();
    let out = child.stdout.take().expect("its output");
    let reader = thread::spawn(move || {
        for line in BufReader::new(out).lines().map_while(Result::ok) {
            let _ = sender.send(line);
        }
    });
    let expect = |line: &str| {
        let got = lines.recv_timeout(PATIENCE).expect("a line");
        assert!(got.ends_with(line), "{got}, not {line}");
    };
    expect(&format!("{:0100}", 0));
    for number in 1..300 {
        say(number);
    }
    for number in 1..300 {
        expect(&format!("{number:0100}"));
    }
    tree.service("later").run("#!/bin/sh\necho here\nexec sleep 1000\n").moved_in();
    expect(" here");
    child.kill().expect("killed");
    child.wait().expect("its end");
    reader.join().expect("its end");
}

#[test]
fn logs_of_modules_that_are_gone_are_read() {
    let tree = Tree::new().options(["--log", "file"]);
    tree.start();
    tree.service("web").run("#!/bin/sh\necho was here\nexec sleep 1000\n").moved_in();
    eventually("its line", || logs(&tree, &[]).ends_with(" was here\n"));
    tree.move_out("web");
    tree.goes("web");
    assert!(logs(&tree, &["web"]).ends_with(" was here\n"));
}

#[test]
fn why_a_program_died_is_shown_in_its_own_words() {
    let tree = Tree::new().options(["--log", "file"]);
    tree.start();
    let run = "#!/bin/sh\nseq 100\necho \"fatal: no \\033 more\" >&2\nexit 3\n";
    tree.service("web").run(run).toml("[restart]\nwhen = \"never\"\n").moved_in();
    tree.becomes("web", "failed");
    let exits = || -> serde_json::Value {
        let json = tree.svtree(["status", "web", "--json"]).ok();
        serde_json::from_str::<serde_json::Value>(&json).expect("JSON")[0]["exits"].clone()
    };
    eventually("its last lines", || exits()[0]["last_lines"].as_array().is_some_and(|lines| lines.len() == 40));
    assert_eq!(exits()[0]["last_lines"][0], "62");
    assert_eq!(exits()[0]["last_lines"][38], "100");
    let shown = tree.svtree(["status", "web"]).ok();
    assert!(shown.contains("\n  100\n  fatal: no \\x1b more\n"), "{shown}");
    // Those of an earlier death stay with it.
    tree.letter("web", "o");
    eventually("the second death", || exits()[1]["last_lines"].is_array() && exits()[0]["last_lines"].is_array());
}

/// The last lines of an exit, as `svtree status --json` has them.
fn last_lines(tree: &Tree, name: &str, exit: usize) -> Vec<String> {
    let json = tree.svtree(["status", name, "--json"]).ok();
    let lines = serde_json::from_str::<serde_json::Value>(&json).expect("JSON")[0]["exits"][exit]["last_lines"].take();
    serde_json::from_value(lines).unwrap_or_default()
}

#[test]
fn state_json_has_what_the_program_said_before_the_last_exit() {
    let tree = Tree::new().options(["--log", "file"]);
    tree.start();
    let run = "#!/bin/sh\necho \"fatal: $$\" >&2\nexit 3\n";
    tree.service("web").run(run).toml("[restart]\nwhen = \"never\"\n").moved_in();
    let says_so = || {
        let exit = tree.state("web")["exits"][0].clone();
        exit["last_lines"]
            .as_array()
            .is_some_and(|lines| lines.last() == Some(&format!("fatal: {}", exit["pid"]).into()))
    };
    eventually("its last words", || tree.path("status/web/state.json").exists() && says_so());
    tree.letter("web", "o");
    eventually("those of the next one", || {
        tree.state("web")["exits"].as_array().is_some_and(|all| all.len() == 2) && says_so()
    });
    assert!(tree.state("web")["exits"][1]["last_lines"].is_null());
    // Another svtree knows them, too.
    tree.kill_svtree();
    let written = || fs::metadata(tree.path("status/web/state.json")).and_then(|file| file.modified()).ok();
    let before = written();
    tree.start();
    eventually("the last words", || written() != before && says_so());
}

#[test]
fn the_last_words_of_what_is_shown_are_kept_as_well() {
    let tree = Tree::new().options(["--log", "inherit"]);
    tree.start();
    let run = "#!/bin/sh\nseq 100\nprintf 'no end'\nexit 3\n";
    tree.service("web").run(run).toml("[restart]\nwhen = \"never\"\n").moved_in();
    tree.becomes("web", "failed");
    let expected: Vec<String> = (62..=100).map(|number| number.to_string()).chain(["no end".to_owned()]).collect();
    eventually("its last lines", || last_lines(&tree, "web", 0) == expected);
}

#[test]
fn the_last_words_of_a_module_with_a_log_run_are_found_in_its_log() {
    let tree = Tree::new();
    tree.start();
    let run = "#!/bin/sh\nexec 2>&1\necho one\necho \"fatal\" >&2\nexit 3\n";
    let service = tree.service("web").run(run).toml("[restart]\nwhen = \"never\"\n");
    service.script("log/run", &format!("#!/bin/sh\nexec {SVTREE} log ./main\n")).moved_in();
    tree.becomes("web", "failed");
    eventually("its last lines", || last_lines(&tree, "web", 0) == ["one", "fatal"]);
    assert!(tree.svtree(["status", "web"]).ok().contains("\n  one\n  fatal\n"));
}
