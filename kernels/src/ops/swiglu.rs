//! The activation of the feed-forward layer, `silu(gate) * up`.

use crate::cpu;
use crate::exec::Exec;
use crate::platform::Path;
use crate::reference;

/// Rows of gate and up side by side, `[tokens, gate_up]`, and of what the activation makes of them, `[tokens, out]`. What lies between rows is neither
/// read nor written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SwigluShape {
    /// Elements of a row of the gate, of up, and of the activation.
    pub ffn: usize,
    /// Distance of the rows of gate and up, elements: at least `2 · ffn`.
    pub gate_up: usize,
    /// Distance of the activation's rows, elements: at least `ffn`.
    pub out: usize,
}

impl SwigluShape {
    fn check(&self, mut of_gate_up: impl Iterator<Item = usize>, of_out: usize) {
        assert!(
            self.ffn > 0 && self.gate_up / 2 >= self.ffn && self.out >= self.ffn,
            "rows longer than their distance: {self:?}"
        );
        let tokens = of_out / self.out;
        assert!(of_out.is_multiple_of(self.out), "{of_out} elements are no rows of {self:?}");
        let len = tokens.checked_mul(self.gate_up);
        assert!(of_gate_up.all(|elements| Some(elements) == len), "gate and up must be {tokens} rows of {self:?}");
    }
}

/// `out = silu(gate) * up`, all of one length.
///
/// # Panics
/// When the lengths differ.
pub fn swiglu_forward(exec: &Exec, gate: &[f32], up: &[f32], out: &mut [f32]) {
    assert!(gate.len() == out.len() && up.len() == out.len(), "gate, up and out differ in length");
    match exec.path() {
        Path::Scalar => reference::elementwise::swiglu_forward(gate, up, out),
        path => {
            let grain = exec.grain(out.len(), 16);
            exec.for_each_chunk(out, grain, |start, out| {
                cpu::elementwise::swiglu_forward(path, &gate[start..][..out.len()], &up[start..][..out.len()], out);
            });
        }
    }
}

/// With `s = sigmoid(gate)`: `dup = dout * (gate * s)`, `dgate = (dout * up) * (s * fma(gate, 1 - s, 1))`. All of one length.
///
/// # Panics
/// When the lengths differ.
pub fn swiglu_backward(exec: &Exec, gate: &[f32], up: &[f32], dout: &[f32], dgate: &mut [f32], dup: &mut [f32]) {
    let len = dout.len();
    assert!(gate.len() == len && up.len() == len, "gate, up and dout differ in length");
    assert!(dgate.len() == len && dup.len() == len, "dgate, dup and dout differ in length");
    match exec.path() {
        Path::Scalar => reference::elementwise::swiglu_backward(gate, up, dout, dgate, dup),
        path => {
            let grain = exec.grain(len, 24);
            exec.for_each_chunks([dgate, dup], grain, |start, [dgate, dup]| {
                let range = start..start + dgate.len();
                cpu::elementwise::swiglu_backward(
                    path,
                    &gate[range.clone()],
                    &up[range.clone()],
                    &dout[range],
                    dgate,
                    dup,
                );
            });
        }
    }
}

/// As [`swiglu_forward`], of `gate_up[tokens, shape.gate_up]`, in each row the gate and then up, to `out[tokens, shape.out]`.
///
/// # Panics
/// When the lengths don't fit, or a row is longer than its distance.
pub fn swiglu_forward_joint(exec: &Exec, shape: SwigluShape, gate_up: &[f32], out: &mut [f32]) {
    shape.check([gate_up.len()].into_iter(), out.len());
    let grain = exec.grain(out.len() / shape.out, 16 * shape.ffn);
    exec.for_each_chunk(out, grain * shape.out, |start, out| {
        let gate_up = &gate_up[start / shape.out * shape.gate_up..];
        match exec.path() {
            Path::Scalar => {
                for (row, out) in gate_up.chunks(shape.gate_up).zip(out.chunks_mut(shape.out)) {
                    let (gate, up) = row[..2 * shape.ffn].split_at(shape.ffn);
                    reference::elementwise::swiglu_forward(gate, up, &mut out[..shape.ffn]);
                }
            }
            path => cpu::elementwise::swiglu_forward_joint(path, &shape, gate_up, out),
        }
    });
}

/// As [`swiglu_backward`], of `gate_up` as in [`swiglu_forward_joint`] and `dout[tokens, shape.out]`; `dgate_up` as `gate_up`.
///
/// # Panics
/// When the lengths don't fit, or a row is longer than its distance.
pub fn swiglu_backward_joint(exec: &Exec, shape: SwigluShape, gate_up: &[f32], dout: &[f32], dgate_up: &mut [f32]) {
    shape.check([gate_up.len(), dgate_up.len()].into_iter(), dout.len());
    let grain = exec.grain(dout.len() / shape.out, 24 * shape.ffn);
    exec.for_each_chunk(dgate_up, grain * shape.gate_up, |start, dgate_up| {
        let (gate_up, dout) = (&gate_up[start..], &dout[start / shape.gate_up * shape.out..]);
        match exec.path() {
            Path::Scalar => {
                let rows = gate_up.chunks(shape.gate_up).zip(dout.chunks(shape.out));
                for ((row, dout), drow) in rows.zip(dgate_up.chunks_mut(shape.gate_up)) {
                    let (gate, up) = row[..2 * shape.ffn].split_at(shape.ffn);
                    let (dgate, dup) = drow[..2 * shape.ffn].split_at_mut(shape.ffn);
                    reference::elementwise::swiglu_backward(gate, up, &dout[..shape.ffn], dgate, dup);
                }
            }
            path => cpu::elementwise::swiglu_backward_joint(path, &shape, gate_up, dout, dgate_up),
        }
    });
}
