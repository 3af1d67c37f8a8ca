//! Live events: a snapshot, then numbered changes.
//!
//! ```text
//!  backend ──watch──► Events: compares with the last status, numbers the change
//!                        │ backlog of the newest changes (bounded in number and bytes)
//!            ┌───────────┼───────────┐
//!         client      client      client      each remembers the last number it was sent
//! ```
//!
//! Nothing is queued for a client: it takes from the backlog what it has not seen yet, at its
//! own pace. Who falls behind the backlog gets a snapshot, so a slow client costs nothing.
//!
//! What is said in the chat is no part of the status: each line is a change of its own, in the
//! same row of numbers. Lines that are there already when a room is entered are none.
//!
//! Numbers start at the wall clock's microseconds, so that a client which comes back to a
//! restarted daemon never takes a new number for one it knows. They are below 2⁵³, which is
//! what a JSON number holds everywhere.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::ChatLog;
use super::answer::Answer;
use super::router::App;
use crate::base::limits::{EVENT_BACKLOG, EVENT_BACKLOG_BYTES, MAX_EVENT_CLIENTS};
use crate::engine::Status;
use crate::engine::status::ChatStatus;
use crate::wire::{Refusal, RefusalCode};

/// Changes closer together than this are told as one: no eye follows faster.
const PACE: Duration = Duration::from_millis(40);

/// After the last client has gone, changes are kept for so long: it may come back and go on where
/// it stopped. Without anybody to tell them to they are not worth encoding.
const KEPT_FOR: Duration = Duration::from_mins(1);

/// A client that does not take a message for this long is let go.
const PATIENCE: Duration = Duration::from_secs(30);

/// Bytes of a message from a client. There is nothing to say.
const MAX_FROM_CLIENT: usize = 4096;

/// What is sent, one JSON object per message.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Event {
    /// Everything, as of change `seq`.
    Snapshot {
        /// The last change that is in it.
        seq: u64,
        /// Everything.
        status: Box<Status>,
    },
    /// One change.
    Delta {
        /// One more than the one before.
        seq: u64,
        /// The parts of the status that are different now, whole.
        changed: Map<String, Value>,
    },
    /// Somebody said something.
    Chat {
        /// One more than the one before.
        seq: u64,
        /// What, and who.
        line: ChatStatus,
    },
}

/// The numbered changes of the status.
pub(super) struct Events {
    backlog: Mutex<Backlog>,
    /// Number of the newest change; its sender gone means the daemon stops.
    newest: Mutex<Option<watch::Sender<u64>>>,
    places: Arc<Semaphore>,
}

struct Backlog {
    status: Arc<Status>,
    seq: u64,
    /// Encoded changes; the last one is number `seq`.
    deltas: VecDeque<Arc<str>>,
    bytes: usize,
    /// When there was a client, the last time that somebody looked.
    listened: Option<Instant>,
}

/// The lines of the chat that have been told, or were there before.
#[derive(Default)]
struct Told {
    room: Option<String>,
    ids: BTreeSet<String>,
}

/// What a client that has seen changes up to a number is sent next.
enum Next {
    Delta(Arc<str>),
    Snapshot { seq: u64, status: Arc<Status> },
    Nothing,
}

impl Events {
    /// Numbers the changes of `status` and the lines of `chat` until their sender is gone.
    pub(super) fn follow(
        mut status: watch::Receiver<Arc<Status>>,
        mut chat: watch::Receiver<Arc<ChatLog>>,
    ) -> Arc<Events> {
        let first = Arc::clone(&status.borrow_and_update());
        let seq = first_number();
        let events = Arc::new(Events {
            backlog: Mutex::new(Backlog::new(first, seq)),
            newest: Mutex::new(Some(watch::Sender::new(seq))),
            places: Arc::new(Semaphore::new(MAX_EVENT_CLIENTS)),
        });
        let following = Arc::downgrade(&events);
        let mut told = Told::default();
        let _those_before = told.new_lines(&chat.borrow_and_update());
        tokio::spawn(async move {
            loop {
                let changed = tokio::select! {
                    changed = status.changed() => changed,
                    changed = chat.changed() => changed,
                };
                if changed.is_err() {
                    return;
                }
                let newest = Arc::clone(&status.borrow_and_update());
                let lines = told.new_lines(&chat.borrow_and_update());
                let Some(events) = following.upgrade() else { return };
                events.take(newest, lines);
                drop(events);
                tokio::time::sleep(PACE).await;
            }
        });
        events
    }

    /// Ends all streams.
    pub(super) fn close(&self) {
        lock(&self.newest).take();
    }

    fn take(&self, status: Arc<Status>, lines: Vec<ChatStatus>) {
        let changed = {
            let mut backlog = lock(&self.backlog);
            if self.places.available_permits() < MAX_EVENT_CLIENTS {
                backlog.listened = Some(Instant::now());
            }
            let changed = backlog.take(status);
            lines.into_iter().map(|line| backlog.say(line)).last().or(changed)
        };
        if let (Some(seq), Some(newest)) = (changed, lock(&self.newest).as_ref()) {
            newest.send_replace(seq);
        }
    }

    fn subscribe(&self) -> Option<watch::Receiver<u64>> {
        lock(&self.newest).as_ref().map(watch::Sender::subscribe)
    }
}

impl Backlog {
    fn new(status: Arc<Status>, seq: u64) -> Backlog {
        Backlog { status, seq, deltas: VecDeque::new(), bytes: 0, listened: None }
    }

    /// The number of the change, if there is one.
    fn take(&mut self, status: Arc<Status>) -> Option<u64> {
        if !self.is_listened_to() {
            self.skip();
            self.status = status;
            return Some(self.seq);
        }
        let changed = changes(&self.status, &status);
        if changed.is_empty() {
            return None;
        }
        self.seq += 1;
        self.status = status;
        self.keep(&encode(&Event::Delta { seq: self.seq, changed }));
        Some(self.seq)
    }

    /// The number of the line.
    fn say(&mut self, line: ChatStatus) -> u64 {
        if !self.is_listened_to() {
            self.skip();
            return self.seq;
        }
        self.seq += 1;
        self.keep(&encode(&Event::Chat { seq: self.seq, line }));
        self.seq
    }

    fn is_listened_to(&self) -> bool {
        self.listened.is_some_and(|at| at.elapsed() < KEPT_FOR)
    }

    /// Something changed that nobody is told of: who comes back gets a snapshot.
    fn skip(&mut self) {
        self.seq += 1;
        self.deltas.clear();
        self.bytes = 0;
    }

    fn keep(&mut self, delta: &str) {
        self.bytes += delta.len();
        self.deltas.push_back(delta.into());
        while self.deltas.len() > EVENT_BACKLOG || self.bytes > EVENT_BACKLOG_BYTES {
            let Some(oldest) = self.deltas.pop_front() else { break };
            self.bytes -= oldest.len();
        }
    }

    fn after(&self, seen: Option<u64>) -> Next {
        let behind = seen.and_then(|seen| self.seq.checked_sub(seen));
        let behind = behind.and_then(|behind| usize::try_from(behind).ok());
        match behind {
            Some(0) => Next::Nothing,
            Some(behind) if behind <= self.deltas.len() => {
                Next::Delta(Arc::clone(&self.deltas[self.deltas.len() - behind]))
            }
            _ => Next::Snapshot { seq: self.seq, status: Arc::clone(&self.status) },
        }
    }
}

impl Told {
    /// What has not been told of a room that this device was in before.
    fn new_lines(&mut self, chat: &ChatLog) -> Vec<ChatStatus> {
        let ids = chat.lines.iter().map(|line| line.id.clone()).collect();
        let before = std::mem::replace(&mut self.ids, ids);
        if std::mem::replace(&mut self.room, chat.room.clone()) != chat.room {
            return Vec::new();
        }
        chat.lines.iter().filter(|line| !before.contains(&line.id)).cloned().collect()
    }
}

/// The parts of the status that differ. Compared as values before anything is encoded: most
/// changes are a position that moved on.
fn changes(old: &Status, new: &Status) -> Map<String, Value> {
    let mut changed = Map::new();
    macro_rules! compare {
        ($($part:ident)*) => {
            $(if old.$part != new.$part {
                let value = serde_json::to_value(&new.$part).expect("a status is plain data");
                changed.insert(stringify!($part).to_owned(), value);
            })*
        };
    }
    compare!(node room members playback queue fetching people votes rooms peers);
    changed
}

fn encode(event: &Event) -> String {
    serde_json::to_string(event).expect("a status is plain data with texts for keys")
}

/// Unix milliseconds.
pub(super) fn wall_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

fn first_number() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(0)
}

/// A panic in a handler leaves the backlog as it was: every change to it is one push.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Since {
    since: Option<u64>,
}

pub(super) async fn subscribe(
    State(app): State<App>,
    since: Result<Query<Since>, axum::extract::rejection::QueryRejection>,
    upgrade: Result<WebSocketUpgrade, axum::extract::ws::rejection::WebSocketUpgradeRejection>,
) -> Result<Response, Answer> {
    let Query(Since { since }) = since.map_err(|rejection| {
        Answer::invalid(rejection.body_text(), "write for example /events?since=1234")
    })?;
    let upgrade = upgrade.map_err(|rejection| {
        let hint = "open this path as a WebSocket; GET /status answers once";
        let refusal = Refusal::new(RefusalCode::InvalidRequest, rejection.body_text(), hint);
        Answer::new(StatusCode::UPGRADE_REQUIRED, refusal)
    })?;
    let place = Arc::clone(&app.events.places).try_acquire_owned().map_err(|_| too_many())?;
    let upgrade = upgrade.max_message_size(MAX_FROM_CLIENT).max_frame_size(MAX_FROM_CLIENT);
    Ok(upgrade.on_upgrade(move |socket| stream(socket, app.events, since, place)))
}

fn too_many() -> Answer {
    let message = format!("{MAX_EVENT_CLIENTS} programs follow already");
    let hint = "close one of them and try again";
    let refusal = Refusal {
        retry_after_ms: Some(5_000),
        ..Refusal::new(RefusalCode::RateLimited, message, hint)
    };
    refusal.into()
}

/// Feeds one client until it goes, the daemon stops, or its patience is abused.
async fn stream(
    mut socket: WebSocket,
    events: Arc<Events>,
    mut seen: Option<u64>,
    _place: OwnedSemaphorePermit,
) {
    let Some(mut newest) = events.subscribe() else { return };
    loop {
        newest.mark_unchanged();
        while let Some((text, seq)) = next_message(&events, seen) {
            let sent = tokio::time::timeout(PATIENCE, socket.send(Message::text(text))).await;
            if !matches!(sent, Ok(Ok(()))) {
                return;
            }
            seen = Some(seq);
        }
        tokio::select! {
            changed = newest.changed() => if changed.is_err() {
                let _farewell = tokio::time::timeout(PATIENCE, socket.send(Message::Close(None))).await;
                return;
            },
            said = socket.recv() => match said {
                Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                Some(Ok(_)) => {}
            },
        }
    }
}

fn next_message(events: &Events, seen: Option<u64>) -> Option<(String, u64)> {
    let next = lock(&events.backlog).after(seen);
    match next {
        Next::Nothing => None,
        Next::Delta(text) => seen.map(|seen| (text.to_string(), seen + 1)),
        Next::Snapshot { seq, status } => {
            Some((encode(&Event::Snapshot { seq, status: Box::new((*status).clone()) }), seq))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::status::{PlaybackState, VoteStatus};

    fn status_at(position_ms: i64) -> Arc<Status> {
        let mut status = Status::default();
        status.playback.position_ms = position_ms;
        Arc::new(status)
    }

    #[test]
    fn every_part_of_the_status_is_compared() {
        let whole = serde_json::to_value(Status::default()).expect("plain data");
        let mut other: Status = Status {
            room: Some(crate::engine::status::RoomStatus::default()),
            votes: vec![VoteStatus::default()],
            people: vec![crate::engine::status::PersonStatus::default()],
            ..Status::default()
        };
        other.node.uptime_s = 1;
        other.playback.state = PlaybackState::Playing;
        let mut sample = crate::api::sample::status();
        other.members.append(&mut sample.members);
        other.queue.append(&mut sample.queue);
        other.rooms.append(&mut sample.rooms);
        other.peers.append(&mut sample.peers);
        let id = "f6".repeat(32);
        other.fetching.push(crate::engine::status::FetchStatus { id, percent: 43 });
        let changed = changes(&Status::default(), &other);
        let mut parts: Vec<&String> = whole.as_object().expect("an object").keys().collect();
        let mut compared: Vec<&String> = changed.keys().collect();
        parts.sort();
        compared.sort();
        assert_eq!(compared, parts);
    }

    /// With somebody who listens.
    fn backlog(seq: u64) -> Backlog {
        Backlog { listened: Some(Instant::now()), ..Backlog::new(status_at(0), seq) }
    }

    #[test]
    fn what_nobody_listens_to_is_not_encoded_and_is_in_the_snapshot() {
        let mut backlog = backlog(10);
        backlog.take(status_at(1));
        backlog.listened = None;
        backlog.take(status_at(2));
        assert!(backlog.deltas.is_empty() && backlog.bytes == 0);
        let Next::Snapshot { seq, status } = backlog.after(Some(11)) else { panic!("it is gone") };
        assert_eq!((seq, status), (12, status_at(2)));
    }

    #[test]
    fn a_status_that_is_the_same_is_no_change() {
        let mut backlog = backlog(10);
        assert_eq!(backlog.take(status_at(0)), None);
        assert_eq!(backlog.take(status_at(1)), Some(11));
    }

    #[test]
    fn a_client_continues_where_it_was_and_gets_a_snapshot_when_that_is_gone() {
        let mut backlog = backlog(10);
        let changes = i64::try_from(EVENT_BACKLOG).expect("small") + 5;
        for position in 1..=changes {
            backlog.take(status_at(position));
        }
        let newest = backlog.seq;
        assert!(matches!(backlog.after(Some(newest)), Next::Nothing));
        let Next::Delta(text) = backlog.after(Some(newest - 2)) else { panic!("in the backlog") };
        assert!(text.contains(&format!("\"seq\":{}", newest - 1)), "{text}");
        for gone in [None, Some(12), Some(0), Some(newest + 1), Some(u64::MAX)] {
            let next = backlog.after(gone);
            assert!(matches!(next, Next::Snapshot { seq, .. } if seq == newest), "{gone:?}");
        }
    }

    #[test]
    fn the_backlog_is_bounded_in_bytes() {
        let mut backlog = backlog(0);
        let long = "x".repeat(EVENT_BACKLOG_BYTES / 3);
        for n in 0..20u64 {
            let mut status = Status::default();
            status.node.name = format!("{n}{long}");
            backlog.take(Arc::new(status));
            let held: usize = backlog.deltas.iter().map(|delta| delta.len()).sum();
            assert_eq!(held, backlog.bytes);
            assert!(held <= EVENT_BACKLOG_BYTES);
        }
        assert_eq!(backlog.deltas.len(), 2);
    }
}
