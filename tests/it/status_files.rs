//! Section: the status directory and `supervise/`, file by file and byte by byte.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::harness::{
    AS_NOBODY, DEAF, NOTING, SLEEPER, Tree, chmod, eventually, is_root, program, replace, skip, stays, text, write,
};

/// Notes its pid and ends at once, a hundred times a second.
const FLAPPING: &str = "#!/bin/sh\necho $$ >> \"$SVTREE_IT/notes/$SVTREE_MODULE\"\n";

fn mode(path: &Path) -> u32 {
    path.metadata().expect("metadata").mode() & 0o7777
}

#[test]
fn the_status_directory_holds_its_files_with_their_modes_under_any_umask() {
    for umask in ["000", "077"] {
        let tree = Tree::new().through(["sh", "-c", "umask $0; exec \"$@\"", umask]);
        tree.start();
        tree.sleeper("web");
        tree.up("web");
        tree.becomes("web", "up");
        let home = tree.home("web");
        assert_eq!(mode(&home), 0o755, "umask {umask}");
        assert_eq!(mode(&home.join("svcontrol")), 0o600, "umask {umask}");
        assert_eq!(mode(&home.join("lock")), 0o600, "umask {umask}");
        assert_eq!(mode(&home.join("status")), 0o644, "umask {umask}");
        for name in ["state.json", "supervise.log", "supervise.log.wf"] {
            eventually(format!("{name} to be there"), || home.join(name).is_file());
            assert_eq!(mode(&home.join(name)) & 0o022, 0, "umask {umask}: {name}");
        }
        let fifo = home.join("svcontrol").symlink_metadata().expect("svcontrol");
        assert!(fifo.file_type().is_fifo());
        for name in ["control", "ok"] {
            let same = home.join(name).metadata().expect(name);
            assert_eq!((same.dev(), same.ino()), (fifo.dev(), fifo.ino()), "{name} is the same FIFO");
        }
    }
}

#[test]
fn status_is_20_bytes_as_the_table_says() {
    let tree = Tree::running();
    let before = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_secs();
    tree.sleeper("web");
    let pid = tree.up("web");
    let after = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_secs();
    let bytes = tree.status("web").expect("status");
    assert_eq!(bytes.len(), 20);
    let seconds = u64::from_be_bytes(bytes[..8].try_into().expect("8 bytes")) - ((1 << 62) + 10);
    assert!((before..=after).contains(&seconds), "{seconds}");
    assert!(u32::from_be_bytes(bytes[8..12].try_into().expect("4 bytes")) < 1_000_000_000);
    assert_eq!(bytes[12..16], [0, b'u', b'o', 0]);
    assert_eq!(bytes[16..], pid.to_le_bytes());
    tree.letter("web", "d");
    tree.becomes("web", "down");
    let bytes = tree.status("web").expect("status");
    assert_eq!(bytes[12..], [0, b'd', b'o', 0, 0, 0, 0, 0]);
}

#[test]
fn status_is_whole_and_its_pid_a_child_however_often_it_is_read() {
    let tree = Tree::running();
    tree.service("web").run(FLAPPING).toml("[restart]\ndelay = '2ms'").moved_in();
    eventually("it to flap", || tree.state("web")["restarts"].as_u64() > Some(3));
    let mut seen = BTreeSet::new();
    for _ in 0..20_000 {
        let bytes = tree.status("web").expect("never missing");
        assert_eq!(bytes.len(), 20);
        seen.insert(i32::from_le_bytes(bytes[16..].try_into().expect("4 bytes")));
    }
    tree.letter("web", "d");
    tree.becomes("web", "down");
    let noted: BTreeSet<i32> = tree.notes("web").iter().map(|line| line.parse().expect("a pid")).collect();
    seen.remove(&0);
    // The last one may have been ended by `d` before it could note itself.
    let last = tree.state("web")["exits"][0]["pid"].as_i64();
    let strangers: Vec<_> = seen.difference(&noted).filter(|pid| last != Some(i64::from(**pid))).collect();
    assert!(strangers.is_empty() && seen.len() > 1, "{strangers:?} of {}", seen.len());
}

#[test]
fn status_is_replaced_before_state_json() {
    let tree = Tree::running();
    tree.service("web").run(FLAPPING).toml("[restart]\ndelay = '2ms'").moved_in();
    eventually("it to flap", || tree.state("web")["restarts"].as_u64() > Some(3));
    for _ in 0..5_000 {
        let state = tree.state("web");
        let status = tree.status("web").expect("status");
        let told: jiff::Timestamp = state["since"].as_str().expect("since").parse().expect("RFC 3339");
        let label = u64::from_be_bytes(status[..8].try_into().expect("8 bytes")) - ((1 << 62) + 10);
        let nanos = u32::from_be_bytes(status[8..12].try_into().expect("4 bytes"));
        let true_then = jiff::Timestamp::new(label.cast_signed(), nanos.cast_signed()).expect("a time");
        // `since` may be written with fewer digits.
        assert!(told.as_millisecond() <= true_then.as_millisecond(), "{told} {true_then}");
    }
}

#[test]
fn state_json_has_its_fields() {
    let tree = Tree::running();
    tree.sleeper("web");
    let pid = tree.up("web");
    tree.becomes("web", "up");
    let state = tree.state("web");
    let expected = json!({
        "name": "web", "state": "up", "want": "up", "pid": pid, "ready": true, "paused": false, "alarms": true,
        "changed": false, "adopted": false, "restarts": 0, "next_start": null, "reason": null, "exits": [],
    });
    for (field, value) in expected.as_object().expect("an object") {
        assert_eq!(state.get(field), Some(value), "{field} of {state}");
    }
    let since: jiff::Timestamp = state["since"].as_str().expect("since").parse().expect("RFC 3339");
    let status = tree.status("web").expect("status");
    let label = u64::from_be_bytes(status[..8].try_into().expect("8 bytes")) - ((1 << 62) + 10);
    assert_eq!(since.as_second(), label.cast_signed(), "the same moment as in status");
    assert_eq!(state.get("uptime"), None, "only in `--json`");
    tree.letter("web", "d");
    tree.becomes("web", "down");
    let state = tree.state("web");
    assert!(state["pid"].is_null() && state["ready"] == false, "{state}");
    assert_eq!(state["exits"][0]["signal"], 15);
}

#[test]
fn the_json_of_status_is_one_array_of_the_same_with_the_uptime() {
    let tree = Tree::running();
    tree.sleeper("web");
    tree.sleeper("db");
    for name in ["web", "db"] {
        tree.up(name);
        tree.becomes(name, "up");
    }
    let array: Value = serde_json::from_str(&tree.svtree(["status", "--json"]).ok()).expect("JSON");
    let names: Vec<_> = array.as_array().expect("an array").iter().map(|one| &one["name"]).collect();
    assert_eq!(names, ["db", "web"]);
    for one in array.as_array().expect("an array") {
        let state = tree.state(one["name"].as_str().expect("a name"));
        for (field, value) in state.as_object().expect("an object").iter().filter(|(_, value)| !value.is_object()) {
            assert_eq!(one.get(field), Some(value), "{field}");
        }
        assert!(one["uptime"].as_f64().is_some_and(|uptime| (0.0..60.0).contains(&uptime)), "{one}");
    }
    let one: Value = serde_json::from_str(&tree.svtree(["status", "--json", "web"]).ok()).expect("JSON");
    assert_eq!(one.as_array().map(Vec::len), Some(1));
}

#[test]
fn the_lock_is_held_as_long_as_the_module_is_supervised() {
    let tree = Tree::running();
    tree.sleeper("web");
    tree.up("web");
    let lock = tree.home("web").join("lock");
    let take = || tree.ran(["flock".as_ref(), "-n".as_ref(), lock.as_os_str(), "true".as_ref()]).code;
    assert_eq!(take(), Some(1));
    tree.letter("web", "dx");
    eventually("the lock to be given back", || take() == Some(0));
}

#[test]
fn supervise_log_tells_what_was_done() {
    let tree = Tree::running();
    tree.sleeper("web");
    let pid = tree.up("web");
    let log = tree.home("web").join("supervise.log");
    eventually("the start with its pid", || text(&log).contains(&pid.to_string()));
    tree.letter("web", "k");
    tree.up_again("web", pid);
    eventually("the death with its signal", || text(&log).contains("KILL"));
}

#[test]
fn supervise_is_runits_view_of_the_module() {
    let tree = Tree::running();
    let entry = tree.sleeper("web");
    let pid = tree.up("web");
    let view = entry.join("supervise");
    eventually("stat", || text(&view.join("stat")) == "run\n");
    eventually("pid", || text(&view.join("pid")) == format!("{pid}\n"));
    eventually("status", || tree.view("web")[19] == 1);
    let bytes = tree.view("web");
    assert_eq!(bytes[..12], tree.status("web").expect("status")[..12]);
    assert_eq!(bytes[12..16], pid.to_le_bytes());
    assert_eq!(bytes[16..], [0, b'u', 0, 1]);
    for name in ["control", "ok"] {
        assert!(view.join(name).metadata().expect(name).file_type().is_fifo(), "{name}");
    }
    assert!(view.join("lock").exists());
    tree.letter("web", "p");
    eventually("paused", || tree.view("web")[16..] == [1, b'u', 0, 1]);
    tree.letter("web", "cd");
    eventually("down", || tree.view("web")[12..] == [0, 0, 0, 0, 0, b'd', 0, 0]);
    eventually("stat", || text(&view.join("stat")) == "down\n");
}

#[test]
fn while_it_stops_the_view_says_that_term_was_sent() {
    let tree = Tree::running();
    tree.service("web").run(DEAF).toml("[stop]\ntimeout = '2s'").moved_in();
    tree.up("web");
    eventually("it to be deaf", || !tree.notes("web").is_empty());
    tree.letter("web", "d");
    eventually("want down, TERM sent, still running", || tree.view("web")[16..] == [0, b'd', 1, 1]);
    tree.becomes("web", "down");
}

#[test]
fn stat_is_written_only_when_it_changes() {
    let tree = Tree::running();
    let entry = tree.sleeper("web");
    tree.up("web");
    let stat = entry.join("supervise/stat");
    eventually("stat", || text(&stat) == "run\n");
    let before = stat.metadata().expect("stat").modified().expect("a time");
    for letter in ["p", "c", "s", "n", "o"] {
        tree.letter("web", letter);
    }
    eventually("the letters to be taken", || tree.state("web")["want"] == "once");
    assert_eq!(stat.metadata().expect("stat").modified().expect("a time"), before);
}

#[test]
fn a_supervise_that_is_a_link_is_followed_and_its_target_made() {
    let tree = Tree::running();
    let service = tree.service("web").run(SLEEPER);
    let dir = service.dir();
    let target = tree.path("out/supervise-web");
    symlink(&target, dir.join("supervise")).expect("a dangling link");
    fs::rename(&dir, tree.entry("web")).expect("moved in");
    tree.up("web");
    eventually("stat", || text(&target.join("stat")) == "run\n");
    assert!(tree.entry("web").join("supervise").symlink_metadata().expect("it").is_symlink());
}

#[test]
fn where_the_service_directory_cannot_be_written_supervise_is_left_out() {
    let Some(tree) = Tree::new().for_nobody() else { return };
    let dir = tree.service("web").run(SLEEPER).dir();
    chmod(&dir, 0o555);
    // A directory without write permission cannot be renamed by its owner's side alone; a link can always be made.
    symlink(&dir, tree.entry("web")).expect("linked in");
    tree.start();
    tree.up("web");
    tree.becomes("web", "up");
    assert!(!dir.join("supervise").exists());
    assert!(!tree.called("svstat", ["web"]).ok().contains("not running"));
    chmod(&dir, 0o755);
}

#[test]
fn where_supervise_cannot_be_made_the_module_runs_all_the_same() {
    let tree = Tree::running();
    let dir = tree.service("web").run(SLEEPER).dir();
    symlink("/proc/self/nowhere/supervise", dir.join("supervise")).expect("a link");
    fs::rename(&dir, tree.entry("web")).expect("moved in");
    tree.up("web");
}

#[test]
fn whatever_stands_at_the_place_of_its_files_is_replaced() {
    let tree = Tree::new();
    let home = tree.home("web");
    write(&home.join("svcontrol"), "a file", 0o644);
    write(&home.join("ok/within"), "a directory", 0o644);
    symlink("nowhere", home.join("control")).expect("a link");
    write(&home.join("status/within"), "a directory", 0o644);
    write(&home.join("state.json/within"), "a directory", 0o644);
    write(&home.join("supervise.log/within"), "a directory", 0o644);
    write(&home.join("lock/within"), "a directory", 0o644);
    tree.sleeper("web");
    tree.start();
    let pid = tree.up("web");
    tree.becomes("web", "up");
    tree.letter("web", "k");
    tree.up_again("web", pid);
}

#[test]
fn a_fifo_at_the_place_of_a_file_is_replaced_and_never_put_there() {
    let tree = Tree::new();
    let dir = tree.service("web").run(SLEEPER).dir();
    let (home, view) = (tree.home("web"), dir.join("supervise"));
    let logs = ["supervise.log", "supervise.log.wf"].map(|name| home.join(name));
    let new = [home.join("status.new"), home.join("state.json.new"), view.join("status.new"), view.join("stat.new")];
    fs::create_dir(&home).expect("mkdir");
    fs::create_dir(&view).expect("mkdir");
    for fifo in logs.iter().chain(&new) {
        tree.ran(["mkfifo".as_ref(), fifo.as_os_str()]).ok();
    }
    // Each has a reader, so that no write to it fails.
    let open = |fifo| fs::OpenOptions::new().read(true).write(true).open(fifo).expect("both ends");
    let _readers: Vec<_> = logs.iter().chain(&new).map(open).collect();
    fs::rename(&dir, tree.entry("web")).expect("moved in");
    tree.start();
    let view = tree.entry("web/supervise");
    let homes = ["status", "state.json", "supervise.log", "supervise.log.wf"].map(|name| home.join(name));
    // Before anything is read: to read a FIFO may take for ever.
    for path in homes.into_iter().chain(["status", "stat", "pid"].map(|name| view.join(name))) {
        let is_file = || path.symlink_metadata().is_ok_and(|found| found.is_file());
        eventually(format!("{} to be a file", path.display()), is_file);
    }
    tree.up("web");
    tree.becomes("web", "up");
    eventually("the view", || tree.view("web")[19] == 1);
}

#[test]
fn what_was_put_aside_before_is_in_nobodys_way() {
    let tree = Tree::new();
    let home = tree.home("web");
    for name in ["svcontrol", "status", "lock"] {
        write(&home.join(name).join("within"), "a directory", 0o644);
        write(&home.join(format!("{name}.displaced")).join("within"), "another", 0o644);
    }
    tree.sleeper("web");
    tree.start();
    let pid = tree.up("web");
    tree.letter("web", "k");
    tree.up_again("web", pid);
}

#[test]
fn on_a_full_disk_of_services_the_status_is_true() {
    let tree = Tree::new();
    let dir = tree.service("web").run(NOTING).dir();
    // A mount of its own, which nobody else sees, and which goes with it.
    let mount = "mount -t tmpfs -o size=64k,nr_inodes=30 none services && cp -r \"$0\" services/web && exec \"$@\"";
    let unshare = ["unshare", "-m", "sh", "-c", mount].map(Into::into).into_iter().chain([dir.into_os_string()]);
    let unshare: Vec<std::ffi::OsString> = unshare.collect();
    if !is_root() || tree.ran(unshare.iter().cloned().chain(["true".into()])).code != Some(0) {
        return skip("nothing can be mounted here");
    }
    let tree = tree.through(unshare);
    tree.start();
    let pid = tree.up("web");
    tree.becomes("web", "up");
    eventually("it to have noted itself", || !tree.notes("web").is_empty());
    let root = Path::new("/proc").join(tree.pid_of_svtree().to_string()).join("root");
    let services = root.join(tree.path("services").strip_prefix("/").expect("an absolute path"));
    assert!(services.join("web/run").exists() && !tree.entry("web").exists(), "it is mounted");
    assert!(fs::write(services.join("fill"), vec![0; 1 << 17]).is_err());
    assert!((0..100).any(|number| fs::write(services.join(number.to_string()), "").is_err()), "it is full");
    tree.letter("web", "k");
    let next = tree.up_again("web", pid);
    eventually("the exit to be told", || tree.state("web")["exits"][0]["pid"] == pid);
    let state = tree.state("web");
    assert!(state["state"] == "up" && state["restarts"] == 1 && state["pid"] == next, "{state}");
    assert_eq!(tree.pid("web"), Some(next));
    tree.letter("web", "d");
    tree.becomes("web", "down");
    assert_eq!(tree.pid("web"), None);
}

#[test]
fn no_file_is_written_through_a_link() {
    let tree = Tree::new();
    let home = tree.home("web");
    let victim = tree.path("out/victim");
    write(&victim, "untouched", 0o644);
    fs::create_dir(&home).expect("mkdir");
    for name in ["svcontrol", "status", "state.json", "supervise.log", "supervise.log.wf", "lock"] {
        symlink(&victim, home.join(name)).expect("a link");
    }
    tree.sleeper("web");
    tree.start();
    tree.up("web");
    tree.becomes("web", "up");
    assert_eq!(text(&victim), "untouched");
    assert_eq!(mode(&victim), 0o644);
}

#[test]
fn nobody_else_can_control_lock_or_replace() {
    if !is_root() {
        return skip("another user to be denied needs root");
    }
    if program("setpriv").is_none() {
        return;
    }
    let tree = Tree::running();
    chmod(&tree.path(""), 0o755);
    tree.sleeper("web");
    let pid = tree.up("web");
    tree.becomes("web", "up");
    let before = tree.status("web");
    let denied = [
        "echo d > status/web/svcontrol",
        "echo d > status/web/control",
        "cat status/web/svcontrol",
        "echo d > services/web/supervise/control",
        "flock -n status/web/lock true",
        "exec 9< status/web/lock",
        "exec 9< services/web/supervise/lock",
        "echo > status/web/status",
        "mv out/stdout status/web/status",
        "rm -f status/web/status",
        "ln -s / status/web/new",
        "mkdir status/new",
        "echo > status/web/state.json",
    ];
    for attempt in denied {
        let words = AS_NOBODY.into_iter().chain(["timeout", "5", "sh", "-c", attempt]);
        let attempted = tree.ran(words);
        assert_ne!(attempted.code, Some(0), "{attempt}");
        assert_ne!(attempted.code, Some(124), "{attempt} hung");
        assert!(attempted.err.contains("ermission denied"), "{attempt}: {attempted:?}");
    }
    assert_eq!((tree.status("web"), tree.pid("web")), (before, Some(pid)));
}

#[test]
fn a_change_to_the_service_directory_by_svtree_itself_is_no_change() {
    let tree = Tree::running();
    tree.sleeper("web");
    tree.up("web");
    for _ in 0..5 {
        tree.letter("web", "pcsn");
    }
    stays(Duration::from_millis(500), "not changed", || tree.state("web")["changed"] == false);
}

#[test]
fn a_random_status_is_bad_and_no_crash() {
    let tree = Tree::running();
    tree.sleeper("web");
    tree.up("web");
    tree.becomes("web", "up");
    replace(&tree.home("web").join("status"), &"\u{7f}".repeat(20), 0o644);
    let said = tree.called("svstat", ["web"]);
    assert!(said.code == Some(0) && said.out.starts_with("web: ") && !said.err.contains("panicked"), "{said:?}");
    let said = tree.svtree(["status"]);
    assert!(!said.err.contains("panicked"), "{said:?}");
}
