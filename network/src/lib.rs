//! The network of Essaim: a libp2p swarm, a store of blobs named by their BLAKE3 hash, and transfers verified piece by piece.
//!
//! This crate knows nothing of training. A control message is opaque bytes, a gossip message is opaque bytes, and a blob
//! is bytes with a name; what they say is the caller's. Three parts:
//!
//! - [`blob`]: the store, the tree of a blob, and [`blob::Download`], a sans-IO state machine. No async, no sockets.
//! - [`swarm`]: [`Network`], the handle to a background task that owns the libp2p swarm (QUIC first, TCP with Noise as the
//!   fallback): control requests, gossip, discovery, blob transfers over requests, limits and penalties.
//! - [`identity`]: a member's Ed25519 key and its libp2p peer id are two forms of one thing.
//!
//! # Places kept
//! - *Many donors over a direct QUIC endpoint.* [`blob::Download`] neither knows how a request travels nor what a provider
//!   is: a second driver can feed the same machine from a quinn endpoint whose TLS identity is the same peer id, and fall
//!   back to [`swarm`]'s requests for donors that it does not reach.
//! - *NAT traversal.* Relay, AutoNAT and hole punching are libp2p behaviours: they join the struct in `swarm/behaviour.rs`
//!   and need no change of [`Network`]'s methods, since callers name peers and never addresses.
//!
//! # Whose fault
//! Errors keep apart what a peer did wrong ([`blob::PeerFault`]: penalised), what failed here ([`blob::BlobError`]) and what
//! merely did not work (time-outs, lost connections: tried again elsewhere).
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod blob;
pub mod identity;
pub mod metrics;
pub mod swarm;

pub use blob::{BlobError, BlobStore};
pub use identity::{member_of, peer_id_of};
pub use libp2p::{Multiaddr, PeerId};
pub use metrics::NetworkMetrics;
pub use swarm::{
    FetchError, FetchProgress, FetchRequest, FetchedBlob, GossipVerdict, KadMode, Misbehaviour, Network, NetworkConfig,
    NetworkError, NetworkEvent, NetworkLimits, PublishError, RequestError, Responder, ServePolicy, serve_all,
};
