//! The chain: the records, hash-linked from the manifest, and the rules that each must keep.
//!
//! [`ChainState`] is what is known after some record. [`ChainState::apply`] checks the next record with its list of claims
//! and gives the next state; a member does this. [`ChainState::check_sources`] checks the claims and joins that the record
//! rests on as well; a verifier does both. What a record says of *arithmetic* (checkpoint, outer state, held-out loss) is
//! not checked here: the caller computes it and compares it with [`ChainState::record`].

mod error;
mod evidence;
mod rules;
mod sources;

pub use error::{ChainError, ChainFault, StatementRef};
pub use evidence::Evidence;
pub(crate) use rules::check_heldout;
pub use rules::update_len_max_bytes;
pub use sources::Sources;

use crate::assignment::{self, Assignment};
use crate::hash_chain;
use crate::ids::{Hash, MemberId, RunId};
use crate::ledger::Ledger;
use crate::manifest::Manifest;
use crate::signing::{SignatureCheck, Signed, Statement};
use crate::statements::{ClaimList, Record};
use std::sync::Arc;

/// What is known after a record, or before the first. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ChainState {
    manifest: Arc<Signed<Manifest>>,
    run: RunId,
    last: Option<Arc<Signed<Record>>>,
    last_id: Hash,
    ledger: Arc<Ledger>,
    assignments: Arc<Vec<Assignment>>,
}

impl ChainState {
    /// The state before record 0. Checks the manifest's fields and signatures; the caller checks that its id is the run
    /// that was asked for.
    ///
    /// # Errors
    /// [`ChainError`] about the manifest.
    pub fn genesis(manifest: &Signed<Manifest>, check: &dyn SignatureCheck) -> Result<ChainState, ChainError> {
        let error = |fault| ChainError::new(StatementRef::Manifest, fault);
        manifest.value.check().map_err(|fault| error(fault.into()))?;
        let (keys, threshold) = (&manifest.value.operators, manifest.value.threshold);
        manifest.require(check, keys, threshold).map_err(|fault| error(fault.into()))?;
        let id = manifest.id();
        let run = RunId(id.0);
        Ok(ChainState {
            manifest: Arc::new(manifest.clone()),
            run,
            last: None,
            last_id: id,
            ledger: Arc::new(Ledger::genesis(run)),
            assignments: Arc::new(Vec::new()),
        })
    }

    /// The state after `record`, without the records before it: for a late joiner and for a restart. The record's
    /// signatures, its place in the operator's hash chain and the ledger's hash are checked; that the ledger follows from
    /// the records before is not.
    ///
    /// # Errors
    /// [`ChainError`] when they do not belong together.
    pub fn resume(
        manifest: &Signed<Manifest>,
        check: &dyn SignatureCheck,
        record: &Signed<Record>,
        ledger: Ledger,
    ) -> Result<ChainState, ChainError> {
        let genesis = ChainState::genesis(manifest, check)?;
        genesis.check_detached(record, check)?;
        let round = record.value.round;
        if ledger.hash() != record.value.ledger {
            let fault = ChainFault::Hash { field: "hash", got: ledger.hash(), expected: record.value.ledger };
            return Err(ChainError::new(StatementRef::Ledger { round }, fault));
        }
        if ledger.run != genesis.run || ledger.next_round != round.saturating_add(1) {
            let fault = ChainFault::Round { got: ledger.next_round, expected: round.saturating_add(1) };
            return Err(ChainError::new(StatementRef::Ledger { round }, fault));
        }
        Ok(genesis.with(Arc::new(record.clone()), record.id(), ledger))
    }

    /// What can be said of any record of this run by itself: signatures, run, round, and that its preimage belongs to the
    /// operator's hash chain.
    ///
    /// # Errors
    /// [`ChainError`].
    pub fn check_detached(&self, record: &Signed<Record>, check: &dyn SignatureCheck) -> Result<(), ChainError> {
        let round = record.value.round;
        let error = |fault| Err(ChainError::new(StatementRef::Record { round }, fault));
        if record.value.run != self.run {
            return error(ChainFault::Run { got: record.value.run, expected: self.run });
        }
        if round > self.manifest().rounds {
            return error(ChainFault::AfterLast { last: self.manifest().rounds });
        }
        if let Err(fault) = self.signed_by_operators(record, check) {
            return error(fault);
        }
        let got = record.value.preimage;
        if hash_chain::descend(got, round.saturating_add(1)) != self.manifest().hash_chain_anchor {
            return error(ChainFault::Preimage { got });
        }
        Ok(())
    }

    /// The state after `record`, which answers the list of claims `list` (none for record 0).
    ///
    /// # Errors
    /// [`ChainError`]: the first rule that is broken. [`ChainError::is_missing`] if the list is needed and not given.
    pub fn apply(
        &self,
        record: &Signed<Record>,
        list: Option<&Signed<ClaimList>>,
        check: &dyn SignatureCheck,
    ) -> Result<ChainState, ChainError> {
        let ledger = self.check_record(record, list, check)?;
        Ok(self.with(Arc::new(record.clone()), record.id(), ledger))
    }

    fn with(&self, record: Arc<Signed<Record>>, id: Hash, ledger: Ledger) -> ChainState {
        let last_round = record.value.round >= self.manifest().rounds;
        let seed = assignment::seed(self.run, ledger.next_round, record.value.preimage, id);
        let assignments = if last_round { Vec::new() } else { assignment::assign(self.manifest(), &ledger, seed) };
        ChainState {
            manifest: self.manifest.clone(),
            run: self.run,
            last: Some(record),
            last_id: id,
            ledger: Arc::new(ledger),
            assignments: Arc::new(assignments),
        }
    }

    pub(crate) fn signed_by_operators<T: Statement>(
        &self,
        statement: &Signed<T>,
        check: &dyn SignatureCheck,
    ) -> Result<(), ChainFault> {
        let manifest = self.manifest();
        statement.require(check, &manifest.operators, manifest.threshold).map_err(ChainFault::from)
    }

    /// The manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest.value
    }

    /// The manifest as it was signed.
    pub fn signed_manifest(&self) -> &Signed<Manifest> {
        &self.manifest
    }

    /// The run.
    pub fn run(&self) -> RunId {
        self.run
    }

    /// The round of the last record; none before record 0.
    pub fn round(&self) -> Option<u64> {
        self.last.as_ref().map(|record| record.value.round)
    }

    /// The round that comes next: 0 before record 0.
    pub fn open_round(&self) -> u64 {
        self.ledger.next_round
    }

    /// The last record.
    pub fn record(&self) -> Option<&Signed<Record>> {
        self.last.as_deref()
    }

    /// Id of the last record; of the manifest, before record 0. What the next record names as previous, and the claims
    /// for the open round as base.
    pub fn head_id(&self) -> Hash {
        self.last_id
    }

    /// The ledger after the last record.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// The assignments of the open round, by rising member id. Empty before record 0 and after the last round.
    pub fn assignments(&self) -> &[Assignment] {
        &self.assignments
    }

    /// A member's assignment in the open round.
    pub fn assignment_of(&self, member: &MemberId) -> Option<&Assignment> {
        assignment::of_member(&self.assignments, member)
    }

    /// Whether every round of the run is done.
    pub fn is_finished(&self) -> bool {
        self.round().is_some_and(|round| round >= self.manifest().rounds)
    }
}

#[cfg(test)]
mod tests;
