//! Doing: one function per verb. Each understands its body, makes one [`Command`] of it and
//! answers with what became of that.

use std::path::PathBuf;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use serde::{Deserialize, Serialize};

use super::answer::{Answer, Problem, Skipped};
use super::input::{Input, Nothing};
use super::router::App;
use super::{Caller, Imported};
use crate::base::limits::{MAX_NAME, MAX_QUEUE, MAX_SEEK, MAX_TRACKS_PER_ADD};
use crate::base::{EntryId, Span};
use crate::engine::Command;
use crate::engine::command::{Done, SeekTo, VolumeChange};
use crate::wire::op::Repeat;
use crate::wire::{Refusal, RefusalCode, Track};

/// Characters of what names a room or a member: the longest is an id of 64, or `host:port`.
const MAX_REFERENCE: usize = 300;

/// What an accepted command is answered with: the engine's reply, and what became of files.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Accepted {
    /// The engine's reply.
    #[serde(flatten)]
    pub done: Done,
    /// Tracks that were taken; only where files were sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub added: Option<usize>,
    /// Files that were not; only where there are any.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub skipped: Vec<Skipped>,
}

/// What every verb answers with.
pub(super) type Reply = Result<Json<Accepted>, Answer>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PlayInput {
    paths: Option<Vec<PathBuf>>,
}

pub(super) async fn play(State(app): State<App>, Input(input): Input<PlayInput>) -> Reply {
    match input.paths {
        Some(paths) => app.bring(paths, |tracks| Command::Play { tracks }).await,
        None => app.order(Command::Resume).await,
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AddInput {
    paths: Vec<PathBuf>,
}

pub(super) async fn add(State(app): State<App>, Input(input): Input<AddInput>) -> Reply {
    app.bring(input.paths, |tracks| Command::Add { tracks }).await
}

pub(super) async fn clear(State(app): State<App>, _: Input<Nothing>) -> Reply {
    app.order(Command::Clear).await
}

/// One number, or several separated by commas.
pub(super) async fn remove(
    State(app): State<App>,
    path: Result<Path<String>, PathRejection>,
) -> Reply {
    // A path that is no text names no numbers either.
    let numbers = path.ok().and_then(|Path(entries)| {
        entries.split(',').map(|entry| entry.parse().ok().map(EntryId)).collect::<Option<Vec<_>>>()
    });
    match numbers {
        Some(entries) if entries.len() <= MAX_QUEUE => app.order(Command::Remove { entries }).await,
        _ => Err(Answer::invalid(
            "the entries of the queue are named by their numbers",
            "write for example /queue/7 or /queue/7,9; GET /queue lists them",
        )),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MoveInput {
    entry: u64,
    place: usize,
}

pub(super) async fn move_entry(State(app): State<App>, Input(input): Input<MoveInput>) -> Reply {
    let MoveInput { entry, place } = input;
    app.order(Command::Move { entry: EntryId(entry), place }).await
}

pub(super) async fn shuffle(State(app): State<App>, _: Input<Nothing>) -> Reply {
    app.order(Command::Shuffle).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RepeatInput {
    mode: Repeat,
}

pub(super) async fn repeat(State(app): State<App>, Input(input): Input<RepeatInput>) -> Reply {
    app.order(Command::Repeat { mode: input.mode }).await
}

pub(super) async fn pause(State(app): State<App>, _: Input<Nothing>) -> Reply {
    app.order(Command::Pause).await
}

pub(super) async fn resume(State(app): State<App>, _: Input<Nothing>) -> Reply {
    app.order(Command::Resume).await
}

pub(super) async fn toggle(State(app): State<App>, _: Input<Nothing>) -> Reply {
    app.order(Command::Toggle).await
}

pub(super) async fn stop(State(app): State<App>, _: Input<Nothing>) -> Reply {
    app.order(Command::Stop).await
}

pub(super) async fn next(State(app): State<App>, _: Input<Nothing>) -> Reply {
    app.order(Command::Next).await
}

pub(super) async fn prev(State(app): State<App>, _: Input<Nothing>) -> Reply {
    app.order(Command::Prev).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SeekInput {
    position_ms: Option<i64>,
    offset_ms: Option<i64>,
}

pub(super) async fn seek(State(app): State<App>, Input(input): Input<SeekInput>) -> Reply {
    let span = |ms: i64| {
        let limit = MAX_SEEK.as_millis();
        let far = || Answer::invalid("the position is beyond 24 hours", "give it in milliseconds");
        (-limit..=limit).contains(&ms).then(|| Span::from_millis(ms)).ok_or_else(far)
    };
    let to = match (input.position_ms, input.offset_ms) {
        (Some(position), None) if position >= 0 => SeekTo::Absolute(span(position)?),
        (None, Some(offset)) => SeekTo::Relative(span(offset)?),
        _ => {
            let hint = "give either position_ms, from the beginning, or offset_ms, from here";
            return Err(Answer::invalid("it is not clear where to seek to", hint));
        }
    };
    app.order(Command::Seek { to }).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct VolumeInput {
    member: Option<String>,
    #[serde(default)]
    room: bool,
    volume: Option<i64>,
    change: Option<i64>,
}

pub(super) async fn volume(State(app): State<App>, Input(input): Input<VolumeInput>) -> Reply {
    let change = match (input.volume, input.change) {
        (Some(volume @ 0..=100), None) => u8::try_from(volume).ok().map(VolumeChange::To),
        (None, Some(change @ -100..=100)) => i8::try_from(change).ok().map(VolumeChange::By),
        _ => None,
    };
    let Some(change) = change else {
        let hint = "give either volume, 0 to 100, or change, -100 to 100";
        return Err(Answer::invalid("it is not clear how loud it should be", hint));
    };
    match (input.room, input.member) {
        (true, None) => app.order(Command::RoomVolume { change }).await,
        (true, Some(_)) => {
            let hint = "leave one of them out";
            Err(Answer::invalid("it is either a member's volume or the room's", hint))
        }
        (false, member) => {
            let member = member.map(reference).transpose()?;
            app.order(Command::Volume { member, change }).await
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MuteInput {
    member: Option<String>,
    muted: Option<bool>,
}

pub(super) async fn mute(State(app): State<App>, Input(input): Input<MuteInput>) -> Reply {
    let member = input.member.map(reference).transpose()?;
    app.order(Command::Mute { member, muted: input.muted }).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ResyncInput {
    member: Option<String>,
}

pub(super) async fn resync(State(app): State<App>, Input(input): Input<ResyncInput>) -> Reply {
    let member = input.member.map(reference).transpose()?;
    app.order(Command::Resync { member }).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CreateInput {
    name: Option<String>,
}

pub(super) async fn create_room(
    State(app): State<App>,
    caller: Caller,
    Input(input): Input<CreateInput>,
) -> Reply {
    let name = input.name.as_deref().map(room_name).transpose()?;
    app.paces.room(caller)?;
    app.order(Command::CreateRoom { name, password: None }).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct JoinInput {
    room: String,
}

pub(super) async fn join_room(State(app): State<App>, Input(input): Input<JoinInput>) -> Reply {
    let room = reference(input.room)?;
    app.order(Command::JoinRoom { room, password: None }).await
}

pub(super) async fn leave_room(State(app): State<App>, _: Input<Nothing>) -> Reply {
    app.order(Command::LeaveRoom).await
}

impl App {
    pub(super) async fn order(&self, command: Command) -> Reply {
        Ok(accepted(self.backend.command(command).await?))
    }

    /// Reads files, then orders what they are for.
    async fn bring(&self, paths: Vec<PathBuf>, command: fn(Vec<Track>) -> Command) -> Reply {
        check_paths(&paths)?;
        let imported = self.backend.import(paths).await?;
        check_imported(&imported)?;
        let added = Some(imported.tracks.len());
        let done = self.backend.command(command(imported.tracks)).await?;
        let skipped = imported.skipped.into_iter().map(skipped).collect();
        Ok(Json(Accepted { done, added, skipped }))
    }
}

/// The answer where no files were sent.
pub(super) fn accepted(done: Done) -> Json<Accepted> {
    Json(Accepted { done, added: None, skipped: Vec::new() })
}

fn check_paths(paths: &[PathBuf]) -> Result<(), Answer> {
    if paths.is_empty() || paths.len() > MAX_TRACKS_PER_ADD {
        let message = format!("{} files were named; 1 to {MAX_TRACKS_PER_ADD} can be", paths.len());
        return Err(Answer::invalid(message, "name a folder, or send them in parts"));
    }
    match paths.iter().find(|path| !path.is_absolute()) {
        Some(path) => {
            let message = format!("{} is not an absolute path", path.display());
            let hint = "the daemon does not know where you are; begin the path with /";
            Err(Answer::invalid(message, hint))
        }
        None => Ok(()),
    }
}

/// Something must be left to play, and no more than one event holds.
fn check_imported(imported: &Imported) -> Result<(), Answer> {
    if imported.tracks.len() > MAX_TRACKS_PER_ADD {
        let message = format!(
            "these are {} tracks; at most {MAX_TRACKS_PER_ADD} go in one go",
            imported.tracks.len()
        );
        return Err(Answer::invalid(message, "add a part of the folder first"));
    }
    match (imported.tracks.is_empty(), imported.skipped.as_slice()) {
        (false, _) => Ok(()),
        (true, [(path, refusal)]) => {
            let message = format!("{}: {}", path.display(), refusal.message);
            Err(Refusal { message, ..refusal.clone() }.into())
        }
        (true, []) => Err(Refusal::new(
            RefusalCode::NotFound,
            "there is no music in there",
            "FLAC, WAV, AIFF, MP3, M4A, Ogg and Opus files are played",
        )
        .into()),
        (true, [(path, refusal), ..]) => {
            let count = imported.skipped.len();
            let (path, why) = (path.display(), &refusal.message);
            let message = format!("none of {count} files can be played; the first, {path}: {why}");
            Err(Refusal { message, ..refusal.clone() }.into())
        }
    }
}

fn skipped((path, refusal): (PathBuf, Refusal)) -> Skipped {
    Skipped { path: path.display().to_string(), problem: Problem::from(refusal) }
}

/// What somebody calls a member or a room.
pub(super) fn reference(text: String) -> Result<String, Answer> {
    let length = text.chars().count();
    if (1..=MAX_REFERENCE).contains(&length) && !text.chars().any(char::is_control) {
        return Ok(text);
    }
    Err(Answer::invalid("that names nothing", "give a name, a code or an id"))
}

pub(super) fn room_name(text: &str) -> Result<String, Answer> {
    let length = text.trim().chars().count();
    if (1..=MAX_NAME).contains(&length) && !text.chars().any(char::is_control) {
        return Ok(text.trim().to_owned());
    }
    let message = format!("a room is called by 1 to {MAX_NAME} printable characters");
    Err(Answer::invalid(message, "choose another name"))
}
