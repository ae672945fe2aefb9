//! Sums in the fixed order, whose results stay on the device, and the scalars of a step that depend on them.

use super::launch::{LANES, THREADS, launch, long, size};
use super::norm::ROWS;
use crate::cuda::{Arg, Device, DeviceError, View, ViewMut};
use crate::reference::reduce::BLOCK;

/// Elements that one block of threads adds up: eight blocks of the fixed order.
pub(super) const GROUP: usize = THREADS / LANES * BLOCK;
/// Most partial sums of the tree's kernel.
pub(super) const PARTIAL_MAX: usize = 1 << 20;
/// Threads of the kernels that are one block.
pub(super) const TREE_THREADS: usize = 512;
/// Most blocks that look for a maximum.
const MAX_BLOCKS: usize = 1024;

/// Elements of `scratch` that [`sum`], [`sum_squares`], [`dot`] and [`max_abs`] take for `len` elements.
pub fn sum_scratch_len(len: usize) -> usize {
    len.div_ceil(GROUP).max(1)
}

/// Queues `kernel`, which reduces groups to partial sums, and the tree over these.
fn sum_by(
    device: &Device,
    kernel: &'static str,
    len: usize,
    inputs: &[Arg],
    mut out: ViewMut<'_, f32>,
    scratch: ViewMut<'_, f32>,
) -> Result<(), DeviceError> {
    assert_eq!(out.len(), 1, "a sum is one element");
    let groups = len.div_ceil(GROUP);
    assert!(groups <= PARTIAL_MAX, "a sum of {len} elements is more than the kernels take");
    assert!(scratch.len() >= groups, "scratch of {} for {len} elements", scratch.len());
    let mut partial = scratch.range(..groups);
    if groups > 0 {
        let args = [inputs, &[long(len), partial.arg()]].concat();
        launch(device, kernel, (groups, 1), THREADS, &args)?;
    }
    launch(device, "essaim_sum_tree", (1, 1), TREE_THREADS, &[partial.arg(), size(groups), out.arg()])
}

/// `out[0] = Σ x`: [`crate::reduce::sum`].
///
/// # Errors
/// When the device fails.
///
/// # Panics
/// When `out` is not one element, or `scratch` shorter than [`sum_scratch_len`].
pub fn sum(
    device: &Device,
    x: View<'_, f32>,
    out: ViewMut<'_, f32>,
    scratch: ViewMut<'_, f32>,
) -> Result<(), DeviceError> {
    sum_by(device, "essaim_sum_blocks", x.len(), &[x.arg()], out, scratch)
}

/// `out[0] = Σ x²`, each term one fused multiply-add: [`crate::reduce::sum_squares`].
///
/// # Errors
/// When the device fails.
///
/// # Panics
/// When `out` is not one element, or `scratch` shorter than [`sum_scratch_len`].
pub fn sum_squares(
    device: &Device,
    x: View<'_, f32>,
    out: ViewMut<'_, f32>,
    scratch: ViewMut<'_, f32>,
) -> Result<(), DeviceError> {
    sum_by(device, "essaim_sum_squares_blocks", x.len(), &[x.arg()], out, scratch)
}

/// `out[0] = Σ x y`, each term one fused multiply-add: [`crate::reduce::dot`].
///
/// # Errors
/// When the device fails.
///
/// # Panics
/// When the lengths differ, `out` is not one element, or `scratch` shorter than [`sum_scratch_len`].
pub fn dot(
    device: &Device,
    x: View<'_, f32>,
    y: View<'_, f32>,
    out: ViewMut<'_, f32>,
    scratch: ViewMut<'_, f32>,
) -> Result<(), DeviceError> {
    assert_eq!(x.len(), y.len(), "dot of different lengths");
    sum_by(device, "essaim_dot_blocks", x.len(), &[x.arg(), y.arg()], out, scratch)
}

/// `out[0]` = the largest magnitude: NaN when any element is, +0 when there is none: [`crate::reduce::max_abs`].
///
/// # Errors
/// When the device fails.
///
/// # Panics
/// When `out` is not one element, or `scratch` shorter than [`sum_scratch_len`].
pub fn max_abs(
    device: &Device,
    x: View<'_, f32>,
    mut out: ViewMut<'_, f32>,
    scratch: ViewMut<'_, f32>,
) -> Result<(), DeviceError> {
    assert_eq!(out.len(), 1, "a maximum is one element");
    let blocks = x.len().div_ceil(GROUP).clamp(1, MAX_BLOCKS);
    assert!(scratch.len() >= blocks, "scratch of {} for {} elements", scratch.len(), x.len());
    let mut partial = scratch.range(..blocks);
    launch(device, "essaim_max_abs_blocks", (blocks, 1), THREADS, &[x.arg(), long(x.len()), partial.arg()])?;
    launch(device, "essaim_max_abs", (1, 1), THREADS, &[partial.arg(), size(blocks), out.arg()])
}

/// Columns of `x` with `rows` rows; none when there is nothing to do.
fn cols_of(len: usize, rows: usize) -> Option<usize> {
    if rows == 0 {
        assert_eq!(len, 0, "elements without rows");
        return None;
    }
    assert!(len.is_multiple_of(rows), "{len} elements are no {rows} rows");
    Some(len / rows)
}

fn rows_by(
    device: &Device,
    kernel: &'static str,
    inputs: &[Arg],
    len: usize,
    mut out: ViewMut<'_, f32>,
) -> Result<(), DeviceError> {
    let rows = out.len();
    let Some(cols) = cols_of(len, rows) else { return Ok(()) };
    let args = [inputs, &[out.arg(), long(rows), long(cols)]].concat();
    launch(device, kernel, (rows.div_ceil(ROWS), 1), THREADS, &args)
}

/// `out[row] = Σ x[row, ·]` of `x[rows, cols]`; `rows` is the length of `out`: [`crate::reduce::row_sums`].
///
/// # Errors
/// When the device fails.
///
/// # Panics
/// When `x` is no whole number of rows.
pub fn row_sums(device: &Device, x: View<'_, f32>, out: ViewMut<'_, f32>) -> Result<(), DeviceError> {
    rows_by(device, "essaim_row_sums", &[x.arg()], x.len(), out)
}

/// `out[row] = Σ x[row, ·]²`, squares rounded before they are added: [`crate::reduce::row_sum_squares`].
///
/// # Errors
/// When the device fails.
///
/// # Panics
/// When `x` is no whole number of rows.
pub fn row_sum_squares(device: &Device, x: View<'_, f32>, out: ViewMut<'_, f32>) -> Result<(), DeviceError> {
    rows_by(device, "essaim_row_sum_squares", &[x.arg()], x.len(), out)
}

/// `out[row] = Σ x[row, ·] y[row, ·]`, each row as [`dot`].
///
/// # Errors
/// When the device fails.
///
/// # Panics
/// When the lengths differ or `x` is no whole number of rows.
pub fn row_dots(device: &Device, x: View<'_, f32>, y: View<'_, f32>, out: ViewMut<'_, f32>) -> Result<(), DeviceError> {
    assert_eq!(x.len(), y.len(), "dots of different lengths");
    rows_by(device, "essaim_row_dots", &[x.arg(), y.arg()], x.len(), out)
}

pub(super) fn columns_by(
    device: &Device,
    kernel: &'static str,
    x: View<'_, f32>,
    mut out: ViewMut<'_, f32>,
) -> Result<(), DeviceError> {
    let cols = out.len();
    if cols == 0 {
        assert!(x.is_empty(), "elements without columns");
        return Ok(());
    }
    assert!(x.len().is_multiple_of(cols), "{} elements are no rows of {cols}", x.len());
    let args = [x.arg(), out.arg(), long(x.len() / cols), size(cols)];
    launch(device, kernel, (cols.div_ceil(LANES), 1), THREADS, &args)
}

/// `out[col] = Σ x[·, col]` of `x[rows, cols]`; `cols` is the length of `out`: [`crate::reduce::col_sums`].
///
/// # Errors
/// When the device fails.
///
/// # Panics
/// When `x` is no whole number of rows.
pub fn col_sums(device: &Device, x: View<'_, f32>, out: ViewMut<'_, f32>) -> Result<(), DeviceError> {
    columns_by(device, "essaim_col_sums", x, out)
}

/// `out[col] = Σ x[·, col]²`, squares rounded before they are added: [`crate::reduce::col_sum_squares`].
///
/// # Errors
/// When the device fails.
///
/// # Panics
/// When `x` is no whole number of rows.
pub fn col_sum_squares(device: &Device, x: View<'_, f32>, out: ViewMut<'_, f32>) -> Result<(), DeviceError> {
    columns_by(device, "essaim_col_sum_squares", x, out)
}

/// `out[0]` = the norm, `sqrt(Σ squares)`, added one after the other from +0; `out[1] = max_norm / norm` where the norm exceeds
/// `max_norm`, else 1: what [`super::scale_by`] takes to limit a gradient.
///
/// # Errors
/// When the device fails.
///
/// # Panics
/// When `out` is not two elements.
pub fn clip_factor(
    device: &Device,
    squares: View<'_, f32>,
    max_norm: f32,
    mut out: ViewMut<'_, f32>,
) -> Result<(), DeviceError> {
    assert_eq!(out.len(), 2, "norm and factor");
    let args = [squares.arg(), size(squares.len()), Arg::F32(max_norm), out.arg()];
    launch(device, "essaim_clip_factor", (1, 1), THREADS, &args)
}

/// `out[0] = 1 / (sqrt(square[0]) + eps)`.
///
/// # Errors
/// When the device fails.
///
/// # Panics
/// When a view is not one element.
pub fn inverse_norm(
    device: &Device,
    square: View<'_, f32>,
    eps: f32,
    mut out: ViewMut<'_, f32>,
) -> Result<(), DeviceError> {
    assert!(square.len() == 1 && out.len() == 1, "square and out are one element each");
    launch(device, "essaim_inverse_norm", (1, 1), LANES, &[square.arg(), Arg::F32(eps), out.arg()])
}

/// `flag[0]` = 1 when `norm[0]` and all `values` are finite, else 0: what the operations that end in `_if` take.
///
/// # Errors
/// When the device fails.
///
/// # Panics
/// When norm or flag is not one element.
pub fn all_finite(
    device: &Device,
    values: View<'_, f32>,
    norm: View<'_, f32>,
    mut flag: ViewMut<'_, u32>,
) -> Result<(), DeviceError> {
    assert!(norm.len() == 1 && flag.len() == 1, "norm and flag are one element each");
    let args = [values.arg(), long(values.len()), norm.arg(), flag.arg()];
    launch(device, "essaim_all_finite", (1, 1), TREE_THREADS, &args)
}
