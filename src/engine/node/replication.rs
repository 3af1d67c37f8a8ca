//! How operations become entries of the log, and reach everybody.
//!
//! ```text
//!  author ── Propose ──► coordinator: order, write ── Append ──► members: check, apply, write
//!     ◄── Proposed{level} ── when min(2, live) others have written ◄── Appended{written} ──
//! ```
//!
//! What a member has in place of the coordinator's entries makes way and is offered again; that
//! is in `heal.rs`. How far a member is counts only as long as the member says so: it may come
//! back with less than it once had.

use std::collections::{BTreeMap, VecDeque};

use super::heal::Reign;
use super::outbox::{Covered, Outbox};
use super::{
    HeartbeatAck, LocalTime, Message, Node, NodeId, OpId, Output, RequestId, Room, RoomId,
    RoomTime, Span, Term,
};
use crate::base::limits::{MAX_DROPPED, MAX_ENTRIES_PER_APPEND, MAX_FRAME};
use crate::engine::command::Done;
use crate::engine::election::Election;
use crate::engine::planted::{self, Bug};
use crate::engine::room::merge::Came;
use crate::engine::room::{Ordered, RoomError, Taken, Unknown};
use crate::wire::message::{Accepted, DroppedOp, Level, LogPlace};
use crate::wire::op::{Entry, Op, OpBody};
use crate::wire::{Refusal, RefusalCode};

/// How many others must have written an entry before it is acknowledged, if that many are here.
const REPLICAS: usize = 2;

/// A beginning is further ahead than other orders: a speaker that is kept busy for a moment
/// would come in late and fade in, which everybody hears; that it begins a little later nobody
/// does.
const BEGIN_MARGIN: Span = Span::from_millis(30);

/// After this time without progress a member is sent again what it lacks.
pub(super) const RESEND_AFTER: Span = Span::from_millis(300);

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
    /// Who waits; several may have offered the same operation.
    origins: Vec<Origin>,
    effective_at: RoomTime,
}

/// How far a member is.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Progress {
    /// None until it is known where its log ends.
    pub(super) sent: Option<u64>,
    pub(super) sent_at: LocalTime,
    written: u64,
    synced: u64,
    /// From where it was last sent again what it lacks, and how often in a row.
    resent: (u64, u32),
}

/// What this device's disk has of the log.
#[derive(Debug, Default)]
struct Disk {
    written: u64,
    synced: u64,
}

/// What replication remembers.
#[derive(Debug, Default)]
pub(super) struct Replication {
    pub(super) progress: BTreeMap<NodeId, Progress>,
    waiting: BTreeMap<u64, Waiting>,
    pub(super) outbox: Outbox,
    pub(super) covered: Covered,
    pub(super) reign: Option<Reign>,
    /// Came from the disk and has heard no coordinator since.
    pub(super) is_cold: bool,
    disk: Disk,
    pub(super) compacted: u64,
    /// When the coordinator was last told that our log does not continue its own.
    pub(super) asked: Option<LocalTime>,
    /// What is known to be replicated and durable.
    pub(super) safe: (u64, u64),
    pub(super) safe_told: (u64, u64),
    /// What merges left out, most recent last.
    pub(super) dropped: VecDeque<DroppedOp>,
    pub(super) agreed: Option<LocalTime>,
    /// When this node last asked to be let into the room that it is in.
    pub(super) rejoined: Option<LocalTime>,
    /// Since when another coordinator of this room is connected that is not followed.
    pub(super) passed_over_since: Option<LocalTime>,
    /// The first entry of the coordinator's log that only a later version knows.
    pub(super) unknown: Option<Unknown>,
    /// The timeline was founded anew: what played must be stopped before anything else.
    pub(super) clock_was_lost: bool,
    /// Since when the room is known to have been deleted.
    pub(super) deleted_since: Option<LocalTime>,
    /// The joining that was said again lately: a refusal means that this device is out.
    pub(super) asked_again: Option<(NodeId, Op)>,
}

impl Replication {
    pub(super) fn reset(&mut self) {
        *self = Replication::default();
    }

    pub(super) fn n_waiting(&self) -> usize {
        self.waiting.values().map(|waiting| 1 + waiting.origins.len()).sum()
    }

    pub(super) fn forget(&mut self, peer: NodeId) {
        if !planted::is(Bug::StaleMatch) {
            self.progress.remove(&peer);
        }
    }

    /// Remembers what a merge left out, for people and for when it is offered again.
    pub(super) fn list_dropped(&mut self, op: DroppedOp) {
        self.dropped.push_back(op);
        while self.dropped.len() > MAX_DROPPED {
            self.dropped.pop_front();
        }
    }

    /// The disk has entries up to `idx`: they came from there, or none if it is written anew.
    pub(super) fn disk_has(&mut self, idx: u64) {
        self.disk = Disk { written: idx, synced: 0 };
    }

    /// The entries after `idx` make way on the disk as well.
    pub(super) fn disk_is_rewound(&mut self, idx: u64) {
        self.disk.written = self.disk.written.min(idx);
        self.disk.synced = self.disk.synced.min(idx);
        self.safe = (self.safe.0.min(idx), self.safe.1.min(idx));
    }
}

impl Node {
    /// Makes an operation of this node and brings it on its way; its name. The answer to `request`
    /// comes when it is acknowledged.
    pub(super) fn propose_own(
        &mut self,
        now: LocalTime,
        request: Option<RequestId>,
        body: &OpBody,
    ) -> Result<OpId, Refusal> {
        let room = self.room_id().ok_or_else(Refusal::not_in_room)?;
        let id = self.next_op_id();
        let created = self.clock.model().map_or(Op::NO_TIME, |model| model.room(now));
        let op =
            Op::signed(&self.key, room, id, created, body).map_err(|error| too_long(&error))?;
        if self.is_coordinator() {
            if request.is_some() {
                self.check_pace(now, &op)?;
            }
            self.order(now, op, Origin::Here)?;
        } else {
            self.keep(vec![op], Came::Waiting);
            self.offer(now);
        }
        if let Some(request) = request {
            self.requests.wait(now, request, id);
        }
        // Alone, an entry may have been acknowledged while it was ordered.
        self.acknowledge();
        Ok(id)
    }

    /// Orders an operation: its place, its instant, the way to everybody. An operation that has
    /// its place already keeps it.
    pub(super) fn order(&mut self, now: LocalTime, op: Op, origin: Origin) -> Result<u64, Refusal> {
        let before = self.member_peers();
        let (idx, entry) = self.place(now, op, origin)?;
        match entry {
            Some(entry) => {
                self.publish(now, vec![entry]);
                // Who is out by it learns that as the others do.
                for peer in before {
                    if !self.is_member(peer) {
                        self.replicate_to(now, peer);
                    }
                }
            }
            None => self.acknowledge(),
        }
        Ok(idx)
    }

    /// Gives an operation its place. The entry, if it is a new one, is yet to be
    /// [published](Self::publish).
    pub(super) fn place(
        &mut self,
        now: LocalTime,
        op: Op,
        origin: Origin,
    ) -> Result<(u64, Option<Entry>), Refusal> {
        let term = self.election.as_ref().map_or(Term::ZERO, Election::term);
        let at = self.effective_at(now, &op);
        let id = op.id;
        let room = self.room.as_mut().ok_or_else(Refusal::not_in_room)?;
        let (idx, effective_at, entry) = match room.order(term, at, op)? {
            Ordered::Known { idx, at } => (idx, at, None),
            Ordered::New(entry) => (entry.idx, entry.at, Some(*entry)),
        };
        if let Some(reign) = self.replication.reign.as_mut().filter(|_| entry.is_some()) {
            reign.has_ordered = true;
        }
        if let Some(entry) = &entry {
            self.note_wanted(&entry.op);
        }
        let unheard = || Waiting { id, origins: Vec::new(), effective_at };
        let waiting = self.replication.waiting.entry(idx).or_insert_with(unheard);
        if !waiting.origins.contains(&origin) {
            waiting.origins.push(origin);
        }
        Ok((idx, entry))
    }

    /// Brings new entries to the disk and to everybody.
    pub(super) fn publish(&mut self, now: LocalTime, entries: Vec<Entry>) {
        self.entries_applied(now, entries);
        self.replicate(now);
    }

    /// When an operation takes effect. What is heard must reach every speaker before its
    /// instant; the rest takes effect at once, and so does everything while nothing is heard
    /// because the music is held.
    fn effective_at(&self, now: LocalTime, op: &Op) -> RoomTime {
        let room_now = self.room_now(now);
        if self.held_at().is_some() {
            return room_now;
        }
        match crate::wire::codec::decode_body(op) {
            Ok(OpBody::Begin { .. }) => room_now + self.lead() + BEGIN_MARGIN,
            Ok(
                OpBody::Pause(_)
                | OpBody::Stop(_)
                | OpBody::Volume { .. }
                | OpBody::RoomVolume { .. }
                | OpBody::Mute { .. }
                // The last ballot of a skip, or a DJ's leaving, may move the music on.
                | OpBody::CallVote(_)
                | OpBody::Vote { .. },
            ) => room_now + self.lead(),
            _ => room_now,
        }
    }

    /// What follows from entries that are now part of the state.
    pub(super) fn entries_applied(&mut self, now: LocalTime, entries: Vec<Entry>) {
        let Some(room) = &self.room else { return };
        let id = room.id();
        for entry in &entries {
            self.note_author(&entry.op);
        }
        self.outputs.push_back(Output::SaveEntries { room: id, entries });
        self.forget_placed();
        self.compact();
        self.refresh_election(now);
        self.refresh_segments(now);
        self.refresh_card(now);
        // What was asked for may be ready everywhere already: a resume usually is.
        self.check_gate(now);
    }

    /// The state on disk moves up to the oldest one in memory: what comes after it may still have
    /// to make way.
    fn compact(&mut self) {
        let Some(room) = &self.room else { return };
        let last = room.log().last_idx();
        if last >= self.replication.compacted + COMPACT_EVERY {
            self.replication.compacted = last;
            match room.base_snapshot() {
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

    pub(super) fn replicate_to(&mut self, now: LocalTime, peer: NodeId) {
        let (Some(room), Some(election)) = (&self.room, &self.election) else { return };
        let log = room.log();
        let progress = self.replication.progress.entry(peer).or_default();
        // Where a member stands is known from its first heartbeat answer or acknowledgement.
        let Some(prev_idx) = progress.sent.filter(|sent| *sent < log.last_idx()) else { return };
        let there = log
            .chain_at(prev_idx)
            .and_then(|chain| Some((chain, log.entries_after(prev_idx, chain)?)));
        let Some((prev_chain, mut entries)) = there else {
            return self.send_snapshot(peer);
        };
        entries.truncate(fitting(&entries));
        progress.sent = Some(entries.last().map_or(prev_idx, |entry| entry.idx));
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
        let room = room.id();
        self.replication.progress.entry(peer).or_default().sent = Some(last);
        self.send(peer, Message::Snapshot(snapshot));
        self.tell_safe_to(peer, room);
    }

    pub(super) fn snapshot_wanted(&mut self, from: NodeId, room: RoomId) {
        // Whoever was let in by a half that gave way is no member here, but must see this
        // state to ask again.
        let is_here = self.is_member(from) || self.is_present(from);
        if self.room_id() == Some(room) && self.reigns() && is_here {
            self.send_snapshot(from);
        }
    }

    pub(super) fn ack_received(&mut self, now: LocalTime, from: NodeId, ack: &HeartbeatAck) {
        if let Some(election) = self.election_of(ack.room) {
            election.ack_received(now, from, ack);
        }
        let term = self.election.as_ref().map(Election::term);
        if !self.reigns() || term != Some(ack.term) || !self.is_member(from) {
            return;
        }
        self.compare_log(now, from, ack);
    }

    /// A member says where its log ends: continue there, or find out where the two part. What it
    /// has written can never be more than what it says it has.
    fn compare_log(&mut self, now: LocalTime, from: NodeId, ack: &HeartbeatAck) {
        let Some(room) = &self.room else { return };
        let log = room.log();
        let there = LogPlace { idx: ack.last_idx, chain: ack.chain };
        let same = log.has(&there);
        let behind = there.idx < log.last_idx();
        let progress = self.replication.progress.entry(from).or_default();
        let lowered = progress.lower(if same { there.idx } else { 0 });
        let recently = progress.sent.is_some() && now - progress.sent_at < progress.patience();
        let is_new = progress.sent.is_none();
        if same && (is_new || lowered || (behind && !recently)) {
            progress.note_resend(there.idx);
            progress.sent = Some(there.idx);
            self.replicate_to(now, from);
        }
        if is_new {
            self.tell_safe_to(from, ack.room);
        }
        // What its disk has it tells when it is asked. An answer that travelled slowly may have
        // lowered what was true.
        if (!same && !recently) || ((is_new || lowered) && !behind) {
            self.settle_difference(now, from, ack);
        }
    }

    pub(super) fn append_received(
        &mut self,
        now: LocalTime,
        from: NodeId,
        room_id: RoomId,
        term: Term,
        previous: LogPlace,
        entries: &[Entry],
    ) {
        if !self.follows(from, room_id, term) {
            return;
        }
        let Some(room) = &mut self.room else { return };
        match room.follow(previous.idx, previous.chain, entries) {
            Ok(taken) => self.took(now, taken),
            // What follows the operation that it does not know is of no use to it.
            Err(RoomError::Gap { .. }) if self.replication.unknown.is_some() => {}
            Err(RoomError::Gap { .. } | RoomError::Fork { .. }) => self.tell_places(now, from),
            Err(error) => {
                tracing::debug!(%error, "the coordinator's entries cannot be taken");
                self.ask_for_snapshot(now, from, room_id);
            }
        }
    }

    fn took(&mut self, now: LocalTime, taken: Taken) {
        for (idx, refusal) in &taken.refused {
            tracing::debug!(idx, %refusal, "an entry without effect");
        }
        self.made_way(taken.cut);
        if taken.unknown.is_some() || !taken.entries.is_empty() {
            self.note_unknown(now, taken.unknown);
        }
        if taken.entries.is_empty() {
            self.report_written();
        } else {
            self.entries_applied(now, taken.entries);
        }
    }

    /// Whether `from` is the coordinator that this node follows, in that term.
    pub(super) fn follows(&mut self, from: NodeId, room: RoomId, term: Term) -> bool {
        let in_term = self.election_of(room).is_some_and(|election| election.term() == term);
        in_term && from != self.me && self.coordinator() == Some(from)
    }

    /// Whether this node coordinates that room, in that term.
    pub(super) fn leads(&mut self, room: RoomId, term: Term) -> bool {
        let in_term = self.election_of(room).is_some_and(|election| election.term() == term);
        in_term && self.reigns()
    }

    fn ask_for_snapshot(&mut self, now: LocalTime, from: NodeId, room: RoomId) {
        if self.may_ask(now) {
            self.send(from, Message::NeedSnapshot { room });
        }
    }

    /// The disk has our entries up to that place. A report that was under way when entries made
    /// way tells of a place that is not on our log any more.
    pub(super) fn written(&mut self, room_id: RoomId, place: &LogPlace) {
        let ours = self.room.as_ref().filter(|room| room.id() == room_id);
        if ours.is_some_and(|room| room.log().has(place)) {
            self.replication.disk.written = self.replication.disk.written.max(place.idx);
            self.disk_has_more();
        }
    }

    /// They would survive a power cut. What is synced has been reported as written before.
    pub(super) fn synced(&mut self, room: RoomId, idx: u64) {
        if self.room_id() != Some(room) {
            return;
        }
        let disk = &mut self.replication.disk;
        disk.synced = disk.synced.max(idx.min(disk.written));
        self.disk_has_more();
    }

    fn disk_has_more(&mut self) {
        if self.reigns() {
            self.acknowledge();
        } else {
            self.report_written();
        }
    }

    pub(super) fn report_written(&mut self) {
        let (Some(room), Some(election)) = (&self.room, &self.election) else { return };
        let (log, disk) = (room.log(), &self.replication.disk);
        let idx = disk.written.min(log.last_idx());
        let synced = disk.synced.min(idx);
        // Of what lies before the tail the history cannot be shown; the disk will soon have more.
        let Some(chain) = log.chain_at(idx) else { return };
        let written = LogPlace { idx, chain };
        let message = Message::Appended { room: room.id(), term: election.term(), written, synced };
        if let Some(coordinator) = self.coordinator() {
            self.send(coordinator, message);
        }
    }

    pub(super) fn appended_received(
        &mut self,
        from: NodeId,
        room: RoomId,
        term: Term,
        written: &LogPlace,
        synced: u64,
    ) {
        if !self.leads(room, term) || !self.is_member(from) {
            return;
        }
        let same = self.room.as_ref().is_some_and(|room| room.log().has(written));
        let progress = self.replication.progress.entry(from).or_default();
        if planted::is(Bug::StaleMatch) {
            progress.written = progress.written.max(written.idx);
            progress.synced = progress.synced.max(synced);
        } else {
            // Of another history it counts for nothing.
            progress.written = if same { written.idx } else { 0 };
            progress.synced = synced.min(progress.written);
        }
        self.acknowledge();
    }

    /// Answers for every entry that enough disks have.
    pub(super) fn acknowledge(&mut self) {
        if !self.reigns() {
            return;
        }
        let (safe, level) = self.safe_idx();
        self.note_safe(safe, level);
        while let Some(first) = self.replication.waiting.first_entry() {
            if *first.key() > safe {
                break;
            }
            let (idx, waiting) = first.remove_entry();
            let accepted = Accepted { idx, level, effective_at: waiting.effective_at };
            for origin in waiting.origins {
                self.answer(origin, waiting.id, Ok(accepted));
            }
        }
    }

    /// Says what became of an operation to whoever waits for it.
    pub(super) fn answer(&mut self, origin: Origin, id: OpId, outcome: Result<Accepted, Refusal>) {
        match origin {
            Origin::Here => {
                self.let_go(id);
                self.finish_request(id, outcome);
            }
            Origin::Peer(peer) => self.send(peer, Message::Proposed { id, outcome }),
        }
    }

    /// The last entry that this node and enough others have written, and how safe that is.
    fn safe_idx(&self) -> (u64, Level) {
        let (others, level) = self.enough_have(|progress| progress.written);
        if planted::is(Bug::AcknowledgeBeforeWrite) {
            return (u64::MAX, level);
        }
        let alone = level == Level::Local;
        let here = if self.must_write(alone) { self.replication.disk.written } else { u64::MAX };
        (here.min(others), level)
    }

    /// The last entry that enough others have.
    fn enough_have(&self, what: impl Fn(&Progress) -> u64) -> (u64, Level) {
        let Some(election) = &self.election else { return (u64::MAX, Level::Local) };
        let mut theirs = election
            .live()
            .iter()
            .filter(|node| **node != self.me && self.counts(node))
            .map(|node| self.replication.progress.get(node).map_or(0, &what))
            .collect::<Vec<_>>();
        theirs.sort_unstable_by(|a, b| b.cmp(a));
        match theirs.len().min(REPLICAS) {
            0 => (u64::MAX, Level::Local),
            needed => (theirs[needed - 1], Level::Replicated),
        }
    }

    /// Nobody else is here: nothing is replicated then, though the disk may have it for good.
    fn note_safe(&mut self, safe: u64, level: Level) {
        let last = self.room.as_ref().map_or(0, |room| room.log().last_idx());
        let (others, _) = self.enough_have(|progress| progress.synced);
        let durable = self.replication.disk.synced.min(others).min(last);
        let replicated = if level == Level::Local { 0 } else { safe.min(last) };
        let (before, synced_before) = self.replication.safe;
        self.replication.safe = (before.max(replicated), synced_before.max(durable));
    }

    /// What others wait for stays theirs to ask again; what people here wait for is asked again
    /// of the next coordinator.
    pub(super) fn hand_waiting_over(&mut self) {
        let waiting = std::mem::take(&mut self.replication.waiting);
        let Some(room) = &self.room else { return };
        let here = waiting.iter().filter(|(_, waiting)| waiting.origins.contains(&Origin::Here));
        let ops = here.filter_map(|(idx, _)| room.log().entry(*idx)).map(|entry| entry.op.clone());
        // Only its author may propose an operation.
        let (own, others) = ops.partition::<Vec<_>, _>(|op| op.id.author == self.me);
        self.keep(own, Came::Waiting);
        self.keep(others, Came::CutOff);
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
            Err(Refusal::not_in_room())
        } else if self.is_idle_farewell(from, &op) {
            // It is out already. Anybody may say this, so it gets no place in the log; and whoever
            // answers shows nothing of who coordinates.
            Err(Refusal::not_in_room())
        } else if !self.is_coordinator() {
            // It will find the coordinator by itself and say it again.
            return;
        } else {
            self.check_pace(now, &op).and_then(|()| self.order(now, op, Origin::Peer(from)))
        };
        if let Err(refusal) = outcome {
            self.send(from, Message::Proposed { id, outcome: Err(refusal) });
        }
    }

    /// A good-bye of somebody who is not here, and whose going is no entry of the log.
    fn is_idle_farewell(&self, from: NodeId, op: &Op) -> bool {
        let is_known = self.room.as_ref().is_some_and(|room| room.state().has_seen(&op.id));
        !is_known && !self.is_member(from) && super::gate::is_leaving(op)
    }

    pub(super) fn proposed_received(
        &mut self,
        now: LocalTime,
        from: NodeId,
        id: OpId,
        outcome: Result<Accepted, Refusal>,
    ) {
        self.farewell_answered(from, id, &outcome);
        if self.is_join(id) {
            if let Err(refusal) = outcome {
                self.join_refused(now, &refusal);
            }
            return;
        }
        // Only a member that was asked may send this device away. Whoever leads goes for a ban of
        // the other half, and not because that one would be entered in another way.
        let asked_again = self.replication.asked_again.as_ref();
        if asked_again.is_some_and(|(of, op)| op.id == id && *of == from) {
            self.replication.asked_again = None;
            let is_out = |refusal: &Refusal| {
                matches!(refusal.code, RefusalCode::Banned | RefusalCode::Cooldown)
            };
            let is_heard = !self.is_coordinator() || outcome.as_ref().is_err_and(is_out);
            if !is_heard || !self.is_member(from) {
                return;
            }
            if let Err(refusal) = &outcome {
                self.refused_again(now, refusal);
            }
            return;
        }
        // Anybody could say so of an operation whose number can be guessed.
        if !self.replication.outbox.is_asked(from, id) {
            return;
        }
        match &outcome {
            Ok(_) => {
                self.replication.outbox.note_place(id, now);
                self.forget_placed();
            }
            Err(refusal) => self.note_refused(id, &refusal.message),
        }
        self.finish_request(id, outcome);
    }

    /// Whoever does not wait for the answer any more finds it in `groovebox log`.
    fn note_refused(&mut self, id: OpId, why: &str) {
        let Some((op, came)) = self.let_go(id) else { return };
        let state = self.room.as_ref().map(Room::state);
        let done = state.is_some_and(|state| state.has_seen(&id));
        let unheard = came == Came::CutOff || !self.requests.is_waiting(id);
        if unheard && !done {
            self.note_dropped(&op, why);
        }
    }

    pub(super) fn finish_request(&mut self, id: OpId, outcome: Result<Accepted, Refusal>) {
        let reply = outcome.map(|accepted| Done {
            op: Some(id.into()),
            idx: Some(accepted.idx),
            level: accepted.level,
            effective_at: Some(accepted.effective_at),
            message: None,
        });
        self.requests.finish(&mut self.outputs, id, reply);
    }
}

impl Progress {
    /// Another resend from the same place: the member is there and takes nothing.
    fn note_resend(&mut self, from: u64) {
        let (before, times) = self.resent;
        self.resent = (from, if before == from { times.saturating_add(1) } else { 0 });
    }

    /// How long to wait for progress. Longer and longer, up to ten seconds, where several resends
    /// have had no effect: whatever keeps it from taking them, 320 KiB three times a second help
    /// nobody.
    fn patience(&self) -> Span {
        let (_, times) = self.resent;
        Span(RESEND_AFTER.0 << times.saturating_sub(3).min(5))
    }

    /// A member has no more than `idx`, whatever it had. Whether that is news.
    fn lower(&mut self, idx: u64) -> bool {
        let lowered = self.written > idx && !planted::is(Bug::StaleMatch);
        if lowered {
            self.written = idx;
            self.synced = self.synced.min(idx);
        }
        lowered
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

fn too_long(error: &crate::wire::WireError) -> Refusal {
    Refusal::new(
        RefusalCode::InvalidRequest,
        format!("that is too much at once: {error}"),
        "add the tracks in several smaller parts",
    )
}
