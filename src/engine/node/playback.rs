//! What to fetch, to prepare and to sound; when a waiting segment begins.
//!
//! The timeline itself is a pure function of the room's state and room time, so nothing here
//! is needed for the music to go on: every node advances by itself.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{
    BlobHash, LocalTime, Message, Node, NodeId, Notice, Output, PlayoutPlan, RoomId, RoomTime,
    SegmentId, Span, Track,
};
use crate::engine::playout::GainStep;
use crate::engine::room::{RoomState, Segment};
use crate::engine::status::PlaybackState;
use crate::engine::transfer::{Have, Playhead};
use crate::wire::message::OutputState;
use crate::wire::op::{Op, OpBody};
use crate::wire::track::span_to_frames;
use crate::wire::{Refusal, codec};

/// Everybody ready: begin at once. Nine of ten: after this time.
const GATE_MOST: Span = Span::from_millis(1500);

/// Anybody ready: begin after this time; the others join in phase.
const GATE_ANY: Span = Span::from_secs(4);

/// Nobody ready: the track is given up after this time.
const GATE_NONE: Span = Span::from_secs(20);

/// The lead that a late joiner allows itself for opening and decoding.
const LATE_JOIN_LEAD: Span = Span::from_millis(150);

/// A lead is never shorter, whatever was measured.
const MIN_LEAD: Span = Span::from_millis(30);

/// Nor longer: a member that needs more joins in phase.
const MAX_LEAD: Span = Span::from_secs(1);

/// Added to the measured needs: ordering, sending and handing over to the playout thread.
const LEAD_MARGIN: Span = Span::from_millis(15);

/// What a device needs from a decision to sound, until it has told.
const UNKNOWN_DEPTH_MS: f64 = 150.0;

/// How often others hear which pieces have come.
const TELL_HAVE_EVERY: Span = Span::from_millis(500);

/// A segment that is being decoded.
#[derive(Debug)]
struct Prepared {
    primed: bool,
}

/// What this file remembers.
#[derive(Debug, Default)]
pub(super) struct Playback {
    prepared: BTreeMap<SegmentId, Prepared>,
    failed: BTreeSet<SegmentId>,
    /// Blobs that the cache was asked about.
    opened: BTreeSet<BlobHash>,
    /// What the cache holds of them.
    pub(super) holdings: BTreeMap<BlobHash, Have>,
    /// Those that were here as a whole, and are not any more.
    lost: BTreeSet<BlobHash>,
    told_have: Option<LocalTime>,
    pub(super) plan: Option<PlayoutPlan>,
    pub(super) plan_due: Option<LocalTime>,
    /// It knows the room's time too badly to be heard beside the others.
    pub(super) is_lost: bool,
    /// The segment that waits to begin, and since when.
    waiting: Option<(SegmentId, LocalTime)>,
    ordered: Option<SegmentId>,
    pub(super) standing: super::position::Standing,
    pub(super) past: super::past::Past,
    pub(super) holders: super::holders::Holders,
    /// Why the cache keeps nothing more at the moment, for people.
    pub(super) cache_trouble: Option<String>,
}

impl Playback {
    /// How many segments and files it remembers something of.
    pub(super) fn size(&self) -> usize {
        self.prepared.len() + self.failed.len() + self.opened.len() + self.holdings.len()
    }
}

impl Playback {
    pub(super) fn reset(&mut self) {
        *self = Playback::default();
    }

    /// What was ordered may have had to make way, and is needed again.
    pub(super) fn forget_orders(&mut self) {
        self.ordered = None;
    }
}

impl Node {
    pub(super) fn phase(&self, now: LocalTime) -> PlaybackState {
        self.playback_status(now).state
    }

    /// The title of what plays, for the room's card.
    pub(super) fn title_now(&self, now: LocalTime) -> Option<String> {
        let status = self.playback_status(now);
        match status.state {
            PlaybackState::Playing | PlaybackState::Buffering => status.track.map(|t| t.title),
            PlaybackState::Stopped | PlaybackState::Paused => None,
        }
    }

    /// The state as it is now: what has ended by itself has ended. What is held stands still.
    /// Borrowed where nothing has ended since the last entry, because a full queue takes long to
    /// copy.
    pub(super) fn settled(&self, now: LocalTime) -> Option<(Cow<'_, RoomState>, RoomTime)> {
        let room = self.room.as_ref()?;
        let at = self.held_at().unwrap_or_else(|| self.room_now(now));
        Some((room.state().settled(at), at))
    }

    /// The room as it is now, for a person who asks for something in it.
    pub(super) fn state_now(&self, now: LocalTime) -> Result<Cow<'_, RoomState>, Refusal> {
        self.settled(now).map(|(state, _)| state).ok_or_else(Refusal::not_in_room)
    }

    /// Fetches, prepares and releases what the timeline asks for.
    pub(super) fn refresh_segments(&mut self, now: LocalTime) {
        self.playback.plan_due = Some(now);
        // Without the room's time nobody knows what sounds now.
        if self.clock.model().is_none() {
            return;
        }
        let Some((state, at)) = self.settled(now) else { return };
        let segments = state.segments().collect::<Vec<_>>();
        let near = super::holders::near(&state).map(|entry| entry.track.clone());
        let near = near.collect::<Vec<_>>();
        let fading = state.spans(at).into_iter().flatten().map(|span| span.segment);
        let alive = segments.iter().map(|s| s.id).chain(fading).collect::<BTreeSet<_>>();
        let mut wanted = BTreeSet::new();
        for (priority, segment) in (0..).zip(&segments) {
            wanted.insert(segment.entry.track.hash);
            self.want_blob(now, &segment.entry.track, Some((segment, at)), priority);
            self.prepare(segment, at);
        }
        for (priority, track) in (10..).zip(&near) {
            if wanted.insert(track.hash) {
                self.want_blob(now, track, None, priority);
            }
        }
        self.release_unwanted(&alive, &wanted);
    }

    fn prepare(&mut self, segment: &Segment, at: RoomTime) {
        let known = self.playback.prepared.contains_key(&segment.id);
        if known || self.playback.failed.contains(&segment.id) {
            return;
        }
        let from = first_frame(segment, at);
        if from >= segment.entry.track.frames {
            return;
        }
        self.playback.prepared.insert(segment.id, Prepared { primed: false });
        let track = Arc::new(segment.entry.track.clone());
        self.outputs.push_back(Output::Prepare { segment: segment.id, track, from });
    }

    fn want_blob(
        &mut self,
        now: LocalTime,
        track: &Track,
        playing: Option<(&Segment, RoomTime)>,
        priority: u8,
    ) {
        if self.playback.opened.insert(track.hash) {
            self.outputs.push_back(Output::OpenBlob { hash: track.hash, size: track.size });
        }
        if self.playback.holdings.get(&track.hash) == Some(&Have::Complete) {
            return;
        }
        let playhead = playing.map(|(segment, at)| self.playhead(segment, at));
        let (hash, size, rate) = (track.hash, track.size, track.byte_rate());
        self.transfer.want(now, hash, size, rate, playhead, priority);
    }

    /// Where a segment stands, in bytes of its file: frames are taken to be of equal size.
    fn playhead(&self, segment: &Segment, at: RoomTime) -> Playhead {
        let track = &segment.entry.track;
        let frame = u128::from(first_frame(segment, at));
        let byte = frame * u128::from(track.size) / u128::from(track.frames.max(1));
        let byte = u64::try_from(byte).unwrap_or(track.size);
        match (segment.start, self.clock.model()) {
            (Some(start), Some(model)) => Playhead::Moving { byte, at: model.local(at.max(start)) },
            _ => Playhead::Held { byte },
        }
    }

    fn release_unwanted(&mut self, alive: &BTreeSet<SegmentId>, wanted: &BTreeSet<BlobHash>) {
        let gone = self.playback.prepared.keys().filter(|id| !alive.contains(id)).copied();
        for segment in gone.collect::<Vec<_>>() {
            self.playback.prepared.remove(&segment);
            self.outputs.push_back(Output::Release { segment });
        }
        self.playback.failed.retain(|id| alive.contains(id));
        for peer in self.peers.values_mut() {
            peer.ready.retain(|id| alive.contains(id));
        }
        let left = self.playback.opened.iter().filter(|hash| !wanted.contains(hash)).copied();
        for hash in left.collect::<Vec<_>>() {
            self.playback.opened.remove(&hash);
            self.close_blob(hash);
        }
    }

    fn close_blob(&mut self, hash: BlobHash) {
        self.playback.holdings.remove(&hash);
        self.playback.lost.remove(&hash);
        self.transfer.unwant(&hash);
        self.outputs.push_back(Output::CloseBlob { hash });
    }

    /// A decoder stands still. If all was here before, it has been lost since: a file of the
    /// owner's that has changed, or a rotten copy. Then others are asked for it.
    pub(super) fn piece_needed(&mut self, now: LocalTime, hash: BlobHash, piece: u32) {
        if self.playback.holdings.get(&hash) == Some(&Have::Complete)
            && self.playback.opened.remove(&hash)
        {
            self.playback.holdings.remove(&hash);
            self.playback.lost.insert(hash);
            self.transfer.unwant(&hash);
            self.refresh_segments(now);
        }
        self.transfer.need(&hash, piece);
    }

    /// The room is left: nothing of it is needed any more.
    pub(super) fn release_everything(&mut self) {
        self.gauge = super::Gauge::default();
        for segment in std::mem::take(&mut self.playback.prepared).into_keys() {
            self.outputs.push_back(Output::Release { segment });
        }
        for hash in std::mem::take(&mut self.playback.opened) {
            self.close_blob(hash);
        }
        self.playback.reset();
        self.outputs.push_back(Output::SetPlan(PlayoutPlan::silent()));
    }

    /// Hands the near part of the timeline to the playout thread whenever it changed.
    pub(super) fn update_plan(&mut self, now: LocalTime) {
        if self.playback.plan_due.is_none_or(|due| now < due) {
            return;
        }
        self.playback.plan_due = None;
        let Some((state, at)) = self.settled(now) else { return };
        let held = self.held_at().is_some();
        let spans = if held { PlayoutPlan::silent().spans } else { state.spans(at) };
        let gain = if self.playback.is_lost { GainStep::steady(0.0) } else { state.gain(&self.me) };
        let plan = PlayoutPlan { spans, gain, trim: self.trim };
        if self.playback.plan != Some(plan) {
            self.playback.plan = Some(plan);
            self.outputs.push_back(Output::SetPlan(plan));
        }
    }

    pub(super) fn blob_opened(&mut self, hash: BlobHash, have: Have) {
        if !self.playback.opened.contains(&hash) {
            return;
        }
        self.transfer.local_has(&hash, &have);
        let nothing = matches!(&have, Have::Pieces(bits) if bits.iter().all(|byte| *byte == 0));
        self.playback.holdings.insert(hash, have);
        // Of what they were told that it is here they must hear that it is not.
        if self.playback.lost.remove(&hash) || !nothing {
            self.tell_have(hash);
        }
    }

    pub(super) fn piece_arrived(
        &mut self,
        now: LocalTime,
        hash: BlobHash,
        piece: u32,
        bytes: u64,
        from: NodeId,
    ) {
        self.playback.cache_trouble = None;
        self.transfer.piece_arrived(now, &hash, piece, bytes, from);
        let complete = !self.transfer.wants(&hash);
        match self.playback.holdings.get_mut(&hash) {
            Some(have) if complete => *have = Have::Complete,
            Some(have) => have.add(piece),
            None => return,
        }
        // Others hear of progress twice a second at most, and of the end at once.
        let due = self.playback.told_have.is_none_or(|at| now - at > TELL_HAVE_EVERY);
        if complete || due {
            self.playback.told_have = Some(now);
            self.tell_have(hash);
        }
    }

    fn tell_have(&mut self, hash: BlobHash) {
        let Some(message) = self.have_message(hash) else { return };
        for peer in self.member_peers() {
            self.send(peer, message.clone());
        }
    }

    fn have_message(&self, hash: BlobHash) -> Option<Message> {
        let held = self.playback.holdings.get(&hash)?;
        Some(Message::Have { hash, pieces: held.to_wire() })
    }

    /// What a member that has just come should know.
    pub(super) fn holdings_for_greeting(&self) -> Vec<Message> {
        let Some(room) = self.room_id() else { return Vec::new() };
        let haves = self.playback.holdings.keys().filter_map(|hash| self.have_message(*hash));
        let primed = self.playback.prepared.iter().filter(|(_, p)| p.primed);
        let readies = primed.map(|(segment, _)| Message::Ready { room, segment: *segment });
        haves.chain(readies).collect()
    }

    /// Whoever brings tracks has them: no need to wait until it says so.
    pub(super) fn note_author(&mut self, op: &Op) {
        if op.id.author == self.me {
            return;
        }
        let Ok(OpBody::Add { tracks, .. }) = codec::decode_body(op) else { return };
        for track in tracks {
            self.transfer.peer_has(op.id.author, track.hash, Have::Complete);
        }
    }

    pub(super) fn segment_primed(&mut self, now: LocalTime, segment: SegmentId) {
        let Some(prepared) = self.playback.prepared.get_mut(&segment) else { return };
        prepared.primed = true;
        if let Some(room) = self.room_id() {
            for peer in self.member_peers() {
                self.send(peer, Message::Ready { room, segment });
            }
        }
        self.check_gate(now);
    }

    pub(super) fn segment_failed(&mut self, now: LocalTime, segment: SegmentId, reason: String) {
        if self.playback.prepared.remove(&segment).is_none() {
            return;
        }
        self.playback.failed.insert(segment);
        let title = self.settled(now).and_then(|(state, _)| {
            let mut segments = state.segments();
            segments.find(|s| s.id == segment).map(|s| s.entry.track.title.clone())
        });
        self.tell(Notice::TrackFailed { title: title.unwrap_or_default(), reason });
        self.check_gate(now);
    }

    pub(super) fn ready_received(
        &mut self,
        now: LocalTime,
        from: NodeId,
        room: RoomId,
        segment: SegmentId,
    ) {
        if self.room_id() != Some(room) {
            return;
        }
        if let Some(peer) = self.peers.get_mut(&from) {
            peer.ready.insert(segment);
        }
        self.check_gate(now);
    }

    /// The coordinator lets the waiting segment begin once enough speakers are ready.
    pub(super) fn check_gate(&mut self, now: LocalTime) {
        if !self.is_coordinator() || self.held_at().is_some() {
            self.playback.waiting = None;
            return;
        }
        let Some(segment) = self.room.as_ref().and_then(|r| r.state().pending()).map(|s| s.id)
        else {
            self.playback.waiting = None;
            return;
        };
        let since = match self.playback.waiting {
            Some((waiting, since)) if waiting == segment => since,
            _ => {
                self.playback.waiting = Some((segment, now));
                now
            }
        };
        if self.playback.ordered == Some(segment) || self.is_syncing_up(now) {
            return;
        }
        let body = match self.gate(segment, now - since) {
            Gate::Wait => return,
            Gate::Begin => OpBody::Begin { segment },
            Gate::Fail => {
                OpBody::Fail { segment, reason: "no speaker could get and decode it".into() }
            }
        };
        self.playback.ordered = Some(segment);
        if let Err(refusal) = self.propose_own(now, None, &body) {
            tracing::warn!(%refusal, "the waiting track cannot begin");
        }
    }

    fn gate(&self, segment: SegmentId, waited: Span) -> Gate {
        let here = self.playback.prepared.get(&segment).is_some_and(|p| p.primed);
        let (mut ready, mut all) = (usize::from(here), 0);
        if self.facts.output == OutputState::Ok || here {
            all += 1;
        }
        let mut somebody = here;
        for peer in self.with_output() {
            let is_ready = peer.ready.contains(&segment);
            somebody |= is_ready;
            if peer.is_waited_for() {
                all += 1;
                ready += usize::from(is_ready);
            }
        }
        let most = ready * 10 >= all * 9;
        let enough = ready >= all || most && waited >= GATE_MOST || waited >= GATE_ANY;
        let nobody_can = self.playback.failed.contains(&segment) && all <= 1 && !somebody;
        if somebody && enough {
            Gate::Begin
        } else if waited >= GATE_NONE || nobody_can {
            Gate::Fail
        } else {
            Gate::Wait
        }
    }

    /// Other members that a start should wait for: with an output, and with a network that lets
    /// them come in time.
    pub(super) fn speakers(&self) -> impl Iterator<Item = &super::Peer> {
        self.with_output().filter(|peer| peer.is_waited_for())
    }

    /// Other members that are present and have an output.
    fn with_output(&self) -> impl Iterator<Item = &super::Peer> {
        self.peers
            .iter()
            .filter(|(node, _)| self.is_member(**node))
            .map(|(_, peer)| peer)
            .filter(|peer| peer.report.as_ref().is_none_or(|(r, _)| r.output == OutputState::Ok))
    }

    /// How far ahead a command must be for every speaker to obey it at its instant: way there,
    /// what the device has already queued, and a margin.
    pub(super) fn lead(&self) -> Span {
        let mine = self.facts.depth.as_millis_f64();
        let slowest = self.speakers().map(lead_of).fold(mine, f64::max);
        let lead = Span::from_secs_f64(slowest * 1e-3) + LEAD_MARGIN;
        lead.clamp(MIN_LEAD, MAX_LEAD)
    }

    /// The coordinator takes note when the timeline has moved on by itself.
    pub(super) fn order_settle(&mut self, now: LocalTime) {
        if !self.is_coordinator() || self.shutting_down {
            return;
        }
        if self.pause_after_outage(now) || self.is_syncing_up(now) {
            return;
        }
        let Some((settled, _)) = self.settled(now) else { return };
        let moved = |state: &RoomState| state.focus().map(|segment| segment.id);
        let behind = self.room.as_ref().is_some_and(|room| moved(room.state()) != moved(&settled));
        if behind {
            let _ = self.propose_own(now, None, &OpBody::Settle);
        }
    }
}

/// What the coordinator does about a waiting segment.
enum Gate {
    Wait,
    Begin,
    Fail,
}

/// The way to a member, what it has queued, and how late a message to it may be, ms.
fn lead_of(peer: &super::Peer) -> f64 {
    peer.report.as_ref().map_or(UNKNOWN_DEPTH_MS, |(report, _)| {
        let way = f64::from(report.rtt_us) / 2000.0 + f64::from(report.late_ms);
        way + f64::from(report.depth_ms)
    })
}

/// The frame from which to decode: the segment's first, or where a late joiner can catch it.
fn first_frame(segment: &Segment, at: RoomTime) -> u64 {
    let rate = segment.entry.track.rate;
    match segment.start {
        Some(start) if at > start => {
            segment.from + span_to_frames(at + LATE_JOIN_LEAD - start, rate)
        }
        _ => segment.from,
    }
}
