//! The operator's daemon: it drives the round state machine of [`essaim_protocol`] over the network, keeps the chain on
//! disk, and shows the run on a page.
//!
//! [`config`] reads `run.toml`; [`init`] makes a data directory ([`datadir`]) with keys, manifest and first checkpoint;
//! [`store`] keeps signed statements; [`http`] shows what [`view`] holds.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod config;
pub mod datadir;
pub mod dataset;
pub mod files;
pub mod http;
pub mod store;
pub mod view;
