//! Random shapes and values: every path and thread count against the scalar reference, bit for bit.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Numbers, assert_same, fast_execs, reference};
use essaim_kernels::Exec;
use essaim_kernels::ops::{self, AttentionShape};
use proptest::prelude::*;
use std::sync::OnceLock;

fn execs() -> &'static [Exec] {
    static EXECS: OnceLock<Vec<Exec>> = OnceLock::new();
    EXECS.get_or_init(fast_execs)
}

fn values(numbers: &mut Numbers, len: usize, wild: bool) -> Vec<f32> {
    if wild { numbers.wild(len) } else { numbers.vec(len, 2.0) }
}

fn attention(exec: &Exec, shape: AttentionShape, seed: u64, wild: bool) -> Vec<f32> {
    let mut numbers = Numbers(seed);
    let mut make = |len| values(&mut numbers, len, wild);
    let (q, dout, k, v) = (make(shape.q_len()), make(shape.q_len()), make(shape.kv_len()), make(shape.kv_len()));
    let (mut out, mut stats) = (vec![0.0; shape.q_len()], vec![0.0; shape.stats_len()]);
    ops::attention_forward(exec, shape, &q, &k, &v, &mut out, &mut stats);
    let (mut dq, mut dk, mut dv) = (q.clone(), k.clone(), v.clone());
    ops::attention_backward(exec, shape, &q, &k, &v, &out, &stats, &dout, &mut dq, &mut dk, &mut dv);
    [out, stats, dq, dk, dv].concat()
}

fn rows(exec: &Exec, tokens: usize, d: usize, seed: u64, wild: bool) -> Vec<f32> {
    let mut numbers = Numbers(seed);
    let mut make = |len| values(&mut numbers, len, wild);
    let (x, w, dy, mut dw) = (make(tokens * d), make(d), make(tokens * d), make(d));
    let (mut y, mut rstd) = (vec![0.0; tokens * d], vec![0.0; tokens]);
    ops::rmsnorm_forward(exec, &x, &w, 1e-6, &mut y, &mut rstd);
    let (mut sum, mut normed, mut scales) = (y.clone(), y.clone(), rstd.clone());
    ops::add_rmsnorm_forward(exec, &x, &dy, &w, 1e-6, &mut sum, &mut normed, &mut scales);
    let mut dx = dy.clone();
    ops::rmsnorm_backward(exec, &x, &w, &rstd, &dy, &mut dx, true, &mut dw);
    let (ids, mut losses, mut logits) = (numbers.ids(tokens, d), vec![0.0; tokens], x);
    ops::cross_entropy_forward_backward(exec, &mut logits, &ids, &mut losses, 0.3);
    [y, rstd, sum, normed, scales, dx, dw, losses, logits].concat()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(80))]

    #[test]
    fn any_attention_agrees(
        batch in 1usize..3, seq in 1usize..70, kv_heads in 1usize..3, group in 1usize..4, head_dim in 1usize..40, seed: u64, wild: bool,
    ) {
        let shape = AttentionShape { batch, seq, heads: kv_heads * group, kv_heads, head_dim };
        let want = attention(&reference(), shape, seed, wild);
        for exec in execs() {
            assert_same(&attention(exec, shape, seed, wild), &want, &format!("{shape:?} on {}", exec.path()));
        }
    }

    #[test]
    fn any_rows_agree(tokens in 1usize..40, d in 1usize..5000, seed: u64, wild: bool) {
        let want = rows(&reference(), tokens, d, seed, wild);
        for exec in execs() {
            assert_same(&rows(exec, tokens, d, seed, wild), &want, &format!("{tokens} rows of {d} on {}", exec.path()));
        }
    }
}
