//! Process ids, signals and the way a program ended, as plain values.
//!
//! Must never send a signal or wait for a process.

use std::fmt;
use std::num::NonZeroI32;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::time::Wall;

/// A process id, always positive, so that it can never mean a group or everybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pid(NonZeroI32);

impl Pid {
    /// A pid from a number; `None` unless it is positive.
    #[must_use]
    pub fn new(number: i32) -> Option<Pid> {
        if number > 0 { NonZeroI32::new(number).map(Pid) } else { None }
    }

    /// The number the kernel knows it by.
    #[must_use]
    pub fn get(self) -> i32 {
        self.0.get()
    }
}

impl fmt::Display for Pid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A signal by its number on Linux x86 and ARM, which is the number in `state.json`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Signal(pub i32);

/// The named signals, without `SIG`, in the order of their numbers.
const NAMES: [(&str, i32); 31] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("STKFLT", 16),
    ("CHLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
    ("PWR", 30),
    ("SYS", 31),
];

impl Signal {
    /// The signals that have a letter or a meaning of their own.
    pub const HUP: Signal = Signal(1);
    /// Interrupt.
    pub const INT: Signal = Signal(2);
    /// Quit.
    pub const QUIT: Signal = Signal(3);
    /// Abort; for svscan: leave, and let every program run.
    pub const ABRT: Signal = Signal(6);
    /// Cannot be caught.
    pub const KILL: Signal = Signal(9);
    /// User-defined.
    pub const USR1: Signal = Signal(10);
    /// User-defined.
    pub const USR2: Signal = Signal(12);
    /// Alarm.
    pub const ALRM: Signal = Signal(14);
    /// The polite end.
    pub const TERM: Signal = Signal(15);
    /// Continue.
    pub const CONT: Signal = Signal(18);
    /// Pause; cannot be caught.
    pub const STOP: Signal = Signal(19);
    /// A write that nobody reads.
    pub const PIPE: Signal = Signal(13);
    /// A child has ended.
    pub const CHLD: Signal = Signal(17);
    /// Pause, from the terminal,
    pub const TSTP: Signal = Signal(20);
    /// for a read in the background,
    pub const TTIN: Signal = Signal(21);
    /// and for a write there.
    pub const TTOU: Signal = Signal(22);
    /// The terminal has another size.
    pub const WINCH: Signal = Signal(28);
    /// The power fails.
    pub const PWR: Signal = Signal(30);

    /// A signal from `TERM`, `SIGTERM`, `sigterm` or `15`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Signal> {
        let upper = text.to_ascii_uppercase();
        let bare = upper.strip_prefix("SIG").unwrap_or(&upper);
        if let Some((_, number)) = NAMES.iter().find(|(name, _)| *name == bare) {
            return Some(Signal(*number));
        }
        let number: i32 = bare.parse().ok()?;
        (1..=64).contains(&number).then_some(Signal(number))
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match NAMES.iter().find(|(_, number)| *number == self.0) {
            Some((name, _)) => write!(f, "SIG{name}"),
            None => write!(f, "signal {}", self.0),
        }
    }
}

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum How {
    /// By itself, with this code.
    Exited(i32),
    /// By a signal.
    Killed {
        /// Which.
        signal: Signal,
        /// Whether it left a core dump.
        core: bool,
    },
    /// It is gone, and the kernel cannot say how: it was not our child.
    Unknown,
}

impl How {
    /// Whether it ended as a success: exit code 0.
    #[must_use]
    pub fn success(self) -> bool {
        self == How::Exited(0)
    }

    /// How it ended, for people; with what the group that its memory is limited in says of it.
    #[must_use]
    pub fn told(self, oom: bool) -> String {
        if oom { format!("{self}, out of memory (limits.memory)") } else { self.to_string() }
    }

    /// Whether it left a core dump.
    #[must_use]
    pub fn dumped_core(self) -> bool {
        matches!(self, How::Killed { core: true, .. })
    }

    /// The first argument of a `finish`: the exit code, or -1 if it did not exit by itself.
    #[must_use]
    pub fn finish_code(self) -> i32 {
        match self {
            How::Exited(code) => code,
            How::Killed { .. } | How::Unknown => -1,
        }
    }

    /// As a shell has it: the exit code, or 128 and the signal; 111 where it is not known.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            // What the kernel keeps of it has eight bits.
            How::Exited(code) => code.to_le_bytes()[0],
            How::Killed { signal, .. } => u8::try_from(signal.0).map_or(u8::MAX, |signal| signal.saturating_add(128)),
            How::Unknown => 111,
        }
    }

    /// The second argument of a `finish`: the low byte of the wait status.
    #[must_use]
    pub fn finish_status(self) -> i32 {
        match self {
            How::Exited(_) | How::Unknown => 0,
            How::Killed { signal, core } => signal.0 | if core { 0x80 } else { 0 },
        }
    }
}

impl fmt::Display for How {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            How::Exited(code) => write!(f, "exited {code}"),
            How::Killed { signal, core: true } => write!(f, "killed by {signal}, core dumped"),
            How::Killed { signal, .. } => write!(f, "killed by {signal}"),
            How::Unknown => write!(f, "ended, how is not known"),
        }
    }
}

/// One entry of `exits`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    /// When it was noticed.
    pub at: Wall,
    /// The pid it had.
    pub pid: Pid,
    /// How it ended.
    pub how: How,
    /// Whether it was killed for want of the memory that its module may have.
    pub oom: bool,
    /// How long it had run.
    pub uptime: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_by_every_name() {
        for text in ["TERM", "SIGTERM", "sigterm", "term", "15"] {
            assert_eq!(Signal::parse(text), Some(Signal::TERM));
        }
        for text in ["", "SIG", "0", "65", "-9", "TERMINATE"] {
            assert_eq!(Signal::parse(text), None);
        }
        assert_eq!(Signal::KILL.to_string(), "SIGKILL");
    }

    #[test]
    fn finish_arguments() {
        assert_eq!(How::Exited(3).finish_code(), 3);
        let killed = How::Killed { signal: Signal(11), core: true };
        assert_eq!((killed.finish_code(), killed.finish_status()), (-1, 139));
        assert_eq!((killed.code(), How::Exited(255).code(), How::Unknown.code()), (139, 255, 111));
    }
}
