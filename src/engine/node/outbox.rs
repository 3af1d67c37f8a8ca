//! Operations that wait for a coordinator's answer: own ones, and those that a change of
//! coordinator cut off the log, whoever made them. Each stays until it is refused, or its entry is
//! here.

use std::collections::VecDeque;

use super::{LocalTime, NodeId, OpId, Span};
use crate::base::limits::{
    MAX_COVERED, MAX_COVERED_BYTES, MAX_ORPHANS, MAX_OUTBOX, MAX_OUTBOX_BYTES,
};
use crate::engine::room::merge::{Came, is_of_the_moment};
use crate::wire::codec;
use crate::wire::op::Op;

/// How often a waiting proposal is said again.
const PROPOSE_RETRY: Span = Span::from_millis(500);

/// How often operations are offered again that have not been answered. They are answered once
/// enough disks have them, which takes longer the more there are.
const OFFER_RETRY: Span = Span::from_secs(2);

/// Bytes of an operation around its body, rounded up; and of the message around all.
const ENVELOPE: usize = 256;

/// An operation and how it came to wait.
#[derive(Debug)]
struct Held {
    op: Op,
    came: Came,
    said: Option<LocalTime>,
    /// To whom.
    to: Option<NodeId>,
    /// A coordinator has given it a place, and this node's log does not have the entry yet.
    has_place: bool,
}

/// In the order in which they are offered.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    held: VecDeque<Held>,
    bytes: usize,
}

impl Outbox {
    /// Takes an operation in, if it is not there yet. What no longer fits comes back.
    pub fn put(&mut self, op: Op, came: Came) -> Option<Op> {
        if self.contains(op.id) {
            return None;
        }
        if self.held.len() >= MAX_OUTBOX || self.bytes + op.body.len() > MAX_OUTBOX_BYTES {
            return Some(op);
        }
        self.bytes += op.body.len();
        self.held.push_back(Held { op, came, said: None, to: None, has_place: false });
        None
    }

    /// Whether it was said to that node, whose answer counts.
    pub fn is_asked(&self, node: NodeId, id: OpId) -> bool {
        self.held.iter().any(|held| held.op.id == id && held.to == Some(node))
    }

    pub fn contains(&self, id: OpId) -> bool {
        self.held.iter().any(|held| held.op.id == id)
    }

    /// It was answered.
    pub fn take(&mut self, id: OpId) -> Option<(Op, Came)> {
        let at = self.held.iter().position(|held| held.op.id == id)?;
        let held = self.held.remove(at)?;
        self.bytes -= held.op.body.len();
        Some((held.op, held.came))
    }

    /// A coordinator says that it has its place. Until the entry is here as well it is kept like
    /// one that was cut off: that coordinator's disk may be the only one that has it.
    pub fn note_place(&mut self, id: OpId, now: LocalTime) {
        if let Some(held) = self.held.iter_mut().find(|held| held.op.id == id) {
            held.came = Came::CutOff;
            held.said = Some(now);
            held.has_place = true;
        }
    }

    /// Those with a place of which that is true.
    pub fn placed(&self, is: impl Fn(&Op) -> bool) -> Vec<OpId> {
        let placed = self.held.iter().filter(|held| held.has_place && is(&held.op));
        placed.map(|held| held.op.id).collect()
    }

    /// Everything, for a node that has become the coordinator itself.
    pub fn drain(&mut self) -> Vec<(Op, Came)> {
        self.bytes = 0;
        self.held.drain(..).map(|held| (held.op, held.came)).collect()
    }

    /// Another coordinator has heard nothing yet.
    pub fn say_again(&mut self) {
        self.held.iter_mut().for_each(|held| held.said = None);
    }

    /// Whether an operation is worth keeping once the person who made it waits no longer.
    pub fn outlives_patience(&self, id: OpId) -> bool {
        let held = self.held.iter().find(|held| held.op.id == id);
        held.is_some_and(|held| {
            codec::decode_body(&held.op).is_ok_and(|body| !is_of_the_moment(&body))
        })
    }

    /// Own operations that are to be proposed now, to that coordinator.
    pub fn proposals(&mut self, now: LocalTime, to: NodeId) -> Vec<Op> {
        let due = |held: &&mut Held| held.came == Came::Waiting && held.is_due(now, PROPOSE_RETRY);
        self.held.iter_mut().filter(due).map(|held| held.say(now, to)).collect()
    }

    /// Operations to be offered now, in order, as much as goes into one message.
    pub fn orphans(&mut self, now: LocalTime, to: NodeId) -> Vec<Op> {
        let mut room = MAX_ORPHANS - ENVELOPE;
        let mut batch = Vec::new();
        // Whoever gave one its place need not hear of it again; whoever comes after must.
        let is_known = |held: &Held| held.has_place && held.said.is_some();
        let due = |held: &&mut Held| {
            held.came == Came::CutOff && held.is_due(now, OFFER_RETRY) && !is_known(held)
        };
        for held in self.held.iter_mut().filter(due) {
            let size = held.op.body.len() + ENVELOPE;
            if size > room && !batch.is_empty() {
                break;
            }
            room = room.saturating_sub(size);
            batch.push(held.say(now, to));
        }
        batch
    }

    pub fn iter(&self) -> impl Iterator<Item = &Op> {
        self.held.iter().map(|held| &held.op)
    }

    /// Whether anything waits that never had a place.
    pub fn has_proposals(&self) -> bool {
        self.held.iter().any(|held| held.came == Came::Waiting)
    }

    /// Whether anything of this device is done whose entry is yet to come.
    pub fn has_placed(&self) -> bool {
        self.held.iter().any(|held| held.has_place)
    }

    pub fn len(&self) -> usize {
        self.held.len()
    }

    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }
}

impl Held {
    fn is_due(&self, now: LocalTime, pause: Span) -> bool {
        self.said.is_none_or(|said| now - said >= pause)
    }

    fn say(&mut self, now: LocalTime, to: NodeId) -> Op {
        self.said = Some(now);
        self.to = Some(to);
        self.op.clone()
    }
}

/// Operations that this node had as entries of its log, and has only in the state since that
/// came whole from a coordinator. Should that state make way in turn for one that lacks them,
/// nobody might have them any more who could offer them.
#[derive(Debug, Default)]
pub(super) struct Covered {
    ops: VecDeque<Op>,
    bytes: usize,
}

impl Covered {
    /// The latest are kept; which ones made way for this one.
    pub fn put(&mut self, op: Op) -> Vec<OpId> {
        self.bytes += op.body.len();
        self.ops.push_back(op);
        let mut forgotten = Vec::new();
        while self.ops.len() > MAX_COVERED || self.bytes > MAX_COVERED_BYTES {
            let Some(oldest) = self.ops.pop_front() else { break };
            self.bytes -= oldest.body.len();
            forgotten.push(oldest.id);
        }
        forgotten
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Op> {
        self.ops.iter()
    }

    /// All of them, in order, which are not kept any longer.
    pub fn drain(&mut self) -> Vec<Op> {
        self.bytes = 0;
        self.ops.drain(..).collect()
    }

    pub fn len(&self) -> usize {
        self.ops.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{RoomId, RoomTime};
    use crate::wire::Message;

    const TO: NodeId = NodeId([3; 32]);

    fn op(seq: u64, body: usize) -> Op {
        Op {
            room: RoomId([1; 32]),
            id: OpId { author: NodeId([2; 32]), boot: 1, seq },
            created: RoomTime(0),
            kind: 12,
            body: vec![0; body],
            signature: ([0; 32], [0; 32]),
        }
    }

    #[test]
    fn operations_are_offered_in_order_and_in_messages_of_bounded_size() {
        let mut outbox = Outbox::default();
        let sizes = (1..=200).map(|seq| if seq == 50 { 200_000 } else { 1000 });
        for (seq, size) in (1..).zip(sizes) {
            assert_eq!(outbox.put(op(seq, size), Came::CutOff), None);
        }
        assert_eq!(outbox.put(op(7, 1000), Came::CutOff), None, "it is there already");
        let now = LocalTime(0);
        let mut offered = Vec::new();
        loop {
            let ops = outbox.orphans(now, TO);
            if ops.is_empty() {
                break;
            }
            offered.extend(ops.iter().map(|op| op.id.seq));
            let message = Message::Orphans { room: RoomId([1; 32]), ops };
            assert!(codec::encode_message(&message).is_ok());
        }
        assert_eq!(offered, (1..=200).collect::<Vec<_>>());
        assert!(outbox.orphans(now + Span::from_secs(1), TO).is_empty(), "said just now");
        assert!(!outbox.orphans(now + OFFER_RETRY, TO).is_empty());
        outbox.say_again();
        assert_eq!(outbox.orphans(now, TO)[0].id.seq, 1);
        assert!(outbox.take(op(3, 0).id).is_some());
        assert!(outbox.take(op(3, 0).id).is_none());
        assert_eq!(outbox.drain().len(), 199);
        assert!(outbox.is_empty());
    }

    #[test]
    fn what_waits_takes_bounded_memory() {
        let mut outbox = Outbox::default();
        for seq in 0..100 {
            let refused = outbox.put(op(seq, 200_000), Came::CutOff).is_some();
            assert_eq!(refused, seq >= 41, "8 MiB are 41 of them");
        }
    }

    #[test]
    fn of_what_a_state_covers_the_latest_is_remembered() {
        let mut covered = Covered::default();
        let most = MAX_COVERED as u64;
        for seq in 0..most + 5 {
            let forgotten = covered.put(op(seq, 10));
            assert_eq!(forgotten.len(), usize::from(seq >= most));
        }
        assert_eq!(covered.len(), MAX_COVERED);
        let forgotten = covered.put(op(most + 5, MAX_COVERED_BYTES - 10));
        assert_eq!(forgotten.len(), MAX_COVERED - 1);
        let kept: Vec<u64> = covered.drain().into_iter().map(|op| op.id.seq).collect();
        assert_eq!(kept, [most + 4, most + 5]);
        assert_eq!((covered.len(), covered.bytes), (0, 0));
    }
}
