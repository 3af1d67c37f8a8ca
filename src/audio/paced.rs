//! A sound card made of arithmetic: a thread that takes frames as a card would, at the pace
//! of a crystal of its own. The null and the file sink are built on it.
//!
//! ```text
//!   frame n is converted at  start + n / (rate · (1 + ppm·10⁻⁶))      computed, never measured
//!
//!   buffer  ├──period──┼──period──┼──period──┼──period──┤
//!                                   a period has room ──► the thread wakes and fills it
//! ```
//!
//! A thread that is woken too late finds the buffer played out. As with a real card the sound
//! has then stopped at the last frame, and goes on from there at the time of the refill: an
//! underrun loses no frame, it moves all later ones in time. Who listens to the observations
//! sees the jump, as with a real card.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::{io, thread};

use super::sink::{Feed, Format, Frame, SinkError, Stream};
use crate::base::time::Clock;
use crate::base::{LocalTime, Ppm, Span};

/// Frames a second of the cards made of arithmetic.
pub const RATE: u32 = 48_000;

/// How such a card runs.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Pace {
    /// Frames a second, nominal.
    pub rate: u32,
    /// What the crystal really does, against this device's clock.
    pub crystal: Ppm,
    /// Frames taken at once.
    pub period: u32,
    /// Frames between taking and converting; at least two periods.
    pub buffer: u32,
}

impl Pace {
    /// 48 kHz, 20 ms periods, and a buffer of about `buffer`: at least two periods, at most
    /// two seconds.
    #[must_use]
    pub fn new(crystal: Ppm, buffer: Span) -> Pace {
        let period = RATE / 50;
        let millis = u32::try_from(buffer.as_millis().clamp(0, 2_000)).expect("clamped");
        let periods = (millis / 20).max(2);
        Pace { rate: RATE, crystal, period, buffer: periods * period }
    }

    fn format(self) -> Format {
        Format { rate: self.rate, period: self.period as usize }
    }
}

/// The arithmetic, without the thread.
#[derive(Clone, Debug)]
struct Card {
    pace: Pace,
    /// When frame `base` is converted; none before the first frame was taken.
    start: Option<LocalTime>,
    base: u64,
    taken: u64,
    underruns: u64,
}

impl Card {
    fn new(pace: Pace) -> Card {
        Card { pace, start: None, base: 0, taken: 0, underruns: 0 }
    }

    /// When `frame` is converted, if the sound does not stop before it.
    #[expect(clippy::cast_precision_loss, reason = "2^53 frames are 6,000 years")]
    fn time_of(&self, start: LocalTime, frame: u64) -> LocalTime {
        let rate = f64::from(self.pace.rate) * (1.0 + self.pace.crystal.ratio());
        start + Span::from_secs_f64((frame - self.base) as f64 / rate)
    }

    /// When the next period has room, or none if it has room now.
    fn due(&self) -> Option<LocalTime> {
        let full = self.base + u64::from(self.pace.buffer);
        let next = self.taken + u64::from(self.pace.period);
        let start = self.start.filter(|_| next > full)?;
        Some(self.time_of(start, next - full + self.base))
    }

    /// Takes a period at `now`; returns its first frame's number and when that is converted.
    fn take(&mut self, now: LocalTime) -> (u64, LocalTime) {
        let frame = self.taken;
        self.taken += u64::from(self.pace.period);
        if let Some(start) = self.start {
            let at = self.time_of(start, frame);
            if now <= at {
                return (frame, at);
            }
            self.underruns += 1;
        }
        self.start = Some(now);
        self.base = frame;
        (frame, now)
    }
}

/// Some consecutive frames, and when they are converted.
#[derive(Clone, Copy, Debug)]
pub struct Played<'a> {
    /// Number of the first one, counted since the sink was opened.
    pub frame: u64,
    /// When that one is converted.
    pub at: LocalTime,
    /// All of them.
    pub frames: &'a [Frame],
}

/// What happens to the frames of such a card.
pub trait Tap: Send {
    /// Takes one period. Called on the card's thread, which may wait a little for a disk.
    ///
    /// # Errors
    ///
    /// When it can take no more; the card then stops and its stream says so.
    fn take(&mut self, played: &Played<'_>) -> io::Result<()>;
}

/// Lets everything go.
#[derive(Clone, Copy, Debug)]
pub struct Nowhere;

impl Tap for Nowhere {
    fn take(&mut self, _: &Played<'_>) -> io::Result<()> {
        Ok(())
    }
}

/// One card with what it is connected to.
struct Player {
    card: Card,
    feed: Feed,
    tap: Box<dyn Tap>,
    frames: Vec<Frame>,
}

impl Player {
    fn new(pace: Pace, feed: Feed, tap: Box<dyn Tap>) -> Player {
        let frames = vec![[0.0; 2]; pace.period as usize];
        Player { card: Card::new(pace), feed, tap, frames }
    }

    /// One period. `now` must not be before the card is due.
    fn turn(&mut self, now: LocalTime) -> io::Result<()> {
        let before = self.card.underruns;
        let (frame, at) = self.card.take(now);
        if self.card.underruns > before {
            tracing::debug!(frame, underruns = self.card.underruns, "paced output ran empty");
        }
        self.feed.fill(now, at - now, &mut self.frames);
        self.tap.take(&Played { frame, at, frames: &self.frames })
    }
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    failure: Mutex<Option<String>>,
}

/// Starts the thread. Dropping the stream stops it and waits for it; the tap is dropped there.
///
/// # Errors
///
/// When the system has no thread left.
pub fn start(
    pace: Pace,
    clock: Clock,
    feed: &mut dyn FnMut(Format) -> Feed,
    tap: Box<dyn Tap>,
) -> Result<Box<dyn Stream>, SinkError> {
    let mut player = Player::new(pace, feed(pace.format()), tap);
    let shared = Arc::new(Shared::default());
    let theirs = Arc::clone(&shared);
    let thread = thread::Builder::new()
        .name("paced output".into())
        .spawn(move || run(&mut player, clock, &theirs))
        .map_err(|e| SinkError::Failed(format!("no thread for it: {e}")))?;
    Ok(Box::new(PacedStream { shared, thread: Some(thread) }))
}

fn run(player: &mut Player, clock: Clock, shared: &Shared) {
    // A card's interrupt is not kept waiting by other programs, and neither should this be.
    // Where the system says no, it runs as any thread does; the playout thread tells of it.
    let _ = super::realtime::promote();
    while !shared.stop.load(Ordering::Acquire) {
        let now = clock();
        if let Some(due) = player.card.due().filter(|due| *due > now) {
            // Woken early or for nothing, the loop just looks at the clock again.
            thread::park_timeout((due - now).to_std());
        } else if let Err(e) = player.turn(now) {
            *shared.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(e.to_string());
            return;
        }
    }
}

struct PacedStream {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Stream for PacedStream {
    fn check(&mut self) -> Result<(), SinkError> {
        if !self.thread.as_ref().is_none_or(JoinHandle::is_finished) {
            return Ok(());
        }
        let failure = self.shared.failure.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Err(SinkError::Failed(failure.unwrap_or_else(|| "its thread has ended".into())))
    }
}

impl Drop for PacedStream {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // A panic of the thread has been reported where it happened.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::engine::playout::DacObservation;

    const START: LocalTime = LocalTime(7_000_000_000);

    /// A feed over rings that the test holds.
    pub fn rings(frames: usize) -> (Feed, rtrb::Producer<Frame>, rtrb::Consumer<DacObservation>) {
        let (producer, consumer) = rtrb::RingBuffer::new(frames);
        let (seen, observations) = rtrb::RingBuffer::new(1024);
        (Feed::new(consumer, seen, thread::current()), producer, observations)
    }

    fn pace(ppm: f64) -> Pace {
        Pace { rate: 48_000, crystal: Ppm(ppm), period: 960, buffer: 1_920 }
    }

    /// A card that has run from [`START`] on, always on time, for `periods`.
    fn running(ppm: f64, periods: u32) -> Card {
        let mut card = Card::new(pace(ppm));
        for _ in 0..periods {
            card.take(card.due().unwrap_or(START));
        }
        card
    }

    #[test]
    fn a_buffer_is_whole_periods_within_bounds() {
        let frames = |buffer| Pace::new(Ppm(0.0), buffer).buffer;
        assert_eq!(frames(Span::from_millis(80)), 3_840);
        assert_eq!(frames(Span::from_millis(79)), 2_880);
        assert_eq!(frames(Span::ZERO), 1_920);
        assert_eq!(frames(Span::from_secs(-1)), 1_920);
        assert_eq!(frames(Span::MAX), 96_000);
    }

    #[test]
    fn the_buffer_is_filled_at_once_and_then_a_period_at_a_time() {
        let mut card = Card::new(pace(0.0));
        assert_eq!(card.due(), None);
        assert_eq!(card.take(START), (0, START));
        assert_eq!(card.due(), None);
        assert_eq!(card.take(START), (960, START + Span::from_millis(20)));
        assert_eq!(card.due(), Some(START + Span::from_millis(20)));
        assert_eq!(card.take(START + Span::from_millis(20)).1, START + Span::from_millis(40));
    }

    #[test]
    fn an_hour_at_a_crystal_s_own_pace_is_exact() {
        let card = running(100.0, 180_000);
        let (frame, at) = card.clone().take(card.due().expect("running"));
        assert_eq!(frame, 180_000 * 960);
        assert_eq!((at - START).0, 3_599_640_035_996);
    }

    #[test]
    fn waking_late_within_the_buffer_changes_nothing() {
        let mut card = running(-40.0, 100);
        let due = card.due().expect("running");
        let mut on_time = card.clone();
        assert_eq!(card.take(due + Span::from_millis(19)), on_time.take(due));
        assert_eq!(card.due(), on_time.due());
        assert_eq!(card.underruns, 0);
    }

    #[test]
    fn waking_later_than_the_buffer_moves_the_rest_in_time() {
        let mut card = running(0.0, 100);
        let late = card.due().expect("running") + Span::from_millis(50);
        assert_eq!(card.take(late), (96_000, late));
        assert_eq!(card.underruns, 1);
        assert_eq!(card.due(), None, "the buffer is filled again at once");
        assert_eq!(card.take(late).1, late + Span::from_millis(20));
        assert_eq!(card.due(), Some(late + Span::from_millis(20)));
        assert_eq!(card.underruns, 1);
    }

    #[test]
    fn the_feed_learns_when_each_period_is_converted() {
        let (feed, mut frames, mut seen) = rings(4_096);
        for _ in 0..1_000 {
            frames.push([0.5, 0.5]).expect("room");
        }
        let mut player = Player::new(pace(0.0), feed, Box::new(Nowhere));
        player.turn(START).expect("nothing to fail");
        player.turn(START + Span::from_micros(3)).expect("nothing to fail");
        player.turn(START + Span::from_millis(21)).expect("nothing to fail");
        let expected = [(0, 0, 0), (960, 20, 920), (1_920, 40, 1_880)];
        for (frame, millis, starved) in expected {
            let played_at = START + Span::from_millis(millis);
            assert_eq!(seen.pop(), Ok(DacObservation { frame, played_at, starved }));
        }
    }

    struct FullDisk(mpsc::Sender<u64>);

    impl Tap for FullDisk {
        fn take(&mut self, played: &Played<'_>) -> io::Result<()> {
            let _ = self.0.send(played.frame);
            if played.frame < 960 { Ok(()) } else { Err(io::Error::other("disk full")) }
        }
    }

    fn stopped_clock() -> LocalTime {
        START
    }

    #[test]
    fn a_tap_that_fails_stops_the_stream_with_its_reason() {
        let (sender, taken) = mpsc::channel();
        let mut feed = Some(rings(64).0);
        let mut stream = start(
            pace(0.0),
            stopped_clock,
            &mut |format| {
                assert_eq!(format, Format { rate: 48_000, period: 960 });
                feed.take().expect("asked once")
            },
            Box::new(FullDisk(sender)),
        )
        .expect("a thread");
        // The channel closes when the thread has dropped its tap.
        assert_eq!(taken.iter().collect::<Vec<_>>(), [0, 960]);
        let failure = loop {
            match stream.check() {
                Ok(()) => thread::yield_now(),
                Err(e) => break e,
            }
        };
        assert_eq!(failure, SinkError::Failed("disk full".into()));
    }
}
