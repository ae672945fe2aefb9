//! Plain Rust for any CPU, vectorised by the compiler.

use super::Isa;
use crate::fma::{Fma, fma_exact};
use crate::math::{canonical, times_power};

/// Whether the build target itself has a fused multiply-add, so that `mul_add` is an instruction and not a library call.
const NATIVE_FMA: bool = cfg!(any(target_feature = "fma", target_arch = "aarch64"));

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
    const LANES: usize = 8;
    const MR: usize = 6;
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
    fn vsub(a: [f32; 8], b: [f32; 8]) -> [f32; 8] {
        std::array::from_fn(|lane| a[lane] - b[lane])
    }

    #[inline(always)]
    fn vdiv(a: [f32; 8], b: [f32; 8]) -> [f32; 8] {
        std::array::from_fn(|lane| a[lane] / b[lane])
    }

    #[inline(always)]
    fn vmin(a: [f32; 8], b: [f32; 8]) -> [f32; 8] {
        std::array::from_fn(|lane| if a[lane] < b[lane] { a[lane] } else { b[lane] })
    }

    #[inline(always)]
    fn vscale(y: [f32; 8], n: [f32; 8]) -> [f32; 8] {
        std::array::from_fn(|lane| times_power(y[lane], n[lane] as i32))
    }

    #[inline(always)]
    fn vcanonical(x: [f32; 8]) -> [f32; 8] {
        x.map(canonical)
    }

    #[inline(always)]
    fn vmax(a: [f32; 8], b: [f32; 8]) -> [f32; 8] {
        std::array::from_fn(|lane| if a[lane] > b[lane] { a[lane] } else { b[lane] })
    }

    #[inline(always)]
    fn prefetch(_: *const f32) {}

    #[inline(always)]
    unsafe fn transpose(source: *const f32, source_row: usize, target: *mut f32, target_row: usize) {
        for i in 0..8 {
            for j in 0..8 {
                // SAFETY: the caller promises both blocks.
                unsafe { *target.add(j * target_row + i) = *source.add(i * source_row + j) };
            }
        }
    }
}
