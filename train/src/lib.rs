//! The model, its optimisers, the update codec, aggregation, replay, checkpoints and shards.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod shard;
