//! What a person's request means as an operation, and who waits for which answer.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;

use super::door::{InviteText, Key, is_code, is_like_invite, parse_invite};
use super::rooms::{no_such_room, several_rooms};
use super::{Command, LocalTime, Node, OpId, Output, RequestId, RoomCard, RoomId, Span, Track};
use crate::base::EntryId;
use crate::engine::command::{CommandReply, Done, SeekTo, VolumeChange};
use crate::engine::membership::Intent;
use crate::engine::room::RoomState;
use crate::engine::status::PlaybackState;
use crate::identity::Password;
use crate::wire::message::Level;
use crate::wire::op::{AddMode, Guard, OpBody, Role};
use crate::wire::{Refusal, RefusalCode, codec};

/// How long a command may take until its person is told that nobody coordinates.
const PATIENCE: Span = Span::from_secs(5);

/// How long entering a room may take.
const JOIN_PATIENCE: Span = Span::from_secs(8);

/// Commands that wait for a room: more than people give in the seconds that it takes.
const MAX_EARLY: usize = 64;

/// How long those in locked rooms may take to say whether theirs is the one that is looked for.
const SEEK_PATIENCE: Span = Span::from_secs(2);

/// How long they may take once a room is known that could be it.
const OTHERS_PATIENCE: Span = Span::from_millis(400);

/// Commands that wait for an answer.
#[derive(Debug, Default)]
pub(super) struct Requests {
    ops: BTreeMap<OpId, (RequestId, LocalTime)>,
    /// Given while the node still looked for its room, in order.
    early: VecDeque<(RequestId, Command, LocalTime)>,
    room: Option<RoomRequest>,
}

/// A person waits to be in a room.
#[derive(Debug)]
pub(super) struct RoomRequest {
    id: RequestId,
    /// Which; none until whoever lives at `address` has told.
    room: Option<RoomId>,
    address: Option<SocketAddr>,
    /// Somebody's invite, which says who made it.
    invite: Option<InviteText>,
    /// The search for a code that locked rooms may have without showing it.
    sought: Option<Sought>,
    password: Option<Password>,
    /// What was wanted before: it is again if nothing comes of this.
    before: Intent,
    until: LocalTime,
}

/// Which rooms have a code.
#[derive(Debug)]
pub(super) struct Sought {
    code: String,
    /// Those that were asked and have not said that it is theirs. Others never answer.
    asked: BTreeSet<RoomId>,
    found: Vec<RoomCard>,
}

impl Requests {
    pub(super) fn wait(&mut self, now: LocalTime, request: RequestId, op: OpId) {
        self.ops.insert(op, (request, now + PATIENCE));
    }

    /// Its person has waited already.
    fn hurry(&mut self, request: RequestId, until: LocalTime) {
        for (_, patience) in self.ops.values_mut().filter(|(id, _)| *id == request) {
            *patience = (*patience).min(until);
        }
    }

    pub(super) fn finish(&mut self, outputs: &mut VecDeque<Output>, op: OpId, reply: CommandReply) {
        if let Some((id, _)) = self.ops.remove(&op) {
            outputs.push_back(Output::Reply { id, reply });
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<LocalTime> {
        let ops = self.ops.values().map(|(_, until)| *until).min();
        let room = self.room.as_ref().map(|request| request.until);
        let early = self.early.front().map(|(_, _, until)| *until);
        ops.into_iter().chain(room).chain(early).min()
    }

    pub(super) fn len(&self) -> usize {
        self.ops.len() + self.early.len() + usize::from(self.room.is_some())
    }

    pub(super) fn is_waiting(&self, op: OpId) -> bool {
        self.ops.contains_key(&op)
    }

    /// Operations of people whose patience is over.
    pub(super) fn late(&self, now: LocalTime) -> Vec<OpId> {
        let late = self.ops.iter().filter(|(_, (_, until))| *until <= now);
        late.map(|(op, _)| *op).collect()
    }

    /// Tells whoever waits to be in a room for too long that nothing came of it.
    pub(super) fn expire_room(&mut self, now: LocalTime, outputs: &mut VecDeque<Output>) {
        if self.room.as_ref().is_some_and(|request| request.until <= now) {
            let request = self.room.take().expect("just seen");
            let refusal = Refusal::new(
                RefusalCode::JoinFailed,
                "the room did not answer in time",
                "is a device of it still on? `groovebox rooms` lists the rooms in reach",
            );
            outputs.push_back(Output::Reply { id: request.id, reply: Err(refusal) });
        }
    }

    /// Whether that request is the one to be in a room, and not one that took its place.
    pub(super) fn is_to_enter(&self, id: RequestId) -> bool {
        self.room.as_ref().is_some_and(|request| request.id == id)
    }

    /// Somebody waits to be in that room.
    pub(super) fn await_room(&mut self, request: RoomRequest, room: RoomId) {
        self.room = Some(RoomRequest { room: Some(room), ..request });
    }

    pub(super) fn is_awaited(&self, room: RoomId) -> bool {
        self.room.as_ref().is_some_and(|request| request.room == Some(room))
    }

    /// Entering takes longer, and the room says so.
    pub(super) fn room_waits(&mut self, until: LocalTime) {
        if let Some(request) = &mut self.room {
            request.until = request.until.later(until);
        }
    }

    pub(super) fn room_entered(
        &mut self,
        outputs: &mut VecDeque<Output>,
        room: RoomId,
        name: &str,
        code: &str,
    ) {
        let Some(request) = self.room.take_if(|r| r.room == Some(room)) else { return };
        let message = format!("now in {name} ({code})");
        outputs.push_back(Output::Reply { id: request.id, reply: Ok(done(message)) });
    }

    pub(super) fn room_failed(
        &mut self,
        outputs: &mut VecDeque<Output>,
        room: RoomId,
        refusal: &Refusal,
    ) -> Option<Intent> {
        let request = self.room.take_if(|r| r.room == Some(room))?;
        outputs.push_back(Output::Reply { id: request.id, reply: Err(refusal.clone()) });
        Some(request.before)
    }
}

/// Something that needed no operation.
fn done(message: String) -> Done {
    Done { op: None, idx: None, level: Level::Local, effective_at: None, message: Some(message) }
}

impl Node {
    pub(super) fn command_received(&mut self, now: LocalTime, id: RequestId, command: Command) {
        if self.is_looking() && needs_room(&command) && self.requests.early.len() < MAX_EARLY {
            return self.requests.early.push_back((id, command, now + PATIENCE));
        }
        if let Err(refusal) = self.carry_out(now, id, command) {
            self.outputs.push_back(Output::Reply { id, reply: Err(refusal) });
        }
    }

    /// Whether it is in no room yet, and will be in a moment.
    fn is_looking(&self) -> bool {
        self.room.is_none()
            && !self.shutting_down
            && self.departure.is_none()
            && self.membership.intent() != Intent::Alone
    }

    /// What was asked for while there was no room is done now, or has waited for too long.
    pub(super) fn catch_up(&mut self, now: LocalTime) {
        while let Some((_, _, until)) = self.requests.early.front() {
            if self.is_looking() && now < *until {
                return;
            }
            let Some((id, command, until)) = self.requests.early.pop_front() else { return };
            if let Err(refusal) = self.carry_out(now, id, command) {
                self.outputs.push_back(Output::Reply { id, reply: Err(refusal) });
            }
            self.requests.hurry(id, until);
            self.settle_machines(now);
        }
    }

    fn carry_out(
        &mut self,
        now: LocalTime,
        id: RequestId,
        command: Command,
    ) -> Result<(), Refusal> {
        let body = match command {
            Command::BecomeUser { user } => return self.become_user(now, id, user),
            Command::Friend(command) => return self.carry_out_friend(now, id, command),
            Command::Pair(command) => return self.carry_out_pair(now, id, command),
            Command::CreateRoom { name, password } => {
                return self.carry_out_create(now, id, name, password);
            }
            Command::JoinRoom { room, password } => {
                return self.carry_out_join(now, id, &room, password);
            }
            Command::Invite { uses, lasts, cap } => {
                return self.invite(now, id, uses, lasts, cap);
            }
            Command::LeaveRoom => return self.leave_room(now, id),
            Command::Play { tracks } => return self.add(now, id, tracks, AddMode::Play),
            Command::Add { tracks } => return self.add(now, id, tracks, AddMode::Append),
            Command::Remove { entries } => self.remove(now, &entries)?,
            Command::Clear => OpBody::Clear,
            Command::Move { entry, place } => self.move_to(now, entry, place)?,
            Command::Shuffle => OpBody::Shuffle { seed: self.rng.next_u64() },
            Command::Repeat { mode } => OpBody::Repeat { mode },
            Command::Pause => OpBody::Pause(self.guard(now)),
            Command::Resume => OpBody::Resume(self.guard(now)),
            Command::Toggle => self.toggle(now),
            Command::Stop => OpBody::Stop(self.guard(now)),
            Command::Seek { to } => {
                OpBody::Seek { position: self.seek_target(now, to)?, guard: self.guard(now) }
            }
            Command::Next => OpBody::Next(self.guard(now)),
            Command::Prev => OpBody::Prev(self.guard(now)),
            Command::Volume { member, change } => self.volume(member.as_deref(), change)?,
            Command::RoomVolume { change } => {
                let state = self.room.as_ref().ok_or_else(Refusal::not_in_room)?.state();
                OpBody::RoomVolume { volume: changed(state.room_volume(), change)? }
            }
            Command::Mute { member, muted } => self.mute(member.as_deref(), muted)?,
            Command::Resync { member } => return self.resync(id, member.as_deref()),
            Command::Kick { who } => OpBody::Kick { subject: self.subject(now, &who)? },
            Command::Ban { who } => OpBody::Ban { subject: self.subject(now, &who)? },
            Command::Unban { who } => OpBody::Unban { subject: self.banned(now, &who)? },
            Command::Silence { who, silenced } => {
                let muted = if silenced { None } else { self.muted_named(now, &who)? };
                let user = muted.map_or_else(|| self.person_named(now, &who), Ok)?;
                OpBody::Silence { user, silenced }
            }
            Command::DeleteRoom => OpBody::Delete,
            Command::UpVote { entry, up } => self.up_vote(now, entry, up)?,
            Command::DjTake => OpBody::DjTake,
            Command::DjGive { to } => OpBody::DjGive { to: self.person_named(now, &to)? },
            Command::DjDrop => OpBody::DjDrop,
            Command::DjAppoint { to } => OpBody::DjAppoint { to: self.person_named(now, &to)? },
            Command::DjRandom => OpBody::DjRandom,
            Command::CallVote { kind, who } => {
                OpBody::CallVote(self.vote_call(now, kind, who.as_deref())?)
            }
            Command::Vote { kind, word } => self.vote(now, kind, word)?,
            Command::Chat { text } => OpBody::Chat { text },
            Command::Set { setting } => OpBody::Set(setting),
            Command::Lock { room, secret } => self.lock(room, secret)?,
        };
        self.propose_own(now, Some(id), &body).map(drop)
    }

    fn toggle(&self, now: LocalTime) -> OpBody {
        let sounding = matches!(self.phase(now), PlaybackState::Playing | PlaybackState::Buffering);
        let guard = self.guard(now);
        if sounding { OpBody::Pause(guard) } else { OpBody::Resume(guard) }
    }

    /// What a command that is given now is meant for.
    pub(super) fn guard(&self, now: LocalTime) -> Guard {
        self.settled(now).map_or_else(Guard::default, |(state, _)| state.guard())
    }

    /// People name entries by their numbers, which another half of the room may have given to
    /// other tracks.
    fn remove(&self, now: LocalTime, entries: &[EntryId]) -> Result<OpBody, Refusal> {
        let state = self.state_now(now)?;
        let focus = state.focus().map(|segment| &segment.entry);
        let known = state.queue().iter().chain(focus);
        let key_of = |id: &EntryId| {
            let entry = known.clone().find(|entry| entry.id == *id);
            entry.map(|entry| entry.key).ok_or_else(|| no_such_entry(*id))
        };
        let entries = entries.iter().map(key_of).collect::<Result<Vec<_>, _>>()?;
        Ok(OpBody::Remove { entries })
    }

    /// A place is told by what stands before it: the queue may have moved on by the time this has
    /// its turn.
    fn move_to(&self, now: LocalTime, id: EntryId, place: usize) -> Result<OpBody, Refusal> {
        let state = self.state_now(now)?;
        let focus = state.focus().map(|segment| &segment.entry);
        let mut known = state.queue().iter().chain(focus);
        let entry = known.find(|entry| entry.id == id).ok_or_else(|| no_such_entry(id))?.key;
        let user = self.user_id();
        let governs = state.governs(&self.me, user.as_ref(), self.room_now(now));
        let others = state.queue().iter().filter(|other| other.key != entry);
        // Who does not govern moves what is theirs among what is theirs.
        let mut last = None;
        let before = others
            .map(|other| {
                if governs || other.is_of(&self.me, user.as_ref()) {
                    last = Some(other.key);
                }
                last
            })
            .collect::<Vec<_>>();
        let behind = [None].into_iter().chain(before).nth(place.wrapping_sub(1));
        let behind = behind.filter(|_| place > 0).ok_or_else(|| no_such_place(&state, place))?;
        Ok(OpBody::Move { entry, behind })
    }

    fn volume(&self, member: Option<&str>, change: VolumeChange) -> Result<OpBody, Refusal> {
        let room = self.room.as_ref().ok_or_else(Refusal::not_in_room)?;
        let node = self.member_named(member)?;
        let old = room.state().member(&node).map_or(100, |member| member.volume);
        Ok(OpBody::Volume { member: node, volume: changed(old, change)? })
    }

    fn mute(&self, member: Option<&str>, muted: Option<bool>) -> Result<OpBody, Refusal> {
        let room = self.room.as_ref().ok_or_else(Refusal::not_in_room)?;
        let node = self.member_named(member)?;
        let old = room.state().member(&node).is_some_and(|member| member.muted);
        Ok(OpBody::Mute { member: node, muted: muted.unwrap_or(!old) })
    }

    fn member_named(&self, name: Option<&str>) -> Result<super::NodeId, Refusal> {
        let Some(name) = name else { return Ok(self.me) };
        let room = self.room.as_ref().ok_or_else(Refusal::not_in_room)?;
        room.state().find_member(name)
    }

    fn seek_target(&self, now: LocalTime, to: SeekTo) -> Result<Span, Refusal> {
        let room = self.room.as_ref().ok_or_else(Refusal::not_in_room)?;
        let playback = room.state().playback_status(self.room_now(now));
        let target = match to {
            SeekTo::Absolute(position) => position,
            SeekTo::Relative(by) => (Span::from_millis(playback.position_ms) + by).max(Span::ZERO),
        };
        if target < Span::ZERO {
            return Err(Refusal::new(
                RefusalCode::InvalidRequest,
                "a position before the beginning",
                "positions count from 0:00",
            ));
        }
        Ok(target)
    }

    /// Tracks into the queue: one operation, unless their names are so long that it takes more.
    fn add(
        &mut self,
        now: LocalTime,
        id: RequestId,
        tracks: Vec<Track>,
        mode: AddMode,
    ) -> Result<(), Refusal> {
        if tracks.is_empty() {
            return Err(Refusal::new(
                RefusalCode::InvalidRequest,
                "no tracks were named",
                "name files or a folder: `groovebox play FILE...`",
            ));
        }
        let parts = batches(tracks);
        if let Some((state, at)) = self.settled(now).filter(|_| parts.len() > 1) {
            // All of them or none.
            state.check_adding(self.me, &parts.concat(), mode, at)?;
        }
        let mut parts = parts.into_iter().peekable();
        let mut mode = mode;
        while let Some(tracks) = parts.next() {
            let request = if parts.peek().is_none() { Some(id) } else { None };
            let part = self.propose_own(now, request, &OpBody::Add { tracks, mode })?;
            if mode == AddMode::Play {
                mode = AddMode::Continue(part);
            }
        }
        Ok(())
    }

    fn carry_out_create(
        &mut self,
        now: LocalTime,
        id: RequestId,
        name: Option<String>,
        password: Option<Password>,
    ) -> Result<(), Refusal> {
        if password.is_some() && self.user.is_none() {
            return Err(Refusal::new(
                RefusalCode::NoUser,
                "a room is locked by its owner, and this device has no person",
                "give it one: `groovebox user set NAME`",
            ));
        }
        let name = name.map(|name| name.trim().to_owned());
        let max = crate::base::limits::MAX_NAME;
        if name.as_ref().is_some_and(|n| n.is_empty() || n.chars().count() > max) {
            return Err(Refusal::new(
                RefusalCode::InvalidRequest,
                format!("a room's name has 1 to {max} characters"),
                "choose another name",
            ));
        }
        self.create_room(now, id, name, password)
    }

    fn carry_out_join(
        &mut self,
        now: LocalTime,
        id: RequestId,
        text: &str,
        password: Option<Password>,
    ) -> Result<(), Refusal> {
        self.check_free_to_go()?;
        self.replace_room_request(now);
        let before = self.membership.intent();
        let request = RoomRequest {
            id,
            room: None,
            address: None,
            invite: None,
            sought: None,
            password,
            before,
            until: now + JOIN_PATIENCE,
        };
        if let Some(invite) = parse_invite(text) {
            self.join_by_invite(now, request, invite);
            return Ok(());
        }
        if is_like_invite(text) {
            return Err(Refusal::new(
                RefusalCode::InvalidRequest,
                "that is not a whole invite",
                "copy all of it, or ask for another: `groovebox invite`",
            ));
        }
        // `host:port` is resolved by the front end into an address; who lives there is known
        // once it has answered.
        if let Ok(address) = text.parse() {
            self.requests.room = Some(RoomRequest { address: Some(address), ..request });
            self.outputs.push_back(Output::Dial { address, node: None });
            let reached = self.membership.peers().find(|peer| peer.address == Some(address));
            if let Some((node, card)) = reached.map(|peer| (peer.node, peer.room.cloned())) {
                self.note_reached(now, node, address, card.as_ref());
            }
            return Ok(());
        }
        match self.find_room(text) {
            Ok(card) if is_code(&card.code, text) && self.room_id() != Some(card.id) => {
                self.seek(now, request, text, Some(card))
            }
            Ok(card) => self.go_to(now, request, &card),
            Err(refusal) if refusal.code == RefusalCode::NotFound => {
                match self.known_room(text).map(|known| known.id) {
                    Some(room) => self.read_room(request, room),
                    None => self.seek(now, request, text, None),
                }
            }
            Err(refusal) => Err(refusal),
        }
    }

    /// A person who asks for a room does not wait for another one any more: all is as it was before
    /// they asked for that.
    fn replace_room_request(&mut self, now: LocalTime) {
        let Some(earlier) = self.requests.room.take() else { return };
        let refusal = Refusal::new(
            RefusalCode::JoinFailed,
            "a room was asked for again before this was done",
            "`groovebox room show` says which room this device is in",
        );
        self.outputs.push_back(Output::Reply { id: earlier.id, reply: Err(refusal) });
        if let Some(room) = earlier.room {
            self.joining.take_if(|joining| joining.is_for(room));
            self.door.key.take_if(|(known, _)| *known == room);
            self.membership.set_intent(now, earlier.before);
        }
    }

    /// Locked rooms do not show their codes: those in reach are asked, also where a room that
    /// shows its code has the same one.
    fn seek(
        &mut self,
        now: LocalTime,
        request: RoomRequest,
        text: &str,
        shown: Option<RoomCard>,
    ) -> Result<(), Refusal> {
        let code = text.trim().to_uppercase();
        let hidden = |card: &&RoomCard| card.locked && card.code.is_empty();
        let peers = self.peers.iter();
        let known = shown.as_ref().map(|card| card.id);
        let hidden = peers.filter_map(|(node, peer)| {
            let card = peer.room.as_ref().filter(hidden)?;
            (known != Some(card.id)).then_some((*node, card.id))
        });
        let mut hidden = hidden.collect::<Vec<_>>();
        if code.chars().count() > crate::base::limits::MAX_CODE {
            hidden.clear();
        }
        let patience = if shown.is_some() { OTHERS_PATIENCE } else { SEEK_PATIENCE };
        let asked = hidden.iter().map(|(_, room)| *room).collect::<BTreeSet<_>>();
        let found = shown.into_iter().collect();
        for (node, _) in hidden {
            self.send(node, super::Message::Seek { code: code.clone() });
        }
        let sought = Some(Sought { code, asked, found });
        self.seek_on(now, RoomRequest { sought, until: now + patience, ..request })
    }

    /// What is found is entered once all have answered; until then it waits.
    fn seek_on(&mut self, now: LocalTime, mut request: RoomRequest) -> Result<(), Refusal> {
        let Some(sought) = request.sought.take() else { return Ok(()) };
        if !sought.asked.is_empty() && now < request.until {
            self.requests.room = Some(RoomRequest { sought: Some(sought), ..request });
            return Ok(());
        }
        match sought.found.as_slice() {
            [] => Err(no_such_room(&sought.code)),
            [card] => self.go_to(now, request, card),
            cards => Err(several_rooms(&sought.code, cards)),
        }
    }

    /// A search that has lasted long enough ends with what it has found.
    pub(super) fn expire_search(&mut self, now: LocalTime) {
        let is_over = |r: &mut RoomRequest| r.sought.is_some() && r.until <= now;
        if let Some(request) = self.requests.room.take_if(is_over) {
            let id = request.id;
            if let Err(refusal) = self.seek_on(now, request) {
                self.outputs.push_back(Output::Reply { id, reply: Err(refusal) });
            }
        }
    }

    /// A node says that its room has the code that a person looks for.
    pub(super) fn found_received(
        &mut self,
        now: LocalTime,
        from: super::NodeId,
        code: &str,
        room: RoomId,
    ) {
        let card = self.peers.get(&from).and_then(|peer| peer.room.clone());
        let Some(card) = card.filter(|card| card.id == room) else { return };
        let is_it = |r: &mut RoomRequest| r.sought.as_ref().is_some_and(|s| s.code == code);
        let Some(mut request) = self.requests.room.take_if(is_it) else { return };
        if let Some(sought) = &mut request.sought
            && sought.asked.remove(&room)
        {
            sought.found.push(card);
            request.until = request.until.min(now + OTHERS_PATIENCE);
        }
        let id = request.id;
        if let Err(refusal) = self.seek_on(now, request) {
            self.outputs.push_back(Output::Reply { id, reply: Err(refusal) });
        }
    }

    /// The maker of an invite is found among those connected, or at the addresses in it.
    fn join_by_invite(&mut self, now: LocalTime, request: RoomRequest, invite: InviteText) {
        let (by, addresses) = (invite.by, invite.addresses.clone());
        self.requests.room = Some(RoomRequest { invite: Some(invite), ..request });
        if let Some(peer) = self.peers.get(&by) {
            let (address, card) = (peer.address, peer.room.clone());
            return self.note_reached(now, by, address, card.as_ref());
        }
        for address in addresses {
            self.outputs.push_back(Output::Dial { address, node: Some(by) });
        }
    }

    /// Somebody answers at an address: if a person wants into the room there, now it is known
    /// which one that is.
    pub(super) fn note_reached(
        &mut self,
        now: LocalTime,
        node: super::NodeId,
        address: SocketAddr,
        card: Option<&RoomCard>,
    ) {
        let Some(card) = card else { return };
        let is_it = |r: &mut RoomRequest| {
            r.room.is_none()
                && (r.address == Some(address) || r.invite.as_ref().is_some_and(|i| i.by == node))
        };
        if let Some(request) = self.requests.room.take_if(is_it) {
            self.go_on_to(now, request, card);
        }
    }

    fn go_on_to(&mut self, now: LocalTime, request: RoomRequest, card: &RoomCard) {
        let id = request.id;
        if let Err(refusal) = self.go_to(now, request, card) {
            self.outputs.push_back(Output::Reply { id, reply: Err(refusal) });
        }
    }

    /// The room is known: with what opens it, if that is needed, it is entered.
    fn go_to(
        &mut self,
        now: LocalTime,
        request: RoomRequest,
        card: &RoomCard,
    ) -> Result<(), Refusal> {
        let room = card.id;
        if self.room_id() == Some(room) {
            let state = self.room.as_ref().map(super::Room::state);
            let (name, code) = state.map(|s| (s.name(), s.code())).unwrap_or_default();
            let has_key = request.invite.is_some() || request.password.is_some();
            if has_key && self.own_cap() != Role::Owner {
                return Err(Refusal::new(
                    RefusalCode::JoinFailed,
                    format!("already in {name} ({code}), as {}", self.own_cap().as_str()),
                    "to come in as more, leave it first: `groovebox room leave`",
                ));
            }
            let message = format!("already in {name} ({code})");
            self.reply_done(request.id, message);
            return Ok(());
        }
        let until = now + JOIN_PATIENCE;
        let request = RoomRequest { room: Some(room), until, ..request };
        let id = request.id;
        let key = request.invite.as_ref().map(|invite| invite.key.clone());
        let password = request.password.clone();
        if card.locked && key.is_none() && password.is_none() && self.pass_for(room).is_none() {
            return Err(super::rooms::locked());
        }
        self.requests.room = Some(request);
        match (key, password) {
            (Some(key), _) => self.enter_with(now, room, key),
            (None, Some(password)) if card.locked => {
                self.outputs.push_back(Output::Stretch { id, room, password });
            }
            _ => self.membership.set_intent(now, Intent::Room(room)),
        }
        Ok(())
    }

    /// Goes into a room with what opens it.
    pub(super) fn enter_with(&mut self, now: LocalTime, room: RoomId, key: Key) {
        if self.requests.room.as_ref().is_none_or(|request| request.room != Some(room)) {
            return;
        }
        self.door.pass.take_if(|(known, _)| *known == room);
        self.door.key = Some((room, key));
        self.membership.set_intent(now, Intent::Room(room));
    }

    pub(super) fn reply_done(&mut self, id: RequestId, message: String) {
        self.outputs.push_back(Output::Reply { id, reply: Ok(done(message)) });
    }
}

pub(super) fn no_such_entry(id: EntryId) -> Refusal {
    Refusal::new(
        RefusalCode::NotFound,
        format!("the queue has no entry {}; nothing was changed", id.0),
        "`groovebox queue` lists the entries with their numbers",
    )
}

/// Whether a command makes sense in a room only.
fn needs_room(command: &Command) -> bool {
    !matches!(
        command,
        Command::CreateRoom { .. }
            | Command::JoinRoom { .. }
            | Command::LeaveRoom
            | Command::BecomeUser { .. }
            | Command::Friend(_)
            | Command::Pair(_)
    )
}

fn no_such_place(state: &RoomState, place: usize) -> Refusal {
    Refusal::new(
        RefusalCode::InvalidRequest,
        format!("there is no place {place} in a queue of {}", state.queue().len()),
        "place 1 is what plays next; `groovebox queue` lists the entries in their order",
    )
}

/// A volume after a change; an absolute one beyond 100 is refused, a relative one stops at the
/// ends.
fn changed(old: u8, change: VolumeChange) -> Result<u8, Refusal> {
    match change {
        VolumeChange::To(volume) if volume <= 100 => Ok(volume),
        VolumeChange::To(volume) => Err(Refusal::new(
            RefusalCode::InvalidRequest,
            format!("{volume} is no volume"),
            "a volume is 0 to 100, or a change like +5 or -5",
        )),
        VolumeChange::By(by) => {
            let new = (i16::from(old) + i16::from(by)).clamp(0, 100);
            Ok(u8::try_from(new).expect("clamped to a volume"))
        }
    }
}

/// Splits tracks so that each part fits into one operation.
fn batches(tracks: Vec<Track>) -> Vec<Vec<Track>> {
    let fits = |tracks: &[Track]| {
        let body = OpBody::Add { tracks: tracks.to_vec(), mode: AddMode::Append };
        codec::encode_body(&body).is_ok()
    };
    if tracks.len() <= 1 || fits(&tracks) {
        return vec![tracks];
    }
    let mut first = tracks;
    let second = first.split_off(first.len() / 2);
    let mut parts = batches(first);
    parts.extend(batches(second));
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::BlobHash;
    use crate::wire::Codec;

    #[test]
    fn volumes_stop_at_the_ends() {
        assert_eq!(changed(95, VolumeChange::By(10)), Ok(100));
        assert_eq!(changed(5, VolumeChange::By(-10)), Ok(0));
        assert!(changed(5, VolumeChange::To(101)).is_err());
    }

    #[test]
    fn a_folder_with_long_names_is_added_in_parts_that_fit() {
        let track = Track {
            hash: BlobHash([1; 32]),
            size: 1,
            codec: Codec::Flac,
            rate: 48_000,
            channels: 2,
            frames: 1,
            delay: 0,
            title: "t".repeat(1000),
            artists: vec![],
            album: String::new(),
        };
        let parts = batches(vec![track; 500]);
        assert!(parts.len() > 1);
        assert_eq!(parts.iter().map(Vec::len).sum::<usize>(), 500);
        for tracks in parts {
            assert!(codec::encode_body(&OpBody::Add { tracks, mode: AddMode::Play }).is_ok());
        }
    }
}
