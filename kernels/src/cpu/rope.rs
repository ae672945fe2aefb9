//! Rotary positions of a block of rows.

use super::isa::simd_fn;
use crate::ops::RopeShape;

simd_fn! {
    /// `first` is the index of the first row of `x` in the whole tensor.
    fn rope<I>(shape: &RopeShape, first: usize, x: &mut [f32], cos: &[f32], sin: &[f32], inverse: bool) {
        let half = shape.head_dim / 2;
        // x * -s is -(x * s), so the inverse needs only another sign.
        let sign = if inverse { -1.0f32 } else { 1.0 };
        for (row, values) in x.chunks_exact_mut(shape.heads * shape.head_dim).enumerate() {
            let angles = (first + row) % shape.seq * half;
            let (cos, sin) = (&cos[angles..][..half], &sin[angles..][..half]);
            for head in values.chunks_exact_mut(shape.head_dim) {
                let (a, b) = head.split_at_mut(half);
                for i in 0..half {
                    let (x, y, s) = (a[i], b[i], sin[i] * sign);
                    a[i] = I::fma(x, cos[i], -(y * s));
                    b[i] = I::fma(y, cos[i], x * s);
                }
            }
        }
    }
}
