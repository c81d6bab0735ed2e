//! svtree as the first process of a container: it reaps what nobody else does, and its end is the container's.

use std::time::Duration;

use rustix::process::Signal;

use crate::harness::{NOTING, SLEEPER, Tree, children, eventually, signal_pid, skip, within, zombies};
use crate::init::unshare;
use crate::keeper::{svscan, svscan_after};

/// A tree whose svtree has pid 1, in a pid namespace of its own. Pids in its files are those of the namespace.
fn as_pid_1() -> Option<Tree> {
    let unshare = unshare()?;
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
    let keeper = tree.pid_of_svtree();
    let svscan = svscan(keeper);
    within(Duration::from_secs(10), "only web to be left", || children(svscan).len() == 1);
    assert_eq!((zombies(svscan), children(keeper)), (vec![], vec![svscan]));
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

#[test]
fn svscan_killed_by_kill_is_back_and_holds_the_same_pids() {
    let Some(tree) = as_pid_1() else { return };
    let names: Vec<String> = (0..20).map(|number| format!("m{number}")).collect();
    for name in &names {
        tree.service(name).run(NOTING).moved_in();
    }
    tree.start();
    eventually("all of them to run", || {
        names.iter().all(|name| tree.notes(name).len() == 1 && tree.pid(name).is_some())
    });
    let pids: Vec<_> = names.iter().map(|name| tree.pid(name)).collect();
    let keeper = tree.pid_of_svtree();
    let mut dead = 0;
    for _ in 0..3 {
        dead = svscan_after(keeper, dead);
        eventually("all to be supervised", || names.iter().all(|name| tree.called("svok", [name]).code == Some(0)));
        signal_pid(dead, Signal::KILL);
        eventually("a letter to be obeyed", || {
            tree.letter("m0", "p");
            tree.state("m0")["paused"] == true
        });
        tree.letter("m0", "c");
        eventually("it to go on", || tree.state("m0")["paused"] == false);
    }
    assert_eq!(names.iter().map(|name| tree.pid(name)).collect::<Vec<_>>(), pids);
    assert!(names.iter().all(|name| tree.notes(name).len() == 1));
    assert_eq!(tree.stop().code(), Some(0));
}

#[test]
fn a_stranger_is_reaped_and_what_is_left_at_the_end_gets_term_before_kill() {
    let Some(tree) = as_pid_1() else { return };
    let stranger = "#!/bin/sh\nsetsid sh -c 'trap \"echo term >> \\\"$SVTREE_IT/notes/stranger\\\"; exit\" TERM; \
        echo up >> \"$SVTREE_IT/notes/stranger\"; while :; do sleep 0.1; done' &\nexec sleep 1000\n";
    tree.service("web").toml("[stop]\nscope = \"main\"\n").run(stranger).moved_in();
    tree.start();
    eventually("the stranger", || tree.notes("stranger") == ["up"] && tree.pid("web").is_some());
    assert_eq!(tree.stop().code(), Some(0));
    assert_eq!(tree.notes("stranger"), ["up", "term"]);
    eventually("nothing to be left", || tree.processes().is_empty());
}

#[test]
fn the_container_ends_with_the_code_of_its_module() {
    let Some(tree) = as_pid_1() else { return };
    let tree = tree.options(["--log", "none", "--exit-with", "job"]);
    tree.service("web").run(SLEEPER).moved_in();
    tree.service("job").toml("[restart]\nwhen = \"never\"\n").run("#!/bin/sh\nexit 42\n").moved_in();
    tree.start();
    assert_eq!(tree.ended().code(), Some(42));
}
