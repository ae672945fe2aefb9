//! The fused multiply-add, and how each path computes it.
//!
//! `f32::mul_add` is specified to round once, so it is the semantics. Where the build target has no such instruction it becomes
//! a library call for every element; [`fma_exact`] is a short branch-free sequence in float64 that the compiler can vectorise.

/// How a path computes `a * b + c` with one rounding.
pub(crate) trait Fma: Copy + Send + Sync + 'static {
    /// `a * b + c`, rounded once to nearest, ties to even.
    fn fma(a: f32, b: f32, c: f32) -> f32;
}

/// The reference: the standard library's promise.
#[derive(Clone, Copy)]
pub(crate) struct ReferenceFma;

impl Fma for ReferenceFma {
    #[inline(always)]
    fn fma(a: f32, b: f32, c: f32) -> f32 {
        a.mul_add(b, c)
    }
}

/// Exactly rounded `a * b + c` without a fused instruction.
///
/// The product of two float32 is exact in float64. The sum with `c` is rounded *to odd*: the float64 sum, moved by one unit towards the
/// exact value when it was inexact and its last bit is even. With 53 ≥ 2·24 + 2 bits, rounding that once more to float32
/// equals rounding the exact value (Boldo and Melquiond, 2008), subnormal results included.
#[inline(always)]
pub fn fma_exact(a: f32, b: f32, c: f32) -> f32 {
    let product = f64::from(a) * f64::from(b);
    let addend = f64::from(c);
    let sum = product + addend;
    // Knuth's two-sum: `error` is exactly (product + addend) - sum; NaN when sum is not finite, and then nothing is moved.
    let virtual_addend = sum - product;
    let error = (product - (sum - virtual_addend)) + (addend - virtual_addend);
    let bits = sum.to_bits();
    let inexact = error.abs() > 0.0;
    let grows = (error > 0.0) == (sum > 0.0);
    let moved = if grows { bits.wrapping_add(1) } else { bits.wrapping_sub(1) };
    let odd = if inexact && bits & 1 == 0 { moved } else { bits };
    f64::from_bits(odd) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn same(a: f32, b: f32) -> bool {
        a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan())
    }

    fn check(a: f32, b: f32, c: f32) {
        let (got, want) = (fma_exact(a, b, c), a.mul_add(b, c));
        assert!(same(got, want), "fma({a:e}, {b:e}, {c:e}): got {got:e}, want {want:e}");
    }

    fn next(state: &mut u64) -> u64 {
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    #[test]
    fn special_values_agree_with_the_standard_library() {
        let values = [
            0.0,
            1.0,
            1.5,
            2.0,
            0.5,
            f32::MIN_POSITIVE,
            f32::from_bits(1),
            f32::from_bits(0x007f_ffff),
            f32::MAX,
            f32::INFINITY,
            f32::NAN,
            f32::EPSILON,
            1.0 + f32::EPSILON,
            1.0 - f32::EPSILON / 2.0,
            16_777_216.0,
            16_777_217.0,
            3.0,
            1e-30,
            1e30,
        ];
        let signed: Vec<f32> = values.iter().flat_map(|&v| [v, -v]).collect();
        for &a in &signed {
            for &b in &signed {
                signed.iter().for_each(|&c| check(a, b, c));
            }
        }
    }

    #[test]
    fn random_bit_patterns_agree_with_the_standard_library() {
        let mut state = 1;
        for _ in 0..8_000_000 {
            let (x, y) = (next(&mut state), next(&mut state));
            check(f32::from_bits(x as u32), f32::from_bits((x >> 32) as u32), f32::from_bits(y as u32));
        }
    }

    /// Addends near the product, and near halfway points of it: where a second rounding would show.
    #[test]
    fn cancellation_and_near_ties_agree_with_the_standard_library() {
        let mut state = 2;
        for _ in 0..6_000_000 {
            let (x, y) = (next(&mut state), next(&mut state));
            let exponent = |bits: u64| 127 - 20 + (bits % 40) as u32;
            let a = f32::from_bits((x as u32 & 0x807f_ffff) | (exponent(y) << 23));
            let b = f32::from_bits(((x >> 32) as u32 & 0x807f_ffff) | (exponent(y >> 8) << 23));
            let product = a * b;
            check(a, b, -product);
            check(a, b, f32::from_bits((-product).to_bits() ^ (y >> 16) as u32 & 3));
            let shift = (y >> 20) % 60;
            check(a, b, product * f32::from_bits((127 - 30 + shift as u32) << 23));
            // Few significant bits make exact ties likely.
            let (a, b) = (f32::from_bits(a.to_bits() & 0xffff_f000), f32::from_bits(b.to_bits() & 0xffff_f800));
            check(a, b, f32::from_bits((127 + 25 + (y >> 40) as u32 % 4) << 23) * a * b);
            check(a, b, f32::from_bits((127 - 26 + (y >> 40) as u32 % 4) << 23) * a);
        }
    }

    #[test]
    fn subnormal_results_agree_with_the_standard_library() {
        let mut state = 3;
        for _ in 0..4_000_000 {
            let (x, y) = (next(&mut state), next(&mut state));
            let a = f32::from_bits((x as u32 & 0x807f_ffff) | ((20 + y as u32 % 60) << 23));
            let b = f32::from_bits(((x >> 32) as u32 & 0x807f_ffff) | ((20 + (y >> 8) as u32 % 60) << 23));
            check(a, b, f32::from_bits((y >> 32) as u32 & 0x80ff_ffff));
        }
    }
}
