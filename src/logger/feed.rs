//! One stream of lines, from a pipe into a log.
//!
//! The spool stands between them: see [`Note`]. Whatever fails is tried again from it, and a logger that was killed is
//! succeeded by one that does the same. Must never wait: who calls it does.

use std::io;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::sync::{Arc, MutexGuard};
use std::time::Duration;

use memchr::memchr;
use rustix::io::Errno;

use super::tap::Tap;
use crate::pure::log::{Dropped, Full, HEADER, Keeping, Lines, Note, Piece, Stamper, piece};
use crate::pure::time::Wall;
use crate::unix::clock;
use crate::unix::log::{Directory, NotOpened, Spool, Spools, Syncer, waiting};
use crate::unix::pipe;
use crate::unix::report::plain;

/// What all streams of one thread share.
#[derive(Debug, Default)]
pub struct Work {
    pub(super) raw: Vec<u8>,
    pub(super) out: Vec<u8>,
    pub(super) stamper: Stamper,
    syncer: Syncer,
}

/// What became of one turn.
#[derive(Debug)]
pub enum Turn {
    /// So many bytes were taken and are in the log.
    Took(usize),
    /// Nothing is in the pipe.
    Nothing,
    /// Nobody writes into the pipe any more.
    End,
    /// The disk does not take what there is; it is to be tried again.
    Stuck(io::Error),
}

/// Where the spool of a log is.
#[derive(Clone, Copy, Debug)]
pub enum Place<'a> {
    /// In the directory of the log; it counts as a part of it.
    Within,
    /// Among others.
    At(&'a Spools),
}

/// The name of a spool in the directory of its log.
const SPOOL: &str = ".spool";

/// One stream of lines.
#[derive(Debug)]
pub struct Feed {
    tap: Arc<Tap>,
    directory: Directory,
    syncer: Syncer,
    spool: Spool,
    keeping: Keeping,
    full: Full,
    /// What the spool says of itself.
    note: Note,
    /// Whether it says that, so that something may be taken.
    noted: bool,
    /// The spool counts as a part of the log.
    counts: bool,
    /// Behind all that is in the spool.
    lines: Lines,
    /// So many bytes of what is in the spool, stamped, are in files.
    written: u64,
    /// Something in the spool is not in a file.
    behind: bool,
    /// The current file ends within a line.
    within: bool,
    /// There is a current file.
    open: bool,
    /// Another file is to begin behind this line.
    asked: bool,
    /// The stamp of what was taken last.
    stamped: Wall,
}

impl Feed {
    /// Opens a log, and writes what a predecessor left in the spool.
    ///
    /// # Errors
    /// The directory or the spool cannot be had. A disk that is full is none: that is told by the first turn.
    pub fn open(
        tap: Arc<Tap>,
        path: &Path,
        patience: Duration,
        place: Place<'_>,
        keeping: Keeping,
        full: Full,
        work: &mut Work,
    ) -> Result<Feed, NotOpened> {
        let directory = Directory::open(path, patience)?;
        let opened = match place {
            Place::Within => Spool::open(directory.as_fd(), SPOOL, SPOOL.to_owned()),
            Place::At(spools) => spools.spool(directory.as_fd()),
        };
        let (spool, note) = opened.map_err(|error| NotOpened::Failed(path.join(SPOOL), error))?;
        let within = directory.ends_within_line();
        let mut feed = Feed {
            note: note.unwrap_or(Note { origin: directory.size(), ..Note::default() }),
            tap,
            syncer: work.syncer.clone(),
            spool,
            keeping,
            full,
            noted: false,
            counts: matches!(place, Place::Within),
            lines: Lines::default(),
            written: 0,
            behind: true,
            within,
            open: true,
            asked: false,
            stamped: directory.changed().unwrap_or_else(clock::wall),
            directory,
        };
        feed.written = feed.note.written(feed.directory.size());
        feed.know_dropped(work).map_err(|error| NotOpened::Failed(path.join(SPOOL), error))?;
        // Lower limits hold at once. What fails now fails again at the first turn, which tells it.
        let _ = feed.directory.prune(keeping.keep, keeping.max_size);
        let _ = feed.catch_up(work);
        if feed.directory.size() > feed.limit() && feed.rotate(clock::wall()).is_ok() {
            let _ = feed.directory.prune(keeping.keep, keeping.max_size);
        }
        Ok(feed)
    }

    /// Whether what comes belongs to a line that a predecessor has dropped.
    fn know_dropped(&self, work: &mut Work) -> io::Result<()> {
        work.raw.resize(self.spool.len(), 0);
        self.spool.read(0, &mut work.raw)?;
        let mut before = Dropped { lines: 0, within: self.note.dropping };
        before.skip(&work.raw);
        let mut dropped = self.tap.dropped();
        // What was dropped since then is known better, and another pipe goes on with no line of that one.
        if dropped.lines == 0 && self.note.pipe == self.tap.identity() {
            dropped.within = before.within;
        }
        Ok(())
    }

    /// The pipe, readable when there is something to take.
    #[must_use]
    pub fn pipe(&self) -> BorrowedFd<'_> {
        self.tap.pipe()
    }

    /// The directory of the log.
    #[must_use]
    pub fn directory(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }

    /// Where the directory was removed and another one made, has the spool of that one: whoever comes next looks for it there.
    /// To be called between two turns; nothing is changed while something is in the old one.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn follow_directory(&mut self, place: Place<'_>) -> io::Result<()> {
        if self.behind || self.directory.former().is_none() {
            return Ok(());
        }
        let (spool, _) = match place {
            Place::Within => Spool::open(self.directory.as_fd(), SPOOL, SPOOL.to_owned())?,
            Place::At(spools) => spools.spool(self.directory.as_fd())?,
        };
        self.spool = spool;
        self.reset()?;
        if let (Some(former), Place::At(spools)) = (self.directory.former(), place) {
            spools.remove(former);
        }
        self.directory.forget_former();
        Ok(())
    }

    /// Where the log is, for messages.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Whether lines were dropped and the log does not say so yet.
    #[must_use]
    pub fn owes_a_word(&self) -> bool {
        self.note.dropped > 0 || self.tap.dropped().lines > 0
    }

    /// Begins another file as soon as the line has ended.
    ///
    /// # Errors
    /// The disk does not take it; it is tried again.
    pub fn rotate_soon(&mut self) -> io::Result<()> {
        self.asked = self.directory.size() > 0;
        self.rotate_if_asked()
    }

    /// Takes what is in the pipe, at most one batch, and writes it.
    pub fn turn(&mut self, work: &mut Work) -> Turn {
        match self.take(work, self.keeping.batch()) {
            Ok(Some(0)) => Turn::End,
            Ok(Some(count)) => Turn::Took(count),
            Ok(None) => Turn::Nothing,
            Err(error) => match self.full {
                Full::Wait => Turn::Stuck(error),
                Full::Drop => self.drop_what_waits(work, &error),
            },
        }
    }

    /// Takes the rest of the line that has not ended, as far as it is in the pipe; says whether it has ended then.
    ///
    /// # Errors
    /// The disk does not take it.
    pub fn finish_line(&mut self, work: &mut Work) -> io::Result<bool> {
        if self.behind {
            self.catch_up(work)?;
        }
        while self.lines.column() > 0 || self.tap.dropped().within {
            let ahead = pipe::peek(self.tap.pipe(), self.keeping.batch() / 2)?;
            let count = memchr(b'\n', &ahead).map_or(ahead.len(), |end| end + 1);
            if count == 0 || !matches!(self.take(work, count)?, Some(1..)) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Ends a line that nobody will end any more.
    ///
    /// # Errors
    /// The disk does not take it.
    pub fn end_line(&mut self, work: &mut Work) -> io::Result<()> {
        if self.behind {
            self.catch_up(work)?;
        }
        if self.within {
            self.write(b"\n", clock::wall())?;
        }
        self.lines = Lines::default();
        let tap = Arc::clone(&self.tap);
        self.with_all_told(&tap, work)?.within = false;
        self.reset()
    }

    /// Takes the rest of the pipe into the spool, though that is full by its measure: the disk of the log takes nothing, and
    /// nobody reads the pipe after this.
    ///
    /// # Errors
    /// There is no room for the spool either.
    pub fn keep_rest(&mut self) -> io::Result<()> {
        let tap = Arc::clone(&self.tap);
        let _alone = tap.dropped();
        while let Some(1..) = self.spool.take(tap.pipe(), self.keeping.batch())? {
            self.behind = true;
        }
        Ok(())
    }

    fn take(&mut self, work: &mut Work, most: usize) -> io::Result<Option<usize>> {
        if self.behind {
            self.catch_up(work)?;
        }
        let tap = Arc::clone(&self.tap);
        let mut dropped = self.with_all_told(&tap, work)?;
        let from = self.spool.len();
        // Nothing is behind, so it is less than half full; to take nothing would look like the end of the pipe.
        let most = most.min(self.keeping.batch().saturating_sub(from)).max(1);
        let count = match self.spool.take(tap.pipe(), most) {
            Ok(Some(count @ 1..)) => count,
            Ok(end) => return Ok(end),
            // A disk that is full has still the room that the head of the spool has.
            Err(_) if from > 0 => {
                drop(dropped);
                self.reset()?;
                return self.take(work, most);
            }
            Err(error) => return Err(error),
        };
        self.stamped = clock::wall();
        self.behind = true;
        work.raw.resize(count, 0);
        self.spool.read(from, &mut work.raw)?;
        work.out.clear();
        let raw = dropped.skip(&work.raw);
        // From here on who writes may be held up.
        drop(dropped);
        let stamp = work.stamper.stamp(self.keeping.timestamps, self.stamped);
        self.lines.add(raw, stamp, &mut work.out);
        self.look()?;
        self.write(&work.out, self.stamped)?;
        self.behind = false;
        if self.spool.len() >= self.keeping.batch() / 2 {
            self.reset()?;
        }
        Ok(Some(count))
    }

    /// What is written into a file that nobody can open any more is lost.
    fn look(&mut self) -> io::Result<()> {
        match self.directory.look() {
            Ok(true) => self.another_file(),
            Ok(false) => Ok(()),
            Err(error) => {
                self.open = false;
                Err(error)
            }
        }
    }

    /// Says in the log what was dropped, and keeps anybody from dropping more.
    fn with_all_told<'a>(&mut self, tap: &'a Tap, work: &mut Work) -> io::Result<MutexGuard<'a, Dropped>> {
        loop {
            let mut dropped = tap.dropped();
            let lines = std::mem::take(&mut dropped.lines);
            self.note.dropped += lines;
            self.noted &= lines == 0;
            if self.noted && self.note.dropped == 0 {
                return Ok(dropped);
            }
            drop(dropped);
            if !self.noted {
                self.reset()?;
            }
            if self.note.dropped > 0 {
                self.tell_dropped(work)?;
            }
        }
    }

    /// Writes what is in the spool and in no file.
    fn catch_up(&mut self, work: &mut Work) -> io::Result<()> {
        self.look()?;
        work.raw.resize(self.spool.len(), 0);
        self.spool.read(0, &mut work.raw)?;
        self.lines = self.restamped(work);
        let done = usize::try_from(self.written).unwrap_or(usize::MAX).min(work.out.len());
        self.written = done as u64;
        self.write(&work.out[done..], self.stamped)?;
        // A line of another pipe is not gone on with here.
        let pipe = self.tap.identity();
        if self.note.pipe != pipe {
            if self.within {
                self.write(b"\n", self.stamped)?;
            }
            self.lines = Lines::default();
            self.note.pipe = pipe;
        }
        self.reset()
    }

    /// What the bytes of the spool become, and where in a line they end.
    fn restamped(&self, work: &mut Work) -> Lines {
        work.out.clear();
        let mut lines = Lines::at(self.note.column);
        let mut before = Dropped { lines: 0, within: self.note.dropping };
        let stamp = work.stamper.stamp(self.note.timestamps, self.stamped);
        lines.add(before.skip(&work.raw), stamp, &mut work.out);
        lines
    }

    /// Everything in the spool is in files: it begins anew.
    fn reset(&mut self) -> io::Result<()> {
        self.noted = false;
        self.spool.clear()?;
        self.written = 0;
        self.behind = false;
        self.note = Note {
            timestamps: self.keeping.timestamps,
            column: self.lines.column(),
            skip: 0,
            origin: self.directory.size(),
            dropping: self.tap.dropped().within,
            ..self.note
        };
        self.spool.note(&self.note)?;
        self.noted = true;
        Ok(())
    }

    fn write(&mut self, mut rest: &[u8], now: Wall) -> io::Result<()> {
        if !self.open {
            self.renew()?;
        }
        self.rotate_if_asked()?;
        let limit = self.limit();
        while !rest.is_empty() {
            let next = match memchr(b'\n', rest) {
                Some(end) if self.asked => piece(&rest[..=end], self.directory.size(), self.within, limit),
                Some(_) | None => piece(rest, self.directory.size(), self.within, limit),
            };
            match next {
                Piece::Rotate => self.rotate(now)?,
                Piece::Write(count) => {
                    let count = self.directory.write(&rest[..count])?;
                    let Some(last) = count.checked_sub(1) else { return Err(io::ErrorKind::WriteZero.into()) };
                    self.written += count as u64;
                    self.within = rest[last] != b'\n';
                    rest = &rest[count..];
                    self.rotate_if_asked()?;
                }
            }
        }
        Ok(())
    }

    /// No file is longer: together with the spool, however full, none takes more room than it may.
    fn limit(&self) -> u64 {
        let spool = if self.counts { HEADER + self.keeping.batch() } else { 0 };
        self.keeping.max_size.saturating_sub(spool as u64)
    }

    fn rotate_if_asked(&mut self) -> io::Result<()> {
        if self.asked && !self.within {
            self.asked = false;
            self.rotate(clock::wall())?;
        }
        Ok(())
    }

    fn rotate(&mut self, now: Wall) -> io::Result<()> {
        // Said before, so that the length of no other file is taken for that of this one.
        self.note.skip = self.written;
        self.note.origin = Note::NOWHERE;
        self.spool.note(&self.note)?;
        self.open = false;
        self.directory.rotate(now, self.keeping.keep, &self.syncer)?;
        self.another_file()
    }

    fn renew(&mut self) -> io::Result<()> {
        self.directory.renew()?;
        self.another_file()
    }

    /// The current file is another one: what comes begins at its end.
    fn another_file(&mut self) -> io::Result<()> {
        self.note.skip = self.written;
        self.note.origin = self.directory.size();
        self.spool.note(&self.note)?;
        self.open = true;
        self.within = self.directory.ends_within_line();
        Ok(())
    }

    /// Drops what the disk does not take: what is in the spool, and what waits in the pipe.
    fn drop_what_waits(&mut self, work: &mut Work, error: &io::Error) -> Turn {
        if self.behind {
            self.drop_spool(work);
        }
        let mut dropped = self.tap.dropped();
        let most = usize::try_from(waiting(self.tap.pipe())).unwrap_or(0).min(self.keeping.batch());
        // An empty pipe may have come to its end.
        work.raw.resize(most.max(1), 0);
        let count = match rustix::io::read(self.tap.pipe(), &mut work.raw) {
            Ok(0) => return Turn::End,
            Ok(count) => count,
            Err(Errno::AGAIN) => return Turn::Nothing,
            Err(_) => return Turn::Stuck(io::Error::other(plain(error))),
        };
        dropped.add(&work.raw[..count]);
        self.note.dropped += std::mem::take(&mut dropped.lines);
        let _ = self.spool.note(&Note { dropping: dropped.within, ..self.note });
        Turn::Took(count)
    }

    fn drop_spool(&mut self, work: &mut Work) {
        work.raw.resize(self.spool.len(), 0);
        if self.spool.read(0, &mut work.raw).is_err() {
            work.raw.clear();
        }
        let lines = self.restamped(work);
        let done = usize::try_from(self.written).unwrap_or(usize::MAX).min(work.out.len());
        self.lines = if done == work.out.len() { lines } else { Lines::default() };
        let mut spooled = Dropped::default();
        spooled.add(&work.out[done..]);
        self.note.dropped += spooled.lines;
        let mut dropped = self.tap.dropped();
        // What was dropped behind it is what the pipe goes on with.
        dropped.within |= spooled.within && dropped.lines == 0;
        drop(dropped);
        // Where not even that can be written, it is before anything is taken.
        let _ = self.reset();
        self.behind = false;
    }

    /// Says how many lines were dropped; the spool is empty.
    fn tell_dropped(&mut self, work: &mut Work) -> io::Result<()> {
        work.out.clear();
        if self.within {
            work.out.push(b'\n');
        }
        work.out.extend_from_slice(work.stamper.stamp(self.keeping.timestamps, clock::wall()));
        let lines = if self.note.dropped == 1 { "line was" } else { "lines were" };
        let said = format!("svtree: {} {lines} dropped: the disk was full or slow\n", self.note.dropped);
        work.out.extend_from_slice(said.as_bytes());
        self.write(&work.out, clock::wall())?;
        self.note.dropped = 0;
        self.lines = Lines::default();
        self.reset()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pure::log::Timestamps;
    use rustix::pipe::{PipeFlags, pipe_with};
    use std::os::fd::AsFd;

    #[test]
    fn a_spool_that_is_full_when_a_logger_is_killed_is_no_end_of_the_pipe() {
        let dir = tempfile::tempdir().expect("a directory");
        let keeping = Keeping { timestamps: Timestamps::None, ..Keeping::default() };
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).expect("a pipe");
        let _ = pipe::enlarge(writer.as_fd(), 1 << 20);
        let line = b"a line of the usual length, or nearly\n";
        let input = line.repeat(3 * keeping.batch() / line.len());
        assert_eq!(rustix::io::write(&writer, &input), Ok(input.len()));
        let open = |work: &mut Work| {
            let tap = Arc::new(Tap::new(reader.try_clone().expect("a descriptor")));
            Feed::open(tap, dir.path(), Duration::ZERO, Place::Within, keeping, Full::Wait, work).expect("a log")
        };
        let mut work = Work::default();
        let mut feed = open(&mut work);
        // Killed between the two calls: all that fits was taken, and nothing written.
        let taken = feed.spool.take(feed.tap.pipe(), keeping.batch()).expect("taken");
        assert_eq!(taken, Some(keeping.batch()));
        feed.behind = true;
        assert!(matches!(feed.turn(&mut work), Turn::Took(1..)));
        drop(feed);
        let mut feed = open(&mut work);
        while matches!(feed.turn(&mut work), Turn::Took(_)) {
            if pipe::peek(reader.as_fd(), 1).expect("looked").is_empty() {
                break;
            }
        }
        assert!(std::fs::read(dir.path().join("current")).expect("read") == input);
    }
}
