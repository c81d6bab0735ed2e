//! The note at the head of what was taken from a pipe: how much of it is in the log already.
//!
//! A byte is in the pipe, or behind this note, or in the log. The kernel moves it from the first to the second in one
//! call; how much of the second is in the third is told by the length of the current file. So a logger may be killed
//! between any two instructions. Must never depend on what the bytes are.

use super::stamp::Timestamps;

/// The length of a note, in bytes; what was taken stands behind it.
pub const HEADER: usize = 64;

/// What every note begins with; the last byte is its version.
const MAGIC: [u8; 8] = *b"svspool\x01";

/// What stands before the bytes that were taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Note {
    /// How the lines are stamped.
    pub timestamps: Timestamps,
    /// So many bytes of the line in which it begins were written before.
    pub column: usize,
    /// So much of what the bytes become is in files that have ended,
    pub skip: u64,
    /// and the rest begins here in the current one.
    pub origin: u64,
    /// Lines that were dropped and not told of yet.
    pub dropped: u64,
    /// What comes belongs to a line that was dropped.
    pub dropping: bool,
    /// Which pipe it came from: device and inode.
    pub pipe: [u64; 2],
}

impl Note {
    /// While another file is being made the current one is none that anything is in.
    pub const NOWHERE: u64 = u64::MAX;

    /// How much of what the bytes become has been written, when the current file has `size` bytes.
    #[must_use]
    pub fn written(&self, size: u64) -> u64 {
        // A shorter one is another one.
        self.skip.saturating_add(size.saturating_sub(self.origin))
    }

    /// The bytes of the note.
    #[must_use]
    pub fn encode(&self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8] = match self.timestamps {
            Timestamps::Iso => 0,
            Timestamps::Tai64n => 1,
            Timestamps::None => 2,
        };
        bytes[9] = u8::from(self.dropping);
        let column = u64::try_from(self.column).unwrap_or(u64::MAX);
        let words = [column, self.skip, self.origin, self.dropped, self.pipe[0], self.pipe[1]];
        for (place, word) in bytes[16..].chunks_exact_mut(8).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    /// Reads one; `None` for anything else.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Note> {
        let bytes = bytes.get(..HEADER).filter(|bytes| bytes.starts_with(&MAGIC))?;
        let timestamps = match bytes[8] {
            0 => Timestamps::Iso,
            1 => Timestamps::Tai64n,
            2 => Timestamps::None,
            _ => return None,
        };
        let word = |index: usize| {
            let word = bytes[16..].chunks_exact(8).nth(index).and_then(|word| word.try_into().ok());
            word.map_or(0, u64::from_le_bytes)
        };
        Some(Note {
            timestamps,
            dropping: bytes[9] != 0,
            column: usize::try_from(word(0)).ok()?,
            skip: word(1),
            origin: word(2),
            dropped: word(3),
            pipe: [word(4), word(5)],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_comes_back_and_nothing_else_is_one() {
        let note = Note {
            timestamps: Timestamps::None,
            column: 3,
            skip: 5,
            origin: Note::NOWHERE,
            dropped: 7,
            dropping: true,
            pipe: [8, 9],
        };
        assert_eq!(Note::decode(&note.encode()), Some(note));
        assert_eq!(Note::decode(&note.encode()[..63]), None);
        assert_eq!(Note::decode(&[0; HEADER]), None);
    }

    #[test]
    fn the_length_of_the_current_file_tells_what_is_written() {
        let note = Note { skip: 100, origin: 1000, ..Note::default() };
        assert_eq!((note.written(1000), note.written(1010)), (100, 110));
        // Another file has begun since.
        assert_eq!((note.written(0), note.written(999)), (100, 100));
        assert_eq!(Note { origin: Note::NOWHERE, ..note }.written(5000), 100);
    }
}
