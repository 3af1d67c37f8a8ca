//! Carries out the orders of the pure part: readers, levels, and what to do where decoded
//! frames are missing.
//!
//! A voice without frames is silent and its position goes on; when frames are there again it
//! comes in where it would have been. So a hole in the data never moves anything in time.

use super::reader::Reader;
use super::shelf::{Shelf, Strand};
use super::sink::Frame;
use crate::base::SegmentId;
use crate::base::pcm::PcmReader;
use crate::engine::playout::{Begins, Chunk, Order, PlayoutPlan, Ramp, VOICES};

/// Readers of one rate: one plays while the other fades out.
const READERS_PER_RATE: usize = VOICES;

/// Readers kept: the rates of a plan, twice each.
const READERS: usize = 8;

/// Fade before and after a hole in the data.
const HOLE_FADE_MS: u32 = 5;

/// Fade of a voice whose first frames came late.
const LATE_FADE_MS: u32 = 20;

/// Kept behind the position, for a jump backwards.
const HISTORY_MS: u64 = 25;

/// Whether a voice lets frames through.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Gate {
    /// Nothing was there yet.
    Waiting,
    /// There were frames, and then not.
    Starved,
    /// It sounds.
    Open,
}

/// One voice.
struct Voice {
    reader: Option<Reader>,
    strand: Option<Strand>,
    gate: Gate,
    /// How it came in last.
    rise: Ramp,
}

/// Readers, windows and voices.
pub struct Mixer {
    rate: u32,
    max_chunk: usize,
    readers: Vec<Reader>,
    shelf: Shelf,
    voices: [Voice; VOICES],
    scratch: Vec<Frame>,
    misses: u32,
    sounding: Option<SegmentId>,
}

impl Mixer {
    /// Without a device yet.
    #[must_use]
    pub fn new() -> Mixer {
        Mixer {
            rate: 48_000,
            max_chunk: 0,
            readers: Vec::with_capacity(READERS),
            shelf: Shelf::new(),
            voices: std::array::from_fn(|_| Voice::idle()),
            scratch: Vec::new(),
            misses: 0,
            sounding: None,
        }
    }

    /// A device was opened. Readers for another rate are of no use any more.
    pub fn set_output(&mut self, rate: u32, max_chunk: usize) {
        for voice in &mut self.voices {
            if let Some(reader) = voice.stop() {
                self.readers.push(reader);
            }
        }
        if (rate, max_chunk) != (self.rate, self.max_chunk) {
            self.readers.clear();
            self.scratch = vec![[0.0; 2]; max_chunk];
            (self.rate, self.max_chunk) = (rate, max_chunk);
        }
        self.sounding = None;
    }

    /// Decoded frames of a segment.
    pub fn load(&mut self, segment: SegmentId, pcm: PcmReader) {
        self.shelf.load(segment, pcm);
    }

    /// They are not needed any more.
    pub fn unload(&mut self, segment: SegmentId) {
        self.shelf.unload(segment);
    }

    /// Builds one reader that `plan` will need and that is not there, and says whether it
    /// did. Takes milliseconds: call it when the ring is full.
    pub fn build_one(&mut self, plan: &PlayoutPlan) -> bool {
        if self.max_chunk == 0 {
            return false;
        }
        let rates = plan.spans.iter().flatten().map(|span| span.rate);
        let Some(rate) = rates.into_iter().find(|rate| self.count(*rate) < READERS_PER_RATE) else {
            return false;
        };
        let needed = |reader: &Reader| {
            plan.spans.iter().flatten().any(|span| span.rate == reader.source_rate())
        };
        if self.readers.len() >= READERS - VOICES {
            self.readers.retain(needed);
        }
        let Ok(reader) = Reader::new(rate, self.rate, self.max_chunk) else { return false };
        self.readers.push(reader);
        true
    }

    /// Renders `chunk` into `out`, which is as long.
    pub fn render(&mut self, chunk: &Chunk, out: &mut [Frame]) {
        out.fill([0.0; 2]);
        self.sounding = None;
        for slot in 0..VOICES {
            let order = chunk.orders[slot].as_ref();
            if order.is_none_or(|order| order.begins == Begins::Here) {
                self.release(slot);
            }
            if let Some(order) = order {
                self.speak(slot, order, chunk, out);
                if order.ends {
                    self.release(slot);
                }
            }
        }
        apply(&chunk.gain, chunk.first, out);
    }

    /// Times a voice that should have sounded had no frames.
    #[must_use]
    pub fn misses(&self) -> u32 {
        self.misses
    }

    /// The segment that was heard in the last chunk.
    #[must_use]
    pub fn sounding(&self) -> Option<SegmentId> {
        self.sounding
    }

    /// Seconds of decoded frames that wait for the voice that sounds last.
    pub fn waiting_s(&mut self) -> f64 {
        let strand = self.voices.iter().find_map(|voice| {
            let position = voice.reader.as_ref()?.position();
            Some((voice.strand.filter(|_| voice.gate == Gate::Open)?, position))
        });
        let Some((strand, position)) = strand else { return 0.0 };
        #[expect(clippy::cast_precision_loss, reason = "a window is small")]
        let frames = self.shelf.ahead(strand.span.segment, position) as f64;
        frames / f64::from(strand.span.rate)
    }

    fn count(&self, rate: u32) -> usize {
        let used = self.voices.iter().filter_map(|voice| voice.reader.as_ref());
        self.readers.iter().chain(used).filter(|reader| reader.source_rate() == rate).count()
    }

    fn release(&mut self, slot: usize) {
        if let Some(reader) = self.voices[slot].stop() {
            // Never more than were built, so this does not grow.
            self.readers.push(reader);
        }
    }

    fn speak(&mut self, slot: usize, order: &Order, chunk: &Chunk, out: &mut [Frame]) {
        let first = chunk.first + order.first.cast_signed() as i64;
        let voice = &mut self.voices[slot];
        if voice.reader.is_none() {
            let fit = |reader: &Reader| reader.source_rate() == order.span.rate;
            let Some(at) = self.readers.iter().position(fit) else { return };
            voice.reader = Some(self.readers.swap_remove(at));
        }
        // Before reading: a window full of what has passed keeps the decoder from going on.
        let history = u64::from(order.span.rate) * HISTORY_MS / 1_000;
        self.shelf.let_go(order.span.segment, order.position, history);
        let scratch = &mut self.scratch[..order.frames];
        let place = Place {
            first,
            fade: self.rate * HOLE_FADE_MS / 1_000,
            margin: u64::from(order.span.rate * HOLE_FADE_MS / 1_000),
        };
        match voice.speak(order, &place, &mut self.shelf, scratch) {
            Spoke::Sound => self.sounding = Some(order.span.segment),
            Spoke::Missed => self.misses += 1,
            Spoke::Nothing => return,
        }
        apply(&order.rise, first, scratch);
        apply(&order.fall, first, scratch);
        for (sum, frame) in out[order.first..].iter_mut().zip(scratch) {
            sum[0] += frame[0];
            sum[1] += frame[1];
        }
    }
}

impl Default for Mixer {
    fn default() -> Mixer {
        Mixer::new()
    }
}

/// Where an order stands, and how holes are faded there.
struct Place {
    /// The ring frame of its first frame.
    first: i64,
    /// Device frames of a fade at a hole.
    fade: u32,
    /// The same time in frames of the track.
    margin: u64,
}

/// What a voice did.
enum Spoke {
    Sound,
    /// The last frames before a hole.
    Missed,
    Nothing,
}

impl Voice {
    fn idle() -> Voice {
        Voice { reader: None, strand: None, gate: Gate::Waiting, rise: Ramp::flat(1.0) }
    }

    fn stop(&mut self) -> Option<Reader> {
        self.strand = None;
        self.gate = Gate::Waiting;
        self.reader.take()
    }

    /// Fills `out` with what `order` says, as far as there are frames.
    fn speak(
        &mut self,
        order: &Order,
        at: &Place,
        windows: &mut Shelf,
        out: &mut [Frame],
    ) -> Spoke {
        let strand = Strand { span: order.span, next: order.next };
        self.cross(&strand);
        match self.gate {
            Gate::Open => self.go_on(order, at, windows, out),
            Gate::Waiting | Gate::Starved => self.come_in(order, at, windows, out),
        }
    }

    /// Over a seam: the reader goes on, its frames are counted in the next segment.
    fn cross(&mut self, strand: &Strand) {
        let before = self.strand.replace(*strand);
        let Some(before) = before.filter(|old| old.span.segment != strand.span.segment) else {
            return;
        };
        if let Some(reader) = &mut self.reader {
            reader.rebase(before.seam());
        }
    }

    fn come_in(
        &mut self,
        order: &Order,
        at: &Place,
        windows: &mut Shelf,
        out: &mut [Frame],
    ) -> Spoke {
        let (Some(reader), Some(strand)) = (&mut self.reader, self.strand) else {
            return Spoke::Nothing;
        };
        #[expect(clippy::cast_possible_truncation, reason = "positions are far below 2^53")]
        let from = order.position.floor() as i64;
        let needed = frames_in(order.frames, order.step) + reader.reach() + at.margin;
        if windows.ready(&strand, from) < needed {
            return Spoke::Nothing;
        }
        self.rise = match (order.begins, self.gate) {
            (Begins::Here, _) => Ramp::flat(1.0),
            (Begins::No, Gate::Starved) => Ramp::fade_in(at.first, at.fade),
            (Begins::No, _) => Ramp::fade_in(at.first, at.fade * LATE_FADE_MS / HOLE_FADE_MS),
        };
        let mut source = |first: i64, into: &mut [f32]| windows.copy(&strand, first, into);
        reader.seek(order.position, order.step, &mut source);
        reader.read(out, order.step, &mut source);
        self.gate = Gate::Open;
        apply(&self.rise, at.first, out);
        Spoke::Sound
    }

    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        reason = "positions are far below 2^53"
    )]
    fn go_on(
        &mut self,
        order: &Order,
        at: &Place,
        windows: &mut Shelf,
        out: &mut [Frame],
    ) -> Spoke {
        let (Some(reader), Some(strand)) = (&mut self.reader, self.strand) else {
            return Spoke::Nothing;
        };
        let needed = reader.prepare(out.len(), order.step) as u64;
        let cursor = reader.cursor();
        let ready = windows.ready(&strand, cursor);
        let ahead = cursor as f64 + ready as f64 - reader.reach() as f64 - order.position;
        let mut source = |first: i64, into: &mut [f32]| windows.copy(&strand, first, into);
        reader.read(out, order.step, &mut source);
        apply(&self.rise, at.first, out);
        if ready >= needed + at.margin {
            return Spoke::Sound;
        }
        // The data ends soon: be silent before it does.
        let end = (ahead / order.step).clamp(0.0, out.len() as f64) as i64;
        let fade = end.min(i64::from(at.fade));
        let fall = Ramp::fade_out(at.first + end - fade, u32::try_from(fade).unwrap_or(0));
        apply(&fall, at.first, out);
        self.gate = Gate::Starved;
        Spoke::Missed
    }
}

fn frames_in(frames: usize, step: f64) -> u64 {
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a chunk is short"
    )]
    {
        (frames as f64 * step).ceil() as u64
    }
}

/// Multiplies frames, of which the first is ring frame `first`, by a level.
pub fn apply(ramp: &Ramp, first: i64, out: &mut [Frame]) {
    if ramp.is_flat(first, out.len()) {
        let level = ramp.at(first);
        if (level - 1.0).abs() > f32::EPSILON {
            out.iter_mut().flatten().for_each(|sample| *sample *= level);
        }
        return;
    }
    for (frame, at) in out.iter_mut().zip(first..) {
        let level = ramp.at(at);
        frame[0] *= level;
        frame[1] *= level;
    }
}

#[cfg(test)]
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_precision_loss,
    reason = "the figures of the tests are small"
)]
mod tests {
    use super::*;
    use crate::base::RoomTime;
    use crate::base::pcm::{BLOCK_FRAMES, window};
    use crate::engine::playout::PlannedSpan;

    const CHUNK: usize = 240;

    /// Frame `k` of the sound that runs through all segments.
    fn tone(k: f64) -> f64 {
        0.5 * (k * std::f64::consts::TAU * 997.0 / 48_000.0).sin()
    }

    fn span(segment: u64, from: u64, frames: u64) -> PlannedSpan {
        let start = RoomTime(0);
        PlannedSpan { segment: SegmentId(segment), start, from, frames, rate: 48_000, cut: None }
    }

    /// A segment whose frames begin with frame `sound` of the tone.
    fn load(mixer: &mut Mixer, span: &PlannedSpan, sound: u64) {
        let (mut writer, pcm) = window(span.frames as usize);
        let mut done = 0;
        while let Some(mut block) = writer.take().filter(|_| done < span.frames) {
            block.first = span.from + done;
            block.frames = BLOCK_FRAMES.min((span.frames - done) as usize);
            for (frame, k) in block.samples.chunks_exact_mut(2).zip(sound + done..) {
                frame.fill(tone(k as f64) as f32);
            }
            done += block.frames as u64;
            writer.put(block);
        }
        mixer.load(span.segment, pcm);
    }

    fn order(span: PlannedSpan, next: Option<PlannedSpan>, position: f64, step: f64) -> Order {
        Order {
            begins: Begins::No,
            ends: false,
            span,
            next,
            position,
            step,
            first: 0,
            frames: CHUNK,
            rise: Ramp::flat(1.0),
            fall: Ramp::flat(1.0),
        }
    }

    fn mixer(spans: &[PlannedSpan]) -> Mixer {
        let mut plan = PlayoutPlan::silent();
        for (place, span) in plan.spans.iter_mut().zip(spans) {
            *place = Some(*span);
        }
        let mut mixer = Mixer::new();
        mixer.set_output(48_000, CHUNK);
        let built = std::iter::repeat_with(|| mixer.build_one(&plan)).take_while(|built| *built);
        assert_eq!(built.count(), READERS_PER_RATE);
        mixer
    }

    #[test]
    fn two_segments_that_belong_together_sound_as_one() {
        let (one, two) = (span(1, 100, 5_000), span(2, 7, 5_000));
        let mut mixer = mixer(&[one, two]);
        load(&mut mixer, &one, 0);
        load(&mut mixer, &two, 5_000);
        let step = 1.0 + 90e-6;
        let (mut sound, mut worst, mut out) = (0.0, 0.0_f64, [[0.0; 2]; CHUNK]);
        for k in 0..38_i64 {
            let position = 100.0 + sound;
            let mut order = if position < 5_100.0 {
                order(one, Some(two), position, step)
            } else {
                order(two, None, position - 5_100.0 + 7.0, step)
            };
            order.begins = if k == 0 { Begins::Here } else { Begins::No };
            let mut chunk = Chunk::silence(k * CHUNK as i64, CHUNK);
            chunk.orders[0] = Some(order);
            mixer.render(&chunk, &mut out);
            for frame in &out {
                // The first frames have silence behind them, not the tone.
                if sound > 40.0 {
                    worst = worst.max((f64::from(frame[0]) - tone(sound)).abs());
                }
                sound += step;
            }
        }
        assert!(worst < 2e-5, "{worst:e}");
        assert_eq!((mixer.misses(), mixer.sounding()), (0, Some(SegmentId(2))));
    }

    #[test]
    fn a_cross_fade_of_one_programme_keeps_its_level() {
        let whole = span(1, 0, 20_000);
        let mut mixer = mixer(&[whole]);
        load(&mut mixer, &whole, 0);
        let mut out = [[0.0; 2]; CHUNK];
        let mut chunk = Chunk::silence(0, CHUNK);
        chunk.orders[0] = Some(Order { begins: Begins::Here, ..order(whole, None, 1_000.0, 1.0) });
        mixer.render(&chunk, &mut out);
        chunk.first = CHUNK as i64;
        let fall = Ramp::fade_out(chunk.first, CHUNK as u32);
        let leaves = Order { fall, ends: true, ..order(whole, None, 1_240.0, 1.0) };
        let rise = Ramp::fade_in(chunk.first, CHUNK as u32);
        let enters = Order { begins: Begins::Here, rise, ..order(whole, None, 1_240.0, 1.0) };
        chunk.orders = [Some(leaves), Some(enters)];
        mixer.render(&chunk, &mut out);
        for (frame, k) in out.iter().zip(1_240..) {
            assert!((f64::from(frame[0]) - tone(f64::from(k))).abs() < 3e-5, "frame {k}");
        }
    }

    #[test]
    fn a_voice_without_a_window_is_silent_and_costs_nothing() {
        let whole = span(1, 0, 20_000);
        let mut mixer = mixer(&[whole]);
        let mut chunk = Chunk::silence(0, CHUNK);
        chunk.orders[0] = Some(Order { begins: Begins::Here, ..order(whole, None, 0.0, 1.0) });
        let mut out = [[9.0; 2]; CHUNK];
        mixer.render(&chunk, &mut out);
        assert!(out.iter().flatten().all(|sample| sample.abs() < f32::EPSILON));
        assert_eq!((mixer.misses(), mixer.sounding()), (0, None));
    }
}
