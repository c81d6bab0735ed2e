//! Section: the letters of `svcontrol`, one by one and in rows.

use std::fs;
use std::time::{Duration, Instant};

use crate::harness::{
    CRASHING, DEAF, NOTING, ONE_COPY, SLEEPER, SVTREE, Tree, alive, append, eventually, process_state, ran, replace,
    stays, text, within, write_fifo, zombies,
};

/// Notes each signal by its name and goes on, as only KILL can end it; and notes `ready` once it listens.
const LISTENER: &str = r#"#!/bin/sh
for signal in TERM HUP ALRM INT QUIT USR1 USR2; do
    trap "echo $signal >> '$SVTREE_IT/notes/web'" $signal
done
sleep 1000 &
echo ready >> "$SVTREE_IT/notes/web"
while kill -0 $!; do wait $!; done
"#;

#[test]
fn every_letter_of_a_signal_sends_it_to_the_program() {
    let tree = Tree::running();
    tree.service("web").run(LISTENER).toml("[stop]\ntimeout = '100ms'").moved_in();
    let pid = tree.up("web");
    eventually("it to listen", || tree.notes("web") == ["ready"]);
    let letters =
        [("t", "TERM"), ("h", "HUP"), ("a", "ALRM"), ("i", "INT"), ("q", "QUIT"), ("1", "USR1"), ("2", "USR2")];
    for (letter, signal) in letters {
        tree.letter("web", letter);
        eventually(format!("{signal} by {letter}"), || tree.notes("web").last().is_some_and(|line| line == signal));
    }
    assert_eq!(tree.pid("web"), Some(pid));
    tree.letter("web", "k");
    tree.up_again("web", pid);
    eventually("the exit to be told", || tree.state("web")["exits"][0]["signal"] == 9);
    assert_eq!(tree.state("web")["exits"][0]["pid"], pid);
}

#[test]
fn d_stops_and_u_starts() {
    let tree = Tree::running();
    tree.sleeper("web");
    let pid = tree.up("web");
    tree.letter("web", "d");
    tree.becomes("web", "down");
    assert!(!alive(pid) && tree.pid("web").is_none());
    assert_eq!(tree.state("web")["want"], "down");
    stays(Duration::from_millis(1300), "not started again", || tree.pid("web").is_none());
    tree.letter("web", "u");
    tree.up_again("web", pid);
    eventually("it to be wanted", || tree.state("web")["want"] == "up");
}

#[test]
fn o_starts_and_does_not_restart() {
    let tree = Tree::running();
    tree.service("web").run(NOTING).file("down", "").moved_in();
    tree.becomes("web", "down");
    tree.letter("web", "o");
    tree.up("web");
    eventually("once to be told", || tree.state("web")["want"] == "once");
    assert_eq!(tree.status("web").expect("status")[13], 0);
    eventually("it to have noted itself", || tree.notes("web").len() == 1);
    tree.letter("web", "k");
    tree.becomes("web", "down");
    stays(Duration::from_millis(1300), "not restarted", || tree.notes("web").len() == 1);
}

#[test]
fn o_and_u_start_what_is_down_also_directly_after_an_edit_of_its_run() {
    let tree = Tree::running();
    for (name, verb) in [("first", "once"), ("second", "up")] {
        let entry = tree.service(name).run(NOTING).file("down", "").moved_in();
        tree.becomes(name, "down");
        append(&entry.join("run"), "# x\n");
        tree.svtree([verb, name]).ok();
        tree.up(name);
        tree.noted_pids(name, 1);
    }
}

#[test]
fn o_on_what_runs_lets_it_run_to_its_end() {
    let tree = Tree::running();
    tree.sleeper("web");
    let pid = tree.up("web");
    tree.letter("web", "o");
    eventually("once to be told", || tree.state("web")["want"] == "once");
    assert_eq!(tree.pid("web"), Some(pid));
    tree.letter("web", "t");
    tree.becomes("web", "down");
}

#[test]
fn a_thousand_times_o_is_a_thousand_exits_and_no_zombie() {
    let tree = Tree::running();
    tree.service("web").toml("command = 'true'\nenabled = false").moved_in();
    tree.becomes("web", "down");
    let mut last = None;
    for _ in 0..1000 {
        tree.letter("web", "o");
        eventually("another exit", || {
            let state = tree.state("web");
            state["state"] == "down" && state["exits"][0]["pid"].as_i64() != last
        });
        last = tree.state("web")["exits"][0]["pid"].as_i64();
    }
    assert_eq!(tree.state("web")["exits"].as_array().map(Vec::len), Some(20));
    assert_eq!(tree.state("web")["restarts"], 999);
    assert_eq!(tree.state("web")["exits_total"], 1000);
    assert_eq!(zombies(tree.pid_of_svtree()), [0; 0]);
}

#[test]
fn while_it_stops_u_lets_the_stop_go_on_kill_included() {
    let tree = Tree::running();
    tree.service("web").run(DEAF).toml("[stop]\ntimeout = '1s'").moved_in();
    let pid = tree.up("web");
    eventually("it to be deaf", || !tree.notes("web").is_empty());
    tree.letter("web", "du");
    tree.up_again("web", pid);
    eventually("the exit to be told", || tree.state("web")["exits"][0]["signal"] == 9);
}

#[test]
fn p_pauses_and_c_continues() {
    let tree = Tree::running();
    tree.sleeper("web");
    let pid = tree.up("web");
    tree.letter("web", "p");
    eventually("it to be paused", || tree.state("web")["paused"] == true);
    eventually("the program to be stopped", || process_state(pid) == Some('T'));
    assert_eq!(tree.status("web").expect("status")[12], 1);
    tree.letter("web", "c");
    eventually("it to go on", || tree.state("web")["paused"] == false);
    eventually("the program to run", || process_state(pid) == Some('S'));
    assert_eq!(tree.status("web").expect("status")[12], 0);
    assert_eq!(tree.pid("web"), Some(pid));
}

#[test]
fn x_leaves_as_soon_as_the_program_is_down() {
    let tree = Tree::running();
    tree.service("web").run(NOTING).moved_in();
    let pid = tree.up("web");
    tree.letter("web", "x");
    stays(Duration::from_millis(300), "x alone ends nothing", || alive(pid));
    tree.letter("web", "k");
    eventually("its supervise to end", || tree.called("svok", ["web"]).code == Some(100));
    assert!(tree.status("web").is_some() && tree.pid("web").is_none(), "pid 0");
    let lock = tree.home("web").join("lock");
    eventually("the lock to be given back", || {
        tree.ran(["flock".as_ref(), "-n".as_ref(), lock.as_os_str(), "true".as_ref()]).code == Some(0)
    });
    stays(Duration::from_millis(1300), "it stays out", || tree.notes("web").len() == 1);
}

#[test]
fn what_left_by_x_is_back_when_its_directory_is_dropped_again() {
    let tree = Tree::running();
    tree.sleeper("web");
    let pid = tree.up("web");
    tree.letter("web", "dx");
    eventually("its supervise to end", || tree.called("svok", ["web"]).code == Some(100));
    tree.service("web").run(SLEEPER).moved_in();
    tree.up_again("web", pid);
}

#[test]
fn what_left_by_x_is_back_when_its_directory_is_moved_out_and_in_at_once() {
    let tree = Tree::running();
    let entry = tree.service("web").run(ONE_COPY).moved_in();
    let mut pid = tree.up("web");
    for _ in 0..10 {
        tree.letter("web", "dx");
        eventually("its supervise to end", || tree.called("svok", ["web"]).code == Some(100));
        let away = tree.move_out("web");
        fs::rename(away, &entry).expect("moved in");
        pid = tree.up_again("web", pid);
    }
    assert_eq!(tree.notes("twice"), [""; 0]);
}

#[test]
fn s_silences_alarms_and_n_turns_them_on() {
    let tree = Tree::running();
    tree.sleeper("web");
    tree.up("web");
    for (letter, byte, alarms) in [("s", b'x', false), ("n", b'o', true)] {
        tree.letter("web", letter);
        eventually(format!("alarms after {letter}"), || tree.state("web")["alarms"] == alarms);
        assert_eq!(tree.status("web").expect("status")[14], byte);
    }
}

#[test]
fn r_reads_the_configuration_again() {
    let tree = Tree::running();
    let entry = tree.service("web").run(DEAF).toml("[stop]\ntimeout = 'never'").moved_in();
    let pid = tree.up("web");
    eventually("it to be deaf", || !tree.notes("web").is_empty());
    replace(&entry.join("service.toml"), "[stop]\ntimeout = '100ms'", 0o644);
    tree.letter("web", "rd");
    tree.becomes("web", "down");
    assert!(!alive(pid));
}

#[test]
fn white_space_is_skipped() {
    let tree = Tree::running();
    tree.sleeper("web");
    let pid = tree.up("web");
    tree.letter("web", " \t\r\nk\n");
    tree.up_again("web", pid);
    assert_eq!(text(&tree.home("web").join("supervise.log.wf")).matches("unknown").count(), 0);
}

#[test]
fn an_unknown_byte_is_skipped_with_a_warning() {
    let tree = Tree::running();
    tree.sleeper("web");
    let pid = tree.up("web");
    tree.letter("web", "Zk");
    tree.up_again("web", pid);
    let wf = tree.home("web").join("supervise.log.wf");
    eventually("a warning", || text(&wf).contains('Z'));
}

#[test]
fn sixty_thousand_unknown_bytes_do_not_hide_a_d() {
    let tree = Tree::running();
    tree.sleeper("web");
    tree.up("web");
    let mut letters = vec![b'Z'; 60_000];
    letters.push(b'd');
    tree.letter("web", letters);
    let sent = Instant::now();
    tree.becomes("web", "down");
    assert!(sent.elapsed() < Duration::from_secs(5), "{:?}", sent.elapsed());
    let size = tree.home("web").join("supervise.log.wf").metadata().expect("the log").len();
    assert!(size < 1 << 20, "bounded in size: {size}");
}

#[test]
fn letters_are_taken_in_order() {
    let tree = Tree::running();
    tree.service("web").run(NOTING).moved_in();
    let mut pid = tree.up("web");
    for _ in 0..10 {
        tree.letter("web", "du");
        pid = tree.up_again("web", pid);
    }
    tree.letter("web", "dudud");
    tree.becomes("web", "down");
    stays(Duration::from_millis(300), "the last one counts", || tree.pid("web").is_none());
}

#[test]
fn d_u_d_u_in_the_pause_before_a_restart_ends_up() {
    let tree = Tree::running();
    let crash_first = NOTING.replace("exec", "[ -e \"$SVTREE_IT/notes/calm\" ] || exit 1\nexec");
    tree.service("web").run(&crash_first).moved_in();
    tree.becomes("web", "waiting");
    fs::write(tree.path("notes/calm"), "").expect("written");
    for letter in ["d", "u", "d", "u"] {
        tree.letter("web", letter);
    }
    tree.becomes("web", "up");
    tree.up("web");
}

#[test]
fn a_letter_that_starts_what_is_down_is_not_paced() {
    let tree = Tree::running();
    tree.service("web").run(CRASHING).toml("[restart]\ndelay = '10m'").moved_in();
    tree.becomes("web", "waiting");
    for (letter, state, starts) in
        [("u", "waiting", 2), ("u", "waiting", 3), ("o", "down", 4), ("o", "down", 5), ("u", "waiting", 6)]
    {
        tree.letter("web", letter);
        eventually(format!("start {starts} by {letter}"), || tree.notes("web").len() == starts);
        // Not the state that it was in before.
        eventually("its end", || tree.state("web")["exits"].as_array().is_some_and(|exits| exits.len() == starts));
        tree.becomes("web", state);
    }
}

#[test]
fn a_letter_written_by_a_shell_works() {
    let tree = Tree::running();
    tree.sleeper("web");
    let pid = tree.up("web");
    ran(&mut tree.command(["sh", "-c", "echo k > status/web/svcontrol"])).ok();
    tree.up_again("web", pid);
}

#[test]
fn a_writer_that_holds_the_fifo_open_hinders_nobody() {
    let tree = Tree::running();
    tree.sleeper("web");
    let pid = tree.up("web");
    let held = write_fifo(&tree.home("web").join("svcontrol")).expect("a reader");
    tree.letter("web", "k");
    let pid = tree.up_again("web", pid);
    drop(held);
    tree.letter("web", "k");
    tree.up_again("web", pid);
}

#[test]
fn clients_at_once_lose_no_letter() {
    let tree = Tree::running();
    let counter = "#!/bin/sh\ntrap 'echo t >> \"$SVTREE_IT/notes/$SVTREE_MODULE\"' HUP\nsleep 1000 &\n\
        echo ready >> \"$SVTREE_IT/notes/$SVTREE_MODULE\"\nwhile kill -0 $!; do wait $!; done\n";
    let names: Vec<String> = (0..10).map(|number| format!("m{number}")).collect();
    for name in &names {
        tree.service(name).run(counter).toml("[stop]\ntimeout = '100ms'").moved_in();
    }
    for name in &names {
        eventually("it to listen", || tree.notes(name) == ["ready"]);
    }
    std::thread::scope(|scope| {
        for _ in 0..5 {
            // Each client is a process; the tree itself is not shared between threads.
            let mut command = tree.command([SVTREE, "hup"]);
            command.args(&names);
            scope.spawn(move || ran(&mut command).ok());
        }
    });
    for name in &names {
        within(Duration::from_secs(10), "at least one HUP to arrive", || tree.notes(name).len() > 1);
    }
}

#[test]
fn the_log_is_bounded_however_many_letters_come() {
    let tree = Tree::running();
    tree.sleeper("web");
    let pid = tree.up("web");
    for (last, want) in [("o", "once"), ("u", "up"), ("o", "once")] {
        tree.letter("web", "sncn".repeat(1_500) + last);
        // Thousands of records, and many tests beside this one.
        within(Duration::from_mins(2), "all to be taken", || tree.state("web")["want"] == want);
        let size = |name: &str| tree.home("web").join(name).metadata().map_or(0, |file| file.len());
        assert!(size("supervise.log") + size("supervise.log.wf") < 4 << 20, "bounded in size");
    }
    assert_eq!(tree.pid("web"), Some(pid));
}
