//! The volunteer's program `essaim`: it joins a run, trains, and checks every record.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod bench;
pub mod bench_device;
pub mod bench_ops;
pub mod cli;
pub mod config;
pub mod datadir;
pub mod disk;
pub mod driver;
pub mod engine;
pub mod events;
pub mod files;
pub mod generate;
pub mod identity;
pub mod reporter;
pub mod status;
pub mod withheld;
pub mod worker;
