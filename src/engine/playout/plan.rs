//! What to sound when: a copy of the replicated timeline's near part, small enough to hand to
//! the playout thread by value.

use crate::base::{RoomTime, SegmentId, Span};
use crate::wire::track::frames_to_span;

/// Spans in a plan: what fades out, what sounds, and the next two.
pub const PLAN_SPANS: usize = 4;

/// One segment on the room's timeline.
///
/// Frame `from + k` of the track sounds at `start + k / rate`, until `frames` have been played
/// or the span is cut.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PlannedSpan {
    /// Names the stream of decoded frames.
    pub segment: SegmentId,
    /// When its first frame sounds.
    pub start: RoomTime,
    /// Which frame of the track that is.
    pub from: u64,
    /// How many frames follow until the track ends.
    pub frames: u64,
    /// Frames a second of the track.
    pub rate: u32,
    /// When it stops before its end, if it does.
    pub cut: Option<RoomTime>,
}

impl PlannedSpan {
    /// When it stops: at its cut or at the track's end.
    #[must_use]
    pub fn end(&self) -> RoomTime {
        let natural = self.start + frames_to_span(self.frames, self.rate);
        self.cut.map_or(natural, |cut| cut.min(natural))
    }

    /// Whether it is to be heard at `room`.
    #[must_use]
    pub fn covers(&self, room: RoomTime) -> bool {
        self.start <= room && room < self.end()
    }

    /// The position in the track, in frames with a fraction, at `room`. May lie before `from`
    /// (not begun) or behind the end.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "2^53 frames are 6,000 years")]
    pub fn position(&self, room: RoomTime) -> f64 {
        self.from as f64 + (room - self.start).as_secs_f64() * f64::from(self.rate)
    }
}

/// A change of loudness at an instant of room time.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct GainStep {
    /// Amplitude factor before.
    pub from: f32,
    /// Amplitude factor after.
    pub to: f32,
    /// When; the change itself is a short ramp that begins there.
    pub at: RoomTime,
}

impl GainStep {
    /// Always the same loudness.
    #[must_use]
    pub fn steady(gain: f32) -> GainStep {
        GainStep { from: gain, to: gain, at: RoomTime(i64::MIN) }
    }
}

/// The near part of the timeline. Spans are in order and never overlap.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct PlayoutPlan {
    /// What to sound.
    pub spans: [Option<PlannedSpan>; PLAN_SPANS],
    /// How loud.
    pub gain: GainStep,
    /// Added to every playout time of this device: positive plays later. For speakers with a
    /// delay of their own.
    pub trim: Span,
}

impl PlayoutPlan {
    /// Silence.
    #[must_use]
    pub fn silent() -> PlayoutPlan {
        PlayoutPlan { spans: [None; PLAN_SPANS], gain: GainStep::steady(1.0), trim: Span::ZERO }
    }

    /// The span that is to be heard at `room`.
    #[must_use]
    pub fn at(&self, room: RoomTime) -> Option<&PlannedSpan> {
        self.spans.iter().flatten().find(|span| span.covers(room))
    }
}
