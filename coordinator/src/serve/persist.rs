//! Keeping what the machine signs: first in the store, then under `public/`. The head is published by the driver afterwards.

use super::ServeError;
use crate::files;
use crate::public::PublicFolder;
use crate::store::{Row, Store, StoredKind};
use essaim_network::BlobStore;
use essaim_protocol::ids::MemberId;
use essaim_protocol::layout;
use essaim_protocol::round::Stored;
use essaim_protocol::signing::Signed;
use essaim_protocol::statements::{ClaimList, Record};

/// The rows of what is to be kept; one transaction.
pub(super) fn rows(stored: &Stored) -> Vec<Row> {
    let row = |kind, round: &u64, member: Option<MemberId>, bytes: &[u8]| Row {
        kind,
        round: *round,
        member,
        bytes: bytes.to_vec(),
    };
    match stored {
        Stored::Claim { round, member, claim, receipt } => vec![
            row(StoredKind::Claim, round, Some(*member), claim),
            row(StoredKind::Receipt, round, Some(*member), receipt),
        ],
        Stored::ClaimList { round, list } => vec![row(StoredKind::ClaimList, round, None, list)],
        Stored::Record { round, record, ledger, joins } => {
            let mut rows =
                vec![row(StoredKind::Record, round, None, record), row(StoredKind::Ledger, round, None, ledger)];
            rows.extend(joins.iter().map(|(member, join)| row(StoredKind::Join, round, Some(*member), join)));
            rows
        }
    }
}

/// Writes the list of claims of a round, and the claims that it names, from the store. Gives how many files changed.
pub(super) fn publish_list(public: &PublicFolder, store: &Store, round: u64) -> Result<usize, ServeError> {
    let Some(bytes) = store.get(StoredKind::ClaimList, round, None)? else {
        return Ok(0);
    };
    let damaged = |reason: String| ServeError::Stored { what: "the list of claims", round, reason };
    let list = Signed::<ClaimList>::from_bytes(&bytes).map_err(|error| damaged(error.to_string()))?;
    let claims = store.of_round(StoredKind::Claim, round)?;
    let mut changed = 0usize;
    for listed in &list.value.claims {
        let claim = claims.get(&listed.member).ok_or_else(|| damaged(format!("no claim of {}", listed.member)))?;
        changed += usize::from(public.write(&layout::claim(round, &listed.member), claim)?);
    }
    changed += usize::from(public.write(&layout::claim_list(round), &bytes)?);
    Ok(changed)
}

/// Writes the statements of a recorded round from the store. Gives how many files changed.
pub(super) fn publish_statements(public: &PublicFolder, store: &Store, round: u64) -> Result<usize, ServeError> {
    let mut changed = publish_list(public, store, round)?;
    for (member, join) in store.of_round(StoredKind::Join, round)? {
        changed += usize::from(public.write(&layout::join(round, &member), &join)?);
    }
    let files = [(StoredKind::Ledger, layout::ledger(round)), (StoredKind::Record, layout::record(round))];
    for (kind, path) in files {
        if let Some(bytes) = store.get(kind, round, None)? {
            changed += usize::from(public.write(&path, &bytes)?);
        }
    }
    Ok(changed)
}

/// Gives the updates that a record includes their public names, and drops the others that were fetched.
pub(super) fn publish_updates(public: &PublicFolder, blobs: &BlobStore, record: &Record) -> Result<(), ServeError> {
    for one in &record.contributions {
        let path = layout::update(record.round, &one.member);
        if let Some(from) = blobs.path(&one.update)
            && from != public.path(&path)
        {
            public.link(&from, &path)?;
        }
    }
    if let Some(folder) = public.path(&layout::record(record.round)).parent() {
        // Round 0 has no update, and no folder yet.
        files::create_dir(folder)?;
        files::sync_dir(folder)?;
    }
    for one in &record.contributions {
        blobs.remove(&one.update)?;
        blobs.register_external(one.update, public.path(&layout::update(record.round, &one.member)))?;
    }
    Ok(())
}
