//! An evening with six people and three bare speakers, acted out with real daemons, each on a
//! device of its own: who may do what, and what everybody makes of it in the end.

use std::time::{Duration, Instant, SystemTime};

use groovebox::engine::Status;
use groovebox::engine::status::{PersonStatus, VoteStatus};

use super::daemon::Outcome;
use super::house::{House, LONG};
use super::sound::{text, write_song};
use super::street::Street;

const PEOPLE: [&str; 6] = ["anna", "ben", "carla", "dora", "emil", "fritz"];

/// People, and then speakers.
const DEVICES: usize = 9;

/// Devices of a person are gone for 15 s until the person is.
const GONE: Duration = Duration::from_secs(40);

/// What one asks for.
fn anna(house: &House, arguments: &[&str]) -> serde_json::Value {
    house.daemons[0].order(arguments)
}

fn refused(house: &House, i: usize, arguments: &[&str], code: &str) -> Outcome {
    let outcome = house.daemons[i].ask(arguments);
    assert_ne!(outcome.code, 0, "{} {arguments:?}: {outcome:?}", house.daemons[i].name);
    let both = format!("{}{}", outcome.said, outcome.complained);
    assert!(both.contains(&format!("\"code\":\"{code}\"")), "{arguments:?}, {code}: {outcome:?}");
    assert!(both.contains("\"hint\":\"") && !both.contains("\"hint\":\"\""), "{outcome:?}");
    outcome
}

fn wait(house: &House, what: &str, condition: impl Fn(&Status) -> bool) {
    house.wait_all(what, condition);
}

fn dj(status: &Status) -> Option<&str> {
    status.room.as_ref()?.dj.as_deref()
}

fn wait_dj(house: &House, name: Option<&str>) {
    wait(house, &format!("{name:?} is DJ"), |status| dj(status) == name);
}

fn open<'a>(status: &'a Status, kind: &str) -> Option<&'a VoteStatus> {
    status.votes.iter().find(|vote| vote.kind == kind)
}

fn person<'a>(status: &'a Status, name: &str) -> Option<&'a PersonStatus> {
    status.people.iter().find(|person| person.name == name)
}

/// What opens the room to the device `i`, who knows the password.
fn enter(house: &House, i: usize, code: &str) -> Outcome {
    let file = house.path().join("password");
    house.daemons[i].ask(&["room", "join", code, "--password-file", text(&file)])
}

/// Nine boxes that were told nothing have found each other; then Anna makes a locked room of
/// her own and the others come into it.
fn arrive() -> House {
    let house = House::on_street(DEVICES);
    house.daemons[0].order(&["user", "set", PEOPLE[0]]);
    let (right, wrong) = (house.path().join("password"), house.path().join("wrong"));
    std::fs::write(&right, "open sesame\n").expect("a file");
    std::fs::write(&wrong, "open barley\n").expect("a file");
    anna(&house, &["room", "create", "Evening", "--password-file", text(&right)]);
    let room = |house: &House| house.daemons[0].status()?.room;
    let (code, _) = house.until("Anna's room", LONG, |house| {
        room(house).filter(|room| room.name == "Evening").map(|room| room.code)
    });
    let guess = ["room", "join", &code, "--password-file", text(&wrong)];
    refused(&house, 1, &guess, "BAD_PASSWORD");
    let mut slowest = Duration::ZERO;
    for i in 1..DEVICES {
        let since = Instant::now();
        let outcome = enter(&house, i, &code);
        assert_eq!(outcome.code, 0, "{}: {outcome:?}", house.daemons[i].name);
        slowest = slowest.max(since.elapsed());
    }
    assert!(slowest < Duration::from_secs(5), "joining took {slowest:?}");
    house.wait_together();
    // Devices come in by themselves and in any order; the people of this evening one by one.
    for (daemon, name) in house.daemons.iter().zip(PEOPLE).skip(1) {
        daemon.order(&["user", "set", name]);
    }
    wait(&house, "everybody is here", |status| {
        PEOPLE.iter().all(|name| person(status, name).is_some_and(|p| p.here))
    });
    wait(&house, "Anna owns it", |status| {
        status.room.as_ref().is_some_and(|room| room.owner.as_deref() == Some("anna"))
    });
    wait_dj(&house, Some("anna"));
    anna(&house, &["room", "set", "vote_timeout", "10s"]);
    house
}

/// Dora and Carla find Ben; one he turns down, the other becomes a friend.
fn befriend(house: &House) {
    let list = |i: usize, part: &str| {
        let book = house.daemons[i].order(&["friend", "list"]);
        let people = book[part].as_array().expect("a list").clone();
        people.iter().filter_map(|p| Some(p["name"].as_str()?.to_owned())).collect::<Vec<_>>()
    };
    let wait = |i: usize, part: &str, names: &[&str]| {
        house.until(part, LONG, |_| (list(i, part) == names).then_some(()));
    };
    for (i, word) in [(3, "reject"), (2, "accept")] {
        let found = house.daemons[i].order(&["friend", "search", "be"]);
        assert!(found.to_string().contains("\"ben\""), "{found}");
        house.daemons[i].order(&["friend", "add", "ben"]);
        wait(1, "received", &[PEOPLE[i]]);
        house.daemons[1].order(&["friend", word, PEOPLE[i]]);
        wait(1, "received", &[]);
    }
    wait(3, "sent", &[]);
    wait(2, "friends", &["ben"]);
    wait(1, "friends", &["carla"]);
}

/// Ben is elected with the threshold; nobody votes twice; a mutiny needs exactly four of six.
fn govern(house: &House) {
    let vote = |i: usize, word: &str| house.daemons[i].order(&["vote", word]);
    refused(house, 1, &["pause"], "NOT_DJ");
    house.daemons[1].order(&["vote", "elect"]);
    for i in [1, 2, 3] {
        vote(i, "ben");
    }
    vote(3, "anna");
    wait(house, "two of four votes", |status| {
        open(status, "election").is_some_and(|vote| {
            let tally: Vec<_> = vote.tally.iter().map(|c| (c.name.as_str(), c.votes)).collect();
            tally == [("ben", 2), ("anna", 1)] && (vote.required, vote.electorate) == (4, 6)
        })
    });
    for i in [3, 4] {
        vote(i, "ben");
    }
    wait_dj(house, Some("ben"));
    refused(house, 0, &["dj", "take"], "NOT_DJ");

    // One short of the threshold.
    house.daemons[2].order(&["vote", "mutiny", "--yes"]);
    refused(house, 2, &["vote", "no"], "ALREADY_VOTED");
    vote(3, "yes");
    vote(4, "yes");
    wait(house, "three of four votes", |status| {
        open(status, "mutiny").is_some_and(|vote| (vote.votes_for, vote.required) == (3, 4))
    });
    wait(house, "the mutiny fails", |status| open(status, "mutiny").is_none());
    wait_dj(house, Some("ben"));
    refused(house, 2, &["vote", "mutiny", "--yes"], "COOLDOWN");

    // Exactly the threshold, and an election follows.
    house.daemons[3].order(&["vote", "mutiny", "--yes"]);
    for i in [2, 4, 5] {
        vote(i, "yes");
    }
    wait_dj(house, None);
    wait(house, "an election", |status| open(status, "election").is_some());
    let cooling = refused(house, 1, &["dj", "take"], "COOLDOWN");
    let said = format!("{}{}", cooling.said, cooling.complained);
    assert!(said.contains("\"retry_after"), "{said}");
    wait(house, "nobody votes, and it ends", |status| open(status, "election").is_none());
    house.daemons[5].order(&["dj", "random"]);
    wait(house, "a lot", |status| dj(status).is_some_and(|name| name != "ben"));
}

/// The DJ's device dies without a word.
fn vanish(house: &mut House) {
    anna(house, &["room", "set", "dj_cooldown", "0s"]);
    for policy in ["keep", "pause", "elect", "random"] {
        anna(house, &["room", "set", "on_dj_leave", policy]);
        if house.daemons[0].status().as_ref().and_then(dj) != Some("fritz") {
            anna(house, &["dj", "appoint", "fritz"]);
        }
        wait_dj(house, Some("fritz"));
        if policy == "pause" {
            let song = write_song(house.path(), "long", 600);
            house.daemons[5].order(&["play", text(&song)]);
            house.wait_playing(500);
        }
        house.daemons[5].kill();
        house.until("Fritz is away", GONE, |house| {
            let away = |status: &Status| person(status, "fritz").is_some_and(|p| !p.here);
            house.running().all(|d| d.status().is_some_and(|s| away(&s))).then_some(())
        });
        match policy {
            "keep" => wait_dj(house, Some("fritz")),
            "pause" => house.wait_state(groovebox::engine::status::PlaybackState::Paused),
            "elect" => {
                wait(house, "an election", |status| open(status, "election").is_some());
                wait(house, "no DJ", |status| dj(status).is_none());
            }
            _ => wait(house, "another DJ", |status| dj(status).is_some_and(|d| d != "fritz")),
        }
        house.daemons[5].start();
        wait(house, "Fritz is back", |status| person(status, "fritz").is_some_and(|p| p.here));
    }
}

/// A skip by vote; whoever comes in the middle of it has none.
fn skip(house: &House) {
    anna(house, &["dj", "appoint", "anna"]);
    wait_dj(house, Some("anna"));
    let songs = ["first", "second"].map(|name| write_song(house.path(), name, 300));
    anna(house, &["play", text(&songs[0]), text(&songs[1])]);
    house.wait_playing(500);
    house.daemons[5].order(&["room", "leave"]);
    wait_fritz(house, false);
    house.daemons[1].order(&["vote", "skip"]);
    let code = house.daemons[0].status().and_then(|status| status.room).expect("a room").code;
    assert_eq!(enter(house, 5, &code).code, 0);
    wait_fritz(house, true);
    refused(house, 5, &["vote", "yes"], "NOT_VOTING");
    for i in [2, 3] {
        house.daemons[i].order(&["vote", "yes"]);
    }
    wait(house, "the second song", |status| {
        status.playback.track.as_ref().is_some_and(|track| track.title == "second")
    });
}

/// Whether Fritz is in the room, as those see it who are.
fn wait_fritz(house: &House, is_in: bool) {
    house.until("Fritz", LONG, |house| {
        let mut others = house.daemons[..5].iter();
        others
            .all(|d| d.status().is_some_and(|s| person(&s, "fritz").is_some() == is_in))
            .then_some(())
    });
}

/// The queue plays people in turn, and is limited; the chat reaches everybody.
fn queue_and_chat(house: &House) {
    let add = |i: usize, name: &str| {
        let song = write_song(house.path(), name, 60);
        house.daemons[i].order(&["queue", "add", text(&song)]);
    };
    for (i, name) in [(1, "b1"), (1, "b2"), (2, "c1"), (1, "b3"), (3, "d1"), (2, "c2")] {
        add(i, name);
    }
    house.wait_queue(&["b1", "c1", "d1", "b2", "c2", "b3"]);
    let last = house.daemons[4].status().expect("it answers").queue.pop().expect("b3");
    house.daemons[4].order(&["queue", "up", &last.id.to_string()]);
    house.wait_queue(&["b3", "c1", "d1", "b1", "c2", "b2"]);
    for name in ["b4", "b5"] {
        add(1, name);
    }
    let sixth = write_song(house.path(), "b6", 60);
    refused(house, 1, &["queue", "add", text(&sixth)], "QUEUE_LIMIT");
    house.daemons[4].order(&["chat", "what a night"]);
    anna(house, &["room", "mute", "emil"]);
    refused(house, 4, &["chat", "hm"], "NOT_ALLOWED");
    house.until("everybody reads it", LONG, |house| {
        let read = |i: usize| house.daemons[i].say(&["chat"]).contains("what a night");
        (0..DEVICES).all(read).then_some(())
    });
}

/// The owner leaves, and whoever was there longest owns the room; somebody is sent out for a
/// while, and somebody for good while the room is in two halves.
fn succeed(house: &House) {
    refused(house, 1, &["room", "kick", "dora"], "NOT_OWNER");
    anna(house, &["room", "kick", "dora"]);
    house.until("Dora is out", LONG, |house| {
        house.daemons[3].status().filter(|status| status.room.is_none()).map(drop)
    });
    let code = house.daemons[0].status().and_then(|status| status.room).expect("a room").code;
    let cooling = enter(house, 3, &code);
    assert!(cooling.said.contains("\"COOLDOWN\""), "{cooling:?}");
    house.daemons[0].order(&["room", "leave"]);
    house.until("Ben owns it", LONG, |house| {
        let owner = house.daemons[2].status()?.room?.owner?;
        (owner == "ben").then_some(())
    });

    // Odd and even stations part: Ben is with Fritz and the study's speakers, Carla and Emil
    // with the others.
    house.street().part();
    house.until("Ben's half has a coordinator", LONG, |house| {
        house.daemons[1].ask(&["room", "ban", "emil"]).code.eq(&0).then_some(())
    });
    house.street().heal();
    house.until("Emil is out, in all of the room", LONG + LONG, |house| {
        let out = house.daemons[4].status()?.room.is_none();
        let gone =
            |i: &usize| house.daemons[*i].status().is_some_and(|s| person(&s, "emil").is_none());
        (out && [1, 2, 5, 6, 7, 8].iter().all(gone)).then_some(())
    });
    let banned = enter(house, 4, &code);
    assert!(banned.said.contains("\"BANNED\""), "{banned:?}");

    // Ben owns it now, and only his friends come in.
    house.daemons[1].order(&["room", "set", "friends_only", "true"]);
    let stranger = enter(house, 0, &code);
    assert!(stranger.said.contains("\"NOT_ALLOWED\""), "{stranger:?}");
    house.daemons[2].order(&["room", "leave"]);
    house.until("Carla, who is his friend, is in again", LONG, |house| {
        (enter(house, 2, &code).code == 0).then_some(())
    });
}

/// Everybody goes. Whoever was there last may come back within a day; then nothing of the room is
/// left on any disk.
fn go_home(house: &mut House, devices: &[usize]) {
    let before = house.daemons[devices[0]].status().and_then(|s| s.room).expect("a room");
    let (room, code) = (before.id, before.code);
    for i in devices {
        house.daemons[*i].order(&["room", "leave"]);
    }
    let (first, last) = (devices[0], devices[devices.len() - 1]);
    let shut = enter(house, first, &code);
    assert!(shut.said.contains("\"NOT_FOUND\""), "{shut:?}");
    let back = enter(house, last, &code);
    assert_eq!(back.code, 0, "{back:?}");
    let again = house.daemons[last].status().and_then(|s| s.room).expect("a room");
    assert_eq!((&again.id, &again.name), (&room, &before.name));
    assert!(house.daemons[last].say(&["chat"]).contains("what a night"));
    house.daemons[last].order(&["room", "leave"]);
    for i in devices {
        let daemon = &mut house.daemons[*i];
        daemon.stop();
        let rooms = daemon.path("state").join("rooms");
        let file = rooms.join(format!("{room}.db"));
        assert!(file.exists(), "{} keeps it for a day", daemon.name);
        let long_ago = SystemTime::now() - Duration::from_hours(25);
        for file in std::fs::read_dir(&rooms).expect("a folder").flatten() {
            let file = std::fs::File::options().write(true).open(file.path()).expect("a file");
            file.set_modified(long_ago).expect("it can be dated");
        }
        daemon.start();
    }
    house.until("the room is forgotten", LONG, |house| {
        let gone = |i: &usize| {
            let daemon = &house.daemons[*i];
            !daemon.path("state").join("rooms").join(format!("{room}.db")).exists()
        };
        devices.iter().all(gone).then_some(())
    });
}

/// Equal state at an equal place of the log, everywhere.
fn agree(house: &House, devices: &[usize]) {
    house.until("one state in all devices", LONG, |house| {
        let view = |i: &usize| {
            let room = house.daemons[*i].status()?.room?;
            Some((room.log_idx, room.state_hash, room.owner, room.dj))
        };
        let views: Vec<_> = devices.iter().map(view).collect();
        (views[0].is_some() && views.iter().all(|v| *v == views[0])).then_some(())
    });
}

#[test]
fn an_evening_with_six_people_and_three_speakers() {
    if !Street::is_possible() {
        return;
    }
    let mut house = arrive();
    befriend(&house);
    govern(&house);
    vanish(&mut house);
    skip(&house);
    queue_and_chat(&house);
    agree(&house, &[0, 1, 2, 3, 4, 5, 6, 7, 8]);
    succeed(&house);
    let left = [1, 2, 5, 6, 7, 8];
    agree(&house, &left);
    for i in left {
        house.daemons[i].kill();
    }
    for i in left {
        house.daemons[i].start();
    }
    agree(&house, &left);
    let status = house.daemons[6].status().expect("it answers");
    assert_eq!(status.room.and_then(|room| room.owner).as_deref(), Some("ben"));
    assert!(house.daemons[6].say(&["chat"]).contains("what a night"));
    go_home(&mut house, &left);
}
