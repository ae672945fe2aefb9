//! One block, forward and backward.

use super::pass::{NormedStream, Pass};
use super::profile::{Matrix, Operator};
use super::workspace::{BlockView, GradientView};
use crate::params::BlockRanges;
use essaim_kernels::ops;

/// Runs a block on `view.stream` and its norm, `view.attention_in`. The stream that leaves it, and the norm of that with the gains of
/// what comes next, go to `next`; `narrow`, `[tokens, d_model]`, is scratch. What the backward pass needs stays in `view`.
pub(crate) fn forward(
    pass: &mut Pass<'_>,
    params: &[f32],
    block: &BlockRanges,
    view: BlockView<'_>,
    narrow: &mut [f32],
    (next_gains, next): (&[f32], NormedStream<'_>),
) {
    let weights = |range: &std::ops::Range<usize>| &params[range.clone()];
    pass.linear(Matrix::Qkv, view.attention_in, weights(&block.qkv()), view.qkv);
    pass.rotate(view.qkv, false);
    let (exec, shape, stride) = (pass.exec, pass.attention_shape(), pass.stride(view.qkv));
    pass.profile.time(Operator::AttentionForward, || {
        ops::attention_forward_joint(exec, shape, stride, view.qkv, view.attention_out, view.stats);
    });
    pass.linear(Matrix::Output, view.attention_out, weights(&block.o), narrow);
    let middle = NormedStream { stream: view.middle, normed: view.ffn_in, rstd: view.ffn_rstd };
    pass.add_norm(view.stream, narrow, weights(&block.ffn_norm), middle);

    pass.linear(Matrix::GateUp, view.ffn_in, weights(&block.gate_up()), view.gate_up);
    let shape = pass.swiglu_shape(view.gate_up, view.activation);
    pass.profile.time(Operator::Activation, || {
        ops::swiglu_forward_joint(exec, shape, view.gate_up, view.activation);
    });
    pass.linear(Matrix::Down, view.activation, weights(&block.down), narrow);
    pass.add_norm(view.middle, narrow, next_gains, next);
}

/// Turns `gradient.stream` from the gradient of what leaves the block into that of what enters it, and continues the chains of
/// the block's weight gradients in `grads`, which has the layout of `params`.
pub(crate) fn backward(
    pass: &mut Pass<'_>,
    params: &[f32],
    block: &BlockRanges,
    view: BlockView<'_>,
    narrow: &mut [f32],
    gradient: GradientView<'_>,
    grads: &mut [f32],
) {
    let weights = |range: &std::ops::Range<usize>| &params[range.clone()];
    let GradientView { stream, qkv, activation, gate_up } = gradient;
    let exec = pass.exec;

    let down = block.down.clone();
    let dw = &mut grads[down.clone()];
    pass.linear_backward(Matrix::Down, stream, view.activation, weights(&down), dw, activation);
    let shape = pass.swiglu_shape(gate_up, activation);
    pass.profile.time(Operator::Activation, || {
        ops::swiglu_backward_joint(exec, shape, view.gate_up, activation, gate_up);
    });
    let matrices = block.gate_up();
    let dw = &mut grads[matrices.clone()];
    pass.linear_backward(Matrix::GateUp, gate_up, view.ffn_in, weights(&matrices), dw, narrow);
    let gains = block.ffn_norm.clone();
    let dgains = &mut grads[gains.clone()];
    pass.norm_backward(view.middle, weights(&gains), view.ffn_rstd, narrow, stream, true, dgains);

    let output = block.o.clone();
    let dw = &mut grads[output.clone()];
    pass.linear_backward(Matrix::Output, stream, view.attention_out, weights(&output), dw, narrow);
    let (shape, stride) = (pass.attention_shape(), pass.stride(qkv));
    pass.profile.time(Operator::AttentionBackward, || {
        let (saved, stats) = ((&*view.qkv, &*view.attention_out), &*view.stats);
        ops::attention_backward_joint(exec, shape, stride, saved.0, saved.1, stats, narrow, qkv);
    });
    pass.rotate(qkv, true);
    let matrices = block.qkv();
    let dw = &mut grads[matrices.clone()];
    pass.linear_backward(Matrix::Qkv, qkv, view.attention_in, weights(&matrices), dw, narrow);
    let gains = block.attention_norm.clone();
    let dgains = &mut grads[gains.clone()];
    pass.norm_backward(view.stream, weights(&gains), view.attention_rstd, narrow, stream, true, dgains);
}
