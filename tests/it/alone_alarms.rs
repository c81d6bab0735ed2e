//! `supervise` alone: the alarms of its `supervise.conf`.

use std::fs;
use std::time::Duration;

use rustix::process::Signal;

use crate::harness::{Alone, eventually, signal_pid, stays, text, write};

/// Keeps each mail in a file of its own.
const SENDMAIL: &str = "#!/bin/sh\nfile=\"$SVTREE_IT/notes/mail.$$\"\ncat > \"$file.new\"\n\
                        mv \"$file.new\" \"$SVTREE_IT/notes/sent.$$\"\n";

/// With a `sendmail` and a `gsmsend-script` in PATH, and this `supervise.conf`.
fn alone(conf: &str) -> Alone {
    let alone = Alone::env("PATH", &format!("bin:{}", std::env::var("PATH").expect("a PATH")));
    alone.script("bin/sendmail", SENDMAIL);
    alone.script("bin/gsmsend-script", "#!/bin/sh\nprintf '%s\\n' \"$*\" >> \"$SVTREE_IT/notes/gsm\"\n");
    write(&alone.path("supervise.conf"), conf, 0o644);
    alone
}

/// The subjects of the mails that were sent.
fn subjects(alone: &Alone) -> Vec<String> {
    let entries = fs::read_dir(alone.path("notes")).expect("the notes").flatten();
    let sent = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("sent."));
    let subject = |mail: String| mail.lines().find(|line| line.starts_with("Subject: ")).map(str::to_owned);
    sent.filter_map(|entry| subject(text(&entry.path()))).collect()
}

/// Kills its program, and waits for the next one.
#[track_caller]
fn kill(alone: &Alone, pid: i32) -> i32 {
    signal_pid(pid, Signal::KILL);
    alone.up_again("web", pid)
}

#[test]
fn the_first_exit_of_an_interval_is_sent_and_when_tries_run_out_that_is_sent_before_it_leaves() {
    let alone =
        alone("[global]\nalarm_interval : 60\nalarm_mail : ops@example.org\nalarm_gsm : 123 456\nmax_tries : 2\n");
    let pid = alone.start("sleep 1000", &[]);
    let pid = kill(&alone, pid);
    eventually("a mail", || subjects(&alone).len() == 1);
    assert!(subjects(&alone)[0].contains(": web: killed by SIGKILL after "), "{:?}", subjects(&alone));
    eventually("two telephones", || alone.notes("gsm").len() == 2);
    let pid = kill(&alone, pid);
    stays(Duration::from_millis(500), "the second is only logged", || subjects(&alone).len() == 1);
    assert!(alone.log().contains("alarm exit: not sent, the last one was "), "{}", alone.log());
    signal_pid(pid, Signal::KILL);
    alone.left();
    eventually("another mail", || subjects(&alone).len() == 2);
    let failed = subjects(&alone).into_iter().find(|subject| subject.contains("web: failed: ")).expect("it is told");
    assert!(failed.contains("gave up after 3 exits within 60s"), "{failed}");
    eventually("four telephones", || alone.notes("gsm").len() == 4);
}

#[test]
fn s_silences_and_n_ends_it_and_every_death_is_counted() {
    let alone = alone("[web]\nalarm_mail : ops@example.org\nmax_tries : 2\n");
    let pid = alone.start("sleep 1000", &[]);
    alone.letter("web", "s");
    eventually("alarms to be off", || alone.status("web").is_some_and(|status| status[14] == b'x'));
    let pid = kill(&alone, pid);
    let pid = kill(&alone, pid);
    alone.letter("web", "n");
    eventually("alarms to be on", || alone.status("web").is_some_and(|status| status[14] == b'o'));
    assert!(subjects(&alone).is_empty(), "{:?}", subjects(&alone));
    signal_pid(pid, Signal::KILL);
    alone.left();
    eventually("both to be sent", || subjects(&alone).len() == 2);
}

#[test]
fn an_interval_of_0_sends_nothing_and_r_reads_whom_to_tell() {
    let alone = alone("[web]\nalarm_interval : 0\nalarm_mail : ops@example.org\n");
    let pid = alone.start("sleep 1000", &[]);
    let pid = kill(&alone, pid);
    stays(Duration::from_millis(500), "nothing is sent", || subjects(&alone).is_empty());
    write(&alone.path("supervise.conf"), "[web]\nalarm_mail : ops@example.org\n", 0o644);
    alone.letter("web", "r");
    eventually("it to be read", || alone.log().matches("read supervise.conf").count() == 2);
    kill(&alone, pid);
    eventually("a mail", || subjects(&alone).len() == 1);
}

#[test]
fn what_is_stopped_by_d_is_not_told() {
    let alone = alone("[web]\nalarm_mail : ops@example.org\n");
    alone.start("sleep 1000", &[]);
    alone.letter("web", "dx");
    alone.left();
    stays(Duration::from_millis(300), "nothing is sent", || subjects(&alone).is_empty());
}
