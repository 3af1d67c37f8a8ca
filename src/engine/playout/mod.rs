//! From room time to device frames.

pub mod plan;

pub use plan::{GainStep, PlannedSpan, PlayoutPlan};
