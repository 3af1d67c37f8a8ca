//! Who governs the music: the people of a room, its owner, its DJ, its votes and its settings, and
//! what follows from what they do. What is allowed is decided in `rules` before.
//!
//! What it decides about the music itself comes back as [`Effect`]s, for the state to carry out.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};

use crate::base::limits::{
    MAX_BANNED, MAX_DEADLINES, MAX_ENDED_FRIENDSHIPS, MAX_NAME, MAX_REMEMBERED, MAX_SINCE,
};
use crate::base::{NodeId, OpId, RoomTime, Span, UserId};
use crate::engine::planted::{self, Bug};
use crate::wire::op::{
    Choice, Control, EndedFriendship, OnDjLeave, PersonCard, Role, Setting, Subject, VoteCall,
    VoteKind,
};

use super::chat::Chat;
use super::members::Stamp;
use super::people::{People, Person};
use super::settings::{self, Settings};
use super::votes::{Session, Verdict, Votes, draw};

/// How long the owner is away until somebody acts for them.
const OWNER_AWAY: Span = Span::from_secs(600);

/// How long somebody who was sent out stays out.
const KICKED_FOR: Span = Span::from_secs(300);

/// How long whoever called a mutiny or a kick that failed may not call another.
const CALLER_BARRED: Span = Span::from_secs(300);

/// How long a guest must have been here to count in an electorate.
const GUEST_PROBATION: Span = Span::from_secs(60);

/// Who has the music in hand.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Dj {
    /// Who.
    pub user: UserId,
    /// Since when.
    pub since: RoomTime,
}

/// Why somebody is DJ no longer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DjEnd {
    /// A mutiny.
    Mutiny,
    /// An election that somebody else won.
    Vote,
    /// They stepped down or handed over.
    Voluntary,
    /// They vanished, or left the room.
    Disconnect,
    /// The owner said so.
    Owner,
}

/// A DJ of the past.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PastDj {
    /// Who.
    pub user: UserId,
    /// What they were called.
    pub name: String,
    /// Since when.
    pub from: RoomTime,
    /// Until when.
    pub to: RoomTime,
    /// Why no longer.
    pub reason: DjEnd,
}

/// What is to be done to the music or the devices.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Effect {
    /// On to the next.
    Skip,
    /// Hold it.
    Pause,
    /// A person is out, with all devices.
    Out(UserId),
}

/// Somebody who is kept out, or kept from chatting.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Ban {
    /// What they were called.
    pub name: String,
    /// By what.
    pub by: Stamp,
}

/// How somebody comes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Coming {
    /// How high they may rise.
    pub cap: Role,
    /// When they asked for their name.
    pub claim: Stamp,
    /// Their device has made the room.
    pub made_it: bool,
}

/// When, by what, and a draw that nobody can choose.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment<'a> {
    pub at: RoomTime,
    pub op: &'a OpId,
    pub seed: u64,
}

/// The whole of it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(super) struct Government {
    pub people: People,
    pub owner: Option<UserId>,
    pub dj: Option<Dj>,
    /// How often the DJ has changed.
    pub dj_epoch: u32,
    past_djs: VecDeque<PastDj>,
    cooldowns: BTreeMap<UserId, RoomTime>,
    pub settings: Settings,
    set_by: BTreeMap<String, Stamp>,
    pub votes: Votes,
    pub chat: Chat,
    banned: BTreeMap<Subject, Ban>,
    /// Who may not chat, here or not, and by what.
    silenced: BTreeMap<UserId, Ban>,
    kicked: BTreeMap<Subject, RoomTime>,
    /// What the password became by stretching. Members only ever see it.
    pub lock: Option<[u8; 32]>,
    /// Raised by every change of the lock, also where there is none now, and by every ban.
    pub lock_epoch: u32,
    pub lock_by: Option<Stamp>,
    pub deleted: bool,
    /// With whom the owner is friends no longer, and up to when nothing holds.
    ended: BTreeMap<[u8; 16], u64>,
}

/// What can be read.
impl Government {
    /// Who acts as owner: the owner, or while they have been away for long whoever has been here
    /// longest.
    pub fn acting_owner(&self, at: RoomTime) -> Option<UserId> {
        let owner = self.owner?;
        let away = self.people.get(&owner).and_then(|person| person.away_for(at));
        if away.is_none_or(|away| away < OWNER_AWAY) {
            return Some(owner);
        }
        self.people.by_presence().first().copied().or(Some(owner))
    }

    pub fn is_dj(&self, user: &UserId) -> bool {
        self.dj.is_some_and(|dj| dj.user == *user)
    }

    pub fn name_of(&self, user: &UserId) -> String {
        self.people.get(user).map_or_else(|| user.short(), |person| person.name.clone())
    }

    /// Until when somebody may not be DJ.
    pub fn cooling_until(&self, user: &UserId, at: RoomTime) -> Option<RoomTime> {
        self.cooldowns.get(user).copied().filter(|until| *until > at)
    }

    /// Whether somebody could be DJ: they are here, and nothing speaks against it.
    pub fn may_be_dj(&self, user: &UserId, at: RoomTime) -> bool {
        self.people.get(user).is_some_and(|person| {
            person.is_here()
                && (!person.is_guest() || self.settings.guests_may.control)
                && person.cap != Role::Listener
                && self.cooling_until(user, at).is_none()
        })
    }

    /// Whether a person, or a device without one, may control the music.
    pub fn may_control(&self, user: Option<&UserId>, at: RoomTime) -> bool {
        let is_guest = user.and_then(|user| self.people.get(user)).is_some_and(Person::is_guest);
        if is_guest && !self.settings.guests_may.control {
            return false;
        }
        match (self.settings.control, user) {
            (Control::Everyone, _) => true,
            // Nobody owns it while only those are there to whom it cannot pass.
            (Control::Owner, Some(user)) => {
                self.acting_owner(at).map_or(!is_guest, |owner| owner == *user)
            }
            (Control::Dj, Some(user)) => match self.dj {
                Some(dj) => dj.user == *user,
                None => self.may_be_dj(user, at),
            },
            (Control::Owner, None) => self.owner.is_none() && self.people.all().is_empty(),
            // Where nobody is who could be DJ, the speakers are all there is.
            (Control::Dj, None) => self.people.all().is_empty(),
        }
    }

    /// Who has a vote that is opened now.
    pub fn electorate(&self, at: RoomTime) -> BTreeSet<UserId> {
        let counts = |person: &Person| {
            !person.is_guest()
                || self.settings.guests_may.vote && at - person.joined_at >= GUEST_PROBATION
        };
        let here = self.people.all().iter().filter(|(_, p)| p.is_here() && counts(p));
        here.map(|(user, _)| *user).collect()
    }

    pub fn past_djs(&self) -> impl DoubleEndedIterator<Item = &PastDj> {
        self.past_djs.iter()
    }

    pub fn set_by(&self, key: &str) -> Option<Stamp> {
        self.set_by.get(key).copied()
    }

    pub fn is_banned(&self, subject: Subject) -> bool {
        self.banned.contains_key(&subject)
    }

    pub fn banned_by(&self, subject: Subject) -> Option<Stamp> {
        self.banned.get(&subject).map(|ban| ban.by)
    }

    /// What muted somebody, here or not, or what let them speak again while they are here.
    pub fn silenced_by(&self, user: &UserId) -> Option<Stamp> {
        let absent = || self.silenced.get(user).map(|ban| ban.by);
        self.people.get(user).map_or_else(absent, |person| person.silenced_by)
    }

    /// Who may not chat, here or not, and what they were called.
    pub fn silenced(&self) -> impl Iterator<Item = (&UserId, &str)> {
        self.silenced.iter().map(|(user, ban)| (user, ban.name.as_str()))
    }

    pub fn banned(&self) -> impl Iterator<Item = (&Subject, &str)> {
        self.banned.iter().map(|(subject, ban)| (subject, ban.name.as_str()))
    }

    /// Until when somebody who was sent out stays out.
    pub fn out_until(&self, subject: Subject, at: RoomTime) -> Option<RoomTime> {
        self.kicked.get(&subject).copied().filter(|until| *until > at)
    }

    /// The latest beginning of a friendship of the owner's that does not hold any more.
    pub fn ended_up_to(&self, mark: &[u8; 16]) -> u64 {
        self.ended.get(mark).copied().unwrap_or(0)
    }

    pub fn knows_ended(&self, ended: &EndedFriendship) -> bool {
        let is_full = self.ended.len() >= MAX_ENDED_FRIENDSHIPS;
        let oldest = self.ended.values().min().filter(|_| is_full);
        self.ended_up_to(&ended.mark) >= ended.since || oldest.is_some_and(|at| ended.since <= *at)
    }

    /// What every reachable room obeys; for states from elsewhere.
    pub fn check(&self) -> Result<(), &'static str> {
        let sane = self.people.is_sane()
            && self.votes.is_sane()
            && self.chat.is_sane()
            && self.settings.is_sane()
            && self.past_djs.len() <= MAX_REMEMBERED
            && self.past_djs.iter().all(|past| past.name.chars().count() <= MAX_NAME)
            && self.cooldowns.len() <= MAX_DEADLINES
            && self.banned.len() <= MAX_BANNED
            && self.banned.values().all(|ban| ban.name.chars().count() <= MAX_NAME)
            && self.kicked.len() <= MAX_BANNED
            && self.silenced.len() <= MAX_BANNED
            && self.silenced.values().all(|ban| ban.name.chars().count() <= MAX_NAME)
            && self.ended.len() <= MAX_ENDED_FRIENDSHIPS
            && self.set_by.len() <= Settings::default().list().len() + 1
            && self.dj_epoch <= u32::MAX / 2
            && self.lock_epoch <= u32::MAX / 2;
        if sane { Ok(()) } else { Err("a government that no rule makes") }
    }
}

/// What operations do.
impl Government {
    /// A person comes, with one more device. The first to come owns what nobody owns; where they
    /// have made the room, they are its DJ as well.
    pub fn join(&mut self, card: &PersonCard, came: Coming, at: RoomTime) {
        let Coming { cap, claim, made_it } = came;
        self.people.join(card, cap, claim, at);
        // Going and coming back is no way to be heard again.
        let silenced = self.silenced.get(&card.user).map(|ban| ban.by);
        if let (Some(by), Some(person)) = (silenced, self.people.get_mut(&card.user)) {
            person.silenced = true;
            person.silenced_by = Some(by);
        }
        let may_own = self.people.get(&card.user).is_some_and(Person::may_own);
        if self.owner.is_none() && may_own {
            self.owner = Some(card.user);
            if made_it && self.dj.is_none() {
                self.settings.control = Control::Dj;
                self.begin_dj(card.user, at);
            }
        }
    }

    /// A person has no device here any more. What they owned passes on. If they were the DJ, they
    /// are it no longer for this reason.
    pub fn leave(&mut self, user: &UserId, why: DjEnd, now: Moment<'_>) -> Vec<Effect> {
        let name = self.name_of(user);
        if let Some(muted) = self.silenced.get_mut(user) {
            muted.name.clone_from(&name);
        }
        self.people.remove(user);
        if self.owner == Some(*user) {
            self.owner = self.people.by_presence().first().copied();
            // They were the friendships of whoever owned it.
            self.ended.clear();
        }
        if !self.is_dj(user) {
            return Vec::new();
        }
        self.end_dj(why, &name, now.at);
        match self.settings.on_dj_leave {
            OnDjLeave::Elect => self.open_election(now),
            OnDjLeave::Random => self.draw_dj(now),
            OnDjLeave::Pause => return vec![Effect::Pause],
            OnDjLeave::Keep => {}
        }
        Vec::new()
    }

    pub fn presence(&mut self, here: &[UserId], away: &[UserId], now: Moment<'_>) -> Vec<Effect> {
        for user in here {
            self.people.set_presence(user, true, now.at);
        }
        for user in away {
            self.people.set_presence(user, false, now.at);
        }
        // The owner went while everybody else was away.
        if self.owner.is_none() {
            self.owner = self.people.by_presence().first().copied();
        }
        let vanished = self.dj.filter(|dj| away.contains(&dj.user));
        let Some(dj) = vanished else { return Vec::new() };
        let name = self.name_of(&dj.user);
        match self.settings.on_dj_leave {
            OnDjLeave::Keep => {}
            OnDjLeave::Pause => return vec![Effect::Pause],
            OnDjLeave::Elect => {
                self.end_dj(DjEnd::Disconnect, &name, now.at);
                self.open_election(now);
            }
            OnDjLeave::Random => {
                self.end_dj(DjEnd::Disconnect, &name, now.at);
                self.draw_dj(now);
            }
        }
        Vec::new()
    }

    /// Of more than the room remembers, the ones of the longest ago are forgotten.
    pub fn end_friendships(&mut self, ended: &[EndedFriendship]) {
        for EndedFriendship { mark, since } in ended {
            let known = self.ended.entry(*mark).or_default();
            *known = (*known).max((*since).min(MAX_SINCE));
        }
        while self.ended.len() > MAX_ENDED_FRIENDSHIPS {
            let oldest = self.ended.iter().min_by_key(|(_, since)| **since);
            let Some(mark) = oldest.map(|(mark, _)| *mark) else { break };
            self.ended.remove(&mark);
        }
    }

    pub fn kick(&mut self, subject: Subject, at: RoomTime) {
        self.kicked.retain(|_, until| *until > at);
        if self.kicked.len() < MAX_BANNED {
            self.kicked.insert(subject, at + KICKED_FOR);
        }
    }

    /// Whoever is banned stays out, and so does whoever was let in by what they know.
    pub fn ban(&mut self, subject: Subject, name: String, by: Stamp) {
        // Who was banned with them before is now banned with them by this.
        if let Some(before) = self.banned_by(subject) {
            let together = self.banned.values_mut().filter(|ban| ban.by == before);
            together.for_each(|ban| ban.by = by);
        } else if self.banned.len() < MAX_BANNED {
            self.banned.insert(subject, Ban { name, by });
        }
        self.lock_epoch += 1;
    }

    /// Who was sent out by the same kick.
    pub fn kicked_with(&self, subject: Subject) -> Vec<Subject> {
        let until = self.kicked.get(&subject);
        let together = self.kicked.iter().filter(|(_, other)| Some(*other) == until);
        together.map(|(other, _)| *other).filter(|other| *other != subject).collect()
    }

    /// With all that was banned together with them.
    pub fn unban(&mut self, subject: Subject) {
        if let Some(until) = self.kicked.remove(&subject) {
            self.kicked.retain(|_, other| *other != until);
        }
        let Some(Ban { by, .. }) = self.banned.remove(&subject) else { return };
        self.banned.retain(|_, ban| ban.by != by);
    }

    pub fn set_lock(&mut self, secret: Option<[u8; 32]>, by: Stamp) {
        self.lock_epoch += 1;
        self.lock = secret;
        self.lock_by = Some(by);
    }

    pub fn silence(&mut self, user: &UserId, silenced: bool, by: Stamp) {
        if !silenced {
            self.silenced.remove(user);
        } else if self.silenced.len() < MAX_BANNED {
            self.silenced.insert(*user, Ban { name: self.name_of(user), by });
        }
        if let Some(person) = self.people.get_mut(user) {
            person.silenced = silenced;
            person.silenced_by = Some(by);
        }
    }

    pub fn set(&mut self, setting: &Setting, by: Stamp) {
        self.set_by.insert(settings::key_of(setting).into(), by);
        self.settings.set(setting);
    }

    /// Somebody takes the free place.
    pub fn take_dj(&mut self, user: UserId, at: RoomTime) {
        self.begin_dj(user, at);
    }

    pub fn give_dj(&mut self, to: UserId, at: RoomTime) {
        self.replace_dj(to, DjEnd::Voluntary, at);
    }

    pub fn drop_dj(&mut self, at: RoomTime) {
        if let Some(dj) = self.dj {
            let name = self.name_of(&dj.user);
            self.end_dj(DjEnd::Voluntary, &name, at);
        }
    }

    /// The owner's word stands above a cool-down.
    pub fn appoint_dj(&mut self, by: Option<UserId>, to: UserId, at: RoomTime) {
        self.cooldowns.remove(&to);
        self.replace_dj(to, self.end_by(by), at);
    }

    /// Why the DJ goes, if it is this person's doing.
    fn end_by(&self, by: Option<UserId>) -> DjEnd {
        if self.dj.is_some_and(|dj| Some(dj.user) == by) { DjEnd::Voluntary } else { DjEnd::Owner }
    }

    /// By lot, at somebody's wish.
    pub fn random_dj(&mut self, by: Option<UserId>, now: Moment<'_>) {
        if let Some(drawn) = draw(&self.lots(now.at), now.seed) {
            self.replace_dj(drawn, self.end_by(by), now.at);
        }
    }

    /// Who can be drawn: not who is DJ now.
    pub fn lots(&self, at: RoomTime) -> Vec<UserId> {
        let people = self.people.all().keys();
        people.filter(|user| !self.is_dj(user) && self.may_be_dj(user, at)).copied().collect()
    }

    fn draw_dj(&mut self, now: Moment<'_>) {
        if let Some(user) = draw(&self.lots(now.at), now.seed) {
            self.begin_dj(user, now.at);
        }
    }

    fn replace_dj(&mut self, to: UserId, reason: DjEnd, at: RoomTime) {
        if self.is_dj(&to) {
            return;
        }
        if let Some(dj) = self.dj {
            let name = self.name_of(&dj.user);
            self.end_dj(reason, &name, at);
        }
        self.begin_dj(to, at);
    }

    fn begin_dj(&mut self, user: UserId, at: RoomTime) {
        self.dj = Some(Dj { user, since: at });
        self.dj_epoch += 1;
    }

    /// Whoever is removed by others cools down; whoever goes does not.
    fn end_dj(&mut self, reason: DjEnd, name: &str, at: RoomTime) {
        let Some(dj) = self.dj.take() else { return };
        self.dj_epoch += 1;
        let (user, from) = (dj.user, dj.since);
        self.past_djs.push_back(PastDj { user, name: name.into(), from, to: at, reason });
        while self.past_djs.len() > MAX_REMEMBERED {
            self.past_djs.pop_front();
        }
        let is_removed = matches!(reason, DjEnd::Mutiny | DjEnd::Vote | DjEnd::Owner);
        if is_removed && !planted::is(Bug::UnwrittenCooldown) {
            self.cooldowns.retain(|_, until| *until > at);
            if self.cooldowns.len() < MAX_DEADLINES {
                self.cooldowns.insert(user, at + self.settings.dj_cooldown);
            }
        }
        // Whom it was about is DJ no longer.
        self.end_vote(VoteKind::Mutiny, Verdict::Moot);
    }
}

/// Votes.
impl Government {
    pub fn call_vote(&mut self, call: VoteCall, caller: UserId, now: Moment<'_>) -> Vec<Effect> {
        let kind = call.kind();
        let (target, segment) = match call {
            VoteCall::Election => (None, None),
            VoteCall::Mutiny { .. } => (self.dj.map(|dj| dj.user), None),
            VoteCall::Skip { segment } => (None, Some(segment)),
            VoteCall::Kick { user } => (Some(user), None),
        };
        let mut session = self.new_session(kind, Some(caller), now);
        session.target = target;
        session.segment = segment;
        if kind != VoteKind::Election {
            session.ballots.insert(caller, Choice::Yes);
        }
        self.votes.begin(session);
        self.close_if_settled(kind, now)
    }

    pub fn vote(
        &mut self,
        kind: VoteKind,
        user: UserId,
        choice: Choice,
        now: Moment<'_>,
    ) -> Vec<Effect> {
        let session = self.votes.open_of(kind).map(|session| session.id);
        if let Some(session) = session.and_then(|id| self.votes.session_mut(id)) {
            let before = session.ballots.insert(user, choice);
            if before.is_some() && planted::is(Bug::VoteCountedTwice) {
                session.required = session.required.saturating_sub(1).max(1);
            }
        }
        self.close_if_settled(kind, now)
    }

    fn new_session(&self, kind: VoteKind, caller: Option<UserId>, now: Moment<'_>) -> Session {
        let electorate = self.electorate(now.at);
        Session {
            id: Session::id_of(now.op, kind),
            kind,
            caller,
            target: None,
            segment: None,
            opened_at: now.at,
            closes_at: now.at + self.settings.vote_timeout,
            required: self.settings.required(kind, electorate.len()),
            electorate,
            ballots: BTreeMap::new(),
            seed: now.seed,
        }
    }

    fn open_election(&mut self, now: Moment<'_>) {
        if self.votes.open_of(VoteKind::Election).is_none() {
            let session = self.new_session(VoteKind::Election, None, now);
            self.votes.begin(session);
        }
    }

    fn close_if_settled(&mut self, kind: VoteKind, now: Moment<'_>) -> Vec<Effect> {
        let Some(session) = self.votes.open_of(kind) else { return Vec::new() };
        let required = if planted::is(Bug::ElectorateAtClose) {
            self.settings.required(kind, self.electorate(now.at).len())
        } else {
            session.required
        };
        let session = Session { required, ..session.clone() };
        let Some(verdict) = session.settled(|user| self.may_be_dj(user, now.at)) else {
            return Vec::new();
        };
        let auto_random = self.settings.auto_random_dj;
        let effects = self.carry_out(kind, verdict, now.at);
        if (kind, verdict) == (VoteKind::Mutiny, Verdict::Passed) {
            if auto_random { self.draw_dj(now) } else { self.open_election(now) }
        }
        effects
    }

    /// The first vote whose time is up by `at`: when that was.
    pub fn next_close(&self, at: RoomTime) -> Option<(RoomTime, VoteKind)> {
        self.votes.due(at)
    }

    /// Its time is up.
    pub fn time_is_up(&mut self, kind: VoteKind, at: RoomTime) {
        let Some(session) = self.votes.open_of(kind) else { return };
        let verdict = session.at_the_end(|user| self.may_be_dj(user, at));
        // What a vote decides about the music it decides by its last ballot, never by silence.
        let _ = self.carry_out(kind, verdict, at);
    }

    /// The music has moved on: what was to be skipped is over.
    pub fn skip_is_over(&mut self) {
        self.end_vote(VoteKind::Skip, Verdict::Moot);
    }

    /// Somebody is out already.
    pub fn kick_is_over(&mut self, user: &UserId) {
        if self.votes.open_of(VoteKind::Kick).is_some_and(|s| s.target == Some(*user)) {
            self.end_vote(VoteKind::Kick, Verdict::Moot);
        }
    }

    fn end_vote(&mut self, kind: VoteKind, verdict: Verdict) -> Option<Session> {
        let people = &self.people;
        let name = |user: &UserId| {
            people.get(user).map_or_else(|| user.short(), |person| person.name.clone())
        };
        self.votes.end(kind, verdict, name)
    }

    fn carry_out(&mut self, kind: VoteKind, verdict: Verdict, at: RoomTime) -> Vec<Effect> {
        let Some(session) = self.end_vote(kind, verdict) else { return Vec::new() };
        match (kind, verdict) {
            (VoteKind::Election, Verdict::Elected(user)) => {
                self.replace_dj(user, DjEnd::Vote, at);
            }
            (VoteKind::Mutiny, Verdict::Passed) => {
                let name = self.dj.map(|dj| self.name_of(&dj.user)).unwrap_or_default();
                self.end_dj(DjEnd::Mutiny, &name, at);
            }
            (VoteKind::Skip, Verdict::Passed) => return vec![Effect::Skip],
            (VoteKind::Kick, Verdict::Passed) => {
                return session.target.map(Effect::Out).into_iter().collect();
            }
            (VoteKind::Mutiny | VoteKind::Kick, Verdict::Failed) => {
                if let Some(caller) = session.caller {
                    self.votes.forget_bars(at);
                    self.votes.bar(kind, caller, at + CALLER_BARRED);
                }
            }
            _ => {}
        }
        Vec::new()
    }
}

/// Devices that a subject names, for those who send it out.
pub(super) fn is_meant(subject: Subject, node: &NodeId, user: Option<&UserId>) -> bool {
    match subject {
        Subject::Device(device) => device == *node,
        Subject::Person(person) => user == Some(&person),
    }
}

/// Whether somebody who has voted yes or no may do so again: never.
pub(super) fn may_vote_again() -> bool {
    planted::is(Bug::VoteCountedTwice)
}
