//! Optimiser updates, element by element, no fused multiply-add: each operation is rounded once, in the order written.

use crate::cpu;
use crate::exec::Exec;
use crate::platform::Path;
use crate::reference;

/// The scalars of one AdamW update, computed by the caller in float64 and rounded.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamwScalars {
    /// Learning rate.
    pub lr: f32,
    /// Decay of the first moment.
    pub beta1: f32,
    /// Decay of the second moment.
    pub beta2: f32,
    /// Added to the root of the second moment.
    pub eps: f32,
    /// Decoupled weight decay.
    pub weight_decay: f32,
    /// Bias correction of the first moment: `1 - beta1^t`, or 1 for none.
    pub bias1: f32,
    /// Bias correction of the second moment: `1 - beta2^t`, or 1 for none.
    pub bias2: f32,
}

/// One AdamW update of `params` and its moments, all of one length:
/// `m = beta1 m + (1 - beta1) g`, `v = beta2 v + (1 - beta2) (g g)`,
/// `p = p (1 - lr weight_decay) - (lr / bias1) (m / (sqrt(v / bias2) + eps))`.
///
/// # Panics
/// When the lengths differ.
pub fn adamw_update(
    exec: &Exec,
    params: &mut [f32],
    grads: &[f32],
    m: &mut [f32],
    v: &mut [f32],
    scalars: &AdamwScalars,
) {
    let len = params.len();
    assert!(grads.len() == len && m.len() == len && v.len() == len, "params, grads and moments differ in length");
    match exec.path() {
        Path::Scalar => reference::elementwise::adamw_update(params, grads, m, v, scalars),
        path => {
            let grain = exec.grain(len, 8);
            exec.for_each_chunks([params, m, v], grain, |start, [params, m, v]| {
                cpu::elementwise::adamw_update(path, params, &grads[start..][..params.len()], m, v, scalars);
            });
        }
    }
}

/// The scalars of an outer Nesterov update.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NesterovScalars {
    /// Outer learning rate.
    pub lr: f32,
    /// Outer momentum.
    pub mu: f32,
}

/// One outer Nesterov update, with `grads` the aggregated pseudo-gradient: `b = mu b + g`, then `p = p - lr (g + mu b)`.
///
/// # Panics
/// When the lengths differ.
pub fn nesterov_update(
    exec: &Exec,
    params: &mut [f32],
    grads: &[f32],
    momentum: &mut [f32],
    scalars: &NesterovScalars,
) {
    let len = params.len();
    assert!(grads.len() == len && momentum.len() == len, "params, grads and momentum differ in length");
    match exec.path() {
        Path::Scalar => reference::elementwise::nesterov_update(params, grads, momentum, scalars),
        path => {
            let grain = exec.grain(len, 4);
            exec.for_each_chunks([params, momentum], grain, |start, [params, momentum]| {
                cpu::elementwise::nesterov_update(path, params, &grads[start..][..params.len()], momentum, scalars);
            });
        }
    }
}
