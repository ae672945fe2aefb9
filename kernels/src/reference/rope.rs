//! Rotary positions, pairs `(i, i + head_dim / 2)`.

use crate::ops::RopeShape;

/// Rotates the rows of `x[rows, stride]` by the angle (`inverse`: by its negative) of the row's position, `row % seq`.
pub(crate) fn rope(shape: &RopeShape, stride: usize, x: &mut [f32], cos: &[f32], sin: &[f32], inverse: bool) {
    let half = shape.head_dim / 2;
    let width = shape.heads * shape.head_dim;
    for (row, values) in x.chunks_exact_mut(stride).enumerate() {
        let angles = (row % shape.seq) * half;
        for head in values[..width].chunks_exact_mut(shape.head_dim) {
            for i in 0..half {
                let (a, b, c) = (head[i], head[i + half], cos[angles + i]);
                let s = if inverse { -sin[angles + i] } else { sin[angles + i] };
                head[i] = a.mul_add(c, -(b * s));
                head[i + half] = b.mul_add(c, a * s);
            }
        }
    }
}
