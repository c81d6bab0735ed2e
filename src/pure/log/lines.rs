//! Bytes of a program to lines of a log: each with its stamp, and none without end.
//!
//! What comes out depends on nothing but what came in, however it was parted, and its length not on the stamp: so a
//! successor can tell from the length of a file what is in it. Must never look at what a line says.

use memchr::memchr;

/// A longer line is cut, in bytes.
pub const LONGEST: usize = 64 * 1024;

/// What stands at the end of a line that was cut; the rest follows as a line of its own.
pub const MARK: &[u8] = b" [cut]\n";

/// Where in a line the stream is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lines {
    column: usize,
}

impl Lines {
    /// In a line of which so many bytes have come.
    #[must_use]
    pub fn at(column: usize) -> Lines {
        Lines { column: column.min(LONGEST) }
    }

    /// The bytes of the line that has not ended; 0 between two lines.
    #[must_use]
    pub fn column(&self) -> usize {
        self.column
    }

    /// Appends what `raw` becomes.
    pub fn add(&mut self, mut raw: &[u8], stamp: &[u8], out: &mut Vec<u8>) {
        // What lines of usual length take; empty ones take more, and get it.
        out.reserve(raw.len() + raw.len() / 2 + stamp.len());
        while let Some(first) = raw.first() {
            let room = LONGEST - self.column;
            if room == 0 && *first != b'\n' {
                out.extend_from_slice(MARK);
                self.column = 0;
                continue;
            }
            if self.column == 0 {
                out.extend_from_slice(stamp);
            }
            let end = memchr(b'\n', raw);
            let (part, rest) = match end {
                Some(end) if end <= room => raw.split_at(end + 1),
                Some(_) | None => raw.split_at(raw.len().min(room)),
            };
            out.extend_from_slice(part);
            self.column = if part.ends_with(b"\n") { 0 } else { self.column + part.len() };
            raw = rest;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn whole(raw: &[u8], stamp: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        Lines::default().add(raw, stamp, &mut out);
        out
    }

    #[test]
    fn each_line_has_a_stamp_and_bytes_stay_what_they_are() {
        assert_eq!(whole(b"a\n\nb\0\xff\nc", b"@ "), b"@ a\n@ \n@ b\0\xff\n@ c");
        assert_eq!(whole(b"", b"@ "), b"");
        assert_eq!(whole(b"a\nb", b""), b"a\nb");
    }

    #[test]
    fn a_line_without_end_is_cut_and_marked_and_one_that_just_fits_is_not() {
        let line = |length| vec![b'x'; length];
        let fits = [line(LONGEST), b"\ny\n".to_vec()].concat();
        assert_eq!(whole(&fits, b""), fits);
        assert_eq!(
            whole(&[line(LONGEST + 1), b"\n".to_vec()].concat(), b"@ "),
            [b"@ ".to_vec(), line(LONGEST), MARK.to_vec(), b"@ x\n".to_vec()].concat()
        );
        assert_eq!(whole(&line(3 * LONGEST), b"").len(), 3 * LONGEST + 2 * MARK.len());
    }

    proptest! {
        #[test]
        fn it_does_not_matter_how_the_bytes_are_parted(
            lines in prop::collection::vec((0_usize..200_000, any::<u8>()), 0..6),
            cuts in prop::collection::vec(0_usize..400_000, 0..8),
        ) {
            let raw: Vec<u8> = lines.iter().flat_map(|(length, byte)| {
                std::iter::repeat_n(*byte, *length % 70_000).chain([b'\n'])
            }).collect();
            let mut out = Vec::new();
            let mut state = Lines::default();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(raw.len())).chain([0, raw.len()]).collect();
            cuts.sort_unstable();
            for pair in cuts.windows(2) {
                state.add(&raw[pair[0]..pair[1]], b"stamp ", &mut out);
            }
            prop_assert_eq!(&out, &whole(&raw, b"stamp "));
            prop_assert_eq!(out.len(), whole(&raw, b"other ").len());
        }
    }
}
