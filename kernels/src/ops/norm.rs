//! Root-mean-square normalisation over rows.

use crate::exec::Exec;
use crate::platform::Path;
use crate::reference;

/// `rstd[t] = 1 / sqrt(Σ x[t]² / d + eps)` and `y[t, j] = (x[t, j] * rstd[t]) * w[j]`, with `x, y: [tokens, d]`, `w: [d]`, `rstd: [tokens]`.
///
/// # Panics
/// When the lengths don't fit.
pub fn rmsnorm_forward(exec: &Exec, x: &[f32], w: &[f32], eps: f32, y: &mut [f32], rstd: &mut [f32]) {
    assert_eq!(x.len(), y.len(), "x and y");
    assert_eq!(x.len(), rstd.len() * w.len(), "x must be [tokens, d] with rstd [tokens] and w [d]");
    match exec.path() {
        Path::Scalar => reference::norm::rmsnorm_forward(x, w, eps, y, rstd),
        _ => reference::norm::rmsnorm_forward(x, w, eps, y, rstd),
    }
}

/// Gradients: with `g = dy * w`, `n = x * rstd` and `c = (Σ g n) / d`, `dx = rstd * fma(-n, c, g)`, stored or, when `accumulate`, added to
/// what `dx` holds; `dw[j]` continues one chain over the tokens, `fma(dy, n, dw)`.
///
/// # Panics
/// When the lengths don't fit.
#[allow(clippy::too_many_arguments)]
pub fn rmsnorm_backward(
    exec: &Exec,
    x: &[f32],
    w: &[f32],
    rstd: &[f32],
    dy: &[f32],
    dx: &mut [f32],
    accumulate: bool,
    dw: &mut [f32],
) {
    assert_eq!(x.len(), rstd.len() * w.len(), "x must be [tokens, d] with rstd [tokens] and w [d]");
    assert_eq!(x.len(), dy.len(), "x and dy");
    assert_eq!(x.len(), dx.len(), "x and dx");
    assert_eq!(w.len(), dw.len(), "w and dw");
    match exec.path() {
        Path::Scalar => {
            reference::norm::rmsnorm_backward_input(x, w, rstd, dy, dx, accumulate);
            reference::norm::rmsnorm_backward_weight(x, rstd, dy, dw);
        }
        _ => {
            reference::norm::rmsnorm_backward_input(x, w, rstd, dy, dx, accumulate);
            reference::norm::rmsnorm_backward_weight(x, rstd, dy, dw);
        }
    }
}
