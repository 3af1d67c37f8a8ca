//! The whole interface over a real socket, with a backend that only remembers.

use std::sync::Mutex;

use axum::body::Bytes;
use axum::http::{Method, Request, StatusCode};
use futures_util::StreamExt;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use ring::rand::SystemRandom;
use serde_json::{Value, json};
use tokio::net::UnixStream;
use tokio::sync::oneshot;
use tokio_tungstenite::tungstenite;

use super::*;
use crate::base::{BlobHash, EntryId, RoomTime, Span};
use crate::engine::command::{Done, SeekTo, VolumeChange, VoteWord};
use crate::engine::friends::FriendCommand;
use crate::engine::pairing::PairCommand;
use crate::identity::{LocalUser, UserKey};
use crate::wire::message::Level;
use crate::wire::op::{Control, Setting, VoteKind};
use crate::wire::{Codec, RefusalCode};

/// Remembers commands, refuses when told to, and publishes what the test says.
pub(crate) struct Fake {
    status: watch::Sender<Arc<Status>>,
    commands: Mutex<Vec<Command>>,
    refusal: Mutex<Option<Refusal>>,
    chat: watch::Sender<Arc<ChatLog>>,
    pub(crate) user: Arc<UserKey>,
}

impl Fake {
    pub(crate) fn commands(&self) -> Vec<Command> {
        std::mem::take(&mut *self.commands.lock().expect("no panic"))
    }

    pub(crate) fn refuse(&self, refusal: Refusal) {
        *self.refusal.lock().expect("no panic") = Some(refusal);
    }

    pub(crate) fn say(&self, change: impl FnOnce(&mut ChatLog)) {
        self.chat.send_modify(|chat| change(Arc::make_mut(chat)));
    }

    pub(crate) fn publish(&self, change: impl FnOnce(&mut Status)) {
        self.status.send_modify(|status| change(Arc::make_mut(status)));
    }
}

fn track(title: &str) -> Track {
    Track {
        hash: BlobHash([7; 32]),
        size: 1,
        codec: Codec::Flac,
        rate: 44_100,
        channels: 2,
        frames: 44_100,
        delay: 0,
        title: title.to_owned(),
        artists: Vec::new(),
        album: String::new(),
    }
}

impl Backend for Fake {
    fn status(&self) -> watch::Receiver<Arc<Status>> {
        self.status.subscribe()
    }

    fn command(&self, command: Command) -> BoxFuture<'_, CommandReply> {
        self.commands.lock().expect("no panic").push(command);
        let reply = match self.refusal.lock().expect("no panic").take() {
            Some(refusal) => Err(refusal),
            None => Ok(Done {
                op: None,
                idx: Some(5),
                level: Level::Replicated,
                effective_at: Some(RoomTime(9)),
                message: None,
            }),
        };
        Box::pin(async { reply })
    }

    /// Everybody who comes is the same person.
    fn become_user(&self, wish: UserWish) -> BoxFuture<'_, CommandReply> {
        let user = LocalUser {
            key: Arc::clone(&self.user),
            name: wish.name,
            display: wish.display.unwrap_or_else(|| "as before".to_owned()),
        };
        self.command(Command::BecomeUser { user: Some(user) })
    }

    fn dj(&self) -> BoxFuture<'_, Result<DjStatus, Refusal>> {
        Box::pin(async { Ok(sample::dj()) })
    }

    fn friends(&self) -> BoxFuture<'_, Result<FriendsStatus, Refusal>> {
        Box::pin(async { Ok(sample::friends()) })
    }

    fn past_votes(&self) -> BoxFuture<'_, Result<Vec<PastVoteStatus>, Refusal>> {
        Box::pin(async { Ok(sample::past_votes()) })
    }

    fn chat(&self) -> watch::Receiver<Arc<ChatLog>> {
        self.chat.subscribe()
    }

    fn operation(
        &self,
        _boot: u32,
        seq: u64,
        wanted: Level,
    ) -> BoxFuture<'_, Result<OperationStatus, Refusal>> {
        Box::pin(async move { Ok(OperationStatus { idx: Some(seq), level: wanted }) })
    }

    fn log(&self, _at_most: usize) -> BoxFuture<'_, Result<LogStatus, Refusal>> {
        Box::pin(async { Ok(sample::log()) })
    }

    fn history(&self, at_most: usize) -> BoxFuture<'_, Result<Vec<HistoryStatus>, Refusal>> {
        Box::pin(async move { Ok(sample::history().into_iter().take(at_most).collect()) })
    }

    /// One line that the room has forgotten, and one that it has not.
    fn kept_chat(&self, _at_most: usize) -> BoxFuture<'_, Result<Vec<ChatStatus>, Refusal>> {
        let known = sample::chat().lines.first().cloned().expect("somebody spoke");
        let forgotten = ChatStatus { id: "old".to_owned(), ..known.clone() };
        Box::pin(async move { Ok(vec![forgotten, known]) })
    }

    /// Everything is music but what is called `broken`.
    fn import(&self, paths: Vec<PathBuf>) -> BoxFuture<'_, Result<Imported, Refusal>> {
        let mut imported = Imported::default();
        for path in paths {
            let name = path.file_name().expect("a name").display().to_string();
            if name.contains("broken") {
                let refusal = Refusal::new(RefusalCode::UnsupportedMedia, "no audio", "convert it");
                imported.skipped.push((path, refusal));
            } else {
                imported.tracks.push(track(&name));
            }
        }
        Box::pin(async { Ok(imported) })
    }

    fn importing(&self) -> ImportProgress {
        ImportProgress { files: 3, done: 1 }
    }

    fn outputs(&self) -> BoxFuture<'_, Result<Vec<OutputInfo>, Refusal>> {
        let null = OutputInfo {
            id: "null".to_owned(),
            name: "Nowhere".to_owned(),
            default: true,
            chosen: false,
        };
        Box::pin(async { Ok(vec![null]) })
    }

    fn health(&self) -> BoxFuture<'_, Result<Health, Refusal>> {
        Box::pin(async { Ok(sample::health()) })
    }
}

/// A served interface. Dropping it stops the server.
pub(crate) struct Served {
    pub(crate) fake: Arc<Fake>,
    place: tempfile::TempDir,
    stop: Option<oneshot::Sender<()>>,
    server: tokio::task::JoinHandle<Result<(), ApiError>>,
}

impl Served {
    pub(crate) async fn start() -> Served {
        let place = tempfile::tempdir().expect("a directory");
        let fake = Arc::new(Fake {
            status: watch::Sender::new(Arc::new(sample::status())),
            commands: Mutex::default(),
            refusal: Mutex::default(),
            chat: watch::Sender::new(Arc::new(sample::chat())),
            user: Arc::new(UserKey::generate(&SystemRandom::new()).expect("a key")),
        });
        let listening = listen(&place.path().join("s")).await.expect("free");
        let (stop, stopped) = oneshot::channel();
        let backend: Arc<dyn Backend> = Arc::clone(&fake) as _;
        let server = tokio::spawn(serve(listening, backend, async {
            let _either_way = stopped.await;
        }));
        Served { fake, place, stop: Some(stop), server }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.place.path().join("s")
    }

    pub(crate) fn stop(&mut self) {
        self.stop.take().expect("once").send(()).expect("running");
    }

    async fn connect(&self) -> UnixStream {
        UnixStream::connect(self.socket()).await.expect("listening")
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> (StatusCode, Value) {
        let stream = TokioIo::new(self.connect().await);
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(stream).await.expect("HTTP");
        tokio::spawn(connection);
        let response = sender.send_request(request).await.expect("an answer");
        let status = response.status();
        let body = response.into_body().collect().await.expect("a body").to_bytes();
        (status, serde_json::from_slice(&body).expect("answers are JSON"))
    }

    async fn ask(&self, method: Method, path: &str, body: &str) -> (StatusCode, Value) {
        let request = Request::builder()
            .method(method)
            .uri(format!("/api/v1{path}"))
            .header("host", "groovebox")
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(body.to_owned())))
            .expect("a request");
        self.send(request).await
    }

    async fn get(&self, path: &str) -> Value {
        let (status, body) = self.ask(Method::GET, path, "").await;
        assert_eq!(status, StatusCode::OK, "{path}: {body}");
        body
    }

    /// Posts and returns the one command that came of it.
    async fn command_of(&self, method: Method, path: &str, body: &str) -> Command {
        let (status, reply) = self.ask(method, path, body).await;
        assert_eq!(status, StatusCode::OK, "{path} {body}: {reply}");
        assert_eq!(reply["level"], "replicated");
        assert_eq!(reply["idx"], 5);
        let mut commands = self.fake.commands();
        assert_eq!(commands.len(), 1, "{commands:?}");
        commands.remove(0)
    }

    async fn refused(&self, method: Method, path: &str, body: &str) -> (u16, Value) {
        let (status, reply) = self.ask(method, path, body).await;
        assert!(!status.is_success(), "{path} {body}: {reply}");
        assert!(self.fake.commands().is_empty(), "{path} {body}");
        for part in ["code", "message", "hint"] {
            assert!(reply[part].as_str().is_some_and(|text| !text.is_empty()), "{reply}");
        }
        (status.as_u16(), reply)
    }

    async fn events(&self, query: &str) -> tokio_tungstenite::WebSocketStream<UnixStream> {
        let url = format!("ws://groovebox/api/v1/events{query}");
        let stream = self.connect().await;
        tokio_tungstenite::client_async(url, stream).await.expect("an upgrade").0
    }
}

async fn next(events: &mut tokio_tungstenite::WebSocketStream<UnixStream>) -> Value {
    let message = events.next().await.expect("a message").expect("no failure");
    serde_json::from_str(message.to_text().expect("text")).expect("JSON")
}

#[tokio::test]
async fn every_view_shows_its_part_of_the_status() {
    let served = Served::start().await;
    let whole = serde_json::to_value(sample::status()).expect("plain data");
    assert_eq!(served.get("/status").await, whole);
    for part in ["members", "peers", "rooms", "queue"] {
        assert_eq!(served.get(&format!("/{part}")).await, whole[part]);
    }
    let sync = served.get("/sync").await;
    assert_eq!(sync[0]["coordinator"], true);
    assert_eq!(sync[1]["sync"]["offset_us"], -340.5);
    assert_eq!(sync[2]["sync"], Value::Null);
    assert_eq!(served.get("/outputs").await[0]["id"], "null");
    assert_eq!(served.get("/imports").await, json!({ "files": 3, "done": 1 }));
    assert_eq!(served.get("/health").await["cards"][0]["rate"], 48_000);
    assert_eq!(served.get("/version").await["api"], 1);
}

#[tokio::test]
async fn verbs_without_arguments_become_their_commands() {
    let served = Served::start().await;
    let verbs = [
        ("pause", Command::Pause),
        ("resume", Command::Resume),
        ("toggle", Command::Toggle),
        ("stop", Command::Stop),
        ("next", Command::Next),
        ("prev", Command::Prev),
        ("play", Command::Resume),
        ("rooms", Command::CreateRoom { name: None, password: None }),
        ("rooms/leave", Command::LeaveRoom),
        ("dj/take", Command::DjTake),
        ("dj/drop", Command::DjDrop),
        ("dj/random", Command::DjRandom),
        ("queue/7/up", Command::UpVote { entry: EntryId(7), up: true }),
        ("queue/7/down", Command::UpVote { entry: EntryId(7), up: false }),
    ];
    for (verb, command) in verbs {
        for body in ["", "{}"] {
            let made = served.command_of(Method::POST, &format!("/{verb}"), body).await;
            assert_eq!(made, command);
        }
    }
}

#[tokio::test]
async fn verbs_with_arguments_become_their_commands() {
    let served = Served::start().await;
    let text = |text: &str| Some(text.to_owned());
    let cases = [
        (
            "/seek",
            r#"{"position_ms": 90000}"#,
            Command::Seek { to: SeekTo::Absolute(Span::from_secs(90)) },
        ),
        (
            "/seek",
            r#"{"offset_ms": -10}"#,
            Command::Seek { to: SeekTo::Relative(Span::from_millis(-10)) },
        ),
        (
            "/volume",
            r#"{"volume": 100}"#,
            Command::Volume { member: None, change: VolumeChange::To(100) },
        ),
        (
            "/volume",
            r#"{"member": "porch", "change": -5}"#,
            Command::Volume { member: text("porch"), change: VolumeChange::By(-5) },
        ),
        (
            "/volume",
            r#"{"room": true, "volume": 0}"#,
            Command::RoomVolume { change: VolumeChange::To(0) },
        ),
        ("/mute", r#"{"member": "porch"}"#, Command::Mute { member: text("porch"), muted: None }),
        ("/mute", r#"{"muted": true}"#, Command::Mute { member: None, muted: Some(true) }),
        (
            "/rooms",
            r#"{"name": " Küche "}"#,
            Command::CreateRoom { name: text("Küche"), password: None },
        ),
        (
            "/rooms/join",
            r#"{"room": "GROOVE-7KQ4"}"#,
            Command::JoinRoom { room: "GROOVE-7KQ4".to_owned(), password: None },
        ),
        ("/play", r#"{"paths": ["/m/a"]}"#, Command::Play { tracks: vec![track("a")] }),
        (
            "/queue",
            r#"{"paths": ["/m/a", "/m/b"]}"#,
            Command::Add { tracks: vec![track("a"), track("b")] },
        ),
    ];
    for (path, body, command) in cases {
        assert_eq!(served.command_of(Method::POST, path, body).await, command, "{body}");
    }
    let clear = served.command_of(Method::DELETE, "/queue", "").await;
    assert_eq!(clear, Command::Clear);
    let remove = served.command_of(Method::DELETE, "/queue/7,9", "").await;
    assert_eq!(remove, Command::Remove { entries: vec![EntryId(7), EntryId(9)] });
}

#[tokio::test]
async fn what_people_do_to_each_other_becomes_its_command() {
    let served = Served::start().await;
    let who = |who: &str| who.to_owned();
    let call = |kind, who: Option<&str>| Command::CallVote { kind, who: who.map(str::to_owned) };
    let vote = |kind, word| Command::Vote { kind, word };
    let silence = |silenced| Command::Silence { who: "ben".to_owned(), silenced };
    let friend = Command::Friend;
    let cases = [
        ("/dj/give", r#"{"to": "ben"}"#, Command::DjGive { to: who("ben") }),
        ("/friends/requests", r#"{"who": "ben"}"#, friend(FriendCommand::Add { who: who("ben") })),
        ("/friends/accept", r#"{"who": "ben"}"#, friend(FriendCommand::Accept { who: who("ben") })),
        ("/friends/reject", r#"{"who": "ben"}"#, friend(FriendCommand::Reject { who: who("ben") })),
        ("/friends/remove", r#"{"who": "ben"}"#, friend(FriendCommand::Remove { who: who("ben") })),
        (
            "/user/pair/confirm",
            r#"{"code": "012 345"}"#,
            Command::Pair(PairCommand::Confirm { code: 12_345 }),
        ),
        ("/dj/appoint", r#"{"to": "ben"}"#, Command::DjAppoint { to: who("ben") }),
        ("/votes", r#"{"kind": "election"}"#, call(VoteKind::Election, None)),
        ("/votes", r#"{"kind": "mutiny"}"#, call(VoteKind::Mutiny, None)),
        ("/votes", r#"{"kind": "skip"}"#, call(VoteKind::Skip, None)),
        ("/votes", r#"{"kind": "kick", "who": "ben"}"#, call(VoteKind::Kick, Some("ben"))),
        ("/votes/ballot", r#"{"choice": "yes"}"#, vote(None, VoteWord::Yes)),
        (
            "/votes/ballot",
            r#"{"choice": "no", "in": "skip"}"#,
            vote(Some(VoteKind::Skip), VoteWord::No),
        ),
        ("/votes/ballot", r#"{"choice": "ben"}"#, vote(None, VoteWord::For(who("ben")))),
        // Somebody is called like that.
        (
            "/votes/ballot",
            r#"{"choice": "no", "in": "election"}"#,
            vote(Some(VoteKind::Election), VoteWord::For(who("no"))),
        ),
        ("/chat", r#"{"text": "schön\nhier"}"#, Command::Chat { text: who("schön\nhier") }),
        ("/room/kick", r#"{"who": "ben"}"#, Command::Kick { who: who("ben") }),
        ("/room/ban", r#"{"who": "ben"}"#, Command::Ban { who: who("ben") }),
        ("/room/unban", r#"{"who": "ben"}"#, Command::Unban { who: who("ben") }),
        ("/room/mute", r#"{"who": "ben"}"#, silence(true)),
        ("/room/unmute", r#"{"who": "ben"}"#, silence(false)),
    ];
    for (path, body, command) in cases {
        assert_eq!(served.command_of(Method::POST, path, body).await, command, "{body}");
    }
    let delete = served.command_of(Method::DELETE, "/room", "").await;
    assert_eq!(delete, Command::DeleteRoom);
}

#[tokio::test]
async fn a_device_gets_a_person_another_name_and_none() {
    let served = Served::start().await;
    let user = |name: &str, display: &str| Command::BecomeUser {
        user: Some(LocalUser {
            key: Arc::clone(&served.fake.user),
            name: name.to_owned(),
            display: display.to_owned(),
        }),
    };
    for (body, command) in [
        (r#"{"name": " anna "}"#, user("anna", "as before")),
        (r#"{"name": "anna", "display": "Änne"}"#, user("anna", "Änne")),
        (r#"{"name": "anna", "display": ""}"#, user("anna", "")),
    ] {
        assert_eq!(served.command_of(Method::PUT, "/user", body).await, command, "{body}");
    }
    let forget = served.command_of(Method::DELETE, "/user", "").await;
    assert_eq!(forget, Command::BecomeUser { user: None });
    for body in [
        "",
        r#"{"name": "a"}"#,
        r#"{"name": "zwei wörter"}"#,
        r#"{"name": "anna", "display": "a\u0007"}"#,
        r#"{"name": "anna", "key": "x"}"#,
    ] {
        assert_eq!(served.refused(Method::PUT, "/user", body).await.0, 400, "{body}");
    }
}

#[tokio::test]
async fn settings_are_understood_before_the_first_is_changed() {
    let served = Served::start().await;
    let change = async |body: &str| {
        let (status, _) = served.ask(Method::PATCH, "/room/settings", body).await;
        (status.as_u16(), served.fake.commands())
    };
    let set = |setting| Command::Set { setting };
    let two = change(r#"{"control": "everyone", "queue_limit": 7, "skip_threshold": null}"#).await;
    let expected = vec![
        set(Setting::Control(Control::Everyone)),
        set(Setting::QueueLimit(7)),
        set(Setting::KindThreshold(VoteKind::Skip, None)),
    ];
    assert_eq!(two, (200, expected));
    let friends = change(r#"{"friends_only": true}"#).await;
    assert_eq!(friends, (200, vec![set(Setting::FriendsOnly(true))]));
    for (body, status) in [
        ("", 400),
        ("{}", 400),
        ("[]", 400),
        (r#"{"queue_limit": 7, "control": "nobody"}"#, 400),
        (r#"{"queue_limit": [7]}"#, 400),
        (r#"{"queue_limit": 7.5}"#, 400),
        (r#"{"colour": "red"}"#, 404),
    ] {
        assert_eq!(change(body).await, (status, Vec::new()), "{body}");
    }
    served.fake.refuse(Refusal::new(RefusalCode::NotOwner, "no", "ask them"));
    let (status, commands) = change(r#"{"queue_limit": 7, "queue_max": 70}"#).await;
    assert_eq!((status, commands.len()), (403, 1), "after a refusal nothing more is asked");
}

#[tokio::test]
async fn people_votes_and_the_chat_can_be_read() {
    let served = Served::start().await;
    served.fake.publish(|status| {
        status.people = sample::people();
        status.votes = sample::votes();
    });
    assert_eq!(served.get("/people").await[1]["cooldown_ms"], 154_000);
    let votes = served.get("/votes").await;
    assert_eq!((&votes[0]["tally"][0]["name"], &votes[1]["for"]), (&json!("carla"), &json!(3)));
    assert_eq!(served.get("/votes/history").await[0]["result"], "passed");
    let dj = served.get("/dj").await;
    assert_eq!((&dj["dj"], &dj["history"][0]["reason"]), (&json!("anna"), &json!("mutiny")));
    let chat = served.get("/chat").await;
    assert_eq!(chat.as_array().map(Vec::len), Some(3), "what the disk has comes first, once");
    assert_eq!(chat[0]["id"], "old");
    assert!(chat[2]["ago_ms"].is_i64(), "{chat}");
    assert_eq!(served.get("/chat?last=1").await[0]["text"], "me");
    for query in ["last=0", "last=10001", "last=x", "n=1"] {
        let path = format!("/chat?{query}");
        assert_eq!(served.refused(Method::GET, &path, "").await.0, 400, "{query}");
    }
    served.fake.say(|chat| *chat = ChatLog::default());
    let (status, reply) = served.refused(Method::GET, "/chat", "").await;
    assert_eq!((status, &reply["code"]), (409, &json!("NOT_IN_ROOM")));
}

#[tokio::test]
async fn what_is_said_reaches_followers_in_the_row_of_changes() {
    let served = Served::start().await;
    let mut events = served.events("").await;
    let first = next(&mut events).await["seq"].as_u64().expect("a number");
    let line = |id: &str, text: &str| ChatStatus {
        id: id.to_owned(),
        text: text.to_owned(),
        ..Default::default()
    };
    served.fake.say(|chat| chat.lines.push(line("x-1-1", "hello")));
    let said = next(&mut events).await;
    assert_eq!((&said["type"], said["seq"].as_u64()), (&json!("chat"), Some(first + 1)));
    assert_eq!(said["line"]["text"], "hello");
    served.fake.publish(|status| status.queue.clear());
    assert_eq!(next(&mut events).await["seq"].as_u64(), Some(first + 2));
    // A merge puts it elsewhere, and the oldest make way: nothing is told twice.
    served.fake.say(|chat| {
        chat.lines.remove(0);
        chat.lines.insert(0, line("x-1-2", "before"));
    });
    assert_eq!(next(&mut events).await["line"]["text"], "before");
    let mut late = served.events(&format!("?since={first}")).await;
    assert_eq!(next(&mut late).await, said);

    // Another room's chat is read, not told.
    let elsewhere = vec![line("y-1-1", "elsewhere")];
    served.fake.say(|chat| *chat = ChatLog { room: Some("e5".repeat(32)), lines: elsewhere });
    served.fake.publish(|status| status.node.uptime_s += 1);
    assert_eq!(next(&mut events).await["type"], "delta");
    served.fake.say(|chat| chat.lines.push(line("y-1-2", "and here")));
    assert_eq!(next(&mut events).await["line"]["text"], "and here");
}

#[tokio::test]
async fn a_session_is_slowed_down_and_volume_is_free() {
    use tower_service::Service;

    let served = Served::start().await;
    let mut service = service(Arc::clone(&served.fake) as Arc<dyn Backend>);
    let mut post = async |uid: u32, path: &str, body: &'static str| {
        let mut request = Request::post(format!("/api/v1{path}"))
            .header("content-type", "application/json")
            .body(axum::body::Body::from(body))
            .expect("a request");
        let caller = Caller::Local { uid, gid: 0, pid: None };
        request.extensions_mut().insert(ConnectInfo(caller));
        let response = service.call(request).await.expect("never fails");
        (response.status().as_u16(), response.headers().get("retry-after").cloned())
    };
    // Nobody tests as the user with the highest number.
    for _ in 0..20 {
        assert_eq!(post(u32::MAX, "/next", "").await.0, 200);
    }
    let (status, wait) = post(u32::MAX, "/next", "").await;
    assert_eq!((status, wait.expect("a wait").to_str().expect("text")), (429, "1"));
    for _ in 0..30 {
        assert_eq!(post(u32::MAX, "/volume", r#"{"volume": 5}"#).await.0, 200);
        assert_eq!(post(0, "/next", "").await.0, 200, "the superuser");
    }
    for _ in 0..5 {
        assert_eq!(post(0, "/rooms", "{}").await.0, 200);
    }
    assert_eq!(post(0, "/rooms", "{}").await.0, 429, "five an hour are enough for anybody");
}

#[tokio::test]
async fn requests_that_make_no_sense_are_refused_before_the_engine_sees_them() {
    let served = Served::start().await;
    let cases = [
        ("/pause", "{"),
        ("/pause", "[1]"),
        ("/pause", r#"{"when": "now"}"#),
        ("/play", r#"{"path": "/m/a"}"#),
        ("/play", r#"{"paths": []}"#),
        ("/play", r#"{"paths": ["m/a"]}"#),
        ("/queue", ""),
        ("/seek", ""),
        ("/seek", r#"{"position_ms": 1, "offset_ms": 1}"#),
        ("/seek", r#"{"position_ms": -1}"#),
        ("/seek", r#"{"position_ms": 9223372036854775807}"#),
        ("/seek", r#"{"offset_ms": -9223372036854775808}"#),
        ("/volume", ""),
        ("/volume", r#"{"volume": 101}"#),
        ("/volume", r#"{"change": -101}"#),
        ("/volume", r#"{"volume": 1, "change": 1}"#),
        ("/volume", r#"{"volume": 1, "room": true, "member": "a"}"#),
        ("/volume", r#"{"volume": 1, "member": ""}"#),
        ("/mute", r#"{"muted": "yes"}"#),
        ("/rooms", r#"{"name": "  "}"#),
        ("/rooms", r#"{"name": "a\u0007"}"#),
        ("/rooms/join", "{}"),
        ("/rooms/join", r#"{"room": ""}"#),
        ("/friends/requests", "{}"),
        ("/friends/accept", r#"{"who": ""}"#),
        ("/user/pair", r#"{"device": ""}"#),
        ("/user/pair/confirm", r#"{"code": "12345"}"#),
        ("/user/pair/confirm", r#"{"code": "+12345"}"#),
        ("/dj/give", "{}"),
        ("/dj/give", r#"{"to": ""}"#),
        ("/dj/appoint", r#"{"who": "ben"}"#),
        ("/dj/take", r#"{"to": "ben"}"#),
        ("/votes", "{}"),
        ("/votes", r#"{"kind": "revolution"}"#),
        ("/votes", r#"{"kind": "kick"}"#),
        ("/votes", r#"{"kind": "mutiny", "who": "ben"}"#),
        ("/votes/ballot", "{}"),
        ("/votes/ballot", r#"{"choice": ""}"#),
        ("/votes/ballot", r#"{"choice": "yes", "in": "doubt"}"#),
        ("/chat", "{}"),
        ("/chat", r#"{"text": "  "}"#),
        ("/chat", r#"{"text": "a\u0007"}"#),
        ("/room/kick", "{}"),
        ("/room/ban", r#"{"who": ""}"#),
        ("/room/unban", r#"{"who": 1}"#),
        ("/room/mute", "{}"),
        ("/room/unmute", r#"{"who": "a\u0007"}"#),
        ("/queue/x/up", ""),
        ("/queue/7/up", r#"{"by": 1}"#),
        ("/queue/-1/down", ""),
    ];
    for (path, body) in cases {
        let (status, reply) = served.refused(Method::POST, path, body).await;
        assert_eq!((status, &reply["code"]), (400, &json!("INVALID_REQUEST")), "{path} {body}");
    }
    for entries in ["x", "1,", "-1", "99999999999999999999", "7,%FF"] {
        let path = format!("/queue/{entries}");
        assert_eq!(served.refused(Method::DELETE, &path, "").await.0, 400, "{entries}");
    }
    let long = json!({ "text": "x".repeat(501) }).to_string();
    assert_eq!(served.refused(Method::POST, "/chat", &long).await.0, 400);
    let many = json!({ "paths": vec!["/m/a"; 501] }).to_string();
    assert_eq!(served.refused(Method::POST, "/play", &many).await.0, 400);
}

#[tokio::test]
async fn a_body_is_json_and_bounded() {
    let served = Served::start().await;
    let huge = format!("{{\"paths\": [\"/{}\"]}}", "a".repeat(crate::base::limits::MAX_REQUEST));
    assert_eq!(served.refused(Method::POST, "/play", &huge).await.0, 413);
    let request = Request::builder()
        .method(Method::POST)
        .uri("/api/v1/pause")
        .header("host", "groovebox")
        .header("content-type", "application/x-www-form-urlencoded")
        .body(Full::new(Bytes::from_static(b"{}")))
        .expect("a request");
    let (status, reply) = served.send(request).await;
    assert_eq!((status.as_u16(), &reply["code"]), (415, &json!("INVALID_REQUEST")));
}

#[tokio::test]
async fn unknown_paths_and_wrong_methods_are_told_as_json() {
    let served = Served::start().await;
    let (status, reply) = served.refused(Method::GET, "/nowhere", "").await;
    assert_eq!((status, &reply["code"]), (404, &json!("NOT_FOUND")));
    assert_eq!(served.refused(Method::GET, "/pause", "").await.0, 405);
    assert_eq!(served.refused(Method::DELETE, "/status", "").await.0, 405);
    assert_eq!(served.refused(Method::GET, "/events", "").await.0, 426);
}

#[tokio::test]
async fn the_engines_refusal_arrives_whole_under_a_fitting_status() {
    let served = Served::start().await;
    let cases = [
        (RefusalCode::InvalidRequest, 400),
        (RefusalCode::AuthRequired, 401),
        (RefusalCode::NotFound, 404),
        (RefusalCode::NotInRoom, 409),
        (RefusalCode::QueueFull, 409),
        (RefusalCode::UnsupportedMedia, 422),
        (RefusalCode::RateLimited, 429),
        (RefusalCode::Internal, 500),
    ];
    for (code, expected) in cases {
        served.fake.refuse(Refusal::new(code, "no", "try less"));
        let (status, reply) = served.ask(Method::POST, "/next", "").await;
        assert_eq!(status.as_u16(), expected);
        assert_eq!(reply, json!({"code": code, "message": "no", "hint": "try less"}));
    }
    let soon = Refusal::new(RefusalCode::NoCoordinator, "nobody", "wait");
    served.fake.refuse(Refusal { retry_after_ms: Some(1500), ..soon });
    let (status, reply) = served.ask(Method::POST, "/next", "").await;
    assert_eq!((status.as_u16(), &reply["retry_after"]), (503, &json!(1.5)));
}

#[tokio::test]
async fn a_broken_file_among_good_ones_is_named_and_alone_it_fails() {
    let served = Served::start().await;
    let (status, reply) =
        served.ask(Method::POST, "/play", r#"{"paths": ["/m/a", "/m/broken"]}"#).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(reply["added"], 1);
    assert_eq!(reply["skipped"][0]["path"], "/m/broken");
    assert_eq!(reply["skipped"][0]["code"], "UNSUPPORTED_MEDIA");
    assert_eq!(served.fake.commands().len(), 1);
    let (status, reply) =
        served.refused(Method::POST, "/play", r#"{"paths": ["/m/broken"]}"#).await;
    assert_eq!((status, &reply["message"]), (422, &json!("/m/broken: no audio")));
}

#[tokio::test]
async fn events_begin_with_a_snapshot_and_go_on_with_numbered_changes() {
    let served = Served::start().await;
    let mut events = served.events("").await;
    let snapshot = next(&mut events).await;
    assert_eq!(snapshot["type"], "snapshot");
    assert_eq!(snapshot["status"], serde_json::to_value(sample::status()).expect("plain data"));
    let first = snapshot["seq"].as_u64().expect("a number");

    served.fake.publish(|status| status.playback.position_ms = 1);
    let delta = next(&mut events).await;
    assert_eq!((&delta["type"], delta["seq"].as_u64()), (&json!("delta"), Some(first + 1)));
    let changed = delta["changed"].as_object().expect("an object");
    assert_eq!(changed.keys().collect::<Vec<_>>(), ["playback"]);
    assert_eq!(changed["playback"]["position_ms"], 1);

    served.fake.publish(|status| status.queue.clear());
    assert_eq!(next(&mut events).await["changed"], json!({"queue": []}));

    let mut late = served.events(&format!("?since={first}")).await;
    assert_eq!(next(&mut late).await, delta);
    assert_eq!(next(&mut late).await["seq"].as_u64(), Some(first + 2));

    let mut lost = served.events("?since=3").await;
    let snapshot = next(&mut lost).await;
    assert_eq!(
        (&snapshot["type"], snapshot["seq"].as_u64()),
        (&json!("snapshot"), Some(first + 2))
    );
    assert_eq!(snapshot["status"]["playback"]["position_ms"], 1);
}

#[tokio::test]
async fn a_wrong_since_is_refused_and_followers_are_bounded() {
    let served = Served::start().await;
    let url = "ws://groovebox/api/v1/events?since=soon";
    let refused = tokio_tungstenite::client_async(url, served.connect().await).await;
    let Err(tungstenite::Error::Http(response)) = refused else { panic!("must be refused") };
    assert_eq!(response.status().as_u16(), 400);

    let mut followers = Vec::new();
    for _ in 0..crate::base::limits::MAX_EVENT_CLIENTS {
        followers.push(served.events("").await);
    }
    let url = "ws://groovebox/api/v1/events";
    let refused = tokio_tungstenite::client_async(url, served.connect().await).await;
    let Err(tungstenite::Error::Http(response)) = refused else { panic!("must be refused") };
    assert_eq!(response.status().as_u16(), 429);
    assert_eq!(response.headers()["retry-after"], "5");
}

#[tokio::test]
async fn stopping_ends_event_streams_and_removes_the_socket() {
    let mut served = Served::start().await;
    let mut events = served.events("").await;
    next(&mut events).await;
    served.stop();
    let farewell = events.next().await.expect("a message").expect("no failure");
    assert!(farewell.is_close(), "{farewell:?}");
    drop(events);
    served.server.await.expect("no panic").expect("a clean end");
    assert!(!served.place.path().join("s").exists());
}

#[tokio::test]
async fn the_caller_is_known_by_the_kernel() {
    let place = tempfile::tempdir().expect("a directory");
    let listening = listen(&place.path().join("s")).await.expect("free");
    let own = std::os::unix::fs::MetadataExt::uid(&place.path().metadata().expect("there"));
    let who = async |ConnectInfo(caller): ConnectInfo<Caller>| {
        let Caller::Local { uid, .. } = caller else { panic!("the kernel knows") };
        uid.to_string()
    };
    let app = axum::Router::new().route("/", axum::routing::get(who));
    let service = app.into_make_service_with_connect_info::<Caller>();
    tokio::spawn(axum::serve(listening, service).into_future());
    let stream = TokioIo::new(UnixStream::connect(place.path().join("s")).await.expect("up"));
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(stream).await.expect("HTTP");
    tokio::spawn(connection);
    let request = Request::get("/").header("host", "x").body(Full::new(Bytes::new()));
    let response = sender.send_request(request.expect("a request")).await.expect("an answer");
    let body = response.into_body().collect().await.expect("a body").to_bytes();
    assert_eq!(body, own.to_string().as_bytes());
}
