//! The model, its optimisers, the update codec, aggregation, replay, checkpoints and shards.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod config;
pub mod eval;
pub mod init;
pub mod model;
pub mod params;
pub mod shard;

pub mod aggregate;
pub mod checkpoint;
pub mod codec;
pub mod contribute;
mod files;
pub mod inner;
pub mod moments;
pub mod replay;
pub mod round;
pub mod schedule;
pub mod selfcheck;
pub mod state;
