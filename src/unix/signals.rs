//! The signals of svscan: waited for one by one in the main thread, which also collects orphans.
//!
//! Must never act on a signal; each becomes a message to the parent.

use nix::sys::signal::{SigSet, Signal};

use super::{pidfd, raw};

/// What svscan is told by a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// TERM, INT: stop every module, then end.
    Shutdown,
    /// QUIT: the same without waiting.
    ShutdownNow,
    /// HUP, ALRM: look at everything again.
    Rescan,
    /// ABRT: end and leave every program running.
    Leave,
    /// USR1: write all that is known to the log.
    Describe,
}

/// Waits for signals for ever. They must be blocked in every thread; to be called by the main thread, since orphans
/// come to it.
pub fn listen(tell: impl Fn(Told)) -> ! {
    let mut set = SigSet::empty();
    let all = [
        Signal::SIGTERM,
        Signal::SIGINT,
        Signal::SIGQUIT,
        Signal::SIGHUP,
        Signal::SIGALRM,
        Signal::SIGABRT,
        Signal::SIGUSR1,
        Signal::SIGUSR2,
        Signal::SIGCHLD,
    ];
    for signal in all {
        set.add(signal);
    }
    raw::give_way();
    // Orphans may have ended before the first SIGCHLD is waited for.
    pidfd::reap_orphans();
    loop {
        // EINTR is the only error there is.
        let Ok(signal) = set.wait() else { continue };
        match signal {
            Signal::SIGTERM | Signal::SIGINT => tell(Told::Shutdown),
            Signal::SIGQUIT => tell(Told::ShutdownNow),
            Signal::SIGHUP | Signal::SIGALRM => tell(Told::Rescan),
            Signal::SIGABRT => tell(Told::Leave),
            Signal::SIGUSR1 => tell(Told::Describe),
            Signal::SIGCHLD => pidfd::reap_orphans(),
            // Blocked and taken, so that it cannot end svscan.
            _ => {}
        }
    }
}
