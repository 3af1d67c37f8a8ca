//! Identifiers. Each is a newtype, so that a room is never passed where a node is meant.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Text that is not the identifier it was taken for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected} hexadecimal digits")]
pub struct ParseIdError {
    /// How many digits a well-formed identifier has.
    pub expected: usize,
}

macro_rules! bytes32 {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(pub [u8; 32]);

        impl $name {
            /// The first eight hexadecimal digits: enough to tell a few apart in a log line.
            #[must_use]
            pub fn short(&self) -> String {
                hex(&self.0[..4])
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.short())
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                parse_hex32(text).map($name)
            }
        }
    };
}

bytes32! {
    /// A device: its Ed25519 public key.
    NodeId
}
bytes32! {
    /// A person: an Ed25519 public key.
    UserId
}
bytes32! {
    /// A room: BLAKE3 of its signed genesis.
    RoomId
}
bytes32! {
    /// The content of a file: its BLAKE3 root. A track is named by the hash of its file.
    BlobHash
}

/// An entry of the queue. Counted by the room state, so every node gives the same number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct EntryId(pub u64);

/// An entry of the queue, whatever its number. Derived by hashing from the operation that brought
/// it and its place therein, so that it stays the same when the two halves of a partitioned room
/// meet and one half's entries are counted anew.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct EntryKey(pub u64);

/// One uninterrupted stretch of one track: a pause, a seek or a skip begins another.
///
/// Derived by hashing from what created it, so that two branches of a partitioned room never
/// give one number to two stretches.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct SegmentId(pub u64);

/// A vote. Derived by hashing from the operation that opened it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct SessionId(pub u64);

/// Names an operation for ever: `boot` is raised and synced to disk before a node speaks, so
/// a restarted author never reuses a number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct OpId {
    /// Who made it.
    pub author: NodeId,
    /// The author's start counter.
    pub boot: u32,
    /// Counts from 1 within a boot.
    pub seq: u64,
}

/// A reign of one coordinator. Compared field by field from the top; it names its owner, so
/// two coordinators of one term cannot exist.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Term {
    /// One above the highest number seen.
    pub n: u64,
    /// The owner.
    pub node: NodeId,
    /// The owner's start counter.
    pub boot: u32,
}

impl Term {
    /// Below every term that a node can own.
    pub const ZERO: Term = Term { n: 0, node: NodeId([0; 32]), boot: 0 };
}

/// Lower-case hexadecimal.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    use fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a string cannot fail");
        text
    })
}

fn parse_hex32(text: &str) -> Result<[u8; 32], ParseIdError> {
    let wrong = ParseIdError { expected: 64 };
    if text.len() != 64 || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return Err(wrong);
    }
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
        let digits = std::str::from_utf8(pair).map_err(|_| wrong.clone())?;
        *byte = u8::from_str_radix(digits, 16).map_err(|_| wrong.clone())?;
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_survives_its_text() {
        let id = NodeId(std::array::from_fn(|i| u8::try_from(i * 7 % 256).expect("below 256")));
        assert_eq!(id.to_string().parse(), Ok(id));
    }

    #[test]
    fn text_that_is_no_id_is_refused() {
        for text in ["", "12", "zz", &"g".repeat(64), &"é".repeat(32), &"+1".repeat(32)] {
            assert!(text.parse::<NodeId>().is_err(), "{text}");
        }
    }
}
