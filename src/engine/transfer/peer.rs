//! One peer as a source: what it holds, how fast it was, and whether to leave it alone.

use std::collections::BTreeMap;

use super::blob::Have;
use crate::base::{BlobHash, LocalTime, Span};

/// Blobs remembered of one peer: a full queue and what was played.
const MAX_BLOBS: usize = 2048;

/// Of these, how many partial ones, whose maps cost memory. Nobody fetches more at once.
const MAX_PARTIAL: usize = 64;

/// Single pieces not to be asked for now.
const MAX_AVOIDED: usize = 1024;

/// Bytes a second that a peer is believed to give before it has given any: low enough for a
/// weak radio link, high enough that everybody is tried.
const FIRST_GUESS: f64 = 2e6;

/// Weight of a new measurement.
const GAIN: f64 = 0.3;

/// Slowest rate reckoned with, so that expectations stay finite.
const MIN_RATE: f64 = 4e3;

#[derive(Debug)]
pub(super) struct Peer {
    has: BTreeMap<BlobHash, Held>,
    /// Counts what it has told.
    told: u64,
    shunned: BTreeMap<BlobHash, LocalTime>,
    avoided: BTreeMap<(BlobHash, u32), LocalTime>,
    /// Pieces it owes.
    pub outstanding: usize,
    /// Bytes a second, exponentially averaged.
    rate: f64,
}

/// What it holds of a blob, and when it told so last.
#[derive(Debug)]
struct Held {
    have: Have,
    told: u64,
}

impl Default for Peer {
    fn default() -> Peer {
        Peer {
            has: BTreeMap::new(),
            told: 0,
            shunned: BTreeMap::new(),
            avoided: BTreeMap::new(),
            outstanding: 0,
            rate: FIRST_GUESS,
        }
    }
}

impl Peer {
    /// It holds this. Where that is too much to be remembered, what was told longest ago of a
    /// blob that is not wanted makes way: in a week many tracks come and go.
    pub fn add(&mut self, hash: BlobHash, have: Have, is_wanted: impl Fn(&BlobHash) -> bool) {
        let is_known = self.has.contains_key(&hash);
        let partial = self.has.values().filter(|held| held.is_partial()).count();
        let too_many = self.has.len() >= MAX_BLOBS;
        let held = Held { have, told: self.told };
        if !is_known && (too_many || held.is_partial() && partial >= MAX_PARTIAL) {
            let only_partial = !too_many;
            let spare = |(hash, old): &(&BlobHash, &Held)| {
                !is_wanted(hash) && (old.is_partial() || !only_partial)
            };
            let oldest = self.has.iter().filter(spare).min_by_key(|(_, old)| old.told);
            let Some(oldest) = oldest.map(|(hash, _)| *hash) else { return };
            self.has.remove(&oldest);
        }
        self.told += 1;
        self.has.insert(hash, held);
    }

    /// How many blobs are remembered of it.
    pub fn size(&self) -> usize {
        self.has.len() + self.shunned.len() + self.avoided.len()
    }

    pub fn has(&self, hash: &BlobHash, piece: u32) -> bool {
        self.has.get(hash).is_some_and(|held| held.have.has(piece))
    }

    /// Ask for nothing of this blob until then.
    pub fn shun(&mut self, hash: BlobHash, until: LocalTime) {
        if self.shunned.len() >= MAX_BLOBS && !self.shunned.contains_key(&hash) {
            let soonest = self.shunned.iter().min_by_key(|(_, until)| **until);
            let soonest = soonest.map(|(hash, _)| *hash);
            soonest.map(|hash| self.shunned.remove(&hash));
        }
        let at = self.shunned.entry(hash).or_insert(until);
        *at = at.later(until);
    }

    /// Do not ask for this piece until then.
    pub fn avoid(&mut self, hash: BlobHash, piece: u32, until: LocalTime) {
        if self.avoided.len() >= MAX_AVOIDED {
            self.avoided.pop_first();
        }
        self.avoided.insert((hash, piece), until);
    }

    /// From when on it may be asked for this piece.
    pub fn free_at(&self, hash: &BlobHash, piece: u32) -> LocalTime {
        let never = LocalTime(i64::MIN);
        let shunned = self.shunned.get(hash).copied().unwrap_or(never);
        self.avoided.get(&(*hash, piece)).map_or(shunned, |at| shunned.later(*at))
    }

    /// How long `bytes` more would take behind what it owes already.
    #[expect(clippy::cast_precision_loss, reason = "an estimate of a few megabytes")]
    pub fn expected(&self, bytes: u64) -> Span {
        let all = bytes as f64 * (self.outstanding + 1) as f64;
        Span::from_secs_f64(all / self.rate)
    }

    /// `bytes` came in `took`, while it owed `shared_with` pieces.
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    pub fn measured(&mut self, bytes: u64, took: Span, shared_with: usize) {
        let seconds = took.as_secs_f64().max(1e-4);
        let rate = bytes as f64 * shared_with.max(1) as f64 / seconds;
        self.rate = (self.rate + GAIN * (rate - self.rate)).max(MIN_RATE);
    }

    /// A piece timed out: whatever was believed is too much.
    pub fn slowed(&mut self) {
        self.rate = (self.rate / 2.0).max(MIN_RATE);
    }
}

impl Held {
    fn is_partial(&self) -> bool {
        matches!(self.have, Have::Pieces(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(n: u32) -> BlobHash {
        BlobHash(*blake3::hash(&n.to_le_bytes()).as_bytes())
    }

    #[test]
    fn what_a_peer_told_long_ago_makes_way_for_what_it_tells_now() {
        let mut peer = Peer::default();
        let wanted = |of: &BlobHash| *of == hash(0) || *of == hash(7);
        for n in 0..5000 {
            let have = if n % 10 == 7 { Have::Pieces(vec![1]) } else { Have::Complete };
            peer.add(hash(n), have, wanted);
            assert!(peer.has(&hash(n), 0) && peer.has(&hash(0), 0), "{n}");
        }
        assert!(peer.has(&hash(7), 0), "what is wanted stays");
        assert!(peer.has(&hash(4000), 0) && !peer.has(&hash(1), 0));
        assert!(peer.size() <= MAX_BLOBS);
        for n in 0..5000 {
            peer.shun(hash(n), LocalTime(i64::from(n)));
        }
        assert_eq!(peer.free_at(&hash(4999), 0), LocalTime(4999));
        assert!(peer.size() <= 2 * MAX_BLOBS);
    }
}
