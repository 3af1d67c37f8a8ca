//! The thread between the room and the sink: keeps the ring filled with what
//! [`Playout`] orders and the mixer renders.
//!
//! It sleeps until the sink's callback wakes it, once a period. Per chunk it neither
//! allocates, logs nor blocks; commands, opening a device and building a resampler do, and
//! are done when the ring is full. It decides nothing about time: that is [`Playout`]'s.

use std::collections::VecDeque;
use std::thread::{self, JoinHandle, Thread};
use std::time::Duration;

use tracing::{debug, info, warn};

use super::mixer::Mixer;
use super::realtime::{Promotion, promote};
use super::sink::{Feed, Format, Frame, Sink, SinkError, Stream};
use crate::base::pcm::PcmReader;
use crate::base::{Clock, LocalTime, SegmentId, Span};
use crate::engine::clock::ClockModel;
use crate::engine::playout::{DacObservation, Playout, PlayoutPlan, Ramp};
use crate::wire::message::OutputState;

/// Commands on their way; more wait in the handle.
const COMMANDS: usize = 64;

/// Observations on their way: seconds of callbacks.
const OBSERVATIONS: usize = 256;

/// Chunks a second: 5 ms are fine enough for the servo and coarse enough to cost little.
const CHUNKS_PER_S: u32 = 200;

/// The ring holds the larger of a period and this, and this once more.
///
/// At a callback the sink takes a whole period at once, so a period must be there; the rest
/// is what is left if this thread was not woken in time. The next callback is a period away,
/// so it may be late by a period and 10 ms less the period: with usual periods of 10 to 40 ms
/// that is longer than a loaded machine keeps a woken thread waiting. Every frame more would
/// delay the start of music.
const SLACK_MS: u32 = 10;

/// The ring grows by this each time it ran dry, up to so much.
const GROW_MS: u32 = 5;
const GROW_MAX_MS: u32 = 40;

/// A device that calls no more is as good as gone.
const DEAF_AFTER: Span = Span::from_millis(500);

/// While it starts it may take longer: a sound server fills its buffer, and asks again only once it
/// plays.
const DEAF_AFTER_OPEN: Span = Span::from_millis(2_500);

/// Between questions whether the stream still works.
const CHECK_EVERY: Span = Span::from_millis(250);

/// Between attempts to open a device: doubled each time.
const RETRY_FIRST: Span = Span::from_millis(500);
const RETRY_LAST: Span = Span::from_secs(5);

/// A device that worked is expected back: a plug that was pulled by mistake, a sound server that
/// starts again. For so long it is tried this often, so that it plays within two seconds after it
/// is there; looking for ever would cost a device without a sound card some of its processor.
const RETRY_LOST: Span = Span::from_millis(500);
const LOST_FOR: Span = Span::from_secs(600);

/// A device that ran so long is no failing one: back to the first delay.
const PROVEN_AFTER: Span = Span::from_secs(5);

/// Between reports.
const REPORT_EVERY: Span = Span::from_millis(200);

/// Sleep at most, with a device and without: commands are looked at as often.
const SLEEP: Duration = Duration::from_millis(100);

/// Fade of the end.
const QUIT_FADE_MS: u32 = 20;

/// The end waits for the fade to be heard, but no longer than this.
const QUIT_WITHIN: Span = Span::from_millis(400);

/// What the playout thread is told.
#[derive(Debug)]
pub enum PlayoutCommand {
    /// Room time, anew.
    Clock(ClockModel),
    /// There is no room time (any more).
    NoClock,
    /// What to sound when, anew.
    Plan(PlayoutPlan),
    /// Decoded frames of a segment.
    Load {
        /// Whose.
        segment: SegmentId,
        /// The window.
        pcm: PcmReader,
    },
    /// They are not needed any more.
    Unload {
        /// Whose.
        segment: SegmentId,
    },
    /// Fade out, then stop.
    Quit,
}

/// How the playout does: about five times a second, and when something changed.
#[derive(Clone, PartialEq, Debug)]
pub struct PlayoutReport {
    /// The device.
    pub output: OutputState,
    /// What it turned out to be.
    pub format: Option<Format>,
    /// How far the playout is behind the room's timeline as this device sees it, seconds.
    pub error_s: f64,
    /// What the servo adds to the rate that both models foresee.
    pub correction_ppm: f64,
    /// The converter against this device's clock: positive runs slow.
    pub dac_ppm: f64,
    /// One standard deviation of the converter's line, seconds.
    pub dac_sigma_s: f64,
    /// Decoded frames that wait: of the sounding segment and in the ring.
    pub buffer_ms: f64,
    /// Times that something should have sounded and there were no frames.
    pub underruns: u32,
    /// From writing a frame to its leaving the converter.
    pub depth: Span,
    /// What is heard.
    pub sounding: Option<SegmentId>,
    /// Whether both models are usable and what sounds is in place.
    pub locked: bool,
    /// Whether the device's position is so coarse that it is averaged over a minute.
    pub coarse: bool,
}

/// Whoever hears the reports; called on the playout thread, must not block.
pub type Reports = Box<dyn FnMut(PlayoutReport) + Send>;

/// The other end of the playout thread.
pub struct PlayoutHandle {
    commands: rtrb::Producer<PlayoutCommand>,
    backlog: VecDeque<PlayoutCommand>,
    thread: JoinHandle<()>,
}

impl PlayoutHandle {
    /// Tells the thread something, without waiting. If its queue is full, because it hangs in
    /// a driver, the command waits here; a newer clock or plan then replaces an older one.
    pub fn send(&mut self, command: PlayoutCommand) {
        if self.commands.is_abandoned() {
            return;
        }
        let kind = std::mem::discriminant(&command);
        let wakes = matches!(command, PlayoutCommand::Quit);
        if matches!(command, PlayoutCommand::Clock(_) | PlayoutCommand::Plan(_)) {
            self.backlog.retain(|older| std::mem::discriminant(older) != kind);
        }
        self.backlog.push_back(command);
        while let Some(next) = self.backlog.pop_front() {
            if let Err(rtrb::PushError::Full(next)) = self.commands.push(next) {
                self.backlog.push_front(next);
                break;
            }
        }
        if wakes {
            self.thread.thread().unpark();
        }
    }

    /// Waits until the thread has stopped; send [`PlayoutCommand::Quit`] first.
    pub fn join(mut self) {
        while !self.backlog.is_empty() && !self.commands.is_abandoned() {
            self.send(PlayoutCommand::Quit);
            thread::sleep(Duration::from_millis(1));
        }
        if self.thread.join().is_err() {
            warn!("the part that plays had ended with a fault; it is begun anew");
        }
    }
}

/// Starts the playout thread on `sink`.
///
/// # Panics
///
/// When the system starts no thread.
pub fn start(clock: Clock, sink: Box<dyn Sink>, reports: Reports) -> PlayoutHandle {
    let (commands, inbox) = rtrb::RingBuffer::new(COMMANDS);
    let thread = thread::Builder::new()
        .name("playout".into())
        .spawn(move || {
            announce(promote());
            let mut pump = Pump::new(clock, sink, inbox, reports, thread::current());
            while let Turn::Sleep(time) = pump.turn() {
                thread::park_timeout(time);
            }
        })
        .expect("the system starts threads");
    PlayoutHandle { commands, backlog: VecDeque::new(), thread }
}

fn announce(promotion: Promotion) {
    if let Promotion::Refused(error) = promotion {
        info!(error, "no real-time priority; under heavy load playback may falter");
    }
}

/// What to do after a turn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Turn {
    Sleep(Duration),
    Stop,
}

/// By how much the longest depth seen is lowered at each turn of the thread.
const DEPTH_FORGOTTEN: Span = Span::from_micros(200);

/// An open device.
struct Output {
    stream: Box<dyn Stream>,
    format: Format,
    ring: rtrb::Producer<Frame>,
    seen: rtrb::Consumer<DacObservation>,
    block: Vec<Frame>,
    /// Frames put into the ring since it was opened.
    pushed: u64,
    target: usize,
    target_max: usize,
    opened: LocalTime,
    heard: Option<LocalTime>,
    checked: LocalTime,
    underruns: u32,
}

/// Everything the thread has.
struct Pump {
    clock: Clock,
    sink: Box<dyn Sink>,
    commands: rtrb::Consumer<PlayoutCommand>,
    reports: Reports,
    thread: Thread,
    playout: Playout,
    mixer: Mixer,
    plan: PlayoutPlan,
    output: Option<Output>,
    state: OutputState,
    retry_at: LocalTime,
    retry_after: Span,
    /// When a device that had worked was lost.
    lost_at: Option<LocalTime>,
    /// The log has a line that says why there is no sound.
    is_told: bool,
    reported: Option<(LocalTime, PlayoutReport)>,
    quitting: Option<(LocalTime, Ramp)>,
    depth: Span,
}

impl Pump {
    fn new(
        clock: Clock,
        sink: Box<dyn Sink>,
        commands: rtrb::Consumer<PlayoutCommand>,
        reports: Reports,
        thread: Thread,
    ) -> Pump {
        Pump {
            clock,
            sink,
            commands,
            reports,
            thread,
            playout: Playout::new(),
            mixer: Mixer::new(),
            plan: PlayoutPlan::silent(),
            output: None,
            state: OutputState::None,
            retry_at: LocalTime(i64::MIN),
            retry_after: RETRY_FIRST,
            lost_at: None,
            is_told: false,
            reported: None,
            quitting: None,
            depth: Span::ZERO,
        }
    }

    /// Once around: called when the sink has taken frames, or after a sleep.
    fn turn(&mut self) -> Turn {
        let now = (self.clock)();
        self.obey(now);
        self.supervise(now);
        // To open an output may take seconds.
        let now = (self.clock)();
        self.observe(now);
        self.fill();
        self.note_depth(now);
        if self.is_over(now) {
            return Turn::Stop;
        }
        self.mixer.build_one(&self.plan);
        self.report(now);
        Turn::Sleep(SLEEP)
    }

    /// From now until the next frame sounds. It is longest just after the device has called
    /// and the ring is full again; what must be obeyed at its instant has to be there before
    /// that much ahead, so the longest counts, slowly forgotten.
    fn note_depth(&mut self, now: LocalTime) {
        let next = self.output.as_ref().and_then(|out| self.playout.played_at(out.pushed));
        let present = next.map_or(Span::ZERO, |played| played - now);
        self.depth = present.max(self.depth - DEPTH_FORGOTTEN);
    }

    fn obey(&mut self, now: LocalTime) {
        if self.commands.is_abandoned() && self.commands.is_empty() {
            self.quit(now);
        }
        while let Ok(command) = self.commands.pop() {
            match command {
                PlayoutCommand::Clock(model) => self.playout.set_clock(now, Some(model)),
                PlayoutCommand::NoClock => self.playout.set_clock(now, None),
                PlayoutCommand::Plan(plan) => {
                    self.plan = plan;
                    self.playout.set_plan(plan);
                }
                PlayoutCommand::Load { segment, pcm } => self.mixer.load(segment, pcm),
                PlayoutCommand::Unload { segment } => self.mixer.unload(segment),
                PlayoutCommand::Quit => self.quit(now),
            }
        }
    }

    fn quit(&mut self, now: LocalTime) {
        let frames = self.output.as_ref().map_or(0, |out| out.format.rate * QUIT_FADE_MS / 1_000);
        let first = self.output.as_ref().map_or(0, |out| out.pushed.cast_signed());
        self.quitting.get_or_insert((now, Ramp::fade_out(first, frames)));
    }

    /// Opens a device if there is none, and lets go of one that does not work.
    fn supervise(&mut self, now: LocalTime) {
        if let Some(Err(error)) = self.output.as_mut().map(|output| output.check(now)) {
            warn!(output = self.sink.name(), %error, "the output stopped; trying again");
            self.is_told = true;
            self.close(now, &error);
        }
        if self.output.is_none() && self.quitting.is_none() && now >= self.retry_at {
            self.open();
        }
    }

    fn open(&mut self) {
        let mut ends = None;
        let thread = self.thread.clone();
        let opened = self.sink.open(&mut |format| {
            let (feed, half) = Half::new(format, thread.clone());
            ends = Some(half);
            feed
        });
        let now = (self.clock)();
        match (opened, ends) {
            (Ok(stream), Some(half)) => self.use_output(half.with(stream, now)),
            (Ok(_), None) => self.fail(now, &SinkError::Failed("it asked for no feed".into())),
            (Err(error), _) => self.fail(now, &error),
        }
    }

    fn use_output(&mut self, output: Output) {
        let Format { rate, period } = output.format;
        info!(output = self.sink.name(), rate, period, ring = output.target, "output opened");
        self.playout.output_opened(rate);
        self.mixer.set_output(rate, output.block.len());
        self.state = OutputState::Ok;
        self.is_told = false;
        self.output = Some(output);
    }

    fn close(&mut self, now: LocalTime, error: &SinkError) {
        if self.output.take().is_some_and(|output| now - output.opened >= PROVEN_AFTER) {
            self.retry_after = RETRY_FIRST;
            self.lost_at = Some(now);
        }
        self.playout.output_lost();
        self.fail(now, error);
    }

    fn fail(&mut self, now: LocalTime, error: &SinkError) {
        // It is tried again and again, and said once.
        if std::mem::replace(&mut self.is_told, true) {
            debug!(output = self.sink.name(), %error, "no output");
        } else {
            warn!(output = self.sink.name(), %error, "no sound here, trying again; `groovebox outputs` lists what there is");
        }
        self.state = OutputState::from(error);
        self.retry_at = now + self.retry_after;
        let is_expected = self.lost_at.is_some_and(|at| now - at < LOST_FOR);
        let longest = if is_expected { RETRY_LOST } else { RETRY_LAST };
        self.retry_after = (self.retry_after + self.retry_after).min(longest);
    }

    fn observe(&mut self, now: LocalTime) {
        let Some(output) = &mut self.output else { return };
        while let Ok(seen) = output.seen.pop() {
            self.playout.observe(seen);
            output.heard = Some(now);
        }
        let underruns = self.playout.underruns();
        if underruns != output.underruns {
            output.underruns = underruns;
            output.grow();
        }
    }

    /// Puts chunks into the ring until it holds what it should.
    fn fill(&mut self) {
        let Some(output) = &mut self.output else { return };
        while output.waiting() < output.target {
            let chunk = self.playout.chunk(output.pushed, output.block.len());
            self.mixer.render(&chunk, &mut output.block);
            if let Some((_, fade)) = &self.quitting {
                super::mixer::apply(fade, chunk.first, &mut output.block);
            }
            if !output.push() {
                return;
            }
        }
    }

    /// Whether the last fade has been heard, or nobody is there to hear it.
    fn is_over(&self, now: LocalTime) -> bool {
        let Some((since, fade)) = &self.quitting else { return false };
        let end = (fade.start + i64::from(fade.frames)).cast_unsigned();
        let pushed = self.output.as_ref().map_or(u64::MAX, |output| output.pushed);
        let played = self.playout.played_at(end);
        let heard = pushed >= end && played.is_none_or(|played| now >= played);
        self.output.is_none() || heard || now - *since >= QUIT_WITHIN
    }

    fn report(&mut self, now: LocalTime) {
        let due = self.reported.as_ref().is_none_or(|(at, _)| now - *at >= REPORT_EVERY);
        if !due && !self.has_changed() {
            return;
        }
        let report = self.describe();
        self.reported = Some((now, report.clone()));
        (self.reports)(report);
    }

    fn has_changed(&self) -> bool {
        self.reported.as_ref().is_some_and(|(_, last)| {
            last.output != self.state
                || last.sounding != self.mixer.sounding()
                || last.locked != self.playout.is_locked()
                || last.underruns != self.underruns()
        })
    }

    fn underruns(&self) -> u32 {
        self.playout.underruns() + self.mixer.misses()
    }

    fn describe(&mut self) -> PlayoutReport {
        let sounding = self.playout.sounding();
        let dac = self.playout.dac();
        let output = self.output.as_ref();
        PlayoutReport {
            output: self.state.clone(),
            format: output.map(|output| output.format),
            error_s: sounding.error_s,
            correction_ppm: sounding.correction * 1e6,
            dac_ppm: dac.map_or(0.0, |dac| dac.drift() * 1e6),
            dac_sigma_s: dac.map_or(0.0, crate::engine::playout::DacModel::sigma),
            buffer_ms: output.map_or(0.0, Output::waiting_ms) + self.mixer.waiting_s() * 1e3,
            underruns: self.underruns(),
            depth: self.depth,
            sounding: self.mixer.sounding(),
            locked: self.playout.is_locked(),
            coarse: dac.is_some_and(crate::engine::playout::DacModel::is_coarse),
        }
    }
}

/// The playout thread's ends of the rings, before the stream is there.
struct Half {
    format: Format,
    ring: rtrb::Producer<Frame>,
    seen: rtrb::Consumer<DacObservation>,
    target: usize,
    target_max: usize,
}

impl Half {
    fn new(format: Format, thread: Thread) -> (Feed, Half) {
        let ms = |ms: u32| (format.rate * ms / 1_000) as usize;
        let target = format.period.max(ms(SLACK_MS)) + ms(SLACK_MS);
        let target_max = target + ms(GROW_MAX_MS);
        // Some hosts ask for two periods at first; a chunk may go over the target.
        let capacity = target_max.max(2 * format.period) + chunk_frames(format.rate);
        let (mut ring, frames) = rtrb::RingBuffer::new(capacity);
        for _ in 0..target {
            let _ = ring.push([0.0; 2]);
        }
        let (observations, seen) = rtrb::RingBuffer::new(OBSERVATIONS);
        let feed = Feed::new(frames, observations, thread);
        (feed, Half { format, ring, seen, target, target_max })
    }

    fn with(self, stream: Box<dyn Stream>, now: LocalTime) -> Output {
        Output {
            stream,
            format: self.format,
            ring: self.ring,
            seen: self.seen,
            block: vec![[0.0; 2]; chunk_frames(self.format.rate)],
            pushed: self.target as u64,
            target: self.target,
            target_max: self.target_max,
            opened: now,
            heard: None,
            checked: now,
            underruns: 0,
        }
    }
}

impl Output {
    /// Frames in the ring.
    fn waiting(&self) -> usize {
        self.ring.buffer().capacity() - self.ring.slots()
    }

    #[expect(clippy::cast_precision_loss, reason = "a ring is small")]
    fn waiting_ms(&self) -> f64 {
        self.waiting() as f64 / f64::from(self.format.rate) * 1e3
    }

    /// Puts the block into the ring; not if it has no room.
    fn push(&mut self) -> bool {
        let Ok(room) = self.ring.write_chunk_uninit(self.block.len()) else { return false };
        let pushed = room.fill_from_iter(self.block.iter().copied());
        self.pushed += pushed as u64;
        true
    }

    fn grow(&mut self) {
        let more = (self.format.rate * GROW_MS / 1_000) as usize;
        self.target = (self.target + more).min(self.target_max);
    }

    fn check(&mut self, now: LocalTime) -> Result<(), SinkError> {
        let is_starting = now - self.opened < DEAF_AFTER_OPEN;
        let patience = if is_starting { DEAF_AFTER_OPEN } else { DEAF_AFTER };
        // What it has said since the last turn counts.
        if self.seen.is_empty() && now - self.heard.unwrap_or(self.opened) > patience {
            return Err(SinkError::Failed("it takes no frames any more".into()));
        }
        if now - self.checked < CHECK_EVERY {
            return Ok(());
        }
        self.checked = now;
        self.stream.check()
    }
}

fn chunk_frames(rate: u32) -> usize {
    (rate / CHUNKS_PER_S).max(1) as usize
}

#[cfg(test)]
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    clippy::float_cmp,
    reason = "the figures of the tests are small and exact"
)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};
    use std::sync::{Arc, Mutex, mpsc};

    use super::*;
    use crate::base::RoomTime;
    use crate::base::pcm::{BLOCK_FRAMES, PcmWriter, window};
    use crate::engine::playout::PlannedSpan;

    const RATE: u32 = 48_000;
    const PERIOD: usize = 480;
    const DRIFT: f64 = -40e-6;

    thread_local! {
        static NOW: AtomicI64 = const { AtomicI64::new(0) };
    }

    fn now() -> LocalTime {
        NOW.with(|now| LocalTime(now.load(Ordering::Relaxed)))
    }

    fn set_now(to: LocalTime) {
        NOW.with(|now| now.store(to.0, Ordering::Relaxed));
    }

    /// What the test and the sink share: the feed of the running stream, and whether it fails.
    #[derive(Default)]
    struct Device {
        feed: Option<Feed>,
        opened: u32,
        busy: bool,
        broken: bool,
        /// How long an opening takes.
        opening: Span,
    }

    struct FakeSink(Arc<Mutex<Device>>);
    struct FakeStream(Arc<Mutex<Device>>);

    impl Sink for FakeSink {
        fn open(
            &mut self,
            feed: &mut dyn FnMut(Format) -> Feed,
        ) -> Result<Box<dyn Stream>, SinkError> {
            let mut device = self.0.lock().expect("one thread");
            set_now(now() + device.opening);
            if device.busy {
                return Err(SinkError::Busy);
            }
            device.opened += 1;
            device.broken = false;
            device.feed = Some(feed(Format { rate: RATE, period: PERIOD }));
            Ok(Box::new(FakeStream(self.0.clone())))
        }

        fn name(&self) -> String {
            "fake".into()
        }
    }

    impl Stream for FakeStream {
        fn check(&mut self) -> Result<(), SinkError> {
            let broken = self.0.lock().expect("one thread").broken;
            if broken { Err(SinkError::Failed("unplugged".into())) } else { Ok(()) }
        }
    }

    impl Drop for FakeStream {
        fn drop(&mut self) {
            self.0.lock().expect("one thread").feed = None;
        }
    }

    /// The pump without its thread, a device, and what that has played.
    struct Rig {
        pump: Pump,
        inbox: rtrb::Producer<PlayoutCommand>,
        device: Arc<Mutex<Device>>,
        reports: mpsc::Receiver<PlayoutReport>,
        decoder: Option<PcmWriter>,
        decoded: u64,
        played: Vec<Frame>,
        /// Local seconds of the first callback.
        began: f64,
    }

    const DEPTH_S: f64 = 0.02;

    impl Rig {
        fn new() -> Rig {
            set_now(LocalTime(0));
            let device = Arc::<Mutex<Device>>::default();
            let (inbox, commands) = rtrb::RingBuffer::new(COMMANDS);
            let (say, reports) = mpsc::channel();
            let pump = Pump::new(
                now,
                Box::new(FakeSink(device.clone())),
                commands,
                Box::new(move |report| drop(say.send(report))),
                thread::current(),
            );
            Rig {
                pump,
                inbox,
                device,
                reports,
                decoder: None,
                decoded: 0,
                played: Vec::new(),
                began: 0.0,
            }
        }

        fn send(&mut self, command: PlayoutCommand) {
            self.inbox.push(command).expect("room");
        }

        /// A clock like the local one, and a track that turns a pointer 50 times a second, so
        /// that every frame, however loud, tells which one it is.
        fn play(&mut self, start_s: f64, from: u64, seconds: u64) -> PlannedSpan {
            let model = ClockModel {
                local0: LocalTime(0),
                room0: RoomTime(0),
                rate: 0.0,
                sigma: 1e-6,
                asymmetry: 0.0,
                generation: 0,
            };
            let span = PlannedSpan {
                segment: SegmentId(1),
                start: RoomTime(0) + Span::from_secs_f64(start_s),
                from,
                frames: seconds * u64::from(RATE),
                rate: RATE,
                cut: None,
            };
            let (writer, pcm) = window(RATE as usize);
            (self.decoder, self.decoded) = (Some(writer), from);
            self.send(PlayoutCommand::Clock(model));
            self.send(PlayoutCommand::Load { segment: span.segment, pcm });
            self.send(PlayoutCommand::Plan(plan(span)));
            span
        }

        fn decode(&mut self) {
            let Some(writer) = &mut self.decoder else { return };
            while let Some(mut block) = writer.take() {
                block.first = self.decoded;
                block.frames = BLOCK_FRAMES;
                for (frame, n) in block.samples.chunks_exact_mut(2).zip(self.decoded..) {
                    let (sine, cosine) = (TURN * n as f64).sin_cos();
                    frame.copy_from_slice(&[(0.5 * sine) as f32, (0.5 * cosine) as f32]);
                }
                self.decoded += BLOCK_FRAMES as u64;
                writer.put(block);
            }
        }

        /// Local seconds at which frame `n` of the device is played.
        fn truth(&self, n: usize) -> f64 {
            self.began + n as f64 / f64::from(RATE) * (1.0 + DRIFT) + DEPTH_S
        }

        fn callback(&mut self) {
            let played_at = LocalTime(0) + Span::from_secs_f64(self.truth(self.played.len()));
            let delay = Span::from_secs_f64(DEPTH_S);
            let mut out = [[9.0; 2]; PERIOD];
            set_now(played_at - delay);
            if let Some(feed) = &mut self.device.lock().expect("one thread").feed {
                feed.fill(played_at - delay, delay, &mut out);
                self.played.extend(out);
            }
        }

        fn run(&mut self, seconds: f64) {
            for _ in 0..(seconds * 100.0).round() as usize {
                self.decode();
                self.callback();
                assert_eq!(self.pump.turn(), Turn::Sleep(SLEEP));
            }
        }

        /// By how much the sound at device frame `n` lies beside its place, seconds.
        fn error_s(&self, span: &PlannedSpan, n: usize) -> f64 {
            let room = RoomTime(0) + Span::from_secs_f64(self.truth(n));
            let [sine, cosine] = self.played[n].map(f64::from);
            let beside = TURN * span.position(room) - sine.atan2(cosine);
            let beside = (beside / TAU - (beside / TAU).round()) * TAU;
            beside / TURN / f64::from(RATE)
        }

        fn last_report(&self) -> PlayoutReport {
            self.reports.try_iter().last().expect("a report")
        }
    }

    const TAU: f64 = std::f64::consts::TAU;

    /// How far a frame turns the pointer: 50 times a second.
    const TURN: f64 = TAU * 50.0 / RATE as f64;

    fn plan(span: PlannedSpan) -> PlayoutPlan {
        let mut plan = PlayoutPlan::silent();
        plan.spans[0] = Some(span);
        plan
    }

    #[test]
    fn frames_sound_at_their_instant() {
        let mut rig = Rig::new();
        rig.pump.turn();
        rig.run(0.5);
        let span = rig.play(1.0, 100_000, 60);
        rig.run(3.0);
        let first = rig.played.iter().position(|frame| frame[1].abs() > 1e-9).expect("sound");
        assert!((rig.truth(first) - 1.0).abs() < 1e-3, "{}", rig.truth(first));
        let begun = first + 480;
        let worst = (begun..rig.played.len()).map(|n| rig.error_s(&span, n).abs());
        let worst = worst.fold(0.0, f64::max);
        assert!(worst < 2e-6, "{worst:e}");
        let report = rig.last_report();
        assert_eq!((report.output, report.sounding), (OutputState::Ok, Some(SegmentId(1))));
        assert!(report.locked && report.underruns == 0 && !report.coarse);
        assert!((report.dac_ppm - DRIFT * 1e6).abs() < 3.0, "{}", report.dac_ppm);
        let depth = report.depth.as_millis_f64();
        assert!((45.0..56.0).contains(&depth), "{depth}");
        assert!(report.buffer_ms > 500.0);
    }

    #[test]
    fn data_that_comes_late_comes_in_where_it_would_have_been() {
        let mut rig = Rig::new();
        rig.pump.turn();
        let span = rig.play(0.5, 100_000, 60);
        rig.run(1.0);
        let decoder = rig.decoder.take();
        rig.run(1.5);
        assert_eq!(rig.pump.underruns(), 1);
        assert!(rig.played[rig.played.len() - 480..].iter().all(|frame| *frame == [0.0; 2]));
        let there = rig.decoded;
        rig.decoder = decoder;
        // The decoder skips what nobody can hear any more.
        rig.decoded = there + 48_000;
        rig.run(1.0);
        assert_eq!(rig.pump.underruns(), 1);
        let last = rig.played.len() - 1;
        assert!(rig.error_s(&span, last).abs() < 8e-6);
        let step = |pair: &[Frame]| (pair[1][0] - pair[0][0]).abs();
        let steepest = rig.played.windows(2).map(step).fold(0.0, f32::max);
        assert!(steepest < 0.01, "no click: {steepest}");
    }

    #[test]
    fn a_starved_sink_is_counted_and_goes_on_in_place() {
        let mut rig = Rig::new();
        rig.pump.turn();
        let span = rig.play(0.5, 100_000, 60);
        rig.run(1.0);
        for _ in 0..5 {
            rig.callback();
        }
        rig.run(0.5);
        assert_eq!(rig.last_report().underruns, 1);
        let last = rig.played.len() - 1;
        assert!(rig.error_s(&span, last).abs() < 8e-6);
    }

    #[test]
    fn a_device_that_fails_is_opened_again_ever_more_rarely_and_joins_in_phase() {
        let mut rig = Rig::new();
        rig.pump.turn();
        let span = rig.play(0.5, 100_000, 60);
        rig.run(1.0);
        rig.device.lock().expect("one thread").busy = true;
        rig.device.lock().expect("one thread").broken = true;
        let mut tries = Vec::new();
        let failed = now();
        for k in 1..100 {
            set_now(failed + Span::from_millis(100 * k));
            let before = rig.pump.retry_at;
            rig.pump.turn();
            if rig.pump.retry_at != before {
                tries.push((now() - failed).as_millis());
            }
        }
        assert_eq!(tries[1] - tries[0], 500);
        assert_eq!(tries[2] - tries[1], 1_000);
        assert_eq!(tries[3] - tries[2], 2_000);
        assert_eq!(rig.last_report().output, OutputState::Busy);
        rig.device.lock().expect("one thread").busy = false;
        set_now(failed + Span::from_secs(20));
        rig.pump.turn();
        assert_eq!(rig.device.lock().expect("one thread").opened, 2);
        rig.played.clear();
        rig.began = now().0 as f64 * 1e-9;
        rig.decoded = 100_000 + 48_000 * 20;
        rig.run(0.8);
        let last = rig.played.len() - 1;
        assert!(rig.error_s(&span, last).abs() < 20e-6, "{:e}", rig.error_s(&span, last));
    }

    #[test]
    fn a_device_that_had_worked_is_looked_for_every_second_for_a_while() {
        let mut rig = Rig::new();
        rig.pump.turn();
        rig.play(0.5, 100_000, 60);
        rig.run(PROVEN_AFTER.as_secs_f64() + 1.0);
        rig.device.lock().expect("one thread").busy = true;
        rig.device.lock().expect("one thread").broken = true;
        let lost = now();
        let mut tries = Vec::new();
        for k in 1..7000 {
            set_now(lost + Span::from_millis(100 * k));
            let before = rig.pump.retry_at;
            rig.pump.turn();
            if rig.pump.retry_at != before {
                tries.push(now() - lost);
            }
        }
        let pauses = tries.windows(2).map(|pair| pair[1] - pair[0]);
        let (early, late): (Vec<_>, Vec<_>) =
            pauses.zip(&tries).partition(|(_, since)| **since < LOST_FOR);
        assert!(early.iter().all(|(pause, _)| *pause <= RETRY_LOST), "{early:?}");
        assert_eq!(late.last().map(|(pause, _)| *pause), Some(RETRY_LAST));
    }

    #[test]
    fn a_device_that_takes_seconds_to_open_is_given_its_time_from_then_on() {
        let mut rig = Rig::new();
        rig.device.lock().expect("one thread").opening = Span::from_secs(3);
        rig.device.lock().expect("one thread").busy = true;
        rig.pump.turn();
        assert!(rig.pump.retry_at > now(), "the rest between two tries is one");
        rig.device.lock().expect("one thread").busy = false;
        set_now(rig.pump.retry_at);
        rig.pump.turn();
        // Its first callback is yet to come.
        set_now(now() + Span::from_secs(1));
        rig.pump.turn();
        assert!(rig.pump.output.is_some());
        rig.run(3.0);
        assert!(rig.pump.depth < Span::from_millis(100), "{:?}", rig.pump.depth);
    }

    #[test]
    fn a_device_that_falls_silent_is_given_up() {
        let mut rig = Rig::new();
        rig.pump.turn();
        rig.run(3.0);
        set_now(now() + Span::from_millis(600));
        rig.pump.turn();
        assert!(rig.pump.output.is_none());
        assert!(matches!(rig.last_report().output, OutputState::Failed(_)));
    }

    #[test]
    fn the_end_is_a_fade_that_is_heard_out() {
        let mut rig = Rig::new();
        rig.pump.turn();
        rig.play(0.5, 100_000, 60);
        rig.run(1.0);
        rig.send(PlayoutCommand::Quit);
        let mut turns = 0;
        let mut last = Turn::Sleep(SLEEP);
        while last != Turn::Stop {
            rig.callback();
            last = rig.pump.turn();
            turns += 1;
            assert!(turns < 40);
        }
        assert!((3..=10).contains(&turns), "{turns}");
        // What the device still holds is silence.
        rig.callback();
        assert!(rig.played[rig.played.len() - PERIOD..].iter().all(|frame| *frame == [0.0; 2]));
    }

    #[test]
    fn the_thread_stops_when_told_even_without_a_device() {
        let device = Arc::<Mutex<Device>>::default();
        device.lock().expect("fresh").busy = true;
        let mut handle = start(now, Box::new(FakeSink(device)), Box::new(drop));
        handle.send(PlayoutCommand::NoClock);
        handle.send(PlayoutCommand::Quit);
        handle.join();
    }
}
