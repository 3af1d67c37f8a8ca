//! What was played: one row for each playing of an entry, made alike by every node.
//!
//! ```text
//!  begins ──── pause ── resume ── seek ────► over: its track ended, something else began,
//!  │                                         or nothing was to sound any more
//!  └ the stretch with which it began names the row, whatever follows
//! ```
//!
//! The rows are a part of the state, so nobody has to send them: whoever has the state has the
//! latest of them, also when it moved on without a coordinator. Writing them down for good is
//! the business of whoever holds the state.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::base::limits::{MAX_HEARD, MAX_LATELY, MAX_NAME};
use crate::base::{BlobHash, NodeId, RoomTime, SegmentId, Span};
use crate::wire::Track;

use super::playback::QueueEntry;

/// One playing of an entry that is over.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Heard {
    /// The stretch with which it began, or would have begun. Names the row: no other has it.
    pub segment: SegmentId,
    /// What.
    pub track: Track,
    /// Which device brought it.
    pub added_by: NodeId,
    /// What that device was called then.
    pub added_by_name: String,
    /// When it began to sound.
    pub started: RoomTime,
    /// When it was heard last; as `started` for what was never heard.
    pub ended: RoomTime,
    /// Who was DJ at its end.
    pub dj: Option<String>,
    /// Why it was over.
    pub reason: EndReason,
    /// How many people were in the room at its end.
    pub present: u32,
}

/// Why the playing of an entry was over.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EndReason {
    /// Its track was over.
    Finished,
    /// Something else was asked for.
    Skipped,
    /// Nothing was to sound any more.
    Stopped,
    /// Nobody had it.
    Unavailable,
    /// Nobody could play it.
    Failed,
}

impl EndReason {
    /// All of them.
    pub const ALL: [EndReason; 5] = [
        EndReason::Finished,
        EndReason::Skipped,
        EndReason::Stopped,
        EndReason::Unavailable,
        EndReason::Failed,
    ];

    /// One word, for files and for programs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            EndReason::Finished => "finished",
            EndReason::Skipped => "skipped",
            EndReason::Stopped => "stopped",
            EndReason::Unavailable => "unavailable",
            EndReason::Failed => "failed",
        }
    }
}

/// The playing of an entry that has begun and is not over: pauses and seeks are part of it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Playing {
    pub segment: SegmentId,
    pub entry: QueueEntry,
    pub started: RoomTime,
    /// Since when it has been silent; none while it sounds.
    pub silent: Option<RoomTime>,
}

impl Playing {
    pub fn over(self, ended: RoomTime, reason: EndReason) -> Over {
        let Playing { segment, entry, started, .. } = self;
        Over { segment, entry, started, ended, reason }
    }
}

/// What is over, without what only the room knows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Over {
    pub segment: SegmentId,
    pub entry: QueueEntry,
    pub started: RoomTime,
    pub ended: RoomTime,
    pub reason: EndReason,
}

/// The same track again within this time is too soon.
pub(super) const LATELY: Span = Span::from_secs(30 * 60);

/// What the room remembers of what was played.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(super) struct History {
    /// The latest rows, most recent last.
    rows: VecDeque<Heard>,
    /// The tracks that were heard within [`LATELY`], each with the end of its last playing, the
    /// latest last. Many short ones outlive their rows.
    lately: VecDeque<(BlobHash, RoomTime)>,
}

impl History {
    pub fn note(&mut self, over: Over, added_by_name: String, dj: Option<String>, present: u32) {
        let Over { segment, entry, started, ended, reason } = over;
        let (track, added_by) = (entry.track, entry.added_by);
        let heard =
            Heard { segment, track, added_by, added_by_name, started, ended, dj, reason, present };
        if heard.started < heard.ended {
            self.remember(heard.track.hash, heard.ended);
        }
        self.rows.push_back(heard);
        while self.rows.len() > MAX_HEARD {
            self.rows.pop_front();
        }
    }

    fn remember(&mut self, track: BlobHash, at: RoomTime) {
        self.lately.retain(|(other, ended)| *other != track && at - *ended < LATELY);
        self.lately.push_back((track, at));
        while self.lately.len() > MAX_LATELY {
            self.lately.pop_front();
        }
    }

    /// When a track was heard last, if that was lately.
    pub fn last_heard(&self, track: BlobHash) -> Option<RoomTime> {
        let (_, ended) = self.lately.iter().find(|(other, _)| *other == track)?;
        Some(*ended)
    }

    pub fn rows(&self) -> impl DoubleEndedIterator<Item = &Heard> {
        self.rows.iter()
    }

    /// What every reachable history obeys; for states from elsewhere.
    pub fn check(&self, sane: impl Fn(&Track) -> bool) -> Result<(), &'static str> {
        let is_sane = |row: &Heard| {
            sane(&row.track)
                && row.started <= row.ended
                && row.added_by_name.chars().count() <= MAX_NAME
        };
        let is_bounded = self.rows.len() <= MAX_HEARD && self.lately.len() <= MAX_LATELY;
        if !is_bounded || !self.rows.iter().all(is_sane) {
            return Err("a history that no room makes");
        }
        Ok(())
    }
}
