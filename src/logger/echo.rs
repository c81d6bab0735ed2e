//! One stream of lines, from a pipe to svtree's own output: each line whole, with the name of its module before it.
//!
//! Must never hold up a program because nobody reads svtree's output any more.

use std::collections::VecDeque;
use std::io::{IsTerminal, stdout};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use memchr::{memchr, memchr_iter};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use super::feed::{Turn, Work};
use super::tap::Tap;
use crate::pure::log::{KEPT, LINES, LONGEST, Lines, Timestamps};
use crate::pure::name::ModuleName;
use crate::pure::time::Wall;
use crate::unix::clock;

/// One stream of lines.
#[derive(Debug)]
pub struct Echo {
    tap: Arc<Tap>,
    name: Vec<u8>,
    timestamps: Timestamps,
    /// A line that has not ended.
    part: Vec<u8>,
    /// The last lines, and when they were taken.
    last: VecDeque<(Wall, Vec<u8>)>,
}

/// So much is taken at once.
const MOST: usize = 64 * 1024;

/// The colours of names on a terminal; a module has always the same.
const COLOURS: [u8; 6] = [36, 33, 32, 35, 34, 31];

impl Echo {
    /// What this module says is shown.
    #[must_use]
    pub fn new(tap: Arc<Tap>, name: &ModuleName, timestamps: Timestamps) -> Echo {
        let text = name.to_string();
        let name = if stdout().is_terminal() {
            let sum =
                name.as_bytes().iter().fold(0_usize, |sum, byte| sum.wrapping_mul(31).wrapping_add((*byte).into()));
            format!("\x1b[{}m{text}:\x1b[0m ", COLOURS[sum % COLOURS.len()])
        } else {
            format!("{text}: ")
        };
        Echo { tap, name: name.into_bytes(), timestamps, part: Vec::new(), last: VecDeque::new() }
    }

    /// The pipe, readable when there is something to take.
    #[must_use]
    pub fn pipe(&self) -> BorrowedFd<'_> {
        self.tap.pipe()
    }

    /// Takes what is in the pipe, at most one batch, and shows the lines that have ended.
    pub fn turn(&mut self, work: &mut Work) -> Turn {
        work.raw.resize(MOST, 0);
        let count = match rustix::io::retry_on_intr(|| rustix::io::read(self.tap.pipe(), &mut work.raw)) {
            Ok(0) => {
                self.end_line(work);
                return Turn::End;
            }
            Ok(count) => count,
            Err(Errno::AGAIN) => return Turn::Nothing,
            Err(errno) => return Turn::Stuck(errno.into()),
        };
        work.out.clear();
        let mut rest = &work.raw[..count];
        let (now, mut ahead) = (clock::wall(), memchr_iter(b'\n', rest).count());
        while let Some(end) = memchr(b'\n', rest) {
            let (line, behind) = rest.split_at(end + 1);
            ahead -= 1;
            if ahead < LINES {
                Self::remember(&mut self.last, now, &self.part, &line[..end]);
            }
            if self.part.is_empty() {
                Self::line(&self.name, self.timestamps, line, &mut work.stamper, &mut work.out);
            } else {
                self.part.extend_from_slice(line);
                Self::line(&self.name, self.timestamps, &self.part, &mut work.stamper, &mut work.out);
                self.part.clear();
            }
            rest = behind;
        }
        self.part.extend_from_slice(rest);
        if self.part.len() > LONGEST {
            Self::remember(&mut self.last, now, &self.part, b"");
            Self::line(&self.name, self.timestamps, &self.part, &mut work.stamper, &mut work.out);
            // What was cut is marked; what is left of it is another line.
            if !work.out.ends_with(b"\n") {
                work.out.push(b'\n');
            }
            self.part.clear();
        }
        show(&work.out);
        Turn::Took(count)
    }

    /// The last lines that were taken until then, the oldest first, also one that has not ended.
    #[must_use]
    pub fn last_lines(&self, until: Wall) -> Vec<&[u8]> {
        let mut lines: Vec<&[u8]> =
            self.last.iter().filter(|(at, _)| *at <= until).map(|(_, line)| line.as_slice()).collect();
        // What follows a line that was taken later is later still.
        if !self.part.is_empty() && self.last.len() == lines.len() {
            lines.push(&self.part);
        }
        lines.drain(..lines.len().saturating_sub(LINES));
        lines
    }

    /// No more than what is kept of a line when its program dies.
    fn remember(last: &mut VecDeque<(Wall, Vec<u8>)>, now: Wall, part: &[u8], rest: &[u8]) {
        let mut line =
            if last.len() == LINES { last.pop_front().map_or_else(Vec::new, |(_, line)| line) } else { Vec::new() };
        line.clear();
        line.extend(part.iter().chain(rest).take(KEPT + 1));
        last.push_back((now, line));
    }

    /// Shows a line that has not ended and will not.
    pub fn end_line(&mut self, work: &mut Work) {
        if self.part.is_empty() {
            return;
        }
        Self::remember(&mut self.last, clock::wall(), &self.part, b"");
        self.part.push(b'\n');
        work.out.clear();
        Self::line(&self.name, self.timestamps, &self.part, &mut work.stamper, &mut work.out);
        self.part.clear();
        show(&work.out);
    }

    fn line(
        name: &[u8],
        timestamps: Timestamps,
        line: &[u8],
        stamper: &mut crate::pure::log::Stamper,
        out: &mut Vec<u8>,
    ) {
        let stamp = stamper.stamp(timestamps, clock::wall());
        let before = [name, stamp].concat();
        Lines::default().add(line, &before, out);
    }
}

/// Writes to standard output, and waits as long as it takes.
fn show(mut bytes: &[u8]) {
    let out = stdout();
    while !bytes.is_empty() {
        match rustix::io::write(out.as_fd(), bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(Errno::INTR) => {}
            // Somebody made a terminal or a pipe that is not only ours non-blocking.
            Err(Errno::AGAIN) => {
                let _ = poll(&mut [PollFd::new(&out, PollFlags::OUT)], None);
            }
            // Nobody is there to be shown anything.
            Err(_) => return,
        }
    }
}
