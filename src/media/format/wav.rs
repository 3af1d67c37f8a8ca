//! Linear PCM in RIFF/WAVE (and RF64): integers of 8 to 32 bits and floats.
//!
//! Public source: Microsoft, "Multiple channel audio data and WAVE files"; EBU Tech 3306 (RF64).

use std::io;

use super::pcm::{Order, Pcm, Place, Sample};
use super::{Bytes, FormatError, Layout, broken, read_exact_at, read_up_to};

/// Chunks before the samples; a file has a handful.
const MAX_CHUNKS: usize = 256;

/// Where things are in a file.
#[derive(Clone, Copy, Debug)]
pub struct Map {
    place: Place,
    /// The text tags (LIST INFO), if they stand before the samples: position and length.
    pub info: Option<(u64, u64)>,
}

/// Finds the format and the samples.
///
/// # Errors
///
/// When either is missing or cannot be played.
pub fn open(mut source: Bytes) -> Result<Pcm, FormatError> {
    let place = map(&mut source)?.place;
    Ok(Pcm::new(source, place))
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
                let place = Place { sample, order: Order::LittleEndian, layout, data: (body, end) };
                return Ok(Map { place, info });
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
    let there = usize::try_from(len).unwrap_or(body.len()).min(body.len());
    read_exact_at(source, at, &mut body[..there])?;
    let word = |place: usize| u16::from_le_bytes([body[place], body[place + 1]]);
    let long = |place: usize| u32::from(word(place)) | u32::from(word(place + 2)) << 16;
    let is_extensible = word(0) == EXTENSIBLE && there == body.len();
    let tag = if is_extensible { word(24) } else { word(0) };
    let positions = if is_extensible { long(20) } else { 0 };
    let layout = Layout::check(long(4), u32::from(word(2)), 0)?.with_positions(positions);
    let sample = match (tag, word(12) / u16::from(layout.channels)) {
        (PCM, 1) => Some(Sample::U8),
        (PCM, 2) => Some(Sample::I16),
        (PCM, 3) => Some(Sample::I24),
        (PCM, 4) => Some(Sample::I32),
        (FLOAT, 4) => Some(Sample::F32),
        (FLOAT, 8) => Some(Sample::F64),
        _ => None,
    };
    let sample = sample.ok_or_else(|| {
        FormatError::Unsupported(format!("a WAV file with encoding {tag} of {} bits", word(14)))
    })?;
    Ok((sample, layout))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::cast_possible_truncation, reason = "samples made for the tests are small")]

    use super::super::Decoder;
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
                let mut decoder = open(bytes(&data)).expect("opens");
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
        let mut decoder = open(bytes(&data)).expect("opens");
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
        let mut decoder = open(bytes(&data)).expect("opens");
        assert_eq!(decoder.count().expect("counts"), 1234);
        assert_eq!(decode_from(&mut decoder, 0).len(), 2468);
    }

    #[test]
    fn an_unknown_length_goes_on_to_the_end() {
        for unknown in [0_u32, u32::MAX] {
            let mut data = wav(spec(1, 16, SampleFormat::Int), 100);
            data[40..44].copy_from_slice(&unknown.to_le_bytes());
            assert_eq!(open(bytes(&data)).expect("opens").count().expect("counts"), 100);
        }
    }

    #[test]
    fn six_channels_are_read_and_nine_are_refused_by_name() {
        let data = wav(spec(6, 16, SampleFormat::Int), 10);
        let mut decoder = open(bytes(&data)).expect("opens");
        assert_eq!((decoder.layout().channels, decoder.layout().positions), (6, 0b11_1111));
        assert_eq!(decode_from(&mut decoder, 0).len(), 60);
        let data = wav(spec(9, 16, SampleFormat::Int), 10);
        let error = open(bytes(&data)).err().expect("refused").to_string();
        assert!(error.contains("9 channels"), "{error}");
    }

    #[test]
    fn heads_that_lie_end_in_an_error() {
        let data = wav(spec(2, 16, SampleFormat::Int), 10);
        for len in 0..data.len() {
            let _ = open(bytes(&data[..len]));
        }
        let mut none = data.clone();
        none[22..24].copy_from_slice(&0_u16.to_le_bytes());
        assert!(open(bytes(&none)).is_err());
        let mut endless = data.clone();
        endless[16..20].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(open(bytes(&endless)).is_err());
        assert!(open(bytes(&data[..36])).is_err());
    }

    #[test]
    fn what_is_no_number_becomes_silence() {
        let mut data = wav(spec(1, 32, SampleFormat::Float), 4);
        let at = data.len() - 16;
        data[at..at + 4].copy_from_slice(&f32::NAN.to_le_bytes());
        let mut decoder = open(bytes(&data)).expect("opens");
        assert!(decode_from(&mut decoder, 0)[0].abs() < f32::EPSILON);
    }
}
