//! Commands on a group: its members are told in order, what comes before others first; to end them, the last one first.
//!
//! Who waits for whom is read from files. Must never be stricter with a module that was named by itself.

use std::time::Duration;

use super::known::Known;
use super::names::Tree;
use super::out;
use super::roots::Roots;
use super::verbs::{self, Verb};
use super::wait::Goal;
use crate::pure::name::ModuleName;
use crate::pure::tree::graph::Graph;

/// One that has to end before others are told has at least so long.
const STEP: Duration = Duration::from_mins(5);

/// Tells all members of groups, in order, and returns the exit code.
#[must_use]
pub fn send(verb: &Verb, members: Vec<ModuleName>, patience: Duration, roots: &Roots) -> u8 {
    let graph = Known::read(&Tree::new(roots)).graph;
    let mut members = members;
    members.sort_by_cached_key(|name| graph.order().position(|other| other == name));
    let group = Group { graph: &graph, patience, roots };
    match verb.goal {
        Goal::Up | Goal::Once => group.start(verb, members),
        Goal::Down | Goal::Left => group.stop(verb, members),
        Goal::Restarted if !graph.is_loose() => {
            let verbs = ["down", "up"].map(|name| Verb::all().find(|verb| verb.name == name));
            let [Some(stop), Some(start)] = verbs else { return out::FAILED };
            // That all have ended is a step to the first start.
            let code = Group { patience: patience.max(STEP), ..group }.stop(&stop, members.clone());
            code.max(group.start(&start, members))
        }
        Goal::Ended => {
            members.reverse();
            verbs::send(verb, members, patience, roots)
        }
        Goal::Restarted | Goal::Coming | Goal::Paused(_) | Goal::Alarms(_) | Goal::Delivered => {
            verbs::send(verb, members, patience, roots)
        }
    }
}

/// What its members are told by.
#[derive(Clone, Copy)]
struct Group<'a> {
    graph: &'a Graph,
    /// What `--wait` says.
    patience: Duration,
    roots: &'a Roots,
}

impl Group<'_> {
    /// Starts members, each once those before it are up, or wait for others.
    fn start(self, verb: &Verb, members: Vec<ModuleName>) -> u8 {
        let is_first = |name: &ModuleName, left: &[ModuleName]| {
            !left.iter().any(|other| other != name && self.graph.is_held_up(other, |later| later == name))
        };
        self.in_steps(verb, Goal::Coming, members, is_first)
    }

    /// Ends members, each once those that wait for it have ended.
    fn stop(self, verb: &Verb, mut members: Vec<ModuleName>) -> u8 {
        members.reverse();
        let is_last =
            |name: &ModuleName, left: &[ModuleName]| !self.graph.is_held_up(name, |other| left.contains(other));
        self.in_steps(verb, verb.goal, members, is_last)
    }

    /// Tells those that are free, waits until they have done it, and goes on with the rest.
    fn in_steps(
        self,
        verb: &Verb,
        goal: Goal,
        members: Vec<ModuleName>,
        is_free: impl Fn(&ModuleName, &[ModuleName]) -> bool,
    ) -> u8 {
        let (mut code, mut left) = (out::DONE, members);
        while !left.is_empty() {
            let (mut free, mut rest): (Vec<_>, Vec<_>) = left.iter().cloned().partition(|name| is_free(name, &left));
            if free.is_empty() {
                // They wait for each other.
                (free, rest) = (rest, free);
            }
            let (goal, patience) = match (rest.is_empty(), self.patience.is_zero()) {
                (true, _) => (verb.goal, self.patience),
                (false, true) => (goal, STEP),
                (false, false) => (goal, self.patience),
            };
            code = code.max(verbs::send(&Verb { goal, ..verb.clone() }, free, patience, self.roots));
            left = rest;
        }
        code
    }
}
