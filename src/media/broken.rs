//! A corpus of broken files, made by a script from the good fixtures: cut, flipped, spliced, of
//! the wrong type, hostile. Each is refused with a sentence, or played as far as it goes.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use super::Library;
use super::format::tests::{bytes, fixture};
use super::format::{self, FormatError};
use super::stream::StreamHooks;
use crate::base::pcm;
use crate::base::rng::Rng;
use crate::wire::{Codec, Track};

const SEED: u64 = 20_261_127;

/// How long one file may take. Most take some milliseconds; the margin is for busy machines.
const PATIENCE: Duration = Duration::from_secs(20);

/// By how much the memory of the test process may grow, whatever other tests do beside.
const MAX_GROWTH_KIB: u64 = 512 * 1024;

/// Blocks that a decoder may give of a file of some kilobytes.
const MAX_BLOCKS: usize = 100_000;

const FIXTURES: [&str; 12] = [
    "stereo.flac",
    "mono24.flac",
    "cbr.mp3",
    "vbr.mp3",
    "stereo.m4a",
    "front.m4a",
    "lossless.m4a",
    "six.m4a",
    "stereo.ogg",
    "six.ogg",
    "stereo.opus",
    "six.opus",
];

struct Broken {
    name: String,
    data: Vec<u8>,
}

/// Everything, the same on every run.
fn corpus() -> Vec<Broken> {
    let mut rng = Rng::new(SEED);
    let good = FIXTURES.map(|name| (name.to_owned(), fixture(name)));
    let good: Vec<_> = good.into_iter().chain(plain()).collect();
    let mut corpus = Vec::new();
    let mut add = |name: String, data: Vec<u8>| corpus.push(Broken { name, data });
    for (name, clean) in &good {
        for (how, data) in spoil(clean, &mut rng) {
            add(format!("{how}-{name}"), data);
        }
        // The head of one kind, the body of another.
        for (other, from) in good.iter().filter(|(other, _)| other != name).step_by(5) {
            let head = 64.min(clean.len());
            add(format!("head-of-{name}-on-{other}"), [&clean[..head], &from[head..]].concat());
        }
    }
    for (name, data) in hostile() {
        add(name.into(), data);
    }
    corpus
}

fn below(rng: &mut Rng, limit: usize) -> usize {
    usize::try_from(rng.below(limit.max(1) as u64)).expect("below a usize")
}

/// One file, broken in every way.
fn spoil(clean: &[u8], rng: &mut Rng) -> Vec<(String, Vec<u8>)> {
    let mut all = Vec::new();
    let len = clean.len();
    for part in [5, 40, len / 4, len / 2, len - 1] {
        all.push((format!("cut-at-{part}"), clean[..part].to_vec()));
    }
    // Flipped bits: in the head, in the end, everywhere.
    for (how, from, to, bits) in [
        ("head", 4, 400, 6),
        ("head-too", 4, 4000, 30),
        ("tail", len - 2000, len, 30),
        ("all", 0, len, 200),
    ] {
        let mut data = clean.to_vec();
        for _ in 0..bits {
            let place = from + below(rng, to.min(len) - from);
            data[place] ^= 1 << below(rng, 8);
        }
        all.push((format!("flipped-{how}"), data));
    }
    // Numbers in the head that are as large as they can be.
    for (how, value) in [("ones", [0xFF; 4]), ("large", [0x7F, 0xFF, 0xFF, 0xFF]), ("zero", [0; 4])]
    {
        let mut data = clean.to_vec();
        for _ in 0..3 {
            let place = 4 + 2 * below(rng, 300.min(len / 2 - 4));
            data[place..place + 4].copy_from_slice(&value);
        }
        all.push((format!("absurd-{how}"), data));
    }
    let mut hole = clean.to_vec();
    hole[len / 3..len * 2 / 3].fill(0);
    all.push(("hole".into(), hole));
    all.push(("twice".into(), [clean, clean].concat()));
    all.push(("missing-middle".into(), [&clean[..len / 3], &clean[len / 2..]].concat()));
    all
}

fn chunk(name: &[u8], len: [u8; 4], body: &[u8]) -> Vec<u8> {
    [name, &len, body].concat()
}

/// WAV and AIFF, which need no encoder: two channels, 8 kHz, a quarter of a second.
fn plain() -> [(String, Vec<u8>); 2] {
    let sound: Vec<u8> = (0..8000_u32).map(|i| ((i * i) >> 7).to_le_bytes()[0]).collect();
    let len = 8000_u32;
    let fmt = b"\x01\0\x02\0\x40\x1F\0\0\0\x7D\0\0\x04\0\x10\0";
    let wav = [
        chunk(b"RIFF", (len + 36).to_le_bytes(), b"WAVE"),
        chunk(b"fmt ", 16_u32.to_le_bytes(), fmt),
        chunk(b"data", len.to_le_bytes(), &sound),
    ];
    let common = b"\0\x02\0\0\x07\xD0\0\x10\x40\x0B\xFA\0\0\0\0\0\0\0";
    let aiff = [
        chunk(b"FORM", (len + 46).to_be_bytes(), b"AIFF"),
        chunk(b"COMM", 18_u32.to_be_bytes(), common),
        chunk(b"SSND", (len + 8).to_be_bytes(), &[&[0; 8], &sound[..]].concat()),
    ];
    [("plain.wav".into(), wav.concat()), ("plain.aiff".into(), aiff.concat())]
}

/// Files that were never good.
fn hostile() -> Vec<(&'static str, Vec<u8>)> {
    let noise: Vec<u8> = {
        let mut rng = Rng::new(SEED);
        (0..8192).flat_map(|_| rng.next_u64().to_le_bytes()).collect()
    };
    let wav = |fmt: &[u8], data_len: [u8; 4]| {
        let len = u32::try_from(fmt.len()).expect("short").to_le_bytes();
        [
            chunk(b"RIFF", [0xFF; 4], b"WAVE"),
            chunk(b"fmt ", len, fmt),
            chunk(b"data", data_len, &[1; 64]),
        ]
        .concat()
    };
    // Atoms inside each other, each up to the end, as deep as the file is long.
    let deep = b"\0\0\0\0moov".repeat(20_000);
    let mp4 = |moov: &[u8]| [&b"\0\0\0\x10ftypM4A \0\0\0\0"[..], moov].concat();
    let many_atoms = mp4(&b"\0\0\0\x08free".repeat(50_000));
    vec![
        ("empty.flac", Vec::new()),
        ("one-byte.mp3", vec![0xFF]),
        ("zeros.wav", vec![0; 65_536]),
        ("ones.mp3", vec![0xFF; 65_536]),
        ("noise.opus", noise.clone()),
        ("text.ogg", b"Not music at all.\n".repeat(100)),
        ("picture.m4a", [&b"\x89PNG\r\n\x1A\n"[..], &noise].concat()),
        ("program.aiff", [&b"\x7FELF"[..], &noise].concat()),
        ("archive.flac", [&b"PK\x03\x04"[..], &noise].concat()),
        ("only-a-tag.mp3", [&b"ID3\x04\0\0\x7F\x7F\x7F\x7F"[..], &noise].concat()),
        ("tags-without-end.mp3", b"ID3\x04\0\0\0\0\0\0".repeat(5000)),
        ("many-syncs.mp3", b"\xFF\xFB\x90\0".repeat(20_000)),
        ("channels.wav", wav(b"\x01\0\xFF\xFF\x40\x1F\0\0\0\0\0\0\xFF\xFF\x10\0", [64, 0, 0, 0])),
        ("no-channels.wav", wav(b"\x01\0\0\0\x40\x1F\0\0\0\0\0\0\0\0\x10\0", [64, 0, 0, 0])),
        ("no-rate.wav", wav(b"\x01\0\x02\0\0\0\0\0\0\0\0\0\x04\0\x10\0", [64, 0, 0, 0])),
        ("rate.wav", wav(b"\x01\0\x02\0\xFF\xFF\xFF\xFF\0\0\0\0\x04\0\x10\0", [64, 0, 0, 0])),
        ("endless.wav", wav(b"\x01\0\x02\0\x40\x1F\0\0\0\0\0\0\x04\0\x10\0", [0xFF; 4])),
        (
            "no-samples.wav",
            wav(b"\x01\0\x02\0\x40\x1F\0\0\0\0\0\0\x04\0\x10\0", [0; 4])[..44].to_vec(),
        ),
        (
            "chunks.wav",
            chunk(b"RIFF", [0; 4], &[&b"WAVE"[..], &b"junk\0\0\0\0".repeat(9000)].concat()),
        ),
        (
            "chunks.aiff",
            chunk(b"FORM", [0; 4], &[&b"AIFF"[..], &b"junk\0\0\0\0".repeat(9000)].concat()),
        ),
        ("blocks.flac", [&b"fLaC"[..], &b"\x01\0\0\0".repeat(9000)].concat()),
        ("long-block.flac", b"fLaC\x80\xFF\xFF\xFF".to_vec()),
        ("deep.m4a", mp4(&deep)),
        ("many-atoms.m4a", many_atoms),
        ("no-end.m4a", mp4(b"\0\0\0\0moov\0\0\0\0trak\0\0\0\0mdia\0\0\0\0hdlr")),
        ("long-atom.m4a", mp4(b"\0\0\0\x01moov\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF")),
        ("short-atom.m4a", mp4(b"\0\0\0\x07moov")),
        ("marks.ogg", b"OggS".repeat(20_000)),
        ("marks-too.ogg", b"OggS\0\x02".repeat(20_000)),
    ]
}

/// The most memory that this process ever had, in KiB; 0 where it is not said.
fn peak_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// Decodes a file that was taken in, in the way of a stream, and says how many frames came.
fn decode(data: &[u8], track: &Track, from: u64) -> Result<u64, FormatError> {
    let mut decoder = format::open(track.codec, bytes(data), Some(track.frames))?;
    decoder.seek(from)?;
    let channels = usize::from(decoder.layout().channels);
    let (mut out, mut end, mut frames) = (Vec::new(), i64::MIN, 0);
    for _ in 0..MAX_BLOCKS {
        let Some(first) = decoder.next(&mut out)? else { return Ok(frames) };
        assert!(first >= end, "{first} is behind {end}");
        let count = i64::try_from(out.len() / channels).expect("a block is short");
        end = first + count;
        frames += count.unsigned_abs();
    }
    panic!("it does not end");
}

/// Plays a track through the library until its stream ends; the sentence if it failed.
fn stream(library: &Library, track: &Track) -> Option<String> {
    let (writer, mut reader) = pcm::window(64 * pcm::BLOCK_FRAMES);
    let (said, heard) = mpsc::channel();
    let hooks = StreamHooks {
        need: Box::new(|_, _| {}),
        primed: Box::new(|| {}),
        failed: Box::new(move |why| drop(said.send(why))),
    };
    let handle = library.open_stream(track, 0, writer, hooks).expect("starts");
    let begun = Instant::now();
    while !handle.is_finished() {
        assert!(begun.elapsed() < PATIENCE, "the stream hangs");
        if let Some(end) = reader.end() {
            reader.let_go_before(end);
        }
        std::thread::yield_now();
    }
    heard.try_recv().ok()
}

#[test]
fn every_broken_file_is_refused_with_a_sentence_or_played_as_far_as_it_goes() {
    let corpus = corpus();
    assert!(corpus.len() >= 150, "{} files", corpus.len());
    let dir = tempfile::tempdir().expect("dir");
    let library = Library::open(&dir.path().join("cache"), u64::MAX).expect("opens");
    let before = peak_kib();
    let (mut refused, mut played, mut failed) = (0, 0, 0);
    for Broken { name, data } in &corpus {
        let path = dir.path().join(name);
        fs::write(&path, data).expect("writes");
        let begun = Instant::now();
        match library.import(&path, &mut |_, _| {}) {
            Err(error) => {
                let refusal = error.refusal();
                assert!(refusal.message.contains(name.as_str()), "{refusal:?}");
                assert!(refusal.message.len() > name.len() + 10, "{refusal:?}");
                assert!(!refusal.hint.is_empty(), "{refusal:?}");
                refused += 1;
            }
            Ok(track) => {
                assert!(track.frames > 0);
                for from in [0, track.frames / 2] {
                    // A panic of a decoder is caught by the stream.
                    let decode = AssertUnwindSafe(|| decode(data, &track, from));
                    let _ = catch_unwind(decode);
                }
                match stream(&library, &track) {
                    Some(why) => {
                        assert!(why.contains(&track.title), "{why}");
                        failed += 1;
                    }
                    None => played += 1,
                }
            }
        }
        assert!(begun.elapsed() < PATIENCE, "{name} took {:?}", begun.elapsed());
        fs::remove_file(&path).expect("removes");
    }
    let growth = peak_kib().saturating_sub(before) / 1024;
    println!(
        "{} files: {refused} refused, {played} played, {failed} given up while playing; \
         memory grew by {growth} MiB",
        corpus.len()
    );
    assert!(growth * 1024 < MAX_GROWTH_KIB, "{growth} MiB");
    assert!(refused > 20 && played > 20);
}

#[test]
fn the_name_of_a_file_does_not_decide_what_it_is() {
    let dir = tempfile::tempdir().expect("dir");
    let library = Library::open(&dir.path().join("cache"), u64::MAX).expect("opens");
    let import = |from: &str, name: &str| {
        let path = dir.path().join(name);
        fs::write(&path, fixture(from)).expect("writes");
        library.import(&path, &mut |_, _| {}).expect("imports").codec
    };
    assert_eq!(import("stereo.opus", "a.mp3"), Codec::Opus);
    assert_eq!(import("stereo.m4a", "a.flac"), Codec::Aac);
    assert_eq!(import("cbr.mp3", "a.wav"), Codec::Mp3);
    assert_eq!(import("stereo.ogg", "a"), Codec::Vorbis);
    assert_eq!(import("stereo.flac", "a.m4a"), Codec::Flac);
}
