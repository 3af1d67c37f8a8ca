//! The bytes on the wire, held still: one golden encoding per kind of message, datagram,
//! operation and bulk header, and decoders that survive whatever a stranger sends.
//!
//! When a golden test fails, either the change is a mistake or the version in the ALPN must
//! rise. To write the file anew: `GROOVEBOX_BLESS=1 cargo test --test wire`.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::fmt::Debug;
use std::fmt::Write;

use groovebox::base::ids::hex;
use groovebox::base::limits::{
    MAX_CODE, MAX_DATAGRAM, MAX_FRAME, MAX_NAME, MAX_PIECE, MAX_SNAPSHOT, MAX_TAG, MAX_VERSION,
};
use groovebox::base::{
    BlobHash, EntryKey, LocalTime, NodeId, OpId, RoomId, RoomTime, SegmentId, SessionId, Span,
    Term, UserId,
};
use groovebox::wire::codec::{self, FRAME_HEADER};
use groovebox::wire::message::{
    Accepted, Agreement, DroppedOp, Handoff, Level, LogPlace, OutputState, PeerAddress, SecretKind,
    Snapshot, Start, SyncState,
};
use groovebox::wire::op::{
    AddMode, Admission, Choice, EndedFriendship, Friendship, PersonCard, Repeat, Role, Setting,
    Subject, Terms, VoteCall, VoteKind,
};
use groovebox::wire::person::{Contact, FriendRequest, Kept, Secret};
use groovebox::wire::{
    BulkReply, BulkRequest, Codec, Datagram, Entry, FriendMessage, Genesis, Guard, Heartbeat,
    HeartbeatAck, Hello, Message, Op, OpBody, PairMessage, PreVote, PreVoteReply, Probe,
    ProbeReply, Refusal, RefusalCode, Report, RoomCard, RoomLine, Track, WireError,
};
use proptest::collection::vec;
use proptest::prelude::*;

#[path = "fuzz/targets/mod.rs"]
mod targets;

// ---- one of each ---------------------------------------------------------------------------

const NODE: NodeId = NodeId([0x11; 32]);
const ROOM: RoomId = RoomId([0x22; 32]);
const TERM: Term = Term { n: 3, node: NODE, boot: 4 };
const LINE: RoomLine = RoomLine {
    epoch: 1,
    local0: LocalTime(-2),
    room0: RoomTime(3),
    rate: 0.000_015,
    sigma: 0.000_02,
    rate_sigma: 0.000_000_3,
    asymmetry: 0.000_4,
};

fn track() -> Track {
    Track {
        hash: BlobHash([0x33; 32]),
        size: 5_000_000,
        codec: Codec::Flac,
        rate: 44_100,
        channels: 2,
        frames: 1_000_000,
        delay: 0,
        title: "Blå".into(),
        artists: vec!["A".into(), "B".into()],
        album: String::new(),
    }
}

fn op() -> Op {
    let id = OpId { author: NODE, boot: 4, seq: 5 };
    let pause = OpBody::Pause(Guard { segment: Some(SegmentId(12)), dj_epoch: 0 });
    let body = codec::encode_body(&pause).expect("short");
    let signature = ([0x44; 32], [0x55; 32]);
    Op { room: ROOM, id, created: RoomTime(6), kind: pause.kind(), body, signature }
}

fn entry() -> Entry {
    Entry { idx: 7, term: TERM, at: RoomTime(8), op: op(), chain: [0x66; 16] }
}

fn card() -> RoomCard {
    RoomCard {
        id: ROOM,
        name: "Kitchen".into(),
        code: "GROOVE-7KQ4".into(),
        locked: false,
        unclaimed: true,
        devices: 2,
        coordinator: Some(NODE),
        term: TERM,
        playing: None,
    }
}

fn genesis() -> Genesis {
    Genesis {
        founder: NODE,
        nonce: [0x77; 16],
        name: "Kitchen".into(),
        code: "GROOVE-7KQ4".into(),
        unattended: true,
        signature: ([0x44; 32], [0x55; 32]),
    }
}

fn hello() -> Hello {
    Hello {
        node: NODE,
        boot: 4,
        name: "pi".into(),
        version: "0.1.0".into(),
        port: 4766,
        room: Some(card()),
    }
}

fn report() -> Report {
    Report {
        state: SyncState::Synced,
        offset_us: -1.5,
        rtt_us: 300.0,
        underruns: 1,
        output: OutputState::Failed("unplugged".into()),
        ..Report::default()
    }
}

fn refusal() -> Refusal {
    Refusal {
        retry_after_ms: Some(500),
        ..Refusal::new(RefusalCode::NoCoordinator, "nobody coordinates", "try again")
    }
}

fn handoff() -> Handoff {
    let signature = ([0x44; 32], [0x55; 32]);
    Handoff { room: ROOM, term: TERM, to: NodeId([0x12; 32]), at_idx: 9, signature }
}

fn start() -> Start {
    Start {
        room: ROOM,
        term: TERM,
        last_idx: 9,
        last_term: TERM,
        chain: [0x66; 16],
        line: LINE,
        handoff: Some(handoff()),
        signature: ([0x44; 32], [0x55; 32]),
    }
}

fn admission() -> Admission {
    let signature = ([0x44; 32], [0x55; 32]);
    Admission {
        issuer: NODE,
        terms: Terms { epoch: 2, invited: false, cap: Role::Listener },
        signature,
    }
}

fn friendship() -> Friendship {
    let signature = ([0x99; 32], [0xaa; 32]);
    Friendship {
        people: (UserId([0x88; 32]), UserId([0x89; 32])),
        since: 1_700_000_000,
        signatures: (signature, signature),
    }
}

fn pake_start(secret: SecretKind) -> Message {
    Message::PakeStart { room: ROOM, secret, share: [0x88; 32] }
}

fn messages() -> Vec<(&'static str, Message)> {
    let id = op().id;
    let accepted = Accepted { idx: 9, level: Level::Replicated, effective_at: RoomTime(10) };
    let snapshot = Snapshot {
        genesis: genesis(),
        term: TERM,
        idx: 9,
        last_term: TERM,
        chain: [0x66; 16],
        state: vec![1, 2, 3],
    };
    let append = Message::Append {
        room: ROOM,
        term: TERM,
        prev_idx: 6,
        prev_chain: [0x65; 16],
        entries: vec![entry()],
    };
    let place = LogPlace { idx: 7, chain: [0x66; 16] };
    let dropped = DroppedOp {
        id,
        created: RoomTime(6),
        what: "skipped to the next track".into(),
        why: "it came too late".into(),
    };
    let agreement = Agreement {
        room: ROOM,
        end: place,
        hash: [0x99; 16],
        segment: Some(SegmentId(12)),
        position_ms: 1500,
    };
    let tail = Message::Tail { room: ROOM, term: TERM, after: place, entries: vec![entry()] };
    let addresses =
        ["192.0.2.7:4766", "[2001:db8::7]:4766"].map(|text| text.parse().expect("an address"));
    let peer = PeerAddress { node: NODE, name: "pi".into(), addresses: addresses.to_vec() };
    vec![
        ("Hello", Message::Hello(hello())),
        ("Card", Message::Card(Some(card()))),
        ("Peers", Message::Peers(vec![peer])),
        ("Join", Message::Join(op())),
        ("Propose", Message::Propose(op())),
        ("Proposed, accepted", Message::Proposed { id, outcome: Ok(accepted) }),
        ("Proposed, refused", Message::Proposed { id, outcome: Err(refusal()) }),
        ("Append", append),
        ("Appended", Message::Appended { room: ROOM, term: TERM, written: place, synced: 6 }),
        ("NeedSnapshot", Message::NeedSnapshot { room: ROOM }),
        ("Snapshot", Message::Snapshot(snapshot)),
        ("Start", Message::Start(start())),
        ("Stale", Message::Stale { room: ROOM, term: TERM, alive: true }),
        ("Bye", Message::Bye),
        ("Have", Message::Have { hash: BlobHash([0x33; 32]), pieces: vec![0b101] }),
        ("Ready", Message::Ready { room: ROOM, segment: SegmentId(12) }),
        ("Report", Message::Report(report())),
        ("Handoff", Message::Handoff(handoff())),
        ("Orphans", Message::Orphans { room: ROOM, ops: vec![op()] }),
        ("LogEnd", Message::LogEnd { room: ROOM, term: TERM, end: place }),
        ("Places", Message::Places { room: ROOM, term: TERM, places: vec![place] }),
        ("Fetch", Message::Fetch { room: ROOM, term: TERM, after: place }),
        ("Tail", tail),
        ("Dropped", Message::Dropped { room: ROOM, dropped: vec![dropped] }),
        ("Safe", Message::Safe { room: ROOM, term: TERM, replicated: 9, durable: 7 }),
        ("Agree", Message::Agree(agreement)),
        ("Resync", Message::Resync { room: ROOM, member: NODE }),
        ("Disk", Message::Disk { writes: false }),
        ("PakeStart, password", pake_start(SecretKind::Password)),
        ("PakeStart, invite", pake_start(SecretKind::Invite { number: 6 })),
        ("PakeAnswer", Message::PakeAnswer { room: ROOM, share: [0x88; 32] }),
        ("PakeConfirm", Message::PakeConfirm { room: ROOM, confirmation: [0x99; 32] }),
        (
            "Admitted",
            Message::Admitted {
                room: ROOM,
                confirmation: [0x99; 32],
                admission: admission(),
                friendship: Some(friendship()),
            },
        ),
        ("PakeLater", Message::PakeLater { room: ROOM, wait_ms: 12_000 }),
        ("PakeRefused", Message::PakeRefused { room: ROOM, refusal: refusal() }),
        ("Show", Message::Show { room: ROOM, admission: admission() }),
        ("Seek", Message::Seek { code: "GROOVE-7KQ4".into() }),
        ("Found", Message::Found { code: "GROOVE-7KQ4".into(), room: ROOM }),
    ]
    .into_iter()
    .chain(person_messages())
    .collect()
}

fn person_messages() -> Vec<(&'static str, Message)> {
    let (user, signature) = (UserId([0x88; 32]), ([0x99; 32], [0xaa; 32]));
    let card =
        || PersonCard { user, name: "anna".into(), display: "Anna".into(), certificate: signature };
    let other = UserId([0x89; 32]);
    let contact =
        || Contact { user: other, name: "ben".into(), display: String::new(), devices: vec![NODE] };
    let since = 1_700_000_000;
    let request = || FriendRequest { contact: contact(), since, signature, delivered: true };
    let kept = vec![
        Kept::Friend { contact: contact(), friendship: friendship() },
        Kept::Sent(request()),
        Kept::Received(request()),
        Kept::Ended { user: other, since, untold: vec![NODE] },
        Kept::Refused { user: other, until: since },
    ];
    let friend = [
        ("Friend, Person", FriendMessage::Person(card())),
        ("Friend, Find", FriendMessage::Find { nonce: 1, name: "an".into() }),
        ("Friend, Found", FriendMessage::Found { nonce: 1, card: card() }),
        ("Friend, Ask", FriendMessage::Ask { to: other, card: card(), since, signature }),
        ("Friend, Asked", FriendMessage::Asked { since }),
        ("Friend, Friends", FriendMessage::Friends(friendship())),
        ("Friend, Declined", FriendMessage::Declined { since }),
        ("Friend, Ended", FriendMessage::Ended { since }),
        ("Friend, Kept", FriendMessage::Kept(kept)),
        ("Friend, Owner", FriendMessage::Owner { join: op().id, mark: [0x66; 16] }),
    ];
    let key = PairMessage::Key {
        key: Secret(vec![1, 2, 3]),
        name: "anna".into(),
        display: "Anna".into(),
    };
    let pair = [
        ("Pair, Offer", PairMessage::Offer { commitment: [0x55; 32] }),
        ("Pair, Nonce", PairMessage::Nonce { nonce: [0x56; 32] }),
        ("Pair, Reveal", PairMessage::Reveal { nonce: [0x57; 32] }),
        ("Pair, Agreed", PairMessage::Agreed),
        ("Pair, Key", key),
        ("Pair, Cancelled", PairMessage::Cancelled),
    ];
    let friend = friend.into_iter().map(|(name, message)| (name, Message::Friend(message)));
    friend.chain(pair.into_iter().map(|(name, message)| (name, Message::Pair(message)))).collect()
}

fn datagrams() -> Vec<(&'static str, Datagram)> {
    let heartbeat = Heartbeat {
        room: ROOM,
        term: TERM,
        seq: 1,
        sent: RoomTime(2),
        last_idx: 3,
        last_term: TERM,
        chain: [0x66; 16],
        successors: vec![NODE],
        live: 4,
        playing: true,
        age_s: 5,
    };
    let ack = HeartbeatAck {
        room: ROOM,
        term: TERM,
        seq: 1,
        last_idx: 3,
        last_term: TERM,
        chain: [0x66; 16],
        score: 100,
    };
    let ask = PreVote { room: ROOM, n: 4, round: 1, last_idx: 3, last_term: TERM };
    let answer = PreVoteReply {
        room: ROOM,
        round: 1,
        granted: true,
        alive: false,
        ahead: false,
        term: TERM,
    };
    let probe = Probe { seq: 1, source: TERM, t1: LocalTime(2) };
    let (t1, t2, t3) = (LocalTime(2), LocalTime(3), LocalTime(4));
    let reply = ProbeReply { seq: 1, source: TERM, t1, t2, t3, line: LINE };
    vec![
        ("Heartbeat", Datagram::Heartbeat(heartbeat)),
        ("HeartbeatAck", Datagram::HeartbeatAck(ack)),
        ("PreVote", Datagram::PreVote(ask)),
        ("PreVoteReply", Datagram::PreVoteReply(answer)),
        ("Probe", Datagram::Probe(probe)),
        ("ProbeReply", Datagram::ProbeReply(reply)),
    ]
}

fn bodies() -> Vec<(&'static str, OpBody)> {
    let segment = SegmentId(12);
    let guard = Guard { segment: Some(segment), dj_epoch: 2 };
    let user = UserId([0x88; 32]);
    let signature = ([0x99; 32], [0xaa; 32]);
    let person =
        PersonCard { user, name: "anna".into(), display: "Anna".into(), certificate: signature };
    let terms = Terms { epoch: 3, invited: true, cap: Role::Owner };
    let admission = Admission { issuer: NodeId([0x77; 32]), terms, signature };
    let join = OpBody::Join {
        name: "pi".into(),
        person: Some(person),
        admission: Some(admission),
        friendship: Some(friendship()),
    };
    let subject = Subject::Person(user);
    let session = SessionId(0x42);
    vec![
        ("Join", join),
        ("Leave", OpBody::Leave),
        ("Add", OpBody::Add { tracks: vec![track()], mode: AddMode::Play }),
        ("Remove", OpBody::Remove { entries: vec![EntryKey(1), EntryKey(2)] }),
        ("Clear", OpBody::Clear),
        ("Pause", OpBody::Pause(guard)),
        ("Resume", OpBody::Resume(guard)),
        ("Stop", OpBody::Stop(guard)),
        ("Seek", OpBody::Seek { position: Span::from_secs(90), guard }),
        ("Next", OpBody::Next(guard)),
        ("Prev", OpBody::Prev(guard)),
        ("Begin", OpBody::Begin { segment }),
        ("Fail", OpBody::Fail { segment, reason: "no holder".into() }),
        ("Settle", OpBody::Settle),
        ("Volume", OpBody::Volume { member: NODE, volume: 50 }),
        ("Mute", OpBody::Mute { member: NODE, muted: true }),
        ("RoomVolume", OpBody::RoomVolume { volume: 50 }),
        ("Move", OpBody::Move { entry: EntryKey(1), behind: Some(EntryKey(2)) }),
        ("Shuffle", OpBody::Shuffle { seed: 7 }),
        ("Repeat", OpBody::Repeat { mode: Repeat::All }),
        ("Availability", OpBody::Availability { gone: vec![EntryKey(1)], back: vec![EntryKey(2)] }),
        ("Presence", OpBody::Presence { here: vec![user], away: vec![] }),
        ("Kick", OpBody::Kick { subject }),
        ("Ban", OpBody::Ban { subject: Subject::Device(NodeId([0x77; 32])) }),
        ("Unban", OpBody::Unban { subject }),
        ("Silence", OpBody::Silence { user, silenced: true }),
        ("Delete", OpBody::Delete),
        ("UpVote", OpBody::UpVote { entry: EntryKey(1), up: true }),
        ("DjTake", OpBody::DjTake),
        ("DjGive", OpBody::DjGive { to: user }),
        ("DjDrop", OpBody::DjDrop),
        ("DjAppoint", OpBody::DjAppoint { to: user }),
        ("DjRandom", OpBody::DjRandom),
        ("CallVote", OpBody::CallVote(VoteCall::Skip { segment })),
        ("Vote", OpBody::Vote { session, choice: Choice::For(user) }),
        ("Chat", OpBody::Chat { text: "hello".into() }),
        ("Set", OpBody::Set(Setting::KindThreshold(VoteKind::Mutiny, Some(6600)))),
        ("Lock", OpBody::Lock { secret: Some([0x55; 32]) }),
        (
            "EndFriendships",
            OpBody::EndFriendships { ended: vec![EndedFriendship { mark: [0x66; 16], since: 7 }] },
        ),
    ]
}

// Adding a kind without a golden encoding does not compile: these name every one.

fn message_number(message: &Message) -> u8 {
    match message {
        Message::Hello(_) => 0,
        Message::Card(_) => 1,
        Message::Peers(_) => 2,
        Message::Join(_) => 3,
        Message::Propose(_) => 4,
        Message::Proposed { .. } => 5,
        Message::Append { .. } => 6,
        Message::Appended { .. } => 7,
        Message::NeedSnapshot { .. } => 8,
        Message::Snapshot(_) => 9,
        Message::Start(_) => 10,
        Message::Stale { .. } => 11,
        Message::Bye => 12,
        Message::Have { .. } => 13,
        Message::Ready { .. } => 14,
        Message::Report(_) => 15,
        Message::Handoff(_) => 16,
        Message::Orphans { .. } => 17,
        Message::LogEnd { .. } => 18,
        Message::Places { .. } => 19,
        Message::Fetch { .. } => 20,
        Message::Tail { .. } => 21,
        Message::Dropped { .. } => 22,
        Message::Safe { .. } => 23,
        Message::Agree(_) => 24,
        Message::Resync { .. } => 25,
        Message::Disk { .. } => 26,
        Message::Friend(_) => 27,
        Message::Pair(_) => 28,
        Message::PakeStart { .. } => 29,
        Message::PakeAnswer { .. } => 30,
        Message::PakeConfirm { .. } => 31,
        Message::Admitted { .. } => 32,
        Message::PakeLater { .. } => 33,
        Message::PakeRefused { .. } => 34,
        Message::Show { .. } => 35,
        Message::Seek { .. } => 36,
        Message::Found { .. } => 37,
    }
}

fn datagram_number(datagram: &Datagram) -> u8 {
    match datagram {
        Datagram::Heartbeat(_) => 0,
        Datagram::HeartbeatAck(_) => 1,
        Datagram::PreVote(_) => 2,
        Datagram::PreVoteReply(_) => 3,
        Datagram::Probe(_) => 4,
        Datagram::ProbeReply(_) => 5,
    }
}

fn body_number(body: &OpBody) -> u8 {
    match body {
        OpBody::Join { .. } => 0,
        OpBody::Leave => 1,
        OpBody::Add { .. } => 2,
        OpBody::Remove { .. } => 3,
        OpBody::Clear => 4,
        OpBody::Pause(_) => 5,
        OpBody::Resume(_) => 6,
        OpBody::Stop(_) => 7,
        OpBody::Seek { .. } => 8,
        OpBody::Next(_) => 9,
        OpBody::Prev(_) => 10,
        OpBody::Begin { .. } => 11,
        OpBody::Fail { .. } => 12,
        OpBody::Settle => 13,
        OpBody::Volume { .. } => 14,
        OpBody::Mute { .. } => 15,
        OpBody::RoomVolume { .. } => 16,
        OpBody::Move { .. } => 17,
        OpBody::Shuffle { .. } => 18,
        OpBody::Repeat { .. } => 19,
        OpBody::Availability { .. } => 20,
        OpBody::Presence { .. } => 21,
        OpBody::Kick { .. } => 22,
        OpBody::Ban { .. } => 23,
        OpBody::Unban { .. } => 24,
        OpBody::Silence { .. } => 25,
        OpBody::Delete => 26,
        OpBody::UpVote { .. } => 27,
        OpBody::DjTake => 28,
        OpBody::DjGive { .. } => 29,
        OpBody::DjDrop => 30,
        OpBody::DjAppoint { .. } => 31,
        OpBody::DjRandom => 32,
        OpBody::CallVote(_) => 33,
        OpBody::Vote { .. } => 34,
        OpBody::Chat { .. } => 35,
        OpBody::Set(_) => 36,
        OpBody::Lock { .. } => 37,
        OpBody::EndFriendships { .. } => 38,
    }
}

// ---- golden --------------------------------------------------------------------------------

const GOLDEN: &str = include_str!("wire.golden");

/// What every example encodes to: a line per kind.
fn encodings() -> String {
    let mut lines = String::new();
    let mut line = |group: &str, name: &str, bytes: &[u8]| {
        writeln!(lines, "{group} {name}: {}", hex(bytes)).expect("a string takes everything");
    };
    for (name, message) in messages() {
        line("message", name, &codec::encode_message(&message).expect("short"));
    }
    for (name, datagram) in datagrams() {
        line("datagram", name, &codec::encode_datagram(&datagram).expect("short"));
    }
    for (name, body) in bodies() {
        line("body", name, &codec::encode_body(&body).expect("short"));
    }
    for (name, bytes) in headers() {
        line("bulk", name, &bytes);
    }
    line("disk", "Entry", &codec::encode_entry(&entry()).expect("short"));
    line("disk", "Genesis", &codec::encode_genesis(&genesis()).expect("short"));
    let signed = op();
    let signed =
        codec::signed_bytes(&signed.room, &signed.id, signed.created, signed.kind, &signed.body);
    line("signed", "Op", &signed);
    line("signed", "Genesis", &codec::genesis_bytes(&genesis()));
    line("signed", "Start", &codec::start_bytes(&start()));
    line("signed", "Handoff", &codec::handoff_bytes(&handoff()));
    line("hash", "RoomId", &codec::room_id(&genesis()).0);
    line("hash", "chain", &codec::chain(&[0x65; 16], &TERM, RoomTime(8), &op()));
    lines
}

fn headers() -> Vec<(&'static str, Vec<u8>)> {
    let request = BulkRequest { hash: BlobHash([0x33; 32]), piece: 2 };
    let piece = BulkReply::Piece { len: 1000 };
    let refused = BulkReply::Refused { reason: "not here".into() };
    vec![
        ("Request", codec::encode_bulk_request(&request).expect("short")),
        ("Piece", codec::encode_bulk_reply(&piece).expect("short")),
        ("Refused", codec::encode_bulk_reply(&refused).expect("short")),
    ]
}

#[test]
fn every_kind_keeps_its_bytes() {
    let now = encodings();
    if std::env::var_os("GROOVEBOX_BLESS").is_some() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/wire.golden");
        std::fs::write(path, &now).expect("a writable source tree");
        return;
    }
    for (now, golden) in now.lines().zip(GOLDEN.lines()) {
        assert_eq!(now, golden);
    }
    assert_eq!(now.lines().count(), GOLDEN.lines().count());
}

#[test]
fn every_kind_survives_its_bytes_and_has_its_number_first() {
    for (name, message) in messages() {
        let frame = codec::encode_message(&message).expect("short");
        let (header, body) = frame.split_at(FRAME_HEADER);
        assert_eq!(codec::frame_len(header.try_into().expect("four bytes")), Ok(body.len()));
        assert_eq!(body[..4], [message_number(&message), 0, 0, 0], "{name}");
        assert_eq!(codec::decode_message(body), Ok(message), "{name}");
    }
    for (name, datagram) in datagrams() {
        let bytes = codec::encode_datagram(&datagram).expect("short");
        assert_eq!(bytes[..4], [datagram_number(&datagram), 0, 0, 0], "{name}");
        assert_eq!(codec::decode_datagram(&bytes), Ok(datagram), "{name}");
    }
    for (name, body) in bodies() {
        let bytes = codec::encode_body(&body).expect("short");
        assert_eq!(bytes[..4], [body_number(&body), 0, 0, 0], "{name}");
        let carrier = Op { kind: body.kind(), body: bytes, ..op() };
        assert_eq!(codec::decode_body(&carrier), Ok(body), "{name}");
    }
    let bytes = codec::encode_entry(&entry()).expect("short");
    assert_eq!(codec::decode_entry(&bytes), Ok(entry()));
    let bytes = codec::encode_genesis(&genesis()).expect("short");
    assert_eq!(codec::decode_genesis(&bytes), Ok(genesis()));
}

#[test]
fn no_two_kinds_of_operation_share_a_number() {
    let mut kinds: Vec<u16> = bodies().iter().map(|(_, body)| body.kind()).collect();
    kinds.sort_unstable();
    kinds.dedup();
    assert_eq!(kinds.len(), bodies().len());
    let known = (0..=u16::MAX).filter(|kind| OpBody::is_known(*kind)).collect::<Vec<_>>();
    assert_eq!(kinds, known, "the kinds that are known are those of which there is an example");
}

#[test]
fn a_probe_and_its_reply_are_equally_long() {
    let lengths: Vec<usize> = datagrams()
        .iter()
        .filter(|(_, d)| matches!(d, Datagram::Probe(_) | Datagram::ProbeReply(_)))
        .map(|(_, d)| codec::encode_datagram(d).expect("short").len())
        .collect();
    assert_eq!(lengths[0], lengths[1]);
}

// ---- refusals ------------------------------------------------------------------------------

#[test]
fn a_byte_too_many_or_too_few_is_refused() {
    for (name, message) in messages() {
        let frame = codec::encode_message(&message).expect("short");
        let body = &frame[FRAME_HEADER..];
        let longer = [body, &[0]].concat();
        assert_eq!(codec::decode_message(&longer), Err(WireError::Trailing(1)), "{name}");
        for len in 0..body.len() {
            assert!(codec::decode_message(&body[..len]).is_err(), "{name} cut to {len}");
        }
    }
}

#[test]
fn what_a_later_version_added_is_told_from_nonsense() {
    let message = |number: u32, len: usize| [&number.to_le_bytes()[..], &vec![7; len]].concat();
    let numbers: Vec<u32> = messages().iter().map(|(_, m)| number_of(m)).collect();
    assert_eq!(numbers.into_iter().max(), Some(Message::KINDS - 1), "an example of the last one");
    for number in [Message::KINDS, Message::KINDS + 1, u32::MAX] {
        assert_eq!(codec::decode_message(&message(number, 9)), Err(WireError::Unknown(number)));
    }
    let long = codec::decode_message(&message(Message::KINDS, MAX_FRAME));
    assert!(matches!(long, Err(WireError::TooLong { .. })), "its length is bounded all the same");
    let known = codec::decode_message(&message(26, 9));
    assert!(matches!(known, Err(WireError::Malformed(_) | WireError::Trailing(_))), "{known:?}");
    // What people's devices say has numbers of its own, which grow in the same way.
    for (outer, kinds) in [(27, FriendMessage::KINDS), (28, PairMessage::KINDS)] {
        let bytes = |inner: u32| [u32::to_le_bytes(outer), inner.to_le_bytes()].concat();
        let unknown = codec::decode_message(&bytes(kinds));
        assert_eq!(unknown, Err(WireError::Unknown(kinds)), "of {outer}");
        let inner = |(_, message): &(&str, Message)| {
            let frame = codec::encode_message(message).expect("short");
            let frame = &frame[FRAME_HEADER..];
            let number =
                |at: usize| frame.get(at..at + 4).map(|four| four.try_into().expect("four"));
            (number(0).map(u32::from_le_bytes) == Some(outer)).then_some(number(4)).flatten()
        };
        let last = messages().iter().filter_map(inner).map(u32::from_le_bytes).max();
        assert_eq!(last, Some(kinds - 1), "an example of the last one");
    }
    let last = datagrams().iter().map(|(_, d)| datagram_number_of(d)).max();
    assert_eq!(last, Some(Datagram::KINDS - 1), "an example of the last one");
    let unknown = codec::decode_datagram(&message(Datagram::KINDS, 9));
    assert_eq!(unknown, Err(WireError::Unknown(Datagram::KINDS)));
}

fn number_of(message: &Message) -> u32 {
    let frame = codec::encode_message(message).expect("short");
    u32::from_le_bytes(frame[FRAME_HEADER..][..4].try_into().expect("four bytes"))
}

fn datagram_number_of(datagram: &Datagram) -> u32 {
    let bytes = codec::encode_datagram(datagram).expect("short");
    u32::from_le_bytes(bytes[..4].try_into().expect("four bytes"))
}

#[test]
fn a_stranger_cannot_make_a_device_keep_or_show_long_texts() {
    let card = |name: usize, code: usize, title: usize| RoomCard {
        name: "n".repeat(name),
        code: "c".repeat(code),
        playing: Some("\u{1f3b5}".repeat(title)),
        ..card()
    };
    let hello = |name: usize, version: usize, room| {
        let Some((_, Message::Hello(hello))) =
            messages().into_iter().find(|(name, _)| *name == "Hello")
        else {
            panic!("there is an example");
        };
        let (name, version) = ("n".repeat(name), "v".repeat(version));
        Message::Hello(Hello { name, version, room, ..hello })
    };
    let peers = |name: usize| {
        let name = "n".repeat(name);
        Message::Peers(vec![PeerAddress { node: NodeId([1; 32]), name, addresses: vec![] }])
    };
    let whole = card(MAX_NAME, MAX_CODE, MAX_TAG);
    let decoded = |message: &Message| {
        codec::decode_message(&codec::encode_message(message).expect("short")[FRAME_HEADER..])
    };
    for fits in [
        hello(MAX_NAME, MAX_VERSION, Some(whole.clone())),
        Message::Card(Some(whole)),
        peers(MAX_NAME),
    ] {
        assert_eq!(decoded(&fits), Ok(fits));
    }
    for long in [
        hello(MAX_NAME + 1, 1, None),
        hello(1, MAX_VERSION + 1, None),
        hello(1, 1, Some(card(MAX_NAME + 1, 1, 1))),
        Message::Card(Some(card(MAX_NAME + 1, 1, 1))),
        Message::Card(Some(card(1, MAX_CODE + 1, 1))),
        Message::Card(Some(card(1, 1, MAX_TAG + 1))),
        peers(MAX_NAME + 1),
    ] {
        assert!(matches!(decoded(&long), Err(WireError::LongText { .. })), "{long:?}");
    }
}

#[test]
fn a_body_of_another_kind_than_its_operation_says_is_refused() {
    let wrong = Op { kind: OpBody::Resume(Guard::default()).kind(), ..op() };
    assert!(matches!(codec::decode_body(&wrong), Err(WireError::Malformed(_))));
}

#[test]
fn only_a_snapshot_may_be_longer_than_a_frame() {
    let have = |len| Message::Have { hash: BlobHash([0; 32]), pieces: vec![0; len] };
    assert!(codec::encode_message(&have(MAX_FRAME - 44)).is_ok());
    let refused = Err(WireError::TooLong { len: MAX_FRAME + 1, max: MAX_FRAME });
    assert_eq!(codec::encode_message(&have(MAX_FRAME - 43)), refused);
    let Some((_, Message::Snapshot(snapshot))) =
        messages().into_iter().find(|(name, _)| *name == "Snapshot")
    else {
        panic!("there is an example");
    };
    let long = Snapshot { state: vec![0; MAX_FRAME], ..snapshot };
    let frame = codec::encode_message(&Message::Snapshot(long)).expect("below its limit");
    assert!(codec::decode_message(&frame[FRAME_HEADER..]).is_ok());
}

#[test]
fn a_header_that_promises_too_much_is_refused_before_anything_is_read() {
    let max = u32::try_from(MAX_SNAPSHOT).expect("a few MiB");
    assert_eq!(codec::frame_len(max.to_be_bytes()), Ok(MAX_SNAPSHOT));
    for len in [max + 1, u32::MAX] {
        assert!(matches!(codec::frame_len(len.to_be_bytes()), Err(WireError::TooLong { .. })));
    }
}

#[test]
fn a_piece_is_as_long_as_its_header_says() {
    let header = codec::encode_bulk_reply(&BulkReply::Piece { len: 1000 }).expect("short");
    let reply = |len| codec::decode_bulk_reply(&[&header[..], &vec![7; len]].concat());
    assert_eq!(reply(1000), Ok((BulkReply::Piece { len: 1000 }, header.len())));
    assert_eq!(reply(1003), Err(WireError::Trailing(3)));
    assert!(matches!(reply(999), Err(WireError::Malformed(_))));
    let refused = BulkReply::Refused { reason: "not here".into() };
    let bytes = codec::encode_bulk_reply(&refused).expect("short");
    assert_eq!(codec::decode_bulk_reply(&bytes), Ok((refused, bytes.len())));
}

// ---- what fuzzing once found, or learnt -----------------------------------------------------

/// The files of a target's corpus, in order.
fn corpus(target: &str) -> Vec<std::path::PathBuf> {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let files = std::fs::read_dir(root.join("tests/fuzz/corpus").join(target));
    let files = files.expect("a corpus is committed for every target");
    let mut files: Vec<_> = files.map(|file| file.expect("readable").path()).collect();
    files.sort();
    files
}

/// Runs every input of one corpus through its target; says which one fails.
fn replay(target: &str) {
    for (_, name, bytes) in targets::seeds().into_iter().filter(|(of, ..)| *of == target) {
        println!("{target}: {name}");
        targets::run(target, &bytes);
    }
    let files = corpus(target);
    assert!(!files.is_empty(), "nothing is kept for {target}");
    for file in files {
        println!("{target}: {}", file.display());
        targets::run(target, &std::fs::read(&file).expect("readable"));
    }
}

#[test]
fn every_fuzz_target_survives_its_corpus() {
    for (target, _) in targets::TARGETS {
        replay(target);
    }
}

// ---- whatever a stranger sends -------------------------------------------------------------

/// Counts what the present thread holds and its peak.
struct Counting;

thread_local! {
    static HELD: Cell<usize> = const { Cell::new(0) };
    static PEAK: Cell<usize> = const { Cell::new(0) };
}

fn grow(size: usize) {
    // A thread that ends has no counters any more; nothing is measured there.
    let _ = HELD.try_with(|held| {
        held.set(held.get().saturating_add(size));
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(held.get())));
    });
}

fn shrink(size: usize) {
    let _ = HELD.try_with(|held| held.set(held.get().saturating_sub(size)));
}

#[expect(unsafe_code, reason = "only an allocator sees what is allocated")]
// SAFETY: everything is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        grow(layout.size());
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        shrink(layout.size());
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The most that `decode` held at a time.
fn peak_of<T>(decode: impl FnOnce() -> T) -> usize {
    let before = HELD.get();
    PEAK.set(before);
    let value = decode();
    let peak = PEAK.get();
    drop(value);
    peak - before
}

/// Memory that decoding `len` bytes may take: serde reserves at most 1 MiB for a sequence
/// before its elements arrive, sequences nest three deep (entries, addresses or tracks, and
/// what is in them), and in memory a short element is up to eight times its encoding, with a
/// vector that is twice as long as it need be while it grows.
fn bound(len: usize) -> usize {
    3 * 1024 * 1024 + 24 * len
}

fn check<T: Debug>(bytes: &[u8], decode: impl FnOnce(&[u8]) -> T) {
    let peak = peak_of(|| decode(bytes));
    let max = bound(bytes.len());
    assert!(peak <= max, "{peak} bytes held for {} on the wire, {max} allowed", bytes.len());
}

/// Hands the bytes to every decoder.
fn decode_as_everything(bytes: &[u8]) {
    check(bytes, codec::decode_message);
    check(bytes, codec::decode_datagram);
    check(bytes, |body| codec::decode_body(&Op { body: body.to_vec(), ..op() }));
    check(bytes, codec::decode_entry);
    check(bytes, codec::decode_genesis);
    check(bytes, codec::decode_bulk_request);
    check(bytes, codec::decode_bulk_reply);
    check(bytes, codec::decode_state::<Vec<Track>>);
}

/// The encodings of all examples, without frame headers.
fn seeds() -> Vec<Vec<u8>> {
    let mut seeds: Vec<Vec<u8>> = messages()
        .iter()
        .map(|(_, m)| codec::encode_message(m).expect("short")[FRAME_HEADER..].to_vec())
        .collect();
    seeds.extend(datagrams().iter().map(|(_, d)| codec::encode_datagram(d).expect("short")));
    seeds.extend(bodies().iter().map(|(_, b)| codec::encode_body(b).expect("short")));
    seeds.extend(headers().into_iter().map(|(_, bytes)| bytes));
    seeds.push(codec::encode_entry(&entry()).expect("short"));
    seeds.push(codec::encode_genesis(&genesis()).expect("short"));
    seeds
}

/// Numbers that lengths like to be when somebody means harm.
fn hostile_length() -> impl Strategy<Value = u64> {
    let edges = [0, 1, 0xffff, 1 << 20, 1 << 32, (1 << 32) + 1, i64::MAX as u64, u64::MAX];
    prop_oneof![proptest::sample::select(edges.to_vec()), any::<u64>()]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn garbage_is_an_error_and_nothing_worse(bytes in vec(any::<u8>(), 0..2 * MAX_DATAGRAM)) {
        decode_as_everything(&bytes);
    }

    #[test]
    fn garbage_of_a_known_kind_is_an_error_and_nothing_worse(
        kind in 0_u32..20,
        rest in vec(any::<u8>(), 0..512),
    ) {
        decode_as_everything(&[&kind.to_le_bytes()[..], &rest].concat());
    }

    #[test]
    fn a_good_encoding_with_a_hostile_length_in_it_is_an_error_and_nothing_worse(
        seed in proptest::sample::select(seeds()),
        at in any::<proptest::sample::Index>(),
        length in hostile_length(),
    ) {
        let mut bytes = seed;
        let at = at.index(bytes.len());
        for (byte, new) in bytes[at..].iter_mut().zip(length.to_le_bytes()) {
            *byte = new;
        }
        decode_as_everything(&bytes);
    }

    #[test]
    fn what_decodes_encodes_to_the_same_bytes(
        seed in proptest::sample::select(seeds()),
        flips in vec((any::<proptest::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let mut bytes = seed;
        for (at, value) in flips {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Ok(message) = codec::decode_message(&bytes) {
            let frame = codec::encode_message(&message).expect("it came in one");
            prop_assert_eq!(&frame[FRAME_HEADER..], &bytes[..]);
        }
    }
}

#[test]
fn the_longest_hostile_frames_stay_within_their_bound() {
    // A list of the shortest elements there are: tracks without names, entries without
    // bodies, addresses, and a list of lists.
    let peers_of_nothing = [&2_u32.to_le_bytes()[..], &u64::MAX.to_le_bytes()].concat();
    let mut longest = peers_of_nothing;
    longest.resize(MAX_FRAME, 0);
    decode_as_everything(&longest);
    let mut addresses = [&2_u32.to_le_bytes()[..], &1_u64.to_le_bytes(), &[0; 32]].concat();
    addresses.extend(0_u64.to_le_bytes());
    addresses.extend(u64::MAX.to_le_bytes());
    addresses.resize(MAX_SNAPSHOT, 0);
    decode_as_everything(&addresses);
    decode_as_everything(&vec![0; MAX_SNAPSHOT]);
    decode_as_everything(&vec![0xff; MAX_SNAPSHOT]);
    decode_as_everything(&vec![1; MAX_PIECE]);
}
