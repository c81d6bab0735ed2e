//! The whole tree as its status root says it is: modules, groups, and who waits for whom.
//!
//! Must never ask svtree itself: all of it stands in files, also while it is stopped.

use std::collections::BTreeMap;
use std::io;

use super::names::Tree;
use super::out;
use crate::pure::config::{GroupPolicy, Needs};
use crate::pure::group_record::GroupRecord;
use crate::pure::name::ModuleName;
use crate::pure::state::{State, StateName};
use crate::pure::tree::graph::Graph;
use crate::unix::client;
use crate::unix::home::file;

/// All of it.
pub struct Known {
    /// Every module that says something of itself.
    pub states: BTreeMap<ModuleName, State>,
    /// Every group that modules are in, and what svscan says of it, if it asks for anything.
    pub groups: BTreeMap<ModuleName, Option<GroupRecord>>,
    /// Who waits for whom.
    pub graph: Graph,
    /// What could not be read, and why.
    pub wrong: Vec<(ModuleName, String)>,
}

impl Known {
    /// Reads it.
    #[must_use]
    pub fn read(tree: &Tree<'_>) -> Known {
        let mut known =
            Known { states: BTreeMap::new(), groups: BTreeMap::new(), graph: Graph::default(), wrong: Vec::new() };
        for name in tree.all().names {
            match state(tree, &name) {
                Ok(Some(state)) => {
                    known.states.insert(name, state);
                }
                Ok(None) => {}
                Err(why) => known.wrong.push((name, why)),
            }
        }
        for name in known.states.keys().filter(|name| name.logged().is_none_or(|of| !known.states.contains_key(&of))) {
            let mut outer = name.parent();
            while let Some(group) = outer.filter(|group| !known.groups.contains_key(group)) {
                outer = group.parent();
                known.groups.insert(group.clone(), record(tree, &group));
            }
        }
        known.graph = known.graph();
        known
    }

    fn graph(&self) -> Graph {
        let asked = |state: &State| {
            let asks = !state.needs.is_empty() || !state.after.is_empty();
            asks.then(|| Needs { needs: state.needs.clone(), after: state.after.clone(), ..Needs::default() })
        };
        let needs: Vec<_> = self.states.iter().map(|(name, state)| (name, asked(state))).collect();
        let groups: BTreeMap<ModuleName, GroupPolicy> =
            self.groups.iter().filter_map(|(name, record)| Some((name.clone(), record.as_ref()?.policy()))).collect();
        let broken = self
            .states
            .iter()
            .filter(|(_, state)| matches!(state.state, StateName::Incomplete | StateName::Rejected))
            .map(|(name, state)| (name.clone(), state.state.name().to_owned()))
            .collect();
        Graph::new(needs.iter().map(|(name, needs)| (*name, needs.as_ref())), &groups, &broken)
    }

    /// Each module behind what it waits for and its logger.
    #[must_use]
    pub fn order(&self) -> Vec<ModuleName> {
        let there = |name: &ModuleName| self.states.contains_key(name);
        let with_logger = |name: &ModuleName| [name.logger(), name.clone()].into_iter().filter(there);
        self.graph.order().flat_map(with_logger).collect()
    }
}

/// What svscan says of a group, if it asks for anything.
fn record(tree: &Tree<'_>, group: &ModuleName) -> Option<GroupRecord> {
    let bytes = client::read(&tree.home(group).join(file::GROUP)).ok()?;
    GroupRecord::decode(&bytes).ok()
}

/// None when it is not there.
fn state(tree: &Tree<'_>, name: &ModuleName) -> Result<Option<State>, String> {
    let path = tree.home(name).join(file::STATE);
    match client::read(&path) {
        Ok(bytes) => State::decode(&bytes).map(Some).map_err(|why| format!("{}: {why}", path.display())),
        // It was retired while we looked.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(format!("{}: {}", path.display(), out::cause(&error))),
    }
}
