//! From documents to hashed shards of tokens.
//!
//! The way of a document through [`build::build`]:
//!
//! 1. [`readers`] take it from parquet, JSON lines or plain text; [`document`] brings its text to one form (NFC, without `\r`). That
//!    text *is* the document: bits per byte are counted on its UTF-8 bytes, and the tokens give it back.
//! 2. [`select`] drops exact duplicates, holds documents out, and puts the rest into an order that depends on nothing but the seed.
//! 3. [`tokenizer`] learns a byte-fallback BPE from a balanced sample of the documents that are trained on, and encodes all.
//! 4. [`shards`] lays them out, and [`output`] writes the folder, at once or not at all.
//!
//! The same documents and settings give the same bytes, whatever the files' names or order and however many threads.
//! All documents are held in memory: about five times the text.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod build;
pub mod chunk;
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
pub mod output;
pub mod pii;
pub mod plot;
pub mod publish;
pub mod readers;
pub mod rights;
pub mod select;
pub mod shards;
pub mod store;
pub mod tally;
pub mod tokenizer;
pub mod verdict;
pub mod xz;
