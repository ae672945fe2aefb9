//! Linear layers without bias, weights stored `[outputs, inputs]` as in the Hugging Face layout.

use crate::exec::Exec;
use crate::gemm::{Layout, gemm};

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

impl LinearShape {
    pub(crate) fn check(&self, x: usize, w: usize, y: usize) {
        assert_eq!(x, self.tokens * self.inputs, "x or dx must be [tokens, inputs] = {self:?}");
        assert_eq!(w, self.outputs * self.inputs, "w or dw must be [outputs, inputs] = {self:?}");
        assert_eq!(y, self.tokens * self.outputs, "y or dy must be [tokens, outputs] = {self:?}");
    }
}

/// `y[tokens, out] = x[tokens, in] · w[out, in]ᵀ`; each output one chain over the inputs.
///
/// # Panics
/// When a slice does not have the shape's length.
pub fn linear_forward(exec: &Exec, shape: LinearShape, x: &[f32], w: &[f32], y: &mut [f32]) {
    shape.check(x.len(), w.len(), y.len());
    let LinearShape { tokens, inputs, outputs } = shape;
    gemm(exec, Layout::NT, tokens, outputs, inputs, x, inputs, w, inputs, y, outputs, false);
}

/// `dx[tokens, in] (+)= dy[tokens, out] · w[out, in]`; each output one chain over the outputs of the layer.
///
/// # Panics
/// When a slice does not have the shape's length.
pub fn linear_backward_input(exec: &Exec, shape: LinearShape, dy: &[f32], w: &[f32], dx: &mut [f32], accumulate: bool) {
    shape.check(dx.len(), w.len(), dy.len());
    let LinearShape { tokens, inputs, outputs } = shape;
    gemm(exec, Layout::NN, tokens, inputs, outputs, dy, outputs, w, inputs, dx, inputs, accumulate);
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
    shape.check(x.len(), dw.len(), dy.len());
    let LinearShape { tokens, inputs, outputs } = shape;
    gemm(exec, Layout::TN, outputs, inputs, tokens, dy, outputs, x, inputs, dw, inputs, accumulate);
}
