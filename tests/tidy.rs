//! The laws of the source that the compiler does not know: which folder may name what, and what no file may hold.
//!
//! Every law carries a sample that breaks it, so that a law which has stopped biting fails too. Must never grow a
//! parser: it reads lines, without their comments. This file names every forbidden word, and is the one not read.

use std::fs;
use std::path::{Path, PathBuf};

struct Law {
    says: &'static str,
    forbids: Forbids,
    /// Whether it holds in the file of this path.
    holds: fn(&str) -> bool,
    /// The path and the text of a file that breaks it.
    bad: (&'static str, &'static str),
}

enum Forbids {
    /// These words, parted by `, `.
    Words(&'static str),
    /// This word, the first time excepted.
    Again(&'static str),
    /// More lines than these.
    Lines(usize),
    /// Any other beginning.
    OtherStart(&'static str),
}

use Forbids::{Again, Lines, OtherStart, Words};

const LAWS: &[Law] = &[
    Law {
        says: "src/pure decides: it reaches no file, process, thread, clock or environment",
        forbids: Words("std::{, std::fs, std::io, std::net, std::process, std::thread, std::env, Instant, SystemTime"),
        holds: |path| path.starts_with("src/pure/"),
        bad: ("src/pure/time.rs", "use std::time::{Duration, Instant};"),
    },
    Law {
        says: "src/pure takes nothing from std::os, except the bytes of a name in name.rs",
        forbids: Words("std::os"),
        holds: |path| path.starts_with("src/pure/") && path != "src/pure/name.rs",
        bad: ("src/pure/state.rs", "use std::os::unix::ffi::OsStrExt;"),
    },
    Law {
        says: "src/pure/name.rs takes from std::os the bytes of a name only",
        forbids: Words("std::os::fd, std::os::linux, unix::{, unix::fs, unix::io, unix::net, unix::process"),
        holds: |path| path == "src/pure/name.rs",
        bad: ("src/pure/name.rs", "use std::os::unix::fs::FileTypeExt;"),
    },
    Law {
        says: "src/pure uses no crate that reaches the kernel",
        forbids: Words("nix::, rustix::, libc::, notify::, use nix, use rustix, use libc, use notify"),
        holds: |path| path.starts_with("src/pure/"),
        bad: ("src/pure/exit.rs", "    pid: nix::unistd::Pid,"),
    },
    Law {
        says: "src/pure knows nothing of the rest of the program",
        forbids: Words("crate::{, crate::unix, crate::cli, crate::supervise, crate::parent"),
        holds: |path| path.starts_with("src/pure/"),
        bad: ("src/pure/reconcile.rs", "use crate::unix::clock;"),
    },
    Law {
        says: "the machine says what each phase does with each event: no `_ =>` there",
        forbids: Words("_ =>"),
        holds: |path| path.starts_with("src/pure/machine/"),
        bad: ("src/pure/machine/life.rs", "        _ => Vec::new(),"),
    },
    Law {
        says: "src/unix wraps the kernel: it knows no driver and no command line",
        forbids: Words(
            "crate::{, crate::supervise, crate::parent, crate::alone, crate::keeper, crate::init, crate::logger, crate::trial, crate::cli",
        ),
        holds: |path| path.starts_with("src/unix/"),
        bad: ("src/unix/home/mod.rs", "use crate::supervise::Order;"),
    },
    Law {
        says: "only cli/run.rs, cli/init.rs, cli/log.rs, cli/supervise.rs and cli/trial.rs start a driver",
        forbids: Words(
            "crate::{, crate::supervise, crate::parent, crate::alone, crate::keeper, crate::init, crate::logger, crate::trial",
        ),
        holds: |path| {
            let drivers = ["run", "init", "log", "supervise", "trial"].map(|name| format!("src/cli/{name}.rs"));
            path.starts_with("src/cli/") && !drivers.iter().any(|driver| driver == path)
        },
        bad: ("src/cli/status.rs", "use crate::parent;"),
    },
    Law {
        says: "`unsafe` stands in src/unix/raw/ only",
        forbids: Words("unsafe"),
        holds: |path| is_rust(path) && !path.starts_with("src/unix/raw/"),
        bad: ("tests/it/main.rs", "    unsafe { libc::kill(0, 9) };"),
    },
    Law {
        says: "nothing sleeps: wait for a condition, with a deadline",
        forbids: Words("thread::sleep, sleep(, usleep(, nanosleep(, park_timeout("),
        holds: |path| is_rust(path) && path != "tests/it/harness.rs",
        bad: ("tests/it/run.rs", "    thread::sleep(TICK);"),
    },
    Law {
        says: "tests/it/harness.rs sleeps in its waiting function only",
        forbids: Again("sleep("),
        holds: |path| path == "tests/it/harness.rs",
        bad: ("tests/it/harness.rs", "thread::sleep(TICK);\nthread::sleep(TICK);"),
    },
    Law {
        says: "no test is passed over, and nothing is left to do",
        forbids: Words("#[ignore, todo!, unimplemented!"),
        holds: is_rust,
        bad: ("tests/model.rs", "#[ignore = \"slow\"]"),
    },
    Law {
        says: "a file opens with what it is responsible for and what it must never do",
        forbids: OtherStart("//! "),
        holds: is_rust,
        bad: ("src/cli/check.rs", "use std::fs;\n"),
    },
    Law {
        says: "a source file has at most 600 lines",
        forbids: Lines(600),
        holds: |path| path.starts_with("src/"),
        bad: ("src/main.rs", NEWLINES),
    },
    Law {
        says: "a file of an example has at most 10 lines",
        forbids: Lines(10),
        holds: |path| path.starts_with("services.example/"),
        bad: ("services.example/clock/run", NEWLINES),
    },
];

const NEWLINES: &str = match str::from_utf8(&[b'\n'; 601]) {
    Ok(text) => text,
    Err(_) => "",
};

fn is_rust(path: &str) -> bool {
    Path::new(path).extension().is_some_and(|extension| extension == "rs")
}

impl Forbids {
    /// The lines of the text that hold what is forbidden, counted from 1.
    fn find(&self, text: &str) -> Vec<usize> {
        match self {
            Words(words) => lines_with(text, words),
            Again(word) => lines_with(text, word).into_iter().skip(1).collect(),
            Lines(limit) => (limit + 1..=text.lines().count()).take(1).collect(),
            OtherStart(start) if text.starts_with(start) => Vec::new(),
            OtherStart(_) => vec![1],
        }
    }
}

fn lines_with(text: &str, words: &str) -> Vec<usize> {
    text.lines()
        .enumerate()
        .filter(|(_, line)| {
            let code = line.split("//").next().unwrap_or_default();
            words.split(", ").any(|word| has(code, word))
        })
        .map(|(index, _)| index + 1)
        .collect()
}

/// Whether the word is there, and not only as a part of a longer name.
fn has(code: &str, word: &str) -> bool {
    let in_name = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    let joined = |left: Option<char>, right: Option<char>| in_name(left) && in_name(right);
    code.match_indices(word).any(|(at, _)| {
        let (before, after) = (&code[..at], &code[at + word.len()..]);
        !joined(before.chars().next_back(), word.chars().next())
            && !joined(word.chars().next_back(), after.chars().next())
    })
}

/// All files below `directory`, but not what a running tree has made in an example.
fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).expect("a directory of the project") {
        let path = entry.expect("an entry of it").path();
        if path.is_dir() && !["supervise", ".data"].iter().any(|made| path.ends_with(made)) {
            found.extend(files(&path));
        } else if path.is_file() {
            found.push(path);
        }
    }
    found
}

#[test]
fn the_tree_is_tidy() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut broken = Vec::new();
    for file in ["src", "tests", "services.example"].map(|top| files(&root.join(top))).concat() {
        let path = file.strip_prefix(root).expect("it is below the root").display().to_string();
        let text = fs::read_to_string(&file).expect("a file of text");
        for law in LAWS.iter().filter(|law| path != "tests/tidy.rs" && (law.holds)(&path)) {
            broken.extend(law.forbids.find(&text).iter().map(|line| format!("{path}:{line}: {}", law.says)));
        }
    }
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

#[test]
fn every_law_bites() {
    for Law { says, forbids, holds, bad: (path, text) } in LAWS {
        assert!(holds(path) && !forbids.find(text).is_empty(), "it no longer bites: {says}");
    }
}

#[test]
fn words_are_found_whole_and_outside_comments() {
    let text = "deny(unsafe_code)\n// unsafe\nunsafe {}\nnot_unsafe()\nlet x = 1; // std::fs\nstd::fs::read()";
    assert_eq!(lines_with(text, "unsafe, std::fs"), [3, 6]);
    assert_eq!(lines_with("use unix::x;\nuse nix;\nuse nixie;", "nix::, use nix"), [2]);
}
