//! `svtree apply DIR`: puts a prepared tree in place, and tells each step of the plan as it is taken.
//!
//! Must never touch anything while a part of the tree is rejected.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use super::out::{self, cause};
use super::plan;
use super::roots::Roots;
use super::verbs::{self, Verb};
use crate::pure::instances::directory_of;
use crate::pure::name::ModuleName;
use crate::pure::plan::{Action, Step};
use crate::unix::deploy::{Deploy, Work};
use crate::unix::scan::shown;

/// What `svtree apply` takes.
#[derive(Args)]
#[command(after_help = AFTER)]
pub struct ApplyArgs {
    /// The prepared tree
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// Also restart the modules that run and were changed
    #[arg(long)]
    restart: bool,
    /// With --restart: wait so long until it is done
    #[arg(long, value_name = "SECONDS", value_parser = super::args::seconds, requires = "restart")]
    wait: Option<Duration>,
}

const AFTER: &str = "DIR is copied, and stays as it is. What is the same is not touched; what was changed is replaced inside its \
    directory, so that a program runs on until its next start; what programs wrote beside stays. What goes is moved to \
    .removed in the services directory. Where something is rejected nothing is touched, and it exits 111.";

/// Puts it in place, and returns the exit code.
#[must_use]
pub fn run(args: &ApplyArgs, roots: &Roots) -> u8 {
    apply(args, roots).unwrap_or_else(|why| {
        out::complain("svtree", format!("apply: {why}"));
        out::FAILED
    })
}

fn apply(args: &ApplyArgs, roots: &Roots) -> Result<u8, String> {
    let services = fs::canonicalize(&roots.services)
        .map_err(|error| format!("{}: {}", roots.services.display(), cause(&error)))?;
    let (prepared, steps) = plan::planned(&args.directory, roots)?;
    if prepared.root.starts_with(&services) || services.starts_with(&prepared.root) {
        return Err(format!("{}: it is the services directory, or is in it, or holds it", args.directory.display()));
    }
    let width = plan::width(&steps);
    let rejected: String =
        steps.iter().filter(|step| step.action == Action::Reject).map(|step| plan::line(step, width)).collect();
    if !rejected.is_empty() {
        return Ok(out::print("svtree", rejected.as_bytes()).max(out::FAILED));
    }
    let (mut deploy, work) = Deploy::begin(&prepared.root, &services)?;
    let mut code = out::DONE;
    for work in &work {
        deploy.carry_out(work).map_err(|why| format!("{why}; run it again to go on"))?;
        let told: String = steps.iter().filter(|step| is_of(step, work)).map(|step| plan::line(step, width)).collect();
        code = code.max(out::print("svtree", told.as_bytes()));
    }
    let aside = deploy.end()?;
    let last = match aside {
        Some(aside) => format!("what was there before is in {}\n", shown(&aside)),
        None if work.is_empty() => "nothing to do\n".to_owned(),
        None => String::new(),
    };
    code = code.max(out::print("svtree", last.as_bytes()));
    Ok(if args.restart { code.max(restart(&steps, args.wait, roots)) } else { code })
}

/// Whether a step follows from this work: that of a module is in its own directory, or above where all of that is put or
/// taken out.
fn is_of(step: &Step, work: &Work) -> bool {
    let is_unit = |name: &ModuleName| Path::new(name.as_os_str()) == work.unit();
    let is_of = |name: &ModuleName| match work {
        // A logger stands in the directory of its module.
        Work::Inside(..) => is_unit(name) || name.logged().as_ref().is_some_and(is_unit),
        Work::Remove(_) | Work::Exchange(_) | Work::Put(_) => Path::new(name.as_os_str()).starts_with(work.unit()),
    };
    is_of(&step.module) || directory_of(&step.module).is_some_and(|of| is_of(&of.directory))
}

fn restart(steps: &[Step], wait: Option<Duration>, roots: &Roots) -> u8 {
    let changed = steps.iter().filter(|step| step.action == Action::Change).map(|step| step.module.clone());
    let running: Vec<_> = changed.filter(|name| plan::runs(name, roots)).collect();
    match Verb::all().find(|verb| verb.name == "restart") {
        Some(verb) => verbs::send(&verb, running, wait.unwrap_or_default(), roots),
        None => out::DONE,
    }
}
