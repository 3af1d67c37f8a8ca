//! The one place that reads this device's clock.
//!
//! `CLOCK_MONOTONIC_RAW` is the bare crystal: NTP neither steps nor slews it, so that a
//! frequency once measured against it stays true. It is read through libc, like everything
//! else a program can be given another clock for.

#![expect(
    unsafe_code,
    reason = "libc is the only way to the raw clock, and to how well the wall clock is kept"
)]

use std::time::{SystemTime, UNIX_EPOCH};

use crate::base::{LocalTime, Span};

/// The first of January 2025, Unix milliseconds.
const OLDER_THAN_THIS_PROGRAM: i64 = 1_735_689_600_000;

/// A century in milliseconds: more is not told apart, and fits into a span.
const FOREVER: i64 = 100 * 365 * 86_400_000;

/// This device's time.
#[must_use]
pub fn now() -> LocalTime {
    #[cfg(target_os = "linux")]
    return LocalTime(read(libc::CLOCK_MONOTONIC_RAW));
    #[cfg(not(target_os = "linux"))]
    return LocalTime(read(libc::CLOCK_MONOTONIC));
}

/// For how long the device has slept since it was switched on. Only differences mean
/// something: the two clocks behind it are read one after the other.
#[must_use]
pub fn slept() -> Span {
    #[cfg(target_os = "linux")]
    return Span(read(libc::CLOCK_BOOTTIME) - read(libc::CLOCK_MONOTONIC));
    #[cfg(not(target_os = "linux"))]
    return Span::ZERO;
}

/// The wall clock, Unix milliseconds. Steps, and may be wrong by years: for people, and for
/// [`outage`].
#[must_use]
pub fn wall() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Whether the wall clock follows a time server, if the system tells.
#[cfg(target_os = "linux")]
#[must_use]
pub fn wall_is_synced() -> Option<bool> {
    // SAFETY: a timex of zeros is a valid one, which asks for no change.
    let mut timex: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: `timex` is valid to be read and written.
    let state = unsafe { libc::adjtimex(&raw mut timex) };
    (state >= 0).then_some(state != libc::TIME_ERROR)
}

/// Whether the wall clock follows a time server, if the system tells.
#[cfg(not(target_os = "linux"))]
#[must_use]
pub fn wall_is_synced() -> Option<bool> {
    None
}

/// How long ago `then` was by the wall clock, if both readings can be true. A device without a
/// battery for its clock starts in the past, or where it was last set: the difference is then
/// negative, or one of the readings older than this program.
#[must_use]
pub fn outage(then: i64, now: i64) -> Option<Span> {
    let away = now.checked_sub(then)?;
    (then >= OLDER_THAN_THIS_PROGRAM && away >= 0).then(|| Span::from_millis(away.min(FOREVER)))
}

fn read(clock: libc::clockid_t) -> i64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid timespec to write to, and the clock exists on every system this
    // compiles for; the call cannot fail then.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    #[allow(clippy::useless_conversion, reason = "32-bit systems have a 32-bit time_t")]
    let (seconds, nanos) = (i64::from(time.tv_sec), i64::from(time.tv_nsec));
    seconds * 1_000_000_000 + nanos
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_does_not_run_backwards() {
        let first = now();
        assert!(now() >= first);
        assert!(slept() >= Span::from_millis(-1));
    }

    #[test]
    fn an_outage_is_told_by_clocks_that_can_be_right_only() {
        let then = wall();
        assert_eq!(outage(then, then + 1500), Some(Span::from_millis(1500)));
        assert_eq!(outage(then, then - 1), None, "it started in the past");
        assert_eq!(outage(1000, then), None, "it had not been set before");
        assert_eq!(outage(i64::MIN, i64::MAX), None);
        assert!(outage(then, i64::MAX).is_some());
    }
}
