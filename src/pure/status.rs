//! The 20-byte status records, their encodings, and the line that `svstat` makes of one.
//!
//! Two layouts, both of 20 bytes: `original` is that of Baidu's `supervise` (pid at 16), `runit` that of
//! `runsv` (pid at 12), whose first 18 bytes are those of daemontools' `supervise`. Must never open a file.

use std::fmt::Write;

use super::exit::Pid;
use super::time::Wall;

/// Length in bytes of both layouts.
pub const LENGTH: usize = 20;

/// Length in bytes of daemontools' own record, the beginning of the `runit` layout.
pub const LENGTH_DAEMONTOOLS: usize = 18;

/// What was asked of a module.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Want {
    /// Running, and started again when it exits.
    #[default]
    Up,
    /// Not running.
    Down,
    /// Running until it exits.
    Once,
}

impl Want {
    /// As in `state.json`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Want::Up => "up",
            Want::Down => "down",
            Want::Once => "once",
        }
    }

    /// Reads what [`Want::name`] says.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Want> {
        [Want::Up, Want::Down, Want::Once].into_iter().find(|want| want.name() == name)
    }

    /// As in the records: byte 13 of daemontools' layout.
    #[must_use]
    pub fn byte(self) -> u8 {
        match self {
            Want::Up => b'u',
            Want::Down => b'd',
            Want::Once => 0,
        }
    }

    /// Reads what [`Want::byte`] says.
    #[must_use]
    pub fn from_byte(byte: u8) -> Option<Want> {
        match byte {
            b'u' => Some(Want::Up),
            b'd' => Some(Want::Down),
            0 => Some(Want::Once),
            _ => None,
        }
    }
}

/// What runs: byte 19 of the `runit` layout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Running {
    /// Nothing.
    #[default]
    Nothing,
    /// The program.
    Program,
    /// `finish`.
    Finish,
}

/// What both layouts say about a module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// When the pid changed last.
    pub since: Wall,
    /// The pid of what runs; `None` while nothing does.
    pub pid: Option<Pid>,
    /// What that pid is.
    pub running: Running,
    /// Whether the program is stopped by `p`.
    pub paused: bool,
    /// What was asked.
    pub want: Want,
    /// Whether alarms are on.
    pub alarms: bool,
    /// Whether the signal that stops it was sent.
    pub term_sent: bool,
}

/// Why bytes are no status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadStatus;

impl std::fmt::Display for BadStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("bad status")
    }
}

impl std::error::Error for BadStatus {}

/// The TAI64 label of the Unix epoch: 2^62 + 10.
const EPOCH: u64 = (1 << 62) + 10;

fn encode_time(since: Wall) -> [u8; 12] {
    let mut bytes = [0; 12];
    bytes[..8].copy_from_slice(&EPOCH.wrapping_add_signed(since.seconds).to_be_bytes());
    bytes[8..].copy_from_slice(&since.nanos.to_be_bytes());
    bytes
}

fn decode_time(bytes: &[u8; 12]) -> Result<Wall, BadStatus> {
    let [s0, s1, s2, s3, s4, s5, s6, s7, n0, n1, n2, n3] = *bytes;
    let label = u64::from_be_bytes([s0, s1, s2, s3, s4, s5, s6, s7]);
    let nanos = u32::from_be_bytes([n0, n1, n2, n3]);
    // Labels from 2^63 on are reserved, and jiff's range of times is far smaller than what is left.
    if label >= 1 << 63 || nanos >= 1_000_000_000 {
        return Err(BadStatus);
    }
    let seconds = i64::try_from(label).map_err(|_| BadStatus)? - i64::try_from(EPOCH).map_err(|_| BadStatus)?;
    Ok(Wall { seconds, nanos })
}

fn encode_pid(pid: Option<Pid>) -> [u8; 4] {
    pid.map_or(0, Pid::get).to_le_bytes()
}

fn decode_pid(bytes: [u8; 4]) -> Result<Option<Pid>, BadStatus> {
    match i32::from_le_bytes(bytes) {
        0 => Ok(None),
        number => Pid::new(number).map(Some).ok_or(BadStatus),
    }
}

fn decode_flag(byte: u8) -> Result<bool, BadStatus> {
    match byte {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(BadStatus),
    }
}

impl Status {
    /// The bytes of `status/NAME/status`. While `finish` runs the program is down: pid 0.
    #[must_use]
    pub fn to_original(&self) -> [u8; LENGTH] {
        let mut bytes = [0; LENGTH];
        bytes[..12].copy_from_slice(&encode_time(self.since));
        bytes[12] = u8::from(self.paused);
        bytes[13] = self.want.byte();
        bytes[14] = if self.alarms { b'o' } else { b'x' };
        let pid = match self.running {
            Running::Program => self.pid,
            Running::Nothing | Running::Finish => None,
        };
        bytes[16..].copy_from_slice(&encode_pid(pid));
        bytes
    }

    /// Reads `status/NAME/status`.
    ///
    /// # Errors
    /// The bytes are none that [`Status::to_original`] writes.
    pub fn from_original(bytes: &[u8]) -> Result<Status, BadStatus> {
        let bytes: &[u8; LENGTH] = bytes.try_into().map_err(|_| BadStatus)?;
        let [time @ .., paused, want, alarms, zero, p0, p1, p2, p3] = bytes;
        let pid = decode_pid([*p0, *p1, *p2, *p3])?;
        if *zero != 0 {
            return Err(BadStatus);
        }
        Ok(Status {
            since: decode_time(time)?,
            pid,
            running: if pid.is_some() { Running::Program } else { Running::Nothing },
            paused: decode_flag(*paused)?,
            want: Want::from_byte(*want).ok_or(BadStatus)?,
            alarms: match alarms {
                b'o' => true,
                b'x' => false,
                _ => return Err(BadStatus),
            },
            term_sent: false,
        })
    }

    /// The bytes of `supervise/status`, in runit's layout.
    #[must_use]
    pub fn to_runit(&self) -> [u8; LENGTH] {
        let mut bytes = [0; LENGTH];
        bytes[..12].copy_from_slice(&encode_time(self.since));
        bytes[12..16].copy_from_slice(&encode_pid(self.pid));
        bytes[16] = u8::from(self.paused);
        bytes[17] = self.want.byte();
        bytes[18] = u8::from(self.term_sent);
        bytes[19] = match self.running {
            Running::Nothing => 0,
            Running::Program => 1,
            Running::Finish => 2,
        };
        bytes
    }

    /// Reads `supervise/status`, of svtree and runit (20 bytes) or of daemontools (18).
    ///
    /// # Errors
    /// The bytes are of neither.
    pub fn from_runit(bytes: &[u8]) -> Result<Status, BadStatus> {
        let (head, tail) = bytes.split_at_checked(LENGTH_DAEMONTOOLS).ok_or(BadStatus)?;
        let head: &[u8; LENGTH_DAEMONTOOLS] = head.try_into().map_err(|_| BadStatus)?;
        let [time @ .., p0, p1, p2, p3, paused, want] = head;
        let pid = decode_pid([*p0, *p1, *p2, *p3])?;
        let (term_sent, running) = match *tail {
            [] if pid.is_some() => (false, Running::Program),
            [] => (false, Running::Nothing),
            [term, 0] => (decode_flag(term)?, Running::Nothing),
            [term, 1] => (decode_flag(term)?, Running::Program),
            [term, 2] => (decode_flag(term)?, Running::Finish),
            _ => return Err(BadStatus),
        };
        Ok(Status {
            since: decode_time(time)?,
            pid,
            running,
            paused: decode_flag(*paused)?,
            want: Want::from_byte(*want).ok_or(BadStatus)?,
            alarms: true,
            term_sent,
        })
    }

    /// The contents of `supervise/stat`.
    #[must_use]
    pub fn stat(&self) -> &'static str {
        match self.running {
            Running::Nothing => "down\n",
            Running::Program => "run\n",
            Running::Finish => "finish\n",
        }
    }

    /// What `svstat` says after `NAME: `, in the words of daemontools.
    ///
    /// `normally_up` is whether the module is started when svtree starts.
    #[must_use]
    pub fn sentence(&self, now: Wall, normally_up: bool) -> String {
        // A clock set back never makes an uptime negative.
        let seconds = now.seconds.saturating_sub(self.since.seconds).max(0);
        let mut line = String::with_capacity(64);
        // Writing to a String cannot fail.
        match self.pid {
            Some(pid) => {
                let _ = write!(line, "up (pid {pid}) {seconds} seconds");
                if !normally_up {
                    line.push_str(", normally down");
                }
                if self.paused {
                    line.push_str(", paused");
                }
                if self.want == Want::Down {
                    line.push_str(", want down");
                }
            }
            None => {
                let _ = write!(line, "down {seconds} seconds");
                if normally_up {
                    line.push_str(", normally up");
                }
                if self.want == Want::Up {
                    line.push_str(", want up");
                }
            }
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Status {
        Status {
            since: Wall { seconds: 1_795_341_600, nanos: 5 },
            pid: Pid::new(0x0102_0304),
            running: Running::Program,
            paused: true,
            want: Want::Down,
            alarms: false,
            term_sent: false,
        }
    }

    #[test]
    fn original_bytes() {
        let bytes = sample().to_original();
        assert_eq!(bytes, [0x40, 0, 0, 0, 0x6b, 0x02, 0xbd, 0x2a, 0, 0, 0, 5, 1, b'd', b'x', 0, 4, 3, 2, 1]);
        assert_eq!(Status::from_original(&bytes), Ok(sample()));
    }

    #[test]
    fn runit_bytes() {
        let bytes = sample().to_runit();
        assert_eq!(bytes[12..], [4, 3, 2, 1, 1, b'd', 0, 1]);
        let read = Status { alarms: true, ..sample() };
        assert_eq!(Status::from_runit(&bytes), Ok(read));
        assert_eq!(Status::from_runit(&bytes[..18]), Ok(read));
    }

    #[test]
    fn finish_is_down_in_the_original_and_a_pid_in_runits() {
        let finishing = Status { running: Running::Finish, paused: false, ..sample() };
        assert_eq!(finishing.to_original()[16..], [0; 4]);
        assert_eq!(finishing.to_runit()[12..16], [4, 3, 2, 1]);
        assert_eq!(finishing.stat(), "finish\n");
    }

    #[test]
    fn sentences() {
        let now = Wall { seconds: 1_795_341_642, nanos: 0 };
        let up = sample();
        assert_eq!(up.sentence(now, false), "up (pid 16909060) 42 seconds, normally down, paused, want down");
        let down = Status { pid: None, running: Running::Nothing, want: Want::Up, ..up };
        assert_eq!(down.sentence(now, true), "down 42 seconds, normally up, want up");
        assert_eq!(down.sentence(Wall::default(), false), "down 0 seconds, want up");
    }

    #[test]
    fn nothing_else_is_a_status() {
        assert_eq!(Status::from_original(&[0xff; 20]), Err(BadStatus));
        assert_eq!(Status::from_original(&[0; 19]), Err(BadStatus));
        assert_eq!(Status::from_runit(&[0xff; 20]), Err(BadStatus));
        assert_eq!(Status::from_runit(&[0; 19]), Err(BadStatus));
    }
}
