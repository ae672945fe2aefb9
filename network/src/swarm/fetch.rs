//! Driving a [`Download`] over the blob protocol.

use super::handle::{Network, RequestError};
use super::penalty::Misbehaviour;
use crate::blob::{
    BlobError, BlobRequest, BlobResponse, BlobStore, Download, Failure, MAX_BLOB_LEN, Outcome, PartialBlob, Unavailable,
};
use crate::metrics::add;
use essaim_protocol::ids::Hash;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use libp2p::PeerId;
use std::collections::HashSet;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedMutexGuard, watch};
use tokio::time::Instant;

/// First wait before providers that gave nothing are asked again; it doubles with each round.
const FIRST_WAIT: Duration = Duration::from_millis(200);
/// Longest such wait.
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// Peers asked that the caller did not name.
const FALLBACK_MAX: usize = 16;
/// How long finding more providers may hold up the next round.
const DISCOVERY_TIMEOUT: Duration = Duration::from_secs(4);

/// How far a fetch is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FetchProgress {
    /// Pieces verified and written, those of an earlier attempt included.
    pub pieces_done: u32,
    /// Pieces in all; 0 until the blob's length is proven.
    pub pieces: u32,
    /// The blob's length in bytes; 0 until it is proven.
    pub len_bytes: u64,
}

/// What to fetch, from whom, and how patiently.
#[derive(Debug)]
pub struct FetchRequest {
    hash: Hash,
    max_len_bytes: u64,
    providers: Vec<PeerId>,
    fallback: bool,
    patience: Duration,
    progress: Option<watch::Sender<FetchProgress>>,
}

impl FetchRequest {
    /// The blob `hash`, which may be at most `max_len_bytes` long: a caller that knows the exact length gives that.
    pub fn new(hash: Hash, max_len_bytes: u64) -> FetchRequest {
        FetchRequest {
            hash,
            max_len_bytes: max_len_bytes.min(MAX_BLOB_LEN),
            providers: Vec::new(),
            fallback: true,
            patience: Duration::from_secs(120),
            progress: None,
        }
    }

    /// Peers said to have it; they are asked first, all at once.
    pub fn providers(mut self, providers: impl IntoIterator<Item = PeerId>) -> FetchRequest {
        self.providers.extend(providers);
        self
    }

    /// Asks nobody but the providers named.
    pub fn only_these(mut self) -> FetchRequest {
        self.fallback = false;
        self
    }

    /// How long to go on without a new piece. Default two minutes.
    pub fn patience(mut self, patience: Duration) -> FetchRequest {
        self.patience = patience;
        self
    }

    /// Reports progress here.
    pub fn progress(mut self, progress: watch::Sender<FetchProgress>) -> FetchRequest {
        self.progress = Some(progress);
        self
    }

    /// The blob asked for.
    pub fn hash(&self) -> Hash {
        self.hash
    }
}

/// A blob that is now in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchedBlob {
    /// Its hash.
    pub hash: Hash,
    /// Its file.
    pub path: PathBuf,
    /// Its length in bytes.
    pub len_bytes: u64,
    /// Pieces that came over the network now.
    pub pieces_fetched: u32,
    /// Pieces that were here already: all of them, or those of a download that was cut off.
    pub pieces_resumed: u32,
}

/// Why a blob was not fetched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// Nobody who was asked gave a piece for as long as patience lasted.
    #[error("no peer gave blob {hash} within {patience_ms} ms ({asked} asked, last: {last})")]
    Unavailable {
        /// The blob.
        hash: Hash,
        /// How long nothing came, in milliseconds.
        patience_ms: u64,
        /// How many peers were asked.
        asked: usize,
        /// What the last of them said.
        last: String,
    },
    /// All who have it say that it is longer than allowed.
    #[error("blob {hash} is said to have {len_bytes} bytes, where {max_len_bytes} are allowed")]
    TooLong {
        /// The blob.
        hash: Hash,
        /// The length claimed, in bytes.
        len_bytes: u64,
        /// The length allowed, in bytes.
        max_len_bytes: u64,
    },
    /// This node failed: its disk is full, say.
    #[error(transparent)]
    Local(#[from] BlobError),
    /// The network has been shut down.
    #[error("the network has been shut down")]
    Stopped,
}

type Answered = (PeerId, BlobRequest, Result<BlobResponse, RequestError>);
type Pending = FuturesUnordered<Pin<Box<dyn Future<Output = Answered> + Send>>>;

/// The turn of a fetch among those of the same hash.
pub(crate) type Turn = Arc<OwnedMutexGuard<()>>;

/// Runs what touches the disk on a thread that may block. The turn is held until that is done, even if the fetch is dropped
/// meanwhile: the next one must not find the files half changed.
async fn blocking<T: Send + 'static>(
    turn: &Turn,
    work: impl FnOnce() -> Result<T, BlobError> + Send + 'static,
) -> Result<T, FetchError> {
    let turn = turn.clone();
    let held = move || {
        let done = work();
        drop(turn);
        done
    };
    // Fails only when the runtime is shutting down.
    Ok(tokio::task::spawn_blocking(held).await.map_err(|_| FetchError::Stopped)??)
}

/// The blob if the store has it, whole and right.
async fn present(
    store: &Arc<BlobStore>,
    request: &FetchRequest,
    turn: &Turn,
) -> Result<Option<FetchedBlob>, FetchError> {
    let (store, hash, max_len_bytes) = (store.clone(), request.hash, request.max_len_bytes);
    blocking(turn, move || {
        let (Some(path), Some(len_bytes)) = (store.path(&hash), store.len(&hash)) else { return Ok(None) };
        match store.verify(&hash) {
            Ok(()) => {}
            // It is gone from the store, so it is fetched.
            Err(BlobError::Corrupt { .. } | BlobError::NotFound(_)) => return Ok(None),
            Err(error) => return Err(error),
        }
        if len_bytes > max_len_bytes {
            return Err(BlobError::TooLong { hash, len_bytes, max_len_bytes });
        }
        let pieces_resumed = crate::blob::piece_count(len_bytes);
        Ok(Some(FetchedBlob { hash, path, len_bytes, pieces_fetched: 0, pieces_resumed }))
    })
    .await
}

/// Fetches the blob; the caller has seen to it that no other fetch of this hash runs.
pub(crate) async fn run(network: &Network, request: FetchRequest, turn: Turn) -> Result<FetchedBlob, FetchError> {
    if let Some(found) = present(network.store(), &request, &turn).await? {
        return Ok(found);
    }
    Fetch::begin(network, request, turn).await?.drive().await
}

struct Fetch<'a> {
    network: &'a Network,
    turn: Turn,
    request: FetchRequest,
    download: Download<PeerId>,
    partial: Option<PartialBlob>,
    pending: Pending,
    /// Peers that gave wrong bytes: never asked again.
    liars: HashSet<PeerId>,
    asked: HashSet<PeerId>,
    searched: bool,
    too_long: Option<u64>,
    last: String,
    wait: Duration,
    deadline: Instant,
    pieces_fetched: u32,
    pieces_resumed: u32,
}

impl<'a> Fetch<'a> {
    async fn begin(network: &'a Network, request: FetchRequest, turn: Turn) -> Result<Fetch<'a>, FetchError> {
        let in_flight = network.inner.config.limits.fetch_in_flight_per_provider;
        let (store, hash, max_len) = (network.store().clone(), request.hash, request.max_len_bytes);
        let resumed = blocking(&turn, move || {
            let resumed = PartialBlob::resume(store.clone(), &hash)?;
            if let Some((partial, _)) = &resumed
                && partial.outboard().len_bytes() > max_len
            {
                PartialBlob::discard(&store, &hash)?;
                return Ok(None);
            }
            Ok(resumed)
        })
        .await?;
        let (download, partial) = match resumed {
            Some((partial, have)) => (Download::resume(partial.outboard().clone(), &have, in_flight), Some(partial)),
            None => (Download::new(hash, max_len, in_flight), None),
        };
        let pieces_resumed = download.progress().0;
        let mut fetch = Fetch {
            network,
            turn,
            deadline: Instant::now() + request.patience,
            request,
            download,
            partial,
            pending: FuturesUnordered::new(),
            liars: HashSet::new(),
            asked: HashSet::new(),
            searched: false,
            too_long: None,
            last: "no provider is known".to_owned(),
            wait: FIRST_WAIT,
            pieces_fetched: 0,
            pieces_resumed,
        };
        let named = std::mem::take(&mut fetch.request.providers);
        fetch.add_all(named.iter().copied());
        fetch.request.providers = named;
        Ok(fetch)
    }

    /// Adds providers, but for this node itself and those that lied; whether any is new.
    fn add_all(&mut self, peers: impl IntoIterator<Item = PeerId>) -> bool {
        let here = self.network.local_peer();
        let mut fresh = false;
        for peer in peers {
            if peer != here && !self.liars.contains(&peer) {
                fresh |= self.asked.insert(peer);
                self.download.add_provider(peer);
            }
        }
        fresh
    }

    fn pump(&mut self) {
        for peer in self.download.providers() {
            while let Some(ask) = self.download.next_wanted(&peer) {
                let network = self.network.clone();
                self.pending.push(Box::pin(async move {
                    let answer = network.request_blob(peer, ask).await;
                    (peer, ask, answer)
                }));
            }
        }
    }

    async fn drive(mut self) -> Result<FetchedBlob, FetchError> {
        self.report();
        loop {
            if self.download.is_complete() {
                return self.finish().await;
            }
            self.pump();
            if self.pending.is_empty() {
                self.next_round().await?;
                continue;
            }
            match tokio::time::timeout_at(self.deadline, self.pending.next()).await {
                Ok(Some((peer, ask, Ok(response)))) => self.on_response(peer, ask, response).await?,
                Ok(Some((peer, ask, Err(error)))) => self.on_failure(peer, ask, error).await?,
                Ok(None) => {}
                Err(_) => return Err(self.unavailable()),
            }
        }
    }

    fn unavailable(&self) -> FetchError {
        FetchError::Unavailable {
            hash: self.request.hash,
            patience_ms: self.request.patience.as_millis() as u64,
            asked: self.asked.len(),
            last: self.last.clone(),
        }
    }

    async fn on_response(&mut self, peer: PeerId, ask: BlobRequest, response: BlobResponse) -> Result<(), FetchError> {
        match self.download.on_response(&peer, ask, response) {
            Ok(Outcome::Nothing) => {}
            Ok(Outcome::Unavailable(why)) => {
                self.last = format!("peer {peer}: {why:?}");
                if let Unavailable::TooLong(len_bytes) = why {
                    self.too_long = Some(len_bytes);
                }
            }
            Ok(Outcome::Piece { index, bytes }) => self.on_piece(index, bytes).await?,
            Err(fault) => {
                tracing::warn!(%peer, %fault, "peer gave wrong bytes");
                add(&self.network.counters().pieces_wrong, 1);
                self.last = format!("peer {peer}: {fault}");
                self.liars.insert(peer);
                self.network.penalize(peer, Misbehaviour::WrongBlob).await;
            }
        }
        Ok(())
    }

    async fn on_failure(&mut self, peer: PeerId, ask: BlobRequest, error: RequestError) -> Result<(), FetchError> {
        self.last = error.to_string();
        let failure = match error {
            RequestError::Stopped => return Err(FetchError::Stopped),
            RequestError::Malformed(_) => {
                self.liars.insert(peer);
                Failure::Gone
            }
            RequestError::Unreachable(_) | RequestError::Unsupported(_) | RequestError::ConnectionLost(_) => {
                Failure::Gone
            }
            _ => Failure::Transient,
        };
        self.download.on_failure(&peer, ask, failure);
        // Somebody is slow or away: see who else has it, without waiting until nobody is left.
        if !self.searched {
            self.search().await;
        }
        Ok(())
    }

    async fn on_piece(&mut self, index: u32, bytes: Vec<u8>) -> Result<(), FetchError> {
        add(&self.network.counters().pieces_verified, 1);
        let store = self.network.store().clone();
        let partial = self.partial.take();
        // Only a proven download gives a piece.
        let Some(outboard) = self.download.proven().cloned() else { return Ok(()) };
        let partial = blocking(&self.turn, move || {
            let mut partial = match partial {
                Some(partial) => partial,
                None => PartialBlob::create(store, outboard)?,
            };
            partial.write_piece(index, &bytes)?;
            Ok(partial)
        })
        .await?;
        self.partial = Some(partial);
        self.download.on_written();
        self.pieces_fetched += 1;
        self.deadline = Instant::now() + self.request.patience;
        self.wait = FIRST_WAIT;
        self.report();
        Ok(())
    }

    fn report(&self) {
        if let Some(progress) = &self.request.progress {
            let (pieces_done, pieces) = self.download.progress();
            let len_bytes = self.download.proven().map_or(0, |outboard| outboard.len_bytes());
            progress.send_replace(FetchProgress { pieces_done, pieces, len_bytes });
        }
    }

    /// Nobody is being asked: looks for others, or waits and asks again.
    async fn next_round(&mut self) -> Result<(), FetchError> {
        if self.search().await {
            return Ok(());
        }
        if let Some(len_bytes) = self.too_long {
            let (hash, max_len_bytes) = (self.request.hash, self.request.max_len_bytes);
            return Err(FetchError::TooLong { hash, len_bytes, max_len_bytes });
        }
        let until = (Instant::now() + self.wait).min(self.deadline);
        tokio::time::sleep_until(until).await;
        if until == self.deadline {
            return Err(self.unavailable());
        }
        self.wait = (self.wait * 2).min(LONGEST_WAIT);
        self.too_long = None;
        let again: Vec<PeerId> = self.asked.iter().copied().collect();
        self.add_all(again);
        Ok(())
    }

    /// Adds providers that the caller did not name; whether any is new. What takes time is done once.
    async fn search(&mut self) -> bool {
        if !self.request.fallback {
            return false;
        }
        let mut more: Vec<PeerId> = self.network.connected_peers();
        if !self.searched {
            self.searched = true;
            let lost: Vec<PeerId> =
                self.request.providers.iter().filter(|peer| !self.network.is_connected(peer)).copied().collect();
            let find = futures::future::join_all(lost.iter().map(|&peer| self.network.find_peer(peer)));
            let both = futures::future::join(self.network.providers(self.request.hash), find);
            if let Ok((providers, found)) = tokio::time::timeout(DISCOVERY_TIMEOUT, both).await {
                more.extend(providers);
                let back: Vec<PeerId> =
                    lost.into_iter().zip(found).filter(|(_, found)| *found).map(|(peer, _)| peer).collect();
                if !back.is_empty() {
                    self.add_all(back);
                    return true;
                }
            }
        }
        more.retain(|peer| !self.asked.contains(peer));
        more.truncate(FALLBACK_MAX);
        self.add_all(more)
    }

    async fn finish(mut self) -> Result<FetchedBlob, FetchError> {
        let hash = self.request.hash;
        let len_bytes = self.download.proven().map_or(0, |outboard| outboard.len_bytes());
        let Some(partial) = self.partial.take() else { return Err(self.unavailable()) };
        let path = blocking(&self.turn, move || partial.finish()).await?;
        let (pieces_fetched, pieces_resumed) = (self.pieces_fetched, self.pieces_resumed);
        Ok(FetchedBlob { hash, path, len_bytes, pieces_fetched, pieces_resumed })
    }
}
