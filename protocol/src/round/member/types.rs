//! What goes into a member's machine and what comes out of it.

use crate::assignment::Assignment;
use crate::chain::{ChainError, Evidence};
use crate::ids::{Hash, MemberId};
use crate::ledger::Ledger;
use crate::manifest::{F64Bits, Manifest};
use crate::messages::{Refused, Request};
use crate::signing::{Keypair, SignatureCheck, Signed};
use crate::statements::{Claim, Contribution, Record, RefusalReason};
use std::sync::Arc;

/// What a member's machine is made from.
#[derive(Clone)]
pub struct MemberConfig {
    /// The run.
    pub manifest: Signed<Manifest>,
    /// The member's key.
    pub keypair: Keypair,
    /// How signatures are checked; [`crate::signing::Strict`] outside simulations.
    pub check: Arc<dyn SignatureCheck + Send + Sync>,
    /// How patient it is.
    pub timing: MemberTiming,
}

/// How patient a member is, and how careful. Decides no number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemberTiming {
    /// Between two questions for the status.
    pub poll_ms: u64,
    /// A request without an answer is given up after.
    pub request_timeout_ms: u64,
    /// The first pause before a request is repeated; doubles from there.
    pub retry_min_ms: u64,
    /// The longest such pause.
    pub retry_max_ms: u64,
    /// Work stops so long before the round's deadline: time to encode the update and to send the claim. A quarter of
    /// `round_max_ms` at most.
    pub margin_ms: u64,
    /// More records behind than this, the checkpoint is downloaded instead of computed.
    pub catch_up_after_rounds: u64,
}

impl Default for MemberTiming {
    fn default() -> MemberTiming {
        MemberTiming {
            poll_ms: 2_000,
            request_timeout_ms: 10_000,
            retry_min_ms: 500,
            retry_max_ms: 15_000,
            margin_ms: 3_000,
            catch_up_after_rounds: 3,
        }
    }
}

/// What a member finds on its disk: what it [`MemberStored`].
#[derive(Debug, Clone, Default)]
pub struct MemberRestored {
    /// The last adopted record and the ledger after it, if checkpoint and outer state of that round are on disk and have
    /// the recorded hashes; otherwise leave it out.
    pub head: Option<(Signed<Record>, Ledger)>,
    /// The last claim, if its update is on disk.
    pub claim: Option<Signed<Claim>>,
}

/// Why there is no machine.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MemberError {
    /// The manifest or the restored head does not hold.
    #[error("{0}")]
    Chain(#[from] ChainError),
    /// Work that is not a possible claim: more inner steps than assigned, a loss that is not finite, ….
    #[error("work on round {round} that makes no acceptable claim: {refused:?}")]
    Work {
        /// The round.
        round: u64,
        /// What the coordinator would say.
        refused: Refused,
    },
}

/// Something to be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MemberStored {
    /// The claim for a round; replaces the one before.
    Claim {
        /// The round.
        round: u64,
        /// The signed claim.
        claim: Vec<u8>,
    },
    /// The chain is adopted up to here; replaces what was stored before. Checkpoint and outer state of the round are on disk
    /// already: the driver said so.
    Head {
        /// The round.
        round: u64,
        /// The signed record.
        record: Vec<u8>,
        /// The ledger after it.
        ledger: Vec<u8>,
    },
}

/// What to do in a round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkOrder {
    /// The round.
    pub round: u64,
    /// Which positions, in which order: [`crate::data_order::DataOrder::locate`] says what they are.
    pub assignment: Assignment,
    /// Id of the record whose checkpoint and outer state are the base.
    pub base: Hash,
    /// Tokens that count so far in the run: where the schedule stands.
    pub base_tokens_total: u64,
    /// When the work should be reported at the latest, on the driver's clock. It may change;
    /// [`MemberAction::StopWork`] says when.
    pub deadline_ms: u64,
}

/// What the driver does next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MemberAction {
    /// Ask the coordinator; answer with [`super::MemberMachine::handle_reply`] or [`super::MemberMachine::handle_request_error`].
    Send(Request),
    /// Write it to disk, durably, before doing anything after it.
    Persist(MemberStored),
    /// Make the checkpoint of `round` from that of the round before and these updates (fetched by hash from their members or
    /// from whoever has them). For round 0: the first checkpoint, from the manifest's seed. Without contributions
    /// everything stays. Once checkpoint and outer state are on disk: [`super::MemberMachine::handle_checkpoint`]; if it cannot
    /// be done, [`super::MemberMachine::handle_advance_failed`].
    Apply {
        /// The round.
        round: u64,
        /// What goes in, by rising member id.
        contributions: Vec<Contribution>,
        /// What should come out.
        checkpoint: Hash,
        /// What should come out.
        outer_state: Hash,
    },
    /// Fetch ledger, checkpoint and outer state after `round` by their hashes, then [`super::MemberMachine::handle_caught_up`] or
    /// [`super::MemberMachine::handle_advance_failed`]. What is on disk of other rounds is of no use any more.
    CatchUp {
        /// The round.
        round: u64,
        /// Hash of the ledger.
        ledger: Hash,
        /// Hash of the checkpoint's model file.
        checkpoint: Hash,
        /// Hash of the outer state.
        outer_state: Hash,
    },
    /// Work; answer with [`super::MemberMachine::handle_work_done`] when done, or stopped by anybody after any inner step.
    Work(WorkOrder),
    /// Stop working on `round`. With `claim`: report what is done. Without: it is too late, throw it away.
    StopWork {
        /// The round.
        round: u64,
        /// Whether a claim is still of use.
        claim: bool,
    },
    /// The list of claims of `round` is signed: serve the update to everybody from now on.
    ServeUpdates {
        /// The round.
        round: u64,
    },
    /// For people and logs.
    Event(MemberEvent),
    /// Go no further in this run: the operator, or whoever holds its key, broke the rules. Keep and show the proof.
    Halt(Halt),
    /// Every round is done.
    Finished,
}

/// What happened, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum MemberEvent {
    /// It takes part from this round on.
    Admitted {
        /// The round.
        round: u64,
    },
    /// It is no member any more, after too many rounds without an accepted contribution, and asks to join again.
    Dropped {
        /// The round.
        round: u64,
    },
    /// Its claim was receipted.
    Receipted {
        /// The round.
        round: u64,
    },
    /// Its claim was refused.
    ClaimRefused {
        /// The round.
        round: u64,
        /// Why.
        reason: Refused,
    },
    /// Its contribution counts.
    Accepted {
        /// The round.
        round: u64,
        /// Inner steps.
        steps: u32,
        /// Tokens.
        tokens: u64,
    },
    /// Its listed claim did not count.
    NotAccepted {
        /// The round.
        round: u64,
        /// Why.
        reason: RefusalReason,
    },
    /// It was a member of the round and has no claim in it.
    Missed {
        /// The round.
        round: u64,
    },
    /// Its join was refused.
    JoinRefused {
        /// Why.
        reason: Refused,
    },
    /// A receipted claim is missing from the signed list: evidence against the operator. The run goes on.
    Omitted(Evidence),
}

/// Why a member goes no further.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Halt {
    /// Statements that prove misconduct by themselves.
    Evidence(Evidence),
    /// A record that the operators signed, and that breaks a rule of the chain.
    BadRecord {
        /// The record.
        record: Box<Signed<Record>>,
        /// Which rule.
        error: ChainError,
    },
    /// A record that includes an update which cannot be aggregated.
    BadUpdate {
        /// The record.
        record: Box<Signed<Record>>,
        /// Whose update.
        member: MemberId,
    },
}

impl Halt {
    /// One line for people.
    pub fn describe(&self) -> String {
        match self {
            Halt::Evidence(evidence) => evidence.describe(),
            Halt::BadRecord { error, .. } => error.to_string(),
            Halt::BadUpdate { record, member } => {
                format!("record {} includes an update of {} that is no update", record.value.round, member.short())
            }
        }
    }
}

/// Why the checkpoint of a round could not be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AdvanceFailure {
    /// Something could not be fetched, or the base is not here. Next time the checkpoint is downloaded.
    Unavailable,
    /// The update of this member is here with the recorded hash, and is malformed or not finite.
    BadUpdate {
        /// Whose.
        member: MemberId,
    },
}

/// Work that was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WorkDone {
    /// The round.
    pub round: u64,
    /// Inner steps done: the first so many of the assignment. With 0 nothing is claimed.
    pub steps: u32,
    /// Of these, skipped for a gradient that was not finite.
    pub skipped: u32,
    /// Mean loss, nats, binary64.
    pub loss: F64Bits,
    /// Hash of the update, which is on disk.
    pub update: Hash,
    /// Its length, bytes.
    pub update_len_bytes: u64,
}

/// The phases, for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MemberPhase {
    /// The coordinator has not answered yet.
    Connecting,
    /// Behind the chain.
    CatchingUp,
    /// Asked to join; waits for a record that admits it, or for the run to open.
    Joining,
    /// Does inner steps.
    Working,
    /// Has claimed, or sits the round out.
    Waiting,
    /// Stopped for good: see [`MemberAction::Halt`].
    Halted,
    /// Every round is done.
    Finished,
}

/// Where the machine is: for `status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemberView {
    /// Its phase.
    pub phase: MemberPhase,
    /// The last adopted record's round.
    pub round: Option<u64>,
    /// The last round that the operator is known to have recorded.
    pub head_round: Option<u64>,
    /// Whether it is a member in the open round.
    pub is_member: bool,
    /// Its accepted contributions since it joined last.
    pub accepted_rounds: u32,
    /// When work on the open round stops, on the driver's clock.
    pub deadline_ms: Option<u64>,
}
