//! The room clock of several nodes over simulated paths: the very machine that the daemon
//! links, with simulated crystals in place of clocks.
//!
//! `cargo test --test sim -- clock --nocapture` prints every figure.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use groovebox::base::rng::Rng;
use groovebox::base::{LocalTime, NodeId, RoomTime, Span, Term};
use groovebox::engine::clock::{ClockModel, RoomClock, raw_answer};
use groovebox::wire::datagram::{ClockSource, ProbeReply};
use groovebox::wire::message::SyncState;

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
        let t2 = crystal.local(passage.reached);
        let raw = (probe.source.n == 0).then(|| raw_answer(&probe, t2));
        let answer = raw.or_else(|| clock.answer(&probe, t2));
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

/// What was seen of the errors of a scene.
#[derive(Default)]
struct Figures {
    errors_us: Vec<f64>,
    /// Looks, of these within 3 σ, of these within 3 σ and half the round trip.
    looks: usize,
    covered: usize,
    bounded: usize,
}

impl Figures {
    fn see(&mut self, world: &World, station: usize, leader: usize, settled: bool) {
        let (Some(error), Some(model)) = (world.error(station, leader), world.model(station))
        else {
            return;
        };
        self.looks += 1;
        self.covered += usize::from(error.abs() <= 3.0 * model.sigma);
        self.bounded += usize::from(error.abs() <= 3.0 * model.sigma + model.asymmetry);
        if settled {
            self.errors_us.push(error.abs() * 1e6);
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

/// What a steady scene must hold: 95 % of the errors below (µs), and the share of time within
/// three standard deviations.
struct Gate {
    p95_us: f64,
    covered: f64,
}

const SCENE_S: f64 = 150.0;
const SETTLED_S: f64 = 45.0;

/// Three followers of one leader, from their joining on.
fn steady(
    name: &str,
    seed: u64,
    path: PathSpec,
    crystals: fn(usize, &mut CrystalSpec),
    gate: &Gate,
) {
    let mut world = World::with(seed, SCENE_S, 4, path, crystals);
    world.everybody_follows(0, 1);
    let mut figures = Figures::default();
    world.run(SCENE_S, |world| {
        for station in 1..4 {
            figures.see(world, station, 0, world.now > SETTLED_S);
        }
    });
    let (p50, p95, max) = (figures.quantile(0.5), figures.quantile(0.95), figures.quantile(1.0));
    let (covered, bounded) = (figures.share(figures.covered), figures.share(figures.bounded));
    let told = format!(
        "{name:28} seed {seed}: p50 {p50:6.1} p95 {p95:6.1} max {max:6.1} µs, \
         within 3σ {covered:.3}, and rtt/2 {bounded:.4}, {} answers",
        world.launched,
    );
    println!("{told}");
    assert!(p95 <= gate.p95_us, "{told}");
    assert!(covered >= gate.covered, "{told}");
    assert_eq!(figures.bounded, figures.looks, "{told}");
    for station in 1..4 {
        let stats = world.stations[station].clock.stats(world.local(station));
        assert_eq!(stats.jumps, 0, "a jump was seen where none was: {told}");
        assert_eq!(world.model(station).map(|model| model.generation), Some(1), "{told}");
    }
}

fn as_drawn(_: usize, _: &mut CrystalSpec) {}

fn warming_up(station: usize, spec: &mut CrystalSpec) {
    if station > 0 {
        spec.warm_up = Some((70.0, 2.0, 40.0));
    }
}

/// A scene per line: name, path, crystals, 95 % below so many µs, within 3 σ so often.
macro_rules! steady_scenes {
    ($($name:ident: $path:ident, $crystals:ident, $p95:literal, $covered:literal;)*) => {$(
        #[test]
        fn $name() {
            for seed in 1..3 {
                let gate = Gate { p95_us: $p95, covered: $covered };
                steady(stringify!($name), seed, PathSpec::$path, $crystals, &gate);
            }
        }
    )*};
}

steady_scenes! {
    clock_wired: WIRED, as_drawn, 5.0, 0.95;
    clock_wired_warming_up: WIRED, warming_up, 10.0, 0.95;
    clock_wifi_exponential: WIFI_EXPONENTIAL, as_drawn, 40.0, 0.95;
    clock_wifi: WIFI, as_drawn, 80.0, 0.95;
    clock_wifi_warming_up: WIFI, warming_up, 80.0, 0.95;
    clock_wifi_bursty: WIFI_BURSTY, as_drawn, 80.0, 0.95;
    clock_wifi_queued_one_way: WIFI_QUEUED, as_drawn, 160.0, 0.95;
    clock_wifi_asymmetric: WIFI_ASYMMETRIC, as_drawn, 600.0, 0.0;
    clock_wifi_correlated: WIFI_CORRELATED, as_drawn, 160.0, 0.95;
    clock_wifi_saturated: WIFI_SATURATED, as_drawn, 600.0, 0.95;
    clock_wifi_saturated_correlated: WIFI_SATURATED_CORRELATED, as_drawn, 800.0, 0.95;
}

/// Stations come in at any phase of the path; the error at instants after, and the time from
/// which on it stays below a millisecond.
fn joins(name: &str, path: PathSpec, limits_us: (f64, f64), locked_s: f64) {
    const N: usize = 9;
    let (mut early, mut later, mut locks) = (Vec::new(), Vec::new(), Vec::new());
    for seed in 1..5 {
        let mut world = World::new(seed, 30.0, N, path);
        for station in 1..N {
            world.run(5.0 + 2.37 * f64::from(u8::try_from(station).expect("few")), |_| {});
            world.follow(station, 0, 1);
            let joined = world.now;
            let mut lock = 0.0;
            world.run(joined + 2.0, |world| {
                let age = world.now - joined;
                let error = world.error(station, 0);
                if error.is_none_or(|error| error.abs() > 1e-3) {
                    lock = age + GRID_S;
                }
                let sample = |at: f64| (age - at).abs() < GRID_S / 2.0;
                let us = error.map_or(f64::INFINITY, |error| error.abs() * 1e6);
                if sample(0.3) {
                    early.push(us);
                } else if sample(1.0) {
                    later.push(us);
                }
            });
            locks.push(lock);
        }
    }
    let (p95_early, p95_later) = (quantile(&mut early, 0.95), quantile(&mut later, 0.95));
    let (median, worst) = (quantile(&mut locks, 0.5), quantile(&mut locks, 1.0));
    let told = format!(
        "join {name:16}: p95 {p95_early:6.1} µs at 0.3 s, {p95_later:6.1} µs at 1 s; \
         within 1 ms after {median:.2} s, at worst {worst:.2} s"
    );
    println!("{told}");
    assert!(p95_early <= limits_us.0 && p95_later <= limits_us.1, "seeds 1 to 4: {told}");
    assert!(median <= 0.25 && worst <= locked_s, "seeds 1 to 4: {told}");
}

#[test]
fn clock_joins_wired() {
    joins("wired", PathSpec::WIRED, (25.0, 25.0), 0.4);
}

#[test]
fn clock_joins_wifi() {
    joins("wifi", PathSpec::WIFI, (300.0, 300.0), 0.4);
}

#[test]
fn clock_joins_bursty_wifi() {
    joins("bursty wifi", PathSpec::WIFI_BURSTY, (f64::INFINITY, 1500.0), 2.1);
}

/// Whether the followers measure the successor's clock before it takes over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Deputy {
    Unknown,
    Watched,
}

/// What a takeover did, µs.
struct Takeover {
    /// Largest difference between two survivors from the death to 30 s after.
    apart: f64,
    /// By how much a survivor's time left the straight line of its 10 s before the death.
    bent: f64,
}

/// The straight line through what a station took for the room's time, against the first
/// leader's crystal, which goes on for us to look at.
#[derive(Clone, Default)]
struct Line {
    n: f64,
    t: f64,
    y: f64,
    tt: f64,
    ty: f64,
}

impl Line {
    fn add(&mut self, t: f64, y: f64) {
        self.n += 1.0;
        self.t += t;
        self.y += y;
        self.tt += t * t;
        self.ty += t * y;
    }

    fn at(&self, t: f64) -> f64 {
        let slope = (self.n * self.ty - self.t * self.y) / (self.n * self.tt - self.t * self.t);
        self.y / self.n + slope * (t - self.t / self.n)
    }
}

const SURVIVORS: std::ops::Range<usize> = 1..5;

/// The leader dies, is missed after a second, and station 1 goes on a second later.
fn takeover(name: &str, seed: u64, path: PathSpec, deputy: Deputy) -> Takeover {
    let mut world = World::new(seed, 120.0, SURVIVORS.end, path);
    world.everybody_follows(0, 1);
    if deputy == Deputy::Watched {
        for station in 2..SURVIVORS.end {
            let now = world.local(station);
            let Term { node, boot, .. } = source(1, 0);
            world.stations[station].clock.watch_deputy(now, Some((node, boot)));
        }
    }
    let apart = |world: &World| {
        let rooms: Vec<RoomTime> = SURVIVORS.filter_map(|station| world.room(station)).collect();
        assert_eq!(rooms.len(), SURVIVORS.len(), "seed {seed}: somebody lost the room's time");
        let (first, last) = (rooms.iter().min(), rooms.iter().max());
        (*last.expect("four") - *first.expect("four")).as_micros_f64()
    };
    // The founder's line is its own clock.
    let offset = |world: &World, station: usize| {
        let room = world.room(station).expect("it has the time");
        (room - RoomTime(world.local(0).0)).as_micros_f64()
    };
    let (mut before, mut after) = (0.0_f64, 0.0_f64);
    let mut lines = vec![Line::default(); SURVIVORS.end];
    world.run(80.0, |world| {
        if world.now > 60.0 {
            before = before.max(apart(world));
        }
        if world.now > 70.0 {
            for station in SURVIVORS {
                lines[station].add(world.now, offset(world, station));
            }
        }
    });
    world.stations[0].alive = false;
    let mut bent = 0.0_f64;
    let mut see = |world: &World| {
        after = after.max(apart(world));
        for station in SURVIVORS {
            bent = bent.max((offset(world, station) - lines[station].at(world.now)).abs());
        }
    };
    world.run(81.0, &mut see);
    for station in SURVIVORS {
        let now = world.local(station);
        world.stations[station].clock.leaderless(now);
    }
    world.run(82.0, &mut see);
    let now = world.local(1);
    assert!(world.stations[1].clock.lead(now, source(1, 2)));
    world.everybody_follows(1, 2);
    let mut figures = Figures::default();
    world.run(112.0, |world| {
        see(world);
        for station in 2..SURVIVORS.end {
            figures.see(world, station, 1, true);
        }
    });
    println!(
        "takeover {name:8} {deputy:?} seed {seed}: apart {before:5.1} µs before, {after:5.1} µs at worst until 30 s after; \
         off the straight line by {bent:5.1} µs; within 3σ {:.3}",
        figures.share(figures.covered),
    );
    assert_eq!(figures.bounded, figures.looks, "{name} seed {seed}");
    for station in SURVIVORS {
        let model = world.model(station).expect("it has one");
        assert_eq!(model.generation, 1, "{name} seed {seed}: station {station} stepped");
        assert_eq!(world.stations[station].clock.epoch(), Some(1), "{name} seed {seed}");
    }
    Takeover { apart: after, bent }
}

/// The largest figures of some takeovers with a watched deputy; without one they are printed
/// only, to compare.
fn takeovers(name: &str, seeds: std::ops::Range<u64>, path: PathSpec) -> Takeover {
    let mut worst = Takeover { apart: 0.0, bent: 0.0 };
    for seed in seeds {
        takeover(name, seed, path, Deputy::Unknown);
        let one = takeover(name, seed, path, Deputy::Watched);
        worst.apart = worst.apart.max(one.apart);
        worst.bent = worst.bent.max(one.bent);
    }
    worst
}

#[test]
fn clock_takeover_wired() {
    let worst = takeovers("wired", 1..4, PathSpec::WIRED);
    assert!(worst.apart <= 15.0 && worst.bent <= 50.0, "{} {}", worst.apart, worst.bent);
}

#[test]
fn clock_takeover_wifi() {
    let worst = takeovers("wifi", 1..7, PathSpec::WIFI);
    assert!(worst.apart <= 100.0 && worst.bent <= 250.0, "{} {}", worst.apart, worst.bent);
}

#[test]
fn clock_takeover_bursty_wifi() {
    let worst = takeovers("bursty", 1..4, PathSpec::WIFI_BURSTY);
    assert!(worst.apart <= 150.0 && worst.bent <= 250.0, "{} {}", worst.apart, worst.bent);
}

#[test]
fn clock_takeovers_one_after_the_other_do_not_add_up() {
    let mut world = World::new(3, 400.0, SURVIVORS.end, PathSpec::WIFI);
    world.everybody_follows(0, 1);
    let mut worst = 0.0_f64;
    for (leader, term) in [(1, 2), (2, 3), (3, 4)] {
        let until = world.now + 60.0;
        for station in leader + 1..SURVIVORS.end {
            let now = world.local(station);
            let Term { node, boot, .. } = source(leader, 0);
            world.stations[station].clock.watch_deputy(now, Some((node, boot)));
        }
        world.run(until, |_| {});
        world.stations[leader - 1].alive = false;
        let now = world.local(leader);
        assert!(world.stations[leader].clock.lead(now, source(leader, term)));
        world.everybody_follows(leader, term);
        world.run(until + 30.0, |world| {
            for station in leader + 1..SURVIVORS.end {
                let error = world.error(station, leader).expect("it has the time");
                worst = worst.max(error.abs() * 1e6);
            }
        });
    }
    println!("three takeovers, Wi-Fi: {worst:.1} µs from the leader at worst");
    assert!(worst <= 200.0, "{worst}");
}

/// The successor has known the room's time for less than a second, so that its line is tens of
/// ppm off; the former leader, which knew better, must follow all the same.
#[test]
fn clock_takeover_by_a_newcomer_is_followed_by_the_former_leader() {
    let mut worst = 0.0_f64;
    for seed in 1..9 {
        let mut world = World::new(seed, 60.0, 3, PathSpec::WIFI);
        world.everybody_follows(0, 1);
        world.run(0.8, |_| {});
        let now = world.local(1);
        assert!(world.stations[1].clock.lead(now, source(1, 2)));
        world.everybody_follows(1, 2);
        world.run(12.0, |_| {});
        world.run(30.0, |world| {
            let error = world.error(0, 1).expect("it has the time").abs() * 1e6;
            worst = worst.max(error);
        });
    }
    println!("a former leader after 12 s under a newcomer: {worst:.0} µs off at worst");
    // 3,210 µs where only the claimed errors counted.
    assert!(worst <= 1000.0, "{worst}");
}

/// Who takes over where leaders die one after the other and return.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Heir {
    /// Who has been there longest.
    Eldest,
    /// Who came last and knows the room's time since 15 s, which the score of succession prevents.
    Youngest,
}

/// Every 46 s the leader dies, is followed after half a second by the deputy that all have
/// watched, and is back 31 s later with a clock that knows nothing. How far anybody who has
/// been there for 40 s leaves the straight line of his 10 s before a death, within 30 s.
fn reigns(seed: u64, path: PathSpec, heir: Heir) -> f64 {
    const REIGN_S: f64 = 46.0;
    let mut world = World::new(seed, 12.0 * REIGN_S + 60.0, SURVIVORS.end, path);
    world.everybody_follows(0, 1);
    let mut since = [0.0; SURVIVORS.end];
    let mut boots = [1; SURVIVORS.end];
    let offset = |world: &World, station: usize| {
        let room = world.room(station).expect("it has the time");
        (room - RoomTime(world.local(0).0)).as_micros_f64()
    };
    let (mut leader, mut worst) = (0, 0.0_f64);
    for reign in 2..12_u64 {
        let stations = (0..SURVIVORS.end).filter(|&station| station != leader);
        let by_age = |a: &usize, b: &usize| f64::total_cmp(&since[*a], &since[*b]);
        let deputy = match heir {
            Heir::Eldest => stations.min_by(by_age),
            Heir::Youngest => stations.max_by(by_age),
        };
        let deputy = deputy.expect("there are others");
        for station in (0..SURVIVORS.end).filter(|station| ![leader, deputy].contains(station)) {
            let now = world.local(station);
            let Term { node, .. } = source(deputy, 0);
            let peer = Some((node, boots[deputy]));
            world.stations[station].clock.watch_deputy(now, peer);
        }
        let dies = world.now + REIGN_S - 31.0;
        let mut lines = vec![Line::default(); SURVIVORS.end];
        world.run(dies, |world| {
            if world.now > dies - 10.0 {
                for (station, line) in lines.iter_mut().enumerate() {
                    line.add(world.now, offset(world, station));
                }
            }
        });
        let dead = leader;
        world.stations[dead].alive = false;
        let elders: Vec<usize> = (0..SURVIVORS.end)
            .filter(|&station| station != dead && world.now - since[station] >= 40.0)
            .collect();
        let mut see = |world: &World| {
            for &station in &elders {
                let bent = (offset(world, station) - lines[station].at(world.now)).abs();
                worst = worst.max(bent);
            }
        };
        world.run(dies + 0.5, &mut see);
        let term = |boots: &[u32]| Term { boot: boots[deputy], ..source(deputy, reign) };
        for station in (0..SURVIVORS.end).filter(|&station| station != dead) {
            let now = world.local(station);
            let clock = &mut world.stations[station].clock;
            if station == deputy {
                assert!(clock.lead(now, term(&boots)));
            } else {
                clock.follow(now, term(&boots));
            }
        }
        world.run(dies + 31.0, &mut see);
        leader = deputy;
        since[dead] = world.now;
        boots[dead] += 1;
        let now = world.local(dead);
        let back = &mut world.stations[dead];
        back.clock = RoomClock::new(seed + reign);
        back.alive = true;
        back.clock.follow(now, term(&boots));
    }
    println!("reigns, {heir:?} follows, seed {seed}: off the straight line by {worst:5.1} µs");
    worst
}

#[test]
fn clock_reigns_on_wifi_that_end_before_all_is_measured_bend_little() {
    let seeds = || 1..7_u64;
    let worst = |heir| seeds().map(|seed| reigns(seed, PathSpec::WIFI, heir)).fold(0.0, f64::max);
    let (eldest, youngest) = (worst(Heir::Eldest), worst(Heir::Youngest));
    println!("reigns of 46 s: {eldest:.0} µs if the eldest follows, {youngest:.0} if the youngest");
    assert!(eldest <= 350.0 && 2.0 * eldest <= youngest, "{eldest} {youngest}");
}

/// What the same measure says while nobody dies: ten seconds of a wandering estimate tell little
/// of the next thirty.
#[test]
fn clock_reigns_on_wifi_that_do_not_end_bend_as_well() {
    let mut bent = Vec::new();
    for seed in 1..4 {
        let mut world = World::new(seed, 330.0, SURVIVORS.end, PathSpec::WIFI);
        world.everybody_follows(0, 1);
        world.run(120.0, |_| {});
        while world.now < 320.0 {
            let begun = world.now;
            let mut lines = vec![Line::default(); SURVIVORS.end];
            let mut worst = [0.0_f64; SURVIVORS.end];
            world.run(begun + 40.0, |world| {
                for station in SURVIVORS {
                    let offset = world.error(station, 0).expect("it has the time") * 1e6;
                    if world.now <= begun + 10.0 {
                        lines[station].add(world.now, offset);
                    } else {
                        let off = (offset - lines[station].at(world.now)).abs();
                        worst[station] = worst[station].max(off);
                    }
                }
            });
            bent.extend(SURVIVORS.map(|station| worst[station]));
        }
    }
    let mut at = |q| quantile(&mut bent, q);
    let (half, most, all) = (at(0.5), at(0.95), at(1.0));
    println!("off the straight line, nobody dies: {half:.0} / {most:.0} / {all:.0} µs");
    assert!(most <= 250.0, "{most}");
}

#[test]
fn clock_coasts_five_minutes_without_a_leader() {
    for (seed, path, limit_us) in [(1, PathSpec::WIRED, 400.0), (2, PathSpec::WIFI, 1500.0)] {
        let mut world = World::new(seed, 420.0, 4, path);
        world.everybody_follows(0, 1);
        world.run(100.0, |_| {});
        for station in 1..4 {
            let now = world.local(station);
            world.stations[station].clock.leaderless(now);
        }
        let mut worst = 0.0_f64;
        world.run(410.0, |world| {
            for station in 1..4 {
                worst = worst.max(world.error(station, 0).expect("it coasts").abs() * 1e6);
            }
        });
        println!("coasting 310 s, seed {seed}: {worst:.1} µs at worst");
        assert!(worst <= limit_us, "seed {seed}: {worst} µs");
        for station in 1..4 {
            let stats = world.stations[station].clock.stats(world.local(station));
            assert_eq!(stats.state, SyncState::OutOfSync, "it says so after five minutes");
            assert!(world.model(station).is_some(), "and goes on playing");
        }
    }
}

#[test]
fn clock_coasts_a_minute_without_a_leader() {
    for (seed, path, limit_us) in [(1, PathSpec::WIRED, 60.0), (2, PathSpec::WIFI, 200.0)] {
        let mut world = World::new(seed, 170.0, 4, path);
        world.everybody_follows(0, 1);
        world.run(100.0, |_| {});
        for station in 1..4 {
            let now = world.local(station);
            world.stations[station].clock.leaderless(now);
        }
        let (mut worst, mut figures) = (0.0_f64, Figures::default());
        world.run(160.0, |world| {
            for station in 1..4 {
                figures.see(world, station, 0, true);
                worst = worst.max(world.error(station, 0).expect("it coasts").abs() * 1e6);
            }
        });
        let covered = figures.share(figures.covered);
        println!("coasting 60 s, seed {seed}: {worst:.1} µs at worst, within 3σ {covered:.3}");
        assert!(worst <= limit_us && covered >= 0.95, "seed {seed}: {worst} µs, {covered}");
    }
}

#[test]
fn clock_after_a_sleep_is_measured_anew() {
    let seed = 7;
    let slept = Span::from_secs(30);
    let mut world = World::with(seed, 120.0, 3, PathSpec::WIFI, |station, spec| {
        if station == 1 {
            spec.jumps = vec![(90.0, -slept)];
        }
    });
    world.everybody_follows(0, 1);
    world.run(60.0, |_| {});
    world.stations[1].alive = false;
    world.run(90.01, |_| {});
    world.stations[1].alive = true;
    let now = world.local(1);
    world.stations[1].clock.resumed(now, slept);
    assert_eq!(world.model(1), None, "what was measured before the sleep is void");
    let mut good_from = 0.0;
    world.run(110.0, |world| {
        if world.error(1, 0).is_none_or(|error| error.abs() > 1e-3) {
            good_from = world.now;
        }
    });
    println!("after a sleep: within 1 ms {:.2} s after waking", good_from - 90.0);
    assert!(good_from < 90.5, "seed {seed}: good from {good_from}");
    assert_eq!(world.model(1).map(|model| model.generation), Some(2), "seed {seed}");
}

/// A queue on the way holds every packet for so long until nobody remembers that it was ever
/// shorter, and is gone. Gives the largest error from its beginning on, and the largest that was not covered
/// by what was claimed, seconds.
fn queue_that_goes(seed: u64, path: PathSpec, for_s: f64) -> (f64, f64) {
    let (from, to) = (60.0, 140.0);
    let mut world = World::new(seed, 185.0, 2, path);
    world.stations[1].path.hold(from, to, for_s);
    world.everybody_follows(0, 1);
    let (mut largest, mut uncovered) = (0.0_f64, f64::MIN);
    world.run(180.0, |world| {
        let (Some(error), Some(model)) = (world.error(1, 0), world.model(1)) else { return };
        if world.now > from {
            largest = largest.max(error.abs());
            uncovered = uncovered.max(error.abs() - 3.0 * model.sigma - model.asymmetry);
        }
    });
    let (off, beyond) = (largest * 1e6, uncovered * 1e6);
    println!("held for {for_s} s, seed {seed}: {off:.0} us off, {beyond:.0} us beyond the claim");
    (largest, uncovered)
}

#[test]
fn clock_survives_a_long_queue() {
    for (seed, path, for_s, limit_s) in [
        (1, PathSpec::WIRED, 0.6, 100e-6),
        (2, PathSpec::WIRED, 0.3, 100e-6),
        (3, PathSpec::WIRED, 0.05, 100e-6),
        (4, PathSpec::WIRED, 0.005, 100e-6),
        (5, PathSpec::WIFI, 0.6, 1e-3),
        (6, PathSpec::WIFI, 0.1, 1e-3),
        (7, PathSpec::WIFI_BURSTY, 0.3, 2e-3),
    ] {
        let (largest, uncovered) = queue_that_goes(seed, path, for_s);
        assert!(largest < limit_s && uncovered <= 0.0, "seed {seed}: {largest}, {uncovered}");
    }
}

/// What happens to a follower before it has measured for long.
#[derive(Clone, Copy, Debug)]
enum Early {
    /// Every packet takes so much longer from then on, seconds.
    Longer { from: f64, by_s: f64 },
    /// The device stands still, and its clock does not.
    Pause { from: f64, to: f64 },
}

/// The largest error from the first half second on, but for a pause and 1.5 s after it, and the
/// largest that was not covered by what was claimed, seconds.
fn early(seed: u64, path: PathSpec, what: Early) -> (f64, f64) {
    let mut world = World::new(seed, 125.0, 2, path);
    if let Early::Longer { from, by_s } = what {
        world.stations[1].path.hold(from, 125.0, by_s);
    }
    world.everybody_follows(0, 1);
    let (mut largest, mut uncovered, mut looks) = (0.0_f64, f64::MIN, 0);
    let mut look = |world: &World| {
        let (Some(error), Some(model)) = (world.error(1, 0), world.model(1)) else { return };
        if world.now > 0.5 {
            largest = largest.max(error.abs());
            uncovered = uncovered.max(error.abs() - 3.0 * model.sigma - model.asymmetry);
            looks += 1;
        }
    };
    if let Early::Pause { from, to } = what {
        world.run(from, &mut look);
        world.stations[1].alive = false;
        world.run(to, |_| {});
        world.stations[1].alive = true;
        world.run(to + 1.5, |_| {});
    }
    world.run(120.0, &mut look);
    assert!(looks > 1500, "seed {seed}, {what:?}: a clock in {looks} looks only");
    let (off, beyond) = (largest * 1e6, uncovered * 1e6);
    println!("{what:?}, seed {seed}: {off:.0} us off, {beyond:.0} us beyond the claim");
    (largest, uncovered)
}

/// Whether a follower stays within so much, and within its claim, on a cable and on Wi-Fi.
fn keeps_its_rate(what: Early) {
    for seed in 1..5 {
        for (path, limit_s) in [(PathSpec::WIRED, 300e-6), (PathSpec::WIFI, 1.2e-3)] {
            let (largest, uncovered) = early(seed, path, what);
            assert!(largest < limit_s && uncovered <= 0.0, "{path:?}, {what:?}, seed {seed}");
        }
    }
}

#[test]
fn clock_keeps_its_rate_when_the_path_lengthens() {
    for (from, by_s) in [(1.0, 0.003), (4.0, 0.012), (15.0, 0.05), (20.0, 0.02)] {
        keeps_its_rate(Early::Longer { from, by_s });
    }
}

#[test]
fn clock_keeps_its_rate_across_a_pause_in_the_first_seconds() {
    for (from, to) in [(1.0, 12.0), (4.0, 15.0), (5.0, 25.0), (10.0, 12.0)] {
        keeps_its_rate(Early::Pause { from, to });
    }
}

/// A clock jumps unannounced. Gives the time until everybody is within the limit for good.
fn jump(seed: u64, jumper: usize, by: Span, path: PathSpec, limit_s: f64) -> f64 {
    let mut world = World::with(seed, 120.0, 3, path, |station, spec| {
        if station == jumper {
            spec.jumps = vec![(60.3, by)];
        }
    });
    world.everybody_follows(0, 1);
    let mut good_from = 0.0;
    world.run(110.0, |world| {
        // The leader's clock carries the room's time with it when it jumps.
        let worst = (1..3).filter_map(|station| world.error(station, 0)).map(f64::abs);
        if world.now > 50.0 && worst.fold(0.0, f64::max) > limit_s {
            good_from = world.now;
        }
    });
    let stats = world.stations[jumper.max(1)].clock.stats(world.local(jumper.max(1)));
    println!("station {jumper} jumps by {by:?}: good after {:.2} s", good_from - 60.3);
    assert_eq!(stats.jumps, 1, "seed {seed}: {by:?}");
    good_from - 60.3
}

#[test]
fn clock_jumps_are_noticed_within_seconds() {
    for (seed, jumper, by_us, path, limit_s) in [
        (1, 1, 30_000, PathSpec::WIRED, 100e-6),
        (2, 1, -30_000, PathSpec::WIRED, 100e-6),
        (3, 1, 1_000, PathSpec::WIRED, 100e-6),
        (4, 0, 700_000, PathSpec::WIRED, 100e-6),
        (5, 1, 40_000, PathSpec::WIFI, 1e-3),
        (6, 0, -10_000, PathSpec::WIFI, 1e-3),
    ] {
        let after = jump(seed, jumper, Span::from_micros(by_us), path, limit_s);
        assert!((0.0..3.0).contains(&after), "seed {seed}: {after} s");
    }
}
