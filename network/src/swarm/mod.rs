//! The swarm: a background task that owns every connection, and [`Network`], the handle to it.
//!
//! Message flow: the caller's methods become commands on a bounded channel; the task drives libp2p and gives back
//! [`NetworkEvent`]s on another. Blob requests of peers are answered here, from the store, as far as the caller's
//! [`ServePolicy`] allows; everything else is the caller's to answer.
//!
//! Bounds: connections in all and per peer, streams per connection, bytes per frame, commands and events waiting, blob reads
//! at once, time per request. What exceeds one is refused and counted, never queued without end.

mod behaviour;
mod codec;
mod config;
mod discovery;
mod events;
mod fetch;
mod handle;
mod listen;
mod penalty;
mod redial;
mod requests;
mod serve;
mod task;

pub use config::{KadMode, NetworkConfig, NetworkError, NetworkLimits};
pub use events::{GossipVerdict, NetworkEvent, Responder};
pub use fetch::{FetchError, FetchProgress, FetchRequest, FetchedBlob};
pub use handle::{Network, PublishError, RequestError};
pub use penalty::{Misbehaviour, PenaltyBook, PenaltyConfig};
pub use redial::Redial;
pub use serve::{ServePolicy, serve_all};
