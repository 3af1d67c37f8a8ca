//! Where frames go: one small trait, so that a card, a WAV file and nothing at all look alike
//! to the playout thread.
//!
//! ```text
//!  playout thread ──[stereo frames]──► ring ──► Feed::fill, in the sink's callback
//!        ▲                                          │
//!        └────── DacObservation ◄── ring ◄──────────┘
//! ```

use std::thread::Thread;

use crate::base::{LocalTime, Span};
use crate::engine::playout::DacObservation;
use crate::wire::message::OutputState;

/// One stereo frame.
pub type Frame = [f32; 2];

/// What an opened sink turned out to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Format {
    /// Frames a second, nominal.
    pub rate: u32,
    /// Frames that one callback asks for, typically.
    pub period: usize,
}

/// Something that takes frames at its own pace.
pub trait Sink: Send {
    /// Opens it and lets it run. `feed` is called once, before the first callback, with what
    /// the sink turned out to be.
    ///
    /// # Errors
    ///
    /// When it cannot be opened now; trying again later may help.
    fn open(&mut self, feed: &mut dyn FnMut(Format) -> Feed) -> Result<Box<dyn Stream>, SinkError>;

    /// For people and logs.
    fn name(&self) -> String;
}

/// A running sink. Dropping it stops and closes it.
pub trait Stream {
    /// Whether it still takes frames. Asked a few times a second by the playout thread.
    ///
    /// # Errors
    ///
    /// When it does not; the playout thread then drops it and opens it again.
    fn check(&mut self) -> Result<(), SinkError>;
}

/// Why a sink does not take frames.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SinkError {
    /// There is no such device.
    #[error("no output device{}", .0.as_ref().map(|n| format!(" named {n:?}")).unwrap_or_default())]
    Missing(Option<String>),
    /// Another program has it.
    #[error("the output device is in use by another program")]
    Busy,
    /// Anything else.
    #[error("the output device failed: {0}")]
    Failed(String),
}

impl From<&SinkError> for OutputState {
    fn from(error: &SinkError) -> OutputState {
        match error {
            SinkError::Missing(_) => OutputState::None,
            SinkError::Busy => OutputState::Busy,
            SinkError::Failed(why) => OutputState::Failed(why.clone()),
        }
    }
}

/// The sink's end of the ring. Everything here is wait-free and allocates nothing.
pub struct Feed {
    frames: rtrb::Consumer<Frame>,
    observations: rtrb::Producer<DacObservation>,
    playout: Thread,
    given: u64,
    starved: u64,
}

impl Feed {
    /// A feed from `frames`, reporting into `observations` and waking `playout` when the ring
    /// has room again.
    #[must_use]
    pub fn new(
        frames: rtrb::Consumer<Frame>,
        observations: rtrb::Producer<DacObservation>,
        playout: Thread,
    ) -> Feed {
        Feed { frames, observations, playout, given: 0, starved: 0 }
    }

    /// Fills `out`. `now` is this device's clock, read first thing in the callback; `delay`
    /// is from then until the first frame of `out` reaches the converter.
    pub fn fill(&mut self, now: LocalTime, delay: Span, out: &mut [Frame]) {
        let mut there = 0;
        if let Ok(chunk) = self.frames.read_chunk(self.frames.slots().min(out.len())) {
            for (place, frame) in out.iter_mut().zip(chunk) {
                *place = frame;
                there += 1;
            }
        }
        out[there..].fill([0.0; 2]);
        // Before the first frame arrives nothing is missing yet, but the count must hold.
        self.starved += (out.len() - there) as u64;
        let observation =
            DacObservation { frame: self.given, played_at: now + delay, starved: self.starved };
        // A full ring means the playout thread sleeps; it will see later observations.
        let _ = self.observations.push(observation);
        self.given += out.len() as u64;
        self.playout.unpark();
    }

    /// Whether the playout thread is gone.
    #[must_use]
    pub fn is_abandoned(&self) -> bool {
        self.frames.is_abandoned()
    }
}
