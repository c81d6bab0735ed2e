//! How modules hang together: who waits for whom, what one's death means to the others, and the word for each of them.
//!
//! The parent tells the tree how every module stands and asks it for orders; a module's thread obeys them by the gate of
//! its machine. Orders follow from what is known, not from what happened: they are asked for after every change, and only
//! what differs from the last word is sent. Must never read a clock, a file or a machine.

pub mod graph;
mod groups;
mod orders;

use std::collections::BTreeMap;

use self::graph::Graph;
use self::groups::Group;
pub use self::groups::GroupState;
pub use self::orders::Order;
use super::config::{GroupPolicy, Needs};
use super::name::ModuleName;
use super::standing::{Gate, Stand, Standing};

/// The tree: all modules and groups, and what is known of them.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    /// Whether what becomes of any module at the top is of interest.
    watchful: bool,
    graph: Graph,
    members: BTreeMap<ModuleName, Member>,
    groups: BTreeMap<ModuleName, Group>,
    /// What has failed at the top of the tree, first.
    failure: Option<String>,
}

/// What is known of a module.
#[derive(Clone, Debug, Default)]
struct Member {
    /// As it was told last; `None`: its thread has not begun, or is gone.
    standing: Option<Standing>,
    /// Its thread is gone, and its program ran when that was heard of last.
    unseen: bool,
    /// Its thread was there before it had a word: what it has counted until then is past.
    late: bool,
    /// How often it was started as far as was seen.
    epoch: u64,
    /// The epochs of what it needs when it was started, if it is started again with that.
    base: BTreeMap<ModuleName, u64>,
    /// Why it is kept from starting, if nothing will change that by itself.
    lacks: Option<String>,
    /// The last word, and its number.
    word: Option<Gate>,
    number: u64,
}

impl Member {
    /// Whether nothing of it runs, and nothing will: it has heard that it is to stop, or nobody wants it.
    fn is_stopped(&self) -> bool {
        // One that has a word and has not told anything is about to begin.
        let Some(standing) = self.standing else { return self.word.is_none() && !self.unseen };
        let heard = standing.number == self.number && matches!(self.word, Some(Gate::Stop(_) | Gate::Fail(_)));
        !standing.runs && (!standing.wanted || heard)
    }
}

impl Tree {
    /// A tree of nothing; `watchful` if every failure at its top is to be told.
    #[must_use]
    pub fn new(watchful: bool) -> Tree {
        Tree { watchful, ..Tree::default() }
    }

    /// These modules and groups are there from now on, and ask for this.
    pub fn plant<'a>(
        &mut self,
        modules: impl Iterator<Item = (&'a ModuleName, Option<&'a Needs>)>,
        groups: &BTreeMap<ModuleName, GroupPolicy>,
        broken: &BTreeMap<ModuleName, String>,
    ) {
        self.graph = Graph::new(modules, groups, broken);
        if self.watchful {
            self.graph.involve_the_top();
        }
        let graph = &self.graph;
        self.members.retain(|name, _| graph.has(name));
        self.groups.retain(|name, _| groups.contains_key(name));
        for (name, policy) in groups {
            self.groups.entry(name.clone()).or_default().policy = policy.clone();
        }
    }

    /// Whether nothing hangs together: then nobody has to be told anything, or to tell.
    #[must_use]
    pub fn is_loose(&self) -> bool {
        self.graph.is_loose() && self.members.values().all(|member| matches!(member.word, None | Some(Gate::Open)))
    }

    /// Who waits for whom.
    #[must_use]
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// The thread of a module is gone; `left` says that it is to stay away.
    pub fn gone(&mut self, name: &ModuleName, left: bool) {
        if self.graph.has(name) {
            let member = self.members.entry(name.clone()).or_default();
            let standing = Standing {
                number: 0,
                stand: Stand::Down,
                wanted: false,
                runs: false,
                may: false,
                deaths: 0,
                spawns: 0,
            };
            member.unseen = !left && member.standing.is_some_and(|standing| standing.runs);
            member.standing = left.then_some(standing);
            member.word = None;
        }
    }

    /// What has failed at the top of the tree, if anything did since this was asked last.
    pub fn failure(&mut self) -> Option<String> {
        self.failure.take()
    }
}

/// The words for a name in a sentence.
fn said(name: &ModuleName) -> String {
    super::name::printable(name.as_bytes())
}

#[cfg(test)]
mod scenes;
#[cfg(test)]
mod tests;
