//! Commands on a group: its members are told in order, what comes before others first; to end them, the last one first.
//!
//! Who waits for whom is read from files. Must never be stricter with a module that was named by itself.

use std::collections::BTreeMap;
use std::time::Duration;

use super::names::Tree;
use super::out;
use super::roots::Roots;
use super::verbs::{self, Verb};
use super::wait::Goal;
use crate::pure::config::{GroupPolicy, Needs};
use crate::pure::group_record::GroupRecord;
use crate::pure::name::ModuleName;
use crate::pure::state::State;
use crate::pure::tree::graph::Graph;
use crate::unix::client;
use crate::unix::home::file;

/// One that has to end before others are told has at least so long.
const STEP: Duration = Duration::from_mins(5);

/// Who waits for whom, as far as the status root says.
#[must_use]
pub fn graph(tree: &Tree<'_>) -> Graph {
    let mut needs: BTreeMap<ModuleName, Option<Needs>> = BTreeMap::new();
    let mut groups: BTreeMap<ModuleName, GroupPolicy> = BTreeMap::new();
    for name in tree.all().names {
        let state = client::read(&tree.home(&name).join(file::STATE)).map_err(|error| out::cause(&error));
        let state = state.and_then(|bytes| State::decode(&bytes)).unwrap_or_default();
        let mut outer = name.parent();
        while let Some(group) = outer.filter(|group| !groups.contains_key(group)) {
            outer = group.parent();
            if let Some(record) = record(tree, &group) {
                groups.insert(group, record.policy());
            }
        }
        let asks = !state.needs.is_empty() || !state.after.is_empty();
        let asked = asks.then(|| Needs { needs: state.needs, after: state.after, ..Needs::default() });
        needs.insert(name, asked);
    }
    Graph::new(needs.iter().map(|(name, needs)| (name, needs.as_ref())), &groups, &BTreeMap::new())
}

/// What svscan says of a group, if it asks for anything.
#[must_use]
pub fn record(tree: &Tree<'_>, group: &ModuleName) -> Option<GroupRecord> {
    let bytes = client::read(&tree.home(group).join(file::GROUP)).ok()?;
    GroupRecord::decode(&bytes).ok()
}

/// Tells all members of groups, in order, and returns the exit code.
#[must_use]
pub fn send(verb: &Verb, members: Vec<ModuleName>, patience: Duration, roots: &Roots) -> u8 {
    let graph = graph(&Tree::new(roots));
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
