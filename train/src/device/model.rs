//! The model's forward and backward pass on a device.
//!
//! Operator by operator, in the same order, what [`crate::model`] does on the CPU: the order of the operations on each value is part of the
//! numerics id. There is no second definition; `train/tests/device.rs` compares the two with `==`.

use super::clock::Clock;
use super::pass::{Done, Pass};
use super::workspace::{BlockBuffers, BlockView, GradientBuffers, GradientView, SharedBuffers, tile_tokens};
use crate::config::ModelShape;
use crate::model::{Direction, Matrix, Operator};
use crate::params::{BlockRanges, ParamLayout};
use essaim_kernels::cuda::{Buffer, Device, DeviceError, View, ViewMut, ops};
use essaim_kernels::ops::{AttentionShape, LinearShape, rope_tables};
use std::ops::Range;

/// The model and its buffers. It holds no parameters.
#[derive(Debug)]
pub(super) struct DeviceModel {
    device: Device,
    shape: ModelShape,
    layout: ParamLayout,
    blocks: Vec<BlockRanges>,
    batch_max: usize,
    /// Rotary tables `[context, head_dim / 2]`.
    cos: Buffer<f32>,
    sin: Buffer<f32>,
    block_buffers: Vec<BlockBuffers>,
    shared: SharedBuffers,
    gradient: GradientBuffers,
    /// Logits of a tile of tokens.
    tile: Buffer<f32>,
    /// What attention's backward pass needs besides.
    attention_scratch: Buffer<f32>,
    /// What the embedding's backward pass needs besides.
    embedding_scratch: Buffer<u32>,
    /// Gradient of a tied head, apart from that of the embedding; none when the head is not tied.
    tied_head: Option<Buffer<f32>>,
}

/// Inputs and targets of a batch, `[batch · context]` each, on the device.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tokens<'a> {
    pub(super) inputs: View<'a, u32>,
    pub(super) targets: View<'a, u32>,
}

impl DeviceModel {
    /// A model with room for micro-batches of up to `batch_max` sequences.
    pub(super) fn new(
        device: &Device,
        layout: ParamLayout,
        shape: ModelShape,
        batch_max: usize,
    ) -> Result<DeviceModel, DeviceError> {
        let tokens = batch_max * shape.context;
        let (cos, sin) = rope_tables(shape.rope_theta, shape.head_dim, shape.context);
        let buffers = |_| BlockBuffers::new(device, &shape, tokens);
        Ok(DeviceModel {
            device: device.clone(),
            blocks: (0..shape.layers).map(|layer| layout.block(layer)).collect(),
            layout,
            batch_max,
            cos: device.buffer_from(&cos)?,
            sin: device.buffer_from(&sin)?,
            block_buffers: (0..shape.layers).map(buffers).collect::<Result<_, _>>()?,
            shared: SharedBuffers::new(device, &shape, tokens)?,
            gradient: GradientBuffers::new(device, &shape, tokens)?,
            tile: device.buffer(tile_tokens(&shape, tokens) * shape.vocab)?,
            attention_scratch: device.buffer(attention_scratch_len(&shape, batch_max))?,
            embedding_scratch: device.buffer(ops::embedding_scratch_len(tokens))?,
            tied_head: shape.tied.then(|| device.buffer(shape.vocab * shape.d_model)).transpose()?,
            shape,
        })
    }

    /// Elements of four bytes that [`DeviceModel::new`] allocates.
    pub(super) fn len(shape: &ModelShape, batch_max: usize) -> usize {
        let tokens = batch_max * shape.context;
        let tied_head = if shape.tied { shape.vocab * shape.d_model } else { 0 };
        shape.context * shape.head_dim
            + shape.layers * BlockBuffers::len(shape, tokens)
            + SharedBuffers::len(shape, tokens)
            + GradientBuffers::len(shape, tokens)
            + tile_tokens(shape, tokens) * shape.vocab
            + attention_scratch_len(shape, batch_max)
            + ops::embedding_scratch_len(tokens)
            + tied_head
    }

    /// Where each parameter lives.
    pub(super) fn layout(&self) -> &ParamLayout {
        &self.layout
    }

    /// Losses and gradients of a batch, as [`crate::model::Model::inner_gradients`].
    pub(super) fn inner_gradients(
        &mut self,
        params: View<'_, f32>,
        tokens: Tokens<'_>,
        grads: &mut Buffer<f32>,
        mut losses: ViewMut<'_, f32>,
        clock: &Clock,
    ) -> Done {
        let len = losses.len();
        let scale = (1.0 / len as f64) as f32;
        ops::fill(&self.device, grads.view_mut(..), 0.0)?;
        if let Some(tied_head) = &mut self.tied_head {
            ops::fill(&self.device, tied_head.view_mut(..), 0.0)?;
        }
        let most = self.batch_max * self.shape.context;
        for start in (0..len).step_by(most) {
            let range = start..(start + most).min(len);
            let part =
                Tokens { inputs: tokens.inputs.range(range.clone()), targets: tokens.targets.range(range.clone()) };
            self.micro_batch(params, part, scale, grads, losses.reborrow().range(range), clock)?;
        }
        match &self.tied_head {
            Some(tied_head) => {
                ops::add_assign(&self.device, grads.view_mut(self.layout.embedding()), tied_head.view(..))
            }
            None => Ok(()),
        }
    }

    /// Continues the chains of `grads` and of the tied head's gradient over some of the batch's sequences.
    fn micro_batch(
        &mut self,
        params: View<'_, f32>,
        tokens: Tokens<'_>,
        grad_scale: f32,
        grads: &mut Buffer<f32>,
        losses: ViewMut<'_, f32>,
        clock: &Clock,
    ) -> Done {
        let seq = self.shape.context;
        let pass = Pass {
            device: &self.device,
            clock,
            shape: &self.shape,
            cos: self.cos.view(..),
            sin: self.sin.view(..),
            batch: tokens.inputs.len() / seq,
            seq,
        };
        let (layout, shared) = (&self.layout, &mut self.shared);
        let (blocks, buffers) = (&self.blocks, &mut self.block_buffers);
        forward(&pass, params, layout, blocks, tokens.inputs, buffers, shared)?;
        let view = shared.cut(&self.shape, pass.tokens());
        let head = params.range(layout.head());
        let head_gradient = match &mut self.tied_head {
            Some(tied_head) => tied_head.view_mut(..),
            None => grads.view_mut(layout.head()),
        };
        let gradient = HeadGradient { scale: grad_scale, normed: view.narrow, head: head_gradient };
        losses_and_gradient(&pass, view.normed.as_view(), head, tokens.targets, &mut self.tile, losses, gradient)?;
        let buffers = BackwardBuffers {
            blocks: buffers,
            shared,
            gradient: &mut self.gradient,
            attention: &mut self.attention_scratch,
            embedding: &mut self.embedding_scratch,
        };
        backward(&pass, params, layout, blocks, tokens.inputs, buffers, grads)
    }
}

fn attention_scratch_len(shape: &ModelShape, batch: usize) -> usize {
    let ModelShape { heads, kv_heads, head_dim, context, .. } = *shape;
    ops::attention_scratch_len(&AttentionShape { batch, seq: context, heads, kv_heads, head_dim })
}

/// From token ids to the normed stream behind the last block.
fn forward(
    pass: &Pass<'_>,
    params: View<'_, f32>,
    layout: &ParamLayout,
    blocks: &[BlockRanges],
    inputs: View<'_, u32>,
    buffers: &mut [BlockBuffers],
    shared: &mut SharedBuffers,
) -> Done {
    let (shape, tokens) = (pass.shape, pass.tokens());
    let mut shared = shared.cut(shape, tokens);
    let stream = buffers[0].cut(shape, tokens).stream;
    let table = params.range(layout.embedding());
    pass.timed(Operator::Embedding, || ops::embedding_forward(pass.device, inputs, table, stream))?;
    let mut rest = buffers;
    for ranges in blocks {
        let Some((here, next)) = rest.split_first_mut() else { unreachable!("buffers for each block") };
        let out = match next.first_mut() {
            Some(next) => next.cut(shape, tokens).stream,
            None => shared.stream.reborrow(),
        };
        block_forward(pass, params, ranges, here.cut(shape, tokens), shared.narrow.reborrow(), out)?;
        rest = next;
    }
    pass.norm(shared.stream.as_view(), params.range(layout.final_norm()), shared.normed, shared.rstd)
}

/// What the backward pass works on.
struct BackwardBuffers<'a> {
    blocks: &'a mut [BlockBuffers],
    shared: &'a mut SharedBuffers,
    gradient: &'a mut GradientBuffers,
    attention: &'a mut Buffer<f32>,
    embedding: &'a mut Buffer<u32>,
}

/// From the gradient of the normed stream, in the shared `narrow` buffer, to that of every parameter but the head.
fn backward(
    pass: &Pass<'_>,
    params: View<'_, f32>,
    layout: &ParamLayout,
    blocks: &[BlockRanges],
    inputs: View<'_, u32>,
    buffers: BackwardBuffers<'_>,
    grads: &mut Buffer<f32>,
) -> Done {
    let (shape, tokens) = (pass.shape, pass.tokens());
    let BackwardBuffers { blocks: buffers, shared, gradient, attention, embedding } = buffers;
    let mut shared = shared.cut(shape, tokens);
    let gains = layout.final_norm();
    pass.norm_backward(
        (shared.stream.as_view(), params.range(gains.clone()), shared.rstd.as_view()),
        shared.narrow.as_view(),
        gradient.cut(shape, tokens).stream,
        false,
        grads.view_mut(gains),
    )?;
    for (ranges, buffer) in blocks.iter().zip(buffers).rev() {
        let (view, gradient) = (buffer.cut(shape, tokens), gradient.cut(shape, tokens));
        block_backward(pass, params, ranges, (view, gradient), shared.narrow.reborrow(), attention, grads)?;
    }
    let stream = gradient.cut(shape, tokens).stream;
    let table = grads.view_mut(layout.embedding());
    pass.timed(Operator::Embedding, || {
        ops::embedding_backward(pass.device, inputs, stream.as_view(), table, embedding.view_mut(..))
    })
}

/// The gradient's side of the head.
struct HeadGradient<'a> {
    /// Multiplies every loss before the gradient is taken.
    scale: f32,
    /// Gradient of the normed stream `[tokens, d_model]`, overwritten.
    normed: ViewMut<'a, f32>,
    /// Gradient of the head `[vocab, d_model]`, continued.
    head: ViewMut<'a, f32>,
}

/// Losses, and the gradients of the head and the normed stream, a tile of tokens at a time.
fn losses_and_gradient(
    pass: &Pass<'_>,
    normed: View<'_, f32>,
    head: View<'_, f32>,
    targets: View<'_, u32>,
    tile: &mut Buffer<f32>,
    mut losses: ViewMut<'_, f32>,
    mut gradient: HeadGradient<'_>,
) -> Done {
    let (device, d, vocab) = (pass.device, pass.shape.d_model, pass.shape.vocab);
    let (tokens, most) = (pass.tokens(), tile.len() / vocab);
    for start in (0..tokens).step_by(most) {
        let range = start..(start + most).min(tokens);
        let rows = range.start * d..range.end * d;
        let shape = LinearShape { tokens: range.len(), inputs: d, outputs: vocab };
        let mut logits = tile.view_mut(..range.len() * vocab);
        let normed = normed.range(rows.clone());
        let product = |direction| Operator::Product(Matrix::Head, direction);
        pass.timed(product(Direction::Forward), || {
            ops::linear_forward(device, shape, normed, head, logits.reborrow())
        })?;
        let (targets, losses) = (targets.range(range.clone()), losses.reborrow().range(range));
        pass.timed(Operator::Loss, || {
            ops::cross_entropy_forward_backward(device, logits.reborrow(), targets, losses, gradient.scale)
        })?;
        pass.timed(product(Direction::Weight), || {
            ops::linear_backward_weight(device, shape, logits.as_view(), normed, gradient.head.reborrow())
        })?;
        let dnormed = gradient.normed.reborrow().range(rows);
        pass.timed(product(Direction::Input), || {
            ops::linear_backward_input(device, shape, logits.as_view(), head, dnormed, false)
        })?;
    }
    Ok(())
}

/// Runs a block on `view.stream` and writes the stream that leaves it to `out`.
fn block_forward(
    pass: &Pass<'_>,
    params: View<'_, f32>,
    block: &BlockRanges,
    mut view: BlockView<'_>,
    mut narrow: ViewMut<'_, f32>,
    out: ViewMut<'_, f32>,
) -> Done {
    let weights = |range: &Range<usize>| params.range(range.clone());
    let gains = weights(&block.attention_norm);
    pass.norm(view.stream.as_view(), gains, view.attention_in.reborrow(), view.attention_rstd)?;
    pass.linear(Matrix::Qkv, view.attention_in.as_view(), weights(&block.q), view.q.reborrow())?;
    pass.linear(Matrix::Qkv, view.attention_in.as_view(), weights(&block.k), view.k.reborrow())?;
    pass.linear(Matrix::Qkv, view.attention_in.as_view(), weights(&block.v), view.v.reborrow())?;
    pass.rotate(view.q.reborrow(), view.k.reborrow(), false)?;
    pass.timed(Operator::AttentionForward, || {
        ops::attention_forward(
            pass.device,
            pass.attention_shape(),
            view.q.as_view(),
            view.k.as_view(),
            view.v.as_view(),
            view.attention_out.reborrow(),
            view.stats,
        )
    })?;
    pass.linear(Matrix::Output, view.attention_out.as_view(), weights(&block.o), narrow.reborrow())?;
    pass.add(view.stream.as_view(), narrow.as_view(), view.middle.reborrow())?;

    pass.norm(view.middle.as_view(), weights(&block.ffn_norm), view.ffn_in.reborrow(), view.ffn_rstd)?;
    pass.linear(Matrix::GateUp, view.ffn_in.as_view(), weights(&block.gate), view.gate.reborrow())?;
    pass.linear(Matrix::GateUp, view.ffn_in.as_view(), weights(&block.up), view.up.reborrow())?;
    pass.timed(Operator::Activation, || {
        ops::swiglu_forward(pass.device, view.gate.as_view(), view.up.as_view(), view.activation.reborrow())
    })?;
    pass.linear(Matrix::Down, view.activation.as_view(), weights(&block.down), narrow.reborrow())?;
    pass.add(view.middle.as_view(), narrow.as_view(), out)
}

/// Turns `gradient.stream` from the gradient of what leaves the block into that of what enters it, and continues the chains of
/// the block's weight gradients in `grads`.
fn block_backward(
    pass: &Pass<'_>,
    params: View<'_, f32>,
    block: &BlockRanges,
    (view, gradient): (BlockView<'_>, GradientView<'_>),
    mut narrow: ViewMut<'_, f32>,
    scratch: &mut Buffer<f32>,
    grads: &mut Buffer<f32>,
) -> Done {
    let GradientView { mut stream, mut q, mut k, mut v, mut activation, mut gate, mut up } = gradient;
    let linear = |grads: &mut Buffer<f32>,
                  matrix,
                  dy: &ViewMut<'_, f32>,
                  x: &ViewMut<'_, f32>,
                  range: &Range<usize>,
                  dx: ViewMut<'_, f32>,
                  more| {
        let (w, dw) = (params.range(range.clone()), grads.view_mut(range.clone()));
        pass.linear_backward(matrix, dy.as_view(), x.as_view(), w, dw, (dx, more))
    };
    linear(grads, Matrix::Down, &stream, &view.activation, &block.down, activation.reborrow(), false)?;
    let (saved_gate, saved_up) = (view.gate.as_view(), view.up.as_view());
    pass.timed(Operator::Activation, || {
        ops::swiglu_backward(pass.device, saved_gate, saved_up, activation.as_view(), gate.reborrow(), up.reborrow())
    })?;
    linear(grads, Matrix::GateUp, &gate, &view.ffn_in, &block.gate, narrow.reborrow(), false)?;
    linear(grads, Matrix::GateUp, &up, &view.ffn_in, &block.up, narrow.reborrow(), true)?;
    let gains = block.ffn_norm.clone();
    let saved = (view.middle.as_view(), params.range(gains.clone()), view.ffn_rstd.as_view());
    pass.norm_backward(saved, narrow.as_view(), stream.reborrow(), true, grads.view_mut(gains))?;

    linear(grads, Matrix::Output, &stream, &view.attention_out, &block.o, narrow.reborrow(), false)?;
    pass.timed(Operator::AttentionBackward, || {
        ops::attention_backward(
            pass.device,
            pass.attention_shape(),
            view.q.as_view(),
            view.k.as_view(),
            view.v.as_view(),
            view.attention_out.as_view(),
            view.stats.as_view(),
            narrow.as_view(),
            q.reborrow(),
            k.reborrow(),
            v.reborrow(),
            scratch.view_mut(..),
        )
    })?;
    pass.rotate(q.reborrow(), k.reborrow(), true)?;
    linear(grads, Matrix::Qkv, &q, &view.attention_in, &block.q, narrow.reborrow(), false)?;
    linear(grads, Matrix::Qkv, &k, &view.attention_in, &block.k, narrow.reborrow(), true)?;
    linear(grads, Matrix::Qkv, &v, &view.attention_in, &block.v, narrow.reborrow(), true)?;
    let gains = block.attention_norm.clone();
    let saved = (view.stream.as_view(), params.range(gains.clone()), view.attention_rstd.as_view());
    pass.norm_backward(saved, narrow.as_view(), stream, true, grads.view_mut(gains))
}
