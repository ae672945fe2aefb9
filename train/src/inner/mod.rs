//! The inner loop: what a member does between two checkpoints.
//!
//! The state of the inner optimiser begins anew each round, from public values only: momentum from zero, without bias correction; second
//! moments from the outer state (see [`crate::moments`]). So a contribution is a pure function of base, outer state and data.
//!
//! **An inner step**, number `i` of the member in the round, from 0:
//! 1. Gradients and losses of the batch ([`Model::inner_gradients`]).
//! 2. The gradient's norm: the square root of the sum, tensor after tensor, of [`reduce::sum_squares`], in float32.
//! 3. When the norm or the sum of the losses (float64, in order of the tokens) is not finite, the step is *skipped*: nothing
//!    changes but the count. It still uses up its data and its place in the schedule.
//! 4. When the norm exceeds the limit `c`, gradients are multiplied by `c / norm`.
//! 5. The learning rate is [`learning_rate`] after the tokens of the base's record and those of the member's inner steps up to this one.
//! 6. AdamW updates its tensors ([`adamw`]), and Muon the hidden matrices ([`muon`]).

pub(crate) mod adamw;
pub(crate) mod muon;

use crate::codec::UpdateFormat;
use crate::config::float64;
use crate::model::Model;
use crate::moments::MomentLayout;
use crate::params::ParamLayout;
use crate::round::{Base, RoundContext};
use crate::schedule::learning_rate;
use essaim_kernels::{Exec, ops, reduce};
use essaim_protocol::manifest::{Manifest, Optimizer};

/// What one inner step came to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepReport {
    /// Mean loss over the batch's tokens, before the step, nats.
    pub loss: f64,
    /// The gradient's norm before it was limited.
    pub grad_norm: f32,
    /// The learning rate.
    pub lr: f64,
    /// Whether nothing was changed, since the norm or the loss is not finite.
    pub skipped: bool,
}

/// What a member's inner steps came to.
#[derive(Debug, Clone, PartialEq)]
pub struct InnerResult {
    /// Base minus parameters.
    pub pseudo_gradient: Vec<f32>,
    /// Second moments at the end, factored.
    pub moments: Vec<f32>,
    /// Inner steps, skipped ones included.
    pub steps: u32,
    /// Of these, skipped.
    pub skipped: u32,
    /// Tokens of the inner steps, skipped ones included.
    pub tokens: u64,
    /// Mean loss over the tokens of the inner steps that were not skipped, nats: a float64 sum in their order, divided once; 0 when all
    /// were skipped.
    pub loss: f64,
}

/// A batch that is none of the run's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BatchError {
    /// Not `batch * (context + 1)` tokens.
    #[error("a batch of {got} tokens, the run's have {expected}")]
    Length {
        /// Tokens given.
        got: usize,
        /// Tokens of every batch of the run.
        expected: usize,
    },
    /// A token that the model does not know.
    #[error("a batch with token {token}, where all are below {vocab_size}")]
    Token {
        /// The token.
        token: u32,
        /// The first that is too large.
        vocab_size: u32,
    },
}

/// Memory of an inner loop whose batches are cut into micro-batches of `micro_batch` sequences, with its base and its update: the base's
/// parameters and momentum, parameters, gradients, first moments (each 4 bytes a parameter), second moments of the tensors that AdamW
/// updates, Newton–Schulz's buffers, the update, the model's workspace, and what the kernels keep for themselves on `threads` threads.
pub fn memory_bytes(manifest: &Manifest, micro_batch: u32, threads: usize) -> u64 {
    let layout = ParamLayout::new(&manifest.model);
    let moments = MomentLayout::new(&layout, manifest.inner.optimizer);
    let values = 5 * layout.total() + moments.full() + 2 * moments.factored() + muon::buffer_len(&layout);
    let update_len_bytes = UpdateFormat::of(manifest).len_bytes();
    let (model, micro_batch) = (&manifest.model, micro_batch as usize);
    let mut scratch = Model::scratch_size(model, micro_batch);
    if manifest.inner.optimizer == Optimizer::Muon {
        scratch = scratch.or(muon::scratch_size(&layout));
    }
    4 * values as u64 + update_len_bytes as u64 + Model::workspace_bytes(model, micro_batch) + scratch.bytes(threads)
}

/// The largest micro-batch whose inner loop on `threads` threads fits in `memory_bytes`; none when not even one sequence does.
pub fn micro_batch_for(manifest: &Manifest, memory_bytes: u64, threads: usize) -> Option<u32> {
    let fits = |micro_batch: &u32| self::memory_bytes(manifest, *micro_batch, threads) <= memory_bytes;
    (1..=manifest.inner.batch).rev().find(fits)
}

/// A member's inner steps of one round.
#[derive(Debug)]
pub struct InnerLoop<'a> {
    context: RoundContext<'a>,
    base: &'a Base,
    base_tokens_total: u64,
    model: Model,
    moment_layout: MomentLayout,
    params: Vec<f32>,
    grads: Vec<f32>,
    losses: Vec<f32>,
    /// Sums of squares of each tensor's gradient.
    squares: Vec<f32>,
    /// First moments of AdamW, momentum of Muon.
    momentum: Vec<f32>,
    second: Vec<f32>,
    muon: muon::Buffers,
    steps: u32,
    skipped: u32,
    loss_sum: f64,
}

impl<'a> InnerLoop<'a> {
    /// A loop that begins at `base`, whose record counts `base_tokens_total` tokens. Batches are cut into micro-batches of
    /// `micro_batch` sequences, which changes memory and speed, and no bit.
    ///
    /// # Panics
    /// When `base` is of another model, or this thread fails the known-answer test.
    pub fn new(context: RoundContext<'a>, base: &'a Base, base_tokens_total: u64, micro_batch: u32) -> InnerLoop<'a> {
        context.exec.install(|| InnerLoop::begin(context, base, base_tokens_total, micro_batch))
    }

    fn begin(context: RoundContext<'a>, base: &'a Base, base_tokens_total: u64, micro_batch: u32) -> InnerLoop<'a> {
        let RoundContext { exec, manifest, .. } = context;
        let micro_batch = micro_batch.clamp(1, manifest.inner.batch) as usize;
        let model = Model::new(&manifest.model, micro_batch);
        let total = model.layout().total();
        assert_eq!(base.params.len(), total, "a base of another model");
        let moment_layout = MomentLayout::new(model.layout(), manifest.inner.optimizer);
        let mut second = vec![0.0; moment_layout.full()];
        moment_layout.span(exec, &base.outer.moments, &mut second);
        let muon = match manifest.inner.optimizer {
            Optimizer::Muon => muon::Buffers::new(model.layout()),
            Optimizer::AdamW => muon::Buffers::default(),
        };
        let tokens = manifest.tokens_per_step() as usize;
        InnerLoop {
            context,
            base,
            base_tokens_total,
            params: base.params.clone(),
            grads: vec![0.0; total],
            losses: vec![0.0; tokens],
            squares: vec![0.0; model.layout().tensors().len()],
            momentum: vec![0.0; total],
            second,
            muon,
            moment_layout,
            model,
            steps: 0,
            skipped: 0,
            loss_sum: 0.0,
        }
    }

    /// One inner step on `tokens` (`[batch, context + 1]`: inputs and, shifted by one, targets).
    ///
    /// # Errors
    /// [`BatchError`]; nothing has then happened.
    pub fn step(&mut self, tokens: &[u32]) -> Result<StepReport, BatchError> {
        let RoundContext { exec, manifest, .. } = self.context;
        check_batch(manifest, tokens)?;
        // This thread works too, so it is tested like those of the pool.
        Ok(exec.install(|| self.run(exec, manifest, tokens)))
    }

    fn run(&mut self, exec: &Exec, manifest: &Manifest, tokens: &[u32]) -> StepReport {
        let inner = &manifest.inner;
        self.model.inner_gradients(exec, &self.params, tokens, &mut self.grads, &mut self.losses);
        let grad_norm = self.grad_norm(exec);
        let loss_sum = self.losses.iter().fold(0.0f64, |sum, &loss| sum + f64::from(loss));
        self.steps += 1;
        let tokens_total = self.base_tokens_total.saturating_add(u64::from(self.steps) * manifest.tokens_per_step());
        let lr = learning_rate(inner, tokens_total);
        let skipped = !(grad_norm.is_finite() && loss_sum.is_finite());
        let report = StepReport { loss: loss_sum / self.losses.len() as f64, grad_norm, lr, skipped };
        if skipped {
            self.skipped += 1;
            return report;
        }
        self.loss_sum += loss_sum;
        let clip_norm = float64(inner.clip_norm) as f32;
        if grad_norm > clip_norm {
            ops::scale(exec, &mut self.grads, clip_norm / grad_norm);
        }
        let updates = self.steps - self.skipped;
        let scalars = adamw::scalars(inner, lr, (!self.base.outer.seeded).then_some(updates));
        adamw::update(
            exec,
            &self.moment_layout,
            &scalars,
            &mut self.params,
            &self.grads,
            &mut self.momentum,
            &mut self.second,
        );
        if inner.optimizer == Optimizer::Muon {
            let scalars = muon::Scalars::new(inner, lr);
            let tensors = muon::matrices(self.model.layout());
            for tensor in tensors {
                let range = tensor.range();
                let (params, momentum) = (&mut self.params[range.clone()], &mut self.momentum[range.clone()]);
                self.muon.update(exec, &scalars, [tensor.rows, tensor.cols], params, &self.grads[range], momentum);
            }
        }
        report
    }

    fn grad_norm(&mut self, exec: &Exec) -> f32 {
        let tensors = self.model.layout().tensors();
        let grads = &self.grads;
        exec.for_each_chunk(&mut self.squares, 1, |index, square| {
            square[0] = reduce::sum_squares(exec, &grads[tensors[index].range()]);
        });
        self.squares.iter().fold(0.0f32, |sum, square| sum + square).sqrt()
    }

    /// Parameters so far.
    pub fn params(&self) -> &[f32] {
        &self.params
    }

    /// Inner steps so far, and how many of them were skipped.
    pub fn steps(&self) -> (u32, u32) {
        (self.steps, self.skipped)
    }

    /// What the inner steps so far came to.
    ///
    /// # Panics
    /// When this thread fails the known-answer test.
    pub fn finish(self) -> InnerResult {
        let exec = self.context.exec;
        let mut moments = vec![0.0; self.moment_layout.factored()];
        let mut pseudo_gradient = self.grads;
        // The thread that ends a loop need not be the one that did its steps.
        exec.install(|| {
            self.moment_layout.factor(exec, &self.second, &mut moments);
            ops::sub(exec, &self.base.params, &self.params, &mut pseudo_gradient);
        });
        let per_step = self.context.manifest.tokens_per_step();
        let counted = u64::from(self.steps - self.skipped) * per_step;
        InnerResult {
            pseudo_gradient,
            moments,
            steps: self.steps,
            skipped: self.skipped,
            tokens: u64::from(self.steps) * per_step,
            loss: if counted == 0 { 0.0 } else { self.loss_sum / counted as f64 },
        }
    }
}

pub(crate) fn check_batch(manifest: &Manifest, tokens: &[u32]) -> Result<(), BatchError> {
    let expected = manifest.inner.batch as usize * (manifest.model.context as usize + 1);
    if tokens.len() != expected {
        return Err(BatchError::Length { got: tokens.len(), expected });
    }
    let vocab_size = manifest.model.vocab_size;
    match tokens.iter().find(|&&token| token >= vocab_size) {
        Some(&token) => Err(BatchError::Token { token, vocab_size }),
        None => Ok(()),
    }
}
