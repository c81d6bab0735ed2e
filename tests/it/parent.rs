//! Section: svscan itself: its signals, its lock, its end, and a services directory that goes missing.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Child;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, Signal};

use crate::harness::{
    DEAF, NOTING, SLEEPER, SVTREE, Tree, alive, children, chmod, eventually, process_field, process_state, ran, remove,
    signal_pid, skip, spawn, stays, text, ticks, within, write,
};

/// What is left of the modules in the status root.
fn homes(tree: &Tree) -> Vec<String> {
    fs::read_dir(tree.path("status"))
        .expect("the status root")
        .flatten()
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

#[test]
fn term_and_int_stop_every_module_and_exit_0() {
    for signal in [Signal::TERM, Signal::INT] {
        let tree = Tree::running();
        let names = ["a", "b", "c"];
        for name in &names {
            tree.sleeper(name);
        }
        tree.service("group").file("group.toml", "").script("web/run", SLEEPER).moved_in();
        let mut pids: Vec<i32> = names.iter().map(|name| tree.up(name)).collect();
        pids.push(tree.up("group/web"));
        tree.signal_svtree(signal);
        assert_eq!(tree.ended().code(), Some(0));
        assert!(!pids.into_iter().any(alive));
        assert_eq!(homes(&tree), [""; 0], "the status directories are removed");
    }
}

#[test]
fn a_second_term_changes_nothing() {
    let tree = Tree::running();
    let slow = "#!/bin/sh\ntrap 'sleep 1; echo done >> \"$SVTREE_IT/notes/web\"; exit' TERM\n\
        echo ready >> \"$SVTREE_IT/notes/web\"\nwhile :; do sleep 0.1; done\n";
    tree.service("web").run(slow).moved_in();
    tree.up("web");
    eventually("its trap to be set", || tree.notes("web") == ["ready"]);
    tree.signal_svtree(Signal::TERM);
    tree.becomes("web", "stopping");
    tree.signal_svtree(Signal::TERM);
    tree.signal_svtree(Signal::INT);
    assert_eq!(tree.ended().code(), Some(0));
    assert_eq!(tree.notes("web"), ["ready", "done"]);
}

#[test]
fn what_does_not_stop_in_time_is_killed() {
    let tree = Tree::running();
    tree.service("deaf").run(DEAF).toml("[stop]\ntimeout = '500ms'").moved_in();
    let pid = tree.up("deaf");
    eventually("it to be deaf", || !tree.notes("deaf").is_empty());
    assert_eq!(tree.stop().code(), Some(0));
    assert!(!alive(pid));
}

#[test]
fn stop_within_caps_every_timeout_at_shutdown() {
    let tree = Tree::new().options(["--log", "none", "--stop-within", "500ms"]);
    tree.service("deaf").run(DEAF).toml("[stop]\ntimeout = 'never'").moved_in();
    tree.start();
    tree.up("deaf");
    eventually("it to be deaf", || !tree.notes("deaf").is_empty());
    let asked = Instant::now();
    assert_eq!(tree.stop().code(), Some(0));
    assert!(asked.elapsed() < Duration::from_secs(10), "{:?}", asked.elapsed());
}

#[test]
fn what_is_being_retired_already_has_no_longer_than_all_others() {
    for upgraded in [false, true] {
        let tree = Tree::new().options(["--log", "none", "--stop-within", "500ms"]);
        tree.start();
        tree.service("web").run(DEAF).toml("[stop]\ntimeout = 'never'\n").moved_in();
        let deaf = DEAF.replace("$SVTREE_MODULE", "logger");
        let toml = "[stop]\ntimeout = 'never'\n";
        tree.service("logged").run(SLEEPER).script("log/run", &deaf).script("log/service.toml", toml).moved_in();
        tree.up("logged");
        eventually("both to be deaf", || !tree.notes("web").is_empty() && !tree.notes("logger").is_empty());
        tree.move_out("web");
        tree.move_out("logged");
        tree.becomes("web", "stopping");
        eventually("its module to go", || !tree.home("logged/status").exists());
        if upgraded {
            tree.svtree(["upgrade"]).ok();
        }
        assert_eq!(tree.stop().code(), Some(0));
    }
}

#[test]
fn quit_kills_at_once_after_term() {
    let tree = Tree::running();
    tree.service("deaf").run(DEAF).toml("[stop]\ntimeout = 'never'").moved_in();
    let pid = tree.up("deaf");
    eventually("it to be deaf", || !tree.notes("deaf").is_empty());
    tree.signal_svtree(Signal::QUIT);
    assert_eq!(tree.ended().code(), Some(0));
    assert!(!alive(pid));
}

#[test]
fn quit_after_term_no_longer_waits() {
    let tree = Tree::running();
    tree.service("deaf").run(DEAF).toml("[stop]\ntimeout = 'never'").moved_in();
    tree.up("deaf");
    eventually("it to be deaf", || !tree.notes("deaf").is_empty());
    tree.signal_svtree(Signal::TERM);
    tree.becomes("deaf", "stopping");
    tree.signal_svtree(Signal::QUIT);
    assert_eq!(tree.ended().code(), Some(0));
}

#[test]
fn modules_that_wait_or_are_down_or_paused_do_not_hold_up_the_end() {
    let tree = Tree::running();
    tree.service("waiting").run("#!/bin/sh\nexit 1\n").toml("[restart]\ndelay = '10m'").moved_in();
    tree.service("down").run(SLEEPER).file("down", "").moved_in();
    tree.sleeper("paused");
    tree.sleeper("left");
    tree.up("paused");
    tree.up("left");
    tree.letter("paused", "p");
    tree.letter("left", "dx");
    tree.becomes("waiting", "waiting");
    tree.becomes("down", "down");
    eventually("it to be paused", || tree.state("paused")["paused"] == true);
    eventually("it to leave", || tree.called("svok", ["left"]).code == Some(100));
    let asked = Instant::now();
    assert_eq!(tree.stop().code(), Some(0));
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
    assert_eq!(homes(&tree), [""; 0]);
}

#[test]
fn hup_and_alrm_look_at_everything_again() {
    for signal in [Signal::HUP, Signal::ALARM] {
        let tree = Tree::running();
        tree.sleeper("web");
        let pid = tree.up("web");
        tree.letter("web", "dx");
        eventually("it to leave", || tree.called("svok", ["web"]).code == Some(100));
        stays(Duration::from_millis(300), "it stays out", || tree.pid("web").is_none());
        tree.signal_svtree(signal);
        tree.up_again("web", pid);
    }
}

#[test]
fn usr1_writes_all_it_knows_to_its_log() {
    let tree = Tree::running();
    tree.sleeper("some-name");
    let pid = tree.up("some-name");
    tree.signal_svtree(Signal::USR1);
    eventually("the module and its pid", || {
        tree.stderr().contains("some-name") && tree.stderr().contains(&pid.to_string())
    });
}

#[test]
fn abrt_leaves_every_program_to_the_next_one() {
    let tree = Tree::running();
    tree.sleeper("a");
    tree.sleeper("b");
    let pids = [tree.up("a"), tree.up("b")];
    tree.signal_svtree(Signal::ABORT);
    let status = tree.ended();
    assert_eq!(status.code(), Some(0), "{status}");
    assert!(pids.into_iter().all(alive));
    tree.start();
    for (name, pid) in ["a", "b"].into_iter().zip(pids) {
        eventually(format!("{name} to be taken over"), || tree.state(name)["adopted"] == true);
        assert_eq!(tree.pid(name), Some(pid));
    }
}

#[test]
fn a_second_svtree_on_the_same_status_root_is_refused_and_disturbs_nothing() {
    let tree = Tree::running();
    let names = ["a", "b", "c"];
    for name in &names {
        tree.sleeper(name);
    }
    let pids = names.map(|name| tree.up(name));
    names.iter().for_each(|name| tree.becomes(name, "up"));
    let files = |name: &str| (tree.status(name), text(&tree.home(name).join("state.json")));
    let before = names.map(files);
    for _ in 0..5 {
        let asked = Instant::now();
        let line =
            ran(&mut tree.command([SVTREE, "run", "services", "--status", "status", "--log", "none"])).failed(111);
        assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());
        assert!(asked.elapsed() > Duration::from_millis(190), "it tries for 200 ms: {:?}", asked.elapsed());
        assert!(line.contains(&tree.pid_of_svtree().to_string()), "it names the pid: {line}");
    }
    assert_eq!(names.map(files), before);
    assert_eq!(names.map(|name| tree.pid(name)), pids.map(Some));
    tree.letter("a", "k");
    tree.up_again("a", pids[0]);
}

#[test]
fn without_a_services_directory_it_does_not_start_and_says_what_to_do() {
    let tree = Tree::new();
    let line = ran(&mut tree.command([SVTREE, "run", "nosuch"])).failed(111);
    assert!(line.starts_with("svtree: ") && line.contains("nosuch"), "{line}");
    fs::write(tree.path("file"), "").expect("written");
    ran(&mut tree.command([SVTREE, "run", "file"])).failed(111);
    let line = ran(tree.command([tree.link("svscan")]).arg("nosuch")).failed(111);
    assert!(line.starts_with("svscan: "), "{line}");
}

#[test]
fn a_services_directory_that_goes_missing_stops_nothing() {
    let tree = Tree::running();
    tree.sleeper("a");
    let pid = tree.up("a");
    fs::rename(tree.path("services"), tree.path("away")).expect("moved away");
    eventually("one warning", || tree.stderr().contains("services"));
    tree.signal_svtree(Signal::HUP);
    tree.signal_svtree(Signal::HUP);
    stays(Duration::from_secs(2), "a runs on", || tree.pid("a") == Some(pid) && alive(pid));
    assert_eq!(tree.complaints().lines().count(), 1, "one warning: {}", tree.stderr());
    tree.letter("a", "k");
    let pid = tree.up_again("a", pid);
    fs::rename(tree.path("away"), tree.path("services")).expect("moved back");
    tree.sleeper("b");
    tree.up("b");
    assert_eq!(tree.pid("a"), Some(pid));
    remove(&tree.entry("b"));
    tree.goes("b");
}

#[test]
fn a_services_directory_that_is_replaced_by_a_new_one_is_looked_at() {
    let tree = Tree::running();
    tree.sleeper("old");
    tree.up("old");
    fs::create_dir(tree.path("next")).expect("mkdir");
    let old = tree.path("services");
    fs::rename(&old, tree.path("away")).expect("moved away");
    fs::rename(tree.path("next"), &old).expect("moved in");
    tree.sleeper("new");
    tree.up("new");
    tree.goes("old");
}

#[test]
fn a_services_directory_that_cannot_be_read_stops_nothing() {
    let Some(tree) = Tree::new().for_nobody() else { return };
    tree.sleeper("a");
    tree.start();
    let pid = tree.up("a");
    chmod(&tree.path("services"), 0);
    tree.signal_svtree(Signal::HUP);
    eventually("a warning", || tree.stderr().contains("services"));
    stays(Duration::from_secs(1), "a runs on", || tree.pid("a") == Some(pid) && alive(pid));
    chmod(&tree.path("services"), 0o755);
    tree.sleeper("b");
    tree.up("b");
    assert_eq!(tree.pid("a"), Some(pid));
}

#[test]
fn a_plain_user_has_all_of_it() {
    let Some(tree) = Tree::new().for_nobody() else { return };
    tree.service("web").run(NOTING).moved_in();
    tree.start();
    let pid = tree.up("web");
    tree.letter("web", "k");
    tree.up_again("web", pid);
    // It is said once what is missed; nothing else that only root may do was tried.
    assert_eq!(tree.complaints(), "");
    assert!(tree.stderr().lines().count() <= 1, "{}", tree.stderr());
    assert_eq!(tree.stop().code(), Some(0));
}

#[test]
fn strict_refuses_what_others_can_write() {
    let tree = Tree::new().options(["--log", "none", "--strict"]);
    let open = tree.service("open").run(NOTING).dir();
    chmod(&open.join("run"), 0o777);
    fs::rename(&open, tree.entry("open")).expect("moved in");
    tree.sleeper("web");
    tree.start();
    tree.up("web");
    tree.becomes("open", "rejected");
    assert!(tree.notes("open").is_empty());
    assert!(tree.told("open").contains("run"), "{}", tree.told("open"));
}

#[test]
fn the_status_root_is_made_when_it_is_missing() {
    let tree = Tree::new();
    fs::remove_dir(tree.path("status")).expect("removed");
    tree.sleeper("web");
    tree.start();
    tree.up("web");
}

#[test]
fn a_status_root_that_was_named_by_mistake_keeps_what_is_not_svtrees() {
    let tree = Tree::new();
    let foreign = [
        ("lib/dpkg/status", "precious"),
        ("lib/dpkg/lock", ""),
        ("app/state.json", r#"{"version": 3, "items": []}"#),
        ("app/control", "a letter to nobody"),
        ("other/state.json", r#"{"name": "of another"}"#),
        ("other/supervise.log", "a log"),
        ("deep/er/state.json", "no json"),
        ("deep/er/svcontrol", "no pipe"),
        ("status", "a file"),
        ("lock", "a file"),
    ];
    for (path, contents) in foreign {
        write(&tree.home(path), contents, 0o644);
    }
    tree.sleeper("web");
    for _ in 0..2 {
        tree.start();
        tree.up("web");
        assert_eq!(tree.stop().code(), Some(0));
        assert!(!tree.home("web").exists());
        for (path, contents) in foreign {
            assert!(tree.home(path).is_file(), "{path}");
            assert_eq!(text(&tree.home(path)), contents, "{path}");
        }
    }
}

#[test]
fn it_reaps_whatever_else_it_is_given() {
    let tree = Tree::new().through(["sh", "-c", "for i in 1 2 3 4 5; do sleep 0.2 & done; exec \"$0\" \"$@\""]);
    tree.sleeper("web");
    tree.start();
    tree.up("web");
    eventually("its inherited children to be reaped", || children(tree.pid_of_svtree()).len() == 1);
}

#[test]
fn idle_it_uses_no_processor() {
    let tree = Tree::new();
    let names: Vec<String> = (0..20).map(|number| format!("m{number}")).collect();
    for name in &names {
        tree.sleeper(name);
    }
    tree.start();
    for name in &names {
        tree.up(name);
    }
    let pid = tree.pid_of_svtree();
    // The files that came with the start settle first.
    stays(Duration::from_millis(500), "it runs", || tree.is_running());
    let before = ticks(pid);
    stays(Duration::from_secs(3), "it runs", || tree.is_running());
    // 100 ticks a second: 2 % of a core.
    let used = ticks(pid) - before;
    assert!(used <= 6, "{used} ticks in 3 s");
}

#[test]
fn a_dead_program_that_a_tracer_holds_costs_no_processor() {
    let tree = Tree::running();
    let source = "#include <stdlib.h>\n#include <sys/ptrace.h>\n#include <unistd.h>\n\
        int main(int count, char **words) {\n\
            return count < 2 || ptrace(PTRACE_SEIZE, atoi(words[1]), 0, 0) ? 1 : pause();\n\
        }\n";
    let Some(tracer) = tree.compiled("tracer", source) else { return };
    tree.sleeper("web");
    let pid = tree.up("web");
    let mut tracer = spawn(tree.command([tracer]).arg(pid.to_string())).expect("a tracer");
    let id = tracer.id().to_string();
    let mut refused = false;
    eventually("the tracer", || {
        refused = tracer.try_wait().expect("wait").is_some();
        refused || process_field(pid, "TracerPid") == id
    });
    if refused {
        return skip("nothing can be traced here");
    }
    signal_pid(pid, Signal::KILL);
    eventually("its end", || process_state(pid) == Some('Z'));
    let svtree = tree.pid_of_svtree();
    let before = ticks(svtree);
    stays(Duration::from_secs(1), "it is held", || process_state(pid) == Some('Z'));
    let used = ticks(svtree) - before;
    assert!(used < 20, "{used} ticks in a second");
    tracer.kill().expect("kill");
    tracer.wait().expect("wait");
    tree.up_again("web", pid);
    eventually("its end to be told", || tree.state("web")["exits"][0]["signal"] == 9);
}

#[test]
fn with_too_few_descriptors_it_runs_what_it_can_and_recovers() {
    let tree = Tree::new().through(["sh", "-c", "ulimit -n 64; exec \"$0\" \"$@\""]);
    let names: Vec<String> = (0..60).map(|number| format!("m{number}")).collect();
    for name in &names {
        tree.sleeper(name);
    }
    tree.start();
    eventually("some to run", || names.iter().any(|name| tree.pid(name).is_some()));
    stays(Duration::from_secs(1), "it runs", || tree.is_running());
    let pid = rustix::process::Pid::from_raw(tree.pid_of_svtree()).expect("a pid");
    let limit = Rlimit { current: Some(4096), maximum: Some(4096) };
    if rustix::process::prlimit(Some(pid), Resource::Nofile, limit).is_err() {
        return skip("a hard limit cannot be raised here");
    }
    eventually("all to run", || names.iter().all(|name| tree.pid(name).is_some()));
}

/// A stranger that holds the lock of a module.
struct Holder(Child);

impl Holder {
    fn new(tree: &Tree, name: &str) -> Holder {
        fs::create_dir(tree.home(name)).expect("mkdir");
        let lock = tree.home(name).join("lock");
        fs::write(&lock, "").expect("written");
        let words = ["flock".as_ref(), lock.as_os_str(), "sleep".as_ref(), "1000".as_ref()];
        let holder = spawn(&mut tree.command(words)).expect("flock");
        let attempt = || tree.ran(["flock".as_ref(), "-n".as_ref(), lock.as_os_str(), "true".as_ref()]);
        eventually("the lock to be held", || attempt().code == Some(1));
        Holder(holder)
    }

    fn lets_go(mut self) {
        for child in children(self.0.id().cast_signed()) {
            signal_pid(child, Signal::KILL);
        }
        self.0.wait().expect("flock ends");
    }
}

#[test]
fn one_lock_held_by_a_stranger_keeps_only_its_module_from_starting() {
    let tree = Tree::new();
    let holder = Holder::new(&tree, "taken");
    tree.sleeper("taken");
    tree.sleeper("web");
    tree.start();
    tree.up("web");
    eventually("it to be named", || tree.told("taken").contains("lock"));
    assert_eq!(tree.pid("taken"), None);
    holder.lets_go();
    tree.up("taken");
}

#[test]
fn a_lock_held_by_a_stranger_stays_where_it_is_also_when_its_module_goes_or_svtree_ends() {
    let tree = Tree::new();
    let holders = ["gone", "taken"].map(|name| Holder::new(&tree, name));
    let inode = |name: &str| tree.home(name).join("lock").metadata().map(|lock| lock.ino()).ok();
    let before = ["gone", "taken"].map(inode);
    let gone = tree.sleeper("gone");
    tree.sleeper("taken");
    tree.sleeper("web");
    tree.start();
    tree.up("web");
    for name in ["gone", "taken"] {
        eventually(format!("{name} to be named"), || tree.stderr().contains(&format!("status/{name}/lock")));
    }
    remove(&gone);
    remove(&tree.entry("web"));
    tree.goes("web");
    assert_eq!(tree.stop().code(), Some(0));
    assert_eq!(["gone", "taken"].map(inode), before);
    holders.into_iter().for_each(Holder::lets_go);
}

#[test]
fn errors_are_one_line_that_begins_with_the_program() {
    let tree = Tree::running();
    tree.service("wrong").toml("comand = 'x'").moved_in();
    tree.becomes("wrong", "rejected");
    within(Duration::from_secs(5), "one line", || tree.complaints().lines().count() == 1);
    assert!(tree.complaints().starts_with("svtree: "), "{}", tree.stderr());
}

#[test]
fn no_name_forges_a_line() {
    let tree = Tree::running();
    let rejected = "a\nsvtree: forged \u{1b}[31m";
    let missing = "b\nsvtree: forged \u{1b}[31m";
    tree.service(rejected).run(NOTING).file("group.toml", "").moved_in();
    tree.service(missing).toml("command = './nosuch'").moved_in();
    tree.becomes(rejected, "rejected");
    tree.becomes(missing, "waiting");
    eventually("a line", || tree.stderr().contains("group.toml"));
    tree.signal_svtree(Signal::USR1);
    eventually("all it knows", || tree.stderr().matches("forged").count() > 2);
    let table = tree.svtree(["status"]).ok();
    let told = tree.called("svstat", [tree.home(missing)]).ok();
    for text in [tree.stderr(), table, tree.told(missing)] {
        assert!(!text.lines().any(|line| line.starts_with("svtree: forged")), "{text}");
        assert!(!text.chars().any(|char| char.is_control() && char != '\n'), "{text:?}");
    }
    assert!(told.contains("forged"), "{told}");
}

#[test]
fn closed_standard_streams_hurt_nothing() {
    let tree = Tree::new().through(["sh", "-c", "exec \"$0\" \"$@\" <&- >&- 2>&-"]);
    tree.sleeper("web");
    tree.service("wrong").toml("comand = 'x'").moved_in();
    tree.start();
    let pid = tree.up("web");
    tree.becomes("wrong", "rejected");
    assert!(Path::new(&format!("/proc/{pid}/fd/0")).symlink_metadata().is_ok());
    tree.signal_svtree(Signal::USR1);
    tree.letter("web", "k");
    tree.up_again("web", pid);
}
