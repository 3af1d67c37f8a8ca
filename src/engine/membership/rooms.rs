//! Which room to be in.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use super::{Intent, Membership, MembershipOutput};
use crate::base::{LocalTime, NodeId, RoomId, Span};
use crate::wire::RoomCard;

/// Before anything is founded: mDNS answers within a second on a working network.
const LOOK: Span = Span::from_secs(1);

/// Longer, if somebody announces a room but is not connected yet.
const LOOK_FOR_ANNOUNCED: Span = Span::from_secs(3);

/// Of several nodes without a room only the smallest founds at once. The others give it this
/// long, and more the greater they are, in case it cannot.
const YIELD: Span = Span::from_millis(300);
const YIELD_STEP: Span = Span::from_millis(50);
const YIELD_DRAW: Span = Span::from_millis(100);
const YIELD_MAX: Span = Span::from_secs(1);

/// A founding or a joining of which nothing is heard for this long has failed.
const PATIENCE: Span = Span::from_secs(2);

/// After every member has refused; doubles up to [`REFUSED_MAX`].
const REFUSED: Span = Span::from_millis(500);
const REFUSED_MAX: Span = Span::from_secs(16);

/// Since when this node has been without a room.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    began: LocalTime,
    /// Set once this node was asked to found: until when to wait for the result.
    founding_until: Option<LocalTime>,
}

/// A room that is being entered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Joining {
    pub room: RoomId,
    pub via: NodeId,
    pub until: LocalTime,
}

/// How a room has refused this node.
#[derive(Clone, Debug, Default)]
pub(super) struct Refusals {
    by: BTreeSet<NodeId>,
    rounds: u32,
    not_before: Option<LocalTime>,
}

impl Look {
    pub fn begin(now: LocalTime) -> Look {
        Look { began: now, founding_until: None }
    }
}

impl Membership {
    /// Joins what should be joined, founds what should be founded. Asked again after every
    /// change; does nothing while a joining is under way.
    pub(super) fn consider_rooms(&mut self, now: LocalTime) {
        self.forgive(now);
        if self.joining.is_some() {
            return;
        }
        if let Some(room) = self.wanted_room() {
            self.join(now, room);
        } else if self.found_at().is_some_and(|at| now >= at) {
            self.look.founding_until = Some(now + PATIENCE);
            self.output(MembershipOutput::FoundRoom);
        }
    }

    pub(super) fn room_changed(&mut self, now: LocalTime) {
        match self.room.as_ref().map(|card| card.id) {
            Some(id) => {
                self.joining = None;
                self.refusals.remove(&id);
            }
            None => self.look = Look::begin(now),
        }
    }

    /// The member that was asked did not let this node in. The next one is asked at once;
    /// when all have refused, there is a pause.
    pub(super) fn give_up_joining(&mut self, now: LocalTime) {
        let Some(Joining { room, via, .. }) = self.joining.take() else { return };
        let in_reach = self.members_of(room);
        let rooms: BTreeSet<RoomId> = self.rooms().iter().map(|card| card.id).collect();
        self.refusals.retain(|id, _| rooms.contains(id));
        let refusals = self.refusals.entry(room).or_default();
        refusals.by.insert(via);
        if in_reach.iter().all(|node| refusals.by.contains(node)) {
            refusals.by.clear();
            let pause = Span(REFUSED.0 << refusals.rounds.min(5)).min(REFUSED_MAX);
            refusals.rounds = refusals.rounds.saturating_add(1);
            refusals.not_before = Some(now + pause);
        }
    }

    /// The member that was asked says that it will take so long.
    pub fn join_waits(&mut self, until: LocalTime, room: RoomId) {
        if let Some(joining) = self.joining.as_mut().filter(|joining| joining.room == room) {
            joining.until = joining.until.later(until);
        }
    }

    pub(super) fn room_timeout(&self) -> Option<LocalTime> {
        if let Some(joining) = &self.joining {
            return Some(joining.until);
        }
        let forgiven = self.refusals.values().filter_map(|refusals| refusals.not_before);
        forgiven.chain(self.found_at()).min()
    }

    fn forgive(&mut self, now: LocalTime) {
        for refusals in self.refusals.values_mut() {
            if refusals.not_before.is_some_and(|at| now >= at) {
                refusals.not_before = None;
            }
        }
    }

    /// The room to enter instead of the present one, if any.
    fn wanted_room(&self) -> Option<RoomId> {
        let present = self.room.as_ref();
        let others: Vec<&RoomCard> = self
            .rooms()
            .into_iter()
            .filter(|card| Some(card.id) != present.map(|own| own.id))
            .filter(|card| !self.is_refused(card.id) && !self.members_of(card.id).is_empty())
            .collect();
        match (self.intent, present) {
            (Intent::Room(id), Some(own)) if own.id == id => None,
            (Intent::Room(id), _) => others.iter().map(|card| card.id).find(|&found| found == id),
            (Intent::Alone, _) => None,
            (Intent::Anywhere, Some(own)) if !own.unclaimed => None,
            (Intent::Anywhere, own) => better_room(&others, own),
        }
    }

    fn is_refused(&self, room: RoomId) -> bool {
        self.refusals.get(&room).is_some_and(|refusals| refusals.not_before.is_some())
    }

    fn join(&mut self, now: LocalTime, room: RoomId) {
        let Some(via) = self.door(room) else { return };
        self.joining = Some(Joining { room, via, until: now + PATIENCE });
        self.output(MembershipOutput::Join { room, via });
    }

    /// The member to ask: the coordinator if it is connected, else the smallest that has not
    /// refused yet.
    fn door(&self, room: RoomId) -> Option<NodeId> {
        let refused = self.refusals.get(&room);
        let members = self.members_of(room);
        let mut willing =
            members.iter().copied().filter(|node| refused.is_none_or(|r| !r.by.contains(node)));
        let coordinates = |node: &NodeId| {
            let card = self.peers.get(node).and_then(|peer| peer.card.as_ref());
            card.is_some_and(|card| card.coordinator == Some(*node))
        };
        willing.clone().find(coordinates).or_else(|| willing.next()).or(members.first().copied())
    }

    /// Connected members of a room.
    fn members_of(&self, room: RoomId) -> Vec<NodeId> {
        let inside = |card: &RoomCard| card.id == room;
        self.peers
            .iter()
            .filter(|(_, peer)| peer.connected.is_some() && peer.card.as_ref().is_some_and(inside))
            .map(|(&node, _)| node)
            .collect()
    }

    /// When to found a room, if nothing else happens; none if this node should not.
    fn found_at(&self) -> Option<LocalTime> {
        if self.room.is_some() || self.intent != Intent::Anywhere {
            return None;
        }
        if self.look.founding_until.is_some() {
            return self.look.founding_until;
        }
        let awaited = |peer: &super::Peer| peer.is_announced && peer.announces_room;
        let is_awaited = self.peers.values().any(|peer| peer.connected.is_none() && awaited(peer));
        let look = if is_awaited { LOOK_FOR_ANNOUNCED } else { LOOK };
        Some(self.look.began + look + self.precedence())
    }

    /// How long to leave the founding to smaller nodes that have no room either.
    fn precedence(&self) -> Span {
        let homeless = |peer: &super::Peer| {
            let is_here = peer.connected.is_some() || (peer.is_announced && !peer.announces_room);
            is_here && peer.card.is_none()
        };
        let before_me = self.peers.range(..self.me).filter(|(_, peer)| homeless(peer)).count();
        if before_me == 0 {
            return Span::ZERO;
        }
        let steps = YIELD_STEP.0 * i64::try_from(before_me).unwrap_or(i64::MAX / 2).min(20);
        (YIELD + Span(steps) + self.jitter()).min(YIELD_MAX)
    }

    /// The same each time it is asked during one look, another on every node.
    fn jitter(&self) -> Span {
        let seed = u64::from(self.me.0[0]) << 8 | u64::from(self.me.0[1]);
        Span(YIELD_DRAW.0 * i64::try_from(seed % 64).unwrap_or(0) / 64)
    }
}

/// Where most are, if somebody has acted there; else the room with the smallest id, which all
/// nodes find to be the same one.
fn better_room(others: &[&RoomCard], own: Option<&RoomCard>) -> Option<RoomId> {
    let open = || others.iter().filter(|card| !card.locked);
    let claimed = open().filter(|card| !card.unclaimed);
    if let Some(card) = claimed.min_by_key(|card| (Reverse(card.devices), card.id)) {
        return Some(card.id);
    }
    let smallest = open().filter(|card| card.unclaimed).map(|card| card.id).min()?;
    own.is_none_or(|own| smallest < own.id).then_some(smallest)
}
