//! The only file that knows the serialiser (bincode 2, fixed-width integers, little endian).
//!
//! Every decoder here is given at most a capped number of bytes, allocates no more than a
//! small multiple of them, refuses trailing bytes and never panics.

use bincode::config::{Configuration, Fixint, Limit, LittleEndian};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::bulk::{BulkReply, BulkRequest};
use super::datagram::Datagram;
use super::message::{Handoff, Message, RoomCard, Start};
use super::op::{Entry, Genesis, Op, OpBody, PersonCard, Terms};
use super::person::{Contact, FriendMessage, Kept, PairMessage};
use crate::base::limits::{
    MAX_BULK_HEADER, MAX_CODE, MAX_DATAGRAM, MAX_FRAME, MAX_NAME, MAX_OP_BODY, MAX_ORPHANS,
    MAX_REASON, MAX_SNAPSHOT, MAX_TAG, MAX_VERSION,
};
use crate::base::{NodeId, OpId, RoomId, RoomTime, Term, UserId};

/// Bytes that are not what they should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// More bytes than this kind may have.
    #[error("{len} bytes, at most {max} are allowed")]
    TooLong {
        /// How many came.
        len: usize,
        /// How many may.
        max: usize,
    },
    /// Not an encoding of the expected type.
    #[error("malformed: {0}")]
    Malformed(String),
    /// Bytes left over after a whole value.
    #[error("{0} bytes too many")]
    Trailing(usize),
    /// A message or datagram of a later version: whole, within its bounds, and to be left out.
    #[error("number {0} is not known to this version")]
    Unknown(u32),
    /// A text that is longer than it may be.
    #[error("{what} of {len} characters, at most {max} are allowed")]
    LongText {
        /// Which text.
        what: &'static str,
        /// How many characters it has.
        len: usize,
        /// How many it may have.
        max: usize,
    },
}

/// Bytes of a probe and of its reply: both the same, so that both take the same time on the
/// wire.
const PROBE_LEN: usize = 120;

/// Bytes of the length in front of a frame.
pub const FRAME_HEADER: usize = 4;

/// The numbers of the messages that have kinds of their own.
const FRIEND: u32 = 27;
const PAIR: u32 = 28;

type Config<const MAX: usize> = Configuration<LittleEndian, Fixint, Limit<MAX>>;

fn config<const MAX: usize>() -> Config<MAX> {
    bincode::config::standard().with_fixed_int_encoding().with_limit::<MAX>()
}

fn encode<const MAX: usize>(value: &impl Serialize) -> Result<Vec<u8>, WireError> {
    let bytes = bincode::serde::encode_to_vec(value, config::<MAX>())
        .map_err(|e| WireError::Malformed(e.to_string()))?;
    // The limit binds decoding only.
    check_len(bytes.len(), MAX)?;
    Ok(bytes)
}

fn decode<T: DeserializeOwned, const MAX: usize>(bytes: &[u8]) -> Result<(T, usize), WireError> {
    check_len(bytes.len(), MAX)?;
    // A length is believed up to the limit before its bytes are there: a short message that lies
    // is not to cost as much as a whole room.
    let decoded = if MAX > MAX_FRAME && bytes.len() <= MAX_FRAME {
        bincode::serde::decode_from_slice(bytes, config::<MAX_FRAME>())
    } else {
        bincode::serde::decode_from_slice(bytes, config::<MAX>())
    };
    decoded.map_err(|e| WireError::Malformed(e.to_string()))
}

fn decode_whole<T: DeserializeOwned, const MAX: usize>(bytes: &[u8]) -> Result<T, WireError> {
    let (value, used) = decode::<T, MAX>(bytes)?;
    if used < bytes.len() {
        return Err(WireError::Trailing(bytes.len() - used));
    }
    Ok(value)
}

fn check_len(len: usize, max: usize) -> Result<(), WireError> {
    if len > max { Err(WireError::TooLong { len, max }) } else { Ok(()) }
}

/// The length of the body that a frame's header announces.
///
/// # Errors
///
/// When it is longer than any frame may be.
pub fn frame_len(header: [u8; FRAME_HEADER]) -> Result<usize, WireError> {
    let len = usize::try_from(u32::from_be_bytes(header)).unwrap_or(usize::MAX);
    check_len(len, MAX_SNAPSHOT)?;
    Ok(len)
}

/// A message as a frame: four bytes of length, big endian, then the body.
///
/// # Errors
///
/// When the message is longer than its kind may be.
pub fn encode_message(message: &Message) -> Result<Vec<u8>, WireError> {
    let body = encode::<MAX_SNAPSHOT>(message)?;
    check_message(message, body.len())?;
    let len = u32::try_from(body.len()).expect("checked against the limit");
    Ok([&len.to_be_bytes()[..], &body].concat())
}

/// The body of a frame as a message.
///
/// # Errors
///
/// When it is no message, or longer than its kind may be.
pub fn decode_message(body: &[u8]) -> Result<Message, WireError> {
    check_known(body, Message::KINDS, MAX_FRAME)?;
    check_inner_known(body)?;
    let message = decode_whole::<Message, MAX_SNAPSHOT>(body)?;
    check_message(&message, body.len())?;
    check_texts(&message)?;
    Ok(message)
}

/// What a later version has added stands behind what is known here. That is left out, not taken
/// for nonsense, so that two versions can be in one room.
fn check_known(bytes: &[u8], kinds: u32, max: usize) -> Result<(), WireError> {
    let Some((number, _)) = bytes.split_first_chunk::<4>() else { return Ok(()) };
    let number = u32::from_le_bytes(*number);
    if number < kinds {
        return Ok(());
    }
    check_len(bytes.len(), max)?;
    Err(WireError::Unknown(number))
}

/// What people's devices say to each other is numbered by itself, and grows in the same way.
fn check_inner_known(body: &[u8]) -> Result<(), WireError> {
    let Some((outer, inner)) = body.split_first_chunk::<4>() else { return Ok(()) };
    match u32::from_le_bytes(*outer) {
        FRIEND => check_known(inner, FriendMessage::KINDS, MAX_FRAME),
        PAIR => check_known(inner, PairMessage::KINDS, MAX_FRAME),
        _ => Ok(()),
    }
}

/// Texts that are kept and shown of whoever connects, member or not.
fn check_texts(message: &Message) -> Result<(), WireError> {
    match message {
        Message::Hello(hello) => {
            check_text("a device's name", &hello.name, MAX_NAME)?;
            check_text("a version", &hello.version, MAX_VERSION)?;
            hello.room.as_ref().map_or(Ok(()), check_card)
        }
        Message::Card(card) => card.as_ref().map_or(Ok(()), check_card),
        Message::Peers(peers) => {
            peers.iter().try_for_each(|peer| check_text("a device's name", &peer.name, MAX_NAME))
        }
        Message::Friend(message) => check_friend(message),
        Message::Pair(PairMessage::Key { name, display, .. }) => check_names(name, display),
        Message::Seek { code } | Message::Found { code, .. } => {
            check_text("a room's code", code, MAX_CODE)
        }
        Message::PakeRefused { refusal, .. } => {
            check_text("a reason", &refusal.message, MAX_REASON)?;
            check_text("a hint", &refusal.hint, MAX_REASON)
        }
        _ => Ok(()),
    }
}

fn check_friend(message: &FriendMessage) -> Result<(), WireError> {
    match message {
        FriendMessage::Person(card)
        | FriendMessage::Found { card, .. }
        | FriendMessage::Ask { card, .. } => check_person(card),
        FriendMessage::Find { name, .. } => check_text("a person's name", name, MAX_NAME),
        FriendMessage::Kept(kept) => kept.iter().try_for_each(check_kept),
        _ => Ok(()),
    }
}

fn check_kept(kept: &Kept) -> Result<(), WireError> {
    let contact = |contact: &Contact| check_names(&contact.name, &contact.display);
    match kept {
        Kept::Friend { contact: friend, .. } => contact(friend),
        Kept::Sent(request) | Kept::Received(request) => contact(&request.contact),
        Kept::Ended { .. } | Kept::Refused { .. } => Ok(()),
    }
}

fn check_person(card: &PersonCard) -> Result<(), WireError> {
    check_names(&card.name, &card.display)
}

fn check_names(name: &str, display: &str) -> Result<(), WireError> {
    check_text("a person's name", name, MAX_NAME)?;
    check_text("a person's display name", display, MAX_NAME)
}

fn check_card(card: &RoomCard) -> Result<(), WireError> {
    check_text("a room's name", &card.name, MAX_NAME)?;
    check_text("a room's code", &card.code, MAX_CODE)?;
    let playing = card.playing.as_ref();
    playing.map_or(Ok(()), |title| check_text("a title", title, MAX_TAG))
}

fn check_text(what: &'static str, text: &str, max: usize) -> Result<(), WireError> {
    let len = text.chars().count();
    if len > max { Err(WireError::LongText { what, len, max }) } else { Ok(()) }
}

/// Only a snapshot may be longer than an ordinary frame; operations offered again must be
/// shorter, unless it is one that is large itself.
fn check_message(message: &Message, len: usize) -> Result<(), WireError> {
    let max = match message {
        Message::Snapshot(_) => MAX_SNAPSHOT,
        Message::Orphans { ops, .. } if ops.len() > 1 => MAX_ORPHANS,
        _ => MAX_FRAME,
    };
    check_len(len, max)
}

/// A datagram. Probes are padded to the length of their replies.
///
/// # Errors
///
/// When it is longer than a datagram may be.
pub fn encode_datagram(datagram: &Datagram) -> Result<Vec<u8>, WireError> {
    let mut bytes = encode::<MAX_DATAGRAM>(datagram)?;
    if matches!(datagram, Datagram::Probe(_)) {
        bytes.resize(PROBE_LEN, 0);
    }
    Ok(bytes)
}

/// Bytes of a datagram.
///
/// # Errors
///
/// When they are none of ours.
pub fn decode_datagram(bytes: &[u8]) -> Result<Datagram, WireError> {
    check_known(bytes, Datagram::KINDS, MAX_DATAGRAM)?;
    let (datagram, used) = decode::<Datagram, MAX_DATAGRAM>(bytes)?;
    let padded = matches!(datagram, Datagram::Probe(_)) && bytes.len() == PROBE_LEN;
    if used < bytes.len() && !padded {
        return Err(WireError::Trailing(bytes.len() - used));
    }
    Ok(datagram)
}

/// A request for a piece.
///
/// # Errors
///
/// Never for a request that exists; the type says so because encoding may fail in general.
pub fn encode_bulk_request(request: &BulkRequest) -> Result<Vec<u8>, WireError> {
    encode::<MAX_BULK_HEADER>(request)
}

/// A request for a piece.
///
/// # Errors
///
/// When the bytes are none.
pub fn decode_bulk_request(bytes: &[u8]) -> Result<BulkRequest, WireError> {
    decode_whole::<BulkRequest, MAX_BULK_HEADER>(bytes)
}

/// The header of a reply.
///
/// # Errors
///
/// When a refusal's reason is longer than a header may be.
pub fn encode_bulk_reply(reply: &BulkReply) -> Result<Vec<u8>, WireError> {
    encode::<MAX_BULK_HEADER>(reply)
}

/// The header at the beginning of a reply, and how many bytes it took.
///
/// # Errors
///
/// When the bytes do not begin with one, or fewer or more follow than it says.
pub fn decode_bulk_reply(bytes: &[u8]) -> Result<(BulkReply, usize), WireError> {
    let head = &bytes[..bytes.len().min(MAX_BULK_HEADER)];
    let (reply, used) = decode::<BulkReply, MAX_BULK_HEADER>(head)?;
    let follow = match reply {
        BulkReply::Piece { len } => usize::try_from(len).unwrap_or(usize::MAX),
        BulkReply::Refused { .. } => 0,
    };
    let came = bytes.len() - used;
    match came.checked_sub(follow) {
        Some(0) => Ok((reply, used)),
        Some(more) => Err(WireError::Trailing(more)),
        None => Err(WireError::Malformed(format!("{came} bytes of a piece of {follow}"))),
    }
}

/// The body of an operation.
///
/// # Errors
///
/// When it is longer than a body may be.
pub fn encode_body(body: &OpBody) -> Result<Vec<u8>, WireError> {
    encode::<MAX_OP_BODY>(body)
}

/// The body inside an operation.
///
/// # Errors
///
/// When it does not decode, or is of another kind than the operation says.
pub fn decode_body(op: &Op) -> Result<OpBody, WireError> {
    let body = decode_whole::<OpBody, MAX_OP_BODY>(&op.body)?;
    if body.kind() != op.kind {
        let text = format!("operation of kind {} with a body of kind {}", op.kind, body.kind());
        return Err(WireError::Malformed(text));
    }
    Ok(body)
}

/// What an author signs: a name for this use of the key, the room, and everything but the
/// signature.
#[must_use]
pub fn signed_bytes(
    room: &RoomId,
    id: &OpId,
    created: RoomTime,
    kind: u16,
    body: &[u8],
) -> Vec<u8> {
    let head = ("groovebox op 1", room, id, created, kind, body);
    bincode::serde::encode_to_vec(head, config::<MAX_FRAME>()).expect("plain data always encodes")
}

/// What the owner of a term signs when it begins.
#[must_use]
pub fn start_bytes(start: &Start) -> Vec<u8> {
    let head = (
        "groovebox start 1",
        &start.room,
        &start.term,
        start.last_idx,
        &start.last_term,
        &start.chain,
        &start.line,
        &start.handoff,
    );
    bincode::serde::encode_to_vec(head, config::<MAX_FRAME>()).expect("plain data always encodes")
}

/// What a coordinator signs when it names its successor.
#[must_use]
pub fn handoff_bytes(handoff: &Handoff) -> Vec<u8> {
    let Handoff { room, term, to, at_idx, signature: _ } = handoff;
    let head = ("groovebox handoff 1", room, term, to, at_idx);
    bincode::serde::encode_to_vec(head, config::<MAX_FRAME>()).expect("plain data always encodes")
}

/// What a founder signs, and what a room's id is the hash of once the signature is appended.
#[must_use]
pub fn genesis_bytes(genesis: &Genesis) -> Vec<u8> {
    let head = (
        "groovebox room 1",
        &genesis.founder,
        &genesis.nonce,
        &genesis.name,
        &genesis.code,
        genesis.unattended,
    );
    bincode::serde::encode_to_vec(head, config::<MAX_FRAME>()).expect("plain data always encodes")
}

/// What a person signs to say that a device is theirs.
#[must_use]
pub fn device_bytes(user: &UserId, device: &NodeId) -> Vec<u8> {
    let head = ("groovebox device 1", user, device);
    bincode::serde::encode_to_vec(head, config::<MAX_FRAME>()).expect("plain data always encodes")
}

/// What a member signs to let a device into a room.
#[must_use]
pub fn admission_bytes(room: &RoomId, device: &NodeId, terms: Terms) -> Vec<u8> {
    let head = ("groovebox admission 2", room, device, terms);
    bincode::serde::encode_to_vec(head, config::<MAX_FRAME>()).expect("plain data always encodes")
}

/// What two people sign to be friends; the smaller id first.
#[must_use]
pub fn friendship_bytes(one: &UserId, other: &UserId, since: u64) -> Vec<u8> {
    let head = ("groovebox friends 1", one, other, since);
    bincode::serde::encode_to_vec(head, config::<MAX_FRAME>()).expect("plain data always encodes")
}

/// By what a friend of a room's owner recognises the owner, when a join was refused because the
/// room is for friends. It is another one for each join, so that whoever does not know the
/// owner's id learns nothing from it.
#[must_use]
pub fn owner_mark(join: &OpId, owner: &UserId) -> [u8; 16] {
    mark(("groovebox owner 1", join, owner))
}

/// By what a room recognises somebody with whom its owner is friends no longer, when they come.
/// Whoever knows both ids can compute it.
#[must_use]
pub fn ended_mark(room: &RoomId, owner: &UserId, other: &UserId) -> [u8; 16] {
    mark(("groovebox ended 1", room, owner, other))
}

fn mark(of: impl Serialize) -> [u8; 16] {
    let bytes = bincode::serde::encode_to_vec(of, config::<MAX_FRAME>())
        .expect("plain data always encodes");
    let mut mark = [0; 16];
    mark.copy_from_slice(&blake3::hash(&bytes).as_bytes()[..16]);
    mark
}

/// The six digits that two people compare when they pair devices: bound to the keys that both
/// devices have proven to each other, the new one's first, and to what both have drawn.
#[must_use]
pub fn pairing_code(devices: (&NodeId, &NodeId), nonces: (&[u8; 32], &[u8; 32])) -> u32 {
    let head = ("groovebox pair 1", devices, nonces);
    let bytes = bincode::serde::encode_to_vec(head, config::<MAX_FRAME>())
        .expect("plain data always encodes");
    let hash = blake3::hash(&bytes);
    let eight = hash.as_bytes().first_chunk::<8>().expect("a hash has 32 bytes");
    u32::try_from(u64::from_le_bytes(*eight) % 1_000_000).expect("below a million")
}

/// What a device binds itself to before it has seen the other one's number.
#[must_use]
pub fn pairing_commitment(nonce: &[u8; 32]) -> [u8; 32] {
    let head = ("groovebox commit 1", nonce);
    let bytes = bincode::serde::encode_to_vec(head, config::<MAX_FRAME>())
        .expect("plain data always encodes");
    *blake3::hash(&bytes).as_bytes()
}

/// The id of the room that a genesis makes.
#[must_use]
pub fn room_id(genesis: &Genesis) -> RoomId {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&genesis_bytes(genesis));
    hasher.update(&genesis.signature.0);
    hasher.update(&genesis.signature.1);
    RoomId(*hasher.finalize().as_bytes())
}

/// The chain value after an entry.
#[must_use]
pub fn chain(previous: &[u8; 16], term: &Term, at: RoomTime, op: &Op) -> [u8; 16] {
    let link = (previous, term, at, op);
    let bytes = bincode::serde::encode_to_vec(link, config::<MAX_FRAME>())
        .expect("plain data always encodes");
    let mut value = [0; 16];
    value.copy_from_slice(&blake3::hash(&bytes).as_bytes()[..16]);
    value
}

/// An entry for the disk.
///
/// # Errors
///
/// When it is longer than a frame may be.
pub fn encode_entry(entry: &Entry) -> Result<Vec<u8>, WireError> {
    encode::<MAX_FRAME>(entry)
}

/// An entry from the disk.
///
/// # Errors
///
/// When the bytes are no entry.
pub fn decode_entry(bytes: &[u8]) -> Result<Entry, WireError> {
    decode_whole::<Entry, MAX_FRAME>(bytes)
}

/// An operation without a place, for the disk.
///
/// # Errors
///
/// When it is longer than a frame may be.
pub fn encode_op(op: &Op) -> Result<Vec<u8>, WireError> {
    encode::<MAX_FRAME>(op)
}

/// An operation without a place, from the disk.
///
/// # Errors
///
/// When the bytes are no operation.
pub fn decode_op(bytes: &[u8]) -> Result<Op, WireError> {
    decode_whole::<Op, MAX_FRAME>(bytes)
}

/// A genesis for the disk.
///
/// # Errors
///
/// When it is longer than a frame may be.
pub fn encode_genesis(genesis: &Genesis) -> Result<Vec<u8>, WireError> {
    encode::<MAX_FRAME>(genesis)
}

/// A genesis from the disk.
///
/// # Errors
///
/// When the bytes are no genesis.
pub fn decode_genesis(bytes: &[u8]) -> Result<Genesis, WireError> {
    decode_whole::<Genesis, MAX_FRAME>(bytes)
}

/// A whole room state, for snapshots and the disk.
///
/// # Errors
///
/// When it is longer than a snapshot may be.
pub fn encode_state(state: &impl Serialize) -> Result<Vec<u8>, WireError> {
    encode::<MAX_SNAPSHOT>(state)
}

/// BLAKE3 of an encoded state, cut to 16 bytes.
///
/// # Panics
///
/// Never of a state, however long: all its parts can be encoded.
#[must_use]
pub fn hash_state(state: &impl Serialize) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new();
    bincode::serde::encode_into_std_write(state, &mut hasher, config::<MAX_SNAPSHOT>())
        .expect("a hasher takes everything");
    let mut hash = [0; 16];
    hash.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    hash
}

/// A whole room state.
///
/// # Errors
///
/// When the bytes are no state.
pub fn decode_state<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, WireError> {
    decode_whole::<T, MAX_SNAPSHOT>(bytes)
}
