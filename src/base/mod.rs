//! The vocabulary everybody shares: identifiers, kinds of time, PCM units and every limit.
//!
//! Nothing here does I/O or reads a clock. A type stands here when two folders that may not
//! use each other both need it.

pub mod ids;
pub mod limits;
pub mod pcm;
pub mod rng;
pub mod time;

pub use ids::{
    BlobHash, EntryId, EntryKey, NodeId, OpId, RoomId, SegmentId, SessionId, Term, UserId,
};
pub use time::{Clock, LocalTime, Ppm, RoomTime, Span};
