//! Cross entropy of a softmax over the vocabulary: the first `vocab` of the logits between one row and the next.

use super::reduce;
use crate::math::{canonical, exp, log};

/// `losses[t] = log(Σ exp(l - max)) - (l[target] - max)`, in nats.
pub(crate) fn cross_entropy_losses(vocab: usize, logits: &[f32], targets: &[u32], losses: &mut [f32]) {
    let stride = logits.len() / targets.len();
    for (t, &target) in targets.iter().enumerate() {
        let row = &logits[t * stride..][..vocab];
        let max = reduce::row_max(row);
        let exps: Vec<f32> = row.iter().map(|&logit| exp(logit - max)).collect();
        losses[t] = canonical(log(reduce::sum(&exps)) - (row[target as usize] - max));
    }
}

/// The losses, and `logits[t, j] = (softmax(logits[t])[j] - [j == target]) * grad_scale`.
pub(crate) fn cross_entropy_forward_backward(
    vocab: usize,
    logits: &mut [f32],
    targets: &[u32],
    losses: &mut [f32],
    grad_scale: f32,
) {
    let stride = logits.len() / targets.len();
    cross_entropy_losses(vocab, logits, targets, losses);
    for (t, &target) in targets.iter().enumerate() {
        let row = &mut logits[t * stride..][..vocab];
        let max = reduce::row_max(row);
        row.iter_mut().for_each(|logit| *logit = exp(*logit - max));
        let inverse = 1.0 / reduce::sum(row);
        for (j, value) in row.iter_mut().enumerate() {
            let probability = *value * inverse;
            let error = if j == target as usize { probability - 1.0 } else { probability };
            *value = error * grad_scale;
        }
    }
}
