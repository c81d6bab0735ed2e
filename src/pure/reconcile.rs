//! All modules: from what the services directory asks for and what there is, to the steps between them.
//!
//! `diff` is level-triggered: it is run again after every step and every look, and asks for nothing when both agree.
//! Must never look at a disk or start a thread.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::name::ModuleName;
use super::time::Moment;

/// Which directory: device and inode, the same through every link and name; and which of its instances, where there are
/// several.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Id {
    /// `st_dev`.
    pub device: u64,
    /// `st_ino`.
    pub inode: u64,
    /// Counted from 1; 0 of a directory that stands for one module.
    #[serde(default, skip_serializing_if = "is_whole")]
    pub instance: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_whole(instance: &u32) -> bool {
    *instance == 0
}

impl Id {
    /// A file or directory itself.
    #[must_use]
    pub fn of(device: u64, inode: u64) -> Id {
        Id { device, inode, instance: 0 }
    }

    /// An instance of the directory; 0 is the directory itself.
    #[must_use]
    pub fn instance(self, instance: u32) -> Id {
        Id { instance, ..self }
    }
}

/// A module that the services directory asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Desired {
    /// Its directory.
    pub id: Id,
    /// From when on it counts as complete: a directory that is being filled is left alone until it has been quiet.
    pub settled_at: Moment,
    /// Whether its output may go to a logger: then that one is needed, be it asked for or not.
    pub logged: bool,
}

/// A module that has, or had, a supervise thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Actual {
    /// A logger whose thread was started and has not begun: its module is not started before.
    Beginning(Id),
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
            Actual::Beginning(id) | Actual::Running(id) if same != Some(id) => {
                if !is_needed(desired, actual, name) {
                    plan.steps.push(Step::Retire(name.clone()));
                }
            }
            Actual::Beginning(_) | Actual::Running(_) | Actual::Retiring(_) => {}
            Actual::Left(_) | Actual::Refused(..) | Actual::Ended if same.is_none() => {
                plan.steps.push(Step::Remove(name.clone()));
            }
            Actual::Left(_) | Actual::Refused(..) | Actual::Ended => {}
        }
    }
    let mut starts =
        Starts { desired, actual, now, plan, again: BTreeSet::new(), taken: None, pending: BTreeSet::new() };
    let is_logger = |name: &ModuleName| name.logged().is_some_and(|module| desired.wish(&module).is_some());
    for (name, wanted) in desired.wishes().filter(|(name, _)| is_logger(name)) {
        if !starts.add(name, wanted) {
            starts.pending.insert(name.clone());
        }
    }
    let refused = |step: &Step| if let Step::Refuse(name, _) = step { Some(name.clone()) } else { None };
    let refused: BTreeSet<ModuleName> = starts.plan.steps.iter().filter_map(refused).collect();
    if !refused.is_empty() {
        // Two names have one directory, and it goes to the one that has its logger.
        for (name, wanted) in desired.wishes().filter(|(name, _)| !is_logger(name)) {
            let logger = name.logger();
            if desired.wish(&logger).is_some() && !refused.contains(&logger) {
                starts.taken().entry(wanted.id).or_insert(name);
            }
        }
    }
    for (name, wanted) in desired.wishes().filter(|(name, _)| !is_logger(name)) {
        // A logger comes before its module.
        if starts.pending.is_empty() || !starts.pending.contains(&name.logger()) {
            starts.add(name, wanted);
        }
    }
    Plan { again: starts.again.first().copied(), ..starts.plan }
}

/// Whether a logger that is not asked for, or not as it is, has to stay: its module is not through with it.
fn is_needed(desired: &impl Wishes, actual: &BTreeMap<ModuleName, Actual>, logger: &ModuleName) -> bool {
    if logger.is_own_logger() {
        // It logs all others.
        let runs = |actual: &Actual| matches!(actual, Actual::Beginning(_) | Actual::Running(_) | Actual::Retiring(_));
        return actual.iter().any(|(name, actual)| name != logger && runs(actual));
    }
    let Some(module) = logger.logged() else { return false };
    let wish = desired.wish(&module);
    let stays = match actual.get(&module) {
        Some(Actual::Retiring(_)) => false,
        Some(Actual::Beginning(id) | Actual::Running(id)) => wish.is_some_and(|wish| wish.id == *id),
        Some(Actual::Left(_)) => return false,
        // Its program may run all the same, as after a death of svtree.
        Some(Actual::Refused(..) | Actual::Ended) | None if wish.is_none() => return false,
        Some(Actual::Refused(..) | Actual::Ended) | None => true,
    };
    // One that is replaced under a module that stays goes at once: what is said meanwhile waits for the next one.
    !stays || (wish.is_some_and(|wish| wish.logged) && desired.wish(logger).is_none())
}

/// What is to be started.
struct Starts<'a, W> {
    desired: &'a W,
    actual: &'a BTreeMap<ModuleName, Actual>,
    now: Moment,
    plan: Plan,
    again: BTreeSet<Moment>,
    /// Which directories are supervised, and under which names; made once it is asked for, which is seldom.
    taken: Option<BTreeMap<Id, &'a ModuleName>>,
    /// Loggers that their modules have to wait for.
    pending: BTreeSet<ModuleName>,
}

impl<'a, W: Wishes> Starts<'a, W> {
    fn taken(&mut self) -> &mut BTreeMap<Id, &'a ModuleName> {
        self.taken.get_or_insert_with(|| taken_by(self.desired, self.actual))
    }

    /// Adds what is to be done for one module; says whether there is nothing more to come before it has begun.
    fn add(&mut self, name: &'a ModuleName, wanted: Desired) -> bool {
        match self.actual.get(name) {
            None | Some(Actual::Ended) => {}
            Some(Actual::Beginning(_) | Actual::Retiring(_)) => return false,
            Some(Actual::Running(id)) => return *id == wanted.id,
            Some(Actual::Left(id)) if *id == wanted.id => return true,
            Some(Actual::Refused(id, retry)) if *id == wanted.id && *retry > self.now => {
                self.again.insert(*retry);
                return true;
            }
            Some(Actual::Left(_) | Actual::Refused(..)) => {}
        }
        if wanted.settled_at > self.now {
            self.again.insert(wanted.settled_at);
            return false;
        }
        let taken = self.taken();
        let others: Vec<&ModuleName> = held_with(taken, wanted.id).filter(|other| *other != name).collect();
        if others.is_empty() {
            taken.insert(wanted.id, name);
            self.plan.steps.push(Step::Start(name.clone(), wanted.id));
            return false;
        }
        // One that is on its way out is waited for; its end is reported.
        let stays = |other: &&ModuleName| {
            !matches!(self.actual.get(*other), Some(Actual::Retiring(_)))
                && !self.plan.steps.contains(&Step::Retire((*other).clone()))
        };
        let Some(other) = others.into_iter().find(stays) else { return false };
        self.plan.steps.push(Step::Refuse(name.clone(), other.clone()));
        true
    }
}

/// Who has what cannot be had twice: the directory, or this instance of it. A directory is one module or several, never
/// both.
fn held_with<'a>(taken: &BTreeMap<Id, &'a ModuleName>, id: Id) -> impl Iterator<Item = &'a ModuleName> {
    let all = taken.range(id.instance(0)..=id.instance(u32::MAX));
    let held = all.filter(move |(held, _)| id.instance == 0 || held.instance == 0 || held.instance == id.instance);
    held.map(|(_, name)| *name)
}

/// The directories that no other module may have.
fn taken_by<'a>(desired: &impl Wishes, actual: &'a BTreeMap<ModuleName, Actual>) -> BTreeMap<Id, &'a ModuleName> {
    let mut taken = BTreeMap::new();
    for (name, module) in actual {
        match *module {
            Actual::Beginning(id) | Actual::Running(id) | Actual::Retiring(id) => {
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
        Id::of(1, inode)
    }

    fn wants(entries: &[(&str, u64, u64)]) -> BTreeMap<ModuleName, Desired> {
        entries
            .iter()
            .map(|(text, inode, settled)| {
                (name(text), Desired { id: id(*inode), settled_at: Moment(*settled), logged: true })
            })
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
    fn a_directory_that_has_two_names_goes_to_the_one_that_has_its_logger() {
        // In the order of names `w!/log` comes before `w/log`, and `w` before `w!`.
        for (first, other) in [("a", "b"), ("w!", "w")] {
            let [log, other_log] = [first, other].map(|module| format!("{module}/log"));
            let desired = wants(&[(first, 1, 0), (other, 1, 0), (&log, 2, 0), (&other_log, 2, 0)]);
            let refused = Step::Refuse(name(&other_log), name(&log));
            let now = steps(&desired, &BTreeMap::new());
            assert_eq!(now, [Step::Start(name(&log), id(2)), refused.clone(), Step::Refuse(name(other), name(first))]);
            let then = steps(&desired, &has(&[(&log, Actual::Running(id(2)))]));
            let starts = then.iter().filter(|step| matches!(step, Step::Start(..))).collect::<Vec<_>>();
            assert_eq!(starts, [&Step::Start(name(first), id(1))]);
        }
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

    fn wants_instances(of: &str, inode: u64, count: u32) -> BTreeMap<ModuleName, Desired> {
        let desired = |number| Desired { id: id(inode).instance(number), settled_at: Moment(0), logged: true };
        (1..=count).map(|number| (name(&format!("{of}@{number}")), desired(number))).collect()
    }

    #[test]
    fn instances_share_a_directory_and_a_changed_number_touches_the_last_ones_alone() {
        let start = |number| Step::Start(name(&format!("a@{number}")), id(1).instance(number));
        assert_eq!(steps(&wants_instances("a", 1, 2), &BTreeMap::new()), [start(1), start(2)]);
        let both = has(&[("a@1", Actual::Running(id(1).instance(1))), ("a@2", Actual::Running(id(1).instance(2)))]);
        assert_eq!(steps(&wants_instances("a", 1, 2), &both), []);
        assert_eq!(steps(&wants_instances("a", 1, 3), &both), [start(3)]);
        assert_eq!(steps(&wants_instances("a", 1, 1), &both), [Step::Retire(name("a@2"))]);
        // Under a second name there are none of them.
        let refuse = |number: u32| Step::Refuse(name(&format!("b@{number}")), name(&format!("a@{number}")));
        let mut linked = wants_instances("a", 1, 2);
        linked.extend(wants_instances("b", 1, 2));
        assert_eq!(steps(&linked, &both), [refuse(1), refuse(2)]);
    }

    #[test]
    fn a_directory_is_one_module_or_several_never_both() {
        let one = has(&[("a", Actual::Running(id(1)))]);
        assert_eq!(steps(&wants_instances("a", 1, 2), &one), [Step::Retire(name("a"))]);
        assert_eq!(steps(&wants_instances("a", 1, 2), &has(&[("a", Actual::Retiring(id(1)))])), []);
        let (first, second) = (id(1).instance(1), id(1).instance(2));
        let both = has(&[("a@1", Actual::Running(first)), ("a@2", Actual::Running(second))]);
        let retire = [Step::Retire(name("a@1")), Step::Retire(name("a@2"))];
        assert_eq!(steps(&wants(&[("a", 1, 0)]), &both), retire);
        let last = has(&[("a@1", Actual::Ended), ("a@2", Actual::Retiring(second))]);
        assert_eq!(steps(&wants(&[("a", 1, 0)]), &last), [Step::Remove(name("a@1"))]);
        let ended = has(&[("a@2", Actual::Ended)]);
        assert_eq!(steps(&wants(&[("a", 1, 0)]), &ended), [Step::Remove(name("a@2")), Step::Start(name("a"), id(1))]);
    }

    #[test]
    fn refused_is_tried_again_in_time() {
        let refused = has(&[("a", Actual::Refused(id(1), Moment(12)))]);
        let plan = diff(&wants(&[("a", 1, 0)]), &refused, Moment(10));
        assert_eq!((plan.steps, plan.again), (vec![], Some(Moment(12))));
        let plan = diff(&wants(&[("a", 1, 0)]), &refused, Moment(12));
        assert_eq!(plan.steps, [Step::Start(name("a"), id(1))]);
    }

    #[test]
    fn a_logger_is_started_before_its_module() {
        let desired = wants(&[("a", 1, 0), ("a/log", 2, 0)]);
        assert_eq!(steps(&desired, &BTreeMap::new()), [Step::Start(name("a/log"), id(2))]);
        assert_eq!(steps(&desired, &has(&[("a/log", Actual::Beginning(id(2)))])), []);
        for through in [Actual::Running(id(2)), Actual::Left(id(2)), Actual::Refused(id(2), Moment(12))] {
            assert_eq!(steps(&desired, &has(&[("a/log", through)])), [Step::Start(name("a"), id(1))]);
        }
        // One that cannot be had keeps nobody waiting.
        let taken = wants(&[("a", 1, 0), ("a/log", 3, 0), ("b", 3, 0)]);
        let plan = steps(&taken, &has(&[("b", Actual::Running(id(3)))]));
        assert_eq!(plan, [Step::Refuse(name("a/log"), name("b")), Step::Start(name("a"), id(1))]);
        // It settles later than its module.
        let plan = diff(&wants(&[("a", 1, 0), ("a/log", 2, 15)]), &BTreeMap::new(), Moment(10));
        assert_eq!((plan.steps, plan.again), (vec![], Some(Moment(15))));
    }

    #[test]
    fn a_logger_is_retired_after_its_module() {
        let both = has(&[("a", Actual::Running(id(1))), ("a/log", Actual::Running(id(2)))]);
        assert_eq!(steps(&wants(&[]), &both), [Step::Retire(name("a"))]);
        let retiring = has(&[("a", Actual::Retiring(id(1))), ("a/log", Actual::Running(id(2)))]);
        assert_eq!(steps(&wants(&[]), &retiring), []);
        for gone in [Actual::Ended, Actual::Left(id(1))] {
            let actual = has(&[("a", gone), ("a/log", Actual::Running(id(2)))]);
            assert_eq!(steps(&wants(&[]), &actual), [Step::Remove(name("a")), Step::Retire(name("a/log"))]);
        }
        // Also where both are replaced: then the new logger is there before the new module.
        let new = wants(&[("a", 3, 0), ("a/log", 4, 0)]);
        assert_eq!(steps(&new, &both), [Step::Retire(name("a"))]);
        let ended = has(&[("a", Actual::Ended), ("a/log", Actual::Running(id(2)))]);
        assert_eq!(steps(&new, &ended), [Step::Retire(name("a/log"))]);
        let ended = has(&[("a", Actual::Ended), ("a/log", Actual::Ended)]);
        assert_eq!(steps(&new, &ended), [Step::Start(name("a/log"), id(4))]);
    }

    #[test]
    fn a_logger_under_a_module_that_stays_is_replaced_at_once_and_taken_away_once_nobody_needs_it() {
        let both = has(&[("a", Actual::Running(id(1))), ("a/log", Actual::Running(id(2)))]);
        assert_eq!(steps(&wants(&[("a", 1, 0), ("a/log", 3, 0)]), &both), [Step::Retire(name("a/log"))]);
        let mut desired = wants(&[("a", 1, 0)]);
        assert_eq!(steps(&desired, &both), []);
        // Taken over from a dead svtree, as its module is about to be.
        let alone = has(&[("a/log", Actual::Running(id(2)))]);
        assert_eq!(steps(&desired, &alone), [Step::Start(name("a"), id(1))]);
        desired.values_mut().for_each(|desired| desired.logged = false);
        assert_eq!(steps(&desired, &both), [Step::Retire(name("a/log"))]);
    }

    #[test]
    fn a_module_of_a_group_that_is_called_log_is_no_logger() {
        let desired = wants(&[("group/db", 1, 0), ("group/log", 2, 0)]);
        let plan = steps(&desired, &BTreeMap::new());
        assert_eq!(plan, [Step::Start(name("group/db"), id(1)), Step::Start(name("group/log"), id(2))]);
        let both = has(&[("group/db", Actual::Running(id(1))), ("group/log", Actual::Running(id(2)))]);
        assert_eq!(steps(&wants(&[]), &both), [Step::Retire(name("group/db")), Step::Retire(name("group/log"))]);
    }
}
