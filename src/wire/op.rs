//! Operations: what people and nodes do to a room, signed by their author, ordered by the
//! coordinator, applied alike by everybody.
//!
//! ```text
//! Op    { room, id (author, boot, seq), created, kind, body, signature }   as its author sent it
//! Entry { idx, term, at, op, chain }                                       as the coordinator ordered it
//! ```
//!
//! The bytes of an operation are stored and forwarded as they came and never encoded again, so
//! that a signature stays valid under later versions of the program.

use serde::{Deserialize, Serialize};

use super::codec::{self, WireError};
use super::track::Track;
use crate::base::{EntryKey, NodeId, OpId, RoomId, RoomTime, SegmentId, Span, Term, UserId};
use crate::identity::{IdentityError, NodeKey, Signature, verify};

/// A signed operation.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Op {
    /// The room it is meant for; part of what is signed.
    pub room: RoomId,
    /// Its name for ever.
    pub id: OpId,
    /// When its author made it, by the author's idea of room time; [`Op::NO_TIME`] where it had
    /// none.
    pub created: RoomTime,
    /// Which body; see [`OpBody::kind`].
    pub kind: u16,
    /// The encoded [`OpBody`].
    pub body: Vec<u8>,
    /// Ed25519 over [`signed_bytes`](super::codec::signed_bytes).
    pub signature: Signature,
}

impl Op {
    /// Its author did not know the room's time when it made it.
    pub const NO_TIME: RoomTime = RoomTime(i64::MIN);

    /// How old it is at `now`; none where its author knew no time.
    #[must_use]
    pub fn age(&self, now: RoomTime) -> Option<Span> {
        (self.created != Op::NO_TIME).then(|| now - self.created)
    }

    /// Makes and signs an operation.
    ///
    /// # Errors
    ///
    /// When the body is longer than a body may be.
    pub fn signed(
        key: &NodeKey,
        room: RoomId,
        id: OpId,
        created: RoomTime,
        body: &OpBody,
    ) -> Result<Op, WireError> {
        let kind = body.kind();
        let body = codec::encode_body(body)?;
        let signature = key.sign(&codec::signed_bytes(&room, &id, created, kind, &body));
        Ok(Op { room, id, created, kind, body, signature })
    }

    /// Whether its author signed it.
    ///
    /// # Errors
    ///
    /// When the author did not.
    pub fn verify(&self) -> Result<(), IdentityError> {
        let bytes = codec::signed_bytes(&self.room, &self.id, self.created, self.kind, &self.body);
        verify(self.id.author, &bytes, &self.signature)
    }
}

/// An operation in its place.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Entry {
    /// Counts from 1.
    pub idx: u64,
    /// The reign that ordered it.
    pub term: Term,
    /// When it takes effect. Never before that of the entry before it.
    pub at: RoomTime,
    /// What.
    pub op: Op,
    /// BLAKE3 of the previous chain value, term, `at` and operation, cut to 16 bytes.
    pub chain: [u8; 16],
}

/// What a room is made of. Its BLAKE3 is the room's id, so nobody can make another room of
/// the same id.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Genesis {
    /// The founding node.
    pub founder: NodeId,
    /// Distinguishes rooms of one founder.
    pub nonce: [u8; 16],
    /// The room's first name.
    pub name: String,
    /// `GROOVE-` and four unambiguous characters.
    pub code: String,
    /// It made itself; nobody asked for it.
    pub unattended: bool,
    /// The founder's signature over the rest.
    pub signature: Signature,
}

impl Genesis {
    /// Puts the founder's name and signature in.
    #[must_use]
    pub fn signed(mut self, key: &NodeKey) -> Genesis {
        self.founder = key.node_id();
        self.signature = key.sign(&codec::genesis_bytes(&self));
        self
    }

    /// Whether its founder signed it.
    ///
    /// # Errors
    ///
    /// When the founder did not.
    pub fn verify(&self) -> Result<(), IdentityError> {
        verify(self.founder, &codec::genesis_bytes(self), &self.signature)
    }
}

/// What a member is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MemberKind {
    /// A device without a person.
    Speaker,
    /// A device with a person.
    Person,
    /// A person whose key is held by the daemon that served their page.
    Guest,
}

/// What an operation on the playback was meant for. A command may reach the coordinator late, or
/// be offered again after a change of coordinator; it then finds other music and is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Guard {
    /// The stretch of music that the room was about; none if it was about none.
    pub segment: Option<SegmentId>,
    /// How often the DJ had changed. 0 as long as there are no DJs.
    pub dj_epoch: u32,
}

/// What an operation does.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub enum OpBody {
    /// The author joins, or tells its new name.
    Join {
        /// Its name.
        name: String,
        /// What it is.
        kind: MemberKind,
        /// Whose device it is.
        user: Option<UserId>,
    },
    /// The author leaves the room for good.
    Leave,
    /// Tracks into the queue.
    Add {
        /// In order.
        tracks: Vec<Track>,
        /// Where, and whether to play.
        mode: AddMode,
    },
    /// Entries out of the queue.
    Remove {
        /// Which.
        entries: Vec<EntryKey>,
    },
    /// All entries out of the queue.
    Clear,
    /// Stop the sound and remember the frame.
    Pause(Guard),
    /// Go on at that frame; with nothing paused, play the queue.
    Resume(Guard),
    /// Stop and forget the position.
    Stop(Guard),
    /// Play from another position of the current track.
    Seek {
        /// From its beginning.
        position: Span,
        /// In what.
        guard: Guard,
    },
    /// The entry after the current one.
    Next(Guard),
    /// The current entry again, or the one before it when less than 3 s have been played.
    Prev(Guard),
    /// The coordinator: everybody who counts is ready, the pending segment begins.
    Begin {
        /// Which.
        segment: SegmentId,
    },
    /// The coordinator: the pending segment cannot be played by anybody; on to the next.
    Fail {
        /// Which.
        segment: SegmentId,
        /// Why, for people.
        reason: String,
    },
    /// The coordinator: takes note that the timeline has moved on, so that a snapshot is short.
    Settle,
    /// The volume of one member.
    Volume {
        /// Whose.
        member: NodeId,
        /// 0 to 100.
        volume: u8,
    },
    /// Mutes one member.
    Mute {
        /// Whose.
        member: NodeId,
        /// On or off.
        muted: bool,
    },
    /// The volume of all: every member moves by the same amount until it hits an end.
    RoomVolume {
        /// 0 to 100.
        volume: u8,
    },
    /// An entry to another place of the queue.
    Move {
        /// Which.
        entry: EntryKey,
        /// The entry behind which it goes; none is the front of the queue.
        behind: Option<EntryKey>,
    },
    /// The queue in another order, once.
    Shuffle {
        /// Decides which.
        seed: u64,
    },
    /// What comes again by itself.
    Repeat {
        /// From now on.
        mode: Repeat,
    },
    /// The coordinator: which entries nobody who is here has, and which of those somebody has
    /// again.
    Availability {
        /// No longer.
        gone: Vec<EntryKey>,
        /// Again.
        back: Vec<EntryKey>,
    },
}

/// What comes again by itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Repeat {
    /// Nothing: what was played makes way.
    #[default]
    Off,
    /// What plays, until somebody goes on to the next.
    One,
    /// The whole queue: what was played goes to its end.
    All,
}

/// Where added tracks go.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AddMode {
    /// At the end.
    Append,
    /// In front of the queue, and the first of them plays at once. What comes too late for that
    /// goes to the end of the queue; see [`PLAY_STALE`](crate::base::limits::PLAY_STALE).
    Play,
    /// Behind what this operation brought, which was the first part of one order to play; at
    /// the end, if something else was played since.
    Continue(OpId),
}

impl OpBody {
    /// What it was meant for, where it acts on what plays.
    #[must_use]
    pub fn guard(&self) -> Option<&Guard> {
        match self {
            OpBody::Pause(guard)
            | OpBody::Resume(guard)
            | OpBody::Stop(guard)
            | OpBody::Seek { guard, .. }
            | OpBody::Next(guard)
            | OpBody::Prev(guard) => Some(guard),
            _ => None,
        }
    }

    /// Whether this version knows what operations of that kind do.
    #[must_use]
    pub fn is_known(kind: u16) -> bool {
        matches!(kind, 1 | 2 | 10..=15 | 20..=32)
    }

    /// The number of this kind on the wire. Never reused.
    #[must_use]
    pub fn kind(&self) -> u16 {
        match self {
            OpBody::Join { .. } => 1,
            OpBody::Leave => 2,
            OpBody::Add { .. } => 10,
            OpBody::Remove { .. } => 11,
            OpBody::Clear => 12,
            OpBody::Pause(_) => 20,
            OpBody::Resume(_) => 21,
            OpBody::Stop(_) => 22,
            OpBody::Seek { .. } => 23,
            OpBody::Next(_) => 24,
            OpBody::Prev(_) => 25,
            OpBody::Begin { .. } => 26,
            OpBody::Fail { .. } => 27,
            OpBody::Settle => 28,
            OpBody::Volume { .. } => 30,
            OpBody::Mute { .. } => 31,
            OpBody::RoomVolume { .. } => 32,
            OpBody::Move { .. } => 13,
            OpBody::Shuffle { .. } => 14,
            OpBody::Repeat { .. } => 15,
            OpBody::Availability { .. } => 29,
        }
    }
}

/// Why an operation or a command was not accepted.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// For programs.
    pub code: RefusalCode,
    /// For people: what happened.
    pub message: String,
    /// For people: what to do next.
    pub hint: String,
    /// When trying again may help, in ms.
    pub retry_after_ms: Option<u32>,
}

impl Refusal {
    /// A refusal that trying again does not change.
    #[must_use]
    pub fn new(code: RefusalCode, message: impl Into<String>, hint: impl Into<String>) -> Refusal {
        Refusal { code, message: message.into(), hint: hint.into(), retry_after_ms: None }
    }
}

/// Codes that programs can rely on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum RefusalCode {
    /// The request makes no sense.
    InvalidRequest,
    /// Identity could not be established.
    AuthRequired,
    /// The room cannot be joined.
    JoinFailed,
    /// The change could not be made.
    UpdateFailed,
    /// This device is in no room.
    NotInRoom,
    /// What is named does not exist.
    NotFound,
    /// The room has its number of members.
    RoomFull,
    /// The queue has its number of entries.
    QueueFull,
    /// No coordinator within reach at the moment.
    NoCoordinator,
    /// The file is no audio that can be played.
    UnsupportedMedia,
    /// Too many requests.
    RateLimited,
    /// The program itself is at fault.
    Internal,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_operation_is_noticed() {
        let key = || NodeKey::generate(&ring::rand::SystemRandom::new()).expect("random numbers");
        let (author, other) = (key(), key());
        let id = OpId { author: author.node_id(), boot: 1, seq: 1 };
        let body = OpBody::Pause(Guard::default());
        let op = Op::signed(&author, RoomId([1; 32]), id, RoomTime(5), &body).expect("short");
        assert_eq!(op.verify(), Ok(()));
        let elsewhere = Op { room: RoomId([2; 32]), ..op.clone() };
        let later = Op { created: RoomTime(6), ..op.clone() };
        let forged = Op { id: OpId { author: other.node_id(), ..id }, ..op };
        for changed in [elsewhere, later, forged] {
            assert!(changed.verify().is_err());
        }
    }
}
