//! Section: restarts, their pace, their back-off, and giving up.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::harness::{CRASHING, NOTING, SLEEPER, Tree, eventually, signal_pid, skip, stays, wait_for};

/// Notes the time of each start in nanoseconds, and ends.
const STAMPING: &str = "#!/bin/sh\ndate +%s%N >> \"$SVTREE_IT/notes/$SVTREE_MODULE\"\nexit 1\n";

/// The seconds between one start and the next.
fn gaps(tree: &Tree, name: &str) -> Vec<f64> {
    let times: Vec<f64> = tree.notes(name).iter().filter_map(|line| line.parse().ok()).collect();
    times.windows(2).map(|pair| (pair[1] - pair[0]) / 1e9).collect()
}

#[test]
fn a_program_that_cannot_start_costs_one_start_a_second() {
    let tree = Tree::running();
    tree.service("web").run(STAMPING).moved_in();
    eventually("five starts", || tree.notes("web").len() >= 5);
    let gaps = gaps(&tree, "web");
    // A stamp is late by what its shell waits for the processor, so one gap alone may look short.
    assert!(gaps.iter().sum::<f64>() > 3.5 && gaps.iter().all(|gap| *gap > 0.5), "{gaps:?}");
}

#[test]
fn the_pause_is_counted_from_the_last_start() {
    let tree = Tree::running();
    let script = STAMPING.replace("exit 1", "sleep 1.5\nexit 1");
    tree.service("web").run(&script).toml("[restart]\ndelay = '3s'").moved_in();
    eventually("two starts", || tree.notes("web").len() >= 2);
    let gap = gaps(&tree, "web")[0];
    // Counted from the exit it would be 4.5 s.
    assert!((2.5..4.4).contains(&gap), "{gap}");
}

#[test]
fn a_program_that_had_run_for_the_delay_is_started_at_once() {
    let tree = Tree::running();
    tree.service("web").run(SLEEPER).toml("[restart]\ndelay = '3s'").moved_in();
    let pid = tree.up("web");
    stays(Duration::from_millis(3100), "it runs", || tree.pid("web") == Some(pid));
    let killed = Instant::now();
    signal_pid(pid, Signal::KILL);
    tree.up_again("web", pid);
    assert!(killed.elapsed() < Duration::from_millis(1500), "{:?}", killed.elapsed());
}

#[test]
fn while_it_waits_the_state_says_until_when() {
    let tree = Tree::running();
    tree.service("web").run(CRASHING).toml("[restart]\ndelay = '10m'").moved_in();
    tree.becomes("web", "waiting");
    let state = tree.state("web");
    let next: jiff::Timestamp = state["next_start"].as_str().expect("a time").parse().expect("RFC 3339");
    let seconds = jiff::Timestamp::now().until(next).expect("a span").total(jiff::Unit::Second).expect("seconds");
    assert!((500.0..=600.0).contains(&seconds), "{seconds}");
    assert!(state["pid"].is_null() && state["want"] == "up");
    assert_eq!(tree.pid("web"), None);
}

#[test]
fn with_max_delay_the_pause_doubles_up_to_it() {
    let tree = Tree::running();
    let toml = "[restart]\ndelay = '100ms'\nmax_delay = '1600ms'";
    tree.service("web").run(STAMPING).toml(toml).moved_in();
    eventually("eight starts", || tree.notes("web").len() >= 8);
    let gaps = gaps(&tree, "web");
    assert!(gaps[0] < 1.2 && gaps[5] > 1.2 && gaps[6] > 1.2, "{gaps:?}");
    assert!(gaps[6] < 3.0, "it does not grow beyond: {gaps:?}");
}

#[test]
fn a_run_of_the_interval_ends_the_back_off() {
    let tree = Tree::running();
    let script = STAMPING.replace("exit 1", "[ \"$(wc -l < \"$SVTREE_IT/notes/web\")\" -eq 6 ] && sleep 1.5\nexit 1");
    let toml = "[restart]\ndelay = '100ms'\nmax_delay = '10m'\ninterval = '1s'";
    tree.service("web").run(&script).toml(toml).moved_in();
    // Five short runs: the next pause would be 3.2 s and more; the sixth run lasts, and the pause begins anew.
    eventually("eight starts", || tree.notes("web").len() >= 8);
    let gaps = gaps(&tree, "web");
    assert!(gaps[4] > 1.0, "it had grown: {gaps:?}");
    assert!((1.4..2.5).contains(&gaps[5]) && gaps[6] < 1.0, "it began anew: {gaps:?}");
}

#[test]
fn more_than_max_tries_exits_and_it_is_given_up() {
    let tree = Tree::running();
    let toml = "[restart]\ndelay = '10ms'\nmax_tries = 3";
    tree.service("web").run(CRASHING).toml(toml).moved_in();
    tree.becomes("web", "failed");
    assert_eq!(tree.notes("web").len(), 4);
    let state = tree.state("web");
    assert!(state["reason"].as_str().is_some_and(|why| !why.is_empty()), "{state}");
    assert!(state["next_start"].is_null(), "{state}");
    stays(Duration::from_millis(300), "it stays down", || tree.notes("web").len() == 4);
    tree.letter("web", "u");
    eventually("u to begin anew", || tree.notes("web").len() == 8);
    tree.becomes("web", "failed");
}

#[test]
fn exits_outside_the_interval_do_not_count() {
    let tree = Tree::running();
    let toml = "[restart]\ndelay = '400ms'\nmax_tries = 3\ninterval = '1s'";
    tree.service("web").run(CRASHING).toml(toml).moved_in();
    eventually("more exits than the tries", || tree.notes("web").len() > 6);
    assert_ne!(tree.state("web")["state"], "failed");
}

#[test]
fn core_dumps_are_counted_by_themselves() {
    let tree = Tree::running();
    let script = CRASHING.replace("exit 1", "ulimit -c unlimited\nkill -ABRT $$");
    let toml = "[restart]\ndelay = '10ms'\nmax_tries_if_coredumped = 1";
    tree.service("web").run(&script).toml(toml).moved_in();
    let core = wait_for("an exit", || tree.state("web")["exits"][0]["core"].as_bool());
    if !core {
        return skip("no core dumps here");
    }
    tree.becomes("web", "failed");
    assert_eq!(tree.notes("web").len(), 2);
    assert_eq!(tree.state("web")["exits"][0]["signal"], 6);
}

#[test]
fn when_says_after_which_exits_it_is_started_again() {
    let tree = Tree::running();
    let exiting = |code: &str| CRASHING.replace("exit 1", &format!("exit {code}"));
    for (name, when, code) in
        [("f0", "failure", "0"), ("f1", "failure", "1"), ("n0", "never", "0"), ("n1", "never", "1")]
    {
        let toml = format!("[restart]\nwhen = '{when}'\ndelay = '10ms'");
        tree.service(name).run(&exiting(code)).toml(&toml).moved_in();
    }
    eventually("the failure to be started again", || tree.notes("f1").len() > 2);
    for name in ["f0", "n0", "n1"] {
        eventually(format!("{name} to have exited"), || tree.state(name)["exits"][0]["pid"].is_i64());
    }
    stays(Duration::from_millis(300), "nothing else is", || {
        ["f0", "n0", "n1"].iter().all(|name| tree.notes(name).len() == 1)
    });
}

#[test]
fn exits_are_the_last_20_the_newest_first() {
    let tree = Tree::running();
    let script = "#!/bin/sh\necho $$ >> \"$SVTREE_IT/notes/web\"\nexit \"$(wc -l < \"$SVTREE_IT/notes/web\")\"\n";
    tree.service("web").run(script).toml("[restart]\ndelay = '1ms'\nmax_tries = 24").moved_in();
    tree.becomes("web", "failed");
    let state = tree.state("web");
    let exits = state["exits"].as_array().expect("exits");
    let codes: Vec<_> = exits.iter().filter_map(|exit| exit["code"].as_i64()).collect();
    assert_eq!(codes, (6..=25).rev().collect::<Vec<_>>());
    let pids: Vec<_> = exits.iter().map(|exit| exit["pid"].to_string()).collect();
    let noted: Vec<_> = tree.notes("web").into_iter().rev().take(20).collect();
    assert_eq!(pids, noted);
    let exit = &exits[0];
    assert!(exit["signal"].is_null() && exit["core"] == Value::Bool(false), "{exit}");
    assert!(exit["uptime"].as_f64().is_some_and(|uptime| (0.0..5.0).contains(&uptime)), "{exit}");
    assert!(exit["at"].as_str().is_some_and(|at| at.parse::<jiff::Timestamp>().is_ok()), "{exit}");
    assert_eq!(state["restarts"], 24);
}

#[test]
fn a_service_that_kills_its_group_hurts_nobody_else() {
    let tree = Tree::running();
    tree.service("other").run(NOTING).moved_in();
    let other = tree.up("other");
    tree.service("web").run(&CRASHING.replace("exit 1", "kill -TERM 0; sleep 1000")).moved_in();
    eventually("it to have killed itself twice", || tree.notes("web").len() > 1);
    assert!(tree.is_running());
    assert_eq!(tree.pid("other"), Some(other));
}
