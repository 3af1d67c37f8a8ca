//! Vorbis and Opus in Ogg (RFC 3533, RFC 7845, Vorbis I specification, annex A). Pages are found
//! here; symphonia and libopus decode the packets.
//!
//! Finding them ourselves bounds what a header may cost (a cover of megabytes inside the comments
//! is stepped over, not kept) and makes the numbering exact: every page says which frame its last
//! packet ends with, so whoever joins in the middle counts like whoever came from the start.
//!
//! ```text
//!  page   page       page ...  page    page            page
//!  [head] [comments  setup]    [p p p] [p p p] ...     [p p]
//!                              |     |       |             |
//!  frame number says the page: -     G1      G2            end: the last packet's rest is cut off
//! ```
//!
//! Of a chain of streams, one behind the other, the first is played.

use std::io;

use super::{ByteSource, Bytes, Decoder, FormatError, Layout, broken, opus, read_up_to, vorbis};
use crate::wire::Codec;

/// Bytes before the lacing values of a page.
const HEAD: usize = 27;

/// Bytes of a page at most: its head, 255 lacing values and as many segments.
const MAX_PAGE: usize = HEAD + 255 + 255 * 255;

/// Bytes of a packet that are kept. Setup headers of Vorbis have some 5 to 10 KiB; the largest
/// packets of audio about 60 KiB.
const MAX_PACKET: usize = 256 * 1024;

/// Places that look like a page and are none, in one file. Each costs the check sum of a page.
const MAX_FALSE_PAGES: usize = 2048;

/// Streams that begin together in one file: sound, pictures, subtitles.
const MAX_STREAMS: usize = 16;

/// Headers of Vorbis: identification, comments, setup.
const MAX_HEADERS: usize = 3;

/// Packets that do not decode, one after the other, before the file is given up.
const MAX_ERRORS: usize = 1000;

/// Seconds from the beginning that are reached by decoding up to there, not by searching.
const NEAR_SECONDS: u64 = 2;

/// Steps of a search; each halves the file.
const MAX_STEPS: usize = 64;

/// Decodes the packets of one stream.
pub(super) trait PacketDecoder: Send {
    /// Rate and channels; the delay is the one that the headers demand.
    fn layout(&self) -> Layout;

    /// Forgets what came before.
    fn reset(&mut self);

    /// Replaces `out` by the frames of a packet, which may be none.
    fn decode(&mut self, packet: &[u8], out: &mut Vec<f32>) -> Result<(), FormatError>;

    /// Frames to decode before those from a place in the middle on are right.
    fn preroll(&self) -> i64;
}

/// One page.
#[derive(Default, Debug)]
struct Page {
    at: u64,
    flags: u8,
    granule: i64,
    serial: u32,
    sequence: u32,
    lacing: Vec<u8>,
    body: Vec<u8>,
}

impl Page {
    const CONTINUED: u8 = 1;
    const FIRST: u8 = 2;
    const LAST: u8 = 4;

    /// From the bytes at `at`, if they begin with a page whose check sum is right.
    fn parse(at: u64, data: &[u8]) -> Option<Page> {
        let head = data.get(..HEAD)?;
        if !head.starts_with(b"OggS\0") {
            return None;
        }
        let word = |place: usize| {
            u32::from_le_bytes([head[place], head[place + 1], head[place + 2], head[place + 3]])
        };
        let lacing = data.get(HEAD..HEAD + usize::from(head[26]))?;
        let start = HEAD + lacing.len();
        let len: usize = lacing.iter().map(|value| usize::from(*value)).sum();
        let whole = data.get(..start + len)?;
        if check_sum(whole) != word(22) {
            return None;
        }
        let mut granule = [0; 8];
        granule.copy_from_slice(&head[6..14]);
        Some(Page {
            at,
            flags: head[5],
            granule: i64::from_le_bytes(granule),
            serial: word(14),
            sequence: word(18),
            lacing: lacing.to_vec(),
            body: whole[start..].to_vec(),
        })
    }

    fn end(&self) -> u64 {
        self.at + (HEAD + self.lacing.len() + self.body.len()) as u64
    }

    fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// The number that its last packet ends with; a page in which none ends has none.
    fn granule(&self) -> Option<i64> {
        (self.granule >= 0).then_some(self.granule)
    }
}

/// CRC-32 with the polynomial 0x04C11DB7, not reflected, over a page whose own is taken as 0.
fn check_sum(page: &[u8]) -> u32 {
    const TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let (mut i, mut number) = (0, 0_u32);
        while i < 256 {
            let mut value = number << 24;
            let mut bit = 0;
            while bit < 8 {
                value = if value >> 31 == 1 { value << 1 ^ 0x04C1_1DB7 } else { value << 1 };
                bit += 1;
            }
            table[i] = value;
            i += 1;
            number += 1;
        }
        table
    };
    page.iter().enumerate().fold(0, |sum: u32, (place, byte)| {
        let byte = if (22..26).contains(&place) { 0 } else { *byte };
        sum << 8 ^ TABLE[usize::from((sum >> 24) as u8 ^ byte)]
    })
}

/// The pages of a file, wherever they are.
struct Pages {
    source: Bytes,
    size: u64,
    buffer: Vec<u8>,
    n_false: usize,
}

impl Pages {
    fn new(source: Bytes) -> Pages {
        let size = source.size();
        Pages { source, size, buffer: Vec::new(), n_false: 0 }
    }

    /// The page that begins exactly at `at`.
    fn at(&mut self, at: u64) -> io::Result<Option<Page>> {
        // The head alone first: what follows may be far away, or nothing that belongs to a page.
        self.buffer.resize(HEAD + 255, 0);
        let there = read_up_to(&mut self.source, at, &mut self.buffer)?;
        let Some(head) = self.buffer.get(..there).filter(|head| head.starts_with(b"OggS\0")) else {
            return Ok(None);
        };
        let Some(segments) = head.get(26) else { return Ok(None) };
        let lacing = head.get(HEAD..HEAD + usize::from(*segments)).unwrap_or_default();
        let body: usize = lacing.iter().map(|value| usize::from(*value)).sum();
        let len = HEAD + lacing.len() + body;
        if len > there {
            self.buffer.resize(len, 0);
            let more = read_up_to(&mut self.source, at + there as u64, &mut self.buffer[there..])?;
            self.buffer.truncate(there + more);
        }
        Ok(Page::parse(at, &self.buffer))
    }

    /// The first page that begins at `from` or behind it, before `limit`.
    fn next(&mut self, from: u64, limit: u64) -> Result<Option<Page>, FormatError> {
        let mut from = from;
        loop {
            if let Some(page) = self.at(from)? {
                return Ok(Some(page));
            }
            let Some(found) = self.scan(from + 1, limit)? else { return Ok(None) };
            self.n_false += 1;
            if self.n_false > MAX_FALSE_PAGES {
                return Err(broken("hardly a page of it is whole"));
            }
            from = found;
        }
    }

    /// Where something begins that looks like a page.
    fn scan(&mut self, from: u64, limit: u64) -> io::Result<Option<u64>> {
        const MARK: &[u8; 4] = b"OggS";
        let mut at = from;
        let limit = limit.min(self.size);
        while at < limit {
            self.buffer.resize(MAX_PAGE, 0);
            let there = read_up_to(&mut self.source, at, &mut self.buffer)?;
            let data = &self.buffer[..there];
            if let Some(place) = data.windows(MARK.len()).position(|four| four == MARK) {
                let found = at + place as u64;
                return Ok((found < limit).then_some(found));
            }
            if there < self.buffer.len() {
                return Ok(None);
            }
            at += (there - (MARK.len() - 1)) as u64;
        }
        Ok(None)
    }
}

/// A packet that was put together.
#[derive(Clone, Copy, Debug)]
struct Packet {
    /// The number of frames up to its end, if its page says so: if it is the last to end there.
    granule: Option<i64>,
    /// Whether something is missing before it.
    follows_gap: bool,
}

/// The packets of one stream, from some page on.
struct Packets {
    pages: Pages,
    serial: u32,
    /// Where the next page is expected.
    at: u64,
    page: Page,
    /// The next segment of the page, and where its bytes begin.
    segment: usize,
    offset: usize,
    /// Whether nothing was read since the last jump: then the next page is taken as it comes.
    jumped: bool,
}

impl Packets {
    /// Goes on at a page.
    fn jump(&mut self, at: u64) {
        self.at = at;
        self.page = Page::default();
        self.segment = 0;
        self.offset = 0;
        self.jumped = true;
    }

    /// Replaces `data` by the next packet, of which at most [`MAX_PACKET`] bytes are kept.
    fn next(&mut self, data: &mut Vec<u8>) -> Result<Option<Packet>, FormatError> {
        data.clear();
        // Whether `data` holds a beginning, and whether something was lost.
        let (mut is_open, mut follows_gap) = (false, false);
        loop {
            if self.segment == self.page.lacing.len() {
                let before = self.page.sequence;
                if !self.turn()? {
                    return Ok(None);
                }
                let follows = self.jumped || self.page.sequence == before.wrapping_add(1);
                if !follows || is_open != self.page.has(Page::CONTINUED) {
                    follows_gap |= !self.jumped;
                    data.clear();
                    is_open = false;
                    if self.page.has(Page::CONTINUED) {
                        self.skip_rest();
                    }
                }
                self.jumped = false;
                continue;
            }
            let len = usize::from(self.page.lacing[self.segment]);
            let bytes = &self.page.body[self.offset..self.offset + len];
            let room = MAX_PACKET - data.len();
            data.extend(&bytes[..len.min(room)]);
            self.step(len);
            is_open = len == 255;
            if !is_open {
                let rest = &self.page.lacing[self.segment..];
                let is_last = rest.iter().all(|value| *value == 255);
                let granule = if is_last { self.page.granule() } else { None };
                return Ok(Some(Packet { granule, follows_gap }));
            }
        }
    }

    fn step(&mut self, len: usize) {
        self.segment += 1;
        self.offset += len;
    }

    /// Steps over the end of a packet whose beginning is not here.
    fn skip_rest(&mut self) {
        while let Some(value) = self.page.lacing.get(self.segment).copied() {
            self.step(value.into());
            if value < 255 {
                break;
            }
        }
    }

    /// To the next page of this stream; false at its end.
    fn turn(&mut self) -> Result<bool, FormatError> {
        if self.page.has(Page::LAST) {
            return Ok(false);
        }
        while let Some(page) = self.pages.next(self.at, u64::MAX)? {
            self.at = page.end();
            if page.serial == self.serial {
                self.page = page;
                (self.segment, self.offset) = (0, 0);
                return Ok(true);
            }
            // Another stream that begins behind this one's sound: the next link of a chain.
            if page.has(Page::FIRST) && self.page.granule > 0 {
                return Ok(false);
            }
        }
        Ok(false)
    }
}

/// An Ogg file being decoded.
pub struct Ogg {
    packets: Packets,
    decoder: Box<dyn PacketDecoder>,
    layout: Layout,
    /// The first page of sound.
    audio: u64,
    /// What is taken from a granule position for the number of an audible frame.
    origin: i64,
    /// The number of the next frame; unknown until a page says it.
    next: Option<i64>,
    /// The last frame number given out since the last seek.
    given: i64,
    data: Vec<u8>,
}

impl Ogg {
    /// Reads the headers and the first page of sound.
    ///
    /// # Errors
    ///
    /// When they are not those of a stream that can be played.
    pub fn open(source: Bytes) -> Result<Ogg, FormatError> {
        let (mut packets, kind) = begin(source)?;
        let mut data = Vec::new();
        let mut headers = Vec::new();
        let count = if kind == Codec::Opus { 2 } else { MAX_HEADERS };
        for number in 0..count {
            if packets.next(&mut data)?.is_none() {
                return Err(broken("it ends in its headers"));
            }
            // The comments may be long, and nobody needs them here.
            headers.push(if number == 1 { Vec::new() } else { data.clone() });
        }
        let decoder: Box<dyn PacketDecoder> = match kind {
            Codec::Opus => Box::new(opus::Opus::new(&headers[0])?),
            _ => Box::new(vorbis::Vorbis::new(&headers[0], &headers[2])?),
        };
        // Sound begins on a page of its own.
        let (audio, layout) = (packets.at, decoder.layout());
        let mut ogg =
            Ogg { packets, decoder, layout, audio, origin: 0, next: None, given: 0, data };
        ogg.find_origin()?;
        ogg.rewind();
        Ok(ogg)
    }

    /// A stream that was cut out of a longer one does not begin at 0: its first page says a
    /// higher number than it has frames. One whose first page says a lower number begins with
    /// frames that nobody shall hear.
    fn find_origin(&mut self) -> Result<(), FormatError> {
        let skip = i64::from(self.layout.delay);
        self.origin = skip;
        self.packets.jump(self.audio);
        let (mut frames, mut out) = (0_i64, Vec::new());
        while let Some(packet) = self.packets.next(&mut self.data)? {
            // What does not decode is not counted, and then nothing is concluded from it.
            if self.decoder.decode(&self.data, &mut out).is_err() || packet.follows_gap {
                return Ok(());
            }
            frames += self.frames_of(&out);
            let Some(granule) = packet.granule else { continue };
            let early = granule.saturating_sub(frames);
            if early > 0 {
                self.origin = skip.saturating_add(early);
            } else if !self.packets.page.has(Page::LAST)
                && let Ok(more) = u32::try_from(-early)
            {
                self.layout.delay = self.layout.delay.saturating_add(more);
            }
            break;
        }
        Ok(())
    }

    fn frames_of(&self, samples: &[f32]) -> i64 {
        i64::try_from(samples.len() / usize::from(self.layout.channels)).unwrap_or(0)
    }

    fn number(&self, granule: i64) -> i64 {
        granule.saturating_sub(self.origin)
    }

    fn rewind(&mut self) {
        self.packets.jump(self.audio);
        self.decoder.reset();
        self.given = i64::MIN;
        self.next = Some(-i64::from(self.layout.delay));
    }

    /// The last page that ends at or before `number`, found by halving the file.
    fn search(&mut self, number: i64) -> Result<Option<u64>, FormatError> {
        const NEAR: u64 = 2 * MAX_PAGE as u64;
        let (mut low, mut high) = (self.audio, self.packets.pages.size);
        for _ in 0..MAX_STEPS {
            if high.saturating_sub(low) <= NEAR {
                break;
            }
            let middle = low + (high - low) / 2;
            match self.page_from(middle, high)? {
                Some(page) if self.number(page.granule) <= number => low = page.at,
                _ => high = middle,
            }
        }
        let (mut best, mut at) = (None, low);
        while let Some(page) = self.page_from(at, u64::MAX)? {
            if self.number(page.granule) > number {
                break;
            }
            best = Some(page.at);
            at = page.end();
        }
        Ok(best)
    }

    /// The first page of this stream at or behind `at`, before `limit`, that says a number.
    fn page_from(&mut self, at: u64, limit: u64) -> Result<Option<Page>, FormatError> {
        let mut at = at;
        while let Some(page) = self.packets.pages.next(at, limit)? {
            at = page.end();
            if page.serial == self.packets.serial && page.granule().is_some() {
                return Ok(Some(page));
            }
            if at >= limit {
                break;
            }
        }
        Ok(None)
    }

    /// The number that the last page says.
    fn last_granule(&mut self) -> Result<Option<i64>, FormatError> {
        let size = self.packets.pages.size;
        // Usually among the last bytes; if other things follow, all pages are looked at.
        for back in [2 * MAX_PAGE as u64, u64::MAX] {
            let mut at = size.saturating_sub(back).max(self.audio);
            let mut last = None;
            while let Some(page) = self.page_from(at, u64::MAX)? {
                at = page.end();
                last = page.granule();
                if page.has(Page::LAST) {
                    break;
                }
            }
            if last.is_some() {
                return Ok(last);
            }
        }
        Ok(None)
    }
}

impl Decoder for Ogg {
    fn layout(&self) -> Layout {
        self.layout
    }

    fn seek(&mut self, frame: u64) -> Result<(), FormatError> {
        self.rewind();
        // The search begins in the middle of the file, which may not be here yet.
        if frame <= u64::from(self.layout.rate) * NEAR_SECONDS {
            return Ok(());
        }
        let frame = i64::try_from(frame).unwrap_or(i64::MAX);
        let target = frame.saturating_sub(self.decoder.preroll());
        if let Some(at) = self.search(target)? {
            self.packets.jump(at);
            self.next = None;
        }
        Ok(())
    }

    fn next(&mut self, out: &mut Vec<f32>) -> Result<Option<i64>, FormatError> {
        let mut errors = 0;
        while errors < MAX_ERRORS {
            let Some(packet) = self.packets.next(&mut self.data)? else { return Ok(None) };
            if packet.follows_gap {
                self.decoder.reset();
                self.next = None;
            }
            match self.decoder.decode(&self.data, out) {
                Ok(()) => errors = 0,
                Err(FormatError::Io(error)) => return Err(error.into()),
                Err(_) => {
                    errors += 1;
                    out.clear();
                    self.next = None;
                }
            }
            let first = self.next;
            let after = first.map(|first| first.saturating_add(self.frames_of(out)));
            let said = packet.granule.map(|granule| self.number(granule));
            // Frames may be missing without a trace, and a page then counts further; a lower
            // number is the end of the last packet, or wrong.
            self.next = after.max(said);
            match first {
                Some(first) if !out.is_empty() && first >= self.given => {
                    self.given = after.unwrap_or(first);
                    return Ok(Some(first));
                }
                _ => {}
            }
        }
        Err(broken("hardly a packet of it decodes"))
    }

    fn count(&mut self) -> Result<u64, FormatError> {
        let last = self.last_granule()?.map_or(0, |granule| self.number(granule));
        Ok(u64::try_from(last).unwrap_or(0))
    }
}

/// Which stream of a file can be played.
///
/// # Errors
///
/// When none can; the error says what the file holds.
pub fn recognise(source: &mut dyn ByteSource, start: u64) -> Result<Codec, FormatError> {
    let mut page = vec![0; MAX_PAGE];
    let (mut at, mut found) = (start, "an Ogg file of an unknown kind");
    for _ in 0..MAX_STREAMS {
        let there = read_up_to(source, at, &mut page)?;
        let Some(first) = Page::parse(at, &page[..there]).filter(|page| page.has(Page::FIRST))
        else {
            break;
        };
        match kind_of(&first.body) {
            Ok(codec) => return Ok(codec),
            Err(name) => found = name,
        }
        at = first.end();
    }
    Err(FormatError::Unsupported(found.into()))
}

fn kind_of(packet: &[u8]) -> Result<Codec, &'static str> {
    let kinds: [(&[u8], &str); 4] = [
        (b"\x7FFLAC", "an Ogg FLAC file"),
        (b"Speex", "an Ogg Speex file"),
        (b"\x80theora", "a video"),
        (b"fishead", "an Ogg file of an unknown kind"),
    ];
    if packet.starts_with(b"OpusHead") {
        return Ok(Codec::Opus);
    }
    if packet.starts_with(b"\x01vorbis") {
        return Ok(Codec::Vorbis);
    }
    let named = kinds.iter().find(|(mark, _)| packet.starts_with(mark));
    Err(named.map_or("an Ogg file of an unknown kind", |(_, name)| name))
}

/// Finds the stream; its first packet comes next.
fn begin(mut source: Bytes) -> Result<(Packets, Codec), FormatError> {
    let start = super::skip_id3(source.as_mut())?;
    let mut pages = Pages::new(source);
    let mut at = start;
    for _ in 0..MAX_STREAMS {
        let Some(page) = pages.at(at)?.filter(|page| page.has(Page::FIRST)) else { break };
        let (next, serial) = (page.end(), page.serial);
        if let Ok(codec) = kind_of(&page.body) {
            let jumped = true;
            let page = Page::default();
            let packets = Packets { pages, serial, at, page, segment: 0, offset: 0, jumped };
            return Ok((packets, codec));
        }
        at = next;
    }
    Err(broken("it does not begin like an Ogg file"))
}

/// The bytes of the comments behind their mark, 256 KiB of them at most.
///
/// # Errors
///
/// When the file does not begin as an Ogg file must.
pub fn comment(source: Bytes) -> Result<Vec<u8>, FormatError> {
    let (mut packets, _) = begin(source)?;
    let mut data = Vec::new();
    for _ in 0..2 {
        packets.next(&mut data)?.ok_or_else(|| broken("it ends in its headers"))?;
    }
    let mark = [&b"OpusTags"[..], b"\x03vorbis"].into_iter().find(|mark| data.starts_with(mark));
    Ok(mark.map_or_else(Vec::new, |mark| data.split_off(mark.len())))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{bytes, chirp_error, decode_from, fixture, rms, tones_error};
    use super::*;

    fn open(name: &str) -> Ogg {
        Ogg::open(bytes(&fixture(name))).expect("opens")
    }

    /// The places of the pages.
    fn pages(data: &[u8]) -> Vec<usize> {
        (0..data.len()).filter(|at| Page::parse(*at as u64, &data[*at..]).is_some()).collect()
    }

    /// Says another number on a page.
    fn set_granule(page: &mut [u8], granule: i64) {
        page[6..14].copy_from_slice(&granule.to_le_bytes());
        let sum = check_sum(page);
        page[22..26].copy_from_slice(&sum.to_le_bytes());
    }

    #[test]
    fn both_kinds_are_as_long_as_what_was_encoded_and_in_their_place() {
        for (name, rate, frames) in
            [("stereo.ogg", 44_100, 66_150), ("stereo.opus", 48_000, 72_000)]
        {
            let mut decoder = open(name);
            let layout = decoder.layout();
            assert_eq!((layout.rate, layout.channels, layout.positions), (rate, 2, 0b11));
            assert_eq!(decoder.count().expect("counts"), frames, "{name}");
            let all = decode_from(&mut decoder, 0);
            let error = chirp_error(&all[..2 * usize::try_from(frames).expect("small")], rate);
            assert!(error < 0.015, "{name}: {error}");
        }
    }

    #[test]
    fn six_channels_come_in_the_order_of_their_positions() {
        for name in ["six.ogg", "six.opus"] {
            let mut decoder = open(name);
            let layout = decoder.layout();
            assert_eq!((layout.channels, layout.positions), (6, 0b11_1111), "{name}");
            assert_eq!(decoder.count().expect("counts"), 24_000);
            let all = decode_from(&mut decoder, 0);
            let error = tones_error(&all[..6 * 24_000], 6);
            assert!(error < 0.02, "{name}: {error}");
        }
    }

    #[test]
    fn a_seek_is_exact() {
        for (name, bound) in [("stereo.ogg", 1e-6), ("stereo.opus", 2e-3)] {
            let mut decoder = open(name);
            let all = decode_from(&mut decoder, 0);
            for from in [1, 5000, 40_000, 66_000] {
                let place = usize::try_from(from * 2).expect("small");
                assert!(rms(&decode_from(&mut decoder, from), &all[place..]) < 1e-6);
                // So short a file is not searched by itself.
                let target = i64::try_from(from).expect("small") - decoder.decoder.preroll();
                decoder.rewind();
                if let Some(at) = decoder.search(target).expect("searches") {
                    decoder.packets.jump(at);
                    decoder.next = None;
                }
                let rest = super::super::tests::decode_on(&mut decoder, from);
                let error = rms(&rest, &all[place..]);
                assert!(error < bound, "{name} from {from}: {error}");
            }
        }
    }

    #[test]
    fn a_page_that_is_damaged_leaves_a_gap_and_shifts_nothing() {
        for (name, rate) in [("stereo.ogg", 44_100), ("stereo.opus", 48_000)] {
            let mut data = fixture(name);
            let places = pages(&data);
            let frames = open(name).count().expect("counts");
            // One of the middle.
            data[places[places.len() / 2] + 100] ^= 1;
            let mut decoder = Ogg::open(bytes(&data)).expect("opens");
            assert_eq!(decoder.count().expect("counts"), frames);
            let all = decode_from(&mut decoder, 0);
            let tail = all.len() - 2000;
            let wanted = decode_from(&mut open(name), 0);
            let error = rms(&all[tail..], &wanted[tail..]);
            assert!(error < 0.02, "{name} at {rate} Hz: {error}");
        }
    }

    #[test]
    fn a_file_cut_short_is_as_long_as_its_whole_pages() {
        for name in ["stereo.ogg", "stereo.opus"] {
            let data = fixture(name);
            for len in [data.len() / 2, data.len() * 3 / 4, data.len() - 1] {
                let mut decoder = Ogg::open(bytes(&data[..len])).expect("opens");
                let frames = decoder.count().expect("counts");
                let all = decode_from(&mut decoder, 0);
                assert_eq!(all.len() as u64, 2 * frames, "{name} cut at {len}");
            }
        }
    }

    #[test]
    fn a_piece_of_a_longer_stream_begins_at_zero() {
        let mut data = fixture("stereo.ogg");
        let mut places = pages(&data);
        places.push(data.len());
        for two in places.windows(2).skip(2) {
            let page = &mut data[two[0]..two[1]];
            let granule = Page::parse(0, page).expect("a page").granule;
            set_granule(page, granule + 1_000_000);
        }
        let mut decoder = Ogg::open(bytes(&data)).expect("opens");
        // The end of the stream is cut by its last page only if that is not its first.
        let frames = decoder.count().expect("counts");
        assert!(frames.abs_diff(66_150) < 2048, "{frames}");
        assert!(chirp_error(&decode_from(&mut decoder, 0)[..120_000], 44_100) < 0.015);
    }

    #[test]
    fn another_stream_behind_the_first_is_not_played_and_other_things_neither() {
        for more in [fixture("stereo.opus"), b"TAG".iter().copied().cycle().take(200_000).collect()]
        {
            let data = [fixture("stereo.ogg"), more].concat();
            let mut decoder = Ogg::open(bytes(&data)).expect("opens");
            assert_eq!(decoder.count().expect("counts"), 66_150);
            let all = decode_from(&mut decoder, 0);
            assert!(all.len() < 2 * 68_000, "{}", all.len());
        }
    }

    #[test]
    fn kinds_that_cannot_be_played_are_named() {
        let page = |packet: &[u8]| {
            let mut page = b"OggS\0\x02".to_vec();
            page.resize(26, 0);
            page.push(1);
            page.push(u8::try_from(packet.len()).expect("short"));
            page.extend(packet);
            set_granule(&mut page, 0);
            page
        };
        let named = |data: &[u8]| {
            let mut source = io::Cursor::new(data.to_vec());
            recognise(&mut source, 0).map_err(|error| error.to_string())
        };
        assert_eq!(named(&page(b"Speex   1.2")), Err("an Ogg Speex file".into()));
        assert_eq!(named(&page(b"\x7FFLAC")), Err("an Ogg FLAC file".into()));
        assert_eq!(named(&page(b"?")), Err("an Ogg file of an unknown kind".into()));
        let beside = [page(b"\x80theora"), page(b"OpusHead")].concat();
        assert_eq!(named(&beside), Ok(Codec::Opus));
    }

    #[test]
    fn a_file_that_pretends_to_be_full_of_pages_is_given_up() {
        let mut data = fixture("stereo.ogg")[..pages(&fixture("stereo.ogg"))[2]].to_vec();
        data.extend(b"OggS".iter().cycle().take(100_000));
        assert!(Ogg::open(bytes(&data)).is_err());
    }
}
