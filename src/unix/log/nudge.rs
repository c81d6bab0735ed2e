//! How the tree's logger hears of modules: names in a FIFO, and at its start a look at all of them.
//!
//! A name says only "look there"; what is to be done is in the files. Must never wait.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags, fstat, openat};

use crate::pure::exit::Pid;
use crate::pure::log::{Death, Route, deaths, with_death};
use crate::pure::name::ModuleName;
use crate::pure::state::State;
use crate::pure::time::Wall;
use crate::unix::client;
use crate::unix::home::{file, files};
use crate::unix::pipe::enlarge;

/// The logger's end.
#[derive(Debug)]
pub struct Nudges {
    fifo: OwnedFd,
    /// The beginning of a name of which the rest has not come.
    part: Vec<u8>,
}

impl Nudges {
    /// Opens the FIFO in the home of the logger, made if it is not there.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn open(root: &Path) -> io::Result<Nudges> {
        let home = root.join(ModuleName::own_logger().as_os_str());
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let home = openat(rustix::fs::CWD, home, flags, Mode::empty())?;
        let fifo = files::fifo(home.as_fd(), Path::new(file::NUDGE))?;
        let _ = enlarge(fifo.as_fd(), 1 << 20);
        Ok(Nudges { fifo, part: Vec::new() })
    }

    /// Readable when a name has come.
    #[must_use]
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.fifo.as_fd()
    }

    /// What has come.
    #[must_use]
    pub fn take(&mut self) -> Vec<Nudge> {
        let mut bytes = [0; 4096];
        while let Ok(count @ 1..) = rustix::io::read(&self.fifo, &mut bytes) {
            self.part.extend_from_slice(&bytes[..count]);
        }
        let end = self.part.iter().rposition(|byte| *byte == 0).map_or(0, |end| end + 1);
        let whole: Vec<u8> = self.part.drain(..end).collect();
        whole.split(|byte| *byte == 0).filter_map(Nudge::decode).collect()
    }
}

/// What the logger is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Nudge {
    /// Look at this module.
    Look(ModuleName),
    /// Its program has ended: this pid, at this time.
    Died(ModuleName, Pid, Wall, Reach),
}

/// How far what a program has said reaches in its log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// All of it was read when it ended, and another one has been started since.
    Read,
    /// Something was not; and the same.
    Unread,
    /// No other one has been started: to the end.
    End,
}

const REACHES: [Reach; 3] = [Reach::Read, Reach::Unread, Reach::End];

impl Nudge {
    /// No name begins with a slash.
    fn encode(&self) -> Vec<u8> {
        match self {
            Nudge::Look(name) => [name.as_bytes(), b"\0"].concat(),
            Nudge::Died(name, pid, at, reach) => {
                let before = format!("/{pid}/{}/{}/{}/", at.seconds, at.nanos, *reach as u8);
                [before.as_bytes(), name.as_bytes(), b"\0"].concat()
            }
        }
    }

    fn decode(bytes: &[u8]) -> Option<Nudge> {
        let Some(death) = bytes.strip_prefix(b"/") else { return Some(Nudge::Look(ModuleName::new(bytes).ok()?)) };
        let mut parts = death.splitn(5, |byte| *byte == b'/');
        let mut number = || str::from_utf8(parts.next()?).ok();
        let pid = Pid::new(number()?.parse().ok()?)?;
        let at = Wall { seconds: number()?.parse().ok()?, nanos: number()?.parse().ok()? };
        let reach = *REACHES.get(number()?.parse::<usize>().ok()?)?;
        Some(Nudge::Died(ModuleName::new(parts.next()?).ok()?, pid, at, reach))
    }
}

/// Keeps what a program said before its death in the status directory of its module, if that is still there.
///
/// # Errors
/// It is as it was.
pub fn remember(root: &Path, name: &ModuleName, death: Death) -> io::Result<()> {
    let home = root.join(name.as_os_str());
    let before = client::read(&home.join(file::LAST_LINES)).unwrap_or_default();
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let home = openat(rustix::fs::CWD, home, flags, Mode::empty())?;
    files::replace(home.as_fd(), Path::new(file::LAST_LINES), &with_death(&before, death))
}

/// Tells the logger. Where none runs, the next one looks at all modules; what was said before a death is not kept then.
///
/// # Errors
/// `WouldBlock` if it has not read for long; it is to be told again.
pub fn nudge(root: &Path, nudge: &Nudge) -> io::Result<()> {
    let path = root.join(ModuleName::own_logger().as_os_str()).join(file::NUDGE);
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let Ok(fifo) = openat(rustix::fs::CWD, path, flags, Mode::empty()) else { return Ok(()) };
    if FileType::from_raw_mode(fstat(&fifo)?.st_mode) != FileType::Fifo {
        return Ok(());
    }
    rustix::io::write(&fifo, &nudge.encode())?;
    Ok(())
}

/// Every module that has something to say to the logger. Whoever comes later than this look nudges.
#[must_use]
pub fn routed(root: &Path) -> Vec<ModuleName> {
    let mut found = Vec::new();
    // A stack of our own: no depth can overflow the thread's.
    let mut look = vec![(root.to_owned(), None::<ModuleName>)];
    while let Some((directory, name)) = look.pop() {
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            let component = entry.file_name();
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                let inner = match &name {
                    None => ModuleName::new(component.as_bytes()),
                    Some(outer) => outer.join(component.as_bytes()),
                };
                look.extend(inner.ok().map(|inner| (entry.path(), Some(inner))));
            } else if component == file::ROUTE {
                found.extend(name.clone());
            }
        }
    }
    found
}

/// The last exit of a module of which nothing is kept: nobody was there to be told of it.
#[must_use]
pub fn unremembered(root: &Path, name: &ModuleName) -> Option<(Pid, Wall, Reach)> {
    let read = |file: &str| client::read(&root.join(name.as_os_str()).join(file)).unwrap_or_default();
    let state = State::decode(&read(file::STATE)).ok()?;
    let last = state.exits.first()?;
    let exit = last.exit()?;
    let is_known = deaths(&read(file::LAST_LINES)).iter().any(|death| (death.pid, &death.at) == (last.pid, &last.at));
    let reach = if state.pid.is_none() { Reach::End } else { Reach::Unread };
    (!is_known).then_some((exit.pid, exit.at, reach))
}

/// What the status directory of a module says of its output, and the reading end of it; `None` if there is nothing to read.
#[must_use]
pub fn output(root: &Path, name: &ModuleName) -> Option<(Route, OwnedFd)> {
    let home = root.join(name.as_os_str());
    let route = Route::decode(&client::read(&home.join(file::ROUTE)).ok()?)?;
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let output = openat(rustix::fs::CWD, home.join(file::SAID), flags, Mode::empty()).ok()?;
    let is_fifo = fstat(&output).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Fifo);
    is_fifo.then_some((route, output))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_comes_back_whatever_the_name() {
        for name in [&b"web"[..], b"group/web", b"odd\n \xff"] {
            let name = ModuleName::new(name).expect("a name");
            let pid = Pid::new(7).expect("a pid");
            let died = Nudge::Died(name.clone(), pid, Wall { seconds: -1, nanos: 999_999_999 }, Reach::End);
            for nudge in [Nudge::Look(name), died] {
                let bytes = nudge.encode();
                assert_eq!(Nudge::decode(bytes.strip_suffix(b"\0").expect("its end")), Some(nudge));
            }
        }
        for none in [&b""[..], b"/", b"/x/1/2/0/web", b"/7/1/2/0/.web", b"/7/1/2/3/web", b"/7/1/2/web", b"../x"] {
            assert_eq!(Nudge::decode(none), None);
        }
    }
}
