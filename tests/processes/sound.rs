//! Music to play, and what recordings say of its sounding.

use std::path::{Path, PathBuf};
use std::time::Instant;

use groovebox::audio::record::{Comparison, Finding, Plan, Recording, compare};
use groovebox::base::{LocalTime, Span};

use super::daemon::pause;
use super::house::LONG;
use super::stalls;

/// Fifty seconds of music, 814 kB.
pub fn demo_song() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/demo.flac")
}

/// A path as an argument.
pub fn text(path: &Path) -> &str {
    path.to_str().expect("a path that is text")
}

/// Writes noise of `seconds` as a WAV file called `name`.wav; each name has its own sound.
pub fn write_song(folder: &Path, name: &str, seconds: u32) -> PathBuf {
    let path = folder.join(format!("{name}.wav"));
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: 16_000,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut writer = hound::WavWriter::create(&path, spec).expect("a file to write");
    let mut state =
        name.bytes().fold(1_u32, |seed, byte| seed.wrapping_mul(31).wrapping_add(u32::from(byte)));
    for _ in 0..seconds * spec.sample_rate {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let [_, _, _, high] = state.to_le_bytes();
        writer.write_sample(i16::from(high) * 40 - 5_100).expect("a sample");
    }
    writer.finalize().expect("a whole file");
    path
}

/// The largest skew allowed between two outputs, for 95 of 100 windows.
const IN_SYNC: Span = Span::from_millis(1);

/// From one window of a comparison to the next.
pub const HOP: Span = Span::from_millis(250);

/// Windows that must be left when the machine stood still during others; if fewer are, all count.
const ENOUGH: usize = 3;

/// Lets the music play until the machine has left so many windows of a comparison undisturbed
/// since then, but no longer than the demo song has left: a machine that never rests is
/// judged with its disturbances.
pub fn wait_heard(since: LocalTime, windows: usize) {
    // What is missing at both ends of a comparison: half a window, and fading in or out.
    let needed = HOP.to_std() * u32::try_from(windows + 6).expect("few windows");
    let began = Instant::now();
    while stalls::calm(since).to_std() < needed && began.elapsed() < LONG {
        pause();
    }
}

/// Fails unless `a` and `b` played the same at the same time, over at least `windows` windows
/// of the time from `since` on. Windows in which the machine stood still are left out, unless
/// that leaves nothing to judge by.
pub fn assert_in_sync(what: &str, a: &Recording, b: &Recording, since: LocalTime, windows: usize) {
    let (a_from, b_from) = (first(a), first(b));
    let settle = (since - a_from.later(b_from)).max(Span::ZERO);
    let plan = Plan { hop: HOP, settle, ..Plan::default() };
    let mut found = compare(a, b, &plan);
    let undisturbed: Vec<_> =
        found.windows.iter().filter(|(middle, _)| !stalls::excuse(*middle)).copied().collect();
    let mut excused = found.windows.len() - undisturbed.len();
    if undisturbed.len() > ENOUGH {
        found.windows = undisturbed;
    } else {
        excused = 0;
    }
    leave_out_beginnings(&mut found);
    // Whoever ends first fades out, and resembles itself as falsely as at a beginning.
    found.windows.pop();
    let p95 = found.quantile(0.95);
    println!(
        "{what}: {} windows the same, {} different, {excused} left out, p95 {p95:?}",
        found.n_same(),
        found.n_different()
    );
    let wanted = windows.saturating_sub(excused).max(ENOUGH);
    assert!(found.n_same() >= wanted, "{what}: too little to compare: {}", listed(&found));
    assert!(p95.is_some_and(|p95| p95 <= IN_SYNC), "{what}: {p95:?}: {}", listed(&found));
}

/// Leaves out the first half second of sound. Where one side has come in late and still fades in,
/// a steady note resembles itself best one or two periods later: the demo's lowest D seems 13.6
/// or 27.2 ms apart then.
fn leave_out_beginnings(found: &mut Comparison) {
    let mut since_silence = 0;
    found.windows.retain(|(_, finding)| {
        since_silence = if *finding == Finding::Silent { 0 } else { since_silence + 1 };
        since_silence == 0 || since_silence > 2
    });
}

/// Fails if the sound stopped while the machine did not.
pub fn assert_no_gap(what: &str, recording: &Recording) {
    let stops: Vec<LocalTime> =
        recording.stops().map(|stop| stop.0).filter(|at| !stalls::excuse(*at)).collect();
    assert!(stops.is_empty(), "{what}: the sound stopped at {stops:?}");
}

fn first(recording: &Recording) -> LocalTime {
    recording.span().expect("something was played").0
}

fn listed(found: &Comparison) -> String {
    let lines: Vec<String> = found.windows.iter().map(|window| format!("{window:?}")).collect();
    format!("\n  {}", lines.join("\n  "))
}
