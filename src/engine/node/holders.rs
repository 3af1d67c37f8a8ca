//! Who has the tracks that come next: what nobody has must not get its turn.
//!
//! ```text
//!  nobody who is here has all of it, for some seconds ──► Availability{gone}: passed over
//!  somebody who comes has it, or who is here got it   ──► Availability{back}: plays in its turn
//!  the same while it sounds, and nothing decoded is left ──► Availability{gone}: breaks off
//! ```
//!
//! Every device says what it has of the tracks near the head of the queue, and of those that are
//! unavailable. The coordinator puts that together and orders it, because the timeline goes on by
//! the state alone.

use std::collections::BTreeMap;

use super::{LocalTime, Node, Span};
use crate::base::EntryKey;
use crate::base::limits::MAX_WATCHED;
use crate::engine::room::{QueueEntry, RoomState};
use crate::engine::transfer::Have;
use crate::wire::message::OutputState;
use crate::wire::op::OpBody;

/// Playable entries of the queue that are looked after: the planned ones, and those that are
/// fetched ahead.
const NEAR: usize = 5;

/// How long nobody must have had a track: a connection that breaks and is made anew takes less.
const PATIENCE: Span = Span::from_secs(3);

/// Decoded audio, ms, below which a device has nothing left to play.
const DRY_MS: f64 = 50.0;

/// What this file remembers: since when nobody has had an entry.
#[derive(Debug, Default)]
pub(super) struct Holders {
    missing: BTreeMap<EntryKey, LocalTime>,
}

impl Node {
    /// The coordinator says which entries cannot be played now, and which can again.
    pub(super) fn look_for_holders(&mut self, now: LocalTime) {
        let silent = self.clock.model().is_none() || self.held_at().is_some();
        if !self.is_coordinator() || self.shutting_down || silent || self.is_syncing_up(now) {
            self.playback.holders.missing.clear();
            return;
        }
        let Some((state, _)) = self.settled(now) else { return };
        let (mut gone, mut back) = (Vec::new(), Vec::new());
        let mut missing = BTreeMap::new();
        let pending = state.pending().map(|segment| &segment.entry);
        let sounding = sounding(&state).filter(|_| self.has_run_dry());
        for entry in near(&state).chain(pending).chain(sounding) {
            let is_here = self.is_within_reach(entry);
            if is_here == Some(true) && !state.is_available(entry.key) {
                back.push(entry.key);
            } else if is_here == Some(false) && state.is_available(entry.key) {
                let since = self.playback.holders.missing.get(&entry.key).copied().unwrap_or(now);
                missing.insert(entry.key, since);
                if now - since >= PATIENCE {
                    gone.push(entry.key);
                }
            }
        }
        self.playback.holders.missing = missing;
        if !gone.is_empty() || !back.is_empty() {
            let _ = self.propose_own(now, None, &OpBody::Availability { gone, back });
        }
    }

    /// Whether this device can play nothing more of what sounds. One without an output cannot
    /// tell, and goes by what everybody has.
    fn has_run_dry(&self) -> bool {
        self.facts.output != OutputState::Ok || self.facts.buffer_ms < DRY_MS
    }

    /// Whether those who are here have the whole of it together; none while this device has not
    /// looked what it has itself.
    fn is_within_reach(&self, entry: &QueueEntry) -> Option<bool> {
        let hash = &entry.track.hash;
        let held = self.playback.holdings.get(hash)?;
        Some(*held == Have::Complete || self.transfer.is_within_reach(hash))
    }
}

/// What sounds, with nothing to follow it yet.
fn sounding(state: &RoomState) -> Option<&QueueEntry> {
    let current = state.focus().filter(|_| state.pending().is_none())?;
    current.start.is_some().then_some(&current.entry)
}

/// The entries that are looked after: what comes next, and what is unavailable.
pub(super) fn near(state: &RoomState) -> impl Iterator<Item = &QueueEntry> {
    let playable = state.queue().iter().filter(move |entry| state.is_available(entry.key));
    let absent = state.queue().iter().filter(move |entry| !state.is_available(entry.key));
    playable.take(NEAR).chain(absent.take(MAX_WATCHED))
}
