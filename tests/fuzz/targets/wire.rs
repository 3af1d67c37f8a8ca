//! Frames, datagrams, bulk headers and pieces, TXT records.

use std::fs;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};

use futures_util::FutureExt;
use groovebox::base::BlobHash;
use groovebox::base::limits::{MAX_FRAME, MAX_SNAPSHOT, PIECE};
use groovebox::media::cache::Cache;
use groovebox::media::reference::Reference;
use groovebox::media::{Accepted, MediaError, piece_count};
use groovebox::net::frame::{FrameError, read_message};
use groovebox::wire::codec::{self, FRAME_HEADER};
use groovebox::wire::{Announcement, Datagram};
use tokio::io::{AsyncRead, ReadBuf};

use super::bytes::Bytes;

/// A stream whose bytes come a few at a time.
struct Trickle<'a> {
    rest: &'a [u8],
    at_once: usize,
}

impl AsyncRead for Trickle<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let len = self.rest.len().min(self.at_once).min(buffer.remaining());
        let (now, later) = self.rest.split_at(len);
        buffer.put_slice(now);
        self.rest = later;
        Poll::Ready(Ok(()))
    }
}

/// A control stream from its hello to its end, in portions of as many bytes as the first says.
pub fn control(input: &[u8]) {
    let Some((at_once, stream)) = input.split_first() else { return };
    let mut trickle = Trickle { rest: stream, at_once: usize::from(*at_once).max(1) };
    let mut max = MAX_FRAME;
    loop {
        let before = trickle.rest;
        let read = read_message(&mut trickle, max);
        match read.now_or_never().expect("the stream never waits") {
            Ok(message) => {
                let frame = codec::encode_message(&message).expect("it came in one");
                let read = &before[..before.len() - trickle.rest.len()];
                assert_eq!(frame, read, "what decodes encodes to the same bytes");
            }
            Err(FrameError::End | FrameError::Wire(_)) => return,
        }
        max = MAX_SNAPSHOT;
    }
}

pub fn datagram(input: &[u8]) {
    let Ok(datagram) = codec::decode_datagram(input) else { return };
    let again = codec::encode_datagram(&datagram).expect("it came in one");
    let padded = matches!(datagram, Datagram::Probe(_));
    assert!(padded || again == input, "what decodes encodes to the same bytes");
    let twice = codec::decode_datagram(&again).and_then(|d| codec::encode_datagram(&d));
    assert_eq!(twice, Ok(again), "a probe's padding carries nothing");
}

/// What pieces are offered for: less than a chunk, a chunk, two groups, and one byte more than
/// a piece.
const SIZES: [u64; 4] = [1, 1024, 16 * 1024 + 1, PIECE + 1];

fn content(size: u64) -> Vec<u8> {
    (0..size).map(|i| u8::try_from(i * 31 % 251).expect("below 251")).collect()
}

/// Blobs that wait for all their pieces.
struct Waiting {
    /// Removed when the next one takes its place.
    _place: tempfile::TempDir,
    cache: Cache,
    hashes: Vec<BlobHash>,
}

static WAITING: Mutex<Option<Waiting>> = Mutex::new(None);

impl Waiting {
    fn new() -> Waiting {
        let place = tempfile::tempdir().expect("a directory");
        let cache = Cache::open(place.path(), u64::MAX).expect("opens");
        let hash = |size: &u64| BlobHash(*blake3::hash(&content(*size)).as_bytes());
        Waiting { _place: place, cache, hashes: SIZES.iter().map(hash).collect() }
    }
}

/// A request and a reply, and the bytes of the reply as a piece of each blob.
pub fn bulk(input: &[u8]) {
    let mut input = Bytes(input);
    let which = usize::from(input.u8());
    if let Ok(request) = codec::decode_bulk_request(input.0) {
        let again = codec::encode_bulk_request(&request).expect("it came in one");
        assert_eq!(again, input.0);
    }
    let Ok((reply, used)) = codec::decode_bulk_reply(input.0) else { return };
    let header = codec::encode_bulk_reply(&reply).expect("it came in one");
    assert_eq!(header, input.0[..used]);
    let piece = &input.0[used..];
    let index = which % SIZES.len();
    let number = u32::try_from(which / SIZES.len() % 3).expect("below 3");
    let mut waiting = WAITING.lock().unwrap_or_else(PoisonError::into_inner);
    let Waiting { cache, hashes, .. } = waiting.get_or_insert_with(Waiting::new);
    let blob = cache.begin(hashes[index], SIZES[index]).expect("a small file");
    match blob.accept(number, piece) {
        // What was taken is what was meant; the next input finds nothing of it.
        Ok(Accepted::Stored | Accepted::Completed) => {
            assert!(number < piece_count(SIZES[index]));
            assert_eq!(blob.encode(number).as_deref(), Ok(piece));
            *waiting = None;
        }
        Ok(Accepted::Already) => panic!("nothing was here"),
        Err(MediaError::Corrupt { .. }) => {}
        Err(error) => panic!("{error}"),
    }
}

/// The strings of a TXT record (RFC 6763, section 6): a byte of length, a key, `=`, a value.
pub fn announce(input: &[u8]) {
    let mut input = Bytes(input);
    let mut pairs = Vec::new();
    while !input.is_empty() {
        let len = usize::from(input.u8());
        let Ok(text) = std::str::from_utf8(input.take(len)) else { continue };
        pairs.push(text.split_once('=').unwrap_or((text, "")));
    }
    let Ok(announcement) = Announcement::from_txt(pairs) else { return };
    let txt = announcement.to_txt();
    let again = Announcement::from_txt(txt.iter().map(|(k, v)| (k.as_str(), v.as_str())));
    let again = again.expect("its own record");
    assert_eq!((again.node, again.port), (announcement.node, announcement.port));
    assert_eq!(again.room.is_some(), announcement.room.is_some());
}

// ---- where to begin ------------------------------------------------------------------------

/// The lines of the golden file: name and bytes.
pub fn golden() -> Vec<(String, Vec<u8>)> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/wire.golden");
    let fuzz = concat!(env!("CARGO_MANIFEST_DIR"), "/../wire.golden");
    let text = fs::read_to_string(path).or_else(|_| fs::read_to_string(fuzz));
    let text = text.expect("the golden file");
    text.lines().filter_map(golden_line).collect()
}

fn golden_line(line: &str) -> Option<(String, Vec<u8>)> {
    let (name, digits) = line.rsplit_once([' ', '\t'])?;
    let pairs = digits.as_bytes().chunks(2);
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    let bytes = pairs.map(byte).collect::<Option<Vec<u8>>>()?;
    Some((name.trim().to_owned(), bytes))
}

pub fn control_seeds() -> Vec<Vec<u8>> {
    let frames = golden().into_iter().map(|(_, bytes)| bytes).filter(|bytes| {
        bytes.len() > FRAME_HEADER && codec::decode_message(&bytes[FRAME_HEADER..]).is_ok()
    });
    frames.enumerate().map(|(i, frame)| [&[[255, 7][i % 2]][..], &frame].concat()).collect()
}

pub fn datagram_seeds() -> Vec<Vec<u8>> {
    let golden = golden().into_iter().map(|(_, bytes)| bytes);
    golden.filter(|bytes| codec::decode_datagram(bytes).is_ok()).collect()
}

pub fn bulk_seeds() -> Vec<Vec<u8>> {
    let golden = golden().into_iter().map(|(_, bytes)| bytes);
    let is_header = |bytes: &Vec<u8>| {
        codec::decode_bulk_request(bytes).is_ok() || codec::decode_bulk_reply(bytes).is_ok()
    };
    let mut seeds: Vec<_> =
        golden.filter(is_header).map(|bytes| [&[0][..], &bytes].concat()).collect();
    for (index, size) in SIZES.into_iter().enumerate() {
        let place = tempfile::tempdir().expect("a directory");
        let cache = Cache::open(place.path(), u64::MAX).expect("opens");
        let (song, bytes) = (place.path().join("song"), content(size));
        fs::write(&song, &bytes).expect("writes");
        let reference = Reference::to(&song).expect("it is there");
        let hash = cache.refer(reference, &mut &bytes[..], size).expect("hashed");
        let last = piece_count(size) - 1;
        let piece = cache.find(&hash).expect("there").encode(last).expect("encodes");
        let len = u32::try_from(piece.len()).expect("short");
        let reply = groovebox::wire::BulkReply::Piece { len };
        let header = codec::encode_bulk_reply(&reply).expect("short");
        let which = u8::try_from(index).expect("a few") + 4 * u8::try_from(last).expect("a few");
        seeds.push([&[which][..], &header, &piece].concat());
    }
    seeds
}

pub fn announce_seeds() -> Vec<Vec<u8>> {
    let node = "0123456789abcdef".repeat(4);
    let records = [
        format!("v=1\nnode={node}\nport=4766"),
        format!("v=1\nnode={node}\nport=4766\nroom=0badcafe\nname=Küche\ncode=GROOVE-7KQ4"),
        format!("v=2\nnode={node}"),
        "v\nnode\nport".to_owned(),
    ];
    let string = |text: &str| {
        let len = u8::try_from(text.len()).expect("a TXT string");
        [&[len][..], text.as_bytes()].concat()
    };
    records.iter().map(|record| record.lines().flat_map(string).collect()).collect()
}
