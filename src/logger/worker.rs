//! One thread of the tree's logger: the streams of one disk, or those that are shown.
//!
//! A disk that is slow holds up the thread, and with it only what is written there; one that is full is tried again
//! while the others are served. Each stream has one batch in its turn. Must never wake up but for lines, or for a disk
//! that is full.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsString;
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::Sender;

use super::echo::Echo;
use super::feed::{Feed, Place, Turn, Work};
use super::relief::Relief;
use super::tap::Tap;
use crate::pure::exit::Pid;
use crate::pure::log::{Death, LINES, Route, To, kept};
use crate::pure::name::{ModuleName, unescaped};
use crate::pure::time::{Moment, Wall};
use crate::unix::clock;
use crate::unix::epoll::Epoll;
use crate::unix::inbox::Inbox;
use crate::unix::log::{NotOpened, Reach, Spools, last_lines, remember};
use crate::unix::pipe;
use crate::unix::report::{Repeated, line, plain};

/// What the logger says to one of its threads.
#[derive(Debug)]
pub enum Mail {
    /// Read this pipe, in which the output of the module comes from now on.
    Open(ModuleName, Route, Arc<Tap>),
    /// The output of the module goes elsewhere.
    Close(ModuleName),
    /// The program of the module has ended: this pid, at this time.
    Died(ModuleName, Pid, Wall, Reach),
    /// Begin other files.
    Rotate,
    /// Take what is there, answer, and end.
    Finish(Sender<()>),
}

/// What failed is tried again after this time.
const RETRY: Duration = Duration::from_millis(500);

/// Told to finish, it takes no longer than this.
const FINISH: Duration = Duration::from_secs(5);

/// Who writes again within this time goes on writing,
const BUSY: Duration = Duration::from_micros(500);

/// and is let write for so long: a line costs a wake-up, and many lines should cost one.
const GATHER: Duration = Duration::from_micros(300);

/// A stream that goes elsewhere has so many turns more.
const CLOSING: usize = 16;

/// So much in one turn is no trickle.
const PLENTY: usize = 64 * 1024;

/// Lines have their stamp when they are read. What was read before a death has none that is later than this after it (times of
/// deaths are in whole milliseconds);
const IN_TIME: Duration = Duration::from_millis(1);

/// and the rest is read within this time, mostly.
const LATE: Duration = Duration::from_millis(20);

/// A pipe that was found full gets this size.
const LARGE: usize = 256 * 1024;

enum Sink {
    File(Box<Feed>),
    Shown(Echo),
    /// Its log could not be opened yet.
    Waits(Arc<Tap>),
}

struct Stream {
    name: ModuleName,
    route: Route,
    sink: Sink,
    /// Which pipe it reads.
    pipe: [u64; 2],
    /// Other pipes, each read once the one before it has ended, or is empty when something is in the first of these: who writes
    /// to the old one then is not the program any more.
    next: VecDeque<(Route, Arc<Tap>)>,
    /// It is tried again then; nothing is taken before.
    stuck: Option<Moment>,
    /// Its log does not say yet what was dropped of it; if no line comes before, that is tried again then.
    owing: Option<Moment>,
    /// What the module says from now on goes elsewhere; what it has said is here until the disk takes it.
    closing: bool,
    trouble: Repeated,
    large: bool,
}

/// The streams of one thread.
pub struct Worker {
    /// The status root.
    status: PathBuf,
    epoll: Epoll,
    spools: Arc<Spools>,
    relief: Arc<Relief>,
    streams: BTreeMap<u64, Stream>,
    count: u64,
    work: Work,
}

impl Worker {
    /// One without streams.
    ///
    /// # Errors
    /// There are no descriptors.
    pub fn new(status: PathBuf, spools: Arc<Spools>, relief: Arc<Relief>) -> io::Result<Worker> {
        let epoll = Epoll::new()?;
        Ok(Worker { status, epoll, spools, relief, streams: BTreeMap::new(), count: 0, work: Work::default() })
    }

    /// Serves until it is told to finish.
    pub fn run(mut self, inbox: &Inbox<Mail>) {
        if self.epoll.add(inbox.as_fd(), MAIL).is_err() {
            return;
        }
        let mut busy = false;
        loop {
            let begun = clock::moment();
            let late = self.streams.values().filter(|stream| stream.again().is_some());
            let (deadline, unserved) = late.fold((None, false), |(deadline, unserved), stream| {
                (deadline.into_iter().chain(stream.again()).min(), unserved || stream.is_unserved())
            });
            self.relief.end(unserved);
            let ready = self.epoll.wait(deadline);
            let woken = clock::moment();
            self.relief.begin(woken);
            if ready.contains(&MAIL) {
                for mail in inbox.take() {
                    match mail {
                        Mail::Open(name, route, tap) => self.open(name, route, tap),
                        Mail::Close(name) => self.close(&name),
                        Mail::Died(name, pid, at, reach) => self.died(&name, pid, at, reach),
                        Mail::Rotate => self.rotate(),
                        Mail::Finish(done) => {
                            self.finish();
                            let _ = done.send(());
                            return;
                        }
                    }
                }
            }
            self.try_again(woken);
            let mut taken = 0;
            for key in ready {
                taken += self.turn(key & !NEXT);
                if key & NEXT != 0 {
                    self.turn_to_next(key & !NEXT);
                }
            }
            // A trickle of lines that come one by one is let gather, so that they cost one wake-up.
            if busy && taken > 0 && taken < PLENTY {
                pipe::pause(GATHER);
            }
            busy = taken > 0 && woken.since(begun) < BUSY;
        }
    }

    fn find(&self, name: &ModuleName) -> Option<u64> {
        self.streams.iter().find(|(_, stream)| stream.name == *name && !stream.closing).map(|(key, _)| *key)
    }

    fn open(&mut self, name: ModuleName, route: Route, tap: Arc<Tap>) {
        let id = tap.identity();
        if let Some(key) = self.find(&name)
            && let Some(stream) = self.streams.get_mut(&key)
        {
            if stream.pipe != id {
                // What is in the pipes before it comes first.
                if let Some((before, _)) = stream.next.iter_mut().find(|(_, known)| known.identity() == id) {
                    *before = route;
                    return;
                }
                tap.leave_unserved(stream.stuck.is_some());
                if stream.stuck.is_none() && stream.next.is_empty() {
                    let _ = self.epoll.add(tap.pipe(), key | NEXT);
                }
                stream.next.push_back((route, tap));
                return;
            }
            stream.next.drain(..).take(1).for_each(|(_, before)| self.epoll.remove(before.pipe()));
            if stream.route == route {
                return;
            }
            self.close(&name);
        }
        self.count += 1;
        let sink = match route.to {
            To::Inherit => Sink::Shown(Echo::new(tap, &name, route.keeping.timestamps)),
            To::File | To::None => Sink::Waits(tap),
        };
        let stuck = matches!(sink, Sink::Waits(_)).then(Moment::default);
        let trouble = Repeated::default();
        let stream = Stream {
            name,
            route,
            sink,
            pipe: id,
            next: VecDeque::new(),
            stuck,
            owing: None,
            closing: false,
            trouble,
            large: false,
        };
        if stuck.is_none() {
            let _ = self.epoll.add(stream.pipe(), self.count);
        }
        self.streams.insert(self.count, stream);
        if stuck.is_some() {
            self.retry(self.count);
        }
    }

    fn close(&mut self, name: &ModuleName) {
        let Some(key) = self.find(name) else { return };
        // What was said before goes where it was to go; who goes on saying does not hold up the others.
        let _ = (0..CLOSING).find(|_| self.turn(key) == 0);
        match self.streams.get_mut(&key) {
            Some(stream) if stream.stuck.is_some() => stream.closing = true,
            Some(_) | None => self.leave(key),
        }
    }

    /// Reads it no more.
    fn leave(&mut self, key: u64) {
        if let Some(stream) = self.streams.remove(&key) {
            self.epoll.remove(stream.pipe());
            if let Some((_, next)) = stream.next.front() {
                self.epoll.remove(next.pipe());
            }
        }
    }

    /// Something is in the pipe that a stream reads next.
    fn turn_to_next(&mut self, key: u64) {
        if (0..CLOSING).any(|_| self.turn(key) == 0) {
            self.leave_for_next(key);
        }
    }

    /// Goes on with the next pipe of a stream, if there is one and what was said before is written.
    fn leave_for_next(&mut self, key: u64) {
        if self.streams.get(&key).is_some_and(|stream| stream.stuck.is_none() && !stream.next.is_empty()) {
            self.ended(key);
        }
    }

    /// Tries what failed again, if it is time.
    fn try_again(&mut self, now: Moment) {
        let due = self.streams.iter().filter(|(_, stream)| stream.again().is_some_and(|at| at <= now));
        let due: Vec<(u64, bool)> = due.map(|(key, stream)| (*key, stream.stuck.is_some())).collect();
        for (key, stuck) in due {
            if stuck {
                self.retry(key);
            } else {
                self.turn(key);
            }
        }
    }

    fn retry(&mut self, key: u64) {
        let Some(mut stream) = self.streams.remove(&key) else { return };
        if let Sink::Waits(tap) = stream.sink {
            let opened = open(&tap, &stream.route, &self.spools, &mut self.work);
            tap.leave_unserved(opened.is_err());
            stream.sink = match opened {
                Ok(feed) => Sink::File(feed),
                Err(why) => {
                    stream.trouble.failed(format!("logging {}: opening {why}; it is tried again", stream.name));
                    stream.stuck = Some(clock::moment().plus(RETRY));
                    Sink::Waits(tap)
                }
            };
        }
        if !matches!(stream.sink, Sink::Waits(_)) {
            stream.stuck = None;
            let _ = self.epoll.add(stream.pipe(), key);
            stream.leave_next_unserved(false);
            if let Some((_, next)) = stream.next.front() {
                let _ = self.epoll.add(next.pipe(), key | NEXT);
            }
        }
        self.streams.insert(key, stream);
        if self.streams.get(&key).is_some_and(|stream| stream.stuck.is_none()) {
            self.turn(key);
        }
    }

    /// Takes one batch of a stream; says how much that was.
    fn turn(&mut self, key: u64) -> usize {
        let Some(stream) = self.streams.get_mut(&key).filter(|stream| stream.stuck.is_none()) else { return 0 };
        let turn = match &mut stream.sink {
            Sink::File(feed) => {
                let turn = feed.turn(&mut self.work);
                stream.owing = feed.owes_a_word().then(|| clock::moment().plus(RETRY));
                match feed.follow_directory(Place::At(&self.spools)) {
                    Ok(()) => turn,
                    Err(error) => Turn::Stuck(error),
                }
            }
            Sink::Shown(echo) => echo.turn(&mut self.work),
            Sink::Waits(_) => Turn::Nothing,
        };
        match turn {
            Turn::Took(count) => {
                stream.trouble.worked(&format!("logging {}: it works again", stream.name));
                if count >= PLENTY && !std::mem::replace(&mut stream.large, true) {
                    let _ = pipe::enlarge(stream.pipe(), LARGE);
                }
                count
            }
            Turn::Nothing => {
                if stream.closing && stream.next.is_empty() {
                    self.leave(key);
                }
                0
            }
            Turn::End => {
                self.ended(key);
                0
            }
            Turn::Stuck(error) => {
                self.stick(key, &error);
                0
            }
        }
    }

    /// The disk does not take what there is: nothing more is taken, and the program waits once its pipe is full.
    fn stick(&mut self, key: u64, error: &io::Error) {
        if let Some(stream) = self.streams.get_mut(&key) {
            let line =
                format!("logging {}: writing {}: {}; it is tried again", stream.name, stream.place(), plain(error));
            stream.trouble.failed(line);
            stream.stuck = Some(clock::moment().plus(RETRY));
            self.epoll.remove(stream.pipe());
            // Its program does not wait for what another one has said, unless it is to.
            stream.leave_next_unserved(true);
            if let Some((_, next)) = stream.next.front() {
                self.epoll.remove(next.pipe());
            }
        }
    }

    /// Nobody writes into its pipe any more, nor will.
    fn ended(&mut self, key: u64) {
        let Some(mut stream) = self.streams.remove(&key) else { return };
        if let Sink::File(feed) = &mut stream.sink
            && let Err(error) = feed.end_line(&mut self.work)
        {
            self.streams.insert(key, stream);
            return self.stick(key, &error);
        }
        self.epoll.remove(stream.pipe());
        if let Sink::File(feed) = &stream.sink {
            self.spools.remove(feed.directory());
        }
        let Stream { name, sink, next, .. } = stream;
        // The lock of its directory is free before it is taken again.
        drop(sink);
        next.iter().take(1).for_each(|(_, tap)| self.epoll.remove(tap.pipe()));
        for (route, tap) in next {
            tap.leave_unserved(false);
            self.open(name.clone(), route, tap);
        }
    }

    /// Keeps what a program said last, before the next one says more.
    fn died(&mut self, name: &ModuleName, pid: Pid, at: Wall, reach: Reach) {
        let Some(key) = self.find(name) else { return };
        // What it said is in the pipe by now, and mostly in the log.
        let _ = (0..CLOSING).find(|_| self.turn(key) == 0);
        let Some(Stream { sink, route, .. }) = self.streams.get(&key) else { return };
        let until = match reach {
            Reach::Read => at.plus(IN_TIME),
            Reach::Unread => at.plus(LATE),
            Reach::End => Wall { seconds: i64::MAX, nanos: 0 },
        };
        let last_lines = match sink {
            Sink::File(feed) => {
                let lines = last_lines(feed.path(), route.keeping.timestamps, LINES, until);
                lines.iter().map(|line| kept(line)).collect()
            }
            Sink::Shown(echo) => echo.last_lines(until).into_iter().map(kept).collect(),
            Sink::Waits(_) => return,
        };
        let death = Death { pid: pid.get(), at: at.rfc3339(), last_lines };
        // Its status directory may be gone; and where there is no room, others say so.
        let _ = remember(&self.status, name, death);
    }

    fn rotate(&mut self) {
        for stream in self.streams.values_mut() {
            if let Sink::File(feed) = &mut stream.sink {
                // What fails is tried again with the next line.
                let _ = feed.rotate_soon();
            }
        }
    }

    /// Takes what is in the pipes, as far as the disks take it.
    fn finish(&mut self) {
        let deadline = clock::moment().plus(FINISH);
        let mut more = true;
        while std::mem::take(&mut more) && clock::moment() < deadline {
            for key in self.streams.keys().copied().collect::<Vec<_>>() {
                let took = self.turn(key) > 0;
                if !took {
                    self.leave_for_next(key);
                }
                // What came after it is a stream of its own now.
                more |= took || !self.streams.contains_key(&key);
            }
        }
        for stream in self.streams.values_mut() {
            match &mut stream.sink {
                Sink::Shown(echo) => echo.end_line(&mut self.work),
                // It is written by whoever logs there next.
                Sink::File(feed) if stream.stuck.is_some() => {
                    if let Err(error) = feed.keep_rest() {
                        line(&format!("logging {}: keeping what was not written: {}", stream.name, plain(&error)));
                    }
                }
                Sink::File(_) | Sink::Waits(_) => {}
            }
        }
    }
}

/// Marks the pipe that a stream reads next.
const NEXT: u64 = 1 << 63;

/// What the inbox is called among the streams.
const MAIL: u64 = 0;

impl Stream {
    /// When something is to be tried again.
    fn again(&self) -> Option<Moment> {
        self.stuck.or(self.owing)
    }

    fn leave_next_unserved(&self, unserved: bool) {
        self.next.iter().for_each(|(_, next)| next.leave_unserved(unserved));
    }

    fn is_unserved(&self) -> bool {
        matches!(&self.sink, Sink::Waits(tap) if tap.is_unserved())
            || self.next.iter().any(|(_, next)| next.is_unserved())
    }

    fn pipe(&self) -> BorrowedFd<'_> {
        match &self.sink {
            Sink::File(feed) => feed.pipe(),
            Sink::Shown(echo) => echo.pipe(),
            Sink::Waits(tap) => tap.pipe(),
        }
    }

    fn place(&self) -> std::path::Display<'_> {
        match &self.sink {
            Sink::File(feed) => feed.path().display(),
            Sink::Shown(_) | Sink::Waits(_) => Path::new("standard output").display(),
        }
    }
}

/// Opens the log of a route.
fn open(tap: &Arc<Tap>, route: &Route, spools: &Spools, work: &mut Work) -> Result<Box<Feed>, NotOpened> {
    let path = PathBuf::from(OsString::from_vec(unescaped(&route.directory)));
    let place = Place::At(spools);
    Feed::open(Arc::clone(tap), &path, Duration::ZERO, place, route.keeping, route.full, work).map(Box::new)
}
