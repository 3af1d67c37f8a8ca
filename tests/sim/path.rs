//! The way between two devices: how long packets take, and which are lost. Delays of the two
//! directions are drawn apart, as on a real network; only what [`PathSpec`] says makes them
//! alike or unlike.

use groovebox::base::rng::Rng;

use super::draw::{chance, exponential, lognormal, normal, uniform};

/// The noise of a leg above its floor.
#[derive(Clone, Copy, Debug)]
pub enum Noise {
    /// Exponential with this mean, seconds.
    Exponential(f64),
    /// Lognormal: median in seconds, spread of the logarithm.
    Lognormal(f64, f64),
    /// Lognormal, half of whose variance lasts: median, spread, for how long (seconds).
    Correlated(f64, f64, f64),
}

/// What kind of path.
#[derive(Clone, Copy, Debug)]
pub struct PathSpec {
    /// The least a leg takes, seconds.
    pub floor_s: f64,
    /// What is added to it.
    pub noise: Noise,
    /// Now and then, something else: how often, and its mean (exponential, seconds).
    pub outlier: (f64, f64),
    /// Spells of 1.5 s every 8 s in which the air is full.
    pub bursts: bool,
    /// Always added on the way back, seconds. No two-way exchange can see it.
    pub asymmetry_s: f64,
    /// Mean of a queue on the way back alone, seconds.
    pub queue_s: f64,
    /// Share of exchanges that are lost.
    pub loss: f64,
    /// The radio sleeps after 120 ms of silence and wakes within 100 ms.
    pub power_save: bool,
    /// How often a process gets to its stamp late, by up to 10 ms.
    pub hiccups: f64,
}

impl PathSpec {
    /// Ethernet, stamps in user space.
    pub const WIRED: PathSpec = PathSpec {
        floor_s: 60e-6,
        noise: Noise::Lognormal(15e-6, 0.6),
        outlier: (0.02, 300e-6),
        bursts: false,
        asymmetry_s: 0.0,
        queue_s: 0.0,
        loss: 0.01,
        power_save: false,
        hiccups: 0.003,
    };

    /// Wi-Fi with many packets near the floor.
    pub const WIFI_EXPONENTIAL: PathSpec = PathSpec {
        floor_s: 0.7e-3,
        noise: Noise::Exponential(1.5e-3),
        outlier: (0.0, 0.0),
        ..PathSpec::WIRED
    };

    /// Wi-Fi with few.
    pub const WIFI: PathSpec =
        PathSpec { noise: Noise::Lognormal(1e-3, 0.9), ..PathSpec::WIFI_EXPONENTIAL };

    /// Wi-Fi with neighbours who stream, and a radio that sleeps.
    pub const WIFI_BURSTY: PathSpec = PathSpec { bursts: true, power_save: true, ..PathSpec::WIFI };

    /// Wi-Fi whose access point queues toward the stations.
    pub const WIFI_QUEUED: PathSpec = PathSpec { queue_s: 1e-3, ..PathSpec::WIFI };

    /// Wi-Fi that is one millisecond slower toward the station, always.
    pub const WIFI_ASYMMETRIC: PathSpec = PathSpec { asymmetry_s: 1e-3, ..PathSpec::WIFI };

    /// Wi-Fi whose delays stay high or low for two seconds.
    pub const WIFI_CORRELATED: PathSpec =
        PathSpec { noise: Noise::Correlated(1e-3, 0.9, 2.0), ..PathSpec::WIFI };

    /// Wi-Fi at its limit.
    pub const WIFI_SATURATED: PathSpec =
        PathSpec { noise: Noise::Correlated(8e-3, 0.8, 0.1), ..PathSpec::WIFI };

    /// Wi-Fi at its limit, and for seconds at a time beyond it.
    pub const WIFI_SATURATED_CORRELATED: PathSpec =
        PathSpec { noise: Noise::Correlated(8e-3, 0.8, 1.0), ..PathSpec::WIFI };
}

/// Toward the coordinator, or back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    Forth,
    Back,
}

/// When the four stamps of an exchange are made, true seconds.
#[derive(Clone, Copy, Debug)]
pub struct Passage {
    pub sent: f64,
    pub reached: f64,
    pub answered: f64,
    pub returned: f64,
}

/// A path with its state.
#[derive(Clone, Debug)]
pub struct Path {
    rng: Rng,
    spec: PathSpec,
    last_packet: f64,
    /// The spell drawn last: from, to, mean delay.
    spell: (f64, f64, f64),
    /// Of each direction: the lasting part of the noise, and when it was drawn.
    slow: [(f64, f64); 2],
    /// From when to when a queue on the way holds every packet, both ways, and for how long.
    held: (f64, f64, f64),
}

impl Path {
    pub fn new(seed: u64, spec: PathSpec) -> Path {
        let mut rng = Rng::new(seed);
        let slow = [(normal(&mut rng), 0.0), (normal(&mut rng), 0.0)];
        Path { rng, spec, last_packet: -1e9, spell: (0.0, 0.0, 0.0), slow, held: (0.0, 0.0, 0.0) }
    }

    /// A queue on the way holds every packet between these times for so long, each way.
    pub fn hold(&mut self, from: f64, to: f64, for_s: f64) {
        self.held = (from, to, for_s);
    }

    /// Sends a question and an answer, or loses one of them. To be called in the order of
    /// sending.
    pub fn probe(&mut self, sent: f64) -> Option<Passage> {
        if chance(&mut self.rng, self.spec.loss) {
            return None;
        }
        let reached = sent + self.leg(sent, Direction::Forth);
        let answered = reached + 30e-6 + exponential(&mut self.rng, 20e-6);
        let returned = answered + self.leg(answered, Direction::Back);
        Some(Passage { sent, reached, answered, returned })
    }

    /// How long one packet takes.
    pub fn leg(&mut self, at: f64, direction: Direction) -> f64 {
        let mut delay =
            self.spec.floor_s + self.noise(at, direction) + self.spell_delay(at, direction);
        if chance(&mut self.rng, self.spec.outlier.0) {
            delay += exponential(&mut self.rng, self.spec.outlier.1);
        }
        if direction == Direction::Back {
            delay += self.spec.asymmetry_s + exponential(&mut self.rng, self.spec.queue_s);
            if self.spec.power_save && at - self.last_packet > 0.12 {
                delay += uniform(&mut self.rng, 0.0, 0.1);
            }
        }
        let (from, to, for_s) = self.held;
        if (from..to).contains(&at) {
            delay += for_s;
        }
        if chance(&mut self.rng, self.spec.hiccups) {
            delay += uniform(&mut self.rng, 0.0, 10e-3);
        }
        self.last_packet = at;
        delay
    }

    fn noise(&mut self, at: f64, direction: Direction) -> f64 {
        match self.spec.noise {
            Noise::Exponential(mean) => exponential(&mut self.rng, mean),
            Noise::Lognormal(median, spread) => lognormal(&mut self.rng, median, spread),
            Noise::Correlated(median, spread, lasting_s) => {
                let half = std::f64::consts::FRAC_1_SQRT_2;
                let lasting = self.lasting(at, direction, lasting_s);
                median * (spread * half * (lasting + normal(&mut self.rng))).exp()
            }
        }
    }

    fn lasting(&mut self, at: f64, direction: Direction, lasting_s: f64) -> f64 {
        let slow = &mut self.slow[usize::from(direction == Direction::Back)];
        let kept = (-(at - slow.1).max(0.0) / lasting_s).exp();
        slow.0 = kept * slow.0 + (1.0 - kept * kept).max(0.0).sqrt() * normal(&mut self.rng);
        slow.1 = slow.1.max(at);
        slow.0
    }

    fn spell_delay(&mut self, at: f64, direction: Direction) -> f64 {
        if !self.spec.bursts {
            return 0.0;
        }
        while self.spell.1 < at {
            let from = self.spell.1 + exponential(&mut self.rng, 8.0);
            let to = from + exponential(&mut self.rng, 1.5);
            self.spell = (from, to, uniform(&mut self.rng, 5e-3, 60e-3));
        }
        let share = if direction == Direction::Back { 1.0 } else { 0.5 };
        if at < self.spell.0 { 0.0 } else { share * exponential(&mut self.rng, self.spell.2) }
    }
}

#[test]
fn no_leg_is_shorter_than_its_floor() {
    for (seed, spec) in
        [(1, PathSpec::WIRED), (2, PathSpec::WIFI_BURSTY), (3, PathSpec::WIFI_SATURATED)]
    {
        let mut path = Path::new(seed, spec);
        let legs: Vec<f64> =
            (0..5000).map(|i| path.leg(f64::from(i) * 0.1, Direction::Back)).collect();
        let least = legs.iter().copied().fold(f64::MAX, f64::min);
        assert!(least > spec.floor_s, "{spec:?}: {least}");
        assert!(least < spec.floor_s + 3e-3, "{spec:?}: {least}");
    }
}

#[test]
fn the_stamps_of_an_exchange_come_in_order() {
    let mut path = Path::new(4, PathSpec::WIFI);
    let lost = (0..10_000).filter(|i| match path.probe(f64::from(*i) * 0.1) {
        None => true,
        Some(Passage { sent, reached, answered, returned }) => {
            assert!(sent < reached && reached < answered && answered < returned, "seed 4, {i}");
            false
        }
    });
    assert!((50..200).contains(&lost.count()), "seed 4: one in a hundred is lost");
}
