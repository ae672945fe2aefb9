//! The output head and the loss, a tile of tokens at a time, so that the logits of a batch are never all in memory.

use super::pass::Pass;
use super::profile::{Direction, Matrix, Operator};
use essaim_kernels::{ops, row_stride};

/// The shape of the head's product for `tokens` tokens, whose logits lie `stride` apart.
fn linear_shape(pass: &Pass<'_>, tokens: usize, stride: usize) -> (ops::LinearShape, ops::LinearStrides) {
    let (inputs, outputs) = Matrix::Head.sizes(pass.shape);
    (ops::LinearShape { tokens, inputs, outputs }, ops::LinearStrides { x: inputs, y: stride })
}

/// The logits of the rows `normed[tokens, d_model]`, with the head `[vocab, d_model]`: the first `vocab` of each row of `logits`.
pub(crate) fn logits(pass: &mut Pass<'_>, normed: &[f32], head: &[f32], logits: &mut [f32]) {
    let (exec, tokens) = (pass.exec, normed.len() / pass.shape.d_model);
    let (shape, strides) = linear_shape(pass, tokens, logits.len() / tokens);
    let operator = Operator::Product(Matrix::Head, Direction::Forward);
    pass.profile.time(operator, || ops::linear_forward_strided(exec, shape, strides, normed, head, logits));
}

/// The losses `[tokens]`, nats, of predicting `targets[tokens]` from `normed[tokens, d_model]`. `tile` holds the logits of as many
/// tokens as fit into it, [`row_stride`] apart.
pub(crate) fn losses(
    pass: &mut Pass<'_>,
    normed: &[f32],
    head: &[f32],
    targets: &[u32],
    tile: &mut [f32],
    losses: &mut [f32],
) {
    let (exec, d, vocab) = (pass.exec, pass.shape.d_model, pass.shape.vocab);
    let stride = row_stride(vocab);
    let tokens = tile.len() / stride;
    let rows = normed.chunks(tokens * d).zip(targets.chunks(tokens)).zip(losses.chunks_mut(tokens));
    for ((normed, targets), losses) in rows {
        let tile = &mut tile[..targets.len() * stride];
        logits(pass, normed, head, tile);
        pass.profile.time(Operator::Loss, || ops::cross_entropy_losses_strided(exec, vocab, tile, targets, losses));
    }
}

/// The gradient's side of the head.
pub(crate) struct HeadGradient<'a> {
    /// Multiplies every loss before the gradient is taken: 1 / tokens of the inner step's batch.
    pub(crate) scale: f32,
    /// Gradient of `normed` `[tokens, d_model]`, overwritten.
    pub(crate) normed: &'a mut [f32],
    /// Gradient of the head `[vocab, d_model]`: one chain over the tokens, from +0 or continued as the pass says.
    pub(crate) head: &'a mut [f32],
}

/// As [`losses`], and the gradients.
pub(crate) fn losses_and_gradient(
    pass: &mut Pass<'_>,
    normed: &[f32],
    head: &[f32],
    targets: &[u32],
    tile: &mut [f32],
    losses: &mut [f32],
    gradient: HeadGradient<'_>,
) {
    let (exec, d, vocab) = (pass.exec, pass.shape.d_model, pass.shape.vocab);
    let stride = row_stride(vocab);
    let tokens = tile.len() / stride;
    let rows = normed.chunks(tokens * d).zip(targets.chunks(tokens)).zip(losses.chunks_mut(tokens));
    let mut continued = pass.continued;
    for (((normed, targets), losses), dnormed) in rows.zip(gradient.normed.chunks_mut(tokens * d)) {
        let tile = &mut tile[..targets.len() * stride];
        logits(pass, normed, head, tile);
        pass.profile.time(Operator::Loss, || {
            ops::cross_entropy_forward_backward_strided(exec, vocab, tile, targets, losses, gradient.scale);
        });
        let (shape, strides) = linear_shape(pass, targets.len(), stride);
        let operator = Operator::Product(Matrix::Head, Direction::Weight);
        pass.profile.time(operator, || {
            ops::linear_backward_weight_strided(exec, shape, strides, tile, normed, gradient.head, continued);
        });
        continued = true;
        let operator = Operator::Product(Matrix::Head, Direction::Input);
        pass.profile.time(operator, || {
            ops::linear_backward_input_strided(exec, shape, strides, tile, head, dnormed, false);
        });
    }
}
