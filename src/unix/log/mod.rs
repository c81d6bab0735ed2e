//! The directory of one log, and what stands between it and a pipe.
//!
//! Must never decide when a file ends or what is dropped.

/// Where the logger of a `log/run` writes in the family's examples, from the directory of its module on.
pub const BESIDE: &str = "log/main";

mod directory;
mod last;
mod nudge;
mod reader;
mod spool;
mod spools;
mod syncer;

pub use directory::{Directory, NotOpened};
pub use last::{last_lines, last_stamped};
pub use nudge::{Nudge, Nudges, Reach, nudge, output, remember, routed, unremembered};
pub use reader::Reader;
pub use spool::{Spool, identity, waiting};
pub use spools::Spools;
pub use syncer::Syncer;
