//! The clients that others wrote: daemontools', runit's, and the tools of the system. They find nothing strange.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::harness::{
    DEAF, Ran, SLEEPER, Tree, alive, eventually, executable, missing, process_state, program, ran, text,
};

/// runit's `sv`, in `$SVTREE_RUNIT_BIN` or PATH.
fn runit_sv() -> Option<PathBuf> {
    let given = std::env::var_os("SVTREE_RUNIT_BIN").map(|dir| PathBuf::from(dir).join("sv"));
    given.filter(|path| executable(path)).or_else(|| program("sv"))
}

/// A client of daemontools; not a link to svtree that stands in PATH under its name.
fn daemontools(name: &str) -> Option<PathBuf> {
    let found = program(name)?;
    let ours = std::fs::canonicalize(&found).is_ok_and(|path| path.file_name() == Some("svtree".as_ref()));
    if ours {
        missing(&format!("{} is svtree's own", found.display()));
    }
    (!ours).then_some(found)
}

fn ask(tree: &Tree, program: &std::path::Path, args: &[&str]) -> Ran {
    let mut command = tree.command([OsString::from(program)]);
    ran(command.args(args).env("SVDIR", tree.path("services")))
}

#[test]
fn daemontools_svstat_says_the_same_as_ours() {
    let Some(svstat) = daemontools("svstat") else { return };
    let tree = Tree::running();
    tree.sleeper("web");
    tree.service("down").run(SLEEPER).file("down", "").moved_in();
    let pid = tree.up("web");
    tree.becomes("down", "down");
    let theirs = || ask(&tree, &svstat, &["services/web"]).ok();
    eventually("up", || theirs().starts_with(&format!("services/web: up (pid {pid}) ")));
    tree.letter("web", "p");
    eventually("paused", || theirs().ends_with(" seconds, paused\n"));
    tree.letter("web", "c");
    eventually("continued", || theirs().ends_with(" seconds\n"));
    eventually("the same line as ours", || {
        ["services/web", "services/down"]
            .iter()
            .all(|name| ask(&tree, &svstat, &[name]).ok() == tree.called("svstat", [*name]).ok())
    });
    tree.letter("web", "dx");
    eventually("not running", || theirs() == "services/web: supervise not running\n");
}

#[test]
fn daemontools_svc_controls_and_svok_knows() {
    let (Some(svc), Some(svok)) = (daemontools("svc"), daemontools("svok")) else {
        return;
    };
    let tree = Tree::running();
    tree.sleeper("web");
    let pid = tree.up("web");
    eventually("supervised", || ask(&tree, &svok, &["services/web"]).code == Some(0));
    ask(&tree, &svc, &["-t", "services/web"]).ok();
    let pid = tree.up_again("web", pid);
    ask(&tree, &svc, &["-p", "services/web"]).ok();
    eventually("paused", || process_state(pid) == Some('T'));
    ask(&tree, &svc, &["-cd", "services/web"]).ok();
    tree.becomes("web", "down");
    ask(&tree, &svc, &["-u", "services/web"]).ok();
    let pid = tree.up("web");
    // Their `supervise/` is not the only place that has the FIFOs: a status directory does as well, seen as one.
    ask(&tree, &svc, &["-dx", "services/web"]).ok();
    eventually("no longer supervised", || ask(&tree, &svok, &["services/web"]).code == Some(100));
    assert!(!alive(pid));
}

#[test]
fn runits_sv_knows_and_controls() {
    let Some(sv) = runit_sv() else { return };
    let tree = Tree::running();
    tree.sleeper("web");
    let pid = tree.up("web");
    eventually("status", || ask(&tree, &sv, &["status", "web"]).out.starts_with(&format!("run: web: (pid {pid}) ")));
    assert_eq!(ask(&tree, &sv, &["-w", "15", "check", "web"]).code, Some(0));
    let said = ask(&tree, &sv, &["-w", "15", "stop", "web"]);
    assert!(said.code == Some(0) && said.out.starts_with("ok: down: web: "), "{said:?}");
    assert_eq!(tree.pid("web"), None);
    let said = ask(&tree, &sv, &["-w", "15", "start", "web"]);
    assert!(said.code == Some(0) && said.out.starts_with("ok: run: web: (pid "), "{said:?}");
    let pid = tree.up("web");
    let said = ask(&tree, &sv, &["-w", "15", "restart", "web"]);
    assert!(said.code == Some(0) && said.out.starts_with("ok: run: web: (pid "), "{said:?}");
    let pid = tree.up_again("web", pid);
    ask(&tree, &sv, &["pause", "web"]).ok();
    eventually("paused", || ask(&tree, &sv, &["status", "web"]).out.contains(", paused"));
    ask(&tree, &sv, &["cont", "web"]).ok();
    ask(&tree, &sv, &["hup", "web"]).ok();
    let pid = tree.up_again("web", pid);
    let said = ask(&tree, &sv, &["-w", "15", "force-stop", "web"]);
    assert!(said.code == Some(0), "{said:?}");
    assert!(!alive(pid));
    let said = ask(&tree, &sv, &["-w", "15", "exit", "web"]);
    assert!(said.code == Some(0), "{said:?}");
    eventually("runsv not running", || ask(&tree, &sv, &["status", "web"]).out.contains("runsv not running"));
}

#[test]
fn runits_sv_waits_for_the_kill_of_what_does_not_end() {
    let Some(sv) = runit_sv() else { return };
    let tree = Tree::running();
    tree.service("deaf").run(DEAF).toml("[stop]\ntimeout = '10m'").moved_in();
    let pid = tree.up("deaf");
    eventually("it to be deaf", || !tree.notes("deaf").is_empty());
    let said = ask(&tree, &sv, &["-w", "1", "force-stop", "deaf"]);
    assert!(said.out.starts_with("kill: run: deaf") || said.out.starts_with("timeout: "), "{said:?}");
    eventually("it to be killed", || !alive(pid));
}

#[test]
fn od_reads_the_pid_at_any_moment() {
    let Some(od) = program("od") else { return };
    let tree = Tree::running();
    tree.sleeper("web");
    let mut pid = tree.up("web");
    for _ in 0..10 {
        let said = ask(&tree, &od, &["-An", "-j16", "-N4", "-tu4", "status/web/status"]).ok();
        assert_eq!(said.trim(), pid.to_string());
        tree.letter("web", "du");
        pid = tree.up_again("web", pid);
    }
}

#[test]
fn fuser_names_the_supervisor() {
    let Some(fuser) = program("fuser") else { return };
    let tree = Tree::running();
    tree.sleeper("web");
    tree.up("web");
    let said = ask(&tree, &fuser, &["status/web/lock"]);
    assert_eq!(said.out.trim(), tree.pid_of_svtree().to_string(), "{said:?}");
}

#[test]
fn a_shell_script_reads_the_pid_and_the_state() {
    let tree = Tree::running();
    let entry = tree.sleeper("web");
    let pid = tree.up("web");
    eventually("the pid file of the view", || text(&entry.join("supervise/pid")).trim() == pid.to_string());
    tree.letter("web", "d");
    tree.becomes("web", "down");
    eventually("no pid while it is down", || {
        let pid = text(&entry.join("supervise/pid"));
        pid.trim().is_empty() || pid.trim() == "0"
    });
}
