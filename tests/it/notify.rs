//! The protocol of `sd_notify(3)`: tried with systemd's own `systemd-notify` and library, and with what no library sends.
//!
//! Must never be passed over silently where one of them is not installed.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::harness::{
    SLEEPER, Service, Tree, alive, descendants, descriptors, environment, eventually, has_open, is_root, missing,
    process_field, program, signal_pid, stays, ticks, write,
};
use crate::programs::{answers, free_port};

const NOTIFY: &str = "[ready]\nnotify = true\n";

/// A program that does what stands in `steps`, each once `notes/go` has that many lines.
fn stepwise(steps: &[&str]) -> String {
    let mut run = "#!/bin/sh\nlines() { cat \"$SVTREE_IT/notes/go\" 2>/dev/null | wc -l; }\n".to_owned();
    for (number, step) in steps.iter().enumerate() {
        let step = format!("until [ $(lines) -gt {number} ]; do sleep 0.02; done\n{step}\n");
        run.push_str(&step);
    }
    run + "exec sleep 1000\n"
}

fn go(tree: &Tree, steps: usize) {
    write(&tree.path("notes/go"), &"\n".repeat(steps), 0o644);
}

/// `say TEXT [LENGTH [DESCRIPTORS [TIMES]]]`: sends that to `NOTIFY_SOCKET`, made longer with `x` if need be, and waits until
/// it was heard, as `systemd-notify` does; not with `HASTY` in its environment.
const SAY: &str = r#"
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
int main(int argc, char **argv) {
    struct sockaddr_un to = { .sun_family = AF_UNIX };
    const char *name = getenv("NOTIFY_SOCKET");
    size_t length = strlen(argv[1]), wanted = argc > 2 ? strtoul(argv[2], 0, 10) : 0;
    int count = argc > 3 ? atoi(argv[3]) : 0;
    unsigned long times = argc > 4 ? strtoul(argv[4], 0, 10) : 1;
    static char text[1 << 17];
    strcpy(to.sun_path, name);
    if (*name == '@') to.sun_path[0] = 0;
    strcpy(text, argv[1]);
    if (wanted > length) { memset(text + length, 'x', wanted - length); length = wanted; }
    for (char *c = text; c < text + length; c++) if (*c == '%') *c = '\n'; else if (*c == '^') *c = 0;
    union { char bytes[CMSG_SPACE(253 * sizeof(int))]; struct cmsghdr align; } control;
    struct iovec part = { text, length };
    struct msghdr message = { .msg_name = &to, .msg_namelen = offsetof(struct sockaddr_un, sun_path) + strlen(name),
        .msg_iov = &part, .msg_iovlen = 1 };
    if (count) {
        message.msg_control = control.bytes;
        message.msg_controllen = CMSG_SPACE(count * sizeof(int));
        struct cmsghdr *rights = CMSG_FIRSTHDR(&message);
        rights->cmsg_level = SOL_SOCKET;
        rights->cmsg_type = SCM_RIGHTS;
        rights->cmsg_len = CMSG_LEN(count * sizeof(int));
        for (int i = 0; i < count; i++) ((int *)CMSG_DATA(rights))[i] = 0;
    }
    int s = socket(AF_UNIX, SOCK_DGRAM, 0);
    while (times--) if (sendmsg(s, &message, MSG_NOSIGNAL) < 0) { perror("say"); return 1; }
    if (getenv("HASTY")) return 0;
    int ends[2];
    if (pipe(ends) < 0) return 1;
    part.iov_base = "BARRIER=1", part.iov_len = 9;
    message.msg_control = control.bytes;
    message.msg_controllen = CMSG_SPACE(sizeof(int));
    struct cmsghdr *rights = CMSG_FIRSTHDR(&message);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(sizeof(int));
    *(int *)CMSG_DATA(rights) = ends[1];
    if (sendmsg(s, &message, MSG_NOSIGNAL) < 0) return 1;
    close(ends[1]);
    struct pollfd heard = { .fd = ends[0] };
    return poll(&heard, 1, 10000) != 1;
}
"#;

/// A module whose `run` has a `$SAY`.
fn saying<'a>(tree: &'a Tree, name: &str, run: &str) -> Option<Service<'a>> {
    let say = tree.compiled("say", SAY)?;
    let run = run.replacen('\n', &format!("\nSAY={}\n", say.display()), 1);
    Some(tree.service(name).run(&run))
}

#[test]
fn systemd_notify_is_understood_word_by_word() {
    if program("systemd-notify").is_none() {
        return;
    }
    let tree = Tree::running();
    let run = stepwise(&[
        "systemd-notify --status='reads 50 %'",
        "systemd-notify --ready --status='serves'",
        "systemd-notify ERRNO=13",
        "systemd-notify RELOADING=1 MONOTONIC_USEC=12345",
        "systemd-notify --ready",
        "sleep 1001 & systemd-notify --pid=$!",
        "systemd-notify STOPPING=1",
    ]);
    tree.service("web").run(&run).toml(NOTIFY).moved_in();
    let pid = tree.up("web");
    tree.becomes("web", "starting");
    go(&tree, 1);
    eventually("its status", || tree.state("web")["status"] == "reads 50 %");
    assert_eq!(tree.state("web")["state"], "starting");
    go(&tree, 2);
    tree.becomes("web", "ready");
    eventually("its status", || tree.state("web")["status"] == "serves");
    assert!(tree.svtree(["status", "web"]).ok().contains("serves"));
    go(&tree, 3);
    eventually("its errno", || tree.state("web")["errno"] == 13);
    go(&tree, 4);
    eventually("it to reload", || tree.state("web")["reloading"] == true);
    assert_eq!(tree.state("web")["ready"], true);
    go(&tree, 5);
    eventually("it to have reloaded", || tree.state("web")["reloading"] == false);
    go(&tree, 6);
    let main = tree.up_again("web", pid);
    assert_eq!(tree.state("web")["followed"], true);
    assert!(alive(pid) && process_field(main, "PPid") == pid.to_string());
    go(&tree, 7);
    tree.becomes("web", "stopping");
    assert_eq!((&tree.state("web")["want"], &tree.state("web")["ready"]), (&"up".into(), &false.into()));
    // It ends, and all that is of it: it is started again.
    signal_pid(main, Signal::KILL);
    tree.up_again("web", main);
    eventually("the other one to be ended", || !alive(pid));
}

#[test]
fn the_library_of_systemd_is_answered() {
    let Some(python) = program("python3") else { return };
    if !["/usr/lib", "/lib"].iter().any(|lib| find(Path::new(lib), "libsystemd.so.0")) {
        return missing("libsystemd.so.0 is not installed");
    }
    let tree = Tree::running();
    let run = format!(
        "#!{}
import ctypes, os, select
lib = ctypes.CDLL('libsystemd.so.0')
usec = ctypes.c_uint64()
enabled = lib.sd_watchdog_enabled(0, ctypes.byref(usec))
sent = lib.sd_notify(0, b'READY=1\\nSTATUS=asked every %d us: %d' % (usec.value, enabled))
heard = lib.sd_notify_barrier(0, ctypes.c_uint64(10000000)) > 0
with open(os.environ['SVTREE_IT'] + '/notes/web', 'w') as notes: notes.write('%d %d\\n' % (sent, heard))
while not os.path.exists(os.environ['SVTREE_IT'] + '/notes/go'):
    lib.sd_notify(0, b'WATCHDOG=1')
    select.select([], [], [], 0.1)
select.select([], [], [])
",
        python.display()
    );
    tree.service("web").run(&run).toml("[ready]\nnotify = true\nwatchdog = '1500ms'\n").moved_in();
    tree.becomes("web", "ready");
    let pid = tree.up("web");
    assert_eq!(tree.state("web")["status"], "asked every 1500000 us: 1");
    eventually("it to be answered", || tree.notes("web") == ["1 1"]);
    stays(Duration::from_secs(2), "it is well", || tree.pid("web") == Some(pid));
    go(&tree, 1);
    tree.up_again("web", pid);
    eventually("it to be told", || tree.told("web").contains("no WATCHDOG=1 for 1.5s: it is stopped"));
    assert_eq!(tree.state("web")["reason"], "restarted: no WATCHDOG=1 for 1.5s");
    assert_eq!(tree.state("web")["exits"][0]["signal"], 15);
}

fn find(directory: &Path, name: &str) -> bool {
    let mut entries = fs::read_dir(directory).into_iter().flatten().flatten();
    directory.join(name).exists() || entries.any(|entry| entry.path().join(name).exists())
}

#[test]
fn redis_under_systemd_is_ready_once_it_serves() {
    let Some(redis) = program("redis-server") else { return };
    let tree = Tree::running();
    let port = free_port();
    let run = format!(
        "#!/bin/sh\nexec {} --supervised systemd --port {port} --bind 127.0.0.1 --save '' --appendonly no\n",
        redis.display()
    );
    tree.service("redis").run(&run).toml(NOTIFY).moved_in();
    let mut pid = 0;
    for _ in 0..3 {
        pid = tree.up_again("redis", pid);
        tree.becomes("redis", "ready");
        assert!(answers(port, "PING\r\n", "+PONG").is_some(), "ready is ready");
        tree.letter("redis", "t");
    }
    tree.up_again("redis", pid);
    tree.becomes("redis", "ready");
    tree.letter("redis", "d");
    tree.becomes("redis", "down");
    assert_eq!(tree.state("redis")["exits"][0]["code"], 0);
}

#[test]
fn only_who_asks_has_a_socket() {
    let tree = Tree::new().env("NOTIFY_SOCKET", "/svtrees/own").env("WATCHDOG_USEC", "1");
    tree.start();
    tree.sleeper("plain");
    tree.service("speaks").run(SLEEPER).toml(NOTIFY).moved_in();
    tree.service("watched").run(SLEEPER).toml("[ready]\nnotify = true\nwatchdog = '10s'\n").moved_in();
    let of_socket = |name: &str| -> Vec<String> {
        let mut of_it = environment(tree.up(name));
        of_it.retain(|pair| pair.starts_with("NOTIFY") || pair.starts_with("WATCHDOG"));
        of_it
    };
    let socket = |name: &str| format!("NOTIFY_SOCKET={}", tree.home(name).join(".notify").display());
    assert_eq!(of_socket("plain"), [""; 0]);
    assert_eq!(of_socket("speaks"), [socket("speaks")]);
    let pid = format!("WATCHDOG_PID={}", tree.up("watched"));
    assert_eq!(of_socket("watched"), [socket("watched"), pid, "WATCHDOG_USEC=10000000".to_owned()]);
    assert!(!tree.home("plain").join(".notify").exists());
    has_open(tree.up("speaks"), &[0, 1, 2]);
}

#[test]
fn a_stranger_is_not_heard() {
    let tree = Tree::running();
    tree.service("web").run(SLEEPER).toml(NOTIFY).moved_in();
    tree.service("other").run(SLEEPER).toml(NOTIFY).moved_in();
    tree.up("web");
    let socket = tree.home("web").join(".notify");
    UnixDatagram::unbound().expect("a socket").send_to(b"READY=1\nSTATUS=lies", &socket).expect("sent");
    eventually("it to be told", || tree.told("web").contains("who spoke on its socket is none of its processes"));
    // Nor is the program of another module.
    if let Some(service) = saying(
        &tree,
        "liar",
        "#!/bin/sh\nNOTIFY_SOCKET=$SVTREE_IT/status/web/.notify $SAY READY=1\necho >> \"$SVTREE_IT/notes/lied\"\nexec sleep 1000\n",
    ) {
        service.moved_in();
        eventually("it to have lied", || !tree.notes("lied").is_empty());
        stays(Duration::from_millis(200), "it is not believed", || tree.state("web")["state"] == "starting");
    }
    assert_eq!((&tree.state("web")["state"], &tree.state("web")["status"]), (&"starting".into(), &().into()));
}

#[test]
fn a_pid_that_is_not_its_own_is_not_followed() {
    let tree = Tree::running();
    let Some(service) = saying(
        &tree,
        "web",
        "#!/bin/sh\n$SAY MAINPID=1\n$SAY MAINPID=$PPID\n$SAY MAINPID=$(cat \"$SVTREE_IT/notes/other\")\n$SAY MAINPID=0\n$SAY READY=1\nexec sleep 1000\n",
    ) else {
        return;
    };
    tree.sleeper("other");
    write(&tree.path("notes/other"), &tree.up("other").to_string(), 0o644);
    service.toml(NOTIFY).moved_in();
    tree.becomes("web", "ready");
    assert_eq!(tree.state("web")["followed"], false);
    let told = |part: &str| tree.told("web").matches(part).count();
    eventually("all of it to be told", || told("which is none of its processes") == 3);
    eventually("all of it to be told", || told("it said MAINPID with a value that is none") == 1);
}

#[test]
fn a_child_that_is_named_as_the_program_is_the_program() {
    for tree in [Some(Tree::new()), Tree::new().without_cgroups()].into_iter().flatten() {
        tree.start();
        let run = "#!/bin/sh\nsleep 1001 &\n$SAY \"MAINPID=$!%READY=1\"\nwait\nsleep 1002\n";
        let Some(service) = saying(&tree, "web", run) else { return };
        service.toml(NOTIFY).moved_in();
        tree.becomes("web", "ready");
        let pid = tree.up("web");
        let shell: i32 = process_field(pid, "PPid").parse().expect("a pid");
        assert_eq!(tree.state("web")["followed"], true);
        // The end of the one that was is not the end of the program.
        signal_pid(shell, Signal::KILL);
        eventually("it to be collected", || !Path::new(&format!("/proc/{shell}")).exists());
        stays(Duration::from_millis(200), "it is up", || tree.pid("web") == Some(pid) && alive(pid));
        tree.letter("web", "k");
        tree.up_again("web", pid);
        eventually("the next one to be followed", || {
            let state = tree.state("web");
            state["state"] == "ready" && state["followed"] == true && state["restarts"] == 1
        });
        let next = tree.up("web");
        let shell: i32 = process_field(next, "PPid").parse().expect("a pid");
        // It, too, belongs to the module.
        tree.letter("web", "d");
        tree.becomes("web", "down");
        assert!(!alive(next) && !alive(shell));
        assert!(descendants(tree.pid_of_svtree()).is_empty());
    }
}

#[test]
fn odd_datagrams_are_borne() {
    let tree = Tree::running();
    let run = "#!/bin/sh
for text in '' '%%' '=' 'READY' 'X_UNKNOWN=1' 'READY=^1' 'STATUS=a%' 'WATCHDOG=maybe' 'ERRNO=-1'; do $SAY \"$text\"; done
$SAY READY=1%STATUS= 4097\n$SAY X= 4096\n$SAY X= 100000
$SAY FDSTORE=1 0 1\n$SAY FDSTORE=1 0 1\n$SAY X=1 0 253\n$SAY '' 0 253\n$SAY BARRIER=1 0 1
$SAY STATUS=done\nexec sleep 1000\n";
    let Some(service) = saying(&tree, "web", run) else { return };
    let before = descriptors(tree.pid_of_svtree()).len();
    service.toml(NOTIFY).moved_in();
    eventually("all to be heard", || tree.state("web")["status"] == "done");
    assert_eq!(tree.state("web")["state"], "starting");
    for part in [
        "longer than 4096 bytes",
        "has a NUL in it",
        "it said WATCHDOG with a value that is none",
        "it said ERRNO with a value that is none",
        "it said FDSTORE=1: descriptors are not kept",
    ] {
        eventually(format!("{part}, told once"), || tree.told("web").matches(part).count() == 1);
    }
    // What a module has open, with its socket and its program, and none of what came.
    let after = descriptors(tree.pid_of_svtree()).len();
    assert!(after <= before + 9, "{before} descriptors, then {after}");
}

#[test]
fn a_flood_costs_neither_the_others_nor_svtree_much() {
    let tree = Tree::running();
    let run = "#!/bin/sh\n$SAY READY=1\nexec $SAY WATCHDOG=1%STATUS=well 0 0 1000000000\n";
    let Some(service) = saying(&tree, "flood", run) else { return };
    service.toml("[ready]\nnotify = true\nwatchdog = '5s'\n").moved_in();
    tree.becomes("flood", "ready");
    let pid = tree.up("flood");
    eventually("it to be told", || tree.told("flood").contains("it says more than svtree hears"));
    let (svtree, begun) = (tree.pid_of_svtree(), Instant::now());
    let before = ticks(svtree);
    tree.sleeper("other");
    tree.up("other");
    stays(Duration::from_secs(3), "it is well", || tree.pid("flood") == Some(pid));
    let share =
        f64::from(u32::try_from(ticks(svtree) - before).expect("few")) / (begun.elapsed().as_secs_f64() * 100.0);
    assert!(share < 0.3, "{share} of a processor");
    tree.letter("flood", "d");
    tree.becomes("flood", "down");
}

#[test]
fn a_watchdog_that_is_pulled_or_not_fed_is_a_failure() {
    let tree = Tree::running();
    let run = "#!/bin/sh\necho $$ >> \"$SVTREE_IT/notes/web\"\n$SAY READY=1\n
[ $(wc -l < \"$SVTREE_IT/notes/web\") -eq 1 ] && $SAY WATCHDOG=trigger
[ $(wc -l < \"$SVTREE_IT/notes/web\") -eq 2 ] && $SAY WATCHDOG_USEC=200000
exec sleep 1000\n";
    let Some(service) = saying(&tree, "web", run) else { return };
    service.toml("[ready]\nnotify = true\n[restart]\ndelay = '10ms'\n").moved_in();
    eventually("three starts", || tree.notes("web").len() == 3);
    tree.becomes("web", "ready");
    for why in ["it said WATCHDOG=trigger: it is stopped", "no WATCHDOG=1 for 0.2s: it is stopped"] {
        eventually(format!("to be told that {why}"), || tree.told("web").contains(why));
    }
    let pid = tree.up("web");
    stays(Duration::from_millis(500), "without one nothing is expected", || tree.pid("web") == Some(pid));
}

#[test]
fn what_a_program_needs_for_its_start_and_its_stop_it_can_ask_for() {
    let tree = Tree::running();
    let run = "#!/bin/sh
trap '$SAY EXTEND_TIMEOUT_USEC=20000000; touch \"$SVTREE_IT/notes/asked\"; sleep 1; exit 7' TERM
$SAY EXTEND_TIMEOUT_USEC=20000000\nsleep 1\n$SAY READY=1\nwhile :; do sleep 0.05; done\n";
    let Some(service) = saying(&tree, "web", run) else { return };
    service.toml("[ready]\nnotify = true\ntimeout = '500ms'\n[stop]\ntimeout = '500ms'\n").moved_in();
    tree.becomes("web", "ready");
    assert_eq!(tree.state("web")["restarts"], 0);
    tree.letter("web", "d");
    tree.becomes("web", "down");
    assert_eq!(tree.state("web")["exits"][0]["code"], 7);
}

#[test]
fn what_a_program_needs_for_its_stop_it_can_ask_for_before_it_is_ready() {
    let tree = Tree::running();
    let run = "#!/bin/sh
trap '$SAY EXTEND_TIMEOUT_USEC=20000000; sleep 1; exit 7' TERM
touch \"$SVTREE_IT/notes/traps\"\nwhile :; do sleep 0.05; done\n";
    let Some(service) = saying(&tree, "web", run) else { return };
    service.toml("[ready]\nnotify = true\n[stop]\ntimeout = '500ms'\n").moved_in();
    eventually("it to be told", || tree.path("notes/traps").exists());
    tree.letter("web", "d");
    tree.becomes("web", "down");
    assert_eq!(tree.state("web")["exits"][0]["code"], 7, "{}", tree.state("web"));
}

#[test]
fn an_upgrade_goes_by_what_the_program_was_started_with_whatever_its_file_says_by_now() {
    let run = "#!/bin/sh\n$SAY READY=1\nwhile :; do $SAY WATCHDOG=1 2>> \"$SVTREE_IT/notes/unheard\" || echo $? >> \"$SVTREE_IT/notes/unheard\"; sleep 0.1; done\n";
    for (name, edited) in [("plain", "[health]\ncheck = 'true'\n"), ("other", "[ready]\nfd = 3\n")] {
        let tree = Tree::running();
        let Some(service) = saying(&tree, name, run) else { return };
        let entry = service.toml("[ready]\nnotify = true\nwatchdog = '1s'\n").moved_in();
        tree.becomes(name, "ready");
        let pid = tree.up(name);
        write(&entry.join("service.toml"), edited, 0o644);
        eventually("the edit to be seen", || tree.state(name)["changed"] == true);
        tree.svtree(["upgrade"]).ok();
        stays(Duration::from_millis(1500), "it is heard", || tree.pid(name) == Some(pid));
        assert_eq!(tree.notes("unheard"), [""; 0]);
    }
}

#[test]
fn no_time_passes_for_one_that_is_paused_over_an_upgrade() {
    let tree = Tree::running();
    let run = "#!/bin/sh\n$SAY READY=1\nwhile :; do $SAY WATCHDOG=1; sleep 0.1; done\n";
    let Some(service) = saying(&tree, "web", run) else { return };
    service.toml("[ready]\nnotify = true\nwatchdog = '2s'\n").moved_in();
    tree.becomes("web", "ready");
    let pid = tree.up("web");
    tree.letter("web", "p");
    stays(Duration::from_millis(2500), "it is paused", || alive(pid));
    tree.svtree(["upgrade"]).ok();
    tree.letter("web", "c");
    eventually("it to go on", || tree.state("web")["paused"] == false);
    stays(Duration::from_secs(1), "it is well", || tree.pid("web") == Some(pid));
}

#[test]
fn one_that_says_that_it_stops_and_does_not_is_killed() {
    let tree = Tree::running();
    let run = "#!/bin/sh\necho $$ >> \"$SVTREE_IT/notes/web\"\n$SAY READY=1
[ $(wc -l < \"$SVTREE_IT/notes/web\") -eq 1 ] && $SAY STOPPING=1\nexec sleep 1000\n";
    let Some(service) = saying(&tree, "web", run) else { return };
    service.toml("[ready]\nnotify = true\n[stop]\ntimeout = '300ms'\n").moved_in();
    eventually("it to be started again", || tree.notes("web").len() == 2);
    tree.becomes("web", "ready");
    assert_eq!(tree.state("web")["exits"][0]["signal"], 9);
}

#[test]
fn all_of_it_is_taken_over_and_handed_down() {
    let tree = Tree::running();
    let run = stepwise(&["$SAY STATUS=one%ERRNO=5", "$SAY READY=1", "$SAY STATUS=two", "$SAY STATUS=three"]);
    let Some(service) = saying(&tree, "web", &run) else { return };
    service.toml(NOTIFY).moved_in();
    let pid = tree.up("web");
    go(&tree, 1);
    eventually("its status", || tree.state("web")["status"] == "one");
    let next = |how: &dyn Fn()| {
        how();
        let state = tree.state("web");
        assert_eq!((state["pid"].as_i64(), &state["errno"]), (Some(pid.into()), &5.into()), "{state}");
    };
    let upgrade = || {
        tree.svtree(["upgrade"]).ok();
    };
    let take_over = || {
        tree.kill_svtree();
        tree.start();
        // Nobody hears a blank before.
        tree.letter("web", " ");
        eventually("it to be taken over", || tree.state("web")["adopted"] == true);
    };
    next(&upgrade);
    assert_eq!((&tree.state("web")["status"], &tree.state("web")["state"]), (&"one".into(), &"starting".into()));
    go(&tree, 2);
    tree.becomes("web", "ready");
    let since = tree.state("web")["ready_since"].clone();
    next(&take_over);
    assert_eq!((&tree.state("web")["status"], &tree.state("web")["ready_since"]), (&"one".into(), &since));
    go(&tree, 3);
    eventually("its status", || tree.state("web")["status"] == "two");
    next(&upgrade);
    next(&take_over);
    next(&upgrade);
    assert_eq!((&tree.state("web")["status"], &tree.state("web")["ready_since"]), (&"two".into(), &since));
    go(&tree, 4);
    eventually("its status", || tree.state("web")["status"] == "three");
}

#[test]
fn what_is_said_during_an_upgrade_is_heard() {
    let tree = Tree::running();
    let run = "#!/bin/sh\ni=0\nwhile [ $i -lt 300 ]; do i=$((i + 1)); $SAY STATUS=$i || exit 1; done\n$SAY READY=1\nexec sleep 1000\n";
    let Some(service) = saying(&tree, "web", run) else { return };
    service.toml(NOTIFY).moved_in();
    tree.up("web");
    eventually("it to be ready", || {
        tree.svtree(["upgrade"]).ok();
        tree.state("web")["state"] == "ready"
    });
    assert_eq!((&tree.state("web")["status"], &tree.state("web")["restarts"]), (&"300".into(), &0.into()));
}

#[test]
fn the_watchdog_goes_on_over_an_upgrade() {
    let tree = Tree::running();
    let Some(service) = saying(&tree, "web", "#!/bin/sh\n$SAY READY=1\nexec sleep 1000\n") else { return };
    service.toml("[ready]\nnotify = true\nwatchdog = '2s'\n[restart]\nwhen = 'never'\n").moved_in();
    // Each time would begin anew with each of these.
    eventually("it to have failed", || {
        tree.svtree(["upgrade"]).ok();
        tree.state("web")["state"] == "failed"
    });
    eventually("it to be told", || tree.told("web").contains("no WATCHDOG=1 for 2s"));
}

#[test]
fn where_the_path_is_too_long_for_a_socket_its_name_is_an_abstract_one() {
    let tree = Tree::new();
    let run = stepwise(&["$SAY READY=1", "$SAY STATUS=again"]);
    let name = "a".repeat(120);
    let Some(service) = saying(&tree, &name, &run) else { return };
    tree.start();
    service.toml(NOTIFY).moved_in();
    let pid = tree.up(&name);
    let socket = environment(pid).into_iter().find(|pair| pair.starts_with("NOTIFY_SOCKET="));
    assert!(socket.as_ref().is_some_and(|socket| socket.starts_with("NOTIFY_SOCKET=@")), "{socket:?}");
    go(&tree, 1);
    tree.becomes(&name, "ready");
    tree.kill_svtree();
    tree.start();
    eventually("it to be taken over", || tree.state(&name)["adopted"] == true);
    go(&tree, 2);
    eventually("its status", || tree.state(&name)["status"] == "again");
}

#[test]
fn a_socket_that_is_removed_is_there_again() {
    let tree = Tree::running();
    let Some(service) = saying(&tree, "web", &stepwise(&["$SAY READY=1", "$SAY STATUS=again"])) else { return };
    service.toml(NOTIFY).moved_in();
    tree.up("web");
    let socket = tree.home("web").join(".notify");
    fs::remove_file(&socket).expect("removed");
    eventually("it to be there", || socket.exists());
    go(&tree, 1);
    tree.becomes("web", "ready");
    fs::remove_dir_all(tree.home("web")).expect("removed");
    eventually("it to be there", || socket.exists());
    go(&tree, 2);
    eventually("its status", || tree.state("web")["status"] == "again");
    tree.move_out("web");
    tree.goes("web");
}

#[test]
fn a_program_that_drops_its_privileges_is_heard() {
    if !is_root() {
        return crate::harness::skip("only root has privileges to drop");
    }
    if program("setpriv").is_none() {
        return;
    }
    let tree = Tree::running();
    let run =
        "#!/bin/sh\nexec setpriv --reuid=65534 --regid=65534 --clear-groups sh -c \"$SAY READY=1; exec sleep 1000\"\n";
    let Some(service) = saying(&tree, "web", run) else { return };
    for directory in [tree.path(""), tree.path("elsewhere")] {
        crate::harness::chmod(&directory, 0o755);
    }
    service.toml(NOTIFY).moved_in();
    tree.becomes("web", "ready");
}

#[test]
fn a_plain_users_programs_speak_as_well() {
    let tree = Tree::new();
    let Some(service) = saying(&tree, "web", "#!/bin/sh\nsetsid $SAY READY=1\nexec sleep 1000\n") else { return };
    service.toml(NOTIFY).moved_in();
    let Some(tree) = tree.for_nobody() else { return };
    tree.start();
    tree.becomes("web", "ready");
}
