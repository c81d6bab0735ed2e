//! Faults in the life of a program: many deaths at once, odd ends, names that lie, children that hide.

use std::time::Duration;

use rustix::process::Signal;

use crate::harness::{
    NOTING, ONE_COPY, SLEEPER, Tree, alive, children, chmod, eventually, is_root, process_field, process_state,
    program, runs, signal_pid, skip, stays, wait_for, within, zombies,
};

#[test]
fn two_hundred_modules_killed_at_the_same_instant_are_all_up_again() {
    let tree = Tree::new();
    let names: Vec<String> = (0..200).map(|number| format!("m{number}")).collect();
    for name in &names {
        tree.service(name).toml("command = 'sleep 1000'").moved_in();
    }
    tree.start();
    let before: Vec<i32> = names.iter().map(|name| tree.up(name)).collect();
    before.iter().for_each(|pid| signal_pid(*pid, Signal::KILL));
    within(Duration::from_secs(10), "all to be up again", || {
        names.iter().zip(&before).all(|(name, before)| tree.pid(name).is_some_and(|pid| pid != *before))
    });
    eventually("no zombie to be left", || zombies(tree.pid_of_svtree()).is_empty());
    for name in &names {
        eventually(format!("{name} to tell"), || {
            let state = tree.state(name);
            state["exits"][0]["signal"] == 9 && state["restarts"] == 1
        });
    }
}

#[test]
fn a_program_that_signals_every_process_costs_the_others_a_restart_and_svtree_nothing() {
    // In a pid namespace of its own, or it would end this machine.
    let root: &[&str] = if is_root() { &[] } else { &["--user", "--map-root-user"] };
    let own = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"];
    let unshare: Vec<&str> = own.iter().chain(root).copied().collect();
    let tree = Tree::new().through(unshare.iter().copied());
    if program("unshare").is_none() || tree.ran(unshare.into_iter().chain(["true"])).code != Some(0) {
        return skip("no pid namespaces here");
    }
    tree.service("web").run(NOTING).moved_in();
    tree.start();
    eventually("web to run", || tree.notes("web").len() == 1 && tree.pid("web").is_some());
    let script = "#!/bin/sh\necho $$ >> \"$SVTREE_IT/notes/suicide\"\nkill -TERM -1\nkill -KILL -1\n";
    tree.service("suicide").run(script).file("down", "").moved_in();
    tree.becomes("suicide", "down");
    for round in 2..7 {
        tree.letter("suicide", "o");
        eventually("web to be started again", || tree.notes("web").len() >= round);
        tree.becomes("web", "up");
        tree.becomes("suicide", "down");
        assert!(tree.is_running());
    }
}

#[test]
fn no_exit_code_means_more_than_another() {
    let tree = Tree::new();
    let codes = [0, 1, 77, 99, 100, 111, 125, 126, 127, 137, 255];
    for code in codes {
        let script = NOTING.replace("exec sleep 1000", &format!("exit {code}"));
        tree.service(format!("code{code}")).run(&script).toml("[restart]\ndelay = '20ms'").moved_in();
    }
    tree.start();
    for code in codes {
        let name = format!("code{code}");
        eventually(format!("{name} to be started again"), || tree.notes(&name).len() > 2);
        assert_eq!(tree.state(&name)["exits"][0]["code"], code);
    }
}

#[test]
fn a_program_that_lies_about_its_name_is_taken_over_and_swept_as_any_other() {
    let tree = Tree::running();
    let script = ONE_COPY.replace(
        "exec sleep 1000",
        "printf 'x) Z 1 1 (y' > /proc/$$/comm\nsh -c 'printf \") R 1 (\" > /proc/$$/comm; \
         echo $$ >> \"$SVTREE_IT/notes/child\"; while :; do sleep 1000; done' 9>&- &\nwhile :; do wait; done",
    );
    tree.service("web").run(&script).moved_in();
    let pid = tree.up("web");
    let child = tree.noted_pids("child", 1)[0];
    eventually("its name to lie", || process_field(pid, "Name") == "x) Z 1 1 (y");
    tree.kill_svtree();
    tree.start();
    eventually("it to be taken over", || tree.state("web")["adopted"] == true);
    assert_eq!(tree.pid("web"), Some(pid));
    tree.letter("web", "d");
    tree.becomes("web", "down");
    assert!(!alive(pid) && !alive(child));
    assert_eq!(tree.notes("twice"), [""; 0]);
}

#[test]
fn a_stopped_program_is_neither_dead_nor_in_the_way() {
    let tree = Tree::running();
    tree.sleeper("web");
    let pid = tree.up("web");
    signal_pid(pid, Signal::STOP);
    stays(Duration::from_millis(300), "it is up", || tree.pid("web") == Some(pid));
    tree.letter("web", "d");
    tree.becomes("web", "down");
    assert!(!alive(pid));
}

#[test]
fn an_environment_beyond_what_the_kernel_takes_is_a_reason_and_can_be_mended() {
    let tree = Tree::running();
    let service = tree.service("big").run(SLEEPER).toml("environment_dir = 'env'");
    let value = "x".repeat(131_000);
    let service = (10..30).fold(service, |service, number| service.file(&format!("env/V{number}"), &value));
    let entry = service.moved_in();
    tree.becomes("big", "waiting");
    let why = tree.state("big")["reason"].as_str().expect("a reason").to_owned();
    assert!(why.contains("big") || why.contains("2 MiB"), "{why}");
    crate::harness::remove(&entry.join("env"));
    std::fs::create_dir(entry.join("env")).expect("mkdir");
    tree.up("big");
    assert!(tree.is_running());
}

#[test]
fn a_start_that_svtree_did_not_live_to_record_is_taken_over_and_runs_on() {
    // It kills svtree before anything else: before or after the record, as it happens.
    let script = ONE_COPY.replace("exec sleep", "kill -KILL $PPID\nexec sleep");
    for letter in ["o", "u"].repeat(5) {
        let tree = Tree::running();
        tree.service("web").run(&script).file("down", "").moved_in();
        tree.becomes("web", "down");
        tree.letter("web", letter);
        let pid = tree.noted_pids("web", 1)[0];
        eventually("svtree to be killed", || !tree.is_running());
        tree.ended();
        tree.start();
        eventually("it to be taken over", || tree.state("web")["adopted"] == true || !alive(pid));
        stays(Duration::from_millis(200), "it runs on", || alive(pid) && tree.pid("web") == Some(pid));
        assert_ne!(tree.state("web")["want"], "down");
        assert_eq!(tree.notes("twice"), [""; 0], "never two copies");
    }
}

#[test]
fn a_child_that_is_stopped_before_it_has_executed_holds_nobody_up_for_long() {
    if !is_root() {
        return skip("another user to run as needs root");
    }
    let tree = Tree::running();
    chmod(&tree.path(""), 0o755);
    tree.sleeper("other");
    let other = tree.up("other");
    // Whoever is the user that it has become may stop it. So many places to look in for a program take a while.
    let path = format!("{}:{}", "/n:".repeat(30_000), "/usr/bin:/bin");
    let toml = format!(
        "user = 4242\ngroup = 4242\ncommand = 'true'\nrestart.delay = '10ms'\n[environment]\nPATH = '{path}'\n"
    );
    tree.service("web").toml(&toml).moved_in();
    let svtree = tree.pid_of_svtree();
    let own = runs(svtree);
    let stopped = wait_for("a child that has not executed yet", || {
        let child = children(svtree).into_iter().find(|child| {
            let uid = process_field(*child, "Uid");
            runs(*child) == own && uid.starts_with("4242\t")
        })?;
        signal_pid(child, Signal::STOP);
        eventually("it to be stopped, or gone", || matches!(process_state(child), Some('T' | 'Z') | None));
        let stopped = runs(child) == own;
        if !stopped {
            signal_pid(child, Signal::CONT);
        }
        stopped.then_some(child)
    });
    tree.letter("other", "t");
    tree.up_again("other", other);
    eventually("to be told of it", || {
        tree.told("web").contains("executing true: not done within 10s, so it was killed; something held or stopped it")
    });
    assert!(!alive(stopped));
    let starts = tree.state("web")["restarts"].as_u64();
    eventually("it to be started again", || tree.state("web")["restarts"].as_u64() > starts);
}
