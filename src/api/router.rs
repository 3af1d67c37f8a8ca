//! Which path is which function. The router is the same whatever it is served on.

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{Method, StatusCode, Uri};
use axum::routing::{delete, get, post};

use super::answer::Answer;
use super::events::Events;
use super::{Backend, commands, door, events, views};
use crate::base::limits::MAX_REQUEST;
use crate::wire::{Refusal, RefusalCode};

/// What every handler may use.
#[derive(Clone)]
pub(super) struct App {
    pub(super) backend: Arc<dyn Backend>,
    pub(super) events: Arc<Events>,
}

pub(super) fn router(backend: Arc<dyn Backend>, events: Arc<Events>) -> Router {
    let v1 = Router::new()
        .route("/status", get(views::status))
        .route("/members", get(views::members))
        .route("/sync", get(views::sync))
        .route("/peers", get(views::peers))
        .route("/rooms", get(views::rooms).post(commands::create_room))
        .route("/rooms/join", post(commands::join_room))
        .route("/room/create", post(door::create))
        .route("/room/join", post(door::join))
        .route("/room/lock", post(door::lock))
        .route("/room/unlock", post(door::unlock))
        .route("/room/invite", post(door::invite))
        .route("/rooms/leave", post(commands::leave_room))
        .route("/queue", get(views::queue).post(commands::add).delete(commands::clear))
        .route("/queue/{entries}", delete(commands::remove))
        .route("/queue/move", post(commands::move_entry))
        .route("/queue/shuffle", post(commands::shuffle))
        .route("/queue/repeat", post(commands::repeat))
        .route("/history", get(views::history))
        .route("/log", get(views::log))
        .route("/operations/{boot}/{seq}", get(views::operation))
        .route("/resync", post(commands::resync))
        .route("/outputs", get(views::outputs))
        .route("/version", get(views::version))
        .route("/play", post(commands::play))
        .route("/pause", post(commands::pause))
        .route("/resume", post(commands::resume))
        .route("/toggle", post(commands::toggle))
        .route("/stop", post(commands::stop))
        .route("/next", post(commands::next))
        .route("/prev", post(commands::prev))
        .route("/seek", post(commands::seek))
        .route("/volume", post(commands::volume))
        .route("/mute", post(commands::mute))
        .route("/events", get(events::subscribe));
    Router::new()
        .nest("/api/v1", v1)
        .fallback(no_such_path)
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::max(MAX_REQUEST))
        .with_state(App { backend, events })
}

async fn no_such_path(uri: Uri) -> Answer {
    let message = format!("there is nothing at {}", uri.path());
    Refusal::new(RefusalCode::NotFound, message, "docs/api.md lists the paths").into()
}

async fn wrong_method(method: Method, uri: Uri) -> Answer {
    let message = format!("{} does not take {method}", uri.path());
    let hint = "docs/api.md lists the methods";
    let refusal = Refusal::new(RefusalCode::InvalidRequest, message, hint);
    Answer::new(StatusCode::METHOD_NOT_ALLOWED, refusal)
}
