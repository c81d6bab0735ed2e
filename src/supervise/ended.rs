//! Whether the program has ended for good, for the one module whose end is the end of all.
//!
//! Must never decide what follows.

use super::{Report, Supervise};
use crate::pure::exit::How;
use crate::pure::machine::Phase;
use crate::pure::state::ExitEntry;
use crate::unix::clock;

impl Supervise {
    /// Tells the parent that nothing runs and nothing will by itself: as long as it is so, since how the program ended
    /// may be learned later than that it did.
    pub(super) fn tell_end(&self) {
        let rests = matches!(self.machine.phase(), Phase::Down | Phase::Failed | Phase::Gone);
        // One that was never started, or not under this boot, has not ended.
        if self.task.ends_all && rests && self.machine.history().last_start.is_some() {
            let exits = self.machine.state(clock::stamp()).exits;
            let how = exits.first().and_then(ExitEntry::exit).map_or(How::Unknown, |exit| exit.how);
            self.report(Report::Ended(self.task.name.clone(), how));
        }
    }
}
