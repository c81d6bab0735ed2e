//! The directory of one log, and what stands between it and a pipe.
//!
//! Must never decide when a file ends or what is dropped.

mod directory;
mod spool;

pub use directory::{Directory, NotOpened};
pub use spool::{Spool, identity, waiting};
