//! One wanted blob: which pieces are here, under way, due.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::limits::{MAX_BLOB, PIECE};
use crate::base::{LocalTime, NodeId, Span};

/// What somebody holds of a blob.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Have {
    /// All of it.
    Complete,
    /// One bit per piece, lowest bit of the first byte first.
    Pieces(Vec<u8>),
}

impl Have {
    /// From the field of `Message::Have`, where empty means complete. What is longer than a
    /// blob can be is cut.
    #[must_use]
    pub fn from_wire(mut pieces: Vec<u8>) -> Have {
        const MAX: u64 = MAX_BLOB.div_ceil(PIECE).div_ceil(8);
        if pieces.is_empty() {
            return Have::Complete;
        }
        pieces.truncate(usize::try_from(MAX).expect("a kilobyte"));
        Have::Pieces(pieces)
    }

    /// As the field of `Message::Have`.
    #[must_use]
    pub fn to_wire(&self) -> Vec<u8> {
        match self {
            Have::Complete => Vec::new(),
            Have::Pieces(pieces) => pieces.clone(),
        }
    }

    /// Puts a piece in. Beyond the last byte there is none.
    pub fn add(&mut self, piece: u32) {
        let Have::Pieces(bits) = self else { return };
        let byte = usize::try_from(piece / 8).ok().and_then(|place| bits.get_mut(place));
        if let Some(byte) = byte {
            *byte |= 1 << (piece % 8);
        }
    }

    /// Whether a piece is among it.
    #[must_use]
    pub fn has(&self, piece: u32) -> bool {
        match self {
            Have::Complete => true,
            Have::Pieces(bits) => {
                let byte = usize::try_from(piece / 8).ok().and_then(|place| bits.get(place));
                byte.is_some_and(|byte| byte >> (piece % 8) & 1 == 1)
            }
        }
    }
}

/// Where a blob plays.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Playhead {
    /// Byte `byte` sounds at `at` and the others follow at the byte rate. `at` may lie in the
    /// future (the next track) or in the past.
    Moving {
        /// A byte of the blob.
        byte: u64,
        /// When it sounds.
        at: LocalTime,
    },
    /// Stands at `byte` and may go on at any moment: paused, or waiting for its start.
    Held {
        /// A byte of the blob.
        byte: u64,
    },
}

/// A piece that somebody was asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Flight {
    pub from: NodeId,
    pub since: LocalTime,
    pub until: LocalTime,
    /// How many pieces that peer owed when it was asked, this one included.
    pub shared_with: usize,
}

#[derive(Debug)]
pub(super) struct Blob {
    size: u64,
    pub byte_rate: u64,
    pub playhead: Option<Playhead>,
    pub priority: u8,
    missing: BTreeSet<u32>,
    needed: BTreeSet<u32>,
    pub flights: BTreeMap<u32, Vec<Flight>>,
}

impl Blob {
    pub fn new(size: u64) -> Blob {
        let size = size.min(MAX_BLOB);
        let count = u32::try_from(size.div_ceil(PIECE)).expect("bounded by the largest blob");
        Blob {
            size,
            byte_rate: 1,
            playhead: None,
            priority: 0,
            missing: (0..count).collect(),
            needed: BTreeSet::new(),
            flights: BTreeMap::new(),
        }
    }

    pub fn count(&self) -> u32 {
        u32::try_from(self.size.div_ceil(PIECE)).expect("bounded by the largest blob")
    }

    pub fn is_complete(&self) -> bool {
        self.missing.is_empty()
    }

    /// How much is here, in percent: 100 only when all is.
    pub fn percent(&self) -> u8 {
        let (missing, count) = (self.missing.len() as u64, u64::from(self.count()).max(1));
        let missing = (missing * 100).div_ceil(count);
        u8::try_from(100_u64.saturating_sub(missing)).unwrap_or(100)
    }

    pub fn missing(&self) -> impl Iterator<Item = u32> + '_ {
        self.missing.iter().copied()
    }

    pub fn in_flight(&self) -> usize {
        self.flights.values().map(Vec::len).sum()
    }

    pub fn need(&mut self, piece: u32) {
        if self.missing.contains(&piece) {
            self.needed.insert(piece);
        }
    }

    pub fn mark(&mut self, piece: u32) {
        self.missing.remove(&piece);
        self.needed.remove(&piece);
    }

    pub fn take_flight(&mut self, piece: u32, from: &NodeId) -> Option<Flight> {
        let flights = self.flights.get_mut(&piece)?;
        let place = flights.iter().position(|flight| flight.from == *from)?;
        let flight = flights.remove(place);
        if flights.is_empty() {
            self.flights.remove(&piece);
        }
        Some(flight)
    }

    pub fn drop_flights_of(&mut self, peer: &NodeId) {
        for flights in self.flights.values_mut() {
            flights.retain(|flight| flight.from != *peer);
        }
        self.flights.retain(|_, flights| !flights.is_empty());
    }

    /// The missing pieces that are needed now or due within `window`, each with its deadline.
    pub fn due(&self, now: LocalTime, window: Span) -> impl Iterator<Item = (LocalTime, u32)> {
        let needed = self.needed.iter().map(|piece| (LocalTime(i64::MIN), *piece));
        let ahead = self.position(now).into_iter().flat_map(move |(byte, at)| {
            let pieces = self.missing.range(piece_of(byte)..);
            let dated = pieces.map(move |piece| (at + self.time_to(byte, *piece), *piece));
            dated.take_while(move |(deadline, _)| *deadline <= now + window)
        });
        needed.chain(ahead.filter(|(_, piece)| !self.needed.contains(piece)))
    }

    /// Whether it plays or is about to, and holds less than `enough` ahead.
    pub fn is_starting(&self, now: LocalTime, enough: Span) -> bool {
        !self.needed.is_empty() || self.due(now, enough).next().is_some()
    }

    /// The byte that sounds now or first, and when it does.
    fn position(&self, now: LocalTime) -> Option<(u64, LocalTime)> {
        match self.playhead? {
            Playhead::Held { byte } => Some((byte, now)),
            Playhead::Moving { byte, at } if at >= now => Some((byte, at)),
            Playhead::Moving { byte, at } => {
                let elapsed = u128::try_from((now - at).0).unwrap_or(0);
                let moved = elapsed * u128::from(self.byte_rate) / 1_000_000_000;
                Some((byte.saturating_add(u64::try_from(moved).unwrap_or(u64::MAX)), now))
            }
        }
    }

    /// From sounding `byte` until the first byte of `piece` is wanted.
    fn time_to(&self, byte: u64, piece: u32) -> Span {
        let bytes = (u64::from(piece) * PIECE).saturating_sub(byte);
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(self.byte_rate);
        Span(i64::try_from(nanos).unwrap_or(i64::MAX))
    }
}

fn piece_of(byte: u64) -> u32 {
    u32::try_from(byte / PIECE).unwrap_or(u32::MAX)
}
