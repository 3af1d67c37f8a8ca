//! The room clock of several nodes over simulated paths: the very machine that the daemon
//! links, with simulated crystals in place of clocks.
//!
//! `cargo test --test sim -- clock --nocapture` prints every figure.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use groovebox::base::rng::Rng;
use groovebox::base::{LocalTime, NodeId, RoomTime, Span, Term};
use groovebox::engine::clock::{ClockModel, RoomClock};
use groovebox::wire::datagram::{ClockSource, ProbeReply};

use super::crystal::{Crystal, CrystalSpec};
use super::path::{Path, PathSpec};

/// Between two looks at everybody's error.
const GRID_S: f64 = 0.05;

/// A node: its clock, and its way to whoever coordinates.
struct Station {
    crystal: Crystal,
    clock: RoomClock,
    path: Path,
    alive: bool,
}

/// An answer on its way, ordered by arrival.
#[derive(PartialEq)]
struct Flight {
    arrives: f64,
    number: u64,
    to: usize,
    reply: ProbeReply,
}

impl Eq for Flight {}

impl Ord for Flight {
    fn cmp(&self, other: &Flight) -> std::cmp::Ordering {
        self.arrives.total_cmp(&other.arrives).then(self.number.cmp(&other.number))
    }
}

impl PartialOrd for Flight {
    fn partial_cmp(&self, other: &Flight) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

struct World {
    stations: Vec<Station>,
    flights: BinaryHeap<Reverse<Flight>>,
    launched: u64,
    now: f64,
}

fn source(station: usize, term: u64) -> ClockSource {
    Term { n: term, node: NodeId([u8::try_from(station).expect("few stations"); 32]), boot: 1 }
}

impl World {
    /// Station 0 founds the room at time 0; nobody follows yet.
    fn new(seed: u64, seconds: f64, n: usize, path: PathSpec) -> World {
        World::with(seed, seconds, n, path, |_, _| {})
    }

    fn with(
        seed: u64,
        seconds: f64,
        n: usize,
        path: PathSpec,
        change: impl Fn(usize, &mut CrystalSpec),
    ) -> World {
        let mut rng = Rng::new(seed);
        let station = |i| {
            let mut spec = CrystalSpec::any(&mut rng);
            change(i, &mut spec);
            Station {
                crystal: Crystal::new(&mut rng, seconds + 5.0, spec),
                clock: RoomClock::new(rng.next_u64()),
                path: Path::new(rng.next_u64(), path),
                alive: true,
            }
        };
        let stations = (0..n).map(station).collect();
        let mut world = World { stations, flights: BinaryHeap::new(), launched: 0, now: 0.0 };
        let now = world.local(0);
        world.stations[0].clock.found(now, source(0, 1), 1);
        world
    }

    fn local(&self, station: usize) -> LocalTime {
        self.stations[station].crystal.local(self.now)
    }

    fn follow(&mut self, station: usize, leader: usize, term: u64) {
        let now = self.local(station);
        self.stations[station].clock.follow(now, source(leader, term));
    }

    fn everybody_follows(&mut self, leader: usize, term: u64) {
        for station in 0..self.stations.len() {
            if station != leader && self.stations[station].alive {
                self.follow(station, leader, term);
            }
        }
    }

    /// Lets time pass; every 50 ms `look` sees the world.
    fn run(&mut self, until: f64, mut look: impl FnMut(&World)) {
        while self.now < until {
            let next = (self.now / GRID_S + 1.0 + 1e-6).floor() * GRID_S;
            self.advance(next);
            look(self);
        }
    }

    fn advance(&mut self, until: f64) {
        loop {
            let arrival = self.flights.peek().map_or(f64::MAX, |flight| flight.0.arrives);
            let (wakes, station) = self.next_wake();
            let at = arrival.min(wakes);
            if at > until {
                self.now = until;
                return;
            }
            self.now = self.now.max(at);
            if arrival <= wakes {
                self.land();
            } else {
                self.wake(station);
            }
        }
    }

    fn next_wake(&self) -> (f64, usize) {
        let mut next = (f64::MAX, 0);
        for (i, station) in self.stations.iter().enumerate().filter(|(_, station)| station.alive) {
            if let Some(due) = station.clock.poll_timeout() {
                let at = station.crystal.true_at(due + Span(2));
                next = if at < next.0 { (at, i) } else { next };
            }
        }
        next
    }

    fn land(&mut self) {
        let Some(Reverse(flight)) = self.flights.pop() else { return };
        let now = self.local(flight.to);
        if self.stations[flight.to].alive {
            self.stations[flight.to].clock.handle_reply(now, &flight.reply);
        }
    }

    fn wake(&mut self, i: usize) {
        let now = self.local(i);
        let Station { clock, path, .. } = &mut self.stations[i];
        clock.handle_timeout(now);
        let Some(probe) = clock.poll_probe(now) else { return };
        let Some(passage) = path.probe(self.now) else { return };
        let leader = usize::from(probe.source.node.0[0]);
        let Station { clock, crystal, alive, .. } = &self.stations[leader];
        let answer = clock.answer(&probe, crystal.local(passage.reached));
        if let (Some(mut reply), true) = (answer, *alive) {
            reply.t3 = crystal.local(passage.answered);
            self.launched += 1;
            let number = self.launched;
            self.flights.push(Reverse(Flight { arrives: passage.returned, number, to: i, reply }));
        }
    }

    fn model(&self, station: usize) -> Option<ClockModel> {
        self.stations[station].clock.model()
    }

    /// What a station takes the room's time for, now.
    fn room(&self, station: usize) -> Option<RoomTime> {
        self.model(station).map(|model| model.room(self.local(station)))
    }

    /// How far that is from the leader's, seconds.
    fn error(&self, station: usize, leader: usize) -> Option<f64> {
        Some((self.room(station)? - self.room(leader)?).as_secs_f64())
    }
}

/// What was seen of the errors of a scene, µs.
#[derive(Default)]
struct Figures {
    errors_us: Vec<f64>,
    /// Looks, of these within 3 σ, of these within 3 σ and half the round trip.
    looks: usize,
    covered: usize,
    bounded: usize,
    generations: u32,
    probes: u64,
}

impl Figures {
    fn see(&mut self, world: &World, settled: bool) {
        for station in 1..world.stations.len() {
            let (Some(error), Some(model)) = (world.error(station, 0), world.model(station)) else {
                continue;
            };
            self.looks += 1;
            self.covered += usize::from(error.abs() <= 3.0 * model.sigma);
            let bound = 3.0 * model.sigma + model.asymmetry;
            self.bounded += usize::from(error.abs() <= bound);
            self.generations = self.generations.max(model.generation);
            if settled {
                self.errors_us.push(error.abs() * 1e6);
            }
        }
    }

    fn quantile(&mut self, q: f64) -> f64 {
        quantile(&mut self.errors_us, q)
    }

    #[expect(clippy::cast_precision_loss, reason = "counts of a simulation")]
    fn share(&self, part: usize) -> f64 {
        part as f64 / self.looks.max(1) as f64
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "an index into a list of looks"
)]
fn quantile(values: &mut [f64], q: f64) -> f64 {
    assert!(!values.is_empty(), "nothing was seen");
    values.sort_by(f64::total_cmp);
    values[(q * (values.len() - 1) as f64).round() as usize]
}

fn seconds_of(world: &World) -> f64 {
    world.now
}

const SCENE_S: f64 = 150.0;
const SETTLED_S: f64 = 45.0;

/// Four followers of one leader, from their joining on.
fn steady(
    name: &str,
    seed: u64,
    path: PathSpec,
    change: impl Fn(usize, &mut CrystalSpec),
) -> Figures {
    let mut world = World::with(seed, SCENE_S, 4, path, change);
    world.everybody_follows(0, 1);
    let mut figures = Figures::default();
    world.run(SCENE_S, |world| figures.see(world, seconds_of(world) > SETTLED_S));
    figures.probes = world.launched;
    let (p50, p95, max) = (figures.quantile(0.5), figures.quantile(0.95), figures.quantile(1.0));
    println!(
        "{name:24} seed {seed}: error p50 {p50:6.1} p95 {p95:6.1} max {max:6.1} µs, within 3σ {:.3}, within 3σ + rtt/2 {:.4}, {} generations, {} answers",
        figures.share(figures.covered),
        figures.share(figures.bounded),
        figures.generations,
        figures.probes,
    );
    figures
}

#[test]
fn explore() {
    for (name, path) in [
        ("wired", PathSpec::WIRED),
        ("exp", PathSpec::WIFI_EXPONENTIAL),
        ("logn", PathSpec::WIFI),
        ("bursty", PathSpec::WIFI_BURSTY),
        ("queued", PathSpec::WIFI_QUEUED),
        ("asym", PathSpec::WIFI_ASYMMETRIC),
        ("corr", PathSpec::WIFI_CORRELATED),
        ("sat", PathSpec::WIFI_SATURATED),
        ("satcorr", PathSpec::WIFI_SATURATED_CORRELATED),
    ] {
        for seed in 1..3 {
            let t = std::time::Instant::now();
            steady(name, seed, path, |_, _| {});
            println!("{:?}", t.elapsed());
        }
    }
}
