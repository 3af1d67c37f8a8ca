//! Who hears and says what while the room is locked: members, and those who have shown that they
//! may come in. Everybody else learns that there is a locked room, and can ask to be let in.
//!
//! One rule on the way out and one on the way in; both know every kind of message, so that a new
//! one is kept from strangers until somebody decides otherwise.

use std::collections::BTreeSet;

use super::{LocalTime, Message, Node, NodeId, Output, RoomCard, UserId};
use crate::base::limits::MAX_MEMBERS;
use crate::base::{Span, Term};
use crate::wire::op::{Admission, Op, OpBody, Subject};
use crate::wire::{Refusal, codec};

/// Between two times that somebody who was sent out is told so.
const TELL_OUT_EVERY: Span = Span::from_secs(5);

/// In one message.
const MAX_TOLD_OUT: usize = 16;

impl Node {
    /// Whether the room asks for a password, or is about to.
    pub(super) fn is_locked(&self) -> bool {
        let lock = self.room.as_ref().and_then(|room| room.state().lock());
        lock.is_some() || self.door.locking.is_some()
    }

    /// Whether the room is open, or that node is inside or may come in.
    pub(super) fn lets_in(&self, node: NodeId) -> bool {
        !self.is_locked() || self.is_member(node) || self.has_proven(node) || self.is_vouched(node)
    }

    fn has_proven(&self, node: NodeId) -> bool {
        let epoch = self.room.as_ref().map(|room| room.state().lock_epoch());
        self.peers.get(&node).is_some_and(|peer| peer.proven.is_some() && peer.proven == epoch)
    }

    /// A member, who could let anybody in, says that this node coordinates: it joined in another
    /// half of the room.
    fn is_vouched(&self, node: NodeId) -> bool {
        let names =
            |card: &RoomCard| Some(card.id) == self.room_id() && card.coordinator == Some(node);
        let mut members = self.peers.iter().filter(|(member, _)| self.is_member(**member));
        members.any(|(_, peer)| peer.room.as_ref().is_some_and(names))
    }

    /// The way out.
    pub(super) fn may_hear(&self, to: NodeId, message: &Message) -> bool {
        let is_for_all = match message {
            Message::Hello(_)
            | Message::Card(_)
            | Message::Bye
            | Message::Join(_)
            | Message::Proposed { outcome: Err(_), .. }
            // Between people, wherever they are; they prove themselves to each other.
            | Message::Friend(_)
            | Message::Pair(_) => true,
            // What became of its own operation, though that was a good-bye and it is out by it.
            Message::Proposed { id, .. } => id.author == to,
            // To take a step back out of another room, which this one knows nothing of.
            Message::Propose(op) => Some(op.room) != self.room_id(),
            // To be told that one is out, see `tell_who_is_out`.
            Message::Orphans { ops, .. } => ops.iter().all(is_sending_out),
            other => is_about_entering(other),
        };
        is_for_all || self.lets_in(to)
    }

    /// The way in.
    pub(super) fn may_say(&self, from: NodeId, message: &Message) -> bool {
        let joins = |room| self.joining.as_ref().is_some_and(|joining| joining.is_for(room));
        let is_for_all = match message {
            Message::Hello(_)
            | Message::Card(_)
            | Message::Bye
            | Message::Join(_)
            | Message::Friend(_)
            | Message::Pair(_) => true,
            // From the room into which this node moves.
            Message::Peers(_) => self.joining.is_some(),
            Message::Proposed { id, .. } => self.is_join(*id) || self.is_farewell(*id),
            // Whoever is let in no more, or not yet, may still say that it went.
            Message::Propose(op) => op.id.author == from && is_leaving(op),
            Message::Snapshot(snapshot) => joins(codec::room_id(&snapshot.genesis)),
            other => is_about_entering(other),
        };
        is_for_all || self.lets_in(from)
    }

    /// What strangers see of our room: of a locked one that it is there.
    pub(super) fn card_for_strangers(&self) -> Option<RoomCard> {
        let card = self.shown_card.clone()?;
        if !self.is_locked() {
            return Some(card);
        }
        let announced = self.room.as_ref()?.state().settings().announce_name;
        Some(RoomCard {
            id: card.id,
            name: if announced { card.name } else { String::new() },
            code: String::new(),
            locked: true,
            unclaimed: false,
            devices: 0,
            coordinator: None,
            term: Term::ZERO,
            playing: None,
        })
    }

    pub(super) fn card_for(&self, peer: NodeId) -> Option<RoomCard> {
        if self.lets_in(peer) { self.shown_card.clone() } else { self.card_for_strangers() }
    }

    /// That node has shown that it may come in, for as long as its connection lasts.
    pub(super) fn let_in(&mut self, now: LocalTime, node: NodeId) {
        let epoch = self.room.as_ref().map(|room| room.state().lock_epoch());
        if let Some(peer) = self.peers.get_mut(&node) {
            peer.proven = epoch;
        }
        self.look_at_gate(now);
    }

    /// Another member's word for `node`, if it stands.
    pub(super) fn is_admitted(&self, node: NodeId, admission: &Admission) -> bool {
        self.room.as_ref().is_some_and(|room| room.state().admits(&node, admission))
    }

    /// Whether the room keeps that device out, or the person whose it was when it was last inside.
    pub(super) fn is_kept_out(&self, now: LocalTime, node: NodeId) -> bool {
        self.check_not_out(now, node).is_err()
    }

    /// The same, with what the device's person is told.
    pub(super) fn check_not_out(&self, now: LocalTime, node: NodeId) -> Result<(), Refusal> {
        let (at, Some(room)) = (self.room_now(now), &self.room) else { return Ok(()) };
        let user = self.door.users.get(&node).map(|user| Subject::Person(*user));
        let mut subjects = [Subject::Device(node)].into_iter().chain(user);
        subjects.try_for_each(|subject| room.state().check_not_out(subject, at))
    }

    /// Tells those who may see more of the room than before, or less, what they see now; and the
    /// network whom to give pieces of files.
    pub(super) fn look_at_gate(&mut self, now: LocalTime) {
        self.note_users();
        let changed = |(node, peer): (&NodeId, &super::Peer)| {
            let inside = self.lets_in(*node);
            (inside != peer.sees_inside).then_some((*node, inside))
        };
        let changed = self.peers.iter().filter_map(changed).collect::<Vec<_>>();
        for (node, inside) in changed {
            if let Some(peer) = self.peers.get_mut(&node) {
                peer.sees_inside = inside;
            }
            let card = self.card_for(node);
            self.send(node, Message::Card(card));
            if inside {
                self.membership.share_again(now, node);
            }
        }
        let admitted = self.is_locked().then(|| {
            let inside = self.peers.keys().filter(|node| self.lets_in(**node));
            inside.copied().collect::<BTreeSet<_>>()
        });
        if admitted != self.door.admitted {
            self.door.admitted.clone_from(&admitted);
            self.outputs.push_back(Output::Admit(admitted));
        }
    }

    /// As coordinator: whoever was sent out while it was in another half of the room would never
    /// hear of it, since nobody inside talks to it any more. It is given the owner's own signed
    /// word, to be ordered and obeyed there. What was voted ends with its time.
    pub(super) fn tell_who_is_out(&mut self, now: LocalTime) {
        let Some(room) = self.room.as_ref().filter(|_| self.is_locked() && self.is_coordinator())
        else {
            return;
        };
        let id = room.id();
        let stays = |(node, peer): (&NodeId, &super::Peer)| {
            let is_here = peer.room.as_ref().is_some_and(|card| card.id == id);
            let is_due = peer.told_out.is_none_or(|told| now - told >= TELL_OUT_EVERY);
            (is_here && is_due && !self.lets_in(*node) && self.is_kept_out(now, *node))
                .then_some(*node)
        };
        let out = self.peers.iter().filter_map(stays).collect::<Vec<_>>();
        if out.is_empty() {
            return;
        }
        // Two who were sent out may follow each other: each is told of both.
        let mut ops = Vec::new();
        for node in &out {
            let user = self.door.users.get(node).map(|user| Subject::Person(*user));
            let concerns = |op: &Op| {
                subject_out(op).is_some_and(|s| s == Subject::Device(*node) || Some(s) == user)
            };
            let last = room.log().entries().filter(|entry| concerns(&entry.op)).last();
            ops.extend(last.map(|entry| entry.op.clone()));
        }
        ops.truncate(MAX_TOLD_OUT);
        for node in out {
            if let Some(peer) = self.peers.get_mut(&node) {
                peer.told_out = Some(now);
            }
            if !ops.is_empty() {
                self.send(node, Message::Orphans { room: id, ops: ops.clone() });
            }
        }
    }

    /// Remembers whose devices are inside, so that one that is sent out with its person is known.
    fn note_users(&mut self) {
        let Some(room) = self.room.as_ref().filter(|room| room.state().lock().is_some()) else {
            return self.door.users.clear();
        };
        let members = room.state().members().iter();
        let users = members.filter_map(|(node, member)| Some((*node, member.user?)));
        self.door.users.extend(users.collect::<Vec<(NodeId, UserId)>>());
        while self.door.users.len() > 2 * MAX_MEMBERS {
            self.door.users.pop_first();
        }
    }
}

/// Whom an operation sends out.
fn subject_out(op: &Op) -> Option<Subject> {
    match codec::decode_body(op) {
        Ok(OpBody::Kick { subject } | OpBody::Ban { subject }) => Some(subject),
        _ => None,
    }
}

fn is_sending_out(op: &Op) -> bool {
    subject_out(op).is_some()
}

pub(super) fn is_leaving(op: &Op) -> bool {
    matches!(codec::decode_body(op), Ok(OpBody::Leave))
}

/// What is said at the door, by either side.
fn is_about_entering(message: &Message) -> bool {
    matches!(
        message,
        Message::PakeStart { .. }
            | Message::PakeAnswer { .. }
            | Message::PakeConfirm { .. }
            | Message::PakeLater { .. }
            | Message::PakeRefused { .. }
            | Message::Admitted { .. }
            | Message::Show { .. }
            | Message::Seek { .. }
            | Message::Found { .. }
    )
}
