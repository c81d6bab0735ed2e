//! What the chaos found, each made to happen for certain.
//!
//! Must never hold what the chaos only might do: that is in `tests/chaos`.

use std::fs;
use std::thread;
use std::time::Instant;

use rustix::process::Signal;

use crate::harness::{PATIENCE, Tree, eventually, process_state, remove, signal_pid};

/// What svtree is asked while it is stopped it sees all at once when it goes on.
fn while_stopped(tree: &Tree, things: impl FnOnce()) {
    tree.signal_svtree(Signal::STOP);
    let svtree = tree.pid_of_svtree();
    eventually("svtree to be stopped", || process_state(svtree) == Some('T'));
    things();
    tree.signal_svtree(Signal::CONT);
}

#[test]
fn a_letter_is_not_lost_when_the_program_ends_and_the_status_directory_is_removed() {
    let tree = Tree::running();
    tree.sleeper("web");
    let pid = tree.up("web");
    while_stopped(&tree, || {
        tree.letter("web", "d");
        remove(&tree.home("web"));
        signal_pid(pid, Signal::KILL);
    });
    tree.becomes("web", "down");
    assert_eq!(tree.state("web")["want"], "down");
}

#[test]
fn a_letter_is_not_lost_when_the_program_ends_and_the_status_directory_is_replaced() {
    let tree = Tree::running();
    tree.sleeper("web");
    let pid = tree.up("web");
    while_stopped(&tree, || {
        tree.letter("web", "d");
        fs::rename(tree.home("web"), tree.path("elsewhere/web")).expect("moved away");
        fs::remove_dir_all(tree.path("elsewhere/web")).expect("removed");
        fs::create_dir(tree.home("web")).expect("another one");
        signal_pid(pid, Signal::KILL);
    });
    tree.becomes("web", "down");
    assert_eq!(tree.state("web")["want"], "down");
}

#[test]
fn what_is_removed_just_before_the_status_directory_is_watched_is_there_again() {
    let tree = Tree::running();
    for round in 0..10 {
        let name = format!("web{round}");
        let ok = tree.home(&name).join("ok");
        tree.sleeper(&name);
        // The blow must fall while the program is being started: no time to wait in between.
        let end = Instant::now() + PATIENCE;
        while fs::remove_file(&ok).is_err() {
            assert!(Instant::now() < end, "it does not begin");
            thread::yield_now();
        }
        tree.up(&name);
        eventually(format!("ok to be there again in round {round}"), || ok.exists());
    }
}
