//! Root-mean-square normalisation.

use super::reduce;

/// `rstd[t] = 1 / sqrt(mean(x[t]²) + eps)`, `y[t, j] = (x[t, j] * rstd[t]) * w[j]`.
pub(crate) fn rmsnorm_forward(x: &[f32], w: &[f32], eps: f32, y: &mut [f32], rstd: &mut [f32]) {
    let d = w.len();
    for (t, scale) in rstd.iter_mut().enumerate() {
        let row = &x[t * d..][..d];
        *scale = 1.0 / (reduce::sum_squares(row) / d as f32 + eps).sqrt();
        for j in 0..d {
            y[t * d + j] = (row[j] * *scale) * w[j];
        }
    }
}

/// `dx[t, j] = rstd * (dy w - xhat * mean(dy w xhat))`, added to `dx` when accumulating.
pub(crate) fn rmsnorm_backward_input(x: &[f32], w: &[f32], rstd: &[f32], dy: &[f32], dx: &mut [f32], accumulate: bool) {
    let d = w.len();
    for (t, &scale) in rstd.iter().enumerate() {
        let rows = t * d..(t + 1) * d;
        let normed: Vec<f32> = x[rows.clone()].iter().map(|&value| value * scale).collect();
        let scaled: Vec<f32> = dy[rows.clone()].iter().zip(w).map(|(&dy, &w)| dy * w).collect();
        let mean = reduce::dot(&scaled, &normed) / d as f32;
        for (j, out) in dx[rows].iter_mut().enumerate() {
            let value = scale * (-normed[j]).mul_add(mean, scaled[j]);
            *out = if accumulate { *out + value } else { value };
        }
    }
}

/// `dw[j]` continues one chain over the tokens: `dw = fma(dy, x * rstd, dw)`.
pub(crate) fn rmsnorm_backward_weight(x: &[f32], rstd: &[f32], dy: &[f32], dw: &mut [f32]) {
    let d = dw.len();
    for (t, &scale) in rstd.iter().enumerate() {
        for j in 0..d {
            dw[j] = dy[t * d + j].mul_add(x[t * d + j] * scale, dw[j]);
        }
    }
}
