//! A whole node, two members of its room and a stranger, who say whatever they like.
//!
//! ```text
//!  input:  stage of its room, or none · steps
//! ```
//!
//! The steps know keys and logs, so that what is said may be true as well. What the node asks
//! of its driver is done at once, or fails, as the input says.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use groovebox::base::{LocalTime, NodeId, RoomTime, SegmentId, Span, Term};
use groovebox::engine::Command;
use groovebox::engine::command::{RequestId, SeekTo, VolumeChange};
use groovebox::engine::node::{
    Input, Node, NodeConfig, Output, PlayoutFacts, Position, RestoredPosition, RestoredRoom,
};
use groovebox::engine::room::Room;
use groovebox::engine::transfer::{Failure, Have};
use groovebox::wire::codec;
use groovebox::wire::message::{LogPlace, OutputState, Report, Start, SyncState};
use groovebox::wire::{
    Announcement, Datagram, Heartbeat, HeartbeatAck, Hello, Message, OpBody, PreVote, PreVoteReply,
    Probe, ProbeReply, RoomCard, RoomLine,
};

use super::bytes::{Bytes, block};
use super::people::{self, DEVICES, Pen, guard, id, key, term, track};
use super::room::structured;
use super::wire::golden;

/// Steps of one input.
const MAX_STEPS: usize = 96;

/// What one input may make a node do: an answer or two to every peer, the decoding of the near
/// future, writes, and what people are told. Pieces to fetch come on top, each once.
const MAX_OUTPUTS: usize = 96;

/// Rounds of answers to what a node asks for.
const MAX_ROUNDS: usize = 8;

pub fn node(input: &[u8]) {
    let mut input = Bytes(input);
    let mut scene = Scene::new(&mut input);
    scene.drain(&mut input);
    for _ in 0..MAX_STEPS {
        if input.is_empty() {
            break;
        }
        scene.step(&mut input);
        scene.drain(&mut input);
    }
    let now = scene.now;
    scene.node.handle_input(now, Input::ShutdownRequested);
    scene.drain(&mut input);
}

struct Scene {
    node: Node,
    now: LocalTime,
    /// The room as the other members have it.
    room: Room,
    pen: Pen,
    request: u64,
    probes: Vec<(NodeId, Probe)>,
    prepared: BTreeSet<SegmentId>,
}

impl Scene {
    fn new(input: &mut Bytes<'_>) -> Scene {
        let stage = usize::from(input.u8());
        let room = people::room(stage);
        let now = LocalTime(1_000_000_000_000);
        let restored = (stage < 128).then(|| restored(&room, input));
        let config = NodeConfig {
            key: Arc::clone(key(0)),
            boot: 2,
            name: "device 0".into(),
            user: None,
            friends: None,
            version: "0.1.0".into(),
            seed: 7,
            secret: [7; 32],
            trim: Span::ZERO,
            peers: vec![address(1)],
            remembered: vec![(id(2), "device 2".into(), vec![address(2)])],
            known_rooms: Vec::new(),
            alone: stage >= 192,
            resume: stage % 2 == 0,
            room: restored,
        };
        Scene {
            node: Node::new(config, now),
            now,
            room,
            pen: Pen::default(),
            request: 0,
            probes: Vec::new(),
            prepared: BTreeSet::new(),
        }
    }

    fn step(&mut self, input: &mut Bytes<'_>) {
        let kind = input.u8();
        match kind % 16 {
            0 => self.pass(Span::from_millis(i64::from(input.u16()) % 2000)),
            1 => self.pass(Span::from_secs(i64::from(input.u8()))),
            2 => self.connect(input),
            3 => self.hear(Input::PeerLost { peer: id(usize::from(input.u8())) }),
            4 => self.raw_message(input),
            5 => self.raw_datagram(input),
            6 | 7 => self.append(input),
            8 => self.propose(input),
            9 => self.heartbeat(input),
            10 => self.datagram(input),
            11 => self.message(input),
            12 => self.command(input),
            13 => self.snapshot(input),
            14 => self.driver(input),
            _ => self.answer_probes(input),
        }
    }

    /// Time goes on, with every deadline on the way up to a number.
    fn pass(&mut self, span: Span) {
        let end = self.now + span;
        for _ in 0..MAX_ROUNDS {
            let due = self.node.poll_timeout();
            if due > end {
                break;
            }
            self.now = self.now.later(due);
            self.node.handle_timeout(self.now);
            self.drain(&mut Bytes(&[]));
        }
        self.now = end;
        self.node.handle_timeout(self.now);
    }

    fn hear(&mut self, what: Input) {
        self.node.handle_input(self.now, what);
    }

    fn say(&mut self, from: usize, message: &Message) {
        // What does not fit into a frame never arrives.
        let Ok(frame) = codec::encode_message(message) else { return };
        let message = codec::decode_message(&frame[codec::FRAME_HEADER..]).expect("just encoded");
        self.hear(Input::MessageReceived { from: id(from), message });
    }

    fn send(&mut self, from: usize, datagram: Datagram) {
        let at = self.now - Span::from_micros(200);
        self.hear(Input::DatagramReceived { from: id(from), datagram, at });
    }

    fn connect(&mut self, input: &mut Bytes<'_>) {
        let peer = 1 + usize::from(input.u8()) % (DEVICES - 1);
        let how = input.u8();
        let hello = Hello {
            node: id(peer),
            boot: how.into(),
            name: format!("device {peer}"),
            version: "0.1.0".into(),
            port: 4766,
            room: (!how.is_multiple_of(4)).then(|| self.card(how)),
        };
        self.hear(Input::PeerConnected {
            peer: id(peer),
            address: address(peer),
            hello,
            channel: [0; 32],
        });
    }

    fn card(&self, how: u8) -> RoomCard {
        let mut id_of = self.room.id();
        id_of.0[0] ^= u8::from(how % 4 == 3);
        RoomCard {
            id: id_of,
            name: "Kitchen".into(),
            code: "GROOVE-7KQ4".into(),
            locked: false,
            unclaimed: how % 8 >= 4,
            devices: u16::from(how),
            coordinator: (how < 128).then(|| id(usize::from(how))),
            term: term(u64::from(how), usize::from(how)),
            playing: None,
        }
    }

    fn raw_message(&mut self, input: &mut Bytes<'_>) {
        let from = usize::from(input.u8());
        let Ok(message) = codec::decode_message(input.block()) else { return };
        // The driver takes the first one, and lets nobody say another.
        if !matches!(message, Message::Hello(_)) {
            self.hear(Input::MessageReceived { from: id(from), message });
        }
    }

    fn raw_datagram(&mut self, input: &mut Bytes<'_>) {
        let from = usize::from(input.u8());
        if let Ok(datagram) = codec::decode_datagram(input.block()) {
            self.send(from, datagram);
        }
    }

    /// A reign of whoever speaks, or of somebody else, near the present one or far away.
    fn reign(&self, from: usize, input: &mut Bytes<'_>) -> Term {
        let last = self.room.log().last_term();
        match input.u8() {
            255 => Term { n: u64::MAX, node: id(from), boot: 1 },
            254 => Term { n: input.u64(), node: id(from), boot: input.u32() },
            253 => Term { node: id(from + 1), ..last },
            252 => last,
            more => {
                let n = last.n.saturating_add(u64::from(more % 4));
                Term { n, node: id(from), boot: 1 }
            }
        }
    }

    /// The members' log goes on, and the node is told.
    fn append(&mut self, input: &mut Bytes<'_>) {
        let from = usize::from(input.u8()) % DEVICES;
        let reign = self.reign(from, input);
        let (room, prev_idx) = (self.room.id(), self.room.log().last_idx());
        let prev_chain = self.room.log().chain();
        let mut entries = Vec::new();
        for _ in 0..input.u8() % 4 {
            let author = usize::from(input.u8());
            let at = self.instant(input);
            let mut body = structured(input, guard(self.room.state()));
            if let (OpBody::Begin { segment }, Some(pending)) =
                (&mut body, self.room.state().pending())
            {
                *segment = pending.id;
            }
            let Ok(Some(entry)) = self.pen.order(&mut self.room, reign, author, at, &body) else {
                continue;
            };
            entries.push(entry);
        }
        if input.u8() % 8 == 7 {
            return;
        }
        self.say(from, &Message::Append { room, term: reign, prev_idx, prev_chain, entries });
    }

    fn instant(&self, input: &mut Bytes<'_>) -> RoomTime {
        match input.u8() {
            255 => RoomTime(input.i64()),
            254 => RoomTime::FAR,
            more => self.room.log().last_at() + Span::from_millis(10 * i64::from(more)),
        }
    }

    fn propose(&mut self, input: &mut Bytes<'_>) {
        let from = usize::from(input.u8()) % DEVICES;
        let author = usize::from(input.u8());
        let body = structured(input, guard(self.room.state()));
        let Some(op) = self.pen.signed(&self.room, author, &body) else { return };
        let message = match body {
            OpBody::Join { .. } => Message::Join(op),
            _ => Message::Propose(op),
        };
        self.say(from, &message);
    }

    fn heartbeat(&mut self, input: &mut Bytes<'_>) {
        let from = usize::from(input.u8()) % DEVICES;
        let term = self.reign(from, input);
        let log = self.room.log();
        let heartbeat = Heartbeat {
            room: self.room.id(),
            term,
            seq: input.u32(),
            sent: self.instant(input),
            last_idx: log.last_idx(),
            last_term: log.last_term(),
            chain: log.chain(),
            successors: vec![id(usize::from(input.u8())), id(0)],
            live: 3,
            playing: input.u8().is_multiple_of(2),
            age_s: input.u32(),
        };
        let start = Start {
            room: self.room.id(),
            term,
            last_idx: log.last_idx(),
            last_term: log.last_term(),
            chain: log.chain(),
            line: line(input),
            handoff: None,
            signature: ([0; 32], [0; 32]),
        }
        .signed(key(from));
        if input.u8().is_multiple_of(2) {
            self.say(from, &Message::Start(start));
        }
        self.send(from, Datagram::Heartbeat(heartbeat));
    }

    fn datagram(&mut self, input: &mut Bytes<'_>) {
        let from = usize::from(input.u8()) % DEVICES;
        let kind = input.u8();
        let (room, reign, log) = (self.room.id(), self.reign(from, input), self.room.log());
        let (last_idx, last_term, chain) = (log.last_idx(), log.last_term(), log.chain());
        let datagram = match kind % 4 {
            0 => Datagram::HeartbeatAck(HeartbeatAck {
                room,
                term: reign,
                seq: input.u32(),
                last_idx,
                last_term,
                chain,
                score: input.u16(),
            }),
            1 => Datagram::PreVote(PreVote {
                room,
                n: reign.n,
                round: input.u32(),
                last_idx: last_idx + u64::from(kind / 64),
                last_term,
            }),
            2 => Datagram::PreVoteReply(PreVoteReply {
                room,
                round: input.u32(),
                granted: kind & 16 != 0,
                alive: kind & 32 != 0,
                term: reign,
                ahead: kind & 64 != 0,
            }),
            _ => Datagram::Probe(Probe {
                seq: input.u64(),
                source: reign,
                t1: LocalTime(input.i64()),
            }),
        };
        self.send(from, datagram);
    }

    fn message(&mut self, input: &mut Bytes<'_>) {
        let from = usize::from(input.u8()) % DEVICES;
        let kind = input.u8();
        let room = self.room.id();
        let message = match kind % 8 {
            0 => Message::Card((kind >= 64).then(|| self.card(input.u8()))),
            1 => {
                let written = LogPlace { idx: input.u64(), chain: self.room.log().chain() };
                Message::Appended {
                    room,
                    term: self.reign(from, input),
                    written,
                    synced: input.u64(),
                }
            }
            2 => Message::NeedSnapshot { room },
            3 => Message::Stale { room, term: self.reign(from, input), alive: kind >= 128 },
            4 => Message::Bye,
            5 => {
                let hash = track(TITLES[usize::from(input.u8()) % TITLES.len()], 1).hash;
                Message::Have { hash, pieces: input.take(usize::from(kind / 64)).to_vec() }
            }
            6 => {
                let known = self.prepared.iter().next_back().copied();
                let segment = known.unwrap_or(SegmentId(input.u64()));
                Message::Ready { room, segment }
            }
            _ => Message::Report(Report {
                state: SyncState::Synced,
                rtt_us: f32::from_bits(input.u32()),
                depth_ms: f32::from_bits(input.u32()),
                late_ms: f32::from(input.u16()),
                output: if kind >= 128 { OutputState::Ok } else { OutputState::None },
                ..Report::default()
            }),
        };
        self.say(from, &message);
    }

    fn snapshot(&mut self, input: &mut Bytes<'_>) {
        let from = usize::from(input.u8()) % DEVICES;
        let reign = self.reign(from, input);
        let Ok(mut snapshot) = self.room.snapshot(reign) else { return };
        for _ in 0..input.u8() % 4 {
            let (at, value) = (usize::from(input.u16()), input.u8());
            if let Some(byte) = snapshot.state.get_mut(at) {
                *byte = value;
            }
        }
        if input.u8() == 255 {
            snapshot.idx = input.u64();
        }
        if let Ok(room) = Room::from_snapshot(&snapshot) {
            self.room = room;
        }
        self.say(from, &Message::Snapshot(snapshot));
    }

    fn command(&mut self, input: &mut Bytes<'_>) {
        self.request += 1;
        let title = TITLES[usize::from(input.u8()) % TITLES.len()];
        let tracks = vec![track(title, 44_100 * u64::from(input.u8())); 2];
        let command = match input.u8() % 16 {
            0 => Command::Play { tracks },
            1 => Command::Add { tracks },
            2 => Command::Clear,
            3 => Command::Pause,
            4 => Command::Resume,
            5 => Command::Toggle,
            6 => Command::Stop,
            7 => Command::Next,
            8 => Command::Prev,
            9 => Command::Seek { to: SeekTo::Absolute(Span::from_millis(input.u16().into())) },
            10 => Command::Seek { to: SeekTo::Relative(Span::from_secs(input.u8().into())) },
            11 => Command::RoomVolume { change: VolumeChange::By(-20) },
            12 => Command::Mute { member: Some("device 1".into()), muted: None },
            13 => Command::CreateRoom { name: None, password: None },
            14 => {
                let own = self.room.state().code().to_owned();
                let room = if self.request.is_multiple_of(2) { own } else { "GROOVE-7KQ4".into() };
                Command::JoinRoom { room, password: None }
            }
            _ => Command::LeaveRoom,
        };
        self.hear(Input::CommandReceived { id: RequestId(self.request), command });
    }

    /// What the device itself has to say.
    fn driver(&mut self, input: &mut Bytes<'_>) {
        let kind = input.u8();
        let peer = 1 + usize::from(input.u8()) % (DEVICES - 1);
        let what = match kind % 9 {
            0 => Input::Suspended { gap: Span::from_secs(input.u16().into()) },
            1 => Input::DialFailed { address: address(peer), node: Some(id(peer)) },
            2 => {
                let announcement = Announcement { node: id(peer), port: 4766, room: None };
                Input::PeerDiscovered { announcement, addresses: vec![address(peer)] }
            }
            3 => Input::PeerVanished { node: id(peer) },
            4 => Input::PeerNamed { address: address(peer) },
            5 => Input::RoomNotWritten { room: self.room.id() },
            6 => {
                let segment = self.prepared.iter().next().copied();
                let segment = segment.unwrap_or(SegmentId(input.u64()));
                Input::SegmentFailed { segment, reason: "no audio".into() }
            }
            7 => {
                let hash = track(TITLES[usize::from(input.u8()) % TITLES.len()], 1).hash;
                Input::PieceNeeded { hash, piece: input.u8().into() }
            }
            _ => Input::PlayoutReported(PlayoutFacts {
                output: if kind >= 128 { OutputState::Ok } else { OutputState::None },
                error_s: f64::from_bits(input.u64()),
                depth: Span(input.i64()),
                locked: true,
                ..PlayoutFacts::default()
            }),
        };
        self.hear(what);
    }

    /// The coordinator's clock answers what it was asked, rightly or not.
    fn answer_probes(&mut self, input: &mut Bytes<'_>) {
        for (to, probe) in std::mem::take(&mut self.probes) {
            let Some(from) = (0..DEVICES).find(|device| id(*device) == to) else { continue };
            let at = self.now + Span::from_micros(i64::from(input.u8()));
            let t2 = match input.u8() {
                255 => LocalTime(input.i64()),
                _ => at,
            };
            let reply = ProbeReply {
                seq: probe.seq,
                source: probe.source,
                t1: self.now,
                t2,
                t3: t2 + Span::from_micros(20),
                line: line(input),
            };
            self.now += Span::from_micros(400 + i64::from(input.u8()));
            self.send(from, Datagram::ProbeReply(reply));
        }
    }

    /// Does what the node says, until it has nothing more to say.
    fn drain(&mut self, input: &mut Bytes<'_>) {
        for _ in 0..MAX_ROUNDS {
            let mut answers = Vec::new();
            let mut count = 0;
            while let Some(output) = self.node.poll_output() {
                count += usize::from(!matches!(output, Output::FetchPiece(_)));
                answers.extend(self.obey(output, input));
            }
            assert!(count <= MAX_OUTPUTS, "{count} outputs at once");
            if answers.is_empty() {
                break;
            }
            for answer in answers {
                self.hear(answer);
            }
        }
        let _ = self.node.status(self.now);
    }

    fn obey(&mut self, output: Output, input: &mut Bytes<'_>) -> Option<Input> {
        match output {
            Output::Send { message, .. } => {
                codec::encode_message(&message).expect("what a node says fits into a frame");
                None
            }
            Output::SendDatagram { to, datagram } => {
                codec::encode_datagram(&datagram).expect("what a node says fits into a datagram");
                if let Datagram::Probe(probe) = datagram {
                    self.probes.push((to, probe));
                    self.probes.truncate(8);
                }
                None
            }
            Output::SaveEntries { room, entries } => {
                let last = entries.last().expect("never none");
                Some(Input::Written { room, idx: last.idx, chain: last.chain })
            }
            Output::SaveRoom(snapshot) | Output::CompactRoom(snapshot) => {
                Room::from_snapshot(&snapshot).expect("what is written can be read");
                None
            }
            Output::ReadRoom { room } => {
                let read = (input.u8() % 4 < 3).then(|| Box::new(restored(&self.room, input)));
                Some(Input::RoomRead { room, restored: read })
            }
            Output::OpenBlob { hash, .. } => {
                let have = match input.u8() % 4 {
                    0 => Have::Complete,
                    more => Have::from_wire(vec![more]),
                };
                Some(Input::BlobOpened { hash, have })
            }
            Output::FetchPiece(fetch) => {
                let (hash, piece, from) = (fetch.hash, fetch.piece, fetch.from);
                match input.u8() % 4 {
                    0 => Some(Input::PieceArrived { hash, piece, bytes: 262_144, from }),
                    1 => Some(Input::PieceFailed { hash, piece, from, failure: Failure::Corrupt }),
                    2 => Some(Input::PieceFailed { hash, piece, from, failure: Failure::Refused }),
                    _ => None,
                }
            }
            Output::Prepare { segment, track, from } => {
                assert!(from < track.frames, "nothing is decoded behind the end");
                self.prepared.insert(segment);
                (input.u8() % 4 < 3).then_some(Input::SegmentPrimed { segment })
            }
            Output::Release { segment } => {
                self.prepared.remove(&segment);
                None
            }
            _ => None,
        }
    }
}

/// Titles of what may be in a queue.
const TITLES: [&str; 5] = ["one", "two", "three", "four", "some"];

fn address(device: usize) -> SocketAddr {
    let device = u8::try_from(device % 200).expect("below 200");
    SocketAddr::from(([192, 0, 2, device + 1], 4766))
}

fn line(input: &mut Bytes<'_>) -> RoomLine {
    match input.u8() {
        255 => RoomLine {
            epoch: input.u32(),
            local0: LocalTime(input.i64()),
            room0: RoomTime(input.i64()),
            rate: f64::from_bits(input.u64()),
            sigma: f32::from_bits(input.u32()),
            rate_sigma: f32::from_bits(input.u32()),
            asymmetry: f32::from_bits(input.u32()),
        },
        more => RoomLine {
            epoch: u32::from(more % 3),
            local0: LocalTime(1_000_000_000_000),
            room0: RoomTime(10_000_000_000),
            rate: 0.0,
            sigma: 0.0,
            rate_sigma: 0.0,
            asymmetry: 0.0,
        },
    }
}

fn restored(room: &Room, input: &mut Bytes<'_>) -> RestoredRoom {
    let entries = room.log().entries().cloned().collect::<Vec<_>>();
    let empty = Room::new(room.genesis().clone()).expect("signed");
    let snapshot = empty.snapshot(Term::ZERO).expect("small");
    let position = input.u8();
    let segment = room.state().focus().map_or(SegmentId(1), |segment| segment.id);
    let position = (position % 2 == 1).then(|| RestoredPosition {
        position: Position {
            segment,
            position: Span::from_millis(input.u16().into()),
            playing: position % 4 == 1,
            clock_epoch: 0,
            at: RoomTime(input.i64()),
        },
        outage: (position >= 128).then(|| Span(input.i64())),
    });
    RestoredRoom { snapshot, entries, outbox: Vec::new(), dropped: Vec::new(), position }
}

// ---- where to begin ------------------------------------------------------------------------

pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    // Everybody is here, one of them leads, music is asked for and time passes.
    let evening: [&[u8]; 12] = [
        &[2, 0, 1],
        &[2, 1, 1],
        &[0, 0xe8, 0x03],
        &[9, 1, 1, 1, 0, 0, 0, 5, 2, 0, 0],
        &[15, 10, 0, 0, 10],
        &[6, 1, 1, 1, 1, 3, 2, 2, 0x44, 0xac, 0, 0, 1, 0],
        &[11, 1, 6],
        &[0, 0xf4, 0x01],
        &[12, 0, 20, 0],
        &[14, 8, 128],
        &[1, 3],
        &[3, 1],
    ];
    for stage in [0, 1, 2, 3, 4, 5, 128, 200] {
        seeds.push([&[stage, 0][..], &evening.concat()].concat());
        let alone: [&[u8]; 6] =
            [&[1, 5], &[12, 0, 9, 0], &[1, 2], &[2, 0, 3], &[8, 1, 1, 0, 1], &[13, 1, 1, 0, 0]];
        seeds.push([&[stage, 129][..], &[0; 18], &alone.concat()].concat());
    }
    for (_, bytes) in golden() {
        let body = bytes.get(codec::FRAME_HEADER..).unwrap_or_default();
        if codec::decode_message(body).is_ok() && body.len() < 600 {
            seeds.push([&[3, 0, 2, 0, 1, 4, 1][..], &block(body), &[1, 2]].concat());
        }
        if codec::decode_datagram(&bytes).is_ok() {
            seeds.push([&[3, 0, 2, 0, 1, 5, 1][..], &block(&bytes), &[1, 2]].concat());
        }
    }
    seeds
}
