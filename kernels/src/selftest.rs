//! The known-answer test: does this thread compute as `f32-exact/1` demands?
//!
//! A thread whose control register flushes subnormals or rounds otherwise, a compiler that fuses what must not be fused, or a CPU that is broken
//! in a simple way, is found here before it can spoil a contribution. It takes well under a millisecond.

use std::hint::black_box;

use crate::exec::Exec;
use crate::gemm::{Layout, gemm};
use crate::ops::{self, AttentionShape};
use crate::platform::Path;
use crate::{math, reduce};

/// What a thread got wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}: got {got:#010x}, must be {want:#010x}")]
pub struct SelfTestError {
    /// Which check failed.
    pub what: &'static str,
    /// The bits that came out, or their digest.
    pub got: u32,
    /// What must come out.
    pub want: u32,
}

/// Runs the known-answer test on the calling thread with the implementation `path`.
///
/// # Errors
/// The first answer that differs.
///
/// # Panics
/// When this CPU cannot run `path`.
pub fn self_test(path: Path) -> Result<(), SelfTestError> {
    assert!(path.is_available(), "this CPU cannot run the {path} kernels");
    environment()?;
    known_answers(&Exec::untested(path)).into_iter().try_for_each(|(what, got, want)| compare(what, got, want))
}

fn compare(what: &'static str, got: u32, want: u32) -> Result<(), SelfTestError> {
    if got == want { Ok(()) } else { Err(SelfTestError { what, got, want }) }
}

/// Rounding to nearest, ties to even; subnormals neither flushed on output (FTZ) nor read as zero (DAZ).
fn environment() -> Result<(), SelfTestError> {
    let check = |what, got: f32, want| compare(what, got.to_bits(), want);
    let (one, half_ulp) = (black_box(1.0f32), black_box(f32::EPSILON / 2.0));
    let above = black_box(1.0 + f32::EPSILON);
    check("subnormal results are kept (FTZ off)", black_box(f32::MIN_POSITIVE) * black_box(0.5), 0x0040_0000)?;
    check("subnormal inputs are kept (DAZ off)", black_box(f32::from_bits(1)) * black_box(16_777_216.0), 0x0100_0000)?;
    check("ties round to even, down", one + half_ulp, 0x3f80_0000)?;
    check("ties round to even, up", above + half_ulp, 0x3f80_0002)?;
    check("negative ties round to even", -above - half_ulp, 0xbf80_0002)?;
    let (a, b, c) = (above, black_box(1.0 - f32::EPSILON), black_box(-1.0));
    check("products and sums are not fused unasked", a * b + c, 0x0000_0000)?;
    check("fused multiply-add rounds once", a.mul_add(b, c), 0xa880_0000)?;
    check("software fused multiply-add rounds once", crate::fma::fma_exact(a, b, c), 0xa880_0000)
}

/// FNV-1a over the bits.
pub(crate) fn digest(values: &[f32]) -> u32 {
    values
        .iter()
        .flat_map(|value| value.to_bits().to_le_bytes())
        .fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

/// `len` values in [-2, 2), from a linear congruence.
pub(crate) fn values(seed: u32, len: usize) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / 4_194_304.0 - 2.0
    };
    (0..len).map(|_| next()).collect()
}

/// What was computed, what came out, what must.
type Answer = (&'static str, u32, u32);

fn known_answers(exec: &Exec) -> Vec<Answer> {
    let x = values(1, 4200);
    let mut exps: Vec<f32> = x[..80].iter().map(|x| x * 52.0).collect();
    math::exp_slice(exec, &mut exps);
    let mut logs = exps.clone();
    math::log_slice(exec, &mut logs);
    let mut sigmoids = x[..80].to_vec();
    math::sigmoid_slice(exec, &mut sigmoids);
    let sums = [reduce::sum(exec, &x), reduce::sum_squares(exec, &x), reduce::max_abs(exec, &x)];
    vec![
        ("exp", digest(&exps), 0x475d_a1f2),
        ("log", digest(&logs), 0x80b0_7130),
        ("sigmoid", digest(&sigmoids), 0xf68b_f35e),
        ("reductions", digest(&sums), 0x2bf6_4964),
        ("matrix products", digest(&products(exec)), 0x484a_7c68),
        ("attention", digest(&attention(exec)), 0xd79f_b23f),
    ]
}

/// One product of each layout, with incomplete tiles, each continuing the chains of the one before.
fn products(exec: &Exec) -> Vec<f32> {
    let (m, n, k) = (13, 21, 19);
    let (a, b) = (values(2, m * k), values(3, n * k));
    let mut c = vec![0.0; m * n];
    gemm(exec, Layout::NN, m, n, k, &a, k, &b, n, &mut c, n, false);
    gemm(exec, Layout::NT, m, n, k, &a, k, &b, k, &mut c, n, true);
    gemm(exec, Layout::TN, m, n, k, &a, m, &b, n, &mut c, n, true);
    c
}

/// A small attention, forward and backward.
fn attention(exec: &Exec) -> Vec<f32> {
    let shape = AttentionShape { batch: 1, seq: 9, heads: 2, kv_heads: 1, head_dim: 6 };
    let (q, dout) = (values(4, shape.q_len()), values(5, shape.q_len()));
    let (k, v) = (values(6, shape.kv_len()), values(7, shape.kv_len()));
    let (mut out, mut stats) = (vec![0.0; shape.q_len()], vec![0.0; shape.stats_len()]);
    ops::attention_forward(exec, shape, &q, &k, &v, &mut out, &mut stats);
    let (mut dq, mut dk, mut dv) = (q.clone(), k.clone(), v.clone());
    ops::attention_backward(exec, shape, &q, &k, &v, &out, &stats, &dout, &mut dq, &mut dk, &mut dv);
    [out, dq, dk, dv].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_gives_the_known_answers() {
        for path in Path::available() {
            assert_eq!(self_test(path), Ok(()), "{path}");
        }
    }

    #[test]
    fn a_wrong_answer_is_named() {
        assert_eq!(
            compare("exp", 1, 2).map_err(|error| error.to_string()),
            Err("exp: got 0x00000001, must be 0x00000002".into())
        );
    }

    /// With subnormals flushed, as some libraries set it behind one's back, the test must refuse the thread.
    #[cfg(target_arch = "x86_64")]
    #[test]
    fn flushed_subnormals_and_other_rounding_are_refused() {
        use std::arch::asm;
        let set = |control: u32| {
            // SAFETY: loads the control register of the vector unit from a valid location.
            unsafe { asm!("ldmxcsr [{}]", in(reg) &control, options(nostack)) };
        };
        const DEFAULT: u32 = 0x1f80;
        let under = |control: u32| {
            set(control);
            let verdict = environment();
            set(DEFAULT);
            verdict.map_err(|error| error.what)
        };
        assert_eq!(under(DEFAULT), Ok(()));
        assert_eq!(under(DEFAULT | 1 << 15), Err("subnormal results are kept (FTZ off)"));
        assert_eq!(under(DEFAULT | 1 << 6), Err("subnormal inputs are kept (DAZ off)"));
        assert_eq!(under(DEFAULT | 2 << 13), Err("ties round to even, down"), "rounding up");
        assert_eq!(under(DEFAULT | 1 << 13), Err("ties round to even, up"), "rounding down");
        assert_eq!(under(DEFAULT | 3 << 13), Err("ties round to even, up"), "rounding to zero");
    }
    /// The same on 64-bit Arm, whose one bit flushes inputs and results.
    #[cfg(target_arch = "aarch64")]
    #[test]
    fn flushed_subnormals_and_other_rounding_are_refused() {
        use std::arch::asm;
        let set = |control: u64| {
            // SAFETY: sets rounding and flushing of this thread, which are put back before anything else is computed.
            unsafe { asm!("msr fpcr, {}", in(reg) control, options(nostack, nomem)) };
        };
        let under = |control: u64| {
            set(control);
            let verdict = environment();
            set(0);
            verdict.map_err(|error| error.what)
        };
        assert_eq!(under(0), Ok(()));
        assert_eq!(under(1 << 24), Err("subnormal results are kept (FTZ off)"));
        assert_eq!(under(1 << 22), Err("ties round to even, down"), "rounding up");
        assert_eq!(under(2 << 22), Err("ties round to even, up"), "rounding down");
        assert_eq!(under(3 << 22), Err("ties round to even, up"), "rounding to zero");
    }
}
