//! Which operations have had their place in the log, however long ago.
//!
//! An author counts its operations, so that what it has done is a few stretches of numbers for
//! each of its starts. The record errs to one side only: what it has forgotten counts as done. An
//! operation is thus never applied twice; one that comes from very long ago may be refused.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use crate::base::limits::{MAX_SEEN_AUTHORS, MAX_SEEN_BOOTS, MAX_SEEN_RANGES};
use crate::base::{NodeId, OpId};

/// By author.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(super) struct Seen(BTreeMap<NodeId, Author>);

#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
struct Author {
    /// Index of its last operation.
    idx: u64,
    /// By start counter, lowest first.
    boots: VecDeque<Boot>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Boot {
    boot: u32,
    /// First and last number of each stretch, in order, with holes between them.
    ranges: Vec<(u64, u64)>,
}

impl Seen {
    pub fn contains(&self, op: &OpId) -> bool {
        let Some(author) = self.0.get(&op.author) else { return false };
        let forgotten = author.boots.len() >= MAX_SEEN_BOOTS
            && author.boots.front().is_some_and(|oldest| op.boot < oldest.boot);
        let boot = author.boots.iter().find(|known| known.boot == op.boot);
        forgotten || boot.is_some_and(|boot| boot.contains(op.seq))
    }

    /// Boot and number of the author's latest operation.
    pub fn latest(&self, author: &NodeId) -> Option<(u32, u64)> {
        let boot = self.0.get(author)?.boots.back()?;
        boot.ranges.last().map(|(_, last)| (boot.boot, *last))
    }

    /// Notes an operation that has its place at `idx`.
    pub fn insert(&mut self, op: &OpId, idx: u64) {
        if self.contains(op) {
            return;
        }
        let author = self.0.entry(op.author).or_default();
        author.idx = idx;
        author.insert(op.boot, op.seq);
        if self.0.len() > MAX_SEEN_AUTHORS {
            let oldest = self.0.iter().min_by_key(|(_, author)| author.idx);
            if let Some(node) = oldest.map(|(node, _)| *node) {
                self.0.remove(&node);
            }
        }
    }

    /// For records from elsewhere.
    pub fn is_sane(&self) -> bool {
        self.0.len() <= MAX_SEEN_AUTHORS && self.0.values().all(Author::is_sane)
    }
}

impl Author {
    fn insert(&mut self, boot: u32, seq: u64) {
        let at = self.boots.partition_point(|known| known.boot < boot);
        if self.boots.get(at).is_none_or(|known| known.boot != boot) {
            self.boots.insert(at, Boot { boot, ranges: Vec::new() });
        }
        self.boots[at].insert(seq);
        if self.boots.len() > MAX_SEEN_BOOTS {
            self.boots.pop_front();
        }
    }

    fn is_sane(&self) -> bool {
        let sorted = self.boots.iter().zip(self.boots.iter().skip(1)).all(|(a, b)| a.boot < b.boot);
        sorted && self.boots.len() <= MAX_SEEN_BOOTS && self.boots.iter().all(Boot::is_sane)
    }
}

impl Boot {
    fn contains(&self, seq: u64) -> bool {
        self.ranges.iter().any(|(first, last)| (*first..=*last).contains(&seq))
    }

    fn insert(&mut self, seq: u64) {
        let at = self.ranges.partition_point(|(_, last)| *last < seq);
        self.ranges.insert(at, (seq, seq));
        self.join(at);
        if at > 0 {
            self.join(at - 1);
        }
        if self.ranges.len() > MAX_SEEN_RANGES {
            let (_, last) = self.ranges.remove(1);
            self.ranges[0].1 = last;
        }
    }

    /// Makes one stretch of two without a hole between them.
    fn join(&mut self, at: usize) {
        let Some(&(first, last)) = self.ranges.get(at + 1) else { return };
        if self.ranges[at].1.saturating_add(1) >= first {
            self.ranges[at].1 = last;
            self.ranges.remove(at + 1);
        }
    }

    fn is_sane(&self) -> bool {
        let holes = self.ranges.windows(2).all(|pair| pair[0].1 < pair[1].0);
        let ordered = self.ranges.iter().all(|(first, last)| first <= last);
        let some = (1..=MAX_SEEN_RANGES).contains(&self.ranges.len());
        some && holes && ordered
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn op(author: u8, boot: u32, seq: u64) -> OpId {
        OpId { author: NodeId([author; 32]), boot, seq }
    }

    #[test]
    fn starts_and_authors_long_gone_count_as_done_and_take_no_room() {
        let mut seen = Seen::default();
        for boot in 1..=10 {
            seen.insert(&op(1, boot, 5), u64::from(boot));
        }
        assert!(seen.contains(&op(1, 3, 99)), "of a start long ago");
        assert!(!seen.contains(&op(1, 8, 4)) && !seen.contains(&op(1, 11, 1)));
        assert_eq!(seen.latest(&NodeId([1; 32])), Some((10, 5)));
        for idx in 11..5000 {
            let mut id = op(0, 1, 1);
            id.author.0[..8].copy_from_slice(&u64::to_le_bytes(idx));
            seen.insert(&id, idx);
        }
        assert!(seen.is_sane());
    }

    #[test]
    fn a_full_record_is_as_long_as_a_snapshot_counts_on() {
        let mut seen = Seen::default();
        for author in 0..MAX_SEEN_AUTHORS {
            let mut id = op(0, 1, 1);
            id.author.0[..8].copy_from_slice(&author.to_le_bytes());
            let boots = 1..=u32::try_from(MAX_SEEN_BOOTS).expect("few");
            for (boot, seq) in boots.flat_map(|boot| (0..200).map(move |n| (boot, 2 * n))) {
                (id.boot, id.seq) = (boot, seq);
                seen.insert(&id, 1);
            }
        }
        let bytes = crate::wire::codec::encode_state(&seen).expect("within the limit");
        assert!((1_000_000..1_200_000).contains(&bytes.len()), "{}", bytes.len());
    }

    proptest! {
        #[test]
        fn what_was_done_is_never_forgotten_and_little_else_is_taken_for_done(
            ops in prop::collection::vec((1_u8..4, 1_u32..4, 1_u64..40), 0..200),
        ) {
            let (mut seen, mut model) = (Seen::default(), BTreeSet::new());
            for (idx, (author, boot, seq)) in (1..).zip(ops) {
                let id = op(author, boot, seq);
                prop_assert_eq!(seen.contains(&id), model.contains(&id));
                seen.insert(&id, idx);
                model.insert(id);
                prop_assert!(seen.is_sane());
            }
            // Below 40 numbers there are at most 20 holes: nothing had to be forgotten.
            for (author, boot, seq) in every(1..4, 1..4, 1..40) {
                let id = op(author, boot, seq);
                prop_assert_eq!(seen.contains(&id), model.contains(&id));
            }
        }

        #[test]
        fn with_many_holes_the_oldest_count_as_done(
            seqs in prop::collection::vec(1_u64..1000, 100..300),
        ) {
            let (mut seen, mut done) = (Seen::default(), BTreeSet::new());
            for (idx, seq) in (1..).zip(seqs) {
                seen.insert(&op(1, 1, seq), idx);
                done.insert(seq);
                prop_assert!(seen.is_sane());
                prop_assert!(done.iter().all(|seq| seen.contains(&op(1, 1, *seq))));
            }
        }
    }

    fn every(
        authors: std::ops::Range<u8>,
        boots: std::ops::Range<u32>,
        seqs: std::ops::Range<u64>,
    ) -> Vec<(u8, u32, u64)> {
        let mut all = Vec::new();
        for author in authors {
            for boot in boots.clone() {
                all.extend(seqs.clone().map(|seq| (author, boot, seq)));
            }
        }
        all
    }
}
