//! Who coordinates a room: one [`Election`] for every room that this node is in.
//!
//! ```text
//!            join                      heartbeat, start
//!  Observer ─────────────────────────────────────────────▶ Follower ◀───────────────┐
//!     │ 3 s without anybody                                   │ silence, bye, lost    │ heartbeat,
//!     └──────────────────────────────▶ Suspect ◀──────────────┘                       │ start
//!                                        │ ▲ lost, refused ──────────────────────────┤
//!                           rank delay   ▼ │                                          │
//!                                      Candidate ── won ──▶ Coordinator ── yields ────┤
//!                                                               │ was asleep           │
//!                                                               ▼                      │
//!                                                             Lame ─────────────────────┘
//! ```
//!
//! Availability comes first: a majority of a configured membership is never asked for, only
//! of who answers, so that a room goes on when half of its devices lose their power. In
//! exchange two halves of a partition may each have a coordinator. That is safe because a
//! [`Term`] names its owner, and it ends when the two meet: the lighter branch yields (`rivals`).
//!
//! The rank delay and "who answers" are in the spirit of Redis Cluster's replica rank, the
//! pre-vote is the one of Ongaro's dissertation on Raft (2014, section 9.6); terms are not
//! persisted votes as there, since the owner's start counter keeps them apart.
//!
//! | file | what it decides |
//! |---|---|
//! | `follow` | hearing a coordinator, and no longer hearing it |
//! | `stand` | asking the others, and counting what they say |
//! | `coordinate` | terms, heartbeats, who is live |
//! | `rivals` | what happens when two coordinators meet |
//! | `handover` | giving the lead away on purpose |
//! | `score` | how fit a device is |
//! | `health` | whether this node should trust its own ears |
//! | `timing` | every number, with its why |
//!
//! Not here: sending or signing anything, the log itself, and who is a member.

mod coordinate;
mod follow;
mod handover;
mod health;
mod rivals;
mod score;
mod stand;
mod state;
mod timing;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::base::rng::Rng;
use crate::base::{LocalTime, NodeId, RoomId, Term};
use crate::wire::message::Handoff;

pub use score::{Coordinate, DeviceFacts, Fitness, FitnessClass};
pub use state::Role;

use state::{LogEnd, Promise, State};
use timing::Timing;

/// Who takes part.
#[derive(Clone, Copy, Debug)]
pub struct ElectionConfig {
    /// This node.
    pub me: NodeId,
    /// Its start counter, on disk before anything is sent: it keeps this start's terms apart
    /// from those of an earlier one.
    pub boot: u32,
    /// The room.
    pub room: RoomId,
    /// For the draws. Nodes with one seed would draw alike, so mix in something of your own.
    pub seed: u64,
}

/// What the election knows of another device of the room.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MemberFacts {
    /// Whether there is a connection to it.
    pub connected: bool,
    /// Its latest known score; see [`Fitness`].
    pub score: u16,
}

/// What is to be done.
#[derive(Clone, PartialEq, Eq, Debug)]
#[must_use]
pub enum ElectionOutput {
    /// Send a heartbeat. Room, term, time of sending and log are filled in by the sender.
    SendHeartbeat {
        /// To whom.
        to: NodeId,
        /// Its number within the term.
        seq: u32,
        /// Who should take over, best first; at most three.
        successors: Vec<NodeId>,
        /// Devices heard lately, this one included.
        live: u16,
        /// For how many whole seconds this node has led.
        age_s: u32,
    },
    /// Answer a heartbeat, with this node's log and [`Election::score`].
    SendAck {
        /// To whom.
        to: NodeId,
        /// Which heartbeat.
        seq: u32,
    },
    /// Ask for a vote; the log is filled in by the sender.
    SendPreVote {
        /// To whom.
        to: NodeId,
        /// The number that the term would have.
        n: u64,
        /// Which round.
        round: u32,
    },
    /// Answer a pre-vote.
    SendPreVoteReply {
        /// To whom.
        to: NodeId,
        /// Which round of the asker.
        round: u32,
        /// Granted, for 300 ms and nobody else.
        granted: bool,
        /// The coordinator is heard here.
        alive: bool,
        /// This node's log goes further than the asker's.
        ahead: bool,
        /// The highest term known here.
        term: Term,
    },
    /// Tell somebody that its term, or the one it follows, is over.
    SendStale {
        /// To whom.
        to: NodeId,
        /// The higher term.
        term: Term,
        /// Whether its owner is heard here.
        alive: bool,
    },
    /// Ask a member to take over; the signature is made by the sender.
    SendHandoff {
        /// Whom.
        to: NodeId,
        /// Where this node's log ends.
        at_idx: u64,
    },
    /// Ask the gateway of this device's network for an echo; say
    /// [`gateway_answered`](Election::gateway_answered) if it comes.
    AskGateway,
    /// Coordinate from now on, and say so to everybody with a start message that contains
    /// [`Election::handoff`].
    Lead {
        /// This node's term; higher than every term before.
        term: Term,
    },
    /// Follow the owner of this term.
    Follow {
        /// Never lower than a term before; the same again after a silence.
        term: Term,
    },
    /// Nobody coordinates at the moment.
    Lost,
    /// Two coordinators met and this one yields; a [`Follow`](ElectionOutput::Follow) comes
    /// next. What the winner's log does not contain is gone: take its snapshot unless its
    /// log simply continues this one, and announce it.
    Discarded {
        /// This node's term until now.
        branch: Term,
        /// Last entry of its log.
        last_idx: u64,
        /// The term that goes on.
        winner: Term,
        /// Last entry of its log.
        winner_idx: u64,
    },
}

/// The election in one room, as one node sees it. See the [module](self).
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "facts that have nothing to do with each other")]
pub struct Election {
    config: ElectionConfig,
    rng: Rng,
    state: State,
    /// The term acted upon: followed, led, or last followed. Never falls.
    term: Term,
    /// The owner of `term` has said that it leaves.
    is_over: bool,
    /// This node is about to stop.
    is_leaving: bool,
    /// Number of the latest heartbeat of `term` heard.
    heard_seq: u32,
    /// The highest term heard of, acted upon or not.
    highest: Term,
    others: BTreeMap<NodeId, MemberFacts>,
    log: LogEnd,
    /// Whether music sounds here.
    is_playing: bool,
    score: u16,
    knows_time: bool,
    /// The hand-over that this node's latest reign came of.
    handoff: Option<Handoff>,
    /// As the coordinator last ordered them.
    successors: Vec<NodeId>,
    promise: Option<Promise>,
    /// A term that this node did not expect, and when it was first heard.
    sighted: Option<(Term, LocalTime)>,
    /// What the coordinator said that it yields to.
    yielded_to: Option<Term>,
    /// Until then the promises bind that were given in the latest round known, this node's
    /// own or another's.
    contested_until: LocalTime,
    rounds: u32,
    /// When anything was last heard from anybody.
    contact: LocalTime,
    /// Until then this node doubts itself.
    doubtful_until: LocalTime,
    live: BTreeSet<NodeId>,
    outputs: VecDeque<ElectionOutput>,
}

impl Election {
    /// How much it remembers of others.
    #[must_use]
    pub fn size(&self) -> usize {
        let reign = match &self.state {
            State::Coordinator(reign) => {
                reign.heard.len() + reign.deserters.len() + reign.beaten.len()
            }
            State::Candidate { round, .. } => round.asked.len() + round.answers.len(),
            _ => 0,
        };
        let outputs = self.outputs.len();
        reign + outputs + self.others.len() + self.live.len() + self.successors.len()
    }

    /// An observer. It stands for itself only once it has the room's log and has heard nobody
    /// for 3 s.
    #[must_use]
    pub fn new(config: ElectionConfig, now: LocalTime) -> Election {
        Election {
            config,
            rng: Rng::new(config.seed),
            state: State::Observer { stand_at: now + timing::LOOK },
            term: Term::ZERO,
            is_over: false,
            is_leaving: false,
            heard_seq: 0,
            highest: Term::ZERO,
            others: BTreeMap::new(),
            log: LogEnd::EMPTY,
            is_playing: false,
            handoff: None,
            score: Fitness::default().score(),
            knows_time: true,
            successors: Vec::new(),
            promise: None,
            sighted: None,
            yielded_to: None,
            contested_until: now,
            rounds: 0,
            contact: now,
            doubtful_until: now,
            live: BTreeSet::new(),
            outputs: VecDeque::new(),
        }
    }

    /// This node has made the room: it coordinates at once.
    pub fn found(&mut self, now: LocalTime) {
        self.lead(now, BTreeMap::new());
    }

    /// This node has entered an existing room that, as it was told, is led by `term.node`. It
    /// follows as soon as it hears a heartbeat.
    pub fn join(&mut self, now: LocalTime, term: Term) {
        self.state = State::Observer { stand_at: now + timing::LOOK };
        if self.is_credible(term) {
            self.term = self.term.max(term);
            self.note(term);
        }
    }

    /// Every other device of the room, connected or not. This node itself is not counted.
    pub fn members_changed(&mut self, now: LocalTime, others: &BTreeMap<NodeId, MemberFacts>) {
        let mut others = others.clone();
        others.remove(&self.config.me);
        if self.connected().next().is_none() {
            // There was nobody to be heard.
            self.contact = now;
        }
        let before = std::mem::replace(&mut self.others, others);
        self.live.retain(|node| self.others.contains_key(node));
        match &self.state {
            State::Coordinator(_) => self.greet_newly_connected(now, &before),
            State::Follower { .. } if !self.others.contains_key(&self.term.node) => {
                self.suspect(now);
            }
            _ => {}
        }
    }

    /// Where this node's log ends now. A node whose log is empty (`last_idx` 0) never stands:
    /// it would lead a room of which it knows nothing.
    pub fn log_changed(&mut self, last_idx: u64, last_term: Term, chain: [u8; 16]) {
        self.log = LogEnd { idx: last_idx, term: last_term, chain };
        if last_term.n <= timing::MAX_N {
            self.note(last_term);
        }
    }

    /// Whether music sounds in this part of the room: between two halves of equal size the one
    /// that plays goes on.
    pub fn set_playing(&mut self, is_playing: bool) {
        self.is_playing = is_playing;
    }

    /// Whether this node knows the room's time. One that does not lets all others stand first.
    pub fn set_knows_time(&mut self, knows_time: bool) {
        self.knows_time = knows_time;
    }

    /// How fit this node is; sent with every answer to a heartbeat.
    pub fn set_score(&mut self, score: u16) {
        self.score = score;
    }

    /// How fit this node is.
    #[must_use]
    pub fn score(&self) -> u16 {
        self.score
    }

    /// The machine was asleep, or its clock ticked with a gap of more than a second: others
    /// have probably elected somebody. For 600 ms nothing is sent.
    pub fn resumed(&mut self, now: LocalTime) {
        if matches!(self.state, State::Observer { .. }) {
            self.state = State::Observer { stand_at: now + timing::LOOK };
        } else {
            self.lose();
            self.state = State::Lame { until: now + timing::LAME };
        }
    }

    /// This node leaves at once. It never stands again; the caller says goodbye to the others,
    /// who elect at once. See [`retire`](Election::retire) for the way without a pause.
    pub fn resign(&mut self, _now: LocalTime) {
        self.lose();
        self.is_leaving = true;
        self.state = State::Observer { stand_at: LocalTime::FAR };
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: LocalTime) {
        self.notice_lateness(now);
        match self.state {
            State::Observer { stand_at } if now >= stand_at && self.may_stand() => {
                self.suspect(now);
            }
            State::Follower { heard } if now >= heard + self.patience(heard) => self.suspect(now),
            State::Lame { until } if now >= until => self.suspect(now),
            State::Candidate { ref round, .. } if now >= round.ends => self.close_round(now),
            State::Coordinator(_) => self.coordinate(now),
            _ => {}
        }
        if matches!(self.state, State::Suspect { stand_at, .. } if now >= stand_at) {
            self.stand(now);
        }
    }

    /// When [`handle_timeout`](Election::handle_timeout) is due next.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<LocalTime> {
        let at = match &self.state {
            State::Observer { .. } if !self.may_stand() => LocalTime::FAR,
            State::Observer { stand_at } | State::Suspect { stand_at, .. } => *stand_at,
            State::Follower { heard } => *heard + self.patience(*heard),
            State::Candidate { round, .. } => round.ends,
            State::Coordinator(reign) => {
                let answer_by = reign.handover.as_ref().map(|handover| handover.answer_by);
                let beat = reign.next_beat.min(reign.reterm_at);
                answer_by.map_or(beat, |at| beat.min(at))
            }
            State::Lame { until } => *until,
        };
        (at != LocalTime::FAR).then_some(at)
    }

    /// What is to be done next, in order.
    pub fn poll_output(&mut self) -> Option<ElectionOutput> {
        self.outputs.pop_front()
    }

    /// What this node is at the moment.
    #[must_use]
    pub fn role(&self) -> Role {
        match self.state {
            State::Observer { .. } => Role::Observer,
            State::Follower { .. } => Role::Follower,
            State::Suspect { .. } => Role::Suspect,
            State::Candidate { .. } => Role::Candidate,
            State::Coordinator(_) => Role::Coordinator,
            State::Lame { .. } => Role::Lame,
        }
    }

    /// The term led or followed, or the last one. Never falls.
    #[must_use]
    pub fn term(&self) -> Term {
        self.term
    }

    /// Who coordinates, this node included; none while nobody is heard.
    #[must_use]
    pub fn coordinator(&self) -> Option<NodeId> {
        matches!(self.state, State::Follower { .. } | State::Coordinator(_))
            .then_some(self.term.node)
    }

    /// As coordinator: the members heard lately, without this node. Empty for all others.
    #[must_use]
    pub fn live(&self) -> &BTreeSet<NodeId> {
        &self.live
    }

    fn output(&mut self, output: ElectionOutput) {
        self.outputs.push_back(output);
    }

    fn timing(&self) -> Timing {
        Timing::of(self.connected().count() + 1)
    }

    fn connected(&self) -> impl Iterator<Item = NodeId> {
        self.others.iter().filter(|(_, facts)| facts.connected).map(|(&node, _)| node)
    }

    fn is_member(&self, node: NodeId) -> bool {
        self.others.contains_key(&node)
    }

    fn may_stand(&self) -> bool {
        self.log.idx > 0 && !self.is_leaving
    }

    /// This node knew that term here when it left: what it begins is above it.
    pub fn outlive(&mut self, term: Term) {
        self.note(term);
    }

    /// Remembers a term heard of, so that the next one lies above it.
    fn note(&mut self, term: Term) {
        self.highest = self.highest.max(term);
    }

    /// Whether a term is near enough to those known to be believed. An observer knows none.
    fn is_credible(&self, term: Term) -> bool {
        let is_observer = matches!(self.state, State::Observer { .. });
        let near = is_observer || term.n <= self.highest.n + timing::MAX_LEAP;
        near && term.n <= timing::MAX_N
    }

    /// Says that nobody coordinates, if somebody did.
    fn lose(&mut self) {
        self.live.clear();
        if matches!(self.state, State::Follower { .. } | State::Coordinator(_)) {
            self.output(ElectionOutput::Lost);
        }
    }
}
