//! Linear PCM in RIFF/WAVE (and RF64): integers of 8 to 32 bits and floats.
//!
//! Public source: Microsoft, "Multiple channel audio data and WAVE files"; EBU Tech 3306 (RF64).

use std::io;

use super::{Bytes, Decoder, FormatError, Layout, read_exact_at, read_up_to};

/// Frames decoded at a time.
const STEP: u64 = 1024;

/// Chunks before the samples; a file has a handful.
const MAX_CHUNKS: usize = 256;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Sample {
    U8,
    I16,
    I24,
    I32,
    F32,
    F64,
}

impl Sample {
    fn new(is_float: bool, bytes: usize) -> Option<Sample> {
        match (is_float, bytes) {
            (false, 1) => Some(Sample::U8),
            (false, 2) => Some(Sample::I16),
            (false, 3) => Some(Sample::I24),
            (false, 4) => Some(Sample::I32),
            (true, 4) => Some(Sample::F32),
            (true, 8) => Some(Sample::F64),
            _ => None,
        }
    }

    fn bytes(self) -> usize {
        match self {
            Sample::U8 => 1,
            Sample::I16 => 2,
            Sample::I24 => 3,
            Sample::I32 | Sample::F32 => 4,
            Sample::F64 => 8,
        }
    }

    /// `raw` has [`Sample::bytes`] bytes, little endian. Full scale is 1.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        reason = "the mixer works in f32, whose 24 bits are finer than any converter"
    )]
    fn decode(self, raw: &[u8]) -> f32 {
        const SCALE: f32 = 1.0 / 2_147_483_648.0;
        match (self, raw) {
            (Sample::U8, &[a]) => (f32::from(a) - 128.0) / 128.0,
            (Sample::I16, &[a, b]) => f32::from(i16::from_le_bytes([a, b])) / 32768.0,
            (Sample::I24, &[a, b, c]) => i32::from_le_bytes([0, a, b, c]) as f32 * SCALE,
            (Sample::I32, &[a, b, c, d]) => i32::from_le_bytes([a, b, c, d]) as f32 * SCALE,
            (Sample::F32, &[a, b, c, d]) => sane(f32::from_le_bytes([a, b, c, d])),
            (Sample::F64, raw) => {
                raw.try_into().map_or(0.0, |raw| sane(f64::from_le_bytes(raw) as f32))
            }
            _ => 0.0,
        }
    }
}

/// A float file may hold anything; what is no number would live on in filters for ever.
fn sane(value: f32) -> f32 {
    if value.is_finite() { value.clamp(-16.0, 16.0) } else { 0.0 }
}

/// Where things are in a file.
#[derive(Clone, Copy, Debug)]
pub struct Map {
    sample: Sample,
    layout: Layout,
    /// First byte of the samples, and the byte after the last.
    data: (u64, u64),
    /// The text tags (LIST INFO), if they stand before the samples: position and length.
    pub info: Option<(u64, u64)>,
}

impl Map {
    fn frame_bytes(&self) -> u64 {
        (self.sample.bytes() * usize::from(self.layout.channels)) as u64
    }
}

/// A WAV file being decoded.
pub struct Wav {
    source: Bytes,
    map: Map,
    next: u64,
    raw: Vec<u8>,
}

impl Wav {
    /// Finds the format and the samples.
    ///
    /// # Errors
    ///
    /// When either is missing or cannot be played.
    pub fn open(mut source: Bytes) -> Result<Wav, FormatError> {
        let map = map(&mut source)?;
        Ok(Wav { source, map, next: 0, raw: Vec::new() })
    }
}

impl Decoder for Wav {
    fn layout(&self) -> Layout {
        self.map.layout
    }

    fn seek(&mut self, frame: u64) -> Result<(), FormatError> {
        self.next = frame;
        Ok(())
    }

    fn next(&mut self, out: &mut Vec<f32>) -> Result<Option<i64>, FormatError> {
        out.clear();
        let size = self.map.frame_bytes();
        let first = self.next;
        let at = first.saturating_mul(size).saturating_add(self.map.data.0);
        let left = self.map.data.1.saturating_sub(at) / size;
        let bytes = usize::try_from(STEP.min(left) * size).expect("a small step");
        self.raw.resize(bytes, 0);
        let got = read_up_to(&mut self.source, at, &mut self.raw)? as u64 / size;
        if got == 0 {
            return Ok(None);
        }
        let width = self.map.sample.bytes();
        let used = usize::try_from(got * size).expect("within the buffer");
        out.extend(self.raw[..used].chunks_exact(width).map(|raw| self.map.sample.decode(raw)));
        self.next += got;
        Ok(i64::try_from(first).ok())
    }

    fn count(&mut self) -> Result<u64, FormatError> {
        let end = self.map.data.1.min(self.source.size());
        Ok(end.saturating_sub(self.map.data.0) / self.map.frame_bytes())
    }
}

/// Walks the chunks up to the samples.
///
/// # Errors
///
/// When the format or the samples are missing, or cannot be played.
pub fn map(source: &mut Bytes) -> Result<Map, FormatError> {
    let start = super::skip_id3(source.as_mut())?;
    let mut at = start + 12;
    let (mut format, mut info, mut long) = (None, None, None);
    for _ in 0..MAX_CHUNKS {
        let mut head = [0; 8];
        if read_up_to(source, at, &mut head)? < head.len() {
            break;
        }
        let len = u64::from(u32::from_le_bytes([head[4], head[5], head[6], head[7]]));
        let body = at + 8;
        match &head[..4] {
            b"fmt " => format = Some(read_format(source, body, len)?),
            b"ds64" => long = Some(read_long(source, body)?),
            b"LIST" => info = Some((body, len)),
            b"data" => {
                let (sample, layout) = format.ok_or_else(|| broken("its format is not said"))?;
                let end = data_end(body, len, long, source.size());
                return Ok(Map { sample, layout, data: (body, end), info });
            }
            _ => {}
        }
        // Chunks begin at even places.
        at = body + len + (len & 1);
    }
    Err(broken("it has no samples"))
}

/// Programs that write into a pipe leave the length at zero or at its highest value: then the
/// samples go on to the end of the file.
fn data_end(body: u64, len: u64, long: Option<u64>, size: u64) -> u64 {
    let len = match len {
        0xFFFF_FFFF => long.unwrap_or(u64::MAX),
        0 => u64::MAX,
        len => len,
    };
    body.saturating_add(len).min(size)
}

fn read_long(source: &mut Bytes, at: u64) -> io::Result<u64> {
    let mut body = [0; 16];
    read_exact_at(source, at, &mut body)?;
    let mut len = [0; 8];
    len.copy_from_slice(&body[8..]);
    Ok(u64::from_le_bytes(len))
}

fn read_format(source: &mut Bytes, at: u64, len: u64) -> Result<(Sample, Layout), FormatError> {
    const PCM: u16 = 1;
    const FLOAT: u16 = 3;
    const EXTENSIBLE: u16 = 0xFFFE;
    if len < 16 {
        return Err(broken("its format is cut short"));
    }
    let mut body = [0; 26];
    let there = usize::try_from(len.min(26)).expect("at most 26");
    read_exact_at(source, at, &mut body[..there])?;
    let word = |place: usize| u16::from_le_bytes([body[place], body[place + 1]]);
    let tag = if word(0) == EXTENSIBLE && there == 26 { word(24) } else { word(0) };
    let channels = u32::from(word(2));
    let rate = u32::from_le_bytes([body[4], body[5], body[6], body[7]]);
    let layout = Layout::check(rate, channels, 0)?;
    let width = usize::from(word(12)) / usize::from(layout.channels);
    let sample = match tag {
        PCM | FLOAT => Sample::new(tag == FLOAT, width),
        _ => None,
    };
    let sample = sample.ok_or_else(|| {
        FormatError::Unsupported(format!("a WAV file with encoding {tag} of {} bits", word(14)))
    })?;
    Ok((sample, layout))
}

fn broken(why: &str) -> FormatError {
    FormatError::Broken(why.into())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::cast_possible_truncation, reason = "samples made for the tests are small")]

    use super::super::tests::{bytes, chirp, decode_from};
    use super::*;
    use hound::{SampleFormat, WavSpec, WavWriter};
    use std::io::Cursor;

    fn spec(channels: u16, bits: u16, float: SampleFormat) -> WavSpec {
        WavSpec { channels, sample_rate: 48_000, bits_per_sample: bits, sample_format: float }
    }

    fn wav(spec: WavSpec, frames: usize) -> Vec<u8> {
        let mut data = Cursor::new(Vec::new());
        let mut writer = WavWriter::new(&mut data, spec).expect("writes");
        let scale = (2_f64.powi(i32::from(spec.bits_per_sample) - 1) - 1.0) as f32;
        for i in 0..frames * usize::from(spec.channels) {
            let channels = usize::from(spec.channels);
            let value = chirp(i / channels, spec.sample_rate, i % channels);
            match spec.sample_format {
                SampleFormat::Float => writer.write_sample(value),
                SampleFormat::Int => writer.write_sample((value * scale) as i32),
            }
            .expect("writes");
        }
        writer.finalize().expect("writes");
        data.into_inner()
    }

    #[test]
    fn every_depth_decodes_to_the_same_sound() {
        for (bits, kind) in [
            (8, SampleFormat::Int),
            (16, SampleFormat::Int),
            (24, SampleFormat::Int),
            (32, SampleFormat::Int),
            (32, SampleFormat::Float),
        ] {
            for channels in [1, 2] {
                let data = wav(spec(channels, bits, kind), 3000);
                let mut decoder = Wav::open(bytes(&data)).expect("opens");
                assert_eq!(decoder.count().expect("counts"), 3000);
                let all = decode_from(&mut decoder, 0);
                let channels = usize::from(channels);
                assert_eq!(all.len(), 3000 * channels);
                let tolerance = 2.0 / 2_f32.powi(i32::from(bits.min(24)) - 1);
                for (i, value) in all.iter().enumerate() {
                    let wanted = chirp(i / channels, 48_000, i % channels);
                    assert!((value - wanted).abs() <= tolerance, "{bits} bits, sample {i}");
                }
            }
        }
    }

    #[test]
    fn a_seek_is_exact() {
        let data = wav(spec(2, 16, SampleFormat::Int), 5000);
        let mut decoder = Wav::open(bytes(&data)).expect("opens");
        let all = decode_from(&mut decoder, 0);
        for from in [0, 1, 1023, 1024, 4999, 5000, 9000] {
            let rest = decode_from(&mut decoder, from);
            let place = usize::try_from(from * 2).expect("small").min(all.len());
            assert_eq!(rest, all[place..], "from {from}");
        }
    }

    #[test]
    fn a_file_cut_short_is_as_long_as_what_is_there() {
        let mut data = wav(spec(2, 16, SampleFormat::Int), 5000);
        data.truncate(44 + 4 * 1234 + 3);
        let mut decoder = Wav::open(bytes(&data)).expect("opens");
        assert_eq!(decoder.count().expect("counts"), 1234);
        assert_eq!(decode_from(&mut decoder, 0).len(), 2468);
    }

    #[test]
    fn an_unknown_length_goes_on_to_the_end() {
        for unknown in [0_u32, u32::MAX] {
            let mut data = wav(spec(1, 16, SampleFormat::Int), 100);
            data[40..44].copy_from_slice(&unknown.to_le_bytes());
            assert_eq!(Wav::open(bytes(&data)).expect("opens").count().expect("counts"), 100);
        }
    }

    #[test]
    fn more_than_two_channels_are_refused_by_name() {
        let data = wav(spec(6, 16, SampleFormat::Int), 10);
        let error = Wav::open(bytes(&data)).err().expect("refused").to_string();
        assert!(error.contains("6 channels"), "{error}");
    }

    #[test]
    fn heads_that_lie_end_in_an_error() {
        let data = wav(spec(2, 16, SampleFormat::Int), 10);
        for len in 0..data.len() {
            let _ = Wav::open(bytes(&data[..len]));
        }
        let mut none = data.clone();
        none[22..24].copy_from_slice(&0_u16.to_le_bytes());
        assert!(Wav::open(bytes(&none)).is_err());
        let mut endless = data.clone();
        endless[16..20].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(Wav::open(bytes(&endless)).is_err());
        assert!(Wav::open(bytes(&data[..36])).is_err());
    }

    #[test]
    fn what_is_no_number_becomes_silence() {
        let mut data = wav(spec(1, 32, SampleFormat::Float), 4);
        let at = data.len() - 16;
        data[at..at + 4].copy_from_slice(&f32::NAN.to_le_bytes());
        let mut decoder = Wav::open(bytes(&data)).expect("opens");
        assert!(decode_from(&mut decoder, 0)[0].abs() < f32::EPSILON);
    }
}
