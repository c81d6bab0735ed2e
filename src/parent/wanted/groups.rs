//! Groups as they are asked for: their files settle like those of modules, and a change that makes a module wait for itself is
//! rejected.
//!
//! Must never believe that a group is gone because its file is.

use std::collections::BTreeMap;

use super::{
    Found, GroupPolicy, Id, ModuleName, Moment, Needs, Other, PathBuf, RETRY, Scope, Stamp, Wanted, directory_of,
};
use crate::parent::wish::Wish;
use crate::pure::tree::graph::Graph;
use crate::unix::scan::{self, Entry};

/// What was found of a group that is not in force, until it has settled.
#[derive(Debug, PartialEq)]
pub(super) enum News {
    /// It has no `group.toml`.
    Missing,
    /// It has one with a mistake.
    Wrong,
    /// It asks for something else.
    Other(GroupPolicy),
}

impl Wanted {
    /// What every module waits for; what is to be asked of a module instead, if `instead` says so.
    pub(in crate::parent) fn needs_with<'a>(
        &'a self,
        instead: impl Fn(&'a ModuleName, &'a Wish) -> Option<&'a Needs>,
    ) -> impl Iterator<Item = (&'a ModuleName, Option<&'a Needs>)> {
        let own =
            self.modules.iter().filter(|(name, _)| self.instances.leave(name)).map(|(name, wish)| (name, name, wish));
        let instances = self.instances.iter().filter_map(|(name, instance)| {
            let (directory, wish) = self.modules.get_key_value(&instance.directory)?;
            Some((name, directory, wish))
        });
        own.chain(instances).map(move |(name, directory, wish)| (name, instead(directory, wish)))
    }

    /// Directories that are neither modules nor groups in force, and what they are.
    pub fn broken(&self) -> BTreeMap<ModuleName, String> {
        let broken = self.others.iter().filter(|(name, _)| !self.policies.contains_key(*name));
        let what = |other: &Other| if other.rejected { "rejected" } else { "not complete" }.to_owned();
        broken.map(|(name, (_, other))| (name.clone(), what(other))).collect()
    }

    /// The way on which a module of these would wait for itself if this were in force, and not as it is.
    pub(in crate::parent) fn closes<'a>(
        &'a self,
        instead: impl Fn(&'a ModuleName, &'a Wish) -> Option<&'a Needs>,
        policies: &BTreeMap<ModuleName, GroupPolicy>,
        is_one: impl Fn(&ModuleName) -> bool,
    ) -> Option<String> {
        let broken = self.broken();
        let then = Graph::new(self.needs_with(instead), policies, &broken);
        let waits = then.order().filter(|name| is_one(name)).find_map(|name| Some((name, then.cycle(name)?)));
        let (name, path) = waits?;
        let now = Graph::new(self.needs(), &self.policies, &broken);
        (now.cycle(name) != Some(path)).then(|| format!("it would wait for itself: {path}"))
    }

    /// A program of this module runs that a dead svtree has started, in a group whose `group.toml` is wrong: what the module
    /// asks for itself holds all the same. Says whether it is there.
    pub(in crate::parent) fn recall(&mut self, name: &ModuleName, id: Id, now: Stamp) -> bool {
        let of = directory_of(name).filter(|_| id.instance > 0);
        let directory = of.map_or_else(|| name.clone(), |of| of.directory);
        if self.modules.contains_key(&directory) {
            return true;
        }
        let path = self.services.join(directory.as_os_str());
        let Ok(Entry::Module(module)) = scan::look(&path) else { return false };
        if module.id != id.instance(0) {
            return false;
        }
        self.module_found(&directory, &path, &module, true, now);
        self.settle(directory, &module, now);
        self.number();
        true
    }

    /// Lets what was found of groups wait until it has settled: until then, and if it is wrong, they are as they were.
    pub(super) fn settle_groups(&mut self, found: &mut Found, scope: Scope<'_>, now: Moment) {
        self.unsettled.retain(|name, _| self.policies.contains_key(name));
        let known: Vec<ModuleName> = self.policies.keys().filter(|name| scope.covers(name)).cloned().collect();
        for name in known {
            if let Some(news) = self.news_of(&name, found) {
                self.settle_group(name, news, found, now);
            } else {
                self.unsettled.remove(&name);
            }
        }
    }

    /// What is new of a group, if it is still the same directory.
    fn news_of(&self, name: &ModuleName, found: &Found) -> Option<News> {
        let (_, id) = self.groups.get(name)?;
        if let Some((.., other)) = found.others.iter().find(|(other, _, what)| other == name && what.id == *id) {
            return Some(if other.is_mistake { News::Wrong } else { News::Missing });
        }
        found.groups.iter().find(|(other, _, found)| other == name && found == id)?;
        let (_, policy) = found.policies.iter().find(|(other, _)| other == name)?;
        (self.policies.get(name) != Some(policy)).then(|| News::Other(policy.clone()))
    }

    fn settle_group(&mut self, name: ModuleName, news: News, found: &mut Found, now: Moment) {
        let since = match self.unsettled.get(&name) {
            Some((before, since)) if *before == news => *since,
            Some(_) | None => {
                self.burst.stir(now);
                now
            }
        };
        let settled_at = self.burst.settles(since, self.settle);
        let is_settled = settled_at <= now;
        match &news {
            News::Missing if is_settled => {}
            News::Missing | News::Wrong => self.keep_group(&name, is_settled, found),
            News::Other(policy) => {
                let why = if is_settled { self.closed_by(&name, policy) } else { None };
                if !is_settled || why.is_some() {
                    found.policies.retain(|(other, _)| *other != name);
                    found.policies.extend(self.policies.get(&name).map(|policy| (name.clone(), policy.clone())));
                }
                if let (Some(why), Some((path, id))) = (why, self.groups.get(&name).cloned()) {
                    // What it would be in a circle with may change.
                    self.look_at_again(&name, now.plus(RETRY));
                    let why = format!("group.toml: {why}");
                    let other = Other { id, rejected: true, is_mistake: true, why };
                    found.others.push((name.clone(), path, other));
                }
            }
        }
        if !is_settled {
            self.look_at_again(&name, settled_at);
        }
        self.unsettled.insert(name, (news, since));
    }

    /// All that is in it stays as it is.
    fn keep_group(&self, name: &ModuleName, tells: bool, found: &mut Found) {
        if !tells {
            found.others.retain(|(other, ..)| other != name);
        }
        if !found.kept.contains(name) {
            found.kept.push(name.clone());
        }
        let group: Option<&(PathBuf, Id)> = self.groups.get(name);
        found.groups.extend(group.map(|(path, id)| (name.clone(), path.clone(), *id)));
    }

    fn closed_by(&self, name: &ModuleName, policy: &GroupPolicy) -> Option<String> {
        let mut policies = self.policies.clone();
        policies.insert(name.clone(), policy.clone());
        self.closes(|_, wish| wish.needs(), &policies, |module| module.is_within(name))
    }
}
