//! Root-mean-square normalisation over rows.

use crate::cpu;
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
    if x.is_empty() {
        return;
    }
    match exec.path() {
        Path::Scalar => reference::norm::rmsnorm_forward(x, w, eps, y, rstd),
        path => {
            let d = w.len();
            let rows = exec.grain(rstd.len(), 3 * d);
            exec.for_each_rows((y, d), (rstd, 1), rows, |row, y, rstd| {
                cpu::norm::rmsnorm_forward(path, &x[row * d..][..y.len()], w, eps, y, rstd);
            });
        }
    }
}

/// `sum = x + branch`, then [`rmsnorm_forward`] of it into `y` and `rstd`, in one pass over the rows; `x, branch, sum, y: [tokens, d]`.
///
/// # Panics
/// When the lengths don't fit.
#[allow(clippy::too_many_arguments)]
pub fn add_rmsnorm_forward(
    exec: &Exec,
    x: &[f32],
    branch: &[f32],
    w: &[f32],
    eps: f32,
    sum: &mut [f32],
    y: &mut [f32],
    rstd: &mut [f32],
) {
    assert!(x.len() == branch.len() && x.len() == sum.len() && x.len() == y.len(), "x, branch, sum and y");
    assert_eq!(x.len(), rstd.len() * w.len(), "x must be [tokens, d] with rstd [tokens] and w [d]");
    if x.is_empty() {
        return;
    }
    match exec.path() {
        Path::Scalar => {
            sum.iter_mut().zip(x.iter().zip(branch)).for_each(|(sum, (&x, &branch))| *sum = x + branch);
            reference::norm::rmsnorm_forward(sum, w, eps, y, rstd);
        }
        path => {
            let d = w.len();
            let rows = exec.grain(rstd.len(), 4 * d);
            exec.for_each_rows3([(sum, d), (y, d), (rstd, 1)], rows, |row, sum, y, rstd| {
                let inputs = (&x[row * d..][..y.len()], &branch[row * d..][..y.len()]);
                cpu::norm::add_rmsnorm_forward(path, inputs, w, eps, sum, y, rstd);
            });
        }
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
    if x.is_empty() {
        return;
    }
    match exec.path() {
        Path::Scalar => {
            reference::norm::rmsnorm_backward_input(x, w, rstd, dy, dx, accumulate);
            reference::norm::rmsnorm_backward_weight(x, rstd, dy, dw);
        }
        path => {
            let d = w.len();
            let rows = exec.grain(rstd.len(), 6 * d);
            exec.for_each_chunk(dx, rows * d, |start, dx| {
                let (x, dy) = (&x[start..][..dx.len()], &dy[start..][..dx.len()]);
                cpu::norm::rmsnorm_backward_input(path, x, w, &rstd[start / d..], dy, dx, accumulate);
            });
            let cols = exec.grain(d, 3 * rstd.len()).next_multiple_of(16);
            exec.for_each_chunk(dw, cols, |col, dw| cpu::norm::rmsnorm_backward_weight(path, x, rstd, dy, d, col, dw));
        }
    }
}
