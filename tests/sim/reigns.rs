//! How coordinators follow each other: what safety alone does not show. How many terms a bad
//! network costs, what a member gains that lies, how fast the lead moves on purpose; and that
//! the rules of the election are missed when they are left out.
//!
//! `cargo test --test sim -- reigns --nocapture` prints every figure.

#![expect(clippy::cast_precision_loss, reason = "small counts and times of a simulation")]

use std::panic::{AssertUnwindSafe, catch_unwind};

use groovebox::base::{RoomTime, Term};
use groovebox::engine::election::Role;
use groovebox::engine::planted::{Bug, plant};
use groovebox::wire::message::Start;
use groovebox::wire::{Heartbeat, RoomLine};

use super::election::{End, House, Packet, ROOM, chaos, failover, id};
use super::world::{Air, MS, SEC, percentile, seeds};

/// The first seed at which the simulator objects to a fault, if one of the first `limit` does.
fn objects(bug: Bug, limit: u64, mut story: impl FnMut(u64)) -> Option<u64> {
    (1..=limit).find(|&seed| {
        plant(Some(bug));
        let outcome = catch_unwind(AssertUnwindSafe(|| story(seed)));
        plant(None);
        outcome.is_err()
    })
}

#[test]
fn reigns_without_a_second_term_leave_members_behind() {
    let seed = objects(Bug::NoReterm, 300, |seed| drop(chaos(seed)));
    println!("no second term: noticed at seed {seed:?}");
    assert!(seed.is_some());
}

#[test]
fn reigns_of_a_forgotten_start_counter_are_noticed() {
    let seed = objects(Bug::ForgottenBoot, 100, |seed| drop(chaos(seed)));
    println!("forgotten start counter: noticed at seed {seed:?}");
    assert!(seed.is_some());
}

/// 99th percentile until a new coordinator, and until all agree whose radio works.
fn recovery(size: usize, air: Air, runs: u64) -> (f64, f64) {
    let all: Vec<_> = (1..=runs).map(|seed| failover(seed, size, air, End::Unplugged)).collect();
    let mut first: Vec<f64> = all.iter().map(|f| f.first).collect();
    let mut agreed: Vec<f64> = all.iter().map(|f| f.agreed_if_heard).collect();
    (percentile(&mut first, 0.99), percentile(&mut agreed, 0.99))
}

#[test]
fn reigns_judged_by_arrival_take_longer_to_follow_each_other() {
    let (first, agreed) = recovery(48, Air::BadWifi, 60);
    plant(Some(Bug::ArrivalTimeFreshness));
    let (late_first, late_agreed) = recovery(48, Air::BadWifi, 60);
    plant(None);
    println!(
        "48 devices, bad Wi-Fi, p99: first {first:.0}, agreed {agreed:.0} ms; \
         by arrival {late_first:.0}, {late_agreed:.0} ms"
    );
    assert!(first <= 1500.0, "{first}");
    assert!(late_first > 1500.0, "arrival is as good: {late_first}");
}

/// Terms begun while nothing but the network is at fault.
fn terms_with_cut_links(seed: u64) -> usize {
    let mut house = House::new(seed, 12, Air::HomeWifi, 3);
    house.run(10 * SEC);
    house.cut_links();
    let before = house.leads.len();
    house.run(310 * SEC);
    house.leads.len() - before
}

#[test]
fn reigns_do_not_race_up_the_numbers_when_links_are_cut() {
    let terms: Vec<f64> = seeds(20).iter().map(|&seed| terms_with_cut_links(seed) as f64).collect();
    let mean = terms.iter().sum::<f64>() / terms.len() as f64;
    let worst = terms.iter().copied().fold(0.0, f64::max);
    println!(
        "12 devices, a third of the links cut for 300 s: {mean:.1} terms, at worst {worst:.0}"
    );
    assert!(worst <= 30.0, "more than six a minute: {worst}");
}

#[test]
fn reigns_rarely_change_while_nobody_dies() {
    for (air, wired, most) in
        [(Air::HomeWifi, 4, 2.0), (Air::HomeWifi, 0, 60.0), (Air::BadWifi, 0, 360.0)]
    {
        let (mut terms, hours) = (0, 0.5);
        for seed in 1..=4 {
            let mut house = House::new(seed, 16, air, wired);
            house.run(20 * SEC);
            let before = house.leads.len();
            house.run(20 * SEC + 450 * SEC);
            terms += house.leads.len() - before;
        }
        let an_hour = terms as f64 / hours;
        println!("16 devices, {air:?}, {wired} wired: {an_hour:.0} needless terms an hour");
        assert!(an_hour <= most, "{air:?}: {an_hour}");
    }
}

/// What a liar says: a high term of its own, and that it lives.
fn claims(term: Term) -> [Packet; 2] {
    let line = RoomLine::default();
    let (last_idx, last_term, chain) = (0, Term::ZERO, [0; 16]);
    let signature = ([0; 32], [0; 32]);
    let handoff = None;
    let start = Start { room: ROOM, term, last_idx, last_term, chain, line, handoff, signature };
    let heartbeat = Heartbeat {
        room: ROOM,
        term,
        seq: 1,
        sent: RoomTime(0),
        last_idx,
        last_term,
        chain,
        successors: Vec::new(),
        live: 1,
        playing: false,
        age_s: 0,
    };
    [Packet::Start(Box::new(start)), Packet::Heartbeat(heartbeat)]
}

/// A member claims the lead every second for five minutes. Gives the seconds in which somebody
/// followed it or the coordinator changed, and the terms begun.
fn rogue(seed: u64) -> (usize, usize) {
    const N: usize = 12;
    let mut house = House::new(seed, N, Air::HomeWifi, 3);
    house.run(10 * SEC);
    house.possessed = Some(N - 1);
    let before = house.leads.len();
    let mut disturbed = 0;
    for _ in 0..300 {
        let own = (0..N - 1).find(|&n| house.role(n) == Some(Role::Coordinator));
        let n = house.leads.iter().map(|(_, term)| term.n).max().unwrap_or(0) + 5;
        let term = Term { n, node: id(N - 1), boot: 99 };
        for mut packet in claims(term) {
            if let Packet::Heartbeat(beat) = &mut packet {
                beat.sent = RoomTime(house.now);
            }
            for to in 0..N - 1 {
                house.send(N - 1, to, &packet);
            }
        }
        let mut followed = false;
        for _ in 0..10 {
            house.run(house.now + 100 * MS);
            let fooled = |n: usize| house.election(n).coordinator() == Some(id(N - 1));
            followed |= (0..N - 1).any(fooled);
        }
        let same = own == (0..N - 1).find(|&n| house.role(n) == Some(Role::Coordinator));
        disturbed += usize::from(followed || !same);
    }
    (disturbed, house.leads.len() - before)
}

#[test]
fn reigns_are_hardly_disturbed_by_a_member_that_claims_the_lead() {
    let all: Vec<(usize, usize)> = seeds(10).iter().map(|&seed| rogue(seed)).collect();
    let n = all.len();
    let disturbed: usize = all.iter().map(|(seconds, _)| seconds).sum();
    let terms: usize = all.iter().map(|(_, terms)| terms).sum();
    println!("a rogue: {disturbed} of {} s disturbed, {terms} terms in {} min", 300 * n, 5 * n);
    assert!(disturbed * 50 <= 300 * n, "{disturbed} s");
    assert!(terms <= 5 * n + n, "more than one a minute: {terms}");
}

/// Milliseconds from the wish to stop until everybody else follows the successor.
fn hand_over(seed: u64, size: usize, air: Air) -> f64 {
    let mut house = House::new(seed, size, air, 0);
    let phase = house.rng.clone().below(400);
    house.run(6 * SEC + i64::try_from(phase).expect("small") * MS);
    let mut leader = house.agreed(|_| true);
    while leader.is_none() {
        house.run(house.now + 20 * MS);
        leader = house.agreed(|_| true);
    }
    let leader = leader.expect("agreed upon");
    let begin = house.now;
    house.end(leader, End::Retired);
    loop {
        house.run(house.now + MS);
        let next = house.agreed(|node| node != leader);
        if next.is_some_and(|next| next != leader) {
            return (house.now - begin) as f64 / MS as f64;
        }
        assert!(house.now - begin < 20 * SEC, "{}: nobody took over", house.name());
    }
}

#[test]
fn reigns_handed_over_follow_each_other_without_a_pause() {
    for (size, air, half_ms, most_ms) in [
        (2, Air::Cable, 50.0, 300.0),
        (5, Air::Cable, 50.0, 300.0),
        (12, Air::Cable, 100.0, 300.0),
        (5, Air::HomeWifi, 50.0, 1500.0),
    ] {
        let mut all: Vec<f64> = (1..=100).map(|seed| hand_over(seed, size, air)).collect();
        let (half, most) = (percentile(&mut all, 0.5), percentile(&mut all, 0.99));
        println!("{size:3} devices, {air:?}, handed over: p50 {half:.0} p99 {most:.0} ms");
        assert!(half <= half_ms && most <= most_ms, "{size} devices, {air:?}: {half}, {most}");
    }
}
