//! `[decontaminate]`: what training text must not contain.

use crate::config::ConfigError;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// `[decontaminate]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DecontaminateConfig {
    /// Words in an n-gram: 13 as in GPT-3 (<https://arxiv.org/abs/2005.14165>, appendix C) and since.
    pub ngram: u32,
    /// Documents that share too much with held-out ones are dropped.
    pub heldout: bool,
    /// The share of a document's n-grams that may occur in held-out documents. Default 0.2: what Llama 2 calls clean has less than 20 %
    /// of its tokens in matched n-grams (<https://arxiv.org/abs/2307.09288>, appendix A.6).
    pub share_max: f64,
    /// An n-gram of held-out documents that more training documents than this have is common property, such as a licence at the end
    /// of a manual page, and neither counts as shared nor as the document's own. Default 10: GPT-3 ignores what more than 10 training
    /// documents have, mostly boilerplate (appendix C). 0: none is ignored; at most 254. Items of benchmarks count however common.
    pub documents_max: u32,
    /// Files of benchmark items, relative to the corpus file. A document with any n-gram of an item is dropped. `.jsonl`: an item a
    /// line; others are text whose paragraphs, parted by blank lines, are the items.
    pub benchmarks: Vec<PathBuf>,
    /// Keys of a `.jsonl` item whose values, strings or lists of strings, are its text, one after the other.
    pub keys: Vec<String>,
    /// An item with fewer words than an n-gram is an n-gram of its length; with fewer than this it is left out, as it would be met
    /// by chance.
    pub words_min: u32,
}

impl Default for DecontaminateConfig {
    fn default() -> Self {
        DecontaminateConfig {
            ngram: 13,
            heldout: true,
            share_max: 0.2,
            documents_max: 10,
            benchmarks: Vec::new(),
            keys: vec!["text".into()],
            words_min: 8,
        }
    }
}

impl DecontaminateConfig {
    /// Checks the ranges of all values.
    ///
    /// # Errors
    /// [`ConfigError::Value`].
    pub fn check(&self) -> Result<(), ConfigError> {
        let value = |key, got: String, expected| Err(ConfigError::Value { key, got, expected });
        if !(4..=64).contains(&self.ngram) {
            return value("decontaminate.ngram", self.ngram.to_string(), "4 to 64 words");
        }
        if !(0.0..=1.0).contains(&self.share_max) {
            return value("decontaminate.share_max", self.share_max.to_string(), "0 to 1");
        }
        if self.documents_max > 254 {
            return value("decontaminate.documents_max", self.documents_max.to_string(), "0 to 254");
        }
        if !(2..=self.ngram).contains(&self.words_min) {
            return value("decontaminate.words_min", self.words_min.to_string(), "2 to decontaminate.ngram");
        }
        if self.keys.is_empty() {
            return value("decontaminate.keys", "empty".into(), "at least one key, as in keys = [\"text\"]");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_out_of_range_are_named() {
        DecontaminateConfig::default().check().unwrap();
        let bad = |edit: fn(&mut DecontaminateConfig)| {
            let mut config = DecontaminateConfig::default();
            edit(&mut config);
            config.check().unwrap_err().to_string()
        };
        assert!(bad(|c| c.ngram = 3).contains("decontaminate.ngram is 3"));
        assert!(bad(|c| c.share_max = 1.1).contains("decontaminate.share_max is 1.1"));
        assert!(bad(|c| c.share_max = f64::NAN).contains("decontaminate.share_max is NaN"));
        assert!(bad(|c| c.documents_max = 255).contains("decontaminate.documents_max is 255"));
        assert!(bad(|c| c.words_min = 14).contains("decontaminate.words_min is 14"));
        assert!(bad(|c| c.keys.clear()).contains("decontaminate.keys is empty"));
    }
}
