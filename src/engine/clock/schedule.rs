//! When to ask for the coordinator's clock.
//!
//! Probes go in trains: the first packet wakes radio and processor, the rest ride warm. A
//! burst at the start makes a joining device sound soon; later the rate follows the error,
//! because the error of a minimum falls as one over the number of samples.

use crate::base::rng::Rng;
use crate::base::{LocalTime, Span};

/// Probes of the burst at the start.
const BURST: u32 = 24;
const BURST_GAP: Span = Span::from_millis(10);

/// Probes of a train.
pub const TRAIN: u32 = 5;
pub(super) const TRAIN_GAP: Span = Span::from_millis(8);

/// From the last of the burst to the first train, and between trains up to [`EARLY`].
const AFTER_BURST: Span = Span::from_millis(100);
const EARLY_INTERVAL: Span = Span::from_millis(250);
const EARLY: Span = Span::from_secs(4);

/// Between trains until the window has filled and the error can be judged.
const NORMAL_INTERVAL: Span = Span::from_millis(500);
const JUDGED_FROM: Span = Span::from_secs(32);

/// Probes a second, and the statistical error (seconds) at which so many are right. Fewer
/// than five a second double the error on a cable and save nothing that anybody would notice.
const NORMAL_RATE: f64 = 10.0;
const NORMAL_SIGMA_S: f64 = 20e-6;
const RATES: (f64, f64) = (5.0, 20.0);

/// Share of an interval by which it is varied, so that devices that joined together do not
/// ask together for ever.
const JITTER: f64 = 0.1;

/// A driver that comes later than this does not catch up: a probe missed is a probe missed.
pub(super) const LATE: Span = Span::from_millis(5);

/// Tells when the next probe is due.
#[derive(Clone, Debug)]
pub struct Schedule {
    started: LocalTime,
    due: LocalTime,
    left: u32,
    train_began: LocalTime,
    hurried: bool,
}

impl Schedule {
    /// Begins with a burst, now.
    #[must_use]
    pub fn start(now: LocalTime) -> Schedule {
        Schedule { started: now, due: now, left: BURST, train_began: now, hurried: false }
    }

    /// When the next probe is due.
    #[must_use]
    pub fn due(&self) -> LocalTime {
        self.due
    }

    /// A probe was sent; `sigma` is the statistical error as known, seconds.
    pub fn sent(&mut self, now: LocalTime, sigma: Option<f64>, rng: &mut Rng) {
        let on_time = if now - self.due > LATE { now } else { self.due };
        let in_burst = self.train_began == self.started;
        self.left = self.left.saturating_sub(1);
        self.due = match (self.left, in_burst) {
            (1.., true) => on_time + BURST_GAP,
            (1.., false) => on_time + TRAIN_GAP,
            (0, true) => self.next_train(on_time + AFTER_BURST),
            (0, false) => {
                let interval = self.interval(now, sigma, rng);
                self.next_train((self.train_began + interval).later(on_time + TRAIN_GAP))
            }
        };
    }

    /// Something looks odd: the train after this one comes soon.
    pub fn hurry(&mut self, now: LocalTime) {
        self.hurried = true;
        self.due = self.due.min(now + EARLY_INTERVAL);
    }

    fn next_train(&mut self, at: LocalTime) -> LocalTime {
        self.hurried = false;
        self.left = TRAIN;
        self.train_began = at;
        at
    }

    fn interval(&self, now: LocalTime, sigma: Option<f64>, rng: &mut Rng) -> Span {
        let age = now - self.started;
        let steady = match sigma {
            _ if age < EARLY || self.hurried => EARLY_INTERVAL,
            Some(sigma) if age >= JUDGED_FROM => adapted(sigma),
            _ => NORMAL_INTERVAL,
        };
        let vary = 1.0 + JITTER * (2.0 * rng.unit() - 1.0);
        Span::from_secs_f64(steady.as_secs_f64() * vary)
    }
}

fn adapted(sigma: f64) -> Span {
    let rate = (NORMAL_RATE * sigma / NORMAL_SIGMA_S).clamp(RATES.0, RATES.1);
    Span::from_secs_f64(f64::from(TRAIN) / rate)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent_within(seconds: i64, sigma: Option<f64>) -> Vec<LocalTime> {
        let (mut schedule, mut rng) = (Schedule::start(LocalTime(0)), Rng::new(1));
        let mut sent = Vec::new();
        while schedule.due() < LocalTime(0) + Span::from_secs(seconds) {
            let now = schedule.due();
            sent.push(now);
            schedule.sent(now, sigma, &mut rng);
        }
        sent
    }

    fn rate_between(sent: &[LocalTime], from: i64, to: i64) -> usize {
        let range = LocalTime(from * 1_000_000_000)..LocalTime(to * 1_000_000_000);
        sent.iter().filter(|at| range.contains(at)).count()
    }

    #[test]
    fn a_burst_then_trains_then_fewer_trains() {
        let sent = sent_within(30, None);
        assert_eq!(sent[23], LocalTime(230_000_000));
        assert_eq!(sent[24], LocalTime(330_000_000));
        assert!((70..=85).contains(&rate_between(&sent, 1, 5)));
        assert!((190..=210).contains(&rate_between(&sent, 10, 30)));
    }

    #[test]
    fn the_rate_follows_the_error_within_bounds() {
        let per_second = |sigma| rate_between(&sent_within(140, Some(sigma)), 40, 140) / 100;
        assert!((4..=5).contains(&per_second(1e-6)));
        assert!((9..=10).contains(&per_second(20e-6)));
        assert!((19..=20).contains(&per_second(1.0)));
    }

    #[test]
    fn a_late_driver_does_not_catch_up() {
        let (mut schedule, mut rng) = (Schedule::start(LocalTime(0)), Rng::new(1));
        let late = LocalTime(0) + Span::from_secs(3);
        schedule.sent(late, None, &mut rng);
        assert_eq!(schedule.due(), late + BURST_GAP);
    }
}
