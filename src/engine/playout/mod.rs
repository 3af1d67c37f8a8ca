//! From room time to device frames.
//!
//! [`Playout`] is told what the sink saw, the clock model and the plan, and says for each next
//! chunk of frames what sounds in it. It holds the two estimators of this end: the converter's
//! line ([`DacModel`]) and the servo. Samples, rings and threads are in `audio`.

pub mod chunk;
mod coarse;
pub mod dac;
pub mod plan;
pub mod schedule;
pub mod servo;

pub use chunk::{Begins, Chunk, Order, Ramp, VOICES};
pub use dac::DacModel;
pub use plan::{GainStep, PlannedSpan, PlayoutPlan};
pub use schedule::{Playout, Sounding};

use crate::base::LocalTime;

/// What a sink saw at one callback.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DacObservation {
    /// Number of the first frame of this callback, counted in frames given to the device since
    /// it was opened, silence included.
    pub frame: u64,
    /// When that frame reaches the converter, on this device's clock.
    pub played_at: LocalTime,
    /// Frames of silence that the sink has put in so far because the ring was empty, this
    /// callback's included. Frame `n` of the ring that is still to come is frame `n + starved`
    /// of the device.
    pub starved: u64,
}
