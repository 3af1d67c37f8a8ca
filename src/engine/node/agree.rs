//! Whether everybody has the same, and how safe it is: levels of the log, states compared, the
//! log in words.

use super::{LocalTime, Message, Node, NodeId, Notice, OpId, RequestId, RoomId, Span, Term};
use crate::engine::room::{Room, describe, kind_name};
use crate::engine::status::{
    DroppedStatus, LogEntryStatus, LogStatus, OperationStatus, TermStatus, WaitingStatus,
};
use crate::wire::message::{Agreement, DroppedOp, Level};
use crate::wire::op::{Entry, Op};
use crate::wire::{Refusal, RefusalCode};

/// How often a member tells what it makes of the log; at most 10 s by the rules, ticks included.
const AGREE_EVERY: Span = Span::from_secs(8);

/// Positions of one segment further apart than this show a wrong clock, not a wrong state.
const FAR_APART_MS: i64 = 1000;

impl Node {
    /// Tells what is due.
    pub(super) fn tell_agreement(&mut self, now: LocalTime) {
        let Some(room) = self.room_id() else { return };
        if self.is_coordinator() {
            self.acknowledge();
            if self.replication.safe != self.replication.safe_told {
                self.replication.safe_told = self.replication.safe;
                self.tell_safe(room);
            }
            return;
        }
        if self.replication.agreed.is_none_or(|at| now - at >= AGREE_EVERY) {
            self.replication.agreed = Some(now);
            self.send_agreement(now);
        }
    }

    fn tell_safe(&mut self, room: RoomId) {
        for peer in self.member_peers() {
            self.tell_safe_to(peer, room);
        }
    }

    /// To a member that may have missed it: it has come just now, or has another log than before.
    pub(super) fn tell_safe_to(&mut self, peer: NodeId, room: RoomId) {
        let Some(term) = self.election.as_ref().map(crate::engine::election::Election::term) else {
            return;
        };
        let (replicated, durable) = self.replication.safe;
        if (replicated, durable) != (0, 0) {
            self.send(peer, Message::Safe { room, term, replicated, durable });
        }
    }

    pub(super) fn safe_received(
        &mut self,
        from: NodeId,
        room: RoomId,
        term: Term,
        replicated: u64,
        durable: u64,
    ) {
        if self.follows(from, room, term) {
            self.replication.safe = (replicated, durable);
        }
    }

    fn send_agreement(&mut self, now: LocalTime) {
        let (Some(room), Some(coordinator)) = (&self.room, self.coordinator()) else { return };
        let at = self.room_now(now);
        let state = room.state().settled(at);
        let agreement = Agreement {
            room: room.id(),
            end: room.log().end(),
            hash: self.state_hash(room),
            segment: state.focus().map(|segment| segment.id),
            position_ms: state.position(at).map_or(0, Span::as_millis),
        };
        self.send(coordinator, Message::Agree(agreement));
    }

    /// As coordinator: a member whose log ends where ours does must have the same state.
    pub(super) fn agreement_received(&mut self, now: LocalTime, from: NodeId, theirs: &Agreement) {
        if self.room_id() != Some(theirs.room) || !self.is_coordinator() || !self.is_member(from) {
            return;
        }
        let Some(room) = &self.room else { return };
        // Nobody can know more of this reign than who orders it: that came from elsewhere.
        let is_ahead = theirs.end.idx > room.log().last_idx() && self.has_settled_tails(now);
        if room.log().end() != theirs.end && !is_ahead {
            // Entries are under way; it will tell again.
            return;
        }
        if is_ahead || self.state_hash(room) != theirs.hash {
            let name = self.name_of(from);
            self.tell(Notice::Disagreed { name });
            return self.send_snapshot(from);
        }
        let at = self.room_now(now);
        let state = room.state().settled(at);
        let ours = state.position(at).map_or(0, Span::as_millis);
        let same = state.focus().map(|segment| segment.id) == theirs.segment;
        if !same || (ours - theirs.position_ms).abs() > FAR_APART_MS {
            tracing::debug!(peer = %from.short(), ours, theirs = theirs.position_ms, "far apart");
        }
    }

    /// A person wants devices to take the coordinator's state anew: one, or all.
    pub(super) fn resync(&mut self, id: RequestId, member: Option<&str>) -> Result<(), Refusal> {
        let room = self.room.as_ref().ok_or_else(Refusal::not_in_room)?;
        let room_id = room.id();
        let coordinator = self.coordinator().ok_or_else(nobody_coordinates)?;
        let targets = match member {
            Some(text) => vec![room.state().find_member(text)?],
            None => room.state().members().keys().copied().collect(),
        };
        let targets = targets.into_iter().filter(|node| *node != coordinator).collect::<Vec<_>>();
        for &target in &targets {
            if self.is_coordinator() {
                self.send_snapshot_to_connected(target);
            } else if target == self.me {
                self.send(coordinator, Message::NeedSnapshot { room: room_id });
            } else {
                self.send(coordinator, Message::Resync { room: room_id, member: target });
            }
        }
        let name = self.name_of(coordinator);
        let message = match targets.len() {
            0 => format!("{name} coordinates: its state is the one that counts"),
            1 => format!("{name} sends the room's state anew to one device"),
            n => format!("{name} sends the room's state anew to {n} devices"),
        };
        self.reply_done(id, message);
        Ok(())
    }

    pub(super) fn resync_received(
        &mut self,
        now: LocalTime,
        from: NodeId,
        room: RoomId,
        member: NodeId,
    ) {
        let ours = self.room_id() == Some(room) && self.is_coordinator();
        if !ours || !self.is_member(from) || !self.is_member(member) {
            return;
        }
        // A state is large: no more often than it would be sent again anyway.
        let progress = self.replication.progress.entry(member).or_default();
        if progress.sent.is_some() && now - progress.sent_at < super::replication::RESEND_AFTER {
            return;
        }
        progress.sent_at = now;
        self.send_snapshot_to_connected(member);
    }

    fn send_snapshot_to_connected(&mut self, member: NodeId) {
        if self.peers.contains_key(&member) {
            self.send_snapshot(member);
        }
    }
}

/// The log in words.
impl Node {
    /// The last entries of the log, as far back as memory goes; what waits, and what merges left
    /// out.
    #[must_use]
    pub fn log(&self, at_most: usize) -> LogStatus {
        let Some(room) = &self.room else { return LogStatus::default() };
        let (replicated, durable) = self.replication.safe;
        let log = room.log();
        let shown = log.last_idx().saturating_sub(at_most as u64);
        let entries = log.entries().filter(|entry| entry.idx > shown);
        LogStatus {
            last_idx: log.last_idx(),
            replicated,
            durable,
            entries: entries.map(|entry| self.entry_status(room, entry)).collect(),
            waiting: self
                .replication
                .outbox
                .iter()
                .map(|op| self.waiting_status(room, op))
                .collect(),
            dropped: self.replication.dropped.iter().map(|op| self.dropped_status(op)).collect(),
        }
    }

    /// Earlier entries of the room's log, which the disk has kept, in the same words.
    #[must_use]
    pub fn worded(&self, entries: &[Entry]) -> Vec<LogEntryStatus> {
        let Some(room) = &self.room else { return Vec::new() };
        let ours = entries.iter().filter(|entry| entry.op.room == room.id());
        ours.map(|entry| self.entry_status(room, entry)).collect()
    }

    /// What became of one of this node's own operations by now, by start counter and number. None
    /// if it was refused, or is too long ago.
    #[must_use]
    pub fn operation(&self, boot: u32, seq: u64) -> Option<OperationStatus> {
        let id = OpId { author: self.me, boot, seq };
        let room = self.room.as_ref()?;
        match room.state().known(&id) {
            Some((idx, _)) => Some(OperationStatus { idx: Some(idx), level: self.level_at(idx) }),
            None if self.replication.outbox.contains(id) => {
                Some(OperationStatus { idx: None, level: Level::Local })
            }
            None => None,
        }
    }

    /// How safe an entry of the log is by now.
    fn level_at(&self, idx: u64) -> Level {
        let (replicated, durable) = self.replication.safe;
        if idx <= durable {
            Level::Durable
        } else if idx <= replicated {
            Level::Replicated
        } else {
            Level::Local
        }
    }

    fn entry_status(&self, room: &Room, entry: &Entry) -> LogEntryStatus {
        let level = self.level_at(entry.idx);
        LogEntryStatus {
            idx: entry.idx,
            term: TermStatus {
                n: entry.term.n,
                node: entry.term.node.to_string(),
                boot: entry.term.boot,
            },
            at_ms: Span(entry.at.0).as_millis(),
            author: self.name_of(entry.op.id.author),
            kind: kind_name(entry.op.kind).into(),
            what: describe(&entry.op, room.state()),
            level,
        }
    }

    fn waiting_status(&self, room: &Room, op: &Op) -> WaitingStatus {
        WaitingStatus {
            author: self.name_of(op.id.author),
            kind: kind_name(op.kind).into(),
            what: describe(op, room.state()),
        }
    }

    fn dropped_status(&self, op: &DroppedOp) -> DroppedStatus {
        let known = op.created != Op::NO_TIME;
        DroppedStatus {
            author: self.name_of(op.id.author),
            created_ms: known.then(|| Span(op.created.0).as_millis()),
            what: op.what.clone(),
            why: op.why.clone(),
        }
    }
}

fn nobody_coordinates() -> Refusal {
    Refusal {
        retry_after_ms: Some(1000),
        ..Refusal::new(
            RefusalCode::NoCoordinator,
            "nobody coordinates at the moment, so there is no state to take",
            "try again in a moment; `groovebox status` shows who coordinates",
        )
    }
}
