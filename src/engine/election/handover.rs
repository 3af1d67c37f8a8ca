//! Giving the lead away on purpose: because this device is about to stop, or because another
//! has long been fitter. Nobody votes; the successor begins its term on this node's word.
//!
//! ```text
//!  coordinator                      successor                        members
//!     │ orders nothing any more         │                                │
//!     ├── handoff (signed) ────────────►│ its log ends at the same entry │
//!     │◄────────────── start (with it) ─┼── start (with it) ────────────►│ follow at once
//!     └── bye, if it is leaving
//! ```
//!
//! Whoever does not answer within 300 ms is passed over. A device that leaves asks them all again
//! then, for a second: who has only just begun to follow may not have known what was asked of it.
//! Nobody is replaced because somebody fitter came: [`FITTER_FOR`] and [`SETTLED`] keep the lead
//! where it is. At once act only a person's choice, and a battery that is nearly empty.

use crate::base::{LocalTime, NodeId};
use crate::wire::message::Handoff;

use super::score::{FitnessClass, class_of, points_of};
use super::state::{Cause, Handover, Heard, Reign, State};
use super::timing::{
    FITTER_BY, FITTER_FOR, HANDOFF_ANSWER, HANDOFF_LIMIT, HANDOFF_PAUSE, LOOK, SETTLED,
};
use super::{Election, ElectionOutput};

impl Election {
    /// This node is about to stop. It never stands again; a coordinator first gives the lead
    /// away, which [`is_retiring`](Election::is_retiring) tells.
    pub fn retire(&mut self, now: LocalTime) {
        self.is_leaving = true;
        self.hand_over(now, Cause::Leaving, None);
        if !self.is_retiring() {
            self.resign(now);
        }
    }

    /// This node was about to leave and does not: it may stand again.
    pub fn stay(&mut self, now: LocalTime) {
        if !std::mem::take(&mut self.is_leaving) {
            return;
        }
        if let State::Observer { stand_at } = &mut self.state {
            *stand_at = now + LOOK;
        }
    }

    /// Whether this node still waits for somebody to take over before it may stop.
    #[must_use]
    pub fn is_retiring(&self) -> bool {
        let State::Coordinator(reign) = &self.state else { return false };
        reign.handover.as_ref().is_some_and(|handover| handover.cause == Cause::Leaving)
    }

    /// Whether this node orders operations: it coordinates and is not handing over.
    #[must_use]
    pub fn is_leading(&self) -> bool {
        matches!(&self.state, State::Coordinator(reign) if reign.handover.is_none())
    }

    /// No voluntary hand-over until then: something is about to change for everybody.
    pub fn keep_lead_until(&mut self, until: LocalTime) {
        if let State::Coordinator(reign) = &mut self.state {
            reign.stay_until = reign.stay_until.max(until);
        }
    }

    /// The hand-over that the present reign of this node came of.
    #[must_use]
    pub fn handoff(&self) -> Option<Handoff> {
        self.handoff.filter(|_| matches!(self.state, State::Coordinator(_)))
    }

    /// The coordinator asks this node to take over. Its signature has been checked.
    pub fn handoff_received(&mut self, now: LocalTime, from: NodeId, handoff: &Handoff) {
        let for_me = handoff.room == self.config.room && handoff.to == self.config.me;
        let from_mine = from == self.term.node && handoff.term == self.term;
        let follows = matches!(self.state, State::Follower { .. });
        if !(for_me && from_mine && follows && self.may_stand() && !self.is_over) {
            return;
        }
        // What the other ordered last may be missing here; then somebody else is asked.
        if self.log.idx != handoff.at_idx {
            return;
        }
        self.handoff = Some(*handoff);
        let heard = self.connected().map(|node| (node, Heard::at(now))).collect();
        self.begin_term(now, Reign::new(now, heard));
    }

    /// Gives the lead to the fittest whose log ends where this one does, or to `chosen`.
    fn hand_over(&mut self, now: LocalTime, cause: Cause, chosen: Option<NodeId>) {
        let State::Coordinator(reign) = &mut self.state else { return };
        if let Some(handover) = &mut reign.handover {
            handover.cause = cause;
            return;
        }
        let ends = now + HANDOFF_LIMIT;
        reign.handover = Some(Handover { cause, asked: Vec::new(), answer_by: now, ends });
        self.ask_successor(now, chosen);
    }

    /// Does what is due about a hand-over.
    pub(super) fn mind_handover(&mut self, now: LocalTime) {
        let State::Coordinator(reign) = &self.state else { return };
        if reign.handover.as_ref().is_some_and(|handover| now >= handover.answer_by) {
            self.ask_successor(now, None);
        }
    }

    fn ask_successor(&mut self, now: LocalTime, chosen: Option<NodeId>) {
        let mut next = chosen.or_else(|| self.next_successor());
        if next.is_none() && self.is_retiring() {
            self.ask_all_again();
            next = self.next_successor();
        }
        let at_idx = self.log.idx;
        let State::Coordinator(reign) = &mut self.state else { return };
        let Some(handover) = &mut reign.handover else { return };
        match next.filter(|_| now < handover.ends) {
            Some(to) => {
                handover.asked.push(to);
                handover.answer_by = (now + HANDOFF_ANSWER).min(handover.ends);
                self.output(ElectionOutput::SendHandoff { to, at_idx });
            }
            None if handover.cause == Cause::Leaving => self.resign(now),
            None => {
                reign.handover = None;
                reign.fitter = None;
                reign.stay_until = now + HANDOFF_PAUSE;
            }
        }
    }

    fn ask_all_again(&mut self) {
        if let State::Coordinator(reign) = &mut self.state
            && let Some(handover) = &mut reign.handover
        {
            handover.asked.clear();
        }
    }

    /// The fittest of those not yet asked; those first that are known to have the whole log.
    fn next_successor(&self) -> Option<NodeId> {
        let State::Coordinator(reign) = &self.state else { return None };
        let asked = &reign.handover.as_ref()?.asked;
        let whole = Some((self.log.idx, self.log.chain));
        let has_log = |node: &NodeId| reign.heard.get(node).is_some_and(|h| h.log == whole);
        let left: Vec<NodeId> =
            self.by_fitness().into_iter().filter(|node| !asked.contains(node)).collect();
        left.iter().copied().find(has_log).or_else(|| left.first().copied())
    }

    /// Looks whether somebody else should lead, and gives it the lead when it is time.
    pub(super) fn look_for_fitter(&mut self, now: LocalTime) {
        let best = self.live.iter().copied().max_by_key(|&node| (self.score_of(node), node));
        let fitter = best.filter(|&node| is_fitter(self.score_of(node), self.score));
        let presses = fitter.is_some_and(|node| presses(self.score_of(node), self.score));
        let State::Coordinator(reign) = &mut self.state else { return };
        reign.fitter = fitter.map(|node| {
            let before = reign.fitter.filter(|(before, _)| *before == node);
            before.unwrap_or((node, now))
        });
        let Some((node, since)) = reign.fitter else { return };
        let patient = now - since >= FITTER_FOR && now - reign.since >= SETTLED;
        if reign.handover.is_none() && now >= reign.stay_until && (presses || patient) {
            self.hand_over(now, Cause::Fitter, Some(node));
        }
    }
}

/// Whether it is worth moving the lead, if it lasts.
fn is_fitter(theirs: u16, mine: u16) -> bool {
    let better = points_of(theirs) >= points_of(mine) + FITTER_BY;
    class_of(theirs) > class_of(mine) || (class_of(theirs) == class_of(mine) && better)
}

/// Whether it must not wait: a person chose that device, or this one should not lead at all.
fn presses(theirs: u16, mine: u16) -> bool {
    let (theirs, mine) = (class_of(theirs), class_of(mine));
    theirs > mine
        && (theirs == FitnessClass::Pinned as u16 || mine == FitnessClass::LastResort as u16)
}
