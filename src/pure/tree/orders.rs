//! The word for every module, from how all of them stand.
//!
//! Must never remember what happened: what follows from a death is in the course of its group.

use std::collections::BTreeMap;

use super::graph::On;
use super::groups::Course;
use super::{Member, Tree, said};
use crate::pure::config::Strategy;
use crate::pure::name::ModuleName;
use crate::pure::standing::{Gate, Stand, Standing};
use crate::pure::time::Moment;

/// A word for a module, and its number.
pub type Order = (ModuleName, Gate, u64);

/// What a running member of a group waits for whose starts are its group's.
const DECIDED: &str = "its group decides when it is started again";

/// Why a module may not start.
#[derive(Clone, Debug)]
struct Hindrance {
    why: String,
    /// Nothing will change that by itself.
    lasts: bool,
}

impl Tree {
    /// How a module stands now.
    pub fn heard(&mut self, name: &ModuleName, standing: Standing, now: Moment) {
        let Some(number) = self.graph.number(name) else { return };
        let member = self.members.entry(name.clone()).or_default();
        let late = std::mem::take(&mut member.late).then_some(standing);
        let before = member.standing.replace(standing).or(late);
        member.unseen = false;
        // Another thread counts anew.
        let since = before.filter(|before| before.spawns <= standing.spawns && before.deaths <= standing.deaths);
        let (spawns, deaths) = since.map_or((0, 0), |before| (before.spawns, before.deaths));
        member.epoch += standing.spawns - spawns;
        if standing.spawns > spawns || before.is_none() || late.is_some() {
            self.rebase(number);
        }
        let failed = |standing: Standing| standing.stand == Stand::Failed;
        if failed(standing) && before.is_some_and(|before| !failed(before)) {
            self.gave_up(number, now);
        }
        self.died(number, standing.deaths - deaths, now);
    }

    /// The word that the thread of a module begins with; `None`: it stands alone, and need not tell how.
    pub fn first(&mut self, name: &ModuleName) -> Option<(Gate, u64)> {
        let number = self.graph.number(name).filter(|number| self.graph.involved[*number])?;
        let member = self.members.entry(name.clone()).or_default();
        (member.standing, member.word, member.late) = (None, None, false);
        let (word, _) = self.words().into_iter().nth(number)?;
        let member = self.members.entry(name.clone()).or_default();
        member.number += 1;
        member.word = Some(word.clone());
        Some((word, member.number))
    }

    /// What is to be told to whom; only those with a thread can be.
    pub fn orders(&mut self, has_thread: impl Fn(&ModuleName) -> bool) -> Vec<Order> {
        self.settle();
        let words = self.words();
        let mut orders = Vec::new();
        for (number, (word, lacks)) in words.into_iter().enumerate() {
            let name = &self.graph.names[number];
            if let Some(member) = self.members.get_mut(name) {
                member.lacks = lacks;
            }
            let known = self.members.get(name).is_some_and(|member| member.word.is_some());
            if !(self.graph.involved[number] || known) || !has_thread(name) {
                continue;
            }
            let member = self.members.entry(name.clone()).or_default();
            // One that has begun behind a closed gate says first whether its program has died meanwhile.
            if word == Gate::Once && member.word.is_some() && member.standing.is_none() {
                continue;
            }
            // A start that was used up without coming to anything is given again.
            let used_up = word == Gate::Once
                && member.standing.is_some_and(|standing| standing.number == member.number && !standing.may);
            if member.word.as_ref() != Some(&word) || used_up {
                member.late |= member.word.is_none();
                member.number += 1;
                member.word = Some(word.clone());
                orders.push((name.clone(), word, member.number));
            }
        }
        orders
    }

    /// The word for every module, by its number, and why it may not start if nothing will change that by itself.
    fn words(&self) -> Vec<(Gate, Option<String>)> {
        let mut words = vec![(Gate::Open, None); self.graph.names.len()];
        let mut scene = Scene::new(self);
        // Each after all that it waits for.
        for number in self.graph.order.iter().copied().filter(|number| self.graph.involved[*number]) {
            scene.look_at(number);
            let hindrance = scene.hindrances[number].as_ref();
            let lacks = hindrance.filter(|hindrance| hindrance.lasts).map(|hindrance| hindrance.why.clone());
            words[number] = (self.word(number, hindrance), lacks);
        }
        words
    }

    fn word(&self, number: usize, hindrance: Option<&Hindrance>) -> Gate {
        let standing = self.standing(number);
        let runs = standing.is_some_and(|standing| standing.runs);
        let chain = &self.graph.chains[number];
        for (place, unit) in chain {
            match self.groups.get(&self.graph.groups[*place].name).map(|group| &group.course) {
                // They fail as they are stopped, the last one first.
                Some(Course::Failed(_, done)) => {
                    let (why, fails) = (self.innermost_failure(number), *done || self.is_last(number, *place));
                    return if fails { Gate::Fail(why) } else { Gate::Closed(why) };
                }
                Some(Course::Stopping(from, why)) if unit >= from => {
                    let is_last = self.is_last(number, *place);
                    return if is_last { Gate::Stop(why.clone()) } else { Gate::Closed(why.clone()) };
                }
                Some(Course::Stopping(..) | Course::Open) | None => {}
            }
        }
        if runs && let Some(other) = self.started_again(number) {
            return Gate::Stop(format!("needs {other}, which was started again"));
        }
        let together = chain.last().is_some_and(|(place, _)| self.is_together(*place));
        match hindrance {
            Some(hindrance) => Gate::Closed(hindrance.why.clone()),
            None if together && runs => Gate::Closed(DECIDED.to_owned()),
            None if together => Gate::Once,
            None => Gate::Open,
        }
    }

    /// Why the innermost of the failed groups that a module is in has failed. That an outer one begins anew is no news to
    /// it: a second word of the same would undo a letter that is on its way.
    fn innermost_failure(&self, number: usize) -> String {
        let mut groups = self.graph.chains[number].iter().rev().map(|(place, _)| &self.graph.groups[*place].name);
        let failure = |name| match self.groups.get(name).map(|group| &group.course) {
            Some(Course::Failed(why, _)) => Some(why.clone()),
            Some(Course::Stopping(..) | Course::Open) | None => None,
        };
        groups.find_map(failure).unwrap_or_default()
    }

    fn is_together(&self, place: usize) -> bool {
        let group = self.groups.get(&self.graph.groups[place].name);
        group.is_some_and(|group| group.policy.strategy != Strategy::OneForOne)
    }

    /// Whether nothing that comes after a module, within the group that is being stopped, runs any more.
    fn is_last(&self, number: usize, stopping: usize) -> bool {
        let others = |numbers: &[usize]| {
            numbers
                .iter()
                .filter(|other| !self.graph.is_entangled(number, **other))
                .all(|other| self.is_stopped(*other))
        };
        let chain = self.graph.chains[number].iter().skip_while(|(place, _)| *place != stopping);
        let mut later = chain.filter(|(place, _)| self.graph.groups[*place].ordered);
        let in_order = later
            .all(|(place, unit)| self.graph.groups[*place].units[unit + 1..].iter().all(|unit| others(&unit.modules)));
        let within = &self.graph.groups[stopping].name;
        let dependents: Vec<usize> = self.graph.dependents[number]
            .iter()
            .copied()
            .filter(|other| *other != number && self.graph.names[*other].is_within(within))
            .filter(|other| self.is_in_course(*other, stopping))
            .collect();
        in_order && others(&dependents)
    }

    /// Whether a module is among those that its group is stopping.
    fn is_in_course(&self, number: usize, stopping: usize) -> bool {
        let unit = self.graph.chains[number].iter().find(|(place, _)| *place == stopping).map(|(_, unit)| *unit);
        let course = self.groups.get(&self.graph.groups[stopping].name).map(|group| &group.course);
        match (unit, course) {
            (Some(unit), Some(Course::Stopping(from, _))) => unit >= *from,
            (Some(_), Some(Course::Failed(..))) => true,
            (_, Some(Course::Open) | None) | (None, _) => false,
        }
    }

    fn standing(&self, number: usize) -> Option<Standing> {
        self.members.get(&self.graph.names[number]).and_then(|member| member.standing)
    }

    fn epoch(&self, number: usize) -> u64 {
        self.members.get(&self.graph.names[number]).map_or(0, |member| member.epoch)
    }

    /// From now on what a module needs is what it was started with.
    fn rebase(&mut self, number: usize) {
        if self.graph.with_needs[number] {
            let base: BTreeMap<ModuleName, u64> =
                self.needed(number).map(|other| (self.graph.names[other].clone(), self.epoch(other))).collect();
            self.members.entry(self.graph.names[number].clone()).or_default().base = base;
        }
    }

    /// What it has in mind beyond the last words and what it was told; two trees that agree in everything that can be
    /// asked behave alike.
    #[must_use]
    pub fn intentions(&self, now: Moment) -> String {
        let groups = self.groups.iter();
        let groups: Vec<_> = groups.map(|(name, group)| (name, &group.course, group.ages(now))).collect();
        let names = self.graph.names.iter().enumerate();
        let again: Vec<_> = names.filter_map(|(number, name)| Some((name, self.started_again(number)?))).collect();
        format!("{groups:?} {again:?}")
    }

    /// What a module needs that was started again since it was started itself, if it is to be so as well.
    fn started_again(&self, number: usize) -> Option<String> {
        if !self.graph.with_needs[number] {
            return None;
        }
        let base = self.members.get(&self.graph.names[number]).map(|Member { base, .. }| base)?;
        let newer = |other: &usize| base.get(&self.graph.names[*other]).is_some_and(|base| *base < self.epoch(*other));
        self.needed(number).find(newer).map(|other| said(&self.graph.names[other]))
    }

    fn needed(&self, number: usize) -> impl Iterator<Item = usize> {
        self.graph.waits[number]
            .iter()
            .filter(|wait| wait.needed)
            .flat_map(|wait| match &wait.on {
                On::Modules(modules) => modules.as_slice(),
                On::Missing | On::Broken(_) => &[],
            })
            .copied()
    }
}

/// How everybody stands while words are found, and who is kept from starting by what.
struct Scene<'a> {
    tree: &'a Tree,
    standings: Vec<Option<Standing>>,
    hindrances: Vec<Option<Hindrance>>,
    /// What keeps each unit of an ordered group waiting for those before it, as far as anybody asked.
    orders: Vec<Vec<Option<Hindrance>>>,
}

impl<'a> Scene<'a> {
    fn new(tree: &'a Tree) -> Scene<'a> {
        let count = tree.graph.names.len();
        let standings = (0..count).map(|number| tree.standing(number)).collect();
        let orders = vec![vec![None]; tree.graph.groups.len()];
        Scene { tree, standings, hindrances: vec![None; count], orders }
    }

    /// Finds what keeps a module from starting: what it waits for, by its own words, its groups' and their order.
    fn look_at(&mut self, number: usize) {
        let graph = &self.tree.graph;
        if let Some(path) = graph.cycle_of(number) {
            self.hindrances[number] = Some(Hindrance { why: format!("waits for itself: {path}"), lasts: true });
            return;
        }
        let mut found = None;
        for wait in &graph.waits[number] {
            let missing = match &wait.on {
                On::Modules(modules) => {
                    let kind = if wait.needed { Kind::Needed } else { Kind::After };
                    modules.iter().for_each(|other| add(&mut found, self.hinders(*other, kind)));
                    continue;
                }
                On::Missing => "not there",
                On::Broken(what) => what,
            };
            if wait.needed {
                let why = format!("needs {}, which is {missing}", said_as(&wait.written));
                add(&mut found, Some(Hindrance { why, lasts: true }));
            }
        }
        for (place, unit) in graph.chains[number].iter().filter(|(place, _)| graph.groups[*place].ordered) {
            add(&mut found, self.in_order(*place, *unit));
        }
        self.hindrances[number] = found;
    }

    /// What keeps a unit of an ordered group waiting for those before it.
    fn in_order(&mut self, place: usize, unit: usize) -> Option<Hindrance> {
        let kind = if self.tree.is_together(place) { Kind::Ordered } else { Kind::After };
        while self.orders[place].len() <= unit {
            let mut found = self.orders[place].last().cloned().flatten();
            let before = self.orders[place].len() - 1;
            for other in &self.tree.graph.groups[place].units[before].modules {
                add(&mut found, self.hinders(*other, kind));
            }
            self.orders[place].push(found);
        }
        self.orders[place][unit].clone()
    }

    /// Why one module keeps another waiting, if it does.
    fn hinders(&self, other: usize, kind: Kind) -> Option<Hindrance> {
        let deeper = self.hindrances[other].as_ref().filter(|hindrance| hindrance.lasts);
        let standing = self.standings[other];
        let (how, lasts) = match standing {
            None => ("has not begun", false),
            Some(Standing { stand: Stand::Ready, .. }) => return None,
            Some(Standing { wanted: false, runs: false, .. }) => match kind {
                Kind::Needed => ("is down", true),
                Kind::Ordered | Kind::After => return None,
            },
            Some(Standing { stand: Stand::Failed, .. }) => ("has failed", true),
            Some(Standing { stand: Stand::Ending, .. }) => ("is being stopped", false),
            Some(Standing { stand: Stand::Coming, .. }) => ("is not ready yet", false),
            Some(Standing { stand: Stand::Waiting | Stand::Down, .. }) => match deeper {
                Some(Hindrance { why, .. }) => (why.as_str(), true),
                None => ("is not up yet", false),
            },
        };
        let tried = standing.is_some_and(|standing| standing.deaths > 0);
        if kind == Kind::After && (lasts || tried) {
            return None;
        }
        let verb = if kind == Kind::Needed { "needs" } else { "comes after" };
        Some(Hindrance { why: format!("{verb} {}, which {how}", said(&self.tree.graph.names[other])), lasts })
    }
}

/// One hindrance is said; what lasts is of more interest.
fn add(found: &mut Option<Hindrance>, next: Option<Hindrance>) {
    if let Some(next) = next
        && found.as_ref().is_none_or(|found| !found.lasts && next.lasts)
    {
        *found = Some(next);
    }
}

/// How one module waits for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// It cannot do without.
    Needed,
    /// Its group starts them together, one after the other; one that nobody wants is passed over.
    Ordered,
    /// It comes later, whatever becomes of the other.
    After,
}

/// A name as it was written, for a sentence.
fn said_as(written: &str) -> String {
    crate::pure::name::printable(&crate::pure::name::unescaped(written))
}
