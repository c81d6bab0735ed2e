//! A change of a module that is supervised: it is looked at whole before it takes the place of what is in force, and rejected
//! if anything that it names is not there. Then the last good one stays in force, and it is looked at again.
//!
//! What it names may be where nobody answers, so others look: must never wait for them, and must never start or stop
//! anything.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::Builder;
use std::time::Duration;

use super::Parent;
use super::wanted::Wanted;
use super::wish::{Files, Wish};
use crate::pure::config::Policy;
use crate::pure::instances::directory_of;
use crate::pure::name::ModuleName;
use crate::pure::reconcile::Id;
use crate::pure::time::Moment;
use crate::supervise::Loaded;
use crate::unix::accounts::Asked;
use crate::unix::prints::Prints;
use crate::unix::report::plain;
use crate::unix::{clock, scan, validate};

/// So many look at the same time.
const MOST: usize = 8;
/// One who has not answered by then is not waited for.
const PATIENCE: Duration = Duration::from_secs(5);
/// What was rejected is looked at again after this time: a user or a program may come, of which no file here tells.
const AGAIN: Duration = Duration::from_secs(2);

/// What the files of a module ask for, as long as it is not in force.
#[derive(Debug)]
pub(super) struct Candidate {
    pub(super) policy: Policy,
    pub(super) files: Files,
    /// The digest of its `run`.
    run: Option<u64>,
    /// What can be is to hold at once.
    at_once: bool,
    /// It was found to be wrong before.
    wrong: bool,
    /// Its modules would wait for themselves.
    circular: bool,
    /// The number of the question that is out.
    asked: Option<u64>,
}

impl Candidate {
    /// Whether it may come into force: others that change with it are looked at as if it did.
    pub(super) fn is_likely(&self) -> bool {
        !self.wrong || self.circular
    }

    pub(super) fn new(policy: Policy, files: Files, run: Option<u64>, at_once: bool) -> Candidate {
        Candidate { policy, files, run, at_once, wrong: false, circular: false, asked: None }
    }
}

/// The questions about all candidates.
#[derive(Debug, Default)]
pub(super) struct Changes {
    number: u64,
    to_ask: BTreeSet<ModuleName>,
    /// Those that are being looked at, and since when.
    out: BTreeMap<u64, (ModuleName, Moment)>,
    again: BTreeMap<ModuleName, Moment>,
}

/// Whether all is there that a candidate names.
#[derive(Debug)]
pub(super) struct Question {
    number: u64,
    path: PathBuf,
    id: Id,
    policy: Policy,
    /// What is in force.
    before: Arc<Policy>,
}

/// What is wrong with a candidate.
#[derive(Debug)]
pub(super) struct Verdict {
    number: u64,
    name: ModuleName,
    wrong: Vec<String>,
    /// Something else is wrong with what is in force: then the candidate says at least what is wanted now.
    no_worse: bool,
}

/// What a dead svtree has left of a module whose program runs.
#[derive(Debug)]
pub(super) struct LeftBehind {
    pub(super) id: Id,
    /// Its output went to a logger.
    pub(super) logged: bool,
    /// Why its files were rejected, if they were,
    pub(super) rejected: Option<String>,
    /// and what was in force then.
    pub(super) good: Option<Policy>,
}

impl Wanted {
    /// Files that can be read ask for something else than what is in force.
    pub(super) fn propose(&mut self, name: &ModuleName, candidate: Candidate) {
        let Some(wish) = self.modules.get_mut(name) else { return };
        wish.candidate = Some(Box::new(candidate));
        self.changes.again.remove(name);
        self.changes.to_ask.insert(name.clone());
    }

    /// Whether it will soon be known what of a module's files is in force; if so it is told at once then.
    pub(super) fn is_undecided(&mut self, name: &ModuleName) -> bool {
        let name = &self.directory(name);
        let Some(candidate) = self.modules.get_mut(name).and_then(|wish| wish.candidate.as_mut()) else { return false };
        let is_out = candidate.asked.is_some_and(|number| self.changes.out.contains_key(&number));
        let undecided = is_out || (candidate.asked.is_none() && self.changes.to_ask.contains(name));
        candidate.at_once |= undecided;
        undecided
    }

    /// The next one that is to be looked at, if somebody may look.
    fn next_question(&mut self, now: Moment) -> Option<(ModuleName, Question)> {
        while self.changes.out.len() < MOST {
            let name = self.changes.to_ask.pop_first()?;
            let Some(wish) = self.modules.get_mut(&name) else { continue };
            let Some(candidate) = wish.candidate.as_mut().filter(|candidate| candidate.asked.is_none()) else {
                continue;
            };
            self.changes.number += 1;
            let number = self.changes.number;
            candidate.asked = Some(number);
            self.changes.out.insert(number, (name.clone(), now));
            let policy = candidate.policy.clone();
            let before = wish.loaded.as_ref().map(|loaded| loaded.policy.clone()).unwrap_or_default();
            return Some((name, Question { number, path: wish.path.clone(), id: wish.id, policy, before }));
        }
        None
    }

    /// What is wrong with a candidate is known. One that is late counts as well.
    pub(super) fn judged(&mut self, Verdict { number, name, mut wrong, no_worse }: Verdict, now: Moment) {
        self.changes.out.remove(&number);
        let circle = if wrong.is_empty() { self.waits_for_itself(&name) } else { None };
        let circular = circle.is_some();
        wrong.extend(circle);
        let asked = |candidate: &mut Box<Candidate>| candidate.asked == Some(number);
        let Some(wish) = self.modules.get_mut(&name) else { return };
        let Some(mut candidate) = wish.candidate.take_if(asked) else { return };
        let at_once = std::mem::take(&mut candidate.at_once);
        if wrong.is_empty() || (no_worse && !wish.is_unknown()) {
            let Candidate { policy, files, run, .. } = *candidate;
            wish.accept(policy, files, run, &mut self.alike);
        } else {
            wish.reject(&scan::in_one_line(&wrong), Some((candidate.files, candidate.run)));
            wish.candidate = Some(Box::new(Candidate { asked: None, wrong: true, circular, ..*candidate }));
            self.changes.again.insert(name.clone(), now.plus(AGAIN));
        }
        *self.changed.entry(name).or_default() |= at_once;
        self.number();
    }

    /// Why a candidate would wait for itself. All of one change are looked at together.
    fn waits_for_itself(&mut self, name: &ModuleName) -> Option<String> {
        self.modules.get_mut(name)?.candidate.as_mut()?.wrong = false;
        let wish = self.modules.get(name)?;
        if wish.needs() == wish.next_needs() {
            return None;
        }
        let of_it = |module: &ModuleName| {
            module == name || directory_of(module).is_some_and(|instance| instance.directory == *name)
        };
        let why = self.closes(|_, wish| wish.next_needs(), &self.policies, of_it)?;
        Some(validate::placed(&wish.path, &["needs", "after"], why))
    }

    /// When something is due here.
    pub(super) fn changes_due(&self) -> Option<Moment> {
        let given_up = self.changes.out.values().map(|(_, since)| since.plus(PATIENCE));
        self.changes.again.values().copied().chain(given_up).min()
    }

    /// Does what is due.
    pub(super) fn look_at_changes(&mut self, now: Moment) {
        let given_up =
            |(number, (_, since)): (&u64, &(ModuleName, Moment))| (since.plus(PATIENCE) <= now).then_some(*number);
        let given_up: Vec<u64> = self.changes.out.iter().filter_map(given_up).collect();
        for number in given_up {
            let Some((name, _)) = self.changes.out.remove(&number) else { continue };
            let Some(wish) = self.modules.get_mut(&name) else { continue };
            let of_this = |candidate: &&mut Box<Candidate>| candidate.asked == Some(number);
            let Some(candidate) = wish.candidate.as_mut().filter(of_this) else { continue };
            let (files, at_once) = ((candidate.files, candidate.run), std::mem::take(&mut candidate.at_once));
            // An older answer says more.
            if !candidate.wrong {
                let why = format!("whether all that it names is there is not known after {} s", PATIENCE.as_secs());
                wish.reject(&why, Some(files));
            }
            *self.changed.entry(name).or_default() |= at_once;
        }
        let due: Vec<ModuleName> =
            self.changes.again.iter().filter(|(_, at)| **at <= now).map(|(name, _)| name.clone()).collect();
        for name in due {
            self.changes.again.remove(&name);
            self.changes.to_ask.insert(name);
        }
    }

    /// A program of this module runs that a dead svtree has started. If its files are wrong, or were rejected then, what was
    /// good is in force; where that is not known nothing is started before they are mended. Says whether it is one of these.
    pub(super) fn keep(&mut self, name: &ModuleName, left: LeftBehind, now: Moment) -> bool {
        let is_kept = self.keep_directory(name, left, now);
        self.number();
        is_kept
    }

    fn keep_directory(&mut self, name: &ModuleName, left: LeftBehind, now: Moment) -> bool {
        let Id { instance, .. } = left.id;
        let (id, of) = (left.id.instance(0), directory_of(name).filter(|_| instance > 0));
        let directory = of.map_or_else(|| name.clone(), |of| of.directory);
        let wish = self.modules.get_mut(&directory).filter(|wish| wish.id == id);
        if wish.is_some_and(|wish| wish.keep_instance(instance)) {
            return true;
        }
        let wish = self.modules.get(&directory).filter(|wish| wish.id == id);
        let (path, why) = match (self.others.get(&directory), wish) {
            (Some((path, other)), _) if other.is_mistake && other.id == id => (path.clone(), other.why.clone()),
            (None, Some(wish)) if left.good.is_some() => (wish.path.clone(), left.rejected.unwrap_or_default()),
            (Some(_), _) | (None, Some(_) | None) => return false,
        };
        let (unknown, instances) = (left.good.is_none(), (instance > 0).then_some(instance));
        let policy = left.good.unwrap_or_else(|| Policy { instances, ..Policy::default() });
        let prints = scan::open(&path, id).map(|directory| Prints::read(directory.as_fd())).unwrap_or_default();
        let loaded = Loaded {
            policy: policy.into(),
            prints,
            mistake: Some(why),
            logged: left.logged,
            unknown,
            ..Loaded::default()
        };
        self.others.remove(&directory);
        self.look_at_again(&directory, now);
        self.modules.insert(directory, Box::new(Wish::known(path, id, loaded, now)));
        true
    }

    /// What was rejected is looked at again now.
    pub(super) fn doubt(&mut self, name: &ModuleName) {
        if self.changes.again.remove(name).is_some() {
            self.changes.to_ask.insert(name.clone());
        }
    }
}

impl Parent {
    /// Has others look at what there is to be looked at.
    pub(super) fn look_at_candidates(&mut self) {
        while let Some((name, question)) = self.wanted.next_question(clock::moment()) {
            let number = question.number;
            let (of, verdicts) = (name.clone(), self.judge.clone());
            let judge = Builder::new().name("look".to_owned()).stack_size(128 * 1024).spawn(move || {
                let Question { path, id, policy, before, .. } = question;
                let answer = |asked: &Asked| asked.answer_from_files().unwrap_or_else(|| asked.answer_elsewhere());
                let wrong = validate::mistakes(&path, id, &policy, answer);
                let is_new = |mistake: &String| !wrong.contains(mistake);
                let no_worse = !wrong.is_empty() && validate::mistakes(&path, id, &before, answer).iter().any(is_new);
                // The parent may be on its way out.
                let _ = verdicts.send(Verdict { number, name: of, wrong, no_worse });
            });
            if let Err(error) = judge {
                let wrong = vec![format!("starting a thread: {}", plain(&error))];
                self.wanted.judged(Verdict { number, name, wrong, no_worse: false }, clock::moment());
            }
        }
    }
}
