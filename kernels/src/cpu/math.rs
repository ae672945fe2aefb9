//! Elementary functions over slices.

use super::isa::simd_fn;
use crate::math::{canonical, exp_with, log_with, sigmoid_with, silu_with};

simd_fn! {
    fn exp_slice<I>(x: &mut [f32]) {
        for value in x {
            *value = exp_with::<I>(*value);
        }
    }
}
simd_fn! {
    fn log_slice<I>(x: &mut [f32]) {
        for value in x {
            *value = log_with::<I>(*value);
        }
    }
}
simd_fn! {
    fn rsqrt_slice<I>(x: &mut [f32]) {
        for value in x {
            *value = canonical(1.0 / value.sqrt());
        }
    }
}
simd_fn! {
    fn sigmoid_slice<I>(x: &mut [f32]) {
        for value in x {
            *value = sigmoid_with::<I>(*value);
        }
    }
}
simd_fn! {
    fn silu_slice<I>(x: &mut [f32]) {
        for value in x {
            *value = silu_with::<I>(*value);
        }
    }
}
