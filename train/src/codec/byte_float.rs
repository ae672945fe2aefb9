//! Second moments in one byte each: five bits of exponent and three of mantissa, relative to the largest value of their section.
//!
//! A second moment only sets the size of an update through its square root, so the 6 % of rounding are 3 % of a step. Code
//! `c > 0` stands for `2^((c >> 3) - 31) * (1 + (c & 7) / 8)` times the scale, code 0 for zero, and codes above [`CODE_MAX`] (which
//! stands for the scale itself) do not exist.

/// The code of a value that equals the scale.
pub(super) const CODE_MAX: u8 = 31 << 3;

/// Exponent field of a float32 at code 0.
const EXPONENT_OFFSET: u32 = 127 - 31;

/// The code of `value`, which lies in `0..=scale`, with `scale > 0`. The quotient is rounded to float32, then to the nearest code, ties
/// to even; below half the smallest code it is 0.
pub(super) fn encode(value: f32, scale: f32) -> u8 {
    let bits = (value / scale).to_bits();
    let rounded = (bits + 0x7_ffff + ((bits >> 20) & 1)) >> 20;
    rounded.saturating_sub(EXPONENT_OFFSET << 3).min(u32::from(CODE_MAX)) as u8
}

/// The value of `code`, rounded once.
pub(super) fn decode(code: u8, scale: f32) -> f32 {
    if code == 0 {
        return 0.0;
    }
    f32::from_bits((u32::from(code) + (EXPONENT_OFFSET << 3)) << 20) * scale
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_comes_back() {
        for code in 0..=CODE_MAX {
            assert_eq!(encode(decode(code, 1.0), 1.0), code);
            assert_eq!(encode(decode(code, 0.75), 0.75), code);
        }
        assert_eq!(decode(CODE_MAX, 0.3), 0.3);
    }

    #[test]
    fn the_error_is_at_most_a_sixteenth() {
        let mut value = 1.0f32;
        while value > 1e-9 {
            let back = decode(encode(value, 1.0), 1.0);
            assert!((back - value).abs() <= value / 16.0, "{value} became {back}");
            value *= 0.997;
        }
        assert_eq!(encode(1e-12, 1.0), 0);
        assert_eq!(encode(0.0, f32::from_bits(1)), 0);
        assert_eq!(encode(f32::from_bits(3), f32::from_bits(3)), CODE_MAX);
    }

    #[test]
    fn ties_go_to_the_even_code() {
        assert_eq!(decode(encode(0.5 * (1.0 + 1.0 / 16.0), 1.0), 1.0), 0.5);
        assert_eq!(decode(encode(0.5 * (1.0 + 3.0 / 16.0), 1.0), 1.0), 0.5 * 1.25);
    }
}
