//! `svtree rescan`, `shutdown`, `leave`, `upgrade`: signals to the svscan that holds the status root.
//!
//! Must never signal a process that was not seen to hold it.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::out;
use crate::pure::exit::Signal;
use crate::pure::handover::Answer;
use crate::pure::time::Moment;
use crate::unix::client::{self, Watcher};
use crate::unix::clock;
use crate::unix::holder::{Holder, NoHolder};
use crate::unix::home::file;

/// What is asked of svscan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Look at everything again.
    Rescan,
    /// Stop every module and exit.
    Shutdown,
    /// Exit and leave every program running.
    Leave,
    /// Let the executable that is there now take over.
    Upgrade,
}

/// What follows an order, and is waited for.
enum Follows {
    Nothing,
    /// svscan ends.
    End,
    /// It says what became of it.
    Answer,
}

/// An upgrade is waited for so long, unless it is said otherwise: it is known sooner.
const PATIENCE: Duration = Duration::from_secs(30);

impl Order {
    fn verb(self) -> &'static str {
        match self {
            Order::Rescan => "rescan",
            Order::Shutdown => "shutdown",
            Order::Leave => "leave",
            Order::Upgrade => "upgrade",
        }
    }

    fn signal(self) -> Signal {
        match self {
            Order::Rescan => Signal::HUP,
            Order::Shutdown => Signal::TERM,
            Order::Leave => Signal::ABRT,
            Order::Upgrade => Signal::USR2,
        }
    }

    fn follows(self) -> Follows {
        match self {
            Order::Rescan => Follows::Nothing,
            Order::Shutdown | Order::Leave => Follows::End,
            Order::Upgrade => Follows::Answer,
        }
    }
}

/// Sends the signal; if it ends svscan, waits until it has ended, for ever or for `wait`; of an upgrade, until svscan has
/// said what became of it.
#[must_use]
pub fn run(order: Order, status: &Path, wait: Option<Duration>) -> u8 {
    match carry_out(order, status, wait) {
        Ok(()) => out::DONE,
        Err(why) => {
            out::complain("svtree", format!("{}: {why}", order.verb()));
            out::FAILED
        }
    }
}

fn carry_out(order: Order, status: &Path, wait: Option<Duration>) -> Result<(), String> {
    let deadline = wait.map(|wait| clock::moment().plus(wait));
    let lock = status.join(file::ROOT_LOCK);
    let holder = Holder::find(status).map_err(|why| match why {
        NoHolder::Nobody => format!("{}: no svtree runs on this status root", status.display()),
        NoHolder::Unproven => {
            format!("{}: it is held, but not by the process it names: signal svscan from where it runs", lock.display())
        }
        NoHolder::Failed(error) => format!("{}: {}", lock.display(), out::cause(&error)),
    })?;
    let pid = holder.pid;
    let failed = |error| format!("svscan (pid {pid}): {}", out::cause(&error));
    let follows = if wait == Some(Duration::ZERO) { Follows::Nothing } else { order.follows() };
    let answer = match follows {
        Follows::Answer => Some(Awaited::new(status).map_err(failed)?),
        Follows::Nothing | Follows::End => None,
    };
    holder.signal(order.signal()).map_err(failed)?;
    if let Some(answer) = answer {
        return answer.wait(&holder, wait.unwrap_or(PATIENCE));
    }
    if matches!(follows, Follows::Nothing) || holder.wait(deadline).map_err(failed)? {
        return Ok(());
    }
    let seconds = wait.unwrap_or_default().as_secs_f64();
    Err(format!("svscan (pid {pid}): it still runs after {seconds} s"))
}

/// What svscan says in the status root, once it is another answer than before.
struct Awaited {
    watcher: Watcher,
    path: PathBuf,
    before: u64,
}

impl Awaited {
    /// To be called before svscan is asked.
    fn new(status: &Path) -> io::Result<Awaited> {
        let watcher = Watcher::new()?;
        watcher.add(status)?;
        let path = status.join(file::UPGRADE);
        let before = read(&path).count;
        Ok(Awaited { watcher, path, before })
    }

    fn wait(self, holder: &Holder, patience: Duration) -> Result<(), String> {
        let deadline = clock::moment().plus(patience);
        loop {
            let answer = read(&self.path);
            if answer.count != self.before {
                return match answer.upgraded {
                    true => Ok(()),
                    false => Err(answer.reason.unwrap_or_else(|| "svscan does not say why not".to_owned())),
                };
            }
            if holder.wait(Some(Moment::default())).map_err(|error| out::cause(&error))? {
                return Err(format!("svscan (pid {}): it has ended", holder.pid));
            }
            let woken = self.watcher.wait_or(holder.ended(), Some(deadline)).map_err(|error| out::cause(&error))?;
            if !woken {
                let seconds = patience.as_secs_f64();
                return Err(format!("svscan (pid {}): nothing is known after {seconds} s", holder.pid));
            }
        }
    }
}

/// What is not there says that nothing was tried.
fn read(path: &Path) -> Answer {
    client::read(path).map(|bytes| Answer::decode(&bytes)).unwrap_or_default()
}
