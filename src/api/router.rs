//! Which path is which function. The router is the same whatever it is served on.

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{Method, StatusCode, Uri};
use axum::middleware::from_fn_with_state;
use axum::routing::{delete, get, patch, post, put};

use super::answer::Answer;
use super::events::Events;
use super::pace::{self, Paces};
use super::{Backend, commands, door, events, friends, people, views};
use crate::base::limits::MAX_REQUEST;
use crate::wire::{Refusal, RefusalCode};

/// What every handler may use.
#[derive(Clone)]
pub(super) struct App {
    pub(super) backend: Arc<dyn Backend>,
    pub(super) events: Arc<Events>,
    pub(super) paces: Arc<Paces>,
}

pub(super) fn router(backend: Arc<dyn Backend>, events: Arc<Events>) -> Router {
    let app = App { backend, events, paces: Arc::new(Paces::new()) };
    let v1 = music()
        .merge(government())
        .merge(friendship())
        .route_layer(from_fn_with_state(app.clone(), pace::count))
        // Whoever drags a slider asks often.
        .route("/volume", post(commands::volume));
    Router::new()
        .nest("/api/v1", v1)
        .fallback(no_such_path)
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::max(MAX_REQUEST))
        .with_state(app)
}

/// Devices, rooms and what they play.
fn music() -> Router<App> {
    Router::new()
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
        .route("/imports", get(views::imports))
        .route("/health", get(views::health))
        .route("/version", get(views::version))
        .route("/play", post(commands::play))
        .route("/pause", post(commands::pause))
        .route("/resume", post(commands::resume))
        .route("/toggle", post(commands::toggle))
        .route("/stop", post(commands::stop))
        .route("/next", post(commands::next))
        .route("/prev", post(commands::prev))
        .route("/seek", post(commands::seek))
        .route("/mute", post(commands::mute))
        .route("/events", get(events::subscribe))
}

/// People, and what they do to each other.
fn government() -> Router<App> {
    Router::new()
        .route("/user", put(people::become_user).delete(people::forget_user))
        .route("/dj", get(views::dj))
        .route("/dj/take", post(people::dj_take))
        .route("/dj/give", post(people::dj_give))
        .route("/dj/drop", post(people::dj_drop))
        .route("/dj/appoint", post(people::dj_appoint))
        .route("/dj/random", post(people::dj_random))
        .route("/votes", get(views::votes).post(people::call_vote))
        .route("/votes/history", get(views::past_votes))
        .route("/votes/ballot", post(people::vote))
        .route("/chat", get(views::chat).post(people::say))
        .route("/people", get(views::people))
        .route("/room", delete(people::delete_room))
        .route("/room/settings", patch(people::set))
        .route("/room/kick", post(people::kick))
        .route("/room/ban", post(people::ban))
        .route("/room/unban", post(people::unban))
        .route("/room/mute", post(people::mute))
        .route("/room/unmute", post(people::unmute))
        .route("/queue/{entries}/up", post(people::up))
        .route("/queue/{entries}/down", post(people::down))
}

/// Friends, and the devices of one person.
fn friendship() -> Router<App> {
    Router::new()
        .route("/friends", get(friends::friends).patch(friends::set))
        .route("/friends/search", get(friends::search))
        .route("/friends/requests", post(friends::add))
        .route("/friends/accept", post(friends::accept))
        .route("/friends/reject", post(friends::reject))
        .route("/friends/remove", post(friends::remove))
        .route("/user/pair", get(friends::pairing).post(friends::pair).delete(friends::cancel))
        .route("/user/pair/confirm", post(friends::confirm))
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
