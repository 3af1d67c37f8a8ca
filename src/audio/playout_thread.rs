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

/// The first callback may take longer: a sound server sets up.
const DEAF_AFTER_OPEN: Span = Span::from_millis(2_000);

/// Between questions whether the stream still works.
const CHECK_EVERY: Span = Span::from_millis(250);

/// Between attempts to open a device: doubled each time.
const RETRY_FIRST: Span = Span::from_millis(500);
const RETRY_LAST: Span = Span::from_secs(5);

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
            warn!("the playout thread had failed");
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
    reported: Option<(LocalTime, PlayoutReport)>,
    quitting: Option<(LocalTime, Ramp)>,
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
            reported: None,
            quitting: None,
        }
    }

    /// Once around: called when the sink has taken frames, or after a sleep.
    fn turn(&mut self) -> Turn {
        let now = (self.clock)();
        self.obey(now);
        self.supervise(now);
        self.observe(now);
        self.fill();
        if self.is_over(now) {
            return Turn::Stop;
        }
        self.mixer.build_one(&self.plan);
        self.report(now);
        Turn::Sleep(SLEEP)
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
        if let Some(output) = &mut self.output {
            if let Err(error) = output.check(now) {
                warn!(output = self.sink.name(), %error, "the output stopped; trying again");
                self.close(now, &error);
            }
        }
        if self.output.is_none() && self.quitting.is_none() && now >= self.retry_at {
            self.open(now);
        }
    }

    fn open(&mut self, now: LocalTime) {
        let mut ends = None;
        let thread = self.thread.clone();
        let opened = self.sink.open(&mut |format| {
            let (feed, half) = Half::new(format, thread.clone());
            ends = Some(half);
            feed
        });
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
        self.output = Some(output);
    }

    fn close(&mut self, now: LocalTime, error: &SinkError) {
        if self.output.take().is_some_and(|output| now - output.opened >= PROVEN_AFTER) {
            self.retry_after = RETRY_FIRST;
        }
        self.playout.output_lost();
        self.fail(now, error);
    }

    fn fail(&mut self, now: LocalTime, error: &SinkError) {
        debug!(output = self.sink.name(), %error, "no output");
        self.state = OutputState::from(error);
        self.retry_at = now + self.retry_after;
        self.retry_after = (self.retry_after + self.retry_after).min(RETRY_LAST);
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
        let report = self.describe(now);
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

    fn describe(&mut self, now: LocalTime) -> PlayoutReport {
        let sounding = self.playout.sounding();
        let dac = self.playout.dac();
        let output = self.output.as_ref();
        let depth = output.and_then(|output| self.playout.played_at(output.pushed));
        PlayoutReport {
            output: self.state.clone(),
            format: output.map(|output| output.format),
            error_s: sounding.error_s,
            correction_ppm: sounding.correction * 1e6,
            dac_ppm: dac.map_or(0.0, |dac| dac.drift() * 1e6),
            dac_sigma_s: dac.map_or(0.0, crate::engine::playout::DacModel::sigma),
            buffer_ms: output.map_or(0.0, Output::waiting_ms) + self.mixer.waiting_s() * 1e3,
            underruns: self.underruns(),
            depth: depth.map_or(Span::ZERO, |played| played - now),
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
        let patience = if self.heard.is_some() { DEAF_AFTER } else { DEAF_AFTER_OPEN };
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
