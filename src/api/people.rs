//! What people do to each other: who they are, the DJ, votes, the chat, the rules of the room
//! and who is in it. As in `commands`, each function makes one [`Command`] of its body.

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::UserWish;
use super::answer::Answer;
use super::commands::{Reply, reference};
use super::input::{Input, Nothing};
use super::router::App;
use crate::base::EntryId;
use crate::base::limits::{MAX_CHAT, MAX_NAME, MAX_USER_NAME, MIN_USER_NAME};
use crate::engine::Command;
use crate::engine::command::VoteWord;
use crate::engine::room::{is_chat_text, is_display_name, is_user_name, settings};
use crate::wire::op::VoteKind;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct UserInput {
    name: String,
    display: Option<String>,
}

pub(super) async fn become_user(State(app): State<App>, Input(input): Input<UserInput>) -> Reply {
    let name = input.name.trim().to_owned();
    if !is_user_name(&name) {
        let message = format!(
            "a person is called by {MIN_USER_NAME} to {MAX_USER_NAME} letters, digits and - _ ."
        );
        return Err(Answer::invalid(message, "choose another name; `display` takes any script"));
    }
    let display = input.display.map(|display| display.trim().to_owned());
    if display.as_ref().is_some_and(|text| !text.is_empty() && !is_display_name(text)) {
        let message = format!("a display name has 1 to {MAX_NAME} printable characters");
        return Err(Answer::invalid(message, "choose another, or none"));
    }
    let done = app.backend.become_user(UserWish { name, display }).await?;
    Ok(super::commands::accepted(done))
}

pub(super) async fn forget_user(State(app): State<App>, _: Input<Nothing>) -> Reply {
    app.order(Command::BecomeUser { user: None }).await
}

/// A body that names a person or a device.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WhoInput {
    who: String,
}

/// A body that names whom something is given to.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ToInput {
    to: String,
}

pub(super) async fn dj_take(State(app): State<App>, _: Input<Nothing>) -> Reply {
    app.order(Command::DjTake).await
}

pub(super) async fn dj_give(State(app): State<App>, Input(input): Input<ToInput>) -> Reply {
    app.order(Command::DjGive { to: reference(input.to)? }).await
}

pub(super) async fn dj_drop(State(app): State<App>, _: Input<Nothing>) -> Reply {
    app.order(Command::DjDrop).await
}

pub(super) async fn dj_appoint(State(app): State<App>, Input(input): Input<ToInput>) -> Reply {
    app.order(Command::DjAppoint { to: reference(input.to)? }).await
}

pub(super) async fn dj_random(State(app): State<App>, _: Input<Nothing>) -> Reply {
    app.order(Command::DjRandom).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CallInput {
    kind: VoteKind,
    who: Option<String>,
}

pub(super) async fn call_vote(State(app): State<App>, Input(input): Input<CallInput>) -> Reply {
    let CallInput { kind, who } = input;
    match (kind, &who) {
        (VoteKind::Kick, None) => {
            Err(Answer::invalid("nobody was named", "say in `who` whom to send out"))
        }
        (VoteKind::Election | VoteKind::Mutiny | VoteKind::Skip, Some(_)) => {
            let message =
                format!("a vote of the kind {} is about nobody in particular", kind.as_str());
            Err(Answer::invalid(message, "leave `who` out; an election is voted on with names"))
        }
        _ => {
            let who = who.map(reference).transpose()?;
            app.order(Command::CallVote { kind, who }).await
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BallotInput {
    choice: String,
    #[serde(rename = "in")]
    kind: Option<VoteKind>,
}

pub(super) async fn vote(State(app): State<App>, Input(input): Input<BallotInput>) -> Reply {
    let BallotInput { choice, kind } = input;
    // Somebody may be called like that, and stand.
    let is_name = kind == Some(VoteKind::Election);
    let word = match choice.as_str() {
        "yes" if !is_name => VoteWord::Yes,
        "no" if !is_name => VoteWord::No,
        _ => VoteWord::For(reference(choice)?),
    };
    app.order(Command::Vote { kind, word }).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ChatInput {
    text: String,
}

pub(super) async fn say(State(app): State<App>, Input(input): Input<ChatInput>) -> Reply {
    let text = input.text;
    if !is_chat_text(&text) {
        let message = format!("a message has 1 to {MAX_CHAT} printable characters");
        return Err(Answer::invalid(message, "make it shorter, or say something"));
    }
    app.order(Command::Chat { text }).await
}

/// Several settings are several operations. All are understood before the first is ordered, so
/// that a slip of the pen changes nothing.
pub(super) async fn set(State(app): State<App>, Input(input): Input<Map<String, Value>>) -> Reply {
    let mut changes = Vec::with_capacity(input.len());
    for (key, value) in &input {
        changes.push(settings::parse(key, &as_written(key, value)?)?);
    }
    let mut reply = Err(Answer::invalid(
        "no setting was named",
        "write for example {\"dj_cooldown\": \"2m\"}; GET /status lists them in room.settings",
    ));
    for setting in changes {
        reply = app.order(Command::Set { setting }).await;
        if reply.is_err() {
            break;
        }
    }
    reply
}

/// A value as a person would write it; null is "as all".
fn as_written(key: &str, value: &Value) -> Result<String, Answer> {
    match value {
        Value::String(text) if text.chars().count() <= 4 * MAX_NAME => Ok(text.clone()),
        Value::Bool(switch) => Ok(switch.to_string()),
        Value::Number(number) => Ok(number.to_string()),
        Value::Null => Ok("-".to_owned()),
        _ => {
            let message = format!("that is no value of {key:.64}");
            Err(Answer::invalid(message, "write a text, a number, true or false"))
        }
    }
}

pub(super) async fn kick(State(app): State<App>, Input(input): Input<WhoInput>) -> Reply {
    app.order(Command::Kick { who: reference(input.who)? }).await
}

pub(super) async fn ban(State(app): State<App>, Input(input): Input<WhoInput>) -> Reply {
    app.order(Command::Ban { who: reference(input.who)? }).await
}

pub(super) async fn unban(State(app): State<App>, Input(input): Input<WhoInput>) -> Reply {
    app.order(Command::Unban { who: reference(input.who)? }).await
}

pub(super) async fn mute(State(app): State<App>, Input(input): Input<WhoInput>) -> Reply {
    app.order(Command::Silence { who: reference(input.who)?, silenced: true }).await
}

pub(super) async fn unmute(State(app): State<App>, Input(input): Input<WhoInput>) -> Reply {
    app.order(Command::Silence { who: reference(input.who)?, silenced: false }).await
}

pub(super) async fn delete_room(State(app): State<App>, _: Input<Nothing>) -> Reply {
    app.order(Command::DeleteRoom).await
}

pub(super) async fn up(
    State(app): State<App>,
    entry: Result<Path<u64>, PathRejection>,
    _: Input<Nothing>,
) -> Reply {
    app.order(Command::UpVote { entry: entry_of(entry)?, up: true }).await
}

pub(super) async fn down(
    State(app): State<App>,
    entry: Result<Path<u64>, PathRejection>,
    _: Input<Nothing>,
) -> Reply {
    app.order(Command::UpVote { entry: entry_of(entry)?, up: false }).await
}

fn entry_of(entry: Result<Path<u64>, PathRejection>) -> Result<EntryId, Answer> {
    entry.map(|Path(entry)| EntryId(entry)).map_err(|_| {
        Answer::invalid(
            "the entries of the queue are named by their numbers",
            "write for example /queue/7/up; GET /queue lists them",
        )
    })
}
