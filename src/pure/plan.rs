//! What would happen if a tree of services were in force: the steps, in their order, and why.
//!
//! Must never look at a disk, and never be how the tree itself decides: that is the reconciler's.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::instances::directory_of;
use super::name::{ModuleName, escaped};

/// What happens to a module. In the order in which it happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// It has a mistake: what runs of it stays as it is.
    Reject,
    /// It is stopped, and not known any more or not to run.
    Stop,
    /// It does not run, and is not known any more.
    Remove,
    /// It runs on, with other files.
    Change,
    /// It is stopped and started.
    Restart,
    /// It is started.
    Start,
    /// It is known from then on, and does not run.
    Add,
}

impl Action {
    /// As it is written.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Action::Reject => "reject",
            Action::Stop => "stop",
            Action::Remove => "remove",
            Action::Change => "change",
            Action::Restart => "restart",
            Action::Start => "start",
            Action::Add => "add",
        }
    }
}

/// One step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// What is done.
    pub action: Action,
    /// To which module.
    pub module: ModuleName,
    /// Why; of what is rejected, its mistake.
    pub why: String,
    /// The files that are other ones, relative to its directory.
    pub files: Vec<String>,
}

/// A step as `--json` shows it.
#[derive(Serialize)]
struct Shown<'a> {
    action: Action,
    name: String,
    why: &'a str,
    files: &'a [String],
}

/// A module that is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// It is started when svtree starts.
    pub enabled: bool,
    /// What its files say is what is in force.
    pub edit: Edit,
}

/// How the files of a module differ from those in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edit {
    /// They do not.
    None,
    /// These are other ones, which hold from its next start on.
    NextStart(Vec<String>),
    /// These are other ones, and they change only what `r` has hold at once.
    Reload(Vec<String>),
    /// It is another directory, so it is not the same module any more.
    Directory,
}

/// A module that svtree knows, or whose program runs on since svtree was killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InForce {
    /// Something of it runs, or is about to.
    pub runs: bool,
    /// It left by `x`: it stays out as long as its directory is the same.
    pub left: bool,
}

/// Whether svtree runs, which is part of every reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tree {
    /// It does, and does all this at once.
    Runs,
    /// The next one does it.
    Rests,
}

/// The orders in which modules stand behind what they need: as it is wanted, and as it is.
#[derive(Clone, Debug, Default)]
pub struct Orders {
    /// Of what is wanted.
    pub wanted: Vec<ModuleName>,
    /// Of what is in force.
    pub in_force: Vec<ModuleName>,
}

/// The steps to what is wanted. Those that are rejected, with one mistake each, stay as they are whatever is in force.
#[must_use]
pub fn steps(
    wanted: &BTreeMap<ModuleName, Wanted>,
    rejected: &[(ModuleName, String)],
    in_force: &BTreeMap<ModuleName, InForce>,
    orders: &Orders,
    tree: Tree,
) -> Vec<Step> {
    let is_in = |name: &ModuleName| rejected.iter().any(|(outer, _)| name.is_within(outer));
    let is_rejected = |name: &ModuleName| is_in(name) || directory_of(name).is_some_and(|of| is_in(&of.directory));
    let names: BTreeSet<&ModuleName> = wanted.keys().chain(in_force.keys()).collect();
    let mut steps: Vec<Step> = rejected
        .iter()
        .map(|(name, why)| Step { action: Action::Reject, module: name.clone(), why: why.clone(), files: Vec::new() })
        .collect();
    for name in names.into_iter().filter(|name| !is_rejected(name)) {
        if let Some((action, why, files)) = step(wanted.get(name), in_force.get(name), tree) {
            steps.push(Step { action, module: name.clone(), why: why.to_owned(), files });
        }
    }
    let places = |order: &[ModuleName]| -> BTreeMap<ModuleName, usize> {
        order.iter().cloned().enumerate().map(|(place, name)| (name, place)).collect()
    };
    let (start, stop) = (places(&orders.wanted), places(&orders.in_force));
    let place =
        |places: &BTreeMap<ModuleName, usize>, step: &Step| places.get(&step.module).copied().unwrap_or(usize::MAX);
    steps.sort_by_key(|step| match step.action {
        // What needs others goes before them.
        Action::Stop | Action::Remove => (Action::Stop, usize::MAX - place(&stop, step)),
        Action::Start | Action::Add => (Action::Start, place(&start, step)),
        Action::Reject | Action::Change | Action::Restart => (step.action, place(&start, step)),
    });
    steps
}

fn step(
    wanted: Option<&Wanted>,
    in_force: Option<&InForce>,
    tree: Tree,
) -> Option<(Action, &'static str, Vec<String>)> {
    let Some(Wanted { enabled, edit }) = wanted else {
        let action = if in_force?.runs { Action::Stop } else { Action::Remove };
        return Some((action, "it is not there", Vec::new()));
    };
    let step = |action, why| Some((action, why, Vec::new()));
    match (in_force, edit) {
        (None, _) => match (enabled, tree) {
            (true, Tree::Runs) => step(Action::Start, "it is new"),
            (true, Tree::Rests) => step(Action::Start, "svtree does not run; the next one starts it"),
            (false, _) => step(Action::Add, "it is normally down"),
        },
        (Some(InForce { runs: true, .. }), Edit::Directory) if *enabled => {
            step(Action::Restart, "its directory is another one")
        }
        (Some(InForce { runs: true, .. }), Edit::Directory) => {
            step(Action::Stop, "its directory is another one, and it is normally down")
        }
        (Some(InForce { runs: false, .. }), Edit::Directory) if *enabled => {
            step(Action::Start, "its directory is another one")
        }
        (Some(InForce { runs: false, .. }), Edit::Directory) => step(Action::Change, "its directory is another one"),
        (Some(_), Edit::None) => None,
        (Some(InForce { left: true, .. }), Edit::NextStart(files) | Edit::Reload(files)) => {
            Some((Action::Change, "it has left, and stays out", files.clone()))
        }
        (Some(_), Edit::NextStart(files)) => {
            Some((Action::Change, "what is new holds from its next start on", files.clone()))
        }
        (Some(_), Edit::Reload(files)) => {
            let why = "what is new holds from its next start on, or at once with `svtree reload`";
            Some((Action::Change, why, files.clone()))
        }
    }
}

/// The steps as one array of JSON, a step a line.
#[must_use]
pub fn json(steps: &[Step]) -> Vec<u8> {
    let mut data = b"[".to_vec();
    for (index, Step { action, module, why, files }) in steps.iter().enumerate() {
        let shown = Shown { action: *action, name: escaped(module.as_bytes()), why, files };
        data.extend_from_slice(if index == 0 { b"\n" } else { b",\n" });
        // No map with keys other than strings, so serialisation cannot fail.
        data.extend_from_slice(&serde_json::to_vec(&shown).unwrap_or_default());
    }
    data.extend_from_slice(b"\n]\n");
    data
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> ModuleName {
        ModuleName::new(text.as_bytes()).expect("a name")
    }

    const UP: Option<InForce> = Some(InForce { runs: true, left: false });
    const DOWN: Option<InForce> = Some(InForce { runs: false, left: false });
    const LEFT: Option<InForce> = Some(InForce { runs: false, left: true });

    #[test]
    fn what_happens_to_one_module() {
        let run = || vec!["run".to_owned()];
        let wanted = |enabled, edit| Some(Wanted { enabled, edit });
        for (wanted, in_force, action) in [
            (None, None, None),
            (None, UP, Some(Action::Stop)),
            (None, DOWN, Some(Action::Remove)),
            (wanted(true, Edit::None), None, Some(Action::Start)),
            (wanted(false, Edit::None), None, Some(Action::Add)),
            (wanted(true, Edit::None), UP, None),
            (wanted(true, Edit::None), DOWN, None),
            (wanted(false, Edit::None), UP, None),
            (wanted(true, Edit::None), LEFT, None),
            (wanted(true, Edit::NextStart(run())), UP, Some(Action::Change)),
            (wanted(true, Edit::Reload(run())), DOWN, Some(Action::Change)),
            (wanted(true, Edit::NextStart(run())), LEFT, Some(Action::Change)),
            (wanted(true, Edit::Directory), UP, Some(Action::Restart)),
            (wanted(false, Edit::Directory), UP, Some(Action::Stop)),
            (wanted(true, Edit::Directory), DOWN, Some(Action::Start)),
            (wanted(true, Edit::Directory), LEFT, Some(Action::Start)),
            (wanted(false, Edit::Directory), DOWN, Some(Action::Change)),
        ] {
            let found = step(wanted.as_ref(), in_force.as_ref(), Tree::Runs).map(|(action, ..)| action);
            assert_eq!(found, action, "{wanted:?} {in_force:?}");
        }
    }

    #[test]
    fn stops_come_first_and_backwards_and_starts_in_order() {
        let new = || Wanted { enabled: true, edit: Edit::None };
        let wanted = BTreeMap::from([(name("api"), new()), (name("web"), new()), (name("db"), new())]);
        let up = InForce { runs: true, left: false };
        let in_force = BTreeMap::from([(name("old-db"), up), (name("old-web"), up), (name("bad"), up)]);
        let orders =
            Orders { wanted: ["db", "web", "api"].map(name).into(), in_force: ["old-db", "old-web"].map(name).into() };
        let rejected = [(name("bad"), "wrong".to_owned())];
        let steps = steps(&wanted, &rejected, &in_force, &orders, Tree::Runs);
        let shown: Vec<_> = steps.iter().map(|step| format!("{} {}", step.action.name(), step.module)).collect();
        assert_eq!(shown, ["reject bad", "stop old-web", "stop old-db", "start db", "start web", "start api"]);
        let value: serde_json::Value = serde_json::from_slice(&json(&steps)).expect("JSON");
        assert_eq!(value[0]["why"], "wrong");
        assert_eq!(value[5]["name"], "api");
        assert_eq!(serde_json::from_slice::<serde_json::Value>(&json(&[])).expect("JSON"), serde_json::json!([]));
    }

    #[test]
    fn what_is_rejected_stays_as_it_is_with_all_that_is_in_it() {
        let up = InForce { runs: true, left: false };
        let in_force = BTreeMap::from([(name("shop/web"), up), (name("job@1"), up), (name("job@1/log"), up)]);
        let rejected = [(name("shop"), "wrong".to_owned()), (name("job"), "wrong".to_owned())];
        let steps = steps(&BTreeMap::new(), &rejected, &in_force, &Orders::default(), Tree::Runs);
        assert!(steps.iter().all(|step| step.action == Action::Reject), "{steps:?}");
    }
}
