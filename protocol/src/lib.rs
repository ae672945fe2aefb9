//! What is said in an Essaim run, and what is true of it.
//!
//! No clock, no randomness of its own, no files, no async, no network, no floats.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod dataset;
pub mod encoding;
pub mod ids;
pub mod layout;
pub mod limits;
pub mod link;
pub mod manifest;
pub mod messages;
pub mod signing;
pub mod statements;
