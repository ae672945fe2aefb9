//! x86-64 with AVX-512.

use super::Isa;
use super::avx2::{sum_of_8, transpose_8x8};
use crate::fma::Fma;
use crate::math::CANONICAL_NAN;
use std::arch::x86_64::{
    __m512, _CMP_UNORD_Q, _MM_HINT_T0, _mm_prefetch, _mm256_add_ps, _mm512_add_ps, _mm512_castps512_ps256,
    _mm512_cmp_ps_mask, _mm512_div_ps, _mm512_extractf32x8_ps, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_mask_blend_ps,
    _mm512_max_ps, _mm512_min_ps, _mm512_mul_ps, _mm512_reduce_max_ps, _mm512_scalef_ps, _mm512_set1_ps,
    _mm512_storeu_ps, _mm512_sub_ps,
};

/// AVX-512: foundation, 32-bit and 64-bit words, bytes and words, short vectors. Its methods compile to those instructions only inside a function that enables them, where [`super::simd_fn`] puts them.
#[derive(Clone, Copy)]
pub(crate) struct Avx512Isa;

impl Fma for Avx512Isa {
    #[inline(always)]
    fn fma(a: f32, b: f32, c: f32) -> f32 {
        a.mul_add(b, c)
    }
}

impl Isa for Avx512Isa {
    type V = __m512;
    const LANES: usize = 16;
    const MR: usize = 14;
    const INLINE_TILES: bool = true;
    const TALL_TILES: bool = true;

    #[inline(always)]
    fn splat(x: f32) -> __m512 {
        // SAFETY: this type is used only by bodies of `simd_fn`, which run it only where the CPU has AVX-512.
        unsafe { _mm512_set1_ps(x) }
    }

    #[inline(always)]
    unsafe fn load(source: *const f32) -> __m512 {
        // SAFETY: as in `splat`; the caller promises sixteen readable elements.
        unsafe { _mm512_loadu_ps(source) }
    }

    #[inline(always)]
    unsafe fn store(target: *mut f32, v: __m512) {
        // SAFETY: as in `splat`; the caller promises sixteen writable elements.
        unsafe { _mm512_storeu_ps(target, v) }
    }

    #[inline(always)]
    fn vfma(a: __m512, b: __m512, c: __m512) -> __m512 {
        // SAFETY: as in `splat`.
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    fn vadd(a: __m512, b: __m512) -> __m512 {
        // SAFETY: as in `splat`.
        unsafe { _mm512_add_ps(a, b) }
    }

    #[inline(always)]
    fn vmul(a: __m512, b: __m512) -> __m512 {
        // SAFETY: as in `splat`.
        unsafe { _mm512_mul_ps(a, b) }
    }

    #[inline(always)]
    fn vsub(a: __m512, b: __m512) -> __m512 {
        // SAFETY: as in `splat`.
        unsafe { _mm512_sub_ps(a, b) }
    }

    #[inline(always)]
    fn vdiv(a: __m512, b: __m512) -> __m512 {
        // SAFETY: as in `splat`.
        unsafe { _mm512_div_ps(a, b) }
    }

    #[inline(always)]
    fn vmax(a: __m512, b: __m512) -> __m512 {
        // SAFETY: as in `splat`.
        unsafe { _mm512_max_ps(a, b) }
    }

    #[inline(always)]
    fn vmin(a: __m512, b: __m512) -> __m512 {
        // SAFETY: as in `splat`.
        unsafe { _mm512_min_ps(a, b) }
    }

    #[inline(always)]
    fn vscale(y: __m512, n: __m512) -> __m512 {
        // SAFETY: as in `splat`.
        unsafe { _mm512_scalef_ps(y, n) }
    }

    #[inline(always)]
    fn vcanonical(x: __m512) -> __m512 {
        // SAFETY: as in `splat`.
        unsafe { _mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_UNORD_Q>(x, x), x, _mm512_set1_ps(CANONICAL_NAN)) }
    }

    #[inline(always)]
    fn largest_lane(x: __m512) -> f32 {
        // SAFETY: as in `splat`.
        unsafe { _mm512_reduce_max_ps(x) }
    }

    #[inline(always)]
    fn lane_sum([a, b, ..]: [__m512; 4]) -> f32 {
        // SAFETY: as in `splat`; a CPU with AVX-512 has AVX2.
        unsafe {
            let lanes = _mm512_add_ps(a, b);
            sum_of_8(_mm256_add_ps(_mm512_castps512_ps256(lanes), _mm512_extractf32x8_ps::<1>(lanes)))
        }
    }

    #[inline(always)]
    fn prefetch(address: *const f32) {
        // SAFETY: as in `splat`; a hint never faults.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) }
    }

    #[inline(always)]
    unsafe fn transpose(source: *const f32, source_row: usize, target: *mut f32, target_row: usize) {
        // SAFETY: as in `splat`; the caller promises both blocks, and a CPU with AVX-512 has AVX2.
        unsafe { transpose_8x8(source, source_row, target, target_row) }
    }
}
