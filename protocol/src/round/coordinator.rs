//! The coordinator's machine: opens rounds, receipts claims, closes, has updates fetched and aggregated, signs records.
//!
//! ```text
//! Opening ──(members_min joins, first checkpoint)──► Collecting ──close──► Fetching ──all in, or deadline──► Aggregating
//!                                                        ▲                                                      │
//!                                                        └───────────────────── record ─────────────────────────┘
//! ```
//!
//! **When a round closes.** Never before `round_min_ms`. Then as soon as every member *in touch* has claimed: a member is
//! in touch if its last round was accepted or this is its first, so that one who vanished delays one round, not several. At
//! `round_max_ms` it closes whoever is missing, with an empty list if need be: then checkpoint and outer state stay, members
//! come and go, and the run goes on. With fewer than `members_min` members it does not close early. A round without any
//! member stays open until somebody asks to join (`members_min` of them, or one once `round_max_ms` is over), so that a
//! deserted run waits instead of spending its rounds.
//!
//! **What is restored.** The last record with its ledger, and of the open round the receipted claims and the signed list,
//! if there is one. With a list the machine goes on with that very list; there is never a second. A record is persisted
//! before it is published, and once persisted is the last record.

mod closing;
mod intake;
#[cfg(test)]
mod tests;

use super::OuterResult;
use crate::chain::{ChainError, ChainState, Evidence};
use crate::hash_chain::HashChain;
use crate::ids::{Hash, MemberId};
use crate::ledger::Ledger;
use crate::manifest::Manifest;
use crate::messages::{Refused, Status};
use crate::signing::{Keypair, SignatureCheck, Signed};
use crate::statements::{Claim, ClaimList, Contribution, Head, Join, Receipt, Record, RefusalReason};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// What a coordinator's machine is made from.
#[derive(Clone)]
pub struct CoordinatorConfig {
    /// The run.
    pub manifest: Signed<Manifest>,
    /// The operator's key.
    pub keypair: Keypair,
    /// The operator's hash chain, whose anchor the manifest holds.
    pub hash_chain: HashChain,
    /// How signatures are checked; [`crate::signing::Strict`] outside simulations.
    pub check: Arc<dyn SignatureCheck + Send + Sync>,
    /// The length that every update of this run has, bytes, where the codec fixes it. A claim of another is refused.
    pub update_len_bytes: Option<u64>,
}

/// A claim that was receipted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldClaim {
    /// The claim.
    pub claim: Signed<Claim>,
    /// The receipt that was or will be sent.
    pub receipt: Signed<Receipt>,
}

/// What a coordinator finds on its disk: everything that it [`Stored`].
#[derive(Debug, Clone, Default)]
pub struct CoordinatorRestored {
    /// The last record, and the ledger after it.
    pub last: Option<(Signed<Record>, Ledger)>,
    /// The list of claims of the round after it, if that was signed.
    pub list: Option<Signed<ClaimList>>,
    /// The claims of the round after it. Those of other rounds are ignored.
    pub claims: Vec<HeldClaim>,
}

/// Why there is no machine, or why a record was not signed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CoordinatorError {
    /// The manifest or a restored statement does not hold.
    #[error("{0}")]
    Chain(#[from] ChainError),
    /// Several operators must sign; this version signs with one key.
    #[error("the manifest asks for {threshold} signatures, this version signs with one key")]
    Threshold {
        /// How many must sign.
        threshold: u32,
    },
    /// The key is not an operator's.
    #[error("the key {got} is none of the manifest's operators")]
    NotOperator {
        /// The key.
        got: MemberId,
    },
    /// The hash chain is another run's.
    #[error("the hash chain has the anchor {got} and {len} values, the manifest has {expected} and {expected_len}")]
    HashChain {
        /// Its anchor.
        got: Hash,
        /// Its values.
        len: u64,
        /// The manifest's anchor.
        expected: Hash,
        /// The manifest's values.
        expected_len: u64,
    },
    /// The signed list names a claim that was not restored.
    #[error("the list of claims of round {round} names a claim of {member:?} that is not in the store")]
    ClaimLost {
        /// The round.
        round: u64,
        /// Whose.
        member: MemberId,
    },
}

/// Something to be kept for good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stored {
    /// A claim was accepted. May be forgotten once the round's record is stored, unless its list names it.
    Claim {
        /// The round.
        round: u64,
        /// Whose.
        member: MemberId,
        /// The signed claim.
        claim: Vec<u8>,
        /// The signed receipt.
        receipt: Vec<u8>,
    },
    /// A round was closed.
    ClaimList {
        /// The round.
        round: u64,
        /// The signed list.
        list: Vec<u8>,
    },
    /// A round ended. All of it in one transaction.
    Record {
        /// The round.
        round: u64,
        /// The signed record.
        record: Vec<u8>,
        /// The ledger after it.
        ledger: Vec<u8>,
        /// The signed joins that it admits, by rising member id.
        joins: Vec<(MemberId, Vec<u8>)>,
    },
}

/// What the driver does next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CoordinatorAction {
    /// Write it to disk, durably, before doing anything after it.
    Persist(Stored),
    /// Put the signed head where everybody finds it, and gossip it.
    Publish {
        /// The signed head.
        head: Vec<u8>,
    },
    /// A round is open. For logs and metrics.
    RoundOpened {
        /// Which.
        round: u64,
        /// Its members.
        members: usize,
    },
    /// Fetch an update and look at it; answer with [`CoordinatorMachine::handle_update`]. Until then try again as often as
    /// there is time: at the deadline the machine goes on without.
    Fetch {
        /// The round.
        round: u64,
        /// Whose update; the first to ask for it.
        member: MemberId,
        /// Its hash.
        update: Hash,
        /// Its length, bytes.
        len_bytes: u64,
    },
    /// Make the next checkpoint; answer with [`CoordinatorMachine::handle_outer`] once it is on disk. For round 0: the first
    /// checkpoint, from the manifest's seed. Without contributions: checkpoint and outer state stay as they are, and so
    /// does the held-out loss of the record before. A second one for the same round replaces the first.
    Aggregate {
        /// The round.
        round: u64,
        /// What goes in, by rising member id. The base is the checkpoint of the round before.
        contributions: Vec<Contribution>,
    },
    /// A member signed two claims for one round.
    Misconduct {
        /// Who.
        member: MemberId,
        /// The proof.
        evidence: Evidence,
    },
    /// Every round is done. Go on answering; there is nothing more to do.
    Finished,
}

/// What came of fetching an update.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum UpdateOutcome {
    /// It is here, its hash and form are right and its values finite.
    Verified,
    /// It is not an update of this run, round and member, or malformed.
    Malformed,
    /// It holds a value that is not finite.
    NonFinite,
    /// It cannot be had, and trying longer is of no use.
    Unavailable,
}

impl UpdateOutcome {
    fn refusal(self) -> Option<RefusalReason> {
        match self {
            UpdateOutcome::Verified => None,
            UpdateOutcome::Malformed => Some(RefusalReason::Malformed),
            UpdateOutcome::NonFinite => Some(RefusalReason::NonFinite),
            UpdateOutcome::Unavailable => Some(RefusalReason::Withheld),
        }
    }
}

/// The phases, for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CoordinatorPhase {
    /// Before record 0.
    Opening,
    /// Members work and claim.
    Collecting,
    /// The list is signed, updates are fetched.
    Fetching,
    /// The next checkpoint is being made.
    Aggregating,
    /// Every round is done.
    Finished,
}

/// Where the machine is: for dashboards and metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CoordinatorView {
    /// The open round.
    pub round: u64,
    /// Its phase.
    pub phase: CoordinatorPhase,
    /// Members of the open round.
    pub members: usize,
    /// Claims receipted in it.
    pub claims: usize,
    /// Updates fetched and verified.
    pub verified: usize,
    /// Joins that wait for the next record.
    pub pending_joins: usize,
    /// Since the phase began.
    pub elapsed_ms: u64,
    /// Statements refused since the machine was made, by reason.
    pub refused: BTreeMap<Refused, u64>,
}

enum Phase {
    Opening { outer: Option<OuterResult> },
    Collecting,
    Fetching { list: Signed<ClaimList>, outcomes: BTreeMap<MemberId, UpdateOutcome> },
    Aggregating { list: Signed<ClaimList>, outcomes: BTreeMap<MemberId, UpdateOutcome> },
    Finished,
}

/// The coordinator's state machine.
pub struct CoordinatorMachine {
    config: CoordinatorConfig,
    chain: ChainState,
    phase: Phase,
    /// When the phase began.
    since_ms: u64,
    claims: BTreeMap<MemberId, HeldClaim>,
    joins: BTreeMap<MemberId, Signed<Join>>,
    refused: BTreeMap<Refused, u64>,
    /// The signed head, as it was published last.
    head: Option<Vec<u8>>,
    actions: VecDeque<CoordinatorAction>,
}

impl CoordinatorMachine {
    /// A machine for a new run (`CoordinatorRestored::default()`), or for one that goes on from what is on disk.
    ///
    /// # Errors
    /// [`CoordinatorError`] when config or restored statements do not belong together.
    pub fn new(
        config: CoordinatorConfig,
        restored: CoordinatorRestored,
        now_ms: u64,
    ) -> Result<CoordinatorMachine, CoordinatorError> {
        let manifest = &config.manifest.value;
        let check = config.check.clone();
        let genesis = ChainState::genesis(&config.manifest, &*check)?;
        if manifest.threshold > 1 {
            return Err(CoordinatorError::Threshold { threshold: manifest.threshold });
        }
        if !manifest.operators.contains(&config.keypair.member()) {
            return Err(CoordinatorError::NotOperator { got: config.keypair.member() });
        }
        let (got, len) = (config.hash_chain.anchor(), config.hash_chain.len());
        let (expected, expected_len) = (manifest.hash_chain_anchor, manifest.hash_chain_len);
        if (got, len) != (expected, expected_len) {
            return Err(CoordinatorError::HashChain { got, len, expected, expected_len });
        }
        let chain = match restored.last {
            None => genesis,
            Some((record, ledger)) => ChainState::resume(&config.manifest, &*check, &record, ledger)?,
        };
        let mut machine = CoordinatorMachine {
            config,
            chain,
            phase: Phase::Opening { outer: None },
            since_ms: now_ms,
            claims: BTreeMap::new(),
            joins: BTreeMap::new(),
            refused: BTreeMap::new(),
            head: None,
            actions: VecDeque::new(),
        };
        machine.resume(restored.list, restored.claims, now_ms)?;
        Ok(machine)
    }

    fn resume(
        &mut self,
        list: Option<Signed<ClaimList>>,
        claims: Vec<HeldClaim>,
        now_ms: u64,
    ) -> Result<(), CoordinatorError> {
        if self.chain.round().is_none() {
            self.actions.push_back(CoordinatorAction::Aggregate { round: 0, contributions: Vec::new() });
            return Ok(());
        }
        self.open(now_ms);
        let round = self.chain.open_round();
        let of_round = claims.into_iter().filter(|held| held.claim.value.round == round);
        self.claims = of_round.map(|held| (held.claim.value.member, held)).collect();
        let Some(list) = list.filter(|list| list.value.round == round) else { return Ok(()) };
        self.chain.check_list(&list, &*self.config.check)?;
        for listed in &list.value.claims {
            let held = self.claims.get(&listed.member);
            if held.is_none_or(|held| held.claim.id() != listed.claim) {
                return Err(CoordinatorError::ClaimLost { round, member: listed.member });
            }
        }
        self.start_fetching(list, now_ms);
        Ok(())
    }

    /// What is to be done next; `None` when everything is.
    pub fn poll_action(&mut self) -> Option<CoordinatorAction> {
        self.actions.pop_front()
    }

    /// When [`CoordinatorMachine::handle_timeout`] is to be called at the latest. `None`: not before another input.
    pub fn next_timeout(&self) -> Option<u64> {
        let timing = &self.manifest().timing;
        let at = |after_ms: u64| Some(self.since_ms.saturating_add(after_ms));
        match &self.phase {
            Phase::Opening { .. } | Phase::Aggregating { .. } | Phase::Finished => None,
            Phase::Fetching { .. } => at(timing.fetch_max_ms),
            Phase::Collecting if self.would_close_early() => at(timing.round_min_ms),
            Phase::Collecting if self.chain.ledger().members.is_empty() && self.joins.is_empty() => None,
            Phase::Collecting => at(timing.round_max_ms),
        }
    }

    /// Time went by.
    pub fn handle_timeout(&mut self, now_ms: u64) {
        self.advance(now_ms);
    }

    /// The answer to [`crate::messages::Request::Status`].
    pub fn status(&self, now_ms: u64) -> Status {
        let elapsed_ms = now_ms.saturating_sub(self.since_ms);
        let (list, remaining_ms) = match &self.phase {
            Phase::Collecting => (None, self.manifest().timing.round_max_ms.saturating_sub(elapsed_ms)),
            Phase::Fetching { list, .. } | Phase::Aggregating { list, .. } => (Some(list), 0),
            Phase::Opening { .. } | Phase::Finished => (None, 0),
        };
        Status {
            head: self.head.clone(),
            claims: list.map(Signed::to_bytes),
            elapsed_ms,
            remaining_ms,
            finished: matches!(self.phase, Phase::Finished),
        }
    }

    /// Where the machine is.
    pub fn view(&self, now_ms: u64) -> CoordinatorView {
        let (phase, verified) = match &self.phase {
            Phase::Opening { .. } => (CoordinatorPhase::Opening, 0),
            Phase::Collecting => (CoordinatorPhase::Collecting, 0),
            Phase::Fetching { outcomes, .. } => (CoordinatorPhase::Fetching, verified(outcomes)),
            Phase::Aggregating { outcomes, .. } => (CoordinatorPhase::Aggregating, verified(outcomes)),
            Phase::Finished => (CoordinatorPhase::Finished, 0),
        };
        CoordinatorView {
            round: self.chain.open_round(),
            phase,
            members: self.chain.ledger().members.len(),
            claims: self.claims.len(),
            verified,
            pending_joins: self.joins.len(),
            elapsed_ms: now_ms.saturating_sub(self.since_ms),
            refused: self.refused.clone(),
        }
    }

    /// The chain up to the last record.
    pub fn chain(&self) -> &ChainState {
        &self.chain
    }

    /// Whether the list of claims of the open round is signed: only then are updates served.
    pub fn is_closed(&self) -> bool {
        matches!(self.phase, Phase::Fetching { .. } | Phase::Aggregating { .. })
    }

    fn manifest(&self) -> &Manifest {
        &self.config.manifest.value
    }

    fn publish(&mut self) {
        let claims = match &self.phase {
            Phase::Fetching { list, .. } | Phase::Aggregating { list, .. } => Some(list.id()),
            _ => None,
        };
        let Some(round) = self.chain.round() else { return };
        let head = Head { run: self.chain.run(), round, record: self.chain.head_id(), claims };
        let head = self.config.keypair.sign(head).to_bytes();
        self.head = Some(head.clone());
        self.actions.push_back(CoordinatorAction::Publish { head });
    }

    fn advance(&mut self, now_ms: u64) {
        match &self.phase {
            Phase::Collecting if self.must_close(now_ms) => self.close(now_ms),
            Phase::Fetching { .. } if self.fetched(now_ms) => self.start_aggregating(now_ms),
            _ => {}
        }
    }
}

fn verified(outcomes: &BTreeMap<MemberId, UpdateOutcome>) -> usize {
    outcomes.values().filter(|outcome| **outcome == UpdateOutcome::Verified).count()
}
