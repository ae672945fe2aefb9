//! Which language a text is in, and whether it is the one that it is said to be.

mod builtin;
mod codes;
mod fasttext;
mod matrix;
mod model_file;

pub use model_file::ModelError;

use crate::document::Document;
use crate::verdict::Rejection;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// `[language]`: how languages are identified, and how sure one must be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LanguageConfig {
    /// Whether documents are checked at all.
    pub identify: bool,
    /// A supervised fastText model, `.bin` or `.ftz`: `lid.176` (CC-BY-SA-3.0) or GlotLID (Apache-2.0). Default: a builtin identifier
    /// of sixteen languages.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<PathBuf>,
    /// The probability at least. 0.65: FineWeb (<https://arxiv.org/abs/2406.17557>, §3.3) and Lucie.
    pub threshold: f64,
    /// The probability at least for languages of their own. FineWeb-2 with GlotLID: fr 0.824, de 0.821, es 0.84, it 0.817, nl 0.689,
    /// pt 0.799 (`language_score` in its `configs/*_Latn.yml`).
    pub thresholds: BTreeMap<String, f64>,
    /// What becomes of a document in another language than its own.
    pub on_other: OnOther,
    /// A longer text is judged by eight pieces of it, evenly spread, that have as many bytes together. 0: by the whole of it, however
    /// long.
    pub sample_bytes: usize,
}

/// What becomes of a document in another language than its own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnOther {
    /// It is rejected.
    #[default]
    Drop,
    /// It gets the language that was found.
    Relabel,
}

impl Default for LanguageConfig {
    fn default() -> Self {
        LanguageConfig {
            identify: true,
            model: None,
            threshold: 0.65,
            thresholds: BTreeMap::new(),
            on_other: OnOther::Drop,
            sample_bytes: 1 << 16,
        }
    }
}

/// Why languages cannot be identified.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LanguageError {
    /// The model cannot be used.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A probability is none.
    #[error("language.{key} is {value}, expected a probability: 0 to 1")]
    Threshold {
        /// Which key.
        key: String,
        /// Its value.
        value: f64,
    },
}

/// What a text seems to be.
#[derive(Debug, Clone, PartialEq)]
pub struct Guess {
    /// ISO 639-1 where there is a code, otherwise the model's label without its script. `und`: nothing can be said.
    pub language: String,
    /// From 0 to 1 (fastText's own may exceed it by 0.00002). The builtin identifier's is the share of the text's windows in that
    /// language.
    pub probability: f32,
}

/// A language that is not known.
const UNKNOWN: &str = "und";
/// Pieces of a long text that are looked at.
const PIECES: usize = 8;

/// Says which language a text is in. Shared by all threads.
#[derive(Debug)]
pub struct Identifier {
    config: LanguageConfig,
    model: Option<fasttext::FastText>,
    /// Short names of the labels.
    names: Vec<String>,
    /// Languages that can be recognised.
    known: BTreeSet<String>,
}

impl Identifier {
    /// Reads the model, if one is named.
    ///
    /// # Errors
    /// [`LanguageError`] where the model cannot be read or is damaged, or a threshold is no probability.
    pub fn load(config: &LanguageConfig) -> Result<Identifier, LanguageError> {
        let named = config.thresholds.iter().map(|(language, &value)| (format!("thresholds.{language}"), value));
        for (key, value) in std::iter::once(("threshold".to_owned(), config.threshold)).chain(named) {
            if !(0.0..=1.0).contains(&value) {
                return Err(LanguageError::Threshold { key, value });
            }
        }
        let model = match &config.model {
            Some(path) if config.identify => Some(fasttext::FastText::read(&mut model_file::ModelFile::open(path)?)?),
            _ => None,
        };
        let names: Vec<String> = match &model {
            Some(model) => model.labels().iter().map(|label| codes::short(label)).collect(),
            None => builtin::languages(),
        };
        let known = names.iter().cloned().collect();
        Ok(Identifier { config: config.clone(), model, names, known })
    }

    /// Whether a language (ISO 639-1) can be recognised.
    pub fn knows(&self, language: &str) -> bool {
        self.known.contains(language)
    }

    /// The language of a text, as the model says.
    pub fn identify(&self, text: &str) -> Guess {
        let pieces = sample(text, self.config.sample_bytes);
        let found = match &self.model {
            Some(model) => model.predict(&pieces).map(|(label, probability)| (self.names[label].clone(), probability)),
            None => builtin::identify(&pieces),
        };
        let (language, probability) = found.unwrap_or_else(|| (UNKNOWN.to_owned(), 0.0));
        Guess { language, probability }
    }

    /// Checks that a document is in its language, or in one of `fr,en`. A document of language `und` or none gets the one that is
    /// found. Nothing is said of code (`code:python`) and of languages that cannot be recognised; nor where `identify` is off.
    ///
    /// # Errors
    /// [`Rejection`] `language/other` where it is in another language, unless that is to be relabelled; `language/unsure` where the
    /// probability is below the threshold of the language that was found.
    pub fn check(&self, document: &mut Document) -> Result<Option<Guess>, Rejection> {
        let declared: Vec<&str> = document.language.split(',').map(str::trim).collect();
        let unknown = declared.iter().all(|&language| language.is_empty() || language == UNKNOWN);
        let checked = unknown || declared.iter().all(|&language| self.knows(language));
        if !self.config.identify || !checked {
            return Ok(None);
        }
        let guess = self.identify(&document.text);
        let threshold = self.config.thresholds.get(&guess.language).copied().unwrap_or(self.config.threshold);
        // Thresholds are of two or three decimals: a probability of 0.65 in float32 is not below 0.65.
        let sure = guess.language != UNKNOWN && guess.probability >= threshold as f32;
        let is_declared = declared.contains(&guess.language.as_str());
        if !unknown && !is_declared && (self.config.on_other == OnOther::Drop || !sure) {
            let detail = format!("{} with {:.3}, not {}", guess.language, guess.probability, document.language);
            return Err(Rejection::new("language/other", detail));
        }
        if !sure {
            let detail = format!("{} with {:.3}, at least {threshold}", guess.language, guess.probability);
            return Err(Rejection::new("language/unsure", detail));
        }
        if !is_declared {
            document.language.clone_from(&guess.language);
        }
        Ok(Some(guess))
    }
}

/// The text, or [`PIECES`] of it with as many bytes together, that begin and end at white space where there is some.
fn sample(text: &str, bytes: usize) -> Vec<&str> {
    if bytes == 0 || text.len() <= bytes {
        return vec![text];
    }
    let (stride, length) = (text.len() / PIECES, bytes / PIECES);
    let boundary = |at: usize| (at..=text.len()).find(|&at| text.is_char_boundary(at)).unwrap_or(text.len());
    let after_space = |at: usize| {
        let at = boundary(at);
        text[at..].char_indices().take(256).find(|(_, c)| c.is_whitespace()).map_or(at, |(space, _)| at + space)
    };
    let piece = |i: usize| {
        let start = if i == 0 { 0 } else { after_space(i * stride) };
        &text[start..after_space(i * stride + length).max(start)]
    };
    (0..PIECES).map(piece).collect()
}

#[cfg(test)]
mod tests;
