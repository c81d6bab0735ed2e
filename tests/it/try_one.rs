//! `svtree try DIR`: what the program would have in a tree, in front, once; and nothing else is touched.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Child;

use rustix::process::Signal;

use crate::harness::{DEAF, SLEEPER, SVTREE, Tree, alive, eventually, is_root, signal_pid, spawn, text, wait_for};

/// Tells where it is and what it may do, in the notes of this name, and waits.
const TELLING: &str = "#!/bin/sh
{ pwd; id; umask; nice; ulimit -a; env | grep -v '^_=' | sort; readlink /proc/self/fd/0
grep -E 'NoNewPrivs|CapBnd|SigBlk|SigIgn' /proc/self/status; ls /proc/self/fd | wc -l; ps -o sid= -p $$ | grep -c $$; } > told 2>&1
mv told \"$SVTREE_IT/notes/$TOLD\"
exec sleep 1000
";

/// `svtree try DIR` beside the tree; what it and its program say is in `out/try`.
fn tried(tree: &Tree, dir: &Path) -> Child {
    let said = File::create(tree.path("out/try")).expect("a file");
    let mut command = tree.command([SVTREE.as_ref(), "try".as_ref(), dir.as_os_str()]);
    command.env("TMPDIR", tree.path("notes")).stdout(said.try_clone().expect("a descriptor")).stderr(said);
    spawn(&mut command).expect("it starts")
}

fn said(tree: &Tree) -> String {
    text(&tree.path("out/try"))
}

fn code(mut child: Child) -> Option<i32> {
    wait_for("the trial to end", || child.try_wait().expect("wait")).code()
}

fn signal(child: &Child, signal: Signal) {
    signal_pid(child.id().cast_signed(), signal);
}

/// A directory of this name, with a `run` and a `service.toml`.
fn prepared(tree: &Tree, name: &str, run: &str, toml: &str) -> PathBuf {
    tree.service(name).run(run).toml(toml).dir()
}

#[test]
fn the_program_has_what_it_would_have_in_a_tree() {
    let user = if is_root() { "user = \"daemon\"\n" } else { "" };
    let toml = format!(
        "{user}directory = \"sub\"\numask = \"027\"\nnice = 19\nenvironment = {{ MODE = \"live\", TOLD = \"TOLD\" }}\n\
         environment_dir = \"env\"\n[limits]\nopen_files = 77\ncore = 0\n[sandbox]\nno_new_privileges = true\n"
    );
    let tree = Tree::running();
    let entry = |told: &str| {
        let service = tree.service("web").run(TELLING).toml(&toml.replace("\"TOLD\"", &format!("\"{told}\"")));
        service.file("env/FROM_FILE", "yes\n").file("sub/keep", "")
    };
    let open_to_all = |dir: &Path| {
        for path in [tree.path(""), tree.path("notes"), dir.join("sub")] {
            fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o777)).expect("changed");
        }
    };
    let run = entry("run").dir();
    open_to_all(&run);
    fs::rename(run, tree.entry("web")).expect("moved in");
    eventually("the module to tell", || tree.path("notes/run").exists());
    tree.move_out("web");
    tree.goes("web");

    let dir = entry("tried").dir();
    open_to_all(&dir);
    fs::rename(dir, tree.path("elsewhere/web")).expect("moved");
    let child = tried(&tree, &tree.path("elsewhere/web"));
    eventually("the program to tell", || tree.path("notes/tried").exists());
    signal(&child, Signal::INT);
    assert_eq!(code(child), Some(143));
    let told = |name: &str| text(&tree.path("notes").join(name));
    let as_tried = told("tried").replace("TOLD=tried", "TOLD=run").replace("elsewhere/web", "services/web");
    // Where its temporary files are is the caller's.
    let lines = |told: &str| -> Vec<String> {
        told.lines().filter(|line| !line.starts_with("TMPDIR=")).map(str::to_owned).collect()
    };
    assert_eq!(lines(&as_tried), lines(&told("run")));
    assert!(told("run").contains("FROM_FILE=yes") && told("run").contains("NoNewPrivs:\t1"), "{}", told("run"));
}

#[test]
fn its_output_comes_here_and_its_code_is_the_programs_or_128_and_the_signal() {
    let tree = Tree::new();
    let run = |script: &str| {
        let dir = tree.service("job").run(&format!("#!/bin/sh\n{script}\n")).dir();
        tree.svtree(["try".as_ref(), dir.as_os_str()])
    };
    assert_eq!(run("echo out; exit 0").ok(), "out\n");
    let ran = run("echo out; echo err >&2; exit 7");
    assert_eq!((ran.code, ran.out.as_str()), (Some(7), "out\n"));
    assert!(ran.err.starts_with("err\nsvtree: try job: exited 7 after "), "{}", ran.err);
    assert!(run("kill -KILL $$").failed(137).starts_with("svtree: try job: killed by SIGKILL after "));
    assert!(run("kill -TERM $$").failed(143).contains("killed by SIGTERM"));
}

#[test]
fn interrupted_it_ends_as_by_down_with_its_own_signal() {
    let tree = Tree::new();
    let run = "#!/bin/sh\ntrap 'echo usr1; exit 5' USR1\ntrap '' TERM INT\necho ready\nwhile :; do sleep 0.05; done\n";
    let dir = prepared(&tree, "web", run, "[stop]\nsignal = \"USR1\"\n");
    for ending in [Signal::INT, Signal::TERM, Signal::HUP] {
        let child = tried(&tree, &dir);
        eventually("the program to be ready", || said(&tree).contains("ready"));
        signal(&child, ending);
        assert_eq!(code(child), Some(5));
        let line = "svtree: try web: stops it by SIGUSR1; SIGKILL follows after 30 s; once more kills it at once\n";
        assert!(said(&tree).contains("usr1") && said(&tree).contains(line), "{}", said(&tree));
    }
}

#[test]
fn what_does_not_stop_is_killed_after_its_time_and_at_once_when_it_is_said_again() {
    let tree = Tree::new();
    for (timeout, again) in [("100ms", false), ("10m", true)] {
        let dir = prepared(&tree, "deaf", DEAF, &format!("[stop]\ntimeout = \"{timeout}\"\n"));
        let child = tried(&tree, &dir);
        eventually("it to be deaf", || !tree.notes("deaf").is_empty());
        signal(&child, Signal::INT);
        if again {
            eventually("it to be told", || said(&tree).contains("stops it by SIGTERM"));
            signal(&child, Signal::INT);
        }
        assert_eq!(code(child), Some(137));
        fs::remove_file(tree.path("notes/deaf")).expect("removed");
    }
}

#[test]
fn nothing_stays_of_it_neither_processes_nor_files() {
    let tree = Tree::new();
    let left = "#!/bin/sh\nsetsid sleep 1000 &\necho $! > \"$SVTREE_IT/notes/left\"\nexit 3\n";
    let dir = prepared(&tree, "web", left, "forking = \"ignore\"\n");
    let child = tried(&tree, &dir);
    assert_eq!(code(child), Some(3));
    let pid = tree.noted_pids("left", 1)[0];
    assert!(!alive(pid), "what it left is ended");
    let names = |path: &str| {
        let entries = fs::read_dir(tree.path(path)).expect("a directory");
        entries.map(|entry| entry.expect("an entry").file_name()).collect::<Vec<_>>()
    };
    assert_eq!(names("notes"), ["left"], "no directory of its own");
    assert!(names("services").is_empty() && names("status").is_empty() && names("logs").is_empty());
    assert!(!dir.join("supervise").exists());
}

#[test]
fn the_same_module_of_a_running_tree_is_not_disturbed_and_it_is_said_that_it_is_up() {
    let tree = Tree::running();
    let entry = tree.sleeper("web");
    let pid = tree.up("web");
    let before = (tree.status("web"), fs::read(tree.home("web/state.json")).expect("a state"));
    let child = tried(&tree, &entry);
    let both = format!("svtree: try web: it is up under a supervisor, pid {pid}: now there are two of it\n");
    eventually("the warning", || said(&tree).contains(&both));
    let sleepers = || tree.processes().iter().filter(|pid| crate::harness::arguments(**pid)[0] == "sleep").count();
    eventually("two of it", || sleepers() == 2);
    signal(&child, Signal::INT);
    assert_eq!(code(child), Some(143));
    assert_eq!((tree.status("web"), fs::read(tree.home("web/state.json")).expect("a state")), before);
    assert!(alive(pid) && entry.join("supervise/ok").exists());
    let away = tree.service("web").run("#!/bin/sh\nexit 0\n").dir();
    assert_eq!(
        tree.svtree(["try".as_ref(), away.as_os_str()]).ok(),
        "",
        "another directory of that name is another one"
    );
}

#[test]
fn what_is_not_ready_in_time_or_cannot_be_started_is_said() {
    let tree = Tree::new();
    let run = |name: &str, script: &str, toml: &str| {
        let dir = prepared(&tree, name, script, toml);
        tree.svtree(["try".as_ref(), dir.as_os_str()])
    };
    let line = run("late", SLEEPER, "[ready]\nfd = 3\ntimeout = \"200ms\"\n").failed(143);
    assert!(line.contains("try late: not ready") && line.contains("SIGTERM"), "{line}");
    assert!(run("none", "#!/nosuch\n", "").failed(111).contains("try none: executing ./run: not found"));
    let line = run("wrong", SLEEPER, "comand = \"x\"\n").failed(111);
    assert!(line.contains("service.toml: line 1, column 1: unknown key `comand`, did you mean `command`?"), "{line}");
    let group = tree.service("group").file("group.toml", "").dir();
    assert!(tree.svtree(["try".as_ref(), group.as_os_str()]).failed(111).contains("a group; try one of its modules"));
    assert!(tree.svtree(["try", "elsewhere"]).failed(111).contains("incomplete: it holds no run"));
    assert!(tree.svtree(["try", "nosuch"]).failed(111).contains("there is no such directory"));
    tree.svtree(["try"]).failed(100);
}

#[test]
fn a_module_that_is_normally_down_is_tried_and_ready_counts() {
    let tree = Tree::new();
    let run = "#!/bin/sh\necho >&3\nexec 3>&-\nexec sleep 0.3\n";
    let dir = prepared(&tree, "web", run, "enabled = false\n[ready]\nfd = 3\ntimeout = \"200ms\"\n");
    fs::write(dir.join("down"), "").expect("a file");
    assert_eq!(tree.svtree(["try".as_ref(), dir.as_os_str()]).ok(), "");
}

#[test]
fn what_puts_itself_in_the_background_is_waited_for() {
    let tree = Tree::new();
    let run = "#!/bin/sh\nsh -c 'sleep 0.3; echo done' &\nexit 0\n";
    let dir = tree.service("daemon").run(run).dir();
    let ran = tree.svtree(["try".as_ref(), dir.as_os_str()]);
    assert_eq!((ran.code, ran.out.as_str()), (Some(0), "done\n"), "{}", ran.err);
}

#[test]
fn one_that_is_stopped_before_it_ran_has_the_code_of_that_signal() {
    let tree = Tree::new();
    let dir = tree.service("web").run(SLEEPER).dir();
    for _ in 0..20 {
        let child = tried(&tree, &dir);
        signal(&child, Signal::TERM);
        let code = code(child);
        assert!([Some(143), None].contains(&code), "{code:?}: {}", said(&tree));
    }
}
