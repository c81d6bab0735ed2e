//! What people type: one file for each program or family of verbs.
//!
//! A client reads files and writes letters, and shares nothing with the tree but their encoding; so it works while
//! svscan is stopped, and costs it nothing. Must never supervise: only `run` leads to the parent, and
//! `supervise` to a module alone.

mod apply;
mod args;
mod check;
mod enable;
mod entries;
mod init;
mod known;
mod links;
mod log;
mod logs;
mod names;
mod note;
mod ordered;
mod out;
mod place;
mod plan;
mod prepared;
mod roots;
mod run;
mod status;
mod supervise;
mod svc;
mod svscan;
mod svstat;
mod table;
mod tree;
mod trial;
mod verbs;
mod wait;
mod why;

use std::ffi::{OsStr, OsString};
use std::path::Path;

use roots::Roots;

/// What the executable is, by the name it was called by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// Everything, as verbs.
    Svtree,
    /// The parent.
    Svscan,
    /// Letters to modules.
    Svc,
    /// A line about each module.
    Svstat,
    /// Whether a module is supervised.
    Svok,
    /// One module alone.
    Supervise,
}

impl Program {
    /// The program for a first argument, which may be a path.
    #[must_use]
    pub fn called(argument: &OsStr) -> Program {
        let name = Path::new(argument).file_name().unwrap_or(argument).as_encoded_bytes();
        match name {
            b"svscan" => Program::Svscan,
            b"svc" => Program::Svc,
            b"svstat" => Program::Svstat,
            b"svok" => Program::Svok,
            _ if name.windows(SUPERVISE.len()).any(|part| part == SUPERVISE) => Program::Supervise,
            _ => Program::Svtree,
        }
    }
}

const SUPERVISE: &[u8] = b"supervise";

/// Runs a program with the arguments after its name, and returns its exit code.
#[must_use]
pub fn run(program: Program, arguments: Vec<OsString>) -> u8 {
    match program {
        Program::Svtree => args::svtree(arguments),
        Program::Svscan => args::svscan(arguments),
        Program::Svc => svc::svc(&arguments, &Roots::from_env()),
        Program::Svstat => svstat::svstat(&arguments, &Roots::from_env()),
        Program::Svok => svc::svok(&arguments, &Roots::from_env()),
        Program::Supervise => supervise::run(arguments),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_by_their_names() {
        for (name, program) in [
            ("svscan", Program::Svscan),
            ("/usr/bin/svc", Program::Svc),
            ("./svstat", Program::Svstat),
            ("svok", Program::Svok),
            ("svtree", Program::Svtree),
            ("svcx", Program::Svtree),
            ("", Program::Svtree),
            ("supervise", Program::Supervise),
            ("/a/supervise64.etcd", Program::Supervise),
            ("snap_supervise", Program::Supervise),
            ("/supervise/svtree", Program::Svtree),
        ] {
            assert_eq!(Program::called(OsStr::new(name)), program, "{name}");
        }
    }
}
