//! FLAC in its own container (RFC 9639), decoded by symphonia.
//!
//! What symphonia is given is not the file but a view of it: the stream info and the seek
//! table, then the audio frames. Pictures and comments are stepped over unread, so that a
//! cover of some megabytes delays no start, and no length in them can make anybody allocate.

use std::io::{self, Read, Seek, SeekFrom};

use symphonia::core::audio::GenericAudioBufferRef;
use symphonia::core::codecs::CodecParameters;
use symphonia::core::codecs::audio::{AudioDecoder, AudioDecoderOptions};
use symphonia::core::errors::Error;
use symphonia::core::formats::{FormatOptions, FormatReader, SeekMode, SeekTo};
use symphonia::core::io::{MediaSource, MediaSourceStream, MediaSourceStreamOptions};
use symphonia::core::packet::Packet;
use symphonia::core::units::Timestamp;
use symphonia::default::codecs::FlacDecoder;
use symphonia::default::formats::FlacReader;

use super::{Bytes, Decoder, FormatError, Layout, broken, read_exact_at};

/// Metadata blocks before the audio; a file has a handful.
const MAX_BLOCKS: usize = 1024;

/// Bytes of a seek table that is used: a point every second for eight hours.
const MAX_SEEK_TABLE: u64 = 512 * 1024;

/// Frames that do not decode, one after the other, before the file is given up.
const MAX_ERRORS: usize = 1000;

/// Seconds from the beginning that are reached by decoding up to there, not by searching.
const NEAR_SECONDS: u64 = 2;

const STREAM_INFO: u8 = 0;
const SEEK_TABLE: u8 = 3;
/// The block of textual tags.
const COMMENT: u8 = 4;
const LAST: u8 = 0x80;

/// A FLAC file being decoded.
pub struct Flac {
    /// None only after a rewind has failed.
    reader: Option<FlacReader<'static>>,
    decoder: FlacDecoder,
    layout: Layout,
    /// Audio frames that the stream info promises; a writer into a pipe leaves it open.
    promised: Option<u64>,
    /// The last frame number given out since the last seek. A damaged file may number its frames
    /// as it likes.
    given: Option<i64>,
}

impl Flac {
    /// Reads the heads of the metadata blocks and the first frame's.
    ///
    /// # Errors
    ///
    /// When they are not those of a FLAC file that can be played.
    pub fn open(mut source: Bytes) -> Result<Flac, FormatError> {
        let blocks = blocks(&mut source)?;
        let view = view(source, &blocks)?;
        let options = MediaSourceStreamOptions::default();
        let stream = MediaSourceStream::new(Box::new(view), options);
        let reader = FlacReader::try_new(stream, FormatOptions::default())?;
        let track = reader.tracks().first().ok_or_else(|| broken("it has no audio"))?;
        let Some(CodecParameters::Audio(params)) = &track.codec_params else {
            return Err(broken("it has no audio"));
        };
        let channels = params.channels.as_ref().ok_or_else(|| broken("it has no audio"))?;
        let layout = Layout::of(params.sample_rate.unwrap_or(0), channels)?;
        let decoder = FlacDecoder::try_new(params, &AudioDecoderOptions::default())?;
        let promised = track.num_frames;
        Ok(Flac { reader: Some(reader), decoder, layout, promised, given: None })
    }

    fn seek_reader(&mut self, frame: u64) -> Result<(), Error> {
        let ts = i64::try_from(frame).map_or(Timestamp::ZERO, Timestamp::from);
        let to = SeekTo::Timestamp { ts, track_id: 0 };
        self.reader()?.seek(SeekMode::Accurate, to).map(|_| ())
    }

    /// Goes to the FLAC frame that holds `frame`.
    fn search(&mut self, frame: u64) -> Result<(), FormatError> {
        self.given = None;
        match self.seek_reader(frame) {
            Ok(()) => Ok(()),
            Err(Error::IoError(e)) if is_stopped(&e) => Err(e.into()),
            // The search fails where the file is cut off or damaged; from the start on, every
            // frame that is there will be met.
            Err(_) => self.rewind(),
        }
    }

    /// Begins again at the first frame, without a search, which needs a whole file.
    fn rewind(&mut self) -> Result<(), FormatError> {
        let reader = self.reader.take().ok_or_else(|| broken("it cannot be read again"))?;
        let mut stream = Box::new(reader).into_inner();
        stream.seek(SeekFrom::Start(0))?;
        self.reader = Some(FlacReader::try_new(stream, FormatOptions::default())?);
        self.given = None;
        Ok(())
    }

    fn reader(&mut self) -> Result<&mut FlacReader<'static>, Error> {
        self.reader.as_mut().ok_or(Error::DecodeError("the file cannot be read again"))
    }

    fn next_packet(&mut self) -> Result<Option<Packet>, Error> {
        self.reader()?.next_packet()
    }

    /// Whether the very last promised frame is there.
    fn is_whole(&mut self, promised: u64) -> Result<bool, FormatError> {
        let last = promised.saturating_sub(1);
        match self.seek_reader(last).map(|()| self.next_packet()) {
            Ok(Ok(Some(packet))) => {
                let end = i128::from(packet.pts.get()) + i128::from(packet.dur.get());
                Ok(end >= i128::from(promised))
            }
            Err(Error::IoError(e)) | Ok(Err(Error::IoError(e))) if is_stopped(&e) => Err(e.into()),
            _ => Ok(false),
        }
    }
}

impl Decoder for Flac {
    fn layout(&self) -> Layout {
        self.layout
    }

    fn seek(&mut self, frame: u64) -> Result<(), FormatError> {
        self.decoder.reset();
        // The search begins in the middle of the file, which may not be here yet.
        if frame <= u64::from(self.layout.rate) * NEAR_SECONDS {
            return self.rewind();
        }
        self.search(frame)
    }

    fn next(&mut self, out: &mut Vec<f32>) -> Result<Option<i64>, FormatError> {
        for _ in 0..MAX_ERRORS {
            let packet = match self.next_packet() {
                Ok(Some(packet)) => packet,
                Ok(None) => return Ok(None),
                Err(Error::DecodeError(_)) => continue,
                Err(Error::IoError(e)) if e.kind() == io::ErrorKind::UnexpectedEof => {
                    return Ok(None);
                }
                Err(e) => return Err(e.into()),
            };
            let first = packet.pts.get();
            match self.decoder.decode(&packet) {
                Ok(_) if self.given.is_some_and(|given| first <= given) => {}
                Ok(decoded) if copy(&decoded, self.layout, out) => {
                    self.given = Some(first);
                    return Ok(Some(first));
                }
                // A frame that does not decode leaves a gap.
                Ok(_) | Err(Error::DecodeError(_)) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Err(broken("hardly a frame of it decodes"))
    }

    fn count(&mut self) -> Result<u64, FormatError> {
        if let Some(promised) = self.promised
            && self.is_whole(promised)?
        {
            return Ok(promised);
        }
        self.rewind()?;
        let mut end = 0;
        for _ in 0..u32::MAX {
            match self.next_packet() {
                Ok(Some(packet)) => {
                    end = packet.pts.get().saturating_add_unsigned(packet.dur.get());
                }
                Err(Error::IoError(e)) if is_stopped(&e) => return Err(e.into()),
                Ok(None) | Err(_) => break,
            }
        }
        Ok(u64::try_from(end).unwrap_or(0))
    }
}

/// Copies a decoded frame, unless it has other channels or another rate than the file.
fn copy(decoded: &GenericAudioBufferRef<'_>, layout: Layout, out: &mut Vec<f32>) -> bool {
    let spec = decoded.spec();
    if spec.channels().count() != usize::from(layout.channels) || spec.rate() != layout.rate {
        return false;
    }
    decoded.copy_to_vec_interleaved(out);
    true
}

fn is_stopped(error: &io::Error) -> bool {
    error.kind() != io::ErrorKind::UnexpectedEof
}

/// Where the metadata is.
struct Blocks {
    info: (u64, u64),
    seek_table: Option<(u64, u64)>,
    comment: Option<(u64, u64)>,
    audio: u64,
}

/// The position and length of the textual tags, if there are any.
///
/// # Errors
///
/// When the file does not begin as a FLAC file must.
pub fn comment(source: &mut Bytes) -> Result<Option<(u64, u64)>, FormatError> {
    Ok(blocks(source)?.comment)
}

fn blocks(source: &mut Bytes) -> Result<Blocks, FormatError> {
    let mut at = super::skip_id3(source.as_mut())?;
    let mut mark = [0; 4];
    read_exact_at(source, at, &mut mark)?;
    if &mark != b"fLaC" {
        return Err(broken("it does not begin like a FLAC file"));
    }
    at += 4;
    let mut found = Blocks { info: (0, 0), seek_table: None, comment: None, audio: 0 };
    for _ in 0..MAX_BLOCKS {
        let mut head = [0; 4];
        read_exact_at(source, at, &mut head)?;
        let len = u64::from(u32::from_be_bytes([0, head[1], head[2], head[3]]));
        let place = (at + 4, len);
        match head[0] & !LAST {
            STREAM_INFO => found.info = place,
            SEEK_TABLE if len <= MAX_SEEK_TABLE => found.seek_table = Some(place),
            COMMENT => found.comment = Some(place),
            _ => {}
        }
        at += 4 + len;
        if head[0] & LAST != 0 {
            found.audio = at;
            return Ok(found);
        }
    }
    Err(broken("its metadata does not end"))
}

fn view(mut source: Bytes, blocks: &Blocks) -> Result<View, FormatError> {
    const INFO_LEN: usize = 34;
    if blocks.info.1 != INFO_LEN as u64 {
        return Err(broken("it has no stream info"));
    }
    let mut info = [0; INFO_LEN];
    read_exact_at(&mut source, blocks.info.0, &mut info)?;
    let audio = source.size().saturating_sub(blocks.audio);
    let table = match blocks.seek_table {
        Some((at, len)) => seek_points(&mut source, at, len, audio)?,
        None => Vec::new(),
    };
    let mut head = b"fLaC".to_vec();
    append(&mut head, if table.is_empty() { STREAM_INFO | LAST } else { STREAM_INFO }, &info);
    if !table.is_empty() {
        append(&mut head, SEEK_TABLE | LAST, &table);
    }
    Ok(View { head, audio: blocks.audio, source, at: 0 })
}

fn append(head: &mut Vec<u8>, kind: u8, body: &[u8]) {
    let len = u32::try_from(body.len()).expect("bounded by the largest seek table");
    head.push(kind);
    head.extend(&len.to_be_bytes()[1..]);
    head.extend(body);
}

/// The points of a seek table that can be true: rising, and within the `audio` bytes that are
/// there. The search between two points does not expect anything else.
fn seek_points(source: &mut Bytes, at: u64, len: u64, audio: u64) -> io::Result<Vec<u8>> {
    const POINT: usize = 18;
    let mut table = vec![0; usize::try_from(len).expect("bounded by the largest seek table")];
    read_exact_at(source, at, &mut table)?;
    let number = |bytes: &[u8]| bytes.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
    let mut last = None;
    let mut points = Vec::new();
    for point in table.chunks_exact(POINT) {
        let place = (number(&point[..8]), number(&point[8..16]));
        let rises = last.is_none_or(|(frame, byte)| place.0 > frame && place.1 > byte);
        if rises && place.1 < audio {
            points.extend(point);
            last = Some(place);
        }
    }
    Ok(points)
}

/// `head`, then the source from `audio` on.
struct View {
    head: Vec<u8>,
    audio: u64,
    source: Bytes,
    at: u64,
}

impl View {
    fn len(&self) -> u64 {
        self.head.len() as u64 + self.source.size().saturating_sub(self.audio)
    }
}

impl Read for View {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let head = self.head.len() as u64;
        let n = if self.at < head {
            let mut rest = &self.head[usize::try_from(self.at).expect("inside a slice")..];
            rest.read(buf)?
        } else {
            self.source.seek(SeekFrom::Start(self.audio + (self.at - head)))?;
            self.source.read(buf)?
        };
        self.at += n as u64;
        Ok(n)
    }
}

impl Seek for View {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let target = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.len().checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = target.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}

impl MediaSource for View {
    fn is_seekable(&self) -> bool {
        true
    }

    fn byte_len(&self) -> Option<u64> {
        Some(self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{bytes, chirp, decode_from, decode_on, fixture};
    use super::*;

    fn open(name: &str) -> Flac {
        Flac::open(bytes(&fixture(name))).expect("opens")
    }

    #[test]
    fn the_sound_is_the_one_that_was_encoded() {
        let mut decoder = open("stereo.flac");
        assert_eq!(
            decoder.layout(),
            Layout { rate: 44_100, channels: 2, positions: 0b11, delay: 0 }
        );
        assert_eq!(decoder.count().expect("counts"), 66_150);
        let all = decode_from(&mut decoder, 0);
        assert_eq!(all.len(), 2 * 66_150);
        for (i, value) in all.iter().enumerate() {
            assert!((value - chirp(i / 2, 44_100, i % 2)).abs() < 4e-5, "sample {i}");
        }
    }

    #[test]
    fn twenty_four_bits_stay_twenty_four_bits() {
        let mut decoder = open("mono24.flac");
        assert_eq!(
            decoder.layout(),
            Layout { rate: 22_050, channels: 1, positions: 0b1, delay: 0 }
        );
        let all = decode_from(&mut decoder, 0);
        assert_eq!(all.len(), 22_050);
        for (i, value) in all.iter().enumerate() {
            assert!((value - chirp(i, 22_050, 0)).abs() < 3e-7, "sample {i}");
        }
    }

    #[test]
    fn a_seek_is_exact_with_and_without_a_seek_table() {
        for name in ["stereo.flac", "mono24.flac"] {
            let mut decoder = open(name);
            let channels = usize::from(decoder.layout().channels);
            let all = decode_from(&mut decoder, 0);
            for from in [1, 1151, 1152, 5000, 20_000, 22_049] {
                let place = usize::try_from(from).expect("small") * channels;
                let rest = decode_from(&mut decoder, from);
                assert!(rest == all[place..], "{name} from {from}");
                // So short a file is not searched by itself.
                decoder.search(from).expect("finds it");
                let rest = decode_on(&mut decoder, from);
                assert!(rest == all[place..], "{name} searched from {from}");
            }
        }
    }

    #[test]
    fn a_file_cut_short_plays_as_far_as_it_goes() {
        let whole = decode_from(&mut open("stereo.flac"), 0);
        let mut decoder = open("cut.flac");
        let frames = decoder.count().expect("counts");
        assert!((30_000..50_000).contains(&frames), "{frames}");
        let all = decode_from(&mut decoder, 0);
        assert_eq!(all.len() as u64, frames * 2);
        assert!(all == whole[..all.len()]);
        let late = decode_from(&mut decoder, frames - 5);
        assert!(late == all[all.len() - 10..]);
        assert!(decode_from(&mut decoder, frames + 5000).is_empty());
    }

    #[test]
    fn a_picture_is_not_read() {
        struct Watched(io::Cursor<Vec<u8>>, std::ops::Range<u64>);
        impl Read for Watched {
            fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
                let at = self.0.position();
                assert!(!self.1.contains(&at), "the picture was read");
                self.0.read(buf)
            }
        }
        impl Seek for Watched {
            fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
                self.0.seek(to)
            }
        }
        impl super::super::ByteSource for Watched {
            fn size(&self) -> u64 {
                self.0.get_ref().len() as u64
            }
        }
        let plain = fixture("stereo.flac");
        let mut data = plain[..42].to_vec();
        data.extend([6, 0x10, 0, 0]);
        data.resize(data.len() + 0x10_0000, 0xAA);
        data.extend(&plain[42..]);
        let source = Watched(io::Cursor::new(data), 46..46 + 0x10_0000);
        let mut decoder = Flac::open(Box::new(source)).expect("opens");
        assert!(decode_from(&mut decoder, 0) == decode_from(&mut open("stereo.flac"), 0));
    }
}
