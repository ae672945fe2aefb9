//! The elementary functions of [`crate::math`] over whole slices. A training step has them within its operations; these serve tests.

use super::elementwise::each;
use super::launch::long;
use crate::cuda::{Device, DeviceError, ViewMut};

/// Defines an elementary function of every element, in place.
macro_rules! elementary {
    ($(#[$doc:meta])* $name:ident $kernel:literal) => {
        $(#[$doc])*
        ///
        /// # Errors
        /// When the device fails.
        pub fn $name(device: &Device, mut x: ViewMut<'_, f32>) -> Result<(), DeviceError> {
            let len = x.len();
            each(device, $kernel, len, &[x.arg(), long(len)])
        }
    };
}

elementary! {
    /// [`crate::math::exp`] of every element, in place.
    exp_slice "essaim_exp_slice"
}
elementary! {
    /// [`crate::math::log`] of every element, in place.
    log_slice "essaim_log_slice"
}
elementary! {
    /// [`crate::math::rsqrt`] of every element, in place.
    rsqrt_slice "essaim_rsqrt_slice"
}
elementary! {
    /// [`crate::math::sigmoid`] of every element, in place.
    sigmoid_slice "essaim_sigmoid_slice"
}
elementary! {
    /// [`crate::math::silu`] of every element, in place.
    silu_slice "essaim_silu_slice"
}
