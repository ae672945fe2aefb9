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
    /// Panics unless the lengths fit; the rows of `x`.
    pub(crate) fn check(&self, x: usize, cos: usize, sin: usize) -> usize {
        let width = self.heads * self.head_dim;
        assert!(self.head_dim.is_multiple_of(2), "odd head_dim in {self:?}");
        assert!(width > 0 && x.is_multiple_of(width), "{x} elements are no rows of {self:?}");
        let table = self.seq * self.head_dim / 2;
        assert!(cos == table && sin == table, "tables of {cos} and {sin} for {self:?}");
        x / width
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
    rope(exec, &shape, x, cos, sin, false);
}

/// The inverse rotation, which is the gradient's: as [`rope_forward`] with `-sin`.
///
/// # Panics
/// When the lengths don't fit.
pub fn rope_backward(exec: &Exec, shape: RopeShape, dx: &mut [f32], cos: &[f32], sin: &[f32]) {
    rope(exec, &shape, dx, cos, sin, true);
}

fn rope(exec: &Exec, shape: &RopeShape, x: &mut [f32], cos: &[f32], sin: &[f32], inverse: bool) {
    shape.check(x.len(), cos.len(), sin.len());
    let width = shape.heads * shape.head_dim;
    match exec.path() {
        Path::Scalar => reference::rope::rope(shape, x, cos, sin, inverse),
        path => {
            let rows = exec.grain(x.len() / width, 4 * width);
            exec.for_each_chunk(x, rows * width, |start, x| {
                cpu::rope::rope(path, shape, start / width, x, cos, sin, inverse);
            });
        }
    }
}
