//! [`DeviceInnerLoop`].

use super::clock::{Clock, DeviceTimes};
use super::model::{DeviceModel, Tokens};
use super::moments::Factors;
use super::optimizer::{self, Gate, MuonBuffers, State, Stretch};
use crate::config::{ModelShape, float64};
use crate::engine::StepError;
use crate::inner::{InnerResult, StepReport, adamw, check_batch, muon};
use crate::moments::MomentLayout;
use crate::params::ParamLayout;
use crate::round::{Base, RoundContext};
use crate::schedule::learning_rate;
use essaim_kernels::cuda::{Buffer, Device, DeviceError, ops};
use essaim_kernels::ops::sub;
use essaim_protocol::manifest::{Manifest, Optimizer};

/// What a step tells the host, in one buffer: the loss of each token, then the gradient's norm and the factor it was multiplied by.
#[derive(Debug)]
struct Outcome {
    buffer: Buffer<f32>,
    host: Vec<f32>,
}

impl Outcome {
    fn new(device: &Device, tokens: usize) -> Result<Outcome, DeviceError> {
        let len = outcome_len(tokens);
        Ok(Outcome { buffer: device.buffer(len)?, host: vec![0.0; len] })
    }

    /// Waits for the step; its losses and the gradient's norm.
    fn read(&mut self) -> Result<(&[f32], f32), DeviceError> {
        self.buffer.download(&mut self.host)?;
        let (losses, rest) = self.host.split_at(self.host.len() - 2);
        Ok((losses, rest[0]))
    }
}

/// Elements of an outcome.
pub(super) fn outcome_len(tokens: usize) -> usize {
    tokens + 2
}

/// A member's inner steps of one round on a device: what [`crate::inner::InnerLoop`] is on the CPU.
#[derive(Debug)]
pub struct DeviceInnerLoop<'a> {
    device: Device,
    context: RoundContext<'a>,
    base: &'a Base,
    base_tokens_total: u64,
    model: DeviceModel,
    moment_layout: MomentLayout,
    stretches: Vec<Stretch>,
    params: Buffer<f32>,
    grads: Buffer<f32>,
    momentum: Buffer<f32>,
    second: Buffer<f32>,
    factors: Factors,
    /// None when the optimiser is not Muon.
    muon: Option<MuonBuffers>,
    /// Inputs, then targets, of a batch.
    tokens: Buffer<u32>,
    tokens_host: Vec<u32>,
    outcome: Outcome,
    gate: Gate,
    clock: Clock,
    steps: u32,
    skipped: u32,
    loss_sum: f64,
}

impl<'a> DeviceInnerLoop<'a> {
    /// A loop that begins at `base`, whose record counts `base_tokens_total` tokens. It takes all of its memory
    /// ([`super::device_memory_bytes`]) here.
    ///
    /// # Errors
    /// When the device fails, or has too little memory.
    ///
    /// # Panics
    /// When `base` is of another model, or this thread fails the known-answer test.
    pub fn new(
        device: &Device,
        context: RoundContext<'a>,
        base: &'a Base,
        base_tokens_total: u64,
        micro_batch: u32,
    ) -> Result<DeviceInnerLoop<'a>, DeviceError> {
        // Scalars, tables and means are computed by this thread.
        context.exec.install(|| DeviceInnerLoop::begin(device, context, base, base_tokens_total, micro_batch))
    }

    fn begin(
        device: &Device,
        context: RoundContext<'a>,
        base: &'a Base,
        base_tokens_total: u64,
        micro_batch: u32,
    ) -> Result<DeviceInnerLoop<'a>, DeviceError> {
        let manifest = context.manifest;
        let micro_batch = micro_batch.clamp(1, manifest.inner.batch) as usize;
        let (layout, shape) = (ParamLayout::new(&manifest.model), ModelShape::from(&manifest.model));
        let total = layout.total();
        assert_eq!(base.params.len(), total, "a base of another model");
        let moment_layout = MomentLayout::new(&layout, manifest.inner.optimizer);
        let (mut factors, mut second) = (Factors::new(device, &moment_layout)?, device.buffer(moment_layout.full())?);
        factors.span(device, &moment_layout, &base.outer.moments, &mut second)?;
        let muon = match manifest.inner.optimizer {
            Optimizer::Muon => Some(MuonBuffers::new(device, &layout)?),
            Optimizer::AdamW => None,
        };
        let tokens = manifest.tokens_per_step() as usize;
        let mut momentum = device.buffer(total)?;
        ops::fill(device, momentum.view_mut(..), 0.0)?;
        Ok(DeviceInnerLoop {
            device: device.clone(),
            context,
            base,
            base_tokens_total,
            stretches: optimizer::stretches(&moment_layout),
            moment_layout,
            params: device.buffer_from(&base.params)?,
            grads: device.buffer(total)?,
            momentum,
            second,
            factors,
            muon,
            tokens: device.buffer(2 * tokens)?,
            tokens_host: vec![0; 2 * tokens],
            outcome: Outcome::new(device, tokens)?,
            gate: Gate::new(device, &layout)?,
            clock: Clock::default(),
            model: DeviceModel::new(device, layout, shape, micro_batch)?,
            steps: 0,
            skipped: 0,
            loss_sum: 0.0,
        })
    }

    /// One inner step on `tokens` (`[batch, context + 1]`: inputs and, shifted by one, targets).
    ///
    /// # Errors
    /// [`StepError`]. After a batch that is none of the run's nothing has happened; after a failure of the device the loop is of no use.
    pub fn step(&mut self, tokens: &[u32]) -> Result<StepReport, StepError> {
        let RoundContext { exec, manifest, .. } = self.context;
        check_batch(manifest, tokens)?;
        exec.install(|| self.run(manifest, tokens))
    }

    fn run(&mut self, manifest: &Manifest, tokens: &[u32]) -> Result<StepReport, StepError> {
        self.upload(manifest, tokens)?;
        self.gradients(manifest)?;
        self.steps += 1;
        let tokens_total = self.base_tokens_total.saturating_add(u64::from(self.steps) * manifest.tokens_per_step());
        let lr = learning_rate(&manifest.inner, tokens_total);
        self.update(manifest, lr)?;

        let (losses, grad_norm) = self.outcome.read()?;
        let loss_sum = losses.iter().fold(0.0f64, |sum, &loss| sum + f64::from(loss));
        // The device's flag says the same: the sum, in float64, is finite exactly when every loss is.
        let skipped = !(grad_norm.is_finite() && loss_sum.is_finite());
        let loss = loss_sum / losses.len() as f64;
        if skipped {
            self.skipped += 1;
        } else {
            self.loss_sum += loss_sum;
        }
        Ok(StepReport { loss, grad_norm, lr, skipped })
    }

    /// Inputs and targets, apart, in one transfer.
    fn upload(&mut self, manifest: &Manifest, tokens: &[u32]) -> Result<(), DeviceError> {
        let seq = manifest.model.context as usize;
        let (inputs, targets) = self.tokens_host.split_at_mut(manifest.tokens_per_step() as usize);
        let rows = inputs.chunks_exact_mut(seq).zip(targets.chunks_exact_mut(seq));
        for (row, (inputs, targets)) in tokens.chunks_exact(seq + 1).zip(rows) {
            inputs.copy_from_slice(&row[..seq]);
            targets.copy_from_slice(&row[1..]);
        }
        self.tokens.upload(&self.tokens_host)
    }

    /// Losses and gradients, the latter limited, and the decision whether the step counts.
    fn gradients(&mut self, manifest: &Manifest) -> Result<(), DeviceError> {
        let count = manifest.tokens_per_step() as usize;
        let (inputs, targets) = self.tokens.view(..).split_at(count);
        let (mut losses, norm_and_factor) = self.outcome.buffer.split_at_mut(count);
        let tokens = Tokens { inputs, targets };
        self.model.inner_gradients(self.params.view(..), tokens, &mut self.grads, losses.reborrow(), &self.clock)?;
        let clip_norm = float64(manifest.inner.clip_norm) as f32;
        self.clock.book(
            &self.device,
            |times, spent| times.clip += spent,
            || self.gate.clip(&self.device, &mut self.grads, losses.as_view(), clip_norm, norm_and_factor),
        )
    }

    /// The optimiser's update, which happens only if the step counts.
    fn update(&mut self, manifest: &Manifest, lr: f64) -> Result<(), DeviceError> {
        let inner = &manifest.inner;
        let updates = self.steps - self.skipped;
        let scalars = adamw::scalars(inner, lr, (!self.base.outer.seeded).then_some(updates));
        let mut state = State {
            params: &mut self.params,
            grads: &self.grads,
            momentum: &mut self.momentum,
            second: &mut self.second,
        };
        let flag = self.gate.flag();
        self.clock.book(
            &self.device,
            |times, spent| times.optimizer += spent,
            || {
                optimizer::adamw(&self.device, &self.stretches, &scalars, &mut state, flag)?;
                let scalars = muon::Scalars::new(inner, lr);
                match &mut self.muon {
                    Some(muon) => muon.update(&self.device, self.model.layout(), &scalars, &mut state, flag),
                    None => Ok(()),
                }
            },
        )
    }

    /// From now on, waits for each operator and keeps its time: steps become slower, their results stay the same.
    pub fn start_times(&mut self) {
        self.clock.start();
    }

    /// Where the time went since the last call, or since [`DeviceInnerLoop::start_times`].
    pub fn take_times(&mut self) -> DeviceTimes {
        self.clock.take()
    }

    /// Parameters so far.
    ///
    /// # Errors
    /// When the device fails.
    pub fn params(&self) -> Result<Vec<f32>, DeviceError> {
        let mut params = vec![0.0; self.params.len()];
        self.params.download(&mut params)?;
        Ok(params)
    }

    /// Inner steps so far, and how many of them were skipped.
    pub fn steps(&self) -> (u32, u32) {
        (self.steps, self.skipped)
    }

    /// What the inner steps so far came to.
    ///
    /// # Errors
    /// When the device fails.
    ///
    /// # Panics
    /// When this thread fails the known-answer test.
    pub fn finish(mut self) -> Result<InnerResult, DeviceError> {
        let exec = self.context.exec;
        let moments = self.factors.factor(&self.device, &self.moment_layout, &self.second)?;
        let params = self.params()?;
        let mut pseudo_gradient = vec![0.0; params.len()];
        exec.install(|| sub(exec, &self.base.params, &params, &mut pseudo_gradient));
        let per_step = self.context.manifest.tokens_per_step();
        let counted = u64::from(self.steps - self.skipped) * per_step;
        Ok(InnerResult {
            pseudo_gradient,
            moments,
            steps: self.steps,
            skipped: self.skipped,
            tokens: u64::from(self.steps) * per_step,
            loss: if counted == 0 { 0.0 } else { self.loss_sum / counted as f64 },
        })
    }
}
