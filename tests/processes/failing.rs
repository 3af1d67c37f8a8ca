//! Devices that die, come late or return: the music stays where it is.

use std::time::Duration;

use groovebox::base::LocalTime;
use groovebox::daemon::clock;
use groovebox::engine::status::PlaybackState;

use super::house::{House, LONG};
use super::sound::{assert_in_sync, assert_no_gap, demo_song, text, write_song};

#[test]
fn the_music_survives_the_coordinators_death() {
    let mut house = House::alone().furnished(3);
    let dead = house.coordinator();
    house.daemons[house.follower()].order(&["play", text(&demo_song())]);
    house.wait_playing(3_000);

    let old = house.daemons[dead].status().expect("it answers").node.id;
    house.daemons[dead].kill();
    let killed_at = clock::now();
    let (_, took) = house.until("a new coordinator", LONG, |house| successor(house, &old));
    println!("a new coordinator everywhere after {took:?}");
    assert!(took < Duration::from_secs(3), "{took:?}");

    let told = house.daemons[house.follower()].order(&["volume", "90"]);
    assert_eq!(told["level"], "replicated");
    house.wait_all("the new volume", |s| s.members.iter().any(|m| m.online && m.volume == 90));
    house.wait_playing(8_000);
    let survivors: Vec<usize> = (0..3).filter(|&i| i != dead).collect();
    house.stop_all();
    let recordings: Vec<_> = survivors.iter().map(|&i| house.daemons[i].recording()).collect();
    for recording in &recordings {
        assert_no_gap("survivor", recording);
    }
    assert_in_sync("survivors", &recordings[0], &recordings[1], killed_at, 8);
}

/// Whom every running daemon names as coordinator, if it is one and the same and not the old.
fn successor(house: &House, old: &str) -> Option<String> {
    let named: Option<Vec<String>> =
        house.running().map(|daemon| daemon.status()?.room?.coordinator).collect();
    let named = named?;
    let first = named.first()?.clone();
    (first != old && named.iter().all(|name| *name == first)).then_some(first)
}

#[test]
fn a_device_that_comes_in_mid_song_sounds_in_step() {
    let mut house = House::together(3);
    house.daemons[0].order(&["play", text(&demo_song())]);
    house.wait_playing(1_000);

    let late = house.add(&[1]);
    let joined_in = house.wait_together();
    house.wait_playing(2_000);
    let synced = |house: &House| {
        let sync = house.daemons[late].member("attic")?.sync?;
        (sync.state == groovebox::wire::message::SyncState::Synced).then_some(clock::now())
    };
    let (since, took) = house.until("the late one keeps time", LONG, synced);
    println!("in the room after {joined_in:?}, in step {took:?} later");
    let started = house.daemons[0].status().expect("it answers").playback.position_ms;
    house.wait_playing(started + 4_000);
    house.stop_all();
    let (early, late) = (house.daemons[0].recording(), house.daemons[late].recording());
    assert_in_sync("first and last", &early, &late, since, 8);
}

#[test]
fn room_members_and_queue_are_there_again_after_a_restart() {
    let mut house = House::together(3);
    let first = write_song(house.path(), "first", 40);
    let second = write_song(house.path(), "second", 40);
    house.daemons[0].order(&["play", text(&first)]);
    house.daemons[1].order(&["queue", "add", text(&second)]);
    house.daemons[2].order(&["volume", "55"]);
    house.wait_playing(500);
    let room = house.room().expect("one room");

    house.stop_all();
    for daemon in &mut house.daemons {
        daemon.start();
    }
    house.wait_together();
    assert_eq!(house.room(), Some(room), "another room");
    house.wait_queue(&["second"]);
    house.wait_all("members", |status| {
        let volume = status.members.iter().find(|m| m.name == "bath").map(|m| m.volume);
        status.members.len() == 3 && volume == Some(55)
    });
    // Nobody knows how long all were away: the music waits until a person says so.
    house.wait_state(PlaybackState::Paused);
    house.daemons[1].order(&["play"]);
    house.wait_state(PlaybackState::Playing);
    house.daemons[1].order(&["next"]);
    house.wait_all("the second plays", |status| {
        let track = status.playback.track.as_ref();
        status.playback.state == PlaybackState::Playing
            && track.is_some_and(|t| t.title == "second")
    });
}

#[test]
fn acknowledged_additions_survive_the_death_of_all() {
    let mut house = House::together(3);
    let mut added = Vec::new();
    for n in 0..9 {
        let name = format!("song-{n}");
        let song = write_song(house.path(), &name, 5);
        let reply = house.daemons[n % 3].order(&["queue", "add", text(&song)]);
        assert_eq!(reply["level"], "replicated");
        added.push(name);
    }
    for daemon in &mut house.daemons {
        daemon.kill();
    }
    for daemon in &mut house.daemons {
        daemon.start();
    }
    house.wait_together();
    let titles: Vec<&str> = added.iter().map(String::as_str).collect();
    house.wait_queue(&titles);
}

#[test]
fn a_device_that_is_told_to_end_says_good_bye() {
    let mut house = House::alone().furnished(3);
    let leaving = house.follower();
    house.daemons[leaving].order(&["play", text(&demo_song())]);
    house.wait_playing(500);
    let gone = house.daemons[leaving].name.clone();
    let socket = house.daemons[leaving].path("socket");
    assert!(socket.exists());

    let (ended, took) = house.daemons[leaving].stop();
    println!("ended after {took:?}");
    assert!(ended.success(), "{ended}");
    assert!(took < Duration::from_secs(2), "{took:?}");
    assert!(!socket.exists(), "its socket is still there");
    let seen_by_all = |house: &House| {
        let away = |status: groovebox::engine::Status| {
            !status.members.iter().any(|member| member.name == gone && member.online)
        };
        house.running().all(|daemon| daemon.status().is_some_and(away)).then_some(())
    };
    let ((), seen) = house.until("the others see it go", LONG, seen_by_all);
    println!("seen after {seen:?}");
    // Silence alone would be noticed only after the heartbeats' patience.
    assert!(seen < Duration::from_millis(600), "{seen:?}");
    assert_eq!(house.running().count(), 2);
    house.wait_playing(2_000);
}

#[test]
fn a_device_that_died_returns_in_step() {
    let mut house = House::together(3);
    let back = house.follower();
    let other = (0..3).find(|&i| i != back).expect("three daemons");
    house.daemons[other].order(&["play", text(&demo_song())]);
    house.wait_playing(1_000);
    house.daemons[back].kill();
    house.daemons[back].start();
    house.wait_together();
    let name = house.daemons[back].name.clone();
    let synced = |house: &House| -> Option<LocalTime> {
        let sync = house.daemons[back].member(&name)?.sync?;
        (sync.state == groovebox::wire::message::SyncState::Synced).then(clock::now)
    };
    let (since, _) = house.until("it keeps time again", LONG, synced);
    let position = house.daemons[other].status().expect("it answers").playback.position_ms;
    house.wait_playing(position + 3_000);
    house.stop_all();
    let (a, b) = (house.daemons[other].recording(), house.daemons[back].recording());
    assert_in_sync("returned", &a, &b, since, 6);
}
