//! `supervise` alone: its command line, what it prints, and what it makes of the names it is given.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use rustix::process::Signal;

use crate::harness::{Alone, alive, arguments, eventually, is_root, program, runs, signal_pid, skip};

/// Wrong usage: on standard output, with 100, and nothing on standard error.
#[track_caller]
fn usage(alone: &Alone, args: &[&str]) -> String {
    let ran = alone.supervise(args);
    assert!(ran.code == Some(100) && ran.err.is_empty(), "{args:?}: {ran:?}");
    assert!(!ran.out.is_empty() && ran.out.ends_with('\n'), "{args:?}: {ran:?}");
    ran.out
}

#[test]
fn help_version_and_wrong_usage_are_on_standard_output_with_100() {
    let alone = Alone::new();
    assert!(usage(&alone, &["-h"]).starts_with("Usage: supervise "));
    assert!(usage(&alone, &["-v"]).contains(env!("CARGO_PKG_VERSION")));
    for args in [
        &[][..],
        &["-p", "status/web"],
        &["-p", "status/web", "-f", ""],
        &["-p", "status/web", "-f", " \t "],
        &["-f", "sleep 1000"],
        &["-Z"],
        &["-p"],
        &["-u", "status/web"],
        &["-t", "x", "-p", "status/web", "-f", "sleep 1000"],
    ] {
        assert!(usage(&alone, args).contains("Usage: "), "{args:?}");
    }
    assert_eq!(fs::read_dir(alone.path("status")).expect("status").count(), 0, "nothing was made");
}

#[test]
fn the_directory_must_contain_status_and_a_name_after_it() {
    let alone = Alone::new();
    for directory in ["web", "status", "status/", "status//", "stat/web", "status/..", "status/web/.."] {
        usage(&alone, &["-p", directory, "-f", "sleep 1000"]);
        usage(&alone, &["-u", directory, "sleep", "1000"]);
        usage(&alone, &[directory, "sleep", "1000"]);
    }
    assert!(alone.everybody().is_empty());
}

#[test]
fn the_form_is_chosen_by_the_operands_and_never_by_the_name() {
    for name in ["supervise", "supervise64.etcd", "snap_supervise", "a-supervise-of-a-long-name"] {
        let alone = Alone::new();
        assert_eq!(alone.called(name, ["-u", "status/web", "sleep", "1000"]).ok(), "");
        let pid = alone.up("web");
        assert_eq!(arguments(pid), ["sleep", "1000"]);
        assert_eq!(arguments(alone.supervisor())[1..], ["-u", "status/web", "sleep", "1000"], "{name}");
    }
}

#[test]
fn options_of_the_p_form_stand_in_any_order() {
    let alone = Alone::new();
    alone.script("restart.sh", "#!/bin/sh\n");
    let args = ["-t", "60", "-f", "sleep 1000", "-r", "./restart.sh", "-p", "status/web"];
    assert_eq!(alone.supervise(&args).ok(), "");
    assert_eq!(arguments(alone.up("web")), ["sleep", "1000"]);
}

#[test]
fn options_end_at_the_directory_of_u() {
    let alone = Alone::new();
    let script = alone.script("show", "#!/bin/sh\nexec sleep 1000\n");
    let script = script.to_str().expect("text");
    assert_eq!(alone.supervise(&["-t", "5", "-u", "status/web", script, "-p", "-f", "a b", "-h"]).ok(), "");
    let pid = alone.up("web");
    eventually("the program to be executed", || arguments(pid) == ["sleep", "1000"]);
    let words = arguments(alone.supervisor());
    assert_eq!(words[words.len() - 4..], ["-p", "-f", "a b", "-h"]);
}

#[test]
fn a_command_is_split_at_blanks_and_tabs_and_nothing_else() {
    let alone = Alone::new();
    alone
        .script("keep", "#!/bin/sh\nfor word; do echo \"$word\" >>\"$SVTREE_IT/notes/words\"; done\nexec sleep 1000\n");
    alone.start(" ./keep\t'a  b'\t\"c\" $HOME;|& \\ *", &[]);
    let words = ["'a", "b'", "\"c\"", "$HOME;|&", "\\", "*"];
    eventually("its words", || alone.notes("words") == words);
}

#[test]
fn a_word_is_any_bytes() {
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt;
    let alone = Alone::new();
    alone.script("keep", "#!/bin/sh\nprintf %s \"$1\" >\"$SVTREE_IT/notes/bytes\"\nexec sleep 1000\n");
    let command = OsString::from_vec(b"./keep \xd6\xd0\xce\xc4".to_vec());
    assert_eq!(alone.called("supervise", ["-p".into(), "status/web".into(), "-f".into(), command]).ok(), "");
    let bytes = || fs::read(alone.path("notes/bytes")).unwrap_or_default();
    eventually("its word", || bytes() == b"\xd6\xd0\xce\xc4");
}

#[test]
fn a_command_is_looked_up_in_path() {
    let alone = Alone::new();
    alone.script("bin/its-own-name", "#!/bin/sh\nexec sleep 1000\n");
    let path = format!("{}:/usr/bin:/bin", alone.path("bin").display());
    let words = [alone.link("supervise").into_os_string(), "-u".into(), "status/web".into(), "its-own-name".into()];
    let ran = crate::harness::ran(alone.command(words).env("PATH", path));
    assert_eq!(ran.code, Some(0), "{ran:?}");
    alone.up("web");
}

#[test]
fn a_script_without_an_interpreter_line_is_run_by_the_shell() {
    let alone = Alone::new();
    alone.script("plain", "echo \"$1\" >>\"$SVTREE_IT/notes/plain\"\nexec sleep 1000\n");
    alone.start("./plain word", &[]);
    eventually("its word", || alone.notes("plain") == ["word"]);
}

#[test]
fn a_directory_that_is_missing_is_made_0700() {
    let alone = Alone::new();
    fs::remove_dir(alone.path("status")).expect("removed");
    alone.start("sleep 1000", &[]);
    assert_eq!(alone.home("web").metadata().expect("made").mode() & 0o7777, 0o700);
}

#[test]
fn a_directory_that_is_there_keeps_its_mode() {
    let alone = Alone::new();
    fs::create_dir(alone.home("web")).expect("made");
    fs::set_permissions(alone.home("web"), fs::Permissions::from_mode(0o751)).expect("changed");
    alone.start("sleep 1000", &[]);
    assert_eq!(alone.home("web").metadata().expect("there").mode() & 0o7777, 0o751);
}

#[test]
fn a_directory_may_be_typed_with_dots_slashes_and_blanks() {
    for typed in ["./status/web", "status//web//", "status/../status/web", "services/../status/web/", "status/web/ "] {
        let alone = Alone::new();
        assert_eq!(alone.supervise(&["-p", typed, "-f", "sleep 1000"]).ok(), "");
        let pid = alone.up("web");
        assert!(alive(pid), "{typed}");
        assert_eq!(alone.state("web")["name"], "web", "{typed}");
    }
}

#[test]
fn a_directory_may_be_absolute_or_a_link() {
    let alone = Alone::new();
    let absolute = alone.path("status/one").display().to_string();
    assert_eq!(alone.supervise(&["-p", &absolute, "-f", "sleep 1000"]).ok(), "");
    alone.up("one");
    fs::create_dir(alone.path("elsewhere/home")).expect("made");
    symlink(alone.path("elsewhere/home"), alone.home("web")).expect("linked");
    let pid = alone.start("sleep 1000", &[]);
    assert!(alone.path("elsewhere/home/state.json").exists() && alive(pid));
    assert!(alone.home("web").is_symlink(), "the link stays");
}

#[test]
fn a_directory_that_was_emptied_is_filled_again() {
    let alone = Alone::new();
    let pid = alone.start("sleep 1000", &[]);
    alone.letter("web", "dx");
    alone.left();
    for file in fs::read_dir(alone.home("web")).expect("read").flatten() {
        fs::remove_file(file.path()).expect("removed");
    }
    let other = alone.start("sleep 1000", &[]);
    assert_ne!(pid, other);
    for file in ["lock", "svcontrol", "control", "ok", "status", "state.json", "supervise.log", "supervise.log.wf"] {
        assert!(alone.home("web").join(file).exists(), "{file}");
    }
}

#[test]
fn a_program_whose_files_were_all_removed_is_taken_over_by_the_same_command() {
    let alone = Alone::new();
    let pid = alone.start("sleep 1000", &[]);
    for whole in [false, true] {
        signal_pid(alone.supervisor(), Signal::KILL);
        alone.left();
        if whole {
            fs::remove_dir_all(alone.home("web")).expect("removed");
        } else {
            for file in fs::read_dir(alone.home("web")).expect("read").flatten() {
                fs::remove_file(file.path()).expect("removed");
            }
        }
        assert_eq!(alone.start("sleep 1000", &[]), pid);
    }
}

#[test]
fn a_directory_that_cannot_be_made_is_an_error_with_111() {
    if is_root() {
        let alone = Alone::new();
        fs::write(alone.path("elsewhere/status"), "").expect("a file");
        let line = alone.supervise(&["-p", "elsewhere/status/web", "-f", "sleep 1000"]).failed(111);
        assert!(line.starts_with("supervise: elsewhere/status/web: "), "{line}");
    } else {
        let line = Alone::new().supervise(&["-p", "/status/web", "-f", "sleep 1000"]).failed(111);
        assert!(line.starts_with("supervise: /status/web: "), "{line}");
    }
}

#[test]
fn its_name_and_arguments_are_what_everybody_sees() {
    let alone = Alone::new();
    alone.start("sleep 1000", &[]);
    let supervisor = alone.supervisor();
    let read = |file: &str| fs::read_to_string(format!("/proc/{supervisor}/{file}")).expect("read");
    assert_eq!(read("comm"), "supervise.web\n");
    let link = alone.link("supervise.web").display().to_string();
    assert_eq!(arguments(supervisor), [link.as_str(), "-p", "status/web", "-f", "sleep 1000"]);
    assert!(runs(supervisor).is_some());
    let Some(pgrep) = program("pgrep") else { return };
    let found = alone.ran([pgrep.into_os_string(), "-x".into(), "supervise.web".into()]);
    assert!(found.out.lines().any(|line| line == supervisor.to_string()), "{found:?}");
    let Some(pidof) = program("pidof") else { return skip("pidof is missing") };
    let found = alone.ran([pidof.into_os_string(), link.into()]);
    assert!(found.out.split_whitespace().any(|pid| pid == supervisor.to_string()), "{found:?}");
}

#[test]
fn a_name_of_over_15_characters_is_found_too() {
    let alone = Alone::new();
    let name = "supervise.of-a-very-long-module-name";
    assert_eq!(alone.called(name, ["-p", "status/web", "-f", "sleep 1000"]).ok(), "");
    alone.up("web");
    let supervisor = alone.supervisor();
    let comm = fs::read_to_string(format!("/proc/{supervisor}/comm")).expect("read");
    assert_eq!(comm.trim_end(), &name[..15]);
    assert!(arguments(supervisor)[0].ends_with(name));
    let Some(killall) = program("killall") else { return };
    assert_eq!(alone.ran([killall.into_os_string(), name.into()]).code, Some(0));
    eventually("it to be ended by its name", || !alive(supervisor));
}
