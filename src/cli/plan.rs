//! `svtree plan [DIR]`: what would happen if a tree of services were in force; as text or as JSON.
//!
//! Compares what stands in directories with what the status root says. Must never change anything.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt::Write;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anstream::ColorChoice;
use anstyle::{AnsiColor, Style};
use clap::Args;

use super::known::Known;
use super::names::Tree as Homes;
use super::out;
use super::prepared::{Prepared, Read};
use super::roots::Roots;
use crate::pure::config::Policy;
use crate::pure::manifest::Manifest;
use crate::pure::name::ModuleName;
use crate::pure::plan::{self, Action, Edit, InForce, Orders, Step, Tree, Wanted};
use crate::pure::reconcile::Id;
use crate::pure::state::{State, StateName};
use crate::pure::status::Want;
use crate::unix::adopt::{self, Found};
use crate::unix::client;
use crate::unix::deploy;
use crate::unix::holder::{Holder, NoHolder};
use crate::unix::home::file;
use crate::unix::prints::SERVICE;
use crate::unix::replica::{self, Difference};
use crate::unix::scan;

/// What `svtree plan` takes.
#[derive(Args)]
#[command(after_help = AFTER)]
pub struct PlanArgs {
    /// A prepared tree; without it the services directory as it stands now
    #[arg(value_name = "DIR")]
    directory: Option<PathBuf>,
    /// One array of JSON objects, for programs
    #[arg(long)]
    json: bool,
}

const AFTER: &str = "Exits 0 where nothing would happen, 2 where something would, 111 where something is rejected.";

/// What `plan` exits with where something would happen.
const CHANGES: u8 = 2;

/// Shows the steps, and returns the exit code.
#[must_use]
pub fn run(args: &PlanArgs, roots: &Roots) -> u8 {
    let directory = args.directory.as_ref().unwrap_or(&roots.services);
    let steps = match planned(directory, roots) {
        Ok((_, steps)) => steps,
        Err(why) => {
            out::complain("svtree", format!("plan: {why}"));
            return out::FAILED;
        }
    };
    let code = match steps.iter().map(|step| step.action).min() {
        None => out::DONE,
        Some(Action::Reject) => out::FAILED,
        Some(_) => CHANGES,
    };
    code.max(out::print("svtree", &if args.json { plan::json(&steps) } else { text(&steps).into_bytes() }))
}

/// A prepared tree, and the steps from what is in force to it.
///
/// # Errors
/// What could not be read; in one line.
pub fn planned(directory: &Path, roots: &Roots) -> Result<(Prepared, Vec<Step>), String> {
    let mut prepared = Prepared::read(directory)?;
    // Of a tree that is not there yet nothing is in force.
    let own = fs::canonicalize(&roots.services).unwrap_or_else(|_| roots.services.clone());
    if own != prepared.root {
        prepared.check_for(&own)?;
    }
    let steps = steps(&prepared, &own, roots)?;
    Ok((prepared, steps))
}

fn steps(prepared: &Prepared, own: &Path, roots: &Roots) -> Result<Vec<Step>, String> {
    let tree = match Holder::find(&roots.status) {
        Err(NoHolder::Nobody) => Tree::Rests,
        Ok(_) | Err(NoHolder::Unproven | NoHolder::Failed(_)) => Tree::Runs,
    };
    let in_status = Known::read(&Homes::new(roots));
    if let Some((_, why)) = in_status.wrong.first() {
        return Err(why.clone());
    }
    let states = &in_status.states;
    let is_own = own == prepared.root;
    let manifest = deploy::manifest(own)?;
    let read: BTreeMap<&ModuleName, (&ModuleName, &Read, Id)> = prepared
        .modules()
        .filter_map(|(name, directory, number)| {
            let read = prepared.directories.get(directory)?;
            Some((name, (directory, read, read.module.id.instance(number))))
        })
        .collect();
    let mut in_force = BTreeMap::new();
    for (name, state) in states {
        let stands = read.get(name).filter(|_| is_own).map(|(_, _, id)| *id);
        if let Some(known) = known(state, tree, stands) {
            in_force.insert(name.clone(), known);
        }
    }
    let mut wanted = BTreeMap::new();
    for (name, (directory, read, id)) in read {
        let state = states.get(name).filter(|_| in_force.contains_key(name));
        let edit = match state {
            None => Edit::None,
            Some(state) if is_own => edited(state, id, tree),
            Some(_) => differs(directory, read, prepared, own, &manifest)?,
        };
        wanted.insert(name.clone(), Wanted { enabled: read.is_enabled(), edit });
    }
    let orders = Orders { wanted: prepared.order(), in_force: in_status.order() };
    Ok(plan::steps(&wanted, &prepared.rejected, &in_force, &orders, tree))
}

/// What a state says of a module, if it is in force: while svtree rests that is only what runs on, or was down by a word that
/// the next one keeps to.
fn known(state: &State, tree: Tree, stands: Option<Id>) -> Option<InForce> {
    let record = state.record.clone().unwrap_or_default();
    match tree {
        Tree::Runs => match state.state {
            StateName::Incomplete | StateName::Rejected => None,
            StateName::Down | StateName::Failed => {
                // One whose directory was replaced begins anew.
                Some(InForce { runs: false, left: record.leaving && stands.is_none_or(|id| is_same(state, id)) })
            }
            StateName::Starting
            | StateName::Up
            | StateName::Ready
            | StateName::Stopping
            | StateName::Finishing
            | StateName::Waiting => Some(InForce { runs: true, left: false }),
        },
        Tree::Rests => match adopt::find(&record) {
            Found::Alive(..) => Some(InForce { runs: true, left: false }),
            Found::Ended(..) | Found::Nothing => {
                let kept = record.boot_id == adopt::boot_id() && (state.want() == Want::Down || record.failed);
                kept.then_some(InForce { runs: false, left: false })
            }
        },
    }
}

fn is_same(state: &State, id: Id) -> bool {
    state.record.as_ref().is_some_and(|record| record.id() == id)
}

/// How the services directory as it stands differs from what svtree has read in it.
fn edited(state: &State, id: Id, tree: Tree) -> Edit {
    match tree {
        Tree::Runs if !is_same(state, id) => Edit::Directory,
        Tree::Runs | Tree::Rests if state.changed => Edit::Reload(Vec::new()),
        Tree::Runs | Tree::Rests => Edit::None,
    }
}

/// How a module of a prepared tree differs from the one that stands in the services directory.
fn differs(
    name: &ModuleName,
    read: &Read,
    prepared: &Prepared,
    own: &Path,
    manifest: &Manifest,
) -> Result<Edit, String> {
    let there = own.join(name.as_os_str());
    if !is_same_place(name, &prepared.root, own) {
        return Ok(Edit::Directory);
    }
    let is_logger = name.logged().is_some_and(|module| prepared.directories.contains_key(&module));
    // A logger is a module of its own.
    let into = |path: &Path| is_logger || path != Path::new(file::LOGGER);
    let was_put = |path: &Path| manifest.has(Path::new(name.as_os_str()).join(path).as_os_str().as_bytes());
    let ours = |path: &Path| replica::means_something(path) || was_put(path);
    let difference = replica::difference(&read.path, &there, ours, into)
        .map_err(|(path, error)| format!("{}: {}", scan::shown(&path), out::cause(&error)))?;
    let Difference { put, gone } = &difference;
    if difference.is_none() {
        return Ok(Edit::None);
    }
    let only_service = put.iter().all(|path| path == Path::new(SERVICE)) && gone.is_empty();
    let before = only_service.then(|| policy(&there)).flatten();
    Ok(match before {
        Some(before) if is_another_number(&before, &read.policy) => Edit::None,
        Some(before) if before.starts_as(&read.policy) => Edit::Reload(difference.files()),
        Some(_) | None => Edit::NextStart(difference.files()),
    })
}

/// Whether there are more or fewer of a module, which is nothing to those that stay.
fn is_another_number(before: &Policy, after: &Policy) -> bool {
    let instances = after.instances;
    before.instances != instances && Policy { instances, ..before.clone() } == *after
}

fn policy(path: &Path) -> Option<Policy> {
    match scan::look(path) {
        Ok(scan::Entry::Module(module)) => scan::policy(path, &module, Policy::default()).ok(),
        Ok(_) | Err(_) => None,
    }
}

/// Whether a module of this name in one tree is, or is copied into, the very directory that it is in the other one: all
/// that its name leads through are directories in both, or links to the same.
fn is_same_place(name: &ModuleName, one: &Path, other: &Path) -> bool {
    let (mut one, mut other) = (one.to_owned(), other.to_owned());
    name.components().all(|component| {
        let component = OsStr::from_bytes(component);
        one.push(component);
        other.push(component);
        let is_link = |path: &Path| fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_symlink());
        let id = |path: &Path| fs::metadata(path).map(|found| (found.dev(), found.ino())).ok();
        match (is_link(&one), is_link(&other)) {
            (false, false) => other.is_dir(),
            (true, true) => id(&one) == id(&other),
            (true, false) | (false, true) => false,
        }
    })
}

/// Whether a program of this module runs.
#[must_use]
pub fn runs(name: &ModuleName, roots: &Roots) -> bool {
    let bytes = client::read(&roots.status.join(name.as_os_str()).join(file::STATE)).ok();
    bytes.and_then(|bytes| State::decode(&bytes).ok()).is_some_and(|state| state.pid.is_some())
}

/// A line for each step, for people.
#[must_use]
pub fn text(steps: &[Step]) -> String {
    if steps.is_empty() {
        return "nothing to do\n".to_owned();
    }
    let width = width(steps);
    steps.iter().map(|step| line(step, width)).collect()
}

/// The longest name of a module.
#[must_use]
pub fn width(steps: &[Step]) -> usize {
    steps.iter().map(|step| step.module.to_string().chars().count()).max().unwrap_or_default()
}

/// One step, its name as wide as the widest.
#[must_use]
pub fn line(step: &Step, width: usize) -> String {
    let coloured = anstream::AutoStream::choice(&io::stdout()) != ColorChoice::Never;
    let style = if coloured { style(step.action) } else { Style::new() };
    let (action, name) = (step.action.name(), step.module.to_string());
    let files = if step.files.is_empty() { String::new() } else { format!("{}: ", step.files.join(", ")) };
    let mut text = String::new();
    // Nothing that is written to a string fails.
    let _ = writeln!(text, "{style}{action:<7}{style:#}  {name:<width$}  {files}{}", step.why);
    text
}

fn style(action: Action) -> Style {
    match action {
        Action::Reject | Action::Stop => AnsiColor::Red.on_default(),
        Action::Change | Action::Restart => AnsiColor::Yellow.on_default(),
        Action::Start => AnsiColor::Green.on_default(),
        Action::Add | Action::Remove => Style::new().dimmed(),
    }
}
