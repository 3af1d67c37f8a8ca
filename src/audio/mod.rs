//! Sound out: devices, the playout thread, and sinks for machines without a card.

pub mod realtime;
pub mod sink;
