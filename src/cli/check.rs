//! `svtree check DIR…`: reads service directories as `run` would, and reports every mistake.
//!
//! Must never start or write anything.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::out::{cause, complain};
use crate::pure::config::Policy;
use crate::pure::name::ModuleName;
use crate::unix::accounts::Asked;
use crate::unix::home::file;
use crate::unix::scan::{self, Entry, Logger, Module};
use crate::unix::validate;

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
            Ok(Entry::Group { id, members, policy, held: _ }) => {
                if let Err(mistake) = policy {
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
                let wrong = validate::mistakes(path, module.id, &policy, Asked::answer_here);
                wrong.iter().for_each(|mistake| self.mistake(path, mistake));
                self.instances(path, policy.instances.unwrap_or(0));
            }
        }
        self.logger(&path.join(file::LOGGER), &module.logger);
    }

    /// Another directory cannot be called as one of them.
    fn instances(&mut self, path: &Path, count: u32) {
        let Some(name) = path.file_name().and_then(|name| ModuleName::new(name.as_bytes()).ok()) else { return };
        for instance in (1..=count).filter_map(|number| name.instance(number).ok()) {
            let other = path.with_file_name(instance.as_os_str());
            if let Ok(Entry::Module(_) | Entry::Group { .. }) = scan::look(&other) {
                self.mistake(&other, &format!("{instance} is an instance of {name}: give it another name"));
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
