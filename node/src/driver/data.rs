//! The training data: which shards an assignment reads, fetched ahead of the inner steps that need them.

use super::fetch::{Fetcher, Patience};
use essaim_network::FetchError;
use essaim_protocol::assignment::Assignment;
use essaim_protocol::data_order::{DataOrder, DataOrderError};
use essaim_protocol::dataset::{DatasetError, DatasetManifest, ShardInfo};
use essaim_protocol::ids::Hash;
use essaim_protocol::manifest::Manifest;
use essaim_train::shard::{ShardError, ShardReader};
use std::fs::File;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// Batches that wait for the worker.
pub(crate) const BATCHES_AHEAD: usize = 4;

/// Why a batch could not be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DataError {
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error("the dataset manifest cannot be read: {0}")]
    Blob(#[from] essaim_network::BlobError),
    #[error(transparent)]
    Dataset(#[from] DatasetError),
    #[error(transparent)]
    Order(#[from] DataOrderError),
    #[error("shard {shard}: {source}")]
    Shard { shard: Hash, source: ShardError },
}

/// The data set of a run.
#[derive(Debug)]
pub(crate) struct Data {
    order: DataOrder,
    batch: u32,
    context: u32,
}

impl Data {
    /// Fetches and checks the dataset manifest.
    pub(crate) async fn fetch(manifest: &Manifest, fetcher: &Fetcher) -> Result<Data, DataError> {
        let len_bytes = manifest.dataset_len_bytes;
        fetcher.fetch(manifest.dataset, len_bytes, &[], Patience::Long).await?;
        let bytes = fetcher.store().read(&manifest.dataset, len_bytes)?;
        let dataset = DatasetManifest::from_bytes(&bytes)?;
        let order = DataOrder::new(manifest, &dataset)?;
        Ok(Data { order, batch: manifest.inner.batch, context: manifest.model.context })
    }

    /// Sends the batches of `assignment`, in order, until somebody no longer listens. Fetches the shards ahead.
    pub(crate) async fn feed(
        self: Arc<Data>,
        assignment: Assignment,
        fetcher: Fetcher,
        batches: mpsc::Sender<Vec<u32>>,
    ) -> Result<(), DataError> {
        let mut ahead = JoinSet::new();
        ahead.spawn(prefetch(self.shards_of(&assignment), fetcher.clone()));
        let mut open: Option<(Hash, ShardReader<File>)> = None;
        for position in assignment.positions() {
            let unit = self.order.locate(position);
            let mut reader = match open.take().filter(|(hash, _)| *hash == unit.shard.hash) {
                Some((_, reader)) => reader,
                None => open_shard(*unit.shard, &fetcher).await?,
            };
            let (batch, context, index, hash) = (self.batch, self.context, unit.unit, unit.shard.hash);
            let read = tokio::task::spawn_blocking(move || {
                let tokens = reader.unit_tokens(batch, context, index);
                (reader, tokens)
            });
            // Fails only when the runtime is shutting down.
            let (reader, tokens) = read.await.map_err(|_| FetchError::Stopped)?;
            let tokens = tokens.map_err(|source| DataError::Shard { shard: hash, source })?;
            open = Some((hash, reader));
            if batches.send(tokens).await.is_err() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// The shards that an assignment reads, in the order in which it first needs them.
    fn shards_of(&self, assignment: &Assignment) -> Vec<ShardInfo> {
        let mut shards: Vec<ShardInfo> = Vec::new();
        for position in assignment.positions() {
            let shard = self.order.locate(position).shard;
            if !shards.iter().any(|known| known.hash == shard.hash) {
                shards.push(*shard);
            }
        }
        shards
    }
}

async fn prefetch(shards: Vec<ShardInfo>, fetcher: Fetcher) {
    for shard in shards {
        // Whoever needs it fetches it again, and tells what is wrong.
        let _ = fetcher.fetch(shard.hash, shard.len_bytes, &[], Patience::Long).await;
    }
}

async fn open_shard(shard: ShardInfo, fetcher: &Fetcher) -> Result<ShardReader<File>, DataError> {
    let path = fetcher.fetch(shard.hash, shard.len_bytes, &[], Patience::Long).await?;
    let opened =
        tokio::task::spawn_blocking(move || ShardReader::open(&path)).await.map_err(|_| FetchError::Stopped)?;
    opened.map_err(|source| DataError::Shard { shard: shard.hash, source })
}
