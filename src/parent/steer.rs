//! What modules are to each other: the tree is told how each of them stands, and each of them what the tree says.
//!
//! Must never decide who waits for whom: that is the tree's.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{Closing, Parent};
use crate::pure::group_record::GroupRecord;
use crate::pure::name::{ModuleName, escaped};
use crate::pure::reconcile::Actual;
use crate::pure::standing::{Gate, Standing};
use crate::supervise::Mail;
use crate::unix::{clock, home, report};

impl Parent {
    /// Makes the tree anew from what is asked for and what still runs, if anything hangs together.
    pub(super) fn replant(&mut self) {
        if self.closing.is_some() || (self.tree.is_loose() && !self.wanted.hangs_together() && !self.is_watchful()) {
            return;
        }
        let broken = self.wanted.broken();
        // One that is being retired is waited for as long as it runs.
        let leaving = self.threads.iter().filter(|(name, _)| !self.wanted.has(name));
        let leaving = leaving.map(|(name, thread)| (name, thread.source.loaded.policy.needs.as_deref()));
        self.tree.plant(self.wanted.needs().chain(leaving), self.wanted.policies(), &broken);
        // A tree that did not hang together, or another svtree's, has not heard of these.
        for (name, _) in self.actual.iter().filter(|(_, actual)| matches!(actual, Actual::Left(_))) {
            self.tree.gone(name, true);
        }
    }

    fn is_watchful(&self) -> bool {
        self.options.exit_on_failure
    }

    /// A module says how it stands.
    pub(super) fn stands(&mut self, name: &ModuleName, standing: Standing) {
        self.tree.heard(name, standing, clock::moment());
    }

    /// Says to every module what the tree has to say to it. Says whether everything is to end now.
    pub(super) fn steer(&mut self) -> bool {
        if self.closing.is_some() || self.tree.is_loose() {
            return false;
        }
        let orders = self.tree.orders(|name| {
            self.threads.contains_key(name) && !matches!(self.actual.get(name), Some(Actual::Retiring(_)))
        });
        for (name, gate, number) in orders {
            if let Some(thread) = self.threads.get(&name) {
                thread.mailbox.send(Mail::Gate(gate, number));
            }
        }
        self.publish_groups();
        match self.tree.failure() {
            Some(failure) if self.options.exit_on_failure => {
                report::line(&format!("{failure}, and --exit-on-failure is given: everything is stopped"));
                self.code = Some(1);
                self.stop_all();
                true
            }
            Some(failure) => {
                report::line(&failure);
                false
            }
            None => false,
        }
    }

    /// Says of every group that asks for something how it is.
    fn publish_groups(&mut self) {
        let now = clock::stamp();
        let mut records: BTreeMap<ModuleName, Vec<u8>> = BTreeMap::new();
        for (name, policy) in self.wanted.policies().iter().filter(|(_, policy)| policy.is_asking()) {
            let Some((state, reason, restarts)) = self.tree.group(name) else { continue };
            let member = |member: &ModuleName| escaped(member.components().next_back().unwrap_or_default());
            let record = GroupRecord {
                name: escaped(name.as_bytes()),
                state: state.name().to_owned(),
                reason: reason.map(str::to_owned),
                restarts: restarts.into_iter().map(|at| now.wall_of(at).rfc3339()).collect(),
                members: self.tree.members(name).into_iter().map(member).collect(),
                ..GroupRecord::of(policy)
            };
            records.insert(name.clone(), record.encode());
        }
        let gone: Vec<ModuleName> = self.groups.keys().filter(|name| !records.contains_key(*name)).cloned().collect();
        for name in gone {
            self.groups.remove(&name);
            home::unpublish_group(&self.status, &name);
        }
        for (name, record) in records {
            if self.groups.get(&name) == Some(&record) {
                continue;
            }
            match home::publish_group(&self.status, &name, &record) {
                Ok(()) => {
                    self.groups.insert(name, record);
                }
                Err(error) => self.trouble(&name, format!("writing {error}")),
            }
        }
    }

    /// At the end nothing is said of groups any more.
    pub(super) fn unpublish_groups(&mut self) {
        for name in std::mem::take(&mut self.groups).into_keys() {
            home::unpublish_group(&self.status, &name);
        }
    }

    /// The word that the thread of a module begins with.
    pub(super) fn first_word(&mut self, name: &ModuleName) -> Option<(Gate, u64)> {
        self.tree.first(name)
    }

    /// Whether a module has to stay for now: others that wait for it are still on their way out.
    pub(super) fn is_held_up(&self, name: &ModuleName) -> bool {
        let urgent = matches!(self.closing, Some(Closing::Leave | Closing::Stop(Some(Duration::ZERO))));
        !urgent && self.tree.graph().is_held_up(name, |other| self.is_going(other))
    }

    fn is_going(&self, name: &ModuleName) -> bool {
        let is_there =
            matches!(self.actual.get(name), Some(Actual::Beginning(_) | Actual::Running(_) | Actual::Retiring(_)));
        is_there && (self.closing.is_some() || !self.wanted.has(name))
    }

    /// How long a stop may take that begins now, when all of them together have so long: those that wait for others to
    /// stop share what is left.
    pub(super) fn share(&self, within: Duration) -> Duration {
        let Some(by) = self.closing_by else { return within };
        let left = by.since(clock::moment());
        if self.tree.is_loose() {
            return left;
        }
        let mut alive: BTreeSet<&ModuleName> = self.actual.keys().filter(|name| self.is_going(name)).collect();
        let mut waves = 0;
        while !alive.is_empty() {
            let stay: BTreeSet<&ModuleName> = alive
                .iter()
                .copied()
                .filter(|name| self.tree.graph().is_held_up(name, |other| alive.contains(other)))
                .collect();
            if stay.len() == alive.len() {
                break;
            }
            alive = stay;
            waves += 1;
        }
        left / waves.max(1)
    }
}
