//! Root-mean-square normalisation of a block of rows.

use super::isa::{Isa, simd_fn};
use super::rows::{self, set_vector, vector};

/// One row; gives its inverse root mean square.
#[inline(always)]
fn row<I: Isa>(x: &[f32], w: &[f32], eps: f32, y: &mut [f32]) -> f32 {
    let scale = 1.0 / (rows::dot::<I>(x, x) / w.len() as f32 + eps).sqrt();
    for ((y, &x), &w) in y.iter_mut().zip(x).zip(w) {
        *y = (x * scale) * w;
    }
    scale
}

simd_fn! {
    fn rmsnorm_forward<I>(x: &[f32], w: &[f32], eps: f32, y: &mut [f32], rstd: &mut [f32]) {
        let d = w.len();
        for ((x, y), rstd) in x.chunks_exact(d).zip(y.chunks_exact_mut(d)).zip(rstd) {
            *rstd = row::<I>(x, w, eps, y);
        }
    }
}

simd_fn! {
    /// Of the sums of two tensors, which are kept.
    fn add_rmsnorm_forward<I>(
        inputs: (&[f32], &[f32]), w: &[f32], eps: f32, sum: &mut [f32], y: &mut [f32], rstd: &mut [f32]
    ) {
        let d = w.len();
        let outputs = sum.chunks_exact_mut(d).zip(y.chunks_exact_mut(d)).zip(rstd);
        let inputs = inputs.0.chunks_exact(d).zip(inputs.1.chunks_exact(d));
        for ((a, b), ((sum, y), rstd)) in inputs.zip(outputs) {
            for ((sum, &a), &b) in sum.iter_mut().zip(a).zip(b) {
                *sum = a + b;
            }
            *rstd = row::<I>(sum, w, eps, y);
        }
    }
}

simd_fn! {
    fn rmsnorm_backward_input<I>(x: &[f32], w: &[f32], rstd: &[f32], dy: &[f32], dx: &mut [f32], accumulate: bool) {
        let d = w.len();
        let inputs = x.chunks_exact(d).zip(dy.chunks_exact(d)).zip(rstd);
        for (((x, dy), &scale), dx) in inputs.zip(dx.chunks_exact_mut(d)) {
            let mean = rows::dot_of_products::<I>((dy, w), (x, scale)) / d as f32;
            let whole = d / I::LANES * I::LANES;
            let (wide_scale, wide_mean) = (I::splat(scale), I::splat(mean));
            for at in (0..whole).step_by(I::LANES) {
                let minus_normed = I::vmul(vector::<I>(x, at), I::splat(-scale));
                let scaled = I::vmul(vector::<I>(dy, at), vector::<I>(w, at));
                let mut gradient = I::vmul(wide_scale, I::vfma(minus_normed, wide_mean, scaled));
                if accumulate {
                    gradient = I::vadd(vector::<I>(dx, at), gradient);
                }
                set_vector::<I>(dx, at, gradient);
            }
            for i in whole..d {
                let gradient = scale * I::fma(-(x[i] * scale), mean, dy[i] * w[i]);
                dx[i] = if accumulate { dx[i] + gradient } else { gradient };
            }
        }
    }
}

simd_fn! {
    /// The columns from `col` on, of rows of `d`.
    fn rmsnorm_backward_weight<I>(x: &[f32], rstd: &[f32], dy: &[f32], d: usize, col: usize, dw: &mut [f32]) {
        for ((x, dy), &scale) in x.chunks_exact(d).zip(dy.chunks_exact(d)).zip(rstd) {
            let (x, dy) = (&x[col..][..dw.len()], &dy[col..][..dw.len()]);
            for ((dw, &x), &dy) in dw.iter_mut().zip(x).zip(dy) {
                *dw = I::fma(dy, x * scale, *dw);
            }
        }
    }
}
