//! Rotary positions of a block of rows.

use super::ahead::LINE;
use super::isa::simd_fn;
use crate::ops::RopeShape;

/// Rows that are fetched before they are needed: between them lie others, over which the CPU does not look by itself.
const ROWS_AHEAD: usize = 2;

simd_fn! {
    /// `first` is the index of the first row of `x[rows, stride]` in the whole tensor.
    fn rope<I>(shape: &RopeShape, stride: usize, first: usize, x: &mut [f32], tables: [&[f32]; 2], inverse: bool) {
        let half = shape.head_dim / 2;
        // x * -s is -(x * s), so the inverse needs only another sign.
        let sign = if inverse { -1.0f32 } else { 1.0 };
        for (row, values) in x.chunks_exact_mut(stride).enumerate() {
            let angles = (first + row) % shape.seq * half;
            let [cos, sin] = tables.map(|table| &table[angles..][..half]);
            let ahead = values.as_ptr().wrapping_add(ROWS_AHEAD * stride);
            for (index, head) in values[..shape.heads * shape.head_dim].chunks_exact_mut(shape.head_dim).enumerate() {
                for i in (0..shape.head_dim).step_by(LINE) {
                    I::prefetch(ahead.wrapping_add(index * shape.head_dim + i));
                }
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
