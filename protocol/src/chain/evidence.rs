//! Evidence: signed statements that prove misconduct by themselves, to anybody who has the manifest.

use crate::ids::Hash;
use crate::manifest::Manifest;
use crate::signing::{Kind, SignatureCheck, Signed, Statement};
use crate::statements::{Claim, ClaimList, Head, Receipt, Record};

/// Statements that cannot be honest together.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Evidence {
    /// Two records of one round: the operator forked the chain.
    TwoRecords(Box<Signed<Record>>, Box<Signed<Record>>),
    /// Two lists of claims of one round, on one record.
    TwoLists(Box<Signed<ClaimList>>, Box<Signed<ClaimList>>),
    /// Two heads that name different records of one round.
    TwoHeads(Box<Signed<Head>>, Box<Signed<Head>>),
    /// A head that names another record than this one of the same round.
    HeadAgainstRecord(Box<Signed<Head>>, Box<Signed<Record>>),
    /// A claim that was receipted and is not in the list of its round.
    Omitted(Box<Signed<Claim>>, Box<Signed<Receipt>>, Box<Signed<ClaimList>>),
    /// Two different claims of one member for one round.
    TwoClaims(Box<Signed<Claim>>, Box<Signed<Claim>>),
    /// A record whose checkpoint or outer state is not what its contributions give. Whoever has the base checkpoint and
    /// the updates can compute this again.
    WrongArithmetic {
        /// The record.
        record: Box<Signed<Record>>,
        /// The checkpoint computed here.
        checkpoint: Hash,
        /// The outer state computed here.
        outer_state: Hash,
    },
}

impl Evidence {
    /// Evidence, if two records are different ones of one round and run.
    pub fn of_records(a: &Signed<Record>, b: &Signed<Record>) -> Option<Evidence> {
        let fork = a.value.run == b.value.run && a.value.round == b.value.round && a.id() != b.id();
        fork.then(|| Evidence::TwoRecords(Box::new(a.clone()), Box::new(b.clone())))
    }

    /// Evidence, if two lists of claims are different ones of one round, on one record.
    pub fn of_lists(a: &Signed<ClaimList>, b: &Signed<ClaimList>) -> Option<Evidence> {
        let slot = |list: &ClaimList| (list.run, list.round, list.previous);
        let fork = slot(&a.value) == slot(&b.value) && a.id() != b.id();
        fork.then(|| Evidence::TwoLists(Box::new(a.clone()), Box::new(b.clone())))
    }

    /// Evidence, if two heads name different records of one round.
    pub fn of_heads(a: &Signed<Head>, b: &Signed<Head>) -> Option<Evidence> {
        let slot = |head: &Head| (head.run, head.round);
        let fork = slot(&a.value) == slot(&b.value) && a.value.record != b.value.record;
        fork.then(|| Evidence::TwoHeads(Box::new(a.clone()), Box::new(b.clone())))
    }

    /// Evidence, if a head names another record of the round of `record`.
    pub fn of_head(head: &Signed<Head>, record: &Signed<Record>) -> Option<Evidence> {
        let slot = (head.value.run, head.value.round) == (record.value.run, record.value.round);
        let fork = slot && head.value.record != record.id();
        fork.then(|| Evidence::HeadAgainstRecord(Box::new(head.clone()), Box::new(record.clone())))
    }

    /// Evidence, if a receipted claim is missing from the list of its round.
    pub fn of_omission(claim: &Signed<Claim>, receipt: &Signed<Receipt>, list: &Signed<ClaimList>) -> Option<Evidence> {
        let slot = |run, round| (run, round) == (claim.value.run, claim.value.round);
        let same = slot(receipt.value.run, receipt.value.round)
            && slot(list.value.run, list.value.round)
            && receipt.value.claim == claim.id()
            && list.value.previous == claim.value.base;
        let omitted = same && !list.value.claims.iter().any(|listed| listed.claim == claim.id());
        let boxed = || Evidence::Omitted(Box::new(claim.clone()), Box::new(receipt.clone()), Box::new(list.clone()));
        omitted.then(boxed)
    }

    /// Evidence, if two claims are different ones of one member for one round.
    pub fn of_claims(a: &Signed<Claim>, b: &Signed<Claim>) -> Option<Evidence> {
        let slot = |claim: &Claim| (claim.run, claim.round, claim.member);
        let double = slot(&a.value) == slot(&b.value) && a.id() != b.id();
        double.then(|| Evidence::TwoClaims(Box::new(a.clone()), Box::new(b.clone())))
    }

    /// Whether every statement in it is signed by whom it accuses, and they do contradict each other. For
    /// [`Evidence::WrongArithmetic`] only that the record says something else: the computation is the reader's to do.
    pub fn holds(&self, manifest: &Manifest, check: &dyn SignatureCheck) -> bool {
        fn operators<T: Statement>(manifest: &Manifest, check: &dyn SignatureCheck, statement: &Signed<T>) -> bool {
            statement.require(check, &manifest.operators, manifest.threshold).is_ok()
        }
        let by_member = |claim: &Signed<Claim>| claim.require(check, &[claim.value.member], 1).is_ok();
        match self {
            Evidence::TwoRecords(a, b) => {
                Evidence::of_records(a, b).is_some() && operators(manifest, check, a) && operators(manifest, check, b)
            }
            Evidence::TwoLists(a, b) => {
                Evidence::of_lists(a, b).is_some() && operators(manifest, check, a) && operators(manifest, check, b)
            }
            Evidence::TwoHeads(a, b) => {
                Evidence::of_heads(a, b).is_some() && operators(manifest, check, a) && operators(manifest, check, b)
            }
            Evidence::HeadAgainstRecord(a, b) => {
                Evidence::of_head(a, b).is_some() && operators(manifest, check, a) && operators(manifest, check, b)
            }
            Evidence::Omitted(claim, receipt, list) => {
                Evidence::of_omission(claim, receipt, list).is_some()
                    && by_member(claim)
                    && operators(manifest, check, receipt)
                    && operators(manifest, check, list)
            }
            Evidence::TwoClaims(a, b) => Evidence::of_claims(a, b).is_some() && by_member(a) && by_member(b),
            Evidence::WrongArithmetic { record, checkpoint, outer_state } => {
                let differs = record.value.checkpoint != *checkpoint || record.value.outer_state != *outer_state;
                differs && operators(manifest, check, record)
            }
        }
    }

    /// One line for people.
    pub fn describe(&self) -> String {
        match self {
            Evidence::TwoRecords(a, _) => format!("two different records of round {}", a.value.round),
            Evidence::TwoLists(a, _) => format!("two different lists of claims of round {}", a.value.round),
            Evidence::TwoHeads(a, _) => format!("two heads that name different records of round {}", a.value.round),
            Evidence::HeadAgainstRecord(_, b) => format!("a head that names another record of round {}", b.value.round),
            Evidence::Omitted(claim, ..) => {
                format!("the receipted claim {} is not in the list of round {}", claim.id().short(), claim.value.round)
            }
            Evidence::TwoClaims(a, _) => {
                format!("two different claims of {} for round {}", a.value.member.short(), a.value.round)
            }
            Evidence::WrongArithmetic { record, checkpoint, outer_state } => {
                let said = &record.value;
                let (what, said, got) = if said.checkpoint == *checkpoint {
                    ("outer state", said.outer_state, outer_state)
                } else {
                    ("checkpoint", said.checkpoint, checkpoint)
                };
                format!("record {} says {what} {said}, its contributions give {got}", record.value.round)
            }
        }
    }

    /// The envelopes in it, to be kept or shown: kind and bytes of each.
    pub fn statements(&self) -> Vec<(Kind, Vec<u8>)> {
        match self {
            Evidence::TwoRecords(a, b) => vec![(Kind::Record, a.to_bytes()), (Kind::Record, b.to_bytes())],
            Evidence::TwoLists(a, b) => vec![(Kind::ClaimList, a.to_bytes()), (Kind::ClaimList, b.to_bytes())],
            Evidence::TwoHeads(a, b) => vec![(Kind::Head, a.to_bytes()), (Kind::Head, b.to_bytes())],
            Evidence::HeadAgainstRecord(a, b) => vec![(Kind::Head, a.to_bytes()), (Kind::Record, b.to_bytes())],
            Evidence::Omitted(claim, receipt, list) => vec![
                (Kind::Claim, claim.to_bytes()),
                (Kind::Receipt, receipt.to_bytes()),
                (Kind::ClaimList, list.to_bytes()),
            ],
            Evidence::TwoClaims(a, b) => vec![(Kind::Claim, a.to_bytes()), (Kind::Claim, b.to_bytes())],
            Evidence::WrongArithmetic { record, .. } => vec![(Kind::Record, record.to_bytes())],
        }
    }
}
