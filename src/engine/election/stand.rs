//! Asking the others, and counting what they say.

use std::collections::BTreeMap;

use crate::base::{LocalTime, NodeId, Span};
use crate::wire::PreVoteReply;

use super::state::{Answer, Gateway, Heard, Promise, Round, Silence, State, Verdict};
use super::timing::{
    ALIVE_BACKOFF, BEHIND_BACKOFF, ISOLATION, ISOLATION_DISCONNECTED, ISOLATION_OF_TWO,
    ISOLATION_OF_TWO_IN_REACH, PROMISE, RETRY_DRAW, RETRY_SPREAD, ROUND,
};
use super::{Election, ElectionOutput};

impl Election {
    /// An answer to this node's pre-vote. Answers of earlier rounds, second answers and those
    /// of strangers do not count.
    pub fn pre_vote_reply_received(&mut self, now: LocalTime, from: NodeId, reply: &PreVoteReply) {
        if reply.room != self.config.room || !self.is_member(from) {
            return;
        }
        if self.is_credible(reply.term) {
            self.note(reply.term);
        }
        let State::Candidate { round, .. } = &mut self.state else { return };
        if round.number != reply.round || !round.asked.contains(&from) {
            return;
        }
        round.answers.entry(from).or_insert(answer_of(reply));
        self.close_round_if_complete(now);
    }

    /// This node's turn has come: ask everybody who is connected.
    pub(super) fn stand(&mut self, now: LocalTime) {
        let State::Suspect { silence, .. } = self.state else { return };
        if self.contested_until > now {
            self.retry_after_promises(now, silence);
        } else if !self.may_stand() {
            self.state = State::Suspect { silence, stand_at: now + ISOLATION };
        } else if self.connected().next().is_none() {
            self.unanswered(now, silence);
        } else {
            self.ask(now, silence);
        }
    }

    fn ask(&mut self, now: LocalTime, silence: Silence) {
        self.rounds = self.rounds.wrapping_add(1);
        let position = self.log.position();
        self.contested_until = now + PROMISE;
        self.promise = Some(Promise { to: self.config.me, until: now + PROMISE, position });
        let round = Round {
            number: self.rounds,
            ends: now + ROUND,
            asked: self.connected().collect(),
            answers: BTreeMap::new(),
        };
        let n = self.highest.max(self.term).n + 1;
        for &to in &round.asked {
            self.outputs.push_back(ElectionOutput::SendPreVote { to, n, round: round.number });
        }
        self.state = State::Candidate { silence, round };
    }

    /// A candidate that has granted somebody with a longer log no longer stands against it.
    pub(super) fn stand_back(&mut self, now: LocalTime) {
        if let State::Candidate { silence, .. } = self.state {
            self.retry_after_promises(now, silence);
        }
    }

    pub(super) fn close_round_if_complete(&mut self, now: LocalTime) {
        let silent = self.term.node;
        if matches!(&self.state, State::Candidate { round, .. } if round.is_complete(silent)) {
            self.close_round(now);
        }
    }

    pub(super) fn close_round(&mut self, now: LocalTime) {
        let State::Candidate { silence, round } = &self.state else { return };
        let mut silence = *silence;
        let mut verdict = round.verdict();
        // Whoever is ahead had four seconds to stand itself and did not: the room goes on.
        if verdict == Verdict::Behind && now - silence.since >= ISOLATION {
            verdict = round.majority();
        }
        let won = (verdict == Verdict::Won).then(|| round.grants().collect::<Vec<NodeId>>());
        if verdict != Verdict::Unanswered {
            silence.unanswered_since = now;
        }
        match (verdict, won) {
            (_, Some(grants)) => self.win(now, &grants),
            (Verdict::Unanswered, _) => self.unanswered(now, silence),
            (Verdict::Alive, _) => self.retry(now + ALIVE_BACKOFF, silence),
            (Verdict::Behind, _) => self.retry_after_promises(now + BEHIND_BACKOFF, silence),
            _ => self.retry_after_promises(now, silence),
        }
    }

    /// Whoever granted is about to follow, so it counts as heard until it says otherwise.
    fn win(&mut self, now: LocalTime, grants: &[NodeId]) {
        let heard = |&node: &NodeId| (node, Heard::at(now));
        self.lead(now, grants.iter().map(heard).collect());
    }

    /// Nobody answers. That this node alone is left, and not merely cut off, is believed only
    /// after a while.
    fn unanswered(&mut self, now: LocalTime, silence: Silence) {
        let silence = self.ask_gateway(silence);
        let alone_at = silence.unanswered_since + self.isolation(silence.gateway);
        if now >= alone_at {
            self.lead(now, BTreeMap::new());
            return;
        }
        // The last round ends just when this node may believe it is alone.
        let next = self.contested_until.max(now) + self.draw(RETRY_SPREAD);
        let last = (alone_at - ROUND).max(self.contested_until);
        let last = if self.connected().next().is_none() { alone_at } else { last };
        self.retry(next.min(last), silence);
    }

    /// With nobody else to ask, the gateway can tell which of two devices is away.
    fn ask_gateway(&mut self, silence: Silence) -> Silence {
        if silence.gateway != Gateway::NotAsked
            || self.isolation(Gateway::NotAsked) != ISOLATION_OF_TWO
        {
            return silence;
        }
        self.output(ElectionOutput::AskGateway);
        Silence { gateway: Gateway::Asked, ..silence }
    }

    /// The gateway answers this device.
    pub fn gateway_answered(&mut self, now: LocalTime) {
        let (State::Suspect { silence, .. } | State::Candidate { silence, .. }) = &mut self.state
        else {
            return;
        };
        if silence.gateway != Gateway::Asked {
            return;
        }
        silence.gateway = Gateway::Answered;
        let silence = *silence;
        if matches!(self.state, State::Suspect { .. }) {
            self.unanswered(now, silence);
        }
    }

    fn isolation(&self, gateway: Gateway) -> Span {
        let coordinator = self.term.node;
        if self.others.is_empty() {
            Span::ZERO
        } else if self.connected().next().is_none() {
            ISOLATION_DISCONNECTED
        } else if self.connected().all(|node| node == coordinator) {
            let in_reach = gateway == Gateway::Answered;
            if in_reach { ISOLATION_OF_TWO_IN_REACH } else { ISOLATION_OF_TWO }
        } else {
            ISOLATION
        }
    }

    /// Once the promises of the latest round have run out, in the order of succession: those
    /// who have just taken the votes from each other do not meet again.
    fn retry_after_promises(&mut self, now: LocalTime, silence: Silence) {
        let turn = Span(self.rank_delay().0 / 2) + self.draw(RETRY_DRAW);
        self.retry(self.contested_until.max(now) + turn, silence);
    }

    fn retry(&mut self, stand_at: LocalTime, silence: Silence) {
        self.state = State::Suspect { silence, stand_at };
    }
}

fn answer_of(reply: &PreVoteReply) -> Answer {
    if reply.alive {
        Answer::Alive
    } else if reply.ahead {
        Answer::Ahead
    } else if reply.granted {
        Answer::Granted
    } else {
        Answer::Refused
    }
}
