use super::MembershipOutput as Out;
use super::*;
use crate::base::Term;
use crate::wire::announce::AnnouncedRoom;

const ME: NodeId = id(5);

const fn id(n: u8) -> NodeId {
    NodeId([n; 32])
}

fn at(ms: i64) -> LocalTime {
    LocalTime(0) + Span::from_millis(ms)
}

fn address(n: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, n], 4766))
}

fn card(room: u8, claimed: bool, devices: u16) -> RoomCard {
    RoomCard {
        id: RoomId([room; 32]),
        name: "Home".into(),
        code: "GROOVE-2222".into(),
        locked: false,
        unclaimed: !claimed,
        devices,
        coordinator: None,
        term: Term::ZERO,
        playing: None,
    }
}

fn hello(n: u8, room: Option<RoomCard>) -> Hello {
    Hello {
        node: id(n),
        boot: 1,
        name: format!("node {n}"),
        version: String::new(),
        port: 4766,
        room,
    }
}

fn fresh() -> Membership {
    Membership::new(ME, 1, at(0))
}

fn connect(membership: &mut Membership, ms: i64, n: u8, room: Option<RoomCard>) {
    // Inbound connections come from another port than the one that listens, behind a router.
    let from = SocketAddr::new(address(n).ip(), 50_000);
    membership.connected(at(ms), id(n), from, &hello(n, room));
}

fn announce(membership: &mut Membership, ms: i64, n: u8, in_a_room: bool) {
    let room = in_a_room.then(|| AnnouncedRoom {
        id_prefix: "00".into(),
        name: String::new(),
        code: String::new(),
    });
    let announcement = Announcement { node: id(n), port: 4766, room };
    membership.discovered(at(ms), &announcement, &[address(n)]);
}

fn drain(membership: &mut Membership) -> Vec<Out> {
    std::iter::from_fn(|| membership.poll_output()).collect()
}

/// Runs every deadline up to a time and returns what came out, with when in ms. Fails if
/// nothing but the same deadline comes again and again.
fn run(membership: &mut Membership, until: i64) -> Vec<(i64, Out)> {
    let mut outs = Vec::new();
    for _ in 0..10_000 {
        let Some(due) = membership.poll_timeout().filter(|&due| due <= at(until)) else {
            return outs;
        };
        let due = due.max(at(0));
        membership.handle_timeout(due);
        let when = (due - at(0)).as_millis();
        outs.extend(drain(membership).into_iter().map(|out| (when, out)));
    }
    panic!("a deadline that never passes");
}

fn join(room: u8, via: u8) -> Out {
    Out::Join { room: RoomId([room; 32]), via: id(via) }
}

#[test]
fn alone_it_looks_for_a_second_and_then_founds_once() {
    let mut membership = fresh();
    assert_eq!(run(&mut membership, 1500), [(1000, Out::FoundRoom)]);
    membership.set_room(at(1600), Some(card(9, false, 1)));
    assert_eq!(run(&mut membership, 60_000), []);
}

#[test]
fn a_founding_of_which_nothing_is_heard_is_asked_for_again() {
    let mut membership = fresh();
    assert_eq!(run(&mut membership, 3100), [(1000, Out::FoundRoom), (3000, Out::FoundRoom)]);
}

#[test]
fn of_several_without_a_room_the_smallest_founds_and_the_others_wait() {
    let mut membership = fresh();
    connect(&mut membership, 100, 9, None);
    assert_eq!(run(&mut membership, 1000), [(1000, Out::FoundRoom)]);

    let mut membership = fresh();
    connect(&mut membership, 100, 2, None);
    let outs = run(&mut membership, 5000);
    assert!((1300..=2000).contains(&outs[0].0) && outs[0].1 == Out::FoundRoom, "{outs:?}");
}

#[test]
fn what_is_found_is_joined_at_once() {
    let mut membership = fresh();
    connect(&mut membership, 100, 2, Some(card(7, false, 3)));
    assert_eq!(drain(&mut membership), [join(7, 2)]);
}

#[test]
fn a_room_that_is_announced_is_waited_for_longer() {
    let mut membership = fresh();
    announce(&mut membership, 100, 9, true);
    let outs = run(&mut membership, 2900);
    assert!(outs.iter().all(|(_, out)| matches!(out, Out::Dial { .. })), "{outs:?}");
}

#[test]
fn of_several_rooms_the_claimed_one_with_most_devices_is_joined() {
    let mut membership = fresh();
    membership.set_intent(at(0), Intent::Alone);
    connect(&mut membership, 10, 1, Some(card(1, false, 9)));
    connect(&mut membership, 20, 2, Some(card(4, true, 2)));
    connect(&mut membership, 30, 3, Some(card(3, true, 5)));
    connect(&mut membership, 40, 4, Some(card(2, true, 5)));
    connect(&mut membership, 50, 6, Some(RoomCard { locked: true, ..card(0, true, 50) }));
    assert_eq!(drain(&mut membership), [], "it was told to stay alone");
    membership.set_intent(at(60), Intent::Anywhere);
    assert_eq!(drain(&mut membership), [join(2, 4)]);
}

#[test]
fn a_room_that_made_itself_gives_way_to_a_smaller_id_and_to_a_claimed_one() {
    let mut membership = fresh();
    membership.set_room(at(0), Some(card(5, false, 1)));
    connect(&mut membership, 10, 1, Some(card(6, false, 9)));
    assert_eq!(drain(&mut membership), []);
    membership.card_received(at(20), id(1), Some(card(4, false, 1)));
    assert_eq!(drain(&mut membership), [join(4, 1)]);

    let mut membership = fresh();
    membership.set_room(at(0), Some(card(5, false, 1)));
    connect(&mut membership, 10, 1, Some(card(6, true, 1)));
    assert_eq!(drain(&mut membership), [join(6, 1)]);
}

#[test]
fn a_room_in_which_somebody_acted_is_never_left() {
    let mut membership = fresh();
    membership.set_room(at(0), Some(card(5, true, 1)));
    connect(&mut membership, 10, 1, Some(card(1, true, 30)));
    assert_eq!(run(&mut membership, 60_000).iter().filter(|(_, o)| !is_dial(o)).count(), 0);
}

fn is_dial(out: &Out) -> bool {
    matches!(out, Out::Dial { .. })
}

#[test]
fn told_a_room_it_waits_for_that_one_and_founds_none() {
    let mut membership = fresh();
    membership.set_intent(at(0), Intent::Room(RoomId([8; 32])));
    connect(&mut membership, 10, 1, Some(card(1, true, 30)));
    assert_eq!(run(&mut membership, 60_000), []);
    membership.card_received(at(60_000), id(1), Some(card(8, true, 1)));
    assert_eq!(drain(&mut membership), [join(8, 1)]);
}

#[test]
fn a_refused_joining_goes_to_another_member_and_then_waits_longer_and_longer() {
    let mut membership = fresh();
    connect(&mut membership, 0, 1, Some(card(7, true, 3)));
    connect(&mut membership, 0, 2, Some(card(7, true, 3)));
    assert_eq!(drain(&mut membership), [join(7, 1)]);
    membership.join_failed(at(100), RoomId([7; 32]));
    assert_eq!(drain(&mut membership), [join(7, 2)]);
    membership.join_failed(at(200), RoomId([7; 32]));
    assert_eq!(drain(&mut membership), []);
    assert_eq!(run(&mut membership, 999), [(700, join(7, 1))]);
}

#[test]
fn a_joining_of_which_nothing_is_heard_is_retried_without_end() {
    let mut membership = fresh();
    connect(&mut membership, 0, 1, Some(card(7, true, 3)));
    let joins = run(&mut membership, 60_000).into_iter().filter(|(_, o)| *o == join(7, 1)).count();
    assert!((4..=12).contains(&joins), "{joins}");
}

#[test]
fn the_smaller_id_dials_at_once_and_the_greater_a_little_later() {
    let mut membership = fresh();
    announce(&mut membership, 100, 9, false);
    announce(&mut membership, 100, 2, false);
    let outs = run(&mut membership, 400);
    let dial = |n| Out::Dial { address: address(n), node: Some(id(n)) };
    assert_eq!(outs, [(100, dial(9)), (350, dial(2))]);
}

#[test]
fn a_node_without_a_room_dials_those_that_have_one_at_once() {
    let mut membership = fresh();
    announce(&mut membership, 100, 2, true);
    let outs = run(&mut membership, 400);
    assert_eq!(outs, [(100, Out::Dial { address: address(2), node: Some(id(2)) })]);
}

#[test]
fn every_address_of_a_node_is_dialled_in_turn() {
    let mut membership = fresh();
    membership.set_intent(at(0), Intent::Alone);
    membership.remember(id(9), "nine", &[address(1), address(2)]);
    for n in [1, 2] {
        let dial = Out::Dial { address: address(n), node: Some(id(9)) };
        assert_eq!(run(&mut membership, 0), [(0, dial)]);
        membership.dial_failed(at(0), address(n), Some(id(9)));
    }
    let outs = run(&mut membership, 2000);
    assert!((1000..1250).contains(&outs[0].0), "a second's pause after all: {outs:?}");
}

#[test]
fn a_given_peer_is_dialled_for_ever_with_growing_pauses() {
    let mut membership = fresh();
    membership.set_intent(at(0), Intent::Alone);
    membership.add_static(address(1));
    let (mut now, mut pauses) = (0, Vec::new());
    for _ in 0..40 {
        let due = membership.poll_timeout().expect("dialled for ever").max(at(now));
        membership.handle_timeout(due);
        assert_eq!(drain(&mut membership), [Out::Dial { address: address(1), node: None }]);
        pauses.push((due - at(now)).as_millis());
        now = (due - at(0)).as_millis();
        membership.dial_failed(at(now), address(1), None);
    }
    assert!(pauses[1..5].iter().all(|pause| (999..1250).contains(pause)), "{pauses:?}");
    assert!(pauses[20..].iter().all(|pause| (29_999..37_500).contains(pause)), "{pauses:?}");
}

#[test]
fn whoever_turns_out_to_be_this_node_itself_is_not_dialled_again() {
    let mut membership = fresh();
    membership.set_intent(at(0), Intent::Alone);
    membership.add_static(address(1));
    run(&mut membership, 0);
    membership.connected(at(5), ME, address(1), &hello(5, None));
    assert_eq!(run(&mut membership, 100_000), []);
    assert_eq!(membership.peers().count(), 0);
}

#[test]
fn a_lost_connection_is_dialled_again_at_its_listening_port() {
    let mut membership = fresh();
    membership.set_intent(at(0), Intent::Alone);
    connect(&mut membership, 0, 9, None);
    membership.lost(at(1000), id(9));
    let outs = run(&mut membership, 1300);
    assert_eq!(outs, [(1250, Out::Dial { address: address(9), node: Some(id(9)) })]);
}

#[test]
fn one_who_said_goodbye_is_left_alone_until_it_announces_itself() {
    let mut membership = fresh();
    membership.set_intent(at(0), Intent::Alone);
    connect(&mut membership, 0, 9, None);
    membership.bye(at(1000), id(9));
    assert_eq!(run(&mut membership, 10_900), []);
    announce(&mut membership, 10_900, 9, false);
    assert_eq!(run(&mut membership, 10_900).len(), 1);
}

#[test]
fn members_learn_of_each_other_once_and_together() {
    let mut membership = fresh();
    membership.set_room(at(0), Some(card(7, true, 3)));
    for n in [1, 2] {
        connect(&mut membership, 10 * i64::from(n), n, Some(card(7, true, 3)));
    }
    connect(&mut membership, 30, 3, Some(card(8, true, 3)));
    let outs = run(&mut membership, 1000);
    let told: Vec<(NodeId, Vec<NodeId>)> = outs
        .iter()
        .map(|(when, out)| match out {
            Out::SharePeers { to, peers } => {
                assert_eq!(*when, 200);
                assert_eq!(peers[0].addresses[0].port(), 4766, "where it listens");
                (*to, peers.iter().map(|peer| peer.node).collect())
            }
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(told, [(id(1), vec![id(2)]), (id(2), vec![id(1)])]);
    membership.card_received(at(2000), id(2), Some(card(7, true, 4)));
    assert_eq!(run(&mut membership, 3000), [], "nothing new, nothing told");
}

#[test]
fn one_who_wants_in_and_the_one_who_decides_are_introduced_to_each_other() {
    let mut membership = fresh();
    membership.set_room(at(0), Some(card(9, false, 2)));
    connect(&mut membership, 100, 2, Some(card(9, false, 2)));
    connect(&mut membership, 100, 7, None);
    drain(&mut membership);
    membership.introduce(id(7), id(2));
    let about =
        |n: u8| PeerAddress { node: id(n), name: format!("node {n}"), addresses: vec![address(n)] };
    let told = |to: u8, n: u8| Out::SharePeers { to: id(to), peers: vec![about(n)] };
    assert_eq!(drain(&mut membership), [told(7, 2), told(2, 7)]);
}

#[test]
fn hearsay_is_bounded_and_senseless_addresses_are_not_dialled() {
    let mut membership = fresh();
    membership.set_intent(at(0), Intent::Alone);
    let bad = ["0.0.0.0:1", "224.0.0.1:9", "255.255.255.255:9", "10.0.0.1:0"];
    let bad = bad.iter().map(|text| text.parse().expect("an address")).collect();
    let entry = |n: u16, addresses| {
        let mut bytes = [7; 32];
        bytes[..2].copy_from_slice(&n.to_be_bytes());
        PeerAddress { node: NodeId(bytes), name: "x".repeat(1000), addresses }
    };
    membership.peers_received(at(0), vec![entry(0, bad)]);
    assert_eq!(run(&mut membership, 1000), []);
    for round in 0..10 {
        let many = (0..250).map(|n| entry(round * 250 + n, vec![address(9); 40])).collect();
        membership.peers_received(at(0), many);
    }
    assert!(membership.peers().count() <= limits::MAX_MEMBERS);
    assert!(membership.peers().all(|peer| peer.name.len() <= limits::MAX_NAME));
}

#[test]
fn where_a_node_says_that_it_is_comes_before_where_others_say_it_was() {
    let mut membership = fresh();
    membership.set_intent(at(0), Intent::Alone);
    let addresses = (100..200).map(address).collect();
    let entry = PeerAddress { node: id(9), name: String::new(), addresses };
    membership.peers_received(at(0), vec![entry]);
    let outs = run(&mut membership, 0);
    assert_eq!(outs, [(0, Out::Dial { address: address(100), node: Some(id(9)) })]);
    membership.dial_failed(at(100), address(100), Some(id(9)));
    announce(&mut membership, 200, 9, false);
    let outs = run(&mut membership, 600);
    let dialled = Out::Dial { address: address(9), node: Some(id(9)) };
    assert!(outs.iter().any(|(_, out)| *out == dialled), "{outs:?}");
}

#[test]
fn an_address_that_is_announced_during_a_dial_comes_next() {
    let mut membership = fresh();
    membership.set_intent(at(0), Intent::Alone);
    membership.remember(id(9), "nine", &[address(1), address(2), address(3)]);
    let dial = |n| Out::Dial { address: address(n), node: Some(id(9)) };
    assert_eq!(run(&mut membership, 0), [(0, dial(1))]);
    announce(&mut membership, 100, 9, false);
    membership.dial_failed(at(200), address(1), Some(id(9)));
    assert_eq!(run(&mut membership, 200), [(200, dial(9))]);
    membership.dial_failed(at(300), address(9), Some(id(9)));
    assert_eq!(run(&mut membership, 300), [(300, dial(1))]);
    // Whoever announces crowds in its name neither keeps it from being dialled where it is, nor
    // pushes out where it was met.
    let announcement = Announcement { node: id(9), port: 4766, room: None };
    let mut ms = 300;
    let mut dialled = Vec::new();
    for n in 100..110 {
        membership.discovered(at(ms), &announcement, &[address(n)]);
        let last = match dialled.last() {
            Some(Out::Dial { address, .. }) => *address,
            _ => address(1),
        };
        membership.dial_failed(at(ms), last, Some(id(9)));
        ms += 100;
        dialled.extend(run(&mut membership, ms).into_iter().map(|(_, out)| out));
    }
    assert!(dialled.contains(&dial(2)) && dialled.contains(&dial(3)), "{dialled:?}");
    connect(&mut membership, ms, 9, None);
    membership.lost(at(ms), id(9));
    for crowd in [100, 120, 140] {
        let crowd: Vec<SocketAddr> = (crowd..crowd + 20).map(address).collect();
        membership.discovered(at(ms), &announcement, &crowd);
    }
    let kept = membership.peers.get(&id(9)).is_some_and(|p| p.addresses.contains(&address(9)));
    assert!(kept);
}

#[test]
fn a_link_local_address_keeps_its_link() {
    let mut membership = fresh();
    membership.set_intent(at(0), Intent::Alone);
    let scoped = |port, scope| {
        SocketAddr::from(std::net::SocketAddrV6::new(
            "fe80::9".parse().expect("one"),
            port,
            0,
            scope,
        ))
    };
    membership.connected(at(0), id(9), scoped(50_000, 3), &hello(9, None));
    membership.moved(at(500), id(9), scoped(50_001, 4));
    membership.lost(at(1000), id(9));
    let outs = run(&mut membership, 1300);
    assert_eq!(outs, [(1250, Out::Dial { address: scoped(4766, 4), node: Some(id(9)) })]);
}

#[test]
fn a_node_known_by_hearsay_alone_is_forgotten_when_it_never_answers() {
    let mut membership = fresh();
    membership.set_intent(at(0), Intent::Alone);
    let entry = PeerAddress { node: id(9), name: String::new(), addresses: vec![address(9)] };
    membership.peers_received(at(0), vec![entry]);
    for _ in 0..12 {
        let due = membership.poll_timeout().expect("still tried");
        membership.handle_timeout(due);
        assert_eq!(drain(&mut membership).len(), 1);
        membership.dial_failed(due, address(9), Some(id(9)));
    }
    assert_eq!(membership.peers().count(), 0);
}

#[test]
fn a_peer_that_moves_is_known_at_its_new_address_and_the_others_are_told() {
    let mut membership = fresh();
    membership.set_room(at(0), Some(card(1, true, 3)));
    connect(&mut membership, 0, 1, Some(card(1, true, 3)));
    connect(&mut membership, 0, 2, Some(card(1, true, 3)));
    run(&mut membership, 3_000);
    membership.moved(at(3_000), id(1), SocketAddr::new(address(99).ip(), 50_001));
    let shown =
        membership.peers().find(|peer| peer.address.is_some_and(|a| a.ip() == address(99).ip()));
    assert!(shown.is_some());
    let told = run(&mut membership, 6_000).into_iter().any(|(_, out)| match out {
        Out::SharePeers { to, peers } => {
            to == id(2) && peers.iter().any(|p| p.addresses.first() == Some(&address(99)))
        }
        _ => false,
    });
    assert!(told, "the other member is told where it listens now");
}
