//! 64-bit Arm with NEON, which every such CPU has. A vector of eight is two registers, so that tiles are those of AVX2: 6 × 16 outputs
//! take 24 of the 32 registers.

use super::Isa;
use crate::fma::Fma;
use crate::math::CANONICAL_NAN;
use std::arch::aarch64::{
    float32x4_t, vaddq_f32, vaddq_s32, vbslq_f32, vceqq_f32, vcgtq_f32, vcltq_f32, vcvtq_s32_f32, vdivq_f32,
    vdupq_n_f32, vdupq_n_s32, vfmaq_f32, vld1q_f32, vmulq_f32, vreinterpretq_f32_f64, vreinterpretq_f32_s32,
    vreinterpretq_f64_f32, vshlq_n_s32, vshrq_n_s32, vst1q_f32, vsubq_f32, vsubq_s32, vtrn1q_f32, vtrn1q_f64,
    vtrn2q_f32, vtrn2q_f64,
};
use std::arch::asm;

/// NEON.
#[derive(Clone, Copy)]
pub(crate) struct NeonIsa;

impl Fma for NeonIsa {
    #[inline(always)]
    fn fma(a: f32, b: f32, c: f32) -> f32 {
        a.mul_add(b, c)
    }
}

/// Eight lanes: the first four, the last four.
type V = [float32x4_t; 2];

impl Isa for NeonIsa {
    type V = V;
    const LANES: usize = 8;
    const MR: usize = 6;
    const INLINE_TILES: bool = true;
    const TALL_TILES: bool = true;

    #[inline(always)]
    fn splat(x: f32) -> V {
        // SAFETY: this type is used only in builds for CPUs that all have NEON.
        [unsafe { vdupq_n_f32(x) }; 2]
    }

    #[inline(always)]
    unsafe fn load(source: *const f32) -> V {
        // SAFETY: as in `splat`; the caller promises eight readable elements, whose alignment does not matter.
        unsafe { [vld1q_f32(source), vld1q_f32(source.add(4))] }
    }

    #[inline(always)]
    unsafe fn store(target: *mut f32, v: V) {
        // SAFETY: as in `splat`; the caller promises eight writable elements, whose alignment does not matter.
        unsafe {
            vst1q_f32(target, v[0]);
            vst1q_f32(target.add(4), v[1]);
        }
    }

    #[inline(always)]
    fn vfma(a: V, b: V, c: V) -> V {
        // The instruction's first operand is the addend.
        // SAFETY: as in `splat`.
        unsafe { [vfmaq_f32(c[0], a[0], b[0]), vfmaq_f32(c[1], a[1], b[1])] }
    }

    #[inline(always)]
    fn vadd(a: V, b: V) -> V {
        // SAFETY: as in `splat`.
        unsafe { [vaddq_f32(a[0], b[0]), vaddq_f32(a[1], b[1])] }
    }

    #[inline(always)]
    fn vmul(a: V, b: V) -> V {
        // SAFETY: as in `splat`.
        unsafe { [vmulq_f32(a[0], b[0]), vmulq_f32(a[1], b[1])] }
    }

    #[inline(always)]
    fn vsub(a: V, b: V) -> V {
        // SAFETY: as in `splat`.
        unsafe { [vsubq_f32(a[0], b[0]), vsubq_f32(a[1], b[1])] }
    }

    #[inline(always)]
    fn vdiv(a: V, b: V) -> V {
        // SAFETY: as in `splat`.
        unsafe { [vdivq_f32(a[0], b[0]), vdivq_f32(a[1], b[1])] }
    }

    #[inline(always)]
    fn vmin(a: V, b: V) -> V {
        // Not `vminq_f32`, as below.
        // SAFETY: as in `splat`.
        unsafe { [vbslq_f32(vcltq_f32(a[0], b[0]), a[0], b[0]), vbslq_f32(vcltq_f32(a[1], b[1]), a[1], b[1])] }
    }

    #[inline(always)]
    fn vscale(y: V, n: V) -> V {
        // Two factors: the first product is exact, so a subnormal result is rounded once.
        // SAFETY: as in `splat`.
        let power = |n| unsafe { vreinterpretq_f32_s32(vshlq_n_s32::<23>(vaddq_s32(n, vdupq_n_s32(127)))) };
        std::array::from_fn(|part| {
            // SAFETY: as in `splat`.
            unsafe {
                let n = vcvtq_s32_f32(n[part]);
                let half = vshrq_n_s32::<1>(n);
                vmulq_f32(vmulq_f32(y[part], power(half)), power(vsubq_s32(n, half)))
            }
        })
    }

    #[inline(always)]
    fn vcanonical(x: V) -> V {
        // SAFETY: as in `splat`.
        x.map(|x| unsafe { vbslq_f32(vceqq_f32(x, x), x, vdupq_n_f32(CANONICAL_NAN)) })
    }

    #[inline(always)]
    fn vmax(a: V, b: V) -> V {
        // Not `vmaxq_f32`, whose result is NaN when either operand is.
        // SAFETY: as in `splat`.
        unsafe { [vbslq_f32(vcgtq_f32(a[0], b[0]), a[0], b[0]), vbslq_f32(vcgtq_f32(a[1], b[1]), a[1], b[1])] }
    }

    #[inline(always)]
    fn prefetch(address: *const f32) {
        // SAFETY: a hint reads nothing and never faults.
        unsafe { asm!("prfm pldl1keep, [{}]", in(reg) address, options(nostack, readonly, preserves_flags)) }
    }

    #[inline(always)]
    unsafe fn transpose(source: *const f32, source_row: usize, target: *mut f32, target_row: usize) {
        for (top, left) in [(0, 0), (0, 4), (4, 0), (4, 4)] {
            // SAFETY: the caller promises both blocks, of which these are quarters.
            unsafe {
                let source = source.add(top * source_row + left);
                transpose_4x4(source, source_row, target.add(left * target_row + top), target_row);
            }
        }
    }
}

/// Four rows of four elements become four columns.
///
/// # Safety
/// Both blocks must be valid, for reading and for writing.
#[inline(always)]
unsafe fn transpose_4x4(source: *const f32, source_row: usize, target: *mut f32, target_row: usize) {
    // SAFETY: as in `splat`, and the caller's promise.
    unsafe {
        let row = |i: usize| vld1q_f32(source.add(i * source_row));
        // Even and odd elements of two rows alternate; pairs of these, each taken for one float64, alternate again.
        let even = |a, b| vreinterpretq_f64_f32(vtrn1q_f32(a, b));
        let odd = |a, b| vreinterpretq_f64_f32(vtrn2q_f32(a, b));
        let (a, b, c, d) = (row(0), row(1), row(2), row(3));
        let store = |i: usize, column| vst1q_f32(target.add(i * target_row), vreinterpretq_f32_f64(column));
        store(0, vtrn1q_f64(even(a, b), even(c, d)));
        store(1, vtrn1q_f64(odd(a, b), odd(c, d)));
        store(2, vtrn2q_f64(even(a, b), even(c, d)));
        store(3, vtrn2q_f64(odd(a, b), odd(c, d)));
    }
}
