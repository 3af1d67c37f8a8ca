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
    has: BTreeMap<BlobHash, Have>,
    shunned: BTreeMap<BlobHash, LocalTime>,
    avoided: BTreeMap<(BlobHash, u32), LocalTime>,
    /// Pieces it owes.
    pub outstanding: usize,
    /// Bytes a second, exponentially averaged.
    rate: f64,
}

impl Default for Peer {
    fn default() -> Peer {
        Peer {
            has: BTreeMap::new(),
            shunned: BTreeMap::new(),
            avoided: BTreeMap::new(),
            outstanding: 0,
            rate: FIRST_GUESS,
        }
    }
}

impl Peer {
    pub fn add(&mut self, hash: BlobHash, have: Have) {
        let is_known = self.has.contains_key(&hash);
        let partial = self.has.values().filter(|have| matches!(have, Have::Pieces(_))).count();
        let is_partial = matches!(have, Have::Pieces(_));
        if !is_known && (self.has.len() >= MAX_BLOBS || is_partial && partial >= MAX_PARTIAL) {
            return;
        }
        self.has.insert(hash, have);
    }

    pub fn has(&self, hash: &BlobHash, piece: u32) -> bool {
        self.has.get(hash).is_some_and(|have| have.has(piece))
    }

    /// Ask for nothing of this blob until then.
    pub fn shun(&mut self, hash: BlobHash, until: LocalTime) {
        if self.shunned.len() < MAX_BLOBS || self.shunned.contains_key(&hash) {
            let at = self.shunned.entry(hash).or_insert(until);
            *at = at.later(until);
        }
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
