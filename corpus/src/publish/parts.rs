//! `data/LANGUAGE/PART.parquet`: the documents, in the columns of the Lucie-Training-Dataset.
//!
//! All columns are strings and none is null: what is not known is empty, `{}` in the two that hold JSON objects. `extra` gets the
//! document's licence as `license`, where that was found as `license_from`, and the size of its cluster of duplicates as
//! `cluster_size`, beside what its source said.

use super::PublishError;
use super::columns::Rows;
use crate::bundle::Notes;
use crate::document::Document;
use crate::license::LicenseFrom;
use serde::Deserialize;
use serde_json::{Map, Value};
use std::borrow::Borrow;
use std::io::Write;

/// The columns, in order.
pub const COLUMNS: [&str; 10] =
    ["text", "language", "source", "id", "url", "title", "author", "date", "quality_signals", "extra"];

/// Field of `extra`: documents with this text or nearly this one when duplicates were dropped, itself included.
const CLUSTER_SIZE: &str = "cluster_size";
/// Field of `extra`: where the licence was found.
const LICENSE_FROM: &str = "license_from";

/// Where a part lies in a data set's folder: `data/fr/00003.parquet`. Characters of a language that are no part of plain file names
/// become `_`; a language that is changed by that gets eight digits of its hash, so that no two meet.
pub fn part_name(language: &str, part: u64) -> String {
    format!("data/{}/{part:05}.parquet", folder_name(language))
}

/// The folder of a language: its name, safe for every file system.
pub fn folder_name(language: &str) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' };
    let name: String = language.chars().take(64).map(safe).collect();
    match name == language && !name.is_empty() {
        true => name,
        false => format!("{name}-{}", &blake3::hash(language.as_bytes()).to_hex()[..8]),
    }
}

/// A part in the making.
pub struct PartWriter<W: Write + Send> {
    rows: Rows<W>,
    documents: u64,
}

impl<W: Write + Send> std::fmt::Debug for PartWriter<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PartWriter").field("documents", &self.documents).finish_non_exhaustive()
    }
}

impl<W: Write + Send> PartWriter<W> {
    /// An empty part.
    ///
    /// # Errors
    /// [`PublishError`].
    pub fn new(out: W) -> Result<PartWriter<W>, PublishError> {
        Ok(PartWriter { rows: Rows::new(out, &COLUMNS, None)?, documents: 0 })
    }

    /// Adds a document.
    ///
    /// # Errors
    /// [`PublishError`].
    pub fn push(&mut self, document: &Document) -> Result<(), PublishError> {
        let known = |value: &Option<String>| value.clone().unwrap_or_default();
        let meta = &document.meta;
        let [url, title, author, date] = [&meta.url, &meta.title, &meta.author, &meta.date].map(known);
        let signals = meta.quality_signals.clone().filter(|text| !text.is_empty()).unwrap_or_else(|| "{}".into());
        let extra = extra(document);
        let values = [
            document.text.as_str(),
            &document.language,
            &document.source,
            &document.id,
            &url,
            &title,
            &author,
            &date,
            &signals,
            &extra,
        ];
        self.documents += 1;
        self.rows.push(&values, 0)
    }

    /// Documents so far.
    pub fn documents(&self) -> u64 {
        self.documents
    }

    /// Ends the part.
    ///
    /// # Errors
    /// [`PublishError`].
    pub fn finish(self) -> Result<W, PublishError> {
        self.rows.finish()
    }
}

/// Notes what a build found out about a document in its `extra`, in the place of what an earlier build had noted there.
pub fn note(document: &mut Document, notes: &Notes) {
    let mut fields = fields(document);
    let found = [
        (CLUSTER_SIZE, (notes.cluster > 0).then(|| Value::from(notes.cluster))),
        (LICENSE_FROM, notes.license_from.map(|from| from.name().into())),
    ];
    for (name, value) in found {
        match value {
            Some(value) => drop(fields.insert(name.into(), value)),
            None => drop(fields.remove(name)),
        }
    }
    document.meta.extra = Some(json(fields));
}

/// The notes that a published document's `extra` holds, as far as it holds any.
pub fn notes(document: &Document) -> Notes {
    let fields = fields(document);
    let cluster = fields.get(CLUSTER_SIZE).and_then(Value::as_u64).unwrap_or(0);
    let license_from = fields.get(LICENSE_FROM).and_then(|from| LicenseFrom::deserialize(from).ok());
    Notes { cluster, license_from, ..Notes::default() }
}

/// What else is known of a document, with its licence.
fn extra(document: &Document) -> String {
    let mut fields = fields(document);
    fields.insert("license".into(), document.license.clone().into());
    if let Some(tdm) = &document.meta.tdm {
        fields.insert("tdm_reservation".into(), u8::from(tdm.reserved).into());
        tdm.policy.iter().for_each(|policy| drop(fields.insert("tdm_policy".into(), policy.clone().into())));
    }
    json(fields)
}

/// The fields of a document's `extra`; what is no object is one field of that name.
fn fields(document: &Document) -> Map<String, Value> {
    let known = document.meta.extra.as_deref().and_then(|extra| serde_json::from_str::<Value>(extra).ok());
    match known {
        Some(Value::Object(fields)) => fields,
        Some(Value::Null) | None => Map::new(),
        Some(other) => Map::from_iter([("extra".to_owned(), other)]),
    }
}

/// Fields as text, in the order of names, whether or not the map keeps the order of insertion.
fn json(fields: Map<String, Value>) -> String {
    let sorted: std::collections::BTreeMap<String, Value> = fields.into_iter().collect();
    serde_json::to_string(&sorted).unwrap_or_default()
}

/// The bytes of a part with these documents, in their order.
///
/// # Errors
/// [`PublishError`].
pub fn part<D: Borrow<Document>>(documents: impl IntoIterator<Item = D>) -> Result<Vec<u8>, PublishError> {
    let mut writer = PartWriter::new(Vec::new())?;
    for document in documents {
        writer.push(document.borrow())?;
    }
    writer.finish()
}
