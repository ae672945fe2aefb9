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

macro_rules! fma_loop {
    ($name:ident, $features:literal, $set:ident, $fma:ident, $first:ident) => {
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = $features)]
        fn $name(rounds: usize) -> f32 {
            use std::arch::x86_64::{$first, $fma, $set};
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
fma_loop!(fma_loop_256, "avx2,fma", _mm256_set1_ps, _mm256_fmadd_ps, _mm256_cvtss_f32);
fma_loop!(fma_loop_512, "avx512f", _mm512_set1_ps, _mm512_fmadd_ps, _mm512_cvtss_f32);

/// Floating-point operations a second (a fused multiply-add is two) that the threads of `exec` reach together on the registers
/// of its path, measured now; `None` on a path without wide instructions. Takes some 20 ms.
pub fn fma_peak_flops(exec: &Exec) -> Option<f64> {
    #[cfg(target_arch = "x86_64")]
    {
        let lanes = match exec.path() {
            Path::Avx2 => 8,
            Path::Avx512 => 16,
            _ => return None,
        };
        let mut best_s = f64::INFINITY;
        for _ in 0..REPETITIONS {
            let start = Instant::now();
            exec.for_each_task(exec.threads(), |_| {
                // SAFETY: an `Exec` of such a path exists only where the CPU has its instructions.
                black_box(unsafe { if lanes == 16 { fma_loop_512(ROUNDS) } else { fma_loop_256(ROUNDS) } });
            });
            best_s = best_s.min(start.elapsed().as_secs_f64());
        }
        Some((exec.threads() * ROUNDS * SUMS * lanes * 2) as f64 / best_s)
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = (ROUNDS, REPETITIONS, exec, Instant::now, Path::Scalar, black_box(()));
        None
    }
}
