//! Back into a room that this device was the last to leave: nobody is there to let it in, and its
//! own disk has the room, for a day.
//!
//! ```text
//!  a person says join ── nobody of the room in reach ── reads the disk ──┐
//!         leaves where it is ── takes the room up, as after a restart ──┘
//! ```
//!
//! Whoever leaves while others are there says so in the log, and is out: only they can let it in
//! again, and what they do from then on is in none of its files. Who leaves a room with nobody else
//! in it has nobody to say it to, and is still in it as far as every log of the room tells. Going
//! back is what a restart does, by the same way, and asks for no password.

use std::collections::VecDeque;

use super::commands::RoomRequest;
use super::departure::Departure;
use super::door::{is_code, is_id};
use super::gate::is_leaving;
use super::{KnownRoom, LocalTime, Node, NodeId, Output, RestoredRoom, Room, RoomId, Term};
use crate::base::limits::MAX_KNOWN_ROOMS;
use crate::engine::membership::Intent;
use crate::wire::{Refusal, RefusalCode};

/// The highest term that was known in each room that this device has left since it started, the
/// latest last. A term names its owner and the owner's start: one that was used would be another
/// line of time.
#[derive(Debug, Default)]
pub(super) struct TermsLeft(VecDeque<(RoomId, Term)>);

impl TermsLeft {
    pub fn note(&mut self, room: RoomId, term: Term) {
        let term = term.max(self.of(room));
        self.0.retain(|(known, _)| *known != room);
        if self.0.len() >= MAX_KNOWN_ROOMS {
            self.0.pop_front();
        }
        self.0.push_back((room, term));
    }

    pub fn of(&self, room: RoomId) -> Term {
        let known = self.0.iter().find(|(known, _)| *known == room);
        known.map_or(Term::ZERO, |(_, term)| *term)
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }
}

impl Node {
    /// The room with that code or name that this device was in.
    pub(super) fn known_room(&self, text: &str) -> Option<&KnownRoom> {
        let wanted = text.trim().to_uppercase();
        let by_code = |known: &&KnownRoom| is_code(&known.code, text);
        let by_name = |known: &&KnownRoom| known.name.to_uppercase() == wanted;
        let by_id = |known: &&KnownRoom| is_id(known.id, text);
        let mut rooms = self.known_rooms.iter();
        rooms.clone().find(by_code).or_else(|| rooms.find(|known| by_name(known) || by_id(known)))
    }

    /// This device leaves its room: keeps in mind whether anybody stays.
    pub(super) fn note_whether_last(&mut self) {
        // What was said and nobody ordered was said to nobody.
        let is_unheard = match &self.farewell {
            None => true,
            Some(farewell) => farewell.is_open(&self.replication.outbox),
        };
        let is_last = is_unheard && self.is_member(self.me) && !self.is_with_others();
        let Some(state) = self.room.as_ref().map(Room::state).filter(|_| is_last) else { return };
        self.remember_room(KnownRoom {
            id: self.room_id().expect("just seen"),
            name: state.name().to_owned(),
            code: state.code().to_owned(),
            left_last: true,
        });
    }

    /// Others go on with a room that it left.
    pub(super) fn note_not_last(&mut self, room: RoomId) {
        let known = self.known_rooms.iter_mut().find(|known| known.id == room && known.left_last);
        if let Some(known) = known {
            known.left_last = false;
            self.outputs.push_back(Output::RememberRoom(known.clone()));
        }
    }

    /// Nobody of a room is in reach that this device was in. If it was the last to leave it, its
    /// disk has it.
    pub(super) fn read_room(&mut self, request: RoomRequest, room: RoomId) -> Result<(), Refusal> {
        let known = self.known_rooms.iter().find(|known| known.id == room);
        if known.is_none_or(|known| !known.left_last) {
            return Err(nobody_of_it(&self.known_name(room)));
        }
        self.requests.await_room(request, room);
        self.outputs.push_back(Output::ReadRoom { room });
        Ok(())
    }

    /// What the disk has of it.
    pub(super) fn room_read(
        &mut self,
        now: LocalTime,
        id: RoomId,
        restored: Option<Box<RestoredRoom>>,
    ) {
        if !self.requests.is_awaited(id) || self.room_id() == Some(id) {
            return;
        }
        let is_open = self.known_rooms.iter().any(|known| known.id == id && known.left_last);
        let read = restored.and_then(|restored| {
            let room = Room::restore(&restored.snapshot, &restored.entries);
            let room = room.inspect_err(|error| tracing::warn!(%error, "the file of a room that was left makes no sense; it is not opened again")).ok()?;
            Some((room, restored))
        });
        let is_ours =
            |room: &Room, me: &NodeId| room.id() == id && room.state().member(me).is_some();
        let outcome = match read {
            Some((room, restored)) if is_open && is_ours(&room, &self.me) => {
                self.depart_for_a_person(now, Departure::Reopen { room: Box::new(room), restored })
            }
            _ if is_open => Err(not_kept(&self.known_name(id))),
            _ => Err(nobody_of_it(&self.known_name(id))),
        };
        if let Err(refusal) = outcome {
            self.requests.room_failed(&mut self.outputs, id, &refusal);
        }
    }

    /// This device is in no room any more.
    pub(super) fn reopen(&mut self, now: LocalTime, room: Room, restored: &mut RestoredRoom) {
        // A good-bye that waits there is not meant any more.
        restored.outbox.retain(|op| !is_leaving(op));
        let (id, name, code) =
            (room.id(), room.state().name().to_owned(), room.state().code().to_owned());
        self.membership.set_intent(now, Intent::Room(id));
        self.take_up(now, room, restored);
        self.requests.room_entered(&mut self.outputs, id, &name, &code);
        self.tell(super::Notice::Joined { name, code });
    }

    fn known_name(&self, id: RoomId) -> String {
        let known = self.known_rooms.iter().find(|known| known.id == id);
        known.map_or_else(|| id.short(), |known| known.name.clone())
    }
}

fn not_kept(name: &str) -> Refusal {
    Refusal::new(
        RefusalCode::NotFound,
        format!("nobody is in {name:?}, and this device has not got it any more"),
        "a room that was left is kept for a day; `groovebox room create` makes a new one",
    )
}

fn nobody_of_it(name: &str) -> Refusal {
    Refusal::new(
        RefusalCode::NotFound,
        format!("{name:?} is a room that this device was in, but nobody of it is here"),
        "it can be entered once a device that is in it is switched on in this network, or here \
         within a day by the one that left it last",
    )
}
