//! From what a row holds to a document.

use super::units::{Unit, source_name};
use crate::config::SourceConfig;
use crate::document::{Document, Meta, Tdm, normalise};
use serde_json::Value;

/// One document's text at most, bytes; also one line of JSON.
pub const TEXT_MAX: u64 = 256 << 20;
/// One of a document's other values at most, bytes.
const VALUE_MAX: usize = 1 << 20;
/// Says that nothing is known of a licence (SPDX).
pub const NO_LICENSE: &str = "NOASSERTION";
/// Says that a language is not known yet (ISO 639-2 "undetermined").
pub const NO_LANGUAGE: &str = "und";

/// What a reader found, before its text has one form. What is absent follows from the source.
#[derive(Debug, Default)]
pub(super) struct Row {
    pub(super) text: String,
    pub(super) id: String,
    pub(super) language: Option<String>,
    pub(super) source: Option<String>,
    pub(super) license: Option<String>,
    pub(super) url: Option<String>,
    pub(super) title: Option<String>,
    pub(super) author: Option<String>,
    pub(super) date: Option<String>,
    pub(super) quality_signals: Option<String>,
    pub(super) extra: Option<String>,
    pub(super) tdm: Option<Tdm>,
}

/// A file with all that its documents do not say themselves.
pub(super) struct Input<'a> {
    pub(super) unit: &'a Unit,
    pub(super) config: &'a SourceConfig,
    /// Source of documents that do not name theirs.
    name: String,
}

impl<'a> Input<'a> {
    pub(super) fn new(unit: &'a Unit, config: &'a SourceConfig) -> Input<'a> {
        Input { unit, config, name: source_name(config) }
    }

    /// The document, or what is wrong with the row.
    pub(super) fn document(&self, row: Row) -> Result<Document, String> {
        let config = self.config;
        let language = row.language.or_else(|| config.language.clone());
        let language = language.ok_or_else(|| missing(&config.columns.language))?;
        let source = row.source.unwrap_or_else(|| self.name.clone());
        let license = row.license.filter(|license| !license.trim().is_empty());
        let license = license.or_else(|| license_of_extra(row.extra.as_deref()?)).or_else(|| config.license.clone());
        let license = license.unwrap_or_else(|| NO_LICENSE.into());
        let is_language_char =
            |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | ':' | ',' | '+' | '#' | '.');
        if language.is_empty() || language.len() > 64 || !language.chars().all(is_language_char) {
            return Err(bad("language", &language, "a short code like fr or code:python"));
        }
        for (what, name) in [("source", &source), ("license", &license)] {
            if name.is_empty() || name.len() > essaim_protocol::limits::NAME_MAX {
                return Err(bad(what, name, "1 to 256 bytes"));
            }
        }
        if row.text.len() as u64 > TEXT_MAX {
            return Err(format!("a text of {} bytes, at most {TEXT_MAX} are read", row.text.len()));
        }
        let Row { id, url, title, author, date, quality_signals, extra, .. } = row;
        let values = [Some(&id), url.as_ref(), title.as_ref(), author.as_ref(), date.as_ref()];
        for value in values.into_iter().chain([quality_signals.as_ref(), extra.as_ref()]).flatten() {
            if value.len() > VALUE_MAX {
                return Err(format!("a value of {} bytes beside the text, at most {VALUE_MAX} are read", value.len()));
            }
        }
        let said = |value: Option<String>| value.filter(|value| !value.is_empty());
        let meta = Meta {
            url: said(url),
            title: said(title),
            author: said(author),
            date: said(date),
            quality_signals: said(quality_signals),
            extra: said(extra),
            tdm: row.tdm,
        };
        Ok(Document { id, source, language, license, text: normalise(&row.text), meta })
    }

    /// Names a document that has no id.
    pub(super) fn numbered(&self, number: u64) -> String {
        format!("{}:{number}", self.unit.name)
    }
}

pub(super) fn missing(column: &str) -> String {
    format!("'{column}' is missing or null")
}

fn bad(what: &str, got: &str, expected: &str) -> String {
    let got: String = got.chars().take(40).collect();
    format!("the {what} {got:?} is not one: {expected}")
}

/// `license` of a JSON object that a column holds as text.
fn license_of_extra(extra: &str) -> Option<String> {
    if !extra.contains("\"license\"") {
        return None;
    }
    let extra: Value = serde_json::from_str(extra).ok()?;
    extra.get("license")?.as_str().filter(|license| !license.trim().is_empty()).map(str::to_owned)
}
