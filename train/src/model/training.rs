//! The model as the inner loop uses it: losses and gradients of a batch.

use super::block;
use super::head::{self, HeadGradient};
use super::pass::{NormedStream, Pass, Rotary};
use super::profile::{Operator, Profile};
use super::workspace::{self, BlockBuffers, GradientBuffers, SharedBuffers};
use crate::config::ModelShape;
use crate::params::{BlockRanges, ParamLayout};
use essaim_kernels::{Exec, ScratchSize, ops, row_stride};
use essaim_protocol::manifest::ModelConfig;

/// A Llama with the buffers for its forward and backward pass. It holds no parameters: they are the caller's, flat, in the order of
/// [`ParamLayout`].
///
/// After construction no pass allocates: `tests/steady.rs` counts.
#[derive(Debug)]
pub struct Model {
    shape: ModelShape,
    layout: ParamLayout,
    blocks: Vec<BlockRanges>,
    rotary: Rotary,
    profile: Profile,
    batch_max: usize,
    buffers: Buffers,
}

#[derive(Debug)]
struct Buffers {
    blocks: Vec<BlockBuffers>,
    shared: SharedBuffers,
    gradient: GradientBuffers,
    /// Logits of a tile of tokens.
    tile: Vec<f32>,
    inputs: Vec<u32>,
    targets: Vec<u32>,
    /// Gradient of a tied head, apart from that of the embedding; empty when the head is not tied.
    tied_head: Vec<f32>,
}

impl Model {
    /// A model with room for micro-batches of up to `batch_max` sequences of `context` tokens.
    ///
    /// # Panics
    /// When [`ModelConfig::check`] refuses `config`, or `batch_max` is zero.
    pub fn new(config: &ModelConfig, batch_max: usize) -> Model {
        assert!(batch_max > 0, "micro-batches of zero sequences");
        let shape = ModelShape::from(config);
        let layout = ParamLayout::new(config);
        let tokens = batch_max * shape.context;
        let tied_head = if shape.tied { shape.vocab * shape.d_model } else { 0 };
        let buffers = Buffers {
            blocks: (0..shape.layers).map(|_| BlockBuffers::new(&shape, tokens)).collect(),
            shared: SharedBuffers::new(&shape, tokens),
            gradient: GradientBuffers::new(&shape, tokens),
            tile: vec![0.0; workspace::tile_tokens(&shape, tokens) * row_stride(shape.vocab)],
            inputs: vec![0; tokens],
            targets: vec![0; tokens],
            tied_head: vec![0.0; tied_head],
        };
        let blocks = (0..shape.layers).map(|layer| layout.block(layer)).collect();
        let rotary = Rotary::new(&shape);
        Model { shape, layout, blocks, rotary, profile: Profile::default(), batch_max, buffers }
    }

    /// Bytes that [`Model::new`] allocates, by the formula in the source of its workspace.
    ///
    /// # Panics
    /// When [`ModelConfig::check`] refuses `config`.
    pub fn workspace_bytes(config: &ModelConfig, batch_max: usize) -> u64 {
        workspace::training_bytes(&ModelShape::from(config), batch_max)
    }

    /// The most that the CPU's kernels keep beside it, on each of the threads that run the model.
    ///
    /// # Panics
    /// When [`ModelConfig::check`] refuses `config`.
    pub fn scratch_size(config: &ModelConfig, batch_max: usize) -> ScratchSize {
        workspace::training_scratch(&ModelShape::from(config), batch_max)
    }

    /// Where each parameter lives.
    pub fn layout(&self) -> &ParamLayout {
        &self.layout
    }

    /// The model's lengths.
    pub fn shape(&self) -> &ModelShape {
        &self.shape
    }

    /// Sequences that are processed at once.
    pub fn batch_max(&self) -> usize {
        self.batch_max
    }

    /// Time by operator since the last reset.
    pub fn profile(&self) -> &Profile {
        &self.profile
    }

    /// To reset it.
    pub fn profile_mut(&mut self) -> &mut Profile {
        &mut self.profile
    }

    /// Losses and gradients of the batch of an inner step: `tokens[batch, context + 1]`, in each row inputs and, shifted by one,
    /// targets. `grads`, of the layout's length, is overwritten with the gradient of the mean loss; `losses[batch · context]`
    /// with the loss of each token in nats, in order.
    ///
    /// The bits depend on `params` and `tokens` only: not on the path, the threads, or the size of micro-batches. Every loss is
    /// multiplied by `1 / (batch · context)`, divided in binary64 and rounded, before its gradient is taken.
    ///
    /// # Panics
    /// When a length does not fit, or a token is outside the vocabulary.
    pub fn inner_gradients(
        &mut self,
        exec: &Exec,
        params: &[f32],
        tokens: &[u32],
        grads: &mut [f32],
        losses: &mut [f32],
    ) {
        let context = self.shape.context;
        assert_eq!(params.len(), self.layout.total(), "parameters");
        assert_eq!(grads.len(), self.layout.total(), "gradients");
        assert!(tokens.len().is_multiple_of(context + 1), "{} tokens are no rows of {}", tokens.len(), context + 1);
        let batch = tokens.len() / (context + 1);
        assert_eq!(losses.len(), batch * context, "losses of {batch} sequences of {context}");
        let scale = (1.0 / losses.len() as f64) as f32;
        let rows = self.batch_max;
        // This thread works too, so it is tested like those of the pool.
        exec.install(|| {
            if losses.is_empty() {
                zero(exec, grads);
                zero(exec, &mut self.buffers.tied_head);
            }
            let micro_batches = tokens.chunks(rows * (context + 1)).zip(losses.chunks_mut(rows * context));
            for (index, (tokens, losses)) in micro_batches.enumerate() {
                if index == 0 {
                    self.start_gradients(exec, grads);
                }
                self.micro_batch(exec, params, tokens, (scale, index > 0), grads, losses);
            }
            if self.shape.tied {
                ops::add_assign(exec, &mut grads[self.layout.embedding()], &self.buffers.tied_head);
            }
        });
    }

    /// Fills with +0 what is added to from the first micro-batch on: all gradients but those of the matrices, which it overwrites.
    fn start_gradients(&self, exec: &Exec, grads: &mut [f32]) {
        zero(exec, &mut grads[self.layout.embedding()]);
        for range in self.blocks.iter().flat_map(|block| [&block.attention_norm, &block.ffn_norm]) {
            grads[range.clone()].fill(0.0);
        }
        grads[self.layout.final_norm()].fill(0.0);
    }

    /// Continues the chains of `grads` and of the tied head's gradient over some of the batch's sequences.
    fn micro_batch(
        &mut self,
        exec: &Exec,
        params: &[f32],
        tokens: &[u32],
        (grad_scale, continued): (f32, bool),
        grads: &mut [f32],
        losses: &mut [f32],
    ) {
        let seq = self.shape.context;
        let batch = tokens.len() / (seq + 1);
        let Model { shape, layout, blocks, rotary, profile, buffers, .. } = self;
        for (b, row) in tokens.chunks_exact(seq + 1).enumerate() {
            buffers.inputs[b * seq..][..seq].copy_from_slice(&row[..seq]);
            buffers.targets[b * seq..][..seq].copy_from_slice(&row[1..]);
        }
        let mut pass = Pass { exec, shape, rotary, profile, batch, seq, continued };
        forward(&mut pass, params, layout, blocks, buffers);

        let shared = buffers.shared.cut(shape, pass.tokens());
        let targets = &buffers.targets[..pass.tokens()];
        let head_range = layout.head();
        let head_gradient = if shape.tied { &mut buffers.tied_head[..] } else { &mut grads[head_range.clone()] };
        let gradient = HeadGradient { scale: grad_scale, normed: shared.narrow, head: head_gradient };
        let head = &params[head_range];
        head::losses_and_gradient(&mut pass, shared.normed, head, targets, &mut buffers.tile, losses, gradient);

        backward(&mut pass, params, layout, blocks, buffers, grads);
    }
}

/// From the token ids in `buffers` to the normed stream behind the last block.
fn forward(pass: &mut Pass<'_>, params: &[f32], layout: &ParamLayout, blocks: &[BlockRanges], buffers: &mut Buffers) {
    let (exec, shape, tokens) = (pass.exec, pass.shape, pass.tokens());
    let shared = buffers.shared.cut(shape, tokens);
    let inputs = &buffers.inputs[..tokens];
    let first = buffers.blocks[0].cut(shape, tokens);
    pass.profile.time(Operator::Embedding, || {
        ops::embedding_forward(exec, inputs, &params[layout.embedding()], first.stream);
    });
    pass.norm(first.stream, &params[blocks[0].attention_norm.clone()], first.attention_in, first.attention_rstd);
    let mut last = Some(NormedStream { stream: shared.stream, normed: shared.normed, rstd: shared.rstd });
    let mut rest = &mut buffers.blocks[..];
    for (layer, ranges) in blocks.iter().enumerate() {
        let Some((here, after)) = rest.split_first_mut() else { unreachable!("buffers for each block") };
        let (gains, next) = match (blocks.get(layer + 1), after.first_mut()) {
            (Some(ranges), Some(next)) => {
                let next = next.cut(shape, tokens);
                let normed = NormedStream { stream: next.stream, normed: next.attention_in, rstd: next.attention_rstd };
                (ranges.attention_norm.clone(), normed)
            }
            _ => {
                let Some(last) = last.take() else { unreachable!("one block is the last") };
                (layout.final_norm(), last)
            }
        };
        block::forward(pass, params, ranges, here.cut(shape, tokens), shared.narrow, (&params[gains], next));
        rest = after;
    }
}

/// From the gradient of the normed stream, in the shared `narrow` buffer, to that of every parameter but the head.
fn backward(
    pass: &mut Pass<'_>,
    params: &[f32],
    layout: &ParamLayout,
    blocks: &[BlockRanges],
    buffers: &mut Buffers,
    grads: &mut [f32],
) {
    let (exec, shape, tokens) = (pass.exec, pass.shape, pass.tokens());
    let shared = buffers.shared.cut(shape, tokens);
    let stream = buffers.gradient.cut(shape, tokens).stream;
    let gains = layout.final_norm();
    let dgains = &mut grads[gains.clone()];
    pass.norm_backward(shared.stream, &params[gains], shared.rstd, shared.narrow, stream, false, dgains);
    for (ranges, buffer) in blocks.iter().zip(&mut buffers.blocks).rev() {
        let (view, gradient) = (buffer.cut(shape, tokens), buffers.gradient.cut(shape, tokens));
        block::backward(pass, params, ranges, view, shared.narrow, gradient, grads);
    }
    let inputs = &buffers.inputs[..tokens];
    let stream = buffers.gradient.cut(shape, tokens).stream;
    pass.profile.time(Operator::Embedding, || {
        ops::embedding_backward(exec, inputs, stream, &mut grads[layout.embedding()]);
    });
}

/// Fills with +0, from which chains start.
fn zero(exec: &Exec, values: &mut [f32]) {
    /// Elements that one task fills.
    const TASK: usize = 1 << 18;
    exec.for_each_chunk(values, TASK, |_, chunk| chunk.fill(0.0));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::config;

    #[test]
    fn the_workspace_is_as_large_as_its_formula_says() {
        for (tied, batch) in [(false, 1), (true, 3)] {
            let config = config([64, 24, 3, 4, 2, 48, 16], tied);
            let Model { buffers, shape, .. } = Model::new(&config, batch);
            let floats = buffers.blocks.iter().map(BlockBuffers::elements).sum::<usize>()
                + buffers.shared.elements()
                + buffers.gradient.elements()
                + buffers.tile.len()
                + buffers.tied_head.len()
                + shape.context * shape.head_dim;
            let ids = buffers.inputs.len() + buffers.targets.len();
            assert_eq!(Model::workspace_bytes(&config, batch), 4 * (floats + ids) as u64);
        }
    }

    fn run(params: usize, tokens: usize, losses: usize, token: u32) {
        let mut model = Model::new(&config([64, 24, 1, 4, 2, 48, 4], false), 2);
        let total = model.layout().total();
        let (params, tokens) = (vec![0.0; total + params], vec![token; tokens]);
        let exec = Exec::detect(1).unwrap();
        model.inner_gradients(&exec, &params, &tokens, &mut vec![0.0; total], &mut vec![0.0; losses]);
    }

    #[test]
    fn lengths_that_fit_are_taken() {
        run(0, 15, 12, 63);
        run(0, 0, 0, 0);
    }

    #[test]
    #[should_panic(expected = "parameters")]
    fn another_number_of_parameters_is_a_bug() {
        run(1, 5, 4, 0);
    }

    #[test]
    #[should_panic(expected = "no rows of 5")]
    fn half_a_row_is_a_bug() {
        run(0, 7, 4, 0);
    }

    #[test]
    #[should_panic(expected = "losses of 1 sequences of 4")]
    fn another_number_of_losses_is_a_bug() {
        run(0, 5, 5, 0);
    }

    #[test]
    #[should_panic(expected = "outside the vocabulary of 64")]
    fn a_token_outside_the_vocabulary_is_a_bug() {
        run(0, 5, 4, 64);
    }
}
