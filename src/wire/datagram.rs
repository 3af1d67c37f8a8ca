//! Small, frequent and expendable: heartbeats, clock exchange, pre-votes. Carried as QUIC
//! datagrams of the control connection; at most [`MAX_DATAGRAM`](crate::base::limits::MAX_DATAGRAM)
//! bytes each.

use serde::{Deserialize, Serialize};

use crate::base::{LocalTime, NodeId, RoomId, RoomTime, Term};

/// One datagram. On the wire its number in this list comes first, so that the list only ever
/// grows at its end.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub enum Datagram {
    /// The coordinator is alive.
    Heartbeat(Heartbeat),
    /// A member heard it.
    HeartbeatAck(HeartbeatAck),
    /// Would you follow me?
    PreVote(PreVote),
    /// The answer.
    PreVoteReply(PreVoteReply),
    /// Clock exchange: the question.
    Probe(Probe),
    /// Clock exchange: the answer.
    ProbeReply(ProbeReply),
}

impl Datagram {
    /// How many kinds this version knows, numbered from 0.
    pub const KINDS: u32 = 6;
}

/// Which clock a probe asks, so that an answer of a former coordinator is never taken for one
/// of the present. Changes at a take-over and re-anchors nothing by itself.
pub type ClockSource = Term;

/// The room's timeline as a line on one node's raw clock:
/// `room = room0 + (local - local0) * (1 + rate)`.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct RoomLine {
    /// Identity of the timeline: changes only when nobody alive carries the clock on.
    pub epoch: u32,
    /// Anchor on the owner's raw clock.
    pub local0: LocalTime,
    /// The same instant in room time.
    pub room0: RoomTime,
    /// Room seconds per local second, minus one. Within ±1e-3, or the line is refused.
    pub rate: f64,
    /// How far the line may be off the one that it carries on: one standard deviation at the
    /// anchor, seconds. 0 where it carries on none; neither negative nor endless.
    pub sigma: f32,
    /// One standard deviation of the rate against that of the line carried on, a ratio.
    pub rate_sigma: f32,
    /// Bound of what more no exchange of packets could show of it, seconds.
    pub asymmetry: f32,
}

/// Sent by the coordinator to every member each 100 to 400 ms.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Heartbeat {
    /// The room.
    pub room: RoomId,
    /// The sender's reign.
    pub term: Term,
    /// Counts up within a term.
    pub seq: u32,
    /// When it was sent. It counts as alive at this instant, not on arrival: frames freed
    /// after a Wi-Fi stall would otherwise veto an election.
    pub sent: RoomTime,
    /// Last entry of the log.
    pub last_idx: u64,
    /// Term of that entry.
    pub last_term: Term,
    /// Chain value there.
    pub chain: [u8; 16],
    /// Who should take over, best first; at most three.
    pub successors: Vec<NodeId>,
    /// Members that the coordinator has heard within the last heartbeats, itself included.
    pub live: u16,
    /// Whether music sounds in this part of the room.
    pub playing: bool,
    /// For how many whole seconds the sender has led without a break.
    pub age_s: u32,
}

/// Sent back by a member.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct HeartbeatAck {
    /// The room.
    pub room: RoomId,
    /// The reign it follows.
    pub term: Term,
    /// Which heartbeat it heard.
    pub seq: u32,
    /// Last entry of its own log.
    pub last_idx: u64,
    /// Term of that entry.
    pub last_term: Term,
    /// Chain value there.
    pub chain: [u8; 16],
    /// How fit it is to coordinate; higher is better.
    pub score: u16,
}

/// "The coordinator is silent; would you follow me?" Nothing is persisted by the answer.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PreVote {
    /// The room.
    pub room: RoomId,
    /// The number that the asker's term would have.
    pub n: u64,
    /// Which round of the asker this is; echoed by the answer.
    pub round: u32,
    /// Last entry of the asker's log.
    pub last_idx: u64,
    /// Term of that entry.
    pub last_term: Term,
}

/// The answer to a [`PreVote`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PreVoteReply {
    /// The room.
    pub room: RoomId,
    /// Which round it answers.
    pub round: u32,
    /// Granted: exclusively, for 300 ms.
    pub granted: bool,
    /// "I do hear the coordinator": the asker must not elect itself.
    pub alive: bool,
    /// The highest term that the answerer knows.
    pub term: Term,
    /// "My log goes further than yours": the asker must let the answerer stand, or what was
    /// acknowledged to people would be lost although somebody holds it.
    pub ahead: bool,
}

/// Asks for the answerer's clock. Padded by the codec to the size of a [`ProbeReply`], so that
/// both ways take the same time on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Probe {
    /// Counts up per asker.
    pub seq: u64,
    /// Whose clock is meant.
    pub source: ClockSource,
    /// The asker's clock just before sending; stamped by the network driver.
    pub t1: LocalTime,
}

/// The answerer's two stamps and its line.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct ProbeReply {
    /// The probe it answers.
    pub seq: u64,
    /// Whose clock this is.
    pub source: ClockSource,
    /// As in the probe.
    pub t1: LocalTime,
    /// The answerer's raw clock on arrival.
    pub t2: LocalTime,
    /// The answerer's raw clock just before sending; stamped by the network driver.
    pub t3: LocalTime,
    /// The room's timeline on the answerer's raw clock.
    pub line: RoomLine,
}
