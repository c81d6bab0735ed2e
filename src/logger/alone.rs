//! `svtree log`: the logger of one `log/run`, from standard input into a directory.
//!
//! Must never end while a line has not, unless nobody ends it.

use std::io::{self, stdin};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::feed::{Feed, Place, Turn, Work};
use super::tap::Tap;
use crate::pure::log::{Full, Keeping};
use crate::pure::time::Moment;
use crate::unix::listener::{Heard, Listener};
use crate::unix::log::identity;
use crate::unix::report::{Repeated, plain};
use crate::unix::{clock, pipe};

/// What `svtree log` was asked to do.
#[derive(Clone, Debug)]
pub struct Options {
    /// The directory of the log.
    pub directory: PathBuf,
    /// How it is kept.
    pub keeping: Keeping,
}

/// A predecessor finishes its line within this time.
const PATIENCE: Duration = Duration::from_secs(3);

/// A disk that is full is tried again after this time.
const RETRY: Duration = Duration::from_millis(500);

/// Told to end, it waits so long for the end of a line.
const GRACE: Duration = Duration::from_secs(2);

/// Who writes again within this time goes on writing,
const BUSY: Duration = Duration::from_micros(500);

/// and is let write for so long: a line costs a wake-up, and many lines should cost one.
const GATHER: Duration = Duration::from_micros(300);

/// A pipe of this size takes what a program writes meanwhile.
const PIPE: usize = 1 << 20;

/// Logs until standard input ends, or TERM.
///
/// # Errors
/// The directory cannot be used.
pub fn run(options: &Options) -> Result<(), String> {
    let signals = Listener::new().map_err(|error| format!("listening for signals: {}", plain(&error)))?;
    let input = stdin().as_fd().try_clone_to_owned();
    let source = input.and_then(|input| match identity(input.as_fd()) {
        Some(_) => Ok(input),
        None => pipe::fed_by(input),
    });
    let source = source.map_err(|error| format!("reading standard input: {}", plain(&error)))?;
    let capacity = pipe::enlarge(source.as_fd(), PIPE);
    let mut work = Work::default();
    let tap = Arc::new(Tap::new(source));
    let feed = Feed::open(tap, &options.directory, PATIENCE, Place::Within, options.keeping, Full::Wait, &mut work)
        .map_err(|error| format!("opening {error}"))?;
    Logger { feed, work, signals, capacity, trouble: Repeated::default() }.run();
    Ok(())
}

struct Logger {
    feed: Feed,
    work: Work,
    signals: Listener,
    /// What the pipe holds, in bytes.
    capacity: usize,
    trouble: Repeated,
}

impl Logger {
    fn run(mut self) {
        // Whether somebody wrote at once when nothing was left, and how much was taken since.
        let (mut busy, mut taken) = (false, 0);
        loop {
            let turn = self.feed.turn(&mut self.work);
            let turn = self.feed.follow_directory(Place::Within).map_or_else(Turn::Stuck, |()| turn);
            match turn {
                Turn::Took(count) => {
                    taken += count;
                    self.went_well();
                }
                Turn::Nothing => {
                    let begun = clock::moment();
                    if busy && taken < self.capacity / 4 && self.hear(Some(begun.plus(GATHER)), false) {
                        return;
                    }
                    let begun = clock::moment();
                    if self.hear(None, true) {
                        return;
                    }
                    busy = clock::moment().since(begun) < BUSY;
                    taken = 0;
                }
                Turn::End => {
                    while let Err(error) = self.feed.end_line(&mut self.work) {
                        if self.stuck(&error) {
                            return;
                        }
                    }
                    return;
                }
                Turn::Stuck(error) => {
                    if self.stuck(&error) {
                        return;
                    }
                }
            }
        }
    }

    /// Waits for a signal, for input if it is asked for, or until then; says whether this is the end.
    fn hear(&mut self, deadline: Option<Moment>, input: bool) -> bool {
        let input = input.then(|| self.feed.pipe());
        for signal in self.signals.wait(input, deadline) {
            match signal {
                Heard::End => {
                    self.finish();
                    return true;
                }
                Heard::Rotate => {
                    if let Err(error) = self.feed.rotate_soon() {
                        self.failed(&error);
                    }
                }
            }
        }
        false
    }

    /// Finishes the line; what is behind it stays in the pipe for the next one.
    fn finish(&mut self) {
        let deadline = clock::moment().plus(GRACE);
        while let Ok(false) = self.feed.finish_line(&mut self.work) {
            if deadline <= clock::moment() {
                return;
            }
            let input = Some(self.feed.pipe());
            if !self.signals.wait(input, Some(deadline)).is_empty() {
                return;
            }
        }
    }

    /// Waits before it is tried again; says whether this is the end: what is not written is in the spool.
    fn stuck(&mut self, error: &io::Error) -> bool {
        self.failed(error);
        self.hear(Some(clock::moment().plus(RETRY)), false)
    }

    fn failed(&mut self, error: &io::Error) {
        self.trouble.failed(format!(
            "log: writing {}: {}; it is tried again",
            self.feed.path().display(),
            plain(error)
        ));
    }

    fn went_well(&mut self) {
        if self.trouble.text().is_some() {
            self.trouble.worked(&format!("log: writing {}: it works again", self.feed.path().display()));
        }
    }
}
