//! The kinds of time. They never mix by accident: only a clock model turns one into another.
//!
//! | type | origin | who reads it |
//! |---|---|---|
//! | [`LocalTime`] | this device's `CLOCK_MONOTONIC_RAW` | this device only |
//! | [`RoomTime`] | the founder's clock at the founding, carried on by every coordinator | everybody |
//! | [`Span`] | none: a difference of either | |
//!
//! Positions in a track are counted in frames of its own rate (`u64`), not in time: a resume
//! must continue at the exact frame.

use std::ops::{Add, AddAssign, Neg, Sub, SubAssign};

use serde::{Deserialize, Serialize};

/// Reads this device's clock. Handed in, so that the pure part never reads one itself.
pub type Clock = fn() -> LocalTime;

/// Nanoseconds on this device's raw monotonic clock. Starts anywhere; never compared between
/// devices.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
pub struct LocalTime(pub i64);

/// Nanoseconds on the timeline that a room shares.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
pub struct RoomTime(pub i64);

/// A signed difference in nanoseconds.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
pub struct Span(pub i64);

/// A relative frequency in parts per million.
#[derive(Clone, Copy, PartialEq, PartialOrd, Debug, Default, Serialize, Deserialize)]
pub struct Ppm(pub f64);

impl Ppm {
    /// From a plain ratio minus one (1e-6 is one ppm).
    #[must_use]
    pub fn from_ratio(excess: f64) -> Ppm {
        Ppm(excess * 1e6)
    }

    /// As a plain ratio minus one.
    #[must_use]
    pub fn ratio(self) -> f64 {
        self.0 * 1e-6
    }
}

impl Span {
    /// No time at all.
    pub const ZERO: Span = Span(0);
    /// The longest span there is; for "never".
    pub const MAX: Span = Span(i64::MAX);

    /// Whole nanoseconds.
    #[must_use]
    pub const fn from_nanos(n: i64) -> Span {
        Span(n)
    }

    /// Whole microseconds.
    #[must_use]
    pub const fn from_micros(n: i64) -> Span {
        Span(n * 1_000)
    }

    /// Whole milliseconds.
    #[must_use]
    pub const fn from_millis(n: i64) -> Span {
        Span(n * 1_000_000)
    }

    /// Whole seconds.
    #[must_use]
    pub const fn from_secs(n: i64) -> Span {
        Span(n * 1_000_000_000)
    }

    /// Seconds, rounded to the nearest nanosecond; beyond the range it stays at the end.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "a float cast saturates, as documented")]
    pub fn from_secs_f64(seconds: f64) -> Span {
        Span((seconds * 1e9).round() as i64)
    }

    /// Seconds.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "below 104 days a nanosecond stays exact")]
    pub fn as_secs_f64(self) -> f64 {
        self.0 as f64 * 1e-9
    }

    /// Milliseconds.
    #[must_use]
    pub fn as_millis_f64(self) -> f64 {
        self.as_secs_f64() * 1e3
    }

    /// Microseconds.
    #[must_use]
    pub fn as_micros_f64(self) -> f64 {
        self.as_secs_f64() * 1e6
    }

    /// Whole milliseconds, rounded toward zero.
    #[must_use]
    pub const fn as_millis(self) -> i64 {
        self.0 / 1_000_000
    }

    /// Without its sign.
    #[must_use]
    pub const fn abs(self) -> Span {
        Span(self.0.saturating_abs())
    }

    /// For the standard library's timers; a negative span is none.
    #[must_use]
    pub fn to_std(self) -> std::time::Duration {
        std::time::Duration::from_nanos(u64::try_from(self.0).unwrap_or(0))
    }
}

impl From<std::time::Duration> for Span {
    fn from(d: std::time::Duration) -> Span {
        Span(i64::try_from(d.as_nanos()).unwrap_or(i64::MAX))
    }
}

impl Add for Span {
    type Output = Span;
    fn add(self, other: Span) -> Span {
        Span(self.0.saturating_add(other.0))
    }
}

impl Sub for Span {
    type Output = Span;
    fn sub(self, other: Span) -> Span {
        Span(self.0.saturating_sub(other.0))
    }
}

impl Neg for Span {
    type Output = Span;
    fn neg(self) -> Span {
        Span(self.0.saturating_neg())
    }
}

macro_rules! instant {
    ($name:ident) => {
        impl $name {
            /// Later than everything; for "no deadline".
            pub const FAR: $name = $name(i64::MAX);

            /// The later of two.
            #[must_use]
            pub fn later(self, other: $name) -> $name {
                self.max(other)
            }
        }

        impl Add<Span> for $name {
            type Output = $name;
            fn add(self, span: Span) -> $name {
                $name(self.0.saturating_add(span.0))
            }
        }

        impl AddAssign<Span> for $name {
            fn add_assign(&mut self, span: Span) {
                *self = *self + span;
            }
        }

        impl Sub<Span> for $name {
            type Output = $name;
            fn sub(self, span: Span) -> $name {
                $name(self.0.saturating_sub(span.0))
            }
        }

        impl SubAssign<Span> for $name {
            fn sub_assign(&mut self, span: Span) {
                *self = *self - span;
            }
        }

        impl Sub for $name {
            type Output = Span;
            fn sub(self, other: $name) -> Span {
                Span(self.0.saturating_sub(other.0))
            }
        }
    };
}

instant!(LocalTime);
instant!(RoomTime);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_of_instants_are_spans() {
        let start = LocalTime(5_000_000);
        assert_eq!(start + Span::from_millis(2) - start, Span::from_micros(2_000));
        assert_eq!((start - Span::from_millis(7)).0, -2_000_000);
    }

    #[test]
    fn arithmetic_stays_at_the_ends_instead_of_wrapping() {
        assert_eq!(LocalTime::FAR + Span::from_secs(1), LocalTime::FAR);
        assert_eq!(LocalTime(i64::MIN) - LocalTime::FAR, Span(i64::MIN));
    }
}
