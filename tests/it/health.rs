//! Health: a module that runs is asked whether it is well, and stopped and started again when it says no too often.
//!
//! Must never take a check that cannot be made for an answer.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;
use std::time::Duration;

use rustix::process::Signal;

use crate::harness::{
    SLEEPER, Tree, alive, arguments, chmod, descendants, eventually, is_root, program, signal_pid, stays, text, write,
};
use crate::programs::{free_port, nginx_conf};

/// Well as long as there is no `notes/ill`; each time it is asked leaves a line.
const CHECK: &str = "#!/bin/sh\necho >> \"$SVTREE_IT/notes/asked\"\n! [ -e \"$SVTREE_IT/notes/ill\" ] || exit 4\n";

const OFTEN: &str = "interval = '100ms'\ntimeout = '5s'\n";

fn ill(tree: &Tree) {
    write(&tree.path("notes/ill"), "", 0o644);
}

#[test]
fn a_module_whose_check_fails_so_often_is_started_again_and_the_reason_says_so() {
    let tree = Tree::running();
    let toml = format!("[health]\ncheck = ['./check.sh']\n{OFTEN}");
    tree.service("web").run(SLEEPER).script("check.sh", CHECK).toml(&toml).moved_in();
    let pid = tree.up("web");
    eventually("it to be asked", || tree.notes("asked").len() > 5);
    assert_eq!((tree.pid("web"), &tree.state("web")["state"]), (Some(pid), &"up".into()));
    ill(&tree);
    tree.up_again("web", pid);
    std::fs::remove_file(tree.path("notes/ill")).expect("removed");
    eventually("the reason", || {
        tree.state("web")["reason"] == "restarted: health: ./check.sh: exited 4, 3 times in a row"
    });
    let said = "health: ./check.sh: exited 4";
    eventually("it to be told", || tree.told("web").contains(&format!("{said}, 3 times in a row: it is stopped")));
    assert!(tree.told("web").contains(&format!("{said} (2 of 3)")));
    assert!(tree.state("web")["exits"].as_array().is_some_and(|exits| exits.iter().all(|exit| exit["signal"] == 15)));
}

#[test]
fn a_bad_answer_now_and_then_is_none() {
    let tree = Tree::running();
    let check = "#!/bin/sh\necho >> \"$SVTREE_IT/notes/asked\"\nexit $(($(wc -l < \"$SVTREE_IT/notes/asked\") % 2))\n";
    let toml = format!("[health]\ncheck = ['./check.sh']\nfailures = 2\n{OFTEN}");
    tree.service("web").run(SLEEPER).script("check.sh", check).toml(&toml).moved_in();
    let pid = tree.up("web");
    eventually("it to be asked", || tree.notes("asked").len() > 9);
    assert_eq!(tree.pid("web"), Some(pid));
}

#[test]
fn another_way_of_asking_holds_with_r_and_not_before_and_what_was_asked_before_says_nothing() {
    let tree = Tree::running();
    let asking = |how: &str| format!("[health]\ncheck = [{how}]\nfailures = 1\ninterval = '50ms'\ntimeout = '5s'\n");
    let entry = tree.service("web").run(SLEEPER).script("check.sh", CHECK).toml(&asking("'./check.sh'")).moved_in();
    let pid = tree.up("web");
    let edit = |how: &str| write(&entry.join("service.toml"), &asking(how), 0o644);
    let is_asked = || {
        let before = tree.notes("asked").len();
        eventually("it to be asked", || tree.notes("asked").len() > before + 2);
    };
    is_asked();
    edit("'false'");
    eventually("the edit to be seen", || tree.state("web")["changed"] == true);
    is_asked();
    // One that never answers is out when the other way comes.
    edit("'sleep', '1001'");
    tree.letter("web", "r");
    eventually("it to be asked", || {
        descendants(tree.pid_of_svtree()).iter().any(|pid| arguments(*pid) == ["sleep", "1001"])
    });
    edit("'./check.sh'");
    tree.letter("web", "r");
    is_asked();
    assert_eq!(tree.pid("web"), Some(pid), "{}", tree.told("web"));
    eventually("nobody to be left who asks", || {
        !descendants(tree.pid_of_svtree()).iter().any(|pid| arguments(*pid) == ["sleep", "1001"])
    });
}

#[test]
fn a_bad_answer_of_one_that_is_paused_is_none() {
    let tree = Tree::running();
    let check = "#!/bin/sh\necho >> \"$SVTREE_IT/notes/asked\"\nwhile ! [ -e \"$SVTREE_IT/notes/ill\" ]; do sleep 0.02; done\nexit 4\n";
    let toml = format!("[health]\ncheck = ['./check.sh']\nfailures = 1\n{OFTEN}");
    tree.service("web").run(SLEEPER).script("check.sh", check).toml(&toml).moved_in();
    let pid = tree.up("web");
    eventually("it to be asked", || !tree.notes("asked").is_empty());
    tree.letter("web", "p");
    eventually("it to be paused", || tree.state("web")["paused"] == true);
    ill(&tree);
    stays(Duration::from_millis(500), "it stays paused", || tree.pid("web") == Some(pid));
    std::fs::remove_file(tree.path("notes/ill")).expect("removed");
    let before = tree.notes("asked").len();
    tree.letter("web", "c");
    eventually("it to be asked again", || tree.notes("asked").len() > before);
    assert_eq!(tree.pid("web"), Some(pid), "{}", tree.told("web"));
}

#[test]
fn what_cannot_be_asked_says_nothing_about_the_program() {
    let tree = Tree::running();
    let toml = format!("[health]\ncheck = ['./check.sh']\nfailures = 4\n{OFTEN}");
    let entry = tree.service("web").run(SLEEPER).script("check.sh", CHECK).toml(&toml).moved_in();
    let pid = tree.up("web");
    ill(&tree);
    eventually("two bad answers", || tree.told("web").contains("(2 of 4)"));
    chmod(&entry.join("check.sh"), 0o644);
    eventually("it to be told", || text(&tree.home("web").join("supervise.log")).contains("Permission denied"));
    chmod(&entry.join("check.sh"), 0o755);
    tree.up_again("web", pid);
    assert!(!tree.told("web").contains("well again"), "{}", tree.told("web"));
}

#[test]
fn what_a_check_has_started_is_never_the_program() {
    let tree = Tree::running();
    // It puts itself into the background while it is being asked.
    let run = "#!/bin/sh\necho >> \"$SVTREE_IT/notes/starts\"\nsleep 0.3\nsetsid sleep 1002 &\necho $! > \"$SVTREE_IT/notes/daemon\"\nexit 0\n";
    let check = "#!/bin/sh\nsh -c 'sleep 1; exit 7'\n";
    for about in
        ["[ready]\ncheck = ['./check.sh']\n", "[health]\ncheck = ['./check.sh']\ninterval = '50ms'\nfailures = 100\n"]
    {
        let _ = std::fs::remove_file(tree.path("notes/starts"));
        tree.service("web").run(run).script("check.sh", check).toml(about).moved_in();
        let daemon = || tree.notes("daemon").first().and_then(|pid| pid.parse::<i32>().ok());
        eventually("the daemon to be followed", || {
            tree.state("web")["followed"] == true && tree.pid("web") == daemon()
        });
        stays(Duration::from_millis(1500), "it is the program", || tree.pid("web") == daemon());
        assert_eq!(tree.notes("starts").len(), 1, "{}", tree.told("web"));
        tree.move_out("web");
        tree.goes("web");
        std::fs::remove_file(tree.path("notes/daemon")).expect("removed");
    }
}

#[test]
fn a_check_that_hangs_is_a_bad_answer_and_killed_with_its_tree() {
    let tree = Tree::running();
    let check = "#!/bin/sh\necho >> \"$SVTREE_IT/notes/asked\"\nsleep 1001 & sleep 1002\n";
    let toml = "[health]\ncheck = ['./check.sh']\ninterval = '100ms'\ntimeout = '200ms'\nfailures = 2\n[restart]\nwhen = 'never'\n";
    tree.service("web").run(SLEEPER).script("check.sh", check).toml(toml).moved_in();
    let pid = tree.up("web");
    // Letters are obeyed meanwhile.
    tree.letter("web", "p");
    eventually("it to be paused", || tree.state("web")["paused"] == true);
    tree.letter("web", "c");
    tree.becomes("web", "failed");
    assert!(!alive(pid));
    assert!(
        tree.state("web")["reason"].as_str().is_some_and(|why| why.contains("takes longer than 0.2s, and is killed"))
    );
    eventually("nothing to be left", || descendants(tree.pid_of_svtree()).is_empty());
    assert_eq!(tree.notes("asked").len(), 2);
}

#[test]
fn what_is_not_well_and_deaf_is_killed() {
    let tree = Tree::running();
    let run = "#!/bin/sh\ntrap '' TERM\nexec sleep 1000\n";
    let toml = format!("[health]\ncheck = 'false'\nfailures = 1\n{OFTEN}[stop]\ntimeout = '300ms'\n");
    tree.service("web").run(run).toml(&toml).moved_in();
    let pid = tree.up("web");
    tree.up_again("web", pid);
    eventually("it to be told", || tree.told("web").contains("health: false: exited 1: it is stopped"));
}

#[test]
fn a_check_that_cannot_be_made_says_nothing_of_the_program() {
    let tree = Tree::running();
    let toml = format!("[health]\ncheck = ['./nowhere']\nfailures = 1\n{OFTEN}");
    tree.service("web").run(SLEEPER).toml(&toml).moved_in();
    let pid = tree.up("web");
    stays(Duration::from_millis(700), "it is left alone", || tree.pid("web") == Some(pid));
    eventually("it to be told", || {
        std::fs::read_to_string(tree.home("web/supervise.log")).is_ok_and(|log| log.contains("nowhere"))
    });
}

#[test]
fn check_names_every_mistake_of_what_is_asked() {
    let tree = Tree::new();
    let toml = "[ready]\ncheck = './no-ready'\n[health]\ncheck = './no-health'\n";
    let missing = tree.service("missing").run(SLEEPER).toml(toml).dir();
    let ran = tree.svtree(["check".into(), missing.into_os_string()]);
    assert_eq!(ran.code, Some(111));
    let said = ran.err;
    assert!(said.contains("ready.check: no-ready: there is no such file"), "{said}");
    assert!(said.contains("health.check: no-health: there is no such file"), "{said}");
    let wrong = tree.service("wrong").run(SLEEPER).toml("[health]\nhtpp = 'http://a/'\n").dir();
    let said = tree.svtree(["check".into(), wrong.into_os_string()]).failed(111);
    assert!(said.contains("line 2, column 1: unknown key `health.htpp`, did you mean `health.http`?"), "{said}");
}

#[test]
fn nothing_is_asked_before_it_is_ready_or_while_it_is_paused() {
    let tree = Tree::running();
    let run = "#!/bin/sh\nuntil [ -e \"$SVTREE_IT/notes/go\" ]; do sleep 0.02; done\necho >&3\nexec sleep 1000\n";
    let toml = format!("[ready]\nfd = 3\n[health]\ncheck = ['./check.sh']\n{OFTEN}");
    tree.service("web").run(run).script("check.sh", CHECK).toml(&toml).moved_in();
    tree.up("web");
    stays(Duration::from_millis(400), "nobody asks", || tree.notes("asked").is_empty());
    write(&tree.path("notes/go"), "", 0o644);
    eventually("it to be asked", || !tree.notes("asked").is_empty());
    tree.letter("web", "p");
    eventually("it to be paused", || tree.state("web")["paused"] == true);
    // One that had begun may still come.
    let asked = tree.notes("asked").len() + 1;
    stays(Duration::from_millis(400), "nobody asks", || tree.notes("asked").len() <= asked);
}

#[test]
fn health_holds_at_once_after_a_reload_and_goes_on_over_an_upgrade() {
    let tree = Tree::running();
    let entry = tree.service("web").run(SLEEPER).script("check.sh", CHECK).moved_in();
    let pid = tree.up("web");
    write(&entry.join("service.toml"), &format!("[health]\ncheck = ['./check.sh']\n{OFTEN}"), 0o644);
    eventually("it to be changed", || tree.state("web")["changed"] == true);
    tree.letter("web", "r");
    eventually("it to be asked", || !tree.notes("asked").is_empty());
    eventually("it to be in force", || tree.state("web")["changed"] == false);
    for next in [true, false] {
        match next {
            true => _ = tree.svtree(["upgrade"]).ok(),
            false => {
                tree.kill_svtree();
                tree.start();
            }
        }
        let asked = tree.notes("asked").len();
        eventually("it to be asked again", || tree.notes("asked").len() > asked + 2);
    }
    assert_eq!(tree.up("web"), pid);
    ill(&tree);
    tree.up_again("web", pid);
}

#[test]
fn memcached_is_asked_by_tcp() {
    let Some(memcached) = program("memcached") else { return };
    let tree = Tree::running();
    let port = free_port();
    let user = if is_root() { "-u nobody" } else { "" };
    let run = format!("#!/bin/sh\nexec {} {user} -l 127.0.0.1 -U 0 -p {port}\n", memcached.display());
    let toml = format!("[health]\ntcp = '127.0.0.1:{port}'\nfailures = 2\n{OFTEN}");
    tree.service("memcached").run(&run).toml(&toml).moved_in();
    let pid = tree.up("memcached");
    stays(Duration::from_secs(1), "it is well", || tree.pid("memcached") == Some(pid));
    assert!(!tree.told("memcached").contains("health"));
    // The same program where nobody asks.
    let elsewhere = run.replace(&port.to_string(), &free_port().to_string());
    tree.service("elsewhere")
        .run(&elsewhere)
        .toml(&toml.replace(&port.to_string(), &free_port().to_string()))
        .moved_in();
    let pid = tree.up("elsewhere");
    tree.up_again("elsewhere", pid);
    eventually("it to be told", || tree.told("elsewhere").contains("Connection refused, 2 times in a row"));
}

#[test]
fn nginx_is_asked_by_http_and_started_again_when_it_hangs() {
    let Some(nginx) = program("nginx") else { return };
    let tree = Tree::running();
    let port = free_port();
    let conf = nginx_conf("daemon off; master_process off; error_log error.log;", port);
    let run = format!("#!/bin/sh\nexec {} -e error.log -p \"$PWD\" -c nginx.conf\n", nginx.display());
    let toml = format!(
        "[health]\nhttp = 'http://127.0.0.1:{port}/'\ninterval = '200ms'\ntimeout = '1s'\nfailures = 2\n[stop]\ntimeout = '2s'\n"
    );
    tree.service("nginx").run(&run).file("nginx.conf", &conf).toml(&toml).moved_in();
    let pid = tree.up("nginx");
    stays(Duration::from_secs(1), "it is well", || tree.pid("nginx") == Some(pid));
    // It listens still, and answers nobody.
    signal_pid(pid, Signal::STOP);
    tree.up_again("nginx", pid);
    eventually("it to be told", || tree.told("nginx").contains("no answer in time, 2 times in a row"));
}

#[test]
fn a_redirect_is_well_and_not_followed_and_an_error_is_not() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("its address").port();
    let tree = Tree::running();
    let bad = tree.path("notes/ill");
    let requests = tree.path("notes/requests");
    let end = tree.path("notes/end");
    let server = thread::spawn(move || {
        for stream in listener.incoming() {
            if end.exists() {
                return;
            }
            let Ok(mut stream) = stream else { continue };
            let mut request = [0; 1024];
            let count = stream.read(&mut request).unwrap_or(0);
            let mut file = std::fs::OpenOptions::new().append(true).create(true).open(&requests).expect("notes");
            file.write_all(&request[..count]).expect("noted");
            let answer = match bad.exists() {
                true => "HTTP/1.1 500 No\r\n\r\n",
                false => "HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\n\r\n",
            };
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    let toml = format!("[health]\nhttp = 'http://localhost:{port}/health?a=b'\nfailures = 2\n{OFTEN}");
    tree.service("web").run(SLEEPER).toml(&toml).moved_in();
    let pid = tree.up("web");
    eventually("it to be asked", || tree.notes("requests").iter().filter(|line| line.starts_with("GET ")).count() > 4);
    assert_eq!(tree.pid("web"), Some(pid));
    let lines = tree.notes("requests");
    assert!(
        lines.contains(&"GET /health?a=b HTTP/1.1".to_owned()) && lines.contains(&format!("Host: localhost:{port}"))
    );
    assert!(!lines.iter().any(|line| line.contains("elsewhere")), "{lines:?}");
    ill(&tree);
    tree.up_again("web", pid);
    eventually("it to be told", || tree.told("web").contains("status 500, 2 times in a row: it is stopped"));
    write(&tree.path("notes/end"), "", 0o644);
    let _ = std::net::TcpStream::connect(("127.0.0.1", port));
    server.join().expect("its end");
}
