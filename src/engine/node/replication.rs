//! How operations become entries of the log, and reach everybody.
//!
//! ```text
//!  author ── Propose ──► coordinator: order, write ── Append ──► members: check, apply, write
//!     ◄── Proposed{level} ── when min(2, live) others have written ◄── Appended{written} ──
//! ```
//!
//! A member whose log does not continue the coordinator's gets the whole state. Until
//! operations of a lost branch are offered again, they are dropped, and that is said.

use std::collections::BTreeMap;

use super::{
    Heartbeat, HeartbeatAck, LocalTime, Message, Node, NodeId, Notice, OpId, Output, RequestId,
    Room, RoomId, RoomTime, Span, Term,
};
use crate::base::limits::{MAX_ENTRIES_PER_APPEND, MAX_FRAME};
use crate::engine::command::Done;
use crate::engine::election::Election;
use crate::engine::planted::{self, Bug};
use crate::engine::room::Ordered;
use crate::wire::message::{Accepted, Level};
use crate::wire::op::{Entry, Op, OpBody};
use crate::wire::{Refusal, RefusalCode};

/// How many others must have written an entry before it is acknowledged, if that many are here.
const REPLICAS: usize = 2;

/// After this time without progress a member is sent again what it lacks.
const RESEND_AFTER: Span = Span::from_millis(300);

/// How often a waiting proposal is said again.
const PROPOSE_RETRY: Span = Span::from_millis(500);

/// Bytes of an entry around its operation's body, at most.
const ENTRY_OVERHEAD: usize = 512;

/// Entries after which the log is cut and the state written instead.
const COMPACT_EVERY: u64 = 1000;

/// Who made an operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Origin {
    /// This node, of itself or for a person.
    Here,
    /// Another member, which waits for an answer.
    Peer(NodeId),
}

/// An entry that is ordered but not acknowledged.
#[derive(Debug)]
struct Waiting {
    id: OpId,
    origin: Origin,
    effective_at: RoomTime,
}

/// How far a member is.
#[derive(Debug, Default, Clone, Copy)]
struct Progress {
    sent: u64,
    sent_at: LocalTime,
    written: u64,
}

/// An operation of ours on its way to the coordinator.
#[derive(Debug)]
struct Proposal {
    op: Op,
    said: LocalTime,
}

/// What this file remembers.
#[derive(Debug, Default)]
pub(super) struct Replication {
    progress: BTreeMap<NodeId, Progress>,
    waiting: BTreeMap<u64, Waiting>,
    proposals: BTreeMap<OpId, Proposal>,
    written_here: u64,
    compacted: u64,
    snapshot_asked: Option<LocalTime>,
    /// When this node last asked to be let into the room that it is in.
    pub(super) rejoined: Option<LocalTime>,
    /// Since when another coordinator of this room is connected that is not followed.
    pub(super) passed_over_since: Option<LocalTime>,
    /// The timeline was founded anew: what played must be stopped before anything else.
    pub(super) clock_was_lost: bool,
}

impl Replication {
    pub(super) fn reset(&mut self) {
        *self = Replication::default();
    }

    pub(super) fn begin_reign(&mut self) {
        self.progress.clear();
        self.waiting.clear();
    }

    pub(super) fn end_reign(&mut self) {
        self.begin_reign();
        self.snapshot_asked = None;
    }

    pub(super) fn forget(&mut self, peer: NodeId) {
        self.progress.remove(&peer);
    }
}

impl Node {
    /// Makes an operation of this node and brings it on its way. The answer to `request` comes
    /// when it is acknowledged.
    pub(super) fn propose_own(
        &mut self,
        now: LocalTime,
        request: Option<RequestId>,
        body: &OpBody,
    ) -> Result<(), Refusal> {
        let room = self.room_id().ok_or_else(super::rooms::not_in_room)?;
        let id = self.next_op_id();
        let op = Op::signed(&self.key, room, id, self.room_now(now), body)
            .map_err(|error| too_long(&error))?;
        if self.is_coordinator() {
            self.order(now, op, Origin::Here)?;
        } else {
            if let Some(coordinator) = self.coordinator() {
                self.send(coordinator, Message::Propose(op.clone()));
            }
            self.replication.proposals.insert(id, Proposal { op, said: now });
        }
        if let Some(request) = request {
            self.requests.wait(now, request, id);
        }
        // Alone, an entry may have been acknowledged while it was ordered.
        self.acknowledge();
        Ok(())
    }

    /// Orders an operation: its place, its instant, the way to everybody. An operation that has
    /// its place already keeps it.
    pub(super) fn order(&mut self, now: LocalTime, op: Op, origin: Origin) -> Result<u64, Refusal> {
        let term = self.election.as_ref().map_or(Term::ZERO, Election::term);
        let at = self.effective_at(now, &op);
        let id = op.id;
        let room = self.room.as_mut().ok_or_else(super::rooms::not_in_room)?;
        match room.order(term, at, op)? {
            Ordered::Known { idx, at } => {
                self.replication.waiting.insert(idx, Waiting { id, origin, effective_at: at });
                self.acknowledge();
                Ok(idx)
            }
            Ordered::New(entry) => {
                let (idx, effective_at) = (entry.idx, entry.at);
                self.replication.waiting.insert(idx, Waiting { id, origin, effective_at });
                self.entries_applied(now, vec![*entry]);
                self.replicate(now);
                Ok(idx)
            }
        }
    }

    /// When an operation takes effect. What is heard must reach every speaker before its
    /// instant; the rest takes effect at once.
    fn effective_at(&self, now: LocalTime, op: &Op) -> RoomTime {
        let heard = crate::wire::codec::decode_body(op).is_ok_and(|body| {
            matches!(
                body,
                OpBody::Pause
                    | OpBody::Stop
                    | OpBody::Begin { .. }
                    | OpBody::Volume { .. }
                    | OpBody::RoomVolume { .. }
                    | OpBody::Mute { .. }
            )
        });
        let room_now = self.room_now(now);
        if heard { room_now + self.lead() } else { room_now }
    }

    /// What follows from entries that are now part of the state.
    fn entries_applied(&mut self, now: LocalTime, entries: Vec<Entry>) {
        let Some(room) = &self.room else { return };
        let id = room.id();
        for entry in &entries {
            self.replication.proposals.get_mut(&entry.op.id).into_iter().for_each(|p| p.said = now);
            self.note_author(&entry.op);
        }
        self.outputs.push_back(Output::SaveEntries { room: id, entries });
        self.compact();
        self.refresh_election(now);
        self.refresh_segments(now);
        self.refresh_card(now);
        // What was asked for may be ready everywhere already: a resume usually is.
        self.check_gate(now);
    }

    fn compact(&mut self) {
        let Some(room) = &self.room else { return };
        let last = room.log().last_idx();
        if last >= self.replication.compacted + COMPACT_EVERY {
            self.replication.compacted = last;
            match room.snapshot(room.log().last_term()) {
                Ok(snapshot) => self.outputs.push_back(Output::CompactRoom(Box::new(snapshot))),
                Err(error) => tracing::error!(%error, "the room is too large to be written"),
            }
        }
    }

    /// Sends every member what it lacks and has not been sent.
    fn replicate(&mut self, now: LocalTime) {
        for peer in self.member_peers() {
            self.replicate_to(now, peer);
        }
    }

    fn replicate_to(&mut self, now: LocalTime, peer: NodeId) {
        let (Some(room), Some(election)) = (&self.room, &self.election) else { return };
        let log = room.log();
        let progress = self.replication.progress.entry(peer).or_default();
        // Where a member stands is known from its first heartbeat answer or acknowledgement.
        if progress.sent == 0 || progress.sent >= log.last_idx() {
            return;
        }
        let prev_idx = progress.sent;
        let there = log
            .chain_at(prev_idx)
            .and_then(|chain| Some((chain, log.entries_after(prev_idx, chain)?)));
        let Some((prev_chain, mut entries)) = there else {
            return self.send_snapshot(peer);
        };
        entries.truncate(fitting(&entries));
        progress.sent = entries.last().map_or(prev_idx, |entry| entry.idx);
        progress.sent_at = now;
        let message = Message::Append {
            room: room.id(),
            term: election.term(),
            prev_idx,
            prev_chain,
            entries,
        };
        self.send(peer, message);
    }

    pub(super) fn send_snapshot(&mut self, peer: NodeId) {
        let (Some(room), Some(election)) = (&self.room, &self.election) else { return };
        let last = room.log().last_idx();
        let snapshot = match room.snapshot(election.term()) {
            Ok(snapshot) => snapshot,
            Err(error) => {
                tracing::error!(%error, "the room is too large to be sent");
                return;
            }
        };
        self.replication.progress.entry(peer).or_default().sent = last;
        self.send(peer, Message::Snapshot(snapshot));
    }

    pub(super) fn snapshot_wanted(&mut self, from: NodeId, room: RoomId) {
        // Whoever was let in by a half that gave way is no member here, but must see this
        // state to ask again.
        let is_here = self.is_member(from) || self.is_present(from);
        if self.room_id() == Some(room) && self.is_coordinator() && is_here {
            self.send_snapshot(from);
        }
    }

    pub(super) fn ack_received(&mut self, now: LocalTime, from: NodeId, ack: &HeartbeatAck) {
        if let Some(election) = self.election_of(ack.room) {
            election.ack_received(now, from, ack);
        }
        let term = self.election.as_ref().map(Election::term);
        if !self.is_coordinator() || term != Some(ack.term) || !self.is_member(from) {
            return;
        }
        self.compare_log(now, from, ack);
    }

    /// A member says where its log ends: continue there, or replace it.
    fn compare_log(&mut self, now: LocalTime, from: NodeId, ack: &HeartbeatAck) {
        let Some(room) = &self.room else { return };
        let log = room.log();
        let same = log.chain_at(ack.last_idx) == Some(ack.chain);
        let behind = ack.last_idx < log.last_idx();
        let progress = self.replication.progress.entry(from).or_default();
        let recently = progress.sent > 0 && now - progress.sent_at < RESEND_AFTER;
        if !same {
            if !recently {
                progress.sent_at = now;
                self.send_snapshot(from);
            }
        } else if progress.sent == 0 || (behind && !recently) {
            progress.sent = ack.last_idx;
            self.replicate_to(now, from);
        }
    }

    pub(super) fn append_received(
        &mut self,
        now: LocalTime,
        from: NodeId,
        room_id: RoomId,
        term: Term,
        previous: (u64, [u8; 16]),
        entries: &[Entry],
    ) {
        let follows = self.election_of(room_id).is_some_and(|election| election.term() == term);
        if !follows || self.coordinator() != Some(from) {
            return;
        }
        let Some(room) = &mut self.room else { return };
        match room.accept(previous.0, previous.1, entries) {
            Ok(taken) if taken.entries.is_empty() => self.report_written(),
            Ok(taken) => {
                for (idx, refusal) in &taken.refused {
                    tracing::debug!(idx, %refusal, "an entry without effect");
                }
                self.entries_applied(now, taken.entries);
            }
            Err(error) => {
                tracing::debug!(%error, "the coordinator's log does not continue ours");
                self.ask_for_snapshot(now, from, room_id);
            }
        }
    }

    fn ask_for_snapshot(&mut self, now: LocalTime, from: NodeId, room: RoomId) {
        let waited = self.replication.snapshot_asked.is_none_or(|at| now - at > RESEND_AFTER);
        if waited {
            self.replication.snapshot_asked = Some(now);
            self.send(from, Message::NeedSnapshot { room });
        }
    }

    /// The coordinator's whole state instead of ours. What only we had is lost, and said.
    pub(super) fn replace_state(&mut self, now: LocalTime, room: Room) {
        let Some(old) = &self.room else { return };
        let lost = entries_lost(old, &room);
        if lost > 0 {
            self.tell(Notice::BranchDiscarded { entries: lost });
        }
        self.replication.snapshot_asked = None;
        self.replication.compacted = room.log().last_idx();
        self.save_room(&room);
        self.replication.written_here = 0;
        self.room = Some(room);
        self.refresh_election(now);
        self.refresh_segments(now);
        self.refresh_card(now);
    }

    /// The disk has our entries up to `idx`.
    pub(super) fn written(&mut self, room: RoomId, idx: u64) {
        if self.room_id() != Some(room) {
            return;
        }
        self.replication.written_here = self.replication.written_here.max(idx);
        if self.is_coordinator() {
            self.acknowledge();
        } else {
            self.report_written();
        }
    }

    fn report_written(&mut self) {
        let (Some(room), Some(election)) = (&self.room, &self.election) else { return };
        let written = self.replication.written_here.min(room.log().last_idx());
        let message = Message::Appended { room: room.id(), term: election.term(), written };
        if let Some(coordinator) = self.coordinator() {
            self.send(coordinator, message);
        }
    }

    pub(super) fn appended_received(
        &mut self,
        from: NodeId,
        room: RoomId,
        term: Term,
        written: u64,
    ) {
        let mine = self.election_of(room).is_some_and(|election| election.term() == term);
        if !mine || !self.is_coordinator() {
            return;
        }
        let last = self.room.as_ref().map_or(0, |room| room.log().last_idx());
        // A member may come back shorter than it was, so an old match is never trusted.
        self.replication.progress.entry(from).or_default().written = written.min(last);
        self.acknowledge();
    }

    /// Answers for every entry that enough disks have.
    fn acknowledge(&mut self) {
        if !self.is_coordinator() {
            return;
        }
        let (safe, level) = self.safe_idx();
        while let Some(first) = self.replication.waiting.first_entry() {
            if *first.key() > safe {
                break;
            }
            let (idx, waiting) = first.remove_entry();
            let accepted = Accepted { idx, level, effective_at: waiting.effective_at };
            match waiting.origin {
                Origin::Here => self.finish_request(waiting.id, Ok(accepted)),
                Origin::Peer(peer) => {
                    self.send(peer, Message::Proposed { id: waiting.id, outcome: Ok(accepted) });
                }
            }
        }
    }

    /// The last entry that this node and enough others have written, and how safe that is.
    fn safe_idx(&self) -> (u64, Level) {
        let live =
            self.election.as_ref().map(|election| election.live().clone()).unwrap_or_default();
        let mut written = live
            .iter()
            .filter(|node| **node != self.me)
            .map(|node| self.replication.progress.get(node).map_or(0, |p| p.written))
            .collect::<Vec<_>>();
        written.sort_unstable_by(|a, b| b.cmp(a));
        let needed = written.len().min(REPLICAS);
        let level = if needed == 0 { Level::Local } else { Level::Replicated };
        if planted::is(Bug::AcknowledgeBeforeWrite) {
            return (u64::MAX, level);
        }
        let others = if needed == 0 { u64::MAX } else { written[needed - 1] };
        (self.replication.written_here.min(others), level)
    }

    pub(super) fn propose_received(&mut self, now: LocalTime, from: NodeId, op: Op) {
        let id = op.id;
        let outcome = if id.author != from {
            Err(Refusal::new(
                RefusalCode::AuthRequired,
                "an operation can only be proposed by its author",
                "this is a fault of the program that sent it",
            ))
        } else if self.room_id() != Some(op.room) {
            Err(super::rooms::not_in_room())
        } else if !self.is_coordinator() {
            // It will find the coordinator by itself and say it again.
            return;
        } else {
            self.order(now, op, Origin::Peer(from))
        };
        if let Err(refusal) = outcome {
            self.send(from, Message::Proposed { id, outcome: Err(refusal) });
        }
    }

    pub(super) fn proposed_received(
        &mut self,
        now: LocalTime,
        id: OpId,
        outcome: Result<Accepted, Refusal>,
    ) {
        if self.is_join(id) {
            if let Err(refusal) = outcome {
                self.join_refused(now, &refusal);
            }
            return;
        }
        if self.replication.proposals.remove(&id).is_some() {
            self.finish_request(id, outcome);
        }
    }

    fn finish_request(&mut self, id: OpId, outcome: Result<Accepted, Refusal>) {
        let reply = outcome.map(|accepted| Done {
            op: Some(id.into()),
            idx: Some(accepted.idx),
            level: accepted.level,
            effective_at: Some(accepted.effective_at),
            message: None,
        });
        self.requests.finish(&mut self.outputs, id, reply);
    }

    /// Says waiting proposals again: to a new coordinator at once, else every half second.
    pub(super) fn retry_proposals(&mut self, now: LocalTime) {
        self.requests.expire(now, &mut self.outputs);
        let due = |proposal: &Proposal| now - proposal.said >= PROPOSE_RETRY;
        let ops = self
            .replication
            .proposals
            .values_mut()
            .filter(|proposal| due(proposal))
            .map(|proposal| {
                proposal.said = now;
                proposal.op.clone()
            })
            .collect::<Vec<_>>();
        self.replication.proposals.retain(|id, _| self.requests.is_waiting(*id));
        for op in ops {
            if self.is_coordinator() {
                let id = op.id;
                self.replication.proposals.remove(&id);
                if let Err(refusal) = self.order(now, op, Origin::Here) {
                    self.finish_request(id, Err(refusal));
                }
            } else if let Some(coordinator) = self.coordinator() {
                self.send(coordinator, Message::Propose(op));
            }
        }
    }

    /// A heartbeat tells where the coordinator's log ends; our answer lets it fill our gap. If
    /// it ends elsewhere at the same length, only the whole state helps.
    pub(super) fn note_coordinator_log(&mut self, now: LocalTime, from: NodeId, hb: &Heartbeat) {
        if self.coordinator() != Some(from) || self.room_id() != Some(hb.room) {
            return;
        }
        let Some(room) = &self.room else { return };
        // A shorter log of the coordinator means nothing: the heartbeat may be older than an
        // append that overtook it. Our answer shows it where we stand.
        let differs = room.log().chain_at(hb.last_idx).is_some_and(|chain| chain != hb.chain);
        if differs {
            self.ask_for_snapshot(now, from, hb.room);
        }
    }
}

/// How many entries from the first on go into one append.
fn fitting(entries: &[Entry]) -> usize {
    let mut bytes = 0;
    let within = entries.iter().take(MAX_ENTRIES_PER_APPEND).take_while(|entry| {
        bytes += entry.op.body.len() + ENTRY_OVERHEAD;
        bytes <= MAX_FRAME - ENTRY_OVERHEAD
    });
    // A single one always fits: its body is bounded well below a frame.
    within.count().max(1)
}

/// Entries of the old log that the new one does not have: those at its end that are of another
/// history.
fn entries_lost(old: &Room, new: &Room) -> u64 {
    let (old, new) = (old.log(), new.log());
    let kept = old
        .entries()
        .filter(|entry| new.chain_at(entry.idx) == Some(entry.chain))
        .map(|entry| entry.idx)
        .max();
    // A state so far ahead that its log no longer reaches back lost nothing that is known of.
    match kept {
        Some(kept) => old.last_idx() - kept,
        None if new.last_idx() > old.last_idx() => 0,
        None => old.last_idx() - new.last_idx(),
    }
}

fn too_long(error: &crate::wire::WireError) -> Refusal {
    Refusal::new(
        RefusalCode::InvalidRequest,
        format!("that is too much at once: {error}"),
        "add the tracks in several smaller parts",
    )
}
