//! The claims and joins that a record rests on.

use super::{ChainError, ChainFault, ChainState, StatementRef};
use crate::ids::MemberId;
use crate::messages::Refused;
use crate::signing::{SignatureCheck, Signed};
use crate::statements::{Claim, ClaimList, Contribution, Join, Record};

/// Where claims and joins are found. `None`: not here.
pub trait Sources {
    /// The claim of `member` for `round`.
    fn claim(&self, round: u64, member: &MemberId) -> Option<Signed<Claim>>;
    /// The join of `member` that record `round` admits.
    fn join(&self, round: u64, member: &MemberId) -> Option<Signed<Join>>;
}

impl ChainState {
    /// Checks every claim of the list and every admitted join behind `record`, the next record after this state. The
    /// record itself is checked by [`ChainState::apply`].
    ///
    /// # Errors
    /// [`ChainError`] naming the first claim or join that is missing or contradicts the record.
    pub fn check_sources(
        &self,
        record: &Signed<Record>,
        list: Option<&Signed<ClaimList>>,
        sources: &dyn Sources,
        check: &dyn SignatureCheck,
    ) -> Result<(), ChainError> {
        let round = record.value.round;
        for listed in list.map(|list| list.value.claims.as_slice()).unwrap_or_default() {
            let error = |fault| ChainError::new(StatementRef::Claim { round, member: listed.member }, fault);
            let claim = sources.claim(round, &listed.member).ok_or_else(|| error(ChainFault::Missing))?;
            if claim.id() != listed.claim {
                return Err(error(ChainFault::Hash { field: "id", got: claim.id(), expected: listed.claim }));
            }
            if claim.value.member != listed.member {
                return Err(error(ChainFault::NotTheClaim { field: "member" }));
            }
            self.judge_claim(&claim, check).map_err(|refused| error(ChainFault::Refused(refused)))?;
            let contributions = &record.value.contributions;
            if let Ok(index) = contributions.binary_search_by_key(&listed.member, |c| c.member)
                && let Some(contribution) = contributions.get(index)
            {
                same(contribution, &claim.value).map_err(error)?;
            }
        }
        for admitted in &record.value.admitted {
            let error = |fault| ChainError::new(StatementRef::Join { round, member: admitted.member }, fault);
            let join = sources.join(round, &admitted.member).ok_or_else(|| error(ChainFault::Missing))?;
            if join.id() != admitted.join {
                return Err(error(ChainFault::Hash { field: "id", got: join.id(), expected: admitted.join }));
            }
            if join.value.member != admitted.member {
                return Err(error(ChainFault::Refused(Refused::NotMember)));
            }
            self.judge_join(&join, check).map_err(|refused| error(ChainFault::Refused(refused)))?;
        }
        Ok(())
    }
}

/// That a contribution says what its claim says.
fn same(contribution: &Contribution, claim: &Claim) -> Result<(), ChainFault> {
    for (same, field) in [
        (contribution.update == claim.update, "update"),
        (contribution.update_len_bytes == claim.update_len_bytes, "length of the update"),
        (contribution.steps == claim.steps, "number of inner steps"),
        (contribution.tokens == claim.tokens, "number of tokens"),
        (contribution.loss == claim.loss, "loss"),
    ] {
        if !same {
            return Err(ChainFault::NotTheClaim { field });
        }
    }
    Ok(())
}

impl Contribution {
    /// The contribution that an accepted claim becomes.
    pub fn of(claim: &Signed<Claim>) -> Contribution {
        let value = &claim.value;
        Contribution {
            member: value.member,
            claim: claim.id(),
            update: value.update,
            update_len_bytes: value.update_len_bytes,
            steps: value.steps,
            tokens: value.tokens,
            loss: value.loss,
        }
    }
}
