//! Who is known, who is connected, whom to dial when, and which room to be in.
//!
//! ```text
//!  mDNS, --peer, the store, gossip ──▶ book ──▶ Dial
//!  connections, cards ───────────────▶ rooms in reach ──▶ Join, FoundRoom
//!  room and its members ─────────────▶ gossip ──▶ SharePeers
//! ```
//!
//! Every node that is known is dialled, of whatever room, since only its card tells what
//! there is to join. Devices that were told nothing come together: they look for a second,
//! join what they find, and found a room only if there is none. A room that made itself and
//! in which nobody has acted dissolves into a better one; a room in which somebody acted is
//! never left by itself.
//!
//! Not here: liveness within a room and who coordinates it (`election`), sending, and how a
//! room is joined or made: this says only that it should be, and is told when it is.

mod book;
mod rooms;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;

use crate::base::rng::Rng;
use crate::base::{LocalTime, NodeId, RoomId, Span, limits};
use crate::wire::message::PeerAddress;
use crate::wire::{Announcement, Hello, RoomCard};

use book::{Peer, Schedule, Static};
use rooms::{Joining, Look};

/// A change of members is told to the others after this, together with all that follow it
/// within: twenty devices that start together are one message, not twenty.
const SHARE_DELAY: Span = Span::from_millis(200);

/// Between two looks for a device that announces itself as this one.
const TWIN_LOOK_EVERY: Span = Span::from_secs(60);

/// Peers in one share: with [`SHARED_ADDRESSES`] and the longest names far below a frame.
const SHARED_PEERS: usize = 64;

/// Addresses of a peer that are shared, most recent first.
const SHARED_ADDRESSES: usize = 4;

/// What a person wants of this node's rooms.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Intent {
    /// Told nothing: be where the others are.
    #[default]
    Anywhere,
    /// Told this one, or remembering it: wait for it, do not wander.
    Room(RoomId),
    /// Told to leave: stay without a room until told otherwise.
    Alone,
}

/// What is to be done.
#[derive(Clone, PartialEq, Debug)]
#[must_use]
pub enum MembershipOutput {
    /// Connect to an address.
    Dial {
        /// Where.
        address: SocketAddr,
        /// Who is expected there, if known.
        node: Option<NodeId>,
    },
    /// Tell a member where others of the room are.
    SharePeers {
        /// Whom to tell.
        to: NodeId,
        /// At most 64.
        peers: Vec<PeerAddress>,
    },
    /// Enter a room, leaving the present one if there is one.
    Join {
        /// Which.
        room: RoomId,
        /// Whom to ask; is in it and connected.
        via: NodeId,
    },
    /// Nobody here has a room: make one.
    FoundRoom,
}

/// A node as status shows it.
#[derive(Clone, Copy, Debug)]
pub struct KnownPeer<'a> {
    /// Who.
    pub node: NodeId,
    /// Its name; empty while nobody has said it.
    pub name: &'a str,
    /// Where it is, or was last known to be.
    pub address: Option<SocketAddr>,
    /// Whether there is a connection.
    pub connected: bool,
    /// The room it is in, if connected and in one.
    pub room: Option<&'a RoomCard>,
}

/// See the [module](self).
#[derive(Debug)]
pub struct Membership {
    me: NodeId,
    rng: Rng,
    statics: Vec<Static>,
    peers: BTreeMap<NodeId, Peer>,
    room: Option<RoomCard>,
    intent: Intent,
    look: Look,
    joining: Option<Joining>,
    refusals: BTreeMap<RoomId, rooms::Refusals>,
    share_at: Option<LocalTime>,
    /// When another device that announces itself as this one was last looked for.
    twin_looked: Option<LocalTime>,
    outputs: VecDeque<MembershipOutput>,
}

impl Membership {
    /// How much it remembers: nodes with their addresses, and rooms that refused this one.
    #[must_use]
    pub fn size(&self) -> usize {
        let of_peer = |peer: &Peer| 1 + peer.addresses.len() + peer.shared.len();
        let known = self.peers.values().map(of_peer).sum::<usize>();
        known + self.statics.len() + self.refusals.len() + self.outputs.len()
    }

    /// Nobody is known, no room, told nothing.
    #[must_use]
    pub fn new(me: NodeId, seed: u64, now: LocalTime) -> Membership {
        Membership {
            me,
            rng: Rng::new(seed),
            statics: Vec::new(),
            peers: BTreeMap::new(),
            room: None,
            intent: Intent::default(),
            look: Look::begin(now),
            joining: None,
            refusals: BTreeMap::new(),
            share_at: None,
            twin_looked: None,
            outputs: VecDeque::new(),
        }
    }

    /// A peer given by a person: dialled for ever, at 1 s to 30 s.
    pub fn add_static(&mut self, address: SocketAddr) {
        if !self.statics.iter().any(|known| known.address == address) {
            self.statics.push(Static::new(address));
        }
    }

    /// A peer of an earlier time: tried each second five times, then ever more rarely.
    pub fn remember(&mut self, node: NodeId, name: &str, addresses: &[SocketAddr]) {
        let Some(peer) = self.peer(node) else { return };
        peer.is_remembered = true;
        peer.set_name(name);
        peer.add_addresses(addresses);
        peer.schedule.at_once(LocalTime(i64::MIN));
    }

    /// A node announced itself. Its room, if it says so, is worth waiting for.
    pub fn discovered(
        &mut self,
        now: LocalTime,
        announcement: &Announcement,
        addresses: &[SocketAddr],
    ) {
        if announcement.node == self.me {
            return self.look_for_twin(now, addresses);
        }
        let courtesy = self.courtesy(announcement.node, announcement.room.is_some());
        let Some(peer) = self.peer(announcement.node) else { return };
        peer.is_announced = true;
        peer.announces_room = announcement.room.is_some();
        peer.met.get_or_insert(now);
        let news = peer.announced_at(addresses);
        peer.schedule.news(news);
        if news > 0 || peer.schedule.is_backing_off() {
            peer.schedule.at_once(now + courtesy);
        }
    }

    /// Somebody announces itself as this device. The name of a service can be claimed by anyone;
    /// a dial shows whether the key is there, too.
    fn look_for_twin(&mut self, now: LocalTime, addresses: &[SocketAddr]) {
        let waited = self.twin_looked.is_none_or(|at| now - at >= TWIN_LOOK_EVERY);
        if let Some(&address) = addresses.first().filter(|_| waited) {
            self.twin_looked = Some(now);
            self.outputs.push_back(MembershipOutput::Dial { address, node: None });
        }
    }

    /// A node's announcement has run out or was taken back.
    pub fn vanished(&mut self, node: NodeId) {
        if let Some(peer) = self.peers.get_mut(&node) {
            peer.is_announced = false;
        }
        self.forget_if_useless(node);
    }

    /// A connection is up: both sides have said hello.
    pub fn connected(&mut self, now: LocalTime, node: NodeId, address: SocketAddr, hello: &Hello) {
        self.reached(node, address);
        let listening = with_port(address, hello.port);
        let Some(peer) = self.peer(node) else { return };
        peer.set_name(&hello.name);
        if hello.port != 0 {
            peer.prefer_address(listening);
        }
        peer.connected = Some(address);
        peer.schedule.reset();
        peer.shared.clear();
        peer.card.clone_from(&hello.room);
        peer.met = Some(now);
        self.members_may_have_changed(now);
        self.consider_rooms(now);
    }

    /// A connection goes on from another address; the others are told where.
    pub fn moved(&mut self, now: LocalTime, node: NodeId, address: SocketAddr) {
        let Some(peer) = self.peer(node).filter(|peer| peer.connected.is_some()) else { return };
        // It listens where it listened before, whatever port its packets come from.
        let port = peer.addresses.front().map_or(address.port(), SocketAddr::port);
        peer.prefer_address(with_port(address, port));
        peer.connected = Some(address);
        self.members_may_have_changed(now);
    }

    /// A connection is gone; it is dialled again.
    pub fn lost(&mut self, now: LocalTime, node: NodeId) {
        self.disconnected(now, node, Schedule::after_loss);
    }

    /// A peer leaves on purpose: it is not dialled again for a while, unless it announces
    /// itself anew.
    pub fn bye(&mut self, now: LocalTime, node: NodeId) {
        self.disconnected(now, node, Schedule::after_bye);
    }

    /// An attempt to connect has failed.
    pub fn dial_failed(&mut self, now: LocalTime, address: SocketAddr, node: Option<NodeId>) {
        let draw = self.rng.unit();
        for known in self.statics.iter_mut().filter(|known| known.address == address) {
            known.schedule.failed(now, draw, 1);
        }
        let Some(node) = node else { return };
        if let Some(peer) = self.peers.get_mut(&node).filter(|peer| peer.connected.is_none()) {
            peer.schedule.failed(now, draw, peer.addresses.len());
        }
        self.forget_if_useless(node);
    }

    /// A peer's room changed.
    pub fn card_received(&mut self, now: LocalTime, node: NodeId, card: Option<RoomCard>) {
        let Some(peer) = self.peers.get_mut(&node).filter(|peer| peer.connected.is_some()) else {
            return;
        };
        peer.card = card;
        self.members_may_have_changed(now);
        self.consider_rooms(now);
    }

    /// A member told where others are.
    pub fn peers_received(&mut self, now: LocalTime, peers: Vec<PeerAddress>) {
        for heard in peers.into_iter().take(limits::MAX_MEMBERS) {
            // Only members are told of, so that is where there is a room.
            let courtesy = self.courtesy(heard.node, true);
            let room = self.peers.len() < book::MAX_HEARSAY || self.peers.contains_key(&heard.node);
            let Some(peer) = room.then(|| self.peer(heard.node)).flatten() else { continue };
            if peer.name.is_empty() {
                peer.set_name(&heard.name);
            }
            if peer.add_addresses(&heard.addresses) {
                peer.schedule.at_once(now + courtesy);
            }
        }
    }

    /// Tells two connected nodes where the other one is: one wants into the room that the other
    /// coordinates, and may know nobody there but this node.
    pub fn introduce(&mut self, one: NodeId, other: NodeId) {
        for (to, about) in [(one, other), (other, one)] {
            let entry = self.peers.get(&about).and_then(|peer| peer.to_share(about));
            if let Some(entry) = entry {
                self.output(MembershipOutput::SharePeers { to, peers: vec![entry] });
            }
        }
    }

    /// The room that this node is in now, or none. Called whenever anything on its card
    /// changes.
    pub fn set_room(&mut self, now: LocalTime, card: Option<RoomCard>) {
        let (before, after) = (self.room.as_ref().map(|c| c.id), card.as_ref().map(|c| c.id));
        self.room = card;
        if before != after {
            self.room_changed(now);
            for peer in self.peers.values_mut() {
                peer.shared.clear();
            }
            self.members_may_have_changed(now);
        }
        self.consider_rooms(now);
    }

    /// That node was kept from what it was told so far: it is told again.
    pub fn share_again(&mut self, now: LocalTime, node: NodeId) {
        if let Some(peer) = self.peers.get_mut(&node) {
            peer.shared.clear();
        }
        self.members_may_have_changed(now);
    }

    /// What a person wants.
    pub fn set_intent(&mut self, now: LocalTime, intent: Intent) {
        if self.intent != intent {
            self.intent = intent;
            self.joining = None;
            self.refusals.clear();
            self.look = Look::begin(now);
        }
        self.consider_rooms(now);
    }

    /// What a person wants.
    #[must_use]
    pub fn intent(&self) -> Intent {
        self.intent
    }

    /// The room did not let this node in, or could not be reached: another member is asked,
    /// then again after a while. Not calling this costs 2 s.
    pub fn join_failed(&mut self, now: LocalTime, room: RoomId) {
        if self.joining.as_ref().is_some_and(|joining| joining.room == room) {
            self.give_up_joining(now);
            self.consider_rooms(now);
        }
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: LocalTime) {
        self.dial_due(now);
        if self.share_at.is_some_and(|at| now >= at) {
            self.share_at = None;
            self.share();
        }
        if self.joining.as_ref().is_some_and(|joining| now >= joining.until) {
            self.give_up_joining(now);
        }
        self.consider_rooms(now);
    }

    /// When [`handle_timeout`](Membership::handle_timeout) is due next.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<LocalTime> {
        let dials = self.peers.values().filter_map(Peer::dial_at);
        let statics = self.statics.iter().filter_map(|known| self.static_dial_at(known));
        dials.chain(statics).chain(self.share_at).chain(self.room_timeout()).min()
    }

    /// What is to be done next, in order.
    pub fn poll_output(&mut self) -> Option<MembershipOutput> {
        self.outputs.pop_front()
    }

    /// Every node that is known, by id.
    pub fn peers(&self) -> impl Iterator<Item = KnownPeer<'_>> {
        self.peers.iter().map(|(&node, peer)| KnownPeer {
            node,
            name: &peer.name,
            address: peer.connected.or_else(|| peer.addresses.front().copied()),
            connected: peer.connected.is_some(),
            room: peer.card.as_ref(),
        })
    }

    /// Every room in reach, this node's own included, by id. Where members differ, the card
    /// of the highest term is taken, then the one that counts most devices.
    #[must_use]
    pub fn rooms(&self) -> Vec<&RoomCard> {
        let mut best: BTreeMap<RoomId, &RoomCard> = BTreeMap::new();
        let cards = self.peers.values().filter_map(|peer| peer.card.as_ref());
        for card in cards.chain(self.room.as_ref()) {
            let held = best.entry(card.id).or_insert(card);
            if (card.term, card.devices) > (held.term, held.devices) {
                *held = card;
            }
        }
        best.into_values().collect()
    }

    fn output(&mut self, output: MembershipOutput) {
        self.outputs.push_back(output);
    }

    fn members_may_have_changed(&mut self, now: LocalTime) {
        if self.room.is_some() {
            self.share_at.get_or_insert(now + SHARE_DELAY);
        }
    }

    /// Those of this node's room that are connected.
    fn fellow_members(&self) -> Vec<NodeId> {
        let Some(room) = self.room.as_ref().map(|card| card.id) else { return Vec::new() };
        let here = |peer: &Peer| peer.card.as_ref().is_some_and(|card| card.id == room);
        self.peers.iter().filter(|(_, peer)| here(peer)).map(|(&node, _)| node).collect()
    }

    /// Tells each member of the room what it has not been told yet.
    fn share(&mut self) {
        let members = self.fellow_members();
        let entries: BTreeMap<NodeId, PeerAddress> = members
            .iter()
            .filter_map(|node| Some((*node, self.peers.get(node)?.to_share(*node)?)))
            .collect();
        for &to in &members {
            self.share_with(to, &entries);
        }
    }

    fn share_with(&mut self, to: NodeId, entries: &BTreeMap<NodeId, PeerAddress>) {
        let Some(peer) = self.peers.get_mut(&to) else { return };
        let known: &mut BTreeSet<(NodeId, SocketAddr)> = &mut peer.shared;
        let mut news: Vec<PeerAddress> = Vec::new();
        for (&node, entry) in entries.iter().filter(|&(&node, _)| node != to) {
            if known.insert((node, entry.addresses[0])) {
                news.push(entry.clone());
            }
        }
        for part in news.chunks(SHARED_PEERS) {
            self.output(MembershipOutput::SharePeers { to, peers: part.to_vec() });
        }
    }
}

/// The same place at another port; of IPv6 with the link that it is on.
fn with_port(mut address: SocketAddr, port: u16) -> SocketAddr {
    address.set_port(port);
    address
}
