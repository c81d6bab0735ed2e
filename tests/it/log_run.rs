//! Section: `log/run`: a logger beside its module, from its start to its end.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::time::Duration;

use crate::harness::{
    SLEEPER, Service, Tree, alive, environment, eventually, has_open, is_root, remove, replace, skip, stays, ticks,
    write,
};

/// A logger that ends by itself once it was told that nothing more comes.
const LOGGER: &str = "#!/bin/sh\nexec cat >> \"$SVTREE_IT/notes/lines\"\n";

/// A program that says so when it is told to end.
const LAST_WORDS: &str = "#!/bin/sh\ntrap 'echo last; exit 0' TERM\necho first\nwhile :; do sleep 0.02; done\n";

fn logged<'a>(tree: &'a Tree, name: &str, run: &str) -> Service<'a> {
    tree.service(name).run(run).script("log/run", LOGGER)
}

#[track_caller]
fn says(tree: &Tree, lines: &[&str]) {
    eventually(format!("{lines:?} in the log"), || tree.notes("lines") == lines);
}

#[test]
fn what_run_prints_is_read_by_log_run_which_is_a_module_of_its_own() {
    let tree = Tree::new().options(["--log", "inherit"]);
    let run = "#!/bin/sh\necho out\necho err >&2\nexec sleep 1000\n";
    logged(&tree, "web", run).moved_in();
    tree.start();
    let (web, log) = (tree.up("web"), tree.up("web/log"));
    says(&tree, &["out"]);
    eventually("standard error to go where svtree's goes", || tree.stderr().contains("err\n"));
    assert_eq!(tree.state("web/log")["name"], "web/log");
    assert!(environment(log).contains(&"SVTREE_MODULE=web/log".to_owned()));
    assert_eq!(fs::read_link(format!("/proc/{log}/cwd")).expect("a directory"), tree.entry("web/log"));
    has_open(web, &[0, 1, 2]);
    has_open(log, &[0, 1, 2]);
    assert_eq!(fs::read_link(format!("/proc/{web}/fd/0")).expect("its input").to_str(), Some("/dev/null"));
    let same = [format!("/proc/{web}/fd/1"), format!("/proc/{log}/fd/0")]
        .map(|path| fs::metadata(path).expect("the FIFO").ino());
    let fifo = tree.home("web/output").symlink_metadata().expect("the FIFO");
    assert_eq!(same, [fifo.ino(); 2]);
    assert!(fifo.file_type().is_fifo() && fifo.mode() & 0o777 == 0o600);
}

#[test]
fn the_last_line_printed_on_term_is_in_the_log_when_the_module_is_removed() {
    let tree = Tree::running();
    let entry = logged(&tree, "web", LAST_WORDS).moved_in();
    says(&tree, &["first"]);
    remove(&entry);
    tree.goes("web");
    assert_eq!(tree.notes("lines"), ["first", "last"]);
}

#[test]
fn at_shutdown_loggers_end_last_and_with_all_that_was_said() {
    let tree = Tree::running();
    // A logger that is slow: it has read nothing when its module is gone.
    let slow = "#!/bin/sh\nsleep 0.5\nexec cat >> \"$SVTREE_IT/notes/lines\"\n";
    let run = LAST_WORDS.replace("echo first\n", "echo first\necho it has > \"$SVTREE_IT/notes/said\"\n");
    tree.service("web").run(&run).script("log/run", slow).moved_in();
    eventually("its first line", || tree.notes("said") == ["it has"]);
    tree.up("web/log");
    assert!(tree.stop().success());
    assert_eq!(tree.notes("lines"), ["first", "last"]);
    assert!(!tree.home("web").exists());
}

#[test]
fn a_logger_is_started_before_its_module() {
    let tree = Tree::new();
    let run = "#!/bin/sh\nod -An -j16 -N4 -tu4 \"$SVTREE_IT/status/$SVTREE_MODULE/log/status\" \
               >> \"$SVTREE_IT/notes/pids\"\nexec sleep 1000\n";
    for name in ["a", "b", "c"] {
        logged(&tree, name, run).moved_in();
    }
    tree.start();
    let mut pids: Vec<i32> = ["a/log", "b/log", "c/log"].iter().map(|name| tree.up(name)).collect();
    eventually("three", || tree.notes("pids").len() == 3);
    let mut seen: Vec<i32> = tree.notes("pids").iter().map(|line| line.trim().parse().expect("a pid")).collect();
    pids.sort_unstable();
    seen.sort_unstable();
    assert_eq!(seen, pids);
}

#[test]
fn a_logger_that_reads_nothing_is_told_to_end() {
    let tree = Tree::running();
    tree.service("web").run(SLEEPER).script("log/run", SLEEPER).moved_in();
    let log = tree.up("web/log");
    tree.up("web");
    assert!(tree.stop().success());
    assert!(!alive(log));
}

#[test]
fn a_program_without_its_logger_is_not_ended_by_a_sigpipe() {
    let tree = Tree::running();
    let run = "#!/bin/sh\nwhile :; do echo line || exit 7; sleep 0.02; done\n";
    logged(&tree, "web", run).moved_in();
    let (web, log) = (tree.up("web"), tree.up("web/log"));
    tree.letter("web/log", "d");
    tree.becomes("web/log", "down");
    assert!(!alive(log));
    stays(Duration::from_millis(300), "it runs on", || tree.pid("web") == Some(web));
    let before = tree.notes("lines").len();
    tree.letter("web/log", "u");
    eventually("what was said meanwhile", || tree.notes("lines").len() > before + 10);
}

#[test]
fn dev_stdout_opens() {
    let tree = Tree::running();
    logged(&tree, "web", "#!/bin/sh\necho one > /dev/stdout\necho two >> /proc/self/fd/1\nexec sleep 1000\n")
        .moved_in();
    says(&tree, &["one", "two"]);
}

#[test]
fn dev_stdout_opens_for_the_user_of_the_program() {
    if !is_root() {
        return skip("another user takes root");
    }
    let tree = Tree::running();
    let run = "#!/bin/sh\necho \"as $(id -u)\" > /dev/stdout\nexec sleep 1000\n";
    let entry = logged(&tree, "web", run).toml("user = 'nobody'").moved_in();
    says(&tree, &["as 65534"]);
    // The FIFO and what is in it stay when the user is another one, also over a death of svtree.
    tree.kill_svtree();
    tree.start();
    eventually("adopted", || tree.state("web")["adopted"] == true);
    replace(&entry.join("service.toml"), "user = 4242\ngroup = 4242", 0o644);
    tree.svtree(["restart", "web"]).ok();
    says(&tree, &["as 65534", "as 4242"]);
}

#[test]
fn a_program_that_closes_its_output_costs_nothing() {
    let tree = Tree::running();
    logged(&tree, "web", "#!/bin/sh\nexec >&- 2>&-\nexec sleep 1000\n").moved_in();
    let (svtree, log) = (tree.pid_of_svtree(), tree.up("web/log"));
    tree.up("web");
    let used = || ticks(svtree) + ticks(log);
    let before = used();
    stays(Duration::from_secs(2), "the logger waits", || tree.pid("web/log") == Some(log));
    assert!(used() - before < 10, "{} ticks in 2 s", used() - before);
}

#[test]
fn a_directory_log_without_run_is_nothing_until_it_has_one() {
    let tree = Tree::new().options(["--log", "inherit"]);
    let entry =
        tree.service("web").run("#!/bin/sh\necho \"from $$\"\nexec sleep 1000\n").file("log/note", "").moved_in();
    tree.start();
    let web = tree.up("web");
    eventually("it to be heard", || tree.stdout().contains(&format!("from {web}\n")));
    assert!(!tree.home("web/log").exists() && !tree.home("web/output").exists());
    write(&entry.join("log/run"), LOGGER, 0o755);
    tree.up("web/log");
    eventually("changed", || tree.state("web")["changed"] == true);
    assert_eq!(tree.pid("web"), Some(web));
    tree.letter("web", "t");
    let web = tree.up_again("web", web);
    says(&tree, &[&format!("from {web}")]);
    assert_eq!(tree.state("web")["changed"], false);
}

#[test]
fn a_logger_that_is_taken_away_stays_until_its_module_is_started_anew() {
    let tree = Tree::new().options(["--log", "inherit"]);
    let run = "#!/bin/sh\necho \"from $$\"\ntrap 'echo \"last of $$\"; exit 0' TERM\nwhile :; do sleep 0.02; done\n";
    let entry = logged(&tree, "web", run).moved_in();
    tree.start();
    let (web, log) = (tree.up("web"), tree.up("web/log"));
    fs::rename(entry.join("log"), tree.path("elsewhere/log")).expect("moved away");
    eventually("changed", || tree.state("web")["changed"] == true);
    stays(Duration::from_millis(300), "the logger runs on", || alive(log));
    tree.letter("web", "t");
    let again = tree.up_again("web", web);
    tree.goes("web/log");
    says(&tree, &[&format!("from {web}"), &format!("last of {web}")]);
    eventually("the next one to be heard", || tree.stdout().contains(&format!("from {again}\n")));
    assert!(!tree.home("web/output").exists());
}
