//! Nothing is signed twice, nothing receipted is left out, nothing served too early.

use super::{Checker, Observation};
use essaim_protocol::ids::{Hash, MemberId};
use std::collections::{BTreeMap, BTreeSet};

/// One record and one list of claims a round, one head a place, one claim of an honest member a round.
#[derive(Debug, Default)]
pub struct OneOfEach {
    records: BTreeMap<u64, Hash>,
    lists: BTreeMap<u64, Hash>,
    heads: BTreeMap<u64, (Hash, Option<Hash>)>,
    claims: BTreeMap<(u64, MemberId), Hash>,
}

fn one<K: Ord + std::fmt::Debug + Copy>(
    what: &str,
    seen: &mut BTreeMap<K, Hash>,
    key: K,
    id: Hash,
) -> Result<(), String> {
    let first = *seen.entry(key).or_insert(id);
    if first == id { Ok(()) } else { Err(format!("two {what} of {key:?}: {first:?} and {id:?}")) }
}

impl Checker for OneOfEach {
    fn name(&self) -> &'static str {
        "one of each"
    }

    fn observe(&mut self, observation: &Observation) -> Result<(), String> {
        match observation {
            Observation::Record(seen) => one("records", &mut self.records, seen.record.value.round, seen.record.id()),
            Observation::List { list } => one("lists", &mut self.lists, list.value.round, list.id()),
            Observation::Claimed { claim } => {
                one("claims", &mut self.claims, (claim.value.round, claim.value.member), claim.id())
            }
            Observation::Head { head } => {
                let value = &head.value;
                one("records in heads", &mut self.records, value.round, value.record)?;
                let known = self.heads.entry(value.round).or_insert((value.record, None));
                match (known.1, value.claims) {
                    (Some(first), Some(second)) if first != second => {
                        Err(format!("two lists in heads of {}", value.round))
                    }
                    (None, Some(list)) => {
                        known.1 = Some(list);
                        Ok(())
                    }
                    _ => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }
}

/// Every receipted claim is in the list of its round, whatever crashed in between.
#[derive(Debug, Default)]
pub struct Receipts {
    receipted: BTreeMap<u64, BTreeSet<Hash>>,
    listed: BTreeMap<u64, BTreeSet<Hash>>,
}

impl Checker for Receipts {
    fn name(&self) -> &'static str {
        "receipts"
    }

    fn observe(&mut self, observation: &Observation) -> Result<(), String> {
        match observation {
            Observation::Receipted { receipt } => {
                let (round, claim) = (receipt.value.round, receipt.value.claim);
                if self.listed.get(&round).is_some_and(|listed| !listed.contains(&claim)) {
                    return Err(format!("claim {claim:?} is receipted after the list of round {round} without it"));
                }
                self.receipted.entry(round).or_default().insert(claim);
                Ok(())
            }
            Observation::List { list } => {
                let round = list.value.round;
                let listed: BTreeSet<Hash> = list.value.claims.iter().map(|listed| listed.claim).collect();
                let receipted = self.receipted.entry(round).or_default();
                if let Some(omitted) = receipted.difference(&listed).next() {
                    return Err(format!("the receipted claim {omitted:?} is not in the list of round {round}"));
                }
                self.listed.insert(round, listed);
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// No honest member serves an update before the list of its round is signed: nobody can copy what nobody has seen.
#[derive(Debug, Default)]
pub struct ServedAfterList;

impl Checker for ServedAfterList {
    fn name(&self) -> &'static str {
        "served after the list"
    }

    fn observe(&mut self, observation: &Observation) -> Result<(), String> {
        match observation {
            Observation::Served { member, round, listed: false } => {
                Err(format!("{member:?} served its update of round {round} before the list was signed"))
            }
            _ => Ok(()),
        }
    }
}
