//! The stages of a build, each a function of objects in a store to objects in a store: see [`crate`] for their order.

pub mod chain;
pub mod clean;
pub mod collide;
pub mod dedup;
pub mod encode;
pub mod export;
pub mod fertility;
pub mod finish;
mod heldout;
pub mod ingest;
pub mod learn;
pub mod pack;
pub mod place;
pub mod runner;
pub mod select;
mod sorted;
mod spill;
