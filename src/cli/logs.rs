//! `svtree logs`: what modules wrote, merged by time, with what comes if it is asked for.
//!
//! Reads files alone, so it works without svtree, and of modules that are gone. Must never hold a log in memory.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, BufWriter, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use glob::{MatchOptions, Pattern};
use jiff::tz::TimeZone;
use regex_lite::Regex;

use super::names;
use super::out;
use super::roots::Roots;
use crate::pure::config::parse_duration;
use crate::pure::log::{Route, name, told};
use crate::pure::name::{ModuleName, printable, unescaped};
use crate::pure::time::Wall;
use crate::unix::client::{self, Watcher};
use crate::unix::clock;
use crate::unix::home::file;
use crate::unix::log::{BESIDE, Reader};

/// What `svtree logs` takes.
#[derive(Args, Clone, Debug)]
pub struct LogsArgs {
    /// Names or patterns of modules, also of those that are gone; all of them if there are none
    #[arg(value_name = "NAME")]
    names: Vec<OsString>,
    /// Go on with what comes
    #[arg(short, long)]
    follow: bool,
    /// No more than the last LINES [default with --follow: 10]
    #[arg(short = 'n', long, value_name = "LINES")]
    lines: Option<usize>,
    /// Nothing before TIME: such as 10m (ago), 2026-11-22T10:00:00Z, or 2026-11-22 10:00 (here)
    #[arg(long, value_name = "TIME", value_parser = since)]
    since: Option<Since>,
    /// Only lines that match RE
    #[arg(long, value_name = "RE", value_parser = Regex::new)]
    grep: Option<Regex>,
}

/// A point in time, as it was typed.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Since {
    Ago(Duration),
    At(Wall),
}

impl Since {
    fn wall(self, now: Wall) -> Wall {
        match self {
            Since::At(wall) => wall,
            Since::Ago(ago) => {
                let seconds = i64::try_from(ago.as_secs()).unwrap_or(i64::MAX);
                Wall { seconds: now.seconds.saturating_sub(seconds), ..now }
            }
        }
    }
}

fn since(text: &str) -> Result<Since, String> {
    if let Ok(ago) = parse_duration(text) {
        return Ok(Since::Ago(ago));
    }
    if let Some(wall) = Wall::from_rfc3339(text) {
        return Ok(Since::At(wall));
    }
    let local = text.parse::<jiff::civil::DateTime>().ok().and_then(|time| time.to_zoned(TimeZone::system()).ok());
    local
        .map(|zoned| Since::At(Wall { seconds: zoned.timestamp().as_second(), nanos: 0 }))
        .ok_or_else(|| "expected a time such as 10m (ago), 2026-11-22T10:00:00Z or 2026-11-22 10:00".to_owned())
}

/// One log that is read.
struct Log {
    /// What its lines begin with.
    label: Vec<u8>,
    directory: PathBuf,
    reader: Reader,
    /// When its last line was written.
    at: Wall,
}

impl Log {
    /// The next line and when it was written; one without a stamp was written when the one before it was.
    fn next(&mut self) -> Option<(Wall, Vec<u8>)> {
        let line = self.reader.line()?;
        self.at = told(&line).unwrap_or(self.at);
        Some((self.at, line))
    }
}

/// Shows them.
#[must_use]
pub fn run(args: &LogsArgs, roots: &Roots) -> u8 {
    let (found, wrong) = select(&args.names, roots);
    for (word, why) in &wrong {
        out::complain("svtree", format!("logs {word}: {why}"));
    }
    if found.is_empty() && !(args.follow && wrong.is_empty()) {
        return if wrong.is_empty() { out::DONE } else { out::FAILED };
    }
    let alone = found.len() == 1 && args.names.len() == 1;
    let mut shown = Shown { args, since: args.since.map(|since| since.wall(clock::wall())), alone, logs: Vec::new() };
    // Watched before they are read, so that nothing comes in between.
    let watcher = if args.follow { Some(Watcher::new()) } else { None };
    let watcher = match watcher.transpose() {
        Ok(watcher) => watcher,
        Err(error) => {
            out::complain("svtree", format!("logs: following: {}", out::cause(&error)));
            return out::FAILED;
        }
    };
    for (name, directory) in found {
        shown.add(&name, directory, watcher.as_ref());
    }
    let shown_all = shown.past().and_then(|()| match &watcher {
        Some(watcher) => shown.follow(watcher, roots),
        None => Ok(()),
    });
    match shown_all {
        Ok(()) if wrong.is_empty() => out::DONE,
        Ok(()) => out::FAILED,
        // The reader has what it wanted.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => out::DONE,
        Err(error) => {
            out::complain("svtree", format!("logs: {}", out::cause(&error)));
            out::FAILED
        }
    }
}

struct Shown<'a> {
    args: &'a LogsArgs,
    since: Option<Wall>,
    /// There is one log, and nobody has to be told whose lines they are.
    alone: bool,
    logs: Vec<Log>,
}

impl Shown<'_> {
    fn add(&mut self, module: &ModuleName, directory: PathBuf, watcher: Option<&Watcher>) {
        if let Some(watcher) = watcher {
            // One that cannot be watched is read as far as it is there.
            let _ = watcher.add_log(&directory);
        }
        let mut reader = Reader::open(&directory);
        if let Some(since) = self.since {
            reader.skip_to(&name(since, std::iter::empty()));
        }
        if let (Some(lines), None) = (self.lines(), &self.args.grep) {
            reader.skip_to_last(lines);
        }
        let label = if self.alone { Vec::new() } else { format!("{module}: ").into_bytes() };
        self.logs.push(Log { label, directory, reader, at: Wall::default() });
    }

    fn lines(&self) -> Option<usize> {
        self.args.lines.or(self.args.follow.then_some(10))
    }

    fn wants(&self, at: Wall, line: &[u8]) -> bool {
        self.since.is_none_or(|since| at >= since) && matches(self.args.grep.as_ref(), line)
    }

    /// Shows what is there, merged by time.
    fn past(&mut self) -> io::Result<()> {
        let mut out = BufWriter::with_capacity(64 * 1024, io::stdout().lock());
        let mut last = self.lines().map(|lines| (lines, VecDeque::with_capacity(lines.min(1024))));
        let mut next = BinaryHeap::new();
        for (index, log) in self.logs.iter_mut().enumerate() {
            next.extend(log.next().map(|(at, line)| Reverse((at, index, line))));
        }
        while let Some(Reverse((at, index, line))) = next.pop() {
            if self.wants(at, &line) {
                match &mut last {
                    Some((0, _)) => {}
                    Some((lines, kept)) => {
                        if kept.len() == *lines {
                            kept.pop_front();
                        }
                        kept.push_back((index, line));
                    }
                    None => write_line(&mut out, &self.logs[index].label, &line)?,
                }
            }
            next.extend(self.logs[index].next().map(|(at, line)| Reverse((at, index, line))));
        }
        for (index, line) in last.map(|(_, kept)| kept).unwrap_or_default() {
            write_line(&mut out, &self.logs[index].label, &line)?;
        }
        if !self.args.follow {
            // What has been written of a line that has not ended.
            for log in &mut self.logs {
                if let Some(line) = log.reader.rest()
                    && self.args.lines != Some(0)
                    && matches(self.args.grep.as_ref(), &line)
                {
                    write_line(&mut out, &log.label, &line)?;
                }
            }
        }
        out.flush()
    }

    /// Shows what comes, until nobody reads it.
    fn follow(&mut self, watcher: &Watcher, roots: &Roots) -> io::Result<()> {
        loop {
            // Logs that are to come are looked for where they would be; watched first, so that none is missed.
            let mut look = vec![roots.logs.clone()];
            while let Some(directory) = look.pop() {
                let _ = watcher.add_log(&directory);
                let entries = fs::read_dir(&directory).into_iter().flatten().flatten();
                look.extend(
                    entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path()),
                );
            }
            let (found, _) = select(&self.args.names, roots);
            for (name, directory) in found {
                if self.logs.iter().all(|log| log.directory != directory) {
                    self.alone = false;
                    self.add(&name, directory, Some(watcher));
                }
            }
            let mut lines = Vec::new();
            for (index, log) in self.logs.iter_mut().enumerate() {
                loop {
                    lines.extend(std::iter::from_fn(|| log.next()).map(|(at, line)| (at, index, line)));
                    log.reader.look();
                    match log.next() {
                        Some((at, line)) => lines.push((at, index, line)),
                        None => break,
                    }
                }
            }
            lines.sort_by_key(|(at, index, _)| (*at, *index));
            let mut out = BufWriter::new(io::stdout().lock());
            for (at, index, line) in lines {
                if self.wants(at, &line) {
                    write_line(&mut out, &self.logs[index].label, &line)?;
                }
            }
            out.flush()?;
            drop(out);
            watcher.wait_any()?;
        }
    }
}

fn write_line(out: &mut impl Write, label: &[u8], line: &[u8]) -> io::Result<()> {
    out.write_all(label)?;
    out.write_all(line)?;
    out.write_all(b"\n")
}

/// Logs with the names of their modules.
type Found = Vec<(ModuleName, PathBuf)>;

/// The logs that these words mean, with the names of their modules; and what was typed in vain.
fn select(typed: &[OsString], roots: &Roots) -> (Found, Vec<(String, String)>) {
    let all = all(roots);
    if typed.is_empty() {
        return (all, Vec::new());
    }
    let (mut found, mut wrong) = (Found::new(), Vec::new());
    for word in typed {
        let meant: Vec<_> = all.iter().filter(|(name, _)| means(word, name)).cloned().collect();
        if meant.is_empty() {
            wrong.push((printable(word.as_bytes()), format!("no log of it in {}", roots.logs.display())));
        }
        found.extend(
            meant.into_iter().filter(|(name, _)| !found.iter().any(|(other, _)| other == name)).collect::<Vec<_>>(),
        );
    }
    (found, wrong)
}

fn means(word: &OsStr, module: &ModuleName) -> bool {
    let options = MatchOptions { require_literal_separator: true, ..MatchOptions::new() };
    if let Some(name) = names::name(word)
        && (name == *module || module.instance_of().is_some_and(|(of, _)| of == name))
    {
        return true;
    }
    let pattern = word.to_str().and_then(|word| Pattern::new(word).ok());
    pattern.is_some_and(|pattern| pattern.matches_path_with(Path::new(module.as_os_str()), options))
}

/// Every log there is: below the log root, where modules say that theirs are, and beside a `log/run`.
fn all(roots: &Roots) -> Found {
    let mut found = Vec::new();
    let mut look = vec![(roots.logs.clone(), None::<ModuleName>)];
    while let Some((directory, above)) = look.pop() {
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            let component = entry.file_name();
            let name = match &above {
                None => ModuleName::new(component.as_bytes()),
                Some(above) => above.join(component.as_bytes()),
            };
            if let Ok(name) = name
                && entry.path().is_dir()
            {
                if Reader::is_log(&entry.path()) {
                    found.push((name.clone(), entry.path()));
                }
                look.push((entry.path(), Some(name)));
            }
        }
    }
    for home in client::homes(&roots.status).0 {
        let Ok(name) = ModuleName::new(home.as_os_str().as_bytes()) else { continue };
        let route =
            client::read(&roots.status.join(&home).join(file::ROUTE)).ok().and_then(|bytes| Route::decode(&bytes));
        let told = route.map(|route| PathBuf::from(OsString::from_vec(unescaped(&route.directory))));
        let beside = roots.services.join(&home).join(BESIDE);
        for directory in told.into_iter().chain([beside]) {
            if Reader::is_log(&directory) && !found.iter().any(|(known, _)| *known == name) {
                found.push((name.clone(), directory));
            }
        }
    }
    found.sort();
    found
}

/// Whether `--grep` lets a line through; a byte that is not UTF-8 is any character.
fn matches(grep: Option<&Regex>, line: &[u8]) -> bool {
    grep.is_none_or(|grep| grep.is_match(&String::from_utf8_lossy(line)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_that_are_meant() {
        assert_eq!(since("10m"), Ok(Since::Ago(Duration::from_mins(10))));
        assert_eq!(since("1970-01-01T00:01:00Z"), Ok(Since::At(Wall { seconds: 60, nanos: 0 })));
        assert!(
            matches!(since("2026-11-22 10:00"), Ok(Since::At(_))) && matches!(since("2026-11-22"), Ok(Since::At(_)))
        );
        assert!(since("yesterday").is_err());
        let now = Wall { seconds: 100, nanos: 5 };
        assert_eq!(Since::Ago(Duration::from_secs(40)).wall(now), Wall { seconds: 60, nanos: 5 });
    }
}
