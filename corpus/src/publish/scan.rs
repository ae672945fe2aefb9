//! Reading back what was published, row by row.

use super::parts;
use super::rejected::{self, Fate};
use crate::document::{Document, Meta};
use arrow_array::{Array, RecordBatch, StringArray, UInt64Array};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use std::fs::{self, File};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

/// Rows decoded at a time.
const BATCH_ROWS: usize = 1024;

/// Why a published file could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ScanError {
    /// A file operation failed.
    #[error("{path}: {error}", path = .path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Not a file that was published.
    #[error("{path}: not what was published ({reason}); copy it again", path = .path.display())]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// All parts of a data set's folder, sorted by name; none where the texts were not published.
///
/// # Errors
/// [`ScanError::Io`].
pub fn part_paths(root: &Path) -> Result<Vec<PathBuf>, ScanError> {
    let mut found = Vec::new();
    for folder in entries(&root.join("data"))?.into_iter().filter(|path| path.is_dir()) {
        let parquet = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "parquet");
        found.extend(entries(&folder)?.into_iter().filter(parquet));
    }
    found.sort();
    Ok(found)
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, ScanError> {
    let failed = |error| ScanError::Io { path: folder.to_owned(), error };
    match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        read => read.map_err(failed)?.map(|entry| entry.map(|entry| entry.path()).map_err(failed)).collect(),
    }
}

/// Gives the columns `names` of a file to `visit`, batch by batch.
fn batches(
    path: &Path,
    names: &[&str],
    mut visit: impl FnMut(&RecordBatch) -> Result<(), String>,
) -> Result<(), ScanError> {
    let file = File::open(path).map_err(|error| ScanError::Io { path: path.to_owned(), error })?;
    // The parquet library panics on some damaged files.
    let read = catch_unwind(AssertUnwindSafe(|| -> Result<(), String> {
        let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(|error| error.to_string())?;
        let mask = ProjectionMask::columns(builder.parquet_schema(), names.iter().copied());
        let reader = builder.with_projection(mask).with_batch_size(BATCH_ROWS).build();
        for batch in reader.map_err(|error| error.to_string())? {
            visit(&batch.map_err(|error| error.to_string())?)?;
        }
        Ok(())
    }));
    let malformed = |reason: String| ScanError::Malformed { path: path.to_owned(), reason };
    read.unwrap_or_else(|_| Err("damaged".into())).map_err(malformed)
}

fn strings<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a StringArray, String> {
    let column = batch.column_by_name(name).and_then(|column| column.as_any().downcast_ref::<StringArray>());
    column.filter(|column| column.null_count() == 0).ok_or_else(|| format!("no column {name} of strings"))
}

/// Gives the ids in a part or in `rejected.parquet` to `visit`, in order.
///
/// # Errors
/// [`ScanError`].
pub fn ids(path: &Path, mut visit: impl FnMut(&str)) -> Result<(), ScanError> {
    batches(path, &["id"], |batch| {
        strings(batch, "id")?.iter().flatten().for_each(&mut visit);
        Ok(())
    })
}

/// What names a published document, without its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartRow<'a> {
    /// Its id.
    pub id: &'a str,
    /// Its source.
    pub source: &'a str,
    /// Its language.
    pub language: &'a str,
    /// A JSON object: its licence and what else is known.
    pub extra: &'a str,
}

/// Gives the rows of a part to `visit`, in order, without reading their texts.
///
/// # Errors
/// [`ScanError`].
pub fn rows(path: &Path, mut visit: impl FnMut(PartRow<'_>)) -> Result<(), ScanError> {
    batches(path, &["id", "source", "language", "extra"], |batch| {
        let [id, source, language, extra] = ["id", "source", "language", "extra"].map(|name| strings(batch, name));
        let (id, source, language, extra) = (id?, source?, language?, extra?);
        for row in 0..batch.num_rows() {
            let [id, source, language, extra] = [id, source, language, extra].map(|column| column.value(row));
            visit(PartRow { id, source, language, extra });
        }
        Ok(())
    })
}

/// The licence within the `extra` of a published document.
pub fn license(extra: &str) -> Option<String> {
    let fields = serde_json::from_str::<serde_json::Value>(extra).ok()?;
    Some(fields.get("license")?.as_str()?.to_owned())
}

/// Gives the documents of a part to `visit`, in order. Their licence is taken out of `extra`, which stays as it is.
///
/// # Errors
/// [`ScanError`], also where `visit` gives a reason.
pub fn documents(path: &Path, mut visit: impl FnMut(Document) -> Result<(), String>) -> Result<(), ScanError> {
    batches(path, &parts::COLUMNS, |batch| {
        let columns = parts::COLUMNS.map(|name| strings(batch, name));
        let mut arrays = Vec::with_capacity(columns.len());
        for column in columns {
            arrays.push(column?);
        }
        for row in 0..batch.num_rows() {
            let [text, language, source, id, url, title, author, date, quality_signals, extra] =
                std::array::from_fn(|column| arrays[column].value(row).to_owned());
            let license = license(&extra);
            let known = |value: String| Some(value).filter(|value| !value.is_empty());
            let (url, title, author, date) = (known(url), known(title), known(author), known(date));
            let (quality_signals, extra) = (known(quality_signals), known(extra));
            let meta = Meta { url, title, author, date, quality_signals, extra, tdm: None };
            visit(Document { id, source, language, license: license.unwrap_or_default(), text, meta })?;
        }
        Ok(())
    })
}

/// Gives the rows of `rejected.parquet` to `visit`, in order.
///
/// # Errors
/// [`ScanError`], also where `visit` gives a reason.
pub fn rejected(path: &Path, mut visit: impl FnMut(Fate) -> Result<(), String>) -> Result<(), ScanError> {
    batches(path, &rejected::COLUMNS, |batch| {
        let [id, source, language] = ["id", "source", "language"].map(|name| strings(batch, name));
        let [license, rule, detail] = ["license", "rule", "detail"].map(|name| strings(batch, name));
        let (id, source, language, license, rule, detail) = (id?, source?, language?, license?, rule?, detail?);
        let bytes = batch.column_by_name("bytes").and_then(|column| column.as_any().downcast_ref::<UInt64Array>());
        let bytes = bytes.ok_or("no column bytes of numbers")?;
        for row in 0..batch.num_rows() {
            let value = |column: &StringArray| column.value(row).to_owned();
            visit(Fate {
                id: value(id),
                source: value(source),
                language: value(language),
                license: value(license),
                rule: value(rule),
                detail: value(detail),
                bytes: bytes.value(row),
            })?;
        }
        Ok(())
    })
}
