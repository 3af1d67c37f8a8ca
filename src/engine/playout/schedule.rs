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
        let now =
            self.dac.as_ref().and_then(|dac| dac.at(timeline.first.cast_unsigned() + self.starved));
        let known =
            self.clock.zip(self.clock_since).zip(now).is_some_and(|((clock, since), now)| {
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
        let step = timeline.step(self.span.rate, timeline.feed_forward);
        let servo = Servo::new(timeline.feed_forward);
        Voice { position, step, servo, ..*self }
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

#[cfg(test)]
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    clippy::cast_possible_wrap,
    reason = "the figures of the tests are small and exact"
)]
mod tests {
    use super::*;
    use crate::engine::playout::plan::{GainStep, PLAN_SPANS};

    const PERIOD: usize = 480;
    const CHUNK: usize = 240;
    const TARGET: usize = 960;
    const DRIFT: f64 = 60e-6;

    /// A sink with a converter of its own pace, and everything that was ordered.
    struct Rig {
        playout: Playout,
        pushed: u64,
        taken: u64,
        given: u64,
        starved: u64,
        /// Seconds that the converter has lost by glitches.
        lost_s: f64,
        log: Vec<Heard>,
        chunks: Vec<Chunk>,
    }

    /// One order and the true room time of its first frame.
    #[derive(Clone, Copy, Debug)]
    struct Heard {
        at_s: f64,
        ring: i64,
        order: Order,
    }

    impl Heard {
        fn error_s(&self) -> f64 {
            let room = RoomTime(0) + Span::from_secs_f64(self.at_s);
            let rate = f64::from(self.order.span.rate);
            (self.order.span.position(room) - self.order.position) / rate
        }

        /// Room time behind its last frame.
        fn end_s(&self) -> f64 {
            self.at_s + self.order.frames as f64 / 48_000.0 * (1.0 + DRIFT)
        }
    }

    fn clock(offset_s: f64) -> ClockModel {
        ClockModel {
            local0: LocalTime(0),
            room0: RoomTime(0) + Span::from_secs_f64(offset_s),
            rate: 0.0,
            sigma: 1e-5,
            asymmetry: 0.0,
            generation: 0,
        }
    }

    fn at(seconds: f64) -> RoomTime {
        RoomTime(0) + Span::from_secs_f64(seconds)
    }

    fn span(segment: u64, start_s: f64, from: u64, frames: u64) -> PlannedSpan {
        let start = at(start_s);
        PlannedSpan { segment: SegmentId(segment), start, from, frames, rate: 44_100, cut: None }
    }

    fn plan(spans: &[PlannedSpan]) -> PlayoutPlan {
        let mut plan = PlayoutPlan::silent();
        for (place, span) in plan.spans.iter_mut().zip(spans) {
            *place = Some(*span);
        }
        assert!(spans.len() <= PLAN_SPANS);
        plan
    }

    impl Rig {
        fn new(spans: &[PlannedSpan]) -> Rig {
            let mut playout = Playout::new();
            playout.output_opened(48_000);
            playout.set_clock(LocalTime(0), Some(clock(0.0)));
            playout.set_plan(plan(spans));
            Rig {
                playout,
                pushed: 0,
                taken: 0,
                given: 0,
                starved: 0,
                lost_s: 0.0,
                log: Vec::new(),
                chunks: Vec::new(),
            }
        }

        /// Local, and without an offset room, seconds at which a device frame is played.
        fn truth(&self, frame: u64) -> f64 {
            0.05 + frame as f64 / 48_000.0 * (1.0 + DRIFT) + self.lost_s
        }

        /// The sink takes a period.
        fn take(&mut self) {
            let there = (self.pushed - self.taken).min(PERIOD as u64);
            self.starved += PERIOD as u64 - there;
            let played_at = LocalTime(0) + Span::from_secs_f64(self.truth(self.given));
            let starved = self.starved;
            self.playout.observe(DacObservation { frame: self.given, played_at, starved });
            self.given += PERIOD as u64;
            self.taken += there;
        }

        fn fill(&mut self) {
            while self.pushed - self.taken < TARGET as u64 {
                let chunk = self.playout.chunk(self.pushed, CHUNK);
                for order in chunk.orders.into_iter().flatten() {
                    let ring = chunk.first + order.first as i64;
                    let at_s = self.truth(ring as u64 + self.starved);
                    self.log.push(Heard { at_s, ring, order });
                }
                self.chunks.push(chunk);
                self.pushed += CHUNK as u64;
            }
        }

        fn run(&mut self, seconds: f64) -> &mut Rig {
            for _ in 0..(seconds * 100.0).round() as usize {
                self.take();
                self.fill();
            }
            self
        }

        fn heard(&self, segment: u64) -> Vec<Heard> {
            let of = |heard: &&Heard| heard.order.span.segment == SegmentId(segment);
            self.log.iter().filter(of).copied().collect()
        }

        fn beginnings(&self) -> Vec<Heard> {
            let begins = |heard: &&Heard| heard.order.begins == Begins::Here;
            self.log.iter().filter(begins).copied().collect()
        }
    }

    /// A device frame, seconds.
    const FRAME: f64 = 1.0 / 48_000.0;

    #[test]
    fn a_track_starts_at_its_instant_with_its_first_frame_and_stays_there() {
        let mut rig = Rig::new(&[span(1, 1.0, 0, 44_100 * 60)]);
        rig.run(5.0);
        let first = rig.heard(1)[0];
        assert!((0.0..FRAME).contains(&(first.at_s - 1.0)), "{first:?}");
        assert!(first.error_s().abs() < 2e-6, "{:e}", first.error_s());
        assert_eq!(first.order.rise, Ramp::flat(1.0));
        for heard in rig.heard(1) {
            assert!(heard.error_s().abs() < 5e-6, "{heard:?}");
        }
        assert!(rig.playout.is_locked());
        assert_eq!(rig.playout.sounding().segment, Some(SegmentId(1)));
    }

    #[test]
    fn orders_of_a_voice_follow_each_other_without_a_hole() {
        let mut rig = Rig::new(&[span(1, 0.5, 0, 44_100 * 60)]);
        rig.run(3.0);
        for pair in rig.heard(1).windows(2) {
            let [a, b] = [pair[0], pair[1]];
            assert_eq!(b.ring, a.ring + a.order.frames as i64);
            let expected = a.order.position + a.order.frames as f64 * a.order.step;
            assert!((b.order.position - expected).abs() < 1e-6);
        }
    }

    #[test]
    fn a_late_joiner_comes_in_at_the_right_place_with_a_long_fade() {
        let mut rig = Rig::new(&[span(1, -10.0, 0, 44_100 * 60)]);
        rig.run(1.0);
        let first = rig.heard(1)[0];
        assert!(first.at_s > 0.1, "the converter's line was not known before");
        assert!(first.at_s < 0.3);
        // Twelve callbacks know 60 ppm only roughly, over the 30 ms to the first frame.
        assert!(first.error_s().abs() < 5e-6, "{:e}", first.error_s());
        assert_eq!(first.order.rise, Ramp::fade_in(first.ring, 960));
    }

    #[test]
    fn a_start_inside_a_track_has_a_short_fade() {
        let mut rig = Rig::new(&[span(1, 1.0, 12_345, 44_100)]);
        rig.run(1.5);
        let first = rig.heard(1)[0];
        assert_eq!(first.order.rise, Ramp::fade_in(first.ring, 240));
        assert!((first.order.position - 12_345.0).abs() < 1.0);
    }

    #[test]
    fn nothing_starts_without_a_clock_or_with_a_poor_one_for_long() {
        let mut rig = Rig::new(&[span(1, 0.0, 0, 44_100 * 60)]);
        rig.playout.set_clock(LocalTime(0), None);
        rig.run(1.0);
        assert!(rig.log.is_empty());
        let poor = ClockModel { sigma: 3e-3, ..clock(0.0) };
        let now = LocalTime(1_000_000_000);
        rig.playout.set_clock(now, Some(poor));
        rig.run(1.0);
        let first = rig.heard(1)[0];
        assert!((1.3..1.32).contains(&first.at_s), "{first:?}");
    }

    #[test]
    fn a_cut_ends_at_its_instant_with_a_fade_before_it() {
        let mut cut = span(1, 0.5, 0, 44_100 * 60);
        cut.cut = Some(at(2.0));
        let mut rig = Rig::new(&[cut]);
        rig.run(3.0);
        let last = *rig.heard(1).last().expect("it sounded");
        assert!((last.end_s() - 2.0).abs() < 1.5 * FRAME, "{}", last.end_s());
        assert!(last.order.ends);
        let end = last.ring + last.order.frames as i64;
        assert_eq!(last.order.fall, Ramp::fade_out(end - 240, 240));
        assert_eq!(rig.beginnings().len(), 1);
        assert!(rig.playout.is_silent());
    }

    #[test]
    fn a_cut_that_is_heard_of_late_fades_at_once() {
        let mut rig = Rig::new(&[span(1, 0.5, 0, 44_100 * 60)]);
        rig.run(2.0);
        let told = rig.pushed;
        let mut cut = span(1, 0.5, 0, 44_100 * 60);
        cut.cut = Some(at(1.5));
        rig.playout.set_plan(plan(&[cut]));
        rig.run(1.0);
        let last = *rig.heard(1).last().expect("it sounded");
        assert_eq!(last.ring + last.order.frames as i64, told as i64 + 240);
        assert_eq!(last.order.fall, Ramp::fade_out(told as i64, 240));
    }

    #[test]
    fn a_plan_without_the_segment_ends_it() {
        let mut rig = Rig::new(&[span(1, 0.5, 0, 44_100 * 60)]);
        rig.run(2.0);
        rig.playout.set_plan(PlayoutPlan::silent());
        rig.run(0.1);
        assert!(rig.playout.is_silent());
        assert!(rig.log.last().expect("it sounded").order.ends);
    }

    #[test]
    fn a_seek_ends_one_segment_and_starts_the_next_at_the_same_frame() {
        let mut before = span(1, 0.5, 0, 44_100 * 60);
        before.cut = Some(at(2.0));
        let after = span(2, 2.0, 700_000, 44_100 * 60);
        let mut rig = Rig::new(&[before, after]);
        rig.run(3.0);
        let last = *rig.heard(1).last().expect("it sounded");
        let first = rig.heard(2)[0];
        assert!((first.ring - last.ring - last.order.frames as i64).abs() <= 1);
        assert!(first.error_s().abs() < 3e-6);
        assert_eq!(rig.beginnings().len(), 2);
    }

    #[test]
    fn equal_rates_without_a_hole_are_one_voice() {
        let first = span(1, 0.5, 0, 44_100);
        let second = span(2, 1.5, 0, 44_100);
        let mut rig = Rig::new(&[first, second]);
        rig.run(3.0);
        assert_eq!(rig.beginnings().len(), 1);
        let seam = rig.heard(1);
        assert!(seam.iter().rev().take(2).all(|heard| heard.order.next == Some(second)));
        let over = rig.heard(2)[0];
        assert!((0.0..250.0).contains(&over.order.position), "{over:?}");
        assert!(over.error_s().abs() < 5e-6, "{:e}", over.error_s());
        let last = *rig.heard(2).last().expect("it sounded");
        assert!((last.end_s() - 2.5).abs() < 1.5 * FRAME);
        assert_eq!(last.order.fall.frames, 0, "a track's own end is not faded");
    }

    #[test]
    fn different_rates_switch_at_the_exact_frame() {
        let first = span(1, 0.5, 0, 44_100);
        let second = PlannedSpan { rate: 96_000, ..span(2, 1.5, 0, 96_000) };
        let mut rig = Rig::new(&[first, second]);
        rig.run(3.0);
        let last = *rig.heard(1).last().expect("it sounded");
        let next = rig.heard(2)[0];
        assert_eq!(next.ring, last.ring + last.order.frames as i64);
        assert_eq!(next.order.rise, Ramp::flat(1.0));
        assert!((next.order.position).abs() < 2.0);
        assert!((0.0..FRAME).contains(&(next.at_s - 1.5)));
    }

    #[test]
    fn a_near_jump_cross_fades_and_a_far_one_fades_out_and_in() {
        for (by, apart) in [(8e-3, 0), (50e-3, 960)] {
            let mut rig = Rig::new(&[span(1, 0.5, 0, 44_100 * 60)]);
            rig.run(4.0);
            let told = rig.pushed as i64;
            rig.playout.set_clock(LocalTime(0), Some(clock(by)));
            rig.run(0.5);
            let jump = rig.beginnings()[1];
            assert_eq!(jump.ring, told + 3 * CHUNK as i64);
            let fade = if apart == 0 { 480 } else { 960 };
            assert_eq!(jump.order.rise, Ramp::fade_in(jump.ring + apart, fade));
            let falls = |heard: &&Heard| heard.order.fall == Ramp::fade_out(jump.ring, fade);
            assert_eq!(rig.log.iter().filter(falls).count(), fade as usize / CHUNK);
            assert!((jump.error_s() + by).abs() < 3e-6, "now {by} ahead of the old line");
        }
    }

    #[test]
    fn a_small_step_of_the_clock_is_slewed() {
        let mut rig = Rig::new(&[span(1, 0.5, 0, 44_100 * 600)]);
        rig.run(4.0);
        rig.playout.set_clock(LocalTime(0), Some(clock(300e-6)));
        rig.run(20.0);
        assert_eq!(rig.beginnings().len(), 1);
        let last = rig.log.last().expect("it sounds");
        assert!((last.error_s() + 300e-6).abs() < 5e-6, "{:e}", last.error_s());
        let steps = rig.log.iter().map(|heard| heard.order.step / (44_100.0 / 48_000.0) - 1.0);
        assert!(steps.fold(0.0_f64, |most, step| most.max((step - DRIFT).abs())) < 155e-6);
    }

    #[test]
    fn after_the_ring_ran_dry_it_goes_on_where_it_should_be() {
        let mut rig = Rig::new(&[span(1, 0.5, 0, 44_100 * 60)]);
        rig.run(2.0);
        for _ in 0..4 {
            rig.take();
        }
        rig.run(0.5);
        assert_eq!(rig.playout.underruns(), 1);
        let back = rig.beginnings()[1];
        assert!(back.error_s().abs() < 5e-6);
        assert_eq!(back.order.rise, Ramp::fade_in(back.ring, 240));
        assert!(rig.log.last().expect("it sounds").error_s().abs() < 5e-6);
    }

    #[test]
    fn an_idle_ring_that_runs_dry_is_no_underrun() {
        let mut rig = Rig::new(&[]);
        rig.run(1.0);
        rig.take();
        rig.take();
        rig.take();
        rig.run(1.0);
        assert_eq!(rig.playout.underruns(), 0);
    }

    #[test]
    fn frames_lost_in_the_device_are_made_up_for_within_a_tenth_of_a_second() {
        let mut rig = Rig::new(&[span(1, 0.5, 0, 44_100 * 60)]);
        rig.run(4.0);
        rig.lost_s = 0.03;
        let glitch = rig.truth(rig.given);
        rig.run(0.5);
        let wrong: Vec<_> = rig
            .log
            .iter()
            .filter(|heard| heard.at_s > glitch && heard.error_s().abs() > 1e-3)
            .filter(|heard| heard.order.fall.to > 0.5)
            .collect();
        let until = wrong.last().expect("a glitch shows first").end_s();
        assert!(until - glitch < 0.1, "{}", until - glitch);
        assert!(rig.log.last().expect("it sounds").error_s().abs() < 100e-6);
    }

    #[test]
    fn a_change_of_volume_ramps_at_its_instant() {
        let mut plan = plan(&[span(1, 0.5, 0, 44_100 * 60)]);
        plan.gain = GainStep { from: 0.2, to: 0.8, at: at(1.0) };
        let mut rig = Rig::new(&[]);
        rig.playout.set_plan(plan);
        rig.run(2.0);
        let level = |seconds: f64| {
            let device = ((seconds - rig.truth(0)) / (1.0 + DRIFT) * 48_000.0) as i64;
            let frame = device - rig.starved as i64;
            let chunk = rig.chunks.iter().rfind(|chunk| chunk.first <= frame).expect("ran");
            chunk.gain.at(frame)
        };
        assert!((level(0.999) - 0.2).abs() < 0.01);
        assert!((level(1.005) - 0.5).abs() < 0.02);
        assert!((level(1.011) - 0.8).abs() < 0.01);
    }

    #[test]
    fn a_volume_that_was_heard_of_late_never_steps() {
        let mut rig = Rig::new(&[span(1, 0.5, 0, 44_100 * 60)]);
        rig.run(1.0);
        let mut quiet = plan(&[span(1, 0.5, 0, 44_100 * 60)]);
        quiet.gain = GainStep { from: 1.0, to: 0.1, at: at(0.2) };
        rig.playout.set_plan(quiet);
        rig.run(0.2);
        let levels = rig
            .chunks
            .iter()
            .flat_map(|chunk| (0..CHUNK as i64).map(move |m| chunk.gain.at(chunk.first + m)));
        let levels: Vec<f32> = levels.collect();
        assert!(levels.windows(2).all(|pair| (pair[1] - pair[0]).abs() < 0.02));
        assert!((levels.last().expect("ran") - 0.1).abs() < 1e-6);
    }

    #[test]
    fn the_trim_of_a_device_plays_later() {
        let mut trimmed = plan(&[span(1, 1.0, 0, 44_100 * 60)]);
        trimmed.trim = Span::from_millis(7);
        let mut rig = Rig::new(&[]);
        rig.playout.set_plan(trimmed);
        rig.run(2.0);
        assert!((0.0..FRAME).contains(&(rig.heard(1)[0].at_s - 1.007)));
    }

    #[test]
    fn without_a_device_the_plan_passes_and_it_joins_in_phase_when_there_is_one() {
        let mut rig = Rig::new(&[span(1, 0.5, 0, 44_100 * 60)]);
        rig.run(2.0);
        rig.playout.output_lost();
        assert!(rig.playout.is_silent());
        assert!(rig.playout.chunk(rig.pushed, CHUNK).orders.iter().all(Option::is_none));
        rig.playout.output_opened(48_000);
        let mut back = Rig { playout: rig.playout.clone(), lost_s: 3.0, ..Rig::new(&[]) };
        back.run(0.5);
        let first = back.heard(1)[0];
        assert!(first.error_s().abs() < 5e-6, "the drift is remembered");
        assert!(first.at_s < 3.3);
        assert_eq!(first.order.rise.frames, 960);
    }
}
