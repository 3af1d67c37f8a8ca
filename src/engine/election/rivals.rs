//! Meeting another coordinator, or hearing of one.
//!
//! | what is heard | what is done |
//! |---|---|
//! | a higher term begun just now, and most of my members do not answer | yield: they left because I stalled |
//! | another coordinator otherwise | the heavier branch goes on |
//! | a member follows a higher term whose owner nobody hears | begin a term above it, or the member stays out for ever |
//! | a member follows a higher term whose owner it hears | let it: it belongs to somebody I do not hear |
//!
//! Rising above somebody that does not yield must not become a race up the numbers: two
//! coordinators that cannot hear each other but share members would begin hundreds of terms a
//! minute, and a single member that lies would do so alone.

use crate::base::{LocalTime, NodeId, Term};
use crate::engine::planted::{self, Bug};
use crate::wire::Heartbeat;
use crate::wire::message::Start;

use super::state::{Beaten, Deserter, Reign, State};
use super::timing::{
    BEATEN_AT_MOST, BEATEN_FOR, DESERTED_FOR, FRESH_START_S, NEWLY_ELECTED_S, RETERM_DELAY,
    RETERM_PAUSE, SHAKEN_FOR,
};
use super::{Election, ElectionOutput};

/// Another coordinator's branch, as its heartbeat or its start tells.
struct Rival {
    term: Term,
    last_idx: u64,
    chain: [u8; 16],
    /// Number of its latest heartbeat.
    seq: u32,
}

impl Election {
    /// Another coordinator of this room is heard: a partition has healed, or one of us had
    /// stalled.
    pub(super) fn rival_heard(
        &mut self,
        now: LocalTime,
        from: NodeId,
        beat: &Heartbeat,
        sent: LocalTime,
    ) {
        let is_news = now - sent < self.timing().fresh();
        if !is_news || !self.is_credible(beat.term) {
            return;
        }
        self.note(beat.term);
        let is_higher = beat.term > self.term;
        let was_replaced = is_higher && beat.age_s < NEWLY_ELECTED_S && self.is_shaken(now);
        let outweighs = self.outweighs(now, beat);
        let State::Coordinator(reign) = &mut self.state else { return };
        if is_higher && (was_replaced || !outweighs) {
            let Heartbeat { term, last_idx, chain, seq, .. } = *beat;
            self.yield_to(&Rival { term, last_idx, chain, seq }, sent);
        } else if is_higher {
            // Whoever follows the other could not come back to a lower term.
            reign.rise_above(now, from, now);
        } else if !outweighs {
            // The other hears this and begins a term above mine.
            reign.reterm_at = LocalTime::FAR;
        }
    }

    /// Another coordinator begins a term. Only one that has lost its members follows it for
    /// that alone; every other waits for the heartbeat, which tells who stands behind it.
    pub(super) fn rival_started(&mut self, now: LocalTime, start: &Start) {
        if !self.is_credible(start.term) {
            return;
        }
        self.note(start.term);
        let is_mine = start.handoff.is_some_and(|handoff| handoff.term == self.term);
        if start.term > self.term && (is_mine || self.is_shaken(now)) {
            let Start { term, last_idx, chain, .. } = *start;
            self.yield_to(&Rival { term, last_idx, chain, seq: 0 }, now);
        }
    }

    /// Whether this branch goes on when it meets that one.
    fn outweighs(&self, now: LocalTime, rival: &Heartbeat) -> bool {
        let State::Coordinator(reign) = &self.state else { return false };
        let age_s = reign.age_s(now);
        if age_s.max(rival.age_s) < FRESH_START_S {
            // After a power cut nobody is right because it was faster: whoever was unplugged
            // for a week must not impose last week's room.
            let (mine, theirs) = (self.log.position(), (rival.last_term, rival.last_idx));
            if mine != theirs {
                return mine > theirs;
            }
        }
        let mine = (self.weight(), self.is_playing, age_s, self.term);
        mine > (rival.live, rival.playing, rival.age_s, rival.term)
    }

    /// Members are told first, so that they need not wait out a silence.
    fn yield_to(&mut self, rival: &Rival, sent: LocalTime) {
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
        if alive {
            let before = reign.deserters.get(&by).map_or(now, |before| before.next_beacon);
            reign.deserters.insert(by, Deserter { said: now, next_beacon: before });
        } else {
            reign.rise_above(now, by, now + RETERM_DELAY);
        }
    }

    /// Begins a term above all others, in the same reign.
    pub(super) fn rise(&mut self, now: LocalTime) {
        let State::Coordinator(reign) = &mut self.state else { return };
        reign.reterm_at = LocalTime::FAR;
        if planted::is(Bug::NoReterm) {
            return;
        }
        let next = Reign {
            since: reign.since,
            heard: std::mem::take(&mut reign.heard),
            shaken_at: reign.shaken_at,
            beaten: std::mem::take(&mut reign.beaten),
            stay_until: reign.stay_until,
            ..Reign::new(now, std::collections::BTreeMap::new())
        };
        self.handoff = None;
        self.begin_term(now, next);
    }

    /// Notes when most members do not answer.
    pub(super) fn feel_shaken(&mut self, now: LocalTime) {
        let pace = self.timing();
        let State::Coordinator(reign) = &mut self.state else { return };
        if now - reign.term_since < RETERM_PAUSE {
            return;
        }
        let ages = || reign.heard.values().map(|heard| now - heard.at);
        let members = ages().filter(|&age| age < pace.counted()).count();
        let answering = ages().filter(|&age| age < pace.answered()).count();
        if 2 * answering < members {
            reign.shaken_at = Some(now);
        }
    }

    /// Whether the members have left this coordinator, or may have.
    fn is_shaken(&mut self, now: LocalTime) -> bool {
        self.feel_shaken(now);
        let pace = self.timing();
        let State::Coordinator(reign) = &self.state else { return false };
        let loyal = reign.heard.values().filter(|heard| now - heard.at < pace.counted()).count();
        let said = |deserter: &&Deserter| now - deserter.said < DESERTED_FOR;
        let deserted = reign.deserters.values().filter(said).count();
        let unanswered = reign.shaken_at.is_some_and(|at| now - at < SHAKEN_FOR);
        unanswered || loyal + deserted == 0 || deserted > loyal
    }
}

impl Reign {
    /// Plans a term above that of a rival, or of one that somebody follows, on the word of
    /// `because_of`; not if that one was risen above lately.
    fn rise_above(&mut self, now: LocalTime, because_of: NodeId, at: LocalTime) {
        let before = self.beaten.get(&because_of);
        if before.is_some_and(|beaten| now < beaten.until) {
            return;
        }
        let pause = before.map_or(BEATEN_FOR, |b| (b.pause + b.pause).min(BEATEN_AT_MOST));
        let at = at.max(self.term_since + RETERM_PAUSE);
        self.beaten.insert(because_of, Beaten { until: at + pause, pause });
        self.reterm_at = self.reterm_at.min(at);
    }
}
