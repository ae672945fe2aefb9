//! Operations on rows with something between them: the bits of dense rows, and what lies between stays.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Numbers, bits};
use essaim_kernels::ops::{self, AttentionShape, LinearShape, LinearStrides, RopeShape, SwigluShape};
use essaim_kernels::{Exec, Path, row_stride};
use proptest::prelude::*;

/// What lies between rows: no operation may read it (a NaN would be seen) or write it.
const BETWEEN: f32 = f32::NAN;

fn values(seed: u32, len: usize) -> Vec<f32> {
    Numbers(seed.into()).vec(len, 2.0)
}

/// `dense[rows, width]` at distance `stride`.
fn spread(dense: &[f32], width: usize, stride: usize) -> Vec<f32> {
    let mut rows = vec![BETWEEN; dense.len() / width * stride];
    for (to, from) in rows.chunks_mut(stride).zip(dense.chunks(width)) {
        to[..width].copy_from_slice(from);
    }
    rows
}

fn execs(threads: usize) -> impl Iterator<Item = Exec> {
    Path::available().into_iter().map(move |path| Exec::new(path, threads).unwrap())
}

#[test]
fn long_rows_begin_at_many_places_of_a_page() {
    for width in (1..5000).chain([16_384, 32_000, 128_256]) {
        let stride = row_stride(width);
        assert!((width..width + 32).contains(&stride), "{width}: {stride}");
        assert!(width <= 512 || stride.is_multiple_of(16) && !stride.is_multiple_of(256), "{width}: {stride}");
    }
    assert_eq!([384, 512, 1000, 1024, 32_000].map(row_stride), [384, 512, 1008, 1040, 32_016]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn linear_layers_give_the_bits_of_dense_rows(
        tokens in 1usize..60, inputs in prop_oneof![1usize..80, Just(256), 500usize..700], outputs in prop_oneof![1usize..80, 1000usize..1300],
        (x_gap, y_gap) in (0usize..40, 0usize..40), accumulate: bool, threads in 1usize..4, seed: u32,
    ) {
        let shape = LinearShape { tokens, inputs, outputs };
        let strides = LinearStrides { x: inputs + x_gap, y: outputs + y_gap };
        let (x, y, w) = (values(seed, tokens * inputs), values(!seed, tokens * outputs), values(seed ^ 9, outputs * inputs));
        let (wide_x, wide_y) = (spread(&x, inputs, strides.x), spread(&y, outputs, strides.y));
        for exec in execs(threads) {
            let (mut dense, mut wide) = (y.clone(), wide_y.clone());
            ops::linear_forward(&exec, shape, &x, &w, &mut dense);
            ops::linear_forward_strided(&exec, shape, strides, &wide_x, &w, &mut wide);
            prop_assert!(bits(&wide) == bits(&spread(&dense, outputs, strides.y)), "forward, {}", exec.path());
            let (mut dense, mut wide) = (x.clone(), wide_x.clone());
            ops::linear_backward_input(&exec, shape, &y, &w, &mut dense, accumulate);
            ops::linear_backward_input_strided(&exec, shape, strides, &wide_y, &w, &mut wide, accumulate);
            prop_assert!(bits(&wide) == bits(&spread(&dense, inputs, strides.x)), "dx, {}", exec.path());
            let (mut dense, mut wide) = (w.clone(), w.clone());
            ops::linear_backward_weight(&exec, shape, &y, &x, &mut dense, accumulate);
            ops::linear_backward_weight_strided(&exec, shape, strides, &wide_y, &wide_x, &mut wide, accumulate);
            prop_assert!(bits(&wide) == bits(&dense), "dw, {}", exec.path());
        }
    }

    /// The gradients of a layer in one: those of the two, whether each worker keeps to its own tokens or not.
    #[test]
    fn both_gradients_at_once_are_the_two_of_dense_rows(
        tokens in prop_oneof![1usize..60, 400usize..700], inputs in prop_oneof![1usize..80, 500usize..600],
        outputs in prop_oneof![1usize..80, 120usize..300], (x_gap, y_gap) in (0usize..40, 0usize..40), accumulate: bool, threads in 1usize..6, seed: u32,
    ) {
        let shape = LinearShape { tokens, inputs, outputs };
        let strides = LinearStrides { x: inputs + x_gap, y: outputs + y_gap };
        let (x, dy, w) = (values(seed, tokens * inputs), values(!seed, tokens * outputs), values(seed ^ 9, outputs * inputs));
        let (wide_x, wide_dy) = (spread(&x, inputs, strides.x), spread(&dy, outputs, strides.y));
        let (mut dx, mut dw) = (x.clone(), w.clone());
        let alone = Exec::detect(1).unwrap();
        ops::linear_backward_weight(&alone, shape, &dy, &x, &mut dw, accumulate);
        ops::linear_backward_input(&alone, shape, &dy, &w, &mut dx, false);
        for exec in execs(threads).filter(|exec| exec.path() != Path::Scalar || tokens < 60) {
            let (mut wide_dx, mut own_dw) = (wide_x.clone(), w.clone());
            ops::linear_backward_strided(&exec, shape, strides, &wide_dy, &wide_x, &w, &mut own_dw, &mut wide_dx, accumulate);
            prop_assert!(bits(&own_dw) == bits(&dw), "dw, {}", exec.path());
            prop_assert!(bits(&wide_dx) == bits(&spread(&dx, inputs, strides.x)), "dx, {}", exec.path());
        }
    }

    #[test]
    fn attention_gives_the_bits_of_tensors_apart(
        batch in 1usize..3, seq in 1usize..70, kv_heads in 1usize..3, group in 1usize..3, half in 1usize..20, gap in 0usize..40, threads in 1usize..4, seed: u32,
    ) {
        let (heads, head_dim, tokens) = (kv_heads * group, 2 * half, batch * seq);
        let shape = AttentionShape { batch, seq, heads, kv_heads, head_dim };
        let [q_width, kv_width] = [heads * head_dim, kv_heads * head_dim];
        let (width, stride) = (q_width + 2 * kv_width, q_width + 2 * kv_width + gap);
        let joint = values(seed, tokens * width);
        let columns = |of: &[f32], from: usize, len: usize| -> Vec<f32> { of.chunks(width).flat_map(|row| row[from..from + len].to_vec()).collect() };
        let apart = |of: &[f32]| [columns(of, 0, q_width), columns(of, q_width, kv_width), columns(of, q_width + kv_width, kv_width)];
        let (cos, sin, dout) = (values(1, seq * half), values(2, seq * half), values(!seed, shape.q_len()));
        for exec in execs(threads) {
            let ([mut q, mut k, v], mut wide) = (apart(&joint), spread(&joint, width, stride));
            ops::rope_forward(&exec, RopeShape { seq, heads, head_dim }, &mut q, &cos, &sin);
            ops::rope_forward(&exec, RopeShape { seq, heads: kv_heads, head_dim }, &mut k, &cos, &sin);
            let rotated = RopeShape { seq, heads: heads + kv_heads, head_dim };
            ops::rope_forward_strided(&exec, rotated, stride, &mut wide, &cos, &sin);
            let (mut out, mut stats) = (vec![0.0; shape.q_len()], vec![0.0; shape.stats_len()]);
            ops::attention_forward(&exec, shape, &q, &k, &v, &mut out, &mut stats);
            let (mut own_out, mut own_stats) = (vec![1.0; out.len()], vec![1.0; stats.len()]);
            ops::attention_forward_joint(&exec, shape, stride, &wide, &mut own_out, &mut own_stats);
            prop_assert!(bits(&own_out) == bits(&out) && bits(&own_stats) == bits(&stats), "forward, {}", exec.path());
            let [mut dq, mut dk, mut dv] = [q.clone(), k.clone(), v.clone()];
            ops::attention_backward(&exec, shape, &q, &k, &v, &out, &stats, &dout, &mut dq, &mut dk, &mut dv);
            ops::rope_backward(&exec, RopeShape { seq, heads, head_dim }, &mut dq, &cos, &sin);
            let mut dwide = wide.clone();
            ops::attention_backward_joint(&exec, shape, stride, &wide, &out, &stats, &dout, &mut dwide);
            ops::rope_backward_strided(&exec, RopeShape { seq, heads, head_dim }, stride, &mut dwide, &cos, &sin);
            prop_assert!(dwide.chunks(stride).all(|row| bits(&row[width..]) == bits(&vec![BETWEEN; gap])), "gaps, {}", exec.path());
            let dense: Vec<f32> = dwide.chunks(stride).flat_map(|row| row[..width].to_vec()).collect();
            for (name, got, want) in apart(&dense).iter().zip([&dq, &dk, &dv]).zip(["dq", "dk", "dv"]).map(|((got, want), name)| (name, got, want)) {
                prop_assert!(bits(got) == bits(want), "{name}, {}", exec.path());
            }
        }
    }

    #[test]
    fn gate_and_up_give_the_bits_of_tensors_apart(
        tokens in 1usize..40, ffn in 1usize..200, (gap, out_gap) in (0usize..40, 0usize..40), threads in 1usize..4, seed: u32,
    ) {
        let shape = SwigluShape { ffn, gate_up: 2 * ffn + gap, out: ffn + out_gap };
        let (joint, dout) = (values(seed, tokens * 2 * ffn), values(!seed, tokens * ffn));
        let half = |of: &[f32], from: usize| -> Vec<f32> { of.chunks(2 * ffn).flat_map(|row| row[from..from + ffn].to_vec()).collect() };
        let (gate, up, wide) = (half(&joint, 0), half(&joint, ffn), spread(&joint, 2 * ffn, shape.gate_up));
        for exec in execs(threads) {
            let (mut out, mut wide_out) = (dout.clone(), spread(&dout, ffn, shape.out));
            ops::swiglu_forward(&exec, &gate, &up, &mut out);
            ops::swiglu_forward_joint(&exec, shape, &wide, &mut wide_out);
            prop_assert!(bits(&wide_out) == bits(&spread(&out, ffn, shape.out)), "forward, {}", exec.path());
            let (mut dgate, mut dup, mut dwide) = (gate.clone(), up.clone(), wide.clone());
            ops::swiglu_backward(&exec, &gate, &up, &dout, &mut dgate, &mut dup);
            ops::swiglu_backward_joint(&exec, shape, &wide, &spread(&dout, ffn, shape.out), &mut dwide);
            prop_assert!(dwide.chunks(shape.gate_up).all(|row| bits(&row[2 * ffn..]) == bits(&vec![BETWEEN; gap])), "gaps, {}", exec.path());
            let dense: Vec<f32> = dwide.chunks(shape.gate_up).flat_map(|row| row[..2 * ffn].to_vec()).collect();
            prop_assert!(bits(&half(&dense, 0)) == bits(&dgate) && bits(&half(&dense, ffn)) == bits(&dup), "backward, {}", exec.path());
        }
    }

    #[test]
    fn the_loss_gives_the_bits_of_dense_rows(
        tokens in 1usize..20, vocab in prop_oneof![1usize..80, 4090usize..4110], gap in 0usize..40, threads in 1usize..4, seed: u32,
    ) {
        let logits = values(seed, tokens * vocab);
        let targets: Vec<u32> = (0..tokens).map(|token| (token * 31 % vocab) as u32).collect();
        for exec in execs(threads) {
            let (mut dense, mut wide) = (logits.clone(), spread(&logits, vocab, vocab + gap));
            let (mut losses, mut others) = (vec![0.0; tokens], vec![0.0; tokens]);
            ops::cross_entropy_losses(&exec, &dense, &targets, &mut losses);
            ops::cross_entropy_losses_strided(&exec, vocab, &wide, &targets, &mut others);
            prop_assert!(bits(&others) == bits(&losses), "losses, {}", exec.path());
            ops::cross_entropy_forward_backward(&exec, &mut dense, &targets, &mut losses, 0.3);
            ops::cross_entropy_forward_backward_strided(&exec, vocab, &mut wide, &targets, &mut others, 0.3);
            prop_assert!(bits(&others) == bits(&losses), "losses with gradients, {}", exec.path());
            prop_assert!(bits(&wide) == bits(&spread(&dense, vocab, vocab + gap)), "gradients, {}", exec.path());
        }
    }
}

#[test]
#[should_panic(expected = "rows of 3 logits for a vocabulary of 4")]
fn rows_shorter_than_the_vocabulary_are_refused() {
    let exec = Exec::new(Path::Scalar, 1).unwrap();
    ops::cross_entropy_losses_strided(&exec, 4, &[0.0; 6], &[0, 1], &mut [0.0; 2]);
}

/// Without query heads every other length is 0, and the width of a row wraps around to 0.
#[test]
#[should_panic(expected = "overflow")]
fn heads_of_keys_that_wrap_around_are_refused() {
    let shape = AttentionShape { batch: 1, seq: 1, heads: 0, kv_heads: usize::MAX / 4 + 1, head_dim: 2 };
    ops::attention_forward_joint(&Exec::new(Path::Portable, 1).unwrap(), shape, 1, &[0.0], &mut [], &mut []);
}

#[test]
#[should_panic(expected = "rows of 8 elements at a distance of 7")]
fn queries_keys_and_values_longer_than_their_distance_are_refused() {
    let (exec, shape) =
        (Exec::new(Path::Scalar, 1).unwrap(), AttentionShape { batch: 1, seq: 1, heads: 2, kv_heads: 1, head_dim: 2 });
    ops::attention_forward_joint(&exec, shape, 7, &[0.0; 7], &mut [0.0; 4], &mut [0.0; 4]);
}

#[test]
#[should_panic(expected = "rows longer than their distance")]
fn gate_and_up_longer_than_their_distance_are_refused() {
    let (exec, shape) = (Exec::new(Path::Scalar, 1).unwrap(), SwigluShape { ffn: 4, gate_up: 7, out: 4 });
    ops::swiglu_forward_joint(&exec, shape, &[0.0; 7], &mut [0.0; 4]);
}
