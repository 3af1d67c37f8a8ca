//! What every simulated world is made of: an order of events, radios with their stalls, and
//! the seeds to run. Time is nanoseconds since the beginning.

#![expect(
    clippy::cast_sign_loss,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "small counts and times of a simulation"
)]

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use groovebox::base::rng::Rng;

pub const MS: i64 = 1_000_000;
pub const SEC: i64 = 1_000 * MS;

/// Events in the order of their time, equal times in the order of their making.
pub struct Agenda<E> {
    heap: BinaryHeap<Reverse<(i64, u64, usize)>>,
    events: Vec<Option<E>>,
    free: Vec<usize>,
    made: u64,
}

impl<E> Agenda<E> {
    pub fn new() -> Agenda<E> {
        Agenda { heap: BinaryHeap::new(), events: Vec::new(), free: Vec::new(), made: 0 }
    }

    pub fn add(&mut self, at: i64, event: E) {
        let place = self.free.pop().unwrap_or(self.events.len());
        if place == self.events.len() {
            self.events.push(None);
        }
        self.events[place] = Some(event);
        self.made += 1;
        self.heap.push(Reverse((at, self.made, place)));
    }

    /// The next event that is due until then.
    pub fn next(&mut self, until: i64) -> Option<(i64, E)> {
        let &Reverse((at, _, place)) = self.heap.peek()?;
        if at > until {
            return None;
        }
        self.heap.pop();
        self.free.push(place);
        Some((at, self.events[place].take().expect("an event is taken once")))
    }
}

/// Draws that simulations need beyond the plain ones.
pub trait Chance {
    /// Uniform in `from .. to`.
    fn between(&mut self, from: i64, to: i64) -> i64;
    /// Exponential with this mean.
    fn around(&mut self, mean: i64) -> i64;
    /// True this often.
    fn happens(&mut self, probability: f64) -> bool;
}

impl Chance for Rng {
    fn between(&mut self, from: i64, to: i64) -> i64 {
        from + i64::try_from(self.below((to - from).max(1) as u64)).expect("below an i64")
    }

    fn around(&mut self, mean: i64) -> i64 {
        (-(mean as f64) * (1.0 - self.unit()).ln()) as i64
    }

    fn happens(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }
}

/// What a device hangs on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Air {
    /// Delays and loss, no stalls.
    Cable,
    /// A stall every 20 s, mostly 0.1 to 0.3 s, one in 25 a roam of 1 to 3 s that drops.
    HomeWifi,
    /// Power save is on: a stall every 6 s, a third of them above half a second.
    BadWifi,
}

/// One device's radio: now and then nothing gets through, and then all of it at once.
pub struct Radio {
    pub air: Air,
    until: i64,
    drops: bool,
    next: i64,
}

impl Radio {
    pub fn new(air: Air, rng: &mut Rng) -> Radio {
        Radio { air, until: 0, drops: false, next: rng.around(20 * SEC) }
    }

    /// How long what is sent now has to wait, and whether it is lost.
    pub fn stall(&mut self, now: i64, rng: &mut Rng) -> (i64, bool) {
        let mean = match self.air {
            Air::Cable => return (0, false),
            Air::HomeWifi => 20 * SEC,
            Air::BadWifi => 6 * SEC,
        };
        while now >= self.next {
            let (length, drops) = self.draw_stall(rng);
            self.until = self.next + length;
            self.drops = drops;
            self.next = self.until + rng.around(mean).max(MS);
        }
        if now < self.until { (self.until - now, self.drops) } else { (0, false) }
    }

    /// How much longer nothing gets through, as far as it is known.
    pub fn held_for(&self, now: i64) -> i64 {
        (self.until - now).max(0)
    }

    /// Nothing gets through from now until then, and then all of it at once.
    pub fn hold(&mut self, until: i64, rng: &mut Rng) {
        self.until = until;
        self.drops = false;
        self.next = until + rng.around(20 * SEC).max(SEC);
    }

    fn draw_stall(&self, rng: &mut Rng) -> (i64, bool) {
        let (short, middle) = if self.air == Air::HomeWifi { (0.85, 0.96) } else { (0.70, 0.93) };
        let (short_max, middle_min, middle_max) =
            if self.air == Air::HomeWifi { (300, 400, 1000) } else { (500, 500, 1300) };
        let kind = rng.unit();
        if kind < short {
            (rng.between(100 * MS, short_max * MS), false)
        } else if kind < middle {
            (rng.between(middle_min * MS, middle_max * MS), false)
        } else {
            (rng.between(1000 * MS, 3000 * MS), true)
        }
    }

    /// Whether the radio was held up at any time since then, as far as it is known.
    pub fn stalled_since(&self, then: i64) -> bool {
        self.until > then
    }
}

/// How a packet is carried.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Carriage {
    /// May be lost, doubled, overtaken.
    Datagram,
    /// Repeated until it arrives.
    Stream,
}

/// When copies of a packet arrive, from now: none if it is lost, two if it is doubled.
pub fn flight(
    now: i64,
    carriage: Carriage,
    from: &mut Radio,
    to: &mut Radio,
    rng: &mut Rng,
) -> [Option<i64>; 2] {
    let (wait_from, drop_from) = from.stall(now, rng);
    let (wait_to, drop_to) = to.stall(now, rng);
    let mut delay = MS + rng.around(2_500_000) + wait_from.max(wait_to);
    let lost = drop_from || drop_to || rng.happens(0.01);
    if lost {
        match carriage {
            Carriage::Datagram => return [None, None],
            Carriage::Stream => delay += rng.between(20 * MS, 250 * MS),
        }
    }
    let copy = carriage == Carriage::Datagram && rng.happens(0.002);
    [Some(delay), copy.then_some(delay * 3)]
}

/// The seeds to run: all of them, or the one that is to be replayed.
pub fn seeds(default_count: u64) -> Vec<u64> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    if let Some(seed) = number("GROOVEBOX_SIM_SEED") {
        return vec![seed];
    }
    (1..=number("GROOVEBOX_SIM_SEEDS").unwrap_or(default_count)).collect()
}

/// Whether one seed is being replayed, so that its story should be told.
pub fn is_replay() -> bool {
    std::env::var_os("GROOVEBOX_SIM_SEED").is_some()
}

/// A running hash of what happened, to compare two runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Trace(pub u64);

impl Trace {
    pub fn add(&mut self, value: u64) {
        self.0 = (self.0 ^ value).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29);
    }
}

/// The value below which this part of the values lies.
pub fn percentile(values: &mut [f64], part: f64) -> f64 {
    assert!(!values.is_empty(), "nothing was measured");
    values.sort_by(f64::total_cmp);
    values[((values.len() - 1) as f64 * part).round() as usize]
}
