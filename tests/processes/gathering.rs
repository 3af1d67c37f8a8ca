//! How devices come together in rooms, and how people move them.

use std::time::Duration;

use groovebox::engine::status::PlaybackState;

use super::daemon::Daemon;
use super::house::{House, LONG};
use super::sound::{text, write_song};

#[test]
fn twenty_devices_switched_on_at_once_are_one_room() {
    let mut house = House::alone();
    for i in 0..20 {
        let first_two: &[usize] = match i {
            0 => &[],
            1 => &[0],
            _ => &[0, 1],
        };
        house.add(first_two);
    }
    let took = house.wait_together();
    println!("twenty in one room {took:?} after the last start");
    assert!(took < Duration::from_secs(10), "{took:?}");
}

#[test]
fn two_rooms_play_side_by_side() {
    let house = House::together(4);
    // The first room is one that somebody uses: others would dissolve into the created one.
    let [kitchen, study, bath, attic] = &house.daemons[..] else { panic!("four daemons") };
    kitchen.order(&["play", text(&write_song(house.path(), "loud", 60))]);
    house.wait_playing(0);
    bath.order(&["room", "create", "Quiet Corner"]);
    let code = bath.status().and_then(|s| s.room).expect("it is in its room").code;

    // Others learn of it, and one follows by its code.
    let listed = |house: &House| {
        let rooms = house.daemons[3].order(&["rooms"]);
        let found = rooms.as_array()?.iter().find(|room| room["code"] == code.as_str())?.clone();
        (rooms.as_array()?.len() == 2).then_some(found)
    };
    let (room, _) = house.until("both rooms are listed", LONG, listed);
    assert_eq!((&room["name"], &room["joined"]), (&"Quiet Corner".into(), &false.into()));
    attic.order(&["room", "join", &code]);
    wait_devices(&house, [("kitchen", 2), ("study", 2), ("bath", 2), ("attic", 2)]);

    attic.order(&["play", text(&write_song(house.path(), "quiet", 30))]);
    for (daemon, title) in [(kitchen, "loud"), (study, "loud"), (bath, "quiet"), (attic, "quiet")] {
        house.until(&format!("{} plays {title}", daemon.name), LONG, |_| plays(daemon, title));
    }
    attic.order(&["pause"]);
    house.until("only one room pauses", LONG, |_| {
        let state = |daemon: &Daemon| daemon.status().map(|status| status.playback.state);
        (state(bath)? == PlaybackState::Paused && state(study)? == PlaybackState::Playing)
            .then_some(())
    });

    // By name, and by the address of a device in it.
    bath.order(&["room", "leave"]);
    assert!(bath.order(&["room", "show"]).is_null(), "it is in no room");
    wait_devices(&house, [("kitchen", 2), ("study", 2), ("attic", 1), ("bath", 0)]);
    bath.order(&["room", "join", "quiet corner"]);
    wait_devices(&house, [("kitchen", 2), ("study", 2), ("attic", 2), ("bath", 2)]);
    bath.order(&["room", "join", &kitchen.address()]);
    wait_devices(&house, [("kitchen", 3), ("study", 3), ("attic", 1), ("bath", 3)]);
    bath.ask(&["room", "join", "GROOVE-0000"]).expect(4, "in reach");
}

fn plays(daemon: &Daemon, title: &str) -> Option<()> {
    let playback = daemon.status()?.playback;
    let it = playback.track.is_some_and(|track| track.title == title);
    (it && playback.state == PlaybackState::Playing).then_some(())
}

/// Waits until each of these sees so many devices in its room that are there.
fn wait_devices(house: &House, wanted: [(&str, usize); 4]) {
    let here = |name: &str| -> Option<usize> {
        let daemon = house.daemons.iter().find(|daemon| daemon.name == name)?;
        let members = daemon.status()?.members;
        Some(members.iter().filter(|member| member.online).count())
    };
    house.until(&format!("devices {wanted:?}"), LONG, |_| {
        wanted.iter().all(|(name, n)| here(name) == Some(*n)).then_some(())
    });
}

#[test]
fn a_device_that_left_stays_alone_after_a_restart() {
    let mut house = House::together(2);
    house.daemons[1].order(&["room", "leave"]);
    house.daemons[1].stop();
    house.daemons[1].start();
    // It has met the others again, and still keeps to itself.
    house.until("it is connected", LONG, |house| {
        house.daemons[1].peer("kitchen").filter(|peer| peer.connected && peer.room.is_some())
    });
    assert!(house.daemons[1].order(&["room", "show"]).is_null());
    let refused = house.daemons[1].ask(&["pause"]);
    refused.expect(1, "in no room");
    assert!(refused.said.contains("NOT_IN_ROOM"), "programs are told too: {refused:?}");
    house.daemons[1].order(&["room", "join", &house.daemons[0].address()]);
    house.wait_together();
}
