//! The format table of `docs/formats.md`: every codec at every rate and number of channels, made
//! with the usual encoders, and compared with what ffmpeg decodes.
//!
//! Where a program is missing, its rows are left out, and the test says so.

use std::path::Path;
use std::process::Command;

use super::Library;
use super::format::mix::usual_positions;
use super::stream::StreamHooks;
use crate::base::pcm;
use crate::base::rng::Rng;

const RATES: [u32; 8] = [8_000, 16_000, 22_050, 44_100, 48_000, 88_200, 96_000, 192_000];

/// Seconds of the sound.
const SECONDS: f64 = 1.3;

/// How far the sound may be from ffmpeg's, in ms.
const MAX_OFFSET_MS: f64 = 1.0;

/// By how much its level may differ, in dB.
const MAX_LEVEL_DB: f64 = 0.1;

/// Lossy decoders differ in the noise that they put in place of noise.
const MIN_CORRELATION: f64 = 0.99;

/// A way to make a file.
struct Row {
    codec: &'static str,
    ending: &'static str,
    program: &'static str,
    /// Arguments; `IN` and `OUT` stand for the files.
    arguments: &'static [&'static str],
    rates: std::ops::RangeInclusive<u32>,
    channels: &'static [usize],
}

const FFMPEG: &[&str] = &["-v", "error", "-y", "-i", "IN", "-c:a"];

#[rustfmt::skip]
const ROWS: [Row; 11] = [
    Row { codec: "WAV 16 bits", ending: "wav", program: "ffmpeg", arguments: &["pcm_s16le", "OUT"], rates: 8_000..=192_000, channels: &[1, 2, 3, 4, 5, 6, 7, 8] },
    Row { codec: "WAV 24 bits", ending: "wav", program: "ffmpeg", arguments: &["pcm_s24le", "OUT"], rates: 8_000..=192_000, channels: &[2] },
    Row { codec: "WAV float", ending: "wav", program: "ffmpeg", arguments: &["pcm_f32le", "OUT"], rates: 8_000..=192_000, channels: &[2] },
    Row { codec: "AIFF", ending: "aiff", program: "ffmpeg", arguments: &["pcm_s16be", "OUT"], rates: 8_000..=192_000, channels: &[1, 2, 6, 8] },
    Row { codec: "FLAC", ending: "flac", program: "flac", arguments: &["-sf", "-o", "OUT", "IN"], rates: 8_000..=192_000, channels: &[1, 2, 3, 4, 5, 6, 7, 8] },
    Row { codec: "MP3 constant", ending: "mp3", program: "lame", arguments: &["--quiet", "--cbr", "IN", "OUT"], rates: 8_000..=48_000, channels: &[1, 2] },
    Row { codec: "MP3 variable", ending: "mp3", program: "lame", arguments: &["--quiet", "-V", "2", "IN", "OUT"], rates: 8_000..=48_000, channels: &[1, 2] },
    Row { codec: "AAC", ending: "m4a", program: "ffmpeg", arguments: &["aac", "-b:a", "128k", "OUT"], rates: 8_000..=96_000, channels: &[1, 2] },
    Row { codec: "Apple Lossless", ending: "m4a", program: "ffmpeg", arguments: &["alac", "OUT"], rates: 8_000..=192_000, channels: &[1, 2, 3, 4, 5, 6, 7, 8] },
    Row { codec: "Vorbis", ending: "ogg", program: "oggenc", arguments: &["-Q", "-q", "6", "-o", "OUT", "IN"], rates: 8_000..=192_000, channels: &[1, 2, 3, 4, 5, 6, 7, 8] },
    Row { codec: "Opus", ending: "opus", program: "opusenc", arguments: &["--quiet", "--bitrate", "256", "IN", "OUT"], rates: 8_000..=192_000, channels: &[1, 2, 3, 4, 5, 6, 7, 8] },
];

/// What a comparison has found.
struct Found {
    /// How much later the first and the last tenth of a second sound, in ms.
    start_ms: f64,
    end_ms: f64,
    /// How much longer it is, in ms, than what was encoded or than what ffmpeg makes of it,
    /// whichever is nearer: MP3 of the lowest bit rates has no room for its length, and ffmpeg 5
    /// leaves the padding of AAC.
    longer_ms: f64,
    level_db: f64,
    correlation: f64,
}

fn is_there(program: &str) -> bool {
    Command::new(program).arg("--help").output().is_ok()
}

fn run(program: &str, arguments: &[&str]) -> Vec<u8> {
    let output = Command::new(program).args(arguments).output().expect("the program starts");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{program} {arguments:?}: {said}");
    output.stdout
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path that is text")
}

/// Noise of another kind in every channel, below a third of the rate, in swells of 90 ms.
fn write_sound(path: &Path, rate: u32, channels: usize) {
    let mut data = Vec::new();
    let mut rngs: Vec<Rng> = (0..channels).map(|c| Rng::new(1 + c as u64)).collect();
    let mut states = vec![[0.0_f64; 3]; channels];
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small")]
    let frames = (f64::from(rate) * SECONDS) as u32;
    for frame in 0..frames {
        let time = f64::from(frame) / f64::from(rate);
        let swell = 0.6 + 0.4 * (time / 0.09 * std::f64::consts::TAU).sin();
        for (rng, state) in rngs.iter_mut().zip(&mut states) {
            #[expect(clippy::cast_precision_loss, reason = "16 bits")]
            let mut value = rng.below(65_536) as f64 / 32_768.0 - 1.0;
            // Low-passed thrice, at a few kHz at most: where every encoder keeps everything.
            let share = (f64::from(rate) / 8.0).min(1500.0) / f64::from(rate) * 6.0;
            for low in state.iter_mut() {
                *low += (value - *low) * share.min(0.7);
                value = *low;
            }
            let gain = (1.0 / share.min(0.7)).sqrt() * 0.12;
            #[expect(clippy::cast_possible_truncation, reason = "within 16 bits")]
            let sample = (value * swell * gain * 32_767.0).clamp(-32_000.0, 32_000.0) as i16;
            data.extend(sample.to_le_bytes());
        }
    }
    std::fs::write(path, [head(rate, channels, data.len()), data].concat()).expect("writes");
}

/// The head of a WAV file that names its loudspeakers, so that no encoder guesses them.
fn head(rate: u32, channels: usize, bytes: usize) -> Vec<u8> {
    let count = u8::try_from(channels).expect("few");
    let align = 2 * u16::from(count);
    let bytes = u32::try_from(bytes).expect("short");
    let mut head = b"RIFF".to_vec();
    head.extend((bytes + 60).to_le_bytes());
    head.extend(b"WAVEfmt \x28\0\0\0\xFE\xFF");
    head.extend(u16::from(count).to_le_bytes());
    head.extend(rate.to_le_bytes());
    head.extend((rate * u32::from(align)).to_le_bytes());
    head.extend(align.to_le_bytes());
    head.extend(b"\x10\0\x16\0\x10\0");
    head.extend(usual_positions(count).to_le_bytes());
    head.extend(b"\x01\0\0\0\0\0\x10\0\x80\0\0\xAA\0\x38\x9B\x71data");
    head.extend(bytes.to_le_bytes());
    head
}

/// What ffmpeg decodes: left and right. It mixes to two by the same norm.
fn reference(path: &Path, channels: usize) -> Vec<f32> {
    let file = text(path);
    let mut arguments = vec!["-v", "error", "-i", file];
    if channels > 2 {
        arguments.extend(["-ac", "2"]);
    }
    arguments.extend(["-c:a", "pcm_f32le", "-f", "f32le", "-"]);
    let raw = run("ffmpeg", &arguments);
    let samples = raw.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
    if channels == 1 { samples.flat_map(|s| [s, s]).collect() } else { samples.collect() }
}

/// What the library plays: left and right, and the rate.
fn played(library: &Library, path: &Path) -> (Vec<f32>, u32) {
    let track = library.import(path, &mut |_, _| {}).expect("imports");
    let (writer, mut reader) = pcm::window(64 * pcm::BLOCK_FRAMES);
    let hooks = StreamHooks {
        need: Box::new(|_, _| {}),
        primed: Box::new(|| {}),
        failed: Box::new(|why| panic!("{why}")),
    };
    let _handle = library.open_stream(&track, 0, writer, hooks).expect("starts");
    let mut all = Vec::new();
    let mut next = 0;
    while next < track.frames {
        let is_last = reader.is_abandoned();
        let ready = reader.end().unwrap_or(0).min(track.frames).saturating_sub(next);
        if ready > 0 {
            let frames = usize::try_from(ready.min(2048)).expect("few");
            let mut block = vec![0.0; frames * 2];
            let got = reader.read(next, &mut block);
            all.extend(&block[..got * 2]);
            next += got as u64;
        } else if is_last {
            break;
        } else {
            std::thread::yield_now();
        }
    }
    assert_eq!(all.len() as u64, 2 * track.frames, "as long as was announced");
    (all, track.rate)
}

fn power(samples: &[f32]) -> f64 {
    samples.iter().map(|s| f64::from(*s).powi(2)).sum()
}

/// The correlation of the left channels, `b` being taken `lag` frames later.
fn correlate(a: &[f32], b: &[f32], from: usize, frames: usize, lag: i64) -> f64 {
    let (mut sum, mut a2, mut b2) = (0.0, 0.0, 0.0);
    for frame in from..from + frames {
        let Some(other) = i64::try_from(frame).ok().and_then(|f| usize::try_from(f + lag).ok())
        else {
            continue;
        };
        let (Some(x), Some(y)) = (a.get(2 * frame), b.get(2 * other)) else { continue };
        let (x, y) = (f64::from(*x), f64::from(*y));
        sum += x * y;
        a2 += x * x;
        b2 += y * y;
    }
    sum / (a2 * b2).sqrt().max(1e-12)
}

/// The lag of the best match around a place, in ms.
#[expect(clippy::cast_precision_loss, reason = "few frames")]
fn lag_ms(a: &[f32], b: &[f32], from: usize, rate: u32) -> f64 {
    let frames = usize::try_from(rate / 10).expect("small");
    let reach = i64::from(rate / 400);
    let best = (-reach..=reach)
        .map(|lag| (lag, correlate(a, b, from, frames, lag)))
        .max_by(|x, y| x.1.total_cmp(&y.1));
    best.map_or(f64::INFINITY, |(lag, _)| lag as f64 * 1000.0 / f64::from(rate))
}

#[expect(clippy::cast_precision_loss, reason = "few frames")]
fn compare(wanted: &[f32], found: &[f32], rate: u32) -> Found {
    let tenth = usize::try_from(rate / 10).expect("small");
    let frames = wanted.len().min(found.len()) / 2;
    let ms = |frames: usize| frames as f64 * 1000.0 / f64::from(rate);
    let made = ms(found.len() / 2) - SECONDS * 1000.0;
    let more = ms(found.len() / 2) - ms(wanted.len() / 2);
    Found {
        start_ms: lag_ms(wanted, found, 0, rate),
        end_ms: lag_ms(wanted, found, frames - tenth, rate),
        longer_ms: if made.abs() < more.abs() { made } else { more },
        level_db: 10.0 * (power(&found[..2 * frames]) / power(&wanted[..2 * frames])).log10(),
        correlation: correlate(wanted, found, 0, frames, 0),
    }
}

/// For those who want to play them all: `GROOVEBOX_FORMATS` names a folder for the files.
fn keep(file: &Path, codec: &str, rate: u32, channels: usize) {
    let Some(folder) = std::env::var_os("GROOVEBOX_FORMATS") else { return };
    let folder = Path::new(&folder);
    std::fs::create_dir_all(folder).expect("a folder for the files");
    let number = std::fs::read_dir(folder).expect("the folder").count();
    let name = format!("{number:03}_{codec}_{rate}_{channels}");
    let ending = file.extension().expect("an ending");
    std::fs::copy(file, folder.join(name).with_extension(ending)).expect("a copy");
}

#[test]
fn every_format_sounds_as_ffmpeg_decodes_it() {
    if !is_there("ffmpeg") {
        println!("ffmpeg is not here; nothing was compared");
        return;
    }
    let dir = tempfile::tempdir().expect("dir");
    let library = Library::open(&dir.path().join("cache"), u64::MAX).expect("opens");
    let source = dir.path().join("source.wav");
    let mut wrong = Vec::new();
    println!(
        "| codec | made with | rates, Hz | channels | files | offset at start, end | length | level | correlation |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    for row in &ROWS {
        if !is_there(row.program) {
            println!("{} is not here; {} is left out", row.program, row.codec);
            continue;
        }
        let path = dir.path().join("file").with_extension(row.ending);
        let rates: Vec<u32> = RATES.into_iter().filter(|r| row.rates.contains(r)).collect();
        // The largest that was found.
        let (mut files, mut start, mut end, mut longer, mut level, mut least) =
            (0, 0.0_f64, 0.0_f64, 0.0_f64, 0.0_f64, 1.0_f64);
        for rate in &rates {
            for channels in row.channels {
                write_sound(&source, *rate, *channels);
                let ffmpeg = if row.program == "ffmpeg" { FFMPEG } else { &[] };
                let arguments: Vec<&str> = ffmpeg
                    .iter()
                    .chain(row.arguments)
                    .map(|argument| match *argument {
                        "IN" => text(&source),
                        "OUT" => text(&path),
                        other => other,
                    })
                    .collect();
                run(row.program, &arguments);
                keep(&path, row.codec, *rate, *channels);
                let (sound, heard_rate) = played(&library, &path);
                let found = compare(&reference(&path, *channels), &sound, heard_rate);
                let is_right = found.start_ms.abs() < MAX_OFFSET_MS
                    && found.end_ms.abs() < MAX_OFFSET_MS
                    && found.longer_ms.abs() < MAX_OFFSET_MS
                    && found.level_db.abs() < MAX_LEVEL_DB
                    && found.correlation > MIN_CORRELATION;
                if !is_right {
                    wrong.push(format!(
                        "{} {rate} Hz, {channels} channels: {:.2}, {:.2}, {:.2} ms, {:.3} dB, {:.4}",
                        row.codec, found.start_ms, found.end_ms, found.longer_ms, found.level_db,
                        found.correlation
                    ));
                }
                files += 1;
                start = start.max(found.start_ms.abs());
                end = end.max(found.end_ms.abs());
                longer = longer.max(found.longer_ms.abs());
                level = level.max(found.level_db.abs());
                least = least.min(found.correlation);
            }
        }
        let (low, high) = (rates[0], rates[rates.len() - 1]);
        println!(
            "| {} | {} | {low}–{high} | {:?} | {files} | {start:.2}, {end:.2} ms | {longer:.2} ms | {level:.3} dB | {least:.5} |",
            row.codec, row.program, row.channels
        );
    }
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n"));
}
