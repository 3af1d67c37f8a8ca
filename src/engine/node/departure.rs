//! Leaving a room, for another one or for none. Whoever coordinates lets somebody else take over
//! first, as before a shutdown: those who stay hardly notice.
//!
//! ```text
//!  a person says leave, create ──┐                                          ┌─ forgets the room
//!  another room's state is here ─┴─ hands over (≤ 1 s) ─ says leave (≤ 2 s) ┴─ enters the other
//! ```
//!
//! It leaves once the log says so: a word said only once is lost where nobody coordinates just
//! then, and those who stay would list a device, and a person, that went long ago. Where nobody is
//! there to hear it, it is said again to whoever coordinates that room when they are met.

use std::collections::BTreeSet;

use super::outbox::Outbox;
use super::{
    LocalTime, Message, Node, NodeId, OpId, Output, Peer, RequestId, RestoredRoom, Room, RoomId,
    Span, Term,
};
use crate::base::limits::MAX_KNOWN_ROOMS;
use crate::engine::election::{Election, Role};
use crate::engine::membership::Intent;
use crate::identity::Password;
use crate::wire::message::Accepted;
use crate::wire::op::{Op, OpBody};
use crate::wire::{Refusal, RefusalCode};

/// How long a node that leaves waits until the room knows. A new coordinator is there by then; if
/// none is, a person does not wait for it.
const LOG_KNOWS_WITHIN: Span = Span::from_secs(2);

/// How often a word that the room has not heard is said again, once somebody coordinates there.
const SAY_AGAIN: Span = Span::from_secs(2);

/// The word of a node that it leaves its room.
#[derive(Debug)]
pub(super) struct Farewell {
    /// The operation, if it could be said at all.
    op: Option<OpId>,
    until: LocalTime,
}

/// The word of a node that has left, which nobody ordered.
#[derive(Debug)]
pub(super) struct Unheard {
    op: Op,
    /// When it was said last.
    said: Option<LocalTime>,
    /// To whom it was said.
    asked: BTreeSet<NodeId>,
}

impl Farewell {
    /// Whether nobody has ordered it. One that is not offered any more was refused, or is ordered
    /// and on its way here.
    pub(super) fn is_open(&self, outbox: &Outbox) -> bool {
        self.op.is_some_and(|op| outbox.contains(op))
    }
}

/// Where a node goes once nobody depends on it any more in the room that it leaves.
#[derive(Debug)]
pub(super) enum Departure {
    /// Nowhere: a person sent it away, and waits.
    Alone { request: RequestId },
    /// Into a new room, for a person who waits.
    Create { request: RequestId, name: Option<String>, password: Option<Password> },
    /// Back into a room of its own disk, for a person who waits.
    Reopen { room: Box<Room>, restored: Box<RestoredRoom> },
    /// Into a room that has let it in, in the state that its coordinator sent.
    Arrive { room: Box<Room>, term: Term },
}

impl Node {
    /// A person sends this device away from its room.
    pub(super) fn leave_room(&mut self, now: LocalTime, request: RequestId) -> Result<(), Refusal> {
        if self.room.is_none() {
            return Err(Refusal::not_in_room());
        }
        self.depart_for_a_person(now, Departure::Alone { request })
    }

    /// A person makes a room here.
    pub(super) fn create_room(
        &mut self,
        now: LocalTime,
        request: RequestId,
        name: Option<String>,
        password: Option<Password>,
    ) -> Result<(), Refusal> {
        self.depart_for_a_person(now, Departure::Create { request, name, password })
    }

    pub(super) fn depart_for_a_person(
        &mut self,
        now: LocalTime,
        to: Departure,
    ) -> Result<(), Refusal> {
        self.check_free_to_go()?;
        // Between two rooms it must not be drawn back into the one that it leaves, nor into
        // another that it was about to enter.
        self.membership.set_intent(now, Intent::Alone);
        self.joining = None;
        self.depart(now, to);
        Ok(())
    }

    /// A person who is on their way out of a room waits until that is done.
    pub(super) fn check_free_to_go(&self) -> Result<(), Refusal> {
        let is_awaited = |departure: &Departure| !matches!(departure, Departure::Arrive { .. });
        if self.departure.as_ref().is_some_and(is_awaited) {
            return Err(Refusal {
                retry_after_ms: Some(1000),
                ..Refusal::new(
                    RefusalCode::UpdateFailed,
                    "this device is already on its way out of its room",
                    "try again in a second",
                )
            });
        }
        Ok(())
    }

    /// The new room's state is here: leave the old one and take part in this one.
    pub(super) fn arrive(&mut self, now: LocalTime, room: Room, term: Term) {
        if self.is_still_wanted(room.id()) {
            self.depart(now, Departure::Arrive { room: Box::new(room), term });
        } else {
            self.call_off(now, room.id(), term);
        }
    }

    /// A room in which a person has acted is never left by itself, and somebody may have acted
    /// in it since this node asked to be let into the other one.
    fn is_still_wanted(&self, room: RoomId) -> bool {
        let asked_for = self.membership.intent() == Intent::Room(room);
        let unclaimed = self.room.as_ref().is_none_or(|own| own.state().unclaimed());
        let outbox = &self.replication.outbox;
        asked_for || (unclaimed && !outbox.has_proposals() && !outbox.has_placed())
    }

    /// Stays where it is, and says so in the room that has let it in.
    fn call_off(&mut self, now: LocalTime, room: RoomId, term: Term) {
        tracing::debug!(room = %room.short(), "somebody has acted here meanwhile: staying");
        self.joining = None;
        let id = self.next_op_id();
        match Op::signed(&self.key, room, id, Op::NO_TIME, &OpBody::Leave) {
            Ok(op) => self.send(term.node, Message::Propose(op)),
            Err(error) => {
                tracing::error!(%error, "this device leaves without a word: the room could not be told");
            }
        }
        if let Some(election) = &mut self.election {
            election.stay(now);
        }
        self.membership.join_failed(now, room);
    }

    fn depart(&mut self, now: LocalTime, to: Departure) {
        // The other room sends its state again while this one is being left.
        if self.departure.replace(to).is_none() {
            self.farewell = None;
        }
        self.give_lead_away(now);
    }

    /// Somebody who leaves may still be elected, where nobody else could be just then.
    fn give_lead_away(&mut self, now: LocalTime) {
        let leads = |election: &&mut Election| election.role() == Role::Coordinator;
        if let Some(election) = self.election.as_mut().filter(leads) {
            election.retire(now);
        }
    }

    /// Leaves as soon as nobody has to take over any more. Whether it did.
    pub(super) fn complete_departure(&mut self, now: LocalTime) -> bool {
        if self.departure.is_some() {
            self.give_lead_away(now);
        }
        if self.election.as_ref().is_some_and(Election::is_retiring) {
            return false;
        }
        let stays = match &self.departure {
            None => return false,
            Some(Departure::Arrive { room, .. }) => !self.is_still_wanted(room.id()),
            Some(_) => false,
        };
        if !stays && !self.has_said_farewell(now) {
            return false;
        }
        match self.departure.take() {
            None => return false,
            Some(Departure::Alone { request }) => {
                self.leave_quietly(now);
                self.outputs.push_back(Output::RememberIntent(Intent::Alone));
                self.reply_done(request, "left; this device is in no room now".into());
            }
            Some(Departure::Create { request, name, password }) => {
                self.leave_and_create(now, request, name, password);
            }
            Some(Departure::Reopen { room, restored }) => {
                self.leave_quietly(now);
                let mut restored = restored;
                self.reopen(now, *room, &mut restored);
            }
            Some(Departure::Arrive { room, term }) => self.leave_and_enter(now, *room, term),
        }
        true
    }

    /// Whether the room knows that this node leaves, or will not learn it. Says so first.
    fn has_said_farewell(&mut self, now: LocalTime) -> bool {
        let Some(room) = &self.room else { return true };
        // A room that made itself dissolves, and nobody asks who was in it.
        let dissolves =
            room.state().unclaimed() && matches!(self.departure, Some(Departure::Arrive { .. }));
        if dissolves || !self.is_member(self.me) || !self.is_with_others() {
            return true;
        }
        if self.farewell.is_none() {
            let op = self.propose_own(now, None, &OpBody::Leave).ok();
            self.farewell = Some(Farewell { op, until: now + LOG_KNOWS_WITHIN });
        }
        let Some(farewell) = &self.farewell else { return true };
        !farewell.is_open(&self.replication.outbox) || now >= farewell.until
    }

    /// Whether another member is here. One that left unheard is none that is here.
    pub(super) fn is_with_others(&self) -> bool {
        self.member_peers().into_iter().any(|peer| self.is_present(peer))
    }

    /// What the room has yet to hear of this departure.
    fn unheard_farewell(&mut self) -> Option<Unheard> {
        let room = self.room.as_ref().filter(|room| !room.state().unclaimed())?.id();
        if !self.is_member(self.me) {
            return None;
        }
        let said = self.farewell.as_ref().and_then(|farewell| farewell.op);
        let op = if let Some(id) = said {
            self.replication.outbox.iter().find(|op| op.id == id)?.clone()
        } else {
            let id = self.next_op_id();
            let op = Op::signed(&self.key, room, id, Op::NO_TIME, &OpBody::Leave);
            op.inspect_err(|error| tracing::error!(%error, "this device leaves without a word: the room could not be told")).ok()?
        };
        Some(Unheard { op, said: None, asked: BTreeSet::new() })
    }

    /// Somebody coordinates a room that this node left while nobody did.
    pub(super) fn repeat_farewells(&mut self, now: LocalTime) {
        let rooms = self.unheard.keys().copied().collect::<Vec<_>>();
        for room in rooms {
            let is_joining = self.joining.as_ref().is_some_and(|joining| joining.is_for(room));
            // Who coordinates a locked room is not shown to everybody: only they will answer.
            let may_lead = |peer: &(&NodeId, &Peer)| {
                let card = peer.1.room.as_ref().filter(|card| card.id == room);
                card.is_some_and(|card| card.coordinator.is_none_or(|node| node == *peer.0))
            };
            let asked = self.peers.iter().filter(may_lead).map(|(node, _)| *node);
            let asked = asked.collect::<BTreeSet<_>>();
            let Some(unheard) = self.unheard.get_mut(&room).filter(|_| !is_joining) else {
                continue;
            };
            if asked.is_empty() || unheard.said.is_some_and(|said| now - said < SAY_AGAIN) {
                continue;
            }
            unheard.said = Some(now);
            unheard.asked.clone_from(&asked);
            let op = unheard.op.clone();
            for node in asked {
                self.send(node, Message::Propose(op.clone()));
            }
        }
    }

    /// Whether that is a good-bye that was said again.
    pub(super) fn is_farewell(&self, id: OpId) -> bool {
        self.unheard.values().any(|unheard| unheard.op.id == id)
    }

    /// The room has heard it, or knows nothing of this device: it is out, and its disk opens
    /// nothing any more.
    pub(super) fn farewell_answered(
        &mut self,
        from: NodeId,
        id: OpId,
        outcome: &Result<Accepted, Refusal>,
    ) {
        let is_out = match outcome {
            Ok(_) => true,
            Err(refusal) => refusal.code == RefusalCode::NotInRoom,
        };
        let answered = |unheard: &Unheard| unheard.op.id == id && unheard.asked.contains(&from);
        let room = self.unheard.iter().find(|(_, unheard)| answered(unheard));
        if let Some(room) = room.map(|(room, _)| *room).filter(|_| is_out) {
            self.unheard.remove(&room);
            self.note_not_last(room);
        }
    }

    /// When a departure is completed whether the room knows of it or not.
    pub(super) fn farewell_until(&self) -> Option<LocalTime> {
        self.farewell.as_ref().filter(|_| self.departure.is_some()).map(|farewell| farewell.until)
    }

    fn leave_and_create(
        &mut self,
        now: LocalTime,
        request: RequestId,
        name: Option<String>,
        password: Option<Password>,
    ) {
        self.leave_quietly(now);
        // Nobody comes in before it is locked.
        self.door.locking = password.is_some().then_some((None, request));
        let name = name.unwrap_or_else(|| self.name.clone());
        self.found(now, name, false);
        let Some(room) = &self.room else { return };
        let (id, state) = (room.id(), room.state());
        let message = format!("made {} ({})", state.name(), state.code());
        self.membership.set_intent(now, Intent::Room(id));
        if let Some(password) = password {
            self.door.locking = Some((Some(id), request));
            self.outputs.push_back(Output::Stretch { id: request, room: id, password });
            return;
        }
        self.reply_done(request, message);
    }

    fn leave_and_enter(&mut self, now: LocalTime, room: Room, term: Term) {
        if !self.is_still_wanted(room.id()) {
            return self.call_off(now, room.id(), term);
        }
        self.leave_quietly(now);
        self.enter_at(now, room, term);
    }

    /// Lets go of the room; those who stay know.
    fn leave_quietly(&mut self, now: LocalTime) {
        if self.room.is_none() {
            return;
        }
        self.leaving = true;
        if self.farewell.is_none() && !self.is_coordinator() {
            // Whoever hears it, hears it.
            let _ = self.propose_own(now, None, &OpBody::Leave);
        }
        self.note_whether_last();
        if let Some(unheard) = self.unheard_farewell() {
            if self.unheard.len() >= MAX_KNOWN_ROOMS {
                self.unheard.pop_first();
            }
            self.unheard.insert(unheard.op.room, unheard);
        }
        if let Some(election) = &mut self.election {
            election.resign(now);
        }
        self.settle_machines(now);
        self.leaving = false;
        self.drop_room(now);
    }
}
