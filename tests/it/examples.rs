//! `services.example` is what the README shows: it must be right.

use std::path::{Path, PathBuf};

use rustix::process::Signal;
use serde_json::Value;

use crate::harness::{Tree, eventually, replace, signal_pid, stat, text, walk};

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("services.example")
}

/// The files of the examples, without what a running tree has made of them.
fn files() -> Vec<PathBuf> {
    let made =
        |path: &Path| path.components().any(|part| [".data", "supervise"].iter().any(|made| part.as_os_str() == *made));
    walk(&examples()).into_iter().filter(|path| path.is_file() && !made(path)).collect()
}

/// The service directories of the examples: each that holds a `run` or a `service.toml`.
fn directories() -> Vec<String> {
    let mut names: Vec<String> = files()
        .iter()
        .filter(|path| path.ends_with("run") || path.ends_with("service.toml"))
        .filter_map(|path| path.parent()?.strip_prefix(examples()).ok()?.to_str().map(str::to_owned))
        .collect();
    names.sort();
    names.dedup();
    names
}

/// The modules of the examples: of the directory of the workers there are three.
fn modules() -> Vec<String> {
    let instances = |name: String| match name.as_str() {
        WORKER => (1..=3).map(worker).collect(),
        _ => vec![name],
    };
    directories().into_iter().flat_map(instances).collect()
}

const WORKER: &str = "shop/workers/worker";

fn worker(number: u32) -> String {
    format!("{WORKER}@{number}")
}

/// Runs a copy, so that nothing is written into the project.
fn running() -> Tree {
    let tree = Tree::new().options(["--log", "inherit", "--stop-within", "5s"]);
    let from = examples().join(".");
    tree.ran(["cp".as_ref(), "-r".as_ref(), from.as_os_str(), "services".as_ref()]).ok();
    tree.start();
    tree
}

#[test]
fn the_examples_show_up_down_crashing_once_and_a_group() {
    let tree = running();
    let modules = modules();
    assert!(modules.len() >= 5 && modules.iter().any(|name| name.contains('/')), "{modules:?}");
    eventually("each example to have shown itself", || {
        modules.iter().all(|name| {
            ["up", "ready", "down", "waiting", "failed"].iter().any(|state| tree.state(name)["state"] == *state)
        })
    });
    eventually("one to run, one to be down, one to have crashed and come back", || {
        let any = |is: &dyn Fn(&Value) -> bool| modules.iter().any(|name| is(&tree.state(name)));
        any(&|state| state["state"] == "up")
            && any(&|state| state["state"] == "down" && state["want"] == "down")
            && any(&|state| state["restarts"].as_u64() > Some(0) && state["exits"][0]["code"] != 0)
    });
    assert!(!tree.stdout().is_empty(), "they say something");
    let table = tree.svtree(["status"]).ok();
    assert!(modules.iter().all(|name| table.contains(name.as_str())), "{table}");
}

#[test]
fn the_example_with_a_heart_is_ready_when_it_says_so_and_started_again_when_it_does_not_beat() {
    let tree = running();
    tree.becomes("pulse", "ready");
    let (pid, heart) = (tree.up("pulse"), tree.entry("pulse").join("heart"));
    // As it is, but asked sooner.
    let toml = text(&tree.entry("pulse").join("service.toml"));
    replace(&tree.entry("pulse").join("service.toml"), &(toml + "interval = '100ms'\n"), 0o644);
    tree.letter("pulse", "r");
    eventually("its heart to beat", || heart.exists());
    // It is stopped before its heart, so that it makes no new one.
    signal_pid(pid, Signal::STOP);
    eventually("it to be started again", || {
        let _ = std::fs::remove_file(&heart);
        tree.pid("pulse").is_some_and(|now| now != pid)
    });
    assert!(
        tree.state("pulse")["reason"].as_str().is_some_and(|why| why.contains("find heart")),
        "{}",
        tree.state("pulse")
    );
}

/// When the program of a module started, in ticks since the machine did.
fn started(tree: &Tree, name: &str) -> u64 {
    stat(tree.up(name)).expect("it runs")[19].parse().expect("a time")
}

#[test]
fn the_web_application_comes_up_in_the_order_of_its_needs() {
    let tree = running();
    tree.becomes("shop/web", "ready");
    let job = tree.state("shop/migrate");
    assert_eq!((&job["state"], &job["ready"]), (&"down".into(), &true.into()), "{job}");
    let order = ["shop/cache", &worker(1), &worker(2), &worker(3), "shop/web"].map(|name| started(&tree, name));
    assert!(order.is_sorted(), "{order:?}");
    let port = tree.entry("shop/.data/web");
    let page = tree.ran(["timeout".as_ref(), "20".as_ref(), "cat".as_ref(), port.as_os_str()]).ok();
    assert!(page.ends_with(" orders taken\n"), "{page}");
}

#[test]
fn a_worker_of_the_web_application_takes_along_those_that_come_after_it() {
    let tree = running();
    tree.becomes("shop/web", "ready");
    let before = [1, 2, 3].map(|number| tree.up(worker(number)));
    let web = tree.up("shop/web");
    signal_pid(before[1], Signal::KILL);
    tree.up_again(worker(2), before[1]);
    tree.up_again(worker(3), before[2]);
    assert!(started(&tree, &worker(2)) <= started(&tree, &worker(3)));
    assert_eq!((tree.pid(worker(1)), tree.pid("shop/web")), (Some(before[0]), Some(web)));
}

#[test]
fn the_examples_have_no_mistake() {
    let tree = Tree::new();
    let dirs = directories().into_iter().map(|name| examples().join(name).into_os_string());
    tree.svtree([std::ffi::OsString::from("check")].into_iter().chain(dirs)).ok();
}

#[test]
fn the_examples_are_small_and_need_nothing_but_a_shell() {
    for path in &files() {
        let text = text(path);
        assert!(text.lines().count() <= 15, "{}", path.display());
        assert!(!path.ends_with("run") || text.starts_with("#!/bin/sh\n"), "{}", path.display());
    }
}
