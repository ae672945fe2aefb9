//! Muon: momentum whose update is made nearly orthogonal by Newton–Schulz iterations, which are matrix products only.
//!
//! After Jordan et al., "Muon: an optimizer for hidden layers in neural networks" (2024): Nesterov momentum, a quintic iteration with
//! coefficients (3.4445, -4.7750, 2.0315). The update is scaled by `0.2 * sqrt(max(rows, cols))`, so that its size is that of AdamW and
//! both share a learning rate (Liu et al., "Muon is scalable for LLM training", 2025).
//!
//! **Definition**, for a matrix `p[rows, cols]` with gradient `g` and momentum `b` (`+0` at the start of the round), in float32, each
//! product of matrices as the numerics id defines it:
//! 1. `b = g + mu b` and `u = g + mu b`: products rounded, then sums.
//! 2. `x = u (1 / (n + 1e-7))`, with `n` the square root of [`reduce::sum_squares`] of `u`.
//! 3. `iterations` times: `s = x xᵀ` (`xᵀ x` when `rows > cols`), `t = s s`, `t = b' s + c' t`, then `x` becomes `a' x`, whose
//!    elements the product `t x` (`x t`) continues as chains.
//! 4. `p = -rate x + decay p`, with `decay = 1 - lr wd` and `rate = lr 0.2 sqrt(max(rows, cols))` in float64, each rounded once.

use crate::config::float64;
use crate::params::{ParamLayout, TensorKind, TensorSpec};
use essaim_kernels::{Exec, Layout, ScratchSize, gemm, ops, reduce, scalar64};
use essaim_protocol::manifest::InnerConfig;

/// The quintic's coefficients.
pub(crate) const QUINTIC: [f32; 3] = [3.4445, -4.7750, 2.0315];
/// Keeps the division by the norm of a zero matrix finite.
pub(crate) const NORM_EPS: f32 = 1e-7;

/// The tensors that Muon updates: the hidden matrices.
pub(crate) fn matrices(layout: &ParamLayout) -> impl Iterator<Item = &TensorSpec> {
    layout.tensors().iter().filter(|tensor| tensor.kind == TensorKind::Matrix)
}

/// Elements of [`Buffers`].
pub(crate) fn buffer_len(layout: &ParamLayout) -> usize {
    let largest = |length: fn(&TensorSpec) -> usize| matrices(layout).map(length).max().unwrap_or(0);
    2 * largest(TensorSpec::len) + 2 * largest(|tensor| tensor.rows.min(tensor.cols).pow(2))
}

/// The scalars of one update.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scalars {
    lr: f64,
    pub(crate) momentum: f32,
    pub(crate) decay: f32,
    pub(crate) iterations: u32,
}

impl Scalars {
    /// The scalars at learning rate `lr`.
    pub(crate) fn new(inner: &InnerConfig, lr: f64) -> Scalars {
        let decay = 1.0 - lr * float64(inner.weight_decay);
        let momentum = float64(inner.muon_momentum) as f32;
        Scalars { lr, momentum, decay: decay as f32, iterations: inner.muon_iterations }
    }

    /// The rate for a matrix of `[rows, cols]`.
    pub(crate) fn rate(&self, [rows, cols]: [usize; 2]) -> f32 {
        (self.lr * 0.2 * scalar64::sqrt(rows.max(cols) as f64)) as f32
    }
}

/// What the kernels keep for themselves in the three products of an iteration, for every matrix of a model.
pub(crate) fn scratch_size(layout: &ParamLayout) -> ScratchSize {
    let of_matrix = |&TensorSpec { rows, cols, .. }: &TensorSpec| {
        let side = rows.min(cols);
        let (gram, left, right) = if rows <= cols { (Layout::NT, side, cols) } else { (Layout::TN, cols, side) };
        ScratchSize::gemm(gram, side, side, rows.max(cols), cols, cols)
            .or(ScratchSize::gemm(Layout::NN, side, side, side, side, side))
            .or(ScratchSize::gemm(Layout::NN, rows, cols, side, left, right))
    };
    matrices(layout).map(of_matrix).fold(ScratchSize::default(), ScratchSize::or)
}

/// Buffers for one matrix at a time, as large as the largest needs.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    x: Vec<f32>,
    next: Vec<f32>,
    gram: Vec<f32>,
    square: Vec<f32>,
}

impl Buffers {
    /// Buffers for the matrices of a model.
    pub(crate) fn new(layout: &ParamLayout) -> Buffers {
        let len = matrices(layout).map(TensorSpec::len).max().unwrap_or(0);
        let small = matrices(layout).map(|tensor| tensor.rows.min(tensor.cols).pow(2)).max().unwrap_or(0);
        Buffers { x: vec![0.0; len], next: vec![0.0; len], gram: vec![0.0; small], square: vec![0.0; small] }
    }

    /// Updates one matrix.
    pub(crate) fn update(
        &mut self,
        exec: &Exec,
        scalars: &Scalars,
        shape: [usize; 2],
        params: &mut [f32],
        grads: &[f32],
        momentum: &mut [f32],
    ) {
        let [rows, cols] = shape;
        ops::axpby(exec, momentum, 1.0, scalars.momentum, grads);
        let direction = &mut self.x[..rows * cols];
        direction.copy_from_slice(grads);
        ops::scaled_add(exec, direction, scalars.momentum, momentum);
        self.orthogonalize(exec, shape, scalars.iterations);
        ops::axpby(exec, params, -scalars.rate(shape), scalars.decay, &self.x[..rows * cols]);
    }

    /// Makes the matrix in `x` nearly orthogonal: its singular values come near one.
    fn orthogonalize(&mut self, exec: &Exec, [rows, cols]: [usize; 2], iterations: u32) {
        let len = rows * cols;
        let side = rows.min(cols);
        let [a, b, c] = QUINTIC;
        let norm = reduce::sum_squares(exec, &self.x[..len]).sqrt();
        ops::scale(exec, &mut self.x[..len], 1.0 / (norm + NORM_EPS));
        let (gram, square) = (&mut self.gram[..side * side], &mut self.square[..side * side]);
        for _ in 0..iterations {
            let (x, next) = (&self.x[..len], &mut self.next[..len]);
            let layout = if rows <= cols { Layout::NT } else { Layout::TN };
            gemm(exec, layout, side, side, rows.max(cols), x, cols, x, cols, gram, side, false);
            gemm(exec, Layout::NN, side, side, side, gram, side, gram, side, square, side, false);
            ops::axpby(exec, square, b, c, gram);
            next.copy_from_slice(x);
            ops::scale(exec, next, a);
            let (left, left_stride, right, right_stride) =
                if rows <= cols { (&*square, side, x, cols) } else { (x, cols, &*square, side) };
            gemm(exec, Layout::NN, rows, cols, side, left, left_stride, right, right_stride, next, cols, true);
            std::mem::swap(&mut self.x, &mut self.next);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::selfcheck::tiny_manifest;
    use essaim_kernels::Path;
    use essaim_protocol::manifest::Optimizer;

    fn orthogonalized(exec: &Exec, rows: usize, cols: usize) -> Vec<f32> {
        let value = |i: usize| ((i * 7919 + rows) % 1013) as f32 * 1e-4 - 0.05;
        let mut buffers = Buffers {
            x: (0..rows * cols).map(value).collect(),
            next: vec![0.0; rows * cols],
            gram: vec![0.0; rows.min(cols).pow(2)],
            square: vec![0.0; rows.min(cols).pow(2)],
        };
        buffers.orthogonalize(exec, [rows, cols], 5);
        buffers.x
    }

    /// The rows (or columns, of a tall matrix) are nearly orthogonal, of lengths between 0.6 and 1.3: what the quintic gives.
    #[test]
    fn rows_become_nearly_orthonormal() {
        let exec = Exec::new(Path::detect(), 1).unwrap();
        for (rows, cols) in [(8, 40), (40, 8), (16, 16)] {
            let x = orthogonalized(&exec, rows, cols);
            let side = rows.min(cols);
            let vector = |i: usize| -> Vec<f64> {
                let take = |j: usize| if rows <= cols { x[i * cols + j] } else { x[j * cols + i] };
                (0..rows.max(cols)).map(|j| f64::from(take(j))).collect()
            };
            for i in 0..side {
                let length = vector(i).iter().map(|value| value * value).sum::<f64>().sqrt();
                assert!((0.4..1.4).contains(&length), "{rows}x{cols}: vector {i} has length {length}");
                for j in 0..i {
                    let dot = vector(i).iter().zip(vector(j)).map(|(a, b)| a * b).sum::<f64>();
                    assert!(dot.abs() < 0.6, "{rows}x{cols}: vectors {i} and {j} have product {dot}");
                }
            }
        }
    }

    #[test]
    fn a_zero_matrix_stays_zero() {
        let exec = Exec::new(Path::detect(), 1).unwrap();
        let mut buffers = Buffers { x: vec![0.0; 6], next: vec![0.0; 6], gram: vec![0.0; 4], square: vec![0.0; 4] };
        buffers.orthogonalize(&exec, [2, 3], 5);
        assert_eq!(buffers.x, [0.0; 6]);
    }

    #[test]
    fn no_path_and_no_thread_count_changes_a_bit() {
        for (rows, cols) in [(24, 40), (40, 24), (24, 12)] {
            let reference = orthogonalized(&Exec::new(Path::Scalar, 1).unwrap(), rows, cols);
            for path in Path::available() {
                for threads in [1, 2, 3] {
                    assert!(orthogonalized(&Exec::new(path, threads).unwrap(), rows, cols) == reference);
                }
            }
        }
    }

    #[test]
    fn buffers_are_as_long_as_documented() {
        let layout = ParamLayout::new(&tiny_manifest(Optimizer::Muon).model);
        let buffers = Buffers::new(&layout);
        let total = buffers.x.len() + buffers.next.len() + buffers.gram.len() + buffers.square.len();
        assert_eq!(total, buffer_len(&layout));
    }
}
