//! Section: the whole tree of a module ends with it, whatever its processes did to escape.

use std::time::Duration;

use rustix::process::Signal;

use crate::harness::{Bystander, Tree, alive, eventually, remove, signal_pid, stays, text};

/// Leaves processes in sessions of their own, by double forks too; each notes itself in `escaped`.
const ESCAPING: &str = "#!/bin/sh
escape='echo $$ >> \"$0\"; exec sleep 1000'
notes=$SVTREE_IT/notes/escaped
setsid sh -c \"$escape\" \"$notes\" &
(setsid sh -c \"$escape\" \"$notes\" &)
setsid sh -c 'setsid sh -c \"$0\" \"$1\" & exec sleep 1000' \"$escape\" \"$notes\" &
exec sleep 1000
";

const ESCAPED: usize = 3;

/// As [`ESCAPING`], but nothing in their environment says whose they are.
const NAMELESS: &str = "#!/bin/sh
escape='echo $$ >> \"$0\"; exec sleep 1000'
notes=$SVTREE_IT/notes/escaped
env -i setsid sh -c \"$escape\" \"$notes\" &
(env -i setsid sh -c \"$escape\" \"$notes\" &)
env -i setsid sh -c 'setsid sh -c \"$0\" \"$1\" & exec sleep 1000' \"$escape\" \"$notes\" &
exec sleep 1000
";

/// Those of them that live; ended, so that none outlives a test that fails.
fn left(escaped: Vec<i32>) -> Vec<i32> {
    let left: Vec<i32> = escaped.into_iter().filter(|pid| alive(*pid)).collect();
    left.iter().for_each(|pid| signal_pid(*pid, Signal::KILL));
    left
}

#[track_caller]
fn down_leaves_nothing(tree: &Tree, script: &str) {
    tree.service("web").run(script).toml("[stop]\ntimeout = '2s'").moved_in();
    let pid = tree.up("web");
    let escaped = tree.noted_pids("escaped", ESCAPED);
    assert!(escaped.iter().all(|pid| alive(*pid)));
    tree.letter("web", "d");
    tree.becomes("web", "down");
    let left = left(escaped);
    assert!(left.is_empty() && !alive(pid), "{left:?} left");
}

#[test]
fn nothing_that_a_module_started_is_left_when_it_is_down_whatever_session_it_went_to() {
    down_leaves_nothing(&Tree::running(), ESCAPING);
}

#[test]
fn nor_is_what_has_cleared_its_environment() {
    let tree = Tree::running();
    if tree.has_cgroups() {
        down_leaves_nothing(&tree, NAMELESS);
    }
}

#[test]
fn nor_without_cgroups_what_kept_its_environment() {
    let Some(tree) = Tree::new().without_cgroups() else { return };
    tree.start();
    down_leaves_nothing(&tree, ESCAPING);
    let said = tree.stderr();
    assert_eq!(said.lines().count(), 1, "it says once what it misses: {said}");
    assert!(said.contains("control groups") && said.contains("environment"), "{said}");
}

#[test]
fn nor_of_a_plain_user() {
    let Some(tree) = Tree::new().for_nobody() else { return };
    tree.start();
    down_leaves_nothing(&tree, ESCAPING);
}

#[test]
fn a_retired_module_leaves_nothing() {
    let tree = Tree::running();
    let entry = tree.service("web").run(ESCAPING).moved_in();
    tree.up("web");
    let escaped = tree.noted_pids("escaped", ESCAPED);
    remove(&entry);
    tree.goes("web");
    assert_eq!(left(escaped), [0; 0]);
}

#[test]
fn shutdown_leaves_nothing() {
    let tree = Tree::running();
    let script = if tree.has_cgroups() { NAMELESS } else { ESCAPING };
    tree.service("web").run(script).moved_in();
    tree.up("web");
    let escaped = tree.noted_pids("escaped", ESCAPED);
    assert_eq!(tree.stop().code(), Some(0));
    assert_eq!(left(escaped), [0; 0]);
}

#[test]
fn what_was_left_before_by_a_program_that_has_ended_ends_on_d_too() {
    let tree = Tree::running();
    let script = ESCAPING.replace("exec sleep 1000\n", "until [ \"$(wc -l < \"$notes\")\" = 3 ]; do :; done\nexit 1\n");
    tree.service("web").run(&script).toml("[restart]\nwhen = 'never'").moved_in();
    tree.becomes("web", "failed");
    let escaped = tree.noted_pids("escaped", ESCAPED);
    assert!(escaped.iter().all(|pid| alive(*pid)), "in sessions of their own they live on");
    tree.letter("web", "d");
    tree.becomes("web", "down");
    assert_eq!(left(escaped), [0; 0]);
}

#[test]
fn what_was_left_under_a_dead_svtree_ends_on_d_under_the_next_one() {
    let tree = Tree::running();
    if !tree.has_cgroups() {
        return;
    }
    tree.service("web").run(NAMELESS).moved_in();
    tree.up("web");
    let escaped = tree.noted_pids("escaped", ESCAPED);
    tree.kill_svtree();
    tree.start();
    eventually("it to be taken over", || tree.state("web")["adopted"] == true);
    tree.letter("web", "d");
    tree.becomes("web", "down");
    assert_eq!(left(escaped), [0; 0]);
}

#[test]
fn what_ignores_term_in_a_session_of_its_own_is_killed_after_the_timeout_and_named() {
    let tree = Tree::running();
    let script = "#!/bin/sh\nsetsid sh -c 'trap \"\" TERM; echo $$ >> \"$SVTREE_IT/notes/deaf\"; exec sleep 1000' &\n\
        exec sleep 1000\n";
    tree.service("web").run(script).toml("[stop]\ntimeout = '700ms'").moved_in();
    tree.up("web");
    let deaf = tree.noted_pids("deaf", 1)[0];
    tree.letter("web", "d");
    tree.becomes("web", "stopping");
    stays(Duration::from_millis(400), "it has its time", || alive(deaf));
    tree.becomes("web", "down");
    assert!(!alive(deaf));
    let log = text(&tree.home("web").join("supervise.log")) + &text(&tree.home("web").join("supervise.log.wf"));
    assert!(log.contains(&format!("pid {deaf} (sleep)")), "{log}");
}

#[test]
fn what_had_to_be_killed_is_named_in_the_log_of_warnings() {
    let tree = Tree::running();
    let script =
        "#!/bin/sh\nsh -c 'trap \"\" TERM; echo $$ >> \"$SVTREE_IT/notes/deaf\"; exec sleep 1000' &\nexec sleep 1000\n";
    tree.service("web").run(script).toml("[stop]\ntimeout = '300ms'").moved_in();
    tree.up("web");
    let deaf = tree.noted_pids("deaf", 1)[0];
    tree.letter("web", "d");
    tree.becomes("web", "down");
    let log = text(&tree.home("web").join("supervise.log.wf"));
    assert!(log.contains(&format!("killed what was left: pid {deaf} (sleep)")), "{log}");
}

/// Each process of it leaves the next one in a session of its own and stays; all are deaf to TERM.
const BOMB: &str = "#!/bin/sh
trap '' TERM
echo $$ >> \"$SVTREE_IT/notes/bomb\"
[ \"$1\" -gt 0 ] && setsid \"$0\" $(($1 - 1)) &
exec sleep 1000
";

/// Each process of it leaves the next one in a session of its own and ends: there is never more than a moment to signal it.
const HOPPING: &str = "#!/bin/sh
trap '' TERM
echo $$ >> \"$SVTREE_IT/notes/bomb\"
[ \"$1\" -gt 0 ] && setsid \"$0\" $(($1 - 1)) &
exit 0
";

#[track_caller]
fn bomb_ends(tree: &Tree, bomb: &str, count: usize, wait_for: usize) {
    let run = format!("#!/bin/sh\nsetsid ./bomb {count} &\nexec sleep 1000\n");
    tree.service("web").script("bomb", bomb).run(&run).toml("[stop]\ntimeout = '300ms'").moved_in();
    let pid = tree.up("web");
    eventually("the bomb to go off", || tree.notes("bomb").len() >= wait_for);
    tree.letter("web", "d");
    tree.becomes("web", "down");
    assert!(!alive(pid));
    let started = tree.notes("bomb");
    let left = left(started.iter().filter_map(|line| line.parse().ok()).collect());
    assert!(left.is_empty(), "{left:?} left");
    stays(Duration::from_millis(200), "it is over", || tree.notes("bomb").len() == started.len());
    assert_eq!(tree.processes(), [tree.pid_of_svtree()]);
}

#[test]
fn a_bomb_of_200_processes_deaf_to_term_ends() {
    bomb_ends(&Tree::running(), BOMB, 200, 100);
}

#[test]
fn a_process_that_hops_from_session_to_session_ends() {
    bomb_ends(&Tree::running(), HOPPING, 5000, 100);
}

#[test]
fn without_cgroups_a_bomb_ends_too() {
    let Some(tree) = Tree::new().without_cgroups() else { return };
    tree.start();
    bomb_ends(&tree, BOMB, 200, 100);
}

#[test]
fn without_cgroups_what_hops_from_session_to_session_ends_too() {
    let Some(tree) = Tree::new().without_cgroups() else { return };
    tree.start();
    bomb_ends(&tree, HOPPING, 5000, 100);
}

/// The first time it leaves a process in its own session and one in another, and is killed.
const CRASHING_ONCE: &str = "#!/bin/sh
echo $$ >> \"$SVTREE_IT/notes/web\"
[ -e \"$SVTREE_IT/notes/inside\" ] && exec sleep 1000
sh -c 'echo $$ >> \"$SVTREE_IT/notes/inside\"; exec sleep 1000' &
setsid sh -c 'echo $$ >> \"$SVTREE_IT/notes/outside\"; exec sleep 1000' &
exec sleep 1000
";

#[test]
fn a_restart_after_a_crash_ends_what_is_in_its_session_and_nothing_else() {
    for hidden in [false, true] {
        let tree = if hidden { Tree::new().without_cgroups() } else { Some(Tree::new()) };
        let Some(tree) = tree else { return };
        tree.start();
        tree.service("web").run(CRASHING_ONCE).toml("[restart]\ndelay = '10ms'").moved_in();
        let pid = tree.up("web");
        let (inside, outside) = (tree.noted_pids("inside", 1)[0], tree.noted_pids("outside", 1)[0]);
        signal_pid(pid, Signal::KILL);
        tree.up_again("web", pid);
        assert!(!alive(inside) && alive(outside));
        tree.letter("web", "d");
        tree.becomes("web", "down");
        assert!(!alive(outside));
    }
}

#[test]
fn scope_main_leaves_everything_else() {
    let tree = Tree::running();
    let entry =
        tree.service("web").run(CRASHING_ONCE).toml("[restart]\ndelay = '10ms'\n[stop]\nscope = 'main'").moved_in();
    let pid = tree.up("web");
    let others = [tree.noted_pids("inside", 1)[0], tree.noted_pids("outside", 1)[0]];
    let live = || others.iter().all(|pid| alive(*pid));
    signal_pid(pid, Signal::KILL);
    let pid = tree.up_again("web", pid);
    assert!(live(), "after a crash");
    tree.letter("web", "k");
    let pid = tree.up_again("web", pid);
    assert!(live(), "after k");
    tree.letter("web", "d");
    tree.becomes("web", "down");
    assert!(!alive(pid) && live(), "after d");
    remove(&entry);
    tree.goes("web");
    assert!(live(), "after it is retired");
    assert_eq!(left(others.to_vec()).len(), 2);
}

#[test]
fn a_letter_ends_the_program_alone_and_d_all_of_it() {
    let tree = Tree::running();
    tree.service("web").run(CRASHING_ONCE).toml("[restart]\ndelay = '10ms'").moved_in();
    let pid = tree.up("web");
    let outside = tree.noted_pids("outside", 1)[0];
    tree.letter("web", "k");
    let pid = tree.up_again("web", pid);
    assert!(alive(outside), "a login lives on after k");
    tree.letter("web", "du");
    tree.up_again("web", pid);
    assert!(!alive(outside), "d ends it, also when u follows");
}

#[test]
fn a_stranger_with_the_name_of_a_module_in_its_environment_is_left_alone() {
    for hidden in [false, true] {
        let tree = if hidden { Tree::new().without_cgroups() } else { Some(Tree::new()) };
        let Some(tree) = tree else { return };
        tree.start();
        let mut command = tree.command(["sleep", "1000"]);
        let mut stranger = Bystander::start(command.env("SVTREE_MODULE", "web"));
        tree.service("web").run(ESCAPING).moved_in();
        tree.up("web");
        let escaped = tree.noted_pids("escaped", ESCAPED);
        tree.letter("web", "d");
        tree.becomes("web", "down");
        assert!(stranger.lives(), "it is not svtree's");
        assert_eq!(left(escaped), [0; 0]);
    }
}
