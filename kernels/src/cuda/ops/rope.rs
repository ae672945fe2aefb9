//! Rotary positions; the tables are those of [`crate::ops::rope_tables`].

use super::launch::{THREADS, launch, size};
use crate::cuda::{Arg, Device, DeviceError, View, ViewMut};
use crate::ops::RopeShape;

/// Rotates every pair of `x[tokens, heads, head_dim]` in place: [`crate::ops::rope_forward`].
///
/// # Errors
/// When the device fails.
///
/// # Panics
/// When the lengths don't fit.
pub fn rope_forward(
    device: &Device,
    shape: RopeShape,
    x: ViewMut<'_, f32>,
    cos: View<'_, f32>,
    sin: View<'_, f32>,
) -> Result<(), DeviceError> {
    rope(device, &shape, x, cos, sin, false)
}

/// The inverse rotation, which is the gradient's: [`crate::ops::rope_backward`].
///
/// # Errors
/// When the device fails.
///
/// # Panics
/// When the lengths don't fit.
pub fn rope_backward(
    device: &Device,
    shape: RopeShape,
    dx: ViewMut<'_, f32>,
    cos: View<'_, f32>,
    sin: View<'_, f32>,
) -> Result<(), DeviceError> {
    rope(device, &shape, dx, cos, sin, true)
}

fn rope(
    device: &Device,
    shape: &RopeShape,
    mut x: ViewMut<'_, f32>,
    cos: View<'_, f32>,
    sin: View<'_, f32>,
    inverse: bool,
) -> Result<(), DeviceError> {
    let rows = shape.check(x.len(), cos.len(), sin.len());
    if rows == 0 {
        return Ok(());
    }
    let half = shape.head_dim / 2;
    let sizes = [size(shape.seq), size(shape.heads), size(half), Arg::U32(u32::from(inverse))];
    let args = [&[x.arg(), cos.arg(), sin.arg()][..], &sizes].concat();
    launch(device, "essaim_rope", (rows, (shape.heads * half).div_ceil(THREADS)), THREADS, &args)
}
