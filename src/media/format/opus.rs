//! The packets of an Opus stream (RFC 6716, RFC 7845), decoded by libopus.
//!
//! More than two channels travel as several streams of one or two in each packet (RFC 7845,
//! section 3). They are taken apart here, and each has a decoder of its own.

use ::opus::{Channels, Decoder};

use super::ogg::PacketDecoder;
use super::{FormatError, Layout, broken, mix};

/// Opus decodes at this rate, whatever was encoded.
const RATE: u32 = 48_000;

/// Frames of the longest packet: 120 ms.
const MAX_FRAMES: usize = 5760;

/// Frames before a place in the middle that the decoder needs to be right there: 80 ms (RFC 7845,
/// section 4.6).
const PREROLL: i64 = 3840;

/// Marks a channel that is silent.
const SILENT: u8 = 255;

/// An Opus stream being decoded.
pub(super) struct Opus {
    streams: Vec<Stream>,
    /// For every channel of a frame, in the order of loudspeaker positions: which stream and which
    /// of its channels; none is silent.
    channels: Vec<Option<(usize, usize)>>,
    layout: Layout,
    gain: f32,
}

struct Stream {
    decoder: Decoder,
    channels: usize,
    samples: Vec<f32>,
}

impl Opus {
    /// From the first header.
    pub fn new(head: &[u8]) -> Result<Opus, FormatError> {
        let Some(&[version, channels, skip_a, skip_b, _, _, _, _, gain_a, gain_b, family]) =
            head.get(8..19)
        else {
            return Err(broken("its first header is cut short"));
        };
        if version >> 4 != 0 {
            return Err(FormatError::Unsupported(format!("Opus of version {version}")));
        }
        let skip = u16::from_le_bytes([skip_a, skip_b]);
        let layout = Layout::check(RATE, channels.into(), skip.into())?;
        let (n_streams, n_coupled, mapping) = match (family, channels) {
            (0, 1) => (1, 0, vec![0]),
            (0, 2) => (1, 1, vec![0, 1]),
            (1, _) => {
                let table = head.get(19..21 + usize::from(channels));
                let table = table.ok_or_else(|| broken("its first header is cut short"))?;
                (usize::from(table[0]), usize::from(table[1]), table[2..].to_vec())
            }
            _ => {
                let found = format!("Opus of {channels} channels in an unusual arrangement");
                return Err(FormatError::Unsupported(found));
            }
        };
        let streams = streams(n_streams, n_coupled)?;
        let channels = order(layout.channels)
            .iter()
            .map(|place| assign(mapping[*place], n_streams, n_coupled))
            .collect::<Result<_, _>>()?;
        let gain = f32::from(i16::from_le_bytes([gain_a, gain_b])) / 256.0;
        Ok(Opus { streams, channels, layout, gain: 10_f32.powf(gain / 20.0) })
    }
}

impl PacketDecoder for Opus {
    fn layout(&self) -> Layout {
        self.layout
    }

    fn reset(&mut self) {
        for stream in &mut self.streams {
            // It fails for no decoder that was made.
            let _ = stream.decoder.reset_state();
        }
    }

    fn decode(&mut self, packet: &[u8], out: &mut Vec<f32>) -> Result<(), FormatError> {
        out.clear();
        let (mut rest, mut frames) = (packet, None);
        let last = self.streams.len() - 1;
        for (number, stream) in self.streams.iter_mut().enumerate() {
            let own = if number < last { Some(take_delimited(&mut rest)?) } else { None };
            let decoded = stream.decode(own.as_deref().unwrap_or(rest))?;
            if frames.is_some_and(|frames| frames != decoded) {
                return Err(broken("its channels are of different lengths"));
            }
            frames = Some(decoded);
        }
        for frame in 0..frames.unwrap_or(0) {
            out.extend(self.channels.iter().map(|channel| match *channel {
                Some((stream, side)) => {
                    let stream = &self.streams[stream];
                    stream.samples[frame * stream.channels + side] * self.gain
                }
                None => 0.0,
            }));
        }
        Ok(())
    }

    fn preroll(&self) -> i64 {
        PREROLL
    }
}

impl Stream {
    /// Decodes a packet and returns its frames.
    fn decode(&mut self, packet: &[u8]) -> Result<usize, FormatError> {
        // An empty one would mean "lost" to libopus, which makes something up.
        if packet.is_empty() {
            return Err(broken("a packet of it is empty"));
        }
        self.samples.resize(MAX_FRAMES * self.channels, 0.0);
        self.decoder
            .decode_float(packet, &mut self.samples, false)
            .map_err(|error| FormatError::Broken(error.to_string()))
    }
}

fn streams(n_streams: usize, n_coupled: usize) -> Result<Vec<Stream>, FormatError> {
    if n_streams == 0 || n_coupled > n_streams || n_streams + n_coupled > mix::MAX_CHANNELS {
        return Err(broken("its first header contradicts itself"));
    }
    let make = |number| {
        let channels = if number < n_coupled { Channels::Stereo } else { Channels::Mono };
        let decoder =
            Decoder::new(RATE, channels).map_err(|error| FormatError::Broken(error.to_string()))?;
        let channels = if number < n_coupled { 2 } else { 1 };
        Ok(Stream { decoder, channels, samples: Vec::new() })
    };
    (0..n_streams).map(make).collect()
}

/// Which stream an index of the mapping means, and which of its channels.
fn assign(
    index: u8,
    n_streams: usize,
    n_coupled: usize,
) -> Result<Option<(usize, usize)>, FormatError> {
    if index == SILENT {
        return Ok(None);
    }
    let index = usize::from(index);
    if index >= n_streams + n_coupled {
        return Err(broken("its first header contradicts itself"));
    }
    let coupled = 2 * n_coupled;
    Ok(Some(if index < coupled { (index / 2, index % 2) } else { (index - n_coupled, 0) }))
}

/// Where the channels of loudspeaker positions stand in a frame of Vorbis and Opus (Vorbis I
/// specification, section 4.3.9).
fn order(channels: u8) -> &'static [usize] {
    match channels {
        1 => &[0],
        2 => &[0, 1],
        3 => &[0, 2, 1],
        4 => &[0, 1, 2, 3],
        5 => &[0, 2, 1, 3, 4],
        6 => &[0, 2, 1, 5, 3, 4],
        7 => &[0, 2, 1, 6, 5, 3, 4],
        _ => &[0, 2, 1, 7, 5, 6, 3, 4],
    }
}

/// Takes a packet that says its own length (RFC 6716, annex B), in the form that does not.
fn take_delimited(rest: &mut &[u8]) -> Result<Vec<u8>, FormatError> {
    let cut = || broken("a packet of it is cut short");
    let data = *rest;
    let mut at = 1;
    let toc = *data.first().ok_or_else(cut)?;
    // What lies behind the lengths: the frames, and padding.
    let (head, len) = match toc & 3 {
        0 => (at, take_length(data, &mut at).ok_or_else(cut)?),
        1 => (at, 2 * take_length(data, &mut at).ok_or_else(cut)?),
        2 => {
            let first = take_length(data, &mut at).ok_or_else(cut)?;
            (at, first + take_length(data, &mut at).ok_or_else(cut)?)
        }
        _ => {
            let about = *data.get(at).ok_or_else(cut)?;
            at += 1;
            let mut len = 0;
            if about & 0x40 != 0 {
                len += take_padding(data, &mut at).ok_or_else(cut)?;
            }
            let count = usize::from(about & 0x3F);
            let is_variable = about & 0x80 != 0;
            for _ in 1..if is_variable { count } else { 0 } {
                len += take_length(data, &mut at).ok_or_else(cut)?;
            }
            let head = at;
            let last = take_length(data, &mut at).ok_or_else(cut)?;
            (head, len + if is_variable { last } else { last * count })
        }
    };
    let body = data.get(at..at + len).ok_or_else(cut)?;
    *rest = &data[at + len..];
    Ok([&data[..head], body].concat())
}

/// The length of a frame: one byte, or two.
fn take_length(data: &[u8], at: &mut usize) -> Option<usize> {
    let first = usize::from(*data.get(*at)?);
    *at += 1;
    if first < 252 {
        return Some(first);
    }
    let second = usize::from(*data.get(*at)?);
    *at += 1;
    Some(first + 4 * second)
}

/// The length of the padding: 254 for every byte of 255, and the first other one.
fn take_padding(data: &[u8], at: &mut usize) -> Option<usize> {
    let mut len = 0;
    loop {
        let byte = usize::from(*data.get(*at)?);
        *at += 1;
        if byte < 255 {
            return Some(len + byte);
        }
        len += 254;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(channels: u8, family: u8, table: &[u8]) -> Vec<u8> {
        let mut head = b"OpusHead\x01".to_vec();
        head.extend([channels, 0x38, 0x01, 0x80, 0xBB, 0, 0, 0, 0, family]);
        head.extend(table);
        head
    }

    #[test]
    fn a_head_that_contradicts_itself_is_refused() {
        assert!(Opus::new(&head(2, 0, &[])).is_ok());
        assert!(Opus::new(&head(6, 1, &[4, 2, 0, 4, 1, 2, 3, 5])).is_ok());
        for bad in [
            head(0, 0, &[]),
            head(3, 0, &[]),
            head(9, 1, &[9, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]),
            head(2, 255, &[2, 0, 0, 1]),
            head(2, 1, &[0, 0, 0, 1]),
            head(2, 1, &[1, 2, 0, 1]),
            head(2, 1, &[1, 1, 0, 2]),
            head(2, 1, &[255, 255, 0, 2]),
            head(6, 1, &[4, 2, 0]),
            b"OpusHead".to_vec(),
        ] {
            assert!(Opus::new(&bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn packets_that_say_their_length_are_taken_apart() {
        let frame = |len: usize| vec![7; len];
        // (with length, without)
        let cases = [
            ([&[0xFC, 3][..], &frame(3)].concat(), [&[0xFC][..], &frame(3)].concat()),
            ([&[0xFD, 2][..], &frame(4)].concat(), [&[0xFD][..], &frame(4)].concat()),
            ([&[0xFE, 1, 2][..], &frame(3)].concat(), [&[0xFE, 1][..], &frame(3)].concat()),
            ([&[0xFC, 252, 1][..], &frame(256)].concat(), [&[0xFC][..], &frame(256)].concat()),
            ([&[0xFF, 3, 2][..], &frame(6)].concat(), [&[0xFF, 3][..], &frame(6)].concat()),
            (
                [&[0xFF, 0xC2, 2, 1, 3][..], &frame(6)].concat(),
                [&[0xFF, 0xC2, 2, 1][..], &frame(6)].concat(),
            ),
        ];
        for (said, plain) in cases {
            let data = [&said[..], b"rest"].concat();
            let mut rest = data.as_slice();
            assert_eq!(take_delimited(&mut rest).expect("whole"), plain);
            assert_eq!(rest, b"rest");
            for len in 0..said.len() {
                assert!(take_delimited(&mut &said[..len]).is_err());
            }
        }
    }
}
