//! What is watched from outside: one checker for each promise. They see statements and what members adopt, never the inside
//! of a machine.

mod agreement;
mod assignments;
mod progress;
mod statements;

pub use agreement::Agreement;
pub use assignments::{Disjoint, NothingLost};
pub use progress::Progress;
pub use statements::{OneOfEach, Receipts, ServedAfterList};

use super::Summary;
use super::arithmetic::Remembered;
use essaim_protocol::chain::{ChainState, Sources};
use essaim_protocol::ids::MemberId;
use essaim_protocol::manifest::Manifest;
use essaim_protocol::round::{MemberEvent, OuterResult};
use essaim_protocol::signing::Signed;
use essaim_protocol::statements::{Claim, ClaimList, Head, Join, Receipt, Record};
use std::sync::Arc;

/// Something seen from outside.
// The fields are what their names say.
#[allow(missing_docs)]
#[derive(Debug, Clone)]
pub enum Observation {
    /// A record is durable at the coordinator.
    Record(Box<RecordSeen>),
    /// A list of claims is durable at the coordinator.
    List { list: Signed<ClaimList> },
    /// A head is published.
    Head { head: Signed<Head> },
    /// A receipt is sent.
    Receipted { receipt: Signed<Receipt> },
    /// An honest member sends a claim.
    Claimed { claim: Signed<Claim> },
    /// An honest member adopts a checkpoint.
    Adopted { member: MemberId, round: u64, result: OuterResult },
    /// An honest member serves an update; whether the round's list was signed by then.
    Served { member: MemberId, round: u64, listed: bool },
    /// A member's machine tells its driver something.
    Told { member: MemberId, event: MemberEvent },
    /// A member's machine stops for good.
    Halted { member: MemberId, why: String },
}

/// A record, with all that it rests on.
#[derive(Debug, Clone)]
pub struct RecordSeen {
    /// The record.
    pub record: Signed<Record>,
    /// The list that it answers.
    pub list: Option<Signed<ClaimList>>,
    /// The claims of the round.
    pub claims: Vec<Signed<Claim>>,
    /// The joins that it admits.
    pub joins: Vec<Signed<Join>>,
}

impl Sources for RecordSeen {
    fn claim(&self, _round: u64, member: &MemberId) -> Option<Signed<Claim>> {
        self.claims.iter().find(|claim| claim.value.member == *member).cloned()
    }

    fn join(&self, _round: u64, member: &MemberId) -> Option<Signed<Join>> {
        self.joins.iter().find(|join| join.value.member == *member).cloned()
    }
}

/// Watches for one promise.
pub trait Checker {
    /// Its name, in reports.
    fn name(&self) -> &'static str;

    /// Looks at something seen.
    ///
    /// # Errors
    /// What was broken.
    fn observe(&mut self, _observation: &Observation) -> Result<(), String> {
        Ok(())
    }

    /// Looks at a round, between the states of the chain before and after its record.
    ///
    /// # Errors
    /// What was broken.
    fn round(&mut self, _before: &ChainState, _record: &Record, _after: &ChainState) -> Result<(), String> {
        Ok(())
    }

    /// Looks at the end.
    ///
    /// # Errors
    /// What was broken.
    fn end(&mut self, _summary: &Summary) -> Result<(), String> {
        Ok(())
    }
}

/// Holds the checkers, and checks the chain itself.
pub struct Referee {
    chain: ChainState,
    check: Arc<Remembered>,
    checkers: Vec<Box<dyn Checker>>,
    failure: Option<String>,
}

impl Referee {
    /// With every checker. `share_permille`: see [`Progress`].
    pub fn new(manifest: Signed<Manifest>, check: Arc<Remembered>, share_permille: u64) -> Referee {
        Referee::with(
            manifest,
            check,
            vec![
                Box::new(OneOfEach::default()),
                Box::new(Receipts::default()),
                Box::new(ServedAfterList),
                Box::new(Disjoint::default()),
                Box::new(NothingLost::default()),
                Box::new(Agreement::default()),
                Box::new(Progress { share_permille }),
            ],
        )
    }

    /// With these checkers.
    pub fn with(manifest: Signed<Manifest>, check: Arc<Remembered>, checkers: Vec<Box<dyn Checker>>) -> Referee {
        let chain = ChainState::genesis(&manifest, &*check).expect("the simulation's manifest");
        Referee { chain, check, checkers, failure: None }
    }

    /// Looks at what was seen. `false`: something is broken.
    pub fn observe(&mut self, observations: Vec<Observation>) -> bool {
        for observation in &observations {
            if self.failure.is_none() {
                self.failure = self.look(observation).err();
            }
        }
        self.failure.is_none()
    }

    fn look(&mut self, observation: &Observation) -> Result<(), String> {
        for checker in &mut self.checkers {
            checker.observe(observation).map_err(|why| format!("{}: {why}", checker.name()))?;
        }
        let Observation::Record(seen) = observation else { return Ok(()) };
        let fault = |error| format!("chain: {error}");
        self.chain.check_sources(&seen.record, seen.list.as_ref(), &**seen, &*self.check).map_err(fault)?;
        let next = self.chain.apply(&seen.record, seen.list.as_ref(), &*self.check).map_err(fault)?;
        for checker in &mut self.checkers {
            let looked = checker.round(&self.chain, &seen.record.value, &next);
            looked.map_err(|why| format!("{}: round {}: {why}", checker.name(), seen.record.value.round))?;
        }
        self.chain = next;
        Ok(())
    }

    /// The verdict.
    ///
    /// # Errors
    /// The first thing that was broken.
    pub fn finish(mut self, summary: &Summary) -> Result<(), String> {
        if let Some(failure) = self.failure {
            return Err(failure);
        }
        for checker in &mut self.checkers {
            checker.end(summary).map_err(|why| format!("{}: {why}", checker.name()))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
