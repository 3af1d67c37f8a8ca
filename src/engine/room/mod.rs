//! The replicated room: what everybody agrees on, as a pure function of an ordered log.
//!
//! ```text
//!  Op ── order (coordinator) ──► Entry ── accept (everybody) ──► RoomState::apply
//!           │ validate                     │ chain, signature        │ settle to entry.at, validate, change
//!           └── same rules, same state ────┴─────────────────────────┘
//! ```
//!
//! [`RoomState`] holds devices, queue, playback, volumes and what was played last, and who governs
//! all that: people, owner, DJ, votes, settings, chat. Playback is a function of the
//! state and of room time: between two entries every node moves on to the next track by itself
//! ([`RoomState::settle`]), so that a lost coordinator cannot be heard. [`Log`] is the tail of
//! the entries in memory; [`Room`] ties both to the room's genesis and checks signatures.
//!
//! Nothing here knows who is online, whether data has arrived or when to begin: the
//! coordinator decides that and says it with operations.

mod chat;
mod government;
mod history;
mod log;
mod members;
pub mod merge;
mod people;
mod playback;
mod rights;
#[expect(clippy::module_inception, reason = "the folder's noun")]
mod room;
mod rules;
mod seen;
pub mod settings;
mod state;
#[cfg(test)]
mod tests;
mod turns;
mod votes;
mod words;

pub use chat::{ChatLine, is_chat_text};
pub use government::{Dj, DjEnd, PastDj};
pub use history::{EndReason, Heard};
pub use log::Log;
pub use members::{Member, gain_of};
pub use people::{Person, Presence, is_display_name, is_user_name};
pub use playback::{Notice, Phase, QueueEntry, Segment};
pub use rights::bad_user_name;
pub use room::{Ordered, Room, Taken, Unknown};
pub use rules::done_already;
pub use state::RoomState;
pub use votes::{PastVote, Session, Verdict};
pub use words::{describe, kind_name};

use crate::base::OpId;
use crate::identity::IdentityError;
use crate::wire::WireError;

/// What came from another node, or from the disk, does not fit this room.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RoomError {
    /// Entries between are missing: ask for those after `have`.
    #[error("entries after {have} are missing")]
    Gap {
        /// The last entry held.
        have: u64,
    },
    /// The sender's log is another branch: only its snapshot helps.
    #[error("the log differs at entry {idx}")]
    Fork {
        /// Where it was noticed.
        idx: u64,
    },
    /// An entry that no honest coordinator sends.
    #[error("entry {idx} is not acceptable: {why}")]
    BadEntry {
        /// Which.
        idx: u64,
        /// What is wrong with it.
        why: &'static str,
    },
    /// An operation that its author did not sign, or a genesis that its founder did not.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// A state that does not encode or decode.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// A snapshot that breaks a rule every state obeys.
    #[error("snapshot is not acceptable: {0}")]
    BadSnapshot(&'static str),
    /// An operation whose signature is good but that was meant for another room.
    #[error("operation {0:?} belongs to another room")]
    OtherRoom(OpId),
}
