//! The door of a locked room, from both sides: whoever knows its password, or has an invite, shows
//! that to a member without telling it ([`pake`](crate::identity::pake)), and gets the member's signed word, which stands
//! in its join.
//!
//! ```text
//!  asks                                          a member
//!    ── PakeStart{which secret, share} ───────►   many tries of late: PakeLater, then answers
//!    ◄─────────────────── PakeAnswer{share} ──
//!    ── PakeConfirm ──────────────────────────►   wrong: PakeRefused, and it counts
//!    ◄──────── Admitted{confirms, admission} ──   the gate is open for this connection
//!    ── Join{.., admission} ──────────────────►   ordered by the coordinator
//! ```
//!
//! Members of two halves of a room that do not know each other do the same, by the secret that
//! both have in their state.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use super::rooms::CODE_ALPHABET;
use super::{LocalTime, Message, Node, NodeId, Output, RequestId, RoomId, Span, Term, UserId};
use crate::base::limits::MAX_MEMBERS;
use crate::engine::limits::Gcra;
use crate::identity::pake::{Bound, Confirmation, Purpose, Run, Side};
use crate::wire::message::SecretKind;
use crate::wire::op::{Admission, Friendship, OpBody, Role, Terms};
use crate::wire::{Refusal, RefusalCode};

/// Tries of one node: five a minute.
const NODE_EVERY: Span = Span::from_secs(12);
const NODE_BURST: u32 = 5;

/// Tries of all nodes at one member: thirty an hour.
const ROOM_EVERY: Span = Span::from_secs(120);
const ROOM_BURST: u32 = 30;

/// Beyond that an answer comes late, but it comes: nobody can lock others out by guessing.
const LATEST: Span = Span::from_secs(60);

/// Answers that are late at a time, in all and for one address: who waits cannot be pushed out by
/// whoever asks more often.
const MAX_LATE: usize = 32;
const MAX_LATE_OF_ADDRESS: usize = 2;

/// Runs under way at a member.
const MAX_VISITS: usize = 2 * MAX_MEMBERS;

/// How long the other side may take for its next step.
const STEP: Span = Span::from_secs(5);

/// Between two attempts to be known to a node that says that it is of this room.
const KNOCK_EVERY: Span = Span::from_secs(30);

/// Who has just connected is about to show what it is.
const KNOCK_AFTER: Span = Span::from_secs(1);

/// Codes that one device may ask after, at once and then; and all of them together. There are a
/// million codes, and whether one is that of a locked room is nobody's business.
const SEEK_BURST: u32 = 5;
const SEEK_EVERY: Span = Span::from_secs(2);
const SEEK_BURST_OF_ALL: u32 = 20;
const SEEK_EVERY_OF_ALL: Span = Span::from_millis(500);

/// Invites of one member at a time.
const MAX_INVITES: usize = 64;

/// Letters and digits of an invite's code: 80 bits.
const INVITE_CODE: usize = 16;

/// How an invite begins, as people hand it on.
const INVITE: &str = "groovebox-invite:";

/// What this node remembers at the door.
#[derive(Debug)]
pub(super) struct Door {
    visits: BTreeMap<NodeId, Visit>,
    tries: BTreeMap<NodeId, Gcra>,
    tries_of_all: Gcra,
    /// Guesses that others get when this node shows itself to them.
    knocks: Gcra,
    knocked: BTreeMap<NodeId, LocalTime>,
    asked: BTreeMap<NodeId, Asked>,
    seeks: BTreeMap<IpAddr, Gcra>,
    seeks_of_all: Gcra,
    invites: BTreeMap<u32, Invite>,
    last_invite: u32,
    /// What opens the room that this node is about to enter.
    pub(super) key: Option<(RoomId, Key)>,
    /// A member's word that this node may come in.
    pub(super) pass: Option<(RoomId, Admission)>,
    /// That whoever gave it is a friend of the room's owner.
    inviter: Option<(RoomId, Friendship)>,
    /// A new room that is to be locked before anybody comes in, and who waits for that.
    pub(super) locking: Option<(Option<RoomId>, RequestId)>,
    /// To whom the network gives pieces; none is everybody.
    pub(super) admitted: Option<BTreeSet<NodeId>>,
    /// Whose devices have been inside.
    pub(super) users: BTreeMap<NodeId, UserId>,
}

/// What opens a room.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Key {
    /// The stretched password.
    Password([u8; 32]),
    /// An invite, which only its maker knows.
    Invite {
        /// Its maker.
        by: NodeId,
        number: u32,
        code: String,
    },
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(..)")
    }
}

impl Key {
    fn kind(&self) -> SecretKind {
        match self {
            Key::Password(_) => SecretKind::Password,
            Key::Invite { number, .. } => SecretKind::Invite { number: *number },
        }
    }

    fn secret(&self) -> &[u8] {
        match self {
            Key::Password(secret) => secret,
            Key::Invite { code, .. } => code.as_bytes(),
        }
    }
}

/// Somebody asks to come in.
#[derive(Debug)]
enum Visit {
    /// It is answered later.
    Late { kind: SecretKind, share: [u8; 32], at: LocalTime },
    /// It is to confirm.
    Answered { kind: SecretKind, epoch: u32, confirmation: Confirmation, until: LocalTime },
}

/// This node asks somebody.
#[derive(Debug)]
struct Asked {
    room: RoomId,
    step: Step,
    until: LocalTime,
}

#[derive(Debug)]
enum Step {
    Started(Box<Run>),
    Confirmed(Confirmation),
}

/// An invite that this node has made.
#[derive(Debug)]
struct Invite {
    code: String,
    uses: u32,
    until: LocalTime,
    /// A new password or a ban makes it void.
    epoch: u32,
    /// How high whoever comes with it may rise.
    cap: Role,
}

/// An invite as text.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct InviteText {
    pub(super) key: Key,
    /// Its maker.
    pub(super) by: NodeId,
    pub(super) addresses: Vec<SocketAddr>,
}

impl Default for Door {
    fn default() -> Door {
        Door {
            visits: BTreeMap::new(),
            tries: BTreeMap::new(),
            tries_of_all: Gcra::new(ROOM_EVERY, ROOM_BURST),
            knocks: Gcra::new(ROOM_EVERY, ROOM_BURST),
            knocked: BTreeMap::new(),
            asked: BTreeMap::new(),
            seeks: BTreeMap::new(),
            seeks_of_all: Gcra::new(SEEK_EVERY_OF_ALL, SEEK_BURST_OF_ALL),
            invites: BTreeMap::new(),
            last_invite: 0,
            key: None,
            pass: None,
            inviter: None,
            locking: None,
            admitted: None,
            users: BTreeMap::new(),
        }
    }
}

impl Door {
    /// Another room, or none. What was shown for a room stays.
    pub(super) fn room_changed(&mut self) {
        let (key, pass, inviter) = (self.key.take(), self.pass.take(), self.inviter.take());
        let (asked, admitted) = (std::mem::take(&mut self.asked), self.admitted.take());
        // One that is to be locked has no id before it is made.
        let locking = self.locking.filter(|(room, _)| room.is_none());
        *self = Door { asked, key, pass, inviter, locking, admitted, ..Door::default() };
    }

    /// A connection is gone, and every run that was bound to it.
    pub(super) fn peer_gone(&mut self, peer: NodeId) {
        self.visits.remove(&peer);
        self.asked.remove(&peer);
    }

    /// What it holds of others.
    pub(super) fn size(&self) -> usize {
        let n = self.visits.len() + self.tries.len() + self.knocked.len() + self.asked.len();
        n + self.seeks.len() + self.invites.len() + self.users.len()
    }

    /// Whether one more code may be asked after from that address. A stranger makes as many keys
    /// as it likes, and must not use up what all may ask.
    fn may_seek(&mut self, now: LocalTime, from: IpAddr) -> bool {
        let own = bucket(&mut self.seeks, now, from, SEEK_EVERY, SEEK_BURST);
        own.is_some_and(|own| own.take(now).is_ok()) && self.seeks_of_all.take(now).is_ok()
    }

    /// One more try of that node, or how long it has to wait.
    fn take_try(&mut self, now: LocalTime, node: NodeId) -> Result<(), Span> {
        let tries = bucket(&mut self.tries, now, node, NODE_EVERY, NODE_BURST).ok_or(LATEST)?;
        tries.take(now)?;
        self.tries_of_all.take(now).inspect_err(|_| tries.give_back())
    }

    /// It was no guess.
    fn give_try_back(&mut self, node: NodeId) {
        if let Some(tries) = self.tries.get_mut(&node) {
            tries.give_back();
        }
        self.tries_of_all.give_back();
    }
}

/// As a member.
impl Node {
    pub(super) fn pake_start_received(
        &mut self,
        now: LocalTime,
        from: NodeId,
        room: RoomId,
        kind: SecretKind,
        share: [u8; 32],
    ) {
        if let Err(refusal) = self.check_visit(now, from, room, kind) {
            return self.send(from, Message::PakeRefused { room, refusal });
        }
        // Who is answered late waits, however often it asks.
        if let Some(Visit::Late { at, .. }) = self.door.visits.get(&from) {
            let wait_ms = millis(*at - now);
            let at = *at;
            self.door.visits.insert(from, Visit::Late { kind, share, at });
            return self.send(from, Message::PakeLater { room, wait_ms });
        }
        match self.door.take_try(now, from) {
            Ok(()) => self.answer_visit(now, from, kind, &share),
            Err(wait) => self.put_off(now, from, room, kind, share, wait.min(LATEST)),
        }
    }

    /// Whether there is anything to ask for.
    fn check_visit(
        &self,
        now: LocalTime,
        from: NodeId,
        room: RoomId,
        kind: SecretKind,
    ) -> Result<(), Refusal> {
        let state = self.room.as_ref().map(super::Room::state).filter(|state| {
            state.id() == room && state.member(&self.me).is_some() && self.door.locking.is_none()
        });
        let state = state.ok_or_else(|| {
            Refusal::new(
                RefusalCode::JoinFailed,
                "the device that was asked is in another room",
                "try again",
            )
        })?;
        self.check_not_out(now, from)?;
        if kind == SecretKind::Password && state.lock().is_none() {
            return Err(Refusal::new(
                RefusalCode::JoinFailed,
                "the room is not locked any more",
                "join it without a password",
            ));
        }
        let is_limited = self.own_cap() != Role::Owner && state.has_unlimited();
        if kind == SecretKind::Password && is_limited {
            return Err(Refusal::new(
                RefusalCode::JoinFailed,
                format!("{} came in with a limited invite and cannot let anybody in", self.name),
                "try again while another device of the room is on",
            ));
        }
        let is_full = self.door.visits.len() >= MAX_VISITS && !self.door.visits.contains_key(&from);
        if is_full { Err(crowded(LATEST)) } else { Ok(()) }
    }

    fn put_off(
        &mut self,
        now: LocalTime,
        from: NodeId,
        room: RoomId,
        kind: SecretKind,
        share: [u8; 32],
        wait: Span,
    ) {
        let address = |node: &NodeId| self.peers.get(node).map(|peer| peer.address.ip());
        let late = self.door.visits.iter().filter(|(_, visit)| matches!(visit, Visit::Late { .. }));
        let late = late.map(|(node, _)| address(node)).collect::<Vec<_>>();
        let of_address = late.iter().filter(|other| **other == address(&from)).count();
        if late.len() >= MAX_LATE || of_address >= MAX_LATE_OF_ADDRESS {
            let refusal = crowded(wait);
            return self.send(from, Message::PakeRefused { room, refusal });
        }
        tracing::info!(peer = %from.short(), "many tries to enter the room; the next one waits");
        self.door.visits.insert(from, Visit::Late { kind, share, at: now + wait });
        self.send(from, Message::PakeLater { room, wait_ms: millis(wait) });
    }

    fn answer_visit(&mut self, now: LocalTime, from: NodeId, kind: SecretKind, share: &[u8; 32]) {
        let Some(room) = &self.room else { return };
        let (id, epoch) = (room.id(), room.state().lock_epoch());
        let lock = room.state().lock().copied();
        let invite = |number| {
            let invite = self.door.invites.get(&number);
            invite.filter(|i| i.uses > 0 && i.until > now && i.epoch == epoch)
        };
        let key = match kind {
            SecretKind::Password => lock.map(Key::Password),
            SecretKind::Invite { number } => invite(number).map(|invite| Key::Invite {
                by: self.me,
                number,
                code: invite.code.clone(),
            }),
        };
        let Some(key) = key else {
            let refusal = no_such_invite();
            return self.send(from, Message::PakeRefused { room: id, refusal });
        };
        let Some(bound) = self.bound(from, self.me, from, id, kind) else { return };
        let run = Run::begin(Side::Insider, key.secret(), bound, &mut self.secrets);
        let ours = run.share();
        let Some(confirmation) = run.finish(share) else {
            let refusal = wrong(kind);
            return self.send(from, Message::PakeRefused { room: id, refusal });
        };
        let until = now + STEP;
        self.door.visits.insert(from, Visit::Answered { kind, epoch, confirmation, until });
        self.send(from, Message::PakeAnswer { room: id, share: ours });
    }

    pub(super) fn pake_confirm_received(
        &mut self,
        now: LocalTime,
        from: NodeId,
        room: RoomId,
        confirmation: &[u8; 32],
    ) {
        let visit = self.door.visits.remove(&from);
        let Some(Visit::Answered { kind, epoch, confirmation: run, .. }) = visit else { return };
        let known = self.room.as_ref().filter(|known| known.id() == room);
        let Some(present) = known.map(|room| room.state().lock_epoch()) else { return };
        if !run.is_theirs(confirmation) {
            tracing::info!(peer = %from.short(), "somebody at the door did not know the secret");
            return self.send(from, Message::PakeRefused { room, refusal: wrong(kind) });
        }
        self.door.give_try_back(from);
        let invited = matches!(kind, SecretKind::Invite { .. });
        let checked = if invited { self.check_inviting() } else { Ok(()) };
        if let Err(refusal) = checked {
            return self.send(from, Message::PakeRefused { room, refusal });
        }
        let cap = self.use_invite(kind).filter(|_| present == epoch);
        let Some(cap) = cap else {
            let refusal = no_such_invite();
            return self.send(from, Message::PakeRefused { room, refusal });
        };
        let admission = Admission::signed(&self.key, room, from, Terms { epoch, invited, cap });
        let confirmation = run.ours();
        let is_for_friends = self.room.as_ref().is_some_and(|r| r.state().settings().friends_only);
        let friendship = self.friendship_for(room).filter(|_| invited && is_for_friends);
        self.send(from, Message::Admitted { room, confirmation, admission, friendship });
        self.let_in(now, from);
    }

    /// Whether this person's invites open the room: into one for friends its owner's do, and those
    /// of the owner's friends.
    fn check_inviting(&self) -> Result<(), Refusal> {
        let Some(room) = &self.room else { return Ok(()) };
        let owner = room.state().owner().filter(|_| room.state().settings().friends_only);
        match owner {
            Some(owner)
                if self.user_id() != Some(owner) && self.friendship_for(room.id()).is_none() =>
            {
                let name = room.state().person_name(&owner);
                Err(Refusal::new(
                    RefusalCode::NotAllowed,
                    format!("only {name} and their friends invite to this room"),
                    format!("{name} can invite, or be a friend: `groovebox friend add {name}`"),
                ))
            }
            _ => Ok(()),
        }
    }

    /// Whether that opens the room still, and how high one may rise with it.
    fn use_invite(&mut self, kind: SecretKind) -> Option<Role> {
        let SecretKind::Invite { number } = kind else { return Some(Role::Owner) };
        let invite = self.door.invites.get_mut(&number).filter(|invite| invite.uses > 0)?;
        invite.uses -= 1;
        Some(invite.cap)
    }

    /// How high this device's own words may lift somebody.
    pub(super) fn own_cap(&self) -> Role {
        let state = self.room.as_ref().map(super::Room::state);
        state.and_then(|state| state.highest_of(&self.me)).unwrap_or(Role::Owner)
    }

    /// Another member has let that node in.
    pub(super) fn show_received(
        &mut self,
        now: LocalTime,
        from: NodeId,
        room: RoomId,
        admission: &Admission,
    ) {
        let may = self.room_id() == Some(room) && self.is_admitted(from, admission);
        if may && !self.is_kept_out(now, from) {
            self.let_in(now, from);
        }
    }

    /// Shows a node of this room that another member has let us in.
    pub(super) fn show_pass(&mut self, to: NodeId) {
        let pass = self.door.pass.clone().filter(|(room, _)| Some(*room) == self.room_id());
        if let Some((room, admission)) = pass.filter(|_| self.is_locked()) {
            self.send(to, Message::Show { room, admission });
        }
    }

    /// Somebody looks for a room by its code, which a locked one does not show.
    pub(super) fn seek_received(&mut self, now: LocalTime, from: NodeId, code: String) {
        let Some(address) = self.peers.get(&from).map(|peer| peer.address.ip()) else { return };
        if !self.door.may_seek(now, address) {
            return;
        }
        let found = self.room.as_ref().filter(|room| is_code(room.state().code(), &code));
        if let Some(room) = found.map(super::Room::id) {
            self.send(from, Message::Found { code, room });
        }
    }

    /// Makes an invite; whoever has it comes in without the password.
    pub(super) fn invite(
        &mut self,
        now: LocalTime,
        id: RequestId,
        uses: u32,
        lasts: Span,
        cap: Option<Role>,
    ) -> Result<(), Refusal> {
        self.check_inviting()?;
        let own = self.own_cap();
        let cap = cap.unwrap_or(own);
        if cap > own {
            let (own, cap) = (own.as_str(), cap.as_str());
            return Err(Refusal::new(
                RefusalCode::NotAllowed,
                format!("this device came in as {own} itself and cannot invite as {cap}"),
                format!("`groovebox invite --role {own}`, or ask somebody who came in as more"),
            ));
        }
        let room = self.room.as_ref().ok_or_else(Refusal::not_in_room)?;
        let epoch = room.state().lock_epoch();
        self.door.invites.retain(|_, i| i.uses > 0 && i.until > now && i.epoch == epoch);
        if self.door.invites.len() >= MAX_INVITES {
            return Err(Refusal::new(
                RefusalCode::RateLimited,
                format!("{MAX_INVITES} invites of this device are open"),
                "wait until some have run out",
            ));
        }
        self.door.last_invite += 1;
        let number = self.door.last_invite;
        let bytes = self.secrets.bytes::<INVITE_CODE>();
        let letter = |byte: u8| char::from(CODE_ALPHABET[usize::from(byte % 32)]);
        let code = bytes.into_iter().map(letter).collect::<String>();
        let text = format!("{INVITE}{number}.{code}.{}", self.me);
        self.door.invites.insert(number, Invite { code, uses, until: now + lasts, epoch, cap });
        self.reply_done(id, text);
        Ok(())
    }
}

/// As one who asks.
impl Node {
    /// What opens that room, if a person has told it.
    pub(super) fn key_for(&self, room: RoomId) -> Option<Key> {
        let key = self.door.key.as_ref().filter(|(known, _)| *known == room);
        key.map(|(_, key)| key.clone())
    }

    /// A member's word for this node, if one was given for that room.
    pub(super) fn pass_for(&self, room: RoomId) -> Option<Admission> {
        let pass = self.door.pass.as_ref().filter(|(known, _)| *known == room);
        pass.map(|(_, pass)| pass.clone())
    }

    /// What lets this person into a room for friends: the friendship with its owner of whoever
    /// invited them, else their own.
    pub(super) fn introduction_to(&self, room: RoomId) -> Option<Friendship> {
        let inviter = self.door.inviter.as_ref().filter(|(known, _)| *known == room);
        inviter.map(|(_, friendship)| friendship.clone()).or_else(|| self.friendship_for(room))
    }

    /// Shows a member that this node knows what opens the room. Whether it is under way.
    pub(super) fn ask_in(&mut self, now: LocalTime, via: NodeId, room: RoomId, key: &Key) -> bool {
        // An invite is known to its maker only.
        let to = match key {
            Key::Password(_) => via,
            Key::Invite { by, .. } => *by,
        };
        let Some(bound) = self.bound(to, to, self.me, room, key.kind()) else { return false };
        let run = Run::begin(Side::Asker, key.secret(), bound, &mut self.secrets);
        let share = run.share();
        let asked = Asked { room, step: Step::Started(Box::new(run)), until: now + STEP };
        self.door.asked.insert(to, asked);
        self.send(to, Message::PakeStart { room, secret: key.kind(), share });
        true
    }

    /// None where there is no connection any more to which it could be bound.
    fn bound(
        &self,
        peer: NodeId,
        insider: NodeId,
        asker: NodeId,
        room: RoomId,
        kind: SecretKind,
    ) -> Option<Bound> {
        let connection = self.peers.get(&peer)?.channel;
        let purpose = match kind {
            SecretKind::Password => Purpose::Password,
            SecretKind::Invite { number } => Purpose::Invite(number),
        };
        Some(Bound { asker, insider, room, purpose, connection })
    }

    pub(super) fn pake_answer_received(
        &mut self,
        now: LocalTime,
        from: NodeId,
        room: RoomId,
        share: &[u8; 32],
    ) {
        let asked = self.door.asked.remove(&from).filter(|asked| asked.room == room);
        let Some(Asked { step: Step::Started(run), .. }) = asked else { return };
        let Some(confirmation) = run.finish(share) else {
            return self.not_let_in(now, room, &twin());
        };
        let ours = confirmation.ours();
        let step = Step::Confirmed(confirmation);
        self.door.asked.insert(from, Asked { room, step, until: now + STEP });
        self.send(from, Message::PakeConfirm { room, confirmation: ours });
    }

    pub(super) fn admitted_received(
        &mut self,
        now: LocalTime,
        from: NodeId,
        room: RoomId,
        confirmation: &[u8; 32],
        admission: Admission,
        friendship: Option<Friendship>,
    ) {
        let asked = self.door.asked.remove(&from).filter(|asked| asked.room == room);
        let Some(Asked { step: Step::Confirmed(run), .. }) = asked else { return };
        let is_its = admission.issuer == from && admission.verify(room, self.me).is_ok();
        if !run.is_theirs(confirmation) || !is_its {
            return self.not_let_in(now, room, &twin());
        }
        // Between members the word says no more than that this device has the room's secret: whoever
        // came in with a limit does not come back without.
        if self.room_id() != Some(room) || self.own_cap() == Role::Owner {
            self.door.pass = Some((room, admission));
            self.door.inviter = friendship.map(|friendship| (room, friendship));
        }
        if self.room_id() == Some(room) {
            // It knows the secret of our room: whoever it is, it belongs to it.
            self.let_in(now, from);
        } else {
            self.say_join(now, room, from);
        }
    }

    pub(super) fn pake_later_received(
        &mut self,
        now: LocalTime,
        from: NodeId,
        room: RoomId,
        wait_ms: u32,
    ) {
        let wait = Span::from_millis(i64::from(wait_ms)).min(LATEST);
        let Some(asked) = self.door.asked.get_mut(&from).filter(|a| a.room == room) else { return };
        asked.until = now + wait + STEP;
        self.join_waits(now, room, wait + STEP);
    }

    pub(super) fn pake_refused_received(
        &mut self,
        now: LocalTime,
        from: NodeId,
        room: RoomId,
        refusal: &Refusal,
    ) {
        if self.door.asked.get(&from).is_some_and(|asked| asked.room == room) {
            self.door.asked.remove(&from);
            if refusal.code != RefusalCode::JoinFailed || !self.ask_another(now, from, room) {
                self.not_let_in(now, room, refusal);
            }
        }
    }

    /// One device of the room cannot let in whoever knows the password. Whether another is asked.
    fn ask_another(&mut self, now: LocalTime, from: NodeId, room: RoomId) -> bool {
        let key = self.key_for(room).filter(|key| matches!(key, Key::Password(_)));
        let joining = self.joining.as_mut().filter(|joining| joining.is_for(room));
        let (Some(key), Some(joining)) = (key, joining) else { return false };
        joining.turned_away.insert(from);
        let inside = self.peers.iter().filter(|(node, peer)| {
            let is_in = peer.room.as_ref().is_some_and(|card| card.id == room);
            is_in && !joining.turned_away.contains(node)
        });
        let other = inside.map(|(node, _)| *node).next();
        other.is_some_and(|other| self.ask_in(now, other, room, &key))
    }

    /// Of a joining under way nothing comes. Between members that do not know each other it is
    /// tried again later.
    fn not_let_in(&mut self, now: LocalTime, room: RoomId, refusal: &Refusal) {
        if self.joining.as_ref().is_some_and(|joining| joining.is_for(room)) {
            self.join_refused(now, refusal);
        } else {
            tracing::debug!(room = %room.short(), %refusal, "not known to another device");
        }
    }

    /// What is due at the door.
    pub(super) fn look_at_door(&mut self, now: LocalTime) {
        self.door.asked.retain(|_, asked| asked.until > now);
        let late = |(node, visit): (&NodeId, &Visit)| match visit {
            Visit::Late { kind, share, at } if *at <= now => Some((*node, *kind, *share)),
            _ => None,
        };
        let due = self.door.visits.iter().filter_map(late).collect::<Vec<_>>();
        self.door.visits.retain(|_, visit| match visit {
            Visit::Late { at, .. } => *at > now,
            Visit::Answered { until, .. } => *until > now,
        });
        for (node, kind, share) in due {
            self.answer_visit(now, node, kind, &share);
        }
        self.knock(now);
    }

    /// A node that says it is of this locked room, and either is not known here or does not know
    /// this one, joined in another half of it: both have the secret in their state.
    fn knock(&mut self, now: LocalTime) {
        let lock = self.room.as_ref().and_then(|room| room.state().lock());
        let Some(lock) = lock.filter(|_| self.is_member(self.me)) else { return };
        let (key, room) = (Key::Password(*lock), self.room_id());
        let is_strange = |(node, peer): &(&NodeId, &super::Peer)| {
            let card = peer.room.as_ref().filter(|card| Some(card.id) == room);
            let hides = card.is_some_and(|card| card.locked && card.term == Term::ZERO);
            now - peer.since >= KNOCK_AFTER && card.is_some() && (hides || !self.lets_in(**node))
        };
        let strange = self.peers.iter().filter(is_strange).map(|(node, _)| *node);
        let strange = strange.filter(|node| {
            let knocked = self.door.knocked.get(node);
            knocked.is_none_or(|at| now - *at >= KNOCK_EVERY)
                && !self.door.asked.contains_key(node)
                && !self.is_kept_out(now, *node)
        });
        let Some((node, room)) = strange.collect::<Vec<_>>().first().copied().zip(room) else {
            return;
        };
        // Whoever answers gets a guess by it.
        if self.door.knocks.take(now).is_err() {
            return;
        }
        self.door.knocked.retain(|_, at| now - *at < KNOCK_EVERY);
        self.door.knocked.insert(node, now);
        self.ask_in(now, node, room, &key);
    }
}

/// Locking a room as it is made.
impl Node {
    /// The password of a person has been stretched.
    pub(super) fn stretched(
        &mut self,
        now: LocalTime,
        id: RequestId,
        room: RoomId,
        secret: Option<[u8; 32]>,
    ) {
        let failed = || {
            Refusal::new(
                RefusalCode::Internal,
                "there was no memory to work the password out",
                "try again when the device has less to do",
            )
        };
        if let Some((_, request)) = self.door.locking.take_if(|(known, _)| *known == Some(room)) {
            if let Err(refusal) = secret.ok_or_else(failed).and_then(|s| self.lock_new(now, s)) {
                self.outputs.push_back(Output::Reply { id: request, reply: Err(refusal) });
                return;
            }
            let state = self.room.as_ref().map(super::Room::state);
            let (name, code) = state.map(|s| (s.name(), s.code())).unwrap_or_default();
            let message = format!("made {name} ({code}), which is locked");
            return self.reply_done(request, message);
        }
        if !self.requests.is_to_enter(id) {
            return;
        }
        match secret {
            Some(secret) => self.enter_with(now, room, Key::Password(secret)),
            None => drop(self.requests.room_failed(&mut self.outputs, room, &failed())),
        }
    }

    fn lock_new(&mut self, now: LocalTime, secret: [u8; 32]) -> Result<(), Refusal> {
        self.propose_own(now, None, &OpBody::Lock { secret: Some(secret) }).map(drop)
    }
}

/// What one of many has left; none for one more than are kept apart.
fn bucket<K: Ord + Copy>(
    of: &mut BTreeMap<K, Gcra>,
    now: LocalTime,
    key: K,
    every: Span,
    burst: u32,
) -> Option<&mut Gcra> {
    if of.len() >= MAX_VISITS {
        of.retain(|_, bucket| !bucket.is_full(now));
    }
    if of.len() >= MAX_VISITS && !of.contains_key(&key) {
        return None;
    }
    Some(of.entry(key).or_insert_with(|| Gcra::new(every, burst)))
}

/// Whether a person means that code.
pub(super) fn is_code(code: &str, said: &str) -> bool {
    let said = said.trim().to_uppercase();
    code == said || code == format!("GROOVE-{said}")
}

/// Whether a person means the room with that id: they name it as it is shown, or all of it.
pub(super) fn is_id(room: RoomId, said: &str) -> bool {
    let said = said.trim().to_lowercase();
    said.len() >= room.short().len() && room.to_string().starts_with(&said)
}

/// Whether that is an invite, or a part of one.
pub(super) fn is_like_invite(text: &str) -> bool {
    text.trim().starts_with(INVITE.trim_end_matches(|c: char| !c.is_alphanumeric()))
}

/// An invite as somebody pasted it; none if it is something else.
pub(super) fn parse_invite(text: &str) -> Option<InviteText> {
    let rest = text.trim().strip_prefix(INVITE)?;
    let (secret, addresses) = rest.split_once('@').unwrap_or((rest, ""));
    let mut parts = secret.splitn(3, '.');
    let (number, code, by) = (parts.next()?, parts.next()?, parts.next()?);
    let code = code.to_uppercase();
    let is_code = code.len() == INVITE_CODE && code.bytes().all(|c| CODE_ALPHABET.contains(&c));
    let by = by.parse().ok()?;
    let key = Key::Invite { by, number: number.parse().ok()?, code };
    let addresses = addresses.split(',').filter_map(|address| address.parse().ok()).take(4);
    is_code.then(|| InviteText { key, by, addresses: addresses.collect() })
}

fn millis(span: Span) -> u32 {
    u32::try_from(span.as_millis().max(0)).unwrap_or(u32::MAX)
}

fn wrong(kind: SecretKind) -> Refusal {
    match kind {
        SecretKind::Password => Refusal::new(
            RefusalCode::BadPassword,
            "the password is wrong",
            "ask somebody in the room for it, or for an invite: `groovebox invite`",
        ),
        SecretKind::Invite { .. } => Refusal::new(
            RefusalCode::NotAllowed,
            "the invite is not right",
            "copy it as a whole, or ask for another: `groovebox invite`",
        ),
    }
}

fn no_such_invite() -> Refusal {
    Refusal::new(
        RefusalCode::NotAllowed,
        "the invite has run out or was used up",
        "ask for another: `groovebox invite`",
    )
}

/// Whoever answers for a room without knowing its secret is not of it.
fn twin() -> Refusal {
    Refusal::new(
        RefusalCode::BadPassword,
        "the password is wrong, or the device that answered is not of that room",
        "look at `groovebox rooms`: somebody may pretend to be your room",
    )
}

fn crowded(wait: Span) -> Refusal {
    Refusal {
        retry_after_ms: Some(millis(wait)),
        ..Refusal::new(
            RefusalCode::RateLimited,
            "too many have tried to enter the room of late",
            "wait and try again",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invite_survives_being_copied_and_nothing_else_is_one() {
        let node = NodeId([7; 32]);
        let text = format!(" groovebox-invite:3.0123456789abcdef.{node}@192.0.2.1:4766,[::1]:5 ");
        let invite = parse_invite(&text).expect("an invite");
        assert_eq!((invite.by, invite.addresses.len()), (node, 2));
        for wrong in ["GROOVE-7KQ4", "groovebox-invite:", &text[..60], "groovebox-invite:1.2.3"] {
            assert_eq!(parse_invite(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn who_guesses_gets_five_tries_a_minute_and_all_together_thirty_an_hour() {
        let (mut door, mut now) = (Door::default(), LocalTime(0));
        let node = NodeId([1; 32]);
        assert_eq!((0..20).filter(|_| door.take_try(now, node).is_ok()).count(), 5);
        now += Span::from_secs(60);
        assert_eq!((0..20).filter(|_| door.take_try(now, node).is_ok()).count(), 5);
        let others = (0..100).filter(|n| door.take_try(now, NodeId([*n; 32])).is_ok()).count();
        assert!((20..=21).contains(&others), "{others}");
        door.give_try_back(node);
        assert_eq!(door.take_try(now, node), Ok(()), "whoever knew it has not used one up");
    }
}
