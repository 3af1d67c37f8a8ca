//! The audio formats: telling what a file is, and decoding it frame by frame.
//!
//! Every format finds its own way to the first frame, without tags, pictures or the end of the
//! file: a member must begin to decode while most of the file is still on its way, so nothing
//! here reads a byte it does not need.

pub mod aiff;
pub mod flac;
pub(super) mod id3;
pub mod mix;
pub mod mp3;
pub mod mp4;
pub mod ogg;
mod opus;
mod pcm;
mod vorbis;
pub mod wav;

use std::io::{self, Read, Seek, SeekFrom};

use symphonia::core::audio::Channels;
use symphonia::core::codecs::audio::AudioDecoder;

use super::error::MediaError;
use crate::base::limits::{MAX_TRACK_CHANNELS, SAMPLE_RATES};
use crate::wire::Codec;

/// Bytes that can be read from anywhere. A read may wait for them to arrive.
pub trait ByteSource: Read + Seek + Send + Sync {
    /// How many there are in all.
    fn size(&self) -> u64;
}

/// A source, whatever is behind it.
pub type Bytes = Box<dyn ByteSource>;

/// A local file.
#[derive(Debug)]
pub struct FileSource {
    file: std::fs::File,
    size: u64,
}

impl FileSource {
    /// Takes an open file.
    ///
    /// # Errors
    ///
    /// When its size cannot be told.
    pub fn new(file: std::fs::File) -> io::Result<FileSource> {
        let size = file.metadata()?.len();
        Ok(FileSource { file, size })
    }
}

impl Read for FileSource {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.file.read(buf)
    }
}

impl Seek for FileSource {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

impl ByteSource for FileSource {
    fn size(&self) -> u64 {
        self.size
    }
}

/// What a file turned out to hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Layout {
    /// Frames a second.
    pub rate: u32,
    /// Samples a frame, at most [`MAX_TRACK_CHANNELS`].
    pub channels: u8,
    /// Which loudspeakers they are meant for: one bit each, as in Microsoft's channel mask. The
    /// samples of a frame stand in the order of the bits.
    pub positions: u32,
    /// Frames that the decoder yields before the first audible one.
    pub delay: u32,
}

impl Layout {
    /// Refuses what the rest of the program cannot play. Positions are the usual ones.
    pub(super) fn check(rate: u32, channels: u32, delay: u32) -> Result<Layout, FormatError> {
        if !SAMPLE_RATES.contains(&rate) {
            return Err(FormatError::Unsupported(format!("audio of {rate} Hz")));
        }
        match u8::try_from(channels) {
            Ok(channels) if (1..=MAX_TRACK_CHANNELS).contains(&channels) => {
                Ok(Layout { rate, channels, positions: mix::usual_positions(channels), delay })
            }
            _ => Err(FormatError::Unsupported(format!("audio of {channels} channels"))),
        }
    }

    /// As symphonia describes it.
    pub(super) fn of(rate: u32, channels: &Channels) -> Result<Layout, FormatError> {
        let count = u32::try_from(channels.count()).unwrap_or(u32::MAX);
        let positions = match channels {
            Channels::Positioned(positions) => u32::try_from(positions.bits()).unwrap_or(0),
            _ => 0,
        };
        Ok(Layout::check(rate, count, 0)?.with_positions(positions))
    }

    /// As a decoder of symphonia gives it.
    pub(super) fn of_decoder(decoder: &dyn AudioDecoder) -> Result<Layout, FormatError> {
        let empty = decoder.last_decoded();
        Layout::of(empty.spec().rate(), empty.spec().channels())
    }

    /// With these positions, if they are as many as the channels.
    pub(super) fn with_positions(self, positions: u32) -> Layout {
        let fits = positions.count_ones() == u32::from(self.channels);
        Layout { positions: if fits { positions } else { self.positions }, ..self }
    }
}

/// Decodes one file. Frame 0 is the first audible one.
pub trait Decoder: Send {
    /// What the file holds.
    fn layout(&self) -> Layout;

    /// Lets the next block begin at `frame` or earlier, such that everything from `frame` on is
    /// what decoding from the start would give.
    fn seek(&mut self, frame: u64) -> Result<(), FormatError>;

    /// Replaces `out` by the next frames (interleaved, as many channels as the file has) and
    /// returns the number of the first, or none at the end. Numbers rise; one below zero is
    /// encoder delay; a gap is a place that did not decode.
    fn next(&mut self, out: &mut Vec<f32>) -> Result<Option<i64>, FormatError>;

    /// How many audible frames there are, looked up or counted. Leaves the position anywhere.
    fn count(&mut self) -> Result<u64, FormatError>;
}

/// Why a file does not decode. Knows nothing of names and paths.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    /// Another kind of file, or a variety that cannot be played; with its article.
    #[error("{0}")]
    Unsupported(String),
    /// Not what its format demands.
    #[error("{0}")]
    Broken(String),
    /// Its bytes cannot be read.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl FormatError {
    /// With the name that people know the file by.
    #[must_use]
    pub fn of(self, name: &str) -> MediaError {
        let name = name.to_owned();
        match self {
            FormatError::Unsupported(found) => MediaError::Unsupported { name, found },
            FormatError::Broken(why) => MediaError::Broken { name, why },
            FormatError::Io(e) if e.kind() == io::ErrorKind::ConnectionAborted => {
                MediaError::Stopped
            }
            FormatError::Io(e) if e.kind() == io::ErrorKind::UnexpectedEof => {
                MediaError::Broken { name, why: "it ends in its very first part".into() }
            }
            FormatError::Io(e) => MediaError::doing(&format!("reading {name:?}"), &e),
        }
    }
}

impl From<symphonia::core::errors::Error> for FormatError {
    fn from(error: symphonia::core::errors::Error) -> FormatError {
        use symphonia::core::errors::Error;
        match error {
            Error::IoError(e) => FormatError::Io(e),
            other => FormatError::Broken(other.to_string()),
        }
    }
}

/// A decoder for a file that is known to be `codec`. `frames` is its audible length where that
/// is known already; it allows shortcuts, never changes what is decoded.
///
/// # Errors
///
/// When the file does not begin as such a file must.
pub fn open(
    codec: Codec,
    source: Bytes,
    frames: Option<u64>,
) -> Result<Box<dyn Decoder>, FormatError> {
    Ok(match codec {
        Codec::Flac => Box::new(flac::Flac::open(source)?),
        Codec::Wav => Box::new(wav::open(source)?),
        Codec::Mp3 => Box::new(mp3::Mp3::open(source, frames)?),
        Codec::Aac | Codec::Alac => Box::new(mp4::Mp4::open(source)?),
        Codec::Vorbis | Codec::Opus => Box::new(ogg::Ogg::open(source)?),
        Codec::Aiff => Box::new(aiff::open(source)?),
    })
}

/// Tells what a file is by its content.
///
/// # Errors
///
/// When it is none of the formats that can be played; the error names what it is.
pub fn recognise(source: &mut dyn ByteSource) -> Result<Codec, FormatError> {
    if source.size() == 0 {
        return Err(FormatError::Unsupported("an empty file".into()));
    }
    let start = skip_id3(source)?;
    let mut head = [0; 512];
    let len = read_up_to(source, start, &mut head)?;
    let head = &head[..len];
    if head.starts_with(b"fLaC") {
        return Ok(Codec::Flac);
    }
    if (head.starts_with(b"RIFF") || head.starts_with(b"RF64")) && head.get(8..12) == Some(b"WAVE")
    {
        return Ok(Codec::Wav);
    }
    if head.starts_with(b"FORM") && matches!(head.get(8..12), Some(b"AIFF" | b"AIFC")) {
        return Ok(Codec::Aiff);
    }
    if head.starts_with(b"OggS") {
        return ogg::recognise(source, start);
    }
    if head.get(4..8) == Some(b"ftyp") {
        return mp4::recognise(source);
    }
    if let Some(name) = foreign(head) {
        return Err(FormatError::Unsupported(name.into()));
    }
    if mp3::is_there(source, start)? {
        return Ok(Codec::Mp3);
    }
    let found = if is_text(head) { "a text file" } else { "not an audio file" };
    Err(FormatError::Unsupported(found.into()))
}

/// Where an `ID3v2` tag at the beginning ends; 0 without one. Its length is said in its header,
/// so not a byte of the tag (which may hold a large picture) is read.
pub(super) fn skip_id3(source: &mut dyn ByteSource) -> io::Result<u64> {
    const HEADER: usize = 10;
    let mut start = 0;
    // Some taggers put a second tag behind the first; more are nonsense.
    for _ in 0..4 {
        let mut head = [0; HEADER];
        let len = read_up_to(source, start, &mut head)?;
        if len < head.len() || !head.starts_with(b"ID3") || head[6..].iter().any(|b| *b > 0x7F) {
            break;
        }
        let body = head[6..].iter().fold(0, |sum, byte| sum << 7 | u64::from(*byte));
        let footer = if head[5] & 0x10 == 0 { 0 } else { HEADER as u64 };
        start += HEADER as u64 + body + footer;
    }
    Ok(start)
}

/// Fills `buf` from `at` on as far as there are bytes; returns how many.
pub(super) fn read_up_to(
    source: &mut (impl Read + Seek + ?Sized),
    at: u64,
    buf: &mut [u8],
) -> io::Result<usize> {
    source.seek(SeekFrom::Start(at))?;
    let mut len = 0;
    while len < buf.len() {
        match source.read(&mut buf[len..])? {
            0 => break,
            n => len += n,
        }
    }
    Ok(len)
}

/// Fills `buf` from `at` on.
pub(super) fn read_exact_at(
    source: &mut (impl Read + Seek + ?Sized),
    at: u64,
    buf: &mut [u8],
) -> io::Result<()> {
    let len = read_up_to(source, at, buf)?;
    if len < buf.len() { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
}

fn broken(why: &str) -> FormatError {
    FormatError::Broken(why.into())
}

/// Names a few files that people take for playable.
fn foreign(head: &[u8]) -> Option<&'static str> {
    let kinds: [(usize, &[u8], &str); 13] = [
        (8, b"AVI ", "a video"),
        (0, b"\x1A\x45\xDF\xA3", "a Matroska or WebM file"),
        (0, b"\x30\x26\xB2\x75", "a Windows Media file"),
        (0, b"wvpk", "a WavPack file"),
        (0, b"MAC ", "a Monkey's Audio file"),
        (0, b"DSD ", "a DSD file"),
        (0, b"caff", "a Core Audio file"),
        (0, b"MThd", "a MIDI file"),
        (0, b"\x89PNG", "a picture"),
        (0, b"\xFF\xD8\xFF", "a picture"),
        (0, b"%PDF", "a PDF document"),
        (0, b"PK\x03\x04", "a ZIP archive"),
        (0, b"\x7FELF", "a program"),
    ];
    kinds
        .iter()
        .find(|(at, mark, _)| head.get(*at..).is_some_and(|rest| rest.starts_with(mark)))
        .map(|(_, _, name)| *name)
}

fn is_text(head: &[u8]) -> bool {
    let valid = match std::str::from_utf8(head) {
        Ok(_) => true,
        // A character may be cut at the end.
        Err(e) => e.error_len().is_none(),
    };
    valid && !head.iter().any(|byte| *byte < 9)
}

#[cfg(test)]
pub(super) mod tests {
    #![expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        reason = "numbers made for the tests are small"
    )]

    use super::*;
    use std::io::Cursor;

    impl ByteSource for Cursor<Vec<u8>> {
        fn size(&self) -> u64 {
            self.get_ref().len() as u64
        }
    }

    pub fn fixture(name: &str) -> Vec<u8> {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/media").join(name);
        std::fs::read(path).expect("the fixture is committed")
    }

    pub fn bytes(data: &[u8]) -> Bytes {
        Box::new(Cursor::new(data.to_vec()))
    }

    /// Everything from `from` on, placed by frame number, gaps as zeros.
    pub fn decode_from(decoder: &mut dyn Decoder, from: u64) -> Vec<f32> {
        decoder.seek(from).expect("seeks");
        decode_on(decoder, from)
    }

    /// The same from where the decoder stands.
    pub fn decode_on(decoder: &mut dyn Decoder, from: u64) -> Vec<f32> {
        let channels = usize::from(decoder.layout().channels);
        let (mut all, mut out) = (Vec::new(), Vec::new());
        while let Some(first) = decoder.next(&mut out).expect("decodes") {
            let first = first - i64::try_from(from).expect("small");
            for (i, frame) in out.chunks(channels).enumerate() {
                let Ok(place) = usize::try_from(first + i64::try_from(i).expect("small")) else {
                    continue;
                };
                all.resize(all.len().max((place + 1) * channels), 0.0);
                all[place * channels..(place + 1) * channels].copy_from_slice(frame);
            }
        }
        all
    }

    /// The sound of the fixtures; see tests/media/make.py.
    pub fn chirp(frame: usize, rate: u32, channel: usize) -> f32 {
        let t = frame as f64 / f64::from(rate);
        let tau = std::f64::consts::TAU;
        if channel == 0 {
            (0.5 * (tau * (200.0 * t + 300.0 * t * t)).sin()) as f32
        } else {
            (0.4 * (tau * (900.0 * t - 150.0 * t * t)).sin()) as f32
        }
    }

    /// How far stereo sound from frame 0 on is from the chirps.
    pub fn chirp_error(all: &[f32], rate: u32) -> f64 {
        let wanted: Vec<f32> = (0..all.len()).map(|i| chirp(i / 2, rate, i % 2)).collect();
        rms(all, &wanted)
    }

    /// How far sound of 48 kHz is from the tones, of which every channel has another.
    pub fn tones_error(all: &[f32], channels: usize) -> f64 {
        let tone = |i: usize| {
            let turns = 200.0 * (i % channels + 1) as f64 * (i / channels) as f64 / 48_000.0;
            (0.2 * (std::f64::consts::TAU * turns).sin()) as f32
        };
        // Encoders keep only the lowest tones of the fourth, which is for effects.
        let kept = |i: &usize| i % channels != 3;
        let (mut found, mut wanted) = (Vec::new(), Vec::new());
        for i in (0..all.len()).filter(kept) {
            found.push(all[i]);
            wanted.push(tone(i));
        }
        rms(&found, &wanted)
    }

    pub fn rms(a: &[f32], b: &[f32]) -> f64 {
        assert_eq!(a.len(), b.len(), "as many samples");
        let sum: f64 = a.iter().zip(b).map(|(x, y)| f64::from(x - y).powi(2)).sum();
        (sum / a.len().max(1) as f64).sqrt()
    }

    fn named(data: &[u8]) -> String {
        match recognise(&mut Cursor::new(data.to_vec())) {
            Ok(codec) => format!("{codec:?}"),
            Err(e) => e.to_string(),
        }
    }

    #[test]
    fn files_are_known_by_their_content() {
        assert_eq!(named(&fixture("stereo.flac")), "Flac");
        assert_eq!(named(&fixture("cut.flac")), "Flac");
        assert_eq!(named(&fixture("cbr.mp3")), "Mp3");
        assert_eq!(named(&fixture("vbr.mp3")), "Mp3");
        assert_eq!(named(&fixture("text.mp3")), "a text file");
        assert_eq!(named(b""), "an empty file");
        assert_eq!(named(b"RIFF\0\0\0\0WAVE"), "Wav");
        assert_eq!(named(b"FORM\0\0\0\0AIFC"), "Aiff");
        assert_eq!(named(&fixture("stereo.m4a")), "Aac");
        assert_eq!(named(&fixture("lossless.m4a")), "Alac");
        assert_eq!(named(&fixture("stereo.ogg")), "Vorbis");
        assert_eq!(named(&fixture("stereo.opus")), "Opus");
        assert_eq!(named(b"OggS aaaaaaaaaaaaaaaaaaaaaaaaaaa"), "an Ogg file of an unknown kind");
        assert_eq!(named(&[0xFF; 4096]), "not an audio file");
    }

    #[test]
    fn a_flac_behind_an_id3_tag_is_a_flac() {
        let mut data = b"ID3\x04\0\0\0\0\x01\x00".to_vec();
        data.extend([0; 128]);
        data.extend(fixture("mono24.flac"));
        assert_eq!(named(&data), "Flac");
        let mut decoder = open(Codec::Flac, bytes(&data), None).expect("opens");
        assert_eq!(decoder.count().expect("counts"), 22_050);
    }

    #[test]
    fn hostile_heads_end_in_an_error() {
        let mut rng = crate::base::rng::Rng::new(7);
        for name in ["stereo.flac", "cbr.mp3", "vbr.mp3", "mono24.flac"] {
            let clean = fixture(name);
            for round in 0..60 {
                let mut data = clean.clone();
                for _ in 0..4 {
                    let place = usize::try_from(rng.below(400)).expect("small");
                    data[place] = u8::try_from(rng.below(256)).expect("a byte");
                }
                data.truncate(usize::try_from(rng.below(data.len() as u64)).expect("small"));
                let Ok(codec) = recognise(&mut Cursor::new(data.clone())) else { continue };
                // A panic inside a third-party decoder is caught by the callers of this folder.
                let result = std::panic::catch_unwind(|| {
                    let mut decoder = open(codec, bytes(&data), None)?;
                    decoder.count()?;
                    decoder.seek(100)?;
                    let mut out = Vec::new();
                    while decoder.next(&mut out)?.is_some() {}
                    Ok::<_, FormatError>(())
                });
                assert!(result.is_ok(), "{name} round {round} panicked");
            }
        }
    }
}
