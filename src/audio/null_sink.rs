//! Nothing at all, at the pace of a crystal: for machines without a card, for tests, and for
//! showing that several of them keep together. It can write down what it played and when.

use std::path::PathBuf;

use super::paced::{self, Nowhere, Pace, Tap};
use super::record::Recorder;
use super::sink::{Feed, Format, Sink, SinkError, Stream};
use crate::base::time::Clock;
use crate::base::{Ppm, Span};

/// The sink; see the page's head.
#[derive(Debug)]
pub struct NullSink {
    pace: Pace,
    record: Option<PathBuf>,
    clock: Clock,
}

impl NullSink {
    /// With a crystal that is `crystal` faster than this device's clock, about `buffer`
    /// between taking and converting a frame, and a file to record into, if wanted.
    #[must_use]
    pub fn new(crystal: Ppm, buffer: Span, record: Option<PathBuf>, clock: Clock) -> NullSink {
        NullSink { pace: Pace::new(crystal, buffer), record, clock }
    }

    fn tap(&self) -> Result<Box<dyn Tap>, SinkError> {
        let Some(path) = &self.record else { return Ok(Box::new(Nowhere)) };
        let recorder = Recorder::create(path, self.pace.rate).map_err(|e| {
            SinkError::Failed(format!("cannot write the recording {}: {e}", path.display()))
        })?;
        Ok(Box::new(recorder))
    }
}

impl Sink for NullSink {
    fn open(&mut self, feed: &mut dyn FnMut(Format) -> Feed) -> Result<Box<dyn Stream>, SinkError> {
        paced::start(self.pace, self.clock, feed, self.tap()?)
    }

    fn name(&self) -> String {
        let Ppm(ppm) = self.pace.crystal;
        if ppm == 0.0 { "nothing".into() } else { format!("nothing, at {ppm:+} ppm") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::paced::tests::rings;
    use crate::audio::record::Recording;
    use crate::base::LocalTime;

    fn clock() -> LocalTime {
        // The first two periods are taken without waiting, so a clock that stands still will do.
        LocalTime(5_000)
    }

    #[test]
    fn what_it_plays_is_recorded() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("played");
        let mut sink = NullSink::new(Ppm(0.0), Span::ZERO, Some(path.clone()), clock);
        let (feed, mut frames, mut seen) = rings(4_096);
        for _ in 0..960 {
            frames.push([0.25, -1.0]).expect("room");
        }
        let mut feed = Some(feed);
        let stream = sink.open(&mut |_| feed.take().expect("asked once")).expect("opens");
        // Each callback wakes this thread, as it would the playout thread.
        while seen.slots() < 2 {
            std::thread::park();
        }
        drop(stream);
        let recording = Recording::read(&path).expect("readable");
        assert_eq!(recording.n_frames(), 1_920);
        assert_eq!(recording.sample_at(LocalTime(5_000)).to_bits(), 0.25_f32.to_bits());
        assert_eq!(seen.pop().map(|o| o.played_at), Ok(LocalTime(5_000)));
    }

    #[test]
    fn a_recording_that_cannot_be_written_is_said_so() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut sink = NullSink::new(Ppm(0.0), Span::ZERO, Some(folder.path().into()), clock);
        let refused = sink.open(&mut |_| panic!("never opened"));
        let Err(SinkError::Failed(why)) = refused else { panic!("must be refused") };
        assert!(why.contains(&folder.path().display().to_string()), "{why}");
    }

    #[test]
    fn its_name_tells_its_crystal() {
        let name = |ppm| NullSink::new(Ppm(ppm), Span::ZERO, None, clock).name();
        assert_eq!(name(0.0), "nothing");
        assert_eq!(name(40.0), "nothing, at +40 ppm");
    }
}
