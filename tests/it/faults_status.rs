//! Faults around the status: it is read while it changes, and fought for.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::harness::{ONE_COPY, SVTREE, Tree, alive, eventually, ran, replace, spawn, stays, text};

/// Notes its pid and ends at once, a hundred times a second.
const FLAPPING: &str = "#!/bin/sh\necho $$ >> \"$SVTREE_IT/notes/$SVTREE_MODULE\"\n";

#[test]
fn status_read_a_hundred_thousand_times_is_whole_and_names_a_program() {
    let tree = Tree::running();
    let entry = tree.service("web").run(FLAPPING).toml("[restart]\ndelay = '2ms'").moved_in();
    eventually("it to flap", || tree.state("web")["restarts"].as_u64() > Some(3));
    let mut seen = BTreeSet::new();
    for _ in 0..100_000 {
        let bytes = tree.status("web").expect("it is never missing");
        assert_eq!(bytes.len(), 20);
        assert!(matches!(bytes[12..16], [0, b'u', b'o', 0]), "{bytes:?}");
        seen.insert(i32::from_le_bytes(bytes[16..].try_into().expect("4 bytes")));
    }
    seen.remove(&0);
    assert!(seen.len() > 10, "it flapped: {}", seen.len());
    replace(&entry.join("run"), ONE_COPY, 0o755);
    tree.letter("web", "d");
    tree.becomes("web", "down");
    let noted: BTreeSet<i32> = tree.notes("web").iter().map(|line| line.parse().expect("a pid")).collect();
    // The last one may have been ended by `d` before it could note itself.
    let last = tree.state("web")["exits"][0]["pid"].as_i64();
    let strangers: Vec<_> = seen.difference(&noted).filter(|pid| last != Some(i64::from(**pid))).collect();
    assert!(strangers.is_empty(), "{strangers:?}");
}

#[test]
fn of_many_that_are_started_at_once_one_runs_twenty_times() {
    let tree = Tree::new();
    tree.service("web").run(ONE_COPY).moved_in();
    for round in 0..20 {
        tree.start();
        let words = [SVTREE, "run", "services", "--status", "status", "--log", "none"];
        let mut others: Vec<_> = (0..4)
            .map(|number| {
                let out = std::fs::File::create(tree.path(format!("out/{number}"))).expect("a file");
                spawn(tree.command(words).stderr(out)).expect("svtree starts")
            })
            .collect();
        // Which one wins is open; that all others give up is not.
        let mut codes = vec![None; others.len()];
        eventually("all but one to give up", || {
            for (other, code) in others.iter_mut().zip(&mut codes) {
                *code = other.try_wait().expect("wait").map(|status| status.code());
            }
            let ours = usize::from(tree.is_running());
            codes.iter().filter(|code| code.is_none()).count() + ours == 1
        });
        let pid = tree.up("web");
        assert!(codes.iter().flatten().all(|code| *code == Some(111)), "round {round}: {codes:?}");
        assert!(alive(pid));
        if tree.is_running() {
            assert_eq!(tree.stop().code(), Some(0));
        } else {
            assert_eq!(tree.ended().code(), Some(111));
            ran(&mut tree.command([SVTREE, "shutdown", "--status", "status"])).ok();
            for other in &mut others {
                eventually("the one that won to end", || other.try_wait().expect("wait").is_some());
            }
        }
    }
    assert_eq!(tree.notes("twice"), [""; 0], "never two copies");
}

#[test]
fn two_svtrees_with_status_roots_of_their_own_never_run_a_module_twice() {
    let tree = Tree::running();
    tree.service("web")
        .run(&ONE_COPY.replace("exec sleep", "echo $PPID >> \"$SVTREE_IT/notes/parents\"\nexec sleep"))
        .moved_in();
    let pid = tree.up("web");
    let said = tree.path("out/second");
    let words = [SVTREE, "run", "services", "--status", "elsewhere/status", "--log", "none"];
    let out = std::fs::File::create(&said).expect("a file");
    let mut second = spawn(tree.command(words).stderr(out)).expect("svtree starts");
    eventually("web to be refused by name", || text(&said).contains("starting web: ") && text(&said).contains("held"));
    assert_eq!(tree.pid("web"), Some(pid));
    tree.letter("web", "k");
    tree.up_again("web", pid);
    // The first one's files are as they were when the second one goes.
    ran(&mut tree.command([SVTREE, "shutdown", "--status", "elsewhere/status"])).ok();
    eventually("it to end", || second.try_wait().expect("wait").is_some());
    assert_eq!(tree.called("svok", [tree.entry("web")]).code, Some(0));
    assert_eq!(tree.notes("twice"), [""; 0], "never two copies");
    let parents: BTreeSet<String> = tree.notes("parents").into_iter().collect();
    assert_eq!(parents.into_iter().collect::<Vec<_>>(), [tree.pid_of_svtree().to_string()]);
}

#[test]
fn a_status_of_any_bytes_is_bad_or_told_and_never_a_crash() {
    let tree = Tree::running();
    tree.service("web").run(ONE_COPY).file("down", "").moved_in();
    tree.becomes("web", "down");
    tree.kill_svtree();
    let mut random: u64 = 88_172_645_463_325_252;
    for length in [0, 1, 17, 18, 19, 20, 21, 35, 4096].into_iter().chain(std::iter::repeat_n(20, 20)) {
        let mut bytes = Vec::with_capacity(length);
        for _ in 0..length {
            // Xorshift: other bytes in each round, and the same in each run.
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            bytes.push(random.to_le_bytes()[3]);
        }
        std::fs::write(tree.home("web").join("status"), &bytes).expect("written");
        std::fs::write(tree.home("web").join("state.json"), &bytes).expect("written");
        for words in [&["svstat", "web"][..], &["svok", "web"], &["svtree", "status"], &["svtree", "status", "--json"]]
        {
            let said = tree.called(words[0], &words[1..]);
            assert!(said.code.is_some() && !said.err.contains("panicked"), "{words:?} {bytes:?}: {said:?}");
            assert!(!said.out.contains('\u{1b}'), "{words:?} {bytes:?}: {said:?}");
        }
    }
}

#[test]
fn a_stamp_of_the_future_makes_no_negative_time() {
    let tree = Tree::running();
    tree.sleeper("web");
    tree.up("web");
    tree.becomes("web", "up");
    tree.signal_svtree(rustix::process::Signal::STOP);
    let mut status = tree.status("web").expect("status");
    // As after the clock was set back by a year.
    let label = u64::from_be_bytes(status[..8].try_into().expect("8 bytes")) + 365 * 86_400;
    status[..8].copy_from_slice(&label.to_be_bytes());
    std::fs::write(tree.home("web").join("status"), status).expect("written");
    let state = text(&tree.home("web").join("state.json")).replacen("\"since\":\"20", "\"since\":\"21", 1);
    replace(&tree.home("web").join("state.json"), &state, 0o644);
    let line = tree.called("svstat", ["web"]).ok();
    assert!(line.ends_with(") 0 seconds\n"), "{line}");
    let all: serde_json::Value = serde_json::from_str(&tree.svtree(["status", "--json", "web"]).ok()).expect("JSON");
    assert!(all[0]["uptime"].as_f64() >= Some(0.0), "{all}");
    tree.signal_svtree(rustix::process::Signal::CONT);
}

#[test]
fn files_of_the_future_and_of_the_past_are_used_as_any_other() {
    let tree = Tree::running();
    for (name, time) in [("future", "+1 year"), ("past", "1970-01-02")] {
        let dir = tree.service(name).run(ONE_COPY).toml("").dir();
        tree.ran(["touch".as_ref(), "-d".as_ref(), time.as_ref(), dir.join("run").as_os_str(), dir.as_os_str()]).ok();
        std::fs::rename(&dir, tree.entry(name)).expect("moved in");
        let pid = tree.up(name);
        tree.letter(name, "k");
        tree.up_again(name, pid);
    }
    stays(Duration::from_millis(300), "both run", || tree.pid("future").is_some() && tree.pid("past").is_some());
}
