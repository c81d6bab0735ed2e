//! The control groups that limit a module as a whole, and whether its program was killed in them for want of memory.
//!
//! Must never start a program without a limit that it is to have.

use std::path::PathBuf;
use std::time::Duration;

use super::{Supervise, Task};
use crate::pure::config::Limits;
use crate::pure::exit::{How, Signal};
use crate::pure::time::Moment;
use crate::unix::cgroup::Cgroup;
use crate::unix::clock;
use crate::unix::controllers::{Killed, Limited};
use crate::unix::home::Level;

/// The group whose memory is limited.
#[derive(Debug)]
pub(super) struct Memory {
    in_group: Killed,
    /// So many had been killed in it before the program,
    killed: u64,
    /// as they were counted then; `None` if a predecessor has counted them.
    counted: Option<Moment>,
}

/// What was counted so short a time ago, as at the end of the last program, is not counted again.
const JUST_NOW: Duration = Duration::from_millis(1);

/// What was limited for the last program.
#[derive(Debug)]
pub(super) struct InForce {
    asked: Limits,
    /// The group of version 2.
    group: Option<String>,
    pub(super) limited: Limited,
}

impl Memory {
    fn of(mut in_group: Killed, now: Moment) -> Memory {
        Memory { killed: in_group.count(), in_group, counted: Some(now) }
    }

    /// How many were killed in it since they were counted last.
    fn count(&mut self, now: Moment) -> u64 {
        self.counted = Some(now);
        let killed = self.in_group.count();
        killed.saturating_sub(std::mem::replace(&mut self.killed, killed))
    }

    /// As a record has it.
    pub(super) fn recorded(&self) -> Option<(String, u64)> {
        Some((self.in_group.group().to_str()?.to_owned(), self.killed))
    }
}

impl Supervise {
    /// Limits what the next program and all of its processes may take together.
    pub(super) fn limit(&mut self) -> Result<(), String> {
        let asked = &self.task.loaded.policy.limits;
        let group = self.cgroup.as_ref().map(Cgroup::path);
        // What was set for the last program holds for the next one.
        let is_known =
            self.limits.as_ref().is_some_and(|known| known.asked == *asked && known.group.as_deref() == group);
        if !is_known {
            let groups = self.task.cgroups.as_deref();
            let limited = self.task.controllers.limit(groups, self.cgroup.as_ref(), self.task.id, asked)?;
            let (asked, group) = (asked.clone(), group.map(str::to_owned));
            self.limits = asked.of_group().then(|| Box::new(InForce { asked, group, limited }));
        }
        let Some(in_force) = &mut self.limits else {
            self.memory = None;
            return Ok(());
        };
        in_force.limited.hold().map_err(|why| format!("joining its control groups: {why}"))?;
        let group = in_force.limited.memory.as_deref();
        let now = clock::moment();
        match &mut self.memory {
            Some(known) if group == Some(known.in_group.group()) => {
                if known.counted.is_none_or(|counted| now.since(counted) >= JUST_NOW) {
                    known.count(now);
                }
            }
            memory => *memory = group.map(|group| Memory::of(Killed::of(group.to_path_buf()), now)),
        }
        Ok(())
    }

    /// What is open for the next start, and to learn of the end of this one, is closed: there are too many modules for that.
    pub(super) fn keep_no_groups(&mut self) {
        self.group_held = None;
        self.limits.iter_mut().for_each(|in_force| in_force.limited.let_go());
        self.memory.iter_mut().for_each(|memory| memory.in_group.let_go());
    }

    /// Its group is another one, or a start has failed, perhaps since somebody took its groups away: all is set again before
    /// the next start.
    pub(super) fn limit_anew(&mut self) {
        self.limits = None;
    }

    /// Where a predecessor's program is limited.
    pub(super) fn recall_memory(&mut self, recorded: Option<&(String, u64)>) {
        let killed_in = |(group, killed): &(String, u64)| {
            let in_group = Killed::of(PathBuf::from(group));
            Memory { in_group, killed: *killed, counted: None }
        };
        self.memory = recorded.map(killed_in);
    }

    /// Whether the program that has ended was killed for want of memory. What else of the module was is told as well.
    pub(super) fn was_killed_for_memory(&mut self, how: How) -> bool {
        let killed = self.count_killed();
        let itself = killed > 0 && matches!(how, How::Killed { signal: Signal::KILL, .. });
        self.tell_killed(killed - u64::from(itself));
        itself
    }

    /// What was killed before svtree itself kills the program is not that.
    pub(super) fn about_to_kill(&mut self) {
        let killed = self.count_killed();
        self.tell_killed(killed);
    }

    /// How many processes of the module were killed for want of memory since that was asked last.
    fn count_killed(&mut self) -> u64 {
        self.memory.as_mut().map_or(0, |memory| memory.count(clock::moment()))
    }

    fn tell_killed(&mut self, others: u64) {
        if others > 0 {
            let text = format!("out of memory (limits.memory): {others} killed of what its program had started");
            self.lines.push((Level::Warning, text));
        }
    }

    /// Removes its groups if it is to leave nothing, as far as nothing is in them.
    #[inline(never)]
    pub(super) fn remove_groups(&self) {
        let Task { controllers, cgroups, alone, loaded, id, .. } = &*self.task;
        if self.removes || *alone {
            if let (Some(groups), Some(group)) = (cgroups, &self.cgroup) {
                groups.abandon(group);
            }
            controllers.remove(cgroups.as_deref(), *id, &loaded.policy.limits);
        }
        if *alone {
            controllers.close();
        }
    }
}
