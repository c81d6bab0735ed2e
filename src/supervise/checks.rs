//! Who is asked whether a module is ready, or well: programs, which are children that are never waited for, and servers, by
//! threads that exist as long as they ask.
//!
//! Must never run one beside another of its kind, and never leave anything of one that takes too long.

use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Duration;

use super::helper::{HandedHelper, Helper, Seen};
use super::{Child, Mail, Supervise};
use crate::pure::config::{Health, HealthBy, ReadyBy};
use crate::pure::exit::{How, Pid};
use crate::pure::machine::Phase;
use crate::pure::time::Moment;
use crate::unix::home::Level;
use crate::unix::{clock, endpoint, raw, report, spawn};

/// A check of readiness has no longer than this.
const LONGEST: Duration = Duration::from_secs(10);

/// A server that has not answered by the end of its time is waited for so long; then the one who asks is not.
const LATE: Duration = Duration::from_millis(500);

/// What the look-up of a name by the C library takes, and more; only what is touched is there.
const PROBE_STACK: usize = 256 * 1024;

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum About {
    Readiness,
    Health,
    /// What was asked in a way that is no more: its answer is nobody's.
    Nothing,
}

/// A thread asks a server.
#[derive(Debug)]
pub(super) struct Asked {
    /// It is not waited for any longer; `None` once nobody waits.
    by: Option<Moment>,
    /// It asks in a way that is no more.
    is_past: bool,
}

impl Asked {
    pub(super) fn deadline(&self) -> Option<Moment> {
        self.by
    }
}

/// A check that runs.
#[derive(Debug)]
pub(super) struct Check {
    helper: Helper,
    about: About,
    /// Its command line, for people.
    name: String,
    limit: Duration,
    /// Its time was up before it had ended: its end is waited for until then.
    late: Option<Moment>,
    /// Nobody waits for its answer any more.
    dropped: bool,
}

impl Check {
    pub(super) fn child(&self) -> &Child {
        self.helper.child()
    }

    pub(super) fn pid(&self) -> Pid {
        self.helper.pid()
    }

    /// Readable once it has ended.
    pub(super) fn ended(&self) -> Option<BorrowedFd<'_>> {
        self.helper.ended()
    }

    /// When it must be looked at.
    pub(super) fn deadline(&self) -> Option<Moment> {
        [self.helper.deadline(), self.late.filter(|_| !self.dropped)].into_iter().flatten().min()
    }

    /// Its answer.
    fn answer(&self, how: Option<How>) -> Result<(), String> {
        match how {
            Some(how) if self.late.is_none() && how.success() => Ok(()),
            Some(how) if self.late.is_none() => Err(format!("{}: {how}", self.name)),
            Some(_) | None => {
                Err(format!("{}: takes longer than {}s, and is killed", self.name, self.limit.as_secs_f64()))
            }
        }
    }

    pub(super) fn handed(&self) -> HandedHelper {
        self.helper.handed()
    }

    /// The check again, to be ended: the question is asked anew.
    pub(super) fn handed_down(handed: &HandedHelper) -> Option<Check> {
        let mut helper = Helper::handed_down(handed, true)?;
        helper.kill();
        let (name, limit) = (String::new(), Duration::ZERO);
        Some(Check { helper, about: About::Readiness, name, limit, late: None, dropped: true })
    }
}

impl Supervise {
    /// Runs the check of readiness.
    pub(super) fn check_readiness(&mut self) {
        let Some(care) = &self.care else { return };
        let loaded = Arc::clone(&care.loaded);
        let Some(ReadyBy::Check(words)) = &loaded.policy.ready.by else { return };
        if let Err(error) = self.check(About::Readiness, words, LONGEST) {
            self.tell_of_check(error.to_string());
            self.answered(false);
        }
    }

    /// Asks whether the program is well.
    pub(super) fn ask_health(&mut self) {
        let Some(health) = self.care.as_ref().map(|care| care.vitals.health().clone()) else { return };
        let is_asked = self.asking_health.is_some() || self.checks.iter().any(|check| check.about == About::Health);
        match &health.by {
            Some(_) if self.asking_health.as_ref().is_some_and(|asked| asked.is_past) => self.health_is_unasked(),
            Some(_) if is_asked => self.told(Err("the last one that was asked has not ended yet".to_owned())),
            Some(HealthBy::Check(words)) => {
                // What cannot be asked says nothing about the program.
                if let Err(error) = self.check(About::Health, words, health.timeout) {
                    self.tell_of_check(error.to_string());
                    self.health_is_unasked();
                }
            }
            Some(HealthBy::Tcp(_) | HealthBy::Http(_)) => self.ask_server(health),
            None => self.health_is_unasked(),
        }
    }

    fn health_is_unasked(&mut self) {
        if let Some(care) = &mut self.care {
            care.vitals.unasked(clock::moment());
        }
    }

    /// A thread of its own asks a server, and sends mail. It ends with its answer; only the look-up of a name may take
    /// longer.
    fn ask_server(&mut self, health: Health) {
        let by = clock::moment().plus(health.timeout).plus(LATE);
        let mailbox = self.task.mailbox.clone();
        let asked = raw::Thread::spawn(b"health", PROBE_STACK, move || {
            mailbox.send(Mail::Health(match &health.by {
                Some(HealthBy::Tcp(address)) => {
                    endpoint::tcp(address, health.timeout).map_err(|why| format!("{address}: {why}"))
                }
                Some(HealthBy::Http(url)) => endpoint::http(url, health.timeout).map_err(|why| format!("{url}: {why}")),
                Some(HealthBy::Check(_)) | None => Ok(()),
            }));
        });
        match asked {
            Ok(_ends_by_itself) => self.asking_health = Some(Asked { by: Some(by), is_past: false }),
            Err(error) => {
                self.tell_of_check(format!("asking for health: {}", report::plain(&error)));
                self.health_is_unasked();
            }
        }
    }

    /// A server has answered, or has not in time.
    pub(super) fn health_is_told(&mut self, answer: Result<(), String>) {
        if let Some(Asked { by: Some(_), .. }) = self.asking_health.take() {
            self.told(answer);
        }
    }

    /// What cannot be cut short is not waited for any longer.
    pub(super) fn look_at_health(&mut self) {
        let now = clock::moment();
        if let Some(asked) = &mut self.asking_health
            && asked.by.take_if(|by| *by <= now).is_some()
        {
            self.told(Err("no answer in time".to_owned()));
        }
    }

    /// An answer to whether the program is well.
    fn told(&mut self, answer: Result<(), String>) {
        if answer.is_err() && matches!(self.machine.phase(), Phase::Up { paused: true, .. }) {
            // Who is stopped answers nobody.
            return self.health_is_unasked();
        }
        let Some(care) = &mut self.care else { return };
        let said = answer.clone();
        let (before, _) = care.vitals.failed();
        let unwell = care.vitals.told(clock::moment(), answer);
        let (failed, most) = care.vitals.failed();
        match (said, unwell) {
            (_, Some(why)) => self.is_unwell(why),
            (Err(why), None) => self.lines.push((Level::Warning, format!("health: {why} ({failed} of {most})"))),
            (Ok(()), None) if before > 0 => self.lines.push((Level::Notice, "health: it is well again".to_owned())),
            (Ok(()), None) => {}
        }
    }

    fn check(&mut self, about: About, words: &[String], limit: Duration) -> Result<(), spawn::NotStarted> {
        let cgroup = self.group_of_helpers();
        let started = spawn::check(self.service(cgroup.as_ref()), &self.started_with().policy, words)?;
        if started.pidfd.is_none() {
            self.wait_elsewhere(started.pid);
        }
        let helper = Helper::new(started, limit, true);
        self.checks.push(Check { helper, about, name: words.join(" "), limit, late: None, dropped: false });
        Ok(())
    }

    /// Hears those that have ended, and kills those whose time is up.
    #[inline(never)]
    pub(super) fn look_at_checks(&mut self) {
        let now = clock::moment();
        for mut check in std::mem::take(&mut self.checks) {
            let (about, answer) = match check.helper.look(now) {
                Seen::Ended(_) if check.dropped => continue,
                Seen::Ended(how) => (check.about, check.answer(Some(how))),
                seen => {
                    if seen == Seen::TooLong {
                        check.late = Some(now.plus(LATE));
                    }
                    // One that KILL does not end at once is not waited for.
                    let is_heard = check.late.is_some_and(|by| by <= now) && !check.dropped;
                    check.dropped |= is_heard;
                    let heard = is_heard.then(|| (check.about, check.answer(None)));
                    self.checks.push(check);
                    let Some(heard) = heard else { continue };
                    heard
                }
            };
            self.heard_check(about, answer);
        }
    }

    fn heard_check(&mut self, about: About, answer: Result<(), String>) {
        match about {
            About::Readiness => {
                if let Err(why) = &answer {
                    self.tell_of_check(format!("not ready: {why}"));
                }
                self.answered(answer.is_ok());
            }
            About::Health => self.told(answer),
            About::Nothing => {}
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

    /// What was asked in a way that is no more is not waited for.
    pub(super) fn drop_health(&mut self) {
        for check in self.checks.iter_mut().filter(|check| check.about == About::Health) {
            (check.about, check.dropped) = (About::Nothing, true);
            check.helper.kill();
        }
        if let Some(asked) = &mut self.asking_health {
            *asked = Asked { by: None, is_past: true };
        }
    }

    /// Nobody waits for their answers any more.
    pub(super) fn drop_checks(&mut self) {
        for check in &mut self.checks {
            check.dropped = true;
            check.helper.kill();
        }
        if let Some(asked) = &mut self.asking_health {
            asked.by = None;
        }
    }
}
