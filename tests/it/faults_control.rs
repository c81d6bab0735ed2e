//! Faults on the way of a letter: floods, many clients at once, a writer that does not write.

use std::fs;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::harness::{NOTING, SVTREE, Tree, alive, eventually, process_state, ran, stays, ticks, within, write_fifo};

/// Asserts that svtree uses less than 0.5 % of a core, and no more than the one tick that a clock may round up to.
#[track_caller]
fn assert_idle(tree: &Tree) {
    let pid = tree.pid_of_svtree();
    let before = ticks(pid);
    stays(Duration::from_secs(2), "it runs", || tree.is_running());
    let used = ticks(pid) - before;
    assert!(used <= 2, "{used} ticks of 1/100 s in 2 s");
}

#[test]
fn after_a_flood_of_unknown_bytes_it_stops_at_once_and_is_idle() {
    let tree = Tree::running();
    tree.sleeper("web");
    let pid = tree.up("web");
    tree.letter("web", [vec![b'Z'; 60_000], b"d".to_vec()].concat());
    within(Duration::from_secs(5), "it to stop", || !alive(pid));
    tree.becomes("web", "down");
    assert_idle(&tree);
}

#[test]
fn a_writer_that_holds_the_fifo_open_and_does_not_write_costs_nothing() {
    let tree = Tree::running();
    tree.sleeper("web");
    let pid = tree.up("web");
    let _held = write_fifo(&tree.home("web").join("svcontrol")).expect("a reader");
    let _view = write_fifo(&tree.entry("web").join("supervise/control")).expect("a reader");
    stays(Duration::from_millis(300), "it runs", || tree.is_running());
    assert_idle(&tree);
    tree.letter("web", "k");
    tree.up_again("web", pid);
}

#[test]
fn a_flood_without_end_costs_only_its_own_module() {
    let tree = Tree::running();
    for name in ["flooded", "web"] {
        tree.service(name).run(NOTING).moved_in();
        tree.up(name);
    }
    let over = AtomicBool::new(false);
    let mut fifo = write_fifo(&tree.home("flooded").join("svcontrol")).expect("a reader");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                // Full: the reader comes round.
                let _ = fifo.write(&[b'Z'; 4096]);
            }
        });
        for _ in 0..5 {
            let pid = tree.up("web");
            tree.letter("web", "k");
            tree.up_again("web", pid);
        }
        over.store(true, Ordering::Relaxed);
    });
    // It takes what came first before there is room for more.
    eventually("room for a letter", || fifo.write(b"d").is_ok());
    tree.becomes("flooded", "down");
}

#[test]
fn a_hundred_clients_send_term_to_fifty_modules_and_none_is_lost() {
    let tree = Tree::new();
    let names: Vec<String> = (0..50).map(|number| format!("m{number}")).collect();
    let hears = "#!/bin/sh\ntrap 'echo TERM >> \"$SVTREE_IT/notes/$SVTREE_MODULE\"' TERM\n\
        echo ready >> \"$SVTREE_IT/notes/$SVTREE_MODULE\"\nsleep 1000 &\nwhile kill -0 $!; do wait $!; done 2> /dev/null\n";
    for name in &names {
        tree.service(name).run(hears).toml("[stop]\nsignal = 'KILL'").moved_in();
    }
    tree.start();
    for name in &names {
        eventually(format!("{name} to listen"), || tree.notes(name) == ["ready"]);
    }
    let pids: Vec<i32> = names.iter().map(|name| tree.up(name)).collect();
    std::thread::scope(|scope| {
        for _ in 0..100 {
            let mut command = tree.command([SVTREE, "term"]);
            command.args(&names);
            scope.spawn(move || ran(&mut command).ok());
        }
    });
    for (name, pid) in names.iter().zip(pids) {
        eventually(format!("{name} to hear TERM"), || tree.notes(name).iter().any(|line| line == "TERM"));
        assert_eq!(tree.pid(name), Some(pid), "{name} is the same and alive");
        tree.letter(name, "p");
        eventually(format!("{name} to obey"), || tree.state(name)["paused"] == true);
    }
}

#[test]
fn d_u_d_u_in_the_pause_before_a_restart_ends_up_twenty_times() {
    let tree = Tree::new();
    let names: Vec<String> = (0..20).map(|number| format!("m{number}")).collect();
    let crash_first = NOTING.replace("exec", "[ -e \"$SVTREE_IT/notes/calm\" ] || exit 1\nexec");
    for name in &names {
        tree.service(name).run(&crash_first).moved_in();
    }
    tree.start();
    for name in &names {
        tree.becomes(name, "waiting");
    }
    fs::write(tree.path("notes/calm"), "").expect("written");
    // Each is caught at another moment of its pause, and some in its start.
    for name in &names {
        for letter in ["d", "u", "d", "u"] {
            tree.letter(name, letter);
        }
    }
    for name in &names {
        tree.up(name);
        tree.becomes(name, "up");
        assert_eq!(tree.state(name)["want"], "up");
    }
}

#[test]
fn what_is_written_while_svtree_is_stopped_is_obeyed_when_it_goes_on() {
    let tree = Tree::running();
    tree.sleeper("web");
    let mut pid = tree.up("web");
    for _ in 0..5 {
        tree.signal_svtree(rustix::process::Signal::STOP);
        tree.letter("web", "d");
        tree.letter("web", "u");
        tree.signal_svtree(rustix::process::Signal::CONT);
        pid = tree.up_again("web", pid);
    }
    tree.becomes("web", "up");
}

#[test]
fn a_fifo_that_is_full_is_told_and_no_client_hangs() {
    let tree = Tree::running();
    tree.sleeper("web");
    let pid = tree.up("web");
    tree.signal_svtree(rustix::process::Signal::STOP);
    let mut fifo = write_fifo(&tree.home("web").join("svcontrol")).expect("a reader");
    let tasks = format!("/proc/{}/task", tree.pid_of_svtree());
    eventually("every thread to be stopped", || {
        let threads = fs::read_dir(&tasks).expect("its threads").flatten();
        let mut pids = threads.filter_map(|thread| thread.file_name().to_str()?.parse().ok());
        pids.all(|pid| process_state(pid) == Some('T'))
    });
    for size in [4096, 1] {
        while fifo.write(&vec![b'\n'; size]).is_ok() {}
    }
    let said: Vec<_> = std::thread::scope(|scope| {
        let clients = [("svtree", ["kill", "web"]), ("svc", ["-k", "web"])].map(|(name, args)| {
            let mut command = tree.command([tree.link(name)]);
            command.args(args);
            scope.spawn(move || ran(&mut command))
        });
        clients.into_iter().map(|client| client.join().expect("it ends")).collect()
    });
    assert_eq!((said[0].code, said[1].code), (Some(111), Some(0)), "{said:?}");
    assert!(said.iter().all(|said| said.err.contains("web") && said.err.contains("FIFO")), "{said:?}");
    tree.signal_svtree(rustix::process::Signal::CONT);
    eventually("room for a letter", || fifo.write(b"k").is_ok());
    tree.up_again("web", pid);
}
