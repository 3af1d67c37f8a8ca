//! The decoded windows of the segments that play or will: frames by number, across the seam
//! between two segments that follow each other without a gap.

use crate::base::SegmentId;
use crate::base::pcm::{CHANNELS, PcmReader};
use crate::engine::playout::PlannedSpan;

/// Windows at once: what fades out, what plays, the next two, and as many again while a plan
/// changes. The oldest gives way.
const WINDOWS: usize = 8;

/// What a voice reads: a span, and what follows on its last frame.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Strand {
    /// The segment it is in.
    pub span: PlannedSpan,
    /// The one after it, if there is no gap.
    pub next: Option<PlannedSpan>,
}

impl Strand {
    /// The frame behind the last one of the span, as signed as positions are.
    fn end(&self) -> i64 {
        signed(self.span.from.saturating_add(self.span.frames))
    }

    /// What to subtract from a frame behind the span's end to have it in the next.
    #[must_use]
    pub fn seam(&self) -> i64 {
        self.next.map_or(0, |next| self.end() - signed(next.from))
    }
}

/// The windows.
pub struct Shelf {
    windows: Vec<(SegmentId, PcmReader)>,
}

impl Shelf {
    /// Without any.
    #[must_use]
    pub fn new() -> Shelf {
        Shelf { windows: Vec::with_capacity(WINDOWS) }
    }

    /// Takes a window; one of the same segment gives way.
    pub fn load(&mut self, segment: SegmentId, pcm: PcmReader) {
        self.unload(segment);
        if self.windows.len() == WINDOWS {
            self.windows.remove(0);
        }
        self.windows.push((segment, pcm));
    }

    /// Drops a window.
    pub fn unload(&mut self, segment: SegmentId) {
        self.windows.retain(|(loaded, _)| *loaded != segment);
    }

    /// Fills `out` with the frames from `first` on, counted in the strand's span. Outside of
    /// the spans, and where nothing has arrived, is silence.
    pub fn copy(&mut self, strand: &Strand, first: i64, out: &mut [f32]) {
        let frames = (out.len() / CHANNELS).cast_signed() as i64;
        let start = signed(strand.span.from);
        let before = (start - first).clamp(0, frames);
        let behind = (strand.end() - first).clamp(before, frames);
        let (silence, rest) = out.split_at_mut(place(before));
        let (inside, beyond) = rest.split_at_mut(place(behind - before));
        silence.fill(0.0);
        self.copy_from(strand.span.segment, first + before, inside);
        match strand.next {
            Some(next) => {
                let only = Strand { span: next, next: None };
                let at = first + behind - strand.seam();
                if !beyond.is_empty() {
                    self.copy(&only, at, beyond);
                }
            }
            None => beyond.fill(0.0),
        }
    }

    /// How many frames from `first` on are there; silence outside of the spans always is.
    pub fn ready(&mut self, strand: &Strand, first: i64) -> u64 {
        let end = strand.end();
        let from = first.max(signed(strand.span.from));
        let lead = (from - first).unsigned_abs();
        if from < end {
            let there = self.ready_from(strand.span.segment, from);
            if there < (end - from).unsigned_abs() {
                return lead + there;
            }
        }
        let Some(next) = strand.next else { return u64::MAX };
        let behind = first.max(end);
        let only = Strand { span: next, next: None };
        let there = self.ready(&only, behind - strand.seam());
        there.saturating_add((behind - first).unsigned_abs())
    }

    /// Gives back what lies more than `history` frames before `position`, but never so much
    /// that the window has no room ahead.
    pub fn let_go(&mut self, segment: SegmentId, position: f64, history: u64) {
        let Some(pcm) = self.find(segment) else { return };
        let history = history.min(pcm.capacity() / 4);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
        let position = position.max(0.0) as u64;
        pcm.let_go_before(position.saturating_sub(history));
    }

    /// Frames of a segment that are there from `position` on.
    pub fn ahead(&mut self, segment: SegmentId, position: f64) -> u64 {
        #[expect(clippy::cast_possible_truncation, reason = "positions are far below 2^53")]
        self.ready_from(segment, position as i64)
    }

    fn copy_from(&mut self, segment: SegmentId, first: i64, out: &mut [f32]) {
        match (self.find(segment), u64::try_from(first)) {
            (Some(pcm), Ok(first)) => {
                pcm.copy(first, out);
            }
            _ => out.fill(0.0),
        }
    }

    fn ready_from(&mut self, segment: SegmentId, first: i64) -> u64 {
        match (self.find(segment), u64::try_from(first)) {
            (Some(pcm), Ok(first)) => pcm.ready_from(first),
            _ => 0,
        }
    }

    fn find(&mut self, segment: SegmentId) -> Option<&mut PcmReader> {
        self.windows.iter_mut().find(|(loaded, _)| *loaded == segment).map(|(_, pcm)| pcm)
    }
}

impl Default for Shelf {
    fn default() -> Shelf {
        Shelf::new()
    }
}

fn signed(frame: u64) -> i64 {
    i64::try_from(frame).unwrap_or(i64::MAX / 2)
}

fn place(frames: i64) -> usize {
    usize::try_from(frames).expect("clamped to the buffer") * CHANNELS
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::RoomTime;
    use crate::base::pcm::window;

    fn span(segment: u64, from: u64, frames: u64) -> PlannedSpan {
        let start = RoomTime(0);
        PlannedSpan { segment: SegmentId(segment), start, from, frames, rate: 48_000, cut: None }
    }

    fn loaded(shelf: &mut Shelf, segment: u64, first: u64, values: &[f32]) {
        let (mut writer, reader) = window(2_048);
        let mut block = writer.take().expect("empty window");
        block.first = first;
        block.frames = values.len();
        for (frame, value) in block.samples.chunks_exact_mut(2).zip(values) {
            frame.fill(*value);
        }
        writer.put(block);
        shelf.load(SegmentId(segment), reader);
    }

    fn left(samples: &[f32]) -> Vec<f32> {
        samples.iter().step_by(2).copied().collect()
    }

    #[test]
    fn frames_run_over_the_seam_without_a_hole() {
        let mut shelf = Shelf::new();
        loaded(&mut shelf, 1, 10, &[1., 2., 3.]);
        loaded(&mut shelf, 2, 0, &[4., 5., 6.]);
        let strand = Strand { span: span(1, 10, 3), next: Some(span(2, 0, 3)) };
        let mut out = [9.0; 20];
        shelf.copy(&strand, 8, &mut out);
        assert_eq!(left(&out), [0., 0., 1., 2., 3., 4., 5., 6., 0., 0.]);
        assert_eq!(shelf.ready(&strand, 8), u64::MAX);
        assert_eq!(strand.seam(), 13);
    }

    #[test]
    fn what_is_missing_behind_the_seam_ends_what_is_ready() {
        let mut shelf = Shelf::new();
        loaded(&mut shelf, 1, 10, &[1., 2., 3.]);
        loaded(&mut shelf, 2, 0, &[4.]);
        let strand = Strand { span: span(1, 10, 3), next: Some(span(2, 0, 3)) };
        assert_eq!(shelf.ready(&strand, 8), 6);
        assert_eq!(shelf.ready(&strand, 12), 2);
        assert_eq!(shelf.ready(&Strand { next: None, ..strand }, 11), u64::MAX);
    }

    #[test]
    fn a_segment_that_is_not_loaded_is_silence_that_is_not_ready() {
        let mut shelf = Shelf::new();
        let strand = Strand { span: span(7, 0, 100), next: None };
        let mut out = [9.0; 4];
        shelf.copy(&strand, 50, &mut out);
        assert_eq!((out, shelf.ready(&strand, 50)), ([0.0; 4], 0));
    }
}
