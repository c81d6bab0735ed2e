//! `svtree enable` and `svtree disable`: whether modules are started by themselves, for good: the file `down`.
//!
//! What runs is not touched, unless `--now` asks for it. Must never stop at the first module that fails.

use std::ffi::OsString;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

use clap::Args;

use super::entries::Entries;
use super::names::Tree;
use super::out;
use super::roots::Roots;
use super::verbs::{self, Verb};
use crate::pure::config;
use crate::unix::home::file;
use crate::unix::prints::SERVICE;
use crate::unix::scan::{self, Module};
use crate::unix::{down, report};

/// What both take.
#[derive(Args)]
pub struct EnableArgs {
    /// Names, paths or patterns (`'web-*'`) of modules; a group is all that is in it
    #[arg(value_name = "NAME", required = true)]
    names: Vec<OsString>,
    /// Also start or stop them now, as `up` and `down` do
    #[arg(long)]
    now: bool,
    /// With --now: wait so long until it is done
    #[arg(long, value_name = "SECONDS", value_parser = super::args::seconds, requires = "now")]
    wait: Option<Duration>,
}

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// The modules are started when svtree starts.
    Enable,
    /// They are not.
    Disable,
}

impl Which {
    fn name(self) -> &'static str {
        match self {
            Which::Enable => "enable",
            Which::Disable => "disable",
        }
    }

    /// The verb that does for now what this does for good.
    fn for_now(self) -> Option<Verb> {
        let name = match self {
            Which::Enable => "up",
            Which::Disable => "down",
        };
        Verb::all().find(|verb| verb.name == name)
    }
}

/// Makes or removes the file `down` of all modules that were named, and returns the exit code.
#[must_use]
pub fn run(which: Which, args: &EnableArgs, roots: &Roots) -> u8 {
    let complain = |what: &str, why: &str| out::complain("svtree", format!("{} {what}: {why}", which.name()));
    let entries = match Entries::read(roots) {
        Ok(entries) => entries,
        Err(why) => {
            out::complain("svtree", format!("{}: {why}", which.name()));
            return out::FAILED;
        }
    };
    let selected = entries.select(&args.names);
    let mut code = if selected.wrong.is_empty() { out::DONE } else { out::FAILED };
    selected.wrong.iter().for_each(|(what, why)| complain(what, why));
    let mut done = Vec::new();
    for name in selected.names {
        let Some((path, module)) = entries.module(&name) else { continue };
        match set(which, path, module) {
            Ok(()) => done.push(name),
            Err(why) => {
                complain(&name.to_string(), &why);
                code = out::FAILED;
            }
        }
    }
    match which.for_now() {
        Some(verb) if args.now => {
            let tree = Tree::new(roots);
            let modules = done.iter().flat_map(|name| match tree.modules(name) {
                none if none.is_empty() => vec![name.clone()],
                all => all,
            });
            code.max(verbs::send(&verb, modules.collect(), args.wait.unwrap_or_default(), roots))
        }
        Some(_) | None => code,
    }
}

fn set(which: Which, path: &Path, module: &Module) -> Result<(), String> {
    let shown = |name: &str| scan::shown(&path.join(name));
    let failed = |name: &str, error: &std::io::Error| format!("{}: {}", shown(name), report::plain(error));
    let service = scan::open(path, module.id).map_err(|why| format!("{}: {why}", scan::shown(path)))?;
    match which {
        Which::Disable => down::make(service.as_fd()).map_err(|error| failed(file::DOWN, &error)),
        Which::Enable => {
            if module.prints.service.is_some() {
                let bytes =
                    scan::contents(service.as_fd(), Path::new(SERVICE)).map_err(|error| failed(SERVICE, &error))?;
                if let Some(at) = config::disabled_at(&String::from_utf8_lossy(&bytes)) {
                    return Err(format!("{}: {at} keeps it down; remove that", shown(SERVICE)));
                }
            }
            down::remove(service.as_fd()).map_err(|error| failed(file::DOWN, &error))
        }
    }
}
