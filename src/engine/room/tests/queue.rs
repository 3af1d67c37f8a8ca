//! Order and repetition of the queue, entries that nobody has, and what the history keeps.

use super::*;
use crate::base::limits::{MAX_HEARD, MAX_REPEATS, PLAY_STALE};
use crate::wire::op::Repeat;

fn key(scene: &Scene, title: &str) -> EntryKey {
    let state = scene.settled();
    let mut entries = state.queue().iter().chain(state.focus().map(|focus| &focus.entry));
    entries.find(|entry| entry.track.title == title).expect(title).key
}

fn moved(scene: &Scene, title: &str, behind: Option<&str>) -> OpBody {
    let behind = behind.map(|behind| key(scene, behind));
    OpBody::Move { entry: key(scene, title), behind }
}

fn repeat(mode: Repeat) -> OpBody {
    OpBody::Repeat { mode }
}

fn gone(scene: &Scene, titles: &[&str]) -> OpBody {
    let gone = titles.iter().map(|title| key(scene, title)).collect();
    OpBody::Availability { gone, back: vec![] }
}

fn back(scene: &Scene, titles: &[&str]) -> OpBody {
    let back = titles.iter().map(|title| key(scene, title)).collect();
    OpBody::Availability { gone: vec![], back }
}

/// Title, reason, and seconds from beginning to end.
fn history(scene: &Scene) -> Vec<(String, EndReason, i64)> {
    let state = scene.settled();
    let seconds = |row: &Heard| (row.ended - row.started).as_millis() / 1000;
    state.heard().map(|row| (row.track.title.clone(), row.reason, seconds(row))).collect()
}

fn row(title: &str, reason: EndReason, seconds: i64) -> (String, EndReason, i64) {
    (title.into(), reason, seconds)
}

use EndReason::{Failed, Finished, Skipped, Stopped as Ended, Unavailable};

#[test]
fn an_entry_goes_behind_the_one_that_was_named() {
    let mut scene = Scene::playing(&[("a", 10), ("b", 10), ("c", 10), ("d", 10)]);
    scene.done(&moved(&scene, "d", None));
    assert_eq!(scene.queue(), ["d", "b", "c"]);
    scene.done(&moved(&scene, "d", Some("b")));
    assert_eq!(scene.queue(), ["b", "d", "c"]);
    scene.done(&moved(&scene, "b", Some("c")));
    assert_eq!(scene.queue(), ["d", "c", "b"]);
    let planned: Vec<_> = scene.state.segments().map(|s| s.entry.track.title).collect();
    assert_eq!(planned, ["a", "d", "c"], "the plan follows the queue");
    scene.done(&moved(&scene, "b", Some("a")));
    assert_eq!(scene.queue(), ["b", "d", "c"], "what plays stands before everything");
    let itself = moved(&scene, "b", Some("b"));
    assert_eq!(scene.refused(&itself), RefusalCode::InvalidRequest);
    let playing = moved(&scene, "a", Some("b"));
    assert_eq!(scene.refused(&playing), RefusalCode::NotFound);
    let body = OpBody::Move { entry: key(&scene, "b"), behind: Some(EntryKey(5)) };
    assert_eq!(scene.refused(&body), RefusalCode::NotFound);
}

#[test]
fn one_seed_gives_one_order_and_what_plays_stays() {
    let titles: Vec<String> = (0..50).map(|n| format!("{n:02}")).collect();
    let tracks: Vec<_> = titles.iter().map(|title| (title.as_str(), 10)).collect();
    let scene = Scene::playing(&tracks);
    let shuffled = |seed| {
        let mut scene = scene.clone();
        scene.pass(Span::from_secs(3));
        scene.done(&OpBody::Shuffle { seed });
        assert_eq!(scene.shown(), is(Playing, "00", 3_000));
        scene.queue()
    };
    let (one, two) = (shuffled(1), shuffled(2));
    assert_eq!(one, shuffled(1));
    assert_ne!(one, two);
    assert_ne!(one, scene.queue());
    let sorted = |mut queue: Vec<String>| {
        queue.sort();
        queue
    };
    assert_eq!(sorted(one), titles[1..], "nothing is lost and nothing doubled");
}

#[test]
fn a_repeated_track_follows_itself_without_a_gap_until_somebody_goes_on() {
    let mut scene = Scene::playing(&[("a", 10), ("b", 10)]);
    let start = scene.now;
    scene.done(&repeat(Repeat::One));
    let planned: Vec<_> = scene.state.segments().map(|s| (s.entry.track.title, s.start)).collect();
    let due = |n: i64| Some(start + Span::from_secs(10 * n));
    assert_eq!(planned, [("a", due(0)), ("a", due(1)), ("a", due(2))].map(|(t, s)| (t.into(), s)));
    let ids: Vec<_> = scene.state.segments().map(|segment| segment.id).collect();
    scene.pass(Span::from_secs(25));
    assert_eq!(scene.shown(), is(Playing, "a", 5_000));
    assert_eq!(scene.settled().focus().map(|focus| focus.id), ids.last().copied());
    assert_eq!(history(&scene), vec![row("a", Finished, 10); 2]);
    scene.done(&OpBody::Next(NOW));
    assert_eq!(scene.shown(), is(Buffering, "b", 0));
    scene.begin();
    scene.pass(Span::from_secs(19));
    assert_eq!(scene.shown(), is(Playing, "b", 9_000));
    scene.done(&repeat(Repeat::Off));
    scene.pass(Span::from_secs(2));
    assert_eq!(scene.shown(), (Stopped, None, 0));
}

#[test]
fn a_repeated_queue_goes_round_and_nothing_is_lost() {
    let mut scene = Scene::playing(&[("a", 10), ("b", 10), ("c", 10)]);
    scene.done(&repeat(Repeat::All));
    scene.pass(Span::from_secs(75));
    assert_eq!(
        (scene.shown(), scene.queue()),
        (is(Playing, "b", 5_000), vec!["c".into(), "a".into()])
    );
    scene.done(&OpBody::Next(NOW));
    scene.begin();
    assert_eq!(scene.queue(), ["a", "b"], "what was skipped comes again as well");
    scene.done(&OpBody::Prev(NOW));
    assert_eq!(
        (scene.shown(), scene.queue()),
        (is(Buffering, "b", 0), vec!["c".into(), "a".into()])
    );
    scene.done(&OpBody::Stop(NOW));
    assert_eq!(scene.queue(), ["c", "a", "b"]);
    let mut alone = Scene::playing(&[("a", 10)]);
    alone.done(&repeat(Repeat::All));
    alone.pass(Span::from_secs(35));
    assert_eq!(alone.shown(), is(Playing, "a", 5_000));
    let segment = |scene: &Scene| scene.settled().focus().map(|focus| focus.id);
    let before = segment(&alone);
    alone.done(&OpBody::Next(NOW));
    assert_ne!(segment(&alone), before, "it begins anew");
}

#[test]
fn a_repetition_costs_no_more_than_it_may() {
    let mut scene = Scene::playing(&[("a", 1)]);
    scene.done(&repeat(Repeat::One));
    let far = scene.now + Span::from_secs(40_000_000);
    let state = scene.state.settled(far).into_owned();
    assert_eq!(state.phase(), &Phase::Stopped, "nobody was there for a year");
    assert_eq!(state.heard().count(), MAX_HEARD);
    scene.pass(Span::from_secs(i64::from(MAX_REPEATS) - 5));
    scene.done(&OpBody::Settle);
    scene.pass(Span::from_secs(i64::from(MAX_REPEATS) - 5));
    assert_eq!(scene.shown().0, Playing, "where there is a coordinator it goes on");
    let mut short = Scene::playing(&[("blip", 1)]);
    let Phase::Playing { current } = &mut short.state.playback.phase else { panic!("it plays") };
    current.entry.track.frames = 10;
    short.done(&repeat(Repeat::One));
    short.pass(Span::from_secs(1));
    assert_eq!(short.shown().0, Stopped, "nobody could hear it as music");
}

#[test]
fn what_nobody_has_is_passed_over_and_plays_when_it_is_back() {
    let mut scene = Scene::playing(&[("a", 10), ("b", 10), ("c", 10), ("d", 10)]);
    scene.done(&gone(&scene, &["b"]));
    let shown = scene.state.queue_status();
    let unavailable: Vec<_> = shown.iter().map(|entry| entry.unavailable).collect();
    assert_eq!(unavailable, [true, false, false]);
    assert!(scene.state.notice().is_none(), "it is not its turn");
    scene.pass(Span::from_secs(12));
    assert_eq!(
        (scene.shown(), scene.queue()),
        (is(Playing, "c", 2_000), vec!["b".into(), "d".into()])
    );
    let notice = scene.settled().playback_status(scene.now).notice.expect("people are told");
    assert!(notice.contains("\"b\""), "{notice}");
    assert_eq!(history(&scene), [row("a", Finished, 10), row("b", Unavailable, 0)]);
    scene.done(&back(&scene, &["b"]));
    scene.pass(Span::from_secs(10));
    assert_eq!(scene.shown(), is(Playing, "b", 2_000));
    assert!(scene.settled().queue_status().iter().all(|entry| !entry.unavailable));
    scene.pass(Span::from_secs(70));
    assert!(scene.settled().playback_status(scene.now).notice.is_none(), "that was long ago");
}

#[test]
fn where_nobody_has_anything_the_music_ends_and_waits() {
    let mut scene = Scene::playing(&[("a", 10), ("b", 10)]);
    scene.done(&gone(&scene, &["b"]));
    scene.pass(Span::from_secs(11));
    assert_eq!((scene.shown(), scene.queue()), ((Stopped, None, 0), vec!["b".into()]));
    assert_eq!(scene.refused(&OpBody::Resume(NOW)), RefusalCode::UpdateFailed);
    scene.done(&back(&scene, &["b"]));
    scene.done(&OpBody::Resume(NOW));
    assert_eq!(scene.shown(), is(Buffering, "b", 0));
    // Nobody has it after all, and it waits to begin.
    scene.done(&gone(&scene, &["b"]));
    assert_eq!((scene.shown(), scene.queue()), ((Stopped, None, 0), vec!["b".into()]));
    assert_eq!(history(&scene).last(), Some(&row("b", Unavailable, 0)));
    scene.done(&OpBody::Clear);
    scene.done(&add(AddMode::Append, &[("c", 10)]));
    assert!(scene.state.queue_status().iter().all(|entry| !entry.unavailable));
    let nothing = OpBody::Availability { gone: vec![], back: vec![] };
    assert_eq!(scene.refused(&nothing), RefusalCode::InvalidRequest);
    let some = gone(&scene, &["c"]);
    let refusal = scene.by(OTHER, &some).expect_err("not the coordinator");
    assert_eq!(refusal.code, RefusalCode::AuthRequired);
}

#[test]
fn a_playing_has_one_row_however_often_it_is_paused() {
    let mut scene = Scene::playing(&[("a", 60), ("b", 60), ("c", 60)]);
    let first = scene.settled().focus().map(|focus| focus.id).expect("a");
    scene.pass(Span::from_secs(10));
    scene.done(&OpBody::Pause(NOW));
    scene.pass(Span::from_secs(5));
    scene.done(&OpBody::Resume(NOW));
    scene.begin();
    scene.done(&seek(Span::from_secs(50)));
    scene.pass(Span::from_secs(1));
    scene.begin();
    assert_eq!(history(&scene), [], "it is not over");
    scene.pass(Span::from_secs(4));
    scene.done(&OpBody::Next(NOW));
    scene.pass(Span::from_secs(1));
    assert_eq!(history(&scene), [], "it sounds until the next one begins");
    scene.begin();
    assert_eq!(history(&scene), [row("a", Skipped, 21)]);
    assert_eq!(scene.settled().heard().next().map(|row| row.segment), Some(first));
    scene.pass(Span::from_secs(7));
    scene.done(&OpBody::Pause(NOW));
    scene.pass(Span::from_secs(100));
    scene.done(&OpBody::Stop(NOW));
    assert_eq!(history(&scene).last(), Some(&row("b", Ended, 7)), "the silence is no part of it");
    scene.done(&OpBody::Resume(NOW));
    let segment = scene.state.pending().expect("c").id;
    scene.done(&OpBody::Fail { segment, reason: "no data".into() });
    assert_eq!(history(&scene).last(), Some(&row("c", Failed, 0)));
    assert_eq!(history(&scene).len(), 3);
}

#[test]
fn what_was_never_heard_has_no_row() {
    let mut scene = Scene::playing(&[("a", 60), ("b", 60), ("c", 60)]);
    scene.pass(Span::from_secs(2));
    scene.done(&OpBody::Next(NOW));
    scene.done(&OpBody::Next(NOW));
    scene.done(&OpBody::Stop(NOW));
    assert_eq!(history(&scene), [row("a", Ended, 2)]);
}

#[test]
fn a_row_tells_who_was_there_and_who_brought_it() {
    let mut scene = Scene::new();
    let (anna, ben) = (person(1), person(2));
    for (n, user) in [(20, &anna), (21, &anna), (22, &ben)] {
        let node = NodeId([n; 32]);
        scene.by(node, &joins(node, user, "Somebody")).expect("there is room");
    }
    scene.by(OTHER, &add(AddMode::Play, &[("a", 10)])).expect("a member");
    scene.begin();
    scene.by(OTHER, &OpBody::Leave).expect("a member");
    scene.pass(Span::from_secs(11));
    let state = scene.settled();
    let row = state.heard().next().expect("it is over");
    assert_eq!(
        (row.present, row.added_by),
        (2, OTHER),
        "two devices of one person, and another person"
    );
    assert_eq!(row.added_by_name, OTHER.short(), "it has left");
}

#[test]
fn late_orders_for_the_queue_are_left_out() {
    use super::super::merge::{Came, Reason, Verdict, merge};
    let mut scene = Scene::playing(&[("a", 100), ("b", 10), ("c", 10)]);
    let shuffle = scene.entry(OTHER, &OpBody::Shuffle { seed: 1 });
    let set = scene.entry(OTHER, &repeat(Repeat::One));
    let behind = scene.entry(OTHER, &moved(&scene, "c", Some("b")));
    let verdict = |scene: &Scene, entry: &Entry| {
        let body = codec::decode_body(&entry.op).expect("ours");
        merge(&entry.op, &body, Came::CutOff, &scene.settled(), scene.now)
    };
    for entry in [&shuffle, &set, &behind] {
        assert_eq!(verdict(&scene, entry), Verdict::Keep);
    }
    scene.pass(PLAY_STALE + Span(1));
    assert_eq!(verdict(&scene, &shuffle), Verdict::Drop(Reason::TooLate));
    assert_eq!(verdict(&scene, &set), Verdict::Keep);
    scene.done(&repeat(Repeat::All));
    assert_eq!(verdict(&scene, &set), Verdict::Drop(Reason::SetSince));
    let id = scene.settled().queue()[0].id;
    scene.done(&remove(&scene.state, &[id]));
    assert_eq!(verdict(&scene, &behind), Verdict::Drop(Reason::Gone));
}
