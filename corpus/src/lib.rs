//! From documents to hashed shards of tokens.
//!
//! The way of a document through [`build::build`], stage by stage:
//!
//! 1. [`readers`] take it from parquet, JSON lines, text or WARC; [`document`] brings its text to one form (NFC, without `\r`).
//!    [`stages::chain`] decides over it by itself: removal requests, licence, reservation of rights, language, [`filters`], personal
//!    data. What is left lies in [`bundle`]s, sorted by a key that is a hash.
//! 2. [`dedup`] finds duplicates by hashes alone; [`stages::clean`] drops them, and lines that recur in many documents.
//! 3. [`stages::select`] holds documents out; [`decontaminate`] keeps what occurs in them out of training, but for what
//!    [`stages::collide`] finds to be common.
//! 4. [`tokenizer`] learns a byte-fallback BPE from a balanced sample; [`stages::encode`] encodes.
//! 5. [`mix`] says how often each document occurs; [`stages::place`] shuffles; [`shards`] lays tokens out.
//! 6. [`stages::finish`] and [`publish`] write the folder, at once or not at all.
//!
//! Stages meet in a [`store`] only, and each is cut into items that any task may do: [`stages::runner`]. What is held in memory does
//! not grow with the corpus but for 4 bytes a document, the tokenizer's sample and the held-out documents.
//!
//! The same documents and settings give the same bytes, whatever the order of files and however many threads, tasks or machines.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod build;
pub mod bundle;
pub mod config;
pub mod dataset;
pub mod decontaminate;
pub mod dedup;
pub mod document;
pub mod facts;
pub mod filters;
pub mod funnel;
pub mod language;
pub mod license;
pub mod mix;
pub mod output;
pub mod pii;
pub mod plot;
pub mod publish;
pub mod readers;
pub mod rights;
pub mod shards;
pub mod stages;
pub mod store;
pub mod tally;
pub mod tokenizer;
pub mod verdict;
pub mod xz;
