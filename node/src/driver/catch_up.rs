//! Downloading what a record names instead of computing it: for a late joiner, and where updates cannot be had.

use super::fetch::{Fetcher, Patience};
use essaim_network::FetchError;
use essaim_protocol::ids::Hash;
use essaim_protocol::limits;
use essaim_protocol::manifest::Manifest;
use essaim_train::checkpoint::model_file_len_bytes;
use essaim_train::state::OuterState;
use std::path::PathBuf;

/// What a record names.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    pub(super) ledger: Hash,
    pub(super) checkpoint: Hash,
    pub(super) outer_state: Hash,
}

/// What was downloaded, with the hashes that were wanted.
#[derive(Debug)]
pub(super) struct Downloaded {
    pub(super) ledger: Vec<u8>,
    pub(super) model: PathBuf,
    pub(super) outer: PathBuf,
}

/// Fetches the three files, whose lengths are bounded by the manifest.
pub(super) async fn download(fetcher: &Fetcher, manifest: &Manifest, wanted: &Wanted) -> Result<Downloaded, String> {
    let blob = |what: &'static str, hash: Hash, max_len_bytes: u64| async move {
        let fetched = fetcher.fetch(hash, max_len_bytes, &[], Patience::Short).await;
        fetched.map_err(|error: FetchError| format!("{what}: {error}"))
    };
    let ledger_max = limits::LEDGER_MAX as u64;
    let (ledger, model, outer) = tokio::join!(
        blob("ledger", wanted.ledger, ledger_max),
        blob("checkpoint", wanted.checkpoint, model_file_len_bytes(&manifest.model)),
        blob("outer state", wanted.outer_state, OuterState::len_bytes(manifest)),
    );
    ledger?;
    let (store, hash) = (fetcher.store().clone(), wanted.ledger);
    let read = tokio::task::spawn_blocking(move || store.read(&hash, ledger_max)).await;
    let ledger = read.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
    Ok(Downloaded { ledger, model: model?, outer: outer? })
}
