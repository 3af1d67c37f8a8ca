//! The clock of whoever would take over, measured before it does.
//!
//! When the coordinator dies, the followers coast until they know its successor's clock. If
//! they have watched it for a minute already, they know it at once, and know how fast it runs.
//! Five probes every two seconds cost little; a watched clock tells its raw time only and is
//! nobody's room clock yet.

use std::collections::VecDeque;

use super::envelope::FrequencyPrior;
use super::estimator::{Estimator, Exchange};
use super::room_clock::{Asked, Peer, exchange_of};
use super::schedule::{LATE, TRAIN, TRAIN_GAP};
use crate::base::rng::Rng;
use crate::base::{LocalTime, Span, Term};
use crate::wire::datagram::{ClockSource, Probe, ProbeReply, RoomLine};

/// Between two trains, once the clock is known roughly.
const INTERVAL: Span = Span::from_secs(2);

/// Between the first trains: a deputy may be needed soon.
const EARLY_INTERVAL: Span = Span::from_millis(500);

/// So many trains are early ones.
const EARLY_TRAINS: u32 = 8;

/// Share of an interval by which it is varied: all followers watch the same clock.
const JITTER: f64 = 0.2;

/// Questions remembered as asked: those of [`MAX_RTT`](super::room_clock::MAX_RTT) and more.
const MAX_ASKED: usize = 32;

/// The name under which a node's raw clock is asked, whoever leads.
#[must_use]
pub fn raw_source((node, boot): Peer) -> ClockSource {
    Term { n: 0, node, boot }
}

/// The answer of a node to somebody who watches its clock. `t3` is restamped by the driver.
#[must_use]
pub fn raw_answer(probe: &Probe, t2: LocalTime) -> ProbeReply {
    let Probe { seq, source, t1 } = *probe;
    let line = RoomLine::default();
    ProbeReply { seq, source, t1, t2, t3: t2, line }
}

/// Watches one clock, or none.
#[derive(Clone, Debug)]
pub(super) struct Standby {
    peer: Option<Peer>,
    estimator: Estimator,
    asked: VecDeque<Asked>,
    first_heard: Option<LocalTime>,
    due: LocalTime,
    /// Probes left of the train.
    left: u32,
    trains: u32,
}

impl Standby {
    pub fn new() -> Standby {
        Standby {
            peer: None,
            estimator: Estimator::new(FrequencyPrior::UNKNOWN),
            asked: VecDeque::with_capacity(MAX_ASKED),
            first_heard: None,
            due: LocalTime::FAR,
            left: 0,
            trains: 0,
        }
    }

    /// Whose clock is watched.
    pub fn peer(&self) -> Option<Peer> {
        self.peer
    }

    /// Watches that clock from now on, beginning with what is known of its frequency.
    pub fn watch(&mut self, now: LocalTime, peer: Peer, prior: FrequencyPrior) {
        self.stop();
        self.estimator.reset(prior);
        self.peer = Some(peer);
        self.due = now;
    }

    /// Watches nobody.
    pub fn stop(&mut self) {
        self.peer = None;
        self.asked.clear();
        self.first_heard = None;
        (self.due, self.left, self.trains) = (LocalTime::FAR, TRAIN, 0);
    }

    /// Gives what was measured away, for a used estimator, and watches nobody. The first
    /// answer's time comes along.
    pub fn give(&mut self, used: &mut Estimator) -> Option<LocalTime> {
        std::mem::swap(used, &mut self.estimator);
        let first_heard = self.first_heard;
        self.stop();
        first_heard
    }

    /// When the next probe is due.
    pub fn due(&self) -> Option<LocalTime> {
        self.peer.map(|_| self.due)
    }

    /// The probe that is due now, under that number.
    pub fn poll_probe(&mut self, now: LocalTime, seq: u64, rng: &mut Rng) -> Option<Probe> {
        let peer = self.peer.filter(|_| now >= self.due)?;
        let on_time = if now - self.due > LATE { now } else { self.due };
        self.left -= 1;
        self.due = on_time + if self.left > 0 { TRAIN_GAP } else { self.next_train(rng) };
        if self.asked.len() == MAX_ASKED {
            self.asked.pop_front();
        }
        self.asked.push_back(Asked { seq, at: now });
        Some(Probe { seq, source: raw_source(peer), t1: now })
    }

    fn next_train(&mut self, rng: &mut Rng) -> Span {
        self.left = TRAIN;
        self.trains = self.trains.saturating_add(1);
        let interval = if self.trains < EARLY_TRAINS { EARLY_INTERVAL } else { INTERVAL };
        let vary = 1.0 + JITTER * (2.0 * rng.unit() - 1.0);
        Span::from_secs_f64(interval.as_secs_f64() * vary)
    }

    /// Takes an answer in, if it is one to a recent question.
    pub fn handle_reply(&mut self, now: LocalTime, reply: &ProbeReply) {
        if self.peer.map(raw_source) != Some(reply.source) {
            return;
        }
        let exchange: Option<Exchange> = exchange_of(&mut self.asked, now, reply);
        if let Some(exchange) = exchange {
            self.first_heard = self.first_heard.or(Some(now));
            // A jump of the clock is dealt with inside; nothing depends on it yet.
            let _ = self.estimator.add(exchange);
        }
    }
}
