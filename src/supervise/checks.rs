//! The programs that say whether a module is ready: children that are never waited for.
//!
//! Must never run one beside another of its kind, and never leave anything of one that takes too long.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Child, Supervise};
use crate::pure::config::ReadyBy;
use crate::pure::exit::{How, Pid, Signal};
use crate::pure::time::Moment;
use crate::unix::home::Level;
use crate::unix::{clock, pidfd, raw, remains, spawn};

/// A check of readiness has no longer than this.
const LONGEST: Duration = Duration::from_secs(10);

/// A check that runs.
#[derive(Debug)]
pub(super) struct Check {
    child: Child,
    /// When it is killed; `None` once it was.
    kill_at: Option<Moment>,
    /// Nobody waits for its answer any more.
    dropped: bool,
}

impl Check {
    pub(super) fn child(&self) -> &Child {
        &self.child
    }

    pub(super) fn pid(&self) -> Pid {
        self.child.pid
    }

    /// Readable once it has ended.
    pub(super) fn ended(&self) -> Option<BorrowedFd<'_>> {
        self.child.ended()
    }

    /// When it must be looked at.
    pub(super) fn deadline(&self) -> Option<Moment> {
        let look = self.child.withheld.then(|| clock::moment().plus(Duration::from_secs(1)));
        [self.kill_at, look].into_iter().flatten().min()
    }

    /// It is not reaped yet, so its session can be nobody else's.
    fn kill(&mut self) {
        self.kill_at = None;
        let _ = match &self.child.pidfd {
            Some(pidfd) => raw::kill_by_pidfd(pidfd.as_fd(), Signal::KILL),
            None => raw::kill(self.child.pid, Signal::KILL),
        };
        self.kill_session();
    }

    fn kill_session(&self) {
        for member in remains::of_session(self.child.pid).unwrap_or_default() {
            member.signal(Signal::KILL);
        }
    }

    pub(super) fn handed(&self) -> HandedCheck {
        HandedCheck { pid: self.child.pid.get() }
    }

    /// The check again, to be ended: the question is asked anew.
    pub(super) fn handed_down(handed: &HandedCheck) -> Option<Check> {
        let pid = handed.pid()?;
        let mut check = Check { child: Child::adopted(pid, pidfd::open(pid).ok()), kill_at: None, dropped: true };
        check.kill();
        Some(check)
    }
}

/// A check as it is handed down to the next svtree.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct HandedCheck {
    pid: i32,
}

impl HandedCheck {
    pub(super) fn pid(&self) -> Option<Pid> {
        Pid::new(self.pid)
    }
}

impl Supervise {
    /// Runs the check of readiness.
    pub(super) fn check_readiness(&mut self) {
        let Some(care) = &self.care else { return };
        let loaded = std::sync::Arc::clone(&care.loaded);
        let Some(ReadyBy::Check(words)) = &loaded.policy.ready.by else { return };
        let cgroup = self.group();
        match spawn::check(self.service(cgroup.as_ref()), &loaded.policy, words) {
            Ok(started) => {
                if started.pidfd.is_none() {
                    self.wait_elsewhere(started.pid);
                }
                let kill_at = Some(clock::moment().plus(LONGEST));
                self.checks.push(Check { child: Child::new(started.pid, started.pidfd), kill_at, dropped: false });
            }
            Err(error) => {
                self.tell_of_check(error.to_string());
                self.answered(false);
            }
        }
    }

    /// Hears those that have ended, and kills those whose time is up.
    #[inline(never)]
    pub(super) fn look_at_checks(&mut self) {
        let now = clock::moment();
        for mut check in std::mem::take(&mut self.checks) {
            let how = match pidfd::peek(check.child.pid) {
                Ok(Some(how)) => how,
                Err(_) => How::Unknown,
                Ok(None) => {
                    check.child.withheld =
                        check.child.pidfd.as_ref().is_some_and(|pidfd| pidfd::is_readable(pidfd.as_fd()));
                    if check.kill_at.is_some_and(|at| at <= now) {
                        self.tell_of_check(format!(
                            "the check takes longer than {}s, and is killed",
                            LONGEST.as_secs()
                        ));
                        check.kill();
                    }
                    self.checks.push(check);
                    continue;
                }
            };
            if remains::may_exist() {
                check.kill_session();
            }
            pidfd::reap(check.child.pid);
            if !check.dropped {
                if !how.success() {
                    self.tell_of_check(format!("the check says that it is not ready: {how}"));
                }
                self.answered(how.success());
            }
        }
    }

    /// Says what a check has said if it has not said the same before.
    fn tell_of_check(&mut self, text: String) {
        if let Some(care) = &mut self.care
            && care.told.as_ref() != Some(&text)
        {
            self.lines.push((Level::Notice, text.clone()));
            care.told = Some(text);
        }
    }

    /// Nobody waits for their answers any more.
    pub(super) fn drop_checks(&mut self) {
        for check in &mut self.checks {
            check.dropped = true;
            check.kill();
        }
    }
}
