//! Somebody on the same network who is not let in tries everything else: it speaks the protocol
//! with a key of its own, through the crate's own network. It gets nowhere, and the room plays on.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use groovebox::base::{BlobHash, LocalTime, NodeId, OpId, RoomTime, Term, UserId};
use groovebox::engine::status::PlaybackState;
use groovebox::identity::pake::{Bound, Purpose, Run, Side};
use groovebox::identity::{NodeKey, Password, SecretRng, UserKey};
use groovebox::net::{BlobProvider, Net, NetConfig, NetEvent};
use groovebox::wire::message::{LogPlace, SecretKind};
use groovebox::wire::op::{Admission, PersonCard, Role, Subject, Terms};
use groovebox::wire::{
    Datagram, Heartbeat, Hello, Message, Op, OpBody, Probe, RefusalCode, RoomCard, codec,
};
use ring::rand::SystemRandom;
use tokio::sync::mpsc;

use super::daemon::Daemon;
use super::house::{House, LONG};
use super::sound::{text, write_song};

/// How long it is listened for an answer that must not come.
const SILENCE: Duration = Duration::from_millis(700);

struct Nothing;

impl BlobProvider for Nothing {
    fn piece(&self, _: BlobHash, _: u32) -> Result<Vec<u8>, String> {
        Err("nothing here".into())
    }
}

/// A node without a daemon.
struct Stranger {
    key: Arc<NodeKey>,
    net: Net,
    events: mpsc::Receiver<NetEvent>,
    victim: NodeId,
    card: RoomCard,
    channel: [u8; 32],
    seq: u64,
}

/// What a run at the door came to.
#[derive(Debug, PartialEq)]
enum Answer {
    Refused(RefusalCode),
    Later(u32),
    Admitted,
    Silence,
}

fn clock() -> LocalTime {
    groovebox::daemon::clock::now()
}

fn key() -> NodeKey {
    NodeKey::generate(&SystemRandom::new()).expect("random numbers")
}

impl Stranger {
    async fn meet(daemon: &Daemon) -> Stranger {
        let key = Arc::new(key());
        let (sender, events) = mpsc::channel(4096);
        let hello = Hello {
            node: key.node_id(),
            boot: 1,
            name: "stranger".into(),
            version: "0".into(),
            port: 0,
            room: None,
        };
        let config = NetConfig {
            key: key.clone(),
            bind: Some([127, 0, 0, 1].into()),
            port: 0,
            port_required: false,
            clock,
            mdns: false,
            hello,
        };
        let net = Net::start(config, sender, Arc::new(Nothing)).await.expect("a socket");
        let address: SocketAddr = daemon.address().parse().expect("an address");
        net.dial(address, None);
        let mut events = events;
        loop {
            match events.recv().await.expect("a running network") {
                NetEvent::Connected { peer, hello, channel, .. } => {
                    let card = hello.room.expect("it is in a room");
                    return Stranger { key, net, events, victim: peer, card, channel, seq: 0 };
                }
                other => assert!(!matches!(other, NetEvent::DialFailed { .. }), "{other:?}"),
            }
        }
    }

    fn say(&self, message: &Message) {
        self.net.send(self.victim, message);
    }

    /// The next message that is no card; none when there is none for a while.
    async fn hear(&mut self, within: Duration) -> Option<Message> {
        let deadline = tokio::time::Instant::now() + within;
        loop {
            let event = tokio::time::timeout_at(deadline, self.events.recv()).await.ok()??;
            match event {
                NetEvent::Message { message: Message::Card(Some(card)), .. } => {
                    assert!(card.code.is_empty() && card.playing.is_none(), "{card:?}");
                    assert!(card.coordinator.is_none() && card.devices == 0, "{card:?}");
                }
                // Whoever claims to be of the room is asked to show it.
                NetEvent::Message {
                    message: Message::Card(None) | Message::PakeStart { .. },
                    ..
                } => {}
                NetEvent::Message { message, .. } => return Some(message),
                NetEvent::Datagram { datagram, .. } => panic!("a stranger was told {datagram:?}"),
                NetEvent::Lost { .. } => return None,
                _ => {}
            }
        }
    }

    /// Tries a secret; a confirmation of an earlier run may be said again instead of its own.
    async fn knock(
        &mut self,
        kind: SecretKind,
        secret: &[u8],
        replayed: Option<&Message>,
    ) -> (Answer, Option<Message>) {
        let room = self.card.id;
        let purpose = match kind {
            SecretKind::Password => Purpose::Password,
            SecretKind::Invite { number } => Purpose::Invite(number),
        };
        let (asker, insider) = (self.key.node_id(), self.victim);
        let bound = Bound { asker, insider, room, purpose, connection: self.channel };
        let mut seed = [0; 32];
        ring::rand::SecureRandom::fill(&SystemRandom::new(), &mut seed).expect("random numbers");
        let run = Run::begin(Side::Asker, secret, bound, &mut SecretRng::new(seed));
        self.say(&Message::PakeStart { room, secret: kind, share: run.share() });
        let share = match self.hear(LONG).await {
            Some(Message::PakeAnswer { share, .. }) => share,
            Some(Message::PakeRefused { refusal, .. }) => {
                return (Answer::Refused(refusal.code), None);
            }
            Some(Message::PakeLater { wait_ms, .. }) => return (Answer::Later(wait_ms), None),
            other => panic!("{other:?}"),
        };
        let confirmation = run.finish(&share).expect("a point").ours();
        let own = Message::PakeConfirm { room, confirmation };
        self.say(replayed.unwrap_or(&own));
        let answer = match self.hear(LONG).await {
            Some(Message::PakeRefused { refusal, .. }) => Answer::Refused(refusal.code),
            Some(Message::Admitted { .. }) => Answer::Admitted,
            _ => Answer::Silence,
        };
        (answer, Some(own))
    }

    fn op(&mut self, author: NodeId, body: &OpBody) -> Op {
        self.seq += 1;
        let id = OpId { author, boot: 1, seq: self.seq };
        Op::signed(&self.key, self.card.id, id, RoomTime(0), body).expect("short")
    }

    fn join(&mut self, person: Option<PersonCard>, admission: Option<Admission>) -> Message {
        let name = "stranger".to_owned();
        let me = self.key.node_id();
        let body = OpBody::Join { name, person, admission, friendship: None };
        Message::Join(self.op(me, &body))
    }
}

/// Gives the device a person, over the interface itself.
fn become_anna(daemon: &Daemon) {
    use std::io::{Read, Write};
    let mut stream = std::os::unix::net::UnixStream::connect(daemon.path("socket")).expect("it");
    let body = r#"{"name": "anna"}"#;
    let head = "PUT /api/v1/user HTTP/1.1\r\nhost: groovebox\r\nconnection: close";
    let of_body = format!("content-type: application/json\r\ncontent-length: {}", body.len());
    stream.write_all(format!("{head}\r\n{of_body}\r\n\r\n{body}").as_bytes()).expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

fn locked_house() -> House {
    let mut house = House::alone().furnished(3);
    become_anna(&house.daemons[0]);
    let file = house.path().join("password");
    std::fs::write(&file, "open sesame\n").expect("a file");
    house.daemons[0].order(&["room", "lock", "--password-file", text(&file)]);
    house.wait_all("locked", |status| status.room.as_ref().is_some_and(|room| room.locked));
    let song = write_song(house.path(), "song", 120);
    house.daemons[0].order(&["play", text(&song)]);
    house.wait_playing(200);
    house.add(&[0]);
    house
}

#[test]
fn a_locked_room_is_entered_by_its_code_and_password_or_by_an_invite() {
    let mut house = locked_house();
    let status = house.daemons[0].status().expect("it answers");
    let code = status.room.expect("a room").code;
    let attic = &house.daemons[3];
    house.until("it is connected", LONG, |_| attic.peer("kitchen").filter(|p| p.connected));
    attic.ask(&["room", "join", &code]).expect(1, "the room is locked");
    let file = |name: &str, password: &str| {
        let path = house.path().join(name);
        std::fs::write(&path, password).expect("a file");
        text(&path).to_owned()
    };
    let (right, wrong) = (file("right", "open sesame"), file("wrong", "open barley"));
    let enter = |file: &str| attic.ask(&["room", "join", &code, "--password-file", file]);
    enter(&wrong).expect(1, "the password is wrong");
    let begun = Instant::now();
    assert_eq!(enter(&right).code, 0);
    let took = begun.elapsed();
    println!("by code and password a member after {took:?}");
    assert!(took < Duration::from_secs(5), "{took:?}");
    house.wait_together();
    attic.order(&["room", "leave"]);
    let invite = house.daemons[1].say(&["invite"]);
    attic.order(&["room", "join", invite.trim()]);
    house.wait_together();
    attic.order(&["room", "leave"]);
    attic.ask(&["room", "join", invite.trim()]).expect(1, "used up");
    house.stop_all();
}

#[test]
fn a_stranger_who_tries_everything_gets_nowhere_and_the_room_plays_on() {
    let house = locked_house();
    let status = house.daemons[0].status().expect("it answers");
    let member = status.members[1].id.parse::<NodeId>().expect("an id");
    let log = status.room.expect("a room").log_idx;
    let runtime = tokio::runtime::Runtime::new().expect("threads");
    for daemon in &house.daemons[..3] {
        runtime.block_on(try_everything(daemon, member));
    }
    runtime.block_on(guess(&house.daemons[1]));

    for daemon in &house.daemons[..3] {
        let status = daemon.status().expect("it answers");
        assert_eq!(status.members.len(), 3, "nobody has come in");
        assert_eq!(status.playback.state, PlaybackState::Playing);
        let room = status.room.expect("a room");
        assert!(room.log_idx <= log + 2, "nothing was ordered: {log} {}", room.log_idx);
    }
    house.wait_further(2, 500);
    another_user_of_this_machine(&house.daemons[0]);
}

/// Says everything that only members may say, and shows everything that is not its own.
async fn try_everything(daemon: &Daemon, member: NodeId) {
    let mut stranger = Stranger::meet(daemon).await;
    let (room, me) = (stranger.card.id, stranger.key.node_id());
    assert!(stranger.card.locked && stranger.card.code.is_empty());
    let term = Term { n: 99, node: me, boot: 1 };
    let place = LogPlace { idx: 1, chain: [0; 16] };
    let forged_author = stranger.op(member, &OpBody::Clear);
    let own = stranger.op(me, &OpBody::Kick { subject: Subject::Device(member) });
    let unheard = [
        Message::NeedSnapshot { room },
        Message::Fetch { room, term, after: place },
        Message::Places { room, term, places: vec![place] },
        Message::Tail { room, term, after: place, entries: vec![] },
        Message::Append { room, term, prev_idx: 0, prev_chain: [0; 16], entries: vec![] },
        Message::LogEnd { room, term, end: place },
        Message::Propose(forged_author.clone()),
        Message::Propose(own.clone()),
        Message::Orphans { room, ops: vec![forged_author, own] },
        Message::Stale { room, term, alive: true },
        Message::Resync { room, member: me },
        Message::Have { hash: BlobHash([1; 32]), pieces: vec![] },
        Message::Card(Some(RoomCard { coordinator: Some(me), term, ..stranger.card.clone() })),
    ];
    for message in &unheard {
        stranger.say(message);
    }
    let heartbeat = Heartbeat {
        room,
        term,
        seq: 1,
        sent: RoomTime(0),
        last_idx: 1 << 40,
        last_term: term,
        chain: [9; 16],
        successors: vec![me],
        live: 50,
        playing: true,
        age_s: 9999,
    };
    stranger.net.send_datagram(stranger.victim, Datagram::Heartbeat(heartbeat));
    let source = Term { n: 0, node: stranger.victim, boot: 1 };
    let probe = Probe { seq: 1, source, t1: LocalTime(0) };
    stranger.net.send_datagram(stranger.victim, Datagram::Probe(probe));
    assert_eq!(stranger.hear(SILENCE).await, None);
    let piece = stranger.net.fetch(stranger.victim, BlobHash([1; 32]), 0).await;
    assert!(piece.is_err(), "{piece:?}");

    // Joins: without a word of a member, with one that is for somebody else or by nobody, and
    // as a person whose key it does not have.
    let admission = |issuer: &NodeKey, device: NodeId, named: NodeId| {
        let terms = Terms { epoch: 1, invited: false, cap: Role::Owner };
        let signature = issuer.sign(&codec::admission_bytes(&room, &device, terms));
        Admission { issuer: named, terms, signature }
    };
    let by_itself = admission(&stranger.key, me, me);
    let forged = admission(&stranger.key, me, member);
    let stolen = admission(&key(), member, member);
    let person = UserKey::generate(&SystemRandom::new()).expect("random numbers");
    let anna = PersonCard {
        user: UserId(person.user_id().0),
        name: "anna".into(),
        display: String::new(),
        certificate: person.sign(&codec::device_bytes(&person.user_id(), &member)),
    };
    for (person, word) in [
        (None, None),
        (None, Some(by_itself)),
        (None, Some(forged.clone())),
        (None, Some(stolen.clone())),
        (Some(anna), Some(forged.clone())),
    ] {
        let join = stranger.join(person, word);
        stranger.say(&join);
        match stranger.hear(LONG).await {
            Some(Message::Proposed { outcome: Err(refusal), .. }) => {
                assert_eq!(refusal.code, RefusalCode::AuthRequired, "{refusal}");
            }
            other => panic!("{other:?}"),
        }
    }
    for admission in [forged, stolen] {
        stranger.say(&Message::Show { room, admission });
        stranger.say(&Message::NeedSnapshot { room });
        assert_eq!(stranger.hear(SILENCE).await, None);
    }
}

/// Guesses the password and an invite, and says again what it has heard.
async fn guess(daemon: &Daemon) {
    let mut stranger = Stranger::meet(daemon).await;
    let room = stranger.card.id;
    let wrong = Password::new("12345").expect("short").stretch(&room).expect("memory");
    let (answer, said) = stranger.knock(SecretKind::Password, &wrong, None).await;
    assert_eq!(answer, Answer::Refused(RefusalCode::BadPassword));
    // What was said in a run that is over.
    stranger.say(said.as_ref().expect("a confirmation"));
    assert_eq!(stranger.hear(SILENCE).await, None);
    let (answer, _) = stranger.knock(SecretKind::Password, &wrong, said.as_ref()).await;
    assert_eq!(answer, Answer::Refused(RefusalCode::BadPassword));
    // The password itself, without being stretched, is no secret of this room.
    let (answer, _) = stranger.knock(SecretKind::Password, b"open sesame", None).await;
    assert_eq!(answer, Answer::Refused(RefusalCode::BadPassword));
    let invite = SecretKind::Invite { number: 1 };
    let (answer, _) = stranger.knock(invite, b"0123456789ABCDEF", None).await;
    assert_eq!(answer, Answer::Refused(RefusalCode::NotAllowed), "there is no such invite");
    let mut answers = Vec::new();
    for _ in 0..4 {
        answers.push(stranger.knock(SecretKind::Password, &wrong, None).await.0);
    }
    let later = answers.iter().filter(|answer| matches!(answer, Answer::Later(_))).count();
    assert!(later >= 1, "five tries, then it takes longer: {answers:?}");
}

/// The socket is for its owner and its group.
fn another_user_of_this_machine(daemon: &Daemon) {
    use std::os::unix::fs::PermissionsExt;
    let socket = daemon.path("socket");
    let mode = socket.metadata().expect("it is there").permissions().mode() & 0o777;
    assert_eq!(mode, 0o660);
    let program = super::daemon::PROGRAM;
    let ids = ["--reuid=65534", "--regid=65534", "--clear-groups"];
    let mut command = std::process::Command::new("setpriv");
    command.args(ids).args([program, "--socket", text(&socket), "status"]);
    // Only root can be somebody else.
    let Ok(output) = command.output() else { return };
    assert!(!output.status.success(), "{output:?}");
}
