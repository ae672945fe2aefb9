//! Everything that a build counted, in one value: `facts.json` of a data set. Summaries, cards and plots are drawn from it alone.

use crate::publish::{Credits, PublishConfig};
use crate::tally::Tally;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// File name in a data set's folder.
pub const FACTS: &str = "facts.json";

/// What a build counted.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Facts {
    /// Version of this form: 1.
    pub version: u32,
    /// Name of the data set.
    pub name: String,
    /// Hash of `dataset.manifest`, hexadecimal: it names the data set.
    pub dataset: String,
    /// The settings, as TOML.
    pub settings: String,
    /// Documents read, refused by each rule, and kept, by source and language. A document is counted once under `read`, and
    /// once under a rule or under `kept`.
    pub tally: Tally,
    /// Files and rows that could not be read.
    pub broken: Vec<Broken>,
    /// Training documents by licence.
    pub licenses: Vec<LicenseFacts>,
    /// What each mix is made of.
    pub mixes: Vec<MixFacts>,
    /// Documents held out, by language.
    pub heldout: BTreeMap<String, HeldoutFacts>,
    /// The tokenizer.
    pub tokenizer: TokenizerFacts,
    /// Kept documents by language and length: `lengths["fr"][k]` have 2^k to 2^(k+1) − 1 bytes of text.
    pub lengths: BTreeMap<String, Vec<u64>>,
    /// Sizes of clusters of near-duplicates, and how many there were of each. A document with no duplicate is a cluster of 1.
    pub clusters: BTreeMap<u64, u64>,
    /// Personal data masked in kept documents, by kind and language: `masked["email"]["fr"]`.
    pub masked: BTreeMap<String, BTreeMap<String, u64>>,
    /// Kept documents by registered host name, those with the most bytes first; at most 1000.
    pub hosts: Vec<HostFacts>,
    /// Lines removed because they occur in many documents, and their bytes.
    pub lines: LineFacts,
    /// First and last year of kept documents' dates, by source.
    pub years: BTreeMap<String, (u16, u16)>,
    /// Authors of kept documents, by source and licence.
    pub credits: Credits,
    /// What people said of the data set: `[publish]` of the corpus file.
    pub publish: PublishConfig,
}

/// A file or row that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Broken {
    /// Its source's name.
    pub source: String,
    /// The file, relative to its source.
    pub file: String,
    /// Where in it; empty: the file as a whole.
    pub place: String,
    /// What is wrong.
    pub reason: String,
}

/// Training documents of one licence.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LicenseFacts {
    /// SPDX expression.
    pub license: String,
    /// Source.
    pub source: String,
    /// Language.
    pub language: String,
    /// Documents.
    pub documents: u64,
    /// Bytes of text.
    pub bytes: u64,
}

/// What a mix is made of.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct MixFacts {
    /// Its name.
    pub name: String,
    /// Its shards.
    pub shards: u64,
    /// Its parts.
    pub parts: Vec<MixPart>,
}

/// A source and language in a mix.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct MixPart {
    /// Source.
    pub source: String,
    /// Language.
    pub language: String,
    /// Documents that occur at least once.
    pub documents: u64,
    /// Documents with their repetitions.
    pub copies: u64,
    /// Bytes of text, with repetitions.
    pub bytes: u64,
    /// Tokens, with repetitions.
    pub tokens: u64,
    /// How often each document was asked to occur.
    pub weight: f64,
}

/// Documents held out of training in one language.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldoutFacts {
    /// Documents.
    pub documents: u64,
    /// Bytes of text.
    pub bytes: u64,
    /// Tokens.
    pub tokens: u64,
}

/// The tokenizer of a data set.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct TokenizerFacts {
    /// BLAKE3 of `tokenizer.json`, hexadecimal.
    pub hash: String,
    /// Tokens that it knows.
    pub vocab_size: u32,
    /// Whether it was learnt from this corpus, or came from a file.
    pub trained: bool,
    /// On held-out documents, by language.
    pub fertility: BTreeMap<String, Fertility>,
}

/// How finely a tokenizer cuts a language.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Fertility {
    /// Words: runs of characters that are not white space.
    pub words: u64,
    /// Bytes of text.
    pub bytes: u64,
    /// Tokens of the data set's tokenizer.
    pub tokens: u64,
    /// Tokens of other tokenizers on the same text, by name.
    pub others: BTreeMap<String, u64>,
}

/// Kept documents of one host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostFacts {
    /// Host name.
    pub host: String,
    /// Documents.
    pub documents: u64,
    /// Bytes of text.
    pub bytes: u64,
}

/// Lines removed because they recur.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LineFacts {
    /// Documents that lost a line.
    pub documents: u64,
    /// Lines removed.
    pub lines: u64,
    /// Bytes removed.
    pub bytes: u64,
}
