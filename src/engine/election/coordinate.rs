//! Leading: heartbeats, who is live, and meeting another coordinator.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use crate::base::{LocalTime, NodeId, Term};
use crate::wire::{Heartbeat, HeartbeatAck};

use super::state::{Heard, Reign, State};
use super::timing::{RETERM_DELAY, RETERM_PAUSE};
use super::{Election, ElectionOutput, MemberFacts};

impl Election {
    /// A member answered a heartbeat. As with heartbeats, what counts is when the one it
    /// answers was sent: answers that waited out a stall say nothing of the present.
    pub fn ack_received(&mut self, now: LocalTime, from: NodeId, ack: &HeartbeatAck) {
        if ack.room != self.config.room || !self.is_member(from) {
            return;
        }
        if ack.term != self.term {
            self.stale_received(now, from, ack.term, true);
            return;
        }
        let pace = self.timing();
        let State::Coordinator(reign) = &mut self.state else { return };
        if ack.seq > reign.seq {
            return;
        }
        let sent = reign.sent(ack.seq, now, pace.heartbeat);
        let heard = reign.heard.entry(from).or_insert(Heard { at: sent, score: None });
        heard.at = heard.at.max(sent);
        heard.score = Some(ack.score);
        if now - heard.at < pace.live() {
            self.live.insert(from);
        }
    }

    /// Begins a term above all that were heard of.
    pub(super) fn lead(&mut self, now: LocalTime, heard: BTreeMap<NodeId, Heard>) {
        let n = self.highest.max(self.term).n + 1;
        let term = Term { n, node: self.config.me, boot: self.config.boot };
        self.term = term;
        self.highest = term;
        self.is_over = false;
        self.live = heard.keys().copied().collect();
        self.state = State::Coordinator(Reign::new(now, heard));
        self.output(ElectionOutput::Lead { term });
        self.coordinate(now);
    }

    pub(super) fn coordinate(&mut self, now: LocalTime) {
        let State::Coordinator(reign) = &mut self.state else { return };
        if now >= reign.reterm_at {
            let heard = std::mem::take(&mut reign.heard);
            self.lead(now, heard);
        } else if now >= reign.next_beat {
            self.beat(now);
        }
    }

    fn beat(&mut self, now: LocalTime) {
        let pace = self.timing();
        let State::Coordinator(reign) = &mut self.state else { return };
        reign.seq += 1;
        reign.next_beat = now + pace.heartbeat;
        let heard = &reign.heard;
        self.live.retain(|node| heard.get(node).is_some_and(|h| now - h.at < pace.live()));
        let seq = reign.seq;
        self.send_heartbeats(seq, |_| true);
    }

    /// Those who have just been connected need not wait for the next beat.
    pub(super) fn greet_newly_connected(&mut self, before: &BTreeMap<NodeId, MemberFacts>) {
        let State::Coordinator(reign) = &self.state else { return };
        let seq = reign.seq;
        self.send_heartbeats(seq, |node| !before.get(&node).is_some_and(|facts| facts.connected));
    }

    fn send_heartbeats(&mut self, seq: u32, to_whom: impl Fn(NodeId) -> bool) {
        let successors = self.succession();
        let live = self.weight();
        let receivers: Vec<NodeId> = self.connected().filter(|&node| to_whom(node)).collect();
        for to in receivers {
            let successors = successors.clone();
            self.output(ElectionOutput::SendHeartbeat { to, seq, successors, live });
        }
    }

    /// The three fittest of those heard lately; before anybody is, of those connected.
    fn succession(&self) -> Vec<NodeId> {
        let mut order: Vec<NodeId> = if self.live.is_empty() {
            self.connected().collect()
        } else {
            self.live.iter().copied().collect()
        };
        order.sort_by_key(|&node| (Reverse(self.score_of(node)), node));
        order.truncate(3);
        order
    }

    fn score_of(&self, node: NodeId) -> u16 {
        let State::Coordinator(reign) = &self.state else { return 0 };
        let told = reign.heard.get(&node).and_then(|heard| heard.score);
        told.unwrap_or_else(|| self.others.get(&node).map_or(0, |facts| facts.score))
    }

    /// How many devices stand behind this coordinator, itself included.
    fn weight(&self) -> u16 {
        u16::try_from(self.live.len() + 1).unwrap_or(u16::MAX)
    }

    /// Another coordinator of this room is heard: a partition has healed, or one of us had
    /// stalled. The branch with the longer log goes on, then the one with more devices, then
    /// the higher term.
    pub(super) fn rival_heard(&mut self, now: LocalTime, rival: &Heartbeat, sent: LocalTime) {
        let is_news = now - sent < self.timing().fresh();
        if !is_news || !self.is_credible(rival.term) {
            return;
        }
        self.note(rival.term);
        let mine = (self.log.idx, self.weight(), self.term);
        let wins = mine > (rival.last_idx, rival.live, rival.term);
        let is_higher = rival.term > self.term;
        let State::Coordinator(reign) = &mut self.state else { return };
        match (wins, is_higher) {
            // Whoever follows the other could not come back to a lower term.
            (true, true) => reign.reterm_at = reign.reterm_at.min(now.max(reign.earliest_reterm())),
            // The other hears this and yields.
            (true, false) => {}
            // The other hears this and begins a term above mine.
            (false, false) => reign.reterm_at = LocalTime::FAR,
            (false, true) => self.yield_to(rival, sent),
        }
    }

    /// Members are told first, so that they need not wait out a silence.
    fn yield_to(&mut self, rival: &Heartbeat, sent: LocalTime) {
        let winner = rival.term;
        let told: Vec<NodeId> = self.connected().filter(|&node| node != winner.node).collect();
        for to in told {
            self.output(ElectionOutput::SendStale { to, term: winner, alive: true });
        }
        if (self.log.idx, self.log.chain) != (rival.last_idx, rival.chain) {
            self.output(ElectionOutput::Discarded {
                branch: self.term,
                last_idx: self.log.idx,
                winner,
                winner_idx: rival.last_idx,
            });
        }
        self.follow(winner, sent);
        self.heard_seq = rival.seq;
    }

    /// A member follows, or has followed, a higher term. If nobody leads that one any more,
    /// the member is stuck until a term above it begins.
    pub(super) fn deserted(&mut self, now: LocalTime, by: NodeId, alive: bool) {
        self.live.remove(&by);
        let State::Coordinator(reign) = &mut self.state else { return };
        reign.heard.remove(&by);
        if !alive {
            let at = (now + RETERM_DELAY).max(reign.earliest_reterm());
            reign.reterm_at = reign.reterm_at.min(at);
        }
    }
}

impl Reign {
    /// Two coordinators that both believe to win must not chase each other up the numbers.
    fn earliest_reterm(&self) -> LocalTime {
        self.since + RETERM_PAUSE
    }
}
