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
    pass.linear(Matrix::Query, view.attention_in, weights(&block.q), view.q);
    pass.linear(Matrix::Key, view.attention_in, weights(&block.k), view.k);
    pass.linear(Matrix::Value, view.attention_in, weights(&block.v), view.v);
    pass.rotate(view.q, view.k, false);
    let (exec, shape) = (pass.exec, pass.attention_shape());
    pass.profile.time(Operator::AttentionForward, || {
        ops::attention_forward(exec, shape, view.q, view.k, view.v, view.attention_out, view.stats);
    });
    pass.linear(Matrix::Output, view.attention_out, weights(&block.o), narrow);
    let middle = NormedStream { stream: view.middle, normed: view.ffn_in, rstd: view.ffn_rstd };
    pass.add_norm(view.stream, narrow, weights(&block.ffn_norm), middle);

    pass.linear(Matrix::Gate, view.ffn_in, weights(&block.gate), view.gate);
    pass.linear(Matrix::Up, view.ffn_in, weights(&block.up), view.up);
    pass.profile.time(Operator::Activation, || ops::swiglu_forward(exec, view.gate, view.up, view.activation));
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
    let GradientView { stream, q, k, v, activation, gate, up } = gradient;
    let exec = pass.exec;

    let down = block.down.clone();
    pass.linear_backward(
        Matrix::Down,
        stream,
        view.activation,
        weights(&down),
        &mut grads[down.clone()],
        activation,
        false,
    );
    pass.profile.time(Operator::Activation, || {
        ops::swiglu_backward(exec, view.gate, view.up, activation, gate, up);
    });
    pass.linear_backward(
        Matrix::Gate,
        gate,
        view.ffn_in,
        weights(&block.gate),
        &mut grads[block.gate.clone()],
        narrow,
        false,
    );
    pass.linear_backward(Matrix::Up, up, view.ffn_in, weights(&block.up), &mut grads[block.up.clone()], narrow, true);
    let gains = block.ffn_norm.clone();
    pass.norm_backward(view.middle, weights(&gains), view.ffn_rstd, narrow, stream, true, &mut grads[gains.clone()]);

    pass.linear_backward(
        Matrix::Output,
        stream,
        view.attention_out,
        weights(&block.o),
        &mut grads[block.o.clone()],
        narrow,
        false,
    );
    let shape = pass.attention_shape();
    pass.profile.time(Operator::AttentionBackward, || {
        let (saved, stats) = ((&*view.q, &*view.k, &*view.v, &*view.attention_out), &*view.stats);
        ops::attention_backward(exec, shape, saved.0, saved.1, saved.2, saved.3, stats, narrow, q, k, v);
    });
    pass.rotate(q, k, true);
    pass.linear_backward(
        Matrix::Query,
        q,
        view.attention_in,
        weights(&block.q),
        &mut grads[block.q.clone()],
        narrow,
        false,
    );
    pass.linear_backward(
        Matrix::Key,
        k,
        view.attention_in,
        weights(&block.k),
        &mut grads[block.k.clone()],
        narrow,
        true,
    );
    pass.linear_backward(
        Matrix::Value,
        v,
        view.attention_in,
        weights(&block.v),
        &mut grads[block.v.clone()],
        narrow,
        true,
    );
    let gains = block.attention_norm.clone();
    pass.norm_backward(
        view.stream,
        weights(&gains),
        view.attention_rstd,
        narrow,
        stream,
        true,
        &mut grads[gains.clone()],
    );
}
