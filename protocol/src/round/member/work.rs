//! The work on the open round, its claim and its receipt.

use super::{
    Claimed, MemberAction, MemberError, MemberEvent, MemberMachine, MemberStored, RequestKind, Signed, Work, WorkDone,
    WorkOrder,
};
use crate::messages::Refused;
use crate::statements::{Claim, Receipt};

impl MemberMachine {
    /// The work that was ordered is done, or was stopped after any inner step; its update is on disk. Work on another round
    /// than the open one is too late, and ignored.
    ///
    /// # Errors
    /// [`MemberError::Work`] when this can be no claim: a fault of the driver. The round is sat out.
    pub fn handle_work_done(&mut self, now_ms: u64, done: WorkDone) -> Result<(), MemberError> {
        let round = done.round;
        if round != self.chain.open_round() || !matches!(self.work, Work::Working { .. }) {
            return Ok(());
        }
        self.work = Work::SatOut;
        let judged = self.claim_of(&done);
        if let Ok(Some(claim)) = &judged {
            self.actions.push_back(MemberAction::Persist(MemberStored::Claim { round, claim: claim.to_bytes() }));
            self.kept_claim = Some(claim.clone());
            self.claimed(claim.clone(), now_ms);
        }
        self.plan(now_ms);
        judged.map(|_| ()).map_err(|refused| MemberError::Work { round, refused })
    }

    fn claim_of(&self, done: &WorkDone) -> Result<Option<Signed<Claim>>, Refused> {
        if done.steps == 0 {
            return Ok(None);
        }
        let assignment = self.chain.assignment_of(&self.member).ok_or(Refused::NotMember)?;
        let claim = self.config.keypair.sign(Claim {
            run: self.chain.run(),
            round: done.round,
            member: self.member,
            base: self.chain.head_id(),
            assignment: assignment.digest(),
            steps: done.steps,
            skipped: done.skipped,
            tokens: u64::from(done.steps).saturating_mul(self.chain.manifest().tokens_per_step()),
            loss: done.loss,
            update: done.update,
            update_len_bytes: done.update_len_bytes,
            state_digests: None,
            residual: None,
        });
        self.chain.judge_claim(&claim, &*self.config.check)?;
        Ok(Some(claim))
    }

    fn claimed(&mut self, claim: Signed<Claim>, now_ms: u64) {
        self.work = Work::Claimed(Box::new(Claimed { claim, receipt: None, refused: false, list_seen: false }));
        self.requests.hurry(RequestKind::Claim, now_ms);
    }

    /// Begins, stops and serves.
    pub(super) fn plan_work(&mut self, now_ms: u64) {
        if self.halted || self.finished {
            return;
        }
        if self.is_behind() {
            self.stop_work(false);
            return;
        }
        if !self.at_head() {
            return;
        }
        let round = self.chain.open_round();
        // A head of an earlier round may come late: its list is not the open round's.
        let current = self.head.as_ref().filter(|head| Some(head.value.round) == self.chain.round());
        let closed = current.is_some_and(|head| head.value.claims.is_some());
        if matches!(self.work, Work::Idle) {
            self.begin(now_ms, closed);
        }
        let closes_ms = self.closes.filter(|(head, _)| Some(*head) == self.chain.round());
        let closes_ms = closes_ms.map(|(_, at_ms)| at_ms.saturating_sub(self.margin_ms()));
        if let Work::Working { deadline_ms, stopping } = &mut self.work {
            *deadline_ms = closes_ms.unwrap_or(*deadline_ms);
            if !*stopping && *deadline_ms <= now_ms && !closed {
                *stopping = true;
                self.actions.push_back(MemberAction::StopWork { round, claim: true });
            }
        }
        if closed {
            self.stop_work(false);
            if matches!(self.work, Work::Claimed(_)) && self.served != Some(round) {
                self.served = Some(round);
                self.actions.push_back(MemberAction::ServeUpdates { round });
            }
        }
    }

    /// Starts the work on the open round, unless it is claimed already or cannot be claimed any more.
    fn begin(&mut self, now_ms: u64, closed: bool) {
        let Some(assignment) = self.chain.assignment_of(&self.member) else { return };
        let round = self.chain.open_round();
        let base = self.chain.head_id();
        let kept = self.kept_claim.as_ref().filter(|claim| claim.value.round == round && claim.value.base == base);
        if let Some(claim) = kept.cloned() {
            self.claimed(claim, now_ms);
            return;
        }
        if closed {
            self.work = Work::SatOut;
            return;
        }
        let known = self.closes.filter(|(head, _)| Some(*head) == self.chain.round()).map(|(_, at_ms)| at_ms);
        let closes_ms = known.unwrap_or(now_ms.saturating_add(self.chain.manifest().timing.round_max_ms));
        let deadline_ms = closes_ms.saturating_sub(self.margin_ms());
        if deadline_ms <= now_ms {
            // Too late for a single inner step: do not begin, but look again when the round is extended.
            return;
        }
        let order = WorkOrder {
            round,
            assignment: assignment.clone(),
            base,
            base_tokens_total: self.chain.ledger().tokens_total,
            deadline_ms,
        };
        self.actions.push_back(MemberAction::Work(order));
        self.work = Work::Working { deadline_ms, stopping: false };
    }

    fn margin_ms(&self) -> u64 {
        self.config.timing.margin_ms.min(self.chain.manifest().timing.round_max_ms >> 2)
    }

    /// Ends the work on the open round, if it is under way.
    pub(super) fn stop_work(&mut self, claim: bool) {
        if matches!(self.work, Work::Working { .. }) {
            self.work = Work::SatOut;
            self.actions.push_back(MemberAction::StopWork { round: self.chain.open_round(), claim });
        }
    }

    /// Takes a receipt. `false`: it is none for the open claim.
    pub(super) fn take_receipt(&mut self, bytes: &[u8]) -> bool {
        let Ok(receipt) = Signed::<Receipt>::from_bytes(bytes) else { return false };
        let Work::Claimed(claimed) = &mut self.work else { return true };
        let claim = &claimed.claim;
        let same = receipt.value.claim == claim.id()
            && receipt.value.round == claim.value.round
            && receipt.value.run == claim.value.run;
        if !same || self.chain.signed_by_operators(&receipt, &*self.config.check).is_err() {
            return false;
        }
        if claimed.receipt.is_none() {
            claimed.receipt = Some(receipt);
            let round = claim.value.round;
            self.event(MemberEvent::Receipted { round });
        }
        true
    }

    pub(super) fn claim_refused(&mut self, reason: Refused) -> bool {
        let Work::Claimed(claimed) = &mut self.work else { return true };
        if claimed.receipt.is_some() || claimed.refused {
            return true;
        }
        claimed.refused = true;
        let round = claimed.claim.value.round;
        self.event(MemberEvent::ClaimRefused { round, reason });
        true
    }
}
