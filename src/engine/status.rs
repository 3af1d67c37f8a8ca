//! What front ends see of a node: one immutable value, made anew when something changed, with
//! the stable names of `status --json`. What does not exist yet is null or empty, never of
//! another shape.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::base::OpId;
use crate::engine::friends::Discoverable;
use crate::engine::room::{DjEnd, EndReason};
use crate::wire::message::{Level, OutputState, SyncState};
use crate::wire::op::{MemberKind, Repeat};

/// The whole of it.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Status {
    /// This device.
    pub node: NodeStatus,
    /// The room it is in.
    pub room: Option<RoomStatus>,
    /// The room's devices, by name.
    pub members: Vec<MemberStatus>,
    /// What sounds.
    pub playback: PlaybackStatus,
    /// What comes next, in order.
    pub queue: Vec<QueueStatus>,
    /// Files that come from other devices at the moment.
    #[serde(default)]
    pub fetching: Vec<FetchStatus>,
    /// The room's people, by name.
    #[serde(default)]
    pub people: Vec<PersonStatus>,
    /// Open votes.
    pub votes: Vec<VoteStatus>,
    /// Other rooms in reach.
    pub rooms: Vec<RoomInReach>,
    /// Nodes known, connected or not.
    pub peers: Vec<PeerStatus>,
}

/// This device.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct NodeStatus {
    /// Its identity, 64 hexadecimal digits.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The program's version.
    pub version: String,
    /// Since its start.
    pub uptime_s: u64,
    /// UDP port at which other devices reach it.
    pub port: u16,
    /// The person whose device it is.
    #[serde(default)]
    pub user: Option<UserStatus>,
    /// Whether its radio sleeps between packets, which makes it answer late; nothing without
    /// a radio.
    #[serde(default)]
    pub wifi_power_save: Option<PowerSave>,
    /// Whether its disk takes what happens.
    #[serde(default)]
    pub disk: DiskState,
    /// What was found damaged on its disk since its start, and what became of it.
    #[serde(default)]
    pub disk_notice: Option<String>,
    /// The room uses a later version, and what that means here.
    #[serde(default)]
    pub outdated: Option<String>,
    /// Where another device with this one's identity was seen in the last hour: one of the
    /// two was set up with a copy of the other's state.
    #[serde(default)]
    pub twin: Option<String>,
}

/// A person, as their own device knows them.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct UserStatus {
    /// Their identity, 64 hexadecimal digits.
    pub id: String,
    /// What they ask to be called.
    pub name: String,
    /// As they want to be called.
    pub display: String,
}

/// Whether a radio sleeps between packets.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PowerSave {
    /// It does.
    On,
    /// It does not.
    Off,
    /// It does not tell.
    Unknown,
}

/// Whether a device's disk takes what happens in the room.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DiskState {
    /// It does.
    #[default]
    Ok,
    /// Not as fast as it happens.
    Slow,
    /// It has no space left.
    Full,
    /// It reports errors.
    Failed,
}

/// The room.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct RoomStatus {
    /// Its identity, 64 hexadecimal digits.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its code.
    pub code: String,
    /// Whether a password is asked for.
    pub locked: bool,
    /// The coordinator's node id, if there is one at the moment.
    pub coordinator: Option<String>,
    /// The coordinator's term.
    pub term: TermStatus,
    /// Name of who owns it.
    pub owner: Option<String>,
    /// Name of who acts as owner while the owner has been away for long.
    #[serde(default)]
    pub acting_owner: Option<String>,
    /// Name of who is DJ.
    pub dj: Option<String>,
    /// Room time since when, ms.
    #[serde(default)]
    pub dj_since: Option<i64>,
    /// Its settings as people write them.
    pub settings: BTreeMap<String, String>,
    /// Whom it keeps out.
    #[serde(default)]
    pub banned: Vec<String>,
    /// Whom the owner has taken the word in the chat, here or not.
    #[serde(default)]
    pub muted: Vec<String>,
    /// Last entry of its log.
    pub log_idx: u64,
    /// Last entry that would survive a power cut of the whole house.
    pub durable_idx: u64,
    /// Hash of the state there: equal on all members at equal `log_idx`.
    pub state_hash: String,
}

/// A term as programs see it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct TermStatus {
    /// Its number.
    pub n: u64,
    /// Its owner.
    pub node: String,
    /// The owner's start counter.
    pub boot: u32,
}

/// The end of the room's log as this device has it.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct LogStatus {
    /// Last entry.
    pub last_idx: u64,
    /// Last entry that enough devices have written.
    pub replicated: u64,
    /// Last entry that the disks of enough devices have synced.
    pub durable: u64,
    /// The last entries, oldest first.
    pub entries: Vec<LogEntryStatus>,
    /// Operations that wait for a coordinator's answer.
    pub waiting: Vec<WaitingStatus>,
    /// Operations that were left out when two histories of the room met, oldest first.
    pub dropped: Vec<DroppedStatus>,
}

/// What became of one of this device's own operations.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct OperationStatus {
    /// Its place in the log; null while it waits for a coordinator.
    pub idx: Option<u64>,
    /// local, replicated or durable.
    pub level: Level,
}

/// An entry of the log.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct LogEntryStatus {
    /// Counts from 1.
    pub idx: u64,
    /// The reign that ordered it.
    pub term: TermStatus,
    /// Room time at which it takes effect, ms.
    pub at_ms: i64,
    /// Name of the device that made it.
    pub author: String,
    /// For programs: join, leave, add, remove, clear, pause, resume, stop, seek, next, prev, begin,
    /// fail, settle, volume, mute, `room_volume`.
    pub kind: String,
    /// What it did, as a part of a sentence that begins with its author.
    pub what: String,
    /// local, replicated or durable.
    pub level: Level,
}

/// An operation that waits.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct WaitingStatus {
    /// Name of the device that made it.
    pub author: String,
    /// As in an entry.
    pub kind: String,
    /// What it would do.
    pub what: String,
}

/// An operation that was left out.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DroppedStatus {
    /// Name of the device that made it.
    pub author: String,
    /// Room time at which it was made, ms; null if its author did not know the time.
    pub created_ms: Option<i64>,
    /// What it would have done.
    pub what: String,
    /// Why it was left out.
    pub why: String,
}

/// One device of the room.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct MemberStatus {
    /// Its identity.
    pub id: String,
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: MemberKind,
    /// Whose it is.
    pub user: Option<String>,
    /// owner, dj, listener or guest.
    pub role: String,
    /// Whether it is here now.
    pub online: bool,
    /// Room time of its joining, ms.
    pub joined_at: i64,
    /// Room time at which it was last heard, ms.
    pub last_active: Option<i64>,
    /// 0 to 100.
    pub volume: u8,
    /// Whether it is muted.
    pub muted: bool,
    /// Its output.
    pub output: OutputState,
    /// good, weak or excluded.
    pub quality: String,
    /// How well it follows; null while nothing is known.
    pub sync: Option<SyncStatus>,
}

/// A person of the room.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct PersonStatus {
    /// Their identity, 64 hexadecimal digits.
    pub id: String,
    /// What they are called here.
    pub name: String,
    /// As they want to be called.
    pub display: String,
    /// owner, dj, listener or guest.
    pub role: String,
    /// Whether they are here.
    pub here: bool,
    /// The owner has taken them the word in the chat.
    pub muted: bool,
    /// Room time at which they came, ms.
    pub joined_at: i64,
    /// Room time at which they last did something, ms.
    pub last_active: i64,
    /// How long they may not be DJ yet, ms; null if they may.
    pub cooldown_ms: Option<i64>,
    /// Names of their devices.
    pub devices: Vec<String>,
}

/// A vote that is open.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct VoteStatus {
    /// Its name, 16 hexadecimal digits.
    pub id: String,
    /// election, mutiny, skip or kick.
    pub kind: String,
    /// Name of who called it; null where a mutiny or a vanished DJ did.
    pub caller: Option<String>,
    /// Name of whom it is about, or title of what is to be skipped.
    pub target: Option<String>,
    /// Votes for it.
    #[serde(rename = "for")]
    pub votes_for: u32,
    /// Votes against it.
    pub against: u32,
    /// In an election: votes of each candidate, most first.
    pub tally: Vec<CandidateStatus>,
    /// Votes that decide.
    pub required: u32,
    /// Who has a vote.
    pub electorate: u32,
    /// Room time at which it was opened, ms.
    pub opened_at: i64,
    /// Room time at which it is over at the latest, ms.
    pub closes_at: i64,
    /// From now until then, ms.
    pub closes_in_ms: i64,
    /// What this device's person voted: yes, no or a name; null if nothing.
    pub my_vote: Option<String>,
    /// Whether this device's person has a vote.
    pub may_vote: bool,
}

/// A candidate of an election.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct CandidateStatus {
    /// Name.
    pub name: String,
    /// Votes.
    pub votes: u32,
}

/// A vote that is over.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct PastVoteStatus {
    /// Its name, 16 hexadecimal digits.
    pub id: String,
    /// election, mutiny, skip or kick.
    pub kind: String,
    /// Name of who called it.
    pub caller: Option<String>,
    /// Name of whom it was about, or who was elected.
    pub about: Option<String>,
    /// passed, failed, elected or moot.
    pub result: String,
    /// Votes for it; in an election, for the winner.
    #[serde(rename = "for")]
    pub votes_for: u32,
    /// Votes against it; in an election, for others.
    pub against: u32,
    /// What would have decided.
    pub required: u32,
    /// Who had a vote.
    pub electorate: u32,
    /// How long ago it was opened, ms.
    pub opened_ago_ms: i64,
}

/// The DJ, and who was it before.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct DjStatus {
    /// Name of who is DJ now.
    pub dj: Option<String>,
    /// For how long, ms.
    pub for_ms: Option<i64>,
    /// Who was DJ before, the latest first.
    pub history: Vec<PastDjStatus>,
}

/// A DJ of the past.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PastDjStatus {
    /// Name.
    pub name: String,
    /// How long ago they became DJ, ms.
    pub from_ago_ms: i64,
    /// How long ago they were DJ no longer, ms.
    pub to_ago_ms: i64,
    /// mutiny, vote, voluntary, disconnect or owner.
    pub reason: DjEnd,
}

/// Something said in the chat.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct ChatStatus {
    /// Its name: author, start and number of the operation.
    pub id: String,
    /// Name of who said it.
    pub name: String,
    /// Their identity.
    pub user: String,
    /// What.
    pub text: String,
    /// When, by this device's wall clock, Unix ms; null until it is known.
    pub said_at: Option<i64>,
    /// How long ago, ms.
    pub ago_ms: i64,
}

impl ChatStatus {
    /// The name of what an operation said.
    #[must_use]
    pub fn id(op: &OpId) -> String {
        format!("{}-{}-{}", op.author, op.boot, op.seq)
    }
}

/// How well a device follows the room's time.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct SyncStatus {
    /// synced, syncing or `out_of_sync`.
    pub state: SyncState,
    /// Playout error against the room's timeline as the device sees it.
    pub offset_us: f64,
    /// Three standard deviations of the statistical error.
    pub error_us: f64,
    /// Bound of what no two-way exchange can see.
    pub asymmetry_us: f64,
    /// Smallest round trip.
    pub rtt_us: f64,
    /// Mean round trip.
    pub rtt_avg_us: f64,
    /// Standard deviation of the round trips.
    pub jitter_us: f64,
    /// Room against this device's clock.
    pub drift_ppm: f64,
    /// Converter against this device's clock.
    pub dac_ppm: f64,
    /// Correction beyond both.
    pub correction_ppm: f64,
    /// Decoded audio waiting.
    pub buffer_ms: f64,
    /// Times the output ran dry.
    pub underruns: u32,
}

/// What sounds.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct PlaybackStatus {
    /// stopped, buffering, playing or paused.
    pub state: PlaybackState,
    /// Position in the track.
    pub position_ms: i64,
    /// Length of the track.
    pub duration_ms: i64,
    /// Room time at which this stretch began, ms.
    pub started_at: Option<i64>,
    /// The track; null when stopped.
    pub track: Option<TrackStatus>,
    /// Room volume: the loudest member's, 0 to 100.
    pub volume: u8,
    /// What comes again by itself: off, one or all.
    #[serde(default)]
    pub repeat: Repeat,
    /// What was left out of the queue in the last minute, and why.
    #[serde(default)]
    pub notice: Option<String>,
}

/// stopped, buffering, playing or paused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PlaybackState {
    /// Nothing sounds and no position is remembered.
    #[default]
    Stopped,
    /// Waiting until enough speakers have enough of the track.
    Buffering,
    /// It sounds.
    Playing,
    /// A position is remembered.
    Paused,
}

/// A track.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct TrackStatus {
    /// Its content hash.
    pub id: String,
    /// Title.
    pub title: String,
    /// Who plays.
    pub artists: Vec<String>,
    /// Album.
    pub album: String,
    /// file for now.
    pub source: String,
    /// The device that brought it.
    pub added_by: String,
}

/// A file of which a part is here, while the rest is fetched from other devices.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FetchStatus {
    /// Its content hash, which is the track's id.
    pub id: String,
    /// How much of it is here.
    pub percent: u8,
}

/// An entry of the queue.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct QueueStatus {
    /// Its number, for `queue remove`.
    pub id: u64,
    /// What.
    pub track: TrackStatus,
    /// How long.
    pub duration_ms: i64,
    /// No device that is here has it: it is passed over.
    #[serde(default)]
    pub unavailable: bool,
    /// People who want it earlier.
    #[serde(default)]
    pub up_votes: u32,
}

/// What was played, once.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct HistoryStatus {
    /// Its name: no other row has it. 16 hexadecimal digits.
    pub id: String,
    /// What.
    pub track: HeardTrack,
    /// Who was DJ then.
    pub dj: Option<String>,
    /// When it began to sound, by this device's wall clock, Unix ms.
    pub started_at: i64,
    /// When it was heard last, by this device's wall clock, Unix ms.
    pub ended_at: i64,
    /// From one to the other, pauses included.
    pub lasted_ms: i64,
    /// finished, skipped, stopped, unavailable or failed.
    pub reason: EndReason,
    /// People in the room at its end.
    pub present: u32,
}

/// A track that was played.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct HeardTrack {
    /// Its content hash.
    pub id: String,
    /// Title.
    pub title: String,
    /// Who plays, in one line.
    pub artists: String,
    /// Album.
    pub album: String,
    /// file for now.
    pub source: String,
    /// The device that brought it.
    pub added_by: String,
}

/// Another room.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RoomInReach {
    /// Its identity.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its code.
    pub code: String,
    /// Whether a password is asked for.
    pub locked: bool,
    /// Devices present.
    pub devices: u16,
    /// Title of what plays.
    pub playing: Option<String>,
    /// Whether this device is in it.
    pub joined: bool,
    /// Whether one of its devices is here; else it is one that this device was in.
    #[serde(default = "yes")]
    pub in_reach: bool,
}

fn yes() -> bool {
    true
}

/// A node that is known.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PeerStatus {
    /// Its identity.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The address it is or was reached at.
    pub address: Option<String>,
    /// Whether it is connected.
    pub connected: bool,
    /// The code of the room it is in.
    pub room: Option<String>,
    /// Bytes of audio sent to it over QUIC since the start.
    pub sent_bytes: u64,
    /// Bytes of audio received from it over QUIC since the start.
    pub received_bytes: u64,
}

/// A person's friends, and what is asked; not part of the status, which guests may see.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct FriendsStatus {
    /// Who may find the person by name; null without a person.
    pub discoverable: Option<Discoverable>,
    /// Friends, by name.
    pub friends: Vec<FriendStatus>,
    /// Requests of this person.
    pub sent: Vec<FriendRequestStatus>,
    /// Requests to this person.
    pub received: Vec<FriendRequestStatus>,
    /// What the last search found.
    pub found: Vec<FoundStatus>,
    /// Unix seconds now, by the clock that `since` is counted by.
    pub now: u64,
    /// How far a second device is.
    pub pairing: PairingStatus,
}

/// A friend.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FriendStatus {
    /// Their identity, 64 hexadecimal digits.
    pub id: String,
    /// What they are called.
    pub name: String,
    /// As they want to be called.
    pub display: String,
    /// Since when, Unix seconds.
    pub since: u64,
    /// Whether a device of theirs is in reach.
    pub online: bool,
}

/// A request to be friends.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FriendRequestStatus {
    /// The other one's identity.
    pub id: String,
    /// What they are called.
    pub name: String,
    /// As they want to be called.
    pub display: String,
    /// Since when, Unix seconds.
    pub since: u64,
    /// Whether it has reached a device of theirs.
    pub delivered: bool,
}

/// Somebody who was found by name.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FoundStatus {
    /// Their identity.
    pub id: String,
    /// What they are called.
    pub name: String,
    /// As they want to be called.
    pub display: String,
    /// Whether a device of theirs is in reach.
    pub online: bool,
    /// Whether they are a friend.
    pub friend: bool,
}

/// How far the pairing of a second device is.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct PairingStatus {
    /// idle, waiting, calling, compare (the digits), agreed (here; the other device is awaited),
    /// done or failed.
    pub state: String,
    /// Six digits that must be the same on both devices.
    pub code: Option<String>,
    /// The other device.
    pub device: Option<String>,
    /// Why it failed.
    pub why: Option<String>,
}

impl PairingStatus {
    /// With nothing but a state.
    #[must_use]
    pub fn of(state: &str) -> PairingStatus {
        PairingStatus { state: state.into(), ..PairingStatus::default() }
    }
}
