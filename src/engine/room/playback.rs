//! Queue and playback: which stretch of which track sounds from when to when.
//!
//! ```text
//!            Play, Resume, Next, Seek …            Begin(at)
//!  Stopped ───────────────────────► Buffering ─────────────► Playing ──┐ end of a track:
//!     ▲                             (pending; the old   ◄──── Next …   │ the next one of
//!     │ Stop, end of the queue       one may sound on)          ▲      │ the queue, gapless
//!     └──────────────────────────────────────────────────────── └──────┘
//!                    Pause ──► Paused (a segment with its exact frame) ── Resume ──► Buffering
//! ```
//!
//! What follows the current segment is not stored: the next two entries of the queue, each
//! starting where the one before ends, with ids derived from it. A change of the queue is thus
//! a change of the plan, and what sounds is never touched by it. What is repeated follows in the
//! same way: the entry itself, or the queue from its beginning, at whose end stands whatever has
//! had its turn. Entries that nobody has are passed over and keep their place.
//!
//! Every method takes an instant to which the playback is already settled.

use std::collections::{BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};

use crate::base::limits::{MAX_PLAYED, MAX_QUEUE, MAX_REASON, MAX_REPEATS, MAX_TAG, MIN_REPEATED};
use crate::base::rng::Rng;
use crate::base::{EntryId, EntryKey, NodeId, OpId, RoomTime, SegmentId, Span, UserId};
use crate::engine::playout::PlannedSpan;
use crate::engine::playout::plan::PLAN_SPANS;
use crate::wire::Track;
use crate::wire::op::{AddMode, Repeat};
use crate::wire::track::{frames_to_span, span_to_frames};

use super::history::{EndReason, Over, Playing};
use super::members::Stamp;

/// So many playings that are over are taken at a time by whoever keeps the history.
const OVER_AT_ONCE: usize = 32;

/// Segments planned behind the current one.
const PLANNED: usize = 2;

/// Up to here "previous" goes back one entry, beyond it restarts the track.
const RESTART_AFTER: Span = Span::from_secs(3);

/// How long an ended span stays in the plan: a fade-out, and the time by which a device's
/// queue lags behind.
const FADE: Span = Span::from_secs(1);

/// How long an ended segment stays in the state. Longer than [`FADE`], because an operation
/// is applied some lead time before the instant at which it takes effect.
const KEEP_ENDED: Span = Span::from_secs(5);

/// Ended segments kept: more than a plan can show.
const MAX_ENDED: usize = 4;

/// Characters of a notice: a title, a reason, and the words between them.
const MAX_NOTICE: usize = MAX_TAG + MAX_REASON + 100;

/// A track in the queue.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct QueueEntry {
    /// Its number, counted by the room.
    pub id: EntryId,
    /// What it is called whatever its number.
    pub key: EntryKey,
    /// What.
    pub track: Track,
    /// Which device brought it.
    pub added_by: NodeId,
    /// Whose device that was.
    pub adder: Option<UserId>,
    /// In a fair queue: which turn of its person it takes. Entries play in the order of turns.
    pub turn: u64,
    /// Who wants it earlier.
    pub up: BTreeSet<UserId>,
}

impl QueueEntry {
    /// Whether it is of that person or, where no person brought it, of that device.
    #[must_use]
    pub fn is_of(&self, node: &NodeId, user: Option<&UserId>) -> bool {
        match &self.adder {
            Some(adder) => Some(adder) == user,
            None => self.added_by == *node,
        }
    }

    /// Whether two take turns together: those of one person, and all of devices without a
    /// person, at which anybody may have stood.
    pub(super) fn same_adder(&self, other: &QueueEntry) -> bool {
        self.adder == other.adder
    }
}

/// One uninterrupted stretch of one track.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Segment {
    /// Its name; no other stretch has it, on any branch of the log.
    pub id: SegmentId,
    /// Of what.
    pub entry: QueueEntry,
    /// Its first frame, counted in the track's own rate.
    pub from: u64,
    /// When that frame sounds; none until it is known.
    pub start: Option<RoomTime>,
    /// When it stopped before the end of its track.
    pub cut: Option<RoomTime>,
}

impl Segment {
    fn of_op(op: &OpId, entry: QueueEntry, from: u64) -> Segment {
        let id = op_segment_id(op, &entry, from);
        Segment { id, entry, from, start: None, cut: None }
    }

    /// Its place on the timeline, once it has one.
    #[must_use]
    pub fn span(&self) -> Option<PlannedSpan> {
        let span = planned(self.id, &self.entry.track, self.from, self.start?);
        Some(PlannedSpan { cut: self.cut, ..span })
    }

    /// When it stops, once it has a start.
    #[must_use]
    pub fn end(&self) -> Option<RoomTime> {
        self.span().map(|span| span.end())
    }

    /// The frame that sounds at `at`: its first before the start, one behind the track's last
    /// at the end.
    #[must_use]
    pub fn frame_at(&self, at: RoomTime) -> u64 {
        let begun = self.start.map_or(0, |start| frame_at(at - start, self.entry.track.rate));
        self.from.saturating_add(begun).min(self.entry.track.frames)
    }

    /// The position in the track at `at`.
    #[must_use]
    pub fn position(&self, at: RoomTime) -> Span {
        frames_to_span(self.frame_at(at), self.entry.track.rate)
    }

    fn has_ended(&self, at: RoomTime) -> bool {
        self.end().is_some_and(|end| end <= at)
    }
}

/// What the room is doing.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum Phase {
    /// Nothing, and no position is remembered.
    #[default]
    Stopped,
    /// A segment waits for its beginning.
    Buffering {
        /// Which.
        pending: Segment,
        /// What sounds until then.
        sounding: Option<Box<Segment>>,
    },
    /// It sounds.
    Playing {
        /// What. Always has a start.
        current: Segment,
    },
    /// Silent, with a position.
    Paused {
        /// Where to go on; already named, so that everybody can prepare it.
        held: Segment,
    },
}

/// Something a person should know, replicated like everything else.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Notice {
    /// When.
    pub at: RoomTime,
    /// What, as a sentence.
    pub message: String,
}

/// Queue, phase and what has been.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(super) struct Playback {
    pub phase: Phase,
    /// Unplayed, in order; what the phase holds is not in it.
    pub queue: VecDeque<QueueEntry>,
    /// Most recent last.
    pub played: VecDeque<QueueEntry>,
    /// Ended not long ago, most recent last. All have a start.
    pub ended: VecDeque<Segment>,
    /// The last failure.
    pub notice: Option<Notice>,
    /// The number that the next entry gets.
    pub next_entry: u64,
    /// The turn of what was taken out of the queue last.
    pub turn: u64,
    /// The latest order to play that may come in several parts, and the last entry that it has
    /// brought so far.
    pub brought: Option<(OpId, EntryId)>,
    pub repeat: Repeat,
    /// Who set that last.
    pub repeat_by: Option<Stamp>,
    /// How often an entry was put back by itself since the last entry of the log.
    pub repeats: u32,
    /// Entries of the queue that nobody has.
    pub absent: BTreeSet<EntryKey>,
    /// Those of them whose turn it was already.
    pub passed: BTreeSet<EntryKey>,
    /// What has begun and is not over.
    pub playing: Option<Playing>,
    /// What is over and the history does not have yet. Empty wherever somebody looks.
    #[serde(skip)]
    over: VecDeque<Over>,
}

impl Playback {
    /// Nothing queued and nothing played.
    pub fn empty() -> Playback {
        Playback { next_entry: 1, ..Playback::default() }
    }

    /// Moves on by the passing of time alone. Stops where so much is over that somebody should
    /// [take](Self::take_over) it; whether it did, and goes on when called again.
    pub fn settle(&mut self, at: RoomTime) -> bool {
        // At most once per entry of the queue, and [`MAX_REPEATS`] times more: every step takes
        // one out or counts as a repetition.
        while self.step(at) {
            if self.over.len() >= OVER_AT_ONCE {
                return true;
            }
        }
        while self.ended.front().is_some_and(|old| is_forgotten(old, at)) {
            self.ended.pop_front();
        }
        false
    }

    /// Whether [`settle`](Self::settle) would change anything.
    pub fn is_settled(&self, at: RoomTime) -> bool {
        let moves = self.sounding().is_some_and(|sounding| sounding.has_ended(at));
        !moves && !self.ended.front().is_some_and(|old| is_forgotten(old, at))
    }

    fn step(&mut self, at: RoomTime) -> bool {
        match std::mem::take(&mut self.phase) {
            Phase::Playing { current } if current.has_ended(at) => {
                self.phase = self.successor(&current);
                self.retire(current);
                true
            }
            Phase::Buffering { pending, sounding: Some(old) } if old.has_ended(at) => {
                let end = old.end().unwrap_or(at);
                if pending.entry.key == old.entry.key {
                    self.falls_silent(end);
                } else {
                    self.ends(end, EndReason::Finished);
                }
                self.retire(*old);
                self.phase = Phase::Buffering { pending, sounding: None };
                false
            }
            other => {
                self.phase = other;
                false
            }
        }
    }

    fn successor(&mut self, current: &Segment) -> Phase {
        let end = current.end().unwrap_or(RoomTime::FAR);
        self.ends(end, EndReason::Finished);
        let Some(entry) = self.follower(current, end) else { return Phase::Stopped };
        let id = id_after(current.id, entry.key);
        let next = Segment { id, entry, from: 0, start: Some(end), cut: None };
        self.begins(&next, end);
        Phase::Playing { current: next }
    }

    /// What follows by itself, out of the queue. The first of [`upcoming`](Self::upcoming).
    fn follower(&mut self, current: &Segment, end: RoomTime) -> Option<QueueEntry> {
        let again = self.may_repeat(&current.entry);
        if again && self.repeat != Repeat::Off {
            self.repeats += 1;
        }
        if again && self.repeat == Repeat::One {
            return Some(current.entry.clone());
        }
        self.had_its_turn(current.entry.clone());
        self.take_next(end, |entry| id_after(current.id, entry.key))
    }

    /// Whether an entry may follow itself, or come back.
    fn may_repeat(&self, entry: &QueueEntry) -> bool {
        entry.track.duration() >= MIN_REPEATED && self.repeats < MAX_REPEATS
    }

    /// The first of the queue that somebody has. What stands before it is passed over, and named
    /// as the stretch that it would have been.
    fn take_next(
        &mut self,
        at: RoomTime,
        name: impl Fn(&QueueEntry) -> SegmentId,
    ) -> Option<QueueEntry> {
        let place = self.queue.iter().position(|entry| !self.absent.contains(&entry.key));
        let before = self.queue.iter().take(place.unwrap_or(self.queue.len()));
        let passed = before.filter(|entry| !self.passed.contains(&entry.key));
        for entry in passed.cloned().collect::<Vec<_>>() {
            self.pass_over(entry.clone(), name(&entry), at);
        }
        let entry = self.queue.remove(place?)?;
        self.turn = entry.turn;
        Some(entry)
    }

    fn pass_over(&mut self, entry: QueueEntry, segment: SegmentId, at: RoomTime) {
        self.passed.insert(entry.key);
        let title = &entry.track.title;
        let message = format!("\"{title}\" was passed over: no device that has it is here");
        self.notice = Some(Notice { at, message });
        let (started, ended, reason) = (at, at, EndReason::Unavailable);
        self.note(Over { segment, entry, started, ended, reason });
    }

    fn retire(&mut self, segment: Segment) {
        self.ended.push_back(segment);
        while self.ended.len() > MAX_ENDED {
            self.ended.pop_front();
        }
    }

    /// Counts as played from now on, and comes again where all is repeated.
    fn had_its_turn(&mut self, entry: QueueEntry) {
        let waits = self.queue.iter().any(|waiting| waiting.key == entry.key);
        if self.repeat == Repeat::All && self.may_repeat(&entry) && !waits {
            let turn = self.queue.back().map_or(self.turn, |last| last.turn);
            self.queue.push_back(QueueEntry { turn, ..entry.clone() });
        }
        self.remember(entry);
    }

    fn remember(&mut self, entry: QueueEntry) {
        self.played.retain(|before| before.key != entry.key);
        self.played.push_back(entry);
        while self.played.len() > MAX_PLAYED {
            self.played.pop_front();
        }
    }
}

/// What the history is told.
impl Playback {
    /// A stretch begins: of what plays already, or of something new.
    fn begins(&mut self, segment: &Segment, at: RoomTime) {
        match &mut self.playing {
            Some(playing) if playing.entry.key == segment.entry.key => playing.silent = None,
            _ => {
                self.ends(at, EndReason::Skipped);
                let (id, entry) = (segment.id, segment.entry.clone());
                self.playing = Some(Playing { segment: id, entry, started: at, silent: None });
            }
        }
    }

    fn falls_silent(&mut self, at: RoomTime) {
        if let Some(playing) = &mut self.playing {
            playing.silent.get_or_insert(at);
        }
    }

    /// What plays is over; earlier, if it was silent already.
    fn ends(&mut self, at: RoomTime, reason: EndReason) {
        if let Some(playing) = self.playing.take() {
            let ended = playing.silent.unwrap_or(at);
            self.note(playing.over(ended, reason));
        }
    }

    /// What is silent is over, unless it is what the room is about.
    fn ends_if_left(&mut self, reason: EndReason) {
        let Some((key, silent)) = self.playing.as_ref().map(|p| (p.entry.key, p.silent)) else {
            return;
        };
        let is_left = self.focus().is_none_or(|focus| focus.entry.key != key);
        if let Some(at) = silent.filter(|_| is_left) {
            self.ends(at, reason);
        }
    }

    fn note(&mut self, over: Over) {
        let was_heard = over.started < over.ended;
        let is_told = matches!(over.reason, EndReason::Unavailable | EndReason::Failed);
        if was_heard || is_told && over.started == over.ended {
            self.over.push_back(over);
        }
        // Only what was passed over can be so many at once.
        while self.over.len() > MAX_QUEUE {
            self.over.pop_front();
        }
    }

    /// What is over since this was last asked for.
    pub fn take_over(&mut self) -> VecDeque<Over> {
        std::mem::take(&mut self.over)
    }
}

/// What operations do. Each expects that the rules have let it through.
impl Playback {
    pub fn add(
        &mut self,
        op: &OpId,
        adder: Option<UserId>,
        tracks: &[Track],
        mode: AddMode,
        fair: bool,
    ) {
        let turn = self.turn;
        let first_id = self.next_entry;
        self.next_entry += tracks.len() as u64;
        let entries = (0..).zip(tracks).map(|(place, track)| QueueEntry {
            id: EntryId(first_id + place),
            key: entry_key(op, place),
            track: track.clone(),
            added_by: op.author,
            adder,
            turn,
            up: BTreeSet::new(),
        });
        let last_id = EntryId(self.next_entry.saturating_sub(1));
        match mode {
            AddMode::Append => self.append(entries, fair),
            AddMode::Play => {
                self.brought = Some((*op, last_id));
                self.play(op, entries.collect());
            }
            AddMode::Continue(first) => match self.brought.filter(|(op, _)| *op == first) {
                Some((_, last)) => {
                    let behind = self.queue.iter().position(|entry| entry.id == last);
                    let mut rest = self.queue.split_off(behind.map_or(0, |place| place + 1));
                    self.queue.extend(entries);
                    self.queue.append(&mut rest);
                    self.brought = Some((first, last_id));
                }
                // Something else was played since: these are not what comes next.
                None => self.append(entries, fair),
            },
        }
    }

    fn play(&mut self, op: &OpId, mut entries: VecDeque<QueueEntry>) {
        let Some(first) = entries.pop_front() else { return };
        self.leave();
        entries.append(&mut self.queue);
        self.queue = entries;
        if let Phase::Paused { .. } = self.phase {
            self.phase = Phase::Stopped;
        }
        self.turn_to(op, first, 0);
        self.ends_if_left(EndReason::Skipped);
    }

    pub fn remove(&mut self, entries: &[EntryKey]) {
        self.queue.retain(|entry| !entries.contains(&entry.key));
        self.forget_absent();
    }

    pub fn clear(&mut self) {
        self.queue.clear();
        self.forget_absent();
    }

    /// Anywhere by whoever governs; by others among what is theirs.
    pub fn move_behind(&mut self, entry: EntryKey, behind: Option<EntryKey>, governs: bool) {
        if !governs {
            return self.move_among_own(entry, behind);
        }
        let Some(from) = self.place_of(entry) else { return };
        let Some(mut moved) = self.queue.remove(from) else { return };
        let to = self.place_behind(behind).unwrap_or(from);
        let neighbour = to.checked_sub(1).and_then(|before| self.queue.get(before));
        moved.turn = neighbour.map_or(self.turn, |before| before.turn);
        self.queue.insert(to, moved);
    }

    /// Fisher and Yates: every order is equally likely, and the seed decides which.
    pub fn shuffle(&mut self, seed: u64) {
        let mut rng = Rng::new(seed);
        for last in (1..self.queue.len()).rev() {
            let drawn = rng.below(last as u64 + 1);
            self.queue.swap(last, usize::try_from(drawn).unwrap_or(last));
        }
        self.renumber_turns();
    }

    pub fn set_repeat(&mut self, repeat: Repeat, by: Stamp) {
        self.repeat = repeat;
        self.repeat_by = Some(by);
    }

    /// What nobody has, and what somebody has again. Where it is the turn of the former, the next
    /// one takes it, even in the middle of a track: nothing of its rest can be heard anywhere.
    pub fn set_absent(&mut self, op: &OpId, at: RoomTime, gone: &[EntryKey], back: &[EntryKey]) {
        let waiting = self.queue.iter().map(|entry| entry.key);
        self.absent.extend(waiting.filter(|key| gone.contains(key)));
        for key in back {
            self.absent.remove(key);
            self.passed.remove(key);
        }
        let pending = match &self.phase {
            Phase::Buffering { pending, .. } => Some(pending.entry.clone()),
            _ => None,
        };
        if let Some(entry) = pending.filter(|entry| gone.contains(&entry.key)) {
            let title = &entry.track.title;
            let message = format!("\"{title}\" was passed over: no device that has it is here");
            self.give_up(op, at, EndReason::Unavailable, message);
        }
        match std::mem::take(&mut self.phase) {
            Phase::Playing { current } if gone.contains(&current.entry.key) => {
                self.break_off(op, at, current);
            }
            other => self.phase = other,
        }
    }

    /// What sounds cannot go on. It waits, and begins anew once somebody has it again.
    fn break_off(&mut self, op: &OpId, at: RoomTime, current: Segment) {
        let (entry, title) = (current.entry.clone(), current.entry.track.title.clone());
        let message = format!("\"{title}\" broke off: no device that has the rest is here");
        self.notice = Some(Notice { at, message });
        self.ends(at, EndReason::Unavailable);
        self.cut(current, at);
        self.absent.insert(entry.key);
        self.passed.insert(entry.key);
        self.queue.push_front(entry);
        if let Some(entry) = self.take_next(at, |next| named_by(op, next)) {
            self.phase = Phase::Buffering { pending: Segment::of_op(op, entry, 0), sounding: None };
        }
    }

    fn forget_absent(&mut self) {
        let Playback { queue, absent, passed, .. } = self;
        absent.retain(|key| queue.iter().any(|entry| entry.key == *key));
        passed.retain(|key| absent.contains(key));
    }

    pub fn pause(&mut self, op: &OpId, at: RoomTime) {
        self.phase = match std::mem::take(&mut self.phase) {
            Phase::Playing { current } => {
                let held = Segment::of_op(op, current.entry.clone(), current.frame_at(at));
                self.falls_silent(at);
                self.cut(current, at);
                Phase::Paused { held }
            }
            Phase::Buffering { pending, sounding } => {
                if let Some(sounding) = sounding {
                    self.falls_silent(at);
                    self.cut(*sounding, at);
                }
                Phase::Paused { held: pending }
            }
            other => other,
        };
        self.ends_if_left(EndReason::Skipped);
    }

    pub fn resume(&mut self, op: &OpId, at: RoomTime) {
        match std::mem::take(&mut self.phase) {
            Phase::Paused { held } => {
                self.phase = Phase::Buffering { pending: held, sounding: None };
            }
            Phase::Stopped => {
                if let Some(entry) = self.take_next(at, |entry| named_by(op, entry)) {
                    self.turn_to(op, entry, 0);
                }
            }
            other => self.phase = other,
        }
    }

    pub fn stop(&mut self, at: RoomTime) {
        self.leave();
        self.halt(at);
        self.ends_if_left(EndReason::Stopped);
    }

    pub fn seek(&mut self, op: &OpId, position: Span) {
        let Some(focus) = self.focus() else { return };
        let entry = focus.entry.clone();
        let last = entry.track.frames.saturating_sub(1);
        let from = span_to_frames(position, entry.track.rate).min(last);
        self.turn_to(op, entry, from);
    }

    pub fn next(&mut self, op: &OpId, at: RoomTime) {
        self.leave();
        match self.take_next(at, |entry| named_by(op, entry)) {
            Some(entry) => self.turn_to(op, entry, 0),
            None => self.halt(at),
        }
        self.ends_if_left(EndReason::Skipped);
    }

    pub fn prev(&mut self, op: &OpId, at: RoomTime) {
        let focus = self.focus().map(|focus| (focus.entry.clone(), focus.position(at)));
        match (focus, self.played.is_empty()) {
            (Some((entry, position)), none_before) if none_before || position >= RESTART_AFTER => {
                self.turn_to(op, entry, 0);
            }
            (focus, _) => {
                if let Some((entry, _)) = focus {
                    self.queue.push_front(entry);
                }
                if let Some(entry) = self.played.pop_back() {
                    // Where all is repeated it waits as well.
                    self.queue.retain(|waiting| waiting.key != entry.key);
                    self.forget_absent();
                    self.turn_to(op, entry, 0);
                }
            }
        }
        self.ends_if_left(EndReason::Skipped);
    }

    pub fn begin(&mut self, at: RoomTime) {
        self.phase = match std::mem::take(&mut self.phase) {
            Phase::Buffering { pending, sounding } => {
                if let Some(sounding) = sounding {
                    self.cut(*sounding, at);
                }
                self.begins(&pending, at);
                Phase::Playing { current: Segment { start: Some(at), ..pending } }
            }
            other => other,
        };
    }

    pub fn fail(&mut self, op: &OpId, at: RoomTime, reason: &str) {
        let Phase::Buffering { pending, .. } = &self.phase else { return };
        let title = &pending.entry.track.title;
        let message = format!("\"{title}\" could not be played and was left out: {reason}");
        self.give_up(op, at, EndReason::Failed, message);
    }

    /// The pending entry is dropped, or waits on if only nobody has it now. The next of the queue
    /// takes its turn; where there is none, or only a seek has failed, what still sounds goes on
    /// as if nothing had been asked.
    fn give_up(&mut self, op: &OpId, at: RoomTime, why: EndReason, message: String) {
        let (pending, sounding) = match std::mem::take(&mut self.phase) {
            Phase::Buffering { pending, sounding } => (pending, sounding),
            other => {
                self.phase = other;
                return;
            }
        };
        self.notice = Some(Notice { at, message });
        let key = pending.entry.key;
        let only_sought = sounding.as_ref().is_some_and(|old| old.entry.key == key);
        if !only_sought {
            self.note_given_up(&pending, at, why);
        }
        if !only_sought && why == EndReason::Unavailable {
            self.queue.push_front(pending.entry);
            self.absent.insert(key);
            self.passed.insert(key);
        }
        let next = if only_sought { None } else { self.take_next(at, |next| named_by(op, next)) };
        let sounds = sounding.as_ref().map(|old| old.entry.key);
        self.phase = match (next.filter(|entry| Some(entry.key) != sounds), sounding) {
            (Some(entry), sounding) => {
                Phase::Buffering { pending: Segment::of_op(op, entry, 0), sounding }
            }
            (None, Some(old)) => {
                self.played.retain(|entry| entry.key != old.entry.key);
                self.queue.retain(|entry| entry.key != old.entry.key);
                self.forget_absent();
                Phase::Playing { current: *old }
            }
            (None, None) => Phase::Stopped,
        };
    }

    fn note_given_up(&mut self, pending: &Segment, at: RoomTime, why: EndReason) {
        if self.playing.as_ref().is_some_and(|playing| playing.entry.key == pending.entry.key) {
            return self.ends(at, why);
        }
        let (segment, entry) = (pending.id, pending.entry.clone());
        self.note(Over { segment, entry, started: at, ended: at, reason: why });
    }

    /// Another place becomes what the room is about. Paused stays paused; else it waits for
    /// its beginning while the old one sounds on.
    fn turn_to(&mut self, op: &OpId, entry: QueueEntry, from: u64) {
        let pending = Segment::of_op(op, entry, from);
        self.phase = match std::mem::take(&mut self.phase) {
            Phase::Paused { .. } => Phase::Paused { held: pending },
            Phase::Stopped => Phase::Buffering { pending, sounding: None },
            Phase::Buffering { sounding, .. } => Phase::Buffering { pending, sounding },
            Phase::Playing { current } => {
                Phase::Buffering { pending, sounding: Some(Box::new(current)) }
            }
        };
    }

    /// The entry that the room is about has had its turn.
    fn leave(&mut self) {
        if let Some(entry) = self.focus().map(|focus| focus.entry.clone()) {
            self.had_its_turn(entry);
        }
    }

    fn halt(&mut self, at: RoomTime) {
        self.falls_silent(at);
        match std::mem::take(&mut self.phase) {
            Phase::Playing { current } => self.cut(current, at),
            Phase::Buffering { sounding: Some(old), .. } => self.cut(*old, at),
            _ => {}
        }
    }

    fn cut(&mut self, segment: Segment, at: RoomTime) {
        // What would end before it begins was never heard.
        if segment.start.is_some_and(|start| start < at) {
            self.retire(Segment { cut: Some(at), ..segment });
        }
    }
}

/// What can be read.
impl Playback {
    /// The segment that the room is about: pending before current.
    pub fn focus(&self) -> Option<&Segment> {
        match &self.phase {
            Phase::Stopped => None,
            Phase::Buffering { pending, .. } => Some(pending),
            Phase::Playing { current } => Some(current),
            Phase::Paused { held } => Some(held),
        }
    }

    /// What has begun and has not been cut.
    pub fn sounding(&self) -> Option<&Segment> {
        match &self.phase {
            Phase::Playing { current } => Some(current),
            Phase::Buffering { sounding, .. } => sounding.as_deref(),
            Phase::Stopped | Phase::Paused { .. } => None,
        }
    }

    /// What the timeline says for `at`, which may lie before the last operation's effect.
    pub fn heard(&self, at: RoomTime) -> Option<&Segment> {
        let covers = |segment: &&Segment| segment.span().is_some_and(|span| span.covers(at));
        self.sounding().filter(covers).or_else(|| self.ended.iter().rev().find(covers))
    }

    pub fn can_go_back(&self) -> bool {
        self.focus().is_some() || !self.played.is_empty()
    }

    /// What is over makes way first where there are too many: what sounds and what comes next
    /// is always there.
    pub fn spans(&self, at: RoomTime) -> [Option<PlannedSpan>; PLAN_SPANS] {
        let heard = self.ended.iter().chain(self.sounding()).filter_map(Segment::span);
        let planned_next = self
            .upcoming()
            .map(|(id, entry, start)| planned(id, &entry.track, 0, start))
            .take(PLANNED);
        let mut spans: VecDeque<PlannedSpan> = heard
            .chain(planned_next)
            .filter(|span| span.start < span.end() && span.end() > at - FADE)
            .collect();
        while spans.len() > PLAN_SPANS && spans.front().is_some_and(|span| span.end() <= at) {
            spans.pop_front();
        }
        std::array::from_fn(|i| spans.get(i).copied())
    }

    pub fn segments(&self) -> impl Iterator<Item = Segment> + '_ {
        // What sounds on while another one waits must be kept as well; in `Playing` it is the
        // focus itself.
        let old = match &self.phase {
            Phase::Buffering { sounding, .. } => sounding.as_deref(),
            _ => None,
        };
        let next = self.upcoming().take(PLANNED).map(|(id, entry, start)| Segment {
            id,
            entry: entry.clone(),
            from: 0,
            start: Some(start),
            cut: None,
        });
        old.into_iter().chain(self.focus()).cloned().chain(next)
    }

    /// Where in the queue an entry waits.
    pub fn place_of(&self, key: EntryKey) -> Option<usize> {
        self.queue.iter().position(|entry| entry.key == key)
    }

    /// The place behind an entry, or the first. What has had its turn meanwhile stands before
    /// everything; none for what was taken out.
    pub fn place_behind(&self, behind: Option<EntryKey>) -> Option<usize> {
        let Some(key) = behind else { return Some(0) };
        let focus = self.focus().map(|focus| &focus.entry);
        let was_first = || self.played.iter().chain(focus).any(|entry| entry.key == key);
        self.place_of(key).map(|place| place + 1).or_else(|| was_first().then_some(0))
    }

    /// The entries that wait and that somebody has.
    fn playable(&self) -> impl Iterator<Item = &QueueEntry> + Clone {
        self.queue.iter().filter(|entry| !self.absent.contains(&entry.key))
    }

    /// Whether anything in the queue can be played.
    pub fn has_playable(&self) -> bool {
        self.playable().next().is_some()
    }

    /// What follows by itself: id, entry and start. Without end where something is repeated.
    fn upcoming(&self) -> impl Iterator<Item = (SegmentId, &QueueEntry, RoomTime)> {
        let current = match &self.phase {
            Phase::Playing { current } => Some(current),
            _ => None,
        };
        current.into_iter().flat_map(|current| self.upcoming_after(current))
    }

    fn upcoming_after<'a>(
        &'a self,
        current: &'a Segment,
    ) -> impl Iterator<Item = (SegmentId, &'a QueueEntry, RoomTime)> {
        let itself = Some(&current.entry).filter(|entry| self.may_repeat(entry));
        let one = self.repeat == Repeat::One && itself.is_some();
        let all = self.repeat == Repeat::All;
        let first_round = self.playable().filter(move |_| !one);
        let others = self.playable().filter(move |entry| all && self.may_repeat(entry));
        let again = itself.into_iter().filter(move |_| one || all).chain(others).cycle();
        let first = (current.id, current.end().unwrap_or(RoomTime::FAR));
        first_round.chain(again).scan(first, |(previous, end), entry| {
            let id = id_after(*previous, entry.key);
            let start = *end;
            *previous = id;
            *end = start + entry.track.duration();
            Some((id, entry, start))
        })
    }

    /// What every reachable playback obeys; for snapshots from elsewhere.
    pub fn check(&self, sane: impl Fn(&Track) -> bool) -> Result<(), &'static str> {
        let in_phase = self.focus().into_iter().chain(self.sounding());
        let all_sane = in_phase
            .clone()
            .chain(&self.ended)
            .map(|segment| &segment.entry)
            .chain(self.playing.as_ref().map(|playing| &playing.entry))
            .chain(&self.queue)
            .chain(&self.played)
            .all(|entry| sane(&entry.track) && entry.id.0 < self.next_entry);
        if !all_sane {
            return Err("an entry that no rule lets in");
        }
        // "Previous" may put entries back into a full queue, and so does what is repeated.
        let too_many = self.queue.len() > MAX_QUEUE + MAX_PLAYED + 1
            || self.repeats > MAX_REPEATS
            || self.played.len() > MAX_PLAYED
            || self.ended.len() > MAX_ENDED;
        if too_many || self.next_entry > u64::MAX / 2 {
            return Err("more entries than a room holds");
        }
        let waits = |key: &EntryKey| self.place_of(*key).is_some();
        if !self.absent.iter().all(waits) || !self.passed.is_subset(&self.absent) {
            return Err("unavailable entries that the queue does not have");
        }
        if in_phase.chain(&self.ended).any(|segment| segment.from >= segment.entry.track.frames) {
            return Err("a segment behind the end of its track");
        }
        let long = |notice: &Notice| notice.message.chars().count() > MAX_NOTICE;
        if self.notice.as_ref().is_some_and(long) {
            return Err("a notice longer than any is");
        }
        self.check_timeline()
    }

    fn check_timeline(&self) -> Result<(), &'static str> {
        let mut last = RoomTime(i64::MIN);
        for segment in self.ended.iter().chain(self.sounding()) {
            let Some(span) = segment.span() else { return Err("a segment without its start") };
            if span.start < last {
                return Err("segments that overlap");
            }
            last = span.end();
            if last < span.start {
                return Err("a segment that ends before it begins");
            }
        }
        // Both are given when it begins and when it ends; a start of long ago would let the
        // segment end before its turn.
        let waiting = match &self.phase {
            Phase::Buffering { pending: waiting, .. } | Phase::Paused { held: waiting } => {
                Some(waiting)
            }
            Phase::Stopped | Phase::Playing { .. } => None,
        };
        if waiting.is_some_and(|segment| segment.start.is_some() || segment.cut.is_some())
            || self.sounding().is_some_and(|segment| segment.cut.is_some())
        {
            return Err("a segment that has ended before its turn");
        }
        Ok(())
    }
}

/// The frame that sounds when `elapsed` has passed: the last one whose start has come.
///
/// The exact inverse of [`frames_to_span`], which rounds down to a nanosecond: frame `k` starts
/// at `floor(k * 1e9 / rate)`, so the largest `k` at or before `elapsed` is the largest with
/// `k * 1e9 < (elapsed + 1) * rate`.
fn frame_at(elapsed: Span, rate: u32) -> u64 {
    let Ok(nanos) = u128::try_from(elapsed.0) else { return 0 };
    let frames = ((nanos + 1) * u128::from(rate.max(1)) - 1) / 1_000_000_000;
    u64::try_from(frames).unwrap_or(u64::MAX)
}

fn is_forgotten(segment: &Segment, at: RoomTime) -> bool {
    segment.end().is_none_or(|end| end <= at - KEEP_ENDED)
}

fn planned(segment: SegmentId, track: &Track, from: u64, start: RoomTime) -> PlannedSpan {
    let frames = track.frames.saturating_sub(from);
    PlannedSpan { segment, start, from, frames, rate: track.rate, cut: None }
}

/// The name of the stretch with which an operation would begin an entry.
fn named_by(op: &OpId, entry: &QueueEntry) -> SegmentId {
    op_segment_id(op, entry, 0)
}

fn op_segment_id(op: &OpId, entry: &QueueEntry, from: u64) -> SegmentId {
    segment_id(|hasher| {
        hasher.update(b"op").update(&op.author.0).update(&op.boot.to_le_bytes());
        hasher.update(&op.seq.to_le_bytes()).update(&entry.key.0.to_le_bytes());
        hasher.update(&from.to_le_bytes());
    })
}

/// The name of the stretch that follows another by itself.
pub(super) fn id_after(previous: SegmentId, entry: EntryKey) -> SegmentId {
    segment_id(|hasher| {
        hasher.update(b"after").update(&previous.0.to_le_bytes()).update(&entry.0.to_le_bytes());
    })
}

fn entry_key(op: &OpId, place: u64) -> EntryKey {
    let SegmentId(key) = segment_id(|hasher| {
        hasher.update(b"entry").update(&op.author.0).update(&op.boot.to_le_bytes());
        hasher.update(&op.seq.to_le_bytes()).update(&place.to_le_bytes());
    });
    EntryKey(key)
}

fn segment_id(fill: impl FnOnce(&mut blake3::Hasher)) -> SegmentId {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"groovebox segment 1");
    fill(&mut hasher);
    let mut first = [0; 8];
    first.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    SegmentId(u64::from_le_bytes(first))
}
