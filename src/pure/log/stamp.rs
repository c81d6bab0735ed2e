//! The stamp before each line.
//!
//! Must never read a clock: the time comes in.

use serde::{Deserialize, Serialize};

use crate::pure::time::Wall;

/// What stands before each line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Timestamps {
    /// `2026-11-22T10:00:00.000000Z`: RFC 3339 in UTC.
    #[default]
    Iso,
    /// `@400000006aa1f7b40737bc33`, as of daemontools' `tai64n`.
    Tai64n,
    /// Nothing.
    None,
}

impl Timestamps {
    /// Every kind by its name.
    pub const ALL: [(&str, Timestamps); 3] =
        [("iso", Timestamps::Iso), ("tai64n", Timestamps::Tai64n), ("none", Timestamps::None)];

    /// How long a stamp is, with the blank behind it. It is always the same, so that what is in a file tells how much was
    /// taken, whatever the time was.
    #[must_use]
    pub fn width(self) -> usize {
        match self {
            Timestamps::Iso => 28,
            Timestamps::Tai64n => 26,
            Timestamps::None => 0,
        }
    }
}

/// Makes stamps; what belongs to the second is made once in it.
#[derive(Clone, Debug, Default)]
pub struct Stamper {
    kind: Timestamps,
    second: Option<i64>,
    text: Vec<u8>,
}

impl Stamper {
    /// The stamp of a moment, with the blank behind it.
    pub fn stamp(&mut self, kind: Timestamps, wall: Wall) -> &[u8] {
        if self.second != Some(wall.seconds) || self.kind != kind {
            self.kind = kind;
            self.second = Some(wall.seconds);
            self.text.clear();
            match kind {
                Timestamps::Iso => self.text.extend_from_slice(iso_second(wall.seconds).as_bytes()),
                Timestamps::Tai64n => self.text.extend_from_slice(format!("@{:016x}", label(wall.seconds)).as_bytes()),
                Timestamps::None => {}
            }
        } else {
            self.text.truncate(match kind {
                Timestamps::Iso => SECOND,
                Timestamps::Tai64n => 17,
                Timestamps::None => 0,
            });
        }
        match kind {
            Timestamps::Iso => self.text.extend_from_slice(format!(".{:06}Z ", wall.nanos / 1000).as_bytes()),
            Timestamps::Tai64n => self.text.extend_from_slice(format!("{:08x} ", wall.nanos).as_bytes()),
            Timestamps::None => {}
        }
        &self.text
    }
}

/// The length of `2026-11-22T10:00:00`.
const SECOND: usize = 19;

/// The TAI64 label of a second of Unix time, as daemontools counts: without leap seconds.
#[must_use]
pub(super) fn label(seconds: i64) -> u64 {
    ((1_u64 << 62) + 10).wrapping_add_signed(seconds)
}

fn iso_second(seconds: i64) -> String {
    let text = Wall { seconds, nanos: 0 }.rfc3339();
    // A clock before year 0 or after 9999 has longer years; every stamp is as long as any other.
    match text.get(..SECOND) {
        Some(second) if text.as_bytes().get(SECOND) == Some(&b'.') => second.to_owned(),
        Some(_) | None => "1970-01-01T00:00:00".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_are_those_of_the_moment_and_all_as_long() {
        let mut stamper = Stamper::default();
        let at = |seconds, nanos| Wall { seconds, nanos };
        let mut stamp = |kind, wall| String::from_utf8(stamper.stamp(kind, wall).to_vec()).expect("text");
        assert_eq!(stamp(Timestamps::Iso, at(1_795_341_600, 120_000_999)), "2026-11-22T10:00:00.120000Z ");
        assert_eq!(stamp(Timestamps::Iso, at(1_795_341_600, 5_000)), "2026-11-22T10:00:00.000005Z ");
        assert_eq!(stamp(Timestamps::Iso, at(1_795_341_601, 0)), "2026-11-22T10:00:01.000000Z ");
        assert_eq!(stamp(Timestamps::Tai64n, at(0, 1)), "@400000000000000a00000001 ");
        assert_eq!(stamp(Timestamps::Tai64n, at(0, 0x10)), "@400000000000000a00000010 ");
        assert_eq!(stamp(Timestamps::None, at(7, 7)), "");
        for seconds in [i64::MIN, -1, 0, 253_402_300_799, 253_402_300_800, i64::MAX] {
            for (_, kind) in Timestamps::ALL {
                assert_eq!(stamp(kind, at(seconds, 999_999_999)).len(), kind.width(), "{kind:?} {seconds}");
            }
        }
    }
}
