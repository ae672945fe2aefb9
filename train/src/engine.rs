//! Where inner steps run: on the CPU, or on a device. No bit depends on it.

use crate::device::DeviceInnerLoop;
use crate::inner::{BatchError, InnerLoop, InnerResult, StepReport};
use crate::round::{Base, RoundContext};
use essaim_kernels::cuda::{Device, DeviceError};

/// Where the inner steps of a round run.
#[derive(Debug, Clone, Copy, Default)]
pub enum Engine<'a> {
    /// On the threads of the round's context.
    #[default]
    Cpu,
    /// On a device; what is around the inner steps stays on the threads.
    Device(&'a Device),
}

/// Why an inner step was not done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StepError {
    /// The batch is none of the run's.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// The device failed: the inner steps so far are lost.
    #[error(transparent)]
    Device(#[from] DeviceError),
}

/// A member's inner steps of one round, on either engine.
#[derive(Debug)]
pub enum AnyInnerLoop<'a> {
    /// On the CPU.
    Cpu(Box<InnerLoop<'a>>),
    /// On a device.
    Device(Box<DeviceInnerLoop<'a>>),
}

impl<'a> AnyInnerLoop<'a> {
    /// As [`InnerLoop::new`] and [`DeviceInnerLoop::new`].
    ///
    /// # Errors
    /// When the device fails, or has too little memory.
    ///
    /// # Panics
    /// When `base` is of another model.
    pub fn new(
        engine: Engine<'_>,
        context: RoundContext<'a>,
        base: &'a Base,
        base_tokens_total: u64,
        micro_batch: u32,
    ) -> Result<AnyInnerLoop<'a>, DeviceError> {
        Ok(match engine {
            Engine::Cpu => AnyInnerLoop::Cpu(Box::new(InnerLoop::new(context, base, base_tokens_total, micro_batch))),
            Engine::Device(device) => {
                let inner = DeviceInnerLoop::new(device, context, base, base_tokens_total, micro_batch)?;
                AnyInnerLoop::Device(Box::new(inner))
            }
        })
    }

    /// One inner step on `tokens` (`[batch, context + 1]`).
    ///
    /// # Errors
    /// [`StepError`].
    pub fn step(&mut self, tokens: &[u32]) -> Result<StepReport, StepError> {
        match self {
            AnyInnerLoop::Cpu(inner) => Ok(inner.step(tokens)?),
            AnyInnerLoop::Device(inner) => inner.step(tokens),
        }
    }

    /// Parameters so far.
    ///
    /// # Errors
    /// When the device fails.
    pub fn params(&self) -> Result<Vec<f32>, DeviceError> {
        match self {
            AnyInnerLoop::Cpu(inner) => Ok(inner.params().to_vec()),
            AnyInnerLoop::Device(inner) => inner.params(),
        }
    }

    /// What the inner steps so far came to.
    ///
    /// # Errors
    /// When the device fails.
    pub fn finish(self) -> Result<InnerResult, DeviceError> {
        match self {
            AnyInnerLoop::Cpu(inner) => Ok(inner.finish()),
            AnyInnerLoop::Device(inner) => inner.finish(),
        }
    }
}
