//! The standard streams of a child: where each comes from or goes to, and how it is opened there.
//!
//! Must never allocate, lock or panic in the child, which shares our memory.

use std::ffi::{CStr, c_int};

use super::child::Progress;
use super::clone::Launch;
use crate::pure::reconcile::Id;

/// A named FIFO that a child opens. By then it has left our descriptors, so it is opened by its path, and must be the one
/// that is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fifo<'a> {
    /// Its path, absolute.
    pub path: &'a CStr,
    /// Which one it is.
    pub id: Id,
}

/// Where a stream of a program goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output<'a> {
    /// Where svtree's own goes.
    Inherit,
    /// The same; and standard input comes from where svtree's own does.
    Foreground,
    /// `/dev/null`.
    Null,
    /// A FIFO, opened to read and write: whoever writes there never gets a SIGPIPE, and what it holds lives as long as
    /// anybody has it open.
    Fifo(Fifo<'a>),
}

/// The steps that fail while a FIFO has lost its name.
pub const OPENING_INPUT: &str = "opening the input of";
/// The same of the other end.
pub const OPENING_OUTPUT: &str = "opening the output of";

/// Gives a child its streams; says whether that worked. `errno` is why not. `null` is `/dev/null`, if it is open.
pub(super) unsafe fn direct_all(launch: &Launch<'_>, null: c_int, progress: &mut Progress) -> bool {
    // SAFETY: the descriptors are those of the child alone, which has left the table that it shared with us.
    unsafe {
        progress.at("opening /dev/null for", "");
        let null = if null < 0 { libc::open(c"/dev/null".as_ptr(), libc::O_RDWR | libc::O_CLOEXEC) } else { null };
        if null < 0 || (launch.output != Output::Foreground && libc::dup2(null, 0) < 0) {
            return false;
        }
        progress.at(OPENING_INPUT, "");
        if let Some(fifo) = &launch.input {
            let file = open(fifo, libc::O_RDONLY);
            if file < 0 || libc::dup2(file, 0) < 0 {
                return false;
            }
        }
        progress.at(OPENING_OUTPUT, "");
        let is_same = matches!(launch.error, Output::Fifo(_)) && launch.error == launch.output;
        direct(launch.output, null, 1) && if is_same { libc::dup2(1, 2) >= 0 } else { direct(launch.error, null, 2) }
    }
}

/// Sends a stream where it is to go; says whether that worked.
unsafe fn direct(output: Output<'_>, null: c_int, stream: c_int) -> bool {
    // SAFETY: as for `direct_all`.
    unsafe {
        match output {
            Output::Inherit | Output::Foreground => true,
            Output::Null => libc::dup2(null, stream) >= 0,
            Output::Fifo(fifo) => {
                let file = open(&fifo, libc::O_RDWR);
                file >= 0 && libc::dup2(file, stream) >= 0
            }
        }
    }
}

/// Opens a FIFO without waiting for its other end; whoever has it then waits. `-1` and `errno` if it cannot be.
unsafe fn open(fifo: &Fifo<'_>, mode: c_int) -> c_int {
    // SAFETY: as for `direct_all`; the path ends in NUL, and the record is this frame's.
    unsafe {
        // A terminal that somebody put there must not become that of the session.
        let flags = mode | libc::O_CLOEXEC | libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY;
        let file = libc::open(fifo.path.as_ptr(), flags);
        let mut stat: libc::stat = std::mem::zeroed();
        if file < 0 || libc::fstat(file, &raw mut stat) < 0 || libc::fcntl(file, libc::F_SETFL, 0) < 0 {
            return -1;
        }
        if stat.st_dev != fifo.id.device || stat.st_ino != fifo.id.inode {
            *libc::__errno_location() = libc::ESTALE;
            return -1;
        }
        file
    }
}
