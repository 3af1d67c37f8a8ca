//! A playout without samples: from the plan and the clock's line follows which frame of which
//! segment sounds at any instant. It also knows which segments are decoded and waiting, and
//! what of a track's file is here.

use std::collections::BTreeMap;

use groovebox::base::{BlobHash, LocalTime, RoomTime, SegmentId, Span};
use groovebox::engine::clock::ClockModel;
use groovebox::engine::playout::{PlannedSpan, PlayoutPlan};

/// Bytes of a piece, as the transfer counts them.
pub const PIECE: u64 = groovebox::base::limits::PIECE;

/// A segment that is being decoded.
pub struct Stream {
    pub hash: BlobHash,
    pub primed: bool,
    pub asked: bool,
    /// The piece with which it begins.
    pub first_piece: u32,
}

/// A file in the cache, by pieces.
#[derive(Clone)]
pub struct Blob {
    pub pieces: Vec<bool>,
}

pub struct Speaker {
    pub plan: PlayoutPlan,
    pub model: Option<ClockModel>,
    /// Since when it knows the room's time.
    pub knows_since: i64,
    pub streams: BTreeMap<SegmentId, Stream>,
    /// Survives the process.
    pub cache: BTreeMap<BlobHash, Blob>,
    /// It never gets any data.
    pub is_deaf: bool,
    /// Operations since the last plan that may change what sounds.
    pub is_told: bool,
    pub depth: Span,
}

/// What sounds at an instant.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Sound {
    pub span: PlannedSpan,
    pub room: RoomTime,
}

impl Blob {
    pub fn new(size: u64, complete: bool) -> Blob {
        let pieces = usize::try_from(size.div_ceil(PIECE)).expect("a small file");
        Blob { pieces: vec![complete; pieces] }
    }

    pub fn is_complete(&self) -> bool {
        self.pieces.iter().all(|here| *here)
    }

    pub fn bits(&self) -> Vec<u8> {
        let mut bits = vec![0; self.pieces.len().div_ceil(8)];
        for (piece, _) in self.pieces.iter().enumerate().filter(|(_, here)| **here) {
            bits[piece / 8] |= 1 << (piece % 8);
        }
        bits
    }
}

impl Speaker {
    pub fn new(is_deaf: bool, depth: Span) -> Speaker {
        Speaker {
            plan: PlayoutPlan::silent(),
            model: None,
            knows_since: 0,
            streams: BTreeMap::new(),
            cache: BTreeMap::new(),
            is_deaf,
            is_told: false,
            depth,
        }
    }

    /// The process is gone: silence, and only the cache is left.
    pub fn process_died(&mut self) {
        let (is_deaf, depth) = (self.is_deaf, self.depth);
        let cache = std::mem::take(&mut self.cache);
        *self = Speaker { cache, ..Speaker::new(is_deaf, depth) };
    }

    pub fn room(&self, local: LocalTime) -> Option<RoomTime> {
        Some(self.model?.room(local))
    }

    /// What is planned to sound now, whether or not it is decoded.
    pub fn planned(&self, local: LocalTime) -> Option<Sound> {
        let room = self.room(local)?;
        self.plan.at(room).map(|span| Sound { span: *span, room })
    }

    /// What does sound.
    pub fn sound(&self, local: LocalTime) -> Option<Sound> {
        self.planned(local).filter(|sound| self.is_ready(sound.span.segment))
    }

    pub fn is_ready(&self, segment: SegmentId) -> bool {
        self.streams.get(&segment).is_some_and(|stream| {
            stream.primed && self.cache.get(&stream.hash).is_some_and(Blob::is_complete)
        })
    }
}

impl Sound {
    /// Whether a plan says the same of this instant: the same frames at the same time.
    pub fn is_in(&self, plan: &PlayoutPlan) -> bool {
        let key = |span: &PlannedSpan| (span.segment, span.start, span.from);
        plan.at(self.room).map(key) == Some(key(&self.span))
    }
}
