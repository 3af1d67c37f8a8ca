//! What was played, and what nobody has, from node to node.

use super::*;
use crate::engine::room::EndReason;
use crate::wire::op::Repeat;

fn short(title: &str) -> Track {
    Track { frames: 48_000 * 12, ..track(title) }
}

fn play_short(titles: &[&str]) -> Command {
    Command::Play { tracks: titles.iter().map(|title| short(title)).collect() }
}

fn playing(house: &House, i: usize) -> Option<String> {
    house.node(i).status(house.now).playback.track.map(|track| track.title)
}

fn rows(house: &House, i: usize) -> Vec<(String, EndReason)> {
    let rows = house.devices[i].history.iter();
    rows.map(|row| (row.track.title.clone(), row.reason)).collect()
}

fn row(title: &str, reason: EndReason) -> (String, EndReason) {
    (title.to_owned(), reason)
}

use EndReason::{Finished, Skipped, Unavailable};

#[test]
fn what_was_played_is_noted_once_and_alike_everywhere() {
    let mut house = House::together(3);
    house.order(0, play_short(&["a", "b", "c"]));
    house.run(Span::from_secs(20));
    house.order(1, Command::Next);
    house.run(Span::from_secs(30));
    let expected = [row("a", Finished), row("b", Skipped), row("c", Finished)];
    for i in 0..3 {
        assert_eq!(rows(&house, i), expected);
        assert_eq!(house.devices[i].history, house.devices[0].history, "the same to the instant");
    }
}

#[test]
fn what_was_played_is_noted_without_a_coordinator_and_by_who_died_before_writing() {
    let mut house = House::together(3);
    house.order(0, play_short(&["a", "b", "c"]));
    house.order(0, Command::Repeat { mode: Repeat::All });
    let lead = house.coordinator();
    let [one, two] = house.others()[..] else { panic!("two others") };
    house.run(Span::from_secs(10));
    // Nobody sees anybody: each plays on by itself.
    house.split(&[one]);
    house.kill(lead);
    house.run(Span::from_secs(28));
    for i in [one, two] {
        assert_eq!(rows(&house, i)[..2], [row("a", Finished), row("b", Finished)]);
        assert_eq!(playing(&house, i).as_deref(), Some("a"), "it came again");
    }
    let segments = |i: usize| -> Vec<SegmentId> {
        house.devices[i].history[..2].iter().map(|row| row.segment).collect()
    };
    assert_eq!(segments(one), segments(two));
    house.heal();
    house.start(lead);
    house.run_until_agreed(Span::from_secs(30));
    house.run(Span::from_secs(15));
    assert_eq!(rows(&house, lead)[..2], [row("a", Finished), row("b", Finished)]);
}

#[test]
fn what_only_an_absent_device_has_is_passed_over_until_it_is_back() {
    let mut house = House::together(3);
    let lead = house.coordinator();
    let [other, owner] = house.others()[..] else { panic!("two others") };
    let theirs = short("theirs");
    for i in [lead, other] {
        house.devices[i].lacks.insert(theirs.hash);
    }
    house.order(lead, play_short(&["a", "b", "c"]));
    house.order(owner, Command::Add { tracks: vec![theirs] });
    let entry = house.room(lead).state().queue().back().expect("theirs").id;
    house.order(lead, Command::Move { entry, place: 1 });
    house.run(Span::from_secs(5));
    let unavailable = |house: &House, i: usize| -> Vec<bool> {
        let queue = house.node(i).status(house.now).queue;
        queue.iter().map(|entry| entry.unavailable).collect()
    };
    assert_eq!(unavailable(&house, lead), [false; 3]);
    house.kill(owner);
    house.run(Span::from_secs(5));
    for i in [lead, other] {
        assert_eq!(unavailable(&house, i), [true, false, false]);
        assert_eq!(playing(&house, i).as_deref(), Some("a"));
    }
    house.run(Span::from_secs(8));
    for i in [lead, other] {
        assert_eq!(playing(&house, i).as_deref(), Some("b"), "never a silence");
        let notice = house.node(i).status(house.now).playback.notice;
        assert!(notice.is_some_and(|notice| notice.contains("\"theirs\"")));
        let told = house.notices(i);
        let told = told.iter().filter(|notice| matches!(notice, Notice::LeftOut { .. }));
        assert_eq!(told.count(), 1, "it is told once");
    }
    house.start(owner);
    house.run(Span::from_secs(4));
    assert_eq!(unavailable(&house, lead), [false; 2]);
    house.run(Span::from_secs(10));
    assert_eq!(playing(&house, other).as_deref(), Some("theirs"), "it kept its place");
    assert_eq!(
        rows(&house, lead),
        [row("a", Finished), row("theirs", Unavailable), row("b", Finished)]
    );
}

#[test]
fn a_song_whose_last_holder_goes_breaks_off_for_the_next() {
    let mut house = House::together(3);
    let lead = house.coordinator();
    let [other, owner] = house.others()[..] else { panic!("two others") };
    let theirs = Track { frames: 48_000 * 600, ..track("theirs") };
    for i in [lead, other] {
        house.devices[i].lacks.insert(theirs.hash);
    }
    house.order(owner, Command::Play { tracks: vec![theirs] });
    house.order(lead, Command::Add { tracks: vec![short("ours")] });
    house.run(Span::from_secs(8));
    assert_eq!(playing(&house, lead).as_deref(), Some("theirs"));
    house.kill(owner);
    house.run(Span::from_secs(2));
    assert_eq!(playing(&house, lead).as_deref(), Some("theirs"), "it may come back");
    house.run(Span::from_secs(8));
    for i in [lead, other] {
        assert_eq!(playing(&house, i).as_deref(), Some("ours"));
        assert_eq!(rows(&house, i)[0], row("theirs", Unavailable));
        let notice = house.node(i).status(house.now).playback.notice;
        assert!(notice.is_some_and(|notice| notice.contains("\"theirs\" broke off")));
    }
    house.start(owner);
    house.run(Span::from_secs(20));
    assert_eq!(playing(&house, other).as_deref(), Some("theirs"), "from its beginning");
}

#[test]
fn a_song_whose_file_is_changed_while_it_plays_breaks_off_for_the_next() {
    let mut house = House::together(3);
    let lead = house.coordinator();
    let theirs = Track { frames: 48_000 * 600, ..track("theirs") };
    // The coordinator's own, and on the way to the others.
    for i in house.others() {
        house.devices[i].lacks.insert(theirs.hash);
    }
    house.order(lead, Command::Play { tracks: vec![theirs.clone()] });
    house.order(lead, Command::Add { tracks: vec![short("ours")] });
    house.run(Span::from_secs(8));
    assert_eq!(playing(&house, lead).as_deref(), Some("theirs"));
    house.devices[lead].lacks.insert(theirs.hash);
    house.input(lead, Input::PieceNeeded { hash: theirs.hash, piece: 0 });
    house.run(Span::from_secs(8));
    for i in 0..3 {
        assert_eq!(playing(&house, i).as_deref(), Some("ours"));
        assert_eq!(rows(&house, i)[0], row("theirs", Unavailable));
    }
    // It is taken in once more.
    house.devices[lead].lacks.clear();
    house.input(lead, Input::BlobOpened { hash: theirs.hash, have: Have::Complete });
    house.run(Span::from_secs(20));
    for i in 0..3 {
        assert_eq!(playing(&house, i).as_deref(), Some("theirs"));
    }
}

#[test]
fn places_of_the_queue_are_counted_from_one() {
    let mut house = House::together(2);
    house.order(0, add(&["a", "b", "c"]));
    let id = |house: &House, place: usize| house.room(0).state().queue()[place].id;
    let titles = |house: &House| -> Vec<String> {
        house.room(0).state().queue().iter().map(|entry| entry.track.title.clone()).collect()
    };
    let last = id(&house, 2);
    house.order(0, Command::Move { entry: last, place: 1 });
    assert_eq!(titles(&house), ["c", "a", "b"]);
    house.order(1, Command::Move { entry: last, place: 3 });
    house.run(Span::from_millis(100));
    assert_eq!(titles(&house), ["a", "b", "c"]);
    for place in [0, 4, usize::MAX] {
        let refusal = house.ask(0, Command::Move { entry: last, place }).expect_err("no place");
        assert_eq!(refusal.code, RefusalCode::InvalidRequest, "{place}");
    }
    let nobody = Command::Move { entry: crate::base::EntryId(99), place: 1 };
    assert_eq!(house.ask(0, nobody).expect_err("no entry").code, RefusalCode::NotFound);
}
