//! Sound out: devices, the playout thread, and sinks for machines without a card.
//!
//! [`start`] spawns the thread on a [`sink::Sink`]; [`PlayoutHandle`] tells it the clock, the
//! plan and the decoded frames, [`PlayoutReport`] tells how it does.

pub mod convert;
pub mod cpal_sink;
pub mod devices;
pub mod null_sink;
pub mod output;
pub mod paced;
pub mod realtime;
pub mod record;
pub mod mixer;
pub mod playout_thread;
pub mod reader;
mod realtime;
pub mod shelf;
pub mod sink;
pub mod wav_sink;

pub use playout_thread::{PlayoutCommand, PlayoutHandle, PlayoutReport, Reports, start};
