//! Sums and maxima in one fixed order.
//!
//! A sum runs over 32 strided lanes in each block of 4096 elements; the lanes are added by a fixed tree, and the blocks by another. So it is
//! vectorised and threaded at will without changing a bit, and no lane ever sums more than 128 terms. Results that are NaN
//! are the canonical NaN. SEMANTICS.md §4 is normative.

use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::cpu;
use crate::exec::Exec;
use crate::math::canonical;
use crate::platform::Path;
use crate::reference::{self, reduce::BLOCK};

/// `Σ x`.
pub fn sum(exec: &Exec, x: &[f32]) -> f32 {
    match exec.path() {
        Path::Scalar => reference::reduce::sum(x),
        path => blocks(exec, x.len(), |range| cpu::reduce::sum(path, &x[range])),
    }
}

/// `Σ x²`, each term one fused multiply-add.
pub fn sum_squares(exec: &Exec, x: &[f32]) -> f32 {
    match exec.path() {
        Path::Scalar => reference::reduce::sum_squares(x),
        path => blocks(exec, x.len(), |range| cpu::reduce::sum_squares(path, &x[range])),
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
        path => blocks(exec, x.len(), |range| cpu::reduce::dot(path, &x[range.clone()], &y[range])),
    }
}

/// The largest magnitude: NaN when any element is, +0 when there is none.
pub fn max_abs(exec: &Exec, x: &[f32]) -> f32 {
    match exec.path() {
        Path::Scalar => reference::reduce::max_abs(x),
        path => {
            let largest = AtomicU32::new(0);
            // Magnitudes order as their bits do, and a NaN is above every number.
            exec.for_each_range(x.len(), 1, |range| {
                largest.fetch_max(cpu::reduce::max_abs_bits(path, &x[range]), Ordering::Relaxed);
            });
            canonical(f32::from_bits(largest.into_inner()))
        }
    }
}

/// `out[row] = Σ x[row, ·]` of `x[rows, cols]`, each row by the tree of [`sum`]; `rows` is the length of `out`.
///
/// # Panics
/// When `x` is no whole number of rows.
pub fn row_sums(exec: &Exec, x: &[f32], out: &mut [f32]) {
    rows(exec, x, out, reference::reduce::row_sums, cpu::reduce::row_sums);
}

/// `out[row] = Σ x[row, ·]²`, by the tree; squares are rounded before they are added (no fused multiply-add).
///
/// # Panics
/// When `x` is no whole number of rows.
pub fn row_sum_squares(exec: &Exec, x: &[f32], out: &mut [f32]) {
    rows(exec, x, out, reference::reduce::row_sum_squares, cpu::reduce::row_sum_squares);
}

/// `out[col] = Σ x[·, col]` of `x[rows, cols]`, one chain of additions over the rows from +0; `cols` is the length of `out`.
///
/// # Panics
/// When `x` is no whole number of rows.
pub fn col_sums(exec: &Exec, x: &[f32], out: &mut [f32]) {
    cols(exec, x, out, reference::reduce::col_sums, cpu::reduce::col_sums);
}

/// `out[col] = Σ x[·, col]²`, one chain over the rows; squares are rounded before they are added (no fused multiply-add).
///
/// # Panics
/// When `x` is no whole number of rows.
pub fn col_sum_squares(exec: &Exec, x: &[f32], out: &mut [f32]) {
    cols(exec, x, out, reference::reduce::col_sum_squares, cpu::reduce::col_sum_squares);
}

/// Reduces each block of 4096 elements with `of_block`, in parallel, and the blocks by the fixed tree.
fn blocks(exec: &Exec, len: usize, of_block: impl Fn(Range<usize>) -> f32 + Sync) -> f32 {
    cpu::with_sums(len.div_ceil(BLOCK), |sums| {
        let grain = exec.grain(sums.len(), BLOCK);
        exec.for_each_chunk(sums, grain, |start, sums| {
            for (index, sum) in sums.iter_mut().enumerate() {
                let first = (start + index) * BLOCK;
                *sum = of_block(first..(first + BLOCK).min(len));
            }
        });
        canonical(reference::reduce::block_tree(sums))
    })
}

type OfRows = fn(&[f32], &mut [f32]);
type OfRowsFast = fn(Path, &[f32], &mut [f32]);

fn rows(exec: &Exec, x: &[f32], out: &mut [f32], of_rows: OfRows, of_rows_fast: OfRowsFast) {
    if out.is_empty() {
        return assert!(x.is_empty(), "elements without rows");
    }
    assert!(x.len().is_multiple_of(out.len()), "{} elements are no {} rows", x.len(), out.len());
    if exec.path() == Path::Scalar {
        return of_rows(x, out);
    }
    let cols = x.len() / out.len();
    let grain = exec.grain(out.len(), cols);
    exec.for_each_chunk(out, grain, |row, out| of_rows_fast(exec.path(), &x[row * cols..][..out.len() * cols], out));
}

type OfCols = fn(&[f32], &mut [f32]);
type OfColsFast = fn(Path, &[f32], usize, usize, &mut [f32]);

fn cols(exec: &Exec, x: &[f32], out: &mut [f32], of_cols: OfCols, of_cols_fast: OfColsFast) {
    if out.is_empty() {
        return assert!(x.is_empty(), "elements without columns");
    }
    assert!(x.len().is_multiple_of(out.len()), "{} elements are no rows of {}", x.len(), out.len());
    if exec.path() == Path::Scalar {
        return of_cols(x, out);
    }
    let cols = out.len();
    let grain = exec.grain(cols, x.len() / cols).next_multiple_of(16);
    exec.for_each_chunk(out, grain, |col, out| of_cols_fast(exec.path(), x, cols, col, out));
}
