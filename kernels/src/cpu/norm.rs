//! Root-mean-square normalisation of a block of rows.

use super::isa::simd_fn;
use super::rows::{self, set_vector, vector};

simd_fn! {
    fn rmsnorm_forward<I>(x: &[f32], w: &[f32], eps: f32, y: &mut [f32], rstd: &mut [f32]) {
        let d = w.len();
        for ((x, y), rstd) in x.chunks_exact(d).zip(y.chunks_exact_mut(d)).zip(rstd) {
            let scale = 1.0 / (rows::dot::<I>(x, x) / d as f32 + eps).sqrt();
            *rstd = scale;
            for ((y, &x), &w) in y.iter_mut().zip(x).zip(w) {
                *y = (x * scale) * w;
            }
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
