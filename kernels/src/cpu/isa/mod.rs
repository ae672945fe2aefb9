//! What a fast path must provide, and how a body is compiled for each.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod neon;
mod portable;

#[cfg(target_arch = "x86_64")]
pub(crate) use avx2::Avx2Isa;
#[cfg(target_arch = "x86_64")]
pub(crate) use avx512::Avx512Isa;
#[cfg(target_arch = "aarch64")]
pub(crate) use neon::NeonIsa;
pub(crate) use portable::PortableIsa;

use crate::fma::Fma;
use crate::platform::Path;
use crate::reference::reduce::lane_tree;

/// The most rows that a tile has on any path.
pub(crate) const MR_MAX: usize = 14;
/// The most columns that a tile has on any path.
pub(crate) const NR_MAX: usize = 32;

/// Rows and columns of a tile on every path with vectors of 16 elements, and with vectors of 8.
pub(crate) const TILE_SIZES: [(usize, usize); 2] = [(MR_MAX, NR_MAX), (6, 16)];

/// A vector of float32, and the instructions of the micro-kernels on it.
pub(crate) trait Isa: Fma {
    /// [`Isa::LANES`] float32.
    type V: Copy;
    /// Elements of a vector: 8 or 16, so that 32 lanes of a reduction are whole vectors.
    const LANES: usize;
    /// Rows of a tile, at most [`MR_MAX`]: as many as the registers hold.
    const MR: usize;
    /// Columns of a tile: two vectors.
    const NR: usize = 2 * Self::LANES;
    /// Whether tiles must be compiled into the function that calls them, which enables the instructions.
    const INLINE_TILES: bool;
    /// Whether a tile's rows go through together.
    const TALL_TILES: bool;

    /// Copies of `x` in every lane.
    fn splat(x: f32) -> Self::V;

    /// A vector from `source`.
    ///
    /// # Safety
    /// `source` must be valid for reading a vector's elements.
    unsafe fn load(source: *const f32) -> Self::V;

    /// A vector to `target`.
    ///
    /// # Safety
    /// `target` must be valid for writing a vector's elements.
    unsafe fn store(target: *mut f32, v: Self::V);

    /// `a * b + c` in each lane, rounded once.
    fn vfma(a: Self::V, b: Self::V, c: Self::V) -> Self::V;

    /// `a + b` in each lane.
    fn vadd(a: Self::V, b: Self::V) -> Self::V;

    /// `a * b` in each lane.
    fn vmul(a: Self::V, b: Self::V) -> Self::V;

    /// `a - b` in each lane.
    fn vsub(a: Self::V, b: Self::V) -> Self::V;

    /// `a / b` in each lane.
    fn vdiv(a: Self::V, b: Self::V) -> Self::V;

    /// `a` where `a > b`, else `b`, which so also stands where either is NaN.
    fn vmax(a: Self::V, b: Self::V) -> Self::V;

    /// `a` where `a < b`, else `b`, which so also stands where either is NaN.
    fn vmin(a: Self::V, b: Self::V) -> Self::V;

    /// `y · 2ⁿ` in each lane, rounded once, for `y` in [½, 2) and integers `n` in −152 … 130. Where either is NaN, some NaN.
    fn vscale(y: Self::V, n: Self::V) -> Self::V;

    /// The canonical NaN for any NaN.
    fn vcanonical(x: Self::V) -> Self::V;

    /// The largest lane, of lanes that are no NaN. Which zero, is not said.
    fn largest_lane(x: Self::V) -> f32 {
        let mut lanes = [f32::NEG_INFINITY; 16];
        // SAFETY: a vector has no more lanes.
        unsafe { Self::store(lanes.as_mut_ptr(), x) };
        lanes.into_iter().fold(f32::NEG_INFINITY, |most, lane| if lane > most { lane } else { most })
    }

    /// The tree of SEMANTICS.md §4.3 over 32 lanes: the first `32 / LANES` vectors.
    fn lane_sum(sums: [Self::V; 4]) -> f32 {
        let mut lanes = [0.0f32; 32];
        for (group, sum) in sums.into_iter().enumerate().take(32 / Self::LANES) {
            // SAFETY: whole vectors, 32 lanes in all.
            unsafe { Self::store(lanes.as_mut_ptr().add(group * Self::LANES), sum) };
        }
        lane_tree(lanes)
    }

    /// Hints that the cache line at `address` will be read or written soon. Any address is allowed. The line goes to the first-level cache,
    /// also if it will not stay there: on Zen 4, hints to the second level alone help less where memory is busy.
    fn prefetch(address: *const f32);

    /// Eight rows of eight elements at distance `source_row` become eight columns: rows at distance `target_row`.
    ///
    /// # Safety
    /// Both blocks must be valid, for reading and for writing.
    unsafe fn transpose(source: *const f32, source_row: usize, target: *mut f32, target_row: usize);
}

/// Rows and columns of a tile of `path`: what buffers and tasks are cut by.
pub(crate) fn tile_size(path: Path) -> (usize, usize) {
    match path {
        #[cfg(target_arch = "x86_64")]
        Path::Avx2 => (Avx2Isa::MR, Avx2Isa::NR),
        #[cfg(target_arch = "x86_64")]
        Path::Avx512 => (Avx512Isa::MR, Avx512Isa::NR),
        #[cfg(target_arch = "aarch64")]
        Path::Neon => (NeonIsa::MR, NeonIsa::NR),
        _ => (PortableIsa::MR, PortableIsa::NR),
    }
}

/// Defines a function `name(path, …)` from one generic body: compiled for any CPU, and again for each set of instructions.
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

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")]
            fn avx512($($arg: $ty),*) $(-> $ret)? {
                generic::<$crate::cpu::isa::Avx512Isa>($($arg),*)
            }

            match path {
                #[cfg(target_arch = "x86_64")]
                // SAFETY: an `Exec` of this path, and its self-test, exist only where the CPU has AVX2 and FMA.
                $crate::Path::Avx2 => unsafe { avx2($($arg),*) },
                #[cfg(target_arch = "x86_64")]
                // SAFETY: likewise, only where the CPU has the parts of AVX-512 that are enabled above, and AVX2 and FMA.
                $crate::Path::Avx512 => unsafe { avx512($($arg),*) },
                #[cfg(target_arch = "aarch64")]
                $crate::Path::Neon => generic::<$crate::cpu::isa::NeonIsa>($($arg),*),
                _ => generic::<$crate::cpu::isa::PortableIsa>($($arg),*),
            }
        }
    };
}
pub(crate) use simd_fn;
