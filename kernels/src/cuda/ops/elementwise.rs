//! Element-wise arithmetic: each operation written is rounded once, none is fused except inside the activation.

use super::launch::{THREADS, go, launch, long};
use crate::cuda::{Arg, Device, DeviceError, View, ViewMut};

/// Queues an element-wise kernel on `len` elements, four a thread.
pub(super) fn each(device: &Device, kernel: &'static str, len: usize, args: &[Arg]) -> Result<(), DeviceError> {
    if len == 0 {
        return Ok(());
    }
    launch(device, kernel, (len.div_ceil(4 * THREADS), 1), THREADS, args)
}

/// Defines an in-place operation with one input.
macro_rules! in_place {
    ($(#[$doc:meta])* $name:ident $kernel:literal ($($scalar:ident),*)) => {
        $(#[$doc])*
        ///
        /// # Errors
        /// When the device fails.
        ///
        /// # Panics
        /// When the lengths differ.
        pub fn $name(device: &Device, mut y: ViewMut<'_, f32>, $($scalar: f32,)* x: View<'_, f32>) -> Result<(), DeviceError> {
            assert_eq!(y.len(), x.len(), concat!(stringify!($name), ": lengths differ"));
            each(device, $kernel, x.len(), &[y.arg(), $(Arg::F32($scalar),)* x.arg(), long(x.len()), go(None)])
        }
    };
}

in_place! {
    /// `y = y + x`.
    add_assign "essaim_add_assign" ()
}
in_place! {
    /// `y = y * x`.
    mul_assign "essaim_mul_assign" ()
}
in_place! {
    /// `y = y / x`.
    div_assign "essaim_div_assign" ()
}
in_place! {
    /// `y = y + a x`: the product is rounded, then the sum.
    scaled_add "essaim_scaled_add" (a)
}
in_place! {
    /// `y = y + w (x - y)`: difference, product and sum each rounded.
    lerp "essaim_lerp" (w)
}
in_place! {
    /// `y = a x + b y`: both products rounded, then the sum.
    axpby "essaim_axpby" (a, b)
}

/// As [`axpby`] when `flag[1]` is not 0; else nothing.
///
/// # Errors
/// When the device fails.
///
/// # Panics
/// When the lengths differ.
pub fn axpby_if(
    device: &Device,
    flag: View<'_, u32>,
    mut y: ViewMut<'_, f32>,
    a: f32,
    b: f32,
    x: View<'_, f32>,
) -> Result<(), DeviceError> {
    assert_eq!(y.len(), x.len(), "axpby_if: lengths differ");
    let args = [y.arg(), Arg::F32(a), Arg::F32(b), x.arg(), long(x.len()), go(Some(flag))];
    each(device, "essaim_axpby", x.len(), &args)
}

/// `out = x + y`.
///
/// # Errors
/// When the device fails.
///
/// # Panics
/// When the lengths differ.
pub fn add(device: &Device, x: View<'_, f32>, y: View<'_, f32>, mut out: ViewMut<'_, f32>) -> Result<(), DeviceError> {
    assert!(x.len() == out.len() && y.len() == out.len(), "x, y and out differ in length");
    each(device, "essaim_add", x.len(), &[x.arg(), y.arg(), out.arg(), long(x.len())])
}

/// `out = x - y`.
///
/// # Errors
/// When the device fails.
///
/// # Panics
/// When the lengths differ.
pub fn sub(device: &Device, x: View<'_, f32>, y: View<'_, f32>, mut out: ViewMut<'_, f32>) -> Result<(), DeviceError> {
    assert!(x.len() == out.len() && y.len() == out.len(), "x, y and out differ in length");
    each(device, "essaim_sub", x.len(), &[x.arg(), y.arg(), out.arg(), long(x.len())])
}

/// `out = x + a y`, the product rounded, then the sum: [`copy`] and [`scaled_add`] in one.
///
/// # Errors
/// When the device fails.
///
/// # Panics
/// When the lengths differ.
pub fn scaled_sum(
    device: &Device,
    x: View<'_, f32>,
    a: f32,
    y: View<'_, f32>,
    mut out: ViewMut<'_, f32>,
) -> Result<(), DeviceError> {
    assert!(x.len() == out.len() && y.len() == out.len(), "x, y and out differ in length");
    each(device, "essaim_scaled_sum", x.len(), &[x.arg(), Arg::F32(a), y.arg(), out.arg(), long(x.len())])
}

/// `x = a x`.
///
/// # Errors
/// When the device fails.
pub fn scale(device: &Device, mut x: ViewMut<'_, f32>, a: f32) -> Result<(), DeviceError> {
    let len = x.len();
    each(device, "essaim_scale", len, &[x.arg(), Arg::F32(a), x.arg(), long(len)])
}

/// `out = a x`: [`copy`] and [`scale`] in one.
///
/// # Errors
/// When the device fails.
///
/// # Panics
/// When the lengths differ.
pub fn scale_into(device: &Device, x: View<'_, f32>, a: f32, mut out: ViewMut<'_, f32>) -> Result<(), DeviceError> {
    assert_eq!(x.len(), out.len(), "x and out differ in length");
    each(device, "essaim_scale", x.len(), &[x.arg(), Arg::F32(a), out.arg(), long(x.len())])
}

/// `x = factor x`, with `factor[1]` a result of the device. A factor of exactly 1 changes no bit.
///
/// # Errors
/// When the device fails.
///
/// # Panics
/// When the factor is not one element.
pub fn scale_by(device: &Device, mut x: ViewMut<'_, f32>, factor: View<'_, f32>) -> Result<(), DeviceError> {
    assert_eq!(factor.len(), 1, "a factor is one element");
    let len = x.len();
    each(device, "essaim_scale_by", len, &[x.arg(), factor.arg(), long(len)])
}

/// `x = sqrt(x)`.
///
/// # Errors
/// When the device fails.
pub fn sqrt_assign(device: &Device, mut x: ViewMut<'_, f32>) -> Result<(), DeviceError> {
    let len = x.len();
    each(device, "essaim_sqrt_assign", len, &[x.arg(), long(len)])
}

/// `out = x`.
///
/// # Errors
/// When the device fails.
///
/// # Panics
/// When the lengths differ.
pub fn copy(device: &Device, x: View<'_, f32>, mut out: ViewMut<'_, f32>) -> Result<(), DeviceError> {
    assert_eq!(x.len(), out.len(), "x and out differ in length");
    each(device, "essaim_copy", x.len(), &[x.arg(), out.arg(), long(x.len())])
}

/// Every element becomes `value`.
///
/// # Errors
/// When the device fails.
pub fn fill(device: &Device, mut out: ViewMut<'_, f32>, value: f32) -> Result<(), DeviceError> {
    let len = out.len();
    each(device, "essaim_fill", len, &[out.arg(), Arg::F32(value), long(len)])
}

/// `out = silu(gate) * up`, all of one length.
///
/// # Errors
/// When the device fails.
///
/// # Panics
/// When the lengths differ.
pub fn swiglu_forward(
    device: &Device,
    gate: View<'_, f32>,
    up: View<'_, f32>,
    mut out: ViewMut<'_, f32>,
) -> Result<(), DeviceError> {
    assert!(gate.len() == out.len() && up.len() == out.len(), "gate, up and out differ in length");
    each(device, "essaim_swiglu_forward", gate.len(), &[gate.arg(), up.arg(), out.arg(), long(gate.len())])
}

/// With `s = sigmoid(gate)`: `dup = dout * (gate * s)`, `dgate = (dout * up) * (s * fma(gate, 1 - s, 1))`. All of one length.
///
/// # Errors
/// When the device fails.
///
/// # Panics
/// When the lengths differ.
pub fn swiglu_backward(
    device: &Device,
    gate: View<'_, f32>,
    up: View<'_, f32>,
    dout: View<'_, f32>,
    mut dgate: ViewMut<'_, f32>,
    mut dup: ViewMut<'_, f32>,
) -> Result<(), DeviceError> {
    let len = dout.len();
    assert!(gate.len() == len && up.len() == len, "gate, up and dout differ in length");
    assert!(dgate.len() == len && dup.len() == len, "dgate, dup and dout differ in length");
    let args = [gate.arg(), up.arg(), dout.arg(), dgate.arg(), dup.arg(), long(len)];
    each(device, "essaim_swiglu_backward", len, &args)
}
