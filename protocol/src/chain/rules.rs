//! The rules of one statement against a [`ChainState`].

use super::{ChainError, ChainFault, ChainState, StatementRef};
use crate::assignment;
use crate::ids::{Hash, MemberId};
use crate::ledger::Ledger;
use crate::limits;
use crate::manifest::Manifest;
use crate::messages::Refused;
use crate::signing::{SignatureCheck, Signed};
use crate::statements::{
    Claim, ClaimList, Contribution, HeldoutLoss, Join, ListedClaim, NO_CLAIMS, Record, RefusalReason,
};

/// The longest update that any codec of this version could make for the manifest's model: two bytes a parameter, and room
/// for headers and moments. An exact length is the codec's to know.
pub fn update_len_max_bytes(manifest: &Manifest) -> u64 {
    manifest.model.parameter_count().saturating_mul(2).saturating_add(1 << 20)
}

fn hash_is(field: &'static str, got: Hash, expected: Hash) -> Result<(), ChainFault> {
    if got == expected { Ok(()) } else { Err(ChainFault::Hash { field, got, expected }) }
}

fn number_is(field: &'static str, got: u64, expected: u64) -> Result<(), ChainFault> {
    if got == expected { Ok(()) } else { Err(ChainFault::Number { field, got, expected }) }
}

impl ChainState {
    /// Whether a join could be admitted by the record of the open round. Looks at the statement and the signature, not at
    /// how full the run is.
    ///
    /// # Errors
    /// Why not.
    pub fn judge_join(&self, join: &Signed<Join>, check: &dyn SignatureCheck) -> Result<(), Refused> {
        if join.value.run != self.run() {
            return Err(Refused::WrongRun);
        }
        if self.is_finished() {
            return Err(Refused::Finished);
        }
        let previous = self.record().map(|record| record.value.previous);
        if join.value.head != self.head_id() && Some(join.value.head) != previous {
            return Err(Refused::Stale);
        }
        join.require(check, &[join.value.member], 1).map_err(|_| Refused::Unsigned)
    }

    /// Whether a claim for the open round could be listed.
    ///
    /// # Errors
    /// Why not. The signature is checked last: it is the dearest.
    pub fn judge_claim(&self, claim: &Signed<Claim>, check: &dyn SignatureCheck) -> Result<(), Refused> {
        let value = &claim.value;
        if value.run != self.run() {
            return Err(Refused::WrongRun);
        }
        if self.is_finished() {
            return Err(Refused::Finished);
        }
        if value.round != self.open_round() {
            return Err(Refused::Stale);
        }
        let assignment = self.assignment_of(&value.member).ok_or(Refused::NotMember)?;
        if value.base != self.head_id() {
            return Err(Refused::WrongBase);
        }
        if value.assignment != assignment.digest() || value.steps > assignment.steps() {
            return Err(Refused::WrongAssignment);
        }
        let manifest = self.manifest();
        let possible = value.steps > 0
            && value.skipped <= value.steps
            && value.tokens == u64::from(value.steps).saturating_mul(manifest.tokens_per_step())
            && value.loss.is_finite()
            && (1..=update_len_max_bytes(manifest)).contains(&value.update_len_bytes)
            && value.state_digests.is_none()
            && value.residual.is_none();
        if !possible {
            return Err(Refused::Impossible);
        }
        claim.require(check, &[value.member], 1).map_err(|_| Refused::Unsigned)
    }

    /// Checks the list of claims of the open round by itself.
    ///
    /// # Errors
    /// [`ChainError`].
    pub fn check_list(&self, list: &Signed<ClaimList>, check: &dyn SignatureCheck) -> Result<(), ChainError> {
        let round = self.open_round();
        self.list_fault(list, check).map_err(|fault| ChainError::new(StatementRef::ClaimList { round }, fault))
    }

    fn list_fault(&self, list: &Signed<ClaimList>, check: &dyn SignatureCheck) -> Result<(), ChainFault> {
        let value = &list.value;
        if value.run != self.run() {
            return Err(ChainFault::Run { got: value.run, expected: self.run() });
        }
        if value.round != self.open_round() {
            return Err(ChainFault::Round { got: value.round, expected: self.open_round() });
        }
        hash_is("previous", value.previous, self.head_id())?;
        if !value.claims.is_sorted_by(|a, b| a.member < b.member) {
            return Err(ChainFault::Order("claims"));
        }
        if let Some(stranger) = value.claims.iter().find(|listed| self.assignment_of(&listed.member).is_none()) {
            return Err(ChainFault::NotTheList { member: stranger.member });
        }
        self.signed_by_operators(list, check)
    }

    /// Checks the next record; gives the ledger after it.
    pub(super) fn check_record(
        &self,
        record: &Signed<Record>,
        list: Option<&Signed<ClaimList>>,
        check: &dyn SignatureCheck,
    ) -> Result<Ledger, ChainError> {
        let round = self.open_round();
        let error = |fault| ChainError::new(StatementRef::Record { round }, fault);
        self.check_place(&record.value).map_err(error)?;
        self.signed_by_operators(record, check).map_err(error)?;
        if round == 0 {
            hash_is("list of claims", record.value.claims, NO_CLAIMS).map_err(error)?;
            check_answers(&record.value, &[]).map_err(error)?;
        } else {
            let missing = || ChainError::new(StatementRef::ClaimList { round }, ChainFault::Missing);
            let list = list.ok_or_else(missing)?;
            hash_is("list of claims", record.value.claims, list.id()).map_err(error)?;
            self.check_list(list, check)?;
            check_answers(&record.value, &list.value.claims).map_err(error)?;
        }
        self.check_content(&record.value).map_err(error)
    }

    /// That the record is the next one.
    fn check_place(&self, record: &Record) -> Result<(), ChainFault> {
        if record.run != self.run() {
            return Err(ChainFault::Run { got: record.run, expected: self.run() });
        }
        if self.is_finished() {
            return Err(ChainFault::AfterLast { last: self.manifest().rounds });
        }
        if record.round != self.open_round() {
            return Err(ChainFault::Round { got: record.round, expected: self.open_round() });
        }
        hash_is("previous", record.previous, self.head_id())?;
        let revealed = self.record().map_or(self.manifest().hash_chain_anchor, |last| last.value.preimage);
        if Hash::of(record.preimage.as_bytes()) != revealed {
            return Err(ChainFault::Preimage { got: record.preimage });
        }
        Ok(())
    }

    /// Contributions, admissions, totals and ledger.
    fn check_content(&self, record: &Record) -> Result<Ledger, ChainFault> {
        let manifest = self.manifest();
        for (used, what) in [
            (!record.audits.is_empty(), "audits"),
            (!record.withdrawals.is_empty(), "withdrawals"),
            (!record.slices.is_empty(), "slices"),
            (record.refusals.iter().any(|refusal| refusal.reason == RefusalReason::Mismatch), "an audit's refusal"),
        ] {
            if used {
                return Err(ChainFault::NotInThisVersion(what));
            }
        }
        for contribution in &record.contributions {
            check_contribution(manifest, contribution)?;
        }
        if !record.admitted.is_sorted_by(|a, b| a.member < b.member) {
            return Err(ChainFault::Order("admitted members"));
        }
        check_heldout(&record.heldout)?;
        if let Some(last) = self.record()
            && record.contributions.is_empty()
        {
            let last = &last.value;
            for (changed, what) in [
                (record.checkpoint != last.checkpoint, "checkpoint"),
                (record.outer_state != last.outer_state, "outer state"),
                (record.heldout != last.heldout, "held-out loss"),
            ] {
                if changed {
                    return Err(ChainFault::ChangedByNothing(what));
                }
            }
        }
        let ledger = self.ledger().apply(manifest, self.assignments(), record)?;
        number_is("tokens_total", record.tokens_total, ledger.tokens_total)?;
        hash_is("ledger", record.ledger, ledger.hash())?;
        Ok(ledger)
    }
}

/// Numbers of a contribution that the manifest fixes.
fn check_contribution(manifest: &Manifest, contribution: &Contribution) -> Result<(), ChainFault> {
    let member = contribution.member;
    let tokens = u64::from(contribution.steps).saturating_mul(manifest.tokens_per_step());
    for (holds, field) in [
        (contribution.steps > 0, "number of inner steps"),
        (contribution.tokens == tokens, "number of tokens"),
        (contribution.loss.is_finite(), "loss"),
        ((1..=update_len_max_bytes(manifest)).contains(&contribution.update_len_bytes), "length of the update"),
    ] {
        if !holds {
            return Err(ChainFault::Contribution { member, field });
        }
    }
    Ok(())
}

pub(crate) fn check_heldout(heldout: &[HeldoutLoss]) -> Result<(), ChainFault> {
    if heldout.len() > limits::LANGUAGES_MAX || !heldout.is_sorted_by(|a, b| a.language < b.language) {
        return Err(ChainFault::Order("held-out languages"));
    }
    match heldout.iter().find(|loss| !loss.nats.is_finite() || loss.language.len() > limits::NAME_MAX) {
        Some(loss) => Err(ChainFault::Heldout { language: loss.language.chars().take(16).collect() }),
        None => Ok(()),
    }
}

/// That contributions and refusals together are exactly the listed claims.
fn check_answers(record: &Record, listed: &[ListedClaim]) -> Result<(), ChainFault> {
    if !record.contributions.is_sorted_by(|a, b| a.member < b.member) {
        return Err(ChainFault::Order("contributions"));
    }
    if !record.refusals.is_sorted_by(|a, b| a.member < b.member) {
        return Err(ChainFault::Order("refusals"));
    }
    let contributed = record.contributions.iter().map(|c| ListedClaim { member: c.member, claim: c.claim });
    let refused = record.refusals.iter().map(|r| ListedClaim { member: r.member, claim: r.claim });
    let mut answered: Vec<ListedClaim> = contributed.chain(refused).collect();
    answered.sort_unstable_by_key(|answer| answer.member);
    let differing =
        answered.iter().zip(listed).find(|(answer, listed)| answer != listed).map(|(a, l)| a.member.min(l.member));
    let beyond = |list: &[ListedClaim], len: usize| list.get(len).map(|extra| extra.member);
    let differing: Option<MemberId> = differing.or(beyond(&answered, listed.len())).or(beyond(listed, answered.len()));
    match differing {
        Some(member) => Err(ChainFault::NotTheList { member }),
        None => Ok(()),
    }
}

/// The assignment that a contribution of the open round rests on; used by replays.
impl ChainState {
    /// Positions that a contribution of `steps` inner steps of `member` in the open round reads, in order.
    pub fn positions_of(&self, member: &MemberId, steps: u32) -> Vec<u64> {
        let steps = usize::try_from(steps).unwrap_or(usize::MAX);
        let assignment = assignment::of_member(self.assignments(), member);
        assignment.map(|assignment| assignment.positions().take(steps).collect()).unwrap_or_default()
    }
}
