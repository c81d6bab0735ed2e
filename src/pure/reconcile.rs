//! All modules: from what the services directory asks for and what there is, to the steps between them.
//!
//! `diff` is level-triggered: it is run again after every step and every look, and asks for nothing when both agree.
//! Must never look at a disk or start a thread.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::name::ModuleName;
use super::time::Moment;

/// Which directory: device and inode, the same through every link and name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Id {
    /// `st_dev`.
    pub device: u64,
    /// `st_ino`.
    pub inode: u64,
}

/// A module that the services directory asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Desired {
    /// Its directory.
    pub id: Id,
    /// From when on it counts as complete: a directory that is being filled is left alone until it has been quiet.
    pub settled_at: Moment,
}

/// A module that has, or had, a supervise thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Actual {
    /// Supervised.
    Running(Id),
    /// Told to stop and leave.
    Retiring(Id),
    /// Its thread left by `x`; its status directory stays.
    Left(Id),
    /// Its thread could not begin; it is tried again at this moment.
    Refused(Id, Moment),
    /// It is not desired any more and its thread is gone; its status directory is still there.
    Ended,
}

/// All that is asked for.
pub trait Wishes {
    /// What is asked for under this name.
    fn wish(&self, name: &ModuleName) -> Option<Desired>;

    /// Everything, in the order of names.
    fn wishes(&self) -> impl Iterator<Item = (&ModuleName, Desired)>;
}

impl Wishes for BTreeMap<ModuleName, Desired> {
    fn wish(&self, name: &ModuleName) -> Option<Desired> {
        self.get(name).copied()
    }

    fn wishes(&self) -> impl Iterator<Item = (&ModuleName, Desired)> {
        self.iter().map(|(name, desired)| (name, *desired))
    }
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Start a supervise thread.
    Start(ModuleName, Id),
    /// Tell it to stop its program and leave.
    Retire(ModuleName),
    /// Remove its status directory.
    Remove(ModuleName),
    /// Its directory is already supervised under the second name; say so.
    Refuse(ModuleName, ModuleName),
}

/// The steps, and when to look again.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// To be carried out in this order.
    pub steps: Vec<Step>,
    /// When something settles or is tried again.
    pub again: Option<Moment>,
}

/// The steps from `actual` to `desired`.
///
/// A replaced directory needs no step of its own: it is retired, and started by the next run of this function.
#[must_use]
pub fn diff(desired: &impl Wishes, actual: &BTreeMap<ModuleName, Actual>, now: Moment) -> Plan {
    let mut plan = Plan::default();
    for (name, module) in actual {
        let same = desired.wish(name).map(|wanted| wanted.id);
        match *module {
            Actual::Running(id) if same != Some(id) => plan.steps.push(Step::Retire(name.clone())),
            Actual::Running(_) | Actual::Retiring(_) => {}
            Actual::Left(_) | Actual::Refused(..) | Actual::Ended if same.is_none() => {
                plan.steps.push(Step::Remove(name.clone()));
            }
            Actual::Left(_) | Actual::Refused(..) | Actual::Ended => {}
        }
    }
    let mut again: BTreeSet<Moment> = BTreeSet::new();
    // Which directories are supervised, and under which names; made once it is asked for, which is seldom.
    let mut taken: Option<BTreeMap<Id, &ModuleName>> = None;
    for (name, wanted) in desired.wishes() {
        let startable = match actual.get(name) {
            None | Some(Actual::Ended) => true,
            Some(Actual::Running(_) | Actual::Retiring(_)) => continue,
            Some(Actual::Left(id)) => *id != wanted.id,
            Some(Actual::Refused(id, retry)) => {
                if *id == wanted.id && *retry > now {
                    again.insert(*retry);
                    false
                } else {
                    true
                }
            }
        };
        if !startable {
            continue;
        }
        if wanted.settled_at > now {
            again.insert(wanted.settled_at);
            continue;
        }
        let taken = taken.get_or_insert_with(|| taken_by(desired, actual));
        match taken.get(&wanted.id) {
            Some(other) if *other != name => {
                // One that is on its way out is waited for; its end is reported.
                if !matches!(actual.get(*other), Some(Actual::Retiring(_)))
                    && !plan.steps.contains(&Step::Retire((*other).clone()))
                {
                    plan.steps.push(Step::Refuse(name.clone(), (*other).clone()));
                }
            }
            _ => {
                taken.insert(wanted.id, name);
                plan.steps.push(Step::Start(name.clone(), wanted.id));
            }
        }
    }
    plan.again = again.first().copied();
    plan
}

/// The directories that no other module may have.
fn taken_by<'a>(desired: &impl Wishes, actual: &'a BTreeMap<ModuleName, Actual>) -> BTreeMap<Id, &'a ModuleName> {
    let mut taken = BTreeMap::new();
    for (name, module) in actual {
        match *module {
            Actual::Running(id) | Actual::Retiring(id) => {
                taken.insert(id, name);
            }
            Actual::Left(id) | Actual::Refused(id, _) => {
                if desired.wish(name).is_some_and(|wanted| wanted.id == id) {
                    taken.entry(id).or_insert(name);
                }
            }
            Actual::Ended => {}
        }
    }
    taken
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> ModuleName {
        ModuleName::new(text.as_bytes()).expect("a good name")
    }

    fn id(inode: u64) -> Id {
        Id { device: 1, inode }
    }

    fn wants(entries: &[(&str, u64, u64)]) -> BTreeMap<ModuleName, Desired> {
        entries
            .iter()
            .map(|(text, inode, settled)| (name(text), Desired { id: id(*inode), settled_at: Moment(*settled) }))
            .collect()
    }

    fn has(entries: &[(&str, Actual)]) -> BTreeMap<ModuleName, Actual> {
        entries.iter().map(|(text, actual)| (name(text), *actual)).collect()
    }

    fn steps(desired: &BTreeMap<ModuleName, Desired>, actual: &BTreeMap<ModuleName, Actual>) -> Vec<Step> {
        diff(desired, actual, Moment(10)).steps
    }

    #[test]
    fn starts_what_is_settled_and_waits_for_what_is_not() {
        let plan = diff(&wants(&[("a", 1, 0), ("b", 2, 15)]), &BTreeMap::new(), Moment(10));
        assert_eq!(plan.steps, [Step::Start(name("a"), id(1))]);
        assert_eq!(plan.again, Some(Moment(15)));
    }

    #[test]
    fn replaced_is_retired_first_and_started_after() {
        let desired = wants(&[("a", 2, 0)]);
        assert_eq!(steps(&desired, &has(&[("a", Actual::Running(id(1)))])), [Step::Retire(name("a"))]);
        assert_eq!(steps(&desired, &has(&[("a", Actual::Retiring(id(1)))])), []);
        assert_eq!(steps(&desired, &has(&[("a", Actual::Ended)])), [Step::Start(name("a"), id(2))]);
    }

    #[test]
    fn a_renamed_directory_starts_under_its_new_name_once_the_old_one_is_gone() {
        let desired = wants(&[("b", 1, 0)]);
        assert_eq!(steps(&desired, &has(&[("a", Actual::Running(id(1)))])), [Step::Retire(name("a"))]);
        assert_eq!(steps(&desired, &has(&[("a", Actual::Retiring(id(1)))])), []);
        assert_eq!(
            steps(&desired, &has(&[("a", Actual::Ended)])),
            [Step::Remove(name("a")), Step::Start(name("b"), id(1))]
        );
    }

    #[test]
    fn left_stays_out_until_it_is_dropped_again() {
        let left = has(&[("a", Actual::Left(id(1)))]);
        assert_eq!(steps(&wants(&[("a", 1, 0)]), &left), []);
        assert_eq!(steps(&wants(&[("a", 2, 0)]), &left), [Step::Start(name("a"), id(2))]);
        assert_eq!(steps(&wants(&[]), &left), [Step::Remove(name("a"))]);
    }

    #[test]
    fn the_second_link_to_one_directory_is_refused() {
        let desired = wants(&[("a", 1, 0), ("b", 1, 0)]);
        assert_eq!(
            steps(&desired, &BTreeMap::new()),
            [Step::Start(name("a"), id(1)), Step::Refuse(name("b"), name("a"))]
        );
        assert_eq!(steps(&desired, &has(&[("b", Actual::Running(id(1)))])), [Step::Refuse(name("a"), name("b"))]);
    }

    #[test]
    fn refused_is_tried_again_in_time() {
        let refused = has(&[("a", Actual::Refused(id(1), Moment(12)))]);
        let plan = diff(&wants(&[("a", 1, 0)]), &refused, Moment(10));
        assert_eq!((plan.steps, plan.again), (vec![], Some(Moment(12))));
        let plan = diff(&wants(&[("a", 1, 0)]), &refused, Moment(12));
        assert_eq!(plan.steps, [Step::Start(name("a"), id(1))]);
    }
}
