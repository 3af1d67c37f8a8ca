//! From room time to device frames.

pub mod plan;

pub use plan::{GainStep, PlannedSpan, PlayoutPlan};

use crate::base::LocalTime;

/// What a sink saw at one callback.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DacObservation {
    /// Number of the first frame of this callback, counted in frames given to the device since
    /// it was opened, silence included.
    pub frame: u64,
    /// When that frame reaches the converter, on this device's clock.
    pub played_at: LocalTime,
    /// Frames of silence that the sink has put in so far because the ring was empty. Frame
    /// `n` of the ring is frame `n + starved` of the device.
    pub starved: u64,
}
