//! How fast pieces of files are given away: as fast as the connection takes them, except for
//! a while after somebody noticed that the clock probes wait behind them.
//!
//! Congestion control keeps the queue in a Wi-Fi access point just below overflowing, which
//! may be half a second of packets. That is fair to files and ruins a clock exchange.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Bytes a second that a throttled sender still gives: four lossless streams of CD quality.
const FLOOR: f64 = 512.0 * 1024.0;

/// Over how long the present rate is measured.
const METER: Duration = Duration::from_millis(500);

/// Shared by everything this node sends on bulk connections.
pub(super) struct Pacer(Mutex<State>);

struct State {
    meter: Meter,
    limit: Option<Limit>,
}

struct Limit {
    /// Bytes a second.
    rate: f64,
    until: Instant,
    /// When the bytes let through so far will have been sent at this rate.
    busy_until: Instant,
}

/// Counts bytes in windows of [`METER`].
struct Meter {
    since: Instant,
    bytes: f64,
    /// Of the window before, bytes a second.
    last_rate: f64,
}

impl Pacer {
    pub(super) fn new() -> Pacer {
        let meter = Meter { since: Instant::now(), bytes: 0.0, last_rate: 0.0 };
        Pacer(Mutex::new(State { meter, limit: None }))
    }

    /// Waits until `bytes` more may be sent.
    pub(super) async fn take(&self, bytes: usize) {
        let wait = self.state().take(Instant::now(), bytes);
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
    }

    /// Halves the present rate for `time`; called again meanwhile, what is left of it.
    pub(super) fn throttle(&self, time: Duration) {
        if let Some(rate) = self.state().throttle(Instant::now(), time) {
            tracing::debug!(rate, "bulk sending slowed down");
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    #[expect(clippy::cast_precision_loss, reason = "a chunk is far below 2^52 bytes")]
    fn take(&mut self, now: Instant, bytes: usize) -> Duration {
        let bytes = bytes as f64;
        self.meter.count(now, bytes);
        let Some(limit) = self.limit.as_mut().filter(|limit| now < limit.until) else {
            self.limit = None;
            return Duration::ZERO;
        };
        let start = limit.busy_until.max(now);
        limit.busy_until = start + Duration::from_secs_f64(bytes / limit.rate);
        // Nobody waits for longer than the limit holds.
        start.min(limit.until) - now
    }

    /// The rate from now on; none if so little is being sent that it cannot be what stands in
    /// the way. A track that begins in such a moment must not find itself throttled.
    fn throttle(&mut self, now: Instant, time: Duration) -> Option<f64> {
        self.meter.count(now, 0.0);
        let present = self.meter.rate(now);
        if present <= FLOOR && self.limit.is_none() {
            return None;
        }
        let rate = (present / 2.0).max(FLOOR);
        let busy_until = self.limit.as_ref().map_or(now, |limit| limit.busy_until);
        self.limit = Some(Limit { rate, until: now + time, busy_until });
        Some(rate)
    }
}

impl Meter {
    fn count(&mut self, now: Instant, bytes: f64) {
        let age = now - self.since;
        if age >= METER {
            self.last_rate = self.bytes / age.as_secs_f64();
            self.bytes = 0.0;
            self.since = now;
        }
        self.bytes += bytes;
    }

    /// The greater of this window so far and the one before: a halving must not be taken
    /// from a lull between two pieces.
    fn rate(&self, now: Instant) -> f64 {
        let age = (now - self.since).max(METER / 10);
        self.last_rate.max(self.bytes / age.as_secs_f64().max(METER.as_secs_f64()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends chunks for `time` and returns the bytes let through and the time at the end.
    fn send(state: &mut State, start: Instant, time: Duration, pause: Duration) -> (f64, Instant) {
        let (mut now, mut bytes) = (start, 0.0);
        while now < start + time {
            now += state.take(now, 16 * 1024) + pause;
            bytes += 16.0 * 1024.0;
        }
        (bytes, now)
    }

    fn fresh() -> (State, Instant) {
        let now = Instant::now();
        let meter = Meter { since: now, bytes: 0.0, last_rate: 0.0 };
        (State { meter, limit: None }, now)
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn nothing_waits_unless_throttled() {
        let (mut state, now) = fresh();
        for _ in 0..1000 {
            assert_eq!(state.take(now, 16 * 1024), Duration::ZERO);
        }
    }

    #[test]
    fn a_throttled_sender_halves_what_it_sent_and_recovers_by_itself() {
        let (mut state, now) = fresh();
        let pause = Duration::from_millis(1);
        let (before, now) = send(&mut state, now, SECOND, pause);
        state.throttle(now, SECOND);
        let (during, now) = send(&mut state, now, SECOND, pause);
        assert!((during / before - 0.5).abs() < 0.1, "{during} of {before}");
        let (after, _) = send(&mut state, now, SECOND, pause);
        assert!((after / before - 1.0).abs() < 0.05, "{after} of {before}");
    }

    #[test]
    fn who_sends_next_to_nothing_is_not_in_the_way() {
        let (mut state, now) = fresh();
        assert_eq!(state.throttle(now, SECOND), None);
        assert_eq!(state.take(now, 1024 * 1024), Duration::ZERO);
        assert_eq!(state.take(now, 1024 * 1024), Duration::ZERO);
    }

    #[test]
    fn throttling_again_and_again_ends_at_the_floor() {
        let (mut state, mut now) = fresh();
        (_, now) = send(&mut state, now, SECOND, Duration::from_millis(1));
        let mut bytes = 0.0;
        for _ in 0..10 {
            state.throttle(now, SECOND);
            (bytes, now) = send(&mut state, now, SECOND, Duration::ZERO);
        }
        assert!((bytes / FLOOR - 1.0).abs() < 0.1, "{bytes} in a second");
    }
}
