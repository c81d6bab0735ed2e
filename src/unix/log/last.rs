//! The end of a log.
//!
//! Must never read more of it than that takes.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use memchr::memchr;

use super::reader::rotated;
use crate::pure::log::{CURRENT, Timestamps, told};
use crate::pure::time::Wall;

/// So much is read of a file.
const MOST: u64 = 64 * 1024;

/// The last lines that were written until then, the oldest first, without their stamps.
#[must_use]
pub fn last_lines(directory: &Path, timestamps: Timestamps, count: usize, until: Wall) -> Vec<Vec<u8>> {
    let mut lines = end(&directory.join(CURRENT));
    if lines.len() < count
        && let Some(before) = rotated(directory).last()
    {
        lines = [end(before), lines].concat();
    }
    // What was said later belongs to somebody else.
    let later = lines.iter().rposition(|line| told(line).is_some_and(|at| at <= until)).map_or(0, |last| last + 1);
    if timestamps != Timestamps::None {
        lines.truncate(later);
    }
    let first = lines.len().saturating_sub(count);
    lines.drain(first..).map(|line| line.get(timestamps.width()..).map(<[u8]>::to_vec).unwrap_or(line)).collect()
}

/// The last lines that were written until each of these times, of a log whose lines have stamps of any kind.
#[must_use]
pub fn last_stamped(directory: &Path, count: usize, until: &[Wall]) -> Vec<Vec<Vec<u8>>> {
    let before = rotated(directory).last().map(|before| end(before)).unwrap_or_default();
    let lines: Vec<Vec<u8>> = before.into_iter().chain(end(&directory.join(CURRENT))).collect();
    let said = |until: &Wall| {
        let last = lines.iter().rposition(|line| told(line).is_some_and(|at| at <= *until)).map_or(0, |last| last + 1);
        let unstamped = |line: &Vec<u8>| match told(line).and_then(|_| memchr(b' ', line)) {
            Some(blank) => line[blank + 1..].to_vec(),
            None => line.clone(),
        };
        lines[last.saturating_sub(count)..last].iter().map(unstamped).collect()
    };
    until.iter().map(said).collect()
}

/// The lines at the end of a file; the first of them is whole.
fn end(path: &Path) -> Vec<Vec<u8>> {
    let read = || {
        let file = File::open(path).ok()?;
        let size = file.metadata().ok()?.len();
        let from = size.saturating_sub(MOST);
        let mut bytes = vec![0; usize::try_from(size - from).ok()?];
        file.read_exact_at(&mut bytes, from).ok()?;
        Some((bytes, from))
    };
    let Some((bytes, from)) = read() else { return Vec::new() };
    let mut lines: Vec<Vec<u8>> = bytes.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
    if lines.last().is_some_and(Vec::is_empty) {
        lines.pop();
    }
    if from > 0 && !lines.is_empty() {
        lines.remove(0);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_over_two_files_and_nothing_later() {
        let dir = tempfile::tempdir().expect("a directory");
        let line = |second: u32| format!("2026-11-22T10:00:{second:02}.000000Z line {second}\n");
        let text = |range: std::ops::Range<u32>| range.map(line).collect::<Vec<_>>().concat();
        std::fs::write(dir.path().join("@400000000000000a00000000.s"), text(0..10)).expect("written");
        std::fs::write(dir.path().join(CURRENT), text(10..20)).expect("written");
        let last = |count, second: i64| {
            let until = Wall { seconds: 1_795_341_600 + second, nanos: 5 };
            let lines = last_lines(dir.path(), Timestamps::Iso, count, until);
            lines.into_iter().map(|line| String::from_utf8(line).expect("text")).collect::<Vec<_>>()
        };
        assert_eq!(last(3, 59), ["line 17", "line 18", "line 19"]);
        assert_eq!(last(13, 12), (0..13).map(|second| format!("line {second}")).collect::<Vec<_>>());
        assert_eq!(last(40, -1), [""; 0]);
        let at = |second: i64| Wall { seconds: 1_795_341_600 + second, nanos: 5 };
        let stamped = last_stamped(dir.path(), 2, &[at(59), at(10), at(-1)]);
        assert_eq!(stamped, [vec![&b"line 18"[..], b"line 19"], vec![b"line 9", b"line 10"], vec![]]);
        assert_eq!(last_lines(Path::new("/nowhere"), Timestamps::Iso, 40, Wall::default()), Vec::<Vec<u8>>::new());
    }
}
