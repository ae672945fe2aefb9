//! From the close of a round to its record.

use super::{CoordinatorAction, CoordinatorError, CoordinatorMachine, OuterResult, Phase, Stored, UpdateOutcome};
use crate::chain::{ChainError, StatementRef, check_heldout};
use crate::ids::{Hash, MemberId};
use crate::ledger::Standing;
use crate::signing::Signed;
use crate::statements::{
    Admitted, ClaimList, Contribution, Join, ListedClaim, NO_CLAIMS, Record, Refusal, RefusalReason,
};
use std::collections::BTreeMap;

impl CoordinatorMachine {
    /// An update was fetched, or will not be.
    pub fn handle_update(&mut self, now_ms: u64, round: u64, member: MemberId, outcome: UpdateOutcome) {
        if let Phase::Fetching { list, outcomes } = &mut self.phase
            && list.value.round == round
            && list.value.claims.iter().any(|listed| listed.member == member)
        {
            outcomes.insert(member, outcome);
        }
        self.advance(now_ms);
    }

    /// The checkpoint that [`CoordinatorAction::Aggregate`] asked for is on disk, with its outer state.
    ///
    /// # Errors
    /// [`CoordinatorError::Chain`] when the record with this result would break a rule of the chain (a held-out loss that
    /// is not finite, say). Nothing is signed then, and the machine still waits for a result.
    pub fn handle_outer(&mut self, now_ms: u64, round: u64, result: OuterResult) -> Result<(), CoordinatorError> {
        if round != self.chain.open_round() {
            return Ok(());
        }
        if let Phase::Opening { outer } = &mut self.phase {
            let error = |fault| ChainError::new(StatementRef::Record { round }, fault);
            check_heldout(&result.heldout).map_err(error)?;
            *outer = Some(result);
            self.try_open(now_ms);
        } else if let Phase::Aggregating { list, outcomes } = &self.phase {
            let record = self.draft(list.id(), &self.answers(list, outcomes), &result);
            self.end_round(now_ms, record)?;
        }
        Ok(())
    }

    /// The aggregation failed: the values of `blamed` are at fault, or, for `None`, those of all together (each is finite,
    /// their outer step is not). What is blamed is refused as not finite, and the rest aggregated anew.
    pub fn handle_outer_failed(&mut self, now_ms: u64, round: u64, blamed: Option<MemberId>) {
        if round != self.chain.open_round() {
            return;
        }
        if let Phase::Aggregating { list, outcomes } = &mut self.phase {
            for listed in &list.value.claims {
                if blamed.is_none_or(|blamed| blamed == listed.member)
                    && outcomes.get(&listed.member) == Some(&UpdateOutcome::Verified)
                {
                    outcomes.insert(listed.member, UpdateOutcome::NonFinite);
                }
            }
            let (list, outcomes) = (list.clone(), outcomes.clone());
            self.aggregate(list, outcomes, now_ms);
        }
    }

    /// Members whose claims an early close waits for.
    fn in_touch(&self) -> impl Iterator<Item = &Standing> {
        self.chain.ledger().members.iter().filter(|standing| standing.absent_rounds == 0)
    }

    /// Whether the round closes as soon as `round_min_ms` is over.
    pub(super) fn would_close_early(&self) -> bool {
        let min = usize::try_from(self.manifest().admission.members_min).unwrap_or(usize::MAX);
        let members = self.chain.ledger().members.len();
        if members == 0 {
            return self.joins.len() >= min;
        }
        let everybody = self.claims.len() >= members;
        let mut in_touch = self.in_touch().peekable();
        let in_touch = in_touch.peek().is_some() && in_touch.all(|standing| self.claims.contains_key(&standing.member));
        members >= min && (everybody || in_touch)
    }

    pub(super) fn must_close(&self, now_ms: u64) -> bool {
        let timing = &self.manifest().timing;
        let elapsed_ms = now_ms.saturating_sub(self.since_ms);
        let anybody = !self.chain.ledger().members.is_empty() || !self.joins.is_empty();
        (elapsed_ms >= timing.round_min_ms && self.would_close_early())
            || (elapsed_ms >= timing.round_max_ms && anybody)
    }

    /// Signs the list of claims.
    pub(super) fn close(&mut self, now_ms: u64) {
        let claims = self.claims.values().map(|held| &held.claim);
        let list = ClaimList {
            run: self.chain.run(),
            round: self.chain.open_round(),
            previous: self.chain.head_id(),
            claims: claims.map(|claim| ListedClaim { member: claim.value.member, claim: claim.id() }).collect(),
        };
        let list = self.config.keypair.sign(list);
        let stored = Stored::ClaimList { round: list.value.round, list: list.to_bytes() };
        self.actions.push_back(CoordinatorAction::Persist(stored));
        self.start_fetching(list, now_ms);
    }

    pub(super) fn start_fetching(&mut self, list: Signed<ClaimList>, now_ms: u64) {
        let round = list.value.round;
        let claims = list.value.claims.iter().filter_map(|listed| self.claims.get(&listed.member));
        let fetches: Vec<CoordinatorAction> = claims
            .map(|held| &held.claim.value)
            .map(|claim| CoordinatorAction::Fetch {
                round,
                member: claim.member,
                update: claim.update,
                len_bytes: claim.update_len_bytes,
            })
            .collect();
        self.phase = Phase::Fetching { list, outcomes: BTreeMap::new() };
        self.since_ms = now_ms;
        self.publish();
        self.actions.extend(fetches);
        self.advance(now_ms);
    }

    pub(super) fn fetched(&self, now_ms: u64) -> bool {
        let Phase::Fetching { list, outcomes } = &self.phase else { return false };
        let elapsed_ms = now_ms.saturating_sub(self.since_ms);
        outcomes.len() >= list.value.claims.len() || elapsed_ms >= self.manifest().timing.fetch_max_ms
    }

    pub(super) fn start_aggregating(&mut self, now_ms: u64) {
        if let Phase::Fetching { list, outcomes } = &self.phase {
            let (list, outcomes) = (list.clone(), outcomes.clone());
            self.aggregate(list, outcomes, now_ms);
        }
    }

    fn aggregate(&mut self, list: Signed<ClaimList>, outcomes: BTreeMap<MemberId, UpdateOutcome>, now_ms: u64) {
        let round = list.value.round;
        let contributions = self.answers(&list, &outcomes).0;
        self.phase = Phase::Aggregating { list, outcomes };
        self.since_ms = now_ms;
        self.actions.push_back(CoordinatorAction::Aggregate { round, contributions });
    }

    /// What counts of the listed claims, and what does not.
    fn answers(
        &self,
        list: &Signed<ClaimList>,
        outcomes: &BTreeMap<MemberId, UpdateOutcome>,
    ) -> (Vec<Contribution>, Vec<Refusal>) {
        let mut contributions = Vec::new();
        let mut refusals = Vec::new();
        for listed in &list.value.claims {
            let outcome = outcomes.get(&listed.member).copied().unwrap_or(UpdateOutcome::Unavailable);
            let held = self.claims.get(&listed.member);
            match (outcome.refusal(), held) {
                (None, Some(held)) => contributions.push(Contribution::of(&held.claim)),
                (reason, _) => refusals.push(Refusal {
                    member: listed.member,
                    claim: listed.claim,
                    reason: reason.unwrap_or(RefusalReason::Withheld),
                }),
            }
        }
        (contributions, refusals)
    }

    /// Record 0, once there are members enough and the first checkpoint.
    pub(super) fn try_open(&mut self, now_ms: u64) {
        let Phase::Opening { outer: Some(result) } = &self.phase else { return };
        let min = usize::try_from(self.manifest().admission.members_min).unwrap_or(usize::MAX);
        if self.joins.len() < min {
            return;
        }
        let record = self.draft(NO_CLAIMS, &(Vec::new(), Vec::new()), result);
        if self.end_round(now_ms, record).is_err() {
            // The driver's result breaks a rule: wait for another.
            self.phase = Phase::Opening { outer: None };
        }
    }

    /// The record of the open round, but for what the ledger says.
    fn draft(&self, claims: Hash, answers: &(Vec<Contribution>, Vec<Refusal>), result: &OuterResult) -> Record {
        let round = self.chain.open_round();
        let admitted = self.admissible().map(|join| Admitted { member: join.value.member, join: join.id() });
        Record {
            run: self.chain.run(),
            round,
            previous: self.chain.head_id(),
            claims,
            contributions: answers.0.clone(),
            refusals: answers.1.clone(),
            admitted: admitted.collect(),
            preimage: self.config.hash_chain.preimage(round).unwrap_or(NO_CLAIMS),
            tokens_total: 0,
            ledger: NO_CLAIMS,
            checkpoint: result.checkpoint,
            outer_state: result.outer_state,
            heldout: result.heldout.clone(),
            audits: Vec::new(),
            withdrawals: Vec::new(),
            slices: Vec::new(),
        }
    }

    /// Pending joins that this round's record may admit.
    fn admissible(&self) -> impl Iterator<Item = &Signed<Join>> {
        let previous = self.chain.record().map(|record| record.value.previous);
        let head = self.chain.head_id();
        self.joins.values().filter(move |join| join.value.head == head || Some(join.value.head) == previous)
    }

    /// Signs the record, makes sure that it keeps every rule, and opens the next round.
    fn end_round(&mut self, now_ms: u64, mut record: Record) -> Result<(), CoordinatorError> {
        let error = |fault| ChainError::new(StatementRef::Record { round: self.chain.open_round() }, fault);
        let ledger = self.chain.ledger().apply(self.manifest(), self.chain.assignments(), &record);
        let ledger = ledger.map_err(|fault| error(fault.into()))?;
        record.tokens_total = ledger.tokens_total;
        record.ledger = ledger.hash();
        let record = self.config.keypair.sign(record);
        let list = match &self.phase {
            Phase::Aggregating { list, .. } => Some(list),
            _ => None,
        };
        let next = self.chain.apply(&record, list, &*self.config.check)?;
        let joins = record.value.admitted.iter().filter_map(|admitted| self.joins.get(&admitted.member));
        let joins = joins.map(|join| (join.value.member, join.to_bytes())).collect();
        let stored =
            Stored::Record { round: record.value.round, record: record.to_bytes(), ledger: ledger.to_bytes(), joins };
        self.actions.push_back(CoordinatorAction::Persist(stored));
        self.chain = next;
        self.open(now_ms);
        Ok(())
    }

    /// Opens the round after the last record.
    pub(super) fn open(&mut self, now_ms: u64) {
        self.claims.clear();
        let ledger = self.chain.ledger();
        let (head, previous) = (self.chain.head_id(), self.chain.record().map(|record| record.value.previous));
        self.joins.retain(|member, join| {
            ledger.member(member).is_none() && (join.value.head == head || Some(join.value.head) == previous)
        });
        self.since_ms = now_ms;
        if self.chain.is_finished() {
            self.phase = Phase::Finished;
            self.publish();
            self.actions.push_back(CoordinatorAction::Finished);
            return;
        }
        self.phase = Phase::Collecting;
        self.publish();
        let (round, members) = (self.chain.open_round(), self.chain.ledger().members.len());
        self.actions.push_back(CoordinatorAction::RoundOpened { round, members });
    }
}
