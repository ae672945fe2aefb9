//! The model, its optimisers, the update codec, aggregation, replay, checkpoints and shards.
//!
//! A round, call by call: everybody has the [`round::Base`] that the record before commits to ([`round::Base::initial`] at first). A member
//! does its inner steps and encodes its update with [`contribute::contribute`], on units read from shards ([`shard`]), on the CPU or on a device ([`engine`]). The operator checks
//! updates with [`aggregate::check_update`]. Then everybody comes to the next base with [`aggregate::next_checkpoint`], and compares its
//! hashes with the record. Anybody does a contribution again with [`replay::replay`]. [`eval`] measures a checkpoint, [`checkpoint`] and
//! [`state`] write and read one, and [`selfcheck`] says whether this machine computes as all others do.
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
pub mod device;
pub mod engine;
mod files;
pub mod inner;
pub mod moments;
pub mod replay;
pub mod round;
pub mod schedule;
pub mod selfcheck;
pub mod state;
