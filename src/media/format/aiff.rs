//! Linear PCM in AIFF and AIFF-C: integers of 8 to 32 bits and floats, highest byte first or
//! last.
//!
//! Public sources: Apple, "Audio Interchange File Format", versions 1.3 and C.

use std::io;

use super::pcm::{Order, Pcm, Place, Sample};
use super::{Bytes, FormatError, Layout, broken, read_exact_at, read_up_to};

/// Chunks of a file; there are a handful.
const MAX_CHUNKS: usize = 256;

/// Where things are in a file.
#[derive(Clone, Copy, Debug)]
pub struct Map {
    place: Place,
    /// The texts that name the title and who plays: position and length.
    pub name: Option<(u64, u64)>,
    /// Who plays, or wrote it.
    pub author: Option<(u64, u64)>,
    /// An `ID3v2` tag.
    pub id3: Option<(u64, u64)>,
}

/// What a file is looked through for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purpose {
    /// The samples.
    Sound,
    /// The texts too, which may stand behind them.
    Tags,
}

/// Finds the format and the samples.
///
/// # Errors
///
/// When either is missing or cannot be played.
pub fn open(mut source: Bytes) -> Result<Pcm, FormatError> {
    let place = map(&mut source, Purpose::Sound)?.place;
    Ok(Pcm::new(source, place))
}

/// What the common chunk says.
struct Common {
    sample: Sample,
    order: Order,
    layout: Layout,
    frames: u64,
}

/// Walks the chunks. The samples may stand before their format.
///
/// # Errors
///
/// When the format or the samples are missing, or cannot be played.
pub fn map(source: &mut Bytes, purpose: Purpose) -> Result<Map, FormatError> {
    let start = super::skip_id3(source.as_mut())?;
    let mut kind = [0; 4];
    read_exact_at(source, start + 8, &mut kind)?;
    let is_compressed = &kind == b"AIFC";
    let mut at = start + 12;
    let (mut common, mut data) = (None, None);
    let (mut name, mut author, mut id3) = (None, None, None);
    for _ in 0..MAX_CHUNKS {
        let mut head = [0; 8];
        if read_up_to(source, at, &mut head)? < head.len() {
            break;
        }
        let len = u64::from(u32::from_be_bytes([head[4], head[5], head[6], head[7]]));
        let body = at + 8;
        match &head[..4] {
            b"COMM" => common = Some(read_common(source, body, len, is_compressed)?),
            b"SSND" => data = Some(read_data(source, body, len)?),
            b"NAME" => name = Some((body, len)),
            b"AUTH" => author = Some((body, len)),
            b"ID3 " => id3 = Some((body, len)),
            _ => {}
        }
        // What follows the samples is not needed to begin, and may be far away.
        if purpose == Purpose::Sound && common.is_some() && data.is_some() {
            break;
        }
        // Chunks begin at even places.
        at = body + len + (len & 1);
    }
    let Common { sample, order, layout, frames } =
        common.ok_or_else(|| broken("its format is not said"))?;
    let (from, to) = data.ok_or_else(|| broken("it has no samples"))?;
    let mut place = Place { sample, order, layout, data: (from, to.min(source.size())) };
    // A program that writes into a pipe leaves the number of frames at zero.
    if frames > 0 {
        let end = from.saturating_add(frames.saturating_mul(place.frame_bytes()));
        place.data.1 = place.data.1.min(end);
    }
    Ok(Map { place, name, author, id3 })
}

/// The bytes of the samples.
fn read_data(source: &mut Bytes, at: u64, len: u64) -> io::Result<(u64, u64)> {
    let mut head = [0; 8];
    read_exact_at(source, at, &mut head)?;
    let offset = u64::from(u32::from_be_bytes([head[0], head[1], head[2], head[3]]));
    let from = at + head.len() as u64 + offset;
    let to = if len == 0 { u64::MAX } else { at + len };
    Ok((from, to))
}

fn read_common(
    source: &mut Bytes,
    at: u64,
    len: u64,
    is_compressed: bool,
) -> Result<Common, FormatError> {
    let mut body = [0; 22];
    let wanted = if is_compressed { body.len() } else { 18 };
    if len < wanted as u64 {
        return Err(broken("its format is cut short"));
    }
    read_exact_at(source, at, &mut body[..wanted])?;
    let word = |place: usize| u16::from_be_bytes([body[place], body[place + 1]]);
    let frames = u64::from(u32::from_be_bytes([body[2], body[3], body[4], body[5]]));
    let bits = word(6);
    let rate = rate(word(8), [body[10], body[11], body[12], body[13]]);
    // The specification names arrangements of its own, in which nobody writes; the usual ones
    // are what programs of today mean.
    let layout = Layout::check(rate, word(0).into(), 0)?;
    let kind = if is_compressed { &body[18..22] } else { b"NONE" };
    let unknown = || {
        let kind = String::from_utf8_lossy(kind).into_owned();
        FormatError::Unsupported(format!("an AIFF file with encoding {kind:?} of {bits} bits"))
    };
    let integer = || match bits.div_ceil(8) {
        1 => Ok(Sample::I8),
        2 => Ok(Sample::I16),
        3 => Ok(Sample::I24),
        4 => Ok(Sample::I32),
        _ => Err(unknown()),
    };
    let (sample, order) = match kind {
        b"NONE" | b"twos" => (integer()?, Order::BigEndian),
        b"sowt" => (integer()?, Order::LittleEndian),
        b"raw " => (Sample::U8, Order::BigEndian),
        b"in24" => (Sample::I24, Order::BigEndian),
        b"in32" => (Sample::I32, Order::BigEndian),
        b"fl32" | b"FL32" => (Sample::F32, Order::BigEndian),
        b"fl64" | b"FL64" => (Sample::F64, Order::BigEndian),
        _ => return Err(unknown()),
    };
    Ok(Common { sample, order, layout, frames })
}

/// A rate that is written as an 80-bit float: exponent, then the highest 32 bits of the mantissa,
/// whose first stands for the whole part. Parts of a Hz are dropped; 0 is none.
fn rate(exponent: u16, mantissa: [u8; 4]) -> u32 {
    const BIAS: u16 = 16_383;
    let shift = exponent.checked_sub(BIAS).and_then(|power| 31_u16.checked_sub(power));
    shift.map_or(0, |shift| u32::from_be_bytes(mantissa) >> shift)
}

#[cfg(test)]
mod tests {
    use super::super::Decoder;
    use super::super::tests::{bytes, decode_from};
    use super::*;

    fn chunk(name: &[u8], body: &[u8]) -> Vec<u8> {
        let len = u32::try_from(body.len()).expect("short");
        let pad = vec![0; body.len() % 2];
        [name, &len.to_be_bytes(), body, &pad].concat()
    }

    /// A file of 48 kHz with these samples.
    fn aiff(kind: Option<&[u8; 4]>, channels: u16, bits: u16, samples: &[u8]) -> Vec<u8> {
        let frames = samples.len() / usize::from(channels * bits.div_ceil(8));
        let mut common = channels.to_be_bytes().to_vec();
        common.extend(u32::try_from(frames).expect("few").to_be_bytes());
        common.extend(bits.to_be_bytes());
        common.extend([0x40, 0x0E, 0xBB, 0x80, 0, 0, 0, 0, 0, 0]);
        common.extend(kind.into_iter().flatten());
        let form: &[u8] = if kind.is_some() { b"AIFC" } else { b"AIFF" };
        let sound = [&[0; 8], samples].concat();
        let name = chunk(b"NAME", b"Odd");
        let body = [form, &name, &chunk(b"COMM", &common), &chunk(b"SSND", &sound)].concat();
        chunk(b"FORM", &body)
    }

    fn decoded(data: &[u8]) -> Vec<f32> {
        decode_from(&mut open(bytes(data)).expect("opens"), 0)
    }

    #[test]
    fn rates_are_read_from_their_extended_floats() {
        assert_eq!(rate(0x400E, [0xAC, 0x44, 0, 0]), 44_100);
        assert_eq!(rate(0x400B, [0xFA, 0, 0, 0]), 8_000);
        assert_eq!(rate(0x4010, [0xBB, 0x80, 0, 0]), 192_000);
        assert_eq!((rate(0, [0xFF; 4]), rate(0xFFFF, [0xFF; 4])), (0, 0));
    }

    #[test]
    fn every_way_to_write_a_sample_gives_the_same() {
        type Way<'a> = (Option<&'a [u8; 4]>, u16, &'a [u8]);
        let ways: [Way<'_>; 9] = [
            (None, 8, &[0x40, 0xC0]),
            (None, 16, &[0x40, 0, 0xC0, 0]),
            (None, 24, &[0x40, 0, 0, 0xC0, 0, 0]),
            (None, 32, &[0x40, 0, 0, 0, 0xC0, 0, 0, 0]),
            (Some(b"NONE"), 16, &[0x40, 0, 0xC0, 0]),
            (Some(b"sowt"), 16, &[0, 0x40, 0, 0xC0]),
            (Some(b"raw "), 8, &[0xC0, 0x40]),
            (Some(b"fl32"), 32, &[0x3F, 0, 0, 0, 0xBF, 0, 0, 0]),
            (Some(b"fl64"), 64, &[0x3F, 0xE0, 0, 0, 0, 0, 0, 0, 0xBF, 0xE0, 0, 0, 0, 0, 0, 0]),
        ];
        for (kind, bits, samples) in ways {
            let data = aiff(kind, 1, bits, samples);
            let mut decoder = open(bytes(&data)).expect("opens");
            assert_eq!((decoder.layout().rate, decoder.count().expect("counts")), (48_000, 2));
            assert_eq!(decoded(&data), [0.5, -0.5], "{kind:?} of {bits} bits");
        }
    }

    #[test]
    fn samples_before_their_format_and_a_cut_end_are_read() {
        let data = aiff(None, 2, 16, &[0x40, 0, 0xC0, 0, 0x20, 0, 0xE0, 0]);
        assert_eq!(decoded(&data), [0.5, -0.5, 0.25, -0.25]);
        assert_eq!(decoded(&data[..data.len() - 1]), [0.5, -0.5]);
        for len in 0..data.len() {
            let _ = open(bytes(&data[..len]));
        }
    }

    #[test]
    fn an_encoding_that_is_compressed_is_refused_by_name() {
        let error = open(bytes(&aiff(Some(b"ulaw"), 1, 8, &[1]))).err().expect("refused");
        assert!(error.to_string().contains("\"ulaw\""), "{error}");
    }
}
