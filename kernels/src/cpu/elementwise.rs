//! Element-wise operations that deserve wide instructions. Callers pass slices of one length.

use super::isa::simd_fn;
use crate::math::{sigmoid_with, silu_with};
use crate::ops::{AdamwScalars, NesterovScalars};

simd_fn! {
    fn swiglu_forward<I>(gate: &[f32], up: &[f32], out: &mut [f32]) {
        for ((out, &gate), &up) in out.iter_mut().zip(gate).zip(up) {
            *out = silu_with::<I>(gate) * up;
        }
    }
}

simd_fn! {
    fn swiglu_backward<I>(gate: &[f32], up: &[f32], dout: &[f32], dgate: &mut [f32], dup: &mut [f32]) {
        let len = dout.len();
        let (gate, up, dgate, dup) = (&gate[..len], &up[..len], &mut dgate[..len], &mut dup[..len]);
        for i in 0..len {
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
