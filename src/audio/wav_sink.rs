//! A WAV file as the loudspeaker: 16-bit stereo at 48 kHz, silence included, at the pace of
//! this device's clock. For listening later, and for machines without a card.
//!
//! The header is brought up to date once a second, so that the file can be played even after
//! the process was killed. What this deliberately does not do: RF64. At 4 GiB, after six
//! hours, the file stays as it is and the rest is let go.

use std::fs::File;
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};

use hound::{SampleFormat, WavSpec, WavWriter};

use super::convert::DeviceSample;
use super::paced::{self, Pace, Played, RATE, Tap};
use super::sink::{Feed, Format, Sink, SinkError, Stream};
use crate::base::time::Clock;
use crate::base::{Ppm, Span};

const SPEC: WavSpec = WavSpec {
    channels: 2,
    sample_rate: RATE,
    bits_per_sample: 16,
    sample_format: SampleFormat::Int,
};

/// Frames of a full file: the sizes in a WAV header have 32 bits and count bytes, the header
/// itself among them.
const MAX_FRAMES: u64 = (u32::MAX as u64 - 4_096) / 4;

/// The sink; see the page's head.
#[derive(Debug)]
pub struct WavSink {
    path: PathBuf,
    pace: Pace,
    clock: Clock,
    begun: bool,
}

impl WavSink {
    /// Into `path`; what was there before the first opening is replaced. `buffer` is the time
    /// between taking and "playing" a frame.
    #[must_use]
    pub fn new(path: PathBuf, buffer: Span, clock: Clock) -> WavSink {
        WavSink { path, pace: Pace::new(Ppm(0.0), buffer), clock, begun: false }
    }

    fn tap(&mut self) -> Result<Tape, SinkError> {
        let tape = Tape::open(&self.path, self.begun)
            .map_err(|e| SinkError::Failed(format!("cannot write {}: {e}", self.path.display())))?;
        self.begun = true;
        Ok(tape)
    }
}

impl Sink for WavSink {
    fn open(&mut self, feed: &mut dyn FnMut(Format) -> Feed) -> Result<Box<dyn Stream>, SinkError> {
        let tape = self.tap()?;
        paced::start(self.pace, self.clock, feed, Box::new(tape))
    }

    fn name(&self) -> String {
        format!("file {}", self.path.display())
    }
}

/// The file. Dropping it completes the header.
struct Tape {
    writer: WavWriter<BufWriter<File>>,
    frames: u64,
    since_flush: u64,
    limit: u64,
}

impl Tape {
    fn open(path: &Path, begun: bool) -> hound::Result<Tape> {
        let mut writer =
            if begun { WavWriter::append(path)? } else { WavWriter::create(path, SPEC)? };
        // Now, so that a file that cannot be rewound is refused before the music starts.
        writer.flush()?;
        let frames = u64::from(writer.duration());
        Ok(Tape { writer, frames, since_flush: 0, limit: MAX_FRAMES })
    }
}

impl Tap for Tape {
    fn take(&mut self, played: &Played<'_>) -> io::Result<()> {
        let n = played.frames.len() as u64;
        if self.frames + n > self.limit {
            if self.since_flush > 0 {
                self.since_flush = 0;
                tracing::warn!("the WAV file has reached 4 GiB; what follows is not written");
                return self.writer.flush().map_err(plain);
            }
            return Ok(());
        }
        for sample in played.frames.iter().flatten() {
            self.writer.write_sample(i16::from_unit(*sample)).map_err(plain)?;
        }
        self.frames += n;
        self.since_flush += n;
        if self.since_flush >= u64::from(RATE) {
            self.since_flush = 0;
            self.writer.flush().map_err(plain)?;
        }
        Ok(())
    }
}

fn plain(error: hound::Error) -> io::Error {
    match error {
        hound::Error::IoError(e) => e,
        other => io::Error::other(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::LocalTime;

    fn clock() -> LocalTime {
        LocalTime(0)
    }

    fn write(tape: &mut Tape, frames: usize, value: f32) {
        let frames = vec![[value, -value]; frames];
        tape.take(&Played { frame: 0, at: LocalTime(0), frames: &frames }).expect("room on disk");
    }

    fn samples(path: &Path) -> Vec<i16> {
        let mut reader = hound::WavReader::open(path).expect("a WAV file");
        assert_eq!(reader.spec(), SPEC);
        reader.samples().collect::<Result<_, _>>().expect("as many as the header says")
    }

    #[test]
    fn a_killed_process_leaves_a_file_that_plays() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("out.wav");
        let mut tape = Tape::open(&path, false).expect("opens");
        assert!(samples(&path).is_empty());
        write(&mut tape, 48_000, 0.5);
        write(&mut tape, 960, 0.25);
        // A killed process completes nothing.
        std::mem::forget(tape);
        let samples = samples(&path);
        assert_eq!(samples.len(), 96_000);
        assert_eq!(samples[..2], [16_384, -16_384]);
    }

    #[test]
    fn opened_again_it_goes_on_where_it_was() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("out.wav");
        std::fs::write(&path, "something else").expect("writes");
        let mut sink = WavSink::new(path.clone(), Span::ZERO, clock);
        for value in [1.0, -1.0] {
            write(&mut sink.tap().expect("opens"), 1, value);
        }
        assert_eq!(samples(&path), [i16::MAX, i16::MIN, i16::MIN, i16::MAX]);
    }

    #[test]
    fn a_full_file_stays_valid() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("out.wav");
        let mut tape = Tape::open(&path, false).expect("opens");
        tape.limit = 1_000;
        write(&mut tape, 960, 0.5);
        write(&mut tape, 960, 0.5);
        write(&mut tape, 960, 0.5);
        std::mem::forget(tape);
        assert_eq!(samples(&path).len(), 1_920);
    }

    #[test]
    fn a_folder_and_a_place_that_is_not_there_are_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        for path in [folder.path().to_owned(), folder.path().join("not/there.wav")] {
            let mut sink = WavSink::new(path.clone(), Span::ZERO, clock);
            let refused = sink.open(&mut |_| panic!("never opened"));
            let Err(SinkError::Failed(why)) = refused else { panic!("must be refused") };
            assert!(why.starts_with(&format!("cannot write {}: ", path.display())), "{why}");
        }
        assert!(folder.path().is_dir());
    }
}
