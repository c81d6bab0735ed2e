//! Points in time as values: the monotonic `Moment`, the `Wall` clock, and a `Stamp` of both.
//!
//! Must never read a clock; `unix/clock.rs` does.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A point on the monotonic clock, in nanoseconds since an origin that is the same for one boot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Moment(pub u64);

impl Moment {
    /// This moment moved later; the end of time instead of an overflow.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Moment {
        Moment(self.0.saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// This moment moved earlier; the origin instead of an underflow.
    #[must_use]
    pub fn minus(self, duration: Duration) -> Moment {
        Moment(self.0.saturating_sub(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// How long before `self` the `earlier` moment was; zero if it was not before.
    #[must_use]
    pub fn since(self, earlier: Moment) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// A point on the wall clock: seconds and nanoseconds since 1970-01-01 00:00:00 UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Wall {
    /// Whole seconds; negative before 1970.
    pub seconds: i64,
    /// Nanoseconds within the second, below 1,000,000,000.
    pub nanos: u32,
}

impl Wall {
    /// This time moved later.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Wall {
        let nanos = u64::from(self.nanos) + u64::from(duration.subsec_nanos());
        let whole = i64::try_from(duration.as_secs() + nanos / 1_000_000_000).unwrap_or(i64::MAX);
        Wall { seconds: self.seconds.saturating_add(whole), nanos: u32::try_from(nanos % 1_000_000_000).unwrap_or(0) }
    }

    /// From an earlier time to this one; nothing if it is not earlier.
    #[must_use]
    pub fn since(self, earlier: Wall) -> Duration {
        let nanos = |wall: Wall| i128::from(wall.seconds) * 1_000_000_000 + i128::from(wall.nanos);
        u64::try_from((nanos(self) - nanos(earlier)).max(0)).map_or(Duration::MAX, Duration::from_nanos)
    }

    /// As RFC 3339 in UTC with milliseconds, `2026-11-22T10:00:00.000Z`.
    #[must_use]
    pub fn rfc3339(self) -> String {
        match jiff::Timestamp::new(self.seconds, i32::try_from(self.nanos).unwrap_or(0)) {
            Ok(stamp) => format!("{stamp:.3}"),
            Err(_) => "1970-01-01T00:00:00.000Z".to_owned(),
        }
    }

    /// Reads what [`Wall::rfc3339`] writes, and every other RFC 3339 time.
    #[must_use]
    pub fn from_rfc3339(text: &str) -> Option<Wall> {
        let stamp: jiff::Timestamp = text.parse().ok()?;
        // Negative fractions are normalised so that `nanos` counts upwards from `seconds`.
        let nanos = stamp.as_nanosecond();
        Some(Wall {
            seconds: i64::try_from(nanos.div_euclid(1_000_000_000)).ok()?,
            nanos: u32::try_from(nanos.rem_euclid(1_000_000_000)).ok()?,
        })
    }
}

/// One point in time on both clocks, read together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// For deadlines and durations: never set, never jumps.
    pub moment: Moment,
    /// For records that people and other machines read.
    pub wall: Wall,
}

impl Stamp {
    /// The wall clock at another moment, as far as this one can tell.
    #[must_use]
    pub fn wall_of(self, moment: Moment) -> Wall {
        let nanos = |wall: Wall| i128::from(wall.seconds) * 1_000_000_000 + i128::from(wall.nanos);
        let there = nanos(self.wall) + i128::from(moment.0) - i128::from(self.moment.0);
        Wall {
            seconds: i64::try_from(there.div_euclid(1_000_000_000)).unwrap_or(i64::MAX),
            nanos: u32::try_from(there.rem_euclid(1_000_000_000)).unwrap_or(0),
        }
    }
}

/// A time a program ran, short, for people: `0.2 s`, `45 s`, `12 min`.
#[must_use]
pub fn human(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..10 => format!("{:.1} s", duration.as_secs_f64()),
        10..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        172_800.. => format!("{} days", seconds / 86400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wall_clock_at_other_moments() {
        let now = Stamp { moment: Moment(5_000_000_000), wall: Wall { seconds: 100, nanos: 500_000_000 } };
        assert_eq!(now.wall_of(Moment(6_600_000_000)), Wall { seconds: 102, nanos: 100_000_000 });
        assert_eq!(now.wall_of(Moment(4_400_000_000)), Wall { seconds: 99, nanos: 900_000_000 });
    }

    #[test]
    fn rfc3339_round_trip() {
        let wall = Wall { seconds: 1_795_341_600, nanos: 120_000_000 };
        assert_eq!(wall.rfc3339(), "2026-11-22T10:00:00.120Z");
        assert_eq!(Wall::from_rfc3339(&wall.rfc3339()), Some(wall));
    }

    #[test]
    fn arithmetic_saturates() {
        assert_eq!(Moment(5).plus(Duration::MAX), Moment(u64::MAX));
        assert_eq!(Moment(5).since(Moment(9)), Duration::ZERO);
    }
}
