//! The files of a log: their names, when another one begins, and which go.
//!
//! Must never rename or remove one.

use memchr::memrchr;

use super::stamp::label;
use crate::pure::time::Wall;

/// The file that is written.
pub const CURRENT: &str = "current";

/// What is done next with what is to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece {
    /// So many bytes of it go to the current file.
    Write(usize),
    /// Another file begins.
    Rotate,
}

/// A line that has not ended is put into another file when less than this is left behind it, in bytes: so it is seldom
/// parted between two.
const RESERVE: u64 = 2048;

/// What to do with `out`, of which something is left, when the current file has `size` bytes and may have `limit`;
/// `within` says that it ends within a line. A line goes whole into one file where that can be.
#[must_use]
pub fn piece(out: &[u8], size: u64, within: bool, limit: u64) -> Piece {
    let room = usize::try_from(limit.saturating_sub(size)).unwrap_or(usize::MAX);
    let tight =
        usize::try_from(limit.saturating_sub(size).saturating_sub(RESERVE.min(limit / 4))).unwrap_or(usize::MAX);
    let open = !out.ends_with(b"\n");
    if out.len() <= room && (!open || out.len() <= tight) {
        return Piece::Write(out.len());
    }
    let lines = memrchr(b'\n', &out[..out.len().min(room)]).map(|end| end + 1);
    match lines {
        Some(lines) => Piece::Write(lines),
        None if size > 0 && !within => Piece::Rotate,
        // It fits no file, or began in this one.
        None if room == 0 => Piece::Rotate,
        None => Piece::Write(out.len().min(room)),
    }
}

/// The name of a file that ends now, which sorts behind all that there are, also when the clock was set back.
#[must_use]
pub fn name<'a>(now: Wall, existing: impl Iterator<Item = &'a [u8]>) -> String {
    let mine = format!("@{:016x}{:08x}", label(now.seconds), now.nanos);
    let last = existing.filter(|name| is_rotated(name)).filter_map(|name| str::from_utf8(name.get(..25)?).ok()).max();
    match last {
        Some(last) if last >= mine.as_str() => {
            let number = u128::from_str_radix(&last[1..], 16).unwrap_or_default().saturating_add(1);
            format!("@{number:024x}.s")
        }
        Some(_) | None => mine + ".s",
    }
}

/// Whether a name is that of a file of a log that has ended: ours, or one of multilog, svlogd or s6-log.
#[must_use]
pub fn is_rotated(name: &[u8]) -> bool {
    let digit = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    match name {
        [b'@', rest @ ..] if rest.len() == 26 => {
            rest[..24].iter().all(digit) && matches!(rest[24..], [b'.', b's' | b'u'])
        }
        _ => false,
    }
}

/// The names of those that are too many, the oldest.
#[must_use]
pub fn surplus(mut names: Vec<Vec<u8>>, keep: u32) -> Vec<Vec<u8>> {
    names.retain(|name| is_rotated(name));
    names.sort_unstable();
    names.truncate(names.len().saturating_sub(usize::try_from(keep).unwrap_or(usize::MAX)));
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_line_goes_whole_into_one_file_where_that_can_be() {
        assert_eq!(piece(b"one\ntwo\n", 0, false, 100), Piece::Write(8));
        assert_eq!(piece(b"one\ntwo\n", 94, false, 100), Piece::Write(4));
        assert_eq!(piece(b"one\ntwo\n", 98, false, 100), Piece::Rotate);
        assert_eq!(piece(b"one\ntwo\n", 100, false, 100), Piece::Rotate);
        // The rest of a line that is in this file already.
        assert_eq!(piece(b"one\n", 98, true, 100), Piece::Write(2));
        assert_eq!(piece(b"ne\n", 100, true, 100), Piece::Rotate);
        // Longer than any file.
        assert_eq!(piece(&[b'x'; 300], 0, false, 100), Piece::Write(100));
        // A line that has not ended wants some room behind it.
        assert_eq!(piece(b"one\nt", 90, false, 100), Piece::Write(4));
        assert_eq!(piece(b"t", 94, false, 100), Piece::Rotate);
    }

    #[test]
    fn names_sort_by_age_also_when_the_clock_was_set_back() {
        let at = |seconds| Wall { seconds, nanos: 5 };
        assert_eq!(name(at(0), std::iter::empty()), "@400000000000000a00000005.s");
        let before: &[&[u8]] = &[b"@400000000000000b00000007.s", b"@4000000000000001ffffffff.u", b"current", b"@zz"];
        assert_eq!(name(at(0), before.iter().copied()), "@400000000000000b00000008.s");
        assert_eq!(name(at(9), before.iter().copied()), "@400000000000001300000005.s");
        assert!(is_rotated(b"@400000000000000a00000005.s") && !is_rotated(b"@400000000000000A00000005.s"));
    }

    #[test]
    fn the_oldest_go() {
        let names =
            ["@400000000000000c00000000.s", "current", "@400000000000000a00000000.s", "@400000000000000b00000000.u"];
        let names = || names.iter().map(|name| name.as_bytes().to_vec()).collect::<Vec<_>>();
        assert_eq!(surplus(names(), 2), [b"@400000000000000a00000000.s"]);
        assert_eq!(surplus(names(), 3), Vec::<Vec<u8>>::new());
        assert_eq!(surplus(names(), 0).len(), 3);
    }

    proptest! {
        #[test]
        fn no_file_is_longer_than_it_may_be_and_nothing_is_lost(
            parts in prop::collection::vec(prop::collection::vec(0_u8..12, 0..400), 0..20),
            limit in 1_u64..300,
        ) {
            let mut files = vec![Vec::new()];
            let (mut all, mut turns) = (Vec::new(), 0);
            for part in parts {
                let part: Vec<u8> = part.into_iter().map(|byte| if byte == 0 { b'\n' } else { b'a' + byte }).collect();
                all.extend_from_slice(&part);
                let mut rest = &part[..];
                while !rest.is_empty() {
                    turns += 1;
                    prop_assert!(turns < 100_000, "it goes on for ever");
                    let file = files.last_mut().expect("one");
                    let within = file.last().is_some_and(|byte| *byte != b'\n');
                    match piece(rest, file.len() as u64, within, limit) {
                        Piece::Write(count) => {
                            prop_assert!(count > 0);
                            file.extend_from_slice(&rest[..count]);
                            rest = &rest[count..];
                        }
                        Piece::Rotate => files.push(Vec::new()),
                    }
                    prop_assert!(files.last().expect("one").len() as u64 <= limit);
                }
            }
            prop_assert_eq!(files.concat(), all);
        }
    }
}
