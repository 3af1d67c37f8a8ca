//! The one place that reads this device's clock.
//!
//! `CLOCK_MONOTONIC_RAW` is the bare crystal: NTP neither steps nor slews it, so that a
//! frequency once measured against it stays true. It is read through libc, like everything
//! else a program can be given another clock for.

#![expect(unsafe_code, reason = "libc's clock_gettime is the only way to the raw clock")]

use crate::base::{LocalTime, Span};

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
}
