//! How much memory the fast paths keep for themselves.

use crate::cpu;
use crate::gemm::{GemmShape, Layout};
use crate::ops::{AttentionShape, LinearShape, LinearStrides};

/// An upper bound, on any path, of what operations keep for packed operands and scores. Such buffers live as long as their thread, and
/// grow to what the largest operation took: bounds of several operations are joined by [`ScratchSize::or`]. Not counted are sums of
/// blocks of a long row, a thousandth of the row, and the few KiB of packed operands that the known-answer test leaves on each thread.
///
/// A bound also holds for the same operations with fewer tokens or shorter sequences.
///
/// ```
/// use essaim_kernels::ScratchSize;
/// use essaim_kernels::ops::{AttentionShape, LinearShape, LinearStrides};
///
/// let layer = LinearShape { tokens: 2048, inputs: 1024, outputs: 256 };
/// let attention = AttentionShape { batch: 8, seq: 256, heads: 4, kv_heads: 2, head_dim: 32 };
/// let size = ScratchSize::linear(layer, LinearStrides { x: 1024, y: 256 }).or(ScratchSize::attention(attention));
/// assert!(size.bytes(1) < size.bytes(2));
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ScratchSize {
    /// Elements of the packed right operand, of the thread that calls the operation.
    packed_b: usize,
    /// Likewise, of each other thread.
    packed_b_of_others: usize,
    /// Elements of a packed block of the left operand, of each thread.
    packed_a: usize,
    /// Elements of an attention's packed heads and scores, of each thread.
    attention: usize,
}

impl ScratchSize {
    /// Of the product that [`gemm`](crate::gemm()) computes with the same arguments.
    pub fn gemm(layout: Layout, m: usize, n: usize, k: usize, lda: usize, ldb: usize) -> ScratchSize {
        ScratchSize::product(&GemmShape { layout, m, n, k, lda, ldb, ldc: n, accumulate: false })
    }

    fn product(shape: &GemmShape) -> ScratchSize {
        let [packed_b, packed_a] = cpu::gemm_scratch_len(shape);
        ScratchSize { packed_b, packed_a, ..ScratchSize::default() }
    }

    /// Of a linear layer, forward and backward.
    pub fn linear(shape: LinearShape, strides: LinearStrides) -> ScratchSize {
        let [forward, input, weight] = shape.products(strides);
        let mut backward = ScratchSize::product(&input).or(ScratchSize::product(&weight));
        if cpu::linear::packs_on_each_thread(&weight) {
            backward.packed_b_of_others = backward.packed_b;
        }
        ScratchSize::product(&forward).or(backward)
    }

    /// Of an attention, forward and backward.
    pub fn attention(shape: AttentionShape) -> ScratchSize {
        ScratchSize { attention: cpu::attention::scratch_len(&shape), ..ScratchSize::default() }
    }

    /// Of both, one after the other.
    #[must_use]
    pub fn or(self, other: ScratchSize) -> ScratchSize {
        ScratchSize {
            packed_b: self.packed_b.max(other.packed_b),
            packed_b_of_others: self.packed_b_of_others.max(other.packed_b_of_others),
            packed_a: self.packed_a.max(other.packed_a),
            attention: self.attention.max(other.attention),
        }
    }

    /// Bytes on `threads` threads, when one of them calls all operations.
    pub fn bytes(self, threads: usize) -> u64 {
        let [packed_b, packed_a, attention] = self.buffers();
        let others = ScratchSize { packed_b: self.packed_b_of_others, ..self }.buffers();
        packed_b + others[0] * (threads as u64).saturating_sub(1) + threads as u64 * (packed_a + attention)
    }

    /// Bytes of each buffer: packed B, packed A, attention.
    fn buffers(self) -> [u64; 3] {
        let bytes = |len: usize| 4 * len.next_multiple_of(cpu::LINE) as u64;
        [self.packed_b, self.packed_a, self.attention].map(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Exec, Path, gemm, ops, row_stride};
    use std::sync::{Barrier, Mutex};

    /// What each of the pool's threads holds after `work`, called from a fresh thread: packed B, packed A, attention, in bytes.
    fn held_after(path: Path, threads: usize, work: impl Fn(&Exec) + Sync) -> Vec<[u64; 3]> {
        let of_pool = || {
            let exec = Exec::new(path, threads).unwrap();
            work(&exec);
            let (barrier, held) = (Barrier::new(threads), Mutex::new(Vec::new()));
            // Nobody gets past the barrier before every thread has a task.
            exec.for_each_task(threads, |_| {
                barrier.wait();
                held.lock().unwrap().push(cpu::held());
            });
            held.into_inner().unwrap()
        };
        std::thread::scope(|scope| scope.spawn(of_pool).join().unwrap())
    }

    /// What the known-answer test may leave on each thread.
    const UNCOUNTED: u64 = 4 << 10;

    /// The bound holds for all threads together, and for each buffer.
    fn check_bound(bound: ScratchSize, held: &[[u64; 3]], what: &str) {
        let total: u64 = held.iter().flatten().sum();
        let uncounted = (held.len() as u64 - 1) * UNCOUNTED;
        assert!(total <= bound.bytes(held.len()) + uncounted, "{what}: {held:?} held, bound {bound:?}");
        for (buffer, bound) in bound.buffers().into_iter().enumerate() {
            assert!(held.iter().all(|held| held[buffer] <= bound), "{what}, buffer {buffer}: {held:?}, bound {bound}");
        }
    }

    fn run_linear(exec: &Exec, shape: LinearShape, strides: LinearStrides) {
        let LinearShape { tokens, inputs, outputs } = shape;
        let (x, w) = (vec![0.5f32; tokens * strides.x], vec![0.5f32; outputs * inputs]);
        let mut y = vec![0.0f32; tokens * strides.y];
        ops::linear_forward_strided(exec, shape, strides, &x, &w, &mut y);
        let (mut dw, mut dx) = (w.clone(), x.clone());
        ops::linear_backward_strided(exec, shape, strides, &y, &x, &w, &mut dw, &mut dx, false);
    }

    fn run_attention(exec: &Exec, shape: AttentionShape) {
        let zeros = |len: usize| vec![0.0f32; len];
        let (q, k, mut out, mut stats) =
            (zeros(shape.q_len()), zeros(shape.kv_len()), zeros(shape.q_len()), zeros(shape.stats_len()));
        ops::attention_forward(exec, shape, &q, &k, &k, &mut out, &mut stats);
        let [mut dq, mut dk, mut dv] = [zeros(shape.q_len()), zeros(shape.kv_len()), zeros(shape.kv_len())];
        ops::attention_backward(exec, shape, &q, &k, &k, &out, &stats, &out, &mut dq, &mut dk, &mut dv);
    }

    /// The layers of a model, their outputs as far apart as the model keeps them, and the bound over all.
    fn model(tokens: usize, d: usize, kv: usize, ffn: usize, vocab: usize) -> Vec<(LinearShape, LinearStrides)> {
        let stride = |width: usize| if width == d { width } else { row_stride(width) };
        let sizes = [(d, d + 2 * kv), (d, d), (d, 2 * ffn), (ffn, d), (d, vocab)];
        let layer = |(inputs, outputs)| {
            let strides = LinearStrides { x: stride(inputs), y: stride(outputs) };
            (LinearShape { tokens, inputs, outputs }, strides)
        };
        sizes.map(layer).to_vec()
    }

    /// `essaim bench`'s configurations; of the largest with fewer tokens, which is much quicker and leaves its longest chains.
    #[test]
    fn models_take_what_the_bound_says_and_no_less_than_half() {
        let path = Path::detect();
        for (name, layers, [seq, heads, kv_heads, head_dim]) in [
            ("2m", model(512, 128, 64, 384, 4096), [256, 4, 2, 32]),
            ("8m", model(512, 256, 256, 1024, 16384), [256, 4, 4, 64]),
            ("60m", model(256, 512, 256, 1536, 32000), [512, 8, 4, 64]),
        ] {
            let attention = AttentionShape { batch: 2, seq, heads, kv_heads, head_dim };
            let linear = layers.iter().map(|&(shape, strides)| ScratchSize::linear(shape, strides));
            let bound = linear.fold(ScratchSize::attention(attention), ScratchSize::or);
            for threads in [1, 2] {
                let held = held_after(path, threads, |exec| {
                    layers.iter().for_each(|&(shape, strides)| run_linear(exec, shape, strides));
                    run_attention(exec, attention);
                });
                let what = format!("{name}, {threads} threads");
                check_bound(bound, &held, &what);
                let total: u64 = held.iter().flatten().sum();
                assert!(bound.bytes(threads) <= 2 * total, "{what}: {held:?} held, bound {bound:?}");
            }
        }
    }

    /// The bound holds on every path, for sizes around each of the limits.
    #[test]
    fn no_product_takes_more_on_any_path() {
        for path in Path::available() {
            for layout in [Layout::NN, Layout::NT, Layout::TN] {
                for [m, n, k, gap] in [
                    [1, 1, 1, 0],
                    [13, 33, 700, 0],
                    [15, 48, 300, 513],
                    [255, 64, 400, 600],
                    [300, 16, 385, 512],
                    [9, 2100, 1500, 0],
                    [5, 700, 1800, 7],
                    [7, 96, 2730, 160],
                    [40, 544, 64, 256],
                    [64, 256, 1024, 0],
                ] {
                    let lda = if layout == Layout::TN { m } else { k } + gap;
                    let ldb = if layout == Layout::NT { k } else { n } + gap;
                    // A fresh thread, without the known-answer test, which takes some too.
                    let product = || {
                        let (a, b) = (vec![0.5f32; m.max(k) * lda], vec![0.5f32; n.max(k) * ldb]);
                        let exec = Exec::untested(path);
                        gemm(&exec, layout, m, n, k, &a, lda, &b, ldb, &mut vec![0.0; m * n], n, false);
                        cpu::held()
                    };
                    let held = std::thread::scope(|scope| scope.spawn(product).join().unwrap());
                    let what = format!("{path} {layout:?} {m} {n} {k} {gap}");
                    let bound = ScratchSize::gemm(layout, m, n, k, lda, ldb);
                    check_bound(bound, &[held], &what);
                }
            }
        }
    }

    #[test]
    fn more_tokens_never_take_less() {
        for (inputs, outputs) in [(128, 384), (384, 128), (256, 16384), (1536, 512)] {
            let bound = |tokens| {
                let strides = LinearStrides { x: row_stride(inputs), y: row_stride(outputs) };
                ScratchSize::linear(LinearShape { tokens, inputs, outputs }, strides)
            };
            for tokens in 1..4000 {
                let (fewer, more) = (bound(tokens), bound(tokens + 1));
                assert_eq!(fewer.or(more), more, "{tokens} tokens of {inputs} × {outputs}");
            }
        }
    }
}
