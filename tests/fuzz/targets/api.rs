//! Requests of programs of this machine, through the whole router.
//!
//! ```text
//!  input:  method · kind of body · path, to the end of the line · body
//! ```

use std::path::PathBuf;
use std::sync::Arc;

use axum::body::Body;
use axum::http::{Method, Request, StatusCode, Uri, header};
use futures_util::future::BoxFuture;
use groovebox::api::{
    self, Backend, ChatLog, Health, ImportProgress, Imported, OutputInfo, UserWish,
};
use groovebox::base::limits::{
    LOG_KEPT, MAX_CHAT, MAX_CHAT_ON_DISK, MAX_HISTORY, MAX_QUEUE, MAX_SEEK, MAX_TRACKS_PER_ADD,
};
use groovebox::engine::command::{CommandReply, Done, SeekTo, VoteWord};
use groovebox::engine::room::is_user_name;
use groovebox::engine::status::{
    ChatStatus, DjStatus, FriendsStatus, HistoryStatus, LogStatus, OperationStatus, PastVoteStatus,
};
use groovebox::engine::{Command, Status};
use groovebox::wire::message::Level;
use groovebox::wire::{Refusal, RefusalCode};
use http_body_util::BodyExt;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tower_service::Service;

use super::bytes::Bytes;
use super::people::track;

/// Takes whatever is within the limits and does nothing.
struct Nobody {
    status: watch::Sender<Arc<Status>>,
}

impl Backend for Nobody {
    fn status(&self) -> watch::Receiver<Arc<Status>> {
        self.status.subscribe()
    }

    fn command(&self, command: Command) -> BoxFuture<'_, CommandReply> {
        check(&command);
        let done =
            Done { op: None, idx: Some(1), level: Level::Local, effective_at: None, message: None };
        Box::pin(async { Ok(done) })
    }

    fn import(&self, paths: Vec<PathBuf>) -> BoxFuture<'_, Result<Imported, Refusal>> {
        assert!((1..=MAX_TRACKS_PER_ADD).contains(&paths.len()));
        let mut imported = Imported::default();
        for path in paths {
            assert!(path.is_absolute());
            if path.extension().is_some() {
                let title = path.display().to_string();
                imported.tracks.push(track(&title, 1000));
            } else {
                let refusal = Refusal::new(RefusalCode::UnsupportedMedia, "no audio", "convert it");
                imported.skipped.push((path, refusal));
            }
        }
        Box::pin(async { Ok(imported) })
    }

    fn become_user(&self, wish: UserWish) -> BoxFuture<'_, CommandReply> {
        assert!(is_user_name(&wish.name), "{wish:?}");
        self.command(Command::BecomeUser { user: None })
    }

    fn dj(&self) -> BoxFuture<'_, Result<DjStatus, Refusal>> {
        Box::pin(async { Ok(DjStatus::default()) })
    }

    fn friends(&self) -> BoxFuture<'_, Result<FriendsStatus, Refusal>> {
        Box::pin(async { Ok(FriendsStatus::default()) })
    }

    fn past_votes(&self) -> BoxFuture<'_, Result<Vec<PastVoteStatus>, Refusal>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn chat(&self) -> watch::Receiver<Arc<ChatLog>> {
        watch::Sender::new(Arc::default()).subscribe()
    }

    fn operation(
        &self,
        _boot: u32,
        _seq: u64,
        wanted: Level,
    ) -> BoxFuture<'_, Result<OperationStatus, Refusal>> {
        Box::pin(async move { Ok(OperationStatus { idx: None, level: wanted }) })
    }

    fn log(&self, at_most: usize) -> BoxFuture<'_, Result<LogStatus, Refusal>> {
        assert!((1..=LOG_KEPT).contains(&(at_most as u64)));
        Box::pin(async { Ok(LogStatus::default()) })
    }

    fn history(&self, at_most: usize) -> BoxFuture<'_, Result<Vec<HistoryStatus>, Refusal>> {
        assert!((1..=MAX_HISTORY).contains(&at_most));
        Box::pin(async { Ok(Vec::new()) })
    }

    fn kept_chat(&self, at_most: usize) -> BoxFuture<'_, Result<Vec<ChatStatus>, Refusal>> {
        assert!((1..=MAX_CHAT_ON_DISK).contains(&at_most));
        Box::pin(async { Ok(Vec::new()) })
    }

    fn importing(&self) -> ImportProgress {
        ImportProgress::default()
    }

    fn outputs(&self) -> BoxFuture<'_, Result<Vec<OutputInfo>, Refusal>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn health(&self) -> BoxFuture<'_, Result<Health, Refusal>> {
        Box::pin(async { Ok(Health::default()) })
    }
}

/// What the engine may count on.
fn check(command: &Command) {
    match command {
        Command::Remove { entries } => assert!(entries.len() <= MAX_QUEUE),
        Command::Seek { to: SeekTo::Absolute(span) | SeekTo::Relative(span) } => {
            assert!(span.abs() <= MAX_SEEK);
        }
        Command::CreateRoom { name: Some(text), .. } | Command::JoinRoom { room: text, .. } => {
            assert!(!text.is_empty() && !text.chars().any(char::is_control), "{text:?}");
        }
        Command::Kick { who }
        | Command::Ban { who }
        | Command::Unban { who }
        | Command::Silence { who, .. }
        | Command::DjGive { to: who }
        | Command::DjAppoint { to: who }
        | Command::CallVote { who: Some(who), .. }
        | Command::Vote { word: VoteWord::For(who), .. } => {
            assert!(!who.is_empty() && !who.chars().any(char::is_control), "{who:?}");
        }
        Command::Chat { text } => assert!((1..=MAX_CHAT).contains(&text.chars().count())),
        _ => {}
    }
}

/// One request and its answer: never a failure of ours, and always JSON.
pub fn api(input: &[u8]) {
    let mut input = Bytes(input);
    let methods =
        [Method::GET, Method::POST, Method::DELETE, Method::PUT, Method::HEAD, Method::PATCH];
    let method = input.pick(&methods).clone();
    let kind = *input.pick(&[Some("application/json"), None, Some("text/plain; a=b")]);
    let line = input.0.iter().position(|byte| *byte == b'\n').unwrap_or(input.0.len());
    let path = input.take(line);
    let body = input.0.strip_prefix(b"\n").unwrap_or_default().to_vec();
    let Ok(uri) = Uri::try_from(path) else { return };
    let mut request = Request::builder().method(method.clone()).uri(uri);
    if let Some(kind) = kind {
        request = request.header(header::CONTENT_TYPE, kind);
    }
    let Ok(request) = request.body(Body::from(body)) else { return };
    let (status, body) = answer(request);
    assert!(status.as_u16() < 500, "{status}");
    if method != Method::HEAD {
        let body: serde_json::Value = serde_json::from_slice(&body).expect("always JSON");
        assert!(status.is_success() || body["code"].is_string(), "{status} {body}");
    }
}

fn answer(request: Request<Body>) -> (StatusCode, Vec<u8>) {
    thread_local! {
        static RUNTIME: Runtime =
            tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    }
    RUNTIME.with(|runtime| {
        runtime.block_on(async {
            let backend = Nobody { status: watch::Sender::new(Arc::default()) };
            let mut service = api::service(Arc::new(backend));
            let response = match service.call(request).await {
                Ok(response) => response,
                Err(never) => match never {},
            };
            let status = response.status();
            let body = response.into_body().collect().await.expect("a body in memory");
            (status, body.to_bytes().to_vec())
        })
    })
}

pub fn seeds() -> Vec<Vec<u8>> {
    let get = [
        "status",
        "members",
        "sync",
        "peers",
        "rooms",
        "queue",
        "outputs",
        "version",
        "people",
        "dj",
        "votes",
        "votes/history",
        "chat?last=9",
    ];
    let post = [
        ("play", r#"{"paths":["/music/a.flac","/music/b"]}"#),
        ("play", ""),
        ("pause", "{}"),
        ("resume", ""),
        ("toggle", ""),
        ("stop", ""),
        ("next", ""),
        ("prev", ""),
        ("seek", r#"{"position_ms":83400}"#),
        ("seek", r#"{"offset_ms":-10000}"#),
        ("volume", r#"{"member":"kitchen","volume":40}"#),
        ("volume", r#"{"room":true,"change":-5}"#),
        ("mute", r#"{"member":"hall","muted":true}"#),
        ("rooms", r#"{"name":"K\u00fcche"}"#),
        ("rooms/join", r#"{"room":"GROOVE-7KQ4"}"#),
        ("rooms/leave", ""),
        ("queue", r#"{"paths":["/music/a.flac"]}"#),
        ("queue/7/up", ""),
        ("dj/give", r#"{"to":"ben"}"#),
        ("votes", r#"{"kind":"kick","who":"ben"}"#),
        ("votes/ballot", r#"{"choice":"ben","in":"election"}"#),
        ("chat", r#"{"text":"sch\u00f6n"}"#),
        ("room/ban", r#"{"who":"ben"}"#),
    ];
    let line = |method: u8, path: &str, body: &str| {
        [&[method, 0][..], format!("/api/v1/{path}\n{body}").as_bytes()].concat()
    };
    let mut seeds: Vec<_> = get.iter().map(|path| line(0, path, "")).collect();
    seeds.extend(post.iter().map(|(path, body)| line(1, path, body)));
    seeds.push(line(0, "events?since=5", ""));
    seeds.push(line(2, "queue", ""));
    seeds.push(line(2, "queue/7,9", ""));
    seeds.push(line(2, "room", ""));
    seeds.push(line(3, "user", r#"{"name":"anna","display":"\u00c4nne"}"#));
    seeds.push(line(5, "room/settings", r#"{"control":"dj","queue_limit":7}"#));
    seeds
}
