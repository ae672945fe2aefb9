//! How far the elementary functions are from the true values, over a fine sample of all float32, and what they do with special values.
//!
//! The bounds asserted here are the ones that SEMANTICS.md §3 states. An error is counted in units in the last place (ulp) of the
//! float32 nearest to the true value, which is taken from float64.
#![allow(clippy::unwrap_used)]

use essaim_kernels::{Exec, math, scalar64};

/// Every how many bit patterns one is tried; prime, so that all low bits occur.
const STRIDE: u32 = 97;

/// The spacing of float32 at `value`.
fn ulp(value: f64) -> f64 {
    let exponent = (value.abs().to_bits() >> 52) as i32 - 1023;
    // 2^(exponent - 23), but not below the subnormal spacing 2^-149.
    f64::from_bits(((exponent.max(-126) - 23 + 1023) as u64) << 52)
}

/// The largest error in ulp, and where, over a strided sample of the inputs whose result is finite and not zero.
fn largest_error(name: &str, function: fn(&Exec, &mut [f32]), truth: fn(f64) -> f64, keep: fn(f32) -> bool) -> f64 {
    let exec = Exec::detect(1).unwrap();
    let inputs: Vec<f32> =
        (0..=u32::MAX / STRIDE).map(|i| f32::from_bits(i * STRIDE)).filter(|&x| x.is_finite() && keep(x)).collect();
    let mut outputs = inputs.clone();
    function(&exec, &mut outputs);
    let (mut worst, mut worst_at, mut wrong) = (0.0, 0.0, 0u64);
    for (&x, &y) in inputs.iter().zip(&outputs) {
        let exact = truth(f64::from(x));
        let error = (f64::from(y) - exact).abs() / ulp(exact);
        wrong += u64::from(y != exact as f32);
        if error > worst || error.is_nan() {
            (worst, worst_at) = (error, x);
        }
    }
    let share = 100.0 * wrong as f64 / inputs.len() as f64;
    println!("{name}: {worst:.4} ulp at {worst_at:e}, {share:.3} % of {} not correctly rounded", inputs.len());
    worst
}

#[test]
fn exp_stays_within_its_bound() {
    let bound = largest_error("exp", math::exp_slice, scalar64::exp, |x| (-103.0..88.72).contains(&x));
    assert!(bound < EXP_BOUND, "exp: {bound} ulp");
}

#[test]
fn log_stays_within_its_bound() {
    let bound = largest_error("log", math::log_slice, scalar64::log, |x| x > 0.0 && x != 1.0);
    assert!(bound < LOG_BOUND, "log: {bound} ulp");
}

#[test]
fn rsqrt_stays_within_its_bound() {
    let bound = largest_error("rsqrt", math::rsqrt_slice, |x| 1.0 / scalar64::sqrt(x), |x| x > 0.0);
    assert!(bound < RSQRT_BOUND, "rsqrt: {bound} ulp");
}

#[test]
fn sigmoid_stays_within_its_bound() {
    let truth = |x: f64| 1.0 / (1.0 + scalar64::exp(-x));
    let bound = largest_error("sigmoid", math::sigmoid_slice, truth, |x| x.abs() < 87.0);
    assert!(bound < SIGMOID_BOUND, "sigmoid: {bound} ulp");
}

#[test]
fn silu_stays_within_its_bound() {
    let truth = |x: f64| x / (1.0 + scalar64::exp(-x));
    let bound = largest_error("silu", math::silu_slice, truth, |x| x.abs() < 80.0 && x.abs() > 1e-37);
    assert!(bound < SILU_BOUND, "silu: {bound} ulp");
}

const EXP_BOUND: f64 = 1.01;
const LOG_BOUND: f64 = 0.95;
const RSQRT_BOUND: f64 = 1.5;
const SIGMOID_BOUND: f64 = 2.4;
const SILU_BOUND: f64 = 2.6;

/// A function, its input, and the bits that must come out.
type Case = (fn(f32) -> f32, f32, u32);

#[test]
fn special_values() {
    let cases: [Case; 26] = [
        (math::exp, 0.0, 0x3f80_0000),
        (math::exp, -0.0, 0x3f80_0000),
        (math::exp, f32::INFINITY, 0x7f80_0000),
        (math::exp, f32::NEG_INFINITY, 0),
        (math::exp, f32::MAX, 0x7f80_0000),
        (math::exp, f32::MIN, 0),
        (math::exp, f32::from_bits(1), 0x3f80_0000),
        (math::exp, f32::NAN, 0x7fc0_0000),
        (math::exp, -f32::NAN, 0x7fc0_0000),
        (math::exp, f32::from_bits(0x7f80_0001), 0x7fc0_0000),
        // The largest finite result, the first overflow, the smallest subnormal result, the first zero.
        (math::exp, f32::from_bits(0x42b1_7217), 0x7f7f_ff84),
        (math::exp, f32::from_bits(0x42b1_7218), 0x7f80_0000),
        (math::exp, f32::from_bits(0xc2cf_f1b4), 1),
        (math::exp, f32::from_bits(0xc2cf_f1b5), 0),
        (math::log, 1.0, 0),
        (math::log, 0.0, 0xff80_0000),
        (math::log, -0.0, 0xff80_0000),
        (math::log, f32::INFINITY, 0x7f80_0000),
        (math::log, -1.0, 0x7fc0_0000),
        (math::log, f32::NEG_INFINITY, 0x7fc0_0000),
        (math::log, -f32::NAN, 0x7fc0_0000),
        (math::log, f32::from_bits(1), 0xc2ce_8ed0),
        (math::rsqrt, 0.0, 0x7f80_0000),
        (math::rsqrt, -0.0, 0xff80_0000),
        (math::rsqrt, -1.0, 0x7fc0_0000),
        (math::rsqrt, f32::INFINITY, 0),
    ];
    for (index, (function, x, want)) in cases.into_iter().enumerate() {
        let got = function(x).to_bits();
        assert_eq!(got, want, "case {index}, input {x:e}: got {got:#010x}, want {want:#010x}");
    }
    assert_eq!(math::sigmoid(f32::INFINITY), 1.0);
    assert_eq!(math::sigmoid(f32::NEG_INFINITY).to_bits(), 0);
    assert_eq!(math::silu(f32::NEG_INFINITY).to_bits(), 0x7fc0_0000, "-inf * 0");
    assert_eq!(math::silu(-0.0).to_bits(), 0x8000_0000);
}

/// exp never decreases: neighbouring inputs over a few ranges, where the reduction changes from one n to the next among them.
#[test]
fn exp_is_monotonic_where_sampled() {
    for start in [-87.0f32, -10.0, -1.05, -0.347, 0.346, 1.03, 10.0, 88.0] {
        let mut previous = math::exp(start);
        let mut x = start;
        for _ in 0..200_000 {
            x = x.next_up();
            let value = math::exp(x);
            assert!(value >= previous, "exp({x:e}) = {value:e} after {previous:e}");
            previous = value;
        }
    }
}
