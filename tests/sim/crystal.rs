//! A device's oscillator: what its clock shows at a true instant, and back. Used for clocks
//! and, with another frequency, for converters.

use groovebox::base::rng::Rng;
use groovebox::base::{LocalTime, Span};

use super::draw::{normal, uniform};

/// Seconds between two points of the frequency.
const GRID_S: f64 = 0.5;

/// What kind of oscillator.
#[derive(Clone, Debug)]
pub struct CrystalSpec {
    /// Frequency error at the start.
    pub ppm: f64,
    /// What it shows at true time 0, seconds.
    pub start_s: f64,
    /// Random walk of the frequency, variance per second.
    pub wander: f64,
    /// Amplitude of the day's warmth, …
    pub thermal_ppm: f64,
    /// … and its period, seconds.
    pub thermal_period_s: f64,
    /// The board gets to work: from when, by how many ppm, how slowly (seconds).
    pub warm_up: Option<(f64, f64, f64)>,
    /// True instants at which the clock jumps, and by how much; negative while it sleeps.
    pub jumps: Vec<(f64, Span)>,
}

impl Default for CrystalSpec {
    fn default() -> CrystalSpec {
        CrystalSpec {
            ppm: 0.0,
            start_s: 1000.0,
            wander: 1e-16,
            thermal_ppm: 0.3,
            thermal_period_s: 900.0,
            warm_up: None,
            jumps: Vec::new(),
        }
    }
}

impl CrystalSpec {
    /// A crystal out of the drawer: anywhere within ±100 ppm, started at any time.
    pub fn any(rng: &mut Rng) -> CrystalSpec {
        let (ppm, start_s) = (uniform(rng, -100.0, 100.0), uniform(rng, 10.0, 100_000.0));
        CrystalSpec { ppm, start_s, ..CrystalSpec::default() }
    }
}

/// A clock's course over the whole simulation.
#[derive(Clone, Debug)]
pub struct Crystal {
    start_s: f64,
    frequency: Vec<f64>,
    /// Shown time minus start minus true time, at each point of the grid.
    ahead: Vec<f64>,
    jumps: Vec<(f64, Span)>,
}

impl Crystal {
    /// Draws its course from 0 to `seconds` of true time.
    pub fn new(rng: &mut Rng, seconds: f64, spec: CrystalSpec) -> Crystal {
        let phase = uniform(rng, 0.0, std::f64::consts::TAU);
        let (mut walk, mut frequency, mut ahead) = (0.0, Vec::new(), Vec::new());
        for i in 0..index(seconds) + 3 {
            let t = grid(i);
            walk += normal(rng) * (spec.wander * GRID_S).sqrt();
            let swing = (std::f64::consts::TAU * t / spec.thermal_period_s + phase).sin();
            let warm = spec.warm_up.map_or(0.0, |(from, ppm, slowness)| {
                ppm * (1.0 - (-(t - from).max(0.0) / slowness).exp())
            });
            let f = (spec.ppm + spec.thermal_ppm * swing + warm) * 1e-6 + walk;
            let before = frequency.last().copied().unwrap_or(f);
            let last = ahead.last().copied().unwrap_or(-0.5 * (f + before) * GRID_S);
            ahead.push(last + 0.5 * (f + before) * GRID_S);
            frequency.push(f);
        }
        Crystal { start_s: spec.start_s, frequency, ahead, jumps: spec.jumps }
    }

    /// What the clock shows at a true instant.
    pub fn local(&self, true_s: f64) -> LocalTime {
        let jumped = self.jumps.iter().filter(|(at, _)| *at <= true_s).map(|(_, by)| *by);
        let shown =
            Span::from_secs_f64(self.start_s + self.ahead_at(true_s)) + Span::from_secs_f64(true_s);
        jumped.fold(LocalTime(0) + shown, |local, by| local + by)
    }

    /// The true instant at which it shows this. Right to a nanosecond without jumps; with
    /// them, by those of the past that still fit.
    pub fn true_at(&self, local: LocalTime) -> f64 {
        let mut jumped = Span::ZERO;
        for (at, by) in &self.jumps {
            if local >= self.local(*at) {
                jumped = jumped + *by;
            }
        }
        let shown = (local - LocalTime(0) - jumped).as_secs_f64() - self.start_s;
        let mut true_s = shown;
        for _ in 0..4 {
            true_s = shown - self.ahead_at(true_s);
        }
        true_s
    }

    /// Its frequency error at a true instant, a ratio minus one.
    pub fn frequency(&self, true_s: f64) -> f64 {
        self.frequency[index(true_s).min(self.frequency.len() - 1)]
    }

    fn ahead_at(&self, true_s: f64) -> f64 {
        let i = index(true_s).min(self.ahead.len() - 2);
        let share = (true_s - grid(i)) / GRID_S;
        self.ahead[i] + share * (self.ahead[i + 1] - self.ahead[i])
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it saturates at 0")]
fn index(true_s: f64) -> usize {
    (true_s / GRID_S) as usize
}

#[expect(clippy::cast_precision_loss, reason = "a simulation lasts minutes")]
fn grid(i: usize) -> f64 {
    i as f64 * GRID_S
}

#[test]
fn a_crystal_reads_the_same_both_ways() {
    for seed in 0..20 {
        let mut rng = Rng::new(seed);
        let spec = CrystalSpec::any(&mut rng);
        let crystal = Crystal::new(&mut rng, 100.0, spec);
        for i in 0..1000 {
            let t = f64::from(i) * 0.0999;
            let back = crystal.true_at(crystal.local(t));
            assert!((back - t).abs() < 2e-9, "seed {seed} at {t}: {back}");
            assert!(crystal.frequency(t).abs() < 110e-6, "seed {seed} at {t}");
        }
    }
}

#[test]
fn a_jump_is_seen_from_its_instant_on() {
    let jumps = vec![(10.0, Span::from_millis(30))];
    let spec = CrystalSpec { thermal_ppm: 0.0, wander: 0.0, jumps, ..CrystalSpec::default() };
    let crystal = Crystal::new(&mut Rng::new(1), 20.0, spec);
    assert_eq!(crystal.local(9.0), LocalTime(1_009_000_000_000));
    assert_eq!(crystal.local(11.0), LocalTime(1_011_030_000_000));
    assert!((crystal.true_at(LocalTime(1_011_030_000_000)) - 11.0).abs() < 1e-9);
}
