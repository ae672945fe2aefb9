//! Optimiser updates, element by element, no fused multiply-add: each operation is rounded once, in the order written.

use super::elementwise::each;
use super::launch::{go, long};
use crate::cuda::{Arg, Device, DeviceError, View, ViewMut};
use crate::ops::{AdamwScalars, NesterovScalars};

/// One AdamW update of `params` and its moments, all of one length: [`crate::ops::adamw_update`].
///
/// # Errors
/// When the device fails.
///
/// # Panics
/// When the lengths differ.
pub fn adamw_update(
    device: &Device,
    params: ViewMut<'_, f32>,
    grads: View<'_, f32>,
    m: ViewMut<'_, f32>,
    v: ViewMut<'_, f32>,
    scalars: &AdamwScalars,
) -> Result<(), DeviceError> {
    adamw(device, None, params, grads, m, v, scalars)
}

/// As [`adamw_update`] when `flag[1]` is not 0; else nothing.
///
/// # Errors
/// When the device fails.
///
/// # Panics
/// When the lengths differ.
pub fn adamw_update_if(
    device: &Device,
    flag: View<'_, u32>,
    params: ViewMut<'_, f32>,
    grads: View<'_, f32>,
    m: ViewMut<'_, f32>,
    v: ViewMut<'_, f32>,
    scalars: &AdamwScalars,
) -> Result<(), DeviceError> {
    adamw(device, Some(flag), params, grads, m, v, scalars)
}

fn adamw(
    device: &Device,
    flag: Option<View<'_, u32>>,
    mut params: ViewMut<'_, f32>,
    grads: View<'_, f32>,
    mut m: ViewMut<'_, f32>,
    mut v: ViewMut<'_, f32>,
    s: &AdamwScalars,
) -> Result<(), DeviceError> {
    let len = params.len();
    assert!(grads.len() == len && m.len() == len && v.len() == len, "params, grads and moments differ in length");
    let scalars =
        [s.beta1, 1.0 - s.beta1, s.beta2, 1.0 - s.beta2, s.bias2, s.eps, 1.0 - s.lr * s.weight_decay, s.lr / s.bias1];
    let [b1, c1, b2, c2, bias2, eps, decay, rate] = scalars.map(Arg::F32);
    let pointers = [params.arg(), grads.arg(), m.arg(), v.arg()];
    let args = [&pointers[..], &[b1, c1, b2, c2, bias2, eps, decay, rate, long(len), go(flag)]].concat();
    each(device, "essaim_adamw_update", len, &args)
}

/// One outer Nesterov update, with `grads` the aggregated pseudo-gradient: [`crate::ops::nesterov_update`].
///
/// # Errors
/// When the device fails.
///
/// # Panics
/// When the lengths differ.
pub fn nesterov_update(
    device: &Device,
    params: ViewMut<'_, f32>,
    grads: View<'_, f32>,
    momentum: ViewMut<'_, f32>,
    scalars: &NesterovScalars,
) -> Result<(), DeviceError> {
    nesterov(device, None, params, grads, momentum, scalars)
}

/// As [`nesterov_update`] when `flag[1]` is not 0; else nothing.
///
/// # Errors
/// When the device fails.
///
/// # Panics
/// When the lengths differ.
pub fn nesterov_update_if(
    device: &Device,
    flag: View<'_, u32>,
    params: ViewMut<'_, f32>,
    grads: View<'_, f32>,
    momentum: ViewMut<'_, f32>,
    scalars: &NesterovScalars,
) -> Result<(), DeviceError> {
    nesterov(device, Some(flag), params, grads, momentum, scalars)
}

fn nesterov(
    device: &Device,
    flag: Option<View<'_, u32>>,
    mut params: ViewMut<'_, f32>,
    grads: View<'_, f32>,
    mut momentum: ViewMut<'_, f32>,
    s: &NesterovScalars,
) -> Result<(), DeviceError> {
    let len = params.len();
    assert!(grads.len() == len && momentum.len() == len, "params, grads and momentum differ in length");
    let pointers = [params.arg(), grads.arg(), momentum.arg()];
    let args = [&pointers[..], &[Arg::F32(s.lr), Arg::F32(s.mu), long(len), go(flag)]].concat();
    each(device, "essaim_nesterov_update", len, &args)
}
