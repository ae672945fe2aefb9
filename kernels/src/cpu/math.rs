//! Elementary functions over slices.

use super::isa::simd_fn;
use super::rows::{set_vector, vector};
use crate::math::{canonical, exp_lanes, exp_with, log_with, sigmoid_lanes, sigmoid_with, silu_lanes, silu_with};

/// Whole vectors by one function, what is left by its scalar form. (A closure would be compiled without the instructions of the
/// function that it is written in.)
macro_rules! in_vectors {
    ($isa:ident, $x:ident, $lanes:ident, $scalar:ident) => {{
        let whole = $x.len() / $isa::LANES * $isa::LANES;
        for at in (0..whole).step_by($isa::LANES) {
            let result = $lanes::<$isa>(vector::<$isa>($x, at));
            set_vector::<$isa>($x, at, $isa::vcanonical(result));
        }
        for value in &mut $x[whole..] {
            *value = $scalar::<$isa>(*value);
        }
    }};
}

simd_fn! {
    fn exp_slice<I>(x: &mut [f32]) {
        in_vectors!(I, x, exp_lanes, exp_with)
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
        in_vectors!(I, x, sigmoid_lanes, sigmoid_with)
    }
}
simd_fn! {
    fn silu_slice<I>(x: &mut [f32]) {
        in_vectors!(I, x, silu_lanes, silu_with)
    }
}
