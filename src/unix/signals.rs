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
    /// USR2: let the executable that is there now take over.
    Upgrade,
}

impl Told {
    /// Gives it back to the kernel, which tells it again to whoever listens next.
    pub fn give_back(self) {
        let signal = match self {
            Told::Shutdown => Signal::SIGTERM,
            Told::ShutdownNow => Signal::SIGQUIT,
            Told::Rescan => Signal::SIGHUP,
            Told::Leave => Signal::SIGABRT,
            Told::Describe => Signal::SIGUSR1,
            Told::Upgrade => Signal::SIGUSR2,
        };
        wake(signal);
    }
}

/// Wakes [`listen`], so that it calls `between`.
pub fn call_between() {
    wake(Signal::SIGCHLD);
}

/// Sends a signal to this process itself, where it is blocked in every thread.
fn wake(signal: Signal) {
    // There is one process that it may always be sent to.
    let _ = nix::sys::signal::kill(nix::unistd::Pid::this(), signal);
}

/// Waits for signals for ever. They must be blocked in every thread; to be called by the main thread, since orphans
/// come to it. Calls `between` after each of them; what it does not return from takes no signal.
pub fn listen(tell: impl Fn(Told), between: impl Fn()) -> ! {
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
            Signal::SIGUSR2 => tell(Told::Upgrade),
            Signal::SIGCHLD => pidfd::reap_orphans(),
            // Blocked and taken, so that it cannot end svscan.
            _ => {}
        }
        between();
    }
}
