//! How fast another clock runs against ours, remembered for when its answers stop.
//!
//! A two-state Kalman filter (offset, frequency) fed once per [`BLOCK`] with the envelope's
//! offset at the centre of its window, where an error of the slope cancels. It is used to
//! coast and to say how the error grows; it never steers the envelope, which would then
//! confirm itself.

use crate::base::{LocalTime, Span};

use super::envelope::FrequencyPrior;

/// Between two observations. Shorter ones overlap so much that they say the same thing.
pub const BLOCK: Span = Span::from_secs(8);

/// Random walk of the frequency, variance per second: 0.25 ppm in a minute. Crystals at rest
/// do ten times better, the warm-up of a busy board needs this much.
pub const WANDER: f64 = 1e-15;

/// Observations farther off than this many squared standard deviations are refused.
const GATE: f64 = 9.0;

/// So many refusals in a row, and the filter starts anew from the envelope.
const MAX_REFUSED: u32 = 2;

/// What the envelope says of a whole window.
#[derive(Clone, Copy, Debug)]
pub struct Block {
    /// The centre of the window.
    pub at: LocalTime,
    /// The offset there, seconds.
    pub offset: f64,
    /// The window's slope.
    pub frequency: f64,
    /// Difference between the offsets of its two halves, seconds (root mean square).
    pub split: f64,
    /// Seconds of samples.
    pub span: f64,
    /// Its nominal length, seconds.
    pub window: f64,
}

/// The filter.
#[derive(Clone, Debug)]
pub struct Holdover {
    /// When it last observed; nothing before the first time and after a jump.
    at: Option<LocalTime>,
    primed: bool,
    offset: f64,
    frequency: f64,
    p00: f64,
    p01: f64,
    p11: f64,
    refused: u32,
    prior: FrequencyPrior,
}

impl Holdover {
    /// Knows nothing but the prior.
    #[must_use]
    pub fn new(prior: FrequencyPrior) -> Holdover {
        Holdover {
            at: None,
            primed: false,
            offset: 0.0,
            frequency: prior.centre,
            p00: 0.0,
            p01: 0.0,
            p11: prior.spread * prior.spread,
            refused: 0,
            prior,
        }
    }

    /// Whether it has seen anything.
    #[must_use]
    pub fn is_primed(&self) -> bool {
        self.primed
    }

    /// The frequency to coast with.
    #[must_use]
    pub fn frequency(&self) -> f64 {
        self.frequency
    }

    /// Variance of that frequency.
    #[must_use]
    pub fn frequency_variance(&self) -> f64 {
        self.p11
    }

    /// By how much coasting for `age` seconds widens the error: a variance, s².
    #[must_use]
    pub fn growth(&self, age: f64) -> f64 {
        if self.is_primed() {
            self.p11 * age * age + WANDER * age.powi(3) / 3.0
        } else {
            (self.prior.spread * age).powi(2)
        }
    }

    /// Takes a window in.
    pub fn observe(&mut self, block: &Block) {
        let overlap = block.window / BLOCK.as_secs_f64();
        let noise = (0.5 * block.split + 1e-6).powi(2) * overlap;
        match self.at {
            None if self.primed => self.relocate(block, noise),
            None => self.prime(block, noise),
            Some(at) if block.at <= at => {}
            Some(at) => self.update(block, (block.at - at).as_secs_f64(), noise),
        }
    }

    /// The other clock jumped by an unknown amount and runs on as fast as before.
    pub fn jumped(&mut self) {
        self.at = None;
        self.refused = 0;
    }

    fn prime(&mut self, block: &Block, noise: f64) {
        let slope = (3.0 * block.split / block.span.max(1.0)).powi(2) + 0.2e-6_f64.powi(2);
        self.primed = true;
        self.frequency = block.frequency;
        self.p11 = slope.min(self.prior.spread.powi(2));
        self.relocate(block, noise);
    }

    fn relocate(&mut self, block: &Block, noise: f64) {
        self.at = Some(block.at);
        self.offset = block.offset;
        (self.p00, self.p01) = (noise, 0.0);
    }

    fn update(&mut self, block: &Block, dt: f64, noise: f64) {
        self.propagate(block.at, dt);
        let innovation = block.offset - self.offset;
        let expected = self.p00 + noise;
        if innovation * innovation > GATE * expected {
            self.refuse(block, noise);
            return;
        }
        self.refused = 0;
        let (k0, k1) = (self.p00 / expected, self.p01 / expected);
        self.offset += k0 * innovation;
        self.frequency += k1 * innovation;
        let (p00, p01) = (self.p00, self.p01);
        self.p00 -= k0 * p00;
        self.p01 -= k0 * p01;
        self.p11 -= k1 * p01;
    }

    fn propagate(&mut self, to: LocalTime, dt: f64) {
        self.offset += self.frequency * dt;
        self.p00 += 2.0 * dt * self.p01 + dt * dt * self.p11 + WANDER * dt.powi(3) / 3.0;
        self.p01 += dt * self.p11 + WANDER * dt * dt / 2.0;
        self.p11 += WANDER * dt;
        self.at = Some(to);
    }

    fn refuse(&mut self, block: &Block, noise: f64) {
        self.refused += 1;
        if self.refused < MAX_REFUSED {
            return;
        }
        self.refused = 0;
        self.frequency = block.frequency;
        self.relocate(block, noise);
        self.p11 = (3.0 * block.split / block.span + 0.3e-6).powi(2);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(second: i64, offset: f64) -> Block {
        Block {
            at: LocalTime(second * 1_000_000_000),
            offset,
            frequency: 30e-6,
            split: 2e-6,
            span: 32.0,
            window: 32.0,
        }
    }

    #[test]
    fn the_frequency_settles_and_its_variance_shrinks() {
        let mut holdover = Holdover::new(FrequencyPrior::UNKNOWN);
        for i in 0..40_i32 {
            let t = f64::from(i) * 8.0;
            holdover.observe(&block(i64::from(i) * 8, 30.4e-6 * t));
        }
        assert!((holdover.frequency() - 30.4e-6).abs() < 0.02e-6, "{}", holdover.frequency());
        assert!(holdover.frequency_variance() < 0.2e-6_f64.powi(2));
    }

    #[test]
    fn one_outlier_is_refused_and_two_are_believed() {
        let mut holdover = Holdover::new(FrequencyPrior::UNKNOWN);
        for i in 0..10_i32 {
            holdover.observe(&block(i64::from(i) * 8, 240e-6 * f64::from(i)));
        }
        holdover.observe(&block(80, 1.0));
        assert!((holdover.offset - 2400e-6).abs() < 1e-6, "{}", holdover.offset);
        holdover.observe(&block(88, 1.0));
        assert!((holdover.offset - 1.0).abs() < 1e-9);
    }

    #[test]
    fn coasting_widens_the_error_ever_faster() {
        let holdover = Holdover::new(FrequencyPrior::UNKNOWN);
        assert!(holdover.growth(2.0) > 3.9 * holdover.growth(1.0));
    }
}
