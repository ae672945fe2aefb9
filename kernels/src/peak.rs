//! What this machine could do at best, to compare with: fused multiply-adds on registers only.

use crate::{Exec, Path};
use std::hint::black_box;
use std::time::Instant;

/// Repetitions; the best counts, since other work on the machine can only slow one down.
const REPETITIONS: usize = 5;
/// Iterations of the loop in a repetition: a few milliseconds.
const ROUNDS: usize = 1_000_000;
/// Independent sums: enough to keep two units with a latency of four to five cycles busy.
#[cfg(target_arch = "x86_64")]
const SUMS: usize = 12;

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn fma_loop(rounds: usize) -> f32 {
    use std::arch::x86_64::{_mm256_cvtss_f32, _mm256_fmadd_ps, _mm256_set1_ps};
    let (x, y) = (_mm256_set1_ps(black_box(0.999)), _mm256_set1_ps(black_box(1e-3)));
    let mut sums = [_mm256_set1_ps(black_box(1.0)); SUMS];
    for _ in 0..rounds {
        for sum in &mut sums {
            *sum = _mm256_fmadd_ps(*sum, x, y);
        }
    }
    sums.iter().map(|&sum| _mm256_cvtss_f32(sum)).sum()
}

/// Floating-point operations a second (a fused multiply-add is two) that the threads of `exec` reach together on 256-bit
/// registers, measured now; `None` on a path without wide instructions. Takes some 20 ms.
pub fn fma_peak_flops(exec: &Exec) -> Option<f64> {
    #[cfg(target_arch = "x86_64")]
    if exec.path() == Path::Avx2 {
        let mut best_s = f64::INFINITY;
        for _ in 0..REPETITIONS {
            let start = Instant::now();
            // SAFETY: an `Exec` of this path exists only where the CPU has AVX2 and FMA.
            exec.for_each_task(exec.threads(), |_| _ = black_box(unsafe { fma_loop(ROUNDS) }));
            best_s = best_s.min(start.elapsed().as_secs_f64());
        }
        return Some((exec.threads() * ROUNDS * SUMS * 8 * 2) as f64 / best_s);
    }
    let _ = (ROUNDS, REPETITIONS, exec, Instant::now, Path::Scalar, black_box(()));
    None
}
