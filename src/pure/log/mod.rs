//! What a log is: stamps, lines, the names of its files, and when another file begins.
//!
//! All of it is independent of where the bytes come from. Must never read a clock or touch a file.

mod death;
mod dropped;
mod files;
mod lines;
mod note;
mod route;
mod stamp;
mod told;

use serde::{Deserialize, Serialize};

pub use self::death::{Death, LENGTH as KEPT, LINES, decode as deaths, kept, with as with_death};
pub use self::dropped::Dropped;
pub use self::files::{CURRENT, Piece, is_rotated, name, piece, surplus};
pub use self::lines::{LONGEST, Lines};
pub use self::note::{HEADER, Note};
pub use self::route::{Log, Route, To};
pub use self::stamp::{Stamper, Timestamps};
pub use self::told::told;

/// How a log is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Keeping {
    /// No file is longer, in bytes.
    pub max_size: u64,
    /// So many files are kept beside the one that is written.
    pub keep: u32,
    /// What stands before each line.
    pub timestamps: Timestamps,
}

/// What is done with lines that a disk does not take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Full {
    /// They wait, and their program with them.
    #[default]
    Wait,
    /// They are dropped and counted.
    Drop,
}

/// The verb by which svtree is the logger of a tree.
pub const TREE_LOGGER: &str = "log-tree";

/// A log with smaller files would be all rotation.
pub const LEAST_SIZE: u64 = 4096;

impl Default for Keeping {
    fn default() -> Keeping {
        Keeping { max_size: 16 << 20, keep: 10, timestamps: Timestamps::Iso }
    }
}

impl Keeping {
    /// So many bytes are taken from the pipe before they are written: fewer where the files are small.
    #[must_use]
    pub fn batch(&self) -> usize {
        usize::try_from(self.max_size / 4).unwrap_or(BATCH).clamp(1024, BATCH)
    }
}

/// What fills the second level of a processor's cache less than half, with what is made of it.
const BATCH: usize = 128 * 1024;
