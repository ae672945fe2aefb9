//! `[dedup]`: what counts as a duplicate.

use crate::config::ConfigError;
use serde::{Deserialize, Serialize};

/// `[dedup]`. The defaults are FineWeb's and FineWeb-2's (<https://arxiv.org/abs/2406.17557>, §3.4;
/// <https://github.com/huggingface/datatrove/blob/main/examples/fineweb.py>).
///
/// Two documents whose sets of n-grams have the Jaccard similarity s share all hashes of at least one band with the probability
/// P(s) = 1 − (1 − s^rows)^bands. With 14 bands of 8 rows: P(0.5) = 0.053, P(0.6) = 0.211, P(0.7) = 0.565, P(0.8) = 0.924,
/// P(0.9) = 0.9996; half of the pairs are found at s ≈ 0.68, and (1/bands)^(1/rows) ≈ 0.72 is the customary "threshold".
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DedupConfig {
    /// Of documents with the same text, in whatever language, one stays.
    pub exact: bool,
    /// Of documents that are nearly the same, in one language, one stays (MinHash, <https://doi.org/10.1109/SEQUEN.1997.666900>).
    pub minhash: bool,
    /// Words in an n-gram. Texts with fewer have no near-duplicates.
    pub ngram: u32,
    /// Bands, any of which is enough for a match.
    pub bands: u32,
    /// Hashes in a band, which must all be equal.
    pub rows: u32,
    /// Lines that recur in many documents.
    pub lines: LinesConfig,
}

/// `[dedup.lines]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LinesConfig {
    /// A line that occurs in more kept documents of its language than this is removed from all. 0, the default: lines stay. The
    /// right number depends on the corpus: Llama 3 takes 6 within 30 million documents of the web
    /// (<https://arxiv.org/abs/2407.21783>, §3.1.1); in books and manuals lines recur rightly, and FineWeb-2 and Lucie let them.
    pub documents_max: u32,
    /// Shorter lines, in characters without the white space at their ends, are let be.
    pub chars_min: u32,
}

impl Default for DedupConfig {
    fn default() -> Self {
        DedupConfig { exact: true, minhash: true, ngram: 5, bands: 14, rows: 8, lines: LinesConfig::default() }
    }
}

impl Default for LinesConfig {
    fn default() -> Self {
        LinesConfig { documents_max: 0, chars_min: 40 }
    }
}

impl LinesConfig {
    /// Whether lines are looked at.
    pub fn on(&self) -> bool {
        self.documents_max > 0
    }
}

impl DedupConfig {
    /// Checks the ranges of all values.
    ///
    /// # Errors
    /// [`ConfigError::Value`].
    pub fn check(&self) -> Result<(), ConfigError> {
        let value = |key, got: u32, expected| Err(ConfigError::Value { key, got: got.to_string(), expected });
        if !(1..=64).contains(&self.ngram) {
            return value("dedup.ngram", self.ngram, "1 to 64 words");
        }
        if !(1..=128).contains(&self.bands) {
            return value("dedup.bands", self.bands, "1 to 128");
        }
        if !(1..=64).contains(&self.rows) {
            return value("dedup.rows", self.rows, "1 to 64");
        }
        if !(8..=100_000).contains(&self.lines.chars_min) {
            return value("dedup.lines.chars_min", self.lines.chars_min, "8 to 100000 characters");
        }
        Ok(())
    }

    /// The probability that two texts of a Jaccard similarity share a band, for people.
    pub fn probability(&self, similarity: f64) -> f64 {
        let power = |base: f64, exponent: u32| (0..exponent).fold(1.0, |product, _| product * base);
        1.0 - power(1.0 - power(similarity, self.rows), self.bands)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_fineweb_s() {
        let config = DedupConfig::default();
        config.check().unwrap();
        let rounded = [0.5, 0.6, 0.7, 0.8, 0.9].map(|s| (config.probability(s) * 1e4).round() / 1e4);
        assert_eq!(rounded, [0.0533, 0.2111, 0.5645, 0.9235, 0.9996]);
    }

    #[test]
    fn values_out_of_range_are_named() {
        let bad = |edit: fn(&mut DedupConfig)| {
            let mut config = DedupConfig::default();
            edit(&mut config);
            config.check().unwrap_err().to_string()
        };
        assert_eq!(bad(|c| c.ngram = 0), "corpus settings: dedup.ngram is 0, expected 1 to 64 words");
        assert_eq!(bad(|c| c.bands = 129), "corpus settings: dedup.bands is 129, expected 1 to 128");
        assert_eq!(bad(|c| c.rows = 0), "corpus settings: dedup.rows is 0, expected 1 to 64");
        assert!(bad(|c| c.lines.chars_min = 0).contains("dedup.lines.chars_min is 0"));
        assert!(toml::from_str::<DedupConfig>("band = 3").is_err());
    }
}
