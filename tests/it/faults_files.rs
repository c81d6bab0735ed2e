//! Healing: what others do to the files of a running module is put right within 5 s, and its program never notices.
//!
//! Each test does one kind of damage to every file there is: to the file `lock` of the module `lock`, and so on.

use std::fs::{self, File};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;

use crate::harness::{Tree, alive, eventually, ran, remove, signal_pid, stays, text, within, write_fifo};

/// So long it may take.
const HEALED: Duration = Duration::from_secs(5);

/// Where each file of a module stands, `NAME` being the module; the name of the file is the module's too.
const FILES: [&str; 13] = [
    "status/NAME/svcontrol",
    "status/NAME/control",
    "status/NAME/ok",
    "status/NAME/lock",
    "status/NAME/status",
    "status/NAME/state.json",
    "status/NAME/supervise.log",
    "services/NAME/supervise/control",
    "services/NAME/supervise/ok",
    "services/NAME/supervise/lock",
    "services/NAME/supervise/status",
    "services/NAME/supervise/pid",
    "services/NAME/supervise/stat",
];

fn is_fifo(path: &Path) -> bool {
    // Whoever opens a FIFO that nobody reads is told so.
    path.symlink_metadata().is_ok_and(|file| file.file_type().is_fifo()) && write_fifo(path).is_ok()
}

fn is_file(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|file| file.is_file())
}

fn is_held(path: &Path) -> bool {
    let lock = File::open(path).ok().filter(|_| is_file(path));
    lock.is_some_and(|lock| rustix::fs::flock(lock, FlockOperation::NonBlockingLockExclusive).is_err())
}

/// What is wrong with the files of a module whose program has this pid.
fn wrong(tree: &Tree, name: &str, pid: i32) -> Vec<&'static str> {
    let (home, view) = (tree.home(name), tree.entry(name).join("supervise"));
    let inode = |path: &Path| path.metadata().map(|file| file.ino()).ok();
    let same = |name: &str| inode(&home.join(name)) == inode(&home.join("svcontrol"));
    let view_status = fs::read(view.join("status")).unwrap_or_default();
    let mut wrong = vec![
        ("svcontrol", is_fifo(&home.join("svcontrol"))),
        ("control", is_fifo(&home.join("control")) && same("control")),
        ("ok", is_fifo(&home.join("ok")) && same("ok")),
        ("lock", is_held(&home.join("lock"))),
        ("status", is_file(&home.join("status")) && tree.pid(name) == Some(pid)),
        ("state.json", is_file(&home.join("state.json")) && tree.state(name)["pid"] == pid),
        ("supervise/control", is_fifo(&view.join("control"))),
        ("supervise/ok", is_fifo(&view.join("ok"))),
        ("supervise/lock", is_held(&view.join("lock"))),
        ("supervise/status", view_status.get(12..16) == Some(&pid.to_le_bytes())),
        ("supervise/pid", text(&view.join("pid")) == format!("{pid}\n")),
        ("supervise/stat", text(&view.join("stat")) == "run\n"),
    ];
    wrong.retain(|(_, is_right)| !is_right);
    wrong.into_iter().map(|(file, _)| file).collect()
}

/// The module that loses this file.
fn module_of(file: &str) -> String {
    file.replace("/NAME/", "-").replace('/', "-")
}

/// Runs the script, with the file as `$1`, on every one of the files at once.
#[track_caller]
fn put_right(files: &[&str], script: &str) {
    let tree = Tree::running();
    let modules: Vec<(String, String)> =
        files.iter().map(|file| (module_of(file), file.replace("NAME", &module_of(file)))).collect();
    modules.iter().for_each(|(name, _)| drop(tree.sleeper(name)));
    let pids: Vec<i32> = modules.iter().map(|(name, _)| tree.up(name)).collect();
    let wrong = || -> Vec<_> {
        let each = modules.iter().zip(&pids).map(|((name, _), pid)| (name, wrong(&tree, name, *pid)));
        each.filter(|(_, wrong)| !wrong.is_empty()).collect()
    };
    eventually("all to be whole", || wrong().is_empty());
    for (_, file) in &modules {
        tree.ran(["sh", "-ec", script, "sh", file]).ok();
    }
    // A damage that has not been noticed by then never will be.
    let end = Instant::now() + HEALED;
    let mut left = wrong();
    eventually("all to be whole again", || {
        left = wrong();
        left.is_empty() || Instant::now() > end
    });
    assert!(left.is_empty(), "not put right after `{script}`: {left:?}");
    for ((name, _), pid) in modules.iter().zip(&pids) {
        tree.letter(name, "s");
        eventually(format!("{name} to hear a letter"), || tree.state(name)["alarms"] == false);
        assert!(alive(*pid) && tree.pid(name) == Some(*pid), "{name} runs on");
        assert_eq!(tree.state(name)["restarts"], 0);
    }
}

#[test]
fn a_file_that_is_deleted_is_there_again() {
    put_right(&FILES, "rm \"$1\"");
}

#[test]
fn a_file_that_is_moved_away_is_there_again() {
    put_right(&FILES, "mv \"$1\" out/$$");
}

#[test]
fn a_file_that_is_replaced_by_a_rename_is_itself_again() {
    put_right(&FILES, "echo another > out/$$ && mv -fT out/$$ \"$1\"");
}

#[test]
fn a_file_that_is_replaced_by_a_link_is_itself_again() {
    put_right(&FILES, "ln -s /dev/null out/$$ && mv -fT out/$$ \"$1\"");
}

#[test]
fn a_fifo_that_is_replaced_by_another_one_is_read_again() {
    let fifos = [FILES[0], FILES[1], FILES[2], FILES[7], FILES[8]];
    put_right(&fifos, "mkfifo out/$$ && mv -fT out/$$ \"$1\"");
}

#[test]
fn a_file_that_is_replaced_by_a_directory_is_itself_again() {
    put_right(&FILES, "rm \"$1\" && mkdir \"$1\" && touch \"$1/within\"");
}

#[test]
fn a_file_that_is_truncated_is_whole_again() {
    let files: Vec<&str> =
        FILES.into_iter().filter(|file| !file.ends_with("control") && !file.ends_with("ok")).collect();
    put_right(&files, ": > \"$1\"");
}

#[test]
fn a_record_that_is_overwritten_is_true_again() {
    let records = [FILES[4], FILES[5], FILES[10], FILES[11], FILES[12]];
    put_right(&records, "head -c 20 /dev/zero > \"$1\"");
}

#[test]
fn a_status_directory_that_is_removed_moved_or_replaced_is_whole_again() {
    for script in [
        // Its first line may be written while it is being removed.
        "rm -rf \"$1\" 2>out/$$ || rm -rf \"$1\"",
        "mv \"$1\" out/$$",
        "mv \"$1\" out/$$ && mkdir \"$1\"",
        "mv \"$1\" out/$$ && echo another > \"$1\"",
        "mv \"$1\" out/$$ && mkdir out/$$.new && ln -s ../out/$$.new \"$1\"",
        "rm -f \"$1\"/*",
    ] {
        put_right(&["status/NAME"], script);
    }
}

#[test]
fn a_supervise_directory_that_is_removed_moved_or_replaced_is_whole_again() {
    for script in ["rm -rf \"$1\"", "mv \"$1\" out/$$", "mv \"$1\" out/$$ && mkdir \"$1\"", "rm -f \"$1\"/*"] {
        put_right(&["services/NAME/supervise"], script);
    }
}

#[test]
fn a_status_directory_can_be_removed_twenty_times() {
    let tree = Tree::running();
    tree.sleeper("web");
    let pid = tree.up("web");
    for round in 0..20 {
        remove(&tree.home("web"));
        let said = tree.called("svstat", ["web"]);
        assert!(said.code == Some(0) && said.err.is_empty(), "a clear answer: {said:?}");
        within(HEALED, format!("it to be whole in round {round}"), || wrong(&tree, "web", pid).is_empty());
    }
    assert_eq!(tree.home("web").metadata().expect("it").permissions().mode() & 0o7777, 0o755);
    tree.letter("web", "k");
    tree.up_again("web", pid);
}

#[test]
fn a_letter_that_is_on_its_way_into_a_fifo_that_is_replaced_is_not_lost() {
    let tree = Tree::running();
    tree.sleeper("web");
    let mut pid = tree.up("web");
    for _ in 0..20 {
        let script = "echo k > status/web/svcontrol && rm status/web/svcontrol";
        tree.ran(["sh", "-ec", script]).ok();
        pid = tree.up_again("web", pid);
        within(HEALED, "it to be whole", || wrong(&tree, "web", pid).is_empty());
    }
}

#[test]
fn a_status_root_that_goes_away_stops_nothing_and_is_made_again() {
    let tree = Tree::running();
    for name in ["a", "group-b"] {
        tree.sleeper(name);
    }
    let pids = ["a", "group-b"].map(|name| tree.up(name));
    fs::rename(tree.path("status"), tree.path("out/status")).expect("moved away");
    within(HEALED, "all to be whole", || {
        wrong(&tree, "a", pids[0]).is_empty() && wrong(&tree, "group-b", pids[1]).is_empty()
    });
    tree.letter("a", "k");
    tree.up_again("a", pids[0]);
    assert_eq!(tree.pid("group-b"), Some(pids[1]));
}

#[test]
fn a_lock_of_the_status_root_that_is_damaged_lets_no_second_svtree_in() {
    for script in ["rm status/.lock", "mv status/.lock out/", "echo > out/new && mv out/new status/.lock"] {
        let tree = Tree::running();
        tree.sleeper("web");
        let pid = tree.up("web");
        tree.ran(["sh", "-ec", script]).ok();
        within(HEALED, format!("the lock to be held again after `{script}`"), || is_held(&tree.path("status/.lock")));
        let second = [crate::harness::SVTREE, "run", "services", "--status", "status", "--log", "none"];
        ran(&mut tree.command(second)).failed(111);
        assert_eq!(tree.pid("web"), Some(pid));
        tree.svtree(["shutdown"]).ok();
        assert_eq!(tree.ended().code(), Some(0));
    }
}

#[test]
fn a_lock_of_the_status_root_that_is_truncated_still_names_svtree() {
    let tree = Tree::running();
    tree.sleeper("web");
    tree.up("web");
    tree.ran(["sh", "-ec", ": > status/.lock"]).ok();
    let pid = tree.pid_of_svtree().to_string();
    within(HEALED, "the pid to be in it again", || text(&tree.path("status/.lock")).trim() == pid);
    tree.svtree(["shutdown"]).ok();
    assert_eq!(tree.ended().code(), Some(0));
}

#[test]
fn a_program_that_ends_while_its_status_directory_is_gone_is_started_again() {
    let tree = Tree::running();
    tree.sleeper("web");
    let mut pid = tree.up("web");
    for _ in 0..20 {
        // Both at once: neither may hide the other.
        signal_pid(pid, rustix::process::Signal::KILL);
        tree.ran(["rm", "-rf", "status/web"]).code.expect("it ends");
        pid = tree.up_again("web", pid);
        within(HEALED, "it to be whole", || wrong(&tree, "web", pid).is_empty());
    }
    stays(Duration::from_millis(300), "it runs on", || tree.pid("web") == Some(pid));
}
