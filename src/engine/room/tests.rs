//! The rules of queue and playback, as people know them, and their invariants under any
//! sequence of operations.

mod people;
mod queue;

use proptest::prelude::*;

use super::*;
use crate::base::limits::{MAX_MEMBERS, MAX_PLAYED, MAX_QUEUE, MAX_RECENT_OPS};
use crate::base::{BlobHash, EntryId, EntryKey, NodeId, OpId, RoomTime, SegmentId, Span, Term};
use crate::engine::playout::GainStep;
use crate::engine::status::PlaybackState;
use crate::identity::UserKey;
use crate::wire::codec;
use crate::wire::op::{
    AddMode, Entry, Genesis, Guard, Op, OpBody, PersonCard, Refusal, RefusalCode, Repeat,
};
use crate::wire::{Codec, Track};

/// Meant for what the room is about when it is ordered.
const NOW: Guard = Guard { segment: None, dj_epoch: 0 };

const ME: NodeId = NodeId([1; 32]);
const OTHER: NodeId = NodeId([2; 32]);
const STRANGER: NodeId = NodeId([9; 32]);

fn genesis() -> Genesis {
    Genesis {
        founder: ME,
        nonce: [7; 16],
        name: "Home".into(),
        code: "GROOVE-7KQ4".into(),
        unattended: true,
        signature: ([0; 32], [0; 32]),
    }
}

/// A track of that many seconds at 44.1 kHz: a frame is no whole number of nanoseconds.
fn track(title: &str, seconds: u64) -> Track {
    Track {
        hash: BlobHash(*blake3::hash(title.as_bytes()).as_bytes()),
        size: 1_000_000,
        codec: Codec::Flac,
        rate: 44_100,
        channels: 2,
        frames: seconds * 44_100,
        delay: 0,
        title: title.into(),
        artists: vec!["Somebody".into()],
        album: String::new(),
    }
}

fn seconds(seconds: i64) -> RoomTime {
    RoomTime(0) + Span::from_secs(seconds)
}

/// A room whose operations are made, ordered and applied in one step; signatures are not the
/// state's business.
#[derive(Clone)]
struct Scene {
    state: RoomState,
    idx: u64,
    now: RoomTime,
}

impl Scene {
    fn new() -> Scene {
        let state = RoomState::new(&genesis());
        let mut scene = Scene { state, idx: 0, now: seconds(100) };
        for (node, name) in [(ME, "Kitchen"), (OTHER, "Hall")] {
            scene.by(node, &join(name)).expect("an empty room");
        }
        scene
    }

    fn playing(tracks: &[(&str, u64)]) -> Scene {
        let mut scene = Scene::new();
        scene.done(&add(AddMode::Play, tracks));
        scene.begin();
        scene
    }

    fn entry(&mut self, author: NodeId, body: &OpBody) -> Entry {
        self.idx += 1;
        let op = Op {
            room: codec::room_id(&genesis()),
            id: OpId { author, boot: 1, seq: self.idx },
            created: self.now,
            kind: body.kind(),
            body: codec::encode_body(body).expect("short"),
            signature: ([0; 32], [0; 32]),
        };
        let term = Term { n: 1, node: ME, boot: 1 };
        Entry { idx: self.idx, term, at: self.now, op, chain: [0; 16] }
    }

    fn by(&mut self, author: NodeId, body: &OpBody) -> Result<(), Refusal> {
        let body = &self.meant(body);
        let entry = self.entry(author, body);
        let ordered = self.state.validate(&entry.op, body, entry.term.node, entry.at);
        let applied = self.state.apply(&entry);
        assert_eq!(ordered, applied, "ordering and applying agree");
        applied
    }

    /// A body with the guard that a person who gives it now would put in.
    fn meant(&self, body: &OpBody) -> OpBody {
        let guard = self.settled().guard();
        match body {
            OpBody::Pause(NOW) => OpBody::Pause(guard),
            OpBody::Resume(NOW) => OpBody::Resume(guard),
            OpBody::Stop(NOW) => OpBody::Stop(guard),
            OpBody::Seek { position, guard: NOW } => OpBody::Seek { position: *position, guard },
            OpBody::Next(NOW) => OpBody::Next(guard),
            OpBody::Prev(NOW) => OpBody::Prev(guard),
            other => other.clone(),
        }
    }

    fn done(&mut self, body: &OpBody) {
        self.by(ME, body).unwrap_or_else(|refusal| panic!("{body:?}: {refusal}"));
    }

    fn refused(&mut self, body: &OpBody) -> RefusalCode {
        let before = self.state.settled(self.now).into_owned();
        let refusal = self.by(ME, body).expect_err("it breaks a rule");
        assert!(!refusal.message.is_empty() && !refusal.hint.is_empty(), "{body:?}");
        assert_eq!(before.playback, self.state.playback, "a refusal changes nothing");
        assert_eq!(before.members(), self.state.members());
        refusal.code
    }

    fn begin(&mut self) {
        let segment = self.state.pending().expect("something waits").id;
        self.done(&OpBody::Begin { segment });
    }

    fn pass(&mut self, span: Span) {
        self.now += span;
    }

    fn settled(&self) -> RoomState {
        self.state.settled(self.now).into_owned()
    }

    fn shown(&self) -> (PlaybackState, Option<String>, i64) {
        let status = self.settled().playback_status(self.now);
        (status.state, status.track.map(|track| track.title), status.position_ms)
    }

    fn queue(&self) -> Vec<String> {
        self.settled().queue().iter().map(|entry| entry.track.title.clone()).collect()
    }
}

fn join(name: &str) -> OpBody {
    OpBody::Join { name: name.into(), person: None, admission: None, friendship: None }
}

/// A person with a key of their own; the same for the same number.
fn person(n: usize) -> std::sync::Arc<UserKey> {
    use std::sync::{Arc, OnceLock};
    static KEYS: OnceLock<Vec<Arc<UserKey>>> = OnceLock::new();
    let made = || {
        let random = ring::rand::SystemRandom::new();
        let key = |_| Arc::new(UserKey::generate(&random).expect("random numbers"));
        (0..16).map(key).collect()
    };
    KEYS.get_or_init(made)[n].clone()
}

/// A device of a person joins.
fn joins(node: NodeId, user: &UserKey, name: &str) -> OpBody {
    let id = user.user_id();
    let person = PersonCard {
        user: id,
        name: name.into(),
        display: String::new(),
        certificate: user.sign(&codec::device_bytes(&id, &node)),
    };
    let name = format!("phone of {name}");
    OpBody::Join { name, person: Some(person), admission: None, friendship: None }
}

fn add(mode: AddMode, tracks: &[(&str, u64)]) -> OpBody {
    let tracks = tracks.iter().map(|(title, seconds)| track(title, *seconds)).collect();
    OpBody::Add { tracks, mode }
}

fn seek(position: Span) -> OpBody {
    OpBody::Seek { position, guard: NOW }
}

/// Entries by their numbers, as people name them; an unknown one gets a key that nothing has.
fn remove(state: &RoomState, entries: &[EntryId]) -> OpBody {
    let known = || state.queue().iter().chain(state.focus().map(|focus| &focus.entry));
    let key = |id: &EntryId| {
        known().find(|entry| entry.id == *id).map_or(EntryKey(id.0), |entry| entry.key)
    };
    OpBody::Remove { entries: entries.iter().map(key).collect() }
}

fn is(state: PlaybackState, title: &str, ms: i64) -> (PlaybackState, Option<String>, i64) {
    (state, Some(title.into()), ms)
}

use PlaybackState::{Buffering, Paused, Playing, Stopped};

#[test]
fn play_waits_for_the_beginning_and_the_old_one_sounds_until_then() {
    let mut scene = Scene::playing(&[("a", 100), ("b", 100)]);
    scene.pass(Span::from_secs(10));
    assert_eq!(scene.shown(), is(Playing, "a", 10_000));
    scene.done(&add(AddMode::Play, &[("x", 60), ("y", 60)]));
    assert_eq!(scene.shown(), is(Buffering, "x", 0));
    assert_eq!(scene.queue(), ["y", "b"]);
    let [Some(old), None, ..] = scene.settled().spans(scene.now) else { panic!("one sounds on") };
    assert_eq!((old.cut, old.covers(scene.now)), (None, true));
    scene.pass(Span::from_millis(700));
    scene.begin();
    let [Some(old), Some(new), Some(next), Some(last)] = scene.state.spans(scene.now) else {
        panic!("old, new and the next two")
    };
    assert_eq!((old.end(), new.start), (scene.now, scene.now), "one instant for all");
    assert_eq!((new.end(), next.end()), (next.start, last.start));
    assert_eq!(scene.shown(), is(Playing, "x", 0));
}

#[test]
fn an_old_track_that_ends_while_another_waits_leaves_silence_and_no_third_one() {
    let mut scene = Scene::playing(&[("a", 10), ("b", 10)]);
    scene.pass(Span::from_secs(9));
    scene.done(&OpBody::Next(NOW));
    scene.pass(Span::from_secs(30));
    assert_eq!(scene.shown(), is(Buffering, "b", 0));
    scene.begin();
    assert_eq!(scene.shown(), is(Playing, "b", 0));
    assert_eq!(scene.state.played().back().map(|entry| entry.id), Some(EntryId(1)));
}

#[test]
fn an_order_to_play_that_comes_in_parts_stays_together() {
    let mut scene = Scene::playing(&[("old", 100), ("older", 100)]);
    scene.done(&add(AddMode::Play, &[("a", 60), ("b", 60)]));
    let first = OpId { author: ME, boot: 1, seq: scene.idx };
    scene.done(&add(AddMode::Append, &[("somebody's", 60)]));
    scene.done(&add(AddMode::Continue(first), &[("c", 60), ("d", 60)]));
    assert_eq!(scene.queue(), ["b", "c", "d", "older", "somebody's"]);
    // What is played already, or was taken out, is no place to look for.
    scene.done(&OpBody::Clear);
    scene.done(&add(AddMode::Continue(first), &[("e", 60)]));
    assert_eq!(scene.queue(), ["e"]);
    scene.done(&add(AddMode::Play, &[("other", 60)]));
    scene.done(&add(AddMode::Continue(first), &[("f", 60)]));
    assert_eq!(scene.queue(), ["e", "f"]);
}

#[test]
fn append_queues_and_does_not_play() {
    let mut scene = Scene::new();
    scene.done(&add(AddMode::Append, &[("a", 10)]));
    assert_eq!((scene.shown().0, scene.queue()), (Stopped, vec!["a".to_owned()]));
    scene.done(&OpBody::Resume(NOW));
    assert_eq!((scene.shown(), scene.queue().len()), (is(Buffering, "a", 0), 0));
}

#[test]
fn tracks_follow_each_other_without_a_gap_and_without_a_coordinator() {
    let mut scene = Scene::playing(&[("a", 10), ("b", 20), ("c", 30), ("d", 40)]);
    let start = scene.now;
    let planned: Vec<_> = scene.state.segments().map(|segment| segment.id).collect();
    assert_eq!(planned.len(), 3, "the current and the next two");
    scene.pass(Span::from_millis(59_990));
    assert_eq!(scene.shown(), is(Playing, "c", 29_990));
    assert_eq!(scene.queue(), ["d"]);
    let now = scene.settled();
    assert_eq!(now.segments().next().map(|segment| segment.id), planned.last().copied());
    assert_eq!(now.next_change(), Some(start + Span::from_secs(60)));
    scene.pass(Span::from_secs(40));
    assert_eq!(scene.shown(), is(Playing, "d", 39_990));
    scene.pass(Span::from_millis(10));
    assert_eq!(scene.shown(), (Stopped, None, 0));
    assert_eq!(scene.settled().played().len(), 4);
}

#[test]
fn a_pause_keeps_the_exact_frame_and_resume_goes_on_there() {
    let mut scene = Scene::playing(&[("a", 100)]);
    let start = scene.now;
    scene.pass(Span(12_345_678_901));
    scene.done(&OpBody::Pause(NOW));
    let Phase::Paused { held } = scene.state.phase().clone() else { panic!("paused") };
    // 12.345678901 s at 44,100 Hz are 544,444.4 frames.
    assert_eq!((held.from, held.start), (544_444, None));
    let cut = scene.state.spans(scene.now)[0].expect("what was cut may fade out");
    assert_eq!((cut.start, cut.cut), (start, Some(scene.now)));
    assert_eq!(scene.state.segments().map(|segment| segment.id).collect::<Vec<_>>(), [held.id]);
    scene.pass(Span::from_secs(1000));
    scene.done(&OpBody::Resume(NOW));
    assert_eq!(scene.state.pending(), Some(&held), "prepared under its name while paused");
    scene.begin();
    let spans = scene.settled().spans(scene.now);
    assert_eq!(spans.map(|span| span.map(|span| span.from)), [Some(544_444), None, None, None]);
}

#[test]
fn a_pause_on_the_edge_of_a_frame_keeps_that_frame() {
    for frame in [1, 2, 3, 44_099, 44_100, 1_234_567] {
        let mut scene = Scene::playing(&[("a", 100)]);
        scene.pass(crate::wire::track::frames_to_span(frame, 44_100));
        scene.done(&OpBody::Pause(NOW));
        assert_eq!(scene.state.focus().map(|held| held.from), Some(frame));
    }
}

#[test]
fn a_pause_that_takes_effect_later_is_shown_later() {
    let mut scene = Scene::playing(&[("a", 100)]);
    scene.pass(Span::from_secs(10));
    scene.done(&OpBody::Pause(NOW));
    let before = scene.now - Span::from_millis(200);
    assert_eq!(scene.state.playback_status(before).state, Playing);
    assert_eq!(scene.state.position(before), Some(Span::from_millis(9_800)));
    assert!(scene.state.spans(before)[0].expect("still sounds").covers(before));
    assert_eq!(scene.shown(), is(Paused, "a", 10_000));
}

#[test]
fn a_pause_while_waiting_keeps_the_name_and_silences_the_old_one() {
    let mut scene = Scene::playing(&[("a", 100), ("b", 100)]);
    scene.pass(Span::from_secs(5));
    scene.done(&OpBody::Next(NOW));
    let waiting = scene.state.pending().expect("b").id;
    scene.done(&OpBody::Pause(NOW));
    assert_eq!(scene.shown(), is(Paused, "b", 0));
    assert_eq!(scene.state.focus().map(|held| held.id), Some(waiting));
    assert_eq!(scene.state.spans(scene.now)[0].and_then(|old| old.cut), Some(scene.now));
    assert_eq!(
        scene.refused(&OpBody::Begin { segment: waiting }),
        RefusalCode::UpdateFailed,
        "a late beginning does not end the pause"
    );
}

#[test]
fn seek_while_paused_stays_paused() {
    let mut scene = Scene::playing(&[("a", 100)]);
    scene.pass(Span::from_secs(5));
    scene.done(&OpBody::Pause(NOW));
    let before = scene.state.focus().expect("a").id;
    scene.done(&seek(Span::from_secs(60)));
    assert_eq!(scene.shown(), is(Paused, "a", 60_000));
    assert_ne!(scene.state.focus().expect("a").id, before, "another stretch, another name");
}

#[test]
fn seek_while_playing_waits_and_a_late_begin_of_the_first_seek_is_refused() {
    let mut scene = Scene::playing(&[("a", 100), ("b", 100)]);
    scene.pass(Span::from_secs(5));
    scene.done(&seek(Span::from_secs(60)));
    let first = scene.state.pending().expect("a at 60 s").id;
    scene.done(&seek(Span::from_secs(30)));
    assert_eq!(scene.refused(&OpBody::Begin { segment: first }), RefusalCode::UpdateFailed);
    scene.pass(Span::from_secs(1));
    scene.begin();
    scene.pass(Span::from_secs(2));
    assert_eq!(scene.shown(), is(Playing, "a", 32_000));
    assert!(scene.state.played().is_empty(), "the same track has not been left");
    for outside in [Span(-1), Span::from_secs(100), Span::MAX] {
        let code = scene.refused(&seek(outside));
        assert_eq!(code, RefusalCode::InvalidRequest);
    }
}

#[test]
fn next_and_previous_while_paused_stay_paused_at_the_beginning() {
    let mut scene = Scene::playing(&[("a", 100), ("b", 100)]);
    scene.pass(Span::from_secs(5));
    scene.done(&OpBody::Pause(NOW));
    scene.done(&OpBody::Next(NOW));
    assert_eq!(scene.shown(), is(Paused, "b", 0));
    scene.done(&OpBody::Prev(NOW));
    assert_eq!((scene.shown(), scene.queue()), (is(Paused, "a", 0), vec!["b".to_owned()]));
}

#[test]
fn previous_restarts_a_track_of_which_three_seconds_have_been_played() {
    let mut scene = Scene::playing(&[("a", 100), ("b", 100)]);
    scene.done(&OpBody::Next(NOW));
    scene.begin();
    scene.pass(Span::from_secs(3));
    scene.done(&OpBody::Prev(NOW));
    assert_eq!((scene.shown(), scene.queue().len()), (is(Buffering, "b", 0), 0));
    scene.begin();
    scene.pass(Span::from_millis(2_999));
    scene.done(&OpBody::Prev(NOW));
    assert_eq!((scene.shown(), scene.queue()), (is(Buffering, "a", 0), vec!["b".to_owned()]));
    scene.done(&OpBody::Prev(NOW));
    assert_eq!((scene.shown(), scene.queue().len()), (is(Buffering, "a", 0), 1), "none before");
}

#[test]
fn previous_after_the_end_plays_the_last_one_again() {
    let mut scene = Scene::playing(&[("a", 10)]);
    scene.pass(Span::from_secs(11));
    scene.done(&OpBody::Prev(NOW));
    assert_eq!(scene.shown(), is(Buffering, "a", 0));
}

#[test]
fn next_at_the_end_of_the_queue_stops() {
    let mut scene = Scene::playing(&[("a", 100)]);
    scene.pass(Span::from_secs(5));
    scene.done(&OpBody::Next(NOW));
    assert_eq!(scene.shown(), (Stopped, None, 0));
    assert_eq!(scene.state.spans(scene.now)[0].and_then(|old| old.cut), Some(scene.now));
    assert_eq!(scene.refused(&OpBody::Next(NOW)), RefusalCode::UpdateFailed);
    assert_eq!(scene.refused(&OpBody::Pause(NOW)), RefusalCode::UpdateFailed);
    assert_eq!(scene.refused(&OpBody::Resume(NOW)), RefusalCode::UpdateFailed);
    assert_eq!(scene.refused(&seek(Span::ZERO)), RefusalCode::UpdateFailed, "nothing to seek in");
    assert_eq!(Scene::new().refused(&OpBody::Prev(NOW)), RefusalCode::UpdateFailed);
}

#[test]
fn stop_forgets_the_position_and_keeps_the_rest_of_the_queue() {
    let mut scene = Scene::playing(&[("a", 100), ("b", 100)]);
    scene.pass(Span::from_secs(5));
    scene.done(&OpBody::Stop(NOW));
    assert_eq!((scene.shown(), scene.queue()), ((Stopped, None, 0), vec!["b".to_owned()]));
    scene.done(&OpBody::Stop(NOW));
    scene.done(&OpBody::Resume(NOW));
    assert_eq!(scene.shown(), is(Buffering, "b", 0));
}

#[test]
fn pausing_twice_and_resuming_twice_is_no_mistake() {
    let mut scene = Scene::playing(&[("a", 100)]);
    scene.pass(Span::from_secs(5));
    scene.done(&OpBody::Pause(NOW));
    let paused = scene.state.playback.clone();
    scene.pass(Span::from_secs(1));
    scene.done(&OpBody::Pause(NOW));
    assert_eq!(scene.state.playback, paused);
    scene.done(&OpBody::Resume(NOW));
    scene.done(&OpBody::Resume(NOW));
    scene.begin();
    scene.done(&OpBody::Resume(NOW));
    assert_eq!(scene.shown(), is(Playing, "a", 5_000));
}

#[test]
fn a_queue_that_changes_changes_the_plan_but_never_what_sounds() {
    let mut scene = Scene::playing(&[("a", 10), ("b", 10), ("c", 10)]);
    let before = scene.state.spans(scene.now);
    scene.pass(Span::from_secs(5));
    scene.done(&remove(&scene.state, &[EntryId(2)]));
    let after = scene.state.spans(scene.now);
    assert_eq!(before[0], after[0]);
    assert_eq!(before[1].map(|b| b.start), after[1].map(|c| c.start));
    assert_ne!(before[1].map(|b| b.segment), after[1].map(|c| c.segment));
    scene.pass(Span::from_secs(5));
    assert_eq!(scene.shown(), is(Playing, "c", 0));
    scene.done(&OpBody::Clear);
    assert_eq!((scene.shown(), scene.queue().len()), (is(Playing, "c", 0), 0));
}

#[test]
fn what_sounds_is_in_the_plan_however_short_the_tracks_before_it_were() {
    let mut scene = Scene::new();
    let short = |title: &str| Track { frames: 4_410, ..track(title, 1) };
    let tracks = ["a", "b", "c", "d", "e"].map(short).into_iter().chain([track("long", 60)]);
    scene.done(&OpBody::Add { tracks: tracks.collect(), mode: AddMode::Play });
    scene.begin();
    scene.pass(Span::from_millis(600));
    let spans = scene.settled().spans(scene.now).map(|span| span.map(|span| span.frames));
    assert_eq!(spans, [Some(4_410), Some(4_410), Some(4_410), Some(60 * 44_100)]);
}

#[test]
fn only_what_waits_can_be_removed() {
    let mut scene = Scene::playing(&[("a", 10), ("b", 10)]);
    for entries in [vec![], vec![EntryId(1)], vec![EntryId(77)], vec![EntryId(2), EntryId(77)]] {
        let code = scene.refused(&remove(&scene.state, &entries));
        let none = entries.is_empty();
        assert_eq!(code, if none { RefusalCode::InvalidRequest } else { RefusalCode::NotFound });
    }
    assert_eq!(scene.queue(), ["b"]);
}

#[test]
fn a_track_that_fails_is_left_out_with_its_reason_and_the_next_takes_its_turn() {
    let mut scene = Scene::new();
    scene.done(&add(AddMode::Play, &[("a", 10), ("b", 10)]));
    for (failed, then) in [("a", is(Buffering, "b", 0)), ("b", (Stopped, None, 0))] {
        let segment = scene.state.pending().expect("it waits").id;
        scene.done(&OpBody::Fail { segment, reason: "no data".into() });
        let notice = scene.state.notice().expect("people are told");
        assert!(notice.message.contains(failed) && notice.message.contains("no data"));
        assert_eq!(scene.shown(), then);
    }
    let segment = SegmentId(1);
    let fail = OpBody::Fail { segment, reason: String::new() };
    assert_eq!(scene.refused(&fail), RefusalCode::UpdateFailed);
}

#[test]
fn when_nothing_else_can_be_played_what_sounds_goes_on() {
    let mut scene = Scene::playing(&[("a", 100)]);
    scene.pass(Span::from_secs(5));
    for asked in [add(AddMode::Play, &[("broken", 10)]), seek(Span::from_secs(50))] {
        let before = scene.state.spans(scene.now);
        scene.done(&asked);
        let segment = scene.state.pending().expect("it waits").id;
        scene.done(&OpBody::Fail { segment, reason: "no data".into() });
        assert_eq!(scene.shown(), is(Playing, "a", 5_000));
        assert_eq!(scene.state.spans(scene.now), before);
        assert!(scene.state.played().is_empty());
    }
}

#[test]
fn only_the_coordinator_begins_fails_and_settles() {
    let mut scene = Scene::new();
    scene.done(&add(AddMode::Play, &[("a", 10)]));
    let segment = scene.state.pending().expect("a").id;
    let fail = OpBody::Fail { segment, reason: String::new() };
    for body in [OpBody::Begin { segment }, fail, OpBody::Settle] {
        let refusal = scene.by(OTHER, &body).expect_err("not the owner of the term");
        assert_eq!(refusal.code, RefusalCode::AuthRequired);
    }
    scene.done(&OpBody::Settle);
}

#[test]
fn who_is_not_a_member_cannot_act_and_who_left_is_gone() {
    let mut scene = Scene::new();
    let refusal = scene.by(STRANGER, &OpBody::Clear).expect_err("no member");
    assert_eq!(refusal.code, RefusalCode::NotInRoom);
    scene.done(&OpBody::Volume { member: OTHER, volume: 30 });
    let joined_at = scene.state.member(&OTHER).expect("there").joined_at;
    scene.pass(Span::from_secs(5));
    scene.by(OTHER, &join("Corridor")).expect("a new name");
    let member = scene.state.member(&OTHER).expect("still there").clone();
    assert_eq!((member.name.as_str(), member.volume), ("Corridor", 30));
    assert_eq!(member.joined_at, joined_at, "a new name is no new arrival");
    scene.by(OTHER, &OpBody::Leave).expect("a member may leave");
    assert!(scene.state.member(&OTHER).is_none());
    scene.by(OTHER, &join("Corridor")).expect("and come back");
    let member = scene.state.member(&OTHER).expect("back");
    assert_eq!((member.joined_at, member.volume), (scene.now, 100));
}

#[test]
fn names_are_printable_and_the_room_has_its_number_of_members() {
    let mut scene = Scene::new();
    for name in ["", "  ", "a\nb", &"x".repeat(65)] {
        let refusal = scene.by(STRANGER, &join(name)).expect_err("no name");
        assert_eq!(refusal.code, RefusalCode::JoinFailed);
    }
    for i in scene.state.members().len()..MAX_MEMBERS {
        let node = NodeId(*blake3::hash(&i.to_le_bytes()).as_bytes());
        scene.by(node, &join("speaker")).expect("there is room, and names may be alike");
    }
    let refusal = scene.by(STRANGER, &join("late")).expect_err("full");
    assert_eq!(refusal.code, RefusalCode::RoomFull);
    scene.by(OTHER, &join("renamed")).expect("who is in may change its name");
}

#[test]
fn a_room_is_claimed_by_the_first_act_of_a_person() {
    let mut scene = Scene::new();
    scene.done(&OpBody::Settle);
    assert!(scene.state.unclaimed(), "joining and settling is what devices do");
    assert_eq!(scene.refused(&OpBody::Pause(NOW)), RefusalCode::UpdateFailed);
    assert!(scene.state.unclaimed(), "nothing was done");
    scene.done(&OpBody::Volume { member: ME, volume: 50 });
    assert!(!scene.state.unclaimed());
    let created = RoomState::new(&Genesis { unattended: false, ..genesis() });
    assert!(!created.unclaimed());
}

#[test]
fn volumes_are_checked_and_change_at_one_instant() {
    let mut scene = Scene::new();
    scene.done(&OpBody::Volume { member: ME, volume: 50 });
    scene.pass(Span::from_secs(1));
    scene.done(&OpBody::RoomVolume { volume: 80 });
    let volumes = [ME, OTHER].map(|node| scene.state.member(&node).expect("there").volume);
    assert_eq!(volumes, [30, 80]);
    assert_eq!(scene.state.room_volume(), 80);
    let step = scene.state.gain(&ME);
    assert_eq!((step.from, step.to, step.at), (gain_of(50), gain_of(30), scene.now));
    assert_eq!(scene.state.gain(&STRANGER), GainStep::steady(1.0));
    scene.done(&OpBody::Mute { member: ME, muted: true });
    assert_eq!(scene.state.gain(&ME), GainStep { from: gain_of(30), to: 0.0, at: scene.now });
    let wrong = [
        (OpBody::Volume { member: ME, volume: 101 }, RefusalCode::InvalidRequest),
        (OpBody::RoomVolume { volume: 255 }, RefusalCode::InvalidRequest),
        (OpBody::Volume { member: STRANGER, volume: 1 }, RefusalCode::NotFound),
        (OpBody::Mute { member: STRANGER, muted: true }, RefusalCode::NotFound),
    ];
    for (body, code) in wrong {
        assert_eq!(scene.refused(&body), code);
    }
}

#[test]
fn tracks_that_make_no_sense_are_refused() {
    let good = track("a", 10);
    let spoiled: [fn(&mut Track); 10] = [
        |track| track.rate = 7_999,
        |track| track.rate = 192_001,
        |track| track.channels = 0,
        |track| track.channels = 9,
        |track| track.frames = 0,
        |track| track.frames = u64::MAX,
        |track| track.size = 0,
        |track| track.size = u64::MAX,
        |track| track.title = "x".repeat(201),
        |track| track.artists = vec![String::new(); 9],
    ];
    let mut scene = Scene::new();
    for spoil in spoiled {
        let mut bad = good.clone();
        spoil(&mut bad);
        let body = OpBody::Add { tracks: vec![good.clone(), bad], mode: AddMode::Append };
        assert_eq!(scene.refused(&body), RefusalCode::UnsupportedMedia);
    }
    let none = OpBody::Add { tracks: vec![], mode: AddMode::Play };
    assert_eq!(scene.refused(&none), RefusalCode::InvalidRequest);
}

#[test]
fn a_full_queue_takes_no_more_and_its_state_fits_into_a_snapshot() {
    let mut scene = Scene::new();
    let mut longest = track("a", 10);
    longest.title = "\u{1F600}".repeat(200);
    longest.album = "\u{1F600}".repeat(200);
    longest.artists = vec!["\u{1F600}".repeat(14); 8];
    assert_eq!(rules::check_track(&longest), Ok(()));
    // 14 of them fill an operation; 1,000 is 10 times 14 and some.
    while scene.state.queue().len() < MAX_QUEUE {
        let n = (MAX_QUEUE - scene.state.queue().len()).min(14);
        let tracks = vec![longest.clone(); n];
        scene.done(&OpBody::Add { tracks, mode: AddMode::Append });
    }
    let one_more = add(AddMode::Append, &[("b", 10)]);
    assert_eq!(scene.refused(&one_more), RefusalCode::QueueFull);
    let bytes = codec::encode_state(&scene.state).expect("within the limit");
    // Beside it the votes for each entry, 1.2 MB of what was done, and 1.4 of the rest.
    let votes = MAX_QUEUE * crate::base::limits::MAX_UP_VOTES * size_of::<crate::base::UserId>();
    assert!(bytes.len() + votes + 2_600_000 < crate::base::limits::MAX_SNAPSHOT, "{}", bytes.len());
    assert_eq!(codec::decode_state::<RoomState>(&bytes), Ok(scene.state));
}

#[test]
fn an_operation_is_never_applied_twice() {
    let mut scene = Scene::new();
    let body = add(AddMode::Append, &[("a", 10)]);
    let entry = scene.entry(ME, &body);
    assert_eq!(scene.state.known(&entry.op.id), None);
    scene.state.apply(&entry).expect("the first time");
    let again = Entry { idx: entry.idx + 1, ..entry.clone() };
    assert!(scene.state.apply(&again).is_err());
    assert_eq!(
        (scene.state.known(&entry.op.id).map(|(_, at)| at), scene.queue().len()),
        (Some(scene.now), 1)
    );
}

#[test]
fn an_operation_of_another_room_or_kind_is_refused() {
    let mut scene = Scene::new();
    let entry = scene.entry(ME, &OpBody::Clear);
    let elsewhere = Op { room: crate::base::RoomId([5; 32]), ..entry.op.clone() };
    let mislabelled = Op { kind: 99, ..entry.op.clone() };
    let garbage = Op { body: vec![255; 40], ..entry.op.clone() };
    for op in [elsewhere, mislabelled, garbage] {
        let refusal = scene.state.apply(&Entry { op, ..entry.clone() }).expect_err("not ours");
        assert_eq!(refusal.code, RefusalCode::InvalidRequest);
    }
}

#[test]
fn a_late_skip_cannot_skip_the_next_song() {
    let mut scene = Scene::playing(&[("a", 10), ("b", 100), ("c", 100)]);
    let meant = scene.settled().guard();
    scene.pass(Span::from_secs(11));
    for body in [
        OpBody::Next(meant),
        OpBody::Prev(meant),
        OpBody::Seek { position: Span::ZERO, guard: meant },
    ] {
        assert_eq!(scene.refused(&body), RefusalCode::UpdateFailed);
    }
    assert_eq!(scene.shown(), is(Playing, "b", 1_000));
    let other_dj = Guard { dj_epoch: 7, ..scene.settled().guard() };
    assert_eq!(scene.refused(&OpBody::Next(other_dj)), RefusalCode::UpdateFailed);
    // Two people skip at once: one song is skipped.
    let both = scene.settled().guard();
    scene.done(&OpBody::Next(both));
    scene.begin();
    assert_eq!(scene.refused(&OpBody::Next(both)), RefusalCode::UpdateFailed);
    assert_eq!(scene.shown(), is(Playing, "c", 0));
}

#[test]
fn silence_is_meant_for_the_track_that_has_just_followed_by_itself_as_well() {
    for silence in [OpBody::Pause as fn(Guard) -> OpBody, OpBody::Stop] {
        let mut scene = Scene::playing(&[("a", 10), ("b", 10), ("c", 10)]);
        let meant = scene.settled().guard();
        scene.pass(Span::from_secs(11));
        let mut later = scene.clone();
        scene.done(&silence(meant));
        later.pass(Span::from_secs(10));
        assert_eq!(later.refused(&silence(meant)), RefusalCode::UpdateFailed, "c is another");
    }
}

#[test]
fn a_resume_meant_for_another_pause_is_refused() {
    let mut scene = Scene::playing(&[("a", 100)]);
    scene.done(&OpBody::Pause(NOW));
    let meant = scene.settled().guard();
    scene.done(&OpBody::Resume(NOW));
    scene.begin();
    scene.done(&OpBody::Pause(NOW));
    assert_eq!(scene.refused(&OpBody::Resume(meant)), RefusalCode::UpdateFailed);
}

#[test]
fn a_track_that_comes_too_late_to_be_played_is_queued() {
    let mut scene = Scene::playing(&[("a", 100), ("b", 100)]);
    let mut entry = scene.entry(OTHER, &add(AddMode::Play, &[("late", 100)]));
    entry.at = entry.op.created + crate::base::limits::PLAY_STALE + Span(1);
    scene.state.apply(&entry).expect("it stands");
    scene.now = entry.at;
    assert_eq!(scene.shown(), is(Playing, "a", 5_000));
    assert_eq!(scene.queue(), ["b", "late"]);
    let mut unknown = scene.entry(OTHER, &add(AddMode::Play, &[("now", 100)]));
    unknown.op.created = Op::NO_TIME;
    scene.state.apply(&unknown).expect("it stands");
    assert_eq!(scene.settled().pending().map(|s| s.entry.track.title.as_str()), Some("now"));
}

#[test]
fn two_halves_give_their_tracks_and_stretches_different_names() {
    let whole = Scene::playing(&[("a", 10)]);
    let (mut here, mut there) = (whole.clone(), whole);
    here.done(&add(AddMode::Append, &[("here", 10)]));
    there.by(OTHER, &add(AddMode::Append, &[("there", 10)])).expect("it stands");
    let name = |scene: &Scene| (scene.state.queue()[0].id, scene.state.queue()[0].key);
    assert_eq!(name(&here).0, name(&there).0, "one number");
    assert_ne!(name(&here).1, name(&there).1);
    let next = |scene: &Scene| scene.state.segments().nth(1).map(|segment| segment.id);
    assert_ne!(next(&here), next(&there), "nobody plays the one for the other");
    let gone = remove(&there.state, &[EntryId(2)]);
    assert_eq!(here.refused(&gone), RefusalCode::NotFound);
}

/// What a person, or a coordinator, may do next.
#[derive(Clone, Debug)]
enum Act {
    Body(OpBody),
    Remove(Vec<EntryId>),
    /// What was meant for a stretch of music that is over.
    Late(OpBody),
    /// Begin or fail what is pending, or what was pending once.
    Begin,
    Fail,
    BeginStale,
    /// Entries of the queue, by their places in it.
    Move(usize, usize),
    Gone(usize),
    Back,
}

fn acts() -> impl Strategy<Value = Act> {
    let mode = prop_oneof![Just(AddMode::Append), Just(AddMode::Play)];
    // Tracks of a fraction of a frame's time up to seconds, at rates that do not divide evenly.
    let tracks = prop::collection::vec((1_u64..300_000, 8_000_u32..=192_000), 1..5);
    let added = (tracks, mode).prop_map(|(tracks, mode)| {
        let tracks =
            tracks.into_iter().map(|(frames, rate)| Track { rate, frames, ..track("t", 1) });
        OpBody::Add { tracks: tracks.collect(), mode }
    });
    let bodies = prop_oneof![
        3 => added,
        1 => Just(OpBody::Clear),
        2 => Just(OpBody::Pause(NOW)),
        2 => Just(OpBody::Resume(NOW)),
        1 => Just(OpBody::Stop(NOW)),
        2 => (-1_000_000_000_i64..6_000_000_000).prop_map(|n| seek(Span(n))),
        2 => Just(OpBody::Next(NOW)),
        2 => Just(OpBody::Prev(NOW)),
        1 => Just(OpBody::Settle),
        1 => (0_u8..=110).prop_map(|volume| OpBody::Volume { member: OTHER, volume }),
        1 => (0_u8..=110).prop_map(|volume| OpBody::RoomVolume { volume }),
        1 => any::<bool>().prop_map(|muted| OpBody::Mute { member: ME, muted }),
        1 => any::<u64>().prop_map(|seed| OpBody::Shuffle { seed }),
        2 => prop::sample::select(vec![Repeat::Off, Repeat::One, Repeat::All])
            .prop_map(|mode| OpBody::Repeat { mode }),
    ];
    let removed = prop::collection::vec((0_u64..20).prop_map(EntryId), 0..3);
    let stale = Guard { segment: Some(SegmentId(1)), dj_epoch: 0 };
    let late = prop_oneof![
        Just(OpBody::Pause(stale)),
        Just(OpBody::Resume(stale)),
        Just(OpBody::Stop(stale)),
        Just(OpBody::Next(stale)),
        Just(OpBody::Prev(stale)),
    ];
    prop_oneof![8 => bodies.prop_map(Act::Body), 1 => removed.prop_map(Act::Remove),
        1 => late.prop_map(Act::Late), 5 => Just(Act::Begin), 1 => Just(Act::Fail),
        1 => Just(Act::BeginStale),
        1 => (0_usize..6, 0_usize..6).prop_map(|(from, to)| Act::Move(from, to)),
        1 => (0_usize..6).prop_map(Act::Gone), 1 => Just(Act::Back)]
}

fn body_of(act: Act, state: &RoomState, former: SegmentId) -> OpBody {
    let pending = state.pending().map_or(former, |pending| pending.id);
    match act {
        Act::Body(body) | Act::Late(body) => body,
        Act::Remove(entries) => remove(state, &entries),
        Act::Begin => OpBody::Begin { segment: pending },
        Act::BeginStale => OpBody::Begin { segment: former },
        Act::Fail => OpBody::Fail { segment: pending, reason: "no data".into() },
        Act::Move(from, to) => {
            let key = |place: usize| state.queue().get(place).map(|entry| entry.key);
            OpBody::Move { entry: key(from).unwrap_or(EntryKey(1)), behind: key(to) }
        }
        Act::Gone(place) => {
            let focus = state.focus().map(|focus| &focus.entry);
            let entry = state.queue().get(place).or(focus);
            let gone = entry.map(|entry| entry.key).into_iter().collect();
            OpBody::Availability { gone, back: vec![] }
        }
        Act::Back => {
            let all = state.queue().iter().map(|entry| entry.key).collect();
            OpBody::Availability { gone: vec![], back: all }
        }
    }
}

fn check_spans(state: &RoomState, at: RoomTime) {
    let spans: Vec<_> = state.spans(at).into_iter().flatten().collect();
    for pair in spans.windows(2) {
        assert!(pair[0].end() <= pair[1].start, "{pair:?}");
    }
    let ids: std::collections::BTreeSet<_> = spans.iter().map(|span| span.segment).collect();
    assert_eq!(ids.len(), spans.len(), "one name, one stretch");
    if let Phase::Playing { current } = state.phase()
        && current.start.is_some_and(|start| start <= at)
    {
        assert!(spans.iter().any(|span| span.segment == current.id), "what sounds is in the plan");
    }
}

fn check_bounds(state: &RoomState) {
    assert!(state.queue().len() <= MAX_QUEUE + MAX_PLAYED);
    assert!(state.played().len() <= MAX_PLAYED);
    assert!(state.recent_ops() <= MAX_RECENT_OPS);
    let focus = state.focus().map(|focus| focus.entry.key);
    let mut keys: Vec<_> = state.queue().iter().map(|entry| entry.key).chain(focus).collect();
    keys.sort_unstable();
    assert!(keys.windows(2).all(|pair| pair[0] != pair[1]), "an entry has one place");
    let mut rows: Vec<_> = state.heard().map(|row| row.segment).collect();
    rows.sort_unstable();
    assert!(rows.windows(2).all(|pair| pair[0] != pair[1]), "a playing has one row");
    assert_eq!(state.check(&genesis()), Ok(()), "every state would be taken from a snapshot");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_sequence_keeps_the_invariants(
        acts in prop::collection::vec((acts(), 0_i64..4_000_000_000, 0_i64..2_000_000_000), 1..60),
    ) {
        let mut scene = Scene::new();
        // A second node that hears of every entry late and looks at its state often meanwhile.
        let mut replica = scene.state.clone();
        let mut stale = SegmentId(1);
        for (act, pass, peek) in acts {
            let old_focus = scene.settled().focus().cloned();
            let body = body_of(act, &scene.state, stale);
            stale = scene.state.pending().map_or(stale, |pending| pending.id);
            scene.pass(Span(pass));
            let body = scene.meant(&body);
            let entry = scene.entry(ME, &body);
            let ordered = scene.state.validate(&entry.op, &body, ME, entry.at);
            prop_assert_eq!(&ordered, &scene.state.apply(&entry));

            let between = entry.at - Span(peek);
            check_spans(&replica.settled(between), between);
            replica.settle(between);
            prop_assert_eq!(&ordered, &replica.apply(&entry));
            prop_assert_eq!(scene.state.hash(), replica.hash());
            check_spans(&scene.state, entry.at);
            check_bounds(&scene.state);
            if let (OpBody::Pause(_), Some(old), Phase::Paused { held }) =
                (&body, &old_focus, scene.state.phase())
                && old.start.is_some() && old.entry.id == held.entry.id
                // What is repeated may have begun anew meanwhile.
                && old.end().is_some_and(|end| end > entry.at)
            {
                prop_assert_eq!(held.from, old.frame_at(entry.at));
            }
        }
    }

    #[test]
    fn settling_twice_is_settling_once(
        lengths in prop::collection::vec((1_u64..200_000, 8_000_u32..=192_000), 1..8),
        first in 0_i64..20_000_000_000,
        then in 0_i64..20_000_000_000,
        mode in prop::sample::select(vec![Repeat::Off, Repeat::One, Repeat::All]),
    ) {
        let mut scene = Scene::new();
        let tracks = lengths.into_iter().map(|(frames, rate)| Track { rate, frames, ..track("t", 1) });
        scene.done(&OpBody::Add { tracks: tracks.collect(), mode: AddMode::Play });
        scene.begin();
        let (a, b) = (scene.now + Span(first), scene.now + Span(first + then));
        scene.done(&OpBody::Repeat { mode });
        let twice = scene.state.settled(a).settled(b).into_owned();
        prop_assert_eq!(&twice, &*scene.state.settled(b));
        let (early, late) = (scene.state.settled(a), twice);
        if early.focus().map(|f| f.id) == late.focus().map(|f| f.id) {
            prop_assert!(early.position(a) <= late.position(b), "a position never runs backwards");
        }
    }

    #[test]
    fn a_state_of_garbage_is_refused_and_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let snapshot = crate::wire::message::Snapshot {
            genesis: genesis(),
            term: Term::ZERO,
            idx: 1,
            last_term: Term::ZERO,
            chain: [0; 16],
            state: bytes,
        };
        prop_assert!(Room::from_snapshot(&snapshot).is_err());
        if let Ok(state) = codec::decode_state::<RoomState>(&snapshot.state) {
            prop_assert!(state.check(&snapshot.genesis).is_err());
        }
    }
}
