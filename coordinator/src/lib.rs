//! The operator's daemon: it drives the round state machine of [`essaim_protocol`] over the network, keeps the chain on
//! disk, and shows the run on a page.
//!
//! [`config`] reads `run.toml`; [`mod@init`] makes a data directory ([`datadir`]) with keys, manifest and first checkpoint.
//! [`mod@serve`] drives the machine: statements go to [`store`] before they are sent, what anybody may have to [`public`],
//! arithmetic to a thread of its own. [`http`] shows what [`view`] holds.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod checkpoint;
pub mod config;
pub mod datadir;
pub mod dataset;
pub mod files;
pub mod http;
pub mod init;
pub mod public;
pub mod serve;
pub mod store;
pub mod view;

#[cfg(test)]
mod testing;
