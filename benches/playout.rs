//! What one chunk and one callback of the playout cost.

#![expect(clippy::cast_precision_loss, reason = "the figures are small")]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use groovebox::audio::mixer::Mixer;
use groovebox::base::pcm::{BLOCK_FRAMES, PcmWriter, window};
use groovebox::base::{LocalTime, RoomTime, SegmentId, Span};
use groovebox::engine::clock::ClockModel;
use groovebox::engine::playout::{DacModel, DacObservation, PlannedSpan, Playout, PlayoutPlan};

const DEVICE: u32 = 48_000;
const CHUNK: usize = 480;

fn frame_time(frame: u64) -> LocalTime {
    LocalTime(0) + Span::from_secs_f64(frame as f64 / f64::from(DEVICE))
}

/// A playout in the midst of a track of `rate`.
fn playing(rate: u32) -> (Playout, Mixer, PcmWriter) {
    let segment = SegmentId(1);
    let start = RoomTime(0);
    let span = PlannedSpan { segment, start, from: 0, frames: u64::MAX / 2, rate, cut: None };
    let mut plan = PlayoutPlan::silent();
    plan.spans[0] = Some(span);
    let (writer, pcm) = window(rate as usize);
    let mut mixer = Mixer::new();
    mixer.set_output(DEVICE, CHUNK);
    while mixer.build_one(&plan) {}
    mixer.load(segment, pcm);
    let mut playout = Playout::new();
    playout.output_opened(DEVICE);
    playout.set_plan(plan);
    let clock = ClockModel {
        local0: LocalTime(0),
        room0: RoomTime(0),
        rate: 20e-6,
        sigma: 1e-6,
        asymmetry: 0.0,
        generation: 0,
    };
    playout.set_clock(LocalTime(0), Some(clock));
    (playout, mixer, writer)
}

fn decode(writer: &mut PcmWriter, next: &mut u64) {
    while let Some(mut block) = writer.take() {
        block.first = *next;
        block.frames = BLOCK_FRAMES;
        *next += BLOCK_FRAMES as u64;
        writer.put(block);
    }
}

fn chunks(bench: &mut Criterion) {
    for rate in [48_000, 44_100, 96_000] {
        let (mut playout, mut mixer, mut writer) = playing(rate);
        let (mut pushed, mut decoded) = (0, 0);
        let mut out = vec![[0.0; 2]; CHUNK];
        bench.bench_function(&format!("480 frames of {rate} Hz at 48 kHz"), |timer| {
            timer.iter(|| {
                decode(&mut writer, &mut decoded);
                let played_at = frame_time(pushed);
                playout.observe(DacObservation { frame: pushed, played_at, starved: 0 });
                let chunk = playout.chunk(pushed, CHUNK);
                mixer.render(&chunk, black_box(&mut out));
                pushed += CHUNK as u64;
            });
        });
        assert_eq!(mixer.sounding(), Some(SegmentId(1)), "it measured silence");
    }
}

fn dac(bench: &mut Criterion) {
    let mut model = DacModel::new(DEVICE, None);
    let mut frame = 0;
    bench.bench_function("one callback into the converter's line", |timer| {
        timer.iter(|| {
            frame += CHUNK as u64;
            black_box(model.observe(frame, frame_time(frame)))
        });
    });
}

criterion_group!(playout, chunks, dac);
criterion_main!(playout);
