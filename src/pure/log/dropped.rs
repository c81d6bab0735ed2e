//! What was dropped of a stream of lines: how many, and whether the stream stands within one of them.
//!
//! Must never decide that something is dropped.

use memchr::{memchr, memchr_iter};

/// Lines that were dropped and not told of yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    /// So many, the one that has not ended included.
    pub lines: u64,
    /// What comes belongs to a line that was dropped.
    pub within: bool,
}

impl Dropped {
    /// These bytes are dropped.
    pub fn add(&mut self, raw: &[u8]) {
        let raw = self.skip(raw);
        self.lines += memchr_iter(b'\n', raw).count() as u64;
        if !raw.is_empty() && !raw.ends_with(b"\n") {
            self.lines += 1;
            self.within = true;
        }
    }

    /// What of these bytes follows the line of which the beginning was dropped.
    pub fn skip<'a>(&mut self, raw: &'a [u8]) -> &'a [u8] {
        match (self.within, memchr(b'\n', raw)) {
            (false, _) => raw,
            (true, None) => &[],
            (true, Some(end)) => {
                self.within = false;
                &raw[end + 1..]
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_rest_of_a_line_of_which_the_beginning_was_dropped_goes_as_well() {
        let mut dropped = Dropped::default();
        dropped.add(b"one\ntw");
        assert_eq!(dropped, Dropped { lines: 2, within: true });
        assert_eq!(dropped.skip(b"o"), b"");
        assert_eq!(dropped.skip(b"\nthree\n"), b"three\n");
        assert_eq!(dropped, Dropped { lines: 2, within: false });
    }

    proptest! {
        #[test]
        fn the_count_does_not_depend_on_how_the_bytes_are_parted(
            raw in prop::collection::vec(prop::sample::select(vec![b'a', b'\n']), 0..60),
            cut in 0_usize..60,
        ) {
            let (first, rest) = raw.split_at(cut.min(raw.len()));
            let (mut whole, mut parted) = (Dropped::default(), Dropped::default());
            whole.add(&raw);
            parted.add(first);
            parted.add(rest);
            prop_assert_eq!(whole, parted);
        }
    }
}
