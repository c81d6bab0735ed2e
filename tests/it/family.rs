//! Section: the small keys of `service.toml` that shape the program, and the files of the family beside it.

use std::ffi::CString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use rustix::process::Signal;

use crate::harness::{
    DEAF, NOTING, SLEEPER, Tree, environment, eventually, process_field, remove, replace, stat, stays, write,
};

/// The nice value of a process.
fn nice(pid: i32) -> String {
    // Counted after the name: proc(5) has it as the 19th field.
    stat(pid).expect("a process")[NICE].clone()
}

/// Where it is in what [`stat`] gives, which begins with the state, field 3.
const NICE: usize = 19 - 3;

#[test]
fn umask_and_nice_are_the_programs_and_nobody_elses() {
    let tree = Tree::running();
    tree.service("set").run(SLEEPER).toml("umask = '027'\nnice = 7").moved_in();
    tree.service("unset").run(SLEEPER).moved_in();
    let (set, unset) = (tree.up("set"), tree.up("unset"));
    let svtree = tree.pid_of_svtree();
    assert_eq!((process_field(set, "Umask"), nice(set)), ("0027".to_owned(), "7".to_owned()));
    assert_eq!(process_field(unset, "Umask"), process_field(svtree, "Umask"));
    assert_eq!(nice(unset), nice(svtree));
}

#[test]
fn finish_has_them_too() {
    let tree = Tree::running();
    let finish = "#!/bin/sh\necho $(umask) $(nice) >> \"$SVTREE_IT/notes/finish\"\n";
    tree.service("web").run(SLEEPER).toml("umask = '027'\nnice = 7").script("finish", finish).moved_in();
    tree.up("web");
    tree.letter("web", "d");
    tree.becomes("web", "down");
    assert_eq!(tree.notes("finish"), ["0027 7"]);
}

#[test]
fn a_priority_that_it_may_not_have_is_the_reason() {
    let Some(tree) = Tree::new().for_nobody() else { return };
    tree.service("web").run(NOTING).toml("nice = -5").moved_in();
    tree.start();
    eventually("a reason", || tree.told("web").contains("setting the priority of ./run: "));
    assert!(tree.told("web").to_lowercase().contains("permission denied"), "{}", tree.told("web"));
    assert!(tree.notes("web").is_empty());
}

#[test]
fn environment_dir_has_a_file_for_each_variable() {
    let tree = Tree::new().env("GONE", "from svtree").env("KEPT", "kept");
    tree.service("web")
        .run(SLEEPER)
        .toml("environment_dir = 'env'\nenvironment = { BOTH = 'toml' }")
        .file("env/FIRST", " a b \t \nsecond line\n")
        .file("env/LINES", "one\0two")
        .file("env/GONE", "")
        .file("env/BLANK", "\n")
        .file("env/BOTH", "dir")
        .file("env/.hidden", "x")
        .file("env/SVTREE_MODULE", "x")
        .moved_in();
    tree.start();
    let pid = tree.up("web");
    let found = environment(pid);
    for variable in ["FIRST= a b", "LINES=one\ntwo", "BLANK=", "BOTH=toml", "KEPT=kept", "SVTREE_MODULE=web"] {
        let name = variable.split('=').next().expect("a name").to_owned() + "=";
        let all: Vec<_> = found.iter().filter(|pair| pair.starts_with(&name)).collect();
        assert_eq!(all, [variable]);
    }
    assert!(!found.iter().any(|pair| pair.starts_with("GONE=") || pair.starts_with(".hidden")), "{found:?}");
    // It is read at each start.
    write(&tree.entry("web").join("env/FIRST"), "new", 0o644);
    assert_eq!(tree.state("web")["changed"], false);
    tree.svtree(["restart", "web"]).ok();
    assert!(environment(tree.up_again("web", pid)).contains(&"FIRST=new".to_owned()));
}

#[test]
fn path_of_the_environment_dir_is_where_the_command_is_looked_for() {
    let tree = Tree::running();
    let service = tree.service("web").toml("command = 'mine'\nenvironment_dir = 'env'").script("bin/mine", NOTING);
    service.file("env/PATH", "bin:/usr/bin:/bin\n").moved_in();
    tree.up("web");
}

#[test]
fn an_environment_dir_with_a_mistake_is_the_reason_why_it_does_not_start() {
    let tree = Tree::running();
    let entry = tree.service("web").run(NOTING).toml("environment_dir = 'env'").moved_in();
    let env = entry.join("env");
    let reason = || tree.state("web")["reason"].as_str().unwrap_or_default().to_owned();
    eventually("the missing directory", || reason().starts_with("reading environment_dir env: "));
    write(&env.join("A=B"), "x", 0o644);
    eventually("the name", || reason() == "reading environment_dir env/A=B: a variable cannot have `=` in its name");
    remove(&env);
    fs::create_dir(&env).expect("made");
    let fifo = CString::new(env.join("FIFO").as_os_str().as_bytes()).expect("no NUL");
    rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::from_raw_mode(0o600)).expect("a FIFO");
    eventually("the FIFO", || reason() == "reading environment_dir env/FIFO: not a file");
    assert!(tree.notes("web").is_empty());
    remove(&env);
    write(&env.join("A"), "x", 0o644);
    assert!(environment(tree.up("web")).contains(&"A=x".to_owned()));
}

#[test]
fn down_signal_is_what_d_sends() {
    let tree = Tree::running();
    let run = "#!/bin/sh\ntrap 'echo int >> \"$SVTREE_IT/notes/web\"; exit 0' INT\ntrap '' TERM
echo run >> \"$SVTREE_IT/notes/web\"\nwhile :; do sleep 0.02; done\n";
    tree.service("web").run(run).file("down-signal", "SIGINT\n").moved_in();
    eventually("the trap", || tree.notes("web") == ["run"]);
    tree.letter("web", "d");
    tree.becomes("web", "down");
    assert_eq!(tree.notes("web"), ["run", "int"]);
}

#[test]
fn timeout_kill_counts_in_milliseconds() {
    let tree = Tree::running();
    tree.service("web").run(DEAF).file("timeout-kill", "300\n").moved_in();
    eventually("deaf", || !tree.notes("web").is_empty());
    tree.letter("web", "d");
    tree.becomes("web", "stopping");
    tree.becomes("web", "down");
    assert_eq!(tree.state("web")["exits"][0]["signal"], 9);
}

#[test]
fn a_timeout_kill_of_0_is_never_and_service_toml_wins_over_it() {
    let tree = Tree::running();
    tree.service("never").run(DEAF).file("timeout-kill", "0\n").moved_in();
    let toml = "[stop]\ntimeout = '200ms'";
    tree.service("toml").run(DEAF).file("timeout-kill", "0\n").file("down-signal", "INT").toml(toml).moved_in();
    for name in ["never", "toml"] {
        eventually("deaf", || !tree.notes(name).is_empty());
    }
    let pid = tree.up("toml");
    tree.letter("never", "d");
    tree.becomes("never", "stopping");
    tree.letter("toml", "d");
    tree.becomes("toml", "down");
    assert_eq!(tree.state("toml")["exits"][0]["pid"], pid);
    stays(Duration::from_millis(500), "no KILL", || tree.state("never")["state"] == "stopping");
    tree.letter("never", "k");
    tree.becomes("never", "down");
}

#[test]
fn timeout_finish_is_of_finish_alone() {
    let tree = Tree::running();
    let hang = "#!/bin/sh\necho $$ >> \"$SVTREE_IT/notes/finish-$SVTREE_MODULE\"\nexec sleep 1000\n";
    tree.service("short").run(SLEEPER).script("finish", hang).file("timeout-finish", "300\n").moved_in();
    let toml = "[stop]\ntimeout = '100ms'";
    let never = tree.service("never").run(SLEEPER).script("finish", hang).toml(toml);
    never.file("timeout-finish", "0\n").moved_in();
    for name in ["short", "never"] {
        tree.up(name);
        tree.letter(name, "d");
    }
    tree.becomes("short", "down");
    tree.becomes("never", "finishing");
    stays(Duration::from_millis(500), "finish goes on", || tree.state("never")["state"] == "finishing");
    tree.letter("never", "k");
    tree.becomes("never", "down");
}

#[test]
fn max_death_tally_is_how_many_exits_are_kept() {
    let tree = Tree::running();
    let run = "#!/bin/sh\nexit 0\n";
    for (name, tally) in [("none", "0\n"), ("three", "3\n"), ("many", "25\n")] {
        tree.service(name).run(run).file("down", "").file("max-death-tally", tally).moved_in();
        tree.becomes(name, "down");
        for exits in 1..=30 {
            tree.letter(name, "o");
            eventually("an exit", || tree.state(name)["exits_total"] == exits && tree.state(name)["state"] == "down");
        }
    }
    let kept = |name: &str| tree.state(name)["exits"].as_array().expect("exits").len();
    assert_eq!((kept("none"), kept("three"), kept("many")), (0, 3, 25));
}

#[test]
fn these_files_are_read_again_when_they_change_come_or_go() {
    let tree = Tree::running();
    let entry = tree.service("web").run(DEAF).file("timeout-kill", "0\n").moved_in();
    eventually("deaf", || tree.notes("web").len() == 1);
    let pid = tree.up("web");
    replace(&entry.join("timeout-kill"), "100\n", 0o644);
    eventually("changed", || tree.state("web")["changed"] == true);
    // They hold at once where `[stop]` does.
    tree.letter("web", "rd");
    tree.becomes("web", "down");
    assert_eq!(tree.state("web")["exits"][0]["pid"], pid);
    fs::remove_file(entry.join("timeout-kill")).expect("removed");
    write(&entry.join("down-signal"), "KILL\n", 0o644);
    tree.letter("web", "u");
    let pid = tree.up_again("web", pid);
    tree.letter("web", "d");
    tree.becomes("web", "down");
    assert_eq!(tree.state("web")["exits"][0]["pid"], pid);
    assert_eq!(tree.state("web")["exits"][0]["signal"], 9);
}

#[test]
fn a_mistake_in_one_is_told_and_the_last_good_ones_stay_in_force() {
    let tree = Tree::running();
    tree.service("new").run(NOTING).file("timeout-kill", "5s\n").moved_in();
    tree.becomes("new", "rejected");
    let expected = "timeout-kill: expected whole milliseconds, 0 for no limit, found \"5s\"";
    assert_eq!(tree.state("new")["reason"], expected);
    write(&tree.entry("new").join("timeout-kill"), "5000\n", 0o644);
    tree.up("new");

    let entry = tree.service("old").run(DEAF).file("timeout-kill", "100\n").moved_in();
    eventually("deaf", || tree.notes("old").len() == 1);
    replace(&entry.join("timeout-kill"), "soon\n", 0o644);
    eventually("a line", || tree.told("old").contains("timeout-kill: expected"));
    tree.letter("old", "d");
    tree.becomes("old", "down");
}

#[test]
fn check_tells_every_mistake_in_them() {
    let tree = Tree::new();
    let small = |name: &str, file: &str, text: &str| tree.service(name).run(SLEEPER).file(file, text).dir();
    let directory = tree
        .service("many")
        .run(SLEEPER)
        .toml("umask = '99'\nnice = 20\n")
        .file("down-signal", "NOSUCH")
        .file("max-death-tally", "4097\n")
        .dir();
    let ran = tree.svtree(["check".into(), directory.into_os_string()]);
    assert_eq!(ran.code, Some(111));
    for part in ["down-signal: ", "max-death-tally: ", "line 1, column 9: umask", "line 2, column 8: nice"] {
        assert!(ran.err.contains(part), "{part} in {}", ran.err);
    }
    let control = tree.service("control").run(SLEEPER).script("control/d", "#!/no/such\n").file("control/h", "x").dir();
    assert!(tree.svtree(["check".into(), control.into_os_string()]).failed(111).contains("control/d: its interpreter"));
    let good = small("good", "timeout-finish", "0\n");
    tree.svtree(["check".into(), good.into_os_string()]).ok();
    let missing = small("missing", "service.toml", "environment_dir = 'env'");
    let said = tree.svtree(["check".into(), missing.into_os_string()]).failed(111);
    assert!(said.contains("service.toml: line 1, column 19: environment_dir: env: "), "{said}");
}

#[test]
fn a_retired_module_with_an_endless_timeout_can_still_be_ended_by_quit() {
    let tree = Tree::running();
    tree.service("web").run(DEAF).file("timeout-kill", "0\n").moved_in();
    eventually("deaf", || !tree.notes("web").is_empty());
    tree.signal_svtree(Signal::QUIT);
    assert_eq!(tree.ended().code(), Some(0));
}

/// A `control/LETTER` that notes its name, and ends with this code.
fn noting_control(code: u8) -> String {
    format!("#!/bin/sh\necho \"${{0##*/}}\" >> \"$SVTREE_IT/notes/control\"\nexit {code}\n")
}

/// Notes each signal that it gets by its letter.
const HEARING: &str = "#!/bin/sh\nfor pair in h:HUP a:ALRM i:INT q:QUIT 1:USR1 2:USR2; do
trap \"echo ${pair%:*} >> \\\"\\$SVTREE_IT/notes/heard\\\"\" \"${pair#*:}\"; done
trap 'echo t >> \"$SVTREE_IT/notes/heard\"; exit 0' TERM
echo run >> \"$SVTREE_IT/notes/heard\"\nwhile :; do sleep 0.02; done\n";

#[test]
fn a_control_that_exits_0_stands_for_its_signal_and_no_other() {
    let tree = Tree::running();
    let (stands, fails) = (noting_control(0), noting_control(1));
    let service = tree.service("web").run(HEARING).script("control/h", &stands).script("control/1", &fails);
    // One that cannot be executed is none.
    service.file("control/2", &stands).moved_in();
    eventually("the traps", || tree.notes("heard") == ["run"]);
    let pid = tree.up("web");
    tree.letter("web", "h");
    eventually("control/h", || tree.notes("control") == ["h"]);
    tree.letter("web", "1");
    eventually("USR1", || tree.notes("heard") == ["run", "1"]);
    assert_eq!(tree.notes("control"), ["h", "1"]);
    tree.letter("web", "2");
    eventually("USR2", || tree.notes("heard") == ["run", "1", "2"]);
    assert_eq!(tree.pid("web"), Some(pid));
}

#[test]
fn d_asks_control_d_then_control_t_then_sends_its_signal() {
    let tree = Tree::running();
    let service = tree.service("web").run(HEARING).script("control/d", &noting_control(1));
    service.script("control/t", &noting_control(1)).moved_in();
    eventually("the traps", || tree.notes("heard") == ["run"]);
    tree.letter("web", "d");
    tree.becomes("web", "down");
    assert_eq!(
        (tree.notes("control"), tree.notes("heard")),
        (vec!["d".into(), "t".into()], vec!["run".into(), "t".into()])
    );
}

#[test]
fn a_control_d_that_stands_for_the_signal_ends_the_program_by_itself() {
    let tree = Tree::running();
    let script = "#!/bin/sh\nread pid < supervise/pid\nkill -INT \"$pid\"\n";
    let service = tree.service("web").run("#!/bin/sh\ntrap '' TERM\nexec sleep 1000\n").script("control/d", script);
    service.script("control/t", &noting_control(0)).moved_in();
    tree.up("web");
    tree.letter("web", "p");
    eventually("paused", || tree.state("web")["paused"] == true);
    // What is paused is continued, so that it can act on it.
    tree.letter("web", "d");
    tree.becomes("web", "down");
    assert_eq!(tree.state("web")["exits"][0]["signal"], 2);
    assert!(tree.notes("control").is_empty());
}

#[test]
fn while_a_control_runs_other_letters_go_on_and_the_same_one_asks_once_more() {
    let tree = Tree::running();
    let wait = "#!/bin/sh\necho h >> \"$SVTREE_IT/notes/control\"\nuntil [ -e go ]; do sleep 0.02; done\nexit 1\n";
    let entry = tree.service("web").run(HEARING).script("control/h", wait).moved_in();
    eventually("the traps", || tree.notes("heard") == ["run"]);
    tree.letter("web", "hhh1");
    eventually("USR1", || tree.notes("heard") == ["run", "1"]);
    eventually("control/h", || tree.notes("control") == ["h"]);
    stays(Duration::from_millis(200), "one at a time", || tree.notes("control") == ["h"]);
    fs::write(entry.join("go"), "").expect("written");
    // A shell that gets HUP twice at once may hear it once.
    eventually("HUP", || tree.notes("heard").starts_with(&["run", "1", "h"].map(str::to_owned)));
    eventually("control/h", || tree.notes("control") == ["h", "h"]);
    stays(Duration::from_millis(200), "once more, not twice", || tree.notes("control") == ["h", "h"]);
}

#[test]
fn a_control_that_hangs_is_killed_with_its_session_and_kill_is_not_late() {
    let tree = Tree::running();
    let hang = "#!/bin/sh\ntrap '' TERM\nsleep 1000 &\necho hang >> \"$SVTREE_IT/notes/control\"\nwait\n";
    let toml = "[stop]\ntimeout = '400ms'";
    tree.service("web").run(DEAF).toml(toml).script("control/d", hang).moved_in();
    eventually("deaf", || !tree.notes("web").is_empty());
    tree.letter("web", "d");
    tree.becomes("web", "down");
    assert_eq!(tree.state("web")["exits"][0]["signal"], 9);
    let svtree = tree.pid_of_svtree();
    eventually("nothing but svtree", || tree.processes() == [svtree]);

    // Nor is one left when its module is retired while it runs.
    tree.service("gone").run(SLEEPER).script("control/h", hang).moved_in();
    tree.up("gone");
    tree.letter("gone", "h");
    eventually("it hangs", || tree.notes("control").len() == 2);
    tree.move_out("gone");
    tree.goes("gone");
    eventually("nothing but svtree", || tree.processes() == [svtree]);
}

#[test]
fn a_control_t_stands_for_the_stop_of_a_retired_module_too() {
    let tree = Tree::running();
    let script = "#!/bin/sh\nread pid < supervise/pid\necho t >> \"$SVTREE_IT/notes/control\"\nkill -QUIT \"$pid\"\n";
    tree.service("web").run(SLEEPER).script("control/t", script).moved_in();
    tree.up("web");
    tree.move_out("web");
    tree.goes("web");
    assert_eq!(tree.notes("control"), ["t"]);
}
