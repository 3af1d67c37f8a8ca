//! What people and programs touch: HTTP and JSON under `/api/v1` on a Unix socket, and live
//! events over a WebSocket. `docs/api.md` lists the endpoints.
//!
//! | file | what |
//! |---|---|
//! | `listener` | the socket: its rights, and what to do about one that is already there |
//! | `router` | which path is which function |
//! | `views` | reading: parts of the status |
//! | `commands` | doing: one function per verb, each ending in one [`Command`] |
//! | `people` | the same for people: user, DJ, votes, chat, rules, who is let in |
//! | `friends` | friends and requests, and the pairing of a second device |
//! | `health` | what this device's machine offers, for `groovebox doctor` |
//! | `pace` | how much one session may ask for |
//! | `door` | locked rooms and invites |
//! | `input` | bodies: JSON, bounded, no unknown fields |
//! | `answer` | refusals as JSON with a fitting HTTP status |
//! | `events` | snapshot, then numbered changes |
//!
//! Nothing here decides: a request becomes a command for the [`Backend`], and what is shown is
//! the status that the backend publishes.

mod answer;
mod commands;
mod door;
mod events;
mod friends;
mod health;
mod input;
mod listener;
mod pace;
mod people;
mod router;
mod views;

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::extract::connect_info::{ConnectInfo, Connected};
use axum::http::request::Parts;
use axum::serve::IncomingStream;
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use tokio::net::UnixListener;
use tokio::sync::watch;

use crate::engine::status::{
    ChatStatus, DjStatus, FriendsStatus, HistoryStatus, LogStatus, OperationStatus, PastVoteStatus,
};
use crate::engine::{Command, CommandReply, Status};
use crate::wire::message::Level;
use crate::wire::{Refusal, Track};

pub use answer::{Problem, Skipped};
pub use commands::Accepted;
pub use events::Event;
pub use health::{CardFormat, Health, Space};
pub use listener::{ApiError, Listening, listen};
pub use views::{MemberSync, Versions};

use events::Events;

/// How long running requests may still take once the daemon stops.
const DRAIN: Duration = Duration::from_secs(1);

/// The daemon, as seen from here.
pub trait Backend: Send + Sync + 'static {
    /// The newest status, and notice of the next.
    fn status(&self) -> watch::Receiver<Arc<Status>>;

    /// Hands a command to the engine and waits for what becomes of it.
    fn command(&self, command: Command) -> BoxFuture<'_, CommandReply>;

    /// Gives this device a person, or its person another name. Their key stays the same.
    fn become_user(&self, wish: UserWish) -> BoxFuture<'_, CommandReply>;

    /// The DJ, and who was it before.
    fn dj(&self) -> BoxFuture<'_, Result<DjStatus, Refusal>>;

    /// Friends, requests, what a search found, and how far a pairing is.
    fn friends(&self) -> BoxFuture<'_, Result<FriendsStatus, Refusal>>;

    /// Votes that are over, the latest first.
    fn past_votes(&self) -> BoxFuture<'_, Result<Vec<PastVoteStatus>, Refusal>>;

    /// What was said in the room lately, and notice of more.
    fn chat(&self) -> watch::Receiver<Arc<ChatLog>>;

    /// What this device's disk has of the chat, the last lines of at most so many, oldest first.
    fn kept_chat(&self, at_most: usize) -> BoxFuture<'_, Result<Vec<ChatStatus>, Refusal>>;

    /// What became of an operation of this device, by start counter and number: once it is as safe
    /// as wanted, or after a few seconds.
    fn operation(
        &self,
        boot: u32,
        seq: u64,
        wanted: Level,
    ) -> BoxFuture<'_, Result<OperationStatus, Refusal>>;

    /// So many entries of the end of the room's log, as far as they are kept.
    fn log(&self, at_most: usize) -> BoxFuture<'_, Result<LogStatus, Refusal>>;

    /// What was played in the room, the latest first.
    fn history(&self, at_most: usize) -> BoxFuture<'_, Result<Vec<HistoryStatus>, Refusal>>;

    /// Reads, hashes and caches files and folders of this machine.
    fn import(&self, paths: Vec<PathBuf>) -> BoxFuture<'_, Result<Imported, Refusal>>;

    /// How far reading files has come at the moment.
    fn importing(&self) -> ImportProgress;

    /// The devices that sound can go to.
    fn outputs(&self) -> BoxFuture<'_, Result<Vec<OutputInfo>, Refusal>>;

    /// What this device's machine offers at the moment.
    fn health(&self) -> BoxFuture<'_, Result<Health, Refusal>>;
}

/// Who somebody wants to be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UserWish {
    /// What they ask to be called.
    pub name: String,
    /// As they want to be called; none leaves it as it was, an empty text is the name itself.
    pub display: Option<String>,
}

/// What was said in a room lately.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ChatLog {
    /// Which room, by its id; none while this device is in none.
    pub room: Option<String>,
    /// Oldest first.
    pub lines: Vec<ChatStatus>,
}

/// What became of files.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Imported {
    /// What can be played, in the order asked for; a folder's in the order of its names.
    pub tracks: Vec<Track>,
    /// What cannot, and why.
    pub skipped: Vec<(PathBuf, Refusal)>,
}

/// How far reading files has come, all orders that run together. Both are 0 while none does.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct ImportProgress {
    /// Files that were found.
    pub files: u64,
    /// Those of them that were read, or could not be.
    pub done: u64,
}

/// A device that sound can go to.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct OutputInfo {
    /// What `--output` takes.
    pub id: String,
    /// For people.
    pub name: String,
    /// Whether it is the one that `default` means.
    pub default: bool,
    /// Whether this device's settings name it. False where no daemon runs.
    #[serde(default)]
    pub chosen: bool,
}

/// Who is at the other end of a connection, as the kernel says. Every request carries it as
/// the extension `axum::extract::ConnectInfo<Caller>`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Caller {
    /// A process of this machine.
    Local {
        /// Its user.
        uid: u32,
        /// Its group.
        gid: u32,
        /// Its number, where the system tells.
        pid: Option<i32>,
    },
    /// The kernel did not say.
    Unknown,
}

impl Connected<IncomingStream<'_, Listening>> for Caller {
    fn connect_info(stream: IncomingStream<'_, Listening>) -> Caller {
        match stream.io().peer_cred() {
            Ok(who) => Caller::Local { uid: who.uid(), gid: who.gid(), pid: who.pid() },
            Err(_) => Caller::Unknown,
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Caller, Infallible> {
        let known = parts.extensions.get::<ConnectInfo<Caller>>();
        Ok(known.map_or(Caller::Unknown, |ConnectInfo(caller)| *caller))
    }
}

/// The interface without a socket. Must be called within a runtime, and lives as long as what
/// it returns.
pub fn service(backend: Arc<dyn Backend>) -> axum::Router {
    let events = Events::follow(backend.status(), backend.chat());
    router::router(backend, events)
}

/// Answers requests until `shutdown` is ready; then lets running ones finish for a second and
/// removes the socket.
///
/// # Errors
///
/// Those of the system; a client cannot cause one.
pub async fn serve(
    listener: Listening,
    backend: Arc<dyn Backend>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), ApiError> {
    let events = Events::follow(backend.status(), backend.chat());
    let service = router::router(backend, Arc::clone(&events))
        .into_make_service_with_connect_info::<Caller>();
    let (stopping, stopped) = watch::channel(());
    let signal = async move {
        shutdown.await;
        events.close();
        drop(stopping);
    };
    let server = axum::serve(listener, service).with_graceful_shutdown(signal);
    tokio::select! {
        result = server => result.map_err(ApiError::Serve),
        () = drained(stopped) => Ok(()),
    }
}

/// Ready a while after the sender is gone: a stuck client must not hold the daemon.
async fn drained(mut stopped: watch::Receiver<()>) {
    while stopped.changed().await.is_ok() {}
    tokio::time::sleep(DRAIN).await;
}

impl axum::serve::Listener for Listening {
    type Io = tokio::net::UnixStream;
    type Addr = tokio::net::unix::SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        axum::serve::Listener::accept(self.socket_mut()).await
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        UnixListener::local_addr(self.socket())
    }
}

#[cfg(test)]
pub(crate) mod sample;
#[cfg(test)]
pub(crate) mod tests;
