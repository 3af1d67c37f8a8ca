//! Another device's clock against ours, from answered probes: offset, frequency, and how far
//! both may be wrong.
//!
//! Keeps a bounded ring of exchanges and fits their lower envelope (see
//! [`envelope`](super::envelope)) four times a second at most. It compares raw clocks only:
//! of rooms, lines and coordinators it knows nothing. After construction it allocates nothing.

use std::collections::VecDeque;

use crate::base::{LocalTime, Span};
use crate::engine::planted::{self, Bug};

use super::envelope::{Fit, Frequency, FrequencyPrior, Legs, Search};
use super::holdover::{BLOCK, Block, Holdover};

/// Exchanges kept at most: 64 s of 20 a second, and the burst at the start.
const RING: usize = 1536;

/// Window while the statistical error is small: shorter follows the crystals better.
const QUIET_WINDOW: Span = Span::from_secs(32);

/// Window while it is not: more samples find a deeper floor.
const NOISY_WINDOW: Span = Span::from_secs(64);

/// Below this statistical error, seconds, the short window serves.
const QUIET_S: f64 = 6e-6;

/// Between two fits once there are [`EAGER`] samples.
const SOLVE_EVERY: Span = Span::from_millis(250);

/// So many samples are fitted one by one, so that a joining device sounds soon.
const EAGER: u64 = 30;

/// Samples below which the window's two halves say nothing of each other.
const SPLIT_FROM: usize = 8;

/// From so many samples on, the mean of what the halves say turns slow.
const SETTLED: u64 = 60;

/// Noise that lasts is shared by neighbours but not by stretches this long, seconds; the
/// window must span several of them.
const STRETCH_S: f64 = 4.0;
const STRETCHES_FROM_S: f64 = 16.0;

/// Share of the legs' skew that counts as error: what skewed queues cost in simulation.
const SKEW_WEIGHT: f64 = 0.35;

/// Statistical error never claimed smaller, seconds.
const SIGMA_FLOOR_S: f64 = 0.5e-6;

/// What is claimed before any answer, seconds: a quarter of the slowest one taken.
const UNKNOWN_S: f64 = 0.5;

/// A clock jump must exceed so many standard deviations …
const JUMP_SIGMAS: f64 = 6.0;

/// … and this, seconds, beyond them: less is mended by the window within half a minute …
const JUMP_FLOOR_S: f64 = 50e-6;

/// … in so many attempts to fit in a row.
const JUMP_FITS: u32 = 3;

/// A path is shorter than its window says if an exchange was back in so small a share of the
/// smallest round trip …
const SHORTER: f64 = 0.5;

/// … and by so much earlier, seconds, beyond the jump's limit.
const SHORTER_S: f64 = 1e-3;

/// Exchanges of the longer path are those that were slower than the fastest by this share of the
/// difference.
const SHORTER_KEPT: f64 = 0.25;

/// What is kept of the ring after a jump, at most.
const KEPT_AFTER_JUMP: Span = Span::from_secs(4);

/// The four stamps of one answered probe: `t1` and `t4` on our raw clock, `t2` and `t3` on
/// the other's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Exchange {
    /// Question sent.
    pub t1: LocalTime,
    /// Question received, there.
    pub t2: LocalTime,
    /// Answer sent, there.
    pub t3: LocalTime,
    /// Answer received.
    pub t4: LocalTime,
}

impl Exchange {
    /// Time on the way, both legs together.
    #[must_use]
    pub fn rtt(&self) -> Span {
        (self.t4 - self.t1) - (self.t3 - self.t2)
    }
}

/// What an exchange did to the estimate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Outcome {
    /// Kept for the next fit.
    Kept,
    /// The estimate is new.
    Solved,
    /// One of the clocks seems to have jumped; the estimate stays until that is certain.
    Suspected,
    /// One of the clocks jumped: the past is dropped and the estimate new.
    Jumped,
}

/// An exchange as kept: times of ours, and raw differences.
#[derive(Clone, Copy, Debug)]
struct Sample {
    t1: LocalTime,
    forward: Span,
    t4: LocalTime,
    backward: Span,
}

/// The last fit, and when it was made.
#[derive(Clone, Copy, Debug)]
struct Solution {
    at: LocalTime,
    fit: Fit,
    /// The fastest single exchange of the window, seconds.
    fastest: f64,
}

/// What the newest samples say of the clocks.
#[derive(Clone, Copy, Debug)]
enum Verdict {
    Steady,
    /// Something fell below its floor; what, shows the next fit.
    Open,
    Jumped {
        since: LocalTime,
    },
    /// The path became much shorter; what was slower than this, seconds, was on the longer one.
    Shorter {
        than: f64,
    },
}

/// Estimates one other clock.
#[derive(Clone, Debug)]
pub struct Estimator {
    ring: VecDeque<Sample>,
    /// Subtracted from every raw difference, so that floats keep their nanoseconds.
    base: Span,
    columns: Columns,
    /// One half of them, stretch by stretch.
    part: Columns,
    prior: FrequencyPrior,
    /// Exchanges since the start or the last jump.
    n: u64,
    /// Of these, so many since the last fit.
    fresh: usize,
    solution: Option<Solution>,
    /// Mean square of the difference between the offsets of the two halves, s².
    split: Option<f64>,
    /// The same between halves made of whole stretches of [`STRETCH_S`].
    stretched: Option<f64>,
    skew: f64,
    window: Span,
    holdover: Holdover,
    next_block: Option<LocalTime>,
    /// When a fit was last made or refused.
    tried: LocalTime,
    n_jumps: u32,
    /// The path became shorter: until then exchanges this slow, seconds, may have been on the
    /// longer one.
    outdone: Option<(f64, LocalTime)>,
    /// Fits that suspected a jump in a row, and when the first did.
    suspicion: Option<(u32, LocalTime)>,
}

impl Estimator {
    /// Measurements held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ring.len()
    }

    /// Whether nothing has been measured yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ring.is_empty()
    }

    /// Knows nothing but the prior.
    #[must_use]
    pub fn new(prior: FrequencyPrior) -> Estimator {
        let columns = || Columns::with_capacity(RING);
        Estimator::with_buffers(VecDeque::with_capacity(RING), columns(), columns(), prior)
    }

    /// Forgets everything and keeps its memory.
    pub fn reset(&mut self, prior: FrequencyPrior) {
        let mut ring = std::mem::take(&mut self.ring);
        ring.clear();
        let (columns, part) = (std::mem::take(&mut self.columns), std::mem::take(&mut self.part));
        *self = Estimator::with_buffers(ring, columns, part, prior);
    }

    fn with_buffers(
        ring: VecDeque<Sample>,
        columns: Columns,
        part: Columns,
        prior: FrequencyPrior,
    ) -> Estimator {
        Estimator {
            ring,
            base: Span::ZERO,
            columns,
            part,
            prior,
            n: 0,
            fresh: 0,
            solution: None,
            split: None,
            stretched: None,
            skew: 0.0,
            window: QUIET_WINDOW,
            holdover: Holdover::new(prior),
            next_block: None,
            tried: LocalTime::default(),
            n_jumps: 0,
            outdone: None,
            suspicion: None,
        }
    }

    /// Takes an exchange in, in the order of arrival. The caller has discarded what cannot be.
    pub fn add(&mut self, exchange: Exchange) -> Outcome {
        let Exchange { t1, t2, t3, t4 } = exchange;
        let (forward, backward) = (stamp_difference(t2, t1), stamp_difference(t4, t3));
        if self.next_block.is_none() {
            self.base = forward;
            self.next_block = Some(t4 + BLOCK);
        }
        if self.ring.len() == RING {
            self.ring.pop_front();
        }
        let (forward, backward) = (forward - self.base, backward + self.base);
        let sample = Sample { t1, forward, t4, backward };
        let is_old = |(than, until)| t4 < until && sample.rtt() >= than;
        if self.outdone.is_some_and(is_old) {
            return Outcome::Kept;
        }
        self.ring.push_back(sample);
        self.n += 1;
        self.fresh += 1;
        let outcome = if self.is_due(t4) { self.step(t4) } else { Outcome::Kept };
        self.feed_holdover(t4);
        outcome
    }

    /// Exchanges taken in since the start or the last jump.
    #[must_use]
    pub fn n_samples(&self) -> u64 {
        self.n
    }

    /// Jumps of either clock noticed.
    #[must_use]
    pub fn n_jumps(&self) -> u32 {
        self.n_jumps
    }

    /// Exchanges in the ring.
    #[must_use]
    pub fn n_kept(&self) -> usize {
        self.ring.len()
    }

    /// When the last fit was made.
    #[must_use]
    pub fn solved_at(&self) -> Option<LocalTime> {
        self.solution.map(|solution| solution.at)
    }

    /// The other clock minus ours at an instant of ours.
    #[must_use]
    pub fn offset(&self, at: LocalTime) -> Option<Span> {
        let Solution { at: solved, fit, .. } = self.solution?;
        let age = (at - solved).as_secs_f64();
        Some(self.base + Span::from_secs_f64(fit.offset + fit.frequency.value * age))
    }

    /// How that changes per second of ours, by the window alone.
    #[must_use]
    pub fn frequency(&self) -> f64 {
        self.solution.map_or(self.prior.centre, |solution| solution.fit.frequency.value)
    }

    /// The frequency to begin with when this clock is measured anew. None while only samples with
    /// a long pause among them, or of few seconds, tell of it.
    #[must_use]
    pub fn known_frequency(&self) -> Option<f64> {
        let fit = self.solution.map(|solution| solution.fit);
        // Not the hold-over's: that may have begun with a fit that was not pinned yet.
        match fit.filter(|fit| fit.frequency.is_pinned) {
            Some(fit) => Some(fit.frequency.value),
            None if self.prior == FrequencyPrior::UNKNOWN => None,
            None => Some(self.prior.centre),
        }
    }

    /// What is remembered for coasting.
    #[must_use]
    pub fn holdover(&self) -> &Holdover {
        &self.holdover
    }

    /// Offset and frequency by the hold-over: from the last fit on with what is remembered of
    /// the frequency, where there is something.
    #[must_use]
    pub fn coasted(&self, at: LocalTime) -> Option<(Span, f64)> {
        let Solution { at: solved, fit, .. } = self.solution?;
        let primed = self.holdover.is_primed();
        let mut frequency = if primed { self.holdover.frequency() } else { fit.frequency.value };
        if planted::is(Bug::ClockBiasSign) {
            frequency = -frequency;
        }
        let age = (at - solved).as_secs_f64();
        Some((self.base + Span::from_secs_f64(fit.offset + frequency * age), frequency))
    }

    /// Variance of the frequency to coast with.
    #[must_use]
    pub fn frequency_variance(&self) -> f64 {
        let prior = self.prior.spread.powi(2);
        match (self.split, self.solution) {
            _ if self.holdover.is_primed() => self.holdover.frequency_variance(),
            (Some(split), Some(Solution { fit, .. })) => {
                prior.min(9.0 * split / fit.span.max(0.01).powi(2) + 1e-12)
            }
            _ => prior,
        }
    }

    /// One standard deviation of the offset at an instant of ours, seconds: statistics or
    /// lasting noise, whichever is larger; skew; age. A constant asymmetry of the path cannot
    /// be seen and is not in it.
    #[must_use]
    pub fn sigma(&self, at: LocalTime) -> f64 {
        let Some(solution) = self.solution else { return UNKNOWN_S };
        let Some(statistics) = self.sigma_statistics() else { return solution.fastest / 2.0 };
        let age = (at - solution.at).as_secs_f64().max(0.0);
        let noise = statistics.max(self.sigma_lasting());
        (noise.powi(2) + self.sigma_skew().powi(2) + self.holdover.growth(age)).sqrt()
    }

    /// The part that more or better probes would lower, seconds.
    #[must_use]
    pub fn sigma_statistics(&self) -> Option<f64> {
        self.split.map(|split| 0.5 * split.sqrt() + SIGMA_FLOOR_S)
    }

    /// The part that comes of noise that lasts, seconds; 0 while the window is short.
    #[must_use]
    pub fn sigma_lasting(&self) -> f64 {
        self.stretched.map_or(0.0, |split| 0.5 * split.sqrt())
    }

    /// The part that comes of unequal queues, seconds.
    #[must_use]
    pub fn sigma_skew(&self) -> f64 {
        SKEW_WEIGHT * self.skew
    }

    /// The smallest round trip of the window, seconds. The sum of the two floors would be a
    /// little smaller where there are many samples; where there are few, or a slope tilts them,
    /// it is drawn far too low to be the bound of anything.
    #[must_use]
    pub fn rtt_min(&self) -> Option<f64> {
        Some(self.solution?.fastest)
    }

    /// The sum of the two floors, seconds: what the fit makes of the round trip. A few samples
    /// draw it too low; of these, the fastest counts.
    #[must_use]
    pub fn rtt_of_floors(&self) -> Option<f64> {
        let Solution { fit, fastest, .. } = self.solution?;
        Some(if self.n < EAGER { fastest } else { fit.rtt.max(0.0) })
    }

    /// By how much an exchange's answer came later than the path's floor, seconds.
    #[must_use]
    pub fn lateness(&self, exchange: &Exchange) -> Option<f64> {
        let solution = self.solution.filter(|_| self.split.is_some())?;
        let backward = stamp_difference(exchange.t4, exchange.t3) + self.base;
        let sample = Sample { t1: exchange.t1, forward: Span::ZERO, t4: exchange.t4, backward };
        Some(solution.excess(&sample).1.max(0.0))
    }

    fn is_due(&self, now: LocalTime) -> bool {
        self.n < EAGER || now - self.tried >= SOLVE_EVERY
    }

    fn step(&mut self, now: LocalTime) -> Outcome {
        self.tried = now;
        let verdict = self.suspect(now);
        self.fresh = 0;
        match verdict {
            Verdict::Open => Outcome::Suspected,
            Verdict::Jumped { since } => {
                self.drop_before(since.later(now - KEPT_AFTER_JUMP));
                self.solve(now);
                Outcome::Jumped
            }
            Verdict::Shorter { than } => {
                self.drop_slower(than, now);
                self.solve(now);
                Outcome::Solved
            }
            Verdict::Steady => {
                self.solve(now);
                Outcome::Solved
            }
        }
    }

    /// Judges the samples since the last fit against it. Noise and a longer path only add to
    /// a leg. A leg *below* its floor is a shorter path, or a clock that jumped; the latter
    /// when the other leg is as much above its own, so that the round trip is what it was.
    /// Until that is certain nothing is fitted: one sample of a jump would spoil the floor
    /// that shows it.
    fn suspect(&mut self, now: LocalTime) -> Verdict {
        let judged = self.solution.filter(|_| self.n >= EAGER && self.split.is_some());
        let Some(solution) = judged else { return Verdict::Steady };
        let limit = JUMP_SIGMAS * self.sigma(now) + JUMP_FLOOR_S;
        let recent = self.ring.iter().rev().take(self.fresh);
        let fastest = recent.clone().map(Sample::rtt).fold(f64::MAX, f64::min);
        let floor = solution.fit.rtt;
        if fastest < SHORTER * floor && floor - fastest > limit + SHORTER_S {
            return Verdict::Shorter { than: fastest + SHORTER_KEPT * (floor - fastest) };
        }
        let (u, v) = recent
            .map(|sample| solution.excess(sample))
            .fold((f64::MAX, f64::MAX), |(u, v), (forward, backward)| {
                (u.min(forward), v.min(backward))
            });
        let apart = (u < -limit && v > limit) || (u > limit && v < -limit);
        match self.suspicion {
            None if u.min(v) < -limit => self.suspicion = Some((1, now)),
            Some((fits, since)) if apart && fits + 1 == JUMP_FITS => {
                return Verdict::Jumped { since };
            }
            Some((fits, since)) if apart => self.suspicion = Some((fits + 1, since)),
            _ => self.suspicion = None,
        }
        if self.suspicion.is_some() { Verdict::Open } else { Verdict::Steady }
    }

    /// Starts anew with what came after the jump. The frequency did not jump.
    fn drop_before(&mut self, kept_from: LocalTime) {
        self.ring.retain(|sample| sample.t1 >= kept_from);
        self.begin_window();
        self.holdover.jumped();
        self.n_jumps += 1;
    }

    /// Starts anew with what came over the shorter path: of the longer one's samples, those that
    /// were on their way when it changed are low on one leg and high on the other, and the others
    /// make the new ones look scattered. The clocks did not change.
    fn drop_slower(&mut self, than: f64, now: LocalTime) {
        let longest = self.ring.iter().map(Sample::rtt).fold(0.0, f64::max);
        self.outdone = Some((than, now + Span::from_secs_f64(longest)));
        self.ring.retain(|sample| sample.rtt() < than);
        self.begin_window();
    }

    /// A new window, in which the frequency is known.
    fn begin_window(&mut self) {
        self.prior = self.known_frequency().map_or(self.prior, FrequencyPrior::remembered);
        if let Some(solution) = &mut self.solution {
            solution.fit.frequency.is_pinned = false;
        }
        self.n = self.ring.len() as u64;
        self.split = None;
        self.stretched = None;
        self.skew = 0.0;
        self.window = QUIET_WINDOW;
        self.suspicion = None;
    }

    fn solve(&mut self, now: LocalTime) {
        self.forget_old(now);
        let since =
            if self.ring.len() > SPLIT_FROM { now - self.window } else { LocalTime(i64::MIN) };
        self.columns.fill(self.ring.iter().filter(|sample| sample.t1 >= since), now);
        let n = self.columns.len();
        if n == 0 {
            return;
        }
        let unknown = Frequency { value: self.prior.centre, is_pinned: false };
        let last = self.solution.map_or(unknown, |solution| solution.fit.frequency);
        let mut fit = self.columns.legs().fit(self.prior, last, Search::WHOLE);
        if let (true, false, Some(known)) =
            (last.is_pinned, fit.frequency.is_pinned, self.known_frequency())
        {
            // Nothing was heard for longer than a window.
            self.prior = FrequencyPrior::remembered(known);
            fit = self.columns.legs().fit(self.prior, last, Search::WHOLE);
        }
        if n >= SPLIT_FROM && self.n.is_multiple_of(2) {
            self.judge(&fit);
        }
        fit.offset += self.columns.shift;
        let fastest = self.columns.fastest();
        self.solution = Some(Solution { at: now, fit, fastest });
    }

    /// Compares the window's two halves, and its two legs.
    fn judge(&mut self, fit: &Fit) {
        let Columns { ta, a, tb, b, scratch, .. } = &mut self.columns;
        let legs = Legs::new(ta, a, tb, b);
        let half = |first| legs.half(first).fit(self.prior, fit.frequency, Search::PART).offset;
        let split = (half(0) - half(1)).powi(2);
        let skew = legs.skew(fit.frequency.value, scratch);
        let gain = if self.n > SETTLED { 0.05 } else { 0.3 };
        let mean = self.split.map_or(split, |mean| mean + gain * (split - mean));
        self.split = Some(mean);
        if fit.span >= STRETCHES_FROM_S {
            let offsets = [0, 1].map(|half| self.fit_stretches(half, fit.frequency));
            if let [Some(even), Some(odd)] = offsets {
                let split = (even - odd).powi(2);
                let mean = self.stretched.unwrap_or(split);
                self.stretched = Some(mean + gain * (split - mean));
            }
        }
        let weight = if self.skew == 0.0 { 1.0 } else { 0.1 };
        self.skew += weight * (skew - self.skew);
        self.window = if 0.5 * mean.sqrt() < QUIET_S { QUIET_WINDOW } else { NOISY_WINDOW };
    }

    /// The offset by every other stretch of the window; none where nothing was heard in any of
    /// them.
    fn fit_stretches(&mut self, half: usize, frequency: Frequency) -> Option<f64> {
        self.part.copy_stretches(&self.columns, half);
        let is_empty = self.part.len() == 0;
        (!is_empty).then(|| self.part.legs().fit(self.prior, frequency, Search::PART).offset)
    }

    fn forget_old(&mut self, now: LocalTime) {
        while self.ring.front().is_some_and(|sample| sample.t1 < now - NOISY_WINDOW) {
            self.ring.pop_front();
        }
    }

    fn feed_holdover(&mut self, now: LocalTime) {
        let due = self.next_block.is_some_and(|at| now >= at);
        let (Some(split), Some(solution), true) = (self.split, self.solution, due) else { return };
        self.next_block = Some(now + BLOCK);
        let Solution { at: solved, fit, .. } = solution;
        let window = self.window.as_secs_f64();
        if fit.span < BLOCK.as_secs_f64() {
            return;
        }
        let at = now - Span::from_secs_f64(fit.span.min(window) / 2.0);
        self.holdover.observe(&Block {
            at,
            offset: fit.offset + fit.frequency.value * (at - solved).as_secs_f64(),
            frequency: fit.frequency.value,
            split: split.sqrt(),
            span: fit.span,
            window,
        });
    }
}

impl Sample {
    /// Time on the way, both legs together, seconds.
    fn rtt(&self) -> f64 {
        (self.forward + self.backward).as_secs_f64()
    }
}

impl Solution {
    /// How far a sample lies above the floors of the forward and the backward leg, seconds.
    fn excess(&self, sample: &Sample) -> (f64, f64) {
        let Fit { offset, frequency, rtt, .. } = self.fit;
        let theta = |at: LocalTime| offset + frequency.value * (at - self.at).as_secs_f64();
        let forward = sample.forward.as_secs_f64() - theta(sample.t1) - rtt / 2.0;
        let backward = sample.backward.as_secs_f64() + theta(sample.t4) - rtt / 2.0;
        (forward, backward)
    }
}

/// The window as floats, seconds relative to now; and room to sort in.
#[derive(Clone, Debug, Default)]
struct Columns {
    ta: Vec<f64>,
    a: Vec<f64>,
    tb: Vec<f64>,
    b: Vec<f64>,
    /// What was subtracted from `a` and added to `b`.
    shift: f64,
    scratch: Vec<f64>,
}

impl Columns {
    fn with_capacity(n: usize) -> Columns {
        let column = || Vec::with_capacity(n);
        Columns {
            ta: column(),
            a: column(),
            tb: column(),
            b: column(),
            shift: 0.0,
            scratch: column(),
        }
    }

    fn fill<'a>(&mut self, samples: impl Iterator<Item = &'a Sample>, now: LocalTime) {
        for column in [&mut self.ta, &mut self.a, &mut self.tb, &mut self.b] {
            column.clear();
        }
        for sample in samples {
            let forward = sample.forward.as_secs_f64();
            if self.a.is_empty() {
                self.shift = forward;
            }
            self.ta.push((sample.t1 - now).as_secs_f64());
            self.a.push(forward - self.shift);
            self.tb.push((sample.t4 - now).as_secs_f64());
            self.b.push(sample.backward.as_secs_f64() + self.shift);
        }
    }

    /// Takes over every other [`STRETCH_S`] of another's samples.
    fn copy_stretches(&mut self, all: &Columns, half: usize) {
        for column in [&mut self.ta, &mut self.a, &mut self.tb, &mut self.b] {
            column.clear();
        }
        for i in (0..all.len()).filter(|i| stretch_of(all.ta[*i]) % 2 == half) {
            self.ta.push(all.ta[i]);
            self.a.push(all.a[i]);
            self.tb.push(all.tb[i]);
            self.b.push(all.b[i]);
        }
    }

    fn len(&self) -> usize {
        self.ta.len()
    }

    fn fastest(&self) -> f64 {
        self.a.iter().zip(&self.b).map(|(a, b)| a + b).fold(f64::MAX, f64::min)
    }

    fn legs(&self) -> Legs<'_> {
        Legs::new(&self.ta, &self.a, &self.tb, &self.b)
    }
}

/// Which stretch before now an instant (seconds, negative) is in.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates at 0")]
fn stretch_of(at: f64) -> usize {
    (-at / STRETCH_S) as usize
}

/// One clock's stamp minus the other's: not a time that passed.
fn stamp_difference(one: LocalTime, other: LocalTime) -> Span {
    one - other
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_with_a_gap_where_every_other_stretch_was_is_judged_all_the_same() {
        let mut estimator = Estimator::new(FrequencyPrior::UNKNOWN);
        let ms = |n: i64| LocalTime(0) + Span::from_millis(n);
        // Twenty answers, silence, and ten more: whole stretches of the window are empty.
        let asked = (0..20).map(|i| 20 * i).chain((0..10).map(|i| 16_600 + 20 * i));
        for (at, i) in asked.zip(0..) {
            let late = Span::from_micros(37 * (i % 5));
            let (t1, t2) = (ms(at), ms(at + 61_001) + late);
            let t3 = t2 + Span::from_micros(50);
            let t4 = ms(at + 2) + late + Span::from_micros(50);
            let _ = estimator.add(Exchange { t1, t2, t3, t4 });
        }
        let offset = estimator.offset(ms(17_000)).expect("answers came");
        assert!((offset - Span::from_secs(61)).abs() < Span::from_millis(1), "{offset:?}");
    }
}
