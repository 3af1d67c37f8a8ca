//! Title, artists and album, as people see them. Read where a file is taken in, never by those
//! who only decode it; what is missing or unreadable is left out, never an error.

use std::io;

use super::format::{Bytes, FormatError, aiff, flac, id3, mp4, ogg, read_up_to, wav};
use crate::base::limits::{MAX_ARTISTS, MAX_TAG};
use crate::wire::Codec;

/// Bytes of textual tags that are looked at; real ones have hundreds.
const MAX_TEXT: u64 = 1024 * 1024;

/// What a file says about itself.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Tags {
    /// Title, if there is one.
    pub title: Option<String>,
    /// Who plays.
    pub artists: Vec<String>,
    /// Album; may be empty.
    pub album: String,
}

/// What a text says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Field {
    Title,
    Artist,
    Album,
}

impl Tags {
    /// Reads them.
    #[must_use]
    pub fn read(codec: Codec, source: Bytes) -> Tags {
        let found = match codec {
            Codec::Flac => from_vorbis_comment(source),
            Codec::Wav => from_info_list(source),
            Codec::Mp3 => from_mp3(source),
            Codec::Aac | Codec::Alac => from_mp4(source),
            Codec::Vorbis | Codec::Opus => from_ogg(source),
            Codec::Aiff => from_aiff(source),
        };
        found.unwrap_or_else(|error| {
            tracing::debug!(%error, "tags are unreadable");
            Tags::default()
        })
    }

    fn lacks(&self, field: Field) -> bool {
        match field {
            Field::Title => self.title.is_none(),
            Field::Artist => self.artists.is_empty(),
            Field::Album => self.album.is_empty(),
        }
    }

    /// Adds a text, unless it is empty, or there is one already where only one can be.
    pub(super) fn add(&mut self, field: Field, text: &str) {
        let text = clean(text);
        if text.is_empty() {
            return;
        }
        match field {
            Field::Title => self.title = self.title.take().or(Some(text)),
            Field::Artist if self.artists.len() < MAX_ARTISTS && !self.artists.contains(&text) => {
                self.artists.push(text);
            }
            Field::Album if self.album.is_empty() => self.album = text,
            _ => {}
        }
    }
}

/// Without control characters, without white space around, at most [`MAX_TAG`] characters.
#[must_use]
pub fn clean(text: &str) -> String {
    let plain: String = text.trim().chars().filter(|c| !c.is_control()).take(MAX_TAG).collect();
    plain.trim().to_owned()
}

fn from_vorbis_comment(mut source: Bytes) -> Result<Tags, FormatError> {
    let Some((at, len)) = flac::comment(&mut source)? else { return Ok(Tags::default()) };
    Ok(vorbis_comment(&read_some(&mut source, at, len)?))
}

fn vorbis_comment(block: &[u8]) -> Tags {
    let mut rest = block;
    let mut tags = Tags::default();
    // The name of the encoder comes first, then a count that is not needed.
    let _ = take_text(&mut rest);
    rest = rest.get(4..).unwrap_or_default();
    while let Some(entry) = take_text(&mut rest) {
        let entry = String::from_utf8_lossy(entry);
        let Some((name, value)) = entry.split_once('=') else { continue };
        match name.to_ascii_uppercase().as_str() {
            "TITLE" => tags.add(Field::Title, value),
            "ARTIST" => tags.add(Field::Artist, value),
            "ALBUM" => tags.add(Field::Album, value),
            _ => {}
        }
    }
    tags
}

/// Takes a text with its length (32 bits, little endian) in front.
fn take_text<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (len, after) = rest.split_first_chunk::<4>()?;
    let len = usize::try_from(u32::from_le_bytes(*len)).ok()?;
    let text = after.get(..len)?;
    *rest = &after[len..];
    Some(text)
}

fn from_info_list(mut source: Bytes) -> Result<Tags, FormatError> {
    let Some((at, len)) = wav::map(&mut source)?.info else { return Ok(Tags::default()) };
    let list = read_some(&mut source, at, len)?;
    let mut tags = Tags::default();
    let Some(mut rest) = list.strip_prefix(b"INFO") else { return Ok(tags) };
    while let Some((name, after)) = rest.split_first_chunk::<4>() {
        let mut after = after;
        let Some(text) = take_text(&mut after) else { break };
        let odd = text.len() % 2;
        let text = String::from_utf8_lossy(text);
        match name {
            b"INAM" => tags.add(Field::Title, &text),
            b"IART" => tags.add(Field::Artist, &text),
            b"IPRD" => tags.add(Field::Album, &text),
            _ => {}
        }
        rest = after.get(odd..).unwrap_or_default();
    }
    Ok(tags)
}

fn read_some(source: &mut Bytes, at: u64, len: u64) -> io::Result<Vec<u8>> {
    let mut block = vec![0; usize::try_from(len.min(MAX_TEXT)).expect("at most a megabyte")];
    let there = read_up_to(source, at, &mut block)?;
    block.truncate(there);
    Ok(block)
}

fn from_ogg(source: Bytes) -> Result<Tags, FormatError> {
    Ok(vorbis_comment(&ogg::comment(source)?))
}

fn from_mp4(mut source: Bytes) -> Result<Tags, FormatError> {
    let mut tags = Tags::default();
    for (name, text) in mp4::texts(source.as_mut())? {
        match &name {
            b"\xA9nam" => tags.add(Field::Title, &text),
            b"\xA9ART" => tags.add(Field::Artist, &text),
            _ => tags.add(Field::Album, &text),
        }
    }
    Ok(tags)
}

fn from_aiff(mut source: Bytes) -> Result<Tags, FormatError> {
    let map = aiff::map(&mut source, aiff::Purpose::Tags)?;
    let mut tags = match map.id3 {
        Some((at, _)) => id3::read(source.as_mut(), at)?,
        None => Tags::default(),
    };
    for (field, place) in [(Field::Title, map.name), (Field::Artist, map.author)] {
        if let Some((at, len)) = place
            && tags.lacks(field)
        {
            let text = read_some(&mut source, at, len)?;
            tags.add(field, &String::from_utf8_lossy(&text));
        }
    }
    Ok(tags)
}

fn from_mp3(mut source: Bytes) -> Result<Tags, FormatError> {
    let mut tags = id3::read(source.as_mut(), 0)?;
    // The old tag at the end cuts its texts at 30 characters; it fills what is missing.
    let old = id3::read_old(source.as_mut())?;
    if tags.title.is_none() {
        tags.title = old.title;
    }
    if tags.artists.is_empty() {
        tags.artists = old.artists;
    }
    if tags.album.is_empty() {
        tags.album = old.album;
    }
    Ok(tags)
}

#[cfg(test)]
mod tests {
    use super::super::format::tests::{bytes, fixture};
    use super::*;

    fn tags(title: &str, artists: &[&str], album: &str) -> Tags {
        Tags {
            title: (!title.is_empty()).then(|| title.into()),
            artists: artists.iter().map(|a| (*a).into()).collect(),
            album: album.into(),
        }
    }

    #[test]
    fn tags_of_every_format_are_read() {
        let flac = Tags::read(Codec::Flac, bytes(&fixture("stereo.flac")));
        assert_eq!(flac, tags("Rising and falling", &["First", "Second"], "Fixtures"));
        let cbr = Tags::read(Codec::Mp3, bytes(&fixture("cbr.mp3")));
        assert_eq!(cbr, tags("Constant", &["LAME"], ""));
        let vbr = Tags::read(Codec::Mp3, bytes(&fixture("vbr.mp3")));
        assert_eq!(vbr, tags("Variable", &["Nobody"], "Fixtures"));
        assert_eq!(Tags::read(Codec::Flac, bytes(&fixture("mono24.flac"))), Tags::default());
        let others = [
            (Codec::Aac, "stereo.m4a"),
            (Codec::Alac, "lossless.m4a"),
            (Codec::Vorbis, "stereo.ogg"),
            (Codec::Opus, "stereo.opus"),
        ];
        for (codec, file) in others {
            let found = Tags::read(codec, bytes(&fixture(file)));
            assert_eq!(found, tags("Rising", &["Nobody"], "Fixtures"), "{file}");
        }
    }

    #[test]
    fn a_wav_names_its_title() {
        let mut data =
            b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0\x40\x1f\0\0\x80\x3e\0\0\x02\0\x10\0"
                .to_vec();
        data.extend(b"LIST\x1c\0\0\0INFOINAM\x03\0\0\0Odd\0IART\x04\0\0\0Them");
        data.extend(b"data\x02\0\0\0\0\0");
        assert_eq!(Tags::read(Codec::Wav, bytes(&data)), tags("Odd", &["Them"], ""));
    }

    #[test]
    fn long_and_strange_texts_are_cut_and_cleaned() {
        assert_eq!(clean("  a\u{7}b\n "), "ab");
        assert_eq!(clean(&"é".repeat(1000)).chars().count(), MAX_TAG);
        let mut many = Tags::default();
        for i in 0..20 {
            many.add(Field::Artist, &i.to_string());
        }
        assert_eq!(many.artists.len(), MAX_ARTISTS);
    }

    #[test]
    fn lengths_that_lie_end_the_reading() {
        let mut data = fixture("stereo.flac");
        let at = data.windows(6).position(|w| w == b"TITLE=").expect("is there") - 4;
        data[at..at + 4].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(Tags::read(Codec::Flac, bytes(&data)), Tags::default());
    }
}
