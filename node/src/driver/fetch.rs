//! Fetching blobs: from the members who are said to have them, then from the coordinator, then from whoever is connected.

use essaim_network::{BlobStore, FetchError, FetchRequest, Network, PeerId, peer_id_of};
use essaim_protocol::ids::{Hash, MemberId};
use essaim_protocol::statements::Contribution;
use futures::StreamExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// How long a member may be silent before somebody else is asked for its update.
const MEMBER_PATIENCE: Duration = Duration::from_secs(4);
/// How long to go on without a new piece of something that the run waits for.
const SHORT_PATIENCE: Duration = Duration::from_secs(30);
/// How long to go on without a new piece of something without which nothing can be done.
const LONG_PATIENCE: Duration = Duration::from_secs(600);
/// Updates fetched at once.
const UPDATES_AT_ONCE: usize = 8;

/// How long to go on without a new piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Patience {
    /// There is another way.
    Short,
    /// There is none.
    Long,
}

/// Fetches blobs into the store.
#[derive(Debug, Clone)]
pub(crate) struct Fetcher {
    network: Network,
    /// Peers that have everything public, as far as is known.
    sources: Arc<Vec<PeerId>>,
}

impl Fetcher {
    pub(crate) fn new(network: Network, sources: Vec<PeerId>) -> Fetcher {
        Fetcher { network, sources: Arc::new(sources) }
    }

    pub(crate) fn store(&self) -> &Arc<BlobStore> {
        self.network.store()
    }

    /// The file of blob `hash`, of at most `max_len_bytes`, verified. Asks `members` first, if they are connected.
    pub(crate) async fn fetch(
        &self,
        hash: Hash,
        max_len_bytes: u64,
        members: &[MemberId],
        patience: Patience,
    ) -> Result<PathBuf, FetchError> {
        let connected: Vec<PeerId> =
            members.iter().filter_map(peer_id_of).filter(|peer| self.network.is_connected(peer)).collect();
        if !connected.is_empty() {
            let request = FetchRequest::new(hash, max_len_bytes).providers(connected);
            // A member that is gone is noticed late: what it does not give soon, others have.
            match self.network.fetch(request.patience(MEMBER_PATIENCE).only_these()).await {
                Ok(blob) => return Ok(blob.path),
                Err(error @ (FetchError::Local(_) | FetchError::Stopped)) => return Err(error),
                Err(_) => {}
            }
        }
        let patience = if patience == Patience::Short { SHORT_PATIENCE } else { LONG_PATIENCE };
        let request = FetchRequest::new(hash, max_len_bytes).providers(self.sources.iter().copied());
        Ok(self.network.fetch(request.patience(patience)).await?.path)
    }

    /// Fetches the updates of `contributions`, each from its member or from whoever has it. Stops at the first that cannot
    /// be had.
    pub(crate) async fn fetch_updates(&self, contributions: &[Contribution]) -> Result<(), (MemberId, FetchError)> {
        let fetches: Vec<_> = contributions.iter().map(|contribution| self.fetch_update(contribution)).collect();
        let mut fetches = futures::stream::iter(fetches).buffer_unordered(UPDATES_AT_ONCE);
        while let Some(fetched) = fetches.next().await {
            fetched?;
        }
        Ok(())
    }

    async fn fetch_update(&self, contribution: &Contribution) -> Result<(), (MemberId, FetchError)> {
        let (hash, len) = (contribution.update, contribution.update_len_bytes);
        let fetched = self.fetch(hash, len, &[contribution.member], Patience::Short).await;
        fetched.map(|_| ()).map_err(|error| (contribution.member, error))
    }
}
