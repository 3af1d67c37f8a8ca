//! The playout of one device: from the plan, the clock model and the converter's line to
//! orders for each next chunk of frames.
//!
//! ```text
//!  ring frame ─(+ starved)─► device frame ─(DacModel)─► local time ─(ClockModel)─► room time
//!                                                                                     │
//!  order ◄── servo ◄── where the voice is  −  where it should be ◄── PlannedSpan ◄────┘
//! ```
//!
//! Positions are mirrored here, in `f64`, exactly as the resampler moves: so a simulation
//! without a single sample drives the very same code. Nothing here touches samples, knows
//! whether decoded frames are there, or reads a clock.

use crate::base::{LocalTime, RoomTime, SegmentId, Span};
use crate::engine::clock::ClockModel;
use crate::wire::track::frames_to_span;

use super::DacObservation;
use super::chunk::{Begins, Chunk, Order, Ramp, VOICES};
use super::dac::{DacModel, Observed};
use super::plan::{PlannedSpan, PlayoutPlan};
use super::servo::{Servo, Verdict};

/// A clock model that is wrong by less than this may start sound at once.
const USABLE_SIGMA_S: f64 = 0.5e-3;

/// Any clock model may after this time: whoever joins hears something soon.
const USABLE_AFTER: Span = Span::from_millis(300);

/// Fade at a cut, at a start inside a track, and after the ring ran dry.
const SHORT_FADE_S: f64 = 0.005;

/// Fade of a late joiner, of a far jump, and at the very end.
const LONG_FADE_S: f64 = 0.020;

/// Cross-fade of a near jump, and the ramp of a volume change.
const CROSS_FADE_S: f64 = 0.010;

/// Jumps up to this far are cross-faded: both copies are one programme.
const NEAR_S: f64 = 0.020;

/// After a break of the converter's line errors above this are jumped at once.
const BREAK_S: f64 = 0.4e-3;

/// Spans that are this near to each other have no hole between them.
const SEAMLESS: Span = Span::from_micros(20);

/// A start that was missed by less than this is no late one: instants move by a frame when
/// the models bend.
const PUNCTUAL_S: f64 = 0.001;

/// Errors below this count as locked.
const LOCKED_S: f64 = 1e-3;

/// A figure for people: what the playout does at the moment.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Sounding {
    /// The segment, if any.
    pub segment: Option<SegmentId>,
    /// By how much the playout is behind where both models want it, seconds.
    pub error_s: f64,
    /// What the servo adds to the feed-forward rate (1e-6 is one ppm).
    pub correction: f64,
}

/// One resampler's worth of sound.
#[derive(Clone, Copy, Debug)]
struct Voice {
    slot: usize,
    span: PlannedSpan,
    next: Option<PlannedSpan>,
    /// At the next frame to be ordered.
    position: f64,
    step: f64,
    servo: Servo,
    rise: Ramp,
    fall: Ramp,
    /// The ring frame at which it ends, once that is settled.
    end: i64,
}

/// Room time along one chunk.
#[derive(Clone, Copy, Debug)]
struct Timeline {
    first: i64,
    frames: usize,
    room: RoomTime,
    /// Room seconds of one device frame.
    tick: f64,
    /// Room seconds per nominal device second, minus one.
    feed_forward: f64,
    rate: f64,
}

/// Why the next chunk must not simply go on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Disturbed {
    No,
    /// The ring ran dry: what is heard has a hole already.
    Starved,
    /// The converter's line broke: what is heard went on at a wrong place.
    Broken,
}

/// The playout of one device.
#[derive(Clone, Debug)]
pub struct Playout {
    dac: Option<DacModel>,
    drift: Option<f64>,
    clock: Option<ClockModel>,
    clock_since: Option<LocalTime>,
    plan: PlayoutPlan,
    main: Option<Voice>,
    leaving: Option<Voice>,
    ended: Option<(SegmentId, RoomTime)>,
    starved: u64,
    starving: bool,
    underruns: u32,
    disturbed: Disturbed,
    gain: f32,
    sounding: Sounding,
}

impl Default for Playout {
    fn default() -> Playout {
        Playout::new()
    }
}

impl Playout {
    /// Without a device, a clock or a plan.
    #[must_use]
    pub fn new() -> Playout {
        Playout {
            dac: None,
            drift: None,
            clock: None,
            clock_since: None,
            plan: PlayoutPlan::silent(),
            main: None,
            leaving: None,
            ended: None,
            starved: 0,
            starving: false,
            underruns: 0,
            disturbed: Disturbed::No,
            gain: 1.0,
            sounding: Sounding::default(),
        }
    }

    /// A device of `rate` frames a second was opened: ring and device frames count from 0.
    pub fn output_opened(&mut self, rate: u32) {
        self.output_lost();
        self.dac = Some(DacModel::new(rate, self.drift));
        self.starved = 0;
        self.starving = false;
    }

    /// There is no device; the plan passes silently. The converter's drift is remembered,
    /// because it is likely the same device that comes back.
    pub fn output_lost(&mut self) {
        if let Some(dac) = self.dac.take().filter(DacModel::is_warm) {
            self.drift = Some(dac.drift());
        }
        self.main = None;
        self.leaving = None;
        self.ended = None;
        self.disturbed = Disturbed::No;
        self.sounding = Sounding::default();
    }

    /// Room time as of `now`, or that there is none.
    pub fn set_clock(&mut self, now: LocalTime, clock: Option<ClockModel>) {
        self.clock_since = clock.and(self.clock_since.or(Some(now)));
        self.clock = clock;
    }

    /// What to sound when, from now on.
    pub fn set_plan(&mut self, plan: PlayoutPlan) {
        self.plan = plan;
    }

    /// What the sink saw.
    pub fn observe(&mut self, seen: DacObservation) {
        let Some(dac) = &mut self.dac else { return };
        if dac.observe(seen.frame, seen.played_at) == Observed::Broke {
            self.disturbed = Disturbed::Broken;
        }
        let starves = seen.starved > self.starved;
        self.starved = seen.starved;
        if starves && self.main.is_some() {
            self.underruns += u32::from(!self.starving);
            self.disturbed = Disturbed::Starved;
        }
        self.starving = starves;
    }

    /// Orders for the `frames` frames that will be put into the ring next, of which `first`
    /// were put there before.
    pub fn chunk(&mut self, first: u64, frames: usize) -> Chunk {
        let first = first.cast_signed();
        let mut chunk = Chunk::silence(first, frames);
        if let Some(voice) = self.leaving.take() {
            self.leave(voice, &mut chunk);
        }
        if let Some(timeline) = self.timeline(first, frames) {
            self.go_on(&timeline, &mut chunk);
            self.begin(&timeline, &mut chunk);
            chunk.gain = self.gain_along(&timeline);
        } else if let Some(voice) = self.main.take() {
            // Without a clock nobody knows where to play; the estimator holds over for long
            // before it says so.
            let fall = Ramp::fade_out(first, self.frames_of(LONG_FADE_S));
            self.retire(voice, fall, &mut chunk);
        }
        chunk
    }

    /// When the ring frame with this number reaches the converter.
    #[must_use]
    pub fn played_at(&self, ring_frame: u64) -> Option<LocalTime> {
        self.dac.as_ref()?.at(ring_frame + self.starved)
    }

    /// Whether a first frame could be placed in room time now, and what sounds is in place.
    #[must_use]
    pub fn is_locked(&self) -> bool {
        let placed = self.main.is_none() || self.sounding.error_s.abs() < LOCKED_S;
        placed && self.dac.as_ref().is_some_and(DacModel::is_warm) && self.clock.is_some()
    }

    /// Whether nothing sounds, not even a fade.
    #[must_use]
    pub fn is_silent(&self) -> bool {
        self.main.is_none() && self.leaving.is_none()
    }

    /// What sounds, and how well.
    #[must_use]
    pub fn sounding(&self) -> Sounding {
        self.sounding
    }

    /// Times the ring ran dry while something should have sounded.
    #[must_use]
    pub fn underruns(&self) -> u32 {
        self.underruns
    }

    /// The converter's line, while there is a device.
    #[must_use]
    pub fn dac(&self) -> Option<&DacModel> {
        self.dac.as_ref()
    }

    fn frames_of(&self, seconds: f64) -> u32 {
        frames_of(self.dac.as_ref().map_or(0.0, DacModel::rate), seconds)
    }

    fn timeline(&self, first: i64, frames: usize) -> Option<Timeline> {
        let (dac, clock) = (self.dac.as_ref()?, self.clock.as_ref()?);
        let local = dac.at(first.cast_unsigned() + self.starved)?;
        let feed_forward = (1.0 + dac.drift()) * (1.0 + clock.rate) - 1.0;
        Some(Timeline {
            first,
            frames,
            room: clock.room(local) - self.plan.trim,
            tick: (1.0 + feed_forward) / dac.rate(),
            feed_forward,
            rate: dac.rate(),
        })
    }

    /// The voice that sounds: where it should be, and what that means.
    fn go_on(&mut self, timeline: &Timeline, chunk: &mut Chunk) {
        let Some(mut voice) = self.main.take() else { return };
        let short = frames_of(timeline.rate, SHORT_FADE_S);
        let planned = self.plan.spans.iter().flatten();
        let Some(span) = planned.copied().find(|span| span.segment == voice.span.segment) else {
            return self.retire(voice, Ramp::fade_out(timeline.first, short), chunk);
        };
        voice.span = span;
        voice.next = self.plan.follower(&span);
        voice.cross();
        if let Some(fall) = voice.fall_within(timeline, short) {
            self.ended = Some((span.segment, span.end()));
            return self.retire(voice, fall, chunk);
        }
        self.steer(voice, timeline, chunk);
    }

    fn steer(&mut self, mut voice: Voice, timeline: &Timeline, chunk: &mut Chunk) {
        let error_s = voice.error_s(timeline.room);
        let verdict = match std::mem::replace(&mut self.disturbed, Disturbed::No) {
            Disturbed::Starved => return self.resume(voice, timeline, chunk),
            Disturbed::Broken if error_s.abs() > BREAK_S => Verdict::Jump,
            _ => voice.servo.update(error_s, timeline.feed_forward, timeline.seconds()),
        };
        match verdict {
            Verdict::Jump => self.jump(voice, error_s, timeline, chunk),
            Verdict::Slew(rate) => {
                voice.step = timeline.step(voice.span.rate, rate);
                self.report(&voice, error_s, timeline);
                self.sound(voice, Begins::No, 0, chunk);
            }
        }
    }

    /// Out of the hole that the empty ring has left, at the right place.
    fn resume(&mut self, voice: Voice, timeline: &Timeline, chunk: &mut Chunk) {
        let fresh = Voice {
            rise: Ramp::fade_in(timeline.first, frames_of(timeline.rate, SHORT_FADE_S)),
            ..voice.at_place(timeline, 0)
        };
        self.report(&fresh, 0.0, timeline);
        self.sound(fresh, Begins::Here, 0, chunk);
    }

    fn jump(&mut self, voice: Voice, error_s: f64, timeline: &Timeline, chunk: &mut Chunk) {
        let (fade_s, wait_s) = if error_s.abs() < NEAR_S {
            (CROSS_FADE_S, 0.0)
        } else {
            // Two places of the programme at once would be heard as two: one after the other.
            (LONG_FADE_S, LONG_FADE_S)
        };
        let fade = frames_of(timeline.rate, fade_s);
        let rise = timeline.first + i64::from(frames_of(timeline.rate, wait_s));
        let fresh = Voice {
            slot: (voice.slot + 1) % VOICES,
            rise: Ramp::fade_in(rise, fade),
            ..voice.at_place(timeline, 0)
        };
        self.retire(voice, Ramp::fade_out(timeline.first, fade), chunk);
        self.report(&fresh, 0.0, timeline);
        self.sound(fresh, Begins::Here, 0, chunk);
    }

    /// Starts what is to be heard within this chunk, if nothing sounds.
    fn begin(&mut self, timeline: &Timeline, chunk: &mut Chunk) {
        if self.main.is_some() || !self.may_start(timeline) {
            return;
        }
        self.disturbed = Disturbed::No;
        self.sounding = Sounding::default();
        let Some((span, at)) = self.due(timeline) else { return };
        let busy = self.leaving.as_ref().map(|voice| voice.slot);
        // A voice that ends inside this chunk keeps its order, if there is another slot.
        let slot = (0..VOICES)
            .find(|slot| Some(*slot) != busy && chunk.orders[*slot].is_none())
            .unwrap_or_else(|| busy.map_or(0, |slot| (slot + 1) % VOICES));
        let late = timeline.frame_at(span.start) < timeline.first - timeline.frames_in(PUNCTUAL_S);
        let voice = Voice {
            slot,
            span,
            next: self.plan.follower(&span),
            position: 0.0,
            step: timeline.step(span.rate, timeline.feed_forward),
            servo: Servo::new(timeline.feed_forward),
            rise: timeline.rise(&span, at, late),
            fall: Ramp::flat(1.0),
            end: i64::MAX,
        };
        let voice = voice.at_place(timeline, at);
        self.report(&voice, 0.0, timeline);
        self.sound(voice, Begins::Here, at, chunk);
    }

    /// The span that begins or goes on within this chunk, and at which of its frames.
    fn due(&self, timeline: &Timeline) -> Option<(PlannedSpan, usize)> {
        self.plan.spans.iter().flatten().find_map(|span| {
            let start = timeline.frame_at(span.start) - timeline.first;
            let end = timeline.frame_at(span.end()) - timeline.first;
            let at = usize::try_from(start).unwrap_or(0);
            let again = self.ended.is_some_and(|(segment, until)| {
                segment == span.segment && span.end() <= until + SEAMLESS
            });
            let within = at < timeline.frames && end > start.max(0);
            (within && !again).then_some((*span, at))
        })
    }

    fn may_start(&self, timeline: &Timeline) -> bool {
        let warm = self.dac.as_ref().is_some_and(DacModel::is_warm);
        let now = self.dac.as_ref().and_then(|dac| {
            dac.at(timeline.first.cast_unsigned() + self.starved)
        });
        let known = self.clock.zip(self.clock_since).zip(now).is_some_and(|((clock, since), now)| {
            clock.sigma < USABLE_SIGMA_S || now - since >= USABLE_AFTER
        });
        warm && known
    }

    /// The voice goes on to the end of the chunk.
    fn sound(&mut self, mut voice: Voice, begins: Begins, at: usize, chunk: &mut Chunk) {
        chunk.orders[voice.slot] = Some(voice.order(begins, at, chunk.frames - at));
        voice.advance(chunk.frames - at);
        self.main = Some(voice);
    }

    /// The voice ends where `fall` does.
    fn retire(&mut self, mut voice: Voice, fall: Ramp, chunk: &mut Chunk) {
        voice.fall = fall;
        voice.end = fall.start.saturating_add(i64::from(fall.frames));
        self.sounding = Sounding::default();
        self.leave(voice, chunk);
    }

    fn leave(&mut self, mut voice: Voice, chunk: &mut Chunk) {
        let left = usize::try_from(voice.end - chunk.first).unwrap_or(0);
        let frames = left.min(chunk.frames);
        let mut order = voice.order(Begins::No, 0, frames);
        order.ends = left <= chunk.frames;
        chunk.orders[voice.slot] = Some(order);
        voice.advance(frames);
        self.leaving = (!order.ends).then_some(voice);
    }

    fn report(&mut self, voice: &Voice, error_s: f64, timeline: &Timeline) {
        self.sounding = Sounding {
            segment: Some(voice.span.segment),
            error_s,
            correction: voice.servo.rate() - timeline.feed_forward,
        };
    }

    /// The volume, without a step even if a change is heard of late.
    fn gain_along(&mut self, timeline: &Timeline) -> Ramp {
        let step = self.plan.gain;
        let planned = Ramp {
            from: step.from,
            to: step.to,
            start: timeline.frame_at(step.at),
            frames: frames_of(timeline.rate, CROSS_FADE_S),
        };
        let end = timeline.first + timeline.frames.cast_signed() as i64;
        let before = std::mem::replace(&mut self.gain, planned.at(end));
        // Within a ramp of full height a frame is worth about 0.003.
        if (planned.at(timeline.first) - before).abs() < 0.01 {
            return planned;
        }
        let frames = u32::try_from(timeline.frames).unwrap_or(u32::MAX);
        Ramp { from: before, to: self.gain, start: timeline.first, frames }
    }
}

impl Voice {
    /// By how much it is behind, seconds.
    fn error_s(&self, room: RoomTime) -> f64 {
        (self.span.position(room) - self.position) / f64::from(self.span.rate)
    }

    /// Where it should be at output frame `at`.
    fn at_place(&self, timeline: &Timeline, at: usize) -> Voice {
        let position = self.span.position(timeline.room_at(at));
        let servo = Servo::new(timeline.feed_forward);
        let step = timeline.step(self.span.rate, timeline.feed_forward);
        Voice { position, servo, step, ..*self }
    }

    /// Over the seam to what follows without a gap.
    fn cross(&mut self) {
        let Some(next) = self.next else { return };
        let end = end_frame(&self.span);
        if self.position >= end {
            self.position += frame_number(next.from) - end;
            self.span = next;
            self.next = None;
        }
    }

    /// The fade with which it ends, if that begins within this chunk.
    fn fall_within(&self, timeline: &Timeline, fade: u32) -> Option<Ramp> {
        if self.next.is_some() {
            return None;
        }
        let end = timeline.frame_at(self.span.end());
        // The end of a track is its own fade; only a cut needs one.
        let fade = if self.span.cut.is_some_and(|cut| cut <= self.span.end()) { fade } else { 0 };
        let begin = end.saturating_sub(i64::from(fade));
        if begin >= timeline.end() {
            return (end <= timeline.end()).then_some(Ramp::fade_out(end, 0));
        }
        if end < timeline.first {
            // It should have ended before: heard of late.
            return Some(Ramp::fade_out(timeline.first, frames_of(timeline.rate, SHORT_FADE_S)));
        }
        let begin = begin.max(timeline.first);
        Some(Ramp::fade_out(begin, u32::try_from(end - begin).unwrap_or(fade)))
    }

    fn order(&self, begins: Begins, first: usize, frames: usize) -> Order {
        Order {
            begins,
            ends: false,
            span: self.span,
            next: self.next,
            position: self.position,
            step: self.step,
            first,
            frames,
            rise: self.rise,
            fall: self.fall,
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "a chunk is short")]
    fn advance(&mut self, frames: usize) {
        self.position += frames as f64 * self.step;
    }
}

impl Timeline {
    fn end(&self) -> i64 {
        self.first + self.frames.cast_signed() as i64
    }

    /// The first ring frame that is played at `room` or later, as far as this line reaches.
    #[expect(clippy::cast_possible_truncation, reason = "a float cast saturates, and far is far")]
    fn frame_at(&self, room: RoomTime) -> i64 {
        let ticks = ((room - self.room).as_secs_f64() / self.tick).ceil();
        self.first.saturating_add(ticks as i64)
    }

    #[expect(clippy::cast_precision_loss, reason = "a chunk is short")]
    fn room_at(&self, at: usize) -> RoomTime {
        self.room + Span::from_secs_f64(at as f64 * self.tick)
    }

    #[expect(clippy::cast_precision_loss, reason = "a chunk is short")]
    fn seconds(&self) -> f64 {
        self.frames as f64 / self.rate
    }

    fn frames_in(&self, seconds: f64) -> i64 {
        i64::from(frames_of(self.rate, seconds))
    }

    /// Track frames per device frame at servo rate `rate`.
    fn step(&self, track_rate: u32, rate: f64) -> f64 {
        f64::from(track_rate) / self.rate * (1.0 + rate)
    }

    /// How a start at output frame `at` comes in.
    fn rise(&self, span: &PlannedSpan, at: usize, late: bool) -> Ramp {
        let seconds = match (late, span.from) {
            (true, _) => LONG_FADE_S,
            // A track's beginning is as its makers want it.
            (false, 0) => return Ramp::flat(1.0),
            (false, _) => SHORT_FADE_S,
        };
        Ramp::fade_in(self.first + at.cast_signed() as i64, frames_of(self.rate, seconds))
    }
}

impl PlayoutPlan {
    /// The span that goes on where `span` comes to its own end, without a hole and at the
    /// same rate, so that one resampler plays both.
    fn follower(&self, span: &PlannedSpan) -> Option<PlannedSpan> {
        if span.cut.is_some_and(|cut| cut < span.start + frames_to_span(span.frames, span.rate)) {
            return None;
        }
        self.spans.iter().flatten().copied().find(|next| {
            next.segment != span.segment
                && next.rate == span.rate
                && (next.start - span.end()).abs() <= SEAMLESS
        })
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "fades are milliseconds, rates are positive"
)]
fn frames_of(rate: f64, seconds: f64) -> u32 {
    (rate * seconds).round() as u32
}

#[expect(clippy::cast_precision_loss, reason = "2^53 frames are 6,000 years")]
fn frame_number(frame: u64) -> f64 {
    frame as f64
}

fn end_frame(span: &PlannedSpan) -> f64 {
    frame_number(span.from) + frame_number(span.frames)
}
