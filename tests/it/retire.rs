//! Section: what happens when an entry goes away, changes its kind, or is replaced.

use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::harness::{
    CRASHING, DEAF, NOTING, ONE_COPY, SLEEPER, Tree, alive, eventually, remove, stays, text, wait_for, write,
    write_fifo,
};

#[test]
fn a_removed_directory_is_stopped_and_its_status_goes() {
    let tree = Tree::running();
    let entry = tree.sleeper("web");
    let pid = tree.up("web");
    remove(&entry);
    tree.goes("web");
    assert!(!alive(pid));
}

#[test]
fn a_directory_moved_away_is_stopped_and_its_status_goes() {
    let tree = Tree::running();
    tree.sleeper("web");
    let pid = tree.up("web");
    tree.move_out("web");
    tree.goes("web");
    assert!(!alive(pid));
}

#[test]
fn the_fifos_of_a_linked_service_stay_when_its_link_goes_and_have_no_reader() {
    let tree = Tree::running();
    let dir = tree.service("web").run(SLEEPER).linked_in();
    tree.up("web");
    eventually("supervise/ok to have a reader", || write_fifo(&dir.join("supervise/ok")).is_ok());
    fs::remove_file(tree.entry("web")).expect("the link goes");
    tree.goes("web");
    for name in ["control", "ok"] {
        let fifo = dir.join("supervise").join(name);
        assert!(fifo.symlink_metadata().is_ok_and(|file| file.file_type().is_fifo()), "{name}");
        let error = write_fifo(&fifo).expect_err("nobody reads");
        assert_eq!(error.raw_os_error(), Some(libc::ENXIO), "{name}");
    }
}

#[test]
fn what_stays_in_a_service_directory_says_that_it_is_down() {
    let ends: [fn(&mut Tree, &Path); 3] = [
        |tree, _| _ = fs::remove_file(tree.entry("web")),
        |tree, _| assert_eq!(tree.stop().code(), Some(0)),
        // It would be written through, if that were not seen.
        |tree, dir| {
            for name in ["status", "pid", "stat"] {
                fs::write(dir.join(name), "another's").expect("written");
                fs::remove_file(dir.join("supervise").join(name)).expect("removed");
                fs::hard_link(dir.join(name), dir.join("supervise").join(name)).expect("linked");
            }
            assert_eq!(tree.stop().code(), Some(0));
            for name in ["status", "pid", "stat"] {
                assert_eq!(text(&dir.join(name)), "another's", "{name}");
            }
        },
    ];
    for (number, end) in ends.into_iter().enumerate() {
        let mut tree = Tree::running();
        let dir = tree.service("web").run(SLEEPER).linked_in();
        let pid = tree.up("web");
        let said = |name: &str| fs::read(dir.join("supervise").join(name)).expect("read");
        eventually("what runs to be told", || said("pid") == format!("{pid}\n").as_bytes() && said("stat") == b"run\n");
        end(&mut tree, &dir);
        tree.goes("web");
        assert!(said("pid").is_empty() && said("stat") == b"down\n", "{number}");
        let status = said("status");
        // Its pid, not paused, wanted down, TERM or not, and the state.
        assert_eq!((status.len(), &status[12..18], status[19]), (20, b"\0\0\0\0\0d".as_slice(), 0), "{number}");
        let seconds = u64::from_be_bytes(status[..8].try_into().expect("eight bytes")) - (1 << 62) - 10;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a time").as_secs();
        assert!((now - 5..=now).contains(&seconds), "{number}: {seconds}");
    }
}

#[test]
fn retiring_ends_in_kill_as_d_does() {
    let tree = Tree::running();
    let entry = tree.service("web").run(DEAF).toml("[stop]\ntimeout = '300ms'").moved_in();
    let pid = tree.up("web");
    eventually("it to be deaf", || !tree.notes("web").is_empty());
    remove(&entry);
    tree.goes("web");
    assert!(!alive(pid));
}

#[test]
fn a_module_that_loses_run_and_service_toml_is_retired() {
    let tree = Tree::running();
    let entry = tree.sleeper("web");
    let pid = tree.up("web");
    fs::remove_file(entry.join("run")).expect("removed");
    eventually("its program to end", || !alive(pid));
    tree.becomes("web", "incomplete");
    write(&entry.join("run"), SLEEPER, 0o755);
    tree.up("web");
}

#[test]
fn run_gone_for_less_than_the_settle_time_is_nothing() {
    let tree = Tree::new().options(["--log", "none", "--settle", "3s"]);
    tree.sleeper("web");
    tree.start();
    let pid = tree.up("web");
    let run = tree.entry("web").join("run");
    fs::remove_file(&run).expect("removed");
    write(&run, SLEEPER, 0o755);
    stays(Duration::from_secs(4), "web runs on", || tree.pid("web") == Some(pid));
}

#[test]
fn a_replaced_entry_is_retired_and_then_started_never_two_at_a_time() {
    let tree = Tree::running();
    let service = || tree.service("web").run(ONE_COPY);
    service().moved_in();
    let mut pid = tree.up("web");
    for _ in 0..20 {
        service().moved_in();
        pid = tree.up_again("web", pid);
    }
    assert_eq!(tree.notes("twice"), [""; 0]);
}

#[test]
fn a_replaced_entry_waits_for_the_end_of_the_old_one() {
    let tree = Tree::running();
    let slow = ONE_COPY.replace(
        "exec sleep 1000",
        "trap 'sleep 1; exit' TERM; echo ready >> \"$SVTREE_IT/notes/ready\"; while :; do sleep 0.1; done",
    );
    tree.service("web").run(&slow).moved_in();
    let pid = tree.up("web");
    eventually("its trap to be set", || !tree.notes("ready").is_empty());
    tree.service("web").run(ONE_COPY).moved_in();
    tree.up_again("web", pid);
    eventually("both to have noted themselves", || tree.notes("web").len() == 2);
    assert_eq!(tree.notes("twice"), [""; 0]);
}

#[test]
fn a_renamed_module_runs_under_its_new_name_and_only_there() {
    let tree = Tree::running();
    // The two names share one lock.
    tree.service("a").run(&ONE_COPY.replace("$SVTREE_MODULE.lock", "a-or-b.lock")).moved_in();
    let pid = tree.up("a");
    fs::rename(tree.entry("a"), tree.entry("b")).expect("renamed");
    let new = tree.up_again("b", pid);
    tree.goes("a");
    assert!(!alive(pid) && alive(new));
    assert_eq!(tree.notes("twice"), [""; 0]);
}

#[test]
fn group_toml_beside_run_is_rejected() {
    let tree = Tree::running();
    tree.service("web").run(NOTING).file("group.toml", "").moved_in();
    tree.becomes("web", "rejected");
    assert!(tree.told("web").contains("group.toml"), "{}", tree.told("web"));
    assert!(tree.notes("web").is_empty() && tree.status("web").is_none());
    fs::remove_file(tree.entry("web/group.toml")).expect("removed");
    tree.up("web");
}

#[test]
fn what_is_removed_while_it_waits_for_a_restart_never_starts_again() {
    let tree = Tree::running();
    let entry = tree.service("web").run(CRASHING).moved_in();
    tree.becomes("web", "waiting");
    remove(&entry);
    tree.goes("web");
    let starts = tree.notes("web").len();
    stays(Duration::from_millis(1500), "not started again", || tree.notes("web").len() == starts);
}

#[test]
fn a_directory_that_comes_and_goes_leaves_nothing() {
    let tree = Tree::running();
    for _ in 0..20 {
        let entry = tree.service("web").run(ONE_COPY).moved_in();
        remove(&entry);
    }
    tree.sleeper("last");
    tree.up("last");
    tree.goes("web");
    let started = wait_for("the notes", || Some(tree.notes("web")));
    assert!(started.iter().all(|pid| !alive(pid.parse().expect("a pid"))));
    assert_eq!(tree.notes("twice"), [""; 0]);
}
