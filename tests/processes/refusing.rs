//! What cannot be done is refused with an exit code and a sentence, and disturbs nobody.

use std::fs;
use std::path::Path;

use groovebox::base::LocalTime;
use groovebox::daemon::clock;
use groovebox::engine::status::PlaybackState;

use super::daemon::{Daemon, Outcome, run};
use super::house::House;
use super::sound::{assert_in_sync, demo_song, text, wait_heard, write_song};

#[test]
fn files_that_cannot_be_played_disturb_nobody() {
    let mut house = House::alone().furnished(2);
    house.daemons[0].order(&["play", text(&demo_song())]);
    house.wait_playing(500);

    let study = &house.daemons[1];
    let file = |name: &str, content: &[u8]| {
        let path = house.path().join(name);
        fs::write(&path, content).expect("a file");
        text(&path).to_owned()
    };
    let song = fs::read(demo_song()).expect("the song");
    let noise: Vec<u8> =
        (0..50_000_u32).map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()[3]).collect();
    study.ask(&["play", &file("empty.flac", &[])]).expect(1, "empty");
    study.ask(&["play", &file("head.flac", &song[..20])]).expect(1, "damaged");
    // Says truly what it is, marks that as all it says, and goes on with noise.
    let mut broken = [&song[..42], &noise].concat();
    broken[4] |= 0x80;
    study.ask(&["play", &file("broken.flac", &broken)]).expect(1, "damaged");
    let garbage = file("garbage.flac", &noise);
    study.ask(&["play", &garbage]).expect(1, "cannot be played");
    let list = file("list.mp3", "milk, bread and butter\n".repeat(99).as_bytes());
    study.ask(&["queue", "add", &list]).expect(1, "it is a text file");
    study.ask(&["play", text(&house.path().join("nowhere.flac"))]).expect(4, "there is no file");
    study.ask(&["play", text(&study.path("state"))]).expect(4, "no file that can be played");

    house.wait_playing(1_000);
    wait_heard(clock::now(), 5);
    house.wait_queue(&[]);
    house.stop_all();
    let (kitchen, study) = (house.daemons[0].recording(), house.daemons[1].recording());
    assert_in_sync("undisturbed", &kitchen, &study, LocalTime(0), 5);
}

#[test]
fn a_folder_with_one_bad_file_plays_the_others() {
    let house = House::together(2);
    let folder = house.path().join("album");
    fs::create_dir(&folder).expect("a folder");
    write_song(&folder, "1-good", 20);
    fs::write(folder.join("2-bad.flac"), "no music at all\n".repeat(9)).expect("a file");
    write_song(&folder, "3-good", 20);

    let reply = house.daemons[1].order(&["play", text(&folder)]);
    assert_eq!(reply["added"], 2);
    let skipped = reply["skipped"].as_array().expect("what was left out");
    assert_eq!(skipped.len(), 1, "{reply}");
    assert!(skipped[0]["path"].as_str().expect("a path").ends_with("2-bad.flac"));
    assert_eq!(skipped[0]["code"], "UNSUPPORTED_MEDIA");
    house.wait_playing(0);
    house.wait_queue(&["3-good"]);
}

#[test]
fn of_a_folder_beyond_what_one_order_takes_the_rest_is_named() {
    let house = House::together(1);
    let folder = house.path().join("collection");
    fs::create_dir(&folder).expect("a folder");
    for n in 0..503 {
        write_song(&folder, &format!("{n}"), 1);
    }
    let reply = house.daemons[0].order(&["queue", "add", text(&folder)]);
    assert_eq!(reply["added"], 500);
    let skipped = reply["skipped"].as_array().expect("what was left out");
    assert_eq!(skipped.len(), 1, "{reply}");
    assert!(skipped[0]["path"].as_str().expect("a path").ends_with("500.wav"));
    assert!(skipped[0]["message"].as_str().expect("why").contains("3 files"), "{reply}");
    assert_eq!(house.daemons[0].status().expect("it answers").queue.len(), 500);
}

#[test]
fn a_song_that_is_cut_short_plays_as_far_as_it_goes() {
    let house = House::together(2);
    let song = fs::read(demo_song()).expect("the song");
    let cut = house.path().join("cut.flac");
    // About three seconds of fifty.
    fs::write(&cut, &song[..song.len() / 16]).expect("a file");
    house.daemons[0].order(&["play", text(&cut)]);
    house.wait_playing(500);
    house.wait_state(PlaybackState::Stopped);
}

#[test]
fn wrong_usage_is_told_before_anything_starts() {
    let home = tempfile::tempdir().expect("a temporary folder");
    let tell = |arguments: &[&str]| run(home.path(), arguments);
    tell(&["daemon", "--loud"]).expect(2, "--loud");
    tell(&["dance"]).expect(2, "dance");
    tell(&["volume", "101"]).expect(2, "write 0 to 100");
    tell(&["daemon", "--config", "nowhere.toml"]).expect(2, "cannot read nowhere.toml");
    let outcome = tell(&["daemon", "--output", "null:fast"]);
    outcome.expect(2, "--output: audio.output = \"null:fast\"");
    outcome.expect(2, "null:+40");

    let config = home.path().join("settings.toml");
    fs::write(&config, "[network]\nprot = 4766\n").expect("settings");
    let outcome = tell(&["daemon", "--config", text(&config)]);
    outcome.expect(2, "settings.toml:2");
    outcome.expect(2, "did you mean");
    assert!(outcome.complained.contains("port"), "{outcome:?}");

    // A folder cannot be read by root either.
    tell(&["daemon", "--config", text(home.path())]).expect(2, "cannot read");
    assert!(!home.path().join(".local/state/groovebox").exists(), "something was started");
}

#[test]
fn without_a_daemon_every_command_says_so() {
    let home = tempfile::tempdir().expect("a temporary folder");
    let socket = home.path().join("socket");
    for command in ["status", "sync", "peers", "rooms", "pause", "play", "queue", "volume"] {
        let outcome = run(home.path(), &["--socket", text(&socket), command]);
        outcome.expect(3, "start it with `groovebox daemon`");
        assert_eq!(outcome.said, "", "{command}");
    }
    let told = |arguments: &[&str], code: i32| {
        let outcome =
            run(home.path(), &[&["--json", "--socket", text(&socket)], arguments].concat());
        assert_eq!(outcome.code, code, "{outcome:?}");
        let told: serde_json::Value = serde_json::from_str(&outcome.said).expect("one object");
        told["code"].as_str().expect("a code").to_owned()
    };
    assert_eq!(told(&["status"], 3), "NO_DAEMON");
    assert_eq!(told(&["status", "--watch"], 3), "NO_DAEMON");
    assert_eq!(told(&["dance"], 2), "USAGE");
    assert_eq!(told(&["config", "check", "/nowhere.toml"], 2), "USAGE");
}

#[test]
fn a_second_daemon_in_the_same_place_is_refused() {
    let mut house = House::empty();
    house.add(&[]);
    house.wait_together();
    let first = &house.daemons[0];

    let same_state = second(&house, &first.path("state"), &house.path().join("other-socket"));
    same_state.expect(1, "is in use by another GrooveBox daemon");
    let same_socket = second(&house, &house.path().join("other-state"), &first.path("socket"));
    same_socket.expect(1, "another daemon answers on");
    assert!(first.status().is_some(), "the first is still there");
}

/// Starts a daemon that is expected to refuse.
fn second(house: &House, state: &Path, socket: &Path) -> Outcome {
    let cache = house.path().join("other-cache");
    let place = ["--state-dir", text(state), "--cache-dir", text(&cache), "--socket"];
    let quiet = ["--no-mdns", "--bind", "127.0.0.1", "--port", "0", "--output", "null"];
    run(house.path(), &[&["daemon"], &place[..], &[text(socket)], &quiet[..]].concat())
}

#[test]
fn a_port_that_is_taken_is_named() {
    let mut house = House::empty();
    house.add(&[]);
    house.wait_together();
    let port = house.daemons[0].port.to_string();
    let home = house.path().join("other");
    let refused = Daemon::new(home.clone(), "other", 0, Vec::new());
    let at = |name: &str| text(&refused.path(name)).to_owned();
    let outcome = run(
        &home,
        &[
            "daemon",
            "--no-mdns",
            "--bind",
            "127.0.0.1",
            "--output",
            "null",
            "--port",
            &port,
            "--state-dir",
            &at("state"),
            "--cache-dir",
            &at("cache"),
            "--socket",
            &at("socket"),
        ],
    );
    outcome.expect(1, &port);
}

#[test]
fn a_state_directory_that_cannot_be_made_is_named_with_the_way_out() {
    let house = House::empty();
    let file = house.path().join("file");
    fs::write(&file, "no directory").expect("a file");
    let state = file.join("state");
    let refused = second(&house, &state, &house.path().join("socket"));
    refused.expect(1, &format!("cannot make the directory {}: ", state.display()));
    refused.expect(1, "--state-dir, or [storage] state_dir");
}

#[test]
fn settings_are_checked_and_shown_without_a_daemon() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("settings.toml");
    let written = |settings: &str| {
        fs::write(&file, settings).expect("a file");
        text(&file).to_owned()
    };
    let wrong = written("[audio]\nbuffer_ms = 5\n");
    run(dir.path(), &["config", "check", &wrong]).expect(2, "settings.toml:2: audio.buffer_ms = 5");
    run(dir.path(), &["config", "show", "--config", &wrong]).expect(2, "20 to 1000 ms");
    let wrong = written("[audio]\noutput = 'file:'\n");
    let outcome = run(dir.path(), &["config", "check", &wrong]);
    outcome.expect(2, "settings.toml:2: audio.output = \"file:\"");
    run(dir.path(), &["config", "check", "/nowhere.toml"]).expect(2, "cannot read /nowhere.toml");
    let right = written("[node]\nname = 'attic'\n");
    assert!(run(dir.path(), &["config", "check", &right]).said.contains("makes sense"));
    let shown = run(dir.path(), &["config", "show", "--config", &right, "--json"]).said;
    let shown: serde_json::Value = serde_json::from_str(&shown).expect("JSON");
    let name = &shown["settings"][0];
    assert_eq!((&name["key"], &name["value"]), (&"node.name".into(), &"attic".into()));
    assert!(name["source"].as_str().is_some_and(|source| source.ends_with("settings.toml:2")));
    let default = run(dir.path(), &["config", "default"]).said;
    let default = written(&default);
    assert_eq!(run(dir.path(), &["config", "check", &default]).code, 0);
}

#[test]
fn the_doctor_looks_with_a_daemon_and_without() {
    let mut house = House::together(2);
    let verdict_of = |told: &Outcome, check: &str| {
        let report: serde_json::Value = serde_json::from_str(&told.said).expect("JSON");
        let checks = report["checks"].as_array().expect("a list");
        let found = checks.iter().find(|finding| finding["check"] == check);
        let found = found.unwrap_or_else(|| panic!("no {check} in {told:?}"));
        found["verdict"].as_str().expect("a word").to_owned()
    };
    let told = house.daemons[0].ask(&["doctor", "--json"]);
    assert_eq!(told.code, 0, "{told:?}");
    for check in ["daemon", "settings", "network", "port", "mdns", "peers", "room", "output"] {
        assert_eq!(verdict_of(&told, check), "ok", "{check}: {told:?}");
    }

    house.stop_all();
    let settings = house.path().join("doctor.toml");
    fs::write(&settings, "[network]\nprot = 1\n").expect("a file");
    let told = house.daemons[0].ask(&["doctor", "--json", "--config", text(&settings)]);
    assert_eq!(told.code, 5, "{told:?}");
    assert_eq!(verdict_of(&told, "daemon"), "fail");
    assert_eq!(verdict_of(&told, "settings"), "fail");
    fs::write(&settings, "[audio]\noutput = 'null'\n[network]\nmdns = false\n").expect("a file");
    let told = house.daemons[0].ask(&["doctor", "--json", "--config", text(&settings)]);
    let verdicts = ["settings", "output", "mdns"].map(|check| verdict_of(&told, check));
    assert_eq!(verdicts, ["ok", "ok", "warn"], "{told:?}");
}
