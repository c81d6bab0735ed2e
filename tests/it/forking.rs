//! Section: programs that put themselves in the background are followed, by rules that an operator can rely on.

use std::time::Duration;

use rustix::process::Signal;

use crate::harness::{
    NOTING, Tree, alive, eventually, process_field, process_state, remove, replace, signal_pid, stays, zombies,
};

/// Puts itself in the background in a session of its own. As with `ONE_COPY`, a copy that finds another one alive says
/// so in the notes `twice`.
pub const DAEMON: &str = "#!/bin/sh
setsid sh -c '
    exec 9>> \"$SVTREE_IT/notes/$SVTREE_MODULE.lock\"
    flock -n 9 || echo \"$SVTREE_MODULE: $$\" >> \"$SVTREE_IT/notes/twice\"
    echo $$ >> \"$SVTREE_IT/notes/$SVTREE_MODULE\"
    exec sleep 1000' &
exit 0
";

/// The first time it leaves a process in its own session and one in another, and ends as `END` says; then it is as
/// [`NOTING`]. What is left is noted in `inside` and `outside`.
const LEAVES_ONCE: &str = "#!/bin/sh
echo $$ >> \"$SVTREE_IT/notes/$SVTREE_MODULE\"
[ -e \"$SVTREE_IT/notes/inside\" ] && exec sleep 1000
sleep 1000 &
echo $! >> \"$SVTREE_IT/notes/inside\"
setsid sh -c 'echo $$ >> \"$SVTREE_IT/notes/outside\"; exec sleep 1000' &
until [ -e \"$SVTREE_IT/notes/outside\" ]; do :; done
END
";

fn leaves_once(end: &str) -> String {
    LEAVES_ONCE.replace("END", end)
}

const SOON: &str = "[restart]\ndelay = '10ms'\n";

/// Waits until the module's program is the process that noted itself as the `count`th, followed.
#[track_caller]
fn followed(tree: &Tree, name: &str, count: usize) -> i32 {
    let pid = *tree.noted_pids(name, count).last().expect("one at least");
    eventually(format!("{pid} to be followed"), || {
        let state = tree.state(name);
        tree.pid(name) == Some(pid) && state["followed"] == true && state["pid"] == pid
    });
    assert!(alive(pid), "what is followed runs");
    pid
}

#[test]
fn what_a_program_leaves_when_it_exits_0_is_the_program_from_then_on() {
    let tree = Tree::running();
    tree.service("web").run(DAEMON).moved_in();
    let pid = followed(&tree, "web", 1);
    let svtree = tree.pid_of_svtree();
    assert_eq!(process_field(pid, "PPid"), svtree.to_string());
    stays(Duration::from_millis(1300), "one start, no exit", || {
        let state = tree.state("web");
        state["restarts"] == 0 && state["exits"] == serde_json::json!([]) && state["pid"] == pid
    });
    let state = tree.state("web");
    assert!(state["state"] == "up" && state["adopted"] == false, "{state}");
    assert_eq!(
        tree.called("svstat", ["web"])
            .ok()
            .split_once(" seconds")
            .map(|(line, _)| line.starts_with(&format!("web: up (pid {pid}) "))),
        Some(true)
    );
    assert_eq!(zombies(svtree), [0; 0]);
    assert_eq!(tree.notes("twice"), [""; 0]);
}

#[test]
fn a_daemon_that_forks_twice_is_followed_to_the_last() {
    let tree = Tree::running();
    let last = "echo $$ >> \"$SVTREE_IT/notes/web\"; exec sleep 1000";
    tree.service("web")
        .script("last", &format!("#!/bin/sh\n{last}\n"))
        .run("#!/bin/sh\nsetsid sh -c './last & exit 0' &\nexit 0\n")
        .toml(SOON)
        .moved_in();
    let pid = followed(&tree, "web", 1);
    stays(Duration::from_millis(300), "the same one", || tree.pid("web") == Some(pid));
    assert_eq!(tree.state("web")["restarts"], 0);
}

#[test]
fn the_followed_one_obeys_every_letter() {
    let tree = Tree::running();
    let daemon = "#!/bin/sh\ntrap 'echo hup >> \"$SVTREE_IT/notes/heard\"' HUP\n\
        trap 'echo usr1 >> \"$SVTREE_IT/notes/heard\"' USR1\necho $$ >> \"$SVTREE_IT/notes/web\"\n\
        while :; do sleep 0.01; done\n";
    tree.service("web").script("daemon", daemon).run("#!/bin/sh\nsetsid ./daemon &\nexit 0\n").toml(SOON).moved_in();
    let pid = followed(&tree, "web", 1);
    tree.letter("web", "h");
    eventually("HUP to be heard", || tree.notes("heard") == ["hup"]);
    tree.letter("web", "1");
    eventually("USR1 to be heard", || tree.notes("heard") == ["hup", "usr1"]);
    tree.letter("web", "p");
    eventually("it to be stopped", || process_state(pid) == Some('T') && tree.state("web")["paused"] == true);
    tree.letter("web", "c");
    eventually("it to go on", || process_state(pid) != Some('T') && tree.state("web")["paused"] == false);
    for (round, letter) in ["k", "t", "du", "du"].into_iter().enumerate() {
        let before = tree.pid("web").expect("it is up");
        tree.letter("web", letter);
        eventually(format!("{letter} to end it"), || !alive(before));
        followed(&tree, "web", round + 2);
    }
    let pid = followed(&tree, "web", 5);
    tree.letter("web", "d");
    tree.becomes("web", "down");
    assert!(!alive(pid) && tree.pid("web").is_none());
    assert_eq!(tree.state("web")["followed"], false);
}

#[test]
fn the_end_of_the_followed_one_is_told_as_it_was_and_it_is_started_again() {
    let tree = Tree::running();
    let daemon = "#!/bin/sh\ntrap 'exit 7' USR1\necho $$ >> \"$SVTREE_IT/notes/web\"\nwhile :; do sleep 0.01; done\n";
    tree.service("web").script("daemon", daemon).run("#!/bin/sh\nsetsid ./daemon &\nexit 0\n").toml(SOON).moved_in();
    let first = followed(&tree, "web", 1);
    tree.letter("web", "1");
    let second = followed(&tree, "web", 2);
    let exit = tree.state("web")["exits"][0].clone();
    assert!(exit["pid"] == first && exit["code"] == 7 && exit["signal"].is_null(), "{exit}");
    signal_pid(second, Signal::KILL);
    followed(&tree, "web", 3);
    let state = tree.state("web");
    let exit = &state["exits"][0];
    assert!(exit["pid"] == second && exit["signal"] == 9 && exit["code"].is_null(), "{exit}");
    assert!(state["restarts"] == 2 && state["exits"].as_array().map(Vec::len) == Some(2), "{state}");
}

#[test]
fn what_a_failed_program_leaves_is_not_followed() {
    let tree = Tree::running();
    tree.service("web").run(&leaves_once("exit 1")).toml(SOON).moved_in();
    let [first, second] = tree.noted_pids("web", 2)[..] else { panic!("two starts") };
    eventually("the second start to be the program", || tree.state("web")["pid"] == second);
    let (inside, outside) = (tree.noted_pids("inside", 1)[0], tree.noted_pids("outside", 1)[0]);
    assert!(!alive(inside) && alive(outside), "before a restart only its session is cleared");
    let state = tree.state("web");
    assert!(
        state["followed"] == false && state["exits"][0]["pid"] == first && state["exits"][0]["code"] == 1,
        "{state}"
    );
    tree.letter("web", "d");
    tree.becomes("web", "down");
    assert!(!alive(outside), "on d all of it ends");
}

#[test]
fn what_a_program_leaves_that_was_told_to_end_is_not_followed() {
    for letter in ["t", "i", "q", "k"] {
        let tree = Tree::running();
        // `wait` is interrupted by what it is told.
        let end = "trap 'exit 0' TERM INT QUIT\necho ready >> \"$SVTREE_IT/notes/ready\"\nwait";
        tree.service("web").run(&leaves_once(end)).toml(SOON).moved_in();
        eventually("it to listen", || tree.notes("ready") == ["ready"]);
        tree.letter("web", letter);
        let second = tree.noted_pids("web", 2)[1];
        eventually("the second start to be the program", || tree.state("web")["pid"] == second);
        let state = tree.state("web");
        assert!(state["followed"] == false && state["restarts"] == 1, "{letter}: {state}");
    }
}

#[test]
fn of_several_the_one_that_the_others_descend_from_is_followed() {
    let tree = Tree::running();
    // The master has workers; the pid of the last one may well be below its own one day.
    let master = "#!/bin/sh\nfor worker in 1 2 3; do sleep 1000 & done\necho $$ >> \"$SVTREE_IT/notes/web\"\nwait\n";
    let run = "#!/bin/sh\nsetsid ./master &\nuntil [ -e \"$SVTREE_IT/notes/web\" ]; do :; done\nexit 0\n";
    tree.service("web").script("master", master).run(run).moved_in();
    followed(&tree, "web", 1);
    stays(Duration::from_millis(300), "it stays so", || tree.state("web")["restarts"] == 0);
}

#[test]
fn of_several_strangers_to_each_other_the_oldest_is_followed() {
    let tree = Tree::running();
    let run = "#!/bin/sh
setsid sh -c 'echo $$ >> \"$SVTREE_IT/notes/web\"; exec sleep 1000' &
until [ -e \"$SVTREE_IT/notes/web\" ]; do :; done
for other in 1 2 3; do setsid sh -c 'echo $$ >> \"$SVTREE_IT/notes/others\"; exec sleep 1000' & done
until [ \"$(wc -l < \"$SVTREE_IT/notes/others\")\" = 3 ]; do :; done
exit 0
";
    tree.service("web").run(run).moved_in();
    followed(&tree, "web", 1);
    let others = tree.noted_pids("others", 3);
    tree.letter("web", "d");
    tree.becomes("web", "down");
    assert!(!others.into_iter().any(alive), "the others end with it");
}

#[test]
fn with_forking_ignore_its_exit_is_its_exit_and_what_it_leaves_stops_no_restart() {
    let tree = Tree::running();
    tree.service("web").run(&leaves_once("exit 0")).toml(&format!("forking = 'ignore'\n{SOON}")).moved_in();
    let [first, second] = tree.noted_pids("web", 2)[..] else { panic!("two starts") };
    eventually("the second start to be the program", || tree.state("web")["pid"] == second);
    let (inside, outside) = (tree.noted_pids("inside", 1)[0], tree.noted_pids("outside", 1)[0]);
    assert!(alive(inside) && alive(outside), "it is left alone");
    let state = tree.state("web");
    assert!(
        state["followed"] == false && state["exits"][0]["pid"] == first && state["exits"][0]["code"] == 0,
        "{state}"
    );
    tree.letter("web", "d");
    tree.becomes("web", "down");
    assert!(!alive(inside) && !alive(outside), "on d all of it ends");
}

#[test]
fn with_forking_ignore_a_daemon_that_ran_once_is_down_and_runs_on() {
    let tree = Tree::running();
    tree.service("web").run(DAEMON).toml("forking = 'ignore'\n[restart]\nwhen = 'never'").moved_in();
    tree.becomes("web", "down");
    let pid = tree.noted_pids("web", 1)[0];
    assert!(alive(pid) && tree.state("web")["exits"][0]["code"] == 0);
    tree.move_out("web");
    tree.goes("web");
    assert!(!alive(pid), "retired, nothing of it is left");
}

#[test]
fn restart_never_and_once_end_with_the_followed_one_not_before() {
    let tree = Tree::running();
    tree.service("never").run(DAEMON).toml("[restart]\nwhen = 'never'").moved_in();
    tree.service("once").run(DAEMON).file("down", "").moved_in();
    tree.becomes("once", "down");
    tree.letter("once", "o");
    let (never, once) = (followed(&tree, "never", 1), followed(&tree, "once", 1));
    for pid in [never, once] {
        signal_pid(pid, Signal::KILL);
    }
    tree.becomes("never", "failed");
    tree.becomes("once", "down");
    assert!(tree.notes("never").len() == 1 && tree.notes("once").len() == 1, "no second start");
    assert_eq!(tree.state("never")["exits"][0]["signal"], 9);
}

#[test]
fn finish_runs_after_the_followed_one_with_its_code() {
    let tree = Tree::running();
    let daemon = "#!/bin/sh\ntrap 'exit 7' USR1\necho $$ >> \"$SVTREE_IT/notes/web\"\nwhile :; do sleep 0.01; done\n";
    tree.service("web")
        .script("daemon", daemon)
        .run("#!/bin/sh\nsetsid ./daemon &\nexit 0\n")
        .toml(SOON)
        .script("finish", "#!/bin/sh\necho \"$@\" >> \"$SVTREE_IT/notes/finish\"\n")
        .moved_in();
    followed(&tree, "web", 1);
    assert_eq!(tree.notes("finish"), [""; 0], "not when it goes to the background");
    tree.letter("web", "1");
    followed(&tree, "web", 2);
    assert_eq!(tree.notes("finish"), ["7 0"]);
}

#[test]
fn a_followed_one_survives_svtree_and_is_followed_by_the_next_one() {
    let tree = Tree::running();
    tree.service("web").run(DAEMON).toml(SOON).moved_in();
    let pid = followed(&tree, "web", 1);
    for _ in 0..3 {
        tree.kill_svtree();
        assert!(alive(pid));
        tree.start();
        eventually("it to be taken over", || tree.state("web")["adopted"] == true);
        assert_eq!(followed(&tree, "web", 1), pid);
    }
    tree.letter("web", "k");
    let second = followed(&tree, "web", 2);
    tree.kill_svtree();
    signal_pid(second, Signal::KILL);
    eventually("its end", || !alive(second));
    tree.start();
    let third = followed(&tree, "web", 3);
    tree.kill_svtree();
    tree.start();
    eventually("it to be taken over", || tree.state("web")["adopted"] == true);
    tree.letter("web", "d");
    tree.becomes("web", "down");
    assert!(!alive(third));
    assert_eq!(tree.notes("twice"), [""; 0], "one copy all the while");
}

#[test]
fn one_that_goes_to_the_background_while_svtree_is_dead_is_followed_by_the_next_one() {
    let tree = Tree::running();
    if !tree.has_cgroups() {
        return;
    }
    let run = DAEMON.replace(
        "exit 0",
        "touch \"$SVTREE_IT/notes/ready\"\nuntil [ -e \"$SVTREE_IT/notes/go\" ]; do :; done\nexit 0",
    );
    tree.service("web").run(&run).moved_in();
    let pid = tree.up("web");
    eventually("its daemon", || tree.path("notes/ready").exists());
    tree.kill_svtree();
    replace(&tree.path("notes/go"), "", 0o644);
    eventually("its end", || !alive(pid));
    tree.start();
    let daemon = tree.noted_pids("web", 1)[0];
    eventually("it to be followed, or to be started again without a second copy", || {
        let state = tree.state("web");
        state["followed"] == true && tree.pid("web").is_some_and(alive) && tree.pid("web") != Some(pid)
    });
    assert_eq!(tree.notes("twice"), [""; 0], "one copy all the while");
    let now = tree.pid("web").expect("it is up");
    assert!(now == daemon || !alive(daemon));
}

#[test]
fn a_daemon_that_goes_to_the_background_over_and_over_is_there_once() {
    let tree = Tree::running();
    let entry = tree.service("web").run(DAEMON).toml(SOON).moved_in();
    for round in 1..=20 {
        let pid = followed(&tree, "web", round);
        // One that executes at this moment shows no environment, by which it is found.
        eventually("svtree and the daemon to be all", || tree.processes().len() == 2);
        match round % 3 {
            0 => tree.letter("web", "k"),
            1 => tree.letter("web", "du"),
            _ => signal_pid(pid, Signal::KILL),
        }
    }
    followed(&tree, "web", 21);
    assert_eq!(tree.notes("twice"), [""; 0]);
    assert_eq!(tree.state("web")["restarts"], 20);
    remove(&entry);
    tree.goes("web");
    assert_eq!(tree.processes(), [tree.pid_of_svtree()]);
}

#[test]
fn without_cgroups_a_daemon_is_followed_by_its_mark() {
    let Some(tree) = Tree::new().without_cgroups() else { return };
    tree.start();
    let entry = tree.service("web").run(DAEMON).toml(SOON).moved_in();
    // Another module's is not taken for it.
    tree.service("web2").run(DAEMON).toml(SOON).moved_in();
    for round in 1..=5 {
        let (pid, other) = (followed(&tree, "web", round), followed(&tree, "web2", 1));
        assert_ne!(pid, other);
        tree.letter("web", if round % 2 == 0 { "k" } else { "du" });
    }
    let pid = followed(&tree, "web", 6);
    tree.kill_svtree();
    tree.start();
    eventually("it to be taken over", || tree.state("web")["adopted"] == true);
    assert_eq!(followed(&tree, "web", 6), pid);
    remove(&entry);
    tree.goes("web");
    assert!(!alive(pid) && alive(followed(&tree, "web2", 1)));
    assert_eq!(tree.notes("twice"), [""; 0]);
}

#[test]
fn a_plain_user_has_his_daemons_followed() {
    let Some(tree) = Tree::new().for_nobody() else { return };
    tree.start();
    tree.service("web").run(DAEMON).toml(SOON).moved_in();
    let pid = followed(&tree, "web", 1);
    tree.letter("web", "k");
    followed(&tree, "web", 2);
    assert!(!alive(pid));
    assert_eq!(tree.notes("twice"), [""; 0]);
}

#[test]
fn what_runs_beside_a_followed_one_when_that_ends_is_no_program() {
    let tree = Tree::running();
    // A followed daemon that crashes, and leaves a worker in its session: that is in the way of the next one.
    let daemon =
        "#!/bin/sh\nsleep 1000 &\necho $! >> \"$SVTREE_IT/notes/workers\"\necho $$ >> \"$SVTREE_IT/notes/web\"\nwait\n";
    tree.service("web").script("daemon", daemon).run("#!/bin/sh\nsetsid ./daemon &\nexit 0\n").toml(SOON).moved_in();
    let pid = followed(&tree, "web", 1);
    signal_pid(pid, Signal::KILL);
    followed(&tree, "web", 2);
    let workers = tree.noted_pids("workers", 2);
    assert!(!alive(workers[0]) && alive(workers[1]));
}

#[test]
fn a_module_that_is_no_daemon_is_not_followed() {
    let tree = Tree::running();
    tree.service("web").run(NOTING).moved_in();
    tree.up("web");
    assert_eq!(tree.state("web")["followed"], false);
}
