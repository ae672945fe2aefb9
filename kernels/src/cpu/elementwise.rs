//! Element-wise operations that deserve wide instructions. Callers pass slices of one length.

use super::isa::{Isa, simd_fn};
use super::rows::{set_vector, vector};
use crate::math::{sigmoid_lanes, sigmoid_with, silu_lanes, silu_with};
use crate::ops::{AdamwScalars, NesterovScalars, SwigluShape};

/// Rows of gate and up that are fetched before they are needed: half a row further the CPU does not look ahead by itself.
const ROWS_AHEAD: usize = 2;

/// A row; what it will need at the distance `ahead` is fetched, unless that is zero.
#[inline(always)]
fn forward_row<I: Isa>(gate: &[f32], up: &[f32], out: &mut [f32], ahead: usize) {
    let (gate, up) = (&gate[..out.len()], &up[..out.len()]);
    let whole = out.len() / I::LANES * I::LANES;
    for at in (0..whole).step_by(I::LANES) {
        fetch::<I>(gate, up, at, ahead);
        let silu = silu_lanes::<I>(vector::<I>(gate, at));
        set_vector::<I>(out, at, I::vmul(silu, vector::<I>(up, at)));
    }
    for i in whole..out.len() {
        out[i] = silu_with::<I>(gate[i]) * up[i];
    }
}

#[inline(always)]
fn fetch<I: Isa>(gate: &[f32], up: &[f32], at: usize, ahead: usize) {
    if ahead > 0 {
        I::prefetch(gate.as_ptr().wrapping_add(at + ahead));
        I::prefetch(up.as_ptr().wrapping_add(at + ahead));
    }
}

simd_fn! {
    fn swiglu_forward<I>(gate: &[f32], up: &[f32], out: &mut [f32]) {
        forward_row::<I>(gate, up, out, 0);
    }
}

simd_fn! {
    fn swiglu_forward_joint<I>(shape: &SwigluShape, gate_up: &[f32], out: &mut [f32]) {
        for (row, out) in gate_up.chunks(shape.gate_up).zip(out.chunks_mut(shape.out)) {
            let (gate, up) = row[..2 * shape.ffn].split_at(shape.ffn);
            forward_row::<I>(gate, up, &mut out[..shape.ffn], ROWS_AHEAD * shape.gate_up);
        }
    }
}

/// As [`forward_row`].
#[inline(always)]
fn backward_row<I: Isa>(gate: &[f32], up: &[f32], dout: &[f32], dgate: &mut [f32], dup: &mut [f32], ahead: usize) {
    let len = dout.len();
    let (gate, up, dgate, dup) = (&gate[..len], &up[..len], &mut dgate[..len], &mut dup[..len]);
    let (whole, one) = (len / I::LANES * I::LANES, I::splat(1.0));
    for at in (0..whole).step_by(I::LANES) {
        fetch::<I>(gate, up, at, ahead);
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

simd_fn! {
    fn swiglu_backward<I>(gate: &[f32], up: &[f32], dout: &[f32], dgate: &mut [f32], dup: &mut [f32]) {
        backward_row::<I>(gate, up, dout, dgate, dup, 0);
    }
}

simd_fn! {
    fn swiglu_backward_joint<I>(shape: &SwigluShape, gate_up: &[f32], dout: &[f32], dgate_up: &mut [f32]) {
        let rows = gate_up.chunks(shape.gate_up).zip(dout.chunks(shape.out));
        for ((row, dout), drow) in rows.zip(dgate_up.chunks_mut(shape.gate_up)) {
            let (gate, up) = row[..2 * shape.ffn].split_at(shape.ffn);
            let (dgate, dup) = drow[..2 * shape.ffn].split_at_mut(shape.ffn);
            backward_row::<I>(gate, up, &dout[..shape.ffn], dgate, dup, ROWS_AHEAD * shape.gate_up);
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
