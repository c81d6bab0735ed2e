//! Section: `[alarm]`: what is told of a module, to whom, and when nothing is.

use std::fs;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::harness::{
    CRASHING, NOTING, SLEEPER, Tree, alive, eventually, logged_lines, replace, signal_pid, stays, text, wait_for,
    within, write, zombies,
};

/// An alarm program that leaves a line of what it was given in the notes `told`.
const PAGE: &str = "#!/bin/sh
json=$(cat)
printf '%s|%s|%s|%s|%s|%s|%s\\n' \"$SVTREE_EVENT\" \"$SVTREE_MODULE\" \"$SVTREE_HOST\" \"${SVTREE_CODE-none}\" \
\"${SVTREE_SIGNAL-none}\" \"$SVTREE_MESSAGE\" \"$json\" >> \"$SVTREE_IT/notes/told\"
";

/// One that never ends, and whose session has two processes.
const HANGS: &str =
    "#!/bin/sh\nsleep 1000 &\necho $$ >> \"$SVTREE_IT/notes/hangs\"\necho $! >> \"$SVTREE_IT/notes/hangs\"\nwait\n";

/// A program that ends as its file `end` says, once that is there.
const ENDS: &str = "#!/bin/sh\necho $$ >> \"$SVTREE_IT/notes/$SVTREE_MODULE\"\n\
                    until [ -e end ]; do sleep 0.02; done\n. ./end\n";

/// An alarm as its program was given it.
#[derive(Debug)]
struct Told {
    event: String,
    module: String,
    host: String,
    code: String,
    signal: String,
    message: String,
    json: Value,
}

/// What was told so far, in the order in which it happened: those who tell it run side by side.
fn told(tree: &Tree) -> Vec<Told> {
    let line = |line: String| {
        let mut fields = line.splitn(7, '|').map(str::to_owned);
        let mut next = || fields.next().unwrap_or_default();
        let [event, module, host, code, signal, message] = [next(), next(), next(), next(), next(), next()];
        Told { event, module, host, code, signal, message, json: serde_json::from_str(&next()).expect("JSON") }
    };
    let mut told: Vec<Told> = tree.notes("told").into_iter().map(line).collect();
    told.sort_by_key(|told| (told.json["at"].as_str().map(str::to_owned), told.event.clone()));
    told
}

/// Waits until so much was told.
#[track_caller]
fn wait_told(tree: &Tree, count: usize) -> Vec<Told> {
    eventually(format!("{count} alarms"), || tree.notes("told").len() >= count);
    let told = told(tree);
    assert_eq!(told.len(), count, "{told:?}");
    told
}

fn events(tree: &Tree) -> Vec<String> {
    told(tree).into_iter().map(|told| told.event).collect()
}

/// That nothing is told for a while.
#[track_caller]
fn nothing_more(tree: &Tree, count: usize) {
    stays(Duration::from_millis(600), "nothing more is told", || tree.notes("told").len() == count);
}

fn warnings(tree: &Tree, name: &str) -> String {
    text(&tree.home(name).join("supervise.log.wf"))
}

/// Kills the program of a module, and waits until another one is up.
#[track_caller]
fn kill(tree: &Tree, name: &str) {
    let pid = tree.up(name);
    signal_pid(pid, Signal::KILL);
    tree.up_again(name, pid);
}

/// The page, and fast restarts.
fn page(more: &str) -> String {
    format!("[restart]\ndelay = '20ms'\n[alarm]\ncommand = './page'\n{more}")
}

#[test]
fn the_first_exit_of_an_interval_is_told_and_more_are_only_logged() {
    let tree = Tree::running();
    tree.service("web").run(NOTING).script("page", PAGE).toml(&page("")).moved_in();
    kill(&tree, "web");
    assert_eq!(wait_told(&tree, 1)[0].event, "exit");
    kill(&tree, "web");
    kill(&tree, "web");
    nothing_more(&tree, 1);
    let log = || text(&tree.home("web").join("supervise.log"));
    eventually("both to be logged", || log().matches("killed by SIGKILL").count() == 3);
    eventually("it to be said", || log().matches("alarm exit: not sent, the last one was ").count() == 2);
    assert_eq!(warnings(&tree, "web"), "");
}

#[test]
fn once_an_interval_is_over_an_exit_is_told_with_how_many_there_were() {
    let tree = Tree::running();
    let toml = page("interval = '1500ms'\non = ['exit']");
    tree.service("web").run(CRASHING).script("page", PAGE).toml(&toml).moved_in();
    eventually("two alarms", || tree.notes("told").len() >= 2);
    let told = told(&tree);
    assert!(told[0].message.contains("exited 1 after 0.") && !told[0].message.contains(" times "), "{told:?}");
    assert!(told[1].message.contains(" times since the last alarm; "), "{told:?}");
    let at = |told: &Told| told.json["at"].as_str().expect("a time").parse::<jiff::Timestamp>().expect("a time");
    let apart = at(&told[1]).duration_since(at(&told[0]));
    assert!(apart >= jiff::SignedDuration::from_millis(1500), "{apart:?}");
}

#[test]
fn the_program_gets_variables_and_one_json_object() {
    let tree = Tree::running();
    let run = "#!/bin/sh\n[ -e again ] && exec sleep 1000\n: > again\nexit 3\n";
    tree.service("web").run(run).script("page", PAGE).toml(&page("")).moved_in();
    let told = wait_told(&tree, 1).remove(0);
    let host = tree.ran(["uname", "-n"]).ok().trim().to_owned();
    let fields = [&told.event, &told.module, &told.host, &told.code, &told.signal];
    assert_eq!(fields, ["exit", "web", host.as_str(), "3", "none"]);
    let json = &told.json;
    let keys: Vec<&String> = json.as_object().expect("an object").keys().collect();
    let expected = ["event", "module", "host", "at", "message", "restarts", "next_start", "exit", "last_lines"];
    assert!(expected.iter().all(|key| keys.iter().any(|found| found == key)), "{keys:?}");
    assert_eq!((&json["event"], &json["module"], &json["host"]), (&"exit".into(), &"web".into(), &host.clone().into()));
    assert_eq!(json["message"], told.message.as_str());
    assert_eq!(json["exit"], tree.state("web")["exits"][0]);
    assert!(json["restarts"].is_u64() && json["last_lines"].is_array());
    assert!(told.message.starts_with(&format!("{host}: web: exited 3 after 0.")), "{}", told.message);
}

#[test]
fn the_last_lines_before_an_exit_are_told_with_it() {
    let tree = Tree::new().options(["--log", "file"]);
    tree.start();
    // The logger has to be there: it is not waited for longer than an alarm can be.
    tree.service("first").run("#!/bin/sh\necho here\nexec sleep 1000\n").moved_in();
    eventually("the logger to write", || !logged_lines(&tree.path("logs/first")).is_empty());
    let run =
        "#!/bin/sh\n[ -e again ] && exec sleep 1000\n: > again\necho starting\necho \"cannot go on\" >&2\nexit 3\n";
    tree.service("web").run(run).script("page", PAGE).toml(&page("")).moved_in();
    let told = wait_told(&tree, 1).remove(0);
    assert_eq!(told.json["last_lines"], serde_json::json!(["starting", "cannot go on"]));
}

#[test]
fn a_signal_is_told_by_number_and_by_name() {
    let tree = Tree::running();
    tree.service("web").run(NOTING).script("page", PAGE).toml(&page("")).moved_in();
    kill(&tree, "web");
    let told = wait_told(&tree, 1).remove(0);
    assert_eq!((told.code.as_str(), told.signal.as_str()), ("none", "9"));
    assert_eq!((&told.json["exit"]["signal"], &told.json["exit"]["code"]), (&9.into(), &Value::Null));
    assert!(told.message.contains("web: killed by SIGKILL after "), "{}", told.message);
}

#[test]
fn a_core_dump_is_told_and_giving_up_for_too_many_of_them() {
    let tree = Tree::running();
    let run = "#!/bin/sh\nulimit -c unlimited 2> /dev/null\nkill -SEGV $$\n";
    let toml = "[restart]\ndelay = '20ms'\nmax_tries = 3\nmax_tries_if_coredumped = 1\n[alarm]\ncommand = './page'\n";
    tree.service("web").run(run).script("page", PAGE).toml(toml).moved_in();
    let told = wait_told(&tree, 2);
    let core = tree.state("web")["exits"][0]["core"] == true;
    assert_eq!(told[0].message.contains("web: killed by SIGSEGV, core dumped"), core, "{}", told[0].message);
    assert_eq!((told[0].signal.as_str(), &told[0].json["exit"]["core"]), ("11", &core.into()));
    // Where the machine keeps none, it is given up for its exits.
    let why = if core { "gave up after 2 core dumps" } else { "gave up after 4 exits" };
    assert!(told[1].message.contains(why), "{}", told[1].message);
}

#[test]
fn what_comes_next_is_told() {
    let tree = Tree::running();
    let toml = |delay: &str| format!("restart.delay = '{delay}'\nalarm.command = './page'\n");
    tree.service("at-once").run(NOTING).script("page", PAGE).toml(&toml("0s")).moved_in();
    kill(&tree, "at-once");
    let first = wait_told(&tree, 1).remove(0);
    let pid = tree.up("at-once");
    assert!(first.message.ends_with(&format!("; it runs as pid {pid}")), "{}", first.message);
    assert_eq!(first.json["next_start"], Value::Null);
    tree.service("waits").run(CRASHING).script("page", PAGE).toml(&toml("1h")).moved_in();
    let second = wait_told(&tree, 2).remove(1);
    let next = tree.state("waits")["next_start"].as_str().expect("a time").to_owned();
    assert_eq!(second.json["next_start"], next.as_str());
    assert!(second.message.ends_with(&format!("; it is started again at {next}")), "{}", second.message);
}

#[test]
fn giving_up_is_told_with_the_reason() {
    let tree = Tree::running();
    let toml = "[restart]\ndelay = '20ms'\nmax_tries = 2\n[alarm]\ncommand = './page'\n";
    tree.service("web").run(CRASHING).script("page", PAGE).toml(toml).moved_in();
    let told = wait_told(&tree, 2);
    assert_eq!(events(&tree), ["exit", "failed"]);
    assert_eq!(told[1].code, "1");
    for part in ["web: failed: gave up after 3 exits within 60s", "it stays down"] {
        assert!(told[1].message.contains(part), "{}", told[1].message);
    }
    assert_eq!(told[1].json["next_start"], Value::Null);
    nothing_more(&tree, 2);
}

#[test]
fn a_program_that_cannot_be_started_is_told_without_an_exit() {
    let tree = Tree::running();
    tree.service("web").run("#!/no/such/interpreter\n").script("page", PAGE).toml(&page("")).moved_in();
    let told = wait_told(&tree, 1).remove(0);
    assert_eq!((told.event.as_str(), told.code.as_str(), told.signal.as_str()), ("exit", "none", "none"));
    assert_eq!(told.json["exit"], Value::Null);
    assert!(told.message.contains("web: could not be started: executing ./run: "), "{}", told.message);
}

#[test]
fn recovered_is_told_once_it_was_up_for_an_interval_with_the_downtime() {
    let tree = Tree::running();
    // Three crashes, half a second apart.
    let run = "#!/bin/sh\necho x >> count\n[ $(wc -l < count) -gt 3 ] && exec sleep 1000\nexit 1\n";
    let toml = "[restart]\ndelay = '500ms'\n[alarm]\ncommand = './page'\ninterval = '2s'\n";
    tree.service("web").run(run).script("page", PAGE).toml(toml).moved_in();
    let told = wait_told(&tree, 2);
    assert_eq!(events(&tree), ["exit", "recovered"]);
    assert!(told[1].message.contains("web: recovered after "), "{}", told[1].message);
    let downtime = told[1].json["downtime"].as_f64().expect("a number");
    assert!((1.0..15.0).contains(&downtime), "{downtime}");
    assert_eq!(told[0].json["downtime"], Value::Null);
    nothing_more(&tree, 2);
    // From then on all begins anew.
    kill(&tree, "web");
    eventually("an exit after the recovery", || tree.notes("told").len() >= 3);
    assert_eq!(events(&tree)[2], "exit");
}

#[test]
fn what_is_to_say_that_it_is_ready_has_not_recovered_before_that() {
    let tree = Tree::running();
    let run = "#!/bin/sh\n[ -e again ] || { : > again; exit 1; }\n\
               until [ -e ready ]; do sleep 0.02; done\necho >&3\nexec sleep 1000\n";
    let toml = page("interval = '500ms'\n[ready]\nfd = 3\n");
    let entry = tree.service("web").run(run).script("page", PAGE).toml(&toml).moved_in();
    wait_told(&tree, 1);
    stays(Duration::from_millis(1500), "it runs and is not ready", || tree.notes("told").len() == 1);
    write(&entry.join("ready"), "", 0o644);
    wait_told(&tree, 2);
    assert_eq!(events(&tree), ["exit", "recovered"]);
}

#[test]
fn what_was_given_up_and_is_up_again_has_recovered() {
    let tree = Tree::running();
    let toml = "[restart]\nwhen = 'never'\n[alarm]\ncommand = './page'\ninterval = '500ms'\n";
    tree.service("web").run(ENDS).script("page", PAGE).toml(toml).file("end", "exit 1\n").moved_in();
    tree.becomes("web", "failed");
    assert_eq!(wait_told(&tree, 2).len(), 2);
    fs::remove_file(tree.entry("web/end")).expect("removed");
    tree.letter("web", "u");
    wait_told(&tree, 3);
    assert_eq!(events(&tree), ["exit", "failed", "recovered"]);
}

#[test]
fn s_silences_and_n_ends_it_and_deaths_are_counted_all_the_same() {
    let tree = Tree::running();
    let toml = "[restart]\ndelay = '20ms'\nmax_tries = 3\n[alarm]\ncommand = './page'\n";
    tree.service("web").run(NOTING).script("page", PAGE).toml(toml).moved_in();
    tree.up("web");
    tree.svtree(["silence", "web"]).ok();
    eventually("alarms to be off", || tree.status("web").is_some_and(|status| status[14] == b'x'));
    kill(&tree, "web");
    kill(&tree, "web");
    nothing_more(&tree, 0);
    tree.svtree(["alarms", "web"]).ok();
    eventually("alarms to be on", || tree.status("web").is_some_and(|status| status[14] == b'o'));
    kill(&tree, "web");
    let first = wait_told(&tree, 1).remove(0);
    assert!(first.message.contains(", 3 times since the last alarm; "), "{}", first.message);
    tree.letter("web", "s");
    signal_pid(tree.up("web"), Signal::KILL);
    tree.becomes("web", "failed");
    nothing_more(&tree, 1);
    assert!(text(&tree.home("web").join("supervise.log")).contains("alarm failed: not sent, alarms are silenced"));
}

#[test]
fn what_is_silenced_stays_so_over_restarts_of_svtree() {
    let tree = Tree::new();
    tree.service("web").run(NOTING).script("page", PAGE).toml(&page("")).moved_in();
    tree.start();
    tree.up("web");
    tree.letter("web", "s");
    eventually("alarms to be off", || tree.state("web")["alarms"] == false);
    tree.svtree(["upgrade"]).ok();
    kill(&tree, "web");
    tree.kill_svtree();
    tree.start();
    eventually("it to be taken over", || tree.state("web")["adopted"] == true);
    kill(&tree, "web");
    nothing_more(&tree, 0);
    tree.letter("web", "n");
    eventually("alarms to be on", || tree.state("web")["alarms"] == true);
    kill(&tree, "web");
    wait_told(&tree, 1);
}

#[test]
fn what_was_told_is_known_to_the_svtree_that_takes_over() {
    let tree = Tree::new();
    let toml = page("interval = '3s'\n");
    tree.service("web").run(NOTING).script("page", PAGE).toml(&toml).moved_in();
    tree.start();
    kill(&tree, "web");
    wait_told(&tree, 1);
    tree.svtree(["upgrade"]).ok();
    tree.kill_svtree();
    tree.start();
    wait_told(&tree, 2);
    assert_eq!(events(&tree), ["exit", "recovered"]);
}

#[test]
fn an_exit_within_the_interval_is_not_told_again_by_the_svtree_that_takes_over() {
    let tree = Tree::new();
    tree.service("web").run(NOTING).script("page", PAGE).toml(&page("")).moved_in();
    tree.start();
    kill(&tree, "web");
    wait_told(&tree, 1);
    tree.kill_svtree();
    tree.start();
    eventually("it to be taken over", || tree.state("web")["adopted"] == true);
    kill(&tree, "web");
    tree.svtree(["upgrade"]).ok();
    kill(&tree, "web");
    nothing_more(&tree, 1);
}

#[test]
fn a_death_while_no_svtree_ran_is_told_by_the_next_one() {
    let tree = Tree::new();
    tree.service("web").run(NOTING).script("page", PAGE).toml(&page("")).moved_in();
    tree.start();
    let pid = tree.up("web");
    tree.kill_svtree();
    signal_pid(pid, Signal::KILL);
    eventually("it to have ended", || !alive(pid));
    tree.start();
    tree.up_again("web", pid);
    assert_eq!(wait_told(&tree, 1)[0].event, "exit");
}

#[test]
fn an_end_that_was_asked_for_is_not_told() {
    let tree = Tree::new();
    let toml = page("on = ['exit', 'failed']\n");
    for name in ["down", "restart", "removed", "shutdown"] {
        tree.service(name).run(NOTING).script("page", PAGE).toml(&toml).moved_in();
    }
    tree.start();
    for name in ["down", "restart", "removed", "shutdown"] {
        tree.up(name);
    }
    tree.svtree(["down", "down", "--wait", "10"]).ok();
    tree.svtree(["restart", "restart", "--wait", "10"]).ok();
    tree.move_out("removed");
    tree.goes("removed");
    assert!(tree.stop().success());
    assert!(told(&tree).is_empty(), "{:?}", told(&tree));
}

#[test]
fn a_letter_that_only_sends_a_signal_asks_for_no_end() {
    let tree = Tree::running();
    tree.service("web").run(NOTING).script("page", PAGE).toml(&page("")).moved_in();
    let pid = tree.up("web");
    tree.svtree(["kill", "web"]).ok();
    tree.up_again("web", pid);
    assert_eq!(wait_told(&tree, 1)[0].signal, "9");
}

#[test]
fn what_has_done_its_work_is_not_told_and_what_failed_is() {
    let tree = Tree::running();
    let once = "enabled = false\nalarm.command = './page'\n";
    let never = "restart.when = 'never'\nalarm.command = './page'\n";
    let failure = "restart.when = 'failure'\nalarm.command = './page'\n";
    let done = "#!/bin/sh\necho $$ >> \"$SVTREE_IT/notes/$SVTREE_MODULE\"\nexit 0\n";
    for (name, run, toml) in [("once", done, once), ("never", done, never), ("failure", done, failure)] {
        tree.service(name).run(run).script("page", PAGE).toml(toml).moved_in();
    }
    tree.becomes("once", "down");
    tree.letter("once", "o");
    for name in ["once", "never", "failure"] {
        eventually(format!("{name} to have run"), || tree.notes(name).len() == 1);
        tree.becomes(name, "down");
    }
    nothing_more(&tree, 0);
    tree.service("fails").run(CRASHING).script("page", PAGE).toml(once).moved_in();
    tree.becomes("fails", "down");
    tree.letter("fails", "o");
    assert_eq!(wait_told(&tree, 1)[0].module, "fails");
}

#[test]
fn only_what_is_asked_for_is_told() {
    let tree = Tree::running();
    let toml = "[restart]\ndelay = '20ms'\nmax_tries = 1\n[alarm]\ncommand = './page'\non = ['failed']\n";
    tree.service("web").run(CRASHING).script("page", PAGE).toml(toml).moved_in();
    tree.becomes("web", "failed");
    wait_told(&tree, 1);
    nothing_more(&tree, 1);
    assert_eq!(events(&tree), ["failed"]);
}

#[test]
fn a_changed_alarm_holds_from_the_next_start_and_with_r_at_once() {
    let tree = Tree::running();
    let entry = tree.service("web").run(NOTING).script("page", PAGE).toml("restart.delay = '20ms'\n").moved_in();
    tree.up("web");
    write(&entry.join("service.toml"), &page(""), 0o644);
    eventually("the change to be seen", || tree.state("web")["changed"] == true);
    tree.letter("web", "r");
    eventually("it to hold", || tree.state("web")["changed"] == false);
    kill(&tree, "web");
    wait_told(&tree, 1);
}

#[test]
fn what_is_in_the_command_goes_through_no_shell() {
    let tree = Tree::running();
    let script = "#!/bin/sh\nfor word in \"$@\"; do printf '%s\\n' \"$word\"; done > \"$SVTREE_IT/notes/words.new\"\n\
                  mv \"$SVTREE_IT/notes/words.new\" \"$SVTREE_IT/notes/words\"\n";
    let toml = "restart.delay = '20ms'\nalarm.command = ['./page', '$(touch hit)', 'a  b', '*', '; touch hit']\n";
    let name = "a$(touch hit)`touch hit`;touch hit";
    tree.service(name).run(NOTING).script("page", script).toml(toml).moved_in();
    kill(&tree, name);
    eventually("the words", || tree.notes("words").len() == 4);
    assert_eq!(tree.notes("words"), ["$(touch hit)", "a  b", "*", "; touch hit"]);
    assert!(!tree.entry(name).join("hit").exists());
}

#[test]
fn an_alarm_program_that_hangs_holds_up_nothing_and_is_ended_with_its_session_after_30_seconds() {
    let tree = Tree::running();
    tree.service("web").run(NOTING).script("page", HANGS).toml(&page("")).moved_in();
    kill(&tree, "web");
    let hanging = tree.noted_pids("hangs", 2);
    for _ in 0..3 {
        let pid = tree.up("web");
        signal_pid(pid, Signal::KILL);
        within(Duration::from_secs(10), "a restart beside it", || tree.pid("web").is_some_and(|now| now != pid));
    }
    tree.svtree(["down", "web", "--wait", "10"]).ok();
    assert!(hanging.iter().all(|pid| alive(*pid)), "a stop of the module ends no alarm");
    within(Duration::from_mins(1), "it to be ended", || !hanging.iter().any(|pid| alive(*pid)));
    eventually("that to be told", || warnings(&tree, "web").contains("./page took longer than 30 s and is killed"));
}

#[test]
fn an_alarm_program_is_none_of_the_modules_processes_also_without_cgroups() {
    let Some(tree) = Tree::new().without_cgroups() else { return };
    tree.service("web").run(NOTING).script("page", HANGS).toml(&page("")).moved_in();
    tree.start();
    kill(&tree, "web");
    let hanging = tree.noted_pids("hangs", 2);
    tree.svtree(["down", "web", "--wait", "10"]).ok();
    // Then they are children of the first thread, as all that svtree has taken over.
    tree.svtree(["upgrade"]).ok();
    tree.svtree(["up", "web", "--wait", "10"]).ok();
    tree.svtree(["down", "web", "--wait", "10"]).ok();
    assert!(hanging.iter().all(|pid| alive(*pid)));
    hanging.iter().for_each(|pid| signal_pid(*pid, Signal::KILL));
    let svtree = tree.pid_of_svtree();
    eventually("they to be collected", || zombies(svtree).is_empty());
    eventually("that to be told", || warnings(&tree, "web").contains("./page killed by SIGKILL"));
}

#[test]
fn an_alarm_program_that_fails_or_is_missing_is_told_of_and_changes_nothing() {
    let tree = Tree::running();
    let missing = "restart.delay = '20ms'\nalarm.command = ['no-such-program']\n";
    tree.service("missing").run(NOTING).toml(missing).moved_in();
    tree.service("fails").run(NOTING).script("page", "#!/bin/sh\nexit 7\n").toml(&page("")).moved_in();
    tree.service("nothing").run(NOTING).script("page", "nothing").toml(&page("")).moved_in();
    for (name, said) in [
        ("missing", "alarm exit: executing no-such-program: not found"),
        ("fails", "alarm exit: ./page exited 7"),
        ("nothing", "alarm exit: executing ./page: no program and no script"),
    ] {
        kill(&tree, name);
        eventually(format!("{name} to be told of"), || warnings(&tree, name).contains(said));
        kill(&tree, name);
    }
}

#[test]
fn so_many_alarm_programs_run_at_once_and_no_more() {
    let tree = Tree::running();
    let toml = page("interval = '0s'\non = ['exit']\n");
    let entry = tree.service("web").run(CRASHING).script("page", HANGS).toml(&toml).moved_in();
    eventually("one too many", || warnings(&tree, "web").contains("not started, 16 others have not ended yet"));
    tree.svtree(["down", "web", "--wait", "10"]).ok();
    let hanging = tree.noted_pids("hangs", 32);
    // Those that wait are started once there is room for them.
    replace(&entry.join("page"), "#!/bin/sh\n", 0o755);
    hanging.iter().for_each(|pid| signal_pid(*pid, Signal::KILL));
    eventually("they to have ended", || !hanging.iter().any(|pid| alive(*pid)));
}

#[test]
fn an_alarm_program_goes_on_when_its_module_goes() {
    let tree = Tree::running();
    let slow = "#!/bin/sh\necho $$ >> \"$SVTREE_IT/notes/slow\"\nuntil [ -e \"$SVTREE_IT/notes/go\" ]; do sleep 0.02; done\n\
                echo sent >> \"$SVTREE_IT/notes/sent\"\n";
    tree.service("web").run(NOTING).script("page", slow).toml(&page("")).moved_in();
    kill(&tree, "web");
    tree.noted_pids("slow", 1);
    tree.move_out("web");
    tree.goes("web");
    write(&tree.path("notes/go"), "", 0o644);
    eventually("it to be sent", || tree.notes("sent") == ["sent"]);
    let svtree = tree.pid_of_svtree();
    eventually("it to be collected", || zombies(svtree).is_empty());
}

#[test]
fn a_module_without_alarms_tells_nobody() {
    let tree = Tree::running();
    tree.service("web").run(CRASHING).script("page", PAGE).toml("[restart]\ndelay = '20ms'\nmax_tries = 2").moved_in();
    tree.becomes("web", "failed");
    nothing_more(&tree, 0);
    assert!(!text(&tree.home("web").join("supervise.log")).contains("alarm"));
}

#[test]
fn check_names_a_mistake_in_alarm() {
    let tree = Tree::new();
    let dir = tree.service("web").run(SLEEPER).toml("[alarm]\nmial = ['ops@example.org']\n").dir();
    let ran = tree.svtree(["check".as_ref(), dir.as_os_str()]);
    let said = ran.failed(111);
    for part in ["service.toml: line 2, column 1", "`alarm.mial`", "`alarm.mail`"] {
        assert!(said.contains(part), "{said}");
    }
}

#[test]
fn what_was_noted_before_its_module_leaves_is_told() {
    let tree = Tree::running();
    let toml = "restart.when = 'never'\nalarm.command = './page'\n";
    let run = "#!/bin/sh\nprintf x > \"$SVTREE_IT/status/$SVTREE_MODULE/svcontrol\"\nexit 1\n";
    tree.service("web").run(run).script("page", PAGE).toml(toml).moved_in();
    wait_for("an alarm", || events(&tree).contains(&"exit".to_owned()).then_some(()));
}
