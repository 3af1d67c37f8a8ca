//! Rooms with a lock: making and entering them, locking and opening, invites. Passwords are taken
//! in bodies only, and are in no answer.

use std::net::{IpAddr, SocketAddr};

use axum::Json;
use axum::extract::State;
use serde::Deserialize;

use super::Caller;
use super::answer::Answer;
use super::commands::{Accepted, reference, room_name};
use super::input::{Input, Nothing};
use super::router::App;
use crate::base::limits::MAX_PASSWORD;
use crate::base::{RoomId, Span};
use crate::engine::Command;
use crate::identity;
use crate::wire::op::Role;
use crate::wire::{Refusal, RefusalCode};

/// How many may come in with one invite.
const INVITE_USES: std::ops::RangeInclusive<u32> = 1..=256;

/// How long an invite may last: a day.
const INVITE_MINUTES: std::ops::RangeInclusive<u32> = 1..=1440;

/// Unless it is told otherwise.
const MINUTES: u32 = 10;

/// Addresses in an invite: the ways to a laptop with a cable and Wi-Fi.
const ADDRESSES: usize = 3;

type Reply = Result<Json<Accepted>, Answer>;

/// A password in a body. It is not shown when a body is logged.
#[derive(Deserialize)]
#[serde(transparent)]
pub(super) struct Typed(String);

impl Typed {
    fn check(self) -> Result<identity::Password, Answer> {
        identity::Password::new(self.0).ok_or_else(|| {
            let message = format!("a password has 1 to {MAX_PASSWORD} bytes");
            Answer::invalid(message, "choose another password")
        })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CreateInput {
    name: Option<String>,
    password: Option<Typed>,
}

pub(super) async fn create(
    State(app): State<App>,
    caller: Caller,
    Input(input): Input<CreateInput>,
) -> Reply {
    let name = input.name.as_deref().map(room_name).transpose()?;
    let password = input.password.map(Typed::check).transpose()?;
    app.paces.room(caller)?;
    app.order(Command::CreateRoom { name, password }).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct JoinInput {
    room: String,
    password: Option<Typed>,
}

pub(super) async fn join(State(app): State<App>, Input(input): Input<JoinInput>) -> Reply {
    let room = reference(input.room)?;
    let password = input.password.map(Typed::check).transpose()?;
    app.order(Command::JoinRoom { room, password }).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LockInput {
    password: Typed,
}

pub(super) async fn lock(State(app): State<App>, Input(input): Input<LockInput>) -> Reply {
    let password = input.password.check()?;
    let room = app.room()?;
    let stretching = tokio::task::spawn_blocking(move || password.stretch(&room));
    let secret = match stretching.await {
        Ok(Ok(secret)) => secret,
        Ok(Err(error)) => return Err(failed(&error.to_string())),
        Err(_) => return Err(failed("the password could not be worked out")),
    };
    app.order(Command::Lock { room, secret: Some(secret) }).await
}

pub(super) async fn unlock(State(app): State<App>, _: Input<Nothing>) -> Reply {
    let room = app.room()?;
    app.order(Command::Lock { room, secret: None }).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct InviteInput {
    uses: Option<u32>,
    minutes: Option<u32>,
    role: Option<Role>,
}

pub(super) async fn invite(State(app): State<App>, Input(input): Input<InviteInput>) -> Reply {
    let (uses, minutes) = (input.uses.unwrap_or(1), input.minutes.unwrap_or(MINUTES));
    if !INVITE_USES.contains(&uses) || !INVITE_MINUTES.contains(&minutes) {
        let message = "an invite serves 1 to 256 devices and lasts 1 to 1440 minutes";
        return Err(Answer::invalid(message, "make several, or one later"));
    }
    let lasts = Span::from_secs(i64::from(minutes) * 60);
    let Json(mut accepted) = app.order(Command::Invite { uses, lasts, cap: input.role }).await?;
    let port = app.backend.status().borrow().node.port;
    let bind = app.backend.health().await.ok().and_then(|health| health.bind);
    let addresses = addresses(bind)
        .into_iter()
        .map(|ip| SocketAddr::new(ip, port).to_string())
        .collect::<Vec<_>>();
    if let Some(text) = accepted.done.message.as_mut().filter(|_| !addresses.is_empty()) {
        text.push('@');
        text.push_str(&addresses.join(","));
    }
    Ok(Json(accepted))
}

/// Where this device can be reached from elsewhere: at the one address that it was told to use, or
/// at all; in IPv6 those have no end.
fn addresses(bind: Option<IpAddr>) -> Vec<IpAddr> {
    if let Some(ip) = bind.filter(|ip| !ip.is_unspecified()) {
        return vec![ip];
    }
    let interfaces = if_addrs::get_if_addrs().unwrap_or_default();
    let addresses = interfaces.iter().filter(|one| !one.is_loopback()).map(if_addrs::Interface::ip);
    addresses.filter(IpAddr::is_ipv4).take(ADDRESSES).collect()
}

impl App {
    /// The room that this device is in.
    fn room(&self) -> Result<RoomId, Answer> {
        let status = self.backend.status();
        let room = status.borrow().room.as_ref().and_then(|room| room.id.parse().ok());
        room.ok_or_else(|| Refusal::not_in_room().into())
    }
}

fn failed(message: &str) -> Answer {
    Refusal::new(RefusalCode::Internal, message, "the daemon's log may say more").into()
}
