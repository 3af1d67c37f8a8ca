//! Uncompressed samples at a place in a file: what WAV and AIFF have in common.

use super::{Bytes, Decoder, FormatError, Layout, read_up_to};

/// Frames decoded at a time.
const STEP: u64 = 1024;

/// How a sample is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sample {
    /// Eight bits, silence at 128.
    U8,
    /// Eight bits, silence at 0.
    I8,
    /// 16 bits.
    I16,
    /// 24 bits.
    I24,
    /// 32 bits.
    I32,
    /// IEEE 754, single.
    F32,
    /// IEEE 754, double.
    F64,
}

impl Sample {
    fn bytes(self) -> usize {
        match self {
            Sample::U8 | Sample::I8 => 1,
            Sample::I16 => 2,
            Sample::I24 => 3,
            Sample::I32 | Sample::F32 => 4,
            Sample::F64 => 8,
        }
    }

    /// `raw` has [`Sample::bytes`] bytes. Full scale is 1.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        reason = "the mixer works in f32, whose 24 bits are finer than any converter"
    )]
    fn decode(self, raw: &[u8], order: Order) -> f32 {
        const SCALE: f32 = 1.0 / 2_147_483_648.0;
        // Lowest byte first from here on.
        let mut bytes = [0; 8];
        let width = raw.len().min(bytes.len());
        bytes[..width].copy_from_slice(&raw[..width]);
        if order == Order::BigEndian {
            bytes[..width].reverse();
        }
        let [a, b, c, d, ..] = bytes;
        match self {
            Sample::U8 => (f32::from(a) - 128.0) / 128.0,
            Sample::I8 => f32::from(a.cast_signed()) / 128.0,
            Sample::I16 => f32::from(i16::from_le_bytes([a, b])) / 32768.0,
            Sample::I24 => i32::from_le_bytes([0, a, b, c]) as f32 * SCALE,
            Sample::I32 => i32::from_le_bytes([a, b, c, d]) as f32 * SCALE,
            Sample::F32 => sane(f32::from_le_bytes([a, b, c, d])),
            Sample::F64 => sane(f64::from_le_bytes(bytes) as f32),
        }
    }
}

/// A float file may hold anything; what is no number would live on in filters for ever.
fn sane(value: f32) -> f32 {
    if value.is_finite() { value.clamp(-16.0, 16.0) } else { 0.0 }
}

/// Which byte of a sample comes first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Order {
    /// The lowest.
    LittleEndian,
    /// The highest.
    BigEndian,
}

/// Where the samples are, and how they are written.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// How each is written.
    pub sample: Sample,
    /// Which byte comes first.
    pub order: Order,
    /// Rate and channels.
    pub layout: Layout,
    /// First byte of the samples, and the byte after the last.
    pub data: (u64, u64),
}

impl Place {
    /// Bytes of a frame.
    pub fn frame_bytes(&self) -> u64 {
        (self.sample.bytes() * usize::from(self.layout.channels)) as u64
    }
}

/// An uncompressed file being decoded.
pub struct Pcm {
    source: Bytes,
    place: Place,
    next: u64,
    raw: Vec<u8>,
}

impl Pcm {
    /// Reads the samples that are at `place`.
    #[must_use]
    pub fn new(source: Bytes, place: Place) -> Pcm {
        Pcm { source, place, next: 0, raw: Vec::new() }
    }
}

impl Decoder for Pcm {
    fn layout(&self) -> Layout {
        self.place.layout
    }

    fn seek(&mut self, frame: u64) -> Result<(), FormatError> {
        self.next = frame;
        Ok(())
    }

    fn next(&mut self, out: &mut Vec<f32>) -> Result<Option<i64>, FormatError> {
        out.clear();
        let size = self.place.frame_bytes();
        let first = self.next;
        let at = first.saturating_mul(size).saturating_add(self.place.data.0);
        let left = self.place.data.1.saturating_sub(at) / size;
        let bytes = usize::try_from(STEP.min(left) * size).expect("a small step");
        self.raw.resize(bytes, 0);
        let got = read_up_to(&mut self.source, at, &mut self.raw)? as u64 / size;
        if got == 0 {
            return Ok(None);
        }
        let Place { sample, order, .. } = self.place;
        let used = usize::try_from(got * size).expect("within the buffer");
        let samples = self.raw[..used].chunks_exact(sample.bytes());
        out.extend(samples.map(|raw| sample.decode(raw, order)));
        self.next += got;
        Ok(i64::try_from(first).ok())
    }

    fn count(&mut self) -> Result<u64, FormatError> {
        let end = self.place.data.1.min(self.source.size());
        Ok(end.saturating_sub(self.place.data.0) / self.place.frame_bytes())
    }
}
