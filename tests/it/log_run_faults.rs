//! Section: what happens to a module and its logger when either goes, is replaced or damaged, and when svtree ends.

use std::fs;
use std::time::Duration;

use rustix::process::Signal;

use crate::harness::{SLEEPER, Service, Tree, alive, append, eventually, remove, signal_pid, stays, within, write};

/// A logger that ends by itself once it was told that nothing more comes.
const LOGGER: &str = "#!/bin/sh\nexec cat >> \"$SVTREE_IT/notes/lines\"\n";

/// A program that counts without end, and says so when it is told to end.
const COUNTING: &str = "#!/bin/sh
trap 'echo last; exit 0' TERM
i=0
while :; do i=$((i + 1)); echo $i; sleep 0.01; done
";

fn counting<'a>(tree: &'a Tree, name: &str) -> Service<'a> {
    tree.service(name).run(COUNTING).script("log/run", LOGGER)
}

/// Waits until the log has grown by some lines.
#[track_caller]
fn grows(tree: &Tree) {
    let before = tree.notes("lines").len();
    eventually("more lines", || tree.notes("lines").len() > before + 10);
}

/// The lines of so many runs of [`COUNTING`], each from 1 on without a gap, and with its last word but for those that were
/// killed.
#[track_caller]
fn has_no_gap(tree: &Tree) {
    let mut next = 1;
    for line in tree.notes("lines") {
        if line == "last" || line == "1" && next > 1 {
            next = 1;
        }
        if line != "last" {
            assert_eq!(line, next.to_string());
            next += 1;
        }
    }
}

#[test]
fn a_module_of_a_group_and_a_linked_one_have_loggers_as_well() {
    let tree = Tree::running();
    tree.service("group").file("group.toml", "").script("web/run", COUNTING).script("web/log/run", LOGGER).moved_in();
    let log = tree.up("group/web/log");
    grows(&tree);
    remove(&tree.entry("group"));
    tree.goes("group");
    assert!(!alive(log));
    assert_eq!(tree.notes("lines").last().map(String::as_str), Some("last"));
    has_no_gap(&tree);
    fs::remove_file(tree.path("notes/lines")).expect("removed");
    let dir = counting(&tree, "linked").linked_in();
    tree.up("linked/log");
    grows(&tree);
    fs::remove_file(tree.entry("linked")).expect("unlinked");
    tree.goes("linked");
    assert_eq!(tree.notes("lines").last().map(String::as_str), Some("last"));
    assert!(dir.join("log/supervise/ok").exists());
}

#[test]
fn a_module_of_a_group_may_be_called_log_and_is_none() {
    let tree = Tree::running();
    tree.service("group").file("group.toml", "").script("web/run", SLEEPER).script("log/run", SLEEPER).moved_in();
    let log = tree.up("group/log");
    assert_eq!(fs::read_link(format!("/proc/{log}/fd/0")).expect("its input").to_str(), Some("/dev/null"));
    tree.kill_svtree();
    remove(&tree.entry("group"));
    tree.start();
    tree.goes("group");
    assert!(!alive(log));
}

#[test]
fn down_finish_and_service_toml_of_a_logger_are_its_own() {
    let tree = Tree::running();
    let service = counting(&tree, "web")
        .file("log/down", "")
        .script("log/finish", "#!/bin/sh\necho $1 >> \"$SVTREE_IT/notes/finish\"\n");
    service.file("log/service.toml", "environment = { A = 'b' }\n").moved_in();
    tree.up("web");
    tree.becomes("web/log", "down");
    assert!(tree.notes("lines").is_empty());
    tree.letter("web/log", "u");
    let log = tree.up("web/log");
    assert!(crate::harness::environment(log).contains(&"A=b".to_owned()));
    grows(&tree);
    signal_pid(log, Signal::TERM);
    tree.up_again("web/log", log);
    assert_eq!(tree.notes("finish"), ["-1"]);
}

#[test]
fn a_log_run_that_is_half_written_is_never_executed() {
    let tree = Tree::new().options(["--log", "none", "--settle", "1s"]);
    let entry = tree.sleeper("web");
    tree.start();
    tree.up("web");
    let run = entry.join("log/run");
    write(&run, "#!/bin/sh\necho half >> \"$SVTREE_IT/notes/half\"\n", 0o755);
    for _ in 0..20 {
        stays(Duration::from_millis(50), "it is not started", || !tree.home("web/log/status").exists());
        append(&run, "# more\n");
    }
    append(&run, "echo whole >> \"$SVTREE_IT/notes/half\"\nexec cat > /dev/null\n");
    eventually("it to start", || !tree.notes("half").is_empty());
    eventually("the whole of it", || tree.notes("half") == ["half", "whole"]);
}

#[test]
fn a_logger_that_is_replaced_under_its_module_loses_nothing() {
    let tree = Tree::running();
    let entry = counting(&tree, "web").moved_in();
    let (web, log) = (tree.up("web"), tree.up("web/log"));
    grows(&tree);
    // Idle when it is told to end, so that this one loses nothing by that: it has read all there is.
    tree.letter("web", "p");
    eventually("a rest", || tree.state("web")["paused"] == true);
    let other = tree.service("other").script("log/run", LOGGER).dir();
    fs::rename(entry.join("log"), tree.path("elsewhere/old")).expect("moved away");
    fs::rename(other.join("log"), entry.join("log")).expect("moved in");
    within(Duration::from_secs(15), "the other one", || tree.pid("web/log").is_some_and(|pid| pid != log));
    tree.letter("web", "c");
    assert_eq!(tree.up("web"), web);
    grows(&tree);
    has_no_gap(&tree);
}

#[test]
fn a_module_and_its_logger_are_replaced_together_and_the_old_logger_has_the_last_word() {
    let tree = Tree::running();
    counting(&tree, "web").moved_in();
    let (web, log) = (tree.up("web"), tree.up("web/log"));
    grows(&tree);
    let new = "#!/bin/sh\necho new\nexec sleep 1000\n";
    tree.service("web").run(new).script("log/run", LOGGER).moved_in();
    tree.up_again("web", web);
    tree.up_again("web/log", log);
    eventually("the new one to be heard", || tree.notes("lines").last().is_some_and(|line| line == "new"));
    let lines = tree.notes("lines");
    assert_eq!(lines[lines.len() - 2], "last");
}

#[test]
fn after_x_of_its_module_a_logger_runs_on() {
    let tree = Tree::running();
    counting(&tree, "web").moved_in();
    let log = tree.up("web/log");
    tree.up("web");
    tree.letter("web", "dx");
    eventually("it to leave", || tree.called("svok", ["web"]).code == Some(100));
    eventually("the last word", || tree.notes("lines").last().is_some_and(|line| line == "last"));
    stays(Duration::from_millis(300), "it runs on", || tree.pid("web/log") == Some(log));
    tree.svtree(["rescan"]).ok();
    tree.up("web");
    grows(&tree);
    assert_eq!(tree.up("web/log"), log);
}

#[test]
fn a_program_that_ends_while_svtree_is_dead_is_read_to_its_last_line() {
    let tree = Tree::running();
    counting(&tree, "web").moved_in();
    let (web, log) = (tree.up("web"), tree.up("web/log"));
    // The logger is busy elsewhere, and reads what is left once nobody but it has it.
    signal_pid(log, Signal::STOP);
    tree.kill_svtree();
    signal_pid(web, Signal::TERM);
    eventually("it to end", || !alive(web));
    signal_pid(log, Signal::CONT);
    eventually("the last word", || tree.notes("lines").last().is_some_and(|line| line == "last"));
    tree.start();
    tree.up_again("web", web);
    grows(&tree);
    has_no_gap(&tree);
}

#[test]
fn told_to_end_before_it_has_begun_everything_it_ends_what_a_dead_svtree_left() {
    for _ in 0..5 {
        let tree = Tree::running();
        counting(&tree, "web").moved_in();
        let (web, log) = (tree.up("web"), tree.up("web/log"));
        tree.kill_svtree();
        tree.start();
        // A module waits until its logger has begun.
        eventually("the logger to be taken over", || tree.called("svok", ["web/log"]).code == Some(0));
        assert!(tree.stop().success());
        assert!(!alive(web) && !alive(log));
        assert_eq!(tree.notes("lines").last().map(String::as_str), Some("last"));
    }
}

#[test]
fn left_and_taken_over_both_are_the_same_processes() {
    let tree = Tree::running();
    counting(&tree, "web").moved_in();
    let pids = (tree.up("web"), tree.up("web/log"));
    tree.svtree(["leave"]).ok();
    assert!(tree.ended().success());
    grows(&tree);
    tree.start();
    eventually("both to be taken over", || ["web", "web/log"].iter().all(|name| tree.state(name)["adopted"] == true));
    assert_eq!((tree.up("web"), tree.up("web/log")), pids);
    grows(&tree);
    assert!(tree.stop().success());
    assert_eq!(tree.notes("lines").last().map(String::as_str), Some("last"));
    has_no_gap(&tree);
}

#[test]
fn a_module_and_a_logger_that_were_removed_while_svtree_was_dead_are_ended_in_their_order() {
    let tree = Tree::running();
    let entry = counting(&tree, "web").moved_in();
    let pids = [tree.up("web"), tree.up("web/log")];
    grows(&tree);
    tree.kill_svtree();
    remove(&entry);
    tree.start();
    tree.goes("web");
    assert!(!pids.iter().any(|pid| alive(*pid)));
    assert_eq!(tree.notes("lines").last().map(String::as_str), Some("last"));
    has_no_gap(&tree);
}

#[test]
fn a_logger_that_was_taken_away_while_svtree_was_dead_stays_until_its_module_is_started_anew() {
    let tree = Tree::running();
    let entry = counting(&tree, "web").moved_in();
    let (web, log) = (tree.up("web"), tree.up("web/log"));
    tree.kill_svtree();
    fs::rename(entry.join("log"), tree.path("elsewhere/log")).expect("moved away");
    tree.start();
    eventually("both to be taken over", || ["web", "web/log"].iter().all(|name| tree.state(name)["adopted"] == true));
    grows(&tree);
    assert_eq!((tree.up("web"), tree.up("web/log")), (web, log));
    tree.letter("web", "t");
    tree.up_again("web", web);
    tree.goes("web/log");
    assert_eq!(tree.notes("lines").last().map(String::as_str), Some("last"));
    has_no_gap(&tree);
}

#[test]
fn a_logger_that_still_reads_goes_on_over_an_upgrade() {
    let tree = Tree::running();
    let slow = "#!/bin/sh\nwhile [ ! -e \"$SVTREE_IT/notes/go\" ]; do sleep 0.02; done\nexec cat >> \"$SVTREE_IT/notes/lines\"\n";
    let entry = tree.service("web").run(COUNTING).script("log/run", slow).moved_in();
    let web = tree.up("web");
    tree.up("web/log");
    remove(&entry);
    eventually("the module to be gone", || !alive(web) && !tree.home("web/status").exists());
    tree.svtree(["upgrade"]).ok();
    stays(Duration::from_millis(300), "the logger waits", || tree.pid("web/log").is_some());
    write(&tree.path("notes/go"), "", 0o644);
    tree.goes("web");
    assert_eq!(tree.notes("lines").last().map(String::as_str), Some("last"));
    has_no_gap(&tree);
}

#[test]
fn a_second_term_skips_no_logger_and_quit_does_not_wait_for_one() {
    let slow = "#!/bin/sh\nsleep 1\nexec cat >> \"$SVTREE_IT/notes/lines\"\n";
    let tree = Tree::running();
    tree.service("web").run(COUNTING).script("log/run", slow).moved_in();
    tree.up("web");
    tree.up("web/log");
    let svtree = tree.pid_of_svtree();
    // It may have ended before the second one, and nobody has collected it.
    (0..2).for_each(|_| signal_pid(svtree, Signal::TERM));
    assert!(tree.ended().success());
    assert_eq!(tree.notes("lines").last().map(String::as_str), Some("last"));
    let tree = Tree::running();
    tree.service("web")
        .run(SLEEPER)
        .script("log/run", "#!/bin/sh\ntrap '' TERM\nwhile :; do sleep 0.1; done\n")
        .moved_in();
    tree.up("web");
    tree.up("web/log");
    tree.signal_svtree(Signal::QUIT);
    within(Duration::from_secs(10), "svtree to end", || !tree.is_running());
}

#[test]
fn a_logger_that_cannot_run_keeps_its_module_neither_from_running_nor_from_ending() {
    let tree = Tree::running();
    for (name, script) in [("exits", "#!/bin/sh\nexit 1\n"), ("none", "#!/nowhere/sh\n")] {
        tree.service(name).run(COUNTING).script("log/run", script).moved_in();
        tree.up(name);
    }
    eventually("the reason", || {
        tree.state("none/log")["reason"].as_str().is_some_and(|reason| reason.contains("interpreter"))
    });
    tree.becomes("exits/log", "waiting");
    within(Duration::from_secs(15), "all to end", || tree.stop().success());
}

#[test]
fn a_fifo_that_is_damaged_is_made_again_and_lines_flow_on() {
    // Replaced in one step: svtree would make another one in between.
    let replaced = "mkfifo elsewhere/other && mv elsewhere/other status/web/output";
    for damage in ["rm status/web/output", "mv status/web/output elsewhere", replaced] {
        let tree = Tree::running();
        counting(&tree, "web").moved_in();
        let (web, log) = (tree.up("web"), tree.up("web/log"));
        grows(&tree);
        tree.ran(["sh", "-c", damage]).ok();
        grows(&tree);
        assert_eq!((tree.up("web"), tree.up("web/log")), (web, log), "{damage}");
        // The next program writes to the new one, and its logger follows.
        tree.letter("web", "t");
        tree.up_again("web", web);
        grows(&tree);
        has_no_gap(&tree);
        remove(&tree.entry("web"));
        tree.goes("web");
        assert_eq!(tree.notes("lines").last().map(String::as_str), Some("last"), "{damage}");
        has_no_gap(&tree);
    }
}

#[test]
fn a_logger_that_is_started_anew_after_the_fifo_has_lost_its_name_reads_what_its_module_says() {
    let tree = Tree::running();
    let entry = counting(&tree, "web").moved_in();
    let (web, log) = (tree.up("web"), tree.up("web/log"));
    grows(&tree);
    remove(&tree.home("web"));
    eventually("a new FIFO", || tree.home("web/output").exists() && tree.pid("web/log") == Some(log));
    let again = |log: i32| {
        signal_pid(log, Signal::KILL);
        let log = tree.up_again("web/log", log);
        grows(&tree);
        log
    };
    let log = again(log);
    // What is known of it goes over to the next svtree.
    tree.svtree(["upgrade"]).ok();
    let log = again(log);
    // Its next program says it through the new one.
    tree.letter("web", "t");
    tree.up_again("web", web);
    tree.up_again("web/log", log);
    grows(&tree);
    remove(&entry);
    tree.goes("web");
    let lines = tree.notes("lines");
    assert_eq!(lines.iter().filter(|line| *line == "last").count(), 2);
    assert_eq!(lines.last().map(String::as_str), Some("last"));
}

/// Says more than a logger reads at once, and less than a pipe holds.
const TALKING: &str = "#!/bin/sh\nseq 5000\necho >> \"$SVTREE_IT/notes/said\"\nexec sleep 1000\n";

/// Reads nothing until there is a file.
const LATE: &str =
    "#!/bin/sh\nwhile [ ! -e \"$SVTREE_IT/notes/go\" ]; do sleep 0.02; done\nexec cat >> \"$SVTREE_IT/notes/lines\"\n";

#[test]
fn what_a_module_said_last_is_there_for_whichever_logger_of_it_comes_then() {
    for svtree_dies in [false, true] {
        let tree = Tree::running();
        tree.service("web").run(TALKING).script("log/run", LATE).moved_in();
        let web = tree.up("web");
        let log = tree.up("web/log");
        eventually("it to have said all", || !tree.notes("said").is_empty());
        tree.move_out("web");
        eventually("it to have ended", || !alive(web));
        if svtree_dies {
            tree.kill_svtree();
            tree.start();
        } else {
            eventually("its module to be gone", || !tree.home("web/status").exists());
            signal_pid(log, Signal::KILL);
        }
        write(&tree.path("notes/go"), "", 0o644);
        tree.goes("web");
        let lines = tree.notes("lines");
        assert!(lines.iter().cloned().eq((1..=5000).map(|line| line.to_string())), "{} lines", lines.len());
    }
}
