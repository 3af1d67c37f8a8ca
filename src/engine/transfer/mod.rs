//! Which piece from which peer next.
//!
//! Every node pulls; nobody plans for the others. Three rules decide, in this order:
//!
//! 1. A piece that a decoder stands still for, then pieces due within 15 s of the play
//!    position, the earliest deadline first, as fast as the network gives.
//! 2. Everything else rarest first (random among equals, so that peers end up with different
//!    pieces and can serve each other), at no more than twice the track's byte rate.
//! 3. From the holder that promises it soonest: fewest pieces outstanding, fastest so far.
//!
//! What does not arrive in time is asked of another holder; what is wrong costs its sender our
//! trust for this blob. A swarm on one radio channel gains little over a star (every byte
//! crosses the same air), so there is no tit for tat and no choking.
//!
//! It moves no bytes and reads no clock.

mod blob;
mod peer;

use std::collections::BTreeMap;

pub use blob::{Have, Playhead};

use crate::base::limits::PIECE;
use crate::base::rng::Rng;
use crate::base::{BlobHash, LocalTime, NodeId, Span};
use blob::{Blob, Flight};
use peer::Peer;

/// What is due within this time of the play position is urgent. Bridges a Wi-Fi stall of
/// several seconds, and is little enough that a seek wastes little.
pub const WINDOW: Span = Span::from_secs(15);

/// Pieces under way at once: two keep a link busy over a round trip.
const SLOTS: usize = 2;

/// The same while starting, when waiting for one slow holder would be heard.
const SLOTS_STARTING: usize = 4;

/// A blob that plays is starting while it holds less than this ahead.
const STARTED: Span = Span::from_secs(5);

/// The shortest time after which another holder is asked.
const MIN_PATIENCE: Span = Span::from_secs(2);

/// The longest, so that one frozen peer does not hold a piece for ever.
const MAX_PATIENCE: Span = Span::from_secs(30);

/// A piece due within this time is asked of a second holder as well, once the first has had
/// [`SECOND_AFTER`].
const ENDGAME: Span = Span::from_millis(1500);
const SECOND_AFTER: Span = Span::from_millis(300);

/// How much faster than the track plays everything beyond the window is pulled.
const PACE: u64 = 2;

/// A source of corrupt data is left out for this blob for so long.
const DISTRUST: Span = Span::from_secs(600);

/// A peer that refused, or let a piece time out, is asked again after this if there is no
/// other.
const RETRY: Span = Span::from_secs(1);

/// Fetch this.
#[must_use]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fetch {
    /// The blob.
    pub hash: BlobHash,
    /// Which piece of it.
    pub piece: u32,
    /// From whom.
    pub from: NodeId,
    /// After this time the machine gives it up by itself and asks somebody else; whoever
    /// fetches may cancel the request then.
    pub patience: Span,
}

/// Why a piece did not come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Failure {
    /// It took too long.
    Timeout,
    /// It did not match its hash.
    Corrupt,
    /// The peer does not have it, or does not want to send it now.
    Refused,
    /// The connection broke.
    Gone,
}

/// The machine.
#[derive(Debug)]
pub struct Transfer {
    seed: u64,
    blobs: BTreeMap<BlobHash, Blob>,
    peers: BTreeMap<NodeId, Peer>,
    /// Bytes that may be pulled beyond the window, in nanobytes so that nothing is rounded off.
    tokens: u128,
    filled_at: LocalTime,
    /// When polling again may give something without any other input.
    wake: Option<LocalTime>,
}

impl Transfer {
    /// `seed` breaks ties; different on every node, so that they ask different holders.
    #[must_use]
    pub fn new(seed: u64) -> Transfer {
        Transfer {
            seed,
            blobs: BTreeMap::new(),
            peers: BTreeMap::new(),
            tokens: FULL,
            filled_at: LocalTime(i64::MIN),
            wake: None,
        }
    }

    /// Wants a blob, or changes what is known of one that is wanted. `byte_rate` is in bytes a
    /// second; `playhead` is where it plays, if it does or soon will; of blobs that are not
    /// urgent the lower `priority` comes first.
    pub fn want(
        &mut self,
        now: LocalTime,
        hash: BlobHash,
        size: u64,
        byte_rate: u64,
        playhead: Option<Playhead>,
        priority: u8,
    ) {
        self.fill(now);
        let blob = self.blobs.entry(hash).or_insert_with(|| Blob::new(size));
        blob.byte_rate = byte_rate.max(1);
        blob.playhead = playhead;
        blob.priority = priority;
    }

    /// Does not want a blob any more. Pieces under way are forgotten.
    pub fn unwant(&mut self, hash: &BlobHash) {
        let Some(blob) = self.blobs.remove(hash) else { return };
        for flight in blob.flights.values().flatten() {
            self.land(flight.from);
        }
    }

    /// How many files it remembers something of, its own and the peers' together.
    #[must_use]
    pub fn size(&self) -> usize {
        self.blobs.len() + self.peers.values().map(Peer::size).sum::<usize>()
    }

    /// Whether a blob is wanted and not yet complete.
    #[must_use]
    pub fn wants(&self, hash: &BlobHash) -> bool {
        self.blobs.get(hash).is_some_and(|blob| !blob.is_complete())
    }

    /// The wanted blobs that are not complete, and how much of each is here, in percent.
    pub fn under_way(&self) -> impl Iterator<Item = (&BlobHash, u8)> {
        let incomplete = self.blobs.iter().filter(|(_, blob)| !blob.is_complete());
        incomplete.map(|(hash, blob)| (hash, blob.percent()))
    }

    /// Whether this node and the peers have every piece of a wanted blob between them.
    #[must_use]
    pub fn is_within_reach(&self, hash: &BlobHash) -> bool {
        let held = |piece| self.peers.values().any(|peer| peer.has(hash, piece));
        self.blobs.get(hash).is_some_and(|blob| blob.missing().all(held))
    }

    /// A peer said what it holds.
    pub fn peer_has(&mut self, peer: NodeId, hash: BlobHash, have: Have) {
        let blobs = &self.blobs;
        self.peers.entry(peer).or_default().add(hash, have, |hash| blobs.contains_key(hash));
    }

    /// A peer is out of reach. What it was asked for is asked of others.
    pub fn peer_gone(&mut self, peer: &NodeId) {
        self.peers.remove(peer);
        for blob in self.blobs.values_mut() {
            blob.drop_flights_of(peer);
        }
    }

    /// What this node holds of a blob, after [`Transfer::want`].
    pub fn local_has(&mut self, hash: &BlobHash, have: &Have) {
        let Some(blob) = self.blobs.get_mut(hash) else { return };
        let held = (0..blob.count()).filter(|piece| have.has(*piece)).collect::<Vec<_>>();
        for piece in held {
            self.complete(hash, piece);
        }
    }

    /// A decoder stands still for this piece.
    pub fn need(&mut self, hash: &BlobHash, piece: u32) {
        if let Some(blob) = self.blobs.get_mut(hash) {
            blob.need(piece);
        }
    }

    /// A piece arrived and was right. `bytes` is how many crossed the network.
    pub fn piece_arrived(
        &mut self,
        now: LocalTime,
        hash: &BlobHash,
        piece: u32,
        bytes: u64,
        from: NodeId,
    ) {
        self.fill(now);
        if let Some(flight) = self.take_flight(hash, piece, from) {
            let shared = flight.shared_with;
            if let Some(peer) = self.peers.get_mut(&from) {
                peer.measured(bytes, now - flight.since, shared);
            }
        }
        self.complete(hash, piece);
    }

    /// A piece did not come, or was wrong.
    pub fn piece_failed(
        &mut self,
        now: LocalTime,
        hash: &BlobHash,
        piece: u32,
        from: NodeId,
        failure: Failure,
    ) {
        let was_asked = self.take_flight(hash, piece, from).is_some();
        let Some(peer) = self.peers.get_mut(&from) else { return };
        tracing::debug!(peer = %from.short(), blob = %hash.short(), piece, ?failure, "piece failed");
        match failure {
            // Bad data is bad even when it comes too late to matter.
            Failure::Corrupt => peer.shun(*hash, now + DISTRUST),
            _ if !was_asked => {}
            Failure::Timeout => {
                peer.slowed();
                peer.avoid(*hash, piece, now + RETRY);
            }
            Failure::Refused => peer.avoid(*hash, piece, now + RETRY),
            Failure::Gone => peer.shun(*hash, now + RETRY),
        }
    }

    /// What to fetch next; nothing when all slots are taken, all is here, or the pace forbids.
    pub fn poll_output(&mut self, now: LocalTime) -> Option<Fetch> {
        self.fill(now);
        self.wake = None;
        let busy: usize = self.blobs.values().map(Blob::in_flight).sum();
        let slots = if self.is_starting(now) { SLOTS_STARTING } else { SLOTS };
        if busy >= slots {
            return None;
        }
        let chosen = self.urgent(now).or_else(|| self.at_leisure(now));
        let (hash, piece, from) = chosen?;
        Some(self.launch(now, hash, piece, from))
    }

    /// When [`Transfer::handle_timeout`] and a poll are due, if nothing happens before.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<LocalTime> {
        let flights = self.blobs.values().flat_map(|blob| blob.flights.values().flatten());
        flights.map(|flight| flight.until).chain(self.wake).min()
    }

    /// Gives up what took too long.
    pub fn handle_timeout(&mut self, now: LocalTime) {
        let mut late = Vec::new();
        for (hash, blob) in &self.blobs {
            for (piece, flights) in &blob.flights {
                let over = flights.iter().filter(|flight| flight.until <= now);
                late.extend(over.map(|flight| (*hash, *piece, flight.from)));
            }
        }
        for (hash, piece, from) in late {
            self.piece_failed(now, &hash, piece, from, Failure::Timeout);
        }
    }

    /// Rule 1.
    fn urgent(&mut self, now: LocalTime) -> Option<(BlobHash, u32, NodeId)> {
        let mut due: Vec<(LocalTime, BlobHash, u32)> = Vec::new();
        for (hash, blob) in &self.blobs {
            due.extend(blob.due(now, WINDOW).map(|(deadline, piece)| (deadline, *hash, piece)));
        }
        due.sort_unstable();
        due.into_iter().find_map(|(deadline, hash, piece)| {
            let from = self.source_if_free(now, &hash, piece, deadline)?;
            Some((hash, piece, from))
        })
    }

    /// Rule 2.
    fn at_leisure(&mut self, now: LocalTime) -> Option<(BlobHash, u32, NodeId)> {
        if self.tokens < COST {
            if self.blobs.values().any(|blob| !blob.is_complete()) {
                self.wake_at(now + self.time_to_fill());
            }
            return None;
        }
        let mut order: Vec<(u8, BlobHash)> =
            self.blobs.iter().map(|(hash, blob)| (blob.priority, *hash)).collect();
        order.sort_unstable();
        let chosen = order.into_iter().find_map(|(_, hash)| self.rarest(now, hash))?;
        self.tokens -= COST;
        Some(chosen)
    }

    fn rarest(&mut self, now: LocalTime, hash: BlobHash) -> Option<(BlobHash, u32, NodeId)> {
        let blob = self.blobs.get(&hash)?;
        let free: Vec<u32> =
            blob.missing().filter(|piece| !blob.flights.contains_key(piece)).collect();
        let mut best: Option<(usize, u64, u32)> = None;
        for piece in free {
            let holders = self.peers.values().filter(|peer| peer.has(&hash, piece)).count();
            let rank = (holders, self.tie(u64::from(piece)), piece);
            if holders > 0 && best.is_none_or(|best| rank < best) {
                // Somebody may have it and yet not be asked now.
                if self.source(now, &hash, piece, &[]).is_some() {
                    best = Some(rank);
                }
            }
        }
        let (_, _, piece) = best?;
        Some((hash, piece, self.source(now, &hash, piece, &[])?))
    }

    /// A holder for a piece that nobody was asked for yet, or a second one in the endgame.
    fn source_if_free(
        &mut self,
        now: LocalTime,
        hash: &BlobHash,
        piece: u32,
        deadline: LocalTime,
    ) -> Option<NodeId> {
        let flights = self.blobs.get(hash)?.flights.get(&piece);
        let asked: Vec<NodeId> = flights.into_iter().flatten().map(|f| f.from).collect();
        if let Some(first) = flights.and_then(|flights| flights.first()) {
            let second_at = (first.since + SECOND_AFTER).later(deadline - ENDGAME);
            if asked.len() > 1 {
                return None;
            }
            if now < second_at {
                self.wake_at(second_at);
                return None;
            }
        }
        self.source(now, hash, piece, &asked)
    }

    /// Rule 3.
    fn source(
        &mut self,
        now: LocalTime,
        hash: &BlobHash,
        piece: u32,
        asked: &[NodeId],
    ) -> Option<NodeId> {
        let (mut best, mut retry) = (None, None);
        for (id, peer) in &self.peers {
            if asked.contains(id) || !peer.has(hash, piece) {
                continue;
            }
            let free_at = peer.free_at(hash, piece);
            if free_at > now {
                retry = Some(retry.map_or(free_at, |t: LocalTime| t.min(free_at)));
                continue;
            }
            let rank = (peer.expected(PIECE), self.tie(tie_of(id) ^ u64::from(piece)), *id);
            if best.is_none_or(|best| rank < best) {
                best = Some(rank);
            }
        }
        if let (None, Some(retry)) = (best, retry) {
            self.wake_at(retry);
        }
        best.map(|(_, _, id)| id)
    }

    fn launch(&mut self, now: LocalTime, hash: BlobHash, piece: u32, from: NodeId) -> Fetch {
        let is_only_holder = !self.peers.iter().any(|(id, p)| *id != from && p.has(&hash, piece));
        let peer = self.peers.get_mut(&from).expect("chosen among the peers");
        let expected = peer.expected(PIECE);
        let patience = Span(expected.0.saturating_add(expected.0 / 2));
        // Asking the same one again would only throw away what is under way already; that it
        // is silent altogether is noticed by whoever fetches.
        let least = if is_only_holder { MAX_PATIENCE } else { MIN_PATIENCE };
        let patience = patience.clamp(least, MAX_PATIENCE);
        peer.outstanding += 1;
        let flight =
            Flight { from, since: now, until: now + patience, shared_with: peer.outstanding };
        let blob = self.blobs.get_mut(&hash).expect("chosen among the blobs");
        blob.flights.entry(piece).or_default().push(flight);
        Fetch { hash, piece, from, patience }
    }

    /// Marks a piece as here; whoever else was asked for it may still send it in vain.
    fn complete(&mut self, hash: &BlobHash, piece: u32) {
        let Some(blob) = self.blobs.get_mut(hash) else { return };
        blob.mark(piece);
        for flight in blob.flights.remove(&piece).unwrap_or_default() {
            self.land(flight.from);
        }
    }

    fn take_flight(&mut self, hash: &BlobHash, piece: u32, from: NodeId) -> Option<Flight> {
        let flight = self.blobs.get_mut(hash)?.take_flight(piece, &from)?;
        self.land(from);
        Some(flight)
    }

    fn land(&mut self, from: NodeId) {
        if let Some(peer) = self.peers.get_mut(&from) {
            peer.outstanding = peer.outstanding.saturating_sub(1);
        }
    }

    fn is_starting(&self, now: LocalTime) -> bool {
        self.blobs.values().any(|blob| blob.is_starting(now, STARTED))
    }

    /// Twice the rate of what plays; of what comes first, if nothing does.
    fn pace(&self) -> u64 {
        let playing = self.blobs.values().filter(|blob| blob.playhead.is_some());
        let rate = playing.map(|blob| blob.byte_rate).max();
        let first = || {
            let missing = self.blobs.values().filter(|blob| !blob.is_complete());
            missing.min_by_key(|blob| blob.priority).map(|blob| blob.byte_rate)
        };
        rate.or_else(first).unwrap_or(0).saturating_mul(PACE)
    }

    /// A token bucket that holds one piece.
    fn fill(&mut self, now: LocalTime) {
        let elapsed = u128::try_from((now - self.filled_at).0).unwrap_or(0);
        let added = elapsed.saturating_mul(u128::from(self.pace()));
        self.tokens = self.tokens.saturating_add(added).min(FULL);
        self.filled_at = self.filled_at.later(now);
    }

    fn time_to_fill(&self) -> Span {
        let missing = COST.saturating_sub(self.tokens);
        let nanos = missing.div_ceil(u128::from(self.pace().max(1)));
        Span(i64::try_from(nanos).unwrap_or(i64::MAX))
    }

    fn wake_at(&mut self, at: LocalTime) {
        self.wake = Some(self.wake.map_or(at, |wake| wake.min(at)));
    }

    fn tie(&self, of: u64) -> u64 {
        Rng::new(self.seed ^ of).next_u64()
    }
}

const COST: u128 = PIECE as u128 * 1_000_000_000;
const FULL: u128 = COST;

fn tie_of(id: &NodeId) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&id.0[..8]);
    u64::from_le_bytes(bytes).rotate_left(20)
}

#[cfg(test)]
mod tests;
