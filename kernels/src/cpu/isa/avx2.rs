//! x86-64 with AVX2 and FMA.

use super::Isa;
use crate::fma::Fma;
use crate::math::CANONICAL_NAN;
use std::arch::x86_64::{
    __m256, _CMP_UNORD_Q, _MM_HINT_T0, _mm_add_ps, _mm_add_ss, _mm_cvtss_f32, _mm_movehdup_ps, _mm_movehl_ps,
    _mm_prefetch, _mm256_add_epi32, _mm256_add_ps, _mm256_blendv_ps, _mm256_castps256_ps128, _mm256_castsi256_ps,
    _mm256_cmp_ps, _mm256_cvtps_epi32, _mm256_div_ps, _mm256_extractf128_ps, _mm256_fmadd_ps, _mm256_loadu_ps,
    _mm256_max_ps, _mm256_min_ps, _mm256_mul_ps, _mm256_permute2f128_ps, _mm256_set1_epi32, _mm256_set1_ps,
    _mm256_shuffle_ps, _mm256_slli_epi32, _mm256_srai_epi32, _mm256_storeu_ps, _mm256_sub_epi32, _mm256_sub_ps,
    _mm256_unpackhi_ps, _mm256_unpacklo_ps,
};

/// AVX2 and FMA. Its methods compile to those instructions only inside a function that enables them, where [`super::simd_fn`] puts them.
#[derive(Clone, Copy)]
pub(crate) struct Avx2Isa;

impl Fma for Avx2Isa {
    #[inline(always)]
    fn fma(a: f32, b: f32, c: f32) -> f32 {
        a.mul_add(b, c)
    }
}

impl Isa for Avx2Isa {
    type V = __m256;
    const LANES: usize = 8;
    const MR: usize = 6;
    const INLINE_TILES: bool = true;
    const TALL_TILES: bool = true;

    #[inline(always)]
    fn splat(x: f32) -> __m256 {
        // SAFETY: this type is used only by bodies of `simd_fn`, which run it only where the CPU has AVX2 and FMA.
        unsafe { _mm256_set1_ps(x) }
    }

    #[inline(always)]
    unsafe fn load(source: *const f32) -> __m256 {
        // SAFETY: as in `splat`; the caller promises eight readable elements.
        unsafe { _mm256_loadu_ps(source) }
    }

    #[inline(always)]
    unsafe fn store(target: *mut f32, v: __m256) {
        // SAFETY: as in `splat`; the caller promises eight writable elements.
        unsafe { _mm256_storeu_ps(target, v) }
    }

    #[inline(always)]
    fn vfma(a: __m256, b: __m256, c: __m256) -> __m256 {
        // SAFETY: as in `splat`.
        unsafe { _mm256_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    fn vadd(a: __m256, b: __m256) -> __m256 {
        // SAFETY: as in `splat`.
        unsafe { _mm256_add_ps(a, b) }
    }

    #[inline(always)]
    fn vmul(a: __m256, b: __m256) -> __m256 {
        // SAFETY: as in `splat`.
        unsafe { _mm256_mul_ps(a, b) }
    }

    #[inline(always)]
    fn vsub(a: __m256, b: __m256) -> __m256 {
        // SAFETY: as in `splat`.
        unsafe { _mm256_sub_ps(a, b) }
    }

    #[inline(always)]
    fn vdiv(a: __m256, b: __m256) -> __m256 {
        // SAFETY: as in `splat`.
        unsafe { _mm256_div_ps(a, b) }
    }

    #[inline(always)]
    fn vmax(a: __m256, b: __m256) -> __m256 {
        // SAFETY: as in `splat`.
        unsafe { _mm256_max_ps(a, b) }
    }

    #[inline(always)]
    fn vmin(a: __m256, b: __m256) -> __m256 {
        // SAFETY: as in `splat`.
        unsafe { _mm256_min_ps(a, b) }
    }

    #[inline(always)]
    fn vscale(y: __m256, n: __m256) -> __m256 {
        // SAFETY: as in `splat`.
        unsafe {
            // Two factors: the first product is exact, so a subnormal result is rounded once.
            let n = _mm256_cvtps_epi32(n);
            let half = _mm256_srai_epi32::<1>(n);
            let power = |n| _mm256_castsi256_ps(_mm256_slli_epi32::<23>(_mm256_add_epi32(n, _mm256_set1_epi32(127))));
            _mm256_mul_ps(_mm256_mul_ps(y, power(half)), power(_mm256_sub_epi32(n, half)))
        }
    }

    #[inline(always)]
    fn vcanonical(x: __m256) -> __m256 {
        // SAFETY: as in `splat`.
        unsafe { _mm256_blendv_ps(x, _mm256_set1_ps(CANONICAL_NAN), _mm256_cmp_ps::<_CMP_UNORD_Q>(x, x)) }
    }

    #[inline(always)]
    fn lane_sum([a, b, c, d]: [__m256; 4]) -> f32 {
        // SAFETY: as in `splat`.
        unsafe { sum_of_8(_mm256_add_ps(_mm256_add_ps(a, c), _mm256_add_ps(b, d))) }
    }

    #[inline(always)]
    fn prefetch(address: *const f32) {
        // SAFETY: as in `splat`; a hint never faults.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) }
    }

    #[inline(always)]
    unsafe fn transpose(source: *const f32, source_row: usize, target: *mut f32, target_row: usize) {
        // SAFETY: as in `splat`; the caller promises both blocks.
        unsafe { transpose_8x8(source, source_row, target, target_row) }
    }
}

/// The last steps of the tree over lanes: halves are added, thrice.
///
/// # Safety
/// The CPU must have AVX2.
#[inline(always)]
pub(super) unsafe fn sum_of_8(lanes: __m256) -> f32 {
    // SAFETY: the caller's promise.
    unsafe {
        let four = _mm_add_ps(_mm256_castps256_ps128(lanes), _mm256_extractf128_ps::<1>(lanes));
        let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
        _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
    }
}

/// Eight rows of eight elements become eight columns.
///
/// # Safety
/// The CPU must have AVX2, and both blocks must be valid, for reading and for writing.
#[inline(always)]
pub(super) unsafe fn transpose_8x8(source: *const f32, source_row: usize, target: *mut f32, target_row: usize) {
    // SAFETY: the caller's promise.
    unsafe {
        let row = |i: usize| _mm256_loadu_ps(source.add(i * source_row));
        let pair = |a, b| (_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
        let ((a0, a1), (a2, a3)) = (pair(row(0), row(1)), pair(row(2), row(3)));
        let ((a4, a5), (a6, a7)) = (pair(row(4), row(5)), pair(row(6), row(7)));
        let quad = |a, b| (_mm256_shuffle_ps::<0x44>(a, b), _mm256_shuffle_ps::<0xee>(a, b));
        let ((b0, b1), (b2, b3)) = (quad(a0, a2), quad(a1, a3));
        let ((b4, b5), (b6, b7)) = (quad(a4, a6), quad(a5, a7));
        for (i, (upper, lower)) in [(b0, b4), (b1, b5), (b2, b6), (b3, b7)].into_iter().enumerate() {
            _mm256_storeu_ps(target.add(i * target_row), _mm256_permute2f128_ps::<0x20>(upper, lower));
            _mm256_storeu_ps(target.add((i + 4) * target_row), _mm256_permute2f128_ps::<0x31>(upper, lower));
        }
    }
}
