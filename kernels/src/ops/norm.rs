//! Root-mean-square normalisation over rows.

use crate::cpu::{self, Shared};
use crate::exec::{Exec, Rows, Turn};
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
            exec.for_each_rows([(y, d), (rstd, 1)], rows, |row, [y, rstd]| {
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
            exec.for_each_rows([(sum, d), (y, d), (rstd, 1)], rows, |row, [sum, y, rstd]| {
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
            let (d, tokens) = (w.len(), rstd.len());
            let parts = exec.parts(tokens, 9 * d);
            let (part_len, cols) = (tokens.div_ceil(parts), d.div_ceil(parts).next_multiple_of(16));
            let rows_of = |part: usize| (part * part_len).min(tokens)..((part + 1) * part_len).min(tokens);
            let (dx, dw) = (Rows::new(dx, d), Shared::new(dw.as_mut_ptr()));
            let weights = |part: usize, turn: &Turn<'_>| {
                let rows = rows_of(part);
                let (x, dy) = (&x[rows.start * d..rows.end * d], &dy[rows.start * d..rows.end * d]);
                for col in (0..d).step_by(cols) {
                    let len = cols.min(d - col);
                    turn.take(col + len, || {
                        // SAFETY: the columns lie within dw, and nobody else has them at this turn.
                        let dw = unsafe { std::slice::from_raw_parts_mut(dw.get().add(col), len) };
                        cpu::norm::rmsnorm_backward_weight(path, x, &rstd[rows.clone()], dy, d, col, dw);
                    });
                }
            };
            let inputs = |part: usize, share: usize| {
                let all = rows_of(part);
                let at = |share: usize| all.start + all.len() * share / parts;
                let (rows, elements) = (at(share)..at(share + 1), at(share) * d..at(share + 1) * d);
                // SAFETY: each share is of other rows.
                let dx = unsafe { dx.take(rows.start, rows.len()) };
                let (x, dy) = (&x[elements.clone()], &dy[elements]);
                cpu::norm::rmsnorm_backward_input(path, x, w, &rstd[rows], dy, dx, accumulate);
            };
            exec.in_turns(parts, weights, inputs);
        }
    }
}
