//! Sound out: devices, the playout thread, and sinks for machines without a card.

pub mod convert;
pub mod cpal_sink;
pub mod devices;
pub mod null_sink;
pub mod output;
pub mod paced;
pub mod realtime;
pub mod record;
pub mod mixer;
pub mod reader;
pub mod shelf;
pub mod sink;
pub mod wav_sink;
