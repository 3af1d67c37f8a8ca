//! The state that every member holds: a function of genesis and log alone. Equal logs give
//! equal bytes, and equal bytes an equal [`hash`](RoomState::hash).
//!
//! It never looks at a clock: an entry carries the instant at which it takes effect, and
//! [`settle`](RoomState::settle) moves playback on to any instant. A state that was settled to
//! one instant and then to a later one equals the one that was settled to the later at once,
//! so nodes may look as often as they like.

use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use crate::base::limits::{MAX_MEMBERS, MAX_NAME, MAX_RECENT_OPS, PLAY_STALE};
use crate::base::{BlobHash, EntryKey, NodeId, OpId, RoomId, RoomTime, SegmentId, Span, UserId};
use crate::engine::planted::{self, Bug};
use crate::engine::playout::plan::PLAN_SPANS;
use crate::engine::playout::{GainStep, PlannedSpan};
use crate::engine::status::{PlaybackState, PlaybackStatus, QueueStatus, TrackStatus};
use crate::wire::op::{
    AddMode, Admission, EndedFriendship, Entry, Genesis, Guard, MemberKind, Op, OpBody, QueueOrder,
    Refusal, RefusalCode, Repeat, Role, Setting, Subject,
};
use crate::wire::{Track, codec};

use super::chat::ChatLine;
use super::government::{Coming, Dj, DjEnd, Effect, Government, Moment, PastDj, is_meant};
use super::history::{Heard, History};
use super::members::{self, Member, Stamp};
use super::people::Person;
use super::playback::{Notice, Phase, Playback, QueueEntry, Segment};
use super::seen::Seen;
use super::settings::Settings;
use super::votes::{PastVote, Session, seed_of};
use super::{rights, rules};

/// How long people are shown that an entry was left out.
const NOTICE_SHOWN: Span = Span::from_secs(60);

/// An operation that has its place in the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Recent {
    id: OpId,
    idx: u64,
    at: RoomTime,
}

/// What a room's members agree on.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RoomState {
    id: RoomId,
    name: String,
    code: String,
    unclaimed: bool,
    /// Whoever made it on purpose.
    made_by: Option<NodeId>,
    /// When the last entry took effect.
    applied_at: RoomTime,
    members: BTreeMap<NodeId, Member>,
    pub(super) government: Government,
    pub(super) playback: Playback,
    history: History,
    /// Most recent last.
    recent: VecDeque<Recent>,
    /// All operations there were.
    seen: Seen,
}

impl RoomState {
    /// A room in which nothing has happened and nobody is.
    #[must_use]
    pub fn new(genesis: &Genesis) -> RoomState {
        RoomState {
            id: codec::room_id(genesis),
            name: genesis.name.clone(),
            code: genesis.code.clone(),
            unclaimed: genesis.unattended,
            made_by: (!genesis.unattended).then_some(genesis.founder),
            applied_at: RoomTime(i64::MIN),
            members: BTreeMap::new(),
            government: Government::default(),
            playback: Playback::empty(),
            history: History::default(),
            recent: VecDeque::new(),
            seen: Seen::default(),
        }
    }

    /// Whether an operation would be accepted at `at` in a term of `term_owner`. Depends on
    /// nothing else, so that it is decided alike where it is ordered and where it is applied.
    ///
    /// # Errors
    ///
    /// The refusal, for the person who asked.
    pub fn validate(
        &self,
        op: &Op,
        body: &OpBody,
        term_owner: NodeId,
        at: RoomTime,
    ) -> Result<(), Refusal> {
        rules::check(&self.settled(at), op, body, term_owner, at)
    }

    /// Whether whoever is at a device may add these tracks, however many operations that takes.
    ///
    /// # Errors
    ///
    /// The refusal, for the person who asked.
    pub fn check_adding(
        &self,
        node: NodeId,
        tracks: &[Track],
        mode: AddMode,
        at: RoomTime,
    ) -> Result<(), Refusal> {
        rules::check_adding(&self.settled(at), node, tracks, mode != AddMode::Append, at)
    }

    /// Applies the next entry of the log. Signature and place are the caller's business.
    ///
    /// # Errors
    ///
    /// The refusal of an operation that the rules do not let through. The state is then
    /// settled to the entry's instant and otherwise unchanged, on every node alike.
    pub fn apply(&mut self, entry: &Entry) -> Result<(), Refusal> {
        self.settle(entry.at);
        self.applied_at = self.applied_at.later(entry.at);
        self.playback.repeats = 0;
        let before = self.playback.focus().map(|focus| (focus.id, focus.entry.key));
        let outcome = self.checked_body(entry).map(|body| {
            let same_playing = body.guard().is_some()
                && !matches!(body, OpBody::Next(_) | OpBody::Prev(_) | OpBody::Stop(_));
            self.perform(entry, body);
            if same_playing {
                self.carry_skip_votes(before);
            }
        });
        self.note_over();
        self.note(entry);
        outcome
    }

    fn checked_body(&self, entry: &Entry) -> Result<OpBody, Refusal> {
        let body = codec::decode_body(&entry.op).map_err(|error| {
            Refusal::new(
                RefusalCode::InvalidRequest,
                format!("an operation that this version does not understand ({error})"),
                "update GrooveBox on all devices to the same version",
            )
        })?;
        if !planted::is(Bug::UnvalidatedApply) {
            rules::check(self, &entry.op, &body, entry.term.node, entry.at)?;
        }
        Ok(body)
    }

    fn perform(&mut self, entry: &Entry, body: OpBody) {
        if rules::is_a_persons(&body) {
            self.unclaimed = false;
        }
        let author = entry.op.id.author;
        let user = self.member(&author).and_then(|member| member.user);
        if let Some(person) = user.and_then(|user| self.government.people.get_mut(&user)) {
            person.last_active = entry.at;
        }
        if let Some(body) = self.perform_playback(entry, body, user)
            && let Some(body) = self.perform_membership(entry, body)
        {
            self.perform_government(entry, body, user);
        }
    }

    /// What changes queue, playback or volumes; the body back if it is none of that.
    fn perform_playback(
        &mut self,
        entry: &Entry,
        body: OpBody,
        user: Option<UserId>,
    ) -> Option<OpBody> {
        let (signed, at) = (&entry.op, entry.at);
        let op = &signed.id;
        match body {
            OpBody::Add { tracks, mode } => {
                let late = signed.age(at).is_some_and(|age| age > PLAY_STALE);
                let mode = if late { AddMode::Append } else { mode };
                let fair = self.settings().queue_order == QueueOrder::Fair;
                self.playback.add(op, user, &tracks, mode, fair);
            }
            OpBody::Remove { entries } => self.playback.remove(&entries),
            OpBody::Clear => self.playback.clear(),
            OpBody::Pause(_) => self.playback.pause(op, at),
            OpBody::Resume(_) => self.playback.resume(op, at),
            OpBody::Stop(_) => self.playback.stop(at),
            OpBody::Seek { position, .. } => self.playback.seek(op, position),
            OpBody::Next(_) => self.playback.next(op, at),
            OpBody::Prev(_) => self.playback.prev(op, at),
            OpBody::Begin { .. } => self.playback.begin(at),
            OpBody::Fail { reason, .. } => self.playback.fail(op, at, &reason),
            OpBody::Settle => {}
            OpBody::Volume { member, volume } => {
                self.change(&member, |member| {
                    member.set_volume(volume, at);
                    member.volume_by = Some(Stamp::of(signed));
                });
            }
            OpBody::Mute { member, muted } => {
                self.change(&member, |member| {
                    member.set_muted(muted, at);
                    member.muted_by = Some(Stamp::of(signed));
                });
            }
            OpBody::RoomVolume { volume } => {
                members::set_room_volume(&mut self.members, volume, at);
                let stamp = Some(Stamp::of(signed));
                self.members.values_mut().for_each(|member| member.volume_by = stamp);
            }
            OpBody::Move { entry, behind } => {
                let governs = self.governs(&signed.id.author, user.as_ref(), at);
                self.playback.move_behind(entry, behind, governs);
            }
            OpBody::Shuffle { seed } => self.playback.shuffle(seed),
            OpBody::Repeat { mode } => self.playback.set_repeat(mode, Stamp::of(signed)),
            OpBody::Availability { gone, back } => {
                self.playback.set_absent(op, at, &gone, &back);
            }
            OpBody::UpVote { entry, up } => {
                let fair = self.settings().queue_order == QueueOrder::Fair;
                if let Some(user) = user {
                    self.playback.up_vote(entry, user, up, fair);
                }
            }
            other => return Some(other),
        }
        None
    }

    /// Who comes and who goes; the body back if it is none of that.
    fn perform_membership(&mut self, entry: &Entry, body: OpBody) -> Option<OpBody> {
        let now = moment(entry);
        let author = entry.op.id.author;
        match body {
            OpBody::Join { name, person, admission, .. } => {
                let user = person.as_ref().map(|person| person.user);
                let cap = self.cap_of(&author, admission.as_ref());
                self.join(author, name, user, cap, now);
                if let Some(card) = person {
                    let created = entry.op.created;
                    let asked = if created == Op::NO_TIME { entry.at } else { created };
                    let claim = Stamp::new(asked, entry.op.id);
                    let made_it = self.made_by == Some(author);
                    self.government.join(&card, Coming { cap, claim, made_it }, entry.at);
                }
            }
            OpBody::Leave => self.out(now, DjEnd::Disconnect, |node, _| *node == author),
            OpBody::Presence { here, away } => {
                let effects = self.government.presence(&here, &away, now);
                self.follow(effects, now);
            }
            OpBody::Kick { subject } => {
                self.kick(subject, DjEnd::Owner, now);
            }
            OpBody::Ban { subject } => {
                // Whoever is banned is banned with all they have here: under another name on the
                // same device they would be back at once.
                let by = Stamp::of(&entry.op);
                let person = match subject {
                    Subject::Device(node) => self.member(&node).and_then(|member| member.user),
                    Subject::Person(user) => Some(user),
                };
                let mut meant = vec![subject];
                meant.extend(person.map(Subject::Person).filter(|person| *person != subject));
                for device in person.map(|person| self.devices_of(&person)).unwrap_or_default() {
                    meant.extend(Some(Subject::Device(device)).filter(|device| *device != subject));
                }
                // Sent out first, and banned then.
                meant.extend(self.government.kicked_with(subject));
                let named = |subject: Subject| (subject, self.name_of_subject(&subject));
                for (subject, name) in meant.into_iter().map(named).collect::<Vec<_>>() {
                    self.government.ban(subject, name, by);
                    self.send_out(subject, DjEnd::Owner, now);
                }
            }
            OpBody::Unban { subject } => self.government.unban(subject),
            OpBody::Silence { user, silenced } => {
                self.government.silence(&user, silenced, Stamp::of(&entry.op));
            }
            OpBody::Delete => self.government.deleted = true,
            other => return Some(other),
        }
        None
    }

    fn perform_government(&mut self, entry: &Entry, body: OpBody, user: Option<UserId>) {
        let now = moment(entry);
        let by = Stamp::of(&entry.op);
        let government = &mut self.government;
        let effects = match (body, user) {
            (OpBody::DjRandom, user) => {
                government.random_dj(user, now);
                Vec::new()
            }
            (OpBody::DjTake, Some(user)) => {
                government.take_dj(user, entry.at);
                Vec::new()
            }
            (OpBody::DjGive { to }, _) => {
                government.give_dj(to, entry.at);
                Vec::new()
            }
            (OpBody::DjDrop, _) => {
                government.drop_dj(entry.at);
                Vec::new()
            }
            (OpBody::DjAppoint { to }, user) => {
                government.appoint_dj(user, to, entry.at);
                Vec::new()
            }
            (OpBody::CallVote(call), Some(user)) => government.call_vote(call, user, now),
            (OpBody::Vote { session, choice }, Some(user)) => {
                let kind = government.votes.session(session).map(|session| session.kind);
                kind.map_or_else(Vec::new, |kind| government.vote(kind, user, choice, now))
            }
            (OpBody::Chat { text }, Some(user)) => {
                let created = entry.op.created;
                // Nobody spoke after they were heard.
                let at = if created == Op::NO_TIME { entry.at } else { created.min(entry.at) };
                let name = government.name_of(&user);
                government.chat.say(ChatLine { op: entry.op.id, user, name, at, text });
                Vec::new()
            }
            (OpBody::Set(setting), _) => {
                self.set(&setting, by);
                Vec::new()
            }
            (OpBody::Lock { secret }, _) => {
                government.set_lock(secret, by);
                Vec::new()
            }
            (OpBody::EndFriendships { ended }, _) => {
                government.end_friendships(&ended);
                Vec::new()
            }
            _ => Vec::new(),
        };
        self.follow(effects, now);
    }

    fn set(&mut self, setting: &Setting, by: Stamp) {
        if let Setting::Name(name) = setting {
            self.name.clone_from(name);
        }
        let becomes_fair = *setting == Setting::QueueOrder(QueueOrder::Fair)
            && self.settings().queue_order != QueueOrder::Fair;
        self.government.set(setting, by);
        if becomes_fair {
            self.playback.take_turns();
        }
    }

    /// What the government has decided about the music and the devices.
    fn follow(&mut self, effects: Vec<Effect>, now: Moment<'_>) {
        for effect in effects {
            match effect {
                Effect::Skip => self.playback.next(now.op, now.at),
                Effect::Pause => self.playback.pause(now.op, now.at),
                Effect::Out(user) => self.kick(Subject::Person(user), DjEnd::Vote, now),
            }
        }
    }

    /// For a while; a person with their devices.
    fn kick(&mut self, subject: Subject, why: DjEnd, now: Moment<'_>) {
        self.government.kick(subject, now.at);
        if let Subject::Person(user) = subject {
            for device in self.devices_of(&user) {
                self.government.kick(Subject::Device(device), now.at);
            }
        }
        self.send_out(subject, why, now);
    }

    fn devices_of(&self, user: &UserId) -> Vec<NodeId> {
        let theirs = self.members.iter().filter(|(_, member)| member.user == Some(*user));
        theirs.map(|(node, _)| *node).collect()
    }

    fn send_out(&mut self, subject: Subject, why: DjEnd, now: Moment<'_>) {
        self.out(now, why, |node, member| is_meant(subject, node, member.user.as_ref()));
        // A person may be in the room without a device that is a member.
        if let Subject::Person(user) = subject {
            self.person_left(user, why, now);
        }
    }

    /// These devices are members no longer, and neither are people who have none left.
    fn out(&mut self, now: Moment<'_>, why: DjEnd, who: impl Fn(&NodeId, &Member) -> bool) {
        let gone = self.members.iter().filter(|(node, member)| who(node, member));
        let gone = gone.map(|(node, member)| (*node, member.user)).collect::<Vec<_>>();
        for (node, user) in gone {
            self.members.remove(&node);
            if let Some(user) = user {
                self.person_left(user, why, now);
            }
        }
    }

    /// A person has one device less.
    fn person_left(&mut self, user: UserId, why: DjEnd, now: Moment<'_>) {
        let has_device = self.members.values().any(|member| member.user == Some(user));
        if has_device || self.government.people.get(&user).is_none() {
            return;
        }
        let effects = self.government.leave(&user, why, now);
        self.government.kick_is_over(&user);
        self.follow(effects, now);
    }

    /// A pause or a jump begins another stretch of the same track: who wants to skip it still does.
    fn carry_skip_votes(&mut self, before: Option<(SegmentId, EntryKey)>) {
        let after = self.playback.focus().map(|focus| (focus.id, focus.entry.key));
        if let (Some((from, entry)), Some((to, same))) = (before, after)
            && entry == same
            && from != to
        {
            self.government.votes.carry_skips(from, to);
        }
    }

    /// What is over becomes history, with what the room knows of that moment.
    fn note_over(&mut self) {
        for over in self.playback.take_over() {
            let name = self.name_of_adder(&over.entry);
            let present = self.n_people();
            let dj = self.government.dj.map(|dj| self.government.name_of(&dj.user));
            self.history.note(over, name, dj, present);
        }
        let skips = self.government.votes.open_of(crate::wire::op::VoteKind::Skip);
        let wanted = skips.and_then(|session| session.segment);
        if wanted.is_some() && wanted != self.playback.focus().map(|focus| focus.id) {
            self.government.skip_is_over();
        }
    }

    /// The people who are here.
    fn n_people(&self) -> u32 {
        let people = self.government.people.all().values();
        u32::try_from(people.filter(|person| person.is_here()).count()).unwrap_or(u32::MAX)
    }

    /// Who brought an entry: the person, or where there is none the device.
    fn name_of_adder(&self, entry: &QueueEntry) -> String {
        match entry.adder {
            Some(user) => self.government.name_of(&user),
            None => self.name_of(&entry.added_by),
        }
    }

    fn name_of_subject(&self, subject: &Subject) -> String {
        match subject {
            Subject::Person(user) => self.government.name_of(user),
            Subject::Device(node) => self.name_of(node),
        }
    }

    fn name_of(&self, node: &NodeId) -> String {
        self.member(node).map_or_else(|| node.short(), |member| member.name.clone())
    }

    /// How high whoever comes with this device may rise. Nobody gives more than they have, unless
    /// nobody has more. What binds only its bearer holds also where it lets nobody in. A device
    /// that is here already rises by a new invite only: its other words come from members of
    /// another half of the room, who know of it no more than that it has the room's secret.
    fn cap_of(&self, device: &NodeId, word: Option<&Admission>) -> Role {
        let given = word.map_or(Role::Owner, |word| {
            let own = self.highest_of(&word.issuer).unwrap_or(Role::Owner);
            let is_free = !word.terms.invited && !self.has_unlimited();
            if is_free { word.terms.cap } else { word.terms.cap.min(own) }
        });
        let lifts = |word: &&Admission| word.terms.invited && self.admits(device, word);
        match self.member(device) {
            None => given,
            Some(member) if word.is_some_and(|word| lifts(&word)) => member.cap.max(given),
            Some(member) => member.cap,
        }
    }

    /// A device that is here already changes what it says of itself and keeps the rest.
    fn join(
        &mut self,
        node: NodeId,
        name: String,
        user: Option<UserId>,
        cap: Role,
        now: Moment<'_>,
    ) {
        let kind = if user.is_some() { MemberKind::Person } else { MemberKind::Speaker };
        let before = if let Some(member) = self.members.get_mut(&node) {
            member.name = name;
            member.kind = kind;
            member.cap = cap;
            std::mem::replace(&mut member.user, user)
        } else {
            let mut member = Member::new(name, kind, user, now.at);
            member.cap = cap;
            self.members.insert(node, member);
            None
        };
        if let Some(before) = before.filter(|before| Some(*before) != user) {
            self.person_left(before, DjEnd::Disconnect, now);
        }
    }

    fn change(&mut self, member: &NodeId, how: impl FnOnce(&mut Member)) {
        if let Some(member) = self.members.get_mut(member) {
            how(member);
        }
    }

    fn note(&mut self, entry: &Entry) {
        self.seen.insert(&entry.op.id, entry.idx);
        self.recent.push_back(Recent { id: entry.op.id, idx: entry.idx, at: entry.at });
        while self.recent.len() > MAX_RECENT_OPS {
            self.recent.pop_front();
        }
    }

    /// Moves the room on to `at`: a track that has ended makes way for the next of the queue, a
    /// vote whose time is up is counted. Room time does not run backwards; an earlier `at`
    /// changes nothing.
    pub fn settle(&mut self, at: RoomTime) {
        // In the order in which things happen, so that it does not matter how often somebody
        // looks. Each round closes a vote.
        while let Some((end, kind)) = self.government.next_close(at) {
            self.move_on(end);
            self.government.time_is_up(kind, end);
        }
        self.move_on(at);
    }

    fn move_on(&mut self, at: RoomTime) {
        while self.playback.settle(at) {
            self.note_over();
        }
        self.note_over();
    }

    /// This state at `at`; borrowed when nothing has moved on since.
    #[must_use]
    pub fn settled(&self, at: RoomTime) -> Cow<'_, RoomState> {
        if self.playback.is_settled(at) && self.government.next_close(at).is_none() {
            return Cow::Borrowed(self);
        }
        let mut state = self.clone();
        state.settle(at);
        Cow::Owned(state)
    }

    /// Equal on all members at an equal index.
    #[must_use]
    pub fn hash(&self) -> [u8; 16] {
        codec::hash_state(self)
    }

    #[cfg(test)]
    pub(super) fn recent_ops(&self) -> usize {
        self.recent.len()
    }

    /// What every reachable state of the room of `genesis` obeys; for states from elsewhere.
    pub(super) fn check(&self, genesis: &Genesis) -> Result<(), &'static str> {
        if self.id != codec::room_id(genesis) {
            return Err("a state of another room");
        }
        if self.members.len() > MAX_MEMBERS || !self.members.values().all(Member::is_sane) {
            return Err("members that no rule lets in");
        }
        let long = |text: &str| text.chars().count() > MAX_NAME;
        if self.recent.len() > MAX_RECENT_OPS || long(&self.name) || long(&self.code) {
            return Err("more than a room holds");
        }
        if !self.seen.is_sane() {
            return Err("a record of operations that no log gives");
        }
        self.government.check()?;
        let is_whole = |member: &Member| {
            member.user.is_none_or(|user| self.government.people.get(&user).is_some())
        };
        if !self.members.values().all(is_whole) {
            return Err("a device of a person who is not in the room");
        }
        self.history.check(|track| rules::check_track(track).is_ok())?;
        self.playback.check(|track| rules::check_track(track).is_ok())
    }
}

/// What can be read. Where an instant is asked for, the state must be
/// [settled](RoomState::settled) to it, or to a later one by an operation that was applied
/// ahead of its effect.
impl RoomState {
    /// The room's identity.
    #[must_use]
    pub fn id(&self) -> RoomId {
        self.id
    }

    /// The room's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The room's code.
    #[must_use]
    pub fn code(&self) -> &str {
        &self.code
    }

    /// It made itself and no person has acted in it.
    #[must_use]
    pub fn unclaimed(&self) -> bool {
        self.unclaimed
    }

    /// When the last applied entry took effect; the beginning of time before the first.
    #[must_use]
    pub fn applied_at(&self) -> RoomTime {
        self.applied_at
    }

    /// Index and instant of an operation, if it is among those lately put into the log.
    #[must_use]
    pub fn known(&self, op: &OpId) -> Option<(u64, RoomTime)> {
        self.recent.iter().rev().find(|known| known.id == *op).map(|known| (known.idx, known.at))
    }

    /// Whether an operation has had its place in the log, however long ago. What the room has
    /// forgotten counts as done.
    #[must_use]
    pub fn has_seen(&self, op: &OpId) -> bool {
        self.seen.contains(op)
    }

    /// Start counter and number of the latest operation of an author.
    #[must_use]
    pub fn latest_of(&self, author: &NodeId) -> Option<(u32, u64)> {
        self.seen.latest(author)
    }

    /// What a command that is given now is meant for.
    #[must_use]
    pub fn guard(&self) -> Guard {
        Guard { segment: self.focus().map(|segment| segment.id), dj_epoch: self.dj_epoch() }
    }

    /// How often the DJ has changed.
    #[must_use]
    pub fn dj_epoch(&self) -> u32 {
        self.government.dj_epoch
    }

    /// Who has the music in hand, if anybody.
    #[must_use]
    pub fn dj(&self) -> Option<Dj> {
        self.government.dj
    }

    /// DJs of the past, the latest last.
    #[must_use]
    pub fn past_djs(&self) -> impl DoubleEndedIterator<Item = &PastDj> {
        self.government.past_djs()
    }

    /// Until when somebody may not be DJ.
    #[must_use]
    pub fn cooling_until(&self, user: &UserId, at: RoomTime) -> Option<RoomTime> {
        self.government.cooling_until(user, at)
    }

    /// Whether somebody could be DJ now.
    #[must_use]
    pub fn may_be_dj(&self, user: &UserId, at: RoomTime) -> bool {
        self.government.may_be_dj(user, at)
    }

    /// Whether a person, or a device without one, may control the music.
    #[must_use]
    pub fn may_control(&self, user: Option<&UserId>, at: RoomTime) -> bool {
        self.government.may_control(user, at)
    }

    /// Whether all of the queue is in somebody's hand: they control the music, or own the room.
    #[must_use]
    pub fn governs(&self, device: &NodeId, user: Option<&UserId>, at: RoomTime) -> bool {
        let owns = || user.is_some() && self.acting_owner(at).as_ref() == user;
        self.may_control_with(device, user, at) || owns()
    }

    /// Whether the music may be controlled with a device, by its person or by whoever is at it.
    pub(super) fn may_control_with(
        &self,
        device: &NodeId,
        user: Option<&UserId>,
        at: RoomTime,
    ) -> bool {
        let guests_may = self.settings().guests_may.control;
        (guests_may || !self.is_guest(device, user)) && self.may_control(user, at)
    }

    /// Whether a device has a guest's rights only: its person, or where there is none the device
    /// by what it came in with.
    pub(super) fn is_guest(&self, device: &NodeId, user: Option<&UserId>) -> bool {
        match user.and_then(|user| self.person(user)) {
            Some(person) => person.is_guest(),
            None => self.member(device).is_some_and(|device| device.cap == Role::Guest),
        }
    }

    /// How high somebody may rise who is let in with that device: as high as its person.
    #[must_use]
    pub fn highest_of(&self, device: &NodeId) -> Option<Role> {
        let member = self.member(device)?;
        let person = member.user.and_then(|user| self.person(&user));
        Some(person.map_or(member.cap, |person| person.cap.max(member.cap)))
    }

    /// Whether anybody is in it who came in without a limit. If not, whoever knows the password is
    /// let in by those who are: nobody else could.
    #[must_use]
    pub fn has_unlimited(&self) -> bool {
        self.members.values().any(|member| member.cap == Role::Owner)
    }

    /// Whose the room is.
    #[must_use]
    pub fn owner(&self) -> Option<UserId> {
        self.government.owner
    }

    /// Who acts as owner: the owner, or who has been here longest while they are away for long.
    #[must_use]
    pub fn acting_owner(&self, at: RoomTime) -> Option<UserId> {
        self.government.acting_owner(at)
    }

    /// The people of the room, here or away, by id.
    #[must_use]
    pub fn people(&self) -> &BTreeMap<UserId, Person> {
        self.government.people.all()
    }

    /// One of them.
    #[must_use]
    pub fn person(&self, user: &UserId) -> Option<&Person> {
        self.government.people.get(user)
    }

    /// What somebody is called here; a short id for who is not.
    #[must_use]
    pub fn person_name(&self, user: &UserId) -> String {
        self.government.name_of(user)
    }

    /// The person that somebody means by a name.
    ///
    /// # Errors
    ///
    /// When nobody fits, or more than one; names the candidates.
    pub fn find_person(&self, text: &str) -> Result<UserId, Refusal> {
        self.government.people.find(text)
    }

    /// How the room is governed.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.government.settings
    }

    /// What its password became, if it is locked.
    #[must_use]
    pub fn lock(&self) -> Option<&[u8; 32]> {
        self.government.lock.as_ref()
    }

    /// Raised by every change of the password and every ban.
    #[must_use]
    pub fn lock_epoch(&self) -> u32 {
        self.government.lock_epoch
    }

    /// Whether the end of one of its owner's friendships is no news to the room, or would be
    /// forgotten at once because it remembers as many later ones as it may.
    #[must_use]
    pub fn knows_ended(&self, ended: &EndedFriendship) -> bool {
        self.government.knows_ended(ended)
    }

    /// Whether a member's word that this device may come in stands.
    #[must_use]
    pub fn admits(&self, node: &NodeId, word: &Admission) -> bool {
        self.member(&word.issuer).is_some()
            && word.terms.epoch == self.lock_epoch()
            && word.verify(self.id, *node).is_ok()
    }

    /// Its owner has deleted it.
    #[must_use]
    pub fn is_deleted(&self) -> bool {
        self.government.deleted
    }

    /// Whom the room keeps out, and what they were called.
    pub fn banned(&self) -> impl Iterator<Item = (&Subject, &str)> {
        self.government.banned()
    }

    /// Who may not chat, here or not, and what they were called.
    pub fn silenced(&self) -> impl Iterator<Item = (&UserId, &str)> {
        self.government.silenced()
    }

    /// Whether two were banned by one word, and are let back by one.
    #[must_use]
    pub fn are_banned_together(&self, one: Subject, other: Subject) -> bool {
        self.government.banned_by(one) == self.government.banned_by(other)
    }

    /// Whether somebody is let in at the moment, as far as being sent out goes.
    ///
    /// # Errors
    ///
    /// When they were banned, or sent out for a while.
    pub fn check_not_out(&self, subject: Subject, at: RoomTime) -> Result<(), Refusal> {
        rights::check_not_out(&self.government, subject, at)
    }

    /// Whether somebody is not let in at the moment.
    #[must_use]
    pub fn keeps_out(&self, subject: Subject, at: RoomTime) -> bool {
        self.check_not_out(subject, at).is_err()
    }

    /// Votes that are open.
    pub fn votes(&self) -> impl Iterator<Item = &Session> {
        self.government.votes.open()
    }

    /// Votes that are over, the latest last.
    #[must_use]
    pub fn past_votes(&self) -> impl DoubleEndedIterator<Item = &PastVote> {
        self.government.votes.past()
    }

    /// What was said lately, the latest last.
    #[must_use]
    pub fn chat(&self) -> impl DoubleEndedIterator<Item = &ChatLine> {
        self.government.chat.lines()
    }

    /// When a track was heard last, if that was lately: `at` for what plays then.
    #[must_use]
    pub fn last_heard(&self, track: BlobHash, at: RoomTime) -> Option<RoomTime> {
        let playing = self.playback.playing.as_ref().filter(|p| p.entry.track.hash == track);
        let now = playing.map(|playing| playing.silent.unwrap_or(at));
        now.max(self.history.last_heard(track))
    }

    /// The devices, by id.
    #[must_use]
    pub fn members(&self) -> &BTreeMap<NodeId, Member> {
        &self.members
    }

    /// One device.
    #[must_use]
    pub fn member(&self, node: &NodeId) -> Option<&Member> {
        self.members.get(node)
    }

    /// The device that a person means: by exact name, else by a beginning of the name that
    /// only it has, else by the beginning of its id.
    ///
    /// # Errors
    ///
    /// When no device fits, or more than one; names the candidates.
    pub fn find_member(&self, text: &str) -> Result<NodeId, Refusal> {
        members::find(&self.members, text)
    }

    /// The loudest member's volume, 0 to 100.
    #[must_use]
    pub fn room_volume(&self) -> u8 {
        members::room_volume(&self.members)
    }

    /// The last change of loudness of a device; full loudness for one that is not here.
    #[must_use]
    pub fn gain(&self, me: &NodeId) -> GainStep {
        self.member(me).map_or_else(|| GainStep::steady(1.0), Member::gain)
    }

    /// What the room is doing.
    #[must_use]
    pub fn phase(&self) -> &Phase {
        &self.playback.phase
    }

    /// The segment that waits for [`OpBody::Begin`].
    #[must_use]
    pub fn pending(&self) -> Option<&Segment> {
        match &self.playback.phase {
            Phase::Buffering { pending, .. } => Some(pending),
            _ => None,
        }
    }

    /// The segment that commands act on: the pending one, else the current, else the paused.
    #[must_use]
    pub fn focus(&self) -> Option<&Segment> {
        self.playback.focus()
    }

    /// What has not been played, in order, the planned ones first.
    #[must_use]
    pub fn queue(&self) -> &VecDeque<QueueEntry> {
        &self.playback.queue
    }

    /// What has been played, most recent last.
    #[must_use]
    pub fn played(&self) -> &VecDeque<QueueEntry> {
        &self.playback.played
    }

    /// The last entries whose playing is over, the most recent one last.
    #[must_use]
    pub fn heard(&self) -> impl DoubleEndedIterator<Item = &Heard> {
        self.history.rows()
    }

    /// What comes again by itself.
    #[must_use]
    pub fn repeat(&self) -> Repeat {
        self.playback.repeat
    }

    /// Whether somebody who is here has an entry of the queue.
    #[must_use]
    pub fn is_available(&self, entry: EntryKey) -> bool {
        !self.playback.absent.contains(&entry)
    }

    /// Whether an entry waits that can be moved behind that other one.
    #[must_use]
    pub fn can_move(&self, entry: EntryKey, behind: Option<EntryKey>) -> bool {
        self.playback.place_of(entry).is_some() && self.playback.place_behind(behind).is_some()
    }

    /// The last entry that was left out or passed over, and why.
    #[must_use]
    pub fn notice(&self) -> Option<&Notice> {
        self.playback.notice.as_ref()
    }

    /// The position in the track that the room is about.
    #[must_use]
    pub fn position(&self, at: RoomTime) -> Option<Span> {
        self.shown(at).map(|(_, segment)| segment.position(at))
    }

    /// When the room moves on by itself next: the end of what sounds, or of a vote.
    #[must_use]
    pub fn next_change(&self) -> Option<RoomTime> {
        let vote = self.government.next_close(RoomTime(i64::MAX)).map(|(end, _)| end);
        self.playback.sounding().and_then(Segment::end).into_iter().chain(vote).min()
    }

    /// The near part of the timeline, in order and without overlap: what may still fade out,
    /// what sounds, and the next two.
    #[must_use]
    pub fn spans(&self, at: RoomTime) -> [Option<PlannedSpan>; PLAN_SPANS] {
        self.playback.spans(at)
    }

    /// What should be decoded and ready: what sounds, what waits or is paused, and the next two.
    pub fn segments(&self) -> impl Iterator<Item = Segment> + '_ {
        self.playback.segments()
    }

    /// What is shown for `at`, and as what.
    fn shown(&self, at: RoomTime) -> Option<(PlaybackState, &Segment)> {
        let heard = self.playback.heard(at).map(|segment| (PlaybackState::Playing, segment));
        match &self.playback.phase {
            Phase::Buffering { pending, .. } => Some((PlaybackState::Buffering, pending)),
            // Its start was ordered and has not come yet.
            Phase::Playing { current } => heard.or(Some((PlaybackState::Buffering, current))),
            Phase::Paused { held } => heard.or(Some((PlaybackState::Paused, held))),
            Phase::Stopped => heard,
        }
    }

    /// What sounds, as people and programs see it.
    #[must_use]
    pub fn playback_status(&self, at: RoomTime) -> PlaybackStatus {
        let (volume, repeat) = (self.room_volume(), self.repeat());
        let notice = self.notice().filter(|notice| at < notice.at + NOTICE_SHOWN);
        let notice = notice.map(|notice| notice.message.clone());
        let Some((state, segment)) = self.shown(at) else {
            return PlaybackStatus { volume, repeat, notice, ..PlaybackStatus::default() };
        };
        PlaybackStatus {
            state,
            position_ms: segment.position(at).as_millis(),
            duration_ms: segment.entry.track.duration().as_millis(),
            started_at: segment.start.map(|start| (start - RoomTime(0)).as_millis()),
            track: Some(self.track_status(&segment.entry)),
            volume,
            repeat,
            notice,
        }
    }

    /// The queue, as people and programs see it.
    #[must_use]
    pub fn queue_status(&self) -> Vec<QueueStatus> {
        let status = |entry: &QueueEntry| QueueStatus {
            id: entry.id.0,
            track: self.track_status(entry),
            duration_ms: entry.track.duration().as_millis(),
            unavailable: !self.is_available(entry.key),
            up_votes: u32::try_from(entry.up.len()).unwrap_or(u32::MAX),
        };
        self.queue().iter().map(status).collect()
    }

    fn track_status(&self, entry: &QueueEntry) -> TrackStatus {
        TrackStatus {
            id: entry.track.hash.to_string(),
            title: entry.track.title.clone(),
            artists: entry.track.artists.clone(),
            album: entry.track.album.clone(),
            source: "file".into(),
            added_by: self.name_of_adder(entry),
        }
    }
}

fn moment(entry: &Entry) -> Moment<'_> {
    Moment { at: entry.at, op: &entry.op.id, seed: seed_of(&entry.chain) }
}
