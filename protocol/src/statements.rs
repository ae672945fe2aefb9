//! What is said in a round, in the order it is said: join, claim, receipt, list of claims, record; and the head.
//!
//! A **claim** holds neither a clock nor a free field, so two different claims of one member for one round prove
//! misconduct by themselves.

use crate::ids::{Hash, MemberId, RunId};
use crate::limits;
use crate::manifest::F64Bits;
use crate::signing::{Kind, Statement};
use serde::{Deserialize, Serialize};

macro_rules! statement {
    ($name:ident, $max:expr) => {
        impl Statement for $name {
            const KIND: Kind = Kind::$name;
            const PAYLOAD_MAX: usize = $max;
        }
    };
}

/// A member asks to take part from the round after `head` on. Signed by the member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(wincode::SchemaWrite, wincode::SchemaRead))]
pub struct Join {
    /// The run.
    pub run: RunId,
    /// Who.
    pub member: MemberId,
    /// The record (or, before the first, the manifest) that the member saw last: an old join cannot be played again later.
    pub head: Hash,
}
statement!(Join, limits::STATEMENT_MAX);

/// A member made an update. Signed by the member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(wincode::SchemaWrite, wincode::SchemaRead))]
pub struct Claim {
    /// The run.
    pub run: RunId,
    /// The round.
    pub round: u64,
    /// Who.
    pub member: MemberId,
    /// Record of the round before: it fixes base checkpoint, outer state and assignment.
    pub base: Hash,
    /// Digest of the assignment: [`crate::assignment::Assignment::digest`].
    pub assignment: Hash,
    /// Inner steps done: the first so many of the assignment.
    pub steps: u32,
    /// Of these, inner steps skipped for a gradient that was not finite.
    pub skipped: u32,
    /// Tokens trained on.
    pub tokens: u64,
    /// Mean loss over these tokens, nats, binary64.
    pub loss: F64Bits,
    /// Hash of the update.
    pub update: Hash,
    /// Length of the update, bytes.
    pub update_len_bytes: u64,
    /// Root of the digests of the states on the way, where the manifest asks for it. None in version 1.
    pub state_digests: Option<Hash>,
    /// Hash of the codec's residual, where the codec has one. None in version 1.
    pub residual: Option<Hash>,
}
statement!(Claim, limits::STATEMENT_MAX);

/// The operator has a claim. Signed by the operators; a receipted claim missing from the list is evidence against them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(wincode::SchemaWrite, wincode::SchemaRead))]
pub struct Receipt {
    /// The run.
    pub run: RunId,
    /// The round.
    pub round: u64,
    /// Id of the claim.
    pub claim: Hash,
}
statement!(Receipt, limits::STATEMENT_MAX);

/// A claim in a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(wincode::SchemaWrite, wincode::SchemaRead))]
pub struct ListedClaim {
    /// Whose.
    pub member: MemberId,
    /// Its id.
    pub claim: Hash,
}

/// The round is closed: these claims and no others. Only now do members serve their updates. Signed by the operators.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(wincode::SchemaWrite, wincode::SchemaRead))]
pub struct ClaimList {
    /// The run.
    pub run: RunId,
    /// The round.
    pub round: u64,
    /// Record of the round before.
    pub previous: Hash,
    /// The claims, by rising member id, none twice.
    pub claims: Vec<ListedClaim>,
}
statement!(ClaimList, limits::CLAIM_LIST_MAX);

/// A claim that counted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(wincode::SchemaWrite, wincode::SchemaRead))]
pub struct Contribution {
    /// Whose.
    pub member: MemberId,
    /// Id of the claim.
    pub claim: Hash,
    /// Hash of the update.
    pub update: Hash,
    /// Length of the update, bytes.
    pub update_len_bytes: u64,
    /// Inner steps done.
    pub steps: u32,
    /// Tokens trained on: its weight in the mean.
    pub tokens: u64,
    /// Mean loss over these tokens, nats, binary64.
    pub loss: F64Bits,
}

/// Why a listed claim did not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Hash, PartialOrd, Ord)]
#[cfg_attr(test, derive(wincode::SchemaWrite, wincode::SchemaRead))]
pub enum RefusalReason {
    /// The update could not be fetched in time.
    Withheld,
    /// The update is not one of this run, round and member, or is malformed.
    Malformed,
    /// The update holds a value that is not finite.
    NonFinite,
    /// An audit came to other bits. Not used in version 1.
    Mismatch,
}

/// A listed claim that did not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(wincode::SchemaWrite, wincode::SchemaRead))]
pub struct Refusal {
    /// Whose.
    pub member: MemberId,
    /// Id of the claim.
    pub claim: Hash,
    /// Why.
    pub reason: RefusalReason,
}

/// A member admitted to the next round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(wincode::SchemaWrite, wincode::SchemaRead))]
pub struct Admitted {
    /// Who.
    pub member: MemberId,
    /// Id of its join.
    pub join: Hash,
}

/// Loss on the held-out text of one language.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(wincode::SchemaWrite, wincode::SchemaRead))]
pub struct HeldoutLoss {
    /// The language.
    pub language: String,
    /// Sum of the losses of its tokens, nats, binary64.
    pub nats: F64Bits,
    /// Tokens predicted.
    pub tokens: u64,
    /// UTF-8 bytes of the text that they spell.
    pub text_bytes: u64,
}

/// The round's end. Signed by the operators; the chain is the records, hash-linked from the manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(wincode::SchemaWrite, wincode::SchemaRead))]
pub struct Record {
    /// The run.
    pub run: RunId,
    /// The round. Record 0 opens the run: it has no contributions, and the first checkpoint.
    pub round: u64,
    /// Id of the record before; of the manifest, in record 0.
    pub previous: Hash,
    /// Id of the list of claims; [`NO_CLAIMS`] in record 0.
    pub claims: Hash,
    /// Claims that counted, by rising member id.
    pub contributions: Vec<Contribution>,
    /// Claims that did not, by rising member id.
    pub refusals: Vec<Refusal>,
    /// Members admitted, by rising member id.
    pub admitted: Vec<Admitted>,
    /// The next value of the operator's hash chain: BLAKE3 of it is the value revealed before.
    pub preimage: Hash,
    /// Tokens that count so far in the run.
    pub tokens_total: u64,
    /// Hash of the ledger after this round: [`crate::ledger::Ledger`].
    pub ledger: Hash,
    /// Hash of the checkpoint's `model.safetensors`.
    pub checkpoint: Hash,
    /// Hash of the outer state.
    pub outer_state: Hash,
    /// Held-out loss of that checkpoint, by rising language.
    pub heldout: Vec<HeldoutLoss>,
    /// Ids of audit verdicts. Empty in version 1.
    pub audits: Vec<Hash>,
    /// Ids of withdrawals. Empty in version 1.
    pub withdrawals: Vec<Hash>,
    /// Ids of slice results. Empty in version 1.
    pub slices: Vec<Hash>,
}
statement!(Record, limits::RECORD_MAX);

/// What record 0 has for a list of claims.
pub const NO_CLAIMS: Hash = Hash([0; 32]);

/// Where the chain is: gossiped when it changes. Signed by the operators.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(wincode::SchemaWrite, wincode::SchemaRead))]
pub struct Head {
    /// The run.
    pub run: RunId,
    /// Round of the last record.
    pub round: u64,
    /// Id of the last record.
    pub record: Hash,
    /// Id of the list of claims of the round after it, once that is closed.
    pub claims: Option<Hash>,
}
statement!(Head, limits::STATEMENT_MAX);
