//! Section: what the clients take, say and exit with.

use std::fs;
use std::time::{Duration, Instant};

use crate::harness::{
    DEAF, NOTING, SLEEPER, SVTREE, Tree, alive, eventually, process_state, program, ran, stays, wait_for, within,
};

/// Takes the seconds out of a line of `svstat`.
fn without_seconds(line: &str) -> String {
    let words: Vec<&str> = line.split(' ').collect();
    let mut kept: Vec<String> = Vec::new();
    for (place, word) in words.iter().enumerate() {
        let counts = words.get(place + 1).is_some_and(|next| next.trim_end_matches([',', '\n']) == "seconds");
        if counts {
            assert!(word.parse::<u64>().is_ok(), "{line}");
            kept.push("S".to_owned());
        } else {
            kept.push((*word).to_owned());
        }
    }
    kept.join(" ")
}

fn svstat(tree: &Tree, name: &str) -> String {
    without_seconds(&tree.called("svstat", [name]).ok())
}

#[test]
fn svstat_says_the_same_as_daemontools() {
    let tree = Tree::running();
    tree.sleeper("web");
    let pid = tree.up("web");
    assert_eq!(svstat(&tree, "web"), format!("web: up (pid {pid}) S seconds\n"));
    tree.letter("web", "p");
    eventually("paused", || svstat(&tree, "web") == format!("web: up (pid {pid}) S seconds, paused\n"));
    tree.letter("web", "cd");
    eventually("down", || svstat(&tree, "web") == "web: down S seconds, normally up\n");
}

#[test]
fn svstat_of_what_is_normally_down() {
    let tree = Tree::running();
    tree.service("web").run(SLEEPER).file("down", "").moved_in();
    tree.becomes("web", "down");
    assert_eq!(svstat(&tree, "web"), "web: down S seconds\n");
    tree.letter("web", "u");
    let pid = tree.up("web");
    assert_eq!(svstat(&tree, "web"), format!("web: up (pid {pid}) S seconds, normally down\n"));
    tree.letter("web", "p");
    eventually("paused", || svstat(&tree, "web") == format!("web: up (pid {pid}) S seconds, normally down, paused\n"));
}

#[test]
fn svstat_of_what_stops_and_of_what_waits() {
    let tree = Tree::running();
    tree.service("deaf").run(DEAF).toml("[stop]\ntimeout = '3s'").moved_in();
    let pid = tree.up("deaf");
    eventually("it to be deaf", || !tree.notes("deaf").is_empty());
    tree.letter("deaf", "d");
    eventually("want down", || svstat(&tree, "deaf") == format!("deaf: up (pid {pid}) S seconds, want down\n"));
    tree.service("bad").run("#!/bin/sh\nexit 1\n").toml("[restart]\ndelay = '10m'").moved_in();
    tree.becomes("bad", "waiting");
    assert_eq!(svstat(&tree, "bad"), "bad: down S seconds, normally up, want up\n");
    tree.service("odd").run("#!/bin/sh\nexit 1\n").toml("enabled = false\n[restart]\ndelay = '10m'").moved_in();
    tree.becomes("odd", "down");
    tree.letter("odd", "u");
    tree.becomes("odd", "waiting");
    assert_eq!(svstat(&tree, "odd"), "odd: down S seconds, want up\n");
}

#[test]
fn svstat_of_many_names_has_a_line_for_each_in_their_order() {
    let tree = Tree::running();
    tree.sleeper("web");
    let pid = tree.up("web");
    let names: Vec<String> =
        (0..1001).map(|at| if at % 3 == 0 { "web".to_owned() } else { format!("gone{at}") }).collect();
    let said = |name: &String| match name.as_str() {
        "web" => format!("web: up (pid {pid}) S seconds\n"),
        gone => format!("{gone}: unable to chdir: file does not exist\n"),
    };
    let lines = tree.called("svstat", &names).ok();
    assert_eq!(
        lines.split_inclusive('\n').map(without_seconds).collect::<Vec<_>>(),
        names.iter().map(said).collect::<Vec<_>>()
    );
}

#[test]
fn svstat_counts_the_seconds() {
    let tree = Tree::running();
    tree.sleeper("web");
    let pid = tree.up("web");
    eventually("two seconds", || tree.called("svstat", ["web"]).ok() == format!("web: up (pid {pid}) 2 seconds\n"));
}

#[test]
fn svstat_of_what_is_not_supervised_exits_0_and_is_silent_on_standard_error() {
    let tree = Tree::running();
    fs::create_dir(tree.path("plain")).expect("mkdir");
    assert_eq!(svstat(&tree, "./plain"), "./plain: supervise not running\n");
    assert_eq!(svstat(&tree, "plain"), "plain: supervise not running\n");
    assert_eq!(svstat(&tree, "nosuch"), "nosuch: unable to chdir: file does not exist\n");
    assert_eq!(svstat(&tree, "./nosuch"), "./nosuch: unable to chdir: file does not exist\n");
}

#[test]
fn svstat_takes_names_and_both_paths_and_says_each_as_typed() {
    let tree = Tree::running();
    tree.sleeper("web");
    let pid = tree.up("web");
    let absolute = tree.home("web").display().to_string();
    let names = ["web", "status/web", "services/web", "./services/web", "services/web/", absolute.as_str()];
    let said = tree.called("svstat", names).ok();
    let expected: Vec<String> = names.iter().map(|name| format!("{name}: up (pid {pid}) S seconds")).collect();
    assert_eq!(said.lines().map(without_seconds).collect::<Vec<_>>(), expected);
}

#[test]
fn svstat_without_a_name_is_about_every_module() {
    let tree = Tree::running();
    tree.sleeper("web");
    tree.sleeper("db");
    tree.up("web");
    tree.up("db");
    let said = tree.called("svstat", [""; 0]).ok();
    let names: Vec<_> = said.lines().filter_map(|line| line.split(':').next()).collect();
    assert_eq!(names, ["db", "web"]);
}

#[test]
fn the_dot_is_the_current_directory_also_when_the_link_in_services_is_gone() {
    let tree = Tree::running();
    let dir = tree.service("web").run(SLEEPER).linked_in();
    let pid = tree.up("web");
    let here = |program: &str, args: &[&str]| {
        let mut command = tree.command([tree.link(program)]);
        ran(command.args(args).current_dir(&dir))
    };
    eventually("the view", || here("svok", &["."]).code == Some(0));
    assert_eq!(without_seconds(&here("svstat", &["."]).ok()), format!(".: up (pid {pid}) S seconds\n"));
    here("svc", &["-k", "."]).ok();
    tree.up_again("web", pid);
    fs::remove_file(tree.entry("web")).expect("the link goes");
    tree.goes("web");
    assert_eq!(here("svok", &["."]).code, Some(100));
    assert_eq!(here("svstat", &["."]).ok(), ".: supervise not running\n");
}

#[test]
fn svc_sends_its_letters_in_order_and_prints_nothing() {
    let tree = Tree::running();
    tree.sleeper("web");
    tree.sleeper("db");
    let (web, db) = (tree.up("web"), tree.up("db"));
    assert_eq!(tree.called("svc", ["-du", "web", "services/db"]).ok(), "");
    tree.up_again("web", web);
    tree.up_again("db", db);
    assert_eq!(tree.called("svc", ["-d", "-x", "web"]).ok(), "");
    eventually("it to leave", || tree.called("svok", ["web"]).code == Some(100));
}

#[test]
fn svc_warns_and_exits_0_when_nobody_listens() {
    let tree = Tree::running();
    tree.sleeper("web");
    tree.sleeper("db");
    tree.up("web");
    let pid = tree.up("db");
    tree.letter("web", "dx");
    eventually("it to leave", || tree.called("svok", ["web"]).code == Some(100));
    let said = tree.called("svc", ["-t", "web", "db"]);
    assert_eq!(said.code, Some(0));
    assert_eq!(said.out, "");
    assert_eq!(said.err, "svc: warning: unable to control web: supervise not running\n");
    tree.up_again("db", pid);
}

#[test]
fn svok_is_0_when_supervised_and_100_when_not() {
    let tree = Tree::running();
    tree.sleeper("web");
    tree.up("web");
    fs::create_dir(tree.path("plain")).expect("mkdir");
    for name in ["web", "status/web", "services/web"] {
        let said = tree.called("svok", [name]);
        assert_eq!((said.code, said.out.as_str(), said.err.as_str()), (Some(0), "", ""), "{name}");
    }
    for name in ["nosuch", "./nosuch", "plain", "./plain"] {
        let said = tree.called("svok", [name]);
        assert_eq!((said.code, said.out.as_str(), said.err.as_str()), (Some(100), "", ""), "{name}");
    }
}

#[test]
fn clients_are_answered_by_files_while_svtree_is_stopped() {
    let tree = Tree::running();
    tree.sleeper("web");
    let pid = tree.up("web");
    tree.becomes("web", "up");
    tree.signal_svtree(rustix::process::Signal::STOP);
    let line = svstat(&tree, "web");
    let table = tree.svtree(["status", "web"]);
    tree.called("svc", ["-k", "web"]).ok();
    tree.signal_svtree(rustix::process::Signal::CONT);
    assert_eq!(line, format!("web: up (pid {pid}) S seconds\n"));
    assert!(table.ok().contains(&pid.to_string()));
    tree.up_again("web", pid);
}

#[test]
fn the_verbs_are_the_letters() {
    let tree = Tree::running();
    tree.service("web").run(NOTING).moved_in();
    let pid = tree.up("web");
    tree.svtree(["pause", "web"]).ok();
    eventually("paused", || process_state(pid) == Some('T'));
    tree.svtree(["cont", "web"]).ok();
    eventually("continued", || process_state(pid) == Some('S'));
    tree.svtree(["silence", "web"]).ok();
    eventually("silenced", || tree.state("web")["alarms"] == false);
    tree.svtree(["alarms", "web"]).ok();
    eventually("alarms on", || tree.state("web")["alarms"] == true);
    let mut pid = pid;
    for (verb, number) in [
        ("hup", 1),
        ("interrupt", 2),
        ("quit", 3),
        ("kill", 9),
        ("usr1", 10),
        ("usr2", 12),
        ("alarm", 14),
        ("term", 15),
    ] {
        tree.svtree([verb, "web"]).ok();
        pid = tree.up_again("web", pid);
        eventually(format!("{verb} to be told"), || tree.state("web")["exits"][0]["signal"] == number);
    }
    tree.svtree(["down", "web"]).ok();
    tree.becomes("web", "down");
    tree.svtree(["once", "web"]).ok();
    tree.up("web");
    tree.svtree(["reload", "web"]).ok();
    tree.svtree(["kill", "web"]).ok();
    tree.becomes("web", "down");
    tree.svtree(["up", "web"]).ok();
    tree.up("web");
    tree.svtree(["down", "web"]).ok();
    tree.svtree(["exit", "web"]).ok();
    eventually("it to leave", || tree.called("svok", ["web"]).code == Some(100));
}

#[test]
fn restart_is_d_then_u_and_starts_what_is_down() {
    let tree = Tree::running();
    tree.sleeper("web");
    let pid = tree.up("web");
    tree.svtree(["restart", "web", "--wait", "15"]).ok();
    let again = tree.pid("web").expect("up when it returns");
    assert!(again != pid && !alive(pid));
    tree.svtree(["down", "web", "--wait", "15"]).ok();
    tree.svtree(["restart", "web", "--wait", "15"]).ok();
    assert!(tree.pid("web").is_some_and(|pid| pid != again));
}

#[test]
fn wait_returns_when_it_is_done_and_fails_when_the_time_is_over() {
    let tree = Tree::running();
    tree.sleeper("web");
    tree.up("web");
    tree.svtree(["down", "web", "--wait", "15"]).ok();
    assert_eq!(tree.pid("web"), None);
    tree.svtree(["up", "web", "--wait", "15"]).ok();
    assert!(tree.pid("web").is_some());
    tree.service("deaf").run(DEAF).toml("[stop]\ntimeout = '4s'").moved_in();
    tree.up("deaf");
    eventually("it to be deaf", || !tree.notes("deaf").is_empty());
    let asked = Instant::now();
    tree.svtree(["down", "deaf", "--wait", "1"]).failed(111);
    assert!((900..3900).contains(&asked.elapsed().as_millis()), "{:?}", asked.elapsed());
}

#[test]
fn a_verb_fails_if_any_name_failed_and_still_does_the_others() {
    let tree = Tree::running();
    tree.sleeper("web");
    let pid = tree.up("web");
    let line = tree.svtree(["kill", "nosuch", "web"]).failed(111);
    assert!(line.starts_with("svtree: ") && line.contains("nosuch"), "{line}");
    tree.up_again("web", pid);
}

#[test]
fn verbs_take_paths_and_globs() {
    let tree = Tree::running();
    for name in ["web-1", "web-2", "db"] {
        tree.sleeper(name);
    }
    let pids = ["web-1", "web-2", "db"].map(|name| tree.up(name));
    tree.svtree(["kill", "web-*"]).ok();
    tree.up_again("web-1", pids[0]);
    tree.up_again("web-2", pids[1]);
    assert_eq!(tree.pid("db"), Some(pids[2]));
    tree.svtree(["kill", "services/db"]).ok();
    let again = tree.up_again("db", pids[2]);
    let absolute = tree.home("db").into_os_string();
    tree.svtree(["kill".into(), absolute]).ok();
    tree.up_again("db", again);
    tree.svtree(["kill", "nothing-*"]).failed(111);
    for name in ["services/db", "status/db", "./status/db"] {
        assert!(tree.svtree(["status", name]).ok().contains("db"), "{name}");
    }
}

#[test]
fn verbs_and_status_never_leave_the_roots() {
    let tree = Tree::running();
    let outside = Tree::running();
    outside.sleeper("web");
    let pid = outside.up("web");
    let absolute = outside.home("web").display().to_string();
    let relative = format!("../{}/status/web", outside.path("").file_name().expect("a name").display());
    let dotted = format!("web/../{relative}");
    for name in [absolute.as_str(), relative.as_str(), dotted.as_str(), "../../etc", "/etc", ".."] {
        tree.svtree(["kill", name]).failed(111);
        let said = tree.svtree(["status", name]);
        assert!(said.code == Some(111) && said.out.is_empty(), "{name}: {said:?}");
    }
    stays(Duration::from_millis(200), "nothing outside was touched", || outside.pid("web") == Some(pid));
    // The old clients take any directory, as daemontools' do.
    assert_eq!(svstat(&tree, &absolute), format!("{absolute}: up (pid {pid}) S seconds\n"));
}

#[test]
fn when_svtree_is_dead_a_verb_says_so_within_2_seconds() {
    let tree = Tree::running();
    tree.sleeper("web");
    tree.up("web");
    tree.kill_svtree();
    let asked = Instant::now();
    let line = tree.svtree(["down", "web", "--wait", "15"]).failed(111);
    assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
    assert!(line.contains("not running"), "{line}");
    assert_eq!(tree.called("svstat", ["web"]).ok(), "web: supervise not running\n");
    let said = tree.called("svc", ["-d", "web"]);
    assert_eq!(said.code, Some(0));
    assert_eq!(said.err, "svc: warning: unable to control web: supervise not running\n");
    assert_eq!(tree.called("svok", ["web"]).code, Some(100));
}

#[test]
fn status_is_a_table_of_every_module() {
    let tree = Tree::running();
    tree.sleeper("web");
    tree.service("bad").run("#!/bin/sh\nexit 3\n").toml("[restart]\nmax_tries = 1\ndelay = '10ms'").moved_in();
    fs::create_dir(tree.entry("empty")).expect("mkdir");
    tree.service("wrong").toml("comand = 'x'").moved_in();
    let pid = tree.up("web");
    tree.becomes("bad", "failed");
    tree.becomes("empty", "incomplete");
    tree.becomes("wrong", "rejected");
    tree.becomes("web", "up");
    let table = tree.svtree(["status"]).ok();
    let line = |name: &str| wait_for("the line", || table.lines().find(|line| line.contains(name)));
    assert!(line("web").contains("up") && line("web").contains(&pid.to_string()), "{table}");
    assert!(line("bad").contains("failed") && line("empty").contains("incomplete"), "{table}");
    assert!(line("wrong").contains("rejected") && table.contains("comand"), "{table}");
    assert!(!table.contains('\u{1b}'), "no colour where it is not a terminal: {table}");
    let one = tree.svtree(["status", "web"]).ok();
    assert!(one.contains("web") && !one.contains("bad"), "{one}");
    tree.svtree(["status", "nosuch"]).failed(111);
}

#[test]
fn on_a_terminal_the_table_has_colours() {
    if program("script").is_none() {
        return;
    }
    let tree = Tree::running();
    tree.sleeper("web");
    tree.up("web");
    let on_a_terminal = |no_colour: &str| {
        let mut command = tree.command(["script", "-qec", &format!("'{SVTREE}' status"), "/dev/null"]);
        ran(command.env("TERM", "xterm").env("NO_COLOR", no_colour)).out
    };
    assert!(on_a_terminal("").contains("\u{1b}["), "{}", on_a_terminal(""));
    assert!(!on_a_terminal("1").contains("\u{1b}["), "{}", on_a_terminal("1"));
}

#[test]
fn control_characters_in_names_never_reach_the_terminal() {
    let tree = Tree::running();
    tree.service("a\u{1b}[2Jb").run(SLEEPER).moved_in();
    tree.up("a\u{1b}[2Jb");
    let table = tree.svtree(["status"]).ok();
    assert!(!table.contains('\u{1b}') && table.contains("[2Jb"), "{table}");
}

#[test]
fn links_makes_the_links_and_each_is_its_program() {
    let tree = Tree::running();
    tree.sleeper("web");
    let pid = tree.up("web");
    let dir = tree.path("made");
    fs::create_dir(&dir).expect("mkdir");
    tree.svtree(["links", "made"]).ok();
    for name in ["svscan", "svc", "svstat", "svok"] {
        let link = dir.join(name);
        assert!(link.symlink_metadata().expect(name).is_symlink(), "{name}");
    }
    let said = tree.ran([dir.join("svstat").into_os_string(), "web".into()]).ok();
    assert_eq!(without_seconds(&said), format!("web: up (pid {pid}) S seconds\n"));
    assert_eq!(tree.ran([dir.join("svok").into_os_string(), "web".into()]).code, Some(0));
    tree.svtree(["links", "made"]).ok();
}

#[test]
fn a_copy_under_another_name_is_that_program_too() {
    let tree = Tree::running();
    tree.sleeper("web");
    tree.up("web");
    let copy = tree.path("elsewhere/svok");
    tree.ran(["cp".as_ref(), SVTREE.as_ref(), copy.as_os_str()]).ok();
    assert_eq!(tree.ran([copy.clone().into_os_string(), "web".into()]).code, Some(0));
    assert_eq!(tree.ran([copy.into_os_string(), "nosuch".into()]).code, Some(100));
}

#[test]
fn check_reports_every_mistake_and_starts_nothing() {
    let tree = Tree::new();
    let good = tree.service("good").run(NOTING).dir();
    let bad = tree.service("bad").toml("comand = 'x'\n[restart]\ndelay = 5\n").dir();
    tree.svtree(["check".into(), good.clone().into_os_string()]).ok();
    let said = tree.svtree(["check".into(), bad.into_os_string(), good.into_os_string()]);
    assert_eq!(said.code, Some(111), "{said:?}");
    let all = said.out + &said.err;
    for part in ["service.toml", "line 1, column 1", "line 3, column 9", "`command`"] {
        assert!(all.contains(part), "{part}: {all}");
    }
    assert!(tree.notes("good").is_empty() && !tree.home("good").exists());
    tree.svtree(["check", "nosuch"]).failed(111);
}

#[test]
fn wrong_usage_exits_100() {
    let tree = Tree::running();
    tree.sleeper("web");
    tree.up("web");
    let wrong: [&[&str]; 9] = [
        &["nosuchverb"],
        &["run", "--nosuch"],
        &["run", "--log", "nowhere"],
        &["run", "--settle", "soon"],
        &["up"],
        &["up", "web", "--wait", "soon"],
        &["check"],
        &["links"],
        &[],
    ];
    for args in wrong {
        let said = tree.svtree(args.iter().copied());
        assert!(said.code == Some(100) && !said.err.contains("panicked"), "{args:?}: {said:?}");
        assert!(said.err.lines().next().is_some_and(|line| !line.is_empty()), "{args:?}: {said:?}");
    }
    for (program, args) in [("svc", vec!["-Z", "web"]), ("svok", vec![]), ("svscan", vec!["--nosuch"])] {
        let said = tree.called(program, args.iter().copied());
        assert_eq!(said.code, Some(100), "{program} {args:?}: {said:?}");
    }
}

#[test]
fn help_and_version_go_to_standard_output() {
    let tree = Tree::new();
    assert!(tree.svtree(["--help"]).ok().contains("run"));
    assert!(tree.svtree(["--version"]).ok().contains("svtree"));
}

#[test]
fn a_closed_or_broken_standard_output_is_no_panic() {
    let tree = Tree::running();
    tree.sleeper("web");
    tree.up("web");
    let svstat = tree.link("svstat").display().to_string();
    for script in [
        format!("'{SVTREE}' status >&-"),
        format!("'{svstat}' web >&-"),
        format!("'{SVTREE}' status > /dev/full"),
        format!("'{SVTREE}' status --json | true"),
        format!("'{SVTREE}' up nosuch 2>&-"),
        format!("'{SVTREE}' --help > /dev/full"),
    ] {
        let said = tree.ran(["sh", "-c", script.as_str()]);
        assert!(
            !said.err.contains("panicked") && said.code != Some(101) && said.code < Some(126),
            "{script}: {said:?}"
        );
    }
}

#[test]
fn the_roots_come_from_options_then_the_environment_then_the_defaults() {
    let tree = Tree::running();
    tree.sleeper("web");
    let pid = tree.up("web").to_string();
    // The command has no variable of svtree's, and runs where `status` and `services` are.
    let plain = ran(&mut tree.command([SVTREE, "status", "web"])).ok();
    assert!(plain.contains(&pid), "{plain}");
    let by_option = |status: &str| {
        let mut command = tree.command([SVTREE, "status", "web", "--status", status]);
        ran(command.env("SVTREE_STATUS", "nowhere").current_dir("/"))
    };
    assert!(by_option(tree.path("status").to_str().expect("UTF-8")).ok().contains(&pid));
    assert_ne!(by_option("nowhere").code, Some(0));
}

#[test]
fn rescan_and_shutdown_are_commands() {
    let tree = Tree::running();
    tree.sleeper("web");
    let pid = tree.up("web");
    tree.letter("web", "dx");
    eventually("it to leave", || tree.called("svok", ["web"]).code == Some(100));
    tree.svtree(["rescan"]).ok();
    tree.up_again("web", pid);
    tree.svtree(["shutdown"]).ok();
    assert_eq!(tree.ended().code(), Some(0));
    let asked = Instant::now();
    for command in ["rescan", "shutdown"] {
        tree.svtree([command]).failed(111);
    }
    assert!(asked.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_hundred_clients_at_once_all_work() {
    let tree = Tree::running();
    for name in ["a", "b", "c"] {
        tree.sleeper(name);
        tree.up(name);
    }
    std::thread::scope(|scope| {
        for _ in 0..100 {
            let mut command = tree.command([SVTREE, "cont", "a", "b", "c"]);
            scope.spawn(move || ran(&mut command).ok());
        }
    });
    within(Duration::from_secs(5), "all to be up", || ["a", "b", "c"].iter().all(|name| tree.pid(name).is_some()));
}

#[test]
fn svscan_is_svtree_run() {
    let tree = Tree::new().through(["sh", "-c", "shift 2; exec links/svscan \"$@\""]);
    tree.link("svscan");
    tree.sleeper("web");
    tree.start();
    tree.up("web");
}
