//! [`Network`]: what a node or a coordinator holds.

use super::config::{NetworkConfig, NetworkError};
use super::events::NetworkEvent;
use super::fetch::{self, FetchError, FetchRequest, FetchedBlob};
use super::penalty::Misbehaviour;
use super::serve::ServePolicy;
use super::task::Task;
use crate::blob::{BlobRequest, BlobResponse, BlobStore};
use crate::metrics::{Counters, NetworkMetrics, add};
use essaim_protocol::ids::Hash;
use libp2p::{Multiaddr, PeerId};
use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// Commands waiting for the task; callers wait when there are more.
const COMMANDS_MAX: usize = 256;

/// What a request's own time-out is given on top, for the dial that may come first.
const DIAL_ALLOWANCE: Duration = Duration::from_secs(5);

/// Why a control request had no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// The peer cannot be reached: no address of it is known, or none answers.
    #[error("peer {0} cannot be reached")]
    Unreachable(PeerId),
    /// No answer in time. The peer may have received the request.
    #[error("peer {0} did not answer in time")]
    Timeout(PeerId),
    /// The connection was lost. The peer may have received the request.
    #[error("the connection to peer {0} was lost")]
    ConnectionLost(PeerId),
    /// The peer does not speak this protocol.
    #[error("peer {0} does not speak this protocol")]
    Unsupported(PeerId),
    /// The peer received the request and chose not to answer.
    #[error("peer {0} gave no answer")]
    NoAnswer(PeerId),
    /// The peer's answer was no frame of this protocol, or too long a one; it was penalised.
    #[error("peer {0} answered with a malformed frame")]
    Malformed(PeerId),
    /// The request is longer than allowed; nothing was sent.
    #[error("the request has {len} bytes, where {max} are allowed")]
    TooLong {
        /// Its length.
        len: usize,
        /// The length allowed.
        max: usize,
    },
    /// The stream broke.
    #[error("the stream to peer {peer} broke: {reason}")]
    Stream {
        /// The peer.
        peer: PeerId,
        /// Why.
        reason: String,
    },
    /// The network has been shut down.
    #[error("the network has been shut down")]
    Stopped,
}

/// Why a gossip message was not sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// Nobody who listens is connected: send it again when somebody is.
    #[error("no connected peer listens to this swarm's gossip")]
    NoPeers,
    /// The same bytes were sent a short while ago.
    #[error("the same message was sent a short while ago")]
    Duplicate,
    /// The message is longer than allowed.
    #[error("the message has {len} bytes, where {max} are allowed")]
    TooLong {
        /// Its length.
        len: usize,
        /// The length allowed.
        max: usize,
    },
    /// Another reason.
    #[error("{0}")]
    Other(String),
    /// The network has been shut down.
    #[error("the network has been shut down")]
    Stopped,
}

pub(crate) type ControlReply = oneshot::Sender<Result<Vec<u8>, RequestError>>;

/// What the handle asks of the task.
#[derive(Debug)]
pub(crate) enum Command {
    Control { peer: PeerId, bytes: Vec<u8>, reply: ControlReply },
    Blob { peer: PeerId, ask: BlobRequest, reply: ControlReply },
    Publish { bytes: Vec<u8>, reply: oneshot::Sender<Result<(), PublishError>> },
    Dial(Multiaddr),
    KeepConnected { peer: PeerId, addr: Multiaddr },
    Reserve(PeerId),
    Unreserve(PeerId),
    Disconnect(PeerId),
    Penalize { peer: PeerId, what: Misbehaviour },
    StartProviding(Hash),
    StopProviding(Hash),
    Providers { hash: Hash, reply: oneshot::Sender<Vec<PeerId>> },
    FindPeer { peer: PeerId, reply: oneshot::Sender<bool> },
    Shutdown(oneshot::Sender<()>),
}

/// What the task tells the handle without being asked.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    pub(crate) connected: RwLock<BTreeSet<PeerId>>,
    pub(crate) listening: RwLock<Vec<Multiaddr>>,
    pub(crate) counters: Arc<Counters>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    commands: mpsc::Sender<Command>,
    shared: Arc<Shared>,
    pub(crate) store: Arc<BlobStore>,
    pub(crate) config: NetworkConfig,
    local_peer: PeerId,
    /// One fetch at a time per hash; the others wait and find the blob there.
    fetching: Mutex<HashMap<Hash, Arc<tokio::sync::Mutex<()>>>>,
}

/// A handle to the network; clones are of the same one. When the last is dropped, the network shuts down.
#[derive(Debug, Clone)]
pub struct Network {
    pub(crate) inner: Arc<Inner>,
}

impl Network {
    /// Starts the network: binds every listen address, then serves and dials in the background of the current tokio
    /// runtime. Peers get the blobs of `store` as far as `policy` allows.
    ///
    /// # Errors
    /// [`NetworkError::Listen`] when an address cannot be bound, and the others as they say. Nothing is left running.
    pub async fn start(
        config: NetworkConfig,
        store: Arc<BlobStore>,
        policy: ServePolicy,
    ) -> Result<(Network, mpsc::Receiver<NetworkEvent>), NetworkError> {
        let shared = Arc::new(Shared::default());
        let (commands, command_queue) = mpsc::channel(COMMANDS_MAX);
        let (events, event_queue) = mpsc::channel(config.limits.events_max.max(1));
        let mut task = Task::new(&config, store.clone(), policy, shared.clone(), events)?;
        let local_peer = task.local_peer();
        task.listen(&config.listen).await?;
        tokio::spawn(task.run(command_queue));
        let fetching = Mutex::default();
        let inner = Arc::new(Inner { commands, shared, store, config, local_peer, fetching });
        Ok((Network { inner }, event_queue))
    }

    /// This node's peer id.
    pub fn local_peer(&self) -> PeerId {
        self.inner.local_peer
    }

    /// The blob store that this network serves from and fetches into.
    pub fn store(&self) -> &Arc<BlobStore> {
        &self.inner.store
    }

    /// The peers with which there is a connection.
    pub fn connected_peers(&self) -> Vec<PeerId> {
        read(&self.inner.shared.connected).iter().copied().collect()
    }

    /// Whether there is a connection with `peer`.
    pub fn is_connected(&self, peer: &PeerId) -> bool {
        read(&self.inner.shared.connected).contains(peer)
    }

    /// The addresses on which this node listens, with the ports that it got, each ending in `/p2p/` and its peer id: ready
    /// for a join link or another node's `bootstrap`.
    pub fn listen_addrs(&self) -> Vec<Multiaddr> {
        let here = self.inner.local_peer;
        let with_peer = |addr: &Multiaddr| addr.clone().with(libp2p::multiaddr::Protocol::P2p(here));
        read(&self.inner.shared.listening).iter().map(with_peer).collect()
    }

    /// The counters since the start.
    pub fn metrics(&self) -> NetworkMetrics {
        self.inner.shared.counters.snapshot()
    }

    pub(crate) fn counters(&self) -> &Counters {
        &self.inner.shared.counters
    }

    async fn command(&self, command: Command) -> bool {
        self.inner.commands.send(command).await.is_ok()
    }

    /// Sends a control request and waits for the response. A peer that is not connected is dialled, if an address is known.
    ///
    /// # Errors
    /// [`RequestError`]; after `Timeout`, `ConnectionLost` and `Stream` the peer may have received the request, so
    /// what is sent again should be idempotent.
    pub async fn request(&self, peer: PeerId, bytes: Vec<u8>) -> Result<Vec<u8>, RequestError> {
        let (len, max) = (bytes.len(), self.inner.config.limits.control_len_max);
        if len > max {
            return Err(RequestError::TooLong { len, max });
        }
        let (reply, response) = oneshot::channel();
        let sent = Command::Control { peer, bytes, reply };
        self.ask(peer, sent, response, self.inner.config.request_timeout).await
    }

    async fn ask(
        &self,
        peer: PeerId,
        command: Command,
        response: oneshot::Receiver<Result<Vec<u8>, RequestError>>,
        timeout: Duration,
    ) -> Result<Vec<u8>, RequestError> {
        let exchange = async {
            if !self.command(command).await {
                return Err(RequestError::Stopped);
            }
            response.await.unwrap_or(Err(RequestError::Stopped))
        };
        let within = tokio::time::timeout(timeout + DIAL_ALLOWANCE, exchange).await;
        within.unwrap_or(Err(RequestError::Timeout(peer)))
    }

    /// Sends one blob request. A malformed answer is penalised here.
    pub(crate) async fn request_blob(&self, peer: PeerId, ask: BlobRequest) -> Result<BlobResponse, RequestError> {
        let (reply, response) = oneshot::channel();
        let sent = Command::Blob { peer, ask, reply };
        let bytes = self.ask(peer, sent, response, self.inner.config.blob_timeout).await?;
        match BlobResponse::from_bytes(bytes) {
            Ok(response) => Ok(response),
            Err(error) => {
                tracing::debug!(%peer, %error, "malformed blob response");
                add(&self.counters().frames_malformed, 1);
                self.penalize(peer, Misbehaviour::MalformedFrame).await;
                Err(RequestError::Malformed(peer))
            }
        }
    }

    /// Fetches a blob into the store, verified piece by piece: from the providers named, and if they fail from other
    /// connected peers and from providers found in the Kademlia table. A download that was cut off goes on where it was.
    /// Dropping the future stops the download; what was verified stays.
    ///
    /// # Errors
    /// [`FetchError`] when nothing came in for as long as the request's patience, or when this node failed.
    pub async fn fetch(&self, request: FetchRequest) -> Result<FetchedBlob, FetchError> {
        let turn = {
            let mut fetching = self.inner.fetching.lock().unwrap_or_else(PoisonError::into_inner);
            fetching.retain(|_, turn| Arc::strong_count(turn) > 1);
            fetching.entry(request.hash()).or_default().clone()
        };
        let turn = Arc::new(turn.lock_owned().await);
        fetch::run(self, request, turn).await
    }

    /// Sends a gossip message to every node of the swarm.
    ///
    /// # Errors
    /// [`PublishError`]; `NoPeers` and `Duplicate` are often of no concern to the caller.
    pub async fn publish(&self, bytes: Vec<u8>) -> Result<(), PublishError> {
        let (len, max) = (bytes.len(), self.inner.config.limits.gossip_len_max);
        if len > max {
            return Err(PublishError::TooLong { len, max });
        }
        let (reply, outcome) = oneshot::channel();
        if !self.command(Command::Publish { bytes, reply }).await {
            return Err(PublishError::Stopped);
        }
        outcome.await.unwrap_or(Err(PublishError::Stopped))
    }

    /// Dials an address once; a [`NetworkEvent::PeerConnected`] tells of success.
    pub async fn dial(&self, addr: Multiaddr) {
        self.command(Command::Dial(addr)).await;
    }

    /// Stays connected to `peer` at `addr` from now on, as if it were in [`NetworkConfig::bootstrap`].
    pub async fn keep_connected(&self, peer: PeerId, addr: Multiaddr) {
        self.command(Command::KeepConnected { peer, addr }).await;
    }

    /// Keeps room for connections with `peer` however many others there are: for the members of a run, so that strangers
    /// cannot crowd them out. Bootstrap peers have it already.
    pub async fn reserve(&self, peer: PeerId) {
        self.command(Command::Reserve(peer)).await;
    }

    /// Takes back [`Network::reserve`].
    pub async fn unreserve(&self, peer: PeerId) {
        self.command(Command::Unreserve(peer)).await;
    }

    /// Closes every connection with `peer`; a bootstrap peer is dialled again soon.
    pub async fn disconnect(&self, peer: PeerId) {
        self.command(Command::Disconnect(peer)).await;
    }

    /// Counts a misbehaviour of `peer`, which is disconnected and refused for a while when it persists. Oversized and
    /// malformed frames, wrong pieces and rejected gossip are counted without the caller.
    pub async fn penalize(&self, peer: PeerId, what: Misbehaviour) {
        self.command(Command::Penalize { peer, what }).await;
    }

    /// Announces in the Kademlia table that this node has the blob.
    pub async fn start_providing(&self, hash: Hash) {
        self.command(Command::StartProviding(hash)).await;
    }

    /// Withdraws the announcement; others forget it in time.
    pub async fn stop_providing(&self, hash: Hash) {
        self.command(Command::StopProviding(hash)).await;
    }

    /// The providers of a blob according to the Kademlia table; none if it is off or knows none.
    pub async fn providers(&self, hash: Hash) -> Vec<PeerId> {
        let (reply, found) = oneshot::channel();
        self.command(Command::Providers { hash, reply }).await;
        found.await.unwrap_or_default()
    }

    /// Looks for addresses of `peer` in the Kademlia table; whether any was found.
    pub async fn find_peer(&self, peer: PeerId) -> bool {
        let (reply, found) = oneshot::channel();
        self.command(Command::FindPeer { peer, reply }).await;
        found.await.unwrap_or(false)
    }

    /// Closes every connection and listener and waits until that is done. Later calls on any clone give `Stopped`.
    pub async fn shutdown(&self) {
        let (reply, done) = oneshot::channel();
        if self.command(Command::Shutdown(reply)).await {
            // An error means that the task is gone, which is what was asked for.
            let _ = done.await;
        }
    }
}

fn read<T>(lock: &RwLock<T>) -> std::sync::RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}
