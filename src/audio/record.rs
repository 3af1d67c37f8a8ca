//! What a null sink played and when, and how far apart two of them were.
//!
//! A recording is a header and then one block a period, all little endian:
//!
//! ```text
//!  header   "GBPLAYED"   rate: u32   0: u32
//!  block    at: i64      frame: u64  n: u32      left channel: n × f32
//!           (nanoseconds of the clock at which the first of the n frames is converted)
//! ```
//!
//! Recordings whose clocks are one and the same (one machine) can be compared: the same music
//! is found in both by cross-correlation on a common time axis, window by window, and the lag
//! of the peak is the skew. Each recording is brought to that axis by its own times, so that
//! the crystals' rates drop out. Periods in which a sink stood still count as silence.
//!
//! What this deliberately does not do: hide what it could not compare. A window in which one
//! side played something else is an answer too, and counts as the largest skew looked for.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::Path;

use rustfft::num_complex::Complex;
use rustfft::{Fft, FftPlanner};

use super::paced::{Played, Tap};
use crate::base::limits::SAMPLE_RATES;
use crate::base::{LocalTime, Span};

const MAGIC: [u8; 8] = *b"GBPLAYED";

/// Frames of a recording: half an hour at 48 kHz, 350 MB. Longer ones stop there.
const MAX_FRAMES: u64 = 30 * 60 * 48_000;

/// Frames of a block; a period of two seconds at 192 kHz fits.
const MAX_BLOCK: u32 = 400_000;

/// Windows of a comparison: a recording's times are not trusted to be near each other.
const MAX_WINDOWS: usize = 10_000;

/// Writes a recording.
#[derive(Debug)]
pub struct Recorder {
    file: BufWriter<File>,
    rate: u32,
    frames: u64,
    since_flush: u64,
}

impl Recorder {
    /// Starts a new recording at `path`; what was there is replaced.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub fn create(path: &Path, rate: u32) -> io::Result<Recorder> {
        let mut file = BufWriter::new(File::create(path)?);
        file.write_all(&MAGIC)?;
        file.write_all(&rate.to_le_bytes())?;
        file.write_all(&[0; 4])?;
        file.flush()?;
        Ok(Recorder { file, rate, frames: 0, since_flush: 0 })
    }

    fn write(&mut self, played: &Played<'_>) -> io::Result<()> {
        let n = u32::try_from(played.frames.len()).map_err(io::Error::other)?;
        self.file.write_all(&played.at.0.to_le_bytes())?;
        self.file.write_all(&played.frame.to_le_bytes())?;
        self.file.write_all(&n.to_le_bytes())?;
        for frame in played.frames {
            self.file.write_all(&frame[0].to_le_bytes())?;
        }
        self.frames += u64::from(n);
        self.since_flush += u64::from(n);
        Ok(())
    }
}

impl Tap for Recorder {
    fn take(&mut self, played: &Played<'_>) -> io::Result<()> {
        if self.frames + played.frames.len() as u64 > MAX_FRAMES {
            return Ok(());
        }
        self.write(played)?;
        // Once a second, so that little is missing after a kill.
        if self.since_flush >= u64::from(self.rate) {
            self.since_flush = 0;
            self.file.flush()?;
        }
        Ok(())
    }
}

/// Some consecutive frames of a recording.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Block {
    at: LocalTime,
    /// Where its samples start.
    offset: usize,
    n: usize,
    /// Nanoseconds between two of its frames.
    step: f64,
}

/// A recording in memory.
#[derive(Clone, PartialEq, Debug)]
pub struct Recording {
    rate: u32,
    blocks: Vec<Block>,
    samples: Vec<f32>,
}

impl Recording {
    /// Reads a recording. One that was cut off is read as far as its last whole block.
    ///
    /// # Errors
    ///
    /// When the file cannot be read or is no recording.
    pub fn read(path: &Path) -> io::Result<Recording> {
        Recording::parse(BufReader::new(File::open(path)?))
    }

    fn parse(mut from: impl Read) -> io::Result<Recording> {
        let head: [u8; 16] = array(&mut from)?.ok_or_else(|| broken("is too short"))?;
        let rate = u32::from_le_bytes([head[8], head[9], head[10], head[11]]);
        if head[..8] != MAGIC || !SAMPLE_RATES.contains(&rate) {
            return Err(broken("has another header"));
        }
        let mut recording = Recording { rate, blocks: Vec::new(), samples: Vec::new() };
        while recording.parse_block(&mut from)? {}
        recording.measure_steps();
        Ok(recording)
    }

    fn parse_block(&mut self, from: &mut impl Read) -> io::Result<bool> {
        let (Some(at), Some(_frame), Some(n)) =
            (array::<8>(from)?, array::<8>(from)?, array::<4>(from)?)
        else {
            return Ok(false);
        };
        let n = u32::from_le_bytes(n);
        if n == 0 || n > MAX_BLOCK || self.samples.len() as u64 + u64::from(n) > MAX_FRAMES {
            return Err(broken("has a block of an impossible length"));
        }
        let mut bytes = Vec::new();
        from.by_ref().take(u64::from(n) * 4).read_to_end(&mut bytes)?;
        let (whole, _) = bytes.as_chunks::<4>();
        if whole.len() < n as usize {
            return Ok(false);
        }
        let at = LocalTime(i64::from_le_bytes(at));
        if self.blocks.last().is_some_and(|last| last.at >= at) {
            return Err(broken("runs backward in time"));
        }
        let step = 1e9 / f64::from(self.rate);
        self.blocks.push(Block { at, offset: self.samples.len(), n: whole.len(), step });
        self.samples.extend(whole.iter().map(|sample| finite(f32::from_le_bytes(*sample))));
        Ok(true)
    }

    /// Takes each block's rate from the next one's time, where the sound went on without a
    /// stop. A real crystal is within 0.1 %.
    #[expect(clippy::cast_precision_loss, reason = "a block's span and length are small")]
    fn measure_steps(&mut self) {
        for i in 1..self.blocks.len() {
            let next = self.blocks[i].at;
            let block = &mut self.blocks[i - 1];
            let step = (next - block.at).0 as f64 / block.n as f64;
            if (step / block.step - 1.0).abs() < 1e-3 {
                block.step = step;
            }
        }
    }

    /// Frames in all.
    #[must_use]
    pub fn n_frames(&self) -> usize {
        self.samples.len()
    }

    /// Frames a second, nominal.
    #[must_use]
    pub fn rate(&self) -> u32 {
        self.rate
    }

    /// From the first frame to the end of the last one; none if there is nothing.
    #[must_use]
    pub fn span(&self) -> Option<(LocalTime, LocalTime)> {
        let (first, last) = (self.blocks.first()?, self.blocks.last()?);
        Some((first.at, last.at + nanos(last.step * to_f64(last.n))))
    }

    /// The stops of the sound, each from its last frame's end until it went on: underruns of
    /// the sink.
    pub fn stops(&self) -> impl Iterator<Item = (LocalTime, LocalTime)> {
        let gap = |pair: &[Block]| {
            let end = pair[0].at + nanos(pair[0].step * to_f64(pair[0].n));
            (end, pair[1].at)
        };
        let stopped =
            |(end, next): &(LocalTime, LocalTime)| (*next - *end).abs() > Span::from_micros(100);
        self.blocks.windows(2).map(gap).filter(stopped)
    }

    /// The signal at a time, between frames by a cubic through the four around it; silence
    /// where nothing was played.
    #[must_use]
    pub fn sample_at(&self, at: LocalTime) -> f32 {
        let after = self.blocks.partition_point(|block| block.at <= at);
        after.checked_sub(1).map_or(0.0, |i| self.sample_in(&self.blocks[i], at))
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        clippy::cast_sign_loss,
        reason = "a place within a block is small and not negative"
    )]
    fn sample_in(&self, block: &Block, at: LocalTime) -> f32 {
        let place = (at - block.at).0 as f64 / block.step;
        let whole = place as usize;
        if whole >= block.n {
            return 0.0;
        }
        let part = (place - whole as f64) as f32;
        let near = |i: usize| self.samples.get(i).copied().unwrap_or(0.0);
        let i = block.offset + whole;
        let before = i.checked_sub(1).map_or(0.0, near);
        cubic([before, near(i), near(i + 1), near(i + 2)], part)
    }

    /// `n` samples of the common axis, from `start` on.
    fn resample(&self, start: LocalTime, n: usize, step: f64) -> Vec<f64> {
        let place = |i| start + nanos(to_f64(i) * step);
        let mut samples: Vec<f64> = (0..n).map(|i| self.sample_at(place(i)).into()).collect();
        // A constant correlates with everything.
        let mean = samples.iter().sum::<f64>() / to_f64(n.max(1));
        for sample in &mut samples {
            *sample -= mean;
        }
        samples
    }
}

fn array<const N: usize>(from: &mut impl Read) -> io::Result<Option<[u8; N]>> {
    let mut bytes = [0; N];
    match from.read_exact(&mut bytes) {
        Ok(()) => Ok(Some(bytes)),
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(e) => Err(e),
    }
}

fn broken(how: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the recording {how}"))
}

fn finite(x: f32) -> f32 {
    if x.is_finite() { x } else { 0.0 }
}

fn nanos(x: f64) -> Span {
    Span::from_secs_f64(x * 1e-9)
}

#[expect(clippy::cast_precision_loss, reason = "counts of samples in memory")]
fn to_f64(n: usize) -> f64 {
    n as f64
}

/// Lagrange's cubic through four neighbours, at `x` between the middle two.
fn cubic(points: [f32; 4], x: f32) -> f32 {
    let (u, v, w) = (x + 1.0, x - 1.0, x - 2.0);
    let weights = [-x * v * w / 6.0, u * v * w / 2.0, -u * x * w / 2.0, u * x * v / 6.0];
    points.iter().zip(weights).map(|(point, weight)| point * weight).sum()
}

/// How to compare.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Plan {
    /// Length of the music looked at. Longer finds fainter things, but averages over itself.
    pub window: Span,
    /// From one window to the next.
    pub hop: Span,
    /// The largest skew looked for.
    pub reach: Span,
    /// Left out at the beginning of what both have.
    pub settle: Span,
}

impl Default for Plan {
    fn default() -> Plan {
        Plan {
            window: Span::from_millis(250),
            hop: Span::from_secs(1),
            reach: Span::from_millis(50),
            settle: Span::ZERO,
        }
    }
}

/// What a window showed.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Finding {
    /// The same music; the second one plays it later by `skew`.
    Same {
        /// Negative if the second one is early.
        skew: Span,
        /// How alike: 1 is the same but for loudness.
        likeness: f64,
    },
    /// Both silent.
    Silent,
    /// Not the same within reach, or only one of them silent.
    Different,
}

/// Two recordings, compared.
#[derive(Clone, PartialEq, Debug)]
pub struct Comparison {
    /// Middle of each window, and what it showed.
    pub windows: Vec<(LocalTime, Finding)>,
    reach: Span,
}

/// Below this likeness it is not the same music. Volume does not matter to it, two resamplers
/// leave more than 0.99; a neighbouring beat of steady music can reach 0.6.
const LIKE: f64 = 0.7;

/// Below this mean square (−80 dB) a window is silent.
const SILENT: f64 = 1e-8;

/// Compares what `a` and `b` played, where both did.
#[must_use]
pub fn compare(a: &Recording, b: &Recording, plan: &Plan) -> Comparison {
    let mut windows = Vec::new();
    if let (Some((a_from, a_to)), Some((b_from, b_to))) = (a.span(), b.span()) {
        let margin = Span(plan.window.0 / 2) + plan.reach;
        let correlator = Correlator::new(a.rate, plan);
        let mut middle = a_from.later(b_from) + plan.settle + margin;
        while middle + margin < a_to.min(b_to) && windows.len() < MAX_WINDOWS {
            windows.push((middle, correlator.find(a, b, middle)));
            middle += plan.hop.max(Span::from_millis(1));
        }
    }
    Comparison { windows, reach: plan.reach }
}

impl Comparison {
    /// The skew that the share `q` of all windows with sound does not exceed, without its
    /// sign; none if there was no sound. Windows that were different count as the reach.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share of a small count"
    )]
    pub fn quantile(&self, q: f64) -> Option<Span> {
        let mut skews: Vec<Span> = self.windows.iter().filter_map(|w| self.size(w.1)).collect();
        skews.sort_unstable();
        let last = skews.len().checked_sub(1)?;
        skews.get((to_f64(last) * q.clamp(0.0, 1.0)).ceil() as usize).copied()
    }

    /// Windows with the same music on both sides.
    #[must_use]
    pub fn n_same(&self) -> usize {
        self.windows.iter().filter(|w| matches!(w.1, Finding::Same { .. })).count()
    }

    /// Windows with different sounds.
    #[must_use]
    pub fn n_different(&self) -> usize {
        self.windows.iter().filter(|w| w.1 == Finding::Different).count()
    }

    fn size(&self, finding: Finding) -> Option<Span> {
        match finding {
            Finding::Same { skew, .. } => Some(skew.abs()),
            Finding::Different => Some(self.reach),
            Finding::Silent => None,
        }
    }
}

/// Finds a window of one recording in the other by fast convolution.
struct Correlator {
    /// Nanoseconds between samples of the common axis.
    step: f64,
    /// Samples of the window, and of the reach to either side.
    n: usize,
    reach: usize,
    forward: std::sync::Arc<dyn Fft<f64>>,
    inverse: std::sync::Arc<dyn Fft<f64>>,
}

impl Correlator {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "bounded to two seconds"
    )]
    fn new(rate: u32, plan: &Plan) -> Correlator {
        let count =
            |span: Span| (span.as_secs_f64().clamp(0.001, 2.0) * f64::from(rate)).round() as usize;
        let (n, reach) = (count(plan.window), count(plan.reach));
        // Long enough that no lag within reach wraps around.
        let size = (n + 2 * reach).next_power_of_two();
        let mut planner = FftPlanner::new();
        let step = 1e9 / f64::from(rate);
        let (forward, inverse) = (planner.plan_fft_forward(size), planner.plan_fft_inverse(size));
        Correlator { step, n, reach, forward, inverse }
    }

    fn find(&self, a: &Recording, b: &Recording, middle: LocalTime) -> Finding {
        let start = middle - nanos(to_f64(self.n) * self.step / 2.0);
        let long = self.n + 2 * self.reach;
        let window = a.resample(start, self.n, self.step);
        let region = b.resample(start - nanos(to_f64(self.reach) * self.step), long, self.step);
        let (loud_a, loud_b) = (energy(&window), energy(&region));
        match (loud_a / to_f64(self.n) < SILENT, loud_b / to_f64(long) < SILENT) {
            (true, true) => Finding::Silent,
            (false, false) => self.peak(&self.likeness(&window, loud_a, &region)),
            _ => Finding::Different,
        }
    }

    /// Normalised correlation at each lag from `-reach` to `+reach`.
    fn likeness(&self, window: &[f64], loud: f64, region: &[f64]) -> Vec<f64> {
        let size = to_f64(self.forward.len());
        let mut spectrum = self.transform(region);
        for (x, y) in spectrum.iter_mut().zip(self.transform(window)) {
            *x *= y.conj();
        }
        self.inverse.process(&mut spectrum);
        let mut under = energy(&region[..self.n]);
        let mut likeness = Vec::with_capacity(2 * self.reach + 1);
        for (lag, sum) in spectrum.iter().take(2 * self.reach + 1).enumerate() {
            let scale = (loud * under.max(SILENT)).sqrt() * size;
            likeness.push(sum.re / scale);
            let gained = region.get(lag + self.n).copied().unwrap_or(0.0);
            under += gained * gained - region[lag] * region[lag];
        }
        likeness
    }

    fn transform(&self, samples: &[f64]) -> Vec<Complex<f64>> {
        let mut padded = vec![Complex::default(); self.forward.len()];
        for (place, sample) in padded.iter_mut().zip(samples) {
            place.re = *sample;
        }
        self.forward.process(&mut padded);
        padded
    }

    fn peak(&self, likeness: &[f64]) -> Finding {
        let by_likeness = |x: &(usize, f64), y: &(usize, f64)| x.1.total_cmp(&y.1);
        let top = likeness.iter().copied().enumerate().max_by(by_likeness);
        let Some((at, top)) = top else { return Finding::Different };
        // At the very edge the true peak may be outside.
        let inside = at > 0 && at + 1 < likeness.len();
        if top < LIKE || !inside {
            return Finding::Different;
        }
        let (left, right) = (likeness[at - 1], likeness[at + 1]);
        // The vertex of the parabola through the three; it lies within half a sample.
        let bend = left - 2.0 * top + right;
        let part = if bend < 0.0 { 0.5 * (left - right) / bend } else { 0.0 };
        let lag = to_f64(at) - to_f64(self.reach) + part.clamp(-0.5, 0.5);
        Finding::Same { skew: nanos(lag * self.step), likeness: top }
    }
}

fn energy(samples: &[f64]) -> f64 {
    samples.iter().map(|x| x * x).sum()
}

#[cfg(test)]
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "small numbers and samples"
)]
mod tests {
    use super::*;
    use crate::base::rng::Rng;

    const START: LocalTime = LocalTime(1_000_000_000_000);

    /// Music that can be evaluated at any time: 40 partials between 60 Hz and 8 kHz.
    struct Music(Vec<(f64, f64)>);

    impl Music {
        fn new(seed: u64) -> Music {
            println!("seed {seed}");
            let mut rng = Rng::new(seed);
            let mut partial = || {
                let hertz = 60.0 * (8_000.0_f64 / 60.0).powf(rng.unit());
                (hertz * std::f64::consts::TAU, rng.unit() * std::f64::consts::TAU)
            };
            Music((0..40).map(|_| partial()).collect())
        }

        fn at(&self, seconds: f64) -> f32 {
            let sum: f64 = self.0.iter().map(|(w, phase)| (w * seconds + phase).sin()).sum();
            (sum / 40.0) as f32
        }
    }

    /// What a card with this crystal writes when it plays `music`, `late` behind true time.
    fn record(periods: u64, ppm: f64, begin: Span, music: impl Fn(f64) -> f32) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(48_000_u32.to_le_bytes());
        bytes.extend([0; 4]);
        let step = 1e9 / (48_000.0 * (1.0 + ppm * 1e-6));
        for frame in (0..periods).map(|i| i * 960) {
            let at = |frame: u64| START + begin + nanos(frame as f64 * step);
            bytes.extend(at(frame).0.to_le_bytes());
            bytes.extend(frame.to_le_bytes());
            bytes.extend(960_u32.to_le_bytes());
            for i in frame..frame + 960 {
                let exact = begin.as_secs_f64() + i as f64 * step * 1e-9;
                bytes.extend(music(exact).to_le_bytes());
            }
        }
        bytes
    }

    fn parse(bytes: &[u8]) -> Recording {
        Recording::parse(bytes).expect("a recording")
    }

    #[test]
    fn the_skew_of_two_crystals_is_found_to_the_microsecond() {
        let music = Music::new(1);
        let a = parse(&record(110, 100.0, Span::ZERO, |t| music.at(t)));
        let begin = Span::from_micros(7_321);
        for late_us in [0.0, 12.3, -251.7, 1_000.0, -43_210.9] {
            let late = late_us * 1e-6;
            let b = parse(&record(110, -100.0, begin, |t| 0.3 * music.at(t - late)));
            let found = compare(&a, &b, &Plan::default());
            assert_eq!((found.windows.len(), found.n_same()), (2, 2), "{late_us} us");
            for (_, finding) in &found.windows {
                let Finding::Same { skew, likeness } = finding else { unreachable!() };
                let error = skew.as_micros_f64() - late_us;
                assert!(error.abs() < 1.0, "{late_us} us: off by {error} us");
                assert!(*likeness > 0.98, "{likeness}");
            }
        }
    }

    #[test]
    fn different_music_counts_as_the_largest_skew() {
        let (one, other) = (Music::new(2), Music::new(3));
        let a = parse(&record(110, 0.0, Span::ZERO, |t| one.at(t)));
        let b = parse(&record(110, 0.0, Span::ZERO, |t| other.at(t)));
        let found = compare(&a, &b, &Plan::default());
        assert_eq!((found.n_same(), found.n_different()), (0, 2));
        assert_eq!(found.quantile(0.95), Some(Span::from_millis(50)));
    }

    #[test]
    fn music_beyond_reach_is_different() {
        let music = Music::new(4);
        let a = parse(&record(60, 0.0, Span::ZERO, |t| music.at(t)));
        let b = parse(&record(60, 0.0, Span::ZERO, |t| music.at(t - 0.08)));
        assert_eq!(compare(&a, &b, &Plan::default()).n_different(), 1);
        let wide = Plan { reach: Span::from_millis(100), ..Plan::default() };
        assert_eq!(compare(&a, &b, &wide).n_same(), 1);
    }

    #[test]
    fn silence_is_no_result_but_silence_against_music_is() {
        let music = Music::new(5);
        let a = parse(&record(60, 0.0, Span::ZERO, |_| 0.0));
        let b = parse(&record(60, 0.0, Span::ZERO, |t| music.at(t)));
        let both = compare(&a, &a, &Plan::default());
        assert_eq!((both.windows.len(), both.quantile(0.95)), (1, None));
        assert_eq!(compare(&a, &b, &Plan::default()).n_different(), 1);
    }

    #[test]
    fn quantiles_round_up_to_a_window_that_was_seen() {
        let same = |us| Finding::Same { skew: Span::from_micros(us), likeness: 1.0 };
        let findings = [same(-30), Finding::Silent, same(10), same(20)];
        let windows = findings.into_iter().map(|f| (START, f)).collect();
        let found = Comparison { windows, reach: Span::from_millis(50) };
        assert_eq!(found.quantile(0.0), Some(Span::from_micros(10)));
        assert_eq!(found.quantile(0.5), Some(Span::from_micros(20)));
        assert_eq!(found.quantile(0.95), Some(Span::from_micros(30)));
    }

    #[test]
    fn a_stop_of_the_sound_is_seen_and_silent() {
        let mut bytes = record(2, 0.0, Span::ZERO, |_| 0.5);
        // The second block's time, half a second later.
        let place = 16 + 20 + 960 * 4;
        let late = START + Span::from_millis(520);
        bytes[place..place + 8].copy_from_slice(&late.0.to_le_bytes());
        let recording = parse(&bytes);
        assert_eq!(recording.stops().count(), 1);
        assert_eq!(recording.sample_at(START + Span::from_millis(10)).to_bits(), 0.5_f32.to_bits());
        assert_eq!(recording.sample_at(START + Span::from_millis(300)).to_bits(), 0);
        assert_eq!(recording.span(), Some((START, START + Span::from_millis(540))));
    }

    #[test]
    fn a_cut_off_recording_is_read_as_far_as_it_goes() {
        let bytes = record(3, 20.0, Span::ZERO, |t| t as f32);
        for keep in [16, 17, 36, 16 + 2 * 3_860 - 1] {
            let whole = (keep - 16) / 3_860 * 960;
            assert_eq!(parse(&bytes[..keep]).n_frames(), whole, "{keep} bytes");
        }
        assert_eq!(parse(&bytes).n_frames(), 3 * 960);
    }

    #[test]
    fn nonsense_is_refused() {
        let good = record(2, 0.0, Span::ZERO, |_| 0.0);
        for (place, value) in [(0, b'X'), (10, 0xFF), (16 + 18, 0xFF), (16 + 3_860 + 7, 0x80)] {
            let mut bytes = good.clone();
            bytes[place] = value;
            assert!(Recording::parse(&bytes[..]).is_err(), "byte {place}");
        }
        assert!(Recording::parse(&good[..15]).is_err());
    }
}
