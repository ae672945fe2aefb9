//! Whole-system tests of Essaim, and the harness they share with the demo.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod demo;
pub mod process;
pub mod sim;
