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
use crate::base::{
    EntryKey, NodeId, OpId, RoomId, RoomTime, SegmentId, SessionId, Span, Term, UserId,
};
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

/// What a person is called, and the proof that a device is theirs.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PersonCard {
    /// Who.
    pub user: UserId,
    /// 2 to 32 letters, digits and `-_.`; a room gives it to one person only.
    pub name: String,
    /// As they want to be called, in any script.
    pub display: String,
    /// The person's signature over the device, see [`codec::device_bytes`].
    pub certificate: Signature,
}

impl PersonCard {
    /// Whether the person has said that `device` is theirs.
    ///
    /// # Errors
    ///
    /// When they have not.
    pub fn verify(&self, device: NodeId) -> Result<(), IdentityError> {
        let bytes = codec::device_bytes(&self.user, &device);
        verify(NodeId(self.user.0), &bytes, &self.certificate)
    }
}

/// How high a person stands in a room; an invite may say how high whoever comes in with it gets.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Does what the room lets guests do.
    Guest,
    /// Never becomes DJ, and the room never passes on to them.
    Listener,
    /// May become DJ; the room never passes on to them.
    Dj,
    /// May become everything.
    #[default]
    Owner,
}

impl Role {
    /// Its name, as people write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Guest => "guest",
            Role::Listener => "listener",
            Role::Dj => "dj",
            Role::Owner => "owner",
        }
    }
}

/// How a member lets a device in.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Terms {
    /// The lock's epoch: what was issued under an earlier password lets nobody in.
    pub epoch: u32,
    /// It came with an invite, so that it need not be a friend of the owner.
    pub invited: bool,
    /// How high it may rise. Higher than the issuer's own counts as that.
    pub cap: Role,
}

/// A member's word that a device has shown that it may come in: it knew the password, or was
/// invited.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Admission {
    /// The member.
    pub issuer: NodeId,
    /// How it comes in.
    pub terms: Terms,
    /// The issuer's signature, see [`codec::admission_bytes`].
    pub signature: Signature,
}

impl Admission {
    /// The word of whoever has that key.
    #[must_use]
    pub fn signed(key: &NodeKey, room: RoomId, device: NodeId, terms: Terms) -> Admission {
        let signature = key.sign(&codec::admission_bytes(&room, &device, terms));
        Admission { issuer: key.node_id(), terms, signature }
    }

    /// Whether the issuer has said so of `device`.
    ///
    /// # Errors
    ///
    /// When it has not.
    pub fn verify(&self, room: RoomId, device: NodeId) -> Result<(), IdentityError> {
        let bytes = codec::admission_bytes(&room, &device, self.terms);
        verify(self.issuer, &bytes, &self.signature)
    }
}

/// The word of two people that they are friends. It can be checked while both are away.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Friendship {
    /// The one with the smaller id, then the other.
    pub people: (UserId, UserId),
    /// Since when, Unix seconds by the clock of whoever accepted.
    pub since: u64,
    /// Their signatures in the same order, see [`codec::friendship_bytes`].
    pub signatures: (Signature, Signature),
}

impl Friendship {
    /// Whether both have signed it.
    ///
    /// # Errors
    ///
    /// When one of them has not.
    pub fn verify(&self) -> Result<(), IdentityError> {
        let bytes = codec::friendship_bytes(&self.people.0, &self.people.1, self.since);
        verify(NodeId(self.people.0.0), &bytes, &self.signatures.0)?;
        verify(NodeId(self.people.1.0), &bytes, &self.signatures.1)
    }

    /// Whether it is between these two.
    #[must_use]
    pub fn is_between(&self, one: UserId, other: UserId) -> bool {
        one != other && self.people == (one.min(other), one.max(other))
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
    /// How often the DJ had changed.
    pub dj_epoch: u32,
}

/// What an operation does.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[expect(
    clippy::large_enum_variant,
    reason = "it lives on the stack, for as long as it is looked at"
)]
pub enum OpBody {
    /// The author joins, or tells its new name.
    Join {
        /// Its name.
        name: String,
        /// Whose device it is; none for a bare speaker.
        person: Option<PersonCard>,
        /// Why a locked room or one for friends should let it in.
        admission: Option<Admission>,
        /// That its person is a friend of the room's owner.
        friendship: Option<Friendship>,
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
    /// The coordinator: whose devices have come, and whose have been gone for a while.
    Presence {
        /// These people are here.
        here: Vec<UserId>,
        /// These are not.
        away: Vec<UserId>,
    },
    /// Out of the room; may come back after a while.
    Kick {
        /// Who.
        subject: Subject,
    },
    /// Out of the room until let in again.
    Ban {
        /// Who.
        subject: Subject,
    },
    /// May come back.
    Unban {
        /// Who.
        subject: Subject,
    },
    /// Takes a person the word, or gives it back.
    Silence {
        /// Whose.
        user: UserId,
        /// Takes or gives.
        silenced: bool,
    },
    /// The room is no more.
    Delete,
    /// For an entry of the queue to come earlier in the turn of whoever added it.
    UpVote {
        /// Which.
        entry: EntryKey,
        /// For it, or no longer.
        up: bool,
    },
    /// The author's person becomes DJ, where there is none.
    DjTake,
    /// The DJ hands over.
    DjGive {
        /// To whom.
        to: UserId,
    },
    /// The DJ steps down.
    DjDrop,
    /// The owner says who is DJ.
    DjAppoint {
        /// Who.
        to: UserId,
    },
    /// One of those who are here becomes DJ; the log decides which.
    DjRandom,
    /// Opens a vote. Its author's person has voted yes with it, where yes can be said.
    CallVote(VoteCall),
    /// A person's vote.
    Vote {
        /// In which session.
        session: SessionId,
        /// For what.
        choice: Choice,
    },
    /// A word to everybody.
    Chat {
        /// It.
        text: String,
    },
    /// The owner changes a setting.
    Set(Setting),
    /// The owner locks the room, or opens it.
    Lock {
        /// What the password becomes by stretching; none opens the room.
        secret: Option<[u8; 32]>,
    },
    /// The owner is friends with somebody no longer: an old certificate does not open a room for
    /// friends any more, also while the owner is away.
    EndFriendships {
        /// With whom, and up to when nothing holds.
        ended: Vec<EndedFriendship>,
    },
}

/// A friendship of a room's owner that is over.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct EndedFriendship {
    /// The other one, as [`ended_mark`](codec::ended_mark) has it: it tells nobody's id, and who
    /// knows somebody's id can find out whether it is theirs.
    pub mark: [u8; 16],
    /// The latest beginning of a friendship that does not hold, Unix seconds.
    pub since: u64,
}

/// Who is sent out.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum Subject {
    /// A person, with all devices.
    Person(UserId),
    /// A device.
    Device(NodeId),
}

/// What is voted on.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VoteKind {
    /// Who is DJ.
    Election,
    /// Whether the DJ goes.
    Mutiny,
    /// Whether what plays is skipped.
    Skip,
    /// Whether a person is sent out.
    Kick,
}

impl VoteKind {
    /// All of them.
    pub const ALL: [VoteKind; 4] =
        [VoteKind::Election, VoteKind::Mutiny, VoteKind::Skip, VoteKind::Kick];

    /// One word, for people and for programs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            VoteKind::Election => "election",
            VoteKind::Mutiny => "mutiny",
            VoteKind::Skip => "skip",
            VoteKind::Kick => "kick",
        }
    }
}

/// A vote to be opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum VoteCall {
    /// Who is DJ.
    Election,
    /// Whether the DJ goes.
    Mutiny {
        /// How often the DJ had changed: it was meant for this one.
        dj_epoch: u32,
    },
    /// Whether what plays is skipped.
    Skip {
        /// It.
        segment: SegmentId,
    },
    /// Whether a person is sent out.
    Kick {
        /// Who.
        user: UserId,
    },
}

impl VoteCall {
    /// What is voted on.
    #[must_use]
    pub fn kind(&self) -> VoteKind {
        match self {
            VoteCall::Election => VoteKind::Election,
            VoteCall::Mutiny { .. } => VoteKind::Mutiny,
            VoteCall::Skip { .. } => VoteKind::Skip,
            VoteCall::Kick { .. } => VoteKind::Kick,
        }
    }
}

/// A person's vote.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub enum Choice {
    /// Let it be done.
    Yes,
    /// Leave it.
    No,
    /// In an election: this person.
    For(UserId),
}

/// Who may control the music.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Control {
    /// The DJ; with no DJ, whoever may be one.
    Dj,
    /// The owner.
    Owner,
    /// Everybody.
    #[default]
    Everyone,
}

/// What follows when the DJ vanishes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnDjLeave {
    /// An election.
    Elect,
    /// Somebody else by lot.
    Random,
    /// The music pauses.
    Pause,
    /// Nothing: they stay DJ.
    #[default]
    Keep,
}

/// In which order the queue plays.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum QueueOrder {
    /// People in turn.
    #[default]
    Fair,
    /// As things come.
    Fifo,
    /// As things come, and only the DJ and the owner change it.
    Dj,
}

/// What guests are let do.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "a set of four")]
pub struct GuestRights {
    /// To vote.
    pub vote: bool,
    /// To chat.
    pub chat: bool,
    /// To add to the queue.
    pub queue: bool,
    /// To control the music and to be DJ.
    pub control: bool,
}

impl Default for GuestRights {
    fn default() -> GuestRights {
        GuestRights { vote: true, chat: true, queue: true, control: false }
    }
}

/// One setting of a room, as it is to be. Thresholds are counted in hundredths of a percent.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Setting {
    /// What the room is called.
    Name(String),
    /// Who may control the music.
    Control(Control),
    /// The share that a vote needs, unless its kind has its own.
    VoteThreshold(u16),
    /// The share that a vote of one kind needs; none takes the common one.
    KindThreshold(VoteKind, Option<u16>),
    /// How long votes are open.
    VoteTimeout(Span),
    /// How long a removed DJ may not be DJ again.
    DjCooldown(Span),
    /// After a mutiny somebody becomes DJ by lot.
    AutoRandomDj(bool),
    /// What follows when the DJ vanishes.
    OnDjLeave(OnDjLeave),
    /// Only friends of the owner come in.
    FriendsOnly(bool),
    /// What guests are let do.
    GuestsMay(GuestRights),
    /// In which order the queue plays.
    QueueOrder(QueueOrder),
    /// Unplayed entries of one person.
    QueueLimit(u16),
    /// Unplayed entries in all.
    QueueMax(u16),
    /// People in the room.
    MaxMembers(u16),
    /// A locked room tells strangers its name.
    AnnounceName(bool),
    /// Guests of one address that vote.
    GuestsPerAddress(u8),
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
        matches!(kind, 1..=8 | 10..=16 | 20..=32 | 40..=44 | 50 | 51 | 60 | 70..=72)
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
            OpBody::Presence { .. } => 3,
            OpBody::Kick { .. } => 4,
            OpBody::Ban { .. } => 5,
            OpBody::Unban { .. } => 6,
            OpBody::Silence { .. } => 7,
            OpBody::Delete => 8,
            OpBody::UpVote { .. } => 16,
            OpBody::DjTake => 40,
            OpBody::DjGive { .. } => 41,
            OpBody::DjDrop => 42,
            OpBody::DjAppoint { .. } => 43,
            OpBody::DjRandom => 44,
            OpBody::CallVote(_) => 50,
            OpBody::Vote { .. } => 51,
            OpBody::Chat { .. } => 60,
            OpBody::Set(_) => 70,
            OpBody::Lock { .. } => 71,
            OpBody::EndFriendships { .. } => 72,
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

    /// There is no room to look at or to act in.
    #[must_use]
    pub fn not_in_room() -> Refusal {
        Refusal::new(
            RefusalCode::NotInRoom,
            "this device is in no room",
            "`groovebox rooms` lists rooms, `groovebox room join CODE` enters one, and `groovebox \
             room create` makes one",
        )
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
    /// Only the DJ may do that.
    NotDj,
    /// Only the owner may do that.
    NotOwner,
    /// Only a person may do that, and this device has none.
    NoUser,
    /// This person may not do that.
    NotAllowed,
    /// Something has to pass first; `retry_after` says how long.
    Cooldown,
    /// This person has voted.
    AlreadyVoted,
    /// A vote of that kind is open.
    VoteOpen,
    /// No vote of that kind is open, or this person has no vote in it.
    NotVoting,
    /// The password is wrong.
    BadPassword,
    /// The person or device was banned from the room.
    Banned,
    /// The track was played not long ago.
    PlayedRecently,
    /// The person has as much in the queue as one may have.
    QueueLimit,
    /// The name is no name, or somebody else's.
    NameTaken,
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
