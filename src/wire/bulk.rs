//! How pieces of files are asked for and given, on the second ("bulk") connection of two
//! nodes: one short bidirectional stream per piece.
//!
//! ```text
//!  asker:  BulkRequest, end of stream
//!  holder: BulkReply, then the bytes of the piece, end of stream
//! ```
//!
//! What a piece is (how many bytes, whether proof of its content comes with it) is agreed
//! between those who hold blobs; here it is bytes with a length.

use serde::{Deserialize, Serialize};

use crate::base::BlobHash;

/// The version of this; part of the ALPN of bulk connections.
pub const BULK_ALPN: &[u8] = b"groovebox-bulk/1";

/// One piece, please.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct BulkRequest {
    /// Of which blob.
    pub hash: BlobHash,
    /// Which, counted from 0.
    pub piece: u32,
}

/// What comes back in front of the bytes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum BulkReply {
    /// Here it is: exactly this many bytes follow, at most
    /// [`MAX_PIECE`](crate::base::limits::MAX_PIECE).
    Piece {
        /// Bytes that follow.
        len: u32,
    },
    /// The holder does not have it or does not give it; nothing follows.
    Refused {
        /// Why, for logs.
        reason: String,
    },
}
