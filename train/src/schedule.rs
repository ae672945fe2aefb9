//! The learning rate of an inner step: linear warm-up, then half a cosine, by tokens.
//!
//! Everything is float64 with the pinned `libm`, and rounded to float32 once, so the rate is the same on every machine.

use essaim_kernels::scalar64;
use essaim_protocol::manifest::InnerConfig;

/// The learning rate of an inner step after which `tokens` tokens of the run are trained on, the step's own included.
///
/// With peak `p`, final share `f`, warm-up `w` and end `e` (tokens), all in float64:
/// - `tokens < w`: `p * (tokens / w)`;
/// - else, with `x = min((tokens - w) / (e - w), 1)`: `p * (f + (1 - f) * (0.5 * (1 + cos(pi * x))))`.
///
/// Tokens of a run as its members see them: the base's record counts those of all members, and a member adds its own inner steps to
/// that. So a member's rate is a function of public values only.
pub fn learning_rate(inner: &InnerConfig, tokens: u64) -> f64 {
    let peak = f64::from_bits(inner.peak_lr.0);
    if tokens < inner.warmup_tokens {
        return peak * (tokens as f64 / inner.warmup_tokens as f64);
    }
    let floor = f64::from_bits(inner.final_lr_fraction.0);
    let decay_tokens = inner.total_tokens.saturating_sub(inner.warmup_tokens).max(1);
    let progress = ((tokens - inner.warmup_tokens) as f64 / decay_tokens as f64).min(1.0);
    let cosine = scalar64::cos(std::f64::consts::PI * progress);
    peak * (floor + (1.0 - floor) * (0.5 * (1.0 + cosine)))
}

/// The weight of `part` in `whole`: divided in float64, rounded once to float32.
pub fn share(part: u64, whole: u64) -> f32 {
    (part as f64 / whole as f64) as f32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::selfcheck::tiny_manifest;
    use essaim_protocol::manifest::{F64Bits, Optimizer};

    fn inner() -> InnerConfig {
        let bits = |value: f64| F64Bits(value.to_bits());
        InnerConfig {
            peak_lr: bits(2e-3),
            final_lr_fraction: bits(0.1),
            warmup_tokens: 1000,
            total_tokens: 11_000,
            ..tiny_manifest(Optimizer::Muon).inner
        }
    }

    #[test]
    fn warms_up_linearly_and_ends_at_its_share() {
        let inner = inner();
        assert_eq!(learning_rate(&inner, 0), 0.0);
        assert_eq!(learning_rate(&inner, 500), 1e-3);
        assert_eq!(learning_rate(&inner, 1000), 2e-3);
        assert_eq!(learning_rate(&inner, 11_000), 2e-3 * 0.1);
        assert_eq!(learning_rate(&inner, u64::MAX), learning_rate(&inner, 11_000));
    }

    #[test]
    fn golden_bits_in_the_middle() {
        assert_eq!(learning_rate(&inner(), 2_000).to_bits(), 0x3f60_05ed_1fe1_de56);
        assert_eq!(learning_rate(&inner(), 6_000).to_bits(), 0x3f52_05bc_01a3_6e2f);
    }

    #[test]
    fn no_warm_up_is_allowed() {
        let inner = InnerConfig { warmup_tokens: 0, ..inner() };
        assert_eq!(learning_rate(&inner, 0), 2e-3);
    }

    #[test]
    fn shares_are_rounded_once() {
        assert_eq!(share(1, 3).to_bits(), 0x3eaa_aaab);
        assert_eq!(share(5, 5), 1.0);
    }
}
