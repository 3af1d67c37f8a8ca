//! The tail of the replicated log in memory: enough to bring a member that lags up to date.
//! Who lags more gets a snapshot. Knows nothing of what the operations mean.

use std::collections::VecDeque;

use crate::base::limits::{
    LOG_TAIL, LOG_TAIL_BYTES, MAX_ENTRIES_PER_APPEND, MAX_FRAME, MAX_PLACES,
};
use crate::base::{RoomTime, Term};
use crate::wire::codec;
use crate::wire::message::LogPlace;
use crate::wire::op::{Entry, Op};

use super::RoomError;

/// Bytes of an encoded entry beside its body, rounded up; and of the message around a batch.
const ENVELOPE: usize = 256;

/// A place in the log: what is behind it is fixed by the chain value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Place {
    idx: u64,
    term: Term,
    at: RoomTime,
    chain: [u8; 16],
}

impl Place {
    fn of(entry: &Entry) -> Place {
        Place { idx: entry.idx, term: entry.term, at: entry.at, chain: entry.chain }
    }
}

/// The last entries, and the place before the first of them.
#[derive(Clone, PartialEq, Debug)]
pub struct Log {
    base: Place,
    entries: VecDeque<Entry>,
    body_bytes: usize,
}

impl Default for Log {
    fn default() -> Log {
        Log::resumed(0, Term::ZERO, RoomTime(i64::MIN), [0; 16])
    }
}

impl Log {
    /// A log that goes on after entry `idx` of `term` with that chain value, which took
    /// effect at `at`.
    #[must_use]
    pub fn resumed(idx: u64, term: Term, at: RoomTime, chain: [u8; 16]) -> Log {
        let base = Place { idx, term, at, chain };
        Log { base, entries: VecDeque::new(), body_bytes: 0 }
    }

    /// Index of the last entry; 0 before the first.
    #[must_use]
    pub fn last_idx(&self) -> u64 {
        self.last().idx
    }

    /// Term of the last entry.
    #[must_use]
    pub fn last_term(&self) -> Term {
        self.last().term
    }

    /// When the last entry takes effect.
    #[must_use]
    pub fn last_at(&self) -> RoomTime {
        self.last().at
    }

    /// Chain value after the last entry.
    #[must_use]
    pub fn chain(&self) -> [u8; 16] {
        self.last().chain
    }

    /// The entries held, oldest first.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter()
    }

    fn last(&self) -> Place {
        self.entries.back().map_or(self.base, Place::of)
    }

    /// Chain value after entry `idx`, if the tail reaches back to it.
    #[must_use]
    pub fn chain_at(&self, idx: u64) -> Option<[u8; 16]> {
        if idx == self.base.idx {
            return Some(self.base.chain);
        }
        self.entry(idx).map(|entry| entry.chain)
    }

    /// Bytes of the bodies of the entries held.
    #[must_use]
    pub fn body_bytes(&self) -> usize {
        self.body_bytes
    }

    /// Index before the oldest entry held.
    #[must_use]
    pub fn base_idx(&self) -> u64 {
        self.base.idx
    }

    /// One entry, if it is in the tail.
    #[must_use]
    pub fn entry(&self, idx: u64) -> Option<&Entry> {
        let offset = idx.checked_sub(self.base.idx)?.checked_sub(1)?;
        self.entries.get(usize::try_from(offset).ok()?)
    }

    /// When an operation that is ordered for `at` takes effect: never before its predecessor.
    #[must_use]
    pub fn effective(&self, at: RoomTime) -> RoomTime {
        at.later(self.last_at())
    }

    /// Appends an operation as the owner of `term`.
    pub fn append_local(&mut self, term: Term, at: RoomTime, op: Op) -> Entry {
        let last = self.last();
        let at = self.effective(at);
        let chain = codec::chain(&last.chain, &term, at, &op);
        let entry = Entry { idx: last.idx + 1, term, at, op, chain };
        self.push(entry.clone());
        entry
    }

    /// Which of a coordinator's entries are new and continue this log. Changes nothing.
    ///
    /// # Errors
    ///
    /// When entries before them are missing, when the two logs differ, or when an entry is
    /// not what an honest coordinator sends.
    pub fn fresh<'a>(
        &self,
        prev_idx: u64,
        prev_chain: [u8; 16],
        entries: &'a [Entry],
    ) -> Result<&'a [Entry], RoomError> {
        if prev_idx > self.last_idx() {
            return Err(RoomError::Gap { have: self.last_idx() });
        }
        if self.chain_at(prev_idx).is_some_and(|ours| ours != prev_chain) {
            return Err(RoomError::Fork { idx: prev_idx });
        }
        let mut before = Place { idx: prev_idx, chain: prev_chain, ..Place::of_nothing() };
        for entry in entries {
            check_link(&before, entry)?;
            if self.chain_at(entry.idx).is_some_and(|ours| ours != entry.chain) {
                return Err(RoomError::Fork { idx: entry.idx });
            }
            before = Place::of(entry);
        }
        let known = usize::try_from(self.last_idx() - prev_idx).unwrap_or(usize::MAX);
        let fresh = entries.get(known..).unwrap_or_default();
        if let Some(first) = fresh.first() {
            check_link(&self.last(), first)?;
        }
        Ok(fresh)
    }

    /// The first of a coordinator's entries that differs from the one held at its place. Changes
    /// nothing.
    ///
    /// # Errors
    ///
    /// As [`fresh`](Self::fresh); a difference at or before `prev_idx` is a fork.
    pub(super) fn conflict(
        &self,
        prev_idx: u64,
        prev_chain: [u8; 16],
        entries: &[Entry],
    ) -> Result<Option<u64>, RoomError> {
        if prev_idx > self.last_idx() {
            return Err(RoomError::Gap { have: self.last_idx() });
        }
        if self.chain_at(prev_idx).is_some_and(|ours| ours != prev_chain) {
            return Err(RoomError::Fork { idx: prev_idx });
        }
        let mut before = Place { idx: prev_idx, chain: prev_chain, ..Place::of_nothing() };
        let mut conflict = None;
        for entry in entries {
            check_link(&before, entry)?;
            let differs = self.chain_at(entry.idx).is_some_and(|ours| ours != entry.chain);
            conflict = conflict.or(differs.then_some(entry.idx));
            before = Place::of(entry);
        }
        match conflict {
            Some(idx) if idx <= self.base.idx => Err(RoomError::Fork { idx }),
            _ => Ok(conflict),
        }
    }

    /// Takes the entries after `idx` away, oldest first. `idx` lies within the tail.
    pub(super) fn truncate(&mut self, idx: u64) -> Vec<Entry> {
        let keep = usize::try_from(idx.saturating_sub(self.base.idx)).unwrap_or(usize::MAX);
        let cut: Vec<Entry> = self.entries.split_off(keep.min(self.entries.len())).into();
        self.body_bytes -= cut.iter().map(|entry| entry.op.body.len()).sum::<usize>();
        cut
    }

    /// Places by which another node finds where its log parts from this one: the end, and then
    /// twice as far back each time, down to `oldest`.
    #[must_use]
    pub fn places(&self, oldest: u64) -> Vec<LogPlace> {
        let last = self.last_idx();
        let oldest = oldest.max(self.base.idx);
        let back = std::iter::once(0).chain((0..u64::BITS).map(|power| 1_u64 << power));
        let wanted = back.map_while(|by| last.checked_sub(by)).take_while(|idx| *idx > oldest);
        wanted
            .chain([oldest])
            .filter_map(|idx| Some(LogPlace { idx, chain: self.chain_at(idx)? }))
            .take(MAX_PLACES)
            .collect()
    }

    /// Whether this log has that place.
    #[must_use]
    pub fn has(&self, place: &LogPlace) -> bool {
        self.chain_at(place.idx) == Some(place.chain)
    }

    /// Where it ends.
    #[must_use]
    pub fn end(&self) -> LogPlace {
        LogPlace { idx: self.last_idx(), chain: self.chain() }
    }

    /// Appends an entry that [`fresh`](Self::fresh) has let through.
    pub(super) fn push(&mut self, entry: Entry) {
        self.body_bytes += entry.op.body.len();
        self.entries.push_back(entry);
        while self.entries.len() > LOG_TAIL || self.body_bytes > LOG_TAIL_BYTES {
            let Some(oldest) = self.entries.pop_front() else { break };
            self.body_bytes -= oldest.op.body.len();
            self.base = Place::of(&oldest);
        }
    }

    /// What follows entry `idx` with that chain value, as much as fits into one message. None
    /// when the tail does not reach back so far or is another branch: a snapshot is needed.
    #[must_use]
    pub fn entries_after(&self, idx: u64, chain: [u8; 16]) -> Option<Vec<Entry>> {
        if self.chain_at(idx)? != chain {
            return None;
        }
        let skip = usize::try_from(idx - self.base.idx).ok()?;
        let mut room = MAX_FRAME - ENVELOPE;
        let fits = |entry: &&Entry| {
            let left = room.checked_sub(entry.op.body.len() + ENVELOPE);
            room = left.unwrap_or(0);
            left.is_some()
        };
        let batch = self.entries.iter().skip(skip).take(MAX_ENTRIES_PER_APPEND).take_while(fits);
        Some(batch.cloned().collect())
    }
}

impl Place {
    /// Before everything.
    fn of_nothing() -> Place {
        Place { idx: 0, term: Term::ZERO, at: RoomTime(i64::MIN), chain: [0; 16] }
    }
}

fn check_link(before: &Place, entry: &Entry) -> Result<(), RoomError> {
    let bad = |why| Err(RoomError::BadEntry { idx: entry.idx, why });
    if before.idx.checked_add(1) != Some(entry.idx) {
        return bad("its index does not follow");
    }
    if entry.term < before.term {
        return bad("its term is older than the one before");
    }
    if entry.at < before.at {
        return bad("it takes effect before the one before");
    }
    if codec::chain(&before.chain, &entry.term, entry.at, &entry.op) != entry.chain {
        return bad("its chain value is wrong");
    }
    Ok(())
}
