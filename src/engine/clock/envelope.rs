//! The lower envelope of a two-way exchange: the one offset and frequency that leave the
//! smallest delays on both legs non-negative and as small as the samples allow.
//!
//! Delay noise only ever adds, so a leg's floor is its information and everything above it is
//! not. The floors of the two legs need not come from one packet.
//!
//! ```text
//!   forward   a = t2 - t1 =  theta + delay        backward   b = t4 - t3 = -theta + delay
//!        .   .      .                                   .        .
//!      .  .    . .     .  .                          .     .   .     .
//!   ___._____.___________.___  U(f)               _____._____________.__  V(f)
//!
//!   offset = (U - V) / 2        smallest round trip = U + V       f: where U + V is largest
//! ```
//!
//! What this file does not do: keep samples, or judge how good a fit is.

/// Of the samples of a leg, this share is its floor. More is biased by the noise, a bare
/// minimum hangs on one packet.
const FLOOR_SHARE: f64 = 0.02;

/// Added to the mean spacing of the lowest samples, seconds: the resolution of a time stamp
/// in user space. Keeps the scale finite when stamps coincide.
const SPACING_FLOOR_S: f64 = 0.3e-6;

/// Half the range of frequencies looked at while the samples span less than
/// [`LONG_SPAN_S`]: two crystals of ±100 ppm and a badly calibrated counter.
const WIDE_SEARCH: f64 = 300e-6;

/// Half the range around the last frequency once a span of more has pinned it.
const NARROW_SEARCH: f64 = 12e-6;

/// Seconds of samples that pin the frequency to well within [`NARROW_SEARCH`].
const LONG_SPAN_S: f64 = 16.0;

/// From so many seconds of samples on, what they said of the frequency when they pinned it has
/// been corrected.
const SETTLED_SPAN_S: f64 = 24.0;

/// A step among the lowest samples, seconds, that is none of a floor's noise if it is also
/// [`CLIFF_RATIO`] times what lies below it: the path has become shorter, or was shorter once.
const CLIFF_S: f64 = 1e-3;
const CLIFF_RATIO: f64 = 8.0;

/// Below this distance, seconds, the ratio does not count smaller.
const CLIFF_GRAIN_S: f64 = 0.1e-3;

/// Of fewer samples the lowest are too far apart for a cliff to mean anything.
const CLIFF_FROM: usize = 60;

/// Where all that is near the floor is of so short a part of the window, it says where the floor
/// was but not how it slopes.
const MOMENT: f64 = 0.33;

/// Seconds of samples that can show a path that has changed among them.
const JUDGED_SPAN_S: f64 = 4.0;

/// So many of the lowest samples are not by chance all in one third of the window, with those
/// around them above the lowest by more than this times their spread.
const CROWD: usize = 8;
const CROWD_RATIO: f64 = 1.5;

/// Of the height of the farther half of what is beside a moment, the nearer one has this share or
/// more if it is a step. A slope's has a fifth at most, and noise on it.
const STEEP: f64 = 0.5;

/// So long, seconds, before and after them nothing is near the floor by chance.
const STEP_S: f64 = 1.0;

/// The inverse golden ratio.
const GOLDEN: f64 = 0.618_033_988_7;

/// As many of the lowest samples as any step asks for: twice the floor's share of a full
/// ring, and one.
const MAX_LOWEST: usize = 64;

/// How closely a frequency is looked for.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Search {
    /// Golden-section steps.
    steps: u32,
    /// Half the range around the last frequency once that is settled.
    settled: f64,
}

impl Search {
    /// For the estimate. Where the samples leave the slope free for a while, as the last ones of a
    /// shorter path do, it must not run away.
    pub const WHOLE: Search = Search { steps: 24, settled: 2e-6 };

    /// For comparing parts of the samples, whose difference is to show all that they leave free.
    pub const PART: Search = Search { steps: 16, settled: NARROW_SEARCH };
}

/// What is known of the frequency before any sample.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct FrequencyPrior {
    /// Where it is expected; a ratio minus one.
    pub centre: f64,
    /// How far it may be from there; one standard deviation. The penalty turns linear beyond
    /// two of them, so samples always win in the end.
    pub spread: f64,
}

impl FrequencyPrior {
    /// Two crystals nobody has compared before.
    pub const UNKNOWN: FrequencyPrior = FrequencyPrior { centre: 0.0, spread: 80e-6 };

    /// A pair whose frequency was measured earlier. Wide on purpose: a tighter prior once
    /// held an estimate 100 µs off for a minute while it claimed 2 µs.
    #[must_use]
    pub fn remembered(frequency: f64) -> FrequencyPrior {
        FrequencyPrior { centre: frequency, spread: 5e-6 }
    }

    fn penalty(&self, frequency: f64) -> f64 {
        huber((frequency - self.centre) / self.spread)
    }
}

/// A frequency, and whether it is known well.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Frequency {
    /// A ratio minus one.
    pub value: f64,
    /// Whether a long span of samples has told it.
    pub is_pinned: bool,
}

/// Whether a few samples far below all others are a path that was shorter for a while.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Cliffs {
    Seen,
    Ignored,
}

/// Offset and frequency at the time that the legs' times count from.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Fit {
    /// Answerer's clock minus ours, seconds.
    pub offset: f64,
    /// Its change per second of ours.
    pub frequency: Frequency,
    /// Smallest round trip, seconds.
    pub rtt: f64,
    /// From the first question to the last answer, seconds.
    pub span: f64,
}

/// One direction: when, and the raw difference of the two stamps; both in seconds, the times
/// relative to the present.
#[derive(Clone, Copy, Debug)]
struct Leg<'a> {
    at: &'a [f64],
    diff: &'a [f64],
    /// The sign with which the frequency enters.
    sign: f64,
    first: usize,
    step: usize,
}

/// When the lowest samples of a leg are, where they are close together.
#[derive(Clone, Copy, Debug)]
struct Moment<'a> {
    /// The times of that leg's samples.
    at: &'a [f64],
    first: f64,
    last: f64,
}

/// Both directions of the same exchanges.
#[derive(Clone, Copy, Debug)]
pub struct Legs<'a> {
    forward: Leg<'a>,
    backward: Leg<'a>,
    n: usize,
}

impl<'a> Legs<'a> {
    /// Four columns of equal length: question sent and `t2 - t1`, answer received and
    /// `t4 - t3`.
    #[must_use]
    pub fn new(ta: &'a [f64], a: &'a [f64], tb: &'a [f64], b: &'a [f64]) -> Legs<'a> {
        let leg = |at, diff, sign| Leg { at, diff, sign, first: 0, step: 1 };
        Legs { forward: leg(ta, a, -1.0), backward: leg(tb, b, 1.0), n: ta.len() }
    }

    /// Every other exchange, from the first or from the second on.
    #[must_use]
    pub fn half(&self, first: usize) -> Legs<'a> {
        let pick = |leg: Leg<'a>| Leg { first, step: 2, ..leg };
        Legs {
            forward: pick(self.forward),
            backward: pick(self.backward),
            n: (self.n + 1 - first) / 2,
        }
    }

    /// How much wider the lowest tenth of one leg lies above its floor than that of the
    /// other, halved: what skewed queues may hide in the offset, seconds.
    pub fn skew(&self, frequency: f64, scratch: &mut Vec<f64>) -> f64 {
        let tenth = self.n / 10;
        let width = |leg: &Leg<'_>, scratch: &mut Vec<f64>| {
            leg.residuals(frequency, scratch);
            let (below, &mut tenth, _) = scratch.select_nth_unstable_by(tenth, f64::total_cmp);
            tenth - below.iter().copied().fold(tenth, f64::min)
        };
        0.5 * (width(&self.forward, scratch) - width(&self.backward, scratch)).abs()
    }

    /// Maximises the margin over the frequency, near the last one if that is pinned.
    ///
    /// What is pinned tells a path that has changed from a clock that runs at another rate. What
    /// is not must not be taken for it: seconds of samples, a pause, and seconds of samples make
    /// any rate look right whose slope from the ones to the others is a cliff.
    #[must_use]
    pub fn fit(&self, prior: FrequencyPrior, last: Frequency, search: Search) -> Fit {
        let span = self.span();
        let is_long = span >= LONG_SPAN_S;
        let cliffs = if is_long && !last.is_pinned { Cliffs::Ignored } else { Cliffs::Seen };
        let at = |frequency: f64, is_pinned: bool| {
            let (u, v) = self.floors(frequency, cliffs);
            let frequency = Frequency { value: frequency, is_pinned };
            Fit { offset: (u - v) / 2.0, frequency, rtt: u + v, span }
        };
        if self.n < 3 {
            return at(prior.centre, false);
        }
        if is_long && last.is_pinned {
            if self.moment(last.value, span).is_some() {
                return at(last.value, true);
            }
            // Parts search as widely either way, and need not look.
            let is_open = search.settled >= NARROW_SEARCH
                || span < SETTLED_SPAN_S
                || self.is_tilted(last.value, span);
            let half = if is_open { NARROW_SEARCH } else { search.settled };
            return at(self.search(prior, last, (last.value, half), search, cliffs), true);
        }
        let wide = (prior.centre, WIDE_SEARCH);
        let best = self.search(prior, last, wide, search, cliffs);
        if last.is_pinned || span < JUDGED_SPAN_S {
            return at(best, is_long);
        }
        let Some(moment) = self.moment(best, span) else { return at(best, is_long) };
        // A path that became longer in the first seconds, or shorter in the last ones, by however
        // little. The floor is theirs; how it slopes, another stretch that lasts for longer says
        // better.
        let Some(longer) = self.beside(&moment) else {
            return at(if is_long { last.value } else { best }, false);
        };
        let value = longer.search(prior, last, wide, search, Cliffs::Ignored);
        let span = longer.span();
        Fit { span, ..at(value, span >= LONG_SPAN_S) }
    }

    /// From the first question to the last answer, seconds.
    fn span(&self) -> f64 {
        self.backward.last_at(self.n) - self.forward.first_at()
    }

    /// The frequency within `half` of `centre` at which the margin is largest.
    fn search(
        &self,
        prior: FrequencyPrior,
        last: Frequency,
        (centre, half): (f64, f64),
        search: Search,
        cliffs: Cliffs,
    ) -> f64 {
        let scale = self.spacing(last.value);
        let gain = |f: f64| {
            let (u, v) = self.floors(f, cliffs);
            (u + v) / (2.0 * scale) - prior.penalty(f)
        };
        golden_section(centre - half, centre + half, search.steps, gain)
    }

    /// The moment on which the floor of one leg hangs, if one does.
    fn moment(&self, frequency: f64, span: f64) -> Option<Moment<'a>> {
        let of = |leg: &Leg<'a>| {
            let crowd = || leg.crowd(frequency, span).filter(Crowd::is_step);
            let (first, last) = leg
                .moment(frequency, self.n, span)
                .or_else(|| crowd().map(|crowd| (crowd.first, crowd.last)))?;
            Some(Moment { at: leg.at, first, last })
        };
        of(&self.forward).or_else(|| of(&self.backward))
    }

    /// Whether the lowest samples of a leg are together because the frequency is another one.
    fn is_tilted(&self, frequency: f64, span: f64) -> bool {
        let of = |leg: &Leg<'_>| leg.crowd(frequency, span).is_some_and(|crowd| !crowd.is_even());
        of(&self.forward) || of(&self.backward)
    }

    /// The exchanges before that moment or after it, whichever last for longer, and for longer
    /// than it lasted.
    fn beside(&self, moment: &Moment<'a>) -> Option<Legs<'a>> {
        let Moment { at, first, last } = *moment;
        // Halves keep their exchanges: every other one, counted from the beginning.
        let until = at.partition_point(|at| *at < first - STEP_S) & !1;
        let from = (at.partition_point(|at| *at <= last + STEP_S) + 1) & !1;
        let lasts = |part: &[f64]| part.last().zip(part.first()).map_or(0.0, |(b, a)| b - a);
        let (before, after) = (at.get(..until)?, at.get(from..).unwrap_or_default());
        let range = if lasts(before) > lasts(after) { 0..until } else { from..at.len() };
        let is_longer = at.get(range.clone()).map_or(0.0, lasts) > last - first;
        let n = range.len().saturating_sub(self.forward.first).div_ceil(self.forward.step);
        if !is_longer || n < 3 {
            return None;
        }
        let part = |leg: Leg<'a>| {
            let (at, diff) = (&leg.at[range.clone()], &leg.diff[range.clone()]);
            Leg { at, diff, ..leg }
        };
        Some(Legs { forward: part(self.forward), backward: part(self.backward), n })
    }

    /// The floors of both legs. Where a path has just become shorter, a few samples lie far below
    /// all others: they are the floor then, and no mean is taken across the cliff. If they do on
    /// one leg only, their packets were on their way when the path changed, or they are the last
    /// of a path that is gone and noise hides it on the other leg. Then these exchanges count on
    /// neither: the floor of one path and that of another are no pair of legs.
    fn floors(&self, frequency: f64, cliffs: Cliffs) -> (f64, f64) {
        let k = floor_count(self.n);
        let m = k.max(3).min(self.n);
        let (forward, backward) =
            (self.forward.lowest(frequency, m), self.backward.lowest(frequency, m));
        let (u, v) = match cliffs {
            Cliffs::Seen => (forward.cliff(self.n), backward.cliff(self.n)),
            Cliffs::Ignored => (None, None),
        };
        let apart = match (u, v) {
            (Some(cliff), None) => Some((&self.forward, forward.values[cliff - 1])),
            (None, Some(cliff)) => Some((&self.backward, backward.values[cliff - 1])),
            _ => None,
        };
        if let Some((on, low)) = apart {
            let rest = |leg: &Leg<'_>| floor(leg.lowest_but(frequency, m, on, low).values(), k);
            return (rest(&self.forward), rest(&self.backward));
        }
        (floor(forward.below(u), k), floor(backward.below(v), k))
    }

    /// Mean distance between neighbours among the lowest samples of both legs: how sharply
    /// the floor is drawn.
    fn spacing(&self, frequency: f64) -> f64 {
        let m = (4.max(2 * floor_count(self.n)) + 1).min(self.n);
        let spacing = |leg: &Leg<'_>| {
            let lowest = leg.lowest(frequency, m);
            // What is on the longer side of a cliff.
            let cliff = lowest.cliff(self.n).unwrap_or(0);
            let (below, above) = lowest.values[..lowest.len].split_at(cliff);
            mean_spacing(if below.len() > above.len() { below } else { above })
        };
        0.5 * (spacing(&self.forward) + spacing(&self.backward)) + SPACING_FLOOR_S
    }
}

impl Leg<'_> {
    fn first_at(&self) -> f64 {
        self.at[self.first]
    }

    fn last_at(&self, n: usize) -> f64 {
        self.at[self.first + (n - 1) * self.step]
    }

    /// The `m` smallest residuals at this frequency, in order.
    fn lowest(&self, frequency: f64, m: usize) -> Lowest {
        let slope = self.sign * frequency;
        let mut lowest = Lowest::new(m);
        let mut i = self.first;
        while i < self.at.len() {
            lowest.offer(self.diff[i] + slope * self.at[i]);
            i += self.step;
        }
        lowest
    }

    /// The same without the exchanges whose residuals `on` this leg or the other are as `low`.
    fn lowest_but(&self, frequency: f64, m: usize, on: &Leg<'_>, low: f64) -> Lowest {
        let (slope, others) = (self.sign * frequency, on.sign * frequency);
        let mut lowest = Lowest::new(m);
        for i in (self.first..self.at.len()).step_by(self.step) {
            if on.diff[i] + others * on.at[i] > low {
                lowest.offer(self.diff[i] + slope * self.at[i]);
            }
        }
        lowest
    }

    /// From when to when, where the floor hangs on one moment: the path was short then only,
    /// because it has become longer since and the last of before are about to leave the window, or
    /// because it is short again. Over half a minute a slope drawn through them would be any.
    fn moment(&self, frequency: f64, n: usize, span: f64) -> Option<(f64, f64)> {
        let lowest = self.lowest(frequency, MAX_LOWEST.min(n));
        let (floor, cliff) = (lowest.values[0], lowest.cliff(n));
        // A few of them end at a cliff; more than can be looked at one by one are what lies
        // within the floor's own noise.
        let top = cliff.unwrap_or(floor_count(n).max(3).min(lowest.len)) - 1;
        let spread = lowest.values[top] - floor;
        let near = if cliff.is_some() { spread } else { CLIFF_RATIO * (spread + CLIFF_GRAIN_S) };
        let slope = self.sign * frequency;
        let all = (self.first..self.at.len()).step_by(self.step);
        let all = all.map(|i| (self.at[i], self.diff[i] + slope * self.at[i] - floor));
        let (first, last) = extent(all.clone().filter(|(_, above)| *above <= near));
        if last - first >= MOMENT * span {
            return None;
        }
        // A frequency that is wrong makes a slope of them, a path that has changed a step.
        let mut others = all.filter(|(at, _)| is_beside(*at, first, last)).peekable();
        let is_step = others.peek().is_some() && others.all(|(_, above)| above > 2.0 * near);
        (cliff.is_some() || is_step).then_some((first, last))
    }

    /// The lowest few samples, if they are together, and how the others lie beside them.
    fn crowd(&self, frequency: f64, span: f64) -> Option<Crowd> {
        let lowest = self.lowest(frequency, CROWD);
        if lowest.len < CROWD {
            return None;
        }
        let (floor, highest) = (lowest.values[0], lowest.values[CROWD - 1]);
        let spread = highest - floor;
        let slope = self.sign * frequency;
        let all = (self.first..self.at.len()).step_by(self.step);
        let all = all.map(|i| (self.at[i], self.diff[i] + slope * self.at[i]));
        let (first, last) = extent(all.clone().filter(|(_, height)| *height <= highest));
        if last - first >= MOMENT * span {
            return None;
        }
        let (begin, end) = (self.first_at(), self.at[self.at.len() - 1]);
        let halfway = (0.5 * (begin + first - STEP_S), 0.5 * (end + last + STEP_S));
        let (mut before, mut after) = (Side::EMPTY, Side::EMPTY);
        for (at, height) in all.filter(|(at, _)| is_beside(*at, first, last)) {
            if at < first {
                before.offer(height - floor, at >= halfway.0);
            } else {
                after.offer(height - floor, at <= halfway.1);
            }
        }
        Some(Crowd { first, last, spread, before, after })
    }

    fn residuals(&self, frequency: f64, out: &mut Vec<f64>) {
        let slope = self.sign * frequency;
        out.clear();
        out.extend(self.at.iter().zip(self.diff).map(|(at, diff)| diff + slope * at));
    }
}

/// The smallest of what was offered, ascending. A ring of samples offers few that get in, so
/// this beats any selection that first writes them all down.
struct Lowest {
    values: [f64; MAX_LOWEST],
    len: usize,
    room: usize,
}

impl Lowest {
    fn new(room: usize) -> Lowest {
        Lowest { values: [0.0; MAX_LOWEST], len: 0, room: room.min(MAX_LOWEST) }
    }

    fn offer(&mut self, x: f64) {
        if self.len < self.room {
            self.len += 1;
        } else if x >= self.values[self.len - 1] {
            return;
        }
        let mut i = self.len - 1;
        while i > 0 && self.values[i - 1] > x {
            self.values[i] = self.values[i - 1];
            i -= 1;
        }
        self.values[i] = x;
    }

    /// How many lie below a cliff, if there is one among the lowest of `n`.
    fn cliff(&self, n: usize) -> Option<usize> {
        let values = if n < CLIFF_FROM { &[] } else { &self.values[..self.len] };
        let is_cliff = |pair: &[f64]| {
            let (below, step) = (pair[0] - values[0], pair[1] - pair[0]);
            step > CLIFF_S && step > CLIFF_RATIO * (below + CLIFF_GRAIN_S)
        };
        values.windows(2).position(is_cliff).map(|i| i + 1)
    }

    fn values(&self) -> &[f64] {
        &self.values[..self.len]
    }

    /// What lies below a cliff, if there is one.
    fn below(&self, cliff: Option<usize>) -> &[f64] {
        &self.values[..cliff.unwrap_or(self.len)]
    }
}

/// The lowest samples of a leg, where they are together, and those beside them.
#[derive(Clone, Copy, Debug)]
struct Crowd {
    first: f64,
    last: f64,
    /// From the lowest to the highest of them, seconds.
    spread: f64,
    before: Side,
    after: Side,
}

impl Crowd {
    /// Whether the path was shorter then: all others are visibly longer, and evenly so.
    fn is_step(&self) -> bool {
        let lowest = self.before.lowest().min(self.after.lowest());
        let is_above = lowest > CROWD_RATIO * (self.spread + CLIFF_GRAIN_S);
        lowest < f64::MAX && is_above && self.is_even()
    }

    fn is_even(&self) -> bool {
        self.before.is_even() && self.after.is_even()
    }
}

/// How low the samples on one side of a moment come, near it and farther away: seconds above the
/// floor.
#[derive(Clone, Copy, Debug)]
struct Side {
    near: f64,
    far: f64,
}

impl Side {
    const EMPTY: Side = Side { near: f64::MAX, far: f64::MAX };

    fn offer(&mut self, above: f64, is_near: bool) {
        let lowest = if is_near { &mut self.near } else { &mut self.far };
        *lowest = lowest.min(above);
    }

    fn lowest(&self) -> f64 {
        self.near.min(self.far)
    }

    /// A path that has changed is a step; a frequency that is wrong makes a slope.
    fn is_even(&self) -> bool {
        self.far >= f64::MAX || self.near >= STEEP * self.far
    }
}

/// From when to when samples are, of their times and heights.
fn extent(samples: impl Iterator<Item = (f64, f64)>) -> (f64, f64) {
    samples.fold((f64::MAX, f64::MIN), |(first, last), (at, _)| (first.min(at), last.max(at)))
}

fn is_beside(at: f64, first: f64, last: f64) -> bool {
    at < first - STEP_S || at > last + STEP_S
}

/// The floor under ascending samples with its end-point bias removed: the mean of the `k` lowest
/// lies above the true floor by about one spacing.
fn floor(values: &[f64], k: usize) -> f64 {
    let k = k.min(values.len());
    values[..k].iter().sum::<f64>() / count(k) - mean_spacing(values)
}

/// The mean distance between neighbours in ascending order.
fn mean_spacing(values: &[f64]) -> f64 {
    match values {
        [first, .., last] => (last - first) / count(values.len() - 1),
        _ => 0.0,
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a ring's length times 2 % is a small non-negative number"
)]
fn floor_count(n: usize) -> usize {
    ((count(n) * FLOOR_SHARE) as usize).max(1)
}

#[expect(clippy::cast_precision_loss, reason = "rings are far below 2^52 long")]
fn count(n: usize) -> f64 {
    n as f64
}

/// Quadratic near zero, linear beyond two (Huber 1964): far-off data pulls, but does not tear.
fn huber(x: f64) -> f64 {
    let x = x.abs();
    if x < 2.0 { 0.5 * x * x } else { 2.0 * x - 2.0 }
}

/// Where a function with one hump is largest (Kiefer 1953).
fn golden_section(mut lo: f64, mut hi: f64, steps: u32, gain: impl Fn(f64) -> f64) -> f64 {
    let (mut x1, mut x2) = (hi - GOLDEN * (hi - lo), lo + GOLDEN * (hi - lo));
    let (mut g1, mut g2) = (gain(x1), gain(x2));
    for _ in 0..steps {
        if g1 < g2 {
            lo = x1;
            (x1, g1) = (x2, g2);
            x2 = lo + GOLDEN * (hi - lo);
            g2 = gain(x2);
        } else {
            hi = x2;
            (x2, g2) = (x1, g1);
            x1 = hi - GOLDEN * (hi - lo);
            g1 = gain(x1);
        }
    }
    0.5 * (lo + hi)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hump_is_found() {
        let top = golden_section(-1.0, 3.0, 40, |x| -(x - 0.7) * (x - 0.7));
        assert!((top - 0.7).abs() < 1e-6, "{top}");
    }

    #[test]
    fn floors_of_different_packets_are_joined() {
        let ta: Vec<f64> = (0..400).map(|i| f64::from(i) * 0.1 - 40.0).collect();
        let tb: Vec<f64> = ta.iter().map(|t| t + 0.003).collect();
        // Every packet is slow on one of its legs, so no single packet shows the floor.
        let slow = |i: usize, odd: usize| if i % 2 == odd { 0.004 } else { 0.0 };
        let a: Vec<f64> = (0..400).map(|i| 0.001 + 50e-6 * ta[i] + slow(i, 0)).collect();
        let b: Vec<f64> = (0..400).map(|i| 0.001 - 50e-6 * tb[i] + slow(i, 1)).collect();
        let last = Frequency { value: 45e-6, is_pinned: true };
        let fit = Legs::new(&ta, &a, &tb, &b).fit(FrequencyPrior::UNKNOWN, last, Search::PART);
        assert!(fit.offset.abs() < 1e-6, "{fit:?}");
        assert!((fit.frequency.value - 50e-6).abs() < 0.1e-6, "{fit:?}");
        assert!((fit.rtt - 0.002).abs() < 2e-6, "{fit:?}");
    }

    #[test]
    fn one_slow_leg_shows_as_skew() {
        let at: Vec<f64> = (0..100).map(|i| f64::from(i) * 0.1).collect();
        let tight = vec![0.001; 100];
        let wide: Vec<f64> = (0..100).map(|i| 0.001 + 1e-5 * f64::from(i)).collect();
        let mut scratch = Vec::new();
        let skew = Legs::new(&at, &tight, &at, &wide).skew(0.0, &mut scratch);
        assert!((skew - 50e-6).abs() < 1e-9, "{skew}");
    }
}
