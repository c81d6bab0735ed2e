//! The keeper: a process with one thread in front of svscan, which it starts again when that dies.
//!
//! As the first process of a container it also collects what nobody else does, and ends what is left at the end. All it
//! knows is the pid of svscan, and whether it passed on an order to end: an exit of svscan is final, a death by a signal
//! is not. Must never read a file of the tree: what a successor has to know it finds there itself.

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::pure::exit::{How, Pid, Signal};
use crate::pure::time::Moment;
use crate::unix::report::plain;
use crate::unix::{clock, executable, pidfd, raw, ward};

/// The first new start is made at once, any other so long after the last one.
const PAUSE: Duration = Duration::from_secs(1);

/// At the end what is left in the pid namespace has so long between TERM and KILL.
const GRACE: Duration = Duration::from_secs(2);

/// What svscan is started by.
#[derive(Clone, Debug)]
pub struct Kept {
    /// The name that errors begin with, and that svscan is called by.
    pub program: String,
    /// Where its executable is, also after an upgrade.
    pub executable: PathBuf,
    /// What it was called by.
    pub called: OsString,
    /// Its arguments for the first start,
    pub first: Vec<OsString>,
    /// and for all others: then it ends by [`ward::die`] whenever it cannot go on.
    pub again: Vec<OsString>,
}

/// Runs svscan until it exits, and returns its code. To be called while there is no other thread.
///
/// # Errors
/// It could not be started at all.
pub fn run(kept: Kept) -> Result<u8, String> {
    // svscan inherits that: what it is sent before it listens waits for it.
    let _ = raw::hold_signals();
    if !ward::is_first()
        && let Err(error) = ward::become_subreaper()
    {
        say(&kept.program, &format!("becoming a subreaper: {}; orphans of a dead svscan go to init", plain(&error)));
    }
    let mut keeper = Keeper { svscan: None, orders: Vec::new(), pace: Pace::default(), failing: false, kept };
    keeper.start(false)?;
    let code = keeper.keep();
    if ward::is_first() {
        end_what_is_left();
    }
    Ok(code)
}

struct Keeper {
    kept: Kept,
    svscan: Option<Pid>,
    /// The orders to end that were passed on: a svscan that dies over them leaves them to its successor.
    orders: Vec<Signal>,
    pace: Pace,
    /// It could not be started, and that was said.
    failing: bool,
}

impl Keeper {
    fn keep(&mut self) -> u8 {
        loop {
            let mut limit = None;
            if self.svscan.is_none() {
                let now = clock::moment();
                if self.pace.is_due(now) {
                    self.start_again(now);
                    continue;
                }
                limit = Some(self.pace.at.since(now));
            }
            match raw::next_signal(limit) {
                Some(Signal::CHLD) => {
                    while let Some(how) = ward::collect(self.svscan) {
                        match how {
                            How::Exited(_) => {
                                self.svscan.take().into_iter().for_each(pidfd::reap);
                                return how.code();
                            }
                            How::Killed { .. } | How::Unknown => self.died(how),
                        }
                    }
                }
                Some(signal) => self.pass_on(signal),
                None => {}
            }
        }
    }

    fn died(&mut self, how: How) {
        let Some(pid) = self.svscan.take() else { return };
        pidfd::reap(pid);
        say(&self.kept.program, &format!("svscan, pid {pid}, was {how}; it is started again"));
    }

    fn pass_on(&mut self, signal: Signal) {
        let Some(signal) = meaning(signal) else { return };
        if ends(signal) && !self.orders.contains(&signal) {
            self.orders.push(signal);
            // Whoever ends everything does not wait for a pause.
            self.pace.at = Moment::default();
        }
        if let Some(svscan) = self.svscan {
            // It is not collected yet, so the pid is its own.
            let _ = raw::kill(svscan, signal);
        }
    }

    fn start_again(&mut self, now: Moment) {
        self.pace.started(now);
        match self.start(true) {
            Ok(pid) => {
                self.failing = false;
                for order in &self.orders {
                    let _ = raw::kill(pid, *order);
                }
            }
            Err(error) if !std::mem::replace(&mut self.failing, true) => {
                say(&self.kept.program, &format!("{error}; it is tried again every second"));
            }
            Err(_) => {}
        }
    }

    fn start(&mut self, again: bool) -> Result<Pid, String> {
        let Kept { executable, called, first, again: others, .. } = &self.kept;
        let arguments = if again { others } else { first };
        let start = |path: &OsStr| {
            #[expect(clippy::disallowed_methods, reason = "svscan is to inherit the signals that are held")]
            Command::new(path).arg0(called).args(arguments).spawn()
        };
        // What stands at the path may be damaged by an upgrade; this very file has worked before.
        let child = start(executable.as_os_str()).or_else(|error| {
            start(OsStr::new(executable::OWN))
                .map_err(|_| format!("starting {}: {}", executable.display(), plain(&error)))
        })?;
        let pid = i32::try_from(child.id()).ok().and_then(Pid::new).ok_or("starting svscan: it has no pid")?;
        self.svscan = Some(pid);
        Ok(pid)
    }
}

/// When svscan may be started again.
#[derive(Debug, Default)]
struct Pace {
    at: Moment,
}

impl Pace {
    fn is_due(&self, now: Moment) -> bool {
        self.at <= now
    }

    fn started(&mut self, now: Moment) {
        self.at = now.plus(PAUSE);
    }
}

/// What a signal to the keeper is to svscan: the signals that it knows, and those by which container runtimes and
/// service managers ask an init to end. All others are none of its business: those of the terminal, of windows, of jobs.
fn meaning(signal: Signal) -> Option<Signal> {
    match signal {
        Signal::TERM | Signal::INT | Signal::QUIT | Signal::ABRT => Some(signal),
        Signal::HUP | Signal::ALRM | Signal::USR1 | Signal::USR2 => Some(signal),
        // `lxc-stop`, and a power failure.
        Signal::PWR => Some(Signal::TERM),
        // Halt, power off and reboot, as systemd has them: `podman stop` where an image says so.
        Signal(number) if (3..=5).contains(&(number - libc::SIGRTMIN())) => Some(Signal::TERM),
        Signal(_) => None,
    }
}

/// Whether svscan ends on it.
fn ends(signal: Signal) -> bool {
    [Signal::TERM, Signal::INT, Signal::QUIT, Signal::ABRT].contains(&signal)
}

/// Ends what is left in this pid namespace: when its first process goes, the kernel kills without asking.
fn end_what_is_left() {
    let deadline = clock::moment().plus(GRACE);
    raw::kill_everybody(Signal::TERM);
    // What is stopped cannot end.
    raw::kill_everybody(Signal::CONT);
    loop {
        let left = deadline.since(clock::moment());
        // Without a ward there is nothing to tell.
        let _ = ward::collect(None);
        if ward::is_alone() || left.is_zero() {
            return;
        }
        let _ = raw::next_signal(Some(left));
    }
}

/// A line on standard error, if it can be written at once: nobody may have read for long, and this process must not wait.
fn say(program: &str, text: &str) {
    let mut stderr = std::io::stderr();
    let ready = poll(&mut [PollFd::new(&stderr, PollFlags::OUT)], Some(&Timespec { tv_sec: 0, tv_nsec: 0 }));
    if ready.is_ok_and(|ready| ready > 0) {
        // In one write, shorter than what a pipe that is ready takes.
        let _ = stderr.write_all(format!("{program}: {text}\n").as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_new_start_is_at_once_and_then_one_a_second() {
        let second = |seconds| Moment::default().plus(Duration::from_secs(seconds));
        let mut pace = Pace::default();
        assert!(pace.is_due(second(7)));
        pace.started(second(7));
        assert!(!pace.is_due(Moment(second(8).0 - 1)) && pace.is_due(second(8)));
    }

    #[test]
    fn what_asks_an_init_to_end_ends_the_tree_and_windows_and_jobs_do_not_matter() {
        for signal in [Signal::TERM, Signal::PWR, Signal(libc::SIGRTMIN() + 3), Signal(libc::SIGRTMIN() + 4)] {
            assert_eq!(meaning(signal), Some(Signal::TERM));
        }
        for signal in [Signal::HUP, Signal::USR2, Signal::QUIT, Signal::ABRT] {
            assert_eq!(meaning(signal), Some(signal));
        }
        for signal in [Signal::TSTP, Signal::WINCH, Signal::CONT, Signal::PIPE, Signal(libc::SIGRTMIN())] {
            assert_eq!(meaning(signal), None);
        }
    }
}
