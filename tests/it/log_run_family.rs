//! Section: daemontools' multilog, runit's svlogd and s6-log as they are: under load, ended, and with svtree killed or
//! upgraded meanwhile, they lose no line and double none.
//!
//! But for one: svlogd that is ended by TERM in the midst of a flood drops the last line of its buffer, behind a pipe as
//! well. It is ended at rest here.

use std::path::{Path, PathBuf};

use rustix::process::Signal;

use crate::harness::{Tree, alive, eventually, executable, logged_lines, logged_size, program, signal_pid};

/// Prints the numbers from 1 to 100,000 in a second or two, then rests.
const COUNTING: &str = "#!/bin/sh
i=0
while [ $i -lt 200 ]; do seq $((i * 1000 + 1)) $((i * 1000 + 1000)); sleep 0.02; i=$((i + 1)); done
echo >> \"$SVTREE_IT/notes/done\"
exec sleep 1000
";

/// runit's `svlogd`, in `$SVTREE_RUNIT_BIN` or PATH.
fn svlogd() -> Option<PathBuf> {
    let given = std::env::var_os("SVTREE_RUNIT_BIN").map(|dir| PathBuf::from(dir).join("svlogd"));
    given.filter(|path| executable(path)).or_else(|| program("svlogd"))
}

/// A module that counts into this logger, which writes `log/main` in small files and keeps them all.
fn counting(tree: &Tree, logger: &str) -> PathBuf {
    let log = format!("#!/bin/sh\nexec {logger} 2>> \"$SVTREE_IT/notes/complaints\"\n");
    let service = tree.service("web").run(COUNTING).script("log/run", &log);
    service.file("log/main/config", "s50000\nn0\n").moved_in()
}

/// Each number once and in order, once the program has printed them all.
#[track_caller]
fn is_whole(tree: &Tree, entry: &Path) {
    let main = entry.join("log/main");
    eventually("all to be printed", || !tree.notes("done").is_empty());
    eventually("all to be read", || logged_lines(&main).last().is_some_and(|line| line == "200000"));
    let wrong = logged_lines(&main)
        .iter()
        .zip(1..)
        .find(|(line, number)| **line != number.to_string())
        .map(|(line, number)| format!("{line} in the place of {number}"));
    assert_eq!(wrong, None);
    assert_eq!(logged_lines(&main).len(), 200_000);
}

/// Pauses the program, and waits until its logger has written all there is.
fn rest(tree: &Tree, entry: &Path) {
    tree.letter("web", "p");
    eventually("a pause", || tree.state("web")["paused"] == true);
    let (mut size, mut same) = (0, 0);
    eventually("nothing more to be written", || {
        let now = logged_size(&entry.join("log/main"));
        same = if now == size { same + 1 } else { 0 };
        size = now;
        same > 50
    });
}

fn survives_term_and_a_dead_svtree(logger: &str, at_rest: bool) {
    let tree = Tree::running();
    let entry = counting(&tree, logger);
    let web = tree.up("web");
    for _ in 0..10 {
        let log = tree.up("web/log");
        if at_rest {
            rest(&tree, &entry);
        }
        signal_pid(log, Signal::TERM);
        let log = tree.up_again("web/log", log);
        tree.kill_svtree();
        // Nobody but the program holds what it says now.
        signal_pid(log, Signal::TERM);
        eventually("the logger to end", || !alive(log));
        tree.start();
        tree.up_again("web/log", log);
        if at_rest {
            // What is written to a svtree that dies before it has read it is lost.
            tree.letter("web", "c");
            eventually("it to go on", || tree.state("web")["paused"] == false);
        }
        tree.kill_svtree();
        tree.start();
    }
    is_whole(&tree, &entry);
    assert_eq!(tree.up("web"), web, "one and the same program");
}

fn survives_an_upgrade(logger: &str, at_rest: bool) {
    let tree = Tree::running();
    let entry = counting(&tree, logger);
    let (web, log) = (tree.up("web"), tree.up("web/log"));
    for _ in 0..3 {
        tree.svtree(["upgrade"]).ok();
    }
    assert_eq!((tree.up("web"), tree.up("web/log")), (web, log), "the same processes");
    if at_rest {
        rest(&tree, &entry);
    }
    signal_pid(log, Signal::TERM);
    tree.up_again("web/log", log);
    tree.svtree(["upgrade"]).ok();
    tree.letter("web", "c");
    is_whole(&tree, &entry);
}

fn ends_with_all_that_was_said(logger: &str) {
    let tree = Tree::running();
    let entry = counting(&tree, logger);
    tree.up("web/log");
    eventually("all to be printed", || !tree.notes("done").is_empty());
    assert!(tree.stop().success());
    is_whole(&tree, &entry);
}

#[test]
fn multilog_loses_no_line_when_it_is_ended_and_svtree_killed() {
    let Some(multilog) = program("multilog") else { return };
    survives_term_and_a_dead_svtree(&format!("{} s100000 n1000 ./main", multilog.display()), false);
}

#[test]
fn multilog_loses_no_line_in_an_upgrade() {
    let Some(multilog) = program("multilog") else { return };
    survives_an_upgrade(&format!("{} s100000 n1000 ./main", multilog.display()), false);
}

#[test]
fn multilog_ends_with_all_that_was_said() {
    let Some(multilog) = program("multilog") else { return };
    ends_with_all_that_was_said(&format!("{} s100000 n1000 ./main", multilog.display()));
}

#[test]
fn svlogd_loses_no_line_when_it_is_ended_and_svtree_killed() {
    let Some(svlogd) = svlogd() else { return };
    survives_term_and_a_dead_svtree(&format!("{} ./main", svlogd.display()), true);
}

#[test]
fn svlogd_loses_no_line_in_an_upgrade() {
    let Some(svlogd) = svlogd() else { return };
    survives_an_upgrade(&format!("{} ./main", svlogd.display()), true);
}

#[test]
fn svlogd_ends_with_all_that_was_said() {
    let Some(svlogd) = svlogd() else { return };
    ends_with_all_that_was_said(&format!("{} ./main", svlogd.display()));
}

#[test]
fn s6_log_loses_no_line_when_it_is_ended_and_svtree_killed() {
    let Some(s6_log) = program("s6-log") else { return };
    survives_term_and_a_dead_svtree(&format!("{} n1000 s100000 ./main", s6_log.display()), false);
}

#[test]
fn s6_log_loses_no_line_in_an_upgrade() {
    let Some(s6_log) = program("s6-log") else { return };
    survives_an_upgrade(&format!("{} n1000 s100000 ./main", s6_log.display()), false);
}

#[test]
fn s6_log_ends_with_all_that_was_said() {
    let Some(s6_log) = program("s6-log") else { return };
    ends_with_all_that_was_said(&format!("{} n1000 s100000 ./main", s6_log.display()));
}
