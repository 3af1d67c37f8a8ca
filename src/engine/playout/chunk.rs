//! Orders for the next few milliseconds: which frames of which segments sound where in a
//! chunk of device frames, and how loud. Whoever carries them out decides nothing.

use crate::engine::playout::plan::PlannedSpan;

/// Voices that can sound in one chunk: what plays, and what fades out or ends.
pub const VOICES: usize = 2;

/// A level that moves from one value to another over some frames and stays there.
///
/// Its shape is a smooth step, so that two ramps of opposite direction add up to one all the
/// way: the equal-gain law, right for two copies of one programme.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Ramp {
    /// The level before.
    pub from: f32,
    /// The level after.
    pub to: f32,
    /// The ring frame at which it begins to move.
    pub start: i64,
    /// Frames it takes.
    pub frames: u32,
}

impl Ramp {
    /// Always the same level.
    #[must_use]
    pub const fn flat(level: f32) -> Ramp {
        Ramp { from: level, to: level, start: 0, frames: 0 }
    }

    /// From silence, beginning at ring frame `start`.
    #[must_use]
    pub const fn fade_in(start: i64, frames: u32) -> Ramp {
        Ramp { from: 0.0, to: 1.0, start, frames }
    }

    /// To silence, reached at ring frame `start + frames`.
    #[must_use]
    pub const fn fade_out(start: i64, frames: u32) -> Ramp {
        Ramp { from: 1.0, to: 0.0, start, frames }
    }

    /// The level at a ring frame.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "frames of a ramp are few")]
    pub fn at(&self, frame: i64) -> f32 {
        let done = frame.saturating_sub(self.start);
        if done <= 0 {
            return if self.frames == 0 && done == 0 { self.to } else { self.from };
        }
        if done >= i64::from(self.frames) {
            return self.to;
        }
        let x = done as f32 / self.frames as f32;
        self.from + (self.to - self.from) * x * x * (3.0 - 2.0 * x)
    }

    /// Whether its level is one value from ring frame `from` on for `frames`.
    #[must_use]
    pub fn is_flat(&self, from: i64, frames: usize) -> bool {
        let end = from.saturating_add(i64::try_from(frames).unwrap_or(i64::MAX));
        (self.to - self.from).abs() < f32::EPSILON
            || end <= self.start
            || from >= self.start.saturating_add(i64::from(self.frames))
    }
}

/// What one voice does in one chunk.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Order {
    /// Whether the voice begins here; otherwise it goes on from the chunk before.
    pub begins: Begins,
    /// Whether it is done after this chunk.
    pub ends: bool,
    /// What it plays. Before its `from` and behind its end is silence.
    pub span: PlannedSpan,
    /// What follows on its last frame without a gap.
    pub next: Option<PlannedSpan>,
    /// Position in the track at output frame `first`, in frames with a fraction.
    pub position: f64,
    /// Frames of the track per device frame.
    pub step: f64,
    /// First output frame of the chunk that it fills.
    pub first: usize,
    /// How many.
    pub frames: usize,
    /// Level at the beginning of the voice.
    pub rise: Ramp,
    /// Level at its end.
    pub fall: Ramp,
}

/// How an order's voice comes to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Begins {
    /// It was there before.
    No,
    /// It begins at the order's position.
    Here,
}

/// The orders for one chunk.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Chunk {
    /// Number of its first frame, counted in frames put into the ring.
    pub first: i64,
    /// How many.
    pub frames: usize,
    /// At most one order a voice.
    pub orders: [Option<Order>; VOICES],
    /// The volume.
    pub gain: Ramp,
}

impl Chunk {
    /// Nothing to be heard.
    #[must_use]
    pub fn silence(first: i64, frames: usize) -> Chunk {
        Chunk { first, frames, orders: [None; VOICES], gain: Ramp::flat(1.0) }
    }
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "the figures of the tests are small and exact")]
mod tests {
    use super::*;

    #[test]
    fn a_ramp_holds_before_and_after() {
        let ramp = Ramp::fade_in(100, 10);
        assert_eq!([90, 100, 110, 500].map(|frame| ramp.at(frame)), [0.0, 0.0, 1.0, 1.0]);
        assert!((ramp.at(105) - 0.5).abs() < 1e-6);
    }

    #[test]
    fn opposite_ramps_add_up_to_one() {
        for frame in 0..=480 {
            let sum = Ramp::fade_in(0, 480).at(frame) + Ramp::fade_out(0, 480).at(frame);
            assert!((sum - 1.0).abs() < 1e-6);
        }
    }

    #[test]
    fn a_ramp_of_no_length_is_a_step() {
        let step = Ramp { from: 0.3, to: 0.7, start: 5, frames: 0 };
        assert_eq!([4, 5, 6].map(|frame| step.at(frame)), [0.3, 0.7, 0.7]);
    }
}
