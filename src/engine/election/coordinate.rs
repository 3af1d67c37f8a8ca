//! Leading: terms, heartbeats, and who is live.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use crate::base::{LocalTime, NodeId, Term};
use crate::engine::planted::{self, Bug};
use crate::wire::HeartbeatAck;

use super::state::{Heard, Reign, State};
use super::timing::BEACON;
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
        let heard = reign.heard.entry(from).or_insert(Heard::at(sent));
        heard.at = heard.at.max(sent);
        heard.score = Some(ack.score);
        heard.log = Some((ack.last_idx, ack.chain));
        let is_live = now - heard.at < pace.live();
        reign.deserters.remove(&from);
        reign.beaten.remove(&from);
        if is_live {
            self.live.insert(from);
        }
    }

    /// Begins to lead.
    pub(super) fn lead(&mut self, now: LocalTime, heard: BTreeMap<NodeId, Heard>) {
        self.handoff = None;
        self.begin_term(now, Reign::new(now, heard));
    }

    /// Begins a term above all that were heard of.
    pub(super) fn begin_term(&mut self, now: LocalTime, reign: Reign) {
        let n = self.highest.max(self.term).n + 1;
        let boot = if planted::is(Bug::ForgottenBoot) { 1 } else { self.config.boot };
        let term = Term { n, node: self.config.me, boot };
        self.term = term;
        self.highest = term;
        self.is_over = false;
        self.live = reign.heard.keys().copied().collect();
        self.state = State::Coordinator(reign);
        self.output(ElectionOutput::Lead { term });
        self.coordinate(now);
    }

    pub(super) fn coordinate(&mut self, now: LocalTime) {
        let State::Coordinator(reign) = &mut self.state else { return };
        if now >= reign.reterm_at && reign.handover.is_none() {
            self.rise(now);
        } else if now >= reign.next_beat {
            self.beat(now);
        }
        self.mind_handover(now);
    }

    fn beat(&mut self, now: LocalTime) {
        let pace = self.timing();
        let State::Coordinator(reign) = &mut self.state else { return };
        reign.seq += 1;
        reign.next_beat = now + pace.heartbeat;
        let heard = &reign.heard;
        self.live.retain(|node| heard.get(node).is_some_and(|h| now - h.at < pace.live()));
        let seq = reign.seq;
        self.feel_shaken(now);
        self.look_for_fitter(now);
        let quiet = self.kept_at_a_distance(now);
        self.send_heartbeats(now, seq, |node| !quiet.contains(&node));
    }

    /// Members that follow somebody else hear this node once a second: a heartbeat that they
    /// can only refuse costs two packets.
    fn kept_at_a_distance(&mut self, now: LocalTime) -> Vec<NodeId> {
        let State::Coordinator(reign) = &mut self.state else { return Vec::new() };
        reign.deserters.retain(|_, deserter| now - deserter.said < BEACON + BEACON + BEACON);
        let mut quiet = Vec::new();
        for (node, deserter) in &mut reign.deserters {
            if now < deserter.next_beacon {
                quiet.push(*node);
            } else {
                deserter.next_beacon = now + BEACON;
            }
        }
        quiet
    }

    /// Those who have just been connected need not wait for the next beat.
    pub(super) fn greet_newly_connected(
        &mut self,
        now: LocalTime,
        before: &BTreeMap<NodeId, MemberFacts>,
    ) {
        let State::Coordinator(reign) = &self.state else { return };
        let seq = reign.seq;
        let is_new = |node| !before.get(&node).is_some_and(|facts| facts.connected);
        self.send_heartbeats(now, seq, is_new);
    }

    fn send_heartbeats(&mut self, now: LocalTime, seq: u32, to_whom: impl Fn(NodeId) -> bool) {
        let State::Coordinator(reign) = &self.state else { return };
        let age_s = reign.age_s(now);
        let successors = self.succession();
        let live = self.weight();
        let receivers: Vec<NodeId> = self.connected().filter(|&node| to_whom(node)).collect();
        for to in receivers {
            let successors = successors.clone();
            self.output(ElectionOutput::SendHeartbeat { to, seq, successors, live, age_s });
        }
    }

    /// The three fittest of those heard lately; before anybody is, of those connected.
    fn succession(&self) -> Vec<NodeId> {
        let mut order = self.by_fitness();
        order.truncate(3);
        order
    }

    pub(super) fn by_fitness(&self) -> Vec<NodeId> {
        let mut order: Vec<NodeId> = if self.live.is_empty() {
            self.connected().collect()
        } else {
            self.live.iter().copied().collect()
        };
        order.sort_by_key(|&node| (Reverse(self.score_of(node)), node));
        order
    }

    pub(super) fn score_of(&self, node: NodeId) -> u16 {
        let State::Coordinator(reign) = &self.state else { return 0 };
        let told = reign.heard.get(&node).and_then(|heard| heard.score);
        told.unwrap_or_else(|| self.others.get(&node).map_or(0, |facts| facts.score))
    }

    /// How many devices stand behind this coordinator, itself included.
    pub(super) fn weight(&self) -> u16 {
        u16::try_from(self.live.len() + 1).unwrap_or(u16::MAX)
    }
}
