//! What a node is in the election, and what it must remember to be that.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::{LocalTime, NodeId, Span, Term};

/// What this node is in the room, for status and logs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// Has not heard a coordinator since it came.
    Observer,
    /// Hears its coordinator.
    Follower,
    /// Its coordinator is silent; waits for its turn to stand.
    Suspect,
    /// Has asked the others.
    Candidate,
    /// Coordinates.
    Coordinator,
    /// Was asleep: keeps still and listens.
    Lame,
}

#[derive(Debug)]
pub(super) enum State {
    Observer {
        /// When it stands itself, if it has the room's log and heard nobody.
        stand_at: LocalTime,
    },
    Follower {
        /// When the latest heartbeat was sent.
        heard: LocalTime,
    },
    Suspect {
        silence: Silence,
        /// When it stands.
        stand_at: LocalTime,
    },
    Candidate {
        silence: Silence,
        round: Round,
    },
    Coordinator(Reign),
    Lame {
        until: LocalTime,
    },
}

/// How long nobody has led, and how long nobody has even answered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Silence {
    pub since: LocalTime,
    pub unanswered_since: LocalTime,
    pub gateway: Gateway,
}

/// Whether this node is known to reach the network that the others are in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Gateway {
    NotAsked,
    Asked,
    Answered,
}

impl Silence {
    pub fn new(now: LocalTime) -> Silence {
        Silence { since: now, unanswered_since: now, gateway: Gateway::NotAsked }
    }
}

/// One question to everybody: would you follow me?
#[derive(Debug)]
pub(super) struct Round {
    pub number: u32,
    pub ends: LocalTime,
    pub asked: BTreeSet<NodeId>,
    pub answers: BTreeMap<NodeId, Answer>,
}

/// What one member said, the reason that weighs most.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Answer {
    Granted,
    Refused,
    /// It hears the coordinator.
    Alive,
    /// Its log goes further.
    Ahead,
}

/// What the answers of a round amount to. Only who answered counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    Won,
    Lost,
    Alive,
    Behind,
    Unanswered,
}

impl Round {
    pub fn verdict(&self) -> Verdict {
        let given = |answer| self.answers.values().filter(|&&a| a == answer).count();
        if self.answers.is_empty() {
            Verdict::Unanswered
        } else if given(Answer::Alive) > 0 {
            Verdict::Alive
        } else if given(Answer::Ahead) > 0 {
            Verdict::Behind
        } else {
            self.majority()
        }
    }

    /// Grants and this node against all who answered and this node.
    pub fn majority(&self) -> Verdict {
        let for_me = self.grants().count() + 1;
        if 2 * for_me > self.answers.len() + 1 { Verdict::Won } else { Verdict::Lost }
    }

    pub fn grants(&self) -> impl Iterator<Item = NodeId> {
        self.answers.iter().filter(|&(_, &a)| a == Answer::Granted).map(|(&node, _)| node)
    }

    /// Whether everybody has answered who can be expected to: the silent coordinator cannot.
    pub fn is_complete(&self, silent: NodeId) -> bool {
        !self.answers.is_empty()
            && self.asked.iter().all(|node| *node == silent || self.answers.contains_key(node))
    }
}

/// A grant binds until it runs out, except toward somebody whose log goes further: the first
/// asker will not be elected by those who hold what it lacks, so keeping to it would only
/// keep out the one that can be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Promise {
    pub to: NodeId,
    pub until: LocalTime,
    /// Where the log of its receiver ends.
    pub position: (Term, u64),
}

impl Promise {
    pub fn allows(&self, now: LocalTime, node: NodeId, position: (Term, u64)) -> bool {
        self.to == node || self.until <= now || position > self.position
    }
}

/// What a coordinator remembers of its reign.
#[derive(Debug)]
pub(super) struct Reign {
    /// When this node began to lead. Another term of its own does not change it.
    pub since: LocalTime,
    /// When the present term began.
    pub term_since: LocalTime,
    /// Heartbeats sent in this term.
    pub seq: u32,
    pub next_beat: LocalTime,
    /// What members answered.
    pub heard: BTreeMap<NodeId, Heard>,
    /// When to start a term above a higher one that nobody leads; none is planned at the end
    /// of time.
    pub reterm_at: LocalTime,
    /// When most members were last found not to answer.
    pub shaken_at: Option<LocalTime>,
    /// Members that follow somebody whom this node does not hear.
    pub deserters: BTreeMap<NodeId, Deserter>,
    /// Rivals above whose terms this node has risen.
    pub beaten: BTreeMap<NodeId, Beaten>,
    /// Handing over at the moment.
    pub handover: Option<Handover>,
    /// Who is fitter than this node, and since when.
    pub fitter: Option<(NodeId, LocalTime)>,
    /// No voluntary hand-over before.
    pub stay_until: LocalTime,
}

/// What a member answered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Heard {
    /// When the latest heartbeat that it answered was sent.
    pub at: LocalTime,
    pub score: Option<u16>,
    /// Where its log ended, and the chain value there.
    pub log: Option<(u64, [u8; 16])>,
}

/// A member that follows another coordinator.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deserter {
    pub said: LocalTime,
    pub next_beacon: LocalTime,
}

/// A rival that was told to yield.
#[derive(Clone, Copy, Debug)]
pub(super) struct Beaten {
    pub until: LocalTime,
    pub pause: Span,
}

/// Giving the lead to somebody.
#[derive(Clone, Debug)]
pub(super) struct Handover {
    pub cause: Cause,
    /// Who has been asked, the last of them at the moment.
    pub asked: Vec<NodeId>,
    /// Until then that one may answer.
    pub answer_by: LocalTime,
    /// Then it is given up.
    pub ends: LocalTime,
}

/// Why the lead is given away.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Cause {
    /// This node is about to stop.
    Leaving,
    /// Another is fitter.
    Fitter,
}

impl Heard {
    /// Whoever granted, or was heard in the term before, and has not answered yet.
    pub fn at(at: LocalTime) -> Heard {
        Heard { at, score: None, log: None }
    }
}

impl Reign {
    pub fn new(now: LocalTime, heard: BTreeMap<NodeId, Heard>) -> Reign {
        Reign {
            since: now,
            term_since: now,
            seq: 0,
            next_beat: now,
            heard,
            reterm_at: LocalTime::FAR,
            shaken_at: None,
            deserters: BTreeMap::new(),
            beaten: BTreeMap::new(),
            handover: None,
            fitter: None,
            stay_until: now,
        }
    }

    /// When the heartbeat of that number was sent, as far as a steady pace tells.
    pub fn sent(&self, seq: u32, now: LocalTime, pace: Span) -> LocalTime {
        let back = i64::from(self.seq.saturating_sub(seq).min(1000));
        let last = self.next_beat - pace;
        (last - Span(pace.0.saturating_mul(back))).min(now)
    }

    /// For how many whole seconds it has lasted.
    pub fn age_s(&self, now: LocalTime) -> u32 {
        u32::try_from((now - self.since).as_millis() / 1000).unwrap_or(0)
    }

    /// A member is gone, whatever the reason.
    pub fn forget(&mut self, node: NodeId) {
        self.heard.remove(&node);
        self.deserters.remove(&node);
    }
}

/// Where a node's log ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct LogEnd {
    pub idx: u64,
    pub term: Term,
    pub chain: [u8; 16],
}

impl LogEnd {
    pub const EMPTY: LogEnd = LogEnd { idx: 0, term: Term::ZERO, chain: [0; 16] };

    /// Logs are compared by the term of their last entry, then by length.
    pub fn position(&self) -> (Term, u64) {
        (self.term, self.idx)
    }
}
