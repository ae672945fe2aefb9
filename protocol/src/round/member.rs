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
mod types;
mod work;

pub use types::{
    AdvanceFailure, Halt, MemberAction, MemberConfig, MemberError, MemberEvent, MemberPhase, MemberRestored,
    MemberStored, MemberTiming, MemberView, WorkDone, WorkOrder,
};

use crate::chain::{ChainState, Evidence};
use crate::ids::MemberId;
use crate::ledger::Ledger;
use crate::messages::{Reply, Request};
use crate::signing::Signed;
use crate::statements::{Claim, Head, Receipt, Record};
use requests::{RequestKind, Requests};
use std::collections::VecDeque;

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
    /// The bytes of the head that was looked at last: most come again and again.
    head_bytes: Vec<u8>,
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
            head_bytes: Vec::new(),
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
