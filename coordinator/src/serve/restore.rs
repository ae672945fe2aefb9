//! Reading the store at a start: what the machine goes on from, and the rounds so far.

use super::ServeError;
use crate::store::{Store, StoredKind};
use crate::view::RoundSummary;
use essaim_protocol::ids::{Hash, MemberId};
use essaim_protocol::ledger::Ledger;
use essaim_protocol::manifest::Manifest;
use essaim_protocol::round::{CoordinatorRestored, HeldClaim};
use essaim_protocol::signing::{Signed, Statement, Strict};
use essaim_protocol::statements::{Claim, ClaimList, Receipt, Record};
use std::collections::BTreeSet;

/// The chain in the store.
pub(super) struct Restored {
    /// For the machine.
    pub(super) machine: CoordinatorRestored,
    /// Every record, from 0 on.
    pub(super) records: Vec<Signed<Record>>,
    /// A row for each.
    pub(super) rows: Vec<RoundSummary>,
    /// Members whose claims for the open round are here.
    pub(super) claimed: BTreeSet<MemberId>,
}

fn damaged<E: ToString>(what: &'static str, round: u64) -> impl FnOnce(E) -> ServeError {
    move |error| ServeError::Stored { what, round, reason: error.to_string() }
}

fn statement<T: Statement>(what: &'static str, round: u64, bytes: &[u8]) -> Result<Signed<T>, ServeError> {
    Signed::<T>::from_bytes(bytes).map_err(damaged(what, round))
}

fn needed(store: &Store, kind: StoredKind, what: &'static str, round: u64) -> Result<Vec<u8>, ServeError> {
    store.get(kind, round, None)?.ok_or_else(|| damaged(what, round)("it is missing"))
}

/// The signed manifest.
pub(super) fn manifest(store: &Store) -> Result<Signed<Manifest>, ServeError> {
    statement("the manifest", 0, &needed(store, StoredKind::Manifest, "the manifest", 0)?)
}

/// Reads everything.
pub(super) fn restore(store: &Store, manifest: &Signed<Manifest>) -> Result<Restored, ServeError> {
    let parameters = manifest.value.model.parameter_count();
    let mut records: Vec<Signed<Record>> = Vec::new();
    let mut rows = Vec::new();
    let mut ledger: Option<Ledger> = None;
    let end = store.last_round(StoredKind::Record)?.map_or(0, |last| last.saturating_add(1));
    for round in 0..end {
        let record: Signed<Record> =
            statement("the record", round, &needed(store, StoredKind::Record, "the record", round)?)?;
        // Signatures are not part of a record's id, so the links between records do not cover them.
        let operators = &manifest.value.operators;
        record.require(&Strict, operators, manifest.value.threshold).map_err(damaged("the record", round))?;
        let previous = records.last().map_or(manifest.id(), Signed::id);
        if record.value.previous != previous || record.value.round != round {
            return Err(damaged("the record", round)(format!("it follows {}, not {previous}", record.value.previous)));
        }
        let members = ledger.as_ref().map_or(0, |ledger| ledger.members.len() as u64);
        let seconds = store.round_time(round)?.and_then(|time| time.seconds);
        rows.push(RoundSummary::new(&record.value, &record.id(), parameters, members, seconds));
        ledger = Some(read_ledger(store, round, record.value.ledger)?);
        records.push(record);
    }
    let claims = held_claims(store, end)?;
    let claimed = claims.iter().map(|held| held.claim.value.member).collect();
    let list = store.get(StoredKind::ClaimList, end, None)?;
    let list = list.map(|bytes| statement::<ClaimList>("the list of claims", end, &bytes)).transpose()?;
    let machine = CoordinatorRestored { last: records.last().cloned().zip(ledger), list, claims };
    Ok(Restored { machine, records, rows, claimed })
}

fn read_ledger(store: &Store, round: u64, hash: Hash) -> Result<Ledger, ServeError> {
    let ledger = Ledger::from_bytes(&needed(store, StoredKind::Ledger, "the ledger", round)?);
    let ledger = ledger.map_err(damaged("the ledger", round))?;
    if ledger.hash() != hash {
        return Err(damaged("the ledger", round)(format!("its hash is {}, not {hash}", ledger.hash())));
    }
    Ok(ledger)
}

fn held_claims(store: &Store, round: u64) -> Result<Vec<HeldClaim>, ServeError> {
    let receipts = store.of_round(StoredKind::Receipt, round)?;
    let mut held = Vec::new();
    for (member, bytes) in store.of_round(StoredKind::Claim, round)? {
        let receipt = receipts.get(&member).ok_or_else(|| damaged("the receipt", round)("it is missing"))?;
        let receipt: Signed<Receipt> = statement("the receipt", round, receipt)?;
        let claim: Signed<Claim> = statement("the claim", round, &bytes)?;
        held.push(HeldClaim { claim, receipt });
    }
    Ok(held)
}
