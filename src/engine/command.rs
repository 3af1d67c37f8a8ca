//! What a person or a program asks of a node, whichever front end it came through.

use serde::{Deserialize, Serialize};

use crate::base::{EntryId, OpId, RoomId, RoomTime, Span};
use crate::engine::friends::FriendCommand;
use crate::engine::pairing::PairCommand;
use crate::identity::{LocalUser, Password};
use crate::wire::message::Level;
use crate::wire::op::{Repeat, Role, Setting, VoteKind};
use crate::wire::{Refusal, Track};

/// Ties a reply to its command.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RequestId(pub u64);

/// One request. Files have been read and hashed before; the engine sees tracks only.
#[derive(Clone, PartialEq, Debug)]
pub enum Command {
    /// Play these now.
    Play {
        /// In order.
        tracks: Vec<Track>,
    },
    /// Put these at the end of the queue.
    Add {
        /// In order.
        tracks: Vec<Track>,
    },
    /// Take entries out of the queue.
    Remove {
        /// Which.
        entries: Vec<EntryId>,
    },
    /// Empty the queue.
    Clear,
    /// Put an entry of the queue elsewhere.
    Move {
        /// Which.
        entry: EntryId,
        /// Its place from then on, counted from 1.
        place: usize,
    },
    /// The queue in another order.
    Shuffle,
    /// What comes again by itself.
    Repeat {
        /// From now on.
        mode: Repeat,
    },
    /// Pause.
    Pause,
    /// Go on, or begin with the queue.
    Resume,
    /// Pause if playing, else resume.
    Toggle,
    /// Stop.
    Stop,
    /// To a position of the current track.
    Seek {
        /// Whence.
        to: SeekTo,
    },
    /// The next entry.
    Next,
    /// The previous entry, or the current one again.
    Prev,
    /// Volume of one member.
    Volume {
        /// Whose; none is this device.
        member: Option<String>,
        /// The new value.
        change: VolumeChange,
    },
    /// Volume of the room.
    RoomVolume {
        /// The new value.
        change: VolumeChange,
    },
    /// Mutes one member, or lets it sound.
    Mute {
        /// Whose; none is this device.
        member: Option<String>,
        /// On, off, or the other of both.
        muted: Option<bool>,
    },
    /// Makes a room and moves there.
    CreateRoom {
        /// Its name; none lets the node make one up.
        name: Option<String>,
        /// What locks it from the beginning.
        password: Option<Password>,
    },
    /// Moves into another room.
    JoinRoom {
        /// A code, a name or an id, `host:port` of a member, or an invite.
        room: String,
        /// What opens it, if it is locked.
        password: Option<Password>,
    },
    /// Leaves the room; the node then stays alone until told otherwise.
    LeaveRoom,
    /// Says whose device this is.
    BecomeUser {
        /// Whose; none makes it a bare speaker.
        user: Option<LocalUser>,
    },
    /// Sends somebody out.
    Kick {
        /// A person or a device.
        who: String,
    },
    /// Sends somebody out for good.
    Ban {
        /// A person or a device.
        who: String,
    },
    /// Lets somebody come back.
    Unban {
        /// As they are listed.
        who: String,
    },
    /// Takes a person the word in the chat, or gives it back.
    Silence {
        /// Whom.
        who: String,
        /// Takes or gives.
        silenced: bool,
    },
    /// The room is to be no more.
    DeleteRoom,
    /// For an entry of the queue to come earlier in its person's turn.
    UpVote {
        /// Which.
        entry: EntryId,
        /// For it, or no longer.
        up: bool,
    },
    /// Become DJ.
    DjTake,
    /// Hand over as DJ.
    DjGive {
        /// To whom.
        to: String,
    },
    /// Step down as DJ.
    DjDrop,
    /// Say who is DJ.
    DjAppoint {
        /// Who.
        to: String,
    },
    /// A DJ by lot.
    DjRandom,
    /// Open a vote.
    CallVote {
        /// On what.
        kind: VoteKind,
        /// Whom a kick would send out.
        who: Option<String>,
    },
    /// Vote.
    Vote {
        /// In which; none is the one that is open.
        kind: Option<VoteKind>,
        /// For what.
        word: VoteWord,
    },
    /// Say something to all.
    Chat {
        /// What.
        text: String,
    },
    /// Change a setting of the room.
    Set {
        /// Which, and to what.
        setting: Setting,
    },
    /// Lock the room, or open it.
    Lock {
        /// Which room: the password was stretched for it.
        room: RoomId,
        /// The stretched password; none opens it.
        secret: Option<[u8; 32]>,
    },
    /// About friends.
    Friend(FriendCommand),
    /// About a second device of the person.
    Pair(PairCommand),
    /// Makes an invite into the room; the answer's message is its text.
    Invite {
        /// How many may come in with it.
        uses: u32,
        /// How long it lasts.
        lasts: Span,
        /// How high whoever comes with it may rise; none is as high as the one who makes it.
        cap: Option<Role>,
    },
    /// Gives devices the coordinator's state anew.
    Resync {
        /// Which; none is all of them.
        member: Option<String>,
    },
}

/// A vote as a person says it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum VoteWord {
    /// Yes.
    Yes,
    /// No.
    No,
    /// For a person.
    For(String),
}

/// A position to seek to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SeekTo {
    /// From the beginning.
    Absolute(Span),
    /// From where it is; negative goes back.
    Relative(Span),
}

/// A new volume, 0 to 100.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VolumeChange {
    /// This one.
    To(u8),
    /// Louder, or softer when negative; stays within 0 to 100.
    By(i8),
}

/// What became of a command.
pub type CommandReply = Result<Done, Refusal>;

/// A command that was accepted.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Done {
    /// The operation that carries it; none if nothing had to be ordered.
    pub op: Option<OpName>,
    /// Its index in the log.
    pub idx: Option<u64>,
    /// How safe it is.
    pub level: Level,
    /// When it takes effect, in room time.
    pub effective_at: Option<RoomTime>,
    /// A sentence for a person, where there is more to say than "done".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// An operation's name as programs see it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct OpName {
    /// Who made it.
    pub author: String,
    /// The author's start counter.
    pub boot: u32,
    /// Its number within that.
    pub seq: u64,
}

impl From<OpId> for OpName {
    fn from(id: OpId) -> OpName {
        OpName { author: id.author.to_string(), boot: id.boot, seq: id.seq }
    }
}
