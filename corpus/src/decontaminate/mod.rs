//! Keeps what models are judged by out of what they are trained on.
//!
//! [`Builder`] takes the texts of held-out documents and of benchmark items and makes an [`NgramSet`], which is saved for all tasks
//! and [`NgramSet::check`]s documents:
//!
//! * `decontamination/benchmark`: the document has an n-gram of a benchmark item ([`DecontaminateConfig::ngram`] words; of a shorter
//!   item, all its words).
//! * `decontamination/held-out`: more than [`DecontaminateConfig::share_max`] of the document's n-grams occur in held-out documents.
//!   A document with fewer words than an n-gram has none and passes; the search for duplicates has met it. n-grams that more than
//!   [`DecontaminateConfig::documents_max`] training documents have are left out of both numbers.
//!
//! Words are those of [`crate::dedup`]: lower case, without accents or punctuation, numbers made equal. An n-gram is a 64-bit hash; a
//! document of a thousand words meets one of a set of a hundred million by chance once in 180 million documents. The set takes about 10
//! bytes an n-gram in memory, 8 while it is built and stored, and has at most 2^28 of each kind: 2.7 GB.

mod config;
mod files;
mod set;

pub use config::DecontaminateConfig;
pub use files::DecontaminateError;
pub use set::{Builder, NgramSet};
