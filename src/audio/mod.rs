//! Sound out: devices, the playout thread, and sinks for machines without a card.
//!
//! [`start`] spawns the thread on a [`sink::Sink`]; [`PlayoutHandle`] tells it the clock, the
//! plan and the decoded frames, [`PlayoutReport`] tells how it does.
//!
//! | file | what |
//! |---|---|
//! | `sink` | where frames go: the trait between the thread and a device |
//! | `playout_thread` | keeps the ring filled by what `engine::playout` says |
//! | `mixer` `reader` `shelf` | carries its orders out: levels, resampling, windows of frames |
//! | `output` `devices` | which sink is meant; what there is |
//! | `tone` | a tone by which a person hears whether an output works |
//! | `cpal_sink` `null_sink` `wav_sink` `paced` | the sinks |
//! | `convert` `record` `realtime` | sample formats; recordings and their comparison; priority |

pub mod convert;
pub mod cpal_sink;
pub mod devices;
pub mod mixer;
pub mod null_sink;
pub mod output;
pub mod paced;
pub mod playout_thread;
pub mod reader;
pub mod realtime;
pub mod record;
pub mod shelf;
pub mod sink;
pub mod tone;
pub mod wav_sink;

pub use playout_thread::{PlayoutCommand, PlayoutHandle, PlayoutReport, Reports, start};
