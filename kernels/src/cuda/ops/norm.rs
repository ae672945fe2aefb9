//! Root-mean-square normalisation over rows.

use super::launch::{LANES, THREADS, launch, long, size};
use crate::cuda::{Arg, Device, DeviceError, View, ViewMut};

/// Rows of a block: one for each warp.
pub(super) const ROWS: usize = THREADS / LANES;

/// `rstd[t] = 1 / sqrt(Σ x[t]² / d + eps)` and `y[t, j] = (x[t, j] * rstd[t]) * w[j]`: [`crate::ops::rmsnorm_forward`].
///
/// # Errors
/// When the device fails.
///
/// # Panics
/// When the lengths don't fit.
pub fn rmsnorm_forward(
    device: &Device,
    x: View<'_, f32>,
    w: View<'_, f32>,
    eps: f32,
    mut y: ViewMut<'_, f32>,
    mut rstd: ViewMut<'_, f32>,
) -> Result<(), DeviceError> {
    let (rows, cols) = (rstd.len(), w.len());
    assert_eq!(x.len(), y.len(), "x and y");
    assert_eq!(x.len(), rows * cols, "x must be [tokens, d] with rstd [tokens] and w [d]");
    if x.is_empty() {
        return Ok(());
    }
    let args = [x.arg(), w.arg(), Arg::F32(eps), y.arg(), rstd.arg(), long(rows), size(cols)];
    launch(device, "essaim_rmsnorm_forward", (rows.div_ceil(ROWS), 1), THREADS, &args)
}

/// `dx` stored or, when `accumulate`, added to; `dw[j]` continues one chain over the tokens: [`crate::ops::rmsnorm_backward`].
///
/// # Errors
/// When the device fails.
///
/// # Panics
/// When the lengths don't fit.
#[allow(clippy::too_many_arguments)]
pub fn rmsnorm_backward(
    device: &Device,
    x: View<'_, f32>,
    w: View<'_, f32>,
    rstd: View<'_, f32>,
    dy: View<'_, f32>,
    mut dx: ViewMut<'_, f32>,
    accumulate: bool,
    mut dw: ViewMut<'_, f32>,
) -> Result<(), DeviceError> {
    let (rows, cols) = (rstd.len(), w.len());
    assert_eq!(x.len(), rows * cols, "x must be [tokens, d] with rstd [tokens] and w [d]");
    assert_eq!(x.len(), dy.len(), "x and dy");
    assert_eq!(x.len(), dx.len(), "x and dx");
    assert_eq!(w.len(), dw.len(), "w and dw");
    if x.is_empty() {
        return Ok(());
    }
    let sizes = [long(rows), size(cols), Arg::U32(u32::from(accumulate))];
    let args = [&[x.arg(), w.arg(), rstd.arg(), dy.arg(), dx.arg()][..], &sizes].concat();
    launch(device, "essaim_rmsnorm_backward", (rows.div_ceil(ROWS), 1), THREADS, &args)?;
    let args = [x.arg(), rstd.arg(), dy.arg(), dw.arg(), long(rows), size(cols)];
    launch(device, "essaim_rmsnorm_backward_weight", (cols.div_ceil(LANES), 1), THREADS, &args)
}
