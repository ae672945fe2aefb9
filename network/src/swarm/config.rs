//! What a node sets about its network, with defaults that suit a volunteer at home.

use super::penalty::PenaltyConfig;
use libp2p::Multiaddr;
use std::time::Duration;

/// Whether and how a node takes part in the Kademlia table, which finds the providers of a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KadMode {
    /// Not at all.
    Off,
    /// Asks others, answers nobody: for a node that nobody can dial.
    Client,
    /// Asks and answers: for a node that others can dial.
    Server,
}

/// Bounds on what peers can make a node hold or do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkLimits {
    /// Connections in all. Default 512.
    pub connections_max: u32,
    /// Connections with one peer. Default 4.
    pub connections_per_peer_max: u32,
    /// Incoming connections whose handshake is not finished. Default 64.
    pub pending_incoming_max: u32,
    /// Requests at once on one connection, for each of the two request protocols. Default 64.
    pub streams_per_connection_max: usize,
    /// Length of a control request or response in bytes. Default 4 MiB.
    pub control_len_max: usize,
    /// Bytes of control requests longer than 64 KiB that are held at once, from all peers; more wait. Default 64 MiB.
    pub long_requests_bytes_max: usize,
    /// Length of a gossip message in bytes. Default 64 KiB.
    pub gossip_len_max: usize,
    /// Events waiting for the caller; requests and gossip beyond are dropped and counted. Default 1024.
    pub events_max: usize,
    /// Blob requests being answered at once, over all peers: each holds up to a piece (256 KiB) in memory until it is sent.
    /// Default 128, which is 32 MiB.
    pub blob_answers_max: usize,
    /// Blob requests being answered at once for one peer. Default 12.
    pub blob_answers_per_peer_max: usize,
    /// Blob requests waiting to be answered; the peers of those beyond are told that this node is busy. Default 4096.
    pub blob_queue_max: usize,
    /// Blob requests that a fetch has outstanding with one provider at most; it begins with two. Default 8.
    pub fetch_in_flight_per_provider: usize,
}

impl Default for NetworkLimits {
    fn default() -> Self {
        NetworkLimits {
            connections_max: 512,
            connections_per_peer_max: 4,
            pending_incoming_max: 64,
            streams_per_connection_max: 64,
            control_len_max: 4 << 20,
            long_requests_bytes_max: 64 << 20,
            gossip_len_max: 64 << 10,
            events_max: 1024,
            blob_answers_max: 128,
            blob_answers_per_peer_max: 12,
            blob_queue_max: 4096,
            fetch_in_flight_per_provider: 8,
        }
    }
}

/// The configuration of a node's network.
#[derive(Clone)]
pub struct NetworkConfig {
    /// The node's Ed25519 secret: the peer id derives from it, so it is the member's own.
    pub keypair_seed: [u8; 32],
    /// Where to listen, such as `/ip4/0.0.0.0/udp/7400/quic-v1` and `/ip4/0.0.0.0/tcp/7400`; port 0 takes a free one.
    pub listen: Vec<Multiaddr>,
    /// Peers to stay connected to, each ending in `/p2p/PEER`. Several addresses of one peer are tried together, QUIC first.
    pub bootstrap: Vec<Multiaddr>,
    /// The gossip topic, which also names the swarm: peers with another one are sent away. Say, the run id.
    pub run_topic: String,
    /// Whether to look for peers on the local network by multicast DNS. Default off.
    pub mdns: bool,
    /// Part taken in the Kademlia table. Default [`KadMode::Server`].
    pub kad: KadMode,
    /// Bounds.
    pub limits: NetworkLimits,
    /// When misbehaving peers are blocked.
    pub penalties: PenaltyConfig,
    /// How long a control request may take, either way. Default 20 s.
    pub request_timeout: Duration,
    /// How long a blob request may take, either way: a piece (256 KiB) has to come through in this time. Default 20 s.
    pub blob_timeout: Duration,
    /// How long a silent connection is believed in. Default 12 s.
    pub silence_timeout: Duration,
    /// How long a connection without use is kept, unless the peer is one to stay connected to. Default 10 min.
    pub idle_timeout: Duration,
    /// First wait before a bootstrap peer is dialled again; it doubles up to 20 times as much. Default 500 ms.
    pub redial_wait: Duration,
}

impl std::fmt::Debug for NetworkConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The secret stays out of logs.
        f.debug_struct("NetworkConfig")
            .field("listen", &self.listen)
            .field("bootstrap", &self.bootstrap)
            .field("run_topic", &self.run_topic)
            .field("kad", &self.kad)
            .finish_non_exhaustive()
    }
}

impl NetworkConfig {
    /// The defaults for the owner of `keypair_seed` in the swarm named `run_topic`: listens nowhere, knows nobody.
    pub fn new(keypair_seed: [u8; 32], run_topic: impl Into<String>) -> NetworkConfig {
        NetworkConfig {
            keypair_seed,
            listen: Vec::new(),
            bootstrap: Vec::new(),
            run_topic: run_topic.into(),
            mdns: false,
            kad: KadMode::Server,
            limits: NetworkLimits::default(),
            penalties: PenaltyConfig::default(),
            request_timeout: Duration::from_secs(20),
            blob_timeout: Duration::from_secs(20),
            silence_timeout: Duration::from_secs(12),
            idle_timeout: Duration::from_secs(600),
            redial_wait: Duration::from_millis(500),
        }
    }
}

/// Why the network could not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NetworkError {
    /// An address cannot be listened on: the port is in use, or the address is not this machine's.
    #[error("cannot listen on {addr}: {source}; choose another address or port")]
    Listen {
        /// The address.
        addr: Multiaddr,
        /// Why not.
        source: std::io::Error,
    },
    /// A bootstrap address does not name its peer.
    #[error("bootstrap address {addr} does not end in /p2p/PEER")]
    Bootstrap {
        /// The address.
        addr: Multiaddr,
    },
    /// The secret is no Ed25519 secret.
    #[error("the key is no Ed25519 secret")]
    Key,
    /// libp2p could not be set up.
    #[error("cannot set up the swarm: {0}")]
    Setup(String),
}
