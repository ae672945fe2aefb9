//! Operations on rows with something between them: the bits of dense rows, and what lies between stays.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Numbers, bits};
use essaim_kernels::ops::{self, LinearShape, LinearStrides};
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
