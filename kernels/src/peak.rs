//! What this machine could do at best, to compare with: fused multiply-adds on registers only.

use crate::{Exec, Path};
use std::hint::black_box;
use std::time::Instant;

/// Iterations of the loop: a few milliseconds.
const ROUNDS: usize = 1_000_000;
/// Independent sums: enough to keep two units (on Arm, four) with a latency of four to five cycles busy.
const SUMS: usize = if cfg!(target_arch = "aarch64") { 24 } else { 12 };

macro_rules! fma_loop {
    ($name:ident, $arch:ident, $features:literal, $set:ident, $fma:ident, $first:ident) => {
        #[target_feature(enable = $features)]
        fn $name(rounds: usize) -> f32 {
            use std::arch::$arch::{$first, $fma, $set};
            let (x, y) = ($set(black_box(0.999)), $set(black_box(1e-3)));
            let mut sums = [$set(black_box(1.0)); SUMS];
            for _ in 0..rounds {
                for sum in &mut sums {
                    *sum = $fma(*sum, x, y);
                }
            }
            sums.iter().map(|&sum| $first(sum)).sum()
        }
    };
}
#[cfg(target_arch = "x86_64")]
fma_loop!(fma_loop_256, x86_64, "avx2,fma", _mm256_set1_ps, _mm256_fmadd_ps, _mm256_cvtss_f32);
#[cfg(target_arch = "x86_64")]
fma_loop!(fma_loop_512, x86_64, "avx512f", _mm512_set1_ps, _mm512_fmadd_ps, _mm512_cvtss_f32);
// Which operand is the addend differs, which does not matter here.
#[cfg(target_arch = "aarch64")]
fma_loop!(fma_loop_128, aarch64, "neon", vdupq_n_f32, vfmaq_f32, vaddvq_f32);

/// Floating-point operations a second (a fused multiply-add is two) that the threads of `exec` reach together on the registers
/// of its path, by one reading of some 3 ms, now; `None` on a path without wide instructions. Clocks and neighbours change from minute to
/// minute, so what is compared with it should run in turn with several readings.
pub fn fma_flops_per_s(exec: &Exec) -> Option<f64> {
    let (lanes, run): (usize, unsafe fn(usize) -> f32) = match exec.path() {
        #[cfg(target_arch = "x86_64")]
        Path::Avx2 => (8, fma_loop_256),
        #[cfg(target_arch = "x86_64")]
        Path::Avx512 => (16, fma_loop_512),
        #[cfg(target_arch = "aarch64")]
        Path::Neon => (4, fma_loop_128),
        _ => return None,
    };
    let start = Instant::now();
    // SAFETY: an `Exec` of such a path exists only where the CPU has its instructions.
    exec.for_each_task(exec.threads(), |_| _ = black_box(unsafe { run(ROUNDS) }));
    Some((exec.threads() * ROUNDS * SUMS * lanes * 2) as f64 / start.elapsed().as_secs_f64())
}
