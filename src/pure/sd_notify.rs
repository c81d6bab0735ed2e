//! What a program says by the protocol of `sd_notify(3)`: one datagram of lines `KEY=value`.
//!
//! Must never believe it: whether the sender may say so, and whether it is true of a pid, is found out elsewhere.

use std::time::Duration;

use super::exit::Pid;
use super::name::printable;

/// A longer datagram is none of this protocol, in bytes.
pub const LONGEST: usize = 4096;

/// One thing that was said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// `MAINPID=`: this is the program from now on.
    MainPid(Pid),
    /// `READY=1`: it is ready, or has read its configuration again.
    Ready,
    /// `RELOADING=1`: it reads its configuration again.
    Reloading,
    /// `STOPPING=1`: it ends by itself.
    Stopping,
    /// `STATUS=`: what it does, for people.
    Status(String),
    /// `ERRNO=`: why it failed.
    Errno(i32),
    /// `EXTEND_TIMEOUT_USEC=`: it needs so long from now.
    Extend(Duration),
    /// `WATCHDOG_USEC=`: it will be heard of so often; zero is never.
    WatchdogEvery(Duration),
    /// `WATCHDOG=1`: it is well.
    Watchdog,
    /// `WATCHDOG=trigger`: it is not.
    Trigger,
    /// `FDSTORE=1`: it wants descriptors kept.
    Store,
    /// A key of the protocol with a value that it cannot have.
    Wrong(&'static str),
}

/// All that a datagram says, in the order in which it is to be heeded: first which process it is about.
/// Keys that are not known are passed over; `None` when it is no such text at all.
///
/// `BARRIER=1` says nothing: its sender waits until the descriptor that comes with it is closed, and so is every one.
#[must_use]
pub fn parse(datagram: &[u8]) -> Option<Vec<Said>> {
    // One NUL may end it, as in C.
    let text = datagram.strip_suffix(b"\0").unwrap_or(datagram);
    if text.contains(&0) || text.len() > LONGEST {
        return None;
    }
    let mut said: Vec<Said> = text.split(|byte| *byte == b'\n').filter_map(line).collect();
    said.sort_by_key(rank);
    Some(said)
}

fn line(line: &[u8]) -> Option<Said> {
    let equals = line.iter().position(|byte| *byte == b'=')?;
    let (key, value) = (line.get(..equals)?, line.get(equals + 1..)?);
    let is_one = |said: Said| (value == b"1").then_some(said);
    let number = || str::from_utf8(value).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    let micros = || number().and_then(|text| text.parse().ok()).map(Duration::from_micros);
    match key {
        b"READY" => is_one(Said::Ready),
        b"RELOADING" => is_one(Said::Reloading),
        b"STOPPING" => is_one(Said::Stopping),
        b"FDSTORE" => is_one(Said::Store),
        b"STATUS" => Some(Said::Status(printable(value))),
        b"MAINPID" => {
            let pid = number().and_then(|text| text.parse().ok()).and_then(Pid::new);
            Some(pid.map_or(Said::Wrong("MAINPID"), Said::MainPid))
        }
        b"ERRNO" => {
            let errno = number().and_then(|text| text.parse().ok()).filter(|errno| *errno <= HIGHEST_ERRNO);
            Some(errno.map_or(Said::Wrong("ERRNO"), Said::Errno))
        }
        b"WATCHDOG" => match value {
            b"1" => Some(Said::Watchdog),
            b"trigger" => Some(Said::Trigger),
            _ => Some(Said::Wrong("WATCHDOG")),
        },
        // As `systemd` has it, the greatest number stands for no end.
        b"WATCHDOG_USEC" => Some(match micros() {
            Some(NO_END) => Said::WatchdogEvery(Duration::ZERO),
            Some(every) => Said::WatchdogEvery(every),
            None => Said::Wrong("WATCHDOG_USEC"),
        }),
        b"EXTEND_TIMEOUT_USEC" => Some(micros().map_or(Said::Wrong("EXTEND_TIMEOUT_USEC"), Said::Extend)),
        // When it began to reload: nothing here waits for an answer to one signal and not to another.
        b"MONOTONIC_USEC" if micros().is_none() => Some(Said::Wrong("MONOTONIC_USEC")),
        _ => None,
    }
}

/// The kernel's own limit, `MAX_ERRNO`.
const HIGHEST_ERRNO: i32 = 4095;

const NO_END: Duration = Duration::from_micros(u64::MAX);

fn rank(said: &Said) -> u8 {
    match said {
        Said::MainPid(_) => 0,
        // Whoever sees it ready finds what it says of that.
        Said::Status(_) | Said::Errno(_) => 1,
        Said::Ready | Said::Reloading | Said::Stopping => 2,
        Said::Extend(_) | Said::WatchdogEvery(_) => 3,
        Said::Watchdog | Said::Trigger | Said::Store | Said::Wrong(_) => 4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word() {
        let pid = Pid::new(7).expect("positive");
        let text = b"WATCHDOG=1\nSTATUS=Loading: 50 %\nRELOADING=1\nMONOTONIC_USEC=5\nMAINPID=7\nERRNO=2\nX_KEY=y\n\
            WATCHDOG_USEC=20000000\nEXTEND_TIMEOUT_USEC=1500000\nSTOPPING=1\nREADY=1\nFDSTORE=1\nFDNAME=a\nBARRIER=1\n";
        let said = [
            Said::MainPid(pid),
            Said::Status("Loading: 50 %".into()),
            Said::Errno(2),
            Said::Reloading,
            Said::Stopping,
            Said::Ready,
            Said::WatchdogEvery(Duration::from_secs(20)),
            Said::Extend(Duration::from_millis(1500)),
            Said::Watchdog,
            Said::Store,
        ];
        assert_eq!(parse(text), Some(said.to_vec()));
        assert_eq!(parse(b"WATCHDOG=trigger"), Some(vec![Said::Trigger]));
        assert_eq!(parse(b"WATCHDOG_USEC=0"), Some(vec![Said::WatchdogEvery(Duration::ZERO)]));
        assert_eq!(parse(b"WATCHDOG_USEC=18446744073709551615"), Some(vec![Said::WatchdogEvery(Duration::ZERO)]));
    }

    #[test]
    fn what_says_nothing_and_what_is_wrong() {
        for nothing in ["", "\n\n", "=", "READY", "READY=0", "READY=11", "ready=1", " READY=1", "STOPPING=yes"] {
            assert_eq!(parse(nothing.as_bytes()), Some(Vec::new()), "{nothing:?}");
        }
        assert_eq!(parse(b"READY=1\0"), Some(vec![Said::Ready]));
        assert_eq!(parse(b"READY=1\0STATUS=x"), None);
        assert_eq!(parse(&[b'x'; LONGEST + 1]), None);
        for (text, key) in [
            ("MAINPID=0", "MAINPID"),
            ("MAINPID=-1", "MAINPID"),
            ("MAINPID=", "MAINPID"),
            ("ERRNO=4096", "ERRNO"),
            ("ERRNO=ENOENT", "ERRNO"),
            ("WATCHDOG=2", "WATCHDOG"),
            ("WATCHDOG_USEC=-1", "WATCHDOG_USEC"),
            ("EXTEND_TIMEOUT_USEC=1s", "EXTEND_TIMEOUT_USEC"),
            ("MONOTONIC_USEC=x", "MONOTONIC_USEC"),
        ] {
            assert_eq!(parse(text.as_bytes()), Some(vec![Said::Wrong(key)]), "{text}");
        }
        assert_eq!(parse(b"STATUS=a\x1b[2J"), Some(vec![Said::Status(printable(b"a\x1b[2J"))]));
    }
}
