//! When a line of a log was written: by its stamp, whichever of the kinds that there are.
//!
//! Must never look behind the stamp.

use crate::pure::time::Wall;

/// When a line was written, if it says so: `iso` and `tai64n` as svtree writes them, and what multilog, s6-log and svlogd
/// (`-t`, `-tt`, `-ttt`) write.
#[must_use]
pub fn told(line: &[u8]) -> Option<Wall> {
    let word = line.split(|byte| *byte == b' ').next()?;
    match word {
        [b'@', digits @ ..] => tai64n(digits),
        [b'0'..=b'9', ..] if word.len() >= 19 => iso(word),
        _ => None,
    }
}

fn tai64n(digits: &[u8]) -> Option<Wall> {
    let number = |digits: Option<&[u8]>| u64::from_str_radix(str::from_utf8(digits?).ok()?, 16).ok();
    if digits.len() != 24 {
        return None;
    }
    let seconds = number(digits.get(..16))?.checked_sub((1 << 62) + 10)?;
    let nanos = number(digits.get(16..))?;
    Some(Wall {
        seconds: i64::try_from(seconds).ok()?,
        nanos: u32::try_from(nanos).ok().filter(|nanos| *nanos < 1_000_000_000)?,
    })
}

/// `2026-11-22T10:00:00.123456Z`, and the same with `_` in the place of `T` and nothing in that of `Z`. By hand, since each
/// line of a log passes here.
fn iso(word: &[u8]) -> Option<Wall> {
    let number = |from: usize, to: usize| {
        let digits = word.get(from..to).filter(|digits| digits.iter().all(u8::is_ascii_digit))?;
        str::from_utf8(digits).ok()?.parse::<i64>().ok()
    };
    let is = |at: usize, expected: &[u8]| word.get(at).is_some_and(|byte| expected.contains(byte));
    if !(is(4, b"-") && is(7, b"-") && is(10, b"T_") && is(13, b":") && is(16, b":")) {
        return None;
    }
    let [year, month, day] = [number(0, 4)?, number(5, 7)?, number(8, 10)?];
    let [hour, minute, second] = [number(11, 13)?, number(14, 16)?, number(17, 19)?];
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let fraction = if is(19, b".") { word.get(20..).unwrap_or_default() } else { b"" };
    let digits = fraction.iter().take_while(|byte| byte.is_ascii_digit()).take(9);
    let nanos = digits.chain(&[b'0'; 9]).take(9).fold(0, |nanos, digit| nanos * 10 + u32::from(digit - b'0'));
    Some(Wall { seconds: days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second, nanos })
}

/// Days from 1970-01-01 to a day of the Gregorian calendar; years begin in March, so that the leap day is the last.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let of_era = year.rem_euclid(400) * 365 + year.rem_euclid(400) / 4 - year.rem_euclid(400) / 100 + of_year;
    year.div_euclid(400) * 146_097 + of_era - 719_468
}

#[cfg(test)]
mod tests {
    use super::super::{Stamper, Timestamps};
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn stamps_of_the_family() {
        let at = |seconds, nanos| Some(Wall { seconds, nanos });
        assert_eq!(told(b"2026-11-22T10:00:00.123456Z x"), at(1_795_341_600, 123_456_000));
        assert_eq!(told(b"2026-11-22_10:00:00.12345 x"), at(1_795_341_600, 123_450_000));
        assert_eq!(told(b"2026-11-22T10:00:00Z"), at(1_795_341_600, 0));
        assert_eq!(told(b"@400000000000000a00000010 x"), at(0, 16));
        for none in [&b""[..], b"x", b"@40", b"2026-11-22 10:00:00", b"2026-13-22T10:00:00", b"12345678901234567890"] {
            assert_eq!(told(none), None, "{}", String::from_utf8_lossy(none));
        }
    }

    proptest! {
        #[test]
        fn what_was_stamped_is_told(seconds in 0_i64..200_000_000_000, micros in 0_u32..1_000_000) {
            let wall = Wall { seconds, nanos: micros * 1000 };
            let mut stamper = Stamper::default();
            prop_assert_eq!(told(stamper.stamp(Timestamps::Iso, wall)), Some(wall));
            prop_assert_eq!(told(stamper.stamp(Timestamps::Tai64n, wall)), Some(wall));
        }
    }
}
