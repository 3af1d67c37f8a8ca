//! Random draws out of the seeded generator.

use groovebox::base::rng::Rng;

/// Standard normal (Box and Muller 1958).
pub fn normal(rng: &mut Rng) -> f64 {
    let radius = (-2.0 * (1.0 - rng.unit()).ln()).sqrt();
    radius * (std::f64::consts::TAU * rng.unit()).cos()
}

/// Exponential with this mean.
pub fn exponential(rng: &mut Rng, mean: f64) -> f64 {
    -mean * (1.0 - rng.unit()).ln()
}

/// Lognormal with this median; `spread` is the standard deviation of the logarithm.
pub fn lognormal(rng: &mut Rng, median: f64, spread: f64) -> f64 {
    median * (spread * normal(rng)).exp()
}

/// Uniform between the two.
pub fn uniform(rng: &mut Rng, from: f64, to: f64) -> f64 {
    from + (to - from) * rng.unit()
}

/// True so often.
pub fn chance(rng: &mut Rng, probability: f64) -> bool {
    rng.unit() < probability
}
