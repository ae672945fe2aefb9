//! What members send: joins and claims.

use super::{CoordinatorAction, CoordinatorMachine, HeldClaim, Phase, Stored};
use crate::chain::Evidence;
use crate::ids::MemberId;
use crate::messages::{Refused, Reply};
use crate::signing::Signed;
use crate::statements::{Claim, Join, Receipt};

impl CoordinatorMachine {
    /// A peer that proved to be `sender` sent a signed join. Joining again is no fault.
    pub fn handle_join(&mut self, now_ms: u64, sender: MemberId, bytes: &[u8]) -> Reply {
        let reply = match self.admit(sender, bytes) {
            Ok(()) => Reply::Joined,
            Err(refused) => self.refuse(refused),
        };
        self.try_open(now_ms);
        self.advance(now_ms);
        reply
    }

    fn admit(&mut self, sender: MemberId, bytes: &[u8]) -> Result<(), Refused> {
        let join = Signed::<Join>::from_bytes(bytes).map_err(|_| Refused::Malformed)?;
        let member = join.value.member;
        if member != sender {
            return Err(Refused::WrongSender);
        }
        let known = self.chain.ledger().member(&member).is_some();
        if known || self.joins.get(&member).is_some_and(|pending| pending == &join) {
            // Already in, or asked in the same words: no signature to check and nothing to do.
            return if join.value.run == self.chain.run() { Ok(()) } else { Err(Refused::WrongRun) };
        }
        self.chain.judge_join(&join, &*self.config.check)?;
        let present = self.chain.ledger().members.len().saturating_add(self.joins.len());
        let max = usize::try_from(self.manifest().admission.members_max).unwrap_or(usize::MAX);
        if present >= max && !self.joins.contains_key(&member) {
            return Err(Refused::Full);
        }
        self.joins.insert(member, join);
        Ok(())
    }

    /// A peer that proved to be `sender` sent a signed claim. The same claim gets the same receipt, in the same bytes,
    /// as often as it is sent while its round is open.
    ///
    /// Do the actions that wait (one may be the claim's `Persist`) before the reply is sent.
    pub fn handle_claim(&mut self, now_ms: u64, sender: MemberId, bytes: &[u8]) -> Reply {
        // A deadline that has passed counts before the claim does.
        self.advance(now_ms);
        let reply = match self.receipt(sender, bytes) {
            Ok(receipt) => Reply::Receipt(receipt),
            Err(refused) => self.refuse(refused),
        };
        self.advance(now_ms);
        reply
    }

    fn receipt(&mut self, sender: MemberId, bytes: &[u8]) -> Result<Vec<u8>, Refused> {
        let claim = Signed::<Claim>::from_bytes(bytes).map_err(|_| Refused::Malformed)?;
        let member = claim.value.member;
        if member != sender {
            return Err(Refused::WrongSender);
        }
        if let Some(held) = self.claims.get(&member)
            && held.claim.id() == claim.id()
        {
            return Ok(held.receipt.to_bytes());
        }
        self.chain.judge_claim(&claim, &*self.config.check)?;
        if let Some(len_bytes) = self.config.update_len_bytes
            && claim.value.update_len_bytes != len_bytes
        {
            return Err(Refused::Impossible);
        }
        if let Some(held) = self.claims.get(&member) {
            if let Some(evidence) = Evidence::of_claims(&held.claim, &claim) {
                self.actions.push_back(CoordinatorAction::Misconduct { member, evidence });
            }
            return Err(Refused::Duplicate);
        }
        if !matches!(self.phase, Phase::Collecting) {
            return Err(Refused::Closed);
        }
        let round = claim.value.round;
        let receipt = self.config.keypair.sign(Receipt { run: self.chain.run(), round, claim: claim.id() });
        let out = receipt.to_bytes();
        let stored = Stored::Claim { round, member, claim: claim.to_bytes(), receipt: out.clone() };
        self.actions.push_back(CoordinatorAction::Persist(stored));
        self.claims.insert(member, HeldClaim { claim, receipt });
        Ok(out)
    }

    fn refuse(&mut self, refused: Refused) -> Reply {
        let count = self.refused.entry(refused).or_insert(0);
        *count = count.saturating_add(1);
        Reply::Refused(refused)
    }
}
