//! The network of a house: who can reach whom, connections with their hellos, messages in
//! order, datagrams that may be lost, doubled, overtaken or very late.
//!
//! As in `net::links` the node with the smaller id decides which of two connections stays.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

use groovebox::base::NodeId;
use groovebox::engine::node::Input;
use groovebox::wire::{Datagram, Hello, Message};

use super::{Event, House};
use crate::world::{Carriage, Chance, MS, SEC, flight};

/// Nothing arrives for so long, and QUIC gives a connection up.
const IDLE: i64 = 8 * SEC;

/// A handshake that gets no answer.
const DIAL_TIMEOUT: i64 = 5 * SEC;

/// How often connections are looked after.
pub const MINDED_EVERY: i64 = 200 * MS;

/// A connection that has been up for so long is up on both sides or on none.
const SETTLED: i64 = 3 * SEC;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    Waiting,
    Up,
    Closed,
}

enum Item {
    Hello(Box<Hello>),
    Message(Box<Message>),
    Close,
}

/// A connection; side 0 has dialled.
struct Conn {
    ends: [usize; 2],
    state: [End; 2],
    since: i64,
    heard: [i64; 2],
    ids: [NodeId; 2],
    boots: [u32; 2],
    /// By the side that sent it: when it can be there, and what.
    queue: [VecDeque<(i64, Item)>; 2],
    under_way: [bool; 2],
}

pub struct Network {
    conns: BTreeMap<u64, Conn>,
    made: u64,
    /// For each device, the connection by which it believes to be connected to another.
    views: Vec<BTreeMap<usize, u64>>,
    pub side: Vec<u8>,
    /// Whether what the first sends to the second is lost.
    pub cut: Vec<Vec<bool>>,
    /// The access point is back then.
    pub air_back_at: i64,
    pub has_late_copies: bool,
    /// Messages and datagrams of this second, by sender and receiver.
    counted: BTreeMap<(usize, usize), u32>,
}

impl Network {
    pub fn new(size: usize) -> Network {
        Network {
            conns: BTreeMap::new(),
            made: 0,
            views: vec![BTreeMap::new(); size],
            side: vec![0; size],
            cut: vec![vec![false; size]; size],
            air_back_at: 0,
            has_late_copies: false,
            counted: BTreeMap::new(),
        }
    }

    pub fn heal(&mut self) {
        self.side.fill(0);
        self.cut.iter_mut().for_each(|row| row.fill(false));
        self.air_back_at = 0;
    }

    pub fn is_connected(&self, from: usize, to: usize) -> bool {
        self.views[from].contains_key(&to)
    }

    /// What a device believes of its connections, and what is true, for people.
    pub fn describe(&self, d: usize) -> String {
        let all = self.conns.iter().filter(|(_, conn)| conn.ends.contains(&d));
        let lines = all.map(|(id, conn)| {
            let held = self.views[d].values().any(|held| held == id);
            format!(
                "{id}{} {:?} {:?} queued {:?} under way {:?}",
                if held { "*" } else { "" },
                conn.ends,
                conn.state,
                conn.queue.each_ref().map(VecDeque::len),
                conn.under_way
            )
        });
        lines.collect::<Vec<_>>().join("; ")
    }

    /// The most that one device sent another since this was last asked.
    pub fn take_busiest(&mut self) -> u32 {
        std::mem::take(&mut self.counted).into_values().max().unwrap_or(0)
    }
}

pub fn address(device: usize) -> SocketAddr {
    let last = u8::try_from(device + 1).expect("a small house");
    SocketAddr::from(([10, 0, 0, last], 7447))
}

fn device_at(address: SocketAddr) -> usize {
    match address {
        SocketAddr::V4(v4) => usize::from(v4.ip().octets()[3]) - 1,
        SocketAddr::V6(_) => unreachable!("a house of IPv4"),
    }
}

impl House {
    /// Whether what one sends now gets to the other one's machine.
    pub fn is_open(&self, from: usize, to: usize) -> bool {
        let net = &self.net;
        let on_air = |d: usize| !self.devices[d].is_wired();
        let has_air = self.now >= net.air_back_at || !(on_air(from) || on_air(to));
        has_air && net.side[from] == net.side[to] && !net.cut[from][to]
    }

    fn is_open_both_ways(&self, a: usize, b: usize) -> bool {
        self.is_open(a, b) && self.is_open(b, a)
    }

    /// When a packet arrives: none if it is lost, two if it is doubled.
    fn fly(&mut self, from: usize, to: usize, carriage: Carriage) -> [Option<i64>; 2] {
        let [a, b] = self.devices.get_disjoint_mut([from, to]).expect("two devices");
        flight(self.now, carriage, &mut a.radio, &mut b.radio, &mut self.rng)
    }

    fn fly_surely(&mut self, from: usize, to: usize) -> i64 {
        self.fly(from, to, Carriage::Stream)[0].expect("repeated until it arrives")
    }

    /// The access point answers for itself; those on the other side of a cut have none.
    pub fn ask_gateway(&mut self, d: usize) {
        let now = self.now;
        let device = &mut self.devices[d];
        let (wait, drops) = device.radio.stall(now, &mut self.rng);
        let has_air = now >= self.net.air_back_at || device.is_wired();
        if has_air && !drops && wait < 200 * MS && self.net.side[d] == 0 {
            let delay = wait + self.rng.between(MS, 5 * MS);
            self.give_later(d, delay, Input::GatewayAnswered);
        }
    }

    // Connections.

    pub fn dial(&mut self, from: usize, address: SocketAddr, node: Option<NodeId>) {
        let to = device_at(address);
        if from == to || to >= self.devices.len() || self.net.is_connected(from, to) {
            return;
        }
        let (there, back) = (self.fly_surely(from, to), self.fly_surely(to, from));
        let life = self.devices[from].life;
        let answers = self.is_open_both_ways(from, to) && self.devices[to].is_at_work();
        if answers {
            self.add(there + back, Event::Dialled { d: from, life, to });
        } else {
            let input = Box::new(Input::DialFailed { address, node });
            self.add(DIAL_TIMEOUT, Event::Give { d: from, life, input });
        }
    }

    pub fn dialled(&mut self, from: usize, to: usize) {
        if !self.is_open_both_ways(from, to)
            || !self.devices[to].is_at_work()
            || self.net.is_connected(from, to)
        {
            return;
        }
        self.net.made += 1;
        let boots = [self.devices[from].boot, self.devices[to].boot];
        let ids = [self.devices[from].id(), self.devices[to].id()];
        let conn = Conn {
            ends: [from, to],
            state: [End::Waiting; 2],
            since: self.now,
            heard: [self.now; 2],
            ids,
            boots,
            queue: [VecDeque::new(), VecDeque::new()],
            under_way: [false; 2],
        };
        let id = self.net.made;
        self.net.conns.insert(id, conn);
        let hello = Box::new(self.hello(from));
        self.push(id, 0, Item::Hello(hello));
    }

    fn hello(&self, d: usize) -> Hello {
        let device = &self.devices[d];
        Hello {
            node: device.id(),
            boot: device.boot,
            name: device.name.clone(),
            version: "sim".into(),
            port: 7447,
            room: device.card.clone(),
        }
    }

    /// A hello arrives at `side`: is this the connection that speaks for the peer?
    fn greeted(&mut self, id: u64, side: usize, hello: &Hello) {
        let conn = &self.net.conns[&id];
        let (me, peer) = (conn.ends[side], conn.ends[1 - side]);
        if conn.state[side] != End::Waiting || !self.devices[me].is_at_work() {
            return;
        }
        if side == 1 && self.is_duplicate(me, peer, hello.boot) {
            let conn = self.net.conns.get_mut(&id).expect("just seen");
            conn.state = [End::Closed; 2];
            return;
        }
        if self.net.is_connected(me, peer) {
            self.lose(me, peer);
        }
        let conn = self.net.conns.get_mut(&id).expect("just seen");
        conn.state[side] = End::Up;
        conn.heard[side] = self.now;
        self.net.views[me].insert(peer, id);
        if side == 1 {
            let answer = Box::new(self.hello(me));
            self.push(id, 1, Item::Hello(answer));
        }
        let input = Input::PeerConnected {
            peer: hello.node,
            address: address(peer),
            hello: hello.clone(),
            channel: [0; 32],
        };
        self.give(me, input);
    }

    /// The smaller id keeps what it has; the greater follows.
    fn is_duplicate(&self, me: usize, peer: usize, boot: u32) -> bool {
        if self.devices[me].id() > self.devices[peer].id() {
            return false;
        }
        let own_dial = |conn: &Conn| {
            conn.ends == [me, peer]
                && conn.state == [End::Waiting; 2]
                && self.is_open_both_ways(me, peer)
        };
        let held = self.net.views[me].get(&peer).map(|id| &self.net.conns[id]);
        let keeps = held.is_some_and(|conn| {
            let side = usize::from(conn.ends[1] == peer);
            conn.boots[side] >= boot && self.now - conn.since < SETTLED
        });
        keeps || self.net.conns.values().any(own_dial)
    }

    /// A device learns that a connection is gone.
    fn lose(&mut self, d: usize, peer: usize) {
        let Some(id) = self.net.views[d].remove(&peer) else { return };
        let conn = self.net.conns.get_mut(&id).expect("views are of connections");
        let side = usize::from(conn.ends[1] == d);
        conn.state[side] = End::Closed;
        let peer = conn.ids[1 - side];
        self.give(d, Input::PeerLost { peer });
    }

    /// The process is gone. What it had sent still arrives, if it was under way.
    pub fn hang_up(&mut self, d: usize) {
        let soon = self.now + 30 * MS;
        self.net.views[d].clear();
        for conn in self.net.conns.values_mut().filter(|conn| conn.ends.contains(&d)) {
            let side = usize::from(conn.ends[1] == d);
            conn.state[side] = End::Closed;
            conn.queue[side].retain(|(ready, _)| *ready <= soon);
        }
    }

    /// An orderly end closes its connections after what it had to say.
    pub fn close_all(&mut self, d: usize) {
        let ids: Vec<u64> = self.net.views[d].values().copied().collect();
        for id in ids {
            let side = usize::from(self.net.conns[&id].ends[1] == d);
            self.push(id, side, Item::Close);
        }
    }

    /// A sleeper's own timers stood still meanwhile.
    pub fn slept(&mut self, d: usize, length: i64) {
        for conn in self.net.conns.values_mut().filter(|conn| conn.ends.contains(&d)) {
            conn.heard[usize::from(conn.ends[1] == d)] += length;
        }
    }

    pub fn mind_connections(&mut self) {
        let ids: Vec<u64> = self.net.conns.keys().copied().collect();
        for id in ids {
            for side in [0, 1] {
                self.mind(id, side);
                self.pump(id, side);
            }
        }
        self.net.conns.retain(|_, conn| {
            let is_under_way = conn.queue.iter().any(|queue| !queue.is_empty());
            conn.state != [End::Closed; 2] || (is_under_way && self.now - conn.since < 600 * SEC)
        });
        self.add(MINDED_EVERY, Event::Minded);
    }

    fn mind(&mut self, id: u64, side: usize) {
        let conn = &self.net.conns[&id];
        let (me, peer) = (conn.ends[side], conn.ends[1 - side]);
        let (mine, theirs) = (conn.state[side], conn.state[1 - side]);
        let waited = self.now - conn.heard[side];
        if mine == End::Waiting && waited > IDLE {
            self.net.conns.get_mut(&id).expect("just seen").state[side] = End::Closed;
        }
        if mine != End::Up || !self.devices[me].is_at_work() {
            return;
        }
        if theirs != End::Closed && self.devices[peer].is_at_work() && self.is_open(peer, me) {
            self.net.conns.get_mut(&id).expect("just seen").heard[side] = self.now;
        } else if theirs == End::Closed && self.is_open_both_ways(me, peer) {
            self.told_that_nobody_is_there(me, peer);
        } else if waited > IDLE {
            self.lose(me, peer);
        }
    }

    /// A stateless reset where another process listens, "port unreachable" where none does.
    fn told_that_nobody_is_there(&mut self, me: usize, peer: usize) {
        if self.devices[peer].is_off || !self.rng.happens(0.5) {
            return;
        }
        if self.devices[peer].is_at_work() {
            self.lose(me, peer);
        } else if self.devices[peer].node.is_none() {
            let peer = self.devices[peer].id();
            self.give(me, Input::PeerDoubted { peer });
        }
    }

    // What travels.

    pub fn send(&mut self, from: usize, to: NodeId, message: Message) {
        let Some(to) = self.device_of(to) else { return };
        let Some(&id) = self.net.views[from].get(&to) else { return };
        *self.net.counted.entry((from, to)).or_default() += 1;
        let side = usize::from(self.net.conns[&id].ends[1] == from);
        self.push(id, side, Item::Message(Box::new(message)));
    }

    fn push(&mut self, id: u64, side: usize, item: Item) {
        let ends = self.net.conns[&id].ends;
        let ready = self.now + self.fly_surely(ends[side], ends[1 - side]);
        let conn = self.net.conns.get_mut(&id).expect("just seen");
        let last = conn.queue[side].back().map_or(0, |(last, _)| *last);
        conn.queue[side].push_back((ready.max(last), item));
        self.pump(id, side);
    }

    fn pump(&mut self, id: u64, side: usize) {
        let Some(conn) = self.net.conns.get(&id) else { return };
        let Some((ready, _)) = conn.queue[side].front() else { return };
        let (from, to) = (conn.ends[side], conn.ends[1 - side]);
        if conn.under_way[side] || !self.is_open(from, to) {
            return;
        }
        let delay = (ready - self.now).max(MS / 10);
        self.net.conns.get_mut(&id).expect("just seen").under_way[side] = true;
        self.add(delay, Event::Arrive { conn: id, side });
    }

    pub fn arrive(&mut self, id: u64, side: usize) {
        let Some(conn) = self.net.conns.get_mut(&id) else { return };
        conn.under_way[side] = false;
        let (from, to) = (conn.ends[side], conn.ends[1 - side]);
        if !self.is_open(from, to) || !self.devices[to].is_at_work() {
            return;
        }
        loop {
            let Some(conn) = self.net.conns.get_mut(&id) else { return };
            if conn.state[1 - side] == End::Closed {
                conn.queue[side].clear();
                return;
            }
            if conn.queue[side].front().is_none_or(|(ready, _)| *ready > self.now) {
                break;
            }
            let (_, item) = conn.queue[side].pop_front().expect("just seen");
            self.unpack(id, 1 - side, item);
        }
        self.pump(id, side);
    }

    fn unpack(&mut self, id: u64, side: usize, item: Item) {
        let conn = &self.net.conns[&id];
        let (me, peer) = (conn.ends[side], conn.ends[1 - side]);
        match item {
            Item::Hello(hello) => self.greeted(id, side, &hello),
            Item::Message(message) if conn.state[side] == End::Up => {
                let from = conn.ids[1 - side];
                self.give(me, Input::MessageReceived { from, message: *message });
            }
            Item::Close if conn.state[side] == End::Up => self.lose(me, peer),
            _ => {}
        }
    }

    pub fn send_datagram(&mut self, from: usize, to: NodeId, datagram: &Datagram) {
        let Some(to) = self.device_of(to) else { return };
        let Some(&conn) = self.net.views[from].get(&to) else { return };
        if !self.is_open(from, to) {
            return;
        }
        *self.net.counted.entry((from, to)).or_default() += 1;
        if self.is_thinned_out(from, datagram) {
            return;
        }
        let [first, copy] = self.fly(from, to, Carriage::Datagram);
        let late = (self.net.has_late_copies && self.rng.happens(0.002))
            .then(|| self.rng.between(SEC, 60 * SEC));
        for delay in [first, copy, late].into_iter().flatten() {
            let datagram = Box::new(datagram.clone());
            self.add(delay, Event::Datagram { conn, from, to, datagram });
        }
    }

    pub fn datagram_arrives(&mut self, conn: u64, from: usize, to: usize, datagram: Datagram) {
        let is_live = self.net.views[to].get(&from) == Some(&conn) && self.is_open(from, to);
        if !is_live || self.devices[to].node.is_none() {
            return;
        }
        if !self.devices[to].is_at_work() {
            // The machine's queue of received packets is short.
            if self.rng.happens(0.1) {
                let datagram = Box::new(datagram);
                let event = Event::Datagram { conn, from, to, datagram };
                self.devices[to].frozen.push(event);
            }
            return;
        }
        let conn = &self.net.conns[&conn];
        let peer = conn.ids[usize::from(conn.ends[1] == from)];
        let at = self.devices[to].watch.local(self.now);
        self.give(to, Input::DatagramReceived { from: peer, datagram, at });
    }
}
