//! One node: the sub-machines put together. `handle_input` and `handle_timeout` go in,
//! `poll_output` and `poll_timeout` come out; the daemon does what the outputs say and decides
//! nothing itself.
//!
//! | file | what it decides |
//! |---|---|
//! | `mod.rs` | which sub-machine an input concerns |
//! | `rooms.rs` | which room to be in: found, join, come back |
//! | `door.rs` | how a locked room is entered, seen from both sides |
//! | `gate.rs` | who hears and says what while a room is locked |
//! | `departure.rs` | how a room is left, for another one or for none |
//! | `reopen.rs` | how this device goes back into a room that it left last |
//! | `life.rs` | how the lead is given away, and how a node ends |
//! | `replication.rs` | how operations become entries, and reach everybody |
//! | `heal.rs` | how logs that part become one again, and what of them stays |
//! | `outbox.rs` | what waits for a coordinator's answer |
//! | `agree.rs` | whether everybody has the same, and how safe it is |
//! | `commands.rs` | what a person's request means as an operation |
//! | `people.rs` | what people ask of each other; who is here; what follows for who is sent out |
//! | `friends.rs` | who is told what about friends, and when |
//! | `pairing.rs` | how a second device gets its person |
//! | `playback.rs` | what to fetch, to prepare and to sound; when a waiting segment begins |
//! | `reports.rs` | who hears how this device is doing, and when |
//! | `quality.rs` | how good a member's network is, and what follows |
//! | `holders.rs` | what nobody has, so that it is passed over |
//! | `past.rs` | what was played, for the disk; what was left out, for people |
//! | `position.rs` | where the music stood, and goes on, after a house was dark |
//! | `disk.rs` | what follows when the disk takes nothing |
//! | `outdated.rs` | what follows when the log has something of a later version |
//! | `view.rs` | what front ends see |

mod agree;
mod commands;
mod departure;
mod disk;
mod door;
mod friends;
mod gate;
mod heal;
mod holders;
mod life;
mod outbox;
mod outdated;
mod pairing;
mod past;
mod people;
mod playback;
mod position;
mod quality;
mod reopen;
mod replication;
mod reports;
mod rooms;
mod sizes;
#[cfg(test)]
mod tests;
mod view;

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;

use crate::base::rng::Rng;
use crate::base::{
    BlobHash, LocalTime, NodeId, OpId, RoomId, RoomTime, SegmentId, Span, Term, UserId,
};
use crate::engine::clock::{ClockModel, RoomClock, raw_answer, raw_source};
use crate::engine::command::{Command, CommandReply, RequestId};
use crate::engine::election::{DeviceFacts, Election, ElectionOutput, MemberFacts, Role};
use crate::engine::friends::SavedFriends;
use crate::engine::membership::{Intent, Membership, MembershipOutput};
use crate::engine::pairing::Pairing;
use crate::engine::planted::{self, Bug};
use crate::engine::playout::PlayoutPlan;
use crate::engine::room::{ChatLine, Heard, Room};
use crate::engine::status::DiskState;
use crate::engine::transfer::{Failure, Fetch, Have, Transfer};
use crate::identity::{LocalUser, NodeKey, Password, SecretRng};
use crate::wire::message::{DroppedOp, LogPlace, OutputState, Snapshot, Start};
use crate::wire::{
    Announcement, Datagram, Entry, Heartbeat, HeartbeatAck, Hello, Message, Op, PreVote,
    PreVoteReply, Report, RoomCard, Track,
};

pub use friends::FriendNews;
pub use position::{Position, RestoredPosition};
use quality::Gauge;
pub use quality::Quality;

use commands::Requests;
use departure::{Departure, Farewell, Unheard};
use door::Door;
use friends::Friends;
use life::Condition;
use people::Presences;
use playback::Playback;
use reopen::TermsLeft;
use replication::Replication;
use rooms::Joining;

/// How often a node looks after what has no deadline of its own.
const TICK: Span = Span::from_millis(250);

/// How long a device with this one's identity is remembered after it was last seen: a person
/// must have the time to hear of it.
const TWIN_REMEMBERED: Span = Span::from_secs(3600);

/// What a node is made of and what it remembers.
pub struct NodeConfig {
    /// The device's key.
    pub key: Arc<NodeKey>,
    /// Raised and synced to disk before this start.
    pub boot: u32,
    /// The device's name.
    pub name: String,
    /// Whose device it is.
    pub user: Option<LocalUser>,
    /// What the person's devices know of their friends.
    pub friends: Option<SavedFriends>,
    /// The program's version.
    pub version: String,
    /// Seed of every draw that this node makes.
    pub seed: u64,
    /// From the system's random generator: what nobody may guess is drawn from it.
    pub secret: [u8; 32],
    /// Added to every playout time of this device.
    pub trim: Span,
    /// Peers to dial for ever.
    pub peers: Vec<SocketAddr>,
    /// Nodes met before.
    pub remembered: Vec<(NodeId, String, Vec<SocketAddr>)>,
    /// A person told it to be in no room.
    pub alone: bool,
    /// After a short outage of the whole house the music goes on by itself.
    pub resume: bool,
    /// Rooms it was in, the latest first.
    pub known_rooms: Vec<KnownRoom>,
    /// The room it was in.
    pub room: Option<RestoredRoom>,
}

/// A room that a device was in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KnownRoom {
    /// Its identity.
    pub id: RoomId,
    /// Its name.
    pub name: String,
    /// Its code.
    pub code: String,
    /// This device left it as the last one: it may open it again from its disk.
    pub left_last: bool,
}

/// A room as the disk had it.
#[derive(Debug)]
pub struct RestoredRoom {
    /// The state at some index.
    pub snapshot: Snapshot,
    /// Entries after it.
    pub entries: Vec<Entry>,
    /// Operations that had no answer yet.
    pub outbox: Vec<Op>,
    /// What merges had left out, oldest first.
    pub dropped: Vec<DroppedOp>,
    /// Where the music stood.
    pub position: Option<RestoredPosition>,
}

/// What happened.
#[derive(Debug)]
pub enum Input {
    /// A peer is up: hellos were exchanged.
    PeerConnected {
        /// Who.
        peer: NodeId,
        /// Where.
        address: SocketAddr,
        /// What it said of itself.
        hello: Hello,
        /// Keying material that only the two ends of this connection have.
        channel: [u8; 32],
    },
    /// A connected peer goes on from another address.
    PeerMoved {
        /// Who.
        peer: NodeId,
        /// Where it is now.
        address: SocketAddr,
    },
    /// A peer's connection is gone.
    PeerLost {
        /// Who.
        peer: NodeId,
    },
    /// A peer's host says that nobody listens there any more: a hint, and forgeable.
    PeerDoubted {
        /// Who.
        peer: NodeId,
    },
    /// An address could not be reached.
    DialFailed {
        /// Where.
        address: SocketAddr,
        /// Who was expected there.
        node: Option<NodeId>,
    },
    /// mDNS found a node.
    PeerDiscovered {
        /// What it says.
        announcement: Announcement,
        /// Where it is.
        addresses: Vec<SocketAddr>,
    },
    /// mDNS lost a node.
    PeerVanished {
        /// Who.
        node: NodeId,
    },
    /// Another device has proven this device's key.
    TwinSeen {
        /// Where it is.
        address: SocketAddr,
    },
    /// A person named a peer's address.
    PeerNamed {
        /// Where.
        address: SocketAddr,
    },
    /// A message came.
    MessageReceived {
        /// From whom.
        from: NodeId,
        /// What.
        message: Message,
    },
    /// A datagram came.
    DatagramReceived {
        /// From whom.
        from: NodeId,
        /// What.
        datagram: Datagram,
        /// When it arrived.
        at: LocalTime,
    },
    /// A password was stretched as [`Output::Stretch`] asked; none if there was no memory for it.
    Stretched {
        /// Who waits for it.
        id: RequestId,
        /// The room.
        room: RoomId,
        /// What it became.
        secret: Option<[u8; 32]>,
    },
    /// A person asked for something.
    CommandReceived {
        /// Whom to answer.
        id: RequestId,
        /// What.
        command: Command,
    },
    /// Entries are in the write-ahead log.
    Written {
        /// The room.
        room: RoomId,
        /// Up to here.
        idx: u64,
        /// Chain value there: it tells a report of entries that have made way since from one of
        /// those in their place.
        chain: [u8; 16],
    },
    /// Entries would survive a power cut.
    Synced {
        /// The room.
        room: RoomId,
        /// Up to here; reported as written before.
        idx: u64,
    },
    /// What the disk has of a room that [`Output::ReadRoom`] asked for.
    RoomRead {
        /// Which.
        room: RoomId,
        /// It; none if there is nothing, or nothing that can be read.
        restored: Option<Box<RestoredRoom>>,
    },
    /// The disk does not have the room as it is here: entries were lost on the way.
    RoomNotWritten {
        /// The room.
        room: RoomId,
    },
    /// The disk takes what happens, or does not any more.
    DiskReported(DiskState),
    /// A file of this device was damaged; it goes on without what was in it.
    DiskDamaged {
        /// What happened, for people.
        notice: String,
    },
    /// What the cache holds of a blob, asked for by [`Output::OpenBlob`].
    BlobOpened {
        /// Which.
        hash: BlobHash,
        /// What is there of it.
        have: Have,
    },
    /// The cache cannot keep what comes from other devices.
    CacheTroubled {
        /// Why, for people.
        why: String,
    },
    /// A decoder waits for a piece.
    PieceNeeded {
        /// Of which blob.
        hash: BlobHash,
        /// Which.
        piece: u32,
    },
    /// A piece came and verified.
    PieceArrived {
        /// Of which blob.
        hash: BlobHash,
        /// Which.
        piece: u32,
        /// Bytes that travelled.
        bytes: u64,
        /// From whom.
        from: NodeId,
    },
    /// A piece did not come, or was not what it should be.
    PieceFailed {
        /// Of which blob.
        hash: BlobHash,
        /// Which.
        piece: u32,
        /// From whom.
        from: NodeId,
        /// Why.
        failure: Failure,
    },
    /// A segment could sound now.
    SegmentPrimed {
        /// Which.
        segment: SegmentId,
    },
    /// A segment cannot be decoded here.
    SegmentFailed {
        /// Which.
        segment: SegmentId,
        /// Why.
        reason: String,
    },
    /// How the output is doing.
    PlayoutReported(PlayoutFacts),
    /// What the driver found out about this device, again whenever it changes.
    FitnessKnown(DeviceFacts),
    /// The wall clock was set, or is known for the first time.
    WallTime {
        /// Unix seconds.
        unix_s: u64,
    },
    /// The gateway answers, as [`Output::AskGateway`] asked.
    GatewayAnswered,
    /// The device slept.
    Suspended {
        /// For how long.
        gap: Span,
    },
    /// The program is to end.
    ShutdownRequested,
}

/// What the playout thread tells of itself.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct PlayoutFacts {
    /// The output.
    pub output: OutputState,
    /// Playout error, seconds.
    pub error_s: f64,
    /// Correction beyond both drifts, ppm.
    pub correction_ppm: f64,
    /// Converter against this device's clock, ppm.
    pub dac_ppm: f64,
    /// Standard deviation of the converter model, seconds.
    pub dac_sigma_s: f64,
    /// Decoded audio waiting, ms.
    pub buffer_ms: f64,
    /// Times it ran dry.
    pub underruns: u32,
    /// From writing a frame to hearing it.
    pub depth: Span,
    /// Whether the servo follows closely.
    pub locked: bool,
}

/// What to do.
#[derive(Debug)]
#[must_use]
#[expect(clippy::large_enum_variant, reason = "the largest, messages, are also the most frequent")]
pub enum Output {
    /// Send a message.
    Send {
        /// To whom.
        to: NodeId,
        /// What.
        message: Message,
    },
    /// Send a datagram; stamp probes and their replies just before.
    SendDatagram {
        /// To whom.
        to: NodeId,
        /// What.
        datagram: Datagram,
    },
    /// Connect.
    Dial {
        /// Where.
        address: SocketAddr,
        /// Who is expected there.
        node: Option<NodeId>,
    },
    /// Ask the gateway for an echo, and say [`Input::GatewayAnswered`] if it comes within a moment.
    AskGateway,
    /// The room that hellos and the announcement show from now on, as strangers may see it.
    ShowRoom(Option<RoomCard>),
    /// Give pieces of files to these only; none is to everybody.
    Admit(Option<BTreeSet<NodeId>>),
    /// Stretch a password where that holds nothing up, and say [`Input::Stretched`].
    Stretch {
        /// Who waits for it.
        id: RequestId,
        /// For this room.
        room: RoomId,
        /// It.
        password: Password,
    },
    /// The line that the playout follows; none: be silent.
    SetClock(Option<ClockModel>),
    /// What to sound when.
    SetPlan(PlayoutPlan),
    /// Decode this segment from this frame on, and say when it is primed.
    Prepare {
        /// Its name.
        segment: SegmentId,
        /// What.
        track: Arc<Track>,
        /// From which frame.
        from: u64,
    },
    /// Nobody needs this segment any more.
    Release {
        /// Which.
        segment: SegmentId,
    },
    /// Make room for a blob and say what is there of it.
    OpenBlob {
        /// Which.
        hash: BlobHash,
        /// Its bytes.
        size: u64,
    },
    /// A blob that was opened is of no use any more: it may make way for others.
    CloseBlob {
        /// Which.
        hash: BlobHash,
    },
    /// Fetch a piece.
    FetchPiece(Fetch),
    /// Halve bulk sending for a while: probes are being delayed by it.
    ThrottleBulk {
        /// How long.
        span: Span,
    },
    /// A room was entered or its whole state replaced: write it; say [`Input::Written`] when
    /// done.
    SaveRoom(Box<Snapshot>),
    /// Write entries; say [`Input::Written`] when done.
    SaveEntries {
        /// The room.
        room: RoomId,
        /// In order.
        entries: Vec<Entry>,
    },
    /// Entries have made way for others: forget those after `to_idx`.
    RewindRoom {
        /// The room.
        room: RoomId,
        /// The last that stays.
        to_idx: u64,
    },
    /// Keep operations until they are answered.
    SaveOutbox {
        /// The room.
        room: RoomId,
        /// In order, behind those kept already.
        ops: Vec<Op>,
    },
    /// Operations were answered.
    DropOutbox {
        /// The room.
        room: RoomId,
        /// Which.
        ids: Vec<OpId>,
    },
    /// A merge left something out: keep it for people.
    SaveDropped {
        /// The room.
        room: RoomId,
        /// What.
        dropped: DroppedOp,
    },
    /// The log may be cut: write this state instead of the entries before it.
    CompactRoom(Box<Snapshot>),
    /// Where the music stands: write it with whatever is written next.
    SavePosition {
        /// The room.
        room: RoomId,
        /// Where.
        position: Position,
    },
    /// Rows of the room's history: write them; a segment that has one keeps it.
    SaveHistory {
        /// The room.
        room: RoomId,
        /// In the order in which they ended.
        rows: Vec<Heard>,
        /// The room's time now: how long ago that was.
        at: RoomTime,
    },
    /// Words of the chat: write them; one that has a row keeps it.
    SaveChat {
        /// The room.
        room: RoomId,
        /// In order.
        lines: Vec<ChatLine>,
        /// The room's time now: how long ago they were said.
        at: RoomTime,
    },
    /// Read what there is of a room that this device was in, and say [`Input::RoomRead`].
    ReadRoom {
        /// Which.
        room: RoomId,
    },
    /// What this device was told about rooms, for after a restart.
    RememberIntent(Intent),
    /// Whose device this is from now on.
    RememberUser(Option<LocalUser>),
    /// What the person's devices know of their friends, as a whole; none without a person.
    RememberFriends(Option<Box<SavedFriends>>),
    /// A room is no more: nothing of it needs to be kept.
    ForgetRoom(RoomId),
    /// A room that this device is in: keep its name for when it is out of reach.
    RememberRoom(KnownRoom),
    /// A peer's address worked.
    RememberPeer {
        /// Who.
        node: NodeId,
        /// Its name.
        name: String,
        /// Where.
        address: SocketAddr,
    },
    /// Answer a person.
    Reply {
        /// Whom.
        id: RequestId,
        /// What became of it.
        reply: CommandReply,
    },
    /// Something a person would notice.
    Tell(Notice),
}

/// What a person would notice; logged, and shown to whoever watches.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Notice {
    /// A room was made here.
    Founded {
        /// Its name.
        name: String,
        /// Its code.
        code: String,
    },
    /// A room was entered.
    Joined {
        /// Its name.
        name: String,
        /// Its code.
        code: String,
    },
    /// A room could not be entered.
    JoinFailed {
        /// Why.
        reason: String,
    },
    /// Another coordinator.
    Coordinator {
        /// Who.
        name: String,
        /// Its term's number.
        n: u64,
        /// Whether that is this device.
        here: bool,
    },
    /// This device was sent out of its room.
    SentOut {
        /// The room's name.
        room: String,
    },
    /// Its room was deleted by the owner.
    Deleted {
        /// The room's name.
        room: String,
    },
    /// Nobody coordinates at the moment.
    Leaderless,
    /// Two halves met, and the other one's history goes on. What was done on this side is offered
    /// to it.
    BranchCut {
        /// How many operations that are.
        operations: usize,
    },
    /// Something that this device did was left out when two halves met.
    Dropped {
        /// What.
        what: String,
        /// Why.
        why: String,
    },
    /// A member made another state of the same log, and is given the coordinator's.
    Disagreed {
        /// Its name.
        name: String,
    },
    /// A member came or went.
    Member {
        /// Its name.
        name: String,
        /// What it did.
        change: MemberChange,
    },
    /// A member's network is another one now.
    Network {
        /// Whose.
        name: String,
        /// Whether that is this device.
        here: bool,
        /// How it is.
        quality: Quality,
    },
    /// Something about a friend.
    Friend {
        /// Who.
        name: String,
        /// What.
        news: FriendNews,
    },
    /// Another device uses this device's identity.
    Twin {
        /// Where it is.
        address: SocketAddr,
    },
    /// The disk takes what happens again, or does not any more.
    Disk(DiskState),
    /// The room's log has an operation that only a later version knows: this device plays on with
    /// what it has.
    Outdated {
        /// The operation's number.
        kind: u16,
    },
    /// An entry was left out of the queue, or passed over because nobody has it.
    LeftOut {
        /// Which and why, as a sentence.
        message: String,
    },
    /// A track could not be played.
    TrackFailed {
        /// Its title.
        title: String,
        /// Why.
        reason: String,
    },
}

/// What a member did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MemberChange {
    /// Connected.
    Came,
    /// Said good-bye.
    Left,
    /// Was lost.
    Lost,
}

/// A peer with a live connection.
#[derive(Debug)]
struct Peer {
    name: String,
    /// Its start counter.
    boot: u32,
    /// Where it was when it connected.
    address: SocketAddr,
    since: LocalTime,
    /// Keying material of the connection.
    channel: [u8; 32],
    /// It has shown under this epoch of the lock that it may come in.
    proven: Option<u32>,
    /// It was shown the room as members see it.
    sees_inside: bool,
    room: Option<RoomCard>,
    report: Option<(Report, LocalTime)>,
    gauge: Gauge,
    /// When it last heard how this device is doing.
    told: Option<LocalTime>,
    /// When it was last told that it is out.
    told_out: Option<LocalTime>,
    ready: BTreeSet<SegmentId>,
    said_bye: bool,
    /// Its disk takes entries: it counts for acknowledgements.
    writes: bool,
}

/// The name of a timeline that begins with this term. Two halves of a room may each begin one
/// under the same number.
fn epoch_of(term: Term) -> u32 {
    let node = *term.node.0.first_chunk().expect("longer than that");
    let number = u32::try_from(term.n).unwrap_or(u32::MAX);
    u32::from_le_bytes(node) ^ term.boot.rotate_left(20) ^ number
}

/// A room, and the chain value at the end of its log: equal places have equal states.
type StatePlace = (RoomId, [u8; 16]);

/// The node. See the module's front page.
#[expect(clippy::struct_excessive_bools, reason = "facts that have nothing to do with each other")]
pub struct Node {
    me: NodeId,
    key: Arc<NodeKey>,
    boot: u32,
    name: String,
    user: Option<LocalUser>,
    version: String,
    started: LocalTime,
    rng: Rng,
    secrets: SecretRng,
    door: Door,
    /// Start counter and number of its last operation.
    last_op: (u32, u64),
    trim: Span,
    resume: bool,

    membership: Membership,
    election: Option<Election>,
    clock: RoomClock,
    room: Option<Room>,
    gauge: Gauge,
    joining: Option<Joining>,
    replication: Replication,
    presences: Presences,
    friends: Friends,
    pairing: Pairing,
    /// Where the device lives that is to be paired with.
    pair_address: Option<SocketAddr>,
    requests: Requests,
    transfer: Transfer,
    playback: Playback,

    peers: BTreeMap<NodeId, Peer>,
    shown_card: Option<RoomCard>,
    /// Rooms it was in, the latest first.
    known_rooms: Vec<KnownRoom>,
    terms_left: TermsLeft,
    facts: PlayoutFacts,
    report: Report,
    next_report: LocalTime,
    next_tick: LocalTime,
    condition: Condition,
    shutting_down: bool,
    /// It leaves its room as soon as somebody else leads there.
    departure: Option<Departure>,
    farewell: Option<Farewell>,
    /// Of rooms that it left while nobody coordinated them.
    unheard: BTreeMap<RoomId, Unheard>,
    /// It is on its way out of a room: that nobody leads it there is no news.
    leaving: bool,
    /// When this node was last run, for whatever reason.
    last_run: LocalTime,
    disk: DiskState,
    disk_notice: Option<String>,
    /// Another device with this one's key: where, and when it was last seen.
    twin: Option<(SocketAddr, LocalTime)>,
    knew_time: bool,
    /// The hash of the state at a place of a room's log.
    hashed: Cell<Option<(StatePlace, [u8; 16])>>,
    outputs: VecDeque<Output>,
}

impl Node {
    /// A node that has just started.
    #[must_use]
    pub fn new(config: NodeConfig, now: LocalTime) -> Node {
        let me = config.key.node_id();
        let mut rng = Rng::new(config.seed);
        let mut membership = Membership::new(me, rng.next_u64(), now);
        for address in config.peers {
            membership.add_static(address);
        }
        for (node, name, addresses) in config.remembered {
            membership.remember(node, &name, &addresses);
        }
        let user = config.user.as_ref().map(|user| user.key.user_id());
        let friends = Friends::restored(user, config.friends.as_ref());
        let clock = RoomClock::new(rng.next_u64());
        let mut node = Node {
            me,
            key: config.key,
            boot: if planted::is(Bug::ForgottenBoot) { 1 } else { config.boot },
            name: config.name,
            user: config.user,
            version: config.version,
            started: now,
            secrets: SecretRng::new(config.secret),
            door: Door::default(),
            last_op: (config.boot, 0),
            trim: config.trim,
            resume: config.resume,
            membership,
            election: None,
            clock,
            room: None,
            gauge: Gauge::default(),
            joining: None,
            replication: Replication::default(),
            presences: Presences::default(),
            friends,
            pairing: Pairing::new(me),
            pair_address: None,
            requests: Requests::default(),
            transfer: Transfer::new(rng.next_u64()),
            playback: Playback::default(),
            peers: BTreeMap::new(),
            shown_card: None,
            known_rooms: config.known_rooms,
            terms_left: TermsLeft::default(),
            facts: PlayoutFacts::default(),
            report: Report::default(),
            next_report: now,
            next_tick: now,
            condition: Condition::default(),
            shutting_down: false,
            departure: None,
            farewell: None,
            unheard: BTreeMap::new(),
            leaving: false,
            last_run: now,
            disk: DiskState::Ok,
            disk_notice: None,
            twin: None,
            knew_time: false,
            hashed: Cell::new(None),
            outputs: VecDeque::new(),
            rng,
        };
        if config.alone {
            node.membership.set_intent(now, Intent::Alone);
        } else if let Some(restored) = config.room {
            node.restore(now, &restored);
        }
        node
    }

    /// Its identity.
    #[must_use]
    pub fn id(&self) -> NodeId {
        self.me
    }

    /// What to do next; ask until there is nothing.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`handle_timeout`](Node::handle_timeout) wants to be called at the latest.
    #[must_use]
    pub fn poll_timeout(&self) -> LocalTime {
        [
            self.membership.poll_timeout(),
            self.election.as_ref().and_then(Election::poll_timeout),
            self.clock.poll_timeout(),
            self.transfer.poll_timeout(),
            self.requests.poll_timeout(),
            self.condition.farewell_at,
            self.farewell_until(),
        ]
        .into_iter()
        .flatten()
        .fold(self.next_tick, LocalTime::min)
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: LocalTime) {
        self.notice_standstill(now);
        self.membership.handle_timeout(now);
        if let Some(election) = &mut self.election {
            election.handle_timeout(now);
        }
        self.clock.handle_timeout(now);
        self.transfer.handle_timeout(now);
        self.expire_search(now);
        self.requests.expire_room(now, &mut self.outputs);
        if now >= self.next_tick {
            self.next_tick = now + TICK;
            self.tick(now);
        }
        self.settle_machines(now);
        self.catch_up(now);
    }

    /// Something happened.
    pub fn handle_input(&mut self, now: LocalTime, input: Input) {
        self.notice_standstill(now);
        match input {
            Input::PeerConnected { peer, address, hello, channel } => {
                self.peer_connected(now, peer, address, &hello, channel);
            }
            Input::PeerMoved { peer, address } => self.peer_moved(now, peer, address),
            Input::PeerLost { peer } => self.peer_lost(now, peer),
            Input::PeerDoubted { peer } => {
                if let Some(election) = &mut self.election {
                    election.peer_doubted(now, peer);
                }
            }
            Input::DialFailed { address, node } => {
                self.membership.dial_failed(now, address, node);
            }
            Input::PeerDiscovered { announcement, addresses } => {
                self.membership.discovered(now, &announcement, &addresses);
            }
            Input::PeerVanished { node } => self.membership.vanished(node),
            Input::TwinSeen { address } => self.twin_seen(now, address),
            Input::PeerNamed { address } => self.membership.add_static(address),
            Input::MessageReceived { from, message } => {
                if !self.may_say(from, &message) {
                    tracing::trace!(peer = %from.short(), "a stranger to a locked room");
                    return;
                }
                self.note_contact(now, from);
                self.message_received(now, from, message);
            }
            Input::DatagramReceived { from, datagram, at } => {
                // Not even the time is told to strangers.
                if !self.lets_in(from) {
                    return;
                }
                self.note_contact(now, from);
                self.datagram_received(now, from, datagram, at);
            }
            Input::Stretched { id, room, secret } => self.stretched(now, id, room, secret),
            Input::CommandReceived { id, command } => self.command_received(now, id, command),
            Input::Written { room, idx, chain } => self.written(room, &LogPlace { idx, chain }),
            Input::Synced { room, idx } => self.synced(room, idx),
            Input::RoomRead { room, restored } => self.room_read(now, room, restored),
            Input::RoomNotWritten { room } => self.rewrite(room),
            Input::DiskReported(disk) => self.disk_reported(now, disk),
            Input::DiskDamaged { notice } => self.disk_notice = Some(notice),
            Input::BlobOpened { hash, have } => self.blob_opened(hash, have),
            Input::CacheTroubled { why } => self.playback.cache_trouble = Some(why),
            Input::PieceNeeded { hash, piece } => self.piece_needed(now, hash, piece),
            Input::PieceArrived { hash, piece, bytes, from } => {
                self.piece_arrived(now, hash, piece, bytes, from);
            }
            Input::PieceFailed { hash, piece, from, failure } => {
                self.transfer.piece_failed(now, &hash, piece, from, failure);
            }
            Input::SegmentPrimed { segment } => self.segment_primed(now, segment),
            Input::SegmentFailed { segment, reason } => self.segment_failed(now, segment, reason),
            Input::PlayoutReported(facts) => self.playout_reported(now, facts),
            Input::FitnessKnown(facts) => self.fitness_known(now, facts),
            Input::WallTime { unix_s } => self.wall_told(now, unix_s),
            Input::GatewayAnswered => {
                if let Some(election) = &mut self.election {
                    election.gateway_answered(now);
                }
            }
            Input::Suspended { gap } => self.suspended(now, gap),
            Input::ShutdownRequested => self.shutdown(now),
        }
        self.settle_machines(now);
        self.catch_up(now);
    }

    /// Drains the sub-machines until none of them has anything to say.
    fn settle_machines(&mut self, now: LocalTime) {
        loop {
            if let Some(output) = self.membership.poll_output() {
                self.membership_says(now, output);
            } else if let Some(output) = self.election.as_mut().and_then(Election::poll_output) {
                self.election_says(now, output);
            } else if let Some(fetch) = self.transfer.poll_output(now) {
                self.outputs.push_back(Output::FetchPiece(fetch));
            } else if let Some(probe) = self.clock.poll_probe(now) {
                let to = probe.source.node;
                self.send_datagram(to, Datagram::Probe(probe));
            } else {
                break;
            }
        }
        if let Some(model) = self.clock.poll_model() {
            self.outputs.push_back(Output::SetClock(Some(model)));
            // Now that the room's time is known, so is what sounds.
            if !std::mem::replace(&mut self.knew_time, true) {
                self.refresh_segments(now);
                self.refresh_election(now);
            }
        }
        if self.complete_departure(now) {
            return self.settle_machines(now);
        }
        self.look_after_hold(now);
        self.update_plan(now);
        self.finish(now);
    }

    fn tick(&mut self, now: LocalTime) {
        self.look_at_door(now);
        self.look_at_gate(now);
        self.tell_who_is_out(now);
        self.retry_join(now);
        self.repeat_farewells(now);
        self.rejoin(now);
        self.offer(now);
        self.refresh_election(now);
        self.refresh_reign(now);
        self.order_settle(now);
        self.look_for_holders(now);
        self.look_for_people(now);
        self.look_whether_out(now);
        self.look_after_friends(now);
        self.look_after_pairing(now);
        self.check_gate(now);
        self.refresh_segments(now);
        self.refresh_card(now);
        self.tell_agreement(now);
        self.save_position(now);
        self.write_history(now);
        self.write_chat(now);
        self.tell_left_out(now);
        self.look_at_reports(now);
    }

    fn peer_connected(
        &mut self,
        now: LocalTime,
        peer: NodeId,
        address: SocketAddr,
        hello: &Hello,
        channel: [u8; 32],
    ) {
        self.membership.connected(now, peer, address, hello);
        let state = Peer {
            name: hello.name.clone(),
            boot: hello.boot,
            address,
            since: now,
            channel,
            proven: None,
            // The hello shows what strangers may see.
            sees_inside: !self.is_locked(),
            room: hello.room.clone(),
            report: None,
            gauge: Gauge::default(),
            told: None,
            told_out: None,
            ready: BTreeSet::new(),
            said_bye: false,
            writes: true,
        };
        self.peers.insert(peer, state);
        self.friends.lost(peer);
        self.outputs.push_back(Output::RememberPeer {
            node: peer,
            name: hello.name.clone(),
            address,
        });
        if hello.room.as_ref().map(|card| card.id) == self.room_id() {
            self.show_pass(peer);
        }
        self.look_at_gate(now);
        self.refresh_election(now);
        self.note_reached(now, peer, address, hello.room.as_ref());
        self.join_through(now, peer);
        self.look_after_friends(now);
        if self.is_member(peer) {
            self.tell_member(peer, MemberChange::Came);
            self.greet_member(peer);
        }
    }

    /// Others are told of the new address with the next share of addresses, and it is dialled
    /// first when the connection is lost.
    fn peer_moved(&mut self, now: LocalTime, node: NodeId, address: SocketAddr) {
        self.membership.moved(now, node, address);
        if let Some(name) = self.peers.get(&node).map(|peer| peer.name.clone()) {
            self.outputs.push_back(Output::RememberPeer { node, name, address });
        }
    }

    fn peer_lost(&mut self, now: LocalTime, peer: NodeId) {
        let said_bye = self.peers.remove(&peer).is_some_and(|peer| peer.said_bye);
        if self.is_member(peer) && !said_bye {
            self.tell_member(peer, MemberChange::Lost);
        }
        self.membership.lost(now, peer);
        self.friends.lost(peer);
        self.pairing.lost(now, peer);
        self.door.peer_gone(peer);
        self.transfer.peer_gone(&peer);
        self.replication.forget(peer);
        if let Some(election) = &mut self.election {
            election.peer_lost(now, peer);
        }
        self.refresh_election(now);
    }

    /// What a member should know that has just come: what we hold and what we could sound.
    fn greet_member(&mut self, peer: NodeId) {
        for message in self.holdings_for_greeting() {
            self.send(peer, message);
        }
        if !self.writes() {
            self.send(peer, Message::Disk { writes: false });
        }
    }

    fn message_received(&mut self, now: LocalTime, from: NodeId, message: Message) {
        match message {
            // The driver has taken the first one already; another is of no consequence.
            Message::Hello(_) => {}
            Message::Card(card) => self.card_received(now, from, card),
            Message::Peers(peers) => self.membership.peers_received(now, peers),
            Message::Join(op) => self.join_received(now, from, op),
            Message::Propose(op) => self.propose_received(now, from, op),
            Message::Proposed { id, outcome } => self.proposed_received(now, from, id, outcome),
            Message::Append { room, term, prev_idx, prev_chain, entries } => {
                let previous = LogPlace { idx: prev_idx, chain: prev_chain };
                self.append_received(now, from, room, term, previous, &entries);
            }
            Message::Appended { room, term, written, synced } => {
                self.appended_received(from, room, term, &written, synced);
            }
            Message::NeedSnapshot { room } => self.snapshot_wanted(from, room),
            Message::Snapshot(snapshot) => self.snapshot_received(now, from, &snapshot),
            Message::Start(start) => self.start_received(now, from, &start),
            Message::Stale { room, term, alive } => {
                if let Some(election) = self.election_of(room) {
                    election.stale_received(now, from, term, alive);
                }
            }
            Message::Bye => self.bye_received(now, from),
            Message::Handoff(handoff) => self.handoff_received(now, from, &handoff),
            Message::Have { hash, pieces } => {
                self.transfer.peer_has(from, hash, Have::from_wire(pieces));
            }
            Message::Ready { room, segment } => self.ready_received(now, from, room, segment),
            Message::Disk { writes } => self.peer_disk_reported(from, writes),
            Message::Report(report) => {
                if let Some(peer) = self.peers.get_mut(&from) {
                    peer.report = Some((report, now));
                }
                self.gauge_network_of(now, from);
            }
            Message::Orphans { room, ops } => self.orphans_received(now, from, room, ops),
            Message::LogEnd { room, term, end } => {
                self.log_end_received(now, from, room, term, &end);
            }
            Message::Places { room, term, places } => {
                self.places_received(now, from, room, term, &places);
            }
            Message::Fetch { room, term, after } => {
                self.fetch_received(now, from, room, term, after);
            }
            Message::Tail { room, term, after, entries } => {
                self.tail_received(now, from, room, term, &after, &entries);
            }
            Message::Dropped { room, dropped } => self.dropped_received(from, room, dropped),
            Message::Safe { room, term, replicated, durable } => {
                self.safe_received(from, room, term, replicated, durable);
            }
            Message::Agree(agreement) => self.agreement_received(now, from, &agreement),
            Message::Resync { room, member } => self.resync_received(now, from, room, member),
            Message::Friend(message) => self.friend_message_received(now, from, message),
            Message::Pair(message) => self.pair_message_received(now, from, message),
            Message::PakeStart { room, secret, share } => {
                self.pake_start_received(now, from, room, secret, share);
            }
            Message::PakeAnswer { room, share } => {
                self.pake_answer_received(now, from, room, &share);
            }
            Message::PakeConfirm { room, confirmation } => {
                self.pake_confirm_received(now, from, room, &confirmation);
            }
            Message::Admitted { room, confirmation, admission, friendship } => {
                self.admitted_received(now, from, room, &confirmation, admission, friendship);
            }
            Message::PakeLater { room, wait_ms } => {
                self.pake_later_received(now, from, room, wait_ms);
            }
            Message::PakeRefused { room, refusal } => {
                self.pake_refused_received(now, from, room, &refusal);
            }
            Message::Show { room, admission } => self.show_received(now, from, room, &admission),
            Message::Seek { code } => self.seek_received(now, from, code),
            Message::Found { code, room } => self.found_received(now, from, &code, room),
        }
    }

    fn datagram_received(
        &mut self,
        now: LocalTime,
        from: NodeId,
        datagram: Datagram,
        at: LocalTime,
    ) {
        match datagram {
            Datagram::Probe(probe) => {
                let raw = probe.source == raw_source((self.me, self.boot));
                let raw = raw.then(|| raw_answer(&probe, at));
                if let Some(reply) = raw.or_else(|| self.clock.answer(&probe, at)) {
                    self.send_datagram(from, Datagram::ProbeReply(reply));
                }
            }
            Datagram::ProbeReply(reply) if reply.source.node == from => {
                self.clock.handle_reply(at, &reply);
            }
            Datagram::ProbeReply(_) => {}
            Datagram::Heartbeat(hb) => self.heartbeat_received(now, from, &hb, at),
            Datagram::HeartbeatAck(ack) => self.ack_received(now, from, &ack),
            Datagram::PreVote(vote) => {
                if let Some(election) = self.election_of(vote.room) {
                    election.pre_vote_received(now, from, &vote);
                }
            }
            Datagram::PreVoteReply(reply) => {
                if let Some(election) = self.election_of(reply.room) {
                    election.pre_vote_reply_received(now, from, &reply);
                }
            }
        }
    }

    fn heartbeat_received(&mut self, now: LocalTime, from: NodeId, hb: &Heartbeat, at: LocalTime) {
        // The stamps of a half that comes back may be of another timeline: taken for ours, they
        // would all seem to be too old, and this node would never follow.
        let is_last = self.election.as_ref().is_some_and(|e| e.term() == hb.term);
        let is_known = is_last && self.clock.shares_timeline(hb.term);
        let sent = if is_known { self.sent_at(hb.sent, at).min(now) } else { at.min(now) };
        if let Some(election) = self.election_of(hb.room) {
            election.heartbeat_received(now, from, hb, sent);
        }
        if self.election.as_ref().is_some_and(|e| e.term() == hb.term) {
            self.clock.handle_stamp(at.min(now), hb.sent);
        }
        self.note_coordinator_log(now, from, hb);
        self.watch_deputy(now, from, hb);
    }

    /// When a heartbeat was sent, on our clock: by its own stamp where our clock is good enough
    /// (5 ms), else when it arrived.
    fn sent_at(&self, sent: RoomTime, arrived: LocalTime) -> LocalTime {
        if planted::is(Bug::ArrivalTimeFreshness) {
            return arrived;
        }
        match self.clock.model() {
            Some(model) if 3.0 * model.sigma + model.asymmetry < 5e-3 => {
                let local = model.local(sent);
                // A stamp from far away is a foreign timeline or a lie; neither may delay a
                // suspicion by more than a moment.
                if (arrived - local).abs() < Span::from_secs(2) {
                    local.min(arrived)
                } else {
                    arrived
                }
            }
            _ => arrived,
        }
    }

    fn bye_received(&mut self, now: LocalTime, from: NodeId) {
        if let Some(peer) = self.peers.get_mut(&from) {
            peer.said_bye = true;
        }
        if self.is_member(from) {
            self.tell_member(from, MemberChange::Left);
        }
        self.membership.bye(now, from);
        if let Some(election) = &mut self.election {
            election.bye_received(now, from);
        }
    }

    fn card_received(&mut self, now: LocalTime, from: NodeId, card: Option<RoomCard>) {
        let address = self.peers.get_mut(&from).map(|peer| {
            peer.room.clone_from(&card);
            peer.address
        });
        if let Some(address) = address {
            self.note_reached(now, from, address, card.as_ref());
        }
        self.membership.card_received(now, from, card);
        self.refresh_election(now);
    }

    fn membership_says(&mut self, now: LocalTime, output: MembershipOutput) {
        match output {
            MembershipOutput::Dial { address, node } => {
                self.outputs.push_back(Output::Dial { address, node });
            }
            MembershipOutput::SharePeers { to, peers } => self.send(to, Message::Peers(peers)),
            MembershipOutput::Join { room, via } => self.begin_join(now, room, via),
            MembershipOutput::FoundRoom => self.found_unattended(now),
        }
    }

    fn election_says(&mut self, now: LocalTime, output: ElectionOutput) {
        match output {
            ElectionOutput::SendHeartbeat { to, seq, successors, live, age_s } => {
                self.send_heartbeat(now, to, seq, successors, (live, age_s));
            }
            ElectionOutput::SendAck { to, seq } => self.send_ack(to, seq),
            ElectionOutput::SendPreVote { to, n, round } => self.send_pre_vote(to, n, round),
            ElectionOutput::SendPreVoteReply { to, round, granted, alive, ahead, term } => {
                let Some(room) = self.room_id() else { return };
                let reply = PreVoteReply { room, round, granted, alive, term, ahead };
                self.send_datagram(to, Datagram::PreVoteReply(reply));
            }
            ElectionOutput::SendStale { to, term, alive } => {
                let Some(room) = self.room_id() else { return };
                self.send(to, Message::Stale { room, term, alive });
            }
            ElectionOutput::SendHandoff { to, at_idx } => self.send_handoff(to, at_idx),
            ElectionOutput::AskGateway => self.outputs.push_back(Output::AskGateway),
            ElectionOutput::Lead { term } => self.lead_from_now(now, term),
            ElectionOutput::Follow { term } => self.follow(now, term),
            ElectionOutput::Lost => {
                self.note_lost_lead(now);
                self.clock.leaderless(now);
                if !self.shutting_down && !self.leaving && self.departure.is_none() {
                    self.tell(Notice::Leaderless);
                }
            }
            // What exactly is lost is known, and told, once the other state is here.
            ElectionOutput::Discarded { branch, winner, .. } => {
                tracing::debug!(branch = branch.n, winner = winner.n, "yielding to another half");
            }
        }
    }

    fn send_heartbeat(
        &mut self,
        now: LocalTime,
        to: NodeId,
        seq: u32,
        successors: Vec<NodeId>,
        (live, age_s): (u16, u32),
    ) {
        let (Some(room), Some(election)) = (&self.room, &self.election) else { return };
        let log = room.log();
        let heartbeat = Heartbeat {
            room: room.id(),
            term: election.term(),
            seq,
            sent: self.room_now(now),
            last_idx: log.last_idx(),
            last_term: log.last_term(),
            chain: log.chain(),
            successors,
            live,
            playing: self.is_sounding(now),
            age_s,
        };
        self.send_datagram(to, Datagram::Heartbeat(heartbeat));
    }

    fn send_ack(&mut self, to: NodeId, seq: u32) {
        let (Some(room), Some(election)) = (&self.room, &self.election) else { return };
        let log = room.log();
        let ack = HeartbeatAck {
            room: room.id(),
            term: election.term(),
            seq,
            last_idx: log.last_idx(),
            last_term: log.last_term(),
            chain: log.chain(),
            score: self.election.as_ref().map_or(0, Election::score),
        };
        self.send_datagram(to, Datagram::HeartbeatAck(ack));
    }

    fn send_pre_vote(&mut self, to: NodeId, n: u64, round: u32) {
        let Some(room) = &self.room else { return };
        let log = room.log();
        let (last_idx, last_term) = (log.last_idx(), log.last_term());
        let vote = PreVote { room: room.id(), n, round, last_idx, last_term };
        self.send_datagram(to, Datagram::PreVote(vote));
    }

    fn lead_from_now(&mut self, now: LocalTime, term: Term) {
        self.take_the_clock(now, term);
        self.begin_reign(now, term);
        let Some(start) = self.start_message(term) else { return };
        for peer in self.member_peers() {
            self.send(peer, Message::Start(start.clone()));
        }
        self.tell(Notice::Coordinator { name: self.name.clone(), n: term.n, here: true });
        self.offer(now);
        self.refresh_card(now);
    }

    fn take_the_clock(&mut self, now: LocalTime, term: Term) {
        if self.clock.lead(now, term) {
            return;
        }
        let epoch = epoch_of(term);
        match Some(self.recorded()).filter(|at| *at > RoomTime(0)) {
            None => self.clock.found(now, term, epoch),
            Some(last) => {
                self.clock.found_from(now, term, epoch, last + Span::from_millis(1));
                self.replication.clock_was_lost = true;
            }
        }
    }

    fn start_message(&self, term: Term) -> Option<Start> {
        let room = self.room.as_ref()?;
        let log = room.log();
        let start = Start {
            room: room.id(),
            term,
            last_idx: log.last_idx(),
            last_term: log.last_term(),
            chain: log.chain(),
            line: self.clock.line()?,
            handoff: self.election.as_ref().and_then(Election::handoff),
            signature: ([0; 32], [0; 32]),
        };
        Some(start.signed(&self.key))
    }

    fn follow(&mut self, now: LocalTime, term: Term) {
        self.note_lost_lead(now);
        self.clock.follow(now, term);
        self.end_reign(now);
        let name = self.name_of(term.node);
        self.tell(Notice::Coordinator { name, n: term.n, here: false });
        self.refresh_card(now);
    }

    /// Tells the election who is in the room and who of them can be reached.
    fn refresh_election(&mut self, now: LocalTime) {
        let score = self.fitness(now).score();
        let vouched = self.vouched_coordinators();
        let (Some(room), Some(election)) = (&self.room, &mut self.election) else { return };
        let mut others = room
            .state()
            .members()
            .keys()
            .filter(|node| **node != self.me)
            .map(|node| {
                let connected = self.peers.contains_key(node);
                (*node, MemberFacts { connected, score: 0 })
            })
            .collect::<BTreeMap<_, _>>();
        let strangers =
            vouched.into_iter().map(|node| (node, MemberFacts { connected: true, score: 0 }));
        for (node, facts) in strangers {
            others.entry(node).or_insert(facts);
        }
        election.members_changed(now, &others);
        election.set_score(score);
        election.set_knows_time(self.clock.model().is_some());
        let log = room.log();
        election.log_changed(log.last_idx(), log.last_term(), log.chain());
    }

    /// Connected nodes that members say lead this room. One of them may have joined while this
    /// node was away: it is not in the log here, and without following it the log would never
    /// come to have it. Who knows none of those who are here, because its disk is from before
    /// they joined, takes a coordinator's own word for it.
    fn vouched_coordinators(&self) -> Vec<NodeId> {
        let knows_nobody = self.member_peers().is_empty();
        self.peers
            .iter()
            .filter_map(|(node, peer)| Some((node, peer.room.as_ref()?)))
            .filter(|(_, card)| Some(card.id) == self.room_id())
            .filter(|(node, card)| {
                let says_so = card.coordinator == Some(**node);
                // In a locked room, of whoever has shown that it belongs to it.
                self.is_member(**node) || (knows_nobody && says_so && self.lets_in(**node))
            })
            .filter_map(|(_, card)| card.coordinator)
            .filter(|node| *node != self.me && self.peers.contains_key(node))
            .collect()
    }

    /// Two devices of one identity take each other's connections and places. Neither should
    /// coordinate, and a person must hear of it: only a person can tell which of them is the
    /// copy.
    fn twin_seen(&mut self, now: LocalTime, address: SocketAddr) {
        let known = self.twin(now);
        self.twin = Some((address, now));
        if known != Some(address) {
            self.tell(Notice::Twin { address });
        }
        self.refresh_election(now);
    }

    /// Where a device with this one's identity was seen not long ago.
    fn twin(&self, now: LocalTime) -> Option<SocketAddr> {
        self.twin.filter(|(_, seen)| now - *seen < TWIN_REMEMBERED).map(|(address, _)| address)
    }

    fn suspended(&mut self, now: LocalTime, gap: Span) {
        self.clock.resumed(now, gap);
        if self.clock.model().is_none() && std::mem::take(&mut self.knew_time) {
            // Better silent than out of step, until the others' time is known again.
            self.outputs.push_back(Output::SetClock(None));
        }
        if let Some(election) = &mut self.election {
            election.resumed(now);
        }
    }

    fn send(&mut self, to: NodeId, message: Message) {
        if !self.may_hear(to, &message) {
            return;
        }
        self.outputs.push_back(Output::Send { to, message });
    }

    fn send_datagram(&mut self, to: NodeId, datagram: Datagram) {
        if !self.lets_in(to) {
            return;
        }
        self.outputs.push_back(Output::SendDatagram { to, datagram });
    }

    fn tell(&mut self, notice: Notice) {
        self.outputs.push_back(Output::Tell(notice));
    }

    fn tell_member(&mut self, peer: NodeId, change: MemberChange) {
        let name = self.name_of(peer);
        self.tell(Notice::Member { name, change });
    }

    /// Numbers go on behind all that the room knows of this device. One whose disk was put back to
    /// what it was some starts ago, with its start counter, would say again what was done then.
    fn next_op_id(&mut self) -> OpId {
        let ordered = self.room.as_ref().and_then(|room| room.state().latest_of(&self.me));
        let Replication { outbox, covered, dropped, .. } = &self.replication;
        let others = outbox.iter().chain(covered.iter()).map(|op| op.id);
        let others = others.chain(dropped.iter().map(|op| op.id));
        let own = others.filter(|id| id.author == self.me).map(|id| (id.boot, id.seq));
        let known = own.chain(ordered).max();
        if let Some((boot, _)) = known.filter(|known| *known > self.last_op) {
            tracing::warn!(
                boot,
                "the room knows of later starts of this device than its disk does"
            );
            self.last_op = (boot.saturating_add(1), 0);
        }
        self.last_op.1 += 1;
        OpId { author: self.me, boot: self.last_op.0, seq: self.last_op.1 }
    }

    /// Room time now; before the clock is known, the last instant on record.
    fn room_now(&self, now: LocalTime) -> RoomTime {
        self.clock.model().map_or_else(|| self.recorded(), |model| model.room(now))
    }

    fn room_id(&self) -> Option<RoomId> {
        self.room.as_ref().map(Room::id)
    }

    fn election_of(&mut self, room: RoomId) -> Option<&mut Election> {
        if self.room_id() == Some(room) { self.election.as_mut() } else { None }
    }

    /// Whether this node orders operations; not while it is handing over, nor before the reign
    /// has begun that the election says.
    fn is_coordinator(&self) -> bool {
        self.reigns() && self.election.as_ref().is_some_and(Election::is_leading)
    }

    /// Whether the room's log is this node's to hand out. While it gives the lead away it orders
    /// nothing more, but what it has ordered must reach the others: only who has all of it can
    /// take over.
    fn reigns(&self) -> bool {
        let reign = self.replication.reign.as_ref().map(|reign| reign.term);
        self.election.as_ref().is_some_and(|election| {
            election.role() == Role::Coordinator && Some(election.term()) == reign
        })
    }

    fn coordinator(&self) -> Option<NodeId> {
        self.election.as_ref().and_then(Election::coordinator)
    }

    fn is_member(&self, node: NodeId) -> bool {
        self.room.as_ref().is_some_and(|room| room.state().member(&node).is_some())
    }

    /// Members of the room with a live connection, in order.
    fn member_peers(&self) -> Vec<NodeId> {
        self.peers.keys().copied().filter(|peer| self.is_member(*peer)).collect()
    }

    fn name_of(&self, node: NodeId) -> String {
        if node == self.me {
            return self.name.clone();
        }
        let member = self.room.as_ref().and_then(|room| room.state().member(&node));
        member
            .map(|member| member.name.clone())
            .or_else(|| self.peers.get(&node).map(|peer| peer.name.clone()))
            .unwrap_or_else(|| node.short())
    }
}
