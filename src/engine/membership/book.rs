//! The address book: where every known node may be, and when it is dialled next.

use std::collections::{BTreeSet, VecDeque};
use std::net::SocketAddr;

use super::{Membership, MembershipOutput, SHARED_ADDRESSES};
use crate::base::{LocalTime, NodeId, Span, limits};
use crate::wire::RoomCard;
use crate::wire::message::PeerAddress;

/// Nodes known in all. Twice as many as a room holds, for the other rooms on the network.
pub(super) const MAX_PEERS: usize = 2 * limits::MAX_MEMBERS;

/// Nodes known, beyond which hearsay is no longer believed: a member that invents nodes
/// cannot push out those that announce themselves.
pub(super) const MAX_HEARSAY: usize = limits::MAX_MEMBERS;

/// An attempt of which nothing is heard for this long is counted as failed.
const DIAL_TIMEOUT: Span = Span::from_secs(10);

/// Tries a second apart before the pauses grow.
const QUICK_TRIES: u32 = 5;

/// Longest pause between tries.
const MAX_PAUSE_S: i64 = 30;

/// Failed tries after which a node is forgotten that nobody remembers or announces.
const HEARSAY_TRIES: u32 = 12;

/// How long the node with the greater id lets the other dial first: of two connections only
/// the one dialled by the smaller id would stay.
const COURTESY: Span = Span::from_millis(250);

/// A node that said goodbye is left alone for this long.
const AFTER_BYE: Span = Span::from_secs(10);

/// What is known of another node.
#[derive(Debug, Default)]
pub(super) struct Peer {
    pub name: String,
    /// Most recent first.
    pub addresses: VecDeque<SocketAddr>,
    /// Where it was reached last.
    met_at: Option<SocketAddr>,
    /// The address of the connection.
    pub connected: Option<SocketAddr>,
    pub card: Option<RoomCard>,
    /// Dialled as long as this or the next is true.
    pub is_announced: bool,
    pub is_remembered: bool,
    pub announces_room: bool,
    /// When it was first announced or connected.
    pub met: Option<LocalTime>,
    pub schedule: Schedule,
    /// Which address of whom it was told.
    pub shared: BTreeSet<(NodeId, SocketAddr)>,
}

/// A peer given by a person.
#[derive(Debug)]
pub(super) struct Static {
    pub address: SocketAddr,
    /// Who answered there.
    pub node: Option<NodeId>,
    pub schedule: Schedule,
}

/// When to dial.
#[derive(Clone, Copy, Debug)]
pub(super) struct Schedule {
    next: LocalTime,
    is_dialling: bool,
    /// Which address comes next.
    turn: usize,
    /// Times that all addresses have failed.
    failures: u32,
    /// A better address has come up during a dial; once a round, so that the others come, too.
    begins_again: bool,
    has_begun_again: bool,
}

impl Default for Schedule {
    fn default() -> Schedule {
        Schedule {
            next: LocalTime(i64::MIN),
            is_dialling: false,
            turn: 0,
            failures: 0,
            begins_again: false,
            has_begun_again: false,
        }
    }
}

impl Schedule {
    pub fn reset(&mut self) {
        *self = Schedule::default();
    }

    pub fn at_once(&mut self, at: LocalTime) {
        if !self.is_dialling {
            *self = Schedule { next: at, ..Schedule::default() };
        }
    }

    /// So many new addresses stand first: they come after the dial under way, if there is one.
    pub fn news(&mut self, addresses: usize) {
        if self.is_dialling && !self.has_begun_again {
            (self.begins_again, self.has_begun_again) = (true, true);
        } else if self.is_dialling && !self.begins_again {
            self.turn += addresses;
        }
    }

    pub fn is_backing_off(&self) -> bool {
        self.failures > 0
    }

    /// A connection broke: the first try may already succeed.
    pub fn after_loss(now: LocalTime) -> Schedule {
        Schedule { next: now + COURTESY, ..Schedule::default() }
    }

    pub fn after_bye(now: LocalTime) -> Schedule {
        Schedule { next: now + AFTER_BYE, failures: QUICK_TRIES, ..Schedule::default() }
    }

    fn dialled(&mut self, now: LocalTime) {
        self.is_dialling = true;
        self.next = now + DIAL_TIMEOUT;
    }

    /// The next address is tried at once, the first one again after a pause.
    pub fn failed(&mut self, now: LocalTime, draw: f64, addresses: usize) {
        self.is_dialling = false;
        self.turn = if std::mem::take(&mut self.begins_again) { 0 } else { self.turn + 1 };
        self.next = now;
        if self.turn >= addresses.max(1) {
            self.turn = 0;
            self.has_begun_again = false;
            self.failures = self.failures.saturating_add(1);
            self.next = now + pause(self.failures, draw);
        }
    }
}

/// A second, five times, then doubling up to half a minute; a quarter of it is drawn.
fn pause(failures: u32, draw: f64) -> Span {
    let doublings = failures.saturating_sub(QUICK_TRIES).min(5);
    let seconds = (1_i64 << doublings).min(MAX_PAUSE_S);
    let pause = Span::from_secs(seconds);
    pause + Span::from_secs_f64(pause.as_secs_f64() * 0.25 * draw)
}

impl Static {
    pub fn new(address: SocketAddr) -> Static {
        Static { address, node: None, schedule: Schedule::default() }
    }
}

impl Peer {
    pub fn set_name(&mut self, name: &str) {
        self.name = name.chars().take(limits::MAX_NAME).collect();
    }

    /// As it says itself, so new ones come first, and the oldest make way. How many were new.
    pub fn announced_at(&mut self, addresses: &[SocketAddr]) -> usize {
        // What works at the moment stays before all.
        let front = usize::from(self.connected.is_some()).min(self.addresses.len());
        let mut news = 0;
        for &address in addresses.iter().take(limits::MAX_ADDRESSES).rev() {
            if is_dialable(address) && !self.addresses.contains(&address) {
                self.addresses.insert(front, address);
                news += 1;
            }
        }
        self.addresses.truncate(limits::MAX_ADDRESSES);
        // Anybody can announce in its name; where it was met, it was.
        if let Some(met) = self.met_at.filter(|met| !self.addresses.contains(met)) {
            self.addresses.pop_back();
            self.addresses.push_back(met);
        }
        news
    }

    /// By hearsay. Whether any of them was new. Those that nobody can listen at are left out.
    pub fn add_addresses(&mut self, addresses: &[SocketAddr]) -> bool {
        let before = self.addresses.len();
        for &address in addresses.iter().take(limits::MAX_ADDRESSES) {
            let full = self.addresses.len() >= limits::MAX_ADDRESSES;
            if is_dialable(address) && !full && !self.addresses.contains(&address) {
                self.addresses.push_back(address);
            }
        }
        self.addresses.len() > before
    }

    /// The address that has just worked comes first.
    pub fn prefer_address(&mut self, address: SocketAddr) {
        self.met_at = Some(address);
        self.addresses.retain(|&known| known != address);
        self.addresses.push_front(address);
        self.addresses.truncate(limits::MAX_ADDRESSES);
    }

    pub fn dial_at(&self) -> Option<LocalTime> {
        let wanted = self.connected.is_none() && !self.addresses.is_empty();
        wanted.then_some(self.schedule.next)
    }

    pub fn to_share(&self, node: NodeId) -> Option<PeerAddress> {
        // Which link is meant is known to this device only, and does not travel.
        let far_known = self.addresses.iter().copied().filter(|a| !is_link_local(*a));
        let addresses: Vec<SocketAddr> = far_known.take(SHARED_ADDRESSES).collect();
        let name = self.name.clone();
        (!addresses.is_empty()).then_some(PeerAddress { node, name, addresses })
    }

    fn is_useless(&self) -> bool {
        let is_vouched_for = self.is_announced || self.is_remembered || self.connected.is_some();
        !is_vouched_for && self.schedule.failures >= HEARSAY_TRIES
    }
}

/// IPv6 addresses that mean something on one link only.
fn is_link_local(address: SocketAddr) -> bool {
    matches!(address, SocketAddr::V6(v6) if v6.ip().is_unicast_link_local())
}

fn is_dialable(address: SocketAddr) -> bool {
    let ip = address.ip();
    let broadcast = ip == std::net::IpAddr::V4(std::net::Ipv4Addr::BROADCAST);
    // Without its link a link-local address leads nowhere, and costs a whole time-out.
    let nowhere =
        matches!(address, SocketAddr::V6(v6) if v6.scope_id() == 0) && is_link_local(address);
    address.port() != 0 && !ip.is_unspecified() && !ip.is_multicast() && !broadcast && !nowhere
}

impl Membership {
    /// The entry of a node, made if there is room for another. This node has none.
    pub(super) fn peer(&mut self, node: NodeId) -> Option<&mut Peer> {
        let full = self.peers.len() >= MAX_PEERS && !self.peers.contains_key(&node);
        if node == self.me || full {
            return None;
        }
        Some(self.peers.entry(node).or_default())
    }

    /// How long to let the other side dial first. A node without a room does not wait for
    /// those that have one: music may be playing there.
    pub(super) fn courtesy(&self, node: NodeId, has_room: bool) -> Span {
        let in_a_hurry = has_room && self.room.is_none();
        if self.me < node || in_a_hurry { Span::ZERO } else { COURTESY }
    }

    pub(super) fn forget_if_useless(&mut self, node: NodeId) {
        if self.peers.get(&node).is_some_and(Peer::is_useless) {
            self.peers.remove(&node);
        }
    }

    /// Who answers at an address given by a person; it may be this node itself.
    pub(super) fn reached(&mut self, node: NodeId, address: SocketAddr) {
        for known in self.statics.iter_mut().filter(|known| known.address == address) {
            known.node = Some(node);
            known.schedule.reset();
        }
    }

    pub(super) fn disconnected(
        &mut self,
        now: LocalTime,
        node: NodeId,
        schedule: fn(LocalTime) -> Schedule,
    ) {
        for known in self.statics.iter_mut().filter(|known| known.node == Some(node)) {
            known.schedule = schedule(now);
        }
        let Some(peer) = self.peers.get_mut(&node) else { return };
        peer.connected = None;
        peer.card = None;
        peer.announces_room = false;
        peer.schedule = schedule(now);
        self.consider_rooms(now);
    }

    /// Nobody dials himself, nor whoever is connected already.
    pub(super) fn static_dial_at(&self, known: &Static) -> Option<LocalTime> {
        let is_up = |node| node == self.me || self.is_connected(node);
        (!known.node.is_some_and(is_up)).then_some(known.schedule.next)
    }

    pub(super) fn is_connected(&self, node: NodeId) -> bool {
        self.peers.get(&node).is_some_and(|peer| peer.connected.is_some())
    }

    pub(super) fn dial_due(&mut self, now: LocalTime) {
        let due: Vec<NodeId> = self
            .peers
            .iter()
            .filter(|(_, peer)| peer.dial_at().is_some_and(|at| now >= at))
            .map(|(&node, _)| node)
            .collect();
        for node in due {
            self.dial(now, node);
        }
        for place in 0..self.statics.len() {
            self.dial_static(now, place);
        }
    }

    fn dial(&mut self, now: LocalTime, node: NodeId) {
        let draw = self.rng.unit();
        let Some(peer) = self.peers.get_mut(&node) else { return };
        let tries = peer.addresses.len();
        if peer.schedule.is_dialling {
            peer.schedule.failed(now, draw, tries);
            return;
        }
        let Some(&address) = peer.addresses.get(peer.schedule.turn % tries.max(1)) else { return };
        peer.schedule.dialled(now);
        self.output(MembershipOutput::Dial { address, node: Some(node) });
    }

    fn dial_static(&mut self, now: LocalTime, place: usize) {
        let draw = self.rng.unit();
        let known = &self.statics[place];
        if self.static_dial_at(known).is_none_or(|at| now < at) {
            return;
        }
        let known = &mut self.statics[place];
        if known.schedule.is_dialling {
            known.schedule.failed(now, draw, 1);
            return;
        }
        known.schedule.dialled(now);
        let address = known.address;
        self.output(MembershipOutput::Dial { address, node: None });
    }
}
