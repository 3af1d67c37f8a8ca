//! Reading: the newest status and parts of it.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use serde::{Deserialize, Serialize};

use super::answer::Answer;
use super::router::App;
use super::{Health, ImportProgress, OutputInfo};
use crate::base::limits::{LOG_KEPT, LOG_SHOWN, MAX_CHAT_ON_DISK, MAX_HISTORY};
use crate::engine::Status;
use crate::engine::status::{
    ChatStatus, DjStatus, HistoryStatus, LogStatus, MemberStatus, OperationStatus, PastVoteStatus,
    PeerStatus, PersonStatus, QueueStatus, RoomInReach, SyncStatus, VoteStatus,
};
use crate::wire::Refusal;
use crate::wire::message::{Level, OutputState};

/// Rows of the history for whoever does not say how many.
const HISTORY_SHOWN: usize = 20;

/// Lines of the chat for whoever does not say how many: a screen full.
const CHAT_SHOWN: usize = 50;

/// How well one member follows.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct MemberSync {
    /// Its identity.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Whether it is here now.
    pub online: bool,
    /// Whether it is the room's coordinator.
    pub coordinator: bool,
    /// Its output.
    pub output: OutputState,
    /// What it reports; null while nothing is known.
    pub sync: Option<SyncStatus>,
}

/// What runs.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Versions {
    /// Of the program.
    pub version: String,
    /// Of this interface: the number in its path.
    pub api: u32,
}

impl MemberSync {
    /// One for each member of the room.
    #[must_use]
    pub fn all(status: &Status) -> Vec<MemberSync> {
        let coordinator = status.room.as_ref().and_then(|room| room.coordinator.as_ref());
        let of = |member: &MemberStatus| MemberSync {
            id: member.id.clone(),
            name: member.name.clone(),
            online: member.online,
            coordinator: coordinator == Some(&member.id),
            output: member.output.clone(),
            sync: member.sync.clone(),
        };
        status.members.iter().map(of).collect()
    }
}

impl App {
    pub(super) fn newest(&self) -> Arc<Status> {
        Arc::clone(&self.backend.status().borrow())
    }
}

pub(super) async fn status(State(app): State<App>) -> Json<Status> {
    Json((*app.newest()).clone())
}

pub(super) async fn members(State(app): State<App>) -> Json<Vec<MemberStatus>> {
    Json(app.newest().members.clone())
}

pub(super) async fn sync(State(app): State<App>) -> Json<Vec<MemberSync>> {
    Json(MemberSync::all(&app.newest()))
}

pub(super) async fn peers(State(app): State<App>) -> Json<Vec<PeerStatus>> {
    Json(app.newest().peers.clone())
}

pub(super) async fn rooms(State(app): State<App>) -> Json<Vec<RoomInReach>> {
    Json(app.newest().rooms.clone())
}

pub(super) async fn queue(State(app): State<App>) -> Json<Vec<QueueStatus>> {
    Json(app.newest().queue.clone())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HowMuch {
    last: Option<usize>,
}

pub(super) async fn log(
    State(app): State<App>,
    how_much: Result<Query<HowMuch>, QueryRejection>,
) -> Result<Json<LogStatus>, Answer> {
    let hint = "write for example /log?last=1000, of 20,000 at most";
    let Query(HowMuch { last }) =
        how_much.map_err(|rejection| Answer::invalid(rejection.body_text(), hint))?;
    match last.unwrap_or(LOG_SHOWN) {
        last if (1..=LOG_KEPT).contains(&(last as u64)) => Ok(Json(app.backend.log(last).await?)),
        _ => Err(Answer::invalid("so many entries are not kept", hint)),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HowSafe {
    level: Option<Level>,
}

pub(super) async fn operation(
    State(app): State<App>,
    which: Result<Path<(u32, u64)>, PathRejection>,
    how_safe: Result<Query<HowSafe>, QueryRejection>,
) -> Result<Json<OperationStatus>, Answer> {
    let hint = "write for example /operations/3/17?level=durable";
    let Path((boot, seq)) =
        which.map_err(|rejection| Answer::invalid(rejection.body_text(), hint))?;
    let Query(HowSafe { level }) =
        how_safe.map_err(|rejection| Answer::invalid(rejection.body_text(), hint))?;
    let wanted = level.unwrap_or(Level::Local);
    Ok(Json(app.backend.operation(boot, seq, wanted).await?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HowMany {
    n: Option<usize>,
}

pub(super) async fn history(
    State(app): State<App>,
    query: Result<Query<HowMany>, QueryRejection>,
) -> Result<Json<Vec<HistoryStatus>>, Answer> {
    let wrong = |message: String| {
        Answer::invalid(message, format!("write for example /history?n=20; 1 to {MAX_HISTORY}"))
    };
    let Query(HowMany { n }) = query.map_err(|rejection| wrong(rejection.body_text()))?;
    match n.unwrap_or(HISTORY_SHOWN) {
        n @ 1..=MAX_HISTORY => Ok(Json(app.backend.history(n).await?)),
        n => Err(wrong(format!("{n} rows cannot be shown"))),
    }
}

pub(super) async fn people(State(app): State<App>) -> Json<Vec<PersonStatus>> {
    Json(app.newest().people.clone())
}

pub(super) async fn votes(State(app): State<App>) -> Json<Vec<VoteStatus>> {
    Json(app.newest().votes.clone())
}

pub(super) async fn past_votes(
    State(app): State<App>,
) -> Result<Json<Vec<PastVoteStatus>>, Answer> {
    Ok(Json(app.backend.past_votes().await?))
}

pub(super) async fn dj(State(app): State<App>) -> Result<Json<DjStatus>, Answer> {
    Ok(Json(app.backend.dj().await?))
}

/// The last lines, oldest first: what the room remembers, and before it what the disk does.
pub(super) async fn chat(
    State(app): State<App>,
    how_much: Result<Query<HowMuch>, QueryRejection>,
) -> Result<Json<Vec<ChatStatus>>, Answer> {
    let hint = format!("write for example /chat?last=50, of {MAX_CHAT_ON_DISK} at most");
    let Query(HowMuch { last }) =
        how_much.map_err(|rejection| Answer::invalid(rejection.body_text(), &*hint))?;
    let last = last.unwrap_or(CHAT_SHOWN);
    if !(1..=MAX_CHAT_ON_DISK).contains(&last) {
        return Err(Answer::invalid("so many lines are not kept", hint));
    }
    let chat = Arc::clone(&app.backend.chat().borrow());
    if chat.room.is_none() {
        return Err(Refusal::not_in_room().into());
    }
    let now = super::events::wall_ms();
    let mut lines = Vec::new();
    if chat.lines.len() < last {
        let known: BTreeSet<&str> = chat.lines.iter().map(|line| line.id.as_str()).collect();
        lines = app.backend.kept_chat(last).await?;
        lines.retain(|line| !known.contains(line.id.as_str()));
    }
    // They are told once, when something is said; since then time has passed.
    let first = chat.lines.len().saturating_sub(last);
    lines.extend(chat.lines[first..].iter().map(|line| ChatStatus {
        ago_ms: line.said_at.map_or(line.ago_ms, |said_at| (now - said_at).max(0)),
        ..line.clone()
    }));
    lines.drain(..lines.len().saturating_sub(last));
    Ok(Json(lines))
}

pub(super) async fn outputs(State(app): State<App>) -> Result<Json<Vec<OutputInfo>>, Answer> {
    Ok(Json(app.backend.outputs().await?))
}

pub(super) async fn imports(State(app): State<App>) -> Json<ImportProgress> {
    Json(app.backend.importing())
}

pub(super) async fn health(State(app): State<App>) -> Result<Json<Health>, Answer> {
    Ok(Json(app.backend.health().await?))
}

pub(super) async fn version() -> Json<Versions> {
    Json(Versions { version: env!("CARGO_PKG_VERSION").to_owned(), api: 1 })
}
