//! Replay: doing a contribution again, from public inputs, and comparing bits.

use crate::contribute::{ContributeError, Contributed, UnitSource, Work, contribute};
use essaim_protocol::statements::Contribution;
use std::ops::ControlFlow;

/// Why a replay does not confirm a contribution.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// The replay came to something else: the contribution is not what its inputs give.
    #[error("replay of member {} gives {field} {got}, the record says {expected}", .contribution.member)]
    Differs {
        /// Which field.
        field: &'static str,
        /// What the replay gives.
        got: String,
        /// What the record says.
        expected: String,
        /// The contribution.
        contribution: Box<Contribution>,
    },
    /// The replay could not be done.
    #[error("replay of member {}: {source}", .contribution.member)]
    Undone {
        /// Why.
        source: ContributeError,
        /// The contribution.
        contribution: Box<Contribution>,
    },
}

impl ReplayError {
    /// Whether the replay contradicts the record; else something was missing.
    pub fn contradicts(&self) -> bool {
        match self {
            ReplayError::Differs { .. } => true,
            // Data that cannot be had and a device that fails say nothing about the contribution. Otherwise the record includes an update,
            // and these inputs have none.
            ReplayError::Undone { source, .. } => {
                !matches!(source, ContributeError::Data { .. } | ContributeError::Device(_))
            }
        }
    }
}

/// Does the inner steps of `contribution` again and compares. `work` is that of its member and round; its number of inner steps is
/// taken from the contribution, since a prefix of an assignment counts. Returns what was made: the very update, and how many steps
/// were skipped, for comparison with the claim.
///
/// # Errors
/// [`ReplayError`].
///
/// # Panics
/// When the base is of another model.
pub fn replay(
    work: &Work<'_>,
    units: &mut UnitSource<'_>,
    contribution: &Contribution,
) -> Result<Contributed, ReplayError> {
    let work = Work { steps: contribution.steps, member: contribution.member, ..*work };
    let done = contribute(&work, units, &mut |_| ControlFlow::Continue(()));
    let done = done.map_err(|source| ReplayError::Undone { source, contribution: Box::new(contribution.clone()) })?;
    let loss = |bits: u64| format!("{:?}", f64::from_bits(bits));
    let pairs = [
        ("tokens", done.tokens.to_string(), contribution.tokens.to_string()),
        ("an update of hash", done.update_hash.to_string(), contribution.update.to_string()),
        ("an update of length", done.update.len().to_string(), contribution.update_len_bytes.to_string()),
        ("loss", loss(done.loss.0), loss(contribution.loss.0)),
    ];
    match pairs.into_iter().find(|(_, got, expected)| got != expected) {
        Some((field, got, expected)) => {
            Err(ReplayError::Differs { field, got, expected, contribution: Box::new(contribution.clone()) })
        }
        None => Ok(done),
    }
}
