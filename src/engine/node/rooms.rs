//! Which room to be in: found, join, come back. How one is left is in `departure.rs`.

use std::collections::BTreeSet;

use super::KnownRoom;
use super::door::{is_code, is_id};
use super::replication::Replication;
use super::{
    LocalTime, Message, Node, NodeId, Notice, OpId, Output, Peer, RestoredRoom, Room, RoomCard,
    RoomId, Snapshot, Span, Term,
};
use crate::base::limits::MAX_KNOWN_ROOMS;
use crate::base::rng::Rng;
use crate::engine::election::{Election, ElectionConfig};
use crate::engine::membership::Intent;
use crate::engine::room::done_already;
use crate::wire::codec;
use crate::wire::op::{Friendship, Genesis, Op, OpBody, PersonCard};
use crate::wire::{Refusal, RefusalCode};

/// How often an unanswered join is said again.
const JOIN_RETRY: Span = Span::from_millis(500);

/// How long one room is tried before the node looks around again.
const JOIN_TIMEOUT: Span = Span::from_secs(6);

/// A coordinator that is connected speaks to every member within this time: several times what
/// two halves need to find out which of them goes on.
const PASSED_OVER: Span = Span::from_secs(4);

/// The 32 letters and digits that nobody confuses when reading them out loud: without I, L, O
/// and U (Crockford's base 32).
pub(super) const CODE_ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// A join under way.
#[derive(Debug)]
pub(super) struct Joining {
    room: RoomId,
    via: NodeId,
    /// None while the door is yet to be opened.
    op: Option<Op>,
    since: LocalTime,
    said: LocalTime,
    /// The person's own friendship with the room's owner was shown: once is enough.
    has_shown_own: bool,
    /// Devices of a locked room that could not open it.
    pub(super) turned_away: BTreeSet<NodeId>,
}

impl Joining {
    fn new(room: RoomId, via: NodeId, op: Option<Op>, now: LocalTime) -> Joining {
        let (since, said) = (now, now);
        Joining { room, via, op, since, said, has_shown_own: false, turned_away: BTreeSet::new() }
    }
}

/// How a join came to nothing.
#[derive(Debug, Clone, Copy)]
enum JoinEnd {
    /// The room said no.
    Refused,
    /// Nobody of it spoke; it may yet.
    Unanswered,
}

impl Joining {
    pub(super) fn is_for(&self, room: RoomId) -> bool {
        self.room == room
    }
}

impl Node {
    /// Puts a room from the disk back together. Who coordinates is found out by the election.
    pub(super) fn restore(&mut self, now: LocalTime, restored: &RestoredRoom) {
        let room = match Room::restore(&restored.snapshot, &restored.entries) {
            Ok(room) => room,
            Err(error) => {
                tracing::warn!(%error, "the stored room cannot be used; looking for another");
                return;
            }
        };
        if !room.state().unclaimed() {
            self.membership.set_intent(now, Intent::Room(room.id()));
        }
        self.take_up(now, room, restored);
    }

    /// Goes on with a room as the disk had it.
    pub(super) fn take_up(&mut self, now: LocalTime, room: Room, restored: &RestoredRoom) {
        let (term, last) = (room.log().last_term(), room.log().last_idx());
        self.enter(now, room);
        self.replication.is_cold = true;
        self.replication.compacted = restored.snapshot.idx;
        self.replication.disk_has(last);
        for dropped in &restored.dropped {
            self.replication.list_dropped(dropped.clone());
        }
        self.restore_outbox(&restored.outbox);
        self.set_later_entries_aside(now, &restored.entries);
        self.hold(now, restored.position);
        if let Some(election) = &mut self.election {
            election.join(now, term);
        }
        self.refresh_election(now);
        self.refresh_card(now);
    }

    /// Nobody is here: make a room, unless a person said otherwise.
    pub(super) fn found_unattended(&mut self, now: LocalTime) {
        if self.room.is_some() || self.joining.is_some() {
            return;
        }
        let name = self.name.clone();
        self.found(now, name, true);
    }

    /// Makes a room and leads it.
    pub(super) fn found(&mut self, now: LocalTime, name: String, unattended: bool) {
        let mut nonce = [0; 16];
        for chunk in nonce.chunks_mut(8) {
            chunk.copy_from_slice(&self.rng.next_u64().to_le_bytes());
        }
        let genesis = Genesis {
            founder: self.me,
            nonce,
            name,
            code: room_code(&mut self.rng),
            unattended,
            signature: ([0; 32], [0; 32]),
        };
        let room =
            Room::new(genesis.signed(&self.key)).expect("a name within its limit, just signed");
        self.tell(Notice::Founded {
            name: room.state().name().to_owned(),
            code: room.state().code().to_owned(),
        });
        self.enter(now, room);
        self.save_own_room();
        if let Some(election) = &mut self.election {
            election.found(now);
        }
        // Only once the reign has begun can the founder's own joining be ordered.
        self.settle_machines(now);
        self.join_own_room(now);
    }

    fn join_own_room(&mut self, now: LocalTime) {
        let body = self.join_body();
        if let Err(refusal) = self.propose_own(now, None, &body) {
            tracing::error!(%refusal, "the founder cannot join its own room");
        }
    }

    pub(super) fn join_body(&self) -> OpBody {
        let person = self.user.as_ref().map(|user| {
            let id = user.key.user_id();
            PersonCard {
                user: id,
                name: user.name.clone(),
                display: user.display.clone(),
                certificate: user.key.sign(&codec::device_bytes(&id, &self.me)),
            }
        });
        OpBody::Join { name: self.name.clone(), person, admission: None, friendship: None }
    }

    /// The join into a room, with a member's word and the proof that its owner is a friend where
    /// they are known.
    fn join_body_for(&self, room: RoomId) -> OpBody {
        let mut body = self.join_body();
        if let OpBody::Join { admission, friendship, .. } = &mut body {
            *admission = self.pass_for(room);
            *friendship = self.introduction_to(room);
        }
        body
    }

    /// The room into which this node asked to be let by that operation.
    pub(super) fn joining_with(&self, join: OpId) -> Option<RoomId> {
        let joining = self.joining.as_ref().filter(|_| self.is_join(join));
        joining.map(|joining| joining.room)
    }

    /// A join was refused because the room is for friends of its owner. If the owner has turned
    /// out to be one it is said again, with the proof. Whether it was.
    fn join_as_friend(&mut self, refusal: &Refusal) -> bool {
        let Some(joining) = self.joining.as_ref() else { return false };
        let (room, via) = (joining.room, joining.via);
        let said = joining.op.as_ref().map(codec::decode_body);
        let proof = self.friendship_for(room);
        let is_same = |said: &Option<Friendship>| *said == proof;
        let said =
            matches!(said, Some(Ok(OpBody::Join { friendship, .. })) if is_same(&friendship));
        let tried = said || joining.has_shown_own;
        if refusal.code != RefusalCode::NotAllowed || tried || proof.is_none() {
            return false;
        }
        let (id, mut body) = (self.next_op_id(), self.join_body_for(room));
        if let OpBody::Join { friendship, .. } = &mut body {
            *friendship = proof;
        }
        if !self.join_in_other_words(room, via, id, &body) {
            return false;
        }
        if let Some(joining) = &mut self.joining {
            joining.has_shown_own = true;
        }
        true
    }

    /// The joining under way is said again as another operation. Whether it could be.
    fn join_in_other_words(&mut self, room: RoomId, via: NodeId, id: OpId, body: &OpBody) -> bool {
        let Ok(op) = Op::signed(&self.key, room, id, Op::NO_TIME, body) else { return false };
        let via = self.coordinator_of(room).unwrap_or(via);
        self.send(via, Message::Join(op.clone()));
        if let Some(joining) = &mut self.joining {
            joining.op = Some(op);
        }
        true
    }

    /// Takes a room over as the one this node is in.
    fn enter(&mut self, now: LocalTime, room: Room) {
        let config = ElectionConfig {
            me: self.me,
            boot: self.boot,
            room: room.id(),
            seed: self.rng.next_u64(),
        };
        self.replication.reset();
        let id = room.id();
        self.room = Some(room);
        self.unheard.remove(&id);
        self.outputs.push_back(Output::RememberIntent(Intent::Room(id)));
        let mut election = Election::new(config, now);
        election.outlive(self.terms_left.of(id));
        self.election = Some(election);
        self.joining = None;
        self.playback.reset();
        self.door.room_changed();
    }

    /// Writes the room as a whole, as it is now.
    pub(super) fn save_own_room(&mut self) {
        let Some(room) = &self.room else { return };
        match room.snapshot(room.log().last_term()) {
            Ok(snapshot) => {
                self.replication.compacted = room.log().last_idx();
                self.replication.disk_has(0);
                self.outputs.push_back(Output::SaveRoom(Box::new(snapshot)));
            }
            Err(error) => tracing::error!(%error, "the room is too large to be written"),
        }
    }

    /// Writes the room once more, as a whole, with all that is written beside it: the oldest state
    /// that it can be wound back to, and what came since. Of the present state alone nothing could
    /// make way after a restart, and what only this device has ordered would be gone when it met
    /// another half of the room.
    pub(super) fn rewrite(&mut self, id: RoomId) {
        let Some(room) = self.room.as_ref().filter(|room| room.id() == id) else { return };
        match room.base_snapshot() {
            Ok(base) => {
                let entries = room.log().entries().filter(|entry| entry.idx > base.idx);
                let entries = entries.cloned().collect::<Vec<_>>();
                self.replication.compacted = base.idx;
                self.replication.disk_has(0);
                self.outputs.push_back(Output::SaveRoom(Box::new(base)));
                if !entries.is_empty() {
                    self.outputs.push_back(Output::SaveEntries { room: id, entries });
                }
            }
            Err(error) => tracing::error!(%error, "the room is too large to be written"),
        }
        let Replication { covered, outbox, dropped, .. } = &self.replication;
        let ops = covered.iter().chain(outbox.iter()).cloned().collect::<Vec<_>>();
        if !ops.is_empty() {
            self.outputs.push_back(Output::SaveOutbox { room: id, ops });
        }
        for dropped in dropped {
            let dropped = dropped.clone();
            self.outputs.push_back(Output::SaveDropped { room: id, dropped });
        }
        self.playback.past.give_again();
    }

    /// Forgets the room this node is in, without a word to anybody.
    pub(super) fn drop_room(&mut self, now: LocalTime) {
        self.release_everything();
        self.abandon_outbox();
        if let Some((room, election)) = self.room_id().zip(self.election.take()) {
            self.terms_left.note(room, election.term());
        }
        self.room = None;
        self.joining = None;
        self.door.room_changed();
        self.clock.forget();
        self.knew_time = false;
        self.replication.reset();
        self.outputs.push_back(Output::SetClock(None));
        self.outputs.push_back(Output::RememberIntent(Intent::Anywhere));
        self.refresh_card(now);
    }

    /// Membership has found a better place.
    pub(super) fn begin_join(&mut self, now: LocalTime, room: RoomId, via: NodeId) {
        if self.room_id() == Some(room) {
            return;
        }
        // Another member of the same room is asked: the operation stays the same.
        if let Some(joining) = self.joining.as_mut().filter(|joining| joining.room == room) {
            joining.via = via;
            joining.said = now;
            if let Some(op) = joining.op.clone() {
                return self.send(via, Message::Join(op));
            }
        } else {
            self.joining = Some(Joining::new(room, via, None, now));
        }
        // What opens the door is shown before anything is said.
        if let Some(key) = self.key_for(room)
            && self.ask_in(now, via, room, &key)
        {
            return;
        }
        self.say_join(now, room, via);
    }

    /// Says the join of the room that is being entered.
    pub(super) fn say_join(&mut self, now: LocalTime, room: RoomId, via: NodeId) {
        if !self.joining.as_ref().is_some_and(|joining| joining.is_for(room)) {
            return;
        }
        let id = self.next_op_id();
        let body = self.join_body_for(room);
        let op = match Op::signed(&self.key, room, id, Op::NO_TIME, &body) {
            Ok(op) => op,
            Err(error) => {
                tracing::error!(%error, "the room could not be asked to let this device in");
                return;
            }
        };
        self.send(via, Message::Join(op.clone()));
        self.joining = Some(Joining::new(room, via, Some(op), now));
    }

    /// A member of the room that is being entered has many at its door.
    pub(super) fn join_waits(&mut self, now: LocalTime, room: RoomId, wait: Span) {
        let Some(joining) = self.joining.as_mut().filter(|joining| joining.is_for(room)) else {
            return;
        };
        joining.since = now + wait;
        self.membership.join_waits(now + wait + JOIN_TIMEOUT, room);
        self.requests.room_waits(now + wait + JOIN_TIMEOUT);
    }

    pub(super) fn retry_join(&mut self, now: LocalTime) {
        let Some(joining) = &mut self.joining else { return };
        if now - joining.since > JOIN_TIMEOUT {
            let refusal = Refusal::new(
                RefusalCode::JoinFailed,
                "the room could not be entered: nobody there answered",
                "try again; `groovebox rooms` lists the rooms in reach",
            );
            self.abandon_join(now, &refusal, JoinEnd::Unanswered);
        } else if now - joining.said >= JOIN_RETRY {
            joining.said = now;
            let Some(op) = joining.op.clone() else { return };
            let (room, via) = (joining.room, joining.via);
            // The coordinator itself, once we are connected to it, else whoever told us.
            let via = self.coordinator_of(room).unwrap_or(via);
            self.send(via, Message::Join(op));
        }
    }

    /// Asks again to be let in, where the log of those who go on does not have this node: the
    /// half that once let it in gave way. Its own log shows that, or that a coordinator of
    /// this room is here for seconds and does not speak to it.
    pub(super) fn rejoin(&mut self, now: LocalTime) {
        let Some(room) = self.room_id() else { return };
        let Some(coordinator) = self.another_coordinator(room) else {
            self.replication.passed_over_since = None;
            let own = self.coordinator_of(room).filter(|node| *node != self.me);
            if let Some(coordinator) = own.filter(|_| !self.is_member(self.me)) {
                self.say_join_again(now, room, coordinator);
            }
            return;
        };
        let since = *self.replication.passed_over_since.get_or_insert(now);
        if now - since >= PASSED_OVER {
            self.say_join_again(now, room, coordinator);
        }
    }

    fn say_join_again(&mut self, now: LocalTime, room: RoomId, coordinator: NodeId) {
        let waited = self.replication.rejoined.is_none_or(|at| now - at >= JOIN_TIMEOUT);
        if !waited || self.joining.is_some() {
            return;
        }
        self.replication.rejoined = Some(now);
        // The same one is said again: where it has its place already, it gets no other.
        let before = self.replication.asked_again.take();
        let before = before.filter(|(of, op)| *of == coordinator && op.room == room);
        let said = before.map_or_else(
            || {
                let (id, created) = (self.next_op_id(), self.room_now(now));
                Op::signed(&self.key, room, id, created, &self.join_body_for(room))
            },
            |(_, op)| Ok(op),
        );
        match said {
            Ok(op) => {
                self.send(coordinator, Message::Join(op.clone()));
                self.replication.asked_again = Some((coordinator, op));
            }
            Err(error) => {
                tracing::error!(%error, "the room could not be asked to let this device in");
            }
        }
    }

    /// A peer is up: if it coordinates the room that we want into, it can let us in at once.
    pub(super) fn join_through(&mut self, now: LocalTime, peer: NodeId) {
        let Some(joining) = &mut self.joining else { return };
        let room = self.peers.get(&peer).and_then(|peer| peer.room.as_ref());
        if room.is_some_and(|r| r.id == joining.room && r.coordinator == Some(peer)) {
            joining.said = now;
            if let Some(op) = joining.op.clone() {
                self.send(peer, Message::Join(op));
            }
        }
    }

    fn coordinator_of(&self, room: RoomId) -> Option<NodeId> {
        self.coordinators_of(room).next().filter(|node| self.peers.contains_key(node))
    }

    /// One that is connected and neither this node nor the one that it follows.
    fn another_coordinator(&self, room: RoomId) -> Option<NodeId> {
        let own = self.coordinator();
        let is_other =
            |node: &NodeId| *node != self.me && Some(*node) != own && self.peers.contains_key(node);
        self.coordinators_of(room).find(is_other)
    }

    /// Whom those who are in a room name.
    fn coordinators_of(&self, room: RoomId) -> impl Iterator<Item = NodeId> {
        // Of our own room, if it is locked, a stranger's word counts for nothing.
        let is_heard = move |node: NodeId| self.room_id() != Some(room) || self.lets_in(node);
        let named = self.peers.iter().filter(move |(node, _)| is_heard(**node));
        let cards = named.filter_map(|(_, peer)| peer.room.as_ref());
        cards.filter(move |card| card.id == room).filter_map(|card| card.coordinator)
    }

    /// Nothing came of a join. Whether it is tried again is for `why` to say.
    fn abandon_join(&mut self, now: LocalTime, refusal: &Refusal, why: JoinEnd) {
        let Some(joining) = self.joining.take() else { return };
        self.tell(Notice::JoinFailed { reason: refusal.message.clone() });
        let before = self.requests.room_failed(&mut self.outputs, joining.room, refusal);
        // What does not fit the door will not fit it the next time either.
        if self.door.key.take_if(|(room, _)| *room == joining.room).is_some() {
            self.door.pass.take_if(|(room, _)| *room == joining.room);
            return self.membership.set_intent(now, before.unwrap_or(Intent::Anywhere));
        }
        match (why, before) {
            // A person has read the answer, and is where they were before they asked.
            (JoinEnd::Refused, Some(before)) => self.membership.set_intent(now, before),
            _ => self.membership.join_failed(now, joining.room),
        }
    }

    /// Somebody wants in. Only the coordinator can order it; others hand it on.
    pub(super) fn join_received(&mut self, now: LocalTime, from: NodeId, op: Op) {
        if self.room_id() != Some(op.room) {
            let card = self.card_for(from);
            return self.send(from, Message::Card(card));
        }
        if !self.passes_door(now, from, &op) {
            let outcome = Err(locked());
            return self.send(from, Message::Proposed { id: op.id, outcome });
        }
        if !self.is_coordinator() {
            if let Some(coordinator) = self.coordinator().filter(|c| self.peers.contains_key(c)) {
                // Only the coordinator hands out the state, so the two must meet.
                self.membership.introduce(from, coordinator);
                self.send(coordinator, Message::Join(op));
            }
            return;
        }
        // Joins come from whoever hands them on; anything else only its author may propose.
        if !matches!(codec::decode_body(&op), Ok(OpBody::Join { .. })) {
            tracing::debug!(peer = %from.short(), "a join that is something else");
            return;
        }
        let joiner = op.id.author;
        let id = op.id;
        // Who is in the room already has a log: what it lacks are entries. A state in their place
        // would leave it nothing to offer if they were lost here.
        let has_log = self.peers.get(&joiner).is_some_and(|peer| self.shares_room(peer));
        let is_signed = op.verify().is_ok();
        let outcome = match self.order(now, op, super::replication::Origin::Peer(joiner)) {
            // A member that asks again has not got the state yet, or not any more.
            Err(refusal) if refusal == done_already() && is_signed && self.is_member(joiner) => {
                Ok(())
            }
            // Of somebody who is out again, it is a word of then.
            Ok(_) if !has_log && !self.is_member(joiner) => Err(done_already()),
            outcome => outcome.map(drop),
        };
        match outcome {
            Ok(()) => {
                self.refresh_election(now);
                self.look_at_gate(now);
                if !has_log {
                    self.send_snapshot(joiner);
                }
                if let Some(start) =
                    self.election.as_ref().map(Election::term).and_then(|t| self.start_message(t))
                {
                    self.send(joiner, Message::Start(start));
                }
            }
            Err(refusal) => {
                self.hint_owner(joiner, id, &refusal);
                self.send(joiner, Message::Proposed { id, outcome: Err(refusal) });
            }
        }
    }

    /// Who brings a join to a locked room is inside, or its author and let in.
    fn passes_door(&mut self, now: LocalTime, from: NodeId, op: &Op) -> bool {
        if !self.is_locked() {
            return true;
        }
        let body = codec::decode_body(op);
        let Ok(OpBody::Join { admission, .. }) = body else { return self.lets_in(from) };
        let author = op.id.author;
        let is_admitted = admission.is_some_and(|word| self.is_admitted(author, &word))
            && op.verify().is_ok()
            && self.door.locking.is_none()
            && !self.is_kept_out(now, author);
        if is_admitted && from == author {
            self.let_in(now, from);
        }
        is_admitted || self.lets_in(from)
    }

    /// A join was refused by the coordinator.
    pub(super) fn join_refused(&mut self, now: LocalTime, refusal: &Refusal) {
        if self.join_as_friend(refusal) || self.join_as_somebody_later(refusal) {
            return;
        }
        self.abandon_join(now, refusal, JoinEnd::Refused);
    }

    /// The room remembers later starts of this device than its disk does, and takes its joining for
    /// one of then. How many there were it does not say. Whether the joining was said again.
    fn join_as_somebody_later(&mut self, refusal: &Refusal) -> bool {
        let Some(joining) = self.joining.as_ref().filter(|_| *refusal == done_already()) else {
            return false;
        };
        let (room, via) = (joining.room, joining.via);
        let said = joining.op.as_ref().map_or(self.boot, |op| op.id.boot);
        let Some(boot) = said.max(1).checked_mul(2) else { return false };
        // Inside, the room tells behind which number to go on.
        let id = OpId { author: self.me, boot, seq: 1 };
        self.join_in_other_words(room, via, id, &self.join_body_for(room))
    }

    /// Whether this refusal or acceptance concerns the join under way.
    pub(super) fn is_join(&self, id: OpId) -> bool {
        self.joining
            .as_ref()
            .is_some_and(|joining| joining.op.as_ref().is_some_and(|op| op.id == id))
    }

    pub(super) fn snapshot_received(&mut self, now: LocalTime, from: NodeId, snapshot: &Snapshot) {
        let room = match Room::from_snapshot(snapshot) {
            Ok(room) => room,
            Err(error) => {
                tracing::warn!(peer = %from.short(), %error, "a room state that cannot be used");
                return;
            }
        };
        let here = room.state().member(&self.me).is_some();
        // Only a coordinator hands its room out, and its term names it.
        let leads = snapshot.term.node == from && room.state().member(&from).is_some();
        let joining =
            leads && self.joining.as_ref().is_some_and(|joining| joining.room == room.id());
        if joining && here {
            self.arrive(now, room, snapshot.term);
        } else if self.room_id() == Some(room.id()) && self.coordinator() == Some(from) {
            self.replace_state(now, room);
        }
    }

    /// Takes part in a room whose coordinator has sent its state.
    pub(super) fn enter_at(&mut self, now: LocalTime, room: Room, term: Term) {
        let (name, code) = (room.state().name().to_owned(), room.state().code().to_owned());
        let id = room.id();
        self.enter(now, room);
        self.save_own_room();
        if let Some(election) = &mut self.election {
            election.join(now, term);
        }
        // The snapshot came from the coordinator: its clock can be asked at once.
        self.clock.follow(now, term);
        self.refresh_election(now);
        self.refresh_card(now);
        self.requests.room_entered(&mut self.outputs, id, &name, &code);
        self.tell(Notice::Joined { name, code });
        self.door.key = None;
        for peer in self.member_peers() {
            self.show_pass(peer);
            self.greet_member(peer);
        }
        self.refresh_segments(now);
    }

    /// The room that a person means by a code, a name or an id.
    pub(super) fn find_room(&self, text: &str) -> Result<RoomCard, Refusal> {
        let wanted = text.trim().to_uppercase();
        // A locked one does not show its code, but whoever was in it knows which it is.
        let known = self.known_room(text).map(|known| known.id);
        let fits = |card: &RoomCard| {
            is_code(&card.code, text)
                || card.name.to_uppercase() == wanted
                || is_id(card.id, text)
                || known == Some(card.id)
        };
        let rooms = self.membership.rooms();
        let mut found = rooms.into_iter().filter(|card| fits(card)).cloned().collect::<Vec<_>>();
        match found.len() {
            1 => Ok(found.remove(0)),
            0 => Err(no_such_room(text)),
            _ => Err(several_rooms(text, &found)),
        }
    }

    /// Keeps what others see of our room true.
    pub(super) fn refresh_card(&mut self, now: LocalTime) {
        let card = self.card(now);
        if card == self.shown_card {
            return;
        }
        self.shown_card.clone_from(&card);
        if let Some(card) = &card {
            self.remember_room(KnownRoom {
                id: card.id,
                name: card.name.clone(),
                code: card.code.clone(),
                left_last: false,
            });
        }
        self.membership.set_room(now, card);
        self.outputs.push_back(Output::ShowRoom(self.card_for_strangers()));
        let peers = self.peers.keys().copied().collect::<Vec<_>>();
        for peer in peers {
            let card = self.card_for(peer);
            if let Some(peer) = self.peers.get_mut(&peer) {
                peer.sees_inside = card == self.shown_card;
            }
            self.send(peer, Message::Card(card));
        }
        self.look_at_gate(now);
    }

    /// Keeps what a room is called. One that made itself and nobody cared for is not worth it.
    pub(super) fn remember_room(&mut self, room: KnownRoom) {
        let unclaimed = self.room.as_ref().is_some_and(|own| own.state().unclaimed());
        if unclaimed || self.known_rooms.first() == Some(&room) {
            return;
        }
        self.known_rooms.retain(|known| known.id != room.id);
        self.known_rooms.insert(0, room.clone());
        self.known_rooms.truncate(MAX_KNOWN_ROOMS);
        self.outputs.push_back(Output::RememberRoom(room));
    }

    fn card(&self, now: LocalTime) -> Option<RoomCard> {
        let room = self.room.as_ref()?;
        let election = self.election.as_ref()?;
        let state = room.state();
        let present = state.members().keys().filter(|node| self.is_present(**node)).count();
        Some(RoomCard {
            id: room.id(),
            name: state.name().to_owned(),
            code: state.code().to_owned(),
            locked: self.is_locked(),
            unclaimed: state.unclaimed(),
            devices: u16::try_from(present).unwrap_or(u16::MAX),
            coordinator: election.coordinator(),
            term: election.term(),
            playing: self.title_now(now),
        })
    }

    /// Whether a member is here now.
    pub(super) fn is_present(&self, node: NodeId) -> bool {
        node == self.me || self.peers.get(&node).is_some_and(|peer| self.shares_room(peer))
    }

    fn shares_room(&self, peer: &Peer) -> bool {
        peer.room.as_ref().map(|card| card.id) == self.room_id()
    }
}

/// A code that a person can read out loud. It identifies, it is no secret.
fn room_code(rng: &mut Rng) -> String {
    let mut code = String::from("GROOVE-");
    for _ in 0..4 {
        let place = usize::try_from(rng.below(32)).expect("below 32");
        code.push(char::from(CODE_ALPHABET[place]));
    }
    code
}

pub(super) fn no_such_room(text: &str) -> Refusal {
    Refusal::new(
        RefusalCode::NotFound,
        format!("no room {text:?} is in reach"),
        "`groovebox rooms` lists those that are; `host:port` of a member works too",
    )
}

/// The person is asked which room is meant.
pub(super) fn several_rooms(text: &str, rooms: &[RoomCard]) -> Refusal {
    let ids = rooms.iter().map(|card| card.id.short()).collect::<Vec<_>>().join(", ");
    Refusal::new(
        RefusalCode::InvalidRequest,
        format!("{} rooms are called {text:?}", rooms.len()),
        format!("name one by its id; they begin with {ids}"),
    )
}

/// Nobody comes in without a member's word.
pub(super) fn locked() -> Refusal {
    Refusal::new(
        RefusalCode::AuthRequired,
        "the room is locked",
        "name its password: `groovebox room join CODE --password`, or use an invite of somebody \
         in it",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_use_only_unambiguous_characters() {
        let mut rng = Rng::new(1);
        for _ in 0..100 {
            let code = room_code(&mut rng);
            assert_eq!(code.len(), 11);
            assert!(code[7..].bytes().all(|c| CODE_ALPHABET.contains(&c)), "{code}");
        }
    }
}
