//! The room's clock as one node has it: leading it, following another's, or coasting.
//!
//! | role | model | probes |
//! |---|---|---|
//! | leading | its own line, exact by definition | answers them |
//! | following | estimator composed with the coordinator's line, blended with the coast | asks, also its deputy |
//! | coasting | the last model, carried on with the hold-over frequency | none |
//!
//! Nobody steps at a takeover. The successor freezes what it believes as the room's line, and
//! says how well it knew; the others coast until they know the successor's clock, then go over
//! by inverse variance.
//! Who coordinates is not decided here but told by [`follow`](RoomClock::follow),
//! [`lead`](RoomClock::lead) and [`leaderless`](RoomClock::leaderless); nor is when a packet
//! really leaves: the driver restamps `t1` and `t3` just before sending.

use std::collections::{BTreeMap, VecDeque};

use crate::base::rng::Rng;
use crate::base::{LocalTime, NodeId, Ppm, RoomTime, Span};
use crate::wire::datagram::{ClockSource, Probe, ProbeReply, RoomLine};
use crate::wire::message::SyncState;

use super::envelope::FrequencyPrior;
use super::estimator::{Estimator, Exchange, Outcome};
use super::holdover::WANDER;
use super::model::ClockModel;
use super::path_stats::PathStats;
use super::schedule::{Schedule, TRAIN};
use super::standby::Standby;

/// A larger step of the model is a discontinuity: the playout jumps rather than slews, and
/// two timelines so far apart are not blended.
const STEP: Span = Span::from_millis(5);

/// Answers older than this say nothing any more.
pub const MAX_RTT: Span = Span::from_secs(2);

/// The steepest line that is believed, a ratio minus one: ten times two bad crystals.
const MAX_LINE_RATE: f64 = 1e-3;

/// The steepest line that a successor makes the room's: two crystals of ±100 ppm. One that
/// takes over after a handful of answers may believe in more, and the room would keep it.
const MAX_TAKEN_RATE: f64 = 200e-6;

/// Questions remembered as asked: [`MAX_RTT`] of the fastest schedule.
const MAX_ASKED: usize = 256;

/// Lines of coordinators that are remembered: that of the present one, and of those who may be next.
const MAX_LINES: usize = 4;

/// Clocks whose frequency is remembered.
const MAX_REMEMBERED: usize = 32;

/// Answers of a new coordinator before it has a say beside the coast.
const ANSWERS_TO_BLEND: u64 = 16;

/// So many answers are taken for twice as wrong as they claim, when weighed against a coast.
/// In simulated takeovers on Wi-Fi this keeps the largest difference below 95 µs instead of
/// 132 µs.
const DOUBTED_ANSWERS: f64 = 120.0;

/// Until a first model is used: below so much error (seconds) at once, below so much after
/// so long, whatever it is after that. Late joiners want sound soon, but a stalled first
/// exchange can lie by hundreds of milliseconds.
const GOOD_S: f64 = 0.5e-3;
const FAIR_S: f64 = 10e-3;
const FAIR_AFTER: Span = Span::from_millis(300);
const ANY_AFTER: Span = Span::from_secs(3);

/// With no answers for so long, the hold-over frequency serves instead of the window's.
const SILENCE: Span = Span::from_secs(3);

/// A model without fresh answers is drawn anew this often: its error grows.
const REFRESH: Span = Span::from_secs(1);

/// A coast and a measurement that differ by more standard deviations than this contradict each
/// other.
const BELIEVED_SIGMAS: f64 = 3.0;

/// A coordinator whose stamps are all older than this by a coast, seconds, counts the time
/// otherwise: of several heartbeats one is faster, even where a radio stalls.
const LATEST_STAMP_S: f64 = 0.3;

/// So much, seconds, before it was sent may something seem to arrive: the devices' own delays in
/// stamping.
const IMPOSSIBLE_S: f64 = 5e-3;

/// Weight below which the coast is let go.
const NEGLIGIBLE: f64 = 0.01;

/// What a former coordinator's line is worth, beside what its successor says of how well it knew
/// it: the least error that a successor makes, seconds, and that of the frequency.
const SUCCESSOR_SIGMA_S: f64 = 20e-6;
const SUCCESSOR_FREQUENCY: f64 = 0.3e-6;

/// As long as a successor has said nothing, its error is not believed to be smaller, seconds: half
/// a round trip on Wi-Fi may have been hidden from it.
const UNHEARD_SIGMA_S: f64 = 0.5e-3;

/// What a coast may be off whose coordinator counts the time otherwise, seconds, as long as there
/// are no answers: anything. Two halves that each began a timeline after a power cut differ by how
/// long either was without power.
const OTHER_TIMELINE_S: f64 = 1.0;

/// A worse error of a taken line is not believed to be said in earnest: seconds, and a ratio.
const MAX_LINE_ERROR: f32 = 1.0;
const MAX_LINE_RATE_SIGMA: f32 = 1e-3;

/// Beyond this error a device is out of sync, below that one it is synced (three standard
/// deviations).
pub const LOST_ERROR: Span = Span::from_millis(20);
const SYNCED_ERROR: Span = Span::from_millis(5);

/// Coasting is trusted for five minutes: about half a millisecond on Wi-Fi.
const COAST_TRUSTED: Span = Span::from_secs(300);

/// A clock that can be recognised: a node between two of its starts.
pub type Peer = (NodeId, u32);

/// See the head of this file.
#[derive(Clone, Debug)]
pub struct RoomClock {
    rng: Rng,
    next_seq: u64,
    role: Role,
    /// Whose raw clock the estimator measures, and the line that it sent.
    peer: Option<Peer>,
    peer_line: Option<RoomLine>,
    estimator: Estimator,
    paths: PathStats,
    standby: Standby,
    coast: Option<Coast>,
    /// The lines of coordinators, as their starts and answers said, the latest last.
    lines: VecDeque<(ClockSource, RoomLine)>,
    asked: VecDeque<Asked>,
    /// Frequencies of clocks measured earlier.
    remembered: BTreeMap<Peer, f64>,
    /// When the present coordinator was first asked.
    met: LocalTime,
    first_heard: Option<LocalTime>,
    last_heard: Option<LocalTime>,
    model: Option<ClockModel>,
    model_drawn: LocalTime,
    model_is_news: bool,
    generation: u32,
}

#[derive(Clone, Debug)]
enum Role {
    Alone,
    Leading { source: ClockSource, line: RoomLine },
    Following { source: ClockSource, schedule: Schedule },
}

/// A question on its way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub seq: u64,
    pub at: LocalTime,
}

/// A model carried on without answers.
#[derive(Clone, Copy, Debug)]
struct Coast {
    line: RoomModel,
    /// Variance of its rate.
    rate_variance: f64,
    /// What the line that is carried on may be off the coordinator's by itself.
    successor: Errors,
    /// The coordinator's line that it is of.
    origin: Option<RoomLine>,
    since: LocalTime,
    /// The smallest age, seconds, that a stamp of the coordinator had on arrival.
    youngest_stamp: Option<f64>,
    /// The shortest time, seconds, that a question was on its way to the coordinator.
    fastest_question: Option<f64>,
}

/// How wrong a successor may be about the line that it carries on: as in [`RoomLine`].
#[derive(Clone, Copy, Debug, Default)]
struct Errors {
    sigma: f64,
    rate: f64,
    asymmetry: f64,
}

impl Errors {
    fn of(line: &RoomLine) -> Errors {
        Errors {
            sigma: f64::from(line.sigma),
            rate: f64::from(line.rate_sigma),
            asymmetry: f64::from(line.asymmetry),
        }
    }
}

/// A model, and the timeline it is of.
#[derive(Clone, Copy, Debug)]
struct RoomModel {
    epoch: u32,
    model: ClockModel,
}

/// Which slope carries an estimate from its last fit to now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Slope {
    Window,
    Holdover,
}

/// How well this device knows the room's time.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct ClockStats {
    /// By the clock alone; the playout may know worse.
    pub state: SyncState,
    /// Smallest round trip in the window.
    pub rtt_min: Span,
    /// Mean round trip.
    pub rtt_avg: Span,
    /// Standard deviation of the round trips.
    pub jitter: Span,
    /// The room against this device's clock.
    pub drift: Ppm,
    /// One standard deviation of that: how far the room would run astray if this device led it.
    pub drift_sigma: Ppm,
    /// One standard deviation: what more probes would lower.
    pub sigma_statistics: Span,
    /// One standard deviation: what unequal queues may hide.
    pub sigma_skew: Span,
    /// Three standard deviations of all that can be known of the error.
    pub error: Span,
    /// Bound of what no two-way exchange can see; 0 when leading.
    pub asymmetry: Span,
    /// 99.9th percentile of the delay from the coordinator beyond its floor.
    pub lateness_q999: Span,
    /// Exchanges in the window.
    pub samples: usize,
    /// Jumps of either clock noticed since this coordinator is followed.
    pub jumps: u32,
    /// Since the last answer, before the first since this coordinator is followed; nothing when leading.
    pub silence: Option<Span>,
}

impl RoomClock {
    /// How much it remembers: questions under way, measurements, and frequencies of clocks.
    #[must_use]
    pub fn size(&self) -> usize {
        self.asked.len() + self.remembered.len() + self.lines.len() + self.estimator.len()
    }

    /// Knows no room. The seed spreads the probes of devices over time.
    #[must_use]
    pub fn new(seed: u64) -> RoomClock {
        let mut rng = Rng::new(seed);
        RoomClock {
            next_seq: rng.next_u64() >> 1,
            rng,
            role: Role::Alone,
            peer: None,
            peer_line: None,
            estimator: Estimator::new(FrequencyPrior::UNKNOWN),
            paths: PathStats::default(),
            standby: Standby::new(),
            coast: None,
            lines: VecDeque::with_capacity(MAX_LINES),
            asked: VecDeque::with_capacity(MAX_ASKED),
            remembered: BTreeMap::new(),
            first_heard: None,
            met: LocalTime(i64::MIN),
            last_heard: None,
            model: None,
            model_drawn: LocalTime::default(),
            model_is_news: false,
            generation: 0,
        }
    }

    /// This node founded the room, or nobody alive carries its clock on: room time is this
    /// device's time, under a new epoch.
    pub fn found(&mut self, now: LocalTime, source: ClockSource, epoch: u32) {
        self.found_from(now, source, epoch, RoomTime(now.0));
    }

    /// As [`found`](RoomClock::found), but room time goes on from `room0`: the last instant on
    /// record of a room whose clock nobody alive carries.
    pub fn found_from(&mut self, now: LocalTime, source: ClockSource, epoch: u32, room0: RoomTime) {
        self.forget();
        let line = RoomLine { epoch, local0: now, room0, ..RoomLine::default() };
        self.role = Role::Leading { source, line };
        self.redraw(now);
    }

    /// This node coordinates from now on: what it believes becomes the room's line, with the
    /// hold-over frequency. Nothing steps. False when it believes nothing; the caller then
    /// founds a new epoch.
    #[must_use]
    pub fn lead(&mut self, now: LocalTime, source: ClockSource) -> bool {
        if let Role::Leading { source: present, .. } = &mut self.role {
            *present = source;
            return true;
        }
        if self.model.is_none() {
            return false;
        }
        let Some(RoomModel { epoch, model }) = self.estimate(now, Slope::Holdover) else {
            return false;
        };
        let rate_sigma = narrow(self.rate_variance(now).sqrt()).min(MAX_LINE_RATE_SIGMA);
        let sigma = narrow(model.sigma).min(MAX_LINE_ERROR);
        let asymmetry = narrow(model.asymmetry).min(MAX_LINE_ERROR);
        self.leave_peer();
        self.standby.stop();
        self.coast = None;
        let rate = model.rate.clamp(-MAX_TAKEN_RATE, MAX_TAKEN_RATE);
        let room0 = model.room(now);
        let line = RoomLine { epoch, local0: now, room0, rate, sigma, rate_sigma, asymmetry };
        self.role = Role::Leading { source, line };
        self.redraw(now);
        true
    }

    /// Another node coordinates. The present model is carried on until that node's clock is
    /// known, and then given up in proportion to how much better the new one is.
    pub fn follow(&mut self, now: LocalTime, source: ClockSource) {
        if self.source() == Some(source) && !self.is_leading() {
            return;
        }
        self.freeze(now);
        let peer = (source.node, source.boot);
        if self.peer != Some(peer) {
            self.leave_peer();
            self.meet(now, peer);
        }
        self.fear_successor(source);
        self.asked.clear();
        self.role = Role::Following { source, schedule: Schedule::start(now) };
        self.redraw(now);
    }

    /// Who would take over, by the coordinator's word: its clock is watched, so that a takeover
    /// finds it known. Nobody is watched by the coordinator and by the deputy itself.
    pub fn watch_deputy(&mut self, now: LocalTime, deputy: Option<Peer>) {
        if self.standby.peer() == deputy || self.is_leading() {
            return;
        }
        match deputy.filter(|deputy| self.peer != Some(*deputy)) {
            Some(deputy) => self.standby.watch(now, deputy, self.prior_of(deputy)),
            None => self.standby.stop(),
        }
    }

    /// There is no coordinator: stop asking, carry the model on.
    pub fn leaderless(&mut self, now: LocalTime) {
        self.freeze(now);
        self.asked.clear();
        self.role = Role::Alone;
        self.redraw(now);
    }

    /// The room was left: there is no room time any more.
    pub fn forget(&mut self) {
        self.leave_peer();
        self.standby.stop();
        self.asked.clear();
        self.lines.clear();
        self.coast = None;
        self.role = Role::Alone;
        self.lose_model();
    }

    /// This device slept for `gap` beyond what its clock counted. What it measured before is
    /// void, except how fast the other clock runs. A coordinator shifts its line by the gap,
    /// which is where the others have carried the room.
    pub fn resumed(&mut self, now: LocalTime, gap: Span) {
        self.standby.stop();
        self.coast = None;
        self.asked.clear();
        match &mut self.role {
            Role::Leading { line, .. } => line.room0 += gap,
            Role::Following { schedule, .. } => *schedule = Schedule::start(now),
            Role::Alone => {}
        }
        if let Some(peer) = self.peer {
            self.remember();
            self.meet(now, peer);
        }
        if self.is_leading() {
            self.redraw(now);
        } else {
            self.lose_model();
        }
    }

    /// An answer arrived, at `now` (its `t4`). Whatever is not an answer of the present
    /// coordinator to a recent question, or cannot be true, is dropped.
    pub fn handle_reply(&mut self, now: LocalTime, reply: &ProbeReply) {
        if reply.source.n == 0 {
            return self.standby.handle_reply(now, reply);
        }
        let Some(exchange) = self.accept(now, reply) else { return };
        if self.line_of(reply.source) != Some(&reply.line) {
            self.note_line(reply.source, reply.line);
        }
        self.hear_line(now, exchange.t3, reply.line);
        self.test_coast(&exchange);
        let lateness = self.estimator.lateness(&exchange);
        self.paths.add(now, exchange.rtt(), lateness);
        self.first_heard = self.first_heard.or(Some(now));
        self.last_heard = Some(now);
        match self.estimator.add(exchange) {
            Outcome::Kept => {}
            Outcome::Suspected => self.hurry(now),
            Outcome::Solved => self.redraw(now),
            Outcome::Jumped => {
                self.coast = None;
                self.redraw(now);
            }
        }
    }

    /// Somebody begins a term, with this line. If it is followed, a coast of another timeline is
    /// known for one before there is any answer.
    pub fn handle_start(&mut self, now: LocalTime, source: ClockSource, line: RoomLine) {
        if !is_believable(&line) {
            return;
        }
        self.note_line(source, line);
        if !self.is_leading() && self.source() == Some(source) {
            self.fear_successor(source);
            self.redraw(now);
        }
    }

    /// The one that is followed stays, whatever others say.
    fn note_line(&mut self, source: ClockSource, line: RoomLine) {
        self.lines.retain(|(known, _)| *known != source);
        if self.lines.len() >= MAX_LINES {
            let present = self.source();
            let oldest = self.lines.iter().position(|(known, _)| Some(*known) != present);
            oldest.and_then(|oldest| self.lines.remove(oldest));
        }
        self.lines.push_back((source, line));
    }

    fn line_of(&self, source: ClockSource) -> Option<&RoomLine> {
        self.lines.iter().find(|(known, _)| *known == source).map(|(_, line)| line)
    }

    /// The coordinator says that it was `sent` by the room's time; that arrived at `now`. It
    /// may have been long on the way, but not have come before it was sent: a coast of another
    /// timeline is found out by that before the first answers are there.
    pub fn handle_stamp(&mut self, now: LocalTime, sent: RoomTime) {
        let follows = matches!(self.role, Role::Following { .. });
        let Some(coast) = self.coast.as_mut().filter(|_| follows) else { return };
        let before = coast.contradiction();
        coast.hear_stamp(now, sent);
        if (coast.contradiction() - before).abs() > IMPOSSIBLE_S {
            self.redraw(now);
        }
    }

    /// An answer holds a coast from both sides: the question cannot have arrived before it was
    /// sent either. One answer shows that a timeline is another one, long before there are
    /// enough of them to measure it.
    fn test_coast(&mut self, exchange: &Exchange) {
        let (Some(coast), Some(line)) = (self.coast.as_mut(), self.peer_line) else { return };
        let before = coast.contradiction();
        coast.hear_stamp(exchange.t4, room_at(&line, exchange.t3));
        coast.hear_arrival(exchange.t1, room_at(&line, exchange.t2));
        if (coast.contradiction() - before).abs() > IMPOSSIBLE_S {
            self.redraw(exchange.t4);
        }
    }

    /// The answer to a question that came at `t2`; none unless this node leads under the
    /// asked name. `t3` is restamped by the driver.
    #[must_use]
    pub fn answer(&self, probe: &Probe, t2: LocalTime) -> Option<ProbeReply> {
        let Role::Leading { source, line } = self.role else { return None };
        let Probe { seq, t1, .. } = *probe;
        (probe.source == source).then_some(ProbeReply { seq, source, t1, t2, t3: t2, line })
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: LocalTime) {
        if self.redraw_due().is_some_and(|due| now >= due) {
            self.redraw(now);
        }
    }

    /// When [`handle_timeout`](RoomClock::handle_timeout) and
    /// [`poll_probe`](RoomClock::poll_probe) want to be called next.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<LocalTime> {
        let probe = match &self.role {
            Role::Following { schedule, .. } => Some(schedule.due()),
            _ => None,
        };
        [probe, self.redraw_due(), self.standby.due()].into_iter().flatten().min()
    }

    /// The probe to send now, if one is due. `t1` is restamped by the driver.
    pub fn poll_probe(&mut self, now: LocalTime) -> Option<Probe> {
        self.poll_own_probe(now).or_else(|| self.poll_standby_probe(now))
    }

    fn poll_standby_probe(&mut self, now: LocalTime) -> Option<Probe> {
        let probe = self.standby.poll_probe(now, self.next_seq, &mut self.rng)?;
        self.next_seq += 1;
        Some(probe)
    }

    fn poll_own_probe(&mut self, now: LocalTime) -> Option<Probe> {
        let Role::Following { source, schedule } = &mut self.role else { return None };
        if now < schedule.due() {
            return None;
        }
        schedule.sent(now, self.estimator.sigma_statistics(), &mut self.rng);
        let seq = self.next_seq;
        self.next_seq += 1;
        if self.asked.len() == MAX_ASKED {
            self.asked.pop_front();
        }
        self.asked.push_back(Asked { seq, at: now });
        Some(Probe { seq, source: *source, t1: now })
    }

    /// The room's time by this device's clock; nothing until it is fit for use.
    #[must_use]
    pub fn model(&self) -> Option<ClockModel> {
        self.model
    }

    /// The model if it is another one than when last asked.
    pub fn poll_model(&mut self) -> Option<ClockModel> {
        std::mem::take(&mut self.model_is_news).then_some(self.model).flatten()
    }

    /// Whether this node's line is the room's.
    #[must_use]
    pub fn is_leading(&self) -> bool {
        matches!(self.role, Role::Leading { .. })
    }

    /// The room's line on this node's clock, when leading.
    #[must_use]
    pub fn line(&self) -> Option<RoomLine> {
        match self.role {
            Role::Leading { line, .. } => Some(line),
            _ => None,
        }
    }

    /// Whose clock is the room's; nothing while there is no coordinator.
    #[must_use]
    pub fn source(&self) -> Option<ClockSource> {
        match self.role {
            Role::Alone => None,
            Role::Leading { source, .. } | Role::Following { source, .. } => Some(source),
        }
    }

    /// The timeline that the model is of.
    #[must_use]
    pub fn epoch(&self) -> Option<u32> {
        match self.role {
            Role::Leading { line, .. } => Some(line.epoch),
            _ => self
                .model
                .and_then(|model| self.estimate(model.local0, Slope::Window))
                .map(|room| room.epoch),
        }
    }

    /// Whether this coordinator's timeline is known, and is the one that the model is of: only then
    /// do its stamps tell how long they were on the way.
    #[must_use]
    pub fn shares_timeline(&self, source: ClockSource) -> bool {
        let theirs = self.line_of(source).map(|line| line.epoch);
        theirs.is_some() && theirs == self.epoch()
    }

    /// How well it is known at the moment.
    #[must_use]
    pub fn stats(&self, now: LocalTime) -> ClockStats {
        let model = match self.model {
            Some(_) => self.claim(now).map(|room| room.model),
            None => None,
        };
        let seconds = Span::from_secs_f64;
        let error = model.map_or(Span::ZERO, |model| seconds(3.0 * model.sigma));
        let mut stats = ClockStats {
            state: self.state(now, model.is_some(), error),
            drift: Ppm::from_ratio(model.map_or(0.0, |model| model.rate)),
            drift_sigma: Ppm::from_ratio(self.rate_variance(now).sqrt()),
            error,
            asymmetry: seconds(model.map_or(0.0, |model| model.asymmetry)),
            ..ClockStats::default()
        };
        if !self.is_leading() && self.peer.is_some() {
            stats.rtt_min = seconds(self.estimator.rtt_min().unwrap_or(0.0));
            stats.rtt_avg = self.paths.rtt_mean();
            stats.jitter = self.paths.jitter();
            stats.sigma_statistics = seconds(self.estimator.sigma_statistics().unwrap_or(0.0));
            stats.sigma_skew = seconds(self.estimator.sigma_skew());
            stats.lateness_q999 = self.paths.lateness_q999();
            stats.samples = self.estimator.n_kept();
            stats.jumps = self.estimator.n_jumps();
            stats.silence = Some(now - self.last_heard.unwrap_or(self.met));
        }
        stats
    }

    fn state(&self, now: LocalTime, usable: bool, error: Span) -> SyncState {
        let coasting = match (&self.role, self.last_heard) {
            (Role::Leading { .. }, _) => return SyncState::Synced,
            (_, Some(heard)) => now - heard,
            (_, None) => self.coast.map_or(Span::ZERO, |coast| now - coast.since),
        };
        match usable {
            false => SyncState::Syncing,
            true if error > LOST_ERROR || coasting > COAST_TRUSTED => SyncState::OutOfSync,
            true if error > SYNCED_ERROR => SyncState::Syncing,
            true => SyncState::Synced,
        }
    }

    /// Checks an answer and crosses its question off.
    fn accept(&mut self, now: LocalTime, reply: &ProbeReply) -> Option<Exchange> {
        let Role::Following { source, .. } = &self.role else { return None };
        if reply.source != *source {
            return None;
        }
        let exchange = exchange_of(&mut self.asked, now, reply)?;
        is_believable(&reply.line).then_some(exchange)
    }

    fn hurry(&mut self, now: LocalTime) {
        if let Role::Following { schedule, .. } = &mut self.role {
            schedule.hurry(now);
        }
    }

    /// The line of a coordinator never changes, unless its own clock broke or it led before.
    fn hear_line(&mut self, now: LocalTime, theirs: LocalTime, line: RoomLine) {
        let Some(old) = self.peer_line.replace(line) else {
            return self.doubt_coast(&line);
        };
        if old == line {
            return;
        }
        self.peer_line = Some(old);
        self.freeze(now);
        self.peer_line = Some(line);
        let apart = (room_at(&line, theirs) - room_at(&old, theirs)).abs();
        if let (Some(peer), true) = (self.peer, apart > STEP || old.epoch != line.epoch) {
            self.remember();
            self.meet(now, peer);
            self.peer_line = Some(line);
        }
        self.doubt_coast(&line);
    }

    /// The room's line is another one: it carries on the one that we carry on, or the other way
    /// round where a half gave way. Whoever took over knew the older one only so well.
    fn doubt_coast(&mut self, line: &RoomLine) {
        let Some(coast) = &mut self.coast else { return };
        let origin = coast.origin.filter(|origin| origin.room0 > line.room0);
        let ours = origin.map_or_else(Errors::default, |origin| {
            let age = (coast.line.model.room0 - origin.room0).as_secs_f64();
            let Errors { sigma, rate, asymmetry } = Errors::of(&origin);
            Errors { sigma: sigma.hypot(rate * age), rate, asymmetry }
        });
        let theirs = Errors::of(line);
        coast.successor = Errors {
            sigma: theirs.sigma.hypot(ours.sigma),
            rate: theirs.rate.hypot(ours.rate),
            asymmetry: theirs.asymmetry + ours.asymmetry,
        };
    }

    /// Begins to measure a clock, with what is remembered of it.
    fn meet(&mut self, now: LocalTime, peer: Peer) {
        self.met = now;
        self.first_heard = if self.standby.peer() == Some(peer) {
            self.standby.give(&mut self.estimator)
        } else {
            let prior = self.prior_of(peer);
            self.estimator.reset(prior);
            None
        };
        self.paths = PathStats::default();
        self.peer = Some(peer);
        self.peer_line = None;
        self.last_heard = None;
        self.fear_unheard();
    }

    /// Until the coordinator has answered, what we carry on is its line as well as it knew it: by
    /// its word, where it has said how well that was. Its answers may be long in coming.
    fn fear_successor(&mut self, source: ClockSource) {
        if self.peer_line.is_some() {
            return;
        }
        match self.line_of(source).copied() {
            Some(line) => self.doubt_coast(&line),
            None => self.fear_unheard(),
        }
    }

    /// Until it says: about as wrong as we are.
    fn fear_unheard(&mut self) {
        if let Some(coast) = &mut self.coast {
            coast.successor = Errors {
                sigma: coast.line.model.sigma.max(UNHEARD_SIGMA_S),
                rate: coast.rate_variance.sqrt(),
                asymmetry: 0.0,
            };
        }
    }

    fn prior_of(&self, peer: Peer) -> FrequencyPrior {
        let known = self.remembered.get(&peer).copied();
        known.map_or(FrequencyPrior::UNKNOWN, FrequencyPrior::remembered)
    }

    fn leave_peer(&mut self) {
        self.remember();
        self.peer = None;
        self.peer_line = None;
        self.first_heard = None;
        self.last_heard = None;
    }

    fn remember(&mut self) {
        let known = self.peer.zip(self.estimator.known_frequency());
        let Some((peer, frequency)) = known else { return };
        if !self.remembered.contains_key(&peer) && self.remembered.len() >= MAX_REMEMBERED {
            self.remembered.pop_first();
        }
        self.remembered.insert(peer, frequency);
    }

    /// Makes the present belief one that needs no answers.
    fn freeze(&mut self, now: LocalTime) {
        if self.model.is_none() {
            return;
        }
        if let Some(coast) = self.coast.as_mut().filter(|_| self.peer_line.is_none()) {
            // What was feared of a coordinator that never said its line is not carried on.
            coast.successor = Errors::default();
        }
        let rate_variance = self.rate_variance(now);
        let Some(mut line) = self.estimate(now, Slope::Holdover) else { return };
        if self.is_leading() {
            // A reign may have lasted long; what is carried on begins to age now.
            let ClockModel { rate, .. } = line.model;
            let (room0, sigma) = (line.model.room(now), SUCCESSOR_SIGMA_S);
            line.model = ClockModel { local0: now, room0, rate, sigma, ..line.model };
        }
        let since = self.coast.map_or(now, |coast| coast.since);
        let before = self.coast.and_then(|coast| coast.origin);
        let origin = self.line().or(self.peer_line).or(before);
        self.coast = Some(Coast {
            line,
            rate_variance,
            successor: Errors::default(),
            origin,
            since,
            youngest_stamp: None,
            fastest_question: None,
        });
    }

    fn rate_variance(&self, now: LocalTime) -> f64 {
        if self.is_leading() {
            return SUCCESSOR_FREQUENCY * SUCCESSOR_FREQUENCY;
        }
        let coast = self.coast.map(|coast| coast.rate_variance(now));
        match self.measure(now, Slope::Holdover) {
            Some(_) => {
                let measured = self.estimator.frequency_variance();
                coast.map_or(measured, |coast| coast.min(measured))
            }
            None => coast.unwrap_or(FrequencyPrior::UNKNOWN.spread.powi(2)),
        }
    }

    /// The slope to go by at the moment.
    fn slope(&self, now: LocalTime) -> Slope {
        let silent = |solved| now - solved > SILENCE;
        if self.estimator.solved_at().is_some_and(silent) { Slope::Holdover } else { Slope::Window }
    }

    /// What this node believes of room time.
    fn estimate(&self, at: LocalTime, slope: Slope) -> Option<RoomModel> {
        if let Role::Leading { line, .. } = &self.role {
            return Some(RoomModel { epoch: line.epoch, model: leading(line) });
        }
        let coast = self.coast.map(|coast| coast.at(at));
        match (coast, self.measure(at, slope)) {
            (None, measured) => measured,
            (coast, None) => coast,
            (Some(coast), Some(measured)) => Some(blend(&coast, &measured)),
        }
    }

    /// That, with the error it must be shown with: a coast that the coordinator's stamps
    /// contradict goes on, since nothing better is known, but nobody is told it were right.
    fn claim(&self, at: LocalTime) -> Option<RoomModel> {
        let mut claim = self.estimate(at, self.slope(at))?;
        let doubted = self.coast.filter(|_| self.measure(at, Slope::Window).is_none());
        if let Some(coast) = doubted {
            claim.model.sigma = claim.model.sigma.max(coast.contradiction());
            let line = self.source().and_then(|source| self.line_of(source));
            if line.is_some_and(|line| line.epoch != coast.line.epoch) {
                claim.model.sigma = claim.model.sigma.max(OTHER_TIMELINE_S);
            }
        }
        Some(claim)
    }

    /// Room time by the coordinator's answers alone, once there are enough of them.
    fn measure(&self, at: LocalTime, slope: Slope) -> Option<RoomModel> {
        let line = self.peer_line.filter(|_| self.is_measured(at))?;
        let estimator = &self.estimator;
        let (offset, frequency) = match slope {
            Slope::Window => (estimator.offset(at)?, estimator.frequency()),
            Slope::Holdover => estimator.coasted(at)?,
        };
        let model = ClockModel {
            local0: at,
            room0: room_at(&line, at + offset),
            rate: (1.0 + frequency) * (1.0 + line.rate) - 1.0,
            sigma: estimator.sigma(at) * self.doubt(),
            asymmetry: estimator.rtt_min()? / 2.0,
            generation: 0,
        };
        Some(RoomModel { epoch: line.epoch, model })
    }

    /// By how much the claimed error is multiplied while there is a coast to compare with: a
    /// few answers do not show how wrong they are.
    fn doubt(&self) -> f64 {
        match self.estimator.n_samples() {
            n @ 1.. if self.coast.is_some() => 1.0 + DOUBTED_ANSWERS / count(n),
            _ => 1.0,
        }
    }

    fn is_measured(&self, at: LocalTime) -> bool {
        let n = self.estimator.n_samples();
        if self.coast.is_some() {
            return n >= ANSWERS_TO_BLEND;
        }
        let Some(first) = self.first_heard.filter(|_| n >= u64::from(TRAIN)) else { return false };
        if self.model.is_some() {
            return true;
        }
        let allowed = match at - first {
            waited if waited < FAIR_AFTER => GOOD_S,
            waited if waited < ANY_AFTER => FAIR_S,
            _ => f64::MAX,
        };
        self.estimator.sigma(at) < allowed
    }

    fn redraw_due(&self) -> Option<LocalTime> {
        let drawn = self.model.is_some() && !self.is_leading();
        drawn.then_some(self.model_drawn + REFRESH)
    }

    /// Draws the model anew and counts discontinuities.
    fn redraw(&mut self, now: LocalTime) {
        self.let_coast_go(now);
        self.model_drawn = now;
        // After a jump there is nothing to say for a few answers: what was said before holds.
        let Some(RoomModel { mut model, .. }) = self.claim(now) else { return };
        let stepped = |old: ClockModel| (model.room(now) - old.room(now)).abs() > STEP;
        if self.model.is_none_or(stepped) {
            self.generation += 1;
        }
        model.generation = self.generation;
        self.model = Some(model);
        self.model_is_news = true;
    }

    /// Drops the coast once the measurement is far better, or contradicts it beyond what a
    /// servo mends.
    fn let_coast_go(&mut self, now: LocalTime) {
        let Some(coast) = self.coast.map(|coast| coast.at(now)) else { return };
        let Some(measured) = self.measure(now, Slope::Window) else { return };
        let apart = (measured.model.room0 - coast.model.room0).abs();
        let other_timeline = measured.epoch != coast.epoch || apart > STEP;
        if other_timeline || coast_weight(&coast.model, &measured.model) < NEGLIGIBLE {
            self.coast = None;
        }
    }

    fn lose_model(&mut self) {
        self.model = None;
        self.model_is_news = false;
    }
}

impl Coast {
    fn age(&self, at: LocalTime) -> f64 {
        (at - self.line.model.local0).as_secs_f64().max(0.0)
    }

    /// Carried on to an instant; its variance grows with the rate's and the crystals' wander.
    fn at(&self, at: LocalTime) -> RoomModel {
        let RoomModel { epoch, model } = self.line;
        let age = self.age(at);
        let theirs = self.successor;
        let rates = self.rate_variance + theirs.rate.powi(2);
        let growth = rates * age * age + WANDER * age.powi(3) / 3.0;
        let sigma = (model.sigma.powi(2) + theirs.sigma.powi(2) + growth).sqrt();
        let asymmetry = model.asymmetry + theirs.asymmetry;
        let room0 = model.room(at);
        let model = ClockModel { local0: at, room0, sigma, asymmetry, ..model };
        RoomModel { epoch, model }
    }

    fn rate_variance(&self, at: LocalTime) -> f64 {
        self.rate_variance + self.successor.rate.powi(2) + WANDER * self.age(at)
    }

    /// Something that the coordinator sent at its time `sent` arrived at `now`.
    fn hear_stamp(&mut self, now: LocalTime, sent: RoomTime) {
        let age = (self.at(now).model.room0 - sent).as_secs_f64();
        self.youngest_stamp = Some(self.youngest_stamp.map_or(age, |least| least.min(age)));
    }

    /// Something that was sent at `sent` arrived there at the coordinator's time `arrived`.
    fn hear_arrival(&mut self, sent: LocalTime, arrived: RoomTime) {
        let time = (arrived - self.at(sent).model.room0).as_secs_f64();
        self.fastest_question = Some(self.fastest_question.map_or(time, |least| least.min(time)));
    }

    /// By how many seconds it is off at least, by what the coordinator has said; 0 while that is
    /// possible.
    fn contradiction(&self) -> f64 {
        let early = |age: &f64| *age < -IMPOSSIBLE_S;
        let stamp = self.youngest_stamp.filter(|age| early(age) || *age > LATEST_STAMP_S);
        let question = self.fastest_question.filter(early);
        [stamp, question].into_iter().flatten().map(f64::abs).fold(0.0, f64::max)
    }
}

/// The exchange of an answer to one of these questions, which is crossed off; none if it was
/// not asked, or cannot be true.
pub(super) fn exchange_of(
    asked: &mut VecDeque<Asked>,
    now: LocalTime,
    reply: &ProbeReply,
) -> Option<Exchange> {
    let ProbeReply { seq, t1, t2, t3, .. } = *reply;
    let place = asked.iter().position(|asked| asked.seq == seq)?;
    let asked = asked.remove(place)?;
    let exchange = Exchange { t1, t2, t3, t4: now };
    let in_order = asked.at <= t1 && t1 <= now && t2 <= t3;
    let possible = (Span::ZERO..=MAX_RTT).contains(&exchange.rtt()) && now - t1 <= MAX_RTT;
    (in_order && possible).then_some(exchange)
}

#[expect(clippy::cast_precision_loss, reason = "counts of answers stay far below 2^52")]
fn count(n: u64) -> f64 {
    n as f64
}

#[expect(clippy::cast_possible_truncation, reason = "seven digits of an error are plenty")]
fn narrow(error: f64) -> f32 {
    error as f32
}

/// Whether a line can be somebody's in earnest.
fn is_believable(line: &RoomLine) -> bool {
    line.rate.abs() <= MAX_LINE_RATE
        && (0.0..=MAX_LINE_ERROR).contains(&line.sigma)
        && (0.0..=MAX_LINE_RATE_SIGMA).contains(&line.rate_sigma)
        && (0.0..=MAX_LINE_ERROR).contains(&line.asymmetry)
}

fn leading(line: &RoomLine) -> ClockModel {
    ClockModel {
        local0: line.local0,
        room0: line.room0,
        rate: line.rate,
        sigma: 0.0,
        asymmetry: 0.0,
        generation: 0,
    }
}

fn room_at(line: &RoomLine, at: LocalTime) -> RoomTime {
    leading(line).room(at)
}

/// The coast's share in the inverse-variance mean. The room's time is what its coordinator says:
/// a coast that differs by more than both errors allow is the one that is wrong, however sure
/// it is. A former coordinator is very sure, and its successor may have had little time to
/// learn.
fn coast_weight(coast: &ClockModel, measured: &ClockModel) -> f64 {
    let apart = (coast.room0 - measured.room0).as_secs_f64();
    let (coast, measured) = (coast.sigma.powi(2), measured.sigma.powi(2));
    let allowed = BELIEVED_SIGMAS.powi(2) * (coast + measured);
    let wrong = coast + (apart * apart - allowed).max(0.0);
    measured / (wrong + measured).max(f64::MIN_POSITIVE)
}

/// The inverse-variance mean of two models of one instant. Where they differ by more than
/// their errors allow, the error of the mean grows in proportion.
fn blend(coast: &RoomModel, measured: &RoomModel) -> RoomModel {
    let (old, new) = (&coast.model, &measured.model);
    let weight = coast_weight(old, new);
    let apart = (old.room0 - new.room0).as_secs_f64();
    let variance = old.sigma.powi(2) + new.sigma.powi(2);
    let surprise = (apart * apart / variance.max(f64::MIN_POSITIVE)).max(1.0);
    let model = ClockModel {
        local0: new.local0,
        room0: new.room0 + Span::from_secs_f64(weight * apart),
        rate: new.rate + weight * (old.rate - new.rate),
        sigma: (weight * old.sigma.powi(2) * surprise).sqrt(),
        asymmetry: old.asymmetry.max(new.asymmetry),
        generation: 0,
    };
    RoomModel { epoch: measured.epoch, model }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The leader's clock runs one minute ahead of ours.
    const AHEAD: Span = Span::from_secs(60);

    fn source(n: u64, node: u8) -> ClockSource {
        ClockSource { n, node: NodeId([node; 32]), boot: 1 }
    }

    fn ms(n: i64) -> LocalTime {
        LocalTime(0) + Span::from_millis(n)
    }

    fn leader(node: u8) -> RoomClock {
        let mut clock = RoomClock::new(u64::from(node));
        clock.found(ms(0), source(1, node), 7);
        clock
    }

    /// An answer that took a millisecond each way, and when it arrives.
    fn answered(leader: &RoomClock, probe: &Probe) -> (LocalTime, ProbeReply) {
        let t2 = probe.t1 + Span::from_millis(1) + AHEAD;
        let mut reply = leader.answer(probe, t2).expect("it leads");
        reply.t3 = t2 + Span::from_micros(50);
        (probe.t1 + Span::from_micros(2050), reply)
    }

    /// Exchanges as scheduled until then; the time reached.
    fn converse(clock: &mut RoomClock, leader: &RoomClock, until: LocalTime) -> LocalTime {
        let mut now = clock.poll_timeout().expect("it asks");
        while now < until {
            clock.handle_timeout(now);
            if let Some(probe) = clock.poll_probe(now) {
                let (arrival, reply) = answered(leader, &probe);
                clock.handle_reply(arrival, &reply);
            }
            now = clock.poll_timeout().expect("it asks").later(now + Span(1));
        }
        until
    }

    fn room_error(clock: &RoomClock, now: LocalTime) -> Span {
        clock.model().expect("it has a model").room(now) - RoomTime((now + AHEAD).0)
    }

    /// Two halves each began a timeline after a power cut, and one gives way. Its packets reach
    /// the other one, and no answers come: what it heard at the start must do.
    #[test]
    fn who_goes_over_to_another_timeline_knows_that_its_own_is_worth_nothing() {
        let mut winner = RoomClock::new(2);
        winner.found(ms(0), source(1, 2), 8);
        for told_first in [true, false] {
            let mut clock = leader(1);
            let (then, line) = (ms(300), winner.line().expect("it leads"));
            if told_first {
                clock.handle_start(then, source(1, 2), line);
                assert_eq!(clock.stats(then).error, Span::ZERO, "it leads itself");
            }
            clock.follow(then, source(1, 2));
            if !told_first {
                assert_eq!(clock.stats(then).state, SyncState::Synced);
                clock.handle_start(then, source(1, 2), line);
            }
            assert_eq!(clock.stats(then).state, SyncState::OutOfSync);
            assert!(!clock.shares_timeline(source(1, 2)));
            let now = converse(&mut clock, &winner, ms(4000));
            assert_eq!(clock.stats(now).state, SyncState::Synced);
            assert!(room_error(&clock, now).abs() < Span::from_micros(100));
            assert!(clock.shares_timeline(source(1, 2)));
            assert!(!clock.shares_timeline(source(1, 1)), "its own of before");
        }
    }

    #[test]
    fn answers_alone_tell_which_timeline_it_is_and_liars_do_not_make_it_forgotten() {
        let first = leader(1);
        let mut clock = RoomClock::new(2);
        clock.follow(ms(0), source(1, 1));
        let now = converse(&mut clock, &first, ms(4000));
        assert!(clock.shares_timeline(source(1, 1)), "no start was heard");
        let line = first.line().expect("it leads");
        for n in 2..20 {
            clock.handle_start(now, source(n, 3), RoomLine { epoch: 99, ..line });
        }
        assert!(clock.lines.len() <= MAX_LINES);
        assert!(clock.shares_timeline(source(1, 1)));
        assert!(!clock.shares_timeline(source(19, 3)));
        assert_eq!(clock.stats(now).state, SyncState::Synced);
        clock.leaderless(now);
        assert!(clock.shares_timeline(source(1, 1)));
    }

    #[test]
    fn a_start_of_the_same_timeline_is_no_reason_for_doubt() {
        let mut first = leader(1);
        let mut clock = RoomClock::new(2);
        clock.follow(ms(0), source(1, 1));
        let now = converse(&mut clock, &first, ms(4000));
        let mut heir = clock;
        assert!(heir.lead(now, source(2, 2)));
        let line = heir.line().expect("it leads");
        first.follow(now, source(2, 2));
        assert!(!first.shares_timeline(source(2, 2)), "nothing is known of it yet");
        first.handle_start(now, source(2, 2), line);
        assert_eq!(first.stats(now).state, SyncState::Synced);
        assert!(first.shares_timeline(source(2, 2)));
        first.leaderless(now);
        assert!(first.shares_timeline(source(2, 2)), "a silence changes nothing of that");
        let steep = RoomLine { epoch: 99, rate: 1.0, ..line };
        first.handle_start(now, source(2, 2), steep);
        assert_eq!(first.stats(now).state, SyncState::Synced, "no such line is believed");
    }

    #[test]
    fn a_founder_s_time_is_the_room_s() {
        let clock = leader(1);
        let model = clock.model().expect("it leads");
        assert_eq!(model.room(ms(5000)), RoomTime(5_000_000_000));
        assert_eq!((model.sigma, model.asymmetry), (0.0, 0.0));
        assert_eq!(clock.stats(ms(5000)).state, SyncState::Synced);
    }

    #[test]
    fn a_follower_has_no_time_before_a_train_of_answers() {
        let (leader, mut clock) = (leader(1), RoomClock::new(2));
        clock.follow(ms(0), source(1, 1));
        for n in 1..=5 {
            assert_eq!(clock.model(), None, "after {} answers", n - 1);
            let now = clock.poll_timeout().expect("it asks");
            let probe = clock.poll_probe(now).expect("one is due");
            let (arrival, reply) = answered(&leader, &probe);
            clock.handle_reply(arrival, &reply);
        }
        // A millisecond each way is too much to be sure at once.
        converse(&mut clock, &leader, ms(400));
        assert!(room_error(&clock, ms(400)).abs() < Span::from_micros(1));
    }

    #[test]
    fn a_stalled_first_exchange_gives_no_time() {
        let (leader, mut clock) = (leader(1), RoomClock::new(2));
        clock.follow(ms(0), source(1, 1));
        // All questions of the first tenth of a second wait for one address resolution.
        let mut waiting = Vec::new();
        while let Some(now) = clock.poll_timeout().filter(|now| *now < ms(100)) {
            waiting.extend(clock.poll_probe(now));
        }
        for (i, probe) in (0..).zip(&waiting) {
            let t2 = ms(300) + AHEAD + Span::from_micros(i * 10);
            let reply = leader.answer(probe, t2).expect("it leads");
            clock.handle_reply(ms(301) + Span::from_micros(i * 10), &reply);
        }
        assert!(waiting.len() > 5);
        assert_eq!(clock.model(), None);
    }

    #[test]
    fn what_cannot_be_an_answer_is_dropped() {
        let (leader, mut clock) = (leader(1), RoomClock::new(2));
        clock.follow(ms(0), source(1, 1));
        let probe = clock.poll_probe(ms(0)).expect("one is due");
        let (arrival, good) = answered(&leader, &probe);
        let steep = RoomLine { rate: f64::NAN, ..good.line };
        let sure = RoomLine { sigma: -1e-6, ..good.line };
        let lost = RoomLine { rate_sigma: f32::INFINITY, ..good.line };
        let far = LocalTime(i64::MAX);
        for (what, now, reply) in [
            ("another source", arrival, ProbeReply { source: source(2, 1), ..good }),
            ("never asked", arrival, ProbeReply { seq: good.seq + 1, ..good }),
        ] {
            clock.handle_reply(now, &reply);
            assert_eq!(clock.stats(now).samples, 0, "{what}");
        }
        for (what, now, change) in [
            ("before it was asked", arrival, ProbeReply { t1: ms(-1), ..good }),
            ("asked later than answered", arrival, ProbeReply { t1: arrival + Span(1), ..good }),
            ("three seconds", arrival + Span::from_secs(3), good),
            (
                "a negative round trip",
                arrival,
                ProbeReply { t3: good.t3 + Span::from_secs(1), ..good },
            ),
            ("held a negative time", arrival, ProbeReply { t3: good.t2 - Span(1), ..good }),
            ("the end of time", arrival, ProbeReply { t3: far, ..good }),
            ("no line", arrival, ProbeReply { line: steep, ..good }),
            ("surer than sure", arrival, ProbeReply { line: sure, ..good }),
            ("an endless error", arrival, ProbeReply { line: lost, ..good }),
        ] {
            let mut clock = clock.clone();
            clock.handle_reply(now, &change);
            assert_eq!(clock.stats(now).samples, 0, "{what}");
        }
        clock.handle_reply(arrival, &good);
        clock.handle_reply(arrival, &good);
        assert_eq!(clock.stats(arrival).samples, 1, "a copy counts once");
    }

    #[test]
    fn hostile_numbers_do_not_panic() {
        let mut clock = RoomClock::new(2);
        clock.follow(ms(0), source(1, 1));
        let ends = [i64::MIN, -1, 0, i64::MAX];
        for i in 0..2000_i64 {
            let now = ms(i);
            clock.handle_timeout(now);
            let Some(probe) = clock.poll_probe(now) else { continue };
            let end = ends[usize::try_from(probe.seq % 4).expect("below 4")];
            let other = ends[usize::try_from(probe.seq / 4 % 4).expect("below 4")];
            let line = RoomLine {
                epoch: 1,
                local0: LocalTime(other),
                room0: RoomTime(end),
                rate: 1e-3,
                ..RoomLine::default()
            };
            let (t2, t3) = (LocalTime(end), LocalTime(end));
            let reply = ProbeReply { seq: probe.seq, source: probe.source, t1: now, t2, t3, line };
            clock.handle_reply(now + Span(1000), &reply);
            let _ = (clock.poll_model(), clock.stats(now), clock.epoch());
        }
    }

    #[test]
    fn only_the_leader_that_is_meant_answers() {
        let clock = leader(1);
        let probe = Probe { seq: 1, source: source(1, 1), t1: ms(0) };
        assert!(clock.answer(&probe, ms(1)).is_some());
        assert!(clock.answer(&Probe { source: source(2, 1), ..probe }, ms(1)).is_none());
        assert!(RoomClock::new(1).answer(&probe, ms(1)).is_none());
    }

    #[test]
    fn a_former_coordinator_is_no_surer_than_its_successor() {
        let (mut former, mut successor) = (leader(1), RoomClock::new(2));
        successor.follow(ms(0), source(1, 1));
        let now = converse(&mut successor, &former, ms(500));
        assert!(successor.lead(now, source(2, 2)));
        let line = successor.line().expect("it leads");
        assert!(
            line.sigma > 0.0 && line.rate_sigma > 0.5e-6,
            "half a second tells little: {line:?}"
        );
        former.follow(now + AHEAD, source(2, 2));
        assert!(former.stats(now + AHEAD).error > Span::from_millis(1), "nothing is known yet");
        let probe = former.poll_probe(now + AHEAD).expect("it asks");
        let t2 = now + Span::from_millis(1);
        let reply = successor.answer(&probe, t2).expect("it leads");
        let heard = now + AHEAD + Span::from_millis(2);
        former.handle_reply(heard, &reply);
        let error = former.stats(heard).error.as_secs_f64();
        assert!(error > 3.0 * f64::from(line.sigma), "{error}");
        let later = former.stats(heard + Span::from_secs(10)).error.as_secs_f64();
        assert!(later > 30.0 * f64::from(line.rate_sigma), "{later} for {line:?}");
    }

    #[test]
    fn a_successor_that_is_followed_and_never_answers_is_known_by_its_word_only() {
        let (mut former, mut successor) = (leader(1), RoomClock::new(2));
        successor.follow(ms(0), source(1, 1));
        let now = converse(&mut successor, &former, ms(2_000));
        assert!(successor.lead(now, source(2, 2)));
        let line = successor.line().expect("it leads");
        former.follow(now, source(2, 2));
        former.handle_start(now, source(2, 2), line);
        // Its heartbeats come and go; what it answers does not come.
        former.leaderless(now + Span::from_secs(1));
        former.follow(now + Span::from_secs(2), source(2, 2));
        let error = former.stats(now + Span::from_secs(7)).error.as_secs_f64();
        assert!(error > 3.0 * f64::from(line.sigma), "{error} for {line:?}");
        assert!(error > 15.0 * f64::from(line.rate_sigma), "{error} for {line:?}");
    }

    #[test]
    fn however_long_a_reign_was_its_line_is_known_at_its_end() {
        let mut clock = leader(1);
        let now = ms(3 * 3_600_000);
        clock.leaderless(now);
        assert!(clock.stats(now).error < Span::from_micros(100), "{:?}", clock.stats(now));
        assert!(clock.lead(now + Span::from_secs(1), source(2, 1)));
        let line = clock.line().expect("it leads");
        assert!(line.sigma < 30e-6 && line.rate_sigma < 0.5e-6, "{line:?}");
    }

    #[test]
    fn what_was_feared_of_a_coordinator_that_never_spoke_is_not_carried_on() {
        let mut clock = leader(1);
        for n in 2..12 {
            clock.follow(ms(100 * n), source(n.unsigned_abs(), 2));
        }
        clock.leaderless(ms(1_200));
        assert!(clock.stats(ms(1_200)).error < Span::from_micros(100), "ten coordinators");
    }

    #[test]
    fn a_successor_carries_the_room_on_without_a_step() {
        let (leader, mut clock) = (leader(1), RoomClock::new(2));
        clock.follow(ms(0), source(1, 1));
        converse(&mut clock, &leader, ms(30_000));
        clock.leaderless(ms(30_000));
        assert!(clock.poll_probe(ms(31_000)).is_none());
        assert!(clock.lead(ms(32_000), source(2, 2)));
        assert!(room_error(&clock, ms(60_000)).abs() < Span::from_micros(5));
        let line = clock.line().expect("it leads");
        assert_eq!((line.epoch, clock.epoch()), (7, Some(7)));
        assert_eq!(clock.model().map(|model| model.generation), Some(1));
    }

    #[test]
    fn who_knows_no_time_cannot_lead() {
        let mut clock = RoomClock::new(2);
        assert!(!clock.lead(ms(0), source(1, 2)));
        clock.follow(ms(0), source(1, 1));
        assert!(!clock.lead(ms(10), source(2, 2)));
    }

    #[test]
    fn another_timeline_is_gone_over_to_in_one_step() {
        let (mut second, mut clock) = (RoomClock::new(3), RoomClock::new(2));
        let first = leader(1);
        clock.follow(ms(0), source(1, 1));
        converse(&mut clock, &first, ms(5000));
        second.found(ms(0), source(2, 3), 8);
        second.resumed(ms(0), Span::from_secs(3));
        clock.follow(ms(5000), source(2, 3));
        assert_eq!(clock.epoch(), Some(7), "until the new one is known the old goes on");
        converse(&mut clock, &second, ms(6000));
        assert_eq!(clock.epoch(), Some(8));
        let ahead = room_error(&clock, ms(6000));
        assert!((ahead - Span::from_secs(3)).abs() < Span::from_millis(1), "{ahead:?}");
        assert_eq!(clock.model().map(|model| model.generation), Some(2));
    }

    #[test]
    fn a_coast_that_the_coordinator_s_stamps_contradict_claims_nothing() {
        let (first, mut clock) = (leader(1), RoomClock::new(2));
        clock.follow(ms(0), source(1, 1));
        converse(&mut clock, &first, ms(5000));
        clock.follow(ms(5000), source(2, 3));
        // Heartbeats arrive, but no answer does.
        let room = |clock: &RoomClock, at| clock.model().expect("it goes on").room(at);
        let stamp = |clock: &RoomClock, at, age| room(clock, at) - Span::from_millis(age);
        let error = |clock: &RoomClock, at| clock.stats(at).error;
        let known = error(&clock, ms(5000));
        for (what, age) in [("as always", 2), ("after a stall", 250)] {
            let mut clock = clock.clone();
            let sent = stamp(&clock, ms(5100), age);
            clock.handle_stamp(ms(5100), sent);
            assert!(error(&clock, ms(5100)) < known + known, "{what}");
        }
        for (what, age) in [("ahead of us", -700), ("behind us", 2550)] {
            let mut clock = clock.clone();
            let before = room(&clock, ms(5100));
            let sent = stamp(&clock, ms(5100), age);
            clock.handle_stamp(ms(5100), sent);
            assert_eq!(room(&clock, ms(5100)), before, "{what}: the music goes on");
            assert!(error(&clock, ms(5100)) > Span::from_millis(age.abs()), "{what}");
            assert_eq!(clock.stats(ms(5100)).state, SyncState::OutOfSync, "{what}");
        }
        // One that was merely late is set right by the next.
        let (late, soon) = (stamp(&clock, ms(5100), 900), stamp(&clock, ms(5200), 3));
        clock.handle_stamp(ms(5100), late);
        assert!(error(&clock, ms(5100)) > Span::from_millis(900));
        clock.handle_stamp(ms(5200), soon);
        assert!(error(&clock, ms(5200)) < known + known);
        clock.handle_stamp(ms(5300), RoomTime(i64::MIN));
        clock.handle_stamp(ms(5300), RoomTime(i64::MAX));
    }

    #[test]
    fn one_answer_shows_that_a_coast_is_of_another_timeline() {
        let (first, mut clock) = (leader(1), RoomClock::new(2));
        clock.follow(ms(0), source(1, 1));
        converse(&mut clock, &first, ms(5000));
        clock.follow(ms(5000), source(2, 3));
        let known = clock.stats(ms(5000)).error;
        for shift in [0, 260, -260].map(Span::from_millis) {
            let (mut clock, mut next) = (clock.clone(), leader(3));
            next.found_from(ms(0), source(2, 3), 7, RoomTime(0) + shift);
            let probe = clock.poll_probe(ms(5100)).expect("it asks at once");
            let (at, reply) = answered(&next, &probe);
            clock.handle_reply(at, &reply);
            let error = clock.stats(at).error;
            match shift {
                Span::ZERO => assert!(error < known + known, "{error:?}"),
                _ => assert!(error > Span::from_millis(250), "{error:?}"),
            }
        }
    }

    #[test]
    fn who_left_the_room_has_no_time() {
        let mut clock = leader(1);
        clock.forget();
        assert_eq!((clock.model(), clock.poll_model(), clock.source()), (None, None, None));
        assert_eq!(clock.poll_timeout(), None);
    }

    #[test]
    fn a_model_is_news_once() {
        let mut clock = leader(1);
        assert!(clock.poll_model().is_some());
        assert!(clock.poll_model().is_none());
    }

    #[test]
    fn a_watched_clock_is_known_when_it_takes_over() {
        let (leader, mut clock) = (leader(1), RoomClock::new(2));
        clock.follow(ms(0), source(1, 1));
        clock.watch_deputy(ms(0), Some((NodeId([3; 32]), 1)));
        let (mut now, mut watched) = (ms(0), 0);
        while now < ms(20_000) {
            clock.handle_timeout(now);
            while let Some(probe) = clock.poll_probe(now) {
                let (arrival, reply) = if probe.source.n == 0 {
                    watched += 1;
                    let t2 = probe.t1 + Span::from_millis(1) + AHEAD;
                    let reply = super::super::standby::raw_answer(&probe, t2);
                    (probe.t1 + Span::from_millis(2), reply)
                } else {
                    answered(&leader, &probe)
                };
                clock.handle_reply(arrival, &reply);
            }
            now = clock.poll_timeout().expect("it asks").later(now + Span(1));
        }
        // Eight trains in the first four seconds, one every two seconds from then on.
        assert!((70..=95).contains(&watched), "{watched}");
        let own = clock.stats(now).samples;
        clock.follow(now, source(2, 3));
        let known = clock.stats(now).samples;
        assert!(known > 50 && known < own, "{known} of {watched}");
        assert!(room_error(&clock, now).abs() < Span::from_micros(5));
    }

    #[test]
    fn a_coordinator_that_has_never_answered_is_silent_since_it_is_followed() {
        let mut clock = RoomClock::new(2);
        clock.follow(ms(1_000), source(1, 1));
        assert_eq!(clock.stats(ms(13_000)).silence, Some(Span::from_secs(12)));
    }

    #[test]
    fn silence_widens_the_error_until_it_says_so() {
        let (leader, mut clock) = (leader(1), RoomClock::new(2));
        clock.follow(ms(0), source(1, 1));
        converse(&mut clock, &leader, ms(30_000));
        let before = clock.stats(ms(30_000));
        assert_eq!(before.state, SyncState::Synced);
        clock.leaderless(ms(30_000));
        assert!(clock.stats(ms(90_000)).error > before.error);
        assert_eq!(clock.stats(ms(400_000)).state, SyncState::OutOfSync);
    }
}
