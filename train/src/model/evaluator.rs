//! The model without its backward pass: losses of one sequence, and the logits that follow it.

use super::block;
use super::head;
use super::pass::{NormedStream, Pass, Rotary};
use super::profile::{Operator, Profile};
use super::workspace::{self, BlockBuffers, SharedBuffers};
use crate::config::ModelShape;
use crate::params::{BlockRanges, ParamLayout};
use essaim_kernels::{Exec, ops, row_stride};
use essaim_protocol::manifest::ModelConfig;

/// A Llama with the buffers to run one sequence forward: those of a single layer, which all layers share.
#[derive(Debug)]
pub struct Evaluator {
    shape: ModelShape,
    layout: ParamLayout,
    blocks: Vec<BlockRanges>,
    rotary: Rotary,
    profile: Profile,
    block: BlockBuffers,
    shared: SharedBuffers,
    tile: Vec<f32>,
}

impl Evaluator {
    /// An evaluator for sequences of up to `context` tokens.
    ///
    /// # Panics
    /// When [`ModelConfig::check`] refuses `config`.
    pub fn new(config: &ModelConfig) -> Evaluator {
        let shape = ModelShape::from(config);
        let layout = ParamLayout::new(config);
        Evaluator {
            blocks: (0..shape.layers).map(|layer| layout.block(layer)).collect(),
            rotary: Rotary::new(&shape),
            profile: Profile::default(),
            block: BlockBuffers::new(&shape, shape.context),
            shared: SharedBuffers::new(&shape, shape.context),
            tile: vec![0.0; workspace::tile_tokens(&shape, shape.context) * row_stride(shape.vocab)],
            shape,
            layout,
        }
    }

    /// The model's lengths.
    pub fn shape(&self) -> &ModelShape {
        &self.shape
    }

    /// Elements of the parameters.
    pub fn parameter_count(&self) -> usize {
        self.layout.total()
    }

    /// The losses, in nats, of predicting `targets[i]` after `inputs[..= i]`; positions start at 0. From 1 to `context` tokens.
    ///
    /// # Panics
    /// When a length does not fit, or a token is outside the vocabulary.
    pub fn losses(&mut self, exec: &Exec, params: &[f32], inputs: &[u32], targets: &[u32], losses: &mut [f32]) {
        assert_eq!(inputs.len(), targets.len(), "inputs and targets");
        assert_eq!(inputs.len(), losses.len(), "inputs and losses");
        self.run(exec, params, inputs, |pass, normed, head, tile| {
            head::losses(pass, normed, head, targets, tile, losses);
        });
    }

    /// The logits `[vocab]` of the token after `inputs`; from 1 to `context` tokens.
    ///
    /// # Panics
    /// When a length does not fit, or a token is outside the vocabulary.
    pub fn logits(&mut self, exec: &Exec, params: &[f32], inputs: &[u32], logits: &mut [f32]) {
        assert_eq!(logits.len(), self.shape.vocab, "logits");
        let d = self.shape.d_model;
        self.run(exec, params, inputs, |pass, normed, head, _| {
            head::logits(pass, &normed[normed.len() - d..], head, logits);
        });
    }

    /// Runs `inputs` through the blocks and the last norm, then `finish(pass, normed, head, tile)`.
    fn run(
        &mut self,
        exec: &Exec,
        params: &[f32],
        inputs: &[u32],
        finish: impl FnOnce(&mut Pass<'_>, &[f32], &[f32], &mut [f32]) + Send,
    ) {
        let Evaluator { shape, layout, blocks, rotary, profile, block, shared, tile } = self;
        let seq = inputs.len();
        assert!((1..=shape.context).contains(&seq), "{seq} tokens, the context is {}", shape.context);
        assert_eq!(params.len(), layout.total(), "parameters");
        exec.install(|| {
            let mut pass = Pass { exec, shape, rotary, profile, batch: 1, seq, continued: false };
            let shared = shared.cut(shape, seq);
            let embedding = &params[layout.embedding()];
            pass.profile.time(Operator::Embedding, || ops::embedding_forward(exec, inputs, embedding, shared.stream));
            pass.norm(shared.stream, &params[blocks[0].attention_norm.clone()], shared.normed, shared.rstd);
            for (layer, ranges) in blocks.iter().enumerate() {
                let view = block.cut(shape, seq);
                view.stream.copy_from_slice(shared.stream);
                view.attention_in.copy_from_slice(shared.normed);
                let gains = blocks.get(layer + 1).map_or(layout.final_norm(), |next| next.attention_norm.clone());
                let next = NormedStream { stream: shared.stream, normed: shared.normed, rstd: shared.rstd };
                block::forward(&mut pass, params, ranges, view, shared.narrow, (&params[gains], next));
            }
            finish(&mut pass, shared.normed, &params[layout.head()], tile);
        });
    }
}
