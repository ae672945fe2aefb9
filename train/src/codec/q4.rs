//! Four-bit values with one scale a block: the arithmetic of codec `q4`.
//!
//! A block of `n` values is two bytes of scale and `ceil(n / 2)` bytes of codes. The scale is the upper half of a float32 (a bfloat16),
//! little-endian. Value `i` of the first half has the lower four bits of byte `i`, value `ceil(n / 2) + i` the upper four; with an odd
//! `n`, the last upper four bits are 0. Code `c` in `1..=15` stands for `scale * (c - 8)`; code 0 is no value.
//!
//! Encoding, in float32, each operation rounded once: `scale = bf16(max|x| / 7)`, ties to even, subnormals kept; a block whose scale
//! is zero has code 8 throughout; else `q = round(clamp(x / scale, -7, 7))`, ties to even.

/// Bytes of a block of `values` values.
pub(super) const fn block_len_bytes(values: usize) -> usize {
    2 + values.div_ceil(2)
}

/// The code of zero.
const ZERO: u8 = 8;

/// Adding and subtracting 1.5 * 2^23 rounds a float32 of small magnitude to an integer, ties to even.
const ROUNDER: f32 = 12_582_912.0;

/// The bfloat16 nearest to `value`, ties to even, as a bit pattern. `value` is finite.
fn bf16_bits(value: f32) -> u16 {
    let bits = value.to_bits();
    ((bits + 0x7fff + ((bits >> 16) & 1)) >> 16) as u16
}

/// The float32 of a bfloat16.
fn bf16_value(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

/// Writes the block of `values` to `out`, which has [`block_len_bytes`]. False when a value is not finite; `out` is then unspecified.
pub(super) fn encode_block(values: &[f32], out: &mut [u8]) -> bool {
    // The largest magnitude by its bits: they are ordered as the magnitudes are, and infinities and NaNs come last.
    let largest = values.iter().fold(0u32, |largest, value| largest.max(value.to_bits() & 0x7fff_ffff));
    if largest >= 0x7f80_0000 {
        return false;
    }
    let scale_bits = bf16_bits(f32::from_bits(largest) / 7.0);
    let scale = bf16_value(scale_bits);
    let (head, codes) = out.split_at_mut(2);
    head.copy_from_slice(&scale_bits.to_le_bytes());
    let (low, high) = values.split_at(values.len().div_ceil(2));
    let code = |value: f32| {
        let rounded = (value / scale).clamp(-7.0, 7.0) + ROUNDER;
        (rounded.to_bits() as u8).wrapping_add(ZERO) & 15
    };
    if scale == 0.0 {
        codes.fill(ZERO | ZERO << 4);
    } else {
        codes
            .iter_mut()
            .zip(low.iter().zip(high))
            .for_each(|(byte, (&low, &high))| *byte = code(low) | code(high) << 4);
    }
    // With an odd number of values, the last of the first half stands alone.
    if let (true, [.., byte], [.., odd]) = (low.len() > high.len(), codes, low) {
        *byte = if scale == 0.0 { ZERO } else { code(*odd) };
    }
    true
}

/// What is wrong with a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BlockFault {
    /// The scale is infinite or not a number.
    NonFinite,
    /// Bits that the encoder never writes.
    NotCanonical,
}

/// Sum of the squared codes of a block of `values` values, times the squared scale: exact in float64, since it has at most 34 bits.
///
/// # Errors
/// [`BlockFault`] when the block is not one that the encoder writes.
pub(super) fn check_block(block: &[u8], values: usize) -> Result<f64, BlockFault> {
    let (scale, codes) = split(block);
    if !scale.is_finite() {
        return Err(BlockFault::NonFinite);
    }
    let odd = values % 2 == 1;
    let (pairs, last) = codes.split_at(codes.len() - usize::from(odd));
    let mut valid = scale.to_bits() >> 31 == 0;
    let mut squares = 0u32;
    let mut largest = 0i32;
    for &byte in pairs {
        let [low, high] = [i32::from(byte & 15) - 8, i32::from(byte >> 4) - 8];
        valid &= low != -8 && high != -8;
        squares += (low * low + high * high) as u32;
        largest = largest.max(low.abs()).max(high.abs());
    }
    for &byte in last {
        let low = i32::from(byte) - 8;
        valid &= (-7..=7).contains(&low);
        squares += low.unsigned_abs().min(8).pow(2);
        largest = largest.max(low.abs());
    }
    valid &= if scale == 0.0 { largest == 0 } else { largest > 0 };
    let scale = f64::from(scale);
    if valid { Ok(scale * scale * f64::from(squares)) } else { Err(BlockFault::NotCanonical) }
}

/// `acc = acc + weight * (scale * q)` for the values of a block that [`check_block`] passed: each operation rounded once.
pub(super) fn accumulate_block(block: &[u8], weight: f32, acc: &mut [f32]) {
    let (scale, codes) = split(block);
    let (low, high) = acc.split_at_mut(acc.len().div_ceil(2));
    let term = |code: u8| weight * (scale * f32::from(code as i8 - 8));
    low.iter_mut().zip(codes).for_each(|(acc, byte)| *acc += term(byte & 15));
    high.iter_mut().zip(codes).for_each(|(acc, byte)| *acc += term(byte >> 4));
}

fn split(block: &[u8]) -> (f32, &[u8]) {
    let (scale, codes) = block.split_at(2);
    (bf16_value(u16::from_le_bytes([scale[0], scale[1]])), codes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn round_trip(values: &[f32]) -> (Vec<u8>, Vec<f32>) {
        let mut block = vec![0xaa; block_len_bytes(values.len())];
        assert!(encode_block(values, &mut block));
        let squares = check_block(&block, values.len()).unwrap();
        let mut back = vec![0.0; values.len()];
        accumulate_block(&block, 1.0, &mut back);
        let sum: f64 = back.iter().map(|&value| f64::from(value) * f64::from(value)).sum();
        assert!((sum - squares).abs() <= 1e-6 * sum.max(f64::MIN_POSITIVE), "{sum} is not {squares}");
        (block, back)
    }

    /// The encoder once more, straight from the text of the module, with other means: `round_ties_even` and comparisons.
    fn reference(values: &[f32]) -> (u16, Vec<i32>) {
        let largest = values.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
        let wanted = largest / 7.0;
        let below = (wanted.to_bits() >> 16) as u16;
        let (lower, upper) = (bf16_value(below), bf16_value(below + 1));
        let (down, up) = (f64::from(wanted) - f64::from(lower), f64::from(upper) - f64::from(wanted));
        let scale = if down < up || (down == up && below.is_multiple_of(2)) { below } else { below + 1 };
        let divide = |value: &f32| match bf16_value(scale) {
            0.0 => 0,
            scale => (value / scale).round_ties_even().clamp(-7.0, 7.0) as i32,
        };
        (scale, values.iter().map(divide).collect())
    }

    fn codes(block: &[u8], values: usize) -> Vec<i32> {
        let half = values.div_ceil(2);
        let code = |i: usize| if i < half { block[2 + i] & 15 } else { block[2 + i - half] >> 4 };
        (0..values).map(|i| i32::from(code(i)) - 8).collect()
    }

    #[test]
    fn a_known_block() {
        let (block, back) = round_trip(&[7.0, -3.5, 0.49, 0.0, -7.0]);
        assert_eq!(block, [0x80, 0x3f, 0x8f, 0x14, 0x08]);
        assert_eq!(back, [7.0, -4.0, 0.0, 0.0, -7.0]);
    }

    #[test]
    fn zero_and_subnormal_blocks() {
        assert_eq!(round_trip(&[0.0; 4]).0, [0, 0, 0x88, 0x88]);
        assert_eq!(round_trip(&[-0.0, 0.0, 0.0]).0, [0, 0, 0x88, 0x08]);
        assert_eq!(round_trip(&[f32::from_bits(1); 2]).0, [0, 0, 0x88]);
        let subnormal = bf16_value(1);
        let (block, back) = round_trip(&[subnormal * 7.0, subnormal * -2.0]);
        assert_eq!(block, [1, 0, 0x6f]);
        assert_eq!(back, [subnormal * 7.0, subnormal * -2.0]);
        // A scale that bf16 rounds down by half of itself: the quotient exceeds 7 and is clamped.
        let (block, _) = round_trip(&[subnormal * 10.0, 0.0]);
        assert_eq!(block, [1, 0, 0x8f]);
    }

    #[test]
    fn values_that_are_not_finite_have_no_block() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            assert!(!encode_block(&[1.0, bad], &mut [0; 3]));
        }
        assert!(encode_block(&[f32::MAX, f32::MIN], &mut [0; 3]));
    }

    #[test]
    fn bits_that_no_encoder_writes_are_refused() {
        let fault = |block: &[u8], values| check_block(block, values).unwrap_err();
        assert_eq!(fault(&[0x80, 0x7f, 0x88], 2), BlockFault::NonFinite);
        assert_eq!(fault(&[0xc0, 0x7f, 0x88], 2), BlockFault::NonFinite);
        assert_eq!(fault(&[0x80, 0x3f, 0x80], 2), BlockFault::NotCanonical);
        assert_eq!(fault(&[0x80, 0x3f, 0x08], 2), BlockFault::NotCanonical);
        assert_eq!(fault(&[0x80, 0xbf, 0x9f], 2), BlockFault::NotCanonical);
        assert_eq!(fault(&[0x00, 0x80, 0x88], 2), BlockFault::NotCanonical);
        assert_eq!(fault(&[0x00, 0x00, 0x89], 2), BlockFault::NotCanonical);
        assert_eq!(fault(&[0x80, 0x3f, 0x88], 2), BlockFault::NotCanonical);
        assert_eq!(fault(&[0x80, 0x3f, 0x99, 0x19], 3), BlockFault::NotCanonical);
        assert_eq!(fault(&[0x80, 0x3f, 0x99, 0x00], 3), BlockFault::NotCanonical);
    }

    proptest! {
        #[test]
        fn equals_the_reference(
            values in proptest::collection::vec(prop_oneof![
                -1e-3f32..1e-3, -1e30f32..1e30, (0u32..0x0200_0000).prop_map(f32::from_bits), Just(0.0)], 1..70),
        ) {
            let (block, _) = round_trip(&values);
            let (scale, quotients) = reference(&values);
            prop_assert_eq!(u16::from_le_bytes([block[0], block[1]]), scale);
            prop_assert_eq!(codes(&block, values.len()), quotients);
        }

        /// SEMANTICS.md §12.5. The rounding of a subnormal scale itself may take more.
        #[test]
        fn the_error_is_at_most_half_a_scale(
            values in proptest::collection::vec(prop_oneof![
                -1e-3f32..1e-3, -1e30f32..1e30, (0u32..0x0200_0000).prop_map(f32::from_bits)], 1..70),
        ) {
            let (block, back) = round_trip(&values);
            let scale = split(&block).0;
            let half = if scale.is_normal() { 0.5 + 0.5f64.powi(21) } else { 4.0 };
            let bound = half * f64::from(scale.max(bf16_value(1)));
            for (value, back) in values.iter().zip(back) {
                prop_assert!((f64::from(*value) - f64::from(back)).abs() <= bound, "{value:e} became {back:e}, scale {scale:e}");
            }
        }

        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 3..40), odd in any::<bool>()) {
            let _ = check_block(&bytes, 2 * (bytes.len() - 2) - usize::from(odd));
        }
    }
}
