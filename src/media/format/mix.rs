//! From the channels of a file to the two that the room plays.
//!
//! The coefficients are those of Recommendation ITU-R BS.775-4, annex 4, table 2 (mix to two
//! channels): the front centre and every surround channel go in 3 dB lower, a single rear channel
//! 6 dB lower to either side, and the low-frequency effects channel is left out, as the norm has
//! it. Nothing is scaled down to make overload impossible: 5.1 files would then play 7.7 dB below
//! stereo ones. What exceeds full scale is inside the float range of the mixer, and is bounded
//! only behind the volume.

use super::Layout;
use crate::base::limits::MAX_TRACK_CHANNELS;

/// −3 dB.
const HALF_POWER: f32 = std::f32::consts::FRAC_1_SQRT_2;

/// The same as a length.
pub(super) const MAX_CHANNELS: usize = MAX_TRACK_CHANNELS as usize;

/// What a loudspeaker position contributes to left and right. Bits as in the channel mask of
/// Microsoft's `WAVEFORMATEXTENSIBLE`, which symphonia numbers alike.
const SHARES: [[f32; 2]; 18] = [
    [1.0, 0.0],               // front left
    [0.0, 1.0],               // front right
    [HALF_POWER, HALF_POWER], // front centre
    [0.0, 0.0],               // low-frequency effects
    [HALF_POWER, 0.0],        // back left
    [0.0, HALF_POWER],        // back right
    [1.0, 0.0],               // front left of centre
    [0.0, 1.0],               // front right of centre
    [0.5, 0.5],               // back centre
    [HALF_POWER, 0.0],        // side left
    [0.0, HALF_POWER],        // side right
    [0.5, 0.5],               // top centre
    [HALF_POWER, 0.0],        // top front left
    [0.5, 0.5],               // top front centre
    [0.0, HALF_POWER],        // top front right
    [HALF_POWER, 0.0],        // top back left
    [0.5, 0.5],               // top back centre
    [0.0, HALF_POWER],        // top back right
];

/// The positions that files with so many channels have if they do not name them: those of FLAC
/// (RFC 9639, section 9.1.3), which are also Microsoft's.
#[must_use]
pub fn usual_positions(channels: u8) -> u32 {
    match channels {
        1 => 0b100,
        2 => 0b11,
        3 => 0b111,
        4 => 0b11_0011,
        5 => 0b11_0111,
        6 => 0b11_1111,
        7 => 0b111_0000_1111,
        _ => 0b110_0011_1111,
    }
}

/// How the samples of a frame become two.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Mix {
    channels: usize,
    shares: [[f32; 2]; MAX_CHANNELS],
}

impl Mix {
    /// For files of this layout. One channel sounds on both sides as loud as it is; two are taken
    /// as they are, whatever they are called.
    #[must_use]
    pub fn new(layout: &Layout) -> Mix {
        let channels = usize::from(layout.channels);
        let mut shares = [[0.0; 2]; MAX_CHANNELS];
        match channels {
            1 => shares[0] = [1.0, 1.0],
            2 => shares[..2].copy_from_slice(&SHARES[..2]),
            _ => {
                // A frame holds its positions in the order of their bits.
                let named = (0..SHARES.len()).filter(|bit| layout.positions >> bit & 1 == 1);
                for (share, bit) in shares.iter_mut().zip(named) {
                    *share = SHARES[bit];
                }
            }
        }
        Mix { channels, shares }
    }

    /// Samples of a frame.
    #[must_use]
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// Left and right of one frame.
    #[must_use]
    pub fn apply(&self, frame: &[f32]) -> [f32; 2] {
        let mut mixed = [0.0; 2];
        for (sample, share) in frame.iter().zip(&self.shares) {
            mixed[0] += sample * share[0];
            mixed[1] += sample * share[1];
        }
        mixed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mixed(channels: u8, positions: u32, frame: &[f32]) -> [f32; 2] {
        let layout = Layout { rate: 48_000, channels, positions, delay: 0 };
        Mix::new(&layout).apply(frame)
    }

    fn close(found: [f32; 2], wanted: [f32; 2]) {
        let near = found.iter().zip(wanted).all(|(a, b)| (a - b).abs() < 1e-4);
        assert!(near, "{found:?} instead of {wanted:?}");
    }

    #[test]
    fn one_and_two_channels_keep_their_level() {
        close(mixed(1, 0b100, &[0.5]), [0.5, 0.5]);
        close(mixed(2, 0b11, &[0.5, -0.25]), [0.5, -0.25]);
        close(mixed(2, 0b110_0000_0000, &[0.5, -0.25]), [0.5, -0.25]);
    }

    #[test]
    fn five_channels_mix_as_the_norm_says_and_the_effects_are_left_out() {
        let usual = usual_positions(6);
        close(mixed(6, usual, &[1.0, 0.0, 0.0, 0.0, 0.0, 0.0]), [1.0, 0.0]);
        close(mixed(6, usual, &[0.0, 1.0, 0.0, 0.0, 0.0, 0.0]), [0.0, 1.0]);
        close(mixed(6, usual, &[0.0, 0.0, 1.0, 0.0, 0.0, 0.0]), [HALF_POWER, HALF_POWER]);
        close(mixed(6, usual, &[0.0, 0.0, 0.0, 1.0, 0.0, 0.0]), [0.0, 0.0]);
        close(mixed(6, usual, &[0.0, 0.0, 0.0, 0.0, 1.0, 0.0]), [HALF_POWER, 0.0]);
        close(mixed(6, usual, &[0.0, 0.0, 0.0, 0.0, 0.0, 1.0]), [0.0, HALF_POWER]);
        // Surround speakers at the sides are the same two.
        close(mixed(6, 0b110_0000_1111, &[0.0, 0.0, 0.0, 0.0, 0.5, 0.0]), [0.3536, 0.0]);
        // A single one behind goes to both, 6 dB lower.
        close(mixed(4, 0b1_0000_0111, &[0.0, 0.0, 0.0, 1.0]), [0.5, 0.5]);
    }

    #[test]
    fn every_count_has_as_many_usual_positions() {
        for channels in 1..=8 {
            assert_eq!(usual_positions(channels).count_ones(), u32::from(channels));
        }
    }
}
