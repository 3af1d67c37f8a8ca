//! Many real [`Membership`]s finding each other: discovery that takes its time or never
//! comes, dials that meet, rooms that are made twice. What a node does with the outputs
//! (joining, founding) is played by the simplest thing that could.

#![expect(
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "small counts and times of a simulation"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use groovebox::base::rng::Rng;
use groovebox::base::{LocalTime, NodeId, RoomId, Term};
use groovebox::engine::membership::{Membership, MembershipOutput};
use groovebox::wire::announce::AnnouncedRoom;
use groovebox::wire::message::PeerAddress;
use groovebox::wire::{Announcement, Hello, RoomCard};

use crate::world::{Agenda, Chance, MS, SEC, Trace, is_replay, seeds};

const PORT: u16 = 4766;

enum Event {
    Start { node: usize },
    Timer { node: usize },
    Discovered { at: usize, node: usize },
    Dialled { from: usize, to: usize },
    Card { at: usize, of: usize, card: Option<RoomCard> },
    Shared { at: usize, peers: Vec<PeerAddress> },
    Joined { node: usize, room: RoomId, via: usize },
    Founded { node: usize },
}

struct Node {
    membership: Option<Membership>,
    room: Option<RoomId>,
    was_in: BTreeSet<RoomId>,
    timer_at: Option<i64>,
}

struct Street {
    now: i64,
    seed: u64,
    rng: Rng,
    agenda: Agenda<Event>,
    nodes: Vec<Node>,
    connected: BTreeSet<(usize, usize)>,
    /// Rooms, and whether somebody has acted there.
    rooms: BTreeMap<RoomId, bool>,
    trace: Trace,
}

fn id(node: usize) -> NodeId {
    let mut bytes = [0; 32];
    // Not in the order of their numbers.
    bytes[0] = u8::try_from(node * 89 % 251).expect("below 251");
    bytes[1] = u8::try_from(node + 1).expect("a short street");
    NodeId(bytes)
}

fn place(id: NodeId) -> usize {
    usize::from(id.0[1]) - 1
}

fn address(node: usize) -> SocketAddr {
    let last = u8::try_from(node + 1).expect("a short street");
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 168, 1, last)), PORT)
}

impl Street {
    /// Nodes that start within 100 ms.
    fn new(seed: u64, size: usize) -> Street {
        let mut street = Street {
            now: 0,
            seed,
            rng: Rng::new(seed),
            agenda: Agenda::new(),
            nodes: (0..size).map(|_| Node::new()).collect(),
            connected: BTreeSet::new(),
            rooms: BTreeMap::new(),
            trace: Trace(seed),
        };
        for node in 0..size {
            let at = street.rng.between(0, 100 * MS);
            street.agenda.add(at, Event::Start { node });
        }
        street
    }

    fn run(&mut self, until: i64) {
        while let Some((at, event)) = self.agenda.next(until) {
            self.now = at;
            self.trace.add(at as u64);
            self.happen(event);
        }
        self.now = until;
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Start { node } => self.start(node),
            Event::Timer { node } => {
                self.nodes[node].timer_at = None;
                self.with(node, Membership::handle_timeout);
            }
            Event::Discovered { at, node } => self.discovered(at, node),
            Event::Dialled { from, to } => self.dialled(from, to),
            Event::Card { at, of, card } => {
                self.with(at, |m, now| m.card_received(now, id(of), card));
            }
            Event::Shared { at, peers } => self.with(at, |m, now| m.peers_received(now, peers)),
            Event::Joined { node, room, via } => self.joined(node, room, via),
            Event::Founded { node } => self.founded(node),
        }
    }

    fn start(&mut self, node: usize) {
        let machine = Membership::new(id(node), self.seed ^ node as u64, LocalTime(self.now));
        self.nodes[node].membership = Some(machine);
        self.with(node, Membership::handle_timeout);
    }

    fn with(&mut self, node: usize, act: impl FnOnce(&mut Membership, LocalTime)) {
        let now = LocalTime(self.now);
        let Some(machine) = &mut self.nodes[node].membership else { return };
        act(machine, now);
        while let Some(output) =
            self.nodes[node].membership.as_mut().and_then(Membership::poll_output)
        {
            self.obey(node, output);
        }
        self.set_timer(node);
    }

    fn set_timer(&mut self, node: usize) {
        let state = &mut self.nodes[node];
        let due = state.membership.as_ref().and_then(Membership::poll_timeout);
        let Some(due) = due.map(|due| due.0.max(self.now)) else { return };
        if state.timer_at.is_none_or(|set| due < set) {
            state.timer_at = Some(due);
            self.agenda.add(due, Event::Timer { node });
        }
    }

    fn obey(&mut self, node: usize, output: MembershipOutput) {
        match output {
            MembershipOutput::Dial { address, .. } => {
                let Some(to) = (0..self.nodes.len()).find(|&n| self::address(n) == address) else {
                    return;
                };
                let at = self.now + self.rng.between(5 * MS, 60 * MS);
                self.agenda.add(at, Event::Dialled { from: node, to });
            }
            MembershipOutput::SharePeers { to, peers } => {
                let at = self.now + self.rng.between(MS, 20 * MS);
                self.agenda.add(at, Event::Shared { at: place(to), peers });
            }
            MembershipOutput::Join { room, via } => {
                self.tell(|| format!("{node} joins {room:?}"));
                let at = self.now + self.rng.between(20 * MS, 150 * MS);
                self.agenda.add(at, Event::Joined { node, room, via: place(via) });
            }
            MembershipOutput::FoundRoom => {
                let at = self.now + self.rng.between(2 * MS, 40 * MS);
                self.agenda.add(at, Event::Founded { node });
            }
        }
    }

    fn discovered(&mut self, at: usize, node: usize) {
        let room = self.nodes[node].room.map(|room| AnnouncedRoom {
            id_prefix: room.short(),
            name: String::new(),
            code: "GROOVE-2222".into(),
        });
        let announcement = Announcement { node: id(node), port: PORT, room };
        self.with(at, |m, now| m.discovered(now, &announcement, &[address(node)]));
    }

    fn dialled(&mut self, from: usize, to: usize) {
        let is_up = |n: usize| self.nodes[n].membership.is_some();
        if from == to || !is_up(from) || !is_up(to) {
            self.with(from, |m, now| m.dial_failed(now, address(to), Some(id(to))));
        } else if self.connected.insert((from.min(to), from.max(to))) {
            for (at, peer) in [(from, to), (to, from)] {
                let hello = self.hello(peer);
                self.with(at, |m, now| m.connected(now, id(peer), address(peer), &hello));
            }
        }
    }

    fn hello(&self, node: usize) -> Hello {
        Hello {
            node: id(node),
            boot: 1,
            name: format!("node {node}"),
            version: String::new(),
            port: PORT,
            room: self.card(node),
        }
    }

    fn card(&self, node: usize) -> Option<RoomCard> {
        let room = self.nodes[node].room?;
        let devices = self.nodes.iter().filter(|n| n.room == Some(room)).count();
        Some(RoomCard {
            id: room,
            name: "Home".into(),
            code: "GROOVE-2222".into(),
            locked: false,
            unclaimed: !self.rooms[&room],
            devices: u16::try_from(devices).expect("a short street"),
            coordinator: None,
            term: Term { n: 1, node: id(node), boot: 1 },
            playing: None,
        })
    }

    fn joined(&mut self, node: usize, room: RoomId, via: usize) {
        if self.nodes[via].room == Some(room) {
            self.enter(node, room);
        } else {
            self.with(node, |m, now| m.join_failed(now, room));
        }
    }

    fn founded(&mut self, node: usize) {
        if self.nodes[node].room.is_none() {
            let mut bytes = [0; 32];
            bytes[..8].copy_from_slice(&self.rng.next_u64().to_be_bytes());
            let room = RoomId(bytes);
            self.tell(|| format!("{node} founds {room:?}"));
            self.rooms.insert(room, false);
            self.enter(node, room);
        }
    }

    fn enter(&mut self, node: usize, room: RoomId) {
        let left = self.nodes[node].room.replace(room);
        let was_claimed = left.is_some_and(|left| left != room && self.rooms[&left]);
        assert!(!was_claimed, "{}: {node} left a room in which somebody acted", self.name());
        self.nodes[node].was_in.insert(room);
        self.trace.add(u64::from(room.0[0]));
        self.card_changed(node);
    }

    fn card_changed(&mut self, node: usize) {
        let card = self.card(node);
        let own = card.clone();
        self.with(node, |m, now| m.set_room(now, own));
        for at in 0..self.nodes.len() {
            if self.connected.contains(&(node.min(at), node.max(at))) {
                let when = self.now + self.rng.between(MS, 15 * MS);
                self.agenda.add(when, Event::Card { at, of: node, card: card.clone() });
            }
        }
    }

    /// A person does something in a room.
    fn claim(&mut self, room: RoomId) {
        self.rooms.insert(room, true);
        for node in 0..self.nodes.len() {
            if self.nodes[node].room == Some(room) {
                self.card_changed(node);
            }
        }
    }

    /// mDNS: most hear of each other within a second, a few only one way, some late.
    fn announce_all(&mut self) {
        for at in 0..self.nodes.len() {
            for node in (0..self.nodes.len()).filter(|&node| node != at) {
                let delay = match self.rng.unit() {
                    x if x < 0.70 => self.rng.between(120 * MS, 700 * MS),
                    x if x < 0.95 => self.rng.between(300 * MS, 2000 * MS),
                    _ => continue,
                };
                self.agenda.add(delay, Event::Discovered { at, node });
            }
        }
    }

    fn rooms_lived_in(&self) -> BTreeSet<Option<RoomId>> {
        self.nodes.iter().map(|node| node.room).collect()
    }

    fn name(&self) -> String {
        let now = self.now as f64 / SEC as f64;
        format!("seed {} at {now:.3} s (replay with GROOVEBOX_SIM_SEED={})", self.seed, self.seed)
    }

    fn tell(&self, what: impl FnOnce() -> String) {
        if is_replay() {
            eprintln!("{:9.3} {}", self.now as f64 / SEC as f64, what());
        }
    }
}

impl Node {
    fn new() -> Node {
        Node { membership: None, room: None, was_in: BTreeSet::new(), timer_at: None }
    }
}

/// Twenty nodes on one network; returns when they were first all in one room.
fn evening(seed: u64) -> (Street, i64) {
    let mut street = Street::new(seed, 20);
    street.announce_all();
    let mut together = None;
    while street.now < 5 * SEC {
        street.run(street.now + 20 * MS);
        let rooms = street.rooms_lived_in();
        let are_together = rooms.len() == 1 && !rooms.contains(&None);
        together = if are_together { together.or(Some(street.now)) } else { None };
    }
    let rooms = street.rooms_lived_in();
    let when = together.unwrap_or_else(|| panic!("{}: in {rooms:?}", street.name()));
    (street, when)
}

#[test]
fn twenty_nodes_started_at_once_are_in_one_room_within_five_seconds() {
    let (mut latest, mut founded) = (0, 0);
    for seed in seeds(200) {
        let (street, when) = evening(seed);
        latest = latest.max(when);
        founded = founded.max(street.rooms.len());
    }
    println!("at the latest after {} ms; at most {founded} rooms were founded", latest / MS);
}

#[test]
fn twenty_nodes_that_hear_of_each_other_too_late_leave_their_twenty_rooms_for_one() {
    for seed in seeds(50) {
        let mut street = Street::new(seed, 20);
        for at in 0..20 {
            for node in (0..20).filter(|&node| node != at) {
                let delay = street.rng.between(1500 * MS, 3000 * MS);
                street.agenda.add(delay, Event::Discovered { at, node });
            }
        }
        street.run(1400 * MS);
        assert_eq!(street.rooms_lived_in().len(), 20, "{}", street.name());
        street.run(5 * SEC);
        let smallest = street.rooms.keys().min().copied();
        assert_eq!(street.rooms_lived_in(), BTreeSet::from([smallest]), "{}", street.name());
    }
}

#[test]
fn one_seed_is_one_evening() {
    assert_eq!(evening(3).0.trace, evening(3).0.trace);
    assert_ne!(evening(3).0.trace, evening(4).0.trace);
}

/// Two halves that cannot see each other for a while.
fn two_halves(seed: u64) -> (Street, RoomId, RoomId) {
    let mut street = Street::new(seed, 6);
    for at in 0..6 {
        for node in (0..6).filter(|&node| node != at && (node < 3) == (at < 3)) {
            street.agenda.add(200 * MS, Event::Discovered { at, node });
        }
    }
    street.run(4 * SEC);
    let [left, right] = [0, 5].map(|n| street.nodes[n].room.expect("has a room"));
    assert_ne!(left, right);
    (street, left, right)
}

fn meet(street: &mut Street) {
    let at = street.now + 10 * MS;
    street.agenda.add(at, Event::Discovered { at: 1, node: 4 });
    for (at, node) in [(0, 3), (2, 5), (0, 5)] {
        street.agenda.add(street.now + 50 * MS, Event::Discovered { at, node });
    }
    street.run(street.now + 5 * SEC);
}

#[test]
fn of_two_rooms_that_made_themselves_the_one_with_the_smaller_id_stays() {
    for seed in seeds(50) {
        let (mut street, left, right) = two_halves(seed);
        meet(&mut street);
        let all = BTreeSet::from([Some(left.min(right))]);
        assert_eq!(street.rooms_lived_in(), all, "{}", street.name());
    }
}

#[test]
fn a_room_that_made_itself_dissolves_into_one_in_which_somebody_acted() {
    for seed in seeds(50) {
        let (mut street, left, right) = two_halves(seed);
        let claimed = if seed % 2 == 0 { left } else { right };
        street.claim(claimed);
        meet(&mut street);
        assert_eq!(street.rooms_lived_in(), BTreeSet::from([Some(claimed)]), "{}", street.name());
    }
}

#[test]
fn two_rooms_in_which_somebody_acted_stay_apart() {
    for seed in seeds(50) {
        let (mut street, left, right) = two_halves(seed);
        street.claim(left);
        street.claim(right);
        meet(&mut street);
        let both = BTreeSet::from([Some(left), Some(right)]);
        assert_eq!(street.rooms_lived_in(), both, "{}", street.name());
    }
}

#[test]
fn without_mdns_gossip_connects_everybody_through_one_peer() {
    for seed in seeds(50) {
        let mut street = Street::new(seed, 8);
        street.run(100 * MS);
        for node in 1..8 {
            street.with(node, |m, now| {
                m.add_static(address(0));
                m.handle_timeout(now);
            });
        }
        street.run(5 * SEC);
        assert_eq!(street.rooms_lived_in().len(), 1, "{}", street.name());
        assert_eq!(street.connected.len(), 8 * 7 / 2, "{}: not everybody", street.name());
    }
}
