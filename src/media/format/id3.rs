//! Title, artists and album from `ID3v2` (2.2 to 2.4) and the old tag of 128 bytes.
//!
//! Frame by frame: a picture is stepped over unread, however large it says it is, and of a text
//! no more is read than anybody shows.
//!
//! Public sources: the informal standards "ID3 tag version 2.2.0", "2.3.0" and "2.4.0" of id3.org.

use super::{ByteSource, FormatError, read_up_to};
use crate::media::tags::{Field, Tags};

/// Frames of a tag; there are a few dozen at most.
const MAX_FRAMES: usize = 1024;

/// Bytes of a text that are read: more than the longest that is shown, in the widest encoding.
const MAX_TEXT: u64 = 4096;

const HEADER: u64 = 10;

/// Reads the tag that begins at `at`; without one, nothing is found.
///
/// # Errors
///
/// When the bytes cannot be read.
pub(in crate::media) fn read(source: &mut dyn ByteSource, at: u64) -> Result<Tags, FormatError> {
    let mut tags = Tags::default();
    let mut head = [0; 10];
    if read_up_to(source, at, &mut head)? < head.len() || !head.starts_with(b"ID3") {
        return Ok(tags);
    }
    let (version, flags) = (head[3], head[5]);
    let end = at + HEADER + seven_bits(&head[6..]);
    let mut place = at + HEADER;
    if flags & 0x40 != 0 && version > 2 {
        place += extended_header(source, place, version)?;
    }
    let frame_head = if version == 2 { 6 } else { 10 };
    for _ in 0..MAX_FRAMES {
        let mut head = [0; 10];
        let head = &mut head[..frame_head];
        if place >= end || read_up_to(source, place, head)? < head.len() || head[0] == 0 {
            break;
        }
        let (len, field) = parse_head(head, version);
        let body = place + head.len() as u64;
        place = body.saturating_add(len);
        // Of what is compressed or encrypted nothing can be said.
        let is_plain = version == 2 || head[9] & 0b1100 == 0;
        let Some(field) = field.filter(|_| is_plain && len > 1) else { continue };
        let skip = if version == 4 && head[9] & 1 != 0 { 4 } else { 0 };
        let len = usize::try_from(len.min(MAX_TEXT)).unwrap_or(0);
        let mut text = vec![0; len];
        let there = read_up_to(source, body, &mut text)?;
        // 2.4 marks every frame in which bytes were put between, the older ones the whole tag.
        let is_spread = if version == 4 { head[9] & 2 != 0 } else { flags & 0x80 != 0 };
        let text = text.get(skip..there).unwrap_or_default();
        let text = if is_spread { unspread(text) } else { text.to_vec() };
        for part in decode(&text).split('\0') {
            tags.add(field, part);
        }
    }
    Ok(tags)
}

/// Reads the tag of 128 bytes at the end.
///
/// # Errors
///
/// When the bytes cannot be read.
pub(in crate::media) fn read_old(source: &mut dyn ByteSource) -> Result<Tags, FormatError> {
    let mut tags = Tags::default();
    let mut tag = [0; 128];
    let Some(at) = source.size().checked_sub(tag.len() as u64) else { return Ok(tags) };
    if read_up_to(source, at, &mut tag)? < tag.len() || !tag.starts_with(b"TAG") {
        return Ok(tags);
    }
    for (field, from) in [(Field::Title, 3), (Field::Artist, 33), (Field::Album, 63)] {
        let text = &tag[from..from + 30];
        let text = text.split(|byte| *byte == 0).next().unwrap_or_default();
        tags.add(field, &latin(text));
    }
    Ok(tags)
}

/// Bytes of the header that may follow the first one.
fn extended_header(source: &mut dyn ByteSource, at: u64, version: u8) -> Result<u64, FormatError> {
    let mut len = [0; 4];
    let there = read_up_to(source, at, &mut len)?;
    let said = if version == 4 { seven_bits(&len) } else { u64::from(u32::from_be_bytes(len)) + 4 };
    Ok(if there == len.len() { said } else { 0 })
}

/// Length and meaning of a frame.
fn parse_head(head: &[u8], version: u8) -> (u64, Option<Field>) {
    let number = |bytes: &[u8]| bytes.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
    let len = match version {
        2 => number(&head[3..6]),
        4 => seven_bits(&head[4..8]),
        _ => number(&head[4..8]),
    };
    let field = match &head[..if version == 2 { 3 } else { 4 }] {
        b"TIT2" | b"TT2" => Some(Field::Title),
        b"TPE1" | b"TP1" => Some(Field::Artist),
        b"TALB" | b"TAL" => Some(Field::Album),
        _ => None,
    };
    (len, field)
}

/// A number with seven bits in each byte.
fn seven_bits(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |sum, byte| sum << 7 | u64::from(byte & 0x7F))
}

/// Without the zeros that were put behind every 255.
fn unspread(data: &[u8]) -> Vec<u8> {
    let mut before = 0;
    let keep = |byte: &u8| {
        let kept = !(before == 0xFF && *byte == 0);
        before = *byte;
        kept
    };
    data.iter().copied().filter(keep).collect()
}

/// The text of a frame, whose first byte says how it is written.
fn decode(frame: &[u8]) -> String {
    let Some((encoding, text)) = frame.split_first() else { return String::new() };
    match (encoding, text) {
        (0, text) => latin(text),
        (1, [0xFE, 0xFF, text @ ..]) | (2, text) => utf16(text, u16::from_be_bytes),
        (1, [0xFF, 0xFE, text @ ..] | text) => {
            // Every part of a list has its own mark.
            utf16(text, u16::from_le_bytes).replace('\u{FEFF}', "")
        }
        _ => String::from_utf8_lossy(text).into_owned(),
    }
}

fn latin(text: &[u8]) -> String {
    text.iter().map(|byte| char::from(*byte)).collect()
}

fn utf16(text: &[u8], unit: fn([u8; 2]) -> u16) -> String {
    let units = text.chunks_exact(2).map(|pair| unit([pair[0], pair[1]]));
    char::decode_utf16(units).map(|char| char.unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::bytes;
    use super::*;
    use crate::base::rng::Rng;

    fn tag(version: u8, flags: u8, frames: &[u8]) -> Vec<u8> {
        let len = frames.len();
        let len = [len >> 21, len >> 14 & 127, len >> 7 & 127, len & 127];
        let len = len.map(|part| u8::try_from(part).expect("seven bits"));
        [&b"ID3"[..], &[version, 0, flags], &len, frames].concat()
    }

    fn frame(name: &str, len: [u8; 4], body: &[u8]) -> Vec<u8> {
        [name.as_bytes(), &len, &[0, 0], body].concat()
    }

    fn found(data: &[u8]) -> (String, Vec<String>, String) {
        let tags = read(bytes(data).as_mut(), 0).expect("reads");
        (tags.title.unwrap_or_default(), tags.artists, tags.album)
    }

    #[test]
    fn every_version_and_encoding_is_read() {
        let old = [&b"TT2\0\0\x04\0\xC9t\xE9"[..], b"TP1\0\0\x03\0Me"].concat();
        assert_eq!(found(&tag(2, 0, &old)), ("Été".into(), vec!["Me".into()], String::new()));
        let title = frame("TIT2", [0, 0, 0, 7], b"\x01\xFF\xFE\xC9\0t\0");
        let album = frame("TALB", [0, 0, 0, 5], b"\x02\0A\0b");
        let both = [title, album].concat();
        assert_eq!(found(&tag(3, 0, &both)), ("Ét".into(), vec![], "Ab".into()));
        let artists = frame("TPE1", [0, 0, 0, 6], "\u{3}A\0é\0".as_bytes());
        assert_eq!(found(&tag(4, 0, &artists)).1, ["A", "é"]);
    }

    #[test]
    fn a_picture_is_stepped_over_whatever_it_says() {
        let picture = frame("APIC", [0, 0x10, 0, 0], &vec![7; 0x10_0000]);
        let title = frame("TIT2", [0, 0, 0, 3], b"\0Hi");
        let data = tag(3, 0, &[picture, title].concat());
        assert_eq!(found(&data).0, "Hi");
        let lie = frame("APIC", [0xFF; 4], b"");
        assert_eq!(found(&tag(3, 0, &lie)).0, "");
    }

    #[test]
    fn a_tag_of_nonsense_ends() {
        let byte = |rng: &mut Rng, limit| u8::try_from(rng.below(limit)).expect("a byte");
        let mut rng = Rng::new(3);
        for _ in 0..200 {
            let mut body: Vec<u8> = (0..40).map(|_| byte(&mut rng, 256)).collect();
            body.splice(..4, *b"TIT2");
            let version = 2 + byte(&mut rng, 3);
            let _ = found(&tag(version, byte(&mut rng, 256), &body));
        }
    }
}
