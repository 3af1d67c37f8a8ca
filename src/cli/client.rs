//! HTTP and live events over the daemon's Unix socket.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::StreamExt;
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::{Method, Request, header};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use super::failure::Failure;
use crate::api::{Event, Problem};
use crate::wire::RefusalCode;

/// How long a daemon may take for an answer that needs no files to be read.
const PATIENCE: Duration = Duration::from_secs(15);

/// Where many have guessed the password of a room of late, it answers a minute late.
const PATIENCE_AT_THE_DOOR: Duration = Duration::from_secs(90);

/// Reading and hashing a folder of recordings from a slow disk takes its time.
const PATIENCE_FOR_FILES: Duration = Duration::from_hours(1);

/// How long an answer may take.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Patience {
    /// A moment.
    Short,
    /// As long as a locked room may take to answer.
    Door,
    /// As long as reading files takes.
    Files,
}

/// A way to the daemon. Each request is a connection of its own.
#[derive(Clone)]
pub(super) struct Client {
    candidates: Vec<PathBuf>,
}

/// A stream of events.
pub(super) struct Follower {
    stream: WebSocketStream<UnixStream>,
    path: PathBuf,
}

impl Client {
    /// Sockets are tried in this order; there is at least one.
    pub(super) fn new(candidates: Vec<PathBuf>) -> Client {
        Client { candidates }
    }

    /// The answer's body, if the daemon says yes.
    pub(super) async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
        patience: Patience,
    ) -> Result<Value, Failure> {
        let (stream, socket) = self.connect().await?;
        let limit = match patience {
            Patience::Short => PATIENCE,
            Patience::Door => PATIENCE_AT_THE_DOOR,
            Patience::Files => PATIENCE_FOR_FILES,
        };
        match tokio::time::timeout(limit, exchange(stream, method, path, body)).await {
            Ok(Ok(answer)) => answer.map_err(Failure::Refused),
            Ok(Err(why)) => Err(Failure::Lost { path: socket, why }),
            Err(_) => {
                let why = format!("no answer within {} s", limit.as_secs());
                Err(Failure::Lost { path: socket, why })
            }
        }
    }

    /// Asks for something that is nice to know: no answer is no failure.
    pub(super) async fn look(&self, path: &str) -> Option<Value> {
        self.send(Method::GET, path, None, Patience::Short).await.ok()
    }

    /// Follows the live events.
    pub(super) async fn follow(&self) -> Result<Follower, Failure> {
        let (stream, path) = self.connect().await?;
        match tokio_tungstenite::client_async("ws://groovebox/api/v1/events", stream).await {
            Ok((stream, _)) => Ok(Follower { stream, path }),
            Err(error) => Err(Failure::Lost { path, why: error.to_string() }),
        }
    }

    /// The first socket at which somebody answers.
    async fn connect(&self) -> Result<(UnixStream, PathBuf), Failure> {
        let mut failure = None;
        for path in &self.candidates {
            match UnixStream::connect(path).await {
                Ok(stream) => return Ok((stream, path.clone())),
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    failure = Some(Failure::NotAllowed(path.clone()));
                }
                Err(_) => {}
            }
        }
        let first = self.candidates.first().map_or(Path::new("?"), PathBuf::as_path);
        Err(failure.unwrap_or_else(|| Failure::NoDaemon(first.to_owned())))
    }
}

impl Follower {
    /// The next event. When the daemon says goodbye that is a failure as well: whoever follows
    /// wants to see what comes.
    pub(super) async fn next(&mut self) -> Result<Event, Failure> {
        let lost = |path: &Path, why: String| Failure::Lost { path: path.to_owned(), why };
        while let Some(message) = self.stream.next().await {
            let message = message.map_err(|error| lost(&self.path, error.to_string()))?;
            match message {
                Message::Text(text) => {
                    let event = serde_json::from_str(&text);
                    return event.map_err(|error| lost(&self.path, error.to_string()));
                }
                Message::Close(_) => break,
                _ => {}
            }
        }
        Err(Failure::Stopped(self.path.clone()))
    }
}

/// One request and its answer; the outer error is a connection that failed.
async fn exchange(
    stream: UnixStream,
    method: Method,
    path: &str,
    body: Option<Value>,
) -> Result<Result<Value, Problem>, String> {
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(|error| error.to_string())?;
    let running = tokio::spawn(connection);
    let body = body.map(|body| body.to_string()).unwrap_or_default();
    let request = Request::builder()
        .method(method)
        .uri(format!("/api/v1{path}"))
        .header(header::HOST, "groovebox")
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(body)))
        .map_err(|error| error.to_string())?;
    let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
    let status = response.status();
    let body = response.into_body().collect().await.map_err(|error| error.to_string())?;
    running.abort();
    let body = body.to_bytes();
    if status.is_success() {
        return serde_json::from_slice(&body).map(Ok).map_err(|error| error.to_string());
    }
    Ok(Err(serde_json::from_slice(&body).unwrap_or_else(|_| Problem {
        code: RefusalCode::Internal,
        message: format!("the daemon answered {status} without saying why"),
        hint: "its version may differ: `groovebox version` shows both".to_owned(),
        retry_after: None,
    })))
}
