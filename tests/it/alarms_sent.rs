//! Section: alarms by mail and by telephone, from `[alarm]` and from a `supervise.conf`.

use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;

use crate::harness::{NOTING, Tree, eventually, signal_pid, stays, text, write};

/// A `sendmail` that keeps what it is given, each mail in a file of its own.
const SENDMAIL: &str = "#!/bin/sh\nfile=\"$SVTREE_IT/notes/mail.$$\"\n{ echo \"arguments: $*\"; cat; } > \"$file.new\"\n\
                        mv \"$file.new\" \"$SVTREE_IT/notes/sent.$$\"\n";

/// A `gsmsend-script` that notes its arguments.
const GSMSEND: &str = "#!/bin/sh\nfor word in \"$@\"; do printf '%s\\n' \"$word\" >> \"$SVTREE_IT/notes/gsm\"; done\n";

/// So that a kill is followed by a start soon.
const FAST: &str = "[restart]\ndelay = '20ms'\n";

/// A tree whose PATH begins with a directory of its own programs.
fn tree() -> Tree {
    let tree = Tree::new().options(["--log", "none", "--supervise-conf", "supervise.conf"]);
    write(&tree.path("supervise.conf"), "", 0o644);
    let path = format!("{}:{}", tree.path("bin").display(), std::env::var("PATH").expect("a PATH"));
    tree.env("PATH", &path)
}

/// With these programs.
fn with(tree: &Tree, programs: &[(&str, &str)]) {
    for (name, script) in programs {
        write(&tree.path("bin").join(name), script, 0o755);
    }
}

/// The mails that were sent.
fn mails(tree: &Tree) -> Vec<String> {
    let entries = std::fs::read_dir(tree.path("notes")).expect("the notes").flatten();
    let sent = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("sent."));
    sent.map(|entry| text(&entry.path())).collect()
}

#[track_caller]
fn one_mail(tree: &Tree) -> String {
    eventually("a mail", || !mails(tree).is_empty());
    let mails = mails(tree);
    assert_eq!(mails.len(), 1, "{mails:?}");
    mails.concat()
}

#[track_caller]
fn kill(tree: &Tree, name: impl AsRef<Path>) {
    let pid = tree.up(&name);
    signal_pid(pid, Signal::KILL);
    tree.up_again(&name, pid);
}

fn warnings(tree: &Tree, name: &str) -> String {
    text(&tree.home(name).join("supervise.log.wf"))
}

#[test]
fn mail_is_sent_by_sendmail_to_all_that_are_named_at_once() {
    let tree = tree();
    with(&tree, &[("sendmail", SENDMAIL)]);
    let toml = format!("{FAST}[alarm]\nmail = ['ops@example.org', 'Web <web@example.org>']\n");
    tree.service("web").run(NOTING).toml(&toml).moved_in();
    tree.start();
    kill(&tree, "web");
    let mail = one_mail(&tree);
    let (head, body) = mail.split_once("\n\n").expect("a header and a body");
    let host = tree.ran(["uname", "-n"]).ok().trim().to_owned();
    let lines: Vec<&str> = head.lines().collect();
    assert_eq!(lines[..3], ["arguments: -t", "To: ops@example.org,", " Web <web@example.org>"]);
    assert!(lines[3].starts_with(&format!("Subject: {host}: web: killed by SIGKILL after ")), "{head}");
    for field in ["Auto-Submitted: auto-generated", "MIME-Version: 1.0", "Content-Type: text/plain; charset=utf-8"] {
        assert!(lines.contains(&field), "{field} in {head}");
    }
    for line in [format!("host: {host}"), "module: web".into(), "event: exit".into(), "restarts: ".into()] {
        assert!(body.lines().any(|found| found.starts_with(&line)), "{line} in {body}");
    }
}

#[test]
fn no_name_makes_a_header_of_its_own() {
    let tree = tree();
    with(&tree, &[("sendmail", SENDMAIL)]);
    let name = "a\nBcc: all@example.org\n\nbody";
    let toml = format!("{FAST}[alarm]\nmail = ['ops@example.org']\n");
    tree.service(name).run(NOTING).toml(&toml).moved_in();
    tree.start();
    kill(&tree, name);
    let mail = one_mail(&tree);
    let (head, _) = mail.split_once("\n\n").expect("a header and a body");
    let fields: Vec<&str> = head.lines().filter_map(|line| line.split(':').next()).collect();
    let expected =
        ["arguments", "To", "Subject", "Auto-Submitted", "MIME-Version", "Content-Type", "Content-Transfer-Encoding"];
    assert_eq!(fields, expected, "{head}");
    assert!(head.contains(r"a\x0aBcc"), "{head}");
}

#[test]
fn a_machine_without_sendmail_is_told_of_and_nothing_waits() {
    if Path::new("/usr/sbin/sendmail").exists() {
        return crate::harness::skip("this machine has a sendmail that would send");
    }
    let tree = Tree::new().env("PATH", "/nowhere");
    let toml = format!("command = '/bin/sleep 1000'\n{FAST}[alarm]\nmail = ['ops@example.org']\n");
    tree.service("web").toml(&toml).moved_in();
    tree.start();
    kill(&tree, "web");
    eventually("it to be told", || warnings(&tree, "web").contains("alarm exit: executing sendmail: not found"));
}

#[test]
fn a_sendmail_that_fails_or_reads_nothing_is_told_of() {
    let tree = tree();
    with(&tree, &[("sendmail", "#!/bin/sh\nexit 75\n")]);
    let toml = format!("{FAST}[alarm]\nmail = ['ops@example.org']\n");
    tree.service("web").run(NOTING).toml(&toml).moved_in();
    tree.start();
    kill(&tree, "web");
    eventually("it to be told", || warnings(&tree, "web").contains("alarm exit: sendmail exited 75"));
}

#[test]
fn alarm_mail_and_alarm_gsm_of_a_supervise_conf_are_sent() {
    let tree = tree();
    with(&tree, &[("sendmail", SENDMAIL), ("gsmsend-script", GSMSEND)]);
    let conf = "[global]\nalarm_interval : 60\nalarm_mail : all@example.org\nalarm_gsm : 123\n\
                [web]\nalarm_mail : web@example.org\nalarm_gsm : 456\n";
    write(&tree.path("supervise.conf"), conf, 0o644);
    tree.service("web").run(NOTING).toml(FAST).moved_in();
    tree.start();
    kill(&tree, "web");
    let mail = one_mail(&tree);
    assert!(mail.contains("\nTo: all@example.org,\n web@example.org\n"), "{mail}");
    eventually("both numbers", || tree.notes("gsm").len() == 2);
    let host = tree.ran(["uname", "-n"]).ok().trim().to_owned();
    for (line, number) in tree.notes("gsm").iter().zip(["123", "456"]) {
        assert!(line.starts_with(&format!("{number}@{host}: web: killed by SIGKILL after ")), "{line}");
    }
    kill(&tree, "web");
    stays(Duration::from_millis(600), "only the first is sent", || mails(&tree).len() == 1);
}

#[test]
fn service_toml_wins_over_a_supervise_conf_and_an_interval_of_none_sends_nothing() {
    let tree = tree();
    with(&tree, &[("sendmail", SENDMAIL)]);
    let conf = "[off]\nalarm_interval : 0\nalarm_mail : off@example.org\n[global]\nalarm_mail : all@example.org\n";
    write(&tree.path("supervise.conf"), conf, 0o644);
    let own = format!("{FAST}[alarm]\nmail = ['own@example.org']\n");
    tree.service("own").run(NOTING).toml(&own).moved_in();
    tree.service("off").run(NOTING).toml(FAST).moved_in();
    tree.start();
    kill(&tree, "off");
    kill(&tree, "own");
    let mail = one_mail(&tree);
    assert!(mail.contains("\nTo: own@example.org\n"), "{mail}");
    stays(Duration::from_millis(600), "nothing of the other", || mails(&tree).len() == 1);
}

#[test]
fn whom_a_supervise_conf_names_by_r_is_told_at_once() {
    let tree = tree();
    with(&tree, &[("sendmail", SENDMAIL)]);
    tree.service("web").run(NOTING).toml(FAST).moved_in();
    tree.start();
    kill(&tree, "web");
    write(&tree.path("supervise.conf"), "[web]\nalarm_mail : late@example.org\n", 0o644);
    tree.letter("web", "r");
    let log = || text(&tree.home("web").join("supervise.log"));
    eventually("the letter to be obeyed", || log().contains("command r"));
    kill(&tree, "web");
    assert!(one_mail(&tree).contains("To: late@example.org\n"));
}

#[test]
fn without_the_program_for_telephones_it_is_told_and_mail_is_sent() {
    let tree = tree();
    with(&tree, &[("sendmail", SENDMAIL)]);
    write(&tree.path("supervise.conf"), "[web]\nalarm_mail : ops@example.org\nalarm_gsm : 123\n", 0o644);
    tree.service("web").run(NOTING).toml(FAST).moved_in();
    tree.start();
    kill(&tree, "web");
    one_mail(&tree);
    eventually("it to be told", || warnings(&tree, "web").contains("alarm exit: executing gsmsend-script: not found"));
}
