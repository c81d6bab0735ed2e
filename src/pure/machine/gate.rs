//! Whether the program may be started, by the word of the tree that the module stands in.
//!
//! What a gate holds back is wanted and waits in `Phase::Held`. Must never stop what runs, but where the word says so.

use super::{Action, Cause, Machine, Phase, Verdict};
use crate::pure::standing::Gate;
use crate::pure::status::Want;
use crate::pure::time::{Moment, Stamp};

/// What a module waits for whose one start was made.
const AGAIN: &str = "its group decides when it is started again";

impl Machine {
    /// The word that it begins with; before `Begin` or `Adopted`.
    pub fn stand_before(&mut self, gate: Gate) {
        self.gate = gate;
    }

    /// The word that holds.
    #[must_use]
    pub fn gate(&self) -> &Gate {
        &self.gate
    }

    /// What a predecessor left meets the word that it begins with as if that had come later.
    pub(super) fn meet_gate(&mut self, now: Stamp, actions: &mut Vec<Action>) {
        let gate = self.gate.clone();
        self.gated(now, gate, actions);
    }

    pub(super) fn gated(&mut self, now: Stamp, gate: Gate, actions: &mut Vec<Action>) {
        self.gate = gate;
        match (&self.gate, &self.phase) {
            (Gate::Open | Gate::Once, Phase::Held) => self.start(now, actions),
            (Gate::Once, Phase::Up { .. }) => self.use_up(),
            (Gate::Stop(why) | Gate::Fail(why), Phase::Up { .. }) => {
                self.told = true;
                self.reason = Some(why.clone());
                self.cause = Cause::Tree;
                self.stop(now, self.stop.timeout, actions);
            }
            (Gate::Fail(why), Phase::Waiting { .. } | Phase::Held) => {
                self.verdict = Verdict::GiveUp(why.clone());
                self.wait_or_rest(now, actions);
            }
            (Gate::Stop(_), Phase::Failed) if self.want == Want::Up => {
                self.history.forgive();
                self.phase = Phase::Held;
                self.leave_if_idle();
            }
            // What is on its way to its end meets the gate when it would be started.
            (Gate::Open | Gate::Once | Gate::Closed(_) | Gate::Stop(_) | Gate::Fail(_), _) => {}
        }
    }

    /// A start that was free is made, or the program runs already.
    pub(super) fn use_up(&mut self) {
        if self.gate == Gate::Once {
            self.gate = Gate::Closed(AGAIN.to_owned());
        }
    }

    /// What follows a stop that the tree asked for: a start, as soon as the gate lets it.
    pub(super) fn after_tree_stop(&self, now: Stamp) -> Verdict {
        match &self.gate {
            Gate::Fail(why) => Verdict::GiveUp(why.clone()),
            Gate::Open | Gate::Once | Gate::Closed(_) | Gate::Stop(_) => Verdict::Start(now.moment),
        }
    }

    /// It waits for its next start, if the tree has not given it up meanwhile.
    pub(super) fn wait_unless_failed(&mut self, until: Moment) -> Phase {
        match &self.gate {
            Gate::Fail(why) => {
                self.reason = Some(why.clone());
                Phase::Failed
            }
            Gate::Open | Gate::Once | Gate::Closed(_) | Gate::Stop(_) => Phase::Waiting { until },
        }
    }

    /// A letter asks for a start: what was given up waits again, for the tree to begin anew.
    pub(super) fn asked_in_spite(&mut self) {
        if let Gate::Fail(why) = &mut self.gate {
            self.gate = Gate::Closed(std::mem::take(why));
        }
    }

    /// Whether it may be started now; if it may not, it is held.
    pub(super) fn passes(&mut self, now: Stamp) -> bool {
        match &self.gate {
            Gate::Open => return true,
            Gate::Once => {
                self.use_up();
                return true;
            }
            Gate::Closed(_) | Gate::Stop(_) => self.phase = Phase::Held,
            Gate::Fail(why) => {
                self.reason = Some(why.clone());
                self.phase = Phase::Failed;
            }
        }
        self.asked = false;
        self.verdict = Verdict::Rest;
        if self.dead.is_some() {
            self.since = now;
        }
        self.leave_if_idle();
        false
    }

    /// Why it waits, while it is held.
    pub(super) fn held_for(&self) -> Option<&str> {
        match (&self.phase, &self.gate) {
            (Phase::Held, Gate::Closed(why) | Gate::Stop(why) | Gate::Fail(why)) => Some(why),
            (Phase::Held, Gate::Open | Gate::Once) => None,
            (Phase::Down | Phase::Failed | Phase::Waiting { .. } | Phase::Starting | Phase::Up { .. }, _) => None,
            (Phase::Stopping { .. } | Phase::Looking { .. } | Phase::Sweeping { .. }, _) => None,
            (Phase::StartingFinish | Phase::Finishing { .. } | Phase::Gone, _) => None,
        }
    }
}
