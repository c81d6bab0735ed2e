//! A program whose records are gone, found by what it is: for a `supervise` alone whose files somebody has removed.
//!
//! Must never take one that may be another's, and never signal any.

use std::fs;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, CWD, fstat, statat};

use super::remains::{self, Executable, Stat};
use super::{environment, pidfd, prints};
use crate::pure::exit::Pid;
use crate::pure::name::ModuleName;

/// A process that runs these words in this directory, in a session of its own and with the module's name in its environment,
/// and that nobody supervises.
#[must_use]
pub fn find(module: &ModuleName, directory: BorrowedFd<'_>, words: &[Vec<u8>]) -> Option<(Pid, Stat, OwnedFd)> {
    let place = prints::id(&fstat(directory).ok()?);
    let pids = fs::read_dir("/proc").ok()?.flatten().filter_map(|entry| {
        let name = entry.file_name();
        Pid::new(name.to_str()?.parse().ok()?)
    });
    // The directory comes first: of all processes hardly one stands there.
    let there = |pid: &Pid| {
        let stands = statat(CWD, format!("/proc/{pid}/cwd"), AtFlags::empty());
        stands.is_ok_and(|stat| prints::id(&stat) == place)
    };
    pids.filter(there).find_map(|pid| {
        let before = is_it(pid, module, words)?;
        let held = pidfd::open(pid).ok()?;
        // What is held is what was looked at.
        let stat = is_it(pid, module, words).filter(|stat| stat.started == before.started)?;
        Some((pid, stat, held))
    })
}

fn is_it(pid: Pid, module: &ModuleName, words: &[Vec<u8>]) -> Option<Stat> {
    // What tells most comes first: others that stand there are not to hold up a start.
    if !runs(&fs::read(format!("/proc/{pid}/cmdline")).ok()?, words) {
        return None;
    }
    let stat = remains::stat(pid).ok().flatten()?;
    let alive = stat.session == pid.get() && !matches!(stat.state, b'Z' | b'X');
    if !alive || environment::mark(pid)? != module.as_bytes() {
        return None;
    }
    let own = Pid::new(i32::try_from(std::process::id()).ok()?).and_then(Executable::of)?;
    let parent = Pid::new(stat.parent).and_then(Executable::of);
    parent.is_none_or(|parent| !parent.is_same(&own)).then_some(stat)
}

/// Whether a command line is that of these words: of a script the kernel puts its interpreter before it, and the path that
/// was found in the place of a name.
fn runs(line: &[u8], words: &[Vec<u8>]) -> bool {
    let line: Vec<&[u8]> = line.strip_suffix(b"\0").unwrap_or(line).split(|byte| *byte == 0).collect();
    let Some((program, rest)) = words.split_first() else { return false };
    let Some(tail) = line.len().checked_sub(words.len()).and_then(|before| line.get(before..)) else { return false };
    let file = |path: &[u8]| path.rsplit(|byte| *byte == b'/').next().map(<[u8]>::to_vec);
    tail.split_first().is_some_and(|(first, others)| {
        file(first) == file(program) && others.iter().copied().eq(rest.iter().map(Vec::as_slice))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_line_is_known_with_its_interpreter_and_without() {
        let words = ["bin/web", "-c", "a b"].map(|word| word.as_bytes().to_vec());
        for line in ["bin/web\0-c\0a b\0", "/bin/sh\0bin/web\0-c\0a b\0", "/bin/sh\0-e\0/usr/bin/web\0-c\0a b\0"] {
            assert!(runs(line.as_bytes(), &words), "{line}");
        }
        for line in ["", "bin/web\0-c\0", "bin/web\0-c\0a\0b\0", "bin/webs\0-c\0a b\0", "bin/web\0-c\0a b\0-d\0"] {
            assert!(!runs(line.as_bytes(), &words), "{line}");
        }
    }
}
