//! How often, how long: every number of the election in one place, with its why.
//!
//! A room's size sets its pace: few devices can afford ten heartbeats a second on the air,
//! two hundred cannot. The sizes are steps, so that two nodes which count one device more or
//! less still agree in nearly every room.

use crate::base::Span;

/// How long others are given to answer a pre-vote: a round trip on busy Wi-Fi is below it.
pub(super) const ROUND: Span = Span::from_millis(150);

/// How long a grant binds its giver, own candidacy included.
pub(super) const PROMISE: Span = Span::from_millis(300);

/// How long after its end a grant still explains the term that comes of it.
pub(super) const GRANT_REMEMBERED: Span = Span::from_secs(1);

/// Between two signs of a term that nobody here has granted: half the shortest heartbeat.
pub(super) const SIGHTED_AGAIN: Span = Span::from_millis(50);

/// Upper end of the draw between two rounds that nobody answers. It starts where the promise
/// ends: a shorter wait would let three nodes refuse each other for ever.
pub(super) const RETRY_SPREAD: Span = Span::from_millis(250);

/// After a lost round the nodes stand again half a [`RANK_STEP`] apart, and within this.
pub(super) const RETRY_DRAW: Span = Span::from_millis(60);

/// After a goodbye everybody is given this long to hear it: who has not would vouch for the
/// leaver, and cost [`ALIVE_BACKOFF`].
pub(super) const GOODBYE: Span = Span::from_millis(20);

/// After somebody said that the coordinator lives.
pub(super) const ALIVE_BACKOFF: Span = Span::from_millis(400);

/// Behind somebody's log: that one stands within [`HANDOVER`], and this leaves it time for two
/// rounds.
pub(super) const BEHIND_BACKOFF: Span = Span::from_millis(450);

/// Within this a node stands that refused another whose log is shorter than its own.
pub(super) const HANDOVER: Span = Span::from_millis(60);

/// Between the candidacies of the first, second and third successor.
pub(super) const RANK_STEP: Span = Span::from_millis(150);

/// Beyond the third successor: a draw, since nobody has ordered them.
pub(super) const RANK_SPREAD: Span = Span::from_millis(300);

/// Nobody answers, though several should: a Wi-Fi roam takes up to two seconds, and it is
/// then this node that is away.
pub(super) const ISOLATION: Span = Span::from_secs(4);

/// How much later a node stands that does not know the room's time. All others have had two turns
/// by then.
pub(super) const TIMELESS: Span = Span::from_millis(1500);

/// As [`ISOLATION`], when the coordinator is the only other device here: waiting longer
/// would not find out more.
pub(super) const ISOLATION_OF_TWO: Span = Span::from_millis(1500);

/// As [`ISOLATION`], when every connection is known to be closed. Long enough for one that
/// is merely being replaced.
pub(super) const ISOLATION_DISCONNECTED: Span = Span::from_millis(300);

/// As [`ISOLATION_OF_TWO`], when the gateway answers: the network is well as far as this node can
/// see it, so it is the other one that is away.
pub(super) const ISOLATION_OF_TWO_IN_REACH: Span = Span::from_millis(300);

/// When for so long nobody at all was heard though somebody is connected, this node is the one to
/// be doubted: ten heartbeats of a small room, and some of the largest.
pub(super) const HEARD_NOBODY: Span = Span::from_secs(1);

/// So late a deadline is only noticed on a device that does not keep up.
pub(super) const RUN_LATE: Span = Span::from_millis(200);

/// For so long a node that had to be doubted gives the coordinator twice the time.
pub(super) const DOUBTFUL_FOR: Span = Span::from_secs(10);

/// How long a node that has the room's log but hears nobody looks before it stands.
pub(super) const LOOK: Span = Span::from_secs(3);

/// How long a node keeps still after a suspend: whoever leads now is heard within that.
pub(super) const LAME: Span = Span::from_millis(600);

/// How late a heartbeat may claim to have been sent. A lying coordinator gains nothing by it
/// and a wrong clock loses at most this.
pub(super) const MAX_LATE: Span = Span::from_secs(2);

/// How far above the highest known number a term may be: a member cannot exhaust the numbers.
pub(super) const MAX_LEAP: u64 = 1000;

/// The highest number of any term. At a term a second it lasts for millions of years, and
/// adding to it never wraps.
pub(super) const MAX_N: u64 = 1 << 48;

/// Between hearing of a higher term whose owner nobody hears and starting one above it: its
/// owner, if it lives, is heard within that.
pub(super) const RETERM_DELAY: Span = Span::from_millis(300);

/// Shortest reign before a coordinator starts another term of its own.
pub(super) const RETERM_PAUSE: Span = Span::from_secs(1);

/// For so long a coordinator remembers that most members did not answer: within it a successor
/// that they have elected meanwhile is heard.
pub(super) const SHAKEN_FOR: Span = Span::from_secs(3);

/// For so long the word of a member counts that follows somebody else.
pub(super) const DESERTED_FOR: Span = Span::from_secs(2);

/// A term up to this age, in seconds, may have been begun because this coordinator stalled.
pub(super) const NEWLY_ELECTED_S: u32 = 3;

/// Up to this age, in seconds, two coordinators may both have come up after a power cut: then
/// the log that goes further counts before everything else.
pub(super) const FRESH_START_S: u32 = 10;

/// Between two heartbeats to a member that follows somebody whom this node does not hear.
pub(super) const BEACON: Span = Span::from_secs(1);

/// How long a rival is ignored above whose term this coordinator has risen. An honest one
/// yields as soon as it hears of that; doubled each time it does not, so that a member that
/// claims the lead for ever costs less than a term a minute.
pub(super) const BEATEN_FOR: Span = Span::from_secs(10);

/// Up to this.
pub(super) const BEATEN_AT_MOST: Span = Span::from_secs(320);

/// How long a successor may take to begin its term before the next one is asked.
pub(super) const HANDOFF_ANSWER: Span = Span::from_millis(300);

/// How long a hand-over may take in all: nothing is ordered meanwhile.
pub(super) const HANDOFF_LIMIT: Span = Span::from_secs(1);

/// After a hand-over that nobody took.
pub(super) const HANDOFF_PAUSE: Span = Span::from_secs(10);

/// So many points more make it worth moving the lead …
pub(super) const FITTER_BY: u16 = 256;

/// … when they have been there for so long …
pub(super) const FITTER_FOR: Span = Span::from_secs(60);

/// … and the lead has not moved for so long.
pub(super) const SETTLED: Span = Span::from_secs(300);

/// The pace of a room.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Timing {
    /// Between two heartbeats.
    pub heartbeat: Span,
    /// Silence after which the coordinator is suspected.
    pub silence: Span,
    /// Every how many heartbeats a member answers.
    pub ack_every: u32,
}

impl Timing {
    /// By how many devices are here, this one included.
    pub fn of(devices: usize) -> Timing {
        let (heartbeat, silence, ack_every) = match devices {
            0..=8 => (100, 600, 1),
            9..=16 => (150, 600, 1),
            17..=64 => (200, 800, 2),
            _ => (400, 1200, 2),
        };
        Timing {
            heartbeat: Span::from_millis(heartbeat),
            silence: Span::from_millis(silence),
            ack_every,
        }
    }

    /// Up to this age a heartbeat vouches for the coordinator.
    pub fn fresh(self) -> Span {
        Span(self.silence.0 / 5 * 3)
    }

    /// Members whose latest answered heartbeat is older than this have not answered lately.
    pub fn answered(self) -> Span {
        let answers = Span(self.heartbeat.0 * i64::from(self.ack_every) * 5 / 2);
        (self.fresh() + self.heartbeat).max(answers)
    }

    /// Who has answered nothing for so long is no longer counted as a member that left.
    pub fn counted(self) -> Span {
        Span(self.heartbeat.0 * 12)
    }

    /// How long an answered heartbeat keeps a member among the live. No longer than the
    /// silence, so that a coordinator that stalled no longer counts those who left it.
    pub fn live(self) -> Span {
        let answers = Span(self.heartbeat.0 * i64::from(self.ack_every) * 3 / 2);
        (self.fresh() + self.heartbeat).max(answers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pace_slows_with_the_size_and_never_quickens() {
        let paces: Vec<Timing> = (1..300).map(Timing::of).collect();
        assert!(paces.windows(2).all(|p| p[0].heartbeat <= p[1].heartbeat));
        assert!(paces.windows(2).all(|p| p[0].silence <= p[1].silence));
    }

    #[test]
    fn some_heartbeats_may_be_lost_before_anybody_is_suspected() {
        for devices in 1..300 {
            let pace = Timing::of(devices);
            assert!(pace.silence.0 >= 3 * pace.heartbeat.0, "{devices}");
            assert!(pace.live() <= pace.silence, "{devices}");
        }
    }
}
