//! The format table of `docs/formats.md`, through a whole daemon: every file that the table's own
//! test has made is played to `file:`, one after the other, and compared with what ffmpeg decodes.
//!
//! It takes as long as the music does, some ten minutes, and two commands:
//!
//! ```sh
//! GROOVEBOX_FORMATS=/tmp/formats cargo test --lib format_table
//! GROOVEBOX_FORMATS=/tmp/formats cargo test --test processes -- --ignored --nocapture every_format
//! ```

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use groovebox::engine::status::PlaybackState::Stopped;

use super::house::House;
use super::sound::text;

/// The rate of `file:`.
const RATE: usize = 48_000;

/// Frames of a sound, as the table's test makes it.
const MADE: usize = RATE * 13 / 10;

const TENTH: usize = RATE / 10;

/// How far beside its place a sound is looked for: 5 ms.
const REACH: i64 = 240;

/// Left and right, one after the other.
type Sound = Vec<f32>;

/// The worst that was found of a kind of file.
#[derive(Default)]
struct Worst {
    files: u32,
    start_ms: f64,
    end_ms: f64,
    level_db: f64,
    unlike: f64,
}

#[test]
#[ignore = "ten minutes; needs ffmpeg and the files of the format table"]
fn every_format_sounds_through_the_daemon_as_ffmpeg_decodes_it() {
    let folder = std::env::var("GROOVEBOX_FORMATS").expect("GROOVEBOX_FORMATS names their folder");
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .expect("the folder of the format table")
        .map(|entry| entry.expect("a file").path())
        .collect();
    files.sort();
    let sound = play_all(&files);
    let first = sound.iter().position(|sample| *sample != 0.0).expect("something sounds") / 2;

    let mut table = BTreeMap::<String, Worst>::new();
    let mut wrong = Vec::new();
    // The first one fades in; it only says where the second is.
    let mut places = [first + MADE; 2];
    for file in &files[1..] {
        let wanted = decoded(file);
        let frames = wanted.len() / 2;
        let begins = |place: &usize| {
            let lag = lag(&wanted, &sound, 0, *place);
            let like = likeness(&wanted, &sound, 0, shifted(*place, lag), TENTH);
            // Both may reach it; then it is the nearer one.
            (like > 0.9, -lag.abs())
        };
        let place = places.into_iter().max_by_key(begins).expect("two");
        let start = lag(&wanted, &sound, 0, place);
        let end = lag(&wanted, &sound, frames.min(MADE) - TENTH, place);
        let at = shifted(place, start);
        let span = frames.min(MADE);
        let heard = &sound[2 * at..(2 * (at + span)).min(sound.len())];
        let level = 10.0 * (power(heard) / power(&wanted[..heard.len()])).log10();
        let unlike = 1.0 - likeness(&wanted, &sound, 0, at, span);
        let ms = |lag: i64| f64::from(i32::try_from(lag).expect("small")) * 1000.0 / 48_000.0;
        let (start_ms, end_ms) = (ms(start), ms(end));
        // Half of 8 kHz is so near what they hold that resamplers differ.
        let max_level = if is_narrow(file) { 0.15 } else { 0.1 };
        let is_off = start_ms.abs() >= 1.0 || end_ms.abs() >= 1.0 || level.abs() >= max_level;
        if is_off || unlike >= 0.01 {
            wrong.push(format!(
                "{}: {start_ms:.2}, {end_ms:.2} ms, {level:.3} dB, {unlike:.5}",
                file.display()
            ));
        }
        let name = file.file_name().and_then(|name| name.to_str()).expect("a name");
        let kind = name.split('_').nth(1).expect("number_kind_rate_channels").to_owned();
        let worst = table.entry(kind).or_default();
        worst.files += 1;
        worst.start_ms = worst.start_ms.max(start_ms.abs());
        worst.end_ms = worst.end_ms.max(end_ms.abs());
        worst.level_db = worst.level_db.max(level.abs());
        worst.unlike = worst.unlike.max(unlike);
        // Without a word about it in the file, its end may be ffmpeg's instead of what was encoded:
        // see the table's test.
        places = [at + MADE, at + frames];
    }
    println!("| codec | files | offset at start, end | level | correlation |");
    println!("|---|---|---|---|---|");
    for (kind, worst) in &table {
        let Worst { files, start_ms, end_ms, level_db, unlike } = worst;
        let like = 1.0 - unlike;
        println!(
            "| {kind} | {files} | {start_ms:.2}, {end_ms:.2} ms | {level_db:.3} dB | {like:.5} |"
        );
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), files.len(), wrong.join("\n"));
}

/// What a daemon writes that is given all of them at once.
fn play_all(files: &[PathBuf]) -> Sound {
    let mut house = House::together(1);
    let only = 0;
    house.stop_all();
    let out = house.path().join("out.wav");
    house.daemons[only].output = Some(format!("file:{}", out.display()));
    house.daemons[only].start();
    house.wait_together();
    let paths = files.iter().map(|path| text(path));
    house.daemons[only].order_last(&["play"].into_iter().chain(paths).collect::<Vec<_>>());
    house.wait_playing(500);
    let seconds = u64::try_from(files.len()).expect("hundreds") * 3 / 2 + 60;
    let stopped = |house: &House| {
        let status = house.daemons[only].status()?;
        (status.playback.state == Stopped).then_some(())
    };
    house.until("all have been played", Duration::from_secs(seconds), stopped);
    house.stop_all();
    let mut reader = hound::WavReader::open(&out).expect("the recording");
    let spec = reader.spec();
    assert_eq!((spec.channels, spec.sample_rate), (2, 48_000));
    reader.samples::<i16>().map(|s| f32::from(s.expect("whole")) / 32_768.0).collect()
}

/// What ffmpeg makes of it: mixed to two, at the rate of the output.
fn decoded(file: &Path) -> Sound {
    // One channel it would make quieter.
    let is_mono = file.file_stem().is_some_and(|name| text(Path::new(name)).ends_with("_1"));
    let channels = if is_mono { "1" } else { "2" };
    let arguments =
        ["-v", "error", "-i", text(file), "-ac", channels, "-ar", "48000", "-f", "f32le"];
    let output = Command::new("ffmpeg").args(arguments).arg("-").output().expect("ffmpeg starts");
    assert!(output.status.success(), "ffmpeg {}", file.display());
    let samples = output.stdout.chunks_exact(4);
    let samples = samples.map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
    if is_mono { samples.flat_map(|s| [s, s]).collect() } else { samples.collect() }
}

fn is_narrow(file: &Path) -> bool {
    text(file).contains("_8000_")
}

fn shifted(place: usize, lag: i64) -> usize {
    place.saturating_add_signed(isize::try_from(lag).expect("small"))
}

fn power(samples: &[f32]) -> f64 {
    samples.iter().map(|sample| f64::from(*sample).powi(2)).sum()
}

/// How alike the left channels are from frame `from` of `a` on, whose beginning is at `place` of `b`.
fn likeness(a: &[f32], b: &[f32], from: usize, place: usize, frames: usize) -> f64 {
    let (mut sum, mut a2, mut b2) = (0.0, 0.0, 0.0);
    for frame in from..from + frames {
        let (Some(x), Some(y)) = (a.get(2 * frame), b.get(2 * (place + frame))) else { break };
        let (x, y) = (f64::from(*x), f64::from(*y));
        sum += x * y;
        a2 += x * x;
        b2 += y * y;
    }
    sum / (a2 * b2).sqrt().max(1e-12)
}

/// By how many frames a tenth of a second of `a` from `from` on sounds late in `b`.
fn lag(a: &[f32], b: &[f32], from: usize, place: usize) -> i64 {
    let like = |lag: &i64| likeness(a, b, from, shifted(place, *lag), TENTH);
    (-REACH..=REACH).max_by(|x, y| like(x).total_cmp(&like(y))).expect("some")
}
