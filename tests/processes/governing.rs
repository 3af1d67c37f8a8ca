//! People: who they are, what they decide together, and what they say.

use std::fs;

use groovebox::engine::status::Status;
use serde_json::Value;

use super::daemon::Daemon;
use super::house::{House, LONG};

fn people(status: &Status) -> Vec<(&str, &str)> {
    status.people.iter().map(|person| (person.name.as_str(), person.role.as_str())).collect()
}

fn user_id(daemon: &Daemon) -> Option<String> {
    Some(daemon.status()?.node.user?.id)
}

fn dj(status: &Status) -> Option<&str> {
    status.room.as_ref()?.dj.as_deref()
}

#[test]
fn two_people_govern_a_room() {
    let mut house = House::together(2);
    let [kitchen, study] = &house.daemons[..] else { panic!("two daemons") };
    study.ask(&["chat", "hello"]).expect(1, "user set NAME");
    kitchen.order(&["user", "set", "anna"]);
    study.ask(&["user", "set", "b"]).expect(1, "2 to 32 letters");
    study.order(&["user", "set", "ben", "--display", "Benjamin"]);
    kitchen.order(&["room", "create", "Party"]);
    let code = kitchen.status().and_then(|s| s.room).expect("it is in its room").code;
    study.order(&["room", "join", &code]);
    house.wait_all("both are in the room", |status| {
        people(status) == [("anna", "owner"), ("ben", "listener")] && dj(status) == Some("anna")
    });

    // A mutiny at one short of the threshold, and at it; who was removed cools down.
    study.ask(&["vote", "yes"]).expect(1, "no such vote is open");
    study.order(&["vote", "mutiny"]);
    house.wait_all("a mutiny is open", |status| {
        status.votes.iter().any(|vote| (vote.votes_for, vote.required) == (1, 2))
    });
    study.ask(&["vote", "yes"]).expect(1, "you have voted");
    kitchen.order(&["vote", "yes"]);
    house.wait_all("an election follows", |status| {
        dj(status).is_none() && status.votes.iter().any(|vote| vote.kind == "election")
    });
    kitchen.ask(&["dj", "take"]).expect(1, "try again in 5 min");
    kitchen.order(&["vote", "ben"]);
    study.order(&["vote", "ben"]);
    house.wait_all("ben is elected", |status| dj(status) == Some("ben"));
    assert_eq!(study.order(&["dj"])["history"][0]["reason"], "mutiny");
    let past = kitchen.order(&["vote", "history"]);
    assert_eq!((&past[0]["result"], &past[1]["result"]), (&"elected".into(), &"passed".into()));

    study.ask(&["pause"]).expect(1, "nothing is playing");
    kitchen.order(&["room", "set", "dj_cooldown", "2m"]);
    study.ask(&["room", "set", "dj_cooldown", "1m"]).expect(1, "only anna");
    kitchen.order(&["chat", "who", "wants", "jazz?"]);
    let said = |daemon: &Daemon| -> Option<Value> { daemon.order(&["chat"]).get(0).cloned() };
    let (line, _) = house.until("ben reads it", LONG, |house| said(&house.daemons[1]));
    assert_eq!((&line["name"], &line["text"]), (&"anna".into(), &"who wants jazz?".into()));
    assert!(line["said_at"].as_i64().is_some_and(|ms| ms > 1_700_000_000_000), "{line}");

    // A person outlives a restart, and stays the same under the name that the settings give.
    let id = user_id(&house.daemons[0]).expect("anna");
    house.daemons[0].stop();
    fs::write(house.daemons[0].path("settings.toml"), "[user]\nname = 'anne'\n").expect("a file");
    house.daemons[0].start();
    house.wait_all("anne owns the room", |status| people(status).contains(&("anne", "owner")));
    assert_eq!(user_id(&house.daemons[0]), Some(id));
    let shown = house.daemons[1].say(&["room", "show"]);
    assert!(shown.contains("anne") && shown.contains("Benjamin"), "{shown}");
}
