//! A tone for a person who wants to know whether an output works, and what it turned out to be:
//! left, right, then both, without a daemon and without a room.

use std::f32::consts::TAU;
use std::thread;
use std::time::Duration;

use super::sink::{Feed, Format, Frame, Sink, SinkError, Stream};
use crate::base::time::Clock;
use crate::base::{LocalTime, Ppm, Span};
use crate::engine::playout::DacObservation;

/// Of the tone, Hz: the orchestra's A.
const PITCH: f32 = 440.0;

/// Of full scale: loud enough to hear, too soft to hurt with an amplifier turned up.
const LEVEL: f32 = 0.1;

/// Of a part's two ends, seconds: without it they click.
const FADE_S: f32 = 0.02;

/// Frames that wait for the device, as a part of a second.
const AHEAD: u32 = 10;

/// A device that takes nothing for so long does not play.
const PATIENCE: Span = Span::from_secs(4);

/// Between questions whether the device still works.
const CHECK_EVERY: Span = Span::from_millis(250);

/// Between two looks at the ring.
const POLL: Duration = Duration::from_millis(10);

/// What sounds where.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Part {
    /// The left channel.
    Left,
    /// The right one.
    Right,
    /// Both.
    Both,
}

impl Part {
    /// In the order in which they sound.
    pub const ALL: [Part; 3] = [Part::Left, Part::Right, Part::Both];

    fn frame(self, sample: f32) -> Frame {
        match self {
            Part::Left => [sample, 0.0],
            Part::Right => [0.0, sample],
            Part::Both => [sample, sample],
        }
    }
}

/// What was found out meanwhile.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct ToneReport {
    /// Of the device.
    pub format: Format,
    /// From taking a frame to its sounding.
    pub delay: Span,
    /// Frames that were not there in time.
    pub starved: u64,
    /// The device's crystal against this machine's clock; a few seconds tell it to some 50 ppm.
    pub drift: Ppm,
}

/// Plays each part for `length`; `opened` is told what the device turned out to be, `begins` when
/// a part is on its way to it.
///
/// # Errors
///
/// When the output cannot be opened, stops working, or takes nothing for four seconds.
pub fn play(
    sink: &mut dyn Sink,
    clock: Clock,
    length: Span,
    opened: &mut dyn FnMut(Format),
    begins: &mut dyn FnMut(Part),
) -> Result<ToneReport, SinkError> {
    let mut ends = None;
    let mut stream = sink.open(&mut |format| {
        let (frames, ring) = rtrb::RingBuffer::new((format.rate / AHEAD) as usize);
        let (seen, observations) = rtrb::RingBuffer::new(1024);
        ends = Some(Ends { format, frames, observations, first: None, last: None, heard: clock() });
        Feed::new(ring, seen, thread::current())
    })?;
    let Some(mut ends) = ends else {
        return Err(SinkError::Failed("it asked for no feed".into()));
    };
    opened(ends.format);
    for part in Part::ALL {
        begins(part);
        ends.play(stream.as_mut(), clock, length, part)?;
    }
    ends.drain(stream.as_mut(), clock)?;
    ends.report()
}

/// This end of the ring.
struct Ends {
    format: Format,
    frames: rtrb::Producer<Frame>,
    observations: rtrb::Consumer<DacObservation>,
    first: Option<DacObservation>,
    last: Option<(DacObservation, Span)>,
    heard: LocalTime,
}

impl Ends {
    #[expect(clippy::cast_precision_loss, reason = "a few seconds of frames")]
    fn play(
        &mut self,
        stream: &mut dyn Stream,
        clock: Clock,
        length: Span,
        part: Part,
    ) -> Result<(), SinkError> {
        let rate = self.format.rate;
        let count = u64::try_from(length.0).unwrap_or(0) * u64::from(rate) / 1_000_000_000;
        let (rate, mut checked) = (rate as f32, clock());
        for n in 0..count {
            let (from_start, to_end) = (n as f32 / rate, (count - n) as f32 / rate);
            let fade = (from_start.min(to_end) / FADE_S).min(1.0);
            let sample = LEVEL * fade * (TAU * (PITCH * from_start).fract()).sin();
            while self.frames.push(part.frame(sample)).is_err() {
                self.wait(stream, clock, &mut checked)?;
            }
        }
        Ok(())
    }

    /// Until all has been taken and has sounded.
    fn drain(&mut self, stream: &mut dyn Stream, clock: Clock) -> Result<(), SinkError> {
        let mut checked = clock();
        while self.frames.slots() < self.frames.buffer().capacity() {
            self.wait(stream, clock, &mut checked)?;
        }
        let sounded = clock() + self.last.map_or(Span::ZERO, |(_, delay)| delay);
        while clock() < sounded {
            thread::park_timeout(POLL);
        }
        Ok(())
    }

    fn wait(
        &mut self,
        stream: &mut dyn Stream,
        clock: Clock,
        checked: &mut LocalTime,
    ) -> Result<(), SinkError> {
        thread::park_timeout(POLL);
        let now = clock();
        while let Ok(seen) = self.observations.pop() {
            self.heard = now;
            self.first.get_or_insert(seen);
            self.last = Some((seen, seen.played_at - now));
        }
        if now - self.heard > PATIENCE {
            return Err(SinkError::Failed("it takes no sound".into()));
        }
        if now - *checked >= CHECK_EVERY {
            *checked = now;
            stream.check()?;
        }
        Ok(())
    }

    #[expect(clippy::cast_precision_loss, reason = "a few seconds of frames")]
    fn report(&self) -> Result<ToneReport, SinkError> {
        let (Some(first), Some((last, delay))) = (self.first, self.last) else {
            return Err(SinkError::Failed("it took no sound".into()));
        };
        let nominal = (last.frame - first.frame) as f64 / f64::from(self.format.rate);
        let took = (last.played_at - first.played_at).as_secs_f64();
        let ratio = if took > 0.0 { nominal / took - 1.0 } else { 0.0 };
        let starved = last.starved - first.starved;
        Ok(ToneReport { format: self.format, delay, starved, drift: Ppm::from_ratio(ratio) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::wav_sink::WavSink;
    use crate::daemon::clock;

    #[test]
    fn left_right_and_both_sound_one_after_the_other() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("tone.wav");
        let mut sink = WavSink::new(path.clone(), Span::from_millis(80), clock::now);
        let (mut formats, mut parts) = (Vec::new(), Vec::new());
        let length = Span::from_millis(300);
        let report =
            play(&mut sink, clock::now, length, &mut |format| formats.push(format), &mut |part| {
                parts.push(part);
            })
            .expect("it sounds");
        assert_eq!((formats, parts), (vec![report.format], Part::ALL.to_vec()));
        assert!(report.drift.0.abs() < 1000.0, "{report:?}");
        let mut reader = hound::WavReader::open(&path).expect("a recording");
        assert_eq!(reader.spec().channels, 2);
        let full = f32::from(i16::MAX);
        let samples: Vec<f32> =
            reader.samples::<i16>().map(|s| f32::from(s.expect("reads")) / full).collect();
        // Energy of each channel in each third of what sounds.
        let sounding = samples.iter().position(|s| s.abs() > 1e-3).expect("it sounds") / 2;
        let frames = report.format.rate as usize * 3 / 10;
        let energy = |third: usize, channel: usize| -> f32 {
            let from = sounding + third * frames + frames / 10;
            (from..from + frames * 8 / 10).map(|frame| samples[2 * frame + channel].powi(2)).sum()
        };
        let loud = energy(2, 0);
        assert!(loud > 1.0);
        assert!((energy(2, 1) / loud - 1.0).abs() < 0.01);
        assert!((energy(0, 0) / loud - 1.0).abs() < 0.01 && energy(0, 1) < loud * 1e-6);
        assert!((energy(1, 1) / loud - 1.0).abs() < 0.01 && energy(1, 0) < loud * 1e-6);
    }

    #[test]
    fn an_output_that_cannot_be_opened_is_said() {
        struct Busy;
        impl Sink for Busy {
            fn open(
                &mut self,
                _: &mut dyn FnMut(Format) -> Feed,
            ) -> Result<Box<dyn Stream>, SinkError> {
                Err(SinkError::Busy)
            }
            fn name(&self) -> String {
                "busy".into()
            }
        }
        let length = Span::from_millis(10);
        let outcome = play(&mut Busy, clock::now, length, &mut |_| {}, &mut |_| {});
        assert_eq!(outcome, Err(SinkError::Busy));
    }
}
