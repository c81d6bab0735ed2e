//! Section: many at once. Programs come before records, and the records are true all the same.

use rustix::process::Signal;

use crate::harness::{
    ONE_COPY, Tree, alive, descriptors, eventually, is_root, process_field, process_state, signal_pid, skip, text,
    zombies,
};

const MODULES: usize = 100;

fn names() -> Vec<String> {
    (0..MODULES).map(|number| format!("m{number}")).collect()
}

/// A hundred that run, and may die at any time.
fn crowd() -> (Tree, Vec<i32>) {
    let tree = Tree::new();
    for name in names() {
        tree.service(name).run(ONE_COPY).toml("[restart]\ndelay = '1ms'\n").moved_in();
    }
    tree.start();
    let pids = names().iter().map(|name| tree.up(name)).collect();
    (tree, pids)
}

/// Each runs once, as the records say, and nothing is left of those before.
fn each_runs_once(tree: &Tree, before: &[i32]) {
    let mut pids: Vec<i32> = names().iter().zip(before).map(|(name, pid)| tree.up_again(name, *pid)).collect();
    assert!(pids.iter().all(|pid| alive(*pid)), "{pids:?}");
    eventually("them to be collected", || zombies(tree.pid_of_svtree()).is_empty());
    pids.sort_unstable();
    eventually("the tree to hold them alone", || {
        let mut found = tree.processes();
        found.retain(|pid| *pid != tree.pid_of_svtree());
        found.sort_unstable();
        found == pids
    });
}

#[test]
fn of_a_hundred_that_die_at_once_each_runs_again_and_its_records_say_so() {
    let (tree, before) = crowd();
    for round in 1..=3 {
        let before: Vec<i32> = names().iter().map(|name| tree.up(name)).collect();
        before.iter().for_each(|pid| signal_pid(*pid, Signal::KILL));
        each_runs_once(&tree, &before);
        for name in names() {
            eventually("its death to be in its log", || {
                let log = text(&tree.home(&name).join("supervise.log"));
                log.matches("killed by").count() == round
            });
        }
    }
    assert!(before.iter().all(|pid| process_state(*pid).is_none()));
}

#[test]
fn an_svtree_that_is_killed_amid_a_hundred_starts_leaves_no_second_copy() {
    let (tree, _) = crowd();
    for _ in 0..3 {
        let before: Vec<i32> = names().iter().map(|name| tree.up(name)).collect();
        before.iter().for_each(|pid| signal_pid(*pid, Signal::KILL));
        // Some are started by now, and fewer say so.
        tree.kill_svtree();
        tree.start();
        each_runs_once(&tree, &before);
    }
}

#[test]
fn the_table_of_descriptors_is_made_larger_before_it_is_full() {
    let most = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum;
    if !is_root() && most.is_some_and(|most| most < 4096) {
        return skip("nobody here may have 4,096 descriptors");
    }
    let (tree, _) = crowd();
    let svtree = tree.pid_of_svtree();
    let room = || -> usize { process_field(svtree, "FDSize").trim().parse().expect("a number") };
    let names = ["more1", "more2", "more3"];
    names.iter().for_each(|name| drop(tree.service(*name).run(ONE_COPY).moved_in()));
    names.iter().for_each(|name| _ = tree.up(name));
    // The kernel would have made it so large only for the 1,025th, while everybody who opens anything stands still.
    eventually("room for more", || room() > 1024);
    assert!(descriptors(svtree).len() < 1000, "{}", descriptors(svtree).len());
}
