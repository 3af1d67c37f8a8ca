//! MPEG-1, 2 and 2.5 layer III. The frames are found here, symphonia decodes them.
//!
//! Finding them ourselves makes the numbering exact: audible frame `n` is the same for whoever
//! decodes from the start and whoever joins in the middle, tags at either end are never read,
//! and in a file of constant bit rate a joiner computes where to begin instead of walking
//! through bytes that it would have to fetch first.
//!
//! ```text
//!  [ID3v2] [Info frame: counts, delay] [frame 0] [frame 1] ...            [ID3v1, APE]
//!                                       |<- delay ->|<- audible frames ->|<- padding
//! ```
//!
//! Public sources: ISO/IEC 11172-3 and 13818-3; the LAME tag as its authors describe it
//! (Mp3 Info Tag rev 1).

use std::io::{self, BufReader};

use symphonia::core::codecs::audio::well_known::CODEC_ID_MP3;
use symphonia::core::codecs::audio::{AudioCodecParameters, AudioDecoder, AudioDecoderOptions};
use symphonia::core::packet::Packet;
use symphonia::core::units::{Duration, Timestamp};
use symphonia::default::codecs::MpaDecoder;

use super::{ByteSource, Bytes, Decoder, FormatError, Layout, read_up_to};

/// Bytes after the tag in which the first frame must be found: taggers leave some padding.
const MAX_JUNK: u64 = 256 * 1024;

/// Frames decoded and dropped before the one that is sought. A frame may refer to 511 bytes of
/// main data before it (255 in MPEG-2), which at the lowest bit rates are 17 frames; two more
/// fill the filter bank.
const PREROLL: u64 = 24;

/// What every decoder adds by itself: the filter bank's delay.
const DECODER_DELAY: u32 = 529;

/// The four bytes in front of every frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Header {
    mpeg1: bool,
    rate: u32,
    channels: u8,
    /// Bits a second.
    bitrate: u32,
    /// Bytes with the header.
    len: u64,
}

impl Header {
    fn parse(word: [u8; 4]) -> Option<Header> {
        const V1: [u32; 14] = [32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320];
        const V2: [u32; 14] = [8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160];
        const RATES: [u32; 3] = [44_100, 48_000, 32_000];
        let [sync, b, c, d] = word;
        let layer_three = b & 0b110 == 0b010;
        if sync != 0xFF || b & 0xE0 != 0xE0 || !layer_three {
            return None;
        }
        let divide = match b >> 3 & 3 {
            3 => 1,
            2 => 2,
            0 => 4,
            _ => return None,
        };
        let mpeg1 = divide == 1;
        let table = if mpeg1 { V1 } else { V2 };
        // Index 0 is "free" and 15 forbidden.
        let bitrate = table.get(usize::from(c >> 4).checked_sub(1)?)? * 1000;
        let rate = RATES.get(usize::from(c >> 2 & 3))? / divide;
        let slots = if mpeg1 { 144 } else { 72 };
        let len = u64::from(slots * bitrate / rate) + u64::from(c >> 1 & 1);
        let channels = if d >> 6 == 3 { 1 } else { 2 };
        Some(Header { mpeg1, rate, channels, bitrate, len })
    }

    /// Audio frames in it.
    fn frames(&self) -> u64 {
        if self.mpeg1 { 1152 } else { 576 }
    }

    /// Bytes between the header and the main data, without a checksum.
    fn side_len(&self) -> usize {
        match (self.mpeg1, self.channels) {
            (true, 2) => 32,
            (true, _) | (false, 2) => 17,
            (false, _) => 9,
        }
    }

    fn is_like(&self, other: &Header) -> bool {
        self.mpeg1 == other.mpeg1 && self.rate == other.rate
    }
}

/// What an encoder says about the file in a frame that holds no sound.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
struct InfoTag {
    constant: bool,
    frames: Option<u32>,
    delay: u32,
    padding: u32,
}

impl InfoTag {
    fn parse(header: &Header, data: &[u8]) -> Option<InfoTag> {
        if data.get(36..40) == Some(b"VBRI") {
            return Some(InfoTag::default());
        }
        let tag = data.get(4 + header.side_len()..)?;
        let constant = match tag.get(..4)? {
            b"Info" => true,
            b"Xing" => false,
            _ => return None,
        };
        let flags = be32(tag, 4)?;
        let frames = (flags & 1 != 0).then(|| be32(tag, 8)).flatten();
        // Frames, bytes, table of contents and quality are each there or not.
        let sizes = [(1, 4), (2, 4), (4, 100), (8, 4)];
        let end = sizes.iter().filter(|(bit, _)| flags & bit != 0).fold(8, |at, (_, len)| at + len);
        let (delay, padding) = encoder_delay(tag.get(end..).unwrap_or_default());
        Some(InfoTag { constant, frames, delay, padding })
    }
}

/// Delay and padding as LAME and its likes write them, the decoder's own delay included.
fn encoder_delay(lame: &[u8]) -> (u32, u32) {
    let known = [&b"LAME"[..], b"Lavf", b"Lavc"].iter().any(|name| lame.starts_with(name));
    match lame.get(21..24) {
        Some(&[a, b, c]) if known => {
            let both = u32::from_be_bytes([0, a, b, c]);
            (DECODER_DELAY + (both >> 12), (both & 0xFFF).saturating_sub(DECODER_DELAY))
        }
        // Nobody knows what the encoder put in front, and other players cut nothing off either.
        _ => (0, 0),
    }
}

fn be32(data: &[u8], at: usize) -> Option<u32> {
    let bytes = data.get(at..at + 4)?;
    Some(u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
}

/// An MP3 file being decoded.
pub struct Mp3 {
    frames: Frames,
    decoder: MpaDecoder,
    layout: Layout,
    tag: InfoTag,
    /// Bits a second, if every frame has as many and nothing lies between them.
    constant: Option<u32>,
    data: Vec<u8>,
}

impl Mp3 {
    /// Finds the first frame. `known` is the audible length, if somebody has counted it.
    ///
    /// # Errors
    ///
    /// When there is no frame.
    pub fn open(mut source: Bytes, known: Option<u64>) -> Result<Mp3, FormatError> {
        let start = super::skip_id3(source.as_mut())?;
        let Some((at, header)) = find_first(source.as_mut(), start)? else {
            return Err(FormatError::Broken("no MP3 frame is found in it".into()));
        };
        let mut data = vec![0; usize::try_from(header.len).expect("below 2 KiB")];
        let there = read_up_to(&mut source, at, &mut data)?;
        let tag = InfoTag::parse(&header, &data[..there]);
        let first = if tag.is_some() { at + header.len } else { at };
        let tag = tag.unwrap_or_default();
        let mut frames = Frames::new(source, first, header);
        // The frame that holds the tag may have other channels than the sound.
        let header = frames.peek()?.unwrap_or(header);
        let layout = Layout::check(header.rate, u32::from(header.channels), tag.delay)?;
        let constant = known.and_then(|known| constant_rate(&tag, &header, known));
        Ok(Mp3 { frames, decoder: decoder()?, layout, tag, constant, data })
    }

    /// Decodes what is in `data`; what does not decode is silence of the same length.
    fn decode(&mut self, header: &Header, out: &mut Vec<f32>) {
        out.clear();
        if header.channels == self.layout.channels {
            let duration = Duration::from(header.frames());
            let data = self.data.as_slice();
            let packet = Packet::new(0, Timestamp::ZERO, duration, data);
            if let Ok(decoded) = self.decoder.decode(&packet) {
                decoded.copy_to_vec_interleaved(out);
            }
        }
        let samples = header.frames() * u64::from(self.layout.channels);
        out.resize(usize::try_from(samples).expect("at most 2304"), 0.0);
    }
}

impl Decoder for Mp3 {
    fn layout(&self) -> Layout {
        self.layout
    }

    fn seek(&mut self, frame: u64) -> Result<(), FormatError> {
        self.decoder = decoder()?;
        let step = self.frames.like.frames();
        let target =
            (frame.saturating_add(u64::from(self.tag.delay)) / step).saturating_sub(PREROLL);
        if let Some(bitrate) = self.constant
            && self.frames.jump(target, bitrate)?
        {
            return Ok(());
        }
        Ok(self.frames.walk_to(target)?)
    }

    fn next(&mut self, out: &mut Vec<f32>) -> Result<Option<i64>, FormatError> {
        let Some((number, header)) = self.frames.read(&mut self.data)? else { return Ok(None) };
        self.decode(&header, out);
        let first = number * header.frames();
        Ok(i64::try_from(first).ok().map(|first| first - i64::from(self.tag.delay)))
    }

    fn count(&mut self) -> Result<u64, FormatError> {
        self.frames.walk_to(u64::MAX)?;
        let counted = self.frames.number;
        // A file that was cut short has lost its padding before its sound.
        let whole = self.tag.frames.is_some_and(|frames| counted >= u64::from(frames));
        let padding = if whole { self.tag.padding } else { 0 };
        let all = counted * self.frames.like.frames();
        Ok(all.saturating_sub(u64::from(self.tag.delay) + u64::from(padding)))
    }
}

fn decoder() -> Result<MpaDecoder, FormatError> {
    let mut params = AudioCodecParameters::new();
    params.for_codec(CODEC_ID_MP3);
    Ok(MpaDecoder::try_new(&params, &AudioDecoderOptions::default().gapless(false))?)
}

/// The bit rate, if the encoder says that it is constant and its count agrees with the one made
/// at import: then nothing foreign lies between the frames.
fn constant_rate(tag: &InfoTag, header: &Header, known: u64) -> Option<u32> {
    let all = u64::from(tag.frames?) * header.frames();
    let audible = all.saturating_sub(u64::from(tag.delay) + u64::from(tag.padding));
    (tag.constant && audible == known).then_some(header.bitrate)
}

/// The frames of a file, one after the other.
struct Frames {
    source: BufReader<Bytes>,
    size: u64,
    /// Where the buffer stands, so that a short step costs no system call.
    cursor: u64,
    first: u64,
    like: Header,
    /// Where the next frame is expected.
    at: u64,
    /// Its number.
    number: u64,
}

impl Frames {
    fn new(source: Bytes, first: u64, like: Header) -> Frames {
        let size = source.size();
        let source = BufReader::with_capacity(16 * 1024, source);
        // Beyond every file, so that the first read seeks.
        let cursor = u64::MAX;
        Frames { source, size, cursor, first, like, at: first, number: 0 }
    }

    /// The next frame's header, finding it again where something foreign lies in between.
    fn peek(&mut self) -> io::Result<Option<Header>> {
        let Some(header) = self.header_at(self.at)? else { return self.resync() };
        // The last frame may be cut off.
        Ok((self.at + header.len <= self.size).then_some(header))
    }

    /// Reads the next frame.
    fn read(&mut self, data: &mut Vec<u8>) -> io::Result<Option<(u64, Header)>> {
        let Some(header) = self.peek()? else { return Ok(None) };
        data.resize(usize::try_from(header.len).expect("below 2 KiB"), 0);
        self.fetch(self.at, data)?;
        let number = self.number;
        self.step(&header);
        Ok(Some((number, header)))
    }

    fn step(&mut self, header: &Header) {
        self.at += header.len;
        self.number += 1;
    }

    /// Goes to frame `target`, or to the end if there are fewer.
    fn walk_to(&mut self, target: u64) -> io::Result<()> {
        if target < self.number {
            self.at = self.first;
            self.number = 0;
        }
        while self.number < target {
            let Some(header) = self.peek()? else { break };
            self.step(&header);
        }
        Ok(())
    }

    /// Goes to frame `target` of a file of constant bit rate. Frames differ by one byte of
    /// padding, which encoders spread in slightly different ways.
    fn jump(&mut self, target: u64, bitrate: u32) -> io::Result<bool> {
        let slots = if self.like.mpeg1 { 144 } else { 72 };
        let offset = target * slots * u64::from(bitrate) / u64::from(self.like.rate);
        let expected = self.first + offset;
        for at in [expected, expected + 1, expected.saturating_sub(1), expected + 2] {
            if at >= self.first && self.is_frame(at)? {
                self.at = at;
                self.number = target;
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether a frame begins at `at`: its header, and another one where it ends.
    fn is_frame(&mut self, at: u64) -> io::Result<bool> {
        let Some(header) = self.header_at(at)? else { return Ok(false) };
        let end = at + header.len;
        Ok(end == self.size || self.header_at(end)?.is_some())
    }

    fn resync(&mut self) -> io::Result<Option<Header>> {
        for at in self.at + 1..self.size.saturating_sub(3) {
            if self.is_frame(at)? {
                self.at = at;
                return self.header_at(at);
            }
        }
        self.at = self.size;
        Ok(None)
    }

    fn header_at(&mut self, at: u64) -> io::Result<Option<Header>> {
        if at + 4 > self.size {
            return Ok(None);
        }
        let mut word = [0; 4];
        self.fetch(at, &mut word)?;
        Ok(Header::parse(word).filter(|header| header.is_like(&self.like)))
    }

    fn fetch(&mut self, at: u64, buf: &mut [u8]) -> io::Result<()> {
        use io::{Read, Seek};
        match i64::try_from(i128::from(at) - i128::from(self.cursor)) {
            Ok(by) if self.cursor != u64::MAX => self.source.seek_relative(by)?,
            _ => {
                self.source.seek(io::SeekFrom::Start(at))?;
            }
        }
        // Unknown until the read has succeeded.
        self.cursor = u64::MAX;
        self.source.read_exact(buf)?;
        self.cursor = at + buf.len() as u64;
        Ok(())
    }
}

/// Whether there is MP3 sound from `start` on.
pub(super) fn is_there(source: &mut dyn ByteSource, start: u64) -> io::Result<bool> {
    Ok(find_first(source, start)?.is_some())
}

/// The first frame from `start` on that two others like it follow, or the end of the file.
fn find_first(source: &mut dyn ByteSource, start: u64) -> io::Result<Option<(u64, Header)>> {
    const STEP: usize = 8 * 1024;
    let mut window = vec![0; STEP + 3];
    let mut at = start;
    while at < start.saturating_add(MAX_JUNK) {
        let there = read_up_to(source, at, &mut window)?;
        for (place, word) in window[..there].windows(4).enumerate() {
            let header = Header::parse([word[0], word[1], word[2], word[3]]);
            let place = at + place as u64;
            if let Some(header) = header
                && is_followed(source, place, header)?
            {
                return Ok(Some((place, header)));
            }
        }
        if there < window.len() {
            break;
        }
        at += STEP as u64;
    }
    Ok(None)
}

fn is_followed(source: &mut dyn ByteSource, at: u64, header: Header) -> io::Result<bool> {
    let mut end = at + header.len;
    for _ in 0..2 {
        let mut word = [0; 4];
        if read_up_to(source, end, &mut word)? < word.len() {
            return Ok(end <= source.size());
        }
        match Header::parse(word) {
            Some(next) if next.is_like(&header) => end += next.len,
            _ => return Ok(false),
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{bytes, chirp, decode_from, fixture, rms};
    use super::*;

    fn open(name: &str) -> Mp3 {
        let frames =
            Mp3::open(bytes(&fixture(name)), None).expect("opens").count().expect("counts");
        Mp3::open(bytes(&fixture(name)), Some(frames)).expect("opens")
    }

    fn wanted(frames: std::ops::Range<usize>) -> Vec<f32> {
        frames.flat_map(|i| [chirp(i, 44_100, 0), chirp(i, 44_100, 1)]).collect()
    }

    #[test]
    fn delay_and_padding_are_trimmed_to_the_frame() {
        let mut decoder = open("cbr.mp3");
        assert_eq!(decoder.layout().rate, 44_100);
        assert_eq!(decoder.count().expect("counts"), 110_250);
        let all = decode_from(&mut decoder, 0);
        let heard = &all[20_000 * 2..60_000 * 2];
        let error = |start| rms(heard, &wanted(start..start + 40_000));
        // Frame 0 is where it was before encoding: a shift by one either way is worse.
        let (before, right, after) = (error(19_999), error(20_000), error(20_001));
        assert!(right < 0.02 && before > 2.0 * right && after > 2.0 * right, "{right}");
    }

    #[test]
    fn without_an_encoders_tag_nothing_is_cut_off() {
        let mut decoder = open("vbr.mp3");
        assert_eq!(decoder.tag, InfoTag::default());
        let frames = decoder.count().expect("counts");
        assert!((110_250..110_250 + 4 * 1152).contains(&frames), "{frames}");
        assert!(decoder.constant.is_none());
    }

    #[test]
    fn a_seek_gives_what_decoding_from_the_start_gives() {
        for name in ["cbr.mp3", "vbr.mp3"] {
            let mut decoder = open(name);
            let all = decode_from(&mut decoder, 0);
            for from in [1, 1151, 30_000, 60_001, 100_000] {
                let rest = decode_from(&mut decoder, from);
                let place = usize::try_from(from).expect("small") * 2;
                let error = rms(&rest, &all[place..]);
                assert!(error < 1e-4, "{name} from {from}: {error}");
            }
        }
    }

    #[test]
    fn a_constant_bit_rate_is_sought_without_walking() {
        let mut decoder = open("cbr.mp3");
        assert_eq!(decoder.constant, Some(128_000));
        for target in 0..90 {
            decoder.frames.walk_to(target).expect("walks");
            let walked = decoder.frames.at;
            assert!(decoder.frames.jump(target, 128_000).expect("reads"));
            assert_eq!(decoder.frames.at, walked, "frame {target}");
        }
    }

    #[test]
    fn foreign_bytes_between_frames_do_not_end_the_song() {
        let clean = fixture("cbr.mp3");
        let mut decoder = open("cbr.mp3");
        decoder.frames.walk_to(40).expect("walks");
        let at = usize::try_from(decoder.frames.at).expect("small");
        let mut data = clean[..at].to_vec();
        data.extend([0x55; 777]);
        data.extend(&clean[at..]);
        let mut patched = Mp3::open(bytes(&data), None).expect("opens");
        assert_eq!(patched.count().expect("counts"), 110_250);
    }

    #[test]
    fn a_file_cut_short_ends_early() {
        let clean = fixture("cbr.mp3");
        let mut decoder = Mp3::open(bytes(&clean[..20_000]), None).expect("opens");
        let frames = decoder.count().expect("counts");
        assert!((50_000..56_000).contains(&frames), "{frames}");
        assert!(decode_from(&mut decoder, frames).is_empty());
    }

    #[test]
    fn headers_of_other_layers_and_forbidden_values_are_none() {
        for word in [
            [0xFF, 0xFD, 0x90, 0x00],
            [0xFF, 0xEB, 0x90, 0x00],
            [0xFF, 0xFB, 0x00, 0x00],
            [0xFF, 0xFB, 0xF0, 0x00],
            [0xFF, 0xFB, 0x9C, 0x00],
            [0xFE, 0xFB, 0x90, 0x00],
        ] {
            assert_eq!(Header::parse(word), None, "{word:?}");
        }
        let header = Header::parse([0xFF, 0xFB, 0x92, 0x00]).expect("128 kbit/s, padded");
        assert_eq!((header.rate, header.len, header.channels), (44_100, 418, 2));
    }
}
