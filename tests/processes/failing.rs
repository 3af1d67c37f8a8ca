//! Devices that die, come late or return: the music stays where it is.

use std::time::{Duration, Instant};

use groovebox::base::LocalTime;
use groovebox::daemon::clock;
use groovebox::engine::status::PlaybackState;

use super::house::{House, LONG};
use super::sound::{assert_in_sync, assert_no_gap, demo_song, text, wait_heard, write_song};

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
    wait_heard(killed_at, 8);
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
fn of_two_devices_the_other_takes_commands_within_a_second_of_a_kill() {
    let mut house = House::alone().furnished(2);
    let (dead, other) = (house.coordinator(), house.follower());
    house.daemons[dead].kill();
    let since = Instant::now();
    let told = house.daemons[other].order(&["volume", "70"]);
    let took = since.elapsed();
    println!("a command is accepted {took:?} after the death");
    assert_eq!(told["level"], "local");
    // The kernel said that nobody listens there; silence alone would take two seconds.
    assert!(took < Duration::from_secs(1), "{took:?}");
}

#[test]
fn a_coordinator_that_is_told_to_end_hands_over_first() {
    let mut house = House::alone().furnished(3);
    let (leaving, other) = (house.coordinator(), house.follower());
    house.daemons[other].order(&["play", text(&demo_song())]);
    house.wait_playing(1_000);
    let old = house.daemons[leaving].status().expect("it answers").node.id;
    let gone = house.daemons.remove(leaving);
    let other = if other > leaving { other - 1 } else { other };

    gone.terminate();
    let since = Instant::now();
    let told = house.daemons[other].order(&["volume", "80"]);
    let took = since.elapsed();
    println!("a command is accepted {took:?} after the signal");
    assert_eq!(told["level"], "replicated");
    assert!(took < Duration::from_millis(500), "{took:?}");
    house.until("a new coordinator", LONG, |house| successor(house, &old));
    assert!(gone.logged("asking another device to coordinate"), "{}", gone.log());
    assert!(!house.daemons.iter().any(|d| d.logged("the coordinator is silent")));
    house.wait_playing(4_000);
    house.stop_all();
    for daemon in &house.daemons {
        assert_no_gap(&daemon.name, &daemon.recording());
    }
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
    wait_heard(since, 8);
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
    // Longer than the position is written apart: the last entry is not where it stops.
    house.wait_playing(7_000);
    let room = house.room().expect("one room");
    let stopped = playback(&house, 0).position_ms;

    for daemon in &mut house.daemons {
        daemon.kill();
    }
    for daemon in &mut house.daemons {
        daemon.start();
    }
    let everywhere_paused_there = |house: &House| {
        for (i, _) in house.daemons.iter().enumerate() {
            // Not every one answers from the start on, but none tells of anything else.
            let Some(status) = house.daemons[i].status() else { continue };
            let Some(room) = status.room else { continue };
            let playback = status.playback;
            assert_eq!(playback.state, PlaybackState::Paused, "daemon {i}, {room:?}");
            let before = stopped - playback.position_ms;
            assert!((-2_000..=5_500).contains(&before), "{before} ms before it stopped");
        }
        house.room()
    };
    let (again, _) = house.until("all in one room", LONG, everywhere_paused_there);
    assert_eq!(again, room, "another room");
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
fn a_device_whose_files_are_damaged_is_the_same_and_gets_the_room_from_the_others() {
    let mut house = House::together(3);
    for name in ["first", "second"] {
        let song = write_song(house.path(), name, 5);
        house.daemons[0].order(&["queue", "add", text(&song)]);
    }
    let room = house.room().expect("one room");
    let hurt = 2;
    let id = house.daemons[hurt].status().expect("it answers").node.id;
    let room_file = house.daemons[hurt].path(&format!("state/rooms/{room}.db"));
    let files = [room_file, house.daemons[hurt].path("state/node.db")];
    house.daemons[hurt].stop();
    for file in files {
        assert!(file.exists(), "{}", file.display());
        std::fs::write(&file, vec![0xA5; 20_000]).expect("spoiled");
        let song = write_song(house.path(), "later", 5);
        house.daemons[1].order(&["queue", "add", text(&song)]);
        house.daemons[hurt].start();
        house.wait_together();
        assert_eq!(house.room().as_ref(), Some(&room), "another room");
        let queue = |i: usize| house.daemons[i].status().expect("it answers").queue;
        house.until("the queue", LONG, |_| (queue(hurt) == queue(0)).then_some(()));
        let node = house.daemons[hurt].status().expect("it answers").node;
        let notice = node.disk_notice.expect("it says so");
        assert!(notice.contains("damaged") && notice.contains("set aside"), "{notice}");
        let log = std::fs::read_to_string(house.daemons[hurt].path("log")).expect("a log");
        assert!(log.contains(&notice), "its log does not say: {notice}");
        assert_eq!(node.id, id, "another device");
        house.daemons[hurt].stop();
    }
    house.daemons[hurt].start();
    house.wait_together();
    let notice = house.daemons[hurt].status().expect("it answers").node.disk_notice;
    assert_eq!(notice, None, "all is well again");
}

fn playback(house: &House, i: usize) -> groovebox::engine::status::PlaybackStatus {
    house.daemons[i].status().expect("it answers").playback
}

#[test]
fn the_music_goes_on_by_itself_after_a_short_outage_where_that_is_wanted() {
    let mut house = House::together(2);
    let song = write_song(house.path(), "song", 60);
    house.daemons[0].order(&["play", text(&song)]);
    house.wait_playing(6_000);
    let stopped = playback(&house, 0).position_ms;
    for daemon in &mut house.daemons {
        daemon.kill();
        let settings = "[room]\nresume = true\n";
        std::fs::write(daemon.path("settings.toml"), settings).expect("settings");
        daemon.start();
    }
    house.wait_together();
    house.wait_playing(stopped - 5_500);
    let now = playback(&house, 1).position_ms;
    assert!(now < stopped + 10_000, "{now} ms, stopped at {stopped} ms");
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
    wait_heard(since, 6);
    house.stop_all();
    let (a, b) = (house.daemons[other].recording(), house.daemons[back].recording());
    assert_in_sync("returned", &a, &b, since, 6);
}
