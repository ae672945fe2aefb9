//! Every operation of a Llama: each path and thread count against the scalar reference, bit for bit.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Numbers, assert_same, fast_execs, reference};
use essaim_kernels::ops::{self, AttentionShape, LinearShape, RopeShape};
use essaim_kernels::{Exec, math};

/// Runs `operation` on the reference and on every fast path, and compares all that it returns.
fn compare(context: &str, operation: impl Fn(&Exec) -> Vec<Vec<f32>>) {
    let want = operation(&reference());
    for exec in fast_execs() {
        let got = operation(&exec);
        assert_eq!(got.len(), want.len());
        for (index, (got, want)) in got.iter().zip(&want).enumerate() {
            let context = format!("{context}, output {index}, on {} with {} threads", exec.path(), exec.threads());
            assert_same(got, want, &context);
        }
    }
}

/// Ordinary values, or with special ones mixed in.
fn inputs(seed: u64, len: usize, wild: bool) -> Vec<f32> {
    let mut numbers = Numbers(seed);
    if wild { numbers.wild(len) } else { numbers.vec(len, 2.0) }
}

/// Row lengths around the vector, the 32 lanes and the block of 4096.
const WIDTHS: [usize; 12] = [1, 7, 8, 31, 32, 33, 64, 100, 1024, 1030, 4096, 4100];

#[test]
fn rmsnorm() {
    for d in WIDTHS {
        for (tokens, wild) in [(0, false), (1, false), (70, false), (5, true)] {
            let (x, w, dy) = (inputs(1, tokens * d, wild), inputs(2, d, false), inputs(3, tokens * d, wild));
            compare(&format!("rmsnorm d={d} tokens={tokens} wild={wild}"), |exec| {
                let (mut y, mut rstd) = (vec![0.0; tokens * d], vec![0.0; tokens]);
                ops::rmsnorm_forward(exec, &x, &w, 1e-5, &mut y, &mut rstd);
                let (mut dx, mut added, mut dw) = (y.clone(), y.clone(), inputs(4, d, false));
                ops::rmsnorm_backward(exec, &x, &w, &rstd, &dy, &mut dx, false, &mut dw);
                ops::rmsnorm_backward(exec, &x, &w, &rstd, &dy, &mut added, true, &mut dw);
                vec![y, rstd, dx, added, dw]
            });
        }
    }
}

#[test]
fn rope() {
    for (seq, heads, head_dim) in [(1, 1, 2), (5, 3, 6), (16, 4, 32), (40, 8, 64)] {
        let shape = RopeShape { seq, heads, head_dim };
        let (cos, sin) = ops::rope_tables(10_000.0, head_dim, seq);
        for wild in [false, true] {
            let x = inputs(5, 4 * seq * heads * head_dim, wild);
            compare(&format!("{shape:?}"), |exec| {
                let (mut forward, mut backward) = (x.clone(), x.clone());
                ops::rope_forward(exec, shape, &mut forward, &cos, &sin);
                ops::rope_backward(exec, shape, &mut backward, &cos, &sin);
                vec![forward, backward]
            });
        }
    }
}

#[test]
fn embedding() {
    for (vocab, d, tokens) in [(1, 1, 1), (7, 5, 100), (300, 64, 1500), (300, 64, 0)] {
        let (table, ids) = (inputs(6, vocab * d, true), Numbers(7).ids(tokens, vocab));
        let dout = inputs(8, tokens * d, false);
        compare(&format!("embedding vocab={vocab} d={d}"), |exec| {
            let (mut out, mut dtable) = (vec![0.0; tokens * d], table.clone());
            ops::embedding_forward(exec, &ids, &table, &mut out);
            ops::embedding_backward(exec, &ids, &dout, &mut dtable);
            vec![out, dtable]
        });
    }
}

#[test]
fn swiglu() {
    for len in [0, 1, 7, 33, 1000, 70_001] {
        for wild in [false, true] {
            let (gate, up, dout) = (inputs(9, len, wild), inputs(10, len, wild), inputs(11, len, wild));
            compare(&format!("swiglu len={len}"), |exec| {
                let (mut out, mut dgate, mut dup) = (vec![0.0; len], vec![0.0; len], vec![0.0; len]);
                ops::swiglu_forward(exec, &gate, &up, &mut out);
                ops::swiglu_backward(exec, &gate, &up, &dout, &mut dgate, &mut dup);
                vec![out, dgate, dup]
            });
        }
    }
}

#[test]
fn cross_entropy() {
    for vocab in WIDTHS.into_iter().chain([8192, 12_289]) {
        for (tokens, wild) in [(0, false), (1, false), (9, false), (30, true)] {
            let (logits, targets) = (inputs(12, tokens * vocab, wild), Numbers(13).ids(tokens, vocab));
            compare(&format!("cross entropy vocab={vocab} wild={wild}"), |exec| {
                let (mut losses, mut again, mut gradient) = (vec![0.0; tokens], vec![0.0; tokens], logits.clone());
                ops::cross_entropy_losses(exec, &logits, &targets, &mut losses);
                ops::cross_entropy_forward_backward(exec, &mut gradient, &targets, &mut again, 0.125);
                assert_same(&again, &losses, "losses with and without gradient");
                vec![losses, gradient]
            });
        }
    }
}

/// Shapes around the tile of 6 × 16, the blocks of queries and the 32 lanes; group sizes 1 to 4.
const ATTENTIONS: [(usize, usize, usize, usize, usize); 13] = [
    (1, 1, 1, 1, 1),
    (1, 5, 1, 1, 8),
    (2, 6, 2, 1, 16),
    (1, 7, 2, 2, 17),
    (1, 16, 4, 1, 4),
    (3, 24, 2, 2, 32),
    (1, 25, 4, 2, 20),
    (2, 31, 2, 1, 48),
    (1, 47, 1, 1, 64),
    (1, 48, 3, 1, 33),
    (2, 49, 2, 2, 16),
    (1, 97, 4, 2, 32),
    (1, 200, 2, 1, 24),
];

fn attention_outputs(exec: &Exec, shape: AttentionShape, wild: bool) -> Vec<Vec<f32>> {
    let [q, dout] = [14, 15].map(|seed| inputs(seed, shape.q_len(), wild));
    let [k, v] = [16, 17].map(|seed| inputs(seed, shape.kv_len(), wild));
    // Outputs start as garbage: they must be overwritten.
    let (mut out, mut stats) = (inputs(18, shape.q_len(), true), inputs(19, shape.stats_len(), true));
    ops::attention_forward(exec, shape, &q, &k, &v, &mut out, &mut stats);
    let mut dq = inputs(20, shape.q_len(), true);
    let [mut dk, mut dv] = [21, 22].map(|seed| inputs(seed, shape.kv_len(), true));
    ops::attention_backward(exec, shape, &q, &k, &v, &out, &stats, &dout, &mut dq, &mut dk, &mut dv);
    vec![out, stats, dq, dk, dv]
}

#[test]
fn attention() {
    for (batch, seq, heads, kv_heads, head_dim) in ATTENTIONS {
        let shape = AttentionShape { batch, seq, heads, kv_heads, head_dim };
        for wild in [false, true] {
            compare(&format!("{shape:?} wild={wild}"), |exec| attention_outputs(exec, shape, wild));
        }
    }
}

/// A key after the query takes no part: even a NaN there changes nothing.
#[test]
fn masked_positions_are_skipped_not_multiplied_by_zero() {
    let shape = AttentionShape { batch: 1, seq: 40, heads: 2, kv_heads: 1, head_dim: 16 };
    let run = |exec: &Exec, poison: bool| {
        let q = inputs(1, shape.q_len(), false);
        let [mut k, mut v] = [2, 3].map(|seed| inputs(seed, shape.kv_len(), false));
        if poison {
            k[20 * 16..].fill(f32::NAN);
            v[20 * 16..].fill(f32::INFINITY);
        }
        let (mut out, mut stats) = (vec![0.0; shape.q_len()], vec![0.0; shape.stats_len()]);
        ops::attention_forward(exec, shape, &q, &k, &v, &mut out, &mut stats);
        out.truncate(20 * 32);
        out
    };
    let want = run(&reference(), false);
    assert!(want.iter().all(|value| value.is_finite()));
    for exec in fast_execs().iter().chain([&reference()]) {
        assert_same(&run(exec, true), &want, &format!("poisoned future on {}", exec.path()));
    }
}

/// A batch of sequences gives what each gives alone.
#[test]
fn attention_of_a_batch_is_that_of_its_sequences() {
    let whole = AttentionShape { batch: 3, seq: 30, heads: 4, kv_heads: 2, head_dim: 16 };
    let one = AttentionShape { batch: 1, ..whole };
    let q = inputs(1, whole.q_len(), false);
    let [k, v] = [2, 3].map(|seed| inputs(seed, whole.kv_len(), false));
    for exec in fast_execs() {
        let run = |shape: AttentionShape, q: &[f32], k: &[f32], v: &[f32]| {
            let (mut out, mut stats) = (vec![0.0; shape.q_len()], vec![0.0; shape.stats_len()]);
            ops::attention_forward(&exec, shape, q, k, v, &mut out, &mut stats);
            out
        };
        let want = run(whole, &q, &k, &v);
        for batch in 0..3 {
            let (at, kv_at) = (batch * one.q_len(), batch * one.kv_len());
            let range = kv_at..kv_at + one.kv_len();
            let got = run(one, &q[at..][..one.q_len()], &k[range.clone()], &v[range]);
            assert_same(&got, &want[at..][..one.q_len()], "one sequence of three");
        }
    }
}

/// Weight gradients of norms, linear layers and embeddings don't depend on how the tokens were cut into micro-batches.
#[test]
fn micro_batches_change_no_weight_gradient() {
    let (tokens, d, outputs) = (96, 40, 24);
    let [x, dy] = [1, 2].map(|seed| inputs(seed, tokens * d, false));
    let (dz, w, rstd) = (inputs(3, tokens * outputs, false), inputs(4, d, false), inputs(5, tokens, false));
    let ids = Numbers(6).ids(tokens, 11);
    let gradients = |exec: &Exec, micro: usize| {
        let (mut dw, mut dlinear, mut dtable) = (vec![0.0; d], vec![0.0; outputs * d], vec![0.0; 11 * d]);
        let mut dx = vec![0.0; tokens * d];
        for start in (0..tokens).step_by(micro) {
            let len = micro.min(tokens - start);
            let rows = start * d..(start + len) * d;
            let (x, dy) = (&x[rows.clone()], &dy[rows.clone()]);
            ops::rmsnorm_backward(exec, x, &w, &rstd[start..][..len], dy, &mut dx[rows], false, &mut dw);
            let shape = LinearShape { tokens: len, inputs: d, outputs };
            ops::linear_backward_weight(exec, shape, &dz[start * outputs..][..len * outputs], x, &mut dlinear, true);
            ops::embedding_backward(exec, &ids[start..][..len], dy, &mut dtable);
        }
        vec![dw, dlinear, dtable, dx]
    };
    let want = gradients(&reference(), tokens);
    for exec in fast_execs().iter().chain([&reference()]) {
        for micro in [1, 7, 32, 48, 95] {
            for (got, want) in gradients(exec, micro).iter().zip(&want) {
                assert_same(got, want, &format!("micro-batches of {micro} on {}", exec.path()));
            }
        }
    }
}

#[test]
fn linear_layers() {
    for (tokens, inputs_len, outputs) in [(1, 1, 1), (10, 33, 20), (65, 128, 100)] {
        let shape = LinearShape { tokens, inputs: inputs_len, outputs };
        let (x, w) = (inputs(1, tokens * inputs_len, false), inputs(2, outputs * inputs_len, false));
        let dy = inputs(3, tokens * outputs, false);
        compare(&format!("{shape:?}"), |exec| {
            let (mut y, mut dx, mut dw) = (dy.clone(), x.clone(), w.clone());
            ops::linear_forward(exec, shape, &x, &w, &mut y);
            ops::linear_backward_input(exec, shape, &dy, &w, &mut dx, true);
            ops::linear_backward_weight(exec, shape, &dy, &x, &mut dw, true);
            let mut fresh = x.clone();
            ops::linear_backward_input(exec, shape, &dy, &w, &mut fresh, false);
            vec![y, dx, dw, fresh]
        });
    }
}

#[test]
fn elementary_functions_over_slices() {
    let mut x = inputs(1, 40_000, true);
    x.extend((0..60_000u32).map(|i| f32::from_bits(i.wrapping_mul(71_583))));
    let functions: [fn(&Exec, &mut [f32]); 5] =
        [math::exp_slice, math::log_slice, math::rsqrt_slice, math::sigmoid_slice, math::silu_slice];
    for (index, function) in functions.into_iter().enumerate() {
        compare(&format!("elementary function {index}"), |exec| {
            let mut y = x.clone();
            function(exec, &mut y);
            vec![y]
        });
    }
}

#[test]
#[should_panic(expected = "overflow")]
fn overflowing_attention_sizes_are_refused() {
    let huge = usize::MAX / 2 + 1;
    let shape = AttentionShape { batch: huge, seq: 2, heads: 1, kv_heads: 1, head_dim: 1 };
    ops::attention_forward(&Exec::detect(1).unwrap(), shape, &[], &[], &[], &mut [], &mut []);
}

#[test]
#[should_panic(expected = "a target is outside the vocabulary of 4")]
fn a_target_outside_the_vocabulary_is_refused() {
    ops::cross_entropy_losses(&reference(), &[0.0; 8], &[0, 4], &mut [0.0; 2]);
}

#[test]
#[should_panic(expected = "a token id is outside the vocabulary of 3")]
fn a_token_outside_the_vocabulary_is_refused() {
    ops::embedding_forward(&reference(), &[3], &[0.0; 6], &mut [0.0; 2]);
}
