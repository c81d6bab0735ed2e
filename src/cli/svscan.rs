//! `svtree rescan`, `shutdown`, `leave`: signals to the svscan that holds the status root.
//!
//! Must never signal a process that was not seen to hold it.

use std::path::Path;
use std::time::Duration;

use super::out;
use crate::pure::exit::Signal;
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
}

impl Order {
    fn verb(self) -> &'static str {
        match self {
            Order::Rescan => "rescan",
            Order::Shutdown => "shutdown",
            Order::Leave => "leave",
        }
    }

    fn signal(self) -> Signal {
        match self {
            Order::Rescan => Signal::HUP,
            Order::Shutdown => Signal::TERM,
            Order::Leave => Signal::ABRT,
        }
    }

    fn ends(self) -> bool {
        match self {
            Order::Rescan => false,
            Order::Shutdown | Order::Leave => true,
        }
    }
}

/// Sends the signal; if it ends svscan, waits until it has ended, for ever or for `wait`.
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
    holder.signal(order.signal()).map_err(failed)?;
    if !order.ends() || wait == Some(Duration::ZERO) || holder.wait(deadline).map_err(failed)? {
        return Ok(());
    }
    let seconds = wait.unwrap_or_default().as_secs_f64();
    Err(format!("svscan (pid {pid}): it still runs after {seconds} s"))
}
