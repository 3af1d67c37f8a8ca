//! Reads a track at any position and at any rate near its own, and knows where it stands.
//!
//! rubato's asynchronous sinc resampler does the work: 64 taps (more where the track's rate is
//! above the device's, so that the filter stays as steep), changes of the ratio from chunk to
//! chunk without a click, no allocation. Its position is private, but moves by exactly one
//! step a frame; so it is mirrored here. Two facts about it are held by tests: the first frame
//! that it yields stands half the taps before its first input, and a ratio that is a little
//! off while the history fills lets a reader begin at any fraction of a frame.
//!
//! It knows nothing of segments, fades and missing frames: see [`super::mixer`].

use rubato::audioadapter_buffers::direct::InterleavedSlice;
use rubato::{
    Adjustable, Async, FixedAsync, Resampler, Resizable, SincInterpolationParameters,
    SincInterpolationType, WindowFunction,
};

use super::sink::Frame;
use crate::base::pcm::CHANNELS;

/// Taps at equal rates. More taps only move the cut-off nearer to the end of the band.
const TAPS: usize = 64;

/// Taps at most: 192 kHz to 44.1 kHz would have 279.
const MAX_TAPS: usize = 256;

/// Precomputed phases between two taps; between phases a parabola interpolates.
const PHASES: usize = 256;

/// How far the ratio may be off while the history fills, to reach any fraction of a frame,
/// relative. The servo needs 0.2 %.
const BEND: f64 = 1.1;

/// A resampler for one pair of rates.
pub struct Reader {
    inner: Async<f32>,
    source_rate: u32,
    /// Track frames per device frame, without servo.
    nominal_step: f64,
    taps: usize,
    max_chunk: usize,
    input: Vec<f32>,
    scratch: Vec<Frame>,
    /// Position of the last frame given out.
    last: f64,
    step: f64,
    /// The track frame that the resampler takes in next.
    cursor: i64,
}

impl Reader {
    /// From a track of `source_rate` to a device of `device_rate`, at most `max_chunk` frames
    /// at once. Builds the filter: milliseconds, and allocates.
    ///
    /// # Errors
    ///
    /// Rates or a chunk that the resampler does not take.
    pub fn new(
        source_rate: u32,
        device_rate: u32,
        max_chunk: usize,
    ) -> Result<Reader, rubato::ResamplerConstructionError> {
        let nominal_step = f64::from(source_rate) / f64::from(device_rate);
        let taps = taps(nominal_step);
        let parameters = SincInterpolationParameters::new(taps, WindowFunction::BlackmanHarris2)
            .oversampling_factor(PHASES)
            .interpolation(SincInterpolationType::Quadratic);
        let inner = Async::new_sinc(
            1.0 / nominal_step,
            BEND,
            &parameters,
            max_chunk,
            CHANNELS,
            FixedAsync::Output,
        )?;
        let input = vec![0.0; inner.input_frames_max() * CHANNELS];
        let scratch = vec![[0.0; CHANNELS]; max_chunk];
        let step = nominal_step;
        Ok(Reader {
            inner,
            source_rate,
            nominal_step,
            taps,
            max_chunk,
            input,
            scratch,
            last: 0.0,
            step,
            cursor: 0,
        })
    }

    /// The track's rate it was built for.
    #[must_use]
    pub fn source_rate(&self) -> u32 {
        self.source_rate
    }

    /// Position of the next frame it will give out if the step stays, in track frames.
    #[must_use]
    pub fn position(&self) -> f64 {
        self.last + self.step
    }

    /// The track frame that it takes in next: all before are in its history.
    #[must_use]
    pub fn cursor(&self) -> i64 {
        self.cursor
    }

    /// Track frames beyond the position of a frame that go into it.
    #[must_use]
    pub fn reach(&self) -> u64 {
        self.taps as u64 / 2 + 2
    }

    /// Counts track frames differently from now on: `by` less.
    pub fn rebase(&mut self, by: i64) {
        self.cursor -= by;
        #[expect(clippy::cast_precision_loss, reason = "2^53 frames are 6,000 years")]
        {
            self.last -= by as f64;
        }
    }

    /// Goes to `position`, so that the next frame given out at `step` stands exactly there.
    /// `source` gives interleaved frames from a track frame on.
    pub fn seek(&mut self, position: f64, step: f64, source: &mut impl FnMut(i64, &mut [f32])) {
        self.inner.reset();
        let frames = self.priming();
        #[expect(clippy::cast_precision_loss, reason = "a chunk is short")]
        let n = frames as f64;
        let lead = position - step + self.first_offset();
        #[expect(clippy::cast_possible_truncation, reason = "positions are far below 2^53")]
        let start = (lead - n * self.nominal_step).round() as i64;
        self.cursor = start;
        #[expect(clippy::cast_precision_loss, reason = "positions are far below 2^53")]
        let start = start as f64;
        self.last = start - self.first_offset();
        let mut scratch = std::mem::take(&mut self.scratch);
        let mut left = frames;
        while left > 0 {
            let now = left.min(self.max_chunk);
            self.read(&mut scratch[..now], (lead - start) / n, source);
            left -= now;
        }
        self.scratch = scratch;
        self.step = step;
    }

    /// Fills `out` with the frames that follow, `step` track frames apart.
    pub fn read(&mut self, out: &mut [Frame], step: f64, source: &mut impl FnMut(i64, &mut [f32])) {
        if out.is_empty() {
            return;
        }
        let needed = self.prepare(out.len(), step);
        let input = &mut self.input[..needed * CHANNELS];
        source(self.cursor, input);
        let frames = out.len();
        let from = InterleavedSlice::new(input, CHANNELS, needed).expect("sized just now");
        let mut to = InterleavedSlice::new_mut(out.as_flattened_mut(), CHANNELS, frames)
            .expect("as long as it is");
        self.inner.process_into_buffer(&from, &mut to, None).expect("both ends have their size");
        self.cursor += needed.cast_signed() as i64;
        #[expect(clippy::cast_precision_loss, reason = "a chunk is short")]
        {
            self.last += frames as f64 * step;
        }
        self.step = step;
    }

    /// Track frames that the next `frames` frames at `step` will take in.
    pub fn prepare(&mut self, frames: usize, step: f64) -> usize {
        debug_assert!(frames <= self.max_chunk);
        // The chunk first: a new ratio is judged against it.
        self.inner.set_chunk_size(frames).expect("within the size it was built for");
        let relative = (self.nominal_step / step).clamp(1.0 / BEND, BEND);
        self.inner.set_resample_ratio_relative(relative, false).expect("just clamped");
        self.inner.input_frames_next()
    }

    /// The first frame out stands one step behind its first input less so many frames: half
    /// the taps, less one phase, because the parabola is laid through the phases that follow.
    fn first_offset(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "small")]
        {
            self.taps as f64 / 2.0 - 1.0 / PHASES as f64
        }
    }

    /// Frames given away to fill the history: twice the taps, in track frames.
    fn priming(&self) -> usize {
        #[expect(clippy::cast_precision_loss, reason = "small")]
        let frames = (2 * self.taps) as f64 / self.nominal_step;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "positive")]
        let frames = frames.ceil() as usize;
        frames
    }
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "small positive figures"
)]
fn taps(step: f64) -> usize {
    let taps = (TAPS as f64 * step.max(1.0)).ceil() as usize;
    taps.next_multiple_of(8).min(MAX_TAPS)
}

#[cfg(test)]
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_precision_loss,
    reason = "the figures of the tests are small and exact"
)]
mod tests {
    use super::*;

    const TAU: f64 = std::f64::consts::TAU;

    /// A tone at half level, phase 0 at track frame 0.
    fn tone(hertz: f64, rate: u32) -> impl FnMut(i64, &mut [f32]) {
        let turn = TAU * hertz / f64::from(rate);
        move |first, out| {
            for (k, frame) in out.chunks_exact_mut(2).enumerate() {
                let value = (0.5 * (turn * (first + k as i64) as f64).sin()) as f32;
                frame.copy_from_slice(&[value, -value]);
            }
        }
    }

    /// Largest difference from the tone at the mirrored positions, in dB below it.
    fn worst_db(reader: &mut Reader, hertz: f64, steps: impl Fn(usize) -> f64) -> f64 {
        let rate = reader.source_rate;
        let mut source = tone(hertz, rate);
        let turn = TAU * hertz / f64::from(rate);
        reader.seek(10_000.25, steps(0), &mut source);
        let (mut out, mut worst) = (vec![[0.0; 2]; 240], 0.0_f64);
        for k in 0..40 {
            let step = steps(k);
            let first = reader.last + step;
            reader.read(&mut out, step, &mut source);
            for (m, frame) in out.iter().enumerate() {
                let wanted = 0.5 * (turn * (first + m as f64 * step)).sin();
                worst = worst.max((f64::from(frame[0]) - wanted).abs());
                worst = worst.max((f64::from(frame[1]) + wanted).abs());
            }
        }
        20.0 * (worst / 0.5).log10()
    }

    #[test]
    fn tones_are_where_the_mirrored_position_says_below_minus_90_db() {
        let servo = |k: usize| 1.0 + ((k * 7_919) % 11) as f64 * 45e-6;
        for hertz in [1_000.0, 10_000.0] {
            let mut reader = Reader::new(48_000, 48_000, 240).expect("rates");
            let worst = worst_db(&mut reader, hertz, servo);
            assert!(worst < -90.0, "{hertz} Hz: {worst:.1} dB");
        }
    }

    #[test]
    fn every_pair_of_rates_reads_in_place() {
        let rates = [8_000, 22_050, 44_100, 48_000, 96_000, 192_000];
        for source in rates {
            for device in [44_100, 48_000, 192_000] {
                let mut reader = Reader::new(source, device, 240).expect("rates");
                let nominal = f64::from(source) / f64::from(device);
                let worst = worst_db(&mut reader, 1_000.0, |k| nominal * (1.0 + k as f64 * 1e-5));
                assert!(worst < -80.0, "{source} to {device}: {worst:.1} dB");
            }
        }
    }

    #[test]
    fn an_impulse_comes_out_at_its_place_to_a_hundredth_of_a_frame() {
        for fraction in [0.0, 0.137, 0.5, 0.999] {
            let mut reader = Reader::new(48_000, 48_000, 480).expect("rates");
            let mut source = |first: i64, out: &mut [f32]| {
                out.fill(0.0);
                let at = usize::try_from(5_000 - first).ok().filter(|at| at * 2 < out.len());
                if let Some(at) = at {
                    out[at * 2] = 1.0;
                }
            };
            reader.seek(4_800.0 + fraction, 1.0, &mut source);
            let mut out = vec![[0.0; 2]; 480];
            reader.read(&mut out, 1.0, &mut source);
            // The centre of gravity of a symmetric response is its delay.
            let sum: f64 = out.iter().map(|frame| f64::from(frame[0])).sum();
            let moment: f64 = out.iter().zip(0..).map(|(f, m)| f64::from(f[0] * m as f32)).sum();
            let found = 4_800.0 + fraction + moment / sum;
            assert!((found - 5_000.0).abs() < 0.01, "{fraction}: {found}");
            assert!((sum - 1.0).abs() < 0.01);
        }
    }

    #[test]
    fn the_mirror_holds_over_many_chunks_of_odd_lengths() {
        let mut reader = Reader::new(44_100, 48_000, 240).expect("rates");
        let mut source = tone(3_000.0, 44_100);
        let nominal = 44_100.0 / 48_000.0;
        reader.seek(123.4, nominal, &mut source);
        let mut out = vec![[0.0; 2]; 240];
        let (mut position, mut worst) = (123.4, 0.0_f64);
        for k in 0..4_000_usize {
            let step = nominal * (1.0 + ((k % 100) as f64 - 50.0) * 1e-5);
            let frames = 1 + (k * 37) % 240;
            assert!((position - reader.position()).abs() < 1e-3);
            position = reader.last + step;
            reader.read(&mut out[..frames], step, &mut source);
            let wanted = 0.5 * (TAU * 3_000.0 / 44_100.0 * position).sin();
            worst = worst.max((f64::from(out[0][0]) - wanted).abs());
            position += frames as f64 * step;
        }
        assert!(worst < 2e-5, "{worst:e}");
    }
}
