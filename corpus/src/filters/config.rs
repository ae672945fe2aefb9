//! `[filters.NAME]`: which filters a source's documents go through, and with which thresholds.

use super::block_words::BlockWordsConfig;
use super::c4::C4Config;
use super::fineweb::FinewebConfig;
use super::gopher_quality::GopherQualityConfig;
use super::gopher_repetition::GopherRepetitionConfig;
use super::ocr::OcrConfig;
use super::url_lists::UrlListsConfig;
use super::{Filter, FilterSetError};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Sets of filters by name. Those of [`BUILTIN`] exist without being defined, and may be defined anew.
pub type FiltersConfig = BTreeMap<String, FilterSetConfig>;

/// Names of the sets that exist without being defined: no filters; FineWeb's; FineWeb-2's with the thresholds of each language; what is
/// asked of scanned books.
pub const BUILTIN: &[&str] = &["none", "web", "web-de", "web-es", "web-fr", "web-it", "web-nl", "web-pt", "books"];

/// `[filters.NAME]`: a set of filters. Thresholds that are not given are those of the set that it is based on.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct FilterSetConfig {
    /// The set whose filters and thresholds this one starts from. Default: the builtin one of this name, or `none`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
    /// The filters, in the order in which they are applied. Default: those of the base.
    #[serde(rename = "use", skip_serializing_if = "Option::is_none")]
    pub filters: Option<Vec<Filter>>,
    /// Thresholds of [`UrlListsConfig`].
    #[serde(skip_serializing_if = "toml::Table::is_empty")]
    pub url_lists: toml::Table,
    /// Thresholds of [`GopherRepetitionConfig`].
    #[serde(skip_serializing_if = "toml::Table::is_empty")]
    pub gopher_repetition: toml::Table,
    /// Thresholds of [`GopherQualityConfig`].
    #[serde(skip_serializing_if = "toml::Table::is_empty")]
    pub gopher_quality: toml::Table,
    /// Thresholds of [`C4Config`].
    #[serde(skip_serializing_if = "toml::Table::is_empty")]
    pub c4: toml::Table,
    /// Thresholds of [`FinewebConfig`].
    #[serde(skip_serializing_if = "toml::Table::is_empty")]
    pub fineweb: toml::Table,
    /// Thresholds of [`OcrConfig`].
    #[serde(skip_serializing_if = "toml::Table::is_empty")]
    pub ocr: toml::Table,
    /// Lists of [`BlockWordsConfig`].
    #[serde(skip_serializing_if = "toml::Table::is_empty")]
    pub block_words: toml::Table,
}

/// A set of filters with every threshold.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct FilterSettings {
    /// The filters, in their order.
    #[serde(rename = "use")]
    pub filters: Vec<Filter>,
    /// Hosts and addresses.
    pub url_lists: UrlListsConfig,
    /// Gopher's repetition.
    pub gopher_repetition: GopherRepetitionConfig,
    /// Gopher's quality.
    pub gopher_quality: GopherQualityConfig,
    /// C4.
    pub c4: C4Config,
    /// FineWeb.
    pub fineweb: FinewebConfig,
    /// Scans.
    pub ocr: OcrConfig,
    /// Words.
    pub block_words: BlockWordsConfig,
}

/// Thresholds of FineWeb-2 for a language: `configs/*_Latn.yml` of <https://github.com/huggingface/fineweb-2>, whose stop words are the
/// defaults of [`GopherQualityConfig`].
struct Fineweb2 {
    language: &'static str,
    duplicate_lines: f64,
    top: [f64; 3],
    duplicate: [f64; 6],
    punctuated: f64,
    newlines: f64,
    word_length: [f64; 2],
    alphabetic: f64,
}

const FINEWEB2: &[Fineweb2] = &[
    Fineweb2 {
        language: "fr",
        duplicate_lines: 0.264,
        top: [0.161, 0.149, 0.134],
        duplicate: [0.15, 0.141, 0.131, 0.121, 0.111, 0.1],
        punctuated: 0.1,
        newlines: 0.185,
        word_length: [2.0, 11.0],
        alphabetic: 0.812,
    },
    Fineweb2 {
        language: "de",
        duplicate_lines: 0.263,
        top: [0.169, 0.153, 0.137],
        duplicate: [0.141, 0.134, 0.126, 0.117, 0.108, 0.098],
        punctuated: 0.0,
        newlines: 0.152,
        word_length: [0.0, 15.0],
        alphabetic: 0.774,
    },
    Fineweb2 {
        language: "es",
        duplicate_lines: 0.265,
        top: [0.077, 0.097, 0.112],
        duplicate: [0.152, 0.137, 0.123, 0.114, 0.107, 0.099],
        punctuated: 0.3,
        newlines: 0.171,
        word_length: [4.0, 14.0],
        alphabetic: 0.825,
    },
    Fineweb2 {
        language: "it",
        duplicate_lines: 0.246,
        top: [0.198, 0.156, 0.133],
        duplicate: [0.144, 0.136, 0.127, 0.118, 0.109, 0.1],
        punctuated: 0.025,
        newlines: 0.2,
        word_length: [3.0, 21.0],
        alphabetic: 0.807,
    },
    Fineweb2 {
        language: "nl",
        duplicate_lines: 0.333,
        top: [0.093, 0.117, 0.14],
        duplicate: [0.177, 0.16, 0.145, 0.133, 0.123, 0.112],
        punctuated: 0.238,
        newlines: 0.194,
        word_length: [3.0, 16.0],
        alphabetic: 0.828,
    },
    Fineweb2 {
        language: "pt",
        duplicate_lines: 0.325,
        top: [0.093, 0.117, 0.139],
        duplicate: [0.19, 0.172, 0.154, 0.142, 0.131, 0.12],
        punctuated: 0.154,
        newlines: 0.23,
        word_length: [3.0, 13.0],
        alphabetic: 0.814,
    },
];

impl Fineweb2 {
    /// As `fineweb-2-pipeline.py` sets it: no rules for paragraphs and short lines, 0.1 for characters of duplicate lines, no C4.
    fn settings(&self) -> FilterSettings {
        FilterSettings {
            filters: vec![Filter::UrlLists, Filter::GopherRepetition, Filter::Fineweb, Filter::GopherQuality],
            gopher_repetition: GopherRepetitionConfig {
                duplicate_lines_max: self.duplicate_lines,
                duplicate_paragraphs_max: 1.0,
                duplicate_line_chars_max: 1.0,
                duplicate_paragraph_chars_max: 1.0,
                top_ngram_chars_max: self.top,
                duplicate_ngram_chars_max: self.duplicate,
            },
            fineweb: FinewebConfig {
                punctuated_lines_min: self.punctuated,
                short_lines_max: 1.0,
                duplicate_line_chars_max: 0.1,
                newlines_per_word_max: self.newlines,
                ..FinewebConfig::default()
            },
            gopher_quality: GopherQualityConfig {
                word_length_min: self.word_length[0],
                word_length_max: self.word_length[1],
                alphabetic_words_min: self.alphabetic,
                ..GopherQualityConfig::default()
            },
            ..FilterSettings::default()
        }
    }
}

fn builtin(name: &str) -> Option<FilterSettings> {
    let filters = |filters: &[Filter]| FilterSettings { filters: filters.to_vec(), ..FilterSettings::default() };
    match name {
        "none" => Some(FilterSettings::default()),
        "web" => Some(FilterSettings {
            c4: C4Config { terminal_punctuation: false, ..C4Config::default() },
            ..filters(&[Filter::UrlLists, Filter::GopherRepetition, Filter::GopherQuality, Filter::C4, Filter::Fineweb])
        }),
        "books" => Some(filters(&[Filter::Ocr])),
        name => {
            let language = name.strip_prefix("web-")?;
            FINEWEB2.iter().find(|settings| settings.language == language).map(Fineweb2::settings)
        }
    }
}

/// More bases of bases than anybody needs.
const BASES_MAX: usize = 16;

impl FilterSettings {
    /// The settings of a set: the thresholds that `config` gives over those of its base.
    ///
    /// # Errors
    /// [`FilterSetError`] where no set or filter has that name, or a key or value is unknown.
    pub fn resolve(name: &str, config: &FiltersConfig) -> Result<FilterSettings, FilterSetError> {
        Self::resolve_within(name, config, BASES_MAX)
    }

    fn resolve_within(name: &str, config: &FiltersConfig, bases: usize) -> Result<FilterSettings, FilterSetError> {
        let unknown = || FilterSetError::Unknown { name: name.to_owned() };
        let Some(set) = config.get(name) else { return builtin(name).ok_or_else(unknown) };
        if bases == 0 {
            return Err(FilterSetError::Circle { name: name.to_owned() });
        }
        let mut settings = match &set.base {
            Some(base) if base == name => builtin(base).ok_or_else(unknown)?,
            Some(base) => Self::resolve_within(base, config, bases - 1)?,
            None => builtin(name).unwrap_or_default(),
        };
        if let Some(filters) = &set.filters {
            settings.filters.clone_from(filters);
        }
        let malformed = |filter, reason: String| FilterSetError::Malformed { name: name.to_owned(), filter, reason };
        overlay(&mut settings.url_lists, &set.url_lists).map_err(|reason| malformed("url-lists", reason))?;
        overlay(&mut settings.gopher_repetition, &set.gopher_repetition)
            .map_err(|reason| malformed("gopher-repetition", reason))?;
        overlay(&mut settings.gopher_quality, &set.gopher_quality)
            .map_err(|reason| malformed("gopher-quality", reason))?;
        overlay(&mut settings.c4, &set.c4).map_err(|reason| malformed("c4", reason))?;
        overlay(&mut settings.fineweb, &set.fineweb).map_err(|reason| malformed("fineweb", reason))?;
        overlay(&mut settings.ocr, &set.ocr).map_err(|reason| malformed("ocr", reason))?;
        overlay(&mut settings.block_words, &set.block_words).map_err(|reason| malformed("block-words", reason))?;
        settings.check(name)?;
        Ok(settings)
    }

    /// Makes the paths of all lists relative to a folder.
    pub fn relative_to(&mut self, folder: &Path) {
        self.paths_mut().into_iter().for_each(|path| *path = folder.join(&path));
    }

    /// Files and folders of all lists.
    pub fn paths(&self) -> Vec<PathBuf> {
        self.clone().paths_mut().into_iter().map(|path| path.clone()).collect()
    }

    fn paths_mut(&mut self) -> Vec<&mut PathBuf> {
        let urls = &mut self.url_lists;
        let lists = [
            &mut urls.folders,
            &mut urls.host_files,
            &mut urls.hard_word_files,
            &mut urls.soft_word_files,
            &mut urls.subword_files,
        ];
        let mut paths: Vec<&mut PathBuf> = lists.into_iter().flatten().collect();
        for files in [&mut self.block_words.hard, &mut self.block_words.soft, &mut self.ocr.dictionary] {
            paths.extend(files.values_mut());
        }
        paths
    }

    /// Shares are numbers from 0 to 1, others are not negative.
    fn check(&self, name: &str) -> Result<(), FilterSetError> {
        let all = toml::Table::try_from(self).unwrap_or_default();
        let kinds = [(SHARES, 0.0..=1.0, "a share: 0 to 1"), (NUMBERS, 0.0..=f64::MAX, "at least 0")];
        for (thresholds, range, expected) in kinds {
            for &(filter, key) in thresholds {
                let bad = |value: &f64| !range.contains(value);
                if let Some(value) = threshold(&all, filter, key).into_iter().find(bad) {
                    let reason = format!("{key} is {value}, expected {expected}");
                    return Err(FilterSetError::Malformed { name: name.to_owned(), filter, reason });
                }
            }
        }
        Ok(())
    }
}

/// Thresholds that are shares.
const SHARES: &[(&str, &str)] = &[
    ("gopher-repetition", "duplicate_lines_max"),
    ("gopher-repetition", "duplicate_paragraphs_max"),
    ("gopher-repetition", "duplicate_line_chars_max"),
    ("gopher-repetition", "duplicate_paragraph_chars_max"),
    ("gopher-quality", "bullet_lines_max"),
    ("gopher-quality", "ellipsis_lines_max"),
    ("gopher-quality", "alphabetic_words_min"),
    ("fineweb", "punctuated_lines_min"),
    ("fineweb", "short_lines_max"),
    ("fineweb", "duplicate_line_chars_max"),
    ("ocr", "garbage_max"),
    ("ocr", "single_letters_max"),
    ("ocr", "dictionary_words_min"),
];
/// Other thresholds with fractions.
const NUMBERS: &[(&str, &str)] = &[
    ("gopher-quality", "word_length_min"),
    ("gopher-quality", "word_length_max"),
    ("gopher-quality", "symbols_per_word_max"),
    ("fineweb", "newlines_per_word_max"),
    ("ocr", "score_min"),
    ("ocr", "perplexity_min"),
    ("ocr", "perplexity_max"),
    ("gopher-repetition", "top_ngram_chars_max"),
    ("gopher-repetition", "duplicate_ngram_chars_max"),
];

/// The values of a threshold: one, or those of a list.
fn threshold(all: &toml::Table, filter: &str, key: &str) -> Vec<f64> {
    match all.get(filter).and_then(|settings| settings.get(key)) {
        Some(toml::Value::Array(values)) => values.iter().filter_map(toml::Value::as_float).collect(),
        Some(value) => value.as_float().into_iter().collect(),
        None => Vec::new(),
    }
}

/// Puts the keys of a table over the settings' own.
fn overlay<T: Serialize + serde::de::DeserializeOwned>(settings: &mut T, table: &toml::Table) -> Result<(), String> {
    if table.is_empty() {
        return Ok(());
    }
    let one_line = |error: toml::de::Error| error.message().trim().replace('\n', " ");
    let mut all = toml::Table::try_from(&*settings).map_err(|error| error.to_string())?;
    for (key, value) in table {
        match (all.get_mut(key), value) {
            // A whole number where a fraction may stand.
            (Some(old @ toml::Value::Float(_)), toml::Value::Integer(value)) => {
                *old = toml::Value::Float(*value as f64)
            }
            _ => {
                all.insert(key.clone(), value.clone());
            }
        }
    }
    *settings = all.try_into().map_err(one_line)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Paths of all numbers with fractions in settings, one for each list.
    fn fractions(all: &toml::Table) -> Vec<(String, String)> {
        let is = |value: &toml::Value| match value {
            toml::Value::Array(values) => values.first().is_some_and(toml::Value::is_float),
            value => value.is_float(),
        };
        let of = |(filter, settings): (&String, &toml::Value)| {
            let keys = settings.as_table().into_iter().flatten().filter(|(_, value)| is(value));
            keys.map(|(key, _)| (filter.clone(), key.clone())).collect::<Vec<_>>()
        };
        all.iter().flat_map(of).collect()
    }

    #[test]
    fn every_threshold_is_checked() {
        let settings = builtin("web").unwrap();
        let all = toml::Table::try_from(&settings).unwrap();
        let mut listed: Vec<(String, String)> =
            SHARES.iter().chain(NUMBERS).map(|(filter, key)| ((*filter).to_owned(), (*key).to_owned())).collect();
        listed.sort();
        let mut found = fractions(&all);
        found.sort();
        assert_eq!(listed, found);
        for (filter, key) in found {
            for bad in [-0.5, f64::NAN] {
                let mut all = all.clone();
                match &mut all[&filter][&key] {
                    toml::Value::Array(values) => *values.last_mut().unwrap() = bad.into(),
                    value => *value = bad.into(),
                }
                let refusal = all.try_into::<FilterSettings>().unwrap().check("mine").unwrap_err().to_string();
                assert!(refusal.contains(&key) && refusal.contains("expected"), "{refusal}");
            }
        }
    }
}
