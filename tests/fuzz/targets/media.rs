//! Audio files of other members: recognised, opened, counted, sought in and decoded.

use std::cell::Cell;
use std::io::{self, Cursor, Read, Seek, SeekFrom};
use std::panic::{self, AssertUnwindSafe, catch_unwind};
use std::sync::Once;

use groovebox::base::limits::MAX_TRACK_CHANNELS;
use groovebox::media::format::{self, ByteSource, FormatError, recognise};
use groovebox::media::tags::Tags;
use groovebox::wire::Codec;

use super::bytes::Bytes;

/// Blocks decoded of one file.
const MAX_BLOCKS: usize = 64;

/// Samples of one block: the longest of FLAC and Apple Lossless, of eight channels.
const MAX_SAMPLES: usize = 8 * 65_536;

/// A file in memory.
struct Memory(Cursor<Vec<u8>>);

impl Read for Memory {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Seek for Memory {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.0.seek(to)
    }
}

impl ByteSource for Memory {
    fn size(&self) -> u64 {
        self.0.get_ref().len() as u64
    }
}

thread_local! {
    static FOREIGN: Cell<bool> = const { Cell::new(false) };
}

/// Which panics are somebody else's: those of the decoders, which the program catches.
fn note_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let ours = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let foreign = info.location().is_some_and(|at| at.file().contains("symphonia"));
            FOREIGN.set(foreign);
            if !foreign {
                ours(info);
            }
        }));
    });
}

/// What the track says it is, a place to seek to, and the file.
pub fn media(input: &[u8]) {
    note_panics();
    let mut input = Bytes(input);
    let said = input.u8();
    let place = u64::from(input.u32());
    let file = input.0;
    let decode = AssertUnwindSafe(|| {
        let _ = play(said, place, file);
    });
    if let Err(panic) = catch_unwind(decode)
        && !FOREIGN.take()
    {
        panic::resume_unwind(panic);
    }
}

fn play(said: u8, place: u64, file: &[u8]) -> Result<(), FormatError> {
    let open = || Memory(Cursor::new(file.to_vec()));
    // Four bits of what is said, so that inputs from before the later formats mean what they did.
    let codec = match said % 4 {
        0 => Codec::Flac,
        1 => Codec::Wav,
        2 => Codec::Mp3,
        _ => match said >> 2 & 7 {
            1 => Codec::Aac,
            2 => Codec::Alac,
            3 => Codec::Vorbis,
            4 => Codec::Opus,
            5 => Codec::Aiff,
            _ => recognise(&mut open())?,
        },
    };
    let _ = Tags::read(codec, Box::new(open()));
    let frames = (said >= 128).then_some(place);
    let mut decoder = format::open(codec, Box::new(open()), frames)?;
    let layout = decoder.layout();
    assert!((1..=MAX_TRACK_CHANNELS).contains(&layout.channels), "{layout:?}");
    assert_eq!(layout.positions.count_ones(), u32::from(layout.channels), "{layout:?}");
    // What is left of the file after a failed count is decoded all the same.
    let _ = decoder.count();
    decoder.seek(place)?;
    let mut samples = Vec::new();
    let mut end = i64::MIN;
    for _ in 0..MAX_BLOCKS {
        let Some(first) = decoder.next(&mut samples)? else { break };
        let channels = usize::from(layout.channels);
        assert!(samples.len() <= MAX_SAMPLES, "{} samples at once", samples.len());
        assert!(samples.len().is_multiple_of(channels), "whole frames");
        assert!(first >= end, "{first} is behind {end}");
        let count = i64::try_from(samples.len() / channels).expect("a block is short");
        end = first.checked_add(count).expect("numbers of frames stay small");
    }
    Ok(())
}

// ---- where to begin ------------------------------------------------------------------------

/// One of the fixtures.
fn fixture(name: &str) -> Vec<u8> {
    let here = format!("{}/tests/media/{name}", env!("CARGO_MANIFEST_DIR"));
    let fuzz = format!("{}/../media/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(here).or_else(|_| std::fs::read(fuzz)).expect("the fixture is committed")
}

/// A RIFF/WAVE file of so many samples.
fn wav(tag: u16, channels: u16, bits: u16, samples: u8) -> Vec<u8> {
    let align = channels * bits.div_ceil(8);
    let data: Vec<u8> = (0..samples).flat_map(|i| vec![i; align.into()]).collect();
    let mut fmt = Vec::new();
    fmt.extend(tag.to_le_bytes());
    fmt.extend(channels.to_le_bytes());
    fmt.extend(44_100_u32.to_le_bytes());
    fmt.extend((44_100 * u32::from(align)).to_le_bytes());
    fmt.extend(align.to_le_bytes());
    fmt.extend(bits.to_le_bytes());
    let chunk = |name: &[u8; 4], body: &[u8]| {
        let len = u32::try_from(body.len()).expect("short");
        [&name[..], &len.to_le_bytes(), body].concat()
    };
    let list = [&b"INFO"[..], &chunk(b"INAM", b"Song"), &chunk(b"IART", b"Band")].concat();
    let body =
        [&b"WAVE"[..], &chunk(b"fmt ", &fmt), &chunk(b"LIST", &list), &chunk(b"data", &data)];
    chunk(b"RIFF", &body.concat())
}

/// An AIFF file of 8 kHz with so many samples.
fn aiff(samples: u8) -> Vec<u8> {
    let chunk = |name: &[u8; 4], body: &[u8]| {
        let len = u32::try_from(body.len()).expect("short");
        [&name[..], &len.to_be_bytes(), body].concat()
    };
    let mut common = vec![0, 1, 0, 0, 0, samples, 0, 16, 0x40, 0x0B, 0xFA];
    common.resize(18, 0);
    let sound = [vec![0; 8], (0..samples).flat_map(|i| [i, 0]).collect()].concat();
    let body =
        [&b"AIFF"[..], &chunk(b"NAME", b"Song"), &chunk(b"COMM", &common), &chunk(b"SSND", &sound)];
    chunk(b"FORM", &body.concat())
}

pub fn seeds() -> Vec<Vec<u8>> {
    let head = |said: u8, place: u32| [&[said][..], &place.to_le_bytes()].concat();
    let file = |said, place, bytes: &[u8]| [&head(said, place)[..], bytes].concat();
    let cut = |name: &str, len: usize| {
        let bytes = fixture(name);
        bytes[..len.min(bytes.len())].to_vec()
    };
    vec![
        file(3, 0, &cut("stereo.flac", 20_000)),
        file(0, 5000, &cut("stereo.flac", 20_000)),
        file(0, 1000, &cut("mono24.flac", 16_000)),
        file(3, 0, &cut("cut.flac", 16_000)),
        file(3, 0, &cut("cbr.mp3", 8_000)),
        file(130, 3000, &cut("cbr.mp3", 8_000)),
        file(2, 2000, &cut("vbr.mp3", 8_000)),
        file(3, 0, &cut("text.mp3", 2000)),
        file(3, 10, &wav(1, 2, 16, 100)),
        file(1, 0, &wav(1, 1, 24, 60)),
        file(1, 5, &wav(3, 2, 32, 40)),
        file(1, 0, &wav(1, 1, 8, 40)),
        file(3, 0, &wav(1, 6, 16, 40)),
        file(3, 0, &aiff(40)),
        file(23, 5, &aiff(20)),
        file(3, 0, &cut("front.m4a", 12_000)),
        file(7, 3000, &cut("front.m4a", 12_000)),
        file(3, 0, &fixture("six.m4a")),
        file(11, 2000, &fixture("six.m4a")),
        file(3, 0, &cut("stereo.ogg", 10_000)),
        file(15, 3000, &cut("six.ogg", 12_000)),
        file(3, 100_000, &cut("stereo.opus", 12_000)),
        file(19, 0, &cut("six.opus", 12_000)),
    ]
}
