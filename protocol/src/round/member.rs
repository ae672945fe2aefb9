//! The member's machine: follows the chain, joins, works, claims, serves its update.
//!
//! Three things go on side by side, each driven by what is known, none waiting for one exact message:
//!
//! - *the chain*: a signed head that is ahead leads to a request for the next record, and that to [`MemberAction::Apply`]
//!   (fetch the contributions' updates and compute the checkpoint) or, for somebody too far behind,
//!   [`MemberAction::CatchUp`] (fetch ledger, checkpoint and outer state by hash). Only what comes to the recorded hashes is
//!   adopted; a record with other arithmetic, or a second record of a round, ends in [`MemberAction::Halt`] with the proof.
//! - *membership*: while it is none of the open round's members and the chain is caught up, it asks to join.
//! - *the work*: at the head of the chain, with an assignment, it works until done or until the deadline less a margin,
//!   claims what it has, and sends the same claim until it is receipted or the round is over. There is never a second claim
//!   for a round: the first is persisted before it is sent, and restored.
//!
//! Requests may be lost, answered twice or late: each is sent again after a timeout with growing pauses, and each answer is
//! taken for what it proves, whenever it comes.

mod advance;
mod requests;
#[cfg(test)]
mod tests;
mod work;

use crate::assignment::Assignment;
use crate::chain::{ChainError, ChainState, Evidence};
use crate::ids::{Hash, MemberId};
use crate::ledger::Ledger;
use crate::manifest::{F64Bits, Manifest};
use crate::messages::{Refused, Reply, Request};
use crate::signing::{Keypair, SignatureCheck, Signed};
use crate::statements::{Claim, Contribution, Head, Receipt, Record, RefusalReason};
use requests::{RequestKind, Requests};
use std::collections::VecDeque;
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
    /// Ask the coordinator; answer with [`MemberMachine::handle_reply`] or [`MemberMachine::handle_request_error`].
    Send(Request),
    /// Write it to disk, durably, before doing anything after it.
    Persist(MemberStored),
    /// Make the checkpoint of `round` from that of the round before and these updates (fetched by hash from their members or
    /// from whoever has them). For round 0: the first checkpoint, from the manifest's seed. Without contributions
    /// everything stays. Once checkpoint and outer state are on disk: [`MemberMachine::handle_checkpoint`]; if it cannot
    /// be done, [`MemberMachine::handle_advance_failed`].
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
    /// Fetch ledger, checkpoint and outer state after `round` by their hashes, then [`MemberMachine::handle_caught_up`] or
    /// [`MemberMachine::handle_advance_failed`]. What is on disk of other rounds is of no use any more.
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
    /// Work; answer with [`MemberMachine::handle_work_done`] when done, or stopped by anybody after any inner step.
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

/// What becomes of the work on the open round.
enum Work {
    /// Not begun.
    Idle,
    /// The driver works.
    Working { deadline_ms: u64, stopping: bool },
    /// Nothing to claim.
    SatOut,
    /// Claimed.
    Claimed(Box<Claimed>),
}

struct Claimed {
    claim: Signed<Claim>,
    receipt: Option<Signed<Receipt>>,
    refused: bool,
    list_seen: bool,
}

/// The way from the adopted record to the next.
enum Advancing {
    Applying(Box<ChainState>),
    CatchingUp(Box<Signed<Record>>),
}

/// The member's state machine.
pub struct MemberMachine {
    config: MemberConfig,
    member: MemberId,
    chain: ChainState,
    /// The newest head that the operators signed, as far as known.
    head: Option<Signed<Head>>,
    /// Whether the coordinator has answered since the machine was made.
    heard: bool,
    /// For a head's round: when the round after it closes.
    closes: Option<(u64, u64)>,
    advancing: Option<Advancing>,
    must_catch_up: bool,
    work: Work,
    kept_claim: Option<Signed<Claim>>,
    served: Option<u64>,
    requests: Requests,
    halted: bool,
    finished: bool,
    actions: VecDeque<MemberAction>,
}

impl MemberMachine {
    /// A machine for a node that is new to the run (`MemberRestored::default()`), or that goes on from what is on disk.
    ///
    /// # Errors
    /// [`MemberError::Chain`] when manifest or restored head do not hold. The caller has checked that the manifest's id is
    /// the run of the join link.
    pub fn new(config: MemberConfig, restored: MemberRestored, now_ms: u64) -> Result<MemberMachine, MemberError> {
        let chain = match restored.head {
            None => ChainState::genesis(&config.manifest, &*config.check)?,
            Some((record, ledger)) => ChainState::resume(&config.manifest, &*config.check, &record, ledger)?,
        };
        let member = config.keypair.member();
        let requests = Requests::new(config.timing, member);
        let mut machine = MemberMachine {
            config,
            member,
            chain,
            head: None,
            heard: false,
            closes: None,
            advancing: None,
            must_catch_up: false,
            work: Work::Idle,
            kept_claim: restored.claim,
            served: None,
            requests,
            halted: false,
            finished: false,
            actions: VecDeque::new(),
        };
        machine.plan(now_ms);
        Ok(machine)
    }

    /// What is to be done next; `None` when everything is.
    pub fn poll_action(&mut self) -> Option<MemberAction> {
        self.actions.pop_front()
    }

    /// When [`MemberMachine::handle_timeout`] is to be called at the latest. `None`: not before another input.
    pub fn next_timeout(&self) -> Option<u64> {
        if self.halted || self.finished {
            return None;
        }
        let stop = match self.work {
            Work::Working { deadline_ms, stopping: false } => Some(deadline_ms),
            _ => None,
        };
        let wanted = [RequestKind::Status, RequestKind::Record, RequestKind::Join, RequestKind::Claim];
        let requests = wanted.into_iter().filter_map(|kind| self.requests.due(kind, self.wants(kind)));
        requests.chain(stop).min()
    }

    /// Time went by.
    pub fn handle_timeout(&mut self, now_ms: u64) {
        self.requests.expire(now_ms);
        self.plan(now_ms);
    }

    /// The coordinator answered `request`.
    pub fn handle_reply(&mut self, now_ms: u64, request: &Request, reply: Reply) {
        let Some(kind) = RequestKind::of(request) else { return };
        self.heard = true;
        let understood = match reply {
            Reply::Status(status) => self.take_status(now_ms, &status),
            Reply::Record { record, claims } => self.take_record(now_ms, &record, claims.as_deref()),
            Reply::Joined => kind == RequestKind::Join,
            Reply::Receipt(receipt) => self.take_receipt(&receipt),
            Reply::Refused(reason) => self.take_refusal(now_ms, kind, reason),
            Reply::NotFound | Reply::Busy | Reply::Manifest(_) => false,
        };
        self.requests.answered(kind, now_ms, understood);
        self.plan(now_ms);
    }

    /// `request` could not be sent, or was not answered.
    pub fn handle_request_error(&mut self, now_ms: u64, request: &Request) {
        if let Some(kind) = RequestKind::of(request) {
            self.requests.answered(kind, now_ms, false);
        }
        self.plan(now_ms);
    }

    /// A signed head came by gossip. `false`: it is none, and whoever made it up deserves no trust.
    pub fn handle_head(&mut self, now_ms: u64, bytes: &[u8]) -> bool {
        let valid = self.take_head(now_ms, bytes);
        self.plan(now_ms);
        valid
    }

    /// The chain up to the last adopted record.
    pub fn chain(&self) -> &ChainState {
        &self.chain
    }

    /// Who it is.
    pub fn member(&self) -> MemberId {
        self.member
    }

    /// Where the machine is.
    pub fn view(&self) -> MemberView {
        let phase = match self.work {
            _ if self.halted => MemberPhase::Halted,
            _ if self.finished => MemberPhase::Finished,
            _ if !self.heard => MemberPhase::Connecting,
            _ if self.is_behind() => MemberPhase::CatchingUp,
            _ if !self.is_member() => MemberPhase::Joining,
            Work::Working { .. } => MemberPhase::Working,
            Work::Idle | Work::SatOut | Work::Claimed(_) => MemberPhase::Waiting,
        };
        let deadline_ms = match self.work {
            Work::Working { deadline_ms, .. } => Some(deadline_ms),
            _ => None,
        };
        MemberView {
            phase,
            round: self.chain.round(),
            head_round: self.head.as_ref().map(|head| head.value.round),
            is_member: self.is_member(),
            accepted_rounds: self.chain.ledger().member(&self.member).map_or(0, |standing| standing.accepted_rounds),
            deadline_ms,
        }
    }

    fn is_member(&self) -> bool {
        self.chain.ledger().member(&self.member).is_some()
    }

    fn is_behind(&self) -> bool {
        self.head.as_ref().is_some_and(|head| self.chain.round().is_none_or(|round| round < head.value.round))
    }

    /// Whether the adopted record is the newest known.
    fn at_head(&self) -> bool {
        self.heard && self.advancing.is_none() && !self.is_behind()
    }

    /// Whether a request of this kind is of use now.
    fn wants(&self, kind: RequestKind) -> bool {
        if self.halted || self.finished {
            return false;
        }
        match kind {
            RequestKind::Status => true,
            RequestKind::Record => self.advancing.is_none() && self.is_behind(),
            RequestKind::Join => self.at_head() && !self.is_member() && !self.chain.is_finished(),
            RequestKind::Claim => match &self.work {
                Work::Claimed(claimed) => self.at_head() && claimed.receipt.is_none() && !claimed.refused,
                _ => false,
            },
        }
    }

    /// Does what follows from what is known: the one place where actions begin.
    fn plan(&mut self, now_ms: u64) {
        if self.chain.is_finished() && !self.finished && !self.halted {
            self.finished = true;
            self.actions.push_back(MemberAction::Finished);
        }
        self.plan_work(now_ms);
        for kind in [RequestKind::Claim, RequestKind::Record, RequestKind::Join, RequestKind::Status] {
            if self.wants(kind)
                && self.requests.due(kind, true).is_some_and(|due_ms| due_ms <= now_ms)
                && self.requests.is_free(kind)
                && let Some(request) = self.request(kind)
            {
                self.requests.sent(kind, now_ms);
                self.actions.push_back(MemberAction::Send(request));
            }
        }
    }

    fn halt(&mut self, halt: Halt) {
        if !self.halted {
            self.halted = true;
            self.stop_work(false);
            self.actions.push_back(MemberAction::Halt(halt));
        }
    }
}
