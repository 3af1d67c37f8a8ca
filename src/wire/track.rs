//! A track as the room knows it: enough to fetch, decode and place it in time, without having
//! seen a byte of it.

use serde::{Deserialize, Serialize};

use crate::base::{BlobHash, Span};

/// How a file is encoded.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Codec {
    /// Free Lossless Audio Codec in its own container.
    Flac,
    /// Linear PCM in RIFF/WAVE.
    Wav,
    /// MPEG-1/2 layer III.
    Mp3,
    /// Advanced Audio Coding (low complexity) in MP4.
    Aac,
    /// Apple Lossless in MP4.
    Alac,
    /// Vorbis in Ogg.
    Vorbis,
    /// Opus in Ogg.
    Opus,
    /// Linear PCM in AIFF or AIFF-C.
    Aiff,
}

/// One audio file.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Track {
    /// Its content: the BLAKE3 root of the file.
    pub hash: BlobHash,
    /// Bytes of the file.
    pub size: u64,
    /// Its encoding.
    pub codec: Codec,
    /// Frames a second, 8,000 to 192,000.
    pub rate: u32,
    /// Channels in the file, 1 to 8.
    pub channels: u8,
    /// Audible frames: without encoder delay and padding.
    pub frames: u64,
    /// Frames that the decoder yields before the first audible one.
    pub delay: u32,
    /// Title, or the file's name without its ending.
    pub title: String,
    /// Who plays; may be empty.
    pub artists: Vec<String>,
    /// Album; may be empty.
    pub album: String,
}

impl Track {
    /// How long it sounds.
    #[must_use]
    pub fn duration(&self) -> Span {
        frames_to_span(self.frames, self.rate)
    }

    /// Bytes a second on average, for pacing; at least 1.
    #[must_use]
    pub fn byte_rate(&self) -> u64 {
        let seconds = self.frames.div_ceil(u64::from(self.rate.max(1))).max(1);
        (self.size / seconds).max(1)
    }
}

/// The time that `frames` take at `rate`, rounded down to a nanosecond.
#[must_use]
pub fn frames_to_span(frames: u64, rate: u32) -> Span {
    let nanos = u128::from(frames) * 1_000_000_000 / u128::from(rate.max(1));
    Span(i64::try_from(nanos).unwrap_or(i64::MAX))
}

/// The frames that fit into `span` at `rate`, rounded to the nearest; none for a negative one.
#[must_use]
pub fn span_to_frames(span: Span, rate: u32) -> u64 {
    let nanos = u128::try_from(span.0).unwrap_or(0);
    u64::try_from((nanos * u128::from(rate) + 500_000_000) / 1_000_000_000).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_and_time_are_inverse() {
        for rate in [8_000, 44_100, 48_000, 192_000] {
            for frames in [0, 1, 2, 44_099, 44_100, 10_000_000_001] {
                assert_eq!(span_to_frames(frames_to_span(frames, rate), rate), frames);
            }
        }
    }
}
