//! Reductions and element-wise operations: every path and thread count against the scalar reference, bit for bit.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Numbers, assert_same, fast_execs, reference};
use essaim_kernels::ops::{self, AdamwScalars, NesterovScalars};
use essaim_kernels::{Exec, math, reduce};
use proptest::prelude::*;
use std::sync::OnceLock;

/// Lengths around the vector, the 32 lanes, the block of 4096, and trees of 2 to 35 blocks.
const LENGTHS: [usize; 17] =
    [0, 1, 7, 8, 31, 32, 33, 95, 4095, 4096, 4097, 8192, 8193, 12_288, 20_481, 28_700, 140_001];

fn all_reductions(exec: &Exec, x: &[f32], y: &[f32]) -> Vec<f32> {
    vec![reduce::sum(exec, x), reduce::sum_squares(exec, x), reduce::dot(exec, x, y), reduce::max_abs(exec, x)]
}

#[test]
fn sums_and_maxima() {
    let execs = fast_execs();
    for len in LENGTHS {
        for wild in [false, true] {
            let mut numbers = Numbers(len as u64);
            let mut make = || if wild { numbers.wild(len) } else { numbers.vec(len, 1.0) };
            let (x, y) = (make(), make());
            let want = all_reductions(&reference(), &x, &y);
            for exec in &execs {
                let context = format!("len {len} wild {wild} on {} with {} threads", exec.path(), exec.threads());
                assert_same(&all_reductions(exec, &x, &y), &want, &context);
            }
        }
    }
}

/// The order written out by hand for one length: lanes, then the tree over lanes, then the tree over blocks.
#[test]
fn the_order_is_the_documented_one() {
    let x = Numbers(3).vec(3 * 4096 + 50, 1.0);
    let block = |x: &[f32]| {
        let mut lanes: Vec<f32> =
            (0..32).map(|lane| x.iter().skip(lane).step_by(32).fold(0.0, |sum, v| sum + v)).collect();
        for width in [16, 8, 4, 2, 1] {
            (0..width).for_each(|lane| lanes[lane] += lanes[lane + width]);
        }
        lanes[0]
    };
    let b: Vec<f32> = x.chunks(4096).map(block).collect();
    let want = (b[0] + b[1]) + (b[2] + b[3]);
    let running = x.iter().fold(0.0f32, |sum, value| sum + value);
    assert_ne!(running.to_bits(), want.to_bits(), "these inputs tell orders apart");
    for exec in fast_execs().iter().chain([&reference()]) {
        assert_eq!(reduce::sum(exec, &x).to_bits(), want.to_bits());
        assert_eq!(reduce::sum(exec, &x[..3 * 4096]).to_bits(), ((b[0] + b[1]) + b[2]).to_bits());
    }
}

/// A plain running sum of 10⁸ ones sticks at 2²⁴; the tree does not.
#[test]
fn long_sums_do_not_stick() {
    let x = vec![1.0f32; 40_000_000];
    let exec = Exec::detect(2).unwrap();
    assert_eq!(reduce::sum_squares(&exec, &x), 40_000_000.0);
    let running = x.iter().fold(0.0f32, |sum, value| sum + value);
    assert_eq!(running, 16_777_216.0);
}

#[test]
fn special_results() {
    for exec in fast_execs().iter().chain([&reference()]) {
        assert_eq!(reduce::sum(exec, &[]).to_bits(), 0);
        assert_eq!(reduce::sum(exec, &[-0.0; 50]).to_bits(), 0, "lanes start at +0");
        assert_eq!(reduce::max_abs(exec, &[]).to_bits(), 0);
        assert_eq!(reduce::max_abs(exec, &[-0.0]).to_bits(), 0);
        assert_eq!(reduce::max_abs(exec, &[1.0, f32::NEG_INFINITY]), f32::INFINITY);
        let poisoned = [1.0, f32::from_bits(0xffc1_2345), f32::INFINITY];
        for result in all_reductions(exec, &poisoned, &poisoned) {
            assert_eq!(result.to_bits(), math::CANONICAL_NAN.to_bits());
        }
        assert_eq!(reduce::sum(exec, &[f32::INFINITY, f32::NEG_INFINITY]).to_bits(), 0x7fc0_0000);
    }
}

#[test]
fn rows_and_columns() {
    let execs = fast_execs();
    for (rows, cols) in [(1, 1), (3, 33), (40, 100), (257, 5), (2, 5000), (700, 300)] {
        for wild in [false, true] {
            let x = if wild { Numbers(1).wild(rows * cols) } else { Numbers(1).vec(rows * cols, 1.0) };
            let run = |exec: &Exec| {
                let mut out = [vec![0.5; rows], vec![0.5; rows], vec![0.5; cols], vec![0.5; cols]];
                reduce::row_sums(exec, &x, &mut out[0]);
                reduce::row_sum_squares(exec, &x, &mut out[1]);
                reduce::col_sums(exec, &x, &mut out[2]);
                reduce::col_sum_squares(exec, &x, &mut out[3]);
                out.concat()
            };
            let want = run(&reference());
            execs.iter().for_each(|exec| assert_same(&run(exec), &want, &format!("{rows} × {cols} {}", exec.path())));
        }
    }
}

/// Each operation against its formula, element by element; also the optimisers' updates.
#[test]
fn elementwise_operations_round_as_written() {
    for exec in fast_execs().iter().chain([&reference()]) {
        for len in [0, 1, 7, 100, 300_001] {
            let (x, y) = (Numbers(1).wild(len), Numbers(2).wild(len));
            let check = |name: &str, operation: &dyn Fn(&mut [f32]), formula: &dyn Fn(f32, f32) -> f32| {
                let mut got = y.clone();
                operation(&mut got);
                let want: Vec<f32> = y.iter().zip(&x).map(|(&y, &x)| formula(y, x)).collect();
                assert_same(&got, &want, &format!("{name} of {len} on {}", exec.path()));
            };
            let (a, b) = (0.3f32, -1.7f32);
            check("add_assign", &|y| ops::add_assign(exec, y, &x), &|y, x| y + x);
            check("mul_assign", &|y| ops::mul_assign(exec, y, &x), &|y, x| y * x);
            check("div_assign", &|y| ops::div_assign(exec, y, &x), &|y, x| y / x);
            check("sqrt_assign", &|y| ops::sqrt_assign(exec, y), &|y, _| y.sqrt());
            check("scale", &|y| ops::scale(exec, y, a), &|y, _| y * a);
            check("add", &|out| ops::add(exec, &x, &y, out), &|y, x| x + y);
            check("sub", &|out| ops::sub(exec, &x, &y, out), &|y, x| x - y);
            check("scaled_add", &|y| ops::scaled_add(exec, y, a, &x), &|y, x| y + a * x);
            check("lerp", &|y| ops::lerp(exec, y, a, &x), &|y, x| y + a * (x - y));
            check("axpby", &|y| ops::axpby(exec, y, a, b, &x), &|y, x| a * x + b * y);
        }
    }
}

#[test]
fn optimiser_updates() {
    let scalars = AdamwScalars {
        lr: 3e-3,
        beta1: 0.9,
        beta2: 0.95,
        eps: 1e-8,
        weight_decay: 0.1,
        bias1: 0.271,
        bias2: 0.142_625,
    };
    let nesterov = NesterovScalars { lr: 0.7, mu: 0.9 };
    let execs = fast_execs();
    for len in [0, 1, 9, 1000, 200_003] {
        for wild in [false, true] {
            let make = |seed| if wild { Numbers(seed).wild(len) } else { Numbers(seed).vec(len, 1.0) };
            let run = |exec: &Exec| {
                let (mut p, g, mut m) = (make(1), make(2), make(3));
                let mut v: Vec<f32> = make(4).iter().map(|v| v.abs()).collect();
                ops::adamw_update(exec, &mut p, &g, &mut m, &mut v, &scalars);
                let (mut q, mut momentum) = (p.clone(), make(5));
                ops::nesterov_update(exec, &mut q, &g, &mut momentum, &nesterov);
                [p, m, v, q, momentum].concat()
            };
            let want = run(&reference());
            execs.iter().for_each(|exec| assert_same(&run(exec), &want, &format!("{len} on {}", exec.path())));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn any_length_agrees(len in 0usize..30_000, seed: u64, wild: bool) {
        static EXECS: OnceLock<Vec<Exec>> = OnceLock::new();
        let mut numbers = Numbers(seed);
        let mut make = || if wild { numbers.wild(len) } else { numbers.vec(len, 1.0) };
        let (x, y) = (make(), make());
        let want = all_reductions(&reference(), &x, &y);
        for exec in EXECS.get_or_init(fast_execs) {
            assert_same(&all_reductions(exec, &x, &y), &want, &format!("{len} on {}", exec.path()));
        }
    }
}
