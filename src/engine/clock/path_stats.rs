//! What the way to the coordinator does to packets: round trips and late arrivals. For people
//! to look at, and for the coordinator to choose how long ahead it must speak.

use crate::base::{LocalTime, Span};

/// Weight of a new round trip in mean and spread: some six seconds at ten a second. Bulk that
/// stands in the way is told by the mean, so it must rise and fall with it; over a minute, one
/// stalled first exchange kept bulk throttled for ten seconds after every start.
const RTT_GAIN: f64 = 1.0 / 64.0;

/// Half the memory of the lateness, which holds the present and the last such stretch.
const STRETCH: Span = Span::from_secs(300);

/// Buckets of the lateness: a quarter of an octave each, from [`FIRST_BUCKET_S`] up to more
/// than the two seconds that an answer may take.
const BUCKETS: usize = 80;
const PER_OCTAVE: f64 = 4.0;
const FIRST_BUCKET_S: f64 = 10e-6;

/// With fewer answers than this, the 99.9th percentile is a guess from the worst seen.
const ENOUGH: u32 = 2000;

/// How much worse than the worst seen it is then taken to be.
const GUESS_FACTOR: f64 = 1.5;

/// Counts what the exchanges took.
#[derive(Clone, Debug, Default)]
pub struct PathStats {
    n: u64,
    mean: f64,
    variance: f64,
    present: Histogram,
    last: Histogram,
    since: LocalTime,
}

impl PathStats {
    /// Takes a round trip in and, where the floor is known, by how much the answer exceeded
    /// it (seconds).
    pub fn add(&mut self, now: LocalTime, rtt: Span, lateness: Option<f64>) {
        self.add_rtt(rtt.as_secs_f64());
        let Some(lateness) = lateness else { return };
        if self.present.n == 0 && self.last.n == 0 {
            self.since = now;
        }
        if now - self.since >= STRETCH {
            self.last = std::mem::take(&mut self.present);
            self.since = now;
        }
        self.present.add(lateness);
    }

    /// Mean round trip.
    #[must_use]
    pub fn rtt_mean(&self) -> Span {
        Span::from_secs_f64(self.mean)
    }

    /// Standard deviation of the round trips.
    #[must_use]
    pub fn jitter(&self) -> Span {
        Span::from_secs_f64(self.variance.sqrt())
    }

    /// The 99.9th percentile of the delay from the coordinator beyond its floor, over five to
    /// ten minutes, rounded up to a bucket.
    #[must_use]
    pub fn lateness_q999(&self) -> Span {
        let n = self.present.n + self.last.n;
        let worst = self.present.worst.max(self.last.worst);
        if n < ENOUGH {
            return Span::from_secs_f64(GUESS_FACTOR * worst);
        }
        let mut above = n / 1000;
        for bucket in (0..BUCKETS).rev() {
            let here = self.present.counts[bucket] + self.last.counts[bucket];
            if here > above {
                return Span::from_secs_f64(bucket_top(bucket).min(worst));
            }
            above -= here;
        }
        Span::ZERO
    }

    fn add_rtt(&mut self, rtt: f64) {
        self.n += 1;
        let gain = RTT_GAIN.max(1.0 / count(self.n));
        let apart = rtt - self.mean;
        self.mean += gain * apart;
        self.variance = (1.0 - gain) * (self.variance + gain * apart * apart);
    }
}

/// How many answers were how late.
#[derive(Clone, Debug)]
struct Histogram {
    counts: [u32; BUCKETS],
    n: u32,
    worst: f64,
}

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram { counts: [0; BUCKETS], n: 0, worst: 0.0 }
    }
}

impl Histogram {
    fn add(&mut self, seconds: f64) {
        self.counts[bucket_of(seconds)] += 1;
        self.n += 1;
        self.worst = self.worst.max(seconds);
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a float cast saturates, and the result is bounded"
)]
fn bucket_of(seconds: f64) -> usize {
    let octaves = (seconds / FIRST_BUCKET_S).max(1.0).log2();
    ((octaves * PER_OCTAVE) as usize).min(BUCKETS - 1)
}

fn bucket_top(bucket: usize) -> f64 {
    FIRST_BUCKET_S * (count(bucket as u64 + 1) / PER_OCTAVE).exp2()
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
fn count(n: u64) -> f64 {
    n as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(n: i32) -> PathStats {
        let mut stats = PathStats::default();
        for i in 0..n {
            let late = if i % 500 == 499 { 20e-3 } else { 1e-3 };
            let now = LocalTime(i64::from(i) * 100_000_000);
            stats.add(now, Span::from_micros(2000 + i64::from(i % 2) * 1000), Some(late));
        }
        stats
    }

    #[test]
    fn mean_and_spread_of_round_trips() {
        let stats = filled(2000);
        assert!((stats.rtt_mean().as_micros_f64() - 2500.0).abs() < 5.0);
        assert!((stats.jitter().as_micros_f64() - 500.0).abs() < 5.0);
    }

    #[test]
    fn a_few_answers_are_not_trusted_with_a_percentile() {
        assert_eq!(filled(600).lateness_q999(), Span::from_millis(30));
    }

    #[test]
    fn one_in_five_hundred_is_above_the_percentile() {
        let late = filled(2500).lateness_q999();
        assert!((Span::from_millis(17)..=Span::from_millis(20)).contains(&late), "{late:?}");
    }

    #[test]
    fn what_was_late_ten_minutes_ago_is_forgotten() {
        let mut stats = filled(2500);
        for i in 2500..12_000_i64 {
            stats.add(LocalTime(i * 100_000_000), Span::from_millis(2), Some(1e-3));
        }
        assert!(stats.lateness_q999() < Span::from_millis(2), "{:?}", stats.lateness_q999());
    }
}
