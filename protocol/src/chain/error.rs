//! What is wrong with a chain: which statement, and why. A fault is either a **contradiction** (bytes that cannot be
//! true together) or something **missing** (bytes that are needed and were not given).

use crate::ids::{Hash, MemberId, RunId};
use crate::ledger::LedgerError;
use crate::manifest::ManifestError;
use crate::messages::Refused;
use crate::signing::StatementError;
use std::fmt;

/// Which statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum StatementRef {
    /// The manifest.
    Manifest,
    /// The record of a round.
    Record {
        /// The round.
        round: u64,
    },
    /// The list of claims of a round.
    ClaimList {
        /// The round.
        round: u64,
    },
    /// A claim for a round.
    Claim {
        /// The round.
        round: u64,
        /// Whose.
        member: MemberId,
    },
    /// A join that the record of a round admits.
    Join {
        /// The round.
        round: u64,
        /// Whose.
        member: MemberId,
    },
    /// The ledger after a round.
    Ledger {
        /// The round.
        round: u64,
    },
}

impl fmt::Display for StatementRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StatementRef::Manifest => write!(f, "the manifest"),
            StatementRef::Record { round } => write!(f, "record {round}"),
            StatementRef::ClaimList { round } => write!(f, "the list of claims of round {round}"),
            StatementRef::Claim { round, member } => write!(f, "the claim of {} for round {round}", member.short()),
            StatementRef::Join { round, member } => write!(f, "the join of {} in record {round}", member.short()),
            StatementRef::Ledger { round } => write!(f, "the ledger after round {round}"),
        }
    }
}

/// A statement that does not fit the chain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{statement}: {fault}")]
pub struct ChainError {
    /// Which.
    pub statement: StatementRef,
    /// Why.
    pub fault: Box<ChainFault>,
}

impl ChainError {
    pub(crate) fn new(statement: StatementRef, fault: ChainFault) -> ChainError {
        ChainError { statement, fault: Box::new(fault) }
    }

    /// Whether bytes are missing. Otherwise bytes contradict the chain.
    pub fn is_missing(&self) -> bool {
        matches!(*self.fault, ChainFault::Missing)
    }
}

/// Why a statement does not fit the chain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChainFault {
    /// It is needed, and not here.
    #[error("missing")]
    Missing,
    /// Its form or its signatures.
    #[error("{0}")]
    Statement(#[from] StatementError),
    /// The manifest's fields.
    #[error("{0}")]
    Manifest(#[from] ManifestError),
    /// It contradicts the ledger.
    #[error("{0}")]
    Ledger(#[from] LedgerError),
    /// It is of another run.
    #[error("of run {got}, not {expected}")]
    Run {
        /// Its run.
        got: RunId,
        /// The chain's.
        expected: RunId,
    },
    /// It is of another round.
    #[error("of round {got}, where round {expected} comes next")]
    Round {
        /// Its round.
        got: u64,
        /// The chain's next.
        expected: u64,
    },
    /// The run has no further round.
    #[error("after the last round, {last}")]
    AfterLast {
        /// The last round of the run.
        last: u64,
    },
    /// A hash is another than what it must be.
    #[error("its {field} is {got}, it should be {expected}")]
    Hash {
        /// Which field.
        field: &'static str,
        /// Its value.
        got: Hash,
        /// What it should be.
        expected: Hash,
    },
    /// A number is another than what it must be.
    #[error("its {field} is {got}, it should be {expected}")]
    Number {
        /// Which field.
        field: &'static str,
        /// Its value.
        got: u64,
        /// What it should be.
        expected: u64,
    },
    /// The preimage does not hash to the value that was revealed before.
    #[error("its preimage {got} is not the next value of the operator's hash chain")]
    Preimage {
        /// The preimage.
        got: Hash,
    },
    /// A list that must rise strictly does not.
    #[error("its {0} are out of order or one is there twice")]
    Order(&'static str),
    /// Contributions and refusals are not the list of claims.
    #[error("its contributions and refusals are not the listed claims: see {member:?}")]
    NotTheList {
        /// The first member where they part.
        member: MemberId,
    },
    /// A contribution with numbers that cannot be.
    #[error("the contribution of {member:?} has an impossible {field}")]
    Contribution {
        /// Whose.
        member: MemberId,
        /// Which field.
        field: &'static str,
    },
    /// Contribution and claim differ.
    #[error("the record says another {field} than the claim")]
    NotTheClaim {
        /// Which field.
        field: &'static str,
    },
    /// A claim or join that the rules refuse.
    #[error("not acceptable: {0:?}")]
    Refused(Refused),
    /// Something that this version does not use is used.
    #[error("it has {0}, which this version does not know")]
    NotInThisVersion(&'static str),
    /// A held-out loss that cannot be.
    #[error("its held-out loss of '{language}' is impossible")]
    Heldout {
        /// The language.
        language: String,
    },
    /// A round without contributions that changed something.
    #[error("a round without contributions changed the {0}")]
    ChangedByNothing(&'static str),
}
