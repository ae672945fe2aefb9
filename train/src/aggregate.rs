//! From a round's updates to the next checkpoint.
//!
//! Everything is computed with additions, multiplications, divisions and square roots, each rounded once, in the order of the members' ids,
//! so that the result is the same on every machine and a browser could compute it. However many updates there are, memory holds
//! one of them and one vector of parameters beside the model and the outer state.
//!
//! **Definition.** Let the contributions, by rising member id, have tokens `w[i]` with sum `W`, and updates of norm `n[i]`.
//! - The median `m` is the norm at place `(count - 1) / 2`, rounded down, of the norms in rising order.
//! - `clip[i] = m / n[i]` where the run clips to the median and `n[i] > m`, else 1; `a[i] = float32((w[i] / W) * clip[i])`, in float64.
//! - For every parameter, `g = +0`, then for each contribution `g = g + a[i] * (scale * q)`.
//! - For every second moment, `s = +0`, then for each contribution `s = s + float32(w[i] / W) * moment`.
//! - Outer momentum `b = mu * b + g`, parameter `p = p - lr * (g + mu * b)`, with the manifest's values rounded to float32.
//!
//! Without contributions, checkpoint and outer state stay as they are.

use crate::codec::{Update, UpdateError, UpdateFormat};
use crate::config::float64;
use crate::round::{Base, RoundContext};
use crate::schedule::share;
use essaim_kernels::Exec;
use essaim_kernels::ops::{NesterovScalars, nesterov_update};
use essaim_protocol::ids::{Hash, MemberId};
use essaim_protocol::statements::Contribution;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

/// Where a round's updates come from: called with a contribution, twice for each, it gives the update's bytes.
pub type Fetch<'a> = dyn FnMut(&Contribution) -> io::Result<Vec<u8>> + 'a;

/// What the updates of a round were like.
#[derive(Debug, Clone, PartialEq)]
pub struct RoundNorms {
    /// Norms of the updates, in the order of the contributions.
    pub norms: Vec<f64>,
    /// Their median; 0 without contributions.
    pub median: f64,
}

/// Why a round has no next checkpoint. Model and outer state are then as they were.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AggregateError {
    /// The contributions are not by rising member id.
    #[error("contributions out of order at member {member}")]
    Order {
        /// The member that comes too late.
        member: MemberId,
    },
    /// A contribution without tokens, or more tokens than a run can have.
    #[error("the contribution of member {member} has an impossible number of tokens")]
    Weight {
        /// Whose.
        member: MemberId,
    },
    /// An update could not be had.
    #[error("update of member {member}: {source}")]
    Fetch {
        /// Whose.
        member: MemberId,
        /// Why.
        source: io::Error,
    },
    /// An update is not the one that the record names.
    #[error("update of member {member} has hash {got}, the record says {expected}")]
    Hash {
        /// Whose.
        member: MemberId,
        /// Hash of the bytes.
        got: Hash,
        /// Hash in the record.
        expected: Hash,
    },
    /// An update is malformed or not finite.
    #[error("update of member {member}: {source}")]
    Update {
        /// Whose.
        member: MemberId,
        /// What is wrong.
        source: UpdateError,
    },
    /// The next checkpoint or outer state would hold a value that is not finite.
    #[error("the next checkpoint would hold values that are not finite; such a round is invalid")]
    NonFinite,
}

/// Turns `base` (checkpoint and outer state of round `context.round - 1`) into those of `context.round`, whose contributions are given.
///
/// # Errors
/// [`AggregateError`]; `base` is then unchanged.
///
/// # Panics
/// When `base` is of another model, or this thread fails the known-answer test.
pub fn next_checkpoint(
    context: &RoundContext<'_>,
    contributions: &[Contribution],
    fetch: &mut Fetch<'_>,
    base: &mut Base,
) -> Result<RoundNorms, AggregateError> {
    // This thread, which need not be the one that made `exec`, works too, so it is tested like those of the pool.
    context.exec.install(|| aggregate(context, contributions, fetch, base))
}

fn aggregate(
    context: &RoundContext<'_>,
    contributions: &[Contribution],
    fetch: &mut Fetch<'_>,
    base: &mut Base,
) -> Result<RoundNorms, AggregateError> {
    let RoundContext { exec, manifest, .. } = *context;
    let format = UpdateFormat::of(manifest);
    assert_eq!(base.params.len(), format.parameters(), "parameters of another model");
    let mut updates = Updates { context, format: &format, fetch };
    let total = total_tokens(contributions)?;
    let norms = updates.norms(contributions)?;
    if contributions.is_empty() {
        return Ok(norms);
    }
    let mut gradient = vec![0.0f32; format.parameters()];
    let mut moments = vec![0.0f32; format.moments()];
    for (contribution, &norm) in contributions.iter().zip(&norms.norms) {
        let clip = if manifest.outer.clip_to_median && norm > norms.median { norms.median / norm } else { 1.0 };
        let weight = ((contribution.tokens as f64 / total as f64) * clip) as f32;
        updates.with(contribution, &mut |update| {
            update.accumulate(exec, weight, &mut gradient);
            update.accumulate_moments(share(contribution.tokens, total), &mut moments);
        })?;
    }
    let outer = &manifest.outer;
    let scalars = NesterovScalars { lr: float64(outer.lr) as f32, mu: float64(outer.momentum) as f32 };
    if !moments.iter().all(|value| value.is_finite()) || !stays_finite(exec, base, &gradient, &scalars) {
        return Err(AggregateError::NonFinite);
    }
    nesterov_update(exec, &mut base.params, &gradient, &mut base.outer.momentum, &scalars);
    base.outer.moments = moments;
    base.outer.seeded = true;
    Ok(norms)
}

/// Checks bytes as the update of a member, without using them, and gives its norm: what an operator does before it includes a claim.
///
/// # Errors
/// [`UpdateError`], whose [`UpdateError::refusal`] is the reason for the record.
pub fn check_update(context: &RoundContext<'_>, member: MemberId, bytes: &[u8]) -> Result<f64, UpdateError> {
    let format = UpdateFormat::of(context.manifest);
    Ok(Update::open(context.exec, bytes, &format, &context.header(member))?.norm())
}

fn total_tokens(contributions: &[Contribution]) -> Result<u64, AggregateError> {
    if let Some([_, late]) = contributions.array_windows().find(|[a, b]| a.member >= b.member) {
        return Err(AggregateError::Order { member: late.member });
    }
    contributions.iter().try_fold(0u64, |total, contribution| {
        let sum = total.checked_add(contribution.tokens).filter(|_| contribution.tokens > 0);
        sum.ok_or(AggregateError::Weight { member: contribution.member })
    })
}

/// A round's updates, one at a time.
struct Updates<'a, 'f> {
    context: &'a RoundContext<'a>,
    format: &'a UpdateFormat,
    fetch: &'a mut Fetch<'f>,
}

impl Updates<'_, '_> {
    /// First pass: the norms.
    fn norms(&mut self, contributions: &[Contribution]) -> Result<RoundNorms, AggregateError> {
        let mut norms = Vec::with_capacity(contributions.len());
        for contribution in contributions {
            self.with(contribution, &mut |update| norms.push(update.norm()))?;
        }
        let mut sorted = norms.clone();
        sorted.sort_unstable_by(f64::total_cmp);
        let median = sorted.get(sorted.len().saturating_sub(1) / 2).copied().unwrap_or(0.0);
        Ok(RoundNorms { norms, median })
    }

    fn with(&mut self, contribution: &Contribution, work: &mut dyn FnMut(&Update<'_>)) -> Result<(), AggregateError> {
        let member = contribution.member;
        let bytes = (self.fetch)(contribution).map_err(|source| AggregateError::Fetch { member, source })?;
        let got = Hash::of(&bytes);
        if got != contribution.update {
            return Err(AggregateError::Hash { member, got, expected: contribution.update });
        }
        let update = Update::open(self.context.exec, &bytes, self.format, &self.context.header(member))
            .map_err(|source| AggregateError::Update { member, source })?;
        work(&update);
        Ok(())
    }
}

/// Whether [`nesterov_update`] leaves every parameter and momentum finite.
fn stays_finite(exec: &Exec, base: &Base, gradient: &[f32], scalars: &NesterovScalars) -> bool {
    const TASK: usize = 1 << 16;
    let NesterovScalars { lr, mu } = *scalars;
    let (params, momentum) = (&base.params, &base.outer.momentum);
    let finite = AtomicBool::new(true);
    exec.for_each_task(params.len().div_ceil(TASK), |task| {
        let range = task * TASK..((task + 1) * TASK).min(params.len());
        let values = params[range.clone()].iter().zip(&gradient[range.clone()]).zip(&momentum[range]);
        let all = values.fold(true, |all, ((p, g), b)| {
            let b = mu * b + g;
            all & b.is_finite() & (p - lr * (g + mu * b)).is_finite()
        });
        if !all {
            finite.store(false, Ordering::Relaxed);
        }
    });
    finite.into_inner()
}
