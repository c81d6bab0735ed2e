//! Section: svtree dies without a word, and the next one takes its programs over.

use std::fs;
use std::time::Duration;

use rustix::process::Signal;

use crate::harness::{
    DEAF, NOTING, ONE_COPY, SLEEPER, Tree, alive, arguments, eventually, process_state, remove, replace, signal_pid,
    spawn, stays, text, wait_for, walk, write, zombies,
};

/// As [`ONE_COPY`], but the lock is with a child that it leaves behind, whose pid is in the notes `left`.
const LEAVING: &str = "#!/bin/sh
exec 9>> \"$SVTREE_IT/notes/web.lock\"
flock -n 9 || echo $$ >> \"$SVTREE_IT/notes/twice\"
sleep 1000 &
echo $! >> \"$SVTREE_IT/notes/left\"
wait
";

/// Its first thread ends, and another one lives on.
const LEADERLESS: &str = "#include <pthread.h>
#include <unistd.h>
static void *live(void *unused) { for (;;) pause(); return unused; }
int main(void) {
    pthread_t thread;
    if (pthread_create(&thread, 0, live, 0)) return 1;
    pthread_exit(0);
}
";

#[test]
fn the_programs_run_on_and_are_taken_over_with_the_same_pids() {
    let tree = Tree::new();
    let names: Vec<String> = (0..20).map(|number| format!("m{number}")).collect();
    for name in &names {
        tree.service(name).run(NOTING).moved_in();
    }
    tree.service("group").file("group.toml", "").script("web/run", SLEEPER).moved_in();
    tree.start();
    let pids: Vec<i32> = names.iter().map(|name| tree.up(name)).collect();
    let grouped = tree.up("group/web");
    tree.kill_svtree();
    assert!(pids.iter().all(|pid| alive(*pid)));
    tree.start();
    for (name, pid) in names.iter().zip(&pids) {
        eventually(format!("{name} to be taken over"), || tree.state(name)["adopted"] == true);
        assert_eq!(tree.pid(name), Some(*pid));
        eventually(format!("{name} to have noted itself"), || !tree.notes(name).is_empty());
        assert_eq!(tree.notes(name).len(), 1, "no second copy");
    }
    assert_eq!(tree.pid("group/web"), Some(grouped));
}

#[test]
fn who_is_down_stays_down_however_often_svtree_dies() {
    let tree = Tree::running();
    tree.service("web").run(NOTING).moved_in();
    tree.up("web");
    tree.svtree(["down", "web", "--wait", "15"]).ok();
    for _ in 0..3 {
        tree.kill_svtree();
        tree.start();
        eventually("it to be supervised", || tree.called("svstat", ["web"]).ok().starts_with("web: down"));
        assert_eq!(tree.state("web")["want"], "down");
    }
    assert_eq!(tree.notes("web").len(), 1);
}

#[test]
fn a_program_that_was_taken_over_obeys_and_its_death_is_noticed() {
    let tree = Tree::running();
    let entry = tree.service("web").run(ONE_COPY).moved_in();
    let pid = tree.up("web");
    tree.kill_svtree();
    tree.start();
    eventually("it to be taken over", || tree.state("web")["adopted"] == true);
    tree.letter("web", "p");
    eventually("it to be paused", || tree.state("web")["paused"] == true);
    tree.letter("web", "c");
    signal_pid(pid, Signal::KILL);
    let pid = tree.up_again("web", pid);
    eventually("it to be svtree's own again", || tree.state("web")["adopted"] == false);
    tree.kill_svtree();
    tree.start();
    eventually("it to be taken over again", || tree.state("web")["adopted"] == true);
    tree.letter("web", "d");
    tree.becomes("web", "down");
    assert!(!alive(pid));
    remove(&entry);
    tree.goes("web");
    assert_eq!(tree.notes("twice"), [""; 0]);
}

#[test]
fn what_was_asked_and_counted_is_taken_over_with_it() {
    let tree = Tree::running();
    for name in ["down", "once", "ended", "paused", "silenced", "counted"] {
        tree.service(name).run(NOTING).toml("[restart]\ndelay = '10ms'").moved_in();
        tree.up(name);
        eventually(format!("{name} to have noted itself"), || !tree.notes(name).is_empty());
    }
    for (name, letters) in
        [("down", "d"), ("once", "o"), ("ended", "ok"), ("paused", "p"), ("silenced", "s"), ("counted", "k")]
    {
        tree.letter(name, letters);
    }
    tree.becomes("down", "down");
    tree.becomes("ended", "down");
    eventually("once", || tree.state("once")["want"] == "once");
    eventually("paused", || tree.state("paused")["paused"] == true);
    eventually("silenced", || tree.state("silenced")["alarms"] == false);
    eventually("counted", || tree.state("counted")["restarts"] == 1 && tree.pid("counted").is_some());
    tree.kill_svtree();
    tree.start();
    for name in ["once", "paused", "silenced", "counted"] {
        eventually(format!("{name} to be taken over"), || tree.state(name)["adopted"] == true);
    }
    for name in ["down", "ended"] {
        eventually(format!("{name} to be supervised"), || tree.called("svok", [name]).code == Some(0));
    }
    stays(Duration::from_millis(500), "what was down stays down, what ended is not started", || {
        tree.pid("down").is_none() && tree.pid("ended").is_none()
    });
    assert_eq!(tree.notes("down").len() + tree.notes("ended").len(), 2);
    assert_eq!(tree.state("down")["want"], "down");
    assert_eq!(tree.state("once")["want"], "once");
    assert_eq!(tree.state("paused")["paused"], true);
    assert_eq!(tree.state("silenced")["alarms"], false);
    let counted = tree.state("counted");
    assert!(counted["restarts"] == 1 && counted["exits"][0]["signal"] == 9, "{counted}");
    // Once means once, also under the next svtree.
    tree.letter("once", "k");
    tree.becomes("once", "down");
}

#[test]
fn a_module_that_was_given_up_stays_given_up() {
    let tree = Tree::running();
    let script = NOTING.replace("exec sleep 1000", "exit 1");
    tree.service("web").run(&script).toml("[restart]\ndelay = '10ms'\nmax_tries = 2").moved_in();
    tree.becomes("web", "failed");
    tree.kill_svtree();
    tree.start();
    eventually("it to be supervised", || tree.called("svok", ["web"]).code == Some(0));
    stays(Duration::from_millis(500), "not started", || tree.notes("web").len() == 3);
    tree.becomes("web", "failed");
}

#[test]
fn what_died_meanwhile_is_started_once() {
    let tree = Tree::running();
    tree.service("web").run(ONE_COPY).moved_in();
    let pid = tree.up("web");
    eventually("it to have noted itself", || !tree.notes("web").is_empty());
    tree.kill_svtree();
    signal_pid(pid, Signal::KILL);
    eventually("its end", || !alive(pid));
    tree.start();
    tree.up_again("web", pid);
    eventually("a second start", || tree.notes("web").len() == 2);
    stays(Duration::from_millis(300), "no third", || tree.notes("web").len() == 2);
    eventually("its exit to be told", || tree.state("web")["exits"][0]["pid"] == pid);
}

#[test]
fn what_a_program_left_that_died_meanwhile_is_ended_before_the_next_start() {
    let tree = Tree::running();
    tree.service("web").run(LEAVING).moved_in();
    let pid = tree.up("web");
    let left = tree.noted_pids("left", 1)[0];
    tree.kill_svtree();
    signal_pid(pid, Signal::KILL);
    eventually("its end", || !alive(pid));
    assert!(alive(left), "it left something");
    tree.start();
    tree.up_again("web", pid);
    let second = tree.noted_pids("left", 2)[1];
    assert!(!alive(left) && alive(second));
    assert_eq!(tree.notes("twice"), [""; 0]);
    assert_eq!(tree.stop().code(), Some(0));
    assert!(!alive(second));
}

#[test]
fn a_sweep_that_was_going_on_goes_on() {
    let tree = Tree::running();
    let script = "#!/bin/sh\nsh -c 'trap \"\" TERM; echo $$ >> \"$SVTREE_IT/notes/web\"; exec sleep 1000' &\n\
        exec sleep 1000\n";
    tree.service("web").run(script).toml("[stop]\ntimeout = '2s'").moved_in();
    let pid = tree.up("web");
    let left = tree.noted_pids("web", 1)[0];
    tree.letter("web", "d");
    eventually("the program itself to end", || !alive(pid));
    tree.becomes("web", "stopping");
    tree.kill_svtree();
    tree.start();
    tree.becomes("web", "down");
    assert!(!alive(left), "nothing is left when it is down");
    assert_eq!(tree.state("web")["want"], "down");
    assert_eq!(tree.notes("web").len(), 1, "not started again");
}

#[test]
fn a_program_whose_first_thread_has_ended_is_taken_over() {
    let tree = Tree::running();
    let Some(leaderless) = tree.compiled("leaderless", LEADERLESS) else { return };
    let script = ONE_COPY.replace("exec sleep 1000", &format!("exec '{}'", leaderless.display()));
    tree.service("web").run(&script).moved_in();
    let pid = wait_for("its first thread to end", || {
        let pid = tree.pid("web")?;
        let threads = fs::read_dir(format!("/proc/{pid}/task")).ok()?.count();
        (process_state(pid) == Some('Z') && threads == 2).then_some(pid)
    });
    eventually("the record", || tree.state("web")["pid"] == pid);
    tree.kill_svtree();
    tree.start();
    eventually("it to be taken over", || tree.state("web")["adopted"] == true);
    stays(Duration::from_millis(1300), "the same one", || tree.pid("web") == Some(pid));
    assert_eq!(tree.notes("web"), [pid.to_string()]);
    assert_eq!(tree.stop().code(), Some(0));
    // What the harness looks for is the environment, which went with the first thread; the lock is with the last.
    assert_eq!(tree.ran(["flock", "-n", "notes/web.lock", "true"]).code, Some(0), "it has ended");
}

#[test]
fn what_was_removed_meanwhile_is_retired() {
    let tree = Tree::running();
    tree.sleeper("running");
    tree.service("down").run(SLEEPER).file("down", "").moved_in();
    let pid = tree.up("running");
    tree.becomes("down", "down");
    tree.kill_svtree();
    remove(&tree.entry("running"));
    remove(&tree.entry("down"));
    tree.sleeper("new");
    tree.start();
    tree.up("new");
    tree.goes("running");
    tree.goes("down");
    assert!(!alive(pid));
}

#[test]
fn a_stop_that_was_going_on_goes_on() {
    let tree = Tree::running();
    tree.service("deaf").run(DEAF).toml("[stop]\ntimeout = '1s'").moved_in();
    let pid = tree.up("deaf");
    eventually("it to be deaf", || !tree.notes("deaf").is_empty());
    tree.letter("deaf", "d");
    tree.becomes("deaf", "stopping");
    tree.kill_svtree();
    tree.start();
    tree.becomes("deaf", "down");
    assert!(!alive(pid));
    assert_eq!(tree.notes("deaf").len(), 1, "not started again");
}

#[test]
fn a_recorded_pid_that_is_another_process_now_is_left_alone() {
    let tree = Tree::running();
    tree.sleeper("web");
    let pid = tree.up("web");
    tree.becomes("web", "up");
    tree.kill_svtree();
    signal_pid(pid, Signal::KILL);
    eventually("its end", || !alive(pid));
    // The pid comes round again: a stranger has it, as far as the record can tell.
    let mut stranger = spawn(std::process::Command::new("sleep").arg("1000")).expect("a stranger");
    let theirs = stranger.id().cast_signed();
    for path in walk(&tree.home("web")) {
        match path.file_name().and_then(|name| name.to_str()) {
            Some("state.json" | ".spawned") => {
                replace(&path, &text(&path).replace(&pid.to_string(), &theirs.to_string()), 0o644);
            }
            Some("status") => {
                let mut bytes = fs::read(&path).expect("status");
                bytes[16..].copy_from_slice(&theirs.to_le_bytes());
                fs::write(&path, bytes).expect("written");
            }
            _ => {}
        }
    }
    tree.start();
    tree.up_again("web", theirs);
    tree.letter("web", "d");
    tree.becomes("web", "down");
    assert!(alive(theirs), "a stranger is never signalled");
    stranger.kill().expect("kill");
    stranger.wait().expect("wait");
}

#[test]
fn under_another_boot_id_everything_starts_as_for_the_first_time() {
    let tree = Tree::running();
    tree.service("down").run(NOTING).moved_in();
    let pid = tree.up("down");
    tree.letter("down", "d");
    tree.becomes("down", "down");
    tree.kill_svtree();
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").expect("a boot id");
    let other = "00000000-0000-4000-8000-000000000000";
    let mut replaced = 0;
    for path in walk(&tree.path("status")) {
        if path.is_file() && text(&path).contains(boot.trim()) {
            replace(&path, &text(&path).replace(boot.trim(), other), 0o644);
            replaced += 1;
        }
    }
    assert!(replaced > 0, "the boot id is on record");
    tree.start();
    tree.up("down");
    assert_eq!(tree.state("down")["exits"][0]["pid"], pid, "but for its exits");
}

#[test]
fn a_record_that_is_no_record_costs_only_itself() {
    for record in ["", "{", "[]", "null", "{\"pid\": -1, \"exits\": 3, \"record\": []}", "\u{0}\u{0}\u{0}"] {
        let tree = Tree::new();
        tree.sleeper("web");
        fs::create_dir(tree.home("web")).expect("mkdir");
        fs::write(tree.home("web").join("state.json"), record).expect("written");
        fs::write(tree.home("web").join("status"), record).expect("written");
        tree.start();
        tree.up("web");
    }
}

#[test]
fn what_a_dead_one_left_behind_is_removed() {
    let tree = Tree::running();
    tree.sleeper("web");
    tree.service("off").run(SLEEPER).file("down", "").moved_in();
    tree.up("web");
    tree.becomes("off", "down");
    tree.kill_svtree();
    remove(&tree.entry("off"));
    // One was killed at its first step, another at its last.
    tree.ran(["mkdir", "status/begun"]).ok();
    tree.ran(["mkfifo", "status/begun/svcontrol"]).ok();
    write(&tree.home("begun/lock"), "", 0o600);
    tree.start();
    for name in ["off", "begun"] {
        tree.goes(name);
    }
    eventually("web to be taken over", || tree.state("web")["adopted"] == true);
}

#[test]
fn killed_at_any_moment_it_leaves_one_copy_of_each() {
    let tree = Tree::new();
    let names = ["a", "b", "c", "d", "e"];
    // They end by themselves all the time, so that a kill falls into every step of a restart.
    let script = ONE_COPY.replace("exec sleep 1000", "exec sleep 0.0$(($$ % 7))");
    for name in names {
        tree.service(name).run(&script).toml("[restart]\ndelay = '5ms'").moved_in();
    }
    for round in 0..20 {
        tree.start();
        eventually("some starts", || names.iter().any(|name| tree.pid(name).is_some()));
        stays(Duration::from_millis(20 + round * 13), "it runs", || tree.is_running());
        tree.kill_svtree();
    }
    for name in names {
        replace(&tree.entry(name).join("run"), ONE_COPY, 0o755);
    }
    tree.start();
    eventually("each to run for good", || {
        names.iter().all(|name| tree.pid(name).is_some_and(|pid| arguments(pid) == ["sleep", "1000"]))
    });
    assert_eq!(tree.notes("twice"), [""; 0], "never two copies");
    let svtree = tree.pid_of_svtree();
    eventually("nothing else to be left", || tree.processes().len() == names.len() + 1);
    assert_eq!(zombies(svtree), [0; 0]);
}

#[test]
fn killed_while_modules_come_and_go_it_ends_in_the_true_set() {
    let tree = Tree::new();
    for round in 0..10 {
        tree.start();
        tree.service(format!("m{round}")).run(ONE_COPY).moved_in();
        if round % 2 == 1 {
            tree.move_out(format!("m{}", round - 1));
        }
        stays(Duration::from_millis(round * 17), "it runs", || tree.is_running());
        tree.kill_svtree();
    }
    tree.start();
    let mut expected: Vec<String> = (0..10).filter(|round| round % 2 == 1).map(|round| format!("m{round}")).collect();
    expected.sort();
    for name in &expected {
        tree.up(name);
    }
    for name in &expected {
        eventually(format!("{name} to be supervised"), || tree.called("svok", [name]).code == Some(0));
    }
    eventually("the true set", || {
        let mut found: Vec<_> = fs::read_dir(tree.path("status"))
            .expect("the status root")
            .flatten()
            .filter(|entry| entry.path().is_dir())
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        found.sort();
        found == expected
    });
    eventually("one process of each", || tree.processes().len() == expected.len() + 1);
}

/// Whether TERM no longer ends the process: a thread of it keeps TERM for the one that waits for signals, whose own
/// mask says nothing while it waits.
fn hears_term(pid: i32) -> bool {
    fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten().any(|thread| {
        let status = text(&thread.path().join("status"));
        let mask = status.lines().find_map(|line| line.strip_prefix("SigBlk:"));
        mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & (1 << 14) != 0)
    })
}

#[test]
fn told_to_end_as_soon_as_it_hears_it_leaves_nothing_of_its_predecessor() {
    let tree = Tree::new();
    for round in 0..10 {
        tree.start();
        tree.service(format!("m{round}")).run(ONE_COPY).moved_in();
        tree.up(format!("m{round}"));
        tree.kill_svtree();
        tree.start();
        eventually("it to hear signals", || hears_term(tree.pid_of_svtree()));
        assert_eq!(tree.stop().code(), Some(0));
        let left = tree.processes();
        assert!(left.is_empty(), "round {round}: {left:?} left");
    }
}

#[test]
fn told_to_end_before_anything_has_begun_again_it_leaves_no_status_behind() {
    let mut tree = Tree::running();
    for name in ["down", "up"] {
        tree.sleeper(name);
        tree.up(name);
    }
    tree.letter("down", "d");
    tree.becomes("down", "down");
    tree.kill_svtree();
    for name in ["down", "up"] {
        // Young again: it is not begun for a while.
        write(&tree.entry(name).join("run"), SLEEPER, 0o755);
    }
    tree = tree.options(["--log", "none", "--settle", "1m"]);
    tree.start();
    eventually("it to hear signals", || hears_term(tree.pid_of_svtree()));
    assert_eq!(tree.stop().code(), Some(0));
    assert!(!tree.home("down").exists() && !tree.home("up").exists());
}

#[test]
fn what_went_away_while_no_svtree_ran_is_stopped_as_it_asked_to_be() {
    for away in [true, false] {
        let tree = Tree::running();
        let run = "#!/bin/sh\ntrap 'echo TERM >> \"$SVTREE_IT/notes/told\"' TERM\n\
                   trap 'echo INT >> \"$SVTREE_IT/notes/told\"; sleep 0.5; exit 3' INT\n\
                   echo >> \"$SVTREE_IT/notes/traps\"\nwhile :; do sleep 0.05; done\n";
        tree.service("web").run(run).toml("[stop]\nsignal = 'INT'\ntimeout = 'never'\n").moved_in();
        let pid = tree.up("web");
        eventually("it to be told", || !tree.notes("traps").is_empty());
        tree.kill_svtree();
        if away {
            tree.move_out("web");
        } else {
            fs::rename(tree.entry("web"), tree.entry("other")).expect("renamed");
        }
        tree.start();
        tree.goes("web");
        assert!(!alive(pid));
        assert_eq!(tree.notes("told"), ["INT"]);
    }
}
