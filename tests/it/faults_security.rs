//! What somebody else on the machine, and what a program itself, may not do.

use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use rustix::process::Signal;

use crate::harness::{
    AS_NOBODY, NOTING, Tree, alive, chmod, environment, eventually, is_root, program, skip, spawn, stays, within,
};

/// A tree that runs as root, and that nobody may look into.
fn tree_of_root() -> Option<Tree> {
    if !is_root() {
        skip("another user to be denied needs root");
        return None;
    }
    program("setpriv")?;
    let tree = Tree::running();
    chmod(&tree.path(""), 0o755);
    Some(tree)
}

/// What a shell says that nobody runs.
fn as_nobody(tree: &Tree, script: &str) -> crate::harness::Ran {
    tree.ran(AS_NOBODY.into_iter().chain(["timeout", "5", "sh", "-c", script]))
}

#[test]
fn every_object_has_its_owner_and_mode_under_any_umask() {
    for umask in ["000", "022", "077"] {
        let tree = Tree::new().through(["sh", "-c", "umask $0; exec \"$@\"", umask]);
        std::fs::remove_dir(tree.path("status")).expect("removed");
        tree.service("group").file("group.toml", "").script("web/run", NOTING).moved_in();
        tree.start();
        tree.up("group/web");
        tree.becomes("group/web", "up");
        let view = |name: &str| tree.entry("group/web/supervise").join(name);
        let home = |name: &str| tree.home("group/web").join(name);
        let objects = [
            (tree.home("group"), 0o755),
            (tree.home("group/web"), 0o755),
            (tree.home(".lock"), 0o600),
            (home("lock"), 0o600),
            (home("svcontrol"), 0o600),
            (home("control"), 0o600),
            (home("ok"), 0o600),
            (home("status"), 0o644),
            (home("state.json"), 0o644),
            (view("lock"), 0o600),
            (view("control"), 0o600),
            (view("ok"), 0o600),
            (view("status"), 0o644),
            (view("pid"), 0o644),
            (view("stat"), 0o644),
        ];
        let own = rustix::process::geteuid().as_raw();
        for (path, mode) in objects {
            eventually(format!("{} to be there", path.display()), || path.exists());
            let found = path.metadata().expect("it is there");
            assert_eq!(found.mode() & 0o7777, mode, "umask {umask}: {}", path.display());
            assert_eq!(found.uid(), own, "{}", path.display());
        }
        // Nothing anywhere can be written by anybody else.
        for path in crate::harness::walk(&tree.path("status")) {
            let found = path.symlink_metadata().expect("it is there");
            assert!(found.is_symlink() || found.mode() & 0o022 == 0, "umask {umask}: {}", path.display());
        }
    }
}

#[test]
fn nobody_can_neither_write_nor_read_nor_lock_nor_replace_anything() {
    let Some(tree) = tree_of_root() else { return };
    tree.service("web").run(NOTING).moved_in();
    let pid = tree.up("web");
    tree.becomes("web", "up");
    let before = tree.status("web");
    let ours = ["status/.lock", "status/web/lock", "services/web/supervise/lock"];
    let fifos = [
        "status/web/svcontrol",
        "status/web/control",
        "status/web/ok",
        "services/web/supervise/control",
        "services/web/supervise/ok",
    ];
    let mut attempts: Vec<String> = Vec::new();
    for path in ours.iter().chain(&fifos) {
        attempts.extend([
            format!("echo d > {path}"),
            format!("exec 9< {path}"),
            format!("rm -f {path}"),
            format!("mv {path} /tmp/svtree-stolen"),
            format!("chmod 666 {path}"),
            format!("ln -f {path} services/web/mine"),
        ]);
    }
    for path in ["status/web/status", "status/web/state.json", "status/web/supervise.log", "services/web/run"] {
        attempts.extend([
            format!("echo x > {path}"),
            format!("echo x >> {path}"),
            format!("rm -f {path}"),
            format!("ln -sfn /etc/passwd {path}"),
        ]);
    }
    for dir in ["status", "status/web", "services", "services/web", "services/web/supervise"] {
        attempts.extend([
            format!("echo x > {dir}/new"),
            format!("mkdir {dir}/new"),
            format!("mkfifo {dir}/new"),
            format!("ln -s / {dir}/new"),
            format!("rmdir {dir}"),
        ]);
    }
    for attempt in &attempts {
        let said = as_nobody(&tree, attempt);
        assert!(!matches!(said.code, None | Some(0 | 124)), "{attempt}: {said:?}");
        assert!(said.err.contains("ermi"), "it is denied: {attempt}: {said:?}");
    }
    for command in ["svc -d web", "svtree down web", "svtree shutdown", "svtree rescan"] {
        let (name, rest) = command.split_once(' ').expect("two words");
        let link = tree.link(name);
        let said = as_nobody(&tree, &format!("{} {rest}", link.display()));
        assert!(!said.err.is_empty() && !said.err.contains("panicked"), "{command}: {said:?}");
    }
    let said = as_nobody(&tree, &format!("kill -KILL {pid} {}", tree.pid_of_svtree()));
    assert_ne!(said.code, Some(0));
    stays(Duration::from_millis(300), "nothing has happened", || {
        tree.is_running() && tree.status("web") == before && tree.pid("web") == Some(pid) && alive(pid)
    });
    assert_eq!(tree.notes("web").len(), 1);
}

#[test]
fn svtree_can_be_started_again_whatever_nobody_holds() {
    let Some(tree) = tree_of_root() else { return };
    tree.service("web").run(NOTING).moved_in();
    let pid = tree.up("web");
    // All that can be opened is, and locked: what everybody may read.
    let script = "exec 3< status/web/status && flock -n 3; exec 4< status/web/state.json && flock -n 4
        exec 5< status/web && flock -n 5; exec 6< status && flock -n 6; exec 7< services && flock -n 7
        exec 8< services/web && flock -n 8; exec 9< services/web/run && flock -n 9; echo held; exec sleep 1000";
    let said = std::fs::File::create(tree.path("out/held")).expect("a file");
    let words = AS_NOBODY.into_iter().chain(["sh", "-c", script]);
    let mut holder = spawn(tree.command(words).stdout(said)).expect("it starts");
    eventually("all to be held", || crate::harness::text(&tree.path("out/held")) == "held\n");
    for _ in 0..3 {
        tree.kill_svtree();
        tree.start();
        eventually("it to be taken over", || tree.state("web")["adopted"] == true);
        assert_eq!(tree.pid("web"), Some(pid));
    }
    tree.letter("web", "k");
    let pid = tree.up_again("web", pid);
    assert_eq!(tree.stop().code(), Some(0));
    tree.start();
    tree.up_again("web", pid);
    holder.kill().expect("kill");
    holder.wait().expect("wait");
}

#[test]
fn what_is_said_to_svtree_by_its_own_supervisor_is_not_handed_on() {
    let secrets = ["NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "WATCHDOG_USEC", "WATCHDOG_PID"];
    let tree = secrets.iter().fold(Tree::new().env("KEPT", "kept"), |tree, name| tree.env(name, "1"));
    tree.service("web").toml("command = 'sleep 1000'").moved_in();
    tree.start();
    let pid = tree.up("web");
    eventually("its environment", || environment(pid).iter().any(|variable| variable == "KEPT=kept"));
    let found = environment(pid);
    for name in secrets {
        assert!(!found.iter().any(|variable| variable.starts_with(&format!("{name}="))), "{name} in {found:?}");
    }
}

#[test]
fn a_program_of_the_same_user_that_kills_svtree_costs_nothing_but_the_supervision() {
    let tree = Tree::running();
    tree.service("other").run(NOTING).moved_in();
    let other = tree.up("other");
    let kill = NOTING.replace("exec", "kill -KILL $PPID\nexec");
    tree.service("web").run(&kill).moved_in();
    let pid = tree.noted_pids("web", 1)[0];
    within(Duration::from_secs(5), "svtree to be killed", || !tree.is_running());
    assert_eq!(tree.ended().code(), None);
    tree.start();
    for (name, pid) in [("web", pid), ("other", other)] {
        eventually(format!("{name} to be taken over"), || tree.state(name)["adopted"] == true);
        assert_eq!(tree.pid(name), Some(pid));
        assert_eq!(tree.notes(name).len(), 1);
    }
    tree.signal_svtree(Signal::HUP);
    stays(Duration::from_millis(300), "it runs on", || tree.pid("web") == Some(pid));
}
