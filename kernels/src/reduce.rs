//! Sums and maxima in one fixed order.
//!
//! A sum runs over 32 strided lanes in each block of 4096 elements; the lanes are added by a fixed tree, and the blocks by another. So it is
//! vectorised and threaded at will without changing a bit, and no lane ever sums more than 128 terms. Results that are NaN
//! are the canonical NaN. SEMANTICS.md §4 is normative.

use crate::exec::Exec;
use crate::platform::Path;
use crate::reference;

/// `Σ x`.
pub fn sum(exec: &Exec, x: &[f32]) -> f32 {
    match exec.path() {
        Path::Scalar => reference::reduce::sum(x),
        _ => reference::reduce::sum(x),
    }
}

/// `Σ x²`, each term one fused multiply-add.
pub fn sum_squares(exec: &Exec, x: &[f32]) -> f32 {
    match exec.path() {
        Path::Scalar => reference::reduce::sum_squares(x),
        _ => reference::reduce::sum_squares(x),
    }
}

/// `Σ x y`, each term one fused multiply-add.
///
/// # Panics
/// When the lengths differ.
pub fn dot(exec: &Exec, x: &[f32], y: &[f32]) -> f32 {
    assert_eq!(x.len(), y.len(), "dot of different lengths");
    match exec.path() {
        Path::Scalar => reference::reduce::dot(x, y),
        _ => reference::reduce::dot(x, y),
    }
}

/// The largest magnitude: NaN when any element is, +0 when there is none.
pub fn max_abs(exec: &Exec, x: &[f32]) -> f32 {
    match exec.path() {
        Path::Scalar => reference::reduce::max_abs(x),
        _ => reference::reduce::max_abs(x),
    }
}

/// `out[row] = Σ x[row, ·]` of `x[rows, cols]`, each row by the tree of [`sum`]; `rows` is the length of `out`.
///
/// # Panics
/// When `x` is no whole number of rows.
pub fn row_sums(exec: &Exec, x: &[f32], out: &mut [f32]) {
    rows(exec, x, out, reference::reduce::row_sums);
}

/// `out[row] = Σ x[row, ·]²`, by the tree; squares are rounded before they are added (no fused multiply-add).
///
/// # Panics
/// When `x` is no whole number of rows.
pub fn row_sum_squares(exec: &Exec, x: &[f32], out: &mut [f32]) {
    rows(exec, x, out, reference::reduce::row_sum_squares);
}

/// `out[col] = Σ x[·, col]` of `x[rows, cols]`, one chain of additions over the rows from +0; `cols` is the length of `out`.
///
/// # Panics
/// When `x` is no whole number of rows.
pub fn col_sums(exec: &Exec, x: &[f32], out: &mut [f32]) {
    cols(exec, x, out, reference::reduce::col_sums);
}

/// `out[col] = Σ x[·, col]²`, one chain over the rows; squares are rounded before they are added (no fused multiply-add).
///
/// # Panics
/// When `x` is no whole number of rows.
pub fn col_sum_squares(exec: &Exec, x: &[f32], out: &mut [f32]) {
    cols(exec, x, out, reference::reduce::col_sum_squares);
}

fn rows(_exec: &Exec, x: &[f32], out: &mut [f32], of_rows: fn(&[f32], &mut [f32])) {
    if out.is_empty() {
        return assert!(x.is_empty(), "elements without rows");
    }
    assert!(x.len().is_multiple_of(out.len()), "{} elements are no {} rows", x.len(), out.len());
    of_rows(x, out);
}

fn cols(_exec: &Exec, x: &[f32], out: &mut [f32], of_cols: fn(&[f32], &mut [f32])) {
    if out.is_empty() {
        return assert!(x.is_empty(), "elements without columns");
    }
    assert!(x.len().is_multiple_of(out.len()), "{} elements are no rows of {}", x.len(), out.len());
    of_cols(x, out);
}
