//! The model, its optimisers, the update codec, aggregation, replay, checkpoints and shards.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod config;
pub mod init;
pub mod model;
pub mod params;
pub mod shard;
