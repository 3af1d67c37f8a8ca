//! The slow line for sinks whose position moves in large steps: a bus that counts frames in
//! milliseconds, a sound server that is asked now and then.
//!
//! Their error is no noise around the truth but a saw-tooth that a filter follows. Medians of
//! a tenth of a second, a minute of them, and a straight line through the middle average it
//! away. Until a sink has shown that it needs this, by errors as large as a coarse pointer's
//! or by small steps again and again, only the medians are kept.

use std::collections::VecDeque;

/// Seconds of one bin.
const BIN_S: f64 = 0.1;

/// Observations of one bin that take part in its median; a bin has about ten.
const BIN_CAP: usize = 64;

/// Bins of the line: one minute.
const BINS: usize = 600;

/// Bins until the spread is believed.
const SPREAD_AFTER: usize = 20;

/// A spread of the innovations above this is a coarse pointer; below the second figure it no
/// longer is.
const SPREAD_IN_S: f64 = 200e-6;
const SPREAD_OUT_S: f64 = 100e-6;

/// Small steps, forgotten over five minutes, that make a beat: a device that lost a few frames
/// makes one.
const STEPS_IN: f64 = 2.2;
const STEPS_OUT: f64 = 0.5;
const STEPS_KEPT: f64 = 1.0 - BIN_S / 300.0;

/// Share of a new bin in the running spread: five seconds.
const SHARE: f64 = 0.02;

/// A standard deviation is so many median absolute deviations of a normal law.
const MAD: f64 = 1.4826;

/// A straight line through recent bins.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Line {
    x: f64,
    y: f64,
    pub(super) slope: f64,
    pub(super) sigma: f64,
}

impl Line {
    pub(super) fn at(&self, x: f64) -> f64 {
        self.y + self.slope * (x - self.x)
    }
}

/// Bins, their statistics, and the line while it is in use.
#[derive(Clone, Debug)]
pub(super) struct Coarse {
    open_since: f64,
    open: Vec<(f64, f64)>,
    bins: VecDeque<(f64, f64)>,
    scratch: Vec<f64>,
    spread: f64,
    steps: f64,
    seen: usize,
    line: Option<Line>,
}

impl Coarse {
    pub(super) fn new() -> Coarse {
        Coarse {
            open_since: 0.0,
            open: Vec::with_capacity(BIN_CAP),
            bins: VecDeque::with_capacity(BINS),
            scratch: Vec::with_capacity(BINS),
            spread: 0.0,
            steps: 0.0,
            seen: 0,
            line: None,
        }
    }

    /// The line, while the sink needs it.
    pub(super) fn line(&self) -> Option<&Line> {
        self.line.as_ref()
    }

    /// An observation `y` at `x`, and by how much the filter was surprised.
    pub(super) fn observe(&mut self, x: f64, y: f64, innovation: f64) {
        if self.open.is_empty() {
            self.open_since = x;
        }
        if self.open.len() < BIN_CAP {
            self.open.push((y, innovation));
        }
        if x - self.open_since >= BIN_S {
            self.close(x);
        }
    }

    /// All that was seen so far is now known to lie `by` further.
    pub(super) fn shift(&mut self, by: f64) {
        self.open.clear();
        self.bins.iter_mut().for_each(|bin| bin.1 += by);
        if let Some(line) = &mut self.line {
            line.y += by;
        }
    }

    /// A small step was seen. The first ones are believed: what lies before counts no more.
    pub(super) fn step(&mut self) {
        self.steps += 1.0;
        if !self.is_needed() {
            self.bins.clear();
        }
    }

    fn close(&mut self, x: f64) {
        let y = self.median_of_open(|seen| seen.0);
        let spread = MAD * self.median_of_open(|seen| seen.1.abs());
        let middle = f64::midpoint(self.open_since, x);
        self.open.clear();
        if self.bins.len() == BINS {
            self.bins.pop_front();
        }
        self.bins.push_back((middle, y));
        self.seen += 1;
        self.weigh(spread);
        if self.is_needed() {
            self.line = Some(self.fit(x));
        } else {
            self.line = None;
        }
    }

    fn weigh(&mut self, spread: f64) {
        // The first bins count fully, as a plain mean would have them.
        #[expect(clippy::cast_precision_loss, reason = "small until the minimum takes over")]
        let share = SHARE.max(1.0 / self.seen as f64);
        self.spread += share * (spread - self.spread);
        self.steps *= STEPS_KEPT;
    }

    fn is_needed(&self) -> bool {
        if self.line.is_some() {
            return self.spread > SPREAD_OUT_S || self.steps > STEPS_OUT;
        }
        (self.seen > SPREAD_AFTER && self.spread > SPREAD_IN_S) || self.steps > STEPS_IN
    }

    fn median_of_open(&mut self, value: impl Fn(&(f64, f64)) -> f64) -> f64 {
        self.scratch.clear();
        self.scratch.extend(self.open.iter().map(value));
        median(&mut self.scratch)
    }

    /// Least squares, three rounds, each leaving out what lies three deviations off the last.
    fn fit(&mut self, x: f64) -> Line {
        let mut line = Line { x, y: 0.0, slope: 0.0, sigma: 0.0 };
        let mut reach = f64::INFINITY;
        for _ in 0..3 {
            line = self.fit_within(&line, reach);
            self.scratch.clear();
            self.scratch.extend(self.bins.iter().map(|bin| (bin.1 - line.at(bin.0)).abs()));
            let deviation = MAD * median(&mut self.scratch) + 1e-6;
            reach = 3.0 * deviation;
            // Neighbouring bins err alike: a minute of them is worth about twenty.
            line.sigma = deviation / 20.0_f64.sqrt();
        }
        line
    }

    fn fit_within(&self, last: &Line, reach: f64) -> Line {
        let near = || self.bins.iter().filter(|bin| (bin.1 - last.at(bin.0)).abs() < reach);
        let (mut n, mut sx, mut sy) = (0.0, 0.0, 0.0);
        for bin in near() {
            n += 1.0;
            sx += bin.0 - last.x;
            sy += bin.1;
        }
        if n < 3.0 {
            return *last;
        }
        let (mx, my) = (sx / n, sy / n);
        // A crystal is within 120 ppm; a bin within 30 µs: this keeps a short line calm.
        let (mut sxx, mut sxy) = ((30e-6_f64 / 120e-6).powi(2), 0.0);
        for bin in near() {
            let dx = bin.0 - last.x - mx;
            sxx += dx * dx;
            sxy += dx * (bin.1 - my);
        }
        let slope = sxy / sxx;
        Line { x: last.x, y: my - slope * mx, slope, sigma: last.sigma }
    }
}

fn median(values: &mut [f64]) -> f64 {
    if values.is_empty() {
        return 0.0;
    }
    let middle = values.len() / 2;
    *values.select_nth_unstable_by(middle, f64::total_cmp).1
}
