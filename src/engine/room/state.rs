//! The state that every member holds: a function of genesis and log alone. Equal logs give
//! equal bytes, and equal bytes an equal [`hash`](RoomState::hash).
//!
//! It never looks at a clock: an entry carries the instant at which it takes effect, and
//! [`settle`](RoomState::settle) moves playback on to any instant. A state that was settled to
//! one instant and then to a later one equals the one that was settled to the later at once,
//! so nodes may look as often as they like.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};

use crate::base::limits::{MAX_MEMBERS, MAX_NAME, MAX_RECENT_OPS, PLAY_STALE};
use crate::base::{EntryKey, NodeId, OpId, RoomId, RoomTime, Span};
use crate::engine::planted::{self, Bug};
use crate::engine::playout::plan::PLAN_SPANS;
use crate::engine::playout::{GainStep, PlannedSpan};
use crate::engine::status::{PlaybackState, PlaybackStatus, QueueStatus, TrackStatus};
use crate::wire::codec;
use crate::wire::op::{
    AddMode, Entry, Genesis, Guard, MemberKind, Op, OpBody, Refusal, RefusalCode, Repeat,
};

use super::history::{Heard, History};
use super::members::{self, Member, Stamp};
use super::playback::{Notice, Phase, Playback, QueueEntry, Segment};
use super::rules;
use super::seen::Seen;

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
    /// When the last entry took effect.
    applied_at: RoomTime,
    members: BTreeMap<NodeId, Member>,
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
            applied_at: RoomTime(i64::MIN),
            members: BTreeMap::new(),
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
        rules::check(&self.settled(at), op, body, term_owner)
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
        let outcome = self.checked_body(entry).map(|body| self.perform(&entry.op, entry.at, body));
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
            rules::check(self, &entry.op, &body, entry.term.node)?;
        }
        Ok(body)
    }

    fn perform(&mut self, signed: &Op, at: RoomTime, body: OpBody) {
        if rules::is_a_persons(&body) {
            self.unclaimed = false;
        }
        let op = &signed.id;
        match body {
            OpBody::Join { name, kind, user } => {
                self.join(op.author, Member::new(name, kind, user, at));
            }
            OpBody::Leave => drop(self.members.remove(&op.author)),
            OpBody::Add { tracks, mode } => {
                let late = signed.age(at).is_some_and(|age| age > PLAY_STALE);
                self.playback.add(op, &tracks, if late { AddMode::Append } else { mode });
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
            OpBody::Move { entry, behind } => self.playback.move_behind(entry, behind),
            OpBody::Shuffle { seed } => self.playback.shuffle(seed),
            OpBody::Repeat { mode } => self.playback.set_repeat(mode, Stamp::of(signed)),
            OpBody::Availability { gone, back } => {
                self.playback.set_absent(op, at, &gone, &back);
            }
        }
    }

    /// What is over becomes history, with what the room knows of that moment.
    fn note_over(&mut self) {
        for over in self.playback.take_over() {
            let adder = over.entry.added_by;
            let name = self.name_of(&adder);
            let present = self.n_people();
            self.history.note(over, name, present);
        }
    }

    /// The people whose devices are in the room, each once.
    fn n_people(&self) -> u32 {
        let people = self.members.iter().filter(|(_, m)| m.kind != MemberKind::Speaker);
        let users = people.clone().filter_map(|(_, member)| member.user).collect::<BTreeSet<_>>();
        let others = people.filter(|(_, member)| member.user.is_none()).count();
        u32::try_from(users.len() + others).unwrap_or(u32::MAX)
    }

    fn name_of(&self, node: &NodeId) -> String {
        self.member(node).map_or_else(|| node.short(), |member| member.name.clone())
    }

    /// A device that is here already changes what it says of itself and keeps the rest.
    fn join(&mut self, node: NodeId, fresh: Member) {
        match self.members.get_mut(&node) {
            Some(member) => {
                member.name = fresh.name;
                member.kind = fresh.kind;
                member.user = fresh.user;
            }
            None => drop(self.members.insert(node, fresh)),
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

    /// Moves playback on to `at`: a track that has ended makes way for the next of the queue.
    /// Room time does not run backwards; an earlier `at` changes nothing.
    pub fn settle(&mut self, at: RoomTime) {
        self.playback.settle(at);
        self.note_over();
    }

    /// This state at `at`; borrowed when nothing has moved on since.
    #[must_use]
    pub fn settled(&self, at: RoomTime) -> Cow<'_, RoomState> {
        if self.playback.is_settled(at) {
            return Cow::Borrowed(self);
        }
        let mut state = self.clone();
        state.settle(at);
        Cow::Owned(state)
    }

    /// BLAKE3 of the encoded state, cut to 16 bytes: equal on all members at an equal index.
    #[must_use]
    pub fn hash(&self) -> [u8; 16] {
        let bytes = codec::encode_state(self).expect("the limits of its parts keep it encodable");
        let mut hash = [0; 16];
        hash.copy_from_slice(&blake3::hash(&bytes).as_bytes()[..16]);
        hash
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

    /// How often the DJ has changed. There are no DJs yet.
    #[must_use]
    pub fn dj_epoch(&self) -> u32 {
        0
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

    /// When playback moves on by itself next: the end of what sounds.
    #[must_use]
    pub fn next_change(&self) -> Option<RoomTime> {
        self.playback.sounding().and_then(Segment::end)
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
            added_by: self.name_of(&entry.added_by),
        }
    }
}
