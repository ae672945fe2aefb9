//! AdamW over the tensors that have second moments.
//!
//! The first moment starts from zero and its bias is not corrected: this warms each round up. The second moment starts from the
//! outer state and needs no correction; in the first round, when there is none, it starts from zero and its bias is corrected.

use crate::config::float64;
use crate::moments::MomentLayout;
use essaim_kernels::ops::{AdamwScalars, adamw_update};
use essaim_kernels::{Exec, scalar64};
use essaim_protocol::manifest::InnerConfig;

/// The scalars of one update at learning rate `lr`. `unseeded_updates` is how many updates, this one included, followed a start of the
/// second moments from zero; none when they started from an outer state.
pub(crate) fn scalars(inner: &InnerConfig, lr: f64, unseeded_updates: Option<u32>) -> AdamwScalars {
    let beta2 = float64(inner.beta2);
    let bias2 = unseeded_updates.map_or(1.0, |updates| 1.0 - scalar64::pow(beta2, f64::from(updates)));
    AdamwScalars {
        lr: lr as f32,
        beta1: float64(inner.beta1) as f32,
        beta2: beta2 as f32,
        eps: float64(inner.eps) as f32,
        weight_decay: float64(inner.weight_decay) as f32,
        bias1: 1.0,
        bias2: bias2 as f32,
    }
}

/// Updates every tensor of `layout`. Weight decay is for matrices, embedding and head included; norms have none.
pub(crate) fn update(
    exec: &Exec,
    layout: &MomentLayout,
    scalars: &AdamwScalars,
    params: &mut [f32],
    grads: &[f32],
    momentum: &mut [f32],
    second: &mut [f32],
) {
    for part in layout.parts() {
        let range = part.params.clone();
        let weight_decay = if part.matrix { scalars.weight_decay } else { 0.0 };
        adamw_update(
            exec,
            &mut params[range.clone()],
            &grads[range.clone()],
            &mut momentum[range],
            &mut second[part.full.clone()],
            &AdamwScalars { weight_decay, ..*scalars },
        );
    }
}
