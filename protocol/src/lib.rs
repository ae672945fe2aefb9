//! What is said in an Essaim run, and what is true of it.
//!
//! No clock, no randomness of its own, no files, no async, no network, no floats.
#![cfg_attr(test, allow(clippy::unwrap_used))]
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::float_arithmetic)
)]

pub mod assignment;
#[cfg(test)]
mod assignment_tests;
pub mod chain;
pub mod data_order;
pub mod dataset;
pub mod encoding;
#[cfg(test)]
pub(crate) mod fixtures;
#[cfg(test)]
mod fuzz;
pub mod hash_chain;
pub mod ids;
pub mod layout;
pub mod ledger;
pub mod limits;
pub mod link;
pub mod manifest;
pub mod messages;
pub mod round;
pub mod signing;
pub mod statements;
#[cfg(test)]
pub(crate) mod vectors;
