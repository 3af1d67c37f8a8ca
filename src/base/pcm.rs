//! PCM between the decoder and the playout thread: a bounded window of frames.
//!
//! ```text
//!  decoder thread ── blocks ──► PcmReader (playout thread): "frames a..b, please"
//!                ◄── empties ──  (blocks go back, so that nobody allocates at steady state)
//! ```
//!
//! Samples are interleaved `f32`, always stereo (mono is doubled by the decoder), at the
//! file's own rate. A frame is named by its number in the track, counted from the first
//! audible frame (encoder delay is already trimmed).

use std::collections::VecDeque;

/// Samples a frame: everything inside is stereo.
pub const CHANNELS: usize = 2;

/// Frames a block: 21 ms at 48 kHz. Small enough to start early, large enough to be rare.
pub const BLOCK_FRAMES: usize = 1024;

/// Some consecutive frames of a track.
#[derive(Debug)]
pub struct PcmBlock {
    /// Number of the first frame.
    pub first: u64,
    /// Frames in use, at most [`BLOCK_FRAMES`].
    pub frames: usize,
    /// Interleaved; `BLOCK_FRAMES * CHANNELS` long.
    pub samples: Box<[f32]>,
}

impl PcmBlock {
    fn empty() -> PcmBlock {
        PcmBlock { first: 0, frames: 0, samples: vec![0.0; BLOCK_FRAMES * CHANNELS].into() }
    }

    fn end(&self) -> u64 {
        self.first.saturating_add(self.frames as u64)
    }
}

/// The decoder's end of a window.
#[derive(Debug)]
pub struct PcmWriter {
    full: rtrb::Producer<PcmBlock>,
    empty: rtrb::Consumer<PcmBlock>,
}

/// The playout thread's end of a window. Never blocks and never allocates.
#[derive(Debug)]
pub struct PcmReader {
    full: rtrb::Consumer<PcmBlock>,
    empty: rtrb::Producer<PcmBlock>,
    held: VecDeque<PcmBlock>,
    blocks: usize,
}

/// A window of at least `frames` frames, rounded up to whole blocks.
#[must_use]
pub fn window(frames: usize) -> (PcmWriter, PcmReader) {
    let blocks = frames.div_ceil(BLOCK_FRAMES).max(2);
    let (full_in, full_out) = rtrb::RingBuffer::new(blocks);
    let (mut empty_in, empty_out) = rtrb::RingBuffer::new(blocks);
    for _ in 0..blocks {
        empty_in.push(PcmBlock::empty()).expect("as many places as blocks");
    }
    let reader = PcmReader {
        full: full_out,
        empty: empty_in,
        held: VecDeque::with_capacity(blocks),
        blocks,
    };
    (PcmWriter { full: full_in, empty: empty_out }, reader)
}

impl PcmWriter {
    /// A block to fill, or none while the window is full.
    pub fn take(&mut self) -> Option<PcmBlock> {
        self.empty.pop().ok()
    }

    /// Hands a filled block on. Frames must follow each other, but may leave a hole.
    pub fn put(&mut self, block: PcmBlock) {
        self.full.push(block).expect("a block taken has its place");
    }

    /// Whether the reader is gone, so that decoding on is in vain.
    #[must_use]
    pub fn is_abandoned(&self) -> bool {
        self.full.is_abandoned()
    }
}

impl PcmReader {
    /// Copies the frames from `first` on into `out` (interleaved) and returns how many of
    /// them were there; the others are silence. Frames before `first` are let go.
    pub fn read(&mut self, first: u64, out: &mut [f32]) -> usize {
        self.let_go_before(first);
        self.copy(first, out)
    }

    /// The same, but keeps what was copied and what lies before: it can be had again.
    pub fn copy(&mut self, first: u64, out: &mut [f32]) -> usize {
        self.gather();
        out.fill(0.0);
        let wanted = (out.len() / CHANNELS) as u64;
        let mut there = 0;
        for block in &self.held {
            let from = block.first.max(first);
            let to = block.end().min(first.saturating_add(wanted));
            if from >= to {
                continue;
            }
            let source = offset(from - block.first)..offset(to - block.first);
            let target = offset(from - first)..offset(to - first);
            out[target].copy_from_slice(&block.samples[source]);
            there += usize::try_from(to - from).expect("at most a block");
        }
        there
    }

    /// Gives the blocks that lie before `first` back to the decoder.
    pub fn let_go_before(&mut self, first: u64) {
        self.discard_before(first);
        self.gather();
        // What was gathered may lie before `first` as well, after a seek of the position.
        self.discard_before(first);
    }

    /// How many frames from `first` on are there without a hole.
    pub fn ready_from(&mut self, first: u64) -> u64 {
        self.gather();
        let mut end = first;
        for block in &self.held {
            if block.first <= end && end < block.end() {
                end = block.end();
            }
        }
        end - first
    }

    /// Frames that the window can hold in all.
    #[must_use]
    pub fn capacity(&self) -> u64 {
        (self.blocks * BLOCK_FRAMES) as u64
    }

    /// The frame after the last one that has arrived, if any has.
    pub fn end(&mut self) -> Option<u64> {
        self.gather();
        self.held.back().map(PcmBlock::end)
    }

    /// Whether the decoder is gone: what has arrived is all there will be.
    #[must_use]
    pub fn is_abandoned(&self) -> bool {
        self.full.is_abandoned()
    }

    fn gather(&mut self) {
        while self.held.len() < self.blocks {
            let Ok(block) = self.full.pop() else { break };
            self.held.push_back(block);
        }
    }

    fn discard_before(&mut self, first: u64) {
        while self.held.front().is_some_and(|block| block.end() <= first) {
            let block = self.held.pop_front().expect("just seen");
            // The decoder may be gone; then its block is simply dropped.
            let _ = self.empty.push(block);
        }
    }
}

fn offset(frames: u64) -> usize {
    usize::try_from(frames).expect("within a block or a request") * CHANNELS
}

#[cfg(test)]
#[expect(
    clippy::float_cmp,
    clippy::cast_precision_loss,
    reason = "the figures of the tests are small and exact"
)]
mod tests {
    use super::*;

    fn put(writer: &mut PcmWriter, first: u64, frames: usize) {
        let mut block = writer.take().expect("room in the window");
        block.first = first;
        block.frames = frames;
        for i in 0..frames {
            let value = (first + i as u64) as f32;
            block.samples[i * 2] = value;
            block.samples[i * 2 + 1] = -value;
        }
        writer.put(block);
    }

    #[test]
    fn frames_come_out_where_they_were_put() {
        let (mut writer, mut reader) = window(4 * BLOCK_FRAMES);
        put(&mut writer, 100, 10);
        put(&mut writer, 110, 10);
        let mut out = [9.0; 12];
        assert_eq!(reader.read(107, &mut out), 6);
        assert_eq!(
            out,
            [107., -107., 108., -108., 109., -109., 110., -110., 111., -111., 112., -112.]
        );
        assert_eq!(reader.end(), Some(120));
    }

    #[test]
    fn what_has_not_arrived_is_silence_and_counted() {
        let (mut writer, mut reader) = window(4 * BLOCK_FRAMES);
        put(&mut writer, 10, 2);
        let mut out = [9.0; 8];
        assert_eq!(reader.read(9, &mut out), 2);
        assert_eq!(out, [0., 0., 10., -10., 11., -11., 0., 0.]);
    }

    #[test]
    fn what_was_copied_can_be_had_again_and_holes_end_what_is_ready() {
        let (mut writer, mut reader) = window(4 * BLOCK_FRAMES);
        put(&mut writer, 10, 5);
        put(&mut writer, 15, 5);
        put(&mut writer, 30, 5);
        assert_eq!([9, 10, 17, 20, 31].map(|first| reader.ready_from(first)), [0, 10, 3, 0, 4]);
        let mut out = [9.0; 2];
        assert_eq!((reader.copy(16, &mut out), out), (1, [16., -16.]));
        assert_eq!((reader.copy(11, &mut out), out), (1, [11., -11.]));
    }

    #[test]
    fn a_full_window_holds_the_decoder_until_frames_are_let_go() {
        let (mut writer, mut reader) = window(2 * BLOCK_FRAMES);
        put(&mut writer, 0, BLOCK_FRAMES);
        put(&mut writer, 1024, BLOCK_FRAMES);
        assert!(writer.take().is_none());
        reader.read(1024, &mut [0.0; 2]);
        assert!(writer.take().is_some());
    }
}
