//! The packets of a Vorbis stream, decoded by symphonia.
//!
//! Its setup header describes code books in a few bytes each that decoders unfold into tables.
//! What they would cost is added up here first, because 256 of the largest that symphonia takes
//! would be 4 GiB.
//!
//! Pairs of channels that are coupled must be taken apart in the reverse of their order
//! (specification, section 4.3.5). symphonia 0.6.1 goes through them forwards, which makes no
//! difference in stereo and noise of 5.1, where one channel is in several pairs. So it is given
//! them the other way round.

use symphonia::core::codecs::audio::well_known::CODEC_ID_VORBIS;
use symphonia::core::codecs::audio::{AudioCodecParameters, AudioDecoder, AudioDecoderOptions};
use symphonia::core::packet::Packet;
use symphonia::core::units::{Duration, Timestamp};
use symphonia::default::codecs::VorbisDecoder;

use super::ogg::PacketDecoder;
use super::{FormatError, Layout, broken};

/// Bytes that the tables of all code books may have. libvorbis makes some of 2 MiB in all.
const MAX_TABLES: u64 = 48 * 1024 * 1024;

/// Bytes in front of the bits of a header: its number and a name.
const HEAD: usize = 7;

/// A Vorbis stream being decoded.
pub(super) struct Vorbis {
    decoder: VorbisDecoder,
    layout: Layout,
}

impl Vorbis {
    /// From the first and the third header.
    pub fn new(head: &[u8], setup: &[u8]) -> Result<Vorbis, FormatError> {
        let rate = head.get(12..16).ok_or_else(|| broken("its first header is cut short"))?;
        let rate = u32::from_le_bytes([rate[0], rate[1], rate[2], rate[3]]);
        Layout::check(rate, head[11].into(), 0)?;
        let nonsense = || broken("its setup header makes no sense");
        let mut setup = setup.to_vec();
        let mut bits = Bits::of(&setup).ok_or_else(nonsense)?;
        if tables(&mut bits).ok_or_else(nonsense)? > MAX_TABLES {
            return Err(broken("its code books are larger than any encoder makes them"));
        }
        let couplings = couplings(&mut bits, head[11]).ok_or_else(nonsense)?;
        for list in couplings {
            list.reverse(&mut setup[HEAD..]);
        }
        let extra = [head, &setup].concat();
        let mut params = AudioCodecParameters::new();
        params.for_codec(CODEC_ID_VORBIS).with_extra_data(extra.into());
        let decoder = VorbisDecoder::try_new(&params, &AudioDecoderOptions::default())?;
        let layout = Layout::of_decoder(&decoder)?;
        Ok(Vorbis { decoder, layout })
    }
}

impl PacketDecoder for Vorbis {
    fn layout(&self) -> Layout {
        self.layout
    }

    fn reset(&mut self) {
        self.decoder.reset();
    }

    fn decode(&mut self, packet: &[u8], out: &mut Vec<f32>) -> Result<(), FormatError> {
        out.clear();
        let packet = Packet::new(0, Timestamp::ZERO, Duration::ZERO, packet);
        self.decoder.decode(&packet)?.copy_to_vec_interleaved(out);
        Ok(())
    }

    /// A packet overlaps with the one before it, no further.
    fn preroll(&self) -> i64 {
        0
    }
}

/// Bytes of the tables that the code books of a setup header unfold to. (Vorbis I specification,
/// section 3.2.1.)
fn tables(bits: &mut Bits<'_>) -> Option<u64> {
    /// Bytes for the code word of an entry, in the tree that is searched and while it is built.
    const ENTRY: u64 = 32;
    let books = bits.take(8)? + 1;
    let mut sum = 0;
    for _ in 0..books {
        bits.take(24)?;
        let (dimensions, entries) = (bits.take(16)?, bits.take(24)?);
        skip_lengths(bits, entries)?;
        sum += entries * ENTRY;
        let kind = bits.take(4)?;
        if kind == 0 {
            continue;
        }
        sum += entries * dimensions * 4;
        // Two values of 32 bits before the width of the others.
        bits.skip(64)?;
        let width = bits.take(4)? + 1;
        bits.skip(1)?;
        let values = if kind == 1 { root(entries, dimensions) } else { entries * dimensions };
        bits.skip(width * values)?;
    }
    Some(sum)
}

/// Where the pairs of coupled channels of one mapping stand.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Couplings {
    /// The first bit.
    at: u64,
    /// Bits of a pair.
    width: u64,
    count: u64,
}

impl Couplings {
    fn reverse(self, data: &mut [u8]) {
        let pair = |number: u64| self.at + number * self.width;
        for number in 0..self.count / 2 {
            let other = self.count - 1 - number;
            for bit in 0..self.width {
                swap(data, pair(number) + bit, pair(other) + bit);
            }
        }
    }
}

/// Exchanges two bits that are there.
fn swap(data: &mut [u8], a: u64, b: u64) {
    let place = |bit: u64| (usize::try_from(bit / 8).unwrap_or(usize::MAX), 1_u8 << (bit % 8));
    let ((byte_a, mask_a), (byte_b, mask_b)) = (place(a), place(b));
    if (data[byte_a] & mask_a == 0) != (data[byte_b] & mask_b == 0) {
        data[byte_a] ^= mask_a;
        data[byte_b] ^= mask_b;
    }
}

/// The pairs of every mapping; `bits` stand behind the code books. (Section 4.2.4.)
fn couplings(bits: &mut Bits<'_>, channels: u8) -> Option<Vec<Couplings>> {
    for _ in 0..=bits.take(6)? {
        bits.skip(16)?;
    }
    for _ in 0..=bits.take(6)? {
        skip_floor(bits)?;
    }
    for _ in 0..=bits.take(6)? {
        skip_residue(bits)?;
    }
    let channels = u64::from(channels);
    let width = 2 * u64::from(u64::BITS - channels.saturating_sub(1).leading_zeros());
    let mut found = Vec::new();
    for _ in 0..=bits.take(6)? {
        bits.skip(16)?;
        let submaps = if bits.take(1)? == 1 { bits.take(4)? + 1 } else { 1 };
        if bits.take(1)? == 1 {
            let count = bits.take(8)? + 1;
            found.push(Couplings { at: bits.at, width, count });
            bits.skip(count * width)?;
        }
        bits.skip(2)?;
        if submaps > 1 {
            bits.skip(4 * channels)?;
        }
        bits.skip(24 * submaps)?;
    }
    Some(found)
}

fn skip_floor(bits: &mut Bits<'_>) -> Option<()> {
    if bits.take(16)? == 0 {
        bits.skip(8 + 16 + 16 + 6 + 8)?;
        let books = bits.take(4)? + 1;
        return bits.skip(8 * books);
    }
    let partitions = bits.take(5)?;
    let classes: Vec<u64> = (0..partitions).map(|_| bits.take(4)).collect::<Option<_>>()?;
    let mut dimensions = [0; 16];
    let used = classes.iter().max().map_or(0, |last| last + 1);
    for (_, dimension) in (0..used).zip(&mut dimensions) {
        *dimension = bits.take(3)? + 1;
        let subclasses = bits.take(2)?;
        bits.skip(if subclasses > 0 { 8 } else { 0 })?;
        bits.skip(8 << subclasses)?;
    }
    bits.skip(2)?;
    let range = bits.take(4)?;
    let places = classes.iter().filter_map(|class| dimensions.get(usize::try_from(*class).ok()?));
    let places: u64 = places.sum();
    bits.skip(range * places)
}

fn skip_residue(bits: &mut Bits<'_>) -> Option<()> {
    bits.skip(16 + 24 + 24 + 24)?;
    let classes = bits.take(6)? + 1;
    bits.skip(8)?;
    let mut books = 0;
    for _ in 0..classes {
        books += bits.take(3)?.count_ones();
        if bits.take(1)? == 1 {
            books += bits.take(5)?.count_ones();
        }
    }
    bits.skip(8 * u64::from(books))
}

fn skip_lengths(bits: &mut Bits<'_>, entries: u64) -> Option<()> {
    if bits.take(1)? == 1 {
        bits.skip(5)?;
        let mut known = 0;
        while known < entries {
            known += bits.take(u64::from(u64::BITS - (entries - known).leading_zeros()))?;
        }
        return Some(());
    }
    if bits.take(1)? == 0 {
        return bits.skip(5 * entries);
    }
    for _ in 0..entries {
        if bits.take(1)? == 1 {
            bits.skip(5)?;
        }
    }
    Some(())
}

/// The largest number whose power is not above `value`.
fn root(value: u64, power: u64) -> u64 {
    let power = u32::try_from(power).unwrap_or(u32::MAX);
    let fits = |n: u64| n.checked_pow(power).is_some_and(|product| product <= value);
    let (mut low, mut high) = (0, value + 1);
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if fits(middle) { low = middle } else { high = middle }
    }
    low
}

/// Bits of a header, lowest first.
struct Bits<'a> {
    data: &'a [u8],
    at: u64,
}

impl Bits<'_> {
    /// Those of a setup header.
    fn of(setup: &[u8]) -> Option<Bits<'_>> {
        Some(Bits { data: setup.strip_prefix(b"\x05vorbis")?, at: 0 })
    }

    /// At most 32.
    fn take(&mut self, count: u64) -> Option<u64> {
        let mut value = 0;
        for place in 0..count {
            let byte = self.data.get(usize::try_from(self.at / 8).ok()?)?;
            value |= u64::from(byte >> (self.at % 8) & 1) << place;
            self.at += 1;
        }
        Some(value)
    }

    fn skip(&mut self, count: u64) -> Option<()> {
        self.at = self.at.checked_add(count)?;
        (self.at <= self.data.len() as u64 * 8).then_some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A setup header of `books` code books with `entries` entries in 32 dimensions, in a few
    /// bytes each.
    fn setup(books: u8, entries: u32) -> Vec<u8> {
        let mut bits = Vec::new();
        let mut put = |value: u64, count: u32| bits.extend((0..count).map(|bit| value >> bit & 1));
        put(u64::from(books) - 1, 8);
        for _ in 0..books {
            put(0x56_4342, 24);
            put(32, 16);
            put(entries.into(), 24);
            // All code words in order, and of one length.
            put(1, 1);
            put(16, 5);
            put(entries.into(), u32::BITS - entries.leading_zeros());
            put(1, 4);
            put(0, 64);
            put(0, 4);
            put(0, 1);
            put(0, 1);
        }
        let bytes = bits.chunks(8).map(|byte| byte.iter().rev().fold(0, |sum, bit| sum << 1 | bit));
        let bytes = bytes.map(|byte| u8::try_from(byte).expect("eight bits"));
        b"\x05vorbis".iter().copied().chain(bytes).collect()
    }

    #[test]
    fn code_books_that_unfold_to_gigabytes_are_refused_unread() {
        let tables = |setup: &[u8]| tables(&mut Bits::of(setup).expect("a setup header"));
        assert_eq!(tables(&setup(2, 100)), Some(2 * (100 * 32 + 100 * 128)));
        let head = b"\x01vorbis\0\0\0\0\x02\x44\xac\0\0";
        let error = Vorbis::new(head, &setup(255, 131_072)).err().expect("refused");
        assert!(error.to_string().contains("code books"), "{error}");
        assert_eq!(tables(&setup(2, 100)[..20]), None);
    }

    #[test]
    fn pairs_are_exchanged_bit_by_bit() {
        let mut data = [0b1010_0110, 0b0000_0011];
        Couplings { at: 2, width: 4, count: 3 }.reverse(&mut data);
        let bits = |data: [u8; 2]| (0..16).map(|n| data[n / 8] >> (n % 8) & 1).collect::<Vec<_>>();
        let (now, before) = (bits(data), bits([0b1010_0110, 0b0000_0011]));
        assert_eq!(now[..2], before[..2]);
        assert_eq!(now[2..6], before[10..14]);
        assert_eq!(now[6..10], before[6..10]);
        assert_eq!(now[10..14], before[2..6]);
    }

    #[test]
    fn roots_are_whole() {
        assert_eq!(
            (root(27, 3), root(26, 3), root(1, 5), root(0, 2), root(100, 1)),
            (3, 2, 1, 0, 100)
        );
    }
}
