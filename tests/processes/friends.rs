//! Friends and a person on two devices, with real daemons.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use super::daemon::Daemon;
use super::house::{House, LONG};

/// Gives a daemon a person.
fn name(daemon: &Daemon, person: &str) {
    let body = format!("{{\"name\": \"{person}\"}}");
    let mut stream = UnixStream::connect(daemon.path("socket")).expect("it runs");
    let head = "PUT /api/v1/user HTTP/1.1\r\nhost: groovebox\r\ncontent-type: application/json\r\n";
    let length = format!("content-length: {}\r\nconnection: close\r\n\r\n", body.len());
    stream.write_all(format!("{head}{length}{body}").as_bytes()).expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

/// The names in one part of a daemon's book.
fn names(daemon: &Daemon, part: &str) -> Vec<String> {
    let book = daemon.order(&["friend", "list"]);
    let people = book[part].as_array().expect("a list");
    people.iter().filter_map(|person| Some(person["name"].as_str()?.to_owned())).collect()
}

fn wait_names(house: &House, i: usize, part: &str, wanted: &[&str]) {
    let what = format!("{part} of {} is {wanted:?}", house.daemons[i].name);
    house.until(&what, LONG, |house| {
        let daemon = &house.daemons[i];
        // One that has just been started does not answer yet.
        daemon.status()?;
        (names(daemon, part) == wanted).then_some(())
    });
}

#[test]
fn a_request_waits_for_the_absent_and_a_friend_comes_in_while_the_owner_is_away() {
    let mut house = House::together(3);
    for (i, person) in ["anna", "ben", "carla"].into_iter().enumerate() {
        name(&house.daemons[i], person);
    }
    house.wait_all("three people", |status| status.people.len() == 3);
    // Ben is off when Anna asks, and she is restarted before he is back.
    house.daemons[1].stop();
    house.daemons[0].order(&["friend", "add", "ben"]);
    wait_names(&house, 0, "sent", &["ben"]);
    house.daemons[0].stop();
    house.daemons[0].start();
    house.daemons[1].start();
    wait_names(&house, 1, "received", &["anna"]);
    house.daemons[1].order(&["friend", "accept", "anna"]);
    wait_names(&house, 0, "friends", &["ben"]);
    wait_names(&house, 1, "friends", &["anna"]);

    // Anna makes a room for friends; Carla's device, which she lets in first, keeps it.
    house.daemons[0].order(&["room", "create", "Friends"]);
    let room = |house: &House, i: usize| house.daemons[i].status()?.room;
    let code =
        house.until("it is made", LONG, |house| room(house, 0).filter(|r| r.name == "Friends"));
    let code = code.0.code;
    let join = |i: usize, house: &House| house.daemons[i].ask(&["room", "join", &code]);
    house.until("Carla is in", LONG, |house| (join(2, house).code == 0).then_some(()));
    set_friends_only(&house.daemons[0]);
    house.daemons[0].stop();
    house.until("Ben is in", LONG, |house| (join(1, house).code == 0).then_some(()));
    house.daemons[2].order(&["room", "leave"]);
    house.until("Carla is out, and no friend", LONG, |house| {
        join(2, house).said.contains("NOT_ALLOWED").then_some(())
    });
}

fn set_friends_only(daemon: &Daemon) {
    let body = r#"{"friends_only": true}"#;
    let mut stream = UnixStream::connect(daemon.path("socket")).expect("it runs");
    let head = "PATCH /api/v1/room/settings HTTP/1.1\r\nhost: groovebox\r\ncontent-type: application/json\r\n";
    let length = format!("content-length: {}\r\nconnection: close\r\n\r\n", body.len());
    stream.write_all(format!("{head}{length}{body}").as_bytes()).expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[test]
fn a_person_on_two_devices_is_one_voter() {
    let mut house = House::together(2);
    name(&house.daemons[0], "anna");
    std::thread::scope(|scope| {
        let daemons = &house.daemons;
        let waiting = scope.spawn(move || daemons[0].order_last(&["user", "pair"]));
        house.until("it waits", LONG, |_| pairing(&daemons[0], "waiting"));
        let called = daemons[1].order_last(&["user", "pair", "kitchen"]);
        let shown = waiting.join().expect("no panic");
        assert_eq!(shown["code"], called["code"], "the same digits on both");
        let code = shown["code"].as_str().expect("six digits").to_owned();
        daemons[1].order(&["user", "pair", "--confirm", &code]);
        assert!(daemons[1].status().expect("it answers").node.user.is_none(), "one has agreed");
        daemons[0].order(&["user", "pair", "--confirm", &code]);
    });
    house.wait_all("one person on two devices", |status| {
        let one = |person: &groovebox::engine::status::PersonStatus| person.devices.len() == 2;
        status.people.len() == 1 && one(&status.people[0])
    });
    // The second device stays theirs.
    house.daemons[1].stop();
    house.daemons[1].start();
    house.wait_all("it is Anna's", |status| {
        status.node.user.as_ref().is_some_and(|user| user.name == "anna")
    });
}

fn pairing(daemon: &Daemon, state: &str) -> Option<()> {
    let book = daemon.order(&["friend", "list"]);
    (book["pairing"]["state"] == state).then_some(())
}
