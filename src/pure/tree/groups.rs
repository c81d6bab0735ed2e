//! Groups: what a member's death is to the others, how many restarts are borne, and what follows when that was too many.
//!
//! The strategies are those of Erlang's supervisors. Must never say a word to a module: `orders.rs` does.

use std::collections::VecDeque;
use std::time::Duration;

use super::graph::Place;
use super::{Tree, said};
use crate::pure::config::{GroupPolicy, OnFailure, Strategy};
use crate::pure::name::ModuleName;
use crate::pure::standing::{Gate, Stand, Standing};
use crate::pure::time::{Moment, human};

/// What is known of a group.
#[derive(Clone, Debug, Default)]
pub(super) struct Group {
    pub(super) policy: GroupPolicy,
    pub(super) course: Course,
    /// The restarts within the period.
    restarts: VecDeque<Moment>,
}

/// What a group is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Course {
    /// What is to run is started, in order.
    #[default]
    Open,
    /// The units from this one on are being stopped, the last one first, to be started again; and why.
    Stopping(usize, String),
    /// It has failed, and why; whether everything in it has heard that.
    Failed(String, bool),
}

/// A group in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupState {
    /// Nothing of it is to run, or can for now.
    Down,
    /// What is to run is being started.
    Starting,
    /// All that is to run is ready, but for what has failed alone or waits for what will not come by itself.
    Up,
    /// It is being stopped, to be started again or since it has failed.
    Stopping,
    /// It has failed, or all of it has.
    Failed,
}

impl GroupState {
    /// The word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            GroupState::Down => "down",
            GroupState::Starting => "starting",
            GroupState::Up => "up",
            GroupState::Stopping => "stopping",
            GroupState::Failed => "failed",
        }
    }
}

impl Group {
    /// One more restart; says whether that is one too many.
    fn count(&mut self, now: Moment) -> bool {
        let Some(intensity) = self.policy.intensity else { return false };
        self.restarts.push_back(now);
        while self.restarts.front().is_some_and(|at| now.since(*at) > self.policy.period) {
            self.restarts.pop_front();
        }
        self.restarts.len() > intensity as usize
    }

    /// How long ago the restarts were that count.
    pub(super) fn ages(&self, now: Moment) -> Vec<Duration> {
        self.restarts.iter().map(|at| now.since(*at)).filter(|age| *age <= self.policy.period).collect()
    }
}

impl Tree {
    /// A module died and was to run; so often as it was told of at once.
    pub(super) fn died(&mut self, number: usize, times: u64, now: Moment) {
        let Some((place, unit)) = self.graph.chains[number].last().copied() else { return };
        let name = said(&self.graph.names[number]);
        for _ in 0..times {
            self.unit_died(place, unit, None, &name, now);
        }
    }

    /// A module was given up: to a group whose members live and die together that is one death too many.
    pub(super) fn gave_up(&mut self, number: usize, now: Moment) {
        let name = said(&self.graph.names[number]);
        let Some((place, _)) = self.graph.chains[number].last().copied() else {
            self.failure.get_or_insert(format!("{name} has failed"));
            return;
        };
        let Some(group) = self.groups.get(&self.graph.groups[place].name) else { return };
        let together = group.policy.strategy != Strategy::OneForOne;
        if together && group.course == Course::Open && !self.has_failed_around(place) {
            self.fail(place, &format!("{name} has failed"), now);
        }
    }

    /// Whether a group, or one that it is in, has failed.
    fn has_failed_around(&self, place: usize) -> bool {
        let mut here = Some(place);
        while let Some(place) = here {
            let group = self.groups.get(&self.graph.groups[place].name);
            if group.is_some_and(|group| matches!(group.course, Course::Failed(..))) {
                return true;
            }
            here = self.graph.groups[place].parent.map(|(outer, _)| outer);
        }
        false
    }

    /// A member of a group died: a module, which its own rules start again if nothing else is said, or a group.
    fn unit_died(&mut self, place: usize, unit: usize, inner: Option<usize>, name: &str, now: Moment) {
        if self.has_failed_around(place) {
            return;
        }
        let group_name = self.graph.groups[place].name.clone();
        let Some(group) = self.groups.get_mut(&group_name) else { return };
        let from = match group.policy.strategy {
            Strategy::OneForOne => None,
            Strategy::OneForAll => Some(0),
            Strategy::RestForOne => Some(unit),
        };
        if let Course::Stopping(begun, _) = &mut group.course {
            // Deaths while others are stopped are part of it.
            *begun = from.map_or(*begun, |from| from.min(*begun));
            return;
        }
        if group.count(now) {
            let (most, period) = (group.policy.intensity.unwrap_or_default(), human(group.policy.period));
            group.restarts.clear();
            let plural = if most == 1 { "" } else { "s" };
            return self.fail(
                place,
                &format!("more than {most} restart{plural} within {period}, the last of {name}"),
                now,
            );
        }
        match (from, inner) {
            (Some(from), _) => {
                group.course = Course::Stopping(from, format!("{name} died, and its group is started again"));
            }
            (None, Some(inner)) => self.start_again(inner, name),
            (None, None) => {}
        }
    }

    fn start_again(&mut self, place: usize, name: &str) {
        if let Some(group) = self.groups.get_mut(&self.graph.groups[place].name) {
            group.course = Course::Stopping(0, format!("{name} has failed and is started again"));
        }
    }

    /// A group fails: what follows is up to it, and then to the one that it is in.
    fn fail(&mut self, place: usize, why: &str, now: Moment) {
        let name = self.graph.groups[place].name.clone();
        let outer = self.graph.groups[place].parent;
        let Some(group) = self.groups.get_mut(&name) else { return };
        let failure = format!("group {} has failed: {why}", said(&name));
        match (group.policy.on_failure, outer) {
            (OnFailure::Restart, Some((outer, unit))) => {
                group.restarts.clear();
                self.unit_died(outer, unit, Some(place), &said(&name), now);
            }
            (OnFailure::Restart, None) => self.start_again(place, &said(&name)),
            (OnFailure::Escalate, Some((outer, _))) => {
                group.course = Course::Failed(failure.clone(), false);
                self.fail(outer, &failure, now);
            }
            (OnFailure::Escalate | OnFailure::Stop, None) => {
                group.course = Course::Failed(failure.clone(), false);
                self.failure.get_or_insert(failure);
            }
            (OnFailure::Stop, Some(_)) => group.course = Course::Failed(failure, false),
        }
    }

    /// Goes on with every group as far as its members have come.
    pub(super) fn settle(&mut self) {
        for place in 0..self.graph.groups.len() {
            let name = self.graph.groups[place].name.clone();
            let Some(course) = self.groups.get(&name).map(|group| group.course.clone()) else { continue };
            let next = match course {
                Course::Open => continue,
                Course::Stopping(from, _) if self.are_stopped(place, from) => Course::Open,
                Course::Stopping(..) => continue,
                Course::Failed(_, done) if !done && !self.are_stopped(place, 0) => continue,
                // Somebody wants one of them anew: the group begins anew.
                Course::Failed(..) if self.is_asked_for(place) => Course::Open,
                Course::Failed(why, _) => Course::Failed(why, true),
            };
            if let Some(group) = self.groups.get_mut(&name) {
                if next == Course::Open && matches!(group.course, Course::Failed(..)) {
                    group.restarts.clear();
                }
                group.course = next;
            }
        }
    }

    fn are_stopped(&self, place: usize, from: usize) -> bool {
        let units = self.graph.groups[place].units.iter().skip(from);
        units.flat_map(|unit| &unit.modules).all(|number| self.is_stopped(*number))
    }

    pub(super) fn is_stopped(&self, number: usize) -> bool {
        self.members.get(&self.graph.names[number]).is_none_or(super::Member::is_stopped)
    }

    fn is_asked_for(&self, place: usize) -> bool {
        let members = self.graph.groups[place].units.iter().flat_map(|unit| &unit.modules);
        members.filter_map(|number| self.members.get(&self.graph.names[*number])).any(|member| {
            let heard = matches!(member.word, Some(Gate::Fail(_)));
            heard
                && member.standing.is_some_and(|standing| {
                    standing.wanted && standing.stand == Stand::Waiting && standing.number == member.number
                })
        })
    }

    /// What a group is in one word, why, and when there were restarts that were counted.
    #[must_use]
    pub fn group(&self, name: &ModuleName) -> Option<(GroupState, Option<&str>, Vec<Moment>)> {
        let group = self.groups.get(name)?;
        let place = self.graph.groups.iter().find(|place| place.name == *name)?;
        let (state, why) = match &group.course {
            Course::Failed(why, true) => (GroupState::Failed, Some(why.as_str())),
            Course::Failed(why, false) | Course::Stopping(_, why) => (GroupState::Stopping, Some(why.as_str())),
            Course::Open => self.open_state(place),
        };
        Some((state, why, group.restarts.iter().copied().collect()))
    }

    /// A group in which nothing is being stopped. What has failed alone, or waits for what will not come by itself, is on
    /// its way no more: the group is what the others are.
    fn open_state(&self, place: &Place) -> (GroupState, Option<&str>) {
        let (mut is_up, mut has_failed, mut lost) = (false, false, None);
        for number in place.units.iter().flat_map(|unit| &unit.modules) {
            let Some(member) = self.members.get(&self.graph.names[*number]) else { continue };
            match member.standing {
                // One that is to leave once it ends runs on.
                Some(Standing { stand: Stand::Ready, wanted, runs, .. }) if wanted || runs => is_up = true,
                Some(Standing { wanted: false, .. }) => {}
                Some(Standing { stand: Stand::Failed, .. }) => {
                    has_failed = true;
                    lost = lost.or(Some("a member has failed"));
                }
                Some(Standing { stand: Stand::Waiting, .. }) if member.lacks.is_some() => {
                    lost = lost.or(member.lacks.as_deref());
                }
                Some(_) => return (GroupState::Starting, None),
                None if member.word.is_some() => return (GroupState::Starting, None),
                None => {}
            }
        }
        match (is_up, has_failed) {
            (true, _) => (GroupState::Up, lost),
            (false, true) => (GroupState::Failed, lost),
            (false, false) => (GroupState::Down, lost),
        }
    }

    /// The members of a group in their order.
    #[must_use]
    pub fn members(&self, name: &ModuleName) -> Vec<&ModuleName> {
        let place = self.graph.groups.iter().find(|place| place.name == *name);
        place.into_iter().flat_map(|place| &place.units).map(|unit| &unit.name).collect()
    }
}
