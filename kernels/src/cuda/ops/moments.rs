//! Factored second moments: means in binary64 and the matrix of rank one that they span.

use super::launch::{THREADS, blocks_y, launch, long, size};
use super::reduce::columns_by;
use crate::cuda::{Device, DeviceError, View, ViewMut};

/// Rows of a block.
const MEAN_ROWS: usize = 32;

/// `out[row]` = the mean of `x[row, ·]`: a binary64 sum in increasing order, divided by the columns, rounded once. `rows` is the length of `out`.
///
/// # Errors
/// When the device fails.
///
/// # Panics
/// When `x` is no whole number of rows, or empty while `out` is not.
pub fn row_means(device: &Device, x: View<'_, f32>, mut out: ViewMut<'_, f32>) -> Result<(), DeviceError> {
    let rows = out.len();
    if rows == 0 {
        assert!(x.is_empty(), "elements without rows");
        return Ok(());
    }
    assert!(!x.is_empty() && x.len().is_multiple_of(rows), "{} elements are no {rows} rows", x.len());
    let args = [x.arg(), out.arg(), long(rows), long(x.len() / rows)];
    launch(device, "essaim_row_means", (rows.div_ceil(MEAN_ROWS), 1), THREADS, &args)
}

/// `out[col]` = the mean of `x[·, col]`, as [`row_means`]. `cols` is the length of `out`.
///
/// # Errors
/// When the device fails.
///
/// # Panics
/// When `x` is no whole number of rows, or empty while `out` is not.
pub fn col_means(device: &Device, x: View<'_, f32>, out: ViewMut<'_, f32>) -> Result<(), DeviceError> {
    assert!(!x.is_empty() || out.is_empty(), "means of nothing");
    columns_by(device, "essaim_col_means", x, out)
}

/// `out[i, j] = (row[i] / mean) * col[j]` of `out[rows, cols]`, and `0 * col[j]` where `mean[0]`, that of the rows, is not positive.
///
/// # Errors
/// When the device fails.
///
/// # Panics
/// When the lengths don't fit.
pub fn span(
    device: &Device,
    row: View<'_, f32>,
    col: View<'_, f32>,
    mean: View<'_, f32>,
    mut out: ViewMut<'_, f32>,
) -> Result<(), DeviceError> {
    assert_eq!(out.len(), row.len() * col.len(), "out must be [rows, cols]");
    assert_eq!(mean.len(), 1, "a mean is one element");
    if out.is_empty() {
        return Ok(());
    }
    let args = [row.arg(), col.arg(), mean.arg(), out.arg(), long(row.len()), size(col.len())];
    launch(device, "essaim_span", (row.len(), blocks_y(col.len(), 4 * THREADS)), THREADS, &args)
}
