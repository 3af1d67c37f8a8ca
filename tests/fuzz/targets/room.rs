//! A room's state from elsewhere, and what may happen in it afterwards.
//!
//! ```text
//!  input:  stage · block of state bytes (their first 32 become the room's id) · steps
//! ```

use groovebox::base::limits::MAX_SNAPSHOT;
use groovebox::base::{EntryKey, NodeId, OpId, RoomTime, SegmentId, Span, Term};
use groovebox::engine::room::{Room, RoomState};
use groovebox::wire::codec;
use groovebox::wire::message::Snapshot;
use groovebox::wire::op::{AddMode, Guard, Repeat};
use groovebox::wire::{Entry, Op, OpBody};

use super::bytes::{Bytes, block};
use super::people::{self, DEVICES, STAGES, guard, id, term, track};

/// Steps of one input: enough for every kind in any order.
const MAX_STEPS: usize = 64;

/// Tracks of one `Add`.
const MAX_TRACKS: u64 = 40;

pub fn room(input: &[u8]) {
    let mut input = Bytes(input);
    let stage = usize::from(input.u8());
    let Some(mut room) = restored(stage, &mut input) else { return };
    let mut scene = Scene {
        state: room.state().clone(),
        idx: room.log().last_idx(),
        settled: RoomTime(i64::MIN),
        pen: 0,
    };
    let mut pen = people::Pen::default();
    scene.look(RoomTime(0));
    for _ in 0..MAX_STEPS {
        if input.is_empty() {
            break;
        }
        scene.step(&mut input);
    }
    still_a_room(&room, &scene.state);
    // The same bodies once more through the whole room, signed and chained.
    let body = structured(&mut Bytes(input.0), Guard::default());
    let last = room.log().last_term();
    let reign = Term { n: last.n.saturating_add(1), node: id(0), boot: 1 };
    let at = room.log().last_at();
    let _ = pen.order(&mut room, reign, 1, at, &body);
}

/// The room of a snapshot with these state bytes, or of one that is as it should be.
fn restored(stage: usize, input: &mut Bytes<'_>) -> Option<Room> {
    let good = people::room(stage);
    let mut snapshot = good.snapshot(term(1, 0)).expect("small");
    let given = input.block();
    if !given.is_empty() {
        snapshot.state = given.to_vec();
        for (byte, of) in snapshot.state.iter_mut().zip(good.id().0) {
            *byte = of;
        }
    }
    if stage >= 128 {
        snapshot.idx = input.u64();
        snapshot.last_term.n = input.u64();
    }
    // Entries of another branch, and those that continue it, are told apart without a panic.
    let entries = good.log().entries().cloned().collect::<Vec<_>>();
    let _ = Room::restore(&snapshot, &entries);
    Room::from_snapshot(&snapshot).ok()
}

/// What was once let in, and everything that the rules made of it, must be let in by others:
/// they get it as a snapshot.
fn still_a_room(room: &Room, state: &RoomState) {
    // Numbers of entries are used up only by a state that was made to do so.
    let mut entries = state.queue().iter().chain(state.played());
    if entries.any(|entry| entry.id.0 > u64::MAX / 4) {
        return;
    }
    let bytes = codec::encode_state(state).expect("a state fits into a snapshot");
    assert!(bytes.len() <= MAX_SNAPSHOT);
    let snapshot = room.snapshot(term(1, 0)).expect("a state fits into a snapshot");
    let again = Room::from_snapshot(&Snapshot { state: bytes, ..snapshot });
    let again = again.expect("the rules lead only to what others let in");
    assert_eq!(again.state(), state);
}

struct Scene {
    state: RoomState,
    idx: u64,
    /// Room time does not run backwards.
    settled: RoomTime,
    pen: u64,
}

impl Scene {
    fn step(&mut self, input: &mut Bytes<'_>) {
        match input.u8() % 8 {
            0 => {
                let at = self.odd_time(input);
                self.settled = self.settled.later(at);
                self.state.settle(at);
            }
            1 => self.look(RoomTime(input.i64())),
            2 => self.look(self.odd_time(input)),
            3 => self.raw_op(input),
            _ => {
                let body = structured(input, guard(&self.state));
                let author = self.author(input);
                let at = self.odd_time(input);
                self.op(author, at, &body);
            }
        }
    }

    /// An instant near to something that happens, or far from everything.
    fn odd_time(&self, input: &mut Bytes<'_>) -> RoomTime {
        let near = self.state.next_change().unwrap_or(self.state.applied_at());
        match input.u8() % 8 {
            0 => near,
            1 => near + Span(1),
            2 => near - Span(1),
            3 => self.state.applied_at() + Span::from_millis(i64::from(input.u16())),
            4 => RoomTime(i64::MIN),
            5 => RoomTime::FAR,
            6 => near + Span::from_secs(i64::from(input.u32())),
            _ => RoomTime(input.i64()),
        }
    }

    fn author(&self, input: &mut Bytes<'_>) -> NodeId {
        let which = usize::from(input.u8());
        let members = self.state.members();
        let member = members.keys().nth(which % (members.len() + 1));
        member.copied().unwrap_or_else(|| id(which % DEVICES))
    }

    fn raw_op(&mut self, input: &mut Bytes<'_>) {
        let author = self.author(input);
        let at = self.odd_time(input);
        let kind = input.u16();
        let body = input.block().to_vec();
        let op = self.unsigned(author, kind, body);
        let Ok(body) = codec::decode_body(&op) else { return };
        let again = codec::encode_body(&body).expect("it came in one");
        assert_eq!(again, op.body, "what decodes encodes to the same bytes");
        self.apply(at, op, &body);
    }

    fn op(&mut self, author: NodeId, at: RoomTime, body: &OpBody) {
        let Ok(bytes) = codec::encode_body(body) else { return };
        let op = self.unsigned(author, body.kind(), bytes);
        self.apply(at, op, body);
    }

    /// Signatures are not the state's business.
    fn unsigned(&mut self, author: NodeId, kind: u16, body: Vec<u8>) -> Op {
        self.pen += 1;
        let id = OpId { author, boot: 9, seq: self.pen };
        let signature = ([0; 32], [0; 32]);
        Op { room: self.state.id(), id, created: RoomTime(0), kind, body, signature }
    }

    /// The rules say the same before and after.
    fn apply(&mut self, at: RoomTime, op: Op, body: &OpBody) {
        self.idx = self.idx.wrapping_add(1);
        let term = Term { n: 1, node: op.id.author, boot: 1 };
        let at = at.later(self.state.applied_at()).later(self.settled);
        let expected = self.state.validate(&op, body, term.node, at);
        let entry = Entry { idx: self.idx, term, at, op, chain: [0; 16] };
        assert_eq!(self.state.apply(&entry), expected);
        self.look(at);
    }

    /// Reads everything there is to read.
    fn look(&self, at: RoomTime) {
        let state = self.state.settled(at);
        let again = state.settled(at);
        assert!(matches!(again, std::borrow::Cow::Borrowed(_)), "settled once is settled");
        for state in [&self.state, &*state] {
            let spans = state.spans(at);
            for (one, next) in spans.iter().zip(&spans[1..]) {
                let (Some(one), Some(next)) = (one, next) else { continue };
                assert!(one.end() <= next.start, "spans do not overlap");
            }
            assert!(state.segments().count() <= 4);
            for segment in state.segments() {
                let _ = (segment.frame_at(at), segment.position(at), segment.end());
            }
            let playback = state.playback_status(at);
            assert!(playback.position_ms <= playback.duration_ms);
            let _ = (state.queue_status(), state.position(at), state.pending(), state.hash());
            let _ = (state.find_member("device"), state.gain(&id(0)), state.next_change());
        }
    }
}

/// Any operation, from few bytes.
pub fn structured(input: &mut Bytes<'_>, guard: Guard) -> OpBody {
    // Mostly what the room is about, so that it has an effect.
    let guard = if input.u8() < 200 { guard } else { Guard::default() };
    match input.u8() % 22 {
        0 => people::join(usize::from(input.u8()) % DEVICES),
        1 => OpBody::Leave,
        2 | 3 => {
            let count = u64::from(input.u8()) % MAX_TRACKS;
            let frames = u64::from(input.u32());
            let tracks = (0..count).map(|i| track("some", frames.saturating_add(i))).collect();
            let first = OpId { author: id(1), boot: 9, seq: u64::from(input.u8()) };
            let mode = *input.pick(&[AddMode::Append, AddMode::Play, AddMode::Continue(first)]);
            OpBody::Add { tracks, mode }
        }
        4 => {
            let count = usize::from(input.u8()) % 8;
            OpBody::Remove { entries: (0..count).map(|_| EntryKey(input.u64())).collect() }
        }
        5 => OpBody::Clear,
        6 => OpBody::Pause(guard),
        7 => OpBody::Resume(guard),
        8 => OpBody::Stop(guard),
        9 => OpBody::Seek { position: Span::from_millis(i64::from(input.u32())), guard },
        10 => OpBody::Next(guard),
        11 => OpBody::Prev(guard),
        12 => OpBody::Begin { segment: SegmentId(input.u64()) },
        13 => OpBody::Fail { segment: SegmentId(input.u64()), reason: "gone".into() },
        14 => OpBody::Settle,
        15 => OpBody::Volume { member: id(input.u8().into()), volume: input.u8() },
        16 => OpBody::Mute { member: id(input.u8().into()), muted: input.u8() % 2 == 1 },
        17 => OpBody::RoomVolume { volume: input.u8() },
        18 => OpBody::Move { entry: EntryKey(input.u64()), behind: key(input) },
        19 => OpBody::Shuffle { seed: input.u64() },
        20 => OpBody::Repeat { mode: *input.pick(&[Repeat::Off, Repeat::One, Repeat::All]) },
        _ => OpBody::Availability {
            gone: vec![EntryKey(input.u64())],
            back: key(input).into_iter().collect(),
        },
    }
}

fn key(input: &mut Bytes<'_>) -> Option<EntryKey> {
    (input.u8() % 2 == 1).then(|| EntryKey(input.u64()))
}

pub fn seeds() -> Vec<Vec<u8>> {
    let steps = |seed: usize| (0..48).map(move |i| u8::try_from((seed * 37 + i * 11) % 256));
    (0..2 * STAGES)
        .map(|seed| {
            let stage = seed % STAGES;
            let encoded = codec::encode_state(people::room(stage).state()).expect("small");
            let given = if seed < STAGES { block(&encoded) } else { block(&[]) };
            let stage = u8::try_from(stage).expect("a few");
            let steps = steps(seed).map(|byte| byte.expect("below 256")).collect::<Vec<_>>();
            [&[stage][..], &given, &steps].concat()
        })
        .collect()
}
