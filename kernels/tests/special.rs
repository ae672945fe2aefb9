//! The special values of every operation, as SEMANTICS.md states them, on every path and with any number of threads.
#![allow(clippy::unwrap_used)]

mod common;
#[path = "common/elementary.rs"]
mod elementary;

use common::{Numbers, bits, fast_execs, reference};
use elementary::ELEMENTARY;
use essaim_kernels::ops::{self, AdamwScalars, AttentionShape, RopeShape};
use essaim_kernels::{Exec, Layout, gemm, math, reduce};

const INF: f32 = f32::INFINITY;
const NAN: f32 = f32::NAN;
const TINY: f32 = f32::from_bits(1);

/// Runs `check` with every path and thread count.
fn everywhere(check: impl Fn(&Exec)) {
    fast_execs().iter().chain([&reference()]).for_each(check);
}

/// Compares bits; any NaN is as good as another.
#[track_caller]
fn same(exec: &Exec, what: &str, got: &[f32], want: &[f32]) {
    assert_eq!(bits(got), bits(want), "{what} on {} with {} threads", exec.path(), exec.threads());
}

#[test]
fn elementary_functions() {
    everywhere(|exec| {
        for (name, function, cases) in ELEMENTARY {
            for &(input, want) in cases {
                // In a vector of its own, among others, and at the end of an odd slice.
                for (len, at) in [(1, 0), (8, 3), (16, 15), (37, 36)] {
                    let mut x = vec![0.75f32; len];
                    x[at] = f32::from_bits(input);
                    function(exec, &mut x);
                    let got = x[at].to_bits();
                    assert_eq!(
                        got,
                        want,
                        "{name}({input:#010x}) is {got:#010x}, must be {want:#010x} on {}",
                        exec.path()
                    );
                }
            }
        }
    });
}

#[test]
fn roots_are_rounded_once() {
    everywhere(|exec| {
        let mut x = [0.0, -0.0, TINY, -TINY, INF, -INF, -1.0, NAN, 2.0];
        ops::sqrt_assign(exec, &mut x);
        let (of_tiny, of_two) = (f32::from_bits(0x1a35_04f3), f32::from_bits(0x3fb5_04f3));
        let want = [0.0, -0.0, of_tiny, NAN, INF, NAN, NAN, NAN, of_two];
        same(exec, "sqrt", &x, &want);
    });
}

/// Terms, what the chain continues if anything, and the result.
type Chain = (&'static [f32], &'static [f32], Option<f32>, f32);

#[test]
fn chains() {
    let product = |exec: &Exec, a: &[f32], b: &[f32], start: Option<f32>| {
        let mut c = [start.unwrap_or(7.0)];
        gemm(exec, Layout::NN, 1, 1, a.len(), a, a.len().max(1), b, 1, &mut c, 1, start.is_some());
        c[0]
    };
    everywhere(|exec| {
        let cases: [Chain; 14] = [
            (&[], &[], None, 0.0),
            (&[], &[], Some(-0.0), -0.0),
            (&[0.0, 0.0], &[-1.0, -1.0], None, 0.0),
            (&[0.0, 0.0], &[-1.0, -1.0], Some(-0.0), -0.0),
            (&[0.0], &[1.0], Some(-0.0), 0.0),
            // The product itself does not overflow and is not rounded, only the sum is.
            (&[f32::MAX], &[2.0], Some(-f32::MAX), f32::MAX),
            (&[f32::MAX], &[2.0], None, INF),
            // What overflowed on the way stays infinite.
            (&[f32::MAX, -f32::MAX], &[2.0, 2.0], None, INF),
            (&[f32::MAX, -1.0], &[2.0, 1.0], None, INF),
            (&[INF], &[0.0], None, NAN),
            (&[INF, 1.0], &[1.0, -INF], None, NAN),
            (&[NAN], &[0.0], Some(1.0), NAN),
            // A product that vanishes keeps its sign; subnormal terms count.
            (&[-TINY], &[TINY], None, -0.0),
            (&[TINY, TINY], &[1.0, 0.5], None, f32::from_bits(2)),
        ];
        for (index, (a, b, start, want)) in cases.into_iter().enumerate() {
            same(exec, &format!("chain {index}"), &[product(exec, a, b, start)], &[want]);
        }
    });
}

#[test]
fn reductions() {
    everywhere(|exec| {
        let sum = |x: &[f32]| reduce::sum(exec, x);
        let dot = |x: &[f32], y: &[f32]| reduce::dot(exec, x, y);
        let both_sides: Vec<f32> = (0..64).map(|i| if i % 2 == 0 { f32::MAX } else { -f32::MAX }).collect();
        let cases = [
            ("sum of nothing", sum(&[]), 0.0),
            ("sum of negative zeros", sum(&[-0.0; 50]), 0.0),
            ("sum of subnormals", sum(&[TINY; 40]), f32::from_bits(40)),
            ("sum of opposite infinities", sum(&[INF, -INF]), math::CANONICAL_NAN),
            ("sum with a NaN", sum(&[1.0, f32::from_bits(0xffc1_2345)]), math::CANONICAL_NAN),
            ("sum that overflows", sum(&[f32::MAX, f32::MAX]), INF),
            ("sum whose lane overflows", sum(&[&[f32::MAX; 64][..], &[-f32::MAX; 64]].concat()), INF),
            ("sum whose lanes overflow to both sides", sum(&both_sides), math::CANONICAL_NAN),
            ("squares that vanish", reduce::sum_squares(exec, &[1e-30; 100]), 0.0),
            ("squares that overflow", reduce::sum_squares(exec, &[-2e19]), INF),
            ("squares of infinities", reduce::sum_squares(exec, &[-INF, INF]), INF),
            ("dot of nothing", dot(&[], &[]), 0.0),
            ("dot that vanishes in one lane", dot(&[-TINY], &[TINY]), 0.0),
            ("dot that vanishes in every lane", dot(&[-TINY; 32], &[TINY; 32]), -0.0),
            ("dot of zero and infinity", dot(&[0.0], &[INF]), math::CANONICAL_NAN),
            ("max_abs of nothing", reduce::max_abs(exec, &[]), 0.0),
            ("max_abs of negative zero", reduce::max_abs(exec, &[-0.0; 3]), 0.0),
            ("max_abs of a subnormal", reduce::max_abs(exec, &[0.0, -TINY]), TINY),
            ("max_abs of an infinity", reduce::max_abs(exec, &[1.0, -INF]), INF),
            ("max_abs with a NaN", reduce::max_abs(exec, &[INF, f32::from_bits(0xff80_0001)]), math::CANONICAL_NAN),
        ];
        for (name, got, want) in cases {
            assert_eq!(got.to_bits(), want.to_bits(), "{name} on {}", exec.path());
        }
        let x = [-0.0, INF, -0.0, -INF, 1e-30, NAN, -0.0, 1.0];
        let mut out = [vec![9.0; 2], vec![9.0; 2], vec![9.0; 4], vec![9.0; 4]];
        reduce::row_sums(exec, &x, &mut out[0]);
        reduce::row_sum_squares(exec, &x, &mut out[1]);
        reduce::col_sums(exec, &x, &mut out[2]);
        reduce::col_sum_squares(exec, &x, &mut out[3]);
        let canonical = math::CANONICAL_NAN;
        let want = [
            vec![canonical; 2],
            vec![INF, canonical],
            vec![1e-30, canonical, 0.0, -INF],
            vec![0.0, canonical, 0.0, INF],
        ];
        let as_bits = |x: &[Vec<f32>]| x.concat().iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        assert_eq!(as_bits(&out), as_bits(&want), "rows and columns on {}", exec.path());
    });
}

#[test]
fn embeddings_copy_bits_and_leave_other_rows_alone() {
    let poison = f32::from_bits(0xffa1_2345);
    everywhere(|exec| {
        let table = [-0.0, 1.0, TINY, poison, INF, -INF];
        let mut out = [7.0f32; 4];
        ops::embedding_forward(exec, &[1, 0], &table, &mut out);
        assert_eq!(out.map(f32::to_bits), [TINY, poison, -0.0, 1.0].map(f32::to_bits), "{}", exec.path());
        let mut gradient = [-0.0f32; 6];
        ops::embedding_backward(exec, &[2, 2], &[-0.0, 0.0, -0.0, 1.0], &mut gradient);
        same(exec, "embedding backward", &gradient, &[-0.0, -0.0, -0.0, -0.0, -0.0, 1.0]);
        let mut gradient = [0.0f32, -0.0, 0.0, -0.0];
        ops::embedding_backward(exec, &[1], &[-0.0, 0.0], &mut gradient);
        same(exec, "embedding backward, zeros of both signs", &gradient, &[0.0, -0.0, 0.0, 0.0]);
    });
}

#[test]
fn rms_norm() {
    everywhere(|exec| {
        let norm = |x: [f32; 2], eps: f32| {
            let (mut y, mut rstd) = ([7.0; 2], [7.0]);
            ops::rmsnorm_forward(exec, &x, &[1.0, -1.0], eps, &mut y, &mut rstd);
            [y[0], y[1], rstd[0]]
        };
        let cases = [
            ("zeros keep their signs", norm([-0.0, -0.0], 0.25), [-0.0, 0.0, 2.0]),
            ("zeros without epsilon", norm([0.0, -0.0], 0.0), [NAN, NAN, INF]),
            ("an infinity", norm([INF, -1.0], 0.25), [NAN, 0.0, 0.0]),
            ("a NaN", norm([NAN, 1.0], 0.25), [NAN, NAN, NAN]),
            ("squares that overflow", norm([2e19, -2e19], 0.25), [0.0, 0.0, 0.0]),
            ("squares that vanish", norm([TINY, -TINY], 0.25), [f32::from_bits(2), f32::from_bits(2), 2.0]),
        ];
        cases.iter().for_each(|(name, got, want)| same(exec, name, got, want));
        // Without a gradient nothing is added; negative zeros come from −x̂ · 0.
        let (mut dx, mut dw) = ([7.0; 2], [-0.0; 2]);
        ops::rmsnorm_backward(exec, &[1.0, 1.0], &[1.0; 2], &[1.0], &[0.0; 2], &mut dx, false, &mut dw);
        same(exec, "no gradient", &[dx[0], dx[1], dw[0], dw[1]], &[0.0, 0.0, 0.0, 0.0]);
    });
}

/// At position 0 the angle is 0; even so a zero may change its sign, and infinity times zero is NaN.
#[test]
fn rotary_positions() {
    everywhere(|exec| {
        let (cos, sin) = ops::rope_tables(10_000.0, 2, 1);
        let rotated = |x: [f32; 2]| {
            let mut x = x;
            ops::rope_forward(exec, RopeShape { seq: 1, heads: 1, head_dim: 2 }, &mut x, &cos, &sin);
            x
        };
        same(exec, "cos and sin of 0", &[cos[0], sin[0]], &[1.0, 0.0]);
        same(exec, "a negative zero stays", &rotated([-0.0, 1.0]), &[-0.0, 1.0]);
        same(exec, "a negative zero becomes positive", &rotated([-0.0, -1.0]), &[0.0, -1.0]);
        same(exec, "an infinity", &rotated([INF, 1.0]), &[INF, NAN]);
        same(exec, "a subnormal", &rotated([TINY, -TINY]), &[TINY, -TINY]);
        same(exec, "a NaN", &rotated([1.0, NAN]), &[NAN, NAN]);
    });
}

#[test]
fn attention() {
    everywhere(|exec| {
        // Two positions, one head of one element: the second query sees both keys with the scores `scores`.
        let second = |scores: [f32; 2], values: [f32; 2]| {
            let shape = AttentionShape { batch: 1, seq: 2, heads: 1, kv_heads: 1, head_dim: 1 };
            let (mut out, mut stats) = ([7.0; 2], [7.0; 4]);
            ops::attention_forward(exec, shape, &[1.0, 1.0], &scores, &values, &mut out, &mut stats);
            [out[1], stats[2], stats[3]]
        };
        let cases = [
            ("equal scores", second([3.0, 3.0], [1.0, 2.0]), [1.5, 3.0, 0.5]),
            ("a score of minus infinity has no weight", second([-INF, 0.0], [5.0, 2.0]), [2.0, 0.0, 1.0]),
            ("but its infinite value is multiplied by it", second([-INF, 0.0], [INF, 2.0]), [NAN, 0.0, 1.0]),
            ("only minus infinities", second([-INF, -INF], [1.0, 2.0]), [NAN, -INF, NAN]),
            ("plus infinity", second([INF, 0.0], [1.0, 2.0]), [NAN, INF, NAN]),
            ("a NaN", second([NAN, 1.0], [1.0, 2.0]), [NAN, 1.0, NAN]),
            ("the largest of zeros is positive", second([-0.0, -0.0], [1.0, 2.0]), [1.5, 0.0, 0.5]),
            ("outputs are chains from positive zero", second([0.0, 0.0], [-0.0, -0.0]), [0.0, 0.0, 0.5]),
            ("subnormal values round at each term", second([0.0, 0.0], [3.0 * TINY; 2]), [4.0 * TINY, 0.0, 0.5]),
        ];
        cases.iter().for_each(|(name, got, want)| same(exec, name, got, want));
    });
}

/// Where positions are cut into earlier and later ones, within a tile.
const CUT: usize = 37;

/// Keys and values after a query, and queries before a key, take no part: whatever they hold, no bit changes. The lengths cross the tiles.
#[test]
fn attention_skips_what_is_masked() {
    let shape = AttentionShape { batch: 1, seq: 130, heads: 2, kv_heads: 1, head_dim: 6 };
    let (of_q, of_k) = (CUT * 12, CUT * 6);
    let inputs = |seed, len| Numbers(seed).vec(len, 2.0);
    // Forward, then backward: out, dq, dk, dv.
    let run = |exec: &Exec, [q, dout, k, v]: [&[f32]; 4]| {
        let (mut out, mut stats) = (vec![0.0; shape.q_len()], vec![0.0; shape.stats_len()]);
        ops::attention_forward(exec, shape, q, k, v, &mut out, &mut stats);
        let (mut dq, mut dk, mut dv) = (q.to_vec(), k.to_vec(), v.to_vec());
        ops::attention_backward(exec, shape, q, k, v, &out, &stats, dout, &mut dq, &mut dk, &mut dv);
        [out, dq, dk, dv]
    };
    let [q, dout] = [1, 2].map(|seed| inputs(seed, shape.q_len()));
    let [k, v] = [3, 4].map(|seed| inputs(seed, shape.kv_len()));
    let [out, dq, dk, dv] = run(&reference(), [&q, &dout, &k, &v]);
    assert!([&out, &dq, &dk, &dv].iter().all(|x| x.iter().all(|value| value.is_finite())));
    everywhere(|exec| {
        for (a, b) in [(NAN, INF), (INF, NAN), (-INF, -INF)] {
            let (mut later_k, mut later_v) = (k.clone(), v.clone());
            later_k[of_k..].fill(a);
            later_v[of_k..].fill(b);
            let [got, got_dq, ..] = run(exec, [&q, &dout, &later_k, &later_v]);
            same(exec, "out before poisoned keys", &got[..of_q], &out[..of_q]);
            same(exec, "dq before poisoned keys", &got_dq[..of_q], &dq[..of_q]);
            let (mut earlier_q, mut earlier_dout) = (q.clone(), dout.clone());
            earlier_q[..of_q].fill(a);
            earlier_dout[..of_q].fill(b);
            let [got, got_dq, got_dk, got_dv] = run(exec, [&earlier_q, &earlier_dout, &k, &v]);
            same(exec, "out after poisoned queries", &got[of_q..], &out[of_q..]);
            same(exec, "dq after poisoned queries", &got_dq[of_q..], &dq[of_q..]);
            same(exec, "dk after poisoned queries", &got_dk[of_k..], &dk[of_k..]);
            same(exec, "dv after poisoned queries", &got_dv[of_k..], &dv[of_k..]);
        }
    });
}

#[test]
fn swiglu() {
    everywhere(|exec| {
        let forward = |gate: f32, up: f32| {
            let mut out = [7.0];
            ops::swiglu_forward(exec, &[gate], &[up], &mut out);
            out[0]
        };
        let backward = |gate: f32, up: f32, dout: f32| {
            let (mut dgate, mut dup) = ([7.0], [7.0]);
            ops::swiglu_backward(exec, &[gate], &[up], &[dout], &mut dgate, &mut dup);
            [dgate[0], dup[0]]
        };
        same(exec, "zero gates", &[forward(0.0, -1.0), forward(-0.0, -1.0)], &[-0.0, 0.0]);
        same(exec, "a closed gate", &[forward(-89.0, 3.0), forward(-89.0, -3.0)], &[-0.0, 0.0]);
        same(exec, "a closed gate before infinity", &[forward(-89.0, INF), forward(INF, 0.0)], &[NAN, NAN]);
        same(exec, "infinite gates", &[forward(INF, 2.0), forward(-INF, 2.0)], &[INF, NAN]);
        same(exec, "gradient at zero", &backward(0.0, 2.0, 1.0), &[1.0, 0.0]);
        same(exec, "gradient at negative zero", &backward(-0.0, 2.0, 1.0), &[1.0, -0.0]);
        same(exec, "gradient at a subnormal", &backward(TINY, 2.0, 1.0), &[1.0, 0.0]);
        same(exec, "gradient at a negative subnormal", &backward(-TINY, 2.0, 1.0), &[1.0, -0.0]);
        same(exec, "gradient of a closed gate", &backward(-89.0, 1.0, 1.0), &[-0.0, -0.0]);
        same(exec, "gradient of an open gate", &backward(89.0, 1.0, 1.0), &[1.0, 89.0]);
        same(exec, "gradient at infinity", &backward(INF, 1.0, 1.0), &[NAN, INF]);
        same(exec, "gradient at minus infinity", &backward(-INF, 1.0, 1.0), &[NAN, NAN]);
        same(exec, "gradient of a NaN", &backward(NAN, 1.0, 1.0), &[NAN, NAN]);
    });
}

#[test]
fn cross_entropy() {
    everywhere(|exec| {
        let loss = |logits: [f32; 2]| {
            let (mut gradient, mut losses, mut again) = (logits, [7.0], [7.0]);
            ops::cross_entropy_forward_backward(exec, &mut gradient, &[0], &mut losses, 2.0);
            ops::cross_entropy_losses(exec, &logits, &[0], &mut again);
            assert_eq!(losses[0].to_bits(), again[0].to_bits(), "with and without gradient");
            assert!(!losses[0].is_nan() || losses[0].to_bits() == math::CANONICAL_NAN.to_bits());
            [losses[0], gradient[0], gradient[1]]
        };
        let ln_2 = f32::from_bits(0x3f31_7218);
        let cases = [
            ("equal logits", loss([5.0, 5.0]), [ln_2, -1.0, 1.0]),
            ("zeros of either sign", loss([-0.0, 0.0]), [ln_2, -1.0, 1.0]),
            ("a certain target", loss([0.0, -200.0]), [0.0, 0.0, 0.0]),
            ("an impossible other", loss([0.0, -INF]), [0.0, 0.0, 0.0]),
            ("an unlikely target", loss([-200.0, 0.0]), [200.0, -2.0, 2.0]),
            ("an impossible target", loss([-INF, 0.0]), [INF, -2.0, 2.0]),
            ("only impossible ones", loss([-INF, -INF]), [NAN; 3]),
            ("infinity", loss([INF, 0.0]), [NAN; 3]),
            ("a NaN", loss([0.0, NAN]), [NAN; 3]),
            ("a difference that overflows", loss([-f32::MAX, f32::MAX]), [INF, -2.0, 2.0]),
        ];
        cases.iter().for_each(|(name, got, want)| same(exec, name, got, want));
        let (mut gradient, mut losses) = ([-3.0], [7.0]);
        ops::cross_entropy_forward_backward(exec, &mut gradient, &[0], &mut losses, -2.0);
        same(exec, "one logit only", &[losses[0], gradient[0]], &[0.0, -0.0]);
    });
}

#[test]
fn optimisers() {
    let scalars =
        AdamwScalars { lr: 0.5, beta1: 0.5, beta2: 0.5, eps: 0.25, weight_decay: 0.0, bias1: 1.0, bias2: 1.0 };
    everywhere(|exec| {
        let adamw = |g: f32, eps: f32| {
            let (mut p, mut m, mut v) = ([1.0], [0.0], [0.0]);
            ops::adamw_update(exec, &mut p, &[g], &mut m, &mut v, &AdamwScalars { eps, ..scalars });
            [p[0], m[0], v[0]]
        };
        same(exec, "no gradient", &adamw(-0.0, 0.25), &[1.0, 0.0, 0.0]);
        same(exec, "no gradient and no epsilon", &adamw(0.0, 0.0), &[NAN, 0.0, 0.0]);
        same(exec, "a square that vanishes", &adamw(-1e-30, 0.25), &[1.0, -5e-31, 0.0]);
        same(exec, "a square that overflows moves nothing", &adamw(4e19, 0.25), &[1.0, 2e19, INF]);
        same(exec, "an infinite gradient", &adamw(-INF, 0.25), &[NAN, -INF, INF]);
        same(exec, "a NaN", &adamw(NAN, 0.25), &[NAN, NAN, NAN]);
        let mut v = [-1.0];
        let (mut p, mut m) = ([1.0], [0.0]);
        ops::adamw_update(exec, &mut p, &[0.0], &mut m, &mut v, &scalars);
        same(exec, "a negative second moment", &[p[0], v[0]], &[NAN, -0.5]);
    });
}
