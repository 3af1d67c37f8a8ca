//! Music files: finding them, telling what they are, keeping them in a content-addressed cache,
//! and decoding them into windows of PCM.
//!
//! ```text
//!  path ─ scan ─► files ─ Library::import ─► Track + blob in the cache
//!                                                │    ▲
//!                         encode_piece ◄─────────┤    └── accept_piece (verified)
//!                                                ▼
//!                      open_stream: a thread ─► PcmWriter (a window of frames)
//! ```
//!
//! Everything here blocks and is called from threads that may. It does not know peers (which
//! piece to fetch from whom is `engine::transfer`), rooms or sound cards.
//!
//! Decoders are third-party code that is fed with anybody's bytes: their panics are caught here,
//! on the threads that run them. A panic hook must not end the process for them.

#[cfg(test)]
mod broken;
pub mod cache;
pub mod error;
pub mod format;
#[cfg(test)]
mod format_table;
mod index;
pub mod library;
pub mod reference;
pub mod scan;
pub mod stream;
pub mod tags;

pub use cache::{Accepted, Holding, piece_count};
pub use error::{CHECK_THE_PATH, MediaError};
pub use library::Library;
pub use scan::scan;
pub use stream::{StreamHandle, StreamHooks};
