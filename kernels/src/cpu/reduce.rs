//! Reductions of blocks, rows and columns.

use super::isa::simd_fn;
use super::rows;
use crate::math::canonical;

simd_fn! {
    fn sum<I>(x: &[f32]) -> f32 {
        rows::sum::<I>(x)
    }
}
simd_fn! {
    fn sum_squares<I>(x: &[f32]) -> f32 {
        rows::dot::<I>(x, x)
    }
}
simd_fn! {
    fn dot<I>(x: &[f32], y: &[f32]) -> f32 {
        rows::dot::<I>(x, y)
    }
}
simd_fn! {
    /// The bits of the largest magnitude.
    fn max_abs_bits<I>(x: &[f32]) -> u32 {
        let mut largest = 0;
        for value in x {
            largest = largest.max(value.to_bits() & 0x7fff_ffff);
        }
        largest
    }
}
simd_fn! {
    fn row_sums<I>(x: &[f32], out: &mut [f32]) {
        let cols = x.len() / out.len();
        for (row, sum) in out.iter_mut().enumerate() {
            *sum = rows::sum::<I>(&x[row * cols..][..cols]);
        }
    }
}
simd_fn! {
    fn row_sum_squares<I>(x: &[f32], out: &mut [f32]) {
        let cols = x.len() / out.len();
        for (row, sum) in out.iter_mut().enumerate() {
            *sum = rows::sum_rounded_squares::<I>(&x[row * cols..][..cols]);
        }
    }
}
simd_fn! {
    /// The sums of the columns from `col` on, of a matrix of `cols` columns.
    fn col_sums<I>(x: &[f32], cols: usize, col: usize, out: &mut [f32]) {
        out.fill(0.0);
        for row in x.chunks_exact(cols) {
            for (sum, &value) in out.iter_mut().zip(&row[col..]) {
                *sum += value;
            }
        }
        out.iter_mut().for_each(|value| *value = canonical(*value));
    }
}
simd_fn! {
    /// The sums of squares of the columns from `col` on, of a matrix of `cols` columns.
    fn col_sum_squares<I>(x: &[f32], cols: usize, col: usize, out: &mut [f32]) {
        out.fill(0.0);
        for row in x.chunks_exact(cols) {
            for (sum, &value) in out.iter_mut().zip(&row[col..]) {
                *sum += value * value;
            }
        }
        out.iter_mut().for_each(|value| *value = canonical(*value));
    }
}
