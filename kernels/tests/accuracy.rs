//! How far the elementary functions are from the true values, on every path, and what they do with special values.
//!
//! The bounds are the ones that SEMANTICS.md §3 states (`common/accuracy.rs`). Here a sample of the inputs is measured; all of them with
//! `cargo test --release -p essaim-kernels --test accuracy -- --ignored` or, with more to read, the example `accuracy -- --all`.
#![allow(clippy::unwrap_used)]

#[path = "common/accuracy.rs"]
mod accuracy;

use accuracy::{FUNCTIONS, Function, measure, ulp};
use essaim_kernels::{Exec, math, scalar64};

/// Every how many bit patterns one is tried; prime, so that all low bits occur.
const STRIDE: u32 = 509;

fn function(name: &str) -> &'static Function {
    FUNCTIONS.iter().find(|function| function.name == name).unwrap()
}

fn check(function: &Function, stride: u32, threads: usize) {
    let report = measure(function, stride, threads);
    println!("{}", report.line(function));
    report.check(function);
}

#[test]
fn every_function_stays_within_its_bounds_and_has_the_same_bits_on_every_path() {
    FUNCTIONS.iter().for_each(|function| check(function, STRIDE, 1));
}

#[test]
#[ignore = "all 2^32 inputs of seven functions: half an hour of one thread"]
fn every_function_stays_within_its_bounds_for_every_input() {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    FUNCTIONS.iter().for_each(|function| check(function, 1, threads));
}

/// The measurement itself can fail: against functions that are slightly other ones.
#[test]
fn a_function_out_of_bounds_is_found() {
    let slightly_off = Function { truth: |x| scalar64::exp(x) * (1.0 + 3e-7), ..*function("exp") };
    let report = measure(&slightly_off, 65_537, 1);
    assert!(report.normal.error > slightly_off.bound_ulp, "{}", report.normal.error);
    let falling = Function { direction: -1, ..*function("exp") };
    assert!(measure(&falling, 65_537, 1).inversions > 1000);
    let never_infinite = Function { truth: |x| scalar64::exp(x).min(1e38), ..*function("exp") };
    assert!(measure(&never_infinite, 65_537, 1).wrong_special > 1000);
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

/// The largest errors that SEMANTICS.md states are reached where it says, and rounded up by less than the last decimal.
#[test]
fn the_largest_errors_are_where_they_are_stated() {
    let exec = Exec::detect(1).unwrap();
    for function in &FUNCTIONS {
        let x = f32::from_bits(function.worst_at);
        let mut y = [x];
        (function.apply)(&exec, &mut y);
        let truth = (function.truth)(f64::from(x));
        let error = (f64::from(y[0]) - truth).abs() / ulp(truth);
        println!("{}({x:e}): {error:.7} ulp", function.name);
        let bound = function.bound_ulp;
        assert!(bound - 1e-4 < error && error <= bound, "{}: {error} ulp at {x:e}, stated {bound}", function.name);
    }
}
