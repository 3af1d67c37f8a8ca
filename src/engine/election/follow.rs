//! Hearing a coordinator, and no longer hearing it.

use crate::base::{LocalTime, NodeId, Term};
use crate::engine::planted::{self, Bug};
use crate::wire::message::Start;
use crate::wire::{Heartbeat, PreVote};

use super::state::{Promise, Silence, State};
use super::timing::{self, MAX_LATE, PROMISE, RANK_SPREAD, RANK_STEP};
use super::{Election, ElectionOutput};
use crate::base::Span;

impl Election {
    /// A heartbeat arrived. `sent` is [`Heartbeat::sent`] on this device's clock if that is
    /// known to 5 ms, else the time of arrival; it is never later than `now`.
    ///
    /// A heartbeat vouches for its sender at the instant it was sent: those freed after a
    /// Wi-Fi stall would otherwise veto an election long after their sender died.
    pub fn heartbeat_received(
        &mut self,
        now: LocalTime,
        from: NodeId,
        heartbeat: &Heartbeat,
        sent: LocalTime,
    ) {
        let term = heartbeat.term;
        if heartbeat.room != self.config.room || !self.may_own(from, term) {
            return;
        }
        let arrival = planted::is(Bug::ArrivalTimeFreshness);
        let sent = if arrival { now } else { sent.clamp(now - MAX_LATE, now) };
        match (&self.state, term.cmp(&self.term)) {
            (State::Coordinator(_), _) => self.rival_heard(now, from, heartbeat, sent),
            (_, std::cmp::Ordering::Less) => self.refuse(now, term),
            (_, std::cmp::Ordering::Equal) => self.own_coordinator_heard(now, heartbeat, sent),
            (_, std::cmp::Ordering::Greater) => {
                if self.follow_if_free(now, from, term, sent) {
                    self.own_coordinator_heard(now, heartbeat, sent);
                }
            }
        }
    }

    /// Somebody begins a term; its signature, and that of a hand-over, have been checked.
    /// Between two coordinators the heartbeats decide, since only they say how many devices
    /// stand behind each. Whoever followed the one that handed over follows at once.
    pub fn start_received(&mut self, now: LocalTime, from: NodeId, start: &Start) {
        if start.room != self.config.room || !self.may_own(from, start.term) {
            return;
        }
        match &self.state {
            State::Coordinator(_) => self.rival_started(now, start),
            _ if start.term < self.term => self.refuse(now, start.term),
            _ if start.term > self.term && self.is_handed_to(from, start) => {
                self.note(start.term);
                self.follow(start.term, now);
            }
            _ if start.term > self.term => {
                self.follow_if_free(now, from, start.term, now);
            }
            _ => {}
        }
    }

    /// Whether the coordinator that this node follows gave its lead to that one.
    fn is_handed_to(&self, node: NodeId, start: &Start) -> bool {
        let handed = start.handoff.is_some_and(|h| h.term == self.term && h.to == node);
        handed && self.is_credible(start.term)
    }

    /// A member says goodbye.
    pub fn bye_received(&mut self, now: LocalTime, from: NodeId) {
        if from == self.term.node {
            self.is_over = true;
        }
        self.peer_lost(now, from);
        if let State::Suspect { stand_at, .. } = &mut self.state {
            *stand_at = (*stand_at).max(now + timing::GOODBYE);
        }
    }

    /// The connection to a member is closed. Only a hint, but one that is acted upon at once:
    /// if others still hear the coordinator, they say so.
    pub fn peer_lost(&mut self, now: LocalTime, from: NodeId) {
        if let Some(facts) = self.others.get_mut(&from) {
            facts.connected = false;
        }
        match &mut self.state {
            State::Follower { .. } if from == self.term.node => self.suspect(now),
            State::Coordinator(reign) => {
                reign.forget(from);
                self.live.remove(&from);
            }
            State::Candidate { round, .. } => {
                round.asked.remove(&from);
                if round.asked.is_empty() {
                    self.close_round(now);
                } else {
                    self.close_round_if_complete(now);
                }
            }
            State::Suspect { .. } => self.hurry_if_alone(),
            _ => {}
        }
    }

    /// Every connection is known to be closed: there is nobody to wait for.
    fn hurry_if_alone(&mut self) {
        let is_alone = self.connected().next().is_none();
        if let State::Suspect { silence, stand_at } = &mut self.state
            && is_alone
        {
            let alone_at = silence.unanswered_since + timing::ISOLATION_DISCONNECTED;
            *stand_at = (*stand_at).min(alone_at.max(self.contested_until));
        }
    }

    /// A member's host says that nobody listens there any more, or the like: a hint that
    /// anybody in the network can forge. If it concerns the coordinator the others are asked
    /// at once; one who hears it stops that, and so does its next heartbeat.
    pub fn peer_doubted(&mut self, now: LocalTime, node: NodeId) {
        if matches!(self.state, State::Follower { .. }) && node == self.term.node {
            self.suspect(now);
        }
    }

    /// A member knows a higher term than ours.
    pub fn stale_received(&mut self, now: LocalTime, from: NodeId, term: Term, alive: bool) {
        if !self.is_member(from) || !self.is_credible(term) || term <= self.term {
            return;
        }
        self.note(term);
        let fresh = self.timing().fresh();
        match &mut self.state {
            State::Coordinator(_) => self.deserted(now, from, alive),
            // My coordinator itself has yielded: whoever it yielded to may be followed.
            State::Follower { heard } if from == self.term.node => {
                *heard = (*heard).min(now - fresh);
                self.yielded_to = Some(term);
            }
            _ => {}
        }
    }

    /// A member asks whether this node would follow it.
    pub fn pre_vote_received(&mut self, now: LocalTime, from: NodeId, ask: &PreVote) {
        let silent = matches!(self.state, State::Lame { .. });
        if ask.room != self.config.room || !self.is_member(from) || silent {
            return;
        }
        let alive = self.hears(now) && self.term.node != from;
        let position = (ask.last_term, ask.last_idx);
        let ahead = self.log.position() > position;
        let free = self.promise.is_none_or(|promise| promise.allows(now, from, position));
        let granted = !alive && !ahead && ask.n > self.term.n && free;
        if !alive && !ahead && ask.n > self.term.n {
            self.contested_until = now + PROMISE;
        }
        if granted {
            self.promise = Some(Promise { to: from, until: now + PROMISE, position });
            self.stand_back(now);
        }
        self.output(ElectionOutput::SendPreVoteReply {
            to: from,
            round: ask.round,
            granted,
            alive,
            ahead,
            term: self.highest.max(self.term),
        });
        if ahead && !alive && self.may_stand() {
            self.stand_soon(now);
        }
    }

    /// Whether this node can vouch for a coordinator: it is it, or heard it just now.
    pub(super) fn hears(&self, now: LocalTime) -> bool {
        match self.state {
            State::Coordinator(_) => true,
            State::Follower { heard } => now - heard < self.timing().fresh(),
            _ => false,
        }
    }

    /// The coordinator is gone, or silent for too long: this node stands when its turn comes.
    pub(super) fn suspect(&mut self, now: LocalTime) {
        let mut stand_at = now + self.rank_delay();
        // Whoever has only just come does not know the room's time yet. As coordinator it would
        // have to found the timeline anew, and the music would stop for it.
        if matches!(self.state, State::Follower { .. }) && !self.knows_time {
            stand_at += timing::TIMELESS;
        }
        self.lose();
        self.state = State::Suspect { silence: Silence::new(now), stand_at };
    }

    /// Sender and term of a heartbeat or a start fit together, and the sender may lead here.
    /// An observer may not know the members yet: it takes whom it was told to follow.
    fn may_own(&self, from: NodeId, term: Term) -> bool {
        let told = matches!(self.state, State::Observer { .. }) && from == self.term.node;
        let me = self.config.me;
        term.node == from && from != me && (self.is_member(from) || told)
    }

    fn own_coordinator_heard(&mut self, now: LocalTime, heartbeat: &Heartbeat, sent: LocalTime) {
        if self.is_over || heartbeat.seq <= self.heard_seq {
            return;
        }
        self.heard_seq = heartbeat.seq;
        self.sighted = None;
        self.successors.clear();
        self.successors.extend(heartbeat.successors.iter().take(3));
        let pace = self.timing();
        match &mut self.state {
            State::Follower { heard } => *heard = (*heard).max(sent),
            _ if now - sent < pace.silence => self.follow(heartbeat.term, sent),
            _ => return,
        }
        if heartbeat.seq.is_multiple_of(pace.ack_every) {
            let to = heartbeat.term.node;
            self.output(ElectionOutput::SendAck { to, seq: heartbeat.seq });
        }
    }

    /// Follows the owner of a higher term, unless the present coordinator is heard or what
    /// was heard is too old to show that the new one lives.
    fn follow_if_free(
        &mut self,
        now: LocalTime,
        from: NodeId,
        term: Term,
        sent: LocalTime,
    ) -> bool {
        if !self.is_credible(term) {
            return false;
        }
        self.note(term);
        let is_other = self.term.node != from;
        let bound = self.hears(now) && is_other;
        if bound || now - sent >= self.timing().silence {
            return false;
        }
        if is_other && !self.is_expected(now, term) && !self.is_sighted_again(now, term) {
            return false;
        }
        self.follow(term, sent);
        true
    }

    /// Whether this node knows why that term begins: it has granted it, the coordinator has
    /// yielded to it, or this node was away.
    fn is_expected(&self, now: LocalTime, term: Term) -> bool {
        let granted = self
            .promise
            .is_some_and(|p| p.to == term.node && now < p.until + timing::GRANT_REMEMBERED);
        let is_new_here = matches!(self.state, State::Observer { .. } | State::Lame { .. });
        granted || is_new_here || self.yielded_to == Some(term)
    }

    /// A term that this node knows nothing of must be heard at two instants without the
    /// coordinator in between: after a stall the claims of a liar may overtake the heartbeats
    /// that come with them, but not by that much.
    fn is_sighted_again(&mut self, now: LocalTime, term: Term) -> bool {
        match self.sighted {
            Some((seen, at)) if seen == term => now - at >= timing::SIGHTED_AGAIN,
            _ => {
                self.sighted = Some((term, now));
                false
            }
        }
    }

    pub(super) fn follow(&mut self, term: Term, heard: LocalTime) {
        debug_assert!(term >= self.term, "terms never fall");
        let news = term != self.term || !matches!(self.state, State::Follower { .. });
        if term != self.term {
            self.heard_seq = 0;
            self.is_over = false;
        }
        self.term = term;
        self.live.clear();
        self.state = State::Follower { heard };
        if news {
            self.output(ElectionOutput::Follow { term });
        }
    }

    /// Tells the owner of a lower term that it is over. If that is who owns the present term as
    /// well, it knows, and this was late; unless it has started again since, with a disk from
    /// before: then nobody but those who followed it can tell it how far it was.
    fn refuse(&mut self, now: LocalTime, lower: Term) {
        let Term { node: to, boot, .. } = lower;
        let starts_again = to == self.term.node && boot > self.term.boot;
        if to != self.term.node || starts_again {
            let (term, alive) = (self.term, self.hears(now) && !starts_again);
            self.output(ElectionOutput::SendStale { to, term, alive });
        }
    }

    /// The first successor stands at once, the others a step apart, all beyond at random.
    pub(super) fn rank_delay(&mut self) -> Span {
        let gone = self.term.node;
        let mut ranked = self.successors.iter().filter(|&&node| node != gone);
        match ranked.position(|&node| node == self.config.me) {
            Some(rank) => Span(RANK_STEP.0 * i64::try_from(rank).expect("at most three")),
            None => Span(RANK_STEP.0 * 3) + self.draw(RANK_SPREAD),
        }
    }

    /// This node refused somebody because its own log goes further, so it must stand itself.
    /// The draw keeps several such from asking at one instant.
    fn stand_soon(&mut self, now: LocalTime) {
        let soon = now + self.draw(timing::HANDOVER);
        match &mut self.state {
            State::Follower { .. } | State::Observer { .. } => {
                self.suspect(now);
                if let State::Suspect { stand_at, .. } = &mut self.state {
                    *stand_at = soon;
                }
            }
            State::Suspect { stand_at, .. } => *stand_at = (*stand_at).min(soon),
            _ => {}
        }
    }

    /// Uniform between nothing and `span`.
    pub(super) fn draw(&mut self, span: Span) -> Span {
        let below = u64::try_from(span.0).unwrap_or(0);
        Span(i64::try_from(self.rng.below(below)).unwrap_or(0))
    }
}
