//! `groovebox room`: create, join, leave or show a room.

use clap::Subcommand;
use hyper::Method;
use serde_json::json;

use super::client::Patience;
use super::failure::Failure;
use super::live::coordinator_name;
use super::password::{PasswordArgs, Twice};
use super::screen::Look;
use super::session::{Format, Session, print_json, understand};
use super::table::clip;
use crate::engine::Status;
use crate::engine::status::RoomStatus;

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
    /// Show the room this device is in
    Show,
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
    print_json(&serde_json::to_value(status.room).unwrap_or_default())
}

pub(super) fn lines(status: &Status, look: Look) -> Vec<String> {
    let Some(room) = &status.room else {
        return vec![
            "this device is in no room; `groovebox rooms` lists those in reach".to_owned(),
        ];
    };
    let online = status.members.iter().filter(|member| member.online).count();
    let rows = [
        ("name", room.name.clone()),
        ("code", room.code.clone()),
        ("access", if room.locked { "locked" } else { "open" }.to_owned()),
        ("devices", format!("{online} here, {} in all", status.members.len())),
        ("coordinator", coordinator_name(status).unwrap_or("none").to_owned()),
        ("owner", room.owner.clone().unwrap_or_else(|| "nobody".to_owned())),
        ("dj", room.dj.clone().unwrap_or_else(|| "nobody".to_owned())),
        ("term", room.term.n.to_string()),
        ("log", log_text(room)),
        ("id", room.id.clone()),
    ];
    rows.into_iter().map(|(name, value)| clip(&format!("{name:<12} {value}"), look)).collect()
}

fn log_text(room: &RoomStatus) -> String {
    format!("entry {}, durable to {}, state {}", room.log_idx, room.durable_idx, room.state_hash)
}
