//! Who hears how a device is doing.

use super::*;

#[test]
fn the_coordinator_hears_every_second_and_everybody_else_in_turn() {
    let mut house = House::together(14);
    house.run(Span::from_secs(20));
    let (lead, now) = (house.coordinator(), house.now);
    let age = |of: usize, at: usize| {
        let of = house.node(of).id();
        let known = house.node(at).peers[&of].report.as_ref();
        now - known.expect("told by now").1
    };
    let (second, turn) = (Span::from_millis(1300), Span::from_millis(5300));
    for i in house.others() {
        assert!(age(i, lead) <= second, "{i}: {:?}", age(i, lead));
        let told = house.node(i).peers.values().filter_map(|peer| peer.told);
        let just = told.filter(|at| now - *at < Span::from_millis(950));
        assert!(just.count() <= 4, "{i}");
        for j in house.others().into_iter().filter(|j| *j != i) {
            assert!(age(i, j) <= turn, "{i} at {j}: {:?}", age(i, j));
        }
    }
}

#[test]
fn nobody_waits_for_a_member_with_an_excluded_network_until_it_is_good_again() {
    let mut house = House::together(3);
    let now = house.now;
    for device in &mut house.devices {
        let facts = PlayoutFacts { output: OutputState::Ok, ..PlayoutFacts::default() };
        let node = device.node.as_mut().expect("it runs");
        node.handle_input(now, Input::PlayoutReported(facts));
    }
    house.run(Span::from_secs(2));
    let slow = house.others()[0];
    let (lead, slow_id, now) = (house.coordinator(), house.node(slow).id(), house.now);
    let waited_for = |house: &House| house.node(lead).speakers().count();
    assert_eq!(waited_for(&house), 2);
    let network = |house: &House, i: usize| {
        let status = house.node(i).status(house.now);
        let member = status.members.iter().find(|member| member.id == slow_id.to_string());
        member.expect("it is in the room").quality.clone()
    };
    let rtt = Span::from_millis(1200);
    for second in 0..=10 {
        let then = now - Span::from_secs(10 - second);
        for (i, device) in house.devices.iter_mut().enumerate() {
            let node = device.node.as_mut().expect("it runs");
            let gauge = match node.peers.get_mut(&slow_id) {
                _ if i == slow => &mut node.gauge,
                Some(peer) => &mut peer.gauge,
                None => panic!("all are connected"),
            };
            gauge.measure(then, rtt, Span::ZERO);
        }
    }
    assert_eq!(waited_for(&house), 1);
    assert!((0..3).all(|i| network(&house, i) == "excluded"));
    house.run(Span::from_secs(8));
    assert_eq!(waited_for(&house), 1, "good, but not for long");
    house.run(Span::from_secs(6));
    assert_eq!(waited_for(&house), 2);
    assert!((0..3).all(|i| network(&house, i) == "good"));
}

#[test]
fn a_device_that_does_not_know_the_time_falls_silent_and_comes_back() {
    let mut house = House::together(1);
    house.run(Span::from_secs(1));
    let gain = |house: &House| house.node(0).playback.plan.expect("it has one").gain.to;
    let before = gain(&house);
    assert!(before > 0.0);
    for (is_lost, then) in [(true, 0.0), (false, before)] {
        let now = house.now;
        house.devices[0].node.as_mut().expect("it runs").fall_silent(now, is_lost);
        house.run(Span::from_millis(100));
        assert!((gain(&house) - then).abs() < f32::EPSILON, "{is_lost}");
    }
}
