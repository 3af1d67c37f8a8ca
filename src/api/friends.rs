//! Friends and requests, and the pairing of a second device. None of it is part of the status:
//! whom a person knows is nobody else's business.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use ring::rand::{SecureRandom, SystemRandom};
use serde::Deserialize;

use super::answer::Answer;
use super::commands::{Reply, reference};
use super::input::{Input, Nothing};
use super::router::App;
use crate::engine::Command;
use crate::engine::friends::{Discoverable, FriendCommand};
use crate::engine::pairing::PairCommand;
use crate::engine::status::{FoundStatus, FriendsStatus, PairingStatus};
use crate::wire::{Refusal, RefusalCode};

/// A body that names a person.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WhoInput {
    who: String,
}

pub(super) async fn friends(State(app): State<App>) -> Result<Json<FriendsStatus>, Answer> {
    Ok(Json(app.backend.friends().await?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SetInput {
    discoverable: Discoverable,
}

pub(super) async fn set(State(app): State<App>, Input(input): Input<SetInput>) -> Reply {
    app.order(Command::Friend(FriendCommand::Discoverable(input.discoverable))).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    name: String,
}

pub(super) async fn search(
    State(app): State<App>,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Result<Json<Vec<FoundStatus>>, Answer> {
    let hint = "write for example /friends/search?name=anna";
    let Query(Wanted { name }) =
        wanted.map_err(|rejection| Answer::invalid(rejection.body_text(), hint))?;
    let name = reference(name)?;
    app.backend.command(Command::Friend(FriendCommand::Find { name })).await?;
    Ok(Json(app.backend.friends().await?.found))
}

pub(super) async fn add(State(app): State<App>, Input(input): Input<WhoInput>) -> Reply {
    app.order(Command::Friend(FriendCommand::Add { who: reference(input.who)? })).await
}

pub(super) async fn accept(State(app): State<App>, Input(input): Input<WhoInput>) -> Reply {
    app.order(Command::Friend(FriendCommand::Accept { who: reference(input.who)? })).await
}

pub(super) async fn reject(State(app): State<App>, Input(input): Input<WhoInput>) -> Reply {
    app.order(Command::Friend(FriendCommand::Reject { who: reference(input.who)? })).await
}

pub(super) async fn remove(State(app): State<App>, Input(input): Input<WhoInput>) -> Reply {
    app.order(Command::Friend(FriendCommand::Remove { who: reference(input.who)? })).await
}

pub(super) async fn pairing(State(app): State<App>) -> Result<Json<PairingStatus>, Answer> {
    Ok(Json(app.backend.friends().await?.pairing))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PairInput {
    device: Option<String>,
}

pub(super) async fn pair(State(app): State<App>, Input(input): Input<PairInput>) -> Reply {
    let nonce = drawn()?;
    let command = match input.device {
        Some(device) => PairCommand::Call { device: reference(device)?, nonce },
        None => PairCommand::Wait { nonce },
    };
    app.order(Command::Pair(command)).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ConfirmInput {
    code: String,
}

pub(super) async fn confirm(State(app): State<App>, Input(input): Input<ConfirmInput>) -> Reply {
    let digits = input.code.chars().filter(|c| !" -".contains(*c)).collect::<String>();
    let is_code = digits.len() == 6 && digits.bytes().all(|c| c.is_ascii_digit());
    let code = digits.parse().ok().filter(|_| is_code).ok_or_else(|| {
        Answer::invalid("the code has six digits", "as they stand on the other device")
    })?;
    app.order(Command::Pair(PairCommand::Confirm { code })).await
}

pub(super) async fn cancel(State(app): State<App>, _: Input<Nothing>) -> Reply {
    app.order(Command::Pair(PairCommand::Cancel)).await
}

/// For one run: what is known beforehand could be searched against.
fn drawn() -> Result<[u8; 32], Answer> {
    let mut nonce = [0; 32];
    SystemRandom::new().fill(&mut nonce).map_err(|_| {
        let message = "the system's random generator failed";
        Answer::from(Refusal::new(RefusalCode::Internal, message, "nothing was changed; try again"))
    })?;
    Ok(nonce)
}
