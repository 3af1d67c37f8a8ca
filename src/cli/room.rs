//! `groovebox room`: create, join, leave or show a room, its rules, and who is in it.

use clap::Subcommand;
use hyper::Method;
use serde_json::{Value, json};

use super::client::Patience;
use super::confirm::{Unasked, confirm};
use super::failure::Failure;
use super::live::{coordinator, coordinator_name, starred};
use super::password::{PasswordArgs, Twice};
use super::screen::Look;
use super::session::{Format, Session, print_json, understand};
use super::table::{Column, Tone, cell, clip, table, word};
use super::text::lasting;
use crate::engine::Status;
use crate::engine::status::{MemberStatus, PersonStatus, RoomStatus};

pub(super) const IN_NO_ROOM: &str =
    "this device is in no room; `groovebox rooms` lists those in reach";

#[derive(Subcommand, Debug)]
pub(super) enum RoomVerb {
    /// Make a room and move there
    Create {
        /// What it is called; otherwise it is given a name
        name: Option<String>,
        #[command(flatten)]
        password: PasswordArgs,
    },
    /// Move into another room
    Join {
        /// Its code, name or id, host:port of a device in it, or an invite
        room: String,
        #[command(flatten)]
        password: PasswordArgs,
    },
    /// Lock the room, or change its password: who is in stays in
    Lock {
        #[command(flatten)]
        password: PasswordArgs,
    },
    /// Open the room to everybody
    Unlock,
    /// Leave the room; this device then stays alone until told otherwise
    Leave,
    /// Show the room this device is in, its people and devices
    Show,
    /// Show the settings of the room
    Settings,
    /// Change a setting of the room
    Set {
        /// Which; `room settings` lists them
        key: String,
        /// Its new value
        value: String,
    },
    /// Send a person or a device out, for five minutes
    Kick {
        /// Whom
        name: String,
    },
    /// Send a person or a device out for good
    Ban {
        /// Whom
        name: String,
    },
    /// Let somebody come back
    Unban {
        /// As `room show` lists them
        name: String,
    },
    /// Take a person the word in the chat
    Mute {
        /// Whom
        name: String,
    },
    /// Give a person the word back
    Unmute {
        /// Whom
        name: String,
    },
    /// Delete the room, for everybody
    Delete {
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

pub(super) async fn run(verb: RoomVerb, session: &mut Session) -> Result<(), Failure> {
    match verb {
        RoomVerb::Create { name, password } => {
            let mut body = json!({});
            if let Some(name) = name {
                body["name"] = name.into();
            }
            if let Some(password) = password.read(Twice::Yes)? {
                body["password"] = password.into();
            }
            session.post("/room/create", body).await
        }
        RoomVerb::Join { room, password } => join(&room, &password, session).await,
        RoomVerb::Lock { password } => {
            let password = password.demand(Twice::Yes)?;
            session.post("/room/lock", json!({ "password": password })).await
        }
        RoomVerb::Unlock => session.post("/room/unlock", json!({})).await,
        RoomVerb::Leave => session.post("/rooms/leave", json!({})).await,
        RoomVerb::Show => show(session).await,
        RoomVerb::Settings => settings(session).await,
        RoomVerb::Set { key, value } => {
            let mut body = serde_json::Map::new();
            body.insert(key, Value::String(value));
            let (patch, body) = (Method::PATCH, Some(Value::Object(body)));
            session.order(patch, "/room/settings", body, Patience::Short).await
        }
        RoomVerb::Kick { name } => session.post("/room/kick", json!({ "who": name })).await,
        RoomVerb::Ban { name } => session.post("/room/ban", json!({ "who": name })).await,
        RoomVerb::Unban { name } => session.post("/room/unban", json!({ "who": name })).await,
        RoomVerb::Mute { name } => session.post("/room/mute", json!({ "who": name })).await,
        RoomVerb::Unmute { name } => session.post("/room/unmute", json!({ "who": name })).await,
        RoomVerb::Delete { yes } => delete(session, yes).await,
    }
}

async fn delete(session: &Session, yes: bool) -> Result<(), Failure> {
    if let Some(room) = session.status().await?.room {
        let told = format!(
            "{} ({}) is deleted for everybody in it: people, queue, chat and history.",
            room.name, room.code
        );
        confirm(&[told], "Delete it?", yes, Unasked::Nothing)?;
    }
    session.order(Method::DELETE, "/room", None, Patience::Short).await?;
    session.tell("the room is deleted");
    Ok(())
}

async fn settings(session: &Session) -> Result<(), Failure> {
    let json = |status: &Status| json!(status.room.as_ref().map(|room| &room.settings));
    session.show_of_room(json, setting_lines).await
}

/// Each setting, its value and what it means.
pub(super) fn setting_lines(status: &Status, look: Look) -> Vec<String> {
    let Some(room) = &status.room else { return vec![IN_NO_ROOM.to_owned()] };
    let columns = [Column::Left("SETTING"), Column::Left("VALUE"), Column::Left("MEANING")];
    let row = |(key, value): (&String, &String)| vec![word(key), word(value), word(meaning(key))];
    table(&columns, room.settings.iter().map(row).collect(), look)
}

fn meaning(key: &str) -> &'static str {
    match key {
        "announce_name" => "strangers see the name of the locked room",
        "auto_random_dj" => "a mutiny is followed by a DJ by lot",
        "control" => "who controls the music: dj, owner, everyone",
        "dj_cooldown" => "a removed DJ waits so long",
        "election_threshold" => "share for an election (-: as all)",
        "friends_only" => "only friends of the owner come in",
        "guests_may" => "of vote, chat, queue, control",
        "guests_per_address" => "guests of one address who vote",
        "kick_threshold" => "share for a kick (-: as all)",
        "max_members" => "people the room takes",
        "mutiny_threshold" => "share for a mutiny (-: as all)",
        "on_dj_leave" => "the DJ vanishes: elect, random, pause, keep",
        "queue_limit" => "tracks of one person that wait",
        "queue_max" => "tracks that wait in all",
        "queue_order" => "fair (in turn), fifo, or dj",
        "skip_threshold" => "share for a skip (-: as all)",
        "vote_threshold" => "share of those here that decides",
        "vote_timeout" => "how long a vote is open",
        _ => "",
    }
}

async fn join(room: &str, password: &PasswordArgs, session: &Session) -> Result<(), Failure> {
    let mut body = json!({ "room": room });
    let mut patience = Patience::Short;
    if let Some(password) = password.read(Twice::No)? {
        body["password"] = password.into();
        patience = Patience::Door;
    }
    session.order(Method::POST, "/room/join", Some(body), patience).await
}

async fn show(session: &Session) -> Result<(), Failure> {
    if session.format == Format::Text {
        return session.show("/status", lines).await;
    }
    let get = Method::GET;
    let answer = session.client.send(get, "/status", None, Patience::Short).await?;
    let status: Status = understand(answer)?;
    let mut room = serde_json::to_value(&status.room).unwrap_or_default();
    if let Value::Object(room) = &mut room {
        room.insert("people".to_owned(), json!(status.people));
        room.insert("members".to_owned(), json!(status.members));
    }
    print_json(&room)
}

pub(super) fn lines(status: &Status, look: Look) -> Vec<String> {
    let Some(room) = &status.room else {
        return vec![IN_NO_ROOM.to_owned()];
    };
    let online = status.members.iter().filter(|member| member.online).count();
    let rows = [
        ("name", room.name.clone()),
        ("code", room.code.clone()),
        ("access", if room.locked { "locked" } else { "open" }.to_owned()),
        ("devices", format!("{online} here, {} in all", status.members.len())),
        ("coordinator", coordinator_name(status).unwrap_or("none").to_owned()),
        ("owner", owner_text(room)),
        ("dj", room.dj.clone().unwrap_or_else(|| "nobody".to_owned())),
        ("term", room.term.n.to_string()),
        ("log", log_text(room)),
        ("id", room.id.clone()),
    ];
    let kept = [("banned", &room.banned), ("muted", &room.muted)];
    let kept = kept.into_iter().filter(|(_, names)| !names.is_empty());
    let rows = rows.into_iter().chain(kept.map(|(what, names)| (what, names.join(", "))));
    let line = |(name, value)| clip(&format!("{name:<12} {value}"), look);
    let mut lines: Vec<String> = rows.map(line).collect();
    if !status.people.is_empty() {
        lines.push(String::new());
        lines.extend(people_lines(&status.people, look));
    }
    lines.push(String::new());
    lines.extend(device_lines(status, look));
    lines
}

fn owner_text(room: &RoomStatus) -> String {
    match (&room.owner, &room.acting_owner) {
        (Some(owner), Some(acting)) => format!("{owner}, who is away; {acting} acts for them"),
        (Some(owner), None) => owner.clone(),
        (None, _) => "nobody".to_owned(),
    }
}

fn people_lines(people: &[PersonStatus], look: Look) -> Vec<String> {
    let columns = [
        Column::Left("PERSON"),
        Column::Left("DISPLAY"),
        Column::Left("ROLE"),
        Column::Left("STATE"),
        Column::Left("NOTES"),
        Column::Left("DEVICES"),
    ];
    let row = |person: &PersonStatus| {
        let state = if person.here { cell("here", Tone::Good) } else { cell("away", Tone::Weak) };
        let display = if person.display == person.name { "" } else { &person.display };
        vec![
            word(&person.name),
            word(display),
            word(&person.role),
            state,
            cell(notes(person), Tone::Weak),
            word(person.devices.join(", ")),
        ]
    };
    table(&columns, people.iter().map(row).collect(), look)
}

fn notes(person: &PersonStatus) -> String {
    let muted = person.muted.then(|| "muted".to_owned());
    let cooling = person.cooldown_ms.map(|ms| format!("cools down {}", lasting(ms)));
    muted.into_iter().chain(cooling).collect::<Vec<_>>().join(", ")
}

fn device_lines(status: &Status, look: Look) -> Vec<String> {
    let columns = [Column::Left("DEVICE"), Column::Left("STATE"), Column::Left("PERSON")];
    let coordinator = coordinator(status);
    let row = |member: &MemberStatus| {
        let (state, tone) = if member.online { ("here", Tone::Good) } else { ("away", Tone::Weak) };
        vec![
            word(starred(member, coordinator)),
            cell(state, tone),
            word(member.user.as_deref().unwrap_or("–")),
        ]
    };
    table(&columns, status.members.iter().map(row).collect(), look)
}

fn log_text(room: &RoomStatus) -> String {
    format!("entry {}, durable to {}, state {}", room.log_idx, room.durable_idx, room.state_hash)
}
