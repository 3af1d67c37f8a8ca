//! One song on all devices, and every order that a person can give.

use groovebox::base::LocalTime;
use groovebox::daemon::clock;
use groovebox::engine::status::PlaybackState::{Paused, Playing, Stopped};

use super::daemon::Daemon;
use super::house::{House, LONG};
use super::sound::{assert_in_sync, demo_song, text, wait_heard, write_song};

/// The beginning of time: nothing of a recording is left out.
const ALWAYS: LocalTime = LocalTime(0);

#[test]
fn a_song_from_any_member_sounds_on_all_at_once() {
    let mut house = House::together(3);
    let holder = house.follower();
    let song = demo_song();
    let reply = house.daemons[holder].order(&["play", text(&song)]);
    assert_eq!((reply["added"].as_u64(), reply["level"].as_str()), (Some(1), Some("replicated")));
    house.wait_playing(1_000);
    wait_heard(clock::now(), 15);

    let size = std::fs::metadata(&song).expect("the song").len();
    house.until("the song's bytes at all", LONG, |house| bytes_have_come(house, holder, size));
    house.stop_all();
    let recordings: Vec<_> = house.daemons.iter().map(Daemon::recording).collect();
    for (a, b) in [(0, 1), (0, 2), (1, 2)] {
        let what = format!("{} and {}", house.daemons[a].name, house.daemons[b].name);
        assert_in_sync(&what, &recordings[a], &recordings[b], ALWAYS, 15);
    }
}

/// Whether every other device got the whole file over the network, from whomever, and the
/// holder gave at least one copy.
fn bytes_have_come(house: &House, holder: usize, size: u64) -> Option<()> {
    let mut given = 0;
    for (i, daemon) in house.daemons.iter().enumerate() {
        let peers = daemon.status()?.peers;
        let received: u64 = peers.iter().map(|peer| peer.received_bytes).sum();
        let sent: u64 = peers.iter().map(|peer| peer.sent_bytes).sum();
        given += sent;
        let enough = if i == holder { sent >= size } else { received >= size };
        if !enough {
            return None;
        }
    }
    (given >= 2 * size).then_some(())
}

#[test]
fn pausing_seeking_and_resuming_is_seen_everywhere() {
    let house = House::together(3);
    let [kitchen, study, bath] = &house.daemons[..] else { panic!("three daemons") };
    kitchen.order(&["play", text(&write_song(house.path(), "waves", 60))]);
    house.wait_playing(500);

    study.order(&["pause"]);
    house.wait_state(Paused);
    let stands = bath.status().expect("it answers").playback.position_ms;
    house.wait_all("all stand at one place", |s| s.playback.position_ms == stands);
    assert!((500..30_000).contains(&stands), "{stands}");

    bath.order(&["seek", "30"]);
    house.wait_all("paused at 30 s", |s| at(s, 30_000) && s.playback.state == Paused);
    kitchen.order(&["seek", "+10"]);
    house.wait_all("paused at 40 s", |s| at(s, 40_000) && s.playback.state == Paused);
    study.order(&["seek", "-35"]);
    house.wait_all("paused at 5 s", |s| at(s, 5_000) && s.playback.state == Paused);

    bath.order(&["resume"]);
    house.wait_all("it goes on from there", |status| {
        status.playback.state == Playing && (5_100..20_000).contains(&status.playback.position_ms)
    });
    kitchen.order(&["toggle"]);
    house.wait_state(Paused);
    kitchen.order(&["play"]);
    house.wait_state(Playing);
    study.order(&["seek", "0:50"]);
    house.wait_all("it plays on at 50 s", |status| {
        status.playback.state == Playing && (50_000..58_000).contains(&status.playback.position_ms)
    });
    bath.order(&["stop"]);
    house.wait_all("stopped", |s| s.playback.state == Stopped && s.playback.track.is_none());
}

fn at(status: &groovebox::engine::Status, position_ms: i64) -> bool {
    status.playback.position_ms == position_ms
}

#[test]
fn the_queue_is_one_for_all() {
    let house = House::together(3);
    let [kitchen, study, bath] = &house.daemons[..] else { panic!("three daemons") };
    let song = |name: &str| write_song(house.path(), name, 40);
    kitchen.order(&["play", text(&song("first"))]);
    house.wait_playing(0);

    // Each device adds its own.
    kitchen.order(&["queue", "add", text(&song("second"))]);
    study.order(&["queue", "add", text(&song("third")), text(&song("fourth"))]);
    bath.order(&["queue", "add", text(&song("fifth"))]);
    house.wait_queue(&["second", "third", "fourth", "fifth"]);

    let listed = bath.order(&["queue", "list"]);
    let third = listed[1]["id"].as_u64().expect("a number").to_string();
    bath.order(&["queue", "remove", &third]);
    house.wait_queue(&["second", "fourth", "fifth"]);
    assert_eq!(kitchen.ask(&["queue", "remove", &third]).code, 4, "it is gone already");

    study.order(&["next"]);
    house.wait_all("the second plays", |status| plays(status, "second"));
    house.wait_queue(&["fourth", "fifth"]);
    bath.order(&["next"]);
    house.wait_all("the fourth plays", |status| plays(status, "fourth"));
    kitchen.order(&["prev"]);
    house.wait_all("back to the second", |status| plays(status, "second"));
    house.wait_playing(3_200);
    kitchen.order(&["prev"]);
    house.wait_all("the second from its beginning", |status| {
        plays(status, "second") && status.playback.position_ms < 3_000
    });

    bath.order(&["queue", "clear"]);
    house.wait_queue(&[]);
    house.wait_all("the music is not touched", |status| plays(status, "second"));
    bath.order(&["stop"]);
    house.wait_state(Stopped);
}

fn plays(status: &groovebox::engine::Status, title: &str) -> bool {
    let track = status.playback.track.as_ref();
    status.playback.state == Playing && track.is_some_and(|track| track.title == title)
}

#[test]
fn loudness_is_each_devices_own_and_known_to_all() {
    let house = House::together(3);
    let [kitchen, study, bath] = &house.daemons[..] else { panic!("three daemons") };
    kitchen.order(&["volume", "80"]);
    study.order(&["volume", "40", "--member", "bath"]);
    bath.order(&["volume", "-10", "--member", "study"]);
    wait_volumes(&house, [80, 90, 40]);

    // The loudest is the room's volume; all move by the same amount.
    bath.order(&["volume", "70", "--room"]);
    wait_volumes(&house, [60, 70, 20]);

    study.order(&["mute"]);
    bath.order(&["mute", "--member", "kitchen"]);
    wait_muted(&house, [true, true, false]);
    kitchen.order(&["mute", "off", "--member", "study"]);
    kitchen.order(&["mute", "toggle"]);
    kitchen.order(&["mute", "toggle", "--member", "bath"]);
    wait_muted(&house, [false, false, true]);
    wait_volumes(&house, [60, 70, 20]);
    assert_eq!(kitchen.ask(&["volume", "50", "--member", "cellar"]).code, 4);
}

fn wait_volumes(house: &House, volumes: [u8; 3]) {
    let wanted = ["kitchen", "study", "bath"].into_iter().zip(volumes);
    house.wait_all(&format!("volumes {volumes:?}"), |status| {
        let volume = |name| Some(status.members.iter().find(|member| member.name == name)?.volume);
        wanted.clone().all(|(name, wanted)| volume(name) == Some(wanted))
    });
}

fn wait_muted(house: &House, muted: [bool; 3]) {
    let wanted = ["kitchen", "study", "bath"].into_iter().zip(muted);
    house.wait_all(&format!("muted {muted:?}"), |status| {
        let is = |name| Some(status.members.iter().find(|member| member.name == name)?.muted);
        wanted.clone().all(|(name, wanted)| is(name) == Some(wanted))
    });
}

#[test]
fn a_muted_device_is_silent_while_the_others_sound() {
    let mut house = House::together(2);
    house.daemons[1].order(&["mute"]);
    house.daemons[0].order(&["play", text(&write_song(house.path(), "waves", 30))]);
    house.wait_playing(2_000);
    let until = clock::now();
    house.stop_all();
    let loudest = |i: usize| {
        let recording = house.daemons[i].recording();
        let place = |n: i64| LocalTime(until.0 - n * 1_000_000);
        (0..1_000).map(|n| recording.sample_at(place(n)).abs()).fold(0.0, f32::max)
    };
    let (kitchen, study) = (loudest(0), loudest(1));
    assert!(kitchen > 0.05 && study < 1e-4, "kitchen {kitchen}, study {study}");
}
