//! Readiness: how a program says that it is ready, what is seen before and after, and what becomes of one that never is.
//!
//! Must never take for ready what has not said so.

use std::time::Duration;

use rustix::process::Signal;

use crate::harness::{SLEEPER, Tree, alive, chmod, descendants, eventually, has_open, signal_pid, stays, write};

/// Ready once `notes/go` is there; notes its pid.
const ON_3: &str = "#!/bin/sh\necho $$ >> \"$SVTREE_IT/notes/$SVTREE_MODULE\"
until [ -e \"$SVTREE_IT/notes/go\" ]; do sleep 0.02; done\necho >&3\nexec 3>&-\nexec sleep 1000\n";

/// Ready by a check, once `notes/go` is there.
const CHECK: &str = "#!/bin/sh\necho asked >> \"$SVTREE_IT/notes/asked\"\nexec test -e \"$SVTREE_IT/notes/go\"\n";

const FD: &str = "[ready]\nfd = 3\n";

fn go(tree: &Tree) {
    write(&tree.path("notes/go"), "", 0o644);
}

/// It runs, is not ready, and stays so until it may go; then it is, with the same pid.
#[track_caller]
fn becomes_ready(tree: &Tree) -> i32 {
    let pid = tree.up("web");
    stays(Duration::from_millis(200), "it is awaited", || {
        let state = tree.state("web");
        state["state"] == "starting" && state["ready"] == false && state["ready_since"].is_null()
    });
    go(tree);
    tree.becomes("web", "ready");
    let state = tree.state("web");
    assert_eq!((&state["ready"], &state["pid"]), (&true.into(), &pid.into()));
    assert!(state["ready_since"].is_string(), "{state}");
    pid
}

#[test]
fn a_newline_on_its_descriptor_is_the_word() {
    let tree = Tree::running();
    tree.service("web").run(ON_3).toml(FD).moved_in();
    let pid = becomes_ready(&tree);
    has_open(pid, &[0, 1, 2]);
    // The next one is awaited anew.
    std::fs::remove_file(tree.path("notes/go")).expect("removed");
    tree.letter("web", "k");
    tree.up_again("web", pid);
    becomes_ready(&tree);
}

#[test]
fn what_stands_before_the_newline_is_of_no_interest_and_no_number_is_too_odd() {
    for number in [1, 2, 4, 9, 200] {
        let tree = Tree::running();
        let run =
            format!("#!/bin/bash\nprintf up >&{number}\nsleep 0.2\necho ' and ready' >&{number}\nexec sleep 1000\n");
        tree.service("web").run(&run).toml(&format!("[ready]\nfd = {number}\n")).moved_in();
        tree.becomes("web", "ready");
        let mut open = vec![0, 1, 2];
        open.extend((number > 2).then_some(number));
        has_open(tree.up("web"), &open);
    }
}

#[test]
fn a_program_that_goes_on_writing_to_its_descriptor_is_not_held_up() {
    let tree = Tree::running();
    tree.service("web").run("#!/bin/sh\nexec yes >&3\n").toml(FD).moved_in();
    tree.becomes("web", "ready");
    let pid = tree.up("web");
    tree.letter("web", "d");
    tree.becomes("web", "down");
    assert!(!alive(pid));
}

#[test]
fn notification_fd_is_honoured_as_in_s6() {
    let tree = Tree::running();
    tree.service("web").run(ON_3).file("notification-fd", "3\n").moved_in();
    becomes_ready(&tree);
}

#[test]
fn a_check_is_asked_until_it_says_so() {
    let tree = Tree::running();
    tree.service("web").run(SLEEPER).script("check.sh", CHECK).toml("[ready]\ncheck = ['./check.sh']\n").moved_in();
    becomes_ready(&tree);
    let asked = tree.notes("asked").len();
    assert!(asked > 1, "asked {asked} times");
    stays(Duration::from_millis(1200), "nobody asks any more", || tree.notes("asked").len() == asked);
}

#[test]
fn the_file_check_is_honoured_as_in_runit() {
    let tree = Tree::running();
    tree.service("web").run(SLEEPER).script("check", CHECK).moved_in();
    becomes_ready(&tree);
    // One that is not executable is switched off.
    tree.service("off").run(SLEEPER).file("check", CHECK).moved_in();
    tree.becomes("off", "up");
    chmod(&tree.entry("off").join("check"), 0o755);
    std::fs::remove_file(tree.path("notes/go")).expect("removed");
    tree.svtree(["restart", "off"]).ok();
    tree.becomes("off", "starting");
}

#[test]
fn a_check_that_hangs_is_killed_with_all_it_started_and_asked_again() {
    let tree = Tree::running();
    let check = "#!/bin/sh\necho asked >> \"$SVTREE_IT/notes/asked\"
[ $(wc -l < \"$SVTREE_IT/notes/asked\") -gt 1 ] && exit 0\nsleep 1001 & sleep 1002\n";
    tree.service("web").run(SLEEPER).script("check", check).moved_in();
    tree.becomes("web", "ready");
    let pid = tree.up("web");
    eventually("only the program to be left", || descendants(tree.pid_of_svtree()) == [pid]);
    assert_eq!(tree.notes("asked").len(), 2);
}

#[test]
fn nothing_of_a_check_outlives_its_module() {
    let tree = Tree::running();
    tree.service("web").run(SLEEPER).script("check", "#!/bin/sh\nsleep 1001 & sleep 1002\n").moved_in();
    let pid = tree.up("web");
    eventually("it to be asked", || descendants(tree.pid_of_svtree()).len() == 4);
    tree.letter("web", "d");
    tree.becomes("web", "down");
    assert!(!alive(pid));
    eventually("nothing to be left", || descendants(tree.pid_of_svtree()).is_empty());
}

#[test]
fn not_ready_in_time_is_a_failure_and_the_reason_says_so() {
    let tree = Tree::running();
    let run =
        "#!/bin/sh\necho $$ >> \"$SVTREE_IT/notes/web\"\ntrap 'echo term >> \"$SVTREE_IT/notes/term\"; exit 0' TERM
while :; do sleep 0.05; done\n";
    let toml = "[ready]\nfd = 3\ntimeout = '300ms'\n[restart]\nmax_tries = 1\ndelay = '200ms'\n";
    tree.service("web").run(run).toml(toml).moved_in();
    // Also one that exits with 0 then has failed.
    tree.becomes("web", "failed");
    assert_eq!((tree.notes("web").len(), tree.notes("term").len()), (2, 2));
    let state = tree.state("web");
    assert!(state["reason"].as_str().is_some_and(|why| why.contains("not ready within 0.3s")), "{state}");
    assert_eq!(state["exits_total"], 2);
    eventually("it to be told", || tree.told("web").contains("not ready within 0.3s: it is stopped"));
}

#[test]
fn what_is_not_ready_in_time_and_deaf_is_killed_and_started_again() {
    let tree = Tree::running();
    let run = "#!/bin/sh\ntrap '' TERM\necho $$ >> \"$SVTREE_IT/notes/web\"
[ $(wc -l < \"$SVTREE_IT/notes/web\") -gt 1 ] && echo >&3\nexec sleep 1000\n";
    let toml = "[ready]\nfd = 3\ntimeout = '500ms'\n[stop]\ntimeout = '300ms'\n";
    tree.service("web").run(run).toml(toml).moved_in();
    let first = tree.up("web");
    tree.becomes("web", "ready");
    let state = tree.state("web");
    assert!(!alive(first));
    assert_eq!((&state["exits"][0]["signal"], &state["restarts"]), (&9.into(), &1.into()));
    assert_eq!(state["reason"], "restarted: not ready within 0.5s");
    assert_eq!(tree.svtree(["status", "web"]).ok().matches("not ready within").count(), 1);
}

#[test]
fn while_it_is_paused_no_time_passes() {
    let tree = Tree::running();
    tree.service("web").run(ON_3).toml("[ready]\nfd = 3\ntimeout = '2s'\n").moved_in();
    let pid = tree.up("web");
    tree.letter("web", "p");
    stays(Duration::from_millis(2500), "it is left alone", || tree.pid("web") == Some(pid) && alive(pid));
    tree.letter("web", "c");
    go(&tree);
    tree.becomes("web", "ready");
    assert_eq!(tree.state("web")["restarts"], 0);
}

#[test]
fn up_and_restart_wait_until_it_is_ready() {
    let tree = Tree::running();
    tree.service("web").run(ON_3).toml(FD).file("down", "").moved_in();
    tree.becomes("web", "down");
    let said = tree.svtree(["up", "web", "--wait", "0.5"]).failed(111);
    assert!(said.contains("starting"), "{said}");
    go(&tree);
    tree.svtree(["restart", "web", "--wait", "15"]).ok();
    assert_eq!(tree.state("web")["state"], "ready");
}

#[test]
fn a_job_that_is_done_is_ready_and_one_that_failed_is_failed() {
    let tree = Tree::running();
    let toml = "[restart]\nwhen = 'never'\n[ready]\non_exit = true\n";
    let job = "#!/bin/sh\necho $$ >> \"$SVTREE_IT/notes/$SVTREE_MODULE\"
until [ -e \"$SVTREE_IT/notes/go\" ]; do sleep 0.02; done\nexit $CODE\n";
    for (name, code) in [("done", 0), ("failed", 3)] {
        tree.service(name).run(job).toml(&format!("environment = {{ CODE = '{code}' }}\n{toml}")).moved_in();
        tree.up(name);
        assert_eq!((&tree.state(name)["state"], &tree.state(name)["ready"]), (&"starting".into(), &false.into()));
    }
    go(&tree);
    tree.becomes("done", "down");
    tree.becomes("failed", "failed");
    assert_eq!((&tree.state("done")["ready"], &tree.state("failed")["ready"]), (&true.into(), &false.into()));
    assert!(tree.state("done")["ready_since"].is_string());
    // It stays done, also under the next svtree and after an upgrade.
    tree.svtree(["upgrade"]).ok();
    tree.kill_svtree();
    tree.start();
    stays(Duration::from_millis(300), "it is not done again", || tree.notes("done").len() == 1);
    eventually("it to be known as done", || tree.state("done")["ready"] == true);
    // Waiting for it is waiting until it is done.
    tree.svtree(["up", "done", "--wait", "15"]).ok();
    assert_eq!(tree.notes("done").len(), 2);
    let said = tree.svtree(["up", "failed", "--wait", "15"]).failed(111);
    assert!(said.contains("exited 3"), "{said}");
    // What is told to be down is not done any more.
    tree.letter("done", "d");
    eventually("it to be forgotten", || tree.state("done")["ready"] == false);
}

#[test]
fn a_job_that_takes_too_long_is_a_failure() {
    let tree = Tree::running();
    let toml = "[restart]\nwhen = 'never'\n[ready]\non_exit = true\ntimeout = '200ms'\n";
    tree.service("job").run(SLEEPER).toml(toml).moved_in();
    tree.becomes("job", "failed");
    eventually("it to be told", || tree.told("job").contains("not ready within 0.2s"));
}

#[test]
fn readiness_is_taken_over_and_handed_down() {
    let tree = Tree::running();
    tree.service("web").run(ON_3).toml(FD).moved_in();
    tree.service("asked").run(SLEEPER).script("check", CHECK).moved_in();
    let pids = ["web", "asked"].map(|name| tree.up(name));
    let awaited = || ["web", "asked"].iter().all(|name| tree.state(name)["state"] == "starting");
    tree.svtree(["upgrade"]).ok();
    stays(Duration::from_millis(200), "it is awaited still", awaited);
    tree.kill_svtree();
    tree.start();
    eventually("it to be taken over", || tree.state("web")["adopted"] == true);
    stays(Duration::from_millis(200), "it is awaited still", awaited);
    // What is said while nobody is there to hear it is not lost.
    tree.kill_svtree();
    go(&tree);
    has_open(pids[0], &[0, 1, 2]);
    tree.start();
    tree.becomes("web", "ready");
    tree.becomes("asked", "ready");
    let since = tree.state("web")["ready_since"].clone();
    tree.svtree(["upgrade"]).ok();
    tree.kill_svtree();
    tree.start();
    // Nobody hears a blank before.
    ["web", "asked"].iter().for_each(|name| tree.letter(name, " "));
    eventually("it to be taken over", || tree.state("web")["adopted"] == true);
    assert_eq!(["web", "asked"].map(|name| tree.up(name)), pids);
    assert_eq!((&tree.state("web")["state"], &tree.state("web")["ready_since"]), (&"ready".into(), &since));
}

#[test]
fn the_time_to_be_ready_goes_on_over_an_upgrade() {
    let tree = Tree::running();
    tree.service("web").run(SLEEPER).toml("[ready]\nfd = 3\ntimeout = '2s'\n[restart]\nwhen = 'never'").moved_in();
    tree.up("web");
    // Each time would begin anew with each of these.
    eventually("it to have failed", || {
        tree.svtree(["upgrade"]).ok();
        tree.state("web")["state"] == "failed"
    });
    let uptime = tree.state("web")["exits"][0]["uptime"].as_f64();
    assert!(uptime.is_some_and(|uptime| uptime > 1.9), "{uptime:?}");
}

#[test]
fn only_health_ends_a_back_off() {
    let tree = Tree::running();
    let toml = "[ready]\nfd = 3\n[restart]\ndelay = '10ms'\nmax_delay = '10m'\ninterval = '300ms'\n";
    // Up for longer than the interval, and never ready: each pause is twice the one before.
    let run = "#!/bin/sh\necho $$ >> \"$SVTREE_IT/notes/web\"\nexec sleep 0.35\n";
    tree.service("web").run(run).toml(toml).moved_in();
    eventually("the pause to outgrow the run", || tree.state("web")["state"] == "waiting");
}

#[test]
fn what_is_said_by_something_of_an_earlier_program_does_not_count() {
    let tree = Tree::running();
    let run = "#!/bin/sh\necho $$ >> \"$SVTREE_IT/notes/web\"
[ $(wc -l < \"$SVTREE_IT/notes/web\") -gt 1 ] && exec 3>&- sleep 1000
setsid sh -c 'echo >> \"$SVTREE_IT/notes/there\"; until [ -e \"$SVTREE_IT/notes/go\" ]; do sleep 0.02; done; echo >&3; echo >> \"$SVTREE_IT/notes/said\"' &
exec sleep 1000\n";
    tree.service("web").run(run).toml(FD).moved_in();
    let pid = tree.up("web");
    eventually("it to be in a session of its own", || !tree.notes("there").is_empty());
    signal_pid(pid, Signal::KILL);
    tree.up_again("web", pid);
    go(&tree);
    eventually("it to be said", || !tree.notes("said").is_empty());
    stays(Duration::from_millis(200), "it is awaited", || tree.state("web")["state"] == "starting");
}
