//! How the end of all begins, and the module whose own end it is: `--exit-with`.
//!
//! Must never end the tree for a module that is only being replaced.

use std::time::Duration;

use super::{Closing, Parent};
use crate::pure::exit::How;
use crate::pure::name::ModuleName;
use crate::pure::reconcile::Actual;
use crate::supervise::Mail;
use crate::unix::{clock, raw, report};

impl Parent {
    /// Says if that module is not there: it is waited for, but it may be a slip of the pen.
    pub(super) fn expect_last(&mut self) {
        if let Some(name) = &self.options.exit_with
            && self.wanted.module(name).is_none()
        {
            report::line(&format!("--exit-with {name}: no such module in {} yet", self.services.display()));
        }
    }

    /// It has ended for good; how may be learned later, and is told again then.
    pub(super) fn ended(&mut self, name: &ModuleName, how: How) {
        let replaced = matches!(self.actual.get(name), Some(Actual::Retiring(_))) && self.wanted.module(name).is_some();
        if self.closing.is_none() && !replaced {
            report::line(&format!("{name} {how}, and --exit-with names it: everything is stopped"));
            self.stop_all();
            self.code = Some(how.code());
        }
        // Told to end otherwise meanwhile, it ends as it would otherwise.
        if self.code.is_some() && how != How::Unknown {
            self.code = Some(how.code());
        }
    }

    /// Begins the end, in whatever way; returns how it had begun already.
    pub(super) fn close(&mut self, closing: Closing) -> Option<Closing> {
        raw::leave_stacks();
        self.closing.replace(closing)
    }

    /// Whether some are not told to end yet: those that others need, and loggers.
    pub(super) fn has_others_to_retire(&self) -> bool {
        self.actual.values().any(|actual| matches!(actual, Actual::Beginning(_) | Actual::Running(_)))
    }

    pub(super) fn stop_all(&mut self) {
        self.close(Closing::Stop(self.options.stop_within));
        self.closing_by = self.options.stop_within.map(|within| clock::moment().plus(within));
        self.inherit_to_stop();
        self.unwatch();
        if let Some(within) = self.options.stop_within {
            self.cap(within);
        }
    }

    /// Those that are on their way out already have no longer than the others.
    fn cap(&self, within: Duration) {
        for (name, thread) in &self.threads {
            if let Some(Actual::Retiring(_)) = self.actual.get(name) {
                let reads = thread.reads.is_some();
                thread.mailbox.send(if reads { Mail::Drain(Some(within)) } else { Mail::Retire(Some(within)) });
            }
        }
    }
}
