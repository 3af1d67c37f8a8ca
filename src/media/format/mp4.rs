//! AAC and Apple Lossless in MP4 (ISO/IEC 14496-12 and -14). The index is read here, symphonia
//! decodes the packets.
//!
//! Reading it ourselves makes three things sure: what an encoder put in front of the sound and
//! behind it is cut off, to the frame; a cover of megabytes is stepped over; and no table may
//! claim more memory than the limits below.
//!
//! ```text
//!  moov ─ trak ─ edts ─ elst           what of the track is to be heard
//!       │      └ mdia ─ mdhd           units of time
//!       │             └ minf ─ stbl ─ stsd (codec) stts (durations) stsc stsz stco (places)
//!       └ udta ─ meta ─ ilst           title and so on; iTunSMPB: delay, padding, length
//!  mdat                                the packets, in chunks
//! ```
//!
//! Public sources besides: Apple, "`QuickTime` File Format Specification", for edit lists and the
//! sound descriptions of version 1 and 2; ISO/IEC 14496-3 for the AAC configuration.

use std::io;

use symphonia::core::codecs::audio::well_known::{CODEC_ID_AAC, CODEC_ID_ALAC};
use symphonia::core::codecs::audio::{AudioCodecParameters, AudioDecoder, AudioDecoderOptions};
use symphonia::core::errors::Error;
use symphonia::core::packet::Packet;
use symphonia::core::units::{Duration, Timestamp};
use symphonia::default::codecs::{AacDecoder, AlacDecoder};

use super::{ByteSource, Bytes, Decoder, FormatError, Layout, broken, read_exact_at, read_up_to};
use crate::wire::Codec;

/// Atoms looked at in one file. Real ones have a hundred.
const MAX_ATOMS: usize = 10_000;

/// Packets of a track: a day of AAC has 3.7 million.
const MAX_PACKETS: usize = 4 * 1024 * 1024;

/// Chunks of a track, mostly a dozen packets each.
const MAX_CHUNKS: usize = 1024 * 1024;

/// Runs of equal durations, or of equally filled chunks. Most files have one or two.
const MAX_RUNS: usize = 512 * 1024;

/// Bytes of the description of a track.
const MAX_DESCRIPTION: u64 = 64 * 1024;

/// Bytes of one packet: a frame of Apple Lossless may have 65,536 frames of 8 channels.
const MAX_PACKET: u32 = 2 * 1024 * 1024;

/// Bytes of a text that are read.
const MAX_TEXT: u64 = 4096;

/// Audio frames in a packet of AAC.
const AAC_FRAMES: u32 = 1024;

/// Packets of AAC that are decoded before the one that is sought: each overlaps with the one
/// before it.
const AAC_PREROLL: u64 = 2;

// ---- atoms -----------------------------------------------------------------------------------

/// A part of a file: its name, and its bytes without the head.
#[derive(Clone, Copy, Debug)]
struct Atom {
    name: [u8; 4],
    body: u64,
    end: u64,
}

/// Reads atoms, of which there may be so many in all.
struct Atoms<'a> {
    source: &'a mut dyn ByteSource,
    left: usize,
}

impl Atoms<'_> {
    fn new(source: &mut dyn ByteSource) -> Atoms<'_> {
        Atoms { source, left: MAX_ATOMS }
    }

    /// The atom at `at`, which ends before `end`.
    fn at(&mut self, at: u64, end: u64) -> Result<Option<Atom>, FormatError> {
        let mut head = [0; 16];
        let wanted = usize::try_from(end.saturating_sub(at)).unwrap_or(usize::MAX).min(head.len());
        let there = read_up_to(self.source, at, &mut head[..wanted])?;
        if there < 8 {
            return Ok(None);
        }
        self.left = self.left.checked_sub(1).ok_or_else(|| broken("its index has no end"))?;
        let short = u64::from(u32::from_be_bytes([head[0], head[1], head[2], head[3]]));
        let (head_len, len) = match short {
            0 => (8, end - at),
            1 if there == 16 => {
                let long = head[8..].iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
                (16, long)
            }
            len => (8, len),
        };
        if len < head_len {
            return Ok(None);
        }
        let name = [head[4], head[5], head[6], head[7]];
        Ok(Some(Atom { name, body: at + head_len, end: at.saturating_add(len).min(end) }))
    }

    /// The atoms between two places.
    fn between(&mut self, from: u64, to: u64) -> Result<Vec<Atom>, FormatError> {
        let (mut at, mut found) = (from, Vec::new());
        while let Some(atom) = self.at(at, to)? {
            found.push(atom);
            at = atom.end;
        }
        Ok(found)
    }

    fn inside(&mut self, atom: &Atom) -> Result<Vec<Atom>, FormatError> {
        self.between(atom.body, atom.end)
    }

    /// Follows a path of names, always to the first of its name.
    fn follow(&mut self, from: &Atom, path: &[&[u8; 4]]) -> Result<Option<Atom>, FormatError> {
        let mut at = *from;
        for name in path {
            let found = self.inside(&at)?.into_iter().find(|atom| &atom.name == *name);
            let Some(found) = found else { return Ok(None) };
            at = found;
        }
        Ok(Some(at))
    }

    /// The index of the file.
    fn moov(&mut self) -> Result<Atom, FormatError> {
        let (mut at, end) = (0, self.source.size());
        while let Some(atom) = self.at(at, end)? {
            if &atom.name == b"moov" {
                return Ok(atom);
            }
            at = atom.end;
        }
        Err(broken("its index is missing; it was cut short, or never finished"))
    }

    /// The body of an atom behind `skip` bytes, at most `limit` bytes of it.
    fn read(&mut self, atom: &Atom, skip: u64, limit: u64) -> io::Result<Vec<u8>> {
        let from = atom.body.saturating_add(skip);
        // No atom has more bytes than the file, whatever it says.
        let len = atom.end.min(self.source.size()).saturating_sub(from).min(limit);
        let mut body = vec![0; usize::try_from(len).map_err(io::Error::other)?];
        let there = read_up_to(self.source, from, &mut body)?;
        body.truncate(there);
        Ok(body)
    }

    /// A table: version and flags, a count, and entries of `width` bytes, of which at most
    /// `limit` are taken.
    fn table(&mut self, atom: &Atom, width: usize, limit: usize) -> Result<Vec<u8>, FormatError> {
        let count = be32(&self.read(atom, 4, 4)?, 0).ok_or_else(|| broken("its index is cut"))?;
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        if count > limit {
            return Err(broken("its index is too long"));
        }
        Ok(self.read(atom, 8, (count * width) as u64)?)
    }
}

fn be32(data: &[u8], at: usize) -> Option<u32> {
    let bytes = data.get(at..at + 4)?;
    Some(u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
}

fn be64(data: &[u8], at: usize) -> Option<u64> {
    Some(u64::from(be32(data, at)?) << 32 | u64::from(be32(data, at + 4)?))
}

// ---- the index -------------------------------------------------------------------------------

/// What is to be heard of a track, in its own units.
#[derive(Clone, Copy, Debug)]
struct Edit {
    from: u64,
    /// How long, and how exactly that is known.
    length: Option<(u64, u64)>,
}

/// The sound of a file.
struct Sound {
    codec: Codec,
    /// The configuration that the decoder wants.
    config: Vec<u8>,
    /// Units of time a second.
    timescale: u32,
    /// The track's length in them.
    duration: u64,
    edit: Option<Edit>,
    packets: Packets,
}

/// Where the packets are.
#[derive(Debug)]
struct Packets {
    /// Bytes of each, unless all have the same.
    sizes: Vec<u32>,
    same: u32,
    count: usize,
    /// Where a chunk begins, and its first packet.
    chunks: Vec<(u64, usize)>,
}

impl Packets {
    fn size(&self, packet: usize) -> u32 {
        self.sizes.get(packet).copied().unwrap_or(self.same)
    }

    /// The chunk that a packet is in.
    fn chunk(&self, packet: usize) -> Option<usize> {
        self.chunks.partition_point(|(_, first)| *first <= packet).checked_sub(1)
    }
}

/// The first track of sound, with everything about it.
fn sound(source: &mut dyn ByteSource) -> Result<Sound, FormatError> {
    let mut atoms = Atoms::new(source);
    let moov = atoms.moov()?;
    let inside = atoms.inside(&moov)?;
    let movie_scale = match inside.iter().find(|atom| &atom.name == b"mvhd") {
        Some(head) => timescale(&mut atoms, head)?,
        None => 0,
    };
    let is_fragmented = inside.iter().any(|atom| &atom.name == b"mvex");
    for track in inside.iter().filter(|atom| &atom.name == b"trak") {
        let Some(handler) = atoms.follow(track, &[b"mdia", b"hdlr"])? else { continue };
        if atoms.read(&handler, 8, 4)? != b"soun" {
            continue;
        }
        if is_fragmented {
            return Err(FormatError::Unsupported("an MP4 file in fragments".into()));
        }
        return read_track(&mut atoms, track, movie_scale);
    }
    Err(FormatError::Unsupported("an MP4 file without sound".into()))
}

fn timescale(atoms: &mut Atoms<'_>, head: &Atom) -> Result<u32, FormatError> {
    let body = atoms.read(head, 0, 24)?;
    let place = if body.first() == Some(&1) { 20 } else { 12 };
    be32(&body, place).ok_or_else(|| broken("its index is cut short"))
}

fn read_track(atoms: &mut Atoms<'_>, track: &Atom, movie_scale: u32) -> Result<Sound, FormatError> {
    let cut = || broken("its index is incomplete");
    let head = atoms.follow(track, &[b"mdia", b"mdhd"])?.ok_or_else(cut)?;
    let timescale = timescale(atoms, &head)?;
    if timescale == 0 {
        return Err(broken("its index has no unit of time"));
    }
    let tables = atoms.follow(track, &[b"mdia", b"minf", b"stbl"])?.ok_or_else(cut)?;
    let tables = atoms.inside(&tables)?;
    let named = |name: &[u8; 4]| tables.iter().find(|atom| &atom.name == name);
    let (codec, config) = read_description(atoms, named(b"stsd").ok_or_else(cut)?)?;
    let duration = read_duration(atoms, named(b"stts").ok_or_else(cut)?)?;
    let (offsets, wide) = match (named(b"stco"), named(b"co64")) {
        (Some(offsets), _) => (offsets, 4),
        (None, offsets) => (offsets.ok_or_else(cut)?, 8),
    };
    let offsets = atoms.table(offsets, wide, MAX_CHUNKS)?;
    let runs = atoms.table(named(b"stsc").ok_or_else(cut)?, 12, MAX_RUNS)?;
    let mut packets = read_sizes(atoms, named(b"stsz").ok_or_else(cut)?)?;
    packets.chunks = chunks(&offsets, wide, &runs, packets.count);
    let edit = match atoms.follow(track, &[b"edts", b"elst"])? {
        Some(list) => read_edit(atoms, &list, timescale, movie_scale)?,
        None => None,
    };
    Ok(Sound { codec, config, timescale, duration, edit, packets })
}

fn read_duration(atoms: &mut Atoms<'_>, table: &Atom) -> Result<u64, FormatError> {
    let table = atoms.table(table, 8, MAX_RUNS)?;
    let runs = table.chunks_exact(8).filter_map(|run| Some((be32(run, 0)?, be32(run, 4)?)));
    Ok(runs.fold(0, |sum: u64, (count, each)| {
        sum.saturating_add(u64::from(count).saturating_mul(each.into()))
    }))
}

fn read_sizes(atoms: &mut Atoms<'_>, table: &Atom) -> Result<Packets, FormatError> {
    let head = atoms.read(table, 4, 8)?;
    let (Some(same), Some(count)) = (be32(&head, 0), be32(&head, 4)) else {
        return Err(broken("its index is cut short"));
    };
    let mut count = usize::try_from(count).unwrap_or(usize::MAX);
    if count > MAX_PACKETS {
        return Err(broken("its index is too long"));
    }
    let mut sizes = Vec::new();
    if same == 0 {
        let table = atoms.read(table, 12, (count * 4) as u64)?;
        sizes = table.chunks_exact(4).filter_map(|entry| be32(entry, 0)).collect();
        count = count.min(sizes.len());
    }
    Ok(Packets { sizes, same, count, chunks: Vec::new() })
}

/// Every chunk with its first packet.
fn chunks(offsets: &[u8], width: usize, runs: &[u8], count: usize) -> Vec<(u64, usize)> {
    let offset =
        |entry: &[u8]| if width == 8 { be64(entry, 0) } else { be32(entry, 0).map(u64::from) };
    let mut runs = runs.chunks_exact(12).filter_map(|run| Some((be32(run, 0)?, be32(run, 4)?)));
    let (mut following, mut each, mut packet) = (runs.next(), 0_u32, 0_usize);
    let mut chunks = Vec::new();
    for (number, entry) in (1..).zip(offsets.chunks_exact(width)) {
        while let Some((_, filled)) = following.filter(|(first, _)| *first <= number) {
            each = filled;
            following = runs.next();
        }
        let Some(offset) = offset(entry).filter(|_| packet < count) else { break };
        // An empty chunk would hide the one before it.
        if each > 0 {
            chunks.push((offset, packet));
        }
        packet = packet.saturating_add(usize::try_from(each).unwrap_or(usize::MAX));
    }
    chunks
}

/// The first entry of an edit list that shows something of the track. One before it that shows
/// nothing only delays the sound against a picture.
fn read_edit(
    atoms: &mut Atoms<'_>,
    list: &Atom,
    timescale: u32,
    movie_scale: u32,
) -> Result<Option<Edit>, FormatError> {
    let is_wide = atoms.read(list, 0, 1)? == [1];
    let width = if is_wide { 20 } else { 12 };
    let table = atoms.table(list, width, MAX_RUNS)?;
    let entry = |entry: &[u8]| {
        if is_wide {
            Some((be64(entry, 0)?, be64(entry, 8)?.cast_signed()))
        } else {
            Some((be32(entry, 0)?.into(), be32(entry, 4)?.cast_signed().into()))
        }
    };
    let mut entries = table.chunks_exact(width).filter_map(entry);
    let shown = entries.find_map(|(length, from)| Some((length, u64::try_from(from).ok()?)));
    Ok(shown.map(|(length, from)| {
        // Lengths are in the units of the whole movie, often milliseconds.
        let scaled = u128::from(length) * u128::from(timescale) / u128::from(movie_scale.max(1));
        let scaled = u64::try_from(scaled).unwrap_or(u64::MAX);
        let unit = u64::from(timescale / movie_scale.max(1)) + 1;
        let is_said = length > 0 && movie_scale > 0;
        Edit { from, length: is_said.then_some((scaled, unit)) }
    }))
}

/// Codec and configuration.
fn read_description(atoms: &mut Atoms<'_>, table: &Atom) -> Result<(Codec, Vec<u8>), FormatError> {
    let cut = || broken("its index does not say how it is encoded");
    let entry = atoms.at(table.body + 8, table.end)?.ok_or_else(cut)?;
    let unsupported = |found: &str| Err(FormatError::Unsupported(found.into()));
    match &entry.name {
        b"mp4a" | b"alac" => {}
        b"drms" | b"enca" => return unsupported("an MP4 file that is locked to its buyer"),
        b"ac-3" | b"ec-3" => return unsupported("an MP4 file with Dolby Digital sound"),
        b"Opus" => return unsupported("an MP4 file with Opus sound"),
        b"fLaC" => return unsupported("an MP4 file with FLAC sound"),
        b".mp3" => return unsupported("an MP4 file with MP3 sound"),
        _ => return unsupported("an MP4 file with sound of an unknown kind"),
    }
    // A sound description has 28 bytes; QuickTime's versions 1 and 2 have more.
    let version = atoms.read(&entry, 8, 2)?;
    let fixed = match version.as_slice() {
        [0, 1] => 28 + 16,
        [0, 2] => 28 + 36,
        _ => 28,
    };
    let inside = Atom { body: entry.body + fixed, ..entry };
    let wrapped = atoms.follow(&inside, &[b"wave"])?.unwrap_or(inside);
    if &entry.name == b"alac" {
        let cookie = atoms.follow(&wrapped, &[b"alac"])?.ok_or_else(cut)?;
        return Ok((Codec::Alac, atoms.read(&cookie, 4, MAX_DESCRIPTION)?));
    }
    let descriptor = atoms.follow(&wrapped, &[b"esds"])?.ok_or_else(cut)?;
    let descriptor = atoms.read(&descriptor, 4, MAX_DESCRIPTION)?;
    let (kind, config) = decoder_config(&descriptor).ok_or_else(cut)?;
    match kind {
        0x40 | 0x66..=0x68 => Ok((Codec::Aac, config.to_vec())),
        0x69 | 0x6B => unsupported("an MP4 file with MP3 sound"),
        _ => unsupported("an MP4 file with sound of an unknown kind"),
    }
}

/// The kind of the stream and what its decoder is told, from an elementary stream descriptor.
fn decoder_config(descriptor: &[u8]) -> Option<(u8, &[u8])> {
    let stream = open_descriptor(descriptor, 3)?;
    let flags = *stream.get(2)?;
    let mut rest = stream.get(3..)?;
    if flags & 0x80 != 0 {
        rest = rest.get(2..)?;
    }
    if flags & 0x40 != 0 {
        rest = rest.get(1 + usize::from(*rest.first()?)..)?;
    }
    if flags & 0x20 != 0 {
        rest = rest.get(2..)?;
    }
    let decoder = open_descriptor(rest, 4)?;
    Some((*decoder.first()?, open_descriptor(decoder.get(13..)?, 5)?))
}

/// The body of a descriptor with this tag. Its length has seven bits in each byte.
fn open_descriptor(data: &[u8], tag: u8) -> Option<&[u8]> {
    let (found, mut rest) = data.split_first()?;
    if *found != tag {
        return None;
    }
    let mut len = 0;
    for _ in 0..4 {
        let (byte, after) = rest.split_first()?;
        rest = after;
        len = len << 7 | usize::from(byte & 0x7F);
        if byte & 0x80 == 0 {
            break;
        }
    }
    Some(&rest[..len.min(rest.len())])
}

// ---- decoding --------------------------------------------------------------------------------

/// An MP4 file being decoded.
pub struct Mp4 {
    source: Bytes,
    packets: Packets,
    decoder: Box<dyn AudioDecoder>,
    layout: Layout,
    /// Audio frames of a packet.
    step: u32,
    preroll: u64,
    /// The frame after the last audible one.
    end: u64,
    /// The next packet, and where it begins if it follows the one before it.
    next: usize,
    place: Option<u64>,
    data: Vec<u8>,
}

impl Mp4 {
    /// Reads the index.
    ///
    /// # Errors
    ///
    /// When it is not that of a file that can be played.
    pub fn open(mut source: Bytes) -> Result<Mp4, FormatError> {
        let sound = sound(source.as_mut())?;
        let remark = remark(source.as_mut())?;
        let (decoder, step) = decoder(&sound)?;
        let mut layout = Layout::of_decoder(decoder.as_ref())?;
        if sound.codec == Codec::Alac {
            layout = layout.with_positions(alac_positions(layout.channels));
        }
        let (delay, end) = audible(&sound, remark, layout.rate, step)?;
        let preroll = if sound.codec == Codec::Aac { AAC_PREROLL } else { 0 };
        Ok(Mp4 {
            source,
            packets: sound.packets,
            decoder,
            layout: Layout { delay, ..layout },
            step,
            preroll,
            end,
            next: 0,
            place: None,
            data: Vec::new(),
        })
    }

    /// Where the next packet is: its first byte, and how many.
    fn locate(&mut self) -> Option<(u64, u32)> {
        if self.next >= self.packets.count {
            return None;
        }
        let chunk = self.packets.chunk(self.next)?;
        let (offset, first) = self.packets.chunks[chunk];
        let at = match self.place.filter(|_| self.next > first) {
            Some(place) => place,
            None => (first..self.next)
                .fold(offset, |at, packet| at.saturating_add(self.packets.size(packet).into())),
        };
        let len = self.packets.size(self.next);
        let end = at.checked_add(len.into()).filter(|end| *end <= self.source.size())?;
        self.place = Some(end);
        Some((at, len))
    }

    /// Decodes what is in `data`; what does not decode is silence.
    fn decode(&mut self, out: &mut Vec<f32>) {
        out.clear();
        let channels = usize::from(self.layout.channels);
        let data = self.data.as_slice();
        let packet = Packet::new(0, Timestamp::ZERO, Duration::from(u64::from(self.step)), data);
        if let Ok(decoded) = self.decoder.decode(&packet)
            && decoded.spec().channels().count() == channels
            && decoded.spec().rate() == self.layout.rate
        {
            decoded.copy_to_vec_interleaved(out);
        }
        let whole = usize::try_from(self.step).unwrap_or(0) * channels;
        // Only the last packet may be shorter.
        if out.len() > whole || self.next < self.packets.count || out.is_empty() {
            out.resize(whole, 0.0);
        }
    }
}

impl Decoder for Mp4 {
    fn layout(&self) -> Layout {
        self.layout
    }

    fn seek(&mut self, frame: u64) -> Result<(), FormatError> {
        self.decoder.reset();
        let target = frame.saturating_add(self.layout.delay.into()) / u64::from(self.step);
        self.next = usize::try_from(target.saturating_sub(self.preroll)).unwrap_or(usize::MAX);
        self.place = None;
        Ok(())
    }

    fn next(&mut self, out: &mut Vec<f32>) -> Result<Option<i64>, FormatError> {
        // A packet beyond the end of the file, which was cut short, ends the sound.
        let Some((at, len)) = self.locate() else { return Ok(None) };
        let first = (self.next as u64).saturating_mul(self.step.into());
        self.data.clear();
        if len <= MAX_PACKET {
            self.data.resize(usize::try_from(len).unwrap_or(0), 0);
            read_exact_at(&mut self.source, at, &mut self.data)?;
        }
        self.next += 1;
        self.decode(out);
        Ok(i64::try_from(first).ok().map(|first| first - i64::from(self.layout.delay)))
    }

    fn count(&mut self) -> Result<u64, FormatError> {
        self.next = 0;
        self.place = None;
        while self.locate().is_some() {
            self.next += 1;
        }
        let there = (self.next as u64).saturating_mul(self.step.into());
        Ok(there.min(self.end).saturating_sub(self.layout.delay.into()))
    }
}

/// The decoder, and how many audio frames a packet has.
fn decoder(sound: &Sound) -> Result<(Box<dyn AudioDecoder>, u32), FormatError> {
    let mut params = AudioCodecParameters::new();
    params.with_extra_data(sound.config.clone().into());
    let options = AudioDecoderOptions::default();
    if sound.codec == Codec::Alac {
        params.for_codec(CODEC_ID_ALAC);
        let frames = be32(&sound.config, 0).ok_or_else(|| broken("it is not fully described"))?;
        let decoder = AlacDecoder::try_new(&params, &options)?;
        if frames == 0 {
            return Err(broken("its packets are empty"));
        }
        return Ok((Box::new(decoder), frames));
    }
    check_aac(&sound.config)?;
    params.for_codec(CODEC_ID_AAC);
    let decoder = AacDecoder::try_new(&params, &options).map_err(|error| match error {
        Error::Unsupported(_) => FormatError::Unsupported("an unusual kind of AAC file".into()),
        other => other.into(),
    })?;
    Ok((Box::new(decoder), AAC_FRAMES))
}

/// Where the channels of Apple Lossless stand. Of seven and eight symphonia calls the surround ones
/// rear ones, but puts them where those at the sides would be, behind the single rear one and the
/// two left and right of the centre.
fn alac_positions(channels: u8) -> u32 {
    match channels {
        7 => 0b111_0000_1111,
        8 => 0b110_1100_1111,
        _ => 0,
    }
}

/// Names the varieties of AAC that symphonia does not decode.
fn check_aac(config: &[u8]) -> Result<(), FormatError> {
    const LOW_COMPLEXITY: u8 = 2;
    let &[a, b, ..] = config else { return Err(broken("it is not fully described")) };
    let kind = a >> 3;
    let rate_index = (a & 7) << 1 | b >> 7;
    let found = match kind {
        LOW_COMPLEXITY => {
            // A rate that has no index follows in 24 bits; then the channels are elsewhere.
            let channels = if rate_index == 15 {
                config.get(4).map_or(0, |e| e >> 3 & 15)
            } else {
                b >> 3 & 15
            };
            match channels {
                1 | 2 => return Ok(()),
                0 => "AAC of an unusual arrangement of channels".into(),
                7 => "AAC of 8 channels".into(),
                channels => format!("AAC of {channels} channels"),
            }
        }
        5 | 29 => "an HE-AAC file".into(),
        _ => "an unusual kind of AAC file".into(),
    };
    Err(FormatError::Unsupported(found))
}

/// What iTunes remarks about a file, in audio frames.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Remark {
    delay: u64,
    frames: u64,
}

impl Remark {
    /// Numbers in base 16: something, delay, padding, length, more.
    fn parse(text: &str) -> Option<Remark> {
        let mut numbers = text.split_ascii_whitespace().map(|n| u64::from_str_radix(n, 16).ok());
        let (delay, frames) = (numbers.nth(1)??, numbers.nth(1)??);
        (frames > 0).then_some(Remark { delay, frames })
    }
}

/// Encoder delay, and the frame after the last audible one, both in frames from the first packet.
///
/// An edit list says them in units that are often milliseconds; where its end is within one of
/// them of the track's end, the track's end is meant. Without one, what iTunes remarks holds.
fn audible(
    sound: &Sound,
    remark: Option<Remark>,
    rate: u32,
    step: u32,
) -> Result<(u32, u64), FormatError> {
    let frames = |units: u64| {
        let frames = u128::from(units) * u128::from(rate) / u128::from(sound.timescale);
        u64::try_from(frames).unwrap_or(u64::MAX)
    };
    let all = (sound.packets.count as u64).saturating_mul(step.into());
    let whole = if sound.duration == 0 { all } else { frames(sound.duration).min(all) };
    let (from, to) = match (sound.edit, remark) {
        // An edit that begins at the very first packet of AAC knows nothing of the delay.
        (Some(edit), remark) if edit.from > 0 || remark.is_none() => {
            let from = frames(edit.from);
            let to = match edit.length {
                Some((length, unit)) => {
                    let end = edit.from.saturating_add(length);
                    let meant = end.abs_diff(sound.duration) <= unit || end > sound.duration;
                    if meant { whole } else { frames(end) }
                }
                None => whole,
            };
            // Both say it, and one of them to the frame.
            match remark.filter(|remark| remark.delay == from) {
                Some(remark) => (from, from.saturating_add(remark.frames)),
                None => (from, to),
            }
        }
        (_, Some(remark)) => (remark.delay, remark.delay.saturating_add(remark.frames)),
        _ => (0, whole),
    };
    let delay = u32::try_from(from).ok().filter(|_| from < all);
    Ok((delay.ok_or_else(|| broken("nothing of it is to be heard"))?, to.min(all)))
}

/// What a file is, by its index.
///
/// # Errors
///
/// When it holds nothing that can be played; the error says what it is.
pub fn recognise(source: &mut dyn ByteSource) -> Result<Codec, FormatError> {
    Ok(sound(source)?.codec)
}

// ---- texts -----------------------------------------------------------------------------------

/// The list of texts that people see, and of remarks.
fn list(atoms: &mut Atoms<'_>) -> Result<Vec<Atom>, FormatError> {
    let moov = atoms.moov()?;
    let Some(meta) = atoms.follow(&moov, &[b"udta", b"meta"])? else { return Ok(Vec::new()) };
    // Four bytes of version stand before its atoms, but not in QuickTime's files.
    for skip in [4, 0] {
        let inside = Atom { body: meta.body + skip, ..meta };
        if let Some(list) = atoms.follow(&inside, &[b"ilst"])? {
            return atoms.inside(&list);
        }
    }
    Ok(Vec::new())
}

/// The text of an entry: its kind and a locale come first.
fn text(atoms: &mut Atoms<'_>, entry: &Atom) -> Result<String, FormatError> {
    let Some(data) = atoms.follow(entry, &[b"data"])? else { return Ok(String::new()) };
    let bytes = atoms.read(&data, 8, MAX_TEXT)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn remark(source: &mut dyn ByteSource) -> Result<Option<Remark>, FormatError> {
    let mut atoms = Atoms::new(source);
    for entry in list(&mut atoms)?.iter().filter(|entry| &entry.name == b"----") {
        let Some(name) = atoms.follow(entry, &[b"name"])? else { continue };
        if atoms.read(&name, 4, MAX_TEXT)? == b"iTunSMPB" {
            return Ok(Remark::parse(&text(&mut atoms, entry)?));
        }
    }
    Ok(None)
}

/// The texts of a file with their names, as many as there are.
///
/// # Errors
///
/// When the file has no index.
pub fn texts(source: &mut dyn ByteSource) -> Result<Vec<([u8; 4], String)>, FormatError> {
    let mut atoms = Atoms::new(source);
    let wanted = [*b"\xA9nam", *b"\xA9ART", *b"\xA9alb"];
    let mut found = Vec::new();
    for entry in list(&mut atoms)?.iter().filter(|entry| wanted.contains(&entry.name)) {
        found.push((entry.name, text(&mut atoms, entry)?));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{bytes, chirp_error, decode_from, fixture, rms, tones_error};
    use super::*;

    fn open(name: &str) -> Mp4 {
        Mp4::open(bytes(&fixture(name))).expect("opens")
    }

    #[test]
    fn delay_and_padding_of_aac_are_cut_off_to_the_frame() {
        for name in ["stereo.m4a", "front.m4a"] {
            let mut decoder = open(name);
            assert_eq!(
                decoder.layout(),
                Layout { rate: 44_100, channels: 2, positions: 0b11, delay: 1024 }
            );
            assert_eq!(decoder.count().expect("counts"), 66_150);
            let all = decode_from(&mut decoder, 0);
            let error = chirp_error(&all[..2 * 66_150], 44_100);
            // As far as another decoder is: a shift by one frame would be 0.06.
            assert!(error < 0.017, "{name}: {error}");
        }
    }

    #[test]
    fn apple_lossless_is_what_was_encoded() {
        let mut decoder = open("lossless.m4a");
        assert_eq!(decoder.count().expect("counts"), 17_640);
        let all = decode_from(&mut decoder, 0);
        assert_eq!(all.len(), 2 * 17_640);
        assert!(chirp_error(&all, 44_100) < 2e-5);
        let mut six = open("six.m4a");
        assert_eq!((six.layout().channels, six.layout().positions), (6, 0b11_1111));
        assert!(tones_error(&decode_from(&mut six, 0), 6) < 2e-5);
        // Those left and right of the centre stand before the surround ones.
        let mut eight = open("eight.m4a");
        let mut all = decode_from(&mut eight, 0);
        assert_eq!(eight.layout().positions, 0b110_1100_1111);
        for frame in all.chunks_exact_mut(8) {
            frame[4..].rotate_left(2);
        }
        assert!(tones_error(&all, 8) < 2e-5);
    }

    #[test]
    fn a_seek_is_exact() {
        // Noise that AAC puts in place of noise is never the same.
        for (name, bound) in [("stereo.m4a", 1e-3), ("lossless.m4a", 1e-6)] {
            let mut decoder = open(name);
            let all = decode_from(&mut decoder, 0);
            for from in [1, 1023, 1024, 5000, 17_000] {
                let rest = decode_from(&mut decoder, from);
                let place = usize::try_from(from * 2).expect("small");
                let error = rms(&rest, &all[place..]);
                assert!(error < bound, "{name} from {from}: {error}");
            }
            assert!(decode_from(&mut decoder, 1_000_000).is_empty());
        }
    }

    #[test]
    fn a_file_cut_short_plays_as_far_as_it_goes() {
        let whole = decode_from(&mut open("front.m4a"), 0);
        let data = fixture("front.m4a");
        let mut decoder = Mp4::open(bytes(&data[..12_000])).expect("opens");
        let frames = decoder.count().expect("counts");
        assert!((20_000..60_000).contains(&frames), "{frames}");
        let all = decode_from(&mut decoder, 0);
        assert_eq!(all.len() as u64, frames * 2);
        assert!(all == whole[..all.len()]);
        // Without its index nothing is to be done.
        let error = Mp4::open(bytes(&fixture("stereo.m4a")[..12_000])).err().expect("refused");
        assert!(error.to_string().contains("index is missing"), "{error}");
    }

    #[test]
    fn what_cannot_be_decoded_is_named() {
        let error = Mp4::open(bytes(&fixture("aacsix.m4a"))).err().expect("refused");
        assert_eq!(error.to_string(), "AAC of 6 channels");
        let named = |config: &[u8]| check_aac(config).map_err(|error| error.to_string());
        assert_eq!(named(&[0x12, 0x10]), Ok(()));
        assert_eq!(named(&[0x2B, 0x92, 0x08, 0x00]), Err("an HE-AAC file".into()));
        assert!(named(&[0x12]).is_err());
        let change = |from: &[u8], to: &[u8]| {
            let mut data = fixture("front.m4a");
            let at = data.windows(from.len()).position(|four| four == from).expect("is there");
            data[at..at + to.len()].copy_from_slice(to);
            Mp4::open(bytes(&data)).err().expect("refused").to_string()
        };
        assert!(change(b"mp4a", b"drms").contains("locked"));
        assert!(change(b"mp4a", b"ac-3").contains("Dolby"));
        assert!(change(b"soun", b"vide").contains("without sound"));
        assert!(change(b"udta", b"mvex").contains("fragments"));
    }

    #[test]
    fn what_itunes_remarks_is_read() {
        let text = " 00000000 00000840 000001CA 00000000003F31F6 00000000 00000000";
        assert_eq!(Remark::parse(text), Some(Remark { delay: 0x840, frames: 0x3F_31F6 }));
        assert_eq!(Remark::parse(" 00000000 00000840"), None);
        assert_eq!(Remark::parse("x y z w"), None);
    }

    #[test]
    fn without_an_edit_list_the_remark_holds_and_without_both_everything() {
        let packets = Packets { sizes: vec![], same: 10, count: 100, chunks: vec![(0, 0)] };
        let mut sound = Sound {
            codec: Codec::Aac,
            config: vec![],
            timescale: 44_100,
            duration: 102_400,
            edit: None,
            packets,
        };
        let remark = Some(Remark { delay: 2112, frames: 100_000 });
        let audible = |sound: &Sound, remark| audible(sound, remark, 44_100, 1024).ok();
        assert_eq!(audible(&sound, None), Some((0, 102_400)));
        assert_eq!(audible(&sound, remark), Some((2112, 102_112)));
        sound.edit = Some(Edit { from: 0, length: Some((102_400, 45)) });
        assert_eq!(audible(&sound, remark), Some((2112, 102_112)));
        // Milliseconds that mean the end of the track.
        sound.edit = Some(Edit { from: 1024, length: Some((101_376 - 30, 45)) });
        assert_eq!(audible(&sound, None), Some((1024, 102_400)));
        sound.edit = Some(Edit { from: 1024, length: Some((50_000, 45)) });
        assert_eq!(audible(&sound, None), Some((1024, 51_024)));
        sound.edit = Some(Edit { from: 1 << 40, length: None });
        assert_eq!(audible(&sound, None), None);
    }

    #[test]
    fn chunks_know_their_first_packets() {
        let offsets: Vec<u8> =
            [100_u32, 200, 300, 400].iter().flat_map(|o| o.to_be_bytes()).collect();
        let runs: Vec<u8> = [1_u32, 2, 1, 3, 5, 1].iter().flat_map(|o| o.to_be_bytes()).collect();
        assert_eq!(chunks(&offsets, 4, &runs, 12), [(100, 0), (200, 2), (300, 4), (400, 9)]);
        assert_eq!(chunks(&offsets, 4, &runs, 4), [(100, 0), (200, 2)]);
    }
}
