//! Rotary positions in the "rotate half" convention of Hugging Face's Llama: pairs `(i, i + head_dim / 2)`.

use crate::cpu;
use crate::exec::Exec;
use crate::platform::Path;
use crate::{reference, scalar64};

/// The sizes of a rotated tensor `[tokens, heads, head_dim]`; the position of a row is `row % seq`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RopeShape {
    /// Positions of a sequence.
    pub seq: usize,
    /// Heads of a row.
    pub heads: usize,
    /// Elements of a head, even.
    pub head_dim: usize,
}

impl RopeShape {
    /// Elements of a row.
    fn width(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Panics unless the lengths fit; the rows of `x`.
    pub(crate) fn check(&self, x: usize, cos: usize, sin: usize) -> usize {
        self.check_strided(self.width(), x, cos, sin)
    }

    fn check_strided(&self, stride: usize, x: usize, cos: usize, sin: usize) -> usize {
        let width = self.width();
        assert!(self.head_dim.is_multiple_of(2), "odd head_dim in {self:?}");
        assert!(width > 0 && stride >= width, "rows of {self:?} at a distance of {stride}");
        assert!(x.is_multiple_of(stride), "{x} elements are no rows of {self:?} at a distance of {stride}");
        let table = self.seq * self.head_dim / 2;
        assert!(cos == table && sin == table, "tables of {cos} and {sin} for {self:?}");
        x / stride
    }
}

/// The tables `cos[seq, head_dim / 2]` and `sin[seq, head_dim / 2]` of the angles `pos * theta^(-2 i / head_dim)`, in float64 with the
/// pinned [`scalar64`] functions, rounded once at the end.
///
/// # Panics
/// When `head_dim` is odd.
pub fn rope_tables(theta: f64, head_dim: usize, seq: usize) -> (Vec<f32>, Vec<f32>) {
    assert!(head_dim.is_multiple_of(2), "head_dim {head_dim} is odd");
    let half = head_dim / 2;
    let frequencies: Vec<f64> =
        (0..half).map(|i| 1.0 / scalar64::pow(theta, (2 * i) as f64 / head_dim as f64)).collect();
    let angles = || (0..seq).flat_map(|pos| frequencies.iter().map(move |frequency| pos as f64 * frequency));
    (angles().map(|a| scalar64::cos(a) as f32).collect(), angles().map(|a| scalar64::sin(a) as f32).collect())
}

/// Rotates every pair `(a, b)` of `x[tokens, heads, head_dim]` in place: `a' = fma(a, cos, -(b sin))`, `b' = fma(b, cos, a sin)`.
///
/// # Panics
/// When the lengths don't fit.
pub fn rope_forward(exec: &Exec, shape: RopeShape, x: &mut [f32], cos: &[f32], sin: &[f32]) {
    rope_forward_strided(exec, shape, shape.width(), x, cos, sin);
}

/// As [`rope_forward`], of `x[tokens, stride]`: what follows the heads in a row stays as it is.
///
/// # Panics
/// When the lengths don't fit, or a row is longer than `stride`.
pub fn rope_forward_strided(exec: &Exec, shape: RopeShape, stride: usize, x: &mut [f32], cos: &[f32], sin: &[f32]) {
    rope(exec, &shape, stride, x, cos, sin, false);
}

/// The inverse rotation, which is the gradient's: as [`rope_forward`] with `-sin`.
///
/// # Panics
/// When the lengths don't fit.
pub fn rope_backward(exec: &Exec, shape: RopeShape, dx: &mut [f32], cos: &[f32], sin: &[f32]) {
    rope_backward_strided(exec, shape, shape.width(), dx, cos, sin);
}

/// As [`rope_backward`], of `dx[tokens, stride]`, like [`rope_forward_strided`].
///
/// # Panics
/// When the lengths don't fit, or a row is longer than `stride`.
pub fn rope_backward_strided(exec: &Exec, shape: RopeShape, stride: usize, dx: &mut [f32], cos: &[f32], sin: &[f32]) {
    rope(exec, &shape, stride, dx, cos, sin, true);
}

fn rope(exec: &Exec, shape: &RopeShape, stride: usize, x: &mut [f32], cos: &[f32], sin: &[f32], inverse: bool) {
    let tokens = shape.check_strided(stride, x.len(), cos.len(), sin.len());
    match exec.path() {
        Path::Scalar => reference::rope::rope(shape, stride, x, cos, sin, inverse),
        path => {
            let rows = exec.grain(tokens, 4 * shape.width());
            exec.for_each_chunk(x, rows * stride, |start, x| {
                cpu::rope::rope(path, shape, stride, start / stride, x, [cos, sin], inverse);
            });
        }
    }
}
