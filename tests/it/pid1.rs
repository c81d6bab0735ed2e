//! svtree as the first process of a container: it reaps what nobody else does, and its end is the container's.

use crate::harness::{NOTING, SLEEPER, Tree, children, eventually, is_root, program, skip, within, zombies};
use std::time::Duration;

/// A tree whose svtree has pid 1, in a pid namespace of its own. Pids in its files are those of the namespace.
fn as_pid_1() -> Option<Tree> {
    program("unshare")?;
    let unshare: &[&str] = if is_root() {
        &["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]
    } else {
        &["unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc", "--kill-child"]
    };
    let tree = Tree::new().through(unshare.iter().copied());
    if tree.ran(unshare.iter().copied().chain(["true"])).code != Some(0) {
        skip("no pid namespaces here");
        return None;
    }
    Some(tree)
}

#[test]
fn a_thousand_orphans_leave_no_zombie() {
    let Some(tree) = as_pid_1() else { return };
    let run = "#!/bin/sh\ni=0\nwhile [ $i -lt 1000 ]; do (sleep 0.1 &); i=$((i + 1)); done\n\
        echo done >> \"$SVTREE_IT/notes/web\"\nexec sleep 1000\n";
    tree.service("web").run(run).moved_in();
    tree.start();
    eventually("all of them to be started", || tree.notes("web") == ["done"]);
    let svtree = tree.pid_of_svtree();
    within(Duration::from_secs(10), "only web to be left", || children(svtree).len() == 1);
    assert_eq!(zombies(svtree), [0; 0]);
}

#[test]
fn term_stops_everything_and_exits_0() {
    let Some(tree) = as_pid_1() else { return };
    tree.service("web").run(SLEEPER).moved_in();
    let escaping = NOTING.replace("exec sleep 1000", "setsid sleep 1000 &\nexec sleep 1000");
    tree.service("escaping").run(&escaping).moved_in();
    tree.start();
    eventually("both to run", || tree.pid("web").is_some() && !tree.notes("escaping").is_empty());
    assert_eq!(tree.stop().code(), Some(0));
    eventually("nothing to be left", || tree.processes().is_empty());
}

#[test]
fn it_works_as_anywhere_else() {
    let Some(tree) = as_pid_1() else { return };
    tree.service("web").run(NOTING).moved_in();
    tree.start();
    eventually("a start", || tree.notes("web").len() == 1 && tree.pid("web").is_some());
    tree.letter("web", "k");
    eventually("another start", || tree.notes("web").len() == 2);
    tree.letter("web", "d");
    tree.becomes("web", "down");
    tree.move_out("web");
    tree.goes("web");
}
