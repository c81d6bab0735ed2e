//! What the files say: both 20-byte records and `state.json`, decoded from the description of their bytes.
//!
//! Must never use code of the program: a mistake in an encoding must not hide behind its own decoder.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use serde_json::Value;

/// What is asked of a module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    Up,
    Down,
    Once,
}

impl Want {
    /// As `state.json` has it.
    pub fn word(self) -> &'static str {
        match self {
            Want::Up => "up",
            Want::Down => "down",
            Want::Once => "once",
        }
    }

    fn of(byte: u8) -> Result<Want, String> {
        match byte {
            b'u' => Ok(Want::Up),
            b'd' => Ok(Want::Down),
            0 => Ok(Want::Once),
            other => Err(format!("want is {other}")),
        }
    }
}

/// What both records say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub bytes: Vec<u8>,
    pub pid: i32,
    pub paused: bool,
    pub want: Want,
    /// Whether alarms are on; runit's layout does not say.
    pub alarms: bool,
    /// 0 down, 1 run, 2 finish; only runit's layout says.
    pub state: u8,
}

/// `status/NAME/status`; `None` when there is none.
pub fn status(path: &Path) -> Result<Option<Record>, String> {
    let Some(bytes) = record(path)? else { return Ok(None) };
    let alarms = match bytes[14] {
        b'o' => true,
        b'x' => false,
        other => return Err(format!("byte 14 is {other}: {bytes:?}")),
    };
    if bytes[15] != 0 {
        return Err(format!("byte 15 is not 0: {bytes:?}"));
    }
    let (paused, want) = (flag(&bytes, 12)?, Want::of(bytes[13])?);
    let pid = pid(&bytes, 16)?;
    Ok(Some(Record { bytes, pid, paused, want, alarms, state: u8::from(pid != 0) }))
}

/// `supervise/status`, in runit's layout; `None` when there is none.
pub fn view(path: &Path) -> Result<Option<Record>, String> {
    let Some(bytes) = record(path)? else { return Ok(None) };
    flag(&bytes, 18)?;
    let (paused, want, state) = (flag(&bytes, 16)?, Want::of(bytes[17])?, bytes[19]);
    let pid = pid(&bytes, 12)?;
    if state > 2 || (state == 0) != (pid == 0) {
        return Err(format!("state {state} with pid {pid}: {bytes:?}"));
    }
    Ok(Some(Record { bytes, pid, paused, want, alarms: true, state }))
}

fn record(path: &Path) -> Result<Option<Vec<u8>>, String> {
    let Some(bytes) = read(path)? else { return Ok(None) };
    if bytes.len() != 20 {
        return Err(format!("{} bytes: {bytes:?}", bytes.len()));
    }
    let seconds = u64::from_be_bytes(bytes[..8].try_into().expect("eight of twenty"));
    let nanos = u32::from_be_bytes(bytes[8..12].try_into().expect("four of twenty"));
    let now = (1 << 62) + 10 + std::time::UNIX_EPOCH.elapsed().expect("a clock after 1970").as_secs();
    if nanos >= 1_000_000_000 || seconds > now + 1 || seconds < now - 86_400 {
        return Err(format!("no time of this day: {bytes:?}"));
    }
    Ok(Some(bytes))
}

fn flag(bytes: &[u8], at: usize) -> Result<bool, String> {
    match bytes[at] {
        0 => Ok(false),
        1 => Ok(true),
        other => Err(format!("byte {at} is {other}: {bytes:?}")),
    }
}

fn pid(bytes: &[u8], at: usize) -> Result<i32, String> {
    let pid = i32::from_le_bytes(bytes[at..at + 4].try_into().expect("four of twenty"));
    if pid < 0 { Err(format!("pid {pid}: {bytes:?}")) } else { Ok(pid) }
}

/// `state.json`; `None` when there is none.
pub fn state(path: &Path) -> Result<Option<Value>, String> {
    let Some(bytes) = read(path)? else { return Ok(None) };
    let shown = || String::from_utf8_lossy(&bytes).into_owned();
    let value: Value = serde_json::from_slice(&bytes).map_err(|error| format!("{error}: {}", shown()))?;
    let state = value["state"].as_str().unwrap_or_default();
    let runs = match state {
        "starting" | "up" | "ready" | "stopping" => true,
        "down" | "finishing" | "waiting" | "failed" | "incomplete" | "rejected" => false,
        other => return Err(format!("state {other:?}: {}", shown())),
    };
    if value["pid"].is_i64() != runs {
        return Err(format!("state {state} with pid {}: {}", value["pid"], shown()));
    }
    if !["up", "down", "once"].iter().any(|want| value["want"] == *want) {
        return Err(format!("want {}: {}", value["want"], shown()));
    }
    if value["exits"].as_array().is_none_or(|exits| exits.len() > 20) {
        return Err(format!("exits: {}", shown()));
    }
    Ok(Some(value))
}

/// What a file holds; `None` when there is none, or no directory that it could be in.
pub fn read(path: &Path) -> Result<Option<Vec<u8>>, String> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(format!("reading {}: {error}", path.display())),
    }
}
