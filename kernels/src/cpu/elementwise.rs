//! Element-wise operations that deserve wide instructions. Callers pass slices of one length.

use super::isa::simd_fn;
use super::rows::{set_vector, vector};
use crate::math::{sigmoid_lanes, sigmoid_with, silu_lanes, silu_with};
use crate::ops::{AdamwScalars, NesterovScalars};

simd_fn! {
    fn swiglu_forward<I>(gate: &[f32], up: &[f32], out: &mut [f32]) {
        let (gate, up) = (&gate[..out.len()], &up[..out.len()]);
        let whole = out.len() / I::LANES * I::LANES;
        for at in (0..whole).step_by(I::LANES) {
            let silu = silu_lanes::<I>(vector::<I>(gate, at));
            set_vector::<I>(out, at, I::vmul(silu, vector::<I>(up, at)));
        }
        for i in whole..out.len() {
            out[i] = silu_with::<I>(gate[i]) * up[i];
        }
    }
}

simd_fn! {
    fn swiglu_backward<I>(gate: &[f32], up: &[f32], dout: &[f32], dgate: &mut [f32], dup: &mut [f32]) {
        let len = dout.len();
        let (gate, up, dgate, dup) = (&gate[..len], &up[..len], &mut dgate[..len], &mut dup[..len]);
        let (whole, one) = (len / I::LANES * I::LANES, I::splat(1.0));
        for at in (0..whole).step_by(I::LANES) {
            let (gate, up, dout) = (vector::<I>(gate, at), vector::<I>(up, at), vector::<I>(dout, at));
            let s = sigmoid_lanes::<I>(gate);
            set_vector::<I>(dup, at, I::vmul(dout, I::vmul(gate, s)));
            let slope = I::vmul(s, I::vfma(gate, I::vsub(one, s), one));
            set_vector::<I>(dgate, at, I::vmul(I::vmul(dout, up), slope));
        }
        for i in whole..len {
            let s = sigmoid_with::<I>(gate[i]);
            dup[i] = dout[i] * (gate[i] * s);
            dgate[i] = (dout[i] * up[i]) * (s * I::fma(gate[i], 1.0 - s, 1.0));
        }
    }
}

simd_fn! {
    fn adamw_update<I>(params: &mut [f32], grads: &[f32], m: &mut [f32], v: &mut [f32], s: &AdamwScalars) {
        let len = params.len();
        let (grads, m, v) = (&grads[..len], &mut m[..len], &mut v[..len]);
        let (complement1, complement2) = (1.0 - s.beta1, 1.0 - s.beta2);
        let (decay, rate) = (1.0 - s.lr * s.weight_decay, s.lr / s.bias1);
        for i in 0..len {
            let g = grads[i];
            m[i] = s.beta1 * m[i] + complement1 * g;
            v[i] = s.beta2 * v[i] + complement2 * (g * g);
            let denominator = (v[i] / s.bias2).sqrt() + s.eps;
            params[i] = params[i] * decay - rate * (m[i] / denominator);
        }
    }
}

simd_fn! {
    fn nesterov_update<I>(params: &mut [f32], grads: &[f32], momentum: &mut [f32], s: &NesterovScalars) {
        let len = params.len();
        let (grads, momentum) = (&grads[..len], &mut momentum[..len]);
        for i in 0..len {
            momentum[i] = s.mu * momentum[i] + grads[i];
            params[i] -= s.lr * (grads[i] + s.mu * momentum[i]);
        }
    }
}
