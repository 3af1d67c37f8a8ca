//! Rooms that were emptied, and entered again from the disk of whoever left them last.

use super::people::people;
use super::*;
use crate::identity::Password;

fn join(code: &str) -> Command {
    Command::JoinRoom { room: code.into(), password: None }
}

/// The room's code, once everybody has left it, the last one alone.
fn emptied(house: &mut House, last: usize) -> String {
    let code = house.room(last).state().code().to_owned();
    let others = (0..house.devices.len()).filter(|i| *i != last).collect::<Vec<_>>();
    for i in others.into_iter().chain([last]) {
        house.order(i, Command::LeaveRoom);
        house.run(Span::from_secs(1));
        assert!(house.node(i).room.is_none());
    }
    code
}

#[test]
fn whoever_left_last_finds_the_room_as_it_was_and_lets_the_others_in() {
    let mut house = people(3);
    house.order(0, add(&["a", "b"]));
    let room = house.room(0).id();
    let code = emptied(&mut house, 1);
    // It was let out by those who stayed: its own disk opens nothing.
    let refusal = house.ask(2, join(&code)).expect_err("nobody is there");
    assert_eq!(refusal.code, RefusalCode::NotFound);
    assert!(refusal.message.contains("nobody of it is here"), "{refusal}");
    assert!(house.node(2).room.is_none());

    let done = house.order(1, join(&code));
    assert!(done.message.expect("a sentence").contains(&code));
    assert_eq!(house.room(1).id(), room);
    house.run(Span::from_secs(5));
    assert_eq!(house.titles(1), ["a", "b"]);
    house.order(1, add(&["c"]));
    house.order(2, join(&code));
    house.order(0, join(&code));
    house.run_until_agreed(Span::from_secs(10));
    assert_eq!(house.titles(0), ["a", "b", "c"]);
    assert_eq!(house.room(0).state().members().len(), 3);
}

#[test]
fn a_file_that_holds_another_room_opens_nothing_and_nobody_goes_anywhere_for_it() {
    let mut house = people(2);
    let (room, last) = (house.room(0).id(), house.coordinator());
    let code = emptied(&mut house, last);
    house.order(1 - last, Command::CreateRoom { name: Some("Attic".into()), password: None });
    house.order(last, join("attic"));
    house.run_until_agreed(Span::from_secs(10));
    let attic = house.room(last).id();
    assert_ne!(attic, room);
    let refusal = house.ask(last, join(&code)).expect_err("a device has one file here");
    assert_eq!(refusal.code, RefusalCode::NotFound);
    assert_eq!(house.node(last).room_id(), Some(attic));
}

#[test]
fn a_reign_after_coming_back_is_none_that_was() {
    let mut house = people(1);
    house.order(0, add(&["a"]));
    let term = |house: &House| house.node(0).election.as_ref().expect("in a room").term();
    let before = term(&house);
    let code = emptied(&mut house, 0);
    house.order(0, join(&code));
    house.run(Span::from_secs(5));
    assert!(house.node(0).is_coordinator());
    assert!(term(&house).n > before.n, "{:?} after {before:?}", term(&house));
}

#[test]
fn who_was_sent_out_does_not_come_in_by_its_own_disk() {
    let mut house = people(3);
    house.order(0, Command::Kick { who: "carla".into() });
    house.run(Span::from_secs(3));
    assert!(house.node(2).room.is_none());
    let code = house.room(0).state().code().to_owned();
    house.kill(0);
    house.kill(1);
    house.run(Span::from_secs(301));
    let refusal = house.ask(2, join(&code)).expect_err("it is out");
    assert_eq!(refusal.code, RefusalCode::NotFound);
}

#[test]
fn a_locked_room_is_known_again_by_its_code_and_opened_without_a_password() {
    let mut house = people(2);
    let room = house.room(0).id();
    house.lock(0, "sesame");
    let code = emptied(&mut house, 0);
    house.order(0, join(&code));
    house.run(Span::from_secs(3));
    assert_eq!(house.room(0).id(), room);
    // The other one left while somebody was there.
    house.order(1, Command::JoinRoom { room: code, password: Password::new("sesame") });
    house.run_until_agreed(Span::from_secs(10));
}

#[test]
fn those_who_were_cut_off_when_somebody_left_hear_of_it_when_they_meet() {
    let mut house = people(3);
    house.order(0, add(&["a"]));
    let gone = house.others()[0];
    let code = house.room(gone).state().code().to_owned();
    house.split(&[gone]);
    house.run(Span::from_secs(3));
    house.order(gone, Command::LeaveRoom);
    house.run(Span::from_secs(3));
    let lead = house.coordinator();
    assert_eq!(house.room(lead).state().members().len(), 3);
    house.heal();
    house.run(Span::from_secs(5));
    assert_eq!(house.room(lead).state().members().len(), 2);
    assert!(house.node(gone).room.is_none());
    // From now on it needs them to come in.
    house.split(&[gone]);
    house.run(Span::from_secs(3));
    let refusal = house.ask(gone, join(&code)).expect_err("it is out");
    assert_eq!(refusal.code, RefusalCode::NotFound);
    house.heal();
    house.run(Span::from_secs(3));
    house.order(gone, join(&code));
    house.run_until_agreed(Span::from_secs(10));
    assert_eq!(house.room(lead).state().members().len(), 3);
}

#[test]
fn of_several_rooms_and_of_a_locked_one_too_the_others_hear_that_somebody_went() {
    let mut house = people(3);
    house.lock(0, "sesame");
    let gone = house.others()[0];
    let code = house.room(gone).state().code().to_owned();
    house.split(&[gone]);
    house.run(Span::from_secs(10));
    house.order(gone, Command::LeaveRoom);
    // Another room, left in the same way, does not make it forget the first one.
    house.order(gone, Command::CreateRoom { name: Some("Attic".into()), password: None });
    house.order(gone, Command::LeaveRoom);
    house.heal();
    house.run(Span::from_secs(8));
    let lead = house.coordinator();
    assert_eq!(house.room(lead).state().members().len(), 2);
    house.split(&[gone]);
    house.run(Span::from_secs(3));
    let refusal = house.ask(gone, join(&code)).expect_err("it is out");
    assert_eq!(refusal.code, RefusalCode::NotFound);
    assert!(refusal.message.contains("nobody of it is here"), "{refusal}");
}
