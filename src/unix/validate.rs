//! Whether all that the files of a module name is there: users and groups, directories, programs and their interpreters.
//!
//! What it looks at may be on a file system that does not answer, and whoever knows a user may not answer either: must
//! never be called by a thread that others wait for.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::accounts::{Answer, Asked};
use super::environment::Variables;
use super::prints::{FINISH, SERVICE};
use super::report::plain;
use super::{scan, spawn};
use crate::pure::command::LETTERS;
use crate::pure::config::{self, HealthBy, Policy, Program, ReadyBy};
use crate::pure::reconcile::Id;

/// What is wrong, and the key of `service.toml` that asks for it.
struct Mistake {
    key: &'static str,
    text: String,
}

/// Every mistake of a module that its files alone do not show; `path` is its directory, `policy` what its files ask for, and
/// `answer` knows users and groups. One line for each, with its place where there is one.
pub fn mistakes(path: &Path, id: Id, policy: &Policy, answer: impl FnOnce(&Asked) -> Answer) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut add = |key, text| wrong.push(Mistake { key, text });
    // What is in a root of its own cannot be told from outside: a link in it means something else there.
    let (key, directory) = match &policy.sandbox.root {
        Some(root) => ("sandbox.root", Some(root)),
        None => ("directory", policy.directory.as_ref()),
    };
    if let Some(directory) = directory
        && !path.join(directory).is_dir()
    {
        let name = key.rsplit('.').next().unwrap_or(key);
        add(key, format!("{name}: {directory}: there is no such directory"));
    }
    if let Some(asked) = Asked::by(policy) {
        let Answer { ids, control_group } = answer(&asked);
        for why in ids.err().into_iter().chain(control_group.and_then(Result::err)) {
            let named = |key: &&str| why.strip_prefix(key).is_some_and(|rest| rest.starts_with([' ', ':']));
            add(["user", "groups", "group", "control_group"].into_iter().find(named).unwrap_or(""), why);
        }
    }
    match variables(path, id, policy) {
        Err(why) => add("environment_dir", why),
        Ok(variables) => programs(path, policy, &variables, &mut add),
    }
    let finish = path.join(FINISH);
    if finish.exists()
        && let Err(why) = executable(&finish)
    {
        add("", format!("{FINISH}: {why}"));
    }
    for letter in LETTERS.iter().map(|letter| char::from(letter.byte)) {
        let control = path.join(format!("control/{letter}"));
        // One that is not executable is switched off, as in runit.
        let on = fs::metadata(&control).is_ok_and(|found| found.permissions().mode() & 0o111 != 0);
        if on && let Err(why) = executable(&control) {
            add("", format!("control/{letter}: {why}"));
        }
    }
    wrong.into_iter().map(|Mistake { key, text }| placed(path, &[key], text)).collect()
}

/// What is wrong with a value, with the place of the first of these keys that the `service.toml` in this directory has.
#[must_use]
pub fn placed(path: &Path, keys: &[&str], text: String) -> String {
    let service = fs::read_to_string(path.join(SERVICE)).unwrap_or_default();
    match keys.iter().find_map(|key| config::place(&service, key)) {
        Some((line, column)) => format!("{SERVICE}: line {line}, column {column}: {text}"),
        None => text,
    }
}

fn programs(path: &Path, policy: &Policy, variables: &Variables, add: &mut impl FnMut(&'static str, String)) {
    let own = match &policy.program {
        // No file asks for what is typed.
        Program::Run | Program::Typed(_) | Program::Own(_) => &vec!["./run".to_owned()],
        Program::Argv(words) => words,
    };
    let ready = match &policy.ready.by {
        Some(ReadyBy::Check(words)) => Some(("ready.check", words)),
        Some(ReadyBy::Descriptor(_) | ReadyBy::Notify | ReadyBy::Exit) | None => None,
    };
    let health = match &policy.health.by {
        Some(HealthBy::Check(words)) => Some(("health.check", words)),
        Some(HealthBy::Tcp(_) | HealthBy::Http(_)) | None => None,
    };
    let own = policy.sandbox.root.is_none().then_some(("command", own));
    for (key, words) in own.into_iter().chain(ready).chain(health) {
        if let Err(why) = program(path, words, variables) {
            add(key, if key == "command" { why } else { format!("{key}: {why}") });
        }
    }
}

/// The variables that its programs would get.
fn variables(path: &Path, id: Id, policy: &Policy) -> Result<Variables, String> {
    let directory = scan::open(path, id)?;
    Variables::of(directory.as_fd(), policy)
        .map_err(|not_read| format!("environment_dir: {}: {}", not_read.what, plain(&not_read.error)))
}

/// Whether a program of a module can be executed, as far as its files tell.
fn program(service: &Path, words: &[String], variables: &Variables) -> Result<(), String> {
    let word = words.first().map_or("", String::as_str);
    // Relative candidates are relative to the service directory.
    let candidates: Vec<PathBuf> =
        spawn::candidates(OsStr::new(word), service, variables, false).iter().map(|path| service.join(path)).collect();
    let mut there = candidates.iter().filter(|path| path.exists());
    let name = word.strip_prefix("./").unwrap_or(word);
    match (there.next(), candidates.as_slice()) {
        (Some(first), _) => executable(first).map_err(|why| format!("{name}: {why}")),
        (None, [_]) => Err(format!("{name}: there is no such file")),
        (None, _) => Err(format!("{name}: not found in PATH")),
    }
}

fn executable(path: &Path) -> Result<(), String> {
    let metadata = fs::metadata(path).map_err(|error| plain(&error))?;
    if !metadata.is_file() {
        return Err("not a file".to_owned());
    }
    if metadata.permissions().mode() & 0o111 == 0 {
        return Err("not executable".to_owned());
    }
    let mut head = Vec::new();
    let read = || -> io::Result<Vec<u8>> {
        fs::File::open(path)?.take(256).read_to_end(&mut head)?;
        Ok(head)
    };
    // A program that may be executed but not read is not looked into.
    let Ok(head) = read() else { return Ok(()) };
    let Some(line) = head.strip_prefix(b"#!") else {
        let binary = head.starts_with(b"\x7fELF") || knows_others();
        return if binary { Ok(()) } else { Err("no program and no script with a #! line".to_owned()) };
    };
    let line = line.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let interpreter = line.trim_ascii().split(|byte| *byte == b' ' || *byte == b'\t').next().unwrap_or_default();
    match Path::new(OsStr::from_bytes(interpreter)).exists() {
        true => Ok(()),
        false => {
            Err(format!("its interpreter {} is not there", scan::shown(Path::new(OsStr::from_bytes(interpreter)))))
        }
    }
}

/// Whether the kernel was told of programs that are neither: see `binfmt_misc` in its documentation.
fn knows_others() -> bool {
    let own = |name: &OsStr| name == "register" || name == "status";
    fs::read_dir("/proc/sys/fs/binfmt_misc")
        .is_ok_and(|entries| entries.flatten().any(|entry| !own(&entry.file_name())))
}
