//! When does frame `n` leave the converter? A second clock with an estimator of its own.
//!
//! Each callback of the sink says "frame n leaves at local time p", with noise: interrupt
//! latency, preemption between two system calls, a pointer that moves in steps. A Kalman
//! filter on `p - n / rate` with the states offset and drift gives a line; innovations are
//! clipped (Huber), because the noise has a long tail that only ever adds delay. Where the
//! pointer is so coarse that its error is not noise but a slow beat, a straight line through
//! medians of a tenth of a second, over a minute, takes over (`coarse`).
//!
//! It does not know the constant part of the delay behind the converter: nobody on this side
//! of it can.

use crate::base::{LocalTime, Span};

use super::coarse::Coarse;

/// Callbacks before the line is good enough to place a first frame.
pub const WARM_UP: u32 = 12;

/// Random walk of the drift, per second: follows the 2 ppm that a warming room moves a
/// crystal by, which a stiffer filter turns into 12 µs of error.
const WANDER: f64 = 1e-15;

/// A crystal is this many parts off, one standard deviation, as far as anybody knows.
const DRIFT_SIGMA: f64 = 120e-6;

/// The same for a device whose drift is remembered from before it was reopened.
const DRIFT_SIGMA_KNOWN: f64 = 5e-6;

/// Innovations beyond this many standard deviations count only up to here.
const CLIP: f64 = 2.5;

/// An innovation this large, [`FAR_IN_A_ROW`] times, is no noise: frames were lost or added.
const FAR_S: f64 = 2e-3;
const FAR_IN_A_ROW: u32 = 3;

/// A smaller step, all on one side for this long, is none either: the clip would let the
/// filter crawl towards it for minutes.
const ASIDE_SIGMAS: f64 = 6.0;
const ASIDE_IN_A_ROW: i32 = 25;

/// Variance of one observation at the start, and the smallest believed later.
const NOISE_START: f64 = 50e-6 * 50e-6;
const NOISE_FLOOR: f64 = 6e-6 * 6e-6;

/// What an observation did to the line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Observed {
    /// It bent it a little.
    Bent,
    /// It broke it: the line goes on elsewhere, at the same slope.
    Broke,
}

/// How the line was found broken.
enum Break {
    Far,
    Aside,
}

/// The line from frames to local time.
#[derive(Clone, Debug)]
pub struct DacModel {
    rate: f64,
    origin: Option<(u64, LocalTime)>,
    /// Nominal seconds from the origin to the last observation.
    x: f64,
    offset: f64,
    drift: f64,
    /// Covariance of offset and drift.
    p: [f64; 3],
    noise: f64,
    seen: u32,
    far: u32,
    aside: i32,
    coarse: Coarse,
}

impl DacModel {
    /// A device of `rate` frames a second; `drift` if it is remembered from before.
    #[must_use]
    pub fn new(rate: u32, drift: Option<f64>) -> DacModel {
        let sigma = if drift.is_some() { DRIFT_SIGMA_KNOWN } else { DRIFT_SIGMA };
        DacModel {
            rate: f64::from(rate),
            origin: None,
            x: 0.0,
            offset: 0.0,
            drift: drift.unwrap_or(0.0),
            p: [1e-6, 0.0, sigma * sigma],
            noise: NOISE_START,
            seen: 0,
            far: 0,
            aside: 0,
            coarse: Coarse::new(),
        }
    }

    /// Takes an observation: `frame` reaches the converter at `played_at`.
    pub fn observe(&mut self, frame: u64, played_at: LocalTime) -> Observed {
        let (first, start) = *self.origin.get_or_insert((frame, played_at));
        let x = self.nominal(frame, first);
        let y = (played_at - start).as_secs_f64() - x;
        self.seen = self.seen.saturating_add(1);
        if self.seen == 1 || x < self.x {
            return Observed::Bent;
        }
        self.predict(x - self.x);
        self.x = x;
        let innovation = y - self.offset;
        let broken = self.judge(innovation);
        if broken.is_some() {
            self.restart(y);
        } else {
            self.update(innovation);
        }
        self.coarse.observe(x, y, innovation);
        match broken {
            // The steps of a coarse pointer are its nature; the slow line goes through them.
            Some(Break::Aside) => {
                self.coarse.step();
                if self.is_coarse() { Observed::Bent } else { Observed::Broke }
            }
            Some(Break::Far) => {
                self.coarse.shift(innovation);
                Observed::Broke
            }
            None => Observed::Bent,
        }
    }

    /// When `frame` reaches the converter; none before the first observation.
    #[must_use]
    pub fn at(&self, frame: u64) -> Option<LocalTime> {
        let (first, start) = self.origin?;
        let x = self.nominal(frame, first);
        let y = match self.coarse.line() {
            Some(line) => line.at(x),
            None => self.offset + self.drift * (x - self.x),
        };
        Some(start + Span::from_secs_f64(x + y))
    }

    /// Local seconds per nominal second of frames, minus one.
    #[must_use]
    pub fn drift(&self) -> f64 {
        self.coarse.line().map_or(self.drift, |line| line.slope)
    }

    /// One standard deviation of [`DacModel::at`], seconds, without the constant part.
    #[must_use]
    pub fn sigma(&self) -> f64 {
        self.coarse.line().map_or(self.p[0].sqrt(), |line| line.sigma)
    }

    /// Whether the pointer is so coarse that the slow line is in use.
    #[must_use]
    pub fn is_coarse(&self) -> bool {
        self.coarse.line().is_some()
    }

    /// Whether a first frame may be placed by it.
    #[must_use]
    pub fn is_warm(&self) -> bool {
        self.seen >= WARM_UP
    }

    /// Frames a second, nominal.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.rate
    }

    #[expect(clippy::cast_precision_loss, reason = "2^53 frames are 6,000 years")]
    fn nominal(&self, frame: u64, first: u64) -> f64 {
        frame.wrapping_sub(first).cast_signed() as f64 / self.rate
    }

    fn predict(&mut self, dt: f64) {
        let [p00, p01, p11] = self.p;
        self.offset += self.drift * dt;
        self.p = [
            p00 + 2.0 * dt * p01 + dt * dt * p11 + WANDER * dt.powi(3) / 3.0,
            p01 + dt * p11 + WANDER * dt * dt / 2.0,
            p11 + WANDER * dt,
        ];
    }

    fn update(&mut self, innovation: f64) {
        let [p00, p01, p11] = self.p;
        let s = p00 + self.noise;
        let clip = CLIP * s.sqrt();
        let clipped = innovation.clamp(-clip, clip);
        let (k0, k1) = (p00 / s, p01 / s);
        self.offset += k0 * clipped;
        self.drift += k1 * clipped;
        self.p = [p00 - k0 * p00, p01 - k0 * p01, p11 - k1 * p01];
        if self.seen > 20 {
            let seen = (clipped * clipped - self.p[0]).max(0.1 * self.noise);
            self.noise = (self.noise + 0.005 * (seen - self.noise)).max(NOISE_FLOOR);
        }
    }

    fn judge(&mut self, innovation: f64) -> Option<Break> {
        self.far = if innovation.abs() > FAR_S { self.far + 1 } else { 0 };
        let aside = innovation.abs() > ASIDE_SIGMAS * (self.p[0] + self.noise).sqrt();
        let side = if innovation > 0.0 { 1 } else { -1 };
        self.aside = match (aside, self.aside * side >= 0) {
            (false, _) => 0,
            (true, true) => self.aside + side,
            (true, false) => side,
        };
        if self.far >= FAR_IN_A_ROW {
            return Some(Break::Far);
        }
        (self.aside.abs() >= ASIDE_IN_A_ROW).then_some(Break::Aside)
    }

    fn restart(&mut self, y: f64) {
        self.offset = y;
        self.p[0] = 300e-6 * 300e-6;
        self.p[1] = 0.0;
        self.far = 0;
        self.aside = 0;
    }
}

#[cfg(test)]
#[expect(clippy::cast_precision_loss, reason = "the figures of the tests are small and exact")]
mod tests {
    use super::*;
    use crate::base::rng::Rng;

    const RATE: u32 = 48_000;
    const PERIOD: u64 = 480;

    /// True play time of a frame on a converter that is `drift` slow, in local seconds.
    fn truth(frame: u64, drift: f64) -> f64 {
        3.0 + frame as f64 / f64::from(RATE) * (1.0 + drift)
    }

    fn local(seconds: f64) -> LocalTime {
        LocalTime(0) + Span::from_secs_f64(seconds)
    }

    /// Late by an interrupt, some microseconds; in rare cases by milliseconds.
    fn interrupt(rng: &mut Rng) -> f64 {
        let body = -12e-6 * (1.0 - rng.unit()).ln();
        if rng.unit() < 0.004 { body + 5e-3 * rng.unit() } else { body }
    }

    fn error(model: &DacModel, frame: u64, drift: f64) -> f64 {
        (model.at(frame).expect("observed") - local(truth(frame, drift))).as_secs_f64()
    }

    #[test]
    fn learns_offset_and_drift_within_a_second_and_keeps_them_to_microseconds() {
        for seed in 1..=5 {
            let mut rng = Rng::new(seed);
            let mut model = DacModel::new(RATE, None);
            for k in 0..6_000 {
                let frame = k * PERIOD;
                let noise = interrupt(&mut rng);
                model.observe(frame, local(truth(frame, 87e-6) + noise));
                let error = error(&model, frame + 2 * PERIOD, 87e-6) - 12e-6;
                let bound = if k < 100 {
                    continue;
                } else if k < 1_000 {
                    15e-6
                } else {
                    6e-6
                };
                assert!(error.abs() < bound, "seed {seed} callback {k}: {error:e}");
            }
            assert!((model.drift() - 87e-6).abs() < 1e-6, "seed {seed}: {}", model.drift());
            assert!(!model.is_coarse());
        }
    }

    #[test]
    fn one_late_callback_moves_nothing_audible() {
        let mut model = DacModel::new(RATE, None);
        for k in 0..1_000 {
            let late = if k == 800 { 4e-3 } else { 0.0 };
            model.observe(k * PERIOD, local(truth(k * PERIOD, 0.0) + late));
        }
        assert!(error(&model, 1_000 * PERIOD, 0.0).abs() < 3e-6);
    }

    #[test]
    fn lost_frames_break_the_line_at_the_third_callback_and_keep_its_slope() {
        let mut model = DacModel::new(RATE, None);
        for k in 0..3_000 {
            model.observe(k * PERIOD, local(truth(k * PERIOD, 50e-6)));
        }
        let slope = model.drift();
        let after = |k| local(truth(k * PERIOD, 50e-6) + 30e-3);
        assert_eq!(model.observe(3_000 * PERIOD, after(3_000)), Observed::Bent);
        assert_eq!(model.observe(3_001 * PERIOD, after(3_001)), Observed::Bent);
        assert_eq!(model.observe(3_002 * PERIOD, after(3_002)), Observed::Broke);
        assert!((model.drift() - slope).abs() < 2e-6);
        assert!((error(&model, 3_010 * PERIOD, 50e-6) - 30e-3).abs() < 20e-6);
    }

    #[test]
    fn a_step_below_the_threshold_is_found_as_well() {
        let mut model = DacModel::new(RATE, None);
        for k in 0..1_000 {
            model.observe(k * PERIOD, local(truth(k * PERIOD, 0.0)));
        }
        for k in 1_000..1_060 {
            model.observe(k * PERIOD, local(truth(k * PERIOD, 0.0) + 1e-3));
        }
        let error = error(&model, 1_060 * PERIOD, 0.0);
        assert!((error - 1e-3).abs() < 20e-6, "{error:e}");
    }

    #[test]
    fn a_pointer_in_steps_of_a_millisecond_turns_to_the_slow_line() {
        let mut rng = Rng::new(9);
        let mut model = DacModel::new(RATE, None);
        let mut worst = 0.0_f64;
        for k in 0..20_000 {
            let frame = k * PERIOD;
            // A beat of 20 s between the frame counter of the bus and the converter.
            let beat = 1e-3 * (k as f64 * 0.01 * 0.05).fract();
            model.observe(frame, local(truth(frame, 30e-6) + beat + interrupt(&mut rng)));
            if k > 12_000 {
                worst = worst.max((error(&model, frame, 30e-6) - 0.5e-3).abs());
            }
        }
        assert!(model.is_coarse());
        assert!(worst < 250e-6, "{worst:e}");
    }

    #[test]
    fn a_remembered_drift_is_believed_from_the_first_callback() {
        let mut model = DacModel::new(RATE, Some(80e-6));
        for k in 0..20 {
            model.observe(k * PERIOD, local(truth(k * PERIOD, 80e-6)));
        }
        assert!((model.drift() - 80e-6).abs() < 1e-6);
        assert!(model.is_warm());
    }
}
