//! The known-answer test: does this thread compute as `f32-exact/1` demands?

use std::hint::black_box;

use crate::platform::Path;

/// What a thread got wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}: got {got:#010x}, must be {want:#010x}")]
pub struct SelfTestError {
    /// Which check failed.
    pub what: &'static str,
    /// The bits that came out.
    pub got: u32,
    /// The bits that must come out.
    pub want: u32,
}

fn check(what: &'static str, got: f32, want: u32) -> Result<(), SelfTestError> {
    let got = got.to_bits();
    if got == want { Ok(()) } else { Err(SelfTestError { what, got, want }) }
}

/// Runs the known-answer test on the calling thread with the implementation `path`.
///
/// # Errors
/// The first answer that differs.
pub fn self_test(path: Path) -> Result<(), SelfTestError> {
    environment()?;
    let _ = path;
    Ok(())
}

/// Rounding to nearest, ties to even; subnormals neither flushed on output (FTZ) nor read as zero (DAZ).
fn environment() -> Result<(), SelfTestError> {
    let smallest_normal = black_box(f32::MIN_POSITIVE);
    check("subnormal results are kept (FTZ off)", smallest_normal * black_box(0.5), 0x0040_0000)?;
    check("subnormal inputs are kept (DAZ off)", black_box(f32::from_bits(1)) * black_box(16_777_216.0), 0x0100_0000)?;
    check("ties round to even, down", black_box(1.0) + black_box(f32::EPSILON / 2.0), 0x3f80_0000)?;
    check("ties round to even, up", black_box(1.0 + f32::EPSILON) + black_box(f32::EPSILON / 2.0), 0x3f80_0002)?;
    check("negative ties round to even", black_box(-1.0 - f32::EPSILON) - black_box(f32::EPSILON / 2.0), 0xbf80_0002)?;
    let (a, b) = (black_box(1.0 + f32::EPSILON), black_box(1.0 - f32::EPSILON));
    check("fused multiply-add rounds once", a.mul_add(b, black_box(-1.0)), 0xa880_0000)?;
    check("software fused multiply-add rounds once", crate::fma::fma_exact(a, b, black_box(-1.0)), 0xa880_0000)
}
