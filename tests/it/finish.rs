//! Section: `finish`, which runs after each end of the program.

use std::fs;
use std::time::Duration;

use crate::harness::{NOTING, ONE_COPY, SLEEPER, Tree, alive, eventually, stays, text};

/// Notes its arguments in `finish`.
const FINISH: &str = "#!/bin/sh\necho \"$# $*\" >> \"$SVTREE_IT/notes/finish\"\n";

#[test]
fn finish_gets_the_exit_code_and_the_low_byte_of_the_wait_status() {
    let tree = Tree::running();
    let once = |name: &str, script: &str| {
        let toml = "[restart]\nwhen = 'never'";
        tree.service(name).run(script).toml(toml).script("finish", FINISH).moved_in();
        eventually(format!("finish of {name}"), || !tree.notes("finish").is_empty());
        eventually(format!("{name} to rest"), || {
            let state = tree.state(name);
            state["state"] == "down" || state["state"] == "failed"
        });
        let noted = tree.notes("finish");
        fs::remove_file(tree.path("notes/finish")).expect("removed");
        noted
    };
    assert_eq!(once("zero", "#!/bin/sh\nexit 0\n"), ["2 0 0"]);
    assert_eq!(once("three", "#!/bin/sh\nexit 3\n"), ["2 3 0"]);
    assert_eq!(once("killed", "#!/bin/sh\nkill -KILL $$\n"), ["2 -1 9"]);
}

#[test]
fn finish_runs_before_the_program_is_started_again_and_after_d() {
    let tree = Tree::running();
    let run =
        NOTING.replace("echo $$ >> \"$SVTREE_IT/notes/$SVTREE_MODULE\"", "echo run >> \"$SVTREE_IT/notes/finish\"");
    tree.service("web").run(&run).toml("[restart]\ndelay = '10ms'").script("finish", FINISH).moved_in();
    let pid = tree.up("web");
    eventually("the start", || tree.notes("finish") == ["run"]);
    tree.letter("web", "k");
    tree.up_again("web", pid);
    eventually("finish, then run", || tree.notes("finish") == ["run", "2 -1 9", "run"]);
    tree.letter("web", "d");
    tree.becomes("web", "down");
    assert_eq!(tree.notes("finish"), ["run", "2 -1 9", "run", "2 -1 15"]);
}

#[test]
fn while_finish_runs_the_module_is_finishing_and_its_pid_is_0() {
    let tree = Tree::running();
    let entry = tree
        .service("web")
        .run(SLEEPER)
        .script("finish", "#!/bin/sh\npwd -P >> \"$SVTREE_IT/notes/finish\"\nuntil [ -e go ]; do sleep 0.02; done\n")
        .moved_in();
    let pid = tree.up("web");
    tree.letter("web", "d");
    tree.becomes("web", "finishing");
    assert_eq!(tree.pid("web"), None);
    eventually("stat", || text(&entry.join("supervise/stat")) == "finish\n");
    eventually("runit's status", || tree.view("web")[19] == 2);
    eventually("its directory", || !tree.notes("finish").is_empty());
    assert_eq!(tree.notes("finish"), [fs::canonicalize(&entry).expect("it").display().to_string()]);
    tree.letter("web", "u");
    stays(Duration::from_millis(200), "never both", || tree.pid("web").is_none());
    fs::write(entry.join("go"), "").expect("written");
    tree.up_again("web", pid);
}

#[test]
fn a_finish_that_cannot_be_executed_holds_up_nothing() {
    let tree = Tree::running();
    let toml = "[restart]\ndelay = '10ms'";
    tree.service("bad").run(SLEEPER).toml(toml).script("finish", "#!/no/such/interpreter\n").moved_in();
    let pid = tree.up("bad");
    tree.letter("bad", "k");
    tree.up_again("bad", pid);
    tree.service("mode").run(SLEEPER).toml(toml).file("finish", FINISH).moved_in();
    let pid = tree.up("mode");
    tree.letter("mode", "k");
    tree.up_again("mode", pid);
    assert!(tree.notes("finish").is_empty());
}

#[test]
fn a_retired_module_runs_its_finish() {
    let tree = Tree::running();
    tree.service("web").run(SLEEPER).script("finish", FINISH).moved_in();
    tree.up("web");
    tree.move_out("web");
    tree.goes("web");
    assert_eq!(tree.notes("finish"), ["2 -1 15"]);
}

#[test]
fn a_finish_that_hangs_can_be_ended_by_quit() {
    let tree = Tree::running();
    let hang = "#!/bin/sh\ntrap '' TERM\necho in >> \"$SVTREE_IT/notes/finish\"\nsleep 1000\n";
    tree.service("web").run(SLEEPER).toml("[stop]\ntimeout = '500ms'").script("finish", hang).moved_in();
    tree.up("web");
    tree.letter("web", "d");
    eventually("finish to hang", || !tree.notes("finish").is_empty());
    tree.signal_svtree(rustix::process::Signal::QUIT);
    assert_eq!(tree.ended().code(), Some(0));
}

#[test]
fn the_program_never_runs_beside_a_finish_that_was_taken_over() {
    let tree = Tree::running();
    let finish = "#!/bin/sh\nexec 9>> \"$SVTREE_IT/notes/web.lock\"\n\
        flock -n 9 || echo finish >> \"$SVTREE_IT/notes/twice\"\n\
        echo $$ >> \"$SVTREE_IT/notes/finish\"\nexec sleep 2\n";
    tree.service("web").run(ONE_COPY).toml("[restart]\ndelay = '10ms'").script("finish", finish).moved_in();
    let pid = tree.up("web");
    tree.noted_pids("web", 1);
    tree.letter("web", "k");
    tree.becomes("web", "finishing");
    let finish = tree.noted_pids("finish", 1)[0];
    tree.kill_svtree();
    assert!(alive(finish));
    tree.start();
    tree.up_again("web", pid);
    tree.noted_pids("web", 2);
    assert!(!alive(finish));
    assert_eq!(tree.notes("twice"), [""; 0]);
    assert_eq!(tree.notes("finish").len(), 1, "it ran once for one end");
}
