//! What a module's processes leave: whether something is left, whether it is the program from now on, and its end.
//!
//! Must never signal a process that is not held, and must never decide what is to end.

use std::collections::BTreeSet;
use std::io;
use std::sync::atomic::Ordering;

use super::checks::Check;
use super::scripts::Script;
use super::{Child, Supervise};
use crate::pure::exit::{Pid, Signal};
use crate::pure::machine::{Event, Heir, Left, Phase};
use crate::pure::name::printable;
use crate::unix::home::Level;
use crate::unix::remains::{self, Executable, Remaining, Stat, Whose};
use crate::unix::{adopt, pidfd};

/// What is being swept up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sweep {
    /// What has ended and is not reaped.
    leader: Option<Pid>,
    session: Option<Pid>,
    signal: Signal,
    /// All that the module started; else what is in the session of the program.
    whole: bool,
}

/// A process that may be the program from now on.
#[derive(Debug)]
pub(super) struct Candidate {
    child: Child,
    session: Option<Pid>,
    started: [u64; 2],
}

impl Supervise {
    /// What a process that has ended left; `own` if what it left is svtree's, `vacant` unless its pid is another's by now.
    pub(super) fn left_by(&mut self, ended: Pid, own: bool, vacant: bool) -> Left {
        let is_program = !matches!(self.machine.phase(), Phase::Finishing { .. });
        let may_follow = is_program && !matches!(self.machine.phase(), Phase::Stopping { .. });
        // One that is not reaped yet tells its session, which it may have made since it was followed.
        let stat = remains::stat(ended).ok().flatten().filter(|_| vacant);
        let told = stat.as_ref().and_then(|stat| Pid::new(stat.session));
        let session = told.or(self.session.filter(|_| is_program)).unwrap_or(ended);
        self.leader = Some(ended);
        self.session = Some(session).filter(|session| *session != ended);
        self.met.clear();
        let mut seen = Left::default();
        // Only one that has ended between two looks is looked for again.
        for _ in 0..3 {
            let Ok(members) = self.members(Some(session), Some(ended), own, stat.as_ref()) else {
                // Something may be there.
                return Left { session: true, any: true, heir: None };
            };
            let inside = members.iter().filter(|member| member.is_in(session));
            self.met = inside.map(|member| (member.pid, member.stat.started)).collect();
            let left = Left { session: !self.met.is_empty(), any: !members.is_empty(), heir: None };
            // What an earlier program left is not this one's.
            let mut heirs = members;
            let is_former = |pid: Pid| self.formers.iter().any(|former| former.pid == pid);
            let of_helpers = self.of_helpers(&heirs);
            heirs.retain(|member| {
                let is_other = is_former(member.pid) || of_helpers.contains(&member.pid.get());
                may_follow && !is_other && adopt::between(member.stat.started)[1] >= self.between[0]
            });
            let Some(pid) = remains::heir(&heirs).map(|heir| heir.pid) else { return left };
            let heir = heirs.into_iter().find(|member| member.pid == pid);
            if let Some(heir) = heir.and_then(|heir| self.hold_candidate(heir)) {
                return Left { heir: Some(heir), ..left };
            }
            seen = left;
        }
        seen
    }

    /// Those of the members that checks and scripts have started.
    fn of_helpers(&self, members: &[Remaining]) -> BTreeSet<i32> {
        let mut found: BTreeSet<i32> = self.helpers().map(Pid::get).collect();
        let is_theirs = |member: &Remaining, found: &BTreeSet<i32>| {
            found.contains(&member.stat.session) || found.contains(&member.stat.parent)
        };
        // Each look finds those that the ones before have started.
        while let Some(more) =
            members.iter().find(|member| !found.contains(&member.pid.get()) && is_theirs(member, &found))
        {
            found.insert(more.pid.get());
        }
        found
    }

    /// Checks and scripts that run. Each leads a session, and what is in that ends with it.
    fn helpers(&self) -> impl Iterator<Item = Pid> {
        self.scripts.iter().map(Script::pid).chain(self.checks.iter().map(Check::pid))
    }

    /// Whether its program's group could be removed, as it is to be: then nothing was left in it.
    pub(super) fn leaves_no_group(&mut self) -> bool {
        // One with limits tells first what was killed in it.
        let may_go = self.removes && self.grouped && self.limits.is_none() && self.memory.is_none();
        match (&self.task.cgroups, &mut self.cgroup) {
            (Some(groups), Some(group)) if may_go => groups.remove_empty(group),
            (Some(_) | None, Some(_) | None) => false,
        }
    }

    /// Holds a process that may be the program from now on: nobody else is to collect it.
    pub(super) fn hold_candidate(&mut self, heir: Remaining) -> Option<Heir> {
        let pid = heir.pid;
        pidfd::claim(pid);
        // Now that it is claimed: if it is a child of ours it still is one, and if it has ended that can be told.
        let own = match pidfd::peek(pid) {
            Ok(None) => true,
            Err(_) if !remains::has_ended(pid, heir.ended()) => false,
            Ok(Some(_)) | Err(_) => {
                pidfd::release(pid);
                return None;
            }
        };
        let executable = Executable::of(pid);
        let same_executable = self.executable.zip(executable).is_some_and(|(program, heir)| program.is_same(&heir));
        let session = Pid::new(heir.stat.session).filter(|session| *session != pid);
        // It was cloned after the program that left it, whose mark has the exact time: no record may be older than that.
        let started = adopt::between(heir.stat.started).map(|time| time.max(self.between[1] + 1));
        let child = Child { pid, pidfd: heir.into_pidfd(), own, withheld: false };
        self.candidate = Some(Candidate { child, session, started });
        let program = self.session.or(self.leader).map(Pid::get);
        let detached = session.map_or(pid, |session| session).get();
        Some(Heir { pid, same_executable, detached: Some(detached) != program })
    }

    /// From now on that process is the program.
    pub(super) fn follow(&mut self, pid: Pid) {
        let Some(Candidate { child, session, started }) = self.candidate.take_if(|held| held.child.pid == pid) else {
            return;
        };
        let why = if self.child.is_some() { "as it says" } else { "which it left in the background" };
        self.lines.push((Level::Notice, format!("follows pid {pid}, {why}")));
        self.task.program.store(pid.get(), Ordering::SeqCst);
        self.between = started;
        self.session = session;
        self.executable = None;
        if child.pidfd.is_none() && child.own {
            self.wait_elsewhere(pid);
        }
        // One that was the program before, and is again.
        self.formers.retain(|former| former.pid != pid);
        // One that still runs, and said so.
        self.formers.extend(self.child.replace(child));
    }

    /// It is not the program: whoever collects strangers may have it.
    pub(super) fn drop_candidate(&mut self) {
        if let Some(Candidate { child, .. }) = self.candidate.take() {
            pidfd::release(child.pid);
        }
    }

    /// Whether something that the module started runs, while its program does not.
    pub(super) fn has_left(&self) -> bool {
        // Of what a predecessor started nothing is known but its group: its session may be anybody's by now.
        let may_exist = || !self.formers.is_empty() || remains::may_exist();
        let searched = if self.inherited { self.grouped } else { self.grouped || may_exist() };
        searched && self.members(None, None, true, None).map_or(true, |members| !members.is_empty())
    }

    /// Whether a process is one of the module's.
    pub(super) fn is_ours(&self, pid: Pid) -> bool {
        let running = self.child.iter().chain(&self.formers);
        let roots: Vec<Pid> = running.map(|child| child.pid).collect();
        let cgroup = self.cgroup.as_ref().filter(|_| self.grouped);
        let session = self.session.or(self.child.as_ref().map(|child| child.pid));
        let whose = Whose {
            module: &self.task.name,
            session,
            cgroup,
            own: !self.inherited,
            program: None,
            roots: &roots,
            except: &[],
        };
        remains::belongs(pid, whose).unwrap_or(false)
    }

    fn members(
        &self,
        session: Option<Pid>,
        ended: Option<Pid>,
        own: bool,
        program: Option<&Stat>,
    ) -> io::Result<Vec<Remaining>> {
        let roots: Vec<Pid> = self.formers.iter().map(|former| former.pid).collect();
        let tellers = self.alarms.iter().flat_map(|alarms| alarms.pids());
        let known = self.child.iter().map(|child| child.pid).chain(self.helpers()).chain(tellers);
        let except: Vec<Pid> = known.chain(ended).collect();
        let cgroup = self.cgroup.as_ref().filter(|_| self.grouped);
        let whose = Whose { module: &self.task.name, session, cgroup, own, program, roots: &roots, except: &except };
        let mut members = remains::of(whose)?;
        members.retain(|member| !self.helpers().any(|helper| member.is_in(helper)));
        Ok(members)
    }

    /// Begins to end what was left; says whether there was nothing.
    pub(super) fn sweep(&mut self, leader: Option<Pid>, signal: Signal, whole: bool) -> bool {
        let session = leader.map(|leader| self.session.filter(|_| self.leader == Some(leader)).unwrap_or(leader));
        self.sweep = Some(Sweep { leader, session, signal, whole });
        self.remains.clear();
        self.sweep_up()
    }

    pub(super) fn look_at_remains(&mut self) {
        if self.sweep_up() {
            self.feed(Event::Swept);
        }
    }

    /// Signals what was left and was not signalled yet; says whether nothing is left.
    fn sweep_up(&mut self) -> bool {
        let Some(sweep) = self.sweep else { return false };
        // Members are looked for again rather than counted down: what was left may have made more.
        let Ok(mut now) = self.swept_by(sweep) else {
            // Nothing is known; it is looked at again in a second.
            self.remains.clear();
            self.kill_group(sweep);
            return false;
        };
        if sweep.signal == Signal::KILL {
            now = self.freeze(sweep, now);
        }
        let known: Vec<Pid> = self.remains.iter().map(|remaining| remaining.pid).collect();
        let new = |remaining: &&Remaining| !known.contains(&remaining.pid);
        if sweep.signal == Signal::KILL {
            for remaining in now.iter().filter(new) {
                let name = printable(remaining.stat.command.as_bytes());
                let text = format!("killed what was left: pid {} ({name})", remaining.pid);
                self.lines.push((Level::Warning, text));
            }
            // Before the module counts as down: whoever waits for that reads it then.
            self.write_lines();
            self.kill_group(sweep);
        }
        for remaining in now.iter().filter(new) {
            remaining.signal(sweep.signal);
            remaining.signal(Signal::CONT);
        }
        self.remains = now;
        if self.remains.is_empty() {
            self.sweep = None;
        }
        self.remains.is_empty()
    }

    /// Ends all of a module at once, with what is being forked at this moment.
    fn kill_group(&mut self, sweep: Sweep) {
        if sweep.signal == Signal::KILL
            && sweep.whole
            && self.grouped
            && self.child.is_none()
            && let Some(cgroup) = &mut self.cgroup
        {
            let _ = cgroup.kill();
        }
    }

    /// Those that are to be killed are stopped first, until no new ones come: what forks faster than it is killed would
    /// never end.
    fn freeze(&self, sweep: Sweep, mut members: Vec<Remaining>) -> Vec<Remaining> {
        for _ in 0..MOST_LOOKS {
            members.iter().for_each(|member| member.signal(Signal::STOP));
            let Ok(now) = self.swept_by(sweep) else { return members };
            let is_new = |member: &Remaining| !members.iter().any(|other| other.pid == member.pid);
            let settled = !now.iter().any(is_new);
            members = now;
            if settled {
                break;
            }
        }
        members
    }

    fn swept_by(&self, sweep: Sweep) -> io::Result<Vec<Remaining>> {
        let Sweep { leader, session, whole, .. } = sweep;
        let stat = leader.and_then(|leader| remains::stat(leader).ok().flatten());
        let look = || self.members(session, leader, !self.inherited, stat.as_ref());
        let mut members = look()?;
        if members.is_empty() && !self.grouped {
            // What was found by going from one process to the next may have gone the other way meanwhile.
            members = look()?;
        }
        if let Some(session) = session.filter(|_| !whole) {
            // One that was in it, and has made one of its own since, has not escaped.
            let met = |member: &Remaining| self.met.contains(&(member.pid, member.stat.started));
            members.retain(|member| member.is_in(session) || met(member));
        }
        Ok(members)
    }
}

/// However fast something forks, it is killed after so many looks.
const MOST_LOOKS: usize = 20;
