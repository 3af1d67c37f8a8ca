//! A sound card or a sound server, through cpal. Wrapped, not trusted:
//!
//! - The time of a frame is this device's clock, read first thing in the callback, plus the
//!   *difference* of cpal's two times. Their origin and clock differ between systems, the
//!   difference is the delay everywhere. It is bounded, because drivers invent values.
//! - A callback may ask for any number of frames, whatever was agreed.
//! - Underruns are not believed to be reported; who reads the observations sees them as jumps.
//! - A dead sound server makes the library's thread call the error callback without pause and
//!   for ever. Errors are counted there, and judged in `check` by the playout thread.
//!
//! The callback allocates nothing, takes no lock and writes no log.

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicI64, AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use cpal::traits::{DeviceTrait, StreamTrait};
use cpal::{
    BufferSize, Device, ErrorKind, I24, OutputCallbackInfo, SampleFormat, SizedSample,
    StreamConfig, SupportedBufferSize, SupportedStreamConfig, U24,
};

use super::convert::{DeviceSample, interleave, to_signed, to_unsigned};
use super::devices::{self, Complaints, Probe};
use super::realtime::{Promotion, promote};
use super::sink::{Feed, Format, Frame, Sink, SinkError, Stream};
use crate::base::limits::SAMPLE_RATES;
use crate::base::time::Clock;
use crate::base::{LocalTime, Span};

/// Frames handed over at once; a longer callback is filled in several pieces.
const PIECE: usize = 4_096;

/// The longest delay that is believed. Bluetooth and deep server buffers stay below.
const MAX_DELAY: Span = Span::from_secs(2);

/// Errors between two checks that a working device may have: some report dozens at the start.
const MAX_ERRORS: u32 = 50;

/// A device that has not called for this long does not play.
const SILENCE: Span = Span::from_millis(500);

/// The same while it starts. A server first calls to fill its buffer, then not before it plays,
/// which takes some of them two seconds.
const START: Span = Span::from_secs(3);

/// How long building a stream may take, where the system can tell.
const BUILD: Duration = Duration::from_millis(500);

/// Once a stream has failed this often in a row, its thread rests after each error: it would
/// otherwise fill a processor, at real-time priority, until `check` comes by.
const REST: Duration = Duration::from_millis(2);

/// The sink; see the page's head.
#[derive(Debug)]
pub struct CpalSink {
    device: Option<String>,
    buffer: Span,
    clock: Clock,
}

impl CpalSink {
    /// On the device with this id or description, or the default one. `buffer` is the time
    /// wanted between taking a frame and its sounding: two periods.
    #[must_use]
    pub fn new(device: Option<String>, buffer: Span, clock: Clock) -> CpalSink {
        CpalSink { device, buffer, clock }
    }

    fn error(&self, error: &cpal::Error) -> SinkError {
        devices::failure(error, self.device.as_deref())
    }

    /// What the device is opened with.
    fn setting(&self, device: &Device) -> Result<Setting, SinkError> {
        let supported = device.default_output_config().map_err(|e| self.error(&e))?;
        let setting = Setting::new(&supported, devices::probe(device), self.buffer);
        if SAMPLE_RATES.contains(&setting.rate) {
            Ok(setting)
        } else {
            Err(SinkError::Failed(format!("it wants {} frames a second", setting.rate)))
        }
    }
}

impl Sink for CpalSink {
    fn open(&mut self, feed: &mut dyn FnMut(Format) -> Feed) -> Result<Box<dyn Stream>, SinkError> {
        let _complaints = Complaints::listen();
        let device = devices::find(self.device.as_deref())?;
        let setting = self.setting(&device)?;
        let built = Built::new(&device, &setting, self.clock).map_err(|e| self.error(&e))?;
        let format = Format { rate: setting.rate, period: built.period(&setting) };
        tracing::debug!(device = %device, ?setting, period = format.period, "output device opened");
        let watch = Arc::clone(&built.watch);
        let stream = built.play(feed(format)).map_err(|e| self.error(&e))?;
        let (device, clock) = (self.device.clone(), self.clock);
        Ok(Box::new(CpalStream { _stream: stream, watch, device, clock }))
    }

    fn name(&self) -> String {
        self.device.clone().unwrap_or_else(|| "the default sound device".into())
    }
}

/// How a device is opened.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Setting {
    rate: u32,
    channels: u16,
    sample: SampleFormat,
    period: u32,
    is_card: bool,
}

impl Setting {
    fn new(supported: &SupportedStreamConfig, probe: Probe, buffer: Span) -> Setting {
        let rate = probe.rate.unwrap_or(supported.sample_rate());
        // The buffer is two periods.
        let micros = (buffer.0 / 2_000).clamp(2_500, 1_000_000).unsigned_abs();
        let wanted = u32::try_from(u64::from(rate) * micros / 1_000_000).unwrap_or(u32::MAX);
        let period = match *supported.buffer_size() {
            SupportedBufferSize::Range { min, max } => wanted.clamp(min, max.max(min)),
            SupportedBufferSize::Unknown => wanted,
        };
        Setting {
            rate,
            channels: supported.channels(),
            sample: supported.sample_format(),
            period,
            is_card: probe.is_card,
        }
    }

    fn config(&self, buffer_size: BufferSize) -> StreamConfig {
        StreamConfig { channels: self.channels, sample_rate: self.rate, buffer_size }
    }
}

/// A stream that is built but not yet playing, because it has no feed.
struct Built {
    stream: cpal::Stream,
    hand: rtrb::Producer<Feed>,
    watch: Arc<Watch>,
}

impl Built {
    /// With the period wanted, or else with the device's own.
    fn new(device: &Device, setting: &Setting, clock: Clock) -> Result<Built, cpal::Error> {
        let fixed = BufferSize::Fixed(setting.period);
        match Built::with(device, setting, fixed, clock) {
            Err(e) if e.kind() == ErrorKind::UnsupportedConfig => {
                Built::with(device, setting, BufferSize::Default, clock)
            }
            built => built,
        }
    }

    fn with(
        device: &Device,
        setting: &Setting,
        buffer_size: BufferSize,
        clock: Clock,
    ) -> Result<Built, cpal::Error> {
        let build = match setting.sample {
            SampleFormat::F32 => Built::typed::<f32>,
            SampleFormat::F64 => Built::typed::<f64>,
            SampleFormat::I32 => Built::typed::<i32>,
            SampleFormat::I24 => Built::typed::<I24>,
            SampleFormat::I16 => Built::typed::<i16>,
            SampleFormat::I8 => Built::typed::<i8>,
            SampleFormat::U32 => Built::typed::<u32>,
            SampleFormat::U24 => Built::typed::<U24>,
            SampleFormat::U16 => Built::typed::<u16>,
            SampleFormat::U8 => Built::typed::<u8>,
            other => {
                let message = format!("it takes only {other} samples");
                return Err(cpal::Error::with_message(ErrorKind::UnsupportedOperation, message));
            }
        };
        build(device, setting, buffer_size, clock)
    }

    fn typed<T: SizedSample + DeviceSample>(
        device: &Device,
        setting: &Setting,
        buffer_size: BufferSize,
        clock: Clock,
    ) -> Result<Built, cpal::Error> {
        // The feed needs the period, which is known only once the stream is built. So it is
        // handed in afterwards, through a ring of one, because the callback must not lock.
        let (hand, feed) = rtrb::RingBuffer::new(1);
        let watch = Arc::new(Watch::new(clock()));
        let mut callback = Callback::new(setting, feed, Arc::clone(&watch));
        let errors = Arc::clone(&watch);
        let stream = device.build_output_stream::<T, _, _>(
            setting.config(buffer_size),
            move |out, info| callback.run(clock(), delay(info), out),
            move |error| errors.note(&error),
            Some(BUILD),
        )?;
        Ok(Built { stream, hand, watch })
    }

    fn period(&self, setting: &Setting) -> usize {
        let told = self.stream.buffer_size().ok().filter(|n| *n > 0);
        told.unwrap_or(setting.period) as usize
    }

    fn play(mut self, feed: Feed) -> Result<cpal::Stream, cpal::Error> {
        // The ring has room for exactly this one.
        let _ = self.hand.push(feed);
        self.stream.play()?;
        Ok(self.stream)
    }
}

fn delay(info: &OutputCallbackInfo) -> Span {
    let times = info.timestamp();
    bounded(times.playback.saturating_duration_since(times.callback).into())
}

fn bounded(delay: Span) -> Span {
    delay.clamp(Span::ZERO, MAX_DELAY)
}

/// What the device's thread does.
struct Callback {
    ring: rtrb::Consumer<Feed>,
    feed: Option<Feed>,
    piece: Box<[Frame]>,
    rate: u32,
    channels: usize,
    may_promote: bool,
    watch: Arc<Watch>,
}

impl Callback {
    fn new(setting: &Setting, ring: rtrb::Consumer<Feed>, watch: Arc<Watch>) -> Callback {
        Callback {
            ring,
            feed: None,
            piece: vec![[0.0; 2]; PIECE].into(),
            rate: setting.rate,
            channels: usize::from(setting.channels),
            may_promote: setting.is_card,
            watch,
        }
    }

    fn run<T: DeviceSample>(&mut self, now: LocalTime, delay: Span, out: &mut [T]) {
        self.watch.called(now);
        if self.may_promote {
            self.may_promote = false;
            self.watch.promoted(promote());
        }
        if self.feed.is_none() {
            self.feed = self.ring.pop().ok();
        }
        let mut before = 0;
        for out in out.chunks_mut(PIECE * self.channels) {
            let frames = &mut self.piece[..out.len() / self.channels];
            match &mut self.feed {
                Some(feed) => feed.fill(now, delay + length(before, self.rate), frames),
                None => frames.fill([0.0; 2]),
            }
            interleave(frames, self.channels, out);
            before += frames.len();
        }
    }
}

fn length(frames: usize, rate: u32) -> Span {
    let frames = i64::try_from(frames).unwrap_or(i64::MAX);
    Span(frames.saturating_mul(1_000_000_000) / i64::from(rate.max(1)))
}

/// What the device's thread tells the playout thread.
#[derive(Debug)]
struct Watch {
    /// Errors since the last check, and since the last callback.
    errors: AtomicU32,
    errors_in_a_row: AtomicU32,
    fatal: AtomicI32,
    /// The clock at the last callback, or at the building if there was none.
    called_at: AtomicI64,
    opened_at: LocalTime,
    promotion: AtomicI32,
}

/// The device is gone, or the stream must be built anew.
const GONE: i32 = 1;
const INVALID: i32 = 2;

/// Besides the error numbers, which are not negative.
const NOT_PROMOTED: i32 = -1;
const PROMOTED: i32 = -2;
const ALREADY: i32 = -3;

impl Watch {
    fn new(now: LocalTime) -> Watch {
        Watch {
            errors: AtomicU32::new(0),
            errors_in_a_row: AtomicU32::new(0),
            fatal: AtomicI32::new(0),
            called_at: AtomicI64::new(now.0),
            opened_at: now,
            promotion: AtomicI32::new(NOT_PROMOTED),
        }
    }

    fn called(&self, now: LocalTime) {
        self.called_at.store(now.0, Relaxed);
        self.errors_in_a_row.store(0, Relaxed);
    }

    fn promoted(&self, promotion: Promotion) {
        let code = match promotion {
            Promotion::AlreadyRealtime => ALREADY,
            Promotion::Promoted => PROMOTED,
            Promotion::Refused(errno) => errno.max(0),
        };
        self.promotion.store(code, Relaxed);
    }

    /// On the device's thread.
    fn note(&self, error: &cpal::Error) {
        match error.kind() {
            ErrorKind::DeviceNotAvailable | ErrorKind::HostUnavailable => {
                self.fatal.store(GONE, Relaxed);
            }
            ErrorKind::StreamInvalidated => self.fatal.store(INVALID, Relaxed),
            // Told for the record: the sound goes on.
            ErrorKind::DeviceChanged | ErrorKind::RealtimeDenied => return,
            _ => {}
        }
        self.errors.fetch_add(1, Relaxed);
        if self.errors_in_a_row.fetch_add(1, Relaxed) >= MAX_ERRORS {
            std::thread::sleep(REST);
        }
    }

    /// Whether the device still works, as far as can be seen at `now`.
    fn judge(&self, now: LocalTime, device: Option<&str>) -> Result<(), SinkError> {
        match self.fatal.load(Relaxed) {
            GONE => return Err(SinkError::Missing(device.map(Into::into))),
            INVALID => return Err(SinkError::Failed("it must be opened anew".into())),
            _ => {}
        }
        let errors = self.errors.swap(0, Relaxed);
        if errors > MAX_ERRORS {
            return Err(SinkError::Failed(format!("it reported {errors} errors at once")));
        }
        if errors > 0 {
            tracing::debug!(errors, "the output device reported errors");
        }
        let quiet = now - LocalTime(self.called_at.load(Relaxed));
        let patience = if now - self.opened_at <= START { START } else { SILENCE };
        if quiet > patience {
            let millis = quiet.as_millis();
            return Err(SinkError::Failed(format!("it has taken no sound for {millis} ms")));
        }
        Ok(())
    }

    /// What became of the wish for real-time priority, told once.
    fn log_promotion(&self) {
        match self.promotion.swap(NOT_PROMOTED, Relaxed) {
            NOT_PROMOTED => {}
            PROMOTED => tracing::debug!("the device's thread has real-time priority now"),
            ALREADY => tracing::debug!("the device's thread had real-time priority before"),
            errno => tracing::info!(
                errno,
                "no real-time priority for the device's thread; a busy machine may stutter"
            ),
        }
    }
}

struct CpalStream {
    /// Held so that it plays; dropping it stops and joins the device's thread.
    _stream: cpal::Stream,
    watch: Arc<Watch>,
    device: Option<String>,
    clock: Clock,
}

impl Stream for CpalStream {
    fn check(&mut self) -> Result<(), SinkError> {
        self.watch.log_promotion();
        self.watch.judge((self.clock)(), self.device.as_deref())
    }
}

impl DeviceSample for I24 {
    fn from_unit(x: f32) -> I24 {
        I24::new_unchecked(to_signed(x, 24))
    }
}

impl DeviceSample for U24 {
    fn from_unit(x: f32) -> U24 {
        U24::new_unchecked(to_unsigned(x, 24).cast_signed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::paced::tests::rings;
    use crate::engine::playout::DacObservation;

    const NOW: LocalTime = LocalTime(9_000_000_000);

    fn setting(channels: u16) -> Setting {
        let sample = SampleFormat::I16;
        Setting { rate: 48_000, channels, sample, period: 480, is_card: false }
    }

    fn callback(channels: u16) -> (Callback, rtrb::Producer<Feed>, Arc<Watch>) {
        let (hand, ring) = rtrb::RingBuffer::new(1);
        let watch = Arc::new(Watch::new(NOW));
        (Callback::new(&setting(channels), ring, Arc::clone(&watch)), hand, watch)
    }

    #[test]
    fn a_period_is_half_the_buffer_within_what_the_device_can() {
        let period = |range, buffer| {
            let config = SupportedStreamConfig::new(2, 48_000, range, SampleFormat::F32);
            Setting::new(&config, Probe::default(), buffer).period
        };
        let any = SupportedBufferSize::Unknown;
        assert_eq!(period(any, Span::from_millis(80)), 1_920);
        assert_eq!(period(any, Span::ZERO), 120);
        assert_eq!(period(any, Span::MAX), 48_000);
        let range = SupportedBufferSize::Range { min: 256, max: 1_024 };
        assert_eq!(period(range, Span::from_millis(80)), 1_024);
        assert_eq!(period(range, Span::from_millis(4)), 256);
    }

    #[test]
    fn the_rate_is_the_one_that_is_not_resampled() {
        let any = SupportedBufferSize::Unknown;
        let config = SupportedStreamConfig::new(2, 48_000, any, SampleFormat::F32);
        let probe = Probe { rate: Some(44_100), is_card: true };
        let setting = Setting::new(&config, probe, Span::from_millis(80));
        assert_eq!((setting.rate, setting.period), (44_100, 1_764));
    }

    #[test]
    fn a_callback_longer_than_a_piece_is_filled_with_the_delay_advanced() {
        let (feed, mut frames, mut seen) = rings(8_192);
        for _ in 0..6_000 {
            frames.push([0.5, -0.5]).expect("room");
        }
        let (mut callback, mut hand, _) = callback(2);
        assert!(hand.push(feed).is_ok());
        let mut out = vec![1_i16; 2 * 5_000];
        callback.run(NOW, Span::from_millis(10), &mut out);
        assert!(out.chunks_exact(2).all(|frame| frame == [16_384, -16_384]));
        let first = NOW + Span::from_millis(10);
        let second = first + Span(4_096 * 1_000_000_000 / 48_000);
        for (frame, played_at) in [(0, first), (4_096, second)] {
            assert_eq!(seen.pop(), Ok(DacObservation { frame, played_at, starved: 0 }));
        }
    }

    #[test]
    fn before_there_is_a_feed_a_device_gets_silence() {
        let (mut callback, _hand, watch) = callback(1);
        let mut out = [9_i16; 480];
        callback.run(NOW + Span::from_millis(1), Span::ZERO, &mut out);
        assert_eq!(out, [0; 480]);
        assert_ne!(watch.called_at.load(Relaxed), NOW.0);
    }

    #[test]
    fn an_invented_delay_is_bounded() {
        assert_eq!(bounded(Span::MAX), Span::from_secs(2));
        assert_eq!(bounded(Span(-5)), Span::ZERO);
        assert_eq!(bounded(Span::from_millis(80)), Span::from_millis(80));
    }

    #[test]
    fn a_device_that_stops_calling_has_failed() {
        let watch = Watch::new(NOW);
        assert_eq!(watch.judge(NOW + Span::from_secs(3), None), Ok(()), "it may take a while");
        assert!(watch.judge(NOW + Span::from_millis(3_001), None).is_err());
        watch.called(NOW);
        assert_eq!(watch.judge(NOW + Span::from_secs(2), None), Ok(()), "its buffer is full");
        let later = NOW + Span::from_secs(10);
        watch.called(later);
        assert_eq!(watch.judge(later + Span::from_millis(500), None), Ok(()));
        assert!(watch.judge(later + Span::from_millis(501), None).is_err());
    }

    #[test]
    fn a_device_that_only_reports_errors_has_failed() {
        let watch = Watch::new(NOW);
        let report = |n: u32| (0..n).for_each(|_| watch.note(&ErrorKind::Xrun.into()));
        for _ in 0..3 {
            report(MAX_ERRORS);
            watch.called(NOW);
            assert_eq!(watch.judge(NOW, None), Ok(()));
        }
        report(MAX_ERRORS + 1);
        assert!(matches!(watch.judge(NOW, None), Err(SinkError::Failed(_))));
    }

    #[test]
    fn a_device_that_was_pulled_out_is_missing() {
        let watch = Watch::new(NOW);
        watch.note(&ErrorKind::DeviceChanged.into());
        assert_eq!(watch.judge(NOW, Some("usb")), Ok(()));
        watch.note(&ErrorKind::DeviceNotAvailable.into());
        assert_eq!(watch.judge(NOW, Some("usb")), Err(SinkError::Missing(Some("usb".into()))));
    }

    #[test]
    fn packed_formats_hold_24_bits() {
        assert_eq!(I24::from_unit(1.0).inner(), 8_388_607);
        assert_eq!(I24::from_unit(-1.0).inner(), -8_388_608);
        assert_eq!(U24::from_unit(-1.0).inner(), 0);
        assert_eq!(U24::from_unit(1.0).inner(), 0xFF_FFFF);
    }
}
