//! Linear layers without bias, weights stored `[outputs, inputs]` as in the Hugging Face layout.

use crate::cpu::linear::Backward;
use crate::cpu::{self, Shared};
use crate::exec::Exec;
use crate::gemm::{GemmShape, Layout, gemm};
use crate::platform::Path;
use std::time::{Duration, Instant};

/// The sizes of a linear layer's product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinearShape {
    /// Rows of x and y.
    pub tokens: usize,
    /// Columns of x: `in`.
    pub inputs: usize,
    /// Columns of y: `out`.
    pub outputs: usize,
}

/// Distances of rows, in elements; what lies between is neither read nor written. [`row_stride`](crate::row_stride) gives the best.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinearStrides {
    /// Of x or dx: at least `inputs`.
    pub x: usize,
    /// Of y or dy: at least `outputs`.
    pub y: usize,
}

impl LinearShape {
    /// Rows without anything between.
    fn dense(&self) -> LinearStrides {
        LinearStrides { x: self.inputs, y: self.outputs }
    }

    pub(crate) fn check(&self, x: usize, w: usize, y: usize) {
        self.check_strided(self.dense(), x, w, y);
    }

    /// The layer's three products: forward, and the gradients of its input and of its weights.
    pub(crate) fn products(&self, strides: LinearStrides) -> [GemmShape; 3] {
        let LinearShape { tokens, inputs, outputs } = *self;
        let LinearStrides { x, y } = strides;
        let product = |layout, [m, n, k]: [usize; 3], lda, ldb, ldc| GemmShape {
            layout,
            m,
            n,
            k,
            lda,
            ldb,
            ldc,
            accumulate: true,
        };
        [
            product(Layout::NT, [tokens, outputs, inputs], x, inputs, y),
            product(Layout::NN, [tokens, inputs, outputs], y, inputs, x),
            product(Layout::TN, [outputs, inputs, tokens], y, x, inputs),
        ]
    }

    fn check_strided(&self, strides: LinearStrides, x: usize, w: usize, y: usize) {
        assert_eq!(x, self.tokens * strides.x, "x or dx must be [tokens, inputs] = {self:?} at {strides:?}");
        assert_eq!(w, self.outputs * self.inputs, "w or dw must be [outputs, inputs] = {self:?}");
        assert_eq!(y, self.tokens * strides.y, "y or dy must be [tokens, outputs] = {self:?} at {strides:?}");
    }
}

/// `y[tokens, out] = x[tokens, in] · w[out, in]ᵀ`; each output one chain over the inputs.
///
/// # Panics
/// When a slice does not have the shape's length.
pub fn linear_forward(exec: &Exec, shape: LinearShape, x: &[f32], w: &[f32], y: &mut [f32]) {
    linear_forward_strided(exec, shape, shape.dense(), x, w, y);
}

/// As [`linear_forward`], with `x[tokens, strides.x]` and `y[tokens, strides.y]`.
///
/// # Panics
/// When a slice does not have the shape's length, or a row is longer than its stride.
pub fn linear_forward_strided(
    exec: &Exec,
    shape: LinearShape,
    strides: LinearStrides,
    x: &[f32],
    w: &[f32],
    y: &mut [f32],
) {
    shape.check_strided(strides, x.len(), w.len(), y.len());
    let LinearShape { tokens, inputs, outputs } = shape;
    gemm(exec, Layout::NT, tokens, outputs, inputs, x, strides.x, w, inputs, y, strides.y, false);
}

/// `dx[tokens, in] (+)= dy[tokens, out] · w[out, in]`; each output one chain over the outputs of the layer.
///
/// # Panics
/// When a slice does not have the shape's length.
pub fn linear_backward_input(exec: &Exec, shape: LinearShape, dy: &[f32], w: &[f32], dx: &mut [f32], accumulate: bool) {
    linear_backward_input_strided(exec, shape, shape.dense(), dy, w, dx, accumulate);
}

/// As [`linear_backward_input`], with `dx[tokens, strides.x]` and `dy[tokens, strides.y]`.
///
/// # Panics
/// When a slice does not have the shape's length, or a row is longer than its stride.
pub fn linear_backward_input_strided(
    exec: &Exec,
    shape: LinearShape,
    strides: LinearStrides,
    dy: &[f32],
    w: &[f32],
    dx: &mut [f32],
    accumulate: bool,
) {
    shape.check_strided(strides, dx.len(), w.len(), dy.len());
    let LinearShape { tokens, inputs, outputs } = shape;
    gemm(exec, Layout::NN, tokens, inputs, outputs, dy, strides.y, w, inputs, dx, strides.x, accumulate);
}

/// `dw[out, in] (+)= dy[tokens, out]ᵀ · x[tokens, in]`: each weight's chain over the tokens, from +0, or continued when accumulating.
///
/// # Panics
/// When a slice does not have the shape's length.
pub fn linear_backward_weight(
    exec: &Exec,
    shape: LinearShape,
    dy: &[f32],
    x: &[f32],
    dw: &mut [f32],
    accumulate: bool,
) {
    linear_backward_weight_strided(exec, shape, shape.dense(), dy, x, dw, accumulate);
}

/// As [`linear_backward_weight`], with `x[tokens, strides.x]` and `dy[tokens, strides.y]`.
///
/// # Panics
/// When a slice does not have the shape's length, or a row is longer than its stride.
pub fn linear_backward_weight_strided(
    exec: &Exec,
    shape: LinearShape,
    strides: LinearStrides,
    dy: &[f32],
    x: &[f32],
    dw: &mut [f32],
    accumulate: bool,
) {
    shape.check_strided(strides, x.len(), dw.len(), dy.len());
    let LinearShape { tokens, inputs, outputs } = shape;
    gemm(exec, Layout::TN, outputs, inputs, tokens, dy, strides.y, x, strides.x, dw, inputs, accumulate);
}

/// How the time of a layer's two gradients is shared between them: processor time where each worker keeps to its own tokens, else time on the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinearTimes {
    /// Of `dw`, with what a worker waited for others.
    pub weight: Duration,
    /// Of `dx`.
    pub input: Duration,
}

/// As [`linear_backward_weight_strided`] and [`linear_backward_input_strided`] (without accumulation) in one: faster, where each worker can keep to its own tokens.
///
/// # Panics
/// As these.
#[allow(clippy::too_many_arguments)]
pub fn linear_backward_strided(
    exec: &Exec,
    shape: LinearShape,
    strides: LinearStrides,
    dy: &[f32],
    x: &[f32],
    w: &[f32],
    dw: &mut [f32],
    dx: &mut [f32],
    accumulate: bool,
) -> LinearTimes {
    shape.check_strided(strides, x.len(), w.len(), dy.len());
    shape.check_strided(strides, dx.len(), dw.len(), dy.len());
    let [_, input, weight] = shape.products(strides);
    let (input, weight) = (GemmShape { accumulate: false, ..input }, GemmShape { accumulate, ..weight });
    let parts = if exec.path() == Path::Scalar { 1 } else { cpu::linear::parts(exec, &weight) };
    if parts == 1 {
        let start = Instant::now();
        linear_backward_weight_strided(exec, shape, strides, dy, x, dw, accumulate);
        let weight = start.elapsed();
        linear_backward_input_strided(exec, shape, strides, dy, w, dx, false);
        return LinearTimes { weight, input: start.elapsed() - weight };
    }
    input.check(dy.len(), w.len(), dx.len());
    weight.check(dy.len(), x.len(), dw.len());
    let (dw, dx) = (Shared::new(dw.as_mut_ptr()), Shared::new(dx.as_mut_ptr()));
    let [weight, input] = cpu::linear::backward(exec, parts, Backward { input, weight, dy, x, w, dw, dx });
    LinearTimes { weight, input }
}
