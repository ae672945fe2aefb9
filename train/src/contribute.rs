//! A member's contribution to a round: inner steps on its assignment's data, then the update.

use crate::codec::{EncodeError, UpdateFormat};
use crate::engine::{AnyInnerLoop, Engine, StepError};
use crate::inner::{BatchError, StepReport};
use crate::round::{Base, RoundContext};
use essaim_kernels::cuda::DeviceError;
use essaim_protocol::ids::{Hash, MemberId};
use essaim_protocol::manifest::F64Bits;
use std::error::Error;
use std::ops::ControlFlow;

/// Where batches come from: called with the number of the member's inner step, from 0, it gives `[batch, context + 1]` tokens.
pub type UnitSource<'a> = dyn FnMut(u32) -> Result<Vec<u32>, Box<dyn Error + Send + Sync>> + 'a;

/// What a member has to do in a round.
#[derive(Debug, Clone, Copy)]
pub struct Work<'a> {
    /// Which round of which run, and the threads.
    pub context: RoundContext<'a>,
    /// Where the inner steps run. No bit depends on it.
    pub engine: Engine<'a>,
    /// The member.
    pub member: MemberId,
    /// What the round starts from.
    pub base: &'a Base,
    /// Tokens that the record before counts.
    pub base_tokens_total: u64,
    /// Inner steps assigned.
    pub steps: u32,
    /// Sequences that go through the model at once. It decides memory and speed, and no bit.
    pub micro_batch: u32,
}

/// How far a member is in its assignment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Progress {
    /// Inner steps done.
    pub steps: u32,
    /// Inner steps assigned.
    pub of: u32,
    /// Inner steps skipped.
    pub skipped: u32,
    /// Tokens trained on.
    pub tokens: u64,
    /// The last inner step.
    pub last: Option<StepReport>,
}

/// A contribution: what the claim says, and the update.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contributed {
    /// The update.
    pub update: Vec<u8>,
    /// Its hash.
    pub update_hash: Hash,
    /// Inner steps done.
    pub steps: u32,
    /// Of these, skipped.
    pub skipped: u32,
    /// Tokens trained on.
    pub tokens: u64,
    /// Mean loss over these tokens, nats.
    pub loss: F64Bits,
}

/// Why there is no contribution.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ContributeError {
    /// Stopped before the first inner step was done, or none was assigned.
    #[error("stopped before the first inner step was done: there is nothing to claim")]
    NothingDone,
    /// The data of an inner step could not be had.
    #[error("data of inner step {step}: {source}")]
    Data {
        /// Which inner step of the member, from 0.
        step: u32,
        /// Why.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The data of an inner step is none of the run's.
    #[error("data of inner step {step}: {source}")]
    Batch {
        /// Which inner step of the member, from 0.
        step: u32,
        /// What is wrong.
        source: BatchError,
    },
    /// The device that was to do the inner steps failed: the round's work is lost, and nothing is wrong with the data or with a peer.
    #[error("the device failed, and the inner steps of the round are lost: {0}")]
    Device(#[from] DeviceError),
    /// The pseudo-gradient is not finite.
    #[error(transparent)]
    Encode(#[from] EncodeError),
}

/// Does the inner steps of `work` and encodes the update. Before each inner step `proceed` learns how far it is; when it breaks, the
/// inner steps done so far are the contribution, as any prefix of an assignment counts.
///
/// # Errors
/// [`ContributeError`].
///
/// # Panics
/// When the base is of another model.
pub fn contribute(
    work: &Work<'_>,
    units: &mut UnitSource<'_>,
    proceed: &mut dyn FnMut(&Progress) -> ControlFlow<()>,
) -> Result<Contributed, ContributeError> {
    let RoundContext { exec, manifest, .. } = work.context;
    let mut inner = AnyInnerLoop::new(work.engine, work.context, work.base, work.base_tokens_total, work.micro_batch)?;
    let mut progress = Progress { steps: 0, of: work.steps, skipped: 0, tokens: 0, last: None };
    while progress.steps < work.steps && proceed(&progress).is_continue() {
        let step = progress.steps;
        let tokens = units(step).map_err(|source| ContributeError::Data { step, source })?;
        let report = inner.step(&tokens).map_err(|error| match error {
            StepError::Batch(source) => ContributeError::Batch { step, source },
            StepError::Device(error) => ContributeError::Device(error),
        })?;
        progress.steps += 1;
        progress.skipped += u32::from(report.skipped);
        progress.tokens += manifest.tokens_per_step();
        progress.last = Some(report);
    }
    if progress.steps == 0 {
        return Err(ContributeError::NothingDone);
    }
    let result = inner.finish()?;
    let header = work.context.header(work.member);
    let update = UpdateFormat::of(manifest).encode(exec, &header, &result.pseudo_gradient, &result.moments)?;
    Ok(Contributed {
        update_hash: Hash::of(&update),
        update,
        steps: result.steps,
        skipped: result.skipped,
        tokens: result.tokens,
        loss: F64Bits(result.loss.to_bits()),
    })
}
