//! How a room becomes one again: logs that part are brought together, and what one of them had
//! alone is not lost.
//!
//! ```text
//!  member                                     coordinator
//!    ── HeartbeatAck{where its log ends} ──►  not on its log
//!    ◄── Fetch ── Tail ──►                    a new reign that has ordered nothing: it takes the
//!                                             longer tail over, entries keep their terms
//!    ◄── LogEnd ── Places ──►                 else: finds where the two part
//!    ◄── Append from there, or Snapshot ──    the member's other entries make way
//!    ── Orphans ──►                           each is merged by rule, and answered
//! ```

use std::collections::BTreeSet;

use super::gate::is_leaving;
use super::replication::{Origin, RESEND_AFTER};
use super::{
    Heartbeat, HeartbeatAck, LocalTime, Message, Node, NodeId, Notice, OpId, Output, Room, RoomId,
    Span, Term,
};
use crate::base::limits::{MAX_DROPPED, MAX_PLACES, MAX_REASON};
use crate::engine::planted::{self, Bug};
use crate::engine::room::describe;
use crate::engine::room::merge::{self, Came, Verdict};
use crate::wire::codec;
use crate::wire::message::{DroppedOp, LogPlace};
use crate::wire::op::{Entry, Op, OpBody};
use crate::wire::{Refusal, RefusalCode};

/// How long a new coordinator that has ordered nothing takes over a longer tail. Everybody has
/// answered its first heartbeats within that.
const SYNC_UP: Span = Span::from_millis(300);

/// As [`SYNC_UP`], when the whole house has just been switched on: devices start up within some
/// seconds of each other, and the one that was first need not know most.
const SYNC_UP_COLD: Span = Span::from_secs(10);

/// How long an answer to a request from within that time may take.
const SYNC_UP_GRACE: Span = Span::from_secs(1);

/// Messages of operations offered again per tick: 1 MiB a second.
const OFFERS_PER_TICK: usize = 4;

/// What a coordinator remembers of its reign.
#[derive(Debug)]
pub(super) struct Reign {
    /// Only once a term's reign has begun is anything ordered in it: before, this node has
    /// neither the room's time nor a say in which tail it takes over.
    pub(super) term: Term,
    pub(super) since: LocalTime,
    sync_up: Span,
    /// An operation has got its place in this reign.
    pub(super) has_ordered: bool,
}

impl Reign {
    fn takes_tails(&self, now: LocalTime, grace: Span) -> bool {
        !self.has_ordered && now - self.since < self.sync_up + grace
    }
}

/// Reigns come and go.
impl Node {
    pub(super) fn begin_reign(&mut self, now: LocalTime, term: Term) {
        let sync_up = if self.replication.is_cold { SYNC_UP_COLD } else { SYNC_UP };
        self.replication.is_cold = false;
        self.replication.progress.clear();
        self.replication.reign = Some(Reign { term, since: now, sync_up, has_ordered: false });
    }

    pub(super) fn end_reign(&mut self, now: LocalTime) {
        self.replication.is_cold = false;
        self.replication.progress.clear();
        self.replication.reign = None;
        self.replication.asked = None;
        self.hand_waiting_over();
        self.replication.outbox.say_again();
        self.report_written();
        self.offer(now);
    }

    /// A coordinator holds its own housekeeping back as long as it may still take a tail over.
    pub(super) fn is_syncing_up(&self, now: LocalTime) -> bool {
        let others = self.election.as_ref().is_some_and(|election| !election.live().is_empty());
        let reign = self.replication.reign.as_ref();
        others && reign.is_some_and(|reign| !reign.has_ordered && now - reign.since < SYNC_UP)
    }

    /// As coordinator: no longer log of an earlier reign is taken over any more.
    pub(super) fn has_settled_tails(&self, now: LocalTime) -> bool {
        let reign = self.replication.reign.as_ref();
        reign.is_some_and(|reign| !reign.takes_tails(now, SYNC_UP_GRACE))
    }

    pub(super) fn may_ask(&mut self, now: LocalTime) -> bool {
        let may = self.replication.asked.is_none_or(|at| now - at > RESEND_AFTER);
        if may {
            self.replication.asked = Some(now);
        }
        may
    }
}

/// Two logs that part.
impl Node {
    /// As coordinator: a member's log ends at a place that is not on ours.
    pub(super) fn settle_difference(&mut self, now: LocalTime, from: NodeId, ack: &HeartbeatAck) {
        let (Some(room), Some(election)) = (&self.room, &self.election) else { return };
        let (id, term, end) = (room.id(), election.term(), room.log().end());
        let longer = ack.last_idx > end.idx && ack.last_term < term;
        let reign = self.replication.reign.as_ref();
        let takes = reign.is_some_and(|reign| reign.takes_tails(now, Span::ZERO));
        self.replication.progress.entry(from).or_default().sent_at = now;
        let message = if longer && takes {
            Message::Fetch { room: id, term, after: end }
        } else {
            Message::LogEnd { room: id, term, end }
        };
        self.send(from, message);
    }

    /// As member: the coordinator would go on from our log, if it continues its own.
    pub(super) fn fetch_received(
        &mut self,
        now: LocalTime,
        from: NodeId,
        room_id: RoomId,
        term: Term,
        after: LogPlace,
    ) {
        if !self.follows(from, room_id, term) {
            return;
        }
        let Some(room) = &self.room else { return };
        match room.log().entries_after(after.idx, after.chain) {
            Some(entries) => {
                let message = Message::Tail { room: room_id, term, after, entries };
                self.send(from, message);
            }
            None => self.tell_places(now, from),
        }
    }

    /// As coordinator: a member's tail that continues our log, if nothing was ordered meanwhile.
    pub(super) fn tail_received(
        &mut self,
        now: LocalTime,
        from: NodeId,
        room_id: RoomId,
        term: Term,
        after: &LogPlace,
        entries: &[Entry],
    ) {
        if !self.leads(room_id, term) || !self.is_member(from) {
            return;
        }
        let reign = self.replication.reign.as_ref();
        let in_time = reign.is_some_and(|reign| reign.takes_tails(now, SYNC_UP_GRACE));
        let earlier = entries.iter().all(|entry| entry.term < term);
        let Some(room) = self.room.as_mut().filter(|room| room.log().end() == *after) else {
            return;
        };
        if !in_time || !earlier || entries.is_empty() {
            return;
        }
        match room.accept(after.idx, after.chain, entries) {
            Ok(taken) => {
                let end = room.log().end();
                tracing::info!(entries = taken.entries.len(), "took a longer log over");
                if taken.entries.is_empty() {
                    return;
                }
                self.replication.progress.entry(from).or_default().sent = Some(end.idx);
                self.publish(now, taken.entries);
                // There may be more than went into one message.
                self.send(from, Message::Fetch { room: room_id, term, after: end });
            }
            Err(error) => tracing::debug!(%error, "a tail that cannot be taken over"),
        }
    }

    /// As member: where the coordinator's log ends.
    pub(super) fn log_end_received(
        &mut self,
        now: LocalTime,
        from: NodeId,
        room_id: RoomId,
        term: Term,
        end: &LogPlace,
    ) {
        if !self.follows(from, room_id, term) {
            return;
        }
        let Some(room) = &mut self.room else { return };
        if !room.log().has(end) {
            return self.tell_places(now, from);
        }
        // What this reign has ordered the coordinator has as well: the message was overtaken.
        let next = room.log().entry(end.idx + 1);
        if next.is_some_and(|entry| entry.term < term) {
            match room.rewind(end.idx) {
                Ok(cut) => self.made_way(cut),
                Err(_) => return self.tell_places(now, from),
            }
            self.state_changed(now);
        }
        self.report_written();
    }

    /// Tells the coordinator where our log goes along, as far back as we can go.
    pub(super) fn tell_places(&mut self, now: LocalTime, coordinator: NodeId) {
        if !self.may_ask(now) {
            return;
        }
        let (Some(room), Some(election)) = (&self.room, &self.election) else { return };
        let places = room.log().places(room.oldest());
        let message = Message::Places { room: room.id(), term: election.term(), places };
        self.send(coordinator, message);
    }

    /// As coordinator: goes on from the last place that both logs have.
    pub(super) fn places_received(
        &mut self,
        now: LocalTime,
        from: NodeId,
        room_id: RoomId,
        term: Term,
        places: &[LogPlace],
    ) {
        if !self.leads(room_id, term) {
            return;
        }
        if !self.is_member(from) {
            // Whoever was let in by a half that gave way is no member here, but must see this
            // state to ask again.
            if self.is_present(from) {
                self.send_snapshot(from);
            }
            return;
        }
        let Some(room) = &self.room else { return };
        let log = room.log();
        let common = places.iter().take(MAX_PLACES).filter(|place| log.has(place));
        match common.map(|place| place.idx).max() {
            Some(idx) if idx < log.last_idx() => {
                self.replication.progress.entry(from).or_default().sent = Some(idx);
                self.replicate_to(now, from);
            }
            Some(_) => {
                let end = log.end();
                self.send(from, Message::LogEnd { room: room_id, term, end });
            }
            None => self.send_snapshot(from),
        }
    }

    /// A heartbeat tells where the coordinator's log ends; our answer lets it fill our gap. If
    /// it ends elsewhere at the same length, the two must find out where they part.
    pub(super) fn note_coordinator_log(&mut self, now: LocalTime, from: NodeId, hb: &Heartbeat) {
        if self.coordinator() != Some(from) || self.room_id() != Some(hb.room) {
            return;
        }
        let Some(room) = &self.room else { return };
        // A shorter log of the coordinator means nothing: the heartbeat may be older than an
        // append that overtook it. Our answer shows it where we stand.
        if room.log().chain_at(hb.last_idx).is_some_and(|chain| chain != hb.chain) {
            self.tell_places(now, from);
        }
    }

    /// The coordinator's whole state instead of ours.
    pub(super) fn replace_state(&mut self, now: LocalTime, room: Room) {
        let Some(old) = self.room.take() else { return };
        self.replication.asked = None;
        // Of another log it may not be true; the coordinator tells it anew.
        self.replication.safe = (0, 0);
        let cut = old.log().entries().cloned().collect::<Vec<_>>();
        self.room = Some(room);
        // At the same place as the one before, which may have been another all the same.
        self.hashed.set(None);
        self.note_unknown(now, None);
        self.keep_orphans(cut);
        self.forget_placed();
        self.save_own_room();
        self.state_changed(now);
    }

    /// Entries had to make way, in memory; now on the disk as well. Their operations are kept.
    pub(super) fn made_way(&mut self, cut: Vec<Entry>) {
        let (Some(first), Some(room)) = (cut.first().map(|entry| entry.idx), self.room_id()) else {
            return;
        };
        self.keep_orphans(cut);
        let to_idx = first - 1;
        self.replication.disk_is_rewound(to_idx);
        self.outputs.push_back(Output::RewindRoom { room, to_idx });
        // What was ordered here before may be needed again.
        self.playback.forget_orders();
    }

    /// What only the entries that made way had is offered to the coordinator; and what an earlier
    /// state had, if this one lacks it.
    fn keep_orphans(&mut self, cut: Vec<Entry>) {
        let Some(room) = &self.room else { return };
        if planted::is(Bug::ForgottenOrphans) {
            return;
        }
        let state = room.state();
        let mut met = BTreeSet::new();
        let had = self.replication.covered.drain().into_iter();
        let ops = had.chain(cut.into_iter().map(|entry| entry.op));
        let (covered, lost): (Vec<Op>, Vec<Op>) = ops
            .filter(|op| is_offered(op) && met.insert(op.id))
            .partition(|op| state.has_seen(&op.id));
        self.keep_covered(covered);
        if !lost.is_empty() {
            self.tell(Notice::BranchCut { operations: lost.len() });
            self.keep(lost, Came::CutOff);
        }
    }

    /// Remembers what only the state has, over a restart as well.
    fn keep_covered(&mut self, ops: Vec<Op>) {
        let Some(room) = self.room_id().filter(|_| !ops.is_empty()) else { return };
        let covered = &mut self.replication.covered;
        let forgotten = ops.iter().flat_map(|op| covered.put(op.clone())).collect::<BTreeSet<_>>();
        let ops = ops.into_iter().filter(|op| !forgotten.contains(&op.id)).collect::<Vec<_>>();
        self.outputs.push_back(Output::SaveOutbox { room, ops });
        self.forget_waiting(forgotten.into_iter().collect());
    }

    /// The state is another one than before, without an entry.
    fn state_changed(&mut self, now: LocalTime) {
        self.playback.forget_orders();
        self.refresh_election(now);
        self.refresh_segments(now);
        self.refresh_card(now);
    }
}

/// The outbox.
impl Node {
    /// Keeps operations until they are answered, over a restart as well.
    pub(super) fn keep(&mut self, ops: Vec<Op>, came: Came) {
        let Some(room) = self.room_id() else { return };
        let mut kept = Vec::new();
        for op in ops {
            match self.replication.outbox.put(op.clone(), came) {
                None => kept.push(op),
                Some(op) => {
                    let why = "too much waits for a coordinator";
                    self.note_dropped(&op, why);
                    self.finish_request(op.id, Err(refusal(why)));
                }
            }
        }
        if !kept.is_empty() {
            self.outputs.push_back(Output::SaveOutbox { room, ops: kept });
        }
    }

    /// An operation was answered.
    pub(super) fn let_go(&mut self, id: OpId) -> Option<(Op, Came)> {
        let held = self.replication.outbox.take(id)?;
        if let Some(room) = self.room_id() {
            self.outputs.push_back(Output::DropOutbox { room, ids: vec![id] });
        }
        Some(held)
    }

    /// Forgets what the log has in its stead. What came with a whole state is remembered with all
    /// else that only the state has.
    pub(super) fn forget_placed(&mut self) {
        let Some(room) = self.room.as_ref().filter(|_| !self.replication.outbox.is_empty()) else {
            return;
        };
        // Behind an operation of a later version nothing gets here. Whoever leaves waits for its
        // place only.
        let is_blind = self.replication.unknown.is_some();
        let is_needless = |op: &Op| is_blind || is_leaving(op) || !is_offered(op);
        let is_here = |op: &Op| room.state().has_seen(&op.id);
        let done = self.replication.outbox.placed(|op| is_here(op) || is_needless(op));
        for id in done {
            let is_covered = self.room.as_ref().is_some_and(|room| {
                room.state().has_seen(&id) && !room.log().entries().any(|entry| entry.op.id == id)
            });
            let op = self.replication.outbox.iter().find(|op| op.id == id);
            let kept = op.filter(|op| is_covered && is_offered(op)).cloned();
            match kept {
                None => drop(self.let_go(id)),
                Some(op) => {
                    self.replication.outbox.take(id);
                    self.keep_covered(vec![op]);
                }
            }
        }
    }

    /// The room is left: whatever waited there is of no use any more.
    pub(super) fn abandon_outbox(&mut self) {
        let waiting = self.replication.outbox.drain().into_iter().map(|(op, _)| op);
        let ids = waiting.chain(self.replication.covered.drain()).map(|op| op.id).collect();
        self.forget_waiting(ids);
    }

    /// The disk need not keep them any more.
    fn forget_waiting(&mut self, ids: Vec<OpId>) {
        if let Some(room) = self.room_id().filter(|_| !ids.is_empty()) {
            self.outputs.push_back(Output::DropOutbox { room, ids });
        }
    }

    /// What the disk has kept over a restart. A command of the moment is of no use any more.
    pub(super) fn restore_outbox(&mut self, ops: &[Op]) {
        for op in ops {
            if self.room.as_ref().is_some_and(|room| room.state().has_seen(&op.id)) {
                let forgotten = self.replication.covered.put(op.clone());
                self.forget_waiting(forgotten);
                continue;
            }
            let late = is_of_the_moment(op);
            if !late && self.replication.outbox.put(op.clone(), Came::CutOff).is_none() {
                continue;
            }
            if late {
                self.note_dropped(op, merge::Reason::TooLate.text());
            }
            let room = op.room;
            self.outputs.push_back(Output::DropOutbox { room, ids: vec![op.id] });
        }
    }

    /// Says what waits: to a new coordinator at once, else again after a while.
    pub(super) fn offer(&mut self, now: LocalTime) {
        self.expire_requests(now);
        if self.replication.outbox.is_empty() {
            return;
        }
        if self.is_coordinator() {
            // Its own word that it leaves must come from somebody else's log: of its own it would
            // be out before anybody had taken over.
            if self.departure.is_some() {
                return;
            }
            // People who wait come first; what was cut off leaves time for a longer tail.
            if self.replication.outbox.has_proposals() || !self.is_syncing_up(now) {
                self.merge_own(now);
            }
            return;
        }
        let (Some(coordinator), Some(room)) = (self.coordinator(), self.room_id()) else { return };
        if !self.peers.contains_key(&coordinator) {
            return;
        }
        // In this order: an author may have to join again before it can do anything else.
        for _ in 0..OFFERS_PER_TICK {
            let ops = self.replication.outbox.orphans(now, coordinator);
            if ops.is_empty() {
                break;
            }
            self.send(coordinator, Message::Orphans { room, ops });
        }
        for op in self.replication.outbox.proposals(now, coordinator) {
            self.send(coordinator, Message::Propose(op));
        }
    }

    /// Tells everybody whose patience is over. What is worth doing later as well stays.
    fn expire_requests(&mut self, now: LocalTime) {
        for id in self.requests.late(now) {
            if self.replication.outbox.outlives_patience(id) {
                self.finish_request(id, Err(kept_for_later()));
            } else {
                self.let_go(id);
                self.finish_request(id, Err(no_coordinator()));
            }
        }
        self.requests.expire_room(now, &mut self.outputs);
    }
}

/// The merge.
impl Node {
    /// As coordinator: operations of a log that was cut off.
    pub(super) fn orphans_received(
        &mut self,
        now: LocalTime,
        from: NodeId,
        room: RoomId,
        ops: Vec<Op>,
    ) {
        if self.room_id() != Some(room) || !self.is_coordinator() || !self.is_member(from) {
            return;
        }
        // What is not known here gets no answer: its holder keeps it for the next coordinator.
        let known = ops.into_iter().filter(|op| OpBody::is_known(op.kind));
        let ops = known.map(|op| (op, Came::CutOff)).collect();
        self.merge_all(now, ops, Origin::Peer(from));
    }

    /// This node coordinates now: what it would have offered to another it merges itself.
    fn merge_own(&mut self, now: LocalTime) {
        let Some(room) = self.room_id() else { return };
        let held = self.replication.outbox.drain();
        // What only a later version knows waits for a coordinator of that version.
        let (held, later) =
            held.into_iter().partition::<Vec<_>, _>(|(op, _)| OpBody::is_known(op.kind));
        for (op, came) in later {
            self.replication.outbox.put(op, came);
        }
        let ids = held.iter().map(|(op, _)| op.id).collect::<Vec<_>>();
        if ids.is_empty() {
            return;
        }
        self.merge_all(now, held, Origin::Here);
        // The entries are ordered to the disk before this is.
        self.outputs.push_back(Output::DropOutbox { room, ids });
    }

    fn merge_all(&mut self, now: LocalTime, ops: Vec<(Op, Came)>, origin: Origin) {
        let mut entries = Vec::new();
        let mut dropped = Vec::new();
        for (op, came) in ops {
            match self.merge(now, &op, came, origin) {
                Ok(entry) => entries.extend(entry),
                Err(Dropped { refusal, told }) => {
                    if told {
                        dropped.extend(self.note_dropped(&op, &refusal.message));
                    }
                    self.answer(origin, op.id, Err(refusal));
                }
            }
        }
        if !entries.is_empty() {
            self.publish(now, entries);
        }
        self.acknowledge();
        if !dropped.is_empty() {
            self.tell_dropped(&dropped);
        }
    }

    /// Gives an operation a place, if it stands by the rules of the merge and of the room.
    fn merge(
        &mut self,
        now: LocalTime,
        op: &Op,
        came: Came,
        origin: Origin,
    ) -> Result<Option<Entry>, Dropped> {
        let at = self.room_now(now);
        let Some(room) = self.room.as_ref() else { return Ok(None) };
        let silently = |refusal| Dropped { refusal, told: false };
        let aloud = |refusal| Dropped { refusal, told: true };
        // What was dropped once stays dropped: several members offer it.
        if let Some(before) = self.replication.dropped.iter().find(|known| known.id == op.id) {
            return Err(silently(refusal(&before.why)));
        }
        if !room.state().has_seen(&op.id) {
            let unreadable = |_| silently(refusal("this version does not understand it"));
            let body = codec::decode_body(op).map_err(unreadable)?;
            if let Verdict::Drop(why) = merge::merge(op, &body, came, &room.state().settled(at), at)
            {
                return Err(Dropped { refusal: refusal(why.text()), told: why.is_told() });
            }
        }
        let known = room.state().has_seen(&op.id);
        let placed = self.place(now, op.clone(), origin);
        // What has its place already but so long ago that nobody knows which is done.
        placed.map(|(_, entry)| entry).map_err(if known { silently } else { aloud })
    }

    fn tell_dropped(&mut self, dropped: &[DroppedOp]) {
        let Some(room) = self.room_id() else { return };
        for peer in self.member_peers() {
            self.send(peer, Message::Dropped { room, dropped: dropped.to_vec() });
        }
    }

    pub(super) fn dropped_received(&mut self, from: NodeId, room: RoomId, dropped: Vec<DroppedOp>) {
        if self.room_id() != Some(room) || self.coordinator() != Some(from) {
            return;
        }
        for mut op in dropped.into_iter().take(MAX_DROPPED) {
            for text in [&mut op.what, &mut op.why] {
                *text = text.chars().filter(|c| !c.is_control()).take(MAX_REASON).collect();
            }
            self.remember_dropped(op);
        }
    }

    /// An operation was left out: its author hears of it, and `groovebox log` shows it. None if
    /// that is known already.
    pub(super) fn note_dropped(&mut self, op: &Op, why: &str) -> Option<DroppedOp> {
        let what = self.room.as_ref().map(|room| describe(op, room.state())).unwrap_or_default();
        let dropped = DroppedOp { id: op.id, created: op.created, what, why: why.into() };
        self.remember_dropped(dropped.clone()).then_some(dropped)
    }

    fn remember_dropped(&mut self, op: DroppedOp) -> bool {
        if self.replication.dropped.iter().any(|known| known.id == op.id) {
            return false;
        }
        if op.id.author == self.me {
            self.tell(Notice::Dropped { what: op.what.clone(), why: op.why.clone() });
        }
        if let Some(room) = self.room_id() {
            self.outputs.push_back(Output::SaveDropped { room, dropped: op.clone() });
        }
        self.replication.list_dropped(op);
        true
    }
}

/// Whether an operation is offered again. What a coordinator said of its reign is not.
fn is_offered(op: &Op) -> bool {
    !OpBody::is_known(op.kind)
        || codec::decode_body(op).is_ok_and(|body| !merge::is_housekeeping(&body))
}

fn is_of_the_moment(op: &Op) -> bool {
    codec::decode_body(op).is_ok_and(|body| merge::is_of_the_moment(&body))
}

/// An operation that does not stand.
struct Dropped {
    refusal: Refusal,
    /// Whether people want to know.
    told: bool,
}

fn refusal(why: &str) -> Refusal {
    Refusal::new(
        RefusalCode::UpdateFailed,
        why,
        "do it again if it is still wanted; `groovebox log` shows what was left out",
    )
}

fn no_coordinator() -> Refusal {
    Refusal {
        retry_after_ms: Some(1000),
        ..Refusal::new(
            RefusalCode::NoCoordinator,
            "no coordinator answered in time; the music is not affected",
            "try again in a moment; `groovebox status` shows who coordinates",
        )
    }
}

fn kept_for_later() -> Refusal {
    Refusal::new(
        RefusalCode::NoCoordinator,
        "no coordinator answered in time; this is kept and done as soon as one does",
        "nothing needs to be done; `groovebox log` shows what waits",
    )
}
