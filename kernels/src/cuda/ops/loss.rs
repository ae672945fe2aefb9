//! Cross entropy of the softmax over the vocabulary.

use super::launch::{LANES, launch, size};
use crate::cuda::{Arg, Device, DeviceError, View, ViewMut};
use crate::reference::reduce::BLOCK;

/// Most threads of a block; each warp takes blocks of 4096 logits.
const THREADS_MAX: usize = 512;
/// Longest row of logits.
const VOCAB_MAX: usize = 512 * BLOCK;

/// The vocabulary of `logits[tokens, vocab]`, and the threads of a block.
fn check(logits: usize, targets: usize, losses: usize) -> (usize, usize) {
    assert_eq!(targets, losses, "targets and losses");
    assert!(logits.is_multiple_of(targets), "{logits} logits for {losses} tokens");
    let vocab = logits / losses;
    assert!((1..=VOCAB_MAX).contains(&vocab), "a vocabulary of {vocab}; the kernels take 1 to {VOCAB_MAX}");
    (vocab, (vocab.div_ceil(BLOCK) * LANES).min(THREADS_MAX))
}

/// `losses[t] = log(Σ exp(l - max)) - (l[target] - max)` in nats: [`crate::ops::cross_entropy_losses`]. A target outside the vocabulary gives a
/// NaN.
///
/// # Errors
/// When the device fails.
///
/// # Panics
/// When the lengths don't fit.
pub fn cross_entropy_losses(
    device: &Device,
    logits: View<'_, f32>,
    targets: View<'_, u32>,
    mut losses: ViewMut<'_, f32>,
) -> Result<(), DeviceError> {
    if targets.is_empty() {
        assert!(logits.is_empty() && losses.is_empty(), "logits without targets");
        return Ok(());
    }
    let (vocab, threads) = check(logits.len(), targets.len(), losses.len());
    let args = [logits.arg(), targets.arg(), losses.arg(), size(vocab)];
    launch(device, "essaim_cross_entropy_losses", (targets.len(), 1), threads, &args)
}

/// The losses, and every logit replaced by its gradient: [`crate::ops::cross_entropy_forward_backward`].
///
/// # Errors
/// When the device fails.
///
/// # Panics
/// When the lengths don't fit.
pub fn cross_entropy_forward_backward(
    device: &Device,
    mut logits: ViewMut<'_, f32>,
    targets: View<'_, u32>,
    mut losses: ViewMut<'_, f32>,
    grad_scale: f32,
) -> Result<(), DeviceError> {
    if targets.is_empty() {
        assert!(logits.is_empty() && losses.is_empty(), "logits without targets");
        return Ok(());
    }
    let (vocab, threads) = check(logits.len(), targets.len(), losses.len());
    let args = [logits.arg(), targets.arg(), losses.arg(), Arg::F32(grad_scale), size(vocab)];
    launch(device, "essaim_cross_entropy_forward_backward", (targets.len(), 1), threads, &args)
}
