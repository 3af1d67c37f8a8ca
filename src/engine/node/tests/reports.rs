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
