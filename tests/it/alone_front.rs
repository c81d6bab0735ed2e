//! `supervise` alone, in the foreground: with a status directory, and on a service directory as daemontools' own.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::{Child, Command, Stdio};

use rustix::process::Signal;

use crate::harness::{
    Alone, SLEEPER, alive, arguments, eventually, parent, program, signal_pid, skip, spawn, text, wait_for, write,
};

/// One in the foreground, ended with the test.
struct Front(Child);

impl Front {
    fn start(command: &mut Command) -> Front {
        Front(spawn(command).expect("started"))
    }

    fn pid(&self) -> i32 {
        self.0.id().cast_signed()
    }

    /// Its exit code, or the signal that ended it, negative.
    #[track_caller]
    fn ended(&mut self) -> i32 {
        use std::os::unix::process::ExitStatusExt;
        let status = wait_for("it to end", || self.0.try_wait().expect("wait"));
        status.code().or(status.signal().map(|signal| -signal)).expect("one of both")
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn command(alone: &Alone, args: &[&str]) -> Command {
    let link = alone.link("supervise");
    let mut command = alone.command([link.into_os_string()]);
    command.args(args).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

#[test]
fn a_command_in_the_foreground_has_the_standard_streams_and_stays() {
    let alone = Alone::new();
    alone.script("echo", "#!/bin/sh\nread line\necho \"out $line\"\necho \"err $line\" >&2\nexec sleep 1000\n");
    fs::write(alone.path("in"), "hello\n").expect("written");
    let mut command = command(&alone, &["status/web", "./echo"]);
    let file = |name| fs::File::create(alone.path(name)).expect("a file");
    command.stdin(fs::File::open(alone.path("in")).expect("a file")).stdout(file("o")).stderr(file("e"));
    let mut front = Front::start(&mut command);
    let pid = alone.up("web");
    eventually("its output", || text(&alone.path("o")) == "out hello\n" && text(&alone.path("e")) == "err hello\n");
    assert_eq!(parent(pid), front.pid());
    alone.letter("web", "dx");
    assert_eq!(front.ended(), 0);
    assert_eq!(alone.status("web").expect("it stays")[16..], [0; 4]);
}

#[test]
fn a_lock_that_is_taken_is_an_error_in_the_foreground() {
    let alone = Alone::new();
    alone.start("sleep 1000", &[]);
    let line = alone.supervise(&["status/web", "sleep", "1000"]).failed(111);
    assert!(line.contains("status/web/lock: held by pid"), "{line}");
    assert!(alone.warnings().contains("[FATAL] "));
}

#[test]
fn the_terminals_interrupt_ends_both() {
    let alone = Alone::new();
    let mut front = Front::start(&mut command(&alone, &["status/web", "sleep", "1000"]));
    let pid = alone.up("web");
    signal_pid(front.pid(), Signal::INT);
    assert_eq!(front.ended(), -2);
    eventually("its program to end", || !alive(pid));
}

#[test]
fn an_interrupt_that_the_caller_ignores_is_ignored() {
    let alone = Alone::new();
    let link = alone.link("supervise").display().to_string();
    let mut command = alone.command(["sh", "-c", "trap '' INT; exec \"$0\" status/web sleep 1000", &link]);
    let front = Front::start(&mut command);
    let pid = alone.up("web");
    signal_pid(front.pid(), Signal::INT);
    alone.letter("web", "1");
    assert!(alive(front.pid()));
    let next = alone.up_again("web", pid);
    assert_eq!(parent(next), front.pid());
}

#[test]
fn term_ends_it_and_its_program_runs_on_for_the_next() {
    let alone = Alone::new();
    let mut front = Front::start(&mut command(&alone, &["status/web", "sleep", "1000"]));
    let pid = alone.up("web");
    signal_pid(front.pid(), Signal::TERM);
    assert_eq!(front.ended(), -15);
    assert_eq!(alone.start("sleep 1000", &[]), pid, "also in another form");
}

/// A service directory `elsewhere/web`, and one in the foreground on it.
fn service(alone: &Alone) -> (std::path::PathBuf, Front) {
    let dir = alone.path("elsewhere/web");
    write(&dir.join("run"), SLEEPER, 0o755);
    let front = Front::start(&mut command(alone, &["elsewhere/web"]));
    (dir, front)
}

/// The pid that `supervise/status` names, in the layout of daemontools and runit.
fn pid_in(dir: &std::path::Path) -> Option<i32> {
    let bytes: [u8; 20] = fs::read(dir.join("supervise/status")).ok()?.try_into().ok()?;
    let pid = i32::from_le_bytes(bytes[12..16].try_into().expect("four bytes"));
    (pid != 0 && alive(pid)).then_some(pid)
}

#[test]
fn a_directory_that_stands_for_several_is_refused() {
    let alone = Alone::new();
    let dir = alone.path("elsewhere/web");
    write(&dir.join("run"), SLEEPER, 0o755);
    write(&dir.join("service.toml"), "instances = 2\n", 0o644);
    let line = alone.supervise(&["elsewhere/web"]).failed(111);
    assert!(line.contains("service.toml: instances: svtree run starts several"), "{line}");
    assert!(!dir.join("supervise").exists());
}

#[test]
fn a_service_directory_is_supervised_as_by_daemontools() {
    let alone = Alone::new();
    let (dir, mut front) = service(&alone);
    let pid = wait_for("its program", || pid_in(&dir));
    assert_eq!(parent(pid), front.pid());
    eventually("it to be in its directory", || {
        fs::read_link(format!("/proc/{pid}/cwd")).ok() == fs::canonicalize(&dir).ok()
    });
    assert!(arguments(pid)[0].ends_with("sleep") || arguments(pid)[0].ends_with("sh"));
    assert_eq!(fs::read_dir(alone.path("status")).expect("status").count(), 0, "nothing anywhere else");
    let line = alone.called("svstat", ["elsewhere/web"]).ok();
    assert!(line.starts_with(&format!("elsewhere/web: up (pid {pid}) ")), "{line}");
    assert_eq!(alone.called("svc", ["-dx", "elsewhere/web"]).ok(), "");
    assert_eq!(front.ended(), 0);
    assert!(!alive(pid) && dir.join("supervise/lock").exists());
}

#[test]
fn daemontools_own_clients_work_on_it() {
    let Some(svstat) =
        ["/usr/bin/svstat", "/usr/sbin/svstat"].map(std::path::PathBuf::from).into_iter().find(|path| path.exists())
    else {
        let _ = program("svstat");
        return;
    };
    let alone = Alone::new();
    let (dir, mut front) = service(&alone);
    let pid = wait_for("its program", || pid_in(&dir));
    let ran = alone.ran([svstat.as_os_str(), dir.as_os_str()]);
    assert!(ran.out.contains(&format!("up (pid {pid}) ")), "{ran:?}");
    assert_eq!(alone.ran([svstat.with_file_name("svok").as_os_str(), dir.as_os_str()]).code, Some(0));
    alone.ran([svstat.with_file_name("svc").as_os_str(), "-dx".as_ref(), dir.as_os_str()]).ok();
    assert_eq!(front.ended(), 0);
}

#[test]
fn a_file_down_keeps_it_from_starting_and_u_starts_it() {
    let alone = Alone::new();
    let dir = alone.path("elsewhere/web");
    write(&dir.join("run"), SLEEPER, 0o755);
    write(&dir.join("down"), "", 0o644);
    let mut front = Front::start(&mut command(&alone, &["elsewhere/web"]));
    eventually("it to listen", || alone.called("svok", ["elsewhere/web"]).code == Some(0));
    eventually("it to be down", || dir.join("supervise/status").exists());
    assert_eq!(pid_in(&dir), None);
    alone.called("svc", ["-u", "elsewhere/web"]).ok();
    let pid = wait_for("its program", || pid_in(&dir));
    // One that takes its place does not stop it.
    front.0.kill().expect("killed");
    front.ended();
    let _next = Front::start(&mut command(&alone, &["elsewhere/web"]));
    eventually("it to be taken over", || text(&dir.join("supervise/supervise.log")).contains("took over"));
    assert_eq!(pid_in(&dir), Some(pid));
}

#[test]
fn finish_runs_after_each_end() {
    let alone = Alone::new();
    let dir = alone.path("elsewhere/web");
    write(&dir.join("run"), "#!/bin/sh\nexit 3\n", 0o755);
    write(&dir.join("finish"), "#!/bin/sh\necho \"$1 $2\" >>\"$SVTREE_IT/notes/finish\"\n", 0o755);
    let _front = Front::start(&mut command(&alone, &["elsewhere/web"]));
    eventually("a finish", || alone.notes("finish").first().is_some_and(|line| line == "3 0"));
}

#[test]
fn a_link_named_supervise_is_followed_and_its_target_made() {
    let alone = Alone::new();
    let dir = alone.path("elsewhere/web");
    write(&dir.join("run"), SLEEPER, 0o755);
    symlink("../volatile", dir.join("supervise")).expect("linked");
    let _front = Front::start(&mut command(&alone, &["elsewhere/web"]));
    wait_for("its program", || pid_in(&dir));
    assert!(alone.path("elsewhere/volatile/status").exists() && dir.join("supervise").is_symlink());
}

#[test]
fn two_on_one_service_directory_are_one() {
    let alone = Alone::new();
    let (dir, _front) = service(&alone);
    let pid = wait_for("its program", || pid_in(&dir));
    let line = alone.supervise(&["elsewhere/web"]).failed(111);
    assert!(line.contains("supervise/lock"), "{line}");
    assert_eq!(pid_in(&dir), Some(pid));
}

#[test]
fn a_directory_that_is_not_there_is_an_error() {
    let alone = Alone::new();
    let line = alone.supervise(&["elsewhere/nowhere"]).failed(111);
    assert!(line.starts_with("supervise: elsewhere/nowhere: "), "{line}");
}

#[test]
fn as_the_first_process_of_a_container_it_ends_on_term() {
    let Some(unshare) = crate::init::unshare() else { return };
    let alone = Alone::new();
    if alone.ran(unshare.iter().copied().chain(["true"])).code != Some(0) {
        return skip("no pid namespaces here");
    }
    let link = alone.link("supervise").display().to_string();
    let words = unshare.iter().copied().chain([link.as_str(), "status/web", "sleep", "1000"]);
    let mut front = Front::start(&mut alone.command(words));
    // The pids in its files are those of the namespace.
    eventually("it to be up", || alone.pid("web").is_some());
    let first = wait_for("the first process", || alone.everybody().into_iter().next());
    signal_pid(first, Signal::TERM);
    assert_eq!(front.ended(), 143);
    eventually("nothing to be left", || alone.processes().is_empty());
}

#[test]
fn the_memory_that_it_costs_is_bounded() {
    if cfg!(debug_assertions) {
        return skip("only a release build is small");
    }
    let alone = Alone::new();
    alone.start("sleep 1000", &[]);
    let rollup = format!("/proc/{}/smaps_rollup", alone.supervisor());
    let pss = || {
        let text = text(std::path::Path::new(&rollup));
        let line = text.lines().find_map(|line| line.strip_prefix("Pss:")).unwrap_or_default();
        line.trim().trim_end_matches(" kB").parse::<u64>().ok()
    };
    eventually("less than 2 MiB", || pss().is_some_and(|kib| kib < 2048));
}
