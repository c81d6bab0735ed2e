//! What a scene asks for, found out once more in the plainest way: who needs whom, who comes before whom.
//!
//! Must never use `src/pure/tree`: it is held against that.

use std::collections::BTreeMap;

use svtree::pure::config::{GroupPolicy, Needs, Rules, Strategy};
use svtree::pure::name::ModuleName;

/// A module as the world has it.
#[derive(Clone, Debug)]
pub struct Module {
    pub name: ModuleName,
    pub needs: Option<Needs>,
    pub rules: Rules,
    pub enabled: bool,
    /// Whether it has a `finish`.
    pub finish: bool,
}

/// Modules and groups.
#[derive(Clone, Debug)]
pub struct Scene {
    pub modules: Vec<Module>,
    pub groups: BTreeMap<ModuleName, GroupPolicy>,
}

/// A group with its members in order, each with all modules in it.
#[derive(Clone, Debug)]
pub struct Group {
    pub name: ModuleName,
    pub policy: GroupPolicy,
    pub units: Vec<Vec<usize>>,
}

/// What a scene asks for.
#[derive(Clone, Debug)]
pub struct Law {
    /// All that each module needs, by its own words and its groups'; `None`: something that is not there.
    pub needs: Vec<Vec<Option<usize>>>,
    pub groups: Vec<Group>,
    /// The groups of each module, the outermost first, and as which unit.
    pub chains: Vec<Vec<(usize, usize)>>,
    /// Whether it waits for itself.
    pub circles: Vec<bool>,
}

impl Law {
    pub fn new(scene: &Scene) -> Law {
        let names: Vec<&ModuleName> = scene.modules.iter().map(|module| &module.name).collect();
        let is_in = |name: &ModuleName, group: &ModuleName| text(name).starts_with(&format!("{}/", text(group)));
        let mut groups = Vec::new();
        for (name, policy) in &scene.groups {
            let mut units: BTreeMap<(usize, String), Vec<usize>> = BTreeMap::new();
            for (number, module) in names.iter().enumerate().filter(|(_, module)| is_in(module, name)) {
                let rest = &text(module)[text(name).len() + 1..];
                let member = rest.split('/').next().unwrap_or_default().to_owned();
                let order = policy.order.clone().unwrap_or_default();
                let place = order.iter().position(|other| *other == member).unwrap_or(order.len());
                units.entry((place, member)).or_default().push(number);
            }
            groups.push(Group { name: name.clone(), policy: policy.clone(), units: units.into_values().collect() });
        }
        let chains: Vec<Vec<(usize, usize)>> = (0..names.len())
            .map(|number| {
                let unit = |group: &Group| group.units.iter().position(|unit| unit.contains(&number));
                let mut chain: Vec<(usize, usize)> =
                    groups.iter().enumerate().filter_map(|(place, group)| Some((place, unit(group)?))).collect();
                chain.sort_by_key(|(place, _)| text(&groups[*place].name).len());
                chain
            })
            .collect();
        let resolve = |number: usize, from: Option<ModuleName>, written: &String| -> Vec<Option<usize>> {
            let near = from.map(|group| format!("{}/{written}", text(&group)));
            for full in near.into_iter().chain([written.clone()]) {
                let all: Vec<usize> = (0..names.len())
                    .filter(|other| {
                        let other = text(names[*other]);
                        other == full || other.starts_with(&format!("{full}/"))
                    })
                    .collect();
                if !all.is_empty() {
                    let own = text(names[number]) == full;
                    return all.into_iter().filter(|other| own || *other != number).map(Some).collect();
                }
            }
            vec![None]
        };
        let mut needs = vec![Vec::new(); names.len()];
        let mut edges = vec![Vec::new(); names.len()];
        for (number, module) in scene.modules.iter().enumerate() {
            let own = module.needs.clone().unwrap_or_default();
            let mut asked = vec![(module.name.parent(), own.needs, own.after)];
            for (place, _) in &chains[number] {
                let Group { name, policy, .. } = &groups[*place];
                asked.push((name.parent(), policy.needs.clone(), policy.after.clone()));
            }
            for (from, needed, after) in asked {
                for name in &needed {
                    needs[number].extend(resolve(number, from.clone(), name));
                }
                for name in needed.iter().chain(&after) {
                    edges[number].extend(resolve(number, from.clone(), name).into_iter().flatten());
                }
            }
            for (place, unit) in &chains[number] {
                if is_ordered(&groups[*place].policy) {
                    edges[number].extend(groups[*place].units[..*unit].iter().flatten());
                }
            }
        }
        let circles = (0..names.len()).map(|number| reaches(&edges, number)).collect();
        Law { needs, groups, chains, circles }
    }

    /// The group that decides over the death of a module, if it is in one.
    pub fn innermost(&self, number: usize) -> Option<(usize, usize)> {
        self.chains[number].last().copied()
    }

    pub fn is_together(&self, place: usize) -> bool {
        self.groups[place].policy.strategy != Strategy::OneForOne
    }

    /// All that comes after a module within a group, by the order of that and of those in it, or since it needs it.
    pub fn later(&self, number: usize, within: usize) -> Vec<usize> {
        let mut later = Vec::new();
        let chain = self.chains[number].iter().skip_while(|(place, _)| *place != within);
        for (place, unit) in chain.filter(|(place, _)| is_ordered(&self.groups[*place].policy)) {
            later.extend(self.groups[*place].units[unit + 1..].iter().flatten().copied());
        }
        let members: Vec<usize> = self.groups[within].units.iter().flatten().copied().collect();
        later.extend(members.into_iter().filter(|other| self.needs[*other].contains(&Some(number))));
        later.retain(|other| *other != number && !(self.circles[number] && self.circles[*other]));
        later
    }

    /// Those that are started again when this one dies, beside itself.
    pub fn taken_along(&self, number: usize) -> Vec<usize> {
        let Some((place, unit)) = self.innermost(number) else { return Vec::new() };
        let units = &self.groups[place].units;
        let from = match self.groups[place].policy.strategy {
            Strategy::OneForOne => return Vec::new(),
            Strategy::OneForAll => 0,
            Strategy::RestForOne => unit,
        };
        units[from..].iter().flatten().copied().filter(|other| *other != number).collect()
    }
}

fn is_ordered(policy: &GroupPolicy) -> bool {
    policy.order.is_some() || policy.strategy != Strategy::OneForOne
}

fn reaches(edges: &[Vec<usize>], start: usize) -> bool {
    let mut seen = vec![false; edges.len()];
    let mut open = edges[start].clone();
    while let Some(here) = open.pop() {
        if here == start {
            return true;
        }
        if !std::mem::replace(&mut seen[here], true) {
            open.extend(&edges[here]);
        }
    }
    false
}

pub fn text(name: &ModuleName) -> String {
    String::from_utf8_lossy(name.as_bytes()).into_owned()
}

pub fn name(text: &str) -> ModuleName {
    ModuleName::new(text.as_bytes()).expect("a good name")
}
