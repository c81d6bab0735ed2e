//! What a module shows of itself: the 20-byte records, `state.json`, and when they say something new.
//!
//! Must never change the machine.

use super::{Machine, Phase, Readiness};
use crate::pure::exit::Pid;
use crate::pure::standing::{Gate, Stand, Standing};
use crate::pure::state::{ExitEntry, State, StateName};
use crate::pure::status::{Running, Status, Want};
use crate::pure::time::{Moment, Stamp};

/// Everything that the records show and that can change by itself.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Visible {
    status: Status,
    state: StateName,
    ready: bool,
    until: Option<Moment>,
    reason: Option<String>,
    mistake: Option<String>,
    exits_total: u64,
    starts: u64,
    changed: bool,
    enabled: bool,
    adopted: bool,
    followed: bool,
}

impl Machine {
    /// What the 20-byte records say.
    #[must_use]
    pub fn status(&self) -> Status {
        let (pid, running, paused) = match self.phase {
            Phase::Down | Phase::Failed | Phase::Waiting { .. } | Phase::Held | Phase::Gone => {
                (None, Running::Nothing, false)
            }
            Phase::Looking { .. } => (None, Running::Nothing, false),
            // Not visible between two turns of the loop: the dead program's record stands until it is replaced.
            Phase::Starting | Phase::StartingFinish => (self.dead, Running::Program, false),
            Phase::Up { pid, paused } | Phase::Stopping { pid, paused, .. } => (Some(pid), Running::Program, paused),
            Phase::Sweeping { pid: Some(pid), .. } => (Some(pid), Running::Program, false),
            Phase::Sweeping { pid: None, .. } => (None, Running::Nothing, false),
            Phase::Finishing { pid, .. } => (Some(pid), Running::Finish, false),
        };
        let term_sent = match self.phase {
            Phase::Stopping { .. } | Phase::Sweeping { .. } => true,
            Phase::Down | Phase::Failed | Phase::Waiting { .. } | Phase::Held | Phase::Starting | Phase::Up { .. } => {
                false
            }
            Phase::StartingFinish | Phase::Finishing { .. } | Phase::Looking { .. } | Phase::Gone => false,
        };
        Status { since: self.since.wall, pid, running, paused, want: self.want, alarms: self.alarms, term_sent }
    }

    /// The word of `state.json`.
    #[must_use]
    pub fn state_name(&self) -> StateName {
        match self.phase {
            Phase::Down | Phase::Gone => StateName::Down,
            Phase::Failed => StateName::Failed,
            Phase::Waiting { .. } | Phase::Held => StateName::Waiting,
            Phase::Starting => StateName::Starting,
            Phase::Up { .. } => match self.readiness {
                Readiness::Unasked => StateName::Up,
                Readiness::Awaited => StateName::Starting,
                Readiness::Since(_) => StateName::Ready,
            },
            Phase::Stopping { .. } | Phase::Looking { .. } | Phase::Sweeping { .. } => StateName::Stopping,
            Phase::StartingFinish | Phase::Finishing { .. } => StateName::Finishing,
        }
    }

    /// Whether what needs this module can rely on it: its program runs and is ready, or has done what it was there for.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        match self.phase {
            Phase::Up { .. } => self.readiness != Readiness::Awaited,
            Phase::Down => matches!(self.readiness, Readiness::Since(_)),
            Phase::Failed | Phase::Waiting { .. } | Phase::Held | Phase::Starting | Phase::Stopping { .. } => false,
            Phase::Sweeping { .. } | Phase::Looking { .. } | Phase::StartingFinish => false,
            Phase::Finishing { .. } | Phase::Gone => false,
        }
    }

    /// What it is to those who wait for it or are started with it; `number` is of the last word that it heard.
    #[must_use]
    pub fn standing(&self, number: u64) -> Standing {
        let stand = match self.phase {
            Phase::Down | Phase::Gone if self.is_ready() => Stand::Ready,
            Phase::Down | Phase::Gone => Stand::Down,
            Phase::Failed => Stand::Failed,
            Phase::Waiting { .. } | Phase::Held => Stand::Waiting,
            Phase::Starting => Stand::Coming,
            Phase::Up { .. } if self.is_ready() => Stand::Ready,
            Phase::Up { .. } => Stand::Coming,
            Phase::Stopping { .. } | Phase::Looking { .. } | Phase::Sweeping { .. } => Stand::Ending,
            Phase::StartingFinish | Phase::Finishing { .. } => Stand::Ending,
        };
        let wanted = match self.want {
            Want::Up => !self.leaving,
            Want::Once => !self.leaving && self.phase != Phase::Down,
            Want::Down => false,
        };
        let runs =
            !matches!(self.phase, Phase::Down | Phase::Gone | Phase::Failed | Phase::Waiting { .. } | Phase::Held);
        let may = matches!(self.gate, Gate::Open | Gate::Once);
        Standing { number, stand, wanted, runs, may, deaths: self.deaths, spawns: self.spawns }
    }

    /// When it is started again, if that is a matter of time.
    #[must_use]
    pub fn until(&self) -> Option<Moment> {
        match self.phase {
            Phase::Waiting { until } => Some(until),
            Phase::Down | Phase::Failed | Phase::Held | Phase::Starting | Phase::Up { .. } => None,
            Phase::Stopping { .. } | Phase::Sweeping { .. } | Phase::Looking { .. } => None,
            Phase::StartingFinish | Phase::Finishing { .. } | Phase::Gone => None,
        }
    }

    /// What `state.json` says, but for what only the driver knows: name, directory and record.
    #[must_use]
    pub fn state(&self, now: Stamp) -> State {
        let status = self.status();
        let name = self.state_name();
        State {
            state: name,
            want: self.want.name().to_owned(),
            pid: match status.running {
                Running::Program => status.pid.map(Pid::get),
                Running::Nothing | Running::Finish => None,
            },
            since: self.since.wall.rfc3339(),
            ready: self.is_ready(),
            ready_since: match self.readiness {
                Readiness::Since(since) => Some(since.wall.rfc3339()),
                Readiness::Unasked | Readiness::Awaited => None,
            },
            paused: status.paused,
            alarms: self.alarms,
            changed: self.changed,
            adopted: self.adopted,
            followed: self.followed && status.running == Running::Program,
            restarts: self.starts.saturating_sub(1),
            next_start: self.until().map(|until| now.wall_of(until).rfc3339()),
            reason: self
                .reason()
                .map(str::to_owned)
                .or_else(|| self.mistake.as_ref().map(|why| format!("rejected: {why}"))),
            rejected: self.mistake.clone(),
            exits: self.exits.iter().map(ExitEntry::new).collect(),
            exits_total: self.exits_total,
            enabled: self.enabled,
            ..State::default()
        }
    }

    pub(super) fn visible(&self) -> Visible {
        Visible {
            status: self.status(),
            state: self.state_name(),
            ready: self.is_ready(),
            until: self.until(),
            reason: self.reason().map(str::to_owned),
            mistake: self.mistake.clone(),
            exits_total: self.exits_total,
            starts: self.starts,
            changed: self.changed,
            enabled: self.enabled,
            adopted: self.adopted,
            followed: self.followed,
        }
    }
}
