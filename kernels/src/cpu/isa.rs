//! What a fast path must provide, and how a body is compiled for each.

use crate::fma::{Fma, fma_exact};

/// Whether the build target itself has a fused multiply-add, so that `mul_add` is an instruction and not a library call.
const NATIVE_FMA: bool = cfg!(any(target_feature = "fma", target_arch = "aarch64"));

/// Eight lanes, and the instructions of the micro-kernels on them.
pub(crate) trait Isa: Fma {
    /// Eight float32.
    type V: Copy;
    /// Whether tiles must be compiled into the function that calls them, which enables the instructions.
    const INLINE_TILES: bool;
    /// Whether a tile's rows go through together.
    const TALL_TILES: bool;

    /// Eight copies of `x`.
    fn splat(x: f32) -> Self::V;

    /// Eight elements from `source`.
    ///
    /// # Safety
    /// `source` must be valid for reading eight elements.
    unsafe fn load(source: *const f32) -> Self::V;

    /// Eight elements to `target`.
    ///
    /// # Safety
    /// `target` must be valid for writing eight elements.
    unsafe fn store(target: *mut f32, v: Self::V);

    /// `a * b + c` in each lane, rounded once.
    fn vfma(a: Self::V, b: Self::V, c: Self::V) -> Self::V;

    /// `a + b` in each lane.
    fn vadd(a: Self::V, b: Self::V) -> Self::V;

    /// `a * b` in each lane.
    fn vmul(a: Self::V, b: Self::V) -> Self::V;

    /// `a` where `a > b`, else `b`, which so also stands where either is NaN.
    fn vmax(a: Self::V, b: Self::V) -> Self::V;

    /// Hints that the cache line at `address` will be read or written soon. Any address is allowed.
    fn prefetch(address: *const f32);

    /// Eight rows of eight become eight columns.
    fn transpose(rows: [Self::V; 8]) -> [Self::V; 8];
}

/// Safe code for any CPU.
#[derive(Clone, Copy)]
pub(crate) struct PortableIsa;

impl Fma for PortableIsa {
    #[inline(always)]
    fn fma(a: f32, b: f32, c: f32) -> f32 {
        if NATIVE_FMA { a.mul_add(b, c) } else { fma_exact(a, b, c) }
    }
}

impl Isa for PortableIsa {
    type V = [f32; 8];
    const INLINE_TILES: bool = false;
    const TALL_TILES: bool = NATIVE_FMA;

    #[inline(always)]
    fn splat(x: f32) -> [f32; 8] {
        [x; 8]
    }

    #[inline(always)]
    unsafe fn load(source: *const f32) -> [f32; 8] {
        // SAFETY: the caller promises eight readable elements; an array of f32 has the alignment of one.
        unsafe { *source.cast::<[f32; 8]>() }
    }

    #[inline(always)]
    unsafe fn store(target: *mut f32, v: [f32; 8]) {
        // SAFETY: the caller promises eight writable elements; an array of f32 has the alignment of one.
        unsafe { *target.cast::<[f32; 8]>() = v }
    }

    #[inline(always)]
    fn vfma(a: [f32; 8], b: [f32; 8], c: [f32; 8]) -> [f32; 8] {
        let mut out = c;
        for lane in 0..8 {
            out[lane] = Self::fma(a[lane], b[lane], c[lane]);
        }
        out
    }

    #[inline(always)]
    fn vadd(a: [f32; 8], b: [f32; 8]) -> [f32; 8] {
        std::array::from_fn(|lane| a[lane] + b[lane])
    }

    #[inline(always)]
    fn vmul(a: [f32; 8], b: [f32; 8]) -> [f32; 8] {
        std::array::from_fn(|lane| a[lane] * b[lane])
    }

    #[inline(always)]
    fn vmax(a: [f32; 8], b: [f32; 8]) -> [f32; 8] {
        std::array::from_fn(|lane| if a[lane] > b[lane] { a[lane] } else { b[lane] })
    }

    #[inline(always)]
    fn prefetch(_: *const f32) {}

    #[inline(always)]
    fn transpose(rows: [[f32; 8]; 8]) -> [[f32; 8]; 8] {
        let mut columns = [[0.0; 8]; 8];
        for (i, column) in columns.iter_mut().enumerate() {
            for (j, row) in rows.iter().enumerate() {
                column[j] = row[i];
            }
        }
        columns
    }
}

/// AVX2 and FMA. Its methods compile to those instructions only inside a function that enables them, where [`simd_fn`] puts them.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub(crate) struct Avx2Isa;

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use super::{Avx2Isa, Fma, Isa};
    use std::arch::x86_64::{
        __m256, _MM_HINT_T0, _mm_prefetch, _mm256_add_ps, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_max_ps,
        _mm256_mul_ps, _mm256_permute2f128_ps, _mm256_set1_ps, _mm256_shuffle_ps, _mm256_storeu_ps, _mm256_unpackhi_ps,
        _mm256_unpacklo_ps,
    };

    impl Fma for Avx2Isa {
        #[inline(always)]
        fn fma(a: f32, b: f32, c: f32) -> f32 {
            a.mul_add(b, c)
        }
    }

    impl Isa for Avx2Isa {
        type V = __m256;
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
        fn vmax(a: __m256, b: __m256) -> __m256 {
            // SAFETY: as in `splat`.
            unsafe { _mm256_max_ps(a, b) }
        }

        #[inline(always)]
        fn prefetch(address: *const f32) {
            // SAFETY: as in `splat`; a hint never faults.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) }
        }

        #[inline(always)]
        fn transpose(r: [__m256; 8]) -> [__m256; 8] {
            // SAFETY: as in `splat`.
            unsafe {
                let pair = |a, b| (_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
                let ((a0, a1), (a2, a3)) = (pair(r[0], r[1]), pair(r[2], r[3]));
                let ((a4, a5), (a6, a7)) = (pair(r[4], r[5]), pair(r[6], r[7]));
                let quad = |a, b| (_mm256_shuffle_ps::<0x44>(a, b), _mm256_shuffle_ps::<0xee>(a, b));
                let ((b0, b1), (b2, b3)) = (quad(a0, a2), quad(a1, a3));
                let ((b4, b5), (b6, b7)) = (quad(a4, a6), quad(a5, a7));
                let low = |a, b| _mm256_permute2f128_ps::<0x20>(a, b);
                let high = |a, b| _mm256_permute2f128_ps::<0x31>(a, b);
                [
                    low(b0, b4),
                    low(b1, b5),
                    low(b2, b6),
                    low(b3, b7),
                    high(b0, b4),
                    high(b1, b5),
                    high(b2, b6),
                    high(b3, b7),
                ]
            }
        }
    }
}

/// Defines a function `name(path, …)` from one generic body: compiled for any CPU, and again with AVX2 and FMA enabled.
macro_rules! simd_fn {
    ($(#[$meta:meta])* fn $name:ident<$isa:ident>($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? $body:block) => {
        $(#[$meta])*
        pub(crate) fn $name(path: $crate::Path, $($arg: $ty),*) $(-> $ret)? {
            #[inline(always)]
            fn generic<$isa: $crate::cpu::isa::Isa>($($arg: $ty),*) $(-> $ret)? $body

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            fn avx2($($arg: $ty),*) $(-> $ret)? {
                generic::<$crate::cpu::isa::Avx2Isa>($($arg),*)
            }

            match path {
                #[cfg(target_arch = "x86_64")]
                // SAFETY: an `Exec` of this path, and its self-test, exist only where the CPU has AVX2 and FMA.
                $crate::Path::Avx2 => unsafe { avx2($($arg),*) },
                _ => generic::<$crate::cpu::isa::PortableIsa>($($arg),*),
            }
        }
    };
}
pub(crate) use simd_fn;
