//! Root-mean-square normalisation of a block of rows.

use super::isa::simd_fn;
use super::rows;

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

/// `Σ (dy w) (x rstd)` needs both factors as a row; rows up to this length keep them on the stack.
const ROW_MAX: usize = 1024;

simd_fn! {
    fn rmsnorm_backward_input<I>(x: &[f32], w: &[f32], rstd: &[f32], dy: &[f32], dx: &mut [f32], accumulate: bool) {
        let d = w.len();
        let mut stack = [[0.0f32; ROW_MAX]; 2];
        let mut heap = if d > ROW_MAX { vec![0.0f32; 2 * d] } else { Vec::new() };
        let (normed, scaled) = match d > ROW_MAX {
            true => heap.split_at_mut(d),
            false => {
                let [a, b] = &mut stack;
                (&mut a[..d], &mut b[..d])
            }
        };
        let inputs = x.chunks_exact(d).zip(dy.chunks_exact(d)).zip(rstd);
        for (((x, dy), &scale), dx) in inputs.zip(dx.chunks_exact_mut(d)) {
            for i in 0..d {
                normed[i] = x[i] * scale;
                scaled[i] = dy[i] * w[i];
            }
            let mean = rows::dot::<I>(scaled, normed) / d as f32;
            if accumulate {
                for i in 0..d {
                    dx[i] += scale * I::fma(-normed[i], mean, scaled[i]);
                }
            } else {
                for i in 0..d {
                    dx[i] = scale * I::fma(-normed[i], mean, scaled[i]);
                }
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
