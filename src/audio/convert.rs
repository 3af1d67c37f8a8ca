//! From the frames inside to the samples of a device or a file.
//!
//! Inside, full scale is ±1.0. An integer of `b` bits has one value more below zero than
//! above, so the scale is `2^(b-1)`: what a decoder divided by it comes back exactly, and
//! +1.0 itself becomes the largest value. Beyond full scale everything stays at the end
//! instead of wrapping; what is not a number is silence.
//!
//! What this deliberately does not do: dither. The gain steps before it are the only place
//! where 16 bits would profit, and digital silence should stay silent.

use super::sink::Frame;

/// A sample as some device takes it.
pub trait DeviceSample: Copy {
    /// From full scale ±1.0, with saturation.
    fn from_unit(x: f32) -> Self;
}

/// Writes `frames` into `out`, which has `channels` samples for each of them. One channel
/// gets the mean of both; of more than two the first two sound and the others are silent.
pub fn interleave<T: DeviceSample>(frames: &[Frame], channels: usize, out: &mut [T]) {
    let silence = T::from_unit(0.0);
    for (frame, place) in frames.iter().zip(out.chunks_exact_mut(channels.max(1))) {
        match place {
            [] => {}
            [mono] => *mono = T::from_unit((frame[0] + frame[1]) * 0.5),
            [left, right, others @ ..] => {
                *left = T::from_unit(frame[0]);
                *right = T::from_unit(frame[1]);
                others.fill(silence);
            }
        }
    }
}

/// The nearest signed integer of `bits` bits (at most 32).
#[must_use]
#[expect(clippy::cast_possible_truncation, reason = "clamped before; not-a-number becomes 0")]
pub fn to_signed(x: f32, bits: u32) -> i32 {
    // In f64, because f32 cannot tell the largest 32-bit integers apart.
    let scale = f64::from(bits - 1).exp2();
    (f64::from(x) * scale).round().clamp(-scale, scale - 1.0) as i32
}

/// The nearest unsigned integer of `bits` bits (at most 32), silence in the middle.
#[must_use]
pub fn to_unsigned(x: f32, bits: u32) -> u32 {
    let middle = 1_u32 << (bits - 1);
    middle.wrapping_add_signed(to_signed(x, bits))
}

/// Bounded to full scale.
#[must_use]
pub fn to_float(x: f32) -> f32 {
    if x.is_nan() { 0.0 } else { x.clamp(-1.0, 1.0) }
}

impl DeviceSample for f32 {
    fn from_unit(x: f32) -> f32 {
        to_float(x)
    }
}

impl DeviceSample for f64 {
    fn from_unit(x: f32) -> f64 {
        f64::from(to_float(x))
    }
}

macro_rules! integer {
    ($type:ident, $to:ident) => {
        impl DeviceSample for $type {
            #[allow(clippy::cast_possible_truncation, reason = "the value has as many bits")]
            fn from_unit(x: f32) -> $type {
                $to(x, $type::BITS) as $type
            }
        }
    };
}

integer!(i8, to_signed);
integer!(i16, to_signed);
integer!(i32, to_signed);
integer!(u8, to_unsigned);
integer!(u16, to_unsigned);
integer!(u32, to_unsigned);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_scale_and_beyond_stay_at_the_ends() {
        for (x, low) in [(1.0, false), (1.5, false), (f32::INFINITY, false), (-1.0, true)] {
            assert_eq!(i16::from_unit(x), if low { i16::MIN } else { i16::MAX });
            assert_eq!(to_signed(x, 24), if low { -8_388_608 } else { 8_388_607 });
            assert_eq!(i32::from_unit(x), if low { i32::MIN } else { i32::MAX });
            assert_eq!(u16::from_unit(x), if low { 0 } else { u16::MAX });
            assert_eq!(u8::from_unit(x), if low { 0 } else { u8::MAX });
            assert_eq!(to_unsigned(x, 24), if low { 0 } else { 0xFF_FFFF });
            assert_eq!(f32::from_unit(x).to_bits(), if low { -1.0_f32 } else { 1.0 }.to_bits());
        }
        assert_eq!(i16::from_unit(f32::NEG_INFINITY), i16::MIN);
        assert_eq!(i32::from_unit(-7.0), i32::MIN);
    }

    #[test]
    fn silence_and_nonsense_are_silent() {
        for x in [0.0, -0.0, f32::NAN] {
            assert_eq!((i16::from_unit(x), i32::from_unit(x), to_signed(x, 24)), (0, 0, 0));
            assert_eq!((u8::from_unit(x), u16::from_unit(x)), (128, 32_768));
            assert_eq!(to_unsigned(x, 24), 0x80_0000);
            assert_eq!(f64::from_unit(x).to_bits() << 1, 0);
        }
    }

    #[test]
    fn every_16_bit_value_comes_back_exactly() {
        for value in i16::MIN..=i16::MAX {
            assert_eq!(i16::from_unit(f32::from(value) / 32_768.0), value);
        }
        for value in (-8_388_608..8_388_608_i32).step_by(997) {
            #[expect(clippy::cast_precision_loss, reason = "24 bits fit exactly")]
            let unit = value as f32 / 8_388_608.0;
            assert_eq!(to_signed(unit, 24), value);
        }
    }

    #[test]
    fn between_two_values_the_nearest_is_taken() {
        assert_eq!(i16::from_unit(0.49 / 32_768.0), 0);
        assert_eq!(i16::from_unit(0.51 / 32_768.0), 1);
        assert_eq!(i16::from_unit(-0.51 / 32_768.0), -1);
    }

    #[test]
    fn stereo_goes_to_one_two_or_more_channels() {
        let frames = [[0.5, -0.25], [1.0, 1.0]];
        let mut mono = [0_i16; 2];
        interleave(&frames, 1, &mut mono);
        assert_eq!(mono, [4_096, i16::MAX]);
        let mut stereo = [0_i16; 4];
        interleave(&frames, 2, &mut stereo);
        assert_eq!(stereo, [16_384, -8_192, i16::MAX, i16::MAX]);
        let mut quad = [7_u8; 8];
        interleave(&frames, 4, &mut quad);
        assert_eq!(quad, [192, 96, 128, 128, 255, 255, 128, 128]);
    }
}
