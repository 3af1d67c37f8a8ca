//! Room time on this device.

pub mod model;

pub use model::ClockModel;
