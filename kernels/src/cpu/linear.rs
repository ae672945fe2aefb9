//! Both gradients of a linear layer, each worker on its own tokens.

use super::gemm::{fits_turns, gemm, gemm_in_turn};
use super::scratch::Shared;
use crate::exec::{Exec, PARTS_MAX};
use crate::gemm::GemmShape;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Multiplications of a block of weights over a part's tokens, at least: less is not worth waiting for.
const BLOCK_MULTIPLICATIONS: usize = 1 << 19;

/// The layer's products `dx = dy · w` and `dw (+)= dyᵀ · x`; the slices were checked against both.
#[derive(Clone, Copy)]
pub(crate) struct Backward<'a> {
    pub(crate) input: GemmShape,
    pub(crate) weight: GemmShape,
    pub(crate) dy: &'a [f32],
    pub(crate) x: &'a [f32],
    pub(crate) w: &'a [f32],
    pub(crate) dw: Shared<f32>,
    pub(crate) dx: Shared<f32>,
}

/// Into how many parts the tokens are best cut; one when each worker had better take a part of the weights.
pub(crate) fn parts(exec: &Exec, weight: &GemmShape) -> usize {
    let part = GemmShape { k: weight.k.div_ceil(exec.threads()), ..*weight };
    if worth_turns(exec.threads(), weight) && fits_turns(&part) { exec.threads() } else { 1 }
}

/// Whether `parts` workers had better keep to their own tokens, if the columns are few enough: each then has some. More tokens never make it less so.
fn worth_turns(parts: usize, weight: &GemmShape) -> bool {
    let GemmShape { m, n, k: tokens, .. } = *weight;
    // What a worker gets from the others: the weights, there and back; or else the other tokens, a part of dy's columns and all of x's.
    let (weights, others) = (2 * m * n, (tokens - tokens / parts) * (m / parts + n));
    let filled = (2..=PARTS_MAX).contains(&parts) && tokens >= parts * parts;
    filled && m * n * tokens >= parts * parts * BLOCK_MULTIPLICATIONS && weights <= others
}

/// Whether there is a number of threads on which each of them may pack its own right operand for the layer's gradients, with so many tokens or
/// fewer.
pub(crate) fn packs_on_each_thread(weight: &GemmShape) -> bool {
    (2..=PARTS_MAX).any(|parts| worth_turns(parts, weight))
}

/// Processor time of the two products, over all workers: of `dw` with the waiting for its turns, and of `dx`.
pub(crate) fn backward(exec: &Exec, parts: usize, layer: Backward<'_>) -> [Duration; 2] {
    let Backward { input, weight, dy, x, w, dw, dx } = layer;
    let (path, tokens) = (exec.path(), input.m);
    let part_len = tokens.div_ceil(parts);
    let part_of = |part: usize| (part * part_len).min(tokens)..((part + 1) * part_len).min(tokens);
    let nanos = [AtomicU64::new(0), AtomicU64::new(0)];
    let timed = |product: usize, work: &dyn Fn()| {
        let start = Instant::now();
        work();
        nanos[product].fetch_add(u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    };
    let weights = |part: usize, turn: &crate::exec::Turn<'_>| {
        let rows = part_of(part);
        let shape = GemmShape { k: rows.len(), accumulate: weight.accumulate || part > 0, ..weight };
        let (a, b) = (&dy[rows.start * weight.lda..], &x[rows.start * weight.ldb..]);
        timed(0, &|| gemm_in_turn(path, &shape, a, b, dw, turn));
    };
    let inputs = |part: usize, share: usize| {
        let all = part_of(part);
        let at = |share: usize| all.start + all.len() * share / parts;
        let rows = at(share)..at(share + 1);
        let shape = GemmShape { m: rows.len(), ..input };
        let dy = &dy[rows.start * input.lda..];
        // SAFETY: the rows lie within dx, which was checked.
        let dx = Shared::new(unsafe { dx.get().add(rows.start * input.ldc) });
        timed(1, &|| gemm(&Exec::untested(path), &shape, dy, w, dx));
    };
    exec.in_turns(parts, weights, inputs);
    nanos.map(|nanos| Duration::from_nanos(nanos.into_inner()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gemm::Layout;
    use crate::ops::{self, LinearShape, LinearStrides};
    use crate::platform::Path;

    fn weight(tokens: usize, inputs: usize, outputs: usize) -> GemmShape {
        let (lda, ldb, ldc) = (outputs, inputs, inputs);
        GemmShape { layout: Layout::TN, m: outputs, n: inputs, k: tokens, lda, ldb, ldc, accumulate: false }
    }

    #[test]
    fn layers_are_cut_by_tokens_where_weights_are_less_to_hand_on() {
        let on = |threads, tokens, inputs, outputs| {
            parts(&Exec::new(Path::Portable, threads).unwrap(), &weight(tokens, inputs, outputs))
        };
        assert_eq!([on(2, 2048, 128, 768), on(2, 2048, 384, 128), on(4, 2048, 256, 256)], [2, 2, 4]);
        // One thread; a head; little work; fewer tokens than each part needs.
        assert_eq!([on(1, 2048, 128, 768), on(2, 512, 128, 4096), on(2, 64, 64, 64), on(16, 225, 6000, 100)], [1; 4]);
    }

    /// So few tokens on so many threads that a last part could be empty.
    #[test]
    fn few_tokens_on_many_threads_are_no_harm() {
        let (tokens, inputs, outputs) = (225, 6000, 100);
        let shape = LinearShape { tokens, inputs, outputs };
        let strides = LinearStrides { x: inputs, y: outputs };
        let values = |len: usize| (0..len).map(|i| (i % 97) as f32 - 48.0).collect::<Vec<f32>>();
        let (x, dy, w) = (values(tokens * inputs), values(tokens * outputs), values(outputs * inputs));
        let run = |threads: usize| {
            let exec = Exec::new(Path::detect(), threads).unwrap();
            let (mut dw, mut dx) = (w.clone(), x.clone());
            ops::linear_backward_strided(&exec, shape, strides, &dy, &x, &w, &mut dw, &mut dx, true);
            (dw, dx)
        };
        assert!(run(16) == run(1));
    }
}
