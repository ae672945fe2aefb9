//! Element-wise operations. None but the activation's derivative uses a fused multiply-add.

use crate::math::{sigmoid, silu};
use crate::ops::{AdamwScalars, NesterovScalars};

pub(crate) fn swiglu_forward(gate: &[f32], up: &[f32], out: &mut [f32]) {
    for i in 0..out.len() {
        out[i] = silu(gate[i]) * up[i];
    }
}

pub(crate) fn swiglu_backward(gate: &[f32], up: &[f32], dout: &[f32], dgate: &mut [f32], dup: &mut [f32]) {
    for i in 0..dout.len() {
        let s = sigmoid(gate[i]);
        dup[i] = dout[i] * (gate[i] * s);
        dgate[i] = (dout[i] * up[i]) * (s * gate[i].mul_add(1.0 - s, 1.0));
    }
}

pub(crate) fn adamw_update(params: &mut [f32], grads: &[f32], m: &mut [f32], v: &mut [f32], s: &AdamwScalars) {
    let (complement1, complement2) = (1.0 - s.beta1, 1.0 - s.beta2);
    let (decay, rate) = (1.0 - s.lr * s.weight_decay, s.lr / s.bias1);
    for i in 0..params.len() {
        let g = grads[i];
        m[i] = s.beta1 * m[i] + complement1 * g;
        v[i] = s.beta2 * v[i] + complement2 * (g * g);
        let denominator = (v[i] / s.bias2).sqrt() + s.eps;
        params[i] = params[i] * decay - rate * (m[i] / denominator);
    }
}

pub(crate) fn nesterov_update(params: &mut [f32], grads: &[f32], momentum: &mut [f32], s: &NesterovScalars) {
    for i in 0..params.len() {
        momentum[i] = s.mu * momentum[i] + grads[i];
        params[i] -= s.lr * (grads[i] + s.mu * momentum[i]);
    }
}
