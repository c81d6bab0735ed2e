//! Who waits for whom: the names that modules and groups write resolved to modules, cycles found, an order made.
//!
//! Must never know how a module stands.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::said;
use crate::pure::config::{GroupPolicy, Needs, NeedsRestart, OnFailure};
use crate::pure::name::{ModuleName, unescaped};

/// All modules and groups, and who waits for whom. Modules are numbered in the order of their names.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    pub(super) names: Vec<ModuleName>,
    index: BTreeMap<ModuleName, usize>,
    /// What each module waits for.
    pub(super) waits: Vec<Vec<Wait>>,
    /// Who waits for each module by its own words.
    pub(super) dependents: Vec<Vec<usize>>,
    /// Whether it is started again with what it needs.
    pub(super) with_needs: Vec<bool>,
    /// The groups, outer ones first.
    pub(super) groups: Vec<Place>,
    /// The groups that each module is in, the outermost first, and as which of their units.
    pub(super) chains: Vec<Vec<(usize, usize)>>,
    /// The path from a module to itself.
    cycles: Vec<Option<String>>,
    /// Every module after all that it waits for; those that wait for themselves, and those that wait for them, come last.
    pub(super) order: Vec<usize>,
    /// Whether anybody waits for it, or it waits, or its group asks for something.
    pub(super) involved: Vec<bool>,
}

/// One name that a module, or its group, waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wait {
    /// As it was written.
    pub written: String,
    /// Whether it is needed, not only waited for.
    pub needed: bool,
    /// What stands behind the name.
    pub on: On,
}

/// What stands behind a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum On {
    /// These modules, by their numbers: one, all of a group, or all instances.
    Modules(Vec<usize>),
    /// Nothing.
    Missing,
    /// A directory that is no module, and what it is.
    Broken(String),
}

/// A group.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) name: ModuleName,
    /// Whether its units come one after the other.
    pub(super) ordered: bool,
    /// Its members in their order, with all modules in them.
    pub(super) units: Vec<Unit>,
    /// The group that it is in, and as which unit.
    pub(super) parent: Option<(usize, usize)>,
}

/// A member of a group: a module or a group.
#[derive(Clone, Debug)]
pub(super) struct Unit {
    pub(super) name: ModuleName,
    pub(super) modules: Vec<usize>,
}

impl Graph {
    /// The graph of these modules and groups; `broken` are directories that are neither, and what they are.
    #[must_use]
    pub fn new<'a>(
        modules: impl Iterator<Item = (&'a ModuleName, Option<&'a Needs>)>,
        groups: &BTreeMap<ModuleName, GroupPolicy>,
        broken: &BTreeMap<ModuleName, String>,
    ) -> Graph {
        let asked: BTreeMap<&ModuleName, Option<&Needs>> = modules.collect();
        // A logger goes with its module.
        let names: Vec<ModuleName> = asked
            .keys()
            .filter(|name| !name.is_own_logger() && name.logged().is_none_or(|module| !asked.contains_key(&module)))
            .map(|name| (*name).clone())
            .collect();
        let index = names.iter().cloned().enumerate().map(|(number, name)| (name, number)).collect();
        let count = names.len();
        let mut graph = Graph {
            names,
            index,
            waits: vec![Vec::new(); count],
            dependents: vec![Vec::new(); count],
            with_needs: vec![false; count],
            chains: vec![Vec::new(); count],
            cycles: vec![None; count],
            involved: vec![false; count],
            ..Graph::default()
        };
        graph.place(groups);
        let asking = asking(groups);
        for number in 0..count {
            let name = graph.names[number].clone();
            if let Some(needs) = asked.get(&name).copied().flatten() {
                graph.wait(number, name.parent().as_ref(), &needs.needs, true, broken);
                graph.wait(number, name.parent().as_ref(), &needs.after, false, broken);
                graph.with_needs[number] = needs.restart == NeedsRestart::Restart;
            }
            for place in graph.chains[number].iter().map(|(place, _)| *place).collect::<Vec<_>>() {
                let group = graph.groups[place].name.clone();
                if let Some(policy) = groups.get(&group) {
                    graph.involved[number] |= asking.contains(&group);
                    graph.wait(number, group.parent().as_ref(), &policy.needs, true, broken);
                    graph.wait(number, group.parent().as_ref(), &policy.after, false, broken);
                }
            }
        }
        for number in 0..count {
            for other in graph.targets(number).collect::<BTreeSet<usize>>() {
                graph.dependents[other].push(number);
                graph.involved[other] = true;
            }
            graph.involved[number] |= !graph.waits[number].is_empty();
        }
        graph.sort();
        graph
    }

    /// Finds the units of every group and the chain of every module.
    fn place(&mut self, groups: &BTreeMap<ModuleName, GroupPolicy>) {
        let numbers: BTreeMap<&ModuleName, usize> =
            groups.keys().enumerate().map(|(number, name)| (name, number)).collect();
        for (name, policy) in groups {
            let mut units: BTreeMap<ModuleName, Vec<usize>> = BTreeMap::new();
            for (number, module) in self.names.iter().enumerate().filter(|(_, module)| module.is_within(name)) {
                let component = module.components().nth(name.components().count());
                if let Some(unit) = component.and_then(|component| name.join(component).ok()) {
                    units.entry(unit).or_default().push(number);
                }
            }
            let mut units: Vec<Unit> = units.into_iter().map(|(name, modules)| Unit { name, modules }).collect();
            units.sort_by_cached_key(|unit| rank(policy, &unit.name));
            self.groups.push(Place { name: name.clone(), ordered: policy.is_ordered(), units, parent: None });
        }
        for place in 0..self.groups.len() {
            let outer = self.groups[place].name.parent().and_then(|outer| numbers.get(&outer).copied());
            let unit_of = |outer: usize| {
                let within = |unit: &Unit| self.groups[place].name.is_within(&unit.name);
                self.groups[outer].units.iter().position(within)
            };
            self.groups[place].parent = outer.and_then(|outer| Some((outer, unit_of(outer)?)));
            for (unit, modules) in self.groups[place].units.iter().map(|unit| &unit.modules).enumerate() {
                modules.iter().for_each(|module| self.chains[*module].push((place, unit)));
            }
        }
    }

    fn wait(
        &mut self,
        number: usize,
        from: Option<&ModuleName>,
        written: &[String],
        needed: bool,
        broken: &BTreeMap<ModuleName, String>,
    ) {
        for name in written {
            let on = self.resolve(number, from, name, broken);
            self.waits[number].push(Wait { written: name.clone(), needed, on });
        }
    }

    /// What stands behind a name: in the same group, else from the services directory on.
    fn resolve(
        &self,
        number: usize,
        from: Option<&ModuleName>,
        written: &str,
        broken: &BTreeMap<ModuleName, String>,
    ) -> On {
        let Ok(name) = ModuleName::new(&unescaped(written)) else { return On::Missing };
        let near = from.and_then(|group| {
            let joined = [group.as_bytes(), b"/", name.as_bytes()].concat();
            ModuleName::new(&joined).ok()
        });
        for candidate in near.iter().chain([&name]) {
            if let Some(what) = broken.get(candidate) {
                return On::Broken(what.clone());
            }
            let modules = self.behind(candidate);
            if !modules.is_empty() {
                // Of all in its own group it needs the others.
                let own = self.names[number] == *candidate;
                return On::Modules(modules.into_iter().filter(|other| *other != number || own).collect());
            }
        }
        On::Missing
    }

    /// The modules behind a full name: itself, all of a group, or all instances.
    fn behind(&self, name: &ModuleName) -> Vec<usize> {
        if let Some(number) = self.index.get(name) {
            return vec![*number];
        }
        let all = |is: &dyn Fn(&ModuleName) -> bool| -> Vec<usize> {
            self.names.iter().enumerate().filter(|(_, module)| is(module)).map(|(number, _)| number).collect()
        };
        let within = all(&|module| module.is_within(name));
        if within.is_empty() {
            all(&|module| module.instance_of().is_some_and(|(base, _)| base == *name))
        } else {
            within
        }
    }

    /// The modules that this one waits for by its own words or its groups'.
    pub(super) fn targets(&self, number: usize) -> impl Iterator<Item = usize> {
        self.waits[number]
            .iter()
            .flat_map(|wait| match &wait.on {
                On::Modules(modules) => modules.as_slice(),
                On::Missing | On::Broken(_) => &[],
            })
            .copied()
    }

    /// The modules that this one is started after, by words and by the order of its groups.
    fn before(&self, number: usize) -> impl Iterator<Item = usize> {
        let ordered = self.chains[number].iter().filter(|(place, unit)| self.groups[*place].ordered && *unit > 0);
        self.targets(number)
            .chain(ordered.flat_map(|(place, unit)| self.groups[*place].units[unit - 1].modules.iter().copied()))
    }

    /// Makes the order, and finds who waits for itself.
    fn sort(&mut self) {
        let count = self.names.len();
        let before: Vec<BTreeSet<usize>> = (0..count).map(|number| self.before(number).collect()).collect();
        let mut after: Vec<Vec<usize>> = vec![Vec::new(); count];
        for (number, others) in before.iter().enumerate() {
            others.iter().for_each(|other| after[*other].push(number));
        }
        let mut open: Vec<usize> = before.iter().map(BTreeSet::len).collect();
        let free = (0..count).filter(|number| open[*number] == 0).collect();
        self.put_in_order(&[], free, &mut open, &after);
        let rest: Vec<usize> = (0..count).filter(|number| open[*number] > 0).collect();
        for number in &rest {
            self.cycles[*number] = self.path(*number, &before);
        }
        // One circle after the other, as they wait for each other, and what waits for them after them: all in a circle wait
        // for as many, and what comes after it for more.
        let circled = rest.into_iter().filter(|number| self.cycles[*number].is_some());
        let mut circled: Vec<(usize, usize)> = circled.map(|number| (reach(number, &before), number)).collect();
        circled.sort_unstable();
        for circle in circled.chunk_by(|(one, _), (other, _)| one == other) {
            let circle: Vec<usize> = circle.iter().map(|(_, number)| *number).collect();
            self.put_in_order(&circle, BTreeSet::new(), &mut open, &after);
        }
    }

    /// Puts a circle in order, then what is free, or is once that is there.
    fn put_in_order(&mut self, circle: &[usize], mut free: BTreeSet<usize>, open: &mut [usize], after: &[Vec<usize>]) {
        self.order.extend(circle);
        let mut there: Vec<usize> = circle.to_vec();
        loop {
            for number in there {
                for other in after[number].iter().copied().filter(|other| self.cycles[*other].is_none()) {
                    open[other] -= 1;
                    if open[other] == 0 {
                        free.insert(other);
                    }
                }
            }
            let Some(number) = free.pop_first() else { return };
            self.order.push(number);
            there = vec![number];
        }
    }

    /// The shortest way from a module over what it waits for to itself, in words.
    fn path(&self, start: usize, before: &[BTreeSet<usize>]) -> Option<String> {
        let mut came: BTreeMap<usize, usize> = BTreeMap::new();
        let mut look = VecDeque::from([start]);
        while let Some(here) = look.pop_front() {
            for next in &before[here] {
                if came.contains_key(next) {
                    continue;
                }
                came.insert(*next, here);
                if *next == start {
                    look.clear();
                    break;
                }
                look.push_back(*next);
            }
        }
        let mut steps = Vec::new();
        let mut here = start;
        loop {
            let from = *came.get(&here)?;
            steps.push(self.step(from, here));
            here = from;
            if here == start {
                break;
            }
        }
        steps.reverse();
        Some(steps.join(", "))
    }

    fn step(&self, from: usize, to: usize) -> String {
        let needs = self.waits[from]
            .iter()
            .any(|wait| wait.needed && matches!(&wait.on, On::Modules(modules) if modules.contains(&to)));
        let word = if needs { "needs" } else { "comes after" };
        format!("{} {word} {}", said(&self.names[from]), said(&self.names[to]))
    }

    /// The number of a module.
    pub(super) fn number(&self, name: &ModuleName) -> Option<usize> {
        self.index.get(name).copied()
    }

    /// Whether it is one of the modules.
    #[must_use]
    pub fn has(&self, name: &ModuleName) -> bool {
        self.index.contains_key(name)
    }

    /// Whether nobody waits for anybody, and no group asks for anything.
    #[must_use]
    pub fn is_loose(&self) -> bool {
        !self.involved.contains(&true)
    }

    /// Every module that is in no group is of interest.
    pub(super) fn involve_the_top(&mut self) {
        for (number, chain) in self.chains.iter().enumerate() {
            self.involved[number] |= chain.is_empty();
        }
    }

    /// All modules, each after those that it waits for.
    pub fn order(&self) -> impl Iterator<Item = &ModuleName> {
        self.order.iter().map(|number| &self.names[*number])
    }

    /// The way on which a module waits for itself, in words.
    #[must_use]
    pub fn cycle(&self, name: &ModuleName) -> Option<&str> {
        self.number(name).and_then(|number| self.cycle_of(number))
    }

    pub(super) fn cycle_of(&self, number: usize) -> Option<&str> {
        self.cycles[number].as_deref()
    }

    /// What a module waits for.
    #[must_use]
    pub fn waits(&self, name: &ModuleName) -> &[Wait] {
        self.number(name).map_or(&[], |number| &self.waits[number])
    }

    /// The name of a module by its number.
    #[must_use]
    pub fn name(&self, number: usize) -> Option<&ModuleName> {
        self.names.get(number)
    }

    /// Whether a module has to stay until these others are gone: they wait for it, or come after it.
    #[must_use]
    pub fn is_held_up(&self, name: &ModuleName, is_alive: impl Fn(&ModuleName) -> bool) -> bool {
        let Some(number) = self.number(name).filter(|number| self.involved[*number]) else { return false };
        let alive =
            |other: &usize| *other != number && !self.is_entangled(number, *other) && is_alive(&self.names[*other]);
        let later = |(place, unit): &(usize, usize)| {
            let place = &self.groups[*place];
            place.ordered && place.units[unit + 1..].iter().any(|unit| unit.modules.iter().any(alive))
        };
        self.dependents[number].iter().any(alive) || self.chains[number].iter().any(later)
    }

    /// Whether both wait for themselves: then neither can be first.
    pub(super) fn is_entangled(&self, one: usize, other: usize) -> bool {
        self.cycles[one].is_some() && self.cycles[other].is_some()
    }
}

/// How many there are that a module waits for, and those for others.
fn reach(start: usize, before: &[BTreeSet<usize>]) -> usize {
    let mut reached: BTreeSet<usize> = BTreeSet::new();
    let mut look = vec![start];
    while let Some(here) = look.pop() {
        look.extend(before[here].iter().filter(|next| reached.insert(**next)));
    }
    reached.len()
}

/// The groups that ask for something, or whose inner groups may take them along when they fail.
fn asking(groups: &BTreeMap<ModuleName, GroupPolicy>) -> BTreeSet<ModuleName> {
    let mut asking = BTreeSet::new();
    for (name, policy) in groups.iter().filter(|(_, policy)| policy.is_asking()) {
        asking.insert(name.clone());
        let mut outer = name.parent().filter(|_| policy.on_failure != OnFailure::Stop);
        while let Some(group) = outer {
            outer = group.parent();
            asking.insert(group);
        }
    }
    asking
}

/// Where a member stands in the order of its group: named members first, the others by name, instances by number.
fn rank(policy: &GroupPolicy, name: &ModuleName) -> (usize, ModuleName, u32) {
    let (base, number) = name.instance_of().unwrap_or_else(|| (name.clone(), 0));
    let order = policy.order.as_deref().unwrap_or_default();
    let place = |wanted: &ModuleName| {
        let component = wanted.components().next_back().unwrap_or_default();
        order.iter().position(|name| unescaped(name) == component)
    };
    let place = place(name).or_else(|| place(&base)).unwrap_or(order.len());
    (place, base, number)
}
