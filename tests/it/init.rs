//! `svtree init` in front of one program: signals, orphans, the exit code, and nothing else that the program could notice.

use std::process::Child;

use rustix::process::Signal;

use crate::harness::{
    SVTREE, Tree, alive, children, eventually, is_root, process_state, program, signal_pid, skip, spawn, stat,
    wait_for, zombies,
};

/// A shell that notes its pid, and then waits without a child of its own; `$FIFO` is what it waits for.
const WAIT: &str = "mkfifo fifo; exec 3<>fifo; echo $$ >> notes/program; while :; do read line <&3; done";

/// `svtree init OPTIONS sh -c SCRIPT`, and the pid of the shell once the script has noted it.
fn started(tree: &Tree, options: &[&str], script: &str) -> (Child, i32) {
    let words = [&[SVTREE, "init"], options, &["sh", "-c", script]].concat();
    let child = spawn(&mut tree.command(words)).expect("it starts");
    let pid = tree.noted_pids("program", 1)[0];
    (child, pid)
}

/// The code that it exits with.
fn code(mut child: Child) -> Option<i32> {
    wait_for("init to end", || child.try_wait().expect("wait")).code()
}

fn pid(child: &Child) -> i32 {
    child.id().cast_signed()
}

#[test]
fn its_code_is_the_programs_or_128_and_the_signal() {
    let tree = Tree::new();
    for (script, code) in [
        ("exit 0", 0),
        ("exit 7", 7),
        ("exit 111", 111),
        ("exit 255", 255),
        ("kill -TERM $$", 143),
        ("kill -KILL $$", 137),
        ("kill -40 $$", 168),
    ] {
        assert_eq!(tree.svtree(["init", "sh", "-c", script]).code, Some(code), "{script}");
    }
}

#[test]
fn what_cannot_be_started_is_one_line_and_111_and_wrong_usage_100() {
    let tree = Tree::new();
    let line = tree.svtree(["init", "./nosuch", "-x"]).failed(111);
    assert!(line.starts_with("svtree: executing ./nosuch: not found"), "{line}");
    assert!(tree.svtree(["init", "/"]).failed(111).starts_with("svtree: executing /: Permission denied"));
    assert_eq!(tree.svtree(["init"]).code, Some(100));
    tree.svtree(["init", "--nosuch", "true"]).failed(100);
    tree.svtree(["init", "-r", "TERM", "true"]).failed(100);
    assert_eq!(tree.svtree(["init", "--", "echo", "-g", "--help"]).ok(), "-g --help\n");
}

#[test]
fn every_signal_is_handed_on() {
    let tree = Tree::new();
    let tested = || (1..=64).filter(|signal| ![9, 17, 18, 19, 20, 21, 22, 32, 33].contains(signal));
    let list = tested().map(|signal| signal.to_string()).collect::<Vec<_>>().join(" ");
    let trap = format!("for s in {list}; do trap \"echo $s >> notes/got\" $s; done; {WAIT}");
    let (child, shell) = started(&tree, &[], &trap);
    for signal in tested() {
        tree.ran(["sh", "-c", &format!("kill -{signal} {}", pid(&child))]).ok();
        eventually(format!("signal {signal}"), || tree.notes("got").last() == Some(&signal.to_string()));
    }
    signal_pid(shell, Signal::KILL);
    assert_eq!(code(child), Some(137));
}

#[test]
fn with_g_the_whole_group_gets_it() {
    let tree = Tree::new();
    let script = "sleep 1000 & echo $! >> notes/other; trap 'exit 3' USR1; wait; wait; ";
    let (child, _) = started(
        &tree,
        &["-g"],
        &format!("{script} echo no", script = script.replace("trap", "echo $$ >> notes/program; trap")),
    );
    let other = tree.noted_pids("other", 1)[0];
    signal_pid(pid(&child), Signal::USR1);
    assert_eq!(code(child), Some(3));
    eventually("the other one to end", || !alive(other));
}

#[test]
fn with_g_what_is_left_at_the_end_gets_term_and_without_it_runs_on() {
    let tree = Tree::new();
    let script = "sleep 1000 & echo $! >> notes/left; exit 4";
    for (options, left) in [(&["init", "-g"][..], false), (&["init"], true)] {
        assert_eq!(tree.svtree(options.iter().chain(&["sh", "-c", script])).code, Some(4));
        let pid = tree.notes("left").last().and_then(|line| line.parse().ok()).expect("a pid");
        if left {
            assert!(alive(pid));
            signal_pid(pid, Signal::KILL);
        }
        eventually("it to be gone", || !alive(pid));
    }
}

#[test]
fn signals_can_be_rewritten_and_codes_expected() {
    let tree = Tree::new();
    let options = ["-r", "TERM:QUIT", "-r", "HUP:0", "-e", "3", "-e", "143"];
    let (child, _) = started(&tree, &options, &format!("trap 'exit 3' QUIT; {WAIT}"));
    signal_pid(pid(&child), Signal::HUP);
    signal_pid(pid(&child), Signal::TERM);
    assert_eq!(code(child), Some(0));
    assert_eq!(tree.svtree(["init", "-e", "143", "sh", "-c", "kill -TERM $$"]).code, Some(0));
    assert_eq!(tree.svtree(["init", "-e", "143", "sh", "-c", "exit 5"]).code, Some(5));
}

#[test]
fn orphans_are_reaped() {
    let tree = Tree::new();
    let orphans = format!("i=0; while [ $i -lt 100 ]; do (sleep 0.01 &); i=$((i + 1)); done; {WAIT}");
    let (child, shell) = started(&tree, &[], &orphans);
    eventually("only the program to be left", || children(pid(&child)) == [shell]);
    assert_eq!(zombies(pid(&child)), [0; 0]);
    signal_pid(pid(&child), Signal::TERM);
    assert_eq!(code(child), Some(143));
}

#[test]
fn nothing_that_the_program_inherits_is_changed() {
    let tree = Tree::new();
    let look = "grep -E 'Sig(Blk|Ign)|NoNewPrivs' /proc/self/status; env | sort; pwd; umask; ulimit -n; ulimit -Hn; \
        ls /proc/self/fd; nice; cut -d' ' -f 6 /proc/self/stat";
    let run = |init: &str| {
        let outer = format!("trap '' HUP USR1 CHLD; umask 027; ulimit -Sn 200; exec {init} sh -c \"$1\" 5</dev/null");
        tree.ran(["setsid", "-w", "sh", "-c", &outer, "sh", look]).ok()
    };
    let session = |text: &str| text.lines().last().map(str::to_owned);
    let (with, without) = (run(&format!("{SVTREE} init")), run(""));
    assert!(with.contains("SVTREE_IT="), "{with}");
    // The sessions differ by nature.
    let all_but_session = |text: &str| text.lines().rev().skip(1).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(all_but_session(&with), all_but_session(&without));
    assert!(session(&with).is_some());
}

#[test]
fn stopped_by_the_terminals_signal_both_stop_and_cont_continues_both() {
    let tree = Tree::new();
    let (child, shell) = started(&tree, &[], WAIT);
    signal_pid(pid(&child), Signal::TSTP);
    eventually("both to stop", || [pid(&child), shell].map(process_state) == [Some('T'); 2]);
    signal_pid(pid(&child), Signal::CONT);
    eventually("both to go on", || [pid(&child), shell].map(process_state) == [Some('S'); 2]);
    signal_pid(pid(&child), Signal::TERM);
    assert_eq!(code(child), Some(143));
}

#[test]
fn the_program_has_the_terminal_and_whoever_started_it_hears_when_it_stops() {
    if program("script").is_none() {
        return;
    }
    let tree = Tree::new();
    // A shell between them, since `script` stops when what it started does.
    let line = format!("{SVTREE} init sh -c '{WAIT}'; exit $?");
    let terminal = spawn(&mut tree.command(["script", "-qec", &line, "out/typescript"])).expect("it starts");
    let shell = tree.noted_pids("program", 1)[0];
    let field = |pid, field: usize| stat(pid).and_then(|fields| fields[field].parse::<i32>().ok());
    // Of proc(5)'s fields the parent is the second here, the group the third, the terminal's foreground the sixth.
    let init = field(shell, 1).expect("its parent");
    assert_eq!((field(shell, 2), field(shell, 5)), (Some(shell), Some(shell)));
    signal_pid(shell, Signal::TSTP);
    eventually("init to stop, with the terminal", || {
        process_state(init) == Some('T') && field(init, 5) == field(init, 2)
    });
    signal_pid(init, Signal::CONT);
    eventually("both to go on", || [init, shell].map(process_state) == [Some('S'); 2]);
    assert_eq!(field(shell, 5), Some(shell), "it has the terminal again");
    signal_pid(init, Signal::TERM);
    assert_eq!(code(terminal), Some(143));
}

#[test]
fn as_pid_1_it_hands_on_reaps_and_exits_as_the_program() {
    let Some(unshare) = unshare() else { return };
    let tree = Tree::new();
    if tree.ran(unshare.iter().chain(&["true"])).code != Some(0) {
        return skip("no pid namespaces here");
    }
    let script = "trap 'exit 9' TERM; i=0; while [ $i -lt 100 ]; do (sleep 0.01 &); i=$((i + 1)); done; \
        until [ $(ls -d /proc/[0-9]* | wc -l) -le 5 ]; do :; done; setsid sleep 1000 & kill -TERM 1; wait; wait";
    let words = [unshare, &[SVTREE, "init", "sh", "-c", script]].concat();
    assert_eq!(tree.ran(words).code, Some(9));
    eventually("nothing to be left", || tree.processes().is_empty());
}

/// A command that gives the rest a pid namespace of its own, where there is such a command.
pub fn unshare() -> Option<&'static [&'static str]> {
    program("unshare")?;
    Some(if is_root() {
        &["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]
    } else {
        &["unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc", "--kill-child"]
    })
}
