//! Where svtree itself stands if the groups of its modules are to have controllers of version 2: beside them, since the kernel
//! lets no group have both processes and groups with controllers, but for the first one.
//!
//! Must never move a process of others, nor take from their groups what they have.

use std::fs;
use std::io;
use std::path::Path;

use super::cgroup::{groups_in, make, remove};
use super::remains::{MOST_ANCESTORS, stat};
use crate::pure::exit::Pid;

/// Where svtree goes, in the group of its tree.
pub(super) const SELF: &str = "self";

/// What asks for controllers in the groups below.
const CONTROL: &str = "cgroup.subtree_control";

/// Who forks faster than it is moved is moved so often.
const MOST_LOOKS: usize = 20;

/// Has a controller in the groups of the modules, which are in `tree`, the group of the tree in our own one.
///
/// # Errors
/// It is not there, or others are in our own group.
pub(super) fn enable(own: &Path, tree: &Path, controller: &str) -> io::Result<()> {
    let has = |group: &Path| {
        let there = fs::read_to_string(group.join("cgroup.controllers"))?;
        Ok::<_, io::Error>(there.split_ascii_whitespace().any(|name| name == controller))
    };
    if !has(own)? {
        return Err(io::Error::other(format!("{} has no controller {controller}", own.display())));
    }
    // With some controllers the kernel would refuse; with others it makes our group one of threads, and those below it good
    // for nothing.
    if own.join("cgroup.type").exists() && !members(own)?.is_empty() {
        step_aside(own, tree)?;
    }
    let change = |group: &Path, sign: char| fs::write(group.join(CONTROL), format!("{sign}{controller}"));
    let is_there = has(tree)?;
    if !is_there {
        change(own, '+')?;
    }
    change(tree, '+').inspect_err(|_| {
        if !is_there {
            let _ = change(own, '-');
        }
    })
}

fn members(group: &Path) -> io::Result<Vec<Pid>> {
    let text = fs::read_to_string(group.join("cgroup.procs"))?;
    Ok(text.lines().filter_map(|pid| Pid::new(pid.parse().ok()?)).collect())
}

fn put(pid: Pid, group: &Path) -> io::Result<()> {
    match fs::write(group.join("cgroup.procs"), pid.to_string()) {
        // It has ended meanwhile.
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
        result => result,
    }
}

/// Whether it is this process, a keeper in front of it, or something that either has started.
fn is_ours(pid: Pid) -> bool {
    let (own, parent) = (std::process::id().cast_signed(), std::os::unix::process::parent_id().cast_signed());
    let executable = |pid: i32| fs::read_link(format!("/proc/{pid}/exe")).ok();
    let mut at = pid;
    for _ in 0..MOST_ANCESTORS {
        if at.get() == own {
            return true;
        }
        match stat(at) {
            // Nobody's any more.
            Ok(None) => return true,
            Ok(Some(stat)) => match Pid::new(stat.parent) {
                Some(above) => at = above,
                None => break,
            },
            Err(_) => break,
        }
    }
    pid.get() == parent && executable(parent).is_some_and(|keeper| executable(own) == Some(keeper))
}

/// Leaves our own group empty, if nothing but what is ours is in it.
fn step_aside(own: &Path, tree: &Path) -> io::Result<()> {
    let others = || {
        let text = format!("{} holds others than svtree; start it in a group of its own", own.display());
        io::Error::other(text)
    };
    if !members(own)?.into_iter().all(is_ours) {
        return Err(others());
    }
    if !has_others(own, tree) {
        // A predecessor that did not live to take them back may have left some, with which nobody can go below.
        disable(own);
    }
    let aside = tree.join(SELF);
    make(&aside)?;
    for _ in 0..MOST_LOOKS {
        let members = members(own)?;
        if members.is_empty() {
            return Ok(());
        }
        if !members.iter().copied().all(is_ours) {
            break;
        }
        members.into_iter().try_for_each(|pid| put(pid, &aside))?;
    }
    Err(others())
}

/// Goes back, if it went aside, once no module's group needs the controllers any more. They were enabled for those alone: a
/// group with processes in it, as ours was, has none. Where a module has left something its limits stay, and so do we; and so
/// it is where others have made groups there meanwhile.
pub(super) fn step_back(own: &Path, tree: &Path) {
    let aside = tree.join(SELF);
    let Ok(members) = members(&aside) else { return };
    if !members.iter().any(|pid| pid.get() == std::process::id().cast_signed()) || has_others(own, tree) {
        return;
    }
    if !remove_modules(tree, &aside) {
        return;
    }
    disable(tree);
    disable(own);
    for pid in members {
        let _ = put(pid, own);
    }
}

/// Removes the group of the tree of a predecessor that did not live to, once none of its modules has anything in it; and
/// has that one's group as it was, if it had gone aside there.
pub(super) fn clear_after(tree: &Path) {
    let aside = tree.join(SELF);
    if !remove_modules(tree, &aside) {
        return;
    }
    disable(tree);
    if let Some(own) = tree.parent()
        && aside.exists()
        && !has_others(own, tree)
        && members(own).is_ok_and(|members| members.is_empty())
    {
        disable(own);
    }
    remove(tree);
}

/// Removes the groups of modules in which nothing is; says whether none is left.
fn remove_modules(tree: &Path, aside: &Path) -> bool {
    let modules = || groups_in(tree).into_iter().filter(|group| group != aside);
    modules().for_each(|group| remove(&group));
    modules().next().is_none()
}

/// Whether there are groups beside that of the tree.
fn has_others(own: &Path, tree: &Path) -> bool {
    groups_in(own).iter().any(|group| group != tree)
}

/// Takes all controllers from the groups below.
fn disable(group: &Path) {
    let control = group.join(CONTROL);
    let enabled = fs::read_to_string(&control).unwrap_or_default();
    let disabled: Vec<String> = enabled.split_ascii_whitespace().map(|name| format!("-{name}")).collect();
    if !disabled.is_empty() {
        let _ = fs::write(&control, disabled.join(" "));
    }
}
