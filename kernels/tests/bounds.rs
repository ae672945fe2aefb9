//! The error bounds that SEMANTICS.md states for reductions, chains and what is built of them, against binary64.
//!
//! Each check measures the largest error as a share of its bound, on random and on adversarial data, and fails above 1. `--nocapture` prints the
//! shares. The bounds hold to first order in u = 2⁻²⁴; `SLACK` covers the rest.
#![allow(clippy::unwrap_used)]

mod common;

use common::Numbers;
use essaim_kernels::ops::{self, AdamwScalars, AttentionShape, RopeShape};
use essaim_kernels::{Exec, Layout, gemm, reduce, scalar64};

/// Half a unit in the last place of 1.
const U: f64 = 1.0 / 16_777_216.0;
/// What second-order terms and the oracle's own rounding may add.
const SLACK: f64 = 1.001;
/// Half the smallest subnormal: what a fused multiply-add that ends in the subnormal range may add to its relative error.
const TINY: f64 = f32::MIN_POSITIVE as f64 / 16_777_216.0;

fn exec() -> Exec {
    Exec::detect(1).unwrap()
}

/// Keeps the largest share of a bound that was used, and prints it.
struct Shares {
    name: &'static str,
    worst: f64,
}

impl Shares {
    fn new(name: &'static str) -> Shares {
        Shares { name, worst: 0.0 }
    }

    fn add(&mut self, got: f32, truth: f64, bound: f64) {
        let error = (f64::from(got) - truth).abs();
        if error > 0.0 {
            self.worst = self.worst.max(error / bound);
        }
        assert!(error <= bound * SLACK, "{}: {got:e} for {truth:e}: off by {error:e}, bound {bound:e}", self.name);
    }
}

impl Drop for Shares {
    fn drop(&mut self) {
        println!("{}: {:.1} % of the bound used at most", self.name, 100.0 * self.worst);
    }
}

/// Roundings between an element and the sum: in a lane, then in the two trees.
fn lane(n: usize) -> f64 {
    n.div_ceil(32).min(128) as f64
}

fn tree(n: usize) -> f64 {
    5.0 + f64::from(n.div_ceil(4096).max(1).next_power_of_two().ilog2())
}

/// Rows of kinds that stress a sum: of either sign, positive, of all magnitudes, almost cancelling, and always rounded down.
fn rows(len: usize) -> Vec<Vec<f32>> {
    let mut numbers = Numbers(len as u64);
    let signed = numbers.vec(len, 1.0);
    let positive: Vec<f32> = signed.iter().map(|x| x.abs()).collect();
    let magnitudes = signed.iter().map(|x| x * f32::from_bits((numbers.below(120) as u32 + 60) << 23)).collect();
    let cancelling = (0..len).map(|i| if i % 2 == 0 { 1e4 + signed[i] } else { -1e4 }).collect();
    // 1, then halves of its last place: every addition rounds down to 1 again.
    let down = (0..len).map(|i| if i % 4096 < 32 { 1.0 } else { U as f32 }).collect();
    vec![signed, positive, magnitudes, cancelling, down]
}

fn f64s(x: &[f32]) -> impl Iterator<Item = f64> + Clone + '_ {
    x.iter().map(|&x| f64::from(x))
}

#[test]
fn reductions() {
    let exec = exec();
    let [mut sum, mut squares, mut dot, mut rounded] =
        ["sum", "sum_squares", "dot", "row_sum_squares"].map(Shares::new);
    let mut in_ulp = 0.0f64;
    for len in [1, 5, 32, 33, 100, 1000, 4096, 4097, 9000, 100_000] {
        for (x, y) in rows(len).iter().zip(rows(len).iter().rev()) {
            let total: f64 = f64s(x).sum();
            let got = reduce::sum(&exec, x);
            sum.add(got, total, (lane(len) - 1.0 + tree(len)) * U * f64s(x).map(f64::abs).sum::<f64>());
            let squared: f64 = f64s(x).map(|x| x * x).sum();
            let bound = (lane(len) + tree(len)) * U * squared + len as f64 * TINY;
            squares.add(reduce::sum_squares(&exec, x), squared, bound);
            let mut of_row = [0.0];
            reduce::row_sum_squares(&exec, x, &mut of_row);
            rounded.add(of_row[0], squared, bound);
            let products = || f64s(x).zip(f64s(y)).map(|(x, y)| x * y);
            let magnitude: f64 = products().map(f64::abs).sum();
            let bound = (lane(len) + tree(len)) * U * magnitude + len as f64 * TINY;
            dot.add(reduce::dot(&exec, x, y), products().sum(), bound);
            if x.iter().all(|&x| x > 0.0) {
                let ulp = f64::from(got.next_up()) - f64::from(got);
                in_ulp = in_ulp.max((f64::from(got) - total).abs() / ulp);
            }
        }
    }
    println!("sum of positive rows: {in_ulp:.1} ulp at most");
    assert!(in_ulp > 60.0, "the adversarial row does not stress the sum");
}

#[test]
fn columns() {
    let exec = exec();
    let [mut sums, mut squares] = ["col_sums", "col_sum_squares"].map(Shares::new);
    for count in [1, 2, 50, 3000] {
        for x in rows(count * 3) {
            let (mut got, mut got_squares) = ([0.0; 3], [0.0; 3]);
            reduce::col_sums(&exec, &x, &mut got);
            reduce::col_sum_squares(&exec, &x, &mut got_squares);
            for col in 0..3 {
                let column = || x.iter().skip(col).step_by(3).map(|&x| f64::from(x));
                let magnitude: f64 = column().map(f64::abs).sum();
                sums.add(got[col], column().sum(), (count as f64 - 1.0) * U * magnitude);
                let squared: f64 = column().map(|x| x * x).sum();
                squares.add(got_squares[col], squared, count as f64 * (U * squared + TINY));
            }
        }
    }
}

#[test]
fn chains() {
    let exec = exec();
    let mut shares = Shares::new("chain");
    for k in [1, 2, 10, 128, 1000, 20_000] {
        for (x, y) in rows(k).iter().zip(rows(k).iter().rev()) {
            let mut got = [0.0];
            gemm(&exec, Layout::NN, 1, 1, k, x, k, y, 1, &mut got, 1, false);
            let products = || f64s(x).zip(f64s(y)).map(|(x, y)| x * y);
            let magnitude: f64 = products().map(f64::abs).sum();
            shares.add(got[0], products().sum(), k as f64 * (U * magnitude + TINY));
        }
    }
}

#[test]
fn rms_norm() {
    let exec = exec();
    let [mut of_rstd, mut of_y, mut of_dx] = ["rmsnorm rstd", "rmsnorm y", "rmsnorm dx"].map(Shares::new);
    for d in [8, 100, 768, 5000] {
        for x in rows(d) {
            let (w, dy, eps) = (Numbers(1).vec(d, 1.5), Numbers(2).vec(d, 1.0), 1e-5f32);
            let (mut y, mut rstd) = (vec![0.0; d], [0.0]);
            ops::rmsnorm_forward(&exec, &x, &w, eps, &mut y, &mut rstd);
            let mean = f64s(&x).map(|x| x * x).sum::<f64>() / d as f64;
            let truth = 1.0 / (mean + f64::from(eps)).sqrt();
            let k = lane(d) + tree(d);
            of_rstd.add(rstd[0], truth, (k / 2.0 + 3.0) * U * truth);
            for (j, &got) in y.iter().enumerate() {
                let truth = f64::from(x[j]) * truth * f64::from(w[j]);
                of_y.add(got, truth, (k / 2.0 + 5.0) * U * truth.abs() + 4.0 * TINY);
            }
            let (mut dx, mut dw) = (vec![0.0; d], vec![0.0; d]);
            ops::rmsnorm_backward(&exec, &x, &w, &rstd, &dy, &mut dx, false, &mut dw);
            let r = f64::from(rstd[0]);
            let g: Vec<f64> = f64s(&dy).zip(f64s(&w)).map(|(dy, w)| dy * w).collect();
            let n: Vec<f64> = f64s(&x).map(|x| x * r).collect();
            let products = || g.iter().zip(&n).map(|(g, n)| g * n);
            let c = products().sum::<f64>() / d as f64;
            let a = products().map(f64::abs).sum::<f64>() / d as f64;
            for (j, &got) in dx.iter().enumerate() {
                let bound = r * (3.0 * g[j].abs() + (k + 6.0) * n[j].abs() * a) * U + 4.0 * (1.0 + r) * TINY;
                of_dx.add(got, r * (g[j] - n[j] * c), bound);
            }
        }
    }
}

#[test]
fn rotary_positions() {
    let exec = exec();
    let [mut of_pair, mut of_table] = ["rotary", "cos and sin"].map(Shares::new);
    let (seq, head_dim) = (4096, 16);
    let (cos, sin) = ops::rope_tables(10_000.0, head_dim, seq);
    let x = Numbers(5).vec(seq * head_dim, 3.0);
    let mut rotated = x.clone();
    ops::rope_forward(&exec, RopeShape { seq, heads: 1, head_dim }, &mut rotated, &cos, &sin);
    for pos in 0..seq {
        for i in 0..head_dim / 2 {
            let at = pos * head_dim / 2 + i;
            // The angle with an exponential instead of a power: another way to the same value.
            let angle = pos as f64 * scalar64::exp(-scalar64::log(10_000.0) * (2 * i) as f64 / head_dim as f64);
            of_table.add(cos[at], scalar64::cos(angle), U * scalar64::cos(angle).abs() + 1.0 / (1u64 << 38) as f64);
            of_table.add(sin[at], scalar64::sin(angle), U * scalar64::sin(angle).abs() + 1.0 / (1u64 << 38) as f64);
            let first = pos * head_dim + i;
            let [a, b] = [x[first], x[first + head_dim / 2]].map(f64::from);
            let [c, s] = [cos[at], sin[at]].map(f64::from);
            of_pair.add(rotated[first], a * c - b * s, ((a * c).abs() + 2.0 * (b * s).abs()) * U + TINY);
            of_pair.add(rotated[first + head_dim / 2], b * c + a * s, ((b * c).abs() + 2.0 * (a * s).abs()) * U + TINY);
        }
    }
}

/// Logits or scores from narrow to so wide that most weights vanish.
fn score_rows(len: usize) -> Vec<Vec<f32>> {
    [0.1, 2.0, 20.0, 300.0].iter().map(|&scale| Numbers(len as u64).vec(len, scale)).collect()
}

/// A row's true maximum, sum of exponentials and weights' mean distance from the maximum.
fn softmax(row: &[f32]) -> (f64, f64, f64) {
    let max = f64s(row).fold(f64::NEG_INFINITY, f64::max);
    let z: f64 = f64s(row).map(|l| scalar64::exp(l - max)).sum();
    let mean = f64s(row).map(|l| scalar64::exp(l - max) * (max - l)).sum::<f64>() / z;
    (max, z, mean)
}

/// The bound of a weight `p = exp(l − m) / z`.
fn weight_bound(n: usize, distance: f64, mean: f64, p: f64) -> f64 {
    (distance + mean + lane(n) + tree(n) + 5.06) * U * p + 2.0 * f64::from(f32::from_bits(1))
}

#[test]
fn attention_weights_and_outputs() {
    let exec = exec();
    let [mut of_out, mut of_stats] = ["attention out", "attention u"].map(Shares::new);
    for seq in [1, 7, 64, 300] {
        // Queries of 1 and keys of the scores: the last query's scores are the row. Values of one element.
        for row in score_rows(seq) {
            let shape = AttentionShape { batch: 1, seq, heads: 1, kv_heads: 1, head_dim: 1 };
            let (q, v) = (vec![1.0; seq], Numbers(9).vec(seq, 1.0));
            let (mut out, mut stats) = (vec![0.0; seq], vec![0.0; 2 * seq]);
            ops::attention_forward(&exec, shape, &q, &row, &v, &mut out, &mut stats);
            let (max, z, mean) = softmax(&row);
            of_stats.add(stats[2 * seq - 1], 1.0 / z, (mean + lane(seq) + tree(seq) + 2.03) * U / z);
            let (mut truth, mut bound, mut magnitude) = (0.0, 0.0, 0.0);
            for (l, v) in f64s(&row).zip(f64s(&v)) {
                let p = scalar64::exp(l - max) / z;
                truth += p * v;
                magnitude += (p * v).abs();
                bound += weight_bound(seq, max - l, mean, p) * v.abs();
            }
            of_out.add(out[seq - 1], truth, bound + seq as f64 * (U * magnitude + TINY));
        }
    }
}

#[test]
fn cross_entropy() {
    let exec = exec();
    let [mut of_loss, mut of_gradient] = ["cross entropy loss", "cross entropy gradient"].map(Shares::new);
    for vocab in [1, 2, 50, 4096, 20_000] {
        for row in score_rows(vocab) {
            let target = Numbers(3).below(vocab);
            let (mut gradient, mut losses, scale) = (row.clone(), [0.0], 0.3f32);
            ops::cross_entropy_forward_backward(&exec, &mut gradient, &[target as u32], &mut losses, scale);
            let (max, z, mean) = softmax(&row);
            let (log, margin) = (scalar64::log(z), max - f64::from(row[target]));
            let of_sum = mean + lane(vocab) + tree(vocab) + 1.03;
            of_loss.add(losses[0], log + margin, (of_sum + 1.9 * log + margin + (log + margin)) * U);
            for (j, &got) in gradient.iter().enumerate() {
                let distance = max - f64::from(row[j]);
                let p = scalar64::exp(-distance) / z;
                let error = if j == target { p - 1.0 } else { p };
                let bound = weight_bound(vocab, distance, mean, p) + 2.0 * U * error.abs();
                of_gradient.add(got, error * f64::from(scale), bound * f64::from(scale) + TINY);
            }
        }
    }
}

#[test]
fn swiglu() {
    let exec = exec();
    let [mut of_out, mut of_dgate, mut of_dup] = ["swiglu out", "swiglu dgate", "swiglu dup"].map(Shares::new);
    let len = 200_000;
    // The last: as far down as sigmoid is normal, so that products may be subnormal.
    for scale in [0.01, 3.0, 60.0, 87.3] {
        let (gate, up, dout) = (Numbers(1).vec(len, scale), Numbers(2).vec(len, 1.0), Numbers(3).vec(len, 1.0));
        let (mut out, mut dgate, mut dup) = (vec![0.0; len], vec![0.0; len], vec![0.0; len]);
        ops::swiglu_forward(&exec, &gate, &up, &mut out);
        ops::swiglu_backward(&exec, &gate, &up, &dout, &mut dgate, &mut dup);
        for i in 0..len {
            let (x, up, dout) = (f64::from(gate[i]), f64::from(up[i]), f64::from(dout[i]));
            let s = 1.0 / (1.0 + scalar64::exp(-x));
            of_out.add(out[i], x * s * up, 6.8 * U * (x * s * up).abs() + TINY);
            of_dup.add(dup[i], x * s * dout, 7.0 * U * (x * s * dout).abs() + TINY);
            let slope = s * (1.0 + x * (1.0 - s));
            let of_slope = if -1.5 < x && x < -1.1 { U } else { 17.0 * U * slope.abs() };
            let bound = (dout * up).abs() * (of_slope + 2.0 * U * slope.abs());
            of_dgate.add(dgate[i], dout * up * slope, bound + TINY);
        }
    }
}

#[test]
fn adamw() {
    let exec = exec();
    let [mut of_m, mut of_v, mut of_p] = ["adamw m", "adamw v", "adamw p"].map(Shares::new);
    let len = 100_000;
    let s = AdamwScalars { lr: 1e-2, beta1: 0.9, beta2: 0.95, eps: 1e-8, weight_decay: 0.1, bias1: 0.271, bias2: 0.14 };
    let [lr, b1, b2, eps, wd, bias1, bias2] =
        [s.lr, s.beta1, s.beta2, s.eps, s.weight_decay, s.bias1, s.bias2].map(f64::from);
    for scale in [1e-6, 1.0, 1e5] {
        let (params, g, first) = (Numbers(1).vec(len, 1.0), Numbers(2).vec(len, scale), Numbers(3).vec(len, scale));
        let second: Vec<f32> = Numbers(4).vec(len, scale).iter().map(|x| x * x).collect();
        let (mut p, mut m, mut v) = (params.clone(), first.clone(), second.clone());
        ops::adamw_update(&exec, &mut p, &g, &mut m, &mut v, &s);
        for i in 0..len {
            let [x, g, m0, v0] = [params[i], g[i], first[i], second[i]].map(f64::from);
            let (m1, v1) = (b1 * m0 + (1.0 - b1) * g, b2 * v0 + (1.0 - b2) * g * g);
            let magnitude = b1 * m0.abs() + (1.0 - b1) * g.abs();
            of_m.add(m[i], m1, 2.0 * U * magnitude + TINY);
            of_v.add(v[i], v1, 3.0 * U * v1 + 3.0 * TINY);
            let d = (v1 / bias2).sqrt() + eps;
            let truth = x * (1.0 - lr * wd) - lr / bias1 * (m1 / d);
            of_p.add(p[i], truth, (4.0 * x.abs() + lr / bias1 * (2.0 * magnitude + 8.0 * m1.abs()) / d) * U);
        }
    }
}
