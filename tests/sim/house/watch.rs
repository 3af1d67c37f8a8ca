//! What a device's raw clock shows: its own rate, a walk of that rate, and standing still
//! while the device sleeps. Steps of the wall clock are not seen by it.

#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "seconds of a simulation"
)]

use groovebox::base::LocalTime;
use groovebox::base::rng::Rng;

use crate::draw::{normal, uniform};
use crate::world::{Chance, SEC};

/// Between two changes of the rate.
const STRETCH: i64 = 5 * SEC;

/// Standard deviation of a change, a ratio: a room that warms up.
const WALK: f64 = 2e-8;

pub struct Watch {
    rate: f64,
    /// An instant, and what the clock showed then.
    anchor: (i64, i64),
    next_walk: i64,
    stands: bool,
}

impl Watch {
    pub fn new(now: i64, rng: &mut Rng) -> Watch {
        Watch {
            rate: uniform(rng, -100e-6, 100e-6),
            anchor: (now, rng.between(10 * SEC, 100_000 * SEC)),
            next_walk: now + STRETCH,
            stands: false,
        }
    }

    /// To be asked in the order of time.
    pub fn local(&self, now: i64) -> LocalTime {
        let (at, shown) = self.anchor;
        if self.stands {
            return LocalTime(shown);
        }
        let passed = now - at;
        LocalTime(shown + passed + (passed as f64 * self.rate) as i64)
    }

    /// The instant at which it will show this, if its rate stays.
    pub fn true_at(&self, local: LocalTime) -> i64 {
        let (at, shown) = self.anchor;
        let to_go = local.0.saturating_sub(shown);
        if to_go < 0 {
            return at;
        }
        if to_go > i64::MAX / 4 {
            return i64::MAX;
        }
        at + to_go - (to_go as f64 * self.rate / (1.0 + self.rate)) as i64 + 1
    }

    pub fn walk(&mut self, now: i64, rng: &mut Rng) {
        if now < self.next_walk || self.stands {
            return;
        }
        self.next_walk = now + STRETCH;
        self.anchor = (now, self.local(now).0);
        self.rate += WALK * normal(rng);
    }

    pub fn stop(&mut self, now: i64) {
        self.anchor = (now, self.local(now).0);
        self.stands = true;
    }

    pub fn go_on(&mut self, now: i64) {
        self.anchor.0 = now;
        self.stands = false;
    }
}
