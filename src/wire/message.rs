//! What travels on the control stream of two nodes, in order and reliably.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::codec;
use super::datagram::RoomLine;
use super::op::{Admission, Entry, Friendship, Genesis, Op, Refusal};
use super::person::{FriendMessage, PairMessage};
use crate::base::{BlobHash, NodeId, OpId, RoomId, RoomTime, SegmentId, Term};
use crate::identity::{IdentityError, NodeKey, Signature, verify};

/// One message. On the wire its number in this list comes first, so that the list only ever
/// grows at its end; see [`super::codec`].
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub enum Message {
    /// The first message, both ways. A peer counts as up once both have arrived.
    Hello(Hello),
    /// The sender's room changed.
    Card(Option<RoomCard>),
    /// Where other nodes were last reached.
    Peers(Vec<PeerAddress>),
    /// Let me in: a signed join operation, to any member of the room.
    Join(Op),
    /// An operation to be ordered, to the coordinator.
    Propose(Op),
    /// What became of it.
    Proposed {
        /// The operation.
        id: OpId,
        /// Its place, or why it has none.
        outcome: Result<Accepted, Refusal>,
    },
    /// New entries of the log, coordinator to member.
    Append {
        /// The room.
        room: RoomId,
        /// The coordinator's reign.
        term: Term,
        /// Index before the first entry.
        prev_idx: u64,
        /// Chain value there.
        prev_chain: [u8; 16],
        /// In order, without holes.
        entries: Vec<Entry>,
    },
    /// What a member's disk has of its log.
    Appended {
        /// The room.
        room: RoomId,
        /// The reign it follows.
        term: Term,
        /// Last entry written to its disk (to the write-ahead log, not yet synced). Its chain
        /// value shows of which history.
        written: LogPlace,
        /// Last entry that survives a power cut.
        synced: u64,
    },
    /// The member cannot go on from the coordinator's log: send the state.
    NeedSnapshot {
        /// The room.
        room: RoomId,
    },
    /// The whole state at one index.
    Snapshot(Snapshot),
    /// A new reign begins.
    Start(Start),
    /// Your term is over; I know a higher one.
    Stale {
        /// The room.
        room: RoomId,
        /// The highest term that the sender knows.
        term: Term,
        /// Whether the sender hears its owner.
        alive: bool,
    },
    /// Leaving on purpose; whoever follows the sender looks for another at once.
    Bye,
    /// What the sender holds of a blob.
    Have {
        /// The blob.
        hash: BlobHash,
        /// One bit per piece, lowest bit of the first byte first; empty means complete.
        pieces: Vec<u8>,
    },
    /// The sender could sound this segment now.
    Ready {
        /// The room.
        room: RoomId,
        /// Which segment.
        segment: SegmentId,
    },
    /// How the sender is doing, once a second.
    Report(Report),
    /// The coordinator asks one member to take over from it.
    Handoff(Handoff),
    /// Operations that had their place in a log which was cut off, in that order, to the
    /// coordinator. Each is answered with [`Message::Proposed`].
    Orphans {
        /// The room.
        room: RoomId,
        /// Together at most [`MAX_ORPHANS`](crate::base::limits::MAX_ORPHANS) bytes, or one.
        ops: Vec<Op>,
    },
    /// The coordinator's log ends here. What a member has beyond from earlier reigns is no part
    /// of it; a member that does not know this place answers with [`Message::Places`].
    LogEnd {
        /// The room.
        room: RoomId,
        /// The coordinator's reign.
        term: Term,
        /// The end.
        end: LogPlace,
    },
    /// Where a member's log goes along, so that the coordinator finds where the two part.
    Places {
        /// The room.
        room: RoomId,
        /// The reign it follows.
        term: Term,
        /// Latest first, at most [`MAX_PLACES`](crate::base::limits::MAX_PLACES).
        places: Vec<LogPlace>,
    },
    /// A new coordinator that has ordered nothing yet asks a member whose log goes further.
    Fetch {
        /// The room.
        room: RoomId,
        /// The coordinator's reign.
        term: Term,
        /// Where its own log ends.
        after: LogPlace,
    },
    /// What follows that place in the member's log.
    Tail {
        /// The room.
        room: RoomId,
        /// The reign it follows.
        term: Term,
        /// Before the first entry.
        after: LogPlace,
        /// In order, without holes, all of earlier reigns.
        entries: Vec<Entry>,
    },
    /// What a merge of two histories left out, from the coordinator to everybody.
    Dropped {
        /// The room.
        room: RoomId,
        /// Which, and why.
        dropped: Vec<DroppedOp>,
    },
    /// How safe the entries of the log are, from the coordinator to everybody.
    Safe {
        /// The room.
        room: RoomId,
        /// The coordinator's reign.
        term: Term,
        /// Up to here enough devices have written.
        replicated: u64,
        /// Up to here the disks of enough devices have synced.
        durable: u64,
    },
    /// What a member makes of the log, every few seconds to the coordinator.
    Agree(Agreement),
    /// Somebody asked for this member to be given the state anew, to the coordinator.
    Resync {
        /// The room.
        room: RoomId,
        /// Whom.
        member: NodeId,
    },
    /// Whether the sender's disk takes entries, said to members when that changes and, while
    /// it does not, to each that comes. Until then it does. Who does not write does not count
    /// for acknowledgements.
    Disk {
        /// It does.
        writes: bool,
    },
    /// Between people, of whatever room.
    Friend(FriendMessage),
    /// How a person comes onto a second device.
    Pair(PairMessage),
    /// The sender wants to show that it knows a secret of the room, to any member: its share of
    /// a run of [`pake`](crate::identity::pake).
    PakeStart {
        /// The room.
        room: RoomId,
        /// Which secret.
        secret: SecretKind,
        /// The share.
        share: [u8; 32],
    },
    /// The member's share.
    PakeAnswer {
        /// The room.
        room: RoomId,
        /// The share.
        share: [u8; 32],
    },
    /// The sender of the start knows the secret.
    PakeConfirm {
        /// The room.
        room: RoomId,
        /// What shows it.
        confirmation: [u8; 32],
    },
    /// So does the member, and lets it in.
    Admitted {
        /// The room.
        room: RoomId,
        /// What shows that the member knows the secret.
        confirmation: [u8; 32],
        /// The member's word, to be shown in the join.
        admission: Admission,
        /// In a room for friends: that the member is one. Whom it invites comes in on its account.
        friendship: Option<Friendship>,
    },
    /// There were many tries of late: the answer to a start comes late.
    PakeLater {
        /// The room.
        room: RoomId,
        /// In so many ms.
        wait_ms: u32,
    },
    /// The run is over without an admission.
    PakeRefused {
        /// The room.
        room: RoomId,
        /// Why.
        refusal: Refusal,
    },
    /// The sender may come in and shows it, to a member that may not know it yet.
    Show {
        /// The room.
        room: RoomId,
        /// Another member's word.
        admission: Admission,
    },
    /// Is your room the one of this code? To a node of a locked room, which does not show it.
    Seek {
        /// As the person said it.
        code: String,
    },
    /// It is.
    Found {
        /// The code.
        code: String,
        /// The room.
        room: RoomId,
    },
}

/// A secret that opens a locked room.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum SecretKind {
    /// What the room's password becomes by stretching.
    Password,
    /// The code of an invite.
    Invite {
        /// Which invite of that member.
        number: u32,
    },
}

impl Message {
    /// How many kinds this version knows: they are numbered from 0, and whatever has a higher
    /// number comes from a later version.
    pub const KINDS: u32 = 38;
}

/// A place in the log. The chain value stands for everything before it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LogPlace {
    /// Index of an entry.
    pub idx: u64,
    /// Chain value after it.
    pub chain: [u8; 16],
}

/// An operation that a merge left out.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DroppedOp {
    /// Its name.
    pub id: OpId,
    /// When its author made it.
    pub created: RoomTime,
    /// What it would have done, for people.
    pub what: String,
    /// Why it was left out, for people.
    pub why: String,
}

/// What a member makes of the log. Equal places must have equal states.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Agreement {
    /// The room.
    pub room: RoomId,
    /// The end of the member's log.
    pub end: LogPlace,
    /// Hash of its state there.
    pub hash: [u8; 16],
    /// What sounds.
    pub segment: Option<SegmentId>,
    /// Where in its track, ms.
    pub position_ms: i64,
}

/// Who speaks.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Hello {
    /// Must be the key that the connection proved.
    pub node: NodeId,
    /// The sender's start counter.
    pub boot: u32,
    /// The device's name.
    pub name: String,
    /// The program's version, for people.
    pub version: String,
    /// The port at which it can be dialled.
    pub port: u16,
    /// The room it is in.
    pub room: Option<RoomCard>,
}

/// What a room shows of itself.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct RoomCard {
    /// The room.
    pub id: RoomId,
    /// Its name.
    pub name: String,
    /// Its code, to be read out loud.
    pub code: String,
    /// Whether a password is asked for.
    pub locked: bool,
    /// It made itself and no person has acted in it: it dissolves into another.
    pub unclaimed: bool,
    /// Devices present.
    pub devices: u16,
    /// Who coordinates, if known.
    pub coordinator: Option<NodeId>,
    /// The term followed.
    pub term: Term,
    /// Title of what plays.
    pub playing: Option<String>,
}

/// Where a node was last reached.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PeerAddress {
    /// Who.
    pub node: NodeId,
    /// Its name.
    pub name: String,
    /// Most recent first, at most 16.
    pub addresses: Vec<SocketAddr>,
}

/// An operation's place in the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Accepted {
    /// Its index.
    pub idx: u64,
    /// How safe it is.
    pub level: Level,
    /// When it takes effect.
    pub effective_at: RoomTime,
}

/// How safe an acknowledged operation is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Written here only: nobody else is present.
    Local,
    /// Written by the coordinator and two others, or all if there are fewer.
    Replicated,
    /// Their disks have synced it.
    Durable,
}

/// A room's state at one index of its log.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Snapshot {
    /// What the room is made of; hashes to its id.
    pub genesis: Genesis,
    /// The coordinator's reign.
    pub term: Term,
    /// Index of the last entry in it.
    pub idx: u64,
    /// Term of that entry.
    pub last_term: Term,
    /// Chain value there.
    pub chain: [u8; 16],
    /// The state, encoded by `engine::room`.
    pub state: Vec<u8>,
}

/// A new coordinator introduces itself.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Start {
    /// The room.
    pub room: RoomId,
    /// Its reign.
    pub term: Term,
    /// Last entry of its log.
    pub last_idx: u64,
    /// Term of that entry.
    pub last_term: Term,
    /// Chain value there.
    pub chain: [u8; 16],
    /// The room's timeline on its raw clock.
    pub line: RoomLine,
    /// The hand-over that the term came of; without one it was elected.
    pub handoff: Option<Handoff>,
    /// The owner's signature over the rest.
    pub signature: Signature,
}

impl Start {
    /// Puts the owner's signature in.
    #[must_use]
    pub fn signed(mut self, key: &NodeKey) -> Start {
        self.signature = key.sign(&codec::start_bytes(&self));
        self
    }

    /// Whether the owner of the term signed it and, if it was handed over, the owner of the
    /// term before signed that.
    ///
    /// # Errors
    ///
    /// When one of them did not, or the hand-over is to somebody else.
    pub fn verify(&self) -> Result<(), IdentityError> {
        if let Some(handoff) = &self.handoff {
            let to_it = handoff.room == self.room && handoff.to == self.term.node;
            if !to_it {
                return Err(IdentityError::BadSignature { author: self.term.node.short() });
            }
            handoff.verify()?;
        }
        verify(self.term.node, &codec::start_bytes(self), &self.signature)
    }
}

/// A coordinator names its successor. Whoever follows it may follow that one at once, without
/// a vote.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Handoff {
    /// The room.
    pub room: RoomId,
    /// The term that ends.
    pub term: Term,
    /// Who takes over.
    pub to: NodeId,
    /// Where the log ends; nothing is ordered after it in that term.
    pub at_idx: u64,
    /// The signature of the term's owner over the rest.
    pub signature: Signature,
}

impl Handoff {
    /// Puts the owner's signature in.
    #[must_use]
    pub fn signed(mut self, key: &NodeKey) -> Handoff {
        self.signature = key.sign(&codec::handoff_bytes(&self));
        self
    }

    /// Whether the owner of the term that ends signed it.
    ///
    /// # Errors
    ///
    /// When it did not.
    pub fn verify(&self) -> Result<(), IdentityError> {
        verify(self.term.node, &codec::handoff_bytes(self), &self.signature)
    }
}

/// How a member is doing. Units as in `status --json`.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Report {
    /// Whether it follows the room's clock well enough to sound.
    pub state: SyncState,
    /// Playout error against the room's timeline as the device sees it, µs.
    pub offset_us: f32,
    /// Three standard deviations of the statistical error, µs.
    pub error_us: f32,
    /// Bound of the error that no two-way exchange can see: half the smallest round trip, µs.
    pub asymmetry_us: f32,
    /// Smallest round trip in the window, µs.
    pub rtt_us: f32,
    /// Mean round trip, µs.
    pub rtt_avg_us: f32,
    /// Spread of the round trips: their standard deviation, µs.
    pub jitter_us: f32,
    /// Frequency of the room against this device's clock, ppm.
    pub drift_ppm: f32,
    /// Frequency of this device's converter against its clock, ppm.
    pub dac_ppm: f32,
    /// Correction applied beyond both, ppm.
    pub correction_ppm: f32,
    /// Audio decoded and waiting, ms.
    pub buffer_ms: f32,
    /// Times the output ran dry since the start.
    pub underruns: u32,
    /// From a decision to sound at the converter, ms: what is already queued.
    pub depth_ms: f32,
    /// 99.9th percentile of the delay from the coordinator beyond its floor, ms.
    pub late_ms: f32,
    /// The output.
    pub output: OutputState,
}

/// Whether a member follows the room's clock.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SyncState {
    /// Error bound known and small; the playout follows.
    Synced,
    /// Not enough answers yet, or being slewed.
    #[default]
    Syncing,
    /// No answers for long, or further off than the servo can mend quietly.
    OutOfSync,
}

/// The state of a member's output.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutputState {
    /// It sounds, or could.
    Ok,
    /// There is none.
    #[default]
    None,
    /// Somebody else has it.
    Busy,
    /// It does not work, and why.
    Failed(String),
}
