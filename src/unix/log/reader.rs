//! The lines of a log, the oldest first, over all of its files; and those that come.
//!
//! Must never change anything in it.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use memchr::memchr_iter;

use crate::pure::log::{CURRENT, is_rotated};

/// Reads a log.
#[derive(Debug)]
pub struct Reader {
    directory: PathBuf,
    /// Files that have ended, and are still to be read.
    ended: VecDeque<PathBuf>,
    /// The name of the last of them that was seen.
    last: Option<PathBuf>,
    /// The one that is read.
    file: Option<BufReader<File>>,
    /// The one that was the current one when that was looked at, read behind all of those.
    current: Option<File>,
    /// A line of which the end has not come.
    part: Vec<u8>,
}

impl Reader {
    /// The log in a directory, from its beginning.
    #[must_use]
    pub fn open(directory: &Path) -> Reader {
        let mut reader = Reader {
            directory: directory.to_owned(),
            ended: VecDeque::new(),
            last: None,
            file: None,
            current: None,
            part: Vec::new(),
        };
        reader.look();
        reader
    }

    /// Whether there is a log at all.
    #[must_use]
    pub fn is_log(directory: &Path) -> bool {
        directory.join(CURRENT).is_file() || !rotated(directory).is_empty()
    }

    /// Passes over files that ended before this name: older ones cannot hold what is looked for.
    pub fn skip_to(&mut self, name: &str) {
        self.ended.retain(|path| path.file_name().is_some_and(|ended| ended.as_bytes() >= name.as_bytes()));
    }

    /// Passes over files behind which there are so many lines anyway.
    pub fn skip_to_last(&mut self, lines: usize) {
        let mut behind = count(&self.directory.join(CURRENT));
        let mut kept = 0;
        while behind < lines
            && let Some(path) = self.ended.iter().rev().nth(kept)
        {
            behind += count(path);
            kept += 1;
        }
        self.ended.drain(..self.ended.len() - kept);
    }

    /// The next line, without its end; `None` if there is none yet.
    pub fn line(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(file) = &mut self.file {
                match file.read_until(b'\n', &mut self.part) {
                    Ok(1..) if self.part.ends_with(b"\n") => {
                        self.part.pop();
                        return Some(std::mem::take(&mut self.part));
                    }
                    Ok(_) | Err(_) => {}
                }
            }
            if let Some(path) = self.ended.pop_front() {
                self.file = File::open(path).ok().map(BufReader::new);
            } else if let Some(current) = self.current.take() {
                self.file = Some(BufReader::new(current));
            } else {
                return None;
            }
        }
    }

    /// The beginning of a line that has not ended.
    #[must_use]
    pub fn rest(&mut self) -> Option<Vec<u8>> {
        (!self.part.is_empty()).then(|| std::mem::take(&mut self.part))
    }

    /// Looks which files there are now. All that was known is to be read first.
    pub fn look(&mut self) {
        let id = |file: &File| file.metadata().ok().map(|file| (file.dev(), file.ino()));
        let path_id = |path: &Path| fs::metadata(path).ok().map(|file| (file.dev(), file.ino()));
        let reading = self.file.as_ref().and_then(|file| id(file.get_ref()));
        // First, so that one that ends meanwhile is found under its new name.
        let current = File::open(self.directory.join(CURRENT)).ok();
        let now = current.as_ref().and_then(id);
        if now.is_some() && now == reading {
            return;
        }
        let mut newer = rotated(&self.directory);
        newer.retain(|path| self.last.as_ref().is_none_or(|last| path > last));
        // It is read as the current one, and what is newer is found by the next look.
        if let Some(at) = newer.iter().position(|path| now.is_some() && path_id(path) == now) {
            newer.truncate(at);
        }
        if let Some(last) = newer.last() {
            self.last = Some(last.clone());
        }
        // The one that is read has a name of its own by now.
        if let Some(at) = newer.iter().position(|path| reading.is_some() && path_id(path) == reading) {
            newer.drain(..=at);
        }
        self.ended.extend(newer);
        self.current = current;
    }
}

fn count(path: &Path) -> usize {
    fs::read(path).map_or(0, |bytes| memchr_iter(b'\n', &bytes).count())
}

/// The files of a log that have ended, the oldest first.
pub(super) fn rotated(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = entries
        .map(|entry| entry.path())
        .filter(|path| path.file_name().is_some_and(|name| is_rotated(name.as_bytes())))
        .collect();
    found.sort();
    found
}
