//! Control messages between a node and the coordinator: a request and its reply, as canonical bytes. Statements travel
//! inside as the envelopes that were signed.

use crate::ids::{Hash, RunId};
use serde::{Deserialize, Serialize};

/// What a node asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(wincode::SchemaWrite, wincode::SchemaRead))]
pub enum Request {
    /// The signed manifest of the run.
    Manifest {
        /// The run.
        run: RunId,
    },
    /// Where the chain is.
    Status {
        /// The run.
        run: RunId,
    },
    /// The signed record of a round, with the list of claims that it answers.
    Record {
        /// The run.
        run: RunId,
        /// The round.
        round: u64,
    },
    /// A signed [`crate::statements::Join`].
    Join(Vec<u8>),
    /// A signed [`crate::statements::Claim`].
    Claim(Vec<u8>),
}

/// What the coordinator answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(wincode::SchemaWrite, wincode::SchemaRead))]
pub enum Reply {
    /// The signed manifest.
    Manifest(Vec<u8>),
    /// Where the chain is.
    Status(Status),
    /// A signed record, and the signed list of claims that it answers (none for record 0).
    Record {
        /// The signed record.
        record: Vec<u8>,
        /// The signed list of claims.
        claims: Option<Vec<u8>>,
    },
    /// A join was received; the member takes part from the round whose record admits it.
    Joined,
    /// The signed [`crate::statements::Receipt`] of a claim.
    Receipt(Vec<u8>),
    /// The request was understood and refused.
    Refused(Refused),
    /// Not known here, or not yet.
    NotFound,
    /// The coordinator cannot answer now; ask again later.
    Busy,
}

/// Where the chain is, and how far the open round.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(wincode::SchemaWrite, wincode::SchemaRead))]
pub struct Status {
    /// The signed head; none before record 0.
    pub head: Option<Vec<u8>>,
    /// The signed list of claims of the open round, once closed.
    pub claims: Option<Vec<u8>>,
    /// Since the round opened, milliseconds. Unsigned: a hint for planning, nothing more.
    pub elapsed_ms: u64,
    /// Until the round closes at the latest, milliseconds. Unsigned.
    pub remaining_ms: u64,
    /// Whether every round of the run is done.
    pub finished: bool,
}

/// Why a statement was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, PartialOrd, Ord)]
#[cfg_attr(test, derive(wincode::SchemaWrite, wincode::SchemaRead))]
pub enum Refused {
    /// Not canonical bytes, or over a bound.
    Malformed,
    /// A signature is missing or wrong.
    Unsigned,
    /// Of another run.
    WrongRun,
    /// For a round that is not open: too old or too new.
    Stale,
    /// The round is closed already.
    Closed,
    /// From somebody who is not a member in this round.
    NotMember,
    /// Against another base than the chain's.
    WrongBase,
    /// Of another assignment than the member's, or more inner steps than assigned.
    WrongAssignment,
    /// Numbers that cannot be: no inner step, a loss that is not finite, an update of impossible length.
    Impossible,
    /// A second, different claim for one round: misconduct.
    Duplicate,
    /// The run is full.
    Full,
    /// The run is over.
    Finished,
    /// Sent by a peer that is not the member who signed.
    WrongSender,
}

/// A blob that a record or manifest names, with its length bound: what a node fetches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(wincode::SchemaWrite, wincode::SchemaRead))]
pub struct BlobRef {
    /// Its hash.
    pub hash: Hash,
    /// Its length, or the most it may be, bytes.
    pub len_bytes: u64,
}
