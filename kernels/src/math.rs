//! Elementary functions from fused multiply-add, addition, multiplication, division and square root only.
//!
//! Normative text, coefficients and measured error bounds: SEMANTICS.md §3. Every function returns the canonical NaN
//! (`0x7fc00000`) where its result is a NaN. The slice versions give the bits of the scalar ones on every path.

use crate::cpu::{self, Isa};
use crate::exec::Exec;
use crate::fma::{Fma, ReferenceFma};
use crate::platform::Path;

/// The one NaN that leaves an elementary function, a reduction or a loss.
pub const CANONICAL_NAN: f32 = f32::from_bits(0x7fc0_0000);

/// `x`, or the canonical NaN for any NaN.
#[inline(always)]
pub fn canonical(x: f32) -> f32 {
    if x.is_nan() { CANONICAL_NAN } else { x }
}

/// `e^x`; overflow gives +inf, `-inf` gives +0, results below the normal range are subnormal.
pub fn exp(x: f32) -> f32 {
    exp_with::<ReferenceFma>(x)
}

/// The natural logarithm; ±0 gives -inf, negative values NaN.
pub fn log(x: f32) -> f32 {
    log_with::<ReferenceFma>(x)
}

/// `1 / sqrt(x)`, both operations rounded.
pub fn rsqrt(x: f32) -> f32 {
    canonical(1.0 / x.sqrt())
}

/// The logistic function, `1 / (1 + exp(-x))`.
pub fn sigmoid(x: f32) -> f32 {
    sigmoid_with::<ReferenceFma>(x)
}

/// `x * sigmoid(x)`.
pub fn silu(x: f32) -> f32 {
    silu_with::<ReferenceFma>(x)
}

/// `exp` of every element, in place.
pub fn exp_slice(exec: &Exec, x: &mut [f32]) {
    map_slice(exec, x, exp, cpu::math::exp_slice);
}

/// `log` of every element, in place.
pub fn log_slice(exec: &Exec, x: &mut [f32]) {
    map_slice(exec, x, log, cpu::math::log_slice);
}

/// `rsqrt` of every element, in place.
pub fn rsqrt_slice(exec: &Exec, x: &mut [f32]) {
    map_slice(exec, x, rsqrt, cpu::math::rsqrt_slice);
}

/// `sigmoid` of every element, in place.
pub fn sigmoid_slice(exec: &Exec, x: &mut [f32]) {
    map_slice(exec, x, sigmoid, cpu::math::sigmoid_slice);
}

/// `silu` of every element, in place.
pub fn silu_slice(exec: &Exec, x: &mut [f32]) {
    map_slice(exec, x, silu, cpu::math::silu_slice);
}

fn map_slice(exec: &Exec, x: &mut [f32], scalar: fn(f32) -> f32, fast: fn(Path, &mut [f32])) {
    match exec.path() {
        Path::Scalar => x.iter_mut().for_each(|value| *value = scalar(*value)),
        path => {
            let grain = exec.grain(x.len(), 16);
            exec.for_each_chunk(x, grain, |_, chunk| fast(path, chunk));
        }
    }
}

/// 1.5 · 2²³: adding it rounds a small float32 to an integer, ties to even, and leaves that integer in the low bits.
const ROUND_MAGIC: f32 = 12_582_912.0;
/// ln 2, rounded to float32, and what that rounding left.
const LN2_HIGH: f32 = f32::from_bits(0x3f31_7218);
const LN2_LOW: f32 = f32::from_bits(0xb102_e308);
/// Beyond these bounds the result is +inf and +0.
const EXP_INPUT_MAX: f32 = 89.5;
const EXP_INPUT_MIN: f32 = -105.0;
/// `e^r = 1 + r + r² P(r)` for |r| ≤ ln(2)/2; lowest power first. How near it is to the best: `scripts/fit_polynomials.py`.
const EXP_P: [f32; 5] = [
    f32::from_bits(0x3eff_fffe),
    f32::from_bits(0x3e2a_aa46),
    f32::from_bits(0x3d2a_ac2c),
    f32::from_bits(0x3c09_1ef0),
    f32::from_bits(0x3ab5_63a7),
];

#[inline(always)]
pub(crate) fn exp_with<F: Fma>(x: f32) -> f32 {
    // Comparisons are false for NaN, which therefore passes through and is made canonical at the end.
    let clamped = if x > EXP_INPUT_MAX { EXP_INPUT_MAX } else { x };
    let clamped = if clamped < EXP_INPUT_MIN { EXP_INPUT_MIN } else { clamped };
    let shifted = F::fma(clamped, std::f32::consts::LOG2_E, ROUND_MAGIC);
    let n = shifted - ROUND_MAGIC;
    let n_integer = (shifted.to_bits() as i32).wrapping_sub(ROUND_MAGIC.to_bits() as i32);
    let r = F::fma(n, -LN2_HIGH, clamped);
    let r = F::fma(n, -LN2_LOW, r);
    let p = F::fma(EXP_P[4], r, EXP_P[3]);
    let p = F::fma(p, r, EXP_P[2]);
    let p = F::fma(p, r, EXP_P[1]);
    let p = F::fma(p, r, EXP_P[0]);
    let y = F::fma(p, r * r, r) + 1.0;
    canonical(times_power(y, n_integer))
}

/// `y · 2ⁿ` in two factors: the first product is exact, so a subnormal result is rounded once.
#[inline(always)]
pub(crate) fn times_power(y: f32, n: i32) -> f32 {
    let half = n >> 1;
    let scale_a = f32::from_bits((half.wrapping_add(127) as u32) << 23);
    let scale_b = f32::from_bits((n.wrapping_sub(half).wrapping_add(127) as u32) << 23);
    y * scale_a * scale_b
}

/// As [`exp_with`], a vector at a time, but a NaN may be any.
#[inline(always)]
pub(crate) fn exp_lanes<I: Isa>(x: I::V) -> I::V {
    let coefficient = |power: usize| I::splat(EXP_P[power]);
    let c = I::vmax(I::splat(EXP_INPUT_MIN), I::vmin(I::splat(EXP_INPUT_MAX), x));
    let shifted = I::vfma(c, I::splat(std::f32::consts::LOG2_E), I::splat(ROUND_MAGIC));
    let n = I::vsub(shifted, I::splat(ROUND_MAGIC));
    let r = I::vfma(n, I::splat(-LN2_HIGH), c);
    let r = I::vfma(n, I::splat(-LN2_LOW), r);
    let p = I::vfma(coefficient(4), r, coefficient(3));
    let p = I::vfma(p, r, coefficient(2));
    let p = I::vfma(p, r, coefficient(1));
    let p = I::vfma(p, r, coefficient(0));
    let y = I::vadd(I::vfma(p, I::vmul(r, r), r), I::splat(1.0));
    I::vscale(y, n)
}

/// As [`sigmoid_with`], a vector at a time, but a NaN may be any. (The sign that `0 - x` loses with a zero cannot be seen behind exp.)
#[inline(always)]
pub(crate) fn sigmoid_lanes<I: Isa>(x: I::V) -> I::V {
    let one = I::splat(1.0);
    I::vdiv(one, I::vadd(one, exp_lanes::<I>(I::vsub(I::splat(0.0), x))))
}

/// As [`silu_with`], a vector at a time, but a NaN may be any.
#[inline(always)]
pub(crate) fn silu_lanes<I: Isa>(x: I::V) -> I::V {
    I::vmul(x, sigmoid_lanes::<I>(x))
}

/// `log(1 + f) = f - f²/2 + f³ P(f)` for `1 + f` in [√½, √2); lowest power first. As for [`EXP_P`].
const LOG_P: [f32; 8] = [
    f32::from_bits(0x3eaa_aaaa),
    f32::from_bits(0xbe80_0114),
    f32::from_bits(0x3e4c_d01b),
    f32::from_bits(0xbe2a_38c9),
    f32::from_bits(0x3e11_6aad),
    f32::from_bits(0xbe06_c99e),
    f32::from_bits(0x3e02_cdd2),
    f32::from_bits(0xbd9c_76f5),
];
/// The bits of √½.
const SQRT_HALF_BITS: u32 = 0x3f35_04f3;

#[inline(always)]
pub(crate) fn log_with<F: Fma>(x: f32) -> f32 {
    let subnormal = x < f32::MIN_POSITIVE;
    let scaled = if subnormal { x * 8_388_608.0 } else { x };
    let offset = scaled.to_bits().wrapping_sub(SQRT_HALF_BITS) as i32;
    let exponent_bits = offset & !0x007f_ffff;
    let exponent = (exponent_bits >> 23) as f32 - if subnormal { 23.0 } else { 0.0 };
    let f = f32::from_bits(scaled.to_bits().wrapping_sub(exponent_bits as u32)) - 1.0;
    let mut p = LOG_P[7];
    let mut power = 7;
    while power > 0 {
        power -= 1;
        p = F::fma(p, f, LOG_P[power]);
    }
    let square = f * f;
    let tail = F::fma(exponent, LN2_LOW, (square * f) * p);
    let tail = F::fma(square, -0.5, tail);
    let result = F::fma(exponent, LN2_HIGH, f + tail);
    let result = if x == f32::INFINITY { f32::INFINITY } else { result };
    let result = if x == 0.0 { f32::NEG_INFINITY } else { result };
    if x < 0.0 || x.is_nan() { CANONICAL_NAN } else { result }
}

#[inline(always)]
pub(crate) fn sigmoid_with<F: Fma>(x: f32) -> f32 {
    // exp has canonical NaN; adding 1 and dividing keep a NaN but not, on every CPU, its bits.
    canonical(1.0 / (1.0 + exp_with::<F>(-x)))
}

#[inline(always)]
pub(crate) fn silu_with<F: Fma>(x: f32) -> f32 {
    canonical(x * sigmoid_with::<F>(x))
}
