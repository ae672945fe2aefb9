//! Cross entropy of the softmax over the vocabulary.

use crate::cpu;
use crate::exec::Exec;
use crate::platform::Path;
use crate::reference;

/// The distance of rows of logits.
fn check(vocab: usize, logits: usize, targets: &[u32], losses: usize) -> usize {
    assert_eq!(targets.len(), losses, "targets and losses");
    assert!(logits.is_multiple_of(targets.len()), "{logits} logits for {losses} tokens");
    let stride = logits / losses;
    assert!(vocab <= stride, "rows of {stride} logits for a vocabulary of {vocab}");
    assert!(targets.iter().all(|&id| (id as usize) < vocab), "a target is outside the vocabulary of {vocab}");
    stride
}

/// `losses[t] = log(Σ exp(l - max)) - (l[target] - max)` in nats, with `logits[tokens, vocab]`, `targets[tokens]`. A NaN loss is the
/// canonical one.
///
/// # Panics
/// When the lengths don't fit or a target is outside the vocabulary.
pub fn cross_entropy_losses(exec: &Exec, logits: &[f32], targets: &[u32], losses: &mut [f32]) {
    cross_entropy_losses_strided(exec, logits.len() / targets.len().max(1), logits, targets, losses);
}

/// As [`cross_entropy_losses`], with `logits[tokens, stride]`, of which the first `vocab` columns count.
///
/// # Panics
/// When the lengths don't fit or a target is outside the vocabulary.
pub fn cross_entropy_losses_strided(exec: &Exec, vocab: usize, logits: &[f32], targets: &[u32], losses: &mut [f32]) {
    if targets.is_empty() {
        return assert!(logits.is_empty() && losses.is_empty(), "logits without targets");
    }
    let stride = check(vocab, logits.len(), targets, losses.len());
    match exec.path() {
        Path::Scalar => reference::loss::cross_entropy_losses(vocab, logits, targets, losses),
        path => {
            let rows = exec.grain(losses.len(), 16 * vocab);
            exec.for_each_chunk(losses, rows, |row, losses| {
                let logits = &logits[row * stride..][..losses.len() * stride];
                cpu::loss::cross_entropy_losses(path, vocab, logits, &targets[row..], losses);
            });
        }
    }
}

/// The losses of [`cross_entropy_losses`]; and every logit is replaced by its gradient,
/// `(exp(l - max) * (1 / Σ) - [j == target]) * grad_scale`.
///
/// # Panics
/// When the lengths don't fit or a target is outside the vocabulary.
pub fn cross_entropy_forward_backward(
    exec: &Exec,
    logits: &mut [f32],
    targets: &[u32],
    losses: &mut [f32],
    grad_scale: f32,
) {
    let vocab = logits.len() / targets.len().max(1);
    cross_entropy_forward_backward_strided(exec, vocab, logits, targets, losses, grad_scale);
}

/// As [`cross_entropy_forward_backward`], with `logits[tokens, stride]`, of which the first `vocab` columns count; the others stay.
///
/// # Panics
/// When the lengths don't fit or a target is outside the vocabulary.
pub fn cross_entropy_forward_backward_strided(
    exec: &Exec,
    vocab: usize,
    logits: &mut [f32],
    targets: &[u32],
    losses: &mut [f32],
    grad_scale: f32,
) {
    if targets.is_empty() {
        return assert!(logits.is_empty() && losses.is_empty(), "logits without targets");
    }
    let stride = check(vocab, logits.len(), targets, losses.len());
    match exec.path() {
        Path::Scalar => reference::loss::cross_entropy_forward_backward(vocab, logits, targets, losses, grad_scale),
        path => {
            let rows = exec.grain(losses.len(), 16 * vocab);
            exec.for_each_rows([(logits, stride), (losses, 1)], rows, |row, [logits, losses]| {
                cpu::loss::cross_entropy_forward_backward(path, vocab, logits, &targets[row..], losses, grad_scale);
            });
        }
    }
}
