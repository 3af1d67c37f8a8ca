//! Devices whose keys never change, and the room that they are in.

use std::sync::{Arc, OnceLock};

use groovebox::base::{BlobHash, NodeId, OpId, RoomTime, Term};
use groovebox::engine::room::{Ordered, Room, RoomState};
use groovebox::identity::NodeKey;
use groovebox::wire::op::{AddMode, Guard};
use groovebox::wire::{Codec, Entry, Genesis, Op, OpBody, Refusal, Track};
use ring::signature::{Ed25519KeyPair, KeyPair};

/// Devices there are: the node itself, two members, and one that never joined.
pub const DEVICES: usize = 4;

/// The key of one of them.
pub fn key(device: usize) -> &'static Arc<NodeKey> {
    static KEYS: OnceLock<Vec<Arc<NodeKey>>> = OnceLock::new();
    let keys = KEYS.get_or_init(|| (0..DEVICES).map(|device| Arc::new(make_key(device))).collect());
    &keys[device % DEVICES]
}

/// A PKCS#8 document of version 2 (RFC 5958) around a seed that is one byte over and over.
fn make_key(device: usize) -> NodeKey {
    const HEAD: [u8; 16] = [
        0x30, 0x53, 0x02, 0x01, 0x01, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04,
        0x20,
    ];
    const MIDDLE: [u8; 5] = [0xa1, 0x23, 0x03, 0x21, 0x00];
    let seed = [u8::try_from(device + 1).expect("a few"); 32];
    let pair = Ed25519KeyPair::from_seed_unchecked(&seed).expect("32 bytes");
    let document = [&HEAD[..], &seed, &MIDDLE, pair.public_key().as_ref()].concat();
    NodeKey::from_pkcs8(&document).expect("a key")
}

pub fn id(device: usize) -> NodeId {
    static IDS: OnceLock<Vec<NodeId>> = OnceLock::new();
    IDS.get_or_init(|| (0..DEVICES).map(|device| key(device).node_id()).collect())[device % DEVICES]
}

/// A reign of one of them.
pub fn term(n: u64, device: usize) -> Term {
    Term { n, node: id(device), boot: 1 }
}

pub fn genesis() -> &'static Genesis {
    static GENESIS: OnceLock<Genesis> = OnceLock::new();
    GENESIS.get_or_init(|| {
        let genesis = Genesis {
            founder: NodeId([0; 32]),
            nonce: [7; 16],
            name: "Kitchen".into(),
            code: "GROOVE-7KQ4".into(),
            unattended: false,
            signature: ([0; 32], [0; 32]),
        };
        genesis.signed(key(0))
    })
}

pub fn track(title: &str, frames: u64) -> Track {
    Track {
        hash: BlobHash(*blake3::hash(title.as_bytes()).as_bytes()),
        size: 700_000,
        codec: Codec::Flac,
        rate: 44_100,
        channels: 2,
        frames,
        delay: 0,
        title: title.into(),
        artists: vec!["Somebody".into()],
        album: String::new(),
    }
}

/// Makes operations that nobody has made before.
#[derive(Default)]
pub struct Pen {
    seq: u64,
}

impl Pen {
    pub fn signed(&mut self, room: &Room, device: usize, body: &OpBody) -> Option<Op> {
        self.seq += 1;
        let id = OpId { author: id(device), boot: 1, seq: self.seq };
        Op::signed(key(device), room.id(), id, RoomTime(0), body).ok()
    }

    pub fn order(
        &mut self,
        room: &mut Room,
        reign: Term,
        device: usize,
        at: RoomTime,
        body: &OpBody,
    ) -> Result<Option<Entry>, Refusal> {
        let Some(op) = self.signed(room, device, body) else { return Ok(None) };
        match room.order(reign, at, op)? {
            Ordered::New(entry) => Ok(Some(*entry)),
            Ordered::Known { .. } => Ok(None),
        }
    }
}

pub fn join(device: usize) -> OpBody {
    let name = format!("device {device}");
    OpBody::Join { name, person: None, admission: None, friendship: None }
}

/// The room with its three members, in which so much has been done: nothing, a queue, a track
/// that waits, one that sounds, another that waits while it sounds, a pause.
pub fn room(stage: usize) -> Room {
    static ROOMS: OnceLock<Vec<Room>> = OnceLock::new();
    ROOMS.get_or_init(|| (0..STAGES).map(make_room).collect())[stage % STAGES].clone()
}

fn make_room(stage: usize) -> Room {
    const SECOND: i64 = 1_000_000_000;
    let mut room = Room::new(genesis().clone()).expect("signed");
    let mut pen = Pen::default();
    let mut say = |room: &mut Room, device, seconds: i64, body: &OpBody| {
        let at = RoomTime(seconds * SECOND);
        pen.order(room, term(1, 0), device, at, body).expect("lawful");
    };
    for device in 0..DEVICES - 1 {
        say(&mut room, device, 1, &join(device));
    }
    let tracks = |names: &[&str]| names.iter().map(|name| track(name, 441_000)).collect::<Vec<_>>();
    let begin = |room: &Room| OpBody::Begin { segment: room.state().pending().expect("waits").id };
    if stage >= 1 {
        let body = OpBody::Add { tracks: tracks(&["one", "two", "three"]), mode: AddMode::Append };
        say(&mut room, 1, 2, &body);
    }
    if stage >= 2 {
        let body = OpBody::Add { tracks: tracks(&["four"]), mode: AddMode::Play };
        say(&mut room, 2, 3, &body);
    }
    if stage >= 3 {
        let body = begin(&room);
        say(&mut room, 0, 4, &body);
    }
    if stage >= 4 {
        let body = OpBody::Next(guard(room.state()));
        say(&mut room, 1, 6, &body);
    }
    if stage >= 5 {
        let body = begin(&room);
        say(&mut room, 0, 7, &body);
        let body = OpBody::Pause(guard(room.state()));
        say(&mut room, 1, 9, &body);
    }
    room
}

/// How many stages there are.
pub const STAGES: usize = 6;

/// For what the room is about now.
pub fn guard(state: &RoomState) -> Guard {
    Guard { segment: state.focus().map(|focus| focus.id), dj_epoch: 0 }
}
