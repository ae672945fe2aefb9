//! What is said in an Essaim run, and what is true of it.
//!
//! No clock, no randomness of its own, no files, no async, no network, no floats: everything here is a function of bytes
//! that were handed in, so that a daemon, a verifier, a browser and a simulation come to the same results.
//!
//! # One round
//!
//! An operator signs a [`manifest::Manifest`]: model, data ([`dataset::DatasetManifest`]), optimisers, deadlines, and the
//! anchor of its [`hash_chain::HashChain`]. The manifest's hash is the run's id ([`ids::RunId`]), which a
//! [`link::JoinLink`] carries. Everything said from then on is a [`signing::Signed`] statement: Ed25519 over a domain tag
//! and the exact payload, whose hash is the statement's id. [`encoding`] gives each value its one byte form.
//!
//! 1. A member sends a [`statements::Join`] ([`messages::Request::Join`]). The next record admits it.
//! 2. That record also reveals a value of the hash chain. Together they seed the next round's [`assignment`]: a pure
//!    function of manifest, [`ledger::Ledger`] and seed, which everybody computes. An [`assignment::Assignment`] is a list
//!    of positions; [`data_order::DataOrder`] says which text each position is.
//! 3. Members do inner steps. A member that did `n` of them signs a [`statements::Claim`] that names base, assignment, `n`
//!    and the hash of its update. The operator answers with a [`statements::Receipt`].
//! 4. At the deadline, or when everybody in touch has claimed, the operator signs the [`statements::ClaimList`]. Only now do
//!    members serve their updates. What cannot be fetched or used is refused.
//! 5. The operator aggregates and signs the [`statements::Record`]: [`statements::Contribution`]s, refusals, admissions, the
//!    next checkpoint and outer state, the next value of the hash chain, and the hash of the ledger that follows. It
//!    announces it in a [`statements::Head`].
//! 6. Each member checks the record against the [`chain::ChainState`] before it, computes the checkpoint, and compares. A
//!    verifier does the same later, and looks at claims and joins too. Statements that contradict each other are
//!    [`chain::Evidence`].
//!
//! [`round::CoordinatorMachine`] and [`round::MemberMachine`] are the two ends of this, without any input or output of their
//! own. [`limits`] bounds whatever comes from outside, [`layout`] says where the public files of a run lie.
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
mod types_tests;
#[cfg(test)]
pub(crate) mod vectors;
