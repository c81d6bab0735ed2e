//! `svtree check DIR…`: reads service directories as `run` would, and reports every mistake.
//!
//! Must never start or write anything.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::out::{cause, complain};
use crate::pure::command::LETTERS;
use crate::pure::config::{HealthBy, Policy, Program, ReadyBy};
use crate::pure::name::ModuleName;
use crate::unix::accounts::{Answer, Asked};
use crate::unix::environment::Variables;
use crate::unix::home::file;
use crate::unix::scan::{self, Entry, Logger, Module};
use crate::unix::spawn;

/// Checks each directory: a module, a group, or a services directory with such in it.
pub fn run(directories: &[PathBuf]) -> u8 {
    let mut check = Check::default();
    for directory in directories {
        check.directory(directory, true);
    }
    if check.mistakes > 0 { 111 } else { 0 }
}

#[derive(Default)]
struct Check {
    mistakes: usize,
    /// The groups that the one being read is in; one that is in itself by a link is read once.
    inside: BTreeSet<crate::pure::reconcile::Id>,
}

impl Check {
    fn mistake(&mut self, path: &Path, text: &str) {
        self.mistakes += 1;
        complain("svtree", format_args!("checking {}: {text}", scan::shown(path)));
    }

    /// `named` on the command line: it must be something.
    fn directory(&mut self, path: &Path, named: bool) {
        match scan::look(path) {
            Err(error) => self.mistake(path, &cause(&error)),
            Ok(Entry::Nothing) if named => self.mistake(path, "there is no such directory"),
            Ok(Entry::Nothing) => {}
            Ok(Entry::Module(module)) => self.module(path, &module),
            Ok(Entry::Group { id, members, mistake, held: _ }) => {
                if let Some(mistake) = mistake {
                    self.mistake(path, &mistake);
                }
                if self.inside.insert(id) {
                    for member in members {
                        self.entry(path, &member);
                    }
                    self.inside.remove(&id);
                } else {
                    self.mistake(path, "this group is in itself");
                }
            }
            Ok(Entry::Rejected(_, why)) => self.mistake(path, why),
            // What is named may be a services directory: it has no file of its own, and directories in it.
            Ok(Entry::Incomplete(_, why)) => match scan::names(path) {
                Ok((_, names)) if named && !names.is_empty() && !path.join("run").exists() => {
                    for name in names {
                        self.entry(path, &name);
                    }
                }
                // Not a mistake of a directory that is merely there, unless it was meant to run.
                Ok(_) if !named && !path.join("run").exists() => {}
                Ok(_) => self.mistake(path, &format!("incomplete: {why}")),
                Err(error) => self.mistake(path, &cause(&error)),
            },
        }
    }

    fn entry(&mut self, inside: &Path, name: &OsStr) {
        let path = inside.join(name);
        match ModuleName::new(name.as_bytes()) {
            Ok(_) => self.directory(&path, false),
            Err(why) => self.mistake(&path, &why.to_string()),
        }
    }

    fn module(&mut self, path: &Path, module: &Module) {
        match scan::mistakes(path, module, Policy::default()) {
            Err(mistakes) => mistakes.iter().for_each(|mistake| self.mistake(path, mistake)),
            Ok(policy) => {
                // What is in a root of its own cannot be told from outside: a link in it means something else there.
                let (key, directory) = match &policy.sandbox.root {
                    Some(root) => ("root", Some(root)),
                    None => ("directory", policy.directory.as_ref()),
                };
                if let Some(directory) = directory
                    && !path.join(directory).is_dir()
                {
                    self.mistake(path, &format!("{key}: {directory}: there is no such directory"));
                }
                if let Some(asked) = Asked::by(&policy) {
                    let Answer { ids, control_group } = asked.answer_here();
                    let wrong = ids.err().into_iter().chain(control_group.and_then(Result::err));
                    wrong.for_each(|why| self.mistake(path, &why));
                }
                match variables(path, module, &policy) {
                    Err(why) => self.mistake(path, &why),
                    Ok(variables) => {
                        let check = match &policy.ready.by {
                            Some(ReadyBy::Check(words)) => Some(("ready.check: ", words)),
                            Some(ReadyBy::Descriptor(_) | ReadyBy::Notify | ReadyBy::Exit) | None => None,
                        };
                        let health = match &policy.health.by {
                            Some(HealthBy::Check(words)) => Some(("health.check: ", words)),
                            Some(HealthBy::Tcp(_) | HealthBy::Http(_)) | None => None,
                        };
                        let own = match &policy.program {
                            // No file asks for what is typed.
                            Program::Run | Program::Typed(_) => &vec!["./run".to_owned()],
                            Program::Argv(words) => words,
                        };
                        let own = policy.sandbox.root.is_none().then_some(("", own));
                        for (what, words) in own.into_iter().chain(check).chain(health) {
                            if let Err(why) = program(path, words, &variables) {
                                self.mistake(path, &format!("{what}{why}"));
                            }
                        }
                    }
                }
            }
        }
        self.logger(&path.join(file::LOGGER), &module.logger);
        let finish = path.join("finish");
        if finish.exists()
            && let Err(why) = executable(&finish)
        {
            self.mistake(path, &format!("finish: {why}"));
        }
        for letter in LETTERS.iter().map(|letter| char::from(letter.byte)) {
            let control = path.join(format!("control/{letter}"));
            // One that is not executable is switched off, as in runit.
            let on = fs::metadata(&control).is_ok_and(|found| found.permissions().mode() & 0o111 != 0);
            if on && let Err(why) = executable(&control) {
                self.mistake(path, &format!("control/{letter}: {why}"));
            }
        }
    }

    /// A directory of that name without a `run` is none.
    fn logger(&mut self, path: &Path, logger: &Logger) {
        match logger {
            Logger::Module(module) => self.module(path, module),
            Logger::Unfinished(..) if path.join("run").exists() => self.mistake(path, "run is not executable"),
            Logger::Unfinished(..) | Logger::None => {}
        }
    }
}

/// The variables that its programs would get.
fn variables(path: &Path, module: &Module, policy: &Policy) -> Result<Variables, String> {
    let directory = scan::open(path, module.id)?;
    Variables::of(directory.as_fd(), policy)
        .map_err(|not_read| format!("environment_dir: {}: {}", not_read.what, cause(&not_read.error)))
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
    let metadata = fs::metadata(path).map_err(|error| cause(&error))?;
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
        let binary = head.starts_with(b"\x7fELF");
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
