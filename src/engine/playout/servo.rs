//! From the error of the playout to a rate.
//!
//! ```text
//!  feed forward   what both clock models say a device frame is worth   (does the work)
//!  + error / 2 s  at most 100 ppm, 500 ppm when far                     (removes the rest)
//!  = target       approached by at most 40 ppm each 10 ms
//! ```
//!
//! There is no integral term: the integrals are in the two estimators. 500 ppm is 0.9 cent,
//! a sixth of the smallest step of pitch that listeners notice; 100 ppm moves a stereo image
//! by less than its 60 µs threshold while it works.

/// Seconds in which the proportional term would remove the error.
const TAU_S: f64 = 2.0;

/// The correction's limit, and the one while the error is above [`FAR_S`].
const LIMIT: f64 = 100e-6;
const LIMIT_FAR: f64 = 500e-6;
const FAR_S: f64 = 0.4e-3;

/// Change of the rate per second: 40 ppm in 10 ms.
const SLEW: f64 = 40e-6 / 0.01;

/// Errors above this are not slewed but jumped over.
const JUMP_S: f64 = 5e-3;

/// The same soon after a start, when both models are fresh and a jump is hardly heard.
const JUMP_FRESH_S: f64 = 1e-3;
const FRESH_S: f64 = 2.0;

/// Chunks in a row with such an error.
const JUMP_AFTER: u32 = 4;

/// What to do about an error.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Verdict {
    /// Read this much faster than nominal (1e-6 is one ppm).
    Slew(f64),
    /// Go to where one should be.
    Jump,
}

/// The state of one voice's servo.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Servo {
    rate: f64,
    age_s: f64,
    far: u32,
}

impl Servo {
    /// Begins at the rate that both models foresee.
    #[must_use]
    pub fn new(feed_forward: f64) -> Servo {
        Servo { rate: feed_forward, age_s: 0.0, far: 0 }
    }

    /// One chunk of `seconds`: `error_s` is positive when the playout is behind.
    pub fn update(&mut self, error_s: f64, feed_forward: f64, seconds: f64) -> Verdict {
        let threshold = if self.age_s < FRESH_S { JUMP_FRESH_S } else { JUMP_S };
        self.age_s += seconds;
        self.far = if error_s.abs() > threshold { self.far + 1 } else { 0 };
        if self.far >= JUMP_AFTER {
            return Verdict::Jump;
        }
        let limit = if error_s.abs() > FAR_S { LIMIT_FAR } else { LIMIT };
        let target = feed_forward + (error_s / TAU_S).clamp(-limit, limit);
        let step = SLEW * seconds;
        self.rate += (target - self.rate).clamp(-step, step);
        Verdict::Slew(self.rate)
    }

    /// The rate in force, minus one.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.rate
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHUNK_S: f64 = 0.005;

    fn slewed(verdict: Verdict) -> f64 {
        match verdict {
            Verdict::Slew(rate) => rate,
            Verdict::Jump => panic!("expected no jump"),
        }
    }

    #[test]
    fn without_error_it_reads_at_the_foreseen_rate() {
        let mut servo = Servo::new(40e-6);
        assert!((slewed(servo.update(0.0, 40e-6, CHUNK_S)) - 40e-6).abs() < 1e-12);
    }

    #[test]
    fn an_error_vanishes_within_seconds_and_within_the_limits() {
        let mut servo = Servo::new(0.0);
        let mut error = 0.8e-3;
        let mut before = 0.0;
        for _ in 0..4_000 {
            let rate = slewed(servo.update(error, 0.0, CHUNK_S));
            assert!(rate.abs() <= if error.abs() > FAR_S { 500.1e-6 } else { 500e-6 });
            assert!((rate - before).abs() <= 20.1e-6, "slew");
            before = rate;
            error -= rate * CHUNK_S;
        }
        assert!(error.abs() < 2e-6, "{error:e}");
    }

    #[test]
    fn small_errors_are_never_corrected_by_more_than_100_ppm() {
        let mut servo = Servo::new(0.0);
        for _ in 0..200 {
            assert!(slewed(servo.update(0.39e-3, 0.0, CHUNK_S)) <= 100e-6);
        }
    }

    #[test]
    fn it_jumps_after_four_chunks_and_sooner_when_fresh() {
        let mut fresh = Servo::new(0.0);
        for _ in 0..3 {
            slewed(fresh.update(1.5e-3, 0.0, CHUNK_S));
        }
        assert_eq!(fresh.update(1.5e-3, 0.0, CHUNK_S), Verdict::Jump);

        let mut settled = Servo::new(0.0);
        for _ in 0..500 {
            slewed(settled.update(0.0, 0.0, CHUNK_S));
        }
        for _ in 0..100 {
            slewed(settled.update(1.5e-3, 0.0, CHUNK_S));
        }
        for _ in 0..3 {
            slewed(settled.update(-6e-3, 0.0, CHUNK_S));
        }
        assert_eq!(settled.update(-6e-3, 0.0, CHUNK_S), Verdict::Jump);
    }
}
