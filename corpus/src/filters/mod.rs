//! Filters of quality: which documents are language that is worth learning from.
//!
//! Each filter is a function of one document in a file of its own, with the published thresholds as defaults and its source named
//! there. [`FilterSet`] applies several in an order. What they count is integers; what they decide is one comparison of two doubles
//! that one division made, so the same documents pass on every machine. `docs/corpus-filters.md` compares them with datatrove's.

mod block_words;
mod c4;
mod config;
mod fineweb;
mod gopher_quality;
mod gopher_repetition;
mod intern;
mod lines;
mod lists;
mod names;
mod ocr;
mod scratch;
#[cfg(test)]
mod tests;
mod url_lists;
mod words;

pub use block_words::BlockWordsConfig;
pub use c4::C4Config;
pub use config::{BUILTIN, FilterSetConfig, FilterSettings, FiltersConfig};
pub use fineweb::FinewebConfig;
pub use gopher_quality::GopherQualityConfig;
pub use gopher_repetition::GopherRepetitionConfig;
pub use ocr::OcrConfig;
pub use scratch::Scratch;
pub use url_lists::UrlListsConfig;

use crate::document::Document;
use crate::verdict::Rejection;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// A filter, by the name that its rules begin with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Filter {
    /// Block lists of hosts, addresses and words in addresses.
    UrlLists,
    /// Repetition of lines, paragraphs and runs of words.
    GopherRepetition,
    /// Length, letters, symbols, stop words.
    GopherQuality,
    /// Drops lines that are no prose, and documents without much of it.
    C4,
    /// Punctuation and length of lines.
    Fineweb,
    /// What a machine read from paper.
    Ocr,
    /// Block lists of words.
    BlockWords,
}

/// What a filter changed in a document that it kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Notes {
    /// Lines that were dropped.
    pub lines_dropped: u64,
    /// Bytes that the text lost.
    pub bytes_dropped: u64,
}

/// Why a set of filters cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FilterSetError {
    /// No set has that name.
    #[error("filters.{name}: no set of filters has this name; there are {builtin}, and what [filters.NAME] defines", builtin = BUILTIN.join(", "))]
    Unknown {
        /// The name.
        name: String,
    },
    /// A set is based on itself.
    #[error("filters.{name}: its bases lead back to itself")]
    Circle {
        /// The set's name.
        name: String,
    },
    /// A key or value is not known.
    #[error("filters.{name}.{filter}: {reason}")]
    Malformed {
        /// The set's name.
        name: String,
        /// The filter's name.
        filter: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// A list could not be read.
    #[error("{filter}: {path}: {reason}", path = .path.display())]
    List {
        /// The filter's name.
        filter: &'static str,
        /// Which file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Phrases that cannot be searched for.
    #[error("{filter}: the phrases to search for: {reason}")]
    Phrases {
        /// The filter's name.
        filter: &'static str,
        /// Why.
        reason: String,
    },
}

/// Filters, ready to be applied in their order. Shared by all threads; each has a [`Scratch`].
#[derive(Debug)]
pub struct FilterSet {
    settings: FilterSettings,
    url_lists: url_lists::UrlLists,
    c4: c4::C4,
    ocr: ocr::Ocr,
    block_words: block_words::BlockWords,
}

impl FilterSet {
    /// The set `name` of the settings or the builtin ones, with paths as they stand.
    ///
    /// # Errors
    /// [`FilterSetError`] where the set is unknown, a threshold is not understood or a list cannot be read.
    pub fn new(name: &str, config: &FiltersConfig) -> Result<FilterSet, FilterSetError> {
        FilterSet::from_settings(FilterSettings::resolve(name, config)?)
    }

    /// As [`Self::new`], with paths relative to `folder`.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn within(folder: &Path, name: &str, config: &FiltersConfig) -> Result<FilterSet, FilterSetError> {
        let mut settings = FilterSettings::resolve(name, config)?;
        settings.relative_to(folder);
        FilterSet::from_settings(settings)
    }

    /// A set with these settings.
    ///
    /// # Errors
    /// [`FilterSetError`] where a list cannot be read.
    pub fn from_settings(settings: FilterSettings) -> Result<FilterSet, FilterSetError> {
        // Lists of filters that are not used need not exist.
        let used = |filter| settings.filters.contains(&filter);
        let or_none =
            |filter, config: &UrlListsConfig| if used(filter) { config.clone() } else { UrlListsConfig::default() };
        let url_lists = url_lists::UrlLists::new(&or_none(Filter::UrlLists, &settings.url_lists))?;
        let block_words = match used(Filter::BlockWords) {
            true => block_words::BlockWords::new(&settings.block_words)?,
            false => block_words::BlockWords::new(&BlockWordsConfig::default())?,
        };
        let ocr = match used(Filter::Ocr) {
            true => ocr::Ocr::new(&settings.ocr)?,
            false => ocr::Ocr::new(&OcrConfig::default())?,
        };
        let c4 = c4::C4::new(&settings.c4)?;
        Ok(FilterSet { settings, url_lists, c4, ocr, block_words })
    }

    /// What it does, in full: what a manifest says of it.
    pub fn settings(&self) -> &FilterSettings {
        &self.settings
    }

    /// Applies the filters in their order, until one rejects the document. C4 drops lines of the text.
    ///
    /// # Errors
    /// [`Rejection`] by the first filter that does; a text of 4 GiB or more is rejected as `filters/too-long`.
    pub fn apply(&self, document: &mut Document, scratch: &mut Scratch) -> Result<Notes, Rejection> {
        scratch.text_changed();
        let mut notes = Notes::default();
        if document.text.len() > words::TEXT_MAX {
            let detail = format!("{} bytes, at most {}", document.text.len(), words::TEXT_MAX);
            return Err(Rejection::new("filters/too-long", detail));
        }
        for &filter in &self.settings.filters {
            self.apply_one(filter, document, scratch, &mut notes)?;
        }
        Ok(notes)
    }

    fn apply_one(
        &self,
        filter: Filter,
        document: &mut Document,
        scratch: &mut Scratch,
        notes: &mut Notes,
    ) -> Result<(), Rejection> {
        let rules = words::Rules::of(&document.language);
        let (text, language) = (&document.text, document.language.as_str());
        match filter {
            Filter::UrlLists => self.url_lists.check(document),
            Filter::GopherRepetition => {
                let config = &self.settings.gopher_repetition;
                gopher_repetition::check_parts(text, &mut scratch.tables, config)?;
                let (words, tables) = scratch.words(text, rules);
                gopher_repetition::check_ngrams(text, words, tables, config)
            }
            Filter::GopherQuality => {
                let (words, _) = scratch.words(text, rules);
                gopher_quality::check(text, words, language, &self.settings.gopher_quality)
            }
            Filter::C4 => {
                let Scratch { segmenter, line, .. } = scratch;
                if let Some(changed) = self.c4.apply(text, rules, segmenter, line, notes)? {
                    document.text = changed;
                    scratch.text_changed();
                }
                Ok(())
            }
            Filter::Fineweb => {
                let config = &self.settings.fineweb;
                fineweb::check_lines(text, &mut scratch.tables, config)?;
                let (words, _) = scratch.words(text, rules);
                fineweb::check_words(text, words.len() as u64, config)
            }
            Filter::Ocr => {
                let needed = self.ocr.needs_words(language);
                let words = if needed { scratch.words(text, rules).0 } else { &[] };
                self.ocr.check(document, words)
            }
            Filter::BlockWords => self.block_words.check(text, language),
        }
    }
}
